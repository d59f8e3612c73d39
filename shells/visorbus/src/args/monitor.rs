//! `visorbus monitor` and `visorbus top`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Client, parse_time};

/// `visorbus monitor`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Monitor {
    #[command(subcommand)]
    pub(crate) action: Option<MonitorAction>,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MonitorAction {
    /// How all is: the health, what is to be worried about, the figures of the hub and the machine
    Show(MonitorShow),
    /// Figures with their values, and by how much they rise in a second
    Metrics(MonitorMetrics),
    /// How a figure went
    History(MonitorHistory),
    /// What is watched; --set watches one more, --remove one no longer
    Thresholds(MonitorThresholds),
    /// What is to be worried about, and what came and went of late
    Alerts(MonitorShow),
    /// How all is in one word, and why; the exit code is 1 unless it is ok
    Health(MonitorShow),
    /// Go on and print alerts and changes of the health, until Ctrl-C
    Watch(MonitorShow),
    /// All figures as OpenMetrics text, as Prometheus reads it
    Prometheus(MonitorShow),
}

#[derive(Debug, Args)]
pub(crate) struct MonitorShow {
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct MonitorMetrics {
    /// A figure, for example machine.cpu_percent or 'peer.bytes_in{peer="imu"}', or a beginning such as 'peer.*'; without, all
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) which: String,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct MonitorHistory {
    /// The figure, for example machine.cpu_percent or 'rate(hub.bytes_in)'
    pub(crate) metric: String,

    /// How far back
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    pub(crate) since: Duration,

    /// In at most so many points, up to 500
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) points: u32,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct MonitorThresholds {
    /// Watch one more, for example 'machine.cpu_percent > 90 for 10s, clear < 80: warning'; until the hub's configuration is
    /// read again, which has them as monitoring.thresholds
    #[arg(long, value_name = "THRESHOLD")]
    pub(crate) set: Vec<String>,

    /// Watch no longer what has this text, or watches this figure
    #[arg(long, value_name = "THRESHOLD")]
    pub(crate) remove: Vec<String>,

    #[command(flatten)]
    pub(crate) client: Client,
}

/// `visorbus top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Print it once as text and end; with --json all that it shows
    #[arg(long)]
    pub(crate) once: bool,

    /// From one look to the next, between 100ms and 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) client: Client,
}
