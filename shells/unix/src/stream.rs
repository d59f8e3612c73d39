//! A connected Unix socket as a link of the hub: whole frames in and out, no wait, no file descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};

use visorbus_core::Instant;
use visorbus_core::frame::length::{PREFIX_LEN, Split, split};
use visorbus_hub::{HubLink, LinkOptions, Origin, ReceiveBuffer};

use crate::outgoing::Outgoing;

/// One connection of a Unix stream socket.
///
/// Bytes are read into the caller's memory; only the beginning of an unfinished frame, and what the socket would not
/// take, are kept here. Descriptors that the other end attaches are closed by the kernel, because nothing here offers
/// room for them (unix(7), SCM_RIGHTS).
#[derive(Debug)]
pub struct FramedStream {
    stream: UnixStream,
    origin: Origin,
    outgoing: Outgoing,
    unfinished: Vec<u8>,
    /// Bytes that the unfinished frame has when it is whole, prefix included.
    needed: usize,
}

impl FramedStream {
    /// Takes over a connected socket and asks the kernel who is at its other end.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        let origin = Origin::Unix { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() };
        Ok(Self { stream, origin, outgoing: Outgoing::default(), unfinished: Vec::new(), needed: 0 })
    }

    /// Bytes that the socket has not taken yet.
    pub const fn queued(&self) -> usize {
        self.outgoing.queued()
    }
}

impl AsFd for FramedStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl HubLink for FramedStream {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }

    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        let held = self.unfinished.len();
        let end = held + self.needed.saturating_sub(held).clamp(READ_LEN, LONG_READ);
        // Room is left for what is held, so that a frame that comes in many pieces is put together only once.
        let space = into.space(end);
        let Some(count) = read(&self.stream, &mut space[held..end], MsgFlags::MSG_DONTWAIT)? else {
            return Ok(());
        };
        if count == 0 {
            let kind =
                if held == 0 { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::ConnectionAborted };
            return Err(kind.into());
        }
        if held + count < self.needed {
            self.unfinished.extend_from_slice(&space[held..held + count]);
            return Ok(());
        }
        space[..held].copy_from_slice(&self.unfinished);
        into.filled(held + count);
        self.unfinished = Vec::new();
        self.needed = 0;
        Ok(())
    }

    fn keep(&mut self, rest: &[u8]) {
        self.unfinished = rest.to_vec();
        self.needed = match split(rest, usize::MAX) {
            Ok(Split::Incomplete { needed }) => needed,
            _ => PREFIX_LEN,
        };
    }

    fn has_room(&mut self, _head: u8, _len: usize) -> bool {
        self.outgoing.queued() < QUEUE_LEN
    }

    fn send(&mut self, head: &[u8], payload: &[u8], at_once: bool) -> io::Result<()> {
        self.outgoing.send(&self.stream, head, payload, at_once)
    }

    fn flush(&mut self, _now: Instant) -> io::Result<bool> {
        self.outgoing.flush(&self.stream)
    }

    fn is_idle(&self) -> bool {
        self.outgoing.queued() == 0
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn options(&self) -> LinkOptions {
        LinkOptions::default()
    }
}

/// Reads once; `None` when nothing has arrived, 0 at the end of the stream.
pub(crate) fn read(from: &UnixStream, into: &mut [u8], flags: MsgFlags) -> io::Result<Option<usize>> {
    loop {
        match recv(from.as_raw_fd(), into, flags) {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What one read takes at least.
const READ_LEN: usize = 256 * 1024;
/// What may be queued before [`HubLink::has_room`] says no.
const QUEUE_LEN: usize = 64 * 1024;
/// What one read takes at most, while a long frame is unfinished.
const LONG_READ: usize = 1 << 20;
