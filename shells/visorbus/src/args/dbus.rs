//! What can be said of D-Bus: on which bus the hub has a name, and what is asked of one there.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use visorbus_dbus::{BusAddress, DBusConfig};

/// Whether the hub has a name on a bus.
#[derive(Debug, Args)]
pub(crate) struct DBus {
    /// Serve the programs of a D-Bus too: session, system, or an address such as unix:path=/run/user/1000/bus
    /// [without a value: session]
    #[arg(long, value_name = "BUS", num_args = 0..=1, default_missing_value = "session", value_parser = parse_bus)]
    pub(crate) dbus: Option<String>,

    /// The hub's name on the bus [default: org.visorbus.Bus1]
    #[arg(long, value_name = "NAME")]
    pub(crate) dbus_name: Option<String>,

    /// The hub's object; those of its components are below it [default: /org/visorbus/Bus1]
    #[arg(long, value_name = "PATH")]
    pub(crate) dbus_path: Option<String>,
}

/// `visorbus dbus`.
#[derive(Debug, Args)]
pub(crate) struct DBusCommand {
    #[command(subcommand)]
    pub(crate) action: Option<DBusAction>,

    #[command(flatten)]
    pub(crate) place: DBusPlace,
}

/// A hub on a bus.
#[derive(Debug, Clone, Args)]
pub(crate) struct DBusPlace {
    /// The bus: session, system, or an address such as unix:path=/run/user/1000/bus
    #[arg(long, env = "VISORBUS_DBUS", value_name = "BUS", default_value = "session", global = true)]
    pub(crate) bus: BusAddress,

    /// The hub's name on the bus
    #[arg(long, value_name = "NAME", default_value_t = DBusConfig::default().service_name, global = true)]
    pub(crate) dbus_name: String,

    /// The hub's object; those of its components are below it
    #[arg(long, value_name = "PATH", default_value_t = DBusConfig::default().object_path, global = true)]
    pub(crate) dbus_path: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DBusAction {
    /// Show the bus, the hub's name on it, and the objects that the hub has there
    Show,
    /// Print a file that a distribution installs, or write all of them
    Files(DBusFiles),
}

#[derive(Debug, Args)]
pub(crate) struct DBusFiles {
    /// Write them below this directory, as they are installed below /usr
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) into: Option<PathBuf>,

    /// The user that the hub runs as on the system bus
    #[arg(long, value_name = "USER", default_value = "visorbus")]
    pub(crate) user: String,

    /// The group whose members may talk to the hub on the system bus
    #[arg(long, value_name = "GROUP", default_value = "visorbus")]
    pub(crate) group: String,

    /// The command that a bus starts the hub with
    #[arg(long, value_name = "COMMAND", default_value = "/usr/bin/visorbus")]
    pub(crate) command: String,
}

fn parse_bus(text: &str) -> Result<String, String> {
    text.parse::<BusAddress>().map(|_| text.to_owned())
}
