//! Measures WebSockets through the hub beside bare tungstenite on rustls, of the same machine and minute.

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use visorbus_tests::contest::{self, Contender, Plan, TABLE_HEAD};
use visorbus_tests::cpu::{self, Cpu};
use visorbus_tests::program::{self, names, number, numbers};
use visorbus_tests::websocket::{
    self, BareFanOut, BareHolder, Certificate, Cores, Holder, HubFanOut, HubHolder, MESSAGE_LEN, Member,
    OneHop, Readers, SUBSCRIBERS, Security, ToHandler, ToService, TwoHops,
};

const USAGE: &str = "\
Measures WebSockets through the hub beside bare tungstenite, in turns, and prints a table for each question.

Usage: websocket-bench [OPTION...]
  --only NAME,...   of round-trip, fan-out, memory, idle [all]
  --sizes N,N...    bytes of one message of a round trip [64,1024,65536]
  --rounds N        turns of every contender [20]
  --trips N         measured round trips in one turn [200]
  --batches N,N...  notifications that are sent at once in the fan-out [1,16,64,256]
  --connections N   idle connections whose memory is measured [1000]
  --idle N          idle connections that are held at once [5000]
  --seconds N       for which they are held [30, in which each is sent a ping]
  --cpu N|last|any  the core of the round trips; any: leave all of it to the system [last]
  --check           fail when a figure is above its limit
  --help            this text";

fn main() -> ExitCode {
    if let Some(code) = websocket::play_part() {
        return code;
    }
    program::run("websocket-bench", USAGE, Options::parse, measure, |options| options.check)
}

/// Prints the tables; how many figures are above their limit.
fn measure(options: &Options) -> io::Result<usize> {
    let (certificate, _directory) = Certificate::new()?;
    let both = [Security::Plain, Security::Tls(certificate)];
    // Before this process is kept on one of them.
    let cores = Cores { apart: if options.cpu == Cpu::Any { None } else { cpu::two()? } };
    let mut missed = 0;
    websocket::allow_descriptors(DESCRIPTORS)?;
    if options.asks("memory") {
        missed += memory(options, &both)?;
    }
    if options.asks("idle") {
        missed += idle(options, &both)?;
    }
    if options.asks("round-trip") {
        options.cpu.keep();
        missed += round_trips(options, &both)?;
    }
    if options.asks("fan-out") {
        missed += fan_out(options, &both, cores)?;
    }
    Ok(missed)
}

fn round_trips(options: &Options, both: &[Security]) -> io::Result<usize> {
    println!("\n{TABLE_HEAD}");
    let program = &env::current_exe()?;
    let mut contenders: Vec<Box<dyn Contender + '_>> = Vec::new();
    for security in both {
        contenders.push(Box::new(OneHop::new(program, security)));
        contenders.push(Box::new(ToHandler::new(program, security)));
        contenders.push(Box::new(TwoHops::new(program, security)));
        contenders.push(Box::new(ToService::new(program, security)));
    }
    let contenders: Vec<&dyn Contender> = contenders.iter().map(AsRef::as_ref).collect();
    let mut missed = 0;
    for &size in &options.sizes {
        for score in contest::run(&contenders, size, options.plan)? {
            println!("{score}");
            missed += usize::from(score.is_too_slow());
        }
    }
    Ok(missed)
}

fn fan_out(options: &Options, both: &[Security], cores: Cores) -> io::Result<usize> {
    println!("\nOne publisher, {SUBSCRIBERS} subscribers, notifications of {MESSAGE_LEN} bytes in batches.");
    match cores.apart {
        Some((servers, ours)) => {
            println!("The server on core {servers}, publisher and subscribers on core {ours}.")
        }
        None => println!("Wherever the system likes."),
    }
    if options.cpu != Cpu::Any {
        cpu::rise();
    }
    println!("{}   deliveries/s", TABLE_HEAD.replace(" bytes", " batch"));
    let program = &env::current_exe()?;
    let mut contenders: Vec<Box<dyn Contender + '_>> = Vec::new();
    for security in both {
        contenders.push(Box::new(BareFanOut::new(program, security, cores)));
        contenders.push(Box::new(HubFanOut::new(program, security, cores)));
    }
    let contenders: Vec<&dyn Contender> = contenders.iter().map(AsRef::as_ref).collect();
    let mut missed = 0;
    for &batch in &options.batches {
        for score in contest::run(&contenders, batch, options.plan)? {
            println!("{score}   {:.0}", websocket::deliveries(&score));
            missed += usize::from(score.is_too_slow());
        }
    }
    Ok(missed)
}

fn memory(options: &Options, both: &[Security]) -> io::Result<usize> {
    println!("\nResident memory of one idle connection, over {}.", options.connections);
    let program = &env::current_exe()?;
    let mut missed = 0;
    for security in both {
        let hub = HubHolder::new(program, security);
        let bare = BareHolder::new(program, security);
        let used = HubHolder::used(program, security);
        for holder in [&bare as &dyn Holder, &hub, &used] {
            let kib = websocket::memory_of_one(holder, options.connections)? / 1024.0;
            print!("{:<24}{kib:>9.1} KiB", holder.name());
            missed += verdict(kib, holder.at_most());
        }
    }
    Ok(missed)
}

fn idle(options: &Options, both: &[Security]) -> io::Result<usize> {
    let (count, time) = (options.idle, Duration::from_secs(options.seconds as u64));
    println!("\nProcessor time of a hub with {count} idle connections, over {time:?}, of one core.");
    let mut missed = 0;
    for security in both {
        let holder = HubHolder::new(env::current_exe()?, security);
        let hub = holder.start()?;
        let join = |number| holder.join(&hub, number);
        let sockets = (0..count).map(join).collect::<io::Result<Vec<_>>>()?;
        let mut readers = Readers::new(sockets)?;
        let percent = websocket::load(&hub, time, |time| readers.stay_for(time))? * 100.0;
        // Beside all of them, which are still there and were told nothing.
        Member::connect(security, &hub, count)?.ask(MESSAGE_LEN)?;
        readers.wait_for(0)?;
        print!("{:<24}{percent:>9.2} %", holder.name());
        missed += verdict(percent, Some(1.0));
    }
    Ok(missed)
}

/// Ends the line with what the figure is held against; 1 when it is above that.
fn verdict(figure: f64, at_most: Option<f64>) -> usize {
    match at_most {
        None => println!(),
        Some(at_most) if figure <= at_most => println!(", at most {at_most}"),
        Some(at_most) => {
            println!(", TOO MUCH: at most {at_most}");
            return 1;
        }
    }
    0
}

struct Options {
    only: Vec<String>,
    sizes: Vec<usize>,
    batches: Vec<usize>,
    connections: usize,
    idle: usize,
    seconds: usize,
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
            batches: vec![1, 16, 64, 256],
            connections: 1000,
            idle: 5000,
            seconds: 30,
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
                "--connections" => options.connections = number(&value()?)?,
                "--idle" => options.idle = number(&value()?)?,
                "--seconds" => options.seconds = number(&value()?)?,
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

const QUESTIONS: [&str; 4] = ["round-trip", "fan-out", "memory", "idle"];
/// More than both ends of all connections take.
const DESCRIPTORS: u64 = 12_000;
