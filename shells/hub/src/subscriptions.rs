//! Who wants what: subscriptions by topic, with a memory of what matched.

use std::sync::Arc;

use visorbus_core::bus::RowKind;
use visorbus_core::message::Address;

use crate::HashMap;
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
pub(crate) struct Matches(HashMap<Box<str>, AllSelected>);

impl Matches {
    /// To be called when a subscription, or what a subscriber expects, came or went.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The subscriptions that select `topic`.
    pub(crate) fn find(&mut self, topic: Address<'_>, peers: &Peers) -> AllSelected {
        if let Some(selected) = self.0.get(topic.as_str()) {
            return Arc::clone(selected);
        }
        // A publisher that makes up topics must not fill the memory.
        if self.0.len() >= MAX_TOPICS {
            self.0.clear();
        }
        let first = |peer: &crate::peers::Peer| {
            peer.subscriptions
                .iter()
                .find(|subscription| subscription.matches(topic))
                .map(|found| found.number)
        };
        let selected = |(key, peer): (PeerKey, &crate::peers::Peer)| {
            let expects = peer.rows.uses.get(RowKind::Expects, topic.as_str());
            let expects = expects.map_or(0, |types| types.request);
            Some(Selected { peer: key, number: first(peer)?, expects, json: peer.options.json })
        };
        let selected: AllSelected = peers.iter().filter_map(selected).collect();
        self.0.insert(topic.as_str().into(), Arc::clone(&selected));
        selected
    }
}

const MAX_TOPICS: usize = 4096;
