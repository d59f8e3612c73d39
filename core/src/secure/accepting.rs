//! The end that answers: the hub. Any key that its owner has, of either suite.

use subtle::ConstantTimeEq;

use super::SecureEnd;
use super::channel::{Channel, Fault, LAST_COUNTER, LinkProof, SecureStats, count};
use super::cipher::{AnySuite, Cipher};
use super::frame::{Frame, HEAD_LEN, Init, NONCE_LEN, Reply, write_rekey};
use super::key::LinkKey;
use super::schedule::{ChannelKeys, Side, prove_init};
use crate::bus::{self, Identity};
use crate::codec;
use crate::message::Address;
use crate::time::Instant;
use crate::wire::ascii;

/// The accepting end of a secure link.
///
/// An INIT that proves to know a key is answered, and what comes of it waits beside the open channel until a frame
/// verifies under its keys. Then the channel has changed: [`SecureEnd::is_open`] is false, and frames are left where they
/// are, until the owner has asked [`Accepting::take_change`] and so had the chance to end what belonged to the old one.
pub struct Accepting<K> {
    keys: K,
    boot_id: u64,
    open: Option<Open>,
    pending: Option<Pending>,
    /// The owner does not know yet that the channel has changed.
    changed: bool,
    /// When the REPLY is said again.
    reply_due: Instant,
    /// Times that it is said yet, unless the INIT comes again.
    replies: u8,
    /// An empty data frame is to be said.
    word_due: bool,
    /// A hint is to be said.
    hint_due: bool,
    /// No other INIT is answered before this, though proven: it may be a recording.
    init_from: Instant,
    init_ms: u32,
    /// No other hint is said before this.
    hint_from: Instant,
    hint_ms: u32,
    /// Faults since the last good frame.
    faults: u8,
    stats: SecureStats,
}

impl<K: LinkKeys> Accepting<K> {
    /// An end that waits for an INIT. `boot_id` differs at each start, as that of the session does.
    pub const fn new(keys: K, boot_id: u64) -> Self {
        Self {
            keys,
            boot_id,
            open: None,
            pending: None,
            changed: false,
            reply_due: Instant::from_micros(0),
            replies: 0,
            word_due: false,
            hint_due: false,
            init_from: Instant::from_micros(0),
            init_ms: INIT_GAP_MS,
            hint_from: Instant::from_micros(0),
            hint_ms: HINT_MS,
            faults: 0,
            stats: SecureStats::NONE,
        }
    }

    /// Who is at the other end now, when that channel is new since the last call: [`LinkProof::boot_id`] and name tell
    /// whether it is the same start of the same peer, whose session may go on. Nothing passes before this was asked.
    pub fn take_change(&mut self) -> Option<&LinkProof> {
        if !core::mem::take(&mut self.changed) {
            return None;
        }
        self.proof()
    }

    /// Closes the channel when its key is no longer among the owner's, or is another one under the same name and id; a
    /// channel that waits is asked about when it is confirmed.
    pub fn recheck(&mut self) {
        if self.open.as_ref().is_some_and(|open| !is_held(&mut self.keys, &open.key)) {
            self.close();
        }
    }

    /// Closes the channel, and forgets the one that waits: a key was taken away, or the line was unplugged.
    pub fn close(&mut self) {
        (self.open, self.pending) = (None, None);
        (self.changed, self.word_due) = (false, false);
    }

    /// The keys, to look at.
    pub const fn keys(&self) -> &K {
        &self.keys
    }

    /// The keys, to change them; an open channel stays as it is, see [`Accepting::recheck`].
    pub const fn keys_mut(&mut self) -> &mut K {
        &mut self.keys
    }

    /// Forgets a handshake that was not confirmed in time.
    fn drop_late(&mut self, now: Instant) {
        self.pending.take_if(|pending| pending.until <= now);
    }

    fn handle_init(&mut self, init: &Init<'_>, now: Instant) {
        self.drop_late(now);
        if self.pending.as_ref().is_some_and(|pending| pending.is_of(init)) {
            // Said again, because the answer was late or lost: that goes on then.
            self.replies = REPLIES;
            return;
        }
        let name = ascii(init.name).unwrap_or_default();
        if !self.keys.find(name, init.key_id).is_some_and(|key| is_proven(key, name, init)) {
            return count(&mut self.stats.refused);
        }
        if now < self.init_from {
            return;
        }
        self.init_from = now.plus_millis(self.init_ms);
        let Some(nonce) = self.keys.fresh_nonce() else { return };
        let ours = Side { nonce, boot_id: self.boot_id };
        let Some(key) = self.keys.find(name, init.key_id) else { return };
        self.pending = Pending::new(key, init, ours, now.plus_millis(PENDING_MS));
        (self.reply_due, self.replies) = (now, REPLIES);
        self.init_ms = (self.init_ms * 2).min(MAX_INIT_GAP_MS);
    }

    fn handle_data(&mut self, low: u16, frame: &mut [u8], now: Instant) -> Option<usize> {
        let fault = match self.open.as_mut().map(|open| open.channel.open(low, frame)) {
            Some(Ok(len)) => {
                self.faults = 0;
                // Of an end that has not heard this one yet.
                self.word_due |= len == 0;
                return (len > 0).then_some(len);
            }
            Some(Err(fault)) => fault,
            None => Fault::Bad,
        };
        self.drop_late(now);
        if self.pending.as_mut().is_some_and(|pending| pending.open.channel.open(low, frame).is_ok()) {
            self.change();
        } else {
            self.handle_fault(fault, frame, now);
        }
        None
    }

    /// The pending channel was confirmed. What the frame that did it carries is not handed out: usually nothing.
    fn change(&mut self) {
        let Some(Pending { open, .. }) = self.pending.take() else { return };
        // It may have been taken away since it was shown.
        if !is_held(&mut self.keys, &open.key) {
            return count(&mut self.stats.refused);
        }
        count(&mut self.stats.handshakes);
        if self.proof() == Some(&open.proof) {
            count(&mut self.stats.rekeys);
        }
        self.open = Some(open);
        (self.changed, self.word_due, self.hint_due) = (true, true, false);
        (self.faults, self.hint_ms, self.init_ms) = (0, HINT_MS, INIT_GAP_MS);
        self.init_from = Instant::default();
    }

    fn handle_fault(&mut self, fault: Fault, frame: &[u8], now: Instant) {
        if is_plain(frame) {
            return count(&mut self.stats.unkeyed);
        }
        self.stats.count_fault(fault);
        self.faults = self.faults.saturating_add(1);
        let is_lost = self.open.is_none() && self.pending.is_none();
        if (is_lost || self.faults >= BURST) && now >= self.hint_from {
            self.hint_due = true;
            self.faults = 0;
            self.hint_from = now.plus_millis(self.hint_ms);
            self.hint_ms = (self.hint_ms * 2).min(MAX_HINT_MS);
        }
    }
}

impl<K: LinkKeys> SecureEnd for Accepting<K> {
    const OVERHEAD: usize = HEAD_LEN + AnySuite::MAX_TAG;

    fn handle_frame(&mut self, frame: &mut [u8], now: Instant) -> Option<usize> {
        match Frame::read(frame) {
            Some(Frame::Data(low)) => return self.handle_data(low, frame, now),
            Some(Frame::Init(init)) => self.handle_init(&init, now),
            Some(Frame::Reply(_) | Frame::Rekey) => self.stats.count_fault(Fault::Bad),
            None if is_plain(frame) => count(&mut self.stats.unkeyed),
            None => self.stats.count_fault(Fault::Bad),
        }
        None
    }

    fn seal(&mut self, frame: &mut [u8], len: usize) -> Option<usize> {
        if self.changed {
            return None;
        }
        self.open.as_mut()?.channel.seal(frame, len)
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> usize {
        if core::mem::take(&mut self.word_due) {
            return self.open.as_mut().and_then(|open| open.channel.seal(out, 0)).unwrap_or(0);
        }
        self.drop_late(now);
        if let Some(pending) = self.pending.as_ref().filter(|_| self.replies > 0 && now >= self.reply_due) {
            self.replies -= 1;
            self.reply_due = now.plus_millis(REPLY_MS);
            return pending.reply.write(out);
        }
        if core::mem::take(&mut self.hint_due) { write_rekey(out) } else { 0 }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.word_due || self.hint_due {
            return Some(Instant::default());
        }
        (self.pending.is_some() && self.replies > 0).then_some(self.reply_due)
    }

    fn proof(&self) -> Option<&LinkProof> {
        self.open.as_ref().map(|open| &open.proof)
    }

    fn is_open(&self) -> bool {
        !self.changed && self.open.as_ref().is_some_and(|open| open.channel.has_counters())
    }

    fn holds(&self) -> bool {
        self.changed
    }

    fn stats(&self) -> SecureStats {
        self.stats
    }
}

impl<K> core::fmt::Debug for Accepting<K> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let peer = self.open.as_ref().map(|open| &open.proof);
        f.debug_struct("Accepting").field("peer", &peer).field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// What an accepting end asks of its owner.
pub trait LinkKeys {
    /// The key of the peer `name` with this id. Several ids of one name may be valid at once.
    fn find(&mut self, name: &str, id: u8) -> Option<&LinkKey>;

    /// 16 bytes from a good random source, new at each call; `None` when there are none to be had: then nobody gets in.
    fn fresh_nonce(&mut self) -> Option<[u8; 16]>;
}

struct Open {
    channel: Channel<AnySuite>,
    proof: LinkProof,
    /// What it was made with.
    key: LinkKey,
}

/// A handshake that was answered and not yet confirmed.
struct Pending {
    nonce: [u8; NONCE_LEN],
    open: Open,
    reply: Reply,
    /// It is confirmed before this, or never.
    until: Instant,
}

impl Pending {
    fn new(key: &LinkKey, init: &Init<'_>, ours: Side, until: Instant) -> Option<Self> {
        let keys = ChannelKeys::new(key, init.side, ours);
        let channel = Channel::new(key.suite(), &keys.down, &keys.up, LAST_COUNTER)?;
        let proof = LinkProof::new(key.name(), key, init.side.boot_id);
        let reply = Reply { key_id: key.id(), side: ours, confirmation: keys.confirmation };
        let open = Open { channel, proof, key: key.copy() };
        Some(Self { nonce: init.side.nonce, open, reply, until })
    }

    /// Whether it came of this very INIT.
    fn is_of(&self, init: &Init<'_>) -> bool {
        let proof = &self.open.proof;
        (self.nonce, proof.boot_id(), proof.key_id()) == (init.side.nonce, init.side.boot_id, init.key_id)
            && proof.name().as_bytes() == init.name
    }
}

/// Whether whoever wrote the INIT has the key, and that is the one it tells of.
fn is_proven(key: &LinkKey, name: &str, init: &Init<'_>) -> bool {
    key.name() == name && key.id() == init.key_id && prove_init(key, init.body).ct_eq(&init.proof).into()
}

/// Whether the owner of `keys` still has this very key.
fn is_held(keys: &mut impl LinkKeys, key: &LinkKey) -> bool {
    keys.find(key.name(), key.id()).is_some_and(|held| held.is_same(key))
}

/// Whether a frame is what an end says first that knows no key: a hello, or the question who is there. One that is
/// tagged has more behind the identity.
fn is_plain(frame: &[u8]) -> bool {
    let Ok(message) = codec::decode(frame) else { return false };
    let is_first = |to: Address<'_>| [bus::HELLO, bus::IDENTITY].contains(&to.as_str());
    message.destination.is_some_and(is_first) && Identity::read(message.payload.as_bytes()).is_some()
}

/// Between two INITs that are answered: recordings of them can be played back.
const INIT_GAP_MS: u32 = 20;
/// The same when none of those that were answered is confirmed.
const MAX_INIT_GAP_MS: u32 = 640;
/// From an INIT to the frame that confirms what came of it. The other end has heard the REPLY by then, or says INIT again.
const PENDING_MS: u32 = 10_000;
/// Between two of the same REPLY.
const REPLY_MS: u32 = 250;
/// Times that it is said, after each INIT.
const REPLIES: u8 = 8;
/// Between two hints, at first.
const HINT_MS: u32 = 250;
/// At last.
const MAX_HINT_MS: u32 = 4_000;
/// Faults in a row after which the keys may be at fault.
const BURST: u8 = 8;
