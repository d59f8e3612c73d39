//! The manager: it starts every part of a hub as the settings say, and ends them. It composes; it routes nothing.

mod clients;
mod running;
mod shelf;

use std::sync::Arc;

use visorbus_auth::{AuthenticationProvider, AuthorizationProvider};
use visorbus_hub::{BoxedHandler, Error, HubHandle, OwnedMessage, Result};

use crate::settings::Settings;
use running::Running;
use shelf::Shelf;

/// One hub with all that the settings ask for: its socket, its port, its name on a bus, the boards' links, and handlers.
///
/// ```no_run
/// use visorbus::{IpcManager, Settings};
///
/// let mut manager = IpcManager::new(Settings::default())?;
/// manager.initialize()?;
/// // It serves until it is shut down or dropped.
/// manager.shutdown()?;
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
pub struct IpcManager {
    settings: Settings,
    /// `None`: keys, accounts and policy from the files that the settings name.
    providers: Option<Providers>,
    shelf: Shelf,
    running: Option<Running>,
}

impl IpcManager {
    /// A manager of a hub whose keys, accounts and policy are in the files that the settings name. Nothing is started and
    /// no file is touched.
    ///
    /// # Errors
    /// `Message` when settings do not go together.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.validate()?;
        Ok(Self { settings, providers: None, shelf: Shelf::default(), running: None })
    }

    /// As [`IpcManager::new`], for a hub whose program itself says who somebody is and what they may do. No file of keys,
    /// accounts or policy is read then, and boards have no link keys.
    ///
    /// # Errors
    /// As [`IpcManager::new`].
    pub fn with_providers(
        settings: Settings,
        auth: Arc<dyn AuthenticationProvider>,
        policy: Arc<dyn AuthorizationProvider>,
    ) -> Result<Self> {
        Ok(Self { providers: Some(Providers { auth, policy }), ..Self::new(settings)? })
    }

    /// Starts the hub and everything that the settings ask for. Nothing to do where it runs already. A bus or a board that
    /// is not there is waited for, and is no error.
    ///
    /// # Errors
    /// What the first part that could not be started says, with that part's name; whatever was started before it is ended
    /// again, and it may be tried once more.
    pub fn initialize(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let running = Running::start(&self.settings, self.providers.as_ref(), &self.shelf)?;
        self.running = Some(running);
        Ok(())
    }

    /// Serves the component `handler.id()`, on every transport at once: from now on, or from [`IpcManager::initialize`] on.
    /// The manager keeps the handler: one that was shut down and is initialized again has it again.
    ///
    /// # Errors
    /// `Message` when the id is no component's name or is taken; `Connection` when the hub has ended by itself.
    pub fn register_handler(&mut self, handler: BoxedHandler) -> Result<()> {
        let lent = self.shelf.put(handler)?;
        let Some(running) = &self.running else { return Ok(()) };
        let id = lent.id().to_owned();
        running.handle().register_handler(lent).inspect_err(|_| {
            self.shelf.remove(&id);
        })
    }

    /// Serves the component `id` no more, and drops its handler.
    ///
    /// # Errors
    /// `Message` when no handler has this id; `Connection` when the hub has ended by itself.
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

    /// The hub.
    ///
    /// # Errors
    /// `Connection` when the manager does not run.
    pub fn handle(&self) -> Result<HubHandle> {
        self.running.as_ref().map(Running::handle).ok_or_else(not_running)
    }

    /// What it was started with.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether it runs.
    pub const fn is_initialized(&self) -> bool {
        self.running.is_some()
    }

    /// Says goodbye to everybody, lets what is under way come to its end, and takes everything away that was started:
    /// sockets, ports, names, threads. Nothing to do where it does not run.
    ///
    /// # Errors
    /// Why the hub had ended before.
    pub fn shutdown(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), Running::end)
    }
}

impl std::fmt::Debug for IpcManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IpcManager").field("initialized", &self.is_initialized()).finish_non_exhaustive()
    }
}

/// Who says who somebody is and what they may do, where a program says so itself.
#[derive(Clone)]
struct Providers {
    auth: Arc<dyn AuthenticationProvider>,
    policy: Arc<dyn AuthorizationProvider>,
}

fn not_running() -> Error {
    Error::Connection("the manager does not run: call initialize() first".to_owned())
}
