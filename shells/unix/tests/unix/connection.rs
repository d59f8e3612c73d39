//! The connection that is driven by hand.

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload};
use visorbus_unix::UnixSocketConnection;

use crate::opposite::{Opposite, SOON};

#[test]
fn a_request_comes_back_with_its_id() {
    let hub = Opposite::echoing();
    let mut connection = UnixSocketConnection::connect(&hub.path, "hand").unwrap();
    assert_eq!(connection.client_id(), "hand");
    assert!(connection.is_authenticated());
    assert!(connection.receive_message().unwrap().is_none());
    let before = connection.last_activity();
    let payload = OwnedPayload::String("hello".to_owned());
    let id = connection.send_message(OwnedMessage::request("echo/a", payload.clone())).unwrap();
    let answer = connection.wait_message(SOON).unwrap();
    assert_eq!((answer.id, answer.payload), (id, payload));
    assert!(connection.last_activity() > before);
}

#[test]
fn messages_before_the_hello_was_answered_are_refused() {
    let (here, _there) = UnixStream::pair().unwrap();
    let mut connection = UnixSocketConnection::new(here, "hand").unwrap();
    let error = connection.send_message(OwnedMessage::request("echo/a", OwnedPayload::Empty)).unwrap_err();
    assert!(error.to_string().contains("hello"), "{error}");
    assert!(!connection.is_authenticated());
}

#[test]
fn a_hub_that_never_answers_ends_in_a_timeout() {
    let (here, _there) = UnixStream::pair().unwrap();
    let mut connection = UnixSocketConnection::new(here, "hand").unwrap();
    let started = Instant::now();
    let error = connection.wait_message(Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(30));
}

#[test]
fn nobody_at_the_path_is_an_error_that_says_where() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    let error = UnixSocketConnection::connect(&path, "hand").unwrap_err();
    assert!(error.to_string().contains("hub.sock") && error.to_string().contains("start the hub"), "{error}");
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(UnixSocketConnection::connect(&path, "hand").unwrap_err(), Error::Connection(_)));
}

#[test]
fn what_arrived_before_the_end_is_taken_before_the_error() {
    let hub = Opposite::start(|message, answer| {
        if message.wants_answer() {
            answer.echo(message);
            answer.hang_up();
        }
    });
    let mut connection = UnixSocketConnection::connect(&hub.path, "hand").unwrap();
    connection.send_message(OwnedMessage::request("echo/a", OwnedPayload::Empty)).unwrap();
    connection.wait_message(SOON).unwrap();
    assert!(matches!(connection.wait_message(SOON).unwrap_err(), Error::Connection(_)));
    assert!(!connection.is_authenticated());
}

#[test]
fn a_closed_connection_stays_closed() {
    let hub = Opposite::echoing();
    let mut connection = UnixSocketConnection::connect(&hub.path, "hand").unwrap();
    connection.close("done").unwrap();
    assert!(connection.close("again").is_err());
    assert!(connection.send_message(OwnedMessage::notification("a/b", OwnedPayload::Empty)).is_err());
}

#[test]
fn a_name_that_is_none_is_refused() {
    for name in ["", "Hand", "a/b", "bus", &"x".repeat(33)] {
        let (here, _there) = UnixStream::pair().unwrap();
        let error = UnixSocketConnection::new(here, name).unwrap_err();
        assert!(error.to_string().contains("cannot name a client"), "{error}");
    }
}
