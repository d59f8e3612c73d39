//! What the example nodes have in common: the board as a node sees it, the device's key, its line, and
//! moments at a rate.
//!
//! It knows no node.
#![no_std]
#![forbid(unsafe_code)]

mod board;
mod keys;
mod line;
mod schedule;

#[cfg(feature = "defmt")]
pub use board::log_event;
pub use board::{Board, fitting};
pub use keys::{
    DEVELOPMENT_LINK_SECRET, DEVELOPMENT_ROOT_KEY, KEY_ID, USES_DEVELOPMENT_KEY, device_key, link_key,
};
pub use line::{AsyncLine, KeyedLine, Line, MAX_FRAME, async_line, keyed_line, line, session_config};
pub use schedule::Schedule;
