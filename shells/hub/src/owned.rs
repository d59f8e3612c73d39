//! Messages that own their parts: what clients send, keep and hand between threads.

use visorbus_core::message::{Address, Message, MessageFlags, MessagePayload, MessageType};
use visorbus_core::{ErrorKind, IpcError};

pub use visorbus_auth::{Error, Result};

/// A [`Message`] that owns its parts. `Debug` shows all of it but its token.
#[derive(Clone, PartialEq)]
pub struct OwnedMessage {
    /// Unique per source; 0 lets the client choose the next.
    pub id: u64,
    /// What kind of message it is.
    pub message_type: MessageType,
    /// Who sent it; empty: this end of the session.
    pub source: String,
    /// Whom it is for; empty: the other end of the session.
    pub destination: String,
    /// What it carries.
    pub payload: OwnedPayload,
    /// When it was made, in microseconds: on the sender's own clock, or, with an uncertainty, on the hub's since 1970.
    pub timestamp: Option<u64>,
    /// By how many microseconds the timestamp may be wrong, as [`Message::uncertainty_us`] says.
    pub uncertainty_us: Option<u32>,
    /// A token for this message alone.
    pub auth_token: Option<Vec<u8>>,
    /// How it is to be treated. A client compresses the payload of a message with `compressed`, and seals that of one with
    /// `encrypted`; of one that it received they say that it was so, the payload itself is expanded and open.
    pub flags: MessageFlags,
}

impl OwnedMessage {
    /// A request to `destination` that wants an answer.
    pub fn request(destination: impl Into<String>, payload: impl Into<OwnedPayload>) -> Self {
        let flags = MessageFlags { requires_response: true, ..MessageFlags::NONE };
        Self { flags, ..Self::new(MessageType::Request, destination.into(), payload.into()) }
    }

    /// A notification on `destination`.
    pub fn notification(destination: impl Into<String>, payload: impl Into<OwnedPayload>) -> Self {
        Self::new(MessageType::Notification, destination.into(), payload.into())
    }

    /// The message borrowed, ready to encode.
    ///
    /// # Errors
    /// `Message` when source or destination is not an address.
    pub fn borrow(&self) -> Result<Message<'_>> {
        Ok(Message {
            id: self.id,
            message_type: self.message_type,
            source: address(&self.source)?,
            destination: address(&self.destination)?,
            payload: self.payload.borrow(),
            timestamp: self.timestamp,
            uncertainty_us: self.uncertainty_us,
            auth_token: self.auth_token.as_deref(),
            flags: self.flags,
        })
    }

    /// What an Error message says; `None` for other messages.
    pub fn error(&self) -> Option<Error> {
        let is_error = self.message_type == MessageType::Error;
        is_error.then(|| IpcError::from_payload(self.payload.borrow().as_bytes()).map(String::from))
    }

    fn new(message_type: MessageType, destination: String, payload: OwnedPayload) -> Self {
        Self {
            id: 0,
            message_type,
            source: String::new(),
            destination,
            payload,
            timestamp: None,
            uncertainty_us: None,
            auth_token: None,
            flags: MessageFlags::NONE,
        }
    }
}

impl std::fmt::Debug for OwnedMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnedMessage")
            .field("id", &self.id)
            .field("message_type", &self.message_type)
            .field("source", &self.source)
            .field("destination", &self.destination)
            .field("payload", &self.payload)
            .field("timestamp", &self.timestamp)
            .field("uncertainty_us", &self.uncertainty_us)
            .field("auth_token", &self.auth_token.as_ref().map(|_| format_args!("not shown")))
            .field("flags", &self.flags)
            .finish()
    }
}

impl From<&Message<'_>> for OwnedMessage {
    fn from(message: &Message<'_>) -> Self {
        let text = |address: Option<Address<'_>>| address.map_or_else(String::new, |a| a.as_str().to_owned());
        Self {
            id: message.id,
            message_type: message.message_type,
            source: text(message.source),
            destination: text(message.destination),
            payload: OwnedPayload::from(message.payload),
            timestamp: message.timestamp,
            uncertainty_us: message.uncertainty_us,
            auth_token: message.auth_token.map(<[u8]>::to_vec),
            flags: message.flags,
        }
    }
}

/// A [`MessagePayload`] that owns its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OwnedPayload {
    /// Nothing.
    #[default]
    Empty,
    /// A text.
    String(String),
    /// Bytes; postcard for typed endpoints and topics.
    Binary(Vec<u8>),
    /// A JSON document.
    Json(String),
    /// A TOML document.
    Toml(String),
}

impl OwnedPayload {
    /// `value` as a JSON document.
    ///
    /// # Errors
    /// `Serialization` when `value` has no JSON form.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_string(value).map(Self::Json).map_err(|e| Error::Serialization(e.to_string()))
    }

    /// `value` as postcard bytes, as typed endpoints take them.
    ///
    /// # Errors
    /// `Serialization` when `value` has no postcard form.
    pub fn postcard<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self> {
        postcard::to_stdvec(value).map(Self::Binary).map_err(|e| Error::Serialization(e.to_string()))
    }

    /// Reads a value: from JSON where the payload is JSON, else from all of its postcard bytes.
    ///
    /// # Errors
    /// `Serialization` when it is not a `T`.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        match self {
            Self::Json(text) => {
                serde_json::from_str(text).map_err(|e| Error::Serialization(without_values(&e.to_string())))
            }
            other => other.borrow().parse().map_err(|e| e.map(String::from)),
        }
    }

    /// The payload borrowed.
    pub fn borrow(&self) -> MessagePayload<'_> {
        match self {
            Self::Empty => MessagePayload::Empty,
            Self::String(text) => MessagePayload::String(text),
            Self::Binary(bytes) => MessagePayload::Binary(bytes),
            Self::Json(text) => MessagePayload::Json(text),
            Self::Toml(text) => MessagePayload::Toml(text),
        }
    }
}

impl From<MessagePayload<'_>> for OwnedPayload {
    fn from(payload: MessagePayload<'_>) -> Self {
        match payload {
            MessagePayload::Empty => Self::Empty,
            MessagePayload::String(text) => Self::String(text.to_owned()),
            MessagePayload::Binary(bytes) => Self::Binary(bytes.to_owned()),
            MessagePayload::Json(text) => Self::Json(text.to_owned()),
            MessagePayload::Toml(text) => Self::Toml(text.to_owned()),
        }
    }
}

/// What serde says is wrong with a text, without what stands in the text: that may be a secret in the wrong place.
pub(crate) fn without_values(text: &str) -> String {
    for (before, after) in [("string \"", "\", expected "), ("unknown variant `", "`, expected ")] {
        let parts = text.split_once(before).and_then(|(what, rest)| Some((what, rest.rsplit_once(after)?.1)));
        if let Some((what, expected)) = parts {
            return format!("{what}{}, expected {expected}", before.trim_end_matches([' ', '"', '`']));
        }
    }
    text.to_owned()
}

/// Owns the text of a borrowed error.
pub fn owned_error(error: &IpcError<&str>) -> Error {
    error.map(str::to_owned)
}

/// An error of `kind` made of anything that can be shown.
pub fn error(kind: ErrorKind, text: impl std::fmt::Display) -> Error {
    IpcError::new(kind, text.to_string())
}

fn address(text: &str) -> Result<Option<Address<'_>>> {
    if text.is_empty() {
        return Ok(None);
    }
    Address::new(text).map(Some).map_err(|e| Error::Message(format!("'{text}' is not an address: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_text_is_said_without_what_stands_in_it() {
        #[derive(Debug, serde::Deserialize)]
        enum Colour {
            Red,
        }
        let error =
            |text: &str| OwnedPayload::Json(text.to_owned()).parse::<Colour>().unwrap_err().text().clone();
        assert_eq!(error(r#""vb1.secret""#), "unknown variant, expected `Red` at line 1 column 12");
        let number = OwnedPayload::Json(r#""vb1.a\", expected ""#.to_owned()).parse::<u32>().unwrap_err();
        assert_eq!(number.text(), "invalid type: string, expected u32 at line 1 column 20");
        assert!(matches!(OwnedPayload::Json("\"Red\"".to_owned()).parse(), Ok(Colour::Red)));
        assert!(error("{").contains("line 1 column 1"), "where it is wrong is said");
    }
}
