//! One direction each way of a stream: bytes that are sent until they are acknowledged, bytes that come in order.
//!
//! Bytes have offsets, not frames: what is sent again may be cut into other pieces than at first. What comes behind a
//! gap is dropped (go-back-N), which costs no memory. Nothing overtakes on a line, so that a frame is known to be lost
//! as soon as a later one has been heard.

use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::time::Instant;

use super::bytes::{Bytes, PREFIX};

/// Both directions of one stream.
#[derive(Debug)]
pub(super) struct Stream<const N: usize> {
    /// What is not acknowledged yet: first what is on its way, then what was not sent.
    out: Bytes<N>,
    /// Offset of its first byte.
    acked: u16,
    /// Bytes of it that are on their way.
    in_flight: u16,
    /// Bytes of it that have ever been on their way.
    sent: u16,
    /// Bytes of it that the other end has room for.
    allowed: u16,
    flights: Flights,
    /// When what is on its way counts as lost, or a closed window is tried.
    overdue_at: Instant,

    /// What has come and was not taken.
    input: Bytes<N>,
    /// Offset of the next byte that is to come.
    received: u16,
    /// Bytes of a message that is too long which are still to be passed over.
    skip: usize,
    told_room: u8,
    pub(super) ack_due: bool,
}

/// What an end says of the bytes that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    /// Offset of the next byte that it expects.
    pub(super) offset: u16,
    /// Bytes that may come from there on, in units of [`ROOM_UNIT`].
    pub(super) room: u8,
}

/// What came of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acked {
    Nothing,
    /// Something new has arrived.
    Some,
    /// What was on its way is lost, and goes again.
    Lost,
}

impl<const N: usize> Stream<N> {
    pub(super) const fn new() -> Self {
        Self {
            out: Bytes::new(),
            acked: 0,
            in_flight: 0,
            sent: 0,
            allowed: MAX_LINE_FRAME as u16,
            flights: Flights::NONE,
            overdue_at: NEVER,
            input: Bytes::new(),
            received: 0,
            skip: 0,
            told_room: 0,
            ack_due: false,
        }
    }

    /// As new, without a copy of the whole on the stack.
    pub(super) const fn clear(&mut self) {
        self.out.clear();
        self.input.clear();
        self.flights = Flights::NONE;
        (self.acked, self.in_flight, self.sent, self.received) = (0, 0, 0, 0);
        self.allowed = MAX_LINE_FRAME as u16;
        (self.skip, self.told_room) = (0, 0);
        self.overdue_at = NEVER;
        self.ack_due = false;
    }

    /// Bytes of the longest message that [`Stream::send`] takes now.
    pub(super) const fn room(&self) -> usize {
        self.out.room().saturating_sub(PREFIX)
    }

    pub(super) fn send(&mut self, message: &[u8]) -> bool {
        self.out.push_record(message)
    }

    /// The next bytes to send, at most `chunk`, and their offset.
    pub(super) fn segment(&self, chunk: usize) -> Option<(u16, &[u8])> {
        let unsent = self.out.as_slice().get(usize::from(self.in_flight)..)?;
        let wanted = unsent.len().min(chunk);
        let allowed = usize::from(self.allowed.saturating_sub(self.in_flight));
        // Rather wait for the next word on the room than send crumbs.
        if wanted == 0 || self.flights.is_full() || (allowed < wanted && (allowed == 0 || self.in_flight > 0))
        {
            return None;
        }
        Some((self.acked.wrapping_add(self.in_flight), unsent.get(..wanted.min(allowed))?))
    }

    /// The first `count` bytes of [`Stream::segment`] are on their way, as frame `packet`.
    pub(super) fn handle_sent(&mut self, count: usize, packet: u8, overdue_at: Instant) {
        self.in_flight += count as u16;
        self.sent = self.sent.max(self.in_flight);
        self.flights.push(Flight { end: self.acked.wrapping_add(self.in_flight), packet });
        self.overdue_at = self.overdue_at.min(overdue_at);
    }

    /// Whether something waits that the other end has no room for; it is then tried again at `overdue_at`.
    pub(super) fn handle_closed_window(&mut self, overdue_at: Instant) {
        if self.allowed == 0 && !self.out.is_empty() {
            self.overdue_at = self.overdue_at.min(overdue_at);
        }
    }

    pub(super) fn handle_ack(&mut self, ack: Ack, heard: u8, overdue_at: Instant) -> Acked {
        let newly = ack.offset.wrapping_sub(self.acked);
        if newly > self.sent {
            return Acked::Nothing; // Older than what is known.
        }
        self.allowed = u16::from(ack.room) * ROOM_UNIT as u16;
        if newly > 0 {
            self.out.drop_front(usize::from(newly));
            self.acked = ack.offset;
            self.sent -= newly;
            self.in_flight = self.in_flight.saturating_sub(newly);
            self.flights.drop_until(ack.offset);
            self.overdue_at = if self.in_flight > 0 { overdue_at } else { NEVER };
        }
        match self.flights.first() {
            Some(first) if (heard.wrapping_sub(first.packet) as i8) >= 0 => {
                self.go_back();
                Acked::Lost
            }
            _ if newly > 0 => Acked::Some,
            _ => Acked::Nothing,
        }
    }

    /// `true` when what was on its way goes again, because no word on it came in time.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let overdue = self.overdue_at <= now;
        if overdue {
            self.go_back();
            // The word that there is room again may have been lost.
            self.allowed = self.allowed.max(ROOM_UNIT as u16);
        }
        overdue
    }

    pub(super) const fn overdue_at(&self) -> Instant {
        self.overdue_at
    }

    pub(super) fn handle_bytes(&mut self, offset: u16, bytes: &[u8]) {
        self.ack_due = true;
        let known = usize::from(self.received.wrapping_sub(offset));
        // Behind a gap, more is "known" than there are bytes.
        if let Some(new) = bytes.get(known..) {
            let count = self.input.push(new);
            self.received = self.received.wrapping_add(count as u16);
        }
    }

    /// What the other end is told next.
    pub(super) fn take_ack(&mut self) -> Ack {
        self.ack_due = false;
        self.told_room = self.input.room().div_ceil(ROOM_UNIT).min(255) as u8;
        Ack { offset: self.received, room: self.told_room }
    }

    /// Passes over a message that is none, or too long for this end.
    pub(super) fn skip_unfit(&mut self) {
        loop {
            let count = self.skip.min(self.input.len());
            self.input.drop_front(count);
            self.skip -= count;
            match self.input.record_len() {
                Some(len) if self.skip == 0 && (len == 0 || len + PREFIX > N) => self.skip = len + PREFIX,
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
        self.ack_due |= self.told_room < LITTLE_ROOM;
    }

    const fn go_back(&mut self) {
        self.in_flight = 0;
        self.flights = Flights::NONE;
        self.overdue_at = NEVER;
    }
}

/// Frames on their way, oldest first.
#[derive(Debug, Clone, Copy)]
struct Flights {
    flights: [Flight; MAX_FLIGHTS],
    count: usize,
}

/// One frame on its way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    /// Offset behind its last byte.
    end: u16,
    packet: u8,
}

impl Flights {
    const NONE: Self = Self { flights: [Flight { end: 0, packet: 0 }; MAX_FLIGHTS], count: 0 };

    fn first(&self) -> Option<Flight> {
        self.flights.first().copied().filter(|_| self.count > 0)
    }

    const fn is_full(&self) -> bool {
        self.count == MAX_FLIGHTS
    }

    fn push(&mut self, flight: Flight) {
        if let Some(place) = self.flights.get_mut(self.count) {
            *place = flight;
            self.count += 1;
        }
    }

    /// Forgets those whose bytes all lie before `offset`.
    fn drop_until(&mut self, offset: u16) {
        while self.first().is_some_and(|first| (first.end.wrapping_sub(offset) as i16) <= 0) {
            self.flights.rotate_left(1);
            self.count -= 1;
        }
    }
}

/// Frames of one stream that may be on their way at once.
const MAX_FLIGHTS: usize = 8;
/// What [`Ack::room`] counts in, in bytes.
const ROOM_UNIT: usize = 16;
/// An end that was told of no more room than this is told when there is more: a line frame.
const LITTLE_ROOM: u8 = (MAX_LINE_FRAME / ROOM_UNIT) as u8;
/// Later than any clock gets.
pub(super) const NEVER: Instant = Instant::from_micros(u64::MAX);
