//! `org.visorbus.Monitoring1`: what is measured, what is watched, and how all is.

use std::time::Duration;

use dbus::arg::messageitem::MessageItem;
use visorbus_core::dispatch::Caller;
use visorbus_hub::{Error, Result};
use visorbus_services::Listening;
use visorbus_services::monitoring::{
    Alert, AlertState, HistoryRequest, Metric, MonitoringEvent, MonitoringManager, SeriesHistory,
};

use super::value::{array, dict};
use crate::interface::{DBusInterface, DBusMethod, DBusProperty, DBusSignal};
use crate::listener::DBusDoor;

/// The monitoring on a bus. Everything needs a permission for its address, such as
/// `request:org.visorbus.monitoring1/get-metrics`, or `request:org.visorbus.monitoring1/**` for all of it.
///
/// | member | arguments | answer |
/// |---|---|---|
/// | `GetMetrics` | `s`: a figure, a beginning such as `peer.*`, or nothing for all | `a{sd}`: each figure's value |
/// | `GetRates` | the same | `a{sd}`: by how much each counter rises in a second |
/// | `GetHistory` | `suu`: a figure, seconds back (0: all), at most so many points (0: 60) | `a(sa(td))u`: µs since 1970 and the mean; how many figures more there are |
/// | `ListThresholds` | | `a(ssss)`: text, figure, severity, state |
/// | `SetThreshold` | `s`: its text | `s`: what may be wrong with it |
/// | `RemoveThreshold` | `s`: its text, or what it watches | `u`: how many there were |
/// | `ListAlerts` | | `a(ssdts)u`: severity, figure, value, since when in µs since 1970, a sentence; how many more there are |
/// | `Prometheus` | | `s`: OpenMetrics text |
///
/// The signal `Alert` (`bssds`: whether it has come, severity, figure, value, a sentence) tells what is to be worried
/// about, and what no longer; the properties `Health` (`ok`, `degraded`, `failing`), `HealthReasons`, `Alerts` (how many are
/// raised) and `Interval` (milliseconds from one measurement to the next) tell of their changes.
#[derive(Debug)]
pub struct MonitoringInterface {
    manager: MonitoringManager,
}

impl MonitoringInterface {
    /// The interface over `manager`. By itself it tells of nothing; [`MonitoringInterface::register`] has it do that too.
    pub const fn new(manager: MonitoringManager) -> Self {
        Self { manager }
    }

    /// Shows the interface at `door`, and tells there of alerts and of changes of the properties as long as the answer is kept,
    /// which keeps the manager too.
    ///
    /// # Errors
    /// As [`DBusDoor::register_interface`].
    pub fn register(manager: &MonitoringManager, door: &DBusDoor) -> Result<Listening> {
        door.register_interface(Box::new(Self::new(manager.clone())))?;
        let (door, measured) = (door.clone(), manager.clone());
        Ok(manager.on_event(move |event| {
            // While there is no bus, nobody is there to be told.
            if let Err(error) = tell(&door, &measured, event) {
                tracing::debug!("nobody on the bus was told of what is measured: {error}");
            }
        }))
    }

    fn metrics(&self, which: &str, value: impl Fn(&Metric) -> Option<f64>) -> Result<MessageItem> {
        let sample = self.manager.metrics(which)?;
        let entries = sample
            .metrics
            .iter()
            .filter_map(|metric| Some((metric.series(), MessageItem::Double(value(metric)?))));
        dict(entries, "d")
    }

    fn history(&self, metric: &str, seconds: u32, points: u32) -> Result<Vec<MessageItem>> {
        let asked = HistoryRequest { metric: metric.to_owned(), seconds, points };
        let answer = self.manager.history_for(&asked)?;
        let all = answer.series.iter().map(history_item).collect::<Result<Vec<_>>>()?;
        Ok(vec![array(all, "a(sa(td))")?, MessageItem::UInt32(answer.left_out)])
    }

    fn thresholds(&self) -> Result<MessageItem> {
        let all = self.manager.thresholds().into_iter().map(|info| {
            let state = info.state.as_str().to_owned();
            let severity = info.severity.to_string();
            let texts = [info.threshold, info.metric, severity, state];
            MessageItem::Struct(texts.map(MessageItem::Str).to_vec())
        });
        array(all.collect(), "a(ssss)")
    }

    fn alerts(&self) -> Result<Vec<MessageItem>> {
        let report = self.manager.alert_report();
        let all = report.raised.into_iter().map(|alert| {
            MessageItem::Struct(vec![
                MessageItem::Str(alert.severity.to_string()),
                MessageItem::Str(alert.metric),
                MessageItem::Double(alert.value),
                MessageItem::UInt64(alert.since_us),
                MessageItem::Str(alert.text),
            ])
        });
        Ok(vec![array(all.collect(), "a(ssdts)")?, MessageItem::UInt32(report.left_out)])
    }
}

impl DBusInterface for MonitoringInterface {
    fn name(&self) -> &str {
        NAME
    }

    fn methods(&self) -> Vec<DBusMethod> {
        METHODS.map(|(name, takes, gives, does)| DBusMethod::authenticated(name, takes, gives, does)).to_vec()
    }

    fn signals(&self) -> Vec<DBusSignal> {
        let tells =
            "Something is to be worried about (true), or no longer: severity, figure, value, a sentence.";
        vec![DBusSignal::authenticated("Alert", "bssds", tells)]
    }

    fn properties(&self) -> Vec<DBusProperty> {
        PROPERTIES.map(|(name, is, tells)| DBusProperty::read_only(name, is, tells)).to_vec()
    }

    fn handle_method_call(
        &self,
        method_name: &str,
        args: &[MessageItem],
        _caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>> {
        use MessageItem::{Str, UInt32};
        let answer = match (method_name, args) {
            ("GetMetrics", [Str(which)]) => self.metrics(which, |metric| Some(metric.value))?,
            ("GetRates", [Str(which)]) => self.metrics(which, |metric| metric.rate)?,
            ("GetHistory", [Str(metric), UInt32(seconds), UInt32(points)]) => {
                return self.history(metric, *seconds, *points);
            }
            ("ListThresholds", []) => self.thresholds()?,
            ("SetThreshold", [Str(text)]) => Str(self.manager.watch(text)?.hint),
            ("RemoveThreshold", [Str(which)]) => number(self.manager.remove_threshold(which)?),
            ("ListAlerts", []) => return self.alerts(),
            ("Prometheus", []) => Str(self.manager.prometheus()),
            _ => return Err(unknown(method_name)),
        };
        Ok(vec![answer])
    }

    fn get_property(&self, property_name: &str, _caller: &Caller<'_>) -> Result<MessageItem> {
        match property_name {
            "Health" => Ok(MessageItem::Str(self.manager.health().status.to_string())),
            "HealthReasons" => texts(&self.manager.health().reasons),
            "Alerts" => Ok(number(self.manager.alerts().len())),
            "Interval" => Ok(milliseconds(self.manager.config().interval)),
            _ => Err(unknown(property_name)),
        }
    }

    fn set_property(&self, property_name: &str, _value: MessageItem, _caller: &Caller<'_>) -> Result<()> {
        Err(Error::Message(format!("the property '{property_name}' can only be read")))
    }
}

/// Tells of what happened.
fn tell(door: &DBusDoor, manager: &MonitoringManager, event: &MonitoringEvent) -> Result<()> {
    match event {
        MonitoringEvent::Alert(alert) => {
            door.emit_signal(NAME, "Alert", &alert_arguments(alert))?;
            door.property_changed(NAME, "Alerts", &number(manager.alerts().len()))
        }
        MonitoringEvent::HealthChanged(health) => {
            door.property_changed(NAME, "Health", &MessageItem::Str(health.status.to_string()))?;
            door.property_changed(NAME, "HealthReasons", &texts(&health.reasons)?)
        }
        MonitoringEvent::IntervalChanged(interval) => {
            door.property_changed(NAME, "Interval", &milliseconds(*interval))
        }
        MonitoringEvent::Sample(_) => Ok(()),
    }
}

fn alert_arguments(alert: &Alert) -> [MessageItem; 5] {
    [
        MessageItem::Bool(alert.state == AlertState::Raised),
        MessageItem::Str(alert.severity.to_string()),
        MessageItem::Str(alert.metric.clone()),
        MessageItem::Double(alert.value),
        MessageItem::Str(alert.text.clone()),
    ]
}

fn history_item(of: &SeriesHistory) -> Result<MessageItem> {
    let points = of.points.iter().map(|point| {
        MessageItem::Struct(vec![MessageItem::UInt64(point.at_us), MessageItem::Double(point.mean)])
    });
    Ok(MessageItem::Struct(vec![MessageItem::Str(of.series.clone()), array(points.collect(), "a(td)")?]))
}

fn texts(all: &[String]) -> Result<MessageItem> {
    array(all.iter().cloned().map(MessageItem::Str).collect(), "as")
}

fn milliseconds(time: Duration) -> MessageItem {
    MessageItem::UInt32(u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
}

fn number(count: usize) -> MessageItem {
    MessageItem::UInt32(u32::try_from(count).unwrap_or(u32::MAX))
}

fn unknown(member: &str) -> Error {
    Error::Message(format!("'{NAME}' has no '{member}' that takes this"))
}

const NAME: &str = "org.visorbus.Monitoring1";

/// Name, arguments, answer, what it does.
const METHODS: [(&str, &str, &str, &str); 8] = [
    (
        "GetMetrics",
        "s",
        "a{sd}",
        "The values of a figure, of all that begin like 'peer.*', or of all there are.",
    ),
    ("GetRates", "s", "a{sd}", "By how much each of these counters rises in a second."),
    (
        "GetHistory",
        "suu",
        "a(sa(td))u",
        "How a figure went: so many seconds back, in at most so many points; how many figures more there are.",
    ),
    ("ListThresholds", "", "a(ssss)", "What is watched: text, figure, severity, state."),
    ("SetThreshold", "s", "s", "Watches one more, such as 'machine.cpu_percent > 90 for 10s: warning'."),
    ("RemoveThreshold", "s", "u", "Watches it no longer: its text, or what it watches."),
    (
        "ListAlerts",
        "",
        "a(ssdts)u",
        "What is to be worried about: severity, figure, value, since when, a sentence; how many more there are.",
    ),
    ("Prometheus", "", "s", "All figures as OpenMetrics text."),
];

/// Name, type, what it is.
const PROPERTIES: [(&str, &str, &str); 4] = [
    ("Health", "s", "How all is: 'ok', 'degraded' or 'failing'."),
    ("HealthReasons", "as", "Why it is not ok, the worst first."),
    ("Alerts", "u", "How many alerts are raised."),
    ("Interval", "u", "Milliseconds from one measurement to the next."),
];
