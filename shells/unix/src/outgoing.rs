//! What goes out of a socket: frames behind their length, written at once or kept until there is room. Never waits.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send, sendmsg};

use visorbus_core::frame::length::prefix;

/// The bytes that a socket did not take yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: Vec<u8>,
    start: usize,
    accepted: u64,
}

impl Outgoing {
    /// Takes one frame in two parts. With `at_once` and nothing before it, one system call writes what the socket takes.
    pub(crate) fn send(
        &mut self,
        to: &UnixStream,
        head: &[u8],
        payload: &[u8],
        at_once: bool,
    ) -> io::Result<()> {
        let len = prefix(head.len() + payload.len());
        let mut parts = [&len[..], head, payload];
        if at_once && self.queued() == 0 {
            let written = write_parts(to, parts)?;
            self.accepted += written as u64;
            skip(&mut parts, written);
        }
        for part in parts {
            self.queue.extend_from_slice(part);
            self.accepted += part.len() as u64;
        }
        Ok(())
    }

    /// Writes what is queued as far as it goes; `true` when nothing is left.
    pub(crate) fn flush(&mut self, to: &UnixStream) -> io::Result<bool> {
        while let Some(rest) = self.queue.get(self.start..).filter(|rest| !rest.is_empty()) {
            let written = write(to, rest)?;
            if written == 0 {
                return Ok(false);
            }
            self.start += written;
        }
        // An idle connection holds no buffer.
        self.queue = Vec::new();
        self.start = 0;
        Ok(true)
    }

    /// Bytes that wait.
    pub(crate) const fn queued(&self) -> usize {
        self.queue.len() - self.start
    }

    /// How many bytes were ever taken; once [`Outgoing::written`] has reached that, the socket has them all.
    pub(crate) const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many bytes the socket has ever taken.
    pub(crate) const fn written(&self) -> u64 {
        self.accepted - self.queued() as u64
    }
}

/// Writes three parts with one system call. Short ones are copied together first, which costs less than the kernel
/// takes to gather them: 20 ns against 110.
fn write_parts(to: &UnixStream, parts: [&[u8]; 3]) -> io::Result<usize> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut together = heapless::Vec::<u8, SHORT>::new();
    if len > SHORT || parts.iter().any(|part| together.extend_from_slice(part).is_err()) {
        let parts = parts.map(IoSlice::new);
        return again(|| sendmsg::<()>(to.as_raw_fd(), &parts, &[], FLAGS, None));
    }
    write(to, &together)
}

fn write(to: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    again(|| send(to.as_raw_fd(), bytes, FLAGS))
}

/// What a system call has written; 0: no room.
fn again(mut write: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Ok(written) => return Ok(written),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Drops the first `count` bytes of `parts`.
fn skip(parts: &mut [&[u8]], mut count: usize) {
    for part in parts {
        let here = count.min(part.len());
        *part = &part[here..];
        count -= here;
    }
}

/// Without waiting, and without SIGPIPE, which would end a process that did not ask for it.
const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
/// Frames up to this are copied together, prefix included.
const SHORT: usize = 1536;
