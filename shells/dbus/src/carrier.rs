//! What a payload of a registered interface is: the values as D-Bus marshals them, in a message of which only they count.

use std::convert::Infallible;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use visorbus_hub::{Error, OwnedPayload, Result};

use crate::types::{append, read_items};

/// The payload that carries these values.
///
/// # Errors
/// `Serialization` when D-Bus cannot carry one of them.
pub(crate) fn pack(items: &[MessageItem]) -> Result<OwnedPayload> {
    let carrier = Message::new_signal("/", "org.visorbus.Bus1", "Values");
    let mut carrier = carrier.map_err(Error::Internal)?;
    append(&mut carrier, items)
        .map_err(|unfit| Error::Serialization(format!("D-Bus cannot carry these values: {unfit}")))?;
    carrier.set_serial(1);
    Ok(pack_message(&carrier))
}

/// The payload that carries the arguments of a message that has a serial, as one that came from the bus has.
pub(crate) fn pack_message(message: &Message) -> OwnedPayload {
    let mut bytes = Vec::new();
    let outcome: std::result::Result<(), Infallible> = message.marshal(|part| {
        bytes.extend_from_slice(part);
        Ok(())
    });
    let Ok(()) = outcome;
    OwnedPayload::Binary(bytes)
}

/// The values that a payload carries; of an empty one none.
///
/// # Errors
/// `Serialization` when it is no such payload, or has in it what is not taken from the bus either, such as a descriptor.
pub(crate) fn unpack(payload: &[u8]) -> Result<Vec<MessageItem>> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let wrong =
        |what: String| Error::Serialization(format!("the payload carries no values of D-Bus: {what}"));
    if Message::demarshal_bytes_needed(payload) != Ok(payload.len()) {
        return Err(wrong("its length is not that of a message".to_owned()));
    }
    let message = Message::demarshal(payload)
        .map_err(|error| wrong(error.message().unwrap_or("it is no message").to_owned()))?;
    read_items(&message).map_err(|unfit| wrong(unfit.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_what_is_no_message_is_an_error() {
        let items = [MessageItem::Str("rate".to_owned()), MessageItem::Variant(Box::new(7u32.into()))];
        let OwnedPayload::Binary(bytes) = pack(&items).unwrap() else { panic!("bytes") };
        assert_eq!(unpack(&bytes).unwrap(), items);
        assert_eq!(unpack(&[]).unwrap(), []);
        for len in 1..bytes.len() {
            assert!(unpack(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut broken = bytes.clone();
                broken[at] ^= 1 << bit;
                let _ = unpack(&broken);
            }
        }
        assert!(unpack(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
}
