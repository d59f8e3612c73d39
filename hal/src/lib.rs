//! The links of Visorbus on a microcontroller: [`Link`](visorbus_core::link::Link)s over the traits that every HAL
//! implements. No heap, no interrupt handler, no clock, no wait.
//!
//! The way of a frame: UART bytes → [`SerialLink`], SPI transfers → [`SpiLink`] or [`SpiTargetLink`] → whole frames for
//! the core's peer, and back. A link knows frames, never messages.
//!
//! With the feature `async` a leaf's main loop is a future: `serve_serial` and `serve_spi` over embedded-io-async and
//! embedded-hal-async, `serve_link` over any link.
#![no_std]
#![forbid(unsafe_code)]

mod lane;
mod secure;
mod serial;
#[cfg(feature = "async")]
mod serve;
mod spi;
mod stats;

pub use lane::{Lane, LaneStats, lane_len, piece_len};
pub use secure::SecureLink;
#[cfg(feature = "async")]
pub use serial::serve_serial;
pub use serial::{SerialError, SerialFrames, SerialLink, serial_buffer_len};
#[cfg(feature = "async")]
pub use serve::{Timer, serve_link};
pub use spi::{SpiController, SpiError, SpiLink, SpiStats, SpiTarget, SpiTargetLink, SpiTransfer};
#[cfg(feature = "async")]
pub use spi::{SpiFrames, serve_spi};
pub use stats::SerialStats;
