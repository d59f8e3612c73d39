//! What waits for a peer that does not read fast enough: by priority, charged by the byte, thinned by subscription.

use std::collections::VecDeque;

use visorbus_core::MessagePriority;
use visorbus_core::bus::SlowConsumer;

/// Frames that wait for one peer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lanes: [VecDeque<Waiting>; 4],
    bytes: usize,
}

/// One frame that waits.
#[derive(Debug)]
struct Waiting {
    frame: Box<[u8]>,
    topic: Option<(u32, Box<str>)>,
}

/// What became of a frame that was to wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It waits; so many of its subscription went for it.
    Waits { dropped: u32 },
    /// There is no room for it, and nothing that may go.
    Full,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets a frame wait that must not be lost.
    pub(crate) fn push(&mut self, frame: Box<[u8]>, priority: MessagePriority, limit: usize) -> Queued {
        if self.bytes + frame.len() > limit {
            return Queued::Full;
        }
        self.bytes += frame.len();
        self.lanes[priority as usize].push_back(Waiting { frame, topic: None });
        Queued::Waits { dropped: 0 }
    }

    /// Lets a notification on `topic` wait for subscription `subscription`, under that subscription's policy.
    pub(crate) fn push_topic(
        &mut self,
        frame: Box<[u8]>,
        priority: MessagePriority,
        limit: usize,
        subscription: u32,
        topic: &str,
        policy: SlowConsumer,
    ) -> Queued {
        let keep = match policy {
            SlowConsumer::Latest => return self.replace(frame, priority, limit, subscription, topic),
            SlowConsumer::DropOldest(keep) => keep.max(1) as usize,
            SlowConsumer::Disconnect => usize::MAX,
        };
        let mut dropped = 0;
        let of_subscription =
            |waiting: &Waiting| waiting.topic.as_ref().is_some_and(|(number, _)| *number == subscription);
        loop {
            let waiting = self.lanes.iter().flatten().filter(|waiting| of_subscription(waiting)).count();
            if waiting < keep && self.bytes + frame.len() <= limit {
                break;
            }
            if waiting == 0 || policy == SlowConsumer::Disconnect || !self.drop_first(of_subscription) {
                return Queued::Full;
            }
            dropped += 1;
        }
        self.bytes += frame.len();
        self.lanes[priority as usize].push_back(Waiting { frame, topic: Some((subscription, topic.into())) });
        Queued::Waits { dropped }
    }

    /// The frame that goes next, by priority and age.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.lanes.iter().rev().find_map(VecDeque::front).map(|waiting| &*waiting.frame)
    }

    /// Takes away what [`Queue::front`] showed.
    pub(crate) fn pop(&mut self) {
        if let Some(waiting) = self.lanes.iter_mut().rev().find_map(VecDeque::pop_front) {
            self.bytes -= waiting.frame.len();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn replace(
        &mut self,
        frame: Box<[u8]>,
        priority: MessagePriority,
        limit: usize,
        subscription: u32,
        topic: &str,
    ) -> Queued {
        let same = |waiting: &Waiting| {
            waiting.topic.as_ref().is_some_and(|(number, text)| *number == subscription && **text == *topic)
        };
        let dropped = u32::from(self.drop_first(same));
        if self.bytes + frame.len() > limit {
            return Queued::Full;
        }
        self.bytes += frame.len();
        self.lanes[priority as usize].push_back(Waiting { frame, topic: Some((subscription, topic.into())) });
        Queued::Waits { dropped }
    }

    /// Drops the oldest frame, lowest priority first, that `which` selects.
    fn drop_first(&mut self, which: impl Fn(&Waiting) -> bool) -> bool {
        for lane in &mut self.lanes {
            if let Some(at) = lane.iter().position(&which) {
                if let Some(waiting) = lane.remove(at) {
                    self.bytes -= waiting.frame.len();
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Box<[u8]> {
        Box::new([byte; 10])
    }

    fn drain(queue: &mut Queue) -> Vec<u8> {
        let mut order = Vec::new();
        while let Some(front) = queue.front() {
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
            assert_eq!(queue.push(frame(byte), priority, 1000), Queued::Waits { dropped: 0 });
        }
        assert_eq!(drain(&mut queue), [3, 2, 4, 1]);
    }

    #[test]
    fn what_must_not_be_lost_is_refused_when_the_limit_is_reached() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(frame(1), MessagePriority::Normal, 15), Queued::Waits { dropped: 0 });
        assert_eq!(queue.push(frame(2), MessagePriority::Critical, 15), Queued::Full);
        assert_eq!(drain(&mut queue), [1]);
    }

    #[test]
    fn latest_keeps_one_of_each_topic() {
        let mut queue = Queue::default();
        let mut push = |byte, topic| {
            queue.push_topic(frame(byte), MessagePriority::Normal, 1000, 0, topic, SlowConsumer::Latest)
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
        queue.push_topic(frame(9), MessagePriority::Normal, 1000, 7, "b/x", two);
        for byte in 1..=4 {
            queue.push_topic(frame(byte), MessagePriority::Normal, 1000, 0, "a/x", two);
        }
        assert_eq!(drain(&mut queue), [9, 3, 4]);
    }

    #[test]
    fn drop_oldest_gives_way_to_the_byte_limit_and_disconnect_does_not() {
        let mut queue = Queue::default();
        for byte in 1..=4 {
            queue.push_topic(
                frame(byte),
                MessagePriority::Normal,
                25,
                0,
                "a/x",
                SlowConsumer::DropOldest(100),
            );
        }
        assert_eq!(drain(&mut queue), [3, 4]);
        for byte in 1..=2 {
            queue.push_topic(frame(byte), MessagePriority::Normal, 25, 0, "a/x", SlowConsumer::Disconnect);
        }
        let third =
            queue.push_topic(frame(3), MessagePriority::Normal, 25, 0, "a/x", SlowConsumer::Disconnect);
        assert_eq!(third, Queued::Full);
    }
}
