//! The client over a wire that does all that a wire may do and a Unix socket does not: one lock around everything, frames
//! that wait inside where no descriptor shows them, reads that bring nothing, writes that are queued for no reason.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use visorbus_client::{Client, ClientConfig, Connection, Dial, Inbox, StateChange, Wait, Wire};
use visorbus_core::Message;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::frame::length::{Split, prefix, split};
use visorbus_hub::{Error, HubConfig, OwnedMessage, OwnedPayload, Result};
use visorbus_unix::UnixSocketServer;

use crate::client::Echo;
use crate::opposite::{Opposite, SOON};
use crate::server::House;

/// One connection over a Unix socket that pretends to be something odd.
struct OddWire {
    stream: UnixStream,
    inside: Mutex<Inside>,
    way: Arc<Way>,
}

#[derive(Default)]
struct Inside {
    came: Vec<u8>,
    out: Vec<u8>,
    accepted: u64,
    waits: usize,
}

/// What lies between the ends.
#[derive(Default)]
struct Way {
    /// It swallows what the hub says.
    is_mute: AtomicBool,
    made: AtomicUsize,
    /// Told of each frame that goes out.
    sent: Mutex<Option<Sender<()>>>,
}

/// Dials a hub's socket over such a way.
struct OddDial {
    path: PathBuf,
    way: Arc<Way>,
    heartbeat: Option<Duration>,
}

impl OddDial {
    fn new(path: impl Into<PathBuf>, heartbeat: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), way: Arc::default(), heartbeat })
    }

    fn client(self: &Arc<Self>, name: &str) -> Client {
        let client = Client::new(Arc::<Self>::clone(self), name, ClientConfig::default()).unwrap();
        client.connect().unwrap();
        client
    }

    /// Told of each frame that goes out from now on.
    fn listen(&self) -> Receiver<()> {
        let (sent, told) = channel();
        *self.way.sent.lock().unwrap() = Some(sent);
        told
    }
}

impl Dial for OddDial {
    fn dial(&self, _: Instant) -> Result<Arc<dyn Wire>> {
        let stream = UnixStream::connect(&self.path).map_err(|e| Error::Connection(e.to_string()))?;
        stream.set_nonblocking(true).unwrap();
        self.way.made.fetch_add(1, Ordering::SeqCst);
        self.way.is_mute.store(false, Ordering::SeqCst);
        Ok(Arc::new(OddWire { stream, inside: Mutex::default(), way: Arc::clone(&self.way) }))
    }

    fn place(&self) -> String {
        "an odd place".to_owned()
    }

    fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }
}

impl OddWire {
    /// Gives one frame, and lets others wait inside; `true` when something has come, if only part of one.
    fn take(&self, inside: &mut Inside, into: &mut Inbox) -> io::Result<bool> {
        let mut bytes = [0; 5000];
        let came = match (&self.stream).read(&mut bytes) {
            Ok(0) if inside.first().is_none() => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if !self.way.is_mute.load(Ordering::SeqCst) {
            inside.came.extend_from_slice(&bytes[..came]);
        }
        if let Some(len) = inside.first() {
            into.push(&inside.came[4..len]);
            inside.came.drain(..len);
            return Ok(true);
        }
        Ok(came != 0)
    }

    fn poll(&self, wait: Wait, events: PollFlags) -> bool {
        let timeout = wait.time().map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(self.stream.as_fd(), events)];
        poll(&mut fds, timeout).unwrap();
        fds[0].revents().unwrap().contains(PollFlags::POLLOUT)
    }
}

impl Inside {
    /// Bytes of the first whole frame, prefix included.
    fn first(&self) -> Option<usize> {
        match split(&self.came, 1 << 24).unwrap() {
            Split::Frame { consumed, .. } => Some(consumed),
            Split::Incomplete { .. } => None,
        }
    }

    fn write(&mut self, mut to: &UnixStream, most: usize) -> io::Result<bool> {
        let most = most.min(self.out.len());
        match to.write(&self.out[..most]) {
            Ok(written) => drop(self.out.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(self.out.is_empty())
    }
}

impl Wire for OddWire {
    fn read(&self, into: &mut Inbox, wait: Wait) -> io::Result<()> {
        let mut inside = self.inside.lock().unwrap();
        inside.waits += 1;
        let comes_back_in_vain = inside.waits.is_multiple_of(3);
        if self.take(&mut inside, into)? || wait == Wait::No {
            return Ok(());
        }
        drop(inside);
        let wait = if comes_back_in_vain { Wait::For(Duration::from_millis(1)) } else { wait };
        self.poll(wait, PollFlags::POLLIN);
        self.take(&mut self.inside.lock().unwrap(), into).map(|_| ())
    }

    fn wait(&self, wait: Wait, for_room: bool) -> io::Result<bool> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, for_room);
        let has_frame = self.inside.lock().unwrap().first().is_some();
        Ok(self.poll(if has_frame { Wait::No } else { wait }, events))
    }

    fn send(&self, head: &[u8], payload: &[u8]) -> io::Result<()> {
        let mut inside = self.inside.lock().unwrap();
        for part in [&prefix(head.len() + payload.len())[..], head, payload] {
            inside.out.extend_from_slice(part);
            inside.accepted += part.len() as u64;
        }
        if let Some(sent) = &*self.way.sent.lock().unwrap() {
            let _ = sent.send(());
        }
        // Some of it at least waits, whether there is room or not.
        inside.write(&self.stream, 20).map(|_| ())
    }

    fn flush(&self) -> io::Result<bool> {
        self.inside.lock().unwrap().write(&self.stream, 9000)
    }

    fn queued(&self) -> usize {
        self.inside.lock().unwrap().out.len()
    }

    fn accepted(&self) -> u64 {
        self.inside.lock().unwrap().accepted
    }

    fn written(&self) -> u64 {
        let inside = self.inside.lock().unwrap();
        inside.accepted - inside.out.len() as u64
    }

    fn shutdown(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn echo(size: usize) -> OwnedMessage {
    OwnedMessage::request("echo/a", OwnedPayload::Binary(vec![7; size]))
}

/// A hub that gives up those who are silent for three short heartbeats.
fn impatient_hub(house: &House) -> UnixSocketServer {
    let mut config = HubConfig::new(House::keys(), 1);
    config.limits.socket_heartbeat_ms = BEAT.as_millis() as u32;
    let mut server = UnixSocketServer::new(house.path(), config).unwrap();
    server.start().unwrap();
    server
}

/// Short, but long enough for a machine that has other things to do.
const BEAT: Duration = Duration::from_millis(200);

#[test]
fn calls_of_every_size_from_many_threads_are_answered() {
    let hub = Opposite::echoing();
    let client = OddDial::new(&hub.path, None).client("cli");
    thread::scope(|scope| {
        for number in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for size in [0, 30, 4000, 6000, 100_000, 1].into_iter().cycle().skip(number).take(40) {
                    let answer = client.send_request(echo(size), None).unwrap();
                    assert_eq!(answer.payload, OwnedPayload::Binary(vec![7; size]));
                }
            });
        }
    });
}

#[test]
fn what_is_published_between_calls_arrives_in_order() {
    let hub = Opposite::start(|message, answer| {
        if message.wants_answer() {
            for number in 0..20 {
                let note = OwnedMessage::notification("imu/sample", OwnedPayload::Binary(vec![number]));
                answer.send(&note.borrow().unwrap());
            }
            answer.echo(message);
        }
    });
    let client = OddDial::new(&hub.path, None).client("cli");
    let subscription = client.subscribe("imu/*", SlowConsumer::DropOldest(1000)).unwrap();
    for _ in 0..10 {
        client.send_request(echo(10), None).unwrap();
    }
    for number in (0..20).cycle().take(20 * 11) {
        let delivery = subscription.recv(Some(SOON)).unwrap().expect("a delivery");
        let visorbus_client::Delivery::Message(message) = delivery else { panic!("{delivery:?}") };
        assert_eq!(message.payload, OwnedPayload::Binary(vec![number]));
    }
}

#[test]
fn a_connection_by_hand_gets_all_that_came_before_it_hears_nothing() {
    let hub = Opposite::start(|message, answer| {
        for _ in 0..5 {
            answer.send(&Message::heartbeat(0));
            answer.echo(message);
        }
    });
    let dial = OddDial::new(&hub.path, None);
    let mut connection = Connection::open(&*dial, "cli", Instant::now() + SOON).unwrap();
    connection.send_message(echo(10)).unwrap();
    connection.wait_message(SOON).unwrap();
    let mut others = 0;
    while others < 4 {
        match connection.receive_message().unwrap() {
            Some(_) => others += 1,
            // Whoever waits for the descriptor now must not wait in vain.
            None => drop(poll(&mut [PollFd::new(connection.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)),
        }
    }
}

#[test]
fn a_client_that_nobody_calls_shows_that_it_is_there() {
    let house = House::new();
    let _hub = impatient_hub(&house);
    let dial = OddDial::new(house.path(), Some(BEAT));
    let client = dial.client("idle");
    let sent = dial.listen();
    for _ in 0..5 {
        sent.recv_timeout(SOON).expect("a heartbeat");
    }
    assert!(client.is_connected());
    assert_eq!(dial.way.made.load(Ordering::SeqCst), 1);
}

#[test]
fn a_hub_that_falls_silent_is_lost_and_found_again() {
    let house = House::new();
    let _hub = impatient_hub(&house);
    let dial = OddDial::new(house.path(), Some(BEAT));
    let client = dial.client("cli");
    let (told, tell) = channel();
    client.on_state_change(move |change| told.send(change).unwrap()).unwrap();
    client.authenticate(&House::token_with("cli", &["*"])).unwrap();
    client.register_handler(Box::new(Echo("cli"))).unwrap();
    dial.way.is_mute.store(true, Ordering::SeqCst);
    let lost = tell.recv_timeout(SOON).unwrap();
    let is_silence = |error: &Error| error.to_string().contains("silent");
    assert!(matches!(&lost, StateChange::Disconnected(error) if is_silence(error)), "{lost:?}");
    assert_eq!(tell.recv_timeout(SOON).unwrap(), StateChange::Connected);
    assert!(client.is_connected());
}

#[test]
fn a_handler_that_takes_longer_than_heartbeats_does_not_cost_the_connection() {
    let house = House::new();
    let _hub = impatient_hub(&house);
    let dial = OddDial::new(house.path(), Some(BEAT));
    let client = dial.client("slow");
    client.authenticate(&House::token_with("slow", &["*"])).unwrap();
    let caller = house.client("caller");
    let sent = dial.listen();
    let (done, is_done) = channel();
    client
        .on_message(move |_| {
            for _ in 0..5 {
                sent.recv_timeout(SOON).expect("a heartbeat while this runs");
            }
            done.send(()).unwrap();
        })
        .unwrap();
    caller.send_message(OwnedMessage::notification("slow/news", OwnedPayload::Empty)).unwrap();
    is_done.recv_timeout(SOON).unwrap();
    assert_eq!(dial.way.made.load(Ordering::SeqCst), 1);
}
