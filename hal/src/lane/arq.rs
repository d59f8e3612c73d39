//! The lane's state machine: messages and frames go in, frames and messages come out. No link, no clock.

use visorbus_core::bus;
use visorbus_core::codec::peek_addresses;
use visorbus_core::limits::MAX_LINE_FRAME;

use super::bytes::{Bytes, copy_front};
use super::header::{self, EPOCH, Header, Heard, UNHEARD};
use super::round_trip::RoundTrip;
use super::stream::{Progress, Range, Stream};
use super::{LaneStats, count};

/// One end of a lane.
///
/// Its clock has 32 bits of microseconds and begins again after 71 minutes, which is little code; a wait lasts a second
/// or two at most.
// In this order: short instructions reach what is near the front.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Arq<const N: usize> {
    /// Number of the newest frame with bytes.
    packet: u8,
    /// Number of the newest of them that the other end has told of.
    known: u8,
    /// Which frames came.
    heard: Heard,
    /// Urgent frames sent since another was.
    urgent_run: u8,
    loose_next: bool,
    chunk: u16,
    max_chunk: u16,
    /// Bytes of the longest frame on the line.
    frame: u16,
    epoch: Option<u16>,
    /// Where what was handed out stands, which goes with the next call: a stream, or [`LOOSE`].
    taken: Option<usize>,
    /// A frame of which the round trip is measured.
    timed: Option<(u8, u32)>,
    round_trip: RoundTrip,
    /// When something was acknowledged last, or is waited for since.
    silent_since: u32,
    /// When the first of what is on its way counts as lost, or a shut window is asked for.
    overdue_at: Option<u32>,
    stats: LaneStats,
    streams: [Stream<N>; 2],
    /// Best effort, on its way out.
    loose: Bytes<N>,
    /// Best effort, come in.
    held: Bytes<N>,
}

impl<const N: usize> Arq<N> {
    /// For a line that carries frames of up to `frame` bytes.
    pub(super) fn new(frame: u16) -> Self {
        let max_chunk = frame.saturating_sub(header::LEN as u16).max(1);
        const { assert!(N > MAX_LINE_FRAME + 1 && N <= 16_384, "a lane's memory has 130 to 16384 bytes") };
        Self {
            epoch: None,
            streams: const { [Stream::new(), Stream::new()] },
            loose: const { Bytes::new() },
            held: const { Bytes::new() },
            taken: None,
            packet: 0,
            known: 0,
            heard: Heard::FIRST,
            timed: None,
            round_trip: RoundTrip::new(),
            silent_since: 0,
            overdue_at: None,
            chunk: max_chunk,
            max_chunk,
            frame,
            urgent_run: 0,
            loose_next: false,
            stats: LaneStats::NONE,
        }
    }

    /// Pieces have no more than `len` bytes, and no more than a frame has room for.
    pub(super) fn set_max_chunk(&mut self, len: u16) {
        self.max_chunk = len.min(self.frame.saturating_sub(header::LEN as u16)).max(1);
        self.chunk = self.max_chunk;
    }

    /// A session begins or ends. What waits best effort stays: it belongs to none, like a goodbye.
    pub(super) fn reset(&mut self, epoch: Option<u16>) {
        for stream in &mut self.streams {
            stream.clear();
        }
        self.held.clear();
        self.epoch = epoch.map(|epoch| epoch & EPOCH);
        (self.taken, self.timed, self.overdue_at) = (None, None, None);
        (self.packet, self.known, self.heard) = (0, 0, Heard::FIRST);
    }

    pub(super) const fn is_on(&self) -> bool {
        self.epoch.is_some()
    }

    /// Takes a message for sending; `false` when there is no room.
    pub(super) fn send(&mut self, message: &[u8]) -> bool {
        match stream_of(message) {
            None if message.len() <= usize::from(self.frame) => {
                self.send_loose(message);
                true
            }
            stream => self.streams.get_mut(stream.unwrap_or(BULK)).is_some_and(|stream| stream.send(message)),
        }
    }

    /// Bytes of the longest message that [`Arq::send`] takes now on the stream that has least room.
    pub(super) fn room(&self) -> usize {
        self.streams.iter().map(Stream::room).min().unwrap_or(0)
    }

    /// As [`Arq::room`], for a message that begins with `head`; none for best effort while any of it waits.
    pub(super) fn room_for(&self, head: u8) -> usize {
        match stream_of(&[head]) {
            // A long one goes on the stream.
            None if self.loose.is_empty() => usize::from(self.frame).max(self.streams[BULK].room()),
            None => 0,
            Some(stream) => self.streams.get(stream).map_or(0, Stream::room),
        }
    }

    /// Takes a frame off the line.
    pub(super) fn handle_frame(&mut self, frame: &[u8], now: u32) {
        if !Header::marks(frame) {
            return self.hold(frame);
        }
        match Header::read(frame) {
            Some((header, bytes)) if Some(header.epoch) == self.epoch => self.handle_own(header, bytes, now),
            _ => count(&mut self.stats.stale),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: u32) {
        if self.due_in_us(now) != Some(0) {
            return;
        }
        // The next one counts as lost soon after the first.
        self.set_overdue(now, 2);
        let mut late = false;
        for stream in &mut self.streams {
            late |= stream.handle_timeout();
        }
        if late {
            self.handle_loss();
        }
    }

    /// Microseconds until [`Arq::handle_timeout`] has something to do.
    pub(super) fn due_in_us(&self, now: u32) -> Option<u32> {
        self.overdue_at.map(|at| (at.wrapping_sub(now) as i32).max(0) as u32)
    }

    /// Writes the next frame to `out` and says how many bytes it has; 0 when there is nothing to send.
    pub(super) fn poll_transmit(&mut self, now: u32, out: &mut [u8; MAX_LINE_FRAME]) -> usize {
        // Urgent ones first, but never for ever; of the others each in turn.
        let next = if self.loose_next { LOOSE } else { BULK };
        let first = if self.urgent_run < URGENT_RUN { URGENT } else { next };
        for &from in &[first, next, LOOSE - next, URGENT] {
            let len = if from < LOOSE { self.write(from, now, out) } else { self.write_loose(out) };
            if len > 0 {
                match from {
                    URGENT => self.urgent_run = self.urgent_run.saturating_add(1),
                    other => (self.urgent_run, self.loose_next) = (0, other == BULK),
                }
                return len;
            }
        }
        0
    }

    /// Whether a message has come that [`Arq::message`] then shows.
    pub(super) fn find_message(&mut self) -> bool {
        for stream in &mut self.streams {
            stream.skip_unfit(&mut self.stats.unfit);
        }
        for &from in &[URGENT, LOOSE, BULK] {
            self.taken = Some(from);
            if self.message().is_some() {
                return true;
            }
        }
        self.taken = None;
        false
    }

    /// The message that [`Arq::find_message`] has found. It stays until [`Arq::drop_taken`].
    pub(super) fn message(&self) -> Option<&[u8]> {
        match self.streams.get(self.taken?) {
            Some(stream) => stream.message(),
            None => self.held.record(),
        }
    }

    pub(super) fn drop_taken(&mut self) {
        let Some(from) = self.taken.take() else { return };
        match self.streams.get_mut(from) {
            Some(stream) => stream.drop_message(),
            None => self.held.drop_record(),
        }
    }

    /// Whether a best-effort message waits to be taken.
    pub(super) const fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) const fn stats(&self) -> LaneStats {
        LaneStats { round_trip_us: self.round_trip.smoothed_us(), ..self.stats }
    }

    fn handle_own(&mut self, header: Header, bytes: &[u8], now: u32) {
        let Some(stream) = self.streams.get_mut(header.stream) else { return };
        let has_come = !bytes.is_empty() && stream.handle_bytes(header.offset, bytes);
        // A frame that did not come is missed with the next one that does, whatever that carries.
        let newer = self.heard.note(header.packet, has_come);
        if newer || header.asks || !bytes.is_empty() {
            stream.acks_due = if self.heard.bits == 0xFF { 1 } else { 2 };
        }
        let progress = Progress { arrived: stream.handle_ack(header.ack), lost: false };
        self.handle_heard(header.heard, progress, now);
    }

    fn handle_heard(&mut self, heard: Heard, mut progress: Progress, now: u32) {
        if self.packet.wrapping_sub(heard.newest) < self.packet.wrapping_sub(self.known) {
            self.known = heard.newest;
        }
        if let Some((packet, sent_at)) = self.timed.take_if(|(packet, _)| heard.has_come(*packet).is_some())
            && heard.newest == packet
            && heard.bits & 1 != 0
        {
            self.round_trip.measure(now.wrapping_sub(sent_at));
        }
        for stream in &mut self.streams {
            stream.handle_heard(heard, &mut progress);
        }
        if progress.arrived {
            self.silent_since = now;
            self.chunk = (self.chunk + CHUNK_STEP).min(self.max_chunk);
        }
        if progress.lost {
            self.handle_loss();
        }
        // Not for what is lost: pieces that are refused again and again would put off the first for ever.
        if progress.arrived {
            self.overdue_at = None;
            if self.streams.iter().any(Stream::waits) {
                self.set_overdue(now, 0);
            }
        }
    }

    /// The more a line loses, the shorter the pieces: a short one gets through where a long one does not.
    fn handle_loss(&mut self) {
        count(&mut self.stats.resent);
        self.chunk = (self.chunk / 2).max(MIN_CHUNK.min(self.max_chunk));
    }

    /// Newest wins: an older message on the same topic goes, and then whatever is oldest.
    fn send_loose(&mut self, message: &[u8]) {
        let topic = topic_of(message);
        if !topic.is_empty() {
            self.loose.drop_first(|old| topic_of(old) == topic);
        }
        push_newest(&mut self.loose, message, &mut self.stats.overtaken);
    }

    fn hold(&mut self, frame: &[u8]) {
        if frame.len() <= MAX_LINE_FRAME {
            push_newest(&mut self.held, frame, &mut self.stats.missed);
        }
    }

    fn write_loose(&mut self, out: &mut [u8; MAX_LINE_FRAME]) -> usize {
        let len = copy_front(out, self.loose.record().unwrap_or_default());
        self.loose.drop_record();
        len
    }

    /// Writes the next bytes of a stream, or only what came where there are none to send.
    #[inline(never)]
    fn write(&mut self, index: usize, now: u32, out: &mut [u8; MAX_LINE_FRAME]) -> usize {
        let Some(stream) = self.streams.get(index) else { return 0 };
        // None when so many frames were not heard of that their numbers run out.
        let may_send = self.packet.wrapping_sub(self.known) < UNHEARD;
        let range = if may_send { stream.segment(self.chunk) } else { Range::NONE };
        let sends = range.is_some();
        if self.overdue_at.is_none() && (sends || stream.is_shut()) {
            self.silent_since = now;
            self.set_overdue(now, 0);
        }
        let Some(stream) = self.streams.get_mut(index) else { return 0 };
        if sends {
            self.packet = self.packet.wrapping_add(1);
            // One that nobody heard of for long is given up.
            if self.timed.is_none_or(|(packet, _)| self.packet.wrapping_sub(packet) > UNHEARD / 2) {
                self.timed = Some((self.packet, now));
            }
            stream.handle_sent(range, self.packet);
        } else if stream.acks_due == 0 {
            return 0;
        }
        let asks = stream.asks;
        let ack = stream.take_ack();
        let (offset, bytes) = stream.bytes(range);
        let header = Header {
            epoch: self.epoch.unwrap_or(0),
            stream: index,
            asks,
            packet: self.packet,
            heard: self.heard,
            offset,
            ack,
        };
        let Some((head, body)) = out.split_first_chunk_mut() else { return 0 };
        *head = header.to_bytes();
        header::LEN + copy_front(body, bytes)
    }

    /// From now on what is on its way has until then to be acknowledged; half of that, and half again, as often as
    /// `halved` says.
    fn set_overdue(&mut self, now: u32, halved: u32) {
        let silent_us = now.wrapping_sub(self.silent_since);
        self.overdue_at = Some(now.wrapping_add(self.round_trip.timeout_us(silent_us) >> halved));
    }
}

/// The stream that carries a message, or none where it goes best effort.
fn stream_of(message: &[u8]) -> Option<usize> {
    let head = *message.first()?;
    let urgent = head & HIGH != 0;
    match head & TYPE {
        HEARTBEAT => None,
        NOTIFICATION if !urgent => None,
        // Hello and the question who is there come before all streams, and so do their answers.
        _ if is_greeting(message) => None,
        _ => Some(if urgent { URGENT } else { BULK }),
    }
}

fn is_greeting(message: &[u8]) -> bool {
    let Some((source, destination)) = peek_addresses(message) else { return false };
    let answers = message.first().is_some_and(|head| head & ANSWERS != 0);
    let served = if answers { source } else { destination };
    [bus::HELLO, bus::IDENTITY].iter().any(|greeting| greeting.as_bytes() == served)
}

/// The topic of a notification; nothing for other messages.
fn topic_of(message: &[u8]) -> &[u8] {
    match peek_addresses(message) {
        Some((_, topic)) if message.first().is_some_and(|head| head & TYPE == NOTIFICATION) => topic,
        _ => &[],
    }
}

fn push_newest<const N: usize>(queue: &mut Bytes<N>, message: &[u8], dropped: &mut u32) {
    while !queue.push_record(message) {
        queue.drop_record();
        count(dropped);
    }
}

/// Requests, answers and errors of Low and Normal priority.
const BULK: usize = 0;
/// Everything of High and Critical priority.
const URGENT: usize = 1;
/// What goes best effort, in the order of sending.
const LOOSE: usize = 2;
/// Bits of a message's first byte, and types in them (wire format, section 3).
const TYPE: u8 = 7;
const NOTIFICATION: u8 = 2;
const HEARTBEAT: u8 = 4;
/// Set in the types of a response and an error, below [`HEARTBEAT`].
const ANSWERS: u8 = 1;
/// Set for High and Critical.
const HIGH: u8 = 1 << 4;
/// Urgent frames that go before one of the others does.
const URGENT_RUN: u8 = 4;
/// A piece is never shorter than this for want of luck: its frame has as much again around it.
const MIN_CHUNK: u16 = 12;
/// What a piece grows by with each that arrives.
const CHUNK_STEP: u16 = 8;
