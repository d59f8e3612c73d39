//! The clocks of boards: the hub asks each on its line what it shows, and says in its own clock when their messages
//! were made. How it comes to know that is in [`visorbus_core::clock`].

use visorbus_core::clock::ClockSync;
use visorbus_core::message::{Message, MessageType};

use crate::hub::Hub;
use crate::info::ClockInfo;
use crate::peer::{Peer, Presence};
use crate::peers::PeerKey;

impl Hub {
    /// Sends the next probe to a board, if it is due.
    pub(crate) fn poll_clock(&mut self, key: PeerKey) {
        // Not that of the turn: it may be long over.
        let now = self.now();
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.is_probed()) else { return };
        let Some(clock) = &mut peer.clock else { return };
        let len = clock.poll_transmit(&mut peer.session, now, &mut self.out);
        peer.probed_at = if len > 0 { now } else { peer.probed_at };
        self.send_out(key, len, true);
    }

    /// Takes what a board's clock showed.
    pub(crate) fn handle_echo(&mut self, key: PeerKey, id: u64, stamp: Option<u64>) {
        let now = self.now();
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(clock) = &mut peer.clock else { return };
        let before = clock.counters().exchanges;
        clock.handle_echo(id, stamp, now);
        if clock.counters().exchanges != before {
            peer.round_trip_us = u32::try_from(now.micros_since(peer.probed_at)).ok();
        }
    }

    /// Puts the timestamp of a board's message into the hub's clock, where that can be said.
    pub(crate) fn map_timestamp(&mut self, key: PeerKey, message: &mut Message<'_>) {
        let Some(stamp) = message.timestamp.filter(|_| message.message_type != MessageType::Heartbeat) else {
            return;
        };
        let now = self.now();
        let clock = self.peers.get_mut(key).and_then(|peer| peer.clock.as_mut());
        if let Some((made, uncertainty_us)) = clock.and_then(|clock| clock.map(stamp, now)) {
            message.timestamp = Some(self.start_unix_us.saturating_add(made.as_micros()));
            message.uncertainty_us = Some(uncertainty_us);
        }
    }

    /// What people are shown of a board's clock; nothing of peers that have none.
    pub(crate) fn clock_info(&self, peer: &Peer) -> Option<ClockInfo> {
        let clock = peer.clock.as_ref()?;
        let now = self.now();
        let estimate = clock.estimate(now).filter(|_| peer.is_probed());
        let counters = clock.counters();
        Some(ClockInfo {
            // A board's clock begins with the board, so that the difference of the two is when that was.
            offset_us: estimate.map(|known| (self.start_unix_us as i64).wrapping_sub(known.offset_us)),
            drift_ppb: estimate.map(|known| known.drift_ppb),
            bound_us: estimate.map(|known| known.bound_us),
            exchanges: counters.exchanges.into(),
            refused: counters.refused.into(),
            restarts: counters.restarts.into(),
        })
    }
}

impl Peer {
    /// Whether the hub asks this peer for its clock: a board that it knows and that knows it.
    pub(crate) fn is_probed(&self) -> bool {
        self.clock.is_some()
            && self.presence == Presence::Here
            && self.watched.is_some()
            && self.session.is_ready()
            && self.session.grant().is_some()
    }

    /// The clock of a peer on a line that loses frames; a process behind a socket has the hub's.
    pub(crate) fn new_clock(lossy: bool) -> Option<Box<ClockSync>> {
        lossy.then(Box::default)
    }
}
