//! One direction each way of a stream: bytes that are sent until they are acknowledged, bytes that come in order.
//!
//! Bytes have offsets, not frames: what is sent again may be cut into other pieces than at first. Only what was lost is
//! sent again: what comes behind a gap is kept where it belongs, in the memory that is free anyway.

use visorbus_core::limits::MAX_LINE_FRAME;

use super::bytes::{Bytes, PREFIX};
use super::count;
use super::header::Heard;

/// Both directions of one stream.
// In this order: short instructions reach what is near the front.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Stream<const N: usize> {
    /// How often the other end is to be told of what came.
    pub(super) acks_due: u8,
    /// And is to answer to that.
    pub(super) asks: bool,
    told_room: u8,
    /// Offset of the first byte of `out`.
    acked: u16,
    /// Bytes of it that the other end has room for.
    allowed: u16,
    /// Offset of the next byte that is to come.
    received: u16,
    /// Bytes of a message that is too long which are still to be passed over.
    skip: usize,
    /// Bytes behind the next that have come before it.
    islands: [Range; ISLANDS],
    /// Bytes of `out` that are on their way or have come; what no flight covers is to be sent.
    flights: [Flight; FLIGHTS],
    /// What is not acknowledged yet.
    out: Bytes<N>,
    /// What has come and was not taken.
    input: Bytes<N>,
}

/// What an end says of the bytes that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    /// Offset of the next byte that it expects.
    pub(super) offset: u16,
    /// Bytes that may come from there on, in units of [`ROOM_UNIT`].
    pub(super) room: u8,
}

/// What came of the word on some frames.
#[derive(Debug)]
pub(super) struct Progress {
    /// Something new has arrived.
    pub(super) arrived: bool,
    /// Something is lost, and goes again.
    pub(super) lost: bool,
}

impl<const N: usize> Stream<N> {
    /// All zeros, which is little code: [`Stream::clear`] comes before anything else.
    pub(super) const fn new() -> Self {
        Self {
            out: Bytes::new(),
            acked: 0,
            allowed: 0,
            flights: [Flight::NONE; FLIGHTS],
            input: Bytes::new(),
            received: 0,
            islands: [Range::NONE; ISLANDS],
            skip: 0,
            told_room: 0,
            acks_due: 0,
            asks: false,
        }
    }

    /// As new, but ready.
    pub(super) const fn clear(&mut self) {
        *self = const { Self::new() };
        self.allowed = MAX_LINE_FRAME as u16;
    }

    /// Bytes of the longest message that [`Stream::send`] takes now.
    pub(super) const fn room(&self) -> usize {
        self.out.room().saturating_sub(PREFIX)
    }

    pub(super) fn send(&mut self, message: &[u8]) -> bool {
        self.out.push_record(message)
    }

    /// The next bytes to send, at most `chunk`, counted from the first that is not acknowledged; none when it is full of
    /// flights too.
    #[inline(never)]
    pub(super) fn segment(&self, chunk: u16) -> Range {
        // Most of the time there is nothing, which is to cost nothing.
        if self.out.is_empty() || self.flights.iter().all(|flight| flight.range.is_some()) {
            return Range::NONE;
        }
        let mut start = 0;
        while let Some(flight) = self.flights.iter().find(|flight| flight.range.holds(start)) {
            start = flight.range.end;
        }
        let mut end = (self.out.len() as u16).min(start + chunk);
        for flight in &self.flights {
            if flight.range.start > start {
                end = end.min(flight.range.start);
            }
        }
        if end > self.allowed {
            // Rather wait for the next word on the room than send crumbs.
            end = if start == 0 { self.allowed } else { 0 };
        }
        Range { start, end }
    }

    /// The bytes of a [`Stream::segment`], and the offset of the first.
    pub(super) fn bytes(&self, range: Range) -> (u16, &[u8]) {
        let bytes = self.out.as_slice().get(usize::from(range.start)..usize::from(range.end));
        (self.acked.wrapping_add(range.start), bytes.unwrap_or_default())
    }

    /// The bytes of a [`Stream::segment`] are on their way, as frame `packet`.
    pub(super) fn handle_sent(&mut self, range: Range, packet: u8) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| !flight.range.is_some()) {
            *flight = Flight { range, packet, has_come: false };
        }
    }

    /// Whether something waits that the other end has no room for.
    pub(super) const fn is_shut(&self) -> bool {
        self.allowed == 0 && self.waits()
    }

    /// Whether something is not acknowledged.
    pub(super) const fn waits(&self) -> bool {
        !self.out.is_empty()
    }

    /// Takes the other end's word on this stream; `true` when something new has arrived.
    pub(super) fn handle_ack(&mut self, ack: Ack) -> bool {
        let newly = ack.offset.wrapping_sub(self.acked);
        // Otherwise it is older than what is known.
        let fits = usize::from(newly) <= self.out.len();
        if fits {
            self.advance(newly);
            self.allowed = u16::from(ack.room) * ROOM_UNIT as u16;
        }
        fits && newly > 0
    }

    /// Takes the other end's word on the frames of both streams.
    pub(super) fn handle_heard(&mut self, heard: Heard, progress: &mut Progress) {
        for flight in self.flights.iter_mut().filter(|flight| flight.waits()) {
            match heard.has_come(flight.packet) {
                Some(true) => (flight.has_come, progress.arrived) = (true, true),
                Some(false) => (*flight, progress.lost) = (Flight::NONE, true),
                None => {}
            }
        }
        while let Some(flight) = self.flights.iter().find(|flight| flight.has_come && flight.range.holds(0)) {
            self.advance(flight.range.end);
        }
    }

    /// No word came in time: the first that is on its way goes again, which `true` says, and the other end is asked.
    #[inline(never)]
    pub(super) fn handle_timeout(&mut self) -> bool {
        if !self.waits() {
            return false;
        }
        // The word that there is room again may have been lost, or this end may have no number left for a frame.
        (self.acks_due, self.asks) = (self.acks_due.max(1), true);
        let mut first: Option<&mut Flight> = None;
        for flight in &mut self.flights {
            if flight.waits() && first.as_ref().is_none_or(|first| flight.range.start < first.range.start) {
                first = Some(flight);
            }
        }
        first.map(|first| *first = Flight::NONE).is_some()
    }

    /// Takes bytes that came; `false` when they are to come again.
    #[inline(never)]
    pub(super) fn handle_bytes(&mut self, offset: u16, bytes: &[u8]) -> bool {
        let ahead = offset.wrapping_sub(self.received) as i16;
        let gap = ahead.max(0) as u16;
        let Some(new) = bytes.get(usize::from(ahead.min(0).unsigned_abs())..) else { return true };
        let mut count = self.input.put_ahead(gap.into(), new) as u16;
        let all = usize::from(count) == new.len();
        if gap > 0 {
            return self.keep(Range { start: gap, end: gap + count }) && all;
        }
        loop {
            self.input.grow(count.into());
            self.received = self.received.wrapping_add(count);
            for island in &mut self.islands {
                island.shift(count);
            }
            match self.islands.iter().find(|island| island.holds(0)) {
                Some(island) => count = island.end,
                None => return all,
            }
        }
    }

    /// What the other end is told next.
    pub(super) fn take_ack(&mut self) -> Ack {
        (self.acks_due, self.asks) = (self.acks_due.saturating_sub(1), false);
        // Any room at all is told, so that a message that needs the last byte gets it.
        let room = self.input.room();
        self.told_room = (room / ROOM_UNIT).clamp(room.min(1), 255) as u8;
        Ack { offset: self.received, room: self.told_room }
    }

    /// Passes over messages that are none, or too long for this end; counts them.
    #[inline(never)]
    pub(super) fn skip_unfit(&mut self, counter: &mut u32) {
        loop {
            let passed = self.skip.min(self.input.len());
            self.input.drop_front(passed);
            self.skip -= passed;
            match self.input.record_len() {
                Some(len) if self.skip == 0 && (len == 0 || len + PREFIX > N) => {
                    self.skip = len + PREFIX;
                    count(counter);
                }
                _ => return,
            }
        }
    }

    /// The first message, if it is whole.
    pub(super) fn message(&self) -> Option<&[u8]> {
        if self.skip == 0 { self.input.record() } else { None }
    }

    pub(super) fn drop_message(&mut self) {
        self.input.drop_record();
        self.acks_due = self.acks_due.max(u8::from(self.told_room < LITTLE_ROOM));
    }

    /// The first `count` bytes of what goes out have come.
    fn advance(&mut self, count: u16) {
        self.out.drop_front(usize::from(count));
        self.acked = self.acked.wrapping_add(count);
        self.allowed = self.allowed.saturating_sub(count);
        for flight in &mut self.flights {
            flight.range.shift(count);
        }
    }

    /// Takes note of bytes that came before others; `false` when there are too many pieces of such.
    fn keep(&mut self, range: Range) -> bool {
        let island = self.islands.iter_mut().find(|island| island.touches(range));
        island.map(|island| *island = if island.is_some() { island.with(range) } else { range }).is_some()
    }
}

/// Bytes from `start` to before `end`; none when they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u16,
    pub(super) end: u16,
}

impl Range {
    pub(super) const NONE: Self = Self { start: 0, end: 0 };

    pub(super) const fn is_some(self) -> bool {
        self.start < self.end
    }

    const fn holds(self, at: u16) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether the two together have no gap, or this is none.
    const fn touches(self, other: Self) -> bool {
        !self.is_some() || (self.start <= other.end && other.start <= self.end)
    }

    fn with(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Counts from `count` bytes further on.
    const fn shift(&mut self, count: u16) {
        self.start = self.start.saturating_sub(count);
        self.end = self.end.saturating_sub(count);
    }
}

/// A frame on its way, or one that has come before others.
#[derive(Debug, Clone, Copy)]
struct Flight {
    range: Range,
    packet: u8,
    has_come: bool,
}

impl Flight {
    const NONE: Self = Self { range: Range::NONE, packet: 0, has_come: false };

    /// Whether it is on its way.
    const fn waits(&self) -> bool {
        self.range.is_some() && !self.has_come
    }
}

/// Frames of one stream that may be on their way at once.
const FLIGHTS: usize = 12;
/// Pieces that one stream keeps while others before them are missing.
const ISLANDS: usize = 4;
/// What [`Ack::room`] counts in, in bytes.
const ROOM_UNIT: usize = 16;
/// An end that was told of no more room than this is told when there is more: a line frame.
const LITTLE_ROOM: u8 = (MAX_LINE_FRAME / ROOM_UNIT) as u8;
