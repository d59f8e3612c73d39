//! Processes of a measurement: the program that measures starts itself again for each of them, with a hidden argument.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// A process of the measurement; killed and reaped on drop.
#[derive(Debug)]
pub struct Part {
    child: Child,
    told: String,
}

impl Part {
    /// Starts `program`, whose `main` plays the part that its first argument names, and waits until it says that it is
    /// ready, which [`ready`] does.
    ///
    /// # Errors
    /// It cannot be started, or ends before that; it has said why on the standard error.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        part: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        // Standard input ends with this process, and the part with it.
        command.arg(part).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut started = Self { child: command.spawn()?, told: String::new() };
        let mut line = String::new();
        if let Some(output) = started.child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let told = line.trim_end_matches('\n').strip_prefix(READY);
        started.told = told.ok_or_else(|| io::Error::other(format!("{part} did not get ready")))?.to_owned();
        Ok(started)
    }

    /// What it told when it was ready.
    pub fn told(&self) -> &str {
        &self.told
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Fails only when it has already been waited for, which nobody else does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that this part is ready, and `told` along with it.
pub fn ready(told: impl std::fmt::Display) {
    println!("{READY}{told}");
}

/// Lives as long as its parent.
///
/// # Errors
/// There is no standard input.
pub fn stay() -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}

/// What a part ends with that was played to its end.
pub fn curtain(part: &str, played: io::Result<()>) -> ExitCode {
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{part}: {error}");
            ExitCode::FAILURE
        }
    }
}

const READY: &str = "ready ";
