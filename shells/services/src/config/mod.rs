//! The configuration: categories of typed keys, kept in one file.
//!
//! - [`ConfigSchema`] says what may be configured: [`Category`]s of [`Key`]s.
//! - [`ConfigManager`] keeps the values: default, file, environment and command line, each above the one before.
//! - [`ConfigMessageHandler`] makes it the component `config` of a hub, [`PermittedConfig`] is what one caller may do.
//! - [`ConfigEntry`], [`ConfigChange`] and [`ConfigEvent`] are what is told of them.

mod schema;

mod declare;
mod key;
pub(crate) mod nearest;

mod manager;
mod values;

mod document;
mod file;
mod overrides;
mod template;
mod watch;

mod handler;
mod permitted;

mod entry;
mod error;
mod exchange;
mod requests;

pub use entry::{ConfigChange, ConfigEntry, ConfigEvent, Origin};
pub use error::ConfigError;
pub use exchange::Format;
pub use file::write_new;
pub use handler::ConfigMessageHandler;
pub use key::{Applies, Check, Key, Kind};
pub use manager::ConfigManager;
pub use overrides::{Overrides, UnknownVariable, variable};
pub use permitted::PermittedConfig;
pub use requests::{CategoryInfo, ConfigKey, ConfigOutcome, ConfigSet, KeyInfo};
pub use schema::{Across, Category, ConfigSchema};
pub use template::init_text;
pub use values::ConfigValues;
pub use watch::ConfigWatch;
