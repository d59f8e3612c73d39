//! The devices that there are, and who is told when that changes. It knows nothing of where they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::device::{Device, DeviceChange};

/// The devices by their ids, and the listeners.
#[derive(Default)]
pub(crate) struct Inventory {
    devices: Mutex<BTreeMap<String, Device>>,
    listeners: Mutex<BTreeMap<u64, Arc<Listener>>>,
    next_listener: AtomicU64,
    /// Held from a change until all have been told of it, so that they are told in the order in which things happened.
    order: Mutex<()>,
}

impl Inventory {
    pub(crate) fn list(&self) -> Vec<Device> {
        lock(&self.devices).values().cloned().collect()
    }

    pub(crate) fn device(&self, id: &str) -> Option<Device> {
        lock(&self.devices).get(id).cloned()
    }

    /// Has `listener` told of every change until the answer is dropped.
    pub(crate) fn listen(self: &Arc<Self>, listener: Box<Listener>) -> Listening {
        let number = self.next_listener.fetch_add(1, Ordering::Relaxed);
        lock(&self.listeners).insert(number, Arc::from(listener));
        Listening { inventory: Arc::downgrade(self), number }
    }

    /// Changes a device that is there; one that has gone in the meantime is not brought back. With `readings`, a change of
    /// those is told too.
    pub(crate) fn update(&self, id: &str, readings: bool, change: impl FnOnce(&mut Device)) {
        let _order = lock(&self.order);
        let Some(mut device) = self.device(id) else { return };
        change(&mut device);
        self.put_in_order(device, readings);
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
        let Some(before) = before else { return self.tell(&DeviceChange::Added(device)) };
        let changed = device.differences(&before, readings);
        if !changed.is_empty() {
            self.tell(&DeviceChange::Changed { device, changed });
        }
    }

    fn remove_in_order(&self, id: &str, why: &str) {
        let device = lock(&self.devices).remove(id);
        if let Some(device) = device {
            self.tell(&DeviceChange::Removed { device, why: why.to_owned() });
        }
    }

    fn tell(&self, change: &DeviceChange) {
        let listeners: Vec<Arc<Listener>> = lock(&self.listeners).values().cloned().collect();
        for listener in listeners {
            // The thread that tells is to tell the others too, and goes on.
            if catch_unwind(AssertUnwindSafe(|| listener(change))).is_err() {
                tracing::error!("a listener to changes of hardware has panicked at '{}'", change.device().id);
            }
        }
    }
}

/// What is called with every change.
pub(crate) type Listener = dyn Fn(&DeviceChange) + Send + Sync;

/// As long as it is kept, its listener is told of changes; afterwards at most of one that was on its way already.
#[must_use = "whoever drops it is told of nothing any more"]
pub struct Listening {
    inventory: Weak<Inventory>,
    number: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(inventory) = self.inventory.upgrade() {
            lock(&inventory.listeners).remove(&self.number);
        }
    }
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listening")
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
        let listening = inventory.listen(Box::new(move |change| lock(&teller).push(change.clone())));
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
        let listening = inventory.listen(Box::new(move |_| *lock(&seen) += looked.list().len()));
        have(&inventory, vec![device("a", &[]), device("b", &[])]);
        assert_eq!(*lock(&of), 3, "one device, then two");
        drop(listening);
        have(&inventory, Vec::new());
        assert_eq!(*lock(&of), 3);
        assert!(lock(&inventory.listeners).is_empty());
    }

    #[test]
    fn a_listener_that_panics_takes_nothing_with_it() {
        let (inventory, told, _listening) = heard();
        let _panicking = inventory.listen(Box::new(|_| panic!("a fault of the listener's")));
        have(&inventory, vec![device("a", &[])]);
        have(&inventory, vec![device("a", &[]), device("b", &[])]);
        assert_eq!((inventory.list().len(), lock(&told).len()), (2, 2));
    }
}
