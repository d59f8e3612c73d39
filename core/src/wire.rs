//! Reading and writing the primitives of the wire: bytes, varints, length-prefixed runs. Knows no message.
//!
//! Varints are postcard's (LEB128, seven bits a byte, least first), and only the shortest form is accepted, so that
//! equal values have equal bytes wherever a tag or a comparison depends on it.

use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Takes primitives from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A varint of at most 64 bits, in its shortest form.
    // From its last byte to its first: shifts by a constant are no calls on a processor of 32 bits.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        // Most are lengths and small numbers.
        if let Some((&first @ ..0x80, rest)) = self.0.split_first() {
            self.0 = rest;
            return Some(first.into());
        }
        let len = self.0.iter().take(MAX_VARINT).position(|byte| *byte < 0x80)? + 1;
        let bytes = self.take(len)?;
        match bytes {
            [.., 0] => return None,
            [.., last] if len == MAX_VARINT && *last > 1 => return None,
            _ => {}
        }
        Some(bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
    }

    /// `N` varints, one after the other.
    pub(crate) fn varints<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut values = [0; N];
        for value in &mut values {
            *value = self.varint()?;
        }
        Some(values)
    }

    /// A varint that fits 32 bits.
    pub(crate) fn varint_u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    /// A varint that fits 16 bits.
    pub(crate) fn varint_u16(&mut self) -> Option<u16> {
        u16::try_from(self.varint()?).ok()
    }

    /// A name, an address or a scope behind its varint length; whether it is a good one is for the caller to see.
    pub(crate) fn ascii(&mut self) -> Option<&'a str> {
        ascii(self.run()?)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// So many bytes as an array has.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A run of bytes behind its varint length.
    pub(crate) fn run(&mut self) -> Option<&'a [u8]> {
        let len = self.varint_u32()?;
        self.take(len as usize)
    }

    /// The part of `earlier` that was taken since.
    pub(crate) fn since(self, earlier: Self) -> &'a [u8] {
        earlier.0.get(..earlier.0.len() - self.0.len()).unwrap_or_default()
    }

    /// Everything that is left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// `bytes` as text, if they are UTF-8.
#[cfg(feature = "std")]
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes).ok()
}

/// `bytes` as text, if they are ASCII: nothing else is in names and addresses, and that is known sooner than UTF-8.
pub(crate) fn ascii(bytes: &[u8]) -> Option<&str> {
    ascii::AsciiStr::from_ascii(bytes).ok().map(ascii::AsciiStr::as_str)
}

/// `bytes` as text, if they are UTF-8. Slower than `from_utf8` and smaller.
#[cfg(not(feature = "std"))]
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let Some(chunk) = bytes.utf8_chunks().next() else { return Some("") };
    chunk.invalid().is_empty().then_some(chunk.valid())
}

/// Bytes of the longest varint of 64 bits.
const MAX_VARINT: usize = 10;

/// Puts primitives into a slice; what does not fit makes the whole write fail at [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0, full: false }
    }

    /// As [`Writer::new`], but never past `max` bytes of `out`.
    pub(crate) fn with_limit(out: &'a mut [u8], max: usize) -> Self {
        let max = max.min(out.len());
        Self::new(out.get_mut(..max).unwrap_or_default())
    }

    /// What has been written so far.
    pub(crate) fn written(&self) -> &[u8] {
        self.out.get(..self.len).unwrap_or_default()
    }

    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.len..).and_then(|free| free.get_mut(..bytes.len())) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.full = true,
        }
    }

    pub(crate) fn u8(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    pub(crate) fn run(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes(bytes);
    }

    /// Writes another byte in place of the one at `at`.
    pub(crate) fn replace(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.out.get_mut(at) {
            *place = byte;
        }
    }

    /// As much of `text` as fits, up to a character's end.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn text_or_less(&mut self, text: &str) {
        let mut end = text.len().min(self.out.len().saturating_sub(self.len));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes(text.as_bytes().get(..end).unwrap_or_default());
    }

    /// A value as postcard has it.
    pub(crate) fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        // The only thing that can go wrong is a type that postcard has no form for.
        if postcard::serialize_with_flavor(value, &mut *self).is_err() {
            self.full = true;
        }
    }

    /// Bytes written, or `None` when something did not fit.
    pub(crate) const fn finish(self) -> Option<usize> {
        if self.full { None } else { Some(self.len) }
    }
}

impl Flavor for &mut Writer<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.bytes(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_only_in_their_shortest_form() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = [0; 10];
            let mut writer = Writer::new(&mut bytes);
            writer.varint(value);
            let len = writer.finish().unwrap();
            let mut reader = Reader::new(&bytes[..len]);
            assert_eq!(reader.varint(), Some(value));
            assert!(reader.rest().is_empty());
        }
        for over_long in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0xff; 10], &[0x80; 11], &[0x80]] {
            assert_eq!(Reader::new(over_long).varint(), None, "{over_long:02x?}");
        }
        let mut wide = [0xff; 10];
        wide[9] = 0x02;
        assert_eq!(Reader::new(&wide).varint(), None);
    }

    #[test]
    fn a_run_longer_than_the_rest_is_refused() {
        assert_eq!(Reader::new(&[5, 1, 2]).run(), None);
        assert_eq!(Reader::new(&[2, 1, 2]).run(), Some(&[1, 2][..]));
    }

    #[test]
    fn a_write_that_does_not_fit_fails_whole() {
        let mut out = [0; 3];
        let mut writer = Writer::new(&mut out);
        writer.bytes(&[1, 2]);
        writer.bytes(&[3, 4]);
        writer.u8(5);
        assert_eq!(writer.finish(), None);
    }
}
