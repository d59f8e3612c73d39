//! A request in whichever form it came, and its answer in the same: postcard, JSON, TOML or text. What is refused is said
//! as an Error message whatever the form.

use serde::Serialize;
use serde::de::DeserializeOwned;
use visorbus_core::dispatch::Reply;
use visorbus_core::message::{Message, MessagePayload};
use visorbus_core::{ErrorKind, IpcError};
use visorbus_hub::{Error, OwnedPayload, error, owned_error};

/// Answers `message` with what `act` makes of what is asked: what it refuses is told as an Error message.
///
/// # Errors
/// `Internal` when not even an error fits into a frame.
pub(crate) fn answer<Q: Asked, A: Told>(
    message: &Message<'_>,
    reply: &mut Reply<'_>,
    act: impl FnOnce(Q) -> Result<A, Error>,
) -> Result<(), IpcError> {
    let form = Form::of(&message.payload);
    let told = read(&message.payload).and_then(act).and_then(|told| form.write(&told));
    match told {
        Ok(payload) => reply.payload(payload.borrow()),
        Err(error) => refuse(reply, &error),
    }
}

/// Answers with an error whose text was made while running.
///
/// # Errors
/// `Internal` when not even that fits into a frame.
pub(crate) fn refuse(reply: &mut Reply<'_>, error: &Error) -> Result<(), IpcError> {
    reply.error(&IpcError::new(error.kind(), error.text().as_str()))
}

/// What may be asked: reads itself from a text for people too.
pub(crate) trait Asked: DeserializeOwned {
    /// What a text asks for.
    ///
    /// # Errors
    /// What it ought to have been.
    fn from_text(text: &str) -> Result<Self, String>;

    /// What a request without a payload asks for; `None` where it asks for nothing.
    fn from_nothing() -> Option<Self> {
        None
    }
}

/// What may be told: has a form for people too.
pub(crate) trait Told: Serialize {
    /// For people, without a line's end at the end.
    fn to_text(&self) -> String;
}

/// A request that asks for nothing in particular.
impl Asked for () {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() { Ok(()) } else { Err("nothing is expected".to_owned()) }
    }

    fn from_nothing() -> Option<Self> {
        Some(())
    }
}

impl Asked for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.trim().to_owned())
    }
}

/// Done, and nothing to tell.
impl Told for () {
    fn to_text(&self) -> String {
        String::new()
    }
}

impl Told for String {
    fn to_text(&self) -> String {
        self.clone()
    }
}

impl Told for bool {
    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// Each on lines of its own.
impl<T: Told> Told for Vec<T> {
    fn to_text(&self) -> String {
        self.iter().map(Told::to_text).collect::<Vec<_>>().join("\n")
    }
}

/// How a payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As typed addresses have it; also the answer to a request without a payload.
    Postcard,
    Json,
    Toml,
    Text,
}

impl Form {
    pub(crate) const fn of(payload: &MessagePayload<'_>) -> Self {
        match payload {
            MessagePayload::Empty | MessagePayload::Binary(_) => Self::Postcard,
            MessagePayload::String(_) => Self::Text,
            MessagePayload::Json(_) => Self::Json,
            MessagePayload::Toml(_) => Self::Toml,
        }
    }

    /// What is told, in this form.
    ///
    /// # Errors
    /// `Serialization` when it has none.
    pub(crate) fn write<T: Told + ?Sized>(self, told: &T) -> Result<OwnedPayload, Error> {
        match self {
            Self::Postcard => OwnedPayload::postcard(told),
            Self::Json => OwnedPayload::json(told),
            Self::Toml => to_toml(told).map(OwnedPayload::Toml),
            Self::Text => Ok(OwnedPayload::String(told.to_text())),
        }
    }
}

/// What a payload asks for.
///
/// # Errors
/// `Serialization` with what is wrong with it.
pub(crate) fn read<Q: Asked>(payload: &MessagePayload<'_>) -> Result<Q, Error> {
    let wrong = |what: String| error(ErrorKind::Serialization, what);
    match payload {
        MessagePayload::Empty => {
            Q::from_nothing().map_or_else(|| payload.parse().map_err(|e| owned_error(&e)), Ok)
        }
        MessagePayload::Binary(_) => payload.parse().map_err(|e| owned_error(&e)),
        MessagePayload::Json(text) => OwnedPayload::Json((*text).to_owned()).parse(),
        // A document has no other way to say nothing.
        MessagePayload::Toml(text) if text.trim().is_empty() => {
            Q::from_nothing().map_or_else(|| from_toml(text).map_err(wrong), Ok)
        }
        MessagePayload::Toml(text) => from_toml(text).map_err(wrong),
        MessagePayload::String(text) => Q::from_text(text).map_err(wrong),
    }
}

/// A document of one value: that of its only key `value` where it has no other, else itself.
fn from_toml<Q: DeserializeOwned>(text: &str) -> Result<Q, String> {
    // What serde says of a text may quote it; where it is wrong is enough.
    let mut table: toml::Table =
        toml::from_str(text).map_err(|e| format!("the payload is no TOML: {}", e.message()))?;
    let only = (table.len() == 1).then(|| table.remove(VALUE)).flatten();
    let value = only.unwrap_or(toml::Value::Table(table));
    let json = serde_json::to_string(&value).map_err(|e| e.to_string())?;
    OwnedPayload::Json(json).parse().map_err(|e: Error| e.text().clone())
}

/// What is no table stands behind the key `value`; what is nothing is left out.
fn to_toml<T: Serialize + ?Sized>(told: &T) -> Result<String, Error> {
    let wrong = |what: String| error(ErrorKind::Serialization, what);
    let json = serde_json::to_value(told).map_err(|e| wrong(e.to_string()))?;
    let table = match toml_value(json) {
        Some(toml::Value::Table(table)) => table,
        other => other.map(|value| (VALUE.to_owned(), value)).into_iter().collect(),
    };
    toml::to_string(&table).map_err(|e| wrong(e.to_string()))
}

/// TOML has no nothing, and no number above 2^63: that is a text.
fn toml_value(json: serde_json::Value) -> Option<toml::Value> {
    use serde_json::Value;
    Some(match json {
        Value::Null => return None,
        Value::Bool(value) => value.into(),
        Value::String(text) => text.into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(value)) if !number.is_u64() => value.into(),
            _ => number.to_string().into(),
        },
        Value::Array(items) => toml::Value::Array(items.into_iter().filter_map(toml_value).collect()),
        Value::Object(fields) => toml::Value::Table(
            fields.into_iter().filter_map(|(name, value)| Some((name, toml_value(value)?))).collect(),
        ),
    })
}

/// The key of a TOML document's only value.
const VALUE: &str = "value";

#[cfg(test)]
mod tests {
    use super::*;
    use visorbus_hub::Value;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Pair {
        name: String,
        value: Value,
    }

    impl Asked for Pair {
        fn from_text(text: &str) -> Result<Self, String> {
            let (name, value) = text.split_once('=').ok_or("name = value is expected")?;
            Ok(Self { name: name.trim().to_owned(), value: Value::Text(value.trim().to_owned()) })
        }
    }

    impl Told for Pair {
        fn to_text(&self) -> String {
            format!("{} = {}", self.name, self.value)
        }
    }

    #[test]
    fn every_form_reads_what_it_wrote_and_only_that() {
        let pair = || Pair { name: "a".to_owned(), value: Value::Floats(vec![0.5]) };
        for form in [Form::Postcard, Form::Json, Form::Toml] {
            let payload = form.write(&pair()).unwrap();
            assert_eq!(Form::of(&payload.borrow()), form);
            assert_eq!(read::<Pair>(&payload.borrow()).unwrap(), pair());
        }
        assert_eq!(Form::Text.write(&pair()).unwrap(), OwnedPayload::String("a = [0.5]".to_owned()));
        for wrong in [
            MessagePayload::Empty,
            MessagePayload::Binary(b"\xff\xff"),
            MessagePayload::Json("{"),
            MessagePayload::Json(r#"{"name":1}"#),
            MessagePayload::Toml("name = "),
            MessagePayload::Toml("name = 1"),
            MessagePayload::String("a"),
        ] {
            assert_eq!(read::<Pair>(&wrong).unwrap_err().kind(), ErrorKind::Serialization, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_table_has_a_form_in_toml_and_what_is_nothing_is_left_out() {
        let text = |payload: OwnedPayload| match payload {
            OwnedPayload::Toml(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(Form::Toml.write(&true).unwrap()), "value = true\n");
        assert_eq!(text(Form::Toml.write(&()).unwrap()), "");
        let none = Pair { name: "a".to_owned(), value: Value::Empty };
        assert_eq!(text(Form::Toml.write(&none).unwrap()), "name = \"a\"\n");
        assert_eq!(read::<String>(&MessagePayload::Toml("value = \"a.b\"")).unwrap(), "a.b");
        let huge = toml_value(serde_json::json!({"count": u64::MAX})).unwrap();
        assert_eq!(huge["count"].as_str(), Some("18446744073709551615"));
    }
}
