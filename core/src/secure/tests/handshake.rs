//! Handshakes: lost, said again, forged, recorded, and of ends that start again.

use super::*;

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
