//! What is to be worried about, and how all is.

use std::fmt;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::monitoring::threshold::Severity;

/// A figure is over a threshold, or no longer; published on `monitoring/alert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct Alert {
    /// Which figure, with its labels.
    pub metric: String,
    /// The text of the threshold.
    pub threshold: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it has come or is over.
    pub state: AlertState,
    /// The figure's value at `at_us`; the last one known, where the figure is gone.
    pub value: f64,
    /// Since when it is over the threshold, in microseconds since 1970.
    pub since_us: u64,
    /// When the state became what it is.
    pub at_us: u64,
    /// The same as a sentence, for people.
    pub text: String,
}

/// Whether an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It has come and is not over.
    Raised,
    /// It is over.
    Cleared,
}

visorbus_core::variant_names!(AlertState: "raised", "cleared");

/// How all is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// Why, the worst first; none where all is well.
    pub reasons: Vec<String>,
    /// Since when the status is what it is, in microseconds since 1970.
    pub since_us: u64,
}

/// How all is, in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// All is well.
    #[default]
    Ok,
    /// It works, but not as it should.
    Degraded,
    /// Something does not work.
    Failing,
}

visorbus_core::variant_names!(HealthStatus: "ok", "degraded", "failing");

impl HealthStatus {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
