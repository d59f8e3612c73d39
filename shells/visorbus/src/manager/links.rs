//! The lines to boards that the hub has, each by what the settings say of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use visorbus_hub::{HubHandle, HubLink, LinkId, Result};
use visorbus_mcu::{BoardKeys, SerialPort, SpiPort};

use crate::settings::LinkSettings;

/// The lines, by their specifications.
pub(super) struct Links {
    keys: Arc<dyn BoardKeys>,
    attached: BTreeMap<String, LinkId>,
}

impl Links {
    /// None yet; link keys of boards are in `keys`.
    pub(super) fn new(keys: Arc<dyn BoardKeys>) -> Self {
        Self { keys, attached: BTreeMap::new() }
    }

    /// Detaches those that the settings do not have, and attaches those that are not there. One that both have goes on
    /// undisturbed.
    pub(super) fn apply(&mut self, settings: &LinkSettings, hub: &HubHandle) -> Result<()> {
        let mut wanted: BTreeMap<String, Box<dyn HubLink>> = BTreeMap::new();
        for spec in &settings.serial {
            let port = SerialPort::new(spec.clone(), Arc::clone(&self.keys));
            wanted.insert(format!("serial {spec}"), Box::new(port));
        }
        for spec in &settings.spi {
            wanted
                .insert(format!("spi {spec}"), Box::new(SpiPort::new(spec.clone(), Arc::clone(&self.keys))));
        }
        // First those that go: one device cannot have two links.
        let gone: Vec<String> =
            self.attached.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(link) = self.attached.remove(&name) {
                hub.detach(link, "the configuration has this line no more")?;
            }
        }
        for (name, port) in wanted {
            if let Entry::Vacant(place) = self.attached.entry(name) {
                place.insert(hub.attach(port)?);
            }
        }
        Ok(())
    }

    /// What they are, for people, and by what the hub knows them.
    pub(super) fn names(&self) -> impl Iterator<Item = (LinkId, &str)> {
        self.attached.iter().map(|(name, id)| (*id, name.as_str()))
    }
}
