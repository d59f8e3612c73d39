//! What a hub has done since it started, and how it stands: counted where it happens, added up when somebody asks.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_core::auth::BUS;

use crate::hub::Hub;

/// The figures of a hub. [`HubHandle::statistics`](crate::HubHandle::statistics) has them; what is known of each peer
/// alone is in [`PeerInfo`](crate::info::PeerInfo).
///
/// What is counted only rises, since the hub started and whoever has left since; a `queued`, `pending` or `running` is as
/// it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[non_exhaustive]
pub struct HubStatistics {
    /// Microseconds since the hub was made.
    pub uptime_us: u64,

    /// Messages taken from peers.
    pub messages_in: ByType,
    /// Messages given to peers' links.
    pub messages_out: ByType,
    /// Bytes of frames taken from peers.
    pub bytes_in: u64,
    /// Bytes of frames given to peers' links.
    pub bytes_out: u64,

    /// Messages that were refused, by what their senders were told, or would have been.
    pub refused: ByError,
    /// Times that somebody could not prove who they are: with a token, a password, a key.
    pub auth_refusals: u64,
    /// Frames that were no message.
    pub undecodable: u64,
    /// Notifications that a subscriber missed because it did not read.
    pub missed: u64,
    /// Answers that came too late or to nothing.
    pub late: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,

    /// Connections, those that have not authenticated among them.
    pub peers: u64,
    /// Connections that have authenticated.
    pub sessions: u64,
    /// Bytes that wait for peers that do not read fast enough, and what it costs to keep them.
    pub queued_bytes: u64,
    /// The most of these that wait for one peer.
    pub deepest_queue_bytes: u64,
    /// Requests that wait for their answers.
    pub pending_calls: u64,
    /// Messages that handlers on the pool work on.
    pub pool_running: u64,
    /// Messages that wait for a thread of the pool.
    pub pool_waiting: u64,
    /// Those of `pool_running` for whose answer nobody waits any more, and that have not ended for 10 s since: each keeps
    /// a thread of the pool.
    pub stuck_handlers: u64,

    /// From a request's arrival to the answer of the peer that it was for.
    pub peer_latency: Histogram,
    /// From a request's arrival to the answer of the handler of the hub's that it was for.
    pub handler_latency: Histogram,
    /// How long frames waited for peers that did not read fast enough; what is written at once is not in it.
    pub queue_time: Histogram,

    /// What went to each address, most messages first.
    pub addresses: Vec<AddressStatistics>,
    /// What went to addresses that have no place of their own in `addresses`; its address is empty.
    pub other: AddressStatistics,
}

/// Messages by their types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ByType {
    /// Requests.
    pub requests: u64,
    /// Answers to requests.
    pub responses: u64,
    /// Notifications.
    pub notifications: u64,
    /// Errors in the place of answers.
    pub errors: u64,
    /// Signs of life.
    pub heartbeats: u64,
}

/// Messages by the kind of the error about them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ByError {
    /// No, or no valid, proof of who sent it.
    pub authentication: u64,
    /// Whoever sent it may not.
    pub authorization: u64,
    /// Nobody is there for it, or not any more.
    pub connection: u64,
    /// It cannot be served: an address that nobody serves, too much that waits, too long.
    pub message: u64,
    /// Its time was over.
    pub timeout: u64,
    /// Its payload is not what the address takes.
    pub serialization: u64,
    /// It is against the rules of the protocol.
    pub protocol: u64,
    /// A fault of the hub's or a handler's.
    pub internal: u64,
}

/// How long something took, in buckets that double.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Histogram {
    /// How many took less than 2^(i+1) µs and have no place before: up to 1 µs, up to 3, up to 7 and so on. The last bucket, [`Histogram::BUCKETS`]
    /// counted from 1, has all that took longer too. Empty or of that length.
    pub buckets: Vec<u64>,
    /// How many there are.
    pub count: u64,
    /// All of them together, in µs.
    pub sum_us: u64,
    /// The longest, in µs.
    pub max_us: u64,
}

impl Histogram {
    /// How many buckets there are: the last begins at 67 s.
    pub const BUCKETS: usize = 27;

    /// What the bucket `index` has at the most, in µs; `None` for the last one, which has no end.
    pub const fn upper_us(index: usize) -> Option<u64> {
        if index + 1 < Self::BUCKETS { Some((2 << index) - 1) } else { None }
    }
}

/// What went to one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct AddressStatistics {
    /// The address; `COMPONENT/**` for all of a component's that have no place of their own.
    pub address: String,
    /// Messages that were let through: requests, and notifications before they were given to subscribers.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Times that a notification was given to a subscriber, or put where it waits for it.
    pub deliveries: u64,
    /// Times that a subscriber missed a notification because it did not read.
    pub missed: u64,
}

impl Hub {
    /// The figures as they are now; the addresses in no order.
    pub(crate) fn statistics(&mut self) -> HubStatistics {
        let (names, registry) = (&self.names, &self.registry);
        let is_there = |component: &str| {
            component == BUS || names.contains_key(component) || registry.contains(component)
        };
        self.tally.addresses.make_room(is_there);
        let (addresses, other) = self.tally.addresses.tell();
        let counted = self.peers.counted();
        let queued = || self.peers.iter().map(|(_, peer)| peer.queue.bytes() as u64);
        let load = self.pool.as_ref().map(|pool| pool.load(&self.calls.jobs().collect())).unwrap_or_default();
        HubStatistics {
            uptime_us: self.now().as_micros(),
            messages_in: (&counted.taken).into(),
            messages_out: (&counted.given).into(),
            bytes_in: counted.taken.bytes,
            bytes_out: counted.given.bytes,
            refused: (&self.peers.refusals).into(),
            auth_refusals: self.tally.auth_refusals,
            undecodable: counted.undecodable,
            missed: counted.missed,
            late: counted.late,
            timeouts: self.tally.timeouts,
            peers: self.peers.len() as u64,
            sessions: self.peers.iter().filter(|(_, peer)| !peer.name.is_empty()).count() as u64,
            queued_bytes: queued().sum(),
            deepest_queue_bytes: queued().max().unwrap_or_default(),
            pending_calls: self.calls.len() as u64,
            pool_running: load.running,
            pool_waiting: load.waiting,
            stuck_handlers: load.stuck,
            peer_latency: (&self.tally.peers).into(),
            handler_latency: (&self.tally.handlers).into(),
            queue_time: counted.waited.as_deref().map(Histogram::from).unwrap_or_default(),
            addresses,
            other,
        }
    }
}
