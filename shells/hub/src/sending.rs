//! What the hub itself sends: answers, errors, what a session has to say. What passes through is in `deliver.rs`.

use visorbus_core::codec::{self, MAX_HEADER};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::Message;
use visorbus_core::{IpcError, MessagePriority};

use crate::asking::is_of_program;
use crate::calls::{Call, CallKey};
use crate::hub::{BUS_ADDRESS, Hub};
use crate::owned::Error;
use crate::peers::{PeerKey, Unsent};

impl Hub {
    /// Sends the frame in [`Hub::out`] to a peer; nothing when `len` is 0. A peer that cannot have it has to go.
    pub(crate) fn send_out(&mut self, key: PeerKey, len: usize, at_once: bool) {
        if let Err(unsent) = self.try_send_out(key, len, at_once) {
            self.dismiss_unsent(key, unsent);
        }
    }

    /// Sends the answer to `request` that is in [`Hub::out`]; nothing when `len` is 0. The asker is told when it is too
    /// long for it.
    pub(crate) fn send_answer(&mut self, key: PeerKey, request: &Message<'_>, len: usize, at_once: bool) {
        match self.try_send_out(key, len, at_once) {
            Ok(()) => {}
            Err(Unsent::TooLong { max }) => self.send_error(key, request, &too_long_answer(len, max)),
            Err(unsent) => self.dismiss_unsent(key, unsent),
        }
    }

    /// Answers a message with an error, if anybody waits for one.
    pub(crate) fn send_error(&mut self, key: PeerKey, message: &Message<'_>, error: &Error) {
        if !message.wants_answer() {
            return;
        }
        // A text that is too long for the peer is cut to what it takes.
        let max = self.peers.max_frame(key).min(self.out.len());
        let error = IpcError::new(error.kind(), error.text().as_str());
        let len = codec::encode_error(message, &error, &mut self.out[..max]).unwrap_or(0);
        self.send_out(key, len, true);
    }

    /// Answers a request that was on its way, in its callee's place.
    pub(crate) fn fail_call(&mut self, (caller, id): CallKey, call: &Call, error: &Error) {
        if is_of_program((caller, id)) {
            return self.end_question(id, Err(error.clone()));
        }
        self.send_error(caller, &request_of(id, call), error);
    }

    /// Brings the answer of a handler of the hub's to who waits for it.
    pub(crate) fn answer_call(&mut self, (caller, id): CallKey, call: &Call, answer: &[u8]) {
        if is_of_program((caller, id)) {
            return self.take_handlers_answer(id, call.destination.as_address(), answer);
        }
        let translated = match self.answer_for(caller, call, answer) {
            Ok(translated) => translated,
            Err(error) => return self.fail_call((caller, id), call, &error),
        };
        let answer = translated.as_deref().unwrap_or(answer);
        match self.peers.send(caller, answer, &[], call.priority, true) {
            Ok(()) => {}
            Err(Unsent::TooLong { max }) => {
                self.fail_call((caller, id), call, &too_long_answer(answer.len(), max));
            }
            Err(unsent) => self.dismiss_unsent(caller, unsent),
        }
    }

    /// Parts from a peer that did not get what it must not miss.
    pub(crate) fn dismiss_unsent(&mut self, key: PeerKey, unsent: Unsent) {
        match unsent {
            Unsent::Gone => {}
            Unsent::Full { waiting } => {
                self.peers.dismiss(key, format!("it does not read its answers: {waiting} bytes wait for it"));
            }
            Unsent::TooLong { max } => {
                let text = format!("it takes frames of at most {max} bytes, too few for what must be said");
                self.peers.dismiss(key, text);
            }
        }
    }

    /// Sends a notification of the hub's that its peer can do without.
    pub(crate) fn send_notice(&mut self, key: PeerKey, notice: &Message<'_>) {
        let len = codec::encode(notice, &mut self.out).unwrap_or(0);
        // One that does not read is told of nothing else either.
        let _ = self.try_send_out(key, len, false);
    }

    fn try_send_out(&mut self, key: PeerKey, len: usize, at_once: bool) -> Result<(), Unsent> {
        if len == 0 {
            return Ok(());
        }
        let priority = MessagePriority::from_code(self.out[0] >> 3);
        self.peers.send(key, &self.out[..len], &[], priority, at_once)
    }
}

/// The header of a message that passes the hub, in a buffer of its own; the payload follows from where it is.
pub(crate) struct Head {
    bytes: [u8; MAX_HEADER + MAX_TOKEN + 2],
    len: usize,
}

impl Head {
    /// `None` for what cannot be: the buffer fits every header.
    pub(crate) fn new(message: &Message<'_>) -> Option<Self> {
        Self::to_row(message, None)
    }

    /// As [`Head::new`], the destination as the alias of that row where there is one.
    pub(crate) fn to_row(message: &Message<'_>, row: Option<u16>) -> Option<Self> {
        let mut head = Self { bytes: [0; MAX_HEADER + MAX_TOKEN + 2], len: 0 };
        head.len = codec::encode_header_to(message, row, &mut head.bytes).ok()?;
        Some(head)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// As much of a request that passed as its answer needs.
fn request_of(id: u64, call: &Call) -> Message<'_> {
    let mut request = Message::request(id, BUS_ADDRESS);
    request.source = Some(call.source.as_address());
    request.flags.priority = call.priority;
    request
}

pub(crate) fn too_long_answer(len: usize, max: usize) -> Error {
    Error::Message(format!("the answer has {len} bytes, this session takes frames of at most {max}"))
}
