//! A hub with one Unix socket, on a thread of its own.

use std::path::{Path, PathBuf};

use visorbus_hub::{BoxedHandler, HubConfig, HubHandle, HubServer, OwnedMessage, Result};

use crate::address::address;
use crate::listener::UnixSocketListener;

/// Serves a Unix socket.
///
/// ```no_run
/// use visorbus_core::auth::{Key, KeyRing, Slot};
/// use visorbus_hub::HubConfig;
/// use visorbus_unix::UnixSocketServer;
///
/// let mut keys = KeyRing::new();
/// keys.add(Slot::root(1, Key::new([7; 32]))).expect("an empty ring has room");
/// let mut server = UnixSocketServer::new("/run/visorbus/hub.sock", HubConfig::new(keys, 1))?;
/// server.start()?;
/// // It serves until it is stopped or dropped.
/// server.stop()?;
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
pub struct UnixSocketServer {
    path: PathBuf,
    server: HubServer,
}

impl UnixSocketServer {
    /// A server at `path` that does not listen yet.
    ///
    /// # Errors
    /// `Message` when `path` cannot be a socket's, and what [`visorbus_hub::Hub::new`] says.
    pub fn new(path: impl Into<PathBuf>, config: HubConfig) -> Result<Self> {
        let path = path.into();
        address(&path)?;
        Ok(Self { path, server: HubServer::new(config)? })
    }

    /// Listens and serves from now on; see [`UnixSocketListener::bind`] for whose socket it replaces.
    ///
    /// # Errors
    /// `Message` when it was started before; what [`UnixSocketListener::bind`] says, after which it may be tried again.
    pub fn start(&mut self) -> Result<()> {
        let path = &self.path;
        self.server.start(|| Ok(Box::new(UnixSocketListener::bind(path)?)))
    }

    /// Says goodbye to every client, waits for the hub's end and removes the socket. Nothing to do where it does not
    /// run.
    ///
    /// # Errors
    /// Why the hub had ended before.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop()
    }

    /// Serves the component `handler.id()` in the hub.
    ///
    /// # Errors
    /// As [`HubServer::register_handler`].
    pub fn register_handler(&mut self, handler: BoxedHandler) -> Result<()> {
        self.server.register_handler(handler)
    }

    /// Stops serving the component `id`.
    ///
    /// # Errors
    /// As [`HubServer::unregister_handler`].
    pub fn unregister_handler(&mut self, id: &str) -> Result<()> {
        self.server.unregister_handler(id)
    }

    /// The names of the authenticated clients, sorted; none while it does not serve yet.
    ///
    /// # Errors
    /// `Connection` when the server has stopped.
    pub fn active_connections(&self) -> Result<Vec<String>> {
        self.server.active_connections()
    }

    /// Sends a notification to the client called `client_id`.
    ///
    /// # Errors
    /// As [`HubServer::send_message`].
    pub fn send_message(&self, client_id: &str, message: OwnedMessage) -> Result<()> {
        self.server.send_message(client_id, message)
    }

    /// Sends a notification to every authenticated client.
    ///
    /// # Errors
    /// As [`HubServer::broadcast_message`].
    pub fn broadcast_message(&self, message: OwnedMessage) -> Result<()> {
        self.server.broadcast_message(message)
    }

    /// The hub: for what a socket does not know of, such as taking tokens back and reading accounts and policy again.
    pub fn handle(&self) -> HubHandle {
        self.server.handle()
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for UnixSocketServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnixSocketServer").field("path", &self.path).finish_non_exhaustive()
    }
}
