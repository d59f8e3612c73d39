//! One connection's messages: from JSON to frames, and from frames to JSON.

use std::sync::Arc;

use data_encoding::BASE64;
use visorbus_core::auth::decode_text;
use visorbus_core::bus::{self, Identity};
use visorbus_core::codec::{self, DecodeError, MAX_HEADER};
use visorbus_core::frame::length;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::Address;
use visorbus_core::{Message, MessagePayload, MessageType};
use visorbus_hub::ReceiveBuffer;
use zeroize::Zeroizing;

use super::Refusal;
use super::envelope::{Content, Envelope, Hello, MAX_ID, Payload, Shown};
use super::fault::Fault;
use super::reader::{Result, check};
use super::writer::{write_auth, write_beat, write_error, write_ipc};
use crate::protocol::WebSocketProtocol;

/// Translates the messages of one connection. One that is idle holds a few bytes.
///
/// ```
/// use std::sync::Arc;
/// use visorbus_hub::ReceiveBuffer;
/// use visorbus_websocket::{WebSocketProtocol, json::Translator};
///
/// let mut translator = Translator::new(Arc::new(WebSocketProtocol::default()));
/// let mut frames = ReceiveBuffer::default();
/// let text = r#"{"message_type":"IPC","payload":{"id":"7","message_type":"Request","destination":"imu/info"}}"#;
/// translator.incoming(text, &mut frames).expect("a message");
/// let frame = &frames.as_slice()[4..];
/// assert_eq!(translator.outgoing(frame)?, text);
/// # Ok::<(), visorbus_core::codec::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Translator {
    protocol: Arc<WebSocketProtocol>,
    /// Requests that were made of `Auth` messages.
    asked: u64,
    refused: u64,
}

impl Translator {
    /// A translator for a connection that has said nothing yet; `protocol` is what the answer to its hello tells.
    pub const fn new(protocol: Arc<WebSocketProtocol>) -> Self {
        Self { protocol, asked: 0, refused: 0 }
    }

    /// Translates one text message and appends what it is to `into`: whole frames, each behind its length prefix.
    ///
    /// # Errors
    /// The text is no message: `into` is as it was, and [`Refusal`] says what to answer and whether to close.
    pub fn incoming(&mut self, text: &str, into: &mut ReceiveBuffer) -> std::result::Result<(), Refusal> {
        let outcome = Envelope::read(text).and_then(|envelope| self.take(envelope, into));
        outcome.map_err(|fault| {
            self.refused = self.refused.wrapping_add(1);
            Refusal::new(text, fault)
        })
    }

    /// The text message of one frame (without its length prefix).
    ///
    /// # Errors
    /// The frame is not one of wire version 1.
    pub fn outgoing(&mut self, frame: &[u8]) -> std::result::Result<String, DecodeError> {
        let message = codec::decode(frame)?;
        Ok(match message.message_type {
            MessageType::Heartbeat => write_beat(&message),
            MessageType::Response if message.id > MAX_ID => self.answer(&message),
            MessageType::Error => {
                // The client knows no id of what it has not sent as a message of its own.
                let asked = Asked::of(message.id).map(|asked| Message {
                    id: 0,
                    source: Some(asked.address()),
                    ..message
                });
                write_error(&asked.unwrap_or(message))
            }
            _ => write_ipc(&message),
        })
    }

    /// How many texts were refused.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn take(&mut self, envelope: Envelope<'_>, into: &mut ReceiveBuffer) -> Result<()> {
        match envelope {
            Envelope::Hello(hello) => self.greet(&hello, into),
            Envelope::Authenticate(shown) => self.authenticate(&shown, into),
            Envelope::Refresh(token) => self.ask(Asked::Refresh, Kind::Json, &[token.as_bytes()], into),
            Envelope::Revoke(token) => {
                self.ask(Asked::Revoke, Kind::Json, &[b"{\"token\":", token.as_bytes(), b"}"], into)
            }
            Envelope::Message(content) => put(*content, into),
        }
    }

    fn greet(&mut self, hello: &Hello<'_>, into: &mut ReceiveBuffer) -> Result<()> {
        let boot_id = hello.boot_id.map_or_else(random, Ok)?;
        let max_frame = hello.max_message_size.unwrap_or(self.protocol.max_message_size);
        let identity = Identity {
            min_version: bus::WIRE_VERSION,
            max_version: bus::WIRE_VERSION,
            name: &hello.name,
            boot_id,
            max_frame,
            heartbeat_ms: hello.heartbeat_ms,
            capabilities: 0,
            rows: 0,
            unix_us: 0,
        };
        let mut bytes = [0; 128];
        // A name and six numbers always fit.
        let bytes = postcard::to_slice(&identity, &mut bytes)
            .map_err(|_| Fault::content("this hello is too long"))?;
        self.ask(Asked::Hello, Kind::Binary, &[bytes], into)
    }

    fn authenticate(&mut self, shown: &Shown<'_>, into: &mut ReceiveBuffer) -> Result<()> {
        let parts: &[&[u8]] = match shown {
            Shown::Token(text) => {
                let mut bytes = Zeroizing::new([0; MAX_TOKEN]);
                let token = decode_text(text, &mut *bytes).map_err(|error| {
                    Fault::content(error.to_string()).within("Token").within("Authenticate").within("payload")
                })?;
                let (len, used) = varint(token.len());
                return self.ask(Asked::Authenticate, Kind::Binary, &[&[0], &len[..used], token], into);
            }
            Shown::UsernamePassword { username, password } => {
                let (username, password) = (username.as_bytes(), password.as_bytes());
                &[b"{\"username_password\":{\"username\":", username, b",\"password\":", password, b"}}"]
            }
            Shown::ApiKey(api_key) => &[b"{\"api_key\":", api_key.as_bytes(), b"}"],
            Shown::Certificate => &[b"\"certificate\""],
        };
        self.ask(Asked::Authenticate, Kind::Json, parts, into)
    }

    /// Appends a request to the hub whose answer is told as an `Auth` message.
    fn ask(&mut self, asked: Asked, kind: Kind, parts: &[&[u8]], into: &mut ReceiveBuffer) -> Result<()> {
        self.asked = self.asked.wrapping_add(1);
        let mut request = Message::request(asked.id(self.asked), asked.address());
        request.payload = match kind {
            Kind::Json => MessagePayload::Json(""),
            Kind::Binary => MessagePayload::Binary(&[]),
        };
        append(&request, parts, into)
    }

    /// The `Auth` message that tells of the answer to a request of [`Translator::ask`].
    fn answer(&self, message: &Message<'_>) -> String {
        let Some(asked) = Asked::of(message.id) else { return write_ipc(message) };
        let token = match message.payload {
            MessagePayload::Json(text) if check(text).is_ok() => text,
            _ => "null",
        };
        match asked {
            Asked::Hello => self.welcome(message).unwrap_or_else(|| write_ipc(message)),
            Asked::Authenticate => write_auth(&["{\"Authenticated\":{\"token\":", token, "}}"]),
            Asked::Refresh => write_auth(&["{\"Refreshed\":{\"token\":", token, "}}"]),
            Asked::Revoke => write_auth(&["\"Revoked\""]),
        }
    }

    fn welcome(&self, message: &Message<'_>) -> Option<String> {
        let identity: Identity<'_> = message.payload.parse().ok()?;
        let welcome = Welcome {
            name: identity.name,
            boot_id: identity.boot_id.to_string(),
            requires_authentication: identity.capabilities & bus::REQUIRES_AUTHENTICATION != 0,
            unix_us: identity.unix_us,
            protocol: &self.protocol,
        };
        let welcome = serde_json::to_string(&welcome).ok()?;
        Some(write_auth(&["{\"Hello\":", &welcome, "}"]))
    }
}

/// What the hub says of itself.
#[derive(serde::Serialize)]
struct Welcome<'a> {
    name: &'a str,
    boot_id: String,
    requires_authentication: bool,
    unix_us: u64,
    protocol: &'a WebSocketProtocol,
}

/// What an `Auth` message asks the hub. Its ids tell it: nothing has to be remembered.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Hello,
    Authenticate,
    Refresh,
    Revoke,
}

impl Asked {
    /// The id of the request that is the `number`th of a connection.
    const fn id(self, number: u64) -> u64 {
        (MAX_ID + 1) | (number << 2 & MAX_ID) | self as u64
    }

    const fn of(id: u64) -> Option<Self> {
        if id <= MAX_ID {
            return None;
        }
        Some(match id & 3 {
            0 => Self::Hello,
            1 => Self::Authenticate,
            2 => Self::Refresh,
            _ => Self::Revoke,
        })
    }

    const fn address(self) -> Address<'static> {
        match self {
            Self::Hello => const { Address::literal(bus::HELLO) },
            Self::Authenticate => const { Address::literal(bus::AUTHENTICATE) },
            Self::Refresh => const { Address::literal(bus::REFRESH) },
            Self::Revoke => const { Address::literal(bus::REVOKE) },
        }
    }
}

enum Kind {
    Json,
    Binary,
}

/// Appends the frame of a message.
fn put(content: Content<'_>, into: &mut ReceiveBuffer) -> Result<()> {
    let mut token = Zeroizing::new([0; MAX_TOKEN]);
    let auth_token = match &content.auth_token {
        None => None,
        Some(text) => {
            let token = decode_text(text, &mut *token);
            Some(token.map_err(|error| below_payload(Fault::content(error.to_string()), "auth_token"))?)
        }
    };
    let message = Message {
        id: content.id.unwrap_or(0),
        message_type: content.message_type,
        source: address(content.source.as_deref()),
        destination: address(content.destination.as_deref()),
        payload: MessagePayload::Empty,
        timestamp: content.timestamp,
        uncertainty_us: content.uncertainty_us,
        auth_token,
        flags: content.flags,
    };
    let of = |payload| Message { payload, ..message };
    let (json, binary) = (of(MessagePayload::Json("")), of(MessagePayload::Binary(&[])));
    match content.payload {
        // The hub answers in JSON what it was asked in JSON.
        Payload::Empty if is_for_hub(&message) => append(&json, &[b"null"], into),
        Payload::Empty => append(&message, &[], into),
        Payload::String(literal) if is_for_hub(&message) => append(&json, &[literal.as_bytes()], into),
        Payload::String(literal) => {
            append(&of(MessagePayload::String("")), &[super::reader::unquote(literal).as_bytes()], into)
        }
        Payload::Json(text) => append(&json, &[text.as_bytes()], into),
        Payload::Toml(text) => append(&of(MessagePayload::Toml("")), &[text.as_bytes()], into),
        Payload::Error(kind, text) => append(&binary, &[&[kind.code()], text.as_bytes()], into),
        Payload::Binary(text) => append_base64(&binary, &text, into),
    }
}

/// Whether it asks the hub itself for something.
fn is_for_hub(message: &Message<'_>) -> bool {
    message.message_type == MessageType::Request
        && message.destination.is_some_and(|to| to.component() == bus::NAME)
}

/// Appends a frame: the header of `message`, then `parts`.
fn append(message: &Message<'_>, parts: &[&[u8]], into: &mut ReceiveBuffer) -> Result<()> {
    let (header, len) = header(message)?;
    let whole = len + parts.iter().map(|part| part.len()).sum::<usize>();
    into.extend(&length::prefix(whole));
    into.extend(&header[..len]);
    parts.iter().for_each(|part| into.extend(part));
    Ok(())
}

/// As [`append`], the payload being in base64.
fn append_base64(message: &Message<'_>, text: &str, into: &mut ReceiveBuffer) -> Result<()> {
    let wrong = || below_payload(Fault::content(NO_BASE64).within("Binary"), "payload");
    let (header, len) = header(message)?;
    let begin = length::PREFIX_LEN + len;
    let most = BASE64.decode_len(text.len()).map_err(|_| wrong())?;
    let space = into.space(begin + most);
    let used = BASE64.decode_mut(text.as_bytes(), &mut space[begin..begin + most]).map_err(|_| wrong())?;
    space[..length::PREFIX_LEN].copy_from_slice(&length::prefix(len + used));
    space[length::PREFIX_LEN..begin].copy_from_slice(&header[..len]);
    into.filled(begin + used);
    Ok(())
}

fn header(message: &Message<'_>) -> Result<([u8; MAX_HEADER + 2 + MAX_TOKEN], usize)> {
    let mut header = [0; MAX_HEADER + 2 + MAX_TOKEN];
    let len =
        codec::encode_header(message, &mut header).map_err(|_| Fault::content("this message is too long"))?;
    Ok((header, len))
}

/// An address that was checked when it was read.
fn address(text: Option<&str>) -> Option<Address<'_>> {
    text.and_then(|text| Address::new(text).ok())
}

fn below_payload(fault: Fault, field: &str) -> Fault {
    fault.within(field).within("payload")
}

/// A length below 2^14 as a varint, and how many bytes that has.
const fn varint(len: usize) -> ([u8; 2], usize) {
    if len < 0x80 { ([len as u8, 0], 1) } else { ([len as u8 | 0x80, (len >> 7) as u8], 2) }
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|_| Fault::content("the hub has no random numbers: name a boot_id"))?;
    Ok(u64::from_le_bytes(bytes))
}

const NO_BASE64: &str = "this is not base64 (RFC 4648 section 4, with padding)";

#[cfg(test)]
mod tests;
