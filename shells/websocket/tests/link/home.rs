//! A server on a port of its own, with a hub, a handler and files of certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use visorbus_auth::{KeyFile, TokenRequest};
use visorbus_client::Credentials;
use visorbus_hub::HubConfig;
use visorbus_tests::certificates::Certificates;
use visorbus_tests::echo::Echo;
use visorbus_websocket::{WebSocketClient, WebSocketConfig, WebSocketServer};

pub(crate) struct Home {
    pub(crate) server: WebSocketServer,
    pub(crate) files: Certificates,
    keys: KeyFile,
    echoed: Arc<AtomicUsize>,
}

impl Home {
    pub(crate) fn plain() -> Self {
        Self::with(|_| {}, |_, _| {})
    }

    pub(crate) fn secure() -> Self {
        Self::with(|_| {}, |config, files| config.tls = Some(files.server_as("hub")))
    }

    pub(crate) fn with(
        hub: impl FnOnce(&mut HubConfig),
        listener: impl FnOnce(&mut WebSocketConfig, &Certificates),
    ) -> Self {
        let keys = KeyFile::in_memory(1, [7; 32]);
        let mut config = HubConfig::new(keys.ring(), 1);
        hub(&mut config);
        let files = Certificates::in_files();
        let mut server = WebSocketServer::new("127.0.0.1:0", config).unwrap();
        let mut config = WebSocketConfig::default();
        listener(&mut config, &files);
        server.set_config(config).unwrap();
        server.start().unwrap();
        let echoed = Arc::new(AtomicUsize::new(0));
        server.register_handler(Box::new(Echo::counted("echo", &echoed))).unwrap();
        Self { server, files, keys, echoed }
    }

    /// Where it is, under a name that its certificate has.
    pub(crate) fn url(&self) -> String {
        self.server.url().unwrap().replace("127.0.0.1", "localhost")
    }

    pub(crate) fn token(&self, subject: &str) -> Credentials {
        Credentials::Token(self.keys.mint(&TokenRequest::new(subject, &["*"])).unwrap())
    }

    /// A client that trusts the authority.
    pub(crate) fn client(&self, name: &str) -> WebSocketClient {
        let client = WebSocketClient::new(&self.url(), name).unwrap();
        if self.url().starts_with("wss") {
            client.set_tls_config(self.files.client()).unwrap();
        }
        client
    }

    /// How often the handler ran.
    pub(crate) fn echoed(&self) -> usize {
        self.echoed.load(Ordering::SeqCst)
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}
