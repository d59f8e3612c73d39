//! Who wants what: subscriptions by topic, with a memory of what matched.

use std::sync::Arc;

use visorbus_core::bus::RowKind;
use visorbus_core::message::Address;

use crate::HashMap;
use crate::peer::Peer;
use crate::peers::{PeerKey, Peers};

/// A subscription that selects a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selected {
    pub(crate) peer: PeerKey,
    pub(crate) number: u32,
    /// Hash of the type that the peer was built with for this topic; 0 where it did not say.
    pub(crate) expects: u64,
    /// The peer has JSON and no postcard.
    pub(crate) json: bool,
}

/// The subscriptions that select a topic: at most one of each peer, its first.
pub(crate) type AllSelected = Arc<[Selected]>;

/// What matched each topic, as long as no subscription changes.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    by_topic: HashMap<Box<str>, AllSelected>,
    /// The peers that have subscriptions, which may be few of many.
    subscribers: Option<Vec<PeerKey>>,
}

impl Matches {
    /// To be called when a subscription, or what a subscriber expects, came or went.
    pub(crate) fn clear(&mut self) {
        self.by_topic.clear();
        self.subscribers = None;
    }

    /// The subscriptions that select `topic`.
    pub(crate) fn find(&mut self, topic: Address<'_>, peers: &Peers) -> AllSelected {
        if let Some(selected) = self.by_topic.get(topic.as_str()) {
            return Arc::clone(selected);
        }
        // A publisher that makes up topics must not fill the memory.
        if self.by_topic.len() >= MAX_TOPICS {
            self.by_topic.clear();
        }
        let first = |peer: &Peer| {
            peer.subscriptions
                .iter()
                .find(|subscription| subscription.matches(topic))
                .map(|found| found.number)
        };
        let selected = |key: &PeerKey| {
            let (key, peer) = (*key, peers.get(*key)?);
            let expects = peer.rows.uses.get(RowKind::Expects, topic.as_str());
            let expects = expects.map_or(0, |types| types.request);
            Some(Selected { peer: key, number: first(peer)?, expects, json: peer.options.json })
        };
        let have_some = || {
            let some = peers.iter().filter(|(_, peer)| !peer.subscriptions.is_empty());
            some.map(|(key, _)| key).collect()
        };
        let subscribers = self.subscribers.get_or_insert_with(have_some);
        let selected: AllSelected = subscribers.iter().filter_map(selected).collect();
        self.by_topic.insert(topic.as_str().into(), Arc::clone(&selected));
        selected
    }
}

const MAX_TOPICS: usize = 4096;
