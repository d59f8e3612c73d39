//! What can be said on the command line.

mod accounts;
mod auth;
mod config;
mod dbus;
mod doctor;
mod hardware;
mod key;
mod manage;
mod monitor;
mod payload;
mod policy;
mod shell;
mod tls;
mod websocket;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use visorbus_core::message::{Address, Pattern};
use visorbus_mcu::{SerialSpec, SpiSpec};

use crate::complete;
use doctor::DOCTOR_EXAMPLES;
use manage::{RELOAD_EXAMPLES, SHUTDOWN_EXAMPLES, STATUS_EXAMPLES};
use shell::{COMPLETIONS_EXAMPLES, MANUAL_EXAMPLES};

pub(crate) use accounts::{Certificate, Listed, Named, ProgramKey, ProgramKeyAdd, User};
pub(crate) use auth::{Auth, Check, LogIn, Login, Mint, Refresh, Revoke, Token};
pub(crate) use config::{
    Config, ConfigFile, ConfigInit, ConfigList, ConfigOf, ConfigOfWhom, ConfigSet, ConfigShow, ConfigWatch,
};
pub(crate) use dbus::{DBus, DBusAction, DBusCommand, DBusFiles, DBusPlace};
pub(crate) use doctor::Doctor;
pub(crate) use hardware::{
    Hardware, HardwareAction, HardwareCommand, HardwareShow, HardwareWait, HardwareWatch,
};
pub(crate) use key::{Key, Provision, Rotate};
pub(crate) use manage::{Manage, Status};
pub(crate) use monitor::{
    Monitor, MonitorAction, MonitorHistory, MonitorMetrics, MonitorShow, MonitorThresholds, Top,
};
pub(crate) use payload::{Compression, Sealing};
pub(crate) use policy::{Explain, Moment, Policy, PolicyCheck, PolicyPlace};
pub(crate) use shell::{Completions, Manual, Shell};
pub(crate) use tls::{Tls, TlsClient, TlsInit, TlsPlace};
pub(crate) use websocket::{Reach, WebSocket};

/// The message plane of a headset: run its hub, call its boards, watch what they say.
#[derive(Debug, Parser)]
#[command(name = "visorbus", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print JSON for machines instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Say more of what happens, on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a hub until Ctrl-C
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Show how the hub's program is: what serves where, and what its configuration asks for that is not so
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Have the hub read its configuration, accounts, keys, policy and certificates again
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload(Manage),
    /// End the hub
    #[command(after_help = SHUTDOWN_EXAMPLES)]
    Shutdown(Manage),
    /// The options of the hub: the file, what holds, what may be; read and changed
    #[command(subcommand, after_help = CONFIG_EXAMPLES)]
    Config(Config),
    /// Call an address and print the answer
    #[command(after_help = CALL_EXAMPLES)]
    Call(Call),
    /// Publish one notification
    Publish(Publish),
    /// Print what is published, one JSON line a message, until Ctrl-C
    Subscribe(Subscribe),
    /// List who can be called and what they offer
    Services(Services),
    /// List the hub's connections: what went over them, and how far the clocks of boards are off
    Peers(Peers),
    /// How the hub, its peers and this machine are doing: figures, thresholds, alerts, the health
    #[command(after_help = MONITOR_EXAMPLES)]
    Monitor(Monitor),
    /// Watch the hub live: its peers, what goes to which address, queues, latencies, alerts
    #[command(after_help = TOP_EXAMPLES)]
    Top(Top),
    /// The boards and the machine's devices: what is known of them, what they can be told to do
    #[command(after_help = HARDWARE_EXAMPLES)]
    Hardware(Hardware),
    /// Who may come in, and what they may do: accounts, tokens, the policy
    #[command(subcommand)]
    Auth(Auth),
    /// The keys of links, of boards and of the hub
    #[command(subcommand)]
    Key(Key),
    /// Certificates for the hub and its clients, by an authority of your own
    #[command(subcommand)]
    Tls(Tls),
    /// The hub on a D-Bus: the bus, its name there and its objects; the files that belong to it
    #[command(name = "dbus", after_help = DBUS_EXAMPLES)]
    DBus(DBusCommand),
    /// Show the whole system at work: a hub, two boards, clients, a crash
    Demo(Demo),
    /// Look for what is in the hub's way on this machine, and say how to mend it
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// Print what has a shell complete the words of this command
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Write the manual pages
    #[command(name = "man", after_help = MANUAL_EXAMPLES)]
    Manual(Manual),
    /// Be a board of the demonstration, on a pseudo-terminal whose name is printed, until Ctrl-C
    #[command(after_help = DEMO_NODE_EXAMPLES)]
    DemoNode(DemoNode),
}

/// Where the hub's socket and keys are. Its accounts lie beside its keys.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The hub's socket [default: visorbus/bus.sock in the runtime directory]
    #[arg(long, env = "VISORBUS_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The hub's root keys [default: visorbus/root.key in the state directory]
    #[arg(long, env = "VISORBUS_KEY_FILE", value_name = "PATH")]
    pub(crate) key_file: Option<PathBuf>,
}

/// How a client reaches the hub.
#[derive(Debug, Clone, Args)]
pub(crate) struct Client {
    #[command(flatten)]
    pub(crate) place: Place,

    #[command(flatten)]
    pub(crate) reach: Reach,

    /// The token to use; without it, the hub's own key file makes one that may do everything
    #[arg(long, env = "VISORBUS_TOKEN", value_name = "vb1.…", hide_env_values = true)]
    pub(crate) token: Option<String>,

    #[command(flatten)]
    pub(crate) login: Login,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration, a TOML file [env: VISORBUS_CONFIG=] [default: visorbus/visorbus.toml in the user's configuration
    /// directory, for root in /etc, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// A setting that holds whatever the file says, for example log.level=debug; may be repeated
    #[arg(long, value_name = "CATEGORY.KEY=VALUE")]
    pub(crate) set: Vec<String>,

    #[command(flatten)]
    pub(crate) place: PolicyPlace,

    /// Let the members of this group connect too: its name or number. Who of them may do what is the policy's
    #[arg(long, value_name = "GROUP", value_parser = visorbus::settings::group)]
    pub(crate) socket_group: Option<u32>,

    /// A board on a serial line: PATH or PATH@BAUD, then, for a board without a link key, unkeyed=NAME or
    /// unauthenticated=NAME; may be given more than once
    #[arg(long, value_name = "SPEC")]
    pub(crate) serial: Vec<SerialSpec>,

    /// A board on an SPI bus: PATH@HZ,ready=CHIP:LINE, then mode=0..3, turnaround=MICROSECONDS, unkeyed=NAME,
    /// unauthenticated=NAME as wanted; may be given more than once
    #[arg(long, value_name = "SPEC")]
    pub(crate) spi: Vec<SpiSpec>,

    #[command(flatten)]
    pub(crate) websocket: WebSocket,

    #[command(flatten)]
    pub(crate) dbus: DBus,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The address, for example imu/info
    #[arg(value_parser = parse_address, add = ArgValueCompleter::new(complete::endpoints))]
    pub(crate) address: String,

    /// The request as JSON; nothing for addresses that take nothing
    #[arg(value_name = "JSON", value_parser = parse_json, allow_negative_numbers = true)]
    pub(crate) request: Option<serde_json::Value>,

    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) compression: Compression,

    #[command(flatten)]
    pub(crate) sealing: Sealing,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic, for example room/light
    #[arg(value_parser = parse_address, add = ArgValueCompleter::new(complete::heard_topics))]
    pub(crate) topic: String,

    /// The notification as JSON
    #[arg(value_name = "JSON", value_parser = parse_json, allow_negative_numbers = true)]
    pub(crate) message: Option<serde_json::Value>,

    #[command(flatten)]
    pub(crate) compression: Compression,

    #[command(flatten)]
    pub(crate) sealing: Sealing,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The pattern: * is one segment, ** the rest, for example 'imu/**'
    #[arg(value_parser = parse_pattern, add = ArgValueCompleter::new(complete::patterns))]
    pub(crate) pattern: String,

    /// End after so many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) sealing: Sealing,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Services {
    /// Go on and print who comes and goes, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Which boards: emulated in QEMU, the same nodes as processes of this machine, or the first of these that works
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) board: Board,

    /// Show who may do what instead: a line with a key, users, a policy, sealed payloads, a token taken back
    #[arg(long, conflicts_with_all = ["board", "stay", "stream"])]
    pub(crate) secure: bool,

    /// Stay when all is shown, for the dashboard, until Ctrl-C; at a terminal it does so by itself
    #[arg(long)]
    pub(crate) stay: bool,

    /// For how long samples are streamed
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_time)]
    pub(crate) stream: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DemoNode {
    /// Which one: a motion sensor, or a controller with buttons and haptics
    #[arg(value_enum, default_value = "imu")]
    pub(crate) node: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Node {
    Imu,
    Controller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Board {
    Auto,
    Qemu,
    Pty,
}

/// A time such as 250ms, 5s, 10m, 1h or 30d.
fn parse_time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || format!("'{text}' is not a time: use a number and ms, s, m, h or d, for example 5s");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

fn parse_address(text: &str) -> Result<String, String> {
    Address::new(text).map_err(|e| format!("{e}, for example imu/info"))?;
    Ok(text.to_owned())
}

fn parse_pattern(text: &str) -> Result<String, String> {
    Pattern::new(text).map_err(|e| format!("{e}, for example 'imu/**'"))?;
    Ok(text.to_owned())
}

fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|e| format!("no JSON: {e}; a text needs its quotes: '\"text\"'"))
}

const EXAMPLES: &str = "\
Examples:
  visorbus demo                                  the whole system at work, on this machine
  visorbus demo --secure                         who may do what, and what becomes of those who may not
  visorbus serve --serial /dev/ttyACM0@115200    a hub with a board on a serial line
  visorbus status                                what the hub serves, and where
  visorbus services                              who is there, what they offer
  visorbus call imu/info                         ask a board
  visorbus subscribe 'imu/**'                    watch what it says

Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 no hub there or the component went away, 4 not allowed,
5 no answer in time, 6 the configuration is wrong, 130 the demonstration was interrupted.";

const SERVE_EXAMPLES: &str = "\
Examples:
  visorbus serve
  visorbus serve --serial /dev/ttyACM0@921600
  visorbus serve --serial /dev/ttyUSB0@115200,unauthenticated=imu   a board without a key: for development
  visorbus serve --spi /dev/spidev0.0@8000000,ready=/dev/gpiochip0:17
  visorbus serve --dashboard                                        a page for browsers on this machine
  visorbus serve --websocket 0.0.0.0:7400 --tls --dashboard         the same for others, after `visorbus tls init`
  visorbus serve --set log.level=info --set monitoring.interval_ms=500
  visorbus serve --dbus                                             for desktop programs, on the session bus

What is said here holds whatever the configuration says, and variables such as VISORBUS_LOG_LEVEL=info hold above its file
too. A board proves itself with the key of its link: `visorbus key provision NAME` makes it. SIGHUP, or `visorbus reload`,
has configuration, accounts, keys, policy and certificates read again; an error in one of them leaves it as it was.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  visorbus config init                           the file to begin with, every option explained in it
  visorbus config check                          what is wrong with it, each with its line
  visorbus config list log                       what there is to set, what it may be, what it is for
  visorbus config set log.level debug            through the running hub, else in the file
  visorbus config show                           what is set, and where
  visorbus config reset log.level

Above the file stand variables such as VISORBUS_LOG_LEVEL=debug, and above those what `visorbus serve` is started with.";

const CALL_EXAMPLES: &str = "\
Examples:
  visorbus call imu/info
  visorbus call imu/set-rate 50
  visorbus call bus/services --json";

const MONITOR_EXAMPLES: &str = "\
Examples:
  visorbus monitor                               the health, what is to be worried about, the figures
  visorbus monitor metrics 'peer.*'              of each peer
  visorbus monitor history machine.cpu_percent --since 5m
  visorbus monitor thresholds --set 'machine.cpu_percent > 90 for 10s, clear < 80: warning'
  visorbus monitor health                        ends with 1 unless all is well

A threshold is FIGURE > NUMBER [for TIME][, clear < NUMBER [for TIME]][: info|warning|critical], with >, >=, < or <=;
rate(FIGURE) is by how much a counter rises in a second.";

const TOP_EXAMPLES: &str = "\
Examples:
  visorbus top --once                            the same once, as text

Keys: q ends it, p or space halts it, tab goes to the other table, s and S sort by the next and the previous column, r turns
the order round, the arrows and page keys scroll.";

const HARDWARE_EXAMPLES: &str = "\
Examples:
  visorbus hardware                              the boards, and what the kernel knows of this machine
  visorbus hardware list board
  visorbus hardware show board/imu               its firmware, its link, its commands
  visorbus hardware command board/imu set-rate 50
  visorbus hardware wait board/imu               until it is there, for 30 s at most
  visorbus hardware watch                        what comes, goes and changes

A command goes to the board's own address: whoever may not call imu/set-rate may not give set-rate to board/imu either.";

const DEMO_NODE_EXAMPLES: &str = "\
It is the program of the real board; its line is named to `visorbus serve --serial`. The key of its link, as `visorbus key
provision NAME` prints it, is read from VISORBUS_LINK_KEY; a board without one needs `,unauthenticated=NAME` there.";

const DBUS_EXAMPLES: &str = "\
Examples:
  visorbus dbus                                  the hub on the session bus: its name, its objects, their members
  visorbus dbus --bus system
  visorbus dbus files --into /usr                install bus policy and activation files

Who a desktop program is taken for is said by `visorbus auth policy` ([[unix]]), as of processes on the hub's socket.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_a_number_and_a_unit() {
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_time("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "5", "s", "5 s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
