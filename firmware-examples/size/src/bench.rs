//! A node whose line ends in memory, and a hub's end that brings it to where it serves.

use visorbus_core::{
    Instant, Message, Peer, Session,
    auth::{BUS, Caveat, Claims, Context, Key, KeyRing, Scopes, Slot, attenuate},
    frame::serial::{self, SerialDecoder},
    limits::{MAX_LINE_FRAME, MAX_TOKEN},
    link::Link,
    message::{Address, typed::Endpoint},
    peer::{DeviceKey, Keys},
    session::{Name, Role, SessionConfig, Verdict},
};
use visorbus_hal::{Lane, SerialLink, lane_len, serial_buffer_len};

use crate::{
    Anyone, Counter, MAX_FRAME, NAME, Read, Rights, config,
    memory::{MemoryLink, MemoryUart},
};

/// Something whose work on one frame is counted.
pub trait Bench {
    /// What the hub's end does before each turn, which is not counted.
    fn prepare(&mut self) {}

    /// Lets the frame arrive, and the node answer it.
    fn turn(&mut self);
}

/// A node that a hub talks to.
pub trait Leaf {
    /// Lets the node take `frame`, and copies what it sends to `out`: so many bytes.
    fn exchange(&mut self, frame: &[u8], out: &mut [u8]) -> usize;

    /// Makes `frame` the one of every [`Bench::turn`].
    fn load(&mut self, frame: &[u8]);

    /// A session has begun, and `epoch` is what the links of both ends are told.
    fn handle_opened(&mut self, _epoch: Option<u16>) {}
}

/// The node on a link of whole frames.
#[derive(Debug)]
pub struct Frames<R, K> {
    peer: Peer<MemoryLink, K, MAX_FRAME>,
    node: Counter<R>,
    len: usize,
}

impl<R: Rights, K: Keys> Frames<R, K> {
    /// A node that has said nothing yet.
    pub fn new(keys: K) -> Self {
        let peer = Peer::new(config::<R>(BOOT_ID), MemoryLink::new(), keys);
        Self { peer, node: Counter::new(), len: 0 }
    }

    fn poll(&mut self) {
        while let Ok(Some(_)) = self.peer.poll(&mut self.node, NOW) {}
    }
}

impl<R: Rights, K: Keys> Bench for Frames<R, K> {
    fn turn(&mut self) {
        self.peer.link_mut().put_again(self.len);
        self.poll();
        assert!(!self.peer.link_mut().take().is_empty(), "the frame is answered");
    }
}

impl<R: Rights, K: Keys> Leaf for Frames<R, K> {
    fn exchange(&mut self, frame: &[u8], out: &mut [u8]) -> usize {
        self.peer.link_mut().put(frame);
        self.poll();
        let sent = self.peer.link_mut().take();
        out[..sent.len()].copy_from_slice(sent);
        sent.len()
    }

    fn load(&mut self, frame: &[u8]) {
        self.peer.link_mut().put(frame);
        self.len = frame.len();
    }
}

/// The node on a serial line.
#[derive(Debug)]
pub struct Line<R, K> {
    peer: Peer<SerialLink<MemoryUart, BUFFER>, K, MAX_FRAME>,
    node: Counter<R>,
    len: usize,
}

impl<R: Rights, K: Keys> Line<R, K> {
    /// A node that has said nothing yet.
    pub fn new(keys: K) -> Self {
        let peer = Peer::new(config::<R>(BOOT_ID), SerialLink::new(MemoryUart::new()), keys);
        Self { peer, node: Counter::new(), len: 0 }
    }

    fn put(&mut self, frame: &[u8]) -> usize {
        let mut line = [0; BUFFER];
        let len = serial::encode(&[frame], &mut line).unwrap_or(0);
        self.peer.link_mut().uart_mut().put(&line[..len]);
        len
    }

    fn poll(&mut self) {
        while let Ok(Some(_)) = self.peer.poll(&mut self.node, NOW) {}
    }
}

impl<R: Rights, K: Keys> Bench for Line<R, K> {
    fn turn(&mut self) {
        self.peer.link_mut().uart_mut().put_again(self.len);
        self.poll();
        assert!(!self.peer.link_mut().uart_mut().take().is_empty(), "the frame is answered");
    }
}

impl<R: Rights, K: Keys> Leaf for Line<R, K> {
    fn exchange(&mut self, frame: &[u8], out: &mut [u8]) -> usize {
        if !frame.is_empty() {
            self.put(frame);
        }
        self.poll();
        let mut decoder = SerialDecoder::<BUFFER>::new();
        decoder.push(self.peer.link_mut().uart_mut().take());
        let sent = decoder.frame().unwrap_or_default();
        out[..sent.len()].copy_from_slice(sent);
        sent.len()
    }

    fn load(&mut self, frame: &[u8]) {
        self.len = self.put(frame);
    }
}

/// The node on a serial line with a lane over it, and the hub's end of that lane.
#[derive(Debug)]
pub struct Lanes<R, K> {
    peer: Peer<MemoryLane, K, MAX_FRAME>,
    node: Counter<R>,
    hub: MemoryLane,
    request: [u8; MAX_FRAME],
    len: usize,
    /// A request is on its way.
    asked: bool,
}

impl<R: Rights, K: Keys> Lanes<R, K> {
    /// A node that has said nothing yet.
    pub fn new(keys: K) -> Self {
        let lane = || Lane::new(SerialLink::new(MemoryUart::new()));
        let peer = Peer::new(config::<R>(BOOT_ID), lane(), keys);
        Self { peer, node: Counter::new(), hub: lane(), request: [0; MAX_FRAME], len: 0, asked: false }
    }

    fn carry_to_leaf(&mut self) {
        let _ = self.hub.flush(NOW);
        self.peer.link_mut().link_mut().uart_mut().put(self.hub.link_mut().uart_mut().take());
    }

    fn carry_to_hub(&mut self) {
        self.hub.link_mut().uart_mut().put(self.peer.link_mut().link_mut().uart_mut().take());
    }

    fn poll(&mut self) {
        while let Ok(Some(_)) = self.peer.poll(&mut self.node, NOW) {}
    }
}

impl<R: Rights, K: Keys> Bench for Lanes<R, K> {
    /// The hub's end takes the answer to the request before, and sends the next, which acknowledges it.
    fn prepare(&mut self) {
        self.carry_to_hub();
        let answered = matches!(self.hub.receive(), Ok(Some(_)));
        assert_eq!((answered, self.hub.receive()), (self.asked, Ok(None)), "each request is answered, once");
        assert_eq!(self.hub.stats().resent + self.peer.link().stats().resent, 0, "nothing is lost");
        self.asked = matches!(self.hub.send(&self.request[..self.len]), Ok(true));
        self.carry_to_leaf();
    }

    fn turn(&mut self) {
        self.poll();
        assert!(self.peer.link().link().uart().has_written(), "the request is answered");
    }
}

impl<R: Rights, K: Keys> Leaf for Lanes<R, K> {
    fn exchange(&mut self, frame: &[u8], out: &mut [u8]) -> usize {
        if !frame.is_empty() {
            let _ = self.hub.send(frame);
        }
        self.carry_to_leaf();
        self.poll();
        self.carry_to_hub();
        let sent = self.hub.receive().unwrap_or_default().unwrap_or_default();
        out[..sent.len()].copy_from_slice(sent);
        sent.len()
    }

    fn load(&mut self, frame: &[u8]) {
        self.request[..frame.len()].copy_from_slice(frame);
        self.len = frame.len();
    }

    fn handle_opened(&mut self, epoch: Option<u16>) {
        assert!(epoch.is_some(), "both ends have a lane");
        self.hub.reset(epoch);
    }
}

/// The hub's end.
#[derive(Debug)]
pub struct Hub {
    session: Session,
    ring: KeyRing,
}

impl Hub {
    /// An end that asks the node for a token, or not.
    pub fn new(requires_authentication: bool) -> Self {
        let mut ring = KeyRing::new();
        let _ = ring.add(Slot::root(KEY_ID, Key::new(ROOT_KEY)));
        let mut session = Session::new(SessionConfig {
            role: Role::Accepting,
            name: Name::try_from(BUS).unwrap_or_default(),
            requires_authentication,
            ..config::<Anyone>(2)
        });
        session.set_clock(NOW, UNIX_S * 1_000_000);
        session.offer_lane();
        Self { session, ring }
    }

    /// Opens a session with `leaf`, and loads it with a request as it comes from a client behind the hub.
    pub fn request(mut self, leaf: &mut dyn Leaf) {
        self.open(leaf);
        let mut request = Message::request(300, Read::<Anyone>::ADDRESS);
        request.source = Some(Address::literal("cli.17"));
        request.flags.timeout_ms = Some(1_000);
        let mut frame = [0; MAX_FRAME];
        let len = visorbus_core::encode(&request, &mut frame).unwrap_or(0);
        leaf.load(&frame[..len]);
    }

    /// Opens a session with `leaf`, and loads it with the frame that proves the hub to it.
    pub fn proof(mut self, leaf: &mut dyn Leaf) {
        self.open(leaf);
        let mut frame = [0; MAX_FRAME];
        let len = self.prove(&mut frame);
        leaf.load(&frame[..len]);
    }

    /// Opens a session with `leaf`, and loads it with a frame by which `subject` shows a token that lets it do `scopes`,
    /// narrowed by `caveat` if there is one.
    pub fn token(mut self, subject: &str, scopes: &[&str], caveat: Option<&Caveat<'_>>, leaf: &mut dyn Leaf) {
        self.open(leaf);
        let claims = Claims { subject, serial: SERIAL, scopes: Scopes::new(scopes), ..self.claims() };
        let (mut token, mut narrowed) = ([0; MAX_TOKEN], [0; MAX_TOKEN]);
        let mut len = self.ring.mint(KEY_ID, &claims, &mut token).unwrap_or(0);
        if let Some(caveat) = caveat {
            len = attenuate(&token[..len], caveat, &mut narrowed).unwrap_or(0);
            token = narrowed;
        }
        let mut frame = [0; MAX_FRAME];
        let len = self.session.authenticate(&token[..len], NOW, &mut frame);
        leaf.load(&frame[..len]);
    }

    fn open(&mut self, leaf: &mut dyn Leaf) {
        let (mut to_leaf, mut len) = ([0; MAX_FRAME], 0);
        let mut from_leaf = [0; MAX_FRAME];
        for _ in 0..TURNS {
            let sent = leaf.exchange(&to_leaf[..len], &mut from_leaf);
            len = match visorbus_core::decode(&from_leaf[..sent]) {
                Ok(message) => self.handle(&message, leaf, &mut to_leaf),
                Err(_) if self.session.wants_token(NOW) => self.prove(&mut to_leaf),
                Err(_) => 0,
            };
        }
        assert!(self.session.is_ready(), "the session opens");
    }

    fn handle(&mut self, message: &Message<'_>, leaf: &mut dyn Leaf, out: &mut [u8]) -> usize {
        match self.session.handle(message, NOW, out) {
            Verdict::Opened { answer } => {
                leaf.handle_opened(self.session.epoch());
                answer
            }
            Verdict::Answer(answer) => answer,
            Verdict::Authenticate { token } => {
                let context = Context::new(BUS, Some(UNIX_S)).with_boot_id(self.session.boot_id());
                let grant = self.ring.check(token, &context);
                let grant = grant.map_err(|_| visorbus_core::IpcError::Authentication("no"));
                self.session.finish_authentication(message, grant, NOW, out)
            }
            _ => 0,
        }
    }

    fn prove(&mut self, out: &mut [u8]) -> usize {
        let mut token = [0; MAX_TOKEN];
        let len = self.ring.mint(KEY_ID, &self.claims(), &mut token).unwrap_or(0);
        self.session.authenticate(&token[..len], NOW, out)
    }

    /// What the hub says of itself to the node.
    fn claims(&self) -> Claims<'static> {
        Claims {
            issuer: BUS,
            subject: BUS,
            audience: NAME,
            serial: self.session.remote().map_or(0, |remote| remote.boot_id),
            issued_at: UNIX_S,
            expiry: UNIX_S + 3_600,
            epoch: 0,
            scopes: Scopes::new(&["*"]),
        }
    }
}

/// The key of the device `counter`.
pub fn device_key() -> DeviceKey {
    DeviceKey::new(KEY_ID, Key::new(ROOT_KEY).derive(NAME))
}

type MemoryLane =
    Lane<SerialLink<MemoryUart, { serial_buffer_len(MAX_LINE_FRAME) }>, { lane_len(MAX_FRAME) }>;

const BUFFER: usize = serial_buffer_len(MAX_FRAME);
/// As long as a number is that was drawn at random.
const BOOT_ID: u64 = 0xD1B5_4A32_D192_ED03;
const SERIAL: u64 = 0x9E37_79B9_7F4A_7C15;
const KEY_ID: u8 = 0;
const ROOT_KEY: [u8; 32] = [0x5A; 32];
const UNIX_S: u64 = 1_800_000_000;

/// Time stands still, so that no heartbeat comes in between.
const NOW: Instant = Instant::from_micros(1_000_000);

/// More than it takes to open a session.
const TURNS: usize = 12;
