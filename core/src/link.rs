//! What a link is to the core: whole frames in, whole frames out, never a wait.

use crate::secure::LinkProof;
use crate::time::Instant;

/// One end of a connection that carries whole frames.
///
/// # For the implementer
/// No method blocks. `receive` hands out a frame exactly as the other end's `send` took it, or none; a frame that
/// arrived damaged is counted and left out, never handed out. While output is stuck, input is still drained.
///
/// # For the caller
/// Ask [`Link::room`] before taking a frame whose answer must go out on the same link. An `Err` means that the link
/// is gone (unplugged, closed): faults on the line are not errors, they are counted.
pub trait Link {
    /// Why a link is gone.
    type Error;

    /// Bytes of the longest frame that `send` would take right now; 0 when it would take none.
    fn room(&mut self) -> usize;

    /// The next whole frame, if one has arrived. It stays valid until the next call.
    ///
    /// # Errors
    /// The link is gone.
    fn receive(&mut self) -> Result<Option<&[u8]>, Self::Error>;

    /// Takes one whole frame for sending: `true` when it was taken, `false` when there was no room for it (nothing
    /// was sent then; ask again after [`Link::flush`]).
    ///
    /// # Errors
    /// The link is gone.
    fn send(&mut self, frame: &[u8]) -> Result<bool, Self::Error>;

    /// Moves what is queued towards the wire as far as it goes without waiting, what is due to be sent again among it;
    /// `true` when nothing is left that could go now. It is also how a link learns what time it is.
    ///
    /// # Errors
    /// The link is gone.
    fn flush(&mut self, now: Instant) -> Result<bool, Self::Error>;

    /// Bytes of the longest frame that this link can ever carry, either way.
    fn max_frame(&self) -> usize;

    /// When [`Link::flush`] next has something to do by itself; `None`: not before something is sent or arrives.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether this end can acknowledge and send again. A session offers it to the other end; only where both can, it
    /// is switched on, by [`Link::reset`].
    fn has_lane(&self) -> bool {
        false
    }

    /// Forgets what is on its way, either way. A session begins: `epoch`, the same number at both of its ends, tells
    /// its frames from those of others, and from here on what must arrive is acknowledged and sent again. With
    /// `None` the session is over, or its other end cannot do that: frames go as they are.
    fn reset(&mut self, epoch: Option<u16>) {
        let _ = epoch;
    }

    /// Who is at the other end of a link whose two ends share a key, and have proven it to each other: every frame is
    /// from there, and from nobody else. `None` on a link without keys, and before the proof.
    fn proof(&self) -> Option<&LinkProof> {
        None
    }
}
