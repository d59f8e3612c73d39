//! Two ends and a wire between them that an attacker holds in his hands.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::auth::Key;
use crate::session::{Name, Role, Session, SessionConfig};

/// The keys of a hub, and how often it was asked for one.
struct Keys {
    keys: Vec<LinkKey>,
    asked: u32,
    nonces: u8,
}

impl LinkKeys for Keys {
    fn find(&mut self, name: &str, id: u8) -> Option<&LinkKey> {
        self.asked += 1;
        self.keys.iter().find(|key| key.name() == name && key.id() == id)
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 16]> {
        self.nonces = self.nonces.wrapping_add(1);
        (self.nonces != 0).then_some([self.nonces; 16])
    }
}

type Board = Connecting<AnySuite>;
type Hub = Accepting<Keys>;

fn key(suite: Suite, id: u8) -> LinkKey {
    LinkKey::new(id, suite, "imu", Key::new([id; 32])).unwrap()
}

fn board(key: LinkKey, boot_id: u64) -> Board {
    Connecting::new(key, boot_id, NonceSeed::counted(boot_id)).unwrap()
}

/// A hub that knows the keys 1 and 2 of the board.
fn hub(suite: Suite, boot_id: u64) -> Hub {
    let keys = std::vec![key(suite, 1), key(suite, 2)];
    // No two hubs draw the same.
    Accepting::new(Keys { keys, asked: 0, nonces: boot_id as u8 * 80 }, boot_id)
}

/// Both ends, the time, and everything that went over the wire.
struct Pair {
    board: Board,
    hub: Hub,
    now: Instant,
    up: Vec<Vec<u8>>,
    down: Vec<Vec<u8>>,
}

impl Pair {
    fn new(suite: Suite) -> Self {
        let now = Instant::from_micros(1_000_000);
        Self { board: board(key(suite, 1), 11), hub: hub(suite, 1), now, up: Vec::new(), down: Vec::new() }
    }

    /// With a channel between them.
    fn open(suite: Suite) -> Self {
        let mut pair = Self::new(suite);
        pair.settle();
        assert!(pair.board.is_open() && pair.hub.is_open());
        pair
    }

    fn wait_ms(&mut self, millis: u32) {
        self.now = self.now.plus_millis(millis);
    }

    /// Carries what both ends say of themselves until they have nothing more to say now; whether the channel changed.
    fn settle(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..20 {
            let up = said(&mut self.board, self.now);
            self.up.extend(up.clone());
            for mut frame in up {
                assert_eq!(self.hub.handle_frame(&mut frame, self.now), None);
                changed |= self.hub.take_change().is_some();
            }
            let down = said(&mut self.hub, self.now);
            self.down.extend(down.clone());
            for mut frame in down {
                assert_eq!(self.board.handle_frame(&mut frame, self.now), None);
            }
        }
        changed
    }

    /// As [`Pair::settle`], for so long.
    fn settle_for_ms(&mut self, millis: u32) -> u32 {
        (0..millis / 10).fold(0, |changes, _| {
            self.wait_ms(10);
            changes + u32::from(self.settle())
        })
    }

    fn send_up(&mut self, payload: &[u8]) -> Vec<u8> {
        let frame = sealed(&mut self.board, payload).unwrap();
        self.up.push(frame.clone());
        frame
    }

    fn send_down(&mut self, payload: &[u8]) -> Vec<u8> {
        let frame = sealed(&mut self.hub, payload).unwrap();
        self.down.push(frame.clone());
        frame
    }

    fn hear_up(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        opened(&mut self.hub, frame, self.now)
    }

    fn hear_down(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        opened(&mut self.board, frame, self.now)
    }

    /// Whether payloads get through, both ways.
    fn works(&mut self) -> bool {
        let (up, down) = (self.send_up(b"up"), self.send_down(b"down"));
        self.hear_up(&up).as_deref() == Some(b"up") && self.hear_down(&down).as_deref() == Some(b"down")
    }
}

/// What an end has to say of itself now.
fn said(end: &mut impl SecureEnd, now: Instant) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let mut frame = [0; MAX_HANDSHAKE];
        match end.poll_transmit(now, &mut frame) {
            0 => return frames,
            len => frames.push(frame[..len].to_vec()),
        }
    }
}

fn sealed(end: &mut impl SecureEnd, payload: &[u8]) -> Option<Vec<u8>> {
    let mut frame = [0; 256];
    frame[HEAD_LEN..HEAD_LEN + payload.len()].copy_from_slice(payload);
    let len = end.seal(&mut frame, payload.len())?;
    Some(frame[..len].to_vec())
}

fn opened(end: &mut impl SecureEnd, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let len = end.handle_frame(&mut frame, now)?;
    Some(frame[HEAD_LEN..HEAD_LEN + len].to_vec())
}

const SUITES: [Suite; 2] = [Suite::Tag64, Suite::Sealed];

#[test]
fn a_handshake_opens_a_channel_at_both_ends() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        assert!(pair.settle());
        let hub = pair.hub.proof().unwrap();
        assert_eq!((hub.name(), hub.key_id(), hub.suite(), hub.boot_id()), ("imu", 1, suite, 11));
        assert_eq!(pair.board.proof().map(|proof| (proof.name(), proof.boot_id())), Some(("bus", 1)));
        assert_eq!([pair.up.len(), pair.down.len()], [2, 2], "a word each way after the handshake");
        assert!(pair.works());
        let frame = pair.send_up(b"hello");
        assert_eq!(frame.len(), 2 + 5 + if suite == Suite::Tag64 { 8 } else { 16 });
        let is_readable = frame.windows(5).any(|part| part == b"hello");
        assert_eq!(is_readable, suite == Suite::Tag64);
        assert_eq!(pair.settle_for_ms(60_000), 0, "all is quiet");
        assert_eq!([pair.up.len(), pair.down.len()], [4, 3]);
    }
}

#[test]
fn nothing_passes_before_the_proof() {
    let mut pair = Pair::new(Suite::Tag64);
    let [init] = &said(&mut pair.board, pair.now)[..] else { panic!("an INIT") };
    assert_eq!((sealed(&mut pair.board, b"x"), pair.board.is_open()), (None, false));
    pair.hear_up(init);
    assert!(!pair.hub.is_open() && pair.hub.proof().is_none(), "the INIT may be a recording");
    assert_eq!(sealed(&mut pair.hub, b"x"), None);
    let [reply] = &said(&mut pair.hub, pair.now)[..] else { panic!("a REPLY") };
    pair.hear_down(reply);
    assert!(pair.board.is_open());
    let frame = pair.send_up(b"early");
    assert_eq!(pair.hear_up(&frame), None, "it confirms, and is heard by nobody");
    assert_eq!((sealed(&mut pair.hub, b"x"), pair.hub.is_open(), pair.hub.holds()), (None, false, true));
    assert_eq!(pair.hub.take_change().map(LinkProof::name), Some("imu"));
    assert!(pair.hub.take_change().is_none() && !pair.hub.holds() && pair.works());
}

#[test]
fn a_lost_init_reply_or_confirmation_is_made_up_for() {
    // Which of the first frames is lost.
    for lost in 0..4 {
        let mut pair = Pair::new(Suite::Tag64);
        let mut count = 0;
        for _ in 0..200 {
            pair.wait_ms(10);
            let now = pair.now;
            for frame in said(&mut pair.board, now) {
                count += 1;
                if count != lost + 1 {
                    pair.hear_up(&frame);
                    pair.hub.take_change();
                }
            }
            for frame in said(&mut pair.hub, now) {
                count += 1;
                if count != lost + 1 {
                    pair.hear_down(&frame);
                }
            }
        }
        assert!(pair.works(), "frame {lost}");
        assert!(count <= 6, "frame {lost}: {count} frames");
        assert_eq!((pair.hub.stats().handshakes, pair.hub.stats().bad), (1, 0), "frame {lost}");
    }
}

#[test]
fn a_silent_hub_is_asked_four_times_a_second_with_the_same_init() {
    let mut pair = Pair::new(Suite::Tag64);
    let mut sent = Vec::new();
    for ms in 0..20_000 {
        let now = pair.now.plus_millis(ms);
        sent.extend(said(&mut pair.board, now).into_iter().map(|frame| (ms, frame)));
    }
    let times: Vec<u32> = sent.iter().map(|(ms, _)| *ms).collect();
    assert!(times.iter().copied().eq((0..80).map(|time| time * 250)), "{times:?}");
    assert!(sent.iter().all(|(_, frame)| *frame == sent[0].1), "the same INIT");
}

#[test]
fn the_same_init_again_gives_the_same_reply() {
    let mut pair = Pair::new(Suite::Tag64);
    let [init] = &said(&mut pair.board, pair.now)[..] else { panic!("an INIT") };
    let mut replies = Vec::new();
    for _ in 0..3 {
        pair.wait_ms(250);
        pair.hear_up(init);
        pair.hear_up(init);
        replies.extend(said(&mut pair.hub, pair.now));
    }
    assert_eq!(replies.len(), 3);
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    assert_eq!(pair.hub.keys().nonces, 81);
}

#[test]
fn a_replayed_frame_is_dropped() {
    for suite in SUITES {
        let mut pair = Pair::open(suite);
        let (up, down) = (pair.send_up(b"up"), pair.send_down(b"down"));
        assert!(pair.hear_up(&up).is_some() && pair.hear_down(&down).is_some());
        for _ in 0..3 {
            assert_eq!((pair.hear_up(&up), pair.hear_down(&down)), (None, None));
        }
        assert_eq!((pair.hub.stats().replayed, pair.board.stats().replayed), (3, 3));
        assert!(pair.works());
    }
}

#[test]
fn of_reordered_frames_the_older_are_dropped() {
    let mut pair = Pair::open(Suite::Tag64);
    let frames: Vec<_> = (0..5_u8).map(|number| pair.send_up(&[number + 1])).collect();
    let heard: Vec<_> =
        [1, 0, 3, 2, 4].iter().filter_map(|&index: &usize| pair.hear_up(&frames[index])).collect();
    assert_eq!(heard, [[2], [4], [5]]);
    assert_eq!(pair.hub.stats().replayed, 2);
}

#[test]
fn lost_frames_are_passed_over_however_the_counter_wraps() {
    let mut pair = Pair::open(Suite::Sealed);
    for number in 0..100_u32 {
        for _ in 0..number * 13 {
            pair.send_up(b"lost");
        }
        let frame = pair.send_up(&number.to_le_bytes());
        assert_eq!(pair.hear_up(&frame), Some(number.to_le_bytes().to_vec()), "{number}");
    }
    assert_eq!((pair.hub.stats().bad, pair.hub.stats().replayed), (0, 0));
}

#[test]
fn after_an_outage_longer_than_a_head_can_tell_the_channel_is_made_anew() {
    for outage in [15_000, 15_400, 16_000, 16_384, 17_000, 40_000] {
        let mut pair = Pair::open(Suite::Tag64);
        for _ in 0..outage {
            pair.send_up(b"lost");
        }
        let mut heard = 0;
        for _ in 0..1_000 {
            pair.wait_ms(1);
            let frame = pair.send_up(b"sample");
            heard += u32::from(pair.hear_up(&frame).is_some());
            pair.settle();
        }
        assert!(heard > 900, "{outage}: {heard}");
    }
}

#[test]
fn frames_of_another_channel_are_dropped() {
    for suite in SUITES {
        let mut pair = Pair::open(suite);
        let old: Vec<_> = (0..20).map(|_| (pair.send_up(b"old"), pair.send_down(b"old"))).collect();
        // The same board with the same key, anew.
        pair.board = board(key(suite, 1), 12);
        pair.wait_ms(100);
        assert!(pair.settle());
        for (up, down) in &old {
            assert_eq!((pair.hear_up(up), pair.hear_down(down)), (None, None));
        }
        assert!(pair.works());
        // Of another pair with the same keys.
        let mut other = Pair::new(suite);
        other.hub = hub(suite, 2);
        other.settle();
        for _ in 0..20 {
            let (up, down) = (other.send_up(b"x"), other.send_down(b"x"));
            assert_eq!((pair.hear_up(&up), pair.hear_down(&down)), (None, None));
        }
        assert!(pair.works());
    }
}

#[test]
fn a_reflected_frame_is_dropped() {
    for suite in SUITES {
        let mut pair = Pair::open(suite);
        for _ in 0..5 {
            let (up, down) = (pair.send_up(b"mirror"), pair.send_down(b"mirror"));
            assert_ne!(up[HEAD_LEN + 6..], down[HEAD_LEN + 6..], "a key per direction");
            assert_eq!((pair.hear_down(&up), pair.hear_up(&down)), (None, None));
        }
        assert_eq!((pair.hub.stats().bad, pair.board.stats().bad), (5, 5));
        for frame in [pair.up[0].clone(), pair.down[0].clone()] {
            let handshakes = (pair.hub.stats().handshakes, pair.board.stats().handshakes);
            pair.hear_down(&frame);
            pair.hear_up(&frame);
            assert_eq!((pair.hub.stats().handshakes, pair.board.stats().handshakes), handshakes);
        }
        assert!(pair.works());
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for suite in SUITES {
        let mut pair = Pair::open(suite);
        let (up, down) = (pair.send_up(b"sample of the imu"), pair.send_down(b"set rate to 100"));
        for bit in 0..up.len() * 8 {
            assert_eq!(pair.hear_up(&flipped(&up, bit)), None, "bit {bit}");
        }
        for bit in 0..down.len() * 8 {
            assert_eq!(pair.hear_down(&flipped(&down, bit)), None, "bit {bit}");
        }
        assert!(pair.hear_up(&up).is_some() && pair.hear_down(&down).is_some(), "nothing has changed");
        assert!(pair.works());
    }
}

#[test]
fn every_cut_and_every_longer_frame_is_noticed() {
    for suite in SUITES {
        let mut pair = Pair::open(suite);
        let frame = pair.send_up(b"sample of the imu");
        for len in 0..frame.len() {
            assert_eq!(pair.hear_up(&frame[..len]), None, "{len} bytes");
        }
        for more in [&b"\0"[..], b"x", &frame] {
            assert_eq!(pair.hear_up(&[&frame, more].concat()), None);
        }
        assert!(pair.hear_up(&frame).is_some());
    }
}

#[test]
fn every_bit_of_the_handshake_counts() {
    let mut recorded = Pair::open(Suite::Tag64);
    recorded.settle();
    let (init, reply) = (recorded.up[0].clone(), recorded.down[0].clone());
    for bit in 0..init.len() * 8 {
        let mut pair = Pair::new(Suite::Tag64);
        pair.hear_up(&flipped(&init, bit));
        let answers = said(&mut pair.hub, pair.now);
        assert!(answers.iter().all(|answer| answer[0] != 0x81), "bit {bit} of INIT is believed");
    }
    for len in 0..init.len() {
        let mut pair = Pair::new(Suite::Tag64);
        pair.hear_up(&init[..len]);
        assert!(said(&mut pair.hub, pair.now).is_empty(), "{len} bytes of INIT are answered");
    }
    for bit in 0..reply.len() * 8 {
        let mut pair = Pair::new(Suite::Tag64);
        said(&mut pair.board, pair.now);
        pair.hear_down(&flipped(&reply, bit));
        assert!(!pair.board.is_open(), "bit {bit} of REPLY is believed");
        pair.hear_down(&reply);
        assert!(pair.board.is_open(), "the right one still is");
    }
}

#[test]
fn a_flood_of_forged_inits_tears_nothing_down_and_costs_little() {
    let mut pair = Pair::open(Suite::Tag64);
    let init = pair.up[0].clone();
    let (asked, nonces) = (pair.hub.keys().asked, pair.hub.keys().nonces);
    for number in 0..10_000_u32 {
        // 2000 a second, each another.
        if number % 2 == 0 {
            pair.wait_ms(1);
        }
        let mut forged = init.clone();
        forged[6..10].copy_from_slice(&(number + 1).to_le_bytes());
        assert_eq!(pair.hear_up(&forged), None);
        assert!(said(&mut pair.hub, pair.now).is_empty(), "a forged INIT is never answered");
        if number % 100 == 0 {
            assert!(pair.works());
        }
    }
    assert_eq!(pair.hub.keys().asked - asked, 10_000, "one look for a key each");
    assert_eq!((pair.hub.keys().nonces, pair.hub.stats().refused), (nonces, 10_000));
    assert_eq!(pair.hub.stats().handshakes, 1);
    // A board that restarts gets through all the same.
    pair.board = board(key(Suite::Tag64, 1), 12);
    for number in 0..2_000_u32 {
        pair.wait_ms(1);
        let mut forged = init.clone();
        forged[6..10].copy_from_slice(&(number + 1).to_le_bytes());
        pair.hear_up(&forged);
        pair.settle();
    }
    assert!(pair.works());
}

#[test]
fn recorded_inits_played_back_into_a_live_channel_tear_nothing_down() {
    let mut pair = Pair::open(Suite::Tag64);
    let mut inits = std::vec![pair.up[0].clone()];
    for boot_id in 12..15 {
        pair.board = board(key(Suite::Tag64, 1), boot_id);
        pair.wait_ms(1_000);
        let first = pair.up.len();
        assert!(pair.settle());
        inits.push(pair.up[first].clone());
    }
    let (before, mut answered) = (pair.hub.stats(), 0);
    for round in 0..1_000 {
        pair.wait_ms(10);
        pair.hear_up(&inits[round % 4]);
        for frame in said(&mut pair.hub, pair.now) {
            answered += 1;
            pair.hear_down(&frame);
        }
        assert!(pair.works());
    }
    assert!(answered <= 80, "{answered} answers in 10 s");
    assert_eq!(pair.hub.stats(), before);
    assert_eq!(pair.board.stats().handshakes, 1);
}

#[test]
fn a_whole_recording_played_back_opens_nothing() {
    for suite in SUITES {
        let mut recorded = Pair::open(suite);
        for _ in 0..10 {
            recorded.works();
        }
        // To the hub: the board's side of it, in the same state and after a restart.
        for restarted in [false, true] {
            let mut pair = Pair::new(suite);
            pair.hub = if restarted { hub(suite, 2) } else { recorded.hub };
            recorded.hub = hub(suite, 3);
            let handshakes = pair.hub.stats().handshakes;
            for frame in &recorded.up {
                pair.wait_ms(50);
                assert_eq!(pair.hear_up(frame), None);
                said(&mut pair.hub, pair.now);
            }
            assert_eq!(pair.hub.stats().handshakes, handshakes);
            assert!(!restarted || !pair.hub.is_open());
        }
        // To the board: the hub's side of it.
        for boot_id in [11, 12] {
            let mut fresh = if boot_id == 11 { recorded.board } else { board(key(suite, 1), 12) };
            recorded.board = board(key(suite, 1), 13);
            let handshakes = fresh.stats().handshakes;
            for frame in &recorded.down {
                said(&mut fresh, recorded.now);
                assert_eq!(opened(&mut fresh, frame, recorded.now), None);
            }
            assert_eq!(fresh.stats().handshakes, handshakes, "boot {boot_id}");
        }
    }
}

#[test]
fn without_a_seed_a_recording_can_be_played_back_to_a_board_but_never_to_the_hub() {
    let seedless =
        || Connecting::<AnySuite>::new(key(Suite::Tag64, 1), 11, NonceSeed::danger_none()).unwrap();
    let mut recorded = Pair::new(Suite::Tag64);
    recorded.board = seedless();
    recorded.settle();
    let order = recorded.send_down(b"order");
    let mut fooled = seedless();
    said(&mut fooled, recorded.now);
    for frame in &recorded.down[..2] {
        opened(&mut fooled, frame, recorded.now);
    }
    assert_eq!(
        opened(&mut fooled, &order, recorded.now).as_deref(),
        Some(&b"order"[..]),
        "as NonceSeed says"
    );
    recorded.hub = hub(Suite::Tag64, 2);
    for frame in &recorded.up {
        assert_eq!(opened(&mut recorded.hub, frame, recorded.now), None);
    }
    assert!(!recorded.hub.is_open() && recorded.hub.proof().is_none());
}

#[test]
fn the_wrong_key_is_refused_and_counted_at_the_hub() {
    let wrong = [
        ("key", LinkKey::new(1, Suite::Tag64, "imu", Key::new([9; 32]))),
        ("one bit of the key", {
            let mut secret = [1; 32];
            secret[31] ^= 0x80;
            LinkKey::new(1, Suite::Tag64, "imu", Key::new(secret))
        }),
        ("key id", LinkKey::new(2, Suite::Tag64, "imu", Key::new([1; 32]))),
        ("unknown key id", LinkKey::new(3, Suite::Tag64, "imu", Key::new([1; 32]))),
        ("name", LinkKey::new(1, Suite::Tag64, "imu2", Key::new([1; 32]))),
    ];
    for (what, key) in wrong {
        let mut pair = Pair::new(Suite::Tag64);
        pair.board = board(key.unwrap(), 11);
        assert_eq!(pair.settle_for_ms(2_000), 0, "{what}");
        assert!(!pair.board.is_open() && !pair.hub.is_open(), "{what}");
        assert_eq!(pair.hub.stats().refused, 8, "{what}");
        assert!(pair.down.is_empty(), "{what}");
    }
    // The suite is part of the key too.
    let mut pair = Pair::new(Suite::Tag64);
    pair.board = board(key(Suite::Sealed, 1), 11);
    pair.settle_for_ms(2_000);
    assert!(!pair.board.is_open() && !pair.hub.is_open());
    assert!(pair.board.stats().refused > 0, "the REPLY is not that of its suite");
}

#[test]
fn keys_rotate_with_two_ids_valid_at_once() {
    let mut pair = Pair::open(Suite::Tag64);
    pair.board = board(key(Suite::Tag64, 2), 12);
    pair.wait_ms(100);
    assert!(pair.settle() && pair.works());
    assert_eq!(pair.hub.proof().map(LinkProof::key_id), Some(2));
    pair.hub.keys_mut().keys.remove(0);
    pair.board = board(key(Suite::Tag64, 1), 13);
    pair.wait_ms(1_000);
    assert!(!pair.settle(), "the old one is gone");
    assert_eq!(pair.hub.proof().map(LinkProof::key_id), Some(2), "and the channel of the new one stays");
    pair.hub.close();
    assert!(!pair.hub.is_open() && pair.hub.proof().is_none());
}

#[test]
fn an_end_of_one_suite_takes_no_key_of_the_other() {
    let wrong = Connecting::<Tag64>::new(key(Suite::Sealed, 1), 1, NonceSeed::counted(1));
    assert_eq!(wrong.unwrap_err(), WrongSuite(Suite::Sealed));
    assert!(Connecting::<Sealed>::new(key(Suite::Tag64, 1), 1, NonceSeed::counted(1)).is_err());
    assert!(Connecting::<Sealed>::new(key(Suite::Sealed, 1), 1, NonceSeed::counted(1)).is_ok());
}

#[test]
fn the_channel_is_made_anew_before_its_counter_ends() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        pair.board = board(key(suite, 1), 11).with_rekey_after(100);
        pair.settle();
        let mut channels = 0;
        for number in 0..1_000_u32 {
            pair.wait_ms(1);
            let frame = pair.send_up(&number.to_le_bytes());
            assert_eq!(pair.hear_up(&frame), Some(number.to_le_bytes().to_vec()), "nothing is lost");
            channels += u32::from(pair.settle());
        }
        assert!((9..=11).contains(&channels), "{channels}");
        assert_eq!((pair.hub.stats().rekeys, pair.hub.stats().bad), (channels, 0));
        // What the hub sends counts as well.
        let before = pair.hub.stats().rekeys;
        for _ in 0..250 {
            pair.wait_ms(1);
            let frame = pair.send_down(b"down");
            assert!(pair.hear_down(&frame).is_some());
            pair.settle();
        }
        assert!(pair.hub.stats().rekeys > before);
        assert!(pair.works());
    }
}

#[test]
fn a_counter_that_cannot_be_renewed_ends_instead_of_starting_over() {
    let mut pair = Pair::new(Suite::Sealed);
    pair.board = board(key(Suite::Sealed, 1), 11).with_rekey_after(100);
    pair.settle();
    // The first frame was the confirmation.
    for _ in 0..199 {
        assert!(sealed(&mut pair.board, b"x").is_some());
    }
    assert_eq!((sealed(&mut pair.board, b"x"), pair.board.is_open()), (None, false));
    pair.wait_ms(100);
    assert!(pair.settle() && pair.works());
}

#[test]
fn a_hub_that_restarts_says_so_and_gets_a_new_channel() {
    for suite in SUITES {
        let mut pair = Pair::open(suite);
        pair.hub = hub(suite, 2);
        pair.wait_ms(5_000);
        let frame = pair.send_up(b"sample");
        assert_eq!(pair.hear_up(&frame), None);
        assert!(pair.settle(), "a hint, a handshake");
        assert!(pair.works());
        assert_eq!(pair.board.proof().map(LinkProof::boot_id), Some(2));
    }
}

#[test]
fn a_board_that_restarts_gets_a_new_channel_and_its_owner_knows() {
    let mut pair = Pair::open(Suite::Tag64);
    pair.board = board(key(Suite::Tag64, 1), 12);
    pair.wait_ms(100);
    assert!(pair.settle());
    assert_eq!((pair.hub.proof().map(LinkProof::boot_id), pair.hub.stats().rekeys), (Some(12), 0));
    assert!(pair.works());
    // Even one that says the same at each start.
    let seedless = || Connecting::<AnySuite>::new(key(Suite::Tag64, 1), 0, NonceSeed::danger_none()).unwrap();
    for _ in 0..3 {
        pair.board = seedless();
        pair.wait_ms(1_000);
        assert!(pair.settle());
        assert!(pair.works());
    }
}

#[test]
fn forged_hints_close_nothing_and_cost_few_handshakes() {
    let mut pair = Pair::open(Suite::Tag64);
    let mut hint = Vec::new();
    let mut lost = hub(Suite::Tag64, 2);
    let frame = pair.send_up(b"x");
    assert_eq!(opened(&mut lost, &frame, pair.now), None);
    hint.extend(said(&mut lost, pair.now));
    assert_eq!(hint, [[0xC1]]);
    let mut changes = 0;
    for _ in 0..60_000 {
        pair.wait_ms(1);
        assert_eq!(pair.hear_down(&hint[0]), None);
        changes += u32::from(pair.settle());
        assert!(pair.works(), "nothing is lost by it");
    }
    assert!((1..=8).contains(&changes), "{changes} in a minute");
    // And to an end that has no channel they say nothing.
    let mut fresh = board(key(Suite::Tag64, 1), 12);
    said(&mut fresh, pair.now);
    assert_eq!(opened(&mut fresh, &hint[0], pair.now), None);
    assert!(said(&mut fresh, pair.now).is_empty());
}

#[test]
fn a_burst_of_bad_frames_is_never_answered_one_by_one() {
    let mut pair = Pair::open(Suite::Tag64);
    let (mut hints, mut inits) = (0, 0);
    for number in 0..10_000_u32 {
        pair.wait_ms(1);
        let mut garbage = [0x55; 40];
        garbage[0] = (number >> 3) as u8 & 0x3F;
        garbage[2..6].copy_from_slice(&number.to_le_bytes());
        assert_eq!((pair.hear_up(&garbage), pair.hear_down(&garbage)), (None, None));
        hints += said(&mut pair.hub, pair.now).len();
        inits += said(&mut pair.board, pair.now).len();
    }
    assert!((1..=8).contains(&hints), "{hints} hints in 10 s");
    assert!((1..=45).contains(&inits), "{inits} INITs in 10 s");
    assert!(pair.works());
}

#[test]
fn a_board_that_speaks_in_the_clear_is_refused_and_told_of() {
    let mut pair = Pair::open(Suite::Tag64);
    let mut hello = [0; 128];
    let config = SessionConfig {
        role: Role::Connecting,
        name: Name::try_from("imu").unwrap(),
        boot_id: 1 << 40,
        max_frame: 256,
        heartbeat_ms: 1_000,
        rows: 4,
        requires_authentication: false,
        lossy: true,
    };
    let len = Session::new(config).poll_transmit(pair.now, &mut hello);
    for round in 0..10 {
        assert_eq!(pair.hear_up(&hello[..len]), None);
        assert_eq!(pair.hub.stats().unkeyed, round + 1);
    }
    assert!(said(&mut pair.hub, pair.now).is_empty(), "no hint to an end that knows none");
    assert_eq!(pair.hub.stats().bad, 0);
    // The same over the channel is not in the clear, though it can be read.
    hello.copy_within(..len, HEAD_LEN);
    let sealed = pair.board.seal(&mut hello, len).unwrap();
    assert_eq!(pair.hear_up(&hello[..sealed]).map(|payload| payload.len()), Some(len));
    let mut hub = hub(Suite::Tag64, 2);
    assert_eq!(hub.handle_frame(&mut hello[..sealed], pair.now), None);
    assert_eq!((hub.stats().unkeyed, hub.stats().bad), (0, 1));
    assert_eq!(said(&mut hub, pair.now).len(), 1, "a hint: the board has a key, and this hub has forgotten");
    assert!(pair.works());
    assert_eq!(name_in_init(&pair.up[0]), Some("imu"), "the other way round");
    assert_eq!(name_in_init(&hello[..len]), None);
}

#[test]
fn no_bytes_are_too_strange() {
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for suite in SUITES {
        let mut pair = Pair::open(suite);
        for _ in 0..20_000 {
            let len = usize::from(random()) % 140;
            let mut frame: Vec<u8> = (0..len).map(|_| random()).collect();
            if let Some(head) = frame.first_mut().filter(|_| random() % 2 == 0) {
                *head = [0x41, 0x81, 0xC1, 0x00][usize::from(random()) % 4];
            }
            pair.wait_ms(1);
            assert_eq!((pair.hear_up(&frame), pair.hear_down(&frame)), (None, None));
        }
        pair.settle_for_ms(10_000);
        assert!(pair.works());
    }
}

#[test]
fn no_two_handshakes_have_the_same_nonce() {
    let mut pair = Pair::open(Suite::Tag64);
    for boot_id in [12, 13, 14] {
        pair.board = board(key(Suite::Tag64, 1), boot_id).with_rekey_after(1);
        for _ in 0..20 {
            pair.wait_ms(1_000);
            pair.settle();
        }
    }
    let mut inits: Vec<_> = pair.up.iter().filter(|frame| frame[0] == 0x41).collect();
    // One that is said again is the same from the first byte to the last.
    inits.dedup();
    let mut nonces: Vec<_> = inits.iter().map(|init| &init[2..18]).collect();
    nonces.sort();
    nonces.dedup();
    assert!(inits.len() > 30);
    assert_eq!(inits.len(), nonces.len());
}

fn flipped(frame: &[u8], bit: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[bit / 8] ^= 1 << (bit % 8);
    frame
}

#[test]
fn without_random_numbers_nobody_gets_in() {
    let mut pair = Pair::new(Suite::Tag64);
    pair.hub.keys_mut().nonces = u8::MAX;
    assert!(!pair.settle());
    assert!(pair.down.is_empty() && !pair.board.is_open());
    pair.wait_ms(300);
    assert!(pair.settle() && pair.works(), "once there are some it does");
}

#[test]
fn a_handshake_is_not_confirmed_once_its_key_was_taken_away_or_is_another() {
    for replaced in [false, true] {
        let (mut pair, _thief, word) = shown();
        let keys = &mut pair.hub.keys_mut().keys;
        keys.retain(|key| key.id() != 2);
        if replaced {
            keys.push(LinkKey::new(2, Suite::Tag64, "imu", Key::new([99; 32])).unwrap());
        }
        assert_eq!(opened(&mut pair.hub, &word, pair.now), None);
        assert!(pair.hub.take_change().is_none());
        assert!(pair.works(), "the board's own channel goes on");
    }
}

#[test]
fn a_handshake_is_confirmed_within_ten_seconds_or_never() {
    for (waited_ms, changes) in [(9_000, true), (10_000, false)] {
        let (mut pair, _thief, word) = shown();
        pair.wait_ms(waited_ms);
        opened(&mut pair.hub, &word, pair.now);
        assert_eq!(pair.hub.take_change().is_some(), changes, "{waited_ms} ms");
    }
}

#[test]
fn an_open_channel_is_closed_when_its_key_is_gone_or_is_another_and_only_then() {
    let mut pair = Pair::open(Suite::Tag64);
    pair.hub.keys_mut().keys.retain(|key| key.id() != 2);
    pair.hub.recheck();
    assert!(pair.works(), "it has another key");
    pair.hub.keys_mut().keys = std::vec![LinkKey::new(1, Suite::Tag64, "imu", Key::new([99; 32])).unwrap()];
    pair.hub.recheck();
    assert!(pair.hub.proof().is_none() && !pair.hub.is_open());
    let mut pair = Pair::open(Suite::Sealed);
    pair.hub.keys_mut().keys.clear();
    pair.hub.recheck();
    assert!(pair.hub.proof().is_none() && !pair.hub.is_open());
}

/// An open channel of key 1, beside it one of key 2 that waits, and the frame that would confirm that.
fn shown() -> (Pair, Board, Vec<u8>) {
    let mut pair = Pair::open(Suite::Tag64);
    let mut other = board(key(Suite::Tag64, 2), 77);
    pair.wait_ms(1_000);
    for mut frame in said(&mut other, pair.now) {
        assert_eq!(pair.hub.handle_frame(&mut frame, pair.now), None);
    }
    for mut frame in said(&mut pair.hub, pair.now) {
        other.handle_frame(&mut frame, pair.now);
    }
    let word = said(&mut other, pair.now).pop().expect("it has heard the REPLY and says so");
    (pair, other, word)
}
