//! Peers that have JSON and no postcard at typed addresses: what reaches whom in which form, and what reaches nobody.

use std::sync::{Arc, Mutex};

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use visorbus_core::IpcError;
use visorbus_core::auth::Access;
use visorbus_core::bus::{self, Announce, Missed, RowInfo, RowKind, SlowConsumer};
use visorbus_core::dispatch::{MessageHandler, Reply, RowHead};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::typed::{SchemaPair, TypeSchema};
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::{Error, Limits, LinkOptions, Origin, OwnedMessage, OwnedPayload, compress};
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::desk::Disguised;
use crate::harness::{Client, TestHub, wire};

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Rate {
    sensor: Sensor,
    hz: u16,
    burst: Option<u8>,
}

#[derive(Schema, Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Sensor {
    Gyro,
    Other(String),
}

fn rate() -> Rate {
    Rate { sensor: Sensor::Other("nose".to_owned()), hz: 200, burst: None }
}

const RATE: &str = r#"{"sensor":{"Other":"nose"},"hz":200,"burst":null}"#;

/// A peer that has JSON and no postcard; what a transport says for it is postcard all the same.
pub(crate) fn json_peer(hub: &TestHub, name: &str, scopes: &[&str]) -> RawPeer {
    let mut peer = RawPeer::attach_by(&hub.handle, |inner| {
        let address = "127.0.0.1:4242".parse().unwrap();
        let origin = Origin::WebSocket { address, tls: false };
        let options = LinkOptions { json: true, ..LinkOptions::default() };
        Box::new(Disguised { inner, origin, options, key: Arc::new(Mutex::new(None)) })
    });
    peer.hello(name).unwrap();
    peer.authenticate(&hub.token(name, scopes)).unwrap();
    peer
}

fn tell<Q: Schema, A: Schema>(peer: &mut RawPeer, kind: RowKind, address: &str) {
    let (request, response) = (TypeSchema::of::<Q>(), TypeSchema::of::<A>());
    let access = Access::Permission;
    let row = RowInfo { kind, address, access, request_hash: request.hash, response_hash: response.hash };
    let told = Announce { row, request_schema: request.bytes, response_schema: response.bytes };
    peer.request(bus::ANNOUNCE, OwnedPayload::postcard(&told).unwrap().borrow()).unwrap();
}

/// A program that was built in Rust: it has an endpoint, a topic that it publishes and one that it hears.
fn board(hub: &TestHub) -> RawPeer {
    let mut board = hub.connect("imu", &["*"]);
    tell::<Rate, u32>(&mut board, RowKind::Endpoint, "imu/set-rate");
    tell::<(), Rate>(&mut board, RowKind::Endpoint, "imu/rate");
    tell::<Rate, ()>(&mut board, RowKind::Publishes, "imu/sample");
    tell::<Rate, ()>(&mut board, RowKind::Hears, "imu/hint");
    board
}

fn tell_json<Q: Schema, A: Schema>(peer: &mut RawPeer, kind: &str, address: &str) {
    let (request, response) = (TypeSchema::of::<Q>(), TypeSchema::of::<A>());
    let row = json!({ "kind": kind, "address": address });
    let told = json!({ "row": row, "request_schema": request.bytes, "response_schema": response.bytes });
    ask_json(peer, bus::ANNOUNCE, &told.to_string()).unwrap();
}

fn ask_json(peer: &mut RawPeer, address: &str, json: &str) -> Result<OwnedMessage, Error> {
    peer.request(address, MessagePayload::Json(json))
}

fn answer(peer: &mut RawPeer, call: &OwnedMessage, payload: &OwnedPayload) {
    let head = call.borrow().unwrap().answer(MessageType::Response);
    peer.send(&head.with_payload(payload.borrow()));
}

fn postcard<T: Serialize>(value: &T) -> OwnedPayload {
    OwnedPayload::postcard(value).unwrap()
}

fn in_json(json: &str) -> OwnedPayload {
    OwnedPayload::Json(json.to_owned())
}

#[test]
fn a_json_caller_and_a_typed_endpoint_understand_each_other() {
    let hub = TestHub::start();
    let (mut board, mut panel) = (board(&hub), json_peer(&hub, "panel", &["*"]));
    let id =
        panel.send_request("imu/set-rate", MessagePayload::Json(r#"{"hz":200,"sensor":{"Other":"nose"}}"#));
    let call = board.read_call();
    assert_eq!(call.payload, postcard(&rate()));
    answer(&mut board, &call, &postcard(&70_000u32));
    assert_eq!(panel.answer_to(id).unwrap().payload, in_json("70000"));
    for nothing in [MessagePayload::Empty, MessagePayload::Json("null")] {
        let id = panel.send_request("imu/rate", nothing);
        let call = board.read_call();
        assert_eq!(call.payload.parse(), Ok(()));
        answer(&mut board, &call, &postcard(&rate()));
        assert_eq!(panel.answer_to(id).unwrap().payload, in_json(RATE));
    }
}

#[test]
fn what_is_not_of_the_type_reaches_no_endpoint_and_the_error_shows_the_type() {
    let hub = TestHub::start();
    let (mut board, mut panel) = (board(&hub), json_peer(&hub, "panel", &["*"]));
    let mut bystander = hub.bystander();
    let cases = [
        (r#"{"hz":70000,"sensor":"Gyro"}"#, "70000 is beyond u16"),
        (r#"{"sensor":"Gyro"}"#, "'hz' is missing"),
        (r#"{"hz":1,"sensor":"Gyro","more":1}"#, "does not have"),
        (r#"{"hz":1,"hz":1,"sensor":"Gyro"}"#, "'hz' comes twice"),
        (r#"{"hz":1,"sensor":"Nose"}"#, "another variant"),
        ("{", "EOF"),
        ("null", "null where an object"),
    ];
    for (json, why) in cases {
        let refused = ask_json(&mut panel, "imu/set-rate", json);
        let shown = "'imu/set-rate' takes struct Rate { sensor: Sensor, hz: u16, burst: Option<u8> }";
        expect_error(refused.clone(), ErrorKind::Serialization, shown);
        expect_error(refused, ErrorKind::Serialization, why);
    }
    expect_error(panel.request("imu/set-rate", MessagePayload::Empty), ErrorKind::Serialization, "takes");
    assert!(board.read_so_far().is_empty());
    bystander.is_served_alone(&hub);
}

#[test]
fn types_are_shown_to_nobody_who_may_not_call() {
    let hub = TestHub::start();
    let (mut board, mut stranger) = (board(&hub), json_peer(&hub, "stranger", &[]));
    let refused = ask_json(&mut stranger, "imu/set-rate", "7");
    expect_error(refused, ErrorKind::Authorization, "no permission");
    assert!(board.read_so_far().is_empty());
}

#[test]
fn an_answer_that_is_not_of_the_type_told_is_an_error() {
    let hub = TestHub::start();
    let (mut board, mut panel) = (board(&hub), json_peer(&hub, "panel", &["*"]));
    let id = panel.send_request("imu/rate", MessagePayload::Empty);
    let call = board.read_call();
    answer(&mut board, &call, &OwnedPayload::Binary(vec![9]));
    expect_error(panel.answer_to(id), ErrorKind::Serialization, "'imu/rate' answers with struct Rate");
    assert_eq!(board.read_so_far()[0].destination, bus::MISMATCH);
    let id = panel.send_request("imu/rate", MessagePayload::Empty);
    let call = board.read_call();
    let error = IpcError::Internal("it is asleep");
    let mut out = [0; 128];
    let len = visorbus_core::codec::encode_error(&call.borrow().unwrap(), &error, &mut out).unwrap();
    board.write_frame(&out[..len]);
    expect_error(panel.answer_to(id), ErrorKind::Internal, "it is asleep");
}

#[test]
fn a_typed_topic_reaches_all_in_their_form() {
    let hub = TestHub::start();
    let mut board = board(&hub);
    let mut panels = ["left", "right"].map(|name| json_peer(&hub, name, &["*"]));
    let mut typed = hub.connect("typed", &["*"]);
    typed.subscribe("imu/*", SlowConsumer::default()).unwrap();
    for panel in &mut panels {
        ask_json(panel, bus::SUBSCRIBE, r#"{"pattern":"imu/*"}"#).unwrap();
    }
    let sample = postcard(&rate());
    let long = Rate { sensor: Sensor::Other("n".repeat(500)), ..rate() };
    board.notify("imu/sample", sample.borrow());
    let block = compress::compress(postcard(&long).borrow()).unwrap();
    let mut short = Message::notification(77, Address::new("imu/sample").unwrap())
        .with_payload(MessagePayload::Binary(&block));
    short.flags.compressed = true;
    board.send(&short);
    board.notify("imu/other", MessagePayload::Binary(&[1, 2]));
    for expected in [&sample, &postcard(&long), &OwnedPayload::Binary(vec![1, 2])] {
        assert_eq!(&typed.read_where(|message| message.destination.starts_with("imu/")).payload, expected);
    }
    for panel in &mut panels {
        assert_eq!(panel.read_topic("imu/sample").payload, in_json(RATE));
        let OwnedPayload::Json(json) = panel.read_topic("imu/sample").payload else { panic!("no JSON") };
        assert_eq!(serde_json::from_str::<Rate>(&json).unwrap(), long);
        let untyped = panel.read_topic("imu/other").payload;
        assert_eq!(untyped, OwnedPayload::Binary(vec![1, 2]), "what has no type passes as it is");
    }
}

#[test]
fn what_a_board_publishes_that_is_not_its_type_is_missed_by_those_with_json_alone() {
    let hub = TestHub::start();
    let (mut board, mut panel) = (board(&hub), json_peer(&hub, "panel", &["*"]));
    let mut typed = hub.connect("typed", &["*"]);
    typed.subscribe("imu/*", SlowConsumer::default()).unwrap();
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"imu/*"}"#).unwrap();
    board.notify("imu/sample", MessagePayload::Binary(&[0xff]));
    assert_eq!(typed.read_topic("imu/sample").payload, OwnedPayload::Binary(vec![0xff]));
    let missed = panel.read_topic(bus::MISSED).payload;
    assert_eq!(missed, in_json(r#"{"pattern":"imu/*","count":1}"#));
    assert_eq!(board.read_topic(bus::MISMATCH).destination, bus::MISMATCH);
}

#[test]
fn what_has_to_be_turned_for_one_peer_is_limited_and_nobody_else_waits_for_it() {
    // Two bytes that stand for four kilobytes of JSON.
    const NOTHINGS: u16 = 800;
    const TIMES: u64 = 2_700;
    let limits = Limits { translated_bytes: 1 << 20, ..Limits::default() };
    let hub = TestHub::with_limits(limits);
    let mut flood = hub.connect("flood", &["*"]);
    tell::<Vec<()>, ()>(&mut flood, RowKind::Publishes, "flood/nothings");
    let mut panel = json_peer(&hub, "panel", &["*"]);
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"flood/*"}"#).unwrap();
    let mut bystander = hub.bystander();
    let mut board = board(&hub);
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"imu/*"}"#).unwrap();
    let notice = Message::notification(5, Address::new("flood/nothings").unwrap());
    let payload = postcard(&NOTHINGS);
    let frame = wire(&notice.with_payload(payload.borrow()));
    let begun = std::time::Instant::now();
    for _ in 0..TIMES {
        flood.write_bytes(&frame);
    }
    bystander.is_served();
    board.notify("imu/sample", postcard(&rate()).borrow());
    assert_eq!(panel.read_topic("imu/sample").payload, in_json(RATE), "another's is turned");
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "flood" && peer.frames_in > TIMES));
    let micros = begun.elapsed().as_micros() as u64;
    let turned = TIMES - hub.peer("flood").refused;
    let most = (1 << 17) + micros + micros / 20;
    assert!(turned > 0 && turned <= 1 + most / 4_000, "{turned} of {TIMES} in {micros} us");
    assert!(hub.peer("panel").missed >= TIMES - turned, "it is told what it missed");
    let told = flood.read_topic(bus::MISMATCH).payload;
    let told: bus::Mismatch<'_> = told.borrow().parse().unwrap();
    assert!(told.text.contains("at most 1048576 bytes a second"), "{}", told.text);
    let others = flood.read_so_far().iter().filter(|message| message.destination == bus::MISMATCH).count();
    assert!(others as u64 <= micros / 1_000_000, "it is told now and then: {others}");
}

#[test]
fn nothing_is_turned_for_one_who_does_not_read_and_could_not_have_it() {
    let limits = Limits { queue_bytes: 64 << 10, ..Limits::default() };
    let hub = TestHub::with_limits(limits);
    let (mut board, mut panel) = (board(&hub), json_peer(&hub, "panel", &["*"]));
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"imu/*","policy":"latest"}"#).unwrap();
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"big/*","policy":{"drop_oldest":60000}}"#).unwrap();
    let mut big = hub.connect("big", &["*"]);
    let none = |hub: &TestHub| hub.peer("panel").missed;
    while none(&hub) == 0 {
        big.notify("big/news", MessagePayload::Binary(&[7; 1000]));
    }
    let before = none(&hub);
    let wrong = [0xff; 8000];
    board.notify("imu/sample", MessagePayload::Binary(&wrong));
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "panel" && peer.missed > before));
    assert!(board.read_so_far().is_empty(), "nobody has looked whether it is of its type");
    panel.read_topic(bus::MISSED);
    board.notify("imu/sample", MessagePayload::Binary(&wrong));
    assert_eq!(board.read_topic(bus::MISMATCH).destination, bus::MISMATCH);
}

#[test]
fn one_who_asks_too_much_that_has_to_be_turned_is_told_so_and_others_ask_on() {
    let limits = Limits { translated_bytes: 4_096, ..Limits::default() };
    let hub = TestHub::with_limits(limits);
    let mut board = board(&hub);
    let (mut greedy, mut modest) = (json_peer(&hub, "greedy", &["*"]), json_peer(&hub, "modest", &["*"]));
    let long = format!(r#"{{"sensor":{{"Other":"{}"}},"hz":1}}"#, "n".repeat(100_000));
    greedy.send_request("imu/set-rate", MessagePayload::Json(&long));
    board.read_call();
    let refused = ask_json(&mut greedy, "imu/set-rate", RATE);
    expect_error(refused, ErrorKind::Message, "at most 4096 bytes a second");
    assert!(board.read_so_far().is_empty());
    let id = modest.send_request("imu/set-rate", MessagePayload::Json(RATE));
    let call = board.read_call();
    answer(&mut board, &call, &postcard(&7u32));
    assert_eq!(modest.answer_to(id).unwrap().payload, in_json("7"));
}

#[test]
fn what_is_sealed_passes_as_it_is() {
    let hub = TestHub::start();
    let (mut board, mut panel) = (board(&hub), json_peer(&hub, "panel", &["*"]));
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"imu/*"}"#).unwrap();
    let mut sealed = Message::notification(78, Address::new("imu/sample").unwrap())
        .with_payload(MessagePayload::Binary(&[1, 2, 3]));
    sealed.flags.encrypted = true;
    board.send(&sealed);
    assert_eq!(panel.read_topic("imu/sample").payload, OwnedPayload::Binary(vec![1, 2, 3]));
    let mut request = Message::request(79, Address::new("imu/set-rate").unwrap())
        .with_payload(MessagePayload::Binary(&[4, 5]));
    request.flags.encrypted = true;
    panel.send(&request);
    assert_eq!(board.read_call().payload, OwnedPayload::Binary(vec![4, 5]));
}

#[test]
fn a_topic_that_a_board_hears_takes_json_of_its_type_and_nothing_else() {
    let hub = TestHub::start();
    let (mut board, mut panel) = (board(&hub), json_peer(&hub, "panel", &["*"]));
    panel.notify("imu/hint", MessagePayload::Json(RATE));
    assert_eq!(board.read_topic("imu/hint").payload, postcard(&rate()));
    panel.notify("imu/hint", MessagePayload::Json("[1]"));
    let told = panel.read_topic(bus::MISMATCH).payload;
    let OwnedPayload::Json(text) = told else { panic!("{told:?}") };
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["address"], "imu/hint");
    assert!(told["text"].as_str().unwrap().contains("takes struct Rate"), "{told}");
    assert!(board.read_so_far().is_empty());
}

#[test]
fn a_json_peer_serves_and_publishes_types_that_it_told() {
    let hub = TestHub::start();
    let mut panel = json_peer(&hub, "panel", &["*"]);
    tell_json::<Rate, u32>(&mut panel, "endpoint", "panel/set-rate");
    tell_json::<Rate, ()>(&mut panel, "publishes", "panel/rate");
    let mut typed = hub.connect("typed", &["*"]);
    let mut other = json_peer(&hub, "other", &["*"]);
    // It need not tell hashes, and is held against them all the same.
    let types = Announce {
        row: RowInfo {
            kind: RowKind::Calls,
            address: "panel/set-rate",
            access: Access::Permission,
            request_hash: TypeSchema::of::<Rate>().hash,
            response_hash: TypeSchema::of::<u32>().hash,
        },
        request_schema: &[],
        response_schema: &[],
    };
    typed.request(bus::ANNOUNCE, postcard(&types).borrow()).unwrap();
    let wrong = Announce { row: RowInfo { response_hash: 7, ..types.row }, ..types };
    let refused = typed.request(bus::ANNOUNCE, postcard(&wrong).borrow());
    expect_error(refused, ErrorKind::Serialization, "'panel/set-rate' answers with");
    typed.request(bus::ANNOUNCE, postcard(&types).borrow()).unwrap();

    let id = typed.send_request("panel/set-rate", postcard(&rate()).borrow());
    let call = panel.read_call();
    assert_eq!(call.payload, in_json(RATE));
    answer(&mut panel, &call, &in_json("7"));
    assert_eq!(typed.answer_to(id).unwrap().payload, postcard(&7u32));
    let id = typed.send_request("panel/set-rate", postcard(&rate()).borrow());
    let call = panel.read_call();
    answer(&mut panel, &call, &in_json("-7"));
    expect_error(typed.answer_to(id), ErrorKind::Serialization, "'panel/set-rate' answers with u32");
    assert_eq!(panel.read_topic(bus::MISMATCH).destination, bus::MISMATCH);
    let refused = typed.request("panel/set-rate", MessagePayload::Binary(&[0xff]));
    expect_error(refused, ErrorKind::Serialization, "'panel/set-rate' takes struct Rate");
    let id = other.send_request("panel/set-rate", MessagePayload::Json("{}"));
    let call = panel.read_call();
    assert_eq!(call.payload, in_json("{}"), "what both have passes as it is");
    answer(&mut panel, &call, &in_json("[]"));
    assert_eq!(other.answer_to(id).unwrap().payload, in_json("[]"));

    typed.subscribe("panel/*", SlowConsumer::default()).unwrap();
    ask_json(&mut other, bus::SUBSCRIBE, r#"{"pattern":"panel/*"}"#).unwrap();
    panel.notify("panel/rate", MessagePayload::Json(r#"{"hz":1}"#));
    panel.notify("panel/rate", MessagePayload::Json(RATE));
    assert_eq!(typed.read_topic("panel/rate").payload, postcard(&rate()));
    assert_eq!(
        other.read_topic("panel/rate").payload,
        in_json(RATE),
        "what is not of the type went to nobody"
    );
    assert_eq!(panel.read_topic(bus::MISMATCH).destination, bus::MISMATCH);
}

#[test]
fn what_the_hub_says_itself_reaches_those_with_json_as_json() {
    let hub = TestHub::start();
    let mut panel = json_peer(&hub, "panel", &["*"]);
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"bus/services/changed"}"#).unwrap();
    let mut board = board(&hub);
    let came = panel.read_topic(bus::SERVICES_CHANGED).payload;
    assert_eq!(came, in_json(r#"{"component":"imu","peer":"imu","up":true}"#));
    ask_json(&mut panel, bus::SUBSCRIBE, r#"{"pattern":"bus/audit"}"#).unwrap();
    hub.connect("another", &[]);
    let OwnedPayload::Json(event) = panel.read_topic(bus::AUDIT).payload else { panic!("no JSON") };
    assert!(serde_json::from_str::<serde_json::Value>(&event).unwrap().is_object(), "{event}");
    // Whoever has no postcard gets none, also where nothing was asked in JSON.
    let services = panel.request(bus::SERVICES, MessagePayload::Empty).unwrap().payload;
    assert!(matches!(services, OwnedPayload::Json(_)), "{services:?}");
    let OwnedPayload::Json(schema) = ask_json(&mut panel, bus::SCHEMA, r#""imu/rate""#).unwrap().payload
    else {
        panic!("no JSON")
    };
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["request_type"], "()");
    assert!(schema["response_type"].as_str().unwrap().starts_with("struct Rate"), "{schema}");
    // A callee learns that nobody waits any more.
    tell_json::<(), ()>(&mut panel, "endpoint", "panel/wait");
    let id = board.send_request("panel/wait", MessagePayload::Binary(&[]));
    panel.read_call();
    board.notify(bus::CANCEL, postcard(&bus::Cancel { id, source: "" }).borrow());
    let cancel = panel.read_topic(bus::CANCEL).payload;
    assert_eq!(cancel, in_json(&format!(r#"{{"id":"{id}","source":"imu"}}"#)));
    let notice = OwnedMessage::notification("news/all", postcard(&Missed { pattern: "x", count: 1 }));
    hub.handle.broadcast_message(notice).unwrap();
    assert!(matches!(panel.read_topic("news/all").payload, OwnedPayload::Binary(_)), "its type is not known");
}

#[test]
fn a_typed_handler_in_the_hub_serves_those_with_json() {
    for may_block in [false, true] {
        let hub = TestHub::start();
        hub.handle.register_handler(Box::new(Doubler { may_block })).unwrap();
        let mut panel = json_peer(&hub, "panel", &["*"]);
        assert_eq!(ask_json(&mut panel, "doubler/double", "21").unwrap().payload, in_json("42"));
        let refused = ask_json(&mut panel, "doubler/double", r#""x""#);
        expect_error(refused, ErrorKind::Serialization, "'doubler/double' takes u16");
        let mut stranger = json_peer(&hub, "stranger", &[]);
        let refused = ask_json(&mut stranger, "doubler/double", r#""x""#);
        expect_error(refused, ErrorKind::Authorization, "no permission");
        let mut typed = hub.connect("typed", &["*"]);
        let answer = typed.request("doubler/double", postcard(&21u16).borrow()).unwrap();
        assert_eq!(answer.payload, postcard(&42u32));
    }
}

#[test]
fn a_broadcast_to_a_scope_reaches_those_who_have_it() {
    let hub = TestHub::start();
    let mut near = json_peer(&hub, "near", &["imu.control"]);
    let mut far = hub.connect("far", &["subscribe:imu/*"]);
    let mut all = hub.connect("all", &["*"]);
    let note = |text: &str| OwnedMessage::notification("news/all", OwnedPayload::String(text.to_owned()));
    hub.handle.broadcast_to_scope("imu.control", note("control")).unwrap();
    hub.handle.broadcast_to_scope("subscribe:imu/sample", note("readers")).unwrap();
    hub.handle.broadcast_to_scope("nobody.has", note("stars")).unwrap();
    let texts = |peer: &mut RawPeer| -> Vec<OwnedPayload> {
        peer.read_so_far().into_iter().map(|message| message.payload).collect()
    };
    let text = |text: &str| OwnedPayload::String(text.to_owned());
    assert_eq!(texts(&mut near), [text("control")]);
    assert_eq!(texts(&mut far), [text("readers")]);
    assert_eq!(texts(&mut all), [text("control"), text("readers"), text("stars")]);
    for wrong in ["*", "", "no scope", "*:imu/*"] {
        let refused = hub.handle.broadcast_to_scope(wrong, note("x"));
        expect_error(refused, ErrorKind::Message, "is neither a scope's name");
    }
}

/// Doubles what it is sent.
struct Doubler {
    may_block: bool,
}

impl MessageHandler for Doubler {
    fn id(&self) -> &str {
        "doubler"
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn row(&self, number: usize) -> Option<RowHead<'_>> {
        let address = const { Address::literal("doubler/double") };
        let schema =
            const { SchemaPair { request: TypeSchema::of::<u16>(), response: TypeSchema::of::<u32>() } };
        (number == 0).then(|| RowHead::new(RowKind::Endpoint, address, Access::Permission, schema))
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        let number: u16 = message.payload.parse()?;
        reply.send(&(u32::from(number) * 2))
    }
}

#[test]
fn what_the_program_asks_in_json_is_turned_and_answered_in_json() {
    let hub = TestHub::start();
    let mut board = board(&hub);
    let handle = hub.handle.clone();
    let ask = |to: &str, payload: OwnedPayload| {
        let (handle, message) = (handle.clone(), OwnedMessage::request(to, payload));
        std::thread::spawn(move || handle.request(message, visorbus_tests::patience::PATIENCE))
    };
    let json = |text: &str| OwnedPayload::Json(text.to_owned());
    let asked = ask("imu/set-rate", json(RATE));
    let call = board.read_call();
    assert_eq!(call.payload, OwnedPayload::postcard(&rate()).unwrap());
    answer(&mut board, &call, &OwnedPayload::postcard(&200u32).unwrap());
    assert_eq!(asked.join().unwrap().unwrap().payload, json("200"));
    let asked = ask("imu/rate", json("null"));
    let call = board.read_call();
    assert_eq!(call.payload, OwnedPayload::Binary(Vec::new()));
    answer(&mut board, &call, &OwnedPayload::postcard(&rate()).unwrap());
    assert_eq!(asked.join().unwrap().unwrap().payload, json(RATE));
    // What is asked in postcard passes as it is.
    let asked = ask("imu/set-rate", OwnedPayload::postcard(&rate()).unwrap());
    let call = board.read_call();
    answer(&mut board, &call, &OwnedPayload::postcard(&200u32).unwrap());
    assert_eq!(asked.join().unwrap().unwrap().payload, OwnedPayload::postcard(&200u32).unwrap());
    // What is not of the type reaches nobody, and what is answered that is not of it is told.
    let wrong = ask("imu/set-rate", json(r#"{"sensor":"Gyro"}"#)).join().unwrap();
    expect_error(wrong, ErrorKind::Serialization, "'imu/set-rate' takes");
    let asked = ask("imu/rate", json("null"));
    let call = board.read_call();
    answer(&mut board, &call, &OwnedPayload::Binary(vec![0xff; 3]));
    expect_error(asked.join().unwrap(), ErrorKind::Serialization, "'imu/rate' answers with");
    board.read_topic(bus::MISMATCH);
}

#[test]
fn the_program_asks_a_peer_that_has_json_and_no_postcard() {
    let hub = TestHub::start();
    let mut panel = json_peer(&hub, "panel", &["*"]);
    tell_json::<Rate, u32>(&mut panel, "endpoint", "panel/show");
    let handle = hub.handle.clone();
    let message = OwnedMessage::request("panel/show", OwnedPayload::postcard(&rate()).unwrap());
    let asked = std::thread::spawn(move || handle.request(message, visorbus_tests::patience::PATIENCE));
    let call = panel.read_call();
    assert_eq!(call.payload, OwnedPayload::Json(RATE.to_owned()));
    answer(&mut panel, &call, &OwnedPayload::Json("7".to_owned()));
    assert_eq!(asked.join().unwrap().unwrap().payload, OwnedPayload::postcard(&7u32).unwrap());
}
