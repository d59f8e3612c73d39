//! `visorbus hardware`.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::{Client, parse_json, parse_time};
use crate::complete;

/// `visorbus hardware`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Hardware {
    #[command(subcommand)]
    pub(crate) action: Option<HardwareAction>,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HardwareAction {
    /// List the devices
    List(HardwareList),
    /// Show all that is known of a device
    Show(HardwareShow),
    /// Have a device do something, and print what it says
    Command(HardwareCommand),
    /// Print which devices come, go and change, until Ctrl-C
    Watch(HardwareWatch),
    /// Wait until a device is there
    Wait(HardwareWait),
}

#[derive(Debug, Args)]
pub(crate) struct HardwareList {
    /// Devices of this kind alone: board, power_supply, thermal, iio, hwmon, input or drm
    #[arg(value_name = "KIND")]
    pub(crate) kind: Option<String>,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct HardwareShow {
    /// The device, for example board/imu
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::devices))]
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct HardwareCommand {
    /// The device, for example board/imu
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::devices))]
    pub(crate) id: String,

    /// The command, for example set-rate
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// What the command takes; nothing for commands that take nothing
    #[arg(value_name = "JSON", value_parser = parse_json, allow_negative_numbers = true)]
    pub(crate) argument: Option<serde_json::Value>,

    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct HardwareWatch {
    /// End after so many
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct HardwareWait {
    /// The device, for example board/imu
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::devices))]
    pub(crate) id: String,

    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) client: Client,
}
