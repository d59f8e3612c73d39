//! Bytes that go in behind and out in front, and records among them: a length of two bytes, then so many.

use core::cell::Cell;

/// A queue of bytes in one piece of memory, in order and without a gap.
#[derive(Debug)]
pub(super) struct Bytes<const N: usize> {
    buffer: [u8; N],
    start: usize,
    end: usize,
}

impl<const N: usize> Bytes<N> {
    pub(super) const fn new() -> Self {
        Self { buffer: [0; N], start: 0, end: 0 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) const fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that it still takes.
    pub(super) const fn room(&self) -> usize {
        N - self.len()
    }

    /// Takes as many of `bytes` as there is room for; says how many.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let count = self.put_ahead(0, bytes);
        self.end += count;
        count
    }

    /// Puts bytes down where they belong, `gap` bytes behind the last; they are not in before [`Bytes::grow`]. Says how
    /// many of them there was room for.
    #[inline(never)]
    pub(super) fn put_ahead(&mut self, gap: usize, bytes: &[u8]) -> usize {
        if N - self.end < gap + bytes.len() {
            self.move_to_front();
        }
        let to = self.buffer.get_mut(self.end + gap..);
        copy_front(to.unwrap_or_default(), bytes)
    }

    /// Takes in `count` bytes that were put down ahead.
    pub(super) fn grow(&mut self, count: usize) {
        self.end = N.min(self.end + count);
    }

    /// Takes a whole record, or nothing of it: `false` when there is no room.
    pub(super) fn push_record(&mut self, record: &[u8]) -> bool {
        let Ok(len) = u16::try_from(record.len()) else { return false };
        if record.len() + PREFIX > self.room() {
            return false;
        }
        self.push(&len.to_le_bytes());
        self.push(record);
        true
    }

    /// The first record, if it is there whole.
    pub(super) fn record(&self) -> Option<&[u8]> {
        record_in(self.as_slice())
    }

    /// Bytes that the first record says it has, if so much of it is there.
    pub(super) fn record_len(&self) -> Option<usize> {
        prefix_in(self.as_slice())
    }

    pub(super) fn drop_record(&mut self) {
        if let Some(record) = self.record() {
            self.drop_front(PREFIX + record.len());
        }
    }

    pub(super) fn drop_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Drops the first record of which `is` says so.
    pub(super) fn drop_first(&mut self, is: impl Fn(&[u8]) -> bool) {
        let mut at = self.start;
        while let Some(record) = self.buffer.get(at..self.end).and_then(record_in) {
            let next = at + PREFIX + record.len();
            if is(record) {
                move_forward(self.buffer.get_mut(at..).unwrap_or_default(), next - at);
                self.end -= next - at;
                return;
            }
            at = next;
        }
    }

    pub(super) const fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// All of it, what lies ahead of the last byte too.
    fn move_to_front(&mut self) {
        move_forward(&mut self.buffer, self.start);
        self.end -= self.start;
        self.start = 0;
    }
}

/// Copies as many of `from` as `to` has room for; says how many.
#[inline(never)]
pub(super) fn copy_front(to: &mut [u8], from: &[u8]) -> usize {
    let count = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

/// Moves everything `by` bytes to the front.
// One by one: the routine that a compiler calls for `copy_within` is 1.5 kB of flash where a board has no shorter one.
#[inline(never)]
fn move_forward(bytes: &mut [u8], by: usize) {
    let bytes = Cell::from_mut(bytes).as_slice_of_cells();
    for (to, from) in bytes.iter().zip(bytes.get(by..).unwrap_or_default()) {
        to.set(from.get());
    }
}

fn prefix_in(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [low, high, ..] => Some(usize::from(u16::from_le_bytes([*low, *high]))),
        _ => None,
    }
}

fn record_in(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(PREFIX..PREFIX + prefix_in(bytes)?)
}

/// Bytes before each record.
pub(super) const PREFIX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in_however_often_the_memory_is_reused() {
        let mut bytes = Bytes::<16>::new();
        for round in 0..50_u8 {
            assert!(bytes.push_record(&[round; 5]));
            assert!(bytes.push_record(&[round + 1; 3]));
            assert!(!bytes.push_record(&[0; 3]), "4 bytes are left, 5 are needed");
            assert_eq!(bytes.record(), Some(&[round; 5][..]));
            bytes.drop_record();
            assert_eq!(bytes.record(), Some(&[round + 1; 3][..]));
            bytes.drop_record();
            assert_eq!((bytes.record(), bytes.is_empty()), (None, true));
        }
    }

    #[test]
    fn a_record_goes_from_the_middle() {
        let mut bytes = Bytes::<32>::new();
        for byte in 1..=3 {
            assert!(bytes.push_record(&[byte; 4]));
        }
        bytes.drop_first(|record| record == [2; 4]);
        bytes.drop_first(|record| record == [9; 4]);
        assert_eq!(bytes.record(), Some(&[1; 4][..]));
        bytes.drop_record();
        assert_eq!(bytes.record(), Some(&[3; 4][..]));
        bytes.drop_record();
        assert_eq!(bytes.record(), None);
    }

    #[test]
    fn a_record_that_is_not_whole_is_not_shown() {
        let mut bytes = Bytes::<8>::new();
        assert_eq!(bytes.push(&[3]), 1);
        assert_eq!((bytes.record_len(), bytes.record()), (None, None));
        assert_eq!(bytes.push(&[0, 7, 7]), 3);
        assert_eq!((bytes.record_len(), bytes.record()), (Some(3), None));
        assert_eq!(bytes.push(&[7, 9, 9, 9, 9]), 4, "what fits");
        assert_eq!(bytes.record(), Some(&[7; 3][..]));
    }
}
