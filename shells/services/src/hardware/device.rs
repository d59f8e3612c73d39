//! What is known of a device, and what happens to it.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use visorbus_core::auth::Access;
use visorbus_hub::Value;

/// A device, as it was when it was last looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct Device {
    /// What it is asked for by: its kind, a `/`, and its name on the bus or in sysfs, such as `board/imu`,
    /// `power_supply/BAT0` or `iio/iio:device0`.
    pub id: String,
    /// `board`, or the class of the kernel's that it belongs to: `power_supply`, `thermal`, `iio`, `hwmon`, `input`, `drm`.
    pub kind: String,
    /// What it calls itself.
    pub name: String,
    /// How it is, in one word or two: `ready`, `charging`, `connected`, or `present` where nothing more is known.
    pub state: String,
    /// What is known of it, by name.
    pub properties: Vec<Property>,
    /// What it can be told to do; of a device of the machine, nothing.
    pub commands: Vec<Command>,
}

impl Device {
    /// The property called `name`.
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name == name)
    }

    /// The command called `name`.
    pub fn command(&self, name: &str) -> Option<&Command> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// Whether it is a peer of the hub's, and no device of the machine's.
    pub fn is_board(&self) -> bool {
        self.kind == BOARD
    }

    /// What stands in a list.
    pub fn summary(&self) -> DeviceSummary {
        let Self { id, kind, name, state, .. } = self.clone();
        DeviceSummary { id, kind, name, state }
    }

    /// What differs from `before` and is told: names of properties, `name`, `state` and `commands`. Readings only where
    /// they are asked for.
    pub(crate) fn differences(&self, before: &Self, readings: bool) -> Vec<String> {
        let told = |device: &Self| -> Vec<Property> {
            device.properties.iter().filter(|property| readings || !property.reading).cloned().collect()
        };
        let (old, new) = (told(before), told(self));
        let mut names: Vec<String> = [
            ("name", self.name != before.name),
            ("state", self.state != before.state),
            ("commands", self.commands != before.commands),
        ]
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name.to_owned())
        .collect();
        names.extend(new.iter().filter(|property| !old.contains(property)).map(|p| p.name.clone()));
        let gone = old.iter().filter(|property| !new.iter().any(|other| other.name == property.name));
        names.extend(gone.map(|property| property.name.clone()));
        names
    }
}

/// One thing that is known of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
pub struct Property {
    /// What it is, such as `voltage`.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// What the value is counted in, such as `V` or `°C`; empty for what has no unit.
    pub unit: String,
    /// Whether it moves by itself all the time, as a temperature and a counter do. That it has changed is not told.
    pub reading: bool,
}

/// Something that a device can be told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Command {
    /// What it is asked for by, such as `set-rate`.
    pub name: String,
    /// Where on the bus it goes, such as `imu/set-rate`. Whoever gives the command must be allowed to send requests there.
    pub address: String,
    /// What a caller needs there: `open`, `permission`, or `scope NAME`.
    pub access: String,
}

impl Command {
    /// What a caller needs there, as whoever decides is asked for it.
    pub(crate) fn needs(&self) -> Access<'_> {
        match (self.access.as_str(), self.access.strip_prefix("scope ")) {
            ("open", _) => Access::Open,
            (_, Some(scope)) => Access::Scope(scope),
            _ => Access::Permission,
        }
    }
}

/// A device in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct DeviceSummary {
    /// As [`Device::id`].
    pub id: String,
    /// As [`Device::kind`].
    pub kind: String,
    /// As [`Device::name`].
    pub name: String,
    /// As [`Device::state`].
    pub state: String,
}

/// Something that happened to a device.
#[derive(Debug, Clone, PartialEq)]
pub enum DeviceChange {
    /// It is there.
    Added(Device),
    /// It is gone.
    Removed {
        /// What it was.
        device: Device,
        /// Why it went, for people.
        why: String,
    },
    /// Something about it is otherwise now.
    Changed {
        /// What it is now.
        device: Device,
        /// What differs: names of properties, and `name`, `state`, `commands` for those.
        changed: Vec<String>,
    },
}

impl DeviceChange {
    /// The device: as it is, or was.
    pub fn device(&self) -> &Device {
        match self {
            Self::Added(device) | Self::Removed { device, .. } | Self::Changed { device, .. } => device,
        }
    }
}

/// The kind of a device that is a peer of the hub, and none of the machine's.
pub(crate) const BOARD: &str = "board";
