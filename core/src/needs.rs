//! What an end has a use for, known while compiling: a leaf links no code for the rest.

use crate::message::Address;

/// The needs of one end. Functions that are there for all ends take them as a type.
pub(crate) trait Needs {
    /// It reads texts: payloads of a text kind, and what an Error says beside its kind. Where it does not, they read as
    /// empty ones.
    const TEXT: bool;
    /// It checks tokens of the other end. Where it does not, they are refused unseen.
    const CHECK: bool;
    /// It proves itself by a token.
    const PROOF: bool;

    /// The address of a row of the connecting end's table, for an end that knows that table while compiling.
    fn address_of(_row: u16) -> Option<Address<'static>> {
        None
    }
}

/// All there is.
pub(crate) struct Everything;

impl Needs for Everything {
    const TEXT: bool = true;
    const CHECK: bool = true;
    const PROOF: bool = true;
}
