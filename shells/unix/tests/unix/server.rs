//! The client, the connection by hand and the server with the real hub between them.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use visorbus_core::auth::{Access, Claims, Key, KeyRing, Scopes, Slot};
use visorbus_core::bus::SlowConsumer;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::Address;
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_core::{IpcError, Message, MessagePriority};
use visorbus_hub::{Error, HubConfig, OwnedMessage, OwnedPayload};
use visorbus_unix::{
    Credentials, Delivery, StateChange, TokenText, UnixSocketClient, UnixSocketConnection, UnixSocketServer,
};

use crate::opposite::SOON;

/// A place for a server, and the keys that its tokens are made with.
pub(crate) struct House {
    directory: TempDir,
}

impl House {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("hub.sock")
    }

    pub(crate) fn keys() -> KeyRing {
        let mut keys = KeyRing::new();
        keys.add(Slot::root(1, Key::new([7; 32]))).unwrap();
        keys
    }

    pub(crate) fn server(&self) -> UnixSocketServer {
        let mut server = UnixSocketServer::new(self.path(), HubConfig::new(Self::keys(), 1)).unwrap();
        server.start().unwrap();
        server
    }

    pub(crate) fn token_with(subject: &str, scopes: &[&str]) -> Credentials {
        Credentials::Token(Self::token_text(subject, scopes))
    }

    pub(crate) fn token_text(subject: &str, scopes: &[&str]) -> TokenText {
        let now = visorbus_hub::unix_micros() / 1_000_000;
        let claims = Claims {
            issuer: "bus",
            subject,
            audience: "bus",
            serial: 1,
            issued_at: now,
            expiry: now + 600,
            epoch: 0,
            scopes: Scopes::new(scopes),
        };
        let mut out = [0; MAX_TOKEN];
        let len = Self::keys().mint(1, &claims, &mut out).unwrap();
        TokenText::encode(&out[..len]).unwrap()
    }

    /// A token that somebody without the key has made.
    pub(crate) fn forged(subject: &str) -> Credentials {
        let mut bytes = Self::token_text(subject, &["*"]).to_bytes().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        Credentials::Token(TokenText::encode(&bytes).unwrap())
    }

    pub(crate) fn client(&self, name: &str) -> UnixSocketClient {
        let client = UnixSocketClient::new(self.path(), name).unwrap();
        client.authenticate(&Self::token_with(name, &["*"])).unwrap();
        client.connect().unwrap();
        client
    }
}

fn text(text: &str) -> OwnedPayload {
    OwnedPayload::String(text.to_owned())
}

/// Answers with its own payload.
pub(crate) struct Echo(pub(crate) &'static str);

impl MessageHandler for Echo {
    fn id(&self) -> &str {
        self.0
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        reply.payload(message.payload)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Schema)]
struct Sample {
    x: i16,
    y: i16,
}

/// Doubles a sample.
struct Double;

impl Endpoint for Double {
    type Request = Sample;
    type Response = Sample;
    const ADDRESS: Address<'static> = Address::literal("math/double");
    const ACCESS: Access<'static> = Access::Permission;
}

struct Samples;

impl Topic for Samples {
    type Message = Sample;
    const ADDRESS: Address<'static> = Address::literal("source/samples");
    const ACCESS: Access<'static> = Access::Permission;
}

struct Math;

impl MessageHandler for Math {
    fn id(&self) -> &str {
        "math"
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        let sample: Sample = message.payload.parse()?;
        reply.send(&Sample { x: sample.x * 2, y: sample.y * 2 })
    }
}

#[test]
fn a_handler_in_the_hub_answers_a_client() {
    let house = House::new();
    let mut server = UnixSocketServer::new(house.path(), HubConfig::new(House::keys(), 1)).unwrap();
    server.register_handler(Box::new(Echo("before"))).unwrap();
    assert!(server.register_handler(Box::new(Echo("before"))).is_err());
    server.start().unwrap();
    server.register_handler(Box::new(Echo("after"))).unwrap();
    let client = house.client("cli");
    for address in ["before/a", "after/a"] {
        let answer = client.send_request(OwnedMessage::request(address, text("hello")), None).unwrap();
        assert_eq!(answer.payload, text("hello"));
    }
    server.unregister_handler("after").unwrap();
    assert!(client.send_request(OwnedMessage::request("after/a", text("")), None).is_err());
    assert!(server.start().unwrap_err().to_string().contains("started before"));
}

#[test]
fn a_handler_in_one_client_serves_another_with_types() {
    let house = House::new();
    let _server = house.server();
    let (serving, calling) = (house.client("service"), house.client("cli"));
    serving.register_handler(Box::new(Math)).unwrap();
    assert_eq!(calling.call::<Double>(&Sample { x: 2, y: -3 }, None).unwrap(), Sample { x: 4, y: -6 });
    let error = calling.send_request(OwnedMessage::request("math/double", text("two")), None).unwrap_err();
    assert!(matches!(error, Error::Serialization(_)), "{error}");
    serving.unregister_handler("math").unwrap();
    assert!(calling.call::<Double>(&Sample { x: 2, y: -3 }, None).is_err());
}

#[test]
fn a_typed_notification_reaches_its_subscribers() {
    let house = House::new();
    let _server = house.server();
    let (source, sink) = (house.client("source"), house.client("sink"));
    let subscription = sink.subscribe("source/*", SlowConsumer::default()).unwrap();
    source.publish::<Samples>(&Sample { x: 1, y: 2 }).unwrap();
    let Some(Delivery::Message(message)) = subscription.recv(Some(SOON)).unwrap() else {
        panic!("no message")
    };
    assert_eq!(message.payload.parse::<Sample>().unwrap(), Sample { x: 1, y: 2 });
    assert_eq!((message.source.as_str(), message.destination.as_str()), ("source", "source/samples"));
    assert_eq!(message.flags.priority, MessagePriority::Normal);
    subscription.unsubscribe().unwrap();
}

#[test]
fn a_typed_notification_has_the_priority_of_its_topic() {
    struct Alarms;
    impl Topic for Alarms {
        type Message = bool;
        const ADDRESS: Address<'static> = Address::literal("source/alarms");
        const ACCESS: Access<'static> = Access::Permission;
        const PRIORITY: MessagePriority = MessagePriority::High;
    }
    let house = House::new();
    let _server = house.server();
    let (source, sink) = (house.client("source"), house.client("sink"));
    let subscription = sink.subscribe("source/*", SlowConsumer::default()).unwrap();
    source.publish::<Alarms>(&true).unwrap();
    let Some(Delivery::Message(message)) = subscription.recv(Some(SOON)).unwrap() else {
        panic!("no message")
    };
    assert_eq!(message.flags.priority, MessagePriority::High);
}

#[test]
fn a_client_without_a_token_and_one_with_a_forged_one_are_refused() {
    let house = House::new();
    let mut server = house.server();
    server.register_handler(Box::new(Echo("echo"))).unwrap();
    let client = UnixSocketClient::new(house.path(), "cli").unwrap();
    client.connect().unwrap();
    let request = OwnedMessage::request("echo/a", text("hello"));
    let error = client.send_request(&request, None).unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error}");
    let error = client.authenticate(&House::forged("cli")).unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error}");
    let error = client.authenticate(&House::token_with("someone-else", &["*"])).unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error}");
    client.authenticate(&House::token_with("cli", &["request:echo/*"])).unwrap();
    assert_eq!(client.send_request(&request, None).unwrap().payload, text("hello"));
    let error = client.subscribe("other/*", SlowConsumer::Latest).unwrap_err();
    assert!(matches!(error, Error::Authorization(_)), "{error}");
}

#[test]
fn a_refused_token_fails_the_connect() {
    let house = House::new();
    let _server = house.server();
    let client = UnixSocketClient::new(house.path(), "cli").unwrap();
    client.authenticate(&House::forged("cli")).unwrap();
    assert!(matches!(client.connect().unwrap_err(), Error::Authentication(_)));
    assert!(!client.is_connected());
}

#[test]
fn the_server_knows_its_clients_and_reaches_them_by_name() {
    let house = House::new();
    let server = house.server();
    let (one, two) = (house.client("one"), house.client("two"));
    assert_eq!(server.active_connections().unwrap(), ["one", "two"]);
    let (told, tell) = channel();
    for client in [&one, &two] {
        let (told, name) = (told.clone(), client.client_id().to_owned());
        let note = move |delivery| {
            if let Delivery::Message(message) = delivery {
                told.send((name.clone(), message.payload)).unwrap();
            }
        };
        client.on_message(note).unwrap();
    }
    server.send_message("one", OwnedMessage::notification("one/note", text("yours"))).unwrap();
    assert_eq!(tell.recv_timeout(SOON).unwrap(), ("one".to_owned(), text("yours")));
    server.broadcast_message(OwnedMessage::notification("bus/note", text("all"))).unwrap();
    let mut heard = [tell.recv_timeout(SOON).unwrap().0, tell.recv_timeout(SOON).unwrap().0];
    heard.sort();
    assert_eq!(heard, ["one", "two"]);
    assert!(server.send_message("nobody", OwnedMessage::notification("a/b", text(""))).is_err());
}

#[test]
fn a_stopped_server_says_goodbye_removes_its_socket_and_a_new_one_is_found_again() {
    let house = House::new();
    let mut server = house.server();
    let client = house.client("cli");
    let (told, tell) = channel();
    client.on_state_change(move |change| told.send(change).unwrap()).unwrap();
    client.register_handler(Box::new(Echo("mirror"))).unwrap();
    server.stop().unwrap();
    server.stop().unwrap();
    assert!(!house.path().exists());
    assert!(matches!(tell.recv_timeout(SOON).unwrap(), StateChange::Disconnected(_)));
    drop(server);
    let _server = house.server();
    assert_eq!(tell.recv_timeout(SOON).unwrap(), StateChange::Connected);
    // Its token, its name and its component are back.
    let other = house.client("other");
    let answer = other.send_request(OwnedMessage::request("mirror/a", text("again")), None).unwrap();
    assert_eq!(answer.payload, text("again"));
}

#[test]
fn a_server_over_a_running_hub_is_one_socket_more_and_goes_alone() {
    let house = House::new();
    let first = house.server();
    let stays = house.client("stays");
    let path = house.path().with_extension("second");
    for _ in 0..3 {
        let mut second = UnixSocketServer::over(&path, first.handle()).unwrap();
        second.set_group(Some(nix::unistd::getegid().as_raw()));
        second.start().unwrap();
        assert!(matches!(second.start(), Err(Error::Message(text)) if text.contains("was started before")));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660, "its group may connect");
        second.register_handler(Box::new(Echo("echo"))).unwrap();
        let mut guest = UnixSocketConnection::connect(&path, "guest").unwrap();
        guest.set_auth_token(House::token_text("guest", &["*"]));
        guest.wait_authenticated(SOON).unwrap();
        assert_eq!(second.active_connections(), Ok(vec!["guest".to_owned()]));
        assert_eq!(first.active_connections(), Ok(vec!["guest".to_owned(), "stays".to_owned()]));
        let asked = OwnedMessage::request("echo/a", text("of the hub's"));
        assert_eq!(stays.send_request(asked.clone(), None).unwrap().payload, text("of the hub's"));
        drop(second);
        assert!(!path.exists() && house.path().exists());
        assert!(UnixStream::connect(&path).is_err());
        assert_eq!(first.active_connections(), Ok(vec!["stays".to_owned()]));
        assert_eq!(stays.send_request(asked, None).unwrap().payload, text("of the hub's"), "it stays");
        first.handle().unregister_handler("echo").unwrap();
    }
}

#[test]
fn two_servers_do_not_share_a_path() {
    let house = House::new();
    let _server = house.server();
    let mut second = UnixSocketServer::new(house.path(), HubConfig::new(House::keys(), 1)).unwrap();
    let error = second.start().unwrap_err();
    assert!(error.to_string().contains("another hub serves"), "{error}");
    UnixStream::connect(house.path()).unwrap();
}

#[test]
fn a_connection_by_hand_authenticates_and_calls() {
    let house = House::new();
    let mut server = house.server();
    server.register_handler(Box::new(Echo("echo"))).unwrap();
    let mut connection = UnixSocketConnection::connect(house.path(), "hand").unwrap();
    assert!(!connection.is_authenticated());
    connection.set_auth_token(House::token_text("other", &["*"]));
    assert!(matches!(connection.wait_authenticated(SOON).unwrap_err(), Error::Authentication(_)));
    assert!(connection.auth_token().is_none(), "what was refused is forgotten");
    connection.set_auth_token(House::token_text("hand", &["*"]));
    connection.wait_authenticated(SOON).unwrap();
    let id = connection.send_message(OwnedMessage::request("echo/a", text("hello"))).unwrap();
    let answer = connection.wait_message(SOON).unwrap();
    assert_eq!((answer.id, answer.payload), (id, text("hello")));
    connection.close("done").unwrap();
}

#[test]
fn a_service_that_dies_fails_its_callers_at_once() {
    struct Held(Sender<()>, Receiver<()>);
    impl MessageHandler for Held {
        fn id(&self) -> &str {
            "held"
        }
        fn handle_message(&mut self, _: &Message<'_>, _: &mut Reply<'_>) -> Result<(), IpcError> {
            self.0.send(()).unwrap();
            let _ = self.1.recv_timeout(SOON);
            Ok(())
        }
    }
    let house = House::new();
    let _server = house.server();
    let (service, client) = (house.client("service"), house.client("cli"));
    let (started, start) = channel();
    let (release, held) = channel();
    service.register_handler(Box::new(Held(started, held))).unwrap();
    thread::scope(|scope| {
        let request = OwnedMessage::request("held/a", text(""));
        let waiting = scope.spawn(|| client.send_request(request, Some(SOON * 6)));
        start.recv_timeout(SOON).unwrap();
        service.disconnect();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Connection(_)), "{error}");
        release.send(()).unwrap();
    });
}

#[test]
fn a_client_connects_anew_under_its_name_as_often_as_it_likes() {
    let house = House::new();
    let _server = house.server();
    let service = house.client("math");
    service.register_handler(Box::new(Math)).unwrap();
    let caller = house.client("caller");
    for round in 0..100 {
        service.reconnect().unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(caller.call::<Double>(&Sample { x: 2, y: -3 }, None).unwrap(), Sample { x: 4, y: -6 });
    }
}
