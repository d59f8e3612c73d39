//! The client: calls, publishes, subscribes and serves over one connection that is made again when it is lost.

mod account;
mod feed;
mod keeper;
mod shared;
mod slots;
mod state;
mod subscription;
mod vault;
mod worker;

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use visorbus_auth::{AuthToken, Credentials, Permission};
use visorbus_core::bus::{self, RowKind, SlowConsumer};
use visorbus_core::dispatch::{MessageHandler, RowHead};
use visorbus_core::message::address::is_name;
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_core::message::{Message, Pattern};
use visorbus_core::seal::PayloadKey;
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

pub use feed::Delivery;
pub use state::StateChange;
pub use subscription::{Subscription, SubscriptionGuard, TopicSubscription, TypedDelivery};

use crate::dialog::Dialog;
use crate::wire::Dial;
use feed::{Callback, Feed};
use shared::Shared;
use state::{OwnedRow, Registered};

/// A client of a hub. Cloning it is cheap: clones are the same client.
///
/// # Threads
/// Every method may be called from any thread. A caller writes its request and reads the answer on its own thread; of
/// many callers one reads for all. The first subscription, handler or watcher starts one thread of the client's own,
/// which runs their code, one after the other, and makes a lost connection again. Their code may call the client, and
/// wait for answers; it must not wait for something that another of them has to do, such as the answer to a request
/// that this client itself serves. Where the system does not tell when the other end is gone, [`Dial::heartbeat`], one more
/// thread looks after the connection.
///
/// # Connection
/// One that is lost fails the requests that wait, at once, and is made again by itself: by the client's own thread,
/// else by the next call. The token, the handlers and the subscriptions are brought along. Dropping the last clone says
/// goodbye and ends the thread; a handler or callback that holds a clone keeps it alive until it is taken back.
///
/// ```no_run
/// use std::sync::Arc;
/// use visorbus_client::{Client, ClientConfig, Credentials, Dial};
/// use visorbus_hub::{OwnedMessage, OwnedPayload, Result};
///
/// fn info(hub: Arc<dyn Dial>) -> Result<OwnedMessage> {
///     let client = Client::new(hub, "panel", ClientConfig::default())?;
///     client.connect()?;
///     client.authenticate(&Credentials::Token("vb1.…".parse()?))?;
///     client.send_request(OwnedMessage::request("imu/info", OwnedPayload::Empty), None)
/// }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Handle>);

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientConfig {
    /// How long to wait for an answer where the caller does not say. Default 5 s.
    pub timeout: Duration,
    /// Whether a lost connection is made again. Default true.
    pub reconnect: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), reconnect: true }
    }
}

impl Client {
    /// A client called `client_id` of the hub that `dial` leads to, not connected yet.
    ///
    /// # Errors
    /// `Message` when `client_id` cannot name a client.
    pub fn new(dial: Arc<dyn Dial>, client_id: &str, config: ClientConfig) -> Result<Self> {
        Dialog::new(client_id, 0, None)?;
        let shared = Arc::new(Shared::new(dial, client_id.to_owned(), config.reconnect));
        Ok(Self(Arc::new(Handle { shared, config, threads: Mutex::default() })))
    }

    /// Connects, proves itself with the token if it has one, registers its handlers and subscribes. Nothing to do
    /// where it is connected.
    ///
    /// # Errors
    /// `Connection` when nobody serves there or the client's name is taken, `Authentication` when the token is refused,
    /// and what the hub says to a handler or subscription that it refuses; then the client is not connected.
    pub fn connect(&self) -> Result<()> {
        self.start_keeper()?;
        self.shared().connect()
    }

    /// Drops the connection and makes a new one now, with the token, the handlers and the subscriptions: for a client
    /// whose way to the hub has changed (another certificate, another network). Requests that wait fail. Where there is
    /// no connection it is made, without waiting until it is tried again.
    ///
    /// # Errors
    /// As [`Client::connect`], but one that the hub only refuses part of stays, and one that was there before and cannot be
    /// made now is tried again by itself.
    pub fn reconnect(&self) -> Result<()> {
        self.start_keeper()?;
        self.shared().connect_anew()
    }

    /// Says goodbye. Requests that wait fail; handlers, subscriptions and the token are kept for the next
    /// [`Client::connect`].
    pub fn disconnect(&self) {
        self.shared().disconnect("disconnected");
    }

    /// Proves this client by `credentials`, and again by the token that came of it after each reconnect. That one is
    /// renewed by itself when four fifths of its life are over; a token that was given is not, because others may have it.
    /// Of a certificate or a user the hub believes the connection alone: what stands in `credentials` is not sent.
    ///
    /// Before [`Client::connect`] a token is only kept, and anything else is refused.
    ///
    /// # Errors
    /// `Authentication` when the hub refuses them; then what proved this client before goes on. `Message` when too many
    /// log in at once, `Connection` when there is no connection.
    pub fn authenticate(&self, credentials: &Credentials) -> Result<AuthToken> {
        if let Credentials::Token(token) = credentials {
            return self.shared().show(token);
        }
        // Somebody has to renew the token while nobody calls.
        self.start_worker()?;
        self.shared().login(credentials, self.0.config.timeout)
    }

    /// Has the hub give a new token in the place of this client's, which is void from then on, also for others who have
    /// it.
    ///
    /// # Errors
    /// `Authentication` when there is no token, when it is too old or was taken back, or when the hub keeps no accounts.
    pub fn refresh_token(&self) -> Result<AuthToken> {
        self.shared().refresh(self.0.config.timeout)
    }

    /// Has the hub take this client's token back: it is void for everybody, and this client's session ends.
    ///
    /// # Errors
    /// `Authentication` when there is none.
    pub fn revoke_token(&self) -> Result<()> {
        self.shared().revoke(self.0.config.timeout)
    }

    /// What this client may do, by its token and by the hub's policy.
    ///
    /// # Errors
    /// `Authentication` when it has not proven who it is.
    pub fn permissions(&self) -> Result<Vec<Permission>> {
        self.shared().permissions(self.0.config.timeout)
    }

    /// Sends a message that nobody here waits for, and says its id; returns once it has left. Notifications,
    /// and answers to requests that were taken from elsewhere than a handler.
    ///
    /// # Errors
    /// `Message` when it is longer than the hub takes or an address is not one; `Connection` when there is no connection
    /// or the hub does not read.
    pub fn send_message(&self, message: impl Borrow<OwnedMessage>) -> Result<u64> {
        let message: &OwnedMessage = message.borrow();
        self.shared().send(message.borrow()?, self.0.config.timeout)
    }

    /// Sends a request and waits for its answer at most `timeout`; without one, as long as the message's own
    /// `timeout_ms` or the configuration says. The time left travels with the request.
    ///
    /// # Errors
    /// What the other end answers; `Timeout` when nothing came; `Connection` when there is no connection or it is
    /// lost meanwhile; `Message` when the request is longer than the hub takes.
    pub fn send_request(
        &self,
        request: impl Borrow<OwnedMessage>,
        timeout: Option<Duration>,
    ) -> Result<OwnedMessage> {
        let request: &OwnedMessage = request.borrow();
        let own = request.flags.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        self.shared().request(request.borrow()?, timeout.or(own).unwrap_or(self.0.config.timeout))
    }

    /// Calls a typed endpoint and waits for its answer at most `timeout`. The first call on a connection tells the hub the
    /// endpoint's types: while those that its owner has told are others, the hub refuses this client's calls to it.
    ///
    /// # Errors
    /// As [`Client::send_request`]; `Serialization` when the types differ, naming the address and both hashes,
    /// or when what comes back is not the endpoint's response.
    pub fn call<E: Endpoint>(&self, request: &E::Request, timeout: Option<Duration>) -> Result<E::Response> {
        let timeout = timeout.unwrap_or(self.0.config.timeout);
        self.shared().agree(&RowHead::used(RowKind::Calls, E::ADDRESS, E::ACCESS, E::SCHEMA), timeout)?;
        let payload = OwnedPayload::postcard(request)?;
        let message = Message::request(0, E::ADDRESS).with_payload(payload.borrow());
        self.shared().request(message, timeout)?.payload.parse()
    }

    /// Publishes a typed notification; returns once it has left. The first one on a connection tells the hub its
    /// type: of a topic of this client's own for its subscribers, else to have it held against that of who takes it.
    ///
    /// # Errors
    /// As [`Client::send_message`]; `Serialization` when who takes it has told another type.
    pub fn publish<T: Topic>(&self, message: &T::Message) -> Result<()> {
        let row = if self.shared().lock().is_own(self.client_id(), T::ADDRESS) {
            RowHead::new(RowKind::Publishes, T::ADDRESS, T::ACCESS, T::SCHEMA)
        } else {
            RowHead::used(RowKind::Sends, T::ADDRESS, T::ACCESS, T::SCHEMA)
        };
        self.shared().agree(&row, self.0.config.timeout)?;
        let payload = OwnedPayload::postcard(message)?;
        let mut message = Message::notification(0, T::ADDRESS).with_payload(payload.borrow());
        message.flags.priority = T::PRIORITY;
        self.shared().send(message, self.0.config.timeout).map(|_| ())
    }

    /// Subscribes to the notifications that `pattern` selects, to be taken with [`Subscription::recv`]. Where there is
    /// no connection, with the next one.
    ///
    /// Of several subscriptions with the same pattern, the hub follows the policy of the last.
    ///
    /// # Errors
    /// `Message` when `pattern` is not one; `Authorization` when this client may not.
    pub fn subscribe(&self, pattern: &str, policy: SlowConsumer) -> Result<Subscription> {
        self.add_feed(Feed::new(pattern, policy, None)).map(Subscription::new)
    }

    /// Subscribes to a typed topic. While its publisher has told another type than `T`'s, the hub gives this client
    /// nothing of it, and [`TopicSubscription::recv`] says so once.
    ///
    /// # Errors
    /// As [`Client::subscribe`]; `Serialization` when the publisher has told another type already.
    pub fn subscribe_to<T: Topic>(&self, policy: SlowConsumer) -> Result<TopicSubscription<T>> {
        let row = RowHead::used(RowKind::Expects, T::ADDRESS, T::ACCESS, T::SCHEMA);
        match self.shared().agree(&row, self.0.config.timeout) {
            // Told with the next connection, as the subscription itself.
            Ok(()) | Err(Error::Connection(_)) => {}
            Err(error) => return Err(error),
        }
        self.subscribe(T::ADDRESS.as_str(), policy).map(TopicSubscription::new)
    }

    /// As [`Client::subscribe`], with a callback that the client's own thread runs.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn subscribe_with(
        &self,
        pattern: &str,
        policy: SlowConsumer,
        callback: impl FnMut(Delivery) + Send + 'static,
    ) -> Result<SubscriptionGuard> {
        self.add_feed(Feed::new(pattern, policy, Some(Box::new(callback))))
    }

    /// Has `callback` take the notifications that no subscription selects: what the hub sends to this client by name or
    /// to everybody. The client's own thread runs it.
    ///
    /// # Errors
    /// `Internal` when the thread cannot be started.
    pub fn on_message(&self, callback: impl FnMut(Delivery) + Send + 'static) -> Result<()> {
        let callback: Callback = Box::new(callback);
        let feed = Arc::new(Feed::new("**", SlowConsumer::default(), Some(callback)));
        self.start_worker()?;
        let before = self.shared().lock().unmatched.replace(feed);
        drop(before);
        Ok(())
    }

    /// Serves the component `handler.id()`: requests and notifications to its addresses run it on the client's own
    /// thread. Where there is no connection, from the next one on.
    ///
    /// The hub is told the handler's [rows](MessageHandler::row) first, and then holds the types of typed callers against
    /// theirs. It asks whether a caller may before it hands a message on: for what the address's row says, without one
    /// for a permission on the address. A scope without a row, or under this client's own name, is refused here, because
    /// nobody has looked at the caller's scopes.
    ///
    /// # Errors
    /// `Message` when this client serves the component already, `Connection` when another does, `Authorization` when
    /// this client may not.
    pub fn register_handler(&self, handler: Box<dyn MessageHandler + Send>) -> Result<()> {
        let id = handler.id().to_owned();
        let heads = (0..usize::from(u16::MAX)).map_while(|number| handler.row(number));
        let own = |row: &RowHead<'_>| !row.kind.is_offered() || row.address.component() == id;
        let rows: Arc<[OwnedRow]> = heads.filter(own).map(OwnedRow::from).collect();
        self.start_worker()?;
        let setup = self.shared().setup();
        let mut state = self.shared().lock();
        if state.handlers.contains_key(&id) {
            return Err(Error::Message(format!(
                "this client serves '{id}' already: unregister that handler first"
            )));
        }
        let handler = Arc::new(Mutex::new(handler));
        state.handlers.insert(id.clone(), Registered { handler, rows, generation: 0 });
        let connected = state.up().is_some();
        drop(state);
        let outcome = if connected { self.shared().announce(&id) } else { Ok(()) };
        if outcome.is_err() {
            let taken_back = self.shared().lock().handlers.remove(&id);
            drop(taken_back);
        }
        drop(setup);
        outcome
    }

    /// Stops serving the component `id`.
    ///
    /// # Errors
    /// `Message` when this client does not serve it.
    pub fn unregister_handler(&self, id: &str) -> Result<()> {
        let setup = self.shared().setup();
        let mut state = self.shared().lock();
        let Some(removed) = state.handlers.remove(id) else {
            return Err(Error::Message(format!("this client does not serve '{id}'")));
        };
        let known =
            removed.generation == state.generation && state.up().is_some() && id != self.shared().name();
        drop(state);
        drop(removed);
        let payload = OwnedPayload::String(id.to_owned());
        let outcome = if known { self.shared().tell_hub(bus::UNREGISTER, &payload) } else { Ok(()) };
        drop(setup);
        outcome
    }

    /// Has everything between this client and `component` sealed with `key` from now on: what is sent to it and what it
    /// answers, what it asks and publishes. The hub passes it on and cannot read it. Whoever else shares `component`'s key
    /// can, so a component that is to have it from all shares it under its own name. It replaces the key before.
    ///
    /// What is to be sealed and is not is refused and [counted](Self::refused_payloads): a request is answered with an error,
    /// a call fails, a subscriber hears of it once. What the hub itself answers, that nobody is there or that time is over,
    /// is an error still. [`visorbus_core::seal`] has what is bound, and what a key does not protect from.
    ///
    /// # Errors
    /// `Message` when `component` cannot be a component's name, or is the hub's.
    pub fn share_key(&self, component: &str, key: PayloadKey) -> Result<()> {
        if !is_name(component) || component == bus::NAME {
            return Err(Error::Message(format!(
                "no key can be shared with '{component}': it is no component's name"
            )));
        }
        self.shared().lock().vault.share(component, key);
        Ok(())
    }

    /// Forgets the key that is shared with `component`; `false` when there is none.
    pub fn unshare_key(&self, component: &str) -> bool {
        self.shared().lock().vault.unshare(component)
    }

    /// Allows messages that are compressed and then sealed. Their length then tells of what is in them: who can have text
    /// of his own put into the same payload, and sees lengths, finds out the rest of it piece by piece (CRIME,
    /// CVE-2012-4929). Only for payloads in which nobody else has a word.
    pub fn danger_compress_what_is_sealed(&self) {
        self.shared().lock().vault.compress_secrets();
    }

    /// Messages that reached nobody here because they were not sealed as they had to be, did not open or did not expand.
    pub fn refused_payloads(&self) -> u64 {
        self.shared().lock().vault.refused()
    }

    /// Whether there is a connection right now.
    pub fn is_connected(&self) -> bool {
        // The end of the connection may have arrived while nobody was reading.
        self.shared().look().up().is_some()
    }

    /// Has `watcher` told when the connection is lost and made again; replaces the watcher before. The client's own
    /// thread runs it.
    ///
    /// # Errors
    /// `Internal` when the thread cannot be started.
    pub fn on_state_change(&self, watcher: impl FnMut(StateChange) + Send + 'static) -> Result<()> {
        self.start_worker()?;
        self.shared().watch(Some(Box::new(watcher)));
        self.shared().lock().watches_changes = true;
        Ok(())
    }

    /// The name that this client goes by.
    pub fn client_id(&self) -> &str {
        self.shared().name()
    }

    /// Where the hub is, for people to read: a path, a URL.
    pub fn place(&self) -> String {
        self.shared().place()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    fn add_feed(&self, feed: Feed) -> Result<SubscriptionGuard> {
        Pattern::new(&feed.pattern)
            .map_err(|e| Error::Message(format!("'{}' is not a pattern: {e}", feed.pattern)))?;
        self.start_worker()?;
        let feed = Arc::new(feed);
        // A refused subscription takes itself back.
        let guard = SubscriptionGuard::new(Arc::clone(&feed), Arc::clone(self.shared()));
        let setup = self.shared().setup();
        let mut state = self.shared().lock();
        state.feeds.push(Arc::clone(&feed));
        let connected = state.up().is_some();
        drop(state);
        if connected {
            self.shared().ask_for(&feed.pattern, feed.policy)?;
        }
        drop(setup);
        Ok(guard)
    }

    fn start_worker(&self) -> Result<()> {
        let mut threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.extend(self.shared().start_worker()?);
        Ok(())
    }

    fn start_keeper(&self) -> Result<()> {
        let mut threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.extend(self.shared().start_keeper()?);
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.client_id())
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

/// What the clones of a client share; its end is the client's end.
struct Handle {
    shared: Arc<Shared>,
    config: ClientConfig,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
        let threads = std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner));
        // The last clone may have been held by a handler or a callback; a thread cannot wait for itself.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}
