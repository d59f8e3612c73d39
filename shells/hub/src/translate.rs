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
use crate::peer::Peer;
use crate::peers::{Notice, PeerKey};
use crate::rows::Row;
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
    /// For whom: whoever publishes, notifies or asks. `None` for the program itself, which may have as much as it wants.
    payer: Option<PeerKey>,
}

impl Hub {
    /// Whether a peer has JSON and no postcard.
    pub(crate) fn has_json(&self, key: PeerKey) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.options.json)
    }

    /// The payload of a message as `to` takes it: expanded, and in its form; `None` where it may go as it is.
    ///
    /// # Errors
    /// `Message` when it cannot be expanded, or more was turned for who sends or asks than may be; `Serialization` when it
    /// is not of the address's type.
    pub(crate) fn payload_for(
        &mut self,
        message: &Message<'_>,
        from: PeerKey,
        to: PeerKey,
        typed: (Address<'_>, Side),
    ) -> Result<Option<OwnedPayload>> {
        let held = self.expanded_for(message, to)?;
        // Whoever asks also pays for the answer, so that nobody can be asked until nothing of his own arrives.
        let payer = if matches!(typed.1, Side::Answered) { to } else { from };
        let ways = Ways { from_json: self.has_json(from), to_json: self.has_json(to), payer: Some(payer) };
        if ways.from_json == ways.to_json {
            return Ok(held);
        }
        let max = self.peers.max_frame(to);
        let other = self.in_form(message, held.as_ref(), ways, typed, max)?;
        Ok(other.or(held))
    }

    /// As [`Hub::payload_for`], for a handler in the hub.
    pub(crate) fn payload_for_handler(
        &mut self,
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
        let ways = Ways { from_json: true, to_json: false, payer: Some(from) };
        let typed = (message.destination.unwrap_or(BUS_ADDRESS), Side::Taken(kind));
        self.in_form(message, None, ways, typed, self.config.limits.max_frame as usize)
    }

    /// A message of the hub's, or of a handler in it, in the form that a peer reads; what `address` answers, where it is an
    /// answer. `None` where it may go as it is.
    pub(crate) fn own_payload_for(
        &mut self,
        message: &Message<'_>,
        to: PeerKey,
        address: Address<'_>,
    ) -> Result<Option<OwnedPayload>> {
        if !self.has_json(to) {
            return Ok(None);
        }
        let (side, payer) = match message.is_reply() {
            true => (Side::Answered, Some(to)),
            false => (Side::Published, None),
        };
        let ways = Ways { from_json: false, to_json: true, payer };
        self.in_form(message, None, ways, (address, side), self.peers.max_frame(to))
    }

    /// The payload of what the program asks, or is answered, whose sender and reader have these forms: JSON where that is
    /// true. `None` where it may go as it is.
    pub(crate) fn payload_of_program(
        &mut self,
        message: &Message<'_>,
        (from_json, to_json): (bool, bool),
        typed: (Address<'_>, Side),
        max: usize,
    ) -> Result<Option<OwnedPayload>> {
        if from_json == to_json {
            return Ok(None);
        }
        self.in_form(message, None, Ways { from_json, to_json, payer: None }, typed, max)
    }

    /// The answer of a handler in the hub, in a frame, as the asker reads it; `None` where it may go as it is.
    pub(crate) fn answer_for(
        &mut self,
        asker: PeerKey,
        call: &Call,
        answer: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        self.translate_answer(asker, call.destination.as_address(), answer)
    }

    /// As [`Hub::answer_for`] of the address that was asked.
    pub(crate) fn translate_answer(
        &mut self,
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
            let ways = Ways { from_json: true, to_json: false, payer: from };
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
        let least = message.payload.as_bytes().len() / MAX_SHRINKING;
        let is_taken = |one: &Selected| self.peers.could_take(one.peer, one.number, least);
        if !json.iter().any(is_taken) {
            json.iter().for_each(|selected| self.peers.miss(selected.peer, selected.number));
            return given;
        }
        let ways = Ways { from_json: false, to_json: true, payer: from };
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

    /// Tells a peer that what it published or answered is not of the type that it told itself, if that is what is wrong,
    /// or that too much of what it sends has to be turned.
    pub(crate) fn tell_misfit(&mut self, key: PeerKey, address: Address<'_>, error: &Error) {
        let now = self.peers.now;
        let is_over = |peer: &mut Peer| peer.translating.is_spent() && peer.translating.tells(now);
        if matches!(error, Error::Serialization(_)) || self.peers.get_mut(key).is_some_and(is_over) {
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
        &mut self,
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
        let Some(shape) = self.shape_of(address, side).cloned() else { return Ok(None) };
        let payload = held.map_or(message.payload, OwnedPayload::borrow);
        if !is_turned(payload, ways) {
            return Ok(None);
        }
        self.check_budget(ways.payer)?;
        let mut work = 0;
        let turned = turned(payload, &shape, ways, max, &mut work);
        if let Some(peer) = ways.payer.and_then(|payer| self.peers.get_mut(payer)) {
            // What is refused is also told, with the type.
            peer.translating.take(work + if turned.is_err() { REFUSAL_COST } else { 0 });
        }
        turned.map_err(|misfit| refusal(address, side, &shape, &misfit))
    }

    /// Whether more may be turned for a peer at present.
    fn check_budget(&mut self, payer: Option<PeerKey>) -> Result<()> {
        let (limit, now) = (self.config.limits.translated_bytes, self.peers.now);
        let Some(peer) = payer.and_then(|payer| self.peers.get_mut(payer)) else { return Ok(()) };
        if peer.translating.has_some(now, limit) {
            return Ok(());
        }
        Err(Error::Message(format!(
            "of what this session sends and asks the hub turns at most {limit} bytes a second into JSON or postcard, \
             and that is used up: send less, or in the form that the other end reads"
        )))
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

/// Whether a payload is in one of the two forms, and that is not the other end's.
const fn is_turned(payload: MessagePayload<'_>, ways: Ways) -> bool {
    match payload {
        MessagePayload::Binary(_) => ways.to_json,
        MessagePayload::Json(_) | MessagePayload::Empty => ways.from_json,
        MessagePayload::String(_) | MessagePayload::Toml(_) => false,
    }
}

/// A payload in the form of the other end; `None` where it is in that form already, or in none of the two. Adds to `work`
/// what it has cost.
fn turned(
    payload: MessagePayload<'_>,
    shape: &Shape,
    ways: Ways,
    max: usize,
    work: &mut usize,
) -> std::result::Result<Option<OwnedPayload>, Misfit> {
    Ok(match payload {
        MessagePayload::Binary(bytes) if ways.to_json => {
            Some(OwnedPayload::Json(shape.to_json_counted(bytes, max, work)?))
        }
        MessagePayload::Json(json) if ways.from_json => {
            Some(OwnedPayload::Binary(shape.to_postcard_counted(json, max, work)?))
        }
        // Nothing is the same as null, which some types have.
        MessagePayload::Empty if ways.from_json => {
            let bytes = shape.to_postcard_counted("null", max, work)?;
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

/// JSON is at least as long as its postcard divided by this: eight bytes of a number may be written as `0.0`.
const MAX_SHRINKING: usize = 4;
/// What it costs to refuse a payload, in bytes.
const REFUSAL_COST: usize = 1024;
