//! A client of a hub over a WebSocket, as exact as a test needs it and no more: it speaks either subprotocol, and leaves
//! the socket open to everything that a client would not do.

use std::collections::VecDeque;
use std::net::SocketAddr;

use visorbus_core::bus::{self, Credentials, Identity, SlowConsumer, Subscribe};
use visorbus_core::codec;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload};
use visorbus_websocket::Subprotocol;

use crate::json_text::JsonTexts;
use crate::raw_peer::{frame_of, identity};
use crate::raw_websocket::{Frame, RawWebSocket, Upgrade};

/// One end of a WebSocket that leads to a hub.
#[derive(Debug)]
pub struct WebSocketPeer {
    /// The connection.
    pub socket: RawWebSocket,
    protocol: Subprotocol,
    texts: JsonTexts,
    /// What arrived while something else was waited for.
    aside: VecDeque<OwnedMessage>,
    next_id: u64,
}

impl WebSocketPeer {
    /// A connection without TLS that is a WebSocket, and on which nothing was said.
    pub fn open(address: SocketAddr, protocol: Subprotocol) -> Self {
        let mut socket = RawWebSocket::connect(address);
        socket.upgrade(&Upgrade::new(address, protocol.as_str()));
        Self::over(socket, protocol)
    }

    /// A connection that is a WebSocket already.
    pub fn over(socket: RawWebSocket, protocol: Subprotocol) -> Self {
        Self { socket, protocol, texts: JsonTexts::default(), aside: VecDeque::new(), next_id: 1 }
    }

    /// What it speaks.
    pub const fn protocol(&self) -> Subprotocol {
        self.protocol
    }

    /// Says hello as `name`.
    ///
    /// # Errors
    /// What the hub refused it with.
    pub fn hello(&mut self, name: &str) -> Result<OwnedMessage, Error> {
        let identity = Identity { heartbeat_ms: 600_000, ..identity(name) };
        self.request(bus::HELLO, OwnedPayload::postcard(&identity)?.borrow())
    }

    /// Shows a token.
    ///
    /// # Errors
    /// What the hub refused it with.
    pub fn authenticate(&mut self, token: &[u8]) -> Result<OwnedMessage, Error> {
        self.request(bus::AUTHENTICATE, OwnedPayload::postcard(&Credentials::Token(token))?.borrow())
    }

    /// Hears of what is published on the topics of `pattern`.
    ///
    /// # Errors
    /// What the hub refused it with.
    pub fn subscribe(&mut self, pattern: &str, policy: SlowConsumer) -> Result<OwnedMessage, Error> {
        self.request(bus::SUBSCRIBE, OwnedPayload::postcard(&Subscribe { pattern, policy })?.borrow())
    }

    /// Sends a request and waits for the answer; what else comes is kept.
    ///
    /// # Errors
    /// The error that came as the answer.
    pub fn request(&mut self, address: &str, payload: MessagePayload<'_>) -> Result<OwnedMessage, Error> {
        let id = self.send_request(address, payload);
        self.answer_to(id)
    }

    /// Sends a request and says under which id.
    pub fn send_request(&mut self, address: &str, payload: MessagePayload<'_>) -> u64 {
        let (id, frame) = self.request_frame(address, payload);
        self.socket.send(&frame);
        id
    }

    /// The frame of a request, and its id; nothing is sent.
    pub fn request_frame(&mut self, address: &str, payload: MessagePayload<'_>) -> (u64, Frame) {
        let id = self.next_id;
        self.next_id += 1;
        let frame = self.frame(&Message::request(id, parse(address)).with_payload(payload));
        (id, frame)
    }

    /// The frame of a message; nothing is sent.
    pub fn frame(&mut self, message: &Message<'_>) -> Frame {
        match self.protocol {
            Subprotocol::Json => Frame::text(self.texts.write(message)),
            Subprotocol::Postcard => Frame::binary(frame_of(message)),
        }
    }

    /// Waits for the answer to the request `id`; what else comes is kept.
    ///
    /// # Errors
    /// The error that came as the answer.
    pub fn answer_to(&mut self, id: u64) -> Result<OwnedMessage, Error> {
        let answer = self.read_where(|message| {
            message.id == id && matches!(message.message_type, MessageType::Response | MessageType::Error)
        });
        answer.error().map_or(Ok(answer), Err)
    }

    /// The next message that `is_wanted`; the others are kept.
    ///
    /// # Panics
    /// When none comes in time, or the hub hangs up.
    pub fn read_where(&mut self, is_wanted: impl Fn(&OwnedMessage) -> bool) -> OwnedMessage {
        if let Some(at) = self.aside.iter().position(&is_wanted) {
            return self.aside.remove(at).expect("it is there");
        }
        loop {
            let message = self.read_new();
            if is_wanted(&message) {
                return message;
            }
            self.aside.push_back(message);
        }
    }

    /// The next message from the connection, whatever was kept.
    ///
    /// # Panics
    /// When none comes in time, or the hub hangs up.
    pub fn read_new(&mut self) -> OwnedMessage {
        loop {
            let frame = self.socket.read_frame().expect("a message, but the hub hung up");
            match frame.opcode {
                Frame::PING => drop(self.socket.try_send(&Frame::pong(frame.payload))),
                Frame::PONG => {}
                _ => return self.message_in(&frame),
            }
        }
    }

    /// The message in a frame of the hub's.
    ///
    /// # Panics
    /// When it is none of this subprotocol.
    pub fn message_in(&mut self, frame: &Frame) -> OwnedMessage {
        let opcode = if self.protocol == Subprotocol::Json { Frame::TEXT } else { Frame::BINARY };
        assert!(frame.is_whole(opcode), "no message: {frame:?}");
        match self.protocol {
            Subprotocol::Json => {
                self.texts.read(std::str::from_utf8(&frame.payload).expect("a text is UTF-8"))
            }
            Subprotocol::Postcard => {
                OwnedMessage::from(&codec::decode(&frame.payload).expect("the hub sends messages"))
            }
        }
    }
}

fn parse(address: &str) -> Address<'_> {
    Address::new(address).expect("a test knows its addresses")
}
