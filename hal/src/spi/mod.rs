//! An SPI bus as a link: one transfer from chip select to chip select carries at most one frame each way.
//!
//! The controller drives clock and chip select; the target raises a data-ready line while it has something to say. What
//! stands in a transfer is in [`visorbus_core::frame::spi`]; what both ends keep of it is in `exchange`, and when the
//! controller makes one, and how long, is in [`SpiController`]. None of these does I/O: [`SpiLink`] and
//! [`SpiTargetLink`] do.

mod controller;
mod exchange;
mod link;
#[cfg(feature = "async")]
mod serve;
mod stats;
mod target;

pub use controller::{SpiController, SpiTransfer};
pub use link::{SpiError, SpiLink};
#[cfg(feature = "async")]
pub use serve::{SpiFrames, serve_spi};
pub use stats::SpiStats;
pub use target::{SpiTarget, SpiTargetLink};
