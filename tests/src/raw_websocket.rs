//! The far end of a WebSocket, driven by hand: it writes exact bytes, over TLS or not, and sees exact frames.
//!
//! It keeps no rule of RFC 6455: what a well-behaved client does, and everything that one never does, is written out by
//! the test. Nothing here waits without a deadline; what does not come within [`PATIENCE`] fails the test.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ExtractedSecrets, StreamOwned};
use tungstenite::handshake::derive_accept_key;

use crate::patience::PATIENCE;

/// A connection to a WebSocket server, without a mind of its own.
pub struct RawWebSocket {
    wire: Wire,
    bytes: Vec<u8>,
    buffer: Vec<u8>,
}

impl RawWebSocket {
    /// A TCP connection on which nothing was said.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("somebody listens");
        Self::over(stream)
    }

    /// The same, over a connection that is there already.
    ///
    /// # Panics
    /// When the system does not let it be changed.
    pub fn over(stream: TcpStream) -> Self {
        // What is written in pieces leaves in pieces.
        stream.set_nodelay(true).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        Self { wire: Wire::Plain(stream), bytes: Vec::new(), buffer: vec![0; 64 * 1024] }
    }

    /// A connection with TLS through its handshake, as the server called `name`.
    ///
    /// # Errors
    /// Either end did not want the other; in TLS 1.3 a server may still say so later.
    ///
    /// # Panics
    /// When nobody listens there, or `name` is none.
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let Wire::Plain(mut stream) = Self::connect(address).wire else { unreachable!() };
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).expect("a test knows its names");
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        let wire = Wire::Tls(Box::new(StreamOwned::new(tls, stream)));
        Ok(Self { wire, bytes: Vec::new(), buffer: vec![0; 64 * 1024] })
    }

    /// Asks to make a WebSocket of this connection.
    ///
    /// # Panics
    /// When the server does not, exactly as asked.
    pub fn upgrade(&mut self, upgrade: &Upgrade) {
        let answer = self.ask(&upgrade.to_bytes());
        assert_eq!(answer.status, 101, "{answer:?}");
        let key = upgrade.value("Sec-WebSocket-Key").expect("a test asks for what can be answered");
        assert_eq!(answer.value("Sec-WebSocket-Accept"), Some(&*derive_accept_key(key.as_bytes())));
        assert_eq!(answer.value("Sec-WebSocket-Protocol"), upgrade.value("Sec-WebSocket-Protocol"));
        assert_eq!(answer.value("Sec-WebSocket-Extensions"), None);
    }

    /// Writes an HTTP request and reads the answer to it.
    ///
    /// # Panics
    /// When none comes.
    pub fn ask(&mut self, request: &[u8]) -> Answer {
        // Who refuses what it has not read to the end may hang up on the rest of it.
        self.try_write(request);
        self.read_answer().expect("an answer, but the server hung up")
    }

    /// Reads an answer to an HTTP request; `None` when the server hangs up instead.
    ///
    /// # Panics
    /// When neither comes in time, or it is no answer.
    pub fn read_answer(&mut self) -> Option<Answer> {
        let end = Instant::now() + PATIENCE;
        let mut searched = 0;
        let head_len = loop {
            let found = self.bytes[searched..].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break searched + at + 4;
            }
            searched = self.bytes.len().saturating_sub(3);
            if !self.fill(end) {
                assert!(self.bytes.is_empty(), "half an answer: {}", self.bytes.escape_ascii());
                return None;
            }
        };
        let head: Vec<u8> = self.bytes.drain(..head_len).collect();
        let mut answer = Answer::parse(&String::from_utf8(head).expect("a head is a text"));
        let body_len = answer.value("Content-Length").map_or(0, |len| len.parse().expect("a length"));
        while self.bytes.len() < body_len {
            assert!(self.fill(end), "the body is cut off: {answer:?}");
        }
        let body = self.bytes.drain(..body_len).collect();
        answer.body = String::from_utf8(body).expect("a body is a text");
        Some(answer)
    }

    /// Writes bytes as they are.
    ///
    /// # Panics
    /// When the server does not take them in time.
    pub fn write(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).expect("the server reads");
    }

    /// As [`RawWebSocket::write`], where the server may hang up in the middle: says whether it did not.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).is_ok()
    }

    /// Writes bytes in pieces of `len`, each by itself.
    ///
    /// # Panics
    /// When the server does not take them in time.
    pub fn write_chopped(&mut self, bytes: &[u8], len: usize) {
        bytes.chunks(len).for_each(|piece| self.write(piece));
    }

    /// Writes a frame.
    ///
    /// # Panics
    /// When the server does not take it in time.
    pub fn send(&mut self, frame: &Frame) {
        self.write(&frame.to_bytes());
    }

    /// As [`RawWebSocket::send`], where the server may have hung up: says whether it had not.
    pub fn try_send(&mut self, frame: &Frame) -> bool {
        self.try_write(&frame.to_bytes())
    }

    /// Writes as much of `bytes` as the connection takes right now; says how much, 0 also when it is over. Not over TLS.
    ///
    /// # Panics
    /// Over TLS.
    pub fn write_what_fits(&mut self, bytes: &[u8]) -> usize {
        let Wire::Plain(stream) = &mut self.wire else { panic!("over TLS there is always more") };
        stream.set_nonblocking(true).expect("a socket");
        let written = stream.write(bytes).unwrap_or(0);
        stream.set_nonblocking(false).expect("a socket");
        written
    }

    /// Writes all of `bytes`, and reads only when the server takes no more of them, as long as `take` wants more frames.
    ///
    /// # Panics
    /// When neither end gets on for [`PATIENCE`], or the server hangs up.
    pub fn exchange(&mut self, mut bytes: &[u8], mut take: impl FnMut(Frame) -> bool) {
        self.stream().set_nonblocking(true).expect("a socket");
        let mut wants_more = true;
        while wants_more {
            let written = match self.wire.write(bytes) {
                Err(error) if is_timeout(&error) => 0,
                written => written.expect("the server reads"),
            };
            bytes = &bytes[written..];
            if written > 0 {
                continue;
            }
            match self.wire.read(&mut self.buffer) {
                Err(error) if is_timeout(&error) => self.wait(!bytes.is_empty()),
                read => {
                    let count = read.expect("the server writes");
                    assert!(count > 0, "the server hung up");
                    self.bytes.extend_from_slice(&self.buffer[..count]);
                }
            }
            let mut used = 0;
            while let Some((frame, len)) = Frame::parse(&self.bytes[used..]).filter(|_| wants_more) {
                used += len;
                wants_more = take(frame);
            }
            self.bytes.drain(..used);
        }
        self.stream().set_nonblocking(false).expect("a socket");
    }

    /// Waits until the socket has something, or takes something.
    fn wait(&self, output: bool) {
        let output = output || matches!(&self.wire, Wire::Tls(tls) if tls.conn.wants_write());
        let wanted = if output { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let longest = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let came = poll(&mut [PollFd::new(self.stream(), wanted)], Some(&longest)).expect("a socket");
        assert!(came > 0, "nothing came within {PATIENCE:?}");
    }

    /// The next frame; `None` when the server has hung up.
    ///
    /// # Panics
    /// When neither comes in time.
    pub fn read_frame(&mut self) -> Option<Frame> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some((frame, len)) = Frame::parse(&self.bytes) {
                self.bytes.drain(..len);
                return Some(frame);
            }
            if !self.fill(end) {
                return None;
            }
        }
    }

    /// Reads frames up to and with the next that `is_wanted`; the others are dropped.
    ///
    /// # Panics
    /// When it does not come in time, or the server hangs up.
    pub fn read_where(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.read_frame().expect("a frame, but the server hung up");
            if is_wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads until the server ends the connection, and says how it did; what else it sent is dropped.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn read_ending(&mut self) -> Ending {
        while let Some(frame) = self.read_frame() {
            if frame.opcode != Frame::CLOSE {
                continue;
            }
            // Closed for good by whoever closed first or both.
            self.try_send(&Frame::close(1000, ""));
            let after = self.read_frame();
            assert_eq!(after, None, "something came after the end");
            return Ending::of(&frame);
        }
        Ending { code: None, reason: String::new() }
    }

    /// Everything that arrives until the server hangs up, as bytes.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        while self.fill(end) {}
        std::mem::take(&mut self.bytes)
    }

    /// Whether nothing at all arrives for `time`, not even an end.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.bytes.is_empty()
            && matches!(self.try_fill(Instant::now() + time), Err(error) if is_timeout(&error))
    }

    /// The connection below TLS, and the keys above it: from here on, records are the test's.
    ///
    /// # Panics
    /// Without TLS, or when its secrets may not be had.
    pub fn into_secrets(self) -> (Self, ExtractedSecrets) {
        let Wire::Tls(tls) = self.wire else { panic!("there is no TLS") };
        let StreamOwned { conn, sock } = *tls;
        (Self::over(sock), conn.dangerous_extract_secrets().expect("the test has asked for them"))
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.wire.stream()
    }

    /// Reads once; `false` at the end.
    fn fill(&mut self, end: Instant) -> bool {
        match self.try_fill(end) {
            Ok(count) => count > 0,
            Err(error) if is_end(&error) => false,
            Err(error) => panic!("nothing came within {PATIENCE:?}: {error}"),
        }
    }

    fn try_fill(&mut self, end: Instant) -> io::Result<usize> {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream().set_read_timeout(Some(left))?;
        let count = self.wire.read(&mut self.buffer)?;
        self.bytes.extend_from_slice(&self.buffer[..count]);
        Ok(count)
    }
}

impl fmt::Debug for RawWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawWebSocket").field("stream", self.stream()).finish_non_exhaustive()
    }
}

/// A frame of RFC 6455 section 5.2, or what looks like one.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last of its message.
    pub is_final: bool,
    /// The three reserved bits, RSV1 the highest (4).
    pub reserved: u8,
    /// The opcode, four bits.
    pub opcode: u8,
    /// What the payload is masked with; `None` where it is not.
    pub mask: Option<[u8; 4]>,
    /// How the length is written.
    pub length: Length,
    /// The payload, not masked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Opcode of what goes on with a message.
    pub const CONTINUATION: u8 = 0;
    /// Opcode of a text.
    pub const TEXT: u8 = 1;
    /// Opcode of bytes.
    pub const BINARY: u8 = 2;
    /// Opcode of a close.
    pub const CLOSE: u8 = 8;
    /// Opcode of a ping.
    pub const PING: u8 = 9;
    /// Opcode of a pong.
    pub const PONG: u8 = 10;

    /// A whole message as a client sends it, but for what is changed about it.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        Self { is_final: true, reserved: 0, opcode, mask, length: Length::Shortest, payload: payload.into() }
    }

    /// A text.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::new(Self::TEXT, text)
    }

    /// Bytes.
    pub fn binary(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Self::BINARY, bytes)
    }

    /// What goes on with a message, and ends it.
    pub fn continuation(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Self::CONTINUATION, bytes)
    }

    /// A ping.
    pub fn ping(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Self::PING, bytes)
    }

    /// A pong.
    pub fn pong(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Self::PONG, bytes)
    }

    /// A close with a code and a reason.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(Self::CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// With more of its message behind it.
    #[must_use]
    pub fn with_more(self) -> Self {
        Self { is_final: false, ..self }
    }

    /// With these reserved bits.
    #[must_use]
    pub fn with_reserved(self, reserved: u8) -> Self {
        Self { reserved, ..self }
    }

    /// With its length written so.
    #[must_use]
    pub fn with_length(self, length: Length) -> Self {
        Self { length, ..self }
    }

    /// Without a mask, as only servers may send it.
    #[must_use]
    pub fn unmasked(self) -> Self {
        Self { mask: None, ..self }
    }

    /// A message in fragments of `len` bytes at most; one, where it has none.
    pub fn fragments(opcode: u8, message: &[u8], len: usize) -> Vec<Self> {
        let mut pieces: Vec<&[u8]> = message.chunks(len).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let last = pieces.len() - 1;
        let fragment = |(at, piece): (usize, &&[u8])| {
            let frame = Self::new(if at == 0 { opcode } else { Self::CONTINUATION }, *piece);
            Self { is_final: at == last, ..frame }
        };
        pieces.iter().enumerate().map(fragment).collect()
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.is_final) << 7 | self.reserved << 4 | self.opcode];
        let masked = u8::from(self.mask.is_some()) << 7;
        let (len, form) = match self.length {
            Length::Shortest => (self.payload.len() as u64, Length::Shortest),
            Length::Claimed(len) => (len, Length::Shortest),
            form => (self.payload.len() as u64, form),
        };
        match (form, len) {
            (Length::Shortest, 0..=125) => bytes.push(masked | len as u8),
            (Length::Shortest, 126..=0xffff) | (Length::In16, _) => {
                bytes.push(masked | 126);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend_from_slice(&len.to_be_bytes());
            }
        }
        let start = bytes.len() + self.mask.map_or(0, |mask| mask.len());
        bytes.extend_from_slice(self.mask.as_ref().map_or(&[][..], |mask| &mask[..]));
        bytes.extend_from_slice(&self.payload);
        apply(self.mask, &mut bytes[start..]);
        bytes
    }

    /// The first frame in `bytes` and how long it is there; `None` when it is not all there.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], mut rest) = bytes.split_first_chunk::<2>()?;
        let (len, length) = match second & 0x7f {
            126 => {
                let (len, after) = rest.split_first_chunk()?;
                rest = after;
                let len = u16::from_be_bytes(*len);
                (u64::from(len), if len > 125 { Length::Shortest } else { Length::In16 })
            }
            127 => {
                let (len, after) = rest.split_first_chunk()?;
                rest = after;
                let len = u64::from_be_bytes(*len);
                (len, if len > 0xffff { Length::Shortest } else { Length::In64 })
            }
            len => (u64::from(len), Length::Shortest),
        };
        let mut mask = None;
        if second & 0x80 != 0 {
            let (key, after) = rest.split_first_chunk::<4>()?;
            (mask, rest) = (Some(*key), after);
        }
        let mut payload = rest.get(..usize::try_from(len).ok()?)?.to_vec();
        apply(mask, &mut payload);
        let consumed = bytes.len() - rest.len() + payload.len();
        let (is_final, reserved, opcode) = (first & 0x80 != 0, first >> 4 & 7, first & 15);
        Some((Self { is_final, reserved, opcode, mask, length, payload }, consumed))
    }

    /// Whether it is exactly as a server has to send a whole message of this kind: final, not masked, no reserved bits,
    /// its length as short as it goes.
    pub fn is_whole(&self, opcode: u8) -> bool {
        self.is_final
            && self.opcode == opcode
            && (self.reserved, self.mask, self.length) == (0, None, Length::Shortest)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.payload[..self.payload.len().min(200)];
        let Self { is_final, reserved, opcode, .. } = self;
        write!(f, "Frame {{ final {is_final}, reserved {reserved}, opcode {opcode}, ")?;
        write!(f, "{:?}, {} bytes '{}' }}", self.length, self.payload.len(), shown.escape_ascii())
    }
}

/// How the length of a frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As RFC 6455 asks: with as few bytes as it goes.
    Shortest,
    /// With two more bytes, whatever it is.
    In16,
    /// With eight more bytes, whatever it is.
    In64,
    /// Another than it is.
    Claimed(u64),
}

/// How a server ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The code of its close; `None` when it hung up without, or without a code.
    pub code: Option<u16>,
    /// What it said to people.
    pub reason: String,
}

impl Ending {
    /// What a close says.
    ///
    /// # Panics
    /// When it is none that a server may send.
    pub fn of(close: &Frame) -> Self {
        assert!(close.is_whole(Frame::CLOSE) && close.payload.len() <= 125, "{close:?}");
        let Some((code, reason)) = close.payload.split_first_chunk() else {
            assert!(close.payload.is_empty(), "half a code: {close:?}");
            return Self { code: None, reason: String::new() };
        };
        let reason = String::from_utf8(reason.to_vec()).expect("a reason is a text");
        Self { code: Some(u16::from_be_bytes(*code)), reason }
    }
}

/// A request to make a WebSocket of an HTTP connection, as a browser or anybody else says it.
#[derive(Debug, Clone)]
pub struct Upgrade {
    line: String,
    headers: Vec<(String, String)>,
}

impl Upgrade {
    /// As a client that is no browser asks for `/` at `host`, with this subprotocol.
    pub fn new(host: impl fmt::Display, subprotocol: &str) -> Self {
        Self { line: "GET / HTTP/1.1".to_owned(), headers: Vec::new() }
            .also("Host", &host.to_string())
            .also("Upgrade", "websocket")
            .also("Connection", "Upgrade")
            .also("Sec-WebSocket-Version", "13")
            .also("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .also("Sec-WebSocket-Protocol", subprotocol)
    }

    /// With another first line.
    #[must_use]
    pub fn with_line(self, line: &str) -> Self {
        Self { line: line.to_owned(), ..self }
    }

    /// With another value of this header, where it stood first.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        match self.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// With this header once more.
    #[must_use]
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// The first value of this header.
    pub fn value(&self, name: &str) -> Option<&str> {
        value_of(&self.headers, name)
    }

    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("{}\r\n{}\r\n", self.line, headers.collect::<String>()).into_bytes()
    }
}

/// An answer over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Names and values, in their order.
    pub headers: Vec<(String, String)>,
    /// The body, as long as `Content-Length` says.
    pub body: String,
}

impl Answer {
    /// The first value of this header.
    pub fn value(&self, name: &str) -> Option<&str> {
        value_of(&self.headers, name)
    }

    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
        let status =
            status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"));
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line}"));
            (name.to_owned(), value.trim().to_owned())
        };
        let headers = lines.filter(|line| !line.is_empty()).map(header).collect();
        Self { status, headers, body: String::new() }
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => {
                let count = tls.write(bytes)?;
                match tls.flush() {
                    // It is taken, and leaves with what comes next.
                    Err(error) if is_timeout(&error) => Ok(count),
                    flushed => flushed.map(|()| count),
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn apply(mask: Option<[u8; 4]>, payload: &mut [u8]) {
    let Some(mask) = mask else { return };
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

fn value_of<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Also an end without a goodbye of TCP or TLS.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::UnexpectedEof | Kind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for length in [Length::Shortest, Length::In16, Length::In64] {
                if length == Length::In16 && len > 65_535 {
                    continue;
                }
                let frame = Frame::new(11, vec![7; len]).with_reserved(5).with_more().with_length(length);
                let bytes = frame.to_bytes();
                let (read, consumed) = Frame::parse(&bytes).unwrap();
                assert_eq!((&read.payload, consumed), (&frame.payload, bytes.len()));
                assert_eq!(
                    (read.opcode, read.reserved, read.is_final, read.mask),
                    (11, 5, false, frame.mask)
                );
                assert_eq!(read.to_bytes(), bytes);
                assert!((0..bytes.len().min(20)).all(|cut| Frame::parse(&bytes[..cut]).is_none()));
            }
        }
    }

    #[test]
    fn the_masked_text_of_the_rfc_is_made_byte_by_byte() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(Frame::text("Hello").to_bytes(), masked);
        assert_eq!(Frame::text("Hello").unmasked().to_bytes(), b"\x81\x05Hello");
    }

    #[test]
    fn fragments_make_up_their_message() {
        let fragments = Frame::fragments(Frame::TEXT, b"abcde", 2);
        let shown: Vec<_> = fragments.iter().map(|f| (f.opcode, f.is_final, f.payload.as_slice())).collect();
        assert_eq!(shown, [(1, false, &b"ab"[..]), (0, false, b"cd"), (0, true, b"e")]);
        assert_eq!(Frame::fragments(Frame::BINARY, b"", 2), [Frame::binary("")]);
    }
}
