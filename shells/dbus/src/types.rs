//! Types: what an address takes and gives, as D-Bus sees it, and its values there and back. It knows schemas, postcard and
//! the arguments of messages; of objects, sessions and the hub's loop it knows nothing.
//!
//! - [`Typed`] is made of a schema once: the signature, and both translations, which make no values: what comes is read where
//!   it stands ([`Typed::take`]), what goes is written where it shall be ([`put()`]). [`skim`] says before whether one gets
//!   past what comes.
//! - [`read_items`] takes the arguments out of a message that anybody may have sent, [`append()`] puts arguments in that
//!   anybody may have made; both refuse what the library below would end the process for.
//! - [`is_signature`] and its neighbours judge signatures as texts.

mod append;
mod form;
mod put;
mod read;
mod signature;
mod skim;
mod take;

#[cfg(test)]
mod tests;

pub(crate) use append::{append, check, signature_of};
pub(crate) use form::{Argument, Typed};
pub(crate) use put::{Piece, put};
pub(crate) use read::{read_items, signature};
pub(crate) use signature::{is_signature, is_single_type, split};
pub(crate) use skim::skim;

/// Why arguments, or bytes, are not of an address's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    /// Something is of another type.
    #[error("{}{needed} is needed, not {got}", place(.at))]
    Wrong {
        /// Where: names of fields and numbers of elements, joined by `.`; empty for the whole.
        at: String,
        /// What there must be.
        needed: String,
        /// What there is: its signature in `'`, or in words.
        got: String,
    },
    /// A name is none of the type's variants.
    #[error("{}none of the variants {known}", place(.at))]
    UnknownVariant {
        /// Where, as in [`Misfit::Wrong`].
        at: String,
        /// The names that there are.
        known: String,
    },
    /// A value is beyond what its type can hold.
    #[error("{}a value is beyond {needed}", place(.at))]
    OutOfRange {
        /// Where, as in [`Misfit::Wrong`].
        at: String,
        /// What it must fit into.
        needed: &'static str,
    },
    /// A key comes twice.
    #[error("{}a key comes twice", place(.at))]
    Twice {
        /// Where, as in [`Misfit::Wrong`].
        at: String,
    },
    /// The bytes are not of the type.
    #[error(transparent)]
    Bytes(#[from] visorbus_hub::schema::Misfit),
    /// A text holds a zero byte, which D-Bus has no form for.
    #[error("a text in it holds a zero byte, which D-Bus cannot carry")]
    ZeroByte,
    /// There are more values than one message is turned into.
    #[error("it has more than {max} values")]
    TooMany {
        /// The most.
        max: usize,
    },
    /// There are more bytes than a message of the hub may have.
    #[error("it is longer than {max} bytes")]
    TooLong {
        /// The most.
        max: usize,
    },
    /// What stands beside it cannot be written.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Misfit {
    /// The same, one step further out.
    fn within(mut self, step: &str) -> Self {
        match &mut self {
            Self::Wrong { at, .. }
            | Self::UnknownVariant { at, .. }
            | Self::OutOfRange { at, .. }
            | Self::Twice { at } => {
                *at = if at.is_empty() { step.to_owned() } else { format!("{step}.{at}") };
            }
            _ => {}
        }
        self
    }
}

/// Why the arguments of a message are not read, or not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// A file descriptor, or a place for one.
    #[error("file descriptors are not taken here")]
    Descriptor,
    /// Containers within each other.
    #[error("arrays, structs and variants are nested more than {max} deep")]
    TooDeep {
        /// The most.
        max: usize,
    },
    /// Variants within each other.
    #[error("variants are nested more than {max} deep")]
    VariantsTooDeep {
        /// The most.
        max: usize,
    },
    /// More values than one message may have.
    #[error(
        "there are more than {max} values (an array counts as eight, four bytes of an array of bytes as one)"
    )]
    TooMany {
        /// The most.
        max: usize,
    },
    /// More bytes than one message may have.
    #[error("there are more than {max} bytes of arguments")]
    TooLong {
        /// The most.
        max: usize,
    },
    /// A text with a zero byte in it.
    #[error("a text holds a zero byte")]
    ZeroByte,
    /// An object path that is none.
    #[error("an object path is not one")]
    Path,
    /// A signature that is none, or the signature of the whole is too long.
    #[error("a signature is not one, or longer than 255 bytes")]
    Signature,
    /// A struct without fields.
    #[error("a struct has no fields, which D-Bus does not have")]
    EmptyStruct,
}

/// `at: `, or nothing.
fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!("{at}: ") }
}

/// Arrays, structs, dictionary entries and variants within each other in a message.
const MAX_DEPTH: usize = 32;
/// Variants within each other in a message.
const MAX_VARIANTS: usize = 8;
/// Structures within each other in a value whose type only its owner knows.
const MAX_LEVELS: usize = 3;
/// Values in a message.
const MAX_ITEMS: usize = 65_536;
/// Values that are read one by one in the hub's loop: what takes it well under a millisecond.
const MAX_READ: usize = 8192;
/// So many bytes of an array of bytes count as one value: the library makes a value of each byte.
const BYTES_PER_ITEM: usize = 4;
/// So many containers around a value that is read count as another value.
const DEPTH_PER_ITEM: usize = 4;
/// An array that is read counts as so many values: its signature is written down and read again.
const ITEMS_PER_ARRAY: usize = 8;
/// Bytes of postcard that a value from the bus may become: what a frame of the hub may have.
pub(crate) const MAX_POSTCARD: usize = 1 << 20;
/// Bytes of arguments in a message that is sent: half of what the system bus takes by default before it throws the sender out.
const MAX_BODY: usize = 16 << 20;
