//! `bus/interfaces`: to each what that one may use, with its types, and to a stranger nothing; and the generation of types,
//! which moves when there is something new to be told, and not else.

use postcard_schema::Schema;
use visorbus_core::auth::Access;
use visorbus_core::bus::{self, Announce, RowInfo, RowKind};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::typed::TypeSchema;
use visorbus_core::message::{Address, MessagePayload};
use visorbus_hub::info::{InterfaceInfo, SchemaInfo};
use visorbus_hub::schema::{Schemas, Shape};
use visorbus_hub::{Error, HubConfig, Limits, LinkOptions, Origin, OwnedPayload};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::desk::Disguised;
use crate::harness::{Client, TestHub, root_keys};

#[test]
fn each_sees_what_it_may_use_and_no_more() {
    let hub = TestHub::start();
    let _imu = imu(&hub);
    // Whoever may do nothing is told of nothing but what is open to all.
    let mut nobody = hub.connect("nobody", &[]);
    assert_eq!(seen(&mut nobody), [("imu", vec!["imu/hello"])]);
    let mut caller = hub.connect("caller", &["request:imu/set-rate"]);
    assert_eq!(seen(&mut caller), [("imu", vec!["imu/set-rate", "imu/hello"])]);
    let mut watcher = hub.connect("watcher", &["subscribe:imu/*"]);
    let all = vec!["imu/set-rate", "imu/reset", "imu/sample", "imu/hint", "imu/hello"];
    // Whoever may hear an address may know its types, as bus/schema has it.
    assert_eq!(seen(&mut watcher), [("imu", all.clone())]);
    let mut holder = hub.connect("holder", &["imu.reset"]);
    assert_eq!(seen(&mut holder), [("imu", vec!["imu/reset", "imu/hello"])]);
    let mut other = hub.connect("other", &["request:cam/**", "notify:imux/**", "register:imu"]);
    assert_eq!(seen(&mut other), [("imu", vec!["imu/hello"])]);
}

#[test]
fn what_is_shown_and_what_bus_schema_tells_is_the_same() {
    let hub = TestHub::start();
    let _imu = imu(&hub);
    let scopes: [&[&str]; 6] = [
        &[],
        &["request:imu/set-rate"],
        &["notify:imu/hint"],
        &["subscribe:imu/sample"],
        &["imu.reset"],
        &["request:imu/**", "request:bus/services"],
    ];
    for (number, scopes) in scopes.into_iter().enumerate() {
        let mut peer = hub.connect(&format!("p{number}"), scopes);
        let told: Vec<_> =
            ask(&mut peer, None).unwrap().into_iter().flat_map(|info| info.addresses).collect();
        for address in ["imu/set-rate", "imu/reset", "imu/sample", "imu/hint", "imu/hello"] {
            let shown = told.iter().find(|told| told.address == address);
            let schema = peer.ask_text(bus::SCHEMA, address);
            assert_eq!(schema.is_ok(), shown.is_some_and(|shown| shown.usable), "{address} {scopes:?}");
            if let (Ok(schema), Some(shown)) = (schema, shown) {
                let schema: SchemaInfo = schema.payload.parse().unwrap();
                assert_eq!((&schema.request, &schema.response), (&shown.request, &shown.response));
                Schemas::new(&schema).unwrap();
                let hash = |bytes: &[u8]| format!("{:016x}", Shape::read(bytes).unwrap().hash());
                assert_eq!(hash(&shown.request), shown.request_hash);
            }
        }
    }
}

#[test]
fn a_stranger_is_told_nothing() {
    let hub = TestHub::start();
    let _imu = imu(&hub);
    let mut stranger = hub.greeted("stranger");
    for payload in [MessagePayload::Empty, MessagePayload::String("imu"), MessagePayload::Json("null")] {
        let outcome = stranger.request(bus::INTERFACES, payload);
        expect_error(outcome, ErrorKind::Authentication, "authenticate first");
    }
    let mut silent = hub.attach();
    assert!(silent.request(bus::INTERFACES, MessagePayload::Empty).is_err());
}

#[test]
fn what_one_may_not_use_and_what_is_not_there_read_the_same() {
    let hub = TestHub::start();
    let mut imu = imu(&hub);
    imu.register("secret").unwrap();
    tell::<u8, u8>(&mut imu, RowKind::Endpoint, "secret/x", Access::Permission);
    let mut nobody = hub.connect("nobody", &["request:echo/*"]);
    for name in ["secret", "absent", "nobody", "bus", "echo", "", "a/b", "Not one", "vb1.secret"] {
        let text = |outcome: Result<Vec<InterfaceInfo>, Error>| outcome.unwrap_err().text().clone();
        let told = text(ask(&mut nobody, Some(name)));
        let said = if name.starts_with("vb1.") { "(a secret)" } else { name };
        assert_eq!(told, format!("there is no component '{said}' that you may use"));
    }
    let one = ask(&mut nobody, Some("imu")).unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one, ask(&mut nobody, None).unwrap());
    for garbage in
        [MessagePayload::Json("{}"), MessagePayload::Json("[\"imu\"]"), MessagePayload::Binary(&[9])]
    {
        assert!(nobody.request(bus::INTERFACES, garbage).is_err());
    }
}

#[test]
fn whoever_may_list_services_sees_the_others_too_without_their_types() {
    let hub = TestHub::start();
    let _imu = imu(&hub);
    let mut clerk = hub.connect("clerk", &["request:bus/services"]);
    let infos = ask(&mut clerk, None).unwrap();
    // The handler offers something, however little it tells; those who only call do not.
    let names: Vec<(&str, &str)> =
        infos.iter().map(|info| (info.component.as_str(), info.peer.as_str())).collect();
    assert_eq!(names, [("echo", ""), ("imu", "imu")]);
    for address in &infos[1].addresses {
        let is_open = address.address == "imu/hello";
        assert_eq!((address.usable, !address.request.is_empty()), (is_open, is_open), "{address:?}");
        assert!(is_open || address.response.is_empty());
        assert_ne!(address.request_hash, "0000000000000000");
    }
    assert_eq!(infos[1].addresses.len(), 5);
    assert_eq!(ask(&mut clerk, Some("echo")).unwrap().len(), 1);
    expect_error(ask(&mut clerk, Some("clerk")), ErrorKind::Message, "there is no component 'clerk'");
}

#[test]
fn json_has_the_types_as_texts_beside_the_same_facts() {
    let hub = TestHub::start();
    let _imu = imu(&hub);
    let mut caller = hub.connect("caller", &["request:imu/set-rate"]);
    let told = ask(&mut caller, None).unwrap();
    for payload in [MessagePayload::Json("null"), MessagePayload::Json(" \"imu\" ")] {
        let json = caller.request(bus::INTERFACES, payload).unwrap();
        let OwnedPayload::Json(text) = &json.payload else { panic!("{json:?}") };
        assert_eq!(json.payload.parse::<Vec<InterfaceInfo>>().unwrap(), told);
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let rate = &value[0]["addresses"][0];
        assert_eq!((&rate["request_type"], &rate["response_type"]), (&"u16".into(), &"bool".into()));
    }
    // Who has no postcard gets it unasked.
    let mut panel = RawPeer::attach_by(&hub.handle, |inner| {
        let options = LinkOptions { json: true, ..LinkOptions::default() };
        Box::new(Disguised { inner, origin: Origin::Unknown, options, key: std::sync::Arc::default() })
    });
    panel.hello("panel").unwrap();
    panel.authenticate(&hub.token("panel", &["request:imu/set-rate"])).unwrap();
    for payload in [MessagePayload::Empty, MessagePayload::String("imu"), MessagePayload::Json("null")] {
        let answer = panel.request(bus::INTERFACES, payload).unwrap();
        assert!(matches!(answer.payload, OwnedPayload::Json(_)), "{answer:?}");
        assert_eq!(answer.payload.parse::<Vec<InterfaceInfo>>().unwrap(), told);
    }
}

#[test]
fn an_answer_with_all_components_stays_within_bounds_and_one_by_one_all_is_told() {
    let hub = TestHub::start();
    let mut wide = hub.connect("wide", &["*"]);
    let long = long_schema();
    for number in 0..12 {
        tell_bytes(&mut wide, &format!("wide/e{number}"), &long);
    }
    let mut asker = hub.connect("asker", &["request:wide/*"]);
    let addresses = |infos: &[InterfaceInfo]| infos[0].addresses.clone();
    let all = addresses(&ask(&mut asker, None).unwrap());
    assert_eq!(all.len(), 12);
    let bytes: usize = all.iter().map(|told| told.request.len() + told.response.len()).sum();
    assert!((200_000..=256 << 10).contains(&bytes), "{bytes}");
    let one = addresses(&ask(&mut asker, Some("wide")).unwrap());
    assert!(one.iter().all(|told| told.request == long));
}

#[test]
fn whoever_asks_over_and_over_is_slowed_down_alone() {
    let hub = TestHub::with_config(HubConfig {
        limits: Limits { translated_bytes: 20_000, ..Limits::default() },
        ..HubConfig::new(root_keys(), 1)
    });
    let mut innocent = hub.bystander();
    let _imu = imu(&hub);
    let (mut greedy, mut other) = (hub.connect("greedy", &["*"]), hub.connect("other", &["*"]));
    let refused = (0..200).map(|_| ask(&mut greedy, None)).find_map(Result::err).unwrap();
    expect_error::<()>(Err(refused), ErrorKind::Message, "of types in a second, the limit");
    ask(&mut other, None).unwrap();
    innocent.is_served_alone(&hub);
}

#[test]
fn the_generation_of_types_moves_exactly_when_there_is_something_new_to_tell() {
    let hub = TestHub::start();
    let mut last = hub.handle.types_generation();
    let mut moved = || {
        let now = hub.handle.types_generation();
        let moved = now > last;
        last = now;
        moved
    };
    assert!(!moved());
    let mut imu = hub.connect("imu", &["*"]);
    imu.read_so_far();
    assert!(!moved(), "it offers nothing");
    tell::<u16, bool>(&mut imu, RowKind::Endpoint, "imu/set-rate", Access::Permission);
    assert!(moved(), "a new address");
    tell::<u16, bool>(&mut imu, RowKind::Endpoint, "imu/set-rate", Access::Permission);
    assert!(!moved(), "nothing new");
    tell::<u16, bool>(&mut imu, RowKind::Endpoint, "imu/set-rate", Access::Open);
    assert!(moved(), "another access");
    tell::<u32, bool>(&mut imu, RowKind::Endpoint, "imu/set-rate", Access::Open);
    assert!(moved(), "another type");
    tell::<u32, bool>(&mut imu, RowKind::Calls, "echo/ping", Access::Permission);
    assert!(!moved(), "that is somebody else's");
    imu.request("echo/ping", MessagePayload::Empty).unwrap();
    ask(&mut imu, None).unwrap();
    assert!(!moved(), "whoever merely calls or asks");
    tell::<u8, u8>(&mut imu, RowKind::Endpoint, "lamp/x", Access::Open);
    assert!(!moved(), "nobody serves that yet");
    imu.register("lamp").unwrap();
    assert!(moved());
    assert!(imu.register("lamp").is_err());
    assert!(imu.register("echo").is_err());
    assert!(!moved(), "what was refused");
    imu.unregister("lamp").unwrap();
    assert!(moved());
    hub.handle.register_handler(Box::new(Offering)).unwrap();
    assert!(moved());
    assert!(hub.handle.register_handler(Box::new(Offering)).is_err());
    assert!(!moved());
    hub.handle.unregister_handler("own").unwrap();
    assert!(moved());
    assert!(hub.handle.unregister_handler("own").is_err());
    drop(hub.connect("passer-by", &["*"]));
    hub.wait_until(|peers| peers.len() == 1);
    assert!(!moved(), "one that offers nothing came and went");
    drop(imu);
    hub.wait_until(|peers| peers.is_empty());
    assert!(moved());
}

#[test]
fn whatever_is_asked_after_the_generation_is_at_least_as_new() {
    let hub = TestHub::start();
    let mut asker = hub.connect("asker", &["*"]);
    let mut server = hub.connect("server", &["*"]);
    for number in 0..50 {
        let before = hub.handle.types_generation();
        let address = format!("server/e{number}");
        tell::<u8, u8>(&mut server, RowKind::Endpoint, &address, Access::Permission);
        assert!(hub.handle.types_generation() > before, "whoever was answered knows that it has moved");
        let told = ask(&mut asker, Some("server")).unwrap();
        assert_eq!(told[0].addresses.last().unwrap().address, address);
    }
}

/// A handler with one address of its own.
struct Offering;

impl visorbus_core::dispatch::MessageHandler for Offering {
    fn id(&self) -> &str {
        "own"
    }

    fn row(&self, number: usize) -> Option<visorbus_core::dispatch::RowHead<'_>> {
        let schema = visorbus_core::message::typed::SchemaPair {
            request: TypeSchema::of::<u8>(),
            response: TypeSchema::of::<u8>(),
        };
        let address = const { Address::literal("own/x") };
        let head =
            visorbus_core::dispatch::RowHead::new(RowKind::Endpoint, address, Access::Permission, schema);
        (number == 0).then_some(head)
    }

    fn handle_message(
        &mut self,
        _message: &visorbus_core::Message<'_>,
        _reply: &mut visorbus_core::dispatch::Reply<'_>,
    ) -> Result<(), visorbus_core::IpcError> {
        Ok(())
    }
}

/// Components and the addresses that are usable.
fn seen(peer: &mut RawPeer) -> Vec<(&'static str, Vec<&'static str>)> {
    let infos = ask(peer, None).unwrap();
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    infos
        .into_iter()
        .map(|info| {
            assert!(info.addresses.iter().all(|told| told.usable && !told.request.is_empty()));
            (leak(info.component), info.addresses.into_iter().map(|told| leak(told.address)).collect())
        })
        .collect()
}

fn ask(peer: &mut RawPeer, component: Option<&str>) -> Result<Vec<InterfaceInfo>, Error> {
    let payload = component.map_or(MessagePayload::Empty, MessagePayload::String);
    peer.request(bus::INTERFACES, payload)?.payload.parse()
}

/// Somebody with an endpoint, one behind a scope, a topic, an address that hears, and an open one.
fn imu(hub: &TestHub) -> RawPeer {
    let mut imu = hub.connect("imu", &["*"]);
    tell::<u16, bool>(&mut imu, RowKind::Endpoint, "imu/set-rate", Access::Permission);
    tell::<(), ()>(&mut imu, RowKind::Endpoint, "imu/reset", Access::Scope("imu.reset"));
    tell::<[f32; 3], ()>(&mut imu, RowKind::Publishes, "imu/sample", Access::Permission);
    tell::<String, ()>(&mut imu, RowKind::Hears, "imu/hint", Access::Permission);
    tell::<u8, String>(&mut imu, RowKind::Endpoint, "imu/hello", Access::Open);
    // What it only uses is nothing that it offers.
    tell::<u8, u8>(&mut imu, RowKind::Sends, "echo/x", Access::Permission);
    imu
}

fn tell<Q: Schema, A: Schema>(peer: &mut RawPeer, kind: RowKind, address: &str, access: Access<'_>) {
    let (request, response) = (TypeSchema::of::<Q>(), TypeSchema::of::<A>());
    let row = RowInfo { kind, address, access, request_hash: request.hash, response_hash: response.hash };
    let told = Announce { row, request_schema: request.bytes, response_schema: response.bytes };
    peer.request(bus::ANNOUNCE, OwnedPayload::postcard(&told).unwrap().borrow()).unwrap();
}

fn tell_bytes(peer: &mut RawPeer, address: &str, schema: &[u8]) {
    let hash = Shape::read(schema).unwrap().hash();
    let access = Access::Permission;
    let row = RowInfo { kind: RowKind::Endpoint, address, access, request_hash: hash, response_hash: hash };
    let told = Announce { row, request_schema: schema, response_schema: &[] };
    peer.request(bus::ANNOUNCE, OwnedPayload::postcard(&told).unwrap().borrow()).unwrap();
}

/// A type whose description has 40 kB: its name has.
fn long_schema() -> Vec<u8> {
    use postcard_schema::schema::owned::{OwnedDataModelType, OwnedNamedType};
    let name = "x".repeat(40_000);
    postcard::to_stdvec(&OwnedNamedType { name, ty: OwnedDataModelType::U8 }).unwrap()
}
