//! Runs links and boards for long, with every fault there is, and prints what came of it.

mod lane;
mod restart;

use std::env;
use std::process::ExitCode;

use visorbus_tests::{clock_sim, line_bytes};

const USAGE: &str = "\
Runs links and boards for long, with every fault there is, and prints tables of what came of it. Fails when anything was
lost, doubled, out of order or damaged that must not be, or a call or a descriptor was left over.

Usage: soak [TABLE...] [OPTION...]

Tables (all of them unless some are named):
  lane              messages over a simulated line with byte faults and silences
  clock             a leaf's clock as the hub sees it, against the simulated truth
  restart           boards reset, cables pulled and hubs killed while calls are pending; takes some minutes
  bytes             bytes on the wire for one message

Options:
  --messages N      messages of each row of `lane` [1000000]
  --events N        resets, pulls and kills of `restart` [1000]
  --seed N          the same seed, the same faults (times of processes differ) [1]
  --help            this text";

fn main() -> ExitCode {
    if let Some(code) = restart::play_part() {
        return code;
    }
    let options = match Options::parse(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("soak: {error}; `soak --help` lists what it takes");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for (at, table) in options.tables.iter().enumerate() {
        if at > 0 {
            println!();
        }
        match table.run(&options) {
            Ok(()) => {}
            Err(error) => {
                eprintln!("soak: {error}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[derive(Debug, Clone, Copy)]
enum Table {
    Lane,
    Clock,
    Restart,
    Bytes,
}

impl Table {
    const ALL: [Self; 4] = [Self::Lane, Self::Clock, Self::Restart, Self::Bytes];

    fn named(name: &str) -> Option<&'static [Self]> {
        match name {
            "all" => Some(&Self::ALL),
            "lane" => Some(&[Self::Lane]),
            "clock" => Some(&[Self::Clock]),
            "restart" => Some(&[Self::Restart]),
            "bytes" => Some(&[Self::Bytes]),
            _ => None,
        }
    }

    fn run(self, options: &Options) -> Result<(), String> {
        match self {
            Self::Lane => match lane::print(options.messages, options.seed) {
                0 => Ok(()),
                bad => {
                    Err(format!("{bad} messages of the reliable lane were not delivered as they were sent"))
                }
            },
            Self::Clock => {
                println!("{}", clock_sim::table(options.seed..options.seed + CLOCK_SEEDS));
                Ok(())
            }
            Self::Restart => restart::print(options.events, options.seed),
            Self::Bytes => {
                print!("{}", line_bytes::table());
                Ok(())
            }
        }
    }
}

struct Options {
    tables: Vec<Table>,
    messages: u32,
    events: u32,
    seed: u64,
}

impl Options {
    /// `None` when help was asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { tables: Vec::new(), messages: 1_000_000, events: 1_000, seed: 1 };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--messages" => options.messages = positive(&value()?)?,
                "--events" => options.events = positive(&value()?)?,
                "--seed" => options.seed = u64::from(positive(&value()?)?),
                "--help" | "-h" => return Ok(None),
                name => match Table::named(name) {
                    Some(tables) => options.tables.extend(tables),
                    None => return Err(format!("unknown table or option {name:?}")),
                },
            }
        }
        if options.tables.is_empty() {
            options.tables.extend(Table::ALL);
        }
        Ok(Some(options))
    }
}

fn positive(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("0 is not enough".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

/// Runs of the simulated clocks.
const CLOCK_SEEDS: u64 = 20;
