//! The seam between those who know the bus and sessions, and the router that knows objects: what is to be done next for a
//! call, said without doing it.

use dbus::Message;
use visorbus_auth::TokenText;
use visorbus_core::message::{AddressBuf, MessageFlags, MessageType};
use visorbus_hub::{Error, OwnedPayload};

use crate::router::Router;

/// What is to be done next for one call, or for one notification.
pub(crate) enum Step {
    /// Nothing more.
    Done,
    /// This goes out, to whom it is addressed to, and that is all: a reply, or a signal.
    Send(Vec<Message>),
    /// The hub is asked in the caller's session (which is made where there is none), and then `then` says what is next.
    Ask(Request, Then),
    /// The caller proves who it is; on success a new session takes the place of the one it had.
    Authenticate(TokenText, Then),
}

/// A message for the hub.
pub(crate) struct Request {
    pub(crate) message_type: MessageType,
    pub(crate) destination: AddressBuf,
    pub(crate) payload: OwnedPayload,
    pub(crate) flags: MessageFlags,
    /// Whether a caller without a session may ask it too: what answers takes anybody.
    pub(crate) as_guest: bool,
}

/// What the hub answered; of a notification that wants no answer, `Empty` once it is sent.
pub(crate) type Outcome = Result<OwnedPayload, Error>;

/// Says what is next once the hub has answered.
pub(crate) type Then = Box<dyn FnOnce(&mut Router, Outcome) -> Step + Send>;

/// Who calls, as far as the bus says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The unique name, such as `:1.42`.
    pub(crate) unique_name: String,
    /// The user that the bus tells of; `None` where it cannot.
    pub(crate) uid: Option<u32>,
    /// The process, for logs.
    pub(crate) pid: Option<u32>,
}

/// Whom the hub takes the session of those for who have none, alone or with a number behind it; it may do nothing.
pub(crate) const GUEST: &str = "dbus-guest";
