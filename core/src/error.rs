//! What went wrong, in the eight kinds that travel on the wire.

use crate::needs::{Everything, Needs};
use crate::sentence;

/// An error of the message plane: its kind, and a text that says what, where and what to do.
///
/// `T` is the text: `&'static str` on a leaf, `&str` borrowed from a frame, `String` on std. On the wire it is an
/// Error message whose payload is the kind's code in one byte, then the text in UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum IpcError<T = &'static str> {
    /// Who is calling could not be established.
    #[error("authentication error: {0}")]
    Authentication(T),
    /// Who is calling may not do this.
    #[error("authorization error: {0}")]
    Authorization(T),
    /// The other end is not there, or no longer.
    #[error("connection error: {0}")]
    Connection(T),
    /// The message is well-formed but cannot be acted on: no such address, a value out of range, a full queue.
    #[error("message error: {0}")]
    Message(T),
    /// The answer did not come in time.
    #[error("timeout error: {0}")]
    Timeout(T),
    /// A payload is not what the address takes or gives.
    #[error("serialization error: {0}")]
    Serialization(T),
    /// The other end broke the rules of the wire.
    #[error("protocol error: {0}")]
    Protocol(T),
    /// A fault of the side that answers.
    #[error("internal error: {0}")]
    Internal(T),
}

impl<T> IpcError<T> {
    /// The error of kind `kind` with the text `text`.
    pub fn new(kind: ErrorKind, text: T) -> Self {
        match kind {
            ErrorKind::Authentication => Self::Authentication(text),
            ErrorKind::Authorization => Self::Authorization(text),
            ErrorKind::Connection => Self::Connection(text),
            ErrorKind::Message => Self::Message(text),
            ErrorKind::Timeout => Self::Timeout(text),
            ErrorKind::Serialization => Self::Serialization(text),
            ErrorKind::Protocol => Self::Protocol(text),
            ErrorKind::Internal => Self::Internal(text),
        }
    }

    /// Which of the eight kinds it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Authentication(_) => ErrorKind::Authentication,
            Self::Authorization(_) => ErrorKind::Authorization,
            Self::Connection(_) => ErrorKind::Connection,
            Self::Message(_) => ErrorKind::Message,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Serialization(_) => ErrorKind::Serialization,
            Self::Protocol(_) => ErrorKind::Protocol,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The text without the kind.
    pub const fn text(&self) -> &T {
        match self {
            Self::Authentication(text)
            | Self::Authorization(text)
            | Self::Connection(text)
            | Self::Message(text)
            | Self::Timeout(text)
            | Self::Serialization(text)
            | Self::Protocol(text)
            | Self::Internal(text) => text,
        }
    }

    /// The same kind with another text, usually to own a borrowed one: `error.map(String::from)`.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> IpcError<U> {
        let kind = self.kind();
        match self {
            Self::Authentication(text)
            | Self::Authorization(text)
            | Self::Connection(text)
            | Self::Message(text)
            | Self::Timeout(text)
            | Self::Serialization(text)
            | Self::Protocol(text)
            | Self::Internal(text) => IpcError::new(kind, change(text)),
        }
    }
}

impl<'a> IpcError<&'a str> {
    /// Reads the payload of an Error message. An unknown code reads as `Internal`; with the feature `std` the number of a
    /// [`sentence`] reads as that sentence.
    pub fn from_payload(bytes: &'a [u8]) -> Self {
        Self::from_payload_for::<Everything>(bytes)
    }

    /// As [`IpcError::from_payload`] for an end with these needs: where it reads no text, that is empty.
    pub(crate) fn from_payload_for<N: Needs>(bytes: &'a [u8]) -> Self {
        let (&code, text) = bytes.split_first().unwrap_or((&0, &[]));
        let text =
            if N::TEXT { crate::wire::text(text).map_or(sentence::NOT_UTF8, sentence::in_full) } else { "" };
        Self::new(ErrorKind::from_code(code).unwrap_or(ErrorKind::Internal), text)
    }
}

/// The kind of an [`IpcError`]; the discriminant is its code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ErrorKind {
    /// See [`IpcError::Authentication`].
    Authentication = 1,
    /// See [`IpcError::Authorization`].
    Authorization = 2,
    /// See [`IpcError::Connection`].
    Connection = 3,
    /// See [`IpcError::Message`].
    Message = 4,
    /// See [`IpcError::Timeout`].
    Timeout = 5,
    /// See [`IpcError::Serialization`].
    Serialization = 6,
    /// See [`IpcError::Protocol`].
    Protocol = 7,
    /// See [`IpcError::Internal`].
    Internal = 8,
}

impl ErrorKind {
    /// The code on the wire, 1 to 8.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Authentication,
            2 => Self::Authorization,
            3 => Self::Connection,
            4 => Self::Message,
            5 => Self::Timeout,
            6 => Self::Serialization,
            7 => Self::Protocol,
            8 => Self::Internal,
            _ => return None,
        })
    }

    /// The kind's name in lower case, as JSON shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Connection => "connection",
            Self::Message => "message",
            Self::Timeout => "timeout",
            Self::Serialization => "serialization",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_kinds_are_the_same_eight_in_both_directions() {
        for code in 0..=u8::MAX {
            let kind = ErrorKind::from_code(code);
            assert_eq!(kind.is_some(), (1..=8).contains(&code));
            if let Some(kind) = kind {
                assert_eq!(kind.code(), code);
                assert_eq!(IpcError::new(kind, "x").kind(), kind);
            }
        }
    }

    #[test]
    fn an_error_payload_of_any_bytes_reads_as_some_error() {
        assert_eq!(IpcError::from_payload(b"\x02no"), IpcError::Authorization("no"));
        assert_eq!(IpcError::from_payload(b""), IpcError::Internal(""));
        assert_eq!(IpcError::from_payload(b"\x63?"), IpcError::Internal("?"));
        assert_eq!(IpcError::from_payload(b"\x01\xff").kind(), ErrorKind::Authentication);
    }
}
