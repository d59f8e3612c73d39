//! An open channel: a cipher and a counter each way. Knows nothing of handshakes.

use super::cipher::{Cipher, Suite};
use super::frame::{COUNTER_MASK, HEAD_LEN, data_head};
use super::key::LinkKey;
use crate::auth::BUS;
use crate::session::Name;

/// The two directions of a channel, seen from one of its ends.
pub(super) struct Channel<C> {
    out: C,
    inward: C,
    /// Counter of the last frame made; the first has 1.
    sent: u64,
    /// Counter of the last frame that was verified.
    heard: u64,
    /// No frame has a higher one.
    last: u64,
}

impl<C: Cipher> Channel<C> {
    /// `None` when the key's suite is not one of `C`.
    pub(super) fn new(suite: Suite, out: &[u8; 32], inward: &[u8; 32], last: u64) -> Option<Self> {
        Some(Self { out: C::new(suite, out)?, inward: C::new(suite, inward)?, sent: 0, heard: 0, last })
    }

    /// Frames of the direction that has more of them.
    pub(super) const fn age(&self) -> u64 {
        if self.sent > self.heard { self.sent } else { self.heard }
    }

    /// Whether a frame of the other end was verified.
    pub(super) const fn is_heard(&self) -> bool {
        self.heard > 0
    }

    /// Whether one more frame can be made.
    pub(super) const fn has_counters(&self) -> bool {
        self.sent < self.last
    }

    /// Makes a frame of the first `len` bytes behind the head, in place; its length. `None` when there is no room, or
    /// no counter is left.
    pub(super) fn seal(&mut self, frame: &mut [u8], len: usize) -> Option<usize> {
        let tag_len = self.out.tag_len();
        let (head, rest) = frame.split_first_chunk_mut::<HEAD_LEN>()?;
        let (payload, rest) = rest.split_at_mut_checked(len)?;
        let tag = rest.get_mut(..tag_len)?;
        if !self.has_counters() {
            return None;
        }
        self.sent += 1;
        *head = data_head(self.sent);
        self.out.seal(self.sent, payload, tag);
        Some(HEAD_LEN + len + tag_len)
    }

    /// Opens a data frame, whose head says `low`, in place; how long its payload is. What cannot be
    /// opened stays as it is.
    pub(super) fn open(&mut self, low: u16, frame: &mut [u8]) -> Result<usize, Fault> {
        let (_, rest) = frame.split_first_chunk_mut::<HEAD_LEN>().ok_or(Fault::Bad)?;
        let len = rest.len().checked_sub(self.inward.tag_len()).ok_or(Fault::Bad)?;
        let (payload, tag) = rest.split_at_mut_checked(len).ok_or(Fault::Bad)?;
        let ahead = u64::from(low).wrapping_sub(self.heard) & COUNTER_MASK;
        if ahead == 0 || ahead > MAX_AHEAD {
            return Err(Fault::Old);
        }
        let counter = self.heard + ahead;
        if counter > self.last || !self.inward.open(counter, payload, tag) {
            return Err(Fault::Bad);
        }
        self.heard = counter;
        Ok(len)
    }
}

/// Why a data frame is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its tag is not that of this channel, this direction, this counter and these bytes.
    Bad,
    /// It says that it is not newer than the last one.
    Old,
}

/// Who is at the other end of a channel: that end has the link's key and has confirmed it in this handshake. Only a
/// verified handshake makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkProof {
    name: Name,
    key_id: u8,
    suite: Suite,
    boot_id: u64,
}

impl LinkProof {
    pub(crate) fn new(name: &str, key: &LinkKey, boot_id: u64) -> Self {
        Self { name: Name::try_from(name).unwrap_or_default(), key_id: key.id(), suite: key.suite(), boot_id }
    }

    /// The name that it has proven: that of the key, or `bus`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the hub: at its own end of a link no peer's key proves that name.
    pub fn is_hub(&self) -> bool {
        self.name() == BUS
    }

    /// The id of the key.
    pub const fn key_id(&self) -> u8 {
        self.key_id
    }

    /// What protects the frames.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// What it says that differs at each of its starts.
    pub const fn boot_id(&self) -> u64 {
        self.boot_id
    }
}

/// What came over a secure link and what was refused, since it was made. The counters stop at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct SecureStats {
    /// Channels that were opened.
    pub handshakes: u32,
    /// Of these, those that took the place of an open one with the same start of the same peer.
    pub rekeys: u32,
    /// INITs that were refused: no such name and key id, or made with another key; and REPLYs made with another key.
    pub refused: u32,
    /// Frames that were dropped because their tag was wrong, or that no secure link makes.
    pub bad: u32,
    /// Frames that were dropped because they were not newer than the last.
    pub replayed: u32,
    /// Frames that came without protection, dropped: the other end has no key.
    pub unkeyed: u32,
}

impl SecureStats {
    pub(super) const NONE: Self =
        Self { handshakes: 0, rekeys: 0, refused: 0, bad: 0, replayed: 0, unkeyed: 0 };

    pub(super) fn count_fault(&mut self, fault: Fault) {
        count(match fault {
            Fault::Bad => &mut self.bad,
            Fault::Old => &mut self.replayed,
        });
    }
}

#[inline(never)]
pub(super) const fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

/// A frame may be so many ahead of the last that was verified; the others of the 2^14 that a head can tell of are old.
const MAX_AHEAD: u64 = COUNTER_MASK - 1024;
/// No frame has a higher counter. A channel is made anew at half of this, of the frames that one end has sent.
pub(super) const LAST_COUNTER: u64 = 1 << 32;

const _: () = assert!(LAST_COUNTER < 1 << 62, "the kind, 0, stands above the counter");
