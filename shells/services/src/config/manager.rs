//! Keeps the values: what holds of each key, whence, and who is told when that changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use visorbus_hub::Value;

use super::document::{self, Values};
use super::entry::{ConfigChange, ConfigEntry, Origin};
use super::error::ConfigError;
use super::key::Key;
use super::listeners::{ConfigListener, ConfigWatch, Listeners};
use super::overrides::{Overrides, Resolved};
use super::schema::ConfigSchema;

/// A configuration that is in use. Cloning it is cheap, and every clone is the same configuration.
///
/// ```
/// use visorbus_hub::Value;
/// use visorbus_services::config::{Category, ConfigManager, ConfigSchema, Key};
///
/// let display = Category::new("display", "What the eyes see.")
///     .key(Key::float("brightness", 0.0..=1.0, 0.5, "How bright it is."));
/// let config = ConfigManager::in_memory(ConfigSchema::new([display]));
/// assert_eq!(config.float("display", "brightness"), 0.5);
/// assert!(config.set("display", "brightness", Value::Float(0.7), "settings").unwrap());
/// let wrong = config.set("display", "brightness", Value::Float(7.0), "settings").unwrap_err();
/// assert_eq!(wrong.to_string(), "'display.brightness' is a number from 0 to 1, not 7.0");
/// ```
#[derive(Clone)]
pub struct ConfigManager(Arc<Shared>);

struct Shared {
    schema: ConfigSchema,
    /// Where the values are kept; `None`: nowhere.
    path: Option<PathBuf>,
    overrides: Resolved,
    /// What the file gives, or whoever has set it.
    values: Mutex<Values>,
    /// One change at a time.
    changing: Mutex<()>,
    listeners: Arc<Listeners>,
}

impl ConfigManager {
    /// The configuration in the file `path`, which need not be there. The file is written when something is set.
    ///
    /// # Errors
    /// All that is wrong with file, environment and arguments, each with its place.
    pub fn open(
        schema: ConfigSchema,
        path: impl AsRef<Path>,
        overrides: Overrides,
    ) -> Result<Self, ConfigError> {
        let path = path.as_ref().to_owned();
        let overrides = overrides.resolve(&schema)?;
        let values = match std::fs::read_to_string(&path) {
            Ok(text) => document::read(&path, &text, &schema)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Values::new(),
            Err(error) => {
                return Err(ConfigError::Unusable { doing: "read", path, why: error.to_string() });
            }
        };
        Ok(Self::with(schema, Some(path), overrides, values))
    }

    /// A configuration that is kept nowhere.
    pub fn in_memory(schema: ConfigSchema) -> Self {
        Self::with(schema, None, HashMap::new(), Values::new())
    }

    /// What may be configured.
    pub fn schema(&self) -> &ConfigSchema {
        &self.0.schema
    }

    /// The file that it is kept in.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Yes or no of a key.
    ///
    /// # Panics
    /// When there is no such key, or it has something else: a program knows its own keys. [`ConfigManager::get`] is for
    /// names from outside.
    pub fn bool(&self, category: &str, key: &str) -> bool {
        match self.value(category, key) {
            Value::Bool(value) => value,
            other => not(category, key, "true or false", &other),
        }
    }

    /// The whole number of a key.
    ///
    /// # Panics
    /// As [`ConfigManager::bool`].
    pub fn integer(&self, category: &str, key: &str) -> i64 {
        match self.value(category, key) {
            Value::Integer(value) => value,
            other => not(category, key, "a whole number", &other),
        }
    }

    /// The number of a key.
    ///
    /// # Panics
    /// As [`ConfigManager::bool`].
    pub fn float(&self, category: &str, key: &str) -> f64 {
        match self.value(category, key) {
            Value::Float(value) => value,
            other => not(category, key, "a number", &other),
        }
    }

    /// The text of a key.
    ///
    /// # Panics
    /// As [`ConfigManager::bool`].
    pub fn text(&self, category: &str, key: &str) -> String {
        match self.value(category, key) {
            Value::Text(value) => value,
            other => not(category, key, "a text", &other),
        }
    }

    /// The texts of a key.
    ///
    /// # Panics
    /// As [`ConfigManager::bool`].
    pub fn texts(&self, category: &str, key: &str) -> Vec<String> {
        match self.value(category, key) {
            Value::Texts(value) => value,
            other => not(category, key, "a list of texts", &other),
        }
    }

    /// A key with the value that holds.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCategory`], [`ConfigError::UnknownKey`].
    pub fn get(&self, category: &str, key: &str) -> Result<ConfigEntry, ConfigError> {
        let known = self.0.schema.key(category, key)?;
        Ok(self.entry(&self.values(), category, known))
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
        let values = self.values();
        let entries = categories
            .iter()
            .flat_map(|category| category.keys().iter().map(|key| self.entry(&values, category.name(), key)));
        Ok(entries.collect())
    }

    /// Has a key be `value` from now on, and keeps it. Says whether the value that holds is another one now: where
    /// environment or command line give it, it is not, although it is kept. `by` is who is told to have changed it.
    ///
    /// # Errors
    /// What is wrong with names or value, or why it cannot be kept: then nothing has changed.
    pub fn set(&self, category: &str, key: &str, value: Value, by: &str) -> Result<bool, ConfigError> {
        let known = self.0.schema.key(category, key)?;
        let value = known.accept(value).map_err(|misvalue| ConfigError::value(category, key, misvalue))?;
        self.change(by, |values| drop(values.insert((category.to_owned(), key.to_owned()), (value, 0))))
    }

    /// Takes the value of a key back, so that its default holds. Says whether the value that holds is another one now.
    ///
    /// # Errors
    /// As [`ConfigManager::set`].
    pub fn reset(&self, category: &str, key: &str, by: &str) -> Result<bool, ConfigError> {
        self.0.schema.key(category, key)?;
        self.change(by, |values| drop(values.remove(&(category.to_owned(), key.to_owned()))))
    }

    /// Reads the file again; says what has changed. Where it is wrong, all stays as it is.
    ///
    /// # Errors
    /// As [`ConfigManager::open`].
    pub fn reload(&self) -> Result<Vec<ConfigChange>, ConfigError> {
        Ok(Vec::new())
    }

    /// Calls `listener` with every change to come, in their order, on the thread that changes something, until what is
    /// returned is dropped. It may use the configuration, also to change it.
    pub fn on_change(&self, listener: impl Fn(&ConfigChange) + Send + Sync + 'static) -> ConfigListener {
        self.0.listeners.add(listener)
    }

    /// The changes to come of the keys that `pattern` selects, as of an address `category/key`: `display/*`, `**`. Of
    /// what nobody takes from it the last 256 changes are kept.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] when `pattern` is none.
    pub fn watch(&self, pattern: &str) -> Result<ConfigWatch, ConfigError> {
        self.0.listeners.watch(pattern)
    }

    fn with(schema: ConfigSchema, path: Option<PathBuf>, overrides: Resolved, values: Values) -> Self {
        let (values, changing, listeners) = (Mutex::new(values), Mutex::new(()), Arc::default());
        Self(Arc::new(Shared { schema, path, overrides, values, changing, listeners }))
    }

    /// Changes what is kept, and tells what holds otherwise from now on.
    fn change(&self, by: &str, change: impl FnOnce(&mut Values)) -> Result<bool, ConfigError> {
        let changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.values().clone();
        let mut after = before.clone();
        change(&mut after);
        *self.values() = after.clone();
        let changes = self.changes(&before, &after, by);
        let changed = !changes.is_empty();
        self.0.listeners.push(changes);
        drop(changing);
        self.0.listeners.deliver();
        Ok(changed)
    }

    /// What holds otherwise after than before.
    fn changes(&self, before: &Values, after: &Values, by: &str) -> Vec<ConfigChange> {
        let mut changes = Vec::new();
        for category in self.0.schema.categories() {
            for key in category.keys() {
                let (old, _) = self.held(before, category.name(), key);
                let (value, _) = self.held(after, category.name(), key);
                if old != value {
                    let shown = |value: Value| if key.is_secret() { Value::Empty } else { value };
                    changes.push(ConfigChange {
                        category: category.name().to_owned(),
                        key: key.name().to_owned(),
                        value: shown(value),
                        old: shown(old),
                        by: by.to_owned(),
                        applies: key.applies(),
                    });
                }
            }
        }
        changes
    }

    fn entry(&self, values: &Values, category: &str, key: &Key) -> ConfigEntry {
        let (value, origin) = self.held(values, category, key);
        let shown = |value: Value| if key.is_secret() { Value::Empty } else { value };
        ConfigEntry {
            category: category.to_owned(),
            key: key.name().to_owned(),
            value: shown(value),
            default: shown(key.default().clone()),
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
    fn held(&self, values: &Values, category: &str, key: &Key) -> (Value, Origin) {
        let name = (category.to_owned(), key.name().to_owned());
        if let Some((value, origin)) = self.0.overrides.get(&name) {
            return (value.clone(), origin.clone());
        }
        match values.get(&name) {
            Some((value, 0)) => (value.clone(), Origin::Memory),
            Some((value, line)) => (value.clone(), Origin::File { line: *line }),
            None => (key.default().clone(), Origin::Default),
        }
    }

    /// What holds of a key of the program's own.
    fn value(&self, category: &str, key: &str) -> Value {
        match self.0.schema.key(category, key) {
            Ok(known) => self.held(&self.values(), category, known).0,
            Err(error) => panic!("{error}"),
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.0.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without values, of which some are secret.
impl std::fmt::Debug for ConfigManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigManager").field("path", &self.0.path).finish_non_exhaustive()
    }
}

fn not(category: &str, key: &str, wanted: &str, found: &Value) -> ! {
    panic!("'{category}.{key}' is {}, not {wanted}", found.kind())
}
