//! What can be said to the hub's program over its bus.

use clap::Args;

use super::Client;

/// `visorbus status`, `reload` and `shutdown`.
#[derive(Debug, Args)]
pub(crate) struct Manage {
    #[command(flatten)]
    pub(crate) client: Client,
}

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  visorbus status
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
