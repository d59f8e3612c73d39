//! The interface that the tests register: some of everything, and some of what no interface should do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use visorbus_core::auth::Grant;
use visorbus_core::dispatch::Caller;
use visorbus_dbus::{DBusInterface, DBusMethod, DBusProperty, DBusPropertyAccess, DBusSignal, MessageItem};
use visorbus_hub::{Error, Result};

pub(crate) const NAME: &str = "org.example.Thermostat1";

/// What stands behind the interface, for the test to look at.
#[derive(Clone, Default)]
pub(crate) struct Room {
    target: Arc<Mutex<f64>>,
    /// How often a method or a property of it ran.
    pub(crate) runs: Arc<AtomicUsize>,
}

pub(crate) struct Thermostat {
    name: &'static str,
    room: Room,
    /// `Stuck` returns when something comes.
    release: Mutex<Receiver<()>>,
}

impl Thermostat {
    /// The interface, and what lets `Stuck` return, also when it is dropped.
    pub(crate) fn new(room: &Room) -> (Box<Self>, SyncSender<()>) {
        Self::called(NAME, room)
    }

    pub(crate) fn called(name: &'static str, room: &Room) -> (Box<Self>, SyncSender<()>) {
        let (send, receive) = sync_channel(8);
        (Box::new(Self { name, room: room.clone(), release: Mutex::new(receive) }), send)
    }
}

impl DBusInterface for Thermostat {
    fn name(&self) -> &str {
        self.name
    }

    fn methods(&self) -> Vec<DBusMethod> {
        [
            ("Add", "ii", "i", false),
            ("Who", "", "s", true),
            ("WhoIfAny", "", "s", false),
            ("Echo", "sa{sv}(yd)ay", "sa{sv}(yd)ay", false),
            ("AnswersWrong", "", "u", false),
            ("AnswersTooMuch", "", "u", false),
            ("Fails", "s", "", false),
            ("Panics", "", "", false),
            ("Stuck", "", "s", true),
        ]
        .map(|(name, takes, gives, requires_auth)| DBusMethod {
            name: name.to_owned(),
            input_signature: takes.to_owned(),
            output_signature: gives.to_owned(),
            description: format!("What {name} does."),
            requires_auth,
        })
        .into()
    }

    fn signals(&self) -> Vec<DBusSignal> {
        [("Tick", "u", false), ("TargetReached", "ds", true)]
            .map(|(name, signature, requires_auth)| DBusSignal {
                name: name.to_owned(),
                signature: signature.to_owned(),
                description: format!("What {name} tells."),
                requires_auth,
            })
            .into()
    }

    fn properties(&self) -> Vec<DBusProperty> {
        use DBusPropertyAccess::{Read, ReadWrite, Write};
        [
            ("Target", "d", ReadWrite, false, true),
            ("Owner", "s", Read, true, false),
            ("Code", "s", ReadWrite, true, true),
            ("Pin", "u", Write, false, true),
            ("Broken", "u", Read, false, false),
        ]
        .map(|(name, signature, access, requires_auth_read, requires_auth_write)| DBusProperty {
            name: name.to_owned(),
            signature: signature.to_owned(),
            description: format!("What {name} is."),
            access,
            requires_auth_read,
            requires_auth_write,
        })
        .into()
    }

    fn handle_method_call(
        &self,
        method_name: &str,
        args: &[MessageItem],
        caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>> {
        self.room.runs.fetch_add(1, Ordering::SeqCst);
        match (method_name, args) {
            ("Add", [MessageItem::Int32(a), MessageItem::Int32(b)]) => match a.checked_add(*b) {
                Some(sum) => Ok(vec![sum.into()]),
                None => Err(Error::Message(format!("{a} and {b} are too much together"))),
            },
            ("Who" | "WhoIfAny", _) => Ok(vec![caller.grant.map_or("nobody", Grant::subject).into()]),
            ("Echo", args) => Ok(args.to_vec()),
            ("AnswersWrong", _) => Ok(vec!["seven".into()]),
            ("AnswersTooMuch", _) => Ok(vec![7u32.into(), 8u32.into()]),
            ("Fails", [MessageItem::Str(why)]) => Err(match why.as_str() {
                "busy" => Error::Timeout("it is busy".to_owned()),
                "rule" => Error::Authorization("not after ten".to_owned()),
                other => Error::Message(other.to_owned()),
            }),
            ("Panics", _) => panic!("as the test wants it"),
            ("Stuck", _) => {
                // The end of the test lets it go too.
                let _ = self.release.lock().unwrap().recv();
                Ok(vec!["late".into()])
            }
            (name, args) => panic!("{name} was called with {args:?}"),
        }
    }

    fn get_property(&self, property_name: &str, caller: &Caller<'_>) -> Result<MessageItem> {
        self.room.runs.fetch_add(1, Ordering::SeqCst);
        Ok(match property_name {
            "Target" => (*self.room.target.lock().unwrap()).into(),
            "Owner" => caller.grant.map_or("nobody", Grant::subject).into(),
            "Code" => "1234".into(),
            "Broken" => "no number".into(),
            other => panic!("{other} was read"),
        })
    }

    fn set_property(&self, property_name: &str, value: MessageItem, caller: &Caller<'_>) -> Result<()> {
        self.room.runs.fetch_add(1, Ordering::SeqCst);
        assert!(caller.grant.is_some(), "all that can be written here requires authentication");
        match (property_name, value) {
            ("Target", MessageItem::Double(value)) if value > 30.0 => {
                Err(Error::Message("30 degrees at most".to_owned()))
            }
            ("Target", MessageItem::Double(value)) => {
                // What is written is not always what it then is.
                *self.room.target.lock().unwrap() = value.max(5.0);
                Ok(())
            }
            ("Code", MessageItem::Str(_)) | ("Pin", MessageItem::UInt32(_)) => Ok(()),
            (name, value) => panic!("{name} was set to {value:?}"),
        }
    }
}
