//! A hub with everything on it: every transport, the boards' links, and the standard services, from one configuration.
//!
//! - [`IpcManager`] starts all of it on one hub, keeps it as the configuration says, and ends it. It routes nothing.
//! - [`Settings`] are the options with their types and what must be so between them.
//! - [`places`] is where a hub's files are when nobody says.
#![forbid(unsafe_code)]

mod boards;
mod manager;
pub mod places;
pub mod settings;
pub mod systemd;

pub use boards::StoredBoardKeys;
pub use manager::IpcManager;
pub use settings::Settings;
