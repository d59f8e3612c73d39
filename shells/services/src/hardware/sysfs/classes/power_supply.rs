//! Batteries and what charges them (Documentation/ABI/testing/sysfs-class-power in the kernel's source).

use super::{Attribute, Class, Entry, Found, MICRO};

pub(super) const CLASS: Class =
    Class { kind: "power_supply", folder: "class/power_supply", holds: |_| true, describe };

fn describe(entry: &Entry<'_>) -> Found {
    let mut found = Found::read(&entry.folder, &ATTRIBUTES);
    found.name = found.text("model").map(str::to_owned);
    let online =
        || entry.folder.integer("online").map(|online| if online == 0 { "offline" } else { "online" });
    let status = found.text("status").filter(|status| *status != "Unknown").map(str::to_lowercase);
    found.state = status.or_else(|| online().map(str::to_owned));
    found
}

const ATTRIBUTES: [Attribute; 26] = [
    Attribute::text("type", "type"),
    Attribute::text("scope", "scope"),
    Attribute::text("manufacturer", "manufacturer"),
    Attribute::text("model_name", "model"),
    Attribute::text("serial_number", "serial-number"),
    Attribute::text("technology", "technology"),
    Attribute::text("status", "status"),
    Attribute::text("health", "health"),
    Attribute::flag("present", "present"),
    Attribute::flag("online", "online"),
    Attribute::integer("capacity", "capacity", "%"),
    Attribute::text("capacity_level", "capacity-level"),
    Attribute::integer("cycle_count", "cycles", ""),
    Attribute::scaled("voltage_now", "voltage", MICRO, "V").reading(),
    Attribute::scaled("current_now", "current", MICRO, "A").reading(),
    Attribute::scaled("power_now", "power", MICRO, "W").reading(),
    Attribute::scaled("energy_now", "energy", MICRO, "Wh").reading(),
    Attribute::scaled("energy_full", "energy-full", MICRO, "Wh"),
    Attribute::scaled("energy_full_design", "energy-full-design", MICRO, "Wh"),
    Attribute::scaled("charge_now", "charge", MICRO, "Ah").reading(),
    Attribute::scaled("charge_full", "charge-full", MICRO, "Ah"),
    Attribute::scaled("charge_full_design", "charge-full-design", MICRO, "Ah"),
    Attribute::scaled("temp", "temperature", 0.1, "°C").reading(),
    Attribute::integer("time_to_empty_now", "time-to-empty", "s").reading(),
    Attribute::integer("time_to_full_now", "time-to-full", "s").reading(),
    Attribute::text("usb_type", "usb-type"),
];
