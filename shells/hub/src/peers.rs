//! All peers of a hub: one slot for each connection, and what goes to them.

use std::collections::hash_map::Entry;

use slotmap::SlotMap;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::{ErrorKind, Instant, MessagePriority};

use crate::HashMap;
use crate::config::Limits;
use crate::link::Goodbye;
use crate::peer::{Flushed, Peer, Presence, Subscription, first};
use crate::queue::{Queued, Timed};
use crate::tally::{Counters, Failed, Given};

slotmap::new_key_type! {
    /// Names a peer's slot; never names another peer later.
    pub(crate) struct PeerKey;
}

/// All peers, and what is to be done for some of them at the end of a turn.
#[derive(Default)]
pub(crate) struct Peers {
    slots: SlotMap<PeerKey, Peer>,
    /// How many are of each user of this machine.
    of_user: HashMap<u32, usize>,
    /// Peers to which something was sent that is not written yet.
    dirty: Vec<PeerKey>,
    /// Peers that are to be parted from at the end of this turn.
    ending: Vec<(PeerKey, End)>,
    /// What those who left had counted.
    gone: Counters,
    /// What was refused, by the code of its error's kind.
    pub(crate) refusals: Failed,
    /// Notifications that were given to subscribers, or wait for them, and that subscribers missed.
    pub(crate) given: Given,
    queue_bytes: usize,
    hub_max_frame: u32,
    /// When this turn of the loop began.
    pub(crate) now: Instant,
}

/// How a peer is parted from, and why.
#[derive(Debug)]
pub(crate) enum End {
    /// Its link is over: nothing reaches it any more.
    LinkOver(String),
    /// The hub does not go on with it: it is told why.
    Dismissed(Goodbye, String),
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The peer is gone, or goes at the end of this turn.
    Gone,
    /// So many bytes wait for it already.
    Full { waiting: usize },
    /// It takes frames of at most this many bytes.
    TooLong { max: usize },
}

impl Peers {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { queue_bytes: limits.queue_bytes, hub_max_frame: limits.max_frame, ..Self::default() }
    }

    pub(crate) fn insert(&mut self, peer: Peer) -> PeerKey {
        if let Some(uid) = peer.origin.counted_as() {
            *self.of_user.entry(uid).or_default() += 1;
        }
        self.slots.insert(peer)
    }

    pub(crate) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.slots.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.slots.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        let peer = self.slots.remove(key)?;
        self.gone.add(&peer.counters);
        let uid = peer.origin.counted_as();
        if let Some(Entry::Occupied(mut count)) = uid.map(|uid| self.of_user.entry(uid)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(peer)
    }

    /// What all have counted, those who left among them.
    pub(crate) fn counted(&self) -> Counters {
        let mut all = self.gone.clone();
        self.slots.values().for_each(|peer| all.add(&peer.counters));
        all
    }

    /// Counts a message of a peer's that was refused.
    pub(crate) fn refuse(&mut self, key: PeerKey, kind: ErrorKind) {
        self.refusals[usize::from(kind.code())] += 1;
        if let Some(peer) = self.slots.get_mut(key) {
            peer.counters.refused += 1;
        }
    }

    /// Counts what was refused to somebody who is no peer.
    pub(crate) fn refuse_nobody(&mut self, kind: ErrorKind) {
        self.refusals[usize::from(kind.code())] += 1;
    }

    /// How many connections a user of this machine has.
    pub(crate) fn of_user(&self, uid: u32) -> usize {
        self.of_user.get(&uid).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.slots.iter()
    }

    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.slots.keys().collect()
    }

    /// Parts from a peer at the end of this turn; until then nothing more is taken from it or sent to it.
    pub(crate) fn dismiss(&mut self, key: PeerKey, why: impl Into<String>) {
        self.dismiss_as(key, Goodbye::Refused, why);
    }

    /// As [`Peers::dismiss`], where the transport is told of another reason than that the peer may not stay.
    pub(crate) fn dismiss_as(&mut self, key: PeerKey, kind: Goodbye, why: impl Into<String>) {
        if self.leave(key) {
            self.ending.push((key, End::Dismissed(kind, why.into())));
        }
    }

    /// As [`Peers::dismiss`], of a peer whose link is over.
    pub(crate) fn lose(&mut self, key: PeerKey, error: &std::io::Error) {
        if self.leave(key) {
            self.ending.push((key, End::LinkOver(closed_text(error))));
        }
    }

    pub(crate) fn take_ending(&mut self) -> Option<(PeerKey, End)> {
        self.ending.pop()
    }

    pub(crate) fn take_dirty(&mut self) -> Option<PeerKey> {
        let key = self.dirty.pop()?;
        if let Some(peer) = self.slots.get_mut(key) {
            peer.dirty = false;
        }
        Some(key)
    }

    /// Sends a frame, in two parts, that must not be lost: at once where nothing waits, else after what waits.
    pub(crate) fn send(
        &mut self,
        key: PeerKey,
        head: &[u8],
        payload: &[u8],
        priority: MessagePriority,
        at_once: bool,
    ) -> Result<(), Unsent> {
        self.send_frame(key, &Frame { head, payload, priority, at_once, call: None })
    }

    /// As [`Peers::send`], of a frame that may be a request with its deadline.
    pub(crate) fn send_frame(&mut self, key: PeerKey, frame: &Frame<'_>) -> Result<(), Unsent> {
        let Frame { head, payload, priority, at_once, call } = *frame;
        let limit = self.queue_bytes;
        if self.try_send(key, head, payload, at_once)? {
            return Ok(());
        }
        let fits = |peer: &Peer| peer.queue.fits(head.len() + payload.len(), limit);
        if !self.slots.get(key).is_some_and(fits) {
            // It counts as not reading only when its link has just said so.
            self.flush(key);
            if self.try_send(key, head, payload, at_once)? {
                return Ok(());
            }
        }
        let Some(peer) = self.slots.get_mut(key) else { return Err(Unsent::Gone) };
        match peer.queue.push(join(head, payload), priority, call, limit, self.now) {
            Queued::Waits { .. } => Ok(()),
            Queued::Full { .. } => Err(Unsent::Full { waiting: peer.queue.bytes() }),
        }
    }

    /// Sends a notification under the policy of the peer's subscription `number`, while that is still allowed.
    pub(crate) fn publish(&mut self, key: PeerKey, number: u32, notice: &Notice<'_>) {
        let limit = self.queue_bytes;
        let own = |subscription: &&mut Subscription| subscription.number == number;
        let subscriptions = self.slots.get_mut(key).map(|peer| &mut peer.subscriptions);
        let subscription = subscriptions.and_then(|all| all.iter_mut().find(own));
        if subscription.is_none_or(|subscription| subscription.until <= notice.unix_s) {
            return;
        }
        let sent = self.try_send(key, notice.head, notice.payload, notice.at_once);
        let Some(peer) = self.slots.get_mut(key) else { return };
        let Some(subscription) = peer.subscriptions.iter_mut().find(own) else { return };
        let dropped = match sent {
            Ok(true) => {
                self.given.deliveries += 1;
                return;
            }
            Err(Unsent::Gone) => return,
            Err(_) => 1,
            Ok(false) => {
                let frame = join(notice.head, notice.payload);
                let topic = (number, notice.topic);
                match peer.queue.push_topic(
                    frame,
                    notice.priority,
                    limit,
                    topic,
                    subscription.policy,
                    self.now,
                ) {
                    Queued::Waits { dropped } => {
                        self.given.deliveries += 1;
                        dropped
                    }
                    Queued::Full { .. } if subscription.policy == SlowConsumer::Disconnect => {
                        let why = format!(
                            "it does not read: {} bytes wait and its subscription '{}' asks to be disconnected then",
                            peer.queue.bytes(),
                            subscription.pattern
                        );
                        return self.dismiss(key, why);
                    }
                    Queued::Full { dropped } => dropped + 1,
                }
            }
        };
        subscription.missed = subscription.missed.saturating_add(dropped);
        peer.counters.missed += u64::from(dropped);
        self.given.missed += u64::from(dropped);
    }

    /// Counts a notification that a peer's subscription `number` cannot have, to tell it of.
    pub(crate) fn miss(&mut self, key: PeerKey, number: u32) {
        let Some(peer) = self.slots.get_mut(key) else { return };
        let Some(subscription) = peer.subscription_mut(number) else { return };
        subscription.missed = subscription.missed.saturating_add(1);
        peer.counters.missed += 1;
        self.given.missed += 1;
        self.touch(key);
    }

    /// Whether a notification of at least `len` bytes could still reach a peer through its subscription `number`, or has to
    /// end it: not where the peer does not read, as much waits for it as may, and nothing of that can go for it.
    pub(crate) fn could_take(&self, key: PeerKey, number: u32, len: usize) -> bool {
        let Some(peer) = self.slots.get(key) else { return false };
        let Some(subscription) = peer.subscriptions.iter().find(|one| one.number == number) else {
            return false;
        };
        let is_full = peer.stuck && !peer.queue.fits(len, self.queue_bytes);
        !is_full || subscription.policy == SlowConsumer::Disconnect || peer.queue.waiting_of(number) > 0
    }

    /// The longest frame that may go to a peer.
    pub(crate) fn max_frame(&self, key: PeerKey) -> usize {
        self.slots.get(key).map_or(0, |peer| peer.max_frame(self.hub_max_frame))
    }

    /// Writes what waits for a peer as far as it goes.
    pub(crate) fn flush(&mut self, key: PeerKey) -> Flushed {
        let now = self.now;
        let Some(peer) = self.slots.get_mut(key) else { return Flushed::default() };
        peer.flush(now).unwrap_or_else(|error| {
            self.lose(key, &error);
            Flushed::default()
        })
    }

    /// Has a peer's link flushed at the end of this turn: it may have something of its own to say.
    pub(crate) fn touch(&mut self, key: PeerKey) {
        if let Some(peer) = self.slots.get_mut(key).filter(|peer| !peer.dirty) {
            peer.dirty = true;
            self.dirty.push(key);
        }
    }

    /// `false` when it has to wait.
    fn try_send(&mut self, key: PeerKey, head: &[u8], payload: &[u8], at_once: bool) -> Result<bool, Unsent> {
        let len = head.len() + payload.len();
        let Some(mut peer) = self.slots.get_mut(key) else { return Err(Unsent::Gone) };
        let max = peer.max_frame(self.hub_max_frame);
        if len > max {
            return Err(Unsent::TooLong { max });
        }
        if peer.watched.is_none() || peer.presence != Presence::Here {
            return Err(Unsent::Gone);
        }
        if !peer.has_room(head, len) {
            let is_stuck = peer.stuck;
            self.touch(key);
            // The link may only not have been asked to write since this turn began.
            if is_stuck {
                return Ok(false);
            }
            self.flush(key);
            peer = match self.slots.get_mut(key) {
                Some(peer) if peer.presence == Presence::Here => peer,
                _ => return Err(Unsent::Gone),
            };
            if !peer.has_room(head, len) {
                return Ok(false);
            }
        }
        peer.counters.gives(first(head), len);
        let sent = peer.link.send(head, payload, at_once);
        let is_done = peer.link.is_idle() && !peer.misses_any();
        if !is_done && !peer.dirty {
            peer.dirty = true;
            self.dirty.push(key);
        }
        sent.map(|()| true).map_err(|error| {
            self.lose(key, &error);
            Unsent::Gone
        })
    }

    /// `false` when it is leaving, or gone, already.
    pub(crate) fn leave(&mut self, key: PeerKey) -> bool {
        let here = self.slots.get_mut(key).filter(|peer| peer.presence == Presence::Here);
        here.map(|peer| peer.presence = Presence::Leaving).is_some()
    }
}

/// A frame that must not be lost.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'m> {
    pub(crate) head: &'m [u8],
    pub(crate) payload: &'m [u8],
    pub(crate) priority: MessagePriority,
    pub(crate) at_once: bool,
    /// Of a request that somebody waits for.
    pub(crate) call: Option<Timed>,
}

/// A notification on its way to its subscribers.
pub(crate) struct Notice<'m> {
    pub(crate) topic: &'m str,
    pub(crate) head: &'m [u8],
    pub(crate) payload: &'m [u8],
    pub(crate) priority: MessagePriority,
    pub(crate) at_once: bool,
    /// The time, for what is allowed until then.
    pub(crate) unix_s: u64,
}

/// Why a link ended, for people.
fn closed_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the other end closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

fn join(head: &[u8], payload: &[u8]) -> Box<[u8]> {
    [head, payload].concat().into()
}
