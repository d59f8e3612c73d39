//! How a link becomes a connection of the hub: whether there is room for it, its slot, its session.

use slotmap::Key as _;
use visorbus_core::auth::BUS;
use visorbus_core::codec;
use visorbus_core::message::Message;
use visorbus_core::session::{Name, Role, SessionConfig};
use visorbus_core::{Instant, Session};

use crate::admission::check_suffix;
use crate::config::Limits;
use crate::hub::{BUS_ADDRESS, Hub};
use crate::link::{Goodbye, HubLink, LinkOptions, Origin};
use crate::listeners::{Via, stops};
use crate::owned::{Error, Result};
use crate::peer::{Peer, Watched};
use crate::peers::PeerKey;
use crate::poller::Ready;

impl Hub {
    /// Makes a peer of whoever is at the other end of a link.
    pub(crate) fn attach(&mut self, mut link: Box<dyn HubLink>, via: Via, now: Instant) -> Result<()> {
        let options = link.options();
        let origin = link.origin();
        let may_come = check_suffix(&options).and_then(|()| self.make_room_for(&origin, now));
        let may_come = may_come.and(if self.ending.is_some() { Err(stops()) } else { Ok(()) });
        if let Err(error) = may_come {
            self.turn_away(&mut *link, &error);
            return Err(error);
        }
        let session = self.accepting_session(&options, now);
        let peer = Peer::new(link, via, session, &self.config.limits, now);
        let key = self.peers.insert(peer);
        let signal = self.signals.signal(key.data().as_ffi());
        if let Some(peer) = self.peers.get_mut(key) {
            peer.link.attached(signal);
        }
        if self.watch_link(key).is_none() {
            self.reopen(key, now);
        }
        self.poll_session(key, now);
        self.set_timer(key, now);
        if self.peers.get(key).is_some_and(|peer| peer.link.has_input()) {
            let ready = Ready { number: key.data().as_ffi(), input: true, output: false };
            self.serve_peer(key, &ready, false, now);
        }
        let gone = || Error::Connection("the connection cannot be waited on".to_owned());
        self.peers.get(key).map(|_| ()).ok_or_else(gone)
    }

    /// The session of a link, before its hello.
    fn accepting_session(&self, options: &LinkOptions, now: Instant) -> Session {
        let limits = &self.config.limits;
        let line = options.lossy;
        let config = SessionConfig {
            role: Role::Accepting,
            name: Name::try_from(BUS).unwrap_or_default(),
            boot_id: self.config.boot_id,
            max_frame: match options.max_frame {
                0 => limits.max_frame,
                own => own.min(limits.max_frame),
            },
            heartbeat_ms: if line { limits.line_heartbeat_ms } else { limits.socket_heartbeat_ms },
            rows: 0,
            requires_authentication: options.unauthenticated.is_none() && !options.keyed,
            lossy: line,
        };
        let mut session = Session::new(config);
        if options.lane {
            session.offer_lane();
        }
        session.offer_compression();
        session.set_clock(now, self.start_unix_us + now.as_micros());
        session
    }

    /// Whether one more connection may come from there; a stranger may have to go for it.
    fn make_room_for(&mut self, origin: &Origin, now: Instant) -> Result<()> {
        let Limits { max_peers, peers_per_user, .. } = self.config.limits;
        if self.peers.len() >= max_peers && !self.displace_stranger(now) {
            return Err(Error::Connection(format!(
                "{max_peers} connections are open, the limit: try again later"
            )));
        }
        let Some(counted) = origin.counted_as() else { return Ok(()) };
        if self.peers.of_user(counted) >= peers_per_user {
            let user = origin.uid().map_or_else(|| "no known user".to_owned(), |uid| format!("user {uid}"));
            return Err(Error::Connection(format!(
                "{peers_per_user} connections of {user} are open, the limit of one user: close some"
            )));
        }
        Ok(())
    }

    /// Says why on a link that gets no slot, as far as it goes at once.
    fn turn_away(&mut self, link: &mut dyn HubLink, error: &Error) {
        let error = visorbus_core::IpcError::new(error.kind(), error.text().as_str());
        let len = codec::encode_error(&Message::request(0, BUS_ADDRESS), &error, &mut self.out).unwrap_or(0);
        if link.has_room(self.out[0], len) {
            // Whoever has gone before that need not know.
            let _ = link.send(&self.out[..len], &[], true);
        }
        link.close(Goodbye::Full, error.text());
        let _ = link.flush(self.now());
    }

    /// Has epoll report the link's descriptor; `None` when it has none and should.
    pub(crate) fn watch_link(&mut self, key: PeerKey) -> Option<()> {
        let peer = self.peers.get_mut(key)?;
        if !peer.options.signalled {
            self.poller.add(peer.link.fd()?, key.data().as_ffi()).ok()?;
        }
        peer.watched = Some(Watched { output: false });
        Some(())
    }
}
