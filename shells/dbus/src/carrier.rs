//! What a payload of a registered interface is: the values as D-Bus marshals them, in a message of which only they count.

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use visorbus_hub::{OwnedPayload, Result};

/// The payload that carries these values.
///
/// # Errors
/// `Serialization` when D-Bus cannot carry one of them.
pub(crate) fn pack(items: &[MessageItem]) -> Result<OwnedPayload> {
    let _ = items;
    todo!("with what appends safely")
}

/// The payload that carries the arguments of a message that came from the bus, and so has a serial.
pub(crate) fn pack_message(message: &Message) -> OwnedPayload {
    let mut bytes = Vec::new();
    let outcome: std::result::Result<(), std::convert::Infallible> = message.marshal(|part| {
        bytes.extend_from_slice(part);
        Ok(())
    });
    let Ok(()) = outcome;
    OwnedPayload::Binary(bytes)
}

/// The values that a payload carries.
///
/// # Errors
/// `Serialization` when it is no such payload, or has something that [no message may have](crate::step).
pub(crate) fn unpack(payload: &[u8]) -> Result<Vec<MessageItem>> {
    let _ = payload;
    todo!("with what reads safely")
}
