//! Every way to a hub, as an attacker has it: frames go in as they are, and what comes back is seen as it is.
//!
//! # What makes no sense where
//! | | Unix socket, link without a descriptor | WebSocket | serial, SPI with tokens | serial, SPI with a key |
//! |---|---|---|---|---|
//! | somebody who has proven nothing | whoever connects | whoever connects, by the rules of `websocket` | whoever is wired there | nobody: a key comes before a hello, and who holds one is that board |
//! | a session that is over | hangs up | hangs up | is forgotten; the line stays | is forgotten; the line stays |
//! | a credential of the channel | the user, by the kernel or the desktop's bus | a certificate, under mutual TLS | none | none beside the key |
//! | user name and password, API key | works | works | refused unseen: whoever is at the wire reads along | works, for the name of the key |
//! | frames of somebody else (played back, out of order, changed) | nobody can reach them | nobody, under TLS | not promised: whoever reaches the wire reads and writes | refused: `keyed_lines`, `channels` |
//!
//! Over a WebSocket with JSON, texts stand for frames, and what has no text cannot be said. Over a desktop bus nothing stands
//! for a frame: the link without a descriptor is what the hub has of such a program, and what the program itself can do is in
//! `dbus_attacks`.
//!
//! So a scenario asks [`Transport::IS_KEYED`] where the attacker is somebody already, [`Transport::IS_OPEN`] where something
//! secret is said, [`Transport::HANGS_UP`] where it matters how a session ends, [`Transport::KNOWS_USER`] where somebody is
//! taken for a user of this machine, and [`Transport::HAS_FRAMES`] where frames are what no text is; all else is the same
//! everywhere.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant as Clock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use visorbus_auth::Transport as Kind;
use visorbus_core::auth::Key;
use visorbus_core::bus::{self, Identity};
use visorbus_core::codec::DecodeError;
use visorbus_core::frame::length::{Split, prefix, split};
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::secure::{AnySuite, Connecting, LinkKey, NonceSeed, Suite};
use visorbus_core::{Instant, Link, decode};
use visorbus_hal::{Lane, SecureLink, SerialLink, SpiTargetLink, lane_len, serial_buffer_len};
use visorbus_hub::{HubLink, LinkOptions, Origin};
use visorbus_mcu::{BoardKeys, SerialPort, SpiPort, Trust};
use visorbus_tests::pty::Pty;
use visorbus_tests::raw_peer::RawPeer;
use visorbus_tests::signalled::Signalled;
use visorbus_tests::spi_bench::SpiBench;

use crate::node::Uart;
use crate::tape::{Tape, Tapped};
use crate::world::World;

/// A way to a hub.
pub(crate) trait Transport {
    /// What policies and the audit call it.
    const KIND: Kind;
    /// Whether a key has said who is there before anything else is.
    const IS_KEYED: bool = false;
    /// Whether anybody at the wire reads along.
    const IS_OPEN: bool = false;
    /// Whether the hub ends a session by hanging up.
    const HANGS_UP: bool = false;
    /// Whether the kernel tells whose process is there.
    const KNOWS_USER: bool = false;
    /// Whether what an attacker writes are frames, of any bytes.
    const HAS_FRAMES: bool = true;

    /// Somebody who is connected and has not said anything, where the component `name` is expected. It goes when the
    /// peer is dropped.
    fn attach(world: &World, name: &str) -> RawPeer;
}

/// A Unix socket.
pub(crate) struct Unix;

/// A link that signals, for a program that a desktop bus tells of.
pub(crate) struct Signalling;

/// A serial line for one board, which shows a token.
pub(crate) struct Serial;

/// A serial line for whoever has the key.
pub(crate) struct KeyedSerial;

/// An SPI bus with one board, which shows a token.
pub(crate) struct Spi;

/// An SPI bus with whoever has the key.
pub(crate) struct KeyedSpi;

impl Transport for Unix {
    const KIND: Kind = Kind::Unix;
    const HANGS_UP: bool = true;
    const KNOWS_USER: bool = true;

    fn attach(world: &World, _name: &str) -> RawPeer {
        RawPeer::over(UnixStream::connect(world.socket()).unwrap())
    }
}

impl Transport for Signalling {
    const KIND: Kind = Kind::DBus;
    const HANGS_UP: bool = true;
    const KNOWS_USER: bool = true;

    fn attach(world: &World, _name: &str) -> RawPeer {
        let uid = Some(rustix::process::getuid().as_raw());
        let origin = Origin::DBus { uid, gid: None, pid: None, unique_name: ":1.42".to_owned() };
        RawPeer::attach_by(&world.handle, |inner| {
            Box::new(Signalled::new(inner, origin, LinkOptions::default()))
        })
    }
}

impl Transport for Serial {
    const KIND: Kind = Kind::Serial;
    const IS_OPEN: bool = true;

    fn attach(world: &World, name: &str) -> RawPeer {
        let pty = plugged(world, &format!(",unkeyed={name}"));
        carry(lane(serial(&pty)), Wake::Pty(pty))
    }
}

impl Transport for KeyedSerial {
    const KIND: Kind = Kind::Serial;
    const IS_KEYED: bool = true;

    fn attach(world: &World, name: &str) -> RawPeer {
        Self::attach_with(world, Some(link_key(name))).0
    }
}

impl Keyed for KeyedSerial {
    fn attach_with(world: &World, key: Option<LinkKey>) -> (RawPeer, Tape) {
        let pty = plugged(world, "");
        tapped(serial(&pty), key, Wake::Pty(pty))
    }
}

impl Transport for Spi {
    const KIND: Kind = Kind::Spi;
    const IS_OPEN: bool = true;

    fn attach(world: &World, name: &str) -> RawPeer {
        let bench = bench(world, Trust::Token { name: name.to_owned() });
        carry(lane(SpiTargetLink::new(bench.bus.target())), Wake::Bus(bench))
    }
}

impl Transport for KeyedSpi {
    const KIND: Kind = Kind::Spi;
    const IS_KEYED: bool = true;

    fn attach(world: &World, name: &str) -> RawPeer {
        Self::attach_with(world, Some(link_key(name))).0
    }
}

impl Keyed for KeyedSpi {
    fn attach_with(world: &World, key: Option<LinkKey>) -> (RawPeer, Tape) {
        let bench = bench(world, Trust::LinkKey);
        tapped(SpiTargetLink::new(bench.bus.target()), key, Wake::Bus(bench))
    }
}

/// A line whose hub knows the key of whoever may be there.
pub(crate) trait Keyed: Transport {
    /// Somebody with this key, or with none, and what goes over the wire. Nothing of what is said arrives, nor does it
    /// fail, unless the hub has the same key.
    fn attach_with(world: &World, key: Option<LinkKey>) -> (RawPeer, Tape);
}

/// Makes of each scenario, a function over a [`Transport`], a test for every one there is.
macro_rules! over_every_transport {
    ($($scenario:ident)*) => { $(
        mod $scenario {
            #[test]
            fn over_a_unix_socket() {
                super::$scenario::<$crate::transports::Unix>();
            }
            #[test]
            fn over_a_link_without_a_descriptor() {
                super::$scenario::<$crate::transports::Signalling>();
            }
            #[test]
            fn over_a_serial_line() {
                super::$scenario::<$crate::transports::Serial>();
            }
            #[test]
            fn over_a_serial_line_with_a_key() {
                super::$scenario::<$crate::transports::KeyedSerial>();
            }
            #[test]
            fn over_an_spi_bus() {
                super::$scenario::<$crate::transports::Spi>();
            }
            #[test]
            fn over_an_spi_bus_with_a_key() {
                super::$scenario::<$crate::transports::KeyedSpi>();
            }
            #[test]
            fn over_a_websocket() {
                super::$scenario::<$crate::websockets::WebSocket>();
            }
            #[test]
            fn over_a_websocket_with_json() {
                super::$scenario::<$crate::websockets::Json>();
            }
        }
    )* };
}
pub(crate) use over_every_transport;

/// As [`over_every_transport`], for functions over [`Keyed`].
macro_rules! over_every_line_with_a_key {
    ($($scenario:ident)*) => { $(
        mod $scenario {
            #[test]
            fn over_a_serial_line() {
                super::$scenario::<$crate::transports::KeyedSerial>();
            }
            #[test]
            fn over_an_spi_bus() {
                super::$scenario::<$crate::transports::KeyedSpi>();
            }
        }
    )* };
}
pub(crate) use over_every_line_with_a_key;

/// The key of the link to `name`, at both ends.
pub(crate) fn link_key(name: &str) -> LinkKey {
    LinkKey::new(1, Suite::Tag64, name, Key::new(LINK_SECRET)).unwrap()
}

/// The hub's link keys: one for whatever name.
pub(crate) struct LinkKeysOfAll;

impl BoardKeys for LinkKeysOfAll {
    fn link_key(&self, name: &str, id: u8) -> Option<LinkKey> {
        (id == 1).then(|| link_key(name))
    }
}

/// What a thread that carries frames waits for.
pub(crate) enum Wake {
    Pty(Pty),
    /// The far end of a line, whose near end is somebody else's.
    Far(OwnedFd),
    Bus(SpiBench),
}

impl Wake {
    pub(crate) fn far(pty: &Pty) -> Self {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Self::Far(rustix::fs::open(pty.path(), flags, Mode::empty()).unwrap())
    }

    /// Waits until something came from the line or the test, for at most `longest`.
    fn wait(&self, test: &UnixStream, longest: Duration) {
        match self {
            Self::Pty(Pty { master: line, .. }) | Self::Far(line) => {
                let mut fds = [PollFd::new(line, PollFlags::IN), PollFd::new(test, PollFlags::IN)];
                let _ = poll(&mut fds, Some(&timespec(longest)));
            }
            Self::Bus(bench) if !is_readable(test) => bench.bus.wait_for_transfer(longest.min(BUS_WAIT)),
            Self::Bus(_) => {}
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Self::Bus(bench) = self {
            bench.unplug();
        }
    }
}

/// A pseudo-terminal on whose far end the hub has a line with these options.
pub(crate) fn plugged(world: &World, options: &str) -> Pty {
    let pty = Pty::open().unwrap();
    let line = world.new_line();
    pty.plug(&line).unwrap();
    let spec = format!("{}@4000000{options}", line.display()).parse().unwrap();
    world.handle.attach(Box::new(SerialPort::new(spec, Arc::new(LinkKeysOfAll)))).unwrap();
    pty
}

fn bench(world: &World, trust: Trust) -> SpiBench {
    let bench = SpiBench::new(1);
    let port: Box<dyn HubLink> = Box::new(SpiPort::over(bench.clone(), 50, trust, Arc::new(LinkKeysOfAll)));
    world.handle.attach(port).unwrap();
    bench
}

pub(crate) fn serial(pty: &Pty) -> SerialLink<Uart, { serial_buffer_len(RAW_FRAME) }> {
    SerialLink::new(Uart::new(pty))
}

/// With the channel of `key`, and below it what somebody sees and does who reaches the wire.
fn tapped<L: Link + Send + 'static>(raw: L, key: Option<LinkKey>, wake: Wake) -> (RawPeer, Tape) {
    let tape = Tape::default();
    let raw = Tapped { link: raw, tape: tape.clone() };
    let Some(key) = key else { return (carry(lane(raw), wake), tape) };
    let end = Connecting::<AnySuite>::new(key, 1, NonceSeed::random(nonce())).unwrap();
    (carry(lane(SecureLink::<_, _, RAW_FRAME>::new(raw, end)), wake), tape)
}

/// With a lane, as boards have it.
pub(crate) fn lane<L: Link>(link: L) -> Lane<L, { 2 * lane_len(SerialPort::MAX_FRAME) }> {
    Lane::new(link)
}

/// A peer whose frames a thread carries to and from `link`, until the peer is dropped.
pub(crate) fn carry<L: Link + Send + 'static>(link: L, wake: Wake) -> RawPeer {
    let (near, far) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        // It ends when the test has seen enough, or the line is gone.
        let _ = Carrier { link, test: far, waiting: Vec::new(), hello: None, unanswered: None }.run(&wake);
    });
    RawPeer::over(near)
}

/// Carries frames between a test and a line, and switches a lane on and off as the board's session would.
struct Carrier<L> {
    link: L,
    test: UnixStream,
    /// From the test, not yet taken by the line.
    waiting: Vec<u8>,
    /// The id of the last hello, and the boot id in it.
    hello: Option<(u64, u64)>,
    /// That hello, and when it is said again: nothing else makes up for one that is lost.
    unanswered: Option<(Vec<u8>, Instant)>,
}

impl<L: Link> Carrier<L> {
    fn run(&mut self, wake: &Wake) -> Result<(), L::Error> {
        let started = Clock::now();
        let (mut is_open, mut last_turns) = (true, 0);
        // What was said last goes out, where anything does.
        while is_open || (!self.waiting.is_empty() && last_turns < LAST_TURNS) {
            last_turns += u32::from(!is_open);
            let now = Instant::from_micros(started.elapsed().as_micros() as u64 + 1);
            self.link.flush(now)?;
            while let Some(frame) = self.link.receive()? {
                let frame = frame.to_vec();
                // Of the lane before, which a board that says hello anew has left already; or a piece that came before the
                // lane was on, and comes again.
                if matches!(decode(&frame), Err(DecodeError::UnknownType(_))) {
                    continue;
                }
                self.follow_answer(&frame);
                // The test may have gone.
                is_open &= self.test.write_all(&[&prefix(frame.len())[..], &frame].concat()).is_ok();
            }
            is_open = is_open && (!is_readable(&self.test) || self.take());
            self.send_waiting(now)?;
            let due = self.link.poll_timeout().map_or(LONGEST_WAIT, |due| due.duration_since(now));
            wake.wait(&self.test, due.min(LONGEST_WAIT));
        }
        Ok(())
    }

    fn send_waiting(&mut self, now: Instant) -> Result<(), L::Error> {
        while let Ok(Split::Frame { frame, consumed }) = split(&self.waiting, usize::MAX) {
            let hello = hello_in(frame);
            if hello.is_some() && self.hello != hello {
                self.hello = hello;
                self.link.reset(None);
            }
            assert!(frame.len() <= self.link.max_frame(), "{} bytes on a line", frame.len());
            if !self.link.send(frame)? {
                break;
            }
            if hello.is_some() {
                self.unanswered = Some((frame.to_vec(), now.plus_millis(HELLO_AGAIN_MS)));
            }
            self.waiting.drain(..consumed);
        }
        if let Some((hello, due)) = &mut self.unanswered
            && *due <= now
        {
            self.link.send(hello)?;
            *due = now.plus_millis(HELLO_AGAIN_MS);
        }
        self.link.flush(now).map(|_| ())
    }

    /// From the answer to its hello on, nothing is lost.
    fn follow_answer(&mut self, frame: &[u8]) {
        let (Some((id, boot_id)), Ok(message)) = (self.hello, decode(frame)) else { return };
        if !message.is_reply() || message.id != id {
            return;
        }
        self.unanswered = None;
        let Ok(hub) = message.payload.parse::<Identity<'_>>() else { return };
        if hub.capabilities & bus::HAS_LANE != 0 {
            self.link.reset(Some(epoch(boot_id, hub.boot_id, id)));
        }
    }

    /// Takes what the test has said; `false` at the end.
    fn take(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.test.read(&mut bytes).unwrap_or(0);
        self.waiting.extend_from_slice(&bytes[..count]);
        count > 0
    }
}

/// Id and boot id of a hello.
fn hello_in(frame: &[u8]) -> Option<(u64, u64)> {
    let message = decode(frame).ok()?;
    let is_hello = message.destination.is_some_and(|to| to.as_str() == bus::HELLO);
    let identity = message.payload.parse::<Identity<'_>>().ok().filter(|_| is_hello)?;
    Some((message.id, identity.boot_id))
}

/// As a session makes it of the two boot ids and the hello's id.
fn epoch(connecting: u64, accepting: u64, hello: u64) -> u16 {
    let mixed = connecting ^ accepting.rotate_left(5) ^ hello.rotate_left(3);
    let folded = mixed ^ mixed >> 32;
    (folded ^ folded >> 16 ^ folded >> 11) as u16
}

fn is_readable(stream: &UnixStream) -> bool {
    poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timespec(Duration::ZERO)))
        .is_ok_and(|count| count > 0)
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// Sixteen bytes that no other channel of this run has.
fn nonce() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    let random = |_| RandomState::new().hash_one(Clock::now());
    let [low, high]: [u64; 2] = std::array::from_fn(random);
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

/// With room for what the longest suite adds to the longest frame of a line.
pub(crate) const RAW_FRAME: usize = MAX_LINE_FRAME + 18;
pub(crate) const LINK_SECRET: [u8; 32] = *b"kelp-zither-mosaic-quartz-77-elk";
const HELLO_AGAIN_MS: u32 = 500;
const LAST_TURNS: u32 = 20;
const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// A bus does not tell that the test has something to say.
const BUS_WAIT: Duration = Duration::from_micros(300);
