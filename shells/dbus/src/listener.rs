//! A bus as the hub sees it: something to wait on that brings a peer for every program that calls.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use dbus::Message;
use dbus::strings::{BusName, Path};
use visorbus_hub::{Error, HubHandle, HubLink, Listener, Result};

use crate::bus::Shared;
use crate::config::DBusConfig;
use crate::router::Router;

/// A service on a bus: give it to a hub ([`HubHandle::listen`]). It connects by itself, also when the bus comes later or
/// starts again, and asks for its name until it has it; nothing else in the hub waits for that. Dropping it leaves the bus.
///
/// Every program that calls has a session of its own in the hub, bound to its unique name: it proves itself by the user
/// that the bus tells of, or by a token, and its session ends when it leaves the bus.
pub struct DBusListener {
    shared: Arc<Shared>,
    /// What the bus has brought in this turn of the hub's is being handed over.
    hands_over: bool,
}

impl DBusListener {
    /// A service for the hub that `hub` is of, and what it is seen through while the hub has it. No bus is spoken to before
    /// the hub has the listener.
    ///
    /// # Errors
    /// `Message` when the service's name, its path or a limit in `config` is none; `Internal` when the system gives no
    /// descriptors.
    pub fn new(config: DBusConfig, hub: &HubHandle) -> Result<(Self, DBusDoor)> {
        check(&config)?;
        let shared = Arc::new(Shared::new(config, hub).map_err(|e| {
            Error::Internal(format!("there is nothing to wait for the bus on, the system says: {e}"))
        })?);
        let door = DBusDoor { shared: Arc::clone(&shared), hub: hub.clone() };
        Ok((Self { shared, hands_over: false }, door))
    }
}

impl Listener for DBusListener {
    fn fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }

    fn accept(&mut self) -> io::Result<Option<Box<dyn HubLink>>> {
        if !self.hands_over {
            self.shared.turn();
        }
        let link = self.shared.take_link();
        self.hands_over = link.is_some();
        Ok(link)
    }

    fn carries_links(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let config = self.shared.config();
        format!("{}, as {}", config.bus, config.service_name)
    }
}

impl Drop for DBusListener {
    fn drop(&mut self) {
        // A door that somebody has kept must not keep the bus.
        self.shared.close();
    }
}

impl std::fmt::Debug for DBusListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DBusListener({})", self.describe())
    }
}

/// A service on a bus as seen from other threads. Cloning it is cheap; it keeps no name on the bus.
#[derive(Clone)]
pub struct DBusDoor {
    shared: Arc<Shared>,
    hub: HubHandle,
}

impl DBusDoor {
    /// What is so at this moment.
    pub fn state(&self) -> DBusState {
        self.shared.state()
    }

    /// What has been so far.
    pub fn statistics(&self) -> DBusStatistics {
        self.shared.statistics()
    }

    /// Sends what is no answer to anybody, signals for example.
    ///
    /// # Errors
    /// `Connection` when there is no bus now, or it does not take what waits for it already.
    pub(crate) fn send(&self, messages: Vec<Message>) -> Result<()> {
        self.shared.send(messages)
    }

    /// The hub that has the service.
    pub(crate) const fn hub(&self) -> &HubHandle {
        &self.hub
    }

    /// Asks or changes what is known of objects.
    pub(crate) fn with_router<T>(&self, ask: impl FnOnce(&mut Router) -> T) -> T {
        self.shared.with_router(ask)
    }
}

impl std::fmt::Debug for DBusDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.shared.config();
        write!(f, "DBusDoor({}, {})", config.bus, config.service_name)
    }
}

/// How a service stands with its bus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DBusState {
    /// Which bus, for people to read.
    pub bus: String,
    /// The well-known name that it asks for.
    pub service_name: String,
    /// The object that stands for the hub.
    pub object_path: String,
    /// The name that the bus gave this connection; `None` while there is no bus.
    pub unique_name: Option<String>,
    /// Whether the well-known name is the service's at this moment.
    pub owns_name: bool,
    /// Why there is no bus, why it is of no use (it takes nothing, or does not tell who calls), or why the name is not the
    /// service's; `None` when all is well, and before that is known.
    pub trouble: Option<String>,
}

/// What a service on a bus has done so far, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DBusStatistics {
    /// Times a bus was connected to.
    pub connects: u64,
    /// Programs of the bus that something is known of now.
    pub senders: usize,
    /// Those of them that have a session now.
    pub sessions: usize,
    /// Calls that came.
    pub calls: u64,
    /// Calls that wait for their answers now.
    pub waiting: usize,
    /// Calls that were refused because their sender, or all senders, had too much waiting.
    pub refused: u64,
    /// Messages that could not be read as any, or on which something broke; nothing else was harmed by them.
    pub faults: u64,
    /// Bytes that wait for the bus to take them now.
    pub output_bytes: usize,
}

fn check(config: &DBusConfig) -> Result<()> {
    let name = &config.service_name;
    if name.starts_with(':') || name.contains('\0') || BusName::new(name.as_str()).is_err() {
        return Err(Error::Message(format!(
            "{name:?} cannot be the name of a service on a bus: write it as org.visorbus.Bus1"
        )));
    }
    let path = &config.object_path;
    if path.contains('\0') || Path::new(path.as_str()).is_err() {
        return Err(Error::Message(format!(
            "{path:?} cannot be the path of an object: write it as /org/visorbus/Bus1"
        )));
    }
    if [config.max_senders, config.calls_per_sender, config.output_bytes].contains(&0) || config.retry_ms == 0
    {
        return Err(Error::Message(
            "no limit of a service on a bus can be 0: nobody could call it".to_owned(),
        ));
    }
    Ok(())
}
