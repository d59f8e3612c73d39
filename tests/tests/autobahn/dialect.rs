//! Who is examined: the hub's server over each of its subprotocols, which echoes by a handler, and beside it a bare
//! tungstenite that echoes whole messages, as Autobahn expects it. Cases that hold there are written right.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig as Bare;
use visorbus_core::message::{Address, MessagePayload, MessageType};
use visorbus_core::{bus, encode};
use visorbus_tests::raw_websocket::{Frame, RawWebSocket, Upgrade};
use visorbus_websocket::Subprotocol;

use crate::script::Far;
use crate::world::World;

/// A server, and how it is spoken to.
pub(crate) struct Dialect {
    kind: Kind,
    protocol: Subprotocol,
}

enum Kind {
    Hub(Box<World>),
    Bare(SocketAddr),
}

/// A message that is echoed: what goes over the wire, and what comes back.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) opcode: u8,
    pub(crate) bytes: Vec<u8>,
    content: Vec<u8>,
}

impl Dialect {
    /// Everything that speaks text.
    pub(crate) fn text() -> Vec<Self> {
        vec![Self::bare(Subprotocol::Json), Self::hub(Subprotocol::Json)]
    }

    /// Everything there is.
    pub(crate) fn all() -> Vec<Self> {
        let binary = [Self::bare(Subprotocol::Postcard), Self::hub(Subprotocol::Postcard)];
        Self::text().into_iter().chain(binary).collect()
    }

    fn hub(protocol: Subprotocol) -> Self {
        Self { kind: Kind::Hub(Box::new(World::start())), protocol }
    }

    fn bare(protocol: Subprotocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the process.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(echo(stream))));
        Self { kind: Kind::Bare(address), protocol }
    }

    /// Whether it is the hub's.
    pub(crate) const fn is_hub(&self) -> bool {
        matches!(self.kind, Kind::Hub(_))
    }

    /// Whether its messages are texts.
    pub(crate) fn is_text(&self) -> bool {
        self.protocol == Subprotocol::Json
    }

    /// The number of a case that Autobahn has once for texts and once for bytes.
    pub(crate) fn number<'n>(&self, text: &'n str, binary: &'n str) -> &'n str {
        if self.is_text() { text } else { binary }
    }

    /// A connection over which a message is echoed.
    pub(crate) fn connect(&self) -> RawWebSocket {
        match &self.kind {
            Kind::Hub(world) => world.admitted(self.protocol, "fuzz", &["request:echo/*"]).socket,
            Kind::Bare(address) => {
                let mut socket = RawWebSocket::connect(*address);
                socket.upgrade(&Upgrade::new(address, self.protocol.as_str()));
                socket
            }
        }
    }

    /// A message with this in it.
    pub(crate) fn message(&self, content: impl AsRef<[u8]>) -> Message {
        let content = content.as_ref().to_vec();
        let bytes = match (&self.kind, self.protocol) {
            (Kind::Bare(_), _) => content.clone(),
            (_, Subprotocol::Json) => [TEXT_BEFORE, &escaped(&content), TEXT_BEHIND].concat(),
            (_, Subprotocol::Postcard) => frame_of("echo/x", &content),
        };
        Message { opcode: self.opcode(), bytes, content }
    }

    /// A message of exactly so many bytes; `None` where there is none that short.
    pub(crate) fn message_of(&self, len: usize) -> Option<Message> {
        let content = match (&self.kind, self.protocol) {
            (Kind::Bare(_), _) => vec![b'*'; len],
            (_, Subprotocol::Json) => {
                vec![b'*'; len.checked_sub(TEXT_BEFORE.len() + TEXT_BEHIND.len())?]
            }
            (_, Subprotocol::Postcard) => {
                vec![0xfe; len.checked_sub(self.message([]).bytes.len())?]
            }
        };
        let message = self.message(content);
        assert_eq!(message.bytes.len(), len, "the header of a frame does not grow with it");
        Some(message)
    }

    /// Demands that `frame` is the echo of `message`.
    pub(crate) fn check_echo(&self, frame: &Frame, message: &Message) -> Result<(), String> {
        let wrong = || Err(format!("the echo of '{}' is {frame:?}", shown(&message.content)));
        if !frame.is_whole(self.opcode()) {
            return wrong();
        }
        let is_echo = match (&self.kind, self.protocol) {
            (Kind::Bare(_), _) => frame.payload == message.bytes,
            (_, Subprotocol::Json) => {
                let answer: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap_or_default();
                let answer = &answer["payload"];
                let is_answer = answer["message_type"] == "Response" && answer["id"] == "7";
                is_answer && answer["payload"]["String"].as_str().map(str::as_bytes) == Some(&message.content)
            }
            (_, Subprotocol::Postcard) => visorbus_core::decode(&frame.payload).is_ok_and(|answer| {
                answer.id == 7
                    && answer.is_reply()
                    && answer.payload == MessagePayload::Binary(&message.content)
            }),
        };
        if is_echo { Ok(()) } else { wrong() }
    }

    /// Demands that the hub says that what came was no message, and closes as it has to.
    pub(crate) fn check_no_message(&self, far: &mut Far) -> Result<(), String> {
        let told = far.data()?;
        if self.is_text() {
            let answer: serde_json::Value = serde_json::from_slice(&told.payload).unwrap_or_default();
            if answer["message_type"] != "Error" || !answer["payload"]["text"].is_string() {
                return Err(format!("no word of what was wrong: {told:?}"));
            }
            return far.ending(&[1007], true);
        }
        let (error, goodbye) = (visorbus_core::decode(&told.payload), far.data()?);
        if !error.is_ok_and(|answer| answer.message_type == MessageType::Error) {
            return Err(format!("no word of what was wrong: {told:?}"));
        }
        let goodbye = visorbus_core::decode(&goodbye.payload).map_err(|_| "no goodbye".to_owned())?;
        if goodbye.destination.is_none_or(|to| to.as_str() != bus::GOODBYE) {
            return Err(format!("no goodbye: {goodbye:?}"));
        }
        far.ending(&[1002], true)
    }

    /// How often the handler ran; as often as it had to, where there is none.
    pub(crate) fn runs(&self) -> usize {
        match &self.kind {
            Kind::Hub(world) => world.runs(),
            Kind::Bare(_) => 0,
        }
    }

    /// Demands that somebody else on the same hub is served, after so many echoes.
    #[track_caller]
    pub(crate) fn is_unharmed_after(&self, echoes: usize) {
        if let Kind::Hub(world) = &self.kind {
            world.is_unharmed_after(echoes);
        }
    }

    fn opcode(&self) -> u8 {
        if self.is_text() { Frame::TEXT } else { Frame::BINARY }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_hub() { "the hub" } else { "bare tungstenite" };
        write!(f, "{name}, {}", self.protocol)
    }
}

impl Message {
    /// With nothing at all in it.
    pub(crate) fn empty(dialect: &Dialect) -> Self {
        Self { opcode: dialect.opcode(), bytes: Vec::new(), content: Vec::new() }
    }

    /// In two fragments, the first of so many bytes.
    pub(crate) fn cut(&self, at: usize) -> [Frame; 2] {
        let (first, second) = self.bytes.split_at(at);
        [Frame::new(self.opcode, first).with_more(), Frame::continuation(second)]
    }

    /// In one frame.
    pub(crate) fn whole(&self) -> Frame {
        Frame::new(self.opcode, &*self.bytes)
    }

    /// In `count` fragments of about the same length.
    pub(crate) fn fragments(&self, count: usize) -> Vec<Frame> {
        let fragments = Frame::fragments(self.opcode, &self.bytes, self.bytes.len().div_ceil(count));
        assert_eq!(fragments.len(), count);
        fragments
    }
}

/// One connection after the other, each to its end.
#[allow(clippy::result_large_err, reason = "it is tungstenite's")]
fn echo(stream: TcpStream) -> tungstenite::Result<()> {
    let agree = |request: &Request, mut response: Response| {
        let offered = request.headers().get("Sec-WebSocket-Protocol").cloned();
        let offered = offered.unwrap_or(HeaderValue::from_static(""));
        response.headers_mut().insert("Sec-WebSocket-Protocol", offered);
        Ok(response)
    };
    let limits = Bare::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let accepted = tungstenite::accept_hdr_with_config(stream, agree, Some(limits));
    let mut socket = accepted.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    loop {
        let message = socket.read()?;
        if message.is_text() || message.is_binary() {
            socket.send(message)?;
        }
    }
}

fn frame_of(address: &str, content: &[u8]) -> Vec<u8> {
    let address = Address::new(address).unwrap();
    let request = visorbus_core::Message::request(7, address).with_payload(MessagePayload::Binary(content));
    let mut frame = vec![0; content.len() + 64];
    let len = encode(&request, &mut frame).unwrap();
    frame.truncate(len);
    frame
}

/// What JSON does not take as it is, escaped; what is not UTF-8 stays as it is.
fn escaped(content: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        0..0x20 | b'"' | b'\\' => format!("\\u{byte:04x}").into_bytes(),
        byte => vec![*byte],
    };
    content.iter().flat_map(escape).collect()
}

fn shown(content: &[u8]) -> String {
    content[..content.len().min(80)].escape_ascii().to_string()
}

/// The longest message that both take.
pub(crate) const LIMIT: usize = 1 << 20;
const TEXT_BEFORE: &[u8] =
    br#"{"message_type":"IPC","payload":{"message_type":"Request","id":"7","destination":"echo/x","payload":{"String":""#;
const TEXT_BEHIND: &[u8] = br#""}}}"#;
