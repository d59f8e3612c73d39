//! One figure, and all of them at one moment.

use std::fmt;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// A figure with its name, such as `machine.cpu_percent`, or `peer.bytes_in{peer="imu"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct Metric {
    /// What is measured: words of `[a-z0-9_]` joined by `.`; the unit is its end.
    pub name: String,
    /// Of what, sorted by their names.
    pub labels: Vec<Label>,
    /// Whether it only rises.
    pub kind: MetricKind,
    /// How much; always finite.
    pub value: f64,
    /// Of a counter: by how much it rose in a second, since the sample before. None while that is not known: at first,
    /// and when it began again.
    pub rate: Option<f64>,
}

impl Metric {
    /// A figure that goes up and down.
    pub fn gauge(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), labels: Vec::new(), kind: MetricKind::Gauge, value, rate: None }
    }

    /// What only rises, until what is counted begins again.
    pub fn counter(name: &str, value: u64) -> Self {
        // From 2^53 on the last digits are lost, which no rate shows.
        #[expect(clippy::cast_precision_loss)]
        let value = value as f64;
        Self { kind: MetricKind::Counter, ..Self::gauge(name, value) }
    }

    /// The same of `value`, which may be any text; what is longer than 128 bytes is cut.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let value = cut(value, MAX_LABEL).to_owned();
        let at = self.labels.partition_point(|label| label.name.as_str() < name);
        self.labels.insert(at, Label { name: name.to_owned(), value });
        self
    }

    /// Its name with its labels: what two figures that are not the same differ in.
    pub fn series(&self) -> String {
        format!("{}{}", self.name, Labels(&self.labels))
    }
}

/// What a figure is of: a peer, a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Schema)]
pub struct Label {
    /// Such as `peer`: `[a-z0-9_]`.
    pub name: String,
    /// Any text.
    pub value: String,
}

/// Whether a figure only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// It goes up and down.
    Gauge,
    /// It rises, until what is counted begins again.
    Counter,
}

visorbus_core::variant_names!(MetricKind: "gauge", "counter");

/// All figures of one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Schema)]
pub struct Sample {
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// What was measured.
    pub metrics: Vec<Metric>,
    /// How many there were beside, for which there is no room.
    pub left_out: u32,
}

impl Sample {
    /// The first figure of this name, whatever its labels are.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

/// Labels as they stand after a name: `{peer="imu"}`, nothing where there are none; in a value, `"` and `\` have a `\`
/// before them, and a new line is `\n`.
pub(crate) struct Labels<'a>(pub(crate) &'a [Label]);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, label) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { "{" } else { "," })?;
            write!(f, "{}=\"{}\"", label.name, Escaped(&label.value))?;
        }
        f.write_str(if self.0.is_empty() { "" } else { "}" })
    }
}

/// A label's value between quotation marks.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '"' => f.write_str("\\\""),
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            other => fmt::Write::write_char(f, other),
        })
    }
}

/// The beginning of a text, at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Longest value of a label, in bytes.
const MAX_LABEL: usize = 128;
