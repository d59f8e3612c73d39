//! That something takes its time: to people at a terminal alone, on standard error, and only once it has.

use std::io::{IsTerminal, stderr, stdout};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use visorbus_hub::Result;

use crate::interrupt;

/// Shown until it is dropped.
pub(crate) struct Progress(Option<Shown>);

struct Shown {
    /// Dropped when it is over.
    goes_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// For what ends when it ends.
    pub(crate) fn of(what: &str, json: bool) -> Self {
        Self::shown(what, None, json)
    }

    /// For what takes `time`.
    pub(crate) fn for_time(what: &str, time: Duration, json: bool) -> Self {
        Self::shown(what, Some(time), json)
    }

    /// Whether there is somebody to show it to.
    fn is_for_people(json: bool) -> bool {
        !json && stderr().is_terminal() && stdout().is_terminal()
    }

    /// Has a signal that ends the process give the line back, where something may be shown. To be called before the first thread
    /// starts.
    pub(crate) fn leave_tidy(json: bool) -> Result<()> {
        if Self::is_for_people(json) { interrupt::leave_tidy() } else { Ok(()) }
    }

    fn shown(what: &str, time: Option<Duration>, json: bool) -> Self {
        if !Self::is_for_people(json) {
            return Self(None);
        }
        let (goes_on, over) = channel::<()>();
        let (what, began) = (what.to_owned(), Instant::now());
        let thread = thread::spawn(move || {
            if over.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            *drawn() = Some(bar(&what, time));
            while over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let drawn = drawn();
                let Some(bar) = &*drawn else { return };
                bar.set_position(millis(began.elapsed()));
                bar.tick();
            }
            clear();
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

/// Gives the line back that something is shown on, and shows no more of it: for whoever ends the process too.
pub(crate) fn clear() {
    if let Some(bar) = drawn().take() {
        bar.finish_and_clear();
    }
}

/// Has `print` write lines above the one that something is shown on.
pub(crate) fn above<T>(print: impl FnOnce() -> T) -> T {
    match &*drawn() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// What is on the terminal.
fn drawn() -> MutexGuard<'static, Option<ProgressBar>> {
    static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
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
        drop(Progress::of("nothing", false));
    }
}
