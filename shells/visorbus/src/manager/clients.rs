//! Clients of the hub that the settings speak of, for programs beside it.

use visorbus_dbus::{DBusClient, DBusClientConfig};
use visorbus_hub::Result;
use visorbus_unix::{UnixSocketClient, UnixSocketServer};
use visorbus_websocket::{TlsClientConfig, WebSocketClient, WebSocketServer};

use super::IpcManager;

impl IpcManager {
    /// A client called `client_id` of the hub on the socket that this manager serves, else on that of the settings, not
    /// connected yet. It need not be this manager's own hub.
    ///
    /// # Errors
    /// As [`UnixSocketClient::new`].
    pub fn create_unix_socket_client(&self, client_id: &str) -> Result<UnixSocketClient> {
        let own = self.unix_socket_server().map(UnixSocketServer::path);
        UnixSocketClient::new(own.unwrap_or(&self.settings.unix_socket.path), client_id)
    }

    /// A client of the service that the settings name, on their bus, not connected yet.
    ///
    /// # Errors
    /// As [`DBusClient::with_config`].
    pub fn create_dbus_client(&self) -> Result<DBusClient> {
        let dbus = &self.settings.dbus;
        DBusClient::with_config(&dbus.service_name, &dbus.object_path, DBusClientConfig::on(dbus.bus.clone()))
    }

    /// A client called `client_id` of the hub at the URL of the settings, not connected yet; without one, of the port that
    /// this manager serves, or would by the settings.
    ///
    /// # Errors
    /// As [`WebSocketClient::new`] and [`WebSocketClient::set_tls_config`].
    pub fn create_websocket_client(&self, client_id: &str) -> Result<WebSocketClient> {
        let websocket = &self.settings.websocket;
        let own = || match self.websocket_server().and_then(WebSocketServer::url) {
            Some(url) => url,
            None => {
                let scheme = if websocket.tls_enabled { "wss" } else { "ws" };
                format!("{scheme}://{}/", websocket.bind_address)
            }
        };
        let client = WebSocketClient::new(&websocket.server_url.clone().unwrap_or_else(own), client_id)?;
        if let Some(authority) = &websocket.tls_ca_cert_path {
            client.set_tls_config(TlsClientConfig::with_ca(authority))?;
        }
        Ok(client)
    }
}
