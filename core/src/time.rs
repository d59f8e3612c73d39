//! Time as the core sees it: values passed in, never a clock that is read.

use core::time::Duration;

/// Whole seconds in `micros` microseconds. In steps that a 32-bit processor divides itself: a division of 64 bits by
/// 64 is a kilobyte of code on one.
pub(crate) const fn whole_seconds(micros: u64) -> u64 {
    // 1 000 000 = 64 * 15 625. Long division with digits of 16 bits; the remainder is below 15 625 throughout.
    let (mut seconds, mut remainder) = (0, 0);
    let mut dividend = micros >> 6;
    let mut digits = 4;
    while digits > 0 {
        digits -= 1;
        // By constant shifts: others are calls on such a processor.
        remainder = remainder << 16 | (dividend >> 48) as u32;
        dividend <<= 16;
        seconds = seconds << 16 | (remainder / 15_625) as u64;
        remainder %= 15_625;
    }
    seconds
}

/// A point on the caller's monotonic clock, in microseconds since any fixed moment (usually start-up).
///
/// The core compares and adds; whoever owns the loop reads the clock. 2^64 µs are 584 000 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment `micros` microseconds after the clock's zero.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the clock's zero.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The moment `millis` milliseconds later; stays at the end of time instead of wrapping.
    // Out of line for flash: one addition of 64 bits that saturates, in a dozen places of a session.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub const fn plus_millis(self, millis: u32) -> Self {
        Self(self.0.saturating_add(millis as u64 * 1000))
    }

    /// Microseconds from `earlier` to this; 0 when `earlier` is later.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from `earlier` to this; zero when `earlier` is later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros_since(earlier))
    }
}

/// The earlier of two moments, either of which may never come.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_what_a_division_says() {
        let mut micros = u64::MAX;
        while micros > 0 {
            for near in [micros, micros - 1, micros / 1_000_000 * 1_000_000] {
                assert_eq!(whole_seconds(near), near / 1_000_000, "{near}");
            }
            micros = micros / 3 * 2;
        }
    }
}
