//! Links without descriptors: they are served when they say that they are ready, from wherever that is said, as often as
//! all others, and nobody is woken for nothing.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant as Clock};

use rustix::event::{EventfdFlags, eventfd};
use visorbus_core::Instant;
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::frame::length::prefix;
use visorbus_core::message::{Message, MessagePayload, MessageType};
use visorbus_hub::{
    Error, Goodbye, HubLink, LinkOptions, LinkSignal, Listener, Origin, OwnedMessage, OwnedPayload,
    ReceiveBuffer,
};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::{RawPeer, expect_error, frame_of, identity};
use visorbus_tests::signalled::Signalled;

use crate::endurance::cpu_ns;
use crate::harness::{Client, TestHub, request, text};

#[test]
fn whoever_is_behind_a_link_without_a_descriptor_does_what_others_do() {
    let hub = TestHub::start();
    let mut near = signalled(&hub, "near", &["*"]);
    let mut far = signalled(&hub, "far", &["*"]);
    near.register("lamp").unwrap();
    far.subscribe("lamp/**", SlowConsumer::default()).unwrap();
    for number in 0..50 {
        let id = far.send_request("lamp/set", MessagePayload::Empty);
        let call = near.read_call();
        near.notify("lamp/is", MessagePayload::String("on"));
        near.answer(&call, &number.to_string());
        assert_eq!(text(&far.answer_to(id).unwrap()), number.to_string());
        assert_eq!(text(&far.read_topic("lamp/is")), "on");
    }
    drop(near);
    hub.wait_until(|peers| peers.len() == 1);
    let outcome = far.request("lamp/set", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Message, "nobody serves 'lamp'");
}

#[test]
fn whoever_speaks_late_or_not_at_all_goes_like_others() {
    let hub = TestHub::start();
    let mut peer = RawPeer::attach_by(&hub.handle, |inner| {
        Box::new(Signalled::new(inner, process(1), LinkOptions::default()))
    });
    peer.write_frame(b"this is no message");
    peer.hello("late").unwrap();
    peer.authenticate(&hub.token("late", &[])).unwrap();
    peer.write_bytes(&[0xff; 8]);
    let said = peer.read_to_end();
    assert!(said.iter().any(|message| message.error().is_some()), "{said:?}");
    hub.wait_until(|peers| peers.is_empty());
}

#[test]
fn a_big_answer_waits_for_the_signal_that_there_is_room() {
    let hub = TestHub::start();
    let mut peer = signalled(&hub, "slow", &["*"]);
    let big = "x".repeat(200_000);
    let ids: Vec<u64> =
        (0..20).map(|_| peer.send_request("echo/ping", MessagePayload::String(&big))).collect();
    for id in ids {
        assert_eq!(text(&peer.answer_to(id).unwrap()).len(), big.len());
    }
}

#[test]
fn an_idle_hub_with_signalled_links_takes_no_processor_time() {
    let hub = TestHub::start();
    let (station, mut alice) = Station::with_one(&hub, "alice");
    let mut crowd: Vec<RawPeer> =
        (0..10).map(|number| signalled(&hub, &format!("p{number}"), &["*"])).collect();
    let stuck = station.sender(":1.99");
    station.stop_taking(":1.99");
    stuck.send(&request(1, bus::HELLO));
    crowd.iter_mut().for_each(|peer| drop(peer.read_so_far()));
    alice.ask("echo/ping").unwrap();
    let before = cpu_ns(&hub);
    assert!(crowd[0].is_quiet_for(Duration::from_millis(300)));
    let used = Duration::from_nanos(cpu_ns(&hub) - before);
    assert!(used < Duration::from_millis(5), "{used:?} in 300 ms");
    alice.ask("echo/ping").unwrap();
}

#[test]
fn what_a_listener_says_of_its_links_while_the_hub_is_inside_it_is_heard() {
    let hub = TestHub::start();
    let (station, mut alice) = Station::with_one(&hub, "alice");
    let mut others: Vec<FakeSender> = (2..6).map(|number| station.sender(&format!(":1.{number}"))).collect();
    for (number, other) in others.iter_mut().enumerate() {
        other.begin(&hub, &format!("p{number}"), &["*"]).unwrap();
    }
    for round in 0..100 {
        for other in &mut others {
            other.send(&request(1_000 + round, "echo/ping"));
        }
        for other in &mut others {
            other.answer_to(1_000 + round).unwrap();
        }
    }
    alice.ask("echo/ping").unwrap();
}

#[test]
fn signals_of_many_threads_at_once_lose_nothing() {
    let hub = TestHub::start();
    let station = Station::listen(&hub);
    let threads: Vec<_> = (1..5)
        .map(|number| {
            let mut sender = station.sender(&format!(":1.{number}"));
            sender.begin(&hub, &format!("p{number}"), &["request:echo/*"]).unwrap();
            thread::spawn(move || {
                for id in 0..500 {
                    // Not through the listener: straight into the link, and its signal from here.
                    sender.push(&request(1_000 + id, "echo/ping"));
                }
                for id in 0..500 {
                    sender.answer_to(1_000 + id).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(hub.echoed(), 4 * 500);
}

#[test]
fn links_that_never_run_dry_and_floods_over_descriptors_leave_everybody_their_turn() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (station, mut alice) = Station::with_one(&hub, "alice");
    let endless: Vec<FakeSender> = (2..5)
        .map(|number| {
            let mut sender = station.sender(&format!(":1.{number}"));
            sender.begin(&hub, &format!("flood{number}"), &["notify:flood/*"]).unwrap();
            sender
        })
        .collect();
    for (number, sender) in endless.iter().enumerate() {
        sender.repeat(&Message::notification(number as u64 + 7, address("flood/x")));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut loud = hub.connect("loud", &["notify:**"]);
    let stopped = Arc::clone(&stop);
    let flooder = thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            loud.notify("flood/y", MessagePayload::String("again and again"));
        }
    });
    let mut plain = signalled(&hub, "plain", &["request:echo/*"]);
    for _ in 0..200 {
        innocent.is_served();
        alice.ask("echo/ping").unwrap();
        plain.request("echo/ping", MessagePayload::Empty).unwrap();
    }
    for sender in &endless {
        let taken = sender.taken();
        assert!(taken > 200, "one that floods is served too: {taken} times");
    }
    stop.store(true, Ordering::SeqCst);
    flooder.join().unwrap();
}

#[test]
fn a_signal_of_a_link_that_is_gone_does_nothing_and_reaches_nobody_else() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (station, mut alice) = Station::with_one(&hub, "alice");
    let mut bob = station.sender(":1.2");
    bob.begin(&hub, "bob", &["*"]).unwrap();
    bob.end();
    hub.wait_until(|peers| peers.iter().all(|peer| peer.name != "bob"));
    // Its place may be somebody else's by now.
    let mut carol = station.sender(":1.3");
    carol.begin(&hub, "carol", &["request:echo/*"]).unwrap();
    for _ in 0..100 {
        bob.push(&request(5, "echo/ping"));
        bob.signal_output();
    }
    carol.ask("echo/ping").unwrap();
    alice.ask("echo/ping").unwrap();
    assert_eq!(hub.echoed(), 2, "nothing of bob's");
    innocent.peer.read_so_far();
}

#[test]
fn a_signalled_link_that_ends_in_the_middle_of_a_call_leaves_nothing_behind() {
    let hub = TestHub::start();
    let (station, alice) = Station::with_one(&hub, "alice");
    let mut server = hub.connect("server", &["*"]);
    server.register("lamp").unwrap();
    alice.send(&request(70, "lamp/set"));
    let call = server.read_call();
    alice.end();
    hub.wait_until(|peers| peers.len() == 1);
    assert_eq!(server.read_topic(bus::CANCEL).message_type, MessageType::Notification);
    server.answer(&call, "too late");
    let mut again = station.sender(":1.2");
    again.begin(&hub, "alice", &["*"]).unwrap();
    again.ask("echo/ping").unwrap();
}

#[test]
fn the_hub_says_goodbye_over_a_signalled_link_and_closes_it() {
    let mut hub = TestHub::start();
    let (_station, mut alice) = Station::with_one(&hub, "alice");
    hub.stop().unwrap();
    let goodbye = alice.read_where(|message| message.destination == bus::GOODBYE);
    assert_eq!(goodbye.message_type, MessageType::Notification);
    assert_eq!(*alice.end.closed.lock().unwrap(), Some(Goodbye::Stopping));
}

#[test]
fn a_dismissed_sender_that_still_speaks_is_not_heard() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (_station, mut alice) = Station::with_one(&hub, "alice");
    let ended = hub.handle.revoke(visorbus_auth::RevokeAll::Subject("alice".to_owned())).unwrap();
    assert_eq!(ended.sessions, 1);
    for id in 100..120 {
        alice.push(&request(id, "echo/ping"));
    }
    let told = alice.read_where(|message| message.destination == bus::GOODBYE);
    assert_eq!(told.message_type, MessageType::Notification);
    hub.wait_until(|peers| peers.len() == 1);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_user_has_one_quota_over_sockets_and_over_the_bus() {
    let limits = visorbus_hub::Limits { peers_per_user: 3, ..visorbus_hub::Limits::default() };
    let hub = TestHub::with_limits(limits);
    let own = nix::unistd::getuid().as_raw();
    let of_bus = |uid| Origin::DBus { uid, gid: None, pid: None, unique_name: ":1.7".to_owned() };
    let attach = |origin: Origin| {
        let (peer, inner) = RawPeer::pair();
        let link = Signalled::new(inner, origin, LinkOptions::default());
        hub.handle.attach(Box::new(link)).map(|_| peer)
    };
    let _socket = hub.connect("socket", &[]);
    let _peers = [attach(of_bus(Some(own))).unwrap(), attach(of_bus(Some(own))).unwrap()];
    expect_error(attach(of_bus(Some(own))), ErrorKind::Connection, "the limit of one user");
    let _other = attach(of_bus(Some(own + 1))).unwrap();
    // Those of whom the bus knows no user share one quota.
    let unknown: Vec<RawPeer> = (0..3).map(|_| attach(of_bus(None)).unwrap()).collect();
    expect_error(attach(of_bus(None)), ErrorKind::Connection, "3 connections of no known user");
    drop(unknown);
    hub.wait_until(|peers| peers.len() == 4);
    attach(of_bus(None)).unwrap();
}

/// A peer over a socket that the hub sees no descriptor of.
fn signalled(hub: &TestHub, name: &str, scopes: &[&str]) -> RawPeer {
    let mut peer = RawPeer::attach_by(&hub.handle, |inner| {
        Box::new(Signalled::new(inner, process(1), LinkOptions::default()))
    });
    peer.hello(name).unwrap();
    peer.authenticate(&hub.token(name, scopes)).unwrap();
    peer
}

/// What carries many senders over one descriptor, in memory: a listener that makes a link of each one's first frame and
/// puts the others into that link, while the hub is inside it.
struct Station {
    shared: Arc<Shared>,
}

struct Shared {
    wake: OwnedFd,
    arrived: Mutex<VecDeque<(String, Vec<u8>)>>,
    ends: Mutex<HashMap<String, Arc<End>>>,
}

impl Station {
    fn listen(hub: &TestHub) -> Self {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let shared = Arc::new(Shared { wake, arrived: Mutex::default(), ends: Mutex::default() });
        hub.handle.listen(Box::new(Distributor(Arc::clone(&shared)))).unwrap();
        Self { shared }
    }

    fn with_one(hub: &TestHub, name: &str) -> (Self, FakeSender) {
        let station = Self::listen(hub);
        let mut sender = station.sender(":1.1");
        sender.begin(hub, name, &["*"]).unwrap();
        (station, sender)
    }

    /// Somebody whom the hub has not heard of.
    fn sender(&self, unique_name: &str) -> FakeSender {
        let (out, frames) = channel();
        let end = Arc::new(End { out: Mutex::new(Some(out)), ..End::default() });
        self.shared.ends.lock().unwrap().insert(unique_name.to_owned(), Arc::clone(&end));
        let shared = Arc::clone(&self.shared);
        FakeSender { unique_name: unique_name.to_owned(), shared, end, frames, aside: Vec::new() }
    }

    /// The link of this sender takes nothing any more.
    fn stop_taking(&self, unique_name: &str) {
        self.shared.ends.lock().unwrap()[unique_name].full.store(true, Ordering::SeqCst);
    }
}

struct Distributor(Arc<Shared>);

impl Listener for Distributor {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    fn accept(&mut self) -> io::Result<Option<Box<dyn HubLink>>> {
        loop {
            let Some((sender, frame)) = self.0.arrived.lock().unwrap().pop_front() else {
                let _ = rustix::io::read(&self.0.wake, &mut [0; 8]);
                // Whatever came in between has been written before its wake was.
                if self.0.arrived.lock().unwrap().is_empty() {
                    return Ok(None);
                }
                continue;
            };
            let end = Arc::clone(&self.0.ends.lock().unwrap()[&sender]);
            end.push(frame);
            if !end.is_attached.swap(true, Ordering::SeqCst) {
                return Ok(Some(Box::new(Wireless { end, unique_name: sender })));
            }
        }
    }

    fn describe(&self) -> String {
        "the station".to_owned()
    }
}

/// What a link and its sender share.
#[derive(Default)]
struct End {
    inbox: Mutex<VecDeque<Vec<u8>>>,
    signal: Mutex<Option<LinkSignal>>,
    is_attached: AtomicBool,
    out: Mutex<Option<Sender<Vec<u8>>>>,
    full: AtomicBool,
    over: AtomicBool,
    /// What comes again whenever it was taken.
    again: Mutex<Option<Vec<u8>>>,
    taken: AtomicUsize,
    closed: Mutex<Option<Goodbye>>,
}

impl End {
    fn push(&self, frame: Vec<u8>) {
        self.inbox.lock().unwrap().push_back(frame);
        self.signal_input();
    }

    fn signal_input(&self) {
        if let Some(signal) = &*self.signal.lock().unwrap() {
            signal.input();
        }
    }
}

/// One sender as the hub has it.
struct Wireless {
    end: Arc<End>,
    unique_name: String,
}

impl HubLink for Wireless {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn attached(&mut self, signal: LinkSignal) {
        // For what came before; and more often than is needed, from everywhere, which must not matter.
        signal.input();
        signal.output();
        *self.end.signal.lock().unwrap() = Some(signal);
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        self.end.taken.fetch_add(1, Ordering::SeqCst);
        if self.end.over.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut inbox = self.end.inbox.lock().unwrap();
        let again = self.end.again.lock().unwrap();
        for _ in 0..64 {
            let Some(frame) = inbox.pop_front().or_else(|| again.clone()) else { return Ok(()) };
            into.extend(&prefix(frame.len()));
            into.extend(&frame);
        }
        drop(inbox);
        self.end.signal_input();
        Ok(())
    }

    fn has_room(&mut self, _head: u8, _len: usize) -> bool {
        !self.end.full.load(Ordering::SeqCst)
    }

    fn send(&mut self, head: &[u8], payload: &[u8], _at_once: bool) -> io::Result<()> {
        let frame = [head, payload].concat();
        let out = self.end.out.lock().unwrap();
        // The sender may not listen any more.
        let _ = out.as_ref().map(|out| out.send(frame));
        Ok(())
    }

    fn flush(&mut self, _now: Instant) -> io::Result<bool> {
        Ok(!self.end.full.load(Ordering::SeqCst))
    }

    fn close(&mut self, why: Goodbye, _text: &str) {
        *self.end.closed.lock().unwrap() = Some(why);
        self.end.signal_input();
    }

    fn origin(&self) -> Origin {
        Origin::DBus { uid: None, gid: None, pid: None, unique_name: self.unique_name.clone() }
    }

    fn options(&self) -> LinkOptions {
        LinkOptions { signalled: true, ..LinkOptions::default() }
    }
}

/// One sender as the test has it.
struct FakeSender {
    unique_name: String,
    shared: Arc<Shared>,
    end: Arc<End>,
    frames: Receiver<Vec<u8>>,
    aside: Vec<OwnedMessage>,
}

impl FakeSender {
    fn begin(&mut self, hub: &TestHub, name: &str, scopes: &[&str]) -> Result<OwnedMessage, Error> {
        let hello = OwnedPayload::postcard(&identity(name))?;
        self.send(&request(1, bus::HELLO).with_payload(hello.borrow()));
        self.answer_to(1)?;
        let token = hub.token(name, scopes);
        let shown = OwnedPayload::postcard(&bus::Credentials::Token(&token))?;
        self.send(&request(2, bus::AUTHENTICATE).with_payload(shown.borrow()));
        self.answer_to(2)
    }

    fn ask(&mut self, address: &str) -> Result<OwnedMessage, Error> {
        self.send(&request(3, address));
        self.answer_to(3)
    }

    /// Through the listener.
    fn send(&self, message: &Message<'_>) {
        self.shared.arrived.lock().unwrap().push_back((self.unique_name.clone(), frame_of(message)));
        rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes()).unwrap();
    }

    /// Straight into the link.
    fn push(&self, message: &Message<'_>) {
        self.end.push(frame_of(message));
    }

    fn repeat(&self, message: &Message<'_>) {
        *self.end.again.lock().unwrap() = Some(frame_of(message));
        self.end.signal_input();
    }

    fn taken(&self) -> usize {
        self.end.taken.load(Ordering::SeqCst)
    }

    fn signal_output(&self) {
        self.end.signal.lock().unwrap().as_ref().unwrap().output();
    }

    fn end(&self) {
        self.end.over.store(true, Ordering::SeqCst);
        self.end.signal_input();
    }

    fn answer_to(&mut self, id: u64) -> Result<OwnedMessage, Error> {
        let answer = self.read_where(|message| {
            message.id == id && matches!(message.message_type, MessageType::Response | MessageType::Error)
        });
        answer.error().map_or(Ok(answer), Err)
    }

    fn read_where(&mut self, wanted: impl Fn(&OwnedMessage) -> bool) -> OwnedMessage {
        if let Some(at) = self.aside.iter().position(&wanted) {
            return self.aside.swap_remove(at);
        }
        let end = Clock::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Clock::now());
            let frame = self.frames.recv_timeout(left).expect("a frame in time");
            let message = OwnedMessage::from(&visorbus_core::decode(&frame).unwrap());
            if wanted(&message) {
                return message;
            }
            self.aside.push(message);
        }
    }
}

fn address(text: &str) -> visorbus_core::message::Address<'_> {
    visorbus_core::message::Address::new(text).unwrap()
}

fn process(pid: i32) -> Origin {
    Origin::Unix { uid: nix::unistd::getuid().as_raw(), gid: 0, pid }
}
