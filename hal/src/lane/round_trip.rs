//! How long an acknowledgement takes, and so how long to wait for one: RFC 6298, in microseconds and whole numbers.

/// An estimate of the round trip.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundTrip {
    smoothed_us: u32,
    variation_us: u32,
}

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { smoothed_us: 0, variation_us: FIRST_US / 4 }
    }

    /// Takes a measurement (2.2 and 2.3).
    pub(super) fn measure(&mut self, us: u32) {
        let us = us.min(MAX_TRIP_US);
        if self.smoothed_us == 0 {
            (self.smoothed_us, self.variation_us) = (us, us / 2);
        } else {
            self.variation_us = (3 * self.variation_us + us.abs_diff(self.smoothed_us)) / 4;
            self.smoothed_us = (7 * self.smoothed_us + us) / 8;
        }
    }

    /// Microseconds to wait for an acknowledgement when none has come for `silent_us`: the longer, the longer (5.5).
    pub(super) fn timeout_us(self, silent_us: u32) -> u32 {
        let wait = self.smoothed_us + (4 * self.variation_us).max(GRANULARITY_US);
        wait.max((silent_us / PATIENCE).min(MAX_US)).max(MIN_US)
    }

    /// Microseconds that an acknowledgement takes.
    pub(super) const fn smoothed_us(self) -> u32 {
        self.smoothed_us
    }
}

/// The first wait: a slow line's own time for two frames is part of it.
const FIRST_US: u32 = 30_000;
/// What the owner's loop adds by turning only now and then.
const GRANULARITY_US: u32 = 500;
const MIN_US: u32 = 1_000;
/// What a very slow line takes, full.
const MAX_TRIP_US: u32 = 1_000_000;
/// How often a silent line is tried at least, unless it is that slow. Short, because nobody else shares the line: waiting
/// helps no one, and a hub that is back should be found.
const MAX_US: u32 = 250_000;
/// A line that is silent is tried that many times until it has been silent for twice as long, about.
const PATIENCE: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_what_is_measured_and_grows_while_nothing_comes() {
        let mut round_trip = RoundTrip::new();
        assert_eq!(round_trip.timeout_us(0), FIRST_US);
        round_trip.measure(8_000);
        assert_eq!(round_trip.timeout_us(0), 8_000 + 4 * 4_000, "the first counts whole");
        for _ in 0..100 {
            round_trip.measure(4_000);
        }
        let steady = round_trip.timeout_us(0);
        assert!((4_500..5_000).contains(&steady), "{steady}");
        assert_eq!(
            [10_000, 80_000, 800_000, u32::MAX].map(|silent| round_trip.timeout_us(silent)),
            [steady, 10_000, 100_000, MAX_US]
        );
        round_trip.measure(u32::MAX);
        assert!(round_trip.timeout_us(0) < 2 * MAX_TRIP_US);
    }
}
