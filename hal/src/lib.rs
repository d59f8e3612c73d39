#![no_std]
#![forbid(unsafe_code)]
//! Placeholder replaced by the code of this crate.
