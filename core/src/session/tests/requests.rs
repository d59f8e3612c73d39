//! An open session's own requests, its goodbye, and any message in any state.

use super::*;

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
    pair.leaf.mints = Some(|unix_s, to| device_token("imu", to, unix_s, unix_s + PROOF_LIFETIME_S));
    pair.hub.mints = Some(|unix_s, to| hub_token("imu", to, unix_s));
    pair.run_ms(10_000);
    assert!(pair.leaf.session.is_ready() && pair.hub.session.is_ready());
}
