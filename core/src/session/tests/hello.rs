//! How a session opens: hello, its answer and its refusal, who is there, and an end that has started again.

use super::*;

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
