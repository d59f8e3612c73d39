//! Handlers inside the hub: inline, on the pool, ones that panic and ones that call back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use visorbus_core::IpcError;
use visorbus_core::auth::{Access, Operation};
use visorbus_core::bus::SlowConsumer;
use visorbus_core::dispatch::{Caller, MessageHandler, Reply};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::{HubHandle, Limits, OwnedMessage, OwnedPayload};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::harness::{Client, TestHub, request, text};
use crate::translate::json_peer;

#[test]
fn a_handlers_scope_is_asked_for_before_it_runs() {
    let hub = TestHub::start();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = Handler::new("door", move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    hub.handle.register_handler(Box::new(Handler { scope: Some("door.open"), ..handler })).unwrap();
    let mut guest = hub.connect("guest", &["request:**", "door.close"]);
    let refused = guest.request("door/open", MessagePayload::Empty);
    expect_error(refused, ErrorKind::Authorization, "'door.open'");
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let mut owner = hub.connect("owner", &["door.open"]);
    assert!(owner.request("door/open", MessagePayload::Empty).is_ok());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn what_a_handler_refuses_or_does_not_take_is_told() {
    let hub = TestHub::start();
    let handler = Handler::new("picky", |_, reply| match reply.error(&IpcError::Message("not today")) {
        Ok(()) => Ok(()),
        Err(error) => Err(error),
    });
    hub.handle.register_handler(Box::new(handler)).unwrap();
    let mut peer = hub.connect("peer", &["*"]);
    expect_error(peer.request("picky/x", MessagePayload::Empty), ErrorKind::Message, "not today");
    let mut sealed = request(50, "echo/ping");
    sealed.flags.encrypted = true;
    peer.send(&sealed);
    expect_error(peer.answer_to(50), ErrorKind::Message, "encrypted");
}

#[test]
fn a_handler_that_panics_answers_with_internal_and_the_hub_goes_on() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    for (id, may_block) in [("inline", false), ("pooled", true)] {
        let handler = Handler::new(id, |_, _| panic!("as the test wants it"));
        hub.handle.register_handler(Box::new(Handler { may_block, ..handler })).unwrap();
    }
    let mut peer = hub.connect("peer", &["*"]);
    for _ in 0..5 {
        for address in ["inline/x", "pooled/x"] {
            let outcome = peer.request(address, MessagePayload::Empty);
            expect_error(outcome, ErrorKind::Internal, "the handler panicked");
        }
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn a_handler_sees_who_has_proven_what_inline_and_on_the_pool() {
    let hub = TestHub::start();
    for (id, may_block) in [("inline", false), ("pooled", true)] {
        hub.handle.register_handler(Box::new(WhoAsks { id, may_block })).unwrap();
    }
    let mut alice = hub.connect("alice.panel", &["request:pooled/*"]);
    let mut bob = hub.connect("bob", &["*"]);
    for id in ["inline", "pooled"] {
        let (who, open) = (format!("{id}/who"), format!("{id}/open"));
        assert_eq!(text(&bob.request(&who, MessagePayload::Empty).unwrap()), "bob *");
        assert_eq!(text(&bob.request(&open, MessagePayload::Empty).unwrap()), "bob *");
        let seen = text(&alice.request(&open, MessagePayload::Empty).unwrap()).to_owned();
        assert_eq!(seen, "alice.panel request:pooled/*");
        // The token of a message says who asks with it; one that is no good does not reach the handler.
        let token = hub.token("alice.panel", &["request:**"]);
        let mut own = request(90, &who);
        own.auth_token = Some(&token);
        alice.send(&own);
        assert_eq!(text(&alice.answer_to(90).unwrap()), "alice.panel request:**");
    }
    let refused = alice.request("inline/who", MessagePayload::Empty);
    expect_error(refused, ErrorKind::Authorization, "no permission");
}

/// Says who asks, with which scopes, and that the time is known.
struct WhoAsks {
    id: &'static str,
    may_block: bool,
}

impl MessageHandler for WhoAsks {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn access(&self, address: Address<'_>) -> Access<'_> {
        if address.as_str().ends_with("/open") { Access::Open } else { Access::Permission }
    }

    fn handle_message(&mut self, _message: &Message<'_>, _reply: &mut Reply<'_>) -> Result<(), IpcError> {
        Err(IpcError::Internal("the hub tells who asks"))
    }

    fn handle_for(
        &mut self,
        caller: &Caller<'_>,
        _message: &Message<'_>,
        reply: &mut Reply<'_>,
        _cancelled: &dyn Fn() -> bool,
    ) -> Result<(), IpcError> {
        assert!(caller.unix_now.is_some());
        let grant = caller.grant.ok_or(IpcError::Internal("whoever gets here has proven something"))?;
        let scopes: Vec<&str> = grant.scopes().collect();
        reply.payload(MessagePayload::String(&format!("{} {}", grant.subject(), scopes.join(" "))))
    }
}

#[test]
fn a_handler_that_blocks_holds_up_nobody_and_times_out_like_a_peer() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (gate, opener) = Gate::new("slow");
    hub.handle.register_handler(Box::new(gate)).unwrap();
    let mut peer = hub.connect("peer", &["*"]);
    let mut hasty = request(50, "slow/x");
    hasty.flags.timeout_ms = Some(50);
    peer.send(&hasty);
    peer.send(&request(51, "slow/x"));
    expect_error(peer.answer_to(50), ErrorKind::Timeout, "'slow/x' did not answer in time");
    innocent.is_served_alone(&hub);
    opener.send(()).unwrap();
    opener.send(()).unwrap();
    assert_eq!(text(&peer.answer_to(51).unwrap()), "open");
    assert!(peer.read_so_far().is_empty(), "the late answer goes nowhere");
}

#[test]
fn what_waits_for_a_blocking_handler_is_bounded_by_bytes() {
    let hub = TestHub::with_limits(Limits { queue_bytes: 1 << 20, ..Limits::default() });
    let mut innocent = hub.bystander();
    let (gate, opener) = Gate::new("slow");
    let runs = Arc::clone(&gate.runs);
    hub.handle.register_handler(Box::new(gate)).unwrap();
    let mut peer = hub.connect("flooder", &["*"]);
    let news = "x".repeat(64 << 10);
    for _ in 0..100 {
        peer.notify("slow/x", MessagePayload::String(&news));
    }
    peer.read_so_far();
    let refused = hub.peer("flooder").refused;
    assert!((80..100).contains(&refused), "{refused}");
    let outcome = peer.request("slow/x", MessagePayload::String(&news));
    expect_error(outcome, ErrorKind::Message, "'slow' does not keep up");
    innocent.is_served_alone(&hub);
    // Another peer has a share of its own.
    let mut other = hub.connect("other", &["*"]);
    let id = other.send_request("slow/x", MessagePayload::Empty);
    for _ in 0..=100 - refused {
        opener.send(()).unwrap();
    }
    assert!(other.answer_to(id).is_ok());
    hub.wait_until(|_| runs.load(Ordering::SeqCst) as u64 == 101 - refused);
    let id = peer.send_request("slow/x", MessagePayload::String(&news));
    opener.send(()).unwrap();
    assert!(peer.answer_to(id).is_ok(), "what was dealt with no longer counts");
}

#[test]
fn a_handler_that_does_not_return_keeps_one_thread_and_not_the_pool() {
    let hub = TestHub::with_limits(Limits { pool_threads: 2, ..Limits::default() });
    let (stuck, _never_opened) = Gate::new("stuck");
    hub.handle.register_handler(Box::new(stuck)).unwrap();
    let other = Handler::new("other", |_, _| Ok(()));
    hub.handle.register_handler(Box::new(Handler { may_block: true, ..other })).unwrap();
    let mut impatient = hub.connect("impatient", &["*"]);
    for _ in 0..8 {
        impatient.send_request("stuck/x", MessagePayload::Empty);
    }
    let mut peer = hub.connect("peer", &["*"]);
    for _ in 0..8 {
        assert!(peer.request("other/x", MessagePayload::Empty).is_ok());
        assert!(impatient.request("other/x", MessagePayload::Empty).is_ok());
    }
}

#[test]
fn what_a_program_publishes_for_its_handler_reaches_those_who_may_have_it() {
    let hub = TestHub::start();
    let handler = Handler::new("door", |_, _| Ok(()));
    hub.handle.register_handler(Box::new(handler)).unwrap();
    let mut reader = hub.connect("reader", &["subscribe:door/**"]);
    reader.subscribe("door/opened", SlowConsumer::default()).unwrap();
    let mut stranger = hub.connect("stranger", &["subscribe:other/**"]);
    assert!(stranger.subscribe("door/opened", SlowConsumer::default()).is_err());
    let news = |topic| OwnedMessage::notification(topic, MessagePayload::String("by whom"));
    hub.handle.publish(news("door/opened")).unwrap();
    let heard = reader.read_topic("door/opened");
    assert_eq!((text(&heard), heard.source.as_str()), ("by whom", "door"));
    assert!(stranger.read_so_far().is_empty());
    expect_error(hub.handle.publish(news("reader/x")), ErrorKind::Message, "register the handler first");
    let request = OwnedMessage::request("door/opened", MessagePayload::Empty);
    expect_error(hub.handle.publish(request), ErrorKind::Message, "a hub publishes notifications");
}

#[test]
fn what_is_published_of_one_thing_reaches_those_alone_who_may_know_that_thing() {
    let hub = TestHub::start();
    hub.handle.register_handler(Box::new(Handler::new("doors", |_, _| Ok(())))).unwrap();
    let scopes = ["subscribe:doors/**", "request:doors/front/*"];
    let mut guest = hub.connect("guest", &scopes);
    let mut owner = hub.connect("owner", &["subscribe:doors/**", "request:doors/**"]);
    // By the topic itself, by a pattern, and in JSON.
    guest.subscribe("doors/opened", SlowConsumer::default()).unwrap();
    owner.subscribe("doors/*", SlowConsumer::default()).unwrap();
    let mut stranger = hub.connect("stranger", &["request:doors/**"]);
    assert!(stranger.subscribe("doors/opened", SlowConsumer::default()).is_err());
    let mut page = json_peer(&hub, "page", &scopes);
    page.subscribe("doors/opened", SlowConsumer::default()).unwrap();
    let tell = |door: &str| {
        let news = OwnedMessage::notification("doors/opened", OwnedPayload::Json(format!("\"{door}\"")));
        hub.handle.publish_to_permitted(news, Operation::Request, &format!("doors/{door}/look"))
    };
    for door in ["vault", "front"] {
        tell(door).unwrap();
    }
    let heard = |peer: &mut RawPeer| peer.read_topic("doors/opened").payload;
    let front = OwnedPayload::Json("\"front\"".to_owned());
    assert_eq!(heard(&mut owner), OwnedPayload::Json("\"vault\"".to_owned()));
    assert_eq!(heard(&mut owner), front);
    // Each has the first that it may have, and so was not given the one before.
    assert_eq!(heard(&mut guest), front);
    assert_eq!(heard(&mut page), front);
    for peer in [&mut owner, &mut guest, &mut page, &mut stranger] {
        assert!(peer.read_so_far().is_empty());
    }
    expect_error(tell("Front Door"), ErrorKind::Message, "is no address");
}

#[test]
fn a_handler_that_is_replaced_answers_by_the_new_one_and_is_never_away() {
    let hub = TestHub::start();
    let says = |what: &'static str| {
        let handler = Handler::new("clock", move |_, reply| reply.payload(MessagePayload::String(what)));
        Box::new(Handler { may_block: true, ..handler })
    };
    expect_error(
        hub.handle.replace_handler(says("first")),
        ErrorKind::Message,
        "no handler is called 'clock'",
    );
    hub.handle.register_handler(says("first")).unwrap();
    let mut peer = hub.connect("peer", &["*"]);
    let asked: Vec<u64> = (0..100).map(|_| peer.send_request("clock/x", MessagePayload::Empty)).collect();
    hub.handle.replace_handler(says("second")).unwrap();
    let after = peer.request("clock/x", MessagePayload::Empty).unwrap();
    assert_eq!(text(&after), "second");
    for id in asked {
        let answer = peer.answer_to(id).expect("whichever is there answers");
        assert!(["first", "second"].contains(&text(&answer)), "{answer:?}");
    }
}

#[test]
fn a_handler_may_call_back_into_its_hub() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    for (id, may_block) in [("inline", false), ("pooled", true)] {
        let handle = hub.handle.clone();
        let handler = Handler::new(id, move |message, reply| call_back(&handle, message, reply));
        hub.handle.register_handler(Box::new(Handler { may_block, ..handler })).unwrap();
    }
    let mut peer = hub.connect("peer", &["*"]);
    for (address, knows) in [("inline/x", "internal error"), ("pooled/x", "2 peers")] {
        let answer = peer.request(address, MessagePayload::Empty).unwrap();
        assert!(text(&answer).starts_with(knows), "{answer:?}");
        assert_eq!(text(&peer.read_topic("news/one")), "for you");
        assert_eq!(text(&peer.read_topic("news/all")), "for all");
        assert_eq!(text(&innocent.peer.read_topic("news/all")), "for all");
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn what_the_hub_sends_on_its_own_behalf_reaches_whom_it_is_for() {
    let hub = TestHub::start();
    let mut one = hub.connect("one", &[]);
    let mut two = hub.connect("two", &[]);
    let greeted = hub.greeted("unproven");
    let news = || OwnedMessage::notification("news/x", MessagePayload::String("hello"));
    hub.handle.send_message("one", news()).unwrap();
    assert_eq!(text(&one.read_topic("news/x")), "hello");
    assert!(two.read_so_far().is_empty());
    hub.handle.broadcast_message(news()).unwrap();
    for peer in [&mut one, &mut two] {
        assert_eq!(text(&peer.read_topic("news/x")), "hello");
    }
    expect_error(hub.handle.send_message("three", news()), ErrorKind::Message, "no peer is called 'three'");
    expect_error(hub.handle.send_message("unproven", news()), ErrorKind::Message, "no peer is called");
    let request = OwnedMessage::request("one/x", MessagePayload::Empty);
    expect_error(hub.handle.send_message("one", request), ErrorKind::Message, "a hub sends notifications");
    drop(greeted);
}

#[test]
fn what_the_hub_sends_to_one_that_does_not_read_fails_its_sender_and_nobody_else() {
    let hub = TestHub::with_limits(Limits { queue_bytes: 256 << 10, ..Limits::default() });
    let _deaf = hub.connect("a-deaf-one", &[]);
    let mut reader = hub.connect("reader", &[]);
    let payload = "x".repeat(32 << 10);
    let news = || OwnedMessage::notification("news/x", MessagePayload::String(&payload));
    let mut failed = None;
    for _ in 0..100 {
        failed = failed.or(hub.handle.broadcast_message(news()).err());
        assert_eq!(reader.read_topic("news/x").payload, news().payload, "the others get it all the same");
    }
    expect_error(Err::<(), _>(failed.unwrap()), ErrorKind::Message, "'a-deaf-one' does not keep up");
    assert!(hub.peer("a-deaf-one").authenticated, "it is not thrown out for that");
}

#[test]
fn a_handler_takes_notifications_to_its_component_and_subscribers_do_not() {
    let hub = TestHub::start();
    let (sender, heard) = sync_channel(10);
    let handler = Handler::new("log", move |message, _| {
        sender.send(message.message_type).unwrap();
        Ok(())
    });
    hub.handle.register_handler(Box::new(handler)).unwrap();
    let mut watcher = hub.connect("watcher", &["*"]);
    watcher.subscribe("log/**", SlowConsumer::default()).unwrap();
    let mut peer = hub.connect("peer", &["notify:log/line"]);
    peer.notify("log/line", MessagePayload::String("x"));
    peer.notify("log/other", MessagePayload::String("x"));
    peer.read_so_far();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(MessageType::Notification));
    assert!(heard.try_recv().is_err() && watcher.read_so_far().is_empty());
    assert_eq!(hub.peer("peer").refused, 1);
}

fn call_back(handle: &HubHandle, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
    let caller = message.source.map_or("", Address::component);
    let news = |topic, text| OwnedMessage::notification(topic, MessagePayload::String(text));
    handle.send_message(caller, news("news/one", "for you")).map_err(|_| IpcError::Internal("not sent"))?;
    handle.broadcast_message(news("news/all", "for all")).map_err(|_| IpcError::Internal("not sent"))?;
    let known =
        handle.peers().map_or_else(|error| error.to_string(), |peers| format!("{} peers", peers.len()));
    reply.payload(MessagePayload::String(&known))
}

type Act = Box<dyn FnMut(&Message<'_>, &mut Reply<'_>) -> Result<(), IpcError> + Send>;

/// A handler of a test's making.
struct Handler {
    id: &'static str,
    scope: Option<&'static str>,
    may_block: bool,
    act: Act,
}

impl Handler {
    fn new(
        id: &'static str,
        act: impl FnMut(&Message<'_>, &mut Reply<'_>) -> Result<(), IpcError> + Send + 'static,
    ) -> Self {
        Self { id, scope: None, may_block: false, act: Box::new(act) }
    }
}

impl MessageHandler for Handler {
    fn id(&self) -> &str {
        self.id
    }

    fn access(&self, _address: Address<'_>) -> Access<'_> {
        self.scope.map_or(Access::Permission, Access::Scope)
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        (self.act)(message, reply)
    }
}

/// A handler that waits until the test lets it go on.
struct Gate {
    id: &'static str,
    open: Receiver<()>,
    runs: Arc<AtomicUsize>,
}

impl Gate {
    fn new(id: &'static str) -> (Self, SyncSender<()>) {
        let (opener, open) = sync_channel(1_000);
        (Self { id, open, runs: Arc::default() }, opener)
    }
}

impl MessageHandler for Gate {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        true
    }

    fn handle_message(&mut self, _message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.open.recv_timeout(PATIENCE).map_err(|_| IpcError::Internal("nobody opened"))?;
        self.runs.fetch_add(1, Ordering::SeqCst);
        reply.payload(MessagePayload::String("open"))
    }
}
