//! The message and its parts, borrowed from the frame that carried them. Nothing here knows how they are encoded.

pub mod address;
mod payload;
mod schema;
pub mod typed;

pub use address::{Address, AddressBuf, AddressError, Pattern, PatternBuf};
pub use payload::{MessagePayload, PayloadKind};

/// One message of the plane. `Debug` shows all of it but its token.
#[derive(Clone, Copy, PartialEq)]
pub struct Message<'a> {
    /// Unique per source; a Response or Error carries the id of what it answers, 0 where that was unreadable. A
    /// notification that wants no answer may have 0 on its way to a hub, which numbers it.
    pub id: u64,
    /// What kind of message it is.
    pub message_type: MessageType,
    /// Who sent it. `None`: the other end of this session, whose name the session has proven.
    pub source: Option<Address<'a>>,
    /// Whom it is for. `None`: the other end of this session itself.
    pub destination: Option<Address<'a>>,
    /// What it carries.
    pub payload: MessagePayload<'a>,
    /// When it was made, in microseconds: on the sender's own clock, or, with [`Message::uncertainty_us`], on the hub's.
    pub timestamp: Option<u64>,
    /// The hub has mapped the timestamp into its own clock, microseconds since 1970, and is wrong by at most so many.
    /// Only beside a timestamp. `None`: the timestamp is on the sender's own clock, as it was sent.
    pub uncertainty_us: Option<u32>,
    /// A token for this message alone, meant for the destination or the hub; used instead of the session's own grant.
    pub auth_token: Option<&'a [u8]>,
    /// How it is to be treated.
    pub flags: MessageFlags,
}

impl<'a> Message<'a> {
    /// A request to `destination` that wants an answer, with an empty payload and default flags.
    pub const fn request(id: u64, destination: Address<'a>) -> Self {
        let mut request = Self::new(id, MessageType::Request, Some(destination));
        request.flags.requires_response = true;
        request
    }

    /// A notification on `destination`.
    pub const fn notification(id: u64, destination: Address<'a>) -> Self {
        Self::new(id, MessageType::Notification, Some(destination))
    }

    /// A heartbeat for the other end of the session.
    pub const fn heartbeat(id: u64) -> Self {
        Self::new(id, MessageType::Heartbeat, None)
    }

    /// The message of `message_type` that answers this one: same id and priority, addressed to its source.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub const fn answer(&self, message_type: MessageType) -> Self {
        let mut answer = Self::new(self.id, message_type, self.source);
        answer.flags.priority = self.flags.priority;
        answer
    }

    /// The same message with another payload.
    pub const fn with_payload(mut self, payload: MessagePayload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// Whether somebody waits for an answer to it.
    pub const fn wants_answer(&self) -> bool {
        self.flags.requires_response && !self.is_reply()
    }

    /// Whether it answers another message.
    pub const fn is_reply(&self) -> bool {
        matches!(self.message_type, MessageType::Response | MessageType::Error)
    }

    /// Whether it is a notification that says nothing of itself, so that a hub has to number it: without id, without
    /// source, and nobody waits for an answer.
    pub const fn is_bare(&self) -> bool {
        matches!(self.message_type, MessageType::Notification)
            && self.id == 0
            && self.source.is_none()
            && !self.flags.requires_response
    }

    // Out of line for flash: there are more fields to fill than a call takes.
    #[cfg_attr(not(feature = "std"), inline(never))]
    const fn new(id: u64, message_type: MessageType, destination: Option<Address<'a>>) -> Self {
        Self {
            id,
            message_type,
            source: None,
            destination,
            payload: MessagePayload::Empty,
            timestamp: None,
            uncertainty_us: None,
            auth_token: None,
            flags: MessageFlags::NONE,
        }
    }
}

impl core::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("message_type", &self.message_type)
            .field("source", &self.source)
            .field("destination", &self.destination)
            .field("payload", &self.payload)
            .field("timestamp", &self.timestamp)
            .field("uncertainty_us", &self.uncertainty_us)
            .field("auth_token", &self.auth_token.map(|_| format_args!("not shown")))
            .field("flags", &self.flags)
            .finish()
    }
}

/// The kind of a message; the discriminant is its code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum MessageType {
    /// Asks a component to do something and, if it says so, to answer.
    Request = 0,
    /// The answer to a request.
    Response = 1,
    /// Tells whoever subscribed, or one component, that something is so.
    Notification = 2,
    /// Says why a message was not acted on.
    Error = 3,
    /// Shows that an end is alive, and what its clock says.
    Heartbeat = 4,
}

impl MessageType {
    /// The type with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Request,
            1 => Self::Response,
            2 => Self::Notification,
            3 => Self::Error,
            4 => Self::Heartbeat,
            _ => return None,
        })
    }
}

/// What goes first where not everything can; the discriminant is its code on the wire.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum MessagePriority {
    /// May wait for everything else.
    Low = 0,
    /// The usual.
    #[default]
    Normal = 1,
    /// Before the usual; delivered reliably on lossy links.
    High = 2,
    /// Before everything; delivered reliably on lossy links.
    Critical = 3,
}

impl MessagePriority {
    /// The priority in the two lowest bits of `code`.
    pub const fn from_code(code: u8) -> Self {
        match code & 3 {
            0 => Self::Low,
            1 => Self::Normal,
            2 => Self::High,
            _ => Self::Critical,
        }
    }
}

/// How a message is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(default)]
pub struct MessageFlags {
    /// A Response or an Error must come back.
    pub requires_response: bool,
    /// The payload is sealed between source and destination; whoever cannot open it must refuse it.
    pub encrypted: bool,
    /// The payload is compressed; whoever cannot expand it must refuse it.
    pub compressed: bool,
    /// What goes first.
    pub priority: MessagePriority,
    /// Time left for the answer in milliseconds; shrinks at each hop. `None`: the hub's default.
    pub timeout_ms: Option<u32>,
}

impl MessageFlags {
    /// No flag set, normal priority, no time limit of its own.
    pub const NONE: Self = Self {
        requires_response: false,
        encrypted: false,
        compressed: false,
        priority: MessagePriority::Normal,
        timeout_ms: None,
    };
}
