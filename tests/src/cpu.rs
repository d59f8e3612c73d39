//! Keeping a measurement on one core: waking an idle core costs several times what a bare round trip does.

use std::io;
use std::process::{self, Command, Stdio};
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Where a measurement runs, as its user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// Where the system likes.
    Any,
    /// All of it on the last core that it may use.
    Last,
    /// All of it on this core.
    Number(usize),
}

impl FromStr for Cpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            "last" => Ok(Self::Last),
            text => text.parse().map(Self::Number).map_err(|_| format!("{text:?} is not a number")),
        }
    }
}

impl Cpu {
    /// Keeps this process, and every child it starts from now on, there, above other work, and says what came of it.
    pub fn keep(self) {
        let cpu = match self {
            Self::Any => return println!("On any core, so the figures include waking idle cores."),
            Self::Last => None,
            Self::Number(number) => Some(number),
        };
        match pin(cpu) {
            Ok(number) => println!("All processes on core {number}."),
            Err(error) => println!("Not on one core ({error}): the figures include waking idle cores."),
        }
        rise();
    }
}

/// As [`make_realtime`]; says so where that cannot be.
pub fn rise() {
    if let Err(error) = make_realtime() {
        println!("Without real-time priority ({error}): other work on the machine shows in the figures.");
    }
}

/// Binds this process, and every child it starts from now on, to the core `cpu`, or to the last one that it may use.
/// Returns which one.
///
/// # Errors
/// There is no such core, or the system does not allow it.
pub fn pin(cpu: Option<usize>) -> io::Result<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let last = (0..CpuSet::count()).rfind(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let cpu = cpu.or(last).ok_or(io::ErrorKind::NotFound)?;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(this, &set)?;
    Ok(cpu)
}

/// The last and the first core that this process may use, where they are two.
///
/// # Errors
/// The system does not tell.
pub fn two() -> io::Result<Option<(usize, usize)>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    Ok(cores.next().and_then(|first| Some((cores.next_back()?, first))))
}

/// Gives this process, and every child it starts from now on, the lowest real-time priority (`SCHED_RR`), so that other
/// work on the machine does not show in the figures.
///
/// Asks `chrt` of util-linux: the system call has no safe wrapper.
///
/// # Errors
/// The system does not allow it, or `chrt` is not there.
pub fn make_realtime() -> io::Result<()> {
    make_realtime_at(1)
}

/// As [`make_realtime`], with a priority from 1 to 99.
///
/// # Errors
/// As [`make_realtime`].
pub fn make_realtime_at(priority: u8) -> io::Result<()> {
    chrt(&["--rr", "--pid", &priority.to_string()])
}

/// Has this process, and every child it starts from now on, run only where nothing else would (`SCHED_IDLE`), whatever
/// whoever started it is.
///
/// # Errors
/// As [`make_realtime`].
pub fn make_idle() -> io::Result<()> {
    chrt(&["--idle", "--pid", "0"])
}

fn chrt(arguments: &[&str]) -> io::Result<()> {
    let mut chrt = Command::new("chrt");
    chrt.args(arguments).arg(process::id().to_string()).stdin(Stdio::null());
    let output = chrt.output().map_err(|error| io::Error::new(error.kind(), format!("chrt: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.lines().next().unwrap_or("chrt failed").to_owned()))
}
