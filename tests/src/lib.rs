//! Harness.

pub mod bare;
pub mod clock;
pub mod contest;
pub mod cpu;
pub mod faulty_link;
pub mod memory_link;
pub mod pair;
pub mod raw_peer;
pub mod stats;
