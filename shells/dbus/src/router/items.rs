//! Values as D-Bus has them, made of what the router has at hand.

use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use dbus::strings::Signature;

pub(crate) fn text(text: impl Into<String>) -> MessageItem {
    MessageItem::Str(text.into().replace('\0', "\u{fffd}"))
}

pub(crate) fn variant(item: MessageItem) -> MessageItem {
    MessageItem::Variant(Box::new(item))
}

#[cfg(test)]
pub(crate) fn bytes(bytes: &[u8]) -> MessageItem {
    MessageItem::from(bytes)
}

/// An array whose elements have this signature; empty where one has not.
pub(crate) fn array(element: &str, items: Vec<MessageItem>) -> MessageItem {
    // Written by hand where it is used, and of one type.
    let signature = || Signature::from(format!("a{element}"));
    let array = MessageItemArray::new(items, signature());
    let empty = || MessageItemArray::new(Vec::new(), signature());
    array.or_else(|_| empty()).map_or_else(|_| text(""), MessageItem::Array)
}

/// `a{sv}`.
pub(crate) fn details<K: Into<String>>(entries: impl IntoIterator<Item = (K, MessageItem)>) -> MessageItem {
    dictionary("v", entries.into_iter().map(|(name, value)| (name.into(), variant(value))))
}

/// A dictionary with texts as keys and values of this signature.
pub(crate) fn dictionary(value: &str, entries: impl Iterator<Item = (String, MessageItem)>) -> MessageItem {
    let entries = entries.map(|(name, value)| (text(name), value)).collect();
    let dict = MessageItemDict::new(entries, Signature::from("s"), Signature::from(value.to_owned()));
    dict.map_or_else(|_| text(""), MessageItem::Dict)
}

/// The text of a value that is one.
#[cfg(test)]
pub(crate) fn as_text(item: Option<&MessageItem>) -> Option<&str> {
    match item {
        Some(MessageItem::Str(text)) => Some(text),
        _ => None,
    }
}
