//! Payloads that are shorter on the wire than they are: what the flag `compressed` says.
//!
//! Knows bytes only. A compressed payload is `kind (1) ‖ expanded length (varint) ‖ block`, the block as LZ4 has it (its
//! block format, not its frame format); the frame says Binary of it, because that is what it is for whoever cannot expand
//! it. Nothing is believed of it: the length that it announces is held against the limit, and against what so short a
//! block can expand to at most, before any memory is taken.
//!
//! # Not together with secrets
//! How short a payload gets tells of what is in it. Who can have text of his own put beside a secret and sees the length
//! of what is sent learns the secret piece by piece, however well it is sealed (CRIME, CVE-2012-4929, and BREACH). So the
//! client refuses to compress what it seals, unless the program says that it knows better.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use visorbus_core::message::{MessagePayload, PayloadKind};

use crate::owned::OwnedPayload;

/// The compressed form of `payload`; `None` when that is no shorter.
pub fn compress(payload: MessagePayload<'_>) -> Option<Vec<u8>> {
    let plain = payload.as_bytes();
    let len = u32::try_from(plain.len()).ok().filter(|len| *len >= WORTH_IT)?;
    let mut out = postcard::to_stdvec(&(payload.kind() as u8, len)).ok()?;
    let head = out.len();
    out.resize(head + get_maximum_output_size(plain.len()), 0);
    let block = compress_into(plain, out.get_mut(head..)?).ok()?;
    out.truncate(head + block);
    (out.len() < plain.len()).then_some(out)
}

/// What was compressed to `payload`, if that has at most `max` bytes.
///
/// # Errors
/// [`ExpandError`]; no more memory was taken than `max`.
pub fn expand(payload: MessagePayload<'_>, max: usize) -> Result<OwnedPayload, ExpandError> {
    let MessagePayload::Binary(bytes) = payload else { return Err(ExpandError::NotBinary) };
    let ((kind, len), block) =
        postcard::take_from_bytes::<(u8, u32)>(bytes).map_err(|_| ExpandError::Damaged)?;
    let kind = PayloadKind::from_code(kind).ok_or(ExpandError::Damaged)?;
    let len = len as usize;
    if len > max {
        return Err(ExpandError::TooLong { len, max });
    }
    if len > block.len().saturating_mul(MAX_RATIO) {
        return Err(ExpandError::Impossible { len, block: block.len() });
    }
    let mut plain = vec![0; len];
    if decompress_into(block, &mut plain).ok() != Some(len) {
        return Err(ExpandError::Damaged);
    }
    owned(kind, plain).ok_or(ExpandError::Damaged)
}

/// How many bytes a compressed payload says it expands to.
pub(crate) fn announced_len(payload: MessagePayload<'_>) -> Option<usize> {
    postcard::take_from_bytes::<(u8, u32)>(payload.as_bytes()).ok().map(|((_, len), _)| len as usize)
}

/// Why a compressed payload was not expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// The frame says that it is a text or nothing.
    #[error("a compressed payload is of kind Binary on the wire, whatever is in it")]
    NotBinary,
    /// It says that it expands to more than may be.
    #[error("the compressed payload expands to {len} bytes, at most {max} are taken here")]
    TooLong {
        /// Bytes that it says it expands to.
        len: usize,
        /// Bytes that it may expand to.
        max: usize,
    },
    /// It says that it expands to more than so short a block can.
    #[error("the compressed payload says that it expands to {len} bytes, which {block} bytes of LZ4 cannot")]
    Impossible {
        /// Bytes that it says it expands to.
        len: usize,
        /// Bytes of its block.
        block: usize,
    },
    /// It is cut off, no LZ4 block, of another length than it says, or of no kind.
    #[error("the compressed payload is damaged: cut off, of another length than it says, or not LZ4")]
    Damaged,
}

fn owned(kind: PayloadKind, bytes: Vec<u8>) -> Option<OwnedPayload> {
    let text = |bytes| String::from_utf8(bytes).ok();
    Some(match kind {
        PayloadKind::Empty if bytes.is_empty() => OwnedPayload::Empty,
        PayloadKind::Empty => return None,
        PayloadKind::String => OwnedPayload::String(text(bytes)?),
        PayloadKind::Binary => OwnedPayload::Binary(bytes),
        PayloadKind::Json => OwnedPayload::Json(text(bytes)?),
        PayloadKind::Toml => OwnedPayload::Toml(text(bytes)?),
    })
}

/// Below so many bytes nothing is won.
const WORTH_IT: u32 = 64;
/// A byte of an LZ4 block stands for at most so many: one more byte of a length adds 255.
const MAX_RATIO: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn json() -> String {
        format!("[{}]", vec!["{\"sensor\":\"imu\",\"rate\":200}"; 500].join(","))
    }

    fn announced(kind: u8, len: u32, block: &[u8]) -> Vec<u8> {
        [&postcard::to_stdvec(&(kind, len)).unwrap()[..], block].concat()
    }

    fn expanded(bytes: &[u8]) -> Result<OwnedPayload, ExpandError> {
        expand(MessagePayload::Binary(bytes), MAX)
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let text = json();
        for payload in [
            MessagePayload::String(&text),
            MessagePayload::Json(&text),
            MessagePayload::Toml(&text),
            MessagePayload::Binary(text.as_bytes()),
        ] {
            let short = compress(payload).unwrap();
            assert!(short.len() * 10 < text.len());
            assert_eq!(expanded(&short).unwrap().borrow(), payload);
        }
    }

    #[test]
    fn what_does_not_get_shorter_stays_as_it_is() {
        let mut state = 1u32;
        let mut step = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        let noise: Vec<u8> = std::iter::repeat_with(&mut step).take(4096).collect();
        for bytes in [&noise[..], b"", b"short", &[7; 63]] {
            assert_eq!(compress(MessagePayload::Binary(bytes)), None, "{} bytes", bytes.len());
        }
        assert_eq!(compress(MessagePayload::Empty), None);
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_announces() {
        let bomb = announced(2, u32::MAX, &[0xff; 1000]);
        assert_eq!(expanded(&bomb), Err(ExpandError::TooLong { len: u32::MAX as usize, max: MAX }));
        let bomb = announced(2, 1 << 20, &[0xff; 1000]);
        assert_eq!(expanded(&bomb), Err(ExpandError::Impossible { len: 1 << 20, block: 1000 }));
        assert_eq!(expanded(&announced(2, 256, &[0])), Err(ExpandError::Impossible { len: 256, block: 1 }));
    }

    #[test]
    fn the_best_that_lz4_can_do_is_not_taken_for_a_bomb() {
        let zeros = vec![0; MAX];
        let short = compress(MessagePayload::Binary(&zeros)).unwrap();
        assert!(short.len() < MAX / 250, "{} bytes", short.len());
        assert_eq!(expanded(&short), Ok(OwnedPayload::Binary(zeros)));
    }

    #[test]
    fn a_block_that_is_longer_or_shorter_than_it_says_is_damaged() {
        let text = json();
        let short = compress(MessagePayload::Json(&text)).unwrap();
        let block = &short[3..];
        for len in [0, 1, text.len() - 1, text.len() + 1, text.len() + 200] {
            let lie = announced(PayloadKind::Json as u8, len as u32, block);
            assert_eq!(expanded(&lie), Err(ExpandError::Damaged), "{len}");
        }
    }

    #[test]
    fn what_is_cut_off_or_reaches_back_before_its_start_is_damaged() {
        let text = json();
        let short = compress(MessagePayload::Json(&text)).unwrap();
        for len in 0..short.len() {
            assert!(expanded(&short[..len]).is_err(), "cut to {len}");
        }
        // One literal, then a match 9 bytes back, where there is only 1.
        let before = announced(2, 64, &[0x1f, b'a', 9, 0, 40, 0x10, b'b']);
        assert_eq!(expanded(&before), Err(ExpandError::Damaged));
        let at_zero = announced(2, 64, &[0x1f, b'a', 0, 0, 40, 0x10, b'b']);
        assert_eq!(expanded(&at_zero), Err(ExpandError::Damaged));
    }

    #[test]
    fn no_byte_of_it_can_do_harm() {
        let text = json();
        let short = compress(MessagePayload::Json(&text)).unwrap();
        for at in 0..short.len() {
            for value in [0, 1, 0x0f, 0x7f, 0x80, 0xf0, 0xff] {
                let mut other = short.clone();
                other[at] = value;
                // Whatever comes of it: it ends, within the limit.
                let len = expanded(&other).map_or(0, |payload| payload.borrow().as_bytes().len());
                assert!(len <= MAX);
            }
        }
    }

    #[test]
    fn a_kind_that_there_is_not_and_a_text_that_is_none_are_refused() {
        let bytes = vec![0xff; 200];
        let short = compress(MessagePayload::Binary(&bytes)).unwrap();
        for kind in [0, 1, 3, 4, 5, 0xff] {
            let mut lie = short.clone();
            lie[0] = kind;
            assert_eq!(expanded(&lie), Err(ExpandError::Damaged), "{kind}");
        }
        assert_eq!(expand(MessagePayload::String("x"), MAX), Err(ExpandError::NotBinary));
        assert_eq!(expand(MessagePayload::Empty, MAX), Err(ExpandError::NotBinary));
    }
}
