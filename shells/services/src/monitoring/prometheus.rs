//! All figures as OpenMetrics text, version 1.0 (prometheus.io/docs/specs/om/open_metrics_spec).

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write};

use visorbus_hub::statistics::{Histogram, HubStatistics};

use crate::monitoring::alert::{Health, HealthStatus};
use crate::monitoring::catalogue::{catalogue, describe};
use crate::monitoring::metric::{Escaped, Labels, Metric, MetricKind, Sample};

/// The text of what was measured.
pub(crate) fn render(sample: &Sample, statistics: Option<&HubStatistics>, health: &Health) -> String {
    let mut text = String::with_capacity(256 + 96 * sample.metrics.len());
    // Nothing that is written to a text fails.
    let _ = write(sample, statistics, health, &mut text);
    text
}

fn write(
    sample: &Sample,
    statistics: Option<&HubStatistics>,
    health: &Health,
    out: &mut String,
) -> fmt::Result {
    write_health(health, out)?;
    for family in families(sample).values() {
        family.write(out)?;
    }
    if let Some(all) = statistics {
        let name = "visorbus_hub_peer_latency_seconds";
        write_histogram(name, "From a request to the answer of a peer.", &all.peer_latency, out)?;
        let name = "visorbus_hub_handler_latency_seconds";
        write_histogram(name, "From a request to the answer of a handler.", &all.handler_latency, out)?;
        let name = "visorbus_hub_queue_time_seconds";
        write_histogram(name, "How long what was not sent at once waited.", &all.queue_time, out)?;
    }
    out.write_str("# EOF\n")
}

fn write_health(health: &Health, out: &mut String) -> fmt::Result {
    let name = "visorbus_health_status";
    write_head(name, "gauge", "Which of the three is 1: how all is.", out)?;
    for status in [HealthStatus::Ok, HealthStatus::Degraded, HealthStatus::Failing] {
        writeln!(out, "{name}{{status=\"{status}\"}} {}", u8::from(health.status == status))?;
    }
    Ok(())
}

/// The figures of one name.
struct Family<'a> {
    /// Its name without the `_total` of a counter.
    name: String,
    kind: MetricKind,
    help: &'a str,
    factor: f64,
    metrics: Vec<&'a Metric>,
}

/// By their place in the catalogue; those that are not in it after it.
fn families(sample: &Sample) -> BTreeMap<(usize, String), Family<'_>> {
    let mut families = BTreeMap::<(usize, String), Family<'_>>::new();
    for metric in &sample.metrics {
        let Some((place, family)) = family(metric) else { continue };
        let key = (place, family.name.clone());
        let known = families.entry(key).or_insert(family);
        if known.kind == metric.kind {
            known.metrics.push(metric);
        }
    }
    families
}

fn family(metric: &Metric) -> Option<(usize, Family<'_>)> {
    let mut family = Family {
        name: format!("visorbus_{}", metric.name.replace('.', "_")),
        kind: metric.kind,
        help: "",
        factor: 1.0,
        metrics: Vec::new(),
    };
    let Some(described) = describe(&metric.name) else {
        // What another name is made to by the rule above stays that one's.
        let is_taken = |text: &str| text.trim_end_matches("_total") == family.name.trim_end_matches("_total");
        let free = !catalogue().iter().any(|other| is_taken(other.prometheus));
        family.name = family.name.trim_end_matches("_total").to_owned();
        return free.then_some((usize::MAX, family));
    };
    let place = catalogue().iter().position(|other| std::ptr::eq(other, described))?;
    family.name = described.prometheus.trim_end_matches("_total").to_owned();
    family.help = described.help;
    family.factor = described.factor;
    (!family.name.is_empty()).then_some((place, family))
}

impl Family<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        let (kind, end) = match self.kind {
            MetricKind::Gauge => ("gauge", ""),
            MetricKind::Counter => ("counter", "_total"),
        };
        write_head(&self.name, kind, self.help, out)?;
        let mut seen = HashSet::new();
        for metric in &self.metrics {
            // Two names may have become one.
            if seen.insert(&metric.labels) {
                let value = metric.value * self.factor;
                writeln!(out, "{}{end}{} {value}", self.name, Labels(&metric.labels))?;
            }
        }
        Ok(())
    }
}

fn write_head(name: &str, kind: &str, help: &str, out: &mut String) -> fmt::Result {
    writeln!(out, "# TYPE {name} {kind}")?;
    let unit = ["seconds", "bytes", "ratio"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
    unit.map_or(Ok(()), |unit| writeln!(out, "# UNIT {name} {unit}"))?;
    if help.is_empty() { Ok(()) } else { writeln!(out, "# HELP {name} {}", Escaped(help)) }
}

fn write_histogram(name: &str, help: &str, histogram: &Histogram, out: &mut String) -> fmt::Result {
    write_head(name, "histogram", help, out)?;
    let mut below = 0;
    for (index, count) in histogram.buckets.iter().enumerate() {
        below += count;
        if let Some(upper) = Histogram::upper_us(index) {
            writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", upper as f64 / 1e6)?;
        }
    }
    // What is counted as a whole may be ahead of its parts, and must not be behind.
    let all = below.max(histogram.count);
    writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {all}")?;
    writeln!(out, "{name}_count {all}")?;
    writeln!(out, "{name}_sum {}", histogram.sum_us as f64 / 1e6)
}

#[cfg(test)]
mod tests;
