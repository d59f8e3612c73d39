//! A link whose two ends share a key: proven to each other, every frame tagged or sealed. Knows frames, never messages.

use visorbus_core::link::Link;
use visorbus_core::secure::{
    Accepting, HEAD_LEN, LinkKeys, LinkProof, MAX_HANDSHAKE, SecureEnd, SecureStats,
};
use visorbus_core::time::{Instant, earlier};

/// A [`Link`] over a raw one (a serial line, SPI), secured as [`visorbus_core::secure`] tells. A
/// [`Lane`](crate::Lane) goes over it.
///
/// `E` is this end, [`Connecting`](visorbus_core::secure::Connecting) or [`Accepting`]; `N` the length of its memory for one frame, as long as the raw link's
/// longest: [`SecureEnd::OVERHEAD`] more than the longest payload, and at least [`MAX_HANDSHAKE`].
///
/// # Before the proof
/// [`Link::room`] is 0, and nothing is handed out. [`Link::flush`] makes the handshake by itself.
///
/// # At the accepting end
/// When the channel has changed, nothing passes until the owner has asked [`SecureLink::take_change`]: it ends what
/// belongs to another peer, or another start of it, before it hears the new one.
///
/// ```
/// use visorbus_core::{Instant, Link};
/// use visorbus_core::auth::Key;
/// use visorbus_core::secure::{Connecting, LinkKey, NonceSeed, Suite, Tag64};
/// use visorbus_hal::{Lane, SecureLink, SerialFrames, lane_len, serial_buffer_len};
///
/// # fn run(secret: [u8; 32], random: [u8; 16], boot_id: u64) -> Option<()> {
/// let key = LinkKey::new(1, Suite::Tag64, "imu", Key::new(secret))?;
/// let end = Connecting::<Tag64>::new(key, boot_id, NonceSeed::random(random)).ok()?;
/// let line = SerialFrames::<{ serial_buffer_len(138) }>::new();
/// let lane = Lane::<_, { lane_len(256) }>::new(SecureLink::<_, _, 138>::new(line, end));
/// assert!(lane.link().stats().handshakes == 0);
/// # Some(())
/// # }
/// ```
#[derive(Debug)]
pub struct SecureLink<L, E, const N: usize> {
    link: L,
    end: E,
    buffer: [u8; N],
    /// When it was last flushed.
    now: Instant,
    /// What this end has to say of itself did not go for want of room.
    is_stuck: bool,
}

impl<L: Link, E: SecureEnd, const N: usize> SecureLink<L, E, N> {
    /// A link on which nothing was said yet.
    pub const fn new(link: L, end: E) -> Self {
        const { assert!(N >= MAX_HANDSHAKE, "no room for a handshake") };
        Self { link, end, buffer: [0; N], now: Instant::from_micros(0), is_stuck: false }
    }

    /// What came and what was refused.
    pub fn stats(&self) -> SecureStats {
        self.end.stats()
    }

    /// The raw link, to look at.
    pub const fn link(&self) -> &L {
        &self.link
    }

    /// The raw link, to set it up anew. Frames that are sent or received past this one are lost to it.
    pub const fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// This end of the channel, to look at.
    pub const fn end(&self) -> &E {
        &self.end
    }

    /// This end of the channel, to change its keys or close it.
    pub const fn end_mut(&mut self) -> &mut E {
        &mut self.end
    }

    /// Takes a frame off the raw link, into the buffer; `None` when there is none, else what is in it for the layer above.
    fn pull(&mut self) -> Result<Option<Pulled>, L::Error> {
        if self.end.holds() {
            return Ok(None);
        }
        let Some(frame) = self.link.receive()? else { return Ok(None) };
        let len = frame.len();
        let Some(place) = self.buffer.get_mut(..len) else { return Ok(Some(None)) };
        place.copy_from_slice(frame);
        Ok(Some(self.end.handle_frame(place, self.now)))
    }

    /// Says what this end has to say of itself; `false` when there is no room for all of it.
    fn transmit(&mut self) -> Result<bool, L::Error> {
        while self.end.poll_timeout().is_some_and(|due| due <= self.now) {
            if self.link.room() < MAX_HANDSHAKE {
                return Ok(false);
            }
            let len = self.end.poll_transmit(self.now, &mut self.buffer);
            if len == 0 {
                break;
            }
            self.link.send(self.buffer.get(..len).unwrap_or_default())?;
        }
        Ok(true)
    }
}

impl<L: Link, K: LinkKeys, const N: usize> SecureLink<L, Accepting<K>, N> {
    /// As [`Accepting::take_change`].
    pub fn take_change(&mut self) -> Option<&LinkProof> {
        self.end.take_change()
    }
}

impl<L: Link, E: SecureEnd, const N: usize> Link for SecureLink<L, E, N> {
    type Error = L::Error;

    fn room(&mut self) -> usize {
        if self.end.is_open() { self.link.room().min(N).saturating_sub(E::OVERHEAD) } else { 0 }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, L::Error> {
        while let Some(payload) = self.pull()? {
            if let Some(len) = payload {
                return Ok(self.buffer.get(HEAD_LEN..HEAD_LEN + len));
            }
        }
        Ok(None)
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, L::Error> {
        if frame.len() > self.room() {
            return Ok(false);
        }
        let Some(place) = self.buffer.get_mut(HEAD_LEN..HEAD_LEN + frame.len()) else { return Ok(false) };
        place.copy_from_slice(frame);
        match self.end.seal(&mut self.buffer, frame.len()) {
            Some(len) => self.link.send(self.buffer.get(..len).unwrap_or_default()),
            None => Ok(false),
        }
    }

    fn flush(&mut self, now: Instant) -> Result<bool, L::Error> {
        self.now = now;
        self.link.flush(now)?;
        // Nobody receives while there is no room for an answer. What comes before the proof is only the handshake.
        while !self.end.is_open() && self.pull()?.is_some() {}
        let said = self.transmit()?;
        self.is_stuck = !said;
        Ok(self.link.flush(now)? && said)
    }

    fn max_frame(&self) -> usize {
        self.link.max_frame().min(N).saturating_sub(E::OVERHEAD)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // The raw link knows when it has room again; until then there is no use in asking at once.
        let own = self.end.poll_timeout();
        let own = if self.is_stuck { own.map(|due| due.max(self.now.plus_millis(1))) } else { own };
        earlier(self.link.poll_timeout(), own)
    }

    fn proof(&self) -> Option<&LinkProof> {
        self.end.proof()
    }
}

impl<L: AsMut<T>, E, T: ?Sized, const N: usize> AsMut<T> for SecureLink<L, E, N> {
    fn as_mut(&mut self) -> &mut T {
        self.link.as_mut()
    }
}

/// Bytes of a payload in the buffer, if a frame has one for the layer above.
type Pulled = Option<usize>;
