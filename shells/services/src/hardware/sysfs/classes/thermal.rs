//! What is warm, and what cools it (Documentation/ABI/testing/sysfs-class-thermal).

use super::{Attribute, Class, Entry, Found, MILLI, scaled};
use crate::hardware::sysfs::Folder;

pub(super) const CLASS: Class = Class {
    kind: "thermal",
    folder: "class/thermal",
    holds: |name| name.starts_with(ZONES) || name.starts_with("cooling_device"),
    describe,
};

fn describe(entry: &Entry<'_>) -> Found {
    let is_zone = entry.name.starts_with(ZONES);
    let mut found = Found::read(&entry.folder, if is_zone { &ZONE } else { &COOLING });
    if is_zone {
        add_trips(&mut found, &entry.folder);
    }
    found.name = found.text("type").map(str::to_owned);
    found.state = found.text("mode").map(str::to_owned);
    found
}

/// The temperatures at which something is done, by what is done; of several, by their numbers too.
fn add_trips(found: &mut Found, folder: &Folder) {
    for number in 0..MOST_TRIPS {
        let temperature = folder.number(&format!("trip_point_{number}_temp"));
        let kind = folder.line(&format!("trip_point_{number}_type"));
        let (Some(temperature), Some(kind)) = (temperature, kind) else { break };
        let alone = format!("trip.{kind}");
        let name = if found.has(&alone) { format!("{alone}.{number}") } else { alone };
        found.add(&name, scaled(temperature, MILLI), "°C", false);
    }
}

const ZONES: &str = "thermal_zone";

const ZONE: [Attribute; 4] = [
    Attribute::text("type", "type"),
    Attribute::scaled("temp", "temperature", MILLI, "°C").reading(),
    Attribute::text("mode", "mode"),
    Attribute::text("policy", "policy"),
];

const COOLING: [Attribute; 3] = [
    Attribute::text("type", "type"),
    Attribute::integer("cur_state", "level", ""),
    Attribute::integer("max_state", "level-max", ""),
];

/// A zone of the kernel's had 12 at most for long.
const MOST_TRIPS: u32 = 32;
