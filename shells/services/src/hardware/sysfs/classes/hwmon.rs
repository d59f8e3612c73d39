//! The machine's own sensors (Documentation/hwmon/sysfs-interface.rst).

use super::{Attribute, Class, Entry, Found, MICRO, MILLI, Quantity, scaled};

pub(super) const CLASS: Class =
    Class { kind: "hwmon", folder: "class/hwmon", holds: |name| name.starts_with("hwmon"), describe };

fn describe(entry: &Entry<'_>) -> Found {
    let folder = &entry.folder;
    let mut found = Found::read(folder, &ATTRIBUTES);
    found.name = found.text("name").map(str::to_owned);
    for file in folder.names() {
        let Some(sensor) = file.strip_suffix("_input") else { continue };
        let kind = sensor.trim_end_matches(|c: char| c.is_ascii_digit());
        let Some(quantity) = QUANTITIES.iter().find(|quantity| quantity.kind == kind) else { continue };
        let Some(number) = folder.number(&file) else { continue };
        let label = folder.line(&format!("{sensor}_label")).filter(|label| !found.has(label));
        let name = label.unwrap_or_else(|| sensor.to_owned());
        found.add(&name, scaled(number, quantity.by), quantity.unit, true);
        for limit in LIMITS {
            if let Some(number) = folder.number(&format!("{sensor}_{limit}")) {
                found.add(&format!("{name}.{limit}"), scaled(number, quantity.by), quantity.unit, false);
            }
        }
    }
    found
}

const QUANTITIES: [Quantity; 8] = [
    Quantity { kind: "temp", unit: "°C", by: MILLI },
    Quantity { kind: "fan", unit: "rpm", by: 1.0 },
    Quantity { kind: "in", unit: "V", by: MILLI },
    Quantity { kind: "curr", unit: "A", by: MILLI },
    Quantity { kind: "power", unit: "W", by: MICRO },
    Quantity { kind: "energy", unit: "J", by: MICRO },
    Quantity { kind: "humidity", unit: "%", by: MILLI },
    Quantity { kind: "freq", unit: "Hz", by: 1.0 },
];

const LIMITS: [&str; 3] = ["min", "max", "crit"];

const ATTRIBUTES: [Attribute; 1] = [Attribute::text("name", "name")];
