//! Certificates in files, for both ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use visorbus_tests::raw_websocket::RawWebSocket;
use visorbus_websocket::{TlsClientConfig, TlsConfig, WebSocketConfig};

use crate::world::World;

/// An authority and what it has signed.
pub(crate) struct Certificates {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// An authority, and a certificate `hub` of its for `localhost`.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Of another name than what it signs, or OpenSSL takes that for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "An authority");
        fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let certificates = Self { directory, issuer: Issuer::new(params, key) };
        certificates.make("hub", &["localhost"], |_| {});
        certificates
    }

    /// Makes `NAME.pem` and `NAME.key`, signed by the authority.
    pub(crate) fn make(&self, name: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let (params, key) = asked(names, change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(name, &certificate.pem(), &key);
    }

    /// Makes `NAME.pem` and `NAME.key`, signed by nobody else.
    pub(crate) fn make_self_signed(&self, name: &str, names: &[&str]) {
        let (params, key) = asked(names, |_| {});
        let certificate = params.self_signed(&key).unwrap();
        self.write(name, &certificate.pem(), &key);
    }

    /// What a server uses that is `name`.
    pub(crate) fn server_as(&self, name: &str) -> TlsConfig {
        TlsConfig::new(self.path(name, "pem"), self.path(name, "key"))
    }

    /// A port that speaks TLS.
    pub(crate) fn port(&self) -> WebSocketConfig {
        let mut config = WebSocketConfig::default();
        config.tls = Some(self.server_as("hub"));
        config
    }

    /// A port that asks clients for certificates of this authority.
    pub(crate) fn mutual_port(&self) -> WebSocketConfig {
        let mut config = self.port();
        config.tls.as_mut().unwrap().ca_cert_path = Some(self.path("ca", "pem"));
        config
    }

    /// The authority, as rustls takes it.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca", "pem")).unwrap()).unwrap();
        roots
    }

    /// What a client without a certificate uses.
    pub(crate) fn client(&self) -> TlsClientConfig {
        TlsClientConfig::with_ca(self.path("ca", "pem"))
    }

    /// What a client uses that is `name`.
    pub(crate) fn client_as(&self, name: &str) -> TlsClientConfig {
        let (cert_path, key_path) = (Some(self.path(name, "pem")), Some(self.path(name, "key")));
        TlsClientConfig { cert_path, key_path, ..self.client() }
    }

    /// A connection through its handshake, on which nothing was said.
    pub(crate) fn connect(&self, world: &World) -> RawWebSocket {
        self.connect_with(world, self.client().load().unwrap())
    }

    pub(crate) fn connect_with(&self, world: &World, config: Arc<ClientConfig>) -> RawWebSocket {
        RawWebSocket::connect_tls(world.address(), config, "localhost").unwrap()
    }

    pub(crate) fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{kind}"))
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) {
        fs::write(self.path(name, "pem"), certificate).unwrap();
        let path = self.path(name, "key");
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
}

fn asked(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}
