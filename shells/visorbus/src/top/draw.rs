//! The view as it is drawn: lines that sum up, the two tables, the alerts, and what the keys do.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};
use visorbus_services::monitoring::{Alert, HealthStatus, Severity};

use crate::monitor::plain;
use crate::output::show_time;
use crate::top::snapshot::{Row, Snapshot};
use crate::top::view::{Focus, Form, Of, Shown, View};

/// Draws the whole view, on as much room as there is.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &View) {
    let alerts = u16::try_from(view.snapshot.alerts.raised.len()).unwrap_or(u16::MAX).min(MOST_ALERTS);
    let rows = [view.peer_rows(), view.address_rows()];
    let wanted = rows.each_ref().map(|rows| u16::try_from(rows.len()).unwrap_or(u16::MAX).saturating_add(2));
    let areas = Layout::vertical([
        Constraint::Length(SUMMARY),
        Constraint::Length(alerts),
        Constraint::Min(0),
        Constraint::Length(1),
    ]);
    let [summary, warnings, tables, keys] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(summarise(view)), summary);
    frame.render_widget(
        Paragraph::new(view.snapshot.alerts.raised.iter().map(alert_line).collect::<Vec<_>>()),
        warnings,
    );
    let [peers, addresses] = share(tables, wanted);
    let [peer_rows, address_rows] = rows;
    draw_table(frame, peers, &view.peers, &peer_rows, view.focus == Focus::Peers);
    draw_table(frame, addresses, &view.addresses, &address_rows, view.focus == Focus::Addresses);
    frame.render_widget(Paragraph::new(KEYS).style(dim()), keys);
}

/// Lines that all of it takes.
pub(crate) fn height(view: &View) -> u16 {
    let rows = view.peer_rows().len() + view.address_rows().len() + view.snapshot.alerts.raised.len();
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(SUMMARY + 5).min(MOST_LINES)
}

/// Room for both tables: what each wants, or a half at least.
fn share(area: Rect, wanted: [u16; 2]) -> [Rect; 2] {
    let half = area.height / 2;
    let first = wanted[0].min(area.height.saturating_sub(wanted[1]).max(half));
    Layout::vertical([Constraint::Length(first), Constraint::Min(0)]).areas(area)
}

fn summarise(view: &View) -> Vec<Line<'static>> {
    let of = &view.snapshot;
    vec![head(view), reasons(view), machine(of), traffic(of), waiting(of), latencies(of), Line::default()]
}

fn head(view: &View) -> Line<'static> {
    let of = &view.snapshot;
    let (status, colour) = match of.health.status {
        HealthStatus::Ok => ("ok", Color::Green),
        HealthStatus::Degraded => ("degraded", Color::Yellow),
        HealthStatus::Failing => ("failing", Color::Red),
    };
    let up =
        std::time::Duration::from_secs_f64(of.value("hub.uptime_seconds").unwrap_or(0.0).clamp(0.0, 1e12));
    let mut spans = vec![
        Span::styled("visorbus", bold()),
        Span::raw(format!("  up {}  {} connections  ", show_time(up), count(of.value("hub.peers")))),
        Span::styled(format!("health: {status}"), bold().fg(colour)),
    ];
    if view.paused {
        spans.push(Span::styled("  PAUSED", bold().fg(Color::Yellow)));
    }
    Line::from(spans)
}

/// Why the view is old, else why the health is as it is.
fn reasons(view: &View) -> Line<'static> {
    if let Some((since, error)) = &view.silence {
        let text = format!("no news for {}: {}", show_time(since.elapsed()), plain(error.text()));
        return Line::styled(text, bold().fg(Color::Red));
    }
    Line::raw(view.snapshot.health.reasons.first().map(|reason| plain(reason)).unwrap_or_default())
}

fn machine(of: &Snapshot) -> Line<'static> {
    Line::raw(format!(
        "machine  cpu {} %  memory {} %  load {}   |   hub  cpu {} %  memory {}  files {}  threads {}",
        count(of.value("machine.cpu_percent")),
        count(of.value("machine.memory_percent")),
        of.value("machine.load1").map_or_else(unknown, |load| format!("{load:.2}")),
        count(of.value("process.cpu_percent")),
        bytes(of.value("process.resident_memory_bytes")),
        count(of.value("process.open_fds")),
        count(of.value("process.threads")),
    ))
}

fn traffic(of: &Snapshot) -> Line<'static> {
    Line::raw(format!(
        "traffic  in {}/s, {}/s  out {}/s, {}/s   |   refused {}/s  not let in {}/s  missed {}/s",
        count(of.rate("hub.messages_in")),
        bytes(of.rate("hub.bytes_in")),
        count(of.rate("hub.messages_out")),
        bytes(of.rate("hub.bytes_out")),
        count(of.rate("hub.refused")),
        count(of.rate("hub.auth_refusals")),
        count(of.rate("hub.missed")),
    ))
}

fn waiting(of: &Snapshot) -> Line<'static> {
    let stuck = of.value("hub.stuck_handlers");
    Line::from(vec![
        Span::raw(format!(
            "waiting  {} for peers, {} for one  {} calls  pool {} run, {} wait",
            bytes(of.value("hub.queued_bytes")),
            bytes(of.value("hub.deepest_queue_bytes")),
            count(of.value("hub.pending_calls")),
            count(of.value("hub.pool_running")),
            count(of.value("hub.pool_waiting")),
        )),
        Span::styled(
            format!("  {} stuck", count(stuck)),
            if stuck.is_some_and(|stuck| stuck > 0.0) { bold().fg(Color::Red) } else { Style::new() },
        ),
    ])
}

/// The median and what 99 of 100 take at most, in µs.
fn latencies(of: &Snapshot) -> Line<'static> {
    let pair = |name: &str| {
        let at = |part: &str| count(of.value(&format!("hub.{name}_{part}_us")));
        format!("{} / {}", at("p50"), at("p99"))
    };
    Line::raw(format!(
        "latency  in us, half / 99 of 100:  peers {}   handlers {}   queues {}",
        pair("peer_latency"),
        pair("handler_latency"),
        pair("queue_time")
    ))
}

fn alert_line(alert: &Alert) -> Line<'static> {
    let colour = match alert.severity {
        Severity::Critical => Color::Red,
        Severity::Warning => Color::Yellow,
        Severity::Info => Color::Reset,
    };
    Line::styled(format!("{}: {}", alert.severity, plain(&alert.text)), Style::new().fg(colour))
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, shown: &Shown, rows: &[Row], focused: bool) {
    let titles = shown.columns.iter().enumerate().map(|(number, column)| {
        let mark = match (number == shown.sorted, shown.upward) {
            (false, _) => "",
            (true, false) => "↓",
            (true, true) => "↑",
        };
        cell(&column.of, format!("{}{mark}", column.title))
    });
    let header = TableRow::new(titles).style(if focused { bold().reversed() } else { bold() });
    let body = rows.iter().skip(shown.first.min(rows.len().saturating_sub(1))).map(|row| {
        TableRow::new(shown.columns.iter().map(|column| match column.of {
            Of::Name => cell(&column.of, row.name.clone()),
            Of::Kind => cell(&column.of, row.kind.clone()),
            Of::Number(number, Form::Count) => cell(&column.of, show_count(row.numbers[number])),
            Of::Number(number, Form::Bytes) => cell(&column.of, show_bytes(row.numbers[number])),
        }))
    });
    let widths = shown.columns.iter().map(|column| match column.of {
        Of::Name => Constraint::Fill(1),
        Of::Kind | Of::Number(..) => Constraint::Length(9),
    });
    let widths: Vec<Constraint> = widths.collect();
    frame.render_widget(Table::new(body, widths).header(header).column_spacing(0), area);
}

/// Numbers stand at the right.
fn cell(of: &Of, text: String) -> Cell<'static> {
    match of {
        Of::Number(..) => Cell::from(Line::raw(text).right_aligned()),
        Of::Name => Cell::from(text),
        Of::Kind => Cell::from(format!(" {text}")),
    }
}

fn count(value: Option<f64>) -> String {
    value.map_or_else(unknown, show_count)
}

fn bytes(value: Option<f64>) -> String {
    value.map_or_else(unknown, show_bytes)
}

/// A number in at most five places: `0.4`, `17`, `3.2k`.
fn show_count(value: f64) -> String {
    scaled(value, 1_000.0, &["", "k", "M", "G", "T"])
}

/// As [`show_count`], of bytes: `17 B`, `3.2 kB`.
fn show_bytes(value: f64) -> String {
    scaled(value, 1_000.0, &[" B", " kB", " MB", " GB", " TB"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next();
    while value.abs() >= step - 0.5 {
        let Some(next) = units.next() else { break };
        unit = Some(next);
        value /= step;
    }
    let text = if value.abs() < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{}{}", text.trim_end_matches(".0"), unit.unwrap_or(&""))
}

fn unknown() -> String {
    "-".to_owned()
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

const KEYS: &str = "q quit  p pause  tab other table  s/S sort by next/previous  r turn round  arrows scroll";
/// Lines that sum up.
const SUMMARY: u16 = 7;
/// Most alerts that are shown.
const MOST_ALERTS: u16 = 4;
/// Most lines of what is printed once.
const MOST_LINES: u16 = 1_000;

#[cfg(test)]
mod tests;
