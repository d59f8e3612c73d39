//! The client's own thread: runs handlers and callbacks, reads while nobody else does, connects again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Instant;

use visorbus_core::auth::Access;
use visorbus_core::bus::RowKind;
use visorbus_core::dispatch::{Caller, Handlers, MessageHandler, Reply, dispatch};
use visorbus_core::message::{Address, AddressBuf, MessageType};
use visorbus_core::seal::OVERHEAD;
use visorbus_core::{IpcError, Message, codec};

use super::feed::Feed;
use super::shared::{Locked, Shared};
use super::state::{Link, OwnedRow, Registered, SharedHandler, StateChange};
use super::vault::Sealed;
use crate::clock;
use crate::inbox::Frame;
use crate::wire::Wait;

/// One thing to do.
pub(crate) enum Job {
    /// A message for a handler.
    Serve(Serve),
    /// A subscription with a callback has something.
    Feed(Arc<Feed>),
    /// Something for whoever watches the connection.
    Change(StateChange),
    /// The token has to be renewed.
    Refresh,
}

/// A message for a handler, from the connection `generation`, whose caller does not wait longer than `expires`.
pub(crate) struct Serve {
    pub(crate) frame: Frame,
    pub(crate) generation: u64,
    pub(crate) expires: Instant,
    /// It was sealed; it is open in `frame`, and its answer is sealed again.
    pub(crate) sealed: Option<Box<Sealed>>,
}

/// Takes state changes.
pub(crate) type OnChange = Box<dyn FnMut(StateChange) + Send>;

/// What the thread does until the client is dropped.
pub(crate) fn run(shared: &Shared) {
    let mut answer = Vec::new();
    let mut state = shared.lock();
    while !state.stopping {
        if let Some(job) = state.jobs.pop() {
            state.set_busy(true);
            // While this thread runs somebody's code, somebody else reads.
            state.pass_on();
            drop(state);
            job.run(shared, &mut answer);
            state = shared.lock();
            state.set_busy(false);
            continue;
        }
        state = turn(shared, state);
    }
    state.worker = None;
}

/// Brings the connection on, or waits until there is something to do.
fn turn<'s>(shared: &'s Shared, mut state: Locked<'s>) -> Locked<'s> {
    let now = Instant::now();
    let reconnects = state.reconnects;
    if state.up().is_some() && state.refresh_at.take_if(|at| *at <= now).is_some() {
        state.jobs.push(Job::Refresh);
        return state;
    }
    let refresh_in = state.refresh_at.map(|at| at - now);
    let pause = match &mut state.link {
        Link::Up(up) => {
            if let Err(silent) = up.dialog.check_alive(clock::instant(now)) {
                state.lose(silent);
                shared.tell_changed();
                return state;
            }
            if up.wire.queued() == 0 && up.send_due(clock::instant(now)).is_err() {
                // Reading finds the end of the connection.
                up.wire.shutdown();
            }
            let due = up.dialog.poll_timeout().map(|due| due.duration_since(clock::instant(now)));
            let due = due.into_iter().chain(refresh_in).min();
            if state.can_step() {
                return shared.step(state, due.map_or(Wait::Ever, Wait::For));
            }
            due
        }
        Link::Down { retry_at, .. } if reconnects => {
            if *retry_at <= now {
                return shared.reconnect(state);
            }
            Some(*retry_at - now)
        }
        Link::Down { .. } | Link::Idle | Link::Connecting => None,
    };
    drop(state);
    match pause {
        Some(pause) => thread::park_timeout(pause),
        None => thread::park(),
    }
    shared.lock()
}

impl Job {
    fn run(self, shared: &Shared, answer: &mut Vec<u8>) {
        match self {
            Self::Serve(job) => {
                serve(shared, &job, answer);
                shared.recycle(job.frame);
            }
            Self::Feed(feed) => {
                if feed.run() {
                    shared.lock().jobs.push(Self::Feed(feed));
                }
            }
            Self::Change(change) => shared.tell(change),
            Self::Refresh => shared.refresh_in_time(),
        }
    }
}

/// Runs the handler of a message and sends its answer.
fn serve(shared: &Shared, job: &Serve, answer: &mut Vec<u8>) {
    let Serve { generation, expires, ref sealed, .. } = *job;
    // It was decoded before it came here.
    let Ok(message) = codec::decode(job.frame.bytes()) else { return };
    let mut state = shared.lock();
    let gone = state.generation != generation || expires <= Instant::now();
    if message.wants_answer() && gone {
        // Its caller was told that nothing comes any more.
        return;
    }
    let component = message.destination.map_or("", Address::component);
    let known = state.handlers.get(component);
    let handler = known.map(|known| Arc::clone(&known.handler));
    // A client's own name leads to it before the hub has been told any rows.
    let has_rows = |known: &&Registered| !known.rows.is_empty() && component != shared.name();
    let rows = known.filter(has_rows).map(|known| Arc::clone(&known.rows));
    let cancelled = Arc::clone(&state.cancelled);
    cancelled.store(false, Ordering::Relaxed);
    let source = message.source.filter(|_| message.wants_answer());
    state.running = source.map(|source| (message.id, AddressBuf::from(source)));
    let room = state.up().map_or(0, |up| up.dialog.max_frame());
    let room = room.saturating_sub(if sealed.is_some() { OVERHEAD } else { 0 });
    drop(state);
    // Pages that no answer has reached yet cost nothing.
    if answer.len() != room {
        *answer = vec![0; room];
    }
    let caller = Caller::new(None, None);
    let asks = || {
        drop(shared.look());
        cancelled.load(Ordering::Relaxed)
    };
    let mut target = Target { handler, rows, cancelled: &asks };
    let run = guard(|| dispatch(&mut target, caller, &message, answer).answer);
    let len = match run {
        Some(len) => len,
        None if message.wants_answer() => codec::encode_error(&message, &PANICKED, answer).unwrap_or(0),
        None => 0,
    };
    if len != 0 && !cancelled.load(Ordering::Relaxed) {
        shared.answer(&answer[..len], generation, sealed.as_deref());
    }
}

/// Runs somebody's code; `None` when it panicked, which is its own affair and not the client's end.
pub(crate) fn guard<T>(code: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(code)).ok()
}

/// A handler of this client as [`dispatch`] asks for it.
///
/// # Who may call it
/// The hub has asked its one question, may this caller do this operation on this address, before it handed the message
/// on, and only the hub can: it knows the caller's grant, which it never forwards. So an address that takes a
/// *permission* is open here; nobody but the hub can reach it, over a connection to what the transport says is the hub. So is
/// one that takes a *scope* if the hub was told so, in a row, before it knew that the component is here. Any other scope
/// is refused: the hub does not know that this handler asks for it, so nobody has looked.
struct Target<'a> {
    handler: Option<SharedHandler>,
    /// The rows that the hub knows.
    rows: Option<Arc<[OwnedRow]>>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Target<'_> {
    /// Whether the hub has asked what `access` asks.
    fn was_asked(&self, address: Address<'_>, message_type: MessageType, access: Access<'_>) -> bool {
        let kind = if message_type == MessageType::Request { RowKind::Endpoint } else { RowKind::Hears };
        // As the hub: of two rows for the same the first counts.
        let own = |row: &&OwnedRow| row.kind == kind && row.address.as_address() == address;
        let row = self.rows.iter().flat_map(|rows| rows.iter()).find(own);
        row.is_some_and(|row| row.access() == access)
    }
}

impl Handlers for Target<'_> {
    type Key = ();

    fn find(&self, address: Address<'_>, message_type: MessageType) -> Result<((), Access<'_>), IpcError> {
        let handler = self.handler.as_ref().ok_or(visorbus_core::dispatch::NOBODY)?;
        let handler = handler.lock().unwrap_or_else(PoisonError::into_inner);
        if !handler.supported_message_types().contains(&message_type) {
            return Err(IpcError::Message("this handler does not take messages of this type"));
        }
        match handler.access(address) {
            Access::Permission | Access::Open => Ok(((), Access::Open)),
            scope if self.was_asked(address, message_type, scope) => Ok(((), Access::Open)),
            Access::Scope(_) => Err(IpcError::Authorization(
                "this address needs a scope that the hub was not told of: serve it from a row, under a registered name",
            )),
        }
    }

    fn call(&mut self, (): (), message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        let Some(handler) = &self.handler else { return Err(visorbus_core::dispatch::NOBODY) };
        let mut handler = handler.lock().unwrap_or_else(PoisonError::into_inner);
        MessageHandler::handle_until(&mut **handler, message, reply, self.cancelled)
    }
}

const PANICKED: IpcError = IpcError::Internal("the handler panicked; the client goes on, its log says where");
