//! What a client has read of its hub and not yet taken apart. Whoever holds it is the reader; there is one.

use std::ops::Range;

use visorbus_core::frame::length::{LengthError, PREFIX_LEN, Split, prefix, split};

/// The read buffer of a connection, and the right to read from it.
///
/// A [`Wire`](crate::Wire) that reads a byte stream uses [`Inbox::space`] and [`Inbox::filled`]; one that reads whole
/// frames, [`Inbox::push`].
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes from `start` that the next frame has when it is whole.
    needed: usize,
    /// Where the frame before `start` stands.
    last: Range<usize>,
    /// A buffer that came back from `take_frame`'s taker.
    spare: Option<Vec<u8>>,
}

impl Inbox {
    /// An empty inbox, which takes memory with the first read.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, needed: PREFIX_LEN, last: 0..0, spare: None }
    }

    /// The next whole frame, without its prefix, if one is there.
    ///
    /// # Errors
    /// The bytes cannot be frames: one has no bytes or more than [`MAX_FRAME`].
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, LengthError> {
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

    /// Free space to read a byte stream into, frames behind their length prefix: room for the rest of the next frame, and
    /// for as much as a read usually brings. Say with [`Inbox::filled`] how many bytes came.
    pub fn space(&mut self) -> &mut [u8] {
        self.make_space();
        &mut self.bytes[self.end..]
    }

    /// Adds the first `count` bytes of [`Inbox::space`] to the content.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Appends one whole frame, which has no prefix yet. One longer than [`MAX_FRAME`] breaks the framing: whoever reads
    /// then ends the connection.
    pub fn push(&mut self, frame: &[u8]) {
        let len = PREFIX_LEN + frame.len();
        if self.end + len > self.bytes.len() {
            self.needed = (self.end - self.start) + len;
            self.make_space();
        }
        let (before, after) = self.bytes[self.end..self.end + len].split_at_mut(PREFIX_LEN);
        before.copy_from_slice(&prefix(frame.len()));
        after.copy_from_slice(frame);
        self.end += len;
    }

    /// Bytes that nobody has taken yet.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether everything was taken.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
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
        if self.bytes.len() < self.needed.max(READ_LEN) {
            self.bytes.resize(self.needed.max(READ_LEN), 0);
        }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
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

/// Longest frame that a client takes, in bytes.
pub const MAX_FRAME: u32 = 1 << 20;
/// What one read takes: a payload of 64 KiB with its header, and what comes with it.
const READ_LEN: usize = 72 * 1024;
/// Frames from this on are handed on with their buffer.
const LONG: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_pushed_whole_come_out_in_order_however_long() {
        let mut inbox = Inbox::new();
        inbox.push(b"a");
        for len in [3, READ_LEN, 10, MAX_FRAME as usize] {
            inbox.push(&vec![7; len]);
        }
        assert_eq!(inbox.next_frame().unwrap(), Some(&b"a"[..]));
        for len in [3, READ_LEN, 10, MAX_FRAME as usize] {
            assert_eq!(inbox.next_frame().unwrap().map(<[u8]>::len), Some(len));
        }
        assert_eq!(inbox.next_frame().unwrap(), None);
        assert!(inbox.is_empty() && inbox.space().len() == READ_LEN);
    }

    #[test]
    fn a_frame_longer_than_a_client_takes_breaks_the_framing() {
        let mut inbox = Inbox::new();
        inbox.push(&vec![7; MAX_FRAME as usize + 1]);
        assert!(inbox.next_frame().is_err());
    }

    #[test]
    fn a_frame_that_is_kept_stays_while_the_next_are_read() {
        let mut inbox = Inbox::new();
        let mut kept = Vec::new();
        for round in 0..6u8 {
            let len = if round % 2 == 0 { 20_000 } else { 20 };
            let bytes = [&u32::to_le_bytes(len)[..], &vec![round; len as usize]].concat();
            inbox.space()[..bytes.len()].copy_from_slice(&bytes);
            inbox.filled(bytes.len());
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
}
