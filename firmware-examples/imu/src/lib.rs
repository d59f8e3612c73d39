//! The inertial sensor that the examples publish: what it measures, and later its messages and its node.
//!
//! The crate is `no_std` and knows no board, so that the firmware and a process on the host run the very same node.
#![no_std]
#![forbid(unsafe_code)]

pub mod motion;
