//! A value whose type only its owner knows: a setting, a measurement, the argument of a command.

use std::fmt;

use postcard_schema::Schema;
use postcard_schema::schema::owned::{
    OwnedDataModelType as Type, OwnedDataModelVariant as Variant, OwnedNamedVariant,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value of any of these types. It has one form in each place: in postcard the variant with its number, in JSON and TOML
/// the plain value, on D-Bus a variant (`v`).
#[derive(Debug, Clone, PartialEq, Default, Schema)]
pub enum Value {
    /// None; `null` in JSON.
    #[default]
    Empty,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// Texts; also what an empty list is read as.
    Texts(Vec<String>),
    /// Whole numbers.
    Integers(Vec<i64>),
    /// Numbers.
    Floats(Vec<f64>),
    /// What is none of these, as the text of a JSON document: objects, and lists of lists or of unlike things.
    Json(String),
}

impl Value {
    /// What it is, for people: `a whole number`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Texts(_) => "a list of texts",
            Self::Integers(_) => "a list of whole numbers",
            Self::Floats(_) => "a list of numbers",
            Self::Json(_) => "a structure",
        }
    }
}

/// As JSON; what JSON has no number for (NaN, infinities) is `null`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Empty,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(ref number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Integer(whole),
                (None, Some(value)) => Self::Float(value),
                (None, None) => Self::Json(json.to_string()),
            },
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(ref items) => {
                list(items).unwrap_or_else(|| Self::Json(json.to_string()))
            }
            serde_json::Value::Object(_) => Self::Json(json.to_string()),
        }
    }
}

/// `None` for a list of unlike things, or of lists.
fn list(items: &[serde_json::Value]) -> Option<Value> {
    fn all<T>(items: &[serde_json::Value], of: impl Fn(&serde_json::Value) -> Option<T>) -> Option<Vec<T>> {
        items.iter().map(of).collect()
    }
    all(items, |item| item.as_str().map(str::to_owned))
        .map(Value::Texts)
        .or_else(|| all(items, serde_json::Value::as_i64).map(Value::Integers))
        .or_else(|| all(items, serde_json::Value::as_f64).map(Value::Floats))
}

/// Where the form is for people: the plain value. Else as a derived one: the variant and what is in it.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return Variants::from(self).serialize(serializer);
        }
        match self {
            Self::Empty => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Texts(texts) => texts.serialize(serializer),
            Self::Integers(numbers) => numbers.serialize(serializer),
            Self::Floats(numbers) => numbers.serialize(serializer),
            Self::Json(text) => serde_json::from_str::<serde_json::Value>(text)
                .map_err(|_| serde::ser::Error::custom("the text of a structure is no JSON"))?
                .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return serde_json::Value::deserialize(deserializer).map(Self::from);
        }
        OwnedVariants::deserialize(deserializer).map(Self::from)
    }
}

/// [`Value`] as serde derives it, borrowed.
#[derive(Serialize)]
#[serde(rename = "Value")]
enum Variants<'a> {
    Empty,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
    Texts(&'a [String]),
    Integers(&'a [i64]),
    Floats(&'a [f64]),
    Json(&'a str),
}

impl<'a> From<&'a Value> for Variants<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Empty => Self::Empty,
            Value::Bool(value) => Self::Bool(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Text(text) => Self::Text(text),
            Value::Texts(texts) => Self::Texts(texts),
            Value::Integers(numbers) => Self::Integers(numbers),
            Value::Floats(numbers) => Self::Floats(numbers),
            Value::Json(text) => Self::Json(text),
        }
    }
}

/// [`Value`] as serde derives it.
#[derive(Deserialize)]
#[serde(rename = "Value")]
enum OwnedVariants {
    Empty,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Json(String),
}

impl From<OwnedVariants> for Value {
    fn from(value: OwnedVariants) -> Self {
        match value {
            OwnedVariants::Empty => Self::Empty,
            OwnedVariants::Bool(value) => Self::Bool(value),
            OwnedVariants::Integer(value) => Self::Integer(value),
            OwnedVariants::Float(value) => Self::Float(value),
            OwnedVariants::Text(text) => Self::Text(text),
            OwnedVariants::Texts(texts) => Self::Texts(texts),
            OwnedVariants::Integers(numbers) => Self::Integers(numbers),
            OwnedVariants::Floats(numbers) => Self::Floats(numbers),
            OwnedVariants::Json(text) => Self::Json(text),
        }
    }
}

/// Whether an enum with these variants is a [`Value`], whoever described it: by their names and contents, in this order.
/// Nothing else has its forms.
pub(crate) fn is_value(variants: &[OwnedNamedVariant]) -> bool {
    let is = |(variant, (name, content)): (&OwnedNamedVariant, &(&str, Option<Content>))| {
        variant.name == *name
            && match (&variant.ty, content) {
                (Variant::UnitVariant, None) => true,
                (Variant::NewtypeVariant(inner), Some(content)) => content.is(&inner.ty),
                _ => false,
            }
    };
    variants.len() == VARIANTS.len() && variants.iter().zip(&VARIANTS).all(is)
}

/// What a variant of [`Value`] has in it.
#[derive(Debug, Clone, Copy)]
enum Content {
    One(&'static Type),
    Many(&'static Type),
}

impl Content {
    fn is(self, ty: &Type) -> bool {
        match self {
            Self::One(one) => ty == one,
            Self::Many(one) => matches!(ty, Type::Seq(item) if item.ty == *one),
        }
    }
}

/// Names and contents of the variants of [`Value`].
const VARIANTS: [(&str, Option<Content>); 9] = [
    ("Empty", None),
    ("Bool", Some(Content::One(&Type::Bool))),
    ("Integer", Some(Content::One(&Type::I64))),
    ("Float", Some(Content::One(&Type::F64))),
    ("Text", Some(Content::One(&Type::String))),
    ("Texts", Some(Content::Many(&Type::String))),
    ("Integers", Some(Content::Many(&Type::I64))),
    ("Floats", Some(Content::Many(&Type::F64))),
    ("Json", Some(Content::One(&Type::String))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_the_same_after_json_and_after_postcard() {
        for (value, json) in [
            (Value::Empty, "null"),
            (Value::Bool(true), "true"),
            (Value::Integer(-5), "-5"),
            (Value::Float(0.5), "0.5"),
            (Value::Text("a".to_owned()), "\"a\""),
            (Value::Texts(Vec::new()), "[]"),
            (Value::Texts(vec!["a".to_owned()]), "[\"a\"]"),
            (Value::Integers(vec![1, 2]), "[1,2]"),
            (Value::Floats(vec![1.5, 2.0]), "[1.5,2.0]"),
            (Value::Json("{\"a\":[1,\"b\"]}".to_owned()), "{\"a\":[1,\"b\"]}"),
        ] {
            assert_eq!(value.to_string(), json);
            assert_eq!(serde_json::from_str::<Value>(json).unwrap(), value, "{json}");
            let bytes = postcard::to_stdvec(&value).unwrap();
            assert_eq!(postcard::from_bytes::<Value>(&bytes).unwrap(), value, "{json}");
        }
    }

    #[test]
    fn a_structure_that_is_no_json_is_not_written() {
        assert!(serde_json::to_string(&Value::Json("{".to_owned())).is_err());
        assert!(postcard::to_stdvec(&Value::Json("{".to_owned())).is_ok());
    }
}
