//! The interface that the tests register: what everybody may use and what not, and one method that waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use visorbus_core::dispatch::Caller;
use visorbus_dbus::{DBusInterface, DBusMethod, DBusProperty, DBusPropertyAccess, DBusSignal, MessageItem};
use visorbus_hub::Result;

use crate::sensor::logged;
use crate::world::World;

pub(crate) const NAME: &str = "org.example.Settings1";

/// What stands behind the interface, for the test to look at.
pub(crate) struct Settings {
    runs: Arc<AtomicUsize>,
    waits: Arc<Mutex<Receiver<()>>>,
    /// Lets `Wait` return, once for each.
    pub(crate) release: SyncSender<()>,
    volume: Arc<Mutex<u32>>,
}

impl Settings {
    pub(crate) fn new(runs: Arc<AtomicUsize>) -> Self {
        let (release, waits) = sync_channel(1024);
        Self { runs, waits: Arc::new(Mutex::new(waits)), release, volume: Arc::default() }
    }

    pub(crate) fn interface(&self) -> Box<dyn DBusInterface> {
        let Self { runs, waits, volume, .. } = self;
        Box::new(Interface { runs: Arc::clone(runs), waits: Arc::clone(waits), volume: Arc::clone(volume) })
    }
}

struct Interface {
    runs: Arc<AtomicUsize>,
    waits: Arc<Mutex<Receiver<()>>>,
    volume: Arc<Mutex<u32>>,
}

impl DBusInterface for Interface {
    fn name(&self) -> &str {
        NAME
    }

    fn methods(&self) -> Vec<DBusMethod> {
        let method = |(name, takes, gives, requires_auth): (&str, &str, &str, bool)| DBusMethod {
            name: name.to_owned(),
            input_signature: takes.to_owned(),
            output_signature: gives.to_owned(),
            description: format!("What {name} does."),
            requires_auth,
        };
        [
            ("Echo", "sa{sv}(yd)aayv", "sa{sv}(yd)aayv", false),
            ("Any", "v", "v", false),
            ("Guarded", "s", "s", true),
            ("Wait", "", "", true),
        ]
        .map(method)
        .into()
    }

    fn signals(&self) -> Vec<DBusSignal> {
        let signal = |(name, requires_auth): (&str, bool)| DBusSignal {
            name: name.to_owned(),
            signature: "s".to_owned(),
            description: String::new(),
            requires_auth,
        };
        [("Public", false), ("Private", true)].map(signal).into()
    }

    fn properties(&self) -> Vec<DBusProperty> {
        let property = |(name, requires_auth): (&str, bool)| DBusProperty {
            name: name.to_owned(),
            signature: "u".to_owned(),
            description: String::new(),
            access: DBusPropertyAccess::ReadWrite,
            requires_auth_read: requires_auth,
            requires_auth_write: true,
        };
        [("Volume", false), ("Code", true)].map(property).into()
    }

    fn handle_method_call(
        &self,
        method_name: &str,
        args: &[MessageItem],
        _caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        if method_name == "Wait" {
            // The end of the test lets it go too.
            let _ = self.waits.lock().unwrap().recv();
        }
        Ok(args.to_vec())
    }

    fn get_property(&self, _property_name: &str, _caller: &Caller<'_>) -> Result<MessageItem> {
        Ok((*self.volume.lock().unwrap()).into())
    }

    fn set_property(&self, _property_name: &str, value: MessageItem, caller: &Caller<'_>) -> Result<()> {
        assert!(caller.grant.is_some(), "all that can be written here requires authentication");
        self.runs.fetch_add(1, Ordering::SeqCst);
        match value {
            MessageItem::UInt32(value) => *self.volume.lock().unwrap() = value,
            other => panic!("{other:?} is no volume"),
        }
        Ok(())
    }
}

/// A property that says that anybody may read it, and is not read without knowing who asks.
struct Contrary;

impl DBusInterface for Contrary {
    fn name(&self) -> &str {
        "org.example.Contrary1"
    }

    fn methods(&self) -> Vec<DBusMethod> {
        Vec::new()
    }

    fn signals(&self) -> Vec<DBusSignal> {
        Vec::new()
    }

    fn properties(&self) -> Vec<DBusProperty> {
        vec![DBusProperty {
            name: "Mood".to_owned(),
            signature: "u".to_owned(),
            description: String::new(),
            access: DBusPropertyAccess::ReadWrite,
            requires_auth_read: false,
            requires_auth_write: true,
        }]
    }

    fn handle_method_call(&self, _: &str, _: &[MessageItem], _: &Caller<'_>) -> Result<Vec<MessageItem>> {
        Ok(Vec::new())
    }

    fn get_property(&self, _: &str, caller: &Caller<'_>) -> Result<MessageItem> {
        let nobody = || visorbus_hub::Error::Authorization("who asks?".to_owned());
        caller.grant.map(|_| 7u32.into()).ok_or_else(nobody)
    }

    fn set_property(&self, _: &str, _: MessageItem, _: &Caller<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_property_whose_changes_cannot_be_told_is_logged_once_however_often_it_is_written() {
    let before = logged("'org.example.Contrary1.Mood' has changed");
    let world = World::start();
    world.door.register_interface(Box::new(Contrary)).unwrap();
    let program = world.authenticated("keeper", &["*"]);
    let value = MessageItem::Variant(Box::new(3u32.into()));
    let args = ["org.example.Contrary1".into(), "Mood".into(), value];
    for _ in 0..20 {
        program.call("org.freedesktop.DBus.Properties", "Set", &args).unwrap();
    }
    assert_eq!(logged("'org.example.Contrary1.Mood' has changed") - before, 1);
    world.serves_neighbours();
}
