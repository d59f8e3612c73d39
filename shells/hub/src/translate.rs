//! Typed addresses for peers that have JSON and no postcard: what goes between one of them and one that has postcard is
//! turned into the other form here, by the type that the address's owner told, and once however many want it. Between two
//! of the same kind everything passes as it is, and so does what has no known type, or is encrypted.

use serde::Serialize;
use visorbus_core::bus::RowKind;
use visorbus_core::message::{Address, Message, MessageFlags, MessagePayload, MessageType};
use visorbus_core::{Instant, codec};

use crate::calls::Call;
use crate::expand::with_plain;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::owned::{Error, OwnedPayload, Result};
use crate::peers::{Notice, PeerKey, Row};
use crate::schema::{Misfit, Shape};
use crate::sending::Head;
use crate::subscriptions::Selected;

/// What an address takes, publishes or answers with, and the words for it.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// What goes to an endpoint, or to a topic that its owner hears.
    Taken(RowKind),
    /// What an endpoint answers with.
    Answered,
    /// What the owner of a topic publishes.
    Published,
}

/// Which way a payload is turned: one of the two is so.
#[derive(Clone, Copy)]
struct Ways {
    from_json: bool,
    to_json: bool,
}

impl Hub {
    /// Whether a peer has JSON and no postcard.
    pub(crate) fn has_json(&self, key: PeerKey) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.options.json)
    }

    /// The payload of a message as `to` takes it: expanded, and in its form; `None` where it may go as it is.
    ///
    /// # Errors
    /// `Message` when it cannot be expanded, `Serialization` when it is not of the address's type.
    pub(crate) fn payload_for(
        &self,
        message: &Message<'_>,
        from: PeerKey,
        to: PeerKey,
        typed: (Address<'_>, Side),
    ) -> Result<Option<OwnedPayload>> {
        let held = self.expanded_for(message, to)?;
        let ways = Ways { from_json: self.has_json(from), to_json: self.has_json(to) };
        if ways.from_json == ways.to_json {
            return Ok(held);
        }
        let max = self.peers.max_frame(to);
        let other = self.in_form(message, held.as_ref(), ways, typed, max)?;
        Ok(other.or(held))
    }

    /// As [`Hub::payload_for`], for a handler in the hub.
    pub(crate) fn payload_for_handler(
        &self,
        message: &Message<'_>,
        from: PeerKey,
    ) -> Result<Option<OwnedPayload>> {
        if !self.has_json(from) {
            return Ok(None);
        }
        let kind = match message.message_type {
            MessageType::Request => RowKind::Endpoint,
            _ => RowKind::Hears,
        };
        let ways = Ways { from_json: true, to_json: false };
        let typed = (message.destination.unwrap_or(BUS_ADDRESS), Side::Taken(kind));
        self.in_form(message, None, ways, typed, self.config.limits.max_frame as usize)
    }

    /// A message of the hub's, or of a handler in it, in the form that a peer reads; what `address` answers, where it is an
    /// answer. `None` where it may go as it is.
    pub(crate) fn own_payload_for(
        &self,
        message: &Message<'_>,
        to: PeerKey,
        address: Address<'_>,
    ) -> Result<Option<OwnedPayload>> {
        if !self.has_json(to) {
            return Ok(None);
        }
        let side = if message.is_reply() { Side::Answered } else { Side::Published };
        let ways = Ways { from_json: false, to_json: true };
        self.in_form(message, None, ways, (address, side), self.peers.max_frame(to))
    }

    /// The answer of a handler in the hub, in a frame, as the asker reads it; `None` where it may go as it is.
    pub(crate) fn answer_for(&self, asker: PeerKey, call: &Call, answer: &[u8]) -> Result<Option<Vec<u8>>> {
        self.translate_answer(asker, call.destination.as_address(), answer)
    }

    /// As [`Hub::answer_for`] of the address that was asked.
    pub(crate) fn translate_answer(
        &self,
        asker: PeerKey,
        address: Address<'_>,
        answer: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if !self.has_json(asker) {
            return Ok(None);
        }
        let Ok(message) = codec::decode(answer) else { return Ok(None) };
        let Some(payload) = self.own_payload_for(&message, asker, address)? else { return Ok(None) };
        let Some(head) = Head::new(&with_plain(&message, &payload)) else { return Ok(None) };
        Ok(Some([head.as_slice(), payload.borrow().as_bytes()].concat()))
    }

    /// `value` as a peer reads it.
    ///
    /// # Errors
    /// `Serialization` when it has no such form.
    pub(crate) fn value_for<T: Serialize>(&self, key: PeerKey, value: &T) -> Result<OwnedPayload> {
        if self.has_json(key) { OwnedPayload::json(value) } else { OwnedPayload::postcard(value) }
    }

    /// Publishes what the hub itself has to say, to each in its form.
    pub(crate) fn publish_own<T: Serialize>(&mut self, topic: Address<'_>, value: &T) {
        let selected = self.matches.find(topic, &self.peers);
        if selected.is_empty() {
            return;
        }
        let mut message = Message::notification(self.take_id(), topic);
        message.source = Some(BUS_ADDRESS);
        let now = self.now();
        for json in [false, true] {
            let some: Vec<Selected> = selected.iter().filter(|one| one.json == json).copied().collect();
            if some.is_empty() {
                continue;
            }
            let payload = if json { OwnedPayload::json(value) } else { OwnedPayload::postcard(value) };
            if let Ok(payload) = payload {
                self.give(&some, &message.with_payload(payload.borrow()), false, now);
            }
        }
    }

    /// As [`Hub::publish`] where the publisher or some of these subscribers have JSON and no postcard. What one of them
    /// publishes that is not of the topic's type goes to nobody.
    pub(crate) fn publish_translated(
        &mut self,
        from: Option<PeerKey>,
        message: &Message<'_>,
        all: &[Selected],
        notice: &Notice<'_>,
        now: Instant,
    ) -> Result<()> {
        let (json, plain): (Vec<Selected>, Vec<Selected>) = all.iter().partition(|selected| selected.json);
        let topic = message.destination.unwrap_or(BUS_ADDRESS);
        let typed = (topic, Side::Published);
        let max = self.config.limits.max_frame as usize;
        if from.is_some_and(|from| self.has_json(from)) {
            let ways = Ways { from_json: true, to_json: false };
            let is_open = !message.flags.encrypted;
            let expanded = if is_open { self.expanded_for_all(message)? } else { None };
            let message = &expanded.as_ref().map_or(*message, |payload| with_plain(message, payload));
            let held = self.in_form(message, None, ways, typed, max)?;
            let typed = held.as_ref().map_or(*message, |payload| with_plain(message, payload));
            self.give(&plain, &typed, notice.at_once, now);
            self.give(&json, message, notice.at_once, now);
            return Ok(());
        }
        let given = match message.flags.compressed {
            true => self.publish_compressed(&plain, message, notice),
            false => {
                plain.iter().for_each(|selected| self.peers.publish(selected.peer, selected.number, notice));
                Ok(())
            }
        };
        let ways = Ways { from_json: false, to_json: true };
        let held = self.expanded_for_all(message).and_then(|held| {
            let other = self.in_form(message, held.as_ref(), ways, typed, max)?;
            Ok(other.or(held))
        });
        match held {
            Ok(None) => self.give(&json, message, notice.at_once, now),
            Ok(Some(payload)) => self.give(&json, &with_plain(message, &payload), notice.at_once, now),
            Err(error) => {
                json.iter().for_each(|selected| self.peers.miss(selected.peer, selected.number));
                return Err(error);
            }
        }
        given
    }

    /// Tells a peer that what it published or answered is not of the type that it told itself, if that is what is wrong.
    pub(crate) fn tell_misfit(&mut self, key: PeerKey, address: Address<'_>, error: &Error) {
        if matches!(error, Error::Serialization(_)) {
            self.tell_mismatch(key, address, error);
        }
    }

    /// Gives a notification to these subscribers as it is.
    fn give(&mut self, all: &[Selected], message: &Message<'_>, at_once: bool, now: Instant) {
        let flags = MessageFlags { requires_response: false, timeout_ms: None, ..message.flags };
        let Some(head) = Head::new(&Message { flags, auth_token: None, ..*message }) else { return };
        let notice = Notice {
            topic: message.destination.map_or("", Address::as_str),
            head: head.as_slice(),
            payload: message.payload.as_bytes(),
            priority: flags.priority,
            at_once,
            unix_s: self.unix_s(now),
        };
        all.iter().for_each(|selected| self.peers.publish(selected.peer, selected.number, &notice));
    }

    /// The payload in its other form, `held` being what was expanded of it; `None` where it is not to be turned.
    fn in_form(
        &self,
        message: &Message<'_>,
        held: Option<&OwnedPayload>,
        ways: Ways,
        (address, side): (Address<'_>, Side),
        max: usize,
    ) -> Result<Option<OwnedPayload>> {
        let is_closed = message.flags.encrypted || (message.flags.compressed && held.is_none());
        if is_closed || message.message_type == MessageType::Error {
            return Ok(None);
        }
        let Some(shape) = self.shape_of(address, side) else { return Ok(None) };
        let payload = held.map_or(message.payload, OwnedPayload::borrow);
        turned(payload, shape, ways, max).map_err(|misfit| refusal(address, side, shape, &misfit))
    }

    /// What is known of the type.
    fn shape_of(&self, address: Address<'_>, side: Side) -> Option<&Shape> {
        let row = |kind| self.row_of(address, kind);
        match side {
            Side::Taken(kind) => row(kind).and_then(taken),
            Side::Published => row(RowKind::Publishes).and_then(taken),
            Side::Answered => row(RowKind::Endpoint)?.response_schema.shape(),
        }
    }
}

/// As much of an incoming message as tells which type it has.
pub(crate) fn typed<'m>(incoming: &Incoming<'m>, kind: RowKind) -> (Address<'m>, Side) {
    (incoming.message.destination.unwrap_or(BUS_ADDRESS), Side::Taken(kind))
}

fn taken(row: &Row) -> Option<&Shape> {
    row.request_schema.shape()
}

/// A payload in the form of the other end; `None` where it is in that form already, or in none of the two.
fn turned(
    payload: MessagePayload<'_>,
    shape: &Shape,
    ways: Ways,
    max: usize,
) -> std::result::Result<Option<OwnedPayload>, Misfit> {
    Ok(match payload {
        MessagePayload::Binary(bytes) if ways.to_json => Some(OwnedPayload::Json(shape.to_json(bytes, max)?)),
        MessagePayload::Json(json) if ways.from_json => {
            Some(OwnedPayload::Binary(shape.to_postcard(json, max)?))
        }
        // Nothing is the same as null, which some types have.
        MessagePayload::Empty if ways.from_json => {
            let bytes = shape.to_postcard("null", max)?;
            (!bytes.is_empty()).then_some(OwnedPayload::Binary(bytes))
        }
        _ => None,
    })
}

fn refusal(address: Address<'_>, side: Side, shape: &Shape, misfit: &Misfit) -> Error {
    let verb = match side {
        Side::Taken(_) => "takes",
        Side::Answered => "answers with",
        Side::Published => "publishes",
    };
    let what = if matches!(side, Side::Answered) { "what it answered" } else { "what was sent" };
    Error::Serialization(format!("'{address}' {verb} {shape}, and {what} is not that: {misfit}"))
}
