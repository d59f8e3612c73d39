//! What may be configured: categories of typed keys, declared once. Nothing here knows of a file or of a value in force.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::ConfigError;
use super::key::{Key, is_name};
use super::nearest::nearest;
use super::overrides::variable;
use super::values::ConfigValues;

/// All that may be configured. Cloning it is cheap.
#[derive(Debug, Clone, Default)]
pub struct ConfigSchema {
    categories: Arc<Vec<Category>>,
    declared_in: Option<(String, String)>,
    /// The texts that have declared categories.
    declared: Arc<Vec<String>>,
    across: Option<Across>,
}

impl ConfigSchema {
    /// The schema of these categories, which are listed and written in this order.
    ///
    /// # Panics
    /// When a name of a category or a key is none or is there twice, or a default is not what its key may be: what a
    /// program declares about itself is right from the first run or wrong in every one.
    pub fn new(categories: impl IntoIterator<Item = Category>) -> Self {
        let categories: Vec<Category> = categories.into_iter().collect();
        if let Err(error) = check(&categories) {
            panic!("{error}");
        }
        Self { categories: Arc::new(categories), ..Self::default() }
    }

    /// Has `check` say what is wrong with values together that are right alone, as a [`ConfigError::conflict`]: such
    /// values are neither read nor set.
    #[must_use]
    pub fn across(mut self, check: Across) -> Self {
        self.across = Some(check);
        self
    }

    /// Says that the key `category.key`, a list of texts, names files with further categories: whoever
    /// [opens](super::ConfigManager::open) a configuration with this schema reads them first, and again whenever the
    /// configuration's own file is read.
    #[must_use]
    pub fn declared_in(mut self, category: &str, key: &str) -> Self {
        self.declared_in = Some((category.to_owned(), key.to_owned()));
        self
    }

    /// The categories, in their order.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// The category called `name`.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCategory`], with the nearest name that there is.
    pub fn category(&self, name: &str) -> Result<&Category, ConfigError> {
        self.categories.iter().find(|category| category.name == name).ok_or_else(|| {
            ConfigError::UnknownCategory {
                category: shown(name),
                nearest: nearest(name, self.categories.iter().map(|category| category.name.as_str())),
            }
        })
    }

    /// One key.
    ///
    /// # Errors
    /// [`ConfigError::UnknownCategory`] or [`ConfigError::UnknownKey`], with the nearest name that there is.
    pub fn key(&self, category: &str, key: &str) -> Result<&Key, ConfigError> {
        let keys = &self.category(category)?.keys;
        keys.iter().find(|known| known.name() == key).ok_or_else(|| ConfigError::UnknownKey {
            category: category.to_owned(),
            key: shown(key),
            nearest: nearest(key, keys.iter().map(Key::name)),
        })
    }

    /// Which key names files with further categories.
    pub(crate) fn declarations(&self) -> Option<(&str, &str)> {
        self.declared_in.as_ref().map(|(category, key)| (category.as_str(), key.as_str()))
    }

    /// The same with further categories at the end, which a text has declared.
    pub(crate) fn with(&self, further: Vec<Category>, declared: &str) -> Result<Self, String> {
        let mut categories = self.categories.to_vec();
        categories.extend(further);
        check(&categories)?;
        let declared = self.declared.iter().cloned().chain([declared.to_owned()]).collect();
        Ok(Self { categories: Arc::new(categories), declared: Arc::new(declared), ..self.clone() })
    }

    /// Whether both have the same categories, where both were one before anything was declared.
    pub(crate) fn declares_as(&self, other: &Self) -> bool {
        self.declared == other.declared
    }

    /// What is wrong with values together.
    pub(crate) fn check_across(&self, values: &ConfigValues) -> Result<(), ConfigError> {
        self.across.map_or(Ok(()), |check| check(values))
    }
}

/// Says what is wrong with values together.
pub type Across = fn(&ConfigValues) -> Result<(), ConfigError>;

/// Keys that belong together: a table of the file.
#[derive(Debug, Clone)]
pub struct Category {
    name: String,
    description: String,
    keys: Vec<Key>,
}

impl Category {
    /// A category without keys. Its name has 1 to 24 bytes of `[a-z0-9_-]` and begins with a letter; its description is a
    /// sentence for people.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { name: name.into(), description: description.into(), keys: Vec::new() }
    }

    /// The same with one more key.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Its keys, in their order.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// What is wrong with these categories together, if anything is.
fn check(categories: &[Category]) -> Result<(), String> {
    let (mut variables, mut names) = (HashSet::new(), HashSet::new());
    for category in categories {
        let name = &category.name;
        if !is_name(name) {
            return Err(format!(
                "'{name}' cannot be a category's name: 1 to 24 of a-z, 0-9, '_' and '-', a letter first"
            ));
        }
        if !names.insert(name) {
            return Err(format!("there are two categories called '{name}'"));
        }
        let mut keys = HashSet::new();
        for key in &category.keys {
            key.check_itself().map_err(|why| format!("'{name}.{}': {why}", key.name()))?;
            if !keys.insert(key.name()) {
                return Err(format!("there are two keys called '{name}.{}'", key.name()));
            }
            let variable = variable(name, key.name());
            if !variables.insert(variable.clone()) {
                return Err(format!("'{name}.{}' would be {variable}, as another key is", key.name()));
            }
        }
    }
    Ok(())
}

/// A name that is none of ours, as it is shown to people: not at any length, and without what steers a terminal.
pub(crate) fn shown(name: &str) -> String {
    let mut shown: String =
        name.chars().take(MAX_SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Characters of a wrong name.
const MAX_SHOWN: usize = 64;
