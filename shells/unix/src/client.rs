//! The client of a hub on a Unix socket.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use visorbus_client::{Client, ClientConfig};
use visorbus_hub::Result;

use crate::address::address;
use crate::wire::UnixDial;

/// A [`Client`] of a hub on a Unix socket: see there for what it does. Cloning it is cheap: clones are the same client.
///
/// Credentials are shown only to a hub of this user or of root, or of a system's user in a directory where only root or
/// that user could have put its socket.
///
/// ```no_run
/// use visorbus_hub::{OwnedMessage, OwnedPayload};
/// use visorbus_unix::{Credentials, UnixSocketClient};
///
/// let client = UnixSocketClient::new("/run/visorbus/hub.sock", "panel")?;
/// client.connect()?;
/// client.authenticate(&Credentials::Token("vb1.…".parse()?))?;
/// let answer = client.send_request(OwnedMessage::request("imu/info", OwnedPayload::Empty), None)?;
/// println!("{:?}", answer.payload);
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixSocketClient {
    client: Client,
    dial: Arc<UnixDial>,
}

impl UnixSocketClient {
    /// A client called `client_id` of the hub at `path`, not connected yet.
    ///
    /// # Errors
    /// `Message` when `path` cannot be a socket's or `client_id` cannot name a client.
    pub fn new(path: impl Into<PathBuf>, client_id: &str) -> Result<Self> {
        Self::with_config(path, client_id, ClientConfig::default())
    }

    /// As [`UnixSocketClient::new`], with `config`.
    ///
    /// # Errors
    /// `Message` when `path` cannot be a socket's or `client_id` cannot name a client.
    pub fn with_config(path: impl Into<PathBuf>, client_id: &str, config: ClientConfig) -> Result<Self> {
        let dial = Arc::new(UnixDial(path.into()));
        address(dial.path())?;
        let client = Client::new(Arc::<UnixDial>::clone(&dial), client_id, config)?;
        Ok(Self { client, dial })
    }

    /// The hub's socket.
    pub fn path(&self) -> &Path {
        self.dial.path()
    }
}

impl Deref for UnixSocketClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::fmt::Debug for UnixSocketClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnixSocketClient")
            .field("client_id", &self.client_id())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
