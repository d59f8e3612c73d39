//! The end that begins: a board. One key, one suite.

use subtle::ConstantTimeEq;

use super::SecureEnd;
use super::channel::{Channel, Fault, LAST_COUNTER, LinkProof, SecureStats, count};
use super::cipher::{Cipher, Suite};
use super::frame::{Frame, HEAD_LEN, NONCE_LEN, Reply, write_init};
use super::key::LinkKey;
use super::schedule::{ChannelKeys, Side, prove_init};
use crate::auth::BUS;
use crate::time::Instant;
use crate::wire::Writer;

/// The connecting end of a secure link. `C` is the suite of its key: [`Tag64`](super::Tag64) or
/// [`Sealed`](super::Sealed).
///
/// It says INIT until a REPLY verifies, then an empty data frame until the accepting end has sent one too. A new handshake
/// runs beside an open channel, which stays until the new one is confirmed.
pub struct Connecting<C> {
    key: LinkKey,
    seed: NonceSeed,
    boot_id: u64,
    /// Handshakes begun since the start: what tells their nonces apart.
    begun: u64,
    /// Whether one is on its way.
    pending: bool,
    open: Option<(Channel<C>, LinkProof)>,
    /// When INIT, or the empty frame, is said again.
    due: Instant,
    /// Faults since the last good frame.
    faults: u8,
    /// No handshake is begun for a hint or for faults before this.
    suspect_from: Instant,
    suspect_ms: u32,
    rekey_after: u64,
    stats: SecureStats,
}

impl<C: Cipher> Connecting<C> {
    /// An end that says INIT at its first [`SecureEnd::poll_transmit`]. `boot_id` differs at each start, as that of the
    /// session does.
    ///
    /// # Errors
    /// The key is of another suite than `C`.
    pub fn new(key: LinkKey, boot_id: u64, seed: NonceSeed) -> Result<Self, WrongSuite> {
        if C::new(key.suite(), &[0; 32]).is_none() {
            return Err(WrongSuite(key.suite()));
        }
        Ok(Self {
            key,
            seed,
            boot_id,
            begun: 1,
            pending: true,
            open: None,
            due: Instant::default(),
            faults: 0,
            suspect_from: Instant::default(),
            suspect_ms: SUSPECT_MS,
            rekey_after: REKEY_AFTER,
            stats: SecureStats::NONE,
        })
    }

    /// Makes channels anew after `frames` frames of either direction: 2^31 unless told, and no later than that.
    pub fn with_rekey_after(mut self, frames: u64) -> Self {
        self.rekey_after = frames.clamp(1, REKEY_AFTER);
        self
    }

    fn side(&self) -> Side {
        Side { nonce: self.seed.nonce(self.begun), boot_id: self.boot_id }
    }

    fn begin(&mut self, now: Instant) {
        self.begun = self.begun.wrapping_add(1);
        self.pending = true;
        self.due = now;
    }

    /// Begins a handshake before the counters of the open channel come to their end.
    fn renew(&mut self) {
        let is_old = self.open.as_ref().is_some_and(|(channel, _)| channel.age() >= self.rekey_after);
        if is_old && !self.pending {
            self.begin(Instant::default());
        }
    }

    /// Something is wrong, as far as anybody can tell: a handshake beside the open channel, but not again and again.
    fn suspect(&mut self, now: Instant) {
        if self.pending || now < self.suspect_from {
            return;
        }
        let quiet = now.micros_since(self.suspect_from) > u64::from(MAX_SUSPECT_MS) * 2_000;
        self.suspect_ms = if quiet { SUSPECT_MS } else { (self.suspect_ms * 2).min(MAX_SUSPECT_MS) };
        self.suspect_from = now.plus_millis(self.suspect_ms);
        self.faults = 0;
        self.begin(now);
    }

    fn handle_reply(&mut self, reply: &Reply, now: Instant) {
        if !self.pending || reply.key_id != self.key.id() {
            return;
        }
        let keys = ChannelKeys::new(&self.key, self.side(), reply.side);
        if !bool::from(keys.confirmation.ct_eq(&reply.confirmation)) {
            return count(&mut self.stats.refused);
        }
        let last = self.rekey_after.saturating_mul(2);
        let Some(new) = Channel::new(self.key.suite(), &keys.up, &keys.down, last) else { return };
        let proof = LinkProof::new(BUS, &self.key, reply.side.boot_id);
        count(&mut self.stats.handshakes);
        if self.proof() == Some(&proof) {
            count(&mut self.stats.rekeys);
        }
        self.open = Some((new, proof));
        self.pending = false;
        self.faults = 0;
        self.due = now;
    }

    fn handle_fault(&mut self, fault: Fault, now: Instant) {
        self.stats.count_fault(fault);
        self.faults = self.faults.saturating_add(1);
        if self.faults >= BURST {
            self.suspect(now);
        }
    }

    /// Whether the other end has not been heard in this channel.
    fn is_unheard(&self) -> bool {
        self.open.as_ref().is_some_and(|(channel, _)| !channel.is_heard())
    }

    fn write_init(&self, out: &mut [u8]) -> usize {
        let len = write_init(self.key.id(), self.side(), self.key.name(), out);
        let proof = prove_init(&self.key, out.get(..len).unwrap_or_default());
        let mut writer = Writer::new(out.get_mut(len..).unwrap_or_default());
        writer.bytes(&proof);
        writer.finish().map_or(0, |more| len + more)
    }
}

impl<C: Cipher> SecureEnd for Connecting<C> {
    const OVERHEAD: usize = HEAD_LEN + C::MAX_TAG;

    fn handle_frame(&mut self, frame: &mut [u8], now: Instant) -> Option<usize> {
        let fault = match Frame::read(frame) {
            Some(Frame::Reply(reply)) => {
                self.handle_reply(&reply, now);
                return None;
            }
            Some(Frame::Rekey) => {
                if self.open.is_some() {
                    self.suspect(now);
                }
                return None;
            }
            Some(Frame::Data(low)) => {
                let (channel, _) = self.open.as_mut()?;
                match channel.open(low, frame) {
                    Ok(len) => {
                        self.faults = 0;
                        self.renew();
                        return (len > 0).then_some(len);
                    }
                    Err(fault) => fault,
                }
            }
            Some(Frame::Init(_)) | None => Fault::Bad,
        };
        self.handle_fault(fault, now);
        None
    }

    fn seal(&mut self, frame: &mut [u8], len: usize) -> Option<usize> {
        let len = self.open.as_mut()?.0.seal(frame, len);
        self.renew();
        len
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> usize {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return 0;
        }
        self.due = now.plus_millis(RETRY_MS);
        if self.pending { self.write_init(out) } else { self.seal(out, 0).unwrap_or(0) }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (self.pending || self.is_unheard()).then_some(self.due)
    }

    fn proof(&self) -> Option<&LinkProof> {
        self.open.as_ref().map(|(_, proof)| proof)
    }

    fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|(channel, _)| channel.has_counters())
    }

    fn stats(&self) -> SecureStats {
        self.stats
    }
}

impl<C> core::fmt::Debug for Connecting<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connecting")
            .field("key", &self.key)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// What the nonces of a connecting end are made from, so that no two of its handshakes have the same.
///
/// With the same nonce twice, a recording of an accepting end's side of an earlier channel can be played back to this
/// end, which takes it for real and answers under keys that it has used before; of a [`Suite::Sealed`] link the bytes
/// then can be read. So a board without a random source counts its starts where they survive. The accepting end's nonces
/// are always fresh: nothing can be played back to it, whatever the board does.
pub struct NonceSeed([u8; NONCE_LEN]);

impl NonceSeed {
    /// Of 16 bytes from a good random source, drawn at this start.
    pub const fn random(bytes: [u8; NONCE_LEN]) -> Self {
        Self(bytes)
    }

    /// Of a number that was never used before, at any start: a counter that is raised in flash or backup memory before it
    /// is used.
    pub const fn counted(start: u64) -> Self {
        let mut bytes = [0; NONCE_LEN];
        let (_, upper) = bytes.split_at_mut(8);
        upper.copy_from_slice(&start.to_le_bytes());
        Self(bytes)
    }

    /// Of nothing: the same nonces after each start. What then does not hold stands above; never with
    /// [`Suite::Sealed`].
    pub const fn danger_none() -> Self {
        Self([0; NONCE_LEN])
    }

    /// That of handshake `number` since the start: added to the lower eight bytes.
    fn nonce(&self, number: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.0;
        if let Some(lower) = nonce.first_chunk_mut() {
            *lower = u64::from_le_bytes(*lower).wrapping_add(number).to_le_bytes();
        }
        nonce
    }
}

/// A key of this suite does not fit the end that it was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link key is of the suite '{0}', which this end was not built with")]
pub struct WrongSuite(pub Suite);

/// Between two INITs, and between two empty frames. Not longer after a while: nobody else is on the line, a hub that is
/// back should be found, and a bad line lets few of them through.
const RETRY_MS: u32 = 250;
/// Faults in a row after which the keys may be at fault.
const BURST: u8 = 8;
/// Between two handshakes for faults or hints, at first.
const SUSPECT_MS: u32 = 500;
/// At last.
const MAX_SUSPECT_MS: u32 = 32_000;
/// A channel is made anew after so many frames.
const REKEY_AFTER: u64 = LAST_COUNTER / 2;
