//! A connected Unix socket as a client uses it: one thread reads while others write, each with one system call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;

use visorbus_client::{Dial, Inbox, Wait, Wire};
use visorbus_hub::Result;

use crate::address::dial;
use crate::outgoing::Outgoing;
use crate::stream::read;

/// The way to the hub's socket at a path.
#[derive(Debug)]
pub(crate) struct UnixDial(pub(crate) PathBuf);

impl UnixDial {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Dial for UnixDial {
    fn dial(&self, deadline: Instant) -> Result<Arc<dyn Wire>> {
        let stream = dial(&self.0, deadline.saturating_duration_since(Instant::now()))?;
        Ok(Arc::new(UnixWire::new(stream)))
    }

    fn place(&self) -> String {
        self.0.display().to_string()
    }
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct UnixWire {
    stream: UnixStream,
    outgoing: Mutex<Outgoing>,
    /// What [`Outgoing::queued`] says, for those who only ask that.
    queued: AtomicUsize,
    /// How long a read of the socket waits at most, as it was last told, in nanoseconds; 0: for ever.
    armed: AtomicU64,
}

impl UnixWire {
    /// A wire over a connected socket whose reads wait for ever.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, outgoing: Mutex::default(), queued: AtomicUsize::new(0), armed: AtomicU64::new(0) }
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has reads wait for `time` at most, with a system call where that differs from the last.
    ///
    /// A socket that waits by itself saves the poll(2) before each read, which costs a tenth of a bare round trip.
    fn arm(&self, time: Option<Duration>) -> io::Result<MsgFlags> {
        let wanted = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let armed = self.armed.load(Ordering::Relaxed);
        // A wait that ends a little late saves a system call; 20 ms of five seconds.
        let is_near = armed >= wanted && armed - wanted < wanted / 256;
        if armed != wanted && !is_near {
            self.stream.set_read_timeout(time)?;
            self.armed.store(wanted, Ordering::Relaxed);
        }
        Ok(MsgFlags::empty())
    }
}

impl Wire for UnixWire {
    fn read(&self, into: &mut Inbox, wait: Wait) -> io::Result<()> {
        let flags = match wait {
            Wait::No => MsgFlags::MSG_DONTWAIT,
            Wait::Ever => self.arm(None)?,
            Wait::For(time) => self.arm(Some(time.max(Duration::from_millis(1))))?,
        };
        match read(&self.stream, into.space(), flags)? {
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) => {
                into.filled(count);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn wait(&self, wait: Wait, for_room: bool) -> io::Result<bool> {
        wait.poll(self.stream.as_fd(), for_room)
    }

    fn send(&self, head: &[u8], payload: &[u8]) -> io::Result<()> {
        let mut outgoing = self.outgoing();
        let sent = outgoing.send(&self.stream, head, payload, true);
        self.queued.store(outgoing.queued(), Ordering::Release);
        sent
    }

    fn flush(&self) -> io::Result<bool> {
        let mut outgoing = self.outgoing();
        let flushed = outgoing.flush(&self.stream);
        self.queued.store(outgoing.queued(), Ordering::Release);
        flushed
    }

    fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    fn accepted(&self) -> u64 {
        self.outgoing().accepted()
    }

    fn written(&self) -> u64 {
        self.outgoing().written()
    }

    fn shutdown(&self) {
        // One that is not connected any more has nobody who waits.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pair() -> (UnixStream, UnixWire) {
        let (there, here) = UnixStream::pair().unwrap();
        (there, UnixWire::new(here))
    }

    #[test]
    fn frames_that_arrive_byte_by_byte_and_longer_than_the_buffer_come_out_whole() {
        let (mut there, here) = pair();
        let mut inbox = Inbox::new();
        let long = vec![7; 200_000];
        there.write_all(&[2, 0, 0, 0, b'a', b'b', 1, 0]).unwrap();
        here.read(&mut inbox, Wait::Ever).unwrap();
        assert_eq!(inbox.next_frame().unwrap(), Some(&b"ab"[..]));
        assert_eq!(inbox.next_frame().unwrap(), None);
        let writer = std::thread::spawn(move || {
            there.write_all(&[0, 0, b'c']).unwrap();
            there.write_all(&200_000u32.to_le_bytes()).unwrap();
            there.write_all(&long).unwrap();
        });
        let mut frames = Vec::new();
        while frames.len() < 2 {
            here.read(&mut inbox, Wait::For(Duration::from_secs(5))).unwrap();
            while let Some(frame) = inbox.next_frame().unwrap() {
                frames.push(frame.to_vec());
            }
        }
        writer.join().unwrap();
        assert_eq!(frames[0], b"c");
        assert_eq!(frames[1], vec![7; 200_000]);
        assert!(here.read(&mut inbox, Wait::Ever).is_err(), "the end of the stream is an error");
    }

    #[test]
    fn a_read_that_must_not_wait_returns_at_once_and_one_that_may_ends_in_time() {
        let (_there, here) = pair();
        let mut inbox = Inbox::new();
        here.read(&mut inbox, Wait::No).unwrap();
        here.read(&mut inbox, Wait::For(Duration::from_millis(2))).unwrap();
        assert_eq!(inbox.next_frame().unwrap(), None);
    }
}
