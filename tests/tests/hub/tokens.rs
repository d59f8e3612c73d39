//! Tokens that prove nothing, tokens for one message, and grants that end.

use visorbus_core::auth::{Caveat, Claims, Scopes, attenuate};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::{Message, MessagePayload};
use visorbus_hub::Limits;
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::harness::{BOOT_ID, Client, TestHub, claims, request, text, unix_s};

#[test]
fn a_token_with_any_bit_flipped_or_any_byte_cut_off_is_refused() {
    // A slow machine takes its time for so many.
    let hub = TestHub::with_limits(Limits { handshake_ms: 600_000, ..Limits::default() });
    let mut innocent = hub.bystander();
    let token = hub.token("forger", &["*"]);
    let mut peer = hub.greeted("forger");
    for bit in 0..token.len() * 8 {
        let mut forged = token.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        expect_error(peer.authenticate(&forged), ErrorKind::Authentication, "token");
    }
    for cut in 0..token.len() {
        expect_error(peer.authenticate(&token[..cut]), ErrorKind::Authentication, "token");
    }
    let longer = [&token[..], &[0]].concat();
    expect_error(peer.authenticate(&longer), ErrorKind::Authentication, "token");
    assert_eq!(hub.peer("forger?").refused, token.len() as u64 * 9 + 1);
    innocent.is_served_alone(&hub);
    assert!(peer.authenticate(&token).is_ok());
}

#[test]
fn what_a_board_proved_to_another_start_of_the_hub_is_refused() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.greeted("imu");
    let proof = |serial| hub.mint(&Claims { issuer: "imu", subject: "imu", serial, ..claims() });
    for boot_id in [0, 1, BOOT_ID - 1, BOOT_ID + 1, u64::MAX] {
        let outcome = peer.authenticate(&proof(boot_id));
        expect_error(outcome, ErrorKind::Authentication, "token not accepted");
    }
    innocent.is_served_alone(&hub);
    assert!(peer.authenticate(&proof(BOOT_ID)).is_ok());
}

#[test]
fn a_token_that_is_bound_to_another_user_or_to_a_certificate_is_refused() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.greeted("alice");
    let token = hub.token("alice", &["*"]);
    let bound = |caveat| {
        let mut out = [0; MAX_TOKEN];
        let len = attenuate(&token, &caveat, &mut out).unwrap();
        out[..len].to_vec()
    };
    let own = nix::unistd::getuid().as_raw();
    for caveat in [Caveat::Uid(own + 1), Caveat::Uid(u32::MAX), Caveat::Certificate(&[0; 32])] {
        expect_error(peer.authenticate(&bound(caveat)), ErrorKind::Authentication, "bound to another user");
    }
    innocent.is_served_alone(&hub);
    assert!(peer.authenticate(&bound(Caveat::Uid(own))).is_ok());
}

#[test]
fn a_token_of_another_key_time_or_audience_is_refused_with_the_reason_that_helps_an_honest_holder() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.greeted("late");
    let now = unix_s();
    let own = Claims { subject: "late", ..claims() };
    let expired = hub.mint(&Claims { issued_at: now - 100, expiry: now - 1, ..own });
    let early = hub.mint(&Claims { issued_at: now + 1_000, expiry: now + 2_000, ..own });
    let elsewhere = hub.mint(&Claims { audience: "imu", ..own });
    let narrowed = {
        let mut out = [0; MAX_TOKEN];
        let len = attenuate(&hub.mint(&own), &Caveat::Expiry(now - 1), &mut out).unwrap();
        out[..len].to_vec()
    };
    expect_error(peer.authenticate(&expired), ErrorKind::Authentication, "token expired");
    expect_error(peer.authenticate(&early), ErrorKind::Authentication, "token not accepted");
    expect_error(peer.authenticate(&elsewhere), ErrorKind::Authentication, "token is for another component");
    expect_error(peer.authenticate(&narrowed), ErrorKind::Authentication, "token expired");
    for payload in [&[][..], &[1], &[0], &[0, 5, 1], &[0, 0, 0]] {
        assert!(peer.request(bus::AUTHENTICATE, MessagePayload::Binary(payload)).is_err(), "{payload:?}");
    }
    expect_error(
        peer.request("echo/ping", MessagePayload::Empty),
        ErrorKind::Authentication,
        "authenticate first",
    );
    innocent.is_served_alone(&hub);
}

#[test]
fn the_right_token_on_anothers_name_is_refused() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut thief = hub.greeted("victim");
    let outcome = thief.authenticate(&hub.token("thief", &["*"]));
    expect_error(outcome, ErrorKind::Authentication, "'thief' does not prove the name 'victim'");
    innocent.is_served_alone(&hub);
    hub.connect("victim", &[]);
}

#[test]
fn a_source_that_is_not_the_sessions_own_is_refused() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.connect("forger", &["*"]);
    for (id, source) in
        [(50, "bystander"), (51, "bus"), (52, "echo"), (53, "nobody"), (54, "forge"), (55, "forgers/x")]
    {
        let source = request(id, source).destination;
        peer.send(&Message { source, ..request(id, "echo/ping") });
        expect_error(peer.answer_to(id), ErrorKind::Authorization, "the source is not this session's own");
    }
    innocent.is_served_alone(&hub);
    let source = request(0, "forger/part").destination;
    peer.send(&Message { source, ..request(60, "echo/ping") });
    assert_eq!(peer.answer_to(60).unwrap().destination, "forger/part");
}

#[test]
fn a_call_without_its_permission_is_refused_before_the_handler() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    for scopes in [&[][..], &["request:other/*"], &["notify:echo/*"], &["echo"], &["request:echo"]] {
        let mut peer = hub.connect("poor", scopes);
        let outcome = peer.request("echo/ping", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authorization, "no permission of the token allows 'request'");
        assert_eq!(hub.peer("poor").refused, 1);
        drop(peer);
        hub.wait_until(|peers| peers.len() == 1);
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn a_messages_own_token_counts_for_it_alone_and_goes_no_further() {
    let hub = TestHub::start();
    let mut owner = hub.connect("owner", &[]);
    let mut peer = hub.connect("poor", &[]);
    let token = hub.token("rich", &["request:owner/*", "request:echo/*"]);
    peer.send(&Message { auth_token: Some(&token), ..request(50, "echo/ping") });
    assert!(peer.answer_to(50).is_ok());
    peer.send(&Message { auth_token: Some(&token), ..request(51, "owner/x") });
    let call = owner.read_call();
    assert_eq!((call.source.as_str(), call.auth_token.as_deref()), ("poor", None));
    owner.answer(&call, "yes");
    assert_eq!(text(&peer.answer_to(51).unwrap()), "yes");
    expect_error(peer.request("owner/x", MessagePayload::Empty), ErrorKind::Authorization, "no permission");
}

#[test]
fn a_messages_token_for_its_destination_is_passed_on_and_allows_nothing_here() {
    let hub = TestHub::start();
    let mut owner = hub.connect("owner", &[]);
    let mut peer = hub.connect("caller", &["request:owner/*"]);
    let token = hub.mint(&Claims { audience: "owner", scopes: Scopes::new(&["*"]), ..claims() });
    peer.send(&Message { auth_token: Some(&token), ..request(50, "owner/x") });
    assert_eq!(owner.read_call().auth_token, Some(token.clone()));
    let mut poor = hub.connect("poor", &[]);
    poor.send(&Message { auth_token: Some(&token), ..request(50, "owner/x") });
    expect_error(poor.answer_to(50), ErrorKind::Authorization, "no permission");
    assert!(owner.read_so_far().is_empty());
}

#[test]
fn a_messages_token_for_somebody_else_is_refused_and_shown_to_nobody() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut owner = hub.connect("owner", &[]);
    let mut peer = hub.connect("careless", &["*"]);
    let token = hub.mint(&Claims { audience: "imu", scopes: Scopes::new(&["*"]), ..claims() });
    for address in ["owner/x", "echo/ping", bus::SERVICES] {
        let id = peer.take_id();
        peer.send(&Message { auth_token: Some(&token), ..request(id, address) });
        expect_error(peer.answer_to(id), ErrorKind::Authentication, "token is for 'imu'");
    }
    let mut forged = hub.token("rich", &["*"]);
    *forged.last_mut().unwrap() ^= 1;
    for (bad, said) in [(&forged[..], "token not accepted"), (&[][..], "token"), (&[1, 2, 3], "token")] {
        let id = peer.take_id();
        peer.send(&Message { auth_token: Some(bad), ..request(id, "echo/ping") });
        expect_error(peer.answer_to(id), ErrorKind::Authentication, said);
    }
    assert!(owner.read_so_far().is_empty());
    innocent.is_served_alone(&hub);
}

#[test]
fn a_grant_that_expires_ends_requests_subscriptions_and_publishing_until_it_is_renewed() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut clock = hub.connect("clock", &["*"]);
    let mut publisher = hub.connect("publisher", &[]);
    let now = unix_s();
    let scopes = Scopes::new(&["request:echo/*", "subscribe:**"]);
    let short = Claims { subject: "short", scopes, expiry: now + 2, ..claims() };
    let mut peer = hub.greeted("short");
    peer.authenticate(&hub.mint(&short)).unwrap();
    peer.subscribe("publisher/**", SlowConsumer::default()).unwrap();
    clock.subscribe("**", SlowConsumer::default()).unwrap();
    publish(&mut publisher, "before");
    assert_eq!(text(&peer.read_topic("publisher/news")), "before");

    // The hub's own deadline is the clock of this test: nobody answers "clock/x".
    wait_ms(&mut clock, 2_100);
    publish(&mut publisher, "after");
    peer.notify("short/news", MessagePayload::Empty);
    assert!(peer.read_so_far().is_empty());
    expect_error(peer.request("echo/ping", MessagePayload::Empty), ErrorKind::Authentication, "expired");
    let again = peer.subscribe("publisher/**", SlowConsumer::default());
    expect_error(again, ErrorKind::Authentication, "has expired");
    assert_eq!(hub.peer("short").refused, 3);
    assert!(clock.read_so_far().iter().all(|message| message.source != "short"));
    innocent.is_served_alone(&hub);

    peer.authenticate(&hub.mint(&Claims { expiry: now + 3_600, ..short })).unwrap();
    publish(&mut publisher, "again");
    assert_eq!(text(&peer.read_topic("publisher/news")), "again", "the subscription is there again");
    assert!(peer.request("echo/ping", MessagePayload::Empty).is_ok());
}

#[test]
fn a_subscription_lives_no_longer_than_the_messages_token_that_it_was_made_with() {
    let hub = TestHub::start();
    let mut clock = hub.connect("clock", &["*"]);
    let mut publisher = hub.connect("publisher", &[]);
    let mut peer = hub.connect("guest", &[]);
    let now = unix_s();
    let guest = hub.mint(&Claims { expiry: now + 2, scopes: Scopes::new(&["subscribe:**"]), ..claims() });
    let subscribe = visorbus_hub::OwnedPayload::postcard(&bus::Subscribe {
        pattern: "publisher/news",
        policy: SlowConsumer::default(),
    })
    .unwrap();
    let ask = request(90, bus::SUBSCRIBE).with_payload(subscribe.borrow());
    peer.send(&Message { auth_token: Some(&guest), ..ask });
    peer.answer_to(90).unwrap();
    publish(&mut publisher, "before");
    assert_eq!(text(&peer.read_topic("publisher/news")), "before");
    wait_ms(&mut clock, 2_100);
    publish(&mut publisher, "after");
    assert!(peer.read_so_far().is_empty());
}

/// Publishes on the publisher's own topic, and returns when the hub has taken it.
fn publish(publisher: &mut RawPeer, news: &str) {
    publisher.notify("publisher/news", MessagePayload::String(news));
    assert!(publisher.read_so_far().is_empty());
}

/// Waits for an event that comes in so many milliseconds: the hub's answer to a call of a peer to itself.
fn wait_ms(peer: &mut RawPeer, millis: u32) {
    let id = peer.take_id();
    let mut call = request(id, "clock/x");
    call.flags.timeout_ms = Some(millis);
    peer.send(&call);
    expect_error(peer.answer_to(id), ErrorKind::Timeout, "did not answer in time");
}
