//! The program of a measurement: how it begins, what its options are read with, and how it ends.

use std::env;
use std::io;
use std::process::ExitCode;

/// Reads the options, measures, and says what came of it: 0 when all is well, 2 for options that are none, 1 when it failed
/// or, where `checks` says so, when figures are above their limits. `parse` gives `None` when help was asked for; `measure`
/// gives how many figures are above their limits.
pub fn run<Options>(
    name: &str,
    usage: &str,
    parse: impl FnOnce(&mut dyn Iterator<Item = String>) -> Result<Option<Options>, String>,
    measure: impl FnOnce(&Options) -> io::Result<usize>,
    checks: impl FnOnce(&Options) -> bool,
) -> ExitCode {
    let options = match parse(&mut env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{usage}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{name}: {error}; `{name} --help` lists what it takes");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(missed) if missed > 0 && checks(&options) => {
            eprintln!("{name}: {missed} of the figures above their limit, see the tables");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The names in a list with commas, each of which is among `known`.
///
/// # Errors
/// Which one is not.
pub fn names(text: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let check = |name: &str| {
        let is_known = known.contains(&name);
        if is_known { Ok(name.to_owned()) } else { Err(format!("unknown question {name:?}")) }
    };
    text.split(',').map(check).collect()
}

/// The numbers in a list with commas, none of which is 0.
///
/// # Errors
/// As [`number`].
pub fn numbers(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').map(number).collect()
}

/// A number that is not 0.
///
/// # Errors
/// What is wrong with it.
pub fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 is not enough".to_owned()),
        parsed => parsed.map_err(|_| format!("{text:?} is not a number")),
    }
}
