//! The inertial sensor of the examples: what it measures, its messages, and the node that publishes and answers them.
//!
//! The crate is `no_std` and knows no board, so that the firmware and a process on the host run the very same node: a
//! board says who it is and what time it is ([`ImuBoard`]), and lends its UART.
//!
//! ```no_run
//! use visorbus_core::{Instant, serve::serve};
//! use visorbus_imu::{ImuBoard, ImuNode, device_key, leaf};
//!
//! struct Host(std::time::Instant);
//!
//! impl ImuBoard for Host {
//!     const NAME: &'static str = "host";
//!     fn now_us(&self) -> u64 {
//!         self.0.elapsed().as_micros() as u64
//!     }
//! }
//!
//! # fn run<U>(uart: U, boot_id: u64) -> Result<core::convert::Infallible, visorbus_hal::SerialError>
//! # where U: embedded_io::Read + embedded_io::Write + embedded_io::ReadReady + embedded_io::WriteReady {
//! let started = std::time::Instant::now();
//! let mut node = ImuNode::new(Host(started), boot_id);
//! let mut peer = leaf(uart, boot_id, device_key());
//! serve(&mut peer, &mut node, |_due| {
//!     // Sleep here until then, or until the UART has something to read or room to write.
//!     Instant::from_micros(started.elapsed().as_micros() as u64)
//! })
//! # }
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod leaf;
pub mod messages;
pub mod motion;
mod node;
pub mod self_test;

pub use leaf::{AsyncLeaf, KeyedLeaf, Leaf, async_leaf, keyed_leaf, leaf, session_config};
pub use messages::NAME;
pub use node::ImuNode;
pub use visorbus_device::{
    Board as ImuBoard, DEVELOPMENT_ROOT_KEY, KEY_ID, Line, MAX_FRAME, USES_DEVELOPMENT_KEY, line,
};

/// The key that this device shares with its hub; see [`visorbus_device::device_key`].
pub fn device_key() -> visorbus_core::auth::Key {
    visorbus_device::device_key(NAME)
}

/// The key of this device's line; see [`visorbus_device::link_key`].
pub fn link_key() -> visorbus_core::secure::LinkKey {
    visorbus_device::link_key(NAME)
}
