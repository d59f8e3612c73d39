//! Frames on an SPI bus, wire version 1: what either end sends in one transfer, that is from chip select to chip select.
//!
//! ```text
//! mark      1    b4 from the controller, c8 from the target
//! check     1    bits 16 to 23 of the CRC-32 of mark, sequence and length
//! sequence  1    bits 0 to 6: number of the frame; bit 7: this end takes a frame in this transfer
//! length    1    bytes of the frame, 0 for none
//! frame     length
//! CRC       4    CRC-32 of sequence (bit 7 as 0), length and frame, little endian; not there without a frame
//! ```
//!
//! The first four bytes are the end's status. Both ends send it at the same time, so each has prepared its own before it
//! knows the other's: nothing in a transfer answers that transfer. Bytes behind the frame mean nothing. A transfer that
//! ends before the frame does carries the status alone.
//!
//! A frame has arrived when its CRC is right. Its sender takes it for arrived when, in the same transfer, the status of
//! the other end was right and took a frame, and the transfer was long enough; else it sends it again under the same
//! number, by which the other end knows a frame that it already has.
//!
//! Every transfer stands alone: whatever went wrong in one, the next begins in step. The marks are chosen so that no mark
//! follows from one that lost or gained one to seven bits, and neither is the other, nor what a line that is stuck says:
//! an end that hears itself hears nothing.

use crate::frame::serial::{CRC_LEN, checksum};
use crate::limits::MAX_LINE_FRAME;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Side {
    /// The end that drives clock and chip select.
    Controller,
    /// The end that is selected.
    Target,
}

impl Side {
    const fn mark(self) -> u8 {
        match self {
            Self::Controller => 0xB4,
            Self::Target => 0xC8,
        }
    }
}

/// What an end says of itself at the start of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Status {
    /// It takes a frame in this transfer.
    pub room: bool,
    /// The number of its frame, below 128.
    pub sequence: u8,
    /// Bytes of its frame, at most [`MAX_LINE_FRAME`]; 0 for none.
    pub len: u8,
}

impl Status {
    /// The bytes that `from` begins a transfer with.
    pub fn encode(self, from: Side) -> [u8; STATUS_LEN] {
        let sequence = self.sequence & SEQUENCE | if self.room { ROOM } else { 0 };
        [from.mark(), check(from, sequence, self.len), sequence, self.len]
    }

    /// What `from` says in a transfer that begins with `bytes`; `None` when that is nothing `from` could have said:
    /// garbled, out of step, sent by the other side, a line that is stuck, fewer than [`STATUS_LEN`] bytes.
    pub fn decode(from: Side, bytes: &[u8]) -> Option<Self> {
        let [mark, found, sequence, len] = *bytes.first_chunk::<STATUS_LEN>()?;
        let right = mark == from.mark() && usize::from(len) <= MAX_LINE_FRAME;
        let status = Self { room: sequence & ROOM != 0, sequence: sequence & SEQUENCE, len };
        (right && found == check(from, sequence, len)).then_some(status)
    }

    /// Bytes of a transfer that carries what this status announces.
    pub const fn transfer_len(self) -> usize {
        transfer_len(self.len as usize)
    }

    /// The frame of a transfer that begins with this status, and its CRC.
    ///
    /// # Errors
    /// There is none; the transfer ended before it; it is not what was sent.
    pub fn frame(self, bytes: &[u8]) -> Result<(&[u8], u32), FrameFault> {
        if self.len == 0 {
            return Err(FrameFault::None);
        }
        let body = bytes.get(STATUS_LEN..).unwrap_or_default();
        let Some((frame, rest)) = body.split_at_checked(usize::from(self.len)) else {
            return Err(FrameFault::CutOff);
        };
        let sent = u32::from_le_bytes(*rest.first_chunk::<CRC_LEN>().ok_or(FrameFault::CutOff)?);
        let right = sent == checksum(&[&[self.sequence, self.len], frame]);
        if right { Ok((frame, sent)) } else { Err(FrameFault::BadCrc) }
    }
}

/// Why a transfer has no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FrameFault {
    /// None was sent.
    None,
    /// The transfer ended before the frame did.
    CutOff,
    /// It is not what was sent.
    BadCrc,
}

/// Puts `frame` under the number `sequence` behind the status, and says how many bytes the transfer takes. The status
/// itself is put in front when it is known ([`Status::encode`]).
///
/// `None` when the frame is empty or too long, or `out` too short.
pub fn encode_frame(sequence: u8, frame: &[u8], out: &mut [u8]) -> Option<usize> {
    let whole = transfer_len(frame.len());
    if frame.is_empty() || frame.len() > MAX_LINE_FRAME {
        return None;
    }
    let (place, rest) = out.get_mut(STATUS_LEN..whole)?.split_at_mut_checked(frame.len())?;
    place.copy_from_slice(frame);
    let crc = checksum(&[&[sequence & SEQUENCE, frame.len() as u8], frame]);
    rest.copy_from_slice(&crc.to_le_bytes());
    Some(whole)
}

/// Bytes of a transfer that carries a frame of `frame_len` bytes; that of the status alone for 0.
pub const fn transfer_len(frame_len: usize) -> usize {
    if frame_len == 0 { STATUS_LEN } else { STATUS_LEN + CRC_LEN + frame_len }
}

/// Bytes of the status that a transfer begins with.
pub const STATUS_LEN: usize = 4;

/// Bytes of the longest transfer.
pub const MAX_TRANSFER: usize = transfer_len(MAX_LINE_FRAME);

/// The numbers of frames are those up to this one, then 0 again.
pub const SEQUENCE: u8 = 0x7F;

const ROOM: u8 = 0x80;

/// Of the four bytes of the CRC the one that misses no one or two wrong bits among sequence, length and itself.
fn check(from: Side, sequence: u8, len: u8) -> u8 {
    checksum(&[&[from.mark(), sequence, len]]).to_le_bytes()[2]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const SIDES: [Side; 2] = [Side::Controller, Side::Target];

    fn statuses() -> impl Iterator<Item = Status> {
        let lens = || 0..=MAX_LINE_FRAME as u8;
        (0..=SEQUENCE).flat_map(move |sequence| {
            lens().flat_map(move |len| [true, false].map(|room| Status { room, sequence, len }))
        })
    }

    fn transfer(from: Side, status: Status, frame: &[u8]) -> Vec<u8> {
        let mut out = [0; MAX_TRANSFER];
        let len = encode_frame(status.sequence, frame, &mut out).unwrap();
        out[..STATUS_LEN].copy_from_slice(&Status { len: frame.len() as u8, ..status }.encode(from));
        out[..len].to_vec()
    }

    #[test]
    fn every_status_comes_back_as_it_went_and_only_from_its_side() {
        for status in statuses() {
            for (from, other) in [(Side::Controller, Side::Target), (Side::Target, Side::Controller)] {
                let bytes = status.encode(from);
                assert_eq!(Status::decode(from, &bytes), Some(status));
                assert_eq!(Status::decode(other, &bytes), None);
                assert_eq!(Status::decode(from, &bytes[..3]), None);
            }
        }
    }

    #[test]
    fn a_line_that_is_stuck_says_nothing() {
        for from in SIDES {
            for byte in [0x00, 0xFF, 0x55, 0xAA] {
                assert_eq!(Status::decode(from, &[byte; MAX_TRANSFER]), None);
            }
            assert_eq!(Status::decode(from, &[]), None);
        }
    }

    #[test]
    fn a_status_with_one_or_two_wrong_bits_is_none() {
        for status in statuses().step_by(31) {
            for from in SIDES {
                let bits = u32::from_be_bytes(status.encode(from));
                for one in 0..32 {
                    for two in 0..32 {
                        let wrong = bits ^ 1 << one ^ if one == two { 0 } else { 1 << two };
                        for as_from in SIDES {
                            assert_eq!(Status::decode(as_from, &wrong.to_be_bytes()), None, "{status:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_status_that_lost_or_gained_up_to_seven_bits_is_none() {
        for status in statuses() {
            for from in SIDES {
                let bits = u64::from(u32::from_be_bytes(status.encode(from))) << 32;
                for slip in 1..8 {
                    for fill in [0, u64::MAX] {
                        let lost = bits << slip | fill >> (64 - slip) << 32;
                        let gained = bits >> slip | fill << (64 - slip);
                        for wrong in [lost, gained] {
                            let bytes = wrong.to_be_bytes();
                            assert!(SIDES.iter().all(|side| Status::decode(*side, &bytes).is_none()));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn frames_of_every_length_come_back_as_they_went() {
        let all: Vec<u8> = (0..=255).collect();
        for len in 1..=MAX_LINE_FRAME {
            let status = Status { room: true, sequence: len as u8 & SEQUENCE, len: len as u8 };
            let bytes = transfer(Side::Target, status, &all[..len]);
            assert_eq!(bytes.len(), status.transfer_len());
            // What is clocked behind it means nothing.
            let longer = [&bytes[..], &[0xFF; 9]].concat();
            for bytes in [&bytes, &longer] {
                let found = Status::decode(Side::Target, bytes).unwrap();
                assert_eq!(found.frame(bytes).map(|(frame, _)| frame), Ok(&all[..len]));
            }
            for cut in STATUS_LEN..bytes.len() {
                assert_eq!(status.frame(&bytes[..cut]), Err(FrameFault::CutOff));
            }
        }
        assert_eq!(Status { room: true, sequence: 0, len: 0 }.frame(&[0; 64]), Err(FrameFault::None));
    }

    #[test]
    fn what_is_no_frame_is_not_encoded() {
        assert_eq!(encode_frame(0, &[], &mut [0; MAX_TRANSFER]), None);
        assert_eq!(encode_frame(0, &[1; MAX_LINE_FRAME + 1], &mut [0; MAX_TRANSFER + 1]), None);
        assert_eq!(encode_frame(0, &[1; 8], &mut [0; 15]), None);
        assert_eq!(encode_frame(0, &[1; 8], &mut [0; 16]), Some(16));
    }

    #[test]
    fn the_crc_does_not_depend_on_room_so_that_a_frame_sent_again_is_the_same() {
        let status = |room| Status { room, sequence: 9, len: 3 };
        let bytes = [true, false].map(|room| transfer(Side::Controller, status(room), b"abc"));
        assert_eq!(bytes[0][STATUS_LEN..], bytes[1][STATUS_LEN..]);
        assert_ne!(bytes[0][..STATUS_LEN], bytes[1][..STATUS_LEN]);
    }

    #[test]
    fn no_flipped_bit_changes_a_frame_unnoticed() {
        let status = Status { room: true, sequence: 77, len: 24 };
        let bytes = transfer(Side::Controller, status, &[0x5A; 24]);
        for at in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[at / 8] ^= 1 << (at % 8);
            let taken = Status::decode(Side::Controller, &wrong).and_then(|found| found.frame(&wrong).ok());
            assert_eq!(taken, None, "bit {at}");
        }
    }

    #[test]
    fn random_bytes_neither_panic_nor_make_a_frame() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut valid = 0;
        for _ in 0..500_000 {
            let mut bytes = [0; 16];
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = (state >> 24) as u8;
            }
            // The right mark, so that the rest is looked at; and lengths that fit.
            bytes[0] = Side::Target.mark();
            bytes[3] &= 0x0F;
            if let Some(status) = Status::decode(Side::Target, &bytes) {
                valid += 1;
                assert!(status.frame(&bytes).is_err());
            }
        }
        // The check is one of 256.
        assert!((1_500..2_500).contains(&valid), "{valid}");
    }
}
