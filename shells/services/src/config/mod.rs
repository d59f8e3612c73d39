//! The configuration: categories of typed keys, kept in one file.
//!
//! - [`ConfigSchema`] says what may be configured: [`Category`]s of [`Key`]s.
//! - [`ConfigManager`] keeps the values: default, file, environment and command line, each above the one before.
//! - [`ConfigEntry`] and [`ConfigChange`] are what is told of them.

mod schema;

mod declare;
mod key;
pub(crate) mod nearest;

mod manager;
mod values;

mod document;
mod file;
mod listeners;
mod overrides;
mod template;

mod entry;
mod error;

pub use entry::{ConfigChange, ConfigEntry, Origin};
pub use error::ConfigError;
pub use key::{Applies, Check, Key, Kind};
pub use listeners::{ConfigListener, ConfigWatch};
pub use manager::ConfigManager;
pub use overrides::{Overrides, variable};
pub use schema::{Across, Category, ConfigSchema};
pub use template::init_text;
pub use values::ConfigValues;
