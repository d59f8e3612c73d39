//! Connections on which nothing happens: what each of them costs the process that serves it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tungstenite::Message;

use crate::part::Part;
use crate::through_hub::binary;
use crate::websocket::bare::{connect, listen};
use crate::websocket::stream::{Security, Socket, other};

/// Plays the part here, if it is it.
pub(crate) fn play(part: &str, arguments: &[String]) -> Option<io::Result<()>> {
    match (part, arguments) {
        (HOLD_PART, [security]) => Some(hold(&Security::from_argument(security))),
        _ => None,
    }
}

/// A server, and how clients come to rest with it.
pub trait Holder {
    /// How the table calls it.
    fn name(&self) -> &'static str;

    /// The most that one connection may cost, in KiB, where there is a limit.
    fn at_most(&self) -> Option<f64> {
        None
    }

    /// Starts the server, a process of its own.
    ///
    /// # Errors
    /// It cannot be started.
    fn start(&self) -> io::Result<Part>;

    /// Connects the client `number`, and has it say all that a client says before it is idle.
    ///
    /// # Errors
    /// The server does not take it.
    fn join(&self, server: &Part, number: usize) -> io::Result<Socket>;
}

/// tungstenite with its own settings, blocking: to see what its buffers come to.
#[derive(Debug)]
pub struct BareHolder<'s> {
    program: PathBuf,
    security: &'s Security,
}

impl<'s> BareHolder<'s> {
    /// Starts its server from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security) -> Self {
        Self { program: program.into(), security }
    }
}

impl Holder for BareHolder<'_> {
    fn name(&self) -> &'static str {
        if self.security.is_tls() { "bare wss, its defaults" } else { "bare ws, its defaults" }
    }

    fn start(&self) -> io::Result<Part> {
        Part::start(&self.program, HOLD_PART, [self.security.to_argument()])
    }

    fn join(&self, server: &Part, _number: usize) -> io::Result<Socket> {
        let mut socket = connect(self.security, server.told())?;
        socket.send(Message::binary(binary(64))).map_err(other)?;
        socket.read().map_err(other)?;
        Ok(socket)
    }
}

/// Resident bytes that one more idle connection costs the server, over `count` of them.
///
/// # Errors
/// The server does not take them, or its memory cannot be read.
pub fn memory_of_one(holder: &dyn Holder, count: usize) -> io::Result<f64> {
    let server = holder.start()?;
    let join = |number| holder.join(&server, number);
    // What a server makes once and keeps is not the connections'.
    let mut sockets = (0..WARM_UP).map(join).collect::<io::Result<Vec<_>>>()?;
    let before = resident(&server)?;
    for number in WARM_UP..WARM_UP + count {
        sockets.push(join(number)?);
    }
    Ok(resident(&server)?.saturating_sub(before) as f64 / count as f64)
}

/// How much of one core the process takes while `meanwhile` goes on for `time`; 1 is all of it.
///
/// # Errors
/// What `meanwhile` says; the process has ended.
pub fn load(
    of: &Part,
    time: Duration,
    meanwhile: impl FnOnce(Duration) -> io::Result<()>,
) -> io::Result<f64> {
    let before = ticks(of)?;
    meanwhile(time)?;
    let ticks = (ticks(of)? - before) as f64;
    Ok(ticks / clock_ticks_per_second() as f64 / time.as_secs_f64())
}

/// Lets this process, and every child it starts from now on, have `count` descriptors.
///
/// # Errors
/// The system does not allow so many.
pub fn allow_descriptors(count: u64) -> io::Result<()> {
    let limits = getrlimit(Resource::Nofile);
    if limits.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    let maximum = limits.maximum.map(|maximum| maximum.max(count));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum })?)
}

/// Answers the first message of everybody with itself, and keeps the connection.
fn hold(security: &Security) -> io::Result<()> {
    let listener = listen()?;
    let mut sockets = Vec::new();
    loop {
        let mut socket = security.accept(&listener)?;
        let message = socket.read().map_err(other)?;
        socket.send(message).map_err(other)?;
        sockets.push(socket);
    }
}

/// Resident bytes of a process, counted page by page.
fn resident(of: &Part) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", of.id()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Processor time of a process, in clock ticks: utime and stime (proc_pid_stat(5)).
fn ticks(of: &Part) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/stat", of.id()))?;
    // The name before may have blanks and brackets in it.
    let behind = text.rsplit_once(')').map_or("", |(_, behind)| behind);
    let times = behind.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    times.sum::<Result<_, _>>().map_err(io::Error::other)
}

/// Connections before the counted ones.
const WARM_UP: usize = 50;
const HOLD_PART: &str = "--part=ws-hold";
