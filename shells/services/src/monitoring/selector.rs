//! Which figures are meant, as text: `peer.queued_bytes`, `peer.queued_bytes{peer="imu"}`, `rate(hub.refused)`.

use std::fmt;
use std::str::FromStr;

use crate::monitoring::metric::{Escaped, Label, Labels, Metric, cut};

/// Which figures are meant: those of a name, with all the labels that are given, as they are or as their rates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The name.
    pub name: String,
    /// What the labels must be, sorted; others may be there too.
    pub labels: Vec<Label>,
    /// Whether by how much a counter rises in a second is meant, in place of its value.
    pub rate: bool,
}

impl Selector {
    /// Whether `metric` is meant.
    pub fn selects(&self, metric: &Metric) -> bool {
        self.name == metric.name && self.labels.iter().all(|label| metric.labels.contains(label))
    }

    /// Of a figure that is meant, what is: its value or its rate.
    pub fn value(&self, metric: &Metric) -> Option<f64> {
        if self.rate { metric.rate } else { Some(metric.value) }
    }

    /// Reads the selector that `text` begins with; the other part is what is left.
    pub(crate) fn parse_start(text: &str) -> Result<(Self, &str), String> {
        let text = text.trim_start();
        let Some(inner) = text.strip_prefix("rate(") else { return Self::parse_series(text) };
        let inner = inner.trim_start();
        if inner.starts_with("rate(") {
            return Err("a rate has no rate".to_owned());
        }
        let (selector, rest) = Self::parse_series(inner)?;
        let rest = rest.trim_start().strip_prefix(')').ok_or("')' is missing after 'rate('")?;
        Ok((Self { rate: true, ..selector }, rest))
    }

    fn parse_series(text: &str) -> Result<(Self, &str), String> {
        let end = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if !is_metric_name(name) {
            return Err(format!("'{}' is no metric's name, such as machine.cpu_percent", short(text)));
        }
        let (labels, rest) = parse_labels(rest)?;
        Ok((Self { name: name.to_owned(), labels, rate: false }, rest))
    }
}

/// Its text; what is wrong with it is told for people.
impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (selector, rest) = Self::parse_start(text)?;
        if rest.trim().is_empty() { Ok(selector) } else { Err(format!("'{}' is too much", short(rest))) }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, labels) = (&self.name, Labels(&self.labels));
        if self.rate { write!(f, "rate({name}{labels})") } else { write!(f, "{name}{labels}") }
    }
}

/// Which figures are wanted: a selector's, or all whose names begin so.
pub(crate) enum Wanted<'w> {
    Beginning(&'w str),
    Selected(Selector),
}

impl<'w> Wanted<'w> {
    /// Reads a selector, a beginning with a `*` after it, or nothing, which is all.
    pub(crate) fn parse(which: &'w str) -> Result<Self, String> {
        match which.strip_suffix('*') {
            Some(beginning) => Ok(Self::Beginning(beginning)),
            None if which.is_empty() => Ok(Self::Beginning("")),
            None => which.parse().map(Self::Selected),
        }
    }

    pub(crate) fn has(&self, metric: &Metric) -> bool {
        match self {
            Self::Beginning(beginning) => metric.name.starts_with(beginning),
            Self::Selected(selector) => selector.selects(metric),
        }
    }
}

/// The labels between `{` and `}` that `text` begins with, if it does.
fn parse_labels(text: &str) -> Result<(Vec<Label>, &str), String> {
    let mut labels = Vec::new();
    let Some(mut rest) = text.strip_prefix('{') else { return Ok((labels, text)) };
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            labels.sort();
            return Ok((labels, rest));
        }
        let (label, after) = parse_label(rest)?;
        if labels.len() == MAX_LABELS || labels.iter().any(|other: &Label| other.name == label.name) {
            return Err(format!("the label '{}' is there twice, or one too many", label.name));
        }
        labels.push(label);
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.starts_with('}') => rest,
            None => return Err(format!("',' or '}}' is missing before '{}'", short(rest))),
        };
    }
}

fn parse_label(text: &str) -> Result<(Label, &str), String> {
    let wrong = || format!("'{}' is no label, such as peer=\"imu\"", short(text));
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let name = name.trim_end();
    if !is_label_name(name) {
        return Err(wrong());
    }
    let mut letters = rest.trim_start().strip_prefix('"').ok_or_else(wrong)?.chars();
    let mut value = String::new();
    loop {
        match letters.next().ok_or_else(wrong)? {
            '"' => return Ok((Label { name: name.to_owned(), value }, letters.as_str())),
            '\\' => value.push(match letters.next().ok_or_else(wrong)? {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
}

/// Whether a figure may be called so.
pub(crate) fn is_metric_name(name: &str) -> bool {
    let begins = |word: &str| word.starts_with(|c: char| c.is_ascii_lowercase());
    name.len() <= MAX_NAME && name.chars().all(is_name) && name.split('.').all(begins)
}

/// Whether a label may be called so.
pub(crate) fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains('.')
}

const fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.')
}

/// The beginning of a text that may be long, or have anything in it.
pub(crate) fn short(text: &str) -> String {
    Escaped(cut(text, SHORT)).to_string().chars().filter(|c| !c.is_control()).collect()
}

/// Longest name, in bytes.
const MAX_NAME: usize = 64;
const MAX_LABELS: usize = 4;
const SHORT: usize = 40;
