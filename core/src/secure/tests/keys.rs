//! Keys: wrong ones, two at once, and those that are taken away.

use super::*;

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
