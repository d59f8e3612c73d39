//! One client-side connection that is driven by hand: no thread, no lock, nothing happens between calls.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use visorbus_auth::TokenText;
use visorbus_core::codec::{self, MAX_HEADER};
use visorbus_core::frame::length::{Split, split};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::{IpcError, Message, MessageFlags, MessagePayload};
use visorbus_hub::compress::{compress, expand};
use visorbus_hub::{Error, HubLink, OwnedMessage, ReceiveBuffer, Result};

use crate::address::dial;
use crate::clock;
use crate::dialog::{Dialog, Heard, OWN_FRAME};
use crate::outgoing::Outgoing;
use crate::stream::FramedStream;

/// A connection to a hub for those who have an event loop of their own.
///
/// Wait until [`AsFd::as_fd`] is readable, then call [`UnixSocketConnection::receive_message`] until it says `None`; it
/// also sends what is due. Or let [`UnixSocketConnection::wait_message`] wait.
///
/// ```no_run
/// use std::time::Duration;
/// use visorbus_hub::{OwnedMessage, OwnedPayload};
/// use visorbus_unix::UnixSocketConnection;
///
/// let mut connection = UnixSocketConnection::connect("/run/visorbus/hub.sock", "panel")?;
/// let id = connection.send_message(OwnedMessage::request("imu/info", OwnedPayload::Empty))?;
/// let answer = connection.wait_message(Duration::from_secs(1))?;
/// assert_eq!(answer.id, id);
/// connection.close("done")?;
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixSocketConnection {
    stream: FramedStream,
    dialog: Dialog,
    buffer: ReceiveBuffer,
    messages: VecDeque<OwnedMessage>,
    last_activity: Instant,
    /// Why the hub does not take the token, until somebody was told.
    refused: Option<Error>,
    over: Option<Error>,
}

impl UnixSocketConnection {
    /// Connects to the hub at `path` as `client_id` and waits until it has answered the hello, at most five seconds.
    ///
    /// # Errors
    /// `Connection` when nobody serves there, `Message` when `client_id` cannot name a client, and what the hub says
    /// when it refuses the hello.
    pub fn connect(path: impl AsRef<Path>, client_id: &str) -> Result<Self> {
        let deadline = Instant::now() + HANDSHAKE;
        let mut connection = Self::new(dial(path.as_ref(), HANDSHAKE)?, client_id)?;
        connection.wait_open(deadline)?;
        Ok(connection)
    }

    /// Takes over a connected socket; the hello is sent by the first call that receives or waits.
    ///
    /// # Errors
    /// `Message` when `client_id` cannot name a client, `Connection` when the socket is not connected.
    pub fn new(stream: UnixStream, client_id: &str) -> Result<Self> {
        let dialog = Dialog::new(client_id, MAX_FRAME, None)?;
        let stream = FramedStream::new(stream)
            .map_err(|e| Error::Connection(format!("the socket is not a connected Unix socket: {e}")))?;
        Ok(Self {
            stream,
            dialog,
            buffer: ReceiveBuffer::default(),
            messages: VecDeque::new(),
            last_activity: Instant::now(),
            refused: None,
            over: None,
        })
    }

    /// The token to prove this end with, sent by the next call that receives or waits, if the hub wants one. One that
    /// it has refused is forgotten.
    pub fn set_auth_token(&mut self, token: TokenText) {
        self.dialog.set_token(token);
    }

    /// The token of [`UnixSocketConnection::set_auth_token`].
    pub const fn auth_token(&self) -> Option<&TokenText> {
        self.dialog.token()
    }

    /// Sends one message and says its id, chosen here where the message has 0. What the socket does not take is sent
    /// by later calls.
    ///
    /// # Errors
    /// `Connection` when the session is over, not open yet, or its socket has no room; `Message` when the hub does
    /// not take a message this long or an address is not one.
    pub fn send_message(&mut self, mut message: OwnedMessage) -> Result<u64> {
        self.check_over()?;
        if !self.dialog.session().is_open() {
            return Err(Error::Connection(
                "the hub has not answered the hello yet: call wait_message or receive_message first"
                    .to_owned(),
            ));
        }
        if self.stream.queued() != 0 && !self.flush()? {
            return Err(Error::Connection(
                "the hub does not read: wait until the socket is writable".to_owned(),
            ));
        }
        if message.id == 0 {
            message.id = self.dialog.session_mut().take_id();
        }
        let mut borrowed = message.borrow()?;
        let short = self.compressed(&borrowed);
        if !borrowed.flags.encrypted {
            borrowed.flags.compressed = short.is_some();
            borrowed.payload = short.as_deref().map_or(borrowed.payload, MessagePayload::Binary);
        }
        let mut head = [0; HEAD];
        let (len, payload) = encode_head(&borrowed, &mut head)?;
        self.dialog.check_len(len + payload.len())?;
        let sent = self.stream.send(&head[..len], payload, true);
        self.end_on(sent.map(|()| message.id))
    }

    /// The next message that has arrived, if any; never waits. Sends what is due.
    ///
    /// # Errors
    /// `Authentication`, once, when the hub refuses the token; `Message` when what came does not expand, which is then
    /// refused and gone; `Connection` when the session is over and everything that came before its end was taken.
    pub fn receive_message(&mut self) -> Result<Option<OwnedMessage>> {
        if self.messages.is_empty() {
            self.turn()?;
        }
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        match self.messages.pop_front() {
            Some(message) => self.expanded(message).map(Some),
            None => self.check_over().map(|()| None),
        }
    }

    /// The next message, waiting for it at most `timeout`.
    ///
    /// # Errors
    /// `Timeout` when none came, `Connection` when the session is over.
    pub fn wait_message(&mut self, timeout: Duration) -> Result<OwnedMessage> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(message) = self.receive_message()? {
                return Ok(message);
            }
            self.wait(deadline, "a message")?;
        }
    }

    /// Waits until the hub has taken the token, or has opened the session where it wants none.
    ///
    /// # Errors
    /// `Authentication` when the hub refuses the token, `Timeout` when it has not answered in time.
    pub fn wait_authenticated(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            self.turn()?;
            if self.is_authenticated() {
                return Ok(());
            }
            self.refused.take().map_or(Ok(()), Err)?;
            self.check_over()?;
            self.wait(deadline, "the answer to the token")?;
        }
    }

    /// Says goodbye and closes the socket. What has arrived can still be taken.
    ///
    /// # Errors
    /// `Connection` when the hub was gone already.
    pub fn close(&mut self, reason: &str) -> Result<()> {
        self.check_over()?;
        let mut out = [0; OWN_FRAME];
        let len = self.dialog.session_mut().close(reason, clock::now(), &mut out);
        let sent = if len == 0 { Ok(()) } else { self.stream.send(&out[..len], &[], true) };
        let _ = self.stream.stream().shutdown(std::net::Shutdown::Both);
        self.over = Some(Error::Connection("this end has closed the connection".to_owned()));
        sent.map_err(|e| Error::Connection(format!("the hub was gone before the goodbye: {e}")))
    }

    /// Whether the hub serves this end: it has taken the token, or wants none.
    pub fn is_authenticated(&self) -> bool {
        self.over.is_none() && self.dialog.session().is_ready()
    }

    /// The name that this end goes by.
    pub fn client_id(&self) -> &str {
        self.dialog.session().name()
    }

    /// When bytes last came from the hub; before that, when the connection was made.
    pub const fn last_activity(&self) -> Instant {
        self.last_activity
    }

    /// Waits until the hub has answered the hello.
    pub(crate) fn wait_open(&mut self, deadline: Instant) -> Result<()> {
        loop {
            self.turn()?;
            if self.dialog.session().is_open() {
                return Ok(());
            }
            self.check_over()?;
            self.wait(deadline, "the answer to the hello")?;
        }
    }

    /// Takes an open connection apart, for a client that shares its socket between threads.
    pub(crate) fn into_parts(self) -> Parts {
        let (stream, outgoing, unfinished) = self.stream.into_parts();
        Parts { stream, outgoing, unfinished, dialog: self.dialog, messages: self.messages }
    }

    /// What a message asks to be sent instead of its payload, where the hub expands that.
    fn compressed(&self, message: &Message<'_>) -> Option<Vec<u8>> {
        let MessageFlags { encrypted, compressed, .. } = message.flags;
        let may = compressed && !encrypted && self.dialog.session().compresses();
        if may { compress(message.payload) } else { None }
    }

    /// A message with the payload that was compressed; one that is sealed stays as it is.
    fn expanded(&mut self, message: OwnedMessage) -> Result<OwnedMessage> {
        if !message.flags.compressed || message.flags.encrypted {
            return Ok(message);
        }
        let why = match expand(message.payload.borrow(), MAX_FRAME as usize) {
            Ok(payload) => return Ok(OwnedMessage { payload, ..message }),
            Err(error) => error.to_string(),
        };
        let refused = message.borrow()?;
        let mut out = [0; OWN_FRAME];
        let len = codec::encode_error(&refused, &IpcError::Message(why.as_str()), &mut out);
        if let Some(len) = len.filter(|_| refused.wants_answer()) {
            let sent = self.stream.send(&out[..len], &[], true);
            self.end_on(sent)?;
        }
        Err(Error::Message(why))
    }

    /// Sends what is due, takes what has arrived.
    fn turn(&mut self) -> Result<()> {
        if self.over.is_some() {
            return Ok(());
        }
        self.send_due()?;
        self.buffer.clear();
        let received = self.stream.receive(&mut self.buffer);
        if !self.buffer.as_slice().is_empty() {
            self.last_activity = Instant::now();
        }
        let buffer = std::mem::take(&mut self.buffer);
        let heard = self.hear(buffer.as_slice());
        self.buffer = buffer;
        heard?;
        match received {
            Ok(()) => self.send_due(),
            Err(error) => {
                let error = Error::Connection(format!("the hub has closed the connection: {error}"));
                self.over.get_or_insert(error);
                Ok(())
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<()> {
        let mut at = 0;
        while self.over.is_none() {
            match split(&bytes[at..], MAX_FRAME as usize) {
                Ok(Split::Frame { frame, consumed }) => {
                    self.hear_frame(frame)?;
                    at += consumed;
                }
                Ok(Split::Incomplete { .. }) if at < bytes.len() => {
                    self.stream.keep(&bytes[at..]);
                    return Ok(());
                }
                Ok(Split::Incomplete { .. }) => return Ok(()),
                Err(error) => {
                    self.over = Some(Error::Protocol(format!("the hub breaks the framing: {error}")))
                }
            }
        }
        Ok(())
    }

    fn hear_frame(&mut self, frame: &[u8]) -> Result<()> {
        let mut out = [0; OWN_FRAME];
        let (answer, heard) = self.dialog.hear(frame, clock::now(), &mut out);
        match heard {
            Heard::Message(message) => self.messages.push_back(OwnedMessage::from(&message)),
            Heard::Judged { outcome, .. } => self.refused = outcome.err(),
            Heard::Over(error) => self.over = Some(error),
            Heard::Nothing => {}
        }
        if answer == 0 {
            return Ok(());
        }
        let sent = self.stream.send(&out[..answer], &[], true);
        self.end_on(sent)
    }

    fn send_due(&mut self) -> Result<()> {
        let mut out = [0; OWN_FRAME];
        loop {
            let len = self.dialog.poll_transmit(clock::now(), &mut out);
            if len == 0 {
                return self.flush().map(|_| ());
            }
            let sent = self.stream.send(&out[..len], &[], true);
            self.end_on(sent)?;
        }
    }

    fn flush(&mut self) -> Result<bool> {
        let flushed = self.stream.flush(clock::now());
        self.end_on(flushed)
    }

    /// Remembers that the connection is over, but lets what has arrived be taken first.
    fn end_on<T>(&mut self, outcome: std::io::Result<T>) -> Result<T> {
        outcome.map_err(|e| {
            let error = Error::Connection(format!("the hub has closed the connection: {e}"));
            self.over.get_or_insert(error.clone());
            error
        })
    }

    fn check_over(&self) -> Result<()> {
        self.over.clone().map_or(Ok(()), Err)
    }

    /// Waits until something has arrived, there is room for what is queued, or the session has something to do.
    fn wait(&self, deadline: Instant, what: &str) -> Result<()> {
        let now = Instant::now();
        if now >= deadline {
            return Err(Error::Timeout(format!("{what} did not come in time")));
        }
        let mut remaining = deadline - now;
        if let Some(due) = self.dialog.poll_timeout() {
            remaining = remaining.min(due.duration_since(clock::instant(now)));
        }
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, self.stream.queued() != 0);
        wait_for(self.stream.stream(), events, Some(remaining)).map(|_| ())
    }
}

impl AsFd for UnixSocketConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// What an open connection is made of.
pub(crate) struct Parts {
    pub(crate) stream: UnixStream,
    pub(crate) outgoing: Outgoing,
    /// The beginning of a frame whose rest has not arrived.
    pub(crate) unfinished: Vec<u8>,
    pub(crate) dialog: Dialog,
    pub(crate) messages: VecDeque<OwnedMessage>,
}

/// Writes the header of `message` and says how long it is, and which bytes follow it.
pub(crate) fn encode_head<'m>(message: &Message<'m>, head: &mut [u8; HEAD]) -> Result<(usize, &'m [u8])> {
    let len = codec::encode_header(message, head).map_err(|_| {
        Error::Message(format!("the message's own token is longer than a token can be, {MAX_TOKEN} bytes"))
    })?;
    let payload: MessagePayload<'m> = message.payload;
    Ok((len, payload.as_bytes()))
}

/// Waits for `events`, at most `timeout`; says which of them there are.
pub(crate) fn wait_for(
    stream: &UnixStream,
    events: PollFlags,
    timeout: Option<Duration>,
) -> Result<PollFlags> {
    let millis = timeout.map(|timeout| timeout.as_micros().div_ceil(1000));
    let timeout =
        millis.map_or(PollTimeout::NONE, |millis| PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
    let mut fds = [PollFd::new(stream.as_fd(), events)];
    match poll(&mut fds, timeout) {
        Ok(_) => Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
        Err(Errno::EINTR) => Ok(PollFlags::empty()),
        Err(error) => Err(Error::Internal(format!("cannot wait on the socket: {error}"))),
    }
}

/// Room for the header of any message.
pub(crate) const HEAD: usize = MAX_HEADER + MAX_TOKEN + 3;
/// Longest frame that a client takes, in bytes.
pub(crate) const MAX_FRAME: u32 = 1 << 20;
/// For the hello and its answer.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
