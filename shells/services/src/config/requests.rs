//! What is asked of the component `config`, and what it answers: owned types, the same in postcard, JSON and TOML.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_hub::Value;

use super::document::written;
use super::entry::{ConfigEntry, Origin};
use super::key::Applies;
use super::overrides::split;
use crate::answer::{Asked, Told};

/// Names a key. As a text: `category.key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ConfigKey {
    /// The category.
    pub category: String,
    /// The key in it.
    pub key: String,
}

/// Says what a key is to be. As a text: `category.key = value`, where the value is as the command line takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct ConfigSet {
    /// The category.
    pub category: String,
    /// The key in it.
    pub key: String,
    /// Its value from now on.
    pub value: Value,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ConfigOutcome {
    /// Whether the value that holds is another one now.
    pub changed: bool,
    /// What else is to be known, for people: that another value holds above it, that it has its effect later; empty for
    /// nothing.
    pub note: String,
}

/// A category and what may be configured in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct CategoryInfo {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its keys, in their order.
    pub keys: Vec<KeyInfo>,
}

/// A key and what its value may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct KeyInfo {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What a value may be, for people: `a whole number from 1 to 64`.
    pub expected: String,
    /// The texts that it may be, where it is one of several.
    pub choices: Vec<String>,
    /// The unit of the value; empty for none.
    pub unit: String,
    /// The value where nobody gives one; `Empty` of a secret.
    pub default: Value,
    /// When a changed value has its effect.
    pub applies: Applies,
    /// Whether nobody may change it over a bus.
    pub only_in_file: bool,
    /// Whether the value is not shown.
    pub secret: bool,
}

impl ConfigOutcome {
    /// What is to be told of a change of the key that is now `entry`.
    pub fn of(entry: &ConfigEntry, changed: bool) -> Self {
        let note = match &entry.origin {
            Origin::Environment { variable } => format!("it is kept, and {variable} holds above it"),
            Origin::CommandLine => "it is kept, and the command line holds above it".to_owned(),
            _ if changed && entry.applies == Applies::AtRestart => {
                "it has its effect when the hub starts again".to_owned()
            }
            _ => String::new(),
        };
        Self { changed, note }
    }

    /// What a component answers to a request in text: `changed`, `not changed: why`.
    pub fn from_text(text: &str) -> Self {
        let (changed, note) = text.split_once(": ").unwrap_or((text, ""));
        Self { changed: changed == CHANGED, note: note.to_owned() }
    }
}

impl Asked for ConfigKey {
    fn from_text(text: &str) -> Result<Self, String> {
        let (category, key) = split(text.trim()).map_err(|error| error.to_string())?;
        Ok(Self { category, key })
    }
}

impl Asked for ConfigSet {
    fn from_text(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected category.key = value")?;
        let ConfigKey { category, key } = ConfigKey::from_text(name)?;
        Ok(Self { category, key, value: Value::from_text(value.trim())? })
    }
}

/// A text alone: what it stands for depends on the key.
impl Asked for Value {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self::Text(text.to_owned()))
    }
}

/// A name, or all of them.
impl Asked for Option<String> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty()))
    }

    fn from_nothing() -> Option<Self> {
        Some(None)
    }
}

/// `display.brightness = 0.5`, as the file has it.
impl Told for ConfigEntry {
    fn to_text(&self) -> String {
        let value = if self.secret { "(secret)".to_owned() } else { written(&self.value) };
        format!("{}.{} = {value}", self.category, self.key)
    }
}

impl Told for ConfigOutcome {
    fn to_text(&self) -> String {
        let changed = if self.changed { CHANGED } else { "not changed" };
        if self.note.is_empty() { changed.to_owned() } else { format!("{changed}: {}", self.note) }
    }
}

impl Told for CategoryInfo {
    fn to_text(&self) -> String {
        let key =
            |key: &KeyInfo| format!("{}.{}: {} ({})", self.name, key.name, key.description, key.expected);
        self.keys.iter().map(key).collect::<Vec<_>>().join("\n")
    }
}

const CHANGED: &str = "changed";
