//! The connecting end of a session: what it says by itself, and what a frame that came means. Knows no connection.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use visorbus_auth::TokenText;
use visorbus_core::codec;
use visorbus_core::peer::refuse_frame;
use visorbus_core::session::{CloseReason, Expired, Name, Role, SessionConfig, Verdict};
use visorbus_core::{Instant, IpcError, Message, Session};
use visorbus_hub::{Error, Result, owned_error};

/// A [`Session`] and the token that it proves itself with.
#[derive(Debug)]
pub(crate) struct Dialog {
    session: Session,
    token: Option<TokenText>,
    has_heartbeat: bool,
    /// The hub has not been heard for three heartbeats.
    is_silent: bool,
}

/// What a frame meant, beside an answer that goes back.
pub(crate) enum Heard<'f> {
    /// Nothing for anybody else.
    Nothing,
    /// A message for whoever waits for it.
    Message(Message<'f>),
    /// The hub has judged the token, with `answer`.
    Judged { answer: Message<'f>, outcome: Result<()> },
    /// The session is over.
    Over(Error),
}

impl Dialog {
    /// A session as `name`, which must be a component name, that has not said anything yet.
    pub(crate) fn new(name: &str, max_frame: u32, heartbeat: Option<Duration>) -> Result<Self> {
        let not_a_name = || {
            Error::Message(format!(
                "'{name}' cannot name a client: use 1 to 32 bytes of a-z, 0-9, '.', '_' and '-', not 'bus'"
            ))
        };
        if !visorbus_core::message::address::is_name(name) || name == visorbus_core::bus::NAME {
            return Err(not_a_name());
        }
        let mut session = Session::new(SessionConfig {
            role: Role::Connecting,
            name: Name::try_from(name).map_err(|_| not_a_name())?,
            boot_id: RandomState::new().build_hasher().finish(),
            max_frame,
            // Without: the system says at once when either end is gone, and a caller has its deadline.
            heartbeat_ms: heartbeat.map_or(0, |every| u32::try_from(every.as_millis()).unwrap_or(u32::MAX)),
            rows: 0,
            requires_authentication: false,
            lossy: false,
        });
        session.offer_compression();
        Ok(Self { session, token: None, has_heartbeat: heartbeat.is_some(), is_silent: false })
    }

    /// Writes the next frame that the session has to send by itself, and says how many bytes it has; 0 when there is
    /// none. Call it until it says 0.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> usize {
        // Whether the hub is silent is judged after what has arrived was read, and one that is, is not greeted anew.
        while !self.has_heartbeat && self.session.handle_timeout(now).is_some() {}
        if self.is_silent {
            return 0;
        }
        let own = self.session.poll_transmit(now, out);
        if own != 0 || self.token.is_none() || !self.session.wants_token(now) {
            return own;
        }
        self.prove(now, out)
    }

    /// Ends what is not answered in time; an error when that is the session itself, because the hub was silent for three
    /// heartbeats. The connection is over then. To be asked when what has arrived was read.
    pub(crate) fn check_alive(&mut self, now: Instant) -> Result<()> {
        while let (false, Some(expired)) = (self.is_silent, self.session.handle_timeout(now)) {
            self.is_silent = expired == Expired::Session;
        }
        match self.is_silent {
            true => Err(Error::Connection("it was silent for three heartbeats".to_owned())),
            false => Ok(()),
        }
    }

    /// When [`Dialog::poll_transmit`] or [`Dialog::check_alive`] next has something to do; `None`: not before the next
    /// frame.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        // Without a token an open session would ask for one at all times. One that was taken is sent again half an hour
        // later, which can wait for the next message: the same token proves nothing new.
        let nothing_due = self.session.is_open() && (self.token.is_none() || self.session.is_ready());
        let due = if nothing_due { self.session.heartbeat_due() } else { self.session.poll_timeout() };
        due.filter(|_| !self.is_silent)
    }

    /// Writes the request that proves this end by its token; 0 when it has none.
    pub(crate) fn prove(&mut self, now: Instant, out: &mut [u8]) -> usize {
        let Some(Ok(bytes)) = self.token.as_ref().map(TokenText::to_bytes) else { return 0 };
        self.session.authenticate(&bytes, now, out)
    }

    /// Takes one frame; says how many bytes of `out` go back and what the frame meant.
    pub(crate) fn hear<'f>(&mut self, frame: &'f [u8], now: Instant, out: &mut [u8]) -> (usize, Heard<'f>) {
        let message = match codec::decode(frame) {
            Ok(message) => message,
            Err(error) => return (refuse_frame(frame, error, out), Heard::Nothing),
        };
        match self.session.handle(&message, now, out) {
            Verdict::Deliver => (0, Heard::Message(message)),
            Verdict::Answer(answer) | Verdict::Opened { answer } | Verdict::Refused { answer } => {
                (answer, Heard::Nothing)
            }
            Verdict::Authenticated => (0, Heard::Judged { answer: message, outcome: Ok(()) }),
            Verdict::NotAuthenticated(error) => {
                // What was refused once is not sent again.
                self.token = None;
                (0, Heard::Judged { answer: message, outcome: Err(owned_error(&error)) })
            }
            Verdict::Authenticate { .. } => {
                let refused = Err(IpcError::Authentication("a client asks for no token"));
                (self.session.finish_authentication(&message, refused, now, out), Heard::Nothing)
            }
            Verdict::Closed(CloseReason::Goodbye) => (0, Heard::Over(goodbye(&message))),
            Verdict::Closed(CloseReason::Refused(error)) => (0, Heard::Over(owned_error(&error))),
            Verdict::Restarted { answer } => {
                (answer, Heard::Over(Error::Connection("the hub has restarted".to_owned())))
            }
            Verdict::Reply { .. } | Verdict::Echoed { .. } | Verdict::Drop(_) | Verdict::Credentials => {
                (0, Heard::Nothing)
            }
        }
    }

    /// Replaces the token; it is sent at the next [`Dialog::poll_transmit`] if the hub wants one, or by
    /// [`Dialog::prove`].
    pub(crate) fn set_token(&mut self, token: TokenText) {
        self.token = Some(token);
    }

    pub(crate) const fn token(&self) -> Option<&TokenText> {
        self.token.as_ref()
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) const fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Longest frame that the hub takes, as it said.
    pub(crate) fn max_frame(&self) -> usize {
        self.session.remote().map_or(0, |remote| remote.max_frame as usize)
    }

    /// Judges a frame of `len` bytes before it is sent.
    pub(crate) fn check_len(&self, len: usize) -> Result<()> {
        let max = self.max_frame();
        if len <= max {
            return Ok(());
        }
        Err(Error::Message(format!(
            "the message is too long: {len} bytes with its header, the hub takes {max}; send it in parts"
        )))
    }
}

/// What the hub says when it ends a session.
fn goodbye(message: &Message<'_>) -> Error {
    let reason = std::str::from_utf8(message.payload.as_bytes()).unwrap_or_default();
    let reason = if reason.is_empty() { "no reason given" } else { reason };
    Error::Connection(format!("the hub has ended the session: {reason}"))
}

/// Room for every frame that a session sends by itself: a header, and an identity or a token.
pub(crate) const OWN_FRAME: usize = 512;
