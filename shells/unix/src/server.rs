//! A hub with one Unix socket, on a thread of its own, or one socket more of a hub that runs already.

use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use visorbus_hub::{Error, HubConfig, HubHandle, HubServer, Result};

use crate::address::address;
use crate::listener::UnixSocketListener;

/// Serves a Unix socket. Handlers, messages to clients and the hub's handle are those of the [`HubServer`] that it is.
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
    /// Who may connect beside this user.
    group: Option<u32>,
    /// A socket that another process has made.
    inherited: Option<UnixListener>,
    server: HubServer,
}

impl UnixSocketServer {
    /// A server at `path`, with a hub of its own, that does not listen yet.
    ///
    /// # Errors
    /// `Message` when `path` cannot be a socket's, and what [`visorbus_hub::Hub::new`] says.
    pub fn new(path: impl Into<PathBuf>, config: HubConfig) -> Result<Self> {
        let path = path.into();
        address(&path)?;
        Ok(Self { path, group: None, inherited: None, server: HubServer::new(config)? })
    }

    /// A server at `path` on a hub that runs already, as [`HubServer::over`] says, that does not listen yet.
    ///
    /// # Errors
    /// `Message` when `path` cannot be a socket's.
    pub fn over(path: impl Into<PathBuf>, handle: HubHandle) -> Result<Self> {
        let path = path.into();
        address(&path)?;
        Ok(Self { path, group: None, inherited: None, server: HubServer::over(handle) })
    }

    /// Lets the members of the group `gid` connect too, from the next start on; `None`: this user alone.
    pub const fn set_group(&mut self, gid: Option<u32>) {
        self.group = gid;
    }

    /// Listens on a socket that another process has made, as [`UnixSocketListener::from_inherited`] says, from the next start
    /// on; path and mode are that one's.
    ///
    /// # Errors
    /// `Message` when the socket has no path.
    pub fn set_inherited(&mut self, socket: UnixListener) -> Result<()> {
        let address = socket.local_addr().ok();
        let path = address.as_ref().and_then(|address| address.as_pathname());
        let text = "the inherited socket has no path";
        self.path = path.ok_or_else(|| Error::Message(text.to_owned()))?.to_owned();
        self.inherited = Some(socket);
        Ok(())
    }

    /// Listens and serves from now on; see [`UnixSocketListener::bind`] for whose socket it replaces.
    ///
    /// # Errors
    /// `Message` when it was started before; what [`UnixSocketListener::bind`], or for a group
    /// [`UnixSocketListener::bind_for_group`], says, after which it may be tried again.
    pub fn start(&mut self) -> Result<()> {
        let Self { path, group, inherited, server } = self;
        server.start(|| match (inherited.take(), group) {
            (Some(socket), _) => Ok(Box::new(UnixSocketListener::from_inherited(socket)?)),
            (None, Some(gid)) => Ok(Box::new(UnixSocketListener::bind_for_group(path, *gid)?)),
            (None, None) => Ok(Box::new(UnixSocketListener::bind(path)?)),
        })
    }

    /// Says goodbye to every client and removes the socket; of a hub of its own, waits for its end. Nothing to do where it
    /// does not run.
    ///
    /// # Errors
    /// Why the hub had ended before, where it is its own.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop()
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for UnixSocketServer {
    type Target = HubServer;

    fn deref(&self) -> &HubServer {
        &self.server
    }
}

impl DerefMut for UnixSocketServer {
    fn deref_mut(&mut self) -> &mut HubServer {
        &mut self.server
    }
}

impl std::fmt::Debug for UnixSocketServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnixSocketServer").field("path", &self.path).finish_non_exhaustive()
    }
}
