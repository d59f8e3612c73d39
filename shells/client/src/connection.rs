//! One client-side connection that is driven by hand: no thread, no lock, nothing happens between calls.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use visorbus_auth::TokenText;
use visorbus_core::codec::{self, MAX_HEADER};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::{IpcError, Message, MessageFlags, MessagePayload};
use visorbus_hub::compress::{compress, expand};
use visorbus_hub::{Error, OwnedMessage, Result};

use crate::clock;
use crate::dialog::{Dialog, Heard, OWN_FRAME};
use crate::inbox::{Inbox, MAX_FRAME};
use crate::wire::{Dial, Wait, Wire};

/// A connection to a hub for those who have an event loop of their own.
///
/// Wait until [`AsFd::as_fd`] is readable, or [`Connection::poll_timeout`] is over, then call
/// [`Connection::receive_message`] until it says `None`; it also sends what is due. Or let [`Connection::wait_message`]
/// wait.
///
/// ```no_run
/// use std::time::{Duration, Instant};
/// use visorbus_client::{Connection, Dial};
/// use visorbus_hub::{OwnedMessage, OwnedPayload, Result};
///
/// fn info(hub: &dyn Dial) -> Result<OwnedMessage> {
///     let mut connection = Connection::open(hub, "panel", Instant::now() + Duration::from_secs(5))?;
///     connection.send_message(OwnedMessage::request("imu/info", OwnedPayload::Empty))?;
///     let answer = connection.wait_message(Duration::from_secs(1))?;
///     connection.close("done")?;
///     Ok(answer)
/// }
/// ```
pub struct Connection {
    wire: Arc<dyn Wire>,
    dialog: Dialog,
    inbox: Inbox,
    messages: VecDeque<OwnedMessage>,
    last_activity: Instant,
    /// Why the hub does not take the token, until somebody was told.
    refused: Option<Error>,
    over: Option<Error>,
}

impl Connection {
    /// Connects to the hub of `dial` as `client_id` and waits until it has answered the hello, at most until `deadline`.
    ///
    /// # Errors
    /// What [`Dial::dial`] says, `Message` when `client_id` cannot name a client, and what the hub says when it refuses
    /// the hello.
    pub fn open(dial: &dyn Dial, client_id: &str, deadline: Instant) -> Result<Self> {
        let mut connection = Self::new(dial.dial(deadline)?, client_id, dial.heartbeat())?;
        connection.wait_open(deadline)?;
        Ok(connection)
    }

    /// Takes over a connected wire; the hello is sent by the first call that receives or waits. `heartbeat` is as
    /// [`Dial::heartbeat`] says.
    ///
    /// # Errors
    /// `Message` when `client_id` cannot name a client.
    pub fn new(wire: Arc<dyn Wire>, client_id: &str, heartbeat: Option<Duration>) -> Result<Self> {
        let dialog = Dialog::new(client_id, MAX_FRAME, heartbeat)?;
        Ok(Self {
            wire,
            dialog,
            inbox: Inbox::new(),
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

    /// The token of [`Connection::set_auth_token`].
    pub const fn auth_token(&self) -> Option<&TokenText> {
        self.dialog.token()
    }

    /// Sends one message and says its id, chosen here where the message has 0. What there is no room for is sent
    /// by later calls.
    ///
    /// # Errors
    /// `Connection` when the session is over, not open yet, or has no room; `Message` when the hub does
    /// not take a message this long or an address is not one.
    pub fn send_message(&mut self, mut message: OwnedMessage) -> Result<u64> {
        self.check_over()?;
        if !self.dialog.session().is_open() {
            return Err(Error::Connection(
                "the hub has not answered the hello yet: call wait_message or receive_message first"
                    .to_owned(),
            ));
        }
        if self.wire.queued() != 0 && !self.flush()? {
            return Err(Error::Connection(
                "the hub does not read: wait until the descriptor is writable".to_owned(),
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
        let sent = self.wire.send(&head[..len], payload);
        self.end_on(sent.map(|()| message.id))
    }

    /// The next message that has arrived, if any; never waits. Sends what is due.
    ///
    /// # Errors
    /// `Authentication`, once, when the hub refuses the token; `Message` when what came does not expand, which is then
    /// refused and gone; `Connection` when the session is over and everything that came before its end was taken.
    pub fn receive_message(&mut self) -> Result<Option<OwnedMessage>> {
        // What was heard may have been the session's own, with more of it inside the wire, where no descriptor shows it.
        for _ in 0..TURNS {
            if !self.messages.is_empty() || self.refused.is_some() || !self.turn()? {
                break;
            }
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

    /// Says goodbye and ends the connection. What has arrived can still be taken.
    ///
    /// # Errors
    /// `Connection` when the hub was gone already.
    pub fn close(&mut self, reason: &str) -> Result<()> {
        self.check_over()?;
        let mut out = [0; OWN_FRAME];
        let len = self.dialog.session_mut().close(reason, clock::now(), &mut out);
        let sent = if len == 0 { Ok(()) } else { self.wire.send(&out[..len], &[]) };
        self.wire.shutdown();
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

    /// In what time [`Connection::receive_message`] has something to do even where nothing arrives; `None`: not before
    /// something does.
    pub fn poll_timeout(&self) -> Option<Duration> {
        Some(self.dialog.poll_timeout()?.duration_since(clock::now()))
    }

    /// When frames last came from the hub; before that, when the connection was made.
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

    /// Takes an open connection apart, for a client that shares it between threads.
    pub(crate) fn into_parts(self) -> Parts {
        let Self { wire, inbox, dialog, messages, .. } = self;
        Parts { wire, inbox, dialog, messages }
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
            let sent = self.wire.send(&out[..len], &[]);
            self.end_on(sent)?;
        }
        Err(Error::Message(why))
    }

    /// Sends what is due, takes what has arrived; `true` when a frame has.
    fn turn(&mut self) -> Result<bool> {
        if self.over.is_some() {
            return Ok(false);
        }
        self.send_due()?;
        let held = self.inbox.len();
        let received = self.wire.read(&mut self.inbox, Wait::No);
        if self.inbox.len() != held {
            self.last_activity = Instant::now();
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let heard = self.hear(&mut inbox);
        self.inbox = inbox;
        let has_heard = heard?;
        if let Err(silent) = self.dialog.check_alive(clock::now()) {
            self.wire.shutdown();
            self.over.get_or_insert(silent);
        }
        match received {
            Ok(()) => self.send_due()?,
            Err(error) => {
                let error = Error::Connection(format!("the hub has closed the connection: {error}"));
                self.over.get_or_insert(error);
            }
        }
        Ok(has_heard)
    }

    fn hear(&mut self, inbox: &mut Inbox) -> Result<bool> {
        let mut has_heard = false;
        while self.over.is_none() {
            match inbox.next_frame() {
                Ok(Some(frame)) => {
                    has_heard = true;
                    self.hear_frame(frame)?;
                }
                Ok(None) => break,
                Err(error) => {
                    self.over = Some(Error::Protocol(format!("the hub breaks the framing: {error}")))
                }
            }
        }
        Ok(has_heard)
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
        let sent = self.wire.send(&out[..answer], &[]);
        self.end_on(sent)
    }

    fn send_due(&mut self) -> Result<()> {
        let mut out = [0; OWN_FRAME];
        loop {
            let len = self.dialog.poll_transmit(clock::now(), &mut out);
            if len == 0 {
                return self.flush().map(|_| ());
            }
            let sent = self.wire.send(&out[..len], &[]);
            self.end_on(sent)?;
        }
    }

    fn flush(&mut self) -> Result<bool> {
        let flushed = if self.wire.queued() == 0 { Ok(true) } else { self.wire.flush() };
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
        let due = self.poll_timeout().unwrap_or(Duration::MAX);
        self.wire
            .wait(Wait::For((deadline - now).min(due)), self.wire.queued() != 0)
            .map(|_| ())
            .map_err(|e| Error::Internal(format!("cannot wait for the hub: {e}")))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let client_id = self.client_id();
        f.debug_struct("Connection").field("client_id", &client_id).finish_non_exhaustive()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.fd()
    }
}

/// What an open connection is made of.
pub(crate) struct Parts {
    pub(crate) wire: Arc<dyn Wire>,
    /// With the beginning of a frame in it whose rest has not arrived.
    pub(crate) inbox: Inbox,
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

/// Room for the header of any message.
pub(crate) const HEAD: usize = MAX_HEADER + MAX_TOKEN + 3;
/// Reads that one call makes at most, however much the hub says of the session's own.
const TURNS: usize = 64;
/// For the hello and its answer.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
