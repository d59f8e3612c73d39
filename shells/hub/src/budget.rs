//! How much of the hub's time one peer may take for turning payloads into their other form, counted in bytes that were
//! gone through: the hub has one thread, and everybody else waits meanwhile.

use visorbus_core::Instant;

/// Bytes that may be turned, which come back with time. One message may take more than is left; then none goes until
/// that is made good.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Millionths of a byte, so that nothing is lost between looks that follow close on each other; below 0 while made
    /// good.
    left: i64,
    at: Instant,
    /// Not before this is the peer told again that it has passed the limit.
    tell_at: Instant,
}

impl Budget {
    /// For a peer that has only just connected: it begins with a part of what it may have at once, so that whoever
    /// connects anew wins nothing.
    pub(crate) fn new(now: Instant, per_second: u32) -> Self {
        Self { left: most(per_second) / 4, at: now, tell_at: now }
    }

    /// Whether anything may be turned now.
    pub(crate) fn has_some(&mut self, now: Instant, per_second: u32) -> bool {
        let micros = i64::try_from(now.micros_since(self.at)).unwrap_or(i64::MAX);
        let back = micros.saturating_mul(per_second.into());
        self.left = self.left.saturating_add(back).min(most(per_second));
        self.at = now;
        self.left > 0
    }

    /// Whether nothing may be turned, as far as was known at the last look.
    pub(crate) const fn is_spent(&self) -> bool {
        self.left <= 0
    }

    /// Takes what a message has cost.
    pub(crate) fn take(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(bytes.saturating_mul(MICRO));
    }

    /// Whether the peer is to be told that it has passed the limit: now and then.
    pub(crate) fn tells(&mut self, now: Instant) -> bool {
        let tells = self.tell_at <= now;
        if tells {
            self.tell_at = now.plus_millis(TELL_MS);
        }
        tells
    }
}

/// The most that may be turned at once.
fn most(per_second: u32) -> i64 {
    i64::from(per_second) * MICRO / 8
}

const MICRO: i64 = 1_000_000;
/// Between two words to a peer that has passed the limit.
const TELL_MS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 8_000;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn what_was_taken_comes_back_with_time_and_no_more_of_it_than_may_come_at_once() {
        let mut budget = Budget::new(at(0), RATE);
        budget.take(250);
        assert!(!budget.has_some(at(0), RATE));
        assert!(budget.has_some(at(1), RATE), "8 bytes");
        assert!(budget.has_some(at(1_000_000), RATE));
        budget.take(999);
        assert!(budget.has_some(at(1_000_000), RATE), "1 byte is left");
        budget.take(1);
        assert!(!budget.has_some(at(1_000_000), RATE));
    }

    #[test]
    fn one_message_may_take_more_than_is_left_and_that_is_made_good() {
        let mut budget = Budget::new(at(0), RATE);
        budget.take(250 + 8_000);
        assert!(!budget.has_some(at(1_000), RATE));
        assert!(budget.has_some(at(1_001), RATE));
    }

    #[test]
    fn nothing_is_lost_between_looks_that_follow_close_on_each_other() {
        let mut budget = Budget::new(at(0), RATE);
        budget.take(250);
        let some = (1..=126).map(|micro| budget.has_some(Instant::from_micros(micro), RATE));
        assert!(some.last().unwrap());
        budget.take(1);
        assert!(!budget.has_some(Instant::from_micros(126), RATE) || budget.left < MICRO);
    }
}
