//! Many WebSockets of one process that only count what arrives, and answer pings: the same for every server.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::websocket::stream::{Socket, Stream};

/// The client's ends of WebSockets on which nothing is said but pongs.
#[derive(Debug)]
pub struct Readers {
    readers: Vec<Reader>,
    epoll: Epoll,
    buffer: Vec<u8>,
}

impl Readers {
    /// Takes over WebSockets on which everything that has come was read.
    ///
    /// # Errors
    /// The system refuses to wait on one.
    pub fn new(sockets: Vec<Socket>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut readers = Vec::with_capacity(sockets.len());
        for (token, socket) in (0..).zip(sockets) {
            let stream = socket.into_inner();
            stream.tcp().set_nonblocking(true)?;
            epoll.add(stream.tcp(), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            readers.push(Reader { stream, frames: Frames::default(), count: 0 });
        }
        Ok(Self { readers, epoll, buffer: vec![0; 64 * 1024] })
    }

    /// Waits until every one of them has got `count` messages since it was made.
    ///
    /// # Errors
    /// `TimedOut` when they do not come; a connection is over; one has got more.
    pub fn wait_for(&mut self, count: u64) -> io::Result<()> {
        while self.readers.iter().any(|reader| reader.count < count) {
            if !self.wait(PATIENCE)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        if self.readers.iter().any(|reader| reader.count > count) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more came than was sent"));
        }
        Ok(())
    }

    /// Reads what comes for `time`.
    ///
    /// # Errors
    /// A connection is over.
    pub fn stay_for(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left < Duration::from_millis(1) {
                return Ok(());
            }
            self.wait(left)?;
        }
    }

    /// Reads from everyone who has something; `false` when nobody has for `patience`.
    fn wait(&mut self, patience: Duration) -> io::Result<bool> {
        let mut events = [EpollEvent::empty(); 128];
        let patience = EpollTimeout::try_from(patience).map_err(io::Error::other)?;
        let count = match self.epoll.wait(&mut events, patience) {
            Err(Errno::EINTR) => return Ok(true),
            count => count?,
        };
        for event in &events[..count] {
            self.readers[event.data() as usize].read(&mut self.buffer)?;
        }
        Ok(count > 0)
    }
}

/// One of them.
#[derive(Debug)]
struct Reader {
    stream: Stream,
    frames: Frames,
    count: u64,
}

impl Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.count += self.frames.take(&buffer[..len])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if let Some(ping) = self.frames.ping.take() {
                self.stream.write_all(&pong(&ping))?;
            }
            // A socket that has more says so again; what TLS has read already says nothing.
            if matches!(self.stream, Stream::Plain(_)) {
                return Ok(());
            }
        }
    }
}

/// Where one connection stands between its frames (RFC 6455 section 5.2).
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    /// Bytes of the current frame that have not come.
    rest: u64,
    opcode: u8,
    control: Vec<u8>,
    ping: Option<Vec<u8>>,
}

impl Frames {
    /// How many messages end in these bytes.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<u64> {
        let mut messages = 0;
        while let Some((&first, behind)) = bytes.split_first() {
            if self.rest == 0 {
                bytes = behind;
                self.head.push(first);
                let Some(len) = payload_len(&self.head) else { continue };
                (self.opcode, self.rest) = (self.head[0], len);
                self.head.clear();
            } else {
                let len = bytes.len().min(usize::try_from(self.rest).unwrap_or(usize::MAX));
                if self.opcode & 8 != 0 {
                    self.control.extend_from_slice(&bytes[..len]);
                }
                self.rest -= len as u64;
                bytes = &bytes[len..];
            }
            if self.rest == 0 {
                messages += self.end_frame()?;
            }
        }
        Ok(messages)
    }

    fn end_frame(&mut self) -> io::Result<u64> {
        let control = std::mem::take(&mut self.control);
        match self.opcode & 0xf {
            8 => Err(io::Error::other(format!("the server closes: {}", String::from_utf8_lossy(&control)))),
            9 => {
                self.ping = Some(control);
                Ok(0)
            }
            10 => Ok(0),
            _ => Ok(u64::from(self.opcode >> 7)),
        }
    }
}

/// The length of the payload behind this head once that is whole; a server's frames have no mask.
fn payload_len(head: &[u8]) -> Option<u64> {
    match *head {
        [_, len] if len < 126 => Some(u64::from(len)),
        [_, 126, high, low] => Some(u64::from(u16::from_be_bytes([high, low]))),
        [_, 127, a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

/// A client's answer to a ping, under a mask of zeros.
fn pong(ping: &[u8]) -> Vec<u8> {
    [&[0x8a, 0x80 | ping.len() as u8, 0, 0, 0, 0][..], ping].concat()
}

/// How long what was sent may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_bytes_are_cut() {
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let bytes = [&[0x82, 0][..], &[0x82, 3, 1, 2, 3], &long, &[0x89, 2, 8, 9], &[0x02, 1, 0, 0x80, 1, 0]];
        let bytes = bytes.concat();
        for cut in 1..bytes.len() {
            let mut frames = Frames::default();
            let counts: u64 = bytes.chunks(cut).map(|chunk| frames.take(chunk).unwrap()).sum();
            assert_eq!((counts, frames.ping.as_deref()), (4, Some(&[8, 9][..])), "cut at {cut}");
        }
    }

    #[test]
    fn a_close_is_an_error_with_its_reason() {
        let error = Frames::default().take(&[0x88, 4, 3, 0xe8, b'o', b'k']).unwrap_err();
        assert!(error.to_string().ends_with("ok"), "{error}");
    }
}
