//! Lines whose key says who is at their other end: that one is believed, nobody else is, and a new one is a new one.

use std::sync::{Arc, Mutex};

use visorbus_core::bus;
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Message, MessagePayload, MessageType};
use visorbus_hub::{LinkOptions, Origin, OwnedMessage, OwnedPayload, Proven};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::desk::{Disguised, Key};
use crate::harness::{Client, TestHub, request, text};

#[test]
fn the_board_that_a_links_key_proves_is_admitted_without_a_token() {
    let hub = TestHub::start();
    let (mut board, _key) = attach(&hub, Some(("imu", 1)));
    board.hello("imu").unwrap();
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "imu" && peer.authenticated));
    let mut caller = hub.connect("caller", &["request:imu/*"]);
    caller.send(&request(70, "imu/info"));
    let call = call_to(&mut board, "imu/info");
    board.answer(&call, "here");
    assert_eq!(text(&caller.answer_to(70).unwrap()), "here");
    // The key says who it is, not what it may do.
    let outcome = board.request("echo/ping", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authorization, "no permission");
}

#[test]
fn a_hello_in_another_name_than_the_keys_is_refused_and_changes_nothing() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (mut board, _key) = attach(&hub, Some(("imu", 1)));
    expect_error(
        board.hello("camera"),
        ErrorKind::Authentication,
        "the key of this link proves 'imu', not 'camera'",
    );
    expect_error(board.hello("imu2"), ErrorKind::Authentication, "proves 'imu'");
    expect_error(board.request("echo/ping", MessagePayload::Empty), ErrorKind::Protocol, "say hello first");
    board.hello("imu").unwrap();
    expect_error(board.hello("camera"), ErrorKind::Authentication, "proves 'imu'");
    assert!(hub.peer("imu").authenticated, "the session goes on");
    innocent.is_served_alone(&hub);
}

#[test]
fn nothing_is_taken_from_a_link_whose_key_nobody_has_proven() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (mut board, _key) = attach(&hub, None);
    for name in ["imu", "bus", "echo"] {
        expect_error(board.hello(name), ErrorKind::Authentication, "nobody has proven the key");
    }
    let outcome = board.authenticate(&hub.token("imu", &["*"]));
    expect_error(outcome, ErrorKind::Authentication, "nobody has proven the key");
    expect_error(
        board.request("echo/ping", MessagePayload::Empty),
        ErrorKind::Authentication,
        "nobody has proven the key",
    );
    innocent.is_served_alone(&hub);
}

#[test]
fn what_another_board_or_another_start_sends_is_not_taken_for_the_sessions_before() {
    let hub = TestHub::start();
    let (mut board, key) = attach(&hub, Some(("imu", 1)));
    let mut caller = hub.connect("caller", &["request:imu/*"]);
    for boot_id in 2..5 {
        board.hello("imu").unwrap();
        caller.send(&request(100 + boot_id, "imu/info"));
        let call = call_to(&mut board, "imu/info");
        *key.lock().unwrap() = Some(Proven { name: "imu".to_owned(), boot_id });
        board.answer(&call, "of the start before");
        let outcome = caller.answer_to(100 + boot_id);
        expect_error(outcome, ErrorKind::Connection, "proven itself anew");
        let outcome = board.request("echo/ping", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Protocol, "say hello first");
    }
    *key.lock().unwrap() = None;
    expect_error(board.hello("imu"), ErrorKind::Authentication, "nobody has proven the key");
}

#[test]
fn a_board_on_a_keyed_link_is_not_asked_for_a_token() {
    let hub = TestHub::start();
    let (mut board, _key) = attach(&hub, Some(("imu", 1)));
    let answer = board.hello("imu").unwrap();
    let said: bus::Identity<'_> = match &answer.payload {
        OwnedPayload::Binary(bytes) => postcard::from_bytes(bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(said.capabilities & bus::REQUIRES_AUTHENTICATION, 0);
    board.send(&Message { message_type: MessageType::Heartbeat, destination: None, ..request(9, "imu/x") });
    assert_eq!(board.read_where(|message| message.id == 9).message_type, MessageType::Heartbeat);
}

/// Waits for a request to `address`, whatever else the hub asks on a line.
fn call_to(board: &mut RawPeer, address: &str) -> OwnedMessage {
    board.read_where(|message| message.destination == address)
}

/// A board on a line with a key, and what that key proves.
fn attach(hub: &TestHub, proven: Option<(&str, u64)>) -> (RawPeer, Key) {
    let proven = proven.map(|(name, boot_id)| Proven { name: name.to_owned(), boot_id });
    let key: Key = Arc::new(Mutex::new(proven));
    let shared = Arc::clone(&key);
    let peer = RawPeer::attach_by(&hub.handle, |inner| {
        let options = LinkOptions { lossy: true, keyed: true, ..LinkOptions::default() };
        let origin = Origin::Serial { path: "/dev/test".to_owned() };
        Box::new(Disguised { inner, origin, options, key: shared })
    });
    (peer, key)
}
