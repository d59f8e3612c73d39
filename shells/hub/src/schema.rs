//! JSON for typed addresses: what a person or a script writes, turned into the postcard that the address takes.

use postcard_schema::schema::owned::{OwnedDataModelType as Type, OwnedNamedVariant};

use crate::info::SchemaInfo;
use crate::owned::{Error, OwnedPayload, Result};

mod from_json;
mod into_json;
mod shape;

#[cfg(test)]
mod tests;

pub(crate) use shape::Described;
pub use shape::Shape;

/// The types of one address, as its owner described them.
#[derive(Debug, Clone)]
pub struct Schemas {
    address: String,
    request: Option<Shape>,
    response: Option<Shape>,
}

impl Schemas {
    /// Reads what `bus/schema` answered.
    ///
    /// # Errors
    /// `Serialization` when a schema's bytes are not one, or one that is longer or deeper than [`Shape::read`] takes.
    pub fn new(info: &SchemaInfo) -> Result<Self> {
        let read = |bytes: &[u8]| {
            if bytes.is_empty() {
                return Ok(None);
            }
            let unread = || {
                Error::Serialization(format!(
                    "the schema of '{}' is not one, or longer or deeper than is read",
                    info.address
                ))
            };
            Shape::read(bytes).map(Some).ok_or_else(unread)
        };
        Ok(Self {
            address: info.address.clone(),
            request: read(&info.request)?,
            response: read(&info.response)?,
        })
    }

    /// The postcard payload of `json` for a request to the address, or for a notification on it. A type without
    /// fields takes an absent or null JSON.
    ///
    /// # Errors
    /// `Serialization` when the JSON is not of the address's type; the text shows the type.
    pub fn encode_request(&self, json: &serde_json::Value) -> Result<OwnedPayload> {
        let Some(shape) = &self.request else {
            return Err(Error::Serialization(format!("the types of '{}' are not known", self.address)));
        };
        let bytes = shape.to_postcard(&json.to_string(), usize::MAX >> 1).map_err(|misfit| {
            Error::Serialization(format!("'{}' takes {shape}, not {json}: {misfit}", self.address))
        })?;
        Ok(OwnedPayload::Binary(bytes))
    }

    /// The JSON of a request, or of a notification on the address.
    ///
    /// # Errors
    /// `Serialization` when the payload is not of the address's type.
    pub fn decode_request(&self, payload: &OwnedPayload) -> Result<serde_json::Value> {
        self.decode(self.request.as_ref(), payload)
    }

    /// The JSON of a response of the address.
    ///
    /// # Errors
    /// `Serialization` when the payload is not of the address's type.
    pub fn decode_response(&self, payload: &OwnedPayload) -> Result<serde_json::Value> {
        self.decode(self.response.as_ref(), payload)
    }

    fn decode(&self, shape: Option<&Shape>, payload: &OwnedPayload) -> Result<serde_json::Value> {
        let (OwnedPayload::Binary(bytes), Some(shape)) = (payload, shape) else { return to_json(payload) };
        let unfit = |what: String| {
            Error::Serialization(format!("what '{}' sent is not {shape}: {what}", self.address))
        };
        // What is written of a type that takes no bytes must end, however often it is there.
        let max = bytes.len().saturating_mul(MAX_GROWTH).max(1 << 20);
        let json = shape.to_json(bytes, max).map_err(|misfit| unfit(misfit.to_string()))?;
        serde_json::from_str(&json).map_err(|error| unfit(error.to_string()))
    }
}

/// Why a payload is not of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The JSON is none, or not of this type.
    #[error("{0}")]
    Json(String),
    /// Its other form is longer than may be.
    #[error("its other form has more than {max} bytes")]
    TooLong {
        /// The most that it may have, in bytes.
        max: usize,
    },
    /// The bytes end before the value does.
    #[error("the bytes end too early")]
    CutOff,
    /// There are bytes behind the value.
    #[error("{bytes} bytes are left over")]
    LeftOver {
        /// How many.
        bytes: usize,
    },
    /// A number is larger than its type, or stands for nothing that the type has.
    #[error("a number in it is beyond its type")]
    OutOfRange,
    /// A text is not UTF-8.
    #[error("a text in it is not UTF-8")]
    NotText,
    /// The structure in a [`Value`](crate::Value) is no JSON.
    #[error("the text of a structure in it is no JSON")]
    NoStructure,
    /// The type has something that JSON has no form for.
    #[error("JSON has no form for this type")]
    Untranslatable,
}

/// The JSON form of a payload whose type is not known: text as text, bytes as an array of numbers.
///
/// # Errors
/// `Serialization` when a JSON payload is no JSON.
pub fn to_json(payload: &OwnedPayload) -> Result<serde_json::Value> {
    Ok(match payload {
        OwnedPayload::Empty => serde_json::Value::Null,
        OwnedPayload::String(text) | OwnedPayload::Toml(text) => text.as_str().into(),
        OwnedPayload::Binary(bytes) => bytes.as_slice().into(),
        OwnedPayload::Json(text) => serde_json::from_str(text)
            .map_err(|e| Error::Serialization(format!("the payload is no JSON: {e}")))?,
    })
}

/// Whether an enum with these variants is a [`Value`](crate::Value), which has a form of its own in JSON and on a desktop bus.
pub fn is_value(variants: &[OwnedNamedVariant]) -> bool {
    crate::value::is_value(variants)
}

/// The least and the most that a whole number of this type may be; of `u128` half.
const fn range(ty: &Type) -> Option<(i128, i128)> {
    Some(match ty {
        Type::U8 => (0, u8::MAX as i128),
        Type::U16 => (0, u16::MAX as i128),
        Type::U32 => (0, u32::MAX as i128),
        Type::U64 | Type::Usize => (0, u64::MAX as i128),
        Type::U128 => (0, i128::MAX),
        Type::I8 => (i8::MIN as i128, i8::MAX as i128),
        Type::I16 => (i16::MIN as i128, i16::MAX as i128),
        Type::I32 => (i32::MIN as i128, i32::MAX as i128),
        Type::I64 | Type::Isize => (i64::MIN as i128, i64::MAX as i128),
        Type::I128 => (i128::MIN, i128::MAX),
        _ => return None,
    })
}

/// JSON is at most so many times as long as its postcard, but for names of fields and what takes no bytes.
const MAX_GROWTH: usize = 64;
