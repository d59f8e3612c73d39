//! The message and its parts.
pub mod address;
