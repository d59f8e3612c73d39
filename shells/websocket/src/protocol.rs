//! What both ends of a WebSocket agree on: the subprotocol, and for JSON what one message is and what the hub tells of
//! itself in its hello. Nothing here knows how a message becomes a frame.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use visorbus_auth::AuthMethod;
use visorbus_core::MessageType;

/// A subprotocol of the WebSocket (RFC 6455 section 1.9), in the order in which the hub prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subprotocol {
    /// One frame of wire version 1 per binary message, without its length.
    Postcard,
    /// One [`WebSocketMessage`] per text message.
    Json,
}

impl Subprotocol {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Postcard, Self::Json];

    /// The name as it stands in `Sec-WebSocket-Protocol`. Case counts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postcard => "visorbus.v1.postcard",
            Self::Json => "visorbus.v1.json",
        }
    }

    /// The subprotocol of exactly this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// The first of a client's list, the value of `Sec-WebSocket-Protocol`, that is known here: the order is the
    /// client's wish (RFC 6455 section 4.1). Unknown names are passed over.
    pub fn choose(list: &str) -> Option<Self> {
        list.split(',').map(|name| name.trim_matches([' ', '\t'])).find_map(Self::from_name)
    }
}

impl std::fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the hub tells a JSON client in the answer to its hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSocketProtocol {
    /// Version of the messages.
    pub version: String,
    /// Kinds of messages that pass, by the names of [`MessageType`].
    #[serde(with = "message_types")]
    pub supported_message_types: Vec<MessageType>,
    /// Ways to prove oneself over this connection: `Token`, `UsernamePassword`, `ApiKey`, `Certificate`.
    #[serde(with = "auth_methods")]
    pub supported_auth_methods: Vec<AuthMethod>,
    /// Bytes of the longest message that the hub takes.
    pub max_message_size: u32,
    /// Milliseconds between the pings by which the hub notices that a client is gone; 0 for none.
    pub heartbeat_interval_ms: u32,
}

impl Default for WebSocketProtocol {
    /// Version 1, everything but certificates, 1 MiB, a ping every 15 s.
    fn default() -> Self {
        Self {
            version: VERSION.to_owned(),
            supported_message_types: vec![
                MessageType::Request,
                MessageType::Response,
                MessageType::Notification,
                MessageType::Error,
                MessageType::Heartbeat,
            ],
            supported_auth_methods: vec![AuthMethod::Token, AuthMethod::Password, AuthMethod::ApiKey],
            max_message_size: 1 << 20,
            heartbeat_interval_ms: 15_000,
        }
    }
}

/// One message of `visorbus.v1.json`: the envelope, its content as it stands in the text.
///
/// ```
/// use visorbus_websocket::{WebSocketMessage, WebSocketMessageType};
///
/// let text = r#"{"message_type":"Heartbeat","payload":{"id":"1"}}"#;
/// let message: WebSocketMessage<'_> = serde_json::from_str(text)?;
/// assert_eq!(message.message_type, WebSocketMessageType::Heartbeat);
/// assert_eq!(message.payload.get(), r#"{"id":"1"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSocketMessage<'a> {
    /// What the payload is.
    pub message_type: WebSocketMessageType,
    /// The content: an object, for some of `Auth` a string. `schemas/envelope.schema.json` has all of it.
    #[serde(borrow)]
    pub payload: &'a RawValue,
}

/// What the payload of a [`WebSocketMessage`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WebSocketMessageType {
    /// Hello, and everything about who the client is.
    Auth,
    /// A Request, Response or Notification.
    #[serde(rename = "IPC")]
    Ipc,
    /// Shows that an end is alive.
    Heartbeat,
    /// Says why something was not acted on.
    Error,
}

impl WebSocketMessageType {
    /// The name in the envelope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "Auth",
            Self::Ipc => "IPC",
            Self::Heartbeat => "Heartbeat",
            Self::Error => "Error",
        }
    }

    /// The type of exactly this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auth, Self::Ipc, Self::Heartbeat, Self::Error].into_iter().find(|known| known.as_str() == name)
    }
}

/// Version of the messages of `visorbus.v1.json`.
pub const VERSION: &str = "1";

/// Message types by their names in JSON.
mod message_types {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use visorbus_core::MessageType;

    pub(super) fn serialize<S: Serializer>(types: &[MessageType], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(types.iter().map(|message_type| name(*message_type)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<MessageType>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let known = |text: String| {
            let found = (0..=u8::MAX).map_while(MessageType::from_code).find(|known| name(*known) == text);
            found.ok_or_else(|| D::Error::custom(format!("'{text}' is no message type")))
        };
        names.into_iter().map(known).collect()
    }

    const fn name(message_type: MessageType) -> &'static str {
        match message_type {
            MessageType::Request => "Request",
            MessageType::Response => "Response",
            MessageType::Notification => "Notification",
            MessageType::Error => "Error",
            MessageType::Heartbeat => "Heartbeat",
        }
    }
}

/// Ways to prove oneself by their names in JSON, those of the credentials.
mod auth_methods {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use visorbus_auth::AuthMethod;

    pub(super) fn serialize<S: Serializer>(methods: &[AuthMethod], serializer: S) -> Result<S::Ok, S::Error> {
        let name =
            |method: &AuthMethod| NAMES.iter().find(|(known, _)| known == method).map(|(_, name)| *name);
        serializer.collect_seq(methods.iter().filter_map(name))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<AuthMethod>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let known = |text: String| {
            let found = NAMES.iter().find(|(_, name)| *name == text).map(|(method, _)| *method);
            found.ok_or_else(|| D::Error::custom(format!("'{text}' is no way to prove oneself")))
        };
        names.into_iter().map(known).collect()
    }

    /// What a WebSocket has no use for is not told of.
    const NAMES: [(AuthMethod, &str); 4] = [
        (AuthMethod::Token, "Token"),
        (AuthMethod::Password, "UsernamePassword"),
        (AuthMethod::ApiKey, "ApiKey"),
        (AuthMethod::Certificate, "Certificate"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_name_of_the_clients_list_is_chosen_and_nothing_that_merely_resembles_one() {
        assert_eq!(Subprotocol::choose("visorbus.v1.json"), Some(Subprotocol::Json));
        assert_eq!(
            Subprotocol::choose("mqtt,\t visorbus.v1.postcard ,visorbus.v1.json"),
            Some(Subprotocol::Postcard)
        );
        assert_eq!(Subprotocol::choose("visorbus.v1.json, visorbus.v1.postcard"), Some(Subprotocol::Json));
        for strange in [
            "",
            ",",
            "json",
            "Visorbus.v1.json",
            "visorbus.v2.json",
            "visorbus.v1.json;q=1",
            "visorbus.v1.jsonx",
        ] {
            assert_eq!(Subprotocol::choose(strange), None, "{strange}");
        }
    }

    #[test]
    fn the_protocol_is_told_in_the_names_of_its_messages() {
        let mut protocol = WebSocketProtocol::default();
        protocol.supported_auth_methods.push(AuthMethod::Certificate);
        let text = serde_json::to_string(&protocol).unwrap();
        assert_eq!(
            text,
            r#"{"version":"1","supported_message_types":["Request","Response","Notification","Error","Heartbeat"],"#
                .to_owned()
                + r#""supported_auth_methods":["Token","UsernamePassword","ApiKey","Certificate"],"#
                + r#""max_message_size":1048576,"heartbeat_interval_ms":15000}"#
        );
        assert_eq!(serde_json::from_str::<WebSocketProtocol>(&text).unwrap(), protocol);
        assert!(serde_json::from_str::<WebSocketProtocol>(&text.replace("ApiKey", "Peer")).is_err());
    }
}
