//! The text of a configuration: read with the place of every value, and changed in place, so that all else stays as
//! somebody wrote it. Nothing here opens a file.

use std::ops::Range;
use std::path::Path;

use toml_edit::{DocumentMut, Item, TableLike};
use visorbus_hub::Value;

use super::error::ConfigError;
use super::schema::ConfigSchema;
use super::values::{Kept, KeptValue};

/// Reads a text; every error that it has is told, up to as many as somebody mends at once.
///
/// # Errors
/// What is wrong, each with its place in the file `path`.
pub(crate) fn read(path: &Path, text: &str, schema: &ConfigSchema) -> Result<Kept, ConfigError> {
    let document = parse(path, text)?;
    let (mut kept, mut errors) = (Kept::new(), Vec::new());
    for (name, item) in document.iter() {
        if errors.len() >= MAX_ERRORS {
            break;
        }
        match table(schema, name, item) {
            Ok(table) => read_table((path, text), schema, (name, table), (&mut kept, &mut errors)),
            Err(error) => {
                errors.push(at(path, text, document.key(name).and_then(toml_edit::Key::span), error));
            }
        }
    }
    if errors.len() >= MAX_ERRORS {
        let what = format!("no more than {MAX_ERRORS} mistakes are told of: mend those above first");
        errors.push(ConfigError::Malformed { what });
    }
    ConfigError::all(errors).map(|()| kept)
}

/// The value of one key, whatever else is wrong with the text.
///
/// # Errors
/// When the text is no TOML, or the value wrong.
pub(crate) fn read_one(
    path: &Path,
    text: &str,
    schema: &ConfigSchema,
    (category, key): (&str, &str),
) -> Result<Option<Value>, ConfigError> {
    let document = parse(path, text)?;
    let Some(item) = document.get(category).and_then(|item| item.as_table_like()?.get(key)) else {
        return Ok(None);
    };
    value_of(schema, category, key, item).map(Some).map_err(|error| at(path, text, item.span(), error))
}

/// The text with these keys set, or, where there is no value, without them.
///
/// # Errors
/// [`ConfigError::Malformed`] when the text is written so that they cannot be changed in it.
pub(crate) fn edit(
    path: &Path,
    text: &str,
    changes: &[(&str, &str, Option<&Value>)],
) -> Result<String, ConfigError> {
    let mut text = text.to_owned();
    for (category, key, value) in changes {
        text = edit_one(path, &text, (category, key), *value)?;
    }
    Ok(text)
}

/// A value as TOML writes it.
pub(crate) fn written(value: &Value) -> String {
    let value: toml_edit::Value = match value {
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Texts(texts) => texts.iter().collect::<toml_edit::Array>().into(),
        Value::Text(text) => text.into(),
        // No key has any other.
        other => other.to_string().into(),
    };
    value.to_string()
}

fn parse<'t>(path: &Path, text: &'t str) -> Result<toml_edit::Document<&'t str>, ConfigError> {
    toml_edit::Document::parse(text).map_err(|error| {
        let what = format!("this is no TOML: {}", error.message().trim().replace('\n', ", "));
        at(path, text, error.span(), ConfigError::Malformed { what })
    })
}

/// The table of a category.
fn table<'i>(schema: &ConfigSchema, name: &str, item: &'i Item) -> Result<&'i dyn TableLike, ConfigError> {
    schema.category(name)?;
    item.as_table_like().ok_or_else(|| ConfigError::Malformed {
        what: format!("'{name}' is a category: its keys stand below a line [{name}]"),
    })
}

fn read_table(
    (path, text): (&Path, &str),
    schema: &ConfigSchema,
    (category, table): (&str, &dyn TableLike),
    (kept, errors): (&mut Kept, &mut Vec<ConfigError>),
) {
    for (key, item) in table.iter() {
        if errors.len() >= MAX_ERRORS {
            return;
        }
        let key_span = table.key(key).and_then(toml_edit::Key::span);
        match value_of(schema, category, key, item) {
            Ok(value) => {
                let line = position(text, key_span.map_or(0, |span| span.start)).0;
                let value = KeptValue { value, line: u32::try_from(line).ok() };
                kept.insert((category.to_owned(), key.to_owned()), value);
            }
            Err(error @ ConfigError::UnknownKey { .. }) => errors.push(at(path, text, key_span, error)),
            Err(error) => errors.push(at(path, text, item.span().or(key_span), error)),
        }
    }
}

fn value_of(schema: &ConfigSchema, category: &str, name: &str, item: &Item) -> Result<Value, ConfigError> {
    let key = schema.key(category, name)?;
    key.accept(value(item)).map_err(|misvalue| ConfigError::value(category, name, misvalue))
}

/// What stands in a text, whatever is wanted there.
pub(crate) fn value(item: &Item) -> Value {
    match item {
        Item::Value(toml_edit::Value::Boolean(value)) => Value::Bool(*value.value()),
        Item::Value(toml_edit::Value::Integer(value)) => Value::Integer(*value.value()),
        Item::Value(toml_edit::Value::Float(value)) => Value::Float(*value.value()),
        Item::Value(toml_edit::Value::String(value)) => Value::Text(value.value().clone()),
        Item::Value(toml_edit::Value::Array(array)) => {
            let texts: Option<_> = array.iter().map(|item| Some(item.as_str()?.to_owned())).collect();
            texts.map_or_else(|| Value::Json("[]".to_owned()), Value::Texts)
        }
        _ => Value::Json("{}".to_owned()),
    }
}

/// The text with one key set or without it. What is written in the usual way is changed where it stands; what is not, by
/// the library, which knows every way.
fn edit_one(
    path: &Path,
    text: &str,
    (category, key): (&str, &str),
    value: Option<&Value>,
) -> Result<String, ConfigError> {
    let document = parse(path, text)?;
    let there = document.get(category).and_then(|item| item.as_table_like()?.get(key));
    if there.map(self::value).as_ref() == value {
        return Ok(text.to_owned());
    }
    let edited = Place::find(&document, text, category, key).edit(text, (category, key), value);
    if let Some(edited) = edited.filter(|edited| is_edit(text, edited, (category, key), value)) {
        return Ok(edited);
    }
    let edited = rewritten(text, (category, key), value);
    edited.filter(|edited| is_edit(text, edited, (category, key), value)).ok_or_else(|| {
        let what = format!("'{category}.{key}' cannot be changed in {}: edit the file", path.display());
        ConfigError::Malformed { what }
    })
}

/// Whether a text says the same as before but for one key, which it has as it is to be.
fn is_edit(before: &str, after: &str, (category, key): (&str, &str), value: Option<&Value>) -> bool {
    let plain = |text: &str| text.parse::<toml::Table>().ok();
    let (Some(mut before), Some(mut after)) = (plain(before), plain(after)) else { return false };
    let written = value.map(|value| written(value).parse::<toml::Value>().ok());
    let take = |table: &mut toml::Table| {
        let taken = table.get_mut(category)?.as_table_mut()?.remove(key);
        if table.get(category).and_then(toml::Value::as_table).is_some_and(toml::Table::is_empty) {
            table.remove(category);
        }
        taken
    };
    take(&mut before);
    take(&mut after) == written.flatten() && before == after
}

/// Where a key stands in a text, or would.
enum Place {
    /// It is there; in lines of its own, where it is not between others.
    There { line: Option<Range<usize>>, value: Range<usize> },
    /// It is not, and would be a line that begins at this byte.
    Line { at: usize },
    /// Not even its category is there.
    Nowhere,
    /// Somewhere where it cannot be told from the text alone.
    Hidden,
}

impl Place {
    fn find(document: &toml_edit::Document<&str>, text: &str, category: &str, key: &str) -> Self {
        let Some(item) = document.get(category) else { return Self::Nowhere };
        let there =
            item.as_table_like().and_then(|table| Some((table.key(key)?.span()?, table.get(key)?.span()?)));
        if let Some((name, value)) = there {
            let line = item.is_table().then(|| line_start(text, name.start)..line_end(text, value.end));
            return Self::There { line, value };
        }
        let Some(table) = item.as_table().filter(|table| !table.is_dotted()) else { return Self::Hidden };
        let Some(header) = document.key(category).and_then(toml_edit::Key::span) else { return Self::Hidden };
        let first = line_end(text, header.end);
        let last =
            table.iter().filter_map(|(_, item)| item.span()).map(|span| line_end(text, span.end)).max();
        Self::Line { at: below_example(text, first, key).or(last).unwrap_or(first) }
    }

    fn edit(self, text: &str, (category, key): (&str, &str), value: Option<&Value>) -> Option<String> {
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        match (self, value) {
            (Self::There { value: span, .. }, Some(value)) => {
                Some(format!("{}{}{}", &text[..span.start], written(value), &text[span.end..]))
            }
            (Self::There { line: Some(line), value }, None) => {
                // What somebody has noted behind the value stays.
                let note = text[value.end..line.end].trim();
                let note = if note.is_empty() { String::new() } else { format!("{note}{end}") };
                Some(format!("{}{note}{}", &text[..line.start], &text[line.end..]))
            }
            (Self::Line { at }, Some(value)) => {
                let before = &text[..at];
                let gap = if before.ends_with('\n') { "" } else { end };
                Some(format!("{before}{gap}{key} = {}{end}{}", written(value), &text[at..]))
            }
            (Self::Nowhere, Some(value)) => {
                let before = text.trim_end();
                let gap = if before.is_empty() { String::new() } else { format!("{end}{end}") };
                Some(format!("{before}{gap}[{category}]{end}{key} = {}{end}", written(value)))
            }
            (Self::Line { .. } | Self::Nowhere, None) => Some(text.to_owned()),
            (Self::There { line: None, .. }, None) | (Self::Hidden, _) => None,
        }
    }
}

/// The text as the library changes it.
fn rewritten(text: &str, (category, key): (&str, &str), value: Option<&Value>) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let table = document.get_mut(category)?.as_table_like_mut()?;
    match value {
        Some(value) => drop(table.insert(key, Item::Value(written(value).parse().ok()?))),
        None => drop(table.remove(key)),
    }
    Some(document.to_string())
}

/// The byte behind the line in which a key stands as an example, `#key = …`, among the lines of its category.
fn below_example(text: &str, from: usize, key: &str) -> Option<usize> {
    let mut at = from;
    for line in text.get(from..)?.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            return None;
        }
        at += line.len();
        let name = trimmed.strip_prefix('#').and_then(|rest| rest.split_once('='));
        if name.is_some_and(|(name, _)| name.trim() == key) {
            return Some(at);
        }
    }
    None
}

/// The error at its place in the text.
pub(crate) fn at(path: &Path, text: &str, span: Option<Range<usize>>, error: ConfigError) -> ConfigError {
    let (line, column) = position(text, span.map_or(0, |span| span.start));
    ConfigError::At { path: path.to_owned(), line, column, error: Box::new(error) }
}

/// Line and character of a byte of the text, both from 1.
pub(crate) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let start = line_start(before, before.len());
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

fn line_start(text: &str, byte: usize) -> usize {
    text[..byte].rfind('\n').map_or(0, |at| at + 1)
}

/// The byte behind the end of the line.
fn line_end(text: &str, byte: usize) -> usize {
    text[byte..].find('\n').map_or(text.len(), |at| byte + at + 1)
}

/// How many mistakes of a file are told of: the place of each is looked for in the whole text.
pub(crate) const MAX_ERRORS: usize = 64;
