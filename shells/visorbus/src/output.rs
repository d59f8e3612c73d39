//! What people and machines are shown, and the exit code that goes with it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use visorbus::{Severity, say};
use visorbus_core::ErrorKind;
use visorbus_hub::{Error, Result};

/// The answer could not be given.
pub(crate) const FAILED: u8 = 1;
/// No hub is there.
pub(crate) const NO_HUB: u8 = 3;
/// The hub or the component refused.
pub(crate) const NOT_ALLOWED: u8 = 4;
/// Nobody answered in time.
pub(crate) const TIMED_OUT: u8 = 5;
/// The configuration is wrong.
pub(crate) const CONFIGURATION: u8 = 6;
/// The whole ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code for an error.
pub(crate) fn exit_code(error: &Error) -> ExitCode {
    ExitCode::from(match error.kind() {
        ErrorKind::Connection => NO_HUB,
        ErrorKind::Authentication | ErrorKind::Authorization => NOT_ALLOWED,
        ErrorKind::Timeout => TIMED_OUT,
        _ => FAILED,
    })
}

/// Says what went wrong: a line for people, an object for machines; on standard error either way.
pub(crate) fn report(error: &Error, json: bool) {
    if json {
        let object = serde_json::json!({ "error": { "kind": error.kind().as_str(), "text": error.text() } });
        eprintln!("{object}");
    } else if io::stderr().is_terminal() {
        eprintln!("{} {error}", paint(true, RED, "visorbus:"));
    } else {
        say(Severity::Error, &error.to_string());
    }
}

/// Prints what was asked for.
pub(crate) fn print(text: &str) -> Result<()> {
    print_line(text).map_err(|e| match e.kind() {
        // Whoever read this has seen enough.
        io::ErrorKind::BrokenPipe => std::process::exit(0),
        _ => Error::Internal(format!("cannot write the answer: {e}")),
    })
}

/// Prints a line to standard output. A reader that has gone (`| head`) is told apart from other failures.
pub(crate) fn print_line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// `text` in a colour, where a person reads it and has not asked for none (`NO_COLOR`).
pub(crate) fn paint(terminal: bool, colour: &str, text: &str) -> String {
    if terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// A table with aligned columns; the last one is as wide as it likes.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|text| text.len()).collect();
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            // One long cell moves its own line alone.
            *width = (*width).max(text.chars().count().min(WIDEST));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        line.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// When something that ends ends, as what is left until then.
pub(crate) fn show_until(end: Option<u64>) -> String {
    let Some(end) = end else { return "-".to_owned() };
    match end.checked_sub(unix_seconds()) {
        Some(left) => format!("in {}", show_time(Duration::from_secs(left))),
        None => "over".to_owned(),
    }
}

/// How long ago something was.
pub(crate) fn show_age(since: u64) -> String {
    show_time(Duration::from_secs(unix_seconds().saturating_sub(since)))
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A time in its two largest units.
pub(crate) fn show_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// How wide a cell makes its column at most.
const WIDEST: usize = 60;
pub(crate) const RED: &str = "31";
pub(crate) const GREEN: &str = "32";
pub(crate) const BOLD: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["imu".to_owned(), "x".to_owned()], vec!["a".to_owned(), "long cell".to_owned()]];
        assert_eq!(table(&["NAME", "B"], &rows), "NAME  B\nimu   x\na     long cell");
    }

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let code = |error: Error| format!("{:?}", exit_code(&error));
        assert_eq!(code(Error::Connection(String::new())), format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(Error::Authorization(String::new())), format!("{:?}", ExitCode::from(4)));
        assert_eq!(code(Error::Timeout(String::new())), format!("{:?}", ExitCode::from(5)));
        assert_eq!(code(Error::Message(String::new())), format!("{:?}", ExitCode::from(1)));
    }
}
