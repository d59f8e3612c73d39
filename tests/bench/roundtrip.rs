//! Measures round trips between processes and prints them beside the bare limits of the same machine and minute.

use std::env;
use std::io;
use std::process::ExitCode;

use visorbus_tests::bare::{self, OneHop, TwoHops};
use visorbus_tests::contest::{self, Contender, Plan, TABLE_HEAD};
use visorbus_tests::cpu::Cpu;
use visorbus_tests::program::{self, number, numbers};
use visorbus_tests::through_hub::{self, ToHandler, ToService};

const USAGE: &str = "\
Measures round trips between processes, all on one core, in turns, and prints a table.

Usage: roundtrip [OPTION...]
  --sizes N,N...    bytes of one message [64,1024,65536]
  --rounds N        turns of every contender [20]
  --trips N         measured round trips in one turn [500]
  --cpu N|last|any  the core to stay on; any: leave it to the system [last]
  --check           fail when a ratio is above its limit
  --help            this text";

fn main() -> ExitCode {
    if let Some(code) = bare::play_part().or_else(through_hub::play_part) {
        return code;
    }
    program::run("roundtrip", USAGE, Options::parse, measure, |options| options.check)
}

/// Everybody who takes part: the bare limits, and the hub held against them.
fn contenders() -> io::Result<Vec<Box<dyn Contender>>> {
    let program = env::current_exe()?;
    Ok(vec![
        Box::new(OneHop::new(&program)),
        Box::new(ToHandler::new(&program)),
        Box::new(TwoHops::new(&program)),
        Box::new(ToService::new(&program)),
        Box::new(ToService::sealed(&program)),
        Box::new(ToService::json(&program)),
        Box::new(ToService::compressed(&program)),
    ])
}

/// Prints the table; how many ratios are above their limit.
fn measure(options: &Options) -> io::Result<usize> {
    options.cpu.keep();
    let contenders = contenders()?;
    let contenders: Vec<&dyn Contender> = contenders.iter().map(AsRef::as_ref).collect();
    println!("{TABLE_HEAD}");
    let mut too_slow = 0;
    for &size in &options.sizes {
        for score in contest::run(&contenders, size, options.plan)? {
            println!("{score}");
            too_slow += usize::from(score.is_too_slow());
        }
    }
    Ok(too_slow)
}

struct Options {
    sizes: Vec<usize>,
    plan: Plan,
    cpu: Cpu,
    check: bool,
}

impl Options {
    /// `None` when help was asked for.
    fn parse(arguments: &mut dyn Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options =
            Self { sizes: vec![64, 1024, 65536], plan: Plan::default(), cpu: Cpu::Last, check: false };
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--sizes" => options.sizes = numbers(&value()?)?,
                "--rounds" => options.plan.rounds = number(&value()?)?,
                "--trips" => options.plan.trips = number(&value()?)?,
                "--cpu" => options.cpu = value()?.parse()?,
                "--check" => options.check = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {option:?}")),
            }
        }
        Ok(Some(options))
    }
}
