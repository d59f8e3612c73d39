//! Values from outside of the file, which hold whatever that says: the environment's, and above them the command line's.

use std::collections::HashMap;
use std::ffi::OsString;

use visorbus_hub::Value;

use super::entry::Origin;
use super::error::ConfigError;
use super::nearest::nearest;
use super::schema::{ConfigSchema, shown};

/// What environment and command line say, before it is known what may be said. `Debug` shows no value.
#[derive(Clone, Default)]
pub struct Overrides {
    environment: HashMap<String, OsString>,
    /// The key as `category.key`, and what it is to be; the last one holds.
    arguments: Vec<(String, Given)>,
}

impl Overrides {
    /// Nothing from outside.
    pub fn none() -> Self {
        Self::default()
    }

    /// The variables of this process whose names begin with `VISORBUS_`.
    pub fn from_environment() -> Self {
        Self::none().environment(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))),
        )
    }

    /// The same with these variables in place of any it had. A key's variable is `VISORBUS_CATEGORY_KEY`; others are nobody's.
    #[must_use]
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<OsString>)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.environment = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        self
    }

    /// The same with an argument such as `log.level=debug`; what its value means is known when the schema is.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] when it has no `=`.
    pub fn argument(mut self, argument: &str) -> Result<Self, ConfigError> {
        let (name, value) = argument.split_once('=').ok_or_else(|| ConfigError::Malformed {
            what: format!("'{argument}' says no value: expected category.key=value"),
        })?;
        self.arguments.push((name.trim().to_owned(), Given::Text(value.to_owned())));
        Ok(self)
    }

    /// The same with a value for one key, as an option of the command line gives it.
    #[must_use]
    pub fn value(mut self, category: &str, key: &str, value: Value) -> Self {
        self.arguments.push((format!("{category}.{key}"), Given::Value(value)));
        self
    }

    /// What holds of it under a schema.
    pub(crate) fn resolve(&self, schema: &ConfigSchema) -> Result<Resolved, ConfigError> {
        let (mut resolved, mut errors) = (Resolved::new(), Vec::new());
        for category in schema.categories() {
            for key in category.keys() {
                let name = (category.name().to_owned(), key.name().to_owned());
                match self.of_environment(schema, &name) {
                    Ok(Some(value)) => drop(resolved.insert(name, value)),
                    Ok(None) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        for (name, given) in &self.arguments {
            let of = split(name).and_then(|name| Ok((value(schema, &name, given)?, name)));
            match of {
                Ok((value, name)) => drop(resolved.insert(name, (value, Origin::CommandLine))),
                Err(error) => errors.push(from(format!("--set {name}"), error)),
            }
        }
        ConfigError::all(errors).map(|()| resolved)
    }

    /// What holds of one key, whatever is wrong with others.
    pub(crate) fn resolve_one(
        &self,
        schema: &ConfigSchema,
        (category, key): (&str, &str),
    ) -> Result<Option<Value>, ConfigError> {
        let name = (category.to_owned(), key.to_owned());
        let is_it = |given: &&(String, Given)| split(&given.0).is_ok_and(|of| of == name);
        if let Some((argument, given)) = self.arguments.iter().rfind(is_it) {
            return value(schema, &name, given)
                .map(Some)
                .map_err(|error| from(format!("--set {argument}"), error));
        }
        Ok(self.of_environment(schema, &name)?.map(|(value, _)| value))
    }

    /// The variables that are no key's of a schema and none of `known`.
    pub(crate) fn unknown<'k>(
        &self,
        schema: &ConfigSchema,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Vec<UnknownVariable> {
        let of_keys = schema
            .categories()
            .iter()
            .flat_map(|category| category.keys().iter().map(|key| variable(category.name(), key.name())));
        let known: Vec<String> = of_keys.chain(known.into_iter().map(str::to_owned)).collect();
        let stem = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
        let stems: Vec<String> = known.iter().map(|name| stem(name)).collect();
        let mut unknown: Vec<&String> =
            self.environment.keys().filter(|name| !known.contains(name)).collect();
        unknown.sort_unstable();
        let told = |name: &String| UnknownVariable {
            nearest: nearest(&stem(name), stems.iter().map(String::as_str))
                .map(|stem| format!("{PREFIX}{}", stem.to_uppercase())),
            name: shown(name),
        };
        unknown.into_iter().map(told).collect()
    }

    fn of_environment(
        &self,
        schema: &ConfigSchema,
        name: &(String, String),
    ) -> Result<Option<(Value, Origin)>, ConfigError> {
        let variable = variable(&name.0, &name.1);
        let Some(text) = self.environment.get(&variable) else { return Ok(None) };
        match text.to_str().map(|text| value(schema, name, &Given::Text(text.to_owned()))) {
            Some(Ok(value)) => Ok(Some((value, Origin::Environment { variable }))),
            Some(Err(error)) => Err(from(variable, error)),
            None => Err(from(variable, ConfigError::Malformed { what: "this is not UTF-8".to_owned() })),
        }
    }
}

impl std::fmt::Debug for Overrides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let arguments: Vec<&str> = self.arguments.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Overrides")
            .field("environment", &self.environment.keys())
            .field("arguments", &arguments)
            .finish()
    }
}

/// A variable that begins as those of the keys do, and that nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// What it is called.
    pub name: String,
    /// The variable that was most likely meant.
    pub nearest: Option<String>,
}

/// For people: `VISORBUS_LOG_LEVL (did you mean VISORBUS_LOG_LEVEL?)`.
impl std::fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.nearest {
            Some(nearest) => write!(f, "{} (did you mean {nearest}?)", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Category and key to what holds, and whence.
pub(crate) type Resolved = HashMap<(String, String), (Value, Origin)>;

/// What one argument says.
#[derive(Clone)]
enum Given {
    Text(String),
    Value(Value),
}

/// The variable of a key: `VISORBUS_UNIX_SOCKET_PATH`.
pub fn variable(category: &str, key: &str) -> String {
    format!("{PREFIX}{category}_{key}").to_uppercase().replace('-', "_")
}

/// `category.key`, taken apart.
pub(crate) fn split(name: &str) -> Result<(String, String), ConfigError> {
    let (category, key) = name.split_once('.').or_else(|| name.split_once('/')).ok_or_else(|| {
        ConfigError::Malformed { what: format!("'{}' names no key: expected category.key", cut(name)) }
    })?;
    Ok((category.to_owned(), key.to_owned()))
}

fn value(
    schema: &ConfigSchema,
    (category, name): &(String, String),
    given: &Given,
) -> Result<Value, ConfigError> {
    let key = schema.key(category, name)?;
    let value = match given {
        Given::Text(text) => key.parse(text),
        Given::Value(value) => key.accept(value.clone()),
    };
    value.map_err(|misvalue| ConfigError::value(category, name, misvalue))
}

fn from(source_name: String, error: ConfigError) -> ConfigError {
    ConfigError::From { source_name, error: Box::new(error) }
}

/// What came from outside, in an error.
fn cut(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(at, _)| &text[..at])
}

const PREFIX: &str = "VISORBUS_";
