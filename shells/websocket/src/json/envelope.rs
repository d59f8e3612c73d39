//! What a text message says: the envelope and all that may be in it, checked as far as a message can be without the hub.

use std::borrow::Cow;

use visorbus_core::limits::MAX_NAME;
use visorbus_core::message::Address;
use visorbus_core::{ErrorKind, MessageFlags, MessagePriority, MessageType, bus};

use super::fault::{Fault, shown};
use super::reader::{Reader, Result};
use crate::protocol::WebSocketMessageType;

/// What one text message says.
#[derive(Debug)]
pub(super) enum Envelope<'t> {
    Hello(Hello<'t>),
    Authenticate(Shown<'t>),
    /// The literal of a token's text.
    Refresh(&'t str),
    /// The literal of a token's text.
    Revoke(&'t str),
    Message(Box<Content<'t>>),
}

impl<'t> Envelope<'t> {
    /// Reads a whole text message.
    pub(super) fn read(text: &'t str) -> Result<Self> {
        let mut reader = Reader::new(text);
        if !matches!(reader.peek(), Some(b'{')) {
            // What is not even JSON is said to be that.
            super::reader::check(text)?;
            return Err(Fault::not_envelope(NO_ENVELOPE));
        }
        let (mut message_type, mut envelope, mut later) = (None, None, None);
        reader.object("the message", ENVELOPE, |reader, field| {
            match (field, message_type) {
                (0, _) => message_type = Some(read_type(reader)?),
                (_, Some(message_type)) => envelope = Some(Self::read_payload(reader, message_type)?),
                (_, None) => later = Some(reader.later()?),
            }
            Ok(())
        })?;
        reader.end()?;
        let message_type = message_type.ok_or_else(|| Fault::not_envelope(NO_ENVELOPE))?;
        match (envelope, later) {
            (Some(envelope), _) => Ok(envelope),
            (None, Some(mut later)) => {
                Self::read_payload(&mut later, message_type).map_err(|fault| fault.within("payload"))
            }
            (None, None) => Err(missing("payload")),
        }
    }

    fn read_payload(reader: &mut Reader<'t>, message_type: WebSocketMessageType) -> Result<Self> {
        match message_type {
            WebSocketMessageType::Auth => Self::read_auth(reader),
            WebSocketMessageType::Ipc => Content::read_ipc(reader).map(Box::new).map(Self::Message),
            WebSocketMessageType::Heartbeat => Content::read_beat(reader).map(Box::new).map(Self::Message),
            WebSocketMessageType::Error => Content::read_error(reader).map(Box::new).map(Self::Message),
        }
    }

    fn read_auth(reader: &mut Reader<'t>) -> Result<Self> {
        let mut envelope = None;
        reader.variant("Auth message", AUTH, |reader, variant, has_content| {
            if !has_content {
                return Err(Fault::content("this has content: {\"NAME\": content}"));
            }
            envelope = Some(match variant {
                0 => Self::Hello(Hello::read(reader)?),
                1 => Self::Authenticate(Shown::read(reader)?),
                2 => Self::Refresh(reader.literal(TOKEN)?),
                _ => Self::Revoke(reader.literal(TOKEN)?),
            });
            Ok(())
        })?;
        envelope.ok_or_else(|| missing("payload"))
    }
}

/// The client's hello.
#[derive(Debug)]
pub(super) struct Hello<'t> {
    pub(super) name: Cow<'t, str>,
    pub(super) boot_id: Option<u64>,
    pub(super) heartbeat_ms: u32,
    pub(super) max_message_size: Option<u32>,
}

impl<'t> Hello<'t> {
    fn read(reader: &mut Reader<'t>) -> Result<Self> {
        let (mut name, mut boot_id, mut heartbeat_ms, mut max_message_size) = (None, None, 0, None);
        reader.object("Hello", HELLO, |reader, field| {
            match field {
                0 => {
                    let text = reader.string("a name")?;
                    if !Address::new(&text).is_ok_and(|name| name.as_str() == name.component()) {
                        let text = format!("a name is 1 to {MAX_NAME} of a-z, 0-9, '.', '_' and '-'");
                        return Err(Fault::content(text));
                    }
                    name = Some(text);
                }
                1 => boot_id = Some(read_id(reader, u64::MAX)?),
                2 => heartbeat_ms = read_u32(reader)?,
                _ => max_message_size = Some(read_u32(reader)?),
            }
            Ok(())
        })?;
        let name = name.ok_or_else(|| missing("name"))?;
        Ok(Self { name, boot_id, heartbeat_ms, max_message_size })
    }
}

/// Credentials, as literals: what is secret in them is copied no more often than it must be.
pub(super) enum Shown<'t> {
    Token(Cow<'t, str>),
    UsernamePassword { username: &'t str, password: &'t str },
    ApiKey(&'t str),
    Certificate,
}

impl<'t> Shown<'t> {
    fn read(reader: &mut Reader<'t>) -> Result<Self> {
        let mut shown = None;
        reader.variant("way to prove oneself", CREDENTIALS, |reader, variant, has_content| {
            shown = Some(match (variant, has_content) {
                (0, true) => Self::Token(reader.string(TOKEN)?),
                (1, true) => {
                    let (mut username, mut password) = (None, None);
                    reader.object("UsernamePassword", &["username", "password"], |reader, field| {
                        match field {
                            0 => username = Some(reader.literal("a user's name")?),
                            _ => password = Some(reader.literal("a password")?),
                        }
                        Ok(())
                    })?;
                    let username = username.ok_or_else(|| missing("username"))?;
                    let password = password.ok_or_else(|| missing("password"))?;
                    Self::UsernamePassword { username, password }
                }
                (2, true) => Self::ApiKey(reader.literal("an API key")?),
                (3, false) => Self::Certificate,
                (3, true) => return Err(Fault::content("this has no content: \"Certificate\"")),
                _ => return Err(Fault::content("this has content: {\"NAME\": content}")),
            });
            Ok(())
        })?;
        shown.ok_or_else(|| missing("Authenticate"))
    }
}

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown(not shown)")
    }
}

/// A message but for its name.
pub(super) struct Content<'t> {
    pub(super) message_type: MessageType,
    pub(super) id: Option<u64>,
    pub(super) source: Option<Cow<'t, str>>,
    pub(super) destination: Option<Cow<'t, str>>,
    pub(super) payload: Payload<'t>,
    pub(super) timestamp: Option<u64>,
    pub(super) uncertainty_us: Option<u32>,
    pub(super) auth_token: Option<Cow<'t, str>>,
    pub(super) flags: MessageFlags,
}

impl<'t> Content<'t> {
    const fn new(message_type: MessageType) -> Self {
        Self {
            message_type,
            id: None,
            source: None,
            destination: None,
            payload: Payload::Empty,
            timestamp: None,
            uncertainty_us: None,
            auth_token: None,
            flags: MessageFlags::NONE,
        }
    }

    fn read_ipc(reader: &mut Reader<'t>) -> Result<Self> {
        let mut content = Self::new(MessageType::Request);
        let (mut message_type, mut flags) = (None, Flags::default());
        reader.object("a message", IPC, |reader, field| {
            match field {
                0 => content.id = Some(read_id(reader, u64::MAX)?),
                1 => message_type = Some(TYPES[read_name(reader, "message type", TYPE_NAMES)?]),
                2 => content.payload = Payload::read(reader)?,
                3 => flags = Flags::read(reader)?,
                _ => content.read_part(reader, IPC[field])?,
            }
            Ok(())
        })?;
        content.message_type = message_type.ok_or_else(|| missing("message_type"))?;
        content.flags = flags.complete(content.message_type == MessageType::Request);
        content.check_ipc()?;
        content.checked()
    }

    fn read_error(reader: &mut Reader<'t>) -> Result<Self> {
        let mut content = Self::new(MessageType::Error);
        let (mut kind, mut text, mut payload, mut flags) = (None, None, None, Flags::default());
        reader.object("an Error", ERROR, |reader, field| {
            match field {
                0 => content.id = Some(read_id(reader, u64::MAX)?),
                1 => kind = Some(KINDS[read_name(reader, "kind of error", KIND_NAMES)?]),
                2 => text = Some(reader.string("the text of an error")?),
                3 => flags = Flags::read(reader)?,
                4 => payload = Some(Payload::read(reader)?),
                _ => content.read_part(reader, ERROR[field])?,
            }
            Ok(())
        })?;
        content.flags = flags.complete(false);
        let is_wrapped = content.flags.encrypted || content.flags.compressed;
        content.payload = match (kind, text, payload) {
            (None, None, Some(payload)) if is_wrapped => payload,
            (_, _, Some(_)) => return Err(Fault::content(ONLY_WRAPPED).within("payload")),
            (_, _, None) if is_wrapped => return Err(missing("payload")),
            (None, _, _) => return Err(missing("kind")),
            (_, None, _) => return Err(missing("text")),
            (Some(kind), Some(text), None) => Payload::Error(kind, text),
        };
        if matches!(&content.payload, Payload::Error(_, text) if matches!(text.as_bytes(), [..0x20])) {
            return Err(Fault::content("a text of one control character is none").within("text"));
        }
        content.checked()
    }

    fn read_beat(reader: &mut Reader<'t>) -> Result<Self> {
        let mut content = Self::new(MessageType::Heartbeat);
        content.flags.requires_response = true;
        reader.object("a Heartbeat", HEARTBEAT, |reader, field| {
            match field {
                0 => content.id = Some(read_id(reader, MAX_ID)?),
                _ => content.timestamp = Some(reader.number("timestamp", u64::MAX)?),
            }
            Ok(())
        })?;
        Ok(content)
    }

    /// Reads a field that messages and errors have.
    fn read_part(&mut self, reader: &mut Reader<'t>, name: &str) -> Result<()> {
        match name {
            "source" => self.source = Some(read_address(reader)?),
            "destination" => self.destination = Some(read_address(reader)?),
            "timestamp" => self.timestamp = Some(reader.number("timestamp", u64::MAX)?),
            "uncertainty_us" => self.uncertainty_us = Some(read_u32(reader)?),
            _ => self.auth_token = Some(reader.string(TOKEN)?),
        }
        Ok(())
    }

    /// What one field alone does not show of a Request, Response or Notification.
    fn check_ipc(&self) -> Result<()> {
        let is_request = self.message_type == MessageType::Request;
        let is_response = self.message_type == MessageType::Response;
        let needs_id = is_request || is_response || self.flags.requires_response || self.source.is_some();
        match self.id {
            None if needs_id => return Err(missing("id")),
            Some(0) => return Err(Fault::content("ids begin at \"1\"").within("id")),
            Some(id) if id > MAX_ID && !is_response => {
                let text = format!("ids of one's own go up to \"{MAX_ID}\"");
                return Err(Fault::content(text).within("id"));
            }
            _ => {}
        }
        if is_response && self.flags.requires_response {
            let text = "a Response is not answered: leave this out";
            return Err(Fault::content(text).within("requires_response").within("flags"));
        }
        if self.destination.is_none() && !is_response {
            return Err(missing("destination"));
        }
        if self.destination.as_deref() == Some(bus::HELLO) {
            let text = "say hello by an Auth message: {\"message_type\":\"Auth\",\"payload\":{\"Hello\":{\"name\":\"…\"}}}";
            return Err(Fault::content(text).within("destination"));
        }
        Ok(())
    }

    /// What one field alone does not show.
    fn checked(self) -> Result<Self> {
        if self.uncertainty_us.is_some() && self.timestamp.is_none() {
            return Err(Fault::content("this needs a timestamp beside it").within("uncertainty_us"));
        }
        let wrapped = [("encrypted", self.flags.encrypted), ("compressed", self.flags.compressed)];
        if let Some((name, _)) = wrapped.iter().find(|(_, is_set)| *is_set)
            && !matches!(self.payload, Payload::Binary(_))
        {
            return Err(Fault::content("such a payload is {\"Binary\":\"…\"}").within(name).within("flags"));
        }
        Ok(self)
    }
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("message_type", &self.message_type)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a message carries.
pub(super) enum Payload<'t> {
    Empty,
    /// As it stands in the text, with its quotes.
    String(&'t str),
    /// Base64 that nobody has looked at.
    Binary(Cow<'t, str>),
    /// As it stands in the text.
    Json(&'t str),
    Toml(Cow<'t, str>),
    Error(ErrorKind, Cow<'t, str>),
}

impl<'t> Payload<'t> {
    fn read(reader: &mut Reader<'t>) -> Result<Self> {
        let mut payload = Self::Empty;
        reader.variant("kind of payload", PAYLOADS, |reader, variant, has_content| {
            payload = match (variant, has_content) {
                (0, false) => Self::Empty,
                (0, true) => return Err(Fault::content("this has no content: \"Empty\"")),
                (1, true) => Self::String(reader.literal("the payload String")?),
                (2, true) => Self::Binary(reader.string("the payload Binary, base64,")?),
                (3, true) => Self::Json(reader.raw()?),
                (4, true) => Self::Toml(reader.string("the payload Toml")?),
                _ => return Err(Fault::content("this has content: {\"KIND\": content}")),
            };
            Ok(())
        })?;
        Ok(payload)
    }
}

/// Flags as far as they are said.
#[derive(Default)]
struct Flags {
    flags: MessageFlags,
    requires_response: Option<bool>,
}

impl Flags {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let mut said = Self::default();
        reader.object("flags", FLAGS, |reader, field| {
            match field {
                0 => said.requires_response = Some(reader.boolean("requires_response")?),
                1 => said.flags.encrypted = reader.boolean("encrypted")?,
                2 => said.flags.compressed = reader.boolean("compressed")?,
                3 => said.flags.priority = PRIORITIES[read_name(reader, "priority", PRIORITY_NAMES)?],
                _ => said.flags.timeout_ms = Some(read_u32(reader)?),
            }
            Ok(())
        })?;
        Ok(said)
    }

    fn complete(self, requires_response: bool) -> MessageFlags {
        let requires_response = self.requires_response.unwrap_or(requires_response);
        MessageFlags { requires_response, ..self.flags }
    }
}

/// The id of the Request or Notification that a text means to be, whatever is wrong with the text.
pub(super) fn id_in(text: &str) -> Option<u64> {
    let (mut id, mut is_asked) = (None, true);
    let mut read = |reader: &mut Reader<'_>| {
        reader.object("", IPC, |reader, field| {
            match field {
                0 => id = Some(read_id(reader, MAX_ID)?),
                1 => is_asked = matches!(&*reader.string("")?, "Request" | "Notification"),
                _ => drop(reader.raw()?),
            }
            Ok(())
        })
    };
    let mut is_ipc = false;
    // Only what stands before the fault is there to be found.
    let _ = Reader::new(text).object("", ENVELOPE, |reader, field| {
        match field {
            0 => is_ipc = reader.string("")? == WebSocketMessageType::Ipc.as_str(),
            _ => read(reader)?,
        }
        Ok(())
    });
    id.filter(|id| is_ipc && is_asked && *id != 0)
}

fn read_type(reader: &mut Reader<'_>) -> Result<WebSocketMessageType> {
    let name = reader.string("message_type").map_err(|fault| match fault.class() {
        super::fault::Class::Content => Fault::not_envelope(NO_ENVELOPE),
        _ => fault,
    })?;
    let unknown =
        || Fault::not_envelope(format!("there is no message_type {:?}: {NO_ENVELOPE}", shown(&name)));
    WebSocketMessageType::from_name(&name).ok_or_else(unknown)
}

/// The number of the name that is read.
fn read_name(reader: &mut Reader<'_>, what: &str, names: &[&str]) -> Result<usize> {
    let name = reader.string(what)?;
    let unknown = || Fault::content(format!("there is no such {what}; there are {}", names.join(", ")));
    names.iter().position(|known| **known == *name).ok_or_else(unknown)
}

/// A number of 64 bits, as a string: a number of JavaScript has 53.
fn read_id(reader: &mut Reader<'_>, max: u64) -> Result<u64> {
    let wrong =
        || Fault::content(format!("this is a decimal number in a string, such as \"7\", up to \"{max}\""));
    if reader.peek() != Some(b'"') {
        return reader.raw().and_then(|_| Err(wrong()));
    }
    let text = reader.string("an id")?;
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    let number = if is_plain { text.parse().ok() } else { None };
    number.filter(|number| *number <= max).ok_or_else(wrong)
}

fn read_u32(reader: &mut Reader<'_>) -> Result<u32> {
    let number = reader.number("this", u32::MAX.into())?;
    // It was asked to be no more.
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn read_address<'t>(reader: &mut Reader<'t>) -> Result<Cow<'t, str>> {
    let text = reader.string("an address")?;
    match Address::new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Fault::content(format!("this is no address: {error}"))),
    }
}

#[cold]
fn missing(field: &'static str) -> Fault {
    Fault::content("this is missing").within(field)
}

/// The largest id of a client's own; those above are for what the translator asks in its name.
pub(super) const MAX_ID: u64 = (1 << 63) - 1;
const ENVELOPE: &[&str] = &["message_type", "payload"];
const AUTH: &[&str] = &["Hello", "Authenticate", "Refresh", "Revoke"];
const HELLO: &[&str] = &["name", "boot_id", "heartbeat_interval_ms", "max_message_size"];
const CREDENTIALS: &[&str] = &["Token", "UsernamePassword", "ApiKey", "Certificate"];
const IPC: &[&str] = &[
    "id",
    "message_type",
    "payload",
    "flags",
    "source",
    "destination",
    "timestamp",
    "uncertainty_us",
    "auth_token",
];
const ERROR: &[&str] = &[
    "id",
    "kind",
    "text",
    "flags",
    "payload",
    "source",
    "destination",
    "timestamp",
    "uncertainty_us",
    "auth_token",
];
const HEARTBEAT: &[&str] = &["id", "timestamp"];
const FLAGS: &[&str] = &["requires_response", "encrypted", "compressed", "priority", "timeout_ms"];
const PAYLOADS: &[&str] = &["Empty", "String", "Binary", "Json", "Toml"];
const TYPES: [MessageType; 3] = [MessageType::Request, MessageType::Response, MessageType::Notification];
const TYPE_NAMES: &[&str] = &["Request", "Response", "Notification"];
const PRIORITIES: [MessagePriority; 4] =
    [MessagePriority::Low, MessagePriority::Normal, MessagePriority::High, MessagePriority::Critical];
const PRIORITY_NAMES: &[&str] = &["Low", "Normal", "High", "Critical"];
const KINDS: [ErrorKind; 8] = [
    ErrorKind::Authentication,
    ErrorKind::Authorization,
    ErrorKind::Connection,
    ErrorKind::Message,
    ErrorKind::Timeout,
    ErrorKind::Serialization,
    ErrorKind::Protocol,
    ErrorKind::Internal,
];
const KIND_NAMES: &[&str] = &[
    "Authentication",
    "Authorization",
    "Connection",
    "Message",
    "Timeout",
    "Serialization",
    "Protocol",
    "Internal",
];
const TOKEN: &str = "the text of a token";
const ONLY_WRAPPED: &str =
    "an Error has a kind and a text, and a payload only where that is encrypted or compressed";
const NO_ENVELOPE: &str =
    "a message is {\"message_type\":\"Auth\", \"IPC\", \"Heartbeat\" or \"Error\",\"payload\":…}";
