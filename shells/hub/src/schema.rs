//! JSON for typed addresses: what a person or a script writes, turned into the postcard that the address takes.

use postcard_schema::schema::owned::OwnedNamedType;

use crate::info::SchemaInfo;
use crate::owned::{Error, OwnedPayload, Result};

/// The types of one address, as its owner described them.
#[derive(Debug, Clone)]
pub struct Schemas {
    address: String,
    request: Option<OwnedNamedType>,
    response: Option<OwnedNamedType>,
}

impl Schemas {
    /// Reads what `bus/schema` answered.
    ///
    /// # Errors
    /// `Serialization` when a schema's bytes are not one.
    pub fn new(info: &SchemaInfo) -> Result<Self> {
        let read = |bytes: &[u8]| {
            if bytes.is_empty() {
                return Ok(None);
            }
            let schema = postcard::from_bytes(bytes);
            schema.map(Some).map_err(|e| {
                Error::Serialization(format!("the schema of '{}' is not one: {e}", info.address))
            })
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
        let Some(schema) = &self.request else {
            return Err(Error::Serialization(format!("the types of '{}' are not known", self.address)));
        };
        let bytes = postcard_dyn::to_stdvec_dyn(schema, json).map_err(|_| {
            Error::Serialization(format!("'{}' takes {}, not {json}", self.address, schema.to_pseudocode()))
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

    fn decode(&self, schema: Option<&OwnedNamedType>, payload: &OwnedPayload) -> Result<serde_json::Value> {
        let OwnedPayload::Binary(bytes) = payload else { return to_json(payload) };
        let Some(schema) = schema else { return to_json(payload) };
        postcard_dyn::from_slice_dyn(schema, bytes).map_err(|_| {
            Error::Serialization(format!("what '{}' sent is not {}", self.address, schema.to_pseudocode()))
        })
    }
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
