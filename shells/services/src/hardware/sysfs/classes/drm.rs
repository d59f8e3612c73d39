//! Graphics cards, and the displays at their connectors (Documentation/ABI/testing/sysfs-class-drm).

use visorbus_hub::Value;

use super::{Attribute, Class, Entry, Found};

pub(super) const CLASS: Class =
    Class { kind: "drm", folder: "class/drm", holds: |name| name.starts_with("card"), describe };

fn describe(entry: &Entry<'_>) -> Found {
    if entry.name.contains('-') { connector(entry) } else { card(entry) }
}

/// `card0-DP-1`: its state is whether something is connected.
fn connector(entry: &Entry<'_>) -> Found {
    let mut found = Found::read(&entry.folder, &CONNECTOR);
    if let Some(modes) = entry.folder.text("modes") {
        let mut modes: Vec<String> = modes.lines().map(str::to_owned).collect();
        modes.dedup();
        found.add("modes", Value::Texts(modes), "", false);
    }
    found.name = entry.folder.start_of("edid").and_then(|edid| display_name(&edid));
    found.state = found.text("status").map(str::to_owned);
    found
}

/// `card0`: called after its driver.
fn card(entry: &Entry<'_>) -> Found {
    let Some(device) = entry.linked("device") else { return Found::default() };
    let mut found = Found::read(&device, &CARD);
    let uevent = device.text("uevent");
    let driver =
        uevent.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("DRIVER=")));
    if let Some(driver) = driver {
        found.add("driver", Value::Text(driver.to_owned()), "", false);
        found.name = Some(driver.to_owned());
    }
    found
}

/// What a display calls itself: the descriptor 0xFC of its EDID (VESA E-EDID, release A revision 2, section 3.10.3.4).
fn display_name(edid: &[u8]) -> Option<String> {
    let block = edid.first_chunk::<128>().filter(|block| block.starts_with(&EDID_HEADER))?;
    let name = block[54..126].chunks_exact(18).find_map(|text| text.strip_prefix(&[0, 0, 0, 0xFC, 0]))?;
    let name: String = name.iter().take_while(|byte| **byte != b'\n').map(|byte| char::from(*byte)).collect();
    let name = name.trim();
    (!name.is_empty() && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

const EDID_HEADER: [u8; 8] = [0, 255, 255, 255, 255, 255, 255, 0];

const CONNECTOR: [Attribute; 3] = [
    Attribute::text("status", "status"),
    Attribute::text("enabled", "enabled"),
    Attribute::text("dpms", "power"),
];

const CARD: [Attribute; 2] = [Attribute::text("vendor", "vendor"), Attribute::text("device", "device")];
