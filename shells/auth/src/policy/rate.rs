//! How often each subject has used each rule: a table of fixed size. Knows no policy and no clock.

use std::hash::BuildHasher;

use heapless::String;
use visorbus_core::limits::MAX_NAME;

/// Buckets for subjects and rules, all allocated beforehand.
///
/// A bucket belongs to a subject and not to a session, so reconnecting changes nothing. A bucket that has filled up
/// again says nothing and may be taken by somebody else; where all that a subject could take are in use, it is refused.
/// The places of a subject follow from a hash with a random seed, so nobody can choose names that share one.
#[derive(Default)]
pub(super) struct Rates {
    sets: Box<[[Bucket; WAYS]]>,
    hasher: foldhash::quality::RandomState,
}

impl Rates {
    /// A table with its places.
    pub(super) fn new() -> Self {
        Self { sets: vec![Default::default(); SETS].into(), hasher: Default::default() }
    }

    /// Whether there are places at all.
    pub(super) fn is_allocated(&self) -> bool {
        !self.sets.is_empty()
    }

    /// Takes one message of `max_rate` a second at `now` (nanoseconds): at most one second's worth at once, and then as
    /// they come back.
    ///
    /// # Errors
    /// Milliseconds until there is one again.
    pub(super) fn take(&mut self, subject: &str, rule: u64, max_rate: u32, now: u64) -> Result<(), u32> {
        let set = self.hasher.hash_one((subject, rule)) as usize % SETS;
        let Some(ways) = self.sets.get_mut(set) else { return Err(FULL_MS) };
        let mine = ways.iter().position(|bucket| bucket.rule == rule && bucket.subject == subject);
        let Some(index) = mine.or_else(|| ways.iter().position(|bucket| bucket.full_at <= now)) else {
            return Err(FULL_MS);
        };
        let bucket = &mut ways[index];
        if mine.is_none() {
            let Ok(subject) = String::try_from(subject) else { return Err(FULL_MS) };
            *bucket = Bucket { subject, rule, full_at: now };
        }
        bucket.take(max_rate, now)
    }
}

/// The generic cell rate algorithm (ITU-T I.371): all that need be kept is when the bucket will be full again.
#[derive(Clone, Default)]
struct Bucket {
    subject: String<MAX_NAME, u8>,
    rule: u64,
    full_at: u64,
}

impl Bucket {
    fn take(&mut self, max_rate: u32, now: u64) -> Result<(), u32> {
        let interval = SECOND / u64::from(max_rate.max(1));
        let full_at = self.full_at.max(now) + interval;
        let too_early = (full_at - now).saturating_sub(SECOND);
        if too_early > 0 {
            return Err(u32::try_from(too_early.div_ceil(1_000_000)).unwrap_or(u32::MAX));
        }
        self.full_at = full_at;
        Ok(())
    }
}

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// 4096 places.
const SETS: usize = 512;
const WAYS: usize = 8;
/// Said when there is no place; by then one has filled up.
const FULL_MS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_what_the_rule_says_and_no_more() {
        let mut rates = Rates::new();
        let mut take = |now| rates.take("panel", 1, 50, now);
        assert_eq!((0..200).filter(|_| take(SECOND).is_ok()).count(), 50);
        assert_eq!(take(SECOND), Err(20));
        assert_eq!(take(SECOND + SECOND / 50), Ok(()));
        assert_eq!(take(SECOND + SECOND / 50), Err(20));
        let sent = (0..10_000u64).filter(|step| take(2 * SECOND + step * 1_000_000).is_ok()).count();
        assert!((500..=550).contains(&sent), "{sent} in ten seconds");
    }

    #[test]
    fn subjects_and_rules_do_not_share_a_bucket() {
        let mut rates = Rates::new();
        assert_eq!(rates.take("a", 1, 1, 0), Ok(()));
        assert_eq!(rates.take("a", 1, 1, 0), Err(1000));
        assert_eq!(rates.take("b", 1, 1, 0), Ok(()));
        assert_eq!(rates.take("a", 2, 1, 0), Ok(()));
    }

    #[test]
    fn a_full_table_refuses_and_forgets_nobody_who_waits() {
        let mut rates = Rates::new();
        assert_eq!(rates.take("first", 7, 1, 0), Ok(()));
        let refused = (0..20_000).filter(|n| rates.take(&format!("s{n}"), 7, 1, 0).is_err()).count();
        assert!(refused >= 20_000 - SETS * WAYS, "{refused}");
        assert_eq!(rates.take("first", 7, 1, 0), Err(1000));
        assert_eq!(rates.take("s19999", 7, 1, SECOND), Ok(()), "a second later there is room again");
    }

    #[test]
    fn a_table_without_places_refuses() {
        assert_eq!(Rates::default().take("a", 1, 50, 0), Err(FULL_MS));
    }
}
