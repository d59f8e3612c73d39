//! Many values at once, as a document that somebody keeps, sends or compares: TOML as the file has it, or JSON.

use visorbus_hub::Value;

use super::document::{value, written};
use super::entry::ConfigEntry;
use super::error::ConfigError;

/// How a document of values is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables with keys, as in the file.
    Toml,
    /// An object of objects.
    Json,
}

impl Format {
    /// The format called `name`: `toml` or `json`.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] for any other name.
    pub fn named(name: &str) -> Result<Self, ConfigError> {
        match name {
            "toml" => Ok(Self::Toml),
            "json" => Ok(Self::Json),
            _ => Err(ConfigError::Malformed {
                what: "a configuration is exported as 'toml' or 'json'".to_owned(),
            }),
        }
    }

    /// The document of these entries, without the secrets.
    pub fn write(self, entries: &[ConfigEntry]) -> String {
        let shown: Vec<&ConfigEntry> = entries.iter().filter(|entry| !entry.secret).collect();
        let categories = shown.chunk_by(|one, other| one.category == other.category);
        match self {
            Self::Toml => categories.map(table).collect::<Vec<_>>().join("\n"),
            Self::Json => {
                let object = |entries: &[&ConfigEntry]| {
                    let fields = entries.iter().map(|entry| (entry.key.clone(), json(&entry.value)));
                    (entries[0].category.clone(), serde_json::Value::Object(fields.collect()))
                };
                serde_json::Value::Object(categories.map(object).collect()).to_string()
            }
        }
    }

    /// The values of a document.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] when it is none.
    pub fn read(self, text: &str) -> Result<Vec<(String, String, Value)>, ConfigError> {
        let malformed = |what: String| ConfigError::Malformed { what };
        let no_category = |name: &str| malformed(format!("'{name}' is no category with keys"));
        match self {
            Self::Toml => {
                let document = toml_edit::Document::parse(text)
                    .map_err(|error| malformed(format!("this is no TOML: {}", error.message())))?;
                let tables = document.iter().map(|(name, item)| {
                    let table = item.as_table_like().ok_or_else(|| no_category(name))?;
                    Ok(table
                        .iter()
                        .map(|(key, item)| (name.to_owned(), key.to_owned(), value(item)))
                        .collect())
                });
                tables.collect::<Result<Vec<Vec<_>>, _>>().map(|tables| tables.concat())
            }
            Self::Json => {
                let document: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
                    .map_err(|error| malformed(format!("this is no JSON object: line {}", error.line())))?;
                let tables = document.into_iter().map(|(name, table)| match table {
                    serde_json::Value::Object(keys) => {
                        Ok(keys.into_iter().map(|(key, json)| (name.clone(), key, json.into())).collect())
                    }
                    _ => Err(no_category(&name)),
                });
                tables.collect::<Result<Vec<Vec<_>>, _>>().map(|tables| tables.concat())
            }
        }
    }
}

/// A category as the file has it.
fn table(entries: &[&ConfigEntry]) -> String {
    let lines = entries.iter().map(|entry| format!("{} = {}\n", entry.key, written(&entry.value)));
    format!("[{}]\n{}", entries[0].category, lines.collect::<String>())
}

fn json(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
