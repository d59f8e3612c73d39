//! WebSockets as a [`Transport`]: frames of the test go over a WebSocket in either subprotocol, and come back as frames.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use visorbus_auth::Transport as Kind;
use visorbus_core::decode;
use visorbus_core::frame::length::{Split, prefix, split};
use visorbus_tests::json_text::JsonTexts;
use visorbus_tests::raw_peer::{RawPeer, frame_of};
use visorbus_tests::raw_websocket::{Frame, RawWebSocket, Upgrade};
use visorbus_websocket::Subprotocol;

use crate::transports::Transport;
use crate::world::World;

/// A WebSocket with one frame per binary message.
pub(crate) struct WebSocket;

/// A WebSocket with one envelope in JSON per text message.
pub(crate) struct Json;

impl Transport for WebSocket {
    const KIND: Kind = Kind::WebSocket;
    const HANGS_UP: bool = true;

    fn attach(world: &World, _name: &str) -> RawPeer {
        attach(world, Subprotocol::Postcard)
    }
}

impl Transport for Json {
    const KIND: Kind = Kind::WebSocket;
    const HANGS_UP: bool = true;
    const HAS_FRAMES: bool = false;

    fn attach(world: &World, _name: &str) -> RawPeer {
        attach(world, Subprotocol::Json)
    }
}

/// A peer whose frames a thread carries over a WebSocket, until either end is gone.
fn attach(world: &World, protocol: Subprotocol) -> RawPeer {
    let mut socket = RawWebSocket::connect(world.websockets());
    socket.upgrade(&Upgrade::new(world.websockets(), protocol.as_str()));
    let (near, far) = UnixStream::pair().unwrap();
    let texts = (protocol == Subprotocol::Json).then(JsonTexts::default);
    thread::spawn(move || Carrier { socket, test: far, waiting: Vec::new(), texts }.run());
    RawPeer::over(near)
}

struct Carrier {
    socket: RawWebSocket,
    test: UnixStream,
    /// From the test, not yet a whole frame.
    waiting: Vec<u8>,
    texts: Option<JsonTexts>,
}

impl Carrier {
    fn run(mut self) {
        loop {
            let mut fds =
                [PollFd::new(self.socket.stream(), PollFlags::IN), PollFd::new(&self.test, PollFlags::IN)];
            if poll(&mut fds, None).is_err() {
                return;
            }
            let [from_hub, from_test] = fds.map(|fd| !fd.revents().is_empty());
            if (from_hub && !self.take_from_hub()) || (from_test && !self.take_from_test()) {
                return;
            }
        }
    }

    /// `false` when the hub has hung up, or the test is gone.
    fn take_from_hub(&mut self) -> bool {
        while let Some(frame) = self.socket.read_frame() {
            match (frame.opcode, &mut self.texts) {
                (Frame::CLOSE, _) => {
                    self.socket.try_send(&Frame::close(1000, ""));
                    return false;
                }
                (Frame::PING, _) => drop(self.socket.try_send(&Frame::pong(frame.payload))),
                (_, None) => self.tell(&frame.payload),
                (_, Some(texts)) => {
                    let message = texts.read(std::str::from_utf8(&frame.payload).expect("a text"));
                    let frame = frame_of(&message.borrow().expect("addresses"));
                    self.tell(&frame);
                }
            }
            if self.socket.is_quiet_for(Duration::from_micros(1)) {
                return true;
            }
        }
        false
    }

    /// `false` when the test is over.
    fn take_from_test(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        let count = self.test.read(&mut bytes).unwrap_or(0);
        self.waiting.extend_from_slice(&bytes[..count]);
        while let Ok(Split::Frame { frame, consumed }) = split(&self.waiting, usize::MAX) {
            let frame = match &mut self.texts {
                None => Frame::binary(frame),
                Some(texts) => Frame::text(texts.write(&decode(frame).expect("JSON has only messages"))),
            };
            self.socket.try_send(&frame);
            self.waiting.drain(..consumed);
        }
        count > 0
    }

    /// The test may be gone, which is seen at the next read.
    fn tell(&mut self, frame: &[u8]) {
        let _ = self.test.write_all(&[&prefix(frame.len())[..], frame].concat());
    }
}
