//! Messages as the texts of `visorbus.v1.json`, for a client: written and read here without any code of the server's.

use serde_json::{Value, json};
use visorbus_core::bus::{self, Credentials, Identity};
use visorbus_core::message::{Message, MessagePayload, MessageType};
use visorbus_core::{ErrorKind, MessagePriority};
use visorbus_hub::{OwnedMessage, OwnedPayload};

/// One connection's texts. `Auth` messages have no id: what was asked is remembered.
#[derive(Debug, Default)]
pub struct JsonTexts {
    asked: Vec<(u64, &'static str)>,
}

impl JsonTexts {
    /// The text of a message that a client sends.
    ///
    /// # Panics
    /// When what goes to `bus/hello` is no identity.
    pub fn write(&mut self, message: &Message<'_>) -> String {
        let destination = message.destination.map_or("", |to| to.as_str());
        let (message_type, payload) = match (message.message_type, destination) {
            (MessageType::Request, bus::HELLO) => {
                self.asked.push((message.id, bus::HELLO));
                let is: Identity<'_> = message.payload.parse().expect("an identity");
                let hello = json!({
                    "name": is.name,
                    "boot_id": is.boot_id.to_string(),
                    "heartbeat_interval_ms": is.heartbeat_ms,
                    "max_message_size": is.max_frame,
                });
                ("Auth", json!({ "Hello": hello }))
            }
            (MessageType::Request, bus::AUTHENTICATE | bus::REFRESH | bus::REVOKE) => {
                self.write_auth(message).unwrap_or_else(|| ("IPC", ipc(message)))
            }
            (MessageType::Heartbeat, _) => ("Heartbeat", json!({ "id": message.id.to_string() })),
            (MessageType::Error, _) => ("Error", error(message)),
            _ => ("IPC", ipc(message)),
        };
        json!({ "message_type": message_type, "payload": payload }).to_string()
    }

    /// The message of a text that a server has sent.
    ///
    /// # Panics
    /// When it is none.
    pub fn read(&mut self, text: &str) -> OwnedMessage {
        let envelope: Value = serde_json::from_str(text).expect("the hub sends JSON");
        let payload = &envelope["payload"];
        match envelope["message_type"].as_str() {
            Some("Auth") => self.read_auth(payload),
            Some("Error") => self.read_error(payload),
            Some("Heartbeat") => {
                let message = message(MessageType::Heartbeat, OwnedPayload::Empty);
                OwnedMessage { id: id_in(payload), ..message }
            }
            Some("IPC") => read_ipc(payload),
            _ => panic!("no envelope: {text}"),
        }
    }

    /// What `Auth` messages are for; `None` where there is none for it, and it goes as any other request.
    fn write_auth(&mut self, message: &Message<'_>) -> Option<(&'static str, Value)> {
        let (address, payload) = match (message.destination?.as_str(), message.payload) {
            (bus::REFRESH, MessagePayload::String(token)) => (bus::REFRESH, json!({ "Refresh": token })),
            (bus::REVOKE, MessagePayload::String(token)) => (bus::REVOKE, json!({ "Revoke": token })),
            (bus::AUTHENTICATE, payload) => {
                let shown = payload.parse().ok()?;
                (bus::AUTHENTICATE, json!({ "Authenticate": credentials(&shown) }))
            }
            _ => return None,
        };
        self.asked.push((message.id, address));
        Some(("Auth", payload))
    }

    fn read_auth(&mut self, payload: &Value) -> OwnedMessage {
        let hello = &payload["Hello"];
        let (address, content) = if hello.is_object() {
            (bus::HELLO, OwnedPayload::postcard(&identity(hello)).expect("an identity"))
        } else if payload == "Revoked" {
            (bus::REVOKE, OwnedPayload::Empty)
        } else if payload["Refreshed"].is_object() {
            (bus::REFRESH, OwnedPayload::Json(payload["Refreshed"]["token"].to_string()))
        } else {
            let token = &payload["Authenticated"]["token"];
            let content =
                if token.is_null() { OwnedPayload::Empty } else { OwnedPayload::Json(token.to_string()) };
            (bus::AUTHENTICATE, content)
        };
        OwnedMessage { id: self.answered(address), ..message(MessageType::Response, content) }
    }

    fn read_error(&mut self, payload: &Value) -> OwnedMessage {
        let kind = payload["kind"].as_str().unwrap_or_else(|| panic!("an error of no kind: {payload}"));
        let known = (1..=8).filter_map(ErrorKind::from_code).find(|known| format!("{known:?}") == kind);
        let code = known.unwrap_or_else(|| panic!("an error of a strange kind: {payload}")).code();
        let text = payload["text"].as_str().unwrap_or_default();
        let content = OwnedPayload::Binary([&[code], text.as_bytes()].concat());
        let source = text_in(payload, "source");
        let id = if payload["id"].is_null() { self.answered(&source) } else { id_in(payload) };
        OwnedMessage { id, source, ..message(MessageType::Error, content) }
    }

    /// The id of the first request there that has had no answer, anywhere for an error that does not say; 0 when there is
    /// none.
    fn answered(&mut self, address: &str) -> u64 {
        let at = self.asked.iter().position(|(_, asked)| address.is_empty() || *asked == address);
        at.map_or(0, |at| self.asked.remove(at).0)
    }
}

fn credentials(shown: &Credentials<'_>) -> Value {
    match shown {
        Credentials::Token(bytes) => {
            let token = visorbus_auth::TokenText::encode(bytes);
            // What no text can be made of is refused as what it is.
            let text = token.map_or_else(|_| format!("vb1.{bytes:02x?}"), |token| token.as_str().to_owned());
            json!({ "Token": text })
        }
        Credentials::UsernamePassword { username, password } => {
            json!({ "UsernamePassword": { "username": username, "password": password } })
        }
        Credentials::ApiKey(key) => json!({ "ApiKey": key }),
        Credentials::Certificate => json!("Certificate"),
        _ => json!("Peer"),
    }
}

fn ipc(message: &Message<'_>) -> Value {
    let mut flags = json!({ "requires_response": message.flags.requires_response });
    if message.flags.priority != MessagePriority::Normal {
        flags["priority"] = json!(format!("{:?}", message.flags.priority));
    }
    if let Some(timeout_ms) = message.flags.timeout_ms {
        flags["timeout_ms"] = json!(timeout_ms);
    }
    for (name, flag) in [("encrypted", message.flags.encrypted), ("compressed", message.flags.compressed)] {
        if flag {
            flags[name] = json!(true);
        }
    }
    let mut ipc = json!({
        "id": message.id.to_string(),
        "message_type": format!("{:?}", message.message_type),
        "payload": payload(&message.payload),
        "flags": flags,
    });
    for (name, address) in [("source", message.source), ("destination", message.destination)] {
        if let Some(address) = address {
            ipc[name] = json!(address.as_str());
        }
    }
    if let Some(timestamp) = message.timestamp {
        ipc["timestamp"] = json!(timestamp);
    }
    if let Some(token) = message.auth_token {
        ipc["auth_token"] = credentials(&Credentials::Token(token))["Token"].take();
    }
    ipc
}

fn error(message: &Message<'_>) -> Value {
    let owned = OwnedMessage::from(message).error().expect("an error");
    let mut error = json!({
        "id": message.id.to_string(),
        "kind": format!("{:?}", owned.kind()),
        "text": owned.text(),
    });
    if let Some(to) = message.destination {
        error["destination"] = json!(to.as_str());
    }
    error
}

fn payload(payload: &MessagePayload<'_>) -> Value {
    match payload {
        MessagePayload::Empty => json!("Empty"),
        MessagePayload::String(text) => json!({ "String": text }),
        MessagePayload::Binary(bytes) => json!({ "Binary": data_encoding::BASE64.encode(bytes) }),
        // What is no JSON is a text in it.
        MessagePayload::Json(text) => {
            json!({ "Json": serde_json::from_str(text).unwrap_or_else(|_| json!(text)) })
        }

        MessagePayload::Toml(text) => json!({ "Toml": text }),
    }
}

fn read_ipc(ipc: &Value) -> OwnedMessage {
    let message_type = match ipc["message_type"].as_str() {
        Some("Request") => MessageType::Request,
        Some("Response") => MessageType::Response,
        Some("Notification") => MessageType::Notification,
        _ => panic!("a message of a strange type: {ipc}"),
    };
    let content = &ipc["payload"];
    let variant = content.as_object().and_then(|content| content.iter().next());
    let payload = match variant.map(|(kind, value)| (&**kind, value)) {
        None => OwnedPayload::Empty,
        Some(("Json", value)) => OwnedPayload::Json(value.to_string()),
        Some((kind, value)) => {
            let text = value.as_str().unwrap_or_else(|| panic!("no text: {content}"));
            match kind {
                "String" => OwnedPayload::String(text.to_owned()),
                "Toml" => OwnedPayload::Toml(text.to_owned()),
                _ => OwnedPayload::Binary(data_encoding::BASE64.decode(text.as_bytes()).expect("base64")),
            }
        }
    };
    let mut read = message(message_type, payload);
    read.id = id_in(ipc);
    (read.source, read.destination) = (text_in(ipc, "source"), text_in(ipc, "destination"));
    read.timestamp = ipc["timestamp"].as_u64();
    read.flags.requires_response = ipc["flags"]["requires_response"].as_bool().unwrap_or_default();
    read
}

fn identity(hello: &Value) -> Identity<'_> {
    let protocol = &hello["protocol"];
    let number =
        |value: &Value| value.as_u64().and_then(|value| u32::try_from(value).ok()).expect("a number");
    let requires = hello["requires_authentication"].as_bool().expect("true or false");
    Identity {
        min_version: bus::WIRE_VERSION,
        max_version: bus::WIRE_VERSION,
        name: hello["name"].as_str().expect("a name"),
        boot_id: hello["boot_id"].as_str().and_then(|id| id.parse().ok()).expect("a boot id"),
        max_frame: number(&protocol["max_message_size"]),
        heartbeat_ms: number(&protocol["heartbeat_interval_ms"]),
        capabilities: u32::from(requires) * bus::REQUIRES_AUTHENTICATION,
        rows: 0,
        unix_us: hello["unix_us"].as_u64().unwrap_or_default(),
    }
}

fn message(message_type: MessageType, payload: OwnedPayload) -> OwnedMessage {
    let notification = OwnedMessage::notification("", payload);
    OwnedMessage { message_type, ..notification }
}

fn id_in(value: &Value) -> u64 {
    let id = &value["id"];
    let text =
        id.as_str().or(id.is_null().then_some("0")).unwrap_or_else(|| panic!("ids are texts: {value}"));
    text.parse().unwrap_or_else(|_| panic!("a strange id: {value}"))
}

fn text_in(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
