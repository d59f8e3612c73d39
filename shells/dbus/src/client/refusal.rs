//! What the bus or a service refuses a call with, as an error of ours: the D-Bus name says the kind, and stands in the text.

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use visorbus_core::ErrorKind;
use visorbus_hub::{Error, error};

use crate::{fault, types};

/// The error that a message of the type `error` is.
pub(super) fn of(refusal: &mut Message) -> Error {
    let text = types::read_items(refusal).ok().and_then(|arguments| match arguments.into_iter().next() {
        Some(MessageItem::Str(text)) => Some(text),
        _ => None,
    });
    let name = refusal.as_result().err().and_then(|error| error.name().map(str::to_owned));
    named(name.as_deref().unwrap_or("an error without a name"), text.as_deref().unwrap_or_default())
}

/// The error of this D-Bus name and text.
pub(super) fn named(name: &str, text: &str) -> Error {
    let text: String = text.chars().take(MAX_TEXT).collect();
    let text = if text.is_empty() { name.to_owned() } else { format!("{name}: {text}") };
    error(kind(name), text)
}

/// The kind that a D-Bus name says.
fn kind(name: &str) -> ErrorKind {
    if let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) {
        return *kind;
    }
    match name.strip_prefix(BUS).unwrap_or_default() {
        "ServiceUnknown" | "NameHasNoOwner" | "NoReply" | "Disconnected" | "NoServer" | "NoNetwork"
        | "IOError" => ErrorKind::Connection,
        text if text.starts_with("Spawn.") => ErrorKind::Connection,
        "TimedOut" => ErrorKind::Timeout,
        "InteractiveAuthorizationRequired" => ErrorKind::Authorization,
        "InconsistentMessage" => ErrorKind::Protocol,
        "Failed" | "NoMemory" => ErrorKind::Internal,
        _ => ErrorKind::Message,
    }
}

/// What this project's own service refuses with.
const KINDS: [(&str, ErrorKind); 10] = [
    (fault::ACCESS_DENIED, ErrorKind::Authorization),
    (fault::AUTH_FAILED, ErrorKind::Authentication),
    (fault::TIMEOUT, ErrorKind::Timeout),
    (fault::INVALID_ARGS, ErrorKind::Serialization),
    (fault::INVALID_SIGNATURE, ErrorKind::Serialization),
    (fault::CONNECTION, ErrorKind::Connection),
    (fault::MESSAGE, ErrorKind::Message),
    (fault::SERIALIZATION, ErrorKind::Serialization),
    (fault::PROTOCOL, ErrorKind::Protocol),
    (fault::INTERNAL, ErrorKind::Internal),
];

const BUS: &str = "org.freedesktop.DBus.Error.";
/// Characters of a text from outside.
const MAX_TEXT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn every_kind_comes_back_as_itself() {
        for kind in (1..=8).filter_map(ErrorKind::from_code) {
            let fault = Fault::from(error(kind, "what is wrong"));
            let back = named(fault.name, &fault.text);
            assert_eq!(back.kind(), kind);
            assert_eq!(*back.text(), format!("{}: what is wrong", fault.name));
        }
    }

    #[test]
    fn what_the_bus_says_of_a_missing_service_is_about_the_connection() {
        for name in ["ServiceUnknown", "NameHasNoOwner", "NoReply", "Spawn.ChildExited"] {
            assert_eq!(kind(&format!("{BUS}{name}")), ErrorKind::Connection, "{name}");
        }
        assert_eq!(kind("com.example.Anything"), ErrorKind::Message);
        assert_eq!(kind(fault::LIMITS_EXCEEDED), ErrorKind::Message);
    }

    #[test]
    fn a_long_text_from_outside_is_cut() {
        assert_eq!(named("a.b", &"ä".repeat(5000)).text().chars().count(), MAX_TEXT + 5);
    }
}
