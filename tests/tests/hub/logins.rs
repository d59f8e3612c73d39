//! Credentials that are no token: checked beside the loop, and worth a token.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use visorbus_auth::AuthToken;
use visorbus_core::bus::{self, Credentials};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_hub::{Error, HubConfig, Limits, LinkOptions, Origin, OwnedMessage, OwnedPayload, Proven};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::desk::{Desk, Disguised, Key, Rules, config};
use crate::harness::TestHub;

const ALICE: Credentials<'static> =
    Credentials::UsernamePassword { username: "alice", password: "open sesame" };

#[test]
fn a_password_lets_one_in_and_is_answered_with_a_token_that_does_so_again() {
    let (hub, _desk) = hub(Limits::default());
    let mut alice = hub.greeted("alice.phone");
    let token: AuthToken = login(&mut alice, &ALICE).unwrap().payload.parse().unwrap();
    assert_eq!((token.scope.as_slice(), token.issuer.as_str()), (&["request:echo/*".to_owned()][..], "bus"));
    assert!(alice.request("echo/ping", MessagePayload::Empty).is_ok());
    assert!(hub.peer("alice.phone").authenticated);
    let mut again = hub.greeted("alice.watch");
    again.authenticate(&token.value.to_bytes().unwrap()).unwrap();
    assert!(again.request("echo/ping", MessagePayload::Empty).is_ok());
}

#[test]
fn who_asks_in_json_is_answered_in_json() {
    let (hub, _desk) = hub(Limits::default());
    let asked = r#"{"username_password": {"username": "alice", "password": "open\u0020sesame"}}"#;
    let mut alice = hub.greeted("alice");
    let answer = alice.request(bus::AUTHENTICATE, MessagePayload::Json(asked)).unwrap();
    let OwnedPayload::Json(text) = &answer.payload else { panic!("{answer:?}") };
    let token: AuthToken = serde_json::from_str(text).unwrap();
    let shown = format!(r#"{{"token": "{}"}}"#, token.value.as_str());
    let mut again = hub.greeted("alice.two");
    let answer = again.request(bus::AUTHENTICATE, MessagePayload::Json(&shown)).unwrap();
    assert_eq!(answer.payload, OwnedPayload::Empty, "whoever has a token needs none");
    for (name, asked) in [("robot", r#"{"api_key": "vbk1.robot"}"#), ("user", r#""peer""#)] {
        let mut peer = hub.greeted(name);
        assert!(peer.request(bus::AUTHENTICATE, MessagePayload::Json(asked)).is_ok(), "{name}");
        assert!(peer.request("echo/ping", MessagePayload::Empty).is_ok());
    }
}

#[test]
fn a_wrong_password_is_refused_and_another_try_on_the_same_connection_is_not() {
    let (hub, _desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    let mut alice = hub.greeted("alice");
    for password in ["", "open", "OPEN SESAME", "open sesame "] {
        let wrong = Credentials::UsernamePassword { username: "alice", password };
        expect_error(login(&mut alice, &wrong), ErrorKind::Authentication, "name or password is wrong");
    }
    expect_error(login(&mut alice, &Credentials::ApiKey("vbk1.")), ErrorKind::Authentication, "is wrong");
    let outcome = alice.request("echo/ping", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    innocent.is_served_alone(&hub);
    assert_eq!(hub.peer("alice?").refused, 6);
    login(&mut alice, &ALICE).unwrap();
}

#[test]
fn whoever_logs_in_holds_up_nobody_and_is_nobody_until_then() {
    let (hub, desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    desk.close_door();
    let mut alice = hub.greeted("alice");
    let waits = send_login(&mut alice, &ALICE);
    let again = login(&mut alice, &ALICE);
    expect_error(again, ErrorKind::Message, "waits for the outcome of such a request already");
    let early = alice.request("echo/ping", MessagePayload::Empty);
    expect_error(early, ErrorKind::Authentication, "authenticate first");
    innocent.is_served_alone(&hub);
    assert!(!hub.peer("alice?").authenticated);
    desk.open_door();
    alice.answer_to(waits).unwrap();
    assert!(alice.request("echo/ping", MessagePayload::Empty).is_ok());
}

#[test]
fn a_session_goes_on_as_it_was_while_it_logs_in_anew() {
    let (hub, desk) = hub(Limits::default());
    let mut alice = hub.connect("alice", &["request:echo/*"]);
    desk.close_door();
    let waits = send_login(&mut alice, &ALICE);
    assert!(alice.request("echo/ping", MessagePayload::Empty).is_ok());
    desk.open_door();
    alice.answer_to(waits).unwrap();
    let wrong = Credentials::UsernamePassword { username: "alice", password: "wrong" };
    expect_error(login(&mut alice, &wrong), ErrorKind::Authentication, "is wrong");
    assert!(alice.request("echo/ping", MessagePayload::Empty).is_ok(), "what was refused changes nothing");
}

#[test]
fn more_than_the_limit_at_once_are_told_to_try_again_and_cost_nobody_else_anything() {
    let (hub, desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    desk.close_door();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut peer = hub.greeted(&format!("alice.{}", waiting.len()));
        let id = send_login(&mut peer, &ALICE);
        let refused = peer.read_so_far().into_iter().find(|message| message.id == id);
        if let Some(refused) = refused {
            break refused;
        }
        waiting.push((peer, id));
    };
    // Two are looked after and sixteen wait, or they all wait yet.
    assert!((16..=18).contains(&waiting.len()), "{}", waiting.len());
    expect_error::<()>(Err(refused.error().unwrap()), ErrorKind::Message, "try again");
    innocent.is_served_alone(&hub);
    desk.open_door();
    for (peer, id) in &mut waiting {
        peer.answer_to(*id).unwrap();
    }
}

#[test]
fn a_login_proves_the_name_of_its_account_and_no_other() {
    let (hub, _desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    for name in ["bob", "alic", "alicex", "echo2"] {
        let mut peer = hub.greeted(name);
        let said = format!("'alice' does not prove the name '{name}'");
        expect_error(login(&mut peer, &ALICE), ErrorKind::Authentication, &said);
        let outcome = peer.request("echo/ping", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn one_who_leaves_while_logging_in_leaves_nothing_behind() {
    let (hub, desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    desk.close_door();
    let mut alice = hub.greeted("alice");
    send_login(&mut alice, &ALICE);
    alice.read_so_far();
    drop(alice);
    hub.wait_until(|peers| peers.len() == 1);
    let mut other = hub.greeted("alice");
    let waits = send_login(&mut other, &ALICE);
    desk.open_door();
    other.answer_to(waits).unwrap();
    assert_eq!(desk.asked.load(Ordering::SeqCst), 2);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_login_that_takes_too_long_does_not_keep_a_connection_that_has_proven_nothing() {
    let (hub, desk) = hub(Limits { handshake_ms: 1_500, ..Limits::default() });
    desk.close_door();
    let mut alice = hub.greeted("alice");
    send_login(&mut alice, &ALICE);
    let said = alice.read_to_end();
    assert!(said.iter().any(|message| message.error().is_some_and(|e| e.text().contains("within 1500 ms"))));
    desk.open_door();
    hub.wait_until(|peers| peers.is_empty());
    let mut bob = hub.greeted("bob");
    login(&mut bob, &Credentials::UsernamePassword { username: "bob", password: "open sesame" }).unwrap();
}

#[test]
fn what_the_channel_does_not_show_is_refused_before_anybody_is_asked() {
    let (hub, desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    let mut unknown = attach_as(&hub, Origin::Unknown);
    unknown.hello("user").unwrap();
    expect_error(login(&mut unknown, &Credentials::Peer), ErrorKind::Authentication, "shows no user");
    expect_error(
        login(&mut unknown, &Credentials::Certificate),
        ErrorKind::Authentication,
        "shows no certificate",
    );
    let mut process = hub.greeted("holder");
    expect_error(
        login(&mut process, &Credentials::Certificate),
        ErrorKind::Authentication,
        "shows no certificate",
    );
    let board = attach_as(&hub, Origin::Serial { path: "/dev/test".to_owned() });
    let mut board = board;
    board.hello("user").unwrap();
    expect_error(login(&mut board, &Credentials::Peer), ErrorKind::Authentication, "shows no user");
    assert_eq!(desk.asked.load(Ordering::SeqCst), 0);
    innocent.is_served_alone(&hub);
    let mut process = hub.greeted("user");
    login(&mut process, &Credentials::Peer).unwrap();
}

#[test]
fn no_password_and_no_api_key_is_taken_over_a_line_that_nothing_protects() {
    let (hub, desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    let serial = Origin::Serial { path: "/dev/test".to_owned() };
    for origin in [serial.clone(), Origin::Spi { path: "/dev/test".to_owned() }] {
        let mut board = attach_as(&hub, origin);
        board.hello("alice").unwrap();
        for credentials in [ALICE, Credentials::ApiKey("vbk1.robot")] {
            expect_error(login(&mut board, &credentials), ErrorKind::Authentication, "this line has no key");
        }
        let outcome = board.request("echo/ping", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    }
    assert_eq!(desk.asked.load(Ordering::SeqCst), 0);
    innocent.is_served_alone(&hub);
    let key: Key = Arc::new(Mutex::new(Some(Proven { name: "alice".to_owned(), boot_id: 1 })));
    let options = LinkOptions { lossy: true, keyed: true, ..LinkOptions::default() };
    let mut keyed =
        RawPeer::attach_by(&hub.handle, |inner| Box::new(Disguised { inner, origin: serial, options, key }));
    keyed.hello("alice").unwrap();
    login(&mut keyed, &ALICE).unwrap();
}

#[test]
fn no_password_and_no_api_key_is_taken_over_a_network_without_tls() {
    let (hub, desk) = hub(Limits::default());
    let mut innocent = hub.bystander();
    let from = |address: &str, tls| Origin::WebSocket { address: address.parse().unwrap(), tls };
    for far in ["192.0.2.7:4242", "10.0.0.2:1", "[2001:db8::1]:4242", "[::ffff:192.0.2.7]:4242"] {
        let mut alice = attach_as(&hub, from(far, false));
        alice.hello("alice").unwrap();
        for credentials in [ALICE, Credentials::ApiKey("vbk1.robot")] {
            expect_error(login(&mut alice, &credentials), ErrorKind::Authentication, "connect by wss");
        }
        let outcome = alice.request("echo/ping", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    }
    assert_eq!(desk.asked.load(Ordering::SeqCst), 0);
    innocent.is_served_alone(&hub);
    for near in [from("127.0.0.1:4242", false), from("[::1]:1", false), from("192.0.2.7:4242", true)] {
        let mut alice = attach_as(&hub, near);
        alice.hello("alice").unwrap();
        login(&mut alice, &ALICE).unwrap();
    }
}

#[test]
fn credentials_that_cannot_be_read_are_refused_without_their_own_words() {
    let (hub, desk) = hub(Limits::default());
    let mut peer = hub.greeted("alice");
    for text in [
        r#"{"username_password": {"username": "alice", "pasword": "hunter2"}}"#,
        r#"{"hunter2": "x"}"#,
        r#""hunter2""#,
        "hunter2",
        r#"{"token": "hunter2"}"#,
        r#"{"api_key": ["hunter2"]}"#,
    ] {
        let error = peer.request(bus::AUTHENTICATE, MessagePayload::Json(text)).unwrap_err();
        assert!(!error.text().contains("hunter2"), "{error}");
    }
    for bytes in [&[1][..], &[1, 5, b'a'], &[2, 0, 0], &[3, 0], &[5], &[9, 9], &[0x84, 0]] {
        assert!(peer.request(bus::AUTHENTICATE, MessagePayload::Binary(bytes)).is_err(), "{bytes:?}");
    }
    let outcome = peer.request(bus::AUTHENTICATE, MessagePayload::String("open sesame"));
    expect_error(outcome, ErrorKind::Authentication, "only a token");
    assert_eq!(desk.asked.load(Ordering::SeqCst), 0);
    login(&mut peer, &ALICE).unwrap();
}

#[test]
fn a_hub_without_accounts_knows_tokens_only() {
    let hub = TestHub::start();
    let mut peer = hub.greeted("alice");
    for credentials in [ALICE, Credentials::ApiKey("vbk1.robot"), Credentials::Peer] {
        expect_error(login(&mut peer, &credentials), ErrorKind::Authentication, "knows tokens only");
    }
}

#[test]
fn one_user_cannot_take_all_connections() {
    let limits = Limits { peers_per_user: 3, max_peers: 8, ..Limits::default() };
    let hub = TestHub::with_limits(limits);
    let peers: Vec<RawPeer> = (0..3).map(|number| hub.connect(&format!("own.{number}"), &[])).collect();
    let (mut fourth, link) = RawPeer::pair();
    let error = hub.handle.attach(Box::new(link)).unwrap_err();
    expect_error::<()>(Err(error), ErrorKind::Connection, "the limit of one user");
    let told = fourth.read_to_end();
    assert!(told[0].error().is_some_and(|error| error.text().contains("the limit of one user")));
    let mut another = attach_as(&hub, Origin::Unix { uid: u32::MAX - 1, gid: 1, pid: 1 });
    another.hello("another").unwrap();
    drop(peers);
    hub.wait_until(|peers| peers.len() == 1);
    hub.connect("own.again", &[]);
}

fn hub(limits: Limits) -> (TestHub, Arc<Desk>) {
    let desk = Desk::new();
    let config = HubConfig { limits, ..config(&desk, &Arc::new(Rules::default())) };
    (TestHub::with_config(config), desk)
}

/// A connection from there that has said nothing.
fn attach_as(hub: &TestHub, origin: Origin) -> RawPeer {
    let options = LinkOptions { lossy: matches!(origin, Origin::Serial { .. }), ..LinkOptions::default() };
    RawPeer::attach_by(&hub.handle, |inner| {
        Box::new(Disguised { inner, origin, options, key: Arc::default() })
    })
}

fn send_login(peer: &mut RawPeer, credentials: &Credentials<'_>) -> u64 {
    let payload = OwnedPayload::postcard(credentials).unwrap();
    peer.send_request(bus::AUTHENTICATE, payload.borrow())
}

fn login(peer: &mut RawPeer, credentials: &Credentials<'_>) -> Result<OwnedMessage, Error> {
    let id = send_login(peer, credentials);
    peer.answer_to(id)
}
