//! The lane's state machine: messages and frames go in, frames and messages come out. No link, no clock.

use visorbus_core::bus;
use visorbus_core::codec::peek_addresses;
use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::time::Instant;

use super::LaneStats;
use super::bytes::Bytes;
use super::header::{self, EPOCH, Header, Heard, UNHEARD};
use super::round_trip::RoundTrip;
use super::stream::{NEVER, Progress, Range, Stream};

/// One end of a lane.
#[derive(Debug)]
pub(super) struct Arq<const N: usize> {
    epoch: Option<u16>,
    streams: [Stream<N>; 2],
    /// Best effort, on its way out.
    loose: Bytes<N>,
    /// Best effort, come in.
    held: Bytes<N>,
    /// What was handed out, and goes with the next call.
    taken: Option<From>,
    /// Number of the newest frame with bytes.
    packet: u8,
    /// Number of the newest of them that the other end has told of.
    known: u8,
    /// Which frames came.
    heard: Heard,
    /// A frame of which the round trip is measured.
    timed: Option<(u8, Instant)>,
    round_trip: RoundTrip,
    /// When something was acknowledged last, or is waited for since.
    silent_since: Instant,
    chunk: usize,
    max_chunk: usize,
    /// Urgent frames sent since another was.
    urgent_run: u8,
    loose_next: bool,
    stats: LaneStats,
}

/// Where a message that was handed out stands.
#[derive(Debug, Clone, Copy)]
enum From {
    Stream(usize),
    Held,
}

impl<const N: usize> Arq<N> {
    pub(super) const fn new(max_chunk: usize) -> Self {
        const { assert!(N > MAX_LINE_FRAME + 1 && N <= 16_384, "a lane's memory has 130 to 16384 bytes") };
        Self {
            epoch: None,
            streams: [Stream::new(), Stream::new()],
            loose: Bytes::new(),
            held: Bytes::new(),
            taken: None,
            packet: 0,
            known: 0,
            heard: Heard::FIRST,
            timed: None,
            round_trip: RoundTrip::new(),
            silent_since: Instant::from_micros(0),
            chunk: max_chunk,
            max_chunk,
            urgent_run: 0,
            loose_next: false,
            stats: LaneStats::NONE,
        }
    }

    pub(super) const fn set_max_chunk(&mut self, max_chunk: usize) {
        self.max_chunk = max_chunk;
        self.chunk = max_chunk;
    }

    /// A session begins or ends. What waits best effort stays: it belongs to none, like a goodbye.
    pub(super) fn reset(&mut self, epoch: Option<u16>) {
        for stream in &mut self.streams {
            stream.clear();
        }
        self.held.clear();
        self.epoch = epoch.map(|epoch| epoch & EPOCH);
        (self.taken, self.timed) = (None, None);
        (self.packet, self.known, self.heard) = (0, 0, Heard::FIRST);
    }

    pub(super) const fn is_on(&self) -> bool {
        self.epoch.is_some()
    }

    /// Takes a message for sending; `false` when there is no room.
    pub(super) fn send(&mut self, message: &[u8]) -> bool {
        match stream_of(message) {
            None if message.len() <= MAX_LINE_FRAME => {
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
            None if self.loose.is_empty() => MAX_LINE_FRAME.max(self.streams[BULK].room()),
            None => 0,
            Some(stream) => self.streams.get(stream).map_or(0, Stream::room),
        }
    }

    /// Takes a frame off the line.
    pub(super) fn handle_frame(&mut self, frame: &[u8], now: Instant) {
        if !Header::marks(frame) {
            return self.hold(frame);
        }
        match Header::read(frame) {
            Some((header, bytes)) if Some(header.epoch) == self.epoch => self.handle_own(header, bytes, now),
            _ => count(&mut self.stats.stale),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        // The next one counts as lost soon after the first.
        let overdue_at = self.overdue_at(now, 2);
        let mut late = false;
        for stream in &mut self.streams {
            late |= stream.handle_timeout(now, overdue_at);
        }
        if late {
            self.handle_loss();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.streams.iter().map(Stream::overdue_at).min();
        due.filter(|due| *due != NEVER)
    }

    /// Writes the next frame to `out` and says how many bytes it has; 0 when there is nothing to send.
    pub(super) fn poll_transmit(&mut self, now: Instant, out: &mut [u8; MAX_LINE_FRAME]) -> usize {
        for stream in [URGENT, BULK] {
            // Its own bytes carry the word along.
            if self.streams[stream].acks_due > 0 && self.segment(stream, self.chunk).is_none() {
                return self.write(stream, 0, now, out);
            }
        }
        // Urgent ones first, but never for ever; of the others each in turn.
        let order = match (self.urgent_run < URGENT_RUN, self.loose_next) {
            (true, true) => [URGENT, LOOSE, BULK],
            (true, false) => [URGENT, BULK, LOOSE],
            (false, true) => [LOOSE, BULK, URGENT],
            (false, false) => [BULK, LOOSE, URGENT],
        };
        for stream in order {
            let len = match stream {
                LOOSE => self.write_loose(out),
                _ => self.write(stream, self.chunk, now, out),
            };
            if len > 0 {
                match stream {
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
        let [bulk, urgent] = &self.streams;
        self.taken = match () {
            () if urgent.message().is_some() => Some(From::Stream(URGENT)),
            () if self.holds() => Some(From::Held),
            () if bulk.message().is_some() => Some(From::Stream(BULK)),
            () => None,
        };
        self.taken.is_some()
    }

    /// The message that [`Arq::find_message`] has found. It stays until [`Arq::drop_taken`].
    pub(super) fn message(&self) -> Option<&[u8]> {
        match self.taken? {
            From::Stream(stream) => self.streams.get(stream)?.message(),
            From::Held => self.held.record(),
        }
    }

    pub(super) fn drop_taken(&mut self) {
        match self.taken.take() {
            Some(From::Stream(stream)) => self.streams[stream].drop_message(),
            Some(From::Held) => self.held.drop_record(),
            None => {}
        }
    }

    /// Whether a best-effort message waits to be taken.
    pub(super) const fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) const fn stats(&self) -> LaneStats {
        LaneStats { round_trip_us: self.round_trip.smoothed_us(), ..self.stats }
    }

    fn handle_own(&mut self, header: Header, bytes: &[u8], now: Instant) {
        let Some(stream) = self.streams.get_mut(header.stream) else { return };
        let has_come = !bytes.is_empty() && stream.handle_bytes(header.offset, bytes);
        // A frame that did not come is missed with the next one that does, whatever that carries.
        let newer = self.heard.note(header.packet, has_come);
        if newer || header.asks || !bytes.is_empty() {
            stream.acks_due = if self.heard.bits == 0xFF { 1 } else { 2 };
        }
        stream.handle_ack(header.ack);
        self.handle_heard(header.heard, now);
    }

    fn handle_heard(&mut self, heard: Heard, now: Instant) {
        if self.packet.wrapping_sub(heard.newest) < self.packet.wrapping_sub(self.known) {
            self.known = heard.newest;
        }
        if let Some((packet, sent_at)) = self.timed.take_if(|(packet, _)| heard.has_come(*packet).is_some())
            && heard.newest == packet
            && heard.bits & 1 != 0
        {
            self.round_trip.measure(u32::try_from(now.micros_since(sent_at)).unwrap_or(u32::MAX));
        }
        let overdue_at = self.overdue_at(now, 0);
        let mut all = Progress::default();
        for stream in &mut self.streams {
            let progress = stream.handle_heard(heard, overdue_at);
            all.arrived |= progress.arrived;
            all.lost |= progress.lost;
        }
        if all.arrived {
            self.silent_since = now;
            self.chunk = (self.chunk + CHUNK_STEP).min(self.max_chunk);
        }
        if all.lost {
            self.handle_loss();
        }
    }

    /// The more a line loses, the shorter the pieces: a short one gets through where a long one does not.
    fn handle_loss(&mut self) {
        count(&mut self.stats.resent);
        self.chunk = (self.chunk / 2).max(MIN_CHUNK.min(self.max_chunk));
    }

    /// Newest wins: an older message on the same topic goes, and then whatever is oldest.
    fn send_loose(&mut self, message: &[u8]) {
        if is_notification(message) {
            let topic = topic_of(message);
            self.loose.drop_first(|old| is_notification(old) && topic_of(old) == topic);
        }
        push_newest(&mut self.loose, message, &mut self.stats.overtaken);
    }

    fn hold(&mut self, frame: &[u8]) {
        if frame.len() <= MAX_LINE_FRAME {
            push_newest(&mut self.held, frame, &mut self.stats.missed);
        }
    }

    fn write_loose(&mut self, out: &mut [u8; MAX_LINE_FRAME]) -> usize {
        let Some(record) = self.loose.record() else { return 0 };
        let len = record.len();
        if let Some(out) = out.get_mut(..len) {
            out.copy_from_slice(record);
        }
        self.loose.drop_record();
        len
    }

    /// Writes the next at most `chunk` bytes of a stream, or with 0 only what is acknowledged.
    fn write(&mut self, index: usize, chunk: usize, now: Instant, out: &mut [u8; MAX_LINE_FRAME]) -> usize {
        if self.poll_timeout().is_none() {
            self.silent_since = now;
        }
        let overdue_at = self.overdue_at(now, 0);
        let segment = self.segment(index, chunk);
        let stream = &mut self.streams[index];
        let mut offset_and_len = (0, 0);
        match segment {
            Some(range) => {
                let (offset, bytes) = stream.bytes(range);
                if let Some(out) = out.get_mut(header::LEN..header::LEN + bytes.len()) {
                    out.copy_from_slice(bytes);
                }
                offset_and_len = (offset, bytes.len());
                self.packet = self.packet.wrapping_add(1);
                // One that nobody heard of for long is given up.
                if self.timed.is_none_or(|(packet, _)| self.packet.wrapping_sub(packet) > UNHEARD / 2) {
                    self.timed = Some((self.packet, now));
                }
                stream.handle_sent(range, self.packet, overdue_at);
            }
            None if chunk == 0 => {}
            None => {
                stream.handle_closed_window(overdue_at);
                return 0;
            }
        }
        let header = Header {
            epoch: self.epoch.unwrap_or(0),
            stream: index,
            asks: stream.asks,
            packet: self.packet,
            heard: self.heard,
            offset: offset_and_len.0,
            ack: stream.take_ack(),
        };
        if let Some(out) = out.first_chunk_mut() {
            *out = header.to_bytes();
        }
        header::LEN + offset_and_len.1
    }

    /// The next bytes of a stream to send. None when so many frames were not heard of that their numbers run out.
    fn segment(&self, stream: usize, chunk: usize) -> Option<Range> {
        let unheard = self.packet.wrapping_sub(self.known);
        self.streams.get(stream).filter(|_| unheard < UNHEARD)?.segment(chunk)
    }

    /// When what is sent now counts as lost; in half of that, and half again, as often as `halved` says.
    fn overdue_at(&self, now: Instant, halved: u32) -> Instant {
        let silent_us = now.micros_since(self.silent_since).min(u32::MAX.into()) as u32;
        Instant::from_micros(now.as_micros() + u64::from(self.round_trip.timeout_us(silent_us) >> halved))
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
    let greets = |address: &[u8]| address == bus::HELLO.as_bytes() || address == bus::IDENTITY.as_bytes();
    greets(source) || greets(destination)
}

fn is_notification(message: &[u8]) -> bool {
    message.first().is_some_and(|head| head & TYPE == NOTIFICATION)
}

fn topic_of(message: &[u8]) -> Option<&[u8]> {
    peek_addresses(message).map(|(_, destination)| destination)
}

fn push_newest<const N: usize>(queue: &mut Bytes<N>, message: &[u8], dropped: &mut u32) {
    while !queue.push_record(message) {
        queue.drop_record();
        count(dropped);
    }
}

#[inline(never)]
const fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
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
/// Set for High and Critical.
const HIGH: u8 = 1 << 4;
/// Urgent frames that go before one of the others does.
const URGENT_RUN: u8 = 4;
/// A piece is never shorter than this for want of luck: its frame has as much again around it.
const MIN_CHUNK: usize = 12;
/// What a piece grows by with each that arrives.
const CHUNK_STEP: usize = 8;
