//! How an end proves itself: tokens that are taken, refused, lost, revoked and renewed, and what waits for them.

use super::*;

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
    let long_ago = device_token("imu", HUB_BOOT, pair.unix_s() - 7_200, pair.unix_s() - 3_600);
    let for_another = hub_token("cli", LEAF_BOOT, pair.unix_s());
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
        (&[0, 5, 1, 2], ErrorKind::Serialization),
        (&[0, 1, 1, 2], ErrorKind::Serialization),
        (&[0], ErrorKind::Serialization),
    ] {
        let request = Message::request(8, Address::literal(bus::AUTHENTICATE));
        let answer = pair.hub_hears(&request.with_payload(MessagePayload::Binary(payload)));
        assert_eq!(error_of(&answer).0, kind, "{payload:?}");
        assert!(pair.hub.session.grant().is_none());
    }
    // What else there is beside tokens is for the hub to judge, and nothing that a leaf takes.
    let request = Message::request(8, Address::literal(bus::AUTHENTICATE));
    let request = request.with_payload(MessagePayload::Binary(&[1, 0]));
    assert!(pair.hub_hears(&request).is_empty());
    assert_eq!(pair.hub.seen.last(), Some(&Seen::Credentials));
    let answer = pair.leaf_hears(&request);
    assert_eq!(error_of(&answer).0, ErrorKind::Authentication);
    assert!(pair.hub.session.grant().is_none() && pair.leaf.session.grant().is_none());
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
fn the_proof_is_renewed_before_it_ends_and_the_session_is_ready_all_the_while() {
    let mut pair = Pair::new(Setup { hub_requires: true, leaf_requires: true, ..lossy() });
    pair.leaf.mints = Some(|unix_s, to| device_token("imu", to, unix_s, unix_s + PROOF_LIFETIME_S));
    pair.hub.mints = Some(|unix_s, to| hub_token("imu", to, unix_s));
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
