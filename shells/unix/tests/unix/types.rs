//! Types that differ between two programs: refused by name at the address where they differ, and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use visorbus_core::auth::Access;
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::dispatch::{Answers, Hears, MessageHandler, Reply, Row, Typed};
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, SchemaPair, Topic};
use visorbus_core::{IpcError, Message};
use visorbus_hub::info::{SchemaInfo, ServiceInfo};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload};
use visorbus_unix::{StateChange, TypedDelivery, UnixSocketClient};

use crate::opposite::SOON;
use crate::server::House;

/// Declares an endpoint or a topic of the component `lamp`.
macro_rules! address {
    (endpoint $name:ident, $address:literal, $access:expr, $request:ty => $response:ty) => {
        pub(crate) struct $name;
        impl Endpoint for $name {
            type Request = $request;
            type Response = $response;
            const ADDRESS: Address<'static> = Address::literal($address);
            const ACCESS: Access<'static> = $access;
        }
    };
    (topic $name:ident, $address:literal, $message:ty) => {
        pub(crate) struct $name;
        impl Topic for $name {
            type Message = $message;
            const ADDRESS: Address<'static> = Address::literal($address);
            const ACCESS: Access<'static> = Access::Permission;
        }
    };
}

address!(endpoint Set, "lamp/set", Access::Scope("lamp.control"), u8 => bool);
address!(endpoint Get, "lamp/get", Access::Permission, () => u8);
address!(topic Warm, "lamp/warm", u8);
address!(topic Level, "lamp/level", u8);

/// The same addresses, as another version of the crate declares them.
mod newer {
    use super::*;
    address!(endpoint Set, "lamp/set", Access::Scope("lamp.control"), u16 => Option<bool>);
    address!(topic Warm, "lamp/warm", i16);
    address!(topic Level, "lamp/level", u16);
}

/// A lamp, which counts how often it was reached.
#[derive(Clone, Default)]
struct Lamp(Arc<AtomicUsize>);

impl Lamp {
    fn reached(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn count<T>(&self, value: T) -> Result<T, IpcError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(value)
    }
}

impl Answers<Set> for Lamp {
    fn answer(&mut self, level: u8) -> Result<bool, IpcError> {
        self.count(level > 0)
    }
}

impl Answers<newer::Set> for Lamp {
    fn answer(&mut self, level: u16) -> Result<Option<bool>, IpcError> {
        self.count(Some(level > 0))
    }
}

impl Answers<Get> for Lamp {
    fn answer(&mut self, (): ()) -> Result<u8, IpcError> {
        self.count(7)
    }
}

impl Hears<Warm> for Lamp {
    fn hear(&mut self, _: u8) -> Result<(), IpcError> {
        self.count(())
    }
}

impl Hears<newer::Warm> for Lamp {
    fn hear(&mut self, _: i16) -> Result<(), IpcError> {
        self.count(())
    }
}

static ROWS: &[Row<Lamp>] =
    &[Row::endpoint::<Set>(), Row::endpoint::<Get>(), Row::hears::<Warm>(), Row::publishes::<Level>()];
static NEWER: &[Row<Lamp>] = &[
    Row::endpoint::<newer::Set>(),
    Row::endpoint::<Get>(),
    Row::hears::<newer::Warm>(),
    Row::publishes::<newer::Level>(),
];

fn serve(client: &UnixSocketClient, rows: &'static [Row<Lamp>]) -> Lamp {
    let lamp = Lamp::default();
    client.register_handler(Box::new(Typed::new("lamp", rows, lamp.clone()))).unwrap();
    lamp
}

/// It is refused for its type, naming the address and both hashes.
#[track_caller]
fn assert_differs<T: std::fmt::Debug>(outcome: Result<T, Error>, address: &str, hashes: [u64; 2]) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Serialization(_)), "{error}");
    for part in [format!("'{address}'"), format!("{:#018x}", hashes[0]), format!("{:#018x}", hashes[1])] {
        assert!(error.text().contains(&part), "{error} has no {part}");
    }
}

fn requests(one: SchemaPair, other: SchemaPair) -> [u64; 2] {
    [one.request.hash, other.request.hash]
}

#[test]
fn a_service_tells_of_its_typed_addresses_like_a_board() {
    let house = House::new();
    let mut server = house.server();
    server.register_handler(Box::new(Typed::new("shade", &[] as &[Row<Lamp>], Lamp::default()))).unwrap();
    let (service, client) = (house.client("service"), house.client("cli"));
    serve(&service, ROWS);
    let services = client.send_request(OwnedMessage::request(bus::SERVICES, OwnedPayload::Empty), None);
    let services: Vec<ServiceInfo> = services.unwrap().payload.parse().unwrap();
    let lamp = services.iter().find(|service| service.component == "lamp").unwrap();
    let told: Vec<_> = lamp.addresses.iter().map(|row| (&*row.address, &*row.kind, &*row.access)).collect();
    assert_eq!(
        told,
        [
            ("lamp/set", "endpoint", "scope lamp.control"),
            ("lamp/get", "endpoint", "permission"),
            ("lamp/warm", "hears", "permission"),
            ("lamp/level", "publishes", "permission"),
        ]
    );
    assert_eq!(lamp.addresses[0].request_hash, format!("{:016x}", Set::SCHEMA.request.hash));
    assert_eq!(lamp.addresses[0].response_hash, format!("{:016x}", Set::SCHEMA.response.hash));
    let ask = OwnedMessage::request(bus::SCHEMA, OwnedPayload::String("lamp/set".to_owned()));
    let schema: SchemaInfo = client.send_request(&ask, None).unwrap().payload.parse().unwrap();
    assert_eq!(schema.request, Set::SCHEMA.request.bytes);
    assert_eq!(schema.response, Set::SCHEMA.response.bytes);
    service.unregister_handler("lamp").unwrap();
    assert!(client.send_request(&ask, None).is_err(), "what is gone is not told of");
}

#[test]
fn a_handler_inside_the_hub_tells_of_its_rows_too() {
    let house = House::new();
    let mut server = house.server();
    let lamp = Lamp::default();
    server.register_handler(Box::new(Typed::new("lamp", ROWS, lamp.clone()))).unwrap();
    let client = house.client("cli");
    assert!(client.call::<Set>(&1, None).unwrap());
    assert_differs(
        client.call::<newer::Set>(&1, None),
        "lamp/set",
        requests(Set::SCHEMA, newer::Set::SCHEMA),
    );
    assert_eq!(lamp.reached(), 1);
    let ask = OwnedMessage::request(bus::SCHEMA, OwnedPayload::String("lamp/get".to_owned()));
    let schema: SchemaInfo = client.send_request(&ask, None).unwrap().payload.parse().unwrap();
    assert_eq!(schema.response, Get::SCHEMA.response.bytes);
}

#[test]
fn a_caller_with_other_types_is_refused_by_name_before_the_handler_and_nobody_else_is() {
    let house = House::new();
    let _server = house.server();
    let (service, client, plain) = (house.client("service"), house.client("cli"), house.client("plain"));
    let lamp = serve(&service, ROWS);
    for _ in 0..2 {
        let outcome = client.call::<newer::Set>(&300, None);
        assert_differs(outcome.clone(), "lamp/set", requests(Set::SCHEMA, newer::Set::SCHEMA));
        let responses = [Set::SCHEMA.response.hash, newer::Set::SCHEMA.response.hash];
        assert_differs(outcome, "lamp/set", responses);
    }
    // Also where the typed layer is left out, as long as the program is known for its types.
    let bytes = OwnedPayload::postcard(&3u8).unwrap();
    let by_hand = client.send_request(OwnedMessage::request("lamp/set", bytes.clone()), None);
    assert_differs(by_hand, "lamp/set", requests(Set::SCHEMA, newer::Set::SCHEMA));
    assert_eq!(lamp.reached(), 0, "no handler ran");
    assert_eq!(client.call::<Get>(&(), None).unwrap(), 7);
    let untyped = plain.send_request(OwnedMessage::request("lamp/set", bytes), None).unwrap();
    assert!(untyped.payload.parse::<bool>().unwrap());
    assert_eq!(lamp.reached(), 2);
}

#[test]
fn a_service_that_comes_back_changed_is_refused_by_itself_and_so_it_ends() {
    let house = House::new();
    let _server = house.server();
    let (service, client) = (house.client("service"), house.client("cli"));
    assert!(client.call::<Set>(&1, None).is_err(), "nobody is there yet");
    serve(&service, ROWS);
    assert!(client.call::<Set>(&1, None).unwrap());
    for _ in 0..2 {
        service.unregister_handler("lamp").unwrap();
        let lamp = serve(&service, NEWER);
        let expected = requests(Set::SCHEMA, newer::Set::SCHEMA);
        assert_differs(client.call::<Set>(&1, None), "lamp/set", expected);
        client.publish::<Warm>(&1).ok();
        assert_eq!(client.call::<Get>(&(), None).unwrap(), 7);
        assert_eq!(lamp.reached(), 1);
        service.unregister_handler("lamp").unwrap();
        let lamp = serve(&service, ROWS);
        assert!(client.call::<Set>(&1, None).unwrap());
        client.publish::<Warm>(&1).unwrap();
        client.call::<Get>(&(), None).unwrap();
        assert_eq!(lamp.reached(), 3);
    }
}

#[test]
fn what_was_agreed_is_told_again_after_a_reconnect() {
    let house = House::new();
    let mut server = house.server();
    let (service, client) = (house.client("service"), house.client("cli"));
    let (told, tell) = channel();
    client.on_state_change(move |change| told.send(change).unwrap()).unwrap();
    let lamp = serve(&service, ROWS);
    assert!(client.call::<newer::Set>(&1, None).is_err());
    server.stop().unwrap();
    drop(server);
    let _server = house.server();
    while tell.recv_timeout(SOON).unwrap() != StateChange::Connected {}
    service.connect().unwrap();
    let bytes = OwnedPayload::postcard(&3u8).unwrap();
    // Not even by hand: the hub knows the program's types without being asked for the call.
    let mut outcome = client.send_request(OwnedMessage::request("lamp/set", bytes.clone()), None);
    while matches!(&outcome, Err(Error::Message(_))) {
        outcome = client.send_request(OwnedMessage::request("lamp/set", bytes.clone()), None);
    }
    assert_differs(outcome, "lamp/set", requests(Set::SCHEMA, newer::Set::SCHEMA));
    assert_eq!(lamp.reached(), 0);
}

#[test]
fn a_scope_that_a_row_asks_for_is_asked_by_the_hub_and_never_taken_on_trust() {
    let house = House::new();
    let _server = house.server();
    let service = house.client("service");
    let lamp = serve(&service, ROWS);
    let named = house.client("named");
    named.register_handler(Box::new(Typed::new("named", NAMED, lamp.clone()))).unwrap();
    let scoped = |name: &str, scopes: &[&str]| {
        let client = UnixSocketClient::new(house.path(), name).unwrap();
        client.authenticate(&House::token_with(name, scopes)).unwrap();
        client.connect().unwrap();
        client
    };
    let holder = scoped("holder", &["lamp.control", "request:named/*"]);
    assert!(holder.call::<Set>(&1, None).unwrap());
    let other = scoped("other", &["request:lamp/*"]);
    let error = other.call::<Set>(&1, None).unwrap_err();
    assert!(matches!(error, Error::Authorization(_)), "{error}");
    // One who may not use an address learns nothing of its types either.
    let error = other.call::<newer::Set>(&1, None).unwrap_err();
    assert!(matches!(error, Error::Authorization(_)), "{error}");
    // Before its rows were told, a client's own name was reachable already.
    let error = holder.call::<Named>(&1, None).unwrap_err();
    assert!(matches!(&error, Error::Authorization(text) if text.contains("registered name")), "{error}");
    assert_eq!(lamp.reached(), 1);
}

address!(endpoint Named, "named/set", Access::Scope("lamp.control"), u8 => bool);
static NAMED: &[Row<Lamp>] = &[Row::endpoint::<Named>()];

impl Answers<Named> for Lamp {
    fn answer(&mut self, _: u8) -> Result<bool, IpcError> {
        self.count(true)
    }
}

#[test]
fn a_typed_subscriber_gets_its_own_type_or_an_error_that_says_why() {
    let house = House::new();
    let _server = house.server();
    let (service, client, plain) = (house.client("service"), house.client("cli"), house.client("plain"));
    serve(&service, ROWS);
    let everything = plain.subscribe("lamp/*", SlowConsumer::default()).unwrap();
    let levels = client.subscribe_to::<Level>(SlowConsumer::default()).unwrap();
    service.publish::<Level>(&5).unwrap();
    assert_eq!(levels.recv(Some(SOON)).unwrap(), Some(TypedDelivery::Message(5)));
    let expected = requests(Level::SCHEMA, newer::Level::SCHEMA);
    assert_differs(client.subscribe_to::<newer::Level>(SlowConsumer::default()), "lamp/level", expected);
    // What it expects now is the newer one.
    service.publish::<Level>(&6).unwrap();
    assert_differs(levels.recv(Some(SOON)), "lamp/level", expected);
    let levels = client.subscribe_to::<Level>(SlowConsumer::default()).unwrap();
    for round in 0..2 {
        // The service comes back with the newer one, and publishes twice: the subscriber is told once.
        service.publish::<newer::Level>(&1000).unwrap();
        service.publish::<newer::Level>(&1001).unwrap();
        assert_differs(levels.recv(Some(SOON)), "lamp/level", expected);
        service.publish::<Level>(&round).unwrap();
        assert_eq!(levels.recv(Some(SOON)).unwrap(), Some(TypedDelivery::Message(round)));
    }
    assert_eq!(levels.try_recv().unwrap(), None);
    for _ in 0..8 {
        assert!(everything.recv(Some(SOON)).unwrap().is_some(), "who has said nothing gets everything");
    }
}

#[test]
fn a_notification_of_another_type_does_not_reach_who_takes_it() {
    let house = House::new();
    let _server = house.server();
    let (service, client) = (house.client("service"), house.client("cli"));
    let expected = requests(Warm::SCHEMA, newer::Warm::SCHEMA);
    let early = serve(&service, NEWER);
    client.publish::<newer::Warm>(&1).unwrap();
    client.call::<Get>(&(), None).unwrap();
    assert_eq!(early.reached(), 2);
    service.unregister_handler("lamp").unwrap();
    let lamp = serve(&service, ROWS);
    // Nobody waits for an answer: the first goes unheard, and then the publisher knows.
    let mut outcome = client.publish::<newer::Warm>(&2);
    while outcome.is_ok() {
        client.call::<Get>(&(), None).unwrap();
        outcome = client.publish::<newer::Warm>(&3);
    }
    assert_differs(outcome, "lamp/warm", expected);
    let calls = lamp.reached();
    client.publish::<Warm>(&4).unwrap();
    client.call::<Get>(&(), None).unwrap();
    assert_eq!(lamp.reached(), calls + 2);
}

/// Holds each request until its caller is gone.
struct Patient {
    started: Sender<()>,
    cancelled: Sender<bool>,
    go_on: Arc<AtomicBool>,
}

impl MessageHandler for Patient {
    fn id(&self) -> &str {
        "patient"
    }

    fn may_block(&self) -> bool {
        true
    }

    fn handle_message(&mut self, _: &Message<'_>, _: &mut Reply<'_>) -> Result<(), IpcError> {
        unreachable!("it is asked to handle until it is cancelled")
    }

    fn handle_until(
        &mut self,
        _: &Message<'_>,
        _: &mut Reply<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), IpcError> {
        self.started.send(()).unwrap();
        let end = std::time::Instant::now() + SOON;
        while !cancelled() && !self.go_on.load(Ordering::Relaxed) && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        self.cancelled.send(cancelled()).unwrap();
        Ok(())
    }
}

fn patient() -> (Patient, Receiver<()>, Receiver<bool>, Arc<AtomicBool>) {
    let ((started, start), (cancelled, cancels)) = (channel(), channel());
    let go_on = Arc::new(AtomicBool::new(false));
    (Patient { started, cancelled, go_on: Arc::clone(&go_on) }, start, cancels, go_on)
}

/// One call is running and one waits behind it: both callers go, then a third is served.
fn assert_cancels(house: &House, (start, cancels, go_on): (Receiver<()>, Receiver<bool>, Arc<AtomicBool>)) {
    let request = OwnedMessage::request("patient/wait", OwnedPayload::Empty);
    let gone = visorbus_unix::UnixSocketConnection::connect(house.path(), "gone");
    let mut gone = gone.unwrap();
    gone.set_auth_token(House::token_text("gone", &["*"]));
    gone.wait_authenticated(SOON).unwrap();
    gone.send_message(request.clone()).unwrap();
    start.recv_timeout(SOON).unwrap();
    gone.send_message(request.clone()).unwrap();
    gone.send_message(OwnedMessage::request("bus/services", OwnedPayload::Empty)).unwrap();
    gone.wait_message(SOON).unwrap();
    drop(gone);
    assert!(cancels.recv_timeout(SOON).unwrap(), "the handler sees that nobody waits");
    let client = house.client("cli");
    go_on.store(true, Ordering::SeqCst);
    client.send_request(&request, Some(SOON)).unwrap();
    assert!(!cancels.recv_timeout(SOON).unwrap());
    start.recv_timeout(SOON).unwrap();
    assert!(start.try_recv().is_err(), "what waited behind it never ran");
    go_on.store(false, Ordering::SeqCst);
    // What is given up before it has begun does not begin.
    let mut begins = (0..10).map(|chance| {
        let error = client.send_request(&request, Some(Duration::from_millis(40 << chance))).unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        start.try_recv().is_ok()
    });
    assert!(begins.any(|has_begun| has_begun), "it never runs in time");
    assert!(cancels.recv_timeout(SOON).unwrap(), "who gives up is gone as well");
}

#[test]
fn a_handler_of_a_client_hears_that_its_caller_is_gone_and_what_waits_is_not_run() {
    let house = House::new();
    let _server = house.server();
    let service = house.client("service");
    let (handler, start, cancels, go_on) = patient();
    service.register_handler(Box::new(handler)).unwrap();
    assert_cancels(&house, (start, cancels, go_on));
}

#[test]
fn a_handler_on_the_hubs_pool_hears_that_its_caller_is_gone_and_what_waits_is_not_run() {
    let house = House::new();
    let keys = House::keys();
    let limits = visorbus_hub::Limits { pool_threads: 1, ..visorbus_hub::Limits::default() };
    let config = visorbus_hub::HubConfig { limits, ..visorbus_hub::HubConfig::new(keys, 1) };
    let mut server = visorbus_unix::UnixSocketServer::new(house.path(), config).unwrap();
    let (handler, start, cancels, go_on) = patient();
    server.register_handler(Box::new(handler)).unwrap();
    server.start().unwrap();
    assert_cancels(&house, (start, cancels, go_on));
}
