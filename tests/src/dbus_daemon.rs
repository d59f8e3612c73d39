//! A bus of a test's own: a dbus-daemon or a dbus-broker that this process starts, with a socket and a configuration in a
//! directory of its own. It never touches a bus that is there already.

mod broker;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dbus::channel::Channel;
use tempfile::TempDir;

/// A private bus. Everybody of this user may own and send everything on it, unless [`BusOptions`] says otherwise. Killed and
/// reaped on drop.
#[derive(Debug)]
pub struct DbusDaemon {
    /// `None` while it is killed.
    running: Option<Child>,
    program: BusProgram,
    /// What a dbus-broker lives as long as.
    controller: Option<UnixStream>,
    address: String,
    home: TempDir,
}

impl DbusDaemon {
    /// A dbus-daemon with the limits of a session bus.
    ///
    /// # Panics
    /// There is no dbus-daemon, or it does not start; the text says why.
    pub fn start() -> Self {
        Self::with(&BusOptions::default())
    }

    /// A dbus-daemon as `options` say.
    ///
    /// # Panics
    /// As [`DbusDaemon::start`].
    pub fn with(options: &BusOptions) -> Self {
        Self::of(BusProgram::Daemon, options)
    }

    /// A dbus-broker, where there is one; else it says on the standard error that there is none.
    ///
    /// # Panics
    /// It does not start; the text says why.
    pub fn broker() -> Option<Self> {
        if broker::is_installed() {
            return Some(Self::of(BusProgram::Broker, &BusOptions::default()));
        }
        eprintln!("left out: there is no dbus-broker (package dbus-broker, or tests/run --only tools)");
        None
    }

    fn of(program: BusProgram, options: &BusOptions) -> Self {
        let home = TempDir::with_prefix("bus-").expect("a directory for the bus");
        let address = format!("unix:path={}", home.path().join(SOCKET).display());
        fs::write(home.path().join(CONFIGURATION), options.configuration(&address))
            .expect("its configuration");
        let mut bus = Self { running: None, program, controller: None, address, home };
        bus.restart();
        bus
    }

    /// Which program it is.
    pub const fn program(&self) -> BusProgram {
        self.program
    }

    /// Where it listens: the same before and after a restart.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join(SOCKET)
    }

    /// The directory that it lives in, for what a test puts beside it.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process id; `None` while it is killed.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    /// What it has said on its standard error, ever.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join(LOG)).unwrap_or_default()
    }

    /// Ends it at once, as a crash would: every connection is gone, and nobody can connect.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            // Fails only when it has already been waited for, which nobody else does.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.controller = None;
    }

    /// Starts it again at the same address, killed before or not.
    ///
    /// # Panics
    /// As [`DbusDaemon::start`].
    pub fn restart(&mut self) {
        self.kill();
        let started = match self.program {
            BusProgram::Daemon => start_daemon(self.home.path()).map(|child| (child, None)),
            BusProgram::Broker => start_broker(self.home.path()),
        };
        let (child, controller) = started.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        self.running = Some(child);
        self.controller = controller;
    }

    /// A connection that has said hello. It is for the thread that has it, which may wait for answers.
    ///
    /// # Panics
    /// The bus does not take it.
    pub fn connect(&self) -> Channel {
        let mut channel = Channel::open_private(&self.address).expect("a connection to the private bus");
        channel.register().expect("a name on the private bus");
        channel
    }

    /// A command that finds this bus as its session bus, and no other.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.address).env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        command.env_remove("DBUS_STARTER_ADDRESS").env_remove("DBUS_STARTER_BUS_TYPE");
        command
    }

    /// What the bus itself answers to a call of its interface `org.freedesktop.DBus`, asked on a connection of its own.
    ///
    /// # Panics
    /// It is not there, or does not answer within ten seconds.
    pub fn owner(&self, name: &str) -> Option<String> {
        let call = dbus::Message::call_with_args(BUS, "/org/freedesktop/DBus", BUS, "GetNameOwner", (name,));
        match self.connect().send_with_reply_and_block(call, PATIENCE) {
            Ok(owner) => Some(owner.read1().expect("the name of an owner")),
            Err(error) => {
                assert_eq!(error.name(), Some("org.freedesktop.DBus.Error.NameHasNoOwner"), "{error}");
                None
            }
        }
    }
}

impl Drop for DbusDaemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Which program a bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusProgram {
    /// dbus-daemon, the reference implementation.
    Daemon,
    /// dbus-broker, what most distributions start today.
    Broker,
}

/// What a private bus allows.
#[derive(Debug, Clone, Default)]
pub struct BusOptions {
    /// Limits by the names that dbus-daemon(1) lists, such as `max_replies_per_connection`; they come after those of a
    /// session bus and win.
    pub limits: Vec<(&'static str, u64)>,
    /// What stands in the configuration after "everybody may do everything", and so wins: elements `<policy …>`,
    /// `<servicedir>…` and so on.
    pub rules: String,
}

impl BusOptions {
    fn configuration(&self, address: &str) -> String {
        let mut text = String::from(HEAD);
        // Writing to a string never fails.
        let _ = writeln!(
            text,
            "<busconfig>\n<type>session</type>\n<listen>{address}</listen>\n<auth>EXTERNAL</auth>"
        );
        text.push_str(EVERYBODY);
        text.push_str(&self.rules);
        for (name, limit) in SESSION_LIMITS.iter().chain(&self.limits) {
            let _ = writeln!(text, "<limit name=\"{name}\">{limit}</limit>");
        }
        text.push_str("</busconfig>\n");
        text
    }
}

/// Starts a dbus-daemon with the configuration in `home`, and waits until it listens.
fn start_daemon(home: &Path) -> io::Result<Child> {
    let mut command = Command::new("dbus-daemon");
    command.arg(format!("--config-file={}", home.join(CONFIGURATION).display()));
    command.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address=1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log(home)?);
    let mut child = command.spawn().map_err(|error| missing("dbus-daemon", "dbus-daemon or dbus", &error))?;
    // It says its address when it listens, and closes its output when it cannot.
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line.is_empty() {
        let ended = child.wait()?;
        return Err(io::Error::other(format!("dbus-daemon did not start ({ended}); it said:")));
    }
    Ok(child)
}

/// Starts a dbus-broker that listens in `home`.
fn start_broker(home: &Path) -> io::Result<(Child, Option<UnixStream>)> {
    let (child, controller) = broker::start(&home.join(SOCKET), log(home)?)?;
    Ok((child, Some(controller)))
}

/// Where the bus in `home` writes what it says.
fn log(home: &Path) -> io::Result<Stdio> {
    File::options().create(true).append(true).open(home.join(LOG)).map(Stdio::from)
}

/// Says how to get a program that cannot be started.
fn missing(program: &str, package: &str, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "{program} cannot be started ({error}): install the package {package}, or run tests/run --only tools"
        ),
    )
}

const BUS: &str = "org.freedesktop.DBus";
const CONFIGURATION: &str = "bus.conf";
const LOG: &str = "log";
const PATIENCE: Duration = Duration::from_secs(60);
const SOCKET: &str = "socket";

const HEAD: &str = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
    \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n";

const EVERYBODY: &str = "<policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
    <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/></policy>\n";

/// As the session.conf that comes with dbus-daemon: a session's user is limited by nothing but the machine.
const SESSION_LIMITS: [(&str, u64); 11] = [
    ("max_incoming_bytes", 1_000_000_000),
    ("max_incoming_unix_fds", 250_000_000),
    ("max_outgoing_bytes", 1_000_000_000),
    ("max_outgoing_unix_fds", 250_000_000),
    ("max_message_size", 1_000_000_000),
    ("max_completed_connections", 100_000),
    ("max_incomplete_connections", 10_000),
    ("max_connections_per_user", 100_000),
    ("max_names_per_connection", 50_000),
    ("max_match_rules_per_connection", 50_000),
    ("max_replies_per_connection", 50_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_bus_is_the_same_after_a_restart_and_gone_after_a_kill() {
        restarts(DbusDaemon::start());
    }

    #[test]
    fn a_private_broker_is_the_same_after_a_restart_and_gone_after_a_kill() {
        if let Some(bus) = DbusDaemon::broker() {
            restarts(bus);
        }
    }

    fn restarts(mut bus: DbusDaemon) {
        let before = bus.id();
        let first = bus.connect();
        assert_eq!(bus.owner(first.unique_name().unwrap()), first.unique_name().map(str::to_owned));

        bus.kill();
        assert_eq!(bus.id(), None);
        assert!(Channel::open_private(bus.address()).is_err());

        bus.restart();
        assert_ne!(bus.id(), before);
        assert_eq!(bus.owner("org.example.Nobody"), None);
    }

    #[test]
    fn limits_and_rules_are_those_of_the_bus() {
        let bus = DbusDaemon::with(&BusOptions {
            limits: vec![("max_match_rules_per_connection", 1)],
            rules: "<policy context=\"default\"><deny own=\"org.example.Denied\"/></policy>".to_owned(),
        });
        let channel = bus.connect();
        let ask = |member, arguments: &str| {
            let call = dbus::Message::call_with_args(BUS, "/org/freedesktop/DBus", BUS, member, (arguments,));
            let answer = channel.send_with_reply_and_block(call, PATIENCE);
            answer.err().and_then(|error| error.name().map(str::to_owned))
        };
        assert_eq!(ask("AddMatch", "type='signal'"), None);
        assert_eq!(
            ask("AddMatch", "type='error'").as_deref(),
            Some("org.freedesktop.DBus.Error.LimitsExceeded")
        );
        let call = dbus::Message::call_with_args(
            BUS,
            "/org/freedesktop/DBus",
            BUS,
            "RequestName",
            ("org.example.Denied", 0_u32),
        );
        let refusal = channel.send_with_reply_and_block(call, PATIENCE).unwrap_err();
        assert_eq!(refusal.name(), Some("org.freedesktop.DBus.Error.AccessDenied"));
    }

    #[test]
    fn a_configuration_that_is_none_says_what_is_wrong_with_it() {
        let wrong = BusOptions { rules: "<nothing/>".to_owned(), ..BusOptions::default() };
        let told = std::panic::catch_unwind(|| DbusDaemon::with(&wrong)).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(told.contains("did not start") && told.contains("nothing"), "{told}");
    }
}
