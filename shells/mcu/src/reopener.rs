//! When to look again for a device that was pulled out. It opens nothing and reads no clock.

use std::time::Duration;

use visorbus_core::time::Instant;

/// Backoff for one device: an attempt at once, then 50 ms after the first failure, doubling up to 500 ms.
///
/// Tell it how each attempt went ([`Reopener::handle_opened`], [`Reopener::handle_failure`]) and ask it how long to
/// wait ([`Reopener::next_attempt`]). A device that stayed for at least the longest delay starts over at the shortest
/// one; a device that comes and goes faster (a loose plug, a board that resets itself) is tried ever more rarely.
///
/// ```
/// use std::time::Duration;
/// use visorbus_core::time::Instant;
/// use visorbus_mcu::Reopener;
///
/// let mut reopener = Reopener::new();
/// let now = Instant::from_micros(0);
/// assert_eq!(reopener.next_attempt(now), Some(Duration::ZERO));
/// reopener.handle_failure(now);
/// assert_eq!(reopener.next_attempt(now), Some(Duration::from_millis(50)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reopener {
    state: State,
    delay_millis: u32,
}

impl Reopener {
    /// The wait after the first failure, in milliseconds.
    pub const FIRST_DELAY_MILLIS: u32 = 50;
    /// The longest wait, in milliseconds.
    pub const LONGEST_DELAY_MILLIS: u32 = 500;

    /// A device that has not been tried yet: the first attempt is due at once.
    pub const fn new() -> Self {
        Self {
            state: State::Away { retry_at: Instant::from_micros(0) },
            delay_millis: Self::FIRST_DELAY_MILLIS,
        }
    }

    /// The device was opened.
    pub fn handle_opened(&mut self, now: Instant) {
        self.state = State::Open { since: now };
    }

    /// An attempt to open failed, or the open device is gone.
    pub fn handle_failure(&mut self, now: Instant) {
        if let State::Open { since } = self.state
            && now.micros_since(since) >= u64::from(Self::LONGEST_DELAY_MILLIS) * 1000
        {
            self.delay_millis = Self::FIRST_DELAY_MILLIS;
        }
        self.state = State::Away { retry_at: now.plus_millis(self.delay_millis) };
        self.delay_millis = (self.delay_millis * 2).min(Self::LONGEST_DELAY_MILLIS);
    }

    /// How long until the next attempt: zero when it is due, `None` while the device is open.
    pub fn next_attempt(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { .. } => None,
            State::Away { retry_at } => Some(retry_at.duration_since(now)),
        }
    }
}

impl Default for Reopener {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open { since: Instant },
    Away { retry_at: Instant },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    fn wait(reopener: &Reopener, now: Instant) -> Option<u128> {
        reopener.next_attempt(now).map(|wait| wait.as_millis())
    }

    #[test]
    fn the_first_attempt_is_due_at_once() {
        assert_eq!(wait(&Reopener::new(), at(0)), Some(0));
        assert_eq!(wait(&Reopener::new(), at(5000)), Some(0));
    }

    #[test]
    fn waits_double_from_50_to_500_ms_and_stay_there() {
        let mut reopener = Reopener::new();
        let waits: Vec<_> = (0..7)
            .map(|_| {
                reopener.handle_failure(at(10));
                wait(&reopener, at(10)).unwrap()
            })
            .collect();
        assert_eq!(waits, [50, 100, 200, 400, 500, 500, 500]);
    }

    #[test]
    fn a_wait_runs_down_and_then_stays_due() {
        let mut reopener = Reopener::new();
        reopener.handle_failure(at(0));
        assert_eq!(wait(&reopener, at(30)), Some(20));
        assert_eq!(wait(&reopener, at(50)), Some(0));
        assert_eq!(wait(&reopener, at(9000)), Some(0));
    }

    #[test]
    fn nothing_is_attempted_while_the_device_is_open() {
        let mut reopener = Reopener::new();
        reopener.handle_opened(at(0));
        assert_eq!(wait(&reopener, at(9000)), None);
    }

    #[test]
    fn a_device_that_stayed_starts_over_at_the_shortest_wait() {
        let mut reopener = Reopener::new();
        (0..6).for_each(|_| reopener.handle_failure(at(0)));
        reopener.handle_opened(at(2000));
        reopener.handle_failure(at(2500));
        assert_eq!(wait(&reopener, at(2500)), Some(50));
    }

    #[test]
    fn a_device_that_comes_and_goes_is_tried_ever_more_rarely() {
        let mut reopener = Reopener::new();
        let waits = [0, 200, 400].map(|now| {
            reopener.handle_opened(at(now));
            reopener.handle_failure(at(now + 10));
            wait(&reopener, at(now + 10)).unwrap()
        });
        assert_eq!(waits, [50, 100, 200]);
    }
}
