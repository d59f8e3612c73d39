//! Keeping a measurement on one core: waking an idle core costs several times what a bare round trip does.

use std::io;
use std::process::{self, Command, Stdio};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

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

/// Gives this process, and every child it starts from now on, the lowest real-time priority (`SCHED_RR`), so that other
/// work on the machine does not show in the figures.
///
/// Asks `chrt` of util-linux: the system call has no safe wrapper.
///
/// # Errors
/// The system does not allow it, or `chrt` is not there.
pub fn make_realtime() -> io::Result<()> {
    let mut chrt = Command::new("chrt");
    chrt.args(["--rr", "--pid", "1", &process::id().to_string()]).stdin(Stdio::null());
    let output = chrt.output().map_err(|error| io::Error::new(error.kind(), format!("chrt: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.lines().next().unwrap_or("chrt failed").to_owned()))
}
