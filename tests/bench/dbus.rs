//! Measures the hub on a bus beside the smallest service of the dbus crate, on the same bus in the same minute.

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use visorbus_tests::contest::{self, Contender, Plan, TABLE_HEAD};
use visorbus_tests::cpu::{self, Cpu};
use visorbus_tests::dbus::{
    self, BareMethod, BareSignals, BridgeCall, ComponentMethod, FLOOD_HEAD, FloodPlan, HubSignals,
    MESSAGE_LEN, SUBSCRIBERS,
};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::program::{self, names, number, numbers};
use visorbus_tests::websocket::Cores;

const USAGE: &str = "\
Measures the hub on a private dbus-daemon beside the smallest service of the dbus crate, in turns, and prints a table for
each question.

Usage: dbus-bench [OPTION...]
  --only NAME,...   of call, signals, flood [all]
  --sizes N,N...    bytes of one call [64,1024,65536]
  --batches N,N...  notifications that are sent at once to the subscribers [1,16,64]
  --rounds N        turns of every contender [20]
  --trips N         measured round trips in one turn [200]
  --turn MS         how long one turn of the flood is measured [1000]
  --cpu N|last|any  the core of calls and signals; any: leave all of it to the system [last]
  --check           fail when a figure is above its limit
  --help            this text";

fn main() -> ExitCode {
    if let Some(code) = dbus::play_part() {
        return code;
    }
    program::run("dbus-bench", USAGE, Options::parse, measure, |options| options.check)
}

/// Prints the tables; how many figures are above their limit.
fn measure(options: &Options) -> io::Result<usize> {
    // Before this process is kept on one of them.
    let cores = if options.cpu == Cpu::Any { None } else { cpu::two()? };
    let mut missed = 0;
    if options.asks("call") || options.asks("signals") {
        options.cpu.keep();
        let bus = DbusDaemon::start();
        if options.asks("call") {
            missed += calls(options, bus.address())?;
        }
        if options.asks("signals") {
            missed += signals(options, bus.address())?;
        }
    }
    if options.asks("flood") {
        missed += flood(options, cores)?;
    }
    Ok(missed)
}

fn calls(options: &Options, bus: &str) -> io::Result<usize> {
    println!(
        "\nA method call with bytes that come back. The same dbus-daemon is between all of them.\n{TABLE_HEAD}"
    );
    let program = &env::current_exe()?;
    let bare = BareMethod::new(program, bus);
    let (method, bridge) = (ComponentMethod::new(program, bus), BridgeCall::new(program, bus));
    let mut missed = 0;
    for &size in &options.sizes {
        for score in contest::run(&[&bare, &method, &bridge], size, options.plan)? {
            println!("{score}");
            missed += usize::from(score.is_too_slow());
        }
    }
    Ok(missed)
}

fn signals(options: &Options, bus: &str) -> io::Result<usize> {
    println!(
        "\nOne publisher on a Unix socket, {SUBSCRIBERS} subscribers on the bus, notifications of {MESSAGE_LEN} bytes in batches."
    );
    println!("{}   deliveries/s", TABLE_HEAD.replace(" bytes", " batch"));
    let program = &env::current_exe()?;
    let contenders: [&dyn Contender; 4] = [
        &BareSignals::new(program, bus),
        &HubSignals::new(program, bus),
        &HubSignals::bridge(program, bus),
        &BareSignals::broadcast(program, bus),
    ];
    let mut missed = 0;
    for &batch in &options.batches {
        for score in contest::run(&contenders, batch, options.plan)? {
            println!("{score}   {:.0}", dbus::deliveries(&score));
            missed += usize::from(score.is_too_slow());
        }
    }
    Ok(missed)
}

fn flood(options: &Options, cores: Option<(usize, usize)>) -> io::Result<usize> {
    println!(
        "\nRound trips of a client on the hub's Unix socket to a handler in the hub, while others flood the bus."
    );
    match cores {
        Some((servers, others)) => println!(
            "Hub and bare service on core {servers}; dbus-daemon, whoever floods and the hub's client on core {others}, the client \
             first. Neither core sleeps."
        ),
        None => println!("Wherever the system likes."),
    }
    let plan = FloodPlan {
        rounds: options.plan.rounds.min(FLOOD_ROUNDS),
        turn: options.turn,
        cores: Cores { apart: cores },
        is_risen: options.cpu != Cpu::Any,
    };
    let outcome = dbus::measure(&env::current_exe()?, plan)?;
    println!("{FLOOD_HEAD}");
    outcome.states.iter().for_each(|state| println!("{state}"));
    let mut missed = 0;
    for (flood, of_bare, of_quiet) in outcome.ratios() {
        let is_missed = of_bare > MOST;
        let verdict = if is_missed { ", TOO SLOW" } else { "" };
        println!(
            "{flood}: the p99 is {of_bare:.2} of that with the flood at the bare service{verdict} (at most {MOST}), and {of_quiet:.2} \
             of the quiet one."
        );
        missed += usize::from(is_missed);
    }
    Ok(missed)
}

struct Options {
    only: Vec<String>,
    sizes: Vec<usize>,
    batches: Vec<usize>,
    turn: Duration,
    cpu: Cpu,
    plan: Plan,
    check: bool,
}

impl Options {
    /// `None` when help was asked for.
    fn parse(arguments: &mut dyn Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            only: Vec::new(),
            sizes: vec![64, 1024, 65536],
            batches: vec![1, 16, 64],
            turn: Duration::from_secs(1),
            cpu: Cpu::Last,
            plan: Plan { rounds: 20, trips: 200, warm_up: 20 },
            check: false,
        };
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--only" => options.only = names(&value()?, &QUESTIONS)?,
                "--sizes" => options.sizes = numbers(&value()?)?,
                "--batches" => options.batches = numbers(&value()?)?,
                "--rounds" => options.plan.rounds = number(&value()?)?,
                "--trips" => options.plan.trips = number(&value()?)?,
                "--turn" => options.turn = Duration::from_millis(number(&value()?)? as u64),
                "--cpu" => options.cpu = value()?.parse()?,
                "--check" => options.check = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {option:?}")),
            }
        }
        Ok(Some(options))
    }

    fn asks(&self, question: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == question)
    }
}

const QUESTIONS: [&str; 3] = ["call", "signals", "flood"];
/// The most that the 99th percentile of the hub's other peers may grow by a flood.
const MOST: f64 = 2.0;
/// Turns of the flood, which are long.
const FLOOD_ROUNDS: usize = 8;
