//! When the next message is due: evenly spaced from a start, without drift, whatever the rate.

/// Moments at a rate, in microseconds.
///
/// A period is seldom a whole number of microseconds; what is left over is carried on, so that `rate` of them are one
/// second exactly.
#[derive(Debug, Clone)]
pub struct Schedule {
    next_us: u64,
    rate_hz: u16,
    /// Parts of a microsecond, `1 / rate` each, by which `next_us` is too early.
    carry: u16,
}

impl Schedule {
    /// The first moment is `start_us`; `rate_hz` is not 0.
    pub const fn new(start_us: u64, rate_hz: u16) -> Self {
        Self { next_us: start_us, rate_hz, carry: 0 }
    }

    /// The next moment.
    pub const fn next_us(&self) -> u64 {
        self.next_us
    }

    /// Goes on to the moment after it.
    pub fn advance(&mut self) {
        let rate = u32::from(self.rate_hz);
        let mut step = SECOND_US / rate;
        let mut carry = u32::from(self.carry) + SECOND_US % rate;
        if carry >= rate {
            carry -= rate;
            step += 1;
        }
        self.carry = carry as u16;
        self.next_us += u64::from(step);
    }
}

const SECOND_US: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_exactly_as_many_moments_as_the_rate_says() {
        for rate in [1, 3, 7, 60, 99, 100, 333, 999, 1000] {
            let mut schedule = Schedule::new(5, rate);
            for second in 0..100 {
                assert_eq!(schedule.next_us(), 5 + second * 1_000_000, "{rate} Hz");
                (0..rate).for_each(|_| schedule.advance());
            }
        }
    }

    #[test]
    fn no_moment_is_off_by_a_microsecond() {
        let mut schedule = Schedule::new(0, 7);
        for n in 0..1000_u64 {
            assert_eq!(schedule.next_us(), n * 1_000_000 / 7);
            schedule.advance();
        }
    }
}
