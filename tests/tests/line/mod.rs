//! What the tests of serial lines share: a hub with a socket, its clients, pseudo-terminals, calls that wait.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use visorbus_auth::{KeyFile, TokenRequest, TokenText};
use visorbus_controller::messages as controller;
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::Address;
use visorbus_core::message::typed::Endpoint;
use visorbus_hub::info::{PeerInfo, ServiceChange};
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, Result};
use visorbus_imu::messages::{CONTROL, GetInfo, Info, Sample};
use visorbus_imu::{DEVELOPMENT_ROOT_KEY, KEY_ID};
use visorbus_mcu::{BoardKeys, NoBoardKeys, SerialPort, SerialSpec};
use visorbus_tests::patience::{CHANCES, PATIENCE};
use visorbus_unix::{Credentials, Delivery, Subscription, UnixSocketClient, UnixSocketListener};

/// What counts as at once, where the alternative is a deadline of a minute.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(10);

/// A hub with a socket, and a directory for it and for the names of lines; it ends with the test.
pub(crate) struct TestHub {
    pub(crate) handle: HubHandle,
    thread: Option<JoinHandle<Result<()>>>,
    directory: tempfile::TempDir,
}

impl TestHub {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (handle, thread) = start(&socket(&directory));
        Self { handle, thread: Some(thread), directory }
    }

    /// The path that names a line, whichever pseudo-terminal that is at the time.
    pub(crate) fn line(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Has the hub serve what is at a line of [`TestHub::line`], with options as on the command line.
    pub(crate) fn attach(&self, name: &str, options: &str) {
        self.attach_with(name, options, Arc::new(NoBoardKeys));
    }

    /// As [`TestHub::attach`], for boards with one of `keys`.
    pub(crate) fn attach_with(&self, name: &str, options: &str, keys: Arc<dyn BoardKeys>) {
        let spec: SerialSpec = format!("{}@921600{options}", self.line(name).display()).parse().unwrap();
        self.handle.attach(Box::new(SerialPort::new(spec, keys))).unwrap();
    }

    /// Another client.
    pub(crate) fn client(&self, name: &str, scopes: &[&str]) -> UnixSocketClient {
        let client = UnixSocketClient::new(socket(&self.directory), name).unwrap();
        client.connect().unwrap();
        client.authenticate(&Credentials::Token(self.token(name, scopes))).unwrap();
        client
    }

    /// A token of the hub's.
    pub(crate) fn token(&self, name: &str, scopes: &[&str]) -> TokenText {
        keys().mint(&TokenRequest::new(name, scopes)).unwrap()
    }

    /// A client that may do everything with the devices, and sees who comes and goes.
    pub(crate) fn operator(&self) -> Operator {
        let client = self.client("operator", &["request:**", "subscribe:**", CONTROL, controller::CONTROL]);
        let changes = client.subscribe(bus::SERVICES_CHANGED, SlowConsumer::default()).unwrap();
        Operator { client, changes }
    }

    /// What the hub counts of a peer.
    pub(crate) fn peer(&self, name: &str) -> Option<PeerInfo> {
        self.handle.peers().unwrap().into_iter().find(|peer| peer.name == name)
    }

    /// Asks the hub until its counters of a peer are as they should be.
    pub(crate) fn wait_for_peer(&self, name: &str, what: impl Fn(&PeerInfo) -> bool) -> PeerInfo {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let peer = self.peer(name);
            if let Some(peer) = peer.clone().filter(&what) {
                return peer;
            }
            assert!(Instant::now() < deadline, "waited in vain; {name} is {peer:?}");
            thread::yield_now();
        }
    }

    /// Calls a device on a thread of its own, with a deadline far away; comes back when the hub has the call, the first of
    /// this client.
    pub(crate) fn pending_call<E>(&self, caller: &UnixSocketClient) -> PendingCall<E::Response>
    where
        E: Endpoint<Request = (), Response: Send + 'static>,
    {
        let name = caller.client_id();
        // A client that has not called before first says what types it was built with.
        let before = self.peer(name).unwrap().frames_in + 1;
        let client = caller.clone();
        let call = thread::spawn(move || {
            let outcome = client.call::<E>(&(), Some(Duration::from_secs(60)));
            (outcome, Instant::now())
        });
        self.wait_for_peer(name, |peer| peer.frames_in > before);
        PendingCall { address: E::ADDRESS, call }
    }

    /// Ends the hub, and puts a new one in its place.
    #[allow(dead_code, reason = "one of the two test programs has no use for it")]
    pub(crate) fn restart(&mut self, between: impl FnOnce()) {
        self.stop();
        between();
        let (handle, thread) = start(&socket(&self.directory));
        (self.handle, self.thread) = (handle, Some(thread));
    }

    fn stop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client that may do everything with the devices.
pub(crate) struct Operator {
    pub(crate) client: UnixSocketClient,
    changes: Subscription,
}

impl Operator {
    /// Waits until a component came, or went; how long that took.
    #[track_caller]
    pub(crate) fn wait(&self, component: &str, up: bool) -> Duration {
        let started = Instant::now();
        loop {
            let left = (started + PATIENCE).saturating_duration_since(Instant::now());
            match self.changes.recv(Some(left)).unwrap() {
                Some(Delivery::Message(message)) => {
                    let change: ServiceChange = message.payload.parse().unwrap();
                    if change.component == component && change.up == up {
                        return started.elapsed();
                    }
                }
                Some(Delivery::Missed(count)) => panic!("{count} changes were missed"),
                None => panic!("'{component}' did not {}", if up { "come" } else { "go" }),
            }
        }
    }

    #[track_caller]
    pub(crate) fn call<E: Endpoint>(&self, request: &E::Request) -> E::Response {
        self.client.call::<E>(request, Some(PATIENCE)).unwrap()
    }

    #[track_caller]
    pub(crate) fn info(&self) -> Info {
        self.call::<GetInfo>(&())
    }
}

/// A call that the hub has taken and nobody has answered.
pub(crate) struct PendingCall<R> {
    address: Address<'static>,
    call: JoinHandle<(Result<R>, Instant)>,
}

impl<R: Debug> PendingCall<R> {
    /// Demands that it ends with a connection error with `why` in it, at once after `cause`.
    #[track_caller]
    pub(crate) fn expect_gone(self, cause: Instant, why: &str) {
        let address = self.address;
        let (error, after) = self.error(cause);
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        let text = error.text();
        let component = address.component();
        assert!(text.starts_with(&format!("{component} is gone (")) && text.contains(why), "{text}");
        assert!(text.ends_with(&format!("'{address}' was not answered")), "{text}");
        assert!(after < AT_ONCE, "{after:?}");
    }

    /// What it ends with, and how long after `cause`.
    #[track_caller]
    pub(crate) fn error(self, cause: Instant) -> (Error, Duration) {
        let (outcome, at) = self.call.join().unwrap();
        (outcome.expect_err("nobody could answer"), at.saturating_duration_since(cause))
    }
}

/// The next `count` samples.
#[track_caller]
pub(crate) fn samples(subscription: &Subscription, count: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    while samples.len() < count {
        match subscription.recv(Some(PATIENCE)).unwrap() {
            Some(Delivery::Message(message)) => samples.push(message.payload.parse().unwrap()),
            Some(Delivery::Missed(count)) => panic!("{count} samples were missed"),
            None => panic!("{} samples came, then none", samples.len()),
        }
    }
    samples
}

/// The next `count` samples that are this far apart, none left out. Where the machine gives the board no time, the newest of
/// several that are due takes the place of the others; then those after them get another chance.
#[track_caller]
pub(crate) fn samples_without_gaps(subscription: &Subscription, count: usize, rate_hz: u16) -> Vec<Sample> {
    let period = 1_000_000 / u64::from(rate_hz);
    let is_next = |pair: &[Sample]| pair[1].timestamp_us - pair[0].timestamp_us == period;
    let mut chances = (0..CHANCES).map(|_| samples(subscription, count));
    let whole = chances.find(|samples| samples.windows(2).all(is_next));
    whole.unwrap_or_else(|| panic!("there are always gaps in {count} samples at {rate_hz} Hz"))
}

fn start(socket: &Path) -> (HubHandle, JoinHandle<Result<()>>) {
    let keys = keys();
    let hub = Hub::new(HubConfig::new(keys.ring(), keys.current_id())).unwrap();
    let handle = hub.handle();
    let thread = thread::spawn(move || hub.run());
    handle.listen(Box::new(UnixSocketListener::bind(socket).unwrap())).unwrap();
    (handle, thread)
}

fn socket(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("run/bus.sock")
}

fn keys() -> KeyFile {
    KeyFile::in_memory(KEY_ID, DEVELOPMENT_ROOT_KEY)
}
