//! A hub with one WebSocket port, on threads of its own, or one port more of a hub that runs already.

use std::net::{SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};

use visorbus_hub::{Error, HubConfig, HubHandle, HubServer, Result};

use crate::door::DoorStats;
use crate::listener::{Door, WebSocketConfig, WebSocketListener};
use crate::live::LivePages;
use crate::pages::Pages;
use crate::tls::TlsConfig;

/// Serves WebSockets, over TLS where a certificate is given. Handlers, messages to clients and the hub's handle are those of
/// the [`HubServer`] that it is.
///
/// ```no_run
/// use visorbus_core::auth::{Key, KeyRing, Slot};
/// use visorbus_hub::HubConfig;
/// use visorbus_websocket::{TlsConfig, WebSocketServer};
///
/// let mut keys = KeyRing::new();
/// keys.add(Slot::root(1, Key::new([7; 32]))).expect("an empty ring has room");
/// let mut server = WebSocketServer::new("0.0.0.0:8443", HubConfig::new(keys, 1))?;
/// server.set_tls_config(TlsConfig::new("/etc/visorbus/hub.pem", "/etc/visorbus/hub.key"))?;
/// server.start()?;
/// println!("serving {:?}", server.url());
/// # Ok::<(), visorbus_hub::Error>(())
/// ```
#[derive(Debug)]
pub struct WebSocketServer {
    server: HubServer,
    address: String,
    config: WebSocketConfig,
    door: Option<Door>,
    /// A socket that another process has made.
    inherited: Option<TcpListener>,
}

impl WebSocketServer {
    /// A server for `address`, `127.0.0.1:8080` for example, with a hub of its own, that does not serve yet. Without TLS it serves this machine
    /// alone, unless its [configuration](WebSocketServer::set_config) says otherwise.
    ///
    /// # Errors
    /// What [`HubServer::new`] says.
    pub fn new(address: impl Into<String>, config: HubConfig) -> Result<Self> {
        let server = HubServer::new(config)?;
        Ok(Self {
            server,
            address: address.into(),
            config: WebSocketConfig::default(),
            door: None,
            inherited: None,
        })
    }

    /// A server for `address` on a hub that runs already, as [`HubServer::over`] says, that does not serve yet. By itself it
    /// is as careful as [`WebSocketServer::new`] says.
    pub fn over(address: impl Into<String>, handle: HubHandle) -> Self {
        let (server, address) = (HubServer::over(handle), address.into());
        Self { server, address, config: WebSocketConfig::default(), door: None, inherited: None }
    }

    /// Serves over TLS and nothing else.
    ///
    /// # Errors
    /// `Message` when the server was started already.
    pub fn set_tls_config(&mut self, tls: TlsConfig) -> Result<()> {
        self.change(|config| config.tls = Some(tls))
    }

    /// Serves these pages on the same port.
    ///
    /// # Errors
    /// `Message` when the server was started already.
    pub fn set_pages(&mut self, pages: Pages) -> Result<()> {
        self.change(|config| config.pages = pages)
    }

    /// Makes these pages on the same port, at the moment somebody asks for one.
    ///
    /// # Errors
    /// `Message` when the server was started already.
    pub fn set_live_pages(&mut self, live: LivePages) -> Result<()> {
        self.change(|config| config.live = live)
    }

    /// Goes by this name too; as [`WebSocketConfig::allowed_hosts`] says.
    ///
    /// # Errors
    /// `Message` when the server was started already.
    pub fn allow_host(&mut self, host: impl Into<String>) -> Result<()> {
        self.change(|config| config.allowed_hosts.push(host.into()))
    }

    /// Lets pages of this origin connect too; as [`WebSocketConfig::allowed_origins`] says.
    ///
    /// # Errors
    /// `Message` when the server was started already.
    pub fn allow_origin(&mut self, origin: impl Into<String>) -> Result<()> {
        self.change(|config| config.allowed_origins.push(origin.into()))
    }

    /// Everything about the listening end at once, in place of what was set before.
    ///
    /// # Errors
    /// `Message` when the server was started already.
    pub fn set_config(&mut self, config: WebSocketConfig) -> Result<()> {
        self.change(|old| *old = config)
    }

    /// Listens on a socket that another process has made, as [`WebSocketListener::from_inherited`] says; the address is that
    /// one's.
    ///
    /// # Errors
    /// `Message` when the server was started already.
    pub fn set_inherited(&mut self, socket: TcpListener) -> Result<()> {
        self.change(|_| {})?;
        self.inherited = Some(socket);
        Ok(())
    }

    /// Binds the port and serves it on threads of its own.
    ///
    /// # Errors
    /// `Message` when it was started before; what [`WebSocketListener::bind`] says, and then it may be tried again.
    pub fn start(&mut self) -> Result<()> {
        let mut door = None;
        self.server.start(|| {
            let config = self.config.clone();
            let listener = match self.inherited.take() {
                Some(socket) => WebSocketListener::from_inherited(socket, config)?,
                None => WebSocketListener::bind(&self.address, config)?,
            };
            door = Some(listener.door());
            Ok(Box::new(listener))
        })?;
        self.door = door;
        Ok(())
    }

    /// Says goodbye to every client and closes the port; of a hub of its own, waits for its end. Nothing to do where it
    /// does not run.
    ///
    /// # Errors
    /// Why the hub had ended before, where it is its own.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop()
    }

    /// Reads certificate, key and authorities again, for connections that are made from now on; those that are there stay.
    ///
    /// # Errors
    /// As [`Door::reload_tls`]; `Connection` when the server does not serve yet.
    pub fn reload_tls(&self) -> Result<()> {
        self.started()?.reload_tls()
    }

    /// Who came to the port, and who was turned away and why; nobody while it does not serve yet.
    pub fn stats(&self) -> DoorStats {
        self.door.as_ref().map(Door::stats).unwrap_or_default()
    }

    /// Where it listens, with the port that it has; `None` while it does not serve yet.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.door.as_ref().map(Door::local_addr)
    }

    /// What a client of this machine connects to; `None` while it does not serve yet.
    pub fn url(&self) -> Option<String> {
        self.door.as_ref().map(Door::url)
    }

    fn change(&mut self, change: impl FnOnce(&mut WebSocketConfig)) -> Result<()> {
        if self.door.is_some() {
            return Err(Error::Message(
                "this server was started already: set it up before start()".to_owned(),
            ));
        }
        change(&mut self.config);
        Ok(())
    }

    fn started(&self) -> Result<&Door> {
        let text = "this server does not serve yet: call start() first";
        self.door.as_ref().ok_or_else(|| Error::Connection(text.to_owned()))
    }
}

impl Deref for WebSocketServer {
    type Target = HubServer;

    fn deref(&self) -> &HubServer {
        &self.server
    }
}

impl DerefMut for WebSocketServer {
    fn deref_mut(&mut self) -> &mut HubServer {
        &mut self.server
    }
}
