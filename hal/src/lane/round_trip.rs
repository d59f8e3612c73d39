//! How long an acknowledgement takes, and so how long to wait for one: RFC 6298, in microseconds and whole numbers.

/// An estimate of the round trip.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundTrip {
    smoothed_us: u32,
    variation_us: u32,
    backoff: u32,
}

impl RoundTrip {
    pub(super) const fn new() -> Self {
        // As if one had been measured: half the time to wait, and half of that as its variation (2.2).
        Self { smoothed_us: FIRST_US / 3, variation_us: FIRST_US / 6, backoff: 0 }
    }

    /// Takes a measurement (2.3).
    pub(super) fn measure(&mut self, us: u32) {
        let us = us.min(MAX_US);
        self.variation_us = (3 * self.variation_us + us.abs_diff(self.smoothed_us)) / 4;
        self.smoothed_us = (7 * self.smoothed_us + us) / 8;
        self.backoff = 0;
    }

    /// Nothing came in time (5.5).
    pub(super) const fn back_off(&mut self) {
        if self.backoff < MAX_BACKOFF {
            self.backoff += 1;
        }
    }

    /// Something new was acknowledged.
    pub(super) const fn progress(&mut self) {
        self.backoff = 0;
    }

    /// Microseconds to wait for an acknowledgement.
    pub(super) fn timeout_us(self) -> u32 {
        let wait = self.smoothed_us + (4 * self.variation_us).max(GRANULARITY_US);
        (wait.clamp(MIN_US, MAX_US) << self.backoff).min(MAX_US)
    }

    /// Microseconds that an acknowledgement takes.
    pub(super) const fn smoothed_us(self) -> u32 {
        self.smoothed_us
    }
}

/// The first wait: a slow line's own time for two frames is part of it.
const FIRST_US: u32 = 60_000;
/// What the owner's loop adds by turning only now and then.
const GRANULARITY_US: u32 = 1_000;
const MIN_US: u32 = 3_000;
/// Short, because nobody else shares the line: waiting helps no one, and a hub that is back should be found.
const MAX_US: u32 = 250_000;
const MAX_BACKOFF: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_what_is_measured_and_doubles_when_nothing_comes() {
        let mut round_trip = RoundTrip::new();
        assert_eq!(round_trip.timeout_us(), FIRST_US);
        for _ in 0..100 {
            round_trip.measure(4_000);
        }
        let steady = round_trip.timeout_us();
        assert!((5_000..6_000).contains(&steady), "{steady}");
        round_trip.back_off();
        assert_eq!(round_trip.timeout_us(), 2 * steady);
        for _ in 0..100 {
            round_trip.back_off();
        }
        assert_eq!(round_trip.timeout_us(), MAX_US);
        round_trip.progress();
        assert_eq!(round_trip.timeout_us(), steady);
        round_trip.measure(u32::MAX);
        assert!(round_trip.timeout_us() <= MAX_US);
    }
}
