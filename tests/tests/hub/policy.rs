//! A policy's limits on every way through the hub: asked once for each message, before anybody runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use visorbus_auth::{Asked, Denial, Policy, Transport};
use visorbus_core::IpcError;
use visorbus_core::auth::Operation;
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Message, MessagePayload};
use visorbus_hub::HubConfig;
use visorbus_tests::raw_peer::expect_error;

use crate::desk::{Desk, Forbids, Rules, config};
use crate::harness::{Client, TestHub, request};

#[test]
fn what_the_policy_forbids_reaches_nobody_on_any_way_through_the_hub() {
    let cases: [(Forbids, &str); 4] = [
        (
            |asked| limits(asked, Denial::TooOften { max_rate: 5, retry_ms: 200 }),
            "5 times a second: try again in 200 ms",
        ),
        (|asked| limits(asked, Denial::TooLong { max: 3 }), "payloads of up to 3 bytes"),
        (|asked| limits(asked, Denial::OtherTransport), "over this transport"),
        (|asked| limits(asked, Denial::OtherTime), "at this time of day"),
    ];
    for (forbids, said) in cases {
        let house = House::new(forbids);
        let mut innocent = house.hub.bystander();
        let mut peer = house.hub.connect("limited", &["*"]);
        let mut owner = house.hub.connect("owner", &[]);
        for address in ["echo/ping", "pooled/x", "owner/x", bus::SERVICES, bus::PEERS] {
            expect_error(peer.request(address, MessagePayload::Empty), ErrorKind::Authorization, said);
        }
        for topic in ["owner/hears", "news/today", "echo/told", "pooled/told"] {
            let id = peer.take_id();
            let mut notice = Message::notification(id, request(0, topic).destination.unwrap());
            notice.flags.requires_response = true;
            peer.send(&notice);
            expect_error(peer.answer_to(id), ErrorKind::Authorization, said);
        }
        expect_error(peer.subscribe("news/**", SlowConsumer::default()), ErrorKind::Authorization, said);
        expect_error(peer.register("radio"), ErrorKind::Authorization, said);
        assert!(owner.read_so_far().is_empty());
        assert_eq!(house.pooled.load(Ordering::SeqCst), 0);
        innocent.is_served_alone(&house.hub);
    }
}

#[test]
fn each_message_counts_once_against_a_limit_whoever_it_is_for() {
    let house = House::new(|_| None);
    let mut peer = house.hub.connect("limited", &["*"]);
    let mut owner = house.hub.connect("owner", &[]);
    let mut done = house.rules.counted();
    let mut counts_one = |what: &str, house: &House| {
        done += 1;
        assert_eq!(house.rules.counted(), done, "{what}");
    };
    for address in ["echo/ping", "pooled/x", bus::SERVICES] {
        peer.request(address, MessagePayload::Empty).unwrap();
        counts_one(address, &house);
    }
    peer.send(&request(70, "owner/x"));
    let call = owner.read_call();
    owner.answer(&call, "yes");
    peer.answer_to(70).unwrap();
    counts_one("a call to a peer", &house);
    peer.notify("owner/hears", MessagePayload::Empty);
    peer.read_so_far();
    counts_one("a notification to a peer", &house);
    peer.notify("news/today", MessagePayload::Empty);
    peer.read_so_far();
    counts_one("a topic of nobody's", &house);
    peer.subscribe("news/**", SlowConsumer::default()).unwrap();
    counts_one("a subscription", &house);
    peer.register("radio").unwrap();
    counts_one("a name", &house);
    // Whether one may is only asked, and costs nothing of what one may.
    let _ = peer.ask_text(bus::SCHEMA, "echo/ping");
    assert_eq!(house.rules.counted(), done);
}

#[test]
fn the_policy_is_told_the_transport_and_the_length_of_the_payload() {
    let house = House::new(|asked| {
        let fits = asked.transport == Transport::Unix && asked.payload_len <= 4;
        let concerns = asked.grant.is_some_and(|grant| grant.subject() == "limited");
        (concerns && !fits).then_some(Denial::TooLong { max: 4 })
    });
    let mut peer = house.hub.connect("limited", &["*"]);
    assert!(peer.request("echo/ping", MessagePayload::String("four")).is_ok());
    let outcome = peer.request("echo/ping", MessagePayload::String("fives"));
    expect_error(outcome, ErrorKind::Authorization, "up to 4 bytes");
    let plain = [7; 4_000];
    let packed = visorbus_hub::compress::compress(MessagePayload::Binary(&plain)).unwrap();
    let mut owner = house.hub.connect("owner", &[]);
    for address in ["echo/ping", "owner/x"] {
        let id = peer.take_id();
        let mut call = request(id, address).with_payload(MessagePayload::Binary(&packed));
        call.flags.compressed = true;
        peer.send(&call);
        expect_error(peer.answer_to(id), ErrorKind::Authorization, "up to 4 bytes");
    }
    assert!(owner.read_so_far().is_empty());
}

#[test]
fn a_messages_own_token_is_held_against_the_policy_too() {
    let house = House::new(|asked| {
        let concerns = asked.grant.is_some_and(|grant| grant.subject() == "guest");
        concerns.then_some(Denial::OtherTransport)
    });
    let mut innocent = house.hub.bystander();
    let mut peer = house.hub.connect("peer", &[]);
    let token = house.hub.token("guest", &["*"]);
    peer.send(&Message { auth_token: Some(&token), ..request(70, "echo/ping") });
    expect_error(peer.answer_to(70), ErrorKind::Authorization, "over this transport");
    innocent.is_served_alone(&house.hub);
}

#[test]
fn a_new_connection_is_no_way_around_a_rate() {
    let policy = Policy::parse(
        "[[rule]]\nscope = \"slow\"\nallow = [\"request:echo/*\"]\nmax_rate = 3\n\
         [[rule]]\nscope = \"short\"\nallow = [\"request:echo/*\"]\nmax_payload = 4\n\
         [[rule]]\nscope = \"wired\"\nallow = [\"request:echo/*\"]\ntransports = [\"serial\"]\n",
    )
    .unwrap();
    let config = HubConfig::with_providers(Desk::new(), Arc::new(policy));
    let hub = TestHub::with_config(config);
    let before = hub.echoed();
    let mut allowed = 0;
    let mut refused = None;
    let start = Instant::now();
    for number in 0..40 {
        let mut peer = hub.greeted(&format!("alice.{number}"));
        peer.authenticate(&hub.token("alice", &["slow"])).unwrap();
        match peer.request("echo/ping", MessagePayload::Empty) {
            Ok(_) => allowed += 1,
            Err(error) => refused = Some(error),
        }
    }
    let seconds = start.elapsed().as_secs() as usize + 1;
    assert!(allowed <= 3 + 3 * seconds, "{allowed} in {seconds} s");
    expect_error::<()>(Err(refused.unwrap()), ErrorKind::Authorization, "3 times a second: try again in");
    assert_eq!(hub.echoed() - before, allowed);
    let mut bob = hub.connect("bob", &["slow"]);
    assert!(bob.request("echo/ping", MessagePayload::Empty).is_ok(), "each has their own");
    let mut short = hub.connect("short", &["short"]);
    assert!(short.request("echo/ping", MessagePayload::String("four")).is_ok());
    let outcome = short.request("echo/ping", MessagePayload::String("fives"));
    expect_error(outcome, ErrorKind::Authorization, "payloads of up to 4 bytes");
    let mut wired = hub.connect("wired", &["wired"]);
    let outcome = wired.request("echo/ping", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authorization, "over this transport");
}

/// A hub with this policy, and a handler on the pool.
struct House {
    hub: TestHub,
    rules: Arc<Rules>,
    pooled: Arc<AtomicUsize>,
}

impl House {
    fn new(forbids: Forbids) -> Self {
        let rules = Rules::new(forbids);
        let hub = TestHub::with_config(config(&Desk::new(), &rules));
        let pooled = Arc::default();
        let handler = Box::new(Pooled(Arc::clone(&pooled)));
        hub.handle.register_handler(handler).unwrap();
        Self { hub, rules, pooled }
    }
}

struct Pooled(Arc<AtomicUsize>);

impl MessageHandler for Pooled {
    fn id(&self) -> &str {
        "pooled"
    }

    fn may_block(&self) -> bool {
        true
    }

    fn handle_message(&mut self, _message: &Message<'_>, _reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Refuses everything to `limited`.
fn limits(asked: &Asked<'_>, denial: Denial<'static>) -> Option<Denial<'static>> {
    let concerns = asked.grant.is_some_and(|grant| grant.subject() == "limited");
    (concerns && asked.operation != Operation::Administer).then_some(denial)
}
