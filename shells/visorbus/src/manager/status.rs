//! How a manager is: what serves where, and what the settings ask for that is not so.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_dbus::DBusDoor;
use visorbus_hub::{HubHandle, LinkId, LinkState};

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
    /// `on`, `off`, or `waiting` for what is not there. A line to a board is `on` while a board serves there, `waiting`
    /// while its device is there and no board has proven itself, and `gone` while its device is not there; `unknown` when
    /// the hub does not say.
    pub state: String,
    /// Where it is: a path, a URL, a name on a bus, a line.
    pub place: String,
    /// What it waits for, or why it is gone; empty for nothing.
    pub trouble: String,
}

impl PartStatus {
    /// One that is there.
    pub(super) fn on(name: &str, place: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: "on".to_owned(), place: place.into(), trouble: String::new() }
    }

    fn be(&mut self, state: &str, trouble: String) {
        state.clone_into(&mut self.state);
        self.trouble = trouble;
    }

    /// One that is not wanted.
    pub(super) fn off(name: &str) -> Self {
        Self { name: name.to_owned(), state: "off".to_owned(), ..Self::default() }
    }
}

/// The status as others ask for it while the manager's own thread does something else.
#[derive(Clone, Default)]
pub(super) struct SharedStatus(Arc<Mutex<Known>>);

#[derive(Default, Clone)]
struct Known {
    status: ManagerStatus,
    /// `None` while nothing runs.
    moving: Option<Moving>,
}

/// What of a hub comes and goes by itself.
#[derive(Clone)]
pub(super) struct Moving {
    pub(super) bus: Option<DBusDoor>,
    /// The links of the parts that are called `links`, in their order.
    pub(super) lines: Vec<LinkId>,
    pub(super) hub: HubHandle,
}

impl SharedStatus {
    pub(super) fn set(&self, status: ManagerStatus, moving: Option<Moving>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known { status, moving };
    }

    /// What is so at this moment.
    pub(super) fn status(&self) -> ManagerStatus {
        // Nobody waits for this one meanwhile: the hub is asked, and the disk.
        let Known { mut status, moving } = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // It comes with the first setting that is changed, and goes as its owner likes.
        status.config_file_exists = Path::new(&status.config_file).exists();
        if let Some(moving) = moving {
            moving.look(&mut status.parts);
        }
        status
    }
}

impl Moving {
    fn look(&self, parts: &mut [PartStatus]) {
        let bus = self.bus.as_ref().map(DBusDoor::state);
        if let Some((part, bus)) = parts.iter_mut().find(|part| part.name == "dbus").zip(bus) {
            part.be(if bus.owns_name { "on" } else { "waiting" }, bus.trouble.unwrap_or_default());
        }
        if self.lines.is_empty() {
            return;
        }
        let links = self.hub.links();
        for (id, part) in self.lines.iter().zip(parts.iter_mut().filter(|part| part.name == LINKS)) {
            let link = links.as_ref().map(|links| links.iter().find(|(known, _)| known == id));
            match link {
                Ok(Some((_, LinkState::Up(_)))) => {}
                Ok(Some((_, LinkState::Waiting(why)))) => part.be("waiting", why.clone()),
                Ok(Some((_, LinkState::Gone(why)))) => part.be("gone", why.clone()),
                Ok(_) => part.be("unknown", String::new()),
                Err(error) => part.be("unknown", error.text().to_owned()),
            }
        }
    }
}

/// The category of settings that lines to boards are of.
pub(super) const LINKS: &str = "links";
