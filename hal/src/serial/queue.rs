//! Bytes on their way, in a buffer that does not wrap.

use visorbus_core::frame::serial::DELIMITER;

/// Bytes that go in behind and out in front. Room in front is won back when the last byte has gone.
#[derive(Debug)]
pub(super) struct Queue<const N: usize> {
    buffer: [u8; N],
    start: usize,
    end: usize,
}

impl<const N: usize> Queue<N> {
    pub(super) const fn new() -> Self {
        Self { buffer: [DELIMITER; N], start: 0, end: 0 }
    }

    /// With one delimiter in it.
    pub(super) const fn with_delimiter() -> Self {
        let mut queue = Self::new();
        queue.end = 1; // The buffer is filled with delimiters.
        queue
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes in the first `len` bytes of the room, or what there is of it.
    pub(super) fn grow(&mut self, len: usize) -> usize {
        let len = len.min(N - self.end);
        self.end += len;
        len
    }

    pub(super) fn drop_front(&mut self, len: usize) {
        self.start = self.start.saturating_add(len);
        if self.start >= self.end {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }
}
