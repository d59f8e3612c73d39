//! What is asked of the component `monitoring`, and what it tells: owned types, the same in postcard, JSON and TOML.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_core::auth::Access;
use visorbus_core::message::typed::Topic;
use visorbus_core::message::{Address, MessagePriority};
use visorbus_hub::statistics::AddressStatistics;

use crate::config::nearest::nearest;
use crate::monitoring::alert::{Alert, Health};
use crate::monitoring::catalogue::catalogue;
use crate::monitoring::history::SeriesHistory;
use crate::monitoring::metric::Sample;
use crate::monitoring::threshold::{Severity, Threshold};
use crate::monitoring::watches::Counts;

/// Of which figures the history is wanted; a request to `monitoring/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct HistoryRequest {
    /// A [`Selector`](crate::monitoring::Selector)'s text: `machine.cpu_percent`, `peer.bytes_in{peer="imu"}`,
    /// `rate(hub.bytes_in)`.
    pub metric: String,
    /// How many seconds it goes back; 0 for as far as is known.
    pub seconds: u32,
    /// At most so many points of each figure, up to 500; 0 for 60.
    pub points: u32,
}

/// How figures went; the answer of `monitoring/history`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Schema)]
pub struct HistoryAnswer {
    /// At most 16 of them.
    pub series: Vec<SeriesHistory>,
    /// How many more there are.
    pub left_out: u32,
}

/// A threshold and how it stands; `monitoring/thresholds` answers with a list of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct ThresholdInfo {
    /// Its text.
    pub threshold: String,
    /// What it watches.
    pub metric: String,
    /// How bad it is.
    pub severity: Severity,
    /// How it stands.
    pub state: ThresholdState,
    /// How many figures it watches at present.
    pub watched: u32,
    /// How many of them are over it.
    pub raised: u32,
    /// What may be wrong with it; empty for nothing.
    pub hint: String,
}

impl ThresholdInfo {
    pub(crate) fn new(of: &Threshold, counts: Counts, sample: &Sample) -> Self {
        let watched = sample.metrics.iter().filter(|metric| of.metric.selects(metric)).count();
        let state = match counts {
            Counts { raised: 1.., .. } => ThresholdState::Raised,
            Counts { pending: 1.., .. } => ThresholdState::Pending,
            Counts { .. } if watched == 0 => ThresholdState::Unknown,
            Counts { .. } => ThresholdState::Ok,
        };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            threshold: of.to_string(),
            metric: of.metric.to_string(),
            severity: of.severity,
            state,
            watched: number(watched),
            raised: number(counts.raised),
            hint: if watched == 0 { hint(&of.metric.name, sample) } else { String::new() },
        }
    }
}

/// How a threshold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdState {
    /// What it watches is not measured, at present or at all.
    Unknown,
    /// Nothing is over it.
    Ok,
    /// Something is over it, not yet for long enough.
    Pending,
    /// Something is over it.
    Raised,
}

visorbus_core::variant_names!(ThresholdState: "unknown", "ok", "pending", "raised");

impl ThresholdState {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Raised => "raised",
        }
    }
}

/// What is to be worried about; the answer of `monitoring/alerts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Schema)]
pub struct Alerts {
    /// What is raised now, the worst first; at most 64.
    pub raised: Vec<Alert>,
    /// How many more are raised.
    pub left_out: u32,
    /// What came and went of late, the oldest first; at most 64.
    pub recent: Vec<Alert>,
}

/// What goes to which address; the answer of `monitoring/topics`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Schema)]
pub struct Topics {
    /// Each address, most messages first.
    pub addresses: Vec<AddressFigures>,
    /// Those that have no place of their own.
    pub other: AddressFigures,
}

/// What went to one address since the hub started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Schema)]
pub struct AddressFigures {
    /// The address; `COMPONENT/**` for all of a component's that have no place of their own.
    pub address: String,
    /// Messages that were let through.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Times that a notification was given to a subscriber.
    pub deliveries: u64,
    /// Times that a subscriber missed one.
    pub missed: u64,
}

impl From<&AddressStatistics> for AddressFigures {
    fn from(of: &AddressStatistics) -> Self {
        let AddressStatistics { address, messages, bytes, deliveries, missed } = of.clone();
        Self { address, messages, bytes, deliveries, missed }
    }
}

/// All figures, at the rate that was chosen.
pub(crate) struct SampleTopic;

impl Topic for SampleTopic {
    type Message = Sample;
    const ADDRESS: Address<'static> = Address::literal("monitoring/sample");
    const ACCESS: Access<'static> = Access::Permission;
}

/// What is to be worried about, or no longer.
pub(crate) struct AlertTopic;

impl Topic for AlertTopic {
    type Message = Alert;
    const ADDRESS: Address<'static> = Address::literal("monitoring/alert");
    const ACCESS: Access<'static> = Access::Permission;
    const PRIORITY: MessagePriority = MessagePriority::High;
}

/// How all is, whenever that is something else.
pub(crate) struct HealthTopic;

impl Topic for HealthTopic {
    type Message = Health;
    const ADDRESS: Address<'static> = Address::literal("monitoring/health-changed");
    const ACCESS: Access<'static> = Access::Permission;
    const PRIORITY: MessagePriority = MessagePriority::High;
}

/// What a threshold may mean that watches nothing.
fn hint(name: &str, sample: &Sample) -> String {
    if catalogue().iter().any(|known| known.name == name) {
        return format!("nothing is measured as {name} at present");
    }
    let known = catalogue().iter().map(|known| known.name);
    let measured = sample.metrics.iter().map(|metric| metric.name.as_str());
    match nearest(name, known.chain(measured)) {
        Some(other) => format!("nothing is measured as {name}; {other} is"),
        None => format!("nothing is measured as {name}"),
    }
}
