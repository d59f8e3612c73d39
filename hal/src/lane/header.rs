//! The header of a lane's own frames. The first byte tells them from messages, whose types end at 4.
//!
//! ```text
//! head    1  bits 0-2: 7; 3: stream; 4: zero; 5-7: epoch, upper bits
//! epoch   1  lower bits
//! packet  1  number of this frame, counted over both streams; of a frame without bytes, that of the last one before it
//! heard   1  number of the newest frame that has come from the other end
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
    pub(super) packet: u8,
    pub(super) heard: u8,
    pub(super) offset: u16,
    pub(super) ack: Ack,
}

impl Header {
    /// Whether a frame is one of a lane's own.
    pub(super) fn marks(frame: &[u8]) -> bool {
        frame.first().is_some_and(|head| head & MARK == MARK)
    }

    /// Takes the header off a frame.
    pub(super) fn read(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (&[head, epoch, packet, heard, o0, o1, a0, a1, room], bytes) =
            frame.split_first_chunk::<LEN>()?;
        if head & (MARK | ZERO) != MARK {
            return None;
        }
        let header = Self {
            epoch: u16::from(head >> 5) << 8 | u16::from(epoch),
            stream: usize::from(head >> 3 & 1),
            packet,
            heard,
            offset: u16::from_le_bytes([o0, o1]),
            ack: Ack { offset: u16::from_le_bytes([a0, a1]), room },
        };
        Some((header, bytes))
    }

    pub(super) fn to_bytes(self) -> [u8; LEN] {
        let [o0, o1] = self.offset.to_le_bytes();
        let [a0, a1] = self.ack.offset.to_le_bytes();
        let head = MARK | (self.stream as u8) << 3 | ((self.epoch >> 8) as u8) << 5;
        [head, self.epoch as u8, self.packet, self.heard, o0, o1, a0, a1, self.ack.room]
    }
}

/// Bytes of a header.
pub(super) const LEN: usize = 9;
/// The bits of an epoch that a header has room for.
pub(super) const EPOCH: u16 = 0x7FF;
const MARK: u8 = 7;
const ZERO: u8 = 1 << 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header {
            epoch: 0x5A3,
            stream: 1,
            packet: 200,
            heard: 7,
            offset: 0xFFFE,
            ack: Ack { offset: 0x0102, room: 255 },
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes, [0b1010_1111, 0xA3, 200, 7, 0xFE, 0xFF, 0x02, 0x01, 255]);
        assert_eq!(Header::read(&[&bytes[..], b"xyz"].concat()), Some((header, &b"xyz"[..])));
        assert_eq!(Header::read(&bytes[..8]), None);
        assert!(Header::marks(&bytes) && !Header::marks(&[0x28]) && !Header::marks(&[]));
        let reserved = [bytes[0] | ZERO, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Header::read(&reserved), None);
    }
}
