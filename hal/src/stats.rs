//! What a serial link counts.

use visorbus_core::frame::serial::SerialFaults;

/// Everything that has gone over a [`SerialLink`](crate::SerialLink), and everything that has gone wrong on it.
///
/// The counters stop at their end instead of starting over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct SerialStats {
    /// Frames handed out.
    pub frames_received: u32,
    /// Frames taken for sending.
    pub frames_sent: u32,
    /// Bytes read from the line, damaged ones too.
    pub bytes_received: u32,
    /// Bytes the UART has taken.
    pub bytes_sent: u32,
    /// Errors the UART reported while reading (overrun, framing, parity, noise). Each costs the frame it falls into.
    pub read_errors: u32,
    /// Errors the UART reported while writing. What was queued is tried again.
    pub write_errors: u32,
    /// Frames that arrived and were dropped, by reason.
    pub faults: SerialFaults,
}

impl SerialStats {
    pub(crate) const NONE: Self = Self {
        frames_received: 0,
        frames_sent: 0,
        bytes_received: 0,
        bytes_sent: 0,
        read_errors: 0,
        write_errors: 0,
        faults: SerialFaults::NONE,
    };
}
