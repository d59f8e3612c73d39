//! A server on a port of its own, with a hub, a handler and files of certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use visorbus_auth::{KeyFile, TokenRequest};
use visorbus_client::Credentials;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::{IpcError, Message};
use visorbus_hub::HubConfig;
use visorbus_websocket::{TlsClientConfig, TlsConfig, WebSocketClient, WebSocketConfig, WebSocketServer};

pub(crate) struct Home {
    pub(crate) server: WebSocketServer,
    pub(crate) files: Certificates,
    keys: KeyFile,
    echoed: Arc<AtomicUsize>,
}

/// Answers with what it was sent, and counts that.
struct Echo(Arc<AtomicUsize>);

impl MessageHandler for Echo {
    fn id(&self) -> &str {
        "echo"
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        reply.payload(message.payload)
    }
}

impl Home {
    pub(crate) fn plain() -> Self {
        Self::with(|_| {}, |_, _| {})
    }

    pub(crate) fn secure() -> Self {
        Self::with(|_| {}, |config, files| config.tls = Some(files.server()))
    }

    pub(crate) fn with(
        hub: impl FnOnce(&mut HubConfig),
        listener: impl FnOnce(&mut WebSocketConfig, &Certificates),
    ) -> Self {
        let keys = KeyFile::in_memory(1, [7; 32]);
        let mut config = HubConfig::new(keys.ring(), 1);
        hub(&mut config);
        let files = Certificates::new();
        let mut server = WebSocketServer::new("127.0.0.1:0", config).unwrap();
        let mut config = WebSocketConfig::default();
        listener(&mut config, &files);
        server.set_config(config).unwrap();
        server.start().unwrap();
        let echoed = Arc::new(AtomicUsize::new(0));
        server.register_handler(Box::new(Echo(Arc::clone(&echoed)))).unwrap();
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

/// Certificates and keys in files.
pub(crate) struct Certificates {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// An authority, and a certificate of its for `localhost`.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let files = Self { directory, issuer: Issuer::new(params, key) };
        files.make("hub", &["localhost"], |_| {});
        files
    }

    /// Makes a certificate and its key, `NAME.pem` and `NAME.key`.
    pub(crate) fn make(&self, name: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        let path = self.path(&format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        set_mode(&path, 0o600);
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn server(&self) -> TlsConfig {
        TlsConfig::new(self.path("hub.pem"), self.path("hub.key"))
    }

    pub(crate) fn client(&self) -> TlsClientConfig {
        TlsClientConfig::with_ca(self.path("ca.pem"))
    }

    pub(crate) fn client_as(&self, name: &str) -> TlsClientConfig {
        TlsClientConfig {
            cert_path: Some(self.path(&format!("{name}.pem"))),
            key_path: Some(self.path(&format!("{name}.key"))),
            ..self.client()
        }
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}
