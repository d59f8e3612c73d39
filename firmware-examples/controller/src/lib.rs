//! The hand controller of the examples: buttons, a stick, a motor that shakes, a lamp, a battery, and the node that
//! tells of them.
//!
//! The crate is `no_std` and knows no board, so that the firmware and a process on the host run the very same node: a
//! board says who it is and what time it is, drives motor and lamp ([`ControllerBoard`]), and lends its UART.
//!
//! ```no_run
//! use visorbus_controller::{Board, ControllerBoard, ControllerNode, device_key, leaf};
//! use visorbus_core::{Instant, serve::serve};
//!
//! struct Host {
//!     started: std::time::Instant,
//!     led: bool,
//! }
//!
//! impl Board for Host {
//!     const NAME: &'static str = "host";
//!     fn now_us(&self) -> u64 {
//!         self.started.elapsed().as_micros() as u64
//!     }
//! }
//!
//! impl ControllerBoard for Host {
//!     fn set_led(&mut self, on: bool) {
//!         self.led = on;
//!     }
//!     fn is_led_lit(&self) -> bool {
//!         self.led
//!     }
//! }
//!
//! # fn run<U>(uart: U, boot_id: u64) -> Result<core::convert::Infallible, visorbus_hal::SerialError>
//! # where U: embedded_io::Read + embedded_io::Write + embedded_io::ReadReady + embedded_io::WriteReady {
//! let started = std::time::Instant::now();
//! let mut node = ControllerNode::new(Host { started, led: false }, boot_id);
//! let mut peer = leaf(uart, boot_id, device_key());
//! serve(&mut peer, &mut node, |_due| {
//!     // Sleep here until then, or until the UART has something to read or room to write.
//!     Instant::from_micros(started.elapsed().as_micros() as u64)
//! })
//! # }
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod battery;
pub mod hand;
mod haptics;
mod leaf;
pub mod messages;
mod node;

pub use leaf::{Leaf, leaf, session_config};
pub use messages::NAME;
pub use node::{ControllerBoard, ControllerNode};
pub use visorbus_device::{Board, DEVELOPMENT_ROOT_KEY, KEY_ID, Line, MAX_FRAME, USES_DEVELOPMENT_KEY, line};

/// The key that this device shares with its hub; see [`visorbus_device::device_key`].
pub fn device_key() -> visorbus_core::auth::Key {
    visorbus_device::device_key(NAME)
}
