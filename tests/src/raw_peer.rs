//! The far end of a hub's connection, driven by hand: it sends exact bytes and sees exact frames.
//!
//! It has no session: what a well-behaved client does, and everything that one never does, is written out by the test.
//! Nothing here waits without a deadline; what does not come within [`PATIENCE`] fails the test.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use visorbus_core::bus::{self, Identity};
use visorbus_core::error::ErrorKind;
use visorbus_core::frame::length::{Split, prefix, split};
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_core::{codec, encode};
use visorbus_hub::{Error, HubHandle, HubLink, OwnedMessage, OwnedPayload};
use visorbus_unix::FramedStream;

use crate::patience::PATIENCE;

/// A peer without a mind of its own, on one end of a socket pair.
#[derive(Debug)]
pub struct RawPeer {
    stream: UnixStream,
    bytes: Vec<u8>,
    /// Frames that arrived while something else was waited for.
    aside: VecDeque<OwnedMessage>,
    next_id: u64,
    rows: &'static [&'static str],
}

impl RawPeer {
    /// A peer, and the link that a hub is to be given for it.
    ///
    /// # Panics
    /// When the system has no more descriptors.
    pub fn pair() -> (Self, FramedStream) {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let link = FramedStream::new(far).expect("the kernel knows who is at a pair's end");
        (Self::over(near), link)
    }

    /// A peer on a socket that leads to a hub, whatever is in between.
    pub const fn over(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new(), aside: VecDeque::new(), next_id: 1, rows: &[] }
    }

    /// A peer that is connected to `hub` and has not said anything.
    ///
    /// # Panics
    /// When the hub does not take it.
    pub fn attach(hub: &HubHandle) -> Self {
        Self::attach_by(hub, |link| Box::new(link))
    }

    /// As [`RawPeer::attach`], over a link that `wrap` makes something else of.
    ///
    /// # Panics
    /// When the hub does not take it.
    pub fn attach_by(hub: &HubHandle, wrap: impl FnOnce(FramedStream) -> Box<dyn HubLink>) -> Self {
        let (peer, link) = Self::pair();
        hub.attach(wrap(link)).expect("the hub runs");
        peer
    }

    /// Reads the alias of a row as the address in its place from now on.
    pub const fn read_aliases(&mut self, rows: &'static [&'static str]) {
        self.rows = rows;
    }

    /// Writes bytes as they are, as far as the other end takes them in time.
    ///
    /// # Panics
    /// When it does not.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        self.stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        self.stream.write_all(bytes).expect("the hub reads");
    }

    /// As [`RawPeer::write_bytes`], where the hub may hang up in the middle: says whether it did not.
    pub fn try_write_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes `bytes` behind their length.
    pub fn write_frame(&mut self, bytes: &[u8]) {
        let frame = [&prefix(bytes.len())[..], bytes].concat();
        self.write_bytes(&frame);
    }

    /// Sends a message as it is.
    pub fn send(&mut self, message: &Message<'_>) {
        self.write_frame(&frame_of(message));
    }

    /// Sends a request under an id of its own and says under which.
    pub fn send_request(&mut self, address: &str, payload: MessagePayload<'_>) -> u64 {
        let id = self.take_id();
        let request = Message::request(id, parse(address)).with_payload(payload);
        self.send(&request);
        id
    }

    /// Sends a notification.
    pub fn notify(&mut self, address: &str, payload: MessagePayload<'_>) {
        let id = self.take_id();
        self.send(&Message::notification(id, parse(address)).with_payload(payload));
    }

    /// Says hello as `name`, and nothing more; what the hub answered.
    ///
    /// # Errors
    /// What the hub refused it with.
    pub fn hello(&mut self, name: &str) -> Result<OwnedMessage, Error> {
        self.hello_as(&identity(name))
    }

    /// Says hello as whoever.
    ///
    /// # Errors
    /// What the hub refused it with.
    pub fn hello_as(&mut self, identity: &Identity<'_>) -> Result<OwnedMessage, Error> {
        let payload = OwnedPayload::postcard(identity)?;
        self.request(bus::HELLO, payload.borrow())
    }

    /// Shows a token.
    ///
    /// # Errors
    /// What the hub refused it with.
    pub fn authenticate(&mut self, token: &[u8]) -> Result<OwnedMessage, Error> {
        let payload = OwnedPayload::postcard(&bus::Credentials::Token(token))?;
        self.request(bus::AUTHENTICATE, payload.borrow())
    }

    /// Sends a request and waits for its answer; what else arrives meanwhile is kept for [`RawPeer::read`].
    ///
    /// # Errors
    /// The error that came as the answer.
    pub fn request(&mut self, address: &str, payload: MessagePayload<'_>) -> Result<OwnedMessage, Error> {
        let id = self.send_request(address, payload);
        self.answer_to(id)
    }

    /// Waits for the answer to the request `id`; what else arrives meanwhile is kept for [`RawPeer::read`].
    ///
    /// # Errors
    /// The error that came as the answer.
    pub fn answer_to(&mut self, id: u64) -> Result<OwnedMessage, Error> {
        let is_reply = |message: &OwnedMessage| {
            message.id == id && matches!(message.message_type, MessageType::Response | MessageType::Error)
        };
        let answer = self.read_where(is_reply);
        match answer.error() {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }

    /// The next message, also one that was kept.
    ///
    /// # Panics
    /// When none comes in time, or the hub hangs up.
    pub fn read(&mut self) -> OwnedMessage {
        self.aside.pop_front().unwrap_or_else(|| self.read_new().expect("a message, but the hub hung up"))
    }

    /// The next message that `wanted` picks; the others are kept.
    ///
    /// # Panics
    /// When none comes in time, or the hub hangs up.
    pub fn read_where(&mut self, wanted: impl Fn(&OwnedMessage) -> bool) -> OwnedMessage {
        if let Some(at) = self.aside.iter().position(&wanted) {
            return self.aside.remove(at).expect("it is there");
        }
        loop {
            let message = self.read_new().expect("a message, but the hub hung up");
            if wanted(&message) {
                return message;
            }
            self.aside.push_back(message);
        }
    }

    /// Waits for a notification on `address`.
    pub fn read_topic(&mut self, address: &str) -> OwnedMessage {
        self.read_where(|message| {
            message.message_type == MessageType::Notification && message.destination == address
        })
    }

    /// Everything that the hub says until it hangs up.
    ///
    /// # Panics
    /// When it does not hang up in time.
    pub fn read_to_end(&mut self) -> Vec<OwnedMessage> {
        let mut messages: Vec<OwnedMessage> = self.aside.drain(..).collect();
        while let Some(message) = self.read_new() {
            messages.push(message);
        }
        messages
    }

    /// Everything that the hub has sent so far, by an answer of its own to a question that anybody may ask.
    pub fn read_so_far(&mut self) -> Vec<OwnedMessage> {
        let id = self.send_request(bus::IDENTITY, MessagePayload::Empty);
        let answer = self.answer_to(id);
        assert!(answer.is_ok(), "{answer:?}");
        self.aside.drain(..).collect()
    }

    /// Whether nothing at all arrives for `time`.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        self.aside.is_empty()
            && self.bytes.is_empty()
            && matches!(self.fill(end), Err(error) if is_timeout(&error))
    }

    /// Writes as much of `bytes` as the socket takes right now; says how much. The rest must follow before anything else.
    ///
    /// # Panics
    /// When the hub has hung up.
    pub fn write_what_fits(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_nonblocking(true).expect("a socket");
        let written = match self.stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written.expect("the hub reads"),
        };
        self.stream.set_nonblocking(false).expect("a socket");
        written
    }

    /// An id that was not used.
    pub const fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// The socket.
    pub const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The next message from the socket; `None` when the hub has hung up.
    fn read_new(&mut self) -> Option<OwnedMessage> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(Split::Frame { frame, consumed }) = split(&self.bytes, usize::MAX) {
                let address_of = |row: u16| self.rows.get(usize::from(row)).copied().map(parse);
                let message = codec::decode_with(frame, address_of).expect("the hub sends messages");
                let message = OwnedMessage::from(&message);
                self.bytes.drain(..consumed);
                return Some(message);
            }
            match self.fill(end) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came within {PATIENCE:?}: {error}"),
            }
        }
    }

    fn fill(&mut self, end: Instant) -> io::Result<usize> {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 64 * 1024];
        let count = self.stream.read(&mut chunk)?;
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

/// Who an ordinary client says it is.
pub const fn identity(name: &str) -> Identity<'_> {
    Identity {
        min_version: 1,
        max_version: 1,
        name,
        boot_id: 1,
        max_frame: 1 << 20,
        heartbeat_ms: 0,
        capabilities: 0,
        rows: 0,
        unix_us: 0,
    }
}

/// The frame of a message, without a length before it.
///
/// # Panics
/// When it is longer than a mebibyte.
pub fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut frame = vec![0; (1 << 20) + 512];
    let len = encode(message, &mut frame).expect("a test's message fits");
    frame.truncate(len);
    frame
}

/// Fails the test unless `outcome` is an error of `kind` whose text contains `text`.
///
/// # Panics
/// That is how it fails.
#[track_caller]
pub fn expect_error<T: std::fmt::Debug>(outcome: Result<T, Error>, kind: ErrorKind, text: &str) {
    match outcome {
        Err(error) => assert!(
            error.kind() == kind && error.text().contains(text),
            "{kind:?} '{text}' was expected: {error}"
        ),
        Ok(answer) => panic!("{kind:?} '{text}' was expected, not {answer:?}"),
    }
}

fn parse(address: &str) -> Address<'_> {
    Address::new(address).expect("a test knows its addresses")
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
