//! The manager: it starts every part of a hub as the configuration says, follows it when it changes, and ends it. It
//! composes; it routes nothing.

mod clients;
mod control;
mod follow;
mod handler;
mod identity;
mod interfaces;
mod links;
mod reload;
mod running;
mod scrape;
mod services;
mod shelf;
mod status;
mod ways;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use visorbus_auth::{AuthenticationProvider, AuthorizationProvider};
use visorbus_dbus::DBusService;
use visorbus_hub::{BoxedHandler, Error, HubHandle, OwnedMessage, Result, unix_micros};
use visorbus_services::Listening;
use visorbus_services::config::ConfigManager;
use visorbus_services::hardware::HardwareManager;
use visorbus_services::monitoring::MonitoringManager;
use visorbus_unix::UnixSocketServer;
use visorbus_websocket::WebSocketServer;

use crate::log::Log;
use crate::settings::Settings;
use control::Requests;
use identity::Providers;
use reload::InForce;
use running::{Running, Start};
use shelf::Shelf;
use status::SharedStatus;
use ways::Inherited;

pub use control::ManagerControl;
pub use follow::ManagerEvent;
pub use handler::{GetStatus, Reload, Shutdown};
pub use reload::{Refused, Reloaded};
pub use status::{ManagerStatus, PartStatus};

/// One hub with all that its configuration asks for: its socket, its port, its name on a bus, the boards' links, the standard
/// services, and handlers of the program's own.
///
/// ```no_run
/// use visorbus::{IpcManager, settings};
/// use visorbus_services::config::{ConfigManager, Overrides};
///
/// let config = ConfigManager::open(settings::schema(), "/etc/visorbus/visorbus.toml", Overrides::none())?;
/// let mut manager = IpcManager::new(config)?;
/// manager.initialize()?;
/// // Until somebody says `manager/shutdown`, or `ManagerControl::shutdown`.
/// manager.serve(|_| {})?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `examples/lantern.rs` of this crate is a whole program with a handler and settings of its own.
pub struct IpcManager {
    config: ConfigManager,
    /// What is in force: what a hub takes up at its start alone is as it was then.
    settings: Settings,
    in_force: InForce,
    /// What the settings ask for that is not so.
    pending: Reloaded,
    /// `None`: keys, accounts and policy from the files that the settings name.
    providers: Option<Providers>,
    inherited: Inherited,
    log: Option<Log>,
    shelf: Shelf,
    status: SharedStatus,
    started_at_us: u64,
    hubs: u64,
    running: Option<Running>,
    control: ManagerControl,
    requests: Requests,
    _changes: Listening,
}

impl IpcManager {
    /// A manager of a hub as `config` says, whose schema has the categories of [`settings::schema`](crate::settings::schema).
    /// Nothing is started, and no other file is touched.
    ///
    /// # Errors
    /// `Message` when settings do not go together.
    pub fn new(config: ConfigManager) -> Result<Self> {
        let settings = read(&config)?;
        let status = SharedStatus::default();
        let (control, requests) = Requests::new(status.clone());
        let told = control.clone();
        let changes = config.on_event(move |_| told.changed());
        Ok(Self {
            in_force: InForce::all(&config.values()),
            config,
            settings,
            pending: Reloaded::default(),
            providers: None,
            inherited: Inherited::default(),
            log: None,
            shelf: Shelf::default(),
            status,
            started_at_us: 0,
            hubs: 0,
            running: None,
            control,
            requests,
            _changes: changes,
        })
    }

    /// As [`IpcManager::new`], for a hub whose program itself says who somebody is and what they may do. No file of keys,
    /// accounts or policy is read then, and boards have no link keys.
    ///
    /// # Errors
    /// As [`IpcManager::new`].
    pub fn with_providers(
        config: ConfigManager,
        auth: Arc<dyn AuthenticationProvider>,
        policy: Arc<dyn AuthorizationProvider>,
    ) -> Result<Self> {
        let mut manager = Self::new(config)?;
        manager.providers = Some(Providers { auth, policy });
        Ok(manager)
    }

    /// Has the category `log` hold for `log` from now on.
    pub fn set_log(&mut self, log: Log) {
        self.log = Some(log);
    }

    /// Serves sockets that another process has opened, systemd for example, in the place of those of the settings: where
    /// they are is that one's to say, whether they are served the settings'. For the next [`IpcManager::initialize`].
    pub fn set_inherited(&mut self, unix: Option<UnixListener>, websocket: Option<TcpListener>) {
        self.inherited = Inherited { unix, websocket };
    }

    /// Starts the hub and everything that the configuration asks for. Nothing to do where it runs already. A bus or a board
    /// that is not there is waited for, and is no error. After [`IpcManager::shutdown`] it may be started again.
    ///
    /// # Errors
    /// What the first part that could not be started says, with that part's name; whatever was started before it is ended
    /// again, and it may be tried once more.
    pub fn initialize(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        self.settings = read(&self.config)?;
        self.in_force = InForce::all(&self.config.values());
        self.pending = Reloaded::default();
        self.hubs += 1;
        let running = Running::start(&Start {
            number: self.hubs,
            config: &self.config,
            settings: &self.settings,
            providers: self.providers.as_ref(),
            shelf: &self.shelf,
            inherited: &self.inherited,
            control: &self.control,
        })?;
        self.running = Some(running);
        self.requests.expect();
        self.started_at_us = unix_micros();
        self.publish_status();
        Ok(())
    }

    /// Serves the component `handler.id()`, on every transport at once: from now on, or from [`IpcManager::initialize`] on.
    /// The manager keeps the handler: one that was shut down and is initialized again has it again.
    ///
    /// # Errors
    /// `Message` when the id is no component's name or is taken; `Connection` when the hub has ended by itself.
    pub fn register_handler(&mut self, handler: BoxedHandler) -> Result<()> {
        let id = handler.id().to_owned();
        let lent = self.shelf.put(handler)?;
        let Some(running) = &self.running else { return Ok(()) };
        running.handle().register_handler(lent).inspect_err(|_| {
            self.shelf.remove(&id);
        })
    }

    /// Serves the component `id` no more, and drops its handler.
    ///
    /// # Errors
    /// `Message` when no handler of the program's has this id; `Connection` when the hub has ended by itself.
    pub fn unregister_handler(&mut self, id: &str) -> Result<()> {
        if !self.shelf.remove(id) {
            return Err(Error::Message(format!("no handler is called '{id}'")));
        }
        match &self.running {
            Some(running) => running.handle().unregister_handler(id),
            None => Ok(()),
        }
    }

    /// Sends a notification to every authenticated client, whatever it came by.
    ///
    /// # Errors
    /// `Message` when the message is no notification, or for the first client that could not have it; `Connection` when
    /// the manager does not run.
    pub fn broadcast_message(&self, message: OwnedMessage) -> Result<()> {
        self.handle()?.broadcast_message(message)
    }

    /// The hub's socket; `None` where none is served.
    pub fn unix_socket_server(&self) -> Option<&UnixSocketServer> {
        self.running.as_ref()?.ways.unix.as_ref()
    }

    /// As [`IpcManager::unix_socket_server`], to be changed.
    pub fn unix_socket_server_mut(&mut self) -> Option<&mut UnixSocketServer> {
        self.running.as_mut()?.ways.unix.as_mut()
    }

    /// The hub's service on a bus; `None` where none is served.
    pub fn dbus_service(&self) -> Option<&DBusService> {
        self.running.as_ref()?.ways.dbus.as_ref()
    }

    /// As [`IpcManager::dbus_service`], to be changed: to have interfaces of the program's own, for example.
    pub fn dbus_service_mut(&mut self) -> Option<&mut DBusService> {
        self.running.as_mut()?.ways.dbus.as_mut()
    }

    /// The hub's port for WebSockets; `None` where none is served.
    pub fn websocket_server(&self) -> Option<&WebSocketServer> {
        self.running.as_ref()?.ways.websocket.as_ref()
    }

    /// As [`IpcManager::websocket_server`], to be changed.
    pub fn websocket_server_mut(&mut self) -> Option<&mut WebSocketServer> {
        self.running.as_mut()?.ways.websocket.as_mut()
    }

    /// The configuration.
    pub const fn config(&self) -> &ConfigManager {
        &self.config
    }

    /// The inventory of boards and devices; `None` where none is kept.
    pub fn hardware(&self) -> Option<&HardwareManager> {
        self.running.as_ref()?.services.hardware.as_ref()
    }

    /// What measures; `None` where nothing is measured.
    pub fn monitoring(&self) -> Option<&MonitoringManager> {
        self.running.as_ref()?.services.monitoring.as_ref()
    }

    /// The hub.
    ///
    /// # Errors
    /// `Connection` when the manager does not run.
    pub fn handle(&self) -> Result<HubHandle> {
        self.running.as_ref().map(Running::handle).ok_or_else(not_running)
    }

    /// The settings that are in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What other threads ask the manager by, while it [serves](IpcManager::serve).
    pub fn control(&self) -> ManagerControl {
        self.control.clone()
    }

    /// How the parts are. Before the start, all of it is empty.
    pub fn status(&self) -> ManagerStatus {
        self.status.status()
    }

    /// Whether it runs.
    pub const fn is_initialized(&self) -> bool {
        self.running.is_some()
    }

    /// Takes nobody in any more, lets what is under way come to its end for 3 s at most, says goodbye to everybody, and takes
    /// everything away that was started: sockets, ports, names, threads. Nothing to do where it does not run.
    ///
    /// # Errors
    /// `Timeout` when something was left undone; why the hub had ended before.
    pub fn shutdown(&mut self) -> Result<()> {
        let ended = self.running.take().map_or(Ok(()), Running::end);
        self.status.set(ManagerStatus::default(), None);
        ended
    }

    fn publish_status(&self) {
        let Some(running) = &self.running else { return };
        let own = self.providers.is_none();
        let path = |path: &std::path::Path| if own { path.display().to_string() } else { String::new() };
        let policy = running.policy();
        let status = ManagerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at_us: self.started_at_us,
            config_file: self.config.path().map(|file| file.display().to_string()).unwrap_or_default(),
            config_file_exists: false,
            key_file: path(&self.settings.auth.key_file),
            accounts_file: path(&self.settings.auth.accounts_file),
            policy_file: policy.map(|policy| policy.path().display().to_string()).unwrap_or_default(),
            policy_rules: policy.map_or(0, |policy| u32::try_from(policy.rules().len()).unwrap_or(u32::MAX)),
            parts: running.parts(),
            at_restart: self.pending.at_restart.clone(),
            refused: self.pending.refused.clone(),
        };
        self.status.set(status, Some(running.moving()));
    }
}

impl std::fmt::Debug for IpcManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcManager").field("initialized", &self.is_initialized()).finish_non_exhaustive()
    }
}

fn read(config: &ConfigManager) -> Result<Settings> {
    Settings::read(config).map_err(|e| Error::Message(e.to_string()))
}

fn not_running() -> Error {
    Error::Connection("the manager does not run: call initialize() first".to_owned())
}
