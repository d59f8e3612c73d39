//! `visorbus monitor`, and `visorbus top` at a real terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use visorbus_services::monitoring::{Health, HealthStatus, Sample};

use crate::place::{PATIENCE, Place, Process};

/// `visorbus top` and the terminal that it is at.
struct Top {
    process: Process,
    terminal: File,
    shown: Receiver<Vec<u8>>,
    /// All that was drawn so far.
    screen: String,
    columns: u16,
}

impl Top {
    fn start(place: &Place, columns: u16, rows: u16) -> Self {
        let mut top = Self::begin(place, "visorbus top --interval 100ms", columns, rows);
        top.wait_for("q quit");
        top
    }

    /// The same by this line, which may have nothing drawn yet.
    fn begin(place: &Place, line: &str, columns: u16, rows: u16) -> Self {
        let (process, terminal) = place.at_terminal_of(&format!("{line} > /dev/tty"), size(columns, rows));
        let (sender, shown) = channel();
        let mut reader = terminal.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { process, terminal, shown, screen: String::new(), columns }
    }

    /// Waits until `text` was drawn since the last time; what is drawn in one piece comes in one piece. What was drawn until then.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        while !self.screen.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let bytes = self.shown.recv_timeout(left);
            let bytes = bytes.unwrap_or_else(|_| panic!("'{text}' was not drawn: {:?}", self.screen));
            self.screen.push_str(&String::from_utf8_lossy(&bytes));
        }
        std::mem::take(&mut self.screen)
    }

    fn press(&mut self, key: &str) {
        self.terminal.write_all(key.as_bytes()).unwrap();
    }

    fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.terminal, size(columns, rows)).unwrap();
    }

    /// All of it, drawn anew because the terminal has another size.
    fn frame(&mut self) -> String {
        self.columns = if self.columns == 80 { 81 } else { 80 };
        self.resize(self.columns, 24);
        self.wait_for("q quit")
    }

    /// Waits for its end, and demands that the terminal is as it was: on its first screen, with a cursor.
    #[track_caller]
    fn ends(mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while let Ok(bytes) = self.shown.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.screen.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(self.screen.contains(LEAVES) && !self.screen.contains(TAKES), "{:?}", self.screen);
        self.process.finish().code
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

/// No threshold, so that this machine's own memory does not make the hub's health bad.
const ALL_IS_WELL: &str = "[monitoring]\nthresholds = []\n";

/// What takes the other screen of a terminal, and what leaves it (xterm's control sequences, `1049`).
const TAKES: &str = "\x1b[?1049h";
const LEAVES: &str = "\x1b[?1049l";

#[test]
fn top_draws_sorts_pauses_is_resized_and_quits() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let mut top = Top::start(&place, 80, 24);
    top.press("p");
    top.wait_for("PAUSED");
    top.press("p");
    top.press("s");
    top.wait_for("OUT/s↓");
    for (columns, rows) in [(120, 40), (20, 5), (1, 1), (80, 24)] {
        top.resize(columns, rows);
    }
    top.wait_for("q quit");
    top.press("q");
    assert_eq!(top.ends(), Some(0));
}

#[test]
fn no_key_is_lost_while_the_terminal_is_resized() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let mut top = Top::start(&place, 80, 24);
    for round in 0..100 {
        top.resize(80 + round % 2, 24);
        top.press("p");
        top.wait_for("PAUSED");
        top.resize(90, 24);
        // Without a pause the bar is drawn without the word.
        top.press("p");
        while top.frame().contains("PAUSED") {}
    }
    top.press("q");
    assert_eq!(top.ends(), Some(0));
}

#[test]
fn a_signal_and_ctrl_c_give_the_terminal_back() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let top = Top::start(&place, 80, 24);
        top.process.signal(signal);
        assert_eq!(top.ends(), Some(0), "{signal}");
    }
    let mut top = Top::start(&place, 80, 24);
    top.press("\x03");
    assert_eq!(top.ends(), Some(0));
}

#[test]
fn a_signal_gives_the_terminal_back_to_whoever_has_typed_a_password_there() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let add = ["auth", "user", "add", "anna", "--password-stdin", "--scope", "*"];
    assert_eq!(place.run_reading(&add, "open sesame\n").code, Some(0));
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut top = Top::begin(&place, "visorbus top --user anna", 80, 24);
        top.wait_for("Password of anna: ");
        top.press("open sesame\n");
        top.wait_for("q quit");
        top.process.signal(signal);
        assert_eq!(top.ends(), Some(0), "{signal}");
    }
}

#[test]
fn a_hub_that_goes_is_said_and_one_that_comes_back_is_seen() {
    let place = Place::new();
    let hub = place.serve(&[]);
    let mut top = Top::start(&place, 80, 24);
    drop(hub);
    top.wait_for("no news for");
    let _hub = place.serve(&[]);
    let until = Instant::now() + PATIENCE;
    while top.frame().contains("no news for") {
        assert!(Instant::now() < until, "it is not seen");
    }
    top.press("q");
    assert_eq!(top.ends(), Some(0));
}

#[test]
fn without_a_terminal_top_says_what_to_do_and_once_prints_a_frame() {
    let place = Place::new();
    place.configure(ALL_IS_WELL);
    place.run(&["top"]).expect_failure(1, "visorbus:", &["needs a terminal", "--once"]);
    place.run(&["top", "--once"]).expect_failure(3, "visorbus:", &["visorbus serve"]);
    let _hub = place.serve(&[]);
    let text = place.succeed(&["top", "--once"]);
    assert!(text.starts_with("visorbus  up ") && text.contains("health: ok"), "{text}");
    assert!(!text.contains('\x1b') && text.lines().any(|line| line.starts_with("ADDRESS")), "{text}");
    let json: serde_json::Value = serde_json::from_str(&place.succeed(&["top", "--once", "--json"])).unwrap();
    assert_eq!(json["health"]["status"], "ok");
}

#[test]
fn monitor_shows_what_is_measured_and_watches_what_it_is_told_to() {
    let place = Place::new();
    place.configure(ALL_IS_WELL);
    let _hub = place.serve(&[]);
    assert!(place.succeed(&["monitor"]).contains("hub.uptime_seconds"));
    let sample: Sample =
        serde_json::from_str(&place.succeed(&["monitor", "metrics", "hub.*", "--json"])).unwrap();
    assert!(sample.metric("hub.sessions").is_some(), "{sample:?}");
    assert!(place.succeed(&["monitor", "metrics", "nothing.such"]).contains("nothing is measured"));
    place.run(&["monitor", "metrics", "No Such"]).expect_failure(1, "visorbus:", &["no metric's name"]);
    let threshold = "hub.uptime_seconds >= 0: critical";
    let text = place.succeed(&["monitor", "thresholds", "--set", threshold]);
    assert!(text.contains(threshold), "{text}");
    let mut watch = place.start(&["monitor", "watch"]);
    while !watch.line().contains("hub.uptime_seconds was") {}
    let failing = place.run(&["monitor", "health", "--json"]);
    assert_eq!(failing.code, Some(1), "{failing:?}");
    let health: Health = serde_json::from_str(&failing.out).unwrap();
    assert_eq!(health.status, HealthStatus::Failing);
    assert!(place.succeed(&["monitor", "alerts"]).contains("critical"));
    place.succeed(&["monitor", "thresholds", "--remove", "hub.uptime_seconds"]);
    assert_eq!(place.run(&["monitor", "health"]).code, Some(0));
    assert!(place.succeed(&["monitor", "history", "hub.uptime_seconds"]).contains("MEAN"));
    assert!(place.succeed(&["monitor", "prometheus"]).ends_with("# EOF"));
}
