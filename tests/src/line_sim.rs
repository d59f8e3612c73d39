//! A serial line in simulated time: every byte, every fault and every FIFO of it, and no clock.
//!
//! ```text
//! end 0: write -> [FIFO of 16] -> shift register -> (faults) -> line delay -> [FIFO of 16] -> read :end 1
//! ```
//! and the same back. [`LineSim::run`] goes from byte to byte and stops where a real UART would interrupt: eight bytes
//! have come, or some and then nothing for four bytes' time; half of a FIFO that was full is free again.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use visorbus_core::Instant;

use crate::faulty_link::Random;

/// A full-duplex line, its time, and what it does wrong. Clones are the same line.
#[derive(Debug, Clone)]
pub struct LineSim(Rc<RefCell<Line>>);

impl LineSim {
    /// A silent line, and the UARTs at its ends.
    pub fn new(setup: LineSetup) -> (Self, SimUart, SimUart) {
        let line = Self(Rc::new(RefCell::new(Line::new(setup))));
        let (near, far) = (SimUart { line: line.clone(), end: 0 }, SimUart { line: line.clone(), end: 1 });
        (line, near, far)
    }

    /// The line's time, to the microsecond that has begun.
    pub fn now(&self) -> Instant {
        Instant::from_micros(self.0.borrow().now / NANOS)
    }

    /// Lets time go on until a UART would interrupt and says which end's, and at most until `limit`.
    pub fn run(&self, limit: Instant) -> Option<usize> {
        self.0.borrow_mut().run(limit.as_micros().saturating_mul(NANOS))
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: LineFaults) {
        let mut line = self.0.borrow_mut();
        line.faults = faults;
        line.plan();
    }

    /// Pulls the cable, or puts it back: in between every byte is lost, and no UART knows.
    pub fn set_plugged(&self, plugged: bool) {
        self.0.borrow_mut().plugged = plugged;
    }

    /// What went over the line, both ways, and what it did to it.
    pub fn counts(&self) -> LineCounts {
        self.0.borrow().counts
    }
}

/// What a line is like.
#[derive(Debug, Clone, Copy)]
pub struct LineSetup {
    /// Bits a second, ten of them a byte.
    pub baud: u32,
    /// How long a byte takes from the end of its last bit to the other end, as through a USB adapter.
    pub delay_us: u32,
    /// What it does wrong.
    pub faults: LineFaults,
    /// The same seed, the same faults.
    pub seed: u64,
}

/// How often a line does what wrong.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LineFaults {
    /// Share of the bytes that are hit: a third of them is damaged, a third gets lost, a third comes twice.
    pub per_byte: f64,
    /// Silences a second, at random moments.
    pub silences_per_s: f64,
    /// How long a silence lasts: everything is lost, both ways.
    pub silence_ms: u32,
}

impl LineFaults {
    /// A line as it should be.
    pub const NONE: Self = Self { per_byte: 0.0, silences_per_s: 0.0, silence_ms: 0 };
}

/// What a line did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineCounts {
    /// Bytes that were sent.
    pub bytes: u64,
    /// Bytes that arrived as others.
    pub damaged: u64,
    /// Bytes that did not arrive, but for silences.
    pub lost: u64,
    /// Bytes that arrived twice.
    pub doubled: u64,
    /// Bytes that fell into a silence, or on a pulled cable.
    pub silenced: u64,
    /// Bytes for which a receiver's FIFO had no room.
    pub overrun: u64,
}

/// One end of a [`LineSim`], as a UART of embedded-io. It panics where a real one would block.
#[derive(Debug)]
pub struct SimUart {
    line: LineSim,
    end: usize,
}

impl SimUart {
    fn tx(&self) -> RefMut<'_, Wire> {
        RefMut::map(self.line.0.borrow_mut(), |line| &mut line.wires[self.end])
    }

    fn rx(&self) -> RefMut<'_, Wire> {
        RefMut::map(self.line.0.borrow_mut(), |line| &mut line.wires[1 - self.end])
    }
}

impl ErrorType for SimUart {
    type Error = ErrorKind;
}

impl ReadReady for SimUart {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        let line: Ref<'_, Line> = self.line.0.borrow();
        let rx = &line.wires[1 - self.end];
        Ok(rx.is_overrun || !rx.received.is_empty())
    }
}

impl WriteReady for SimUart {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        let mut tx = self.tx();
        tx.wanted = tx.queue.len() == FIFO;
        Ok(!tx.wanted)
    }
}

impl Read for SimUart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut rx = self.rx();
        if std::mem::take(&mut rx.is_overrun) {
            return Err(ErrorKind::Other);
        }
        let len = bytes.len().min(rx.received.len());
        assert!(len > 0, "this read would block");
        for (place, byte) in bytes.iter_mut().zip(rx.received.drain(..len)) {
            *place = byte;
        }
        Ok(len)
    }
}

impl Write for SimUart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let now = self.line.0.borrow().now;
        let mut tx = self.tx();
        let len = bytes.len().min(FIFO - tx.queue.len());
        assert!(len > 0, "this write would block");
        if tx.queue.is_empty() && tx.busy_until < now {
            tx.busy_until = now;
        }
        tx.queue.extend(&bytes[..len]);
        tx.wanted = len < bytes.len();
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        panic!("waiting for a UART to run dry would block");
    }
}

/// Both directions, and the time.
#[derive(Debug)]
struct Line {
    /// Nanoseconds, as are all times here.
    now: u64,
    byte_time: u64,
    delay: u64,
    wires: [Wire; 2],
    plugged: bool,
    faults: LineFaults,
    random: Random,
    /// Bytes to go until the next that is hit.
    until_fault: u64,
    /// When the next silence begins.
    silent_from: u64,
    counts: LineCounts,
}

impl Line {
    fn new(setup: LineSetup) -> Self {
        let byte_time = 10 * 1_000_000_000 / u64::from(setup.baud);
        let mut line = Self {
            now: 0,
            byte_time,
            delay: u64::from(setup.delay_us) * NANOS,
            wires: [Wire::default(), Wire::default()],
            plugged: true,
            faults: setup.faults,
            random: Random::new(setup.seed),
            until_fault: 0,
            silent_from: 0,
            counts: LineCounts::default(),
        };
        line.plan();
        line
    }

    fn plan(&mut self) {
        self.until_fault = self.bytes_until_fault();
        self.silent_from = self.now.saturating_add(self.nanos_until_silence());
    }

    fn run(&mut self, limit: u64) -> Option<usize> {
        loop {
            // Whatever comes first: a byte is sent, a byte arrives, a receiver sees that no more come.
            let (mut at, mut wire, mut step) = (u64::MAX, 0, Step::Sent);
            for (index, candidate) in self.wires.iter().enumerate() {
                let (due, what) = candidate.next(self.byte_time);
                if due < at {
                    (at, wire, step) = (due, index, what);
                }
            }
            if at > limit {
                self.now = self.now.max(limit);
                return None;
            }
            self.now = self.now.max(at);
            // A wire's number is that of the end that sends on it.
            let (interrupts, end) = match step {
                Step::Sent => (self.end_byte(wire), wire),
                Step::Arrived => {
                    (self.wires[wire].arrive(self.now, self.byte_time, &mut self.counts), 1 - wire)
                }
                Step::Idle => {
                    self.wires[wire].idle_at = u64::MAX;
                    (true, 1 - wire)
                }
            };
            if interrupts {
                return Some(end);
            }
        }
    }

    /// The last bit of a byte has left; `true` when its sender wants to hear of it.
    fn end_byte(&mut self, wire: usize) -> bool {
        let (now, at) = (self.now, self.now + self.delay);
        self.counts.bytes += 1;
        let fate = self.fate();
        let wire = &mut self.wires[wire];
        let byte = wire.queue.pop_front().unwrap_or_default();
        wire.busy_until = now;
        match fate {
            Fate::Arrives => wire.travelling.push_back((at, byte)),
            Fate::Damaged(by) => wire.travelling.push_back((at, byte ^ by)),
            Fate::Doubled => wire.travelling.extend([(at, byte), (at, byte)]),
            Fate::Lost => {}
        }
        wire.wanted && wire.queue.len() == FIFO / 2
    }

    fn fate(&mut self) -> Fate {
        let silence = u64::from(self.faults.silence_ms) * 1_000 * NANOS;
        if self.now >= self.silent_from.saturating_add(silence) {
            self.silent_from = self.now.saturating_add(self.nanos_until_silence());
        }
        if !self.plugged || self.now >= self.silent_from {
            self.counts.silenced += 1;
            return Fate::Lost;
        }
        if self.until_fault > 0 {
            self.until_fault -= 1;
            return Fate::Arrives;
        }
        self.until_fault = self.bytes_until_fault();
        match self.random.below(3) {
            0 => {
                self.counts.damaged += 1;
                Fate::Damaged(1 + self.random.below(255) as u8)
            }
            1 => {
                self.counts.lost += 1;
                Fate::Lost
            }
            _ => {
                self.counts.doubled += 1;
                Fate::Doubled
            }
        }
    }

    /// Geometric, as of bytes that are hit independently of each other.
    fn bytes_until_fault(&mut self) -> u64 {
        let share = self.faults.per_byte;
        if share <= 0.0 { u64::MAX } else { (self.random.fraction().ln() / (1.0 - share).ln()) as u64 }
    }

    fn nanos_until_silence(&mut self) -> u64 {
        let per_s = self.faults.silences_per_s;
        if per_s <= 0.0 { u64::MAX } else { (-self.random.fraction().ln() / per_s * 1e9) as u64 }
    }
}

/// One direction.
#[derive(Debug)]
struct Wire {
    /// The sender's FIFO, the byte in its shift register in front.
    queue: VecDeque<u8>,
    /// When the last bit before the byte in front has left.
    busy_until: u64,
    /// The sender found no room.
    wanted: bool,
    /// Bytes on their way and when they arrive.
    travelling: VecDeque<(u64, u8)>,
    /// The receiver's FIFO.
    received: VecDeque<u8>,
    /// When the receiver takes the line for idle.
    idle_at: u64,
    is_overrun: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            queue: VecDeque::with_capacity(FIFO),
            busy_until: 0,
            wanted: false,
            travelling: VecDeque::new(),
            received: VecDeque::with_capacity(FIFO),
            idle_at: u64::MAX,
            is_overrun: false,
        }
    }
}

impl Wire {
    /// What happens next, and when.
    fn next(&self, byte_time: u64) -> (u64, Step) {
        let sent = if self.queue.is_empty() { u64::MAX } else { self.busy_until + byte_time };
        let arrived = self.travelling.front().map_or(u64::MAX, |(at, _)| *at);
        if arrived <= sent && arrived <= self.idle_at {
            (arrived, Step::Arrived)
        } else if sent <= self.idle_at {
            (sent, Step::Sent)
        } else {
            (self.idle_at, Step::Idle)
        }
    }

    /// A byte is there; `true` when the receiver is to look.
    fn arrive(&mut self, now: u64, byte_time: u64, counts: &mut LineCounts) -> bool {
        let Some((_, byte)) = self.travelling.pop_front() else { return false };
        if self.received.len() == FIFO {
            counts.overrun += 1;
            self.is_overrun = true;
            return false;
        }
        self.received.push_back(byte);
        self.idle_at = now + 4 * byte_time;
        self.received.len() == FIFO / 2
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Sent,
    Arrived,
    Idle,
}

enum Fate {
    Arrives,
    Damaged(u8),
    Lost,
    Doubled,
}

/// Bytes that a UART holds, each way.
const FIFO: usize = 16;
const NANOS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SETUP: LineSetup = LineSetup { baud: 1_000_000, delay_us: 0, faults: LineFaults::NONE, seed: 1 };
    const FOREVER: Instant = Instant::from_micros(u64::MAX / NANOS);

    /// Sends `count` bytes and returns what arrives.
    fn sent(setup: LineSetup, count: usize) -> (Vec<u8>, LineSim) {
        let (line, mut near, mut far) = LineSim::new(setup);
        let (mut next, mut received) = (0, Vec::new());
        loop {
            while next < count && near.write_ready().unwrap() {
                next += near.write(&[next as u8]).unwrap();
            }
            while far.read_ready().unwrap() {
                let mut bytes = [0; 5];
                let len = far.read(&mut bytes).unwrap();
                received.extend_from_slice(&bytes[..len]);
            }
            if line.run(FOREVER).is_none() && next == count {
                return (received, line);
            }
        }
    }

    #[test]
    fn bytes_arrive_in_order_and_when_the_baud_rate_says() {
        let (line, mut near, mut far) = LineSim::new(LineSetup { delay_us: 125, ..SETUP });
        assert_eq!(near.write(&[7; 40]), Ok(16), "what the FIFO holds");
        assert!(!near.write_ready().unwrap());
        let interrupt = || (line.run(FOREVER), line.now().as_micros());
        assert_eq!(interrupt(), (Some(0), 80), "half of the sender's FIFO is free");
        assert!(near.write_ready().unwrap());
        assert_eq!(interrupt(), (Some(1), 80 + 125), "half of the receiver's is full");
        assert_eq!(far.read(&mut [0; 32]), Ok(8));
        assert_eq!(interrupt(), (Some(1), 160 + 125));
        let bytes: Vec<u8> = (0..1_000).map(|at: usize| at as u8).collect();
        assert_eq!(sent(SETUP, 1_000).0, bytes);
        assert_eq!(sent(LineSetup { delay_us: 1_000, ..SETUP }, 1_000).0, bytes);
    }

    #[test]
    fn a_few_bytes_are_reported_once_the_line_is_idle() {
        let (line, mut near, mut far) = LineSim::new(SETUP);
        near.write(&[1, 2, 3]).unwrap();
        assert_eq!(line.run(FOREVER), Some(1));
        assert_eq!(line.now().as_micros(), 30 + 40);
        assert_eq!(far.read(&mut [0; 32]), Ok(3));
        assert_eq!(line.run(Instant::from_micros(1_000)), None);
        assert_eq!((line.now().as_micros(), far.read_ready()), (1_000, Ok(false)));
    }

    #[test]
    fn faults_come_as_often_as_they_should_and_the_same_for_the_same_seed() {
        let faults = LineFaults { per_byte: 0.03, ..LineFaults::NONE };
        let (bytes, line) = sent(LineSetup { faults, ..SETUP }, 100_000);
        let counts = line.counts();
        for hit in [counts.damaged, counts.lost, counts.doubled] {
            assert!((800..1_200).contains(&hit), "{counts:?}");
        }
        assert_eq!(bytes.len() as u64, counts.bytes - counts.lost + counts.doubled);
        assert_eq!((counts.bytes, counts.silenced, counts.overrun), (100_000, 0, 0));
        assert_eq!(sent(LineSetup { faults, ..SETUP }, 100_000).0, bytes);
        assert_ne!(sent(LineSetup { faults, seed: 2, ..SETUP }, 100_000).0, bytes);
    }

    #[test]
    fn silences_and_a_pulled_cable_swallow_what_is_sent() {
        let faults = LineFaults { silences_per_s: 5.0, silence_ms: 50, ..LineFaults::NONE };
        let (bytes, line) = sent(LineSetup { faults, ..SETUP }, 1_000_000);
        let counts = line.counts();
        assert_eq!(bytes.len() as u64, counts.bytes - counts.silenced);
        // Ten seconds with five silences in each second of sound: a fifth of the time.
        assert!((120_000..280_000).contains(&counts.silenced), "{counts:?}");

        let (line, mut near, mut far) = LineSim::new(SETUP);
        line.set_plugged(false);
        near.write(&[1; 10]).unwrap();
        assert_eq!(line.run(Instant::from_micros(1_000)), None);
        assert_eq!((far.read_ready(), line.counts().silenced), (Ok(false), 10));
        line.set_plugged(true);
        near.write(&[1; 10]).unwrap();
        assert!(line.run(FOREVER).is_some() && far.read_ready().unwrap());
    }

    #[test]
    fn a_receiver_that_does_not_look_loses_bytes_and_is_told() {
        let (line, mut near, mut far) = LineSim::new(SETUP);
        for _ in 0..2 {
            near.write(&[9; 16]).unwrap();
            while line.run(Instant::from_micros(line.now().as_micros() + 1_000)).is_some() {}
        }
        assert_eq!(line.counts().overrun, 16);
        assert_eq!(far.read(&mut [0; 32]), Err(ErrorKind::Other));
        assert_eq!(far.read(&mut [0; 32]), Ok(16));
        assert_eq!(far.read_ready(), Ok(false));
    }
}
