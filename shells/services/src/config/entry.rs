//! What is told of a key and of its changes: owned types, the same in postcard, JSON and TOML.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_hub::Value;

use super::key::Applies;
use super::schema::ConfigSchema;

/// One key with the value that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct ConfigEntry {
    /// The category.
    pub category: String,
    /// The key in it.
    pub key: String,
    /// The value that holds; `Empty` of a secret.
    pub value: Value,
    /// The value where nobody gives one; `Empty` of a secret.
    pub default: Value,
    /// Who gave it.
    pub origin: Origin,
    /// What a value may be, for people: `a whole number from 1 to 64`.
    pub expected: String,
    /// The unit of the value; empty for none.
    pub unit: String,
    /// What it is for.
    pub description: String,
    /// When a changed value has its effect.
    pub applies: Applies,
    /// Whether nobody may change it over a bus.
    pub only_in_file: bool,
    /// Whether the value is not shown.
    pub secret: bool,
}

/// Who gave a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum Origin {
    /// Nobody: it is the default.
    Default,
    /// The file.
    File {
        /// In this line, from 1.
        line: u32,
    },
    /// The environment.
    Environment {
        /// In this variable.
        variable: String,
    },
    /// The command line.
    CommandLine,
    /// Whoever set it in a configuration that has no file.
    Memory,
}

impl Origin {
    /// Whether it holds whatever the file says.
    pub const fn is_override(&self) -> bool {
        matches!(self, Self::Environment { .. } | Self::CommandLine)
    }
}

/// For people: `line 3 of the file`.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "line {line} of the file"),
            Self::Environment { variable } => f.write_str(variable),
            Self::CommandLine => f.write_str("command line"),
            Self::Memory => f.write_str("set while running"),
        }
    }
}

/// What happens to a configuration.
#[derive(Debug, Clone)]
pub enum ConfigEvent {
    /// Other categories or keys are [declared](ConfigSchema::declared_in) from now on: these are all.
    Declared(ConfigSchema),
    /// Another value holds.
    Changed(ConfigChange),
}

/// A value that holds from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct ConfigChange {
    /// The category.
    pub category: String,
    /// The key in it.
    pub key: String,
    /// The value from now on; `Empty` of a secret.
    pub value: Value,
    /// The value before; `Empty` of a secret.
    pub old: Value,
    /// Who changed it: a peer's name, `file` where somebody has edited that.
    pub by: String,
    /// When that has its effect.
    pub applies: Applies,
}
