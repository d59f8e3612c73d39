//! A type as a peer described it, believed only as far as it can be walked: its depth and its size are held against
//! limits before anything is made of it, because whoever described it may mean harm.

use std::sync::{Arc, OnceLock};

use postcard_schema::key::Key;
use postcard_schema::schema::owned::OwnedNamedType;

use super::Misfit;
use super::from_json::to_postcard;
use super::into_json::to_json;

/// The type of a payload. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct Shape(Arc<Known>);

#[derive(Debug)]
struct Known {
    named: OwnedNamedType,
    /// How it reads: once it was asked for, because a type is longer than what is shown of it.
    shown: OnceLock<String>,
}

impl Shape {
    /// Reads a schema: `postcard-schema`'s `NamedType` in postcard. `None` when it is none, has more than 1024 parts, is
    /// nested more than 32 deep or has more than 64 KiB.
    pub fn read(schema: &[u8]) -> Option<Self> {
        if schema.len() > MAX_BYTES {
            return None;
        }
        let mut walk = Walk { rest: schema, parts: 0 };
        walk.named(0)?;
        let shape = postcard::from_bytes(schema).ok().filter(|_| walk.rest.is_empty())?;
        Some(Self(Arc::new(Known { named: shape, shown: OnceLock::new() })))
    }

    /// The type itself, to walk through: no more than 1024 parts, nested at most 32 deep.
    pub fn named(&self) -> &OwnedNamedType {
        &self.0.named
    }

    /// The hash of the type as rows tell it.
    pub fn hash(&self) -> u64 {
        u64::from_le_bytes(Key::for_owned_schema_path("", &self.0.named).to_bytes())
    }

    /// The JSON of postcard bytes of this type, in the form that `serde_json` gives it; numbers that are none (NaN) are
    /// `null`.
    ///
    /// # Errors
    /// [`Misfit`] when the bytes are not of this type, some are left over, or the JSON would have more than `max` bytes,
    /// or more than 4 KiB and 256 for each of `bytes`.
    pub fn to_json(&self, bytes: &[u8], max: usize) -> Result<String, Misfit> {
        self.to_json_counted(bytes, max, &mut 0)
    }

    /// As [`Shape::to_json`]; adds to `work` about how many bytes were gone through and written for it.
    pub(crate) fn to_json_counted(
        &self,
        bytes: &[u8],
        max: usize,
        work: &mut usize,
    ) -> Result<String, Misfit> {
        to_json(&self.0.named.ty, bytes, max, work)
    }

    /// The postcard bytes of a JSON document of this type. What may be absent in it is what is optional or has no
    /// content; what the type does not have is refused, and a name that comes twice.
    ///
    /// # Errors
    /// [`Misfit`] when the JSON is not of this type, or the bytes would be more than `max`, or more than 4 KiB and 32 for
    /// each of the JSON's.
    pub fn to_postcard(&self, json: &str, max: usize) -> Result<Vec<u8>, Misfit> {
        self.to_postcard_counted(json, max, &mut 0)
    }

    /// As [`Shape::to_postcard`]; adds to `work` about how many bytes were gone through and written for it.
    pub(crate) fn to_postcard_counted(
        &self,
        json: &str,
        max: usize,
        work: &mut usize,
    ) -> Result<Vec<u8>, Misfit> {
        to_postcard(&self.0.named.ty, json, max, work)
    }
}

/// As it reads in a Rust program, cut to what fits into an error.
impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.shown.get_or_init(|| {
            let text = self.0.named.to_pseudocode();
            match text.char_indices().nth(MAX_SHOWN) {
                Some((end, _)) => format!("{} …", &text[..end]),
                None => text,
            }
        }))
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.0.named == other.0.named
    }
}

impl Eq for Shape {}

/// A schema as it was told, and its shape once somebody has asked for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Described {
    bytes: Vec<u8>,
    shape: OnceLock<Option<Shape>>,
}

impl Described {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// `None` where nothing was told, or nothing that can be read.
    pub(crate) fn shape(&self) -> Option<&Shape> {
        self.shape.get_or_init(|| Shape::read(&self.bytes)).as_ref()
    }
}

impl From<&[u8]> for Described {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Described {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, shape: OnceLock::new() }
    }
}

/// Goes through a schema's bytes without making anything of them.
struct Walk<'a> {
    rest: &'a [u8],
    parts: usize,
}

impl Walk<'_> {
    fn named(&mut self, depth: usize) -> Option<()> {
        self.text()?;
        self.parts += 1;
        if depth >= MAX_DEPTH || self.parts > MAX_PARTS {
            return None;
        }
        match self.byte()? {
            OPTION | NEWTYPE_STRUCT | SEQ => self.named(depth + 1),
            TUPLE | TUPLE_STRUCT => self.items(depth + 1),
            MAP => {
                self.named(depth + 1)?;
                self.named(depth + 1)
            }
            STRUCT => self.fields(depth + 1),
            ENUM => (0..self.count()?).try_for_each(|_| {
                self.text()?;
                self.parts += 1;
                match self.byte()? {
                    0 => (self.parts <= MAX_PARTS).then_some(()),
                    1 => self.named(depth + 1),
                    2 => self.items(depth + 1),
                    3 => self.fields(depth + 1),
                    _ => None,
                }
            }),
            plain => (plain <= LAST).then_some(()),
        }
    }

    fn items(&mut self, depth: usize) -> Option<()> {
        (0..self.count()?).try_for_each(|_| self.named(depth))
    }

    fn fields(&mut self, depth: usize) -> Option<()> {
        (0..self.count()?).try_for_each(|_| {
            self.text()?;
            self.named(depth)
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn count(&mut self) -> Option<usize> {
        let (count, rest) = postcard::take_from_bytes::<u32>(self.rest).ok()?;
        self.rest = rest;
        Some(count as usize)
    }

    fn text(&mut self) -> Option<()> {
        let len = self.count()?;
        self.rest = self.rest.get(len..)?;
        Some(())
    }
}

const MAX_BYTES: usize = 64 << 10;
const MAX_DEPTH: usize = 32;
const MAX_PARTS: usize = 1024;
/// Characters of a type in an error.
const MAX_SHOWN: usize = 400;

// The places of the kinds of types in `postcard-schema`'s list that have something behind them.
const OPTION: u8 = 18;
const NEWTYPE_STRUCT: u8 = 21;
const SEQ: u8 = 22;
const TUPLE: u8 = 23;
const TUPLE_STRUCT: u8 = 24;
const MAP: u8 = 25;
const STRUCT: u8 = 26;
const ENUM: u8 = 27;
const LAST: u8 = 28;
