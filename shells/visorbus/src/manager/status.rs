//! How a manager is: what serves where, and what the settings ask for that is not so.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_dbus::DBusDoor;

use super::reload::Refused;

/// How a hub and its parts are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[non_exhaustive]
pub struct ManagerStatus {
    /// Of the program's library.
    pub version: String,
    /// The program's process.
    pub pid: u32,
    /// When the hub was started, in microseconds since 1970.
    pub started_at_us: u64,
    /// The file of the configuration; empty where it is kept nowhere.
    pub config_file: String,
    /// Whether that file is there; without it the defaults hold.
    pub config_file_exists: bool,
    /// The file of the keys; empty, as the next two, where the program has providers of its own.
    pub key_file: String,
    /// The file of the accounts.
    pub accounts_file: String,
    /// The file of the policy, which need not be there.
    pub policy_file: String,
    /// How many rules the policy has.
    pub policy_rules: u32,
    /// The parts, in the order of the configuration.
    pub parts: Vec<PartStatus>,
    /// The settings that wait for the next start, as `category.key`.
    pub at_restart: Vec<String>,
    /// What could not be taken over when it was last tried.
    pub refused: Vec<Refused>,
}

impl ManagerStatus {
    /// The part of that name.
    pub fn part(&self, name: &str) -> Option<&PartStatus> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// How one part is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[non_exhaustive]
pub struct PartStatus {
    /// The category of settings that it is of: `unix_socket`, `dbus`, `websocket`, `links`, `hardware`, `monitoring`.
    pub name: String,
    /// `on`, `off`, or `waiting` for what is not there.
    pub state: String,
    /// Where it is: a path, a URL, a name on a bus, a line.
    pub place: String,
    /// What it waits for; empty for nothing.
    pub trouble: String,
}

impl PartStatus {
    /// One that is there.
    pub(super) fn on(name: &str, place: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: "on".to_owned(), place: place.into(), trouble: String::new() }
    }

    /// One that is not wanted.
    pub(super) fn off(name: &str) -> Self {
        Self { name: name.to_owned(), state: "off".to_owned(), ..Self::default() }
    }
}

/// The status as others ask for it while the manager's own thread does something else.
#[derive(Clone, Default)]
pub(super) struct SharedStatus(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    status: ManagerStatus,
    /// What tells of the bus, which comes and goes by itself.
    bus: Option<DBusDoor>,
}

impl SharedStatus {
    pub(super) fn set(&self, status: ManagerStatus, bus: Option<DBusDoor>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known { status, bus };
    }

    /// What is so at this moment.
    pub(super) fn status(&self) -> ManagerStatus {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut status = known.status.clone();
        // It comes with the first setting that is changed, and goes as its owner likes.
        status.config_file_exists = Path::new(&status.config_file).exists();
        let Some(bus) = known.bus.as_ref().map(DBusDoor::state) else { return status };
        if let Some(part) = status.parts.iter_mut().find(|part| part.name == "dbus") {
            let state = if bus.owns_name { "on" } else { "waiting" };
            state.clone_into(&mut part.state);
            part.trouble = bus.trouble.unwrap_or_default();
        }
        status
    }
}
