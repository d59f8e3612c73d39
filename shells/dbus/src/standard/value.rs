//! A [`Value`] as a variant of the bus, and back.

use dbus::Signature;
use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use visorbus_hub::{Error, Result, Value};

/// A value as the bus has it: nothing as an empty text, a structure as the text of its JSON, all else as what it is.
pub(crate) fn to_variant(value: &Value) -> Result<MessageItem> {
    let item = match value {
        Value::Empty => MessageItem::Str(String::new()),
        Value::Bool(value) => MessageItem::Bool(*value),
        Value::Integer(value) => MessageItem::Int64(*value),
        Value::Float(value) => MessageItem::Double(*value),
        Value::Text(text) | Value::Json(text) => MessageItem::Str(text.clone()),
        Value::Texts(texts) => array(texts.iter().cloned().map(MessageItem::Str).collect(), "as")?,
        Value::Integers(numbers) => array(numbers.iter().copied().map(MessageItem::Int64).collect(), "ax")?,
        Value::Floats(numbers) => array(numbers.iter().copied().map(MessageItem::Double).collect(), "ad")?,
    };
    Ok(MessageItem::Variant(Box::new(item)))
}

/// What somebody gives: any number, text or truth, or a list of one of these.
///
/// # Errors
/// `Serialization` for everything else.
pub(crate) fn from_item(item: &MessageItem) -> Result<Value> {
    Ok(match item {
        MessageItem::Variant(inner) => from_item(inner)?,
        MessageItem::Bool(value) => Value::Bool(*value),
        MessageItem::Double(value) => Value::Float(*value),
        MessageItem::Str(text) => Value::Text(text.clone()),
        MessageItem::Array(items) => list(items)?,
        other => Value::Integer(integer(other).ok_or_else(misfit)?),
    })
}

fn list(items: &[MessageItem]) -> Result<Value> {
    let texts =
        items.iter().map(|item| if let MessageItem::Str(text) = item { Some(text.clone()) } else { None });
    if let Some(texts) = texts.collect() {
        return Ok(Value::Texts(texts));
    }
    let numbers =
        items.iter().map(|item| if let MessageItem::Double(number) = item { Some(*number) } else { None });
    match numbers.collect() {
        Some(numbers) => Ok(Value::Floats(numbers)),
        None => items.iter().map(integer).collect::<Option<_>>().map(Value::Integers).ok_or_else(misfit),
    }
}

fn integer(item: &MessageItem) -> Option<i64> {
    Some(match *item {
        MessageItem::Byte(number) => number.into(),
        MessageItem::Int16(number) => number.into(),
        MessageItem::Int32(number) => number.into(),
        MessageItem::Int64(number) => number,
        MessageItem::UInt16(number) => number.into(),
        MessageItem::UInt32(number) => number.into(),
        MessageItem::UInt64(number) => number.try_into().ok()?,
        _ => return None,
    })
}

/// An array of this signature.
pub(crate) fn array(items: Vec<MessageItem>, signature: &'static str) -> Result<MessageItem> {
    MessageItemArray::new(items, signature.into())
        .map(MessageItem::Array)
        .map_err(|_| Error::Internal(format!("what is no {signature} was to be told")))
}

/// A dictionary from texts to values of this signature.
pub(crate) fn dict(
    entries: impl Iterator<Item = (String, MessageItem)>,
    signature: &'static str,
) -> Result<MessageItem> {
    let entries = entries.map(|(name, item)| (MessageItem::Str(name), item)).collect();
    MessageItemDict::new(entries, Signature::make::<String>(), signature.into())
        .map(MessageItem::Dict)
        .map_err(|_| Error::Internal(format!("what is no a{{s{signature}}} was to be told")))
}

fn misfit() -> Error {
    Error::Serialization("a truth, a number, a text, or a list of one of these is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_from_the_bus_but_structures_come_as_texts() {
        for value in [
            Value::Bool(true),
            Value::Integer(i64::MIN),
            Value::Float(0.5),
            Value::Text("a".to_owned()),
            Value::Texts(vec!["a".to_owned()]),
            Value::Texts(Vec::new()),
            Value::Integers(vec![1, -1]),
            Value::Floats(vec![0.5]),
        ] {
            assert_eq!(from_item(&to_variant(&value).unwrap()).unwrap(), value);
        }
        let text = |value: &Value| from_item(&to_variant(value).unwrap()).unwrap();
        assert_eq!(text(&Value::Json("{}".to_owned())), Value::Text("{}".to_owned()));
        assert_eq!(text(&Value::Empty), Value::Text(String::new()));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let number = |number| MessageItem::UInt64(number);
        assert_eq!(from_item(&number(7)).unwrap(), Value::Integer(7));
        assert!(from_item(&number(u64::MAX)).is_err());
        assert!(from_item(&MessageItem::Struct(vec![number(1)])).is_err());
        let variants = vec![MessageItem::Variant(Box::new(number(1)))];
        assert!(from_item(&array(variants, "av").unwrap()).is_err());
    }
}
