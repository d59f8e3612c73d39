//! Addresses and the patterns that select them. Text only: this file knows nothing of peers or routes.

use crate::limits::{MAX_ADDRESS, MAX_NAME};

/// A checked address: `component/path…`, 1 to 64 bytes of `[a-z0-9._-]` in segments joined by single `/`.
///
/// The first segment (at most 32 bytes) names a component; the rest names an operation or a topic of it.
/// `.` and `..` are refused as segments, so that no reader can mistake an address for a path to be climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address<'a>(&'a str);

impl<'a> Address<'a> {
    /// Checks `text` and wraps it.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with it.
    pub const fn new(text: &'a str) -> Result<Self, AddressError> {
        match check(text.as_bytes(), Of::Address) {
            Ok(()) => Ok(Self(text)),
            Err(error) => Err(error),
        }
    }

    /// Wraps an address that stands in the source text.
    ///
    /// # Panics
    /// When `text` is not an address; meant for constants, where that fails the build.
    pub const fn literal(text: &'a str) -> Self {
        match Self::new(text) {
            Ok(address) => address,
            Err(_) => panic!("not an address: use segments of [a-z0-9._-] joined by '/'"),
        }
    }

    /// The whole text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it is the same as `other`; as `==`, and in constants too.
    pub(crate) const fn is(self, other: Self) -> bool {
        let (one, other) = (self.0.as_bytes(), other.0.as_bytes());
        let mut at = 0;
        while at < one.len() && at < other.len() && one[at] == other[at] {
            at += 1;
        }
        at == one.len() && at == other.len()
    }

    /// The first segment: the component that the address belongs to.
    pub fn component(self) -> &'a str {
        self.0.get(..first_segment_len(self.0.as_bytes())).unwrap_or_default()
    }

    /// What follows the component, without the slash; empty for a bare component.
    pub fn path(self) -> &'a str {
        self.0.get(first_segment_len(self.0.as_bytes()) + 1..).unwrap_or_default()
    }
}

impl core::fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

/// An [`Address`] that owns its text, so that it need not be checked again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressBuf(heapless::String<MAX_ADDRESS, u8>);

impl AddressBuf {
    /// The address.
    pub fn as_address(&self) -> Address<'_> {
        Address(&self.0)
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Address<'_>> for AddressBuf {
    fn from(address: Address<'_>) -> Self {
        // An address is never longer than this holds.
        let mut text = heapless::String::new();
        let _ = text.push_str(address.as_str());
        Self(text)
    }
}

/// A pattern over addresses: an address in which a segment may be `*` (exactly one segment) and the last may be
/// `**` (any number of further segments, none included).
///
/// Matching goes segment by segment, case and all; `imu/*` matches `imu/sample` and neither `imu` nor `imu/a/b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pattern<'a>(&'a str);

impl<'a> Pattern<'a> {
    /// Checks `text` and wraps it.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with it.
    pub const fn new(text: &'a str) -> Result<Self, AddressError> {
        match check(text.as_bytes(), Of::Pattern) {
            Ok(()) => Ok(Self(text)),
            Err(error) => Err(error),
        }
    }

    /// The whole text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether `address` is one that this pattern selects.
    pub fn matches(self, address: Address<'_>) -> bool {
        self.covers(address.into())
    }

    /// Whether every address that `other` selects is also selected by this pattern.
    pub fn covers(self, other: Pattern<'_>) -> bool {
        let (mut wide, mut narrow) = (self.0.as_bytes(), other.0.as_bytes());
        loop {
            let (want, wide_rest) = split_segment(wide);
            if want == b"**" {
                return true;
            }
            let (have, narrow_rest) = split_segment(narrow);
            if have.is_empty() || have == b"**" || (want != b"*" && want != have) {
                return false;
            }
            if wide_rest.is_empty() || narrow_rest.is_empty() {
                return narrow_rest.is_empty() && (wide_rest.is_empty() || wide_rest == b"**");
            }
            (wide, narrow) = (wide_rest, narrow_rest);
        }
    }
}

impl<'a> From<Address<'a>> for Pattern<'a> {
    /// The pattern that selects this address alone: itself.
    fn from(address: Address<'a>) -> Self {
        Self(address.0)
    }
}

impl core::fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

/// A [`Pattern`] that owns its text, so that it need not be checked again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PatternBuf(heapless::String<MAX_ADDRESS, u8>);

impl PatternBuf {
    /// The pattern.
    pub fn as_pattern(&self) -> Pattern<'_> {
        Pattern(&self.0)
    }
}

impl From<Pattern<'_>> for PatternBuf {
    fn from(pattern: Pattern<'_>) -> Self {
        // A pattern is never longer than this holds.
        let mut text = heapless::String::new();
        let _ = text.push_str(pattern.as_str());
        Self(text)
    }
}

/// Why a text is not an address or not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is nothing in it.
    #[error("an address must not be empty")]
    Empty,
    /// Longer than 64 bytes, or its first segment longer than 32.
    #[error("an address has at most 64 bytes, its first segment at most 32")]
    TooLong,
    /// A byte outside `[a-z0-9._-]` and `/`; a `*` that is not a whole segment; a `**` that is not the last.
    #[error(
        "an address has only a-z, 0-9, '.', '_', '-' and '/'; a pattern also '*' and a last '**', as whole segments"
    )]
    BadByte,
    /// An empty segment, `.` or `..`.
    #[error("an address has no empty segment, no '.' and no '..'")]
    BadSegment,
}

/// Whether `text` can name a component: one segment of an address, at most 32 bytes.
pub fn is_name(text: &str) -> bool {
    check(text.as_bytes(), Of::Name).is_ok()
}

/// The first segment and what follows its slash. On bytes: the slices of a text are looked at for split characters.
fn split_segment(text: &[u8]) -> (&[u8], &[u8]) {
    let (segment, rest) = text.split_at_checked(first_segment_len(text)).unwrap_or_default();
    (segment, rest.split_first().map_or(rest, |(_, rest)| rest))
}

fn first_segment_len(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'/').unwrap_or(text.len())
}

/// One pass over the bytes: lengths, alphabet, segments.
const fn check(bytes: &[u8], of: Of) -> Result<(), AddressError> {
    if bytes.is_empty() {
        return Err(AddressError::Empty);
    }
    if bytes.len() > MAX_ADDRESS {
        return Err(AddressError::TooLong);
    }
    let mut segment = Segment { start: 0, dots: 0, stars: 0 };
    let mut at = 0;
    while at < bytes.len() {
        // Most bytes are letters.
        if !bytes[at].is_ascii_lowercase() {
            match bytes[at] {
                b'0'..=b'9' | b'_' | b'-' => {}
                b'.' => segment.dots += 1,
                b'*' if matches!(of, Of::Pattern) => segment.stars += 1,
                b'/' if !matches!(of, Of::Name) => {
                    if let Err(error) = segment.check(at, false) {
                        return Err(error);
                    }
                    segment = Segment { start: at + 1, dots: 0, stars: 0 };
                }
                _ => return Err(AddressError::BadByte),
            }
        }
        at += 1;
    }
    segment.check(at, true)
}

/// What a text is to be.
#[derive(Clone, Copy)]
enum Of {
    /// A name: the one segment of an address.
    Name,
    Address,
    Pattern,
}

/// Where a segment begins and what was counted in it.
struct Segment {
    start: usize,
    dots: usize,
    stars: usize,
}

impl Segment {
    const fn check(&self, end: usize, last: bool) -> Result<(), AddressError> {
        let len = end - self.start;
        if len == 0 || (self.dots == len && len <= 2) {
            return Err(AddressError::BadSegment);
        }
        if self.start == 0 && len > MAX_NAME {
            return Err(AddressError::TooLong);
        }
        let whole = self.stars == len && (len == 1 || (len == 2 && last));
        if self.stars == 0 || whole { Ok(()) } else { Err(AddressError::BadByte) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, address: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(Address::new(address).unwrap())
    }

    #[test]
    fn an_address_splits_into_component_and_path() {
        let address = Address::new("imu/set-rate").unwrap();
        assert_eq!((address.component(), address.path()), ("imu", "set-rate"));
        assert_eq!(Address::new("imu").unwrap().path(), "");
    }

    #[test]
    fn what_is_not_an_address_is_refused_by_reason() {
        for (text, error) in [
            ("", AddressError::Empty),
            ("imu//a", AddressError::BadSegment),
            ("/imu", AddressError::BadSegment),
            ("imu/", AddressError::BadSegment),
            ("imu/../bus", AddressError::BadSegment),
            (".", AddressError::BadSegment),
            ("Imu", AddressError::BadByte),
            ("imu/*", AddressError::BadByte),
            ("imu/ä", AddressError::BadByte),
            ("imu\0", AddressError::BadByte),
            ("a23456789012345678901234567890123/b", AddressError::TooLong),
        ] {
            assert_eq!(Address::new(text), Err(error), "{text:?}");
        }
        assert_eq!(Address::new(core::str::from_utf8(&[b'a'; 65]).unwrap()), Err(AddressError::TooLong));
    }

    #[test]
    fn stars_in_patterns_are_whole_segments_and_the_double_one_is_last() {
        for text in ["imu/*", "*/sample", "**", "imu/**", "*", "*/*/**"] {
            assert!(Pattern::new(text).is_ok(), "{text}");
        }
        for text in ["imu*", "im*/a", "**/a", "imu/***", "imu/a*", ""] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_star_is_one_segment_and_two_are_the_rest() {
        assert!(matches("imu/*", "imu/sample"));
        assert!(!matches("imu/*", "imu"));
        assert!(!matches("imu/*", "imu/a/b"));
        assert!(matches("imu/**", "imu"));
        assert!(matches("imu/**", "imu/a/b"));
        assert!(!matches("imu/**", "imu2/a"));
        assert!(matches("**", "a/b/c"));
        assert!(matches("*/sample", "imu/sample"));
        assert!(!matches("*/sample", "imu/samples"));
        assert!(!matches("config/*", "config/a/b"));
    }

    #[test]
    fn covers_is_true_only_when_nothing_more_is_selected() {
        let covers = |a, b| Pattern::new(a).unwrap().covers(Pattern::new(b).unwrap());
        assert!(covers("**", "imu/*"));
        assert!(covers("imu/**", "imu/*"));
        assert!(covers("imu/*", "imu/a"));
        assert!(covers("imu/**", "imu"));
        assert!(!covers("imu/*", "imu/**"));
        assert!(!covers("imu/a", "imu/*"));
        assert!(!covers("imu/*", "**"));
        assert!(!covers("imu/*", "imu"));
    }
}
