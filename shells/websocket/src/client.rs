//! The client of a hub behind a WebSocket.

use std::ops::Deref;
use std::sync::Arc;

use visorbus_client::{Client, ClientConfig, Dial};
use visorbus_hub::Result;

use crate::dial::WebSocketDial;
use crate::tls::TlsClientConfig;

/// A [`Client`] of a hub behind a `ws://` or `wss://` URL: see there for what it does. Cloning it is cheap: clones are
/// the same client.
///
/// It speaks `visorbus.v1.postcard`. Over `wss://` it believes only a hub whose certificate is for the URL's name and
/// vouched for by an authority that the system trusts, or the one of its [`TlsClientConfig`].
///
/// ```no_run
/// use visorbus_hub::{OwnedMessage, OwnedPayload};
/// use visorbus_websocket::{TlsClientConfig, WebSocketClient};
///
/// let client = WebSocketClient::new("wss://headset.local:7443/", "panel")?;
/// client.set_tls_config(TlsClientConfig::with_ca("/etc/visorbus/ca.pem"))?;
/// client.connect()?;
/// client.authenticate(&visorbus_client::Credentials::Token("vb1.…".parse()?))?;
/// let answer = client.send_request(OwnedMessage::request("imu/info", OwnedPayload::Empty), None)?;
/// println!("{:?}", answer.payload);
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
#[derive(Clone)]
pub struct WebSocketClient {
    client: Client,
    dial: Arc<WebSocketDial>,
}

impl WebSocketClient {
    /// A client called `client_id` of the hub at `url`, not connected yet.
    ///
    /// # Errors
    /// `Message` when `url` is no URL of a hub, which never has a user, a password or a query, or `client_id` cannot name
    /// a client.
    pub fn new(url: &str, client_id: &str) -> Result<Self> {
        Self::with_config(url, client_id, ClientConfig::default())
    }

    /// As [`WebSocketClient::new`], with `config`.
    ///
    /// # Errors
    /// As [`WebSocketClient::new`].
    pub fn with_config(url: &str, client_id: &str, config: ClientConfig) -> Result<Self> {
        let dial = Arc::new(WebSocketDial::new(url)?);
        let client = Client::new(Arc::<WebSocketDial>::clone(&dial), client_id, config)?;
        Ok(Self { client, dial })
    }

    /// Makes connections with `config` from now on; the one that is there stays until [`Client::reconnect`]. The files are
    /// read at each connection, so that a certificate that was renewed counts.
    ///
    /// # Errors
    /// `Message` when a file cannot be used or the URL is `ws://`; `Authorization` when others can read the key.
    pub fn set_tls_config(&self, config: TlsClientConfig) -> Result<()> {
        self.dial.set_tls(config)
    }

    /// Where the hub is.
    pub fn url(&self) -> String {
        self.dial.place()
    }
}

impl Deref for WebSocketClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::fmt::Debug for WebSocketClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketClient")
            .field("client_id", &self.client_id())
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}
