//! Who wants what: subscriptions by topic, with a memory of what matched.

use std::sync::Arc;

use visorbus_core::message::Address;

use crate::HashMap;
use crate::peers::{PeerKey, Peers};

/// The subscriptions that select a topic: at most one of each peer, its first.
pub(crate) type Selected = Arc<[(PeerKey, u32)]>;

/// What matched each topic, as long as no subscription changes.
#[derive(Debug, Default)]
pub(crate) struct Matches(HashMap<Box<str>, Selected>);

impl Matches {
    /// To be called when a subscription came or went.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The subscriptions that select `topic`.
    pub(crate) fn find(&mut self, topic: Address<'_>, peers: &Peers) -> Selected {
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
        let selected: Selected = peers.iter().filter_map(|(key, peer)| Some((key, first(peer)?))).collect();
        self.0.insert(topic.as_str().into(), Arc::clone(&selected));
        selected
    }
}

const MAX_TOPICS: usize = 4096;
