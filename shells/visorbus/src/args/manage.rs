//! What can be said to the hub's program over its bus.

use std::time::Duration;

use clap::Args;

use super::{Client, parse_time};

/// `visorbus status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Wait at most so long for a hub that is not there yet; one that is there has 5 s to answer
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) wait: Option<Duration>,

    #[command(flatten)]
    pub(crate) client: Client,
}

/// `visorbus reload` and `shutdown`.
#[derive(Debug, Args)]
pub(crate) struct Manage {
    #[command(flatten)]
    pub(crate) client: Client,
}

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  visorbus status
  visorbus status --wait 10s                     until a hub that has just been started is there
  visorbus status --json";

pub(super) const RELOAD_EXAMPLES: &str = "\
Examples:
  visorbus reload
  visorbus reload --json

What is wrong stays as it was, and the rest is taken over. Exit code 6: the configuration is wrong; 1: something else is.";

pub(super) const SHUTDOWN_EXAMPLES: &str = "\
Examples:
  visorbus shutdown
  visorbus shutdown --json

It lets what it does come to an end, says goodbye to its peers and leaves no socket behind. On this machine the command waits
until the process is gone.";
