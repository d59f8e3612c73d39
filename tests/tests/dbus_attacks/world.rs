//! A private bus, a hub on it with a Unix socket, a motion sensor on a line and a handler that counts; somebody at the
//! socket who minds their own business, and somebody who hears of everything that is audited.

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use visorbus_auth::{Accounts, AuditEvent, KeyFile, Policy, Store, TokenRequest};
use visorbus_core::bus::{self, SlowConsumer, Subscribe};
use visorbus_core::message::MessagePayload;
use visorbus_dbus::{BusAddress, DBusConfig, DBusDoor, DBusListener, DBusStatistics};
use visorbus_hub::info::PeerInfo;
use visorbus_hub::{Hub, HubConfig, HubHandle, Limits, OwnedMessage, OwnedPayload, Result};
use visorbus_imu::{DEVELOPMENT_ROOT_KEY, KEY_ID, device_key};
use visorbus_mcu::{NoBoardKeys, SerialPort, SerialSpec};
use visorbus_tests::dbus_daemon::{BusOptions, DbusDaemon};
use visorbus_tests::echo::Echo;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::wait_for_peers;
use visorbus_tests::pty::Pty;
use visorbus_tests::raw_peer::RawPeer;
use visorbus_unix::UnixSocketListener;

use crate::program::Program;
use crate::sensor::Node;
use crate::settings::Settings;

/// The hub, its bus and all who are not attacked. It ends with the test.
pub(crate) struct World {
    pub(crate) handle: HubHandle,
    pub(crate) door: DBusDoor,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) settings: Settings,
    thread: Option<JoinHandle<Result<()>>>,
    runs: Arc<AtomicUsize>,
    /// At the Unix socket, and how often it has called.
    bystander: RefCell<(RawPeer, usize)>,
    auditor: RefCell<RawPeer>,
    // After the hub, so that it leaves a bus that is there.
    pub(crate) bus: DbusDaemon,
    directory: tempfile::TempDir,
    sensor: Option<(Node, Pty)>,
}

/// What is not usual about a world.
pub(crate) struct Setup {
    /// What whoever runs the test may do, as in a policy: `"request:vault/*"`, with commas between.
    pub(crate) allow: &'static str,
    /// More of the policy.
    pub(crate) policy: String,
    pub(crate) limits: Limits,
    pub(crate) bus: DbusDaemon,
    pub(crate) config: DBusConfig,
}

impl Default for Setup {
    fn default() -> Self {
        // Attackers take their time, and the machine may be busy.
        let limits = Limits { handshake_ms: 120_000, ..Limits::default() };
        let (allow, policy) = ("\"request:vault/*\", \"notify:vault/*\"", String::new());
        Self { allow, policy, limits, bus: DbusDaemon::start(), config: DBusConfig::default() }
    }
}

impl Setup {
    /// On a bus with rules of its own.
    pub(crate) fn on_a_bus_with(rules: &str) -> Self {
        let options = BusOptions { rules: rules.to_owned(), ..BusOptions::default() };
        Self { bus: DbusDaemon::with(&options), ..Self::default() }
    }
}

impl World {
    /// Whoever runs the test is `panel` and may use the vault.
    pub(crate) fn start() -> Self {
        Self::of(Setup::default())
    }

    /// Whoever runs the test may do this.
    pub(crate) fn allowing(allow: &'static str) -> Self {
        Self::of(Setup { allow, ..Setup::default() })
    }

    pub(crate) fn of(setup: Setup) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let Setup { allow, policy, limits, bus, mut config } = setup;
        let policy = Arc::new(
            Policy::parse(&format!(
                "[[unix]]\nuid = {uid}\nsubject = \"panel\"\nscopes = [\"panel\"]\n\
                 [[rule]]\nscope = \"panel\"\nallow = [{allow}]\n{policy}"
            ))
            .unwrap(),
        );
        let keys = KeyFile::in_memory(KEY_ID, DEVELOPMENT_ROOT_KEY);
        let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
        let hub_config = HubConfig::with_providers(Arc::clone(&accounts) as _, policy);
        let hub = Hub::new(HubConfig { limits, ..hub_config }).unwrap();
        let handle = hub.handle();
        let thread = Some(thread::spawn(move || hub.run()));
        let directory = tempfile::tempdir().unwrap();
        handle
            .listen(Box::new(UnixSocketListener::bind(directory.path().join("run/bus.sock")).unwrap()))
            .unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        for id in ["vault", "config"] {
            handle.register_handler(Box::new(Echo::counted(id, &runs))).unwrap();
        }
        config.bus = BusAddress::Address(bus.address().to_owned());
        let (listener, door) = DBusListener::new(config, &handle).unwrap();
        handle.listen(Box::new(listener)).unwrap();
        let settings = Settings::new(Arc::clone(&runs));
        door.register_interface(settings.interface()).unwrap();
        let socket = directory.path().join("run/bus.sock");
        let mut auditor = connect(&socket, &accounts, "auditor", &["subscribe:bus/audit"]);
        subscribe(&mut auditor, bus::AUDIT);
        let bystander = connect(&socket, &accounts, "bystander", &["request:vault/*"]);
        let (bystander, auditor) = (RefCell::new((bystander, 0)), RefCell::new(auditor));
        let world = Self {
            handle,
            door,
            accounts,
            settings,
            thread,
            runs,
            bystander,
            auditor,
            bus,
            directory,
            sensor: None,
        };
        world.wait_until_named();
        world
    }

    /// With the motion sensor `imu` at a line.
    pub(crate) fn with_sensor(mut self) -> Self {
        let pty = Pty::open().unwrap();
        let line = self.directory.path().join("imu-line");
        pty.plug(&line).unwrap();
        let sensor = Node::sensor(&pty, 7, device_key());
        let spec: SerialSpec = format!("{}@921600,unkeyed=imu", line.display()).parse().unwrap();
        self.handle.attach(Box::new(SerialPort::new(spec, Arc::new(NoBoardKeys)))).unwrap();
        self.sensor = Some((sensor, pty));
        // Its types come last, one after the other.
        let mut waiter = self.neighbour("waiter", &["request:imu/**", "subscribe:imu/**"]);
        let until = Instant::now() + PATIENCE;
        for address in ["imu/info", "imu/set-rate", "imu/self-test", "imu/sample"] {
            let is_told = |answer: OwnedMessage| {
                let types: visorbus_hub::info::SchemaInfo = answer.payload.parse().unwrap();
                !types.request.is_empty() && (address == "imu/sample" || !types.response.is_empty())
            };
            while !waiter.request(bus::SCHEMA, MessagePayload::String(address)).is_ok_and(is_told) {
                assert!(Instant::now() < until, "the sensor does not tell the types of {address}");
                thread::yield_now();
            }
        }
        self
    }

    /// A program of whoever runs the test.
    pub(crate) fn program(&self) -> Program {
        Program::new(self.bus.connect())
    }

    /// A program that has shown a token of `subject` with these scopes.
    pub(crate) fn authenticated(&self, subject: &str, scopes: &[&str]) -> Program {
        let program = self.program();
        program.authenticate(&self.token(subject, scopes)).unwrap();
        program
    }

    /// A token that lives an hour, as text.
    pub(crate) fn token(&self, subject: &str, scopes: &[&str]) -> String {
        self.accounts.mint(&TokenRequest::new(subject, scopes)).unwrap().value.as_str().to_owned()
    }

    /// Somebody at the Unix socket.
    pub(crate) fn neighbour(&self, name: &str, scopes: &[&str]) -> RawPeer {
        connect(&self.socket(), &self.accounts, name, scopes)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/bus.sock")
    }

    /// The name that the bus gave the service.
    pub(crate) fn unique_name(&self) -> String {
        self.door.state().unique_name.expect("there is a bus")
    }

    /// How often a handler ran, or a member of the registered interface.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    pub(crate) fn statistics(&self) -> DBusStatistics {
        self.door.statistics()
    }

    /// Demands that others are served, at the socket and on the bus, and that nobody else reached a handler so far.
    #[track_caller]
    pub(crate) fn is_unharmed(&self) {
        self.is_unharmed_after(0);
    }

    /// As [`World::is_unharmed`], after so many calls that were allowed.
    #[track_caller]
    pub(crate) fn is_unharmed_after(&self, allowed: usize) {
        self.serves_neighbours();
        self.bystander.borrow_mut().1 += allowed;
        let answer =
            self.authenticated("passer-by", &["request:vault/*"]).call_address("vault/open", "me too");
        assert_eq!(answer.as_deref(), Ok("me too"));
        let calls = &mut self.bystander.borrow_mut().1;
        *calls += 1;
        assert_eq!(self.runs(), *calls, "somebody else reached a handler, or did not");
    }

    /// Demands that somebody at the socket is served; how long that took.
    #[track_caller]
    pub(crate) fn serves_neighbours(&self) -> Duration {
        let (peer, calls) = &mut *self.bystander.borrow_mut();
        let begun = Instant::now();
        let answer = peer.request("vault/open", MessagePayload::String("still there?"));
        assert_eq!(answer.map(|answer| answer.payload), Ok(OwnedPayload::String("still there?".into())));
        *calls += 1;
        begun.elapsed()
    }

    /// Waits until the service has its name.
    #[track_caller]
    pub(crate) fn wait_until_named(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.door.state().owns_name {
            assert!(Instant::now() < until, "{:?}\n{}", self.door.state(), self.bus.log());
            thread::yield_now();
        }
    }

    /// Asks who is there until `so` holds.
    #[track_caller]
    pub(crate) fn wait_for_peers(&self, so: impl Fn(&[PeerInfo]) -> bool) {
        wait_for_peers(&self.handle, so);
    }

    /// Waits for an event of this kind with this in its text, about somebody on the bus.
    #[track_caller]
    pub(crate) fn is_audited(&self, what: &str, resource: &str, reason: &str) -> AuditEvent {
        let event = |message: &OwnedMessage| message.payload.parse::<AuditEvent>().ok();
        let is_wanted = |message: &OwnedMessage| {
            message.destination == bus::AUDIT
                && event(message).is_some_and(|event| {
                    event.what == what
                        && event.transport == "dbus"
                        && event.resource.contains(resource)
                        && event.reason.contains(reason)
                })
        };
        event(&self.auditor.borrow_mut().read_where(is_wanted)).unwrap()
    }

    /// All events that are left, as texts.
    pub(crate) fn all_audited(&self) -> String {
        let messages = self.auditor.borrow_mut().read_so_far();
        messages.iter().map(|message| format!("{:?}", message.payload.parse::<AuditEvent>())).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

/// Subscribes to what a pattern selects.
pub(crate) fn subscribe(peer: &mut RawPeer, pattern: &str) {
    let asked = Subscribe { pattern, policy: SlowConsumer::default() };
    peer.request(bus::SUBSCRIBE, OwnedPayload::postcard(&asked).unwrap().borrow()).unwrap();
}

fn connect(socket: &std::path::Path, accounts: &Accounts, name: &str, scopes: &[&str]) -> RawPeer {
    let mut peer = RawPeer::over(UnixStream::connect(socket).unwrap());
    let identity =
        visorbus_core::bus::Identity { heartbeat_ms: 600_000, ..visorbus_tests::raw_peer::identity(name) };
    peer.hello_as(&identity).unwrap();
    let token = accounts.mint(&TokenRequest::new(name, scopes)).unwrap();
    peer.authenticate(&token.value.to_bytes().unwrap()).unwrap();
    peer
}

pub(crate) const SERVICE: &str = "org.visorbus.Bus1";
pub(crate) const ROOT: &str = "/org/visorbus/Bus1";
