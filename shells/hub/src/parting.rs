//! How a peer goes: what it meant to others ends at once, it is told why, its link is closed or waits for its device.

use slotmap::Key as _;
use visorbus_core::Instant;

use crate::hub::Hub;
use crate::link::{Goodbye, Origin, Reopen};
use crate::owned::Error;
use crate::peer::{Peer, Presence};
use crate::peers::{End, PeerKey};
use crate::poller::Ready;
use crate::watch::HubEvent;

impl Hub {
    /// Parts from a peer that fails or has to go.
    pub(crate) fn part_from(&mut self, key: PeerKey, end: &End, now: Instant) {
        match end {
            End::LinkOver(why) => self.lose_link(key, why, now),
            End::Dismissed(kind, why) => self.dismiss(key, *kind, why, now),
        }
    }

    /// Ends what a session has meant to others: calls, name, components, subscriptions. The link stays.
    pub(crate) fn forget(&mut self, key: PeerKey, why: &str) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (label, transport) = (peer.label(), peer.origin.transport());
        let name = std::mem::take(&mut peer.name);
        peer.address = None;
        let components = std::mem::take(&mut peer.components);
        let rows = std::mem::take(&mut peer.rows);
        let announced = rows.complete;
        if !components.is_empty() || rows.known.iter().any(|row| row.kind.is_offered()) {
            self.handle.types_changed();
        }
        let subscriptions = std::mem::take(&mut peer.subscriptions);
        peer.queue.clear();
        peer.link.reset(None);
        peer.pending_calls = 0;
        peer.round_trip_us = None;
        peer.errand = None;
        if !subscriptions.is_empty() {
            self.matches.clear();
        }
        for (call_key, call) in self.calls.take_peer(key) {
            if call_key.0 == key {
                self.cancel_call(call_key, &call);
                continue;
            }
            self.uncount_call(call_key.0);
            let text = format!("{label} is gone ({why}): '{}' was not answered", call.destination.as_str());
            self.fail_call(call_key, &call, &Error::Connection(text));
        }
        if name.is_empty() {
            return tracing::debug!("{label} is gone: {why}");
        }
        tracing::info!("{name} is gone: {why}");
        if let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.options.lossy) {
            peer.parted = Some(format!("{name} is gone: {why}"));
        }
        self.watchers.tell(|| HubEvent::PeerDown {
            name: name.clone(),
            transport: transport.to_string(),
            why: why.to_owned(),
        });
        for own in components.iter().map(|component| &component.name).chain([&name]) {
            if self.names.get(own) == Some(&key) {
                self.names.remove(own);
            }
        }
        for component in components.iter().map(|component| &component.name).chain(announced.then_some(&name))
        {
            self.announce(component, &name, false);
        }
    }

    /// The time of a peer that lingers is over, or its end is reached.
    pub(crate) fn close_lingering(&mut self, key: PeerKey, now: Instant) {
        self.lose_link(key, "it was told to go", now);
    }

    /// Tries to have a peer's link again.
    pub(crate) fn reopen(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.reopen_at = None;
        peer.presence = Presence::Here;
        peer.stuck = false;
        match peer.link.reopen(now) {
            Reopen::At(at) => peer.reopen_at = Some(at),
            Reopen::Done if self.watch_link(key).is_some() => self.poll_session(key, now),
            Reopen::Done | Reopen::Never => {
                self.clear_timer(key);
                self.peers.remove(key);
                return;
            }
        }
        self.set_timer(key, now);
    }

    /// Has the connection from the network go that has been there longest without saying who it is; `false` when there is
    /// none. It is not heard out: whoever has crowds of them could keep all others away.
    pub(crate) fn displace_stranger(&mut self, now: Instant) -> bool {
        let is_stranger =
            |peer: &Peer| matches!(peer.origin, Origin::WebSocket { .. }) && peer.name.is_empty();
        let strangers = self.peers.iter().filter(|(_, peer)| is_stranger(peer));
        let Some((key, _)) = strangers.min_by_key(|(_, peer)| peer.handshake_by) else { return false };
        let why = "all connections are taken, and this one has not authenticated: try again later";
        self.forget(key, why);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.link.close(Goodbye::Full, why);
            // As far as it goes at once.
            let _ = peer.link.flush(now);
            peer.presence = Presence::Lingering { until: now };
        }
        self.lose_link(key, why, now);
        true
    }

    /// Says goodbye to every peer.
    pub(crate) fn say_goodbye(&mut self) {
        let now = self.now();
        for key in self.peers.keys() {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let len = peer.session.close("the hub stops", now, &mut self.out);
            self.send_out(key, len, true);
            self.peers.flush(key);
            if let Some(peer) = self.peers.get_mut(key) {
                peer.link.close(Goodbye::Stopping, "the hub stops");
                let _ = peer.link.flush(now);
            }
        }
    }

    /// Ends a session that the hub does not go on with. Its peer may not be reading at the moment, so that the socket
    /// is kept a while for the goodbye; a line is kept anyway.
    fn dismiss(&mut self, key: PeerKey, kind: Goodbye, why: &str, now: Instant) {
        self.forget(key, why);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let len = peer.session.close(why, now, &mut self.out);
        peer.say_last(&self.out[..len], now);
        if !peer.options.lossy {
            peer.goodbye = Some(Box::new((kind, why.to_owned())));
            return self.linger(key, why, now);
        }
        let Ok(flushed) = peer.flush(now) else { return self.lose_link(key, why, now) };
        peer.presence = Presence::Here;
        self.watch_output(key, flushed.blocked);
    }

    /// Keeps a peer that has to go while something is left for it to read, or it is to be heard out.
    fn linger(&mut self, key: PeerKey, why: &str, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let flushed = peer.flush(now).ok();
        peer.presence = Presence::Lingering { until: now.plus_millis(LINGER_MS) };
        let lingers = peer.link.lingers();
        match flushed.filter(|flushed| flushed.left || lingers) {
            Some(flushed) if self.watch_lingering(key, lingers, flushed.blocked) => self.set_timer(key, now),
            _ => self.lose_link(key, why, now),
        }
    }

    /// Writes what is left for a peer that has to go, and hears it out where its link asks for that.
    pub(crate) fn serve_lingering(&mut self, key: PeerKey, ready: &Ready, now: Instant) {
        let flushed = self.peers.flush(key);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let lingers = peer.link.lingers();
        let mut is_over = !flushed.left && !lingers;
        if ready.input && !is_over {
            // Where the input is not watched, what is told of it is that the other end is gone; a link that signals may
            // only not know yet that nobody listens.
            self.receive.clear();
            is_over = match lingers {
                true => peer.link.receive(&mut self.receive).is_err(),
                false => !peer.options.signalled,
            };
        }
        if is_over || !self.watch_lingering(key, lingers, flushed.blocked) {
            self.close_lingering(key, now);
        }
    }

    fn watch_lingering(&self, key: PeerKey, input: bool, output: bool) -> bool {
        let Some(peer) = self.peers.get(key) else { return false };
        if peer.options.signalled {
            return true;
        }
        let fd = peer.link.fd();
        fd.is_some_and(|fd| self.poller.watch(fd, key.data().as_ffi(), input, output).is_ok())
    }

    /// The link of a peer is over: a socket's peer is removed, a line waits for its device to come back.
    fn lose_link(&mut self, key: PeerKey, why: &str, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !matches!(peer.presence, Presence::Lingering { .. })
            && peer.watched.is_some()
            && peer.link.lingers()
        {
            self.forget(key, why);
            return self.linger(key, why, now);
        }
        if let (Some(_), Some(fd)) = (peer.watched.take(), peer.link.fd()) {
            self.poller.remove(fd);
        }
        if !matches!(peer.presence, Presence::Lingering { .. }) {
            self.forget(key, why);
        }
        if let Some(peer) = self.peers.get_mut(key) {
            peer.session.reset(now);
        }
        self.reopen(key, now);
    }
}

/// How long a peer that has to go may take to read why.
const LINGER_MS: u32 = 2_000;
