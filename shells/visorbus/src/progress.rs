//! That something takes its time: at a terminal alone, on standard error, and only once it has.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Shown until it is dropped.
pub(crate) struct Progress(Option<Shown>);

struct Shown {
    /// Dropped when it is over.
    goes_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// For what ends when it ends.
    pub(crate) fn of(what: &str) -> Self {
        Self::shown(what, None)
    }

    /// For what takes `time`.
    pub(crate) fn for_time(what: &str, time: Duration) -> Self {
        Self::shown(what, Some(time))
    }

    fn shown(what: &str, time: Option<Duration>) -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let (goes_on, over) = channel::<()>();
        let (what, began) = (what.to_owned(), Instant::now());
        let thread = thread::spawn(move || {
            if over.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = bar(&what, time);
            while over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(millis(began.elapsed()));
                bar.tick();
            }
            bar.finish_and_clear();
        });
        Self(Some(Shown { goes_on, thread }))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Shown { goes_on, thread }) = self.0.take() {
            drop(goes_on);
            // It draws, and cannot fail at more than that.
            let _ = thread.join();
        }
    }
}

fn bar(what: &str, time: Option<Duration>) -> ProgressBar {
    let (bar, template) = match time {
        Some(time) => (ProgressBar::new(millis(time)), "{msg} {bar:30} {percent:>3} %"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} ({elapsed})"),
    };
    // A template that cannot be read would be a fault of this line: then it looks otherwise.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.with_style(style).with_message(what.to_owned())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is over sooner is not shown at all.
const PATIENCE: Duration = Duration::from_millis(400);
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_can_be_read_and_what_is_over_is_gone() {
        for time in [None, Some(Duration::from_secs(3))] {
            let bar = bar("measuring", time);
            assert_eq!((bar.message().as_str(), bar.is_finished()), ("measuring", false));
        }
        for template in ["{msg} {bar:30} {percent:>3} %", "{spinner} {msg} ({elapsed})"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        drop(Progress::of("nothing"));
    }
}
