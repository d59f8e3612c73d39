//! What can be said of the configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::Client;
use crate::complete;

/// `visorbus config`.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Write the file to begin with: every option, what it is for, what holds without it
    Init(ConfigInit),
    /// Say what is wrong with the file, each with its line
    Check(ConfigFile),
    /// Show what is set, or with --effective all that holds, and whence
    Show(ConfigShow),
    /// Print the value of an option
    Get(ConfigOf),
    /// Have an option be something, and keep it
    Set(ConfigSet),
    /// Take the value of an option back, so that its default holds
    Reset(ConfigOf),
    /// List the options, what each may be and what it is for
    List(ConfigList),
    /// Print changes as they come, until Ctrl-C
    Watch(ConfigWatch),
}

/// Which file it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigFile {
    /// The file [env: VISORBUS_CONFIG=] [default: visorbus/visorbus.toml in the user's configuration directory, for root in
    /// /etc]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigInit {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    /// Print it instead
    #[arg(long)]
    pub(crate) print: bool,
}

/// Whose configuration it is: the running hub's, else the file's.
#[derive(Debug, Args)]
pub(crate) struct ConfigOfWhom {
    /// Use this file and ask no hub
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    /// Show all that holds, not only what somebody has set
    #[arg(long)]
    pub(crate) effective: bool,

    #[command(flatten)]
    pub(crate) whose: ConfigOfWhom,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigOf {
    /// The option, for example log.level
    #[arg(value_name = "CATEGORY.KEY", add = ArgValueCompleter::new(complete::config_keys))]
    pub(crate) key: String,

    #[command(flatten)]
    pub(crate) whose: ConfigOfWhom,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigSet {
    /// The option, for example log.level
    #[arg(value_name = "CATEGORY.KEY", add = ArgValueCompleter::new(complete::config_keys))]
    pub(crate) key: String,

    /// What it is to be: true, 0.5, a text, a list with commas between or as JSON
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,

    #[command(flatten)]
    pub(crate) whose: ConfigOfWhom,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigList {
    /// Only the options of this category
    pub(crate) category: Option<String>,

    #[command(flatten)]
    pub(crate) whose: ConfigOfWhom,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigWatch {
    /// Which options: log.level, log, or all
    pub(crate) which: Option<String>,

    /// End after so many changes
    #[arg(long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) client: Client,
}
