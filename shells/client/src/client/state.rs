//! What a client knows, under its lock: the connection, who waits, who subscribed, what is to be done. Never waits.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use visorbus_auth::TokenText;
use visorbus_core::auth::Access;
use visorbus_core::bus::RowKind;
use visorbus_core::dispatch::{MessageHandler, NOBODY, RowHead};
use visorbus_core::message::typed::SchemaPair;
use visorbus_core::message::{Address, AddressBuf, MessagePayload, MessageType};
use visorbus_core::{ErrorKind, IpcError, Message, bus, codec};
use visorbus_hub::{Error, OwnedMessage, Result, error};

use super::feed::{Feed, Offered};
use super::slots::Slots;
use super::vault::{Own, Sealed, Vault, Wrapped};
use super::worker::{Job, Serve};
use crate::clock;
use crate::connection::{HEAD, encode_head};
use crate::dialog::{Dialog, Heard, OWN_FRAME};
use crate::inbox::{Frame, Inbox};
use crate::wire::Wire;

/// Everything that the threads of a client share.
pub(crate) struct State {
    pub(crate) link: Link,
    /// Changes with each connection that is made or lost.
    pub(crate) generation: u64,
    pub(crate) token: Option<TokenText>,
    /// When that has to be renewed, if it was made for this client alone.
    pub(crate) refresh_at: Option<Instant>,
    pub(crate) slots: Slots,
    pub(crate) feeds: Vec<Arc<Feed>>,
    /// Takes the notifications that no subscription selects.
    pub(crate) unmatched: Option<Arc<Feed>>,
    pub(crate) handlers: HashMap<String, Registered>,
    /// The types that this program was built with, by address and what it does there.
    pub(crate) uses: HashMap<(RowKind, AddressBuf), Used>,
    pub(crate) vault: Vault,
    pub(crate) jobs: Jobs,
    /// The request whose handler runs, by its id and its source.
    pub(crate) running: Option<(u64, AddressBuf)>,
    /// Nobody waits for the answer of [`State::running`] any more.
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) worker: Option<Worker>,
    /// The thread that keeps connections alive, where they need it.
    pub(crate) keeper: Option<Thread>,
    pub(crate) stopping: bool,
    pub(crate) watches_changes: bool,
    /// Where the hub is, for people to read.
    pub(crate) place: String,
    pub(crate) reconnects: bool,
}

/// Each message is looked up; what is in these maps is the program's own, not from outside.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Whether there is a connection.
pub(crate) enum Link {
    /// There is none and none is wanted.
    Idle,
    /// Some thread is making one.
    Connecting,
    /// There is one.
    Up(Box<Up>),
    /// It was lost and is to be made again, not before `retry_at`.
    Down { why: Error, retry_at: Instant, attempts: u32 },
}

/// A live connection.
pub(crate) struct Up {
    pub(crate) wire: Arc<dyn Wire>,
    pub(crate) dialog: Dialog,
    /// Where the session writes what it says itself.
    pub(crate) own: Box<[u8; OWN_FRAME]>,
    /// Here while nobody reads; who takes it is the reader.
    pub(crate) inbox: Option<Inbox>,
    pub(crate) since: Instant,
    /// Attempts before it, the failed ones and those that were soon lost again.
    pub(crate) attempts: u32,
}

/// The client's own thread.
pub(crate) struct Worker {
    pub(crate) thread: Thread,
    /// It runs somebody's code and so cannot read.
    pub(crate) busy: bool,
}

impl Worker {
    /// Whether the thread that asks is not it.
    pub(crate) fn is_another(&self) -> bool {
        self.thread.id() != std::thread::current().id()
    }
}

/// A handler, and for which connection the hub knows of it.
pub(crate) struct Registered {
    pub(crate) handler: SharedHandler,
    /// What it tells of its addresses.
    pub(crate) rows: Arc<[OwnedRow]>,
    pub(crate) generation: u64,
}

/// What this program was built with for an address, and for which connection the hub knows of it and agrees.
pub(crate) struct Used {
    pub(crate) row: OwnedRow,
    pub(crate) agreed: Option<u64>,
}

/// A [`RowHead`] that owns its texts: a handler may tell rows that it made while running.
#[derive(Clone)]
pub(crate) struct OwnedRow {
    pub(crate) kind: RowKind,
    pub(crate) address: AddressBuf,
    /// The name in [`Access::Scope`].
    scope: Option<Box<str>>,
    /// It is [`Access::Open`].
    is_open: bool,
    schema: SchemaPair,
}

impl OwnedRow {
    pub(crate) fn head(&self) -> RowHead<'_> {
        RowHead {
            kind: self.kind,
            address: self.address.as_address(),
            access: self.access(),
            schema: self.schema,
        }
    }

    pub(crate) fn access(&self) -> Access<'_> {
        match &self.scope {
            Some(scope) => Access::Scope(scope),
            None if self.is_open => Access::Open,
            None => Access::Permission,
        }
    }
}

impl From<RowHead<'_>> for OwnedRow {
    fn from(head: RowHead<'_>) -> Self {
        let scope = match head.access {
            Access::Scope(scope) => Some(scope.into()),
            _ => None,
        };
        let is_open = head.access == Access::Open;
        Self { kind: head.kind, address: head.address.into(), scope, is_open, schema: head.schema }
    }
}

pub(crate) type SharedHandler = Arc<Mutex<Box<dyn MessageHandler + Send>>>;

/// What changed about a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateChange {
    /// There is a connection again; subscriptions and handlers were restored as far as the hub allows.
    Connected,
    /// The connection was lost; it is made again by itself unless that was switched off.
    Disconnected(Error),
    /// There is a hub, but it refuses part of what there was before, or takes it away: the session itself, a subscription,
    /// a component, a new token.
    NotRestored {
        /// What it refuses.
        what: String,
        /// Why.
        error: Error,
    },
}

/// Work for the client's own thread, in order.
#[derive(Default)]
pub(crate) struct Jobs {
    list: VecDeque<Job>,
    serve_bytes: usize,
}

impl Jobs {
    pub(crate) fn push(&mut self, job: Job) {
        if let Job::Serve(Serve { frame, .. }) = &job {
            self.serve_bytes += frame.bytes().len();
        }
        self.list.push_back(job);
    }

    pub(crate) fn pop(&mut self) -> Option<Job> {
        let job = self.list.pop_front()?;
        if let Job::Serve(Serve { frame, .. }) = &job {
            self.serve_bytes -= frame.bytes().len();
        }
        Some(job)
    }

    /// Drops the request `id` of `source` if its handler does not run yet; `true` when it was there.
    fn cancel(&mut self, id: u64, source: &str) -> bool {
        let asks = |job: &Job| {
            let Job::Serve(Serve { frame, .. }) = job else { return false };
            codec::decode(frame.bytes()).is_ok_and(|message| is_request(&message, id, source))
        };
        let Some(at) = self.list.iter().position(asks) else { return false };
        if let Some(Job::Serve(Serve { frame, .. })) = self.list.remove(at) {
            self.serve_bytes -= frame.bytes().len();
        }
        true
    }

    pub(crate) fn clear(&mut self) -> VecDeque<Job> {
        self.serve_bytes = 0;
        std::mem::take(&mut self.list)
    }
}

impl State {
    pub(crate) fn new(place: String, reconnects: bool) -> Self {
        Self {
            link: Link::Idle,
            generation: 0,
            token: None,
            refresh_at: None,
            slots: Slots::default(),
            feeds: Vec::new(),
            unmatched: None,
            handlers: HashMap::default(),
            uses: HashMap::default(),
            vault: Vault::default(),
            running: None,
            cancelled: Arc::default(),
            jobs: Jobs::default(),
            worker: None,
            keeper: None,
            stopping: false,
            watches_changes: false,
            place,
            reconnects,
        }
    }

    pub(crate) fn up(&mut self) -> Option<&mut Up> {
        match &mut self.link {
            Link::Up(up) => Some(up),
            _ => None,
        }
    }

    /// Whether a thread that has nothing better to do could bring the connection on: read from it, or write what waits.
    pub(crate) fn can_step(&self) -> bool {
        matches!(&self.link, Link::Up(up) if up.inbox.is_some() || up.wire.queued() != 0)
    }

    /// Takes in what the reader has read of the connection.
    pub(crate) fn take_in(&mut self, mut inbox: Inbox, read: io::Result<()>) {
        let mut outcome = read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Connection("the hub has closed it".to_owned()),
            _ => Error::Connection(error.to_string()),
        });
        loop {
            match inbox.next_frame() {
                Ok(Some(frame)) => match self.hear(frame) {
                    Ok(None) => {}
                    Ok(Some(timeout_ms)) => self.serve(inbox.take_frame(), timeout_ms, None),
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                },
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(Error::Protocol(format!("the hub breaks the framing: {error}")));
                    break;
                }
            }
        }
        if let Some(up) = self.up() {
            up.inbox = Some(inbox);
            if let Err(error) = up.flush() {
                outcome = outcome.and(Err(Error::Connection(error.to_string())));
            }
        }
        if let Err(why) = outcome {
            self.lose(why);
        }
    }

    /// Ends the connection, and all that waits for answers on it.
    pub(crate) fn lose(&mut self, why: Error) {
        let Link::Up(up) = &self.link else { return };
        // Whoever still waits on it wakes up.
        up.wire.shutdown();
        let now = Instant::now();
        // A hub that takes connections and drops them at once, one after the other, is not to be stormed.
        let (attempts, retry_at) = match (up.attempts, now.duration_since(up.since) < SOON) {
            (_, false) => (0, now),
            (0, true) => (1, now),
            (attempts, true) => (attempts + 1, now + back_off(attempts)),
        };
        self.generation += 1;
        let text = format!(
            "the connection to the hub at '{}' was lost while the request was pending ({}); whether it was carried \
             out is not known",
            self.place,
            why.text()
        );
        self.slots.fail_all(&Error::Connection(text));
        self.vault.forget_calls();
        self.change(StateChange::Disconnected(why.clone()));
        self.link = Link::Down { why, retry_at, attempts };
        self.wake_worker();
    }

    /// Ends the connection because nobody wants it any more.
    pub(crate) fn hang_up(&mut self, reason: &str) {
        if let Link::Up(up) = &mut self.link {
            let mut out = [0; OWN_FRAME];
            let len = up.dialog.session_mut().close(reason, clock::now(), &mut out);
            if len != 0 {
                // Nobody can be told if the hub was faster.
                let _ = up.wire.send(&out[..len], &[]);
            }
            up.wire.shutdown();
        }
        self.generation += 1;
        self.link = Link::Idle;
        let text = format!(
            "this end has disconnected from the hub at '{}' while the request was pending",
            self.place
        );
        self.slots.fail_all(&Error::Connection(text));
        self.vault.forget_calls();
    }

    /// Ends the connection, if there is one, because another is to take its place at once.
    pub(crate) fn drop_to_reconnect(&mut self) {
        if self.up().is_none() {
            return;
        }
        self.hang_up("it connects anew");
        let why = Error::Connection("this end connects anew".to_owned());
        self.change(StateChange::Disconnected(why.clone()));
        self.link = Link::Down { why, retry_at: Instant::now(), attempts: 0 };
    }

    /// Why nothing can be sent right now.
    pub(crate) fn not_connected(&self) -> Error {
        let place = &self.place;
        Error::Connection(match &self.link {
            Link::Down { why, .. } if self.reconnects => {
                format!("not connected to the hub at '{place}' ({}); it is tried again by itself", why.text())
            }
            Link::Down { why, .. } => {
                format!("not connected to the hub at '{place}' ({}): call connect() again", why.text())
            }
            _ => format!("not connected to the hub at '{place}': call connect() first"),
        })
    }

    /// Queues a state change for whoever watches them.
    pub(crate) fn change(&mut self, change: StateChange) {
        if self.watches_changes {
            self.jobs.push(Job::Change(change));
            self.wake_worker();
        }
    }

    /// Has somebody read who otherwise only waits; to be called by whoever stops reading.
    pub(crate) fn pass_on(&mut self) {
        if !matches!(&self.link, Link::Up(up) if up.inbox.is_some()) {
            return;
        }
        match &self.worker {
            Some(worker) if !worker.busy => worker.thread.unpark(),
            _ => {
                self.slots.wake_one();
            }
        }
    }

    pub(crate) fn wake_worker(&self) {
        if let Some(worker) = &self.worker {
            worker.thread.unpark();
        }
    }

    /// Takes a subscription away; `true` when it was there and no other has its pattern.
    pub(crate) fn remove_feed(&mut self, feed: &Arc<Feed>) -> bool {
        let before = self.feeds.len();
        self.feeds.retain(|known| !Arc::ptr_eq(known, feed));
        self.feeds.len() < before && !self.feeds.iter().any(|known| known.pattern == feed.pattern)
    }

    pub(crate) fn set_busy(&mut self, busy: bool) {
        if let Some(worker) = &mut self.worker {
            worker.busy = busy;
        }
    }

    /// Takes a message that came while the connection was made.
    pub(crate) fn deliver_early(&mut self, message: &OwnedMessage) {
        let Ok(message) = message.borrow() else { return };
        // Where not even this could be said, reading finds the end of the connection.
        if let Ok(Some(timeout_ms)) = self.take(&message) {
            self.serve(frame_of(&message).into(), timeout_ms, None);
        }
    }

    /// What is to be changed of a message of this client, which is called `name`, before it goes out.
    pub(crate) fn wrap(&mut self, message: &Message<'_>, name: &str) -> Result<Option<Wrapped>> {
        let compresses = matches!(&self.link, Link::Up(up) if up.dialog.session().compresses());
        let serves = |component: &str| self.handlers.contains_key(component);
        self.vault.wrap(message, Own { name, serves: &serves, compresses })
    }

    /// The frame of an answer to a sealed request, sealed; `None` when its key is not shared any more.
    pub(crate) fn sealed_answer(&mut self, frame: &[u8], to: &Sealed) -> Option<Vec<u8>> {
        let answer = codec::decode(frame).ok()?;
        let payload = self.vault.seal_answer(&answer, to)?;
        let mut answer = answer.with_payload(MessagePayload::Binary(&payload));
        answer.flags.encrypted = true;
        Some(frame_of(&answer))
    }

    /// Takes one frame; says for how many milliseconds somebody waits for its handler, if it is for one.
    fn hear(&mut self, frame: &[u8]) -> Result<Option<u32>> {
        let Link::Up(up) = &mut self.link else { return Ok(None) };
        let (answer, heard) = up.dialog.hear(frame, clock::now(), &mut *up.own);
        up.send_own(answer)?;
        match heard {
            Heard::Message(message) => return self.take(&message),
            Heard::Judged { answer, outcome } => self.judge(&answer, outcome),
            Heard::Over(error) => return Err(error),
            Heard::Nothing => {}
        }
        Ok(None)
    }

    /// Opens and expands a message where it has to be, and gives it to whom it is for; if that is a handler, and the frame
    /// is as it came, says for how many milliseconds somebody waits.
    fn take(&mut self, message: &Message<'_>) -> Result<Option<u32>> {
        let timeout_ms = message.flags.timeout_ms.unwrap_or(u32::MAX);
        let unwrapped = match self.vault.unwrap(message) {
            Ok(None) => {
                match self.deliver(message) {
                    For::Handler => return Ok(Some(timeout_ms)),
                    For::Nobody(why) => self.refuse(message, &why, None)?,
                    For::Client => {}
                }
                return Ok(None);
            }
            Ok(Some(unwrapped)) => unwrapped,
            Err(error) => return self.refuse_wrapped(message, error).map(|()| None),
        };
        let mut plain = message.with_payload(unwrapped.payload.borrow());
        match self.deliver(&plain) {
            For::Handler => {
                (plain.flags.encrypted, plain.flags.compressed) = (false, false);
                self.serve(frame_of(&plain).into(), timeout_ms, unwrapped.sealed);
            }
            For::Nobody(why) => self.refuse(message, &why, unwrapped.sealed.as_ref())?,
            For::Client => {}
        }
        Ok(None)
    }

    /// Has nobody get what is not sealed as it has to be, or does not open or expand.
    fn refuse_wrapped(&mut self, message: &Message<'_>, error: Error) -> Result<()> {
        if message.is_reply() {
            // One that nobody waits for came too late.
            if self.slots.fulfil(message.id, || Err(error)) {
                self.vault.count_refused();
            }
            return Ok(());
        }
        self.vault.count_refused();
        let why = IpcError::new(error.kind(), error.text().as_str());
        self.refuse(message, &why, None)?;
        if message.message_type == MessageType::Notification && self.vault.is_news(message) {
            let topic = message.destination;
            self.feeds
                .iter()
                .filter(|feed| feed.selects(topic))
                .for_each(|feed| feed.offer_error(error.clone()));
        }
        Ok(())
    }

    fn judge(&mut self, answer: &Message<'_>, outcome: Result<()>) {
        let error = outcome.clone().err();
        let awaited = self.slots.fulfil(answer.id, || outcome.map(|()| OwnedMessage::from(answer)));
        if let Some(error) = error.filter(|_| !awaited) {
            self.change(StateChange::NotRestored { what: "the authentication".to_owned(), error });
        }
    }

    /// Gives a message to whom it is for, but to a handler.
    fn deliver(&mut self, message: &Message<'_>) -> For {
        if message.is_reply() {
            // One that nobody waits for came too late.
            self.slots.fulfil(message.id, || {
                let answer = OwnedMessage::from(message);
                answer.error().map_or(Ok(answer), Err)
            });
            return For::Client;
        }
        let Some(destination) = message.destination else { return For::Nobody(NOBODY) };
        if message.message_type == MessageType::Notification {
            match destination.as_str() {
                bus::MISSED => self.note_missed(message),
                bus::MISMATCH => self.note_mismatch(message),
                bus::REVOKED => self.note_revoked(message),
                bus::CANCEL => self.cancel(message),
                _ => return self.deliver_notification(message, destination),
            }
            return For::Client;
        }
        self.find_handler(destination)
    }

    fn deliver_notification(&mut self, message: &Message<'_>, destination: Address<'_>) -> For {
        if self.feed(message, destination) && !self.serves(destination) {
            return For::Client;
        }
        self.find_handler(destination)
    }

    fn find_handler(&self, destination: Address<'_>) -> For {
        if !self.serves(destination) {
            return For::Nobody(NOBODY);
        }
        if self.jobs.list.len() >= MAX_JOBS || self.jobs.serve_bytes >= MAX_JOB_BYTES {
            return For::Nobody(BUSY);
        }
        For::Handler
    }

    /// Has the client's own thread run the handler of a frame, if it gets to it while somebody waits.
    fn serve(&mut self, frame: Frame, timeout_ms: u32, sealed: Option<Sealed>) {
        let expires = Instant::now() + Duration::from_millis(timeout_ms.into());
        let sealed = sealed.map(Box::new);
        self.jobs.push(Job::Serve(Serve { frame, generation: self.generation, expires, sealed }));
        self.wake_worker();
    }

    /// Gives a notification to the subscriptions that select it; `false` when nobody takes it.
    fn feed(&mut self, message: &Message<'_>, topic: Address<'_>) -> bool {
        let mut taken: Vec<_> = self.feeds.iter().filter(|feed| feed.selects(Some(topic))).cloned().collect();
        if taken.is_empty() && !self.serves(topic) {
            taken.extend(self.unmatched.clone());
        }
        for feed in &taken {
            let offered = feed.offer(OwnedMessage::from(message));
            self.schedule(feed, offered);
        }
        !taken.is_empty()
    }

    fn serves(&self, address: Address<'_>) -> bool {
        self.handlers.contains_key(address.component())
    }

    /// Whether an address belongs to this client, which is called `name`.
    pub(crate) fn is_own(&self, name: &str, address: Address<'_>) -> bool {
        address.component() == name || self.serves(address)
    }

    fn note_missed(&mut self, message: &Message<'_>) {
        let Ok(missed) = message.payload.parse::<bus::Missed<'_>>() else { return };
        let told = self.feeds.iter().find(|feed| feed.pattern == missed.pattern).cloned();
        if let Some(feed) = told {
            let offered = feed.offer_missed(missed.count);
            self.schedule(&feed, offered);
        }
    }

    /// What agreed does not any more: who uses the address next asks again, who awaits something from it is told.
    fn note_mismatch(&mut self, message: &Message<'_>) {
        let Ok(mismatch) = message.payload.parse::<bus::Mismatch<'_>>() else { return };
        for ((_, address), used) in &mut self.uses {
            if address.as_str() == mismatch.address {
                used.agreed = None;
            }
        }
        for feed in self.feeds.iter().filter(|feed| feed.pattern == mismatch.address) {
            feed.offer_error(Error::Serialization(mismatch.text.to_owned()));
        }
    }

    /// The hub has taken something away, because what this client may do has changed.
    fn note_revoked(&mut self, message: &Message<'_>) {
        let Ok(bus::Revoked { what, name, reason }) = message.payload.parse() else { return };
        let error = Error::Authorization(format!("{name}: {reason}"));
        let what = match what {
            bus::Lasting::Component => format!("the component '{name}'"),
            bus::Lasting::Subscription => {
                for feed in self.feeds.iter().filter(|feed| feed.pattern == name) {
                    feed.offer_error(error.clone());
                }
                format!("the subscription '{name}'")
            }
        };
        self.change(StateChange::NotRestored { what, error });
    }

    /// Nobody waits for the answer to a request any more: its handler is not run, or hears of it.
    fn cancel(&mut self, message: &Message<'_>) {
        let Ok(bus::Cancel { id, source }) = message.payload.parse() else { return };
        let runs = |(running, from): &(u64, AddressBuf)| *running == id && from.as_str() == source;
        if !self.jobs.cancel(id, source) && self.running.as_ref().is_some_and(runs) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }

    fn schedule(&mut self, feed: &Arc<Feed>, offered: Offered) {
        match offered {
            Offered::Queued => {}
            Offered::Schedule => {
                self.jobs.push(Job::Feed(Arc::clone(feed)));
                self.wake_worker();
            }
            Offered::Overflow => {
                let pattern = &feed.pattern;
                let text = format!("the subscription '{pattern}' did not keep up and wants nothing dropped");
                self.lose(Error::Message(text));
            }
        }
    }

    fn refuse(&mut self, message: &Message<'_>, why: &IpcError<&str>, sealed: Option<&Sealed>) -> Result<()> {
        if !message.wants_answer() {
            return Ok(());
        }
        let mut out = [0; OWN_FRAME];
        let len = codec::encode_error(message, why, &mut out).unwrap_or(0);
        let sealed = sealed.and_then(|sealed| self.sealed_answer(&out[..len], sealed));
        match self.up() {
            Some(up) if len != 0 => up.send(sealed.as_deref().unwrap_or(&out[..len])),
            _ => Ok(()),
        }
    }
}

impl Up {
    /// Writes what the session has to say by itself.
    pub(crate) fn send_due(&mut self, now: visorbus_core::Instant) -> Result<()> {
        loop {
            match self.dialog.poll_transmit(now, &mut *self.own) {
                0 => return Ok(()),
                len => self.send_own(len)?,
            }
        }
    }

    /// Writes what the session has said, if anything.
    fn send_own(&mut self, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let sent = self.wire.send(&self.own[..len], &[]);
        sent.map_err(|e| error(ErrorKind::Connection, e))
    }

    /// Writes a frame, or queues what the wire does not take.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<()> {
        let sent = self.wire.send(frame, &[]);
        sent.map_err(|e| error(ErrorKind::Connection, e))
    }

    /// Writes a message, or queues what the wire does not take.
    pub(crate) fn write(&mut self, message: &Message<'_>) -> std::result::Result<(), Unwritten> {
        let mut head = [0; HEAD];
        let (len, payload) = encode_head(message, &mut head).map_err(Unwritten::Refused)?;
        self.dialog.check_len(len + payload.len()).map_err(Unwritten::Refused)?;
        self.wire.send(&head[..len], payload).map_err(|_| Unwritten::Broken)
    }

    /// Writes what waits as far as there is room.
    pub(crate) fn flush(&self) -> io::Result<()> {
        if self.wire.queued() == 0 { Ok(()) } else { self.wire.flush().map(|_| ()) }
    }
}

/// A message's frame, without its length before it.
fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut frame = vec![0; HEAD + message.payload.as_bytes().len()];
    let len = codec::encode(message, &mut frame).unwrap_or(0);
    frame.truncate(len);
    frame
}

fn is_request(message: &Message<'_>, id: u64, source: &str) -> bool {
    let asks = message.message_type == MessageType::Request && message.wants_answer();
    asks && message.id == id && message.source.is_some_and(|from| from.as_str() == source)
}

/// Whom a message is for.
enum For {
    /// The client itself, which has it.
    Client,
    /// One of its handlers.
    Handler,
    /// Nobody here, and why.
    Nobody(IpcError),
}

/// Why a message was not written.
pub(crate) enum Unwritten {
    /// It cannot be sent as it is.
    Refused(Error),
    /// The connection is gone; where nothing was queued before it, nothing of it has left.
    Broken,
}

/// How long after a failed attempt the next one comes: 10 ms, doubled each time, one second at most.
pub(crate) fn back_off(attempts: u32) -> Duration {
    Duration::from_millis(10 << attempts.min(7)).min(Duration::from_secs(1))
}

/// A connection that does not last this long counts as a failed attempt.
const SOON: Duration = Duration::from_secs(1);
/// Requests and notifications that may wait for a handler of this client.
const MAX_JOBS: usize = 1024;
const MAX_JOB_BYTES: usize = 16 << 20;
const BUSY: IpcError = IpcError::Message("the handler's queue is full: send slower, or try again later");
