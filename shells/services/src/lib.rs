//! What a headset's programs ask a hub for: its configuration, its hardware, and how it is doing.
//!
//! Each of the three is a manager that knows the thing itself and a message handler that makes it a component of the hub;
//! the interfaces on D-Bus and the command line stand over the same managers. No transport is inside, and no file's place
//! is known here: who makes a manager says where its files are.
//!
//! - [`config::ConfigManager`] keeps typed values, in a file that people edit too.
//! - [`hardware::HardwareManager`] knows the boards and the machine's devices, and passes commands to them.
//! - [`monitoring::MonitoringManager`] measures, keeps what it measured, and warns.
#![forbid(unsafe_code)]

pub mod config;
pub mod hardware;
pub mod monitoring;

mod answer;
mod listeners;

pub use listeners::Listening;
