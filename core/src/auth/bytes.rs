//! Reading and writing a token's parts in postcard's layout, shortest form only. Knows no meaning of any of them.

/// A cursor over bytes from outside; each method takes from the front, or answers `None` and the token is refused.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A varint of at most 64 bits in its shortest form: its last byte is zero only when it is the only one.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return (byte != 0 || shift == 0).then_some(value);
            }
            shift += 7;
        }
    }

    /// A length or count below 128: one byte, which is its varint.
    pub(super) fn short(&mut self) -> Option<usize> {
        self.byte().filter(|len| *len < 0x80).map(usize::from)
    }

    /// A string with its length before it.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = self.short()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        core::str::from_utf8(text).ok()
    }

    /// The part of `earlier` that was taken since.
    pub(super) fn since(self, earlier: Self) -> &'a [u8] {
        earlier.0.get(..earlier.0.len() - self.0.len()).unwrap_or(&[])
    }
}

/// Fills a caller's buffer from the front; each method answers `None` when the rest does not fit.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes into `out`, and never past `max` bytes of it.
    pub(super) fn new(out: &'a mut [u8], max: usize) -> Self {
        let max = max.min(out.len());
        Self { out: out.get_mut(..max).unwrap_or_default(), len: 0 }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    pub(super) fn varint(&mut self, mut value: u64) -> Option<()> {
        while value >= 0x80 {
            self.bytes(&[value as u8 | 0x80])?;
            value >>= 7;
        }
        self.bytes(&[value as u8])
    }

    /// A length or count; `None` when it is not below 128.
    pub(super) fn short(&mut self, len: usize) -> Option<()> {
        if len < 0x80 { self.bytes(&[len as u8]) } else { None }
    }

    pub(super) fn text(&mut self, text: &str) -> Option<()> {
        self.short(text.len())?;
        self.bytes(text.as_bytes())
    }

    pub(super) fn written(&self) -> &[u8] {
        self.out.get(..self.len).unwrap_or(&[])
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
