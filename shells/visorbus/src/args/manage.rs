//! What can be said to the hub's program over its bus.

use clap::Args;

use super::Client;

/// `visorbus status`, `reload` and `shutdown`.
#[derive(Debug, Args)]
pub(crate) struct Manage {
    #[command(flatten)]
    pub(crate) client: Client,
}
