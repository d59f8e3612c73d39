//! Measures how long the `visorbus` binary takes until it serves, and what it holds when idle, beside a bare process.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::program::{self, number};
use visorbus_tests::startup::{self, Contender, Start, TABLE_HEAD};

const USAGE: &str = "\
Measures the time from the start of a hub until it answers, and its memory when idle, beside a process that only listens.

Usage: startup-bench [OPTION...]
  --visorbus FILE   the program [the one beside this]
  --rounds N        starts of each [20]
  --idle MS         how long each idles before its memory is read [2000]
  --check           fail when the default hub needs more than 50 ms at the median, or 12 MB (12 000 000 bytes)
  --check-own       fail when more than 4 MB of that is its own and no file's, whatever machine this is
  --help            this text";

fn main() -> ExitCode {
    if let Some(code) = startup::play_part() {
        return code;
    }
    program::run("startup-bench", USAGE, Options::parse, measure, |options| {
        options.check || options.check_own
    })
}

fn measure(options: &Options) -> io::Result<usize> {
    let bare = Contender::bare(&env::current_exe()?);
    let bus = DbusDaemon::start();
    let hub = |name, flags: &[&str]| Contender::hub(name, &options.visorbus, flags);
    let all = ["--dashboard", "--websocket", "127.0.0.1:0", "--dbus", bus.address()];
    let contenders = [
        bare,
        hub("visorbus serve", &[]),
        hub("visorbus serve, dashboard", &all[..3]),
        hub("visorbus serve, dashboard, D-Bus", &all),
    ];
    println!(
        "From the start of the process until it has answered, and memory after {} ms without anybody.",
        options.idle.as_millis()
    );
    println!("{TABLE_HEAD}");
    let mut starts = Vec::new();
    for contender in &contenders {
        let start = contender.measure(options.rounds, options.idle)?;
        println!("{}", startup::row(contender, &start));
        starts.push(start);
    }
    Ok(verdict(options, &starts[DEFAULT]))
}

/// Prints how the hub with its defaults stands against what is promised of it; how much of that is missed and held against it.
fn verdict(options: &Options, start: &Start) -> usize {
    let time = start.answers.p50;
    let (memory, own) = (start.resident.all * 1024, start.resident.own * 1024);
    let over = |is_missed: bool| if is_missed { "OVER" } else { "of" };
    println!(
        "visorbus serve: {:.2} ms {} {} ms, {:.1} MB {} {} MB, its own {:.1} MB {} {} MB",
        time.as_secs_f64() * 1e3,
        over(time > MOST_TIME),
        MOST_TIME.as_millis(),
        memory as f64 / 1e6,
        over(memory > MOST_MEMORY),
        MOST_MEMORY / MB,
        own as f64 / 1e6,
        over(own > MOST_OWN),
        MOST_OWN / MB
    );
    let all = options.check && (time > MOST_TIME || memory > MOST_MEMORY);
    usize::from(all) + usize::from(options.check_own && own > MOST_OWN)
}

struct Options {
    visorbus: PathBuf,
    rounds: usize,
    idle: Duration,
    check: bool,
    check_own: bool,
}

impl Options {
    /// `None` when help was asked for.
    fn parse(arguments: &mut dyn Iterator<Item = String>) -> Result<Option<Self>, String> {
        let beside =
            env::current_exe().map(|own| own.with_file_name("visorbus")).map_err(|e| e.to_string())?;
        let mut options = Self {
            visorbus: beside,
            rounds: 20,
            idle: Duration::from_secs(2),
            check: false,
            check_own: false,
        };
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--visorbus" => options.visorbus = value()?.into(),
                "--rounds" => options.rounds = number(&value()?)?,
                "--idle" => options.idle = Duration::from_millis(number(&value()?)? as u64),
                "--check" => options.check = true,
                "--check-own" => options.check_own = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {option:?}")),
            }
        }
        if options.visorbus.is_file() {
            return Ok(Some(options));
        }
        let missing = options.visorbus.display();
        Err(format!(
            "there is no {missing}: build it with `cargo build --release -p visorbus`, or name it with --visorbus"
        ))
    }
}

/// The place of the hub with its defaults among the contenders.
const DEFAULT: usize = 1;
const MOST_TIME: Duration = Duration::from_millis(50);
const MOST_MEMORY: u64 = 12 * MB;
/// Of that what the hub has taken itself. How much of its program is resident beside is up to the kernel's page cache.
const MOST_OWN: u64 = 4 * MB;
const MB: u64 = 1_000_000;
