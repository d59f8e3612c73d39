//! A hub with accounts and a policy, two handlers that count, somebody who minds their own business, and somebody who
//! hears of everything that is audited.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use visorbus_auth::{Accounts, AuditEvent, AuditKind, AuthToken, KeyFile, Policy, Store, TokenRequest};
use visorbus_core::auth::{BUS, Claims, Key, KeyRing, Scopes, Slot};
use visorbus_core::bus::{self, Credentials, Identity, Register, SlowConsumer, Subscribe};
use visorbus_core::error::ErrorKind;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_hub::info::PeerInfo;
use visorbus_hub::{Hub, HubConfig, HubHandle, Limits, OwnedMessage, OwnedPayload, Result, unix_micros};
use visorbus_tests::echo::Echo;
use visorbus_tests::patience::wait_for_peers;
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};
use visorbus_unix::UnixSocketListener;
use visorbus_websocket::{WebSocketConfig, WebSocketListener};

use crate::transports::Transport;

/// The hub and all who are not attacked. It ends with the test.
pub(crate) struct World {
    pub(crate) handle: HubHandle,
    pub(crate) accounts: Arc<Accounts>,
    directory: tempfile::TempDir,
    thread: Option<JoinHandle<Result<()>>>,
    runs: Arc<AtomicUsize>,
    lines: Cell<u32>,
    websockets: OnceCell<SocketAddr>,
    bystander: RefCell<(RawPeer, usize)>,
    auditor: RefCell<RawPeer>,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with_policy("")
    }

    pub(crate) fn with_policy(text: &str) -> Self {
        let policy = Arc::new(Policy::parse(text).unwrap());
        let keys = KeyFile::in_memory(KEY_ID, ROOT);
        Self::with(Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy))), policy)
    }

    pub(crate) fn with(accounts: Arc<Accounts>, policy: Arc<Policy>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Attackers take their time, and the machine may be busy.
        let limits = Limits { handshake_ms: 120_000, ..Limits::default() };
        let config = HubConfig::with_providers(Arc::clone(&accounts) as _, policy);
        let hub = Hub::new(HubConfig { boot_id: BOOT_ID, limits, ..config }).unwrap();
        let handle = hub.handle();
        let thread = Some(thread::spawn(move || hub.run()));
        let socket = directory.path().join("run/bus.sock");
        handle.listen(Box::new(UnixSocketListener::bind(socket).unwrap())).unwrap();
        let runs = Arc::default();
        for id in ["vault", "config"] {
            handle.register_handler(Box::new(Echo::counted(id, &runs))).unwrap();
        }
        let (bystander, mut auditor) = (connect(&handle, "bystander"), connect(&handle, "auditor"));
        auditor.subscribe(bus::AUDIT).unwrap();
        let (bystander, auditor) = (RefCell::new((bystander, 0)), RefCell::new(auditor));
        let (lines, websockets) = (Cell::new(0), OnceCell::new());
        Self { handle, accounts, directory, thread, runs, lines, websockets, bystander, auditor }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/bus.sock")
    }

    /// Where WebSockets are served, from the first time on that somebody asks.
    pub(crate) fn websockets(&self) -> SocketAddr {
        *self.websockets.get_or_init(|| {
            let listener = WebSocketListener::bind("127.0.0.1:0", WebSocketConfig::default()).unwrap();
            let address = listener.local_addr();
            self.handle.listen(Box::new(listener)).unwrap();
            address
        })
    }

    /// A path that names a line.
    pub(crate) fn new_line(&self) -> PathBuf {
        self.lines.set(self.lines.get() + 1);
        self.directory.path().join(format!("line{}", self.lines.get()))
    }

    /// Somebody who has said hello and shown nothing.
    pub(crate) fn greeted<T: Transport>(&self, name: &str) -> RawPeer {
        let mut peer = T::attach(self, name);
        hello::<T>(&mut peer, name, 1).unwrap();
        peer
    }

    /// Somebody with a session and these scopes.
    pub(crate) fn admitted<T: Transport>(&self, name: &str, scopes: &[&str]) -> RawPeer {
        let mut peer = self.greeted::<T>(name);
        peer.authenticate(&self.token(name, scopes)).unwrap();
        peer
    }

    /// A token for the hub that lives an hour, made as its owner makes one.
    pub(crate) fn token(&self, subject: &str, scopes: &[&str]) -> Vec<u8> {
        bytes(&self.accounts.mint(&TokenRequest::new(subject, scopes)).unwrap())
    }

    /// How often a handler ran.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Demands that somebody who minds their own business is served, and that nobody else reached a handler so far.
    #[track_caller]
    pub(crate) fn is_unharmed(&self) {
        let (peer, calls) = &mut *self.bystander.borrow_mut();
        let answer = peer.request("vault/open", MessagePayload::String("still there?"));
        assert_eq!(answer.map(|answer| answer.payload), Ok(OwnedPayload::String("still there?".into())));
        *calls += 1;
        assert_eq!(self.runs(), *calls, "somebody else reached a handler");
    }

    /// As [`World::is_unharmed`], after so many calls that were allowed.
    #[track_caller]
    pub(crate) fn is_unharmed_after(&self, allowed: usize) {
        self.bystander.borrow_mut().1 += allowed;
        self.is_unharmed();
    }

    /// Demands that somebody who has shown nothing good is as much as nobody.
    #[track_caller]
    pub(crate) fn is_nobody<T: Transport>(&self, peer: &mut RawPeer) {
        let refused = self.refused();
        // Whoever has a link key is that board, which may do nothing here.
        let (kind, text) = match T::IS_KEYED {
            false => (ErrorKind::Authentication, "authenticate"),
            true => (ErrorKind::Authorization, "no permission of the token allows"),
        };
        expect_error(peer.request("vault/open", MessagePayload::Empty), kind, text);
        expect_error(peer.subscribe("bystander/**"), kind, text);
        expect_error(peer.register("vault2"), kind, text);
        expect_error(peer.request(bus::PEERS, MessagePayload::Empty), kind, text);
        peer.notify("vault/open", MessagePayload::Empty);
        self.wait_until(|peers| count_refused(peers) >= refused + 5);
        self.is_unharmed();
    }

    /// How many messages were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        count_refused(&self.handle.peers().unwrap())
    }

    /// Asks who is there until `so` holds.
    #[track_caller]
    pub(crate) fn wait_until(&self, so: impl Fn(&[PeerInfo]) -> bool) {
        wait_for_peers(&self.handle, so);
    }

    /// Waits for an event of this kind about `subject`, over `T`, with `reason` in its text.
    #[track_caller]
    pub(crate) fn is_audited<T: Transport>(
        &self,
        kind: AuditKind,
        subject: &str,
        reason: &str,
    ) -> AuditEvent {
        let event = self.audited(|event| {
            event.what == kind.as_str() && event.subject == subject && event.reason.contains(reason)
        });
        assert_eq!(event.transport, T::KIND.as_str(), "{event:?}");
        event
    }

    /// All events that are left, as texts.
    pub(crate) fn all_audited(&self) -> String {
        let messages = self.auditor.borrow_mut().read_so_far();
        messages.iter().map(|message| format!("{:?}", message.payload.parse::<AuditEvent>())).collect()
    }

    /// Waits for an event.
    pub(crate) fn audited(&self, wanted: impl Fn(&AuditEvent) -> bool) -> AuditEvent {
        let event = |message: &OwnedMessage| message.payload.parse::<AuditEvent>().ok();
        let is_wanted = |message: &OwnedMessage| {
            message.destination == bus::AUDIT && event(message).is_some_and(|event| wanted(&event))
        };
        event(&self.auditor.borrow_mut().read_where(is_wanted)).unwrap()
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

/// Says hello, as a board that starts for the `boot_id`th time or as a client.
pub(crate) fn hello<T: Transport>(peer: &mut RawPeer, name: &str, boot_id: u64) -> Result<OwnedMessage> {
    let capabilities = if T::HANGS_UP { 0 } else { bus::HAS_LANE };
    // It says nothing by itself, so it must be allowed to be silent.
    peer.hello_as(&Identity { boot_id, capabilities, heartbeat_ms: 600_000, ..identity(name) })
}

/// What attackers and others say.
pub(crate) trait Says {
    fn subscribe(&mut self, pattern: &str) -> Result<OwnedMessage>;
    fn register(&mut self, component: &str) -> Result<OwnedMessage>;
    fn show(&mut self, credentials: &Credentials<'_>) -> Result<OwnedMessage>;
    /// Calls with a token in the message.
    fn request_with(&mut self, token: &[u8], address: &str) -> Result<OwnedMessage>;
    /// What others have sent here so far, without what the hub asks and tells of its own.
    fn heard(&mut self) -> Vec<OwnedMessage>;
}

impl Says for RawPeer {
    fn subscribe(&mut self, pattern: &str) -> Result<OwnedMessage> {
        let asked = Subscribe { pattern, policy: SlowConsumer::default() };
        self.request(bus::SUBSCRIBE, OwnedPayload::postcard(&asked)?.borrow())
    }

    fn register(&mut self, component: &str) -> Result<OwnedMessage> {
        self.request(bus::REGISTER, OwnedPayload::postcard(&Register { component })?.borrow())
    }

    fn show(&mut self, credentials: &Credentials<'_>) -> Result<OwnedMessage> {
        self.request(bus::AUTHENTICATE, OwnedPayload::postcard(credentials)?.borrow())
    }

    fn request_with(&mut self, token: &[u8], address: &str) -> Result<OwnedMessage> {
        let id = self.take_id();
        let request = Message::request(id, Address::new(address).unwrap());
        self.send(&Message { auth_token: Some(token), ..request });
        self.answer_to(id)
    }

    fn heard(&mut self) -> Vec<OwnedMessage> {
        let is_from_others = |message: &OwnedMessage| {
            !message.destination.is_empty() && !message.destination.starts_with("bus")
        };
        self.read_so_far().into_iter().filter(is_from_others).collect()
    }
}

/// The hub's own ring, for tokens that no account would make.
pub(crate) fn ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(KEY_ID, Key::new(ROOT))).unwrap();
    ring
}

pub(crate) fn mint(ring: &KeyRing, key_id: u8, claims: &Claims<'_>) -> Vec<u8> {
    let mut token = [0; MAX_TOKEN];
    let len = ring.mint(key_id, claims, &mut token).unwrap();
    token[..len].to_vec()
}

/// Claims of the hub's for itself about `subject`, for an hour, that allow to open the vault.
pub(crate) fn claims(subject: &str) -> Claims<'_> {
    let now = unix_s();
    let scopes = Scopes::new(&["request:vault/*"]);
    Claims {
        issuer: BUS,
        subject,
        audience: BUS,
        serial: 7 << 16,
        issued_at: now,
        expiry: now + 3600,
        epoch: 0,
        scopes,
    }
}

pub(crate) fn bytes(token: &AuthToken) -> Vec<u8> {
    token.value.to_bytes().unwrap().to_vec()
}

pub(crate) fn unix_s() -> u64 {
    unix_micros() / 1_000_000
}

fn connect(handle: &HubHandle, name: &str) -> RawPeer {
    let mut peer = RawPeer::attach(handle);
    peer.hello(name).unwrap();
    let claims = Claims { scopes: Scopes::new(&["request:vault/*", "subscribe:bus/audit"]), ..claims(name) };
    peer.authenticate(&mint(&ring(), KEY_ID, &claims)).unwrap();
    peer
}

fn count_refused(peers: &[PeerInfo]) -> u64 {
    peers.iter().map(|peer| peer.refused).sum()
}

pub(crate) const ROOT: [u8; 32] = *b"plum-okapi-violin-9931-kestrel-0";
/// As the boards of the examples have it.
pub(crate) const KEY_ID: u8 = visorbus_imu::KEY_ID;
/// What the hub says of its start, so that a test can make proofs for it.
pub(crate) const BOOT_ID: u64 = 0x0123_4567_89ab_cdef;
