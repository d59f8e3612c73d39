//! How long a hub takes from its start until it answers, and the memory it then holds, beside the smallest server that
//! there can be: one that listens on a socket and sends back what it gets.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use visorbus_unix::UnixSocketClient;

use crate::part::curtain;
use crate::stats::RoundTrips;

/// A server that can be started and asked whether it answers.
pub struct Contender {
    /// What it is called in the table.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments. Its socket is the one that the environment names.
    pub arguments: Vec<String>,
    /// Further variables of its environment, such as the address of a bus.
    pub environment: Vec<(String, String)>,
    /// Whether it is a hub; else it sends back what it gets.
    pub is_hub: bool,
}

/// What the starts of one contender came to.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// From the start of the process until it had answered.
    pub answers: RoundTrips,
    /// What is resident when nobody asks for anything, in KiB, and how much of that is its own, not a file's.
    pub resident: Memory,
}

/// What a process holds in memory, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that is resident: `VmRSS` of proc(5).
    pub all: u64,
    /// What no file is behind: `RssAnon`.
    pub own: u64,
}

impl Contender {
    /// The smallest server: `program` is this one, whose `main` calls [`play_part`].
    pub fn bare(program: &Path) -> Self {
        Self {
            name: "bare process".to_owned(),
            program: program.to_owned(),
            arguments: vec![BARE.to_owned()],
            environment: Vec::new(),
            is_hub: false,
        }
    }

    /// The `visorbus` at `program` as a hub.
    pub fn hub(name: &str, program: &Path, options: &[&str]) -> Self {
        let arguments = ["serve"].iter().chain(options).map(|&option| option.to_owned()).collect();
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            environment: Vec::new(),
            is_hub: true,
        }
    }

    /// Starts it `rounds` times, one after the other in the same home, the first time not counted, and lets the last one
    /// idle before its memory is read.
    ///
    /// # Errors
    /// It cannot be started, ends, or does not answer within ten seconds.
    pub fn measure(&self, rounds: usize, idle: Duration) -> io::Result<Start> {
        let home = tempfile::tempdir()?;
        // The first start makes keys and accounts, and reads the program from the disk.
        self.start(&home)?;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            times.push(self.start(&home)?.answered);
        }
        let last = self.start(&home)?;
        thread::sleep(idle);
        let resident = Memory::of(last.child.id())?;
        let answers = RoundTrips::from_samples(&mut times).ok_or_else(|| io::Error::other("0 rounds"))?;
        Ok(Start { answers, resident })
    }

    fn start(&self, home: &TempDir) -> io::Result<Started> {
        let socket = home.path().join("bus.sock");
        let log = fs::File::create(home.path().join("log"))?;
        let started = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("VISORBUS_SOCKET", &socket);
        command.env("VISORBUS_KEY_FILE", home.path().join("root.key")).env("XDG_CONFIG_HOME", home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut running = Started { child, answered: Duration::ZERO, socket };
        while !self.answers(&running.socket) {
            if started.elapsed() > LONGEST || running.child.try_wait()?.is_some() {
                let log = fs::read_to_string(home.path().join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("{} does not answer; it says: {log}", self.name)));
            }
            thread::sleep(BETWEEN_TRIES);
        }
        running.answered = started.elapsed();
        Ok(running)
    }

    /// Whether it lets somebody in: a hub answers his hello, the bare server sends back his byte.
    fn answers(&self, socket: &Path) -> bool {
        if !self.is_hub {
            return UnixStream::connect(socket).is_ok_and(|mut stream| echoes(&mut stream).is_ok());
        }
        // A socket that is not there yet would be tried again by the client only later.
        socket.exists()
            && UnixSocketClient::new(socket, "starter").is_ok_and(|client| client.connect().is_ok())
    }
}

impl Memory {
    fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.ok_or_else(|| io::Error::other(format!("the kernel does not tell {name}")))
        };
        Ok(Self { all: value("VmRSS:")?, own: value("RssAnon:")? })
    }
}

/// One row of the table below [`TABLE_HEAD`].
pub fn row(contender: &Contender, start: &Start) -> String {
    let Start { answers, resident } = start;
    format!(
        "{:<34} {:>9} {:>9} {:>9} {:>9.1} {:>9.1}",
        contender.name,
        Millis(answers.p50),
        Millis(answers.p90),
        Millis(answers.max),
        resident.all as f64 / 1024.0,
        resident.own as f64 / 1024.0
    )
}

/// The columns of [`row`].
pub const TABLE_HEAD: &str =
    "server                                p50 ms    p90 ms    max ms   RSS MiB   own MiB";

/// Plays the bare server where the first argument asks for it.
pub fn play_part() -> Option<ExitCode> {
    (std::env::args().nth(1)? == BARE).then(|| curtain(BARE, serve()))
}

/// Listens on the socket that the environment names and sends back what it gets.
fn serve() -> io::Result<()> {
    let socket = std::env::var_os("VISORBUS_SOCKET").ok_or_else(|| io::Error::other("no socket is named"))?;
    for stream in UnixListener::bind(socket)?.incoming() {
        let mut stream = stream?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
    }
    Ok(())
}

fn echoes(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])
}

/// A running server; killed, reaped and swept up after on drop.
struct Started {
    child: Child,
    answered: Duration,
    socket: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        // Fails only for what has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2}", self.0.as_secs_f64() * 1e3))
    }
}

const BARE: &str = "--part-bare-server";
const LONGEST: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_micros(100);
