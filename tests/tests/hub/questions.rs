//! What the program that the hub runs in asks itself, of peers and of handlers: the answers, and what may go wrong.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_core::IpcError;
use visorbus_core::bus;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::{HubHandle, Limits, OwnedMessage, OwnedPayload, Result};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::expect_error;

use crate::harness::{Client, TestHub, text};

#[test]
fn the_program_asks_a_peer_and_has_its_answer() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut server = hub.connect("server", &[]);
    // The hub has questions of its own to the session, by ids of their own.
    for round in 0..20 {
        let asked = ask(&hub, OwnedMessage::request("server/add", OwnedPayload::Json("[1,2]".to_owned())));
        let call = server.read_call();
        assert_eq!((call.source.as_str(), call.destination.as_str()), ("bus", "server/add"));
        assert_eq!(call.payload.borrow(), MessagePayload::Json("[1,2]"));
        assert!(call.flags.timeout_ms.is_some_and(|ms| ms > 1_000), "{:?}", call.flags);
        server.answer(&call, &round.to_string());
        let answer = asked.join().unwrap().unwrap();
        assert_eq!((answer.source.as_str(), text(&answer)), ("server", round.to_string().as_str()));
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn a_handler_that_may_block_asks_as_its_component_and_one_that_runs_inline_is_refused() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    for (id, may_block) in [("manager", true), ("hasty", false)] {
        let asker = Asker { id, may_block, hub: hub.handle.clone(), to: "server/x", source: "manager/asks" };
        hub.handle.register_handler(Box::new(asker)).unwrap();
    }
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    let waits = caller.send_request("manager/go", MessagePayload::Empty);
    let call = server.read_call();
    assert_eq!(call.source, "manager/asks");
    server.answer(&call, "from afar");
    assert_eq!(text(&caller.answer_to(waits).unwrap()), "from afar");
    let refused = caller.request("hasty/go", MessagePayload::Empty);
    expect_error(refused, ErrorKind::Internal, "cannot wait for its own hub");
    innocent.is_served_alone(&hub);
    assert!(server.is_quiet_for(Duration::from_millis(20)), "nothing more was asked");
}

#[test]
fn handlers_are_asked_inline_and_on_the_pool_and_what_they_refuse_or_panic_over_is_told() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    assert_eq!(text(&now(&hub, "echo/ping", "hello").unwrap()), "hello");
    for (id, may_block) in [("inline", false), ("pooled", true)] {
        hub.handle.register_handler(Box::new(Moody { id, may_block })).unwrap();
        let address = |what: &str| format!("{id}/{what}");
        assert_eq!(text(&now(&hub, &address("echo"), "hello").unwrap()), "hello");
        expect_error(now(&hub, &address("refuse"), ""), ErrorKind::Message, "not today");
        expect_error(now(&hub, &address("panic"), ""), ErrorKind::Internal, "the handler panicked");
        assert_eq!(text(&now(&hub, &address("echo"), "goes on").unwrap()), "goes on");
    }
    innocent.is_served();
}

#[test]
fn a_peer_that_goes_fails_what_it_was_asked_at_once() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut server = hub.connect("server", &[]);
    let asked: Vec<_> =
        (0..8).map(|_| ask(&hub, OwnedMessage::request("server/x", OwnedPayload::Empty))).collect();
    (0..8).for_each(|_| drop(server.read_call()));
    let started = Instant::now();
    drop(server);
    for asked in asked {
        expect_error(asked.join().unwrap(), ErrorKind::Connection, "server");
    }
    assert!(started.elapsed() < PATIENCE / 2);
    expect_error(now(&hub, "server/x", ""), ErrorKind::Message, "nobody serves 'server'");
    innocent.is_served_alone(&hub);
}

#[test]
fn whoever_does_not_answer_in_time_is_told_that_nobody_waits() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let started = Instant::now();
    let message = OwnedMessage::request("server/slow", OwnedPayload::Empty);
    let outcome = hub.handle.request(message, Duration::from_millis(60));
    expect_error(outcome, ErrorKind::Timeout, "'server/slow' did not answer in time");
    assert!(started.elapsed() < PATIENCE / 2);
    let call = server.read_call();
    server.read_topic(bus::CANCEL);
    server.answer(&call, "too late");
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "server" && peer.late == 1));
    let asked = ask(&hub, OwnedMessage::request("server/x", OwnedPayload::Empty));
    let next = server.read_call();
    assert_ne!(next.id, call.id);
    server.answer(&next, "in time");
    assert_eq!(text(&asked.join().unwrap().unwrap()), "in time");
}

#[test]
fn nobody_answers_in_the_place_of_another() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut mallory = hub.connect("mallory", &["*"]);
    let asked = ask(&hub, OwnedMessage::request("server/x", OwnedPayload::Empty));
    let call = server.read_call();
    for destination in ["bus", "echo", "server"] {
        let forged = Message {
            id: call.id,
            destination: Some(Address::new(destination).unwrap()),
            ..Message::notification(1, Address::literal("bus"))
        };
        let forged = Message { message_type: MessageType::Response, ..forged };
        mallory.send(&forged.with_payload(MessagePayload::String("forged")));
    }
    mallory.request("echo/ping", MessagePayload::Empty).unwrap();
    server.answer(&call, "true");
    assert_eq!(text(&asked.join().unwrap().unwrap()), "true");
}

#[test]
fn what_cannot_be_asked_is_refused_before_anybody_hears_of_it() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let request = |to: &str| OwnedMessage::request(to, OwnedPayload::Empty);
    let refused = |message: OwnedMessage, text: &str| {
        expect_error(hub.handle.request(message, PATIENCE), ErrorKind::Message, text);
    };
    refused(OwnedMessage::notification("server/x", OwnedPayload::Empty), "only a request has an answer");
    refused(request("bus/services"), "by the methods of its handle");
    refused(request(""), "by the methods of its handle");
    refused(request("SERVER"), "not an address");
    refused(
        OwnedMessage { source: "stranger/x".to_owned(), ..request("server/x") },
        "no handler of the hub's",
    );
    let mut sealed = request("server/x");
    sealed.flags.encrypted = true;
    refused(sealed, "no key");
    let long = OwnedPayload::String("x".repeat(2 << 20));
    refused(OwnedMessage::request("server/x", long.clone()), "takes at most");
    hub.handle.register_handler(Box::new(Moody { id: "pooled", may_block: true })).unwrap();
    refused(OwnedMessage { source: "pooled/x".to_owned(), ..request("pooled/echo") }, "asks itself");
    assert!(server.is_quiet_for(Duration::from_millis(20)));
}

#[test]
fn so_many_may_wait_and_no_more() {
    let limits = Limits { pending_calls: 2, ..Limits::default() };
    let hub = TestHub::with_limits(limits);
    let mut server = hub.connect("server", &[]);
    let asked = [(); 2].map(|()| ask(&hub, OwnedMessage::request("server/x", OwnedPayload::Empty)));
    let calls = [server.read_call(), server.read_call()];
    expect_error(now(&hub, "server/x", ""), ErrorKind::Message, "2 requests of this program wait");
    expect_error(now(&hub, "echo/ping", ""), ErrorKind::Message, "2 requests of this program wait");
    calls.iter().for_each(|call| server.answer(call, "there"));
    asked.into_iter().for_each(|asked| drop(asked.join().unwrap().unwrap()));
    assert_eq!(text(&now(&hub, "echo/ping", "again").unwrap()), "again");
}

#[test]
fn whoever_waits_when_the_hub_stops_is_told_so_at_once() {
    let mut hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let asked = ask(&hub, OwnedMessage::request("server/x", OwnedPayload::Empty));
    server.read_call();
    hub.stop().unwrap();
    expect_error(asked.join().unwrap(), ErrorKind::Connection, "the hub has ended");
    expect_error(now(&hub, "server/x", ""), ErrorKind::Connection, "the hub has ended");
}

#[test]
fn a_hub_that_is_held_up_by_an_inline_handler_does_not_hold_up_who_asks() {
    let hub = TestHub::start();
    let (entered, is_in) = sync_channel(0);
    let (leave, may_leave) = sync_channel::<()>(0);
    hub.handle.register_handler(Box::new(Held { entered, may_leave })).unwrap();
    let mut caller = hub.connect("caller", &["*"]);
    let waits = caller.send_request("held/x", MessagePayload::Empty);
    is_in.recv_timeout(PATIENCE).unwrap();
    let message = OwnedMessage::request("echo/ping", OwnedPayload::Empty);
    let error = hub.handle.request(message, Duration::from_millis(10)).unwrap_err();
    // By name, once it has done so for long.
    let who = ["a handler that runs inline", "the handler 'held', which runs inline,"];
    let is_said = who.iter().any(|who| error.to_string().contains(&format!("{who} holds it up")));
    assert!(error.kind() == ErrorKind::Timeout && is_said, "{error}");
    leave.send(()).unwrap();
    caller.answer_to(waits).unwrap();
    assert_eq!(text(&now(&hub, "echo/ping", "free").unwrap()), "free");
}

/// Asks on a thread of its own.
fn ask(hub: &TestHub, message: OwnedMessage) -> thread::JoinHandle<Result<OwnedMessage>> {
    let handle = hub.handle.clone();
    thread::spawn(move || handle.request(message, PATIENCE))
}

fn now(hub: &TestHub, address: &str, text: &str) -> Result<OwnedMessage> {
    hub.handle.request(OwnedMessage::request(address, OwnedPayload::String(text.to_owned())), PATIENCE)
}

/// Asks somebody else before it answers.
struct Asker {
    id: &'static str,
    may_block: bool,
    hub: HubHandle,
    to: &'static str,
    source: &'static str,
}

impl MessageHandler for Asker {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn handle_message(
        &mut self,
        _: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        let asked = OwnedMessage {
            source: self.source.to_owned(),
            ..OwnedMessage::request(self.to, OwnedPayload::Empty)
        };
        match self.hub.request(asked, PATIENCE) {
            Ok(answer) => reply.payload(answer.payload.borrow()),
            Err(error) => reply.error(&IpcError::new(error.kind(), error.text().as_str())),
        }
    }
}

/// Answers, refuses or panics, as the address says.
struct Moody {
    id: &'static str,
    may_block: bool,
}

impl MessageHandler for Moody {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn handle_message(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        match message.destination.and_then(|to| to.as_str().split('/').nth(1)) {
            Some("refuse") => Err(IpcError::Message("not today")),
            Some("panic") => panic!("as the test wants it"),
            _ => reply.payload(message.payload),
        }
    }
}

/// Holds up the hub until it may leave.
struct Held {
    entered: SyncSender<()>,
    may_leave: std::sync::mpsc::Receiver<()>,
}

impl MessageHandler for Held {
    fn id(&self) -> &str {
        "held"
    }

    fn handle_message(&mut self, _: &Message<'_>, _: &mut Reply<'_>) -> std::result::Result<(), IpcError> {
        self.entered.send(()).map_err(|_| IpcError::Internal("the test is over"))?;
        self.may_leave.recv_timeout(PATIENCE).map_err(|_| IpcError::Timeout("it was not let go"))
    }
}
