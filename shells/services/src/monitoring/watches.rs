//! The thresholds, and what is over which: what is raised, what is over, what is told of it. No clock is inside.

use std::collections::HashMap;
use std::time::Duration;

use crate::monitoring::alert::{Alert, AlertState, Health, HealthStatus};
use crate::monitoring::catalogue::describe;
use crate::monitoring::history::Time;
use crate::monitoring::metric::Metric;
use crate::monitoring::threshold::{Severity, Span, Threshold};

/// The thresholds and what is over them.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watched: Vec<Watched>,
    /// What was said of late, the oldest first.
    recent: Vec<Alert>,
    flood: Flood,
}

impl Watches {
    /// Watches `thresholds` from now on: what is over one that stays stays so, what was over one that goes is over.
    pub(crate) fn set(&mut self, thresholds: &[Threshold], time: Time) -> Vec<Alert> {
        let mut before = std::mem::take(&mut self.watched);
        for threshold in thresholds.iter().take(MOST_THRESHOLDS) {
            let found = before.iter().position(|watched| watched.threshold == *threshold);
            let new = || Watched { threshold: threshold.clone(), series: HashMap::new() };
            self.watched.push(found.map_or_else(new, |at| before.swap_remove(at)));
        }
        let over = before.into_iter().flat_map(|watched| {
            let Watched { threshold, series, .. } = watched;
            let raised = series.into_iter().filter_map(|(series, watch)| Some((series, watch.raised()?)));
            let ended = raised.map(|(series, raised)| {
                raised.over(&series, &threshold, time, "the threshold was taken away")
            });
            ended.collect::<Vec<_>>()
        });
        let over = over.collect();
        self.told(over, time)
    }

    /// Holds `metrics`, with their series' texts, against all thresholds; what is to be told.
    pub(crate) fn take(&mut self, metrics: &[Metric], series: &[String], time: Time) -> Vec<Alert> {
        let mut room = MOST_WATCHES.saturating_sub(self.watched.iter().map(|w| w.series.len()).sum());
        let alerts =
            self.watched.iter_mut().flat_map(|watched| watched.take(metrics, series, time, &mut room));
        let alerts = alerts.collect();
        self.told(alerts, time)
    }

    /// What is raised now, the worst first and then what came first.
    pub(crate) fn raised(&self) -> Vec<Alert> {
        let mut raised: Vec<Alert> = self
            .watched
            .iter()
            .flat_map(|watched| {
                let all = watched
                    .series
                    .iter()
                    .filter_map(|(series, watch)| Some((series, watch.clone().raised()?)));
                all.map(|(series, raised)| raised.alert(series, &watched.threshold))
            })
            .collect();
        raised.sort_by(|a, b| (b.severity, a.since_us, &a.metric).cmp(&(a.severity, b.since_us, &b.metric)));
        raised
    }

    /// What came and went of late, the oldest first.
    pub(crate) fn recent(&self) -> &[Alert] {
        &self.recent
    }

    /// How all is, by what is raised; `before` is how it was.
    pub(crate) fn health(&self, before: &Health, at_us: u64) -> Health {
        let raised = self.raised();
        let status = raised.first().map_or(HealthStatus::Ok, |worst| match worst.severity {
            Severity::Info => HealthStatus::Ok,
            Severity::Warning => HealthStatus::Degraded,
            Severity::Critical => HealthStatus::Failing,
        });
        let serious = raised.iter().filter(|alert| alert.severity > Severity::Info);
        let mut reasons: Vec<String> =
            serious.clone().take(MOST_REASONS).map(|alert| alert.text.clone()).collect();
        let more = serious.count().saturating_sub(MOST_REASONS);
        if more > 0 {
            reasons.push(format!("and {more} more"));
        }
        let since_us = if status == before.status { before.since_us } else { at_us };
        Health { status, reasons, since_us }
    }

    /// Each threshold, with how many figures are over it: for a while, and for long enough.
    pub(crate) fn thresholds(&self) -> impl Iterator<Item = (&Threshold, Counts)> {
        self.watched.iter().map(|watched| {
            let raised = watched.series.values().filter(|watch| matches!(watch, Watch::Raised(_))).count();
            let pending = watched.series.len() - raised;
            (&watched.threshold, Counts { pending, raised })
        })
    }

    /// Keeps `alerts` as the most recent ones; those of them that are to be told, with one more that speaks for the others.
    fn told(&mut self, alerts: Vec<Alert>, time: Time) -> Vec<Alert> {
        let told = self.flood.admit(&alerts, time);
        self.recent.extend(alerts);
        let old = self.recent.len().saturating_sub(MOST_RECENT);
        self.recent.drain(..old);
        told
    }
}

/// How many figures are over a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pending: usize,
    pub(crate) raised: usize,
}

/// A threshold, and those figures that are over it.
#[derive(Debug)]
struct Watched {
    threshold: Threshold,
    series: HashMap<String, Watch>,
}

impl Watched {
    fn take(&mut self, metrics: &[Metric], series: &[String], time: Time, room: &mut usize) -> Vec<Alert> {
        let Self { threshold, series: watches } = self;
        let mut alerts = Vec::new();
        let selected = metrics.iter().zip(series).filter(|(metric, _)| threshold.metric.selects(metric));
        let mut seen = Vec::new();
        for (metric, series) in selected {
            let known = watches.get_mut(series);
            let Some(value) = threshold.metric.value(metric) else {
                // A rate that is not known yet says nothing.
                seen.extend(known.map(|_| series.as_str()));
                continue;
            };
            match known {
                Some(watch) => {
                    seen.push(series.as_str());
                    alerts.extend(watch.take(series, threshold, Some(value), time));
                }
                None if threshold.is_over(value) && *room > 0 => {
                    *room -= 1;
                    seen.push(series.as_str());
                    let mut watch = Watch::Pending(time);
                    alerts.extend(watch.take(series, threshold, Some(value), time));
                    watches.insert(series.clone(), watch);
                }
                None => {}
            }
        }
        seen.sort_unstable();
        for (series, watch) in
            watches.iter_mut().filter(|(series, _)| seen.binary_search(&series.as_str()).is_err())
        {
            alerts.extend(watch.take(series, threshold, None, time));
        }
        watches.retain(|_, watch| !matches!(watch, Watch::Over));
        alerts
    }
}

/// One figure that is over a threshold.
#[derive(Debug, Clone)]
enum Watch {
    /// It is over it, since then.
    Pending(Time),
    /// It was for long enough.
    Raised(Raised),
    /// It no longer is.
    Over,
}

impl Watch {
    /// Takes the figure's next value, `None` where it is gone; what has changed by it.
    fn take(&mut self, series: &str, threshold: &Threshold, value: Option<f64>, time: Time) -> Option<Alert> {
        match self {
            Self::Pending(since) => match value.filter(|value| threshold.is_over(*value)) {
                None => {
                    *self = Self::Over;
                    None
                }
                Some(value) if time.now.saturating_sub(since.now) >= threshold.hold => {
                    let raised =
                        Raised { since: *since, at_us: time.at_us, first: value, value, clear_since: None };
                    let alert = raised.alert(series, threshold);
                    *self = Self::Raised(raised);
                    Some(alert)
                }
                Some(_) => None,
            },
            Self::Raised(raised) => {
                if raised.stays(threshold, value, time.now) {
                    return None;
                }
                let why = if value.is_none() { "it is gone" } else { "" };
                let alert = raised.over(series, threshold, time, why);
                *self = Self::Over;
                Some(alert)
            }
            Self::Over => None,
        }
    }

    fn raised(self) -> Option<Raised> {
        match self {
            Self::Raised(raised) => Some(raised),
            Self::Pending(_) | Self::Over => None,
        }
    }
}

/// A figure that is to be worried about.
#[derive(Debug, Clone)]
struct Raised {
    since: Time,
    at_us: u64,
    /// What it was when it was raised.
    first: f64,
    /// What it is.
    value: f64,
    /// Since when it would be over, if that lasts.
    clear_since: Option<Duration>,
}

impl Raised {
    /// Whether it is still to be worried about, with this next value.
    fn stays(&mut self, threshold: &Threshold, value: Option<f64>, now: Duration) -> bool {
        self.value = value.unwrap_or(self.value);
        if !value.is_none_or(|value| threshold.is_clear(value)) {
            self.clear_since = None;
            return true;
        }
        let since = *self.clear_since.get_or_insert(now);
        now.saturating_sub(since) < threshold.clear_hold
    }

    fn alert(&self, series: &str, threshold: &Threshold) -> Alert {
        let hold = match threshold.hold {
            hold if hold.is_zero() => String::new(),
            hold => format!(" for {}", Span(hold)),
        };
        let is = show(threshold, self.first);
        let limit = show(threshold, threshold.limit);
        let (what, comparison) = (what(series, threshold), threshold.comparison);
        Alert {
            metric: series.to_owned(),
            threshold: threshold.to_string(),
            severity: threshold.severity,
            state: AlertState::Raised,
            value: self.value,
            since_us: self.since.at_us,
            at_us: self.at_us,
            text: format!("{what} was {is}: {comparison} {limit}{hold}"),
        }
    }

    /// That it is over, for the reason `why`, if there is one beside the figure itself.
    fn over(&self, series: &str, threshold: &Threshold, time: Time, why: &str) -> Alert {
        let lasted = Span(Duration::from_secs(time.now.saturating_sub(self.since.now).as_secs()));
        let is = match why {
            "" => format!("is {} again", show(threshold, self.value)),
            why => format!("is no longer watched: {why}"),
        };
        Alert {
            state: AlertState::Cleared,
            at_us: time.at_us,
            text: format!("{} {is}, after {lasted}", what(series, threshold)),
            ..self.alert(series, threshold)
        }
    }
}

/// How much was told in the second that began at `began`, so that nobody is flooded.
#[derive(Debug, Default)]
struct Flood {
    began: Duration,
    told: usize,
}

impl Flood {
    fn admit(&mut self, alerts: &[Alert], time: Time) -> Vec<Alert> {
        if time.now.saturating_sub(self.began) >= Duration::from_secs(1) {
            *self = Self { began: time.now, told: 0 };
        }
        let room = MOST_TOLD.saturating_sub(self.told);
        self.told += alerts.len();
        let mut told: Vec<Alert> = alerts.iter().take(room).cloned().collect();
        let untold = &alerts[told.len()..];
        if let Some(worst) = untold.iter().max_by_key(|alert| alert.severity).filter(|_| room > 0) {
            let text = format!("{} more came or went at once, such as: {}", untold.len(), worst.text);
            told.push(Alert { text, ..worst.clone() });
        }
        told
    }
}

fn what(series: &str, threshold: &Threshold) -> String {
    if threshold.metric.rate { format!("the rate of {series}") } else { series.to_owned() }
}

/// A value with its unit.
fn show(threshold: &Threshold, value: f64) -> String {
    let unit = match describe(&threshold.metric.name).map_or("", |descriptor| descriptor.unit) {
        "percent" => " %",
        "bytes" => " bytes",
        "seconds" => " s",
        "microseconds" => " us",
        _ => "",
    };
    let value = (value * 100.0).round() / 100.0;
    if threshold.metric.rate { format!("{value}{unit} a second") } else { format!("{value}{unit}") }
}

/// Most thresholds that are watched at once.
pub const MOST_THRESHOLDS: usize = 64;
/// Most figures that are over thresholds; of what is beside it is not known.
const MOST_WATCHES: usize = 1024;
const MOST_RECENT: usize = 256;
const MOST_REASONS: usize = 8;
/// So many alerts are told in a second; what is beside is counted.
const MOST_TOLD: usize = 16;

#[cfg(test)]
mod tests;
