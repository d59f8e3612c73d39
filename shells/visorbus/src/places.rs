//! Where a hub's files are when nobody says: the directories of the XDG base directory specification.

use std::path::{Path, PathBuf};

/// The hub's socket: `visorbus/bus.sock` in the user's runtime directory.
pub fn socket() -> PathBuf {
    runtime_directory().join("visorbus").join("bus.sock")
}

/// The hub's keys: `visorbus/root.key` in the user's state directory.
pub fn key_file() -> PathBuf {
    state_directory().join("visorbus").join("root.key")
}

/// The directory of the hub's certificates: `tls` beside its keys.
pub fn tls_directory(key_file: &Path) -> PathBuf {
    key_file.with_file_name("tls")
}

/// The configuration: `$VISORBUS_CONFIG`; else `visorbus/visorbus.toml` in `XDG_CONFIG_HOME`; where that is not set, in
/// `/etc` for root and in `~/.config` for everybody else.
pub fn config_file() -> PathBuf {
    if let Some(named) = named_config_file() {
        return named;
    }
    let is_root = rustix::process::geteuid().is_root();
    let home = || absolute("HOME").filter(|_| !is_root).map(|home| home.join(".config"));
    let directory = absolute("XDG_CONFIG_HOME").or_else(home).unwrap_or_else(|| PathBuf::from("/etc"));
    directory.join("visorbus").join("visorbus.toml")
}

/// The configuration that `$VISORBUS_CONFIG` names, which has to be there.
pub fn named_config_file() -> Option<PathBuf> {
    std::env::var_os("VISORBUS_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
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

/// What the file of the accounts is called, beside the keys.
pub const ACCOUNTS: &str = "accounts.json";
/// What the file of the policy is called, beside the keys.
pub const POLICY: &str = "policy.toml";
/// The hub's own certificate, in [`tls_directory`].
pub const CERTIFICATE: &str = "hub.crt";
/// And its key.
pub const CERTIFICATE_KEY: &str = "hub.key";
