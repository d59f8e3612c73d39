//! An example's node as a process of this machine: the same node as in the firmware, its UART one end of a
//! pseudo-terminal.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant as Clock};

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use visorbus_controller::{Board, ControllerBoard, ControllerNode};
use visorbus_core::auth::Key;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::peer::{DeviceKey, HubByLink, Keys};
use visorbus_core::secure::{AnySuite, Connecting, LinkKey, NonceSeed, SecureEnd};
use visorbus_core::serve::serve;
use visorbus_core::session::SessionConfig;
use visorbus_core::{Instant, Link, Peer};
use visorbus_hal::{Lane, SecureLink, SerialLink, lane_len, serial_buffer_len};
use visorbus_hub::{Error, Result, unix_micros};
use visorbus_imu::{ImuNode, MAX_FRAME};
use zeroize::Zeroizing;

use crate::args;
use crate::output::print_line;

/// Opens a pseudo-terminal, prints the path of its other end, and is the node on it until it is killed.
pub(crate) fn run(node: args::Node) -> Result<()> {
    let uart =
        PtyUart::open().map_err(|e| Error::Internal(format!("no pseudo-terminal for the node: {e}")))?;
    print_line(&uart.path).map_err(|e| Error::Internal(e.to_string()))?;
    let started = Clock::now();
    let boot_id = unix_micros();
    let waiter = uart.master.try_clone().map_err(|e| Error::Internal(e.to_string()))?;
    let wait = |due| {
        wait(&waiter, due, started);
        now(started)
    };
    let raw = RawLine::new(uart);
    let Err(error) = match link_key()? {
        None => {
            let keys = DeviceKey::new(visorbus_imu::KEY_ID, device_key(node));
            serve_on(Peer::new(config(node, boot_id, true), BoardLane::new(raw), keys), node, started, wait)
        }
        // The hub is known by the key of the line.
        Some(key) => {
            let line = SecureLink::<_, _, RAW_FRAME>::new(raw, connecting(key, boot_id)?);
            serve_on(
                Peer::new(config(node, boot_id, false), BoardLane::new(line), HubByLink),
                node,
                started,
                wait,
            )
        }
    };
    Err(Error::Connection(format!("the pseudo-terminal is gone: {error}")))
}

/// Is the node on its line until that is gone.
fn serve_on<L: Link, K: Keys>(
    mut peer: Peer<L, K, MAX_FRAME>,
    node: args::Node,
    started: Clock,
    wait: impl FnMut(Option<Instant>) -> Instant,
) -> std::result::Result<Infallible, L::Error> {
    let boot_id = peer.session().boot_id();
    match node {
        args::Node::Imu => serve(&mut peer, &mut ImuNode::new(Host::new(started), boot_id), wait),
        args::Node::Controller => {
            serve(&mut peer, &mut ControllerNode::new(Host::new(started), boot_id), wait)
        }
    }
}

fn config(node: args::Node, boot_id: u64, requires_authentication: bool) -> SessionConfig {
    match node {
        args::Node::Imu => visorbus_imu::session_config(boot_id, requires_authentication),
        args::Node::Controller => visorbus_controller::session_config(boot_id, requires_authentication),
    }
}

fn device_key(node: args::Node) -> Key {
    match node {
        args::Node::Imu => visorbus_imu::device_key(),
        args::Node::Controller => visorbus_controller::device_key(),
    }
}

/// The link key in the environment, as `visorbus key provision` prints it.
fn link_key() -> Result<Option<LinkKey>> {
    let Ok(text) = std::env::var(LINK_KEY) else { return Ok(None) };
    let text = Zeroizing::new(text);
    let key = LinkKey::parse(text.trim()).map_err(|e| Error::Message(format!("{LINK_KEY}: {e}")))?;
    Ok(Some(key))
}

fn connecting(key: LinkKey, boot_id: u64) -> Result<Connecting<AnySuite>> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    let end = Connecting::new(key, boot_id, NonceSeed::random(random));
    end.map_err(|_| Error::Internal("no end of a line knows the key's suite".to_owned()))
}

/// Where the node looks for the key of its line.
pub(crate) const LINK_KEY: &str = "VISORBUS_LINK_KEY";

/// With room for what a key adds to the longest frame of a line.
const RAW_FRAME: usize = MAX_LINE_FRAME + <Connecting<AnySuite> as SecureEnd>::OVERHEAD;

type BoardLane<L> = Lane<L, { 2 * lane_len(MAX_FRAME) }>;

type RawLine = SerialLink<PtyUart, { serial_buffer_len(RAW_FRAME) }>;

/// This process as a board. Its lamp is a line on standard error.
struct Host {
    started: Clock,
    led: bool,
}

impl Host {
    const fn new(started: Clock) -> Self {
        Self { started, led: false }
    }
}

impl Board for Host {
    const NAME: &'static str = "host-pty";

    fn now_us(&self) -> u64 {
        now(self.started).as_micros()
    }
}

impl ControllerBoard for Host {
    fn set_led(&mut self, on: bool) {
        if self.led != on {
            self.led = on;
            // A lamp that nobody can see is one all the same.
            let _ =
                io::Write::write_all(&mut io::stderr(), if on { "led on\n" } else { "led off\n" }.as_bytes());
        }
    }

    fn is_led_lit(&self) -> bool {
        self.led
    }
}

fn now(started: Clock) -> Instant {
    Instant::from_micros(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// Sleeps until there is something to read or `due` has come; at most 10 ms, because output that was stuck goes on by
/// being tried again.
fn wait(master: &OwnedFd, due: Option<Instant>, started: Clock) {
    let left = due.map_or(LONGEST_WAIT, |due| due.duration_since(now(started))).min(LONGEST_WAIT);
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
    // A failed wait is a short one.
    let _ = poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&time));
}

/// The master end of a pseudo-terminal as a UART. Nobody at the other end is a silent line, not an error.
struct PtyUart {
    master: OwnedFd,
    /// Held open so that the line stays up while nobody else has it.
    _slave: OwnedFd,
    path: String,
}

impl PtyUart {
    fn open() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(path.as_str(), flags, Mode::empty())?;
        let mut settings = tcgetattr(&slave)?;
        // Before anybody opens it the line would echo the node's own bytes to it.
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master, _slave: slave, path })
    }

    fn is_ready(&self, flags: PollFlags) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.master, flags)];
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(flags)
    }
}

impl ErrorType for PtyUart {
    type Error = ErrorKind;
}

impl ReadReady for PtyUart {
    fn read_ready(&mut self) -> std::result::Result<bool, ErrorKind> {
        Ok(self.is_ready(PollFlags::IN))
    }
}

impl WriteReady for PtyUart {
    fn write_ready(&mut self) -> std::result::Result<bool, ErrorKind> {
        Ok(self.is_ready(PollFlags::OUT))
    }
}

impl Read for PtyUart {
    fn read(&mut self, bytes: &mut [u8]) -> std::result::Result<usize, ErrorKind> {
        rustix::io::read(&self.master, bytes).map_err(|_| ErrorKind::Other)
    }
}

impl Write for PtyUart {
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<usize, ErrorKind> {
        rustix::io::write(&self.master, bytes).map_err(|_| ErrorKind::Other)
    }

    fn flush(&mut self) -> std::result::Result<(), ErrorKind> {
        Ok(())
    }
}

const LONGEST_WAIT: Duration = Duration::from_millis(10);
