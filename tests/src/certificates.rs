//! Certificates in files, for both ends of a connection.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use visorbus_websocket::{TlsClientConfig, TlsConfig, WebSocketConfig};

use crate::raw_websocket::RawWebSocket;

/// An authority and what it has signed, in a directory that goes with this. What cannot be made or written panics.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// An authority, and a certificate `hub` of its for `localhost`.
    pub fn in_files() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Of another name than what it signs, or OpenSSL takes that for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "An authority");
        let own = params.self_signed(&key).expect("a certificate").pem();
        fs::write(directory.path().join("ca.pem"), own).expect("its file");
        let certificates = Self { directory, issuer: Issuer::new(params, key) };
        certificates.make("hub", &["localhost"], |_| {});
        certificates
    }

    /// Makes `NAME.pem` and `NAME.key`, signed by the authority.
    pub fn make(&self, name: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let (params, key) = asked(names, change);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(name, &certificate.pem(), &key);
    }

    /// Makes `NAME.pem` and `NAME.key`, signed by nobody else.
    pub fn make_self_signed(&self, name: &str, names: &[&str]) {
        let (params, key) = asked(names, |_| {});
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write(name, &certificate.pem(), &key);
    }

    /// What a server uses that is `name`.
    pub fn server_as(&self, name: &str) -> TlsConfig {
        TlsConfig::new(self.path(name, "pem"), self.path(name, "key"))
    }

    /// What a server uses that is `hub` and asks clients for certificates of this authority.
    pub fn mutual_server(&self) -> TlsConfig {
        let mut config = self.server_as("hub");
        config.ca_cert_path = Some(self.path("ca", "pem"));
        config
    }

    /// A port that speaks TLS.
    pub fn port(&self) -> WebSocketConfig {
        let mut config = WebSocketConfig::default();
        config.tls = Some(self.server_as("hub"));
        config
    }

    /// A port that asks clients for certificates of this authority.
    pub fn mutual_port(&self) -> WebSocketConfig {
        let mut config = WebSocketConfig::default();
        config.tls = Some(self.mutual_server());
        config
    }

    /// The authority, as rustls takes it.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_file(self.path("ca", "pem")).expect("it is in its file");
        roots.add(own).expect("it is a certificate");
        roots
    }

    /// What a client without a certificate uses.
    pub fn client(&self) -> TlsClientConfig {
        TlsClientConfig::with_ca(self.path("ca", "pem"))
    }

    /// What a client uses that is `name`.
    pub fn client_as(&self, name: &str) -> TlsClientConfig {
        let (cert_path, key_path) = (Some(self.path(name, "pem")), Some(self.path(name, "key")));
        TlsClientConfig { cert_path, key_path, ..self.client() }
    }

    /// A connection through its handshake, on which nothing was said, of a client without a certificate.
    pub fn connect(&self, address: SocketAddr) -> RawWebSocket {
        self.connect_with(address, self.client().load().expect("the authority is in its file"))
    }

    /// As [`Certificates::connect`], of a client that uses `config`.
    pub fn connect_with(&self, address: SocketAddr, config: Arc<ClientConfig>) -> RawWebSocket {
        RawWebSocket::connect_tls(address, config, "localhost").expect("the handshake succeeds")
    }

    /// The file `NAME.KIND`, `pem` or `key`.
    pub fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{kind}"))
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) {
        fs::write(self.path(name, "pem"), certificate).expect("a file");
        let path = self.path(name, "key");
        fs::write(&path, key.serialize_pem()).expect("a file");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
    }
}

fn asked(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names of a certificate");
    change(&mut params);
    (params, KeyPair::generate().expect("a key"))
}
