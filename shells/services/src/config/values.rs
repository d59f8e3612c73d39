//! What holds at one moment: the values of all keys together, so that what belongs together is read together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use visorbus_hub::Value;

use super::entry::{ConfigChange, ConfigEntry, Origin};
use super::error::ConfigError;
use super::key::Key;
use super::overrides::Resolved;
use super::schema::ConfigSchema;

/// The values that hold at one moment. Cloning it is cheap.
#[derive(Clone)]
pub struct ConfigValues(Arc<Held>);

struct Held {
    schema: ConfigSchema,
    /// What holds whatever is kept.
    overrides: Arc<Resolved>,
    /// What the file gives, or whoever has set it.
    kept: Kept,
}

impl ConfigValues {
    pub(crate) fn new(schema: ConfigSchema, overrides: Arc<Resolved>, kept: Kept) -> Self {
        Self(Arc::new(Held { schema, overrides, kept }))
    }

    /// The same with other values kept.
    pub(crate) fn with(&self, kept: Kept) -> Self {
        Self::new(self.0.schema.clone(), Arc::clone(&self.0.overrides), kept)
    }

    /// What may be configured.
    pub fn schema(&self) -> &ConfigSchema {
        &self.0.schema
    }

    /// Yes or no of a key.
    ///
    /// # Panics
    /// When there is no such key, or it has something else: a program knows its own keys. [`ConfigValues::get`] is for
    /// names from outside.
    pub fn bool(&self, category: &str, key: &str) -> bool {
        match self.value(category, key) {
            Value::Bool(value) => *value,
            other => not(category, key, "true or false", other),
        }
    }

    /// The whole number of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn integer(&self, category: &str, key: &str) -> i64 {
        match self.value(category, key) {
            Value::Integer(value) => *value,
            other => not(category, key, "a whole number", other),
        }
    }

    /// The number of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn float(&self, category: &str, key: &str) -> f64 {
        match self.value(category, key) {
            Value::Float(value) => *value,
            other => not(category, key, "a number", other),
        }
    }

    /// The text of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn text(&self, category: &str, key: &str) -> String {
        match self.value(category, key) {
            Value::Text(value) => value.clone(),
            other => not(category, key, "a text", other),
        }
    }

    /// The texts of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn texts(&self, category: &str, key: &str) -> Vec<String> {
        match self.value(category, key) {
            Value::Texts(value) => value.clone(),
            other => not(category, key, "a list of texts", other),
        }
    }

    /// A key with the value that holds.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCategory`], [`ConfigError::UnknownKey`].
    pub fn get(&self, category: &str, key: &str) -> Result<ConfigEntry, ConfigError> {
        Ok(self.entry(category, self.0.schema.key(category, key)?))
    }

    /// All keys, or those of one category, in the schema's order.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCategory`].
    pub fn list(&self, category: Option<&str>) -> Result<Vec<ConfigEntry>, ConfigError> {
        let categories = match category {
            Some(name) => std::slice::from_ref(self.0.schema.category(name)?),
            None => self.0.schema.categories(),
        };
        let entries = categories
            .iter()
            .flat_map(|category| category.keys().iter().map(|key| self.entry(category.name(), key)));
        Ok(entries.collect())
    }

    /// What is wrong with them together, by the schema's own check, at its place in the file `path` where it is there.
    pub(crate) fn check(&self, path: Option<&Path>) -> Result<(), ConfigError> {
        self.0.schema.check_across(self).map_err(|error| {
            let ConfigError::Conflict { category, key, .. } = &error else { return error };
            match (path, self.get(category, key).map(|entry| entry.origin)) {
                (Some(path), Ok(Origin::File { line })) => ConfigError::At {
                    path: path.to_owned(),
                    line: line as usize,
                    column: 1,
                    error: Box::new(error),
                },
                _ => error,
            }
        })
    }

    /// What the file gives, or whoever has set it.
    pub(crate) fn kept(&self) -> &Kept {
        &self.0.kept
    }

    /// What holds otherwise in `after`. A key that was not there has had its default; one that is there no more says nothing.
    pub(crate) fn changes(&self, after: &Self, by: impl Fn(&str, &str) -> String) -> Vec<ConfigChange> {
        let mut changes = Vec::new();
        for category in after.0.schema.categories() {
            for key in category.keys() {
                let before = self.0.schema.key(category.name(), key.name()).ok();
                let old = before.map_or(key.default(), |before| self.held(category.name(), before).0);
                let value = after.held(category.name(), key).0;
                if old != value {
                    let secret = key.is_secret() || before.is_some_and(Key::is_secret);
                    let shown = |value: &Value| if secret { Value::Empty } else { value.clone() };
                    changes.push(ConfigChange {
                        category: category.name().to_owned(),
                        key: key.name().to_owned(),
                        value: shown(value),
                        old: shown(old),
                        by: by(category.name(), key.name()),
                        applies: key.applies(),
                    });
                }
            }
        }
        changes
    }

    fn entry(&self, category: &str, key: &Key) -> ConfigEntry {
        let (value, origin) = self.held(category, key);
        let shown = |value: &Value| if key.is_secret() { Value::Empty } else { value.clone() };
        ConfigEntry {
            category: category.to_owned(),
            key: key.name().to_owned(),
            value: shown(value),
            default: shown(key.default()),
            origin,
            expected: key.expected(),
            unit: key.unit_name().to_owned(),
            description: key.description().to_owned(),
            applies: key.applies(),
            only_in_file: key.is_only_in_file(),
            secret: key.is_secret(),
        }
    }

    /// What holds of a key, and whence.
    fn held<'v>(&'v self, category: &str, key: &'v Key) -> (&'v Value, Origin) {
        let name = (category.to_owned(), key.name().to_owned());
        if let Some((value, origin)) = self.0.overrides.get(&name) {
            return (value, origin.clone());
        }
        match self.0.kept.get(&name) {
            Some(kept) => (&kept.value, kept.line.map_or(Origin::Memory, |line| Origin::File { line })),
            None => (key.default(), Origin::Default),
        }
    }

    /// What holds of a key of the program's own.
    fn value(&self, category: &str, key: &str) -> &Value {
        match self.0.schema.key(category, key) {
            Ok(known) => self.held(category, known).0,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Without values, of which some are secret.
impl std::fmt::Debug for ConfigValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfigValues")
    }
}

/// One value that is kept.
#[derive(Clone, PartialEq)]
pub(crate) struct KeptValue {
    pub(crate) value: Value,
    /// Where it stands in the file, from 1; `None` where there is no file.
    pub(crate) line: Option<u32>,
}

/// What is kept, by category and key.
pub(crate) type Kept = HashMap<(String, String), KeptValue>;

fn not(category: &str, key: &str, wanted: &str, found: &Value) -> ! {
    panic!("'{category}.{key}' is {}, not {wanted}", found.kind())
}
