//! Two lanes with a line of whole frames between them that a test can see and touch.

extern crate std;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;
use std::{format, vec};

use super::header::Header;
use super::*;
use visorbus_core::bus;

/// One end of a line: frames that went in at the other, in order. It takes `capacity` of them at once.
struct Line {
    out: Queue,
    incoming: Queue,
    capacity: usize,
    current: Vec<u8>,
}

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

impl Line {
    fn pair(capacity: usize) -> (Self, Self) {
        let (one, other) = (Queue::default(), Queue::default());
        let end = |out: &Queue, incoming: &Queue| Self {
            out: Rc::clone(out),
            incoming: Rc::clone(incoming),
            capacity,
            current: Vec::new(),
        };
        (end(&one, &other), end(&other, &one))
    }
}

impl Link for Line {
    type Error = core::convert::Infallible;

    fn room(&mut self) -> usize {
        if self.out.borrow().len() < self.capacity { MAX_LINE_FRAME } else { 0 }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Self::Error> {
        let Some(frame) = self.incoming.borrow_mut().pop_front() else { return Ok(None) };
        self.current = frame;
        Ok(Some(&self.current))
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Self::Error> {
        assert!(frame.len() <= MAX_LINE_FRAME, "{} bytes", frame.len());
        let fits = self.room() >= frame.len();
        if fits {
            self.out.borrow_mut().push_back(frame.to_vec());
        }
        Ok(fits)
    }

    fn flush(&mut self, _now: Instant) -> Result<bool, Self::Error> {
        Ok(true)
    }

    fn max_frame(&self) -> usize {
        MAX_LINE_FRAME
    }
}

/// Two ends and the time; both on, unless a test turns them off.
struct Pair<const A: usize, const B: usize> {
    near: Lane<Line, A>,
    far: Lane<Line, B>,
    now: Instant,
}

impl<const A: usize, const B: usize> Pair<A, B> {
    fn new() -> Self {
        let (near, far) = Line::pair(64);
        let mut pair = Self { near: Lane::new(near), far: Lane::new(far), now: Instant::from_micros(1_000) };
        pair.reset(5);
        pair
    }

    fn reset(&mut self, epoch: u16) {
        self.near.reset(Some(epoch));
        self.far.reset(Some(epoch));
    }

    fn wait_us(&mut self, micros: u64) {
        self.now = Instant::from_micros(self.now.as_micros() + micros);
    }

    /// Everything that the far end takes until both ends are at rest, losing what `loses` says.
    fn pump(&mut self, loses: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        for _ in 0..10_000 {
            self.near.flush(self.now).unwrap();
            let way = Rc::clone(&self.near.link().out);
            way.borrow_mut().retain(|frame| !loses(frame));
            self.far.flush(self.now).unwrap();
            while let Some(message) = self.far.receive().unwrap() {
                taken.push(message.to_vec());
            }
            self.far.flush(self.now).unwrap();
            while self.near.receive().unwrap().is_some() {}
            self.near.flush(self.now).unwrap();
            if self.near.link().out.borrow().is_empty() && self.near.link().incoming.borrow().is_empty() {
                let due = [self.near.poll_timeout(), self.far.poll_timeout()].into_iter().flatten().min();
                match due {
                    Some(due) => self.now = self.now.max(due),
                    None => return taken,
                }
            }
        }
        panic!("never at rest: {:?}, {:?}", self.near.arq, self.far.arq);
    }

    fn send(&mut self, message: &[u8]) {
        assert!(self.near.send(message).unwrap(), "no room: {:?}", self.near.arq);
    }
}

/// A message of `head` to `to`, with `len` bytes of payload that are `fill`.
fn message(head: u8, to: &str, fill: u8, len: usize) -> Vec<u8> {
    let parts = 1; // Binary.
    [&[head, parts, 9, 0, to.len() as u8], to.as_bytes(), &vec![fill; len]].concat()
}

fn nothing(_frame: &[u8]) -> bool {
    false
}

const REQUEST: u8 = 0x08;
const URGENT_REQUEST: u8 = 0x10;
const NOTIFICATION: u8 = 0x0A;
const URGENT_NOTIFICATION: u8 = 0x12;
const HEARTBEAT: u8 = 0x0C;

#[test]
fn before_it_is_on_frames_pass_as_they_are() {
    let mut pair = Pair::<258, 258>::new();
    pair.near.reset(None);
    pair.far.reset(None);
    assert_eq!((pair.near.max_frame(), pair.near.room()), (MAX_LINE_FRAME, MAX_LINE_FRAME));
    let frame = message(REQUEST, "a/b", 1, 20);
    pair.send(&frame);
    assert_eq!(pair.near.link().out.borrow().front(), Some(&frame));
    assert_eq!(pair.far.receive().unwrap(), Some(&frame[..]));
    assert_eq!((pair.near.poll_timeout(), pair.near.stats()), (None, LaneStats::NONE));
}

#[test]
fn what_must_arrive_arrives_once_and_in_order_whatever_gets_lost() {
    for lost in 0..30 {
        let mut pair = Pair::<258, 516>::new();
        let messages: Vec<_> = (0..4)
            .map(|number| message(REQUEST, "a/b", number, 10 + 60 * (usize::from(number) % 2)))
            .collect();
        for message in &messages {
            pair.send(message);
        }
        let count = core::cell::Cell::new(0);
        // The frame of that number, and every fifth after it.
        let taken = pair.pump(|_| {
            count.set(count.get() + 1);
            count.get() >= lost && (count.get() - lost) % 5 == 0
        });
        assert_eq!(taken, messages, "{lost}");
        assert_eq!(pair.near.poll_timeout(), None);
        assert_eq!(pair.near.room(), Lane::<Line, 258>::MAX_MESSAGE, "all of it is acknowledged");
    }
}

#[test]
fn what_comes_behind_a_gap_is_kept_and_not_sent_again() {
    let mut pair = Pair::<516, 516>::new();
    pair.send(&message(REQUEST, "a/b", 9, 1));
    assert_eq!(pair.pump(nothing).len(), 1, "now it knows of all the room");
    for number in 0..4 {
        pair.send(&message(REQUEST, "a/b", number, 100));
    }
    pair.near.flush(pair.now).unwrap();
    let way = Rc::clone(&pair.near.link().out);
    assert!(way.borrow().len() >= 4);
    way.borrow_mut().remove(1);
    let before: usize = way.borrow().iter().map(Vec::len).sum();
    let sent = core::cell::Cell::new(0);
    assert_eq!(
        pair.pump(|frame| {
            sent.set(sent.get() + frame.len());
            false
        })
        .len(),
        4
    );
    let again = sent.get() - before;
    assert!(again <= 2 * MAX_LINE_FRAME, "{again} bytes were sent again for one frame");
}

#[test]
fn an_urgent_message_overtakes_a_long_one_between_its_pieces() {
    let mut pair = Pair::<1_026, 1_026>::new();
    pair.near.link.capacity = 1;
    pair.send(&message(REQUEST, "a/long", 1, 900));
    pair.near.flush(pair.now).unwrap();
    for head in [URGENT_REQUEST, URGENT_NOTIFICATION] {
        pair.send(&message(head, "a/short", 2, 10));
    }
    let taken = pair.pump(nothing);
    let lens: Vec<_> = taken.iter().map(Vec::len).collect();
    assert_eq!(lens, [22, 22, 911]);
}

#[test]
fn what_never_ends_does_not_starve_the_rest() {
    let mut pair = Pair::<258, 258>::new();
    pair.near.link.capacity = 1;
    let mut taken = [0; 4];
    for _ in 0..2_000 {
        for (head, to) in [(REQUEST, "a/bulk"), (URGENT_REQUEST, "a/urgent"), (NOTIFICATION, "a/loose")] {
            while pair.near.room_for(head) >= 110 {
                pair.send(&message(head, to, 0, 100 - to.len()));
            }
        }
        pair.near.flush(pair.now).unwrap();
        pair.far.flush(pair.now).unwrap();
        while let Some(message) = pair.far.receive().unwrap() {
            taken[usize::from(message[0] >> 3)] += 1;
        }
        pair.far.flush(pair.now).unwrap();
        pair.wait_us(1_000);
    }
    // By the priority in the head; requests and best-effort notifications have the same.
    assert!(taken[2] > 500, "urgent: {taken:?}");
    assert!(taken[1] > 350, "the others: {taken:?}");
}

#[test]
fn an_end_that_takes_nothing_holds_the_other_up_and_no_message_is_lost() {
    let mut pair = Pair::<258, 258>::new();
    let (mut sent, mut frames) = (0, 0);
    // Ten seconds of this.
    for _ in 0..10_000 {
        while pair.near.room() >= 60 {
            pair.send(&message(REQUEST, "a/b", sent, 50));
            sent += 1;
        }
        pair.near.flush(pair.now).unwrap();
        frames += pair.near.link().out.borrow().len();
        pair.far.flush(pair.now).unwrap();
        pair.near.flush(pair.now).unwrap();
        pair.wait_us(1_000);
    }
    assert!((4..12).contains(&sent), "two times 258 bytes: {sent}");
    assert!((100..400).contains(&frames), "a closed window is asked for some times a second: {frames}");
    let resumed = pair.now;
    let taken = pair.pump(nothing);
    assert_eq!(taken.iter().map(|message| message[8]).collect::<Vec<_>>(), (0..sent).collect::<Vec<_>>());
    assert!(pair.now.micros_since(resumed) < 1_000, "it goes on at once: {:?}", pair.now);
}

#[test]
fn a_word_on_the_room_that_gets_lost_is_asked_for() {
    let mut pair = Pair::<258, 258>::new();
    for number in 0.. {
        if pair.near.room() < 60 {
            assert!(number > 4);
            break;
        }
        pair.send(&message(REQUEST, "a/b", number, 50));
        pair.near.flush(pair.now).unwrap();
        pair.far.flush(pair.now).unwrap();
        pair.near.flush(pair.now).unwrap();
    }
    let mut taken = 0;
    while pair.far.receive().unwrap().is_some() {
        taken += 1;
    }
    pair.far.flush(pair.now).unwrap();
    pair.far.link().out.borrow_mut().clear();
    let lost_at = pair.now;
    taken += pair.pump(nothing).len();
    assert!(taken > 4, "{taken}");
    assert!(pair.now.micros_since(lost_at) < 300_000, "{:?}", pair.now);
}

#[test]
fn of_best_effort_the_newest_of_each_topic_goes_and_then_the_newest_of_all() {
    let mut pair = Pair::<258, 258>::new();
    pair.near.link.capacity = 0;
    for number in 0..10 {
        pair.send(&message(NOTIFICATION, "a/one", number, 20));
        pair.send(&message(NOTIFICATION, "a/other", number, 20));
    }
    assert!(!pair.near.flush(pair.now).unwrap());
    for number in 0..2 {
        pair.send(&message(HEARTBEAT, "", number, 4));
    }
    // Room for one of these beside the rest: the oldest goes.
    pair.send(&message(NOTIFICATION, "a/last", 0, 110));
    pair.send(&message(NOTIFICATION, "a/last2", 0, 90));
    pair.near.link.capacity = 64;
    let taken = pair.pump(nothing);
    let kinds: Vec<_> = taken.iter().map(|message| (message[0], message[message.len() - 1])).collect();
    assert_eq!(kinds, [(HEARTBEAT, 0), (HEARTBEAT, 1), (NOTIFICATION, 0), (NOTIFICATION, 0)]);
    assert_eq!(pair.near.stats().overtaken, 2, "those that were not the newest of all");
    // Nobody acknowledges them, and nobody waits for that.
    assert_eq!((pair.near.poll_timeout(), pair.far.poll_timeout()), (None, None));
}

#[test]
fn best_effort_that_nobody_takes_gives_way_to_newer_and_never_stops_the_streams() {
    let mut pair = Pair::<258, 258>::new();
    // The far end has something that is not acknowledged, and so goes on reading.
    pair.far.send(&message(REQUEST, "x/y", 1, 10)).unwrap();
    for number in 0..40 {
        pair.send(&message(NOTIFICATION, &format!("a/{number}"), number, 50));
        pair.near.flush(pair.now).unwrap();
        pair.far.flush(pair.now).unwrap();
        pair.far.link().out.borrow_mut().clear();
    }
    pair.send(&message(REQUEST, "a/b", 99, 10));
    let taken = pair.pump(nothing);
    let fills: Vec<_> = taken.iter().map(|message| message[message.len() - 1]).collect();
    assert_eq!(fills, [36, 37, 38, 39, 99], "{:?}", pair.far.stats());
    assert_eq!(pair.far.stats().missed, 36);
}

#[test]
fn hello_goes_before_all_streams_and_so_does_its_answer() {
    let mut pair = Pair::<258, 258>::new();
    pair.send(&message(REQUEST, "a/b", 1, 100));
    let hello = message(REQUEST, bus::HELLO, 2, 10);
    pair.send(&hello);
    let answer = [&[0x09, 1, 9, bus::HELLO.len() as u8], bus::HELLO.as_bytes(), &[0, 7]].concat();
    pair.send(&answer);
    pair.near.flush(pair.now).unwrap();
    let plain: Vec<_> =
        pair.near.link().out.borrow().iter().filter(|frame| !Header::marks(frame)).cloned().collect();
    assert_eq!(plain, [hello, answer]);
}

#[test]
fn a_new_session_forgets_everything_of_the_one_before() {
    let mut pair = Pair::<258, 258>::new();
    let old = [message(REQUEST, "a/old", 1, 100), message(REQUEST, "a/old", 2, 100)];
    for message in &old {
        pair.send(message);
    }
    pair.near.flush(pair.now).unwrap();
    // One has come and was not taken, one is on its way.
    pair.far.flush(pair.now).unwrap();
    let late: Vec<Vec<u8>> = pair.near.link().out.borrow_mut().drain(..).collect();
    pair.reset(6);
    let new = message(REQUEST, "a/new", 3, 30);
    pair.send(&new);
    pair.near.flush(pair.now).unwrap();
    pair.near.link().out.borrow_mut().extend(late.clone());
    assert_eq!(pair.pump(nothing), [new]);
    assert_eq!(pair.far.stats().stale as usize, late.len());
    // Off, it hands out plain frames only once it is told to.
    pair.far.reset(None);
    assert_eq!((pair.far.max_frame(), pair.far.receive().unwrap()), (MAX_LINE_FRAME, None));
}

#[test]
fn an_epoch_counts_in_eleven_bits_at_both_ends() {
    let mut pair = Pair::<258, 258>::new();
    pair.reset(0xFFFF);
    let message = message(REQUEST, "a/b", 1, 10);
    pair.send(&message);
    assert_eq!(pair.pump(nothing), [message]);
}

#[test]
fn offsets_and_packet_numbers_begin_again() {
    let mut pair = Pair::<130, 130>::new();
    let mut random = 1_u32;
    for number in 0..6_000_u16 {
        let len = 1 + usize::from(number) % 115;
        let message = message(REQUEST, "a/b", number as u8, len);
        pair.send(&message);
        let lost: Vec<bool> = (0..64)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                random >> 24 < 40
            })
            .collect();
        let at = core::cell::Cell::new(0);
        let taken = pair.pump(|_| {
            at.set(at.get() + 1);
            lost[at.get() % 64]
        });
        assert_eq!(taken, [message], "{number}");
    }
}

#[test]
fn frames_that_nobody_hears_for_a_minute_are_not_taken_for_others_with_their_number() {
    let mut pair = Pair::<516, 516>::new();
    for number in 0..6 {
        pair.send(&message(REQUEST, "a/b", number, 10));
    }
    assert_eq!(pair.pump(nothing).len(), 6);
    for number in 0..4 {
        pair.send(&message(REQUEST, "a/b", number, 100));
        pair.send(&message(URGENT_REQUEST, "a/b", number, 100));
    }
    let mut tried = 0;
    // Nothing of the near end comes through; the far end says again and again what it heard last.
    for number in 0..60_000_u32 {
        pair.far.send(&message(NOTIFICATION, "x/y", number as u8, 10)).unwrap();
        if number % 100 == 0 {
            pair.far.send(&message(REQUEST, "x/y", number as u8, 10)).unwrap();
        }
        pair.near.flush(pair.now).unwrap();
        tried += pair.near.link().out.borrow_mut().drain(..).filter(|frame| Header::marks(frame)).count();
        pair.far.flush(pair.now).unwrap();
        while pair.near.receive().unwrap().is_some() {}
        pair.wait_us(1_000);
    }
    assert!(tried > 512, "numbers went round: {tried}");
    let fills = |messages: Vec<Vec<u8>>, head: u8| -> Vec<u8> {
        messages.iter().filter(|message| message[0] == head).map(|message| message[8]).collect()
    };
    let taken = pair.pump(nothing);
    assert_eq!(fills(taken.clone(), REQUEST), [0, 1, 2, 3]);
    assert_eq!(fills(taken, URGENT_REQUEST), [0, 1, 2, 3]);
}

#[test]
fn a_message_that_is_too_long_for_an_end_is_passed_over() {
    let mut pair = Pair::<1_026, 258>::new();
    let fits = message(REQUEST, "a/b", 1, 240);
    let mut taken = Vec::new();
    for message in [&fits, &message(REQUEST, "a/b", 2, 300), &fits, &vec![REQUEST; 1_024], &fits] {
        pair.send(message);
        taken.extend(pair.pump(nothing));
    }
    assert_eq!(taken, [&fits[..]; 3]);
    assert_eq!(pair.far.stats().unfit, 2);
}

#[test]
fn records_of_no_length_are_passed_over() {
    let mut pair = Pair::<258, 258>::new();
    let header = Header {
        epoch: 5,
        stream: 0,
        asks: false,
        packet: 1,
        heard: super::header::Heard::FIRST,
        offset: 0,
        ack: super::stream::Ack { offset: 0, room: 10 },
    };
    let frame = [&header.to_bytes()[..], &[0; 100], &[3, 0, 8, 1, 2]].concat();
    pair.near.link().out.borrow_mut().push_back(frame);
    pair.far.flush(pair.now).unwrap();
    assert_eq!(pair.far.receive().unwrap(), Some(&[8, 1, 2][..]));
    assert_eq!(pair.far.stats().unfit, 50);
}

#[test]
fn an_empty_message_is_none() {
    let mut pair = Pair::<258, 258>::new();
    pair.send(&[]);
    pair.send(&message(REQUEST, "a/b", 1, 1));
    assert_eq!(pair.pump(nothing).len(), 1);
}

#[test]
fn random_frames_never_panic_and_a_new_session_is_as_good_as_ever() {
    let mut random = 0x2545_F491_u32;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random
    };
    let mut pair = Pair::<258, 130>::new();
    for round in 0..500_u16 {
        pair.reset(round);
        for _ in 0..50 {
            let len = next() as usize % MAX_LINE_FRAME;
            let mut frame: Vec<u8> = (0..len).map(|_| next() as u8).collect();
            // Of this session, and near to what is right, or the test would show little.
            if let Some(head) = frame.first_chunk_mut::<12>() {
                head[0] = 7 | (next() as u8 & 8) | ((round >> 8) as u8 & 7) << 5;
                head[1] = round as u8;
                let near = next() as usize % 6;
                head[2 + near] = next() as u8 % 4;
                head[5] = next() as u8 % 200;
                (head[6], head[8]) = (0, 0);
                head[7] = next() as u8 % 200;
            }
            if next() % 3 == 0 && pair.near.room() > 60 {
                pair.near.send(&message(next() as u8, "a/b", 1, next() as usize % 50)).unwrap();
            }
            let to = if next() % 2 == 0 { pair.near.link() } else { pair.far.link() };
            to.incoming.borrow_mut().push_back(frame);
            pair.near.flush(pair.now).unwrap();
            pair.far.flush(pair.now).unwrap();
            while pair.near.receive().unwrap().is_some() {}
            while pair.far.receive().unwrap().is_some() {}
            pair.wait_us(u64::from(next() % 5_000));
        }
        pair.near.link().out.borrow_mut().clear();
        pair.far.link().out.borrow_mut().clear();
        pair.reset(round + 1);
        let message = message(REQUEST, "a/b", 1, 60);
        pair.send(&message);
        assert_eq!(pair.pump(nothing).last(), Some(&message), "{round}");
    }
}

#[test]
fn pieces_are_as_long_as_the_line_carries_in_a_few_milliseconds() {
    assert_eq!([9_600, 115_200, 921_600].map(piece_len), [16, 41, 118]);
    let (near, _far) = Line::pair(64);
    let mut lane = Lane::<Line, 1_026>::new(near).with_piece(piece_len(115_200));
    lane.reset(Some(1));
    lane.send(&message(REQUEST, "a/b", 1, 900)).unwrap();
    lane.flush(Instant::default()).unwrap();
    assert!(lane.link().out.borrow().iter().all(|frame| frame.len() == header::LEN + 41));
}

#[test]
fn room_is_told_for_a_notification_that_is_longer_than_a_line_frame() {
    let mut pair = Pair::<516, 516>::new();
    let long = message(NOTIFICATION, "a/long", 7, 200);
    assert!(pair.near.room_for(NOTIFICATION) >= long.len());
    pair.send(&long);
    assert_eq!(pair.pump(nothing), [long]);
}
