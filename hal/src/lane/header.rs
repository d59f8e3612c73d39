//! The header of a lane's own frames. The first byte tells them from messages, whose types end at 4.
//!
//! ```text
//! head    1  bits 0-2: 7; 3: stream; 4: asks for a word on the stream; 5-7: epoch, upper bits
//! epoch   1  lower bits
//! packet  1  number of this frame, counted over both streams; of a frame that only acknowledges, that of the last one
//!            before it; never more than 192 ahead of the last that the other end told of
//! heard   1  number of the newest frame that the other end has sent, as far as is known
//! bits    1  which of the eight up to that one have come, the newest in the lowest bit
//! offset  2  of the first byte in its stream, modulo 2^16, little endian
//! acked   2  offset of the next byte that is expected of the same stream from the other end, little endian
//! room    1  bytes of that stream that may come from there on, in sixteenths
//! bytes      of the stream; none in a frame that only acknowledges
//! ```

use super::stream::Ack;

/// The header of one lane frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// 11 bits.
    pub(super) epoch: u16,
    /// 0 or 1.
    pub(super) stream: usize,
    pub(super) asks: bool,
    pub(super) packet: u8,
    pub(super) heard: Heard,
    pub(super) offset: u16,
    pub(super) ack: Ack,
}

impl Header {
    /// Whether a frame is one of a lane's own.
    pub(super) fn marks(frame: &[u8]) -> bool {
        frame.first().is_some_and(|head| head & MARK == MARK)
    }

    /// Takes the header off a frame that [`Header::marks`] tells of.
    pub(super) fn read(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (&[head, epoch, packet, newest, bits, o0, o1, a0, a1, room], bytes) =
            frame.split_first_chunk::<LEN>()?;
        let header = Self {
            epoch: u16::from(head >> 5) << 8 | u16::from(epoch),
            stream: usize::from(head >> 3 & 1),
            asks: head & ASKS != 0,
            packet,
            heard: Heard { newest, bits },
            offset: u16::from_le_bytes([o0, o1]),
            ack: Ack { offset: u16::from_le_bytes([a0, a1]), room },
        };
        Some((header, bytes))
    }

    pub(super) fn to_bytes(self) -> [u8; LEN] {
        let [o0, o1] = self.offset.to_le_bytes();
        let [a0, a1] = self.ack.offset.to_le_bytes();
        let asks = if self.asks { ASKS } else { 0 };
        let head = MARK | (self.stream as u8) << 3 | asks | ((self.epoch >> 8) as u8) << 5;
        [
            head,
            self.epoch as u8,
            self.packet,
            self.heard.newest,
            self.heard.bits,
            o0,
            o1,
            a0,
            a1,
            self.ack.room,
        ]
    }
}

/// Which frames have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// Number of the newest.
    pub(super) newest: u8,
    /// The lowest bit is the newest, the next the one before it.
    pub(super) bits: u8,
}

impl Heard {
    /// As if all before the first had come.
    pub(super) const FIRST: Self = Self { newest: 0, bits: 0xFF };

    /// Takes note of frame `packet`; `true` when it is newer than all before.
    pub(super) fn note(&mut self, packet: u8, has_come: bool) -> bool {
        let has_come = u8::from(has_come);
        let ahead = packet.wrapping_sub(self.newest);
        let newer = (1..=UNHEARD).contains(&ahead);
        if newer {
            self.bits = (u32::from(self.bits) << ahead.min(8)) as u8 | has_come;
            self.newest = packet;
        } else {
            self.bits |= (u32::from(has_come) << ahead.wrapping_neg().min(8)) as u8;
        }
        newer
    }

    /// Whether a frame has come; `None` when it may still be on its way.
    pub(super) fn has_come(self, packet: u8) -> Option<bool> {
        let age = self.newest.wrapping_sub(packet);
        let is_known = age < UNHEARD.wrapping_neg();
        is_known.then(|| u32::from(self.bits) >> age.min(8) & 1 != 0)
    }
}

/// So many numbers may be used ahead of the last that was heard of; the others are of the past.
pub(super) const UNHEARD: u8 = 192;
/// Bytes of a header.
pub(super) const LEN: usize = 10;
/// The bits of an epoch that a header has room for.
pub(super) const EPOCH: u16 = 0x7FF;
const MARK: u8 = 7;
const ASKS: u8 = 1 << 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header {
            epoch: 0x5A3,
            stream: 1,
            asks: false,
            packet: 200,
            heard: Heard { newest: 7, bits: 0xFD },
            offset: 0xFFFE,
            ack: Ack { offset: 0x0102, room: 255 },
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes, [0b1010_1111, 0xA3, 200, 7, 0xFD, 0xFE, 0xFF, 0x02, 0x01, 255]);
        assert_eq!(Header::read(&[&bytes[..], b"xyz"].concat()), Some((header, &b"xyz"[..])));
        assert_eq!(Header::read(&bytes[..LEN - 1]), None);
        assert!(Header::marks(&bytes) && !Header::marks(&[0x28]) && !Header::marks(&[]));
        let asking = Header { asks: true, stream: 0, ..header };
        assert_eq!(asking.to_bytes()[0], 0b1011_0111);
        assert_eq!(Header::read(&asking.to_bytes()), Some((asking, &[][..])));
    }

    #[test]
    fn what_has_come_is_told_of_the_last_eight() {
        let mut heard = Heard::FIRST;
        assert!(heard.note(1, true) && heard.note(2, true));
        assert!(heard.note(5, true), "3 and 4 are missing");
        assert_eq!(heard, Heard { newest: 5, bits: 0b1111_1001 });
        assert!(!heard.note(4, true), "overtaken");
        assert_eq!(
            [2, 3, 4, 5, 6].map(|packet| heard.has_come(packet)),
            [Some(true), Some(false), Some(true), Some(true), None]
        );
        assert!(!heard.note(5, false) && heard.note(6, false), "the word that there was a frame 6");
        assert_eq!((heard.has_come(5), heard.has_come(6)), (Some(true), Some(false)));
        assert!(heard.note(60, true));
        assert_eq!((heard.bits, heard.has_come(6)), (1, Some(false)));
        assert!(heard.note(230, true) && heard.note(10, true), "numbers begin again");
        assert_eq!((heard.has_come(230), heard.has_come(11)), (Some(false), None));
        assert_eq!((heard.has_come(10 + UNHEARD), heard.has_come(11 + UNHEARD)), (None, Some(false)));
        assert!(heard.note(10 + UNHEARD, true) && !heard.note(140, true), "long ago by now");
    }
}
