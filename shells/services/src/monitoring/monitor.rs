//! All that is known of what was measured: takes one set of figures after another. No clock and no thread is inside.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use visorbus_hub::statistics::HubStatistics;

use crate::monitoring::alert::{Alert, Health, HealthStatus};
use crate::monitoring::history::{Bounds, History, Time, per_second};
use crate::monitoring::manager::{MonitoringConfig, MonitoringEvent};
use crate::monitoring::metric::{Metric, MetricKind, Sample};
use crate::monitoring::selector::{is_label_name, is_metric_name};
use crate::monitoring::statistics::{float, hub_metrics};
use crate::monitoring::threshold::Threshold;
use crate::monitoring::watches::Watches;

/// What is known.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) config: MonitoringConfig,
    pub(crate) history: History,
    pub(crate) watches: Watches,
    pub(crate) sample: Arc<Sample>,
    pub(crate) statistics: Option<Arc<HubStatistics>>,
    health: Health,
    /// When it last took figures.
    time: Option<Time>,
    /// Since when they are expected at this interval.
    expected_since: Duration,
    /// What the counters were then.
    counters: HashMap<String, f64>,
}

impl Monitor {
    /// Nothing is known yet.
    pub(crate) fn new(config: MonitoringConfig, time: Time) -> Self {
        let mut watches = Watches::default();
        watches.set(&config.thresholds, time);
        Self {
            config,
            history: History::default(),
            watches,
            sample: Arc::default(),
            statistics: None,
            health: Health { since_us: time.at_us, ..Health::default() },
            time: None,
            expected_since: time.now,
            counters: HashMap::new(),
        }
    }

    /// Takes what was measured at `time`; what happened by it, the sample first.
    pub(crate) fn take(
        &mut self,
        statistics: Option<HubStatistics>,
        others: Vec<Metric>,
        time: Time,
    ) -> Vec<MonitoringEvent> {
        let mut metrics = self.own_metrics();
        metrics.extend(statistics.iter().flat_map(|now| hub_metrics(now, self.statistics.as_deref())));
        metrics.extend(others);
        self.statistics = statistics.map(Arc::new);
        let (mut metrics, series, left_out) = bounded(metrics, self.config.max_series);
        self.rate(&mut metrics, &series, time);
        let bounds = Bounds { length: self.config.history, bytes: self.config.history_bytes };
        self.history.push(&metrics, &series, time, bounds);
        let alerts = self.watches.take(&metrics, &series, time);
        self.sample = Arc::new(Sample { at_us: time.at_us, metrics, left_out });
        self.time = Some(time);
        let mut events = vec![MonitoringEvent::Sample(Arc::clone(&self.sample))];
        self.push_alerts(alerts, time, &mut events);
        events
    }

    /// Watches `thresholds` from now on; what is over by that.
    pub(crate) fn set_thresholds(&mut self, thresholds: &[Threshold], time: Time) -> Vec<MonitoringEvent> {
        if thresholds == self.config.thresholds {
            return Vec::new();
        }
        let alerts = self.watches.set(thresholds, time);
        self.config.thresholds = thresholds.to_vec();
        let mut events = Vec::new();
        self.push_alerts(alerts, time, &mut events);
        events
    }

    /// Goes on with another configuration from `time` on.
    pub(crate) fn configure(&mut self, config: MonitoringConfig, time: Time) {
        if config.interval != self.config.interval {
            self.expected_since = time.now;
        }
        self.config = config;
    }

    /// How all is at `time`: what is known, unless that is too old to say anything. What was measured at a longer interval is
    /// not too old as soon as a shorter one holds.
    pub(crate) fn health(&self, time: Time) -> Health {
        let age = self.time.map_or(Duration::ZERO, |last| time.now.saturating_sub(last.now));
        let waited = age.min(time.now.saturating_sub(self.expected_since));
        if waited <= (3 * self.config.interval).max(LEAST_SILENCE) {
            return self.health.clone();
        }
        let reason = format!("nothing was measured for {} s: the hub does not answer", age.as_secs());
        let mut reasons = vec![reason];
        reasons.extend(self.health.reasons.iter().cloned());
        let since_us = self.time.map_or(time.at_us, |last| last.at_us);
        Health { status: HealthStatus::Failing, reasons, since_us }
    }

    fn push_alerts(&mut self, alerts: Vec<Alert>, time: Time, events: &mut Vec<MonitoringEvent>) {
        events.extend(alerts.into_iter().map(MonitoringEvent::Alert));
        let health = self.watches.health(&self.health, time.at_us);
        if health != self.health {
            self.health = health.clone();
            events.push(MonitoringEvent::HealthChanged(health));
        }
    }

    /// The figures of the measuring itself, as they were at the sample before.
    fn own_metrics(&self) -> Vec<Metric> {
        vec![
            Metric::gauge("monitoring.series", float(self.sample.metrics.len() as u64)),
            Metric::gauge("monitoring.left_out", self.sample.left_out.into()),
            Metric::gauge("monitoring.history_bytes", float(self.history.bytes() as u64)),
        ]
    }

    /// Says by how much the counters rise in a second.
    fn rate(&mut self, metrics: &mut [Metric], series: &[String], time: Time) {
        let passed = self.time.map(|last| time.now.saturating_sub(last.now));
        let mut counters = HashMap::with_capacity(self.counters.len());
        for (metric, series) in metrics.iter_mut().zip(series) {
            if metric.kind != MetricKind::Counter {
                continue;
            }
            let before = self.counters.remove_entry(series);
            let difference = before.as_ref().map(|(_, before)| metric.value - before);
            metric.rate = difference.zip(passed).and_then(|(rise, passed)| per_second(rise, passed));
            counters.insert(before.map_or_else(|| series.clone(), |(series, _)| series), metric.value);
        }
        self.counters = counters;
    }
}

/// Those of `metrics` that are figures with proper names, each once, at most `most`; their series' texts; and how many
/// there are beside.
fn bounded(metrics: Vec<Metric>, most: usize) -> (Vec<Metric>, Vec<String>, u32) {
    let all = metrics.len();
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    let mut texts = Vec::new();
    for metric in metrics {
        if kept.len() >= most || !is_proper(&metric) {
            continue;
        }
        let series = metric.series();
        if seen.insert(series.clone()) {
            kept.push(metric);
            texts.push(series);
        }
    }
    let left_out = u32::try_from(all - kept.len()).unwrap_or(u32::MAX);
    (kept, texts, left_out)
}

fn is_proper(metric: &Metric) -> bool {
    let labels = &metric.labels;
    metric.value.is_finite()
        && is_metric_name(&metric.name)
        && labels.iter().all(|label| is_label_name(&label.name))
        && labels.windows(2).all(|two| two[0].name < two[1].name)
}

/// For so long, at least, nothing may be measured.
const LEAST_SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
