//! Tells one start of the board from every other.

use semihosting::sys::arm_compat::{sys_elapsed, sys_time};

use crate::hardware;

/// A number that differs at every start.
///
/// The counter tells resets apart, the host's seconds and nanoseconds tell apart emulators that start with the same
/// (zeroed) memory. Without semihosting only the counter is left, in memory that a real board powers up at random.
pub(crate) fn boot_id() -> u64 {
    let starts = u64::from(hardware::next_start());
    let seconds = sys_time().unwrap_or(0) as u64;
    let nanoseconds = sys_elapsed().unwrap_or(0);
    mix(mix(starts | seconds << 32) ^ nanoseconds)
}

/// Spreads every bit over the whole word, one to one (the finaliser of SplitMix64).
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
