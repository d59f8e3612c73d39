//! The monotonic clock as the core counts it: microseconds since this process first asked.

use std::sync::OnceLock;
use std::time::Instant as StdInstant;

use visorbus_core::Instant;

/// The time now, for sessions.
pub(crate) fn now() -> Instant {
    instant(StdInstant::now())
}

/// A moment of the standard clock, for sessions.
pub(crate) fn instant(at: StdInstant) -> Instant {
    static START: OnceLock<StdInstant> = OnceLock::new();
    let start = START.get_or_init(StdInstant::now);
    let micros = at.saturating_duration_since(*start).as_micros();
    Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
