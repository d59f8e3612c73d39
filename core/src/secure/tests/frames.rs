//! Frames of an open channel: played again, out of order, changed, of elsewhere; and what is no frame.

use super::*;

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
