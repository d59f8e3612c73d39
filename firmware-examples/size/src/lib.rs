//! The smallest node that is one: two endpoints, a topic, and the main loop, whatever its keys and its link are.
#![no_std]
#![forbid(unsafe_code)]

pub mod bench;
pub mod dma;
pub mod frames;
pub mod memory;

use core::marker::PhantomData;

use board_mps2_an386::{Board, Uart};
use static_cell::StaticCell;
use visorbus_core::{
    Instant, IpcError, Link, Peer,
    auth::{Access, Key},
    dispatch::{Answers, Row},
    limits::MAX_LINE_FRAME,
    message::{
        Address,
        typed::{Endpoint, Topic},
    },
    peer::{Event, Keys, Node},
    secure::{Cipher, Connecting, LinkKey, NonceSeed, Sealed, SecureEnd, Suite, Tag64},
    serve::{Application, serve},
    session::{Name, Role, SessionConfig},
};
use visorbus_hal::{Lane, SecureLink, SerialLink, SpiTargetLink, lane_len, serial_buffer_len};

use crate::dma::DmaTarget;

/// The end of a link as the images have it: messages of up to [`MAX_FRAME`] bytes.
pub type Leaf<L, K> = Peer<L, K, MAX_FRAME>;

/// UART0, a message in a frame; what the line damages is lost.
pub type Serial = SerialLink<Uart, { serial_buffer_len(MAX_FRAME) }>;

/// UART0 with a lane over it: messages in pieces, and nothing is lost.
pub type SerialLane = Lane<SerialLink<Uart, { serial_buffer_len(MAX_LINE_FRAME) }>, { lane_len(MAX_FRAME) }>;

/// UART0 with a key, a message in a frame; `C` is the suite.
pub type SecureSerial<C> =
    SecureLink<SerialLink<Uart, { serial_buffer_len(SECURED) }>, Connecting<C>, SECURED>;

/// UART0 with a key, suite `tag64`, and a lane over it.
pub type SecureLane = Lane<
    SecureLink<SerialLink<Uart, { serial_buffer_len(SECURED_LINE) }>, Connecting<Tag64>, SECURED_LINE>,
    { lane_len(MAX_FRAME) },
>;

/// SPI, a message of up to [`MAX_LINE_FRAME`] bytes in a frame.
pub type Spi = SpiTargetLink<DmaTarget>;

/// SPI with a lane over it.
pub type SpiLane = Lane<Spi, { lane_len(MAX_FRAME) }>;

/// A counter that is read and set, and published when it is set.
#[derive(Debug)]
pub struct Counter<R> {
    value: u32,
    changed: bool,
    rights: PhantomData<R>,
}

impl<R> Counter<R> {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self { value: 0, changed: false, rights: PhantomData }
    }
}

impl<R> Default for Counter<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Rights> Answers<Read<R>> for Counter<R> {
    fn answer(&mut self, (): ()) -> Result<u32, IpcError> {
        Ok(self.value)
    }
}

impl<R: Rights> Answers<Set<R>> for Counter<R> {
    fn answer(&mut self, value: u32) -> Result<u32, IpcError> {
        if value > LIMIT {
            return Err(IpcError::Message("the counter goes to 1000000"));
        }
        self.changed = true;
        Ok(core::mem::replace(&mut self.value, value))
    }
}

impl<R: Rights> Node for Counter<R> {
    const ROWS: &'static [Row<Self>] = if R::DESCRIBED {
        &[Row::endpoint::<Read<R>>(), Row::endpoint::<Set<R>>(), Row::publishes::<Value>()]
    } else {
        &[Row::endpoint::<Read<R>>(), Row::endpoint::<Set<R>>()]
    };
    const DESCRIBES: bool = R::DESCRIBED;
    // Its own requests are the session's alone.
    const READS_TEXT: bool = R::DESCRIBED;
}

impl<L: Link, R: Rights, K: Keys> Application<L, K, MAX_FRAME> for Counter<R> {
    fn tick(&mut self, peer: &mut Leaf<L, K>, _event: Option<Event>, _now: Instant) -> Result<(), L::Error> {
        if self.changed && peer.publish::<Self, Value>(&self.value)? {
            self.changed = false;
        }
        Ok(())
    }
}

/// Serves the counter for ever; the images are this and what `new` makes: a peer with their keys and their link.
pub fn run<R: Rights, L: Link + 'static, K: Keys + 'static>(
    mut board: Board,
    new: impl FnOnce(SessionConfig, Uart) -> &'static mut Leaf<L, K>,
) {
    let peer = new(config::<R>(board.boot_id()), board.uart);
    let mut counter = Counter::<R>::new();
    let _ = serve(peer, &mut counter, |due| {
        let now = Instant::from_micros(board.clock.now_us());
        let wait_us = due.map_or(u64::MAX, |due| due.micros_since(now));
        board.idle.wait(u32::try_from(wait_us).unwrap_or(u32::MAX));
        Instant::from_micros(board.clock.now_us())
    });
}

/// Makes a large peer in its place. In a function of its own, so that what this takes of the stack is free afterwards:
/// the function that runs the main loop never returns, and what it once needed it keeps.
#[inline(never)]
pub fn start<P>(place: &'static StaticCell<P>, new: impl FnOnce() -> P) -> &'static mut P {
    place.init_with(new)
}

/// `link` with a key, at this node's end.
///
/// # Panics
/// When `C` is not `suite`.
pub fn secure<L: Link, C: Cipher, const N: usize>(
    link: L,
    suite: Suite,
    boot_id: u64,
) -> SecureLink<L, Connecting<C>, N> {
    let end = LinkKey::new(0, suite, NAME, Key::new(LINK_KEY))
        .and_then(|key| Connecting::new(key, boot_id, NonceSeed::counted(boot_id)).ok());
    match end {
        Some(end) => SecureLink::new(link, end),
        None => unreachable!("the name is one, and the suite is that of the type"),
    }
}

/// What the images say of themselves.
pub fn config<R: Rights>(boot_id: u64) -> SessionConfig {
    SessionConfig {
        role: Role::Connecting,
        name: Name::try_from(NAME).unwrap_or_default(),
        boot_id,
        max_frame: MAX_FRAME as u32,
        heartbeat_ms: 1_000,
        rows: if R::DESCRIBED { Counter::<R>::ROWS.len() as u16 } else { 0 },
        requires_authentication: R::AUTHENTICATED,
        lossy: true,
    }
}

/// What callers of the counter need.
pub trait Rights: 'static {
    /// To read it.
    const READ: Access<'static>;
    /// To set it.
    const SET: Access<'static>;
    /// Whether they have to authenticate at all.
    const AUTHENTICATED: bool;
    /// Whether the node tells the hub of its addresses.
    const DESCRIBED: bool = false;
}

/// Nothing: for a node without keys.
#[derive(Debug)]
pub struct Anyone;

impl Rights for Anyone {
    const READ: Access<'static> = Access::Open;
    const SET: Access<'static> = Access::Open;
    const AUTHENTICATED: bool = false;
}

/// Nothing, and the node tells the hub of its addresses.
#[derive(Debug)]
pub struct AnyoneWhoAsks;

impl Rights for AnyoneWhoAsks {
    const READ: Access<'static> = Access::Open;
    const SET: Access<'static> = Access::Open;
    const AUTHENTICATED: bool = false;
    const DESCRIBED: bool = true;
}

/// A permission to read it, a scope to set it.
#[derive(Debug)]
pub struct Holders;

impl Rights for Holders {
    const READ: Access<'static> = Access::Permission;
    const SET: Access<'static> = Access::Scope("counter.control");
    const AUTHENTICATED: bool = true;
}

/// The same of whoever the hub lets in: the link's key proves the hub, which asks them.
#[derive(Debug)]
pub struct HubsHolders;

impl Rights for HubsHolders {
    const READ: Access<'static> = Access::Permission;
    const SET: Access<'static> = Access::Scope("counter.control");
    const AUTHENTICATED: bool = false;
}

/// Reads the counter.
#[derive(Debug)]
pub struct Read<R>(PhantomData<R>);

impl<R: Rights> Endpoint for Read<R> {
    type Request = ();
    type Response = u32;
    const ADDRESS: Address<'static> = Address::literal("counter/read");
    const ACCESS: Access<'static> = R::READ;
}

/// Sets the counter and answers what it was.
#[derive(Debug)]
pub struct Set<R>(PhantomData<R>);

impl<R: Rights> Endpoint for Set<R> {
    type Request = u32;
    type Response = u32;
    const ADDRESS: Address<'static> = Address::literal("counter/set");
    const ACCESS: Access<'static> = R::SET;
}

/// What the counter was set to.
#[derive(Debug)]
pub struct Value;

impl Topic for Value {
    type Message = u32;
    const ADDRESS: Address<'static> = Address::literal("counter/value");
    const ACCESS: Access<'static> = Access::Permission;
}

/// The name of the node.
pub const NAME: &str = "counter";

/// Bytes of the longest message either way.
pub const MAX_FRAME: usize = 256;

/// Bytes of the longest frame on a line with a key.
pub const SECURED: usize = MAX_FRAME + Connecting::<Sealed>::OVERHEAD;

/// The same of a lane on such a line.
pub const SECURED_LINE: usize = MAX_LINE_FRAME + Connecting::<Tag64>::OVERHEAD;

/// The key of the link; a real one comes from its provisioning.
pub const LINK_KEY: [u8; 32] = [0xA5; 32];

const LIMIT: u32 = 1_000_000;
