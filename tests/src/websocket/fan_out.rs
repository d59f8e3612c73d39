//! One publisher and many subscribers: a batch of notifications goes in, and every one of them comes out of every
//! subscriber's socket, all of which one process reads. What is measured as a round trip is one batch.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tungstenite::Message;

use crate::contest::{Contender, RoundTrip, Score};
use crate::cpu;
use crate::part::Part;
use crate::through_hub::binary;
use crate::websocket::bare::{connect, listen};
use crate::websocket::reader::Readers;
use crate::websocket::stream::{Security, Socket, other};

/// Plays the part here, if it is it.
pub(crate) fn play(part: &str, arguments: &[String]) -> Option<io::Result<()>> {
    match (part, arguments) {
        (FAN_OUT_PART, [security]) => Some(fan_out(&Security::from_argument(security))),
        _ => None,
    }
}

/// The limit: bare tungstenite that writes every message to all subscribers and flushes when there are no more to read.
#[derive(Debug)]
pub struct BareFanOut<'s> {
    program: PathBuf,
    security: &'s Security,
    cores: Cores,
}

impl<'s> BareFanOut<'s> {
    /// Starts its server from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, security: &'s Security, cores: Cores) -> Self {
        Self { program: program.into(), security, cores }
    }

    /// Its name in the table.
    pub const fn name_of(security: &Security) -> &'static str {
        if security.is_tls() { "bare wss, batched" } else { "bare ws, batched" }
    }
}

impl Contender for BareFanOut<'_> {
    fn name(&self) -> &'static str {
        Self::name_of(self.security)
    }

    fn start(&self, batch: usize) -> io::Result<RoundTrip> {
        let security = self.security.to_argument();
        let server = self.cores.start_server(|| Part::start(&self.program, FAN_OUT_PART, [security]))?;
        let connect = || connect(self.security, server.told());
        let subscribers = (0..SUBSCRIBERS).map(|_| connect()).collect::<io::Result<Vec<_>>>()?;
        let (publisher, message) = (connect()?, Message::binary(binary(MESSAGE_LEN)));
        fan_out_trip(publisher, move || Ok(message.clone()), subscribers, batch, server)
    }
}

/// Where the server runs and where this process does: apart, where there are two cores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cores {
    /// The server's core, and this process's.
    pub apart: Option<(usize, usize)>,
}

impl Cores {
    /// Starts a server on its core.
    ///
    /// # Errors
    /// What `start` says; there is no such core.
    pub fn start_server<T>(self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some((servers, ours)) = self.apart else { return start() };
        cpu::pin(Some(servers))?;
        let started = start();
        cpu::pin(Some(ours))?;
        started
    }
}

/// Publishes `batch` messages at once and waits until all subscribers have them; keeps `server` while it lives.
pub(crate) fn fan_out_trip(
    mut publisher: Socket,
    mut message: impl FnMut() -> io::Result<Message> + 'static,
    subscribers: Vec<Socket>,
    batch: usize,
    server: Part,
) -> io::Result<RoundTrip> {
    let mut readers = Readers::new(subscribers)?;
    let mut sent = 0;
    Ok(Box::new(move || {
        let _alive = &server;
        for _ in 0..batch {
            publisher.write(message()?).map_err(other)?;
        }
        publisher.flush().map_err(other)?;
        sent += batch as u64;
        readers.wait_for(sent)
    }))
}

/// Deliveries per second of a score in batches of [`Score::size`] messages.
pub fn deliveries(score: &Score) -> f64 {
    (SUBSCRIBERS * score.size) as f64 / score.trips.p50.as_secs_f64()
}

/// Writes what the last client sends to all the others, and flushes when there is nothing more to read.
fn fan_out(security: &Security) -> io::Result<()> {
    let listener = listen()?;
    let mut sockets =
        (0..=SUBSCRIBERS).map(|_| security.accept(&listener)).collect::<io::Result<Vec<_>>>()?;
    let mut publisher = sockets.pop().ok_or(io::ErrorKind::NotFound)?;
    publisher.get_ref().tcp().set_nonblocking(true)?;
    loop {
        match publisher.read() {
            Ok(message) => {
                for socket in &mut sockets {
                    socket.write(message.clone()).map_err(other)?;
                }
            }
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                sockets.iter_mut().try_for_each(Socket::flush).map_err(other)?;
                let mut fds = [PollFd::new(publisher.get_ref().tcp().as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::NONE)?;
            }
            // As every measurement ends.
            Err(_) => return Ok(()),
        }
    }
}

/// How many subscribers there are.
pub const SUBSCRIBERS: usize = 100;
/// Bytes of the payload of one notification.
pub const MESSAGE_LEN: usize = 64;
const FAN_OUT_PART: &str = "--part=ws-fan-out";
