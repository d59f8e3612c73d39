//! What peers tell of the types of addresses: what is kept, what is compared, and who is refused.

use visorbus_core::auth::Access;
use visorbus_core::bus::{self, Announce, Identity, RowInfo, RowKind, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{MessagePayload, MessageType};
use visorbus_hub::info::ServiceInfo;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload};
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};

use crate::harness::{Client, TestHub, text};

fn row(kind: RowKind, address: &str, request_hash: u64, response_hash: u64) -> RowInfo<'_> {
    RowInfo { kind, address, access: Access::Permission, request_hash, response_hash }
}

fn tell(peer: &mut RawPeer, row: RowInfo<'_>) -> Result<OwnedMessage, Error> {
    let told = Announce { row, request_schema: &[], response_schema: &[] };
    peer.request(bus::ANNOUNCE, OwnedPayload::postcard(&told)?.borrow())
}

/// A board that was built with these rows and has told them all.
fn board(hub: &TestHub, name: &str, scopes: &[&str], rows: &[RowInfo<'_>]) -> RawPeer {
    let mut board = hub.attach();
    board.hello_as(&Identity { rows: rows.len() as u16, ..identity(name) }).unwrap();
    board.authenticate(&hub.token(name, scopes)).unwrap();
    let offered = rows.iter().filter(|row| row.kind.is_offered()).count();
    for number in 0..rows.len() + 2 * offered {
        let question = board.read_call();
        assert_eq!(question.destination, bus::DESCRIBE);
        let payload =
            rows.get(number).map_or(OwnedPayload::Empty, |row| OwnedPayload::postcard(row).unwrap());
        let head = question.borrow().unwrap().answer(MessageType::Response);
        board.send(&head.with_payload(payload.borrow()));
    }
    board
}

#[test]
fn a_board_that_was_built_for_another_version_is_refused_there_and_nowhere_else() {
    let hub = TestHub::start();
    let uses = [
        row(RowKind::Calls, "lamp/set", 1, 2),
        row(RowKind::Endpoint, "button/state", 5, 6),
        row(RowKind::Sends, "lamp/warm", 7, 0),
        row(RowKind::Calls, "lamp/get", 3, 4),
    ];
    let mut button = board(&hub, "button", &["*"], &uses);
    let mut lamp = hub.connect("lamp", &["*"]);
    for told in [row(RowKind::Endpoint, "lamp/set", 1, 9), row(RowKind::Endpoint, "lamp/get", 3, 4)] {
        tell(&mut lamp, told).unwrap();
    }
    tell(&mut lamp, row(RowKind::Hears, "lamp/warm", 8, 0)).unwrap();
    let refused = button.request("lamp/set", MessagePayload::Empty);
    expect_error(
        refused,
        ErrorKind::Serialization,
        "'lamp/set' answers with 0x0000000000000009, this program was built with 0x0000000000000002",
    );
    button.notify("lamp/warm", MessagePayload::Empty);
    let notices = button.read_so_far();
    assert_eq!(notices.len(), 1);
    let notice: bus::Mismatch<'_> = notices[0].payload.borrow().parse().unwrap();
    assert_eq!((&*notices[0].destination, notice.address), (bus::MISMATCH, "lamp/warm"));
    let texts = ["0x0000000000000008", "0x0000000000000007"];
    assert!(texts.iter().all(|hash| notice.text.contains(hash)), "{}", notice.text);
    assert!(lamp.read_so_far().is_empty(), "nothing reached its handlers");
    let id = button.send_request("lamp/get", MessagePayload::Empty);
    let call = lamp.read_call();
    lamp.answer(&call, "on");
    assert_eq!(text(&button.answer_to(id).unwrap()), "on");
    // The lamp comes to agree, and nobody has to say so.
    tell(&mut lamp, row(RowKind::Endpoint, "lamp/set", 1, 2)).unwrap();
    let id = button.send_request("lamp/set", MessagePayload::Empty);
    let call = lamp.read_call();
    lamp.answer(&call, "set");
    assert_eq!(text(&button.answer_to(id).unwrap()), "set");
}

#[test]
fn rows_that_are_only_used_are_shown_to_nobody_and_asked_no_schemas() {
    let hub = TestHub::start();
    let rows = [
        row(RowKind::Calls, "lamp/set", 1, 2),
        row(RowKind::Publishes, "button/state", 5, 0),
        row(RowKind::Sends, "lamp/warm", 7, 0),
    ];
    let mut button = board(&hub, "button", &["*"], &rows);
    assert!(button.read_so_far().is_empty());
    let mut client = hub.connect("client", &["*"]);
    let services = client.request(bus::SERVICES, MessagePayload::Empty).unwrap();
    let services: Vec<ServiceInfo> = services.payload.parse().unwrap();
    let shown = services.iter().find(|service| service.component == "button").unwrap();
    let shown: Vec<&str> = shown.addresses.iter().map(|address| &*address.address).collect();
    assert_eq!(shown, ["button/state"]);
    expect_error(client.ask_text(bus::SCHEMA, "lamp/set"), ErrorKind::Message, "nobody has told");
}

#[test]
fn a_hash_that_is_not_known_agrees_with_all() {
    let hub = TestHub::start();
    let mut lamp = hub.connect("lamp", &["*"]);
    let mut client = hub.connect("client", &["*"]);
    tell(&mut lamp, row(RowKind::Endpoint, "lamp/set", 0, 2)).unwrap();
    tell(&mut client, row(RowKind::Calls, "lamp/set", 7, 0)).unwrap();
    client.send_request("lamp/set", MessagePayload::Empty);
    lamp.read_call();
    let both = "takes 0x0000000000000001 and answers with 0x0000000000000002, this program was built with \
                0x0000000000000007 and 0x0000000000000008";
    tell(&mut lamp, row(RowKind::Endpoint, "lamp/set", 1, 2)).unwrap();
    let told = tell(&mut client, row(RowKind::Calls, "lamp/set", 7, 8));
    expect_error(told, ErrorKind::Serialization, both);
}

#[test]
fn only_who_may_serve_a_component_tells_its_rows_and_they_go_with_it() {
    let hub = TestHub::start();
    let mut lamp = hub.connect("lamp", &[]);
    let mut server = hub.connect("server", &["register:fan"]);
    let mut client = hub.connect("client", &["*"]);
    tell(&mut lamp, row(RowKind::Endpoint, "lamp/set", 1, 1)).unwrap();
    let foreign = tell(&mut server, row(RowKind::Endpoint, "lamp/set", 2, 2));
    expect_error(foreign, ErrorKind::Authorization, "'register'");
    expect_error(
        tell(&mut server, row(RowKind::Endpoint, "echo/x", 2, 2)),
        ErrorKind::Authorization,
        "register",
    );
    expect_error(
        tell(&mut server, row(RowKind::Endpoint, "fan//x", 2, 2)),
        ErrorKind::Message,
        "not an address",
    );
    let nonsense = server.request(bus::ANNOUNCE, MessagePayload::Binary(&[9, 9]));
    assert_eq!(nonsense.unwrap_err().kind(), ErrorKind::Serialization);
    // Before it is registered, nobody sees it; then it is there at once.
    tell(&mut server, row(RowKind::Endpoint, "fan/set", 3, 3)).unwrap();
    expect_error(client.ask_text(bus::SCHEMA, "fan/set"), ErrorKind::Message, "nobody has told");
    server.register("fan").unwrap();
    client.ask_text(bus::SCHEMA, "fan/set").unwrap();
    server.unregister("fan").unwrap();
    server.register("fan").unwrap();
    expect_error(client.ask_text(bus::SCHEMA, "fan/set"), ErrorKind::Message, "nobody has told");
    client.ask_text(bus::SCHEMA, "lamp/set").unwrap();
}

#[test]
fn what_one_session_tells_is_bounded_and_may_be_told_again() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &["*"]);
    let schema = vec![7; 60_000];
    let told = |address, server: &mut RawPeer| {
        let row = row(RowKind::Endpoint, address, 1, 1);
        let payload = Announce { row, request_schema: &schema, response_schema: &[] };
        server.request(bus::ANNOUNCE, OwnedPayload::postcard(&payload).unwrap().borrow())
    };
    for _ in 0..50 {
        told("server/same", &mut server).unwrap();
    }
    let addresses: Vec<String> = (0..20).map(|number| format!("server/{number}")).collect();
    let kept = addresses.iter().take_while(|address| told(address, &mut server).is_ok()).count();
    assert!((5..10).contains(&kept), "{kept}");
    expect_error(told("server/more", &mut server), ErrorKind::Message, "more rows than the hub keeps");
    told("server/same", &mut server).unwrap();
    let mut user = hub.connect("user", &["*"]);
    let uses = (0..1_000_000)
        .map(|number| format!("lamp/{number}"))
        .take_while(|address| tell(&mut user, row(RowKind::Calls, address, 1, 1)).is_ok())
        .count();
    assert!((500..20_000).contains(&uses), "{uses}");
    tell(&mut user, row(RowKind::Sends, "lamp/0", 1, 1)).unwrap();
}

#[test]
fn a_topic_that_is_nobodys_is_held_against_what_its_publisher_told() {
    let hub = TestHub::start();
    let mut one = hub.connect("one", &["*"]);
    let mut other = hub.connect("other", &["*"]);
    let mut listener = hub.connect("listener", &["*"]);
    tell(&mut one, row(RowKind::Sends, "room/warm", 1, 0)).unwrap();
    tell(&mut other, row(RowKind::Sends, "room/warm", 2, 0)).unwrap();
    tell(&mut listener, row(RowKind::Expects, "room/warm", 1, 0)).unwrap();
    listener.subscribe("room/**", SlowConsumer::default()).unwrap();
    other.notify("room/warm", MessagePayload::String("no"));
    other.notify("room/cold", MessagePayload::String("another topic"));
    one.notify("room/warm", MessagePayload::String("yes"));
    assert!(other.read_so_far().is_empty() && one.read_so_far().is_empty());
    let heard = listener.read_so_far();
    let heard: Vec<&str> = heard.iter().map(|message| &*message.destination).collect();
    assert_eq!(heard, [bus::MISMATCH, "room/cold", "room/warm"]);
}

#[test]
fn rows_are_told_in_json_too_and_forgotten_with_the_session() {
    let hub = TestHub::start();
    let mut lamp = hub.connect("lamp", &["*"]);
    tell(&mut lamp, row(RowKind::Endpoint, "lamp/set", 1, 1)).unwrap();
    let mut client = hub.connect("client", &["*"]);
    let json = r#"{"row": {"kind": "calls", "address": "lamp/set", "access": "permission",
                   "request_hash": 2, "response_hash": 2}}"#;
    let told = client.request(bus::ANNOUNCE, MessagePayload::Json(json));
    expect_error(told, ErrorKind::Serialization, "'lamp/set' takes");
    expect_error(
        client.request("lamp/set", MessagePayload::Empty),
        ErrorKind::Serialization,
        "'lamp/set' takes",
    );
    drop(client);
    hub.wait_until(|peers| peers.len() == 1);
    let mut client = hub.connect("client", &["*"]);
    client.send_request("lamp/set", MessagePayload::Empty);
    lamp.read_call();
}
