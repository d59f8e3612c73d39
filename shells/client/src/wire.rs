//! What carries a client's messages, as the client drives it. Knows no session and no message, only frames.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use visorbus_hub::Result;

use crate::inbox::Inbox;

/// One live connection to a hub. When it has ended it stays so; the client [dials](Dial) a new one.
///
/// # For the implementer
/// Threads share it: one reads, while others send and flush. So nothing may be locked while [`Wire::read`] or
/// [`Wire::wait`] waits, and only those two wait. No other method blocks.
///
/// An error means that the connection is over, [`io::ErrorKind::UnexpectedEof`] that the hub has ended it; the text of
/// every other one is shown to people, so it says why (a close code, an alert, a time that is over). What had arrived before
/// the end is read before the error comes.
///
/// How much of a frame counts as its bytes, with or without what the wire puts around it, is the wire's affair, as long as
/// [`Wire::accepted`] and [`Wire::written`] count alike.
///
/// # For the caller
/// One thread at a time reads.
pub trait Wire: Send + Sync {
    /// Puts what has arrived into `into`, waiting for it as `wait` says: a bounded amount, about 64 KiB, or one frame that
    /// is longer.
    ///
    /// It may come back with nothing, or with the beginning of a frame, before the time is over: a control frame was
    /// answered, part of a record has come. Then nothing that can be read is left inside the wire: what makes up a
    /// whole frame is in the inbox, and its descriptor says when more comes. With something in the inbox, more may be
    /// left inside, which the next read brings without waiting. What the wire has to say by itself (a pong, a key update)
    /// is [queued](Wire::queued), and flushed by the caller after the read.
    ///
    /// # Errors
    /// The connection is over.
    fn read(&self, into: &mut Inbox, wait: Wait) -> io::Result<()>;

    /// Waits until something has arrived or, with `for_room`, until there is room to write too. Comes back at once where
    /// something that has arrived is inside already. Says whether there is room to write; without `for_room`, `false`.
    ///
    /// # Errors
    /// The system cannot wait. That the connection is over is none: the next read says so.
    fn wait(&self, wait: Wait, for_room: bool) -> io::Result<bool>;

    /// Takes one frame, given in two parts: written at once where nothing is queued before it, as far as there is room;
    /// the rest is queued. It is asked only while at most one frame's rest is queued, so that the queue is bounded
    /// by the longest frame; what a session says by itself (512 bytes at most, and one answer for each frame that was
    /// read) may come on top.
    ///
    /// # Errors
    /// The connection is over; nothing of a frame that was refused while nothing was queued has left.
    fn send(&self, head: &[u8], payload: &[u8]) -> io::Result<()>;

    /// Writes what is queued as far as there is room; `true` when nothing is left.
    ///
    /// # Errors
    /// The connection is over.
    fn flush(&self) -> io::Result<bool>;

    /// Bytes that wait for room, what the wire says by itself among them. Asked often, so that it costs next to nothing.
    fn queued(&self) -> usize;

    /// How many bytes were ever taken; once [`Wire::written`] has reached that, all of them have left.
    fn accepted(&self) -> u64;

    /// How many of these bytes have left.
    fn written(&self) -> u64;

    /// Ends the connection now: says so to the other end where the transport has a word for it and there is room, and
    /// has every thread that reads or waits come back. What has arrived may still be read.
    fn shutdown(&self);

    /// The descriptor, for event loops: readable when something has arrived that is not inside. The same for as long as
    /// the wire lives.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// How a client comes to its hub, each time anew.
pub trait Dial: Send + Sync {
    /// Makes a connection, until `deadline` at most, that is ready for the first frame: what the transport itself has to
    /// say (TLS, an HTTP upgrade) is said, and whoever answers is the hub that belongs there, as far as the transport
    /// can tell. Credentials are shown to it from then on.
    ///
    /// # Errors
    /// `Connection` when nobody serves there or time is over, which is tried again by itself; anything else whoever
    /// watches the client is told of as well: `Authorization` or `Authentication` when it is not the hub that belongs there,
    /// or does not believe this end.
    fn dial(&self, deadline: Instant) -> Result<Arc<dyn Wire>>;

    /// Where the hub is, for people to read: a path, a URL. Never with anything secret in it.
    fn place(&self) -> String;

    /// How often each end has to hear of the other; `None`, the default, where the system says at once when either is
    /// gone. With one, a client has a thread that looks at its connection three times in that time, whether anybody calls or
    /// not: it reads what has come, so that the wire answers what it is asked, and it asks itself. A hub that is silent
    /// for three heartbeats is lost. The hub may wish for a longer one.
    fn heartbeat(&self) -> Option<Duration> {
        None
    }
}

/// How long a [`Wire`] may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something comes.
    Ever,
    /// About this long.
    For(Duration),
}

impl Wait {
    /// The longest time, `None` for ever.
    pub const fn time(self) -> Option<Duration> {
        match self {
            Self::No => Some(Duration::ZERO),
            Self::Ever => None,
            Self::For(time) => Some(time),
        }
    }

    /// What [`Wire::wait`] does where nothing is inside: waits for `fd` with poll(2), rounded up to milliseconds.
    ///
    /// # Errors
    /// The system cannot wait; a signal is none.
    pub fn poll(self, fd: BorrowedFd<'_>, for_room: bool) -> io::Result<bool> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, for_room);
        let millis = self.time().map(|time| time.as_micros().div_ceil(1000));
        let timeout = millis
            .map_or(PollTimeout::NONE, |millis| PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
        let mut fds = [PollFd::new(fd, events)];
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLOUT))),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
