//! Categories that are declared in a file: the settings of whoever builds a product on the hub, kept and checked as its own.

use std::path::Path;

use toml_edit::{Item, TableLike};
use visorbus_hub::Value;

use super::document::{MAX_ERRORS, at, value};
use super::error::ConfigError;
use super::key::Key;
use super::nearest::nearest;
use super::schema::{Category, ConfigSchema};

impl ConfigSchema {
    /// The same with the categories that a TOML text declares. A category is a table with a `description`; each table in
    /// it is a key: `kind` (`bool`, `integer`, `float`, `text`, `choice`, `texts`), `description` and `default`, and
    /// where wanted `min` and `max`, `choices`, `unit`, `example`, `applies` (`at_once`, `at_restart`), `only_in_file`,
    /// `secret`.
    ///
    /// ```
    /// use visorbus_services::config::{ConfigManager, ConfigSchema};
    ///
    /// let declared = r#"
    ///     [display]
    ///     description = "What the eyes see."
    ///
    ///     [display.brightness]
    ///     kind = "float"
    ///     description = "How bright it is."
    ///     default = 0.5
    ///     min = 0.0
    ///     max = 1.0
    /// "#;
    /// let schema = ConfigSchema::default().declare(declared, "display.toml")?;
    /// assert_eq!(ConfigManager::in_memory(schema).float("display", "brightness"), 0.5);
    /// # Ok::<(), visorbus_services::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// What is wrong, each with its place in the file `path`, which the text came from.
    pub fn declare(&self, text: &str, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let malformed = |span, what| at(path, text, span, ConfigError::Malformed { what });
        let document = toml_edit::Document::parse(text)
            .map_err(|error| malformed(error.span(), format!("this is no TOML: {}", error.message())))?;
        let (mut categories, mut errors) = (Vec::new(), Vec::new());
        for (name, item) in document.iter() {
            if errors.len() >= MAX_ERRORS {
                break;
            }
            let span = document.key(name).and_then(toml_edit::Key::span);
            let Some(table) = item.as_table_like() else {
                errors.push(malformed(span, format!("'{name}' declares no category: expected [{name}]")));
                continue;
            };
            categories.push(category(name, table, &mut |span, what| {
                if errors.len() < MAX_ERRORS {
                    errors.push(malformed(span, what));
                }
            }));
        }
        ConfigError::all(errors)?;
        self.with(categories, text).map_err(|what| malformed(None, what))
    }
}

type Span = Option<std::ops::Range<usize>>;

fn category(name: &str, table: &dyn TableLike, wrong: &mut impl FnMut(Span, String)) -> Category {
    let description = table.get(DESCRIPTION).and_then(Item::as_str).unwrap_or_default();
    let mut category = Category::new(name, description);
    for (key, item) in table.iter().filter(|(key, _)| *key != DESCRIPTION) {
        let span = table.key(key).and_then(toml_edit::Key::span);
        match item.as_table_like() {
            Some(declared) => match declare_key(key, declared) {
                Ok(key) => category = category.key(key),
                Err((field, what)) => {
                    let there = field.and_then(|field| declared.key(field)?.span());
                    wrong(there.or(span), format!("'{name}.{key}': {what}"));
                }
            },
            None => wrong(span, format!("'{name}.{key}' declares no key: expected [{name}.{key}]")),
        }
    }
    category
}

/// What is wrong, and with which field.
type Misdeclared = (Option<&'static str>, String);

fn declare_key(name: &str, table: &dyn TableLike) -> Result<Key, Misdeclared> {
    for (field, _) in table.iter() {
        if !FIELDS.contains(&field) {
            let meant = nearest(field, FIELDS.iter().copied());
            let meant = meant.map_or_else(String::new, |meant| format!(": did you mean '{meant}'?"));
            return Err((None, format!("a key has no '{field}'{meant}")));
        }
    }
    let description = text(table, DESCRIPTION)?;
    let default = table.get("default").map(value).ok_or((None, "there is no default".to_owned()))?;
    let unfit = || (Some("default"), format!("the default is {}", default.kind()));
    let key = match (text(table, "kind")?.as_str(), &default) {
        ("bool", Value::Bool(value)) => Key::bool(name, *value, description),
        ("integer", Value::Integer(value)) => {
            let range =
                integer(table, "min")?.unwrap_or(i64::MIN)..=integer(table, "max")?.unwrap_or(i64::MAX);
            Key::integer(name, range, *value, description)
        }
        ("float", Value::Integer(_) | Value::Float(_)) => {
            let range = float(table, "min")?.unwrap_or(f64::MIN)..=float(table, "max")?.unwrap_or(f64::MAX);
            Key::float(name, range, float(table, "default")?.unwrap_or_default(), description)
        }
        ("text", Value::Text(value)) => Key::text(name, value, description),
        ("choice", Value::Text(value)) => {
            let choices = texts(table, "choices")?;
            Key::choice(name, choices.iter().map(String::as_str), value, description)
        }
        ("texts", Value::Texts(values)) => Key::texts(name, values.iter().map(String::as_str), description),
        ("bool" | "integer" | "float" | "text" | "choice" | "texts", _) => return Err(unfit()),
        (other, _) => {
            let what = format!("there is no kind '{other}': bool, integer, float, text, choice, texts");
            return Err((Some("kind"), what));
        }
    };
    let key = with_words(key, table)?;
    key.check_itself().map_err(|what| (None, what))?;
    Ok(key)
}

/// What every key may say of itself besides.
fn with_words(mut key: Key, table: &dyn TableLike) -> Result<Key, Misdeclared> {
    if table.contains_key("unit") {
        key = key.unit(text(table, "unit")?);
    }
    if let Some(example) = table.get("example") {
        let example = key.accept(value(example)).map_err(|error| (Some("example"), error.to_string()))?;
        key = key.example(example);
    }
    match table.get("applies").map(|item| item.as_str().unwrap_or_default()) {
        None | Some("at_once") => {}
        Some("at_restart") => key = key.at_restart(),
        Some(_) => return Err((Some("applies"), "it applies 'at_once' or 'at_restart'".to_owned())),
    }
    if flag(table, "only_in_file")? {
        key = key.only_in_file();
    }
    if flag(table, "secret")? {
        key = key.secret();
    }
    Ok(key)
}

fn text(table: &dyn TableLike, field: &'static str) -> Result<String, Misdeclared> {
    let wrong = || (Some(field), format!("'{field}' is to be a text"));
    table.get(field).and_then(Item::as_str).map(str::to_owned).ok_or_else(wrong)
}

fn texts(table: &dyn TableLike, field: &'static str) -> Result<Vec<String>, Misdeclared> {
    match table.get(field).map(value) {
        Some(Value::Texts(texts)) => Ok(texts),
        _ => Err((Some(field), format!("'{field}' is to be a list of texts"))),
    }
}

fn integer(table: &dyn TableLike, field: &'static str) -> Result<Option<i64>, Misdeclared> {
    let wrong = || (Some(field), format!("'{field}' is to be a whole number"));
    table.get(field).map(|item| item.as_integer().ok_or_else(wrong)).transpose()
}

fn float(table: &dyn TableLike, field: &'static str) -> Result<Option<f64>, Misdeclared> {
    let number = |item: &Item| item.as_float().or_else(|| item.as_integer().map(|whole| whole as f64));
    let wrong = || (Some(field), format!("'{field}' is to be a number"));
    table.get(field).map(|item| number(item).ok_or_else(wrong)).transpose()
}

fn flag(table: &dyn TableLike, field: &'static str) -> Result<bool, Misdeclared> {
    let wrong = || (Some(field), format!("'{field}' is to be true or false"));
    table.get(field).map_or(Ok(false), |item| item.as_bool().ok_or_else(wrong))
}

const DESCRIPTION: &str = "description";
const FIELDS: &[&str] = &[
    "kind",
    DESCRIPTION,
    "default",
    "min",
    "max",
    "choices",
    "unit",
    "example",
    "applies",
    "only_in_file",
    "secret",
];
