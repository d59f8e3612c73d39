//! A lamp on the desktop bus: an interface with a method, a property that can be written, and a signal.
//!
//! ```text
//! $ cargo run -p visorbus-dbus --example lamp              # or with an address: lamp unix:path=/tmp/bus
//! $ busctl --user introspect org.example.Lamp /org/example/Lamp org.example.Lamp1
//! $ busctl --user call org.example.Lamp /org/example/Lamp org.example.Lamp1 Toggle
//! $ busctl --user set-property org.example.Lamp /org/example/Lamp org.example.Lamp1 Brightness y 80
//! ```

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, mpsc};

use visorbus_auth::{Accounts, KeyFile, Policy, Store};
use visorbus_core::dispatch::Caller;
use visorbus_dbus::{
    BusAddress, DBusInterface, DBusMethod, DBusProperty, DBusPropertyAccess, DBusService, DBusSignal,
    MessageItem,
};
use visorbus_hub::{Error, HubConfig, Result};

fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    let bus = std::env::args().nth(1).unwrap_or_else(|| "session".to_owned());
    let (switched, news) = mpsc::channel();
    let mut service = serve(bus.parse().map_err(Error::Message)?, switched)?;
    // Whoever listens hears of it; the method itself has only its caller to answer.
    for is_on in news {
        service.emit_signal(INTERFACE, "Switched", &[is_on.into()])?;
    }
    service.stop()
}

/// The lamp on `bus`; each time that it is switched, `switched` is told.
pub(crate) fn serve(bus: BusAddress, switched: mpsc::Sender<bool>) -> Result<DBusService> {
    // Whoever runs this may write the brightness; everybody may switch. Keys and accounts of a real service are files.
    let policy = Policy::parse(&format!(
        "[[unix]]\nuid = {}\nsubject = \"owner\"\nscopes = [\"request:org.example.lamp1/**\"]",
        nix::unistd::Uid::effective()
    ));
    let policy = Arc::new(policy.map_err(|e| Error::Message(e.to_string()))?);
    let keys = KeyFile::in_memory(1, [7; 32]);
    let accounts = Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy));
    let config = HubConfig::with_providers(Arc::new(accounts), policy);

    let mut service = DBusService::new("org.example.Lamp", "/org/example/Lamp", config)?;
    service.set_bus(bus)?;
    service.register_interface(Box::new(Lamp {
        is_on: AtomicBool::new(false),
        brightness: AtomicU8::new(50),
        switched,
    }))?;
    service.start()?;
    Ok(service)
}

struct Lamp {
    is_on: AtomicBool,
    brightness: AtomicU8,
    switched: mpsc::Sender<bool>,
}

impl DBusInterface for Lamp {
    fn name(&self) -> &str {
        INTERFACE
    }

    fn methods(&self) -> Vec<DBusMethod> {
        vec![DBusMethod {
            name: "Toggle".to_owned(),
            input_signature: String::new(),
            output_signature: "b".to_owned(),
            description: "Switches the lamp; says whether it is on now.".to_owned(),
            requires_auth: false,
        }]
    }

    fn signals(&self) -> Vec<DBusSignal> {
        vec![DBusSignal {
            name: "Switched".to_owned(),
            signature: "b".to_owned(),
            description: "Whether the lamp is on now.".to_owned(),
            requires_auth: false,
        }]
    }

    fn properties(&self) -> Vec<DBusProperty> {
        vec![DBusProperty {
            name: "Brightness".to_owned(),
            signature: "y".to_owned(),
            description: "In percent.".to_owned(),
            access: DBusPropertyAccess::ReadWrite,
            requires_auth_read: false,
            requires_auth_write: true,
        }]
    }

    /// Nothing here takes long.
    fn may_block(&self) -> bool {
        false
    }

    // The service has checked that there is such a method, its arguments, and that the caller may.
    fn handle_method_call(
        &self,
        _method_name: &str,
        _args: &[MessageItem],
        _caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>> {
        let is_on = !self.is_on.fetch_xor(true, Ordering::Relaxed);
        // Where nobody tells of it any more, the lamp is switched all the same.
        let _ = self.switched.send(is_on);
        Ok(vec![is_on.into()])
    }

    fn get_property(&self, _property_name: &str, _caller: &Caller<'_>) -> Result<MessageItem> {
        Ok(self.brightness.load(Ordering::Relaxed).into())
    }

    fn set_property(&self, _property_name: &str, value: MessageItem, _caller: &Caller<'_>) -> Result<()> {
        match value {
            MessageItem::Byte(percent) if percent <= 100 => {
                self.brightness.store(percent, Ordering::Relaxed);
                Ok(())
            }
            other => Err(Error::Message(format!("{other:?} is beyond 100 percent"))),
        }
    }
}

const INTERFACE: &str = "org.example.Lamp1";
