//! What can be said of shells and manual pages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// The directory they are written into, made where it is missing
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) into: PathBuf,
}

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  visorbus completions bash > ~/.local/share/bash-completion/completions/visorbus
  visorbus completions zsh > _visorbus          in a directory of $fpath
  visorbus completions fish > ~/.config/fish/completions/visorbus.fish

Addresses, topics, devices and the keys of the configuration are those of the hub that runs.";

pub(super) const MANUAL_EXAMPLES: &str = "\
Examples:
  visorbus man --into ~/.local/share/man/man1    for `man visorbus`, `man visorbus-serve` and so on";
