//! A service and strangers that mean harm to the client.

use std::sync::mpsc;
use std::time::Instant;

use dbus::Message;
use visorbus_core::ErrorKind;
use visorbus_dbus::{DBusClient, DBusClientState};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;

use crate::home::{NAME, PATH, Small, client};

#[test]
fn answers_that_cannot_be_read_safely_are_errors_and_the_client_goes_on() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    for member in ["Descriptor", "Hidden", "Deep"] {
        let error = client.call_method(NAME, member, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Serialization, "{member}: {error}");
        assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);
    }
}

#[test]
fn a_signal_that_panics_who_reads_it_carelessly_ends_neither_handlers_nor_client() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    let (heard, told) = mpsc::channel();
    client.register_signal_handler(NAME, "Told", |signal| drop(signal.get_items())).unwrap();
    client
        .register_signal_handler(NAME, "Told", move |signal| {
            heard.send(DBusClient::signal_args(signal).map_err(|error| error.kind())).unwrap();
        })
        .unwrap();
    client.call_method(NAME, "TellDescriptor", &[]).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::Serialization));
    client.call_method(NAME, "Flood", &[1_u32.into()]).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(vec![0_u32.into()]));
}

#[test]
fn a_flood_of_calls_and_signals_from_a_stranger_reaches_no_handler_and_keeps_nobody_waiting() {
    let bus = DbusDaemon::start();
    let _service = Small::start(&bus);
    let client = client(&bus);
    client.register_signal_handler(NAME, "", |signal| panic!("{signal:?}")).unwrap();
    let DBusClientState::Connected { unique_name, .. } = client.state() else { panic!() };
    let stranger = bus.connect();
    for _ in 0..10_000 {
        let mut signal = Message::new_signal(PATH, NAME, "Told").unwrap().append1("x".repeat(100));
        signal.set_destination(Some(unique_name.as_str().into()));
        stranger.send(signal).unwrap();
        // It never reads the answers.
        stranger.send(Message::call_with_args(unique_name.as_str(), "/", NAME, "Echo", ())).unwrap();
    }
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(client.call_method(NAME, "Echo", &[]).unwrap(), []);
    }
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn an_answer_of_a_stranger_is_not_taken_for_the_service_s() {
    let bus = DbusDaemon::start();
    let service = Small::start(&bus);
    let client = client(&bus);
    let DBusClientState::Connected { unique_name, .. } = client.state() else { panic!() };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.call_method(NAME, "Silence", &[]));
        service.await_call("Silence");
        // Answers to every serial that the call may have.
        let stranger = bus.connect();
        for serial in 1..100 {
            let mut call = Message::call_with_args(NAME, PATH, NAME, "Silence", ());
            call.set_serial(serial);
            call.set_sender(Some(unique_name.as_str().into()));
            stranger.send(call.method_return().append1("forged")).unwrap();
        }
        let id = Message::call_with_args("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId", ());
        stranger.send_with_reply_and_block(id, PATIENCE).unwrap();
        assert_eq!(
            client.call_method(NAME, "Echo", &[]).unwrap(),
            [],
            "what was forged has arrived before this, or never"
        );
        client.disconnect();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Connection);
    });
}
