//! What a token says: its claims, its scopes, and the caveats that narrow it. Encodes and reads them; trusts nothing.

use super::permission::{Permission, Scope};
use crate::message::address::is_name;
use crate::wire::{Reader, Writer};

/// What a token says, before any caveat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims<'a> {
    /// Who made it: the hub (`bus`) or a device for itself. A component name.
    pub issuer: &'a str,
    /// Whom it speaks for. A component name.
    pub subject: &'a str,
    /// Who may accept it. A component name.
    pub audience: &'a str,
    /// Unique per issuer and key; refresh and revocation go by it. In a proof, where issuer and subject are the same, the
    /// boot id of the end that it is for.
    pub serial: u64,
    /// When it was made, in Unix seconds.
    pub issued_at: u64,
    /// From when on it is refused, in Unix seconds.
    pub expiry: u64,
    /// Refused by a ring whose key demands a later one.
    pub epoch: u32,
    /// What it allows.
    pub scopes: Scopes<'a>,
}

impl<'a> Claims<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self {
            issuer: read_name(reader)?,
            subject: read_name(reader)?,
            audience: read_name(reader)?,
            serial: reader.varint()?,
            issued_at: reader.varint()?,
            expiry: reader.varint()?,
            epoch: reader.varint_u32()?,
            scopes: Scopes::read(reader)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.run(self.issuer.as_bytes());
        writer.run(self.subject.as_bytes());
        writer.run(self.audience.as_bytes());
        writer.varint(self.serial);
        writer.varint(self.issued_at);
        writer.varint(self.expiry);
        writer.varint(self.epoch.into());
        self.scopes.write(writer);
    }
}

/// A list of scopes: texts of the caller's, or as they stand in a token. Equal when the same in the same order.
#[derive(Clone, Copy)]
pub struct Scopes<'a>(List<'a>);

#[derive(Clone, Copy)]
enum List<'a> {
    Texts(&'a [&'a str]),
    /// Each with one byte of length before it.
    Packed(&'a [u8]),
}

impl<'a> Scopes<'a> {
    /// The scopes `texts`; what they look like is checked when a token is made of them.
    pub const fn new(texts: &'a [&'a str]) -> Self {
        Self(List::Texts(texts))
    }

    /// Scopes as they stand in a token, each with a byte of length before it, without their count.
    pub(super) const fn packed(bytes: &'a [u8]) -> Self {
        Self(List::Packed(bytes))
    }

    /// The bytes of scopes that stand in a token; `None` for a caller's texts.
    pub(super) const fn as_packed(self) -> Option<&'a [u8]> {
        match self.0 {
            List::Packed(bytes) => Some(bytes),
            List::Texts(_) => None,
        }
    }

    /// Each scope, in order.
    pub const fn iter(self) -> ScopeIter<'a> {
        ScopeIter(self.0)
    }

    /// Whether every one is a scope as [`Scope::parse`] reads it.
    pub fn are_well_formed(self) -> bool {
        self.iter().all(|text| Scope::parse(text).is_some())
    }

    /// Whether each scope of `other` is covered by one of these.
    pub fn cover(self, other: Scopes<'_>) -> bool {
        other.iter().all(|text| Scope::parse(text).is_some_and(|narrow| self.allow(narrow)))
    }

    /// Whether one of them covers `narrow`.
    pub(super) fn allow(self, narrow: Scope<'_>) -> bool {
        let candidates = self.iter().filter(|text| may_cover(text, narrow));
        candidates.filter_map(Scope::parse).any(|wide| wide.covers(narrow))
    }

    /// Bytes that they take when packed.
    pub(super) fn packed_len(self) -> usize {
        self.iter().map(|text| text.len() + 1).sum()
    }

    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let count = reader.varint_u32()?;
        let start = *reader;
        for _ in 0..count {
            Scope::parse(reader.ascii()?)?;
        }
        Some(Self::packed(reader.since(start)))
    }

    fn write(self, writer: &mut Writer<'_>) {
        writer.varint(self.iter().count() as u64);
        self.iter().for_each(|text| writer.run(text.as_bytes()));
    }
}

impl<'a> IntoIterator for Scopes<'a> {
    type Item = &'a str;
    type IntoIter = ScopeIter<'a>;

    fn into_iter(self) -> ScopeIter<'a> {
        self.iter()
    }
}

impl PartialEq for Scopes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Scopes<'_> {}

impl core::fmt::Debug for Scopes<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The scopes of [`Scopes::iter`], as texts.
#[derive(Clone)]
pub struct ScopeIter<'a>(List<'a>);

impl<'a> Iterator for ScopeIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match &mut self.0 {
            List::Texts(texts) => {
                let (first, rest) = texts.split_first()?;
                *texts = rest;
                Some(first)
            }
            List::Packed(bytes) => {
                let mut reader = Reader::new(bytes);
                let text = reader.ascii()?;
                *bytes = reader.rest();
                Some(text)
            }
        }
    }
}

/// A condition that a holder adds to a token. Each can only narrow; a kind that a checker does not know refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caveat<'a> {
    /// Refused from this moment on, in Unix seconds; never later than before.
    Expiry(u64),
    /// Only these scopes; each must be covered by one that the token has allowed so far.
    Scopes(Scopes<'a>),
    /// Only from a process of this user id.
    Uid(u32),
    /// Only over a connection at whose other end this certificate was shown: its SHA-256, in DER form.
    Certificate(&'a [u8; 32]),
}

impl<'a> Caveat<'a> {
    /// The kind byte, then the value in postcard's layout.
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Expiry(at) => {
                writer.u8(KIND_EXPIRY);
                writer.varint(*at);
            }
            Self::Scopes(scopes) => {
                writer.u8(KIND_SCOPES);
                scopes.write(writer);
            }
            Self::Uid(uid) => {
                writer.u8(KIND_UID);
                writer.varint((*uid).into());
            }
            Self::Certificate(hash) => {
                writer.u8(KIND_CERTIFICATE);
                writer.bytes(*hash);
            }
        }
    }

    /// The value of a caveat of `kind`: outer `None` for an unknown kind, inner for a value that is not of it.
    pub(super) fn read(kind: u8, reader: &mut Reader<'a>) -> Option<Option<Self>> {
        match kind {
            KIND_EXPIRY => Some(reader.varint().map(Self::Expiry)),
            KIND_SCOPES => Some(Scopes::read(reader).map(Self::Scopes)),
            KIND_UID => Some(reader.varint_u32().map(Self::Uid)),
            KIND_CERTIFICATE => Some(reader.array().map(Self::Certificate)),
            _ => None,
        }
    }
}

/// Whether a scope's text begins as one that covers `narrow` does. Spares a hub taking the others apart for every
/// message; where flash is dear, all are taken apart.
fn may_cover(text: &str, narrow: Scope<'_>) -> bool {
    if cfg!(not(feature = "std")) {
        return true;
    }
    match narrow {
        Scope::Everything => text == "*",
        Scope::Name(name) => text == name || text == "*",
        Scope::Permission(Permission { operation, .. }) => {
            text.starts_with('*') || operation.is_some_and(|operation| text.starts_with(operation.as_str()))
        }
    }
}

fn read_name<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    reader.ascii().filter(|name| is_name(name))
}

const KIND_EXPIRY: u8 = 1;
const KIND_SCOPES: u8 = 2;
const KIND_UID: u8 = 3;
const KIND_CERTIFICATE: u8 = 4;
