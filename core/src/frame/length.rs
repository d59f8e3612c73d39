//! Frames on a reliable byte stream: `length (u32, little endian) ‖ frame`, wire version 1.
//!
//! The stream itself neither loses nor garbles, so there is no checksum and no way to resynchronise: a length that
//! cannot be is a fault of the other end's program, and the only answer is to close the stream.

/// Bytes of the length before each frame.
pub const PREFIX_LEN: usize = 4;

/// What the first bytes of a stream hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole frame.
    Frame {
        /// The frame, without its length; never empty.
        frame: &'a [u8],
        /// Bytes to drop from the front of the stream once the frame is dealt with: the frame and its length.
        consumed: usize,
    },
    /// Not yet a whole frame.
    Incomplete {
        /// Bytes the front of the stream must hold, counted from its start, before asking again makes sense: the
        /// length alone while that is cut off, else the frame and its length.
        needed: usize,
    },
}

/// A length that no frame of this link can have: the stream is beyond repair, close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LengthError {
    /// The announced frame is longer than the link takes.
    #[error("a frame of {len} bytes was announced, this link takes at most {max}")]
    FrameTooLong {
        /// Bytes announced.
        len: u32,
        /// Bytes of the longest frame the caller takes.
        max: usize,
    },
    /// The announced frame has no bytes; a frame has at least one.
    #[error("a frame of 0 bytes was announced")]
    FrameEmpty,
}

/// Looks for one frame of at most `max` bytes at the front of `bytes`.
///
/// The length is judged as soon as its four bytes are there, so a caller never has to hold more than `max` and
/// [`PREFIX_LEN`] bytes.
///
/// # Errors
/// The length is 0 or larger than `max`.
pub fn split(bytes: &[u8], max: usize) -> Result<Split<'_>, LengthError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_LEN>() else {
        return Ok(Split::Incomplete { needed: PREFIX_LEN });
    };
    let len = u32::from_le_bytes(*prefix);
    if len == 0 {
        return Err(LengthError::FrameEmpty);
    }
    let whole = usize::try_from(len).ok().filter(|whole| *whole <= max);
    let whole = whole.ok_or(LengthError::FrameTooLong { len, max })?;
    let consumed = whole.saturating_add(PREFIX_LEN);
    Ok(match rest.get(..whole) {
        Some(frame) => Split::Frame { frame, consumed },
        None => Split::Incomplete { needed: consumed },
    })
}

/// The bytes to write before a frame of `len` bytes.
///
/// A length past `u32` is written as `u32::MAX`; a sender checks against its link's longest frame first.
pub const fn prefix(len: usize) -> [u8; PREFIX_LEN] {
    let len = if len > u32::MAX as usize { u32::MAX } else { len as u32 };
    len.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = &[3, 0, 0, 0, b'a', b'b', b'c', 1, 0, 0, 0, b'd'];

    #[test]
    fn frames_come_out_one_after_another() {
        let first = split(STREAM, 16).unwrap();
        assert_eq!(first, Split::Frame { frame: b"abc", consumed: 7 });
        assert_eq!(split(&STREAM[7..], 16).unwrap(), Split::Frame { frame: b"d", consumed: 5 });
        assert_eq!(split(&[], 16).unwrap(), Split::Incomplete { needed: 4 });
    }

    #[test]
    fn a_cut_off_stream_says_how_many_bytes_it_needs() {
        for cut in 0..4 {
            assert_eq!(split(&STREAM[..cut], 16).unwrap(), Split::Incomplete { needed: 4 });
        }
        for cut in 4..7 {
            assert_eq!(split(&STREAM[..cut], 16).unwrap(), Split::Incomplete { needed: 7 });
        }
    }

    #[test]
    fn a_length_past_the_limit_is_refused_before_its_frame_arrives() {
        assert!(split(&prefix(16), 16).is_ok());
        assert_eq!(split(&prefix(17), 16), Err(LengthError::FrameTooLong { len: 17, max: 16 }));
        let huge = LengthError::FrameTooLong { len: u32::MAX, max: 16 };
        assert_eq!(split(&[0xFF; 64], 16), Err(huge));
    }

    #[test]
    fn the_longest_length_does_not_overflow() {
        assert!(matches!(split(&[0xFF; 4], usize::MAX), Ok(Split::Incomplete { .. })));
    }

    #[test]
    fn an_empty_frame_is_refused() {
        assert_eq!(split(&[0; 8], 16), Err(LengthError::FrameEmpty));
    }

    #[test]
    fn a_prefix_is_four_bytes_little_endian() {
        assert_eq!(prefix(0x0102_0304), [4, 3, 2, 1]);
    }
}
