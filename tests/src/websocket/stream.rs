//! TCP streams with or without TLS over them, blocking, and the WebSockets on them.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rcgen::CertifiedKey;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{HandshakeError, WebSocket};
use visorbus_websocket::{TlsClientConfig, TlsConfig};

/// A WebSocket whose calls wait.
pub type Socket = WebSocket<Stream>;

/// A connected stream. It blocks unless the TCP stream in it is told not to.
#[derive(Debug)]
pub enum Stream {
    /// `ws`.
    Plain(TcpStream),
    /// The server's end of `wss`.
    Accepted(Box<StreamOwned<ServerConnection, TcpStream>>),
    /// The client's end of `wss`.
    Made(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Accepted(tls) => &tls.sock,
            Self::Made(tls) => &tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Accepted(tls) => tls.read(into),
            Self::Made(tls) => tls.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Accepted(tls) => tls.write(bytes),
            Self::Made(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Accepted(tls) => tls.flush(),
            Self::Made(tls) => tls.flush(),
        }
    }
}

/// Whether there is TLS, and the certificate for it: both ends of a measurement use the same, with the settings that
/// Visorbus has.
#[derive(Debug)]
pub enum Security {
    /// `ws`.
    Plain,
    /// `wss`.
    Tls(Certificate),
}

impl Security {
    /// As [`Security::to_argument`] has written it.
    pub fn from_argument(argument: &str) -> Self {
        if argument == PLAIN { Self::Plain } else { Self::Tls(Certificate::in_directory(argument)) }
    }

    /// For a part of the measurement.
    pub fn to_argument(&self) -> &OsStr {
        match self {
            Self::Plain => PLAIN.as_ref(),
            Self::Tls(certificate) => certificate.directory.as_os_str(),
        }
    }

    /// Whether it is `wss`.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What a server is given; `None` for `ws`.
    pub fn server(&self) -> Option<TlsConfig> {
        let Self::Tls(certificate) = self else { return None };
        Some(certificate.server())
    }

    /// What a client is given; `None` for `ws`.
    pub fn client(&self) -> Option<TlsClientConfig> {
        let Self::Tls(certificate) = self else { return None };
        Some(certificate.client())
    }

    /// Accepts one WebSocket with tungstenite's own settings.
    ///
    /// # Errors
    /// The connection or its handshake failed.
    pub fn accept(&self, listener: &TcpListener) -> io::Result<Socket> {
        let (tcp, _) = listener.accept()?;
        tcp.set_nodelay(true)?;
        let stream = match self {
            Self::Plain => Stream::Plain(tcp),
            Self::Tls(certificate) => {
                let tls = ServerConnection::new(certificate.loaded_server()?).map_err(io::Error::other)?;
                Stream::Accepted(Box::new(StreamOwned::new(tls, tcp)))
            }
        };
        tungstenite::accept(stream).map_err(failed)
    }

    /// Makes a WebSocket to `to` from the address `from`.
    ///
    /// # Errors
    /// The connection or its handshake failed.
    pub fn connect(&self, to: SocketAddr, from: IpAddr, subprotocol: Option<&str>) -> io::Result<Socket> {
        let tcp = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&tcp, &SocketAddr::new(from, 0))?;
        connect(&tcp, &to)?;
        let tcp = TcpStream::from(tcp);
        tcp.set_nodelay(true)?;
        let (stream, scheme) = match self {
            Self::Plain => (Stream::Plain(tcp), "ws"),
            Self::Tls(certificate) => {
                let name = ServerName::IpAddress(to.ip().into());
                let config = certificate.loaded_client()?;
                let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
                (Stream::Made(Box::new(StreamOwned::new(tls, tcp))), "wss")
            }
        };
        let mut request = format!("{scheme}://{to}/").into_client_request().map_err(io::Error::other)?;
        if let Some(subprotocol) = subprotocol {
            let subprotocol = subprotocol.parse().map_err(io::Error::other)?;
            request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        }
        let config = WebSocketConfig::default().read_buffer_size(CLIENT_BUFFER);
        let (socket, _) =
            tungstenite::client::client_with_config(request, stream, Some(config)).map_err(failed)?;
        Ok(socket)
    }
}

/// A certificate for 127.0.0.1 that vouches for itself, in a directory, and what is made of it once it is needed.
#[derive(Debug)]
pub struct Certificate {
    directory: PathBuf,
    server: OnceLock<Arc<ServerConfig>>,
    client: OnceLock<Arc<ClientConfig>>,
}

impl Certificate {
    /// Makes one that is good as long as the directory lives.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn new() -> io::Result<(Self, TempDir)> {
        let directory = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
        let CertifiedKey { cert, signing_key } = made;
        write_file(&directory.path().join(CERTIFICATE), cert.pem().as_bytes())?;
        write_file(&directory.path().join(KEY), signing_key.serialize_pem().as_bytes())?;
        Ok((Self::in_directory(directory.path()), directory))
    }

    fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), server: OnceLock::new(), client: OnceLock::new() }
    }

    fn server(&self) -> TlsConfig {
        TlsConfig::new(self.directory.join(CERTIFICATE), self.directory.join(KEY))
    }

    fn client(&self) -> TlsClientConfig {
        TlsClientConfig::with_ca(self.directory.join(CERTIFICATE))
    }

    fn loaded_server(&self) -> io::Result<Arc<ServerConfig>> {
        if let Some(loaded) = self.server.get() {
            return Ok(Arc::clone(loaded));
        }
        let loaded = self.server().load().map_err(io::Error::other)?;
        Ok(Arc::clone(self.server.get_or_init(|| loaded)))
    }

    fn loaded_client(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(loaded) = self.client.get() {
            return Ok(Arc::clone(loaded));
        }
        let loaded = self.client().load().map_err(io::Error::other)?;
        Ok(Arc::clone(self.client.get_or_init(|| loaded)))
    }
}

/// What went wrong with a WebSocket as an error of the stream.
pub(crate) fn other(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

fn failed<Role: tungstenite::handshake::HandshakeRole>(error: HandshakeError<Role>) -> io::Error {
    match error {
        HandshakeError::Failure(error) => other(error),
        HandshakeError::Interrupted(_) => io::ErrorKind::TimedOut.into(),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

const PLAIN: &str = "ws";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
/// What a client of the measurement reads at once, in bytes: thousands of them are in one process.
const CLIENT_BUFFER: usize = 16 * 1024;
