//! What time does to a session: heartbeats and silence, probes of the clock, and when an end is next due.

use super::*;

#[test]
fn heartbeats_keep_a_session_open() {
    let mut pair = Pair::new(lossy());
    pair.run_ms(3_600_000);
    assert_eq!(pair.leaf.seen, [Seen::Opened]);
    assert_eq!(pair.hub.seen, [Seen::Opened]);
    assert!((3_590..=3_600).contains(&pair.leaf.beats()), "{}", pair.leaf.beats());
}

#[test]
fn a_probe_is_answered_with_what_the_clock_shows_once_it_has_gone_on() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let mut probe = Message::heartbeat(41);
    probe.flags.requires_response = true;
    pair.leaf_hears(&probe);
    let taken = pair.now;
    let later = Instant::from_micros(taken.as_micros() + 1);
    assert_eq!(pair.leaf.session.poll_timeout(), Some(later), "at once");
    assert_eq!(pair.leaf.transmit(taken), None, "that time may have been read before the probe was there");
    assert_eq!(pair.leaf.transmit(later), Some(41));
    let echo = pair.leaf.outbox.pop().unwrap();
    let echo = decode(&echo).unwrap();
    assert_eq!((echo.message_type, echo.wants_answer()), (MessageType::Heartbeat, false));
    assert_eq!(echo.timestamp, Some(later.as_micros()), "its own clock, not the time of day");
    assert_eq!(pair.leaf.transmit(later), None, "once");
    pair.hub_hears(&echo);
    assert_eq!(pair.hub.seen[1..], [Seen::Echoed(41, Some(later.as_micros()))]);
    assert_eq!(pair.leaf.session.poll_timeout(), Some(later.plus_millis(1_000)), "an echo is a heartbeat");
}

#[test]
fn a_probe_is_answered_also_where_nobody_wishes_for_heartbeats() {
    let mut pair = Pair::new(Setup { hub_heartbeat_ms: 0, ..lossy() });
    pair.pump();
    let mut probe = Message::heartbeat(41);
    probe.flags.requires_response = true;
    pair.leaf_hears(&probe);
    pair.run_ms(10_000);
    assert_eq!((pair.leaf.beats(), pair.leaf.session.poll_timeout()), (1, None));
}

#[test]
fn a_hello_sets_the_clock_for_stamps_and_nothing_that_anybody_relies_on() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let before = pair.unix_us();
    for hub_says in [before - 9_000_000, before + 9_000_000] {
        pair.hub.session.set_clock(pair.now, hub_says);
        pair.leaf.session.reset(pair.now);
        pair.pump();
        assert!(pair.is_open());
        assert_eq!(pair.leaf.session.unix_micros(pair.now), Some(hub_says));
        assert_eq!(pair.leaf.session.trusted_micros(pair.now), None);
    }
}

#[test]
fn a_hello_over_a_link_that_proved_its_end_is_relied_on_and_sets_no_clock_back() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let before = pair.unix_us();
    pair.leaf.session.trust_hello(pair.now);
    assert_eq!(pair.leaf.session.trusted_micros(pair.now), Some(before));
    for (hub_says, expected) in [(before - 9_000_000, before), (before + 9_000_000, before + 9_000_000)] {
        pair.hub.session.set_clock(pair.now, hub_says);
        pair.leaf.session.reset(pair.now);
        pair.pump();
        pair.leaf.session.trust_hello(pair.now);
        assert_eq!(pair.leaf.session.trusted_micros(pair.now), Some(expected));
    }
}

#[test]
fn a_probe_finds_no_clock_before_hello_before_a_token_and_after_the_end() {
    let mut probe = Message::heartbeat(41);
    probe.flags.requires_response = true;
    let mut pair = Pair::new(lossy());
    pair.leaf_hears(&probe);
    assert_ne!(pair.leaf.transmit(pair.now.plus_millis(1)), Some(41));
    let mut pair = Pair::new(Setup { leaf_requires: true, ..lossy() });
    pair.hub.mints = None;
    pair.hub.tokens.clear();
    pair.pump();
    let refusal = pair.leaf_hears(&probe);
    assert_eq!(decode(&refusal).unwrap().message_type, MessageType::Error);
    assert_eq!(pair.leaf.transmit(pair.now.plus_millis(1)), None);
    let mut pair = Pair::new(lossy());
    pair.pump();
    pair.leaf_hears(&probe);
    pair.leaf.session.reset(pair.now);
    assert_ne!(pair.leaf.transmit(pair.now.plus_millis(1)), Some(41));
}

#[test]
fn silence_of_three_intervals_closes_both_ends_and_the_connecting_one_says_hello_again() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    pair.lose_all = true;
    pair.run_ms(2_999);
    assert!(pair.is_open());
    pair.run_ms(1);
    assert_eq!(pair.leaf.seen, [Seen::Opened, Seen::SessionExpired]);
    assert_eq!(pair.hub.seen, [Seen::Opened, Seen::SessionExpired]);
    assert!(pair.leaf.session.remote().is_none() && pair.hub.session.grant().is_none());
    pair.lose_all = false;
    pair.run_ms(250);
    assert!(pair.is_open());
}

/// The connecting end noticed at its next heartbeat only.
#[test]
fn silence_is_counted_from_the_last_message_to_the_millisecond() {
    let mut pair = Pair::new(lossy());
    pair.run_ms(300);
    pair.leaf_hears(&response(77));
    pair.lose_all = true;
    pair.run_ms(10_000);
    assert_eq!(pair.leaf.expired_at, Some(Instant::from_micros(5_300_000).plus_millis(3_000)));
    assert_eq!(pair.hub.expired_at, Some(Instant::from_micros(5_000_000).plus_millis(3_000)));
}

#[test]
fn the_longer_wish_for_heartbeats_holds_and_none_is_none() {
    for (wish, beats) in [(5_000, 20), (200, 100), (0, 0)] {
        let mut pair = Pair::new(Setup { hub_heartbeat_ms: wish, ..lossy() });
        pair.run_ms(100_500);
        assert_eq!(pair.leaf.beats(), beats, "wish {wish}");
        assert!(pair.is_open());
    }
}

/// [`Pair::run_ms`] only ever jumps to what `poll_timeout` says; here nothing may be late, and no jump in vain.
#[test]
fn poll_timeout_alone_drives_a_session_without_delay_and_without_spinning() {
    let mut pair = Pair::new(Setup { hub_requires: true, leaf_requires: true, ..lossy() });
    pair.leaf.mints = Some(|unix_s, to| device_token("imu", to, unix_s, unix_s + PROOF_LIFETIME_S));
    pair.hub.mints = Some(|unix_s, to| hub_token("imu", to, unix_s));
    pair.run_ms(1_500);
    let due = pair.now.plus_millis(777);
    let id = pair.leaf.session.begin_request(due).unwrap();
    pair.run_ms(776);
    assert!(!pair.leaf.seen.contains(&Seen::RequestExpired(id)));
    pair.run_ms(1);
    assert!(pair.leaf.seen.contains(&Seen::RequestExpired(id)));
    pair.run_ms(2 * 3_600_000);
    pair.lose_all = true;
    pair.run_ms(3_000);
    assert!(!pair.is_open());
    pair.run_ms(60_000);
    pair.lose_all = false;
    pair.restart_hub();
    pair.run_ms(3_600_000);
    assert!(pair.leaf.session.is_ready() && pair.hub.session.is_ready());
    assert_eq!(pair.idle_jumps, 0, "of {}", pair.jumps);
    assert!(pair.jumps > 10_000);
}

#[test]
fn a_clock_that_the_owner_set_is_not_set_by_hello() {
    let mut pair = Pair::new(lossy());
    pair.leaf.session.set_clock(pair.now, 5_000_000);
    pair.pump();
    pair.run_ms(1_000);
    assert_eq!(pair.leaf.session.unix_micros(pair.now), Some(6_000_000));
    pair.leaf.session.trust_hello(pair.now);
    assert_eq!(pair.leaf.session.trusted_micros(pair.now), Some(6_000_000));
}
