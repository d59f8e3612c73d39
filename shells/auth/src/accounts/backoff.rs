//! Who guesses has to wait longer and longer, and the rightful user does not. Knows no passwords and no clock.
//!
//! # What is counted
//! | failures of | free | then wait | stands in the way of |
//! |---|---|---|---|
//! | a subject from an address | 3 | 1 s, 2 s, 4 s … 30 s | that subject from that address |
//! | an address, whatever the subject | 10 | 1 s, 2 s, 4 s … 30 s | that address, but for pairs that have succeeded |
//! | a subject, wherever from | 20 | 1 s, 2 s, 4 s | that subject, but for pairs that have succeeded |
//!
//! So one address gets 2 880 guesses a day at one subject, and no more by trying many subjects; and everybody together
//! gets 21 600 at one subject, however many addresses they have. That is nothing against six random characters (years),
//! and too much for one of the ten thousand commonest passwords: no back-off saves those.
//!
//! # Why the rightful user is not locked out
//! Whoever has logged in from an address (a *pair*) is bound only by the failures of that subject from that address: those
//! of others elsewhere do not count, and neither do those of other subjects at the same address. From an address
//! that is new, the user waits at most 4 seconds at a time for a turn at which the guessers stand too. That is the one
//! place where guessers can be in the way at all, and what it costs is told in `retry`.
//!
//! Somebody who guesses at a subject from the very address of its user makes that user wait, up to 30 s at a time:
//! whoever is there is told apart from the user by nothing but the password.
//!
//! # Why it cannot be played
//! - A guess is charged before it is checked and given back when it was right: a hundred at once are a hundred failures.
//! - To be right about one subject clears the failures of that pair and no other: an account of one's own does not help.
//! - An IPv6 address counts as its /64, which is what one customer has.
//! - Tables are bounded; a full one forgets what was longest untouched. A failure costs a password hash, of which the
//!   machine does some 20 a second, so to push an entry out of 4096 takes minutes and wins three guesses: waiting would
//!   have won more.
//! - Only who has succeeded becomes a known pair, at most 8 a subject: nobody can push out the pairs of somebody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// The failures of late. Time is counted from any moment, and handed in.
#[derive(Default)]
pub(crate) struct Backoff {
    pairs: Table<(Box<str>, Box<str>)>,
    addresses: Table<Box<str>>,
    subjects: Table<Box<str>>,
    /// By subject, the addresses from which it has succeeded, the latest last.
    known: HashMap<Box<str>, Vec<Box<str>>>,
}

impl Backoff {
    /// Charges an attempt, before it is made.
    ///
    /// # Errors
    /// How long to wait first; then nothing is charged, and the attempt must not be made.
    pub(crate) fn begin(&mut self, subject: &str, address: &str, now: Duration) -> Result<Attempt, Duration> {
        let address = group(address);
        let pair = (Box::from(subject), address.clone());
        let known = self.known.get(subject).is_some_and(|addresses| addresses.contains(&address));
        let mut wait = self.pairs.wait(&pair, &PAIR, now);
        if !known {
            wait = wait.max(self.addresses.wait(&address, &ADDRESS, now));
            wait = wait.max(self.subjects.wait(&pair.0, &SUBJECT, now));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        self.pairs.charge(pair.clone(), now);
        if !known {
            self.addresses.charge(address, now);
            self.subjects.charge(pair.0.clone(), now);
        }
        Ok(Attempt { pair, known })
    }

    /// The attempt was not made after all: it does not count.
    pub(crate) fn cancel(&mut self, attempt: &Attempt) {
        self.pairs.give_back(&attempt.pair);
        if !attempt.known {
            self.addresses.give_back(&attempt.pair.1);
            self.subjects.give_back(&attempt.pair.0);
        }
    }

    /// The attempt was right.
    pub(crate) fn succeed(&mut self, attempt: Attempt) {
        self.cancel(&attempt);
        self.pairs.entries.remove(&attempt.pair);
        let (subject, address) = attempt.pair;
        if self.known.len() >= MAX_ENTRIES && !self.known.contains_key(&subject) {
            return;
        }
        let addresses = self.known.entry(subject).or_default();
        addresses.retain(|known| *known != address);
        if addresses.len() >= MAX_KNOWN {
            addresses.remove(0);
        }
        addresses.push(address);
    }
}

/// An attempt that was charged.
pub(crate) struct Attempt {
    pair: (Box<str>, Box<str>),
    known: bool,
}

/// How many failures are free, and how long the waits after them become.
struct Rule {
    free: u32,
    longest: Duration,
}

impl Rule {
    fn wait(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free) else { return Duration::ZERO };
        Duration::from_secs(1 << doublings.min(16)).min(self.longest)
    }
}

/// Failures by key.
struct Table<K> {
    entries: HashMap<K, Failures>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Duration,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: std::hash::Hash + Eq + Clone> Table<K> {
    fn wait(&self, key: &K, rule: &Rule, now: Duration) -> Duration {
        let Some(failures) = self.entries.get(key) else { return Duration::ZERO };
        if now.saturating_sub(failures.last) >= FORGOTTEN {
            return Duration::ZERO;
        }
        (failures.last + rule.wait(failures.count)).saturating_sub(now)
    }

    fn charge(&mut self, key: K, now: Duration) {
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let failures = self.entries.entry(key).or_insert(Failures { count: 0, last: now });
        if now.saturating_sub(failures.last) >= FORGOTTEN {
            failures.count = 0;
        }
        *failures = Failures { count: failures.count.saturating_add(1), last: now };
    }

    fn give_back(&mut self, key: &K) {
        let Some(failures) = self.entries.get_mut(key) else { return };
        failures.count = failures.count.saturating_sub(1);
        if failures.count == 0 {
            self.entries.remove(key);
        }
    }

    fn make_room(&mut self, now: Duration) {
        self.entries.retain(|_, failures| now.saturating_sub(failures.last) < FORGOTTEN);
        if self.entries.len() >= MAX_ENTRIES {
            let oldest = self.entries.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
    }
}

/// What counts as one address: an IPv6 network of 64 bits, else all of it, in at most 64 bytes.
fn group(address: &str) -> Box<str> {
    match address.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64").into()
        }
        Ok(IpAddr::V6(v6)) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()).into(),
        _ => address.chars().take(64).collect::<String>().into(),
    }
}

const PAIR: Rule = Rule { free: 4, longest: Duration::from_secs(30) };
const ADDRESS: Rule = Rule { free: 11, longest: Duration::from_secs(30) };
const SUBJECT: Rule = Rule { free: 21, longest: Duration::from_secs(4) };
/// After so long without a failure it is as if there had been none.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
const MAX_ENTRIES: usize = 4096;
/// Addresses of one subject that are remembered.
const MAX_KNOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn fail(backoff: &mut Backoff, subject: &str, address: &str, now: u64) -> Option<u64> {
        backoff.begin(subject, address, S(now)).err().map(|wait| wait.as_secs())
    }

    fn succeed(backoff: &mut Backoff, subject: &str, address: &str, now: u64) {
        let attempt = backoff.begin(subject, address, S(now)).ok().unwrap();
        backoff.succeed(attempt);
    }

    #[test]
    fn from_the_fourth_failure_on_the_wait_doubles_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        for _ in 0..4 {
            assert_eq!(fail(&mut backoff, "alice", "1.1.1.1", now), None);
        }
        for wait in [1, 2, 4, 8, 16, 30, 30, 30] {
            assert_eq!(fail(&mut backoff, "alice", "1.1.1.1", now), Some(wait));
            now += wait;
            assert_eq!(fail(&mut backoff, "alice", "1.1.1.1", now), None);
        }
        now += FORGOTTEN.as_secs();
        assert_eq!(fail(&mut backoff, "alice", "1.1.1.1", now), None);
        assert_eq!(fail(&mut backoff, "alice", "1.1.1.1", now), None, "it is forgotten");
    }

    #[test]
    fn who_has_logged_in_from_an_address_is_not_bothered_by_guessers_elsewhere() {
        let mut backoff = Backoff::default();
        succeed(&mut backoff, "alice", "10.0.0.1", 0);
        for host in 0..200 {
            let _ = fail(&mut backoff, "alice", &format!("6.6.6.{host}"), 1);
        }
        assert!(fail(&mut backoff, "alice", "7.7.7.7", 1).is_some(), "a stranger waits");
        succeed(&mut backoff, "alice", "10.0.0.1", 1);
        assert!(fail(&mut backoff, "alice", "7.7.7.7", 6).is_none(), "and not for long");
    }

    #[test]
    fn one_guesser_at_one_address_locks_nobody_out_at_another() {
        let mut backoff = Backoff::default();
        for now in 0..15 {
            let _ = fail(&mut backoff, "alice", "6.6.6.6", now);
        }
        assert!(fail(&mut backoff, "alice", "6.6.6.6", 15).is_some());
        succeed(&mut backoff, "alice", "10.0.0.9", 15);
    }

    #[test]
    fn trying_many_subjects_from_one_address_does_not_help_and_an_own_account_neither() {
        let mut backoff = Backoff::default();
        succeed(&mut backoff, "mallory", "6.6.6.6", 0);
        let mut guesses = 0;
        for n in 0..100 {
            guesses += u32::from(fail(&mut backoff, &format!("user{n}"), "6.6.6.6", 1).is_none());
            succeed(&mut backoff, "mallory", "6.6.6.6", 1);
        }
        assert_eq!(guesses, 11);
    }

    #[test]
    fn many_at_once_are_as_many_failures() {
        let mut backoff = Backoff::default();
        let attempts: Vec<_> =
            (0..100).filter_map(|_| backoff.begin("alice", "6.6.6.6", S(1)).ok()).collect();
        assert_eq!(attempts.len(), 4);
        for attempt in &attempts {
            backoff.cancel(attempt);
        }
        assert!(backoff.begin("alice", "6.6.6.6", S(1)).is_ok(), "what was not checked does not count");
    }

    #[test]
    fn all_addresses_of_one_network_are_one() {
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1:2"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(group("::ffff:1.2.3.4"), group("1.2.3.4"));
        assert_eq!(group(&"x".repeat(1000)).len(), 64);
    }

    #[test]
    fn tables_stay_bounded_whatever_is_tried() {
        let mut backoff = Backoff::default();
        for n in 0..MAX_ENTRIES + 100 {
            let _ = fail(
                &mut backoff,
                &format!("u{n}"),
                &format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255),
                1,
            );
        }
        for n in 0..100 {
            succeed(&mut backoff, "bob", &format!("11.0.0.{n}"), 2);
        }
        assert!(backoff.pairs.entries.len() <= MAX_ENTRIES && backoff.subjects.entries.len() <= MAX_ENTRIES);
        assert!(backoff.addresses.entries.len() <= MAX_ENTRIES && backoff.known["bob"].len() == MAX_KNOWN);
    }
}
