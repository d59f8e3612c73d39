//! One connection to a hub on a Unix socket that is driven by hand.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};

use visorbus_client::Connection;
use visorbus_hub::{Error, Result};

use crate::wire::{UnixDial, UnixWire};

/// A [`Connection`] to a hub on a Unix socket, for those who have an event loop of their own.
///
/// Wait until [`AsFd::as_fd`] is readable, then call [`Connection::receive_message`] until it says `None`; it also sends
/// what is due. Or let [`Connection::wait_message`] wait.
///
/// ```no_run
/// use std::time::Duration;
/// use visorbus_hub::{OwnedMessage, OwnedPayload};
/// use visorbus_unix::UnixSocketConnection;
///
/// let mut connection = UnixSocketConnection::connect("/run/visorbus/hub.sock", "panel")?;
/// let id = connection.send_message(OwnedMessage::request("imu/info", OwnedPayload::Empty))?;
/// let answer = connection.wait_message(Duration::from_secs(1))?;
/// assert_eq!(answer.id, id);
/// connection.close("done")?;
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixSocketConnection(Connection);

impl UnixSocketConnection {
    /// Connects to the hub at `path` as `client_id` and waits until it has answered the hello, at most five seconds.
    ///
    /// # Errors
    /// `Connection` when nobody serves there, `Message` when `client_id` cannot name a client, and what the hub says
    /// when it refuses the hello.
    pub fn connect(path: impl AsRef<Path>, client_id: &str) -> Result<Self> {
        let dial = UnixDial(path.as_ref().to_owned());
        Connection::open(&dial, client_id, Instant::now() + HANDSHAKE).map(Self)
    }

    /// Takes over a connected socket; the hello is sent by the first call that receives or waits.
    ///
    /// # Errors
    /// `Message` when `client_id` cannot name a client, `Connection` when the socket is not connected.
    pub fn new(stream: UnixStream, client_id: &str) -> Result<Self> {
        getsockopt(&stream, sockopt::PeerCredentials)
            .map_err(|e| Error::Connection(format!("the socket is not a connected Unix socket: {e}")))?;
        Connection::new(Arc::new(UnixWire::new(stream)), client_id, None).map(Self)
    }
}

impl Deref for UnixSocketConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for UnixSocketConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl AsFd for UnixSocketConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For the connection, the hello and its answer.
const HANDSHAKE: Duration = Duration::from_secs(5);
