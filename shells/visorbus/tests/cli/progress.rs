//! That a call waits is shown at a terminal, and nowhere else; what was shown is gone before anything else is printed.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use nix::sys::signal::Signal;
use rustix::termios::{LocalModes, tcgetattr};
use visorbus_core::IpcError;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::message::{Message, MessagePayload};
use visorbus_unix::{Credentials, UnixSocketClient};

use crate::place::{PATIENCE, Place, Process};

/// A component that answers when it is told to.
struct Slow {
    /// Dropped first: the client waits for its handler.
    answer: Sender<()>,
    begun: Receiver<()>,
    client: UnixSocketClient,
}

impl Slow {
    fn start(place: &Place, id: &'static str) -> Self {
        let token = place.succeed(&["auth", "token", "mint", "--subject", id, "--scope", "*"]);
        let client = UnixSocketClient::new(place.socket(), id).unwrap();
        client.connect().unwrap();
        client.authenticate(&Credentials::Token(token.parse().unwrap())).unwrap();
        let ((begins, begun), (answer, told)) = (channel(), channel());
        client.register_handler(Box::new(Component { id, begins, told })).unwrap();
        Self { answer, begun, client }
    }

    fn wait_for_call(&self) {
        self.begun.recv_timeout(PATIENCE).unwrap();
    }
}

struct Component {
    id: &'static str,
    begins: Sender<()>,
    told: Receiver<()>,
}

impl MessageHandler for Component {
    fn id(&self) -> &str {
        self.id
    }

    fn handle_message(&mut self, _: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.begins.send(()).unwrap();
        let _ = self.told.recv();
        reply.payload(MessagePayload::String("thought"))
    }
}

/// A command at a terminal, and what the terminal shows.
struct Seat {
    process: Process,
    terminal: File,
    /// All that was written to the terminal.
    written: String,
}

impl Seat {
    fn take(place: &Place, line: &str) -> Self {
        let (process, terminal) = place.at_terminal(line);
        Self { process, terminal, written: String::new() }
    }

    /// Reads what comes next; `false` when nobody is at the terminal any more.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 256];
        let Ok(len @ 1..) = self.terminal.read(&mut bytes) else { return false };
        self.written.push_str(&String::from_utf8_lossy(&bytes[..len]));
        true
    }

    /// Reads until `text` stands on the screen.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !screen(&self.written).contains(text) {
            assert!(self.read() && Instant::now() < deadline, "'{text}' is not shown: {:?}", self.written);
        }
    }

    /// Whether the terminal shows what is typed.
    fn shows_typing(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// What stands on the screen when the command has ended, and the command's exit code.
    fn leave(mut self) -> (String, Option<i32>) {
        while self.read() {}
        (screen(&self.written), self.process.finish().code)
    }
}

/// Somebody who calls by this line at a terminal, which shows that the call waits.
fn waiting(place: &Place, line: &str) -> (Slow, Seat) {
    let slow = Slow::start(place, "slow");
    let mut seat = Seat::take(place, &format!("{line} > /dev/tty 2> /dev/tty"));
    slow.wait_for_call();
    seat.wait_for("waiting for slow/think (");
    (slow, seat)
}

/// What a terminal of 80 columns shows of what was written to it, line by line.
fn screen(written: &str) -> String {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0_usize, 0_usize);
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                lines.resize(lines.len().max(row + 1), Vec::new());
            }
            '\u{1b}' => {
                chars.next();
                let mut number = String::new();
                let order = loop {
                    match chars.next() {
                        Some(digit @ ('0'..='9' | ';' | '?')) => number.push(digit),
                        other => break other,
                    }
                };
                let count = number.parse().unwrap_or(1);
                match order {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row = (row + count).min(lines.len() - 1),
                    Some('C') => column += count,
                    Some('D') => column = column.saturating_sub(count),
                    Some('G') => column = count - 1,
                    Some('K') if number == "2" => lines[row].clear(),
                    Some('K') => lines[row].truncate(column),
                    Some('m' | 'h' | 'l') => {}
                    order => panic!("what is ESC [ {number} {order:?}, in {written:?}"),
                }
            }
            c => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    let text: Vec<String> =
        lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
    text.join("\n").trim_end().to_owned()
}

#[test]
fn a_call_that_waits_shows_it_at_a_terminal_and_nothing_of_that_is_left_beside_the_answer() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let (slow, mut seat) = waiting(&place, "visorbus call slow/think");
    // It goes on while the call does.
    seat.wait_for("waiting for slow/think (1s)");
    slow.answer.send(()).unwrap();
    let (screen, code) = seat.leave();
    assert_eq!((screen.as_str(), code), ("\"thought\"", Some(0)));
}

#[test]
fn what_is_answered_soon_shows_nothing_of_waiting() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let mut seat = Seat::take(&place, "visorbus call bus/peers > /dev/null 2> /dev/tty");
    while seat.read() {}
    assert_eq!(seat.written, "", "not even while it was there");
}

#[test]
fn a_call_that_fails_gives_the_line_back_before_it_says_why() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let (slow, seat) = waiting(&place, "visorbus call slow/think");
    slow.client.disconnect();
    let (screen, code) = seat.leave();
    assert!(screen.starts_with("visorbus: connection error") && !screen.contains("waiting for"), "{screen}");
    assert_eq!(code, Some(3));
    slow.answer.send(()).unwrap();
}

#[test]
fn ctrl_c_ends_a_call_that_waits_and_gives_the_line_back() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let (slow, mut seat) = waiting(&place, "visorbus call slow/think");
    seat.terminal.write_all(b"\x03").unwrap();
    let (screen, code) = seat.leave();
    assert_eq!((screen.as_str(), code), ("", None), "a signal has ended it, as without the display");
    // Before anything was shown, and where nothing is: as ever.
    let quiet = place.start(&["call", "slow/think"]);
    quiet.signal(Signal::SIGINT);
    assert_eq!(quiet.finish().code, None);
    slow.answer.send(()).unwrap();
}

#[test]
fn ctrl_c_gives_the_line_back_of_whatever_waits() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let lines = [
        ("hardware wait board/none", "waiting for board/none ("),
        ("status --wait 60s --socket none.sock", "waiting for the hub "),
    ];
    for (line, shown) in lines {
        let mut seat = Seat::take(&place, &format!("visorbus {line} > /dev/tty 2> /dev/tty"));
        seat.wait_for(shown);
        seat.terminal.write_all(b"\x03").unwrap();
        assert_eq!(seat.leave(), (String::new(), None), "{line}");
    }
}

#[test]
fn a_signal_that_is_ignored_does_not_keep_ctrl_c_from_ending_what_waits() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let (slow, mut seat) = waiting(&place, "trap '' HUP; exec visorbus call slow/think --timeout 60s");
    seat.process.signal(Signal::SIGHUP);
    // At Ctrl-C a terminal forgets what it has not shown yet.
    while !screen(&seat.written).is_empty() {
        assert!(seat.read(), "{:?}", seat.written);
    }
    seat.terminal.write_all(b"\x03").unwrap();
    let (screen, code) = seat.leave();
    assert_eq!((screen.trim_end_matches("^C"), code), ("", None));
    slow.answer.send(()).unwrap();
}

#[test]
fn a_signal_while_a_password_is_asked_for_leaves_a_terminal_that_shows_what_is_typed() {
    let place = Place::new();
    for line in ["call bus/peers", "hardware wait board/none", "status", "top"] {
        for signal in [None, Some(Signal::SIGTERM)] {
            let mut seat = Seat::take(&place, &format!("visorbus {line} --user anna > /dev/tty 2> /dev/tty"));
            seat.wait_for("Password of anna:");
            assert!(!seat.shows_typing(), "{line}");
            match signal {
                Some(signal) => seat.process.signal(signal),
                None => seat.terminal.write_all(b"\x03").unwrap(),
            }
            while seat.read() {}
            assert!(seat.shows_typing(), "{line} {signal:?}");
            assert_eq!(seat.leave().1, Some(130), "{line} {signal:?}");
        }
    }
}

#[test]
fn nothing_is_shown_to_a_file_to_another_program_or_as_json() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let ids = ["to-file", "to-pipe", "as-json", "loud"];
    let slow = ids.map(|id| Slow::start(&place, id));
    let call = |id: &str, how: &str| Seat::take(&place, &format!("visorbus {how}").replace("ID", id));
    let mut quiet = [
        call("to-file", "call ID/think > answer 2> /dev/tty"),
        call("to-pipe", "call ID/think > /dev/tty"),
        call("as-json", "--json call ID/think > /dev/tty 2> /dev/tty"),
    ];
    slow[..3].iter().for_each(Slow::wait_for_call);
    // All of them have waited for longer than it takes one that shows it.
    let mut loud = call("loud", "call ID/think > /dev/tty 2> /dev/tty");
    loud.wait_for("waiting for loud/think (1s)");
    slow.iter().for_each(|slow| slow.answer.send(()).unwrap());
    assert_eq!(loud.leave().0, "\"thought\"");
    quiet.iter_mut().for_each(|seat| while seat.read() {});
    let written = quiet.each_ref().map(|seat| seat.written.as_str());
    assert_eq!(written, ["", "\"thought\"\r\n", "\"thought\"\r\n"]);
    for seat in quiet {
        let done = seat.process.finish();
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "", ""));
    }
    assert_eq!(std::fs::read_to_string(place.path().join("answer")).unwrap(), "\"thought\"\n");
}
