//! `visorbus monitor`: what the hub measures, and what is to be worried about.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use visorbus_client::Delivery;
use visorbus_core::ErrorKind;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};
use visorbus_services::monitoring::{
    Alert, AlertState, Alerts, Health, HealthStatus, HistoryAnswer, HistoryRequest, Metric, Sample,
    SeriesHistory, Severity, ThresholdInfo, describe,
};

use crate::args::{self, MonitorAction};
use crate::client::Client;
use crate::output::{FAILED, GREEN, RED, paint, print};
use crate::table;

/// Does what `visorbus monitor` says.
pub(crate) fn run(args: &args::Monitor, json: bool) -> Result<ExitCode> {
    let done = match &args.action {
        None => show(&args.client, json),
        Some(MonitorAction::Show(args)) => show(&args.client, json),
        Some(MonitorAction::Metrics(args)) => metrics(args, json),
        Some(MonitorAction::History(args)) => history(args, json),
        Some(MonitorAction::Thresholds(args)) => thresholds(args, json),
        Some(MonitorAction::Alerts(args)) => alerts(args, json),
        Some(MonitorAction::Health(args)) => return health(args, json),
        Some(MonitorAction::Watch(args)) => watch(args, json),
        Some(MonitorAction::Prometheus(args)) => prometheus(args, json),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Asks the component `monitoring` for something.
pub(crate) fn ask<A: DeserializeOwned>(client: &Client, what: &str, request: OwnedPayload) -> Result<A> {
    let address = format!("monitoring/{what}");
    let answer = client.inner.send_request(OwnedMessage::request(address, request), None);
    answer.map_err(without_monitoring)?.payload.parse()
}

fn show(args: &args::Client, json: bool) -> Result<()> {
    let client = Client::connect(args)?;
    let health: Health = ask(&client, "health", OwnedPayload::Empty)?;
    let alerts: Alerts = ask(&client, "alerts", OwnedPayload::Empty)?;
    let sample: Sample = ask(&client, "metrics", OwnedPayload::Empty)?;
    let whole = |metric: &&Metric| !["peer.", "address."].iter().any(|of| metric.name.starts_with(of));
    let sample = Sample { metrics: sample.metrics.iter().filter(whole).cloned().collect(), ..sample };
    if json {
        return print_json(&serde_json::json!({ "health": health, "alerts": alerts, "sample": sample }));
    }
    let mut parts = vec![show_health(&health)];
    if !alerts.raised.is_empty() {
        parts.push(show_alerts(&alerts.raised));
    }
    parts.push(show_metrics(&sample));
    print(&parts.join("\n\n"))
}

fn metrics(args: &args::MonitorMetrics, json: bool) -> Result<()> {
    let client = Client::connect(&args.client)?;
    let sample: Sample = ask(&client, "metrics", OwnedPayload::postcard(&args.which)?)?;
    if json { print_json(&sample) } else { print(&show_metrics(&sample)) }
}

fn history(args: &args::MonitorHistory, json: bool) -> Result<()> {
    let client = Client::connect(&args.client)?;
    let seconds = u32::try_from(args.since.as_secs()).unwrap_or(u32::MAX).max(1);
    let request = HistoryRequest { metric: args.metric.clone(), seconds, points: args.points };
    let answer: HistoryAnswer = ask(&client, "history", OwnedPayload::postcard(&request)?)?;
    if json {
        return print_json(&answer);
    }
    if answer.series.is_empty() {
        return print(&format!("nothing was measured as {}", plain(&args.metric)));
    }
    let mut parts: Vec<String> = answer.series.iter().map(show_history).collect();
    if answer.left_out > 0 {
        parts.push(format!("and {} more: name one of them", answer.left_out));
    }
    print(&parts.join("\n\n"))
}

fn thresholds(args: &args::MonitorThresholds, json: bool) -> Result<()> {
    let client = Client::connect(&args.client)?;
    for text in &args.remove {
        let _: u32 = ask(&client, "remove-threshold", OwnedPayload::postcard(text)?)?;
    }
    for text in &args.set {
        let set: ThresholdInfo = ask(&client, "set-threshold", OwnedPayload::postcard(text)?)?;
        if !set.hint.is_empty() {
            eprintln!("visorbus: {}", plain(&set.hint));
        }
    }
    let all: Vec<ThresholdInfo> = ask(&client, "thresholds", OwnedPayload::Empty)?;
    if json {
        return print_json(&all);
    }
    let row = |of: &ThresholdInfo| {
        let counts = format!("{}/{}", of.raised, of.watched);
        vec![of.state.as_str().to_owned(), counts, plain(&of.threshold), plain(&of.hint)]
    };
    print(&with_header(&["STATE", "OVER", "THRESHOLD", "HINT"], all.iter().map(row).collect(), "(none)"))
}

fn alerts(args: &args::MonitorShow, json: bool) -> Result<()> {
    let client = Client::connect(&args.client)?;
    let alerts: Alerts = ask(&client, "alerts", OwnedPayload::Empty)?;
    if json {
        return print_json(&alerts);
    }
    let mut parts = vec![show_alerts(&alerts.raised)];
    if !alerts.recent.is_empty() {
        let recent = alerts.recent.iter().map(show_event).collect::<Vec<_>>();
        parts.push(format!("Of late:\n{}", recent.join("\n")));
    }
    print(&parts.join("\n\n"))
}

fn health(args: &args::MonitorShow, json: bool) -> Result<ExitCode> {
    let client = Client::connect(&args.client)?;
    let health: Health = ask(&client, "health", OwnedPayload::Empty)?;
    if json {
        print_json(&health)?
    } else {
        print(&show_health(&health))?
    }
    Ok(if health.status == HealthStatus::Ok { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn prometheus(args: &args::MonitorShow, json: bool) -> Result<()> {
    let client = Client::connect(&args.client)?;
    let text: String = ask(&client, "prometheus", OwnedPayload::Empty)?;
    if json { print_json(&text) } else { print(text.trim_end()) }
}

fn watch(args: &args::MonitorShow, json: bool) -> Result<()> {
    let mut client = Client::connect(&args.client)?;
    let watched = client.watch("monitoring/*")?;
    let health: Health = ask(&client, "health", OwnedPayload::Empty)?;
    if json {
        print_json(&health)?
    } else {
        print(&show_health(&health))?
    }
    loop {
        match client.next(&watched)? {
            Delivery::Message(message) => match message.destination.as_str() {
                "monitoring/alert" => {
                    let alert: Alert = message.payload.parse()?;
                    if json { print_json(&alert)? } else { print(&show_event(&alert))? }
                }
                "monitoring/health-changed" => {
                    let health: Health = message.payload.parse()?;
                    if json { print_json(&health)? } else { print(&show_health(&health))? }
                }
                _ => {}
            },
            Delivery::Missed(count) => {
                eprintln!("visorbus: {count} messages were missed: they came too fast")
            }
        }
    }
}

fn show_metrics(sample: &Sample) -> String {
    let rows = sample.metrics.iter().map(|metric| {
        let unit = describe(&metric.name).map_or("", |of| of.unit);
        let rate = metric.rate.map(|rate| format!("{}/s", show_number(rate))).unwrap_or_default();
        vec![plain(&metric.series()), show_number(metric.value), unit.to_owned(), rate]
    });
    let mut text =
        with_header(&["FIGURE", "VALUE", "UNIT", "RATE"], rows.collect(), "(nothing is measured as that)");
    if sample.left_out > 0 {
        text.push_str(&format!(
            "\nand {} more, for which there is no room: monitoring.max_series",
            sample.left_out
        ));
    }
    text
}

fn show_history(of: &SeriesHistory) -> String {
    let rows = of.points.iter().map(|point| {
        vec![show_time(point.at_us), show_number(point.min), show_number(point.mean), show_number(point.max)]
    });
    format!(
        "{}\n{}",
        plain(&of.series),
        with_header(&["UNTIL", "MIN", "MEAN", "MAX"], rows.collect(), "(no values)")
    )
}

fn show_alerts(raised: &[Alert]) -> String {
    let row = |alert: &Alert| vec![alert.severity.to_string(), show_time(alert.since_us), plain(&alert.text)];
    with_header(
        &["SEVERITY", "SINCE", "WHAT"],
        raised.iter().map(row).collect(),
        "(nothing to be worried about)",
    )
}

/// A line that tells of an alert that came or went.
fn show_event(alert: &Alert) -> String {
    let terminal = io::stdout().is_terminal();
    let state = match (alert.state, alert.severity) {
        (AlertState::Cleared, _) => paint(terminal, GREEN, "over    "),
        (AlertState::Raised, Severity::Critical) => paint(terminal, RED, "critical"),
        (AlertState::Raised, severity) => paint(terminal, YELLOW, &format!("{severity:<8}")),
    };
    format!("{} {state} {}", show_time(alert.at_us), plain(&alert.text))
}

fn show_health(health: &Health) -> String {
    let colour = match health.status {
        HealthStatus::Ok => GREEN,
        HealthStatus::Degraded => YELLOW,
        HealthStatus::Failing => RED,
    };
    let status = paint(io::stdout().is_terminal(), colour, health.status.as_str());
    let reasons = health.reasons.iter().map(|reason| format!("\n  {}", plain(reason)));
    format!("{status} since {}{}", show_time(health.since_us), reasons.collect::<String>())
}

fn with_header(header: &[&str], rows: Vec<Vec<String>>, none: &str) -> String {
    if rows.is_empty() { none.to_owned() } else { table::draw(header, &rows, none) }
}

/// A time of the day, in UTC.
fn show_time(at_us: u64) -> String {
    let seconds = i64::try_from(at_us / 1_000_000).unwrap_or(i64::MAX);
    let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else { return "?".to_owned() };
    format!("{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second())
}

/// A number with as many places as say something.
pub(crate) fn show_number(value: f64) -> String {
    let places = match value.abs() {
        1_000.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A text from outside, without what a terminal would act upon.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    print(&serde_json::to_string(value).map_err(|e| Error::Internal(e.to_string()))?)
}

/// What to do where nothing is measured.
fn without_monitoring(error: Error) -> Error {
    if error.kind() != ErrorKind::Message || !error.text().contains("'monitoring") {
        return error;
    }
    Error::Message(format!("{}; the hub measures if it is configured so: monitoring.enabled", error.text()))
}

const YELLOW: &str = "33";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_places_as_say_something() {
        for (value, text) in
            [(0.0, "0"), (0.126, "0.13"), (2.5, "2.5"), (12.34, "12.3"), (123_456.7, "123457"), (-3.0, "-3")]
        {
            assert_eq!(show_number(value), text);
        }
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_not_shown() {
        assert_eq!(plain("a\x1b[31mb\nc\u{9b}d"), "a?[31mb?c?d");
    }

    #[test]
    fn times_are_of_the_day() {
        assert_eq!(show_time(1_767_225_600_000_000 + 3_661_000_000), "01:01:01Z");
        assert_eq!(show_time(u64::MAX), "?");
    }
}
