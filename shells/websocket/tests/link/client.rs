use std::time::Duration;

use visorbus_client::Delivery;
use visorbus_core::bus::SlowConsumer;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload};
use visorbus_websocket::{WebSocketClient, WebSocketConnection};

use crate::home::Home;

const SOON: Duration = Duration::from_secs(60);

fn bytes(len: usize) -> OwnedPayload {
    OwnedPayload::Binary((0..len).map(|at| at as u8).collect())
}

fn works(home: &Home) {
    let client = home.client("panel");
    client.connect().unwrap();
    client.authenticate(&home.token("panel")).unwrap();
    for len in [0, 1, 100, 125, 126, 65_535, 65_536, 1_000_000] {
        let request = OwnedMessage::request("echo/a", bytes(len));
        assert_eq!(client.send_request(&request, Some(SOON)).unwrap().payload, bytes(len), "{len} bytes");
    }
    assert_eq!(home.echoed(), 8);
    let reader = home.client("reader");
    reader.connect().unwrap();
    reader.authenticate(&home.token("reader")).unwrap();
    let subscription = reader.subscribe("panel/*", SlowConsumer::DropOldest(100)).unwrap();
    for len in 0..50 {
        client.send_message(OwnedMessage::notification("panel/data", bytes(len * 100))).unwrap();
    }
    for len in 0..50 {
        let delivery = subscription.recv(Some(SOON)).unwrap();
        assert!(matches!(&delivery, Some(Delivery::Message(found)) if found.payload == bytes(len * 100)));
    }
    client.disconnect();
    client.connect().unwrap();
    client.send_request(OwnedMessage::request("echo/a", bytes(1)), Some(SOON)).unwrap();
}

#[test]
fn a_client_calls_publishes_and_subscribes_without_tls() {
    works(&Home::plain());
}

#[test]
fn a_client_calls_publishes_and_subscribes_over_tls() {
    works(&Home::secure());
}

#[test]
fn a_connection_is_driven_by_hand() {
    for home in [Home::plain(), Home::secure()] {
        let mut connection = if home.url().starts_with("wss") {
            WebSocketConnection::connect_tls(&home.url(), "hand", home.files.client()).unwrap()
        } else {
            WebSocketConnection::connect(&home.url(), "hand").unwrap()
        };
        let id = connection.send_message(OwnedMessage::request("bus/hello", OwnedPayload::Empty)).unwrap();
        assert_eq!(connection.wait_message(SOON).unwrap().id, id);
        connection.close("done").unwrap();
    }
}

#[test]
fn where_nobody_serves_or_something_else_the_error_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error =
        WebSocketClient::new(&format!("ws://127.0.0.1:{port}/"), "panel").unwrap().connect().unwrap_err();
    assert!(matches!(&error, Error::Connection(text) if text.contains("start the hub")), "{error}");

    let home = Home::plain();
    let url = format!("{}/elsewhere", home.url().trim_end_matches('/'));
    let error = WebSocketClient::new(&url, "panel").unwrap().connect().unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");

    let home = Home::secure();
    let error =
        WebSocketClient::new(&home.url().replace("wss", "ws"), "panel").unwrap().connect().unwrap_err();
    assert!(error.to_string().contains("TLS") || error.to_string().contains("wss"), "{error}");
}

#[test]
fn a_hub_that_never_answers_is_not_waited_for_longer_than_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let client = WebSocketConnection::connect(&url, "panel");
    assert!(matches!(&client, Err(Error::Timeout(_))), "{client:?}");
}
