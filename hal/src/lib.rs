//! The links of Visorbus on a microcontroller: [`Link`](visorbus_core::link::Link)s over the traits that every HAL
//! implements. No heap, no interrupt handler, no clock, no wait.
//!
//! The way of a frame: UART bytes → [`SerialLink`], SPI transfers → [`SpiLink`] or [`SpiTargetLink`] → whole frames for
//! the core's peer, and back. A link knows frames, never messages.
#![no_std]
#![forbid(unsafe_code)]

mod lane;
mod serial;
mod spi;
mod stats;

pub use lane::{Lane, LaneStats, lane_len, piece_len};
pub use serial::{SerialError, SerialFrames, SerialLink, serial_buffer_len};
pub use spi::{SpiController, SpiError, SpiLink, SpiStats, SpiTarget, SpiTargetLink, SpiTransfer};
pub use stats::SerialStats;
