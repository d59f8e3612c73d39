//! What goes out of a socket: frames behind their length, written at once or kept until there is room. Never waits.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendmsg};

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
            let written = write(to, &parts.map(IoSlice::new))?;
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
            let written = write(to, &[IoSlice::new(rest)])?;
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

/// Writes without waiting and without SIGPIPE, which would end a process that did not ask for it; 0: no room.
fn write(to: &UnixStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(to.as_raw_fd(), parts, &[], flags, None) {
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
