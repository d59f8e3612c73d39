//! What waits for a peer that does not read fast enough: by priority, charged by the byte, thinned by subscription.
//!
//! Nothing here takes longer the more there waits, but for a logarithm: a peer that does not read must cost the others
//! no time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use visorbus_core::bus::SlowConsumer;
use visorbus_core::{Instant, MessagePriority};

use crate::calls::CallKey;

/// Frames that wait for one peer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    frames: BTreeMap<Place, Waiting>,
    /// Where the notifications of each subscription stand in `frames`.
    subscriptions: HashMap<u32, Held>,
    /// Where the requests stand that somebody waits for.
    calls: HashMap<CallKey, Place>,
    bytes: usize,
    next: u64,
}

/// Where a frame stands: how far its priority is below the highest, then its number. The first goes next.
type Place = (u8, u64);

/// One frame that waits.
#[derive(Debug)]
struct Waiting {
    frame: Box<[u8]>,
    /// Where the frame begins; what is before that was left over when its timeout got shorter.
    start: usize,
    topic: Option<(u32, Box<str>)>,
    call: Option<Timed>,
    since: Instant,
}

/// A request that somebody waits for, and where its frame says for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    key: CallKey,
    deadline: Instant,
    /// Where the varint of its timeout begins and ends.
    at: usize,
    end: usize,
}

impl Timed {
    /// Of a request with a header of `head` bytes, in which only the token comes after the timeout.
    pub(crate) fn new(
        key: CallKey,
        deadline: Instant,
        timeout_ms: u32,
        head: usize,
        token: Option<&[u8]>,
    ) -> Self {
        let token = token.map_or(0, |token| varint_len(token.len() as u32) + token.len());
        let end = head - token;
        Self { key, deadline, at: end - varint_len(timeout_ms), end }
    }
}

impl Waiting {
    /// Writes how long the caller still waits in the place of how long it did. The varint may have become shorter: then
    /// what is before it moves up.
    fn shorten(&mut self, now: Instant) {
        let Some(call) = &mut self.call else { return };
        let left = call.deadline.as_micros().saturating_sub(now.as_micros()) / 1000;
        let mut left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
        let at = call.end - varint_len(left);
        // The time left never gets longer.
        let moves = at.saturating_sub(call.at);
        self.frame.copy_within(self.start..call.at, self.start + moves);
        (self.start, call.at) = (self.start + moves, at);
        for place in &mut self.frame[at..call.end] {
            *place = left as u8 | 0x80;
            left >>= 7;
        }
        self.frame[call.end - 1] &= 0x7f;
    }
}

/// What waits of one subscription.
#[derive(Debug, Default)]
struct Held {
    places: BTreeSet<Place>,
    /// The newest of each topic.
    newest: HashMap<Box<str>, Place>,
}

/// What became of a frame that was to wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It waits; so many of its subscription went for it.
    Waits { dropped: u32 },
    /// There is no room for it: so many of its subscription went in vain, and nothing more may go.
    Full { dropped: u32 },
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait, and what it costs to keep them.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets a frame wait that must not be lost.
    pub(crate) fn push(
        &mut self,
        frame: Box<[u8]>,
        priority: MessagePriority,
        call: Option<Timed>,
        limit: usize,
        now: Instant,
    ) -> Queued {
        if !self.fits(frame.len(), limit) {
            return Queued::Full { dropped: 0 };
        }
        self.insert(Waiting { frame, start: 0, topic: None, call, since: now }, priority);
        Queued::Waits { dropped: 0 }
    }

    /// Lets a notification wait, given with its subscription and its topic, under that subscription's policy.
    pub(crate) fn push_topic(
        &mut self,
        frame: Box<[u8]>,
        priority: MessagePriority,
        limit: usize,
        (subscription, topic): (u32, &str),
        policy: SlowConsumer,
        now: Instant,
    ) -> Queued {
        let mut dropped = 0;
        match policy {
            SlowConsumer::Latest => dropped = u32::from(self.drop_newest_of(subscription, topic)),
            SlowConsumer::DropOldest(keep) => {
                let keep = keep.max(1) as usize;
                while self.waiting_of(subscription) >= keep || !self.fits(frame.len(), limit) {
                    if !self.drop_oldest_of(subscription) {
                        break;
                    }
                    dropped += 1;
                }
            }
            SlowConsumer::Disconnect => {}
        }
        if !self.fits(frame.len(), limit) {
            return Queued::Full { dropped };
        }
        let topic = Some((subscription, topic.into()));
        self.insert(Waiting { frame, start: 0, topic, call: None, since: now }, priority);
        Queued::Waits { dropped }
    }

    /// The frame that goes next, by priority and age. A request says how long its caller still waits; those whose
    /// callers do not any more are gone.
    #[inline]
    pub(crate) fn front(&mut self, now: Instant) -> Option<&[u8]> {
        if self.frames.is_empty() { None } else { self.first(now) }
    }

    fn first(&mut self, now: Instant) -> Option<&[u8]> {
        while let Some(mut first) = self.frames.first_entry()
            && first.get().call.is_some_and(|call| call.deadline <= now)
        {
            // Its entry in `calls` stays: who ends the call at this deadline learns from it that nothing was sent.
            first.get_mut().call = None;
            self.pop();
        }
        let waiting = self.frames.first_entry()?.into_mut();
        waiting.shorten(now);
        waiting.frame.get(waiting.start..)
    }

    /// Takes away what [`Queue::front`] showed; since when it has waited.
    pub(crate) fn pop(&mut self) -> Option<Instant> {
        let place = *self.frames.keys().next()?;
        self.remove(place)
    }

    /// Takes a request back that nobody waits for any more; `false` when it has left.
    pub(crate) fn cancel(&mut self, call: CallKey) -> bool {
        let place = self.calls.remove(&call);
        place.map(|place| self.remove(place)).is_some()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a frame of `len` bytes may wait within `limit`.
    pub(crate) const fn fits(&self, len: usize, limit: usize) -> bool {
        self.bytes + len + KEEPING <= limit
    }

    pub(crate) fn waiting_of(&self, subscription: u32) -> usize {
        self.subscriptions.get(&subscription).map_or(0, |held| held.places.len())
    }

    /// Drops the oldest of a subscription, lowest priority first; `false` when none waits.
    fn drop_oldest_of(&mut self, subscription: u32) -> bool {
        let held = self.subscriptions.get(&subscription);
        let oldest = held.and_then(|held| {
            let lowest = held.places.last()?.0;
            held.places.range((lowest, 0)..).next().copied()
        });
        oldest.map(|place| self.remove(place)).is_some()
    }

    /// Drops the newest of a subscription on `topic`; `false` when none waits.
    fn drop_newest_of(&mut self, subscription: u32, topic: &str) -> bool {
        let held = self.subscriptions.get(&subscription);
        let newest = held.and_then(|held| held.newest.get(topic).copied());
        newest.map(|place| self.remove(place)).is_some()
    }

    fn insert(&mut self, waiting: Waiting, priority: MessagePriority) {
        let place = (MessagePriority::Critical as u8 - priority as u8, self.next);
        self.next += 1;
        self.bytes += waiting.frame.len() + KEEPING;
        if let Some((subscription, topic)) = &waiting.topic {
            let held = self.subscriptions.entry(*subscription).or_default();
            held.places.insert(place);
            held.newest.insert(topic.clone(), place);
        }
        if let Some(call) = &waiting.call {
            self.calls.insert(call.key, place);
        }
        self.frames.insert(place, waiting);
    }

    /// Takes a frame away; since when it has waited.
    fn remove(&mut self, place: Place) -> Option<Instant> {
        let waiting = self.frames.remove(&place)?;
        self.bytes -= waiting.frame.len() + KEEPING;
        if let Some(call) = &waiting.call {
            self.calls.remove(&call.key);
        }
        let since = Some(waiting.since);
        let Some((subscription, topic)) = waiting.topic else { return since };
        let Some(held) = self.subscriptions.get_mut(&subscription) else { return since };
        held.places.remove(&place);
        if held.newest.get(&topic) == Some(&place) {
            held.newest.remove(&topic);
        }
        if held.places.is_empty() {
            self.subscriptions.remove(&subscription);
        }
        since
    }
}

/// Bytes of a varint.
const fn varint_len(value: u32) -> usize {
    (u32::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// What it costs to keep one frame, in bytes beside its own: small frames must not be free.
const KEEPING: usize = 128;

#[cfg(test)]
mod tests {
    use visorbus_core::message::{Address, Message, MessagePayload};

    use super::*;
    use crate::peers::PeerKey;
    use crate::sending::Head;

    const NOW: Instant = Instant::from_micros(0);

    fn frame(byte: u8) -> Box<[u8]> {
        Box::new([byte; 10])
    }

    /// What one such frame is charged.
    const ONE: usize = 10 + KEEPING;

    fn drain(queue: &mut Queue) -> Vec<u8> {
        let mut order = Vec::new();
        while let Some(front) = queue.front(Instant::default()) {
            order.push(front[0]);
            queue.pop();
        }
        assert_eq!(queue.bytes(), 0);
        order
    }

    #[test]
    fn higher_priority_goes_first_and_equal_in_order() {
        let mut queue = Queue::default();
        for (byte, priority) in [
            (1, MessagePriority::Low),
            (2, MessagePriority::Normal),
            (3, MessagePriority::Critical),
            (4, MessagePriority::Normal),
        ] {
            assert_eq!(queue.push(frame(byte), priority, None, 1000, NOW), Queued::Waits { dropped: 0 });
        }
        assert_eq!(drain(&mut queue), [3, 2, 4, 1]);
    }

    #[test]
    fn what_must_not_be_lost_is_refused_when_the_limit_is_reached() {
        let mut queue = Queue::default();
        assert_eq!(
            queue.push(frame(1), MessagePriority::Normal, None, ONE + 5, NOW),
            Queued::Waits { dropped: 0 }
        );
        assert_eq!(
            queue.push(frame(2), MessagePriority::Critical, None, ONE + 5, NOW),
            Queued::Full { dropped: 0 }
        );
        assert_eq!(drain(&mut queue), [1]);
    }

    #[test]
    fn latest_keeps_one_of_each_topic() {
        let mut queue = Queue::default();
        let mut push = |byte, topic| {
            queue.push_topic(
                frame(byte),
                MessagePriority::Normal,
                1000,
                (0, topic),
                SlowConsumer::Latest,
                NOW,
            )
        };
        assert_eq!(push(1, "a/x"), Queued::Waits { dropped: 0 });
        assert_eq!(push(2, "a/y"), Queued::Waits { dropped: 0 });
        assert_eq!(push(3, "a/x"), Queued::Waits { dropped: 1 });
        assert_eq!(drain(&mut queue), [2, 3]);
    }

    #[test]
    fn drop_oldest_keeps_the_newest_of_its_own_subscription_only() {
        let mut queue = Queue::default();
        let two = SlowConsumer::DropOldest(2);
        queue.push_topic(frame(9), MessagePriority::Normal, 1000, (7, "b/x"), two, NOW);
        for byte in 1..=4 {
            queue.push_topic(frame(byte), MessagePriority::Normal, 1000, (0, "a/x"), two, NOW);
        }
        assert_eq!(drain(&mut queue), [9, 3, 4]);
    }

    #[test]
    fn drop_oldest_gives_way_to_the_byte_limit_and_disconnect_does_not() {
        let mut queue = Queue::default();
        let mut push = |byte, policy| {
            queue.push_topic(frame(byte), MessagePriority::Normal, 2 * ONE, (0, "a/x"), policy, NOW)
        };
        for byte in 1..=4 {
            let dropped = u32::from(byte > 2);
            assert_eq!(push(byte, SlowConsumer::DropOldest(100)), Queued::Waits { dropped });
        }
        assert_eq!(push(5, SlowConsumer::Disconnect), Queued::Full { dropped: 0 });
        assert_eq!(drain(&mut queue), [3, 4]);
    }

    #[test]
    fn what_is_dropped_is_of_the_lowest_priority_first() {
        let mut queue = Queue::default();
        let two = SlowConsumer::DropOldest(2);
        for (byte, priority) in
            [(1, MessagePriority::High), (2, MessagePriority::Low), (3, MessagePriority::Low)]
        {
            queue.push_topic(frame(byte), priority, 1000, (0, "a/x"), two, NOW);
        }
        assert_eq!(drain(&mut queue), [1, 3]);
    }

    #[test]
    fn a_policy_that_changes_while_frames_wait_loses_track_of_none() {
        let mut queue = Queue::default();
        let mut push = |byte, policy| {
            queue.push_topic(frame(byte), MessagePriority::Normal, 1000, (0, "a/x"), policy, NOW)
        };
        push(1, SlowConsumer::DropOldest(9));
        push(2, SlowConsumer::DropOldest(9));
        assert_eq!(push(3, SlowConsumer::Latest), Queued::Waits { dropped: 1 });
        assert_eq!(push(4, SlowConsumer::DropOldest(1)), Queued::Waits { dropped: 2 });
        assert_eq!(drain(&mut queue), [4]);
        assert!(queue.is_empty() && queue.subscriptions.is_empty());
    }

    /// A request with this timeout, whose payload is `after`, and what is known of it.
    fn timed(id: u64, timeout_ms: u32, token: Option<&[u8]>) -> (Box<[u8]>, Timed) {
        let mut message = Message::request(id, Address::literal("imu/x"));
        message.flags.timeout_ms = Some(timeout_ms);
        message.timestamp = Some(1 << 40);
        message.auth_token = token;
        message.payload = MessagePayload::String("after");
        let head = Head::new(&message).unwrap();
        let deadline = Instant::default().plus_millis(timeout_ms);
        let timed = Timed::new((PeerKey::default(), id), deadline, timeout_ms, head.as_slice().len(), token);
        ([head.as_slice(), b"after"].concat().into(), timed)
    }

    #[test]
    fn a_request_says_how_much_time_is_left_and_nothing_else_of_it_changes() {
        for timeout_ms in [1, 2, 127, 128, 300, 16_383, 16_384, 5_000_000, u32::MAX] {
            for token in [None, Some(&[7; 20][..]), Some(&[7; 200])] {
                let mut queue = Queue::default();
                let (frame, timed) = timed(9, timeout_ms, token);
                queue.push(frame.clone(), MessagePriority::Normal, Some(timed), 1000, NOW);
                let before = visorbus_core::decode(&frame).unwrap();
                let last = timeout_ms - 1;
                for waited in [0, timeout_ms / 2, last - last / 9, last] {
                    let now = Instant::default().plus_millis(waited);
                    let front = queue.front(now).unwrap();
                    let now = visorbus_core::decode(front).unwrap();
                    assert_eq!(now.flags.timeout_ms, Some(timeout_ms - waited));
                    assert_eq!(Message { flags: before.flags, ..now }, before);
                }
                queue.pop();
                assert_eq!((queue.bytes(), queue.calls.len()), (0, 0));
            }
        }
    }

    #[test]
    fn a_request_whose_time_is_over_is_gone_and_so_is_one_that_is_taken_back() {
        let mut queue = Queue::default();
        for (id, timeout_ms) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
            let (frame, timed) = timed(id, timeout_ms, None);
            queue.push(frame, MessagePriority::Normal, Some(timed), 10_000, NOW);
        }
        assert!(queue.cancel((PeerKey::default(), 3)));
        assert!(!queue.cancel((PeerKey::default(), 3)));
        let front = queue.front(Instant::default().plus_millis(20)).unwrap();
        assert_eq!(visorbus_core::decode(front).unwrap().id, 4, "the first two are over");
        queue.pop();
        assert!(
            queue.cancel((PeerKey::default(), 1)) && queue.cancel((PeerKey::default(), 2)),
            "they never left"
        );
        assert!(!queue.cancel((PeerKey::default(), 4)), "this one did");
        assert!(queue.is_empty() && queue.calls.is_empty());
        assert_eq!(queue.bytes(), 0);
    }
}
