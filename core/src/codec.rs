//! Message to bytes and back, wire version 1. Borrows from the frame, copies nothing, allocates nothing.
//!
//! ```text
//! head      1  bits 0-2 type, 3-4 priority, 5 requires response, 6 encrypted, 7 compressed
//! parts     1  bits 0-2 payload kind, 3 timestamp, 4 timeout, 5 token, 7 uncertainty follows (only behind a
//!              timestamp); 6 bare: neither id nor source follow (only in a notification that wants no answer)
//! id        varint                     unless it is bare
//! source    address                    unless it is bare
//! destination address
//! timestamp varint, microseconds       when its bit is set
//! uncertainty varint, microseconds     when its bit is set: the timestamp is in the hub's clock
//! timeout   varint, milliseconds       when its bit is set
//! token     varint length, bytes       when its bit is set
//! payload   the rest of the frame
//!
//! address   0 = none, 1..=64 = that many bytes of text, 128..=191 = alias in the low six bits, 192..=255 = alias in
//!           the low six bits and the next byte; an alias is a row of the connecting end's table, by its number
//! ```

use crate::error::{ErrorKind, IpcError};
use crate::limits::{MAX_ADDRESS, MAX_TOKEN};
use crate::message::{
    Address, Message, MessageFlags, MessagePayload, MessagePriority, MessageType, PayloadKind,
};
use crate::needs::{Everything, Needs};
use crate::sentence;
use crate::wire::{Reader, Writer};

/// Writes `message` into `out` and says how many bytes it took.
///
/// # Errors
/// [`EncodeError::NoRoom`] when it does not fit; `out` then holds nothing of use.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = begin(message, message.payload.kind(), out);
    writer.bytes(message.payload.as_bytes());
    writer.finish().ok_or(EncodeError::NoRoom)
}

/// Writes everything before the payload, whose bytes must follow directly: for those who send it from where it is.
///
/// # Errors
/// [`EncodeError::NoRoom`] when it does not fit.
pub fn encode_header(message: &Message<'_>, out: &mut [u8]) -> Result<usize, EncodeError> {
    encode_header_to(message, None, out)
}

/// As [`encode_header`]; with `row` the destination goes as the alias of that row, whose address it must be.
///
/// # Errors
/// [`EncodeError::NoRoom`] when it does not fit.
pub fn encode_header_to(
    message: &Message<'_>,
    row: Option<u16>,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    begin_to(message, row, message.payload.kind(), out).finish().ok_or(EncodeError::NoRoom)
}

/// Writes everything before a payload of `kind`, which is then written behind it; what `message` itself carries is
/// not looked at.
pub(crate) fn begin<'o>(message: &Message<'_>, kind: PayloadKind, out: &'o mut [u8]) -> Writer<'o> {
    begin_to(message, None, kind, out)
}

/// As [`begin`]; with `row` the destination goes as the alias of that row, whose address it must be.
#[cfg_attr(not(feature = "std"), inline(never))]
pub(crate) fn begin_to<'o>(
    message: &Message<'_>,
    row: Option<u16>,
    kind: PayloadKind,
    out: &'o mut [u8],
) -> Writer<'o> {
    let flags = &message.flags;
    let head = message.message_type as u8
        | (flags.priority as u8) << 3
        | bit(flags.requires_response, REQUIRES_RESPONSE)
        | bit(flags.encrypted, ENCRYPTED)
        | bit(flags.compressed, COMPRESSED);
    let mut parts = kind as u8;
    let mut writer = Writer::new(out);
    // The second is written once more when all that it tells of is: less flash than to ask everything twice.
    writer.bytes(&[head, parts]);
    if may_be_bare(head) && message.id == 0 && message.source.is_none() {
        parts |= BARE;
    } else {
        writer.varint(message.id);
        writer.run(message.source.map_or("", Address::as_str).as_bytes());
    }
    match row.and_then(alias) {
        Some(Alias::Short(byte)) => writer.u8(byte),
        Some(Alias::Long(bytes)) => writer.bytes(&bytes),
        None => writer.run(message.destination.map_or("", Address::as_str).as_bytes()),
    }
    if let Some(timestamp) = message.timestamp {
        parts |= HAS_TIMESTAMP;
        writer.varint(timestamp);
        if let Some(uncertainty_us) = message.uncertainty_us {
            parts |= HAS_UNCERTAINTY;
            writer.varint(u64::from(uncertainty_us));
        }
    }
    if let Some(timeout_ms) = flags.timeout_ms {
        parts |= HAS_TIMEOUT;
        writer.varint(u64::from(timeout_ms));
    }
    if let Some(token) = message.auth_token {
        parts |= HAS_TOKEN;
        writer.run(token);
    }
    writer.replace(1, parts);
    writer
}

/// Reads a whole frame as a message that borrows from it.
///
/// # Errors
/// [`DecodeError`] says which part is not of wire version 1.
pub fn decode(frame: &[u8]) -> Result<Message<'_>, DecodeError> {
    decode_for::<Everything>(frame)
}

/// As [`decode`]; `address_of` says which address is told of in a row of the connecting end's table.
///
/// # Errors
/// [`DecodeError`] says which part is not of wire version 1, or which row is not known.
pub fn decode_with<'f, 't: 'f>(
    frame: &'f [u8],
    address_of: impl Fn(u16) -> Option<Address<'t>>,
) -> Result<Message<'f>, DecodeError> {
    decode_as::<Everything>(frame, address_of)
}

/// As [`decode`] for an end with these needs: where it reads no text, a payload that is one reads as an empty one.
pub(crate) fn decode_for<N: Needs>(frame: &[u8]) -> Result<Message<'_>, DecodeError> {
    decode_as::<N>(frame, N::address_of)
}

fn decode_as<'f, 't: 'f, N: Needs>(
    frame: &'f [u8],
    address_of: impl Fn(u16) -> Option<Address<'t>>,
) -> Result<Message<'f>, DecodeError> {
    let mut reader = Reader::new(frame);
    let head = reader.u8().ok_or(DecodeError::CutOff)?;
    let parts = reader.u8().ok_or(DecodeError::CutOff)?;
    let message_type = MessageType::from_code(head & TYPE).ok_or(DecodeError::UnknownType(head & TYPE))?;
    let kind = PayloadKind::from_code(parts & PAYLOAD_KIND)
        .filter(|_| parts & BARE == 0 || may_be_bare(head))
        .ok_or(DecodeError::UnknownParts(parts))?;
    let (id, source) = match parts & BARE != 0 {
        true => (0, None),
        false => (reader.varint().ok_or(DecodeError::CutOff)?, decode_address(&mut reader, &address_of)?),
    };
    let destination = decode_address(&mut reader, &address_of)?;
    let timestamp = match parts & HAS_TIMESTAMP {
        0 => None,
        _ => Some(reader.varint().ok_or(DecodeError::CutOff)?),
    };
    let uncertainty_us = match (parts & HAS_UNCERTAINTY, timestamp) {
        (0, _) => None,
        (_, Some(_)) => Some(reader.varint_u32().ok_or(DecodeError::CutOff)?),
        (_, None) => return Err(DecodeError::UnknownParts(parts)),
    };
    let timeout_ms = match parts & HAS_TIMEOUT {
        0 => None,
        _ => Some(reader.varint_u32().ok_or(DecodeError::CutOff)?),
    };
    let auth_token = match parts & HAS_TOKEN {
        0 => None,
        _ => Some(reader.run().filter(|token| token.len() <= MAX_TOKEN).ok_or(DecodeError::CutOff)?),
    };
    let payload = MessagePayload::from_parts_for::<N>(kind, reader.rest()).ok_or(DecodeError::BadPayload)?;
    let flags = MessageFlags {
        requires_response: head & REQUIRES_RESPONSE != 0,
        encrypted: head & ENCRYPTED != 0,
        compressed: head & COMPRESSED != 0,
        priority: MessagePriority::from_code(head >> 3),
        timeout_ms,
    };
    Ok(Message {
        id,
        message_type,
        source,
        destination,
        payload,
        timestamp,
        uncertainty_us,
        auth_token,
        flags,
    })
}

/// The id of a frame that may be unreadable otherwise; 0 when it has none or even that cannot be read.
pub fn peek_id(frame: &[u8]) -> u64 {
    // No bare one comes to a leaf, which is spared the code.
    if cfg!(any(feature = "std", test))
        && matches!(frame, [head, parts, ..] if parts & BARE != 0 && may_be_bare(*head))
    {
        return 0;
    }
    let mut reader = Reader::new(frame.get(2..).unwrap_or(&[]));
    reader.varint().unwrap_or(0)
}

/// The bytes of source and destination as they stand in a frame, text or alias: for those who sort frames and decode
/// nothing. `None` when they are cut off.
pub fn peek_addresses(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, parts) = (*frame.first()?, *frame.get(1)?);
    let mut reader = Reader::new(frame.get(2..)?);
    if parts & BARE != 0 && may_be_bare(head) {
        return Some((&[], peek_address(&mut reader)?));
    }
    reader.varint()?;
    Some((peek_address(&mut reader)?, peek_address(&mut reader)?))
}

fn peek_address<'f>(reader: &mut Reader<'f>) -> Option<&'f [u8]> {
    let rest = reader.rest();
    match *rest.first()? {
        0xC0.. => reader.take(2),
        0x80.. => reader.take(1),
        _ => reader.run(),
    }
}

/// Writes the Error that answers `message` into `out`. A text that does not fit is cut at a character.
///
/// `None` when not even the header fits.
pub fn encode_error(message: &Message<'_>, error: &IpcError<&str>, out: &mut [u8]) -> Option<usize> {
    encode_error_parts(message, error.kind(), &[error.text()], out)
}

/// As [`encode_error`], the text in parts that stand one after the other: how a leaf, which has no formatting code,
/// says which scope is missing.
pub fn encode_error_parts(
    message: &Message<'_>,
    kind: ErrorKind,
    parts: &[&str],
    out: &mut [u8],
) -> Option<usize> {
    let mut writer = begin(&message.answer(MessageType::Error), PayloadKind::Binary, out);
    writer.u8(kind.code());
    for part in parts {
        writer.text_or_less(part);
    }
    writer.finish()
}

/// Most bytes that [`encode_header`] writes for a message without a token.
pub const MAX_HEADER: usize = 2 + 10 + 2 * (1 + MAX_ADDRESS) + 10 + 5 + 5;

/// Why a message could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EncodeError {
    /// It does not fit into the buffer.
    #[error("the message does not fit into the buffer")]
    NoRoom,
}

/// Why a frame is not a message of wire version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DecodeError {
    /// It ends inside a part, or a number in it is over-long.
    #[error("the frame is cut off or a number in it is over-long")]
    CutOff,
    /// A message type that version 1 does not have.
    #[error("message type {0} is unknown in wire version 1")]
    UnknownType(u8),
    /// A payload kind or an optional part that version 1 does not have.
    #[error("the parts byte {0:#04x} is unknown in wire version 1")]
    UnknownParts(u8),
    /// An address that breaks the rules of [`Address`].
    #[error("an address in the frame is not one")]
    BadAddress,
    /// An alias that was not announced on this session.
    #[error("alias {0} was not announced on this session")]
    UnknownAlias(u16),
    /// Bytes behind an empty payload, or a text payload that is not UTF-8.
    #[error("the payload does not fit its kind")]
    BadPayload,
}

impl DecodeError {
    /// What the other end is told, without numbers: a leaf has no formatting code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::CutOff => sentence::CUT_OFF,
            Self::UnknownType(_) => sentence::UNKNOWN_TYPE,
            Self::UnknownParts(_) => sentence::UNKNOWN_PARTS,
            Self::BadAddress => sentence::BAD_ADDRESS,
            Self::UnknownAlias(_) => sentence::UNKNOWN_ALIAS,
            Self::BadPayload => sentence::BAD_PAYLOAD,
        }
    }
}

fn decode_address<'f, 't: 'f>(
    reader: &mut Reader<'f>,
    address_of: impl Fn(u16) -> Option<Address<'t>>,
) -> Result<Option<Address<'f>>, DecodeError> {
    let first = reader.u8().ok_or(DecodeError::CutOff)?;
    let row = u16::from(first & 0x3f);
    let len = match first {
        0 => return Ok(None),
        0x80.. => {
            let is_short = first < 0xc0;
            let row = match is_short {
                true => row,
                false => row << 8 | u16::from(reader.u8().ok_or(DecodeError::CutOff)?),
            };
            // Only the shorter form is an alias.
            let address = address_of(row).filter(|_| is_short || row >= SHORT_ALIASES);
            return address.map(Some).ok_or(DecodeError::UnknownAlias(row));
        }
        len => usize::from(len),
    };
    let text = reader.take(len).ok_or(DecodeError::CutOff)?;
    let text = crate::wire::ascii(text).ok_or(DecodeError::BadAddress)?;
    Address::new(text).map(Some).map_err(|_| DecodeError::BadAddress)
}

/// What an alias is written as.
enum Alias {
    Short(u8),
    Long([u8; 2]),
}

/// The alias of a row; rows past the last alias have none.
const fn alias(row: u16) -> Option<Alias> {
    match row {
        ..SHORT_ALIASES => Some(Alias::Short(0x80 | row as u8)),
        SHORT_ALIASES..ALIASES => Some(Alias::Long([0xc0 | (row >> 8) as u8, row as u8])),
        _ => None,
    }
}

/// Whether the message with this first byte may go without id and source: a notification that wants no answer.
const fn may_be_bare(head: u8) -> bool {
    head & (TYPE | REQUIRES_RESPONSE) == MessageType::Notification as u8
}

const fn bit(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}

const TYPE: u8 = 0b0000_0111;
const REQUIRES_RESPONSE: u8 = 1 << 5;
const ENCRYPTED: u8 = 1 << 6;
const COMPRESSED: u8 = 1 << 7;
const PAYLOAD_KIND: u8 = 0b0000_0111;
const HAS_TIMESTAMP: u8 = 1 << 3;
const HAS_TIMEOUT: u8 = 1 << 4;
const HAS_TOKEN: u8 = 1 << 5;
const HAS_UNCERTAINTY: u8 = 1 << 7;
const BARE: u8 = 1 << 6;
/// Rows whose alias has one byte.
const SHORT_ALIASES: u16 = 1 << 6;
/// Rows that have an alias.
pub(crate) const ALIASES: u16 = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Message<'static> {
        Message {
            id: 300,
            message_type: MessageType::Request,
            source: Some(Address::literal("cli.1")),
            destination: Some(Address::literal("imu/set-rate")),
            payload: MessagePayload::Json("{}"),
            timestamp: Some(1_000_000),
            uncertainty_us: Some(700),
            auth_token: Some(&[7; 20]),
            flags: MessageFlags {
                requires_response: true,
                encrypted: true,
                compressed: true,
                priority: MessagePriority::Critical,
                timeout_ms: Some(500),
            },
        }
    }

    #[test]
    fn every_part_comes_back() {
        let mut out = [0; 128];
        let len = encode(&full(), &mut out).unwrap();
        assert_eq!(decode(&out[..len]), Ok(full()));
    }

    #[test]
    fn a_frame_cut_at_any_byte_is_an_error_or_a_shorter_payload() {
        let mut out = [0; 128];
        let len = encode(&full(), &mut out).unwrap();
        for cut in 0..len - 2 {
            assert!(decode(&out[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(decode(&out[..len - 1]).unwrap().payload, MessagePayload::Json("{"));
    }

    struct NoText;

    impl Needs for NoText {
        const TEXT: bool = false;
        const CHECK: bool = true;
        const PROOF: bool = true;
    }

    #[test]
    fn who_reads_no_text_sees_its_kind_and_nothing_of_it() {
        let mut out = [0; 128];
        let len = encode(&full(), &mut out).unwrap();
        let expected = Message { payload: MessagePayload::Json(""), ..full() };
        assert_eq!(decode_for::<NoText>(&out[..len]), Ok(expected));
        assert!(expected.payload.parse::<()>().is_err(), "a text is no postcard, not even an empty one");
        assert_eq!(IpcError::from_payload_for::<NoText>(b"\x02no"), IpcError::Authorization(""));
        let binary = Message { payload: MessagePayload::Binary(&[0xff]), ..full() };
        let len = encode(&binary, &mut out).unwrap();
        assert_eq!(decode_for::<NoText>(&out[..len]), Ok(binary));
    }

    #[test]
    fn a_buffer_too_small_by_any_amount_is_refused() {
        let mut out = [0; 128];
        let len = encode(&full(), &mut out).unwrap();
        for room in 0..len {
            assert_eq!(encode(&full(), &mut out[..room]), Err(EncodeError::NoRoom));
        }
    }

    #[test]
    fn what_version_1_does_not_know_is_refused_by_name() {
        assert_eq!(decode(&[0x05, 0, 1, 0, 0]), Err(DecodeError::UnknownType(5)));
        assert_eq!(decode(&[0x00, 0x05, 1, 0, 0]), Err(DecodeError::UnknownParts(5)));
        assert_eq!(decode(&[0x00, 0x40, 1, 0, 0]), Err(DecodeError::UnknownParts(0x40)));
        assert_eq!(decode(&[0x00, 0x80, 1, 0, 0]), Err(DecodeError::UnknownParts(0x80)));
        assert_eq!(decode(&[0x00, 0, 1, 0x83, 0]), Err(DecodeError::UnknownAlias(3)));
        assert_eq!(decode(&[0x00, 0, 1, 0xc1, 0x02, 0]), Err(DecodeError::UnknownAlias(0x102)));
        assert_eq!(
            decode(&[0x22, 0x40, 0]),
            Err(DecodeError::UnknownParts(0x40)),
            "bare, and an answer wanted"
        );
        assert_eq!(decode(&[0x01, 0x40, 0]), Err(DecodeError::UnknownParts(0x40)), "a bare answer");
        assert_eq!(decode(&[0x00, 0, 1, 0, 1, b'A']), Err(DecodeError::BadAddress));
        assert_eq!(decode(&[0x00, 0, 1, 0, 0, 9]), Err(DecodeError::BadPayload));
        assert_eq!(decode(&[0x00, 1, 1, 0, 0, 0xff]), Err(DecodeError::BadPayload));
        assert_eq!(decode(&[0x00, 0, 0x80, 0x00, 0, 0]), Err(DecodeError::CutOff));
    }

    const TABLE: [Address<'static>; 3] =
        [Address::literal("imu/info"), Address::literal("imu/set-rate"), Address::literal("imu/sample")];

    /// A table of as many rows as have an alias.
    fn row(row: u16) -> Option<Address<'static>> {
        (row < ALIASES).then(|| TABLE[usize::from(row) % 3])
    }

    #[test]
    fn an_alias_is_read_as_the_address_of_its_row_in_place_of_either_address() {
        let frame = [0x28, 0, 7, 0x82, 0x80];
        let message = decode_with(&frame, row).unwrap();
        assert_eq!((message.source, message.destination), (Some(TABLE[2]), Some(TABLE[0])));
        assert_eq!(decode_with(&frame, |row| (row < 2).then(|| TABLE[0])), Err(DecodeError::UnknownAlias(2)));
        assert_eq!(
            decode_with(&frame, |row| (row == 2).then(|| TABLE[2])),
            Err(DecodeError::UnknownAlias(0))
        );
        assert_eq!(decode(&frame), Err(DecodeError::UnknownAlias(2)));
        assert_eq!(decode_with(&[0x28, 0, 7, 0, 0xc0], row), Err(DecodeError::CutOff));
        let long_form = [0x28, 0, 7, 0, 0xc0, 63];
        assert_eq!(
            decode_with(&long_form, row),
            Err(DecodeError::UnknownAlias(63)),
            "it has a form of one byte"
        );
    }

    #[test]
    fn every_row_with_an_alias_comes_back_from_it_and_the_others_go_as_text() {
        let mut out = [0; 64];
        for number in 0..=u16::MAX {
            let address = row(number).unwrap_or(TABLE[0]);
            let request = Message::request(1, address);
            let len = encode_header_to(&request, Some(number), &mut out).unwrap();
            let wanted = match number {
                0..64 => 5,
                64..ALIASES => 6,
                _ => 5 + address.as_str().len(),
            };
            assert_eq!(len, wanted, "row {number}");
            let only_its_own = |asked| (asked == number).then_some(address);
            assert_eq!(decode_with(&out[..len], only_its_own), Ok(request), "row {number}");
        }
    }

    #[test]
    fn a_notification_that_says_nothing_of_itself_goes_bare_and_any_other_in_full() {
        let mut out = [0; 64];
        let bare = Message::notification(0, TABLE[2]).with_payload(MessagePayload::Binary(&[1, 2]));
        let len = encode_header_to(&bare, Some(2), &mut out).unwrap();
        assert_eq!(out[..len], [0x0a, 0x42, 0x82]);
        let len = encode(&bare, &mut out).unwrap();
        assert_eq!(out[..4], [0x0a, 0x42, 10, b'i']);
        assert_eq!(decode(&out[..len]), Ok(bare));
        assert_eq!(peek_id(&out[..len]), 0);
        let mut wanted = bare;
        wanted.flags.requires_response = true;
        let from_somebody = Message { source: Some(TABLE[0]), ..bare };
        let answer = Message { message_type: MessageType::Response, ..bare };
        for full in [wanted, from_somebody, answer, Message { id: 1, ..bare }] {
            let len = encode(&full, &mut out).unwrap();
            assert_eq!(out[1] & BARE, 0);
            assert_eq!(decode(&out[..len]), Ok(full));
        }
    }

    #[test]
    fn random_frames_with_aliases_never_panic_and_none_becomes_an_address_that_is_not_in_the_table() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut frame = [0u8; 12];
        let (mut known, mut unknown) = (0, 0);
        for _ in 0..500_000 {
            for byte in &mut frame {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }
            frame[2] |= 0x80;
            let len = (state >> 32) as usize % frame.len();
            match decode_with(&frame[..len], |number| (number < 100).then(|| TABLE[usize::from(number) % 3]))
            {
                Ok(message) => {
                    let read = [message.source, message.destination].into_iter().flatten();
                    for address in read.filter(|address| address.as_str().len() > 7) {
                        assert!(TABLE.contains(&address), "{address}");
                        known += 1;
                    }
                }
                Err(DecodeError::UnknownAlias(_)) => unknown += 1,
                Err(_) => {}
            }
        }
        assert!(known > 500 && unknown > 500, "{known} known and {unknown} unknown: the test shows little");
    }

    #[test]
    fn random_bytes_never_panic_and_what_decodes_encodes_to_the_same_bytes() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut frame = [0u8; 48];
        let mut again = [0u8; 96];
        let mut good = 0;
        for _ in 0..200_000 {
            for byte in &mut frame {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }
            let len = (state >> 32) as usize % frame.len();
            // Two small lengths at the front make a decodable frame likely enough to be worth the run.
            frame[3..5].copy_from_slice(&[0, 0]);
            if let Ok(message) = decode(&frame[..len]) {
                good += 1;
                // A notification that could be bare need not be; no two other forms mean the same.
                if !message.is_bare() || frame[1] & BARE != 0 {
                    let written = encode(&message, &mut again).unwrap();
                    assert_eq!(&again[..written], &frame[..len]);
                }
            }
        }
        assert!(good > 1_000, "only {good} decoded: the test would show nothing");
    }

    #[test]
    fn an_error_text_is_cut_to_the_room_there_is() {
        let mut out = [0; 12];
        let request = Message::request(7, Address::literal("a"));
        let len = encode_error(&request, &IpcError::Timeout("zu spät gekommen"), &mut out).unwrap();
        let message = decode(&out[..len]).unwrap();
        assert_eq!(message.id, 7);
        assert_eq!(IpcError::from_payload(message.payload.as_bytes()), IpcError::Timeout("zu sp"));
    }
}
