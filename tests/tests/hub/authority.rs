//! What a handler asks about its caller is decided at the hub's gate: by the policy, by the token of the message, and heard
//! of by the audit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use visorbus_auth::{AuditEvent, Denial};
use visorbus_core::IpcError;
use visorbus_core::auth::{Access, Operation};
use visorbus_core::bus::{self, RowKind, SlowConsumer};
use visorbus_core::dispatch::{Caller, MessageHandler, Reply, RowHead};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::typed::{SchemaPair, TypeSchema};
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_hub::info::ServiceInfo;
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::desk::{Desk, Forbids, Rules, config};
use crate::harness::{Client, TestHub, request, text};

const WAYS: [&str; 2] = ["inline", "pooled"];

#[test]
fn a_key_in_the_payload_is_asked_for_as_an_address_of_its_own_would_be() {
    let house = House::new(|_| None);
    let mut innocent = house.hub.bystander();
    let mut peer =
        house.hub.connect("peer", &["request:*/get", "request:inline/get/a", "request:pooled/get/a"]);
    for way in WAYS {
        let get = format!("{way}/get");
        assert_eq!(text(&peer.request(&get, MessagePayload::String("a")).unwrap()), "the value");
        let refused = peer.request(&get, MessagePayload::String("b"));
        expect_error(refused, ErrorKind::Authorization, "no permission of the token allows 'request'");
        // What is reached with it is no more than what it may.
        let refused = peer.request(&format!("{way}/get/b"), MessagePayload::Empty);
        expect_error(refused, ErrorKind::Authorization, "no permission");
    }
    assert_eq!(house.given.load(Ordering::SeqCst), 2);
    innocent.is_served_alone(&house.hub);
}

#[test]
fn what_the_policy_denies_is_denied_though_the_token_allows_it() {
    let cases: [(Forbids, &str); 4] = [
        (
            |asked| is_key(asked.resource.as_str()).then_some(Denial::TooOften { max_rate: 1, retry_ms: 9 }),
            "not allow this so often",
        ),
        (|asked| is_key(asked.resource.as_str()).then_some(Denial::TooLong { max: 3 }), "shorter payloads"),
        (|asked| is_key(asked.resource.as_str()).then_some(Denial::OtherTransport), "over this transport"),
        (|asked| is_key(asked.resource.as_str()).then_some(Denial::OtherTime), "at this time of day"),
    ];
    for (forbids, said) in cases {
        let house = House::new(forbids);
        let mut peer = house.hub.connect("peer", &["*"]);
        for way in WAYS {
            let refused = peer.request(&format!("{way}/get"), MessagePayload::String("a"));
            expect_error(refused, ErrorKind::Authorization, said);
        }
        assert_eq!(house.given.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn the_token_of_a_message_decides_in_the_place_of_the_sessions() {
    let house = House::new(|_| None);
    let mut peer = house.hub.connect("peer", &["request:*/get"]);
    let more = house.hub.token("peer", &["request:**"]);
    let mut strong = house.hub.connect("strong", &["*"]);
    let less = house.hub.token("strong", &["request:*/get"]);
    for (number, way) in (80..).zip(WAYS) {
        let get = format!("{way}/get");
        assert!(peer.request(&get, MessagePayload::String("a")).is_err());
        let mut own = request(number, &get).with_payload(MessagePayload::String("a"));
        own.auth_token = Some(&more);
        peer.send(&own);
        assert_eq!(text(&peer.answer_to(number).unwrap()), "the value");
        assert!(peer.request(&get, MessagePayload::String("a")).is_err(), "it was for that message alone");
        own.auth_token = Some(&less);
        strong.send(&own);
        expect_error(strong.answer_to(number), ErrorKind::Authorization, "no permission");
        assert!(strong.request(&get, MessagePayload::String("a")).is_ok());
    }
}

#[test]
fn what_is_done_counts_and_is_heard_of_and_what_is_only_listed_is_not() {
    let house = House::new(|_| None);
    let mut warden = house.hub.connect("warden", &["subscribe:bus/audit"]);
    warden.subscribe(bus::AUDIT, SlowConsumer::Disconnect).unwrap();
    let mut peer = house.hub.connect("peer", &["request:*/get", "request:*/list", "request:*/get/b"]);
    assert_eq!(next(&mut warden).what, "authenticated");
    for way in WAYS {
        let counted = house.rules.counted();
        let list = peer.request(&format!("{way}/list"), MessagePayload::Empty).unwrap();
        assert_eq!(text(&list), "b");
        assert_eq!(house.rules.counted(), counted + 1, "the request alone");
        peer.request(&format!("{way}/get"), MessagePayload::String("b")).unwrap();
        assert_eq!(house.rules.counted(), counted + 3, "the request and what it asks for");
        // The first that the audit hears of is this one, not what the list left out.
        assert!(peer.request(&format!("{way}/get"), MessagePayload::String("c")).is_err());
        let event = next(&mut warden);
        assert_eq!(
            [&*event.what, &*event.subject, &*event.operation, &*event.resource],
            ["denied", "peer", "request", &format!("{way}/get/c")]
        );
    }
}

#[test]
fn a_handler_that_asks_without_end_fills_neither_the_memory_nor_the_log() {
    let house = House::new(|_| None);
    let mut innocent = house.hub.bystander();
    let mut warden = house.hub.connect("warden", &["subscribe:bus/audit"]);
    warden.subscribe(bus::AUDIT, SlowConsumer::Disconnect).unwrap();
    let mut peer = house.hub.connect("peer", &["request:*/probe"]);
    for way in WAYS {
        peer.request(&format!("{way}/probe"), MessagePayload::Empty).unwrap();
    }
    innocent.is_served_alone(&house.hub);
    let heard = warden.read_so_far();
    assert!(heard.len() <= 1 + 2 * 8, "{}", heard.len());
}

#[test]
fn rows_that_a_handler_makes_while_running_are_told() {
    let house = House::new(|_| None);
    let mut peer = house.hub.connect("peer", &["*"]);
    let services: Vec<ServiceInfo> =
        peer.request(bus::SERVICES, MessagePayload::Empty).unwrap().payload.parse().unwrap();
    let told = services.iter().find(|service| service.component == "inline").unwrap();
    assert_eq!(told.addresses.len(), 1);
    assert_eq!(
        (&*told.addresses[0].address, &*told.addresses[0].access),
        ("inline/made", "scope inline.made")
    );
}

fn next(warden: &mut RawPeer) -> AuditEvent {
    warden.read_topic(bus::AUDIT).payload.parse().unwrap()
}

fn is_key(address: &str) -> bool {
    address.contains("/get/")
}

struct House {
    hub: TestHub,
    rules: Arc<Rules>,
    /// Values that were given away.
    given: Arc<AtomicUsize>,
}

impl House {
    fn new(forbids: Forbids) -> Self {
        let rules = Rules::new(forbids);
        let hub = TestHub::with_config(config(&Desk::new(), &rules));
        let given = Arc::<AtomicUsize>::default();
        for id in WAYS {
            let made = (format!("{id}/made"), format!("{id}.made"));
            let store = Store { id, made, may_block: id == "pooled", given: Arc::clone(&given) };
            hub.handle.register_handler(Box::new(store)).unwrap();
        }
        Self { hub, rules, given }
    }
}

/// Has the values `a`, `b`, `c`, each of which one may have who may request `ID/get/KEY`.
struct Store {
    id: &'static str,
    made: (String, String),
    may_block: bool,
    given: Arc<AtomicUsize>,
}

impl Store {
    fn address(&self, key: &str) -> String {
        format!("{}/get/{key}", self.id)
    }
}

impl MessageHandler for Store {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        let (address, scope) = &self.made;
        let address = Address::new(address).ok().filter(|_| number == 0)?;
        Some(RowHead::new(
            RowKind::Endpoint,
            address,
            Access::Scope(scope),
            SchemaPair { request: NONE, response: NONE },
        ))
    }

    fn handle_message(&mut self, _message: &Message<'_>, _reply: &mut Reply<'_>) -> Result<(), IpcError> {
        Err(IpcError::Internal("the hub tells who asks"))
    }

    fn handle_for(
        &mut self,
        caller: &Caller<'_>,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        _cancelled: &dyn Fn() -> bool,
    ) -> Result<(), IpcError> {
        let asked = |key: &str| self.address(key);
        let may = |address: &str| {
            caller.may(Operation::Request, Address::new(address).unwrap(), Access::Permission)
        };
        match (message.destination.unwrap().as_str().rsplit('/').next(), message.payload) {
            (Some("get"), MessagePayload::String(key)) => {
                may(&asked(key))?;
                self.given.fetch_add(1, Ordering::SeqCst);
                reply.payload(MessagePayload::String("the value"))
            }
            (Some("list"), _) => {
                let visible = |key: &&str| {
                    let address = asked(key);
                    let address = Address::new(&address).unwrap();
                    caller.might(Operation::Request, address, Access::Permission).is_ok()
                };
                let keys: Vec<&str> = ["a", "b", "c"].into_iter().filter(visible).collect();
                reply.payload(MessagePayload::String(&keys.join(" ")))
            }
            _ => {
                for number in 0..10_000 {
                    assert!(may(&asked(&number.to_string())).is_err());
                }
                Ok(())
            }
        }
    }
}

const NONE: TypeSchema = TypeSchema { hash: 0, bytes: &[] };
