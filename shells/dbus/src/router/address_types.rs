//! The types of addresses, and payloads there and back: between the values of D-Bus and what the hub carries.

use std::collections::HashMap;
use std::sync::Arc;

use dbus::arg::messageitem::MessageItem;
use visorbus_hub::schema::{self, Shape};
use visorbus_hub::{Error, OwnedPayload};

use super::{Asked, items};
use crate::fault::{Fault, INVALID_SIGNATURE, SERIALIZATION};
use crate::types::{Argument, Typed, item_of_bytes, signature_of};

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

    /// The payload for what a variant holds, which is `bytes` where those are there.
    ///
    /// # Errors
    /// As [`AddressTypes::payload`].
    pub(crate) fn payload_of(&self, asked: &Asked, json: bool) -> Result<OwnedPayload, Fault> {
        let Some(bytes) = &asked.bytes else { return self.payload(asked.variant(1)?, json) };
        let typed = self.request.as_ref().and_then(|kind| kind.typed.as_ref());
        // Of a type with content that is no array, the bytes are the postcard.
        let fits = |typed: &&Typed| [typed.value_signature(), typed.signature()].contains(&"ay");
        let is_postcard = typed.is_none_or(|typed| !typed.arguments().is_empty() && !fits(&typed));
        let made = match typed {
            _ if json => None,
            _ if is_postcard => Some(bytes.clone()),
            typed => typed.filter(fits).and_then(|typed| typed.bytes_to_postcard(bytes)),
        };
        match made {
            Some(bytes) => Ok(OwnedPayload::Binary(bytes)),
            None => {
                let item = item_of_bytes(bytes).map_err(|unfit| Fault::invalid_args(unfit.to_string()))?;
                self.payload(&item, json)
            }
        }
    }

    /// The payload for a value of a variant, or for a text in JSON.
    ///
    /// # Errors
    /// What is wrong with the value; it tells the type of the address, which is for those alone who may know it.
    pub(crate) fn payload(&self, value: &MessageItem, json: bool) -> Result<OwnedPayload, Fault> {
        match (&self.request, value) {
            (kind, MessageItem::Str(text)) if json => from_json(kind.as_ref(), text),
            (_, _) if json => Err(Fault::invalid_args("with the option 'json' the payload is a text")),
            (Some(kind), value) => kind.payload(value),
            (None, MessageItem::Str(text)) => Ok(OwnedPayload::String(text.clone())),
            (None, value) => raw(value).map(OwnedPayload::Binary).ok_or_else(|| {
                let text = "the types of this address are not known: it takes bytes (ay), a text (s), or JSON with the option \
                            'json'";
                Fault::new(INVALID_SIGNATURE, text)
            }),
        }
    }
}

/// The bytes of a payload that is one array of them, as an argument or as a variant holds it; where no type is known, of
/// what a variant holds.
pub(crate) fn bytes_of<'p>(
    kind: Option<&Kind>,
    payload: &'p OwnedPayload,
    in_variant: bool,
) -> Option<&'p [u8]> {
    let OwnedPayload::Binary(bytes) = payload else { return None };
    match kind.and_then(|kind| kind.typed.as_ref()) {
        Some(typed) => typed.bytes_of(bytes, in_variant),
        None => in_variant.then_some(bytes),
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

    fn payload(&self, value: &MessageItem) -> Result<OwnedPayload, Fault> {
        let given = signature_of(std::slice::from_ref(value)).unwrap_or_default();
        let fits = match &self.typed {
            Some(typed) if typed.arguments().is_empty() && is_nothing(value) => Some(typed.to_postcard(&[])),
            Some(typed) if given == typed.value_signature() => Some(typed.value_to_postcard(value)),
            Some(typed) if given == typed.signature() => Some(typed.to_postcard(std::slice::from_ref(value))),
            _ => None,
        };
        match (fits, raw(value)) {
            (Some(Ok(bytes)), _) | (None, Some(bytes)) => Ok(OwnedPayload::Binary(bytes)),
            (Some(Err(misfit)), _) => Err(Fault::invalid_args(format!("{} is taken: {misfit}", self.shape))),
            (None, None) => Err(Fault::new(INVALID_SIGNATURE, format!("{}, not '{given}'", self.wanted()))),
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
/// The payload is not of the type.
pub(crate) fn values(kind: Option<&Kind>, payload: &OwnedPayload) -> Result<Vec<MessageItem>, Fault> {
    match (kind.and_then(|kind| kind.typed.as_ref()), payload) {
        (None, _) => Ok(vec![items::variant(value(kind, payload, false)?)]),
        (Some(typed), OwnedPayload::Binary(bytes)) => typed.from_postcard(bytes).map_err(unfit),
        (Some(typed), OwnedPayload::Empty) => typed.from_postcard(&[]).map_err(unfit),
        (Some(_), _) => Err(unfit("it is a text")),
    }
}

/// The payload as one value, as a variant holds it; in JSON, if so asked, as a text.
///
/// # Errors
/// The payload is not of the type.
pub(crate) fn value(kind: Option<&Kind>, payload: &OwnedPayload, json: bool) -> Result<MessageItem, Fault> {
    if json {
        return to_json(kind, payload).map(items::text);
    }
    let typed = kind.and_then(|kind| kind.typed.as_ref());
    match (typed, payload) {
        (Some(typed), OwnedPayload::Binary(bytes)) => typed.value_from_postcard(bytes).map_err(unfit),
        (Some(typed), OwnedPayload::Empty) if typed.arguments().is_empty() => {
            typed.value_from_postcard(&[]).map_err(unfit)
        }
        (None, OwnedPayload::Binary(bytes)) => Ok(items::bytes(bytes)),
        (_, OwnedPayload::Empty) => Ok(items::bytes(&[])),
        (_, OwnedPayload::String(text) | OwnedPayload::Json(text) | OwnedPayload::Toml(text)) => {
            Ok(items::text(text))
        }
    }
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
fn raw(value: &MessageItem) -> Option<Vec<u8>> {
    let MessageItem::Array(array) = value else { return None };
    if &**array.signature() != "ay" {
        return None;
    }
    let byte = |item: &MessageItem| match item {
        MessageItem::Byte(byte) => Some(*byte),
        _ => None,
    };
    array.iter().map(byte).collect()
}

/// What a variant holds where nothing is meant: it must hold something.
fn is_nothing(value: &MessageItem) -> bool {
    match value {
        MessageItem::Str(text) => text.is_empty(),
        MessageItem::Byte(0) => true,
        other => raw(other).is_some_and(|bytes| bytes.is_empty()),
    }
}

fn unfit(what: impl std::fmt::Display) -> Fault {
    Fault::new(SERIALIZATION, format!("what came is not of the address's type: {what}"))
}

/// Addresses whose types are kept.
const MAX_ADDRESSES: usize = 4096;
/// Bytes of JSON, and of what is made of it, in one message.
const MAX_JSON: usize = 16 << 20;
