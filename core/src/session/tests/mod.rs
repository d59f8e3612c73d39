//! Both ends of a session against each other, frame by frame, on a clock that only the test moves.

extern crate std;

use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::auth::{BUS, Claims, Context, Key, KeyRing, Scopes, Slot};
use crate::codec::{decode, encode};
use crate::error::ErrorKind;

mod heartbeat;
mod hello;
mod proof;
mod requests;

/// How the two ends of a [`Pair`] are set up.
#[derive(Clone, Copy)]
struct Setup {
    lossy: bool,
    hub_requires: bool,
    leaf_requires: bool,
    heartbeat_ms: u32,
    hub_heartbeat_ms: u32,
}

const fn lossy() -> Setup {
    Setup {
        lossy: true,
        hub_requires: false,
        leaf_requires: false,
        heartbeat_ms: 1_000,
        hub_heartbeat_ms: 1_000,
    }
}

const fn socket() -> Setup {
    Setup { lossy: false, ..lossy() }
}

/// A connecting and an accepting session, a line between them, and the clock.
struct Pair {
    leaf: End,
    hub: End,
    setup: Setup,
    now: Instant,
    latency_ms: u32,
    lose_all: bool,
    lose_authenticate: bool,
    refuse_hellos: bool,
    jumps: u32,
    idle_jumps: u32,
}

impl Pair {
    fn new(setup: Setup) -> Self {
        let now = Instant::from_micros(5_000_000);
        let mut pair = Self {
            leaf: End::new(setup, Role::Connecting, LEAF_BOOT, device_ring()),
            hub: End::new(setup, Role::Accepting, HUB_BOOT, root_ring()),
            setup,
            now,
            latency_ms: 0,
            lose_all: false,
            lose_authenticate: false,
            refuse_hellos: false,
            jumps: 0,
            idle_jumps: 0,
        };
        pair.hub.session.set_clock(now, UNIX_S * 1_000_000);
        for _ in 0..4 {
            pair.leaf.tokens.push_back(pair.leaf_token());
            pair.hub.tokens.push_back(hub_token("imu", LEAF_BOOT, UNIX_S));
        }
        pair
    }

    fn restart_hub(&mut self) {
        let old = core::mem::replace(
            &mut self.hub,
            End::new(self.setup, Role::Accepting, HUB_BOOT + 1, root_ring()),
        );
        self.hub.session.set_clock(self.now, self.unix_us());
        self.hub.tokens = old.tokens;
        // What proved the leaf to the hub before proves nothing to this one.
        let count = self.leaf.tokens.len();
        self.leaf.tokens = (0..count).map(|_| self.leaf_token()).collect();
        self.hub.mints = old.mints;
    }

    /// Lets both ends do all they have to do at this moment.
    fn pump(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..100 {
            let (leaf, hub) = (self.leaf.turn(self.now), self.hub.turn(self.now));
            let carried = self.carry();
            if !(leaf | hub | carried) {
                for end in [&self.leaf, &self.hub] {
                    let due = end.session.poll_timeout();
                    assert!(
                        due.is_none_or(|at| at > self.now),
                        "nothing to do, and yet {due:?} at {:?}",
                        self.now
                    );
                }
                return busy;
            }
            busy = true;
        }
        panic!("the two ends never come to rest: {:?} {:?}", self.leaf.seen, self.hub.seen);
    }

    /// Lets `millis` pass, in jumps from one thing that is due to the next.
    fn run_ms(&mut self, millis: u32) {
        let end = self.now.plus_millis(millis);
        self.pump();
        loop {
            let on_the_line = self.leaf.line.iter().chain(&self.hub.line).map(|(at, _)| *at);
            let timeouts = [self.leaf.session.poll_timeout(), self.hub.session.poll_timeout()];
            let next = timeouts.into_iter().flatten().chain(on_the_line).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next;
            self.jumps += 1;
            self.idle_jumps += u32::from(!self.pump());
        }
        self.now = end;
        self.pump();
    }

    /// Moves frames that are due from one end to the other.
    fn carry(&mut self) -> bool {
        let arrives = self.now.plus_millis(self.latency_ms);
        for end in [&mut self.leaf, &mut self.hub] {
            for frame in end.outbox.drain(..) {
                let to = decode(&frame).unwrap().destination.map_or("", Address::as_str).to_string();
                if self.lose_all || (self.lose_authenticate && to == bus::AUTHENTICATE) {
                    continue;
                }
                if self.refuse_hellos && to == bus::HELLO {
                    let mut foreign = frame.clone();
                    let at = frame.windows(5).position(|bytes| bytes == [1, 1, 3, b'i', b'm']).unwrap();
                    foreign[at..at + 2].copy_from_slice(&[7, 9]);
                    end.line.push_back((arrives, foreign));
                } else {
                    end.line.push_back((arrives, frame));
                }
            }
        }
        let to_hub = take_due(&mut self.leaf.line, self.now);
        let to_leaf = take_due(&mut self.hub.line, self.now);
        to_hub.iter().for_each(|frame| self.hub.hear(frame, self.now));
        to_leaf.iter().for_each(|frame| self.leaf.hear(frame, self.now));
        !(to_hub.is_empty() && to_leaf.is_empty())
    }

    /// One message from nobody in particular; the answer is not sent but returned.
    fn hub_hears(&mut self, message: &Message<'_>) -> Vec<u8> {
        self.hub_hears_frame(&frame_of(message))
    }

    fn hub_hears_frame(&mut self, frame: &[u8]) -> Vec<u8> {
        self.hub.hear(frame, self.now);
        self.hub.outbox.pop().unwrap_or_default()
    }

    fn leaf_hears(&mut self, message: &Message<'_>) -> Vec<u8> {
        self.leaf.hear(&frame_of(message), self.now);
        self.leaf.outbox.pop().unwrap_or_default()
    }

    fn is_open(&self) -> bool {
        self.leaf.session.is_open() && self.hub.session.is_open()
    }

    fn unix_us(&self) -> u64 {
        UNIX_S * 1_000_000 + self.now.as_micros() - 5_000_000
    }

    fn unix_s(&self) -> u64 {
        self.unix_us() / 1_000_000
    }

    fn leaf_token(&self) -> Vec<u8> {
        let boot_id = self.hub.session.boot_id();
        device_token("imu", boot_id, self.unix_s(), self.unix_s() + PROOF_LIFETIME_S)
    }
}

/// A session, and an owner that does what its verdicts say.
struct End {
    session: Session,
    ring: KeyRing,
    tokens: VecDeque<Vec<u8>>,
    /// Makes a token at these Unix seconds for the other end that started with this boot id.
    mints: Option<fn(u64, u64) -> Vec<u8>>,
    asked_for_token: u32,
    expired_at: Option<Instant>,
    seen: Vec<Seen>,
    sent: Vec<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
    line: VecDeque<(Instant, Vec<u8>)>,
}

impl End {
    fn new(setup: Setup, role: Role, boot_id: u64, ring: KeyRing) -> Self {
        let connecting = role == Role::Connecting;
        let config = SessionConfig {
            role,
            name: Name::try_from(if connecting { "imu" } else { BUS }).unwrap(),
            boot_id,
            max_frame: 256,
            heartbeat_ms: if connecting { setup.heartbeat_ms } else { setup.hub_heartbeat_ms },
            rows: if connecting { 4 } else { 0 },
            requires_authentication: if connecting { setup.leaf_requires } else { setup.hub_requires },
            lossy: setup.lossy,
        };
        Self {
            session: Session::new(config),
            ring,
            tokens: VecDeque::new(),
            mints: None,
            asked_for_token: 0,
            expired_at: None,
            seen: Vec::new(),
            sent: Vec::new(),
            outbox: Vec::new(),
            line: VecDeque::new(),
        }
    }

    /// Does all that the time asks for; whether there was anything.
    fn turn(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while let Some(expired) = self.session.handle_timeout(now) {
            busy = true;
            if expired == Expired::Session {
                self.expired_at = Some(now);
            }
            self.seen.push(match expired {
                Expired::Session => Seen::SessionExpired,
                Expired::Request { id } => Seen::RequestExpired(id),
            });
        }
        while self.transmit(now).is_some() {
            busy = true;
        }
        if self.session.wants_token(now) {
            busy = true;
            self.asked_for_token += 1;
            let unix_s = self.session.unix_micros(now).unwrap_or(0) / 1_000_000;
            let boot_id = self.session.remote().unwrap().boot_id;
            if let Some(token) =
                self.mints.map(|mint| mint(unix_s, boot_id)).or_else(|| self.tokens.pop_front())
            {
                let mut out = [0; 512];
                let len = self.session.authenticate(&token, now, &mut out);
                self.send(&out[..len]);
            }
        }
        busy
    }

    /// The id of the frame that the session itself had to send.
    fn transmit(&mut self, now: Instant) -> Option<u64> {
        let mut out = [0; 512];
        let len = self.session.poll_transmit(now, &mut out);
        self.send(&out[..len]);
        (len != 0).then(|| decode(&out[..len]).unwrap().id)
    }

    fn hear(&mut self, frame: &[u8], now: Instant) {
        let mut out = [0; 512];
        let message = decode(frame).unwrap();
        let (len, seen) = match self.session.handle(&message, now, &mut out) {
            Verdict::Deliver => {
                (0, Some(Seen::Deliver(message.destination.map_or("", Address::as_str).to_string())))
            }
            Verdict::Answer(len) => (len, None),
            Verdict::Refused { answer } => (answer, Some(Seen::Answered)),
            Verdict::Opened { answer } => (answer, Some(Seen::Opened)),
            Verdict::Restarted { answer } => (answer, Some(Seen::Restarted)),
            Verdict::Authenticate { token } => {
                let unix_s = self.session.trusted_micros(now).map(|micros| micros / 1_000_000);
                let context = Context::new(self.session.name(), unix_s).with_boot_id(self.session.boot_id());
                let outcome = self.ring.check(token, &context);
                let outcome = outcome.map_err(|error| IpcError::Authentication(error.for_peer()));
                (self.session.finish_authentication(&message, outcome, now, &mut out), None)
            }
            Verdict::Authenticated => (0, Some(Seen::Ready)),
            Verdict::NotAuthenticated(error) => {
                (0, Some(Seen::NotReady(error.kind(), error.text().to_string())))
            }
            Verdict::Reply { id, outcome } => {
                let outcome = outcome.map(|_| ()).map_err(|error| (error.kind(), error.text().to_string()));
                (0, Some(Seen::Reply(id, outcome)))
            }
            Verdict::Closed(CloseReason::Goodbye) => (0, Some(Seen::Closed)),
            Verdict::Closed(CloseReason::Refused(error)) => (0, Some(Seen::Refused(error.kind()))),
            Verdict::Drop(reason) => (0, Some(Seen::Drop(reason))),
            Verdict::Echoed { id, stamp } => (0, Some(Seen::Echoed(id, stamp))),
            Verdict::Credentials => (0, Some(Seen::Credentials)),
        };
        self.seen.extend(seen);
        self.send(&out[..len]);
    }

    fn send(&mut self, frame: &[u8]) {
        if !frame.is_empty() {
            self.sent.push(frame.to_vec());
            self.outbox.push(frame.to_vec());
        }
    }

    fn sent_to(&self, address: &str) -> usize {
        let destination =
            |frame: &&Vec<u8>| decode(frame).unwrap().destination.map(Address::as_str) == Some(address);
        self.sent.iter().filter(destination).count()
    }

    fn beats(&self) -> usize {
        self.sent.iter().filter(|frame| decode(frame).unwrap().message_type == MessageType::Heartbeat).count()
    }
}

/// What an end's owner came to know.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Deliver(String),
    Answered,
    Opened,
    Restarted,
    Ready,
    NotReady(ErrorKind, String),
    Reply(u64, Result<(), (ErrorKind, String)>),
    Closed,
    Refused(ErrorKind),
    Drop(DropReason),
    Echoed(u64, Option<u64>),
    Credentials,
    SessionExpired,
    RequestExpired(u64),
}

fn take_due(line: &mut VecDeque<(Instant, Vec<u8>)>, now: Instant) -> Vec<Vec<u8>> {
    let due = line.iter().take_while(|(at, _)| *at <= now).count();
    line.drain(..due).map(|(_, frame)| frame).collect()
}

fn root_ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new([9; 32]))).unwrap();
    ring
}

fn device_ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::device(1, Key::new([9; 32]).derive("imu"))).unwrap();
    ring
}

/// What a device says of itself to the hub that started with the boot id `to`.
fn device_token(name: &str, to: u64, issued_at: u64, expiry: u64) -> Vec<u8> {
    mint(&device_ring(), name, BUS, to, issued_at, expiry)
}

/// What the hub says of itself to a device that started with the boot id `to`, for an hour.
fn hub_token(audience: &str, to: u64, issued_at: u64) -> Vec<u8> {
    mint(&root_ring(), BUS, audience, to, issued_at, issued_at + PROOF_LIFETIME_S)
}

fn mint(ring: &KeyRing, issuer: &str, audience: &str, serial: u64, issued_at: u64, expiry: u64) -> Vec<u8> {
    let scopes = Scopes::new(&[]);
    let claims = Claims { issuer, subject: issuer, audience, serial, issued_at, expiry, epoch: 0, scopes };
    let mut out = [0; crate::limits::MAX_TOKEN];
    let len = ring.mint(1, &claims, &mut out).unwrap();
    out[..len].to_vec()
}

fn identity(name: &str) -> Identity<'_> {
    Identity {
        min_version: 1,
        max_version: 1,
        name,
        boot_id: 200,
        max_frame: 256,
        heartbeat_ms: 1_000,
        capabilities: 0,
        rows: 0,
        unix_us: 0,
    }
}

fn postcard_of(identity: &Identity<'_>) -> Vec<u8> {
    let mut out = [0; 128];
    postcard::to_slice(identity, &mut out).unwrap().to_vec()
}

/// A hello from `identity`. Leaks its bytes: a message borrows them.
fn hello(id: u64, identity: &Identity<'_>) -> Message<'static> {
    let request = Message::request(id, Address::literal(bus::HELLO));
    request.with_payload(MessagePayload::Binary(postcard_of(identity).leak()))
}

fn response(id: u64) -> Message<'static> {
    Message::request(id, Address::literal("x")).answer(MessageType::Response)
}

fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; 512];
    let len = encode(message, &mut out).unwrap();
    out[..len].to_vec()
}

fn error_of(frame: &[u8]) -> (ErrorKind, String) {
    let message = decode(frame).unwrap();
    assert_eq!(message.message_type, MessageType::Error, "{message:?}");
    let error = IpcError::from_payload(message.payload.as_bytes());
    (error.kind(), error.text().to_string())
}

const UNIX_S: u64 = 1_790_000_000;

const LEAF_BOOT: u64 = 200;
const HUB_BOOT: u64 = 100;
