//! What is said over one WebSocket: messages, pings and their answers, the close at either end (RFC 6455, sections 5
//! to 7). Bytes in, bytes out; knows no socket and no clock.

use std::io;

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::frames::{
    Assembler, Event, Fault, Rules, blank, wipe, write_close, write_control, write_head, write_payload,
};
use crate::json::Refusal;
use crate::mask::Masks;
use crate::protocol::Subprotocol;

/// One end's view of a WebSocket.
///
/// What has to be written waits in [`Dialog::output`]. Its owner bounds what it adds to that; what is added by itself is
/// bounded here: of pings that nobody reads the answers to, only the last is answered.
pub(crate) struct Dialog {
    assembler: Assembler,
    protocol: Subprotocol,
    output: Vec<u8>,
    start: usize,
    /// What is to be answered to a ping once there is room.
    pong: Option<Box<[u8]>>,
    state: State,
    /// Of a client.
    masks: Option<Box<Masks>>,
    accepted: u64,
    /// Something whole has come since this was asked last.
    has_heard: bool,
}

/// How far the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    /// This end has said that it ends; the other end's word is waited for.
    Closing,
    /// The other end broke a rule and was told so; what it still sends means nothing.
    Broken(Fault),
    /// Both have said that it ends; what the other end gave as its reason.
    Over(Option<u16>, Box<str>),
}

impl Dialog {
    /// The end of a server, to which clients send messages of at most `max` bytes.
    pub(crate) const fn server(protocol: Subprotocol, max: usize) -> Self {
        Self::new(Rules { masked: true, protocol, max }, None)
    }

    /// The end of a client.
    pub(crate) fn client(protocol: Subprotocol, max: usize) -> Self {
        Self::new(Rules { masked: false, protocol, max }, Some(Box::default()))
    }

    /// Takes messages of at most `max` bytes from now on.
    pub(crate) const fn allow(&mut self, max: usize) {
        self.assembler.allow(max);
    }

    const fn new(rules: Rules, masks: Option<Box<Masks>>) -> Self {
        Self {
            assembler: Assembler::new(rules),
            protocol: rules.protocol,
            output: Vec::new(),
            start: 0,
            pong: None,
            state: State::Open,
            masks,
            accepted: 0,
            has_heard: false,
        }
    }

    /// Takes what has arrived, gives each message in it to `take`, and does what it says to be answered. The bytes are
    /// unmasked where they are.
    pub(crate) fn handle(
        &mut self,
        bytes: &mut [u8],
        mut take: impl FnMut(Event<'_>) -> Result<(), Refusal>,
    ) {
        let mut used = 0;
        while matches!(self.state, State::Open | State::Closing) {
            let is_open = self.state == State::Open;
            let event = match self.assembler.next(bytes, &mut used) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(fault) => return self.fail(fault),
            };
            self.has_heard = true;
            match event {
                Event::Ping(content) if is_open => self.pong = Some(content.into()),
                Event::Ping(_) | Event::Pong => {}
                Event::Close(code, text) => {
                    let text = text.chars().filter(|c| !c.is_control()).collect();
                    return self.end(code, text);
                }
                message if is_open => {
                    if let Err(refusal) = take(message) {
                        self.refuse(&refusal);
                    }
                }
                // It was sent before the other end knew.
                _ => {}
            }
            self.answer_ping();
        }
    }

    /// Adds one message, in two parts.
    pub(crate) fn send(&mut self, head: &[u8], payload: &[u8]) {
        if self.state != State::Open {
            return;
        }
        let kind = if self.protocol == Subprotocol::Json { Data::Text } else { Data::Binary };
        let mut mask = self.masks.as_mut().map(|masks| masks.take());
        self.make_room(head.len() + payload.len());
        let before = self.output.len();
        write_head(OpCode::Data(kind), head.len() + payload.len(), mask, &mut self.output);
        write_payload(head, &mut mask, &mut self.output);
        write_payload(payload, &mut mask, &mut self.output);
        self.accepted += (self.output.len() - before) as u64;
    }

    /// Asks whether the other end is there.
    pub(crate) fn ping(&mut self) {
        if self.state == State::Open {
            self.control(Control::Ping, &[]);
        }
    }

    /// Ends the connection; nothing is sent after that.
    pub(crate) fn close(&mut self, code: u16, text: &str) {
        if self.state == State::Open {
            self.state = State::Closing;
            self.say_close(Some(code), text);
        }
    }

    /// Ends the connection without waiting for the other end's word.
    pub(crate) fn part(&mut self, code: u16, text: &str) {
        self.close(code, text);
        self.state = State::Over(Some(code), text.into());
    }

    /// Ends the connection for what the other end did.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if self.state == State::Open {
            self.say_close(Some(fault.code()), &fault.to_string());
        }
        if !self.is_over() {
            self.state = State::Broken(fault);
        }
    }

    /// What has to be written.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.start..]
    }

    /// Gives [`Dialog::output`] to `write`, which says how much of it was taken, as far as it goes; `true` when nothing is left.
    pub(crate) fn write_to(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        while !self.output().is_empty() {
            match write(self.output())? {
                0 => return Ok(false),
                count => self.written(count),
            }
        }
        Ok(true)
    }

    /// The first `count` bytes of [`Dialog::output`] are written.
    pub(crate) fn written(&mut self, count: usize) {
        let end = (self.start + count).min(self.output.len());
        // There may have been a secret in it.
        blank(&mut self.output[self.start..end]);
        self.start = end;
        if self.start >= self.output.len() {
            // An idle connection holds no buffer.
            self.output = Vec::new();
            self.start = 0;
        }
        self.answer_ping();
    }

    /// How many bytes were ever put into [`Dialog::output`].
    pub(crate) const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Whether something has come since this was asked last.
    pub(crate) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.has_heard)
    }

    /// A number for the message that has begun and is not whole: the same for as long as it is the same.
    pub(crate) const fn unfinished(&self) -> Option<u32> {
        self.assembler.unfinished()
    }

    /// Whether neither end has ended the connection.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether this end has ended the connection, and the other end may not know yet.
    pub(crate) const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing | State::Broken(_))
    }

    /// Whether the other end broke a rule, so that nothing that it sends means anything.
    pub(crate) const fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }

    /// Whether both ends have ended it: this one may hang up.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over(..))
    }

    /// How the other end has ended the connection, `None` while it has not: `UnexpectedEof` for a normal end.
    pub(crate) fn end_reason(&self) -> Option<io::Error> {
        match &self.state {
            State::Open | State::Closing => None,
            State::Broken(fault) => Some(io::Error::new(io::ErrorKind::InvalidData, fault.to_string())),
            State::Over(None | Some(1000 | 1001), _) => Some(io::ErrorKind::UnexpectedEof.into()),
            State::Over(Some(code), said) => {
                let said = if said.is_empty() { meaning(*code) } else { said };
                let text = format!("the other end closed the connection: {said} (close code {code})");
                Some(io::Error::new(io::ErrorKind::ConnectionAborted, text))
            }
        }
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.output.capacity() + self.assembler.held()
    }

    /// All that is in the memory of [`Dialog::output`].
    #[cfg(test)]
    pub(crate) fn everything(&self) -> &[u8] {
        &self.output
    }

    /// The other end has ended the connection.
    fn end(&mut self, code: Option<u16>, text: Box<str>) {
        if self.state == State::Open {
            self.say_close(code, "");
        }
        self.state = State::Over(code, text);
    }

    fn refuse(&mut self, refusal: &Refusal) {
        match &refusal.reply {
            Some(_) if self.output().len() > OWN_ROOM => return self.fail(Fault::NotReading),
            Some(reply) => self.send(reply.as_bytes(), &[]),
            None => {}
        }
        if let Some(code) = refusal.close {
            self.fail(Fault::Refused(code));
        }
    }

    /// Answers a ping where there is room: of many, the last is enough (section 5.5.3).
    fn answer_ping(&mut self) {
        if self.state == State::Open
            && self.output().len() <= OWN_ROOM
            && let Some(content) = self.pong.take()
        {
            self.control(Control::Pong, &content);
        }
    }

    /// Room for a frame of `len` bytes of payload; where memory is exchanged for it, nothing stays in the old.
    fn make_room(&mut self, len: usize) {
        let more = len + MAX_HEAD;
        if self.output.capacity() - self.output.len() >= more {
            return;
        }
        let waiting = self.output();
        let mut output = Vec::with_capacity((waiting.len() + more).max(waiting.len() * 2));
        output.extend_from_slice(waiting);
        wipe(&mut self.output);
        (self.output, self.start) = (output, 0);
    }

    fn say_close(&mut self, code: Option<u16>, text: &str) {
        self.pong = None;
        self.make_room(MAX_CONTROL);
        let before = self.output.len();
        let mask = self.masks.as_mut().map(|masks| masks.take());
        write_close(code, text, mask, &mut self.output);
        self.accepted += (self.output.len() - before) as u64;
    }

    fn control(&mut self, kind: Control, content: &[u8]) {
        self.make_room(content.len());
        let before = self.output.len();
        let mask = self.masks.as_mut().map(|masks| masks.take());
        write_control(kind, content, mask, &mut self.output);
        self.accepted += (self.output.len() - before) as u64;
    }
}

impl Drop for Dialog {
    fn drop(&mut self) {
        wipe(&mut self.output);
    }
}

impl std::fmt::Debug for Dialog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is being said may be secret.
        let mut shown = f.debug_struct("Dialog");
        shown.field("protocol", &self.protocol).field("state", &self.state);
        shown
            .field("output", &self.output().len())
            .field("pong", &self.pong.as_ref().map(|content| content.len()));
        shown.finish_non_exhaustive()
    }
}

/// What a close code says, for people (RFC 6455, section 7.4.1, and the registry that it made).
const fn meaning(code: u16) -> &'static str {
    match code {
        1002 => "it found a mistake in the protocol",
        1003 => "it does not take messages of this kind",
        1007 => "it found text that is not what it should be",
        1008 => "this end may not stay",
        1009 => "a message was too long for it",
        1011 => "it failed",
        1012 => "it restarts",
        1013 => "it has no room now, try again later",
        _ => "it gave no reason that is known here",
    }
}

/// Longest head of a frame, and longest payload of a control frame, in bytes.
const MAX_HEAD: usize = 14;
const MAX_CONTROL: usize = 125;

/// What may wait before nothing is added to it that the other end causes by itself, in bytes.
const OWN_ROOM: usize = 64 * 1024;
