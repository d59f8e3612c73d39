//! What a subscriber holds; dropping it ends the subscription.

use std::sync::Arc;
use std::time::{Duration, Instant};

use visorbus_core::bus;
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
    /// `Connection` when the client was dropped and everything that came before was taken.
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
