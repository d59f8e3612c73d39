//! One connection to a hub behind a WebSocket that is driven by hand.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use visorbus_client::Connection;
use visorbus_hub::Result;

use crate::dial::WebSocketDial;
use crate::tls::TlsClientConfig;

/// A [`Connection`] to a hub behind a `ws://` or `wss://` URL, for those who have an event loop of their own.
///
/// Wait until [`AsFd::as_fd`] is readable, then call [`Connection::receive_message`] until it says `None`; it also sends
/// what is due. Or let [`Connection::wait_message`] wait. Whoever does neither for long does not answer the hub's pings
/// either, and is hung up on.
///
/// ```no_run
/// use std::time::Duration;
/// use visorbus_hub::{OwnedMessage, OwnedPayload};
/// use visorbus_websocket::WebSocketConnection;
///
/// let mut connection = WebSocketConnection::connect("ws://127.0.0.1:7080/", "panel")?;
/// let id = connection.send_message(OwnedMessage::request("imu/info", OwnedPayload::Empty))?;
/// let answer = connection.wait_message(Duration::from_secs(1))?;
/// assert_eq!(answer.id, id);
/// connection.close("done")?;
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
#[derive(Debug)]
pub struct WebSocketConnection(Connection);

impl WebSocketConnection {
    /// Connects to the hub at `url` as `client_id` and waits until it has answered the hello, at most five seconds. Over
    /// `wss://` an authority that the system trusts has to vouch for the hub.
    ///
    /// # Errors
    /// `Connection` when nobody serves there, `Authentication` when it is not the hub that belongs there, `Message` when
    /// `url` is no URL of a hub or `client_id` cannot name a client, and what the hub says when it refuses the hello.
    pub fn connect(url: &str, client_id: &str) -> Result<Self> {
        Self::open(&WebSocketDial::new(url)?, client_id)
    }

    /// As [`WebSocketConnection::connect`], over `wss://` with `tls`.
    ///
    /// # Errors
    /// As [`WebSocketConnection::connect`], and as [`TlsClientConfig::load`].
    pub fn connect_tls(url: &str, client_id: &str, tls: TlsClientConfig) -> Result<Self> {
        let dial = WebSocketDial::new(url)?;
        dial.set_tls(tls)?;
        Self::open(&dial, client_id)
    }

    fn open(dial: &WebSocketDial, client_id: &str) -> Result<Self> {
        Connection::open(dial, client_id, Instant::now() + HANDSHAKE).map(Self)
    }
}

impl Deref for WebSocketConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for WebSocketConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl AsFd for WebSocketConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For the connection, the hello and its answer.
const HANDSHAKE: Duration = Duration::from_secs(5);
