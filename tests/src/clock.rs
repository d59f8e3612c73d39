//! Time that only a test moves.

use std::cell::Cell;
use std::rc::Rc;

use visorbus_core::Instant;

/// A clock that stands still until it is told to go on. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct FakeClock(Rc<Cell<u64>>);

impl FakeClock {
    /// A clock at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The time it shows.
    pub fn now(&self) -> Instant {
        Instant::from_micros(self.0.get())
    }

    /// Lets `millis` milliseconds pass.
    pub fn advance_ms(&self, millis: u64) {
        self.0.set(self.0.get() + millis * 1_000);
    }

    /// Jumps to `at`; a moment that is past changes nothing.
    pub fn advance_to(&self, at: Instant) {
        self.0.set(self.0.get().max(at.as_micros()));
    }
}
