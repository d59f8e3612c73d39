//! Frames on a serial line, wire version 1: `COBS(frame ‖ CRC-32 of frame, little endian) ‖ 0x00`.
//!
//! COBS (Cheshire and Baker, 1999) leaves no zero in the frame, so a zero always ends one. The CRC is CRC-32/ISO-HDLC
//! and covers every byte of the frame, its header and lengths too. Whatever a line does to the bytes, the decoder is
//! back in step at the next delimiter.
//!
//! A cut-off frame that is followed by a delimiter costs itself only. Without a delimiter the frame after it runs into
//! it and both are lost, which is why a sender writes one extra delimiter before its first frame after a restart.
//! Delimiters with nothing between them mean nothing and are not counted.

use crc::{CRC_32_ISO_HDLC, Crc};

/// Takes bytes off a serial line and puts frames together.
///
/// `N` is the longest frame plus [`CRC_LEN`] bytes. The frame is decoded in place, into the one buffer there is.
///
/// A frame that is longer than that, or that breaks the rules of COBS, is dropped whole: the rest of it up to the next
/// delimiter is passed over and never looked at as a frame of its own.
///
/// ```
/// use visorbus_core::frame::serial::{SerialDecoder, encode};
///
/// let mut line = [0; 16];
/// let len = encode(&[b"hello"], &mut line).unwrap();
/// let mut decoder = SerialDecoder::<{ 5 + 4 }>::new();
/// assert_eq!(decoder.push(&line[..len]), len);
/// assert_eq!(decoder.frame(), Some(&b"hello"[..]));
/// ```
#[derive(Debug)]
pub struct SerialDecoder<const N: usize> {
    buffer: [u8; N],
    /// Bytes decoded so far; those of the frame without its CRC when `whole`.
    len: usize,
    whole: bool,
    state: State,
    faults: SerialFaults,
}

impl<const N: usize> SerialDecoder<N> {
    /// A decoder that takes the next byte for the first of a frame.
    pub const fn new() -> Self {
        const { assert!(N > CRC_LEN, "no room for a frame of one byte and its CRC") };
        Self { buffer: [0; N], len: 0, whole: false, state: State::Between, faults: SerialFaults::NONE }
    }

    /// Takes bytes up to the end of the first whole frame among them, and says how many it took.
    ///
    /// That is all of them unless [`SerialDecoder::frame`] has one now. A frame that was there before is gone.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.whole = false;
        for (at, byte) in bytes.iter().enumerate() {
            if self.take(*byte) {
                return at + 1;
            }
        }
        bytes.len()
    }

    /// Passes over bytes of frames that nobody can take: each frame they touch is dropped and counted.
    ///
    /// A whole frame that is waiting stays. Frames that begin after these bytes are taken again.
    pub fn skip(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == DELIMITER {
                self.state = State::Between;
            } else if self.state != State::Skip {
                self.state = State::Skip;
                count(&mut self.faults.dropped);
            }
        }
    }

    /// Drops what has been collected and passes over everything up to the next delimiter: bytes were lost here, as
    /// after an overrun. Not counted (whoever saw the fault counts it); a whole frame that is waiting stays.
    pub fn desynchronise(&mut self) {
        self.state = State::Skip;
    }

    /// The frame that the last [`SerialDecoder::push`] ended with, without its CRC; never empty.
    pub fn frame(&self) -> Option<&[u8]> {
        if self.whole { self.buffer.get(..self.len) } else { None }
    }

    /// What has gone wrong so far.
    pub const fn faults(&self) -> SerialFaults {
        self.faults
    }

    /// One step of the state machine; `true` when this byte ended a whole frame.
    fn take(&mut self, byte: u8) -> bool {
        match (self.state, byte) {
            (State::Between | State::Skip, DELIMITER) => self.state = State::Between,
            (State::Skip, _) => {}
            (State::Between, code) => {
                self.len = 0;
                self.state = State::block(code);
            }
            (State::Block { left: 0, .. }, DELIMITER) => {
                self.state = State::Between;
                self.whole = self.is_whole();
                return self.whole;
            }
            (State::Block { .. }, DELIMITER) => {
                count(&mut self.faults.cut_off);
                self.state = State::Between;
            }
            (State::Block { left: 0, zero_follows }, code) => {
                self.state = State::block(code);
                if zero_follows {
                    self.put(0);
                }
            }
            (State::Block { left, zero_follows }, byte) => {
                self.state = State::Block { left: left - 1, zero_follows };
                self.put(byte);
            }
        }
        false
    }

    /// Adds one decoded byte, or gives the frame up when there is no room for it.
    fn put(&mut self, byte: u8) {
        match self.buffer.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len += 1;
            }
            None => {
                count(&mut self.faults.too_long);
                self.state = State::Skip;
            }
        }
    }

    /// Judges what lies between two delimiters, and takes the CRC off it.
    fn is_whole(&mut self) -> bool {
        let frame_len = match self.len.checked_sub(CRC_LEN) {
            None | Some(0) => {
                count(&mut self.faults.cut_off);
                return false;
            }
            Some(frame_len) => frame_len,
        };
        if self.buffer.get(..self.len).is_none_or(|all| checksum(&[all]) != CRC_OF_INTACT) {
            count(&mut self.faults.bad_crc);
            return false;
        }
        self.len = frame_len;
        true
    }
}

impl<const N: usize> Default for SerialDecoder<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`SerialDecoder`] has dropped, by reason. The counters stop at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct SerialFaults {
    /// Frames longer than the buffer.
    pub too_long: u32,
    /// Frames whose delimiter came before the end that their own bytes announce, or that are too short to be any.
    pub cut_off: u32,
    /// Frames that are not what was sent.
    pub bad_crc: u32,
    /// Frames passed over because nobody could take them ([`SerialDecoder::skip`]).
    pub dropped: u32,
}

impl SerialFaults {
    /// Nothing has gone wrong.
    pub const NONE: Self = Self { too_long: 0, cut_off: 0, bad_crc: 0, dropped: 0 };
}

/// Writes the frame that `parts` make up, as it goes over the line, into `out`, and says how many bytes that took.
///
/// At most [`max_encoded_len`] of them. `None` when `out` is too short, or the frame is empty; `out` holds nothing of
/// use then.
pub fn encode(parts: &[&[u8]], out: &mut [u8]) -> Option<usize> {
    if parts.iter().all(|part| part.is_empty()) {
        return None;
    }
    let mut encoder = Encoder { out, code_at: 0, end: 1, code: 1 };
    for part in parts {
        encoder.push(part)?;
    }
    encoder.push(&checksum(parts).to_le_bytes())?;
    encoder.finish()
}

/// Bytes that a frame of `frame_len` bytes takes on the line at most: its CRC, one byte for every 254, a delimiter.
pub const fn max_encoded_len(frame_len: usize) -> usize {
    let len = frame_len.saturating_add(CRC_LEN);
    len.saturating_add(len.div_ceil(BLOCK_LEN) + 1)
}

/// Bytes of the longest frame that is sure to fit into `encoded_len` bytes on the line; 0 when none is.
pub const fn max_frame_len(encoded_len: usize) -> usize {
    let stuffed = encoded_len.saturating_sub(1);
    (stuffed - stuffed.div_ceil(BLOCK_LEN + 1)).saturating_sub(CRC_LEN)
}

/// The byte that ends every frame and occurs in none.
pub const DELIMITER: u8 = 0;

/// Bytes of the CRC behind each frame.
pub const CRC_LEN: usize = 4;

/// Where in the stream the decoder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind a delimiter: nothing of the next frame has been seen.
    Between,
    /// In a frame: `left` more bytes of this block, and a zero between it and the block after it, if one comes.
    Block { left: u8, zero_follows: bool },
    /// In something that is not a frame, until the next delimiter.
    Skip,
}

impl State {
    const fn block(code: u8) -> Self {
        Self::Block { left: code.saturating_sub(1), zero_follows: code != FULL }
    }
}

/// Stuffs bytes into `out`: blocks of a code byte and up to 254 bytes that are not zero.
struct Encoder<'a> {
    out: &'a mut [u8],
    code_at: usize,
    end: usize,
    /// Code of the open block so far: its bytes and one.
    code: u8,
}

impl Encoder<'_> {
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        for byte in bytes {
            if self.code == FULL {
                self.open_block()?;
            }
            if *byte == 0 {
                self.open_block()?;
            } else {
                self.put(*byte)?;
                self.code += 1;
            }
        }
        Some(())
    }

    fn finish(mut self) -> Option<usize> {
        self.close_block()?;
        self.put(DELIMITER)?;
        Some(self.end)
    }

    fn open_block(&mut self) -> Option<()> {
        self.close_block()?;
        self.code_at = self.end;
        self.code = 1;
        self.end += 1;
        Some(())
    }

    fn close_block(&mut self) -> Option<()> {
        *self.out.get_mut(self.code_at)? = self.code;
        Some(())
    }

    fn put(&mut self, byte: u8) -> Option<()> {
        *self.out.get_mut(self.end)? = byte;
        self.end += 1;
        Some(())
    }
}

/// The CRC of all parts together. The only caller of the `crc` crate, so that its parameters fold into constants.
#[inline(never)]
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    let mut crc = CRC.digest();
    for part in parts {
        crc.update(part);
    }
    crc.finalize()
}

#[cfg_attr(not(feature = "std"), inline(never))]
fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

/// Longest run of bytes that are not zero behind one code byte.
const BLOCK_LEN: usize = 254;

/// The code of a block of [`BLOCK_LEN`] bytes; no zero follows it.
const FULL: u8 = 0xFF;

/// Bit by bit where flash is scarce, by a table of 1 KiB on the host: the same result either way.
#[cfg(not(feature = "std"))]
static CRC: Crc<u32, crc::NoTable> = Crc::<u32, crc::NoTable>::new(&CRC_32_ISO_HDLC);
#[cfg(feature = "std")]
static CRC: Crc<u32, crc::Table<1>> = Crc::<u32, crc::Table<1>>::new(&CRC_32_ISO_HDLC);

/// The CRC over any bytes and their own CRC (the catalogue's residue, before its final inversion).
const CRC_OF_INTACT: u32 = CRC_32_ISO_HDLC.residue ^ CRC_32_ISO_HDLC.xorout;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
