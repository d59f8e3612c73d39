//! Harness.

pub mod bare;
pub mod contest;
pub mod cpu;
pub mod stats;
