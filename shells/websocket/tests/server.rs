//! A whole server: its port, its hub, and clients of a foreign make.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};
use visorbus_auth::TokenText;
use visorbus_core::auth::{Claims, Key, KeyRing, Scopes, Slot};
use visorbus_hub::{Error, HubConfig, OwnedMessage, OwnedPayload, unix_micros};
use visorbus_websocket::{Pages, Reason, WebSocketConfig, WebSocketListener, WebSocketServer};

fn keys() -> KeyRing {
    let mut keys = KeyRing::new();
    keys.add(Slot::root(1, Key::new([7; 32]))).unwrap();
    keys
}

fn token(subject: &str, scopes: &[&str]) -> String {
    let issued_at = unix_micros() / 1_000_000;
    let scopes = Scopes::new(scopes);
    let (issuer, audience, serial, epoch, expiry) = ("bus", "bus", 1, 0, issued_at + 600);
    let claims = Claims { issuer, subject, audience, serial, issued_at, expiry, epoch, scopes };
    let mut bytes = [0; 512];
    let len = keys().mint(1, &claims, &mut bytes).unwrap();
    TokenText::encode(&bytes[..len]).unwrap().as_str().to_owned()
}

fn server() -> WebSocketServer {
    WebSocketServer::new("127.0.0.1:0", HubConfig::new(keys(), 1)).unwrap()
}

fn started() -> WebSocketServer {
    let mut server = server();
    server.start().unwrap();
    server
}

fn connect(server: &WebSocketServer) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A client that has said hello and been heard.
fn client(server: &WebSocketServer, name: &str) -> WebSocket<TcpStream> {
    let mut request = server.url().unwrap().into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "visorbus.v1.json".parse().unwrap());
    let (mut socket, _) = tungstenite::client(request, connect(server)).unwrap();
    let answer = say(&mut socket, &json!({"message_type": "Auth", "payload": {"Hello": {"name": name}}}));
    assert_eq!(answer["payload"]["Hello"]["name"], "bus", "{answer}");
    socket
}

/// A client that is somebody.
fn logged_in(server: &WebSocketServer, name: &str, scopes: &[&str]) -> WebSocket<TcpStream> {
    let mut socket = client(server, name);
    let token = token(name, scopes);
    let message = json!({"message_type": "Auth", "payload": {"Authenticate": {"Token": token}}});
    let answer = say(&mut socket, &message);
    assert!(answer["payload"].get("Authenticated").is_some(), "{answer}");
    socket
}

fn say(socket: &mut WebSocket<TcpStream>, message: &Value) -> Value {
    socket.send(Message::text(message.to_string())).unwrap();
    hear(socket)
}

fn hear(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn clients_log_in_and_are_told_what_is_for_them() {
    let server = started();
    let mut panel = logged_in(&server, "panel", &["request:**"]);
    let mut viewer = logged_in(&server, "viewer", &["subscribe:imu/**"]);
    assert_eq!(server.active_connections().unwrap(), ["panel", "viewer"]);
    let note = |text: &str| {
        OwnedMessage::notification("panel/note".to_owned(), OwnedPayload::String(text.to_owned()))
    };
    server.send_message("panel", note("one")).unwrap();
    assert_eq!(hear(&mut panel)["payload"]["payload"]["String"], "one");
    server.broadcast_message(note("all")).unwrap();
    for socket in [&mut panel, &mut viewer] {
        assert_eq!(hear(socket)["payload"]["payload"]["String"], "all");
    }
    server.broadcast_to_scope("subscribe:imu/**", note("some")).unwrap();
    server.broadcast_message(note("last")).unwrap();
    assert_eq!(hear(&mut viewer)["payload"]["payload"]["String"], "some");
    assert_eq!(hear(&mut panel)["payload"]["payload"]["String"], "last");
    assert_eq!(server.stats().upgraded, 2);
}

#[test]
fn strangers_at_the_door_do_not_take_the_places_of_peers() {
    let mut config = HubConfig::new(keys(), 1);
    config.limits.max_peers = 2;
    let mut server = WebSocketServer::new("127.0.0.1:0", config).unwrap();
    let mut door = WebSocketConfig::default();
    door.door.pending_per_address = 500;
    server.set_config(door).unwrap();
    server.start().unwrap();
    let strangers: Vec<_> = (0..200)
        .map(|at| {
            let mut stranger = connect(&server);
            stranger.write_all(&b"GET / HTTP/1.1\r\n"[..at % 17]).unwrap();
            stranger
        })
        .collect();
    let _first = logged_in(&server, "first", &["request:**"]);
    let _second = logged_in(&server, "second", &["request:**"]);
    assert_eq!(server.active_connections().unwrap(), ["first", "second"]);
    drop(strangers);
}

#[test]
fn strangers_that_share_an_address_with_a_peer_do_not_shut_it_out() {
    let mut server = server();
    let mut door = WebSocketConfig::default();
    door.door.connections_per_address = 8;
    door.door.pending_per_address = 4;
    server.set_config(door).unwrap();
    server.start().unwrap();
    let mut first = logged_in(&server, "first", &["request:**"]);
    let mut peers = Vec::new();
    let mut strangers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        // Half of them at the door, half in.
        for at in 0..20 {
            strangers.push(client(&server, &format!("stranger{at}")));
            strangers.push(WebSocket::from_raw_socket(
                connect(&server),
                tungstenite::protocol::Role::Client,
                None,
            ));
        }
        peers.push(logged_in(&server, name, &["request:**"]));
    }
    assert_eq!(server.active_connections().unwrap(), ["a", "b", "c", "d", "first"]);
    let Ok(Message::Close(Some(told))) = strangers[0].read() else { panic!("it is told to go") };
    assert!(u16::from(told.code) == 1013 && told.reason.contains("has not authenticated"), "{told}");
    let beat = json!({"message_type": "Heartbeat", "payload": {"id": "1"}});
    assert_eq!(say(&mut first, &beat)["message_type"], "Heartbeat", "it was never disturbed");
}

#[test]
fn a_refused_page_reaches_neither_the_hub_nor_the_log_with_its_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer({
        let log = log.clone();
        move || log.clone()
    });
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let server = started();
    let secret = token("panel", &["request:**"]);
    let mut stream = connect(&server);
    let request = format!(
        "GET /?access_token={secret} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains(&secret), "{answer}");
    assert_eq!(server.stats().refused(Reason::TokenInUrl), 1);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("turned away") && log.contains("token_in_url") && !log.contains(&secret), "{log}");
}

#[test]
fn a_server_stops_at_once_and_another_takes_its_port() {
    let mut server = started();
    let address = server.local_addr().unwrap();
    for name in ["a", "b", "c"] {
        let mut socket = logged_in(&server, name, &["request:**"]);
        let mut silent = connect(&server);
        server.stop().unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
        while socket.read().is_ok() {}
        server = WebSocketServer::new(address.to_string(), HubConfig::new(keys(), 1)).unwrap();
        server.start().unwrap();
    }
    assert!(server.active_connections().unwrap().is_empty());
}

#[test]
fn a_server_over_a_running_hub_closes_its_port_and_leaves_the_others_alone() {
    let first = started();
    let mut stays = logged_in(&first, "stays", &["request:**"]);
    let mut second = WebSocketServer::over("127.0.0.1:0", first.handle());
    for name in ["a", "b", "c"] {
        second.start().unwrap();
        let address = second.local_addr().unwrap();
        let mut socket = logged_in(&second, name, &["request:**"]);
        let mut silent = connect(&second);
        assert_eq!(second.active_connections(), Ok(vec![name.to_owned()]));
        assert_eq!(first.active_connections(), Ok(vec![name.to_owned(), "stays".to_owned()]));
        second.stop().unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
        while socket.read().is_ok() {}
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
        let beat = json!({"message_type": "Heartbeat", "payload": {"id": "1"}});
        assert_eq!(say(&mut stays, &beat)["message_type"], "Heartbeat", "it was never disturbed");
        second = WebSocketServer::over(address.to_string(), first.handle());
    }
}

#[test]
fn what_is_set_too_late_or_wrong_is_said() {
    let mut server = server();
    assert!(matches!(server.reload_tls(), Err(Error::Connection(_))));
    assert_eq!((server.local_addr(), server.url()), (None, None));
    server.allow_origin("panel.example").unwrap();
    assert!(
        matches!(server.start(), Err(Error::Message(text)) if text.contains("'panel.example' is no origin"))
    );
    let mut config = WebSocketConfig::default();
    config.allowed_origins.push("https://panel.example".to_owned());
    server.set_config(config).unwrap();
    server.start().unwrap();
    assert!(matches!(server.set_pages(Pages::new()), Err(Error::Message(_))));
    assert!(matches!(server.start(), Err(Error::Message(_))));
    assert!(matches!(server.reload_tls(), Err(Error::Message(text)) if text.contains("no TLS")));
    let taken: SocketAddr = server.local_addr().unwrap();
    let mut second = WebSocketServer::new(taken.to_string(), HubConfig::new(keys(), 1)).unwrap();
    assert!(matches!(second.start(), Err(Error::Connection(text)) if text.contains("in use")));
}

#[test]
fn a_port_that_was_inherited_is_served_under_the_same_rules() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    let listener = WebSocketListener::from_inherited(socket, WebSocketConfig::default()).unwrap();
    assert_eq!((listener.local_addr(), listener.door().local_addr()), (local, local));
    let mut stream = TcpStream::connect(local).unwrap();
    stream.write_all(b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    // Everybody's without TLS is nobody's, whoever has opened it.
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let refused = WebSocketListener::from_inherited(open, WebSocketConfig::default());
    assert!(matches!(refused, Err(Error::Authorization(text)) if text.contains("without TLS")));
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
