//! Round trips through a real hub, to be held against the bare limits of the same minute.
//!
//! The hub and the service are processes of their own, as in [`crate::bare`]; the measuring process is the client.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tempfile::TempDir;
use visorbus_auth::{KeyFile, TokenRequest};
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::seal::PayloadKey;
use visorbus_core::{IpcError, Message};
use visorbus_hub::{HubConfig, OwnedMessage, OwnedPayload};
use visorbus_unix::{Credentials, UnixSocketClient, UnixSocketServer};

use crate::bare::{OneHop, TwoHops};
use crate::contest::{Against, Contender, RoundTrip};
use crate::part::{self, Part};

/// Plays the part that this process was started for, if it was; beside [`crate::bare::play_part`].
pub fn play_part() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    let (part, socket) = (arguments.next()?, arguments.next());
    let played = match (part.as_str(), socket) {
        (HUB_PART, Some(socket)) => be_hub(Path::new(&socket)),
        (SERVICE_PART, Some(socket)) => be_service(Path::new(&socket)),
        _ => return None,
    };
    Some(part::curtain(&part, played))
}

/// A call to a service in another process: two hops, as [`TwoHops`].
#[derive(Debug)]
pub struct ToService {
    program: PathBuf,
    what: What,
}

/// What is sent to the service and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Bytes,
    SealedBytes,
    Json,
    CompressedJson,
}

/// A call to a handler inside the hub: one hop, as [`OneHop`].
#[derive(Debug)]
pub struct ToHandler {
    program: PathBuf,
}

impl ToService {
    /// Starts hub and service from `program`, whose `main` calls [`play_part`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), what: What::Bytes }
    }

    /// The same, sealed with a key that client and service share.
    pub fn sealed(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), what: What::SealedBytes }
    }

    /// The same, with JSON in place of bytes.
    pub fn json(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), what: What::Json }
    }

    /// The same JSON, the request compressed.
    pub fn compressed(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), what: What::CompressedJson }
    }
}

impl ToHandler {
    /// Starts its hub from `program`, whose `main` calls [`play_part`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Contender for ToService {
    fn name(&self) -> &'static str {
        match self.what {
            What::Bytes => "hub, to a service",
            What::SealedBytes => "hub, sealed",
            What::Json => "hub, JSON",
            What::CompressedJson => "hub, compressed",
        }
    }

    fn against(&self) -> Option<Against> {
        let at_most = (self.what == What::Bytes).then_some(1.3);
        Some(Against { limit: TwoHops::NAME, at_most })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let mut system = System::start(&self.program)?;
        system.parts.push(Part::start(&self.program, SERVICE_PART, [&system.socket])?);
        let address = if self.what == What::SealedBytes { "sealed/echo" } else { "service/echo" };
        let payload = match self.what {
            What::Bytes | What::SealedBytes => bytes(size),
            What::Json | What::CompressedJson => json(size),
        };
        let mut request = OwnedMessage::request(address, payload);
        request.flags.compressed = self.what == What::CompressedJson;
        system.round_trip(request)
    }
}

impl Contender for ToHandler {
    fn name(&self) -> &'static str {
        "hub, to its handler"
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: OneHop::NAME, at_most: Some(1.5) })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        System::start(&self.program)?.round_trip(OwnedMessage::request("handler/echo", bytes(size)))
    }
}

/// A hub, perhaps a service, and where they meet. The parts end before their directory is removed.
struct System {
    parts: Vec<Part>,
    socket: PathBuf,
    directory: TempDir,
}

impl System {
    fn start(program: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("run/bus.sock");
        let hub = Part::start(program, HUB_PART, [&socket])?;
        Ok(Self { parts: vec![hub], socket, directory })
    }

    fn round_trip(self, request: OwnedMessage) -> io::Result<RoundTrip> {
        let client = connect(&self.socket, "client")?;
        if request.destination.starts_with("sealed/") {
            client.share_key("sealed", payload_key()).map_err(other)?;
        }
        let expected = request.payload.clone();
        let once = move || {
            let _alive = (&self.parts, &self.directory);
            client.send_request(&request, None).map_err(other)
        };
        // The first answer is looked at in full, outside of the measurement.
        if once()?.payload != expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not what was sent"));
        }
        Ok(Box::new(move || once().map(|_| ())))
    }
}

fn be_hub(socket: &Path) -> io::Result<()> {
    let keys = keys();
    let config = HubConfig::new(keys.ring(), keys.current_id());
    let mut server = UnixSocketServer::new(socket, config).map_err(other)?;
    server.register_handler(Box::new(Echo("handler"))).map_err(other)?;
    server.start().map_err(other)?;
    part::ready("");
    part::stay()
}

fn be_service(socket: &Path) -> io::Result<()> {
    let client = connect(socket, "echo")?;
    client.share_key("sealed", payload_key()).map_err(other)?;
    client.register_handler(Box::new(Echo("service"))).map_err(other)?;
    client.register_handler(Box::new(Echo("sealed"))).map_err(other)?;
    part::ready("");
    part::stay()
}

fn connect(socket: &Path, name: &str) -> io::Result<UnixSocketClient> {
    let client = UnixSocketClient::new(socket, name).map_err(other)?;
    client.connect().map_err(other)?;
    let token = keys().mint(&TokenRequest::new(name, &["*"])).map_err(io::Error::other)?;
    client.authenticate(&Credentials::Token(token)).map_err(other)?;
    Ok(client)
}

/// Gives back what it gets, under this name.
pub(crate) struct Echo(pub(crate) &'static str);

impl MessageHandler for Echo {
    fn id(&self) -> &str {
        self.0
    }

    fn handle_message(&mut self, message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        reply.payload(message.payload)
    }
}

fn bytes(size: usize) -> OwnedPayload {
    OwnedPayload::Binary(binary(size))
}

pub(crate) fn binary(size: usize) -> Vec<u8> {
    (0..size).map(|at| at as u8).collect()
}

/// About `size` bytes of what a configuration looks like.
fn json(size: usize) -> OwnedPayload {
    let mut text = "[".to_owned();
    let mut number: u32 = 1;
    while text.len() < size.saturating_sub(60) {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += &format!(r#"{{"sensor":"imu-{}","rate_hz":{},"on":true}},"#, number >> 28, number >> 20);
    }
    OwnedPayload::Json(text + "null]")
}

fn payload_key() -> PayloadKey {
    PayloadKey::new([0x3c; 32])
}

pub(crate) fn keys() -> KeyFile {
    KeyFile::in_memory(0, [0x5a; 32])
}

pub(crate) fn other(error: visorbus_hub::Error) -> io::Error {
    io::Error::other(error.to_string())
}

const HUB_PART: &str = "--part=hub";
const SERVICE_PART: &str = "--part=hub-service";
