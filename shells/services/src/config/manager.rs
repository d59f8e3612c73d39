//! Keeps the values: what holds of each key, whence, and who is told when that changes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use visorbus_hub::Value;

use super::document;
use super::entry::{ConfigChange, ConfigEntry, ConfigEvent};
use super::error::ConfigError;
use super::file::ConfigFile;
use super::overrides::{Overrides, UnknownVariable};
use super::schema::ConfigSchema;
use super::values::{ConfigValues, Kept, KeptValue};
use super::watch::ConfigWatch;
use crate::listeners::{Listeners, Listening};

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
    /// Where the values are kept; `None`: nowhere.
    file: Option<ConfigFile>,
    /// What may be configured whatever is declared in files.
    own: ConfigSchema,
    overrides: Overrides,
    values: Mutex<ConfigValues>,
    /// One change at a time.
    changing: Mutex<()>,
    listeners: Arc<Listeners<ConfigEvent>>,
}

impl ConfigManager {
    /// The configuration in the file `path`, which need not be there: it is written when something is set. What the
    /// schema says to be [declared in](ConfigSchema::declared_in) other files is read first.
    ///
    /// # Errors
    /// All that is wrong with file, environment and arguments, each with its place.
    pub fn open(
        schema: ConfigSchema,
        path: impl AsRef<Path>,
        overrides: Overrides,
    ) -> Result<Self, ConfigError> {
        let file = ConfigFile::new(path.as_ref());
        let text = file.read()?;
        let values = read(&schema, &file, text.as_deref(), &overrides)?;
        Ok(Self::with(Some(file), schema, overrides, values))
    }

    /// A configuration that is kept nowhere.
    ///
    /// # Panics
    /// When the schema's own check refuses its defaults.
    pub fn in_memory(schema: ConfigSchema) -> Self {
        let values = ConfigValues::new(schema.clone(), Arc::new(HashMap::new()), Kept::new());
        if let Err(error) = values.check(None) {
            panic!("{error}");
        }
        Self::with(None, schema, Overrides::none(), values)
    }

    /// What may be configured at this moment.
    pub fn schema(&self) -> ConfigSchema {
        self.values().schema().clone()
    }

    /// The variables of the environment that begin as a key's does and are no key's and none of `known`, sorted: a key's
    /// variable that is misspelt changes nothing.
    pub fn unknown_variables<'k>(&self, known: impl IntoIterator<Item = &'k str>) -> Vec<UnknownVariable> {
        self.0.overrides.unknown(&self.schema(), known)
    }

    /// The file that it is kept in.
    pub fn path(&self) -> Option<&Path> {
        self.0.file.as_ref().map(ConfigFile::path)
    }

    /// All that holds at this moment, for what is read together.
    pub fn values(&self) -> ConfigValues {
        self.0.values.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Yes or no of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn bool(&self, category: &str, key: &str) -> bool {
        self.values().bool(category, key)
    }

    /// The whole number of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn integer(&self, category: &str, key: &str) -> i64 {
        self.values().integer(category, key)
    }

    /// The number of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn float(&self, category: &str, key: &str) -> f64 {
        self.values().float(category, key)
    }

    /// The text of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn text(&self, category: &str, key: &str) -> String {
        self.values().text(category, key)
    }

    /// The texts of a key.
    ///
    /// # Panics
    /// As [`ConfigValues::bool`].
    pub fn texts(&self, category: &str, key: &str) -> Vec<String> {
        self.values().texts(category, key)
    }

    /// A key with the value that holds.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCategory`], [`ConfigError::UnknownKey`].
    pub fn get(&self, category: &str, key: &str) -> Result<ConfigEntry, ConfigError> {
        self.values().get(category, key)
    }

    /// All keys, or those of one category, in the schema's order.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCategory`].
    pub fn list(&self, category: Option<&str>) -> Result<Vec<ConfigEntry>, ConfigError> {
        self.values().list(category)
    }

    /// The value that a text stands for, as the command line takes it: `true`, `0.5`, a text without quotation marks, a list
    /// with commas between or as JSON.
    ///
    /// # Errors
    /// What is wrong with names or text.
    pub fn parse(&self, category: &str, key: &str, text: &str) -> Result<Value, ConfigError> {
        let values = self.values();
        let parsed = values.schema().key(category, key)?.parse(text);
        parsed.map_err(|misvalue| ConfigError::value(category, key, misvalue))
    }

    /// Has a key be `value` from now on, and keeps it. Says whether the value that holds is another one now: where
    /// environment or command line give it, it is not, although it is kept. `by` is who is told to have changed it. What
    /// somebody else has changed in the file meanwhile holds from now on too.
    ///
    /// # Errors
    /// What is wrong with names, value or file, or why it cannot be kept: then nothing has changed.
    pub fn set(&self, category: &str, key: &str, value: Value, by: &str) -> Result<bool, ConfigError> {
        let changes = self.change(&[(category, key, Some(value))], by)?;
        Ok(changes.iter().any(|change| change.category == category && change.key == key))
    }

    /// Takes the value of a key back, so that its default holds. Says whether the value that holds is another one now.
    ///
    /// # Errors
    /// As [`ConfigManager::set`].
    pub fn reset(&self, category: &str, key: &str, by: &str) -> Result<bool, ConfigError> {
        let changes = self.change(&[(category, key, None)], by)?;
        Ok(changes.iter().any(|change| change.category == category && change.key == key))
    }

    /// Sets or, where there is no value, resets several keys: all of them or none. Says what holds otherwise now.
    ///
    /// # Errors
    /// As [`ConfigManager::set`], with all that is wrong.
    pub fn change(
        &self,
        keys: &[(&str, &str, Option<Value>)],
        by: &str,
    ) -> Result<Vec<ConfigChange>, ConfigError> {
        let accepted = self.accept(keys)?;
        let is_asked =
            |category: &str, key: &str| accepted.iter().any(|one| (one.0, one.1) == (category, key));
        let by = |category: &str, key: &str| if is_asked(category, key) { by } else { BY_FILE }.to_owned();
        self.exchange(by, |before| {
            let Some(file) = &self.0.file else { return self.changed_in_memory(before, &accepted) };
            let mut after = before.clone();
            let accepted: Vec<_> =
                accepted.iter().map(|(category, key, value)| (*category, *key, value.as_ref())).collect();
            file.replace(|text| {
                let edited = document::edit(file.path(), text, &accepted)?;
                after = self.read_again(file, &edited)?;
                Ok(edited)
            })?;
            Ok(after)
        })
    }

    /// Reads the file again, and the files that it says have further categories; says what holds otherwise now. Where
    /// something is wrong, all stays as it is.
    ///
    /// # Errors
    /// All that is wrong with the file, each with its place.
    pub fn reload(&self) -> Result<Vec<ConfigChange>, ConfigError> {
        let Some(file) = &self.0.file else { return Ok(Vec::new()) };
        self.exchange(|_, _| BY_FILE.to_owned(), |_| self.read_again(file, &file.read()?.unwrap_or_default()))
    }

    /// Calls `listener` with every change to come, in their order, on the thread that changes something, until what is
    /// returned is dropped. It may use the configuration, also to change it.
    pub fn on_change(&self, listener: impl Fn(&ConfigChange) + Send + Sync + 'static) -> Listening {
        self.on_event(move |event| {
            if let ConfigEvent::Changed(change) = event {
                listener(change);
            }
        })
    }

    /// As [`ConfigManager::on_change`], and when other categories or keys are declared: before their values are told of.
    pub fn on_event(&self, listener: impl Fn(&ConfigEvent) + Send + Sync + 'static) -> Listening {
        self.0.listeners.add(listener)
    }

    /// The changes to come of the keys that `pattern` selects, as of an address `category/key`: `display/*`, `**`. Of
    /// what nobody takes from it the newest 256 are kept.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] when `pattern` is none.
    pub fn watch(&self, pattern: &str) -> Result<ConfigWatch, ConfigError> {
        ConfigWatch::new(&self.0.listeners, pattern)
    }

    fn with(file: Option<ConfigFile>, own: ConfigSchema, overrides: Overrides, values: ConfigValues) -> Self {
        let (values, changing, listeners) = (Mutex::new(values), Mutex::new(()), Arc::default());
        Self(Arc::new(Shared { file, own, overrides, values, changing, listeners }))
    }

    /// What the file says with this text, and what is declared by that.
    fn read_again(&self, file: &ConfigFile, text: &str) -> Result<ConfigValues, ConfigError> {
        read(&self.0.own, file, Some(text), &self.0.overrides)
    }

    /// The values as their keys have them.
    fn accept<'k>(&self, keys: &[Wanted<'k>]) -> Result<Vec<Wanted<'k>>, ConfigError> {
        let (mut accepted, mut errors) = (Vec::new(), Vec::new());
        let values = self.values();
        for (category, key, value) in keys {
            let known = values.schema().key(category, key);
            let value = known.and_then(|known| {
                let accept = |value: &Value| known.accept(value.clone());
                let value = value.as_ref().map(accept).transpose();
                value.map_err(|misvalue| ConfigError::value(category, key, misvalue))
            });
            match value {
                Ok(value) => accepted.push((*category, *key, value)),
                Err(error) => errors.push(error),
            }
        }
        ConfigError::all(errors).map(|()| accepted)
    }

    fn changed_in_memory(
        &self,
        before: &ConfigValues,
        keys: &[(&str, &str, Option<Value>)],
    ) -> Result<ConfigValues, ConfigError> {
        let mut kept = before.kept().clone();
        for (category, key, value) in keys {
            let name = ((*category).to_owned(), (*key).to_owned());
            match value {
                Some(value) => drop(kept.insert(name, KeptValue { value: value.clone(), line: None })),
                None => drop(kept.remove(&name)),
            }
        }
        let after = before.with(kept);
        after.check(None).map(|()| after)
    }

    /// Puts other values in the place of those that hold, and tells of what is another one.
    fn exchange(
        &self,
        by: impl Fn(&str, &str) -> String,
        change: impl FnOnce(&ConfigValues) -> Result<ConfigValues, ConfigError>,
    ) -> Result<Vec<ConfigChange>, ConfigError> {
        let changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.values();
        let after = change(&before)?;
        let changes = before.changes(&after, by);
        let is_same = before.schema().declares_as(after.schema());
        let declared = (!is_same).then(|| ConfigEvent::Declared(after.schema().clone()));
        *self.0.values.lock().unwrap_or_else(PoisonError::into_inner) = after;
        self.0.listeners.push(declared.into_iter().chain(changes.iter().cloned().map(ConfigEvent::Changed)));
        drop(changing);
        self.0.listeners.deliver();
        Ok(changes)
    }
}

/// Without values, of which some are secret.
impl std::fmt::Debug for ConfigManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigManager").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// A category, a key in it, and what that is to be; without a value its default.
type Wanted<'k> = (&'k str, &'k str, Option<Value>);

/// What a configuration with this text says, under what it declares itself.
fn read(
    own: &ConfigSchema,
    file: &ConfigFile,
    text: Option<&str>,
    overrides: &Overrides,
) -> Result<ConfigValues, ConfigError> {
    let schema = declared(own.clone(), file, text, overrides)?;
    let kept = text.map_or_else(|| Ok(Kept::new()), |text| document::read(file.path(), text, &schema))?;
    let overrides = Arc::new(overrides.resolve(&schema)?);
    let values = ConfigValues::new(schema, overrides, kept);
    values.check(Some(file.path()))?;
    Ok(values)
}

/// The schema with what is declared in the files that the configuration itself names.
fn declared(
    schema: ConfigSchema,
    file: &ConfigFile,
    text: Option<&str>,
    overrides: &Overrides,
) -> Result<ConfigSchema, ConfigError> {
    let Some((category, key)) = schema.declarations() else { return Ok(schema) };
    let known = schema.key(category, key)?;
    let from_file =
        text.map_or(Ok(None), |text| document::read_one(file.path(), text, &schema, (category, key)))?;
    let named = overrides.resolve_one(&schema, (category, key))?.or(from_file);
    let Value::Texts(names) = named.unwrap_or_else(|| known.default().clone()) else { return Ok(schema) };
    let beside = file.path().parent().unwrap_or(Path::new("."));
    names.iter().try_fold(schema.clone(), |schema, name| {
        let declarations = ConfigFile::new(&beside.join(name));
        let missing = || ConfigError::Unusable {
            doing: "read",
            path: declarations.path().to_owned(),
            why: format!("it is not there, and '{category}.{key}' names it"),
        };
        let text = declarations.read()?.ok_or_else(missing)?;
        schema.declare(&text, declarations.path())
    })
}

/// Who changed what somebody has changed in the file.
const BY_FILE: &str = "file";

#[cfg(test)]
mod tests;
