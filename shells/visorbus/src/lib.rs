//! A hub with everything on it: every transport, the boards' links, and the standard services, from one configuration.
//!
//! - [`IpcManager`] starts all of it on one hub, keeps it as the configuration says, and ends it. It routes nothing.
//! - [`settings`] are the options: [`settings::schema`] declares them, [`Settings`] has them with their types.
//! - [`Log`] is what a program writes of what happens, as the settings say.
//! - [`places`] is where a hub's files are when nobody says.
//! - [`systemd`] is what a program that systemd starts is given, and tells.
#![forbid(unsafe_code)]

mod boards;
mod log;
mod manager;
pub mod places;
pub mod settings;
pub mod systemd;

pub use boards::StoredBoardKeys;
pub use log::{Log, Severity, say};
pub use manager::{
    GetStatus, IpcManager, ManagerControl, ManagerEvent, ManagerStatus, PartStatus, Refused, Reload,
    Reloaded, Shutdown,
};
pub use settings::Settings;
