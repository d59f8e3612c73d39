//! A TCP stream with or without TLS over it. Never waits; knows nothing of HTTP and WebSockets.
//!
//! rustls is driven by hand: what the socket has is given to it, plaintext is taken out until there is none, and it takes
//! plaintext only as fast as the socket takes what it makes of that. So nothing that was read is left inside where no
//! event tells of it, and nothing is queued without bound.

use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, sendmsg};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::tls::tls_error;

/// A connected TCP stream, plain or under TLS, of which no call waits.
pub struct Channel {
    stream: Arc<TcpStream>,
    tls: Option<Box<Connection>>,
}

impl Channel {
    /// Takes over a connected stream that stays as it is.
    ///
    /// # Errors
    /// The system refuses to make it non-blocking.
    pub fn plain(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // Frames are put together before they are written; none waits for the next.
        stream.set_nodelay(true)?;
        Ok(Self { stream: Arc::new(stream), tls: None })
    }

    /// Takes over an accepted stream on which the other end begins with TLS.
    ///
    /// # Errors
    /// As [`Channel::plain`], and when TLS cannot be set up with `config`.
    pub fn tls_server(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(|e| tls_error(&e))?;
        Self::with_tls(stream, connection.into())
    }

    /// Takes over a connected stream on which this end begins with TLS, with the server called `name`.
    ///
    /// # Errors
    /// As [`Channel::tls_server`].
    pub fn tls_client(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(|e| tls_error(&e))?;
        let mut channel = Self::with_tls(stream, connection.into())?;
        channel.flush()?;
        Ok(channel)
    }

    fn with_tls(stream: TcpStream, mut connection: Connection) -> io::Result<Self> {
        connection.set_buffer_limit(Some(TLS_QUEUE_LEN));
        Ok(Self { tls: Some(Box::new(connection)), ..Self::plain(stream)? })
    }

    /// Reads plaintext, one read at most from the socket if none is there already; handshakes on the way. 0 at the end.
    ///
    /// What it returns may not be all that has been read from the socket: it has to be called until it says
    /// `WouldBlock` before the descriptor is waited on.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `UnexpectedEof` when the stream ended without the end that TLS asks for;
    /// `InvalidData` with a text for people when TLS failed, `PermissionDenied` when it did because one end does not
    /// believe who the other is.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return Socket(&self.stream).read(into) };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            tls.read_tls(&mut Socket(&self.stream))?;
            process(tls, &self.stream)?;
        }
    }

    /// Reads what the socket has, `limit` bytes and 72 KiB at most, and gives all the plaintext in it to `take`: nothing is
    /// left inside but the beginning of a record. Says whether the socket had anything.
    ///
    /// # Errors
    /// As [`Channel::read`], a normal end being `UnexpectedEof` too; what came before is given to `take` all the same.
    pub(crate) fn read_all(&mut self, limit: usize, mut take: impl FnMut(&mut [u8])) -> io::Result<bool> {
        let mut scratch = SCRATCH.take();
        scratch.raw.resize(READ_LEN, 0);
        let read = self.read_through(limit.min(READ_LEN), &mut scratch, &mut take);
        SCRATCH.set(scratch);
        read
    }

    fn read_through(
        &mut self,
        limit: usize,
        scratch: &mut Scratch,
        take: &mut impl FnMut(&mut [u8]),
    ) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            drain(tls, &mut scratch.plain, take)?;
        }
        let count = match Socket(&self.stream).read(&mut scratch.raw[..limit]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(tls) = &mut self.tls else {
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(&mut scratch.raw[..count]);
            // There may have been a secret in it.
            scratch.raw[..count].fill(0);
            return Ok(true);
        };
        let mut rest = &scratch.raw[..count];
        loop {
            tls.read_tls(&mut rest)?;
            let processed = process(tls, &self.stream);
            drain(tls, &mut scratch.plain, take)?;
            processed?;
            if rest.is_empty() {
                let_go(tls);
                return Ok(true);
            }
        }
    }

    /// Takes as many of these bytes as there is room for, and writes them; 0 when there is none.
    ///
    /// # Errors
    /// The stream is over.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return match Socket(&self.stream).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                written => written,
            };
        };
        let mut taken = 0;
        while taken < bytes.len() {
            let is_through = push(tls, &self.stream)?;
            match tls.writer().write(&bytes[taken..])? {
                0 => break,
                count => taken += count,
            }
            if !is_through {
                break;
            }
        }
        push(tls, &self.stream)?;
        Ok(taken)
    }

    /// Writes what TLS has made and the socket has not taken yet; `true` when nothing is left.
    ///
    /// # Errors
    /// The stream is over.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.tls.as_mut().map_or(Ok(true), |tls| push(tls, &self.stream))
    }

    /// Whether something waits for the socket to take more; then [`Channel::flush`] has to be called when it does.
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether TLS is not through its handshake yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether there is TLS over the stream.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Says that nothing more comes, as far as that goes at once. What the other end still sends may be read.
    pub fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // Whoever has gone already need not know.
            let _ = push(tls, &self.stream);
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The DER of the certificate that the other end has proven to own, once the handshake is over.
    pub fn certificate(&self) -> Option<&[u8]> {
        let tls = self.tls.as_ref().filter(|tls| !tls.is_handshaking())?;
        tls.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// The stream below, for those who wait on it.
    pub(crate) fn share(&self) -> Arc<TcpStream> {
        Arc::clone(&self.stream)
    }

    /// The stream below.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("stream", &self.stream).field("tls", &self.is_tls()).finish()
    }
}

/// The socket without a wait and without SIGPIPE, which would end a process that did not ask for it.
struct Socket<'s>(&'s TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        again(|| recv(self.0.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT))
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
        again(|| sendmsg::<()>(self.0.as_raw_fd(), parts, &[], flags, None))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has TLS look at what it was given; where that is wrong, the other end is told so.
fn process(tls: &mut Connection, stream: &TcpStream) -> io::Result<()> {
    let processed = tls.process_new_packets();
    // Its part of the handshake, or the alert. That the socket is over is seen at the next read.
    let _ = push(tls, stream);
    processed.map(drop).map_err(|error| tls_error(&error))
}

/// Gives all the plaintext that is there to `take`, through `plain`.
fn drain(tls: &mut Connection, plain: &mut Vec<u8>, take: &mut impl FnMut(&mut [u8])) -> io::Result<()> {
    plain.resize(PLAIN_LEN, 0);
    loop {
        match tls.reader().read(plain) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                take(&mut plain[..count]);
                plain[..count].fill(0);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Has TLS give back the memory that long records took, which it does before it reads; what it then reads is nothing.
fn let_go(tls: &mut Connection) {
    struct Nothing;

    impl Read for Nothing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    // It says that there is nothing.
    let _ = tls.read_tls(&mut Nothing);
}

/// Writes what TLS has made as far as the socket takes it; `true` when nothing is left.
fn push(tls: &mut Connection, stream: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut Socket(stream)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn again(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

/// What all channels of a thread are read through: none has to keep memory of its own.
#[derive(Default)]
struct Scratch {
    raw: Vec<u8>,
    plain: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch { raw: Vec::new(), plain: Vec::new() }) };
}

/// What one read takes from a socket: a message of 64 KiB with all its heads is not cut off, and so not put together.
const READ_LEN: usize = 72 * 1024;
/// What is taken out of TLS at once.
const PLAIN_LEN: usize = 32 * 1024;
/// What TLS may have made and not written, in bytes.
const TLS_QUEUE_LEN: usize = 64 * 1024;
