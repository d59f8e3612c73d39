//! A serial line as a link, without its UART: frames become bytes and bytes become frames, in memory.
//!
//! Knows bytes and frames; never what is in a frame, where bytes come from, what time it is, or how to wait.

use core::convert::Infallible;

use visorbus_core::frame::serial::{self, SerialDecoder};
use visorbus_core::link::Link;
use visorbus_core::time::Instant;

use super::queue::Queue;
use crate::SerialStats;

/// The two directions of a serial line, sans I/O: whoever owns the UART moves the bytes, blocking
/// ([`SerialLink`](crate::SerialLink)), with `.await` (`serve_serial`), or in interrupts.
///
/// `N` is the length of each of its two buffers, [`serial_buffer_len`](crate::serial_buffer_len) of the longest frame, or
/// more: frames that are sent together wait here until the bytes are moved, where a blocking UART has taken some.
///
/// # How to drive it
/// 1. [`SerialFrames::push`] takes bytes that were read, up to the end of a frame. That frame waits for
///    [`Link::receive`], and nothing more is taken before.
/// 2. [`SerialFrames::pending`] is what there is to write. Write some of it, and say how many bytes the UART has taken
///    with [`SerialFrames::handle_sent`].
/// 3. Tell it of errors of the UART: [`SerialFrames::handle_read_error`], [`SerialFrames::handle_write_error`].
///
/// As a [`Link`] it never fails, and its `flush` moves nothing.
///
/// ```
/// use visorbus_core::Link;
/// use visorbus_hal::{SerialFrames, serial_buffer_len};
///
/// let mut near = SerialFrames::<{ serial_buffer_len(64) }>::new();
/// let mut far = SerialFrames::<{ serial_buffer_len(64) }>::new();
/// near.send(b"hello");
/// while !near.pending().is_empty() {
///     let moved = far.push(near.pending());
///     near.handle_sent(moved);
/// }
/// assert_eq!(far.receive(), Ok(Some(&b"hello"[..])));
/// ```
#[derive(Debug)]
pub struct SerialFrames<const N: usize> {
    decoder: SerialDecoder<N>,
    /// The decoder has a whole frame that nobody has seen.
    held: bool,
    /// Bytes encoded and not yet written.
    outbox: Queue<N>,
    stats: SerialStats,
}

impl<const N: usize> SerialFrames<N> {
    /// Bytes of the longest frame, either way.
    pub const MAX_FRAME: usize = serial::max_frame_len(N.saturating_sub(1));

    /// A line that is taken for silent so far.
    ///
    /// A delimiter goes out before its first frame, so that noise on the line before that cannot spoil it.
    pub const fn new() -> Self {
        const { assert!(Self::MAX_FRAME > 0, "no room for a frame of one byte") };
        Self {
            decoder: SerialDecoder::new(),
            held: false,
            outbox: Queue::with_delimiter(),
            stats: SerialStats::NONE,
        }
    }

    /// Takes bytes that were read, in their order: all of them, or those up to the end of a whole frame; how many. None
    /// while a frame waits.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        if self.held {
            return 0;
        }
        let taken = self.decode(bytes);
        self.handle_read(taken);
        taken
    }

    /// Passes over bytes that were read and that nobody can take: whole frames among them are dropped and counted, and a
    /// frame that waits stays. For an end whose output is stuck, so that the other end's is not.
    pub fn skip(&mut self, bytes: &[u8]) {
        self.pass_over(bytes);
        self.handle_read(bytes.len());
    }

    /// The UART lost bytes or damaged them: what was collected is dropped, and bytes are passed over up to the next
    /// delimiter.
    pub fn handle_read_error(&mut self) {
        count(&mut self.stats.read_errors, 1);
        self.decoder.desynchronise();
    }

    /// What is to be written.
    pub fn pending(&self) -> &[u8] {
        self.outbox.bytes()
    }

    /// The UART has taken the first `len` bytes of [`SerialFrames::pending`].
    pub fn handle_sent(&mut self, len: usize) {
        count(&mut self.stats.bytes_sent, len);
        self.outbox.drop_front(len);
    }

    /// The UART could not write: what is pending stays so.
    pub fn handle_write_error(&mut self) {
        count(&mut self.stats.write_errors, 1);
    }

    /// Whether a whole frame waits for [`Link::receive`].
    pub const fn holds(&self) -> bool {
        self.held
    }

    /// What has gone over the line and what has gone wrong, since this was made.
    pub fn stats(&self) -> SerialStats {
        SerialStats { faults: self.decoder.faults(), ..self.stats }
    }

    /// As [`SerialFrames::push`] when no frame waits, of bytes that [`SerialFrames::handle_read`] has counted.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> usize {
        let taken = self.decoder.push(bytes);
        self.held = self.decoder.frame().is_some();
        taken
    }

    /// As [`SerialFrames::skip`], of bytes that [`SerialFrames::handle_read`] has counted.
    pub(super) fn pass_over(&mut self, bytes: &[u8]) {
        self.decoder.skip(bytes);
    }

    /// Counts bytes that were read.
    pub(super) fn handle_read(&mut self, len: usize) {
        count(&mut self.stats.bytes_received, len);
    }
}

impl<const N: usize> Link for SerialFrames<N> {
    type Error = Infallible;

    fn room(&mut self) -> usize {
        serial::max_frame_len(self.outbox.room().len()).min(Self::MAX_FRAME)
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Infallible> {
        if !self.held {
            return Ok(None);
        }
        self.held = false;
        count(&mut self.stats.frames_received, 1);
        Ok(self.decoder.frame())
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Infallible> {
        if frame.len() > Self::MAX_FRAME {
            return Ok(false);
        }
        let Some(len) = serial::encode(&[frame], self.outbox.room()) else {
            return Ok(false);
        };
        self.outbox.grow(len);
        count(&mut self.stats.frames_sent, 1);
        Ok(true)
    }

    /// Does nothing: what is pending goes by itself.
    fn flush(&mut self, _now: Instant) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn max_frame(&self) -> usize {
        Self::MAX_FRAME
    }
}

impl<const N: usize> Default for SerialFrames<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> AsMut<Self> for SerialFrames<N> {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

#[inline(never)]
fn count(counter: &mut u32, add: usize) {
    *counter = counter.saturating_add(u32::try_from(add).unwrap_or(u32::MAX));
}
