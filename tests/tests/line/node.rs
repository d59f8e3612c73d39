//! Nodes of the core on threads of their own, at the near ends of pseudo-terminals.

use std::io::{PipeReader, PipeWriter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Clock};

use embedded_io::{ErrorKind as UartError, ErrorType, Read, ReadReady, Write, WriteReady};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use visorbus_core::auth::{Access, Key};
use visorbus_core::dispatch::{Answers, Row};
use visorbus_core::message::Address;
use visorbus_core::message::typed::Endpoint;
use visorbus_core::peer::{DeviceKey, Event, Keys, NoKeys, Node as Table};
use visorbus_core::secure::{AnySuite, Connecting, LinkKey, NonceSeed};
use visorbus_core::serve::{Application, serve};
use visorbus_core::session::{Name, SessionConfig};
use visorbus_core::{Instant, IpcError, Link, Peer};
use visorbus_hal::{Lane, SecureLink, SerialLink, lane_len, serial_buffer_len};
use visorbus_imu::{ImuBoard, ImuNode, KEY_ID, Line, MAX_FRAME, leaf, line, session_config};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::pty::Pty;

/// A node on a thread of its own, at the near end of a line; when it is dropped it is silent, and the line still there.
pub(crate) struct Node {
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    /// While this is false, what comes is lost.
    pub(crate) hears: Arc<AtomicBool>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// The sensor of the examples.
    pub(crate) fn sensor(pty: &Pty, boot_id: u64, key: Key) -> Self {
        Self::start(pty, move |uart, events, wait| {
            let mut node = ImuNode::new(Host { started: Clock::now(), events }, boot_id);
            let _ = serve(&mut leaf(uart, boot_id, key), &mut node, wait);
        })
    }

    /// The sensor of the examples on a line with a key.
    pub(crate) fn sensor_with(pty: &Pty, boot_id: u64, key: Key, link_key: LinkKey) -> Self {
        Self::start(pty, move |uart, events, wait| {
            let mut node = ImuNode::new(Host { started: Clock::now(), events }, boot_id);
            let seed = NonceSeed::random((u128::from(boot_id) << 64 | 7).to_be_bytes());
            let end = Connecting::<AnySuite>::new(link_key, boot_id, seed).unwrap();
            let raw = SerialLink::<_, { serial_buffer_len(RAW_FRAME) }>::new(uart);
            let lane =
                Lane::<_, { 2 * lane_len(MAX_FRAME) }>::new(SecureLink::<_, _, RAW_FRAME>::new(raw, end));
            let keys = DeviceKey::new(KEY_ID, key);
            let mut peer = Peer::<_, _, MAX_FRAME>::new(session_config(boot_id, true), lane, keys);
            let _ = serve(&mut peer, &mut node, wait);
        })
    }

    /// A node with one address that is open to everybody, and a key.
    pub(crate) fn keyed(pty: &Pty, name: &'static str, key: Key) -> Self {
        Self::start(pty, move |uart, events, wait| {
            let config =
                SessionConfig { name: Name::try_from(name).unwrap(), rows: 0, ..session_config(1, true) };
            let peer = Peer::<_, _, MAX_FRAME>::new(config, line(uart), DeviceKey::new(KEY_ID, key));
            run_plain(peer, events, wait);
        })
    }

    /// The same without keys.
    pub(crate) fn plain(pty: &Pty, name: &'static str) -> Self {
        Self::start(pty, move |uart, events, wait| {
            let config =
                SessionConfig { name: Name::try_from(name).unwrap(), rows: 1, ..session_config(1, false) };
            run_plain(Peer::<_, _, MAX_FRAME>::new(config, line(uart), NoKeys), events, wait);
        })
    }

    pub(crate) fn start(
        pty: &Pty,
        run: impl FnOnce(Uart, Events, &mut dyn FnMut(Option<Instant>) -> Instant) + Send + 'static,
    ) -> Self {
        let (stopped, stop) = std::io::pipe().unwrap();
        let (events, hears) = (Events::default(), Arc::new(AtomicBool::new(true)));
        let master = pty.master.try_clone().unwrap();
        let uart = Uart {
            master: master.try_clone().unwrap(),
            stopped: Some(stopped.try_clone().unwrap()),
            hears: Arc::clone(&hears),
        };
        let seen = Arc::clone(&events);
        let thread = thread::spawn(move || {
            let started = Clock::now();
            let mut wait = |due: Option<Instant>| {
                let now = Instant::from_micros(started.elapsed().as_micros() as u64);
                let left = due.map_or(LONGEST_WAIT, |due| due.duration_since(now)).min(LONGEST_WAIT);
                let time = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
                let mut fds = [PollFd::new(&master, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                let _ = poll(&mut fds, Some(&time));
                Instant::from_micros(started.elapsed().as_micros() as u64)
            };
            run(uart, seen, &mut wait);
        });
        Self { events, hears, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn saw(&self, event: Event) -> bool {
        self.events.lock().unwrap().contains(&event)
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, event: Event) {
        let deadline = Clock::now() + PATIENCE;
        while !self.saw(event) {
            assert!(Clock::now() < deadline, "no {event:?}: {:?}", self.events.lock().unwrap());
            thread::yield_now();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

pub(crate) type Events = Arc<Mutex<Vec<Event>>>;

/// The board of a sensor on this machine.
pub(crate) struct Host {
    started: Clock,
    events: Events,
}

impl ImuBoard for Host {
    const NAME: &'static str = "a thread";

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn on_event(&mut self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

/// A node with one address that is open to everybody.
pub(crate) struct Plain(Events);

/// `imu/ping`: answers one more.
pub(crate) struct Ping;

impl Endpoint for Ping {
    type Request = u32;
    type Response = u32;
    const ADDRESS: Address<'static> = Address::literal("imu/ping");
    const ACCESS: Access<'static> = Access::Open;
}

impl Table for Plain {
    const ROWS: &'static [Row<Self>] = &[Row::endpoint::<Ping>()];
}

impl Answers<Ping> for Plain {
    fn answer(&mut self, request: u32) -> Result<u32, IpcError> {
        Ok(request + 1)
    }
}

impl<L: Link, K: Keys, const OUT: usize> Application<L, K, OUT> for Plain {
    fn tick(
        &mut self,
        _peer: &mut Peer<L, K, OUT>,
        event: Option<Event>,
        _now: Instant,
    ) -> Result<(), L::Error> {
        self.0.lock().unwrap().extend(event);
        Ok(())
    }
}

fn run_plain<K: Keys>(
    mut peer: Peer<Line<Uart>, K, MAX_FRAME>,
    events: Events,
    wait: &mut dyn FnMut(Option<Instant>) -> Instant,
) {
    let _ = serve(&mut peer, &mut Plain(events), wait);
}

/// The near end of a pseudo-terminal as a UART. It is gone when the test has seen enough of its node.
pub(crate) struct Uart {
    master: std::os::fd::OwnedFd,
    stopped: Option<PipeReader>,
    hears: Arc<AtomicBool>,
}

impl Uart {
    /// One that hears everything and is never gone.
    #[allow(dead_code, reason = "one of the two test programs has no use for it")]
    pub(crate) fn new(pty: &Pty) -> Self {
        let master = pty.master.try_clone().unwrap();
        Self { master, stopped: None, hears: Arc::new(AtomicBool::new(true)) }
    }

    fn is_ready(&self, flags: PollFlags) -> Result<bool, UartError> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_stopped = |stopped: &PipeReader| {
            poll(&mut [PollFd::new(stopped, PollFlags::IN)], Some(&now)).map_or(true, |count| count > 0)
        };
        if self.stopped.as_ref().is_some_and(is_stopped) {
            return Err(UartError::NotConnected);
        }
        let mut fds = [PollFd::new(&self.master, flags)];
        poll(&mut fds, Some(&now)).map_err(|_| UartError::Other)?;
        Ok(fds[0].revents().contains(flags))
    }
}

impl ErrorType for Uart {
    type Error = UartError;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, UartError> {
        let mut lost = [0; 256];
        while self.is_ready(PollFlags::IN)? {
            if self.hears.load(Ordering::SeqCst) {
                return Ok(true);
            }
            rustix::io::read(&self.master, &mut lost).map_err(|_| UartError::Other)?;
        }
        Ok(false)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, UartError> {
        self.is_ready(PollFlags::OUT)
    }
}

impl Read for Uart {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, UartError> {
        rustix::io::read(&self.master, bytes).map_err(|_| UartError::Other)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, UartError> {
        rustix::io::write(&self.master, bytes).map_err(|_| UartError::Other)
    }

    fn flush(&mut self) -> Result<(), UartError> {
        Ok(())
    }
}

/// What the crates log from now on, from information upwards, in all tests of this program.
pub(crate) fn log() -> &'static Mutex<String> {
    static STARTED: Once = Once::new();
    struct Lines;
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8_lossy(bytes);
            if let Some(all) = &mut *ALL.lock().unwrap() {
                all.push_str(&text);
            }
            if !text.contains(" DEBUG ") && !text.contains(" TRACE ") {
                LOG.lock().unwrap().push_str(&text);
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = || {
        let all = tracing_subscriber::filter::LevelFilter::TRACE;
        tracing_subscriber::fmt().with_ansi(false).with_max_level(all).with_writer(|| Lines).init();
    };
    STARTED.call_once(lines);
    &LOG
}

/// All that the crates log, whatever its level, while `run` runs.
#[allow(dead_code, reason = "one of the two test programs has no use for it")]
pub(crate) fn all_logged(run: impl FnOnce()) -> String {
    log();
    *ALL.lock().unwrap() = Some(String::new());
    run();
    ALL.lock().unwrap().take().unwrap_or_default()
}

/// How many warnings have `text` in them.
pub(crate) fn logged(text: &str) -> usize {
    log().lock().unwrap().lines().filter(|line| line.contains("WARN") && line.contains(text)).count()
}

#[track_caller]
pub(crate) fn wait_for_log(text: &str) {
    let deadline = Clock::now() + PATIENCE;
    let mut seen = 0;
    loop {
        {
            let log = log().lock().unwrap();
            if log[seen..].lines().any(|line| line.contains("WARN") && line.contains(text)) {
                return;
            }
            seen = log.len();
        }
        assert!(Clock::now() < deadline, "'{text}' was not logged");
        thread::yield_now();
    }
}

static LOG: Mutex<String> = Mutex::new(String::new());
static ALL: Mutex<Option<String>> = Mutex::new(None);
/// Output that was stuck goes on by being tried again.
const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// With room for what the longest suite adds to the longest frame of a line.
const RAW_FRAME: usize = visorbus_core::limits::MAX_LINE_FRAME + 18;
