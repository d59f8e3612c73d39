//! Delivery over a link that loses frames: what must arrive is acknowledged and sent again, once and in order; the rest
//! goes as it is, newest first to stay.

use visorbus_core::limits::MAX_LINE_FRAME;
use visorbus_core::link::Link;
use visorbus_core::secure::LinkProof;
use visorbus_core::time::{Instant, earlier};

use arq::Arq;

mod arq;
mod bytes;
mod header;
mod round_trip;
mod stream;

/// A [`Link`] over a raw one (a serial line, SPI), with a lane on which nothing is lost while a session is on.
///
/// `N` is the length of each of its six pieces of memory, [`lane_len`] of the longest message: two streams each way, and
/// best effort each way.
///
/// # What goes how
/// | message | goes |
/// |---|---|
/// | request, response, error; notification of High or Critical priority | once, in order, until it is acknowledged |
/// | other notifications, heartbeats | best effort: what waits is replaced by what is newer on its topic |
/// | hello, identity, and their answers | best effort: they come before everything else |
///
/// There are two streams, one for High and Critical, one for the rest; order holds within each. Messages go in pieces
/// that a line can carry in a few milliseconds ([`Lane::with_piece`]), urgent ones between those of others. A
/// notification that is longer than a line frame goes on the stream, because in pieces it would hardly ever arrive.
///
/// # When it is on
/// From [`Link::reset`] with an epoch on; before that, and where the other end has no lane, frames pass as they are.
///
/// # Back-pressure
/// [`Link::room`] tells how much a stream takes; an end that does not take what came says so on the line, and the other
/// waits. Nothing is dropped from a stream but by [`Link::reset`].
///
/// ```
/// use visorbus_core::{Instant, Link};
/// use visorbus_hal::{Lane, lane_len};
///
/// # fn run<L: Link>(line: L, now: impl Fn() -> Instant) -> Result<(), L::Error> {
/// let mut lane = Lane::<L, { lane_len(256) }>::new(line);
/// lane.reset(Some(7)); // What a session does when it opens.
/// loop {
///     lane.flush(now())?;
///     while let Some(message) = lane.receive()? {
///         // deal with the message
/// #       let _ = message;
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Lane<L, const N: usize> {
    link: L,
    arq: Arq<N>,
    /// When it was last flushed.
    now: Instant,
}

impl<L: Link, const N: usize> Lane<L, N> {
    /// Bytes of the longest message, either way.
    pub const MAX_MESSAGE: usize = N - bytes::PREFIX;

    /// A lane that is off. The raw link should carry frames of [`MAX_LINE_FRAME`] bytes.
    pub fn new(link: L) -> Self {
        let frame = MAX_LINE_FRAME.min(link.max_frame());
        Self { link, arq: Arq::new(frame as u16), now: Instant::default() }
    }

    /// Limits the pieces of messages to `len` bytes each (1 to 118, 118 unless told): on a slow line, what can be sent
    /// in a few milliseconds, as [`piece_len`] says. Frames are at most 16 bytes longer than that on a serial line.
    pub fn with_piece(mut self, len: usize) -> Self {
        self.arq.set_max_chunk(len.min(MAX_LINE_FRAME) as u16);
        self
    }

    /// What was sent again, dropped and measured.
    pub const fn stats(&self) -> LaneStats {
        self.arq.stats()
    }

    /// The raw link, to look at.
    pub const fn link(&self) -> &L {
        &self.link
    }

    /// The raw link, to set it up anew. Frames that are sent or received past the lane are lost to it.
    pub const fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// As [`Link::room`], for a message whose first byte is `head`. Of best-effort messages only one waits here at a
    /// time: for an owner with queues of its own.
    pub fn room_for(&mut self, head: u8) -> usize {
        if self.arq.is_on() { self.arq.room_for(head) } else { self.link.room() }
    }

    /// Takes a frame off the raw link; `false` when there is none.
    fn pull(&mut self) -> Result<bool, L::Error> {
        let Some(frame) = self.link.receive()? else { return Ok(false) };
        self.arq.handle_frame(frame, self.now.as_micros() as u32);
        Ok(true)
    }

    /// Whether the owner may be waiting for room, and so take nothing before something is acknowledged.
    fn is_choked(&self) -> bool {
        self.arq.room() < Self::MAX_MESSAGE
    }
}

impl<L: Link, const N: usize> Link for Lane<L, N> {
    type Error = L::Error;

    fn room(&mut self) -> usize {
        if self.arq.is_on() { self.arq.room() } else { self.link.room() }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, L::Error> {
        if !self.arq.is_on() {
            return self.link.receive();
        }
        self.arq.drop_taken();
        while !self.arq.find_message() && self.pull()? {}
        Ok(self.arq.message())
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, L::Error> {
        if self.arq.is_on() { Ok(self.arq.send(frame)) } else { self.link.send(frame) }
    }

    fn flush(&mut self, now: Instant) -> Result<bool, L::Error> {
        self.now = now;
        if self.arq.is_on() {
            self.arq.drop_taken();
            self.arq.handle_timeout(now.as_micros() as u32);
            while (!self.arq.holds() || self.is_choked()) && self.pull()? {}
        }
        let mut frame = [0; MAX_LINE_FRAME];
        loop {
            // One frame at a time: what is more urgent may come while it goes.
            if !self.link.flush(now)? || self.link.room() < MAX_LINE_FRAME.min(self.link.max_frame()) {
                return Ok(false);
            }
            let len = self.arq.poll_transmit(now.as_micros() as u32, &mut frame);
            match frame.get(..len) {
                Some(frame) if len > 0 => self.link.send(frame)?,
                _ => return Ok(true),
            };
        }
    }

    fn max_frame(&self) -> usize {
        if self.arq.is_on() { Self::MAX_MESSAGE } else { Self::MAX_MESSAGE.min(self.link.max_frame()) }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let now = self.now.as_micros();
        let lane = self.arq.due_in_us(now as u32).map(|us| Instant::from_micros(now + u64::from(us)));
        earlier(self.link.poll_timeout(), lane)
    }

    fn has_lane(&self) -> bool {
        true
    }

    fn reset(&mut self, epoch: Option<u16>) {
        self.arq.reset(epoch);
    }

    fn proof(&self) -> Option<&LinkProof> {
        self.link.proof()
    }
}

impl<L: AsMut<T>, T: ?Sized, const N: usize> AsMut<T> for Lane<L, N> {
    fn as_mut(&mut self) -> &mut T {
        self.link.as_mut()
    }
}

/// The memory length `N` of a [`Lane`] whose longest message has `max_message` bytes. More lets more than one wait.
pub const fn lane_len(max_message: usize) -> usize {
    let len = max_message + bytes::PREFIX;
    if len < MAX_LINE_FRAME + bytes::PREFIX { MAX_LINE_FRAME + bytes::PREFIX } else { len }
}

/// Bytes of a message that a serial line of `baud` carries, with all that goes around them, in 5 ms; 16 to 118.
pub const fn piece_len(baud: u32) -> usize {
    // Ten bits a byte, 200 times 5 ms a second.
    let len = (baud / 10 / 200) as usize;
    let around = header::LEN + visorbus_core::frame::serial::CRC_LEN + 2;
    let most = MAX_LINE_FRAME - header::LEN;
    match len.saturating_sub(around) {
        ..16 => 16,
        len if len > most => most,
        len => len,
    }
}

/// What a [`Lane`] has gone through since it was made. The counters stop at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct LaneStats {
    /// Times that something was lost, or not acknowledged in time, and was sent again.
    pub resent: u32,
    /// Best-effort messages that went before they were sent, because there was no room for a newer one. That the newest of a
    /// topic takes the place of the one before is no loss, and is not counted.
    pub overtaken: u32,
    /// Best-effort messages that a newer one replaced before they were taken.
    pub missed: u32,
    /// Frames of a lane, but of another session.
    pub stale: u32,
    /// Messages that were passed over: longer than this end takes, or empty.
    pub unfit: u32,
    /// The round trip on the line, smoothed, in microseconds.
    pub round_trip_us: u32,
}

impl LaneStats {
    const NONE: Self = Self { resent: 0, overtaken: 0, missed: 0, stale: 0, unfit: 0, round_trip_us: 0 };
}

#[inline(never)]
const fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

#[cfg(test)]
mod tests;
