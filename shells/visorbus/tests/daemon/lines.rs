//! Lines to boards that come, fall silent, go and come back: what `visorbus status` says of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::place::{PATIENCE, Place, Process};

/// A hub with a line that names whichever pseudo-terminal is plugged in.
struct Bench {
    place: Place,
    _hub: Process,
    link_key: String,
}

impl Bench {
    fn new() -> Self {
        let place = Place::for_boards();
        let provisioned = place.run(&["key", "provision", "imu"]);
        assert_eq!(provisioned.code, Some(0), "{provisioned:?}");
        let line = place.path().join("board").display().to_string();
        let hub = place.serve(&["--serial", &line]);
        Self { place, _hub: hub, link_key: provisioned.out }
    }

    /// A board that is plugged in, and does not run yet where it is to be `silent`.
    fn plug(&self, silent: bool) -> Process {
        let mut command = self.place.command(&["demo-node", "imu"]);
        let mut board = Process::start(command.env("VISORBUS_LINK_KEY", &self.link_key));
        let terminal = board.line();
        if silent {
            board.signal(Signal::SIGSTOP);
        }
        let new = self.place.path().join("board.new");
        symlink(terminal, &new).unwrap();
        fs::rename(new, self.place.path().join("board")).unwrap();
        board
    }

    /// State and trouble of the line.
    fn line(&self) -> (String, String) {
        let status: Value = serde_json::from_str(&self.place.succeed(&["status", "--json"])).unwrap();
        let parts = status["parts"].as_array().unwrap();
        let lines: Vec<&Value> = parts.iter().filter(|part| part["name"] == "links").collect();
        assert_eq!(lines.len(), 1, "{status}");
        assert!(lines[0]["place"].as_str().unwrap().ends_with("/board@115200"), "{status}");
        let text = |key: &str| lines[0][key].as_str().unwrap().to_owned();
        (text("state"), text("trouble"))
    }

    #[track_caller]
    fn expect(&self, state: &str, trouble: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is = self.line();
            if is.0 == state && is.1.contains(trouble) && is.1.is_empty() == trouble.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{is:?} instead of {state}, {trouble}");
        }
    }
}

#[test]
fn a_line_is_on_waits_or_is_gone_and_the_reason_is_said() {
    let bench = Bench::new();
    bench.expect("gone", "no serial device at");
    let board = bench.plug(true);
    bench.expect("waiting", "no board has answered yet");
    board.signal(Signal::SIGCONT);
    bench.expect("on", "");
    let shown = bench.place.succeed(&["status"]);
    assert!(shown.contains("links") && !shown.contains("gone"), "{shown}");
    // The line is there, and whoever was at its other end is not.
    board.signal(Signal::SIGSTOP);
    bench.expect("waiting", "imu is gone: it was silent");
    board.signal(Signal::SIGCONT);
    bench.expect("on", "");
    // Pulled out, with the pseudo-terminal that it was.
    drop(board);
    bench.expect("gone", "board is gone");
    let shown = bench.place.succeed(&["status"]);
    let row = shown.lines().find(|line| line.starts_with("links")).unwrap();
    assert!(row.contains(" gone ") && row.ends_with("board is gone"), "{row}");
    let told = bench.place.succeed(&["call", "manager/status"]);
    assert!(told.contains(r#""state":"gone""#), "{told}");
    let _board = bench.plug(false);
    bench.expect("on", "");
}
