//! What the program that the hub runs in asks itself: of peers and of handlers, as their callers do, but from no session.

use std::sync::Arc;

use visorbus_auth::{Asked, AuthorizationProvider, Denial, Permission};
use visorbus_core::auth::{BUS, Grant};
use visorbus_core::bus::RowKind;
use visorbus_core::message::{Address, AddressBuf, Message, MessageType};
use visorbus_core::{Instant, codec};

use crate::HashMap;
use crate::calls::{Call, CallKey, Callee};
use crate::deliver::{answer_payload, too_long_header};
use crate::expand::with_plain;
use crate::gate::{Gate, OwnedGate};
use crate::handle::Outcome;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::owned::{Error, OwnedMessage, OwnedPayload, Result};
use crate::peers::{Frame, PeerKey};
use crate::queue::Timed;
use crate::sending::Head;
use crate::translate::Side;

/// What the program has asked and nobody has answered yet, by the ids of the requests.
#[derive(Default)]
pub(crate) struct Questions {
    waiting: HashMap<u64, Question>,
    asked: u64,
}

struct Question {
    outcome: Outcome<OwnedMessage>,
    /// It was asked in JSON, and so is to be answered.
    json: bool,
}

impl Questions {
    /// Whether an answer to the hub with this id is one to the program, and not to the session's own question.
    pub(crate) const fn is_one(id: u64) -> bool {
        id >= FIRST_QUESTION
    }

    fn is_json(&self, id: u64) -> bool {
        self.waiting.get(&id).is_some_and(|question| question.json)
    }

    fn take_id(&mut self) -> u64 {
        self.asked += 1;
        FIRST_QUESTION + self.asked
    }
}

impl Hub {
    /// Asks what the program wants to know; the outcome is told when it is there.
    pub(crate) fn begin_question(
        &mut self,
        message: &OwnedMessage,
        timeout_ms: u32,
        outcome: Outcome<OwnedMessage>,
        now: Instant,
    ) {
        let id = self.questions.take_id();
        let limit = self.config.limits.pending_calls;
        let is_full = self.questions.waiting.len() >= limit;
        let json = matches!(message.payload, OwnedPayload::Json(_));
        self.questions.waiting.insert(id, Question { outcome, json });
        let asked = match is_full {
            true => Err(Error::Message(format!(
                "{limit} requests of this program wait for their answers, the limit: wait for some"
            ))),
            false => self.try_ask(id, message, timeout_ms, now),
        };
        if let Err(error) = asked {
            self.end_question(id, Err(error));
        }
    }

    /// Tells the program what came of a question.
    pub(crate) fn end_question(&mut self, id: u64, outcome: Result<OwnedMessage>) {
        if let Some(question) = self.questions.waiting.remove(&id) {
            // Whoever asked may not wait any more.
            let _ = question.outcome.send(outcome);
        }
    }

    /// Brings the answer of a peer to the program; `false` where that has not asked this peer, or waits no more.
    pub(crate) fn take_answer(&mut self, incoming: &Incoming<'_>) -> bool {
        let Incoming { from, ref message, now, .. } = *incoming;
        let Some(call) = self.end_call((program(), message.id), Callee::Peer(from)) else { return false };
        self.tally.peers.note(call.began, now);
        let outcome = self.read_answer(from, message, &call);
        if let Err(error) = &outcome
            && message.message_type != MessageType::Error
        {
            self.tell_misfit(from, call.destination.as_address(), error);
        }
        self.end_question(message.id, outcome);
        true
    }

    /// As [`Hub::take_answer`] of a handler in the hub, whose answer is in a frame.
    pub(crate) fn take_handlers_answer(&mut self, id: u64, address: Address<'_>, answer: &[u8]) {
        let outcome = match codec::decode(answer) {
            Ok(message) => self.read_handlers_answer(id, &message, address),
            Err(_) => Err(Error::Internal(format!("the handler of '{address}' has not answered"))),
        };
        self.end_question(id, outcome);
    }

    fn try_ask(&mut self, id: u64, message: &OwnedMessage, timeout_ms: u32, now: Instant) -> Result<()> {
        let wrong = |text: &str| Err(Error::Message(text.to_owned()));
        let mut request = message.borrow()?;
        if request.message_type != MessageType::Request {
            return wrong("only a request has an answer: send_message and publish are for notifications");
        }
        if request.flags.encrypted {
            return wrong("a hub has no key to encrypt a payload with");
        }
        let source = request.source.unwrap_or(BUS_ADDRESS);
        if source.component() != BUS && !self.registry.contains(source.component()) {
            return wrong(
                "who asks is no handler of the hub's: register it first, or leave the source empty",
            );
        }
        let to = request.destination.filter(|to| to.component() != BUS);
        let Some(to) = to else { return wrong("the hub itself is asked by the methods of its handle") };
        request.id = id;
        request.source = Some(source);
        request.flags.compressed = false;
        request.flags.requires_response = true;
        let timeout_ms = timeout_ms.min(self.config.limits.max_request_ms).max(1);
        request.flags.timeout_ms = Some(timeout_ms);
        let json = self.questions.is_json(id);
        if self.registry.contains(to.component()) {
            return self.ask_handler(&request, json, now);
        }
        match self.names.get(to.component()).copied() {
            Some(peer) => self.ask_peer(&request, json, peer, now),
            None => {
                let component = to.component();
                Err(Error::Message(format!("nobody serves '{component}': bus/services lists who is there")))
            }
        }
    }

    fn ask_peer(&mut self, request: &Message<'_>, json: bool, to: PeerKey, now: Instant) -> Result<()> {
        let address = request.destination.unwrap_or(BUS_ADDRESS);
        let peer = self.peers.get(to).filter(|peer| peer.rows.complete);
        let Some(peer) = peer else {
            let component = address.component();
            return Err(Error::Connection(format!("'{component}' has only just connected: try again")));
        };
        let row = peer.alias_of(request.destination);
        let forms = (json, self.has_json(to));
        let typed = (address, Side::Taken(RowKind::Endpoint));
        let held = self.payload_of_program(request, forms, typed, self.peers.max_frame(to))?;
        let request = &held.as_ref().map_or(*request, |payload| with_plain(request, payload));
        let key = (program(), request.id);
        let timeout_ms = request.flags.timeout_ms.unwrap_or_default();
        let deadline = now.plus_millis(timeout_ms);
        let head = Head::to_row(request, row).ok_or_else(too_long_header)?;
        let (head, payload) = (head.as_slice(), request.payload.as_bytes());
        self.count(request);
        self.calls.insert(key, call(request, Callee::Peer(to), now, deadline));
        let timed = Timed::new(key, deadline, timeout_ms, head.len(), request.auth_token);
        let priority = request.flags.priority;
        let frame = Frame { head, payload, priority, at_once: true, call: Some(timed) };
        self.peers.send_frame(to, &frame).map_err(|unsent| {
            self.end_call(key, Callee::Peer(to));
            self.unsent_error(to, head.len() + payload.len(), unsent)
        })
    }

    fn ask_handler(&mut self, request: &Message<'_>, json: bool, now: Instant) -> Result<()> {
        let address = request.destination.unwrap_or(BUS_ADDRESS);
        let max = self.config.limits.max_frame as usize;
        let typed = (address, Side::Taken(RowKind::Endpoint));
        let held = self.payload_of_program(request, (json, false), typed, max)?;
        let request = &held.as_ref().map_or(*request, |payload| with_plain(request, payload));
        let gate = Gate::of_program(&Program, self.unix_s(now));
        if !self.registry.may_block(address.component()) {
            let ran = self.registry.run(&gate, request, &mut self.out).outcome;
            let dispatched = ran.map_err(|denied| denied.error)?;
            self.count(request);
            let answer = self.out[..dispatched.answer].to_vec();
            self.take_handlers_answer(request.id, address, &answer);
            return Ok(());
        }
        if request.source.map(Address::component) == Some(address.component()) {
            let component = address.component();
            return Err(Error::Message(format!(
                "'{component}' asks itself: it would wait for itself, because it does one thing at a time"
            )));
        }
        let policy: Arc<dyn AuthorizationProvider> = Arc::new(Program);
        let gate = OwnedGate::new(&policy, &gate);
        let head = Head::new(request).ok_or_else(too_long_header)?;
        let frame = [head.as_slice(), request.payload.as_bytes()].concat().into();
        self.run_on_pool((program(), request.id), address.component(), gate, frame, |hub, callee| {
            let deadline = now.plus_millis(request.flags.timeout_ms.unwrap_or_default());
            hub.calls.insert((program(), request.id), call(request, callee, now, deadline));
            Ok(())
        })
    }

    /// What a peer has answered, in the form in which it was asked.
    fn read_answer(&mut self, from: PeerKey, message: &Message<'_>, call: &Call) -> Result<OwnedMessage> {
        if message.message_type == MessageType::Error {
            return Err(
                visorbus_core::IpcError::from_payload(&answer_payload(message, call)).map(String::from)
            );
        }
        let address = call.destination.as_address();
        let plain = match message.flags.encrypted || message.flags.compressed {
            true => Some(self.plain_for_hub(message)?),
            false => None,
        };
        let message = &plain.as_ref().map_or(*message, |payload| with_plain(message, payload));
        let forms = (self.has_json(from), self.questions.is_json(message.id));
        let max = self.config.limits.max_frame as usize;
        let held = self.payload_of_program(message, forms, (address, Side::Answered), max)?;
        let source = self.peers.get(from).and_then(|peer| peer.address.as_ref()).map(AddressBuf::as_address);
        let message = held.as_ref().map_or(*message, |payload| with_plain(message, payload));
        Ok(OwnedMessage::from(&Message { source, auth_token: None, ..message }))
    }

    fn read_handlers_answer(
        &mut self,
        id: u64,
        message: &Message<'_>,
        address: Address<'_>,
    ) -> Result<OwnedMessage> {
        if message.message_type == MessageType::Error {
            let error = visorbus_core::IpcError::from_payload(message.payload.as_bytes());
            return Err(error.map(String::from));
        }
        let forms = (false, self.questions.is_json(id));
        let max = self.config.limits.max_frame as usize;
        let held = self.payload_of_program(message, forms, (address, Side::Answered), max)?;
        let message = held.as_ref().map_or(*message, |payload| with_plain(message, payload));
        Ok(OwnedMessage::from(&message))
    }
}

/// The program's own decision: it may ask what it wants, as it could do without its hub.
pub(crate) struct Program;

impl AuthorizationProvider for Program {
    fn is_authorized<'a>(&self, _: &Asked<'a>) -> std::result::Result<(), Denial<'a>> {
        Ok(())
    }

    fn permissions(&self, _: &Grant) -> Vec<Permission> {
        Vec::new()
    }
}

/// Whether a call is the program's own.
pub(crate) fn is_of_program((caller, _): CallKey) -> bool {
    caller == program()
}

fn call(request: &Message<'_>, callee: Callee, began: Instant, deadline: Instant) -> Call {
    let own = |address: Option<Address<'_>>| AddressBuf::from(address.unwrap_or(BUS_ADDRESS));
    let (source, destination) = (own(request.source), own(request.destination));
    Call { callee, began, deadline, source, destination, priority: request.flags.priority }
}

/// Whoever asks without a session: the key of no peer.
fn program() -> PeerKey {
    PeerKey::default()
}

/// A session's own questions to its peer are numbered from 1 and do not get here.
const FIRST_QUESTION: u64 = 1 << 28;
