//! When each peer's session, handshake or link next needs the time, and what is done then.

use visorbus_core::Instant;
use visorbus_core::message::Message;
use visorbus_core::session::Expired;

use crate::hub::{BUS_ADDRESS, Hub};
use crate::owned::Error;
use crate::peer::{Peer, Presence};
use crate::peers::PeerKey;

impl Hub {
    pub(crate) fn handle_timers(&mut self, now: Instant) {
        let due: Vec<PeerKey> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            self.clear_timer(key);
            self.handle_timer(key, now);
            // Whatever is still due after that is not due again before the next millisecond: the loop must not spin.
            self.set_timer(key, now.plus_millis(1));
        }
    }

    fn handle_timer(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        match peer.presence {
            Presence::Here => {}
            Presence::Leaving => return,
            Presence::Lingering { .. } => return self.close_lingering(key, now),
        }
        if peer.reopen_at.is_some_and(|at| at <= now) {
            return self.reopen(key, now);
        }
        if peer.name.is_empty() && !peer.options.lossy && peer.handshake_by <= now {
            let text = format!("no authentication within {} ms", self.config.limits.handshake_ms);
            self.send_error(key, &Message::request(0, BUS_ADDRESS), &Error::Authentication(text.clone()));
            return self.peers.dismiss(key, text);
        }
        while let Some(expired) = self.peers.get_mut(key).and_then(|peer| peer.session.handle_timeout(now)) {
            match expired {
                Expired::Session if self.peers.get(key).is_some_and(|peer| peer.options.lossy) => {
                    self.forget(key, "it was silent for three heartbeats");
                }
                Expired::Session => return self.peers.dismiss(key, "it was silent for three heartbeats"),
                Expired::Request { id } => self.describe_again(key, id, now),
            }
        }
        self.poll_session(key, now);
        let has_to_flush =
            |peer: &Peer| peer.options.lane || peer.link.poll_timeout().is_some_and(|at| at <= now);
        if self.peers.get(key).is_some_and(has_to_flush) {
            self.peers.touch(key);
        }
    }

    /// Has the peer looked at when it next needs the time, though not before `earliest`, unless that is done already.
    pub(crate) fn set_timer(&mut self, key: PeerKey, earliest: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(next) = peer.next_due().map(|next| next.max(earliest)) else { return };
        if peer.timer.is_none_or(|set| next < set) {
            if let Some(set) = peer.timer.replace(next) {
                self.timers.remove(&(set, key));
            }
            self.timers.insert((next, key));
        }
    }

    pub(crate) fn clear_timer(&mut self, key: PeerKey) {
        match self.peers.get_mut(key) {
            Some(peer) => {
                if let Some(set) = peer.timer.take() {
                    self.timers.remove(&(set, key));
                }
            }
            None => self.timers.retain(|(_, other)| *other != key),
        }
    }
}
