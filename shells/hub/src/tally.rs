//! What a hub counts while it runs, so that counting costs next to nothing and nobody's doing makes it grow.

use visorbus_core::Instant;
use visorbus_core::message::Address;

use crate::HashMap;
use crate::statistics::{AddressStatistics, ByError, ByType, Histogram};

/// What the loop counts that is no peer's own.
#[derive(Default)]
pub(crate) struct Tally {
    /// From requests to the answers of peers.
    pub(crate) peers: Times,
    /// From requests to the answers of handlers.
    pub(crate) handlers: Times,
    pub(crate) timeouts: u64,
    pub(crate) auth_refusals: u64,
    pub(crate) addresses: Addresses,
}

/// What a peer has cost and what it was refused.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counters {
    pub(crate) taken: Flow,
    pub(crate) given: Flow,
    /// Frames that are no message.
    pub(crate) undecodable: u64,
    /// Messages refused or dropped for what they were.
    pub(crate) refused: u64,
    /// Notifications that it did not get because it did not read.
    pub(crate) missed: u64,
    /// Answers that came too late or to nothing.
    pub(crate) late: u64,
    /// Times its session began.
    pub(crate) sessions: u64,
    /// How long frames have waited for it, where any had to.
    pub(crate) waited: Option<Box<Times>>,
}

impl Counters {
    /// Counts a frame of `len` bytes, which begins with the byte `first`, that is given to the link.
    pub(crate) fn gives(&mut self, first: u8, len: usize) {
        self.given.count(first & 7);
        self.given.bytes += len as u64;
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.taken.add(&more.taken);
        self.given.add(&more.given);
        self.undecodable += more.undecodable;
        self.refused += more.refused;
        self.missed += more.missed;
        self.late += more.late;
        self.sessions += more.sessions;
        if let Some(waited) = &more.waited {
            self.waited.get_or_insert_default().add(waited);
        }
    }
}

/// What came of notifications, by subscribers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) deliveries: u64,
    pub(crate) missed: u64,
}

/// How long something took, so far.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    buckets: [u64; Histogram::BUCKETS],
    sum_us: u64,
    max_us: u64,
}

impl Times {
    /// Notes what began at `began` and ended `now`.
    pub(crate) fn note(&mut self, began: Instant, now: Instant) {
        let us = now.micros_since(began);
        let bucket = (u64::BITS - (us | 1).leading_zeros()) as usize - 1;
        self.buckets[bucket.min(Histogram::BUCKETS - 1)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, more)| *own += more);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: [0; Histogram::BUCKETS], sum_us: 0, max_us: 0 }
    }
}

impl From<&Times> for Histogram {
    fn from(times: &Times) -> Self {
        let Times { buckets, sum_us, max_us } = times;
        Self { buckets: buckets.to_vec(), count: buckets.iter().sum(), sum_us: *sum_us, max_us: *max_us }
    }
}

/// What goes one way: small, because it is touched with every message.
#[derive(Debug, Default, Clone)]
pub(crate) struct Flow {
    /// By the code of their type.
    messages: [u64; 5],
    pub(crate) bytes: u64,
}

impl Flow {
    /// Counts a message by the code of its type.
    pub(crate) fn count(&mut self, code: u8) {
        if let Some(count) = self.messages.get_mut(usize::from(code)) {
            *count += 1;
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.iter().sum()
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.messages.iter_mut().zip(&more.messages).for_each(|(own, more)| *own += more);
        self.bytes += more.bytes;
    }
}

impl From<&Flow> for ByType {
    fn from(flow: &Flow) -> Self {
        let [requests, responses, notifications, errors, heartbeats] = flow.messages;
        Self { requests, responses, notifications, errors, heartbeats }
    }
}

/// Errors by the code of their kind.
pub(crate) type Failed = [u64; 9];

impl From<&Failed> for ByError {
    fn from(failed: &Failed) -> Self {
        let [
            _,
            authentication,
            authorization,
            connection,
            message,
            timeout,
            serialization,
            protocol,
            internal,
        ] = *failed;
        Self {
            authentication,
            authorization,
            connection,
            message,
            timeout,
            serialization,
            protocol,
            internal,
        }
    }
}

/// What went to each address, of as many as there is room for.
///
/// An address gets its place with the first message that was let through to it, and each component has so many places and
/// no more: whoever makes up addresses fills those of a component that it may use, and no others.
#[derive(Default)]
pub(crate) struct Addresses {
    known: HashMap<Box<str>, Count>,
    /// How many places each component has.
    components: HashMap<Box<str>, usize>,
    other: Count,
    /// There was no room for a component since it was last made.
    is_full: bool,
    key: String,
}

/// What went to an address.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) deliveries: u64,
    pub(crate) missed: u64,
}

impl Count {
    /// One message with a payload of `len` bytes.
    pub(crate) const fn message(len: usize) -> Self {
        Self { messages: 1, bytes: len as u64, deliveries: 0, missed: 0 }
    }

    const fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.deliveries += more.deliveries;
        self.missed += more.missed;
    }

    fn of(self, address: String) -> AddressStatistics {
        let Self { messages, bytes, deliveries, missed } = self;
        AddressStatistics { address, messages, bytes, deliveries, missed }
    }
}

impl Addresses {
    #[inline]
    pub(crate) fn note(&mut self, address: Address<'_>, count: Count) {
        match self.known.get_mut(address.as_str()) {
            Some(known) => known.add(count),
            None => self.place(address).add(count),
        }
    }

    /// Where an address is counted that has no place yet.
    fn place(&mut self, address: Address<'_>) -> &mut Count {
        let component = address.component();
        let own = self.components.get(component).copied();
        if own.is_some_and(|own| own >= PER_COMPONENT) {
            self.key.clear();
            self.key.extend([component, REST]);
            return self.known.entry(self.key.as_str().into()).or_default();
        }
        if self.known.len() >= MAX_ADDRESSES {
            self.is_full = true;
            return &mut self.other;
        }
        *self.components.entry(component.into()).or_default() += 1;
        self.known.entry(address.as_str().into()).or_default()
    }

    /// Where something had no place since this was last called: counts what went to components that are gone among the
    /// rest.
    pub(crate) fn make_room(&mut self, is_there: impl Fn(&str) -> bool) {
        if !std::mem::take(&mut self.is_full) {
            return;
        }
        let other = &mut self.other;
        self.components.retain(|component, _| is_there(component));
        self.known.retain(|address, count| {
            let stays = is_there(address.split('/').next().unwrap_or_default());
            if !stays {
                other.add(*count);
            }
            stays
        });
    }

    /// All of them, and what had no place.
    pub(crate) fn tell(&self) -> (Vec<AddressStatistics>, AddressStatistics) {
        let known = self.known.iter().map(|(address, count)| count.of(String::from(&**address)));
        (known.collect(), self.other.of(String::new()))
    }
}

/// How many addresses have a place, those of the rest of a component not counted, and how many of one component.
const MAX_ADDRESSES: usize = 512;
const PER_COMPONENT: usize = 32;
/// What follows a component's name where the rest of its addresses are counted.
const REST: &str = "/**";

#[cfg(test)]
mod tests {
    use super::*;

    fn note(addresses: &mut Addresses, address: &str) {
        addresses.note(Address::new(address).unwrap(), Count::message(10));
    }

    fn messages(addresses: &Addresses, address: &str) -> Option<u64> {
        addresses.known.get(address).map(|count| count.messages)
    }

    #[test]
    fn a_flood_of_addresses_takes_the_places_of_its_own_component_alone() {
        let mut addresses = Addresses::default();
        note(&mut addresses, "imu/rate");
        for number in 0..100_000 {
            note(&mut addresses, &format!("flood/{number}"));
        }
        note(&mut addresses, "imu/rate");
        note(&mut addresses, "imu/sample");
        assert_eq!(addresses.known.len(), PER_COMPONENT + 1 + 2);
        assert_eq!(messages(&addresses, "imu/rate"), Some(2));
        assert_eq!(messages(&addresses, "imu/sample"), Some(1));
        assert_eq!(messages(&addresses, "flood/**"), Some(100_000 - PER_COMPONENT as u64));
        assert_eq!(addresses.other.messages, 0);
    }

    #[test]
    fn more_components_than_there_is_room_for_are_counted_together_until_others_are_gone() {
        let mut addresses = Addresses::default();
        for number in 0..100_000 {
            note(&mut addresses, &format!("c{number}/x"));
        }
        assert_eq!((addresses.known.len(), addresses.components.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        assert_eq!(addresses.other.messages, 100_000 - MAX_ADDRESSES as u64);
        addresses.make_room(|component| component == "c7");
        assert_eq!((addresses.known.len(), addresses.components.len()), (1, 1));
        assert_eq!(addresses.other.messages, 100_000 - 1);
        note(&mut addresses, "new/x");
        assert_eq!(messages(&addresses, "new/x"), Some(1));
        // Nothing more goes while there is room.
        addresses.make_room(|_| false);
        assert_eq!(addresses.known.len(), 2);
    }

    #[test]
    fn a_time_stands_in_the_bucket_that_says_so() {
        let mut times = Times::default();
        let after = Instant::from_micros;
        for us in [0, 1, 2, 3, 4, 1_000, u64::MAX] {
            times.note(after(0), after(us));
        }
        // A clock that steps back is no time at all.
        times.note(after(5), after(3));
        let told = Histogram::from(&Times { sum_us: 0, ..times });
        assert_eq!((told.buckets[0], told.buckets[1], told.buckets[2], told.buckets[9]), (3, 2, 1, 1));
        assert_eq!((told.buckets[Histogram::BUCKETS - 1], told.count, told.max_us), (1, 8, u64::MAX));
        assert_eq!(Histogram::upper_us(0), Some(1));
        assert_eq!(Histogram::upper_us(9), Some(1023));
        assert_eq!(Histogram::upper_us(Histogram::BUCKETS - 1), None);
    }
}
