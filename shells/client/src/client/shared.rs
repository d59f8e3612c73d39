//! The ways of a client's threads through its one lock: connect, send, read, wait.
//!
//! Whoever waits for an answer reads himself, unless somebody does already; who is first to have his answer
//! hands the reading on. So a lone caller writes and reads on his own thread, and many share one reader. The lock is
//! never held while a thread waits for the hub.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use visorbus_auth::TokenText;
use visorbus_core::bus::{self, Announce, Register, Subscribe};
use visorbus_core::dispatch::RowHead;
use visorbus_core::message::{Address, AddressBuf};
use visorbus_core::{Message, MessagePayload};
use visorbus_hub::{Error, OwnedMessage, OwnedPayload, Result};

use super::state::{Link, OwnedRow, State, StateChange, Unwritten, Up, Used, Worker, back_off};
use super::vault::Sealed;
use super::worker::OnChange;
use crate::clock;
use crate::connection::{Connection, HANDSHAKE, Parts};
use crate::dialog::OWN_FRAME;
use crate::inbox::Frame;
use crate::wire::{Dial, Wait, Wire};

/// What all handles, subscriptions and threads of a client share.
pub(crate) struct Shared {
    dial: Arc<dyn Dial>,
    name: String,
    state: Mutex<State>,
    /// The link has changed.
    changed: Condvar,
    /// Held while the hub is told what this client serves and wants.
    setup: Mutex<()>,
    on_change: Mutex<Option<OnChange>>,
}

pub(crate) type Locked<'s> = MutexGuard<'s, State>;

impl Shared {
    pub(crate) fn new(dial: Arc<dyn Dial>, name: String, reconnects: bool) -> Self {
        let state = Mutex::new(State::new(dial.place(), reconnects));
        Self {
            dial,
            name,
            state,
            changed: Condvar::new(),
            setup: Mutex::new(()),
            on_change: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those that wait for the link to change.
    pub(crate) fn tell_changed(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn setup(&self) -> MutexGuard<'_, ()> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever watches the connection.
    pub(crate) fn tell(&self, change: StateChange) {
        let mut watcher = self.on_change.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = watcher.as_mut() {
            super::worker::guard(|| watcher(change));
        }
    }

    pub(crate) fn watch(&self, watcher: Option<OnChange>) {
        *self.on_change.lock().unwrap_or_else(PoisonError::into_inner) = watcher;
    }

    /// Ends everything; what others gave is dropped, and with it what it holds.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.hang_up("the client has ended");
        state.stopping = true;
        let feeds = std::mem::take(&mut state.feeds);
        let given = (std::mem::take(&mut state.handlers), state.unmatched.take(), state.jobs.clear());
        state.wake_worker();
        if let Some(keeper) = state.keeper.take() {
            keeper.unpark();
        }
        drop(state);
        self.changed.notify_all();
        // A watcher that drops the last clone is running, and ends by itself.
        let watcher = self.on_change.try_lock().ok().and_then(|mut watcher| watcher.take());
        drop(watcher);
        for feed in &feeds {
            feed.end(Error::Connection("the client was dropped".to_owned()));
        }
        drop((given, feeds));
    }

    pub(crate) fn place(&self) -> String {
        self.dial.place()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a request and waits for its answer; the answer has the request's own id back.
    pub(crate) fn request(&self, mut message: Message<'_>, timeout: Duration) -> Result<OwnedMessage> {
        let start = Instant::now();
        let deadline = start + timeout;
        let asked = message.id;
        message.flags.requires_response = true;
        message.flags.timeout_ms = Some(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1));
        let mut state = self.write(&mut message, true, start, deadline)?;
        let slot = state.slots.open(message.id);
        let is_sealed = state.vault.awaits(message.id);
        state = self.flush(state, deadline);
        let mut answer = self.wait(state, slot, start, deadline).map_err(|error| {
            if is_sealed {
                self.lock().vault.forget_call(message.id);
            }
            match error {
                Error::Timeout(text) if text.is_empty() => late(&message, timeout),
                other => other,
            }
        })?;
        if asked != 0 {
            answer.id = asked;
        }
        Ok(answer)
    }

    /// Sends a message that nobody here waits for; returns once all of it has left.
    pub(crate) fn send(&self, mut message: Message<'_>, timeout: Duration) -> Result<u64> {
        let start = Instant::now();
        let deadline = start + timeout;
        let mut state = self.write(&mut message, false, start, deadline)?;
        let all = state.up().map_or(0, |up| up.wire.accepted());
        let generation = state.generation;
        state = self.flush(state, deadline);
        let sent = state.generation == generation && state.up().is_some_and(|up| up.wire.written() >= all);
        state.pass_on();
        if sent { Ok(message.id) } else { Err(stuck(&message, timeout)) }
    }

    /// Sends a whole frame, an answer of a handler, if the connection that the request came on is still there; sealed where
    /// the request was.
    pub(crate) fn answer(&self, frame: &[u8], generation: u64, sealed: Option<&Sealed>) {
        let start = Instant::now();
        let deadline = start + HANDSHAKE;
        let Ok(mut state) = self.ready(self.lock(), start, deadline) else { return };
        let sealed_frame = sealed.map(|sealed| state.sealed_answer(frame, sealed));
        let frame = match &sealed_frame {
            None => frame,
            Some(Some(sealed)) => sealed,
            // The key was taken back meanwhile, and nobody would believe an open answer.
            Some(None) => return,
        };
        if state.generation == generation && state.up().is_some_and(|up| up.send(frame).is_err()) {
            state = self.give_up_broken(state, deadline);
        }
        drop(self.flush(state, deadline));
    }

    /// Gives the buffer of a frame back to whoever reads next.
    pub(crate) fn recycle(&self, frame: Frame) {
        if let Some(inbox) = self.lock().up().and_then(|up| up.inbox.as_mut()) {
            inbox.recycle(frame);
        }
    }

    /// Waits for the answer in `slot`, reading where nobody else does.
    fn wait<'s>(
        &'s self,
        mut state: Locked<'s>,
        slot: usize,
        start: Instant,
        deadline: Instant,
    ) -> Result<OwnedMessage> {
        let mut now = start;
        loop {
            if let Some(outcome) = state.slots.take(slot) {
                state.pass_on();
                return outcome;
            }
            if now >= deadline {
                state.slots.close(slot);
                state.pass_on();
                return Err(Error::Timeout(String::new()));
            }
            if state.can_step() {
                state = self.step(state, Wait::For(deadline - now));
            } else {
                state.slots.sleep(slot, thread::current());
                drop(state);
                thread::park_timeout(deadline - now);
                state = self.lock();
            }
            // Once the answer is there, nobody asks what time it is.
            if !state.slots.is_done(slot) {
                now = Instant::now();
            }
        }
    }

    /// Puts a message on the connection, under an id of this client's where its answer is `awaited`, or it has none and
    /// needs one. A connection that turns out to be gone
    /// before anything of the message has left is made again, once.
    fn write(
        &self,
        message: &mut Message<'_>,
        awaited: bool,
        start: Instant,
        deadline: Instant,
    ) -> Result<Locked<'_>> {
        let own_id = awaited || message.id == 0 || message.wants_answer();
        let mut state = self.lock();
        let mut tried = false;
        loop {
            state = self.ready(state, start, deadline)?;
            let Link::Up(up) = &mut state.link else { return Err(state.not_connected()) };
            if own_id {
                message.id = up.dialog.session_mut().take_id();
            }
            // Anew for another id: what is sealed is sealed for it.
            let wrapped = state.wrap(message, &self.name)?;
            let Link::Up(up) = &mut state.link else { return Err(state.not_connected()) };
            let written = match &wrapped {
                None => up.write(message),
                Some(wrapped) => up.write(&wrapped.of(message)),
            };
            match written {
                Ok(()) => {
                    let sealed = wrapped.and_then(|wrapped| wrapped.sealed).filter(|_| awaited);
                    sealed.into_iter().for_each(|sealed| state.vault.await_answer(sealed));
                    return Ok(state);
                }
                Err(Unwritten::Refused(error)) => return Err(error),
                Err(Unwritten::Broken) => state = self.give_up_broken(state, deadline),
            }
            if std::mem::replace(&mut tried, true) {
                return Err(state.not_connected());
            }
        }
    }

    /// Comes back when there is a connection and nothing waits to be written on it.
    fn ready<'s>(&'s self, mut state: Locked<'s>, start: Instant, deadline: Instant) -> Result<Locked<'s>> {
        let mut now = start;
        loop {
            // Where there is a thread of its own, that one connects.
            let connects = state.worker.is_none() && state.reconnects;
            match &mut state.link {
                Link::Up(up) => {
                    if up.wire.queued() == 0 && up.send_due(clock::instant(now)).is_err() {
                        state = self.give_up_broken(state, deadline);
                        continue;
                    }
                    if up.wire.queued() == 0 {
                        return Ok(state);
                    }
                    state = self.step(state, Wait::For(deadline.saturating_duration_since(now)));
                }
                Link::Connecting => {
                    let left = deadline.saturating_duration_since(now);
                    state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
                Link::Down { retry_at, .. } if connects && *retry_at <= now => {
                    state = self.reconnect(state);
                    if state.up().is_none() {
                        return Err(state.not_connected());
                    }
                }
                Link::Down { .. } | Link::Idle => return Err(state.not_connected()),
            }
            now = Instant::now();
            if now >= deadline {
                let place = &state.place;
                return Err(Error::Timeout(format!(
                    "the hub at '{place}' took nothing for the time that there was"
                )));
            }
        }
    }

    /// Waits until everything has left, at most until `deadline`.
    fn flush<'s>(&'s self, mut state: Locked<'s>, deadline: Instant) -> Locked<'s> {
        while state.up().is_some_and(|up| up.wire.queued() != 0) {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            state = self.step(state, Wait::For(deadline - now));
        }
        state
    }

    /// Brings the connection on by one system call or two: reads if nobody else does, writes what waits.
    pub(crate) fn step<'s>(&'s self, mut state: Locked<'s>, wait: Wait) -> Locked<'s> {
        let generation = state.generation;
        let Link::Up(up) = &mut state.link else { return state };
        let wire = Arc::clone(&up.wire);
        let has_more = up.wire.queued() != 0;
        let inbox = up.inbox.take();
        drop(state);
        let outcome = match inbox {
            Some(mut inbox) => {
                if has_more {
                    wait_both(&*wire, wait);
                }
                let read = wire.read(&mut inbox, if has_more { Wait::No } else { wait });
                Some((inbox, read))
            }
            None => {
                // Who reads may stop before there is room, and nobody else would know: so what arrives ends this wait
                // too, and either the reader takes it in a moment, or it is this thread's turn to read.
                if !wait_both(&*wire, wait) {
                    thread::yield_now();
                }
                None
            }
        };
        let mut state = self.lock();
        // Of a connection that was replaced meanwhile, nothing counts.
        if state.generation != generation {
            return state;
        }
        match (outcome, state.up()) {
            (Some((inbox, read)), _) => state.take_in(inbox, read),
            (None, Some(up)) => {
                // Whoever reads finds out what is wrong.
                let _ = up.flush();
            }
            (None, None) => {}
        }
        if state.generation != generation {
            self.changed.notify_all();
        }
        state
    }

    /// Takes what has arrived, if nobody else reads; does not wait.
    pub(crate) fn look(&self) -> Locked<'_> {
        let mut state = self.lock();
        if matches!(&state.link, Link::Up(up) if up.inbox.is_some()) {
            state = self.step(state, Wait::No);
            state.pass_on();
        }
        state
    }

    /// Takes a connection that cannot be written to to its end: what the hub had sent before is read first.
    fn give_up_broken<'s>(&'s self, mut state: Locked<'s>, deadline: Instant) -> Locked<'s> {
        let generation = state.generation;
        if let Some(up) = state.up() {
            up.wire.shutdown();
        }
        while state.generation == generation {
            let Link::Up(up) = &state.link else { return state };
            if up.inbox.is_some() {
                state = self.step(state, Wait::Ever);
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return state;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Connects and tells the hub what this client serves and wants; nothing to do where there is a connection.
    pub(crate) fn connect(&self) -> Result<()> {
        let mut state = self.lock();
        loop {
            match &state.link {
                Link::Up(_) => return Ok(()),
                Link::Connecting => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Link::Idle | Link::Down { .. } => break,
            }
        }
        let (state, opened) = self.open(state);
        drop(state);
        opened?;
        match self.restore().into_iter().next() {
            None => {
                self.note_restored(Vec::new());
                Ok(())
            }
            Some((what, error)) => {
                self.disconnect("could not be set up");
                Err(Error::new(error.kind(), format!("the hub refuses {what}: {}", error.text())))
            }
        }
    }

    /// Drops the connection, if there is one, and makes a new one at once.
    pub(crate) fn connect_anew(&self) -> Result<()> {
        let mut state = self.lock();
        while matches!(state.link, Link::Connecting) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if matches!(state.link, Link::Idle) {
            drop(state);
            return self.connect();
        }
        state.drop_to_reconnect();
        let (state, opened) = self.open(state);
        drop(state);
        opened?;
        let refused = self.restore();
        let first = refused.first().cloned();
        self.note_restored(refused);
        let Some((what, error)) = first else { return Ok(()) };
        Err(Error::new(error.kind(), format!("the hub refuses {what}: {}", error.text())))
    }

    /// Says goodbye; what was registered and subscribed is remembered for the next connection.
    pub(crate) fn disconnect(&self, reason: &str) {
        self.lock().hang_up(reason);
        self.changed.notify_all();
    }

    /// Makes a connection that was lost again; on failure notes when to try next.
    pub(crate) fn reconnect<'s>(&'s self, state: Locked<'s>) -> Locked<'s> {
        let (mut state, opened) = self.open(state);
        match opened {
            Ok(()) => {
                drop(state);
                self.note_restored(self.restore());
                state = self.lock();
            }
            Err(error @ Error::Connection(_)) => drop(error),
            Err(error) => state.change(StateChange::NotRestored { what: "the session".to_owned(), error }),
        }
        state
    }

    /// Tells whoever watches that there is a connection again, and what the hub refuses of what there was.
    fn note_restored(&self, refused: Vec<(String, Error)>) {
        let mut state = self.lock();
        state.change(StateChange::Connected);
        for (what, error) in refused {
            state.change(StateChange::NotRestored { what, error });
        }
        // A thread that reads hears of nothing but what arrives.
        let reads = state.watches_changes && state.worker.as_ref().is_some_and(Worker::is_another);
        drop(state);
        if reads {
            // Who it is the hub says to everybody; what it says does not matter, nor that it is gone already.
            let who = Message::request(0, const { Address::literal(bus::IDENTITY) });
            let _ = self.request(who, HANDSHAKE);
        }
    }

    /// Makes a connection while no other thread does.
    fn open<'s>(&'s self, mut state: Locked<'s>) -> (Locked<'s>, Result<()>) {
        let before = std::mem::replace(&mut state.link, Link::Connecting);
        let attempts = if let Link::Down { attempts, .. } = before { attempts } else { 0 };
        let token = state.token.clone();
        drop(state);
        let made = self.establish(token, attempts);
        let mut state = self.lock();
        let outcome = match (made, &state.link) {
            (Ok((up, early)), Link::Connecting) => {
                state.generation += 1;
                state.link = Link::Up(Box::new(up));
                early.iter().for_each(|message| state.deliver_early(message));
                Ok(())
            }
            (Ok(_), _) => Err(Error::Connection("disconnect() was called while connecting".to_owned())),
            (Err(error), Link::Connecting) => {
                state.link = match before {
                    Link::Down { .. } => {
                        let why = error.clone();
                        // What the hub refused once, it hardly takes a moment later.
                        let patience = if matches!(why, Error::Authentication(_)) { 16 } else { 1 };
                        Link::Down {
                            why,
                            retry_at: Instant::now() + back_off(attempts) * patience,
                            attempts: attempts + 1,
                        }
                    }
                    other => other,
                };
                Err(error)
            }
            (Err(error), _) => Err(error),
        };
        self.changed.notify_all();
        state.wake_worker();
        (state, outcome)
    }

    fn establish(&self, token: Option<TokenText>, attempts: u32) -> Result<(Up, Vec<OwnedMessage>)> {
        let deadline = Instant::now() + HANDSHAKE;
        let mut connection = Connection::open(&*self.dial, &self.name, deadline)?;
        if let Some(token) = token {
            connection.set_auth_token(token);
            connection.wait_authenticated(deadline.saturating_duration_since(Instant::now()))?;
        }
        let Parts { wire, inbox, dialog, messages } = connection.into_parts();
        let (own, since) = (Box::new([0; OWN_FRAME]), Instant::now());
        Ok((Up { wire, dialog, own, inbox: Some(inbox), since, attempts }, messages.into()))
    }

    /// Tells the hub of all handlers and subscriptions; says which it refuses.
    fn restore(&self) -> Vec<(String, Error)> {
        let _setup = self.setup();
        let state = self.lock();
        let components: Vec<String> = state.handlers.keys().cloned().collect();
        let uses: Vec<OwnedRow> = state.uses.values().map(|used| used.row.clone()).collect();
        let feeds = state.feeds.clone();
        drop(state);
        for row in uses {
            // One that does not agree is told to whoever uses it next; all others go on.
            let _ = self.agree(&row.head(), HANDSHAKE);
        }
        let components =
            components.iter().map(|name| (format!("the component '{name}'"), self.announce(name)));
        let feeds = feeds.iter().map(|feed| {
            (format!("the subscription '{}'", feed.pattern), self.ask_for(&feed.pattern, feed.policy))
        });
        components.chain(feeds).filter_map(|(what, outcome)| Some((what, outcome.err()?))).collect()
    }

    /// Has the hub send what comes for `component` here, if it was not told on this connection.
    pub(crate) fn announce(&self, component: &str) -> Result<()> {
        let mut state = self.lock();
        let generation = state.generation;
        let rows = match state.handlers.get_mut(component) {
            Some(known) if known.generation != generation => {
                known.generation = generation;
                Arc::clone(&known.rows)
            }
            _ => return Ok(()),
        };
        drop(state);
        // Before the component: nobody reaches it before the hub knows what it asks of its callers.
        for row in &*rows {
            match row.kind.is_offered() {
                true => self.tell_row(&row.head(), HANDSHAKE)?,
                false => drop(self.agree(&row.head(), HANDSHAKE)),
            }
        }
        // Its own name is a client's without saying so.
        if component == self.name {
            return Ok(());
        }
        self.tell_hub(bus::REGISTER, &OwnedPayload::postcard(&Register { component })?)
    }

    /// Tells the hub, once on each connection, which types this program was built with for an address.
    ///
    /// # Errors
    /// `Serialization` when the address has others; then the hub is asked anew the next time.
    pub(crate) fn agree(&self, row: &RowHead<'_>, timeout: Duration) -> Result<()> {
        let place = (row.kind, AddressBuf::from(row.address));
        let mut state = self.lock();
        let generation = state.generation;
        match state.uses.get(&place) {
            Some(used) if used.agreed == Some(generation) && used.row.head().describe() == row.describe() => {
                return Ok(());
            }
            _ => drop(state.uses.insert(place.clone(), Used { row: (*row).into(), agreed: None })),
        }
        drop(state);
        self.tell_row(row, timeout)?;
        self.lock().uses.insert(place, Used { row: (*row).into(), agreed: Some(generation) });
        Ok(())
    }

    fn tell_row(&self, row: &RowHead<'_>, timeout: Duration) -> Result<()> {
        let payload = OwnedPayload::postcard(&Announce {
            row: row.describe(),
            request_schema: row.schema.request.bytes,
            response_schema: row.schema.response.bytes,
        })?;
        let message = Message::request(0, const { Address::literal(bus::ANNOUNCE) });
        self.request(message.with_payload(payload.borrow()), timeout).map(|_| ())
    }

    /// Has the hub send what `pattern` selects.
    pub(crate) fn ask_for(&self, pattern: &str, policy: bus::SlowConsumer) -> Result<()> {
        self.tell_hub(bus::SUBSCRIBE, &OwnedPayload::postcard(&Subscribe { pattern, policy })?)
    }

    /// A request to the hub itself, whose answer says nothing more.
    pub(crate) fn tell_hub(&self, address: &'static str, payload: &OwnedPayload) -> Result<()> {
        let message = Message::request(0, visorbus_core::message::Address::literal(address));
        self.request(message.with_payload(payload.borrow()), HANDSHAKE).map(|_| ())
    }

    /// Tells the hub something without waiting, where there is a connection.
    pub(crate) fn mention(&self, state: &mut State, address: &'static str, text: &str) {
        let Some(up) = state.up() else { return };
        let id = up.dialog.session_mut().take_id();
        let mut message = Message::request(id, visorbus_core::message::Address::literal(address));
        message.flags.requires_response = false;
        // On a connection that is gone the hub has forgotten it anyway.
        let _ = up.write(&message.with_payload(MessagePayload::String(text)));
    }

    /// Sends the token that the state holds and waits for the hub to judge it.
    pub(crate) fn prove(&self) -> Result<()> {
        let start = Instant::now();
        let deadline = start + HANDSHAKE;
        let mut state = self.lock();
        if matches!(state.link, Link::Idle) {
            return Ok(());
        }
        let token = state.token.clone();
        state = self.ready(state, start, deadline)?;
        let Some((up, token)) = state.up().zip(token) else { return Ok(()) };
        up.dialog.set_token(token);
        let mut out = [0; OWN_FRAME];
        let len = up.dialog.prove(clock::instant(start), &mut out);
        if len == 0 {
            return Err(Error::Message("the last token is not judged yet: try again".to_owned()));
        }
        up.send(&out[..len])?;
        let slot = state.slots.open(visorbus_core::codec::peek_id(&out[..len]));
        state = self.flush(state, deadline);
        self.wait(state, slot, start, deadline).map(|_| ()).map_err(|error| match error {
            Error::Timeout(_) => Error::Timeout("the hub has not judged the token in time".to_owned()),
            other => other,
        })
    }

    /// Starts the client's own thread if there is none.
    pub(crate) fn start_worker(self: &Arc<Self>) -> Result<Option<JoinHandle<()>>> {
        let mut state = self.lock();
        if state.worker.is_some() {
            return Ok(None);
        }
        let started = self.spawn(super::worker::run)?;
        state.worker = Some(Worker { thread: started.thread().clone(), busy: false });
        Ok(Some(started))
    }

    /// Starts the thread that keeps connections alive, if there is none and they need one.
    pub(crate) fn start_keeper(self: &Arc<Self>) -> Result<Option<JoinHandle<()>>> {
        let mut state = self.lock();
        let Some(heartbeat) = self.dial.heartbeat().filter(|_| state.keeper.is_none()) else {
            return Ok(None);
        };
        let started = self.spawn(move |shared| super::keeper::run(shared, heartbeat / 3))?;
        state.keeper = Some(started.thread().clone());
        Ok(Some(started))
    }

    fn spawn(self: &Arc<Self>, run: impl FnOnce(&Self) + Send + 'static) -> Result<JoinHandle<()>> {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name(format!("visorbus-{}", self.name))
            .spawn(move || run(&shared))
            .map_err(|e| Error::Internal(format!("cannot start the client's thread: {e}")))
    }
}

/// Waits until something has arrived or there is room to write; says whether there is.
fn wait_both(wire: &dyn Wire, wait: Wait) -> bool {
    // A wait that fails is followed by a read or a write that says why.
    wire.wait(wait, true).unwrap_or(false)
}

fn late(message: &Message<'_>, timeout: Duration) -> Error {
    let address = message.destination.map_or("the hub", |address| address.as_str());
    Error::Timeout(format!("'{address}' has not answered within {} ms", timeout.as_millis()))
}

fn stuck(message: &Message<'_>, timeout: Duration) -> Error {
    let address = message.destination.map_or("the hub", |address| address.as_str());
    Error::Connection(format!(
        "the hub has not taken the message to '{address}' within {} ms, or went away: whether it arrived is not known",
        timeout.as_millis()
    ))
}
