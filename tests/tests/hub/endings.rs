//! The end of a hub that is asked for in good order: what is finished before, and what cannot hold it up.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_core::IpcError;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Message, MessagePayload};
use visorbus_hub::{Error, HubHandle, OwnedMessage, OwnedPayload};
use visorbus_tests::patience::{CHANCES, PATIENCE, wait_until};
use visorbus_tests::raw_peer::{RawPeer, expect_error};
use visorbus_unix::UnixSocketListener;

use crate::harness::{Client, TestHub, text};

/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(600);
/// For those that something is in the way of.
const SHORT: Duration = Duration::from_millis(150);

#[test]
fn an_idle_hub_ends_at_once_and_says_goodbye() {
    let (hub, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let path = folder.path().join("hub.sock");
    hub.handle.listen(Box::new(UnixSocketListener::bind(&path).unwrap())).unwrap();
    let mut peers: Vec<RawPeer> = (0..5).map(|n| hub.connect(&format!("p{n}"), &["*"])).collect();
    let watch = hub.handle.watch(100).unwrap();
    let started = Instant::now();
    assert_eq!(hub.handle.shutdown(LONG), Ok(()));
    assert!(started.elapsed() < PATIENCE);
    assert!(!path.exists(), "nothing is left of it");
    for peer in &mut peers {
        let last = peer.read_to_end();
        assert!(last.iter().any(says_goodbye), "{last:?}");
    }
    while watch.recv_timeout(Duration::ZERO).is_some() {}
    assert!(watch.has_ended());
    assert_eq!(hub.handle.shutdown(LONG), Ok(()), "it has ended");
    expect_error(hub.handle.peers(), ErrorKind::Connection, "the hub has ended");
}

#[test]
fn what_handlers_and_peers_were_asked_is_answered_and_nothing_new_is_taken() {
    let (hub, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let path = folder.path().join("hub.sock");
    hub.handle.listen(Box::new(UnixSocketListener::bind(&path).unwrap())).unwrap();
    let slow = Slow::register(&hub, "slow");
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    let asked = ["slow/x", "server/x"].map(|to| caller.send_request(to, MessagePayload::Empty));
    slow.is_running();
    let call = server.read_call();
    let ending = shutdown(&hub, LONG);
    // What is refused shows that it has begun to end; the handler is not asked.
    wait_until_refused(&mut caller);
    let before = hub.echoed();
    expect_error(caller.request("echo/ping", MessagePayload::Empty), ErrorKind::Connection, "the hub stops");
    assert_eq!(hub.echoed(), before);
    // It is closed on a thread of its own, so that what takes long to close holds up nobody.
    wait_until("nobody is listened to", || UnixStream::connect(&path).is_err());
    let (late, link) = RawPeer::pair();
    expect_error(hub.handle.attach(Box::new(link)), ErrorKind::Connection, "the hub stops");
    drop(late);
    assert!(!ending.is_finished());
    server.answer(&call, "of the server");
    assert_eq!(text(&caller.answer_to(asked[1]).unwrap()), "of the server");
    slow.let_go();
    assert_eq!(text(&caller.answer_to(asked[0]).unwrap()), "done");
    assert_eq!(ending.join().unwrap(), Ok(()));
    assert!(caller.read_to_end().iter().any(says_goodbye));
}

#[test]
fn what_waits_for_a_reader_is_written_before_the_goodbye() {
    let hub = TestHub::start();
    let mut reader = hub.connect("reader", &["*"]);
    reader.subscribe("flood/x", SlowConsumer::DropOldest(64)).unwrap();
    let mut flood = hub.connect("flood", &["*"]);
    for number in 0..40 {
        flood.notify("flood/x", MessagePayload::String(&format!("{number:060000}")));
    }
    flood.request("echo/done", MessagePayload::Empty).unwrap();
    let ending = shutdown(&hub, LONG);
    wait_until_refused(&mut flood);
    let all = reader.read_to_end();
    let news = all.iter().filter(|message| message.destination == "flood/x").count();
    assert_eq!(news, 40, "nothing was lost");
    assert!(all.last().is_some_and(says_goodbye), "and that is said last");
    assert_eq!(ending.join().unwrap(), Ok(()));
}

#[test]
fn a_handler_that_never_returns_holds_it_up_until_the_deadline_and_no_longer() {
    let mut hub = TestHub::start();
    let slow = Slow::register(&hub, "stuck");
    let mut caller = hub.connect("caller", &["*"]);
    let asked = caller.send_request("stuck/x", MessagePayload::Empty);
    slow.is_running();
    let started = Instant::now();
    expect_error(
        hub.handle.shutdown(SHORT),
        ErrorKind::Timeout,
        "1 requests had no answer, 1 handlers still ran",
    );
    assert!(
        started.elapsed() >= SHORT && started.elapsed() < SHORT + PATIENCE / 2,
        "{:?}",
        started.elapsed()
    );
    let last = caller.read_to_end();
    assert!(last.iter().any(says_goodbye) && last.iter().all(|message| message.id != asked), "{last:?}");
    assert!(hub.stop().is_ok(), "its thread has ended");
    slow.let_go();
}

#[test]
fn a_handler_that_nobody_waits_for_any_more_does_not_hold_it_up() {
    let hub = TestHub::start();
    let slow = Slow::register(&hub, "stuck");
    let mut caller = hub.connect("caller", &["*"]);
    // What nobody waits for any more before it has begun does not begin.
    let mut begins = (0..CHANCES).map(|chance| {
        let id = caller.take_id();
        let mut request = Message::request(id, visorbus_core::message::Address::literal("stuck/x"));
        request.flags.timeout_ms = Some(20 << chance);
        caller.send(&request);
        expect_error(caller.answer_to(id), ErrorKind::Timeout, "in time");
        slow.entered.try_recv().is_ok()
    });
    assert!(begins.any(|has_begun| has_begun), "it never runs in time");
    let started = Instant::now();
    assert_eq!(hub.handle.shutdown(LONG), Ok(()));
    assert!(started.elapsed() < PATIENCE);
    slow.let_go();
}

#[test]
fn a_peer_that_does_not_read_holds_it_up_until_the_deadline_and_nobody_else_suffers() {
    let hub = TestHub::start();
    let mut sleepy = hub.connect("sleepy", &["*"]);
    sleepy.subscribe("flood/x", SlowConsumer::DropOldest(64)).unwrap();
    let mut flood = hub.connect("flood", &["*"]);
    for _ in 0..64 {
        flood.notify("flood/x", MessagePayload::String(&"x".repeat(60_000)));
    }
    flood.request("echo/done", MessagePayload::Empty).unwrap();
    let started = Instant::now();
    expect_error(hub.handle.shutdown(SHORT), ErrorKind::Timeout, "1 peers had not read all that was theirs");
    assert!(
        started.elapsed() >= SHORT && started.elapsed() < SHORT + PATIENCE / 2,
        "{:?}",
        started.elapsed()
    );
    assert!(flood.read_to_end().iter().any(says_goodbye));
}

#[test]
fn an_inline_handler_begins_the_end_and_its_own_answer_still_goes_out() {
    let hub = TestHub::start();
    hub.handle.register_handler(Box::new(Off { hub: hub.handle.clone() })).unwrap();
    let mut admin = hub.connect("admin", &["*"]);
    assert_eq!(text(&admin.request("manager/shutdown", MessagePayload::Empty).unwrap()), "it ends");
    assert!(admin.read_to_end().iter().any(says_goodbye));
}

#[test]
fn two_that_ask_for_the_end_both_have_it_and_the_earlier_deadline_holds() {
    let hub = TestHub::start();
    let slow = Slow::register(&hub, "stuck");
    let mut caller = hub.connect("caller", &["*"]);
    caller.send_request("stuck/x", MessagePayload::Empty);
    slow.is_running();
    let patient = shutdown(&hub, LONG);
    wait_until_refused(&mut caller);
    expect_error(hub.handle.shutdown(SHORT), ErrorKind::Timeout, "still ran");
    expect_error(patient.join().unwrap(), ErrorKind::Timeout, "still ran");
    slow.let_go();
}

#[test]
fn what_the_program_asks_while_the_hub_ends_is_answered() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    let handle = hub.handle.clone();
    let message = OwnedMessage::request("server/x", OwnedPayload::Empty);
    let asked = thread::spawn(move || handle.request(message, PATIENCE));
    let call = server.read_call();
    let ending = shutdown(&hub, LONG);
    wait_until_refused(&mut caller);
    server.answer(&call, "before the end");
    assert_eq!(text(&asked.join().unwrap().unwrap()), "before the end");
    assert_eq!(ending.join().unwrap(), Ok(()));
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let hub = TestHub::start();
    let (near, far) = UnixStream::pair().unwrap();
    hub.handle.attach(Box::new(visorbus_unix::FramedStream::new(far).unwrap())).unwrap();
    assert_eq!(hub.handle.shutdown(LONG), Ok(()));
    let mut rest = Vec::new();
    (&near).read_to_end(&mut rest).unwrap();
}

fn shutdown(hub: &TestHub, deadline: Duration) -> thread::JoinHandle<Result<(), Error>> {
    let handle = hub.handle.clone();
    thread::spawn(move || handle.shutdown(deadline))
}

/// Asks until the hub takes no requests.
fn wait_until_refused(caller: &mut RawPeer) {
    let end = Instant::now() + PATIENCE;
    while caller.request("echo/ping", MessagePayload::Empty).is_ok() {
        assert!(Instant::now() < end, "it takes all");
    }
}

fn says_goodbye(message: &OwnedMessage) -> bool {
    String::from_utf8_lossy(message.payload.borrow().as_bytes()).contains("the hub stops")
}

/// A handler on the pool that takes its time.
struct Slow {
    entered: Receiver<()>,
    leave: SyncSender<()>,
}

impl Slow {
    fn register(hub: &TestHub, id: &'static str) -> Self {
        let (enter, entered) = sync_channel(8);
        let (leave, may_leave) = sync_channel(8);
        hub.handle.register_handler(Box::new(SlowHandler { id, enter, may_leave })).unwrap();
        Self { entered, leave }
    }

    fn is_running(&self) {
        self.entered.recv_timeout(PATIENCE).expect("it runs");
    }

    fn let_go(&self) {
        // Its hub may have ended, and with it the handler.
        let _ = self.leave.send(());
    }
}

struct SlowHandler {
    id: &'static str,
    enter: SyncSender<()>,
    may_leave: Receiver<()>,
}

impl MessageHandler for SlowHandler {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        true
    }

    fn handle_message(&mut self, _: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        let over = |_| IpcError::Internal("the test is over");
        self.enter.send(()).map_err(|_| IpcError::Internal("the test is over"))?;
        self.may_leave.recv_timeout(3 * PATIENCE).map_err(over)?;
        reply.payload(MessagePayload::String("done"))
    }
}

/// Has its hub end.
struct Off {
    hub: HubHandle,
}

impl MessageHandler for Off {
    fn id(&self) -> &str {
        "manager"
    }

    fn handle_message(&mut self, _: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.hub.shutdown(LONG).map_err(|error| IpcError::new(error.kind(), "it does not end"))?;
        reply.payload(MessagePayload::String("it ends"))
    }
}
