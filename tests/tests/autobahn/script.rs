//! What a case is, and how it is held against a server.

use std::fmt::Write as _;
use std::io::Write as _;

use visorbus_tests::raw_websocket::{Frame, RawWebSocket};

use crate::dialect::{Dialect, Message};

/// One case: what is sent and what has to come of it.
pub(crate) struct Case {
    number: String,
    steps: Vec<Step>,
}

enum Step {
    Write(Vec<u8>),
    Chop(Vec<u8>, usize),
    Echo(Message),
    Pong(Vec<u8>),
    Refused(&'static [u16]),
    NoMessage,
    Closed(Vec<u16>),
}

impl Case {
    /// The case of this number in Autobahn's list.
    pub(crate) fn new(number: impl Into<String>) -> Self {
        Self { number: number.into(), steps: Vec::new() }
    }

    /// Sends these frames, each in a write of its own.
    pub(crate) fn send(mut self, frames: impl IntoIterator<Item = Frame>) -> Self {
        self.steps.extend(frames.into_iter().map(|frame| Step::Write(frame.to_bytes())));
        self
    }

    /// Sends these frames in one write.
    pub(crate) fn send_at_once(self, frames: impl IntoIterator<Item = Frame>) -> Self {
        self.send_bytes(bytes_of(frames))
    }

    /// Sends these frames, all their bytes in pieces of `len`.
    pub(crate) fn chop(mut self, frames: impl IntoIterator<Item = Frame>, len: usize) -> Self {
        self.steps.push(Step::Chop(bytes_of(frames), len));
        self
    }

    /// Sends bytes.
    pub(crate) fn send_bytes(mut self, bytes: Vec<u8>) -> Self {
        self.steps.push(Step::Write(bytes));
        self
    }

    /// The message comes back.
    pub(crate) fn echo(mut self, message: &Message) -> Self {
        self.steps.push(Step::Echo(message.clone()));
        self
    }

    /// A pong comes, with this in it.
    pub(crate) fn pong(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Pong(payload.into()));
        self
    }

    /// The server closes with one of these codes, says why, and nothing else comes any more. Bare tungstenite leaves that
    /// to its owner, who only hangs up.
    pub(crate) fn refused(mut self, codes: &'static [u16]) -> Self {
        self.steps.push(Step::Refused(codes));
        self
    }

    /// What was sent is no message of the dialect's: the hub says so; who only echoes does.
    pub(crate) fn no_message(mut self, dialect: &Dialect) -> Self {
        if dialect.is_hub() {
            self.steps.push(Step::NoMessage);
            return self;
        }
        self.echo(&Message::empty(dialect))
    }

    /// The server answers a close with one of these codes (0: with none), and nothing else comes any more.
    pub(crate) fn closed(self, codes: &[u16]) -> Self {
        let mut case = self;
        case.steps.push(Step::Closed(codes.to_vec()));
        case
    }

    /// How many messages are to come back.
    fn echoes(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Echo(_))).count()
    }

    fn run(&self, dialect: &Dialect) -> Result<(), String> {
        let mut far = Far { socket: dialect.connect(), data: Vec::new(), pongs: Vec::new(), close: None };
        let mut is_over = false;
        for step in &self.steps {
            // Whoever has been refused may see a broken connection behind that.
            match step {
                Step::Write(bytes) => drop(far.socket.try_write(bytes)),
                Step::Chop(bytes, len) => drop(bytes.chunks(*len).all(|piece| far.socket.try_write(piece))),
                Step::Echo(message) => dialect.check_echo(&far.data()?, message)?,
                Step::Pong(payload) => {
                    let pong = far.pong()?;
                    if !pong.is_whole(Frame::PONG) || pong.payload != *payload {
                        return Err(format!("the pong for '{}' is {pong:?}", payload.escape_ascii()));
                    }
                }
                Step::Refused(codes) => {
                    match dialect.is_hub() {
                        true => far.ending(codes, true)?,
                        false => far.nothing()?,
                    }
                    is_over = true;
                }
                Step::NoMessage => {
                    dialect.check_no_message(&mut far)?;
                    is_over = true;
                }
                Step::Closed(codes) => {
                    far.ending(codes, false)?;
                    is_over = true;
                }
            }
        }
        if !is_over {
            far.socket.try_send(&Frame::close(1000, ""));
            far.ending(&[1000], false)?;
        }
        Ok(())
    }
}

/// The server as one case has seen it.
pub(crate) struct Far {
    socket: RawWebSocket,
    data: Vec<Frame>,
    pongs: Vec<Frame>,
    close: Option<Frame>,
}

impl Far {
    pub(crate) fn data(&mut self) -> Result<Frame, String> {
        self.next(|far| &mut far.data, "a message")
    }

    fn pong(&mut self) -> Result<Frame, String> {
        self.next(|far| &mut far.pongs, "a pong")
    }

    /// The next of its kind: data and pongs each keep their order, not among each other.
    fn next(&mut self, kind: impl Fn(&mut Self) -> &mut Vec<Frame>, what: &str) -> Result<Frame, String> {
        while kind(self).is_empty() {
            if !self.read() {
                return Err(format!("{what} was expected, not the end: {:?}", self.close));
            }
        }
        Ok(kind(self).remove(0))
    }

    /// Reads a frame; `false` at the end.
    fn read(&mut self) -> bool {
        if self.close.is_some() {
            return false;
        }
        let Some(frame) = self.socket.read_frame() else { return false };
        match frame.opcode {
            Frame::CLOSE => self.close = Some(frame),
            Frame::PONG => self.pongs.push(frame),
            _ => self.data.push(frame),
        }
        self.close.is_none()
    }

    /// Nothing comes but an end.
    fn nothing(&mut self) -> Result<(), String> {
        while self.read() {}
        let left: Vec<&Frame> = self.data.iter().chain(&self.pongs).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("what was not asked for came: {left:?}")) }
    }

    /// The server closes, and hangs up once it has been answered.
    pub(crate) fn ending(&mut self, codes: &[u16], is_told: bool) -> Result<(), String> {
        self.nothing()?;
        let Some(close) = &self.close else {
            return Err(format!("it hung up without a close, where {codes:?} was expected"));
        };
        if !close.is_whole(Frame::CLOSE) {
            return Err(format!("the close is {close:?}"));
        }
        let code = close.payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
        if !codes.contains(&code) {
            return Err(format!("closed with {code}, where {codes:?} was expected: {close:?}"));
        }
        if is_told && std::str::from_utf8(close.payload.get(2..).unwrap_or_default()).is_err() {
            return Err(format!("the reason is no text: {close:?}"));
        }
        self.socket.try_send(&Frame::close(1000, ""));
        match self.socket.read_frame() {
            None => Ok(()),
            Some(frame) => Err(format!("after its close came {frame:?}")),
        }
    }
}

/// Runs the cases of a category, each on a connection of its own, and demands that all of them hold.
#[track_caller]
pub(crate) fn run(category: &str, dialects: &[Dialect], cases: impl Fn(&Dialect) -> Vec<Case>) {
    let mut failed = String::new();
    for dialect in dialects {
        let (mut echoes, mut passed, cases) = (0, 0, cases(dialect));
        for case in &cases {
            let before = dialect.runs();
            let outcome = case.run(dialect);
            let runs = dialect.runs() - before;
            echoes += runs;
            let expected = if dialect.is_hub() { case.echoes() } else { 0 };
            let outcome = outcome.and_then(|()| match runs == expected {
                true => Ok(()),
                false => Err(format!("the handler ran {runs} times, not {expected}")),
            });
            match outcome {
                Ok(()) => passed += 1,
                Err(reason) => _ = writeln!(failed, "  {} over {dialect}: {reason}", case.number),
            }
        }
        dialect.is_unharmed_after(echoes);
        // Past the capture of the test harness: whoever compares has to see it.
        let all = cases.len();
        let _ =
            writeln!(std::io::stderr(), "autobahn {category}, over {dialect}: {passed} of {all} cases hold");
    }
    assert!(failed.is_empty(), "{category}:\n{failed}");
}

fn bytes_of(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    frames.into_iter().flat_map(|frame| frame.to_bytes()).collect()
}

/// RFC 6455 section 7.4.1: a protocol error.
pub(crate) const PROTOCOL_ERROR: &[u16] = &[1002];
