//! The bare limits: what a round trip costs on Unix stream sockets when nobody does anything with the message.
//!
//! Every part is a process of its own. The program that measures starts itself again for each of them, with a hidden
//! argument, and hands over the sockets as standard input and output, so that nothing has a name in the file system.
//! A part ends when its socket does; whoever started it kills and reaps it on drop.

use std::env;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::contest::{Against, Contender, RoundTrip};

/// Plays the part that this process was started for, if it was; the first thing that `main` does.
pub fn play_part() -> Option<ExitCode> {
    let part = env::args().nth(1)?;
    let played = match part.as_str() {
        ECHO_PART => stream_of(io::stdin()).and_then(echo),
        RELAY_PART => stream_of(io::stdin())
            .and_then(|left| stream_of(io::stdout()).and_then(|right| relay(left, right))),
        _ => return None,
    };
    Some(if played.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One hop: this process and an echo server, joined by a Unix stream socket.
#[derive(Debug)]
pub struct OneHop {
    program: PathBuf,
}

impl OneHop {
    /// Its name in the table.
    pub const NAME: &'static str = "bare, one hop";

    /// Starts its echo server from `program`, whose `main` calls [`play_part`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Contender for OneHop {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let (ours, theirs) = UnixStream::pair()?;
        let server = Part::start(&self.program, ECHO_PART, theirs, None)?;
        round_trip(ours, size, vec![server])
    }
}

/// Two hops: this process, a relay on level-triggered epoll that moves bytes and nothing else, and an echo server.
#[derive(Debug)]
pub struct TwoHops {
    program: PathBuf,
}

impl TwoHops {
    /// Its name in the table.
    pub const NAME: &'static str = "bare, two hops";

    /// Starts its relay and its echo server from `program`, whose `main` calls [`play_part`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Contender for TwoHops {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn against(&self) -> Option<Against> {
        Some(Against { limit: OneHop::NAME, at_most: None })
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let (ours, relays_left) = UnixStream::pair()?;
        let (relays_right, theirs) = UnixStream::pair()?;
        let server = Part::start(&self.program, ECHO_PART, theirs, None)?;
        let relay = Part::start(&self.program, RELAY_PART, relays_left, Some(relays_right))?;
        round_trip(ours, size, vec![relay, server])
    }
}

/// A process of the measurement; killed and reaped on drop.
struct Part(Child);

impl Part {
    fn start(
        program: &PathBuf,
        part: &str,
        stdin: UnixStream,
        stdout: Option<UnixStream>,
    ) -> io::Result<Self> {
        let stdout = stdout.map_or_else(Stdio::null, |stream| OwnedFd::from(stream).into());
        let mut command = Command::new(program);
        command.arg(part).stdin(OwnedFd::from(stdin)).stdout(stdout);
        command.spawn().map(Self)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Fails only when it has already been waited for, which nobody else does.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes a message of `size` bytes behind its length and reads the same back, blocking; keeps `parts` while it lives.
fn round_trip(mut stream: UnixStream, size: usize, parts: Vec<Part>) -> io::Result<RoundTrip> {
    let message = message(size)?;
    let mut answer = vec![0; message.len()];
    let mut once = move |answer: &mut [u8]| {
        let _alive = &parts;
        stream.write_all(&message)?;
        stream.read_exact(answer)?;
        Ok(message[..PREFIX] == answer[..PREFIX] && message.len() == answer.len())
    };
    // The first answer is looked at in full, outside of the measurement.
    let looks_right = once(&mut answer)?;
    if !looks_right || answer != self::message(size)? {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not what was sent"));
    }
    Ok(Box::new(move || once(&mut answer).map(|_| ())))
}

/// `size` bytes of a pattern behind their length.
fn message(size: usize) -> io::Result<Vec<u8>> {
    if size > BUFFER_LEN - PREFIX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {size} bytes is too long"),
        ));
    }
    let mut message = (size as u32).to_le_bytes().to_vec();
    message.extend((0..size).map(|at| (at % 251) as u8));
    Ok(message)
}

/// Answers every whole message with itself until the stream ends.
fn echo(mut stream: UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut held = 0;
    loop {
        match stream.read(&mut buffer[held..])? {
            0 => return Ok(()),
            count => held += count,
        }
        while let Some(len) = whole_message(&buffer[..held])? {
            stream.write_all(&buffer[..len])?;
            buffer.copy_within(len..held, 0);
            held -= len;
        }
    }
}

/// The length, prefix included, of the message that `bytes` start with, once all of it is there.
fn whole_message(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(&prefix) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = PREFIX + u32::from_le_bytes(prefix) as usize;
    if len > BUFFER_LEN {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((len <= bytes.len()).then_some(len))
}

/// Moves whatever arrives on either stream to the other one until one of them ends.
fn relay(left: UnixStream, right: UnixStream) -> io::Result<()> {
    let sides = [left, right];
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut interests = [EpollFlags::EPOLLIN; 2];
    for (token, side) in (0..).zip(&sides) {
        side.set_nonblocking(true)?;
        epoll.add(side, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
    }
    // lanes[n] takes from side n.
    let mut lanes = [Lane::new(), Lane::new()];
    loop {
        let mut events = [EpollEvent::empty(); 2];
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        for event in &events[..count] {
            let here = event.data() as usize;
            let there = 1 - here;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                lanes[there].write(&sides[here])?;
            }
            // A hang-up shows itself as the end of the stream.
            if event.events() != EpollFlags::EPOLLOUT && lanes[here].is_empty() {
                if lanes[here].read(&sides[here])? == 0 {
                    return Ok(());
                }
                lanes[here].write(&sides[there])?;
            }
        }
        for (here, side) in sides.iter().enumerate() {
            let mut interest = EpollFlags::empty();
            interest.set(EpollFlags::EPOLLIN, lanes[here].is_empty());
            interest.set(EpollFlags::EPOLLOUT, !lanes[1 - here].is_empty());
            if interest != interests[here] {
                epoll.modify(side, &mut EpollEvent::new(interest, here as u64))?;
                interests[here] = interest;
            }
        }
    }
}

/// One direction of the relay: what was read and is not yet written.
struct Lane {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Lane {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER_LEN], start: 0, end: 0 }
    }

    /// Reads once; 0 at the end of the stream.
    fn read(&mut self, mut from: &UnixStream) -> io::Result<usize> {
        let count = from.read(&mut self.buffer)?;
        (self.start, self.end) = (0, count);
        Ok(count)
    }

    /// Writes once; what does not fit stays.
    fn write(&mut self, mut to: &UnixStream) -> io::Result<()> {
        match to.write(&self.buffer[self.start..self.end]) {
            Ok(count) => self.start += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// A socket that was handed over as a standard stream.
fn stream_of(standard: impl AsFd) -> io::Result<UnixStream> {
    let fd: BorrowedFd<'_> = standard.as_fd();
    fd.try_clone_to_owned().map(UnixStream::from)
}

const ECHO_PART: &str = "--part=bare-echo";
const RELAY_PART: &str = "--part=bare-relay";
/// Bytes of the length before a message.
const PREFIX: usize = 4;
/// What the echo server and each direction of the relay can hold.
const BUFFER_LEN: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_relay_loses_nothing_when_the_receiver_stalls() {
        let (mut sender, left) = UnixStream::pair().unwrap();
        let (right, mut receiver) = UnixStream::pair().unwrap();
        let relay = thread::spawn(move || relay(left, right));
        let sent: Vec<u8> = (0..4 << 20).map(|at: u32| (at % 251) as u8).collect();
        // The sender's last bytes leave only after the relay has had to stop reading for lack of room.
        let expected = sent.clone();
        let writer = thread::spawn(move || {
            sender.write_all(&sent).unwrap();
            sender
        });
        let mut received = vec![0; expected.len()];
        receiver.read_exact(&mut received).unwrap();
        assert!(received == expected);
        drop(writer.join().unwrap());
        assert!(relay.join().unwrap().is_ok());
    }

    #[test]
    fn the_relay_carries_both_directions_at_once() {
        let (sender, left) = UnixStream::pair().unwrap();
        let (right, server) = UnixStream::pair().unwrap();
        let relay = thread::spawn(move || relay(left, right));
        let server = thread::spawn(move || echo(server));
        let mut trip = round_trip(sender, 200_000, Vec::new()).unwrap();
        (0..20).for_each(|_| trip().unwrap());
        drop(trip);
        assert!(relay.join().unwrap().is_ok());
        assert!(server.join().unwrap().is_ok());
    }

    #[test]
    fn the_echo_server_answers_messages_that_arrive_in_pieces_or_together() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || echo(server));
        let sent = [message(3).unwrap(), message(0).unwrap(), message(5000).unwrap()].concat();
        let mut received = vec![0; sent.len()];
        for piece in [&sent[..2], &sent[2..9], &sent[9..]] {
            client.write_all(piece).unwrap();
        }
        client.read_exact(&mut received).unwrap();
        assert_eq!(received, sent);
        drop(client);
        assert!(server.join().unwrap().is_ok());
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_refused() {
        let (client, _server) = UnixStream::pair().unwrap();
        let error = round_trip(client, BUFFER_LEN, Vec::new()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(whole_message(&(BUFFER_LEN as u32).to_le_bytes()).is_err());
    }
}
