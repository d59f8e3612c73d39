//! What can be said to the doctor.

use std::path::PathBuf;

use clap::Args;

use super::Place;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at the service of the whole machine, as its package installs it, instead of your own hub
    #[arg(long)]
    pub(crate) system: bool,

    /// The configuration [default: the one that the hub reads]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) place: Place,
}

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  visorbus doctor
  visorbus doctor --json

It changes nothing. Exit code 1: something is wrong that keeps the hub, or a part of it, from working.";
