//! The devices that there are, and who is told when that changes. It knows nothing of where they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Device, DeviceChange};
use crate::listeners::Listeners;

/// The devices by their ids, and the listeners.
#[derive(Default)]
pub(crate) struct Inventory {
    devices: Mutex<BTreeMap<String, Device>>,
    pub(crate) listeners: Arc<Listeners<DeviceChange>>,
    /// Those that were told to do something: what is learnt of them next may be because of that.
    commanded: Mutex<BTreeSet<String>>,
    /// Held from a change until all have been told of it: no more happens than they can be told of.
    order: Mutex<()>,
}

impl Inventory {
    pub(crate) fn list(&self) -> Vec<Device> {
        lock(&self.devices).values().cloned().collect()
    }

    pub(crate) fn device(&self, id: &str) -> Option<Device> {
        lock(&self.devices).get(id).cloned()
    }

    /// Changes a device that is there; one that has gone in the meantime is not brought back. With `readings`, or when it
    /// was told to do something meanwhile, a change of those is told too.
    pub(crate) fn update(&self, id: &str, readings: bool, change: impl FnOnce(&mut Device)) {
        let _order = lock(&self.order);
        let Some(mut device) = self.device(id) else { return };
        change(&mut device);
        let readings = readings || lock(&self.commanded).contains(id);
        self.put_in_order(device, readings);
    }

    /// Notes that a device is told to do something, or was: from now until [`Inventory::take_commanded`] whatever is
    /// different is told, whoever learns of it first.
    pub(crate) fn note_commanded(&self, id: &str) {
        if lock(&self.devices).contains_key(id) {
            lock(&self.commanded).insert(id.to_owned());
        }
    }

    /// Whether a device was told to do something; that is forgotten.
    pub(crate) fn take_commanded(&self, id: &str) -> bool {
        lock(&self.commanded).remove(id)
    }

    pub(crate) fn remove(&self, id: &str, why: &str) {
        let _order = lock(&self.order);
        self.remove_in_order(id, why);
    }

    /// Has `devices`, and no others, as those that `is_meant`. A new one may `keep` something of what it was.
    pub(crate) fn replace(
        &self,
        devices: Vec<Device>,
        is_meant: impl Fn(&Device) -> bool,
        keep: impl Fn(&mut Device, &Device),
        why: &str,
    ) {
        let _order = lock(&self.order);
        let there: BTreeSet<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        let is_gone = |device: &&Device| is_meant(device) && !there.contains(device.id.as_str());
        let gone: Vec<String> =
            lock(&self.devices).values().filter(is_gone).map(|device| device.id.clone()).collect();
        for id in gone {
            self.remove_in_order(&id, why);
        }
        for mut device in devices {
            if let Some(old) = self.device(&device.id) {
                keep(&mut device, &old);
            }
            self.put_in_order(device, false);
        }
    }

    fn put_in_order(&self, device: Device, readings: bool) {
        let before = lock(&self.devices).insert(device.id.clone(), device.clone());
        let Some(before) = before else { return self.listeners.tell(DeviceChange::Added(device)) };
        let changed = device.differences(&before, readings);
        if !changed.is_empty() {
            self.listeners.tell(DeviceChange::Changed { device, changed });
        }
    }

    fn remove_in_order(&self, id: &str, why: &str) {
        let device = lock(&self.devices).remove(id);
        lock(&self.commanded).remove(id);
        if let Some(device) = device {
            self.listeners.tell(DeviceChange::Removed { device, why: why.to_owned() });
        }
    }
}

/// What is behind a lock is whole between any two lines that could panic.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use visorbus_hub::Value;

    use crate::hardware::device::Property;
    use crate::listeners::Listening;

    fn device(id: &str, properties: &[(&str, i64, bool)]) -> Device {
        let property = |&(name, value, reading): &(&str, i64, bool)| Property {
            name: name.to_owned(),
            value: Value::Integer(value),
            unit: String::new(),
            reading,
        };
        Device {
            id: id.to_owned(),
            kind: "test".to_owned(),
            name: id.to_owned(),
            state: "present".to_owned(),
            properties: properties.iter().map(property).collect(),
            commands: Vec::new(),
        }
    }

    /// An inventory, and what it has told.
    fn heard() -> (Arc<Inventory>, Arc<Mutex<Vec<DeviceChange>>>, Listening) {
        let (inventory, told) = (Arc::<Inventory>::default(), Arc::<Mutex<Vec<DeviceChange>>>::default());
        let teller = Arc::clone(&told);
        let listening = inventory.listeners.add(move |change| lock(&teller).push(change.clone()));
        (inventory, told, listening)
    }

    fn have(inventory: &Inventory, devices: Vec<Device>) {
        inventory.replace(devices, |_| true, |_, _| {}, "gone");
    }

    #[test]
    fn readings_that_move_are_taken_over_and_not_told() {
        let (inventory, told, _listening) = heard();
        have(&inventory, vec![device("a", &[("state", 1, false), ("voltage", 1, true)])]);
        have(&inventory, vec![device("a", &[("state", 1, false), ("voltage", 2, true)])]);
        have(&inventory, vec![device("a", &[("state", 1, false)])]);
        assert_eq!(lock(&told).len(), 1, "{told:?}");
        have(&inventory, vec![device("a", &[("voltage", 3, true)])]);
        assert!(matches!(&lock(&told)[1], DeviceChange::Changed { changed, .. } if changed == &["state"]));
        inventory.update("a", true, |device| device.properties[0].value = Value::Integer(4));
        assert!(matches!(&lock(&told)[2], DeviceChange::Changed { changed, .. } if changed == &["voltage"]));
    }

    #[test]
    fn what_a_command_changed_is_told_also_by_what_was_asked_before_it() {
        let (inventory, told, _listening) = heard();
        have(&inventory, vec![device("a", &[("rate", 1, true)])]);
        inventory.note_commanded("a");
        // The answer to a question of before, which the device took behind the command.
        inventory.update("a", false, |device| device.properties[0].value = Value::Integer(2));
        assert!(matches!(&lock(&told)[1], DeviceChange::Changed { changed, .. } if changed == &["rate"]));
        assert!(inventory.take_commanded("a") && !inventory.take_commanded("a"));
        inventory.update("a", false, |device| device.properties[0].value = Value::Integer(3));
        assert_eq!(lock(&told).len(), 2, "{told:?}");
        inventory.note_commanded("a");
        inventory.remove("a", "unplugged");
        inventory.note_commanded("a");
        assert!(!inventory.take_commanded("a"), "nothing is kept of what is not there");
    }

    #[test]
    fn a_device_that_has_gone_is_not_brought_back_by_what_is_learnt_of_it_later() {
        let (inventory, told, _listening) = heard();
        have(&inventory, vec![device("a", &[])]);
        inventory.remove("a", "unplugged");
        inventory.remove("a", "unplugged");
        inventory.update("a", true, |device| device.state = "ready".to_owned());
        assert!(inventory.device("a").is_none());
        assert_eq!(lock(&told).len(), 2, "{told:?}");
    }

    #[test]
    fn a_listener_may_look_into_the_inventory_and_is_forgotten_when_it_is_dropped() {
        let inventory = Arc::<Inventory>::default();
        let (looked, of) = (Arc::clone(&inventory), Arc::<Mutex<usize>>::default());
        let seen = Arc::clone(&of);
        let listening = inventory.listeners.add(move |_| *lock(&seen) += looked.list().len());
        have(&inventory, vec![device("a", &[]), device("b", &[])]);
        assert_eq!(*lock(&of), 3, "one device, then two");
        drop(listening);
        have(&inventory, Vec::new());
        assert_eq!(*lock(&of), 3);
    }
}
