//! What a message carries.

use crate::error::IpcError;
use crate::needs::{Everything, Needs};
use crate::sentence;

/// The payload of a message, borrowed.
///
/// `Json` and `Toml` are text here: whoever understands them parses them. `Binary` carries opaque bytes, and the
/// postcard encoding of every typed endpoint and topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessagePayload<'a> {
    /// Nothing.
    #[default]
    Empty,
    /// A text.
    String(&'a str),
    /// Bytes; postcard for typed endpoints and topics.
    Binary(&'a [u8]),
    /// A JSON document, RFC 8259. The core checks that it is UTF-8, no more.
    Json(&'a str),
    /// A TOML document. The core checks that it is UTF-8, no more.
    Toml(&'a str),
}

impl<'a> MessagePayload<'a> {
    /// The bytes, whatever the kind.
    pub const fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Empty => &[],
            Self::Binary(bytes) => bytes,
            Self::String(text) | Self::Json(text) | Self::Toml(text) => text.as_bytes(),
        }
    }

    /// The kind without the content.
    pub const fn kind(&self) -> PayloadKind {
        match self {
            Self::Empty => PayloadKind::Empty,
            Self::String(_) => PayloadKind::String,
            Self::Binary(_) => PayloadKind::Binary,
            Self::Json(_) => PayloadKind::Json,
            Self::Toml(_) => PayloadKind::Toml,
        }
    }

    /// Puts `bytes` under `kind`; `None` when an empty payload has bytes or a text is not UTF-8.
    pub fn from_parts(kind: PayloadKind, bytes: &'a [u8]) -> Option<Self> {
        Self::from_parts_for::<Everything>(kind, bytes)
    }

    /// As [`MessagePayload::from_parts`] for an end with these needs: where it reads no text, one is not looked at and reads as empty.
    pub(crate) fn from_parts_for<N: Needs>(kind: PayloadKind, bytes: &'a [u8]) -> Option<Self> {
        let text = || if N::TEXT { crate::wire::text(bytes) } else { Some("") };
        Some(match kind {
            PayloadKind::Empty if bytes.is_empty() => Self::Empty,
            PayloadKind::Empty => return None,
            PayloadKind::Binary => Self::Binary(bytes),
            PayloadKind::String => Self::String(text()?),
            PayloadKind::Json => Self::Json(text()?),
            PayloadKind::Toml => Self::Toml(text()?),
        })
    }

    /// Reads a typed value from its postcard bytes, all of them. An empty payload is the value without bytes, `()`.
    ///
    /// # Errors
    /// `Serialization` when the payload is a text, when the bytes are not a `T`, or when some are left over.
    pub fn parse<T: serde::Deserialize<'a>>(&self) -> Result<T, IpcError> {
        let (Self::Binary(_) | Self::Empty) = self else {
            return Err(IpcError::Serialization(sentence::ONLY_POSTCARD));
        };
        match postcard::take_from_bytes(self.as_bytes()) {
            Ok((value, [])) => Ok(value),
            _ => Err(IpcError::Serialization(sentence::WRONG_TYPE)),
        }
    }
}

/// The kind of a payload; the discriminant is its code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum PayloadKind {
    /// [`MessagePayload::Empty`].
    Empty = 0,
    /// [`MessagePayload::String`].
    String = 1,
    /// [`MessagePayload::Binary`].
    Binary = 2,
    /// [`MessagePayload::Json`].
    Json = 3,
    /// [`MessagePayload::Toml`].
    Toml = 4,
}

impl PayloadKind {
    /// The kind with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Empty,
            1 => Self::String,
            2 => Self::Binary,
            3 => Self::Json,
            4 => Self::Toml,
            _ => return None,
        })
    }
}
