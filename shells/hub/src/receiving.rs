//! What arrives: the frames of a link that is ready, and what their session makes of each. What it lets through goes on in
//! `deliver.rs`.

use std::sync::Arc;

use visorbus_auth::AuthMethod;
use visorbus_core::auth::BUS;
use visorbus_core::bus;
use visorbus_core::codec::{self, DecodeError};
use visorbus_core::frame::length::{Split, split};
use visorbus_core::message::{Address, AddressBuf, Message};
use visorbus_core::peer::refuse_frame;
use visorbus_core::session::{CloseReason, DropReason, Verdict};
use visorbus_core::{ErrorKind, Instant};

use crate::admission::check_link_key;
use crate::asking::Questions;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::link::Goodbye;
use crate::owned::Error;
use crate::peer::Presence;
use crate::peers::PeerKey;
use crate::poller::Ready;

impl Hub {
    pub(crate) fn serve_peer(&mut self, key: PeerKey, ready: &Ready, single: bool, now: Instant) {
        let presence = self.peers.get(key).map(|peer| peer.presence);
        if let Some(Presence::Lingering { .. }) = presence {
            return self.serve_lingering(key, ready, now);
        }
        if ready.output {
            self.flush(key, now);
        }
        if !ready.input || presence.is_none() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.receive);
        buffer.clear();
        let received = self.peers.get_mut(key).map(|peer| peer.link.receive(&mut buffer));
        self.follow_link_key(key, now);
        let used = self.take_frames(key, buffer.as_slice(), single, now);
        if let (Some(peer), rest @ [_, ..]) = (self.peers.get_mut(key), &buffer.as_slice()[used..]) {
            peer.link.keep(rest);
        }
        if std::mem::take(&mut self.wipes_input) {
            buffer.wipe();
        }
        self.receive = buffer;
        if let Some(Err(error)) = received {
            self.peers.lose(key, &error);
        } else if self.peers.get(key).is_some_and(|peer| peer.options.lossy) {
            self.poll_session(key, now);
            self.peers.touch(key);
        } else if self.peers.get(key).is_some_and(|peer| !peer.link.is_idle()) {
            // It has an answer of its own to write, or begins to wait for the rest of something.
            self.peers.touch(key);
        }
        self.set_timer(key, now);
    }

    /// Handles the whole frames at the front of `bytes`; returns how many bytes they were.
    fn take_frames(&mut self, key: PeerKey, bytes: &[u8], single: bool, now: Instant) -> usize {
        let max = self.config.limits.max_frame as usize;
        let mut used = 0;
        // A peer that has to go is not listened to any longer.
        while self.peers.get(key).is_some_and(|peer| peer.presence == Presence::Here) {
            match split(&bytes[used..], max) {
                Ok(Split::Frame { frame, consumed }) => {
                    used += consumed;
                    let at_once = single && used == bytes.len();
                    self.handle_frame(key, frame, at_once, now);
                }
                Ok(Split::Incomplete { .. }) => return used,
                Err(error) => {
                    let text = format!("{error}: the connection is closed");
                    self.send_error(key, &Message::request(0, BUS_ADDRESS), &Error::Protocol(text.clone()));
                    self.peers.dismiss_as(key, Goodbye::Malformed, text);
                }
            }
        }
        bytes.len()
    }

    fn handle_frame(&mut self, key: PeerKey, frame: &[u8], at_once: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.counters.taken.bytes += frame.len() as u64;
        let aliases;
        let mut decoded = codec::decode(frame);
        if let Err(DecodeError::UnknownAlias(_)) = decoded {
            aliases = Arc::clone(&peer.rows.aliases);
            let is_early = peer.options.lossy && !peer.session.is_open();
            decoded = codec::decode_with(frame, |row| address_of(&aliases, row, is_early));
        }
        let message = match &mut decoded {
            Ok(message) => {
                peer.counters.taken.count(message.message_type as u8);
                message
            }
            Err(error) => {
                peer.counters.undecodable += 1;
                tracing::debug!("{}: a frame is no message: {error}", peer.label());
                let len = refuse_frame(frame, *error, &mut self.out);
                return self.send_out(key, len, at_once);
            }
        };
        if message.is_bare() {
            message.id = peer.number();
        }
        // What its sender says of the hub's clock does not count: only the hub knows that.
        message.uncertainty_us = None;
        if peer.clock.is_some() {
            self.map_timestamp(key, message);
        }
        let message = &*message;
        if is_for_another(message) {
            return self.forward_reply(&Incoming { from: key, message: *message, at_once, now });
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Err(error) = check_link_key(peer, message) {
            self.peers.refuse(key, error.kind());
            self.audit_refused(key, Some(AuthMethod::LinkKey), &error);
            return self.send_error(key, message, &error);
        }
        match peer.session.handle(message, now, &mut self.out) {
            Verdict::Deliver => self.deliver(&Incoming { from: key, message: *message, at_once, now }),
            Verdict::Answer(len) => self.send_out(key, len, at_once),
            Verdict::Refused { answer } => {
                self.peers.refuse(key, kind_of(&self.out[..answer]));
                let Some(peer) = self.peers.get_mut(key) else { return };
                if message.destination.is_some_and(|to| to.as_str() == bus::HELLO) {
                    // Whoever says hello knows of no session; it is told in plain frames.
                    peer.link.reset(None);
                }
                self.send_out(key, answer, at_once);
            }
            Verdict::Opened { answer } => {
                self.begin_anew(key, answer, at_once);
                self.handle_opened(key, now);
            }
            Verdict::Restarted { answer } => self.begin_anew(key, answer, at_once),
            Verdict::Authenticate { token } => self.handle_token(key, message, token, now),
            Verdict::Credentials => self.handle_credentials(key, message),
            Verdict::Authenticated => {
                self.tell_revocations(key);
                self.describe_rows(key, now);
            }
            Verdict::NotAuthenticated(error) => {
                let label = peer.label();
                tracing::warn!(
                    "{label} does not accept the hub: {error}; its key differs from the one derived here"
                );
            }
            Verdict::Reply { id, outcome } => {
                let outcome = outcome.map(|payload| payload.as_bytes());
                self.handle_description(key, id, outcome, now);
            }
            Verdict::Echoed { id, stamp } => self.handle_echo(key, id, stamp),
            Verdict::Closed(CloseReason::Goodbye) if peer.options.lossy => {
                self.forget(key, "it said goodbye")
            }
            Verdict::Closed(_) => self.peers.dismiss_as(key, Goodbye::Normal, "it said goodbye"),
            Verdict::Drop(DropReason::Refused) => self.peers.refuse(key, ErrorKind::Authentication),
            Verdict::Drop(_) => self.peers.refuse(key, ErrorKind::Protocol),
        }
    }

    pub(crate) fn poll_session(&mut self, key: PeerKey, now: Instant) {
        self.prove_hub(key, now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let len = peer.session.poll_transmit(now, &mut self.out);
        self.send_out(key, len, true);
        self.poll_clock(key);
    }

    /// Ends what the session before has meant, and sends the answer to the hello. From then on nothing is lost on the way
    /// to and from a peer with which a session is open, where that can be.
    fn begin_anew(&mut self, key: PeerKey, answer: usize, at_once: bool) {
        // What the end of the earlier session brings about is written where the answer stands now.
        let answer = self.out[..answer].to_vec();
        self.forget(key, "it started again");
        if let Some(peer) = self.peers.get_mut(key) {
            peer.link.reset(peer.session.epoch());
        }
        self.out[..answer.len()].copy_from_slice(&answer);
        self.send_out(key, answer.len(), at_once);
    }
}

/// Whether a message answers what another peer, or the program, asked, and not the hub's own question: the ids of both may be the same.
fn is_for_another(message: &Message<'_>) -> bool {
    let is_for_another = |to: Address<'_>| to.component() != BUS || Questions::is_one(message.id);
    message.is_reply() && message.destination.is_some_and(is_for_another)
}

/// What a peer's alias stands for. Before hello, on a line, it may be one of a session that only the peer remembers: what
/// it sends is then read as far as it takes to ask who is there.
fn address_of(aliases: &[AddressBuf], row: u16, is_early: bool) -> Option<Address<'_>> {
    let told = aliases.get(usize::from(row)).map(AddressBuf::as_address);
    told.or(is_early.then_some(const { Address::literal(bus::NO_SUCH_ROW) }))
}

/// The kind of the Error in an answer.
fn kind_of(answer: &[u8]) -> ErrorKind {
    let kind = codec::decode(answer).ok().and_then(|error| error.payload.as_bytes().first().copied());
    kind.and_then(ErrorKind::from_code).unwrap_or(ErrorKind::Protocol)
}
