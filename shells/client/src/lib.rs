//! The client of a hub, whatever carries its messages.
//!
//! A transport gives a [`Dial`], which makes connections, each a [`Wire`].
#![forbid(unsafe_code)]

mod inbox;
mod wire;

pub use inbox::{Inbox, MAX_FRAME};
pub use wire::{Dial, Wait, Wire};
