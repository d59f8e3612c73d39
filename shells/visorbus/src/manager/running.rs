//! What runs: the hub on its thread, and the parts that were given to it.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use visorbus_auth::{Accounts, KeyFile, Policy, Store};
use visorbus_dbus::{DBusConfig, DBusDoor, DBusListener};
use visorbus_hub::{Error, Hub, HubConfig, HubHandle, Result};
use visorbus_mcu::{BoardKeys, SerialPort, SpiPort};
use visorbus_unix::UnixSocketListener;
use visorbus_websocket::{Door, Pages, TlsConfig, WebSocketConfig, WebSocketListener};

use super::Providers;
use super::shelf::Shelf;
use crate::boards::StoredBoardKeys;
use crate::places;
use crate::settings::{AuthSettings, LinkSettings, Settings, WebSocketSettings};

/// A hub that runs, and what is on it. Dropping it ends all of it.
pub(super) struct Running {
    handle: HubHandle,
    hub: Option<JoinHandle<Result<()>>>,
    door: Option<Door>,
    bus: Option<DBusDoor>,
}

impl Running {
    /// Starts everything, or nothing.
    pub(super) fn start(settings: &Settings, providers: Option<&Providers>, shelf: &Shelf) -> Result<Self> {
        let identity = Identity::open(&settings.auth, providers).map_err(|e| failed("auth", e))?;
        let mut config = HubConfig::with_providers(identity.providers.auth, identity.providers.policy);
        config.limits = settings.limits.clone();
        let hub = Hub::new(config)?;
        let handle = hub.handle();
        let thread = thread::Builder::new().name("visorbus-hub".to_owned()).spawn(move || hub.run());
        let thread = thread.map_err(|e| Error::Internal(format!("no thread for the hub: {e}")))?;
        // From here on a failure ends what was started: it is dropped.
        let mut running = Self { handle, hub: Some(thread), door: None, bus: None };
        for handler in shelf.lend() {
            let id = handler.id().to_owned();
            running.handle.register_handler(handler).map_err(|e| failed(&id, e))?;
        }
        running.attach(&settings.links, identity.store).map_err(|e| failed("links", e))?;
        running.serve(settings)?;
        Ok(running)
    }

    pub(super) fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Where clients of this machine find its port.
    pub(super) fn websocket_url(&self) -> Option<String> {
        self.door.as_ref().map(Door::url)
    }

    /// Ends everything.
    pub(super) fn end(mut self) -> Result<()> {
        self.stop()
    }

    fn attach(&self, links: &LinkSettings, store: Option<Arc<Store>>) -> Result<()> {
        let keys: Arc<dyn BoardKeys> =
            Arc::new(StoredBoardKeys::new(store.unwrap_or_else(|| Arc::new(Store::in_memory()))));
        for spec in &links.serial {
            self.handle.attach(Box::new(SerialPort::new(spec.clone(), Arc::clone(&keys))))?;
        }
        for spec in &links.spi {
            self.handle.attach(Box::new(SpiPort::new(spec.clone(), Arc::clone(&keys))))?;
        }
        Ok(())
    }

    /// Opens the ways in.
    fn serve(&mut self, settings: &Settings) -> Result<()> {
        let Settings { unix_socket, websocket, dbus, .. } = settings;
        if unix_socket.enabled {
            let bound = match unix_socket.group {
                Some(group) => UnixSocketListener::bind_for_group(&unix_socket.path, group),
                None => UnixSocketListener::bind(&unix_socket.path),
            };
            bound
                .and_then(|listener| self.handle.listen(Box::new(listener)))
                .map_err(|e| failed("unix_socket", e))?;
        }
        if websocket.enabled {
            let listener = websocket_config(websocket, &settings.auth.key_file)
                .and_then(|config| WebSocketListener::bind(&websocket.bind_address, config))
                .map_err(|e| failed("websocket", e))?;
            self.door = Some(listener.door());
            self.handle.listen(Box::new(listener)).map_err(|e| failed("websocket", e))?;
        }
        if dbus.enabled {
            let mut config = DBusConfig::default();
            config.bus = dbus.bus.clone();
            config.service_name.clone_from(&dbus.service_name);
            config.object_path.clone_from(&dbus.object_path);
            let (listener, door) = DBusListener::new(config, &self.handle).map_err(|e| failed("dbus", e))?;
            self.handle.listen(Box::new(listener)).map_err(|e| failed("dbus", e))?;
            self.bus = Some(door);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(hub) = self.hub.take() else { return Ok(()) };
        self.handle.stop();
        hub.join().unwrap_or_else(|_| Err(Error::Internal("the hub's thread has panicked".to_owned())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody could be told why it had ended before.
        let _ = self.stop();
    }
}

/// Who says who somebody is, and where link keys of boards are.
struct Identity {
    providers: Providers,
    store: Option<Arc<Store>>,
}

impl Identity {
    /// Those of the program, else those of the files; a first start makes keys and accounts.
    fn open(auth: &AuthSettings, providers: Option<&Providers>) -> Result<Self> {
        if let Some(providers) = providers {
            return Ok(Self { providers: providers.clone(), store: None });
        }
        let refused = |text: String| Error::Authentication(text);
        let is_first = auth.key_file.symlink_metadata().is_err();
        let keys = KeyFile::open_or_create(auth.key_file.clone()).map_err(|e| refused(e.to_string()))?;
        let store = Arc::new(open_store(&auth.accounts_file, is_first)?);
        let policy = match &auth.policy_file {
            Some(named) => Policy::open(named.clone()),
            None => Policy::open_if_there(auth.key_file.with_file_name(places::POLICY)),
        };
        let policy = Arc::new(policy.map_err(|e| Error::Message(e.to_string()))?);
        let accounts = Accounts::new(Arc::clone(&store), keys, Arc::clone(&policy));
        Ok(Self { providers: Providers { auth: Arc::new(accounts), policy }, store: Some(store) })
    }
}

/// The accounts. Where there are none beside keys that were here before, they are taken for lost, and no token of before
/// counts.
fn open_store(path: &Path, is_first: bool) -> Result<Store> {
    let refused = |e: visorbus_auth::StoreError| Error::Authentication(e.to_string());
    if is_first {
        return Store::open_or_create(path).map_err(refused);
    }
    let (store, is_new) = Store::open_or_replace(path).map_err(refused)?;
    if is_new {
        tracing::warn!(
            "there were keys but no accounts, so {} is made anew; no token made before counts any more, and who was shut \
             out or removed is not known",
            path.display()
        );
    }
    Ok(store)
}

fn websocket_config(settings: &WebSocketSettings, key_file: &Path) -> Result<WebSocketConfig> {
    let mut config = WebSocketConfig::default();
    config.tls = tls(settings, key_file)?;
    config.allow_plaintext_network = settings.allow_plaintext_network;
    config.allowed_hosts.clone_from(&settings.allowed_hosts);
    config.allowed_origins.clone_from(&settings.allowed_origins);
    if settings.dashboard {
        config.pages = Pages::dashboard();
    }
    Ok(config)
}

fn tls(settings: &WebSocketSettings, key_file: &Path) -> Result<Option<TlsConfig>> {
    if !settings.tls_enabled {
        return Ok(None);
    }
    let own = places::tls_directory(key_file);
    let mut tls = match (&settings.tls_cert_path, &settings.tls_key_path) {
        (Some(certificate), Some(key)) => TlsConfig::new(certificate, key),
        _ => TlsConfig::new(own.join("hub.crt"), own.join("hub.key")),
    };
    if settings.tls_cert_path.is_none() && !tls.cert_path.exists() {
        return Err(Error::Message(format!(
            "there is no certificate in {}: `visorbus tls init` makes one, or name yours with --tls-cert and --tls-key",
            own.display()
        )));
    }
    tls.ca_cert_path.clone_from(&settings.tls_client_ca_path);
    Ok(Some(tls))
}

/// The error of a part that did not start.
fn failed(part: &str, error: Error) -> Error {
    Error::new(error.kind(), format!("{} ({part}; nothing was started)", error.text()))
}
