//! Time as the core sees it: values passed in, never a clock that is read.

use core::time::Duration;

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
