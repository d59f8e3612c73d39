//! The configuration as one caller may use it: what stands behind every way over a bus. Whoever may send a request to
//! `config/get/CATEGORY/KEY` may know that key, and to `config/set/CATEGORY/KEY` may change it, wherever it was asked.

use visorbus_core::ErrorKind;
use visorbus_core::auth::{Access, Operation};
use visorbus_core::dispatch::Caller;
use visorbus_core::message::Address;
use visorbus_hub::{Error, Value, error, owned_error};

use super::entry::ConfigEntry;
use super::error::ConfigError;
use super::exchange::Format;
use super::key::{Key, Kind, is_name};
use super::manager::ConfigManager;
use super::requests::{CategoryInfo, ConfigOutcome, KeyInfo};
use super::schema::Category;

/// What one caller may do with a configuration.
#[derive(Debug)]
pub struct PermittedConfig<'c> {
    config: &'c ConfigManager,
    caller: &'c Caller<'c>,
    /// Who others are told to have changed something.
    by: &'c str,
}

impl<'c> PermittedConfig<'c> {
    /// What `caller` may do with `config`; others are told that `by` did it.
    pub const fn new(config: &'c ConfigManager, caller: &'c Caller<'c>, by: &'c str) -> Self {
        Self { config, caller, by }
    }

    /// A key with the value that holds.
    ///
    /// # Errors
    /// `Authorization` or `Authentication` when the caller may not know it; `Message` when there is none.
    pub fn get(&self, category: &str, key: &str) -> Result<ConfigEntry, Error> {
        self.ask(GET, category, key)?;
        self.config.get(category, key).map_err(told)
    }

    /// Has a key be `value`.
    ///
    /// # Errors
    /// `Authorization` or `Authentication` when the caller may not change it, or nobody over a bus; `Message` when it
    /// cannot be that; `Internal` when it cannot be kept. Then nothing has changed.
    pub fn set(&self, category: &str, key: &str, value: Value) -> Result<ConfigOutcome, Error> {
        self.ask(SET, category, key)?;
        self.change(category, key, Some(value))
    }

    /// As [`PermittedConfig::set`], of a value as the command line takes it.
    ///
    /// # Errors
    /// As [`PermittedConfig::set`].
    pub fn set_text(&self, category: &str, key: &str, text: &str) -> Result<ConfigOutcome, Error> {
        self.ask(SET, category, key)?;
        let value = self.config.parse(category, key, text).map_err(told)?;
        self.change(category, key, Some(value))
    }

    /// Takes the value of a key back, so that its default holds.
    ///
    /// # Errors
    /// As [`PermittedConfig::set`]: asked for is the permission to set the key.
    pub fn reset(&self, category: &str, key: &str) -> Result<ConfigOutcome, Error> {
        self.ask(SET, category, key)?;
        self.change(category, key, None)
    }

    /// Those of all keys, or of one category's, that the caller may know.
    ///
    /// # Errors
    /// `Message` when there is no such category.
    pub fn list(&self, category: Option<&str>) -> Result<Vec<ConfigEntry>, Error> {
        let mut entries = self.config.list(category).map_err(told)?;
        entries.retain(|entry| self.might(GET, &entry.category, &entry.key));
        Ok(entries)
    }

    /// What may be configured, in all categories or in one, as far as the caller may know or change it.
    ///
    /// # Errors
    /// `Message` when there is no such category.
    pub fn describe(&self, category: Option<&str>) -> Result<Vec<CategoryInfo>, Error> {
        let schema = self.config.schema();
        let categories = match category {
            Some(name) => std::slice::from_ref(schema.category(name).map_err(told)?),
            None => schema.categories(),
        };
        let infos = categories.iter().map(|category| self.describe_category(category));
        Ok(infos.filter(|info| !info.keys.is_empty()).collect())
    }

    /// All values that the caller may know, as a document; no secrets.
    pub fn export(&self, format: Format) -> String {
        format.write(&self.list(None).unwrap_or_default())
    }

    /// Sets all keys of a document: all of them or none. What it says of keys that are so already needs no permission.
    ///
    /// # Errors
    /// As [`PermittedConfig::set`].
    pub fn import(&self, format: Format, document: &str) -> Result<ConfigOutcome, Error> {
        let values = self.config.values();
        let mut keys = Vec::new();
        let document = format.read(document).map_err(told)?;
        for (category, key, value) in &document {
            // What is there already is asked about as a wish to know it, so that nobody finds it out by trying.
            let is_known = self.might(GET, category, key)
                && values.get(category, key).is_ok_and(|entry| !entry.secret && entry.value == *value);
            if !is_known {
                self.ask(SET, category, key)?;
                self.refuse_only_in_file(category, key)?;
                keys.push((category.as_str(), key.as_str(), Some(value.clone())));
            }
        }
        let changes = self.config.change(&keys, self.by).map_err(told)?;
        let count = changes.len();
        Ok(ConfigOutcome { changed: count > 0, note: format!("{count} of {} keys", document.len()) })
    }

    fn change(&self, category: &str, key: &str, value: Option<Value>) -> Result<ConfigOutcome, Error> {
        self.refuse_only_in_file(category, key)?;
        let changed = match value {
            Some(value) => self.config.set(category, key, value, self.by),
            None => self.config.reset(category, key, self.by),
        };
        let changed = changed.map_err(told)?;
        let entry = self.config.get(category, key).map_err(told)?;
        Ok(ConfigOutcome::of(&entry, changed))
    }

    fn refuse_only_in_file(&self, category: &str, key: &str) -> Result<(), Error> {
        if self.config.schema().key(category, key).map_err(told)?.is_only_in_file() {
            let (category, key) = (category.to_owned(), key.to_owned());
            return Err(told(ConfigError::OnlyInFile { category, key }));
        }
        Ok(())
    }

    /// Whether the caller may do this to a key; that is asked before it is said whether there is one.
    fn ask(&self, operation: &str, category: &str, key: &str) -> Result<(), Error> {
        let text = address(operation, category, key).ok_or_else(no_key)?;
        let address = Address::new(&text).map_err(|_| no_key())?;
        let may = self.caller.may(Operation::Request, address, Access::Permission);
        may.map_err(|error| owned_error(&error))
    }

    fn might(&self, operation: &str, category: &str, key: &str) -> bool {
        let Some(text) = address(operation, category, key) else { return false };
        let Ok(address) = Address::new(&text) else { return false };
        self.caller.might(Operation::Request, address, Access::Permission).is_ok()
    }

    fn describe_category(&self, category: &Category) -> CategoryInfo {
        let is_for = |key: &&Key| {
            self.might(GET, category.name(), key.name()) || self.might(SET, category.name(), key.name())
        };
        CategoryInfo {
            name: category.name().to_owned(),
            description: category.description().to_owned(),
            keys: category.keys().iter().filter(is_for).map(KeyInfo::from).collect(),
        }
    }
}

impl From<&Key> for KeyInfo {
    fn from(key: &Key) -> Self {
        Self {
            name: key.name().to_owned(),
            description: key.description().to_owned(),
            expected: key.expected(),
            choices: match key.kind() {
                Kind::Choice(choices) => choices.clone(),
                _ => Vec::new(),
            },
            unit: key.unit_name().to_owned(),
            default: if key.is_secret() { Value::Empty } else { key.default().clone() },
            applies: key.applies(),
            only_in_file: key.is_only_in_file(),
            secret: key.is_secret(),
        }
    }
}

/// What somebody on a bus is told: nothing of what stands in the file for others.
fn told(wrong: ConfigError) -> Error {
    match wrong {
        ConfigError::At { line, error: inner, .. } => match *inner {
            ConfigError::Conflict { .. } => told(*inner),
            _ => {
                let what = format!("line {line} of the configuration is wrong, so it is not written over");
                error(ErrorKind::Internal, format!("{what}: `visorbus config check` says what to do"))
            }
        },
        ConfigError::Many(ref errors) if errors.iter().any(|one| matches!(one, ConfigError::At { .. })) => {
            told(errors.iter().find(|one| matches!(one, ConfigError::At { .. })).cloned().unwrap_or(wrong))
        }
        ConfigError::Unusable { .. } => error(ErrorKind::Internal, wrong),
        ConfigError::OnlyInFile { .. } => error(ErrorKind::Authorization, wrong),
        _ => error(ErrorKind::Message, wrong),
    }
}

/// Where a key is asked for: `config/get/display/brightness`.
fn address(operation: &str, category: &str, key: &str) -> Option<String> {
    (is_name(category) && is_name(key)).then(|| format!("{operation}/{category}/{key}"))
}

fn no_key() -> Error {
    error(ErrorKind::Message, "these cannot be the names of a category and a key")
}

const GET: &str = "config/get";
const SET: &str = "config/set";
