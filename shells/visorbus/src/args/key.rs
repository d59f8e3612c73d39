//! What can be said of the keys of links, of boards and of the hub itself.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use visorbus_core::secure::Suite;

use super::accounts::Listed;
use super::auth::parse_lifetime;
use super::{Named, Place};

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key for the link to a board: the hub keeps its half, the board's half is printed, this once
    #[command(after_help = PROVISION_EXAMPLES)]
    Provision(Provision),
    /// List root keys and link keys, without their secrets
    List(Listed),
    /// Remove a link key: its board is a stranger from then on
    Remove(RemoveLinkKey),
    /// Make a key that two components share, for payloads that nobody between them can read
    #[command(after_help = PAYLOAD_EXAMPLES)]
    Payload,
    /// Print the key with which a board checks and makes tokens, in hexadecimal, to flash into it
    Device(Named),
    /// Make a new root key for tokens; the ones so far go on checking for a while
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(Rotate),
    /// Remove a root key that was rotated out: whatever was made with it is void
    Retire(Retire),
}

#[derive(Debug, Args)]
pub(crate) struct Provision {
    /// The board's name, for example imu
    pub(crate) name: String,

    /// How the link is protected: tag64 lets nobody change, repeat or make up a frame; sealed hides it too
    #[arg(long, value_enum, default_value = "tag64")]
    pub(crate) suite: SuiteName,

    /// Tells the keys of one board apart [default: the next that is free]
    #[arg(long, value_name = "N")]
    pub(crate) id: Option<u8>,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SuiteName {
    /// A tag of 8 bytes on every frame (SipHash-2-4)
    Tag64,
    /// Every frame encrypted, with a tag of 16 bytes (ChaCha20-Poly1305)
    Sealed,
}

impl From<SuiteName> for Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::Tag64 => Self::Tag64,
            SuiteName::Sealed => Self::Sealed,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RemoveLinkKey {
    /// The board's name
    pub(crate) name: String,

    /// The key's id
    pub(crate) id: u8,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// For how long the root keys so far go on checking: boards get a key of the new one within this time
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_lifetime)]
    pub(crate) keep: Duration,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// The root key's id
    pub(crate) id: u8,

    #[command(flatten)]
    pub(crate) place: Place,
}

const PROVISION_EXAMPLES: &str = "\
Examples:
  visorbus key provision imu > imu.key
  visorbus key provision imu --suite sealed --id 7
  visorbus key list
  visorbus key remove imu 7

The board's half is built into its firmware. To replace a key, provision the next one, flash it, and remove the old one:
until then both are good.";

const ROTATE_EXAMPLES: &str = "\
Examples:
  visorbus key rotate --keep 30d
  visorbus key device imu
  visorbus key retire 0";

const PAYLOAD_EXAMPLES: &str = "\
Examples:
  visorbus key payload > vault.key

Give it to both, in a file of mode 0600: `visorbus call vault/open --payload-key vault.key`, and `share_key` in a program.";
