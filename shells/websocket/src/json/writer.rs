//! What the hub sends, as text: written straight into one string.

use std::fmt::Write as _;

use data_encoding::BASE64;
use visorbus_core::auth::{MAX_TOKEN_TEXT, encode_text};
use visorbus_core::message::Address;
use visorbus_core::{
    ErrorKind, IpcError, Message, MessageFlags, MessagePayload, MessagePriority, MessageType,
};

use super::reader::check;

/// The envelope of a Request, Response or Notification.
pub(super) fn write_ipc(message: &Message<'_>) -> String {
    let mut out = begin("IPC", message);
    write_id(&mut out, message.id);
    field(&mut out, "message_type");
    out.push_str(match message.message_type {
        MessageType::Response => "\"Response\"",
        MessageType::Notification => "\"Notification\"",
        _ => "\"Request\"",
    });
    write_addresses(&mut out, message);
    if message.payload != MessagePayload::Empty {
        field(&mut out, "payload");
        write_payload(&mut out, &message.payload);
    }
    write_parts(&mut out, message, message.message_type == MessageType::Request);
    out.push_str("}}");
    out
}

/// The envelope of an Error that came in a frame.
pub(super) fn write_error(message: &Message<'_>) -> String {
    let mut out = begin("Error", message);
    write_id(&mut out, message.id);
    write_addresses(&mut out, message);
    if message.flags.encrypted || message.flags.compressed {
        field(&mut out, "payload");
        write_payload(&mut out, &MessagePayload::Binary(message.payload.as_bytes()));
    } else {
        let error = IpcError::from_payload(message.payload.as_bytes());
        write_kind(&mut out, error.kind(), error.text());
    }
    write_parts(&mut out, message, false);
    out.push_str("}}");
    out
}

/// The envelope of a Heartbeat.
pub(super) fn write_beat(message: &Message<'_>) -> String {
    let mut out = begin("Heartbeat", message);
    write_id(&mut out, message.id);
    if let Some(timestamp) = message.timestamp {
        field(&mut out, "timestamp");
        write_number(&mut out, timestamp);
    }
    out.push_str("}}");
    out
}

/// The envelope of an Error that the translator itself has to tell.
pub(super) fn write_fault(id: Option<u64>, text: &str) -> String {
    let mut out = String::with_capacity(96 + text.len());
    out.push_str("{\"message_type\":\"Error\",\"payload\":{");
    write_id(&mut out, id.unwrap_or(0));
    write_kind(&mut out, ErrorKind::Protocol, text);
    out.push_str("}}");
    out
}

/// An `Auth` envelope around `payload`, which is JSON.
pub(super) fn write_auth(payload: &[&str]) -> String {
    let mut out = String::with_capacity(48 + payload.iter().map(|part| part.len()).sum::<usize>());
    out.push_str("{\"message_type\":\"Auth\",\"payload\":");
    payload.iter().for_each(|part| out.push_str(part));
    out.push('}');
    out
}

/// Writes `text` as a JSON string.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !matches!(byte, b'"' | b'\\' | ..0x20) {
            continue;
        }
        out.push_str(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => _ = write!(out, "\\u{byte:04x}"),
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// The beginning of an envelope around an object, with room for the rest of it.
fn begin(message_type: &str, message: &Message<'_>) -> String {
    // Three bytes of base64 for two, or a text with little to escape.
    let mut out = String::with_capacity(256 + message.payload.as_bytes().len() / 2 * 3);
    out.push_str("{\"message_type\":\"");
    out.push_str(message_type);
    out.push_str("\",\"payload\":{");
    out
}

/// The name of a field, after a comma where one is needed.
fn field(out: &mut String, name: &str) {
    out.push_str(if out.ends_with('{') { "\"" } else { ",\"" });
    out.push_str(name);
    out.push_str("\":");
}

fn write_id(out: &mut String, id: u64) {
    if id != 0 {
        field(out, "id");
        out.push('"');
        write_number(out, id);
        out.push('"');
    }
}

fn write_addresses(out: &mut String, message: &Message<'_>) {
    let mut write = |name, address: Option<Address<'_>>| {
        if let Some(address) = address {
            field(out, name);
            out.push('"');
            // Nothing in an address is to be escaped.
            out.push_str(address.as_str());
            out.push('"');
        }
    };
    write("source", message.source);
    write("destination", message.destination);
}

fn write_kind(out: &mut String, kind: ErrorKind, text: &str) {
    field(out, "kind");
    out.push_str(match kind {
        ErrorKind::Authentication => "\"Authentication\"",
        ErrorKind::Authorization => "\"Authorization\"",
        ErrorKind::Connection => "\"Connection\"",
        ErrorKind::Message => "\"Message\"",
        ErrorKind::Timeout => "\"Timeout\"",
        ErrorKind::Serialization => "\"Serialization\"",
        ErrorKind::Protocol => "\"Protocol\"",
        ErrorKind::Internal => "\"Internal\"",
    });
    field(out, "text");
    write_string(out, text);
}

fn write_payload(out: &mut String, payload: &MessagePayload<'_>) {
    match payload {
        MessagePayload::Empty => return out.push_str("\"Empty\""),
        MessagePayload::String(text) => {
            out.push_str("{\"String\":");
            write_string(out, text);
        }
        MessagePayload::Binary(bytes) => {
            out.push_str("{\"Binary\":\"");
            BASE64.encode_append(bytes, out);
            out.push('"');
        }
        // Whatever its sender calls JSON must not end the envelope around it.
        MessagePayload::Json(text) => match check(text) {
            Ok(()) => {
                out.push_str("{\"Json\":");
                out.push_str(text);
            }
            Err(_) => {
                out.push_str("{\"InvalidJson\":");
                write_string(out, text);
            }
        },
        MessagePayload::Toml(text) => {
            out.push_str("{\"Toml\":");
            write_string(out, text);
        }
    }
    out.push('}');
}

/// What comes behind the payload.
fn write_parts(out: &mut String, message: &Message<'_>, requires_response: bool) {
    if let Some(timestamp) = message.timestamp {
        field(out, "timestamp");
        write_number(out, timestamp);
    }
    if let Some(uncertainty_us) = message.uncertainty_us {
        field(out, "uncertainty_us");
        write_number(out, uncertainty_us.into());
    }
    let mut text = [0; MAX_TOKEN_TEXT];
    if let Some(token) = message.auth_token.and_then(|token| encode_text(token, &mut text).ok()) {
        field(out, "auth_token");
        out.push('"');
        out.push_str(token);
        out.push('"');
    }
    write_flags(out, &message.flags, requires_response);
}

/// Flags that are not what they are by default.
fn write_flags(out: &mut String, flags: &MessageFlags, requires_response: bool) {
    if *flags == (MessageFlags { requires_response, ..MessageFlags::NONE }) {
        return;
    }
    field(out, "flags");
    out.push('{');
    if flags.requires_response != requires_response {
        field(out, "requires_response");
        out.push_str(if flags.requires_response { "true" } else { "false" });
    }
    for (name, is_set) in [("encrypted", flags.encrypted), ("compressed", flags.compressed)] {
        if is_set {
            field(out, name);
            out.push_str("true");
        }
    }
    let priority = match flags.priority {
        MessagePriority::Low => Some("\"Low\""),
        MessagePriority::Normal => None,
        MessagePriority::High => Some("\"High\""),
        MessagePriority::Critical => Some("\"Critical\""),
    };
    if let Some(priority) = priority {
        field(out, "priority");
        out.push_str(priority);
    }
    if let Some(timeout_ms) = flags.timeout_ms {
        field(out, "timeout_ms");
        write_number(out, timeout_ms.into());
    }
    out.push('}');
}

fn write_number(out: &mut String, number: u64) {
    // Writing to a string never fails.
    let _ = write!(out, "{number}");
}
