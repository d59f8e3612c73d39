//! Two lanes over lines that do to bytes and frames what real ones do.

use visorbus_core::codec::encode;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::message::{Address, MessagePayload, MessagePriority};
use visorbus_core::secure::Suite;
use visorbus_core::{Instant, Link, Message};
use visorbus_hal::{Lane, SerialError, SerialLink, piece_len, serial_buffer_len};
use visorbus_tests::faulty_link::{Faults, FaultyLink, Random};
use visorbus_tests::line_sim::{LineFaults, LineSetup, LineSim, SimUart};
use visorbus_tests::memory_link::MemoryLink;
use visorbus_tests::secured::{SECURED_FRAME, SecuredBoard, SecuredHub, secured_board};

#[test]
fn every_class_arrives_once_and_in_order_over_lines_with_faults() {
    for (seed, per_byte) in [(1, 0.0), (2, 0.001), (3, 0.01), (4, 0.02), (5, 0.05)] {
        let mut pair = Pair::<516, 2_052>::new(line(1_000_000, bytes(per_byte), seed));
        pair.exchange(400);
        let resent = pair.near.lane.stats().resent;
        // Even a good line is now and then slower than expected.
        assert_eq!(resent > 50, per_byte > 0.0, "{per_byte}: {resent}");
    }
}

#[test]
fn every_class_arrives_once_and_in_order_over_secure_lines_with_faults() {
    for suite in [Suite::Tag64, Suite::Sealed] {
        for (seed, per_byte, count) in [(1, 0.0, 400), (2, 0.001, 400), (3, 0.02, 100), (4, 0.05, 3)] {
            let mut pair = Secured::<516, 2_052>::secured(line(1_000_000, bytes(per_byte), seed), suite);
            pair.exchange(count);
            let (board, hub) = (pair.near.lane.link().stats(), pair.far.lane.link().link.stats());
            // The line's own checksum keeps what is damaged from the tags, so that those tell of something else.
            assert_eq!((board.bad, hub.bad, board.refused, hub.refused), (0, 0, 0, 0), "{suite}, {per_byte}");
            assert_eq!((board.handshakes, hub.handshakes), (1, 1), "{suite}, {per_byte}");
        }
    }
}

#[test]
fn a_secure_line_that_is_pulled_for_seconds_loses_nothing_on_its_streams() {
    let mut pair = Secured::<516, 516>::secured(line(1_000_000, LineFaults::NONE, 10), Suite::Tag64);
    let mut loose = 0;
    for seconds in [1, 5, 60] {
        pair.run_ms(100, |pair| pair.near.offer(60));
        pair.line.set_plugged(false);
        pair.run_ms(seconds * 1_000, |pair| {
            pair.near.offer(60);
            loose += 1;
            pair.near.offer_loose(loose);
        });
        pair.line.set_plugged(true);
        let before = pair.far.next[BULK];
        pair.run_until(|pair| pair.far.next[BULK] > before, |_| ());
    }
    pair.finish();
}

#[test]
fn the_smallest_lane_does_it_too_beside_a_large_one() {
    Pair::<130, 130>::new(line(1_000_000, bytes(0.01), 6)).exchange(200);
    Pair::<130, 16_384>::new(line(1_000_000, bytes(0.01), 7)).exchange(200);
    Pair::<16_384, 130>::new(line(1_000_000, bytes(0.01), 8)).exchange(200);
}

#[test]
fn it_does_it_at_any_speed_and_through_a_slow_adapter() {
    for (baud, delay_us, seed) in
        [(9_600, 0, 1), (115_200, 16_000, 2), (3_000_000, 0, 3), (921_600, 1_000, 4)]
    {
        let faults = bytes(0.002);
        let mut pair = Pair::<516, 516>::new(LineSetup { baud, delay_us, faults, seed });
        pair.near.lane = pair.near.lane.with_piece(piece_len(baud));
        pair.far.lane = pair.far.lane.with_piece(piece_len(baud));
        pair.exchange(60);
    }
}

#[test]
fn silences_of_fifty_milliseconds_lose_nothing() {
    let faults = LineFaults { per_byte: 0.001, silences_per_s: 5.0, silence_ms: 50 };
    let mut pair = Pair::<516, 516>::new(line(1_000_000, faults, 9));
    pair.exchange(1_000);
    assert!(pair.line.counts().silenced > 1_000, "{:?}", pair.line.counts());
}

#[test]
fn a_cable_that_is_pulled_for_seconds_loses_nothing_and_works_at_once_again() {
    let mut pair = Pair::<516, 516>::new(line(1_000_000, LineFaults::NONE, 10));
    for seconds in [1, 5, 60] {
        pair.run_ms(20, |pair| pair.near.offer(60));
        pair.line.set_plugged(false);
        let bytes = pair.line.counts().bytes;
        pair.run_ms(seconds * 1_000, |pair| pair.near.offer(60));
        let tried = (pair.line.counts().bytes - bytes) / u64::from(seconds);
        assert!(tried < 20_000, "{tried} bytes a second are sent into nothing");
        pair.line.set_plugged(true);
        let (back, before) = (pair.line.now(), pair.far.next[BULK]);
        pair.run_until(|pair| pair.far.next[BULK] > before, |_| ());
        let after = pair.line.now().micros_since(back);
        assert!(after < 300_000, "{after} us after it came back");
    }
    pair.finish();
}

#[test]
fn both_ends_flood_at_once() {
    let mut pair = Pair::<516, 516>::new(line(1_000_000, bytes(0.005), 11));
    pair.run_ms(5_000, |pair| {
        pair.near.offer(100);
        pair.far.offer(100);
    });
    let (one, other) = (pair.far.next[BULK], pair.near.next[BULK]);
    assert!(one > 500 && other > 500, "{one} and {other} messages of 100 bytes in 5 s of 500 kB");
    pair.finish();
}

#[test]
fn an_end_that_takes_nothing_holds_the_other_up_until_it_does() {
    let mut pair = Pair::<516, 516>::new(line(1_000_000, bytes(0.005), 12));
    pair.far.takes = false;
    pair.run_ms(10_000, |pair| pair.near.offer(60));
    let waiting = pair.near.sent[BULK];
    assert!(waiting < 2 * 516 / 60 + 2, "{waiting} messages in two times 516 bytes");
    assert_eq!((pair.near.lane.room() < 60, pair.far.next[BULK]), (true, 0));
    pair.far.takes = true;
    let start = pair.line.now();
    pair.run_until(|pair| pair.far.next[BULK] == waiting, |_| ());
    assert!(pair.line.now().micros_since(start) < 20_000, "{:?}", pair.line.now());
    pair.finish();
}

#[test]
fn an_urgent_message_waits_milliseconds_while_a_long_one_is_on_its_way() {
    const BAUD: u32 = 115_200;
    let mut pair = Pair::<1_100, 1_100>::new(line(BAUD, LineFaults::NONE, 13));
    pair.near.lane = pair.near.lane.with_piece(piece_len(BAUD));
    let mut worst = 0;
    for wait_ms in 1..60 {
        pair.near.send(MessagePriority::Normal, 1_024);
        pair.run_ms(wait_ms, |_| ());
        pair.near.send(MessagePriority::High, 20);
        let start = pair.line.now();
        pair.run_until(|pair| pair.far.next[URGENT] == pair.near.sent[URGENT], |_| ());
        worst = worst.max(pair.line.now().micros_since(start));
        assert!(pair.far.next[BULK] < pair.near.sent[BULK], "1 KiB takes 90 ms, urgent or not");
        pair.finish();
    }
    // Two pieces of 5 ms, one that has begun and one that may be in the UART, and its own 3 ms.
    assert!(worst < 13_000, "{worst} us");
}

#[test]
fn best_effort_shares_the_line_with_the_streams() {
    let mut pair = Pair::<516, 516>::new(line(1_000_000, bytes(0.001), 14));
    let mut loose = 0;
    pair.run_ms(5_000, |pair| {
        pair.near.offer(100);
        loose += u32::from(pair.near.offer_loose(loose));
    });
    let (stream, arrived) = (pair.far.next[BULK], pair.far.loose);
    assert!(stream > 1_000 && arrived > 1_000, "{stream} and {arrived} of {loose}");
    pair.finish();
}

#[test]
fn a_new_session_begins_anew_while_frames_of_the_old_are_on_their_way() {
    let mut pair = Pair::<516, 516>::new(line(1_000_000, bytes(0.005), 15));
    let mut random = Random::new(15);
    for epoch in 2..300 {
        pair.run_ms(1 + random.below(20) as u32, |pair| {
            pair.near.offer(60);
            pair.far.offer(60);
        });
        // One end is earlier than the other: what it sends first is not of the other's session.
        pair.near.reset(epoch);
        pair.run_ms(random.below(3) as u32, |pair| pair.near.offer(60));
        pair.far.reset(epoch);
        (pair.near.next, pair.far.next) = (pair.far.first, pair.near.first);
    }
    pair.finish();
    assert!(pair.near.lane.stats().stale > 0 && pair.far.lane.stats().stale > 0);
}

#[test]
fn frames_that_get_lost_doubled_and_reordered_break_no_order() {
    let all = Faults { drop: 100, duplicate: 100, reorder: 100, corrupt: 0 };
    for (seed, faults) in [
        (1, Faults { drop: 300, ..Faults::NONE }),
        (2, Faults { duplicate: 500, ..Faults::NONE }),
        (3, Faults { reorder: 300, ..Faults::NONE }),
        (4, all),
        (5, all),
        (6, Faults { drop: 300, duplicate: 300, reorder: 300, corrupt: 0 }),
    ] {
        let (near, far) = MemoryLink::pair(64, MAX_LINE_FRAME);
        let mut near = End::new(Lane::<_, 516>::new(FaultyLink::new(near, seed)));
        let mut far = End::new(Lane::<_, 300>::new(FaultyLink::new(far, seed + 100)));
        near.lane.link_mut().set_faults(faults);
        far.lane.link_mut().set_faults(faults);
        near.reset(9);
        far.reset(9);
        let mut now = Instant::from_micros(1);
        while far.next[BULK] < 3_000 || near.next[BULK] < 3_000 {
            near.offer(60);
            far.offer(60);
            near.turn(now);
            far.turn(now);
            now = Instant::from_micros(now.as_micros() + 100);
            assert!(
                now.as_micros() < 600_000_000,
                "{faults:?}: {:?}, {:?}",
                near.lane.stats(),
                far.lane.stats()
            );
        }
    }
}

#[test]
fn frames_whose_bits_flip_without_a_checksum_to_tell_never_panic_and_a_new_session_is_clean() {
    let (near, far) = MemoryLink::pair(64, MAX_LINE_FRAME);
    let mut near = Lane::<_, 516>::new(FaultyLink::new(near, 1));
    let mut far = Lane::<_, 300>::new(FaultyLink::new(far, 2));
    let faults = Faults { drop: 20, duplicate: 20, reorder: 20, corrupt: 200 };
    let mut now = Instant::from_micros(1);
    for epoch in 0..400 {
        near.link_mut().set_faults(faults);
        far.link_mut().set_faults(faults);
        near.reset(Some(epoch));
        far.reset(Some(epoch));
        for number in 0..100 {
            let frame = message(MessagePriority::Normal, number, 60);
            near.send(&frame).unwrap();
            far.send(&frame).unwrap();
            near.flush(now).unwrap();
            far.flush(now).unwrap();
            while near.receive().unwrap().is_some() {}
            while far.receive().unwrap().is_some() {}
            now = Instant::from_micros(now.as_micros() + 1_000);
        }
    }
    near.link_mut().set_faults(Faults::NONE);
    far.link_mut().set_faults(Faults::NONE);
    while near.link_mut().receive().unwrap().is_some() || !near.link_mut().flush(now).unwrap() {}
    while far.link_mut().receive().unwrap().is_some() || !far.link_mut().flush(now).unwrap() {}
    while near.link_mut().receive().unwrap().is_some() {}
    let (mut near, mut far) = (End::new(near), End::new(far));
    near.reset(1_000);
    far.reset(1_000);
    for _ in 0..1_000 {
        near.offer(60);
        near.turn(now);
        far.turn(now);
        now = Instant::from_micros(now.as_micros() + 1_000);
    }
    assert!(far.next[BULK] > 1_000);
}

/// Two ends on one simulated line.
struct Pair<const A: usize, const B: usize, L = Serial, M = Serial> {
    line: LineSim,
    near: End<L, A>,
    far: End<M, B>,
}

type Serial = SerialLink<SimUart, { serial_buffer_len(SECURED_FRAME) }>;
type Secured<const A: usize, const B: usize> = Pair<A, B, SecuredBoard<Serial>, SecuredHub<Serial>>;

impl<const A: usize, const B: usize> Pair<A, B> {
    fn new(setup: LineSetup) -> Self {
        Self::over(setup, SerialLink::new, SerialLink::new)
    }
}

impl<const A: usize, const B: usize> Secured<A, B> {
    fn secured(setup: LineSetup, suite: Suite) -> Self {
        Self::over(
            setup,
            |uart| secured_board(SerialLink::new(uart), suite, 1),
            |uart| SecuredHub::new(SerialLink::new(uart), suite, 1),
        )
    }
}

impl<const A: usize, const B: usize, L, M> Pair<A, B, L, M>
where
    L: Link<Error = SerialError>,
    M: Link<Error = SerialError>,
{
    fn over(setup: LineSetup, near: impl FnOnce(SimUart) -> L, far: impl FnOnce(SimUart) -> M) -> Self {
        let (line, one, other) = LineSim::new(setup);
        let mut near = End::new(Lane::new(near(one)));
        let mut far = End::new(Lane::new(far(other)));
        near.reset(1);
        far.reset(1);
        Self { line, near, far }
    }

    /// Messages of all classes and many lengths, both ways, until all that must have arrived.
    fn exchange(&mut self, count: u32) {
        let longest = A.min(B) - 2;
        for number in 0..count {
            let len = 20 + number as usize * 7 % (longest - 19);
            while !self.near.try_send(MessagePriority::Normal, len) {
                self.step(|_| ());
            }
            while !self.far.try_send(MessagePriority::Low, longest + 20 - len) {
                self.step(|_| ());
            }
            if number % 3 == 0 {
                while !self.near.try_send(MessagePriority::Critical, 30) {
                    self.step(|_| ());
                }
                while !self.far.try_send(MessagePriority::High, len) {
                    self.step(|_| ());
                }
            }
            self.near.offer_loose(number);
            self.far.offer_loose(number);
        }
        self.finish();
    }

    /// Until everything that must has arrived.
    #[track_caller]
    fn finish(&mut self) {
        self.run_until(|pair| pair.far.next == pair.near.sent && pair.near.next == pair.far.sent, |_| ());
    }

    fn run_ms(&mut self, millis: u32, mut each: impl FnMut(&mut Self)) {
        let end = self.line.now().plus_millis(millis);
        while self.line.now() < end {
            self.step(&mut each);
        }
    }

    #[track_caller]
    fn run_until(&mut self, done: impl Fn(&Self) -> bool, mut each: impl FnMut(&mut Self)) {
        let limit = self.line.now().plus_millis(100_000);
        while !done(self) {
            assert!(self.line.now() < limit, "{:?}\n{:?}", self.near.lane.stats(), self.far.lane.stats());
            self.step(&mut each);
        }
    }

    /// To the next moment at which something happens, at most a millisecond on.
    fn step(&mut self, mut each: impl FnMut(&mut Self)) {
        let now = self.line.now();
        each(self);
        self.near.turn(now);
        self.far.turn(now);
        let due = [self.near.lane.poll_timeout(), self.far.lane.poll_timeout()].into_iter().flatten().min();
        let limit = now.plus_millis(1).min(due.unwrap_or(now.plus_millis(1)));
        self.line.run(limit.max(Instant::from_micros(now.as_micros() + 1)));
    }
}

/// One end: what it sends is numbered, what it takes is checked.
struct End<L, const N: usize> {
    lane: Lane<L, N>,
    /// Messages sent, by class.
    sent: [u32; 2],
    /// Of these, those of sessions before this one.
    first: [u32; 2],
    /// The number that is to come next, by class.
    next: [u32; 2],
    /// Best-effort messages that came.
    loose: u32,
    last_loose: Option<u32>,
    takes: bool,
}

impl<L: Link, const N: usize> End<L, N>
where
    L::Error: std::fmt::Debug,
{
    fn new(lane: Lane<L, N>) -> Self {
        Self { lane, sent: [0; 2], first: [0; 2], next: [0; 2], loose: 0, last_loose: None, takes: true }
    }

    fn reset(&mut self, epoch: u16) {
        self.lane.reset(Some(epoch));
        self.first = self.sent;
    }

    /// Sends as many messages as there is room for.
    fn offer(&mut self, len: usize) {
        while self.try_send(MessagePriority::Normal, len) {}
    }

    fn send(&mut self, priority: MessagePriority, len: usize) {
        assert!(self.try_send(priority, len), "there is room");
    }

    fn try_send(&mut self, priority: MessagePriority, len: usize) -> bool {
        let class = usize::from(priority >= MessagePriority::High);
        let frame = message(priority, self.sent[class], len);
        let sent = self.lane.room_for(frame[0]) >= len && self.lane.send(&frame).unwrap();
        self.sent[class] += u32::from(sent);
        sent
    }

    fn offer_loose(&mut self, number: u32) -> bool {
        let to = Address::literal("topic/loose");
        let mut frame = [0; 64];
        let payload = number.to_le_bytes();
        let message = Message::notification(0, to).with_payload(MessagePayload::Binary(&payload));
        let len = encode(&message, &mut frame).unwrap();
        self.lane.room_for(frame[0]) > 0 && self.lane.send(&frame[..len]).unwrap()
    }

    fn turn(&mut self, now: Instant) {
        self.lane.flush(now).unwrap();
        while self.takes
            && let Some(frame) = self.lane.receive().unwrap()
        {
            let message = visorbus_core::codec::decode(frame).unwrap();
            let payload = message.payload.as_bytes();
            let number = u32::from_le_bytes(*payload.first_chunk().unwrap());
            if message.destination == Some(Address::literal("topic/loose")) {
                assert!(self.last_loose < Some(number), "{number} behind {:?}", self.last_loose);
                self.last_loose = Some(number);
                self.loose += 1;
                continue;
            }
            let class = usize::from(message.flags.priority >= MessagePriority::High);
            assert_eq!(number, self.next[class], "class {class}: lost, doubled or out of order");
            assert!(payload[4..].iter().all(|byte| *byte == number as u8), "{number} is not as it was sent");
            self.next[class] += 1;
        }
        self.lane.flush(now).unwrap();
    }
}

/// A request of `len` bytes that carries its number.
fn message(priority: MessagePriority, number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len + 16];
    let mut request = Message::request(1, Address::literal("a"));
    request.flags.priority = priority;
    let head = encode(&request.with_payload(MessagePayload::Binary(&[])), &mut frame).unwrap();
    let payload = [&number.to_le_bytes()[..], &vec![number as u8; len - head - 4]].concat();
    let written = encode(&request.with_payload(MessagePayload::Binary(&payload)), &mut frame).unwrap();
    assert_eq!(written, len);
    frame.truncate(len);
    frame
}

const fn line(baud: u32, faults: LineFaults, seed: u64) -> LineSetup {
    LineSetup { baud, delay_us: 0, faults, seed }
}

const fn bytes(per_byte: f64) -> LineFaults {
    LineFaults { per_byte, ..LineFaults::NONE }
}

const BULK: usize = 0;
const URGENT: usize = 1;
