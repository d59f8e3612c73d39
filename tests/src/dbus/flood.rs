//! The hub's other peers while a flood of method calls comes over the bus, beside the same while the same flood goes to a bare
//! service on the same core.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use dbus::Message;
use dbus::message::MessageType;
use tempfile::NamedTempFile;

use crate::contest::RoundTrip;
use crate::cpu;
use crate::dbus::bare::BareMethod;
use crate::dbus::caller::{BUS, EchoMethod, Form, PATIENCE, ask, ask_bus, await_owner, connect};
use crate::dbus::hub::BusHub;
use crate::dbus_daemon::DbusDaemon;
use crate::part::{self, Part};
use crate::stats::RoundTrips;
use crate::through_hub::binary;
use crate::websocket::Cores;

/// Plays the part here, if it is it.
pub(crate) fn play(part: &str, arguments: &[String]) -> Option<io::Result<()>> {
    match (part, arguments) {
        (FLOOD_PART, [bus, service, path, interface, count, how, risen]) => {
            let (service, path, interface) = (service.clone(), path.clone(), interface.clone());
            let method = EchoMethod { service, path, interface, member: "Echo", form: Form::Typed };
            if risen == RISEN {
                // Where that is not allowed, the measuring process has said so.
                let _ = cpu::make_realtime();
            }
            Some(match how.as_str() {
                DEAF => flood_deaf(bus, &method, Path::new(count)),
                _ => flood_reading(bus, &method, Path::new(count)),
            })
        }
        (SPIN_PART, []) => Some(spin()),
        _ => None,
    }
}

/// How long, and where.
#[derive(Debug, Clone, Copy)]
pub struct FloodPlan {
    /// How often every state has its turn; at least 1.
    pub rounds: usize,
    /// How long one turn is measured.
    pub turn: Duration,
    /// Hub and bare service on the first of two cores; the bus, whoever floods it, and the hub's client on the second.
    pub cores: Cores,
    /// Whether all of it is above other work on the machine. The client is still above the bus, so that it sees its answer
    /// as soon as that is there, and neither core ever sleeps: waking one costs more than a round trip.
    pub is_risen: bool,
}

/// What the round trips of one peer of the hub came to in one state of the bus. `Display` is its line of the table, under
/// [`FLOOD_HEAD`].
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// What went on at the bus.
    pub name: &'static str,
    /// All round trips of the peer.
    pub trips: RoundTrips,
    /// The lowest of the 99th percentiles of single turns.
    pub best_p99: Duration,
    /// Calls a second that whoever flooded has sent, or got answered where it reads.
    pub calls: f64,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, best] = [self.trips.p50, self.trips.p90, self.trips.p99, self.best_p99]
            .map(|time| time.as_secs_f64() * 1e6);
        write!(f, "{:<34}{p50:>9.1}{p90:>9.1}{p99:>9.1}{best:>9.1}{:>10.0}", self.name, self.calls)
    }
}

/// The head of the table that the lines of [`Beside`] make.
pub const FLOOD_HEAD: &str =
    "state of the bus                     p50 us   p90 us   p99 us  best p99   calls/s";

/// The figures of every state, and what they are held against.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// In the order in which they took turns, the quiet bus first.
    pub states: Vec<Beside>,
}

impl Outcome {
    /// Of each flood of the hub: its name, and its 99th percentile over that of the same flood at the bare service, and
    /// over that of the quiet bus.
    pub fn ratios(&self) -> Vec<(&'static str, f64, f64)> {
        let p99 = |name| {
            let state = self.states.iter().find(|state| state.name == name);
            state.map_or(f64::NAN, |state| state.trips.p99.as_secs_f64())
        };
        let of = |(bare, hub)| (hub, p99(hub) / p99(bare), p99(hub) / p99(QUIET));
        [(BARE_READING, HUB_READING), (BARE_DEAF, HUB_DEAF)].map(of).to_vec()
    }
}

/// Lets the states take turns on a bus of their own, with parts started from `program`, whose `main` calls
/// [`super::play_part`].
///
/// # Errors
/// A part cannot be started, or somebody gets no answer.
///
/// # Panics
/// When `plan` measures nothing: a mistake of the caller.
pub fn measure(program: &Path, plan: FloodPlan) -> io::Result<Outcome> {
    assert!(plan.rounds > 0 && !plan.turn.is_zero(), "a plan without round trips");
    let _awake = if plan.is_risen { keep_awake(program, plan.cores)? } else { Vec::new() };
    if plan.is_risen {
        cpu::rise();
    }
    let bus = DbusDaemon::start();
    let world = World::start(program, bus.address(), plan)?;
    let mut client = world.client()?;
    let mut lanes = LANES.map(|(name, flood)| Lane {
        name,
        flood,
        samples: Vec::new(),
        p99s: Vec::new(),
        calls: Vec::new(),
    });
    for _ in 0..plan.rounds {
        for lane in &mut lanes {
            lane.take_turn(&world, &mut client)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", lane.name)))?;
        }
    }
    Ok(Outcome { states: lanes.into_iter().filter_map(Lane::total).collect() })
}

/// Who floods whom.
#[derive(Debug, Clone, Copy)]
struct Flood {
    is_of_hub: bool,
    is_deaf: bool,
}

/// One state, and what was measured in it.
struct Lane {
    name: &'static str,
    flood: Option<Flood>,
    samples: Vec<Duration>,
    p99s: Vec<Duration>,
    calls: Vec<f64>,
}

impl Lane {
    fn take_turn(&mut self, world: &World<'_>, client: &mut RoundTrip) -> io::Result<()> {
        let flooder = self.flood.map(|flood| world.flood(flood)).transpose()?;
        let (start, before) = (Instant::now(), flooder.as_ref().map_or(Ok(0), Flooder::count)?);
        let mut turn = Vec::new();
        while start.elapsed() < world.plan.turn {
            let begin = Instant::now();
            client()?;
            turn.push(begin.elapsed());
        }
        let calls = flooder.as_ref().map_or(Ok(0), Flooder::count)? - before;
        self.calls.push(calls as f64 / start.elapsed().as_secs_f64());
        drop(flooder);
        self.p99s.extend(RoundTrips::from_samples(&mut turn).map(|trips| trips.p99));
        self.samples.append(&mut turn);
        world.settle()
    }

    fn total(mut self) -> Option<Beside> {
        let trips = RoundTrips::from_samples(&mut self.samples)?;
        let calls = self.calls.iter().sum::<f64>() / self.calls.len() as f64;
        Some(Beside { name: self.name, trips, best_p99: self.p99s.into_iter().min()?, calls })
    }
}

/// A hub and a bare service on one bus.
struct World<'w> {
    program: &'w Path,
    bus: &'w str,
    plan: FloodPlan,
    hub: BusHub,
    hub_method: EchoMethod,
    bare_method: EchoMethod,
    _bare: Part,
}

impl<'w> World<'w> {
    fn start(program: &'w Path, bus: &'w str, plan: FloodPlan) -> io::Result<Self> {
        let start_hub = || BusHub::start(program, bus, "org.visorbus.bench.Flooded");
        let hub = plan.cores.start_server(start_hub)?;
        let (bare, bare_method) = plan.cores.start_server(|| BareMethod::new(program, bus).serve())?;
        let hub_method = hub.echo();
        await_owner(&connect(bus)?, &hub_method.service)?;
        let world = Self { program, bus, plan, hub, hub_method, bare_method, _bare: bare };
        world.settle()?;
        Ok(world)
    }

    /// A peer of the hub on its Unix socket.
    fn client(&self) -> io::Result<RoundTrip> {
        if self.plan.is_risen {
            // Where that is not allowed, the measuring process has said so.
            let _ = cpu::make_realtime_at(2);
        }
        self.hub.local_trip(PAYLOAD)
    }

    /// Starts a flood and waits until it flows.
    fn flood(&self, flood: Flood) -> io::Result<Flooder> {
        let method = if flood.is_of_hub { &self.hub_method } else { &self.bare_method };
        let (count, how) = (NamedTempFile::new()?, if flood.is_deaf { DEAF } else { "reading" });
        let path = count.path().to_string_lossy();
        let risen = if self.plan.is_risen { RISEN } else { "not-risen" };
        let EchoMethod { service, path: object, interface, .. } = method;
        let arguments = [self.bus, service, object, interface, &*path, how, risen];
        let part = Part::start(self.program, FLOOD_PART, arguments)?;
        Ok(Flooder { _part: part, count: count.reopen()?, _file: count })
    }

    /// Waits until hub and service have done all that was asked of them before.
    fn settle(&self) -> io::Result<()> {
        let channel = connect(self.bus)?;
        for method in [&self.hub_method, &self.bare_method] {
            let bytes = binary(PAYLOAD);
            let answer = ask(&channel, method.call(&bytes)?)?;
            if !method.is_answer(&answer, &bytes) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not what was sent"));
            }
        }
        Ok(())
    }
}

/// Somebody who calls as fast as it can.
struct Flooder {
    _part: Part,
    count: File,
    _file: NamedTempFile,
}

impl Flooder {
    /// How many calls it has sent, or had answered where it reads.
    fn count(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.count.read_exact_at(&mut bytes, 0)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Starts what runs on either core whenever nothing else does; this process is on the second core then.
fn keep_awake(program: &Path, cores: Cores) -> io::Result<Vec<Part>> {
    let Some((servers, ours)) = cores.apart else { return Ok(Vec::new()) };
    let spin = |core| {
        cpu::pin(Some(core))?;
        Part::start(program, SPIN_PART, [""; 0])
    };
    Ok(vec![spin(servers)?, spin(ours)?])
}

fn spin() -> io::Result<()> {
    // Who started it may have risen for a measurement before this one; where it could not, this will do.
    cpu::make_idle().or_else(|_| rustix::process::nice(19).map(drop))?;
    // This process must end with its parent even though it never waits.
    std::thread::spawn(|| {
        let _ = part::stay();
        std::process::exit(0);
    });
    part::ready("");
    loop {
        std::hint::spin_loop();
    }
}

/// Keeps [`WINDOW`] calls open, and reads every answer.
fn flood_reading(bus: &str, method: &EchoMethod, count: &Path) -> io::Result<()> {
    let channel = connect(bus)?;
    let (bytes, count) = (binary(PAYLOAD), Counter::new(count)?);
    let (mut open, mut answered) = (0_usize, 0_u64);
    loop {
        while open < WINDOW {
            channel.send(method.call(&bytes)?).map_err(|()| io::ErrorKind::BrokenPipe)?;
            open += 1;
        }
        channel.read_write(Some(PATIENCE)).map_err(|()| io::ErrorKind::BrokenPipe)?;
        while let Some(mut message) = channel.pop_message() {
            match message.msg_type() {
                MessageType::MethodReturn => {}
                MessageType::Error => {
                    return Err(message
                        .as_result()
                        .err()
                        .map_or(io::ErrorKind::Other.into(), super::caller::other));
                }
                _ => continue,
            }
            (open, answered) = (open - 1, answered + 1);
            count.say(answered)?;
        }
    }
}

/// Sends calls as fast as they are taken, and never reads.
fn flood_deaf(bus: &str, method: &EchoMethod, count: &Path) -> io::Result<()> {
    let mut stream = enter(bus)?;
    let count = Counter::new(count)?;
    let mut call = method.call(&binary(PAYLOAD))?;
    call.set_serial(1);
    let mut one = Vec::new();
    marshal(&call, &mut one)?;
    let mut sent = 0_u64;
    loop {
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            sent += 1;
            // D-Bus specification, "Message Format": which call this is, in this machine's order of bytes.
            one[8..12].copy_from_slice(&(sent as u32).wrapping_add(1).max(1).to_ne_bytes());
            batch.extend_from_slice(&one);
        }
        stream.write_all(&batch)?;
        count.say(sent)?;
    }
}

/// A connection to `bus` without a library, which has said hello.
fn enter(bus: &str) -> io::Result<UnixStream> {
    let path = bus.strip_prefix("unix:path=").ok_or(io::ErrorKind::Unsupported)?;
    let mut stream = UnixStream::connect(path)?;
    // D-Bus specification, "Authentication Protocol": the kernel tells the bus who this is.
    stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
    let mut hello = ask_bus("Hello");
    hello.set_serial(1);
    let mut bytes = Vec::new();
    marshal(&hello, &mut bytes)?;
    stream.write_all(&bytes)?;
    // What comes first is the answer to it.
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answers = Vec::new();
    while !answers.windows(BUS.len()).any(|window| window == BUS.as_bytes()) {
        let mut some = [0; 256];
        match stream.read(&mut some)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => answers.extend_from_slice(&some[..len]),
        }
    }
    Ok(stream)
}

fn marshal(message: &Message, into: &mut Vec<u8>) -> io::Result<()> {
    message.marshal(|bytes| into.write_all(bytes))
}

/// Where a part says how far it is.
struct Counter(File);

impl Counter {
    fn new(path: &Path) -> io::Result<Self> {
        let counter = Self(File::options().write(true).open(path)?);
        counter.0.write_all_at(&0_u64.to_le_bytes(), 0)?;
        Ok(counter)
    }

    /// Says it now and then, and for the first time that the flood flows.
    fn say(&self, count: u64) -> io::Result<()> {
        if count.is_multiple_of(BATCH) {
            self.0.write_all_at(&count.to_le_bytes(), 0)?;
        }
        if count == BATCH {
            part::ready("");
        }
        Ok(())
    }
}

const QUIET: &str = "quiet";
const BARE_READING: &str = "flood at the bare service";
const HUB_READING: &str = "flood at the hub";
const BARE_DEAF: &str = "deaf flood at the bare service";
const HUB_DEAF: &str = "deaf flood at the hub";
const LANES: [(&str, Option<Flood>); 5] = [
    (QUIET, None),
    (BARE_READING, Some(Flood { is_of_hub: false, is_deaf: false })),
    (HUB_READING, Some(Flood { is_of_hub: true, is_deaf: false })),
    (BARE_DEAF, Some(Flood { is_of_hub: false, is_deaf: true })),
    (HUB_DEAF, Some(Flood { is_of_hub: true, is_deaf: true })),
];
/// Bytes of what is asked, over the bus and beside it.
const PAYLOAD: usize = 64;
/// Calls that wait for their answers.
const WINDOW: usize = 128;
const BATCH: u64 = 64;
const DEAF: &str = "deaf";
const RISEN: &str = "risen";
const FLOOD_PART: &str = "--part=dbus-flood";
const SPIN_PART: &str = "--part=dbus-spin";
