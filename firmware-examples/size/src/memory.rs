//! Links and lines in memory, to count what the node does without the hardware around it.

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use visorbus_core::{Instant, Link};

use crate::MAX_FRAME;

/// A link that holds one frame either way.
#[derive(Debug)]
pub struct MemoryLink {
    inbox: [u8; MAX_FRAME],
    arrived: usize,
    outbox: [u8; MAX_FRAME],
    sent: usize,
}

impl MemoryLink {
    /// A link with nothing on it.
    pub const fn new() -> Self {
        Self { inbox: [0; MAX_FRAME], arrived: 0, outbox: [0; MAX_FRAME], sent: 0 }
    }

    /// Lets `frame` arrive.
    pub fn put(&mut self, frame: &[u8]) {
        self.inbox[..frame.len()].copy_from_slice(frame);
        self.arrived = frame.len();
    }

    /// Lets the last frame arrive once more, of which there are `len` bytes.
    pub fn put_again(&mut self, len: usize) {
        self.arrived = len;
    }

    /// What was sent last, once; empty when nothing was.
    pub fn take(&mut self) -> &[u8] {
        let len = core::mem::take(&mut self.sent);
        &self.outbox[..len]
    }
}

impl Default for MemoryLink {
    fn default() -> Self {
        Self::new()
    }
}

impl Link for MemoryLink {
    type Error = core::convert::Infallible;

    fn room(&mut self) -> usize {
        if self.sent == 0 { MAX_FRAME } else { 0 }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Self::Error> {
        let len = core::mem::take(&mut self.arrived);
        Ok(if len == 0 { None } else { self.inbox.get(..len) })
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Self::Error> {
        self.outbox[..frame.len()].copy_from_slice(frame);
        self.sent = frame.len();
        Ok(true)
    }

    fn flush(&mut self, _now: Instant) -> Result<bool, Self::Error> {
        Ok(true)
    }

    fn max_frame(&self) -> usize {
        MAX_FRAME
    }
}

/// A UART whose line ends in memory.
#[derive(Debug)]
pub struct MemoryUart {
    inbox: [u8; LINE],
    read: usize,
    arrived: usize,
    outbox: [u8; LINE],
    written: usize,
}

impl MemoryUart {
    /// A line with nothing on it.
    pub const fn new() -> Self {
        Self { inbox: [0; LINE], read: 0, arrived: 0, outbox: [0; LINE], written: 0 }
    }

    /// Lets `bytes` arrive.
    pub fn put(&mut self, bytes: &[u8]) {
        self.inbox[..bytes.len()].copy_from_slice(bytes);
        self.put_again(bytes.len());
    }

    /// Lets the last `len` bytes arrive once more.
    pub fn put_again(&mut self, len: usize) {
        self.read = 0;
        self.arrived = len;
    }

    /// Whether anything was written since.
    pub const fn has_written(&self) -> bool {
        self.written > 0
    }

    /// What was written since, once.
    pub fn take(&mut self) -> &[u8] {
        let len = core::mem::take(&mut self.written);
        &self.outbox[..len]
    }
}

impl Default for MemoryUart {
    fn default() -> Self {
        Self::new()
    }
}

impl ErrorType for MemoryUart {
    type Error = ErrorKind;
}

impl ReadReady for MemoryUart {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(self.read < self.arrived)
    }
}

impl Read for MemoryUart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let len = buffer.len().min(self.arrived - self.read);
        buffer[..len].copy_from_slice(&self.inbox[self.read..self.read + len]);
        self.read += len;
        Ok(len)
    }
}

impl WriteReady for MemoryUart {
    fn write_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(self.written < LINE)
    }
}

impl Write for MemoryUart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let len = bytes.len().min(LINE - self.written);
        self.outbox[self.written..self.written + len].copy_from_slice(&bytes[..len]);
        self.written += len;
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// Bytes of the longest frame as it stands on a line.
const LINE: usize = visorbus_hal::serial_buffer_len(MAX_FRAME);
