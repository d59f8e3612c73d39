//! What other threads use a hub through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use visorbus_auth::{AuthToken, RevokeAll, TokenText};
use visorbus_core::auth::{Access, Operation, Permission, Scope};
use visorbus_core::message::{Address, AddressBuf, Pattern};

use crate::accounts::Purpose;
use crate::bearer::Bearer;
use crate::bus::said;
use crate::errands::Errand;
use crate::handlers::BoxedHandler;
use crate::held::Pulse;
use crate::info::{Ended, PeerInfo, ServiceInfo};
use crate::link::{HubLink, Listener, Origin};
use crate::listeners::{LinkId, LinkState, ListenerId};
use crate::owned::{Error, OwnedMessage, Result};
use crate::poller::Waker;
use crate::signals::Signals;
use crate::statistics::HubStatistics;
use crate::watch::{HubWatch, Watcher};

/// Talks to a running hub from any thread. Cloning it is cheap; it keeps no hub running.
///
/// # In a handler
/// A handler of the hub's may use it too. One that runs inline is on the hub's own thread, which cannot wait for itself:
/// what it asks to be done is done after it has returned and answered with `Ok` before that; what it asks to be told is
/// refused with `Internal`. A handler that needs more says that it
/// [may block](visorbus_core::dispatch::MessageHandler::may_block).
#[derive(Clone)]
pub struct HubHandle {
    commands: Sender<Command>,
    waker: Waker,
    /// The thread that the hub runs on, once it runs.
    thread: Arc<OnceLock<ThreadId>>,
    types_generation: Arc<AtomicU64>,
    pulse: Arc<Pulse>,
    /// Listeners and links so far.
    numbers: Arc<AtomicU64>,
}

/// Where the hub puts the outcome of a command.
pub(crate) type Outcome<T> = SyncSender<Result<T>>;

pub(crate) enum Command {
    Listen(ListenerId, Box<dyn Listener>, Outcome<()>),
    Unlisten(ListenerId, String, Outcome<Box<dyn Listener>>),
    Attach(LinkId, Box<dyn HubLink>, Outcome<()>),
    Detach(LinkId, String, Outcome<Option<Box<dyn HubLink>>>),
    Register(BoxedHandler, Outcome<()>),
    Replace(BoxedHandler, Outcome<()>),
    Unregister(String, Outcome<()>),
    /// To one of those who came by a listener, where it has to be.
    Send(Option<ListenerId>, String, OwnedMessage, Outcome<()>),
    /// To those alone who may besides do this to this address, where it has to be.
    Publish(OwnedMessage, Option<Needed>, Outcome<()>),
    Broadcast(Audience, OwnedMessage, Outcome<()>),
    /// With the milliseconds that the answer may take.
    Request(OwnedMessage, u32, Outcome<OwnedMessage>),
    Watch(Watcher, Outcome<()>),
    /// The names of the authenticated peers, or of those who came by a listener.
    Names(Option<ListenerId>, Outcome<Vec<String>>),
    Peers(Outcome<Vec<PeerInfo>>),
    Links(Outcome<Vec<(LinkId, LinkState)>>),
    Services(Outcome<Vec<ServiceInfo>>),
    Statistics(Outcome<Box<HubStatistics>>),
    Authorize(Box<Bearer>, Outcome<()>),
    Errand(Errand, Purpose, Outcome<Ended>),
    Shutdown(Duration, Outcome<()>),
    Stop,
}

/// What a subscriber has to be allowed besides, at the moment of a publication.
#[derive(Debug, Clone)]
pub(crate) struct Needed {
    pub(crate) operation: Operation,
    pub(crate) address: AddressBuf,
}

/// Whom a broadcast is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audience {
    /// Those who came by this listener alone.
    pub(crate) via: Option<ListenerId>,
    /// Those alone who have this scope.
    pub(crate) scope: Option<String>,
}

impl HubHandle {
    pub(crate) const fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(crate) fn new(commands: Sender<Command>, waker: Waker) -> Self {
        Self {
            commands,
            waker,
            thread: Arc::default(),
            types_generation: Arc::default(),
            pulse: Arc::default(),
            numbers: Arc::default(),
        }
    }

    /// The ready list of the hub's signalled links.
    pub(crate) fn signals(&self) -> Arc<Signals> {
        Signals::new(self.waker.clone(), Arc::clone(&self.thread))
    }

    /// What the hub's inline handlers tell of themselves.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// To be called when what `bus/interfaces` could tell of has changed.
    pub(crate) fn types_changed(&self) {
        self.types_generation.fetch_add(1, Ordering::Release);
    }

    /// To be called on the thread that the hub runs on.
    pub(crate) fn enter(&self) {
        // A hub runs once.
        let _ = self.thread.set(thread::current().id());
    }

    /// Accepts connections from `listener` from now on.
    ///
    /// # Errors
    /// `Connection` when the hub has ended or cannot wait on the listener; `Message` when it has too many.
    pub fn listen(&self, listener: Box<dyn Listener>) -> Result<ListenerId> {
        let id = ListenerId(self.take_number());
        self.tell(|outcome| Command::Listen(id, listener, outcome)).map(|()| id)
    }

    /// Listens there no more, and says goodbye, with `why`, to every peer that came by this listener: what others have
    /// asked of them fails at once. Nobody else notices. When this returns the listener is closed: its address is free.
    ///
    /// # Errors
    /// `Message` when it was taken away before; `Connection` when the hub has ended, and then nobody listens either.
    pub fn unlisten(&self, listener: ListenerId, why: &str) -> Result<()> {
        self.take_away(|outcome| Command::Unlisten(listener, why.to_owned(), outcome))
    }

    /// Serves the other end of `link` from now on.
    ///
    /// # Errors
    /// `Connection` when the hub has ended, or has no room for one more.
    pub fn attach(&self, link: Box<dyn HubLink>) -> Result<LinkId> {
        let id = LinkId(self.take_number());
        self.tell(|outcome| Command::Attach(id, link, outcome)).map(|()| id)
    }

    /// Serves a link no more, says goodbye with `why` to who is at its other end, and fails at once what others have asked
    /// of it. When this returns a line's device is closed.
    ///
    /// # Errors
    /// `Message` when the link is gone already, as a socket's is when it is closed; `Connection` when the hub has ended.
    pub fn detach(&self, link: LinkId, why: &str) -> Result<()> {
        self.take_away(|outcome| Command::Detach(link, why.to_owned(), outcome))
    }

    /// Serves the component `handler.id()` in the hub.
    ///
    /// # Errors
    /// `Message` when the id is no component name or is taken; `Connection` when the hub has ended.
    pub fn register_handler(&self, handler: BoxedHandler) -> Result<()> {
        self.tell(|outcome| Command::Register(handler, outcome))
    }

    /// Has `handler` serve its component from now on in the place of the one that does, at once: what runs already is
    /// answered by that one. So a handler has other addresses than before.
    ///
    /// # Errors
    /// `Message` when no handler has this id; `Connection` when the hub has ended.
    pub fn replace_handler(&self, handler: BoxedHandler) -> Result<()> {
        self.tell(|outcome| Command::Replace(handler, outcome))
    }

    /// Stops serving the component `id` in the hub.
    ///
    /// # Errors
    /// `Message` when no handler has this id; `Connection` when the hub has ended.
    pub fn unregister_handler(&self, id: &str) -> Result<()> {
        self.tell(|outcome| Command::Unregister(id.to_owned(), outcome))
    }

    /// Sends a notification to the peer called `peer`.
    ///
    /// # Errors
    /// `Message` when there is no such peer, when it does not keep up, when the message is no notification or does not
    /// fit; `Connection` when
    /// the hub has ended.
    pub fn send_message(&self, peer: &str, message: OwnedMessage) -> Result<()> {
        self.send_to(None, peer, message)
    }

    /// Sends a notification to every authenticated peer, also when some of them cannot have it.
    ///
    /// # Errors
    /// `Message` when the message is no notification, or for the first peer that could not have it; `Connection` when the hub has ended.
    pub fn broadcast_message(&self, message: OwnedMessage) -> Result<()> {
        self.broadcast(None, None, message)
    }

    /// As [`HubHandle::broadcast_message`], to those peers alone that token and policy give `scope` at this moment: a
    /// name such as `imu.control`, or a permission for one operation such as `subscribe:imu/*`. To nobody is no error.
    ///
    /// # Errors
    /// As [`HubHandle::broadcast_message`]; `Message` when `scope` is none of these.
    pub fn broadcast_to_scope(&self, scope: &str, message: OwnedMessage) -> Result<()> {
        self.broadcast(None, Some(scope), message)
    }

    /// Gives a notification of one of the hub's own handlers, whose component its topic begins with, to whoever has
    /// subscribed to the topic and may have it. To nobody is no error.
    ///
    /// # Errors
    /// `Message` when the message is no notification, or no handler of the hub's has that component; `Connection` when the
    /// hub has ended.
    pub fn publish(&self, message: OwnedMessage) -> Result<()> {
        self.tell(|outcome| Command::Publish(message, None, outcome))
    }

    /// As [`HubHandle::publish`], to those subscribers alone who may at this moment do `operation` to `address` too: where one
    /// topic tells of several things that not everybody may know.
    ///
    /// # Errors
    /// As [`HubHandle::publish`]; `Message` when `address` is none.
    pub fn publish_to_permitted(
        &self,
        message: OwnedMessage,
        operation: Operation,
        address: &str,
    ) -> Result<()> {
        let address = Address::new(address)
            .map_err(|error| Error::Message(format!("'{}' is no address: {error}", said(address))))?;
        let needed = Needed { operation, address: address.into() };
        self.tell(|outcome| Command::Publish(message, Some(needed), outcome))
    }

    /// Asks a peer, or a handler of the hub's, for the program itself, and waits for the answer at most as long as
    /// `timeout` and the hub's own limit (`max_request_ms`) say. Nobody's grant is asked for: a handler that asks for one of
    /// its callers asks first whether that one may ([`Caller`](visorbus_core::dispatch::Caller)).
    ///
    /// The message's source is the address of the handler that asks, or empty: the hub. A JSON payload becomes what the
    /// address takes, and the answer JSON, where the types are known; all others pass as they are.
    ///
    /// # Errors
    /// What was answered, where that is an error; `Timeout` when nothing was in time, and then whoever was asked is told
    /// that nobody waits any more; `Connection` when it went, or the hub has ended; `Serialization` when the payload is not
    /// of the address's type; `Message` when nobody is there to be asked, or this cannot be asked; `Internal` in an inline
    /// handler, which cannot wait for its own hub.
    pub fn request(&self, message: OwnedMessage, timeout: Duration) -> Result<OwnedMessage> {
        self.refuse_inline()?;
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let destination = message.destination.clone();
        let outcome = self.send(|outcome| Command::Request(message, timeout_ms, outcome))?;
        // The hub says itself when the time is over, unless it is held up by an inline handler.
        outcome.recv_timeout(timeout.saturating_add(GRACE)).map_err(|error| match error {
            RecvTimeoutError::Disconnected => ended(),
            RecvTimeoutError::Timeout => Error::Timeout(format!(
                "the hub itself did not come to '{}' in time: {} holds it up",
                said(&destination),
                self.culprit()
            )),
        })?
    }

    /// Tells of all who come and go from now on, at most `capacity` events that nobody has taken yet: of more the oldest are
    /// lost, and counted.
    ///
    /// # Errors
    /// `Connection` when the hub has ended.
    pub fn watch(&self, capacity: usize) -> Result<HubWatch> {
        let watch = HubWatch::new(capacity);
        self.tell(|outcome| Command::Watch(watch.watcher(), outcome))?;
        Ok(watch)
    }

    /// The names of the authenticated peers, sorted.
    ///
    /// # Errors
    /// `Connection` when the hub has ended.
    pub fn active_connections(&self) -> Result<Vec<String>> {
        self.connections_of(None)
    }

    /// All connections with their counters.
    ///
    /// # Errors
    /// `Connection` when the hub has ended.
    pub fn peers(&self) -> Result<Vec<PeerInfo>> {
        self.ask(Command::Peers)
    }

    /// How each link stands that was [attached](HubHandle::attach), by their ids. Others than lines are there only while
    /// they are connected.
    ///
    /// # Errors
    /// As [`HubHandle::peers`]; `Timeout` when the hub does not come to it within a second.
    pub fn links(&self) -> Result<Vec<(LinkId, LinkState)>> {
        self.refuse_inline()?;
        self.send(Command::Links)?.recv_timeout(GRACE).map_err(|error| match error {
            RecvTimeoutError::Disconnected => ended(),
            RecvTimeoutError::Timeout => {
                Error::Timeout(format!("the hub does not come to it in time: {} holds it up", self.culprit()))
            }
        })?
    }

    /// The component whose handler holds up the hub: it runs inline, and has not returned for 2 s. Nobody is served until it
    /// does. The hub need not answer for this, and says the same in the log.
    pub fn held_up_by(&self) -> Option<String> {
        self.pulse.held_up_by()
    }

    /// All components that can be reached, and what they offer, sorted by name.
    ///
    /// # Errors
    /// As [`HubHandle::peers`].
    pub fn services(&self) -> Result<Vec<ServiceInfo>> {
        self.ask(Command::Services)
    }

    /// What the hub has done since it started, and how it stands.
    ///
    /// # Errors
    /// `Internal` from an inline handler of the hub's; `Connection` when the hub has ended.
    pub fn statistics(&self) -> Result<HubStatistics> {
        let mut statistics = *self.ask(Command::Statistics)?;
        statistics.addresses.sort_by(|a, b| (b.messages, &a.address).cmp(&(a.messages, &b.address)));
        Ok(statistics)
    }

    /// Whether the bearer of `token`, who is at `origin` and has no session, may do `operation` to `address` at this moment:
    /// by token, revocations and policy, as a session's message is asked about, and a refusal is counted and in the audit
    /// like all. It is for what a program serves beside the hub, such as a page.
    ///
    /// # Errors
    /// `Authentication` when there is no token, or it is no good; `Authorization` when it may not; `Message` when `address`
    /// is none, or it comes too often for the policy; `Internal` from an inline handler of the hub's; `Connection` when the
    /// hub has ended.
    pub fn authorize(
        &self,
        origin: Origin,
        token: Option<&str>,
        operation: Operation,
        address: &str,
    ) -> Result<()> {
        let address =
            Address::new(address).map_err(|e| Error::Message(format!("'{}': {e}", said(address))))?;
        let token = token.and_then(|token| token.parse::<TokenText>().ok());
        let bearer = Box::new(Bearer { origin, token, operation, address: AddressBuf::from(address) });
        self.ask(|outcome| Command::Authorize(bearer, outcome))
    }

    /// Takes a token back; whoever came in by it is told so and cut off.
    ///
    /// # Errors
    /// What the accounts say; `Connection` when the hub has ended.
    pub fn revoke_token(&self, token: AuthToken) -> Result<Ended> {
        let purpose = Purpose::Revoke(format!("a token that '{}' made", token.issuer));
        self.ask(|outcome| Command::Errand(Errand::Revoke(token), purpose, outcome))
    }

    /// Takes all tokens of somebody, or of a key, back; whoever came in by them is told so and cut off.
    ///
    /// # Errors
    /// What the accounts say; `Connection` when the hub has ended.
    pub fn revoke(&self, of: RevokeAll) -> Result<Ended> {
        let purpose = Purpose::Revoke(format!("{of:?}"));
        self.ask(|outcome| Command::Errand(Errand::RevokeAll(of), purpose, outcome))
    }

    /// Reads accounts and policy again; says what that ended.
    ///
    /// # Errors
    /// What is wrong with one of them, which then stays as it was; `Connection` when the hub has ended.
    pub fn reload(&self) -> Result<Ended> {
        let (auth, policy) = (true, true);
        let (errand, purpose) = (Errand::Reload { auth, policy }, Purpose::Reload { auth, policy });
        self.ask(|outcome| Command::Errand(errand, purpose, outcome))
    }

    /// Rises whenever a component that offers something comes or goes, or tells of an address or a type, so that whoever
    /// keeps what `bus/interfaces` or `bus/schema` has said knows when that is old. It says nothing of who may what. Of
    /// what was asked for after it was read, nothing is older than it.
    pub fn types_generation(&self) -> u64 {
        self.types_generation.load(Ordering::Acquire)
    }

    /// Has the hub say goodbye and end.
    pub fn stop(&self) {
        // A hub that has ended already has stopped.
        let _ = self.commands.send(Command::Stop);
        self.waker.wake();
    }

    /// As [`HubHandle::active_connections`] of those who came by a listener.
    pub(crate) fn connections_of(&self, via: Option<ListenerId>) -> Result<Vec<String>> {
        self.ask(|outcome| Command::Names(via, outcome))
    }

    /// As [`HubHandle::send_message`] to one of those who came by a listener.
    pub(crate) fn send_to(&self, via: Option<ListenerId>, peer: &str, message: OwnedMessage) -> Result<()> {
        self.tell(|outcome| Command::Send(via, peer.to_owned(), message, outcome))
    }

    /// As [`HubHandle::broadcast_message`], or as [`HubHandle::broadcast_to_scope`], to those who came by a listener.
    pub(crate) fn broadcast(
        &self,
        via: Option<ListenerId>,
        scope: Option<&str>,
        message: OwnedMessage,
    ) -> Result<()> {
        if let Some(scope) = scope.filter(|scope| audience(scope).is_none()) {
            return Err(Error::Message(format!(
                "'{}' is neither a scope's name nor a permission for one operation",
                said(scope)
            )));
        }
        let audience = Audience { via, scope: scope.map(str::to_owned) };
        self.tell(|outcome| Command::Broadcast(audience, message, outcome))
    }

    fn take_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the hub end in good order, and waits until it has: nobody is listened to any more and no request taken; what
    /// handlers and peers were asked before is answered, and what waits is written; then all are said goodbye to. After
    /// `deadline` it ends as it is: a handler that does not return, or a peer that does not read, holds it up no longer. In
    /// an inline handler it is only begun; one that may block is itself waited for, and so has another thread do this.
    ///
    /// # Errors
    /// `Timeout` when something was left undone, the text says how much: the hub has ended all the same, unless a handler
    /// that runs inline did not return. None when it had ended before.
    pub fn shutdown(&self, deadline: Duration) -> Result<()> {
        let Ok(outcome) = self.send(|outcome| Command::Shutdown(deadline, outcome)) else { return Ok(()) };
        if self.is_on_hub_thread() {
            return Ok(());
        }
        outcome.recv_timeout(deadline.saturating_add(GRACE)).unwrap_or_else(|error| match error {
            RecvTimeoutError::Disconnected => Ok(()),
            RecvTimeoutError::Timeout => {
                Err(Error::Timeout(format!("the hub has not ended in time: {} holds it up", self.culprit())))
            }
        })
    }

    /// Has something done, and waits until it is, but on the hub's own thread.
    fn tell(&self, command: impl FnOnce(Outcome<()>) -> Command) -> Result<()> {
        let outcome = self.send(command)?;
        if self.is_on_hub_thread() { Ok(()) } else { outcome.recv().map_err(|_| ended())? }
    }

    /// As [`HubHandle::tell`]; what the hub gives back is dropped here, where nobody waits for it.
    fn take_away<T>(&self, command: impl FnOnce(Outcome<T>) -> Command) -> Result<()> {
        let outcome = self.send(command)?;
        if self.is_on_hub_thread() { Ok(()) } else { outcome.recv().map_err(|_| ended())?.map(drop) }
    }

    /// Asks something that only the hub knows.
    fn ask<T>(&self, command: impl FnOnce(Outcome<T>) -> Command) -> Result<T> {
        self.refuse_inline()?;
        self.send(command)?.recv().map_err(|_| ended())?
    }

    fn send<T>(&self, command: impl FnOnce(Outcome<T>) -> Command) -> Result<Receiver<Result<T>>> {
        let (outcome, answer) = sync_channel(1);
        self.commands.send(command(outcome)).map_err(|_| ended())?;
        self.waker.wake();
        Ok(answer)
    }

    fn refuse_inline(&self) -> Result<()> {
        if self.is_on_hub_thread() {
            let text =
                "an inline handler cannot wait for its own hub: have the handler say that it may block";
            return Err(Error::Internal(text.to_owned()));
        }
        Ok(())
    }

    /// What holds up the hub, as far as that is known.
    fn culprit(&self) -> String {
        match self.held_up_by() {
            Some(component) => format!("the handler '{component}', which runs inline,"),
            None => "a handler that runs inline".to_owned(),
        }
    }

    fn is_on_hub_thread(&self) -> bool {
        self.thread.get() == Some(&thread::current().id())
    }
}

/// What a peer is asked for that is to have what is sent to a scope: the operation and the pattern of a permission, or
/// the name of a scope.
pub(crate) fn audience(scope: &str) -> Option<(Option<(Operation, Pattern<'_>)>, Access<'_>)> {
    match Scope::parse(scope)? {
        Scope::Name(name) => Some((None, Access::Scope(name))),
        Scope::Permission(Permission { operation, pattern }) => {
            Some((Some((operation?, pattern)), Access::Permission))
        }
        Scope::Everything => None,
    }
}

fn ended() -> Error {
    Error::Connection("the hub has ended".to_owned())
}

/// What the hub may take beyond the time that it was given to say that it is over.
const GRACE: Duration = Duration::from_secs(1);

impl std::fmt::Debug for HubHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HubHandle")
    }
}
