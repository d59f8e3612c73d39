//! The way to a hub behind a URL: the name, TCP, TLS, the upgrade (RFC 6455, section 4.1).

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use httparse::{EMPTY_HEADER, Response, Status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::pki_types::ServerName;
use tungstenite::handshake::derive_accept_key;

use visorbus_client::{Dial, Wire};
use visorbus_hub::{Error, Result};

use crate::channel::Channel;
use crate::protocol::Subprotocol;
use crate::tls::TlsClientConfig;
use crate::url::Url;
use crate::wire::WebSocketWire;

/// The way to a hub.
#[derive(Debug)]
pub(crate) struct WebSocketDial {
    url: Url,
    tls: Mutex<TlsClientConfig>,
}

impl WebSocketDial {
    pub(crate) fn new(url: &str) -> Result<Self> {
        Ok(Self { url: Url::parse(url)?, tls: Mutex::default() })
    }

    /// Has the next connection made with `config`.
    pub(crate) fn set_tls(&self, config: TlsClientConfig) -> Result<()> {
        if !self.url.tls {
            let text = format!("'{}' is a connection without TLS: connect to wss:// instead", self.url);
            return Err(Error::Message(text));
        }
        config.load()?;
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    fn channel(&self, stream: TcpStream) -> Result<Channel> {
        let failed = |error: io::Error| self.failed(&error);
        if !self.url.tls {
            if !self.url.is_loopback() {
                tracing::warn!(
                    "{}: no TLS: whoever is on the way can read and change what is said; use wss://",
                    self.url
                );
            }
            return Channel::plain(stream).map_err(failed);
        }
        // Read anew each time: certificates are renewed.
        let config = self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if config.danger_skip_verification {
            tracing::warn!(
                "{}: danger: whoever answers is believed (danger_skip_verification); anybody on the way can read and \
                 change everything, tokens among it",
                self.url
            );
        }
        let name = ServerName::try_from(self.url.host.clone());
        let name = name.map_err(|e| Error::Message(format!("'{}' is no name: {e}", self.url.host)))?;
        Channel::tls_client(stream, config.load()?, name).map_err(failed)
    }

    /// Asks for the upgrade and reads the answer; gives what came behind it.
    fn upgrade(&self, channel: &mut Channel, deadline: Instant) -> Result<Vec<u8>> {
        let key = new_key();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            self.url.path,
            self.url.authority(),
            Subprotocol::Postcard
        );
        let mut unsent = request.as_bytes();
        let mut answer = Vec::new();
        loop {
            let written = channel.write(unsent).map_err(|e| self.failed(&e))?;
            unsent = &unsent[written..];
            let read = channel.read_all(READ_LEN, |bytes| answer.extend_from_slice(bytes));
            if let Some(end) = self.judge(&answer, &key, read.is_err())? {
                return Ok(answer.split_off(end));
            }
            if !read.map_err(|e| self.failed(&e))? {
                let is_waiting = !unsent.is_empty() || channel.wants_write();
                await_stream(channel, is_waiting, deadline).map_err(|e| self.failed(&e))?;
            }
        }
    }

    /// Whether the answer is there, and allows to go on: where its head ends. With `is_all`, nothing more comes.
    fn judge(&self, answer: &[u8], key: &str, is_all: bool) -> Result<Option<usize>> {
        let mut headers = [EMPTY_HEADER; 64];
        let mut response = Response::new(&mut headers);
        let end = match response.parse(answer) {
            Ok(Status::Complete(end)) => end,
            Ok(Status::Partial) if answer.len() < MAX_ANSWER => return Ok(None),
            _ => return Err(self.refused("what answers there is not HTTP")),
        };
        let value = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
        };
        let code = response.code.unwrap_or_default();
        if code != 101 {
            let body = &answer[end..];
            // One that does not say how long it is may go on for ever: what is there of it has to do.
            let len = value("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
            if body.len() < len && answer.len() < MAX_ANSWER && !is_all {
                return Ok(None);
            }
            return Err(self.not_upgraded(code, response.reason.unwrap_or_default(), body));
        }
        let is = |name, wanted: &str| {
            let mut words = value(name).unwrap_or_default().split(',').map(str::trim);
            words.any(|found| found.eq_ignore_ascii_case(wanted))
        };
        // RFC 6455 section 4.1; below HTTP/1.1 nothing can be upgraded.
        if response.version != Some(1) || !is("upgrade", "websocket") || !is("connection", "upgrade") {
            return Err(self.refused("what answers there is no WebSocket"));
        }
        if value("sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
            return Err(self.refused("the answer is to another request: something on the way keeps answers"));
        }
        if value("sec-websocket-protocol") != Some(Subprotocol::Postcard.as_str()) {
            return Err(self.refused("what answers there does not speak visorbus.v1.postcard"));
        }
        if value("sec-websocket-extensions").is_some() {
            return Err(self.refused("what answers there uses an extension that was not offered"));
        }
        Ok(Some(end))
    }

    fn not_upgraded(&self, code: u16, reason: &str, body: &[u8]) -> Error {
        let said = String::from_utf8_lossy(body);
        let said: String = said.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
        let text = format!("{} answers {code} {reason}: {}", self.url, said.trim());
        match code {
            401 | 403 => Error::Authorization(text),
            _ => Error::Connection(text),
        }
    }

    fn refused(&self, what: &str) -> Error {
        Error::Connection(format!("cannot connect to {}: {what}; see that the URL leads to a hub", self.url))
    }

    fn failed(&self, error: &io::Error) -> Error {
        let url = &self.url;
        match error.kind() {
            // Of TLS: who it is, and whom it believes.
            io::ErrorKind::PermissionDenied => {
                Error::Authentication(format!("cannot connect to {url}: {error}"))
            }
            io::ErrorKind::TimedOut => {
                Error::Timeout(format!("cannot connect to {url}: it did not answer in time"))
            }
            io::ErrorKind::ConnectionRefused => Error::Connection(format!(
                "cannot connect to {url}: {error}; start the hub, or correct the URL"
            )),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                let hint = if url.tls {
                    "it may not accept this end's certificate, or have no room"
                } else {
                    "it may want TLS (wss://), or have no room"
                };
                Error::Connection(format!("cannot connect to {url}: it hung up before the upgrade; {hint}"))
            }
            _ => Error::Connection(format!("cannot connect to {url}: {error}")),
        }
    }
}

impl Dial for WebSocketDial {
    fn dial(&self, deadline: Instant) -> Result<Arc<dyn Wire>> {
        let addresses = resolve(&self.url, deadline)?;
        let stream = connect(&addresses, deadline).map_err(|e| self.failed(&e))?;
        let mut channel = self.channel(stream)?;
        let tail = self.upgrade(&mut channel, deadline)?;
        Ok(Arc::new(WebSocketWire::new(channel, tail)))
    }

    fn place(&self) -> String {
        self.url.to_string()
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(HEARTBEAT)
    }
}

/// The addresses of a name. The system's resolver cannot be told how long to take, so that a thread asks it.
fn resolve(url: &Url, deadline: Instant) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = url.host.parse() {
        return Ok(vec![SocketAddr::new(address, url.port)]);
    }
    let (done, found) = sync_channel(1);
    let name = (url.host.clone(), url.port);
    std::thread::spawn(move || {
        let addresses = name.to_socket_addrs().map(|found| found.take(MAX_ADDRESSES).collect::<Vec<_>>());
        // Whoever asked may not wait any longer.
        let _ = done.send(addresses);
    });
    let unknown = |why: &str| Error::Connection(format!("'{}' has no address: {why}", url.host));
    match found.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(unknown("the name is known, but has none")),
        Ok(Err(error)) => Err(unknown(&error.to_string())),
        Err(_) => Err(Error::Timeout(format!("'{}' was not looked up in time", url.host))),
    }
}

/// Connects to the first address that answers; each has its share of the time.
fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
        if share.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Waits until the stream goes on.
fn await_stream(channel: &Channel, for_room: bool, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut events = PollFlags::POLLIN;
    events.set(PollFlags::POLLOUT, for_room);
    let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(channel.as_fd(), events)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Differs each time, so that no answer to another request passes for the one to this.
///
/// # Panics
/// When the system gives no random numbers. Linux gives them from early in its own start on.
fn new_key() -> String {
    let mut key = [0; 16];
    getrandom::fill(&mut key).expect("the system gives random numbers");
    BASE64.encode(&key)
}

/// What is read at once of the answer.
const READ_LEN: usize = 4096;
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// What is shown of a refusal's text, in characters.
const MAX_SAID: usize = 300;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// How often each end hears of the other.
const HEARTBEAT: Duration = Duration::from_secs(15);
