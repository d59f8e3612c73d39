//! Certificates and keys from files, and what TLS is set up with. Knows no connection.
//!
//! TLS 1.2 and 1.3 with the suites of rustls over ring, all of which are forward secret and authenticated; nothing older
//! and nothing weaker can be asked for.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use zeroize::Zeroizing;

use visorbus_hub::{Error, Result};

/// What a server proves itself with, and whom it asks for a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file of the certificate, followed by those that lead from it to the authority.
    pub cert_path: PathBuf,
    /// PEM file of its private key (PKCS #8, PKCS #1 or SEC 1), that nobody but its owner can read.
    pub key_path: PathBuf,
    /// PEM file of the authorities that vouch for clients. With it, a client without a certificate of theirs is refused
    /// in the handshake (mutual TLS), and what the certificate says can be logged in with; `None`: no client is asked.
    pub ca_cert_path: Option<PathBuf>,
}

impl TlsConfig {
    /// A certificate and its key; clients are not asked for theirs.
    pub fn new(cert_path: impl Into<PathBuf>, key_path: impl Into<PathBuf>) -> Self {
        Self { cert_path: cert_path.into(), key_path: key_path.into(), ca_cert_path: None }
    }

    /// Reads the files and makes what connections are accepted with.
    ///
    /// # Errors
    /// `Authorization` when others can read the key; `Message` when a file is missing or is not what it should be, with
    /// what to do about it.
    pub fn load(&self) -> Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Internal(format!("TLS cannot be set up: {e}")))?;
        let mut resumes = true;
        let builder = match &self.ca_cert_path {
            Some(path) => {
                let roots = Arc::new(roots(path)?);
                resumes = false;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| unusable(path, &e))?)
            }
            None => builder.with_no_client_auth(),
        };
        let (chain, key) = (read_chain(&self.cert_path)?, read_key(&self.key_path)?);
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|e| unfit(&self.cert_path, &self.key_path, &e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if !resumes {
            // A session that is taken up again shows no certificate: one that has expired since would go on.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }
}

/// What a client checks its server by, and proves itself with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsClientConfig {
    /// PEM file of the client's own certificate, for a server that asks for one.
    pub cert_path: Option<PathBuf>,
    /// PEM file of its private key, that nobody but its owner can read.
    pub key_path: Option<PathBuf>,
    /// PEM file of the authorities that may vouch for the server; `None`: those that the system trusts.
    pub ca_cert_path: Option<PathBuf>,
    /// Believes whoever answers: anybody on the way can read and change everything, tokens and passwords among it. For
    /// experiments; each connection warns of it.
    pub danger_skip_verification: bool,
}

impl TlsClientConfig {
    /// The authority that vouches for the server.
    pub fn with_ca(ca_cert_path: impl Into<PathBuf>) -> Self {
        Self { ca_cert_path: Some(ca_cert_path.into()), ..Self::default() }
    }

    /// Reads the files and makes what connections are made with.
    ///
    /// # Errors
    /// As [`TlsConfig::load`]; `Message` also when there is only one of certificate and key, or no authority at all.
    pub fn load(&self) -> Result<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Internal(format!("TLS cannot be set up: {e}")))?;
        let builder = if self.danger_skip_verification {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider())))
        } else {
            let roots = Arc::new(self.roots()?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
            let verifier = verifier.map_err(|e| Error::Message(format!("no authority can be used: {e}")))?;
            builder.with_webpki_verifier(verifier)
        };
        let mut config = match (&self.cert_path, &self.key_path) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(read_chain(cert)?, read_key(key)?)
                .map_err(|e| unfit(cert, key, &e))?,
            _ => {
                let text = "a client's certificate and its key belong together: give both files or none";
                return Err(Error::Message(text.to_owned()));
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        if let Some(path) = &self.ca_cert_path {
            return roots(path);
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added > 0 {
            return Ok(roots);
        }
        let mut text =
            "this system has no authorities that could vouch for the server: give the one that does \
                        as ca_cert_path"
                .to_owned();
        for error in found.errors.iter().take(1) {
            let _ = write!(text, " ({error})");
        }
        Err(Error::Message(text))
    }
}

/// Believes every certificate, though only of whoever has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What failed in TLS as an error of the stream, with a text for people: `PermissionDenied` where one end does not believe
/// who the other is.
pub(crate) fn tls_error(error: &rustls::Error) -> io::Error {
    use rustls::{AlertDescription as Alert, Error as Tls};
    let is_proof = match error {
        Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented => true,
        Tls::AlertReceived(alert) => matches!(
            alert,
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
        ),
        _ => false,
    };
    let kind = if is_proof { io::ErrorKind::PermissionDenied } else { io::ErrorKind::InvalidData };
    io::Error::new(kind, tls_text(error))
}

/// What failed in TLS, for people.
fn tls_text(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Wrong, Error as Tls};
    match error {
        Tls::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "the certificate of the other end has expired: it has to be renewed there (and this machine's clock right)"
                .to_owned()
        }
        Tls::InvalidCertificate(Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) => {
            "the certificate of the other end is not valid yet: is this machine's clock right?".to_owned()
        }
        // Two authorities may have the same name.
        Tls::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature) => {
            "no authority that is trusted here vouches for the certificate of the other end: give the CA with \
             ca_cert_path"
                .to_owned()
        }
        Tls::InvalidCertificate(wrong @ (Wrong::NotValidForName | Wrong::NotValidForNameContext { .. })) => {
            format!("the certificate is for another name than the one that was connected to: {wrong}")
        }
        Tls::InvalidCertificate(wrong) => format!("the certificate of the other end is not accepted: {wrong}"),
        Tls::NoCertificatesPresented => "the client showed no certificate, which is asked for here".to_owned(),
        Tls::AlertReceived(Alert::CertificateRequired) => {
            "the server asks for a client's certificate: give one with cert_path and key_path".to_owned()
        }
        Tls::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError),
        ) => format!("the other end does not accept this end's certificate ({alert:?})"),
        Tls::AlertReceived(Alert::ProtocolVersion) | Tls::PeerIncompatible(_) => {
            format!("the other end speaks no TLS that is safe: TLS 1.2 or 1.3 is needed ({error})")
        }
        Tls::InvalidMessage(_) => format!("the other end does not speak TLS ({error})"),
        _ => format!("TLS failed: {error}"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|e| unusable(path, &e))?;
    }
    Ok(roots)
}

/// The certificates in a PEM file, at least one.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|e| unreadable("certificate", path, &e))?;
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unusable(path, &"there is no PEM certificate in it")),
        Err(error) => Err(unusable(path, &error)),
    }
}

/// The private key in a PEM file that only its owner can read.
fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let failed = |error: io::Error| unreadable("key", path, &error);
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    let shown = path.display();
    if !found.is_file() {
        return Err(unusable(path, &"it is no file"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(Error::Authorization(format!(
            "others can read the key '{shown}' (mode {:o}): `chmod 600 {shown}`, and have a new one made if that was \
             so for long",
            found.mode() & 0o7777
        )));
    }
    // The whole room at once: a secret is not left behind in what was outgrown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| unusable(path, &"there is no PEM private key in it that could be read"))
}

fn unreadable(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::Message(format!("cannot read the {what} '{}': {error}", path.display()))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Message(format!("'{}' cannot be used: {why}", path.display()))
}

fn unfit(cert: &Path, key: &Path, error: &rustls::Error) -> Error {
    let (cert, key) = (cert.display(), key.display());
    Error::Message(format!("the certificate '{cert}' and the key '{key}' cannot be used together: {error}"))
}

/// More than any certificate chain or bundle of authorities has.
const MAX_FILE: u64 = 1 << 20;
