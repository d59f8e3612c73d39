//! What the tests of the example nodes share: the hub's end of a device's line, and the emulator with firmware in it.
//!
//! One scenario is written against [`Hub`] and runs on a node of this machine ([`run_with_resets`]) as on the real firmware
//! ([`Emulator`]). What goes wrong here is a test that fails: everything panics.

mod emulator;
mod line;
mod node;

pub use emulator::{Emulator, build_firmware};
pub use line::{Hub, Wire};
pub use node::{Host, run_with_resets};
