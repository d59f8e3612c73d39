//! What messages and time mean for the owner of a session.

use crate::codec;
use crate::error::IpcError;
use crate::message::{Message, MessagePayload};

/// What a message means for the owner of the session. `Debug` shows no token.
pub enum Verdict<'f> {
    /// The message may pass: route and dispatch it under [`Session::grant`](super::Session::grant).
    Deliver,
    /// The session has dealt with it; the first so many bytes of `out` go back, none when 0.
    Answer(usize),
    /// The session has refused it: count it. The first so many bytes of `out` go back, none when 0.
    Refused {
        /// Bytes of `out` to send.
        answer: usize,
    },
    /// The session is open; the first so many bytes of `out` go back, none when 0.
    Opened {
        /// Bytes of `out` to send.
        answer: usize,
    },
    /// The other end has restarted or knows nothing of the session, which is closed; a connecting end says hello again by itself.
    Restarted {
        /// Bytes of `out` to send.
        answer: usize,
    },
    /// The owner must check the token and call [`Session::finish_authentication`](super::Session::finish_authentication).
    Authenticate {
        /// The token's bytes, unverified.
        token: &'f [u8],
    },
    /// The owner must check what the message has as credentials, which is no token, and give the session a grant by
    /// [`Session::accept`](super::Session::accept), or answer with an error. Only at an accepting end.
    Credentials,
    /// The other end accepts this one.
    Authenticated,
    /// The other end does not accept this one's token; [`Session::wants_token`](super::Session::wants_token) says when to try again.
    NotAuthenticated(IpcError<&'f str>),
    /// The answer to a request from [`Session::begin_request`](super::Session::begin_request).
    Reply {
        /// The request's id.
        id: u64,
        /// What came back.
        outcome: Result<MessagePayload<'f>, IpcError<&'f str>>,
    },
    /// The answer to a heartbeat of the accepting end's, of use to [`ClockSync`](crate::clock::ClockSync).
    Echoed {
        /// The heartbeat's id.
        id: u64,
        /// What the other end's clock showed between the two, in microseconds.
        stamp: Option<u64>,
    },
    /// The session is over.
    Closed(CloseReason<'f>),
    /// The message is worth nothing; count it.
    Drop(DropReason),
}

impl core::fmt::Debug for Verdict<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Deliver => f.write_str("Deliver"),
            Self::Answer(answer) => write!(f, "Answer({answer})"),
            Self::Refused { answer } => write!(f, "Refused({answer})"),
            Self::Opened { answer } => write!(f, "Opened({answer})"),
            Self::Restarted { answer } => write!(f, "Restarted({answer})"),
            Self::Authenticate { .. } => f.write_str("Authenticate(not shown)"),
            Self::Credentials => f.write_str("Credentials"),
            Self::Authenticated => f.write_str("Authenticated"),
            Self::NotAuthenticated(error) => write!(f, "NotAuthenticated({error:?})"),
            Self::Reply { id, outcome } => write!(f, "Reply({id}, {outcome:?})"),
            Self::Echoed { id, stamp } => write!(f, "Echoed({id}, {stamp:?})"),
            Self::Closed(reason) => write!(f, "Closed({reason:?})"),
            Self::Drop(reason) => write!(f, "Drop({reason:?})"),
        }
    }
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason<'f> {
    /// The other end said goodbye.
    Goodbye,
    /// The other end refused this end's hello.
    Refused(IpcError<&'f str>),
}

/// Why a message was dropped without a word to its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DropReason {
    /// It came before hello and nobody waits for an answer.
    BeforeHello,
    /// It was refused and nobody waits for an answer.
    Refused,
}

/// What time has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Expired {
    /// The other end was silent for three heartbeats, or on a link that loses nothing did not answer this end's token; the
    /// session is closed.
    Session,
    /// A request of [`Session::begin_request`](super::Session::begin_request) was not answered in time.
    Request {
        /// The request's id.
        id: u64,
    },
}

/// Answers with an error where somebody waits for one.
pub(super) fn refuse<'f>(message: &Message<'_>, error: IpcError<&str>, out: &mut [u8]) -> Verdict<'f> {
    if !message.wants_answer() {
        return Verdict::Drop(DropReason::Refused);
    }
    Verdict::Refused { answer: codec::encode_error(message, &error, out).unwrap_or(0) }
}

pub(super) fn encode_or_nothing(message: &Message<'_>, out: &mut [u8]) -> usize {
    codec::encode(message, out).unwrap_or(0)
}
