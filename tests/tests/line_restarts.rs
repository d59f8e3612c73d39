//! A leaf and the end that accepts it, each with its lane, on a simulated line on which anything may happen: whatever
//! got lost, cut off or started again, soon after that both are in service.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use visorbus_core::auth::{Access, Key};
use visorbus_core::dispatch::{Answers, Row};
use visorbus_core::message::typed::Endpoint;
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_core::peer::{DeviceKey, Node};
use visorbus_core::session::{Role, SessionConfig};
use visorbus_core::{Instant, IpcError, Link, Peer};
use visorbus_hal::{Lane, SerialLink, lane_len, piece_len, serial_buffer_len};
use visorbus_tests::faulty_link::Random;
use visorbus_tests::line_sim::{LineFaults, LineSetup, LineSim, SimUart};
use visorbus_tests::pair::{Acceptor, LEAF, Setup};

#[test]
fn after_any_sequence_of_losses_and_restarts_both_ends_are_in_service_within_seconds() {
    let mut slowest = 0;
    for seed in 0..SEEDS {
        let mut ends = Ends::new(seed);
        for _ in 0..3 {
            ends.suffer();
            slowest = slowest.max(ends.recover());
        }
    }
    println!("{} times, {slowest} ms at most", 3 * SEEDS);
}

/// Both ends, their line, and what happens to them.
struct Ends {
    line: LineSim,
    near: Shared,
    far: Shared,
    leaf: Leaf,
    hub: Acceptor<FarLane>,
    was_open: bool,
    boot_id: u64,
    random: Random,
    /// For messages.
    seed: u64,
}

type Leaf = Peer<Lane<SerialLink<Shared, { serial_buffer_len(128) }>, { lane_len(256) }>, DeviceKey, 256>;
type FarLane = Lane<SerialLink<Shared, { serial_buffer_len(128) }>, { 2 * lane_len(1_024) }>;

impl Ends {
    fn new(seed: u64) -> Self {
        let setup = LineSetup { baud: 460_800, delay_us: 0, faults: LineFaults::NONE, seed };
        let (line, near, far) = LineSim::new(setup);
        let (near, far) = (Shared(Rc::new(RefCell::new(near))), Shared(Rc::new(RefCell::new(far))));
        let leaf = leaf(&near, 1);
        let hub = Acceptor::new(hub_setup(1), far_lane(&far), line.now());
        let random = Random::new(seed);
        Self { line, near, far, leaf, hub, was_open: false, boot_id: 1, random, seed }
    }

    /// Up to two seconds of losses, resets of the board with the same boot id or another, restarts of the hub.
    fn suffer(&mut self) {
        let per_byte = [0.0, 0.001, 0.01, 0.05][self.random.below(4) as usize];
        let silences_per_s = [0.0, 20.0][self.random.below(2) as usize];
        self.line.set_faults(LineFaults { per_byte, silences_per_s, silence_ms: 20 });
        for _ in 0..1 + self.random.below(5) {
            match self.random.below(5) {
                0 => self.leaf = leaf(&self.near, self.boot_id),
                1 => {
                    self.boot_id += 1;
                    self.leaf = leaf(&self.near, self.boot_id);
                }
                2 => {
                    self.boot_id += 1;
                    self.hub = Acceptor::new(hub_setup(self.boot_id), far_lane(&self.far), self.line.now());
                }
                3 => self.call(),
                _ => {
                    let now = self.line.now();
                    self.leaf.close("bye", now).unwrap();
                }
            }
            // Often so little that hello, its answer and the tokens are still on their way.
            let most = [2_000, 20_000, 400_000][self.random.below(3) as usize];
            let time = self.random.below(most);
            self.run_until(Instant::from_micros(self.line.now().as_micros() + time), |_| false);
        }
        self.line.set_faults(LineFaults::NONE);
    }

    /// Milliseconds until a call is answered.
    fn recover(&mut self) -> u64 {
        let start = self.line.now();
        self.hub.outcomes.clear();
        while !self.hub.outcomes.values().any(Result::is_ok) {
            let waited = self.line.now().micros_since(start);
            assert!(
                waited < 6_000_000,
                "seed {}: {:#?}, {:#?}, {:?}",
                self.seed,
                self.leaf.session(),
                self.hub.session,
                self.hub.outcomes
            );
            self.hub.outcomes.clear();
            self.call();
            let limit = self.line.now().plus_millis(CALL_MS + 10);
            self.run_until(limit, |hub| !hub.outcomes.is_empty());
        }
        self.line.now().micros_since(start) / 1_000
    }

    fn call(&mut self) {
        if self.hub.session.is_ready() && self.hub.session.grant().is_some() {
            let payload = [0];
            let request = Message::request(0, Ping::ADDRESS).with_payload(MessagePayload::Binary(&payload));
            self.hub.request(&request, CALL_MS, self.line.now());
        }
    }

    fn run_until(&mut self, limit: Instant, enough: impl Fn(&Acceptor<FarLane>) -> bool) {
        loop {
            let now = self.line.now();
            while self.leaf.poll(&mut Board, now).unwrap().is_some() {}
            self.hub.turn(now);
            let is_open = self.hub.session.is_open();
            if self.was_open && !is_open {
                self.hub.link.reset(None);
            }
            self.was_open = is_open;
            let _ = self.hub.link.flush(now);
            if now >= limit || enough(&self.hub) {
                return;
            }
            let dues =
                [self.leaf.poll_timeout(), self.hub.session.poll_timeout(), self.hub.link.poll_timeout()];
            let due = dues.into_iter().flatten().min().unwrap_or(limit).min(limit);
            // What waits for the UART is due already.
            self.line.run(due.max(Instant::from_micros(now.as_micros() + 100)));
        }
    }
}

fn leaf(uart: &Shared, boot_id: u64) -> Leaf {
    let config = SessionConfig {
        role: Role::Connecting,
        name: LEAF.try_into().unwrap(),
        boot_id,
        max_frame: 256,
        heartbeat_ms: 500,
        rows: 1,
        requires_authentication: true,
        lossy: true,
    };
    let lane = Lane::new(SerialLink::new(uart.clone())).with_piece(piece_len(460_800));
    Peer::new(config, lane, DeviceKey::new(1, Key::new(ROOT).derive(LEAF)))
}

fn far_lane(uart: &Shared) -> FarLane {
    Lane::new(SerialLink::new(uart.clone())).with_piece(piece_len(460_800))
}

fn hub_setup(boot_id: u64) -> Setup {
    Setup {
        hub_requires: true,
        leaf_requires: true,
        heartbeat_ms: 500,
        hub_boot_id: 1_000 + boot_id,
        root: ROOT,
        ..Setup::default()
    }
}

/// `imu/ping`: answers one more.
struct Ping;

impl Endpoint for Ping {
    type Request = u32;
    type Response = u32;
    const ADDRESS: Address<'static> = Address::literal("imu/ping");
    const ACCESS: Access<'static> = Access::Open;
}

struct Board;

impl Node for Board {
    const ROWS: &'static [Row<Self>] = &[Row::endpoint::<Ping>()];
}

impl Answers<Ping> for Board {
    fn answer(&mut self, request: u32) -> Result<u32, IpcError> {
        Ok(request + 1)
    }
}

/// A UART that stays when its owner starts again.
#[derive(Debug, Clone)]
struct Shared(Rc<RefCell<SimUart>>);

impl ErrorType for Shared {
    type Error = ErrorKind;
}

impl ReadReady for Shared {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        self.0.borrow_mut().read_ready()
    }
}

impl WriteReady for Shared {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        self.0.borrow_mut().write_ready()
    }
}

impl Read for Shared {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.borrow_mut().read(bytes)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

const ROOT: [u8; 32] = [9; 32];
const CALL_MS: u32 = 200;
const SEEDS: u64 = 200;
