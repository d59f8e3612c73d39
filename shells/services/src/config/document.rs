//! The text of a configuration: read with the place of every value, and changed in place. Nothing here opens a file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use toml_edit::{DocumentMut, Item, Table};
use visorbus_hub::Value;

use super::error::ConfigError;
use super::schema::ConfigSchema;

/// The values that a text gives, by category and key, each with its line.
pub(crate) type Values = HashMap<(String, String), (Value, u32)>;

/// Reads a text; every error that it has is told.
pub(crate) fn read(path: &Path, text: &str, schema: &ConfigSchema) -> Result<Values, ConfigError> {
    let place = |span: Option<Range<usize>>, error| at(path, text, span, error);
    let document = toml_edit::Document::parse(text).map_err(|error| {
        place(error.span(), ConfigError::Malformed { what: error.message().trim().replace('\n', ", ") })
    })?;
    let (mut values, mut errors) = (Values::new(), Vec::new());
    for (name, item) in document.iter() {
        let name_span = document.key(name).and_then(toml_edit::Key::span);
        if let Err(error) = schema.category(name) {
            errors.push(place(name_span, error));
            continue;
        }
        let Some(table) = item.as_table_like() else {
            let what = format!("'{name}' is a category: its keys stand below the line [{name}]");
            errors.push(place(name_span, ConfigError::Malformed { what }));
            continue;
        };
        for (key, item) in table.iter() {
            let key_span = table.key(key).and_then(toml_edit::Key::span);
            match value_of(schema, name, key, item) {
                Ok(value) => {
                    let line = position(text, key_span.map_or(0, |span| span.start)).0;
                    values.insert((name.to_owned(), key.to_owned()), (value, line as u32));
                }
                Err(error @ ConfigError::UnknownKey { .. }) => errors.push(place(key_span, error)),
                Err(error) => errors.push(place(item.span().or(key_span), error)),
            }
        }
    }
    ConfigError::all(errors).map(|()| values)
}

fn value_of(schema: &ConfigSchema, category: &str, name: &str, item: &Item) -> Result<Value, ConfigError> {
    let key = schema.key(category, name)?;
    key.accept(value(item)).map_err(|misvalue| ConfigError::value(category, name, misvalue))
}

/// What stands in a text, whatever is wanted there.
fn value(item: &Item) -> Value {
    match item {
        Item::Value(toml_edit::Value::Boolean(value)) => Value::Bool(*value.value()),
        Item::Value(toml_edit::Value::Integer(value)) => Value::Integer(*value.value()),
        Item::Value(toml_edit::Value::Float(value)) => Value::Float(*value.value()),
        Item::Value(toml_edit::Value::String(value)) => Value::Text(value.value().clone()),
        Item::Value(toml_edit::Value::Array(array)) => {
            let texts: Option<Vec<String>> =
                array.iter().map(|item| Some(item.as_str()?.to_owned())).collect();
            texts.map_or_else(|| Value::Json("[…]".to_owned()), Value::Texts)
        }
        Item::Value(toml_edit::Value::Datetime(date)) => Value::Json(date.to_string()),
        _ => Value::Json("{…}".to_owned()),
    }
}

/// The error at its place in the text.
fn at(path: &Path, text: &str, span: Option<Range<usize>>, error: ConfigError) -> ConfigError {
    let (line, column) = position(text, span.map_or(0, |span| span.start));
    ConfigError::At { path: path.to_owned(), line, column, error: Box::new(error) }
}

/// Line and character of a byte of the text, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
