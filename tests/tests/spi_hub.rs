//! A node on an SPI bus: the hub's own SPI port at one end, the sensor of the examples behind an SPI target at the other,
//! and between them a simulated bus that does what real ones do.

#[allow(dead_code, reason = "what serial lines need of it is not needed here")]
mod line;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Clock};

use embedded_hal::spi;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_core::peer::DeviceKey;
use visorbus_core::serve::serve;
use visorbus_core::{Instant, Peer};
use visorbus_hal::{Lane, SpiTarget, SpiTargetLink, lane_len};
use visorbus_imu::messages::{GetInfo, SelfTest, SetRate};
use visorbus_imu::{ImuBoard, ImuNode, KEY_ID, MAX_FRAME, device_key, session_config};
use visorbus_mcu::{NoBoardKeys, SpiPort, Trust};
use visorbus_tests::spi_bench::SpiBench;
use visorbus_tests::spi_bus::{BusFaults, BusTarget, SpiBus};

use line::{Operator, TestHub, samples};

#[test]
fn a_node_is_called_and_streams_over_its_bus() {
    let (hub, operator, bench, _node) = sensor(7);
    let info = operator.info();
    assert_eq!((info.board.as_str(), info.boot_id, info.rate_hz), (Host::NAME, 7, 100));
    assert!(operator.call::<SelfTest>(&()).passed);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    let samples = samples(&stream, 200);
    // None is late or out of order. When the machine is busy a newer one may take the place of one that waits.
    let steps = samples.windows(2).map(|pair| pair[1].timestamp_us - pair[0].timestamp_us);
    assert!(steps.clone().all(|step| step > 0 && step % 10_000 == 0));
    let missing: u64 = steps.map(|step| step / 10_000 - 1).sum();
    assert!(missing < 20, "{missing} of 200 samples did not come");
    let imu = hub.peer("imu").unwrap();
    assert!(imu.authenticated && imu.origin == "spi a simulated bus", "{imu:?}");
    assert_eq!((imu.sessions, imu.undecodable, imu.refused), (1, 0, 0), "{imu:?}");
    let counts = bench.bus.counts();
    assert!(counts.transfers > 200 && counts.bytes / counts.transfers < 80, "{counts:?}");
}

#[test]
fn a_bus_that_garbles_loses_no_call() {
    let (hub, operator, bench, _node) = sensor(1);
    operator.info();
    bench.bus.set_faults(BusFaults {
        bit_errors: 30,
        slips: 10,
        cut_offs: 10,
        lost_ends: 5,
        busy: 30,
        errors: 5,
        ready_glitches: 20,
        ..BusFaults::NONE
    });
    for round in 0..300_u16 {
        assert_eq!(operator.call::<SetRate>(&(1 + round)), 1 + round);
    }
    bench.bus.set_faults(BusFaults::NONE);
    let imu = hub.peer("imu").unwrap();
    assert_eq!(imu.sessions, 1, "{imu:?}");
    for name in ["bad_status", "bad_crc", "resent"] {
        assert!(imu.faults.iter().any(|fault| fault.name == name && fault.count > 0), "{name}: {imu:?}");
    }
}

#[test]
fn a_device_that_goes_fails_its_calls_and_comes_back_by_itself() {
    let (hub, operator, bench, node) = sensor(1);
    // From here on nobody answers.
    drop(node);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    bench.unplug();
    operator.wait("imu", false);
    let (error, _) = call.error(Clock::now());
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    let nobody = operator.client.call::<GetInfo>(&(), None).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Message, "{nobody}");
    for boot_id in [2, 3] {
        let node = Node::start(&bench.bus, boot_id);
        bench.plug();
        operator.wait("imu", true);
        assert_eq!(operator.info().boot_id, boot_id);
        drop(node);
        bench.unplug();
        operator.wait("imu", false);
    }
}

#[test]
fn a_node_that_restarts_is_noticed_at_once() {
    let (hub, operator, bench, node) = sensor(1);
    drop(node);
    let call = hub.pending_call::<GetInfo>(&hub.client("caller", &["*"]));
    let restarted = Clock::now();
    let _node = Node::start(&bench.bus, 2);
    call.expect_gone(restarted, "it started again");
    operator.wait("imu", false);
    operator.wait("imu", true);
    assert_eq!(operator.info().boot_id, 2);
}

#[test]
fn a_target_that_is_dead_does_not_keep_the_hub_busy() {
    let (hub, operator, bench, node) = sensor(1);
    drop(node);
    operator.wait("imu", false);
    let before = bench.bus.counts().transfers;
    let began = Clock::now();
    // As long as ten calls of somebody else's take, and at least half a second.
    while began.elapsed() < Duration::from_millis(500) {
        hub.peer("operator").unwrap();
        thread::yield_now();
    }
    let transfers = bench.bus.counts().transfers - before;
    let most = began.elapsed().as_millis() as u64 / 8 + 20;
    assert!(transfers <= most, "{transfers} transfers in {:?}", began.elapsed());
}

/// A hub with the sensor in service.
fn sensor(boot_id: u64) -> (TestHub, Operator, SpiBench, Node) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let bench = SpiBench::new(boot_id);
    let node = Node::start(&bench.bus, boot_id);
    let trust = Trust::Token { name: "imu".to_owned() };
    hub.handle.attach(Box::new(SpiPort::over(bench.clone(), 50, trust, Arc::new(NoBoardKeys)))).unwrap();
    operator.wait("imu", true);
    (hub, operator, bench, node)
}

/// The sensor of the examples on a thread of its own, as the target of a bus; dropped, it is silent.
struct Node {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn start(bus: &SpiBus, boot_id: u64) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let target = Target { target: bus.target(), stopped: Arc::clone(&stopped) };
        let bus = bus.clone();
        let thread = thread::spawn(move || {
            let started = Clock::now();
            let now = move || Instant::from_micros(started.elapsed().as_micros() as u64);
            let wait = |due: Option<Instant>| {
                let left = due.map_or(LONGEST_WAIT, |due| due.duration_since(now()));
                bus.wait_for_transfer(left.min(LONGEST_WAIT));
                now()
            };
            let link = Lane::<_, { 2 * lane_len(MAX_FRAME) }>::new(SpiTargetLink::new(target));
            let key = DeviceKey::new(KEY_ID, device_key());
            let mut peer = Peer::<_, _, MAX_FRAME>::new(session_config(boot_id, true), link, key);
            let _ = serve(&mut peer, &mut ImuNode::new(Host { started }, boot_id), wait);
        });
        Self { stopped, thread: Some(thread) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// The target's hardware, which fails when the test has seen enough of its node.
struct Target {
    target: BusTarget,
    stopped: Arc<AtomicBool>,
}

impl Target {
    fn check(&self) -> Result<(), spi::ErrorKind> {
        if self.stopped.load(Ordering::SeqCst) { Err(spi::ErrorKind::Other) } else { Ok(()) }
    }
}

impl SpiTarget for Target {
    type Error = spi::ErrorKind;

    fn arm(&mut self, bytes: &[u8], ready: bool) -> Result<bool, spi::ErrorKind> {
        self.check()?;
        self.target.arm(bytes, ready)
    }

    fn finished(&mut self) -> Result<Option<&[u8]>, spi::ErrorKind> {
        self.check()?;
        self.target.finished()
    }
}

/// The board of the sensor on this machine.
struct Host {
    started: Clock,
}

impl ImuBoard for Host {
    const NAME: &'static str = "a thread";

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// How soon a node sees that it is to stop.
const LONGEST_WAIT: Duration = Duration::from_millis(10);
