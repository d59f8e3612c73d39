//! Requests on their way through the hub: who waits for whom, and until when.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

use visorbus_core::Instant;
use visorbus_core::message::{AddressBuf, MessagePriority};

use crate::HashMap;
use crate::peers::PeerKey;

/// A request by who sent it and under which id.
pub(crate) type CallKey = (PeerKey, u64);

/// Every request that passed and was not yet answered.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    by_key: HashMap<CallKey, Call>,
    by_deadline: BTreeSet<(Instant, CallKey)>,
}

/// One request on its way.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Who answers.
    pub(crate) callee: Callee,
    /// When it came.
    pub(crate) began: Instant,
    /// When the hub answers in its place.
    pub(crate) deadline: Instant,
    /// What the answer is addressed to.
    pub(crate) source: AddressBuf,
    /// What was called, for the text of an error.
    pub(crate) destination: AddressBuf,
    pub(crate) priority: MessagePriority,
}

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callee {
    /// A peer.
    Peer(PeerKey),
    /// The hub itself, by the job of this number on its pool.
    Job(u64),
}

impl Calls {
    /// Notes a request; `false` when its sender uses the id already.
    pub(crate) fn insert(&mut self, key: CallKey, call: Call) -> bool {
        let Entry::Vacant(place) = self.by_key.entry(key) else { return false };
        self.by_deadline.insert((call.deadline, key));
        place.insert(call);
        true
    }

    /// Ends the request `key` if `callee` is the one who was to answer it.
    pub(crate) fn take(&mut self, key: CallKey, callee: Callee) -> Option<Call> {
        let Entry::Occupied(call) = self.by_key.entry(key) else { return None };
        if call.get().callee != callee {
            return None;
        }
        self.by_deadline.remove(&(call.get().deadline, key));
        Some(call.remove())
    }

    /// Ends the request `key`, whoever was to answer it.
    pub(crate) fn give_up(&mut self, key: CallKey) -> Option<Call> {
        let call = self.by_key.remove(&key)?;
        self.by_deadline.remove(&(call.deadline, key));
        Some(call)
    }

    /// Ends the first request whose time is over.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<(CallKey, Call)> {
        let &(deadline, key) = self.by_deadline.first().filter(|(deadline, _)| *deadline <= now)?;
        self.by_deadline.remove(&(deadline, key));
        self.by_key.remove(&key).map(|call| (key, call))
    }

    /// Ends all requests that `peer` sent or was to answer.
    pub(crate) fn take_peer(&mut self, peer: PeerKey) -> Vec<(CallKey, Call)> {
        let keys: Vec<CallKey> = self
            .by_key
            .iter()
            .filter(|((caller, _), call)| *caller == peer || call.callee == Callee::Peer(peer))
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter().filter_map(|key| Some((key, self.give_up(key)?))).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The jobs whose answers somebody waits for.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = u64> {
        self.by_key.values().filter_map(|call| match call.callee {
            Callee::Job(number) => Some(number),
            Callee::Peer(_) => None,
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }
}
