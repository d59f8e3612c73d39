//! What an SPI link counts.

/// Everything that has gone over an end of an SPI link, and everything that has gone wrong there.
///
/// The counters stop at their end instead of starting over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct SpiStats {
    /// Frames handed out.
    pub frames_received: u32,
    /// Frames that the other end has taken, as far as its status said so.
    pub frames_sent: u32,
    /// Transfers, from chip select to chip select.
    pub transfers: u32,
    /// Bytes clocked in them; as many go each way.
    pub bytes: u32,
    /// Transfers in which the other end's status could not be read: it was busy, not there, or the line garbled it.
    pub bad_status: u32,
    /// Frames that are not what was sent.
    pub bad_crc: u32,
    /// Frames that came a second time because the other end could not know that they had come; not handed out again.
    pub repeated: u32,
    /// Errors that the bus or the ready line reported (overrun, mode fault). What was queued is tried again.
    pub errors: u32,
}

impl SpiStats {
    pub(crate) const NONE: Self = Self {
        frames_received: 0,
        frames_sent: 0,
        transfers: 0,
        bytes: 0,
        bad_status: 0,
        bad_crc: 0,
        repeated: 0,
        errors: 0,
    };
}

#[inline(never)]
pub(crate) fn count(counter: &mut u32, add: usize) {
    *counter = counter.saturating_add(add as u32);
}
