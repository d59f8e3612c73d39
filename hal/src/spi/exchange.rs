//! What an end of an SPI link keeps between transfers: one frame on its way out, one that has come in.
//!
//! Knows what stands in a transfer; never when there is one, nor who makes it.

use visorbus_core::frame::spi::{
    FrameFault, MAX_TRANSFER, SEQUENCE, STATUS_LEN, Side, Status, encode_frame, transfer_len,
};
use visorbus_core::limits::MAX_LINE_FRAME;

use super::stats::{SpiStats, count};

/// One end, whichever.
#[derive(Debug)]
pub(super) struct Exchange {
    side: Side,
    /// What goes out: the status, and the frame behind it.
    outgoing: [u8; MAX_TRANSFER],
    /// Bytes of the frame that goes out; 0 for none.
    out_len: u8,
    /// Its number, or that of the next one.
    sequence: u8,
    /// What came in. A frame that is held, or was handed out last, stands in it where it came.
    incoming: [u8; MAX_TRANSFER],
    /// Where the status of the other end goes while a frame is held.
    status: [u8; STATUS_LEN],
    /// Bytes of the frame that is held or was handed out last.
    in_len: u8,
    /// A frame has come in that nobody has seen.
    held: bool,
    /// Number and CRC of the frame that came in last.
    last: Option<(u8, u32)>,
    stats: SpiStats,
}

impl Exchange {
    pub(super) const fn new(side: Side) -> Self {
        Self {
            side,
            outgoing: [0; MAX_TRANSFER],
            out_len: 0,
            sequence: 0,
            incoming: [0; MAX_TRANSFER],
            status: [0; STATUS_LEN],
            in_len: 0,
            held: false,
            last: None,
            stats: SpiStats::NONE,
        }
    }

    pub(super) const fn room(&self) -> usize {
        if self.out_len == 0 { MAX_LINE_FRAME } else { 0 }
    }

    pub(super) fn send(&mut self, frame: &[u8]) -> bool {
        if frame.len() > self.room() || encode_frame(self.sequence, frame, &mut self.outgoing).is_none() {
            return false;
        }
        self.out_len = frame.len() as u8;
        true
    }

    /// Whether a frame has come in that nobody has seen; from now on somebody has, and there is room for the next one.
    pub(super) fn take(&mut self) -> bool {
        let held = core::mem::take(&mut self.held);
        count(&mut self.stats.frames_received, usize::from(held));
        held
    }

    /// The frame that was taken last. It stays until the next transfer is handled.
    pub(super) fn frame(&self) -> &[u8] {
        self.incoming.get(STATUS_LEN..STATUS_LEN + usize::from(self.in_len)).unwrap_or_default()
    }

    /// What this end has to say in a transfer that is prepared now.
    pub(super) const fn offer(&self) -> Offer {
        Offer { room: !self.held, len: self.out_len }
    }

    /// The bytes of this end in a transfer in which it says `offer`; as many of them as it takes, with anything behind.
    pub(super) fn prepare(&mut self, offer: Offer) -> &[u8; MAX_TRANSFER] {
        let status = Status { room: offer.room, sequence: self.sequence, len: offer.len };
        for (place, byte) in self.outgoing.iter_mut().zip(status.encode(self.side)) {
            *place = byte;
        }
        &self.outgoing
    }

    /// As [`Exchange::prepare`], with the place where `len` bytes of the other end go, or its status alone.
    pub(super) fn buffers(&mut self, offer: Offer, len: usize) -> (&mut [u8], &[u8]) {
        self.prepare(offer);
        let place = if offer.room { &mut self.incoming[..] } else { &mut self.status[..] };
        let in_len = len.min(place.len());
        (place.get_mut(..in_len).unwrap_or_default(), self.outgoing.get(..len).unwrap_or_default())
    }

    /// Puts what came in a transfer where [`Exchange::buffers`] would have had it put.
    pub(super) fn copy_in(&mut self, offer: Offer, bytes: &[u8]) {
        let place = if offer.room { &mut self.incoming[..] } else { &mut self.status[..] };
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = *byte;
        }
    }

    /// A transfer of `len` bytes is over in which this end said `offer`, and what the other end sent stands in its
    /// place. What the other end said, if that can be read, and what came of it.
    pub(super) fn handle(&mut self, offer: Offer, len: usize) -> Option<Outcome> {
        count(&mut self.stats.transfers, 1);
        count(&mut self.stats.bytes, len);
        let place = if offer.room { &self.incoming[..] } else { &self.status[..] };
        let other = match self.side {
            Side::Controller => Side::Target,
            Side::Target => Side::Controller,
        };
        let bytes = place.get(..len).unwrap_or(place);
        let Some(status) = Status::decode(other, bytes) else {
            count(&mut self.stats.bad_status, 1);
            return None;
        };
        let sent = offer.len != 0 && status.room && len >= transfer_len(usize::from(offer.len));
        let frame = if offer.room { status.frame(bytes).map(|(_, crc)| crc) } else { Err(FrameFault::None) };
        let held = self.held;
        match frame {
            Ok(crc) if self.last == Some((status.sequence, crc)) => count(&mut self.stats.repeated, 1),
            Ok(crc) => {
                self.last = Some((status.sequence, crc));
                self.in_len = status.len;
                self.held = true;
            }
            Err(FrameFault::BadCrc) => count(&mut self.stats.bad_crc, 1),
            Err(_) => {}
        }
        if sent {
            self.out_len = 0;
            self.sequence = (self.sequence + 1) & SEQUENCE;
            count(&mut self.stats.frames_sent, 1);
        }
        let carried = offer.room && len >= status.transfer_len();
        Some(Outcome { status, sent, carried, came: self.held && !held })
    }

    pub(super) fn count_error(&mut self) {
        count(&mut self.stats.errors, 1);
    }

    pub(super) const fn stats(&self) -> SpiStats {
        self.stats
    }
}

/// What an end says in one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// It takes a frame.
    pub(super) room: bool,
    /// Bytes of its own frame; 0 for none.
    pub(super) len: u8,
}

/// What came of a transfer in which the other end could be heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// What the other end said.
    pub(super) status: Status,
    /// It has taken the frame.
    pub(super) sent: bool,
    /// Its own frame, if it had one, was carried, be it damaged.
    pub(super) carried: bool,
    /// A frame came in that was not there before.
    pub(super) came: bool,
}
