//! The hub that is held against the bare limits: real servers and clients, each a process of its own, and members that are
//! connected to it by hand where there are many.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tungstenite::Message as Frame;
use visorbus_auth::{TokenRequest, TokenText};
use visorbus_core::bus::{self, SlowConsumer, Subscribe};
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_core::{codec, encode};
use visorbus_hub::{HubConfig, OwnedMessage, OwnedPayload};
use visorbus_unix::Credentials;
use visorbus_websocket::{Subprotocol, WebSocketClient, WebSocketConfig, WebSocketServer};

use crate::contest::{Against, Contender, RoundTrip};
use crate::part::{self, Part};
use crate::raw_peer::identity;
use crate::through_hub::{Echo, binary, keys, other};
use crate::websocket::bare::{OneHop, TwoHops};
use crate::websocket::fan_out::{BareFanOut, Cores, MESSAGE_LEN, SUBSCRIBERS, fan_out_trip};
use crate::websocket::idle::Holder;
use crate::websocket::stream::{Security, Socket, other as failed};

/// Plays one of the parts here, if it is one.
pub(crate) fn play(part: &str, arguments: &[String]) -> Option<io::Result<()>> {
    match (part, arguments) {
        (HUB_PART, [security]) => Some(be_hub(Security::from_argument(security))),
        (SERVICE_PART, [security, to]) => Some(be_service(&Security::from_argument(security), to)),
        _ => None,
    }
}

/// A call to a handler inside the hub: one hop, as [`OneHop`].
#[derive(Debug)]
pub struct ToHandler<'s> {
    program: PathBuf,
    security: &'s Security,
}

/// A call to a service in another process: two hops, as [`TwoHops`].
#[derive(Debug)]
pub struct ToService<'s> {
    program: PathBuf,
    security: &'s Security,
}

/// Notifications through the hub to all subscribers, as [`BareFanOut`].
#[derive(Debug)]
pub struct HubFanOut<'s> {
    program: PathBuf,
    security: &'s Security,
    cores: Cores,
}

/// Clients that have authenticated and say nothing more.
#[derive(Debug)]
pub struct HubHolder<'s> {
    program: PathBuf,
    security: &'s Security,
    was_used: bool,
}

impl<'s> ToHandler<'s> {
    /// Starts its hub from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security) -> Self {
        Self { program: program.into(), security }
    }
}

impl<'s> ToService<'s> {
    /// Starts hub and service from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security) -> Self {
        Self { program: program.into(), security }
    }
}

impl<'s> HubFanOut<'s> {
    /// Starts its hub from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security, cores: Cores) -> Self {
        Self { program: program.into(), security, cores }
    }
}

impl<'s> HubHolder<'s> {
    /// Starts its hub from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security) -> Self {
        Self { program: program.into(), security, was_used: false }
    }

    /// The same, where every client has had a long message answered before it says nothing more.
    pub fn used(program: impl Into<PathBuf>, security: &'s Security) -> Self {
        Self { was_used: true, ..Self::new(program, security) }
    }
}

impl Contender for ToHandler<'_> {
    fn name(&self) -> &'static str {
        if self.security.is_tls() { "hub wss, to its handler" } else { "hub ws, to its handler" }
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: OneHop::name_of(self.security), at_most: Some(1.5) })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let hub = start_hub(&self.program, self.security)?;
        round_trip(self.security, "handler/echo", size, vec![hub])
    }
}

impl Contender for ToService<'_> {
    fn name(&self) -> &'static str {
        if self.security.is_tls() { "hub wss, to a service" } else { "hub ws, to a service" }
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: TwoHops::name_of(self.security), at_most: Some(1.5) })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let hub = start_hub(&self.program, self.security)?;
        let arguments = [self.security.to_argument(), hub.told().as_ref()];
        let service = Part::start(&self.program, SERVICE_PART, arguments)?;
        round_trip(self.security, "service/echo", size, vec![hub, service])
    }
}

impl Contender for HubFanOut<'_> {
    fn name(&self) -> &'static str {
        if self.security.is_tls() { "hub wss" } else { "hub ws" }
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: BareFanOut::name_of(self.security), at_most: Some(2.0) })
    }

    fn start(&self, batch: usize) -> io::Result<RoundTrip> {
        let hub = self.cores.start_server(|| start_hub(&self.program, self.security))?;
        let join = |number| {
            let mut member = Member::connect(self.security, &hub, number)?;
            member.subscribe(TOPIC)?;
            Ok(member.socket)
        };
        let subscribers = (0..SUBSCRIBERS).map(join).collect::<io::Result<Vec<_>>>()?;
        let publisher = Member::connect(self.security, &hub, SUBSCRIBERS)?;
        let (payload, mut id) = (binary(MESSAGE_LEN), publisher.next_id);
        let notification = move || {
            id += 1;
            frame_of(&Message::notification(id, parse(TOPIC)?).with_payload(MessagePayload::Binary(&payload)))
        };
        fan_out_trip(publisher.socket, notification, subscribers, batch, hub)
    }
}

impl Holder for HubHolder<'_> {
    fn name(&self) -> &'static str {
        match (self.security.is_tls(), self.was_used) {
            (false, false) => "hub ws",
            (false, true) => "hub ws, after 64 KiB",
            (true, false) => "hub wss",
            (true, true) => "hub wss, after 64 KiB",
        }
    }

    fn at_most(&self) -> Option<f64> {
        Some(if self.security.is_tls() { 24.0 } else { 12.0 })
    }

    fn start(&self) -> io::Result<Part> {
        start_hub(&self.program, self.security)
    }

    fn join(&self, server: &Part, number: usize) -> io::Result<Socket> {
        let mut member = Member::connect(self.security, server, number)?;
        if self.was_used {
            member.ask(LONG)?;
        }
        Ok(member.socket)
    }
}

/// A client that has authenticated, driven by hand: no thread, so that there may be thousands.
#[derive(Debug)]
pub struct Member {
    socket: Socket,
    next_id: u64,
}

impl Member {
    /// Connects and authenticates the client `number`, from an address that few others have.
    ///
    /// # Errors
    /// The hub does not take it.
    pub fn connect(security: &Security, hub: &Part, number: usize) -> io::Result<Self> {
        let to: SocketAddr = hub.told().parse().map_err(io::Error::other)?;
        let last = u8::try_from(number / PER_ADDRESS + 1).map_err(io::Error::other)?;
        let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
        let socket = security.connect(to, from, Some(Subprotocol::Postcard.as_str()))?;
        let mut member = Self { socket, next_id: 0 };
        let name = format!("member-{number}");
        let hello = OwnedPayload::postcard(&identity(&name)).map_err(other)?;
        member.request(bus::HELLO, hello.borrow())?;
        let token = mint(&name)?.to_bytes().map_err(io::Error::other)?;
        let token = OwnedPayload::postcard(&bus::Credentials::Token(&token)).map_err(other)?;
        member.request(bus::AUTHENTICATE, token.borrow())?;
        Ok(member)
    }

    /// Asks the hub's own handler for the `size` bytes that it sends.
    ///
    /// # Errors
    /// No answer comes, or another one.
    pub fn ask(&mut self, size: usize) -> io::Result<()> {
        let payload = binary(size);
        let answer = self.request("handler/echo", MessagePayload::Binary(&payload))?;
        if answer.payload == OwnedPayload::Binary(payload) {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn subscribe(&mut self, pattern: &str) -> io::Result<()> {
        let subscribe = Subscribe { pattern, policy: SlowConsumer::Disconnect };
        let subscribe = OwnedPayload::postcard(&subscribe).map_err(other)?;
        self.request(bus::SUBSCRIBE, subscribe.borrow()).map(drop)
    }

    fn request(&mut self, address: &str, payload: MessagePayload<'_>) -> io::Result<OwnedMessage> {
        self.next_id += 1;
        let request = Message::request(self.next_id, parse(address)?).with_payload(payload);
        self.socket.send(frame_of(&request)?).map_err(failed)?;
        loop {
            let Frame::Binary(frame) = self.socket.read().map_err(failed)? else { continue };
            let message = codec::decode(&frame).map_err(|e| io::Error::other(format!("{e:?}")))?;
            let answer = OwnedMessage::from(&message);
            match answer.message_type {
                MessageType::Notification => {}
                MessageType::Error => {
                    return Err(io::Error::other(format!("{address}: {:?}", answer.error())));
                }
                _ => return Ok(answer),
            }
        }
    }
}

/// Asks `address` of the first part for `size` bytes and waits for them; keeps `parts` while it lives.
fn round_trip(security: &Security, address: &str, size: usize, parts: Vec<Part>) -> io::Result<RoundTrip> {
    let client = connect(security, parts[0].told(), "client")?;
    let request = OwnedMessage::request(address, OwnedPayload::Binary(binary(size)));
    let expected = request.payload.clone();
    let once = move || {
        let _alive = &parts;
        client.send_request(&request, None).map_err(other)
    };
    // The first answer is looked at in full, outside of the measurement.
    if once()?.payload != expected {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not what was sent"));
    }
    Ok(Box::new(move || once().map(|_| ())))
}

fn start_hub(program: &std::path::Path, security: &Security) -> io::Result<Part> {
    Part::start(program, HUB_PART, [security.to_argument()])
}

fn be_hub(security: Security) -> io::Result<()> {
    let keys = keys();
    let mut hub = HubConfig::new(keys.ring(), keys.current_id());
    hub.limits.max_peers = 12_000;
    let mut server = WebSocketServer::new("127.0.0.1:0", hub).map_err(other)?;
    let mut config = WebSocketConfig::default();
    config.tls = security.server();
    config.door.connections_per_address = PER_ADDRESS;
    server.set_config(config).map_err(other)?;
    server.register_handler(Box::new(Echo("handler"))).map_err(other)?;
    server.start().map_err(other)?;
    part::ready(server.local_addr().ok_or(io::ErrorKind::AddrNotAvailable)?);
    part::stay()
}

fn be_service(security: &Security, to: &str) -> io::Result<()> {
    let client = connect(security, to, "echo")?;
    client.register_handler(Box::new(Echo("service"))).map_err(other)?;
    part::ready("");
    part::stay()
}

fn connect(security: &Security, to: &str, name: &str) -> io::Result<WebSocketClient> {
    let scheme = if security.is_tls() { "wss" } else { "ws" };
    let client = WebSocketClient::new(&format!("{scheme}://{to}/"), name).map_err(other)?;
    if let Some(tls) = security.client() {
        client.set_tls_config(tls).map_err(other)?;
    }
    client.connect().map_err(other)?;
    client.authenticate(&Credentials::Token(mint(name)?)).map_err(other)?;
    Ok(client)
}

fn mint(name: &str) -> io::Result<TokenText> {
    keys().mint(&TokenRequest::new(name, &["*"])).map_err(io::Error::other)
}

fn frame_of(message: &Message<'_>) -> io::Result<Frame> {
    let mut frame = vec![0; message.payload.as_bytes().len() + 256];
    let len = encode(message, &mut frame).map_err(|e| io::Error::other(format!("{e:?}")))?;
    frame.truncate(len);
    Ok(Frame::binary(frame))
}

fn parse(address: &str) -> io::Result<Address<'_>> {
    Address::new(address).map_err(|e| io::Error::other(format!("{e:?}")))
}

const TOPIC: &str = "bench/fan-out";
/// Bytes of a long message.
const LONG: usize = 64 * 1024;
/// Connections of one address, as many as the hub is told to allow.
const PER_ADDRESS: usize = 200;
const HUB_PART: &str = "--part=ws-hub";
const SERVICE_PART: &str = "--part=ws-service";
