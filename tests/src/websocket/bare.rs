//! The bare limits of a round trip: tungstenite, blocking, one thread, with Nagle's algorithm off.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use tungstenite::Message;

use crate::contest::{Against, Contender, RoundTrip};
use crate::part::{self, Part};
use crate::through_hub::binary;
use crate::websocket::stream::{Security, Socket, other};

/// Plays one of the parts here, if it is one.
pub(crate) fn play(part: &str, arguments: &[String]) -> Option<io::Result<()>> {
    match (part, arguments) {
        (ECHO_PART, [security]) => Some(echo(&Security::from_argument(security))),
        (RELAY_PART, [security, to]) => Some(relay(&Security::from_argument(security), to)),
        _ => None,
    }
}

/// One hop: this process and an echo server.
#[derive(Debug)]
pub struct OneHop<'s> {
    program: PathBuf,
    security: &'s Security,
}

impl<'s> OneHop<'s> {
    /// Starts its echo server from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security) -> Self {
        Self { program: program.into(), security }
    }

    /// Its name in the table.
    pub const fn name_of(security: &Security) -> &'static str {
        if security.is_tls() { "bare wss, one hop" } else { "bare ws, one hop" }
    }
}

impl Contender for OneHop<'_> {
    fn name(&self) -> &'static str {
        Self::name_of(self.security)
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let server = Part::start(&self.program, ECHO_PART, [self.security.to_argument()])?;
        let socket = connect(self.security, server.told())?;
        round_trip(socket, size, vec![server])
    }
}

/// Two hops: this process, a relay that moves messages and does nothing else, and an echo server.
#[derive(Debug)]
pub struct TwoHops<'s> {
    program: PathBuf,
    security: &'s Security,
}

impl<'s> TwoHops<'s> {
    /// Starts its relay and its echo server from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security) -> Self {
        Self { program: program.into(), security }
    }

    /// Its name in the table.
    pub const fn name_of(security: &Security) -> &'static str {
        if security.is_tls() { "bare wss, two hops" } else { "bare ws, two hops" }
    }
}

impl Contender for TwoHops<'_> {
    fn name(&self) -> &'static str {
        Self::name_of(self.security)
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: OneHop::name_of(self.security), at_most: None })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let security = self.security.to_argument();
        let server = Part::start(&self.program, ECHO_PART, [security])?;
        let relay = Part::start(&self.program, RELAY_PART, [security, server.told().as_ref()])?;
        let socket = connect(self.security, relay.told())?;
        round_trip(socket, size, vec![relay, server])
    }
}

/// Sends a message of `size` bytes and waits for the same; keeps `parts` while it lives.
fn round_trip(mut socket: Socket, size: usize, parts: Vec<Part>) -> io::Result<RoundTrip> {
    let message = Message::binary(binary(size));
    let expected = message.clone();
    let mut once = move || {
        let _alive = &parts;
        socket.send(message.clone()).map_err(other)?;
        socket.read().map_err(other)
    };
    // The first answer is looked at in full, outside of the measurement.
    if once()? != expected {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not what was sent"));
    }
    Ok(Box::new(move || once().map(|_| ())))
}

/// Answers every message of one client with itself.
fn echo(security: &Security) -> io::Result<()> {
    let mut socket = accept_one(security)?;
    // It fails when the client goes, as every measurement ends.
    while let Ok(message) = socket.read() {
        socket.send(message).map_err(other)?;
    }
    Ok(())
}

/// Moves every message of one client to the server at `to`, and what that answers back.
fn relay(security: &Security, to: &str) -> io::Result<()> {
    let mut right = connect(security, to)?;
    let mut left = accept_one(security)?;
    while let Ok(message) = left.read() {
        right.send(message).map_err(other)?;
        left.send(right.read().map_err(other)?).map_err(other)?;
    }
    Ok(())
}

fn accept_one(security: &Security) -> io::Result<Socket> {
    security.accept(&listen()?)
}

/// Listens, and says where.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    part::ready(listener.local_addr()?);
    Ok(listener)
}

/// Connects to where a part listens.
pub(crate) fn connect(security: &Security, to: &str) -> io::Result<Socket> {
    let to: SocketAddr = to.parse().map_err(io::Error::other)?;
    security.connect(to, Ipv4Addr::LOCALHOST.into(), None)
}

const ECHO_PART: &str = "--part=ws-echo";
const RELAY_PART: &str = "--part=ws-relay";
