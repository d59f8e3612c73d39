//! The types of addresses, and payloads there and back: between the values of D-Bus and what the hub carries.

use std::collections::HashMap;
use std::sync::Arc;

use dbus::arg::{ArgType, Iter};
use visorbus_hub::schema::{self, Shape};
use visorbus_hub::{Error, OwnedPayload};

use super::items;
use crate::fault::{Fault, INVALID_SIGNATURE, SERIALIZATION};
use crate::types::{Argument, MAX_POSTCARD, Misfit, Piece, Typed};

/// What one address takes and gives.
#[derive(Debug, Default)]
pub(crate) struct AddressTypes {
    request_schema: Vec<u8>,
    response_schema: Vec<u8>,
    /// What goes there, or is published there.
    pub(crate) request: Option<Kind>,
    /// What comes back.
    pub(crate) response: Option<Kind>,
}

impl AddressTypes {
    /// Of schemas as the hub tells them.
    pub(crate) fn new(request: &[u8], response: &[u8]) -> Self {
        Self {
            request_schema: request.to_vec(),
            response_schema: response.to_vec(),
            request: Kind::read(request),
            response: Kind::read(response),
        }
    }

    /// The payload for a value of a variant, or for a text in JSON.
    ///
    /// # Errors
    /// What is wrong with the value; it tells the type of the address, which is for those alone who may know it.
    pub(crate) fn payload(&self, value: &mut Iter<'_>, json: bool) -> Result<OwnedPayload, Fault> {
        let text = value.get::<&str>();
        match (&self.request, text) {
            (_, Some(text)) if text.len() > MAX_POSTCARD => Err(too_long()),
            (kind, Some(text)) if json => from_json(kind.as_ref(), text),
            (_, None) if json => Err(Fault::invalid_args("with the option 'json' the payload is a text")),
            (Some(kind), _) => kind.payload(value),
            (None, Some(text)) => Ok(OwnedPayload::String(text.to_owned())),
            (None, None) => raw(value)?.ok_or_else(|| {
                let text = "the types of this address are not known: it takes bytes (ay), a text (s), or JSON with the option \
                            'json'";
                Fault::new(INVALID_SIGNATURE, text)
            }),
        }
    }
}

/// One type.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) shape: Shape,
    /// `None` where D-Bus has no form for it.
    pub(crate) typed: Option<Typed>,
}

impl Kind {
    /// `None` where nothing was told, or nothing that can be read.
    fn read(schema: &[u8]) -> Option<Self> {
        let shape = Shape::read(schema)?;
        Some(Self { typed: Typed::new(&shape), shape })
    }

    fn payload(&self, value: &mut Iter<'_>) -> Result<OwnedPayload, Fault> {
        let given = value.signature();
        let taken = match &self.typed {
            Some(typed) if typed.arguments().is_empty() && is_nothing(value) => Some(Ok(Vec::new())),
            Some(typed) if *given == *typed.value_signature() => Some(typed.take_value(value)),
            Some(typed) if *given == *typed.signature() => Some(typed.take(value)),
            _ => None,
        };
        match taken {
            Some(Ok(bytes)) => Ok(OwnedPayload::Binary(bytes)),
            Some(Err(misfit)) => Err(Fault::invalid_args(format!("{} is taken: {misfit}", self.shape))),
            None => raw(value)?.ok_or_else(|| {
                Fault::new(INVALID_SIGNATURE, format!("{}, not '{}'", self.wanted(), &*given))
            }),
        }
    }

    fn wanted(&self) -> String {
        match &self.typed {
            Some(typed) => format!("'{}' is taken ({})", typed.value_signature(), self.shape),
            None => format!("bytes (ay) are taken, or JSON with the option 'json' ({})", self.shape),
        }
    }
}

/// What each address takes and gives, as long as nothing in the hub changes.
#[derive(Debug, Default)]
pub(crate) struct TypeCache {
    generation: u64,
    by_address: HashMap<String, Arc<AddressTypes>, foldhash::fast::RandomState>,
}

impl TypeCache {
    /// Forgets what is of another generation.
    pub(crate) fn enter(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.by_address.clear();
        }
    }

    pub(crate) fn find(&self, address: &str) -> Option<Arc<AddressTypes>> {
        self.by_address.get(address).cloned()
    }

    /// The types of an address, as they were told when `asked_at` was the generation: kept if it still is.
    pub(crate) fn keep(
        &mut self,
        address: &str,
        (request, response): (&[u8], &[u8]),
        asked_at: u64,
    ) -> Arc<AddressTypes> {
        let same =
            |types: &&Arc<AddressTypes>| types.request_schema == request && types.response_schema == response;
        if let Some(known) = self.by_address.get(address).filter(same) {
            return Arc::clone(known);
        }
        let types = Arc::new(AddressTypes::new(request, response));
        if asked_at == self.generation {
            // Types that somebody makes up must not fill the memory.
            if self.by_address.len() >= MAX_ADDRESSES {
                self.by_address.clear();
            }
            self.by_address.insert(address.to_owned(), Arc::clone(&types));
        }
        types
    }
}

/// The arguments of a member with this type: its own, or one variant where there is no other form.
pub(crate) fn arguments(kind: Option<&Kind>, name: &str) -> Vec<Argument> {
    match kind.and_then(|kind| kind.typed.as_ref()) {
        Some(typed) => typed.arguments().to_vec(),
        None => vec![Argument { name: name.to_owned(), signature: "v".to_owned() }],
    }
}

/// The arguments for a payload.
///
/// # Errors
/// The payload is not of the type, as far as is seen without reading it.
pub(crate) fn values<'a>(kind: Option<&'a Kind>, payload: &'a OwnedPayload) -> Result<Piece<'a>, Fault> {
    match (kind.and_then(|kind| kind.typed.as_ref()), payload) {
        (None, _) => value(kind, payload, false),
        (Some(typed), OwnedPayload::Binary(bytes)) => Ok(Piece::Arguments(typed, bytes)),
        (Some(typed), OwnedPayload::Empty) => Ok(Piece::Arguments(typed, &[])),
        (Some(_), _) => Err(unfit("it is a text")),
    }
}

/// The payload as one value in a variant; in JSON, if so asked, as a text.
///
/// # Errors
/// As [`values`].
pub(crate) fn value<'a>(
    kind: Option<&'a Kind>,
    payload: &'a OwnedPayload,
    json: bool,
) -> Result<Piece<'a>, Fault> {
    if json {
        return Ok(Piece::Item(items::variant(items::text(to_json(kind, payload)?))));
    }
    let typed = kind.and_then(|kind| kind.typed.as_ref());
    Ok(match (typed, payload) {
        (Some(typed), OwnedPayload::Binary(bytes)) => Piece::Value(typed, bytes),
        (Some(typed), OwnedPayload::Empty) if typed.arguments().is_empty() => Piece::Value(typed, &[]),
        (None, OwnedPayload::Binary(bytes)) => Piece::Bytes(bytes),
        (_, OwnedPayload::Empty) => Piece::Bytes(&[]),
        (_, OwnedPayload::String(text) | OwnedPayload::Json(text) | OwnedPayload::Toml(text)) => {
            Piece::Text(text)
        }
    })
}

fn to_json(kind: Option<&Kind>, payload: &OwnedPayload) -> Result<String, Fault> {
    match (kind, payload) {
        (_, OwnedPayload::Json(text)) => Ok(text.clone()),
        (Some(kind), OwnedPayload::Binary(bytes)) => kind.shape.to_json(bytes, MAX_JSON).map_err(unfit),
        (_, other) => schema::to_json(other).map(|json| json.to_string()).map_err(Fault::from),
    }
}

fn from_json(kind: Option<&Kind>, text: &str) -> Result<OwnedPayload, Fault> {
    let wrong = |what: String| Fault::from(Error::Serialization(what));
    match kind {
        Some(kind) => {
            let bytes = kind.shape.to_postcard(text, MAX_JSON);
            let bytes = bytes.map_err(|misfit| wrong(format!("{} is taken: {misfit}", kind.shape)))?;
            Ok(OwnedPayload::Binary(bytes))
        }
        None => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Ok(OwnedPayload::Json(text.to_owned())),
            Err(error) => Err(wrong(format!("the payload is no JSON: {error}"))),
        },
    }
}

/// The bytes of an array of them.
fn raw(value: &mut Iter<'_>) -> Result<Option<OwnedPayload>, Fault> {
    match bytes(value) {
        Some(bytes) if bytes.len() > MAX_POSTCARD => Err(too_long()),
        bytes => Ok(bytes.map(|bytes| OwnedPayload::Binary(bytes.to_vec()))),
    }
}

fn bytes<'a>(value: &mut Iter<'a>) -> Option<&'a [u8]> {
    if value.arg_type() == ArgType::Array { value.get() } else { None }
}

/// What a variant holds where nothing is meant: it must hold something.
fn is_nothing(value: &mut Iter<'_>) -> bool {
    match value.arg_type() {
        ArgType::String => value.get::<&str>().is_some_and(str::is_empty),
        ArgType::Byte => value.get::<u8>() == Some(0),
        _ => bytes(value).is_some_and(<[u8]>::is_empty),
    }
}

fn too_long() -> Fault {
    Fault::invalid_args(Misfit::TooLong { max: MAX_POSTCARD }.to_string())
}

pub(super) fn unfit(what: impl std::fmt::Display) -> Fault {
    Fault::new(SERIALIZATION, format!("what came is not of the address's type: {what}"))
}

/// Addresses whose types are kept.
const MAX_ADDRESSES: usize = 4096;
/// Bytes of JSON, and of what is made of it, in one message.
const MAX_JSON: usize = 16 << 20;
