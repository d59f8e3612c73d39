//! The client against a hand-made hub that does what a real one would not.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_core::bus::{self, Missed, SlowConsumer, Subscribe};
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::{IpcError, Message, MessageType};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload};
use visorbus_unix::{ClientConfig, Delivery, StateChange, UnixSocketClient};

use crate::opposite::{Opposite, SOON};

fn connected(hub: &Opposite) -> UnixSocketClient {
    let client = UnixSocketClient::new(&hub.path, "cli").unwrap();
    client.connect().unwrap();
    client
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

#[test]
fn a_request_is_answered_and_keeps_the_id_that_its_caller_gave_it() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    let mut request = OwnedMessage::request("echo/a", text("hello"));
    request.id = 77;
    let answer = client.send_request(&request, Some(Duration::from_millis(1500))).unwrap();
    assert_eq!((answer.id, answer.payload), (77, text("hello")));
    let sent = hub.next();
    assert_eq!(sent.flags.timeout_ms, Some(1500), "the time left travels with the request");
}

#[test]
fn payloads_of_every_size_come_back() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    for size in [0, 1, 64, 4096, 65_535, 65_536, 100_000, 1_000_000, 70_000, 5] {
        let payload = OwnedPayload::Binary((0..size).map(|at| (at % 251) as u8).collect());
        let answer = client.send_request(OwnedMessage::request("echo/a", payload.clone()), None).unwrap();
        assert!(answer.payload == payload, "{size}");
    }
}

#[test]
fn a_client_that_was_never_connected_says_so() {
    let hub = Opposite::echoing();
    let client = UnixSocketClient::new(&hub.path, "cli").unwrap();
    assert!(!client.is_connected());
    let error = client.send_request(OwnedMessage::request("echo/a", text("")), None).unwrap_err();
    assert!(error.to_string().contains("call connect() first"), "{error}");
}

#[test]
fn a_message_longer_than_the_hub_takes_is_refused_here() {
    let home = tempfile::TempDir::new().unwrap();
    let hub = Opposite::start_at(home.path().join("hub.sock"), 1000, |message, answer| answer.echo(message));
    let client = connected(&hub);
    let long = OwnedMessage::request("echo/a", OwnedPayload::Binary(vec![0; 1000]));
    let error = client.send_request(&long, None).unwrap_err();
    assert!(matches!(&error, Error::Message(text) if text.contains("the hub takes 1000")), "{error}");
    client.send_request(OwnedMessage::request("echo/a", text("short")), None).unwrap();
}

#[test]
fn an_address_that_is_none_is_refused_here() {
    let hub = Opposite::echoing();
    let error = connected(&hub).send_request(OwnedMessage::request("Echo//a", text("")), None).unwrap_err();
    assert!(matches!(error, Error::Message(_)), "{error}");
}

#[test]
fn an_answer_that_comes_too_late_is_nobodys() {
    let hub = Opposite::start(|message, answer| {
        let to = message.destination.map_or("", |to| to.as_str());
        if to == "echo/late" {
            return;
        }
        // The late one, under the id before this request's.
        let mut late = *message;
        late.id -= 1;
        answer.echo(&late.with_payload(visorbus_core::MessagePayload::String("late")));
        answer.echo(message);
    });
    let client = connected(&hub);
    let started = Instant::now();
    let late = OwnedMessage::request("echo/late", text("x"));
    let error = client.send_request(&late, Some(Duration::from_millis(40))).unwrap_err();
    assert!(matches!(&error, Error::Timeout(text) if text.contains("echo/late")), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(40));
    let answer = client.send_request(OwnedMessage::request("echo/a", text("now")), None).unwrap();
    assert_eq!(answer.payload, text("now"));
}

#[test]
fn what_the_other_end_refuses_is_an_error_of_its_kind() {
    let hub = Opposite::start(|message, answer| {
        let refusal = [&[2][..], b"not for you"].concat();
        let error = message.answer(MessageType::Error);
        answer.send(&error.with_payload(visorbus_core::MessagePayload::Binary(&refusal)));
    });
    let error = connected(&hub).send_request(OwnedMessage::request("echo/a", text("")), None).unwrap_err();
    assert_eq!(error, Error::Authorization("not for you".to_owned()));
}

#[test]
fn eight_threads_call_at_once_and_each_gets_its_own_answer() {
    let hub = Opposite::echoing();
    for with_thread in [false, true] {
        let client = connected(&hub);
        let _subscription = with_thread.then(|| client.subscribe("a/*", SlowConsumer::Latest).unwrap());
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for caller in 0..8 {
                let (client, start) = (&client, &start);
                scope.spawn(move || {
                    start.wait();
                    for number in 0..300 {
                        let payload = text(&format!("{caller} {number}"));
                        let request = OwnedMessage::request("echo/a", payload.clone());
                        assert_eq!(client.send_request(&request, Some(SOON)).unwrap().payload, payload);
                    }
                });
            }
        });
    }
}

#[test]
fn threads_whose_answers_come_in_another_order_all_get_theirs() {
    // Answers are held until all eight requests are there, then given in reverse.
    let mut held: Vec<OwnedMessage> = Vec::new();
    let hub = Opposite::start(move |message, answer| {
        held.push(OwnedMessage::from(message));
        if held.len() == 8 {
            held.drain(..).rev().for_each(|message| answer.echo(&message.borrow().unwrap()));
        }
    });
    let client = connected(&hub);
    thread::scope(|scope| {
        for caller in 0..8 {
            let client = &client;
            scope.spawn(move || {
                let payload = text(&caller.to_string());
                let request = OwnedMessage::request("echo/a", payload.clone());
                assert_eq!(client.send_request(&request, Some(SOON)).unwrap().payload, payload);
            });
        }
    });
}

#[test]
fn one_caller_that_times_out_leaves_the_reading_to_the_others() {
    let (release, held) = channel::<()>();
    let hub = Opposite::start(move |message, answer| {
        if message.destination.is_some_and(|to| to.as_str() == "echo/slow") {
            held.recv_timeout(SOON).unwrap();
            answer.echo(message);
        }
    });
    let client = connected(&hub);
    thread::scope(|scope| {
        let quick = scope.spawn(|| {
            let never = OwnedMessage::request("echo/never", text(""));
            client.send_request(&never, Some(Duration::from_millis(50)))
        });
        hub.next();
        let slow =
            scope.spawn(|| client.send_request(OwnedMessage::request("echo/slow", text("x")), Some(SOON)));
        hub.next();
        assert!(matches!(quick.join().unwrap(), Err(Error::Timeout(_))));
        release.send(()).unwrap();
        assert_eq!(slow.join().unwrap().unwrap().payload, text("x"));
    });
}

#[test]
fn requests_that_wait_fail_at_once_when_the_connection_is_lost() {
    for with_thread in [false, true] {
        let hub = Opposite::start(|message, answer| {
            if message.destination.is_some_and(|to| to.component() == "bus") {
                answer.echo(message);
            }
        });
        let client = connected(&hub);
        let _subscription = with_thread.then(|| client.subscribe("a/*", SlowConsumer::Latest).unwrap());
        thread::scope(|scope| {
            let wait = || client.send_request(OwnedMessage::request("echo/never", text("")), Some(SOON * 6));
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(wait)).collect();
            while waiting.len() != 3 || hub.next().destination != "echo/never" {}
            hub.next();
            hub.next();
            let started = Instant::now();
            hub.cut();
            for caller in waiting {
                let error = caller.join().unwrap().unwrap_err();
                assert!(
                    matches!(&error, Error::Connection(text) if text.contains("was lost while")),
                    "{error}"
                );
            }
            assert!(started.elapsed() < SOON);
        });
    }
}

#[test]
fn the_next_call_connects_again_where_the_client_has_no_thread() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    client.send_request(OwnedMessage::request("echo/a", text("1")), None).unwrap();
    hub.cut();
    // Whether the loss is noticed by writing or by reading is a matter of timing; a caller that is told tries again.
    let request = OwnedMessage::request("echo/a", text("2"));
    let again = client.send_request(&request, None).or_else(|_| client.send_request(&request, None));
    assert_eq!(again.unwrap().payload, text("2"));
    assert!(client.is_connected());
}

#[test]
fn a_client_told_not_to_reconnect_does_not() {
    let hub = Opposite::echoing();
    let config = ClientConfig { reconnect: false, ..ClientConfig::default() };
    let client = UnixSocketClient::with_config(&hub.path, "cli", config).unwrap();
    client.connect().unwrap();
    hub.cut();
    while client.is_connected() {
        thread::yield_now();
    }
    let error = client.send_request(OwnedMessage::request("echo/a", text("")), None).unwrap_err();
    assert!(error.to_string().contains("call connect() again"), "{error}");
    client.connect().unwrap();
    client.send_request(OwnedMessage::request("echo/a", text("")), None).unwrap();
}

#[test]
fn the_end_of_an_idle_connection_is_noticed_when_asked() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    assert!(client.is_connected());
    hub.cut();
    while client.is_connected() {
        thread::yield_now();
    }
}

#[test]
fn disconnecting_fails_what_waits_and_says_goodbye() {
    let hub = Opposite::start(|_, _| {});
    let client = connected(&hub);
    thread::scope(|scope| {
        let waiting =
            scope.spawn(|| client.send_request(OwnedMessage::request("a/b", text("")), Some(SOON * 6)));
        hub.next();
        client.disconnect();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("has disconnected"), "{error}");
    });
    assert!(!client.is_connected());
    assert!(client.send_message(OwnedMessage::notification("a/b", text(""))).is_err());
}

#[test]
fn a_subscription_gets_what_its_pattern_selects_and_what_was_missed() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    let subscription = client.subscribe("imu/*", SlowConsumer::DropOldest(8)).unwrap();
    let asked = hub.next();
    assert_eq!(asked.destination, bus::SUBSCRIBE);
    let wanted = Subscribe { pattern: "imu/*", policy: SlowConsumer::DropOldest(8) };
    assert_eq!(asked.payload.borrow().parse::<Subscribe<'_>>().unwrap(), wanted);
    hub.send(&OwnedMessage::notification("imu/sample", text("1")));
    hub.send(&OwnedMessage::notification("other/sample", text("2")));
    let missed = OwnedPayload::postcard(&Missed { pattern: "imu/*", count: 37 }).unwrap();
    hub.send(&OwnedMessage::notification(bus::MISSED, missed));
    hub.send(&OwnedMessage::notification("imu/info", text("3")));
    let mut got = Vec::new();
    while got.len() < 3 {
        match subscription.recv(Some(SOON)).unwrap().expect("a delivery") {
            Delivery::Message(message) => got.push(message.destination),
            Delivery::Missed(count) => got.push(format!("missed {count}")),
        }
    }
    got.sort();
    assert_eq!(got, ["imu/info", "imu/sample", "missed 37"]);
    assert_eq!(subscription.recv(Some(Duration::from_millis(1))).unwrap(), None);
    subscription.unsubscribe().unwrap();
    assert_eq!(hub.next().destination, bus::UNSUBSCRIBE);
}

#[test]
fn a_dropped_subscription_is_taken_back_when_it_is_the_last_of_its_pattern() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    let first = client.subscribe("imu/*", SlowConsumer::Latest).unwrap();
    let second = client.subscribe("imu/*", SlowConsumer::Latest).unwrap();
    drop(first);
    client.send_request(OwnedMessage::request("echo/a", text("")), None).unwrap();
    drop(second);
    let heard: Vec<_> = (0..4).map(|_| hub.next().destination).collect();
    assert_eq!(heard, [bus::SUBSCRIBE, bus::SUBSCRIBE, "echo/a", bus::UNSUBSCRIBE]);
}

#[test]
fn a_callback_may_call_the_client_while_more_arrives() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    let (told, tell) = channel();
    let caller = client.clone();
    let guard = client
        .subscribe_with("imu/*", SlowConsumer::default(), move |delivery| {
            let Delivery::Message(message) = delivery else { return };
            let request = OwnedMessage::request("echo/a", message.payload);
            told.send(caller.send_request(&request, Some(SOON)).unwrap().payload).unwrap();
        })
        .unwrap();
    for number in 0..50 {
        hub.send(&OwnedMessage::notification("imu/sample", text(&number.to_string())));
    }
    for number in 0..50 {
        assert_eq!(tell.recv_timeout(SOON).unwrap(), text(&number.to_string()));
    }
    drop(guard);
}

#[test]
fn a_callback_that_panics_is_called_again() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    let (told, tell) = channel();
    let _guard = client
        .subscribe_with("imu/*", SlowConsumer::default(), move |delivery| {
            let Delivery::Message(message) = delivery else { return };
            assert_ne!(message.payload, text("bad"), "this panic is part of a test");
            told.send(message.payload).unwrap();
        })
        .unwrap();
    hub.send(&OwnedMessage::notification("imu/a", text("bad")));
    hub.send(&OwnedMessage::notification("imu/a", text("good")));
    assert_eq!(tell.recv_timeout(SOON).unwrap(), text("good"));
}

#[test]
fn a_handler_answers_requests_that_the_hub_hands_on() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    client.register_handler(Box::new(Echo("mirror"))).unwrap();
    assert_eq!(hub.next().destination, bus::REGISTER);
    let mut request = OwnedMessage::request("mirror/a", text("hello"));
    (request.id, request.source) = (5, "someone".to_owned());
    hub.send(&request);
    let answer = hub.next();
    assert_eq!((answer.id, answer.message_type), (5, MessageType::Response));
    assert_eq!((answer.destination.as_str(), answer.payload), ("someone", text("hello")));

    assert!(client.register_handler(Box::new(Echo("mirror"))).is_err(), "it is served already");
    client.unregister_handler("mirror").unwrap();
    assert_eq!(hub.next().destination, bus::UNREGISTER);
    hub.send(&request);
    let refusal = hub.next();
    assert_eq!((refusal.id, refusal.message_type), (5, MessageType::Error));
    assert!(client.unregister_handler("mirror").is_err());
}

#[test]
fn a_handler_may_call_through_its_client_and_what_arrives_meanwhile_waits_for_it() {
    struct Nested(UnixSocketClient);
    impl MessageHandler for Nested {
        fn id(&self) -> &str {
            "nested"
        }
        fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
            let request = OwnedMessage::request("echo/a", OwnedPayload::from(message.payload));
            let answer =
                self.0.send_request(&request, Some(SOON)).map_err(|_| IpcError::Internal("echo failed"))?;
            reply.payload(answer.payload.borrow())
        }
    }
    let hub = Opposite::echoing();
    let client = connected(&hub);
    client.register_handler(Box::new(Nested(client.clone()))).unwrap();
    hub.next();
    for id in 1..=20 {
        let mut request = OwnedMessage::request("nested/a", text(&id.to_string()));
        request.id = id;
        hub.send(&request);
    }
    let mut answered = Vec::new();
    while answered.len() < 20 {
        let heard = hub.next();
        if heard.message_type == MessageType::Response {
            assert_eq!(heard.payload, text(&heard.id.to_string()));
            answered.push(heard.id);
        }
    }
    assert_eq!(answered, (1..=20).collect::<Vec<_>>());
    client.unregister_handler("nested").unwrap();
}

#[test]
fn a_handler_that_panics_or_asks_for_a_scope_is_an_error_to_its_caller() {
    struct Odd;
    impl MessageHandler for Odd {
        fn id(&self) -> &str {
            "odd"
        }
        fn access(&self, address: visorbus_core::message::Address<'_>) -> visorbus_core::auth::Access<'_> {
            match address.path() {
                "scoped" => visorbus_core::auth::Access::Scope("odd.control"),
                _ => visorbus_core::auth::Access::Permission,
            }
        }
        fn handle_message(&mut self, _: &Message<'_>, _: &mut Reply<'_>) -> Result<(), IpcError> {
            panic!("this panic is part of a test")
        }
    }
    let hub = Opposite::echoing();
    let client = connected(&hub);
    client.register_handler(Box::new(Odd)).unwrap();
    hub.next();
    for (address, reason) in [("odd/scoped", "needs a scope"), ("odd/panics", "panicked")] {
        hub.send(&OwnedMessage { id: 9, ..OwnedMessage::request(address, text("")) });
        let error = hub.next().error().expect("an error");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn subscriptions_and_handlers_come_back_after_a_reconnect() {
    let home = tempfile::TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    let answer_bus = |message: &Message<'_>, answer: &crate::opposite::Answer<'_>| {
        if message.wants_answer() {
            answer.echo(message);
        }
    };
    let hub = Opposite::start_at(path.clone(), 1 << 20, answer_bus);
    let client = connected(&hub);
    let (told, tell) = channel();
    client.on_state_change(move |change| told.send(change).unwrap()).unwrap();
    let subscription = client.subscribe("imu/*", SlowConsumer::Latest).unwrap();
    client.register_handler(Box::new(Echo("mirror"))).unwrap();
    drop(hub);
    assert!(matches!(tell.recv_timeout(SOON).unwrap(), StateChange::Disconnected(_)));
    assert!(client.send_request(OwnedMessage::request("echo/a", text("")), None).is_err());
    let hub = Opposite::start_at(path, 1 << 20, answer_bus);
    assert_eq!(tell.recv_timeout(SOON).unwrap(), StateChange::Connected);
    let mut heard = [hub.next().destination, hub.next().destination];
    heard.sort();
    assert_eq!(heard, [bus::REGISTER, bus::SUBSCRIBE]);
    hub.send(&OwnedMessage::notification("imu/sample", text("back")));
    let delivery = subscription.recv(Some(SOON)).unwrap();
    assert!(matches!(delivery, Some(Delivery::Message(message)) if message.payload == text("back")));
}

#[test]
fn what_nobody_subscribed_to_goes_to_the_catch_all() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    let (told, tell) = channel();
    client.on_message(move |delivery| told.send(delivery).unwrap()).unwrap();
    hub.send(&OwnedMessage::notification("cli/hello", text("you")));
    let delivery = tell.recv_timeout(SOON).unwrap();
    assert!(matches!(delivery, Delivery::Message(message) if message.destination == "cli/hello"));
}

#[test]
fn dropping_the_last_clone_ends_the_thread_and_the_subscriptions() {
    let hub = Opposite::echoing();
    let client = connected(&hub);
    let subscription = client.subscribe("imu/*", SlowConsumer::Latest).unwrap();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let guard =
        client.subscribe_with("imu/*", SlowConsumer::Latest, move |_| drop(Arc::clone(&held))).unwrap();
    drop(client.clone());
    assert!(client.is_connected());
    drop(client);
    assert!(matches!(subscription.recv(Some(SOON)), Err(Error::Connection(_))));
    drop(guard);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_hub_that_stops_reading_fails_the_sender_in_time() {
    let (release, held) = channel::<()>();
    let hub = Opposite::start(move |_, _| {
        let _ = held.recv_timeout(SOON);
    });
    let config = ClientConfig { timeout: Duration::from_millis(100), ..ClientConfig::default() };
    let client = UnixSocketClient::with_config(&hub.path, "cli", config).unwrap();
    client.connect().unwrap();
    let big = OwnedMessage::notification("a/b", OwnedPayload::Binary(vec![0; 1_000_000]));
    let error = (0..10).find_map(|_| client.send_message(&big).err()).expect("an error");
    assert!(matches!(error, Error::Connection(_) | Error::Timeout(_)), "{error}");
    drop(release);
    // What was cut short is finished by the next who sends.
    let next = OwnedMessage::notification("a/c", text("after"));
    while client.send_message(&next).is_err() {}
    while hub.next().destination != "a/c" {}
}

#[test]
fn answers_that_pile_up_while_a_long_message_is_sent_are_read_meanwhile() {
    // The opposite end writes as much as it reads and does not read while it cannot write.
    let hub = Opposite::echoing();
    let client = connected(&hub);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let payload = OwnedPayload::Binary(vec![3; 900_000]);
                let request = OwnedMessage::request("echo/a", payload);
                for _ in 0..5 {
                    assert_eq!(client.send_request(&request, Some(SOON)).unwrap().payload, request.payload);
                }
            });
        }
    });
}

#[test]
fn a_client_told_to_connect_anew_says_goodbye_and_brings_everything_along() {
    let hub = Opposite::start(|message, answer| {
        if message.wants_answer() && message.destination.is_some_and(|to| to.as_str() != "echo/never") {
            answer.echo(message);
        }
    });
    let client = connected(&hub);
    let (told, tell) = channel();
    client.on_state_change(move |change| told.send(change).unwrap()).unwrap();
    let _subscription = client.subscribe("imu/*", SlowConsumer::Latest).unwrap();
    client.register_handler(Box::new(Echo("mirror"))).unwrap();
    assert_eq!([hub.next().destination, hub.next().destination], [bus::SUBSCRIBE, bus::REGISTER]);
    let waiting = client.clone();
    let waiting =
        thread::spawn(move || waiting.send_request(OwnedMessage::request("echo/never", text("")), None));
    assert_eq!(hub.next().destination, "echo/never");
    client.reconnect().unwrap();
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Connection(text) if text.contains("disconnected")), "{error}");
    let mut heard = [hub.next().destination, hub.next().destination];
    heard.sort();
    assert_eq!(heard, [bus::REGISTER, bus::SUBSCRIBE]);
    assert!(matches!(tell.recv_timeout(SOON).unwrap(), StateChange::Disconnected(_)));
    assert_eq!(tell.recv_timeout(SOON).unwrap(), StateChange::Connected);
}

#[test]
fn connecting_anew_where_nobody_serves_fails_and_is_tried_again_by_itself() {
    let home = tempfile::TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    let hub = Opposite::start_at(path.clone(), 1 << 20, |_, _| {});
    let client = connected(&hub);
    let (told, tell) = channel();
    client.on_state_change(move |change| told.send(change).unwrap()).unwrap();
    drop(hub);
    assert!(matches!(tell.recv_timeout(SOON).unwrap(), StateChange::Disconnected(_)));
    let error = client.reconnect().unwrap_err();
    assert!(matches!(&error, Error::Connection(_)), "{error}");
    let _hub = Opposite::start_at(path, 1 << 20, |_, _| {});
    assert_eq!(tell.recv_timeout(SOON).unwrap(), StateChange::Connected);
}

#[test]
fn connecting_anew_connects_a_client_that_never_was() {
    let hub = Opposite::echoing();
    let client = UnixSocketClient::new(&hub.path, "cli").unwrap();
    client.reconnect().unwrap();
    client.send_request(OwnedMessage::request("echo/a", text("hello")), None).unwrap();
}
