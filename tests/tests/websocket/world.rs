//! A hub behind a WebSocket port with the handler `echo`, which counts, and somebody who minds their own business there.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use visorbus_core::auth::{BUS, Claims, Key, KeyRing, Scopes, Slot};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::MessagePayload;
use visorbus_hub::info::PeerInfo;
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, Limits, OwnedPayload, unix_micros};
use visorbus_tests::echo::Echo;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::wait_for_peers;
use visorbus_tests::raw_peer::RawPeer;
use visorbus_tests::websocket_peer::WebSocketPeer;
use visorbus_websocket::{Door, DoorStats, Reason, Subprotocol, WebSocketConfig, WebSocketListener};

/// The hub, its port and all who are not attacked. It ends with the test.
pub(crate) struct World {
    pub(crate) handle: HubHandle,
    pub(crate) door: Door,
    thread: Option<JoinHandle<Result<(), Error>>>,
    runs: Arc<AtomicUsize>,
    /// Connected without a port, and how often it has called.
    bystander: RefCell<(RawPeer, usize)>,
}

impl World {
    /// Without TLS, with what is usual.
    pub(crate) fn start() -> Self {
        Self::with(WebSocketConfig::default())
    }

    pub(crate) fn with(config: WebSocketConfig) -> Self {
        // Attackers take their time, and the machine may be busy.
        Self::with_limits(config, Limits { handshake_ms: 120_000, ..Limits::default() })
    }

    pub(crate) fn with_limits(config: WebSocketConfig, limits: Limits) -> Self {
        let hub = Hub::new(HubConfig { limits, ..HubConfig::new(ring(), KEY_ID) }).unwrap();
        let handle = hub.handle();
        let thread = Some(thread::spawn(move || hub.run()));
        let listener = WebSocketListener::bind("127.0.0.1:0", config).unwrap();
        let door = listener.door();
        handle.listen(Box::new(listener)).unwrap();
        let runs = Arc::default();
        handle.register_handler(Box::new(Echo::counted("echo", &runs))).unwrap();
        let mut peer = RawPeer::attach(&handle);
        peer.hello("bystander").unwrap();
        peer.authenticate(&token("bystander", &["request:echo/*"])).unwrap();
        Self { handle, door, thread, runs, bystander: RefCell::new((peer, 0)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.door.local_addr()
    }

    /// A WebSocket on which nothing was said.
    pub(crate) fn open(&self, protocol: Subprotocol) -> WebSocketPeer {
        WebSocketPeer::open(self.address(), protocol)
    }

    /// Somebody who has said hello and shown nothing.
    pub(crate) fn greeted(&self, protocol: Subprotocol, name: &str) -> WebSocketPeer {
        let mut peer = self.open(protocol);
        peer.hello(name).unwrap();
        peer
    }

    /// Somebody with a session and these scopes.
    pub(crate) fn admitted(&self, protocol: Subprotocol, name: &str, scopes: &[&str]) -> WebSocketPeer {
        let mut peer = self.greeted(protocol, name);
        peer.authenticate(&token(name, scopes)).unwrap();
        peer
    }

    /// How often a handler ran.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// How many the door has turned away for this reason.
    pub(crate) fn turned_away(&self, reason: Reason) -> u64 {
        self.stats().refused(reason)
    }

    pub(crate) fn stats(&self) -> DoorStats {
        self.door.stats()
    }

    /// Demands that somebody who minds their own business is served, and that nobody else reached the handler so far.
    #[track_caller]
    pub(crate) fn is_unharmed(&self) {
        self.is_unharmed_after(0);
    }

    /// As [`World::is_unharmed`], after so many calls that were allowed.
    #[track_caller]
    pub(crate) fn is_unharmed_after(&self, allowed: usize) {
        let (peer, calls) = &mut *self.bystander.borrow_mut();
        let answer = peer.request("echo/ping", MessagePayload::String("still there?"));
        assert_eq!(answer.map(|answer| answer.payload), Ok(OwnedPayload::String("still there?".into())));
        *calls += 1 + allowed;
        assert_eq!(self.runs(), *calls, "somebody else reached the handler, or did not");
    }

    /// Asks who is there until `so` holds.
    #[track_caller]
    pub(crate) fn wait_until(&self, so: impl Fn(&[PeerInfo]) -> bool) {
        wait_for_peers(&self.handle, so);
    }

    /// Asks the door until `so` holds.
    #[track_caller]
    pub(crate) fn wait_for_door(&self, so: impl Fn(&DoorStats) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so(&self.stats()) {
            assert!(Instant::now() < end, "it does not come about: {:?}", self.stats());
            thread::yield_now();
        }
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

/// A token for the hub that lives an hour.
pub(crate) fn token(subject: &str, scopes: &[&str]) -> Vec<u8> {
    mint(&ring(), &Claims { scopes: Scopes::new(scopes), ..claims(subject) })
}

pub(crate) fn mint(ring: &KeyRing, claims: &Claims<'_>) -> Vec<u8> {
    let mut token = [0; MAX_TOKEN];
    let len = ring.mint(KEY_ID, claims, &mut token).unwrap();
    token[..len].to_vec()
}

/// Claims of the hub's for itself about `subject`, for an hour, that allow nothing.
pub(crate) fn claims(subject: &str) -> Claims<'_> {
    let now = unix_s();
    Claims {
        issuer: BUS,
        subject,
        audience: BUS,
        serial: 7 << 16,
        issued_at: now,
        expiry: now + 3600,
        epoch: 0,
        scopes: Scopes::new(&[]),
    }
}

pub(crate) fn unix_s() -> u64 {
    unix_micros() / 1_000_000
}

pub(crate) fn ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(KEY_ID, Key::new(*b"plum-okapi-violin-9931-kestrel-0"))).unwrap();
    ring
}

const KEY_ID: u8 = 1;
