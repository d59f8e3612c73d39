//! The layout of the frames of a secure link. Knows no keys.

use super::schedule::Side;
use crate::limits::MAX_NAME;
use crate::wire::{Reader, Writer};

/// A frame of the line, taken apart and not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'f> {
    /// The lower 14 bits of its counter.
    Data(u16),
    Init(Init<'f>),
    Reply(Reply),
    Rekey,
}

impl<'f> Frame<'f> {
    /// `None` for what is no frame of a secure link of this version.
    pub(super) fn read(frame: &'f [u8]) -> Option<Self> {
        let (&head, rest) = frame.split_first()?;
        match head {
            INIT => Init::read(frame).map(Self::Init),
            REPLY => Reply::read(rest).map(Self::Reply),
            REKEY if rest.is_empty() => Some(Self::Rekey),
            0..=0x3F => Some(Self::Data(u16::from(head) << 8 | u16::from(*rest.first()?))),
            _ => None,
        }
    }
}

/// What a connecting end begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Init<'f> {
    pub(super) key_id: u8,
    pub(super) side: Side,
    /// Not looked at yet.
    pub(super) name: &'f [u8],
    /// All before the proof.
    pub(super) body: &'f [u8],
    pub(super) proof: [u8; PROOF_LEN],
}

impl<'f> Init<'f> {
    fn read(frame: &'f [u8]) -> Option<Self> {
        let (body, &proof) = frame.split_last_chunk()?;
        let mut reader = Reader::new(body);
        reader.u8()?;
        let (key_id, side) = read_side(&mut reader)?;
        let name = reader.rest();
        (1..=MAX_NAME).contains(&name.len()).then_some(Self { key_id, side, name, body, proof })
    }
}

/// What an accepting end answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) key_id: u8,
    pub(super) side: Side,
    pub(super) confirmation: [u8; PROOF_LEN],
}

impl Reply {
    fn read(rest: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(rest);
        let (key_id, side) = read_side(&mut reader)?;
        Some(Self { key_id, side, confirmation: reader.rest().try_into().ok()? })
    }

    /// Its length in `out`; 0 when it does not fit.
    pub(super) fn write(&self, out: &mut [u8]) -> usize {
        let mut writer = Writer::new(out);
        write_side(REPLY, self.key_id, self.side, &mut writer);
        writer.bytes(&self.confirmation);
        writer.finish().unwrap_or(0)
    }
}

/// All of an INIT but its proof: its length in `out`, 0 when that does not fit.
pub(super) fn write_init(key_id: u8, side: Side, name: &str, out: &mut [u8]) -> usize {
    let mut writer = Writer::new(out);
    write_side(INIT, key_id, side, &mut writer);
    writer.bytes(name.as_bytes());
    writer.finish().unwrap_or(0)
}

/// Its length in `out`; 0 when it does not fit.
pub(super) fn write_rekey(out: &mut [u8]) -> usize {
    let mut writer = Writer::new(out);
    writer.u8(REKEY);
    writer.finish().unwrap_or(0)
}

/// The name that an INIT claims; `None` when `frame` is none. For an end without keys, to tell its operator that the other
/// end wants one.
pub fn name_in_init(frame: &[u8]) -> Option<&str> {
    match Frame::read(frame) {
        Some(Frame::Init(init)) => crate::wire::ascii(init.name),
        _ => None,
    }
}

/// What `counter` is told by on the wire.
pub(super) const fn data_head(counter: u64) -> [u8; HEAD_LEN] {
    ((counter & COUNTER_MASK) as u16).to_be_bytes()
}

fn read_side(reader: &mut Reader<'_>) -> Option<(u8, Side)> {
    let key_id = reader.u8()?;
    let nonce = *reader.take(NONCE_LEN)?.first_chunk()?;
    let boot_id = u64::from_le_bytes(*reader.take(8)?.first_chunk()?);
    Some((key_id, Side { nonce, boot_id }))
}

fn write_side(head: u8, key_id: u8, side: Side, writer: &mut Writer<'_>) {
    writer.bytes(&[head, key_id]);
    writer.bytes(&side.nonce);
    writer.bytes(&side.boot_id.to_le_bytes());
}

/// The version of handshake and frames.
pub const SECURE_VERSION: u8 = 1;
/// Bytes of the longest frame that [`SecureEnd::poll_transmit`](super::SecureEnd::poll_transmit) writes.
pub const MAX_HANDSHAKE: usize = 2 + NONCE_LEN + 8 + MAX_NAME + PROOF_LEN;
/// Bytes of a nonce.
pub(super) const NONCE_LEN: usize = 16;
/// Bytes of a proof and of a confirmation.
pub(super) const PROOF_LEN: usize = 16;
/// Bytes before a payload: two bits of kind, 14 of the counter.
pub(super) const HEAD_LEN: usize = 2;
/// The bits of a counter that a head has room for.
pub(super) const COUNTER_MASK: u64 = 0x3FFF;
/// The kind in the upper two bits, the version below.
const INIT: u8 = 0x40 | SECURE_VERSION;
const REPLY: u8 = 0x80 | SECURE_VERSION;
const REKEY: u8 = 0xC0 | SECURE_VERSION;
