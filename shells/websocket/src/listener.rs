//! The listening end of WebSockets: a port, the rules for who may come in by it, and the hub's [`Listener`].

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::socket::{Backlog, listen};
use rustls::ServerConfig;

use visorbus_auth::AuthMethod;
use visorbus_hub::{Error, HubLink, Listener, Result};

use crate::door::{DoorLimits, DoorStats, Keeper, Places, Rules, Shared};
use crate::link::LinkConfig;
use crate::live::LivePages;
use crate::pages::Pages;
use crate::tls::TlsConfig;

/// What a listening end serves, and to whom. By default: WebSockets without pages, without TLS on this machine alone, to
/// programs and to pages of the same origin.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// What the server proves itself with. `None`: no TLS, and only addresses of this machine may be listened on.
    pub tls: Option<TlsConfig>,
    /// Listens without TLS on addresses that others reach too. Whoever is on the way can then read and change
    /// everything, tokens and passwords among it.
    pub allow_plaintext_network: bool,
    /// Names that the server goes by beside the address that was connected to and this machine's own names, such as
    /// `headset.local`, or `headset.local:8443` for this port alone. Requests for other names are refused, because a site
    /// could have its own name lead here.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may connect beside the server's own, such as `https://panel.example`. All others are refused;
    /// programs that are no browsers send none.
    pub allowed_origins: Vec<String>,
    /// What else is served on this port.
    pub pages: Pages,
    /// What is made at the moment somebody asks for it.
    pub live: LivePages,
    /// What strangers may cost.
    pub door: DoorLimits,
    /// What one connection may cost.
    pub link: LinkConfig,
}

impl WebSocketConfig {
    /// Sees whether `address` could be listened on as this says, for whoever has a port to lose; opens nothing.
    ///
    /// # Errors
    /// As [`WebSocketListener::bind`], but for what only the attempt shows.
    pub fn check(&self, address: &str) -> Result<()> {
        self.prepare(address, &resolve(address)?).map(drop)
    }

    /// What strangers are measured by, and what the server proves itself with.
    fn prepare(
        &self,
        address: &str,
        addresses: &[SocketAddr],
    ) -> Result<(Places, Option<Arc<ServerConfig>>)> {
        let places = Places::new(&self.allowed_hosts, &self.allowed_origins).map_err(Error::Message)?;
        let tls = self.tls.as_ref().map(TlsConfig::load).transpose()?;
        if tls.is_none() && !self.allow_plaintext_network {
            check_is_local(address, addresses)?;
        }
        Ok((places, tls))
    }
}

/// Accepts WebSockets on a TCP port; dropping it closes the port. Everything up to the WebSocket is done on a thread of its
/// own, so that the hub sees only connections that have passed every check.
///
/// - `GET /` with a WebSocket handshake opens one; other paths are for [pages](Pages).
/// - Hosts and origins are checked as [`WebSocketConfig`] says, one of the subprotocols of [`Subprotocol`](crate::Subprotocol)
///   must be offered, and a secret in a URL is refused. Whoever asked and is turned away reads why.
#[derive(Debug)]
pub struct WebSocketListener {
    door: Door,
    thread: Option<JoinHandle<()>>,
}

impl WebSocketListener {
    /// Listens at `address`, `127.0.0.1:8080` for example; port 0 for any that is free.
    ///
    /// # Errors
    /// `Message` when the address or something in `config` is none; `Authorization` when others could come in without TLS
    /// though that is not allowed, or others can read the key of the certificate; `Connection` when the port is taken.
    pub fn bind(address: &str, config: WebSocketConfig) -> Result<Self> {
        let addresses = resolve(address)?;
        Self::over(address, &addresses, config, || TcpListener::bind(&addresses[..]))
    }

    /// Listens on a socket that another process has made, systemd for example (sd_listen_fds(3)).
    ///
    /// # Errors
    /// As [`WebSocketListener::bind`]; `Connection` when it is no TCP socket that can be listened on.
    pub fn from_inherited(socket: TcpListener, config: WebSocketConfig) -> Result<Self> {
        let local = socket.local_addr();
        let local =
            local.map_err(|e| Error::Connection(format!("the inherited socket has no address: {e}")))?;
        Self::over(&local.to_string(), &[local], config, || Ok(socket))
    }

    /// Listens on the socket of `bind`, which is for `addresses`, once everything else is known to be right.
    fn over(
        address: &str,
        addresses: &[SocketAddr],
        config: WebSocketConfig,
        bind: impl FnOnce() -> io::Result<TcpListener>,
    ) -> Result<Self> {
        let (places, tls) = config.prepare(address, addresses)?;
        let rules = Rules { places, pages: config.pages, live: config.live };
        let failed = |error: io::Error| Error::Connection(format!("cannot listen on '{address}': {error}"));
        let listener = bind().map_err(failed)?;
        let backlog = Backlog::new(BACKLOG).map_err(|e| failed(e.into()))?;
        listen(&listener, backlog).map_err(|e| failed(e.into()))?;
        let local = listener.local_addr().map_err(failed)?;
        let link = announcing(config.link, config.tls.as_ref());
        let shared = Shared::new(rules, config.door, link, tls, local).map_err(failed)?;
        let door = Door { shared: Arc::new(shared), tls: config.tls };
        let keeper = Keeper::new(Arc::clone(&door.shared), listener).map_err(failed)?;
        let thread = thread::Builder::new().name("visorbus-door".to_owned()).spawn(move || keeper.run());
        Ok(Self { door, thread: Some(thread.map_err(failed)?) })
    }

    /// For what may be asked and changed while the hub has the listener.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Where it listens, with the port that it has.
    pub fn local_addr(&self) -> SocketAddr {
        self.door.local_addr()
    }
}

impl Listener for WebSocketListener {
    fn fd(&self) -> BorrowedFd<'_> {
        self.door.shared.ready_fd()
    }

    fn accept(&mut self) -> io::Result<Option<Box<dyn HubLink>>> {
        Ok(self.door.shared.pop())
    }

    fn describe(&self) -> String {
        self.door.url()
    }
}

impl Drop for WebSocketListener {
    fn drop(&mut self) {
        self.door.shared.close();
        if let Some(thread) = self.thread.take() {
            // What a panic there had to say has been said.
            let _ = thread.join();
        }
        // A door that somebody has kept must not keep these.
        self.door.shared.clear();
    }
}

/// A listening end as seen from other threads. Cloning it is cheap; it keeps no port open.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
    tls: Option<TlsConfig>,
}

impl Door {
    /// Where it listens, with the port that it has.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// What a client connects to, where the address is this machine's own.
    pub fn url(&self) -> String {
        let scheme = if self.shared.is_tls() { "wss" } else { "ws" };
        format!("{scheme}://{}", self.shared.local)
    }

    /// Who came, and who was turned away and why.
    pub fn stats(&self) -> DoorStats {
        self.shared.tally.read()
    }

    /// Reads certificate, key and authorities again, for connections that are made from now on; those that are there stay.
    ///
    /// # Errors
    /// `Message` when there is no TLS here; what is wrong with the files, and then nothing has changed.
    pub fn reload_tls(&self) -> Result<()> {
        let tls = self.tls.as_ref();
        let tls = tls.ok_or_else(|| Error::Message(format!("there is no TLS on {}", self.shared.local)))?;
        self.shared.set_tls(tls.load()?);
        Ok(())
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Door({})", self.url())
    }
}

/// The same, and where clients show certificates, that they may log in by them.
fn announcing(mut link: LinkConfig, tls: Option<&TlsConfig>) -> LinkConfig {
    let methods = &mut Arc::make_mut(&mut link.protocol).supported_auth_methods;
    if tls.is_some_and(|tls| tls.ca_cert_path.is_some()) && !methods.contains(&AuthMethod::Certificate) {
        methods.push(AuthMethod::Certificate);
    }
    link
}

fn resolve(address: &str) -> Result<Vec<SocketAddr>> {
    let wrong = |why: String| {
        Error::Message(format!("'{address}' is no address to listen on ({why}): write it as 127.0.0.1:8080"))
    };
    let addresses: Vec<_> = address.to_socket_addrs().map_err(|e| wrong(e.to_string()))?.collect();
    if addresses.is_empty() { Err(wrong("nothing goes by this name".to_owned())) } else { Ok(addresses) }
}

/// Sees that nobody but this machine's own programs reaches any of `addresses`.
fn check_is_local(address: &str, addresses: &[SocketAddr]) -> Result<()> {
    let is_local = |address: &SocketAddr| IpAddr::is_loopback(&address.ip().to_canonical());
    if addresses.iter().all(is_local) {
        return Ok(());
    }
    Err(Error::Authorization(format!(
        "'{address}' can be reached by others, who could read and change everything without TLS: give a certificate \
         (`visorbus tls init` makes one), listen on 127.0.0.1, or set allow_plaintext_network if this network is yours alone"
    )))
}

/// Connections that the kernel keeps until they are taken; it has a limit of its own beside this.
const BACKLOG: i32 = 1024;
