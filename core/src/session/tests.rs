//! Both ends of a session against each other, frame by frame, on a clock that only the test moves.

extern crate std;

use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::auth::{BUS, Claims, Key, KeyRing, Scopes, Slot};
use crate::codec::{decode, encode};
use crate::error::ErrorKind;

#[test]
fn both_ends_say_hello_and_are_open() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    assert_eq!(pair.leaf.seen, [Seen::Opened]);
    assert_eq!(pair.hub.seen, [Seen::Opened]);
    let (leaf, hub) = (pair.leaf.session.remote().unwrap(), pair.hub.session.remote().unwrap());
    assert_eq!((leaf.name.as_str(), leaf.boot_id), ("bus", 100));
    assert_eq!((hub.name.as_str(), hub.boot_id, hub.rows, hub.max_frame), ("imu", 200, 4, 256));
    assert!(pair.leaf.session.is_ready() && pair.hub.session.is_ready());
    assert_eq!(pair.leaf.session.unix_micros(pair.now), Some(pair.unix_us()), "hello brings the time");
}

#[test]
fn a_lost_hello_is_said_again_on_a_lossy_link() {
    let mut pair = Pair::new(lossy());
    pair.lose_all = true;
    pair.run_ms(1_100);
    assert_eq!(pair.leaf.sent_to(bus::HELLO), 5, "at once, then each 250 ms");
    pair.lose_all = false;
    pair.run_ms(250);
    assert!(pair.is_open());
    pair.run_ms(10_000);
    assert_eq!(pair.leaf.sent_to(bus::HELLO), 6);
}

#[test]
fn a_hello_answer_that_takes_longer_than_the_next_hello_still_opens() {
    let mut pair = Pair::new(lossy());
    pair.latency_ms = 400;
    pair.run_ms(2_000);
    assert!(pair.is_open());
    assert!(!pair.leaf.seen.contains(&Seen::Restarted));
}

#[test]
fn on_a_socket_hello_is_said_once() {
    let mut pair = Pair::new(socket());
    pair.lose_all = true;
    pair.run_ms(3_600_000);
    assert_eq!(pair.leaf.sent_to(bus::HELLO), 1);
    assert_eq!(pair.leaf.session.poll_timeout(), None);
}

#[test]
fn a_second_hello_on_a_socket_is_refused_and_the_session_goes_on() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..socket() });
    pair.pump();
    let id = pair.hub.session.begin_request(pair.now.plus_millis(5_000)).unwrap();
    let answer = pair.hub_hears(&hello(9, &identity("imu")));
    assert_eq!(error_of(&answer), (ErrorKind::Protocol, "hello was said before: a session has one".into()));
    assert!(pair.hub.session.is_open() && pair.hub.session.grant().is_some());
    pair.hub_hears(&response(id));
    assert_eq!(pair.hub.seen.last(), Some(&Seen::Reply(id, Ok(()))), "what was pending still is");
    pair.run_ms(10_000);
    assert!(pair.is_open() && pair.leaf.session.is_ready());
}

#[test]
fn hello_again_on_a_lossy_link_is_a_restart_that_takes_the_grant_and_all_pending_requests() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.pump();
    assert!(pair.hub.session.grant().is_some());
    let id = pair.hub.session.begin_request(pair.now.plus_millis(5_000)).unwrap();
    pair.hub_hears(&hello(1, &Identity { boot_id: 201, ..identity("imu") }));
    assert_eq!(pair.hub.seen.last(), Some(&Seen::Opened));
    assert!(pair.hub.session.is_open() && pair.hub.session.grant().is_none());
    assert_eq!(pair.hub.session.remote().unwrap().boot_id, 201);
    let answer = pair.hub_hears(&Message::request(2, Address::literal("cli/x")));
    assert_eq!(error_of(&answer).0, ErrorKind::Authentication);
    pair.hub_hears(&response(id));
    assert_eq!(pair.hub.seen.last(), Some(&Seen::Deliver(String::new())), "no longer this session's own");
}

#[test]
fn without_a_common_version_hello_is_refused_and_said_again_a_second_later() {
    let mut pair = Pair::new(lossy());
    for (min_version, max_version) in [(2, 9), (0, 0), (2, 1)] {
        let answer = pair.hub_hears(&hello(1, &Identity { min_version, max_version, ..identity("imu") }));
        let (kind, text) = error_of(&answer);
        assert_eq!(kind, ErrorKind::Protocol);
        assert!(text.contains("version 1"), "{text}");
        assert!(!pair.hub.session.is_open());
    }
    pair.refuse_hellos = true;
    pair.pump();
    assert_eq!(pair.leaf.seen, [Seen::Refused(ErrorKind::Protocol)]);
    pair.run_ms(999);
    assert_eq!(pair.leaf.sent_to(bus::HELLO), 1);
    pair.refuse_hellos = false;
    pair.run_ms(1);
    assert_eq!(pair.leaf.sent_to(bus::HELLO), 2);
    assert!(pair.is_open());
}

#[test]
fn an_answer_to_hello_in_another_version_is_refused() {
    let mut pair = Pair::new(lossy());
    let hello_id = pair.leaf.transmit(pair.now).unwrap();
    let bytes = postcard_of(&Identity { max_version: 2, min_version: 2, ..identity("bus") });
    let mut answer = response(hello_id);
    answer.payload = MessagePayload::Binary(&bytes);
    pair.leaf_hears(&answer);
    assert_eq!(pair.leaf.seen, [Seen::Refused(ErrorKind::Protocol)]);
    assert!(!pair.leaf.session.is_open());
}

#[test]
fn request_before_hello_is_refused() {
    for setup in [lossy(), socket()] {
        let mut pair = Pair::new(setup);
        for address in ["imu/info", bus::AUTHENTICATE, bus::SUBSCRIBE, "bus"] {
            let answer = pair.hub_hears(&Message::request(4, Address::literal(address)));
            assert_eq!(error_of(&answer).0, ErrorKind::Protocol, "{address}");
        }
        assert_eq!(pair.hub.seen, vec![Seen::Answered; 4]);
        assert!(pair.hub_hears(&Message::notification(5, Address::literal("imu/sample"))).is_empty());
        assert!(pair.hub_hears(&response(6)).is_empty());
        assert_eq!(
            pair.hub.seen[4..],
            [Seen::Drop(DropReason::BeforeHello), Seen::Drop(DropReason::BeforeHello)]
        );
    }
}

#[test]
fn before_authentication_a_request_is_refused_and_a_notification_dropped() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.leaf.tokens.clear();
    pair.pump();
    assert!(pair.is_open() && !pair.leaf.session.is_ready());
    for address in ["cli/x", bus::SUBSCRIBE, bus::REGISTER, bus::SERVICES] {
        let answer = pair.hub_hears(&Message::request(40, Address::literal(address)));
        assert_eq!(error_of(&answer).0, ErrorKind::Authentication, "{address}");
    }
    let notification = Message::notification(41, Address::literal("imu/sample"));
    assert!(pair.hub_hears(&notification).is_empty());
    assert_eq!(pair.hub.seen.last(), Some(&Seen::Drop(DropReason::Refused)));
    pair.leaf.tokens.push_back(pair.leaf_token());
    pair.run_ms(1_000);
    assert!(pair.leaf.session.is_ready());
    pair.hub_hears(&notification);
    assert_eq!(pair.hub.seen.last(), Some(&Seen::Deliver("imu/sample".into())));
}

#[test]
fn both_ends_prove_themselves_by_tokens() {
    let mut pair = Pair::new(Setup { hub_requires: true, leaf_requires: true, ..lossy() });
    pair.pump();
    assert_eq!(pair.hub.session.grant().unwrap().subject(), "imu");
    assert_eq!(pair.leaf.session.grant().unwrap().subject(), "bus");
    assert!(pair.leaf.session.is_ready() && pair.hub.session.is_ready());
    assert_eq!(pair.leaf.seen, [Seen::Opened, Seen::Ready]);
    assert_eq!(pair.hub.seen, [Seen::Opened, Seen::Ready]);
}

#[test]
fn a_bad_token_is_refused_by_reason_and_another_is_asked_for_while_the_session_stays_open() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    let good = pair.leaf_token();
    let mut forged = good.clone();
    forged[10] ^= 1;
    let long_ago = device_token("imu", pair.unix_s() - 7_200, pair.unix_s() - 3_600);
    let for_another = hub_token("cli", pair.unix_s());
    pair.leaf.tokens = [long_ago, forged, for_another, good].into();
    let texts = [sentence::TOKEN_EXPIRED, sentence::TOKEN_REFUSED, sentence::OTHER_AUDIENCE];
    pair.pump();
    for (at, text) in texts.into_iter().enumerate() {
        assert_eq!(pair.leaf.seen.len(), at + 2);
        assert_eq!(
            pair.leaf.seen.last(),
            Some(&Seen::NotReady(ErrorKind::Authentication, text.to_string())),
            "token {at}"
        );
        assert!(pair.is_open() && pair.hub.session.grant().is_none() && !pair.leaf.session.is_ready());
        pair.run_ms(1_000);
    }
    assert_eq!(pair.leaf.seen.last(), Some(&Seen::Ready));
    assert!(pair.hub.session.grant().is_some());
}

#[test]
fn credentials_that_are_none_are_refused() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    for (payload, kind) in [
        (&[][..], ErrorKind::Authentication),
        (&[1, 0], ErrorKind::Authentication),
        (&[0, 5, 1, 2], ErrorKind::Serialization),
        (&[0, 1, 1, 2], ErrorKind::Serialization),
        (&[0], ErrorKind::Serialization),
    ] {
        let request = Message::request(8, Address::literal(bus::AUTHENTICATE));
        let answer = pair.hub_hears(&request.with_payload(MessagePayload::Binary(payload)));
        assert_eq!(error_of(&answer).0, kind, "{payload:?}");
        assert!(pair.hub.session.grant().is_none());
    }
}

#[test]
fn an_owner_without_a_token_is_asked_once_a_second() {
    let mut pair = Pair::new(Setup { hub_requires: true, heartbeat_ms: 0, ..lossy() });
    pair.leaf.tokens.clear();
    pair.run_ms(60_000);
    assert_eq!(pair.leaf.asked_for_token, 61);
}

#[test]
fn a_token_whose_answer_was_lost_is_sent_again() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.lose_authenticate = true;
    pair.run_ms(5_000);
    assert!(pair.is_open() && !pair.leaf.session.is_ready());
    assert_eq!(pair.leaf.sent_to(bus::AUTHENTICATE), 3, "each two seconds");
    pair.lose_authenticate = false;
    pair.run_ms(2_000);
    assert!(pair.leaf.session.is_ready());
}

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
fn a_hello_sets_a_clock_forward_and_never_back() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let before = pair.unix_us();
    for (hub_says, expected) in [(before - 9_000_000, before), (before + 9_000_000, before + 9_000_000)] {
        pair.hub.session.set_clock(pair.now, hub_says);
        pair.leaf.session.reset(pair.now);
        pair.pump();
        assert!(pair.is_open());
        assert_eq!(pair.leaf.session.unix_micros(pair.now), Some(expected));
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

#[test]
fn a_hub_that_opens_the_line_after_the_hello_was_lost_need_not_wait_for_the_next() {
    let mut pair = Pair::new(lossy());
    pair.lose_all = true;
    pair.pump();
    pair.lose_all = false;
    pair.restart_hub();
    pair.run_ms(30);
    assert!(pair.is_open(), "long before the next hello is due by itself");
}

#[test]
fn an_accepting_end_that_restarts_makes_a_lossy_connecting_end_say_hello_at_once() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.pump();
    pair.restart_hub();
    pair.pump();
    assert_eq!(pair.leaf.seen[2..], [Seen::Restarted, Seen::Opened, Seen::Ready]);
    assert_eq!(pair.leaf.session.remote().unwrap().boot_id, 101);
    assert!(pair.hub.session.grant().is_some());
}

/// Its own identity requests kept the leaf believing that all was well, for ever.
#[test]
fn an_accepting_end_that_alone_fell_silent_is_said_hello_to_within_a_heartbeat() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.pump();
    let now = pair.now;
    pair.hub.session.reset(now);
    pair.run_ms(1_000);
    assert!(pair.is_open() && pair.leaf.session.is_ready() && pair.hub.session.grant().is_some());
    assert_eq!(pair.leaf.seen[2..], [Seen::Restarted, Seen::Opened, Seen::Ready]);
}

#[test]
fn a_revoked_end_learns_it_from_its_heartbeat_and_proves_itself_again() {
    for setup in [lossy(), socket()] {
        let mut pair = Pair::new(Setup { hub_requires: true, ..setup });
        pair.pump();
        pair.hub.session.revoke();
        pair.run_ms(1_000);
        assert!(matches!(pair.leaf.seen[2..], [Seen::NotReady(ErrorKind::Authentication, _), Seen::Ready]));
        assert!(pair.leaf.session.is_ready() && pair.hub.session.grant().is_some());
    }
}

#[test]
fn an_end_that_did_not_say_that_it_wants_a_token_is_given_one_when_a_heartbeat_is_refused() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.leaf.transmit(pair.now).unwrap();
    let greeting = pair.leaf.outbox.pop().unwrap();
    let answer = pair.hub_hears_frame(&greeting);
    let mut answer = decode(&answer).unwrap();
    let silent = postcard_of(&Identity { capabilities: 0, ..identity("bus") });
    answer.payload = MessagePayload::Binary(&silent);
    pair.leaf_hears(&answer);
    assert!(pair.is_open() && pair.leaf.session.is_ready());
    pair.run_ms(1_000);
    assert!(pair.leaf.session.is_ready() && pair.hub.session.grant().is_some());
}

#[test]
fn the_same_hello_that_comes_twice_costs_nothing() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.leaf.transmit(pair.now).unwrap();
    let hello = pair.leaf.outbox.pop().unwrap();
    pair.hub_hears_frame(&hello);
    let answer = pair.hub_hears_frame(&hello);
    pair.leaf_hears(&decode(&answer).unwrap());
    pair.pump();
    assert!(pair.leaf.session.is_ready() && pair.hub.session.grant().is_some());
}

#[test]
fn the_same_hello_after_the_session_was_used_ends_it_and_the_next_one_has_another_id() {
    let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
    pair.pump();
    let first = pair.leaf.sent[0].clone();
    let answer = pair.hub_hears_frame(&first);
    let refusal = decode(&answer).unwrap();
    assert_eq!((refusal.message_type, refusal.id), (MessageType::Error, decode(&first).unwrap().id));
    assert!(!pair.hub.session.is_open() && pair.hub.session.grant().is_none());
    // To one that has not started again it says nothing; the heartbeat does.
    pair.leaf_hears(&refusal);
    assert!(pair.leaf.session.is_open());
    pair.run_ms(2_000);
    assert!(pair.leaf.session.is_ready() && pair.hub.session.grant().is_some());
}

#[test]
fn a_token_that_is_not_answered_though_nothing_gets_lost_ends_the_session() {
    for (has_lane, ends) in [(false, false), (true, true)] {
        let mut pair = Pair::new(Setup { hub_requires: true, ..lossy() });
        if has_lane {
            pair.leaf.session.offer_lane();
            pair.hub.session.offer_lane();
        }
        pair.leaf.transmit(pair.now).unwrap();
        let hello = pair.leaf.outbox.pop().unwrap();
        let answer = pair.hub_hears_frame(&hello);
        pair.leaf_hears(&decode(&answer).unwrap());
        assert_ne!(pair.leaf.session.authenticate(b"token", pair.now, &mut [0; 64]), 0);
        let later = pair.now.plus_millis(2_000);
        let expired = pair.leaf.session.handle_timeout(later);
        assert_eq!((expired.is_some(), pair.leaf.session.is_open()), (ends, !ends));
    }
}

#[test]
fn an_error_without_an_id_ends_nothing() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let mut out = [0; 64];
    let nothing = Message::request(0, Address::literal("bus"));
    let len = codec::encode_error(&nothing, &IpcError::Protocol("unreadable"), &mut out).unwrap();
    let error = decode(&out[..len]).unwrap();
    pair.leaf_hears(&error);
    assert!(pair.leaf.session.is_open());
}

#[test]
fn requests_end_by_their_answer_an_error_or_their_deadline() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let deadline = pair.now.plus_millis(500);
    let ids: Vec<u64> =
        (0..MAX_PENDING).map(|_| pair.leaf.session.begin_request(deadline).unwrap()).collect();
    assert_eq!(pair.leaf.session.begin_request(deadline), Err(TooManyPending));
    pair.leaf_hears(&response(ids[0]));
    let mut failed = response(ids[1]);
    failed.message_type = MessageType::Error;
    failed.payload = MessagePayload::Binary(b"\x04no");
    pair.leaf_hears(&failed);
    pair.leaf.session.cancel_request(ids[2]);
    pair.run_ms(499);
    let answered = [
        Seen::Opened,
        Seen::Reply(ids[0], Ok(())),
        Seen::Reply(ids[1], Err((ErrorKind::Message, "no".into()))),
    ];
    assert_eq!(pair.leaf.seen, answered);
    pair.run_ms(1);
    assert_eq!(pair.leaf.seen[3..], [Seen::RequestExpired(ids[3])]);
    pair.leaf_hears(&response(ids[3]));
    assert_eq!(pair.leaf.seen[4..], [Seen::Deliver(String::new())], "a late answer is nobody's");
    assert!(pair.leaf.session.begin_request(deadline).is_ok());
}

#[test]
fn an_answer_twice_is_an_answer_once() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let id = pair.leaf.session.begin_request(pair.now.plus_millis(500)).unwrap();
    pair.leaf_hears(&response(id));
    pair.leaf_hears(&response(id));
    assert_eq!(pair.leaf.seen[1..], [Seen::Reply(id, Ok(())), Seen::Deliver(String::new())]);
}

#[test]
fn goodbye_ends_the_session_on_both_sides_and_hello_waits_a_second() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    let id = pair.leaf.session.begin_request(pair.now.plus_millis(10)).unwrap();
    let mut out = [0; 64];
    let len = pair.hub.session.close("shutting down", pair.now, &mut out);
    let goodbye = decode(&out[..len]).unwrap();
    assert_eq!(goodbye.payload, MessagePayload::String("shutting down"));
    pair.leaf_hears(&goodbye);
    assert_eq!(pair.leaf.seen, [Seen::Opened, Seen::Closed]);
    assert!(!pair.leaf.session.is_open() && !pair.hub.session.is_open());
    pair.run_ms(999);
    assert_eq!(pair.leaf.sent_to(bus::HELLO), 1, "two ends must not chase each other");
    assert!(!pair.leaf.seen.contains(&Seen::RequestExpired(id)));
    pair.run_ms(1);
    assert!(pair.is_open());

    let len = pair.leaf.session.close("going to sleep", pair.now, &mut out);
    let goodbye = decode(&out[..len]).unwrap();
    pair.hub_hears(&goodbye);
    assert_eq!(pair.hub.seen.last(), Some(&Seen::Closed));
    assert_eq!(pair.leaf.session.close("twice", pair.now, &mut out), 0);
}

#[test]
fn identity_is_answered_in_any_state() {
    let mut pair = Pair::new(Setup { hub_requires: true, leaf_requires: true, ..lossy() });
    pair.leaf.tokens.clear();
    for _ in 0..2 {
        let ask = Message::request(70, Address::literal(bus::IDENTITY));
        let answer = pair.hub_hears(&ask);
        let message = decode(&answer).unwrap();
        assert_eq!((message.message_type, message.id), (MessageType::Response, 70));
        assert_eq!(message.payload.parse::<Identity<'_>>().unwrap().name, "bus");
        let answer = pair.leaf_hears(&ask);
        assert_eq!(decode(&answer).unwrap().payload.parse::<Identity<'_>>().unwrap().boot_id, 200);
        pair.pump();
    }
    assert!(pair.is_open(), "asking changes nothing");
}

#[test]
fn a_hub_that_asks_who_is_there_on_a_line_has_lost_the_session_even_with_the_same_boot_id() {
    let mut pair = Pair::new(lossy());
    pair.pump();
    assert!(pair.is_open());
    pair.leaf_hears(&Message::request(0, Address::literal(bus::IDENTITY)));
    assert!(!pair.leaf.session.is_open(), "its end of the line was out for a while");
    pair.pump();
    assert!(pair.is_open(), "hello is said at once");
}

#[test]
fn a_name_that_is_none_is_refused() {
    for name in ["", "Imu", "imu/x", "a b", "..", "an-altogether-too-long-name-for-a-peer"] {
        let mut pair = Pair::new(lossy());
        let answer = pair.hub_hears(&hello(1, &identity(name)));
        assert_eq!(error_of(&answer).0, ErrorKind::Message, "{name:?}");
        assert!(!pair.hub.session.is_open());
    }
    let mut pair = Pair::new(lossy());
    let cut_off = Message::request(1, Address::literal(bus::HELLO));
    let answer = pair.hub_hears(&cut_off.with_payload(MessagePayload::Binary(&[1, 1, 9, b'x'])));
    assert_eq!(error_of(&answer).0, ErrorKind::Serialization);
}

#[test]
fn a_hello_to_an_end_that_says_hello_itself_is_refused() {
    let mut pair = Pair::new(lossy());
    let answer = pair.leaf_hears(&hello(1, &identity("bus")));
    assert_eq!(error_of(&answer).0, ErrorKind::Protocol);
}

#[test]
fn the_proof_is_renewed_before_it_ends_and_the_session_is_ready_all_the_while() {
    let mut pair = Pair::new(Setup { hub_requires: true, leaf_requires: true, ..lossy() });
    pair.leaf.mints = Some(|unix_s| device_token("imu", unix_s, unix_s + PROOF_LIFETIME_S));
    pair.hub.mints = Some(|unix_s| hub_token("imu", unix_s));
    pair.pump();
    for minute in 0..300 {
        pair.run_ms(60_000);
        assert!(pair.leaf.session.is_ready() && pair.hub.session.is_ready(), "minute {minute}");
        for grant in [pair.hub.session.grant(), pair.leaf.session.grant()] {
            assert!(grant.unwrap().expires() > pair.unix_s() + 1_700, "minute {minute}");
        }
    }
    assert_eq!(pair.leaf.asked_for_token, 11, "each half hour");
    assert!(!pair.leaf.seen.iter().any(|seen| matches!(seen, Seen::NotReady(..) | Seen::SessionExpired)));
}

/// [`Pair::run_ms`] only ever jumps to what `poll_timeout` says; here nothing may be late, and no jump in vain.
#[test]
fn poll_timeout_alone_drives_a_session_without_delay_and_without_spinning() {
    let mut pair = Pair::new(Setup { hub_requires: true, leaf_requires: true, ..lossy() });
    pair.leaf.mints = Some(|unix_s| device_token("imu", unix_s, unix_s + PROOF_LIFETIME_S));
    pair.hub.mints = Some(|unix_s| hub_token("imu", unix_s));
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
}

#[test]
fn any_message_in_any_state_is_dealt_with() {
    let addresses = [bus::HELLO, bus::IDENTITY, bus::AUTHENTICATE, bus::GOODBYE, bus::DESCRIBE, "imu/info"];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut pair = Pair::new(Setup { hub_requires: true, leaf_requires: true, ..lossy() });
    let whole = postcard_of(&identity("imu"));
    for _ in 0..100_000 {
        let message_type = MessageType::from_code(next(5) as u8).unwrap();
        let mut message = Message::request(next(12), Address::literal(addresses[next(6) as usize]));
        message.message_type = message_type;
        message.flags.requires_response = next(4) != 0;
        message.payload = MessagePayload::Binary(&whole[..next(whole.len() as u64 + 1) as usize]);
        if next(2) == 0 {
            pair.hub_hears(&message)
        } else {
            pair.leaf_hears(&message)
        };
        pair.leaf.seen.clear();
        pair.hub.seen.clear();
    }
    pair.leaf.mints = Some(|unix_s| device_token("imu", unix_s, unix_s + PROOF_LIFETIME_S));
    pair.hub.mints = Some(|unix_s| hub_token("imu", unix_s));
    pair.run_ms(10_000);
    assert!(pair.leaf.session.is_ready() && pair.hub.session.is_ready());
}

/// How the two ends of a [`Pair`] are set up.
#[derive(Clone, Copy)]
struct Setup {
    lossy: bool,
    hub_requires: bool,
    leaf_requires: bool,
    heartbeat_ms: u32,
    hub_heartbeat_ms: u32,
}

const fn lossy() -> Setup {
    Setup {
        lossy: true,
        hub_requires: false,
        leaf_requires: false,
        heartbeat_ms: 1_000,
        hub_heartbeat_ms: 1_000,
    }
}

const fn socket() -> Setup {
    Setup { lossy: false, ..lossy() }
}

/// A connecting and an accepting session, a line between them, and the clock.
struct Pair {
    leaf: End,
    hub: End,
    setup: Setup,
    now: Instant,
    latency_ms: u32,
    lose_all: bool,
    lose_authenticate: bool,
    refuse_hellos: bool,
    jumps: u32,
    idle_jumps: u32,
}

impl Pair {
    fn new(setup: Setup) -> Self {
        let now = Instant::from_micros(5_000_000);
        let mut pair = Self {
            leaf: End::new(setup, Role::Connecting, 200, device_ring()),
            hub: End::new(setup, Role::Accepting, 100, root_ring()),
            setup,
            now,
            latency_ms: 0,
            lose_all: false,
            lose_authenticate: false,
            refuse_hellos: false,
            jumps: 0,
            idle_jumps: 0,
        };
        pair.hub.session.set_clock(now, UNIX_S * 1_000_000);
        for _ in 0..4 {
            pair.leaf.tokens.push_back(pair.leaf_token());
            pair.hub.tokens.push_back(hub_token("imu", UNIX_S));
        }
        pair
    }

    fn restart_hub(&mut self) {
        let old = core::mem::replace(&mut self.hub, End::new(self.setup, Role::Accepting, 101, root_ring()));
        self.hub.session.set_clock(self.now, self.unix_us());
        self.hub.tokens = old.tokens;
        self.hub.mints = old.mints;
    }

    /// Lets both ends do all they have to do at this moment.
    fn pump(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..100 {
            let (leaf, hub) = (self.leaf.turn(self.now), self.hub.turn(self.now));
            let carried = self.carry();
            if !(leaf | hub | carried) {
                for end in [&self.leaf, &self.hub] {
                    let due = end.session.poll_timeout();
                    assert!(
                        due.is_none_or(|at| at > self.now),
                        "nothing to do, and yet {due:?} at {:?}",
                        self.now
                    );
                }
                return busy;
            }
            busy = true;
        }
        panic!("the two ends never come to rest: {:?} {:?}", self.leaf.seen, self.hub.seen);
    }

    /// Lets `millis` pass, in jumps from one thing that is due to the next.
    fn run_ms(&mut self, millis: u32) {
        let end = self.now.plus_millis(millis);
        self.pump();
        loop {
            let on_the_line = self.leaf.line.iter().chain(&self.hub.line).map(|(at, _)| *at);
            let timeouts = [self.leaf.session.poll_timeout(), self.hub.session.poll_timeout()];
            let next = timeouts.into_iter().flatten().chain(on_the_line).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next;
            self.jumps += 1;
            self.idle_jumps += u32::from(!self.pump());
        }
        self.now = end;
        self.pump();
    }

    /// Moves frames that are due from one end to the other.
    fn carry(&mut self) -> bool {
        let arrives = self.now.plus_millis(self.latency_ms);
        for end in [&mut self.leaf, &mut self.hub] {
            for frame in end.outbox.drain(..) {
                let to = decode(&frame).unwrap().destination.map_or("", Address::as_str).to_string();
                if self.lose_all || (self.lose_authenticate && to == bus::AUTHENTICATE) {
                    continue;
                }
                if self.refuse_hellos && to == bus::HELLO {
                    let mut foreign = frame.clone();
                    let at = frame.windows(5).position(|bytes| bytes == [1, 1, 3, b'i', b'm']).unwrap();
                    foreign[at..at + 2].copy_from_slice(&[7, 9]);
                    end.line.push_back((arrives, foreign));
                } else {
                    end.line.push_back((arrives, frame));
                }
            }
        }
        let to_hub = take_due(&mut self.leaf.line, self.now);
        let to_leaf = take_due(&mut self.hub.line, self.now);
        to_hub.iter().for_each(|frame| self.hub.hear(frame, self.now));
        to_leaf.iter().for_each(|frame| self.leaf.hear(frame, self.now));
        !(to_hub.is_empty() && to_leaf.is_empty())
    }

    /// One message from nobody in particular; the answer is not sent but returned.
    fn hub_hears(&mut self, message: &Message<'_>) -> Vec<u8> {
        self.hub_hears_frame(&frame_of(message))
    }

    fn hub_hears_frame(&mut self, frame: &[u8]) -> Vec<u8> {
        self.hub.hear(frame, self.now);
        self.hub.outbox.pop().unwrap_or_default()
    }

    fn leaf_hears(&mut self, message: &Message<'_>) -> Vec<u8> {
        self.leaf.hear(&frame_of(message), self.now);
        self.leaf.outbox.pop().unwrap_or_default()
    }

    fn is_open(&self) -> bool {
        self.leaf.session.is_open() && self.hub.session.is_open()
    }

    fn unix_us(&self) -> u64 {
        UNIX_S * 1_000_000 + self.now.as_micros() - 5_000_000
    }

    fn unix_s(&self) -> u64 {
        self.unix_us() / 1_000_000
    }

    fn leaf_token(&self) -> Vec<u8> {
        device_token("imu", self.unix_s(), self.unix_s() + PROOF_LIFETIME_S)
    }
}

/// A session, and an owner that does what its verdicts say.
struct End {
    session: Session,
    ring: KeyRing,
    tokens: VecDeque<Vec<u8>>,
    mints: Option<fn(u64) -> Vec<u8>>,
    asked_for_token: u32,
    expired_at: Option<Instant>,
    seen: Vec<Seen>,
    sent: Vec<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
    line: VecDeque<(Instant, Vec<u8>)>,
}

impl End {
    fn new(setup: Setup, role: Role, boot_id: u64, ring: KeyRing) -> Self {
        let connecting = role == Role::Connecting;
        let config = SessionConfig {
            role,
            name: Name::try_from(if connecting { "imu" } else { BUS }).unwrap(),
            boot_id,
            max_frame: 256,
            heartbeat_ms: if connecting { setup.heartbeat_ms } else { setup.hub_heartbeat_ms },
            rows: if connecting { 4 } else { 0 },
            requires_authentication: if connecting { setup.leaf_requires } else { setup.hub_requires },
            lossy: setup.lossy,
        };
        Self {
            session: Session::new(config),
            ring,
            tokens: VecDeque::new(),
            mints: None,
            asked_for_token: 0,
            expired_at: None,
            seen: Vec::new(),
            sent: Vec::new(),
            outbox: Vec::new(),
            line: VecDeque::new(),
        }
    }

    /// Does all that the time asks for; whether there was anything.
    fn turn(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while let Some(expired) = self.session.handle_timeout(now) {
            busy = true;
            if expired == Expired::Session {
                self.expired_at = Some(now);
            }
            self.seen.push(match expired {
                Expired::Session => Seen::SessionExpired,
                Expired::Request { id } => Seen::RequestExpired(id),
            });
        }
        while self.transmit(now).is_some() {
            busy = true;
        }
        if self.session.wants_token(now) {
            busy = true;
            self.asked_for_token += 1;
            let unix_s = self.session.unix_micros(now).unwrap_or(0) / 1_000_000;
            if let Some(token) = self.mints.map(|mint| mint(unix_s)).or_else(|| self.tokens.pop_front()) {
                let mut out = [0; 512];
                let len = self.session.authenticate(&token, now, &mut out);
                self.send(&out[..len]);
            }
        }
        busy
    }

    /// The id of the frame that the session itself had to send.
    fn transmit(&mut self, now: Instant) -> Option<u64> {
        let mut out = [0; 512];
        let len = self.session.poll_transmit(now, &mut out);
        self.send(&out[..len]);
        (len != 0).then(|| decode(&out[..len]).unwrap().id)
    }

    fn hear(&mut self, frame: &[u8], now: Instant) {
        let mut out = [0; 512];
        let message = decode(frame).unwrap();
        let (len, seen) = match self.session.handle(&message, now, &mut out) {
            Verdict::Deliver => {
                (0, Some(Seen::Deliver(message.destination.map_or("", Address::as_str).to_string())))
            }
            Verdict::Answer(len) => (len, None),
            Verdict::Refused { answer } => (answer, Some(Seen::Answered)),
            Verdict::Opened { answer } => (answer, Some(Seen::Opened)),
            Verdict::Restarted { answer } => (answer, Some(Seen::Restarted)),
            Verdict::Authenticate { token } => {
                let unix_s = self.session.unix_micros(now).map(|micros| micros / 1_000_000);
                let outcome = self.ring.check(token, self.session.name(), unix_s);
                let outcome = outcome.map_err(|error| IpcError::Authentication(error.for_peer()));
                (self.session.finish_authentication(&message, outcome, &mut out), None)
            }
            Verdict::Authenticated => (0, Some(Seen::Ready)),
            Verdict::NotAuthenticated(error) => {
                (0, Some(Seen::NotReady(error.kind(), error.text().to_string())))
            }
            Verdict::Reply { id, outcome } => {
                let outcome = outcome.map(|_| ()).map_err(|error| (error.kind(), error.text().to_string()));
                (0, Some(Seen::Reply(id, outcome)))
            }
            Verdict::Closed(CloseReason::Goodbye) => (0, Some(Seen::Closed)),
            Verdict::Closed(CloseReason::Refused(error)) => (0, Some(Seen::Refused(error.kind()))),
            Verdict::Drop(reason) => (0, Some(Seen::Drop(reason))),
            Verdict::Echoed { id, stamp } => (0, Some(Seen::Echoed(id, stamp))),
        };
        self.seen.extend(seen);
        self.send(&out[..len]);
    }

    fn send(&mut self, frame: &[u8]) {
        if !frame.is_empty() {
            self.sent.push(frame.to_vec());
            self.outbox.push(frame.to_vec());
        }
    }

    fn sent_to(&self, address: &str) -> usize {
        let destination =
            |frame: &&Vec<u8>| decode(frame).unwrap().destination.map(Address::as_str) == Some(address);
        self.sent.iter().filter(destination).count()
    }

    fn beats(&self) -> usize {
        self.sent.iter().filter(|frame| decode(frame).unwrap().message_type == MessageType::Heartbeat).count()
    }
}

/// What an end's owner came to know.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Deliver(String),
    Answered,
    Opened,
    Restarted,
    Ready,
    NotReady(ErrorKind, String),
    Reply(u64, Result<(), (ErrorKind, String)>),
    Closed,
    Refused(ErrorKind),
    Drop(DropReason),
    Echoed(u64, Option<u64>),
    SessionExpired,
    RequestExpired(u64),
}

fn take_due(line: &mut VecDeque<(Instant, Vec<u8>)>, now: Instant) -> Vec<Vec<u8>> {
    let due = line.iter().take_while(|(at, _)| *at <= now).count();
    line.drain(..due).map(|(_, frame)| frame).collect()
}

fn root_ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new([9; 32]))).unwrap();
    ring
}

fn device_ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::device(1, Key::new([9; 32]).derive("imu"))).unwrap();
    ring
}

/// What a device says of itself to the hub.
fn device_token(name: &str, issued_at: u64, expiry: u64) -> Vec<u8> {
    mint(&device_ring(), name, name, BUS, issued_at, expiry)
}

/// What the hub says of itself to a device, for an hour.
fn hub_token(audience: &str, issued_at: u64) -> Vec<u8> {
    mint(&root_ring(), BUS, BUS, audience, issued_at, issued_at + PROOF_LIFETIME_S)
}

fn mint(ring: &KeyRing, issuer: &str, subject: &str, audience: &str, issued_at: u64, expiry: u64) -> Vec<u8> {
    let scopes = Scopes::new(&[]);
    let claims = Claims { issuer, subject, audience, serial: issued_at, issued_at, expiry, epoch: 0, scopes };
    let mut out = [0; crate::limits::MAX_TOKEN];
    let len = ring.mint(1, &claims, &mut out).unwrap();
    out[..len].to_vec()
}

fn identity(name: &str) -> Identity<'_> {
    Identity {
        min_version: 1,
        max_version: 1,
        name,
        boot_id: 200,
        max_frame: 256,
        heartbeat_ms: 1_000,
        capabilities: 0,
        rows: 0,
        unix_us: 0,
    }
}

fn postcard_of(identity: &Identity<'_>) -> Vec<u8> {
    let mut out = [0; 128];
    postcard::to_slice(identity, &mut out).unwrap().to_vec()
}

/// A hello from `identity`. Leaks its bytes: a message borrows them.
fn hello(id: u64, identity: &Identity<'_>) -> Message<'static> {
    let request = Message::request(id, Address::literal(bus::HELLO));
    request.with_payload(MessagePayload::Binary(postcard_of(identity).leak()))
}

fn response(id: u64) -> Message<'static> {
    Message::request(id, Address::literal("x")).answer(MessageType::Response)
}

fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; 512];
    let len = encode(message, &mut out).unwrap();
    out[..len].to_vec()
}

fn error_of(frame: &[u8]) -> (ErrorKind, String) {
    let message = decode(frame).unwrap();
    assert_eq!(message.message_type, MessageType::Error, "{message:?}");
    let error = IpcError::from_payload(message.payload.as_bytes());
    (error.kind(), error.text().to_string())
}

const UNIX_S: u64 = 1_790_000_000;
