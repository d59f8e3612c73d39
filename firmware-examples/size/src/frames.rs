//! What one frame costs a link with a key: in, opened and handed out, or out, sealed and put on the line.

use visorbus_core::{
    Instant, Link,
    auth::Key,
    secure::{Accepting, Cipher, Connecting, LinkKey, LinkKeys, MAX_HANDSHAKE, SecureEnd, Suite},
};
use visorbus_hal::SecureLink;

use crate::{LINK_KEY, MAX_FRAME, NAME, bench::Bench, memory::MemoryLink, secure};

/// A payload of 48 bytes that arrives on a link without a key.
#[derive(Debug)]
pub struct PlainIn(MemoryLink);

/// One that is sent on it.
#[derive(Debug)]
pub struct PlainOut(MemoryLink);

/// One that arrives on a link with a key of the suite `C`.
#[derive(Debug)]
pub struct SecureIn<C>(Channel<C>);

/// One that is sent on it.
#[derive(Debug)]
pub struct SecureOut<C>(Channel<C>);

impl PlainIn {
    /// A link on which nothing was sent yet.
    pub const fn new() -> Self {
        Self(MemoryLink::new())
    }
}

impl Default for PlainIn {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench for PlainIn {
    fn prepare(&mut self) {
        self.0.put(&[0x55; PAYLOAD]);
    }

    fn turn(&mut self) {
        receive(&mut self.0);
    }
}

impl PlainOut {
    /// A link on which nothing was sent yet.
    pub const fn new() -> Self {
        Self(MemoryLink::new())
    }
}

impl Default for PlainOut {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench for PlainOut {
    fn prepare(&mut self) {
        self.0.take();
    }

    fn turn(&mut self) {
        send(&mut self.0);
    }
}

impl<C: Cipher> SecureIn<C> {
    /// A link whose two ends have proven themselves to each other.
    pub fn new(suite: Suite) -> Self {
        Self(Channel::open(suite))
    }
}

impl<C: Cipher> Bench for SecureIn<C> {
    fn prepare(&mut self) {
        let mut frame = [0x55; MAX_FRAME];
        let len = self.0.hub.seal(&mut frame, PAYLOAD).unwrap_or(0);
        self.0.board.link_mut().put(&frame[..len]);
    }

    fn turn(&mut self) {
        receive(&mut self.0.board);
    }
}

impl<C: Cipher> SecureOut<C> {
    /// A link whose two ends have proven themselves to each other.
    pub fn new(suite: Suite) -> Self {
        Self(Channel::open(suite))
    }
}

impl<C: Cipher> Bench for SecureOut<C> {
    fn prepare(&mut self) {
        self.0.board.link_mut().take();
    }

    fn turn(&mut self) {
        send(&mut self.0.board);
    }
}

/// A handshake from its beginning, as a board makes it: INIT, REPLY, and the word that confirms.
#[derive(Debug)]
pub struct Handshake<C> {
    suite: Suite,
    channel: Channel<C>,
}

impl<C: Cipher> Handshake<C> {
    /// Ends that have not said anything to each other yet.
    pub fn new(suite: Suite) -> Self {
        Self { suite, channel: Channel::new(suite) }
    }
}

impl<C: Cipher> Bench for Handshake<C> {
    fn prepare(&mut self) {
        self.channel = Channel::new(self.suite);
        // The hub's half is not counted.
        let mut init = [0; MAX_HANDSHAKE];
        let len = self.channel.board.end_mut().poll_transmit(NOW, &mut init);
        self.channel.answer(&mut init[..len]);
    }

    fn turn(&mut self) {
        assert!(matches!(self.channel.board.flush(NOW), Ok(true)), "there is room");
        assert!(self.channel.board.proof().is_some(), "the hub has proven itself");
    }
}

/// Both ends of a link with a key.
#[derive(Debug)]
struct Channel<C> {
    board: SecureLink<MemoryLink, Connecting<C>, MAX_FRAME>,
    hub: Accepting<Ring>,
}

impl<C: Cipher> Channel<C> {
    fn new(suite: Suite) -> Self {
        let key = LinkKey::new(0, suite, NAME, Key::new(LINK_KEY));
        Self { board: secure(MemoryLink::new(), suite, 1), hub: Accepting::new(Ring { key, nonces: 0 }, 2) }
    }

    fn open(suite: Suite) -> Self {
        let mut channel = Self::new(suite);
        for _ in 0..4 {
            let _ = channel.board.flush(NOW);
            let mut frame = [0; MAX_FRAME];
            let sent = channel.board.link_mut().take();
            let len = sent.len();
            frame[..len].copy_from_slice(sent);
            channel.answer(&mut frame[..len]);
            let _ = channel.board.receive();
        }
        assert!(channel.hub.is_open() && channel.board.proof().is_some(), "the channel opens");
        channel
    }

    /// Lets the hub take a frame, and say what it has to.
    fn answer(&mut self, frame: &mut [u8]) {
        self.hub.handle_frame(frame, NOW);
        self.hub.take_change();
        let mut answer = [0; MAX_HANDSHAKE];
        let len = self.hub.poll_transmit(NOW, &mut answer);
        self.board.link_mut().put(&answer[..len]);
    }
}

/// The hub's one key.
#[derive(Debug)]
struct Ring {
    key: Option<LinkKey>,
    nonces: u8,
}

impl LinkKeys for Ring {
    fn find(&mut self, _name: &str, _id: u8) -> Option<&LinkKey> {
        self.key.as_ref()
    }

    fn fresh_nonce(&mut self) -> Option<[u8; 16]> {
        self.nonces = self.nonces.wrapping_add(1);
        Some([self.nonces; 16])
    }
}

#[inline(never)]
fn receive<L: Link>(link: &mut L) {
    let len = link.receive().ok().flatten().map_or(0, <[u8]>::len);
    assert_eq!(len, PAYLOAD, "the payload arrives");
}

#[inline(never)]
fn send<L: Link>(link: &mut L) {
    assert!(matches!(link.send(&[0x55; PAYLOAD]), Ok(true)), "the payload goes");
}

/// Bytes of a payload.
const PAYLOAD: usize = 48;

const NOW: Instant = Instant::from_micros(1_000_000);
