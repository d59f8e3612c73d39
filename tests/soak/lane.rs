//! A million messages over a line with faults: what the reliable lane loses (nothing) and what it costs.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use visorbus_core::codec::encode;
use visorbus_core::message::{Address, MessagePayload};
use visorbus_core::secure::Suite;
use visorbus_core::{Instant, Link, Message};
use visorbus_hal::{Lane, SerialError, SerialLink, lane_len, serial_buffer_len};
use visorbus_tests::line_sim::{LineFaults, LineSetup, LineSim, SimUart};
use visorbus_tests::secured::{SECURED_FRAME, SecuredHub, secured_board};
use visorbus_tests::stats::RoundTrips;

/// Runs every row and prints it beside the line without faults; how many messages were not delivered as they should be.
pub(crate) fn print(messages: u32, seed: u64) -> u32 {
    println!(
        "Reliable lane: {messages} messages of each length over a simulated line of {BAUD} baud, seed {seed}."
    );
    println!(
        "Faults: that share of all bytes, both ways, a third damaged, a third lost, a third doubled; or silences of"
    );
    println!(
        "50 ms, two a second at random, in which everything is lost. Goodput: bytes of messages while the lane is"
    );
    println!(
        "always full. Latency: one message each 20 ms, from the moment that it is sent until it is taken. On a line with a\n\
         key the handshake counts in.\n"
    );
    println!(
        "{:<16}{:>6}{:>8}{:>8}{:>8}{:>8}{:>10}{:>7}{:>11}{:>9}{:>9}{:>10}{:>9}",
        "faults",
        "bytes",
        "lost",
        "double",
        "order",
        "damaged",
        "kB/s",
        "",
        "p50 ms",
        "",
        "p99 ms",
        "",
        "max ms"
    );
    let mut bad = 0;
    for len in LENGTHS {
        let mut best = None;
        for (name, faults, suite) in ROWS {
            let full = Run { faults, suite, len, messages, load: Load::Saturated, seed };
            let paced = Run { load: Load::Every(20_000), seed: seed + 1, ..full };
            let (paced, full) = thread::scope(|scope| {
                let full = scope.spawn(|| run(&full));
                (run(&paced), full.join().expect("a run does not panic"))
            });
            bad += full.faults() + paced.faults();
            println!("{}", row(name, len, &full, &paced, best.get_or_insert((full, paced))));
        }
    }
    bad
}

fn row(name: &str, len: usize, full: &Outcome, paced: &Outcome, best: &(Outcome, Outcome)) -> String {
    let latency = |outcome: &Outcome| {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        outcome.latency.map_or([f64::NAN; 3], |trips| [ms(trips.p50), ms(trips.p99), ms(trips.max)])
    };
    let ([p50, p99, most], [best_p50, best_p99, _]) = (latency(paced), latency(&best.1));
    format!(
        "{name:<16}{len:>6}{:>8}{:>8}{:>8}{:>8}{:>10.2}{:>6.0}%{:>11.2}{:>8.1}x{:>9.2}{:>9.1}x{:>9.1}",
        full.lost + paced.lost,
        full.duplicated + paced.duplicated,
        full.reordered + paced.reordered,
        full.corrupted + paced.corrupted,
        full.bytes_per_s / 1e3,
        full.bytes_per_s / best.0.bytes_per_s * 100.0,
        p50,
        p50 / best_p50,
        p99,
        p99 / best_p99,
        most,
    )
}

/// The faults of the rows of the table.
const ROWS: [(&str, LineFaults, Option<Suite>); 11] = [
    ("none", LineFaults::NONE, None),
    ("0.1 % of bytes", bytes(0.001), None),
    ("1 % of bytes", bytes(0.01), None),
    ("2 % of bytes", bytes(0.02), None),
    ("5 % of bytes", bytes(0.05), None),
    ("50 ms silences", LineFaults { per_byte: 0.0, silences_per_s: 2.0, silence_ms: 50 }, None),
    ("tag64, none", LineFaults::NONE, Some(Suite::Tag64)),
    ("tag64, 1 %", bytes(0.01), Some(Suite::Tag64)),
    ("tag64, 2 %", bytes(0.02), Some(Suite::Tag64)),
    ("sealed, none", LineFaults::NONE, Some(Suite::Sealed)),
    ("sealed, 1 %", bytes(0.01), Some(Suite::Sealed)),
];
const LENGTHS: [usize; 2] = [32, 64];

/// How messages are offered to the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// As many as it takes.
    Saturated,
    /// One each so many microseconds.
    Every(u64),
}

/// What one run is like.
#[derive(Debug, Clone, Copy)]
struct Run {
    faults: LineFaults,
    /// That of the line's key, if it has one.
    suite: Option<Suite>,
    /// Bytes of each message, header included.
    len: usize,
    messages: u32,
    load: Load,
    seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// Sent and never arrived.
    lost: u32,
    duplicated: u32,
    reordered: u32,
    corrupted: u32,
    /// Bytes of messages that arrived, a second of the line's time.
    bytes_per_s: f64,
    /// From the moment a message is due to its being taken.
    latency: Option<RoundTrips>,
}

impl Outcome {
    /// What must be 0.
    const fn faults(&self) -> u32 {
        self.lost + self.duplicated + self.reordered + self.corrupted
    }
}

/// Sends the messages of `run` from a board to a hub over a line of [`BAUD`].
fn run(run: &Run) -> Outcome {
    let setup = LineSetup { baud: BAUD, delay_us: 0, faults: run.faults, seed: run.seed };
    let (line, near, far) = LineSim::new(setup);
    match run.suite {
        None => {
            let (near, far) = (
                Serial::<{ serial_buffer_len(128) }>::new(near),
                Serial::<{ serial_buffer_len(128) }>::new(far),
            );
            carry(run, &line, Board::new(near), Hub::new(far))
        }
        Some(suite) => {
            let (near, far) = (
                Serial::<{ serial_buffer_len(SECURED_FRAME) }>::new(near),
                Serial::<{ serial_buffer_len(SECURED_FRAME) }>::new(far),
            );
            let (near, far) = (secured_board(near, suite, 1), SecuredHub::new(far, suite, 1));
            carry(run, &line, Board::new(near), Hub::new(far))
        }
    }
}

fn carry<L: SimLink, M: SimLink>(run: &Run, line: &LineSim, mut board: Board<L>, mut hub: Hub<M>) -> Outcome {
    board.reset(Some(EPOCH));
    hub.reset(Some(EPOCH));
    let mut sender = Sender::new(run);
    let mut receiver = Receiver::new(run);
    let mut woken = None;
    while receiver.taken < run.messages && !receiver.has_given_up(line.now()) {
        let now = line.now();
        if woken != Some(HUB) {
            turn(&mut board, now, |_| (), |lane| sender.fill(lane, now));
        }
        if woken != Some(BOARD) {
            turn(&mut hub, now, |message| receiver.take(message, &mut sender.waiting, now), |_| ());
        }
        let due = [board.poll_timeout(), hub.poll_timeout(), sender.due(now)].into_iter().flatten().min();
        // Never back, and never to a standstill.
        let limit = due.unwrap_or(now.plus_millis(1_000)).max(Instant::from_micros(now.as_micros() + 1));
        woken = line.run(limit);
    }
    receiver.outcome(sender.next)
}

/// One turn of an end: what a main loop does when its UART has interrupted.
fn turn<L: SimLink, const N: usize>(
    lane: &mut Lane<L, N>,
    now: Instant,
    mut take: impl FnMut(&[u8]),
    mut fill: impl FnMut(&mut Lane<L, N>),
) {
    lane.flush(now).expect("a simulated line stays");
    while let Some(message) = lane.receive().expect("a simulated line stays") {
        take(message);
    }
    fill(lane);
    lane.flush(now).expect("a simulated line stays");
}

struct Sender {
    len: usize,
    load: Load,
    messages: u32,
    next: u32,
    due_at: u64,
    frame: [u8; MAX_MESSAGE],
    payload_at: usize,
    /// When those were due that have not arrived.
    waiting: VecDeque<u64>,
}

impl Sender {
    fn new(run: &Run) -> Self {
        let mut frame = [0; MAX_MESSAGE];
        let filler = [0; MAX_MESSAGE];
        let address = Address::new("board/order").expect("an address");
        let head = Message::request(1, address);
        let head_len = encode(&head.with_payload(MessagePayload::Binary(&[])), &mut frame).expect("it fits");
        let payload = filler.get(..run.len - head_len).expect("a message is shorter than that");
        let head = Message::request(1, address).with_payload(MessagePayload::Binary(payload));
        let len = encode(&head, &mut frame).expect("it fits");
        Self {
            len,
            load: run.load,
            messages: run.messages,
            next: 0,
            due_at: 0,
            frame,
            payload_at: head_len,
            waiting: VecDeque::new(),
        }
    }

    fn fill<L: SimLink>(&mut self, lane: &mut Board<L>, now: Instant) {
        while self.next < self.messages && self.due_at <= now.as_micros() {
            write_payload(self.next, &mut self.frame[self.payload_at..self.len]);
            if lane.room() < self.len {
                return;
            }
            assert!(lane.send(&self.frame[..self.len]).expect("a simulated line stays"), "there was room");
            self.next += 1;
            match self.load {
                Load::Saturated => self.waiting.push_back(now.as_micros()),
                Load::Every(micros) => {
                    self.waiting.push_back(self.due_at);
                    self.due_at += micros;
                }
            }
        }
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        (self.next < self.messages && self.due_at > now.as_micros())
            .then(|| Instant::from_micros(self.due_at))
    }
}

struct Receiver {
    len: usize,
    /// Number of the message that is to come next.
    expected: u32,
    taken: u32,
    taken_at: Instant,
    lost: u32,
    duplicated: u32,
    reordered: u32,
    corrupted: u32,
    latencies: Vec<u32>,
}

impl Receiver {
    fn new(run: &Run) -> Self {
        Self {
            len: run.len,
            expected: 0,
            taken: 0,
            taken_at: Instant::default(),
            lost: 0,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            latencies: Vec::with_capacity(run.messages as usize),
        }
    }

    fn take(&mut self, message: &[u8], waiting: &mut VecDeque<u64>, now: Instant) {
        self.taken += 1;
        self.taken_at = now;
        let Some(number) = read_payload(message, self.len) else {
            self.corrupted += 1;
            return;
        };
        match number.wrapping_sub(self.expected) as i32 {
            0 => self.expected += 1,
            -1 => self.duplicated += 1,
            ..0 => self.reordered += 1,
            ahead => {
                self.lost += ahead as u32;
                waiting.drain(..ahead as usize);
                self.expected = number + 1;
            }
        }
        if let Some(due) = waiting.pop_front() {
            self.latencies.push((now.as_micros() - due) as u32);
        }
    }

    /// Nothing has come for a minute: what is not there is lost.
    fn has_given_up(&self, now: Instant) -> bool {
        now.micros_since(self.taken_at) > 60_000_000
    }

    fn outcome(&self, sent: u32) -> Outcome {
        let mut latencies: Vec<Duration> =
            self.latencies.iter().map(|micros| Duration::from_micros(u64::from(*micros))).collect();
        Outcome {
            lost: self.lost + (sent - self.expected),
            duplicated: self.duplicated,
            reordered: self.reordered,
            corrupted: self.corrupted,
            bytes_per_s: f64::from(self.taken) * self.len as f64 / self.taken_at.as_micros() as f64 * 1e6,
            latency: RoundTrips::from_samples(&mut latencies),
        }
    }
}

/// Its number, and bytes that follow from it.
fn write_payload(number: u32, payload: &mut [u8]) {
    let mut state = number;
    for word in payload.chunks_mut(4) {
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        state = state.wrapping_mul(0x9E37_79B1).wrapping_add(0x7F4A_7C15);
    }
}

/// The number of a message that is as it was sent.
fn read_payload(message: &[u8], len: usize) -> Option<u32> {
    let payload = message.get(HEAD..)?;
    let number = u32::from_le_bytes(*payload.first_chunk()?);
    let mut expected = [0; MAX_MESSAGE];
    let expected = expected.get_mut(..payload.len())?;
    write_payload(number, expected);
    (message.len() == len && payload == expected).then_some(number)
}

const fn bytes(per_byte: f64) -> LineFaults {
    LineFaults { per_byte, ..LineFaults::NONE }
}

type Serial<const MAX: usize> = SerialLink<SimUart, MAX>;
type Board<L> = Lane<L, { 2 * lane_len(256) }>;
type Hub<L> = Lane<L, { 2 * lane_len(1024) }>;

/// A link on the simulated line, with a key or without.
trait SimLink: Link<Error = SerialError> {}

impl<L: Link<Error = SerialError>> SimLink for L {}

/// Bits a second on the line.
const BAUD: u32 = 1_000_000;
/// The ends of the line.
const BOARD: usize = 0;
const HUB: usize = 1;
const EPOCH: u16 = 7;
const MAX_MESSAGE: usize = 256;
/// Bytes before the payload: two of the head, the id, no source, the length of the address and the address.
const HEAD: usize = 2 + 1 + 1 + 1 + "board/order".len();
