//! What a subscriber holds; dropping it ends the subscription.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visorbus_core::bus;
use visorbus_core::message::typed::Topic;
use visorbus_hub::{OwnedPayload, Result};

use super::feed::{Delivery, Feed};
use super::shared::Shared;

/// A subscription whose deliveries are taken by hand. Dropping it ends it.
#[must_use = "a subscription that is dropped ends"]
pub struct Subscription(SubscriptionGuard);

impl Subscription {
    pub(crate) const fn new(guard: SubscriptionGuard) -> Self {
        Self(guard)
    }

    /// The next delivery, waiting for it at most `timeout`, or for ever; `None` when none came in time.
    ///
    /// # Errors
    /// `Serialization`, once, when the hub gives this client nothing of a topic whose type it was told; see
    /// [`Client::subscribe_to`](crate::Client::subscribe_to). `Connection` when the client was dropped and everything that came before was taken.
    pub fn recv(&self, timeout: Option<Duration>) -> Result<Option<Delivery>> {
        self.0.feed.wait(timeout.map(|timeout| Instant::now() + timeout))
    }

    /// The next delivery that is there already.
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn try_recv(&self) -> Result<Option<Delivery>> {
        self.0.feed.take()
    }

    /// The pattern that was subscribed to.
    pub fn pattern(&self) -> &str {
        self.0.pattern()
    }

    /// Ends the subscription and waits until the hub has done so.
    ///
    /// # Errors
    /// As [`SubscriptionGuard::unsubscribe`].
    pub fn unsubscribe(self) -> Result<()> {
        self.0.unsubscribe()
    }
}

/// A subscription to a typed topic. Dropping it ends it.
#[must_use = "a subscription that is dropped ends"]
pub struct TopicSubscription<T> {
    inner: Subscription,
    topic: PhantomData<fn() -> T>,
}

/// What a [`TopicSubscription`] brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypedDelivery<M> {
    /// A notification.
    Message(M),
    /// So many were dropped since the last word on it, because this subscriber did not keep up.
    Missed(u32),
}

impl<T: Topic> TopicSubscription<T> {
    pub(crate) const fn new(inner: Subscription) -> Self {
        Self { inner, topic: PhantomData }
    }

    /// The next delivery, waiting for it at most `timeout`, or for ever; `None` when none came in time.
    ///
    /// # Errors
    /// `Serialization`, once each time, when the publisher comes to have another type, naming the topic and both hashes;
    /// what comes after it has come back as it was is delivered. The same for what does not read as the topic's type. As
    /// [`Subscription::recv`].
    pub fn recv(&self, timeout: Option<Duration>) -> Result<Option<TypedDelivery<T::Message>>> {
        self.inner.recv(timeout)?.map(typed::<T>).transpose()
    }

    /// The next delivery that is there already.
    ///
    /// # Errors
    /// As [`TopicSubscription::recv`].
    pub fn try_recv(&self) -> Result<Option<TypedDelivery<T::Message>>> {
        self.inner.try_recv()?.map(typed::<T>).transpose()
    }

    /// Ends the subscription and waits until the hub has done so.
    ///
    /// # Errors
    /// As [`SubscriptionGuard::unsubscribe`].
    pub fn unsubscribe(self) -> Result<()> {
        self.inner.unsubscribe()
    }
}

fn typed<T: Topic>(delivery: Delivery) -> Result<TypedDelivery<T::Message>> {
    Ok(match delivery {
        Delivery::Message(message) => TypedDelivery::Message(message.payload.parse()?),
        Delivery::Missed(count) => TypedDelivery::Missed(count),
    })
}

impl<T> std::fmt::Debug for TopicSubscription<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TopicSubscription").field(&self.inner.pattern()).finish()
    }
}

/// Keeps a subscription with a callback. Dropping it ends it.
#[must_use = "a subscription whose guard is dropped ends"]
pub struct SubscriptionGuard {
    feed: Arc<Feed>,
    shared: Arc<Shared>,
}

impl SubscriptionGuard {
    pub(crate) const fn new(feed: Arc<Feed>, shared: Arc<Shared>) -> Self {
        Self { feed, shared }
    }

    /// The pattern that was subscribed to.
    pub fn pattern(&self) -> &str {
        &self.feed.pattern
    }

    /// Ends the subscription and waits until the hub has done so.
    ///
    /// # Errors
    /// `Timeout` or `Connection` when the hub does not say; here the subscription is over in any case.
    pub fn unsubscribe(self) -> Result<()> {
        let setup = self.shared.setup();
        let mut state = self.shared.lock();
        let last = state.remove_feed(&self.feed);
        let connected = state.up().is_some();
        drop(state);
        let payload = OwnedPayload::String(self.feed.pattern.clone());
        let outcome =
            if last && connected { self.shared.tell_hub(bus::UNSUBSCRIBE, &payload) } else { Ok(()) };
        drop(setup);
        outcome
    }
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.remove_feed(&self.feed) {
            self.shared.mention(&mut state, bus::UNSUBSCRIBE, &self.feed.pattern);
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.pattern()).finish()
    }
}

impl std::fmt::Debug for SubscriptionGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SubscriptionGuard").field(&self.pattern()).finish()
    }
}
