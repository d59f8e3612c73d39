//! Sensors and converters (Documentation/ABI/testing/sysfs-bus-iio).

use super::{Attribute, Class, Entry, Found, MILLI, Quantity, scaled};
use crate::hardware::sysfs::Folder;

pub(super) const CLASS: Class =
    Class { kind: "iio", folder: "bus/iio/devices", holds: |name| name.starts_with("iio:device"), describe };

fn describe(entry: &Entry<'_>) -> Found {
    let folder = &entry.folder;
    let mut found = Found::read(folder, &ATTRIBUTES);
    found.name = found.text("name").map(str::to_owned);
    for file in folder.names() {
        let rest = file.strip_prefix("in_");
        let channel = rest.and_then(|rest| rest.strip_suffix("_raw").or_else(|| rest.strip_suffix("_input")));
        if let Some(channel) = channel
            && let Some((number, quantity)) = measure(folder, &file, channel)
        {
            found.add(channel, scaled(number, quantity.by), quantity.unit, true);
        }
    }
    found
}

/// The number of a channel, and what it counts: `(raw + offset) * scale` where it is raw.
fn measure(folder: &Folder, file: &str, channel: &str) -> Option<(f64, &'static Quantity)> {
    let kind = kind(channel);
    let quantity = QUANTITIES.iter().find(|quantity| quantity.kind == kind).unwrap_or(&UNKNOWN);
    let number = folder.number(file)?;
    if file.ends_with("_input") {
        return Some((number, quantity));
    }
    let of_channel = |what: &str| {
        let own = folder.number(&format!("in_{channel}_{what}"));
        own.or_else(|| folder.number(&format!("in_{kind}_{what}")))
    };
    match of_channel("scale") {
        Some(scale) => Some(((number + of_channel("offset").unwrap_or(0.0)) * scale, quantity)),
        // Nobody says what the number counts.
        None => Some((number, &UNKNOWN)),
    }
}

/// `accel` of `accel_x`, `voltage` of `voltage0` and of `voltage0-voltage1`.
fn kind(channel: &str) -> &str {
    channel.split(['_', '-']).next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit())
}

const QUANTITIES: [Quantity; 14] = [
    Quantity { kind: "accel", unit: "m/s²", by: 1.0 },
    Quantity { kind: "gravity", unit: "m/s²", by: 1.0 },
    Quantity { kind: "anglvel", unit: "rad/s", by: 1.0 },
    Quantity { kind: "magn", unit: "G", by: 1.0 },
    Quantity { kind: "incli", unit: "°", by: 1.0 },
    Quantity { kind: "temp", unit: "°C", by: MILLI },
    Quantity { kind: "voltage", unit: "V", by: MILLI },
    Quantity { kind: "current", unit: "A", by: MILLI },
    Quantity { kind: "power", unit: "W", by: MILLI },
    Quantity { kind: "resistance", unit: "Ω", by: 1.0 },
    Quantity { kind: "illuminance", unit: "lx", by: 1.0 },
    Quantity { kind: "pressure", unit: "kPa", by: 1.0 },
    Quantity { kind: "humidityrelative", unit: "%", by: MILLI },
    Quantity { kind: "distance", unit: "m", by: 1.0 },
];

const UNKNOWN: Quantity = Quantity { kind: "", unit: "", by: 1.0 };

const ATTRIBUTES: [Attribute; 3] = [
    Attribute::text("name", "name"),
    Attribute::text("label", "label"),
    Attribute::scaled("sampling_frequency", "sampling-frequency", 1.0, "Hz"),
];
