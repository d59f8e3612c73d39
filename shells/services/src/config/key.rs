//! One key: what its value may be, what it is without one, and the words for it.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use visorbus_hub::Value;

/// One thing that may be configured.
#[derive(Debug, Clone)]
pub struct Key {
    name: String,
    kind: Kind,
    default: Value,
    description: String,
    unit: String,
    example: Option<Value>,
    applies: Applies,
    only_in_file: bool,
    secret: bool,
}

impl Key {
    /// A key with yes or no. As of every key, the name has 1 to 24 bytes of `[a-z0-9_-]` and begins with a letter, and
    /// the description is a sentence for people.
    pub fn bool(name: impl Into<String>, default: bool, description: impl Into<String>) -> Self {
        Self::new(name, Kind::Bool, Value::Bool(default), description)
    }

    /// A key with a whole number within `range`.
    pub fn integer(
        name: impl Into<String>,
        range: RangeInclusive<i64>,
        default: i64,
        description: impl Into<String>,
    ) -> Self {
        let kind = Kind::Integer { min: *range.start(), max: *range.end() };
        Self::new(name, kind, Value::Integer(default), description)
    }

    /// A key with a number within `range`. A whole number is taken for one too.
    pub fn float(
        name: impl Into<String>,
        range: RangeInclusive<f64>,
        default: f64,
        description: impl Into<String>,
    ) -> Self {
        let kind = Kind::Float { min: *range.start(), max: *range.end() };
        Self::new(name, kind, Value::Float(default), description)
    }

    /// A key with a text of at most 4096 bytes without control characters.
    pub fn text(name: impl Into<String>, default: impl Into<String>, description: impl Into<String>) -> Self {
        Self::new(name, Kind::Text { check: None }, Value::Text(default.into()), description)
    }

    /// A key with one of these texts.
    pub fn choice<'c>(
        name: impl Into<String>,
        choices: impl IntoIterator<Item = &'c str>,
        default: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let kind = Kind::Choice(choices.into_iter().map(str::to_owned).collect());
        Self::new(name, kind, Value::Text(default.into()), description)
    }

    /// A key with a list of at most 256 texts, each as of [`Key::text`].
    pub fn texts<'d>(
        name: impl Into<String>,
        default: impl IntoIterator<Item = &'d str>,
        description: impl Into<String>,
    ) -> Self {
        let default = Value::Texts(default.into_iter().map(str::to_owned).collect());
        Self::new(name, Kind::Texts { check: None }, default, description)
    }

    /// The same, where each text must also pass `check`, which says what is wrong with one: `expected an address`. Of
    /// keys that have no text it changes nothing.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        if let Kind::Text { check: known } | Kind::Texts { check: known } = &mut self.kind {
            *known = Some(check);
        }
        self
    }

    /// The same, with a unit for people and programs: `ms`, `bytes`, `%`.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// The same, with a value that shows what one looks like.
    #[must_use]
    pub fn example(mut self, example: Value) -> Self {
        self.example = Some(example);
        self
    }

    /// The same, for a value that a running program does not take up.
    #[must_use]
    pub const fn at_restart(mut self) -> Self {
        self.applies = Applies::AtRestart;
        self
    }

    /// The same, for a value that nobody may change over a bus, whatever they may else: who may write the file decides.
    #[must_use]
    pub const fn only_in_file(mut self) -> Self {
        self.only_in_file = true;
        self
    }

    /// The same, for a value that is never shown: no list, no notification and no error has it.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// What it is called, without its category.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its value may be.
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Its value where nobody gives one.
    pub const fn default(&self) -> &Value {
        &self.default
    }

    /// What it is for.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The unit of its value; empty for none.
    pub fn unit_name(&self) -> &str {
        &self.unit
    }

    /// A value that shows what one looks like.
    pub const fn example_value(&self) -> Option<&Value> {
        self.example.as_ref()
    }

    /// When a changed value has its effect.
    pub const fn applies(&self) -> Applies {
        self.applies
    }

    /// Whether nobody may change it over a bus.
    pub const fn is_only_in_file(&self) -> bool {
        self.only_in_file
    }

    /// Whether its value is never shown.
    pub const fn is_secret(&self) -> bool {
        self.secret
    }

    /// The value as its key has it: a whole number as a number where that is wanted, an empty list as texts.
    ///
    /// # Errors
    /// What is wrong with it, without the key's name and, of a secret, without the value.
    pub(crate) fn accept(&self, value: Value) -> Result<Value, Misvalue> {
        let shown = if self.secret { value.kind().to_owned() } else { shown(&value) };
        let unfit = || Misvalue::Unfit { expected: self.expected(), found: shown.clone() };
        let refuse = |why| Misvalue::Refused { found: shown.clone(), why };
        match (&self.kind, value) {
            (Kind::Bool, Value::Bool(value)) => Ok(Value::Bool(value)),
            (Kind::Integer { min, max }, Value::Integer(value)) if (*min..=*max).contains(&value) => {
                Ok(Value::Integer(value))
            }
            (Kind::Float { min, max }, Value::Integer(value)) if (*min..=*max).contains(&(value as f64)) => {
                Ok(Value::Float(value as f64))
            }
            (Kind::Float { min, max }, Value::Float(value)) if (*min..=*max).contains(&value) => {
                Ok(Value::Float(value))
            }
            (Kind::Choice(choices), Value::Text(text)) if choices.contains(&text) => Ok(Value::Text(text)),
            (Kind::Text { check }, Value::Text(text)) => {
                check_text(&text, *check).map_err(refuse)?;
                Ok(Value::Text(text))
            }
            (Kind::Texts { check }, Value::Texts(texts)) => {
                if texts.len() > MAX_TEXTS {
                    return Err(refuse(format!("a list has at most {MAX_TEXTS} texts")));
                }
                texts.iter().try_for_each(|text| check_text(text, *check)).map_err(refuse)?;
                Ok(Value::Texts(texts))
            }
            _ => Err(unfit()),
        }
    }

    /// The value that a text stands for where the kind is known: `true`, `0.5`, `word`, or a list as JSON or with commas
    /// between.
    pub(crate) fn parse(&self, text: &str) -> Result<Value, Misvalue> {
        let plain = text.trim();
        let value = match &self.kind {
            Kind::Bool => plain.parse().map(Value::Bool).ok(),
            Kind::Integer { .. } => plain.parse().map(Value::Integer).ok(),
            Kind::Float { .. } => plain.parse().map(Value::Float).ok(),
            Kind::Text { .. } => Some(Value::Text(unquoted(plain).unwrap_or_else(|| text.to_owned()))),
            Kind::Choice(_) => Some(Value::Text(unquoted(plain).unwrap_or_else(|| plain.to_owned()))),
            Kind::Texts { .. } if plain.starts_with('[') => {
                serde_json::from_str(plain).map(Value::Texts).ok()
            }
            Kind::Texts { .. } => {
                let texts = plain.split(',').map(str::trim).filter(|text| !text.is_empty());
                Some(Value::Texts(texts.map(str::to_owned).collect()))
            }
        };
        self.accept(value.unwrap_or_else(|| Value::Text(text.to_owned())))
    }

    /// What its value may be, for people: `a whole number from 1 to 64`.
    pub fn expected(&self) -> String {
        match &self.kind {
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer { min: i64::MIN, max: i64::MAX } => "a whole number".to_owned(),
            Kind::Integer { min, max: i64::MAX } => format!("a whole number from {min}"),
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Float { min, max } if min.is_finite() && max.is_finite() => {
                format!("a number from {min} to {max}")
            }
            Kind::Float { .. } => "a number".to_owned(),
            Kind::Text { .. } => "a text".to_owned(),
            Kind::Choice(choices) => {
                let quoted: Vec<String> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Kind::Texts { .. } => "a list of texts".to_owned(),
        }
    }

    /// What is wrong with the declaration, if anything is.
    pub(crate) fn check_itself(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err("a name has 1 to 24 of a-z, 0-9, '_' and '-', a letter first".to_owned());
        }
        for value in [Some(&self.default), self.example.as_ref()].into_iter().flatten() {
            let accepted = self.accept(value.clone()).map_err(|misvalue| misvalue.to_string())?;
            if accepted != *value {
                return Err(format!("default and example are to be {}", self.expected()));
            }
        }
        Ok(())
    }

    fn new(name: impl Into<String>, kind: Kind, default: Value, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            default,
            description: description.into(),
            unit: String::new(),
            example: None,
            applies: Applies::AtOnce,
            only_in_file: false,
            secret: false,
        }
    }
}

/// Says what is wrong with a text.
pub type Check = fn(&str) -> Result<(), String>;

/// What a value may be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Kind {
    /// Yes or no.
    Bool,
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A number.
    Float {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// A text.
    Text {
        /// What it must pass.
        check: Option<Check>,
    },
    /// One of these texts.
    Choice(Vec<String>),
    /// A list of texts.
    Texts {
        /// What each must pass.
        check: Option<Check>,
    },
}

/// When a changed value has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applies {
    /// As soon as it is changed.
    AtOnce,
    /// When the program that reads it starts again.
    AtRestart,
}

visorbus_core::variant_names!(Applies: "at_once", "at_restart");

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misvalue {
    #[error("expected {expected}, not {found}")]
    Unfit { expected: String, found: String },
    #[error("{why}, not {found}")]
    Refused { found: String, why: String },
}

/// Whether `name` can be that of a category or of a key: both stand in an address of at most 64 bytes behind
/// `config/changed`.
pub(crate) fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    name.len() <= MAX_NAME
        && name.bytes().all(rest)
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
}

/// A value in an error, cut.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn check_text(text: &str, check: Option<Check>) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("a text has at most {MAX_TEXT} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("a text has no control characters".to_owned());
    }
    check.map_or(Ok(()), |check| check(text))
}

/// What stands between quotation marks.
fn unquoted(text: &str) -> Option<String> {
    text.starts_with('"').then(|| serde_json::from_str(text).ok()).flatten()
}

/// Bytes of a category's or a key's name.
const MAX_NAME: usize = 24;
const MAX_TEXT: usize = 4096;
const MAX_TEXTS: usize = 256;
/// Characters of a wrong value that an error shows.
const MAX_SHOWN: usize = 60;
