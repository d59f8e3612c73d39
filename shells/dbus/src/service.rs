//! A hub with a name on a bus, on a thread of its own, or one name more of a hub that runs already.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use dbus::arg::messageitem::MessageItem;
use visorbus_hub::{Error, HubConfig, HubHandle, HubServer, Result};

use crate::config::{BusAddress, DBusConfig};
use crate::described::Described;
use crate::interface::DBusInterface;
use crate::listener::{DBusDoor, DBusListener, DBusState, DBusStatistics};
use crate::registered::{DoorSlot, prepare};

/// Serves a bus: whoever is on it reaches what the hub reaches, by the same rules. Handlers, messages to programs and the
/// hub's handle are those of the [`HubServer`] that it is.
///
/// ```no_run
/// use visorbus_core::auth::{Key, KeyRing, Slot};
/// use visorbus_dbus::{BusAddress, DBusService};
/// use visorbus_hub::HubConfig;
///
/// let mut keys = KeyRing::new();
/// keys.add(Slot::root(1, Key::new([7; 32]))).expect("an empty ring has room");
/// let mut service = DBusService::new("org.visorbus.Bus1", "/org/visorbus/Bus1", HubConfig::new(keys, 1))?;
/// service.set_bus(BusAddress::System)?;
/// service.start()?;
/// println!("serving {:?}", service.state());
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
///
/// `examples/lamp.rs` of this crate is a whole program with an interface of its own.
#[derive(Debug)]
pub struct DBusService {
    server: HubServer,
    config: DBusConfig,
    /// What was registered before the start.
    described: Vec<Arc<Described>>,
    door: DoorSlot,
}

impl DBusService {
    /// A service called `service_name` whose object is at `object_path`, on the session bus unless its
    /// [configuration](DBusService::set_config) says otherwise. It does not serve yet.
    ///
    /// # Errors
    /// What [`HubServer::new`] says. Whether name and path are any is said by [`DBusService::start`].
    pub fn new(
        service_name: impl Into<String>,
        object_path: impl Into<String>,
        config: HubConfig,
    ) -> Result<Self> {
        Ok(Self::of(HubServer::new(config)?, service_name.into(), object_path.into()))
    }

    /// As [`DBusService::new`], on a hub that runs already, as [`HubServer::over`] says. The interfaces that it shows are
    /// handlers of the hub as long as it serves.
    pub fn over(service_name: impl Into<String>, object_path: impl Into<String>, handle: HubHandle) -> Self {
        Self::of(HubServer::over(handle), service_name.into(), object_path.into())
    }

    fn of(server: HubServer, service_name: String, object_path: String) -> Self {
        let config = DBusConfig { service_name, object_path, ..DBusConfig::default() };
        Self { server, config, described: Vec::new(), door: DoorSlot::default() }
    }

    /// Everything about the bus at once, name and path too, in place of what was set before.
    ///
    /// # Errors
    /// `Message` when the service was started already.
    pub fn set_config(&mut self, config: DBusConfig) -> Result<()> {
        self.change(|old| *old = config)
    }

    /// Serves this bus.
    ///
    /// # Errors
    /// `Message` when the service was started already.
    pub fn set_bus(&mut self, bus: BusAddress) -> Result<()> {
        self.change(|config| config.bus = bus)
    }

    /// Serves on a thread of its own from now on. That the bus is not there, or that the name is another's, is no error: it
    /// is said in the log and in [`DBusService::state`], and tried again until it succeeds.
    ///
    /// # Errors
    /// `Message` when it was started before; what [`DBusListener::new`] says, and then it may be tried again.
    pub fn start(&mut self) -> Result<()> {
        let hub = self.server.handle();
        let Self { server, config, described, door: slot } = self;
        server.start(|| {
            let (listener, door) = DBusListener::new(config.clone(), &hub)?;
            described.drain(..).try_for_each(|described| door.show(described))?;
            // Filled here alone, and what starts once cannot start again.
            let _ = slot.set(door);
            Ok(Box::new(listener))
        })
    }

    /// Ends every program's session and leaves the bus; of a hub of its own, waits for its end. A hub that ran before serves
    /// the interfaces no more. Nothing to do where it does not run.
    ///
    /// # Errors
    /// Why the hub had ended before, where it is its own.
    pub fn stop(&mut self) -> Result<()> {
        let outcome = self.server.stop();
        let mut shown = std::mem::take(&mut self.described);
        shown.extend(self.door.get().map(DBusDoor::take_interfaces).unwrap_or_default());
        let hub = self.server.handle();
        for described in shown {
            // Where the hub has ended, its handlers have too.
            let _ = hub.unregister_handler(&described.component);
        }
        outcome
    }

    /// Shows an interface on the service's object. What is registered before the start is there from the moment that the
    /// service has its name.
    ///
    /// # Errors
    /// `Message` when a name, a signature or an address of it is none, or it is there already: the text says which;
    /// `Connection` when the service has stopped.
    pub fn register_interface(&mut self, interface: Box<dyn DBusInterface>) -> Result<()> {
        if let Some(door) = self.door.get() {
            return door.register_interface(interface);
        }
        let (described, handler) = prepare(interface, Arc::clone(&self.door))?;
        self.server.register_handler(handler)?;
        self.described.push(described);
        Ok(())
    }

    /// Shows an interface no more. Calls that run already are answered.
    ///
    /// # Errors
    /// `Message` when no interface has this name; `Connection` when the service has stopped.
    pub fn unregister_interface(&mut self, name: &str) -> Result<()> {
        if let Some(door) = self.door.get() {
            return door.unregister_interface(name);
        }
        let found = self.described.iter().position(|described| described.name == name);
        let found =
            found.ok_or_else(|| Error::Message(format!("no interface called '{name}' is registered")))?;
        let described = self.described.swap_remove(found);
        self.server.unregister_handler(&described.component)
    }

    /// Tells of something, as [`DBusDoor::emit_signal`] says.
    ///
    /// # Errors
    /// As [`DBusDoor::emit_signal`]; `Connection` when the service does not serve yet.
    pub fn emit_signal(&self, interface: &str, signal: &str, args: &[MessageItem]) -> Result<()> {
        self.started()?.emit_signal(interface, signal, args)
    }

    /// Tells that a property has changed by itself, as [`DBusDoor::property_changed`] says.
    ///
    /// # Errors
    /// As [`DBusDoor::property_changed`]; `Connection` when the service does not serve yet.
    pub fn property_changed(&self, interface: &str, property: &str, value: &MessageItem) -> Result<()> {
        self.started()?.property_changed(interface, property, value)
    }

    /// How it stands with its bus; `None` while it does not serve yet.
    pub fn state(&self) -> Option<DBusState> {
        self.door.get().map(DBusDoor::state)
    }

    /// What it has done so far; nothing while it does not serve yet.
    pub fn statistics(&self) -> DBusStatistics {
        self.door.get().map(DBusDoor::statistics).unwrap_or_default()
    }

    /// What other threads use it through; `None` while it does not serve yet.
    pub fn door(&self) -> Option<DBusDoor> {
        self.door.get().cloned()
    }

    fn change(&mut self, change: impl FnOnce(&mut DBusConfig)) -> Result<()> {
        if self.door.get().is_some() {
            return Err(Error::Message(
                "this service was started already: set it up before start()".to_owned(),
            ));
        }
        change(&mut self.config);
        Ok(())
    }

    fn started(&self) -> Result<&DBusDoor> {
        let text = "this service does not serve yet: call start() first";
        self.door.get().ok_or_else(|| Error::Connection(text.to_owned()))
    }
}

impl Deref for DBusService {
    type Target = HubServer;

    fn deref(&self) -> &HubServer {
        &self.server
    }
}

impl DerefMut for DBusService {
    fn deref_mut(&mut self) -> &mut HubServer {
        &mut self.server
    }
}

impl Drop for DBusService {
    fn drop(&mut self) {
        // Nobody could be told why the hub had ended before.
        let _ = self.stop();
    }
}
