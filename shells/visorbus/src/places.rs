//! Where the hub's socket and keys are when nobody says.

use std::io::ErrorKind;
use std::path::PathBuf;

use visorbus_auth::{FileError, KeyFile, KeyFileError};
use visorbus_hub::{Error, Result};

use crate::args::Place;

impl Place {
    /// The hub's socket: what was said, else in the runtime directory of the user.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| runtime_directory().join("visorbus").join("bus.sock"))
    }

    /// The hub's key file: what was said, else in the state directory of the user.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| state_directory().join("visorbus").join("root.key"))
    }

    /// The keys of the hub that runs here.
    pub(crate) fn keys(&self) -> Result<KeyFile> {
        KeyFile::open(self.key_file()).map_err(|e| {
            let hint =
                if is_missing(&e) { "; `visorbus serve` makes one, or name it with --key-file" } else { "" };
            Error::Authentication(format!("{e}{hint}"))
        })
    }
}

/// Whether there is no key file at all.
fn is_missing(error: &KeyFileError) -> bool {
    match error {
        KeyFileError::Missing { .. } => true,
        KeyFileError::File(FileError::Io { source, .. }) => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

/// `XDG_RUNTIME_DIR`; `/run` for root without one; else a directory of this user's alone below `/tmp`.
fn runtime_directory() -> PathBuf {
    if let Some(directory) = absolute("XDG_RUNTIME_DIR") {
        return directory;
    }
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        PathBuf::from("/run")
    } else {
        PathBuf::from(format!("/tmp/visorbus-{}", uid.as_raw()))
    }
}

/// `XDG_STATE_HOME`, else `~/.local/state`; `/var/lib` where there is no home.
fn state_directory() -> PathBuf {
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
}

/// A directory from the environment; the XDG base directory specification has relative ones ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
