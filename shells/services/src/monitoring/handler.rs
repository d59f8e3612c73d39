//! The component `monitoring`: what anybody on the bus asks of the manager.

use std::time::Duration;

use visorbus_core::IpcError;
use visorbus_core::auth::Access;
use visorbus_core::bus::RowKind;
use visorbus_core::dispatch::{MessageHandler, Reply, RowHead};
use visorbus_core::message::typed::{SchemaPair, Topic, TypeSchema};
use visorbus_core::message::{Address, Message, MessageType};
use visorbus_hub::Result;

use crate::answer::{Asked, Told, answer};
use crate::monitoring::alert::{Alert, Health};
use crate::monitoring::manager::MonitoringManager;
use crate::monitoring::messages::{
    AddressFigures, AlertTopic, Alerts, HealthTopic, HistoryAnswer, HistoryRequest, SampleTopic,
    ThresholdInfo, Topics,
};
use crate::monitoring::metric::{Metric, Sample};

/// The component `monitoring` over a [`MonitoringManager`]. Each address needs a permission for itself, such as
/// `request:monitoring/health`. A request may be postcard, JSON, TOML or a text; the answer comes as the request did.
///
/// | address | request | answer |
/// |---|---|---|
/// | `monitoring/metrics` | which figures: a [`Selector`](crate::monitoring::Selector), a beginning such as `peer.*`, or nothing for all | [`Sample`] |
/// | `monitoring/history` | [`HistoryRequest`]; as text, a selector | [`HistoryAnswer`] |
/// | `monitoring/thresholds` | nothing | a list of [`ThresholdInfo`] |
/// | `monitoring/set-threshold` | the text of a [`Threshold`](crate::monitoring::Threshold) | its [`ThresholdInfo`] |
/// | `monitoring/remove-threshold` | the text of a threshold, or what it watches | how many there were |
/// | `monitoring/alerts` | nothing | [`Alerts`] |
/// | `monitoring/health` | nothing | [`Health`] |
/// | `monitoring/prometheus` | nothing | OpenMetrics text |
/// | `monitoring/topics` | nothing | [`Topics`] |
/// | `monitoring/set-rate` | milliseconds from one published sample to the next, 0 for none | the same, as it is held to |
///
/// It publishes a [`Sample`] on `monitoring/sample`, an [`Alert`] on `monitoring/alert`, and a [`Health`] on
/// `monitoring/health-changed`. What is refused is an Error of kind `Message` (no such metric's name, no threshold) or
/// `Serialization` (not what the address takes).
#[derive(Debug)]
pub struct MonitoringMessageHandler {
    manager: MonitoringManager,
}

impl MonitoringMessageHandler {
    /// The component over `manager`.
    pub const fn new(manager: MonitoringManager) -> Self {
        Self { manager }
    }

    fn remove_threshold(&self, which: &str) -> Result<u32> {
        let removed = self.manager.remove_threshold(which)?;
        Ok(u32::try_from(removed).unwrap_or(u32::MAX))
    }

    fn topics(&self) -> Topics {
        let Some(statistics) = self.manager.statistics() else { return Topics::default() };
        let addresses = statistics.addresses.iter().map(AddressFigures::from).collect();
        Topics { addresses, other: AddressFigures::from(&statistics.other) }
    }

    fn set_rate(&self, milliseconds: u32) -> u32 {
        let interval = self.manager.config().interval;
        let wanted = Duration::from_millis(milliseconds.into());
        let held = (milliseconds > 0).then(|| wanted.clamp(interval, LONGEST_RATE.max(interval)));
        self.manager.publish_every(held);
        held.map_or(0, |held| u32::try_from(held.as_millis()).unwrap_or(u32::MAX))
    }
}

impl MessageHandler for MonitoringMessageHandler {
    fn id(&self) -> &str {
        "monitoring"
    }

    fn supported_message_types(&self) -> &[MessageType] {
        &[MessageType::Request]
    }

    fn may_block(&self) -> bool {
        true
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        ROWS.get(number).copied()
    }

    fn handle_message(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        let address = message.destination.map_or("", |address| address.as_str());
        match address.strip_prefix("monitoring/").unwrap_or_default() {
            "metrics" => answer(message, reply, |which: Which| self.manager.metrics(&which.0)),
            "history" => answer(message, reply, |of: HistoryRequest| self.manager.history_for(&of)),
            "thresholds" => answer(message, reply, |()| Ok(self.manager.thresholds())),
            "set-threshold" => answer(message, reply, |text: String| self.manager.watch(&text)),
            "remove-threshold" => answer(message, reply, |which: String| self.remove_threshold(&which)),
            "alerts" => answer(message, reply, |()| Ok(self.manager.alert_report())),
            "health" => answer(message, reply, |()| Ok(self.manager.health())),
            "prometheus" => answer(message, reply, |()| Ok(self.manager.prometheus())),
            "topics" => answer(message, reply, |()| Ok(self.topics())),
            "set-rate" => answer(message, reply, |milliseconds: u32| Ok(self.set_rate(milliseconds))),
            _ => Err(IpcError::Message(
                "the monitoring does nothing of this name: bus/services tells what it does",
            )),
        }
    }
}

/// Which figures are wanted.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Which(String);

impl Asked for Which {
    fn from_text(text: &str) -> std::result::Result<Self, String> {
        Ok(Self(text.trim().to_owned()))
    }

    fn from_nothing() -> Option<Self> {
        Some(Self(String::new()))
    }
}

impl Asked for HistoryRequest {
    fn from_text(text: &str) -> std::result::Result<Self, String> {
        Ok(Self { metric: text.trim().to_owned(), ..Self::default() })
    }
}

impl Asked for u32 {
    fn from_text(text: &str) -> std::result::Result<Self, String> {
        text.trim().parse().map_err(|_| "a whole number is expected".to_owned())
    }
}

impl Told for u32 {
    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// A line for each figure: its series, its value, and by how much it rises.
impl Told for Sample {
    fn to_text(&self) -> String {
        let line = |metric: &Metric| match metric.rate {
            Some(rate) => format!("{} {} ({rate:.2} a second)", metric.series(), metric.value),
            None => format!("{} {}", metric.series(), metric.value),
        };
        self.metrics.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Told for HistoryAnswer {
    fn to_text(&self) -> String {
        let lines = self.series.iter().flat_map(|of| {
            of.points.iter().map(|point| format!("{} {} {}", of.series, point.at_us, point.mean))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Told for ThresholdInfo {
    fn to_text(&self) -> String {
        self.threshold.clone()
    }
}

impl Told for Alert {
    fn to_text(&self) -> String {
        format!("{}: {}", self.severity, self.text)
    }
}

impl Told for Alerts {
    fn to_text(&self) -> String {
        self.raised.to_text()
    }
}

impl Told for Health {
    fn to_text(&self) -> String {
        let reasons = self.reasons.iter().map(|reason| format!("\n{reason}"));
        format!("{}{}", self.status, reasons.collect::<String>())
    }
}

impl Told for Topics {
    fn to_text(&self) -> String {
        let line = |of: &AddressFigures| format!("{} {} {}", of.address, of.messages, of.bytes);
        self.addresses.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

const fn endpoint<Q: postcard_schema::Schema, A: postcard_schema::Schema>(
    address: &'static str,
) -> RowHead<'static> {
    let schema = SchemaPair { request: TypeSchema::of::<Q>(), response: TypeSchema::of::<A>() };
    RowHead::new(RowKind::Endpoint, Address::literal(address), Access::Permission, schema)
}

const fn publishes<T: Topic>() -> RowHead<'static> {
    RowHead::new(RowKind::Publishes, T::ADDRESS, T::ACCESS, T::SCHEMA)
}

const ROWS: &[RowHead<'static>] = &[
    endpoint::<String, Sample>("monitoring/metrics"),
    endpoint::<HistoryRequest, HistoryAnswer>("monitoring/history"),
    endpoint::<(), Vec<ThresholdInfo>>("monitoring/thresholds"),
    endpoint::<String, ThresholdInfo>("monitoring/set-threshold"),
    endpoint::<String, u32>("monitoring/remove-threshold"),
    endpoint::<(), Alerts>("monitoring/alerts"),
    endpoint::<(), Health>("monitoring/health"),
    endpoint::<(), String>("monitoring/prometheus"),
    endpoint::<(), Topics>("monitoring/topics"),
    endpoint::<u32, u32>("monitoring/set-rate"),
    publishes::<SampleTopic>(),
    publishes::<AlertTopic>(),
    publishes::<HealthTopic>(),
];

/// Longest time between two published samples.
const LONGEST_RATE: Duration = Duration::from_secs(3_600);
