//! Hello, names, limits on connections, and the end of a session.

use std::time::Duration;

use visorbus_core::Instant;
use visorbus_core::auth::{Claims, Scopes};
use visorbus_core::bus::{self, Identity, REQUIRES_AUTHENTICATION};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{MessagePayload, MessageType};
use visorbus_hub::{HubLink, Limits, OwnedMessage};
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};

use crate::harness::{BOOT_ID, Client, TestHub, claims, text};

#[test]
fn a_hello_of_another_wire_version_is_refused_and_who_is_there_is_told_to_anybody() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.attach();
    for (min_version, max_version) in [(0, 0), (2, 2), (2, 255), (255, 0)] {
        let hello = Identity { min_version, max_version, ..identity("future") };
        expect_error(peer.hello_as(&hello), ErrorKind::Protocol, "version 1");
    }
    let told = peer.request(bus::IDENTITY, MessagePayload::Empty).unwrap();
    assert_eq!(told.payload.parse::<OwnedIdentity>().unwrap().name, "bus");
    assert!(peer.hello("future").is_ok(), "another try is allowed");
    assert!(hub.peer("future?").refused >= 4);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_hello_that_is_no_identity_is_refused() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.attach();
    for payload in [MessagePayload::Empty, MessagePayload::Binary(&[1, 1, 40]), MessagePayload::Json("{}")] {
        expect_error(peer.request(bus::HELLO, payload), ErrorKind::Serialization, "not an identity");
    }
    for name in ["", "Loud", "a/b", "..", "x*", "a23456789012345678901234567890123"] {
        expect_error(peer.hello(name), ErrorKind::Message, "not a component name");
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn hello_is_said_once_on_a_socket() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.connect("twice", &["*"]);
    expect_error(peer.hello("twice"), ErrorKind::Protocol, "hello was said before");
    expect_error(peer.hello("another"), ErrorKind::Protocol, "hello was said before");
    assert_eq!((hub.peer("twice").refused, hub.peer("twice").sessions), (2, 1));
    innocent.is_served_alone(&hub);
    assert!(peer.request("echo/ping", MessagePayload::Empty).is_ok(), "the session goes on");
}

#[test]
fn nothing_passes_before_hello() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.attach();
    for address in ["echo/ping", "bystander/x", bus::SERVICES, bus::SUBSCRIBE, bus::AUTHENTICATE, "nobody"] {
        expect_error(peer.request(address, MessagePayload::Empty), ErrorKind::Protocol, "say hello first");
    }
    peer.notify("echo/ping", MessagePayload::Empty);
    peer.notify("bystander/x", MessagePayload::Empty);
    assert!(peer.read_so_far().is_empty());
    innocent.is_served_alone(&hub);
    assert!(innocent.peer.read_so_far().is_empty());
}

#[test]
fn nothing_passes_before_authentication() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.greeted("shy");
    for address in ["echo/ping", "bystander/x", bus::SERVICES, bus::PEERS, bus::SUBSCRIBE, bus::REGISTER] {
        let outcome = peer.request(address, MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    }
    peer.notify("echo/ping", MessagePayload::Empty);
    peer.notify("shy/news", MessagePayload::Empty);
    assert!(peer.read_so_far().is_empty());
    assert_eq!(hub.peer("shy?").refused, 8);
    assert_eq!(hub.handle.active_connections().unwrap(), ["bystander"]);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_taken_name_is_refused_and_free_again_when_its_owner_is_gone() {
    let hub = TestHub::start();
    let mut first = hub.connect("name", &["*"]);
    let mut second = hub.greeted("name");
    let token = hub.token("name", &["*"]);
    expect_error(second.authenticate(&token), ErrorKind::Connection, "'name' is taken");
    expect_error(
        second.request("echo/ping", MessagePayload::Empty),
        ErrorKind::Authentication,
        "authenticate first",
    );
    assert!(first.request("echo/ping", MessagePayload::Empty).is_ok(), "the first has it as before");
    drop(first);
    hub.wait_until(|peers| peers.iter().all(|peer| !peer.authenticated));
    assert!(second.authenticate(&token).is_ok());
    assert!(second.request("echo/ping", MessagePayload::Empty).is_ok());
    assert_eq!(hub.echoed(), 2);
}

#[test]
fn a_name_is_free_at_once_after_a_goodbye() {
    let hub = TestHub::start();
    for _ in 0..20 {
        let mut peer = hub.connect("again", &[]);
        peer.notify(bus::GOODBYE, MessagePayload::String("done"));
        assert!(peer.read_to_end().is_empty(), "a goodbye is not answered");
    }
}

#[test]
fn the_hubs_own_name_and_those_of_its_handlers_are_nobodys() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    for name in ["bus", "echo"] {
        let mut peer = hub.greeted(name);
        let outcome = peer.authenticate(&hub.token(name, &["*"]));
        assert!(outcome.is_err(), "{name}");
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn whoever_calls_itself_a_device_gets_no_token_of_the_hubs_before_it_has_proven_that() {
    let hub = TestHub::start();
    for name in ["imu", "bus", "bystander"] {
        let mut peer = hub.attach();
        let device = Identity { capabilities: REQUIRES_AUTHENTICATION, ..identity(name) };
        peer.hello_as(&device).unwrap();
        assert!(peer.read_so_far().is_empty(), "{name}");
        let forged = peer.authenticate(&hub.token("another", &["*"]));
        expect_error(forged, ErrorKind::Authentication, "does not prove the name");
        assert!(peer.is_quiet_for(Duration::from_millis(1_200)), "{name}: not later either");
    }
    let mut device = hub.attach();
    device.hello_as(&Identity { capabilities: REQUIRES_AUTHENTICATION, ..identity("imu") }).unwrap();
    device.authenticate(&hub.token("imu", &[])).unwrap();
    let proof = device.read_where(|message| message.message_type == MessageType::Request);
    assert_eq!(proof.destination, bus::AUTHENTICATE);
}

#[test]
fn a_token_of_the_hubs_own_proves_no_name() {
    let hub = TestHub::start();
    let own = Claims { subject: "bus", scopes: Scopes::new(&["*"]), ..claims() };
    for name in ["bus", "bus.evil"] {
        for (serial, why) in [(BOOT_ID, "does not prove"), (1, "not accepted")] {
            let token = hub.mint(&Claims { serial, ..own });
            expect_error(hub.greeted(name).authenticate(&token), ErrorKind::Authentication, why);
        }
    }
}

#[test]
fn a_name_may_go_on_behind_the_tokens_subject_and_a_dot() {
    let hub = TestHub::start();
    let token = hub.token("alice", &["*"]);
    for name in ["alice", "alice.ui", "alice.ui.2"] {
        assert!(hub.greeted(name).authenticate(&token).is_ok(), "{name}");
    }
    for name in ["alicex", "alic", "bob.alice", "alice-2"] {
        expect_error(hub.greeted(name).authenticate(&token), ErrorKind::Authentication, "does not prove");
    }
}

#[test]
fn whoever_does_not_authenticate_in_time_is_told_and_let_go() {
    let hub = TestHub::with_limits(Limits { handshake_ms: 1_500, ..Limits::default() });
    let mut innocent = hub.bystander();
    for mut peer in [hub.attach(), hub.greeted("dawdler")] {
        let messages = peer.read_to_end();
        let said = messages.iter().find_map(OwnedMessage::error).expect("an error");
        assert!(said.text().contains("no authentication within 1500 ms"), "{said}");
    }
    assert!(
        innocent.peer.is_quiet_for(Duration::from_millis(1_550)),
        "who has authenticated has no such deadline"
    );
    innocent.is_served_alone(&hub);
}

#[test]
fn a_connection_past_the_limit_is_told_which_and_let_go() {
    let hub = TestHub::with_limits(Limits { max_peers: 3, ..Limits::default() });
    let mut innocent = hub.bystander();
    let two: Vec<RawPeer> = (0..2).map(|_| hub.attach()).collect();
    let (mut third, link) = RawPeer::pair();
    let refused = hub.handle.attach(Box::new(link));
    expect_error(refused, ErrorKind::Connection, "3 connections are open, the limit");
    let said = third.read().error().expect("an error");
    assert!(said.text().contains("3 connections are open"), "{said}");
    assert!(third.read_to_end().is_empty());
    innocent.is_served_alone(&hub);
    drop(two);
    hub.wait_until(|peers| peers.len() == 1);
    hub.connect("late", &[]);
}

#[test]
fn a_silent_peer_that_promised_heartbeats_is_told_and_let_go() {
    let hub = TestHub::with_limits(Limits { socket_heartbeat_ms: 150, ..Limits::default() });
    let mut innocent = hub.bystander();
    let mut peer = hub.attach();
    peer.hello_as(&Identity { heartbeat_ms: 150, ..identity("silent") }).unwrap();
    peer.authenticate(&hub.token("silent", &[])).unwrap();
    for _ in 0..3 {
        let beat = peer.take_id();
        let mut beat = visorbus_core::Message::heartbeat(beat);
        beat.flags.requires_response = true;
        peer.send(&beat);
        assert_eq!(peer.read().message_type, MessageType::Heartbeat);
        assert!(peer.is_quiet_for(Duration::from_millis(200)));
    }
    peer.read_to_end();
    innocent.is_served_alone(&hub);
}

#[test]
fn a_peer_that_closes_only_its_sending_half_is_gone() {
    let hub = TestHub::start();
    let mut peer = hub.connect("half", &["*"]);
    peer.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(peer.read_to_end().is_empty());
    hub.wait_until(<[_]>::is_empty);
}

#[test]
fn a_peer_that_closes_only_its_receiving_half_is_gone_when_something_is_sent_to_it() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.connect("half", &["*"]);
    peer.stream().shutdown(std::net::Shutdown::Read).unwrap();
    peer.send_request("nobody/x", MessagePayload::Empty);
    hub.wait_until(|peers| peers.len() == 1);
    innocent.is_served_alone(&hub);
}

#[test]
fn stopping_says_goodbye_to_everybody() {
    let mut hub = TestHub::start();
    let mut peers: Vec<RawPeer> = (0..10).map(|n| hub.connect(&format!("p{n}"), &["*"])).collect();
    let waits = peers[0].send_request("p1/x", MessagePayload::Empty);
    assert_eq!(peers[1].read_call().id, waits);
    hub.stop().unwrap();
    for mut peer in peers {
        let messages = peer.read_to_end();
        let goodbye = messages.last().expect("a goodbye");
        assert_eq!((goodbye.destination.as_str(), text(goodbye)), (bus::GOODBYE, "the hub stops"));
    }
    let (_peer, link) = RawPeer::pair();
    expect_error(hub.handle.attach(Box::new(link)), ErrorKind::Connection, "the hub has ended");
}

#[test]
fn a_link_that_cannot_be_waited_on_is_refused() {
    let hub = TestHub::start();
    let file = tempfile::tempfile().unwrap();
    let refused = hub.handle.attach(Box::new(NoSocket(file)));
    expect_error(refused, ErrorKind::Connection, "cannot be waited on");
    assert_eq!(hub.handle.peers(), Ok(Vec::new()));
}

/// epoll takes no regular file.
struct NoSocket(std::fs::File);

impl HubLink for NoSocket {
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(&self.0))
    }
    fn receive(&mut self, _into: &mut visorbus_hub::ReceiveBuffer) -> std::io::Result<()> {
        Ok(())
    }
    fn has_room(&mut self, _head: u8, _len: usize) -> bool {
        true
    }
    fn send(&mut self, _head: &[u8], _payload: &[u8], _at_once: bool) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&mut self, _now: Instant) -> std::io::Result<bool> {
        Ok(true)
    }
    fn origin(&self) -> visorbus_hub::Origin {
        visorbus_hub::Origin::Unknown
    }
    fn options(&self) -> visorbus_hub::LinkOptions {
        visorbus_hub::LinkOptions::default()
    }
}

#[derive(serde::Deserialize)]
struct OwnedIdentity {
    _min_version: u8,
    _max_version: u8,
    name: String,
    _boot_id: u64,
    _max_frame: u32,
    _heartbeat_ms: u32,
    _capabilities: u32,
    _rows: u16,
    _unix_us: u64,
}
