//! A serial line as a link: COBS frames with a CRC over any UART that speaks embedded-io.
//!
//! Knows bytes and frames; never what is in a frame, what time it is, or how to wait.

use embedded_io::{Error as _, ErrorKind, Read, ReadReady, Write, WriteReady};
use visorbus_core::frame::serial;
use visorbus_core::link::Link;
use visorbus_core::time::Instant;

use crate::SerialStats;
use queue::Queue;

pub use frames::SerialFrames;
#[cfg(feature = "async")]
pub use serve::serve_serial;

mod frames;
mod queue;
#[cfg(feature = "async")]
mod serve;

/// A [`Link`] over a UART, or over anything else that moves bytes and can say whether it is ready.
///
/// `N` is the length of each of its two buffers: [`serial_buffer_len`] says what a longest frame needs (264 for 256
/// bytes). Both ends of a line should carry the same longest frame; the hello of a session tells which.
///
/// # Never blocks
/// The UART is asked whether it is ready before every read and every write, and its `flush` is never called. One call
/// of a method reads at most about `N` bytes, however many the line brings.
///
/// # What the line does wrong
/// Damaged frames are counted and left out. An error of the UART (overrun, framing, parity) costs the frame it falls
/// into: what was collected is dropped, and bytes are passed over up to the next delimiter. Only a UART that is gone
/// is an `Err`: end of file, or an error of the kind `NotConnected`, `BrokenPipe`, `ConnectionReset` or
/// `ConnectionAborted`.
///
/// # Never deadlocks
/// While output is stuck, [`Link::flush`] goes on reading: the next whole frame is kept for [`Link::receive`], and a
/// few bytes behind it. When output has then not moved by one byte in 1024 calls, whole frames are dropped and counted
/// (`faults.dropped`) until it does, so that two ends that both only want to write set each other free. On a line
/// without flow control output is never stuck that long.
///
/// # For the caller
/// Before sleeping until the next interrupt or readiness event, call [`Link::receive`] until it has nothing: bytes
/// that were read behind a frame lie in the link, where no interrupt speaks of them.
///
/// ```no_run
/// use visorbus_core::link::Link;
/// use visorbus_hal::{SerialLink, serial_buffer_len};
///
/// # fn run<U>(uart: U, now: fn() -> visorbus_core::Instant) -> Result<(), visorbus_hal::SerialError>
/// # where U: embedded_io::Read + embedded_io::Write + embedded_io::ReadReady + embedded_io::WriteReady {
/// let mut link = SerialLink::<_, { serial_buffer_len(256) }>::new(uart);
/// loop {
///     while let Some(frame) = link.receive()? {
///         // deal with the frame
/// #       let _ = frame;
///     }
///     if link.room() >= 5 {
///         link.send(b"hello")?;
///     }
///     link.flush(now())?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct SerialLink<U, const N: usize> {
    uart: U,
    frames: SerialFrames<N>,
    /// Bytes read and not yet looked at.
    inbox: Queue<INBOX>,
    /// Calls of `flush` since output moved last.
    stuck: u16,
}

impl<U: Read + Write + ReadReady + WriteReady, const N: usize> SerialLink<U, N> {
    /// Bytes of the longest frame, either way.
    pub const MAX_FRAME: usize = SerialFrames::<N>::MAX_FRAME;

    /// A link that takes the line for silent so far.
    ///
    /// A delimiter goes out before its first frame, so that noise on the line before that cannot spoil it.
    pub const fn new(uart: U) -> Self {
        Self { uart, frames: SerialFrames::new(), inbox: Queue::new(), stuck: 0 }
    }

    /// The UART back, to set it up anew or to do something else with it. What was queued is lost.
    pub fn release(self) -> U {
        self.uart
    }

    /// The UART, to look at: its descriptor, its name.
    pub const fn uart(&self) -> &U {
        &self.uart
    }

    /// The UART, to set it up anew. Bytes that are read or written past the link are lost to it.
    pub const fn uart_mut(&mut self) -> &mut U {
        &mut self.uart
    }

    /// What has gone over the link and what has gone wrong, since it was made.
    pub fn stats(&self) -> SerialStats {
        self.frames.stats()
    }

    /// Reads until there is a whole frame, or nothing more to read for now.
    fn collect(&mut self) -> Result<(), SerialError> {
        let mut read = 0;
        loop {
            let taken = self.frames.decode(self.inbox.bytes());
            self.inbox.drop_front(taken);
            if self.frames.holds() || read >= N {
                return Ok(());
            }
            match self.read()? {
                0 => return Ok(()),
                len => read += len,
            }
        }
    }

    /// Keeps input flowing while output is stuck.
    fn drain(&mut self) -> Result<(), SerialError> {
        if !self.frames.holds() {
            return self.collect();
        }
        let mut read = self.read()?;
        if self.stuck < PATIENCE {
            return Ok(());
        }
        while !self.inbox.bytes().is_empty() {
            self.skip_inbox();
            if read < N {
                read += self.read()?;
            }
        }
        Ok(())
    }

    fn skip_inbox(&mut self) {
        self.frames.pass_over(self.inbox.bytes());
        self.inbox.clear();
    }

    /// Reads once, behind what the inbox holds; 0 bytes when the UART has none, the inbox is full, or an error cost
    /// what was there.
    fn read(&mut self) -> Result<usize, SerialError> {
        let room = self.inbox.room();
        if room.is_empty() {
            return Ok(0);
        }
        let result = match self.uart.read_ready() {
            Ok(false) => return Ok(0),
            Ok(true) => self.uart.read(room),
            Err(error) => Err(error),
        };
        match result {
            Ok(0) => Err(SerialError::Closed),
            Ok(len) => {
                self.frames.handle_read(len);
                Ok(self.inbox.grow(len))
            }
            Err(error) => {
                if_gone(error.kind())?;
                self.skip_inbox();
                self.frames.handle_read_error();
                Ok(0)
            }
        }
    }

    /// Writes once; 0 bytes when the UART takes none.
    fn write(&mut self) -> Result<usize, SerialError> {
        let result = match self.uart.write_ready() {
            Ok(false) => return Ok(0),
            Ok(true) => self.uart.write(self.frames.pending()),
            Err(error) => Err(error),
        };
        match result {
            Ok(len) => {
                self.frames.handle_sent(len);
                Ok(len)
            }
            Err(error) => {
                if_gone(error.kind())?;
                self.frames.handle_write_error();
                Ok(0)
            }
        }
    }
}

impl<U: Read + Write + ReadReady + WriteReady, const N: usize> Link for SerialLink<U, N> {
    type Error = SerialError;

    fn room(&mut self) -> usize {
        self.frames.room()
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, SerialError> {
        if !self.frames.holds() {
            self.collect()?;
        }
        let Ok(frame) = self.frames.receive();
        Ok(frame)
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, SerialError> {
        let Ok(taken) = self.frames.send(frame);
        Ok(taken)
    }

    fn flush(&mut self, _now: Instant) -> Result<bool, SerialError> {
        while !self.frames.pending().is_empty() {
            if self.write()? > 0 {
                self.stuck = 0;
            } else {
                self.stuck = self.stuck.saturating_add(1);
                self.drain()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn max_frame(&self) -> usize {
        Self::MAX_FRAME
    }
}

/// Why a serial link is gone for good: make a new one when the line is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SerialError {
    /// The line has ended: the UART was ready to be read, and had nothing.
    #[error("the serial line was closed")]
    Closed,
    /// The UART says that it is gone.
    #[error("the serial line is gone: {0}")]
    Gone(ErrorKind),
}

/// The buffer length `N` of a [`SerialLink`] that carries frames of up to `max_frame` bytes: the frame, its CRC, what
/// COBS adds to them at most, its delimiter, and the delimiter before the first one.
pub const fn serial_buffer_len(max_frame: usize) -> usize {
    serial::max_encoded_len(max_frame) + 1
}

/// The one place that tells a UART that is gone from a line that misbehaves.
pub(crate) fn if_gone(kind: ErrorKind) -> Result<(), SerialError> {
    match kind {
        ErrorKind::NotConnected
        | ErrorKind::BrokenPipe
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted => Err(SerialError::Gone(kind)),
        _ => Ok(()),
    }
}

/// Bytes read at a time: what a UART's own FIFO holds at most, usually 8 to 32.
const INBOX: usize = 32;

/// Calls of `flush` without one byte moved after which input is dropped: long beside one byte's time on a slow line
/// (1 ms at 9600 baud, some hundred turns of a busy loop), short beside a session's heartbeat.
const PATIENCE: u16 = 1024;

#[cfg(test)]
mod tests;
