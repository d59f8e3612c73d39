//! The ways in: the servers of a hub's socket, port and name on a bus, made by the settings.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use visorbus_dbus::{DBusConfig, DBusService};
use visorbus_hub::{Error, HubHandle, Result};
use visorbus_unix::UnixSocketServer;
use visorbus_websocket::{LivePages, Pages, TlsConfig, WebSocketConfig, WebSocketServer};

use crate::places;
use crate::settings::{DBusSettings, Settings, UnixSocketSettings, WebSocketSettings};

/// Sockets that another process has opened for this one; they hold instead of what the settings say of their places.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) unix: Option<UnixListener>,
    pub(super) websocket: Option<TcpListener>,
}

/// The servers that there are.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) unix: Option<UnixSocketServer>,
    pub(super) websocket: Option<WebSocketServer>,
    pub(super) dbus: Option<DBusService>,
}

impl Inherited {
    /// Serves the socket, if there is to be one.
    pub(super) fn serve_unix(
        &self,
        settings: &UnixSocketSettings,
        hub: &HubHandle,
    ) -> Result<Option<UnixSocketServer>> {
        if !settings.enabled {
            warn_unserved(self.unix.is_some(), "unix_socket");
            return Ok(None);
        }
        let mut server = UnixSocketServer::over(&settings.path, hub.clone())?;
        server.set_group(settings.group);
        if let Some(socket) = &self.unix {
            server.set_inherited(socket.try_clone().map_err(uncloned)?)?;
        }
        server.start()?;
        Ok(Some(server))
    }

    /// Serves the port, if there is to be one.
    pub(super) fn serve_websocket(
        &self,
        settings: &Settings,
        live: &LivePages,
        hub: &HubHandle,
    ) -> Result<Option<WebSocketServer>> {
        let websocket = &settings.websocket;
        if !websocket.enabled {
            warn_unserved(self.websocket.is_some(), "websocket");
            return Ok(None);
        }
        let mut server = WebSocketServer::over(&websocket.bind_address, hub.clone());
        let mut config = websocket_config(settings)?;
        config.live = live.clone();
        server.set_config(config)?;
        if let Some(socket) = &self.websocket {
            server.set_inherited(socket.try_clone().map_err(uncloned)?)?;
        }
        server.start()?;
        Ok(Some(server))
    }

    /// Sees whether the port could be served as `settings` say, certificates and all, before one that is served has to go.
    pub(super) fn check_websocket(&self, settings: &Settings) -> Result<()> {
        let own = self.websocket.as_ref().and_then(|socket| socket.local_addr().ok());
        let address =
            own.map_or_else(|| settings.websocket.bind_address.clone(), |address| address.to_string());
        websocket_config(settings)?.check(&address)
    }
}

/// A service on the bus that does not serve yet, if there is to be one.
pub(super) fn dbus(settings: &DBusSettings, hub: &HubHandle) -> Result<Option<DBusService>> {
    if !settings.enabled {
        return Ok(None);
    }
    let mut config = DBusConfig::default();
    config.bus = settings.bus.clone();
    config.service_name.clone_from(&settings.service_name);
    config.object_path.clone_from(&settings.object_path);
    let mut service = DBusService::over(&settings.service_name, &settings.object_path, hub.clone());
    service.set_config(config)?;
    Ok(Some(service))
}

/// Says that nobody is served at a socket that another process has opened, and still has.
fn warn_unserved(is_inherited: bool, category: &str) {
    if is_inherited {
        tracing::warn!(
            "the socket that was handed over for '{category}' is not served, because {category}.enabled is off: whoever \
             connects there waits; switch it on, or disable the socket's unit"
        );
    }
}

fn websocket_config(settings: &Settings) -> Result<WebSocketConfig> {
    let mut config = WebSocketConfig::default();
    config.tls = tls(&settings.websocket, &settings.auth.key_file);
    let settings = &settings.websocket;
    config.allow_plaintext_network = settings.allow_plaintext_network;
    config.allowed_hosts.clone_from(&settings.allowed_hosts);
    config.allowed_origins.clone_from(&settings.allowed_origins);
    if settings.dashboard {
        config.pages = Pages::dashboard();
    }
    Ok(config)
}

fn tls(settings: &WebSocketSettings, key_file: &Path) -> Option<TlsConfig> {
    if !settings.tls_enabled {
        return None;
    }
    let own = places::tls_directory(key_file);
    let mut tls = match (&settings.tls_cert_path, &settings.tls_key_path) {
        (Some(certificate), Some(key)) => TlsConfig::new(certificate, key),
        _ => TlsConfig::new(own.join(places::CERTIFICATE), own.join(places::CERTIFICATE_KEY)),
    };
    tls.ca_cert_path.clone_from(&settings.tls_client_ca_path);
    Some(tls)
}

fn uncloned(error: std::io::Error) -> Error {
    Error::Internal(format!("the inherited socket cannot be used: {error}"))
}
