//! Buttons, sticks and whatever else gives input events (include/uapi/linux/input-event-codes.h).

use visorbus_hub::Value;

use super::{Attribute, Class, Entry, Found};

pub(super) const CLASS: Class = Class {
    kind: "input",
    folder: "class/input",
    holds: |name| name.strip_prefix("input").is_some_and(|number| number.parse::<u32>().is_ok()),
    describe,
};

fn describe(entry: &Entry<'_>) -> Found {
    let folder = &entry.folder;
    let mut found = Found::read(folder, &ATTRIBUTES);
    found.name = found.text("name").map(str::to_owned);
    if let Some(id) = folder.folder("id") {
        found.properties.extend(ID.iter().filter_map(|attribute| attribute.read(&id)));
    }
    let events = folder.folder("capabilities").and_then(|folder| folder.line("ev"));
    if let Some(bits) = events.and_then(|text| u64::from_str_radix(&text, 16).ok()) {
        let given = EVENTS.iter().filter(|(bit, _)| bits & (1 << bit) != 0);
        found.add("gives", Value::Texts(given.map(|(_, name)| (*name).to_owned()).collect()), "", false);
    }
    if let Some(node) = folder.names().into_iter().find(|name| name.starts_with("event")) {
        found.add("node", Value::Text(format!("/dev/input/{node}")), "", false);
    }
    found
}

const ATTRIBUTES: [Attribute; 3] = [
    Attribute::text("name", "name"),
    Attribute::text("phys", "place"),
    Attribute::text("uniq", "serial-number"),
];

/// In the folder `id`: numbers of four hexadecimal digits.
const ID: [Attribute; 3] = [
    Attribute::text("bustype", "bus"),
    Attribute::text("vendor", "vendor"),
    Attribute::text("product", "product"),
];

/// The kinds of events by their numbers.
const EVENTS: [(u32, &str); 8] = [
    (0x01, "keys"),
    (0x02, "relative axes"),
    (0x03, "absolute axes"),
    (0x04, "other"),
    (0x05, "switches"),
    (0x11, "lights"),
    (0x12, "sounds"),
    (0x15, "force feedback"),
];
