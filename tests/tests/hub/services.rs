//! Components that come and go: registering, listing, watching.

use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_hub::Limits;
use visorbus_hub::info::{PeerInfo, SchemaInfo, ServiceChange, ServiceInfo};
use visorbus_tests::echo::Echo;
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::harness::{Client, TestHub, text};

#[test]
fn a_component_is_served_from_register_to_unregister() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &["register:lamp", "register:fan"]);
    let mut caller = hub.connect("caller", &["*"]);
    server.register("lamp").unwrap();
    let id = caller.send_request("lamp/set", MessagePayload::Empty);
    let call = server.read_call();
    server.answer(&call, "done");
    let answer = caller.answer_to(id).unwrap();
    assert_eq!((answer.source.as_str(), text(&answer)), ("server", "done"));
    server.unregister("lamp").unwrap();
    expect_error(
        caller.request("lamp/set", MessagePayload::Empty),
        ErrorKind::Message,
        "nobody serves 'lamp'",
    );
    expect_error(server.unregister("lamp"), ErrorKind::Message, "does not serve 'lamp'");
    expect_error(server.unregister("server"), ErrorKind::Message, "does not serve 'server'");
}

#[test]
fn a_registered_component_may_be_the_source_of_what_its_server_says() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &["register:lamp"]);
    let mut watcher = hub.connect("watcher", &["*"]);
    watcher.subscribe("lamp/*", SlowConsumer::default()).unwrap();
    server.register("lamp").unwrap();
    server.notify("lamp/is", MessagePayload::String("on"));
    assert_eq!(text(&watcher.read_topic("lamp/is")), "on");
}

#[test]
fn a_name_is_registered_with_permission_and_once() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut server = hub.connect("server", &["register:*"]);
    let mut poor = hub.connect("poor", &["request:**", "register:lamps", "register:lamp/x"]);
    expect_error(
        poor.register("lamp"),
        ErrorKind::Authorization,
        "no permission of the token allows 'register'",
    );
    for name in ["bus", "", "a/b", "Lamp", "*"] {
        expect_error(server.register(name), ErrorKind::Message, "cannot be a component's name");
    }
    for name in ["echo", "bystander", "server"] {
        expect_error(server.register(name), ErrorKind::Connection, "is taken");
    }
    server.register("lamp").unwrap();
    expect_error(server.register("lamp"), ErrorKind::Connection, "is taken");
    let mut second = hub.connect("second", &["*"]);
    expect_error(second.register("lamp"), ErrorKind::Connection, "is taken");
    expect_error(second.unregister("lamp"), ErrorKind::Message, "does not serve");
    let mut namesake = hub.greeted("lamp");
    let outcome = namesake.authenticate(&hub.token("lamp", &["*"]));
    expect_error(outcome, ErrorKind::Connection, "'lamp' is taken");
    innocent.is_served_alone(&hub);
}

#[test]
fn more_components_than_the_limit_are_refused() {
    let hub = TestHub::with_limits(Limits { components: 2, ..Limits::default() });
    let mut server = hub.connect("server", &["*"]);
    server.register("a").unwrap();
    server.register("b").unwrap();
    expect_error(server.register("c"), ErrorKind::Message, "serves 2 components, the limit");
    server.unregister("a").unwrap();
    server.register("c").unwrap();
}

#[test]
fn a_handler_cannot_take_a_peers_name_nor_a_peer_a_handlers() {
    let hub = TestHub::start();
    let _peer = hub.connect("lamp", &[]);
    for id in ["lamp", "bus", "echo", "Not/a/name"] {
        let refused = hub.handle.register_handler(Box::new(Echo::new(id)));
        assert!(refused.is_err(), "{id}");
    }
    expect_error(hub.handle.unregister_handler("lamp"), ErrorKind::Message, "no handler is called 'lamp'");
}

#[test]
fn whoever_watches_sees_components_come_and_go() {
    let hub = TestHub::start();
    let mut watcher = hub.connect("watcher", &["*"]);
    watcher.subscribe(bus::SERVICES_CHANGED, SlowConsumer::Disconnect).unwrap();
    let mut server = hub.connect("server", &["register:*"]);
    assert_eq!(change(&mut watcher), ("server".into(), "server".into(), true));
    server.register("lamp").unwrap();
    assert_eq!(change(&mut watcher), ("lamp".into(), "server".into(), true));
    server.register("fan").unwrap();
    assert_eq!(change(&mut watcher), ("fan".into(), "server".into(), true));
    server.unregister("fan").unwrap();
    assert_eq!(change(&mut watcher), ("fan".into(), "server".into(), false));
    hub.handle.register_handler(Box::new(Echo::new("own"))).unwrap();
    assert_eq!(change(&mut watcher), ("own".into(), String::new(), true));
    hub.handle.unregister_handler("own").unwrap();
    assert_eq!(change(&mut watcher), ("own".into(), String::new(), false));
    drop(server);
    assert_eq!(change(&mut watcher), ("lamp".into(), "server".into(), false));
    assert_eq!(change(&mut watcher), ("server".into(), "server".into(), false));
    assert!(watcher.read_so_far().is_empty());
}

#[test]
fn services_peers_and_schemas_are_listed_in_postcard_and_in_json_for_those_who_may() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &["*"]);
    server.register("lamp").unwrap();
    let services = server.request(bus::SERVICES, MessagePayload::Empty).unwrap();
    let services: Vec<ServiceInfo> = services.payload.parse().unwrap();
    let names: Vec<(&str, &str)> =
        services.iter().map(|service| (service.component.as_str(), service.peer.as_str())).collect();
    assert_eq!(names, [("echo", ""), ("lamp", "server"), ("server", "server")]);
    let json = server.request(bus::SERVICES, MessagePayload::Json("null")).unwrap();
    assert_eq!(json.payload.parse::<Vec<ServiceInfo>>().unwrap(), services);
    let peers = server.request(bus::PEERS, MessagePayload::Json("null")).unwrap();
    let peers: Vec<PeerInfo> = peers.payload.parse().unwrap();
    assert_eq!((peers.len(), peers[0].name.as_str(), peers[0].authenticated), (1, "server", true));
    for address in [bus::SUBSCRIBE, bus::PEERS, bus::SERVICES_CHANGED, bus::SCHEMA] {
        let schema = server.ask_text(bus::SCHEMA, address).unwrap();
        let schema: SchemaInfo = schema.payload.parse().unwrap();
        visorbus_hub::schema::Schemas::new(&schema).unwrap();
    }
    expect_error(server.ask_text(bus::SCHEMA, "lamp/x"), ErrorKind::Message, "nobody has told the types");
    expect_error(server.ask_text(bus::SCHEMA, "Not one"), ErrorKind::Message, "is not an address");
    let mut poor = hub.connect("poor", &["register:poor"]);
    for address in [bus::SERVICES, bus::PEERS, bus::SCHEMA] {
        expect_error(poor.ask_text(address, "echo/ping"), ErrorKind::Authorization, "no permission");
    }
}

fn change(watcher: &mut RawPeer) -> (String, String, bool) {
    let change: ServiceChange = watcher.read_topic(bus::SERVICES_CHANGED).payload.parse().unwrap();
    (change.component, change.peer, change.up)
}
