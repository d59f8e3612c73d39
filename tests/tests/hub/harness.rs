//! A hub on a thread of its own, peers of it, and the bystander that every misdeed is held against.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use visorbus_core::auth::{BUS, Claims, Key, KeyRing, Scopes, Slot};
use visorbus_core::bus::{self, Register, SlowConsumer, Subscribe};
use visorbus_core::encode;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::info::PeerInfo;
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, Limits, OwnedMessage, OwnedPayload, unix_micros};
use visorbus_tests::echo::Echo;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::wait_for_peers;
use visorbus_tests::raw_peer::RawPeer;

/// The hub's root key.
pub(crate) const ROOT: [u8; 32] = [9; 32];

/// A running hub with the handler `echo`; it ends with the test.
pub(crate) struct TestHub {
    pub(crate) handle: HubHandle,
    /// The hub's thread, as /proc/self/task knows it.
    pub(crate) thread_id: i32,
    keys: KeyRing,
    thread: Option<JoinHandle<Result<(), Error>>>,
    echoed: Arc<AtomicUsize>,
}

impl TestHub {
    pub(crate) fn start() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with_config(HubConfig { limits, ..HubConfig::new(root_keys(), 1) })
    }

    pub(crate) fn with_config(config: HubConfig) -> Self {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let hub = Hub::new(HubConfig { boot_id: BOOT_ID, ..config })?;
            send.send((hub.handle(), nix::unistd::gettid().as_raw())).expect("the test waits for it");
            hub.run()
        });
        let (handle, thread_id) = receive.recv().expect("the hub starts");
        let echoed = Arc::default();
        handle.register_handler(Box::new(Echo::counted("echo", &echoed))).expect("the name is free");
        Self { handle, thread_id, keys: root_keys(), thread: Some(thread), echoed }
    }

    /// A connection that has not said anything.
    pub(crate) fn attach(&self) -> RawPeer {
        RawPeer::attach(&self.handle)
    }

    /// A connection that has said hello and shown nothing.
    pub(crate) fn greeted(&self, name: &str) -> RawPeer {
        let mut peer = self.attach();
        peer.hello(name).expect("a hello is answered");
        peer
    }

    /// A peer with a session and these scopes.
    pub(crate) fn connect(&self, name: &str, scopes: &[&str]) -> RawPeer {
        let mut peer = self.greeted(name);
        peer.authenticate(&self.token(name, scopes)).expect("the token is good");
        peer
    }

    pub(crate) fn bystander(&self) -> Bystander {
        let peer = self.connect("bystander", &["request:echo/*"]);
        Bystander { peer, calls: 0, before: self.echoed() }
    }

    /// A token for the hub that lives an hour.
    pub(crate) fn token(&self, subject: &str, scopes: &[&str]) -> Vec<u8> {
        self.mint(&Claims { subject, scopes: Scopes::new(scopes), ..claims() })
    }

    pub(crate) fn mint(&self, claims: &Claims<'_>) -> Vec<u8> {
        let mut token = [0; MAX_TOKEN];
        let len = self.keys.mint(1, claims, &mut token).expect("the claims are sound");
        token[..len].to_vec()
    }

    /// How often `echo` ran.
    pub(crate) fn echoed(&self) -> usize {
        self.echoed.load(Ordering::SeqCst)
    }

    /// What the hub says of the peer that goes by `name`, a `?` behind it where that is only claimed.
    pub(crate) fn peer(&self, name: &str) -> PeerInfo {
        let peers = self.handle.peers().expect("the hub runs");
        let found = peers.iter().find(|peer| peer.name == name);
        found.unwrap_or_else(|| panic!("no {name} among {peers:?}")).clone()
    }

    /// Asks who is there until `so` holds.
    #[track_caller]
    pub(crate) fn wait_until(&self, so: impl Fn(&[PeerInfo]) -> bool) {
        wait_for_peers(&self.handle, so);
    }

    /// Stops the hub and says how it ended.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.handle.stop();
        self.thread.take().expect("it was not stopped before").join().expect("the hub does not panic")
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let ended = self.stop();
            assert!(thread::panicking() || ended.is_ok(), "{ended:?}");
        }
    }
}

/// A peer that minds its own business.
pub(crate) struct Bystander {
    pub(crate) peer: RawPeer,
    calls: usize,
    before: usize,
}

impl Bystander {
    /// It is served as before, and nobody else was: no other call of the handler than its own.
    #[track_caller]
    pub(crate) fn is_served_alone(&mut self, hub: &TestHub) {
        self.is_served();
        assert_eq!(hub.echoed() - self.before, self.calls, "somebody else reached the handler");
    }

    #[track_caller]
    pub(crate) fn is_served(&mut self) {
        self.calls += 1;
        let answer = self.peer.request("echo/ping", MessagePayload::String("still there?"));
        assert_eq!(answer.map(|answer| answer.payload), Ok(OwnedPayload::String("still there?".into())));
    }
}

/// What the tests do as a client of the hub.
pub(crate) trait Client {
    fn subscribe(&mut self, pattern: &str, policy: SlowConsumer) -> Result<OwnedMessage, Error>;
    fn register(&mut self, component: &str) -> Result<OwnedMessage, Error>;
    fn unregister(&mut self, component: &str) -> Result<OwnedMessage, Error>;
    fn ask_text(&mut self, address: &str, text: &str) -> Result<OwnedMessage, Error>;
    /// Takes the next request that the hub brings.
    fn read_call(&mut self) -> OwnedMessage;
    /// Answers a request.
    fn answer(&mut self, call: &OwnedMessage, text: &str);
}

impl Client for RawPeer {
    fn subscribe(&mut self, pattern: &str, policy: SlowConsumer) -> Result<OwnedMessage, Error> {
        let payload = OwnedPayload::postcard(&Subscribe { pattern, policy })?;
        self.request(bus::SUBSCRIBE, payload.borrow())
    }

    fn register(&mut self, component: &str) -> Result<OwnedMessage, Error> {
        let payload = OwnedPayload::postcard(&Register { component })?;
        self.request(bus::REGISTER, payload.borrow())
    }

    fn unregister(&mut self, component: &str) -> Result<OwnedMessage, Error> {
        self.ask_text(bus::UNREGISTER, component)
    }

    fn ask_text(&mut self, address: &str, text: &str) -> Result<OwnedMessage, Error> {
        self.request(address, MessagePayload::String(text))
    }

    fn read_call(&mut self) -> OwnedMessage {
        self.read_where(|message| message.message_type == MessageType::Request)
    }

    fn answer(&mut self, call: &OwnedMessage, text: &str) {
        let call = call.borrow().expect("it came from the hub");
        self.send(&call.answer(MessageType::Response).with_payload(MessagePayload::String(text)));
    }
}

/// Writes `bytes` as far as the hub takes them, until it no longer lists the peer called `name`, whose they are.
pub(crate) fn flood(hub: &TestHub, peer: &mut RawPeer, name: &str, mut bytes: &[u8]) {
    let end = Instant::now() + PATIENCE;
    while hub.handle.peers().expect("the hub runs").iter().any(|other| other.name == name) {
        bytes = &bytes[peer.write_what_fits(bytes)..];
        assert!(Instant::now() < end, "the hub takes everything");
    }
}

pub(crate) fn root_keys() -> KeyRing {
    let mut keys = KeyRing::new();
    keys.add(Slot::root(1, Key::new(ROOT))).expect("an empty ring has room");
    keys
}

/// The boot id of each [`TestHub`].
pub(crate) const BOOT_ID: u64 = 0x0123_4567_89ab_cdef;

/// Claims of the hub's for itself, for an hour, that allow nothing.
pub(crate) fn claims() -> Claims<'static> {
    let now = unix_s();
    Claims {
        issuer: BUS,
        subject: "nobody",
        audience: BUS,
        serial: 1,
        issued_at: now,
        expiry: now + 3_600,
        epoch: 0,
        scopes: Scopes::new(&[]),
    }
}

pub(crate) fn unix_s() -> u64 {
    unix_micros() / 1_000_000
}

pub(crate) fn text(message: &OwnedMessage) -> &str {
    match &message.payload {
        OwnedPayload::String(text) => text,
        other => panic!("a text was expected, not {other:?}"),
    }
}

/// A request under this id.
pub(crate) fn request(id: u64, address: &str) -> Message<'_> {
    Message::request(id, Address::new(address).expect("a test knows its addresses"))
}

/// Bytes of a message on the wire, its length before it.
pub(crate) fn wire(message: &Message<'_>) -> Vec<u8> {
    let mut frame = vec![0; (1 << 20) + 512];
    let len = encode(message, &mut frame[4..]).expect("a test's message fits");
    frame[..4].copy_from_slice(&visorbus_core::frame::length::prefix(len));
    frame.truncate(4 + len);
    frame
}
