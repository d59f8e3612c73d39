//! The core of Visorbus: one message plane from a microcontroller to a browser.
//!
//! No allocation, no I/O, no clock, no unsafe code. Everything is driven from outside: bytes and time go in, bytes and
//! events come out. The modules stand in the order in which a message meets them:
//!
//! ```text
//! link.receive -> frame -> codec::decode -> Session::handle -> route -> dispatch -> handler -> codec::encode -> link.send
//! ```
//!
//! A leaf node turns that whole way with [`peer::Peer::poll`]; [`serve`](mod@serve) is its main loop.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

pub mod link;

pub mod frame;

pub mod codec;
pub mod message;
mod needs;
mod wire;

pub mod bus;
pub mod session;

pub mod clock;

pub mod auth;
pub mod seal;
pub mod secure;

pub mod route;

pub mod dispatch;

pub mod peer;
pub mod serve;

pub mod error;
pub mod limits;
pub mod sentence;
pub mod time;

pub use codec::{decode, encode};
pub use error::{ErrorKind, IpcError};
pub use link::Link;
pub use message::{Message, MessageFlags, MessagePayload, MessagePriority, MessageType};
pub use peer::Peer;
pub use session::Session;
pub use time::Instant;
