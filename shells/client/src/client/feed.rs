//! What a subscription has got and nobody has taken yet, bounded by its own policy.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use visorbus_core::bus::SlowConsumer;
use visorbus_core::message::{Address, Pattern};
use visorbus_hub::{Error, OwnedMessage, Result};

/// What a subscription brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// A notification.
    Message(OwnedMessage),
    /// So many notifications were dropped since the last word on it, because this subscriber did not keep up.
    Missed(u32),
}

/// What takes deliveries on the client's own thread.
pub(crate) type Callback = Box<dyn FnMut(Delivery) + Send>;

/// One subscription's queue, between whoever reads and whoever takes the notifications.
pub(crate) struct Feed {
    pub(crate) pattern: String,
    pub(crate) policy: SlowConsumer,
    queue: Mutex<Queue>,
    filled: Condvar,
    callback: Option<Mutex<Callback>>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<OwnedMessage>,
    bytes: usize,
    missed: u32,
    /// Why nothing comes, to be told once.
    refused: Option<Error>,
    /// It is in the worker's list already.
    scheduled: bool,
    ended: Option<Error>,
}

/// What came of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is in the queue, which whoever takes from it knows.
    Queued,
    /// The worker has to be told of the feed.
    Schedule,
    /// The policy wants the session ended rather than anything dropped.
    Overflow,
}

impl Feed {
    pub(crate) fn new(pattern: &str, policy: SlowConsumer, callback: Option<Callback>) -> Self {
        Self {
            pattern: pattern.to_owned(),
            policy,
            queue: Mutex::default(),
            filled: Condvar::new(),
            callback: callback.map(Mutex::new),
        }
    }

    /// Whether it is subscribed to `topic`.
    pub(crate) fn selects(&self, topic: Option<Address<'_>>) -> bool {
        topic.is_some_and(|topic| Pattern::new(&self.pattern).is_ok_and(|pattern| pattern.matches(topic)))
    }

    /// Queues a notification.
    pub(crate) fn offer(&self, message: OwnedMessage) -> Offered {
        let mut queue = self.lock();
        if self.policy == SlowConsumer::Disconnect && queue.is_past(MAX_MESSAGES, message_len(&message)) {
            return Offered::Overflow;
        }
        queue.push(message, self.policy);
        self.tell(&mut queue)
    }

    /// Notes that the hub has dropped `count` notifications.
    pub(crate) fn offer_missed(&self, count: u32) -> Offered {
        let mut queue = self.lock();
        queue.missed = queue.missed.saturating_add(count);
        self.tell(&mut queue)
    }

    /// Notes why what is published does not arrive.
    pub(crate) fn offer_error(&self, error: Error) {
        self.lock().refused = Some(error);
        self.filled.notify_one();
    }

    /// The next delivery, if there is one.
    pub(crate) fn take(&self) -> Result<Option<Delivery>> {
        self.lock().pop()
    }

    /// The next delivery, waiting for it until `deadline`, or for ever.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<Option<Delivery>> {
        let mut queue = self.lock();
        loop {
            if let Some(delivery) = queue.pop()? {
                return Ok(Some(delivery));
            }
            let Some(deadline) = deadline else {
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            let waited = self.filled.wait_timeout(queue, deadline - now);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives what is queued to the callback, at most [`BUDGET`] deliveries; `true` when more is left.
    pub(crate) fn run(&self) -> bool {
        let Some(callback) = &self.callback else { return false };
        // A callback that panicked is called again with the next delivery; its state is its own affair.
        let mut callback = callback.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..BUDGET {
            let mut queue = self.lock();
            let Ok(Some(delivery)) = queue.pop() else {
                queue.scheduled = false;
                return false;
            };
            drop(queue);
            super::worker::guard(|| callback(delivery));
        }
        true
    }

    /// Ends it: what is queued can be taken still, then comes `error`.
    pub(crate) fn end(&self, error: Error) {
        self.lock().ended.get_or_insert(error);
        self.filled.notify_all();
    }

    fn tell(&self, queue: &mut Queue) -> Offered {
        if self.callback.is_none() {
            self.filled.notify_one();
            return Offered::Queued;
        }
        if std::mem::replace(&mut queue.scheduled, true) { Offered::Queued } else { Offered::Schedule }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, message: OwnedMessage, policy: SlowConsumer) {
        let most = match policy {
            SlowConsumer::Latest => MAX_MESSAGES,
            SlowConsumer::DropOldest(most) => usize::try_from(most).unwrap_or(usize::MAX).max(1),
            SlowConsumer::Disconnect => usize::MAX,
        };
        if policy == SlowConsumer::Latest {
            let older = self.messages.iter().position(|held| held.destination == message.destination);
            if let Some(older) = older {
                self.drop_at(older);
            }
        }
        let len = message_len(&message);
        while !self.messages.is_empty() && self.is_past(most, len) {
            self.drop_at(0);
        }
        self.bytes += len;
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Result<Option<Delivery>> {
        if let Some(refused) = self.refused.take_if(|_| self.messages.is_empty()) {
            return Err(refused);
        }
        if self.missed != 0 {
            return Ok(Some(Delivery::Missed(std::mem::take(&mut self.missed))));
        }
        match self.messages.pop_front() {
            Some(message) => {
                self.bytes -= message_len(&message);
                Ok(Some(Delivery::Message(message)))
            }
            None => self.ended.clone().map_or(Ok(None), Err),
        }
    }

    /// Whether one more message, of `len` bytes, would be too much.
    fn is_past(&self, most: usize, len: usize) -> bool {
        self.messages.len() >= most || self.bytes + len > MAX_BYTES
    }

    fn drop_at(&mut self, at: usize) {
        if let Some(message) = self.messages.remove(at) {
            self.bytes -= message_len(&message);
            self.missed = self.missed.saturating_add(1);
        }
    }
}

/// About what a message costs.
fn message_len(message: &OwnedMessage) -> usize {
    size_of::<OwnedMessage>() + message.payload.borrow().as_bytes().len()
}

/// Deliveries to one callback before another's turn.
const BUDGET: usize = 64;
/// What one subscription may hold here, whatever its policy says.
const MAX_MESSAGES: usize = 64 * 1024;
const MAX_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use visorbus_hub::OwnedPayload;

    use super::*;

    fn note(topic: &str, number: u8) -> OwnedMessage {
        OwnedMessage::notification(topic, OwnedPayload::Binary(vec![number]))
    }

    #[test]
    fn drop_oldest_keeps_the_newest_and_says_how_many_went() {
        let feed = Feed::new("a/*", SlowConsumer::DropOldest(2), None);
        for number in 0..5 {
            assert_eq!(feed.offer(note("a/b", number)), Offered::Queued);
        }
        assert_eq!(feed.take().unwrap(), Some(Delivery::Missed(3)));
        assert_eq!(feed.take().unwrap(), Some(Delivery::Message(note("a/b", 3))));
        assert_eq!(feed.take().unwrap(), Some(Delivery::Message(note("a/b", 4))));
        assert_eq!(feed.take().unwrap(), None);
    }

    #[test]
    fn latest_keeps_one_of_each_topic() {
        let feed = Feed::new("a/*", SlowConsumer::Latest, None);
        for (topic, number) in [("a/b", 1), ("a/c", 2), ("a/b", 3)] {
            feed.offer(note(topic, number));
        }
        assert_eq!(feed.take().unwrap(), Some(Delivery::Missed(1)));
        assert_eq!(feed.take().unwrap(), Some(Delivery::Message(note("a/c", 2))));
        assert_eq!(feed.take().unwrap(), Some(Delivery::Message(note("a/b", 3))));
    }

    #[test]
    fn a_subscriber_that_wants_everything_overflows_instead_of_dropping() {
        let feed = Feed::new("a/*", SlowConsumer::Disconnect, None);
        let big = OwnedMessage::notification("a/b", OwnedPayload::Binary(vec![0; 1 << 20]));
        let queued = (0..100).take_while(|_| feed.offer(big.clone()) == Offered::Queued).count();
        assert_eq!(queued, 15);
    }

    #[test]
    fn one_that_holds_too_many_bytes_drops_by_bytes() {
        let feed = Feed::new("a/*", SlowConsumer::default(), None);
        for _ in 0..20 {
            feed.offer(OwnedMessage::notification("a/b", OwnedPayload::Binary(vec![0; 1 << 20])));
        }
        assert_eq!(feed.take().unwrap(), Some(Delivery::Missed(5)));
    }

    #[test]
    fn what_was_queued_before_the_end_is_taken_before_the_error() {
        let feed = Feed::new("a/*", SlowConsumer::default(), None);
        feed.offer(note("a/b", 1));
        feed.end(Error::Connection("over".to_owned()));
        assert!(feed.take().unwrap().is_some());
        assert!(feed.take().is_err());
    }
}
