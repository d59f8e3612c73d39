//! Links whose ends are named by the hub: whoever they have proven to be, and a suffix that the transport has chosen.

use visorbus_core::auth::{BUS, Claims};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, MessagePayload};
use visorbus_hub::{Error, Limits, LinkOptions, Origin, OwnedPayload};
use visorbus_tests::echo::Echo;
use visorbus_tests::raw_peer::{RawPeer, expect_error};
use visorbus_tests::signalled::Signalled;

use crate::desk::{Desk, Rules, config};
use crate::harness::{Client, TestHub, claims, request, text};

#[test]
fn an_end_goes_by_its_subject_and_the_suffix_whatever_its_hello_says() {
    let hub = TestHub::start();
    for (number, said) in ["bus", "echo", "bob", "alice", "alice.d2", "visorbus"].into_iter().enumerate() {
        let suffix = format!("d{number}");
        let mut peer = attach(&hub, &suffix);
        peer.hello(said).unwrap();
        peer.authenticate(&hub.token("alice", &["*"])).unwrap();
        assert!(hub.peer(&format!("alice.{suffix}")).authenticated);
        assert!(hub.handle.active_connections().unwrap().iter().all(|name| name != said));
    }
}

#[test]
fn many_sessions_of_one_subject_are_told_apart() {
    let hub = TestHub::start();
    let mut one = connect(&hub, "d1", "alice", &["*"]);
    let mut two = connect(&hub, "d2", "alice", &["*"]);
    let mut watcher = hub.connect("watcher", &["*"]);
    watcher.subscribe("*/x", SlowConsumer::default()).unwrap();
    for (peer, name) in [(&mut one, "alice.d1"), (&mut two, "alice.d2")] {
        let topic = format!("{name}/x");
        peer.notify(&topic, MessagePayload::Empty);
        assert_eq!(watcher.read_topic(&topic).source, name);
        let id = watcher.send_request(&topic, MessagePayload::Empty);
        let call = peer.read_call();
        peer.answer(&call, name);
        assert_eq!(text(&watcher.answer_to(id).unwrap()), name);
    }
    // Neither speaks for the other, or for the subject as such.
    for source in ["alice.d2", "alice", "watcher", "bus"] {
        let mut lie = request(70, "echo/ping");
        lie.source = Some(Address::new(source).unwrap());
        one.send(&lie);
        assert!(one.answer_to(70).is_err(), "{source}");
    }
    drop(two);
    hub.wait_until(|peers| peers.iter().all(|peer| peer.name != "alice.d2"));
    connect(&hub, "d2", "alice", &[]);
    one.request("echo/ping", MessagePayload::Empty).unwrap();
}

#[test]
fn another_subject_in_the_same_session_is_refused_and_changes_nothing() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = connect(&hub, "d1", "alice", &["request:alice.d1/*"]);
    for subject in ["bob", "alice.d1", "alic", "alicee", "bystander"] {
        let outcome = peer.authenticate(&hub.token(subject, &["*"]));
        expect_error(outcome, ErrorKind::Authentication, "this session is 'alice.d1' and cannot become");
        assert!(hub.peer("alice.d1").authenticated);
        // The rights of the one that was refused are not there.
        let outcome = peer.request("echo/ping", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authorization, "no permission");
    }
    innocent.is_served_alone(&hub);
    peer.authenticate(&hub.token("alice", &["request:echo/*"])).unwrap();
    peer.request("echo/ping", MessagePayload::Empty).unwrap();
    assert_eq!(hub.handle.active_connections().unwrap(), ["alice.d1", "bystander"]);
}

#[test]
fn a_login_as_another_that_was_on_its_way_is_refused_when_it_comes_to_an_end() {
    let desk = Desk::new();
    let hub = TestHub::with_config(config(&desk, &Rules::new(|_| None)));
    let mut peer = attach(&hub, "d1");
    peer.hello("x").unwrap();
    desk.close_door();
    let bob = bus::Credentials::UsernamePassword { username: "bob", password: "open sesame" };
    let payload = OwnedPayload::postcard(&bob).unwrap();
    let login = peer.send_request(bus::AUTHENTICATE, payload.borrow());
    peer.authenticate(&hub.token("alice", &[])).unwrap();
    desk.open_door();
    expect_error(peer.answer_to(login), ErrorKind::Authentication, "this session is 'alice.d1'");
    expect_error(peer.request("echo/ping", MessagePayload::Empty), ErrorKind::Authorization, "no permission");
    assert_eq!(hub.handle.active_connections().unwrap(), ["alice.d1"]);
}

#[test]
fn a_name_that_is_taken_is_refused_and_its_owner_is_not_disturbed() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut owner = hub.connect("alice.d1", &["*"]);
    owner.register("alice.d2").unwrap();
    hub.handle.register_handler(Box::new(Echo::new("alice.d3"))).unwrap();
    for suffix in ["d1", "d2", "d3"] {
        let mut peer = attach(&hub, suffix);
        peer.hello("x").unwrap();
        let outcome = peer.authenticate(&hub.token("alice", &["*"]));
        expect_error(outcome, ErrorKind::Connection, &format!("'alice.{suffix}' is taken"));
        let outcome = peer.request("echo/ping", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    }
    // And the other way round.
    let _by_suffix = connect(&hub, "d4", "alice", &[]);
    let mut late = hub.greeted("alice.d4");
    let outcome = late.authenticate(&hub.token("alice.d4", &["*"]));
    expect_error(outcome, ErrorKind::Connection, "'alice.d4' is taken");
    expect_error(owner.register("alice.d4"), ErrorKind::Connection, "is taken");
    owner.request(bus::SERVICES, MessagePayload::Empty).unwrap();
    innocent.is_served_alone(&hub);
}

#[test]
fn a_name_that_would_be_too_long_is_refused_with_the_name() {
    let hub = TestHub::start();
    let longest = "a".repeat(32 - ".d1".len());
    connect(&hub, "d1", &longest, &["*"]);
    let longer = format!("{longest}a");
    let mut peer = attach(&hub, "d1");
    peer.hello("x").unwrap();
    let outcome = peer.authenticate(&hub.token(&longer, &["*"]));
    expect_error(outcome, ErrorKind::Authentication, &format!("'{longer}.d1' here, which is longer than 32"));
    let outcome = peer.request("echo/ping", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    assert!(hub.handle.peers().unwrap().iter().all(|peer| !peer.authenticated));
}

#[test]
fn the_hubs_own_name_is_nobodys() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = attach(&hub, "d1");
    peer.hello("x").unwrap();
    let stolen = hub.mint(&Claims { subject: BUS, ..claims() });
    expect_error(peer.authenticate(&stolen), ErrorKind::Authentication, "");
    assert!(hub.handle.active_connections().unwrap().iter().all(|name| !name.starts_with("bus")));
    let mut peer = attach(&hub, "bus");
    peer.hello("x").unwrap();
    peer.authenticate(&hub.token("alice", &["*"])).unwrap();
    assert_eq!(hub.handle.active_connections().unwrap(), ["alice.bus", "bystander"]);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_suffix_that_would_make_a_name_of_another_kind_is_not_taken_at_all() {
    let hub = TestHub::start();
    for suffix in ["", ".", "a.b", ".d1", "d1.", "A", "a/b", "*", "ü", " ", "a b", &"a".repeat(33), ":1.42"]
    {
        expect_error(try_attach(&hub, suffixed(suffix)), ErrorKind::Internal, "is no suffix of a name");
    }
    let by_name = LinkOptions { unauthenticated: Some("alice".to_owned()), ..suffixed("d1") };
    let only = LinkOptions { only: Some("alice".to_owned()), ..suffixed("d1") };
    let keyed = LinkOptions { keyed: true, ..suffixed("d1") };
    for options in [by_name, only, keyed] {
        expect_error(try_attach(&hub, options), ErrorKind::Internal, "has no name of its own");
    }
    assert!(hub.handle.peers().unwrap().is_empty());
}

#[test]
fn a_session_that_begins_anew_may_be_another_subjects() {
    let hub = TestHub::with_limits(Limits::default());
    drop(connect(&hub, "d1", "alice", &["*"]));
    hub.wait_until(|peers| peers.is_empty());
    let mut peer = connect(&hub, "d1", "bob", &["request:echo/*"]);
    peer.request("echo/ping", MessagePayload::Empty).unwrap();
    assert_eq!(hub.handle.active_connections().unwrap(), ["bob.d1"]);
}

fn connect(hub: &TestHub, suffix: &str, subject: &str, scopes: &[&str]) -> RawPeer {
    let mut peer = attach(hub, suffix);
    peer.hello("x").unwrap();
    peer.authenticate(&hub.token(subject, scopes)).unwrap();
    peer
}

fn attach(hub: &TestHub, suffix: &str) -> RawPeer {
    try_attach(hub, suffixed(suffix)).unwrap()
}

fn suffixed(suffix: &str) -> LinkOptions {
    LinkOptions { suffix: Some(suffix.to_owned()), ..LinkOptions::default() }
}

fn try_attach(hub: &TestHub, options: LinkOptions) -> Result<RawPeer, Error> {
    let (peer, inner) = RawPeer::pair();
    let origin = Origin::DBus { uid: None, gid: None, pid: None, unique_name: ":1.42".to_owned() };
    hub.handle.attach(Box::new(Signalled::new(inner, origin, options))).map(|_| peer)
}
