//! What a client has read of its socket and not yet taken apart. Whoever holds it is the reader; there is one.

use std::io;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::MsgFlags;

use visorbus_core::frame::length::{LengthError, PREFIX_LEN, Split, split};

use crate::connection::MAX_FRAME;
use crate::stream::read;

/// The read buffer of a connection, and the right to read from its socket.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes from `start` that the next frame has when it is whole.
    needed: usize,
    /// Where the frame before `start` stands.
    last: Range<usize>,
    /// A buffer that came back from [`Inbox::take_frame`]'s taker.
    spare: Option<Vec<u8>>,
    /// How long the socket waits at most, as it was last told.
    armed: Option<Duration>,
}

/// A whole frame that somebody keeps.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Frame {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), bytes }
    }
}

/// How long a read may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until something comes.
    Ever,
    /// About this long.
    For(Duration),
}

impl Inbox {
    /// An inbox that begins with a frame's beginning, of a socket that waits for ever.
    pub(crate) fn new(unfinished: &[u8]) -> Self {
        let mut bytes = vec![0; READ_LEN.max(unfinished.len())];
        bytes[..unfinished.len()].copy_from_slice(unfinished);
        Self {
            bytes,
            start: 0,
            end: unfinished.len(),
            needed: PREFIX_LEN,
            last: 0..0,
            spare: None,
            armed: None,
        }
    }

    /// The next whole frame, if one is there.
    pub(crate) fn next_frame(&mut self) -> Result<Option<&[u8]>, LengthError> {
        let content = &self.bytes[self.start..self.end];
        match split(content, MAX_FRAME as usize)? {
            Split::Frame { frame, consumed } => {
                let at = self.start + PREFIX_LEN;
                self.last = at..at + frame.len();
                self.start += consumed;
                Ok(Some(&self.bytes[self.last.clone()]))
            }
            Split::Incomplete { needed } => {
                self.needed = needed;
                Ok(None)
            }
        }
    }

    /// The frame that [`Inbox::next_frame`] gave last, to keep: a copy, or of a long one the buffer itself, when nothing
    /// else is in it.
    pub(crate) fn take_frame(&mut self) -> Frame {
        let range = std::mem::take(&mut self.last);
        if range.len() < LONG || self.start != self.end {
            return Frame { range: 0..range.len(), bytes: self.bytes[range].to_vec() };
        }
        (self.start, self.end) = (0, 0);
        let fresh = self.spare.take().unwrap_or_else(|| vec![0; READ_LEN]);
        Frame { bytes: std::mem::replace(&mut self.bytes, fresh), range }
    }

    /// Takes a frame's buffer back, to be used again.
    pub(crate) fn recycle(&mut self, frame: Frame) {
        if frame.bytes.len() == READ_LEN {
            self.spare = Some(frame.bytes);
        }
    }

    /// Reads once: with one system call, and one more where the time to wait differs from the last.
    ///
    /// A socket that waits by itself saves the poll(2) before each read, which costs a tenth of a bare round trip.
    pub(crate) fn read(&mut self, from: &UnixStream, wait: Wait) -> io::Result<()> {
        let flags = match wait {
            Wait::No => MsgFlags::MSG_DONTWAIT,
            Wait::Ever => self.arm(from, None)?,
            Wait::For(time) => self.arm(from, Some(time.max(Duration::from_millis(1))))?,
        };
        self.make_space();
        match read(from, &mut self.bytes[self.end..], flags)? {
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) => {
                self.end += count;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn arm(&mut self, socket: &UnixStream, time: Option<Duration>) -> io::Result<MsgFlags> {
        // A wait that ends a little late saves a system call; 20 ms of five seconds.
        let near = |armed: Duration, time: Duration| armed >= time && armed - time < time / 256;
        let same = match (self.armed, time) {
            (None, None) => true,
            (Some(armed), Some(time)) => near(armed, time),
            _ => false,
        };
        if !same {
            socket.set_read_timeout(time)?;
            self.armed = time;
        }
        Ok(MsgFlags::empty())
    }

    /// Makes room for the rest of the next frame, or for as much as a read usually brings.
    fn make_space(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > READ_LEN {
                self.bytes = vec![0; READ_LEN];
            }
        }
        if self.start + self.needed.max(READ_LEN / 2) > self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.needed > self.bytes.len() {
            self.bytes.resize(self.needed, 0);
        }
    }
}

/// What one read takes: a payload of 64 KiB with its header, and what comes with it.
const READ_LEN: usize = 72 * 1024;
/// Frames from this on are handed on with their buffer.
const LONG: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn frames_that_arrive_byte_by_byte_and_longer_than_the_buffer_come_out_whole() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::new(&[]);
        let long = vec![7; 200_000];
        there.write_all(&[2, 0, 0, 0, b'a', b'b', 1, 0]).unwrap();
        inbox.read(&here, Wait::Ever).unwrap();
        assert_eq!(inbox.next_frame().unwrap(), Some(&b"ab"[..]));
        assert_eq!(inbox.next_frame().unwrap(), None);
        let writer = std::thread::spawn(move || {
            there.write_all(&[0, 0, b'c']).unwrap();
            there.write_all(&200_000u32.to_le_bytes()).unwrap();
            there.write_all(&long).unwrap();
        });
        let mut frames = Vec::new();
        while frames.len() < 2 {
            inbox.read(&here, Wait::For(Duration::from_secs(5))).unwrap();
            while let Some(frame) = inbox.next_frame().unwrap() {
                frames.push(frame.to_vec());
            }
        }
        writer.join().unwrap();
        assert_eq!(frames[0], b"c");
        assert_eq!(frames[1], vec![7; 200_000]);
        assert!(inbox.read(&here, Wait::Ever).is_err(), "the end of the stream is an error");
    }

    #[test]
    fn a_frame_that_is_kept_stays_while_the_next_are_read() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::new(&[]);
        let mut kept = Vec::new();
        for round in 0..6u8 {
            let len = if round % 2 == 0 { 20_000 } else { 20 };
            there.write_all(&[&u32::to_le_bytes(len)[..], &vec![round; len as usize]].concat()).unwrap();
            inbox.read(&here, Wait::Ever).unwrap();
            assert!(inbox.next_frame().unwrap().is_some());
            kept.push(inbox.take_frame());
            assert_eq!(inbox.next_frame().unwrap(), None);
            if round == 3 {
                inbox.recycle(kept.remove(0));
            }
        }
        let rounds: Vec<u8> = kept.iter().map(|frame| frame.bytes()[0]).collect();
        assert_eq!(rounds, [1, 2, 3, 4, 5]);
        assert!(kept.iter().all(|frame| frame.bytes().iter().all(|byte| *byte == frame.bytes()[0])));
    }

    #[test]
    fn a_read_that_must_not_wait_returns_at_once_and_one_that_may_ends_in_time() {
        let (_there, here) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::new(&[]);
        inbox.read(&here, Wait::No).unwrap();
        inbox.read(&here, Wait::For(Duration::from_millis(2))).unwrap();
        assert_eq!(inbox.next_frame().unwrap(), None);
    }
}
