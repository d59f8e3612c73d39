//! A leaf and the end that accepts it, on one fake clock over a faulty link: what nearly every test of a leaf runs on.

use std::collections::BTreeMap;

use visorbus_core::auth::{BUS, Claims, Context, KeyRing, Scopes};
use visorbus_core::codec::{decode, encode};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::Address;
use visorbus_core::peer::{Event, Keys, Node};
use visorbus_core::session::{Expired, Name, PROOF_LIFETIME_S, Role, SessionConfig, Verdict};
use visorbus_core::{Instant, IpcError, Link, Message, MessagePayload, MessageType, Peer, Session};

use crate::clock::FakeClock;
use crate::faulty_link::{Faults, FaultyLink};
use crate::memory_link::MemoryLink;

/// A link as the pair uses it.
pub type TestLink = FaultyLink<MemoryLink>;

/// A connecting [`Peer`] with its node, and an accepting [`Session`], turned until nothing happens.
#[derive(Debug)]
pub struct Pair<N, K, const OUT: usize> {
    /// The one clock.
    pub clock: FakeClock,
    /// The connecting end.
    pub leaf: Peer<TestLink, K, OUT>,
    /// Its application.
    pub node: N,
    /// What the leaf's main loop was told, in order.
    pub events: Vec<Event>,
    /// The accepting end.
    pub hub: Acceptor,
}

impl<N: Node, K: Keys, const OUT: usize> Pair<N, K, OUT> {
    /// Both ends as `setup` says; nothing has been sent yet.
    pub fn new(setup: Setup, node: N, keys: K) -> Self {
        let (near, far) = MemoryLink::pair(setup.capacity, OUT);
        let clock = FakeClock::new();
        clock.advance_ms(5_000);
        Self {
            leaf: Peer::new(setup.leaf_config::<N, OUT>(), FaultyLink::new(near, setup.seed), keys),
            node,
            events: Vec::new(),
            hub: Acceptor::new(setup, FaultyLink::new(far, setup.seed + 1), clock.now()),
            clock,
        }
    }

    /// Turns both ends until nothing moves at this moment.
    ///
    /// # Panics
    /// When that never comes.
    pub fn pump(&mut self) {
        let mut quiet = 0;
        for _ in 0..10_000 {
            let before = self.moved();
            self.leaf_turn();
            self.hub.turn(self.clock.now());
            quiet = if self.moved() == before { quiet + 1 } else { 0 };
            // A frame that is held back to be overtaken waits up to four flushes.
            if quiet > 5 {
                return;
            }
        }
        panic!("the two ends never come to rest: {:?}, {:?}", self.events, self.hub.session);
    }

    /// Lets `millis` pass, in jumps from one thing that is due to the next.
    pub fn run_ms(&mut self, millis: u32) {
        let end = self.clock.now().plus_millis(millis);
        loop {
            self.pump();
            let now = self.clock.now();
            let due = [self.leaf.session().poll_timeout(), self.hub.session.poll_timeout()];
            // What is due and could not be done for want of room is tried again with the next thing, or each millisecond.
            let next = due.into_iter().flatten().min().map(|at| at.max(now.plus_millis(1)));
            match next.filter(|next| *next < end) {
                Some(next) => self.clock.advance_to(next),
                None => break,
            }
        }
        self.clock.advance_to(end);
        self.pump();
    }

    /// One request from the accepting end and what came of it; waits up to five seconds of the fake clock.
    ///
    /// # Errors
    /// What the leaf answered, or `Timeout`.
    pub fn call(&mut self, address: &str, payload: MessagePayload<'_>) -> Outcome {
        let request = Message::request(0, Address::new(address).expect("the test knows its addresses"));
        let now = self.clock.now();
        let Some(id) = self.hub.request(&request.with_payload(payload), 5_000, now) else {
            return Err((ErrorKind::Connection, "no room".into()));
        };
        self.pump();
        if !self.hub.outcomes.contains_key(&id) {
            self.run_ms(5_000);
        }
        self.hub.outcomes.remove(&id).unwrap_or_else(|| Err((ErrorKind::Timeout, "no answer".into())))
    }

    /// The same faults on both directions.
    pub fn set_faults(&mut self, faults: Faults) {
        self.leaf.link_mut().set_faults(faults);
        self.hub.link.set_faults(faults);
    }

    /// Whether both ends serve each other.
    pub fn is_ready(&self) -> bool {
        let unproven = self.hub.setup.hub_requires && self.hub.session.grant().is_none();
        self.leaf.session().is_ready() && self.hub.session.is_ready() && !unproven
    }

    /// The accepting end dies and comes up again with a new boot id; what was on the way to it is still there.
    pub fn restart_hub(&mut self) {
        let mut setup = self.hub.setup;
        setup.hub_boot_id += 1;
        self.hub.setup = setup;
        self.hub.session = setup.hub_session(self.clock.now());
    }

    fn leaf_turn(&mut self) {
        if let Ok(Some(event)) = self.leaf.poll(&mut self.node, self.clock.now()) {
            self.events.push(event);
        }
    }

    fn moved(&self) -> (u64, u64, u64, u64, usize) {
        let (leaf, hub) = (self.leaf.link().counts(), self.hub.link.counts());
        (leaf.sent, leaf.received, hub.sent, hub.received, self.events.len())
    }
}

/// How a [`Pair`] is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Whether the leaf must authenticate before it is served.
    pub hub_requires: bool,
    /// Whether the accepting end must.
    pub leaf_requires: bool,
    /// Whether the link is one that loses frames.
    pub lossy: bool,
    /// Both ends' wish, in milliseconds.
    pub heartbeat_ms: u32,
    /// Frames that the link holds each way.
    pub capacity: usize,
    /// For the link's faults.
    pub seed: u64,
    /// The accepting end's boot id.
    pub hub_boot_id: u64,
    /// The key that the accepting end checks and mints with, as a root in slot 1.
    pub root: [u8; 32],
    /// The scopes that it proves to the leaf.
    pub hub_scopes: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            hub_requires: false,
            leaf_requires: false,
            lossy: true,
            heartbeat_ms: 1_000,
            capacity: 16,
            seed: 1,
            hub_boot_id: 1_000,
            root: [9; 32],
            hub_scopes: &["*"],
        }
    }
}

impl Setup {
    fn leaf_config<N: Node, const OUT: usize>(&self) -> SessionConfig {
        SessionConfig {
            role: Role::Connecting,
            name: LEAF.try_into().expect("the name is short"),
            boot_id: 7,
            max_frame: OUT as u32,
            heartbeat_ms: self.heartbeat_ms,
            rows: if N::DESCRIBES { N::ROWS.len() as u16 } else { 0 },
            requires_authentication: self.leaf_requires,
            lossy: self.lossy,
        }
    }

    fn hub_session(&self, now: Instant) -> Session {
        let mut session = Session::new(SessionConfig {
            role: Role::Accepting,
            name: Name::try_from(BUS).expect("the name is short"),
            boot_id: self.hub_boot_id,
            max_frame: 4_096,
            heartbeat_ms: self.heartbeat_ms,
            rows: 0,
            requires_authentication: self.hub_requires,
            lossy: self.lossy,
        });
        session.set_clock(now, UNIX_US + now.as_micros());
        session
    }

    fn ring(&self) -> KeyRing {
        let mut ring = KeyRing::new();
        let root = visorbus_core::auth::Key::new(self.root);
        ring.add(visorbus_core::auth::Slot::root(1, root)).expect("an empty ring has room");
        ring
    }
}

/// The accepting end: a session, and an owner that keeps what reaches it.
#[derive(Debug)]
pub struct Acceptor<L = TestLink> {
    /// The session.
    pub session: Session,
    /// Its end of the link.
    pub link: L,
    /// Requests and notifications that passed the session.
    pub delivered: Vec<Delivered>,
    /// What came of its own requests.
    pub outcomes: BTreeMap<u64, Outcome>,
    /// How often the session opened.
    pub opened: u32,
    /// Frames that were no message.
    pub undecodable: u32,
    setup: Setup,
    ring: KeyRing,
    out: Vec<u8>,
}

impl<L: Link> Acceptor<L> {
    /// An end that nothing has reached yet.
    pub fn new(setup: Setup, link: L, now: Instant) -> Self {
        let mut session = setup.hub_session(now);
        if link.has_lane() {
            session.offer_lane();
        }
        Self {
            session,
            link,
            delivered: Vec::new(),
            outcomes: BTreeMap::new(),
            opened: 0,
            undecodable: 0,
            setup,
            ring: setup.ring(),
            out: vec![0; 4_096],
        }
    }

    /// Sends `message` as it is; `false` when the link did not take it.
    pub fn send(&mut self, message: &Message<'_>) -> bool {
        let len = encode(message, &mut self.out).expect("the test's messages are short");
        self.link.send(&self.out[..len]).unwrap_or(false)
    }

    /// Sends `request` under an id of the session's; its outcome will stand in `outcomes`.
    pub fn request(&mut self, request: &Message<'_>, timeout_ms: u32, now: Instant) -> Option<u64> {
        let id = self.session.begin_request(now.plus_millis(timeout_ms)).ok()?;
        if !self.send(&Message { id, ..*request }) {
            self.session.cancel_request(id);
            return None;
        }
        Some(id)
    }

    /// A token of the hub's for the leaf, for an hour from now.
    pub fn token(&self, subject: &str, scopes: &[&str], now: Instant) -> Vec<u8> {
        let issued_at = self.session.unix_micros(now).unwrap_or(0) / 1_000_000;
        let claims = Claims {
            issuer: BUS,
            subject,
            audience: LEAF,
            serial: self.session.remote().map_or(0, |remote| remote.boot_id),
            issued_at,
            expiry: issued_at + PROOF_LIFETIME_S,
            epoch: 0,
            scopes: Scopes::new(scopes),
        };
        let mut token = [0; visorbus_core::limits::MAX_TOKEN];
        let len = self.ring.mint(1, &claims, &mut token).expect("the claims are in order");
        token[..len].to_vec()
    }

    /// Hears what has arrived, and says what is due.
    pub fn turn(&mut self, now: Instant) {
        let _ = self.link.flush(now);
        while let Ok(Some(frame)) = self.link.receive() {
            let frame = frame.to_vec();
            self.hear(&frame, now);
        }
        while let Some(expired) = self.session.handle_timeout(now) {
            if let Expired::Request { id } = expired {
                self.outcomes.insert(id, Err((ErrorKind::Timeout, "no answer in time".into())));
            }
        }
        let mut out = core::mem::take(&mut self.out);
        let mut len = self.session.poll_transmit(now, &mut out);
        if len == 0 && self.session.wants_token(now) {
            let token = self.token(BUS, self.setup.hub_scopes, now);
            len = self.session.authenticate(&token, now, &mut out);
        }
        if len != 0 {
            let _ = self.link.send(&out[..len]);
        }
        self.out = out;
    }

    fn hear(&mut self, frame: &[u8], now: Instant) {
        let Ok(message) = decode(frame) else {
            self.undecodable += 1;
            return;
        };
        let mut out = core::mem::take(&mut self.out);
        let len = match self.session.handle(&message, now, &mut out) {
            Verdict::Deliver => {
                self.delivered.push(Delivered::of(&message));
                0
            }
            Verdict::Opened { answer } => {
                self.opened += 1;
                self.link.reset(self.session.epoch());
                answer
            }
            Verdict::Answer(answer) | Verdict::Refused { answer } | Verdict::Restarted { answer } => answer,
            Verdict::Authenticate { token } => {
                let unix_s = self.session.unix_micros(now).map(|micros| micros / 1_000_000);
                let context = Context::new(BUS, unix_s).with_boot_id(self.session.boot_id());
                let outcome = self.ring.check(token, &context);
                let outcome = outcome.map_err(|error| IpcError::Authentication(error.for_peer()));
                self.session.finish_authentication(&message, outcome, now, &mut out)
            }
            Verdict::Reply { id, outcome } => {
                let outcome = outcome.map(|payload| payload.as_bytes().to_vec());
                let outcome = outcome.map_err(|error| (error.kind(), error.text().to_string()));
                self.outcomes.insert(id, outcome);
                0
            }
            Verdict::Authenticated
            | Verdict::NotAuthenticated(_)
            | Verdict::Closed(_)
            | Verdict::Echoed { .. }
            | Verdict::Credentials
            | Verdict::Drop(_) => 0,
        };
        if len != 0 {
            let _ = self.link.send(&out[..len]);
        }
        self.out = out;
    }
}

/// A message that reached the accepting end's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its id.
    pub id: u64,
    /// Its type.
    pub message_type: MessageType,
    /// Whom it is for; empty for nobody in particular.
    pub destination: String,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Delivered {
    fn of(message: &Message<'_>) -> Self {
        Self {
            id: message.id,
            message_type: message.message_type,
            destination: message.destination.map_or("", Address::as_str).to_string(),
            payload: message.payload.as_bytes().to_vec(),
        }
    }
}

/// What came of a request: the answer's payload, or the error's kind and text.
pub type Outcome = Result<Vec<u8>, (ErrorKind, String)>;

/// The leaf's name.
pub const LEAF: &str = "imu";
/// Unix microseconds at the fake clock's zero.
pub const UNIX_US: u64 = 1_790_000_000_000_000;
