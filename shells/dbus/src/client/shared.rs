//! What a client's threads share, under its lock: whether there is a connection, what it is to do, who hears of signals.
//! Nothing in it waits for the bus.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dbus::Message;
use dbus::strings::{BusName, Path};
use nix::sys::eventfd::EventFd;
use visorbus_auth::TokenText;
use visorbus_core::ErrorKind;
use visorbus_hub::{Error, Result, error};

use super::dispatch::{Dispatch, Handler};
use super::line::{BUS, BUS_PATH};
use super::{DBusChange, DBusClientConfig, DBusClientState};

/// A client's inside.
pub(super) struct Shared {
    service: BusName<'static>,
    /// The object that tokens are shown to.
    root: Path<'static>,
    config: DBusClientConfig,
    state: Mutex<State>,
    /// The phase is another, or a thread has ended.
    changed: Condvar,
    dispatch: Arc<Dispatch>,
}

impl Shared {
    pub(super) fn new(service: BusName<'static>, root: Path<'static>, config: DBusClientConfig) -> Self {
        let dispatch = Arc::new(Dispatch::new(config.queued_signals, config.queued_bytes));
        Self { service, root, config, state: Mutex::default(), changed: Condvar::new(), dispatch }
    }

    pub(super) fn service(&self) -> &BusName<'static> {
        &self.service
    }

    pub(super) fn root(&self) -> &Path<'static> {
        &self.root
    }

    pub(super) fn config(&self) -> &DBusClientConfig {
        &self.config
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> DBusClientState {
        self.lock().phase.clone()
    }

    /// Has the connection do a call, and waits for the answer.
    pub(super) fn call(&self, message: Message, to: To, timeout: Duration) -> Result<Message> {
        let (answer, answered) = mpsc::sync_channel(1);
        let id = {
            let mut state = self.lock();
            state.check_up()?;
            if state.open >= self.config.open_calls {
                let most = self.config.open_calls;
                return Err(Error::Message(format!(
                    "{most} calls of this client wait for their answers already"
                )));
            }
            state.open += 1;
            let id = state.next_id();
            state.order(Order::Call(Call { id, message, to, answer: Some(answer) }));
            id
        };
        let result = wait(&answered, timeout);
        let mut state = self.lock();
        state.open -= 1;
        if let Some(result) = result {
            return result;
        }
        state.order(Order::Forget(id));
        drop(state);
        // It may just have come.
        answered.try_recv().unwrap_or_else(|_| Err(too_late(&self.service, timeout)))
    }

    /// Keeps a token, and shows it where there is somebody to show it to.
    pub(super) fn show(&self, token: TokenText) -> Result<()> {
        let (answer, answered) = mpsc::sync_channel(1);
        {
            let mut state = self.lock();
            if state.check_up().is_err() {
                state.token = Some(token);
                return Ok(());
            }
            state.order(Order::Show(Show { token, answer: Some(answer) }));
        }
        // The connection keeps the same time for each of those that may be before this one.
        let timeout = self.config.timeout.saturating_mul(2);
        wait(&answered, timeout).unwrap_or_else(|| Err(too_late(&self.service, timeout)))
    }

    pub(super) fn forget_token(&self) {
        let token = self.lock().token.take();
        drop(token);
    }

    /// Adds one who hears of signals or changes.
    pub(super) fn add_handler(&self, handler: Handler) -> Result<u64> {
        self.dispatch.start()?;
        let rule = handler.select.as_ref().map(|select| select.rule(&self.service));
        let (id, is_up) = {
            let mut state = self.lock();
            let id = state.next_id();
            state.handlers.push((id, Arc::new(handler)));
            self.dispatch.set_watchers(state.watchers());
            (id, state.check_up().is_ok())
        };
        let Some(rule) = rule.filter(|_| is_up) else { return Ok(id) };
        match self.call(rule_call("AddMatch", &rule), To::Bus, self.config.timeout) {
            Ok(_) => Ok(id),
            // The next connection brings it along.
            Err(error) if error.kind() == ErrorKind::Connection => Ok(id),
            Err(error) => {
                let handler = self.lock().take_handler(id);
                drop(handler);
                Err(error)
            }
        }
    }

    /// Takes one back who hears of signals or changes.
    pub(super) fn remove_handler(&self, id: u64) -> Result<()> {
        let handler = {
            let mut state = self.lock();
            let handler = state.take_handler(id);
            if let Some(select) = handler.as_ref().and_then(|handler| handler.select.as_ref())
                && state.check_up().is_ok()
            {
                let mut message = rule_call("RemoveMatch", &select.rule(&self.service));
                message.set_no_reply(true);
                state.order(Order::Call(Call { id: 0, message, to: To::Bus, answer: None }));
            }
            self.dispatch.set_watchers(state.watchers());
            handler
        };
        // Dropped outside the lock: with it the last clone of this client may go.
        handler
            .map(|handler| handler.retire())
            .ok_or_else(|| Error::Message(format!("there is no handler {id}")))
    }

    /// Hands a signal to those who hear of such.
    pub(super) fn heard(&self, signal: Message) {
        let hears = |handler: &Handler| handler.select.as_ref().is_some_and(|select| select.matches(&signal));
        let handlers: Vec<_> = self
            .lock()
            .handlers
            .iter()
            .filter(|(_, handler)| hears(handler))
            .map(|(_, h)| Arc::clone(h))
            .collect();
        if !handlers.is_empty() {
            self.dispatch.signal(signal, handlers);
        }
    }

    pub(super) fn tell(&self, change: DBusChange) {
        self.dispatch.change(change);
    }

    /// The rules of all signal handlers.
    pub(super) fn rules(&self) -> Vec<String> {
        let state = self.lock();
        let selects = state.handlers.iter().filter_map(|(_, handler)| handler.select.as_ref());
        selects.map(|select| select.rule(&self.service)).collect()
    }

    /// The service's connection is another, or whether it has accepted the token.
    pub(super) fn set_service(&self, run: u64, owner: Option<&str>, accepted: bool) {
        let mut state = self.lock();
        if state.run == run
            && let DBusClientState::Connected { service, authenticated, .. } = &mut state.phase
        {
            *service = owner.map(str::to_owned);
            *authenticated = accepted;
        }
    }

    /// There is a connection.
    pub(super) fn up(&self, run: u64, unique_name: &str) {
        let mut state = self.lock();
        if state.run == run {
            let unique_name = unique_name.to_owned();
            state.phase = DBusClientState::Connected { unique_name, service: None, authenticated: false };
            state.is_ready = false;
        }
    }

    /// The service has been looked for, and has seen the token: calls go out.
    pub(super) fn ready(&self, run: u64, unique_name: &str, outcome: &Result<()>) {
        let mut state = self.lock();
        if state.run == run {
            state.is_ready = true;
            state.waiters.drain(..).for_each(|waiter| tell(&waiter, outcome.clone()));
            drop(state);
            self.tell(DBusChange::Connected { unique_name: unique_name.to_owned() });
        }
    }

    /// There is no connection, or no longer. Says whether it is to be tried again.
    pub(super) fn down(&self, run: u64, why: &Error, was_ever_ready: bool) -> bool {
        let mut state = self.lock();
        if state.run != run {
            return false;
        }
        state.fail(why);
        let goes_on = was_ever_ready && self.config.reconnect;
        let was_up = matches!(state.phase, DBusClientState::Connected { .. });
        state.phase = if goes_on { DBusClientState::Lost(why.clone()) } else { DBusClientState::Idle };
        state.is_ready = false;
        drop(state);
        if was_up && was_ever_ready {
            self.tell(DBusChange::Lost(why.clone()));
        }
        goes_on
    }

    /// Waits until a lost bus is to be tried again; `false` where it is not any more.
    pub(super) fn pause(&self, run: u64, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while state.run == run && state.waiters.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.run == run
    }

    /// Waits for what comes of a connection that is being made; one that was lost is tried at once.
    pub(super) fn await_ready(&self, waiting: &Receiver<Result<()>>) -> Result<()> {
        self.changed.notify_all();
        let timeout = self.config.timeout;
        wait(waiting, timeout).unwrap_or_else(|| {
            if matches!(self.state(), DBusClientState::Connecting) {
                self.disconnect(false);
            }
            Err(Error::Timeout(format!("{} did not answer within {timeout:?}", self.config.bus)))
        })
    }

    /// What the connection is to do; `None` where it is not wanted any more.
    pub(super) fn take_orders(&self, run: u64) -> Option<VecDeque<Order>> {
        let mut state = self.lock();
        (state.run == run).then(|| std::mem::take(&mut state.orders))
    }

    /// Ends the connection, and waits a moment until it is gone where `waits` says so.
    pub(super) fn disconnect(&self, waits: bool) {
        let mut state = self.lock();
        state.run += 1;
        state.phase = DBusClientState::Idle;
        state.is_ready = false;
        state.fail(&Error::Connection("the client has disconnected".to_owned()));
        state.wake();
        state.wake = None;
        self.changed.notify_all();
        if waits {
            let over = self.changed.wait_timeout_while(state, GOODBYE, |state| state.threads > 0);
            drop(over);
        }
    }

    /// A thread of this client has ended.
    pub(super) fn thread_ended(&self) {
        self.lock().threads -= 1;
        self.changed.notify_all();
    }

    /// The last clone of the client is gone.
    pub(super) fn close(&self) {
        self.disconnect(false);
        self.dispatch.close();
    }
}

/// What is under the lock.
#[derive(Default)]
pub(super) struct State {
    pub(super) phase: DBusClientState,
    /// Calls go out.
    pub(super) is_ready: bool,
    /// Which thread may act: the last one that was started, if nobody has disconnected since.
    pub(super) run: u64,
    /// Threads that have not ended.
    pub(super) threads: usize,
    /// Wakes the one that acts.
    pub(super) wake: Option<Arc<EventFd>>,
    /// Who waits until there is a connection.
    pub(super) waiters: Vec<SyncSender<Result<()>>>,
    pub(super) token: Option<TokenText>,
    orders: VecDeque<Order>,
    handlers: Vec<(u64, Arc<Handler>)>,
    last_id: u64,
    /// Calls that wait for their answers.
    open: usize,
}

impl State {
    fn check_up(&self) -> Result<()> {
        match &self.phase {
            DBusClientState::Connected { .. } => Ok(()),
            DBusClientState::Idle => Err(Error::Connection("not connected: call connect first".to_owned())),
            DBusClientState::Connecting => {
                Err(Error::Connection("the connection is still being made".to_owned()))
            }
            DBusClientState::Lost(why) => {
                Err(Error::Connection(format!("{}; it is tried again", why.text())))
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn order(&mut self, order: Order) {
        if self.check_up().is_ok() {
            self.orders.push_back(order);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Fails only where it is awake already.
            let _ = wake.write(1);
        }
    }

    fn watchers(&self) -> Vec<Arc<Handler>> {
        let handlers = self.handlers.iter().filter(|(_, handler)| handler.select.is_none());
        handlers.map(|(_, handler)| Arc::clone(handler)).collect()
    }

    fn take_handler(&mut self, id: u64) -> Option<Arc<Handler>> {
        let at = self.handlers.iter().position(|(other, _)| *other == id)?;
        Some(self.handlers.remove(at).1)
    }

    /// Fails all that waits.
    fn fail(&mut self, why: &Error) {
        self.orders.drain(..).for_each(|order| order.fail(why));
        self.waiters.drain(..).for_each(|waiter| tell(&waiter, Err(why.clone())));
    }
}

/// What the connection is to do.
pub(super) enum Order {
    Call(Call),
    /// Nobody waits for this call any more.
    Forget(u64),
    Show(Show),
}

impl Order {
    pub(super) fn fail(self, why: &Error) {
        match self {
            Self::Call(call) => call.answer(Err(why.clone())),
            Self::Show(show) => show.answer(Err(why.clone())),
            Self::Forget(_) => {}
        }
    }
}

/// A call.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) message: Message,
    pub(super) to: To,
    pub(super) answer: Option<SyncSender<Result<Message>>>,
}

impl Call {
    pub(super) fn answer(self, result: Result<Message>) {
        if let Some(answer) = self.answer {
            tell(&answer, result);
        }
    }
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Service,
    Bus,
}

/// A token that is to be shown.
pub(super) struct Show {
    pub(super) token: TokenText,
    /// `None`: nobody waits, it is shown again.
    pub(super) answer: Option<SyncSender<Result<()>>>,
}

impl Show {
    pub(super) fn answer(self, result: Result<()>) {
        if let Some(answer) = self.answer {
            tell(&answer, result);
        }
    }
}

/// A call to the bus about a match rule.
pub(super) fn rule_call(member: &str, rule: &str) -> Message {
    Message::call_with_args(BUS, BUS_PATH, BUS, member, (rule,))
}

/// Tells one who waits; who does not wait any more is not there.
pub(super) fn tell<T>(waiter: &SyncSender<T>, result: T) {
    let _ = waiter.try_send(result);
}

/// What comes within `timeout`; `None` where nothing does.
fn wait<T>(waiting: &Receiver<Result<T>>, timeout: Duration) -> Option<Result<T>> {
    match waiting.recv_timeout(timeout) {
        Ok(result) => Some(result),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            Some(Err(error(ErrorKind::Internal, "the connection has dropped a call without an answer")))
        }
    }
}

fn too_late(service: &str, timeout: Duration) -> Error {
    Error::Timeout(format!("{service} did not answer within {timeout:?}"))
}

/// How long to wait for the thread when disconnecting.
const GOODBYE: Duration = Duration::from_secs(1);
