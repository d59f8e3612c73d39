//! The hub's own message handlers: inline ones, run in the loop, and ones that may block, run on a small pool.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_core::auth::Access;
use visorbus_core::dispatch::{
    Caller, Dispatched, Handlers, MessageHandler, NOBODY, Reply, RowHead, dispatch,
};
use visorbus_core::message::{Address, AddressBuf, Message, MessageType};
use visorbus_core::{ErrorKind, IpcError, codec};

use crate::HashMap;
use crate::calls::CallKey;
use crate::gate::{Denied, Further, Gate, OwnedGate};
use crate::held::{Lookout, Pulse};
use crate::peers::PeerKey;
use crate::poller::Waker;
use crate::rows::Row;
use crate::turns::Turns;

/// A handler that can be given to a hub.
pub type BoxedHandler = Box<dyn MessageHandler + Send>;

/// The handlers by the component that they handle.
pub(crate) struct Registry {
    by_id: HashMap<String, Entry>,
    pulse: Arc<Pulse>,
    /// There from the first handler on that runs inline.
    lookout: Option<Lookout>,
}

#[derive(Clone)]
struct Entry {
    handler: Arc<Mutex<BoxedHandler>>,
    may_block: bool,
    /// By what the pulse knows one that runs inline.
    number: u64,
    /// What it tells of its addresses.
    rows: Arc<[Row]>,
}

impl Registry {
    /// None yet; those that run inline are told of by `pulse`.
    pub(crate) fn new(pulse: Arc<Pulse>) -> Self {
        Self { by_id: HashMap::default(), pulse, lookout: None }
    }

    pub(crate) fn insert(&mut self, handler: BoxedHandler) -> Result<(), String> {
        let id = handler.id().to_owned();
        if self.by_id.contains_key(&id) {
            return Err(id);
        }
        self.put(id, handler);
        Ok(())
    }

    /// Has `handler` in the place of the one with its id.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn replace(&mut self, handler: BoxedHandler) -> Result<(), ()> {
        let id = handler.id().to_owned();
        if !self.by_id.contains_key(&id) {
            return Err(());
        }
        self.put(id, handler);
        Ok(())
    }

    fn put(&mut self, id: String, handler: BoxedHandler) {
        let may_block = handler.may_block();
        let heads = (0..usize::from(u16::MAX)).map_while(|number| handler.row(number));
        let rows: Arc<[Row]> =
            heads.map(|head| Row::from(&head)).filter(|row| row.component() == id).collect();
        let number = if may_block { 0 } else { self.look_after(&id) };
        let entry = Entry { handler: Arc::new(Mutex::new(handler)), may_block, number, rows };
        if let Some(before) = self.by_id.insert(id, entry) {
            self.pulse.remove(before.number);
        }
    }

    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let removed = self.by_id.remove(id);
        if let Some(entry) = &removed {
            self.pulse.remove(entry.number);
        }
        removed.is_some()
    }

    /// Has it noticed when the inline handler of `component` does not return.
    fn look_after(&mut self, component: &str) -> u64 {
        if self.lookout.is_none() {
            let started = Lookout::start(&self.pulse);
            let started = started.inspect_err(|error| {
                tracing::warn!("no thread notices when a handler holds up the hub: {error}");
            });
            self.lookout = started.ok();
        }
        self.pulse.add(component)
    }

    pub(crate) fn contains(&self, component: &str) -> bool {
        self.by_id.contains_key(component)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }

    /// What a handler tells of its addresses.
    pub(crate) fn rows(&self, component: &str) -> &[Row] {
        self.by_id.get(component).map_or(&[], |entry| &*entry.rows)
    }

    pub(crate) fn may_block(&self, component: &str) -> bool {
        self.by_id.get(component).is_some_and(|entry| entry.may_block)
    }

    /// Runs the handler of `message` here and now, if its sender may.
    pub(crate) fn run(&self, gate: &Gate<'_>, message: &Message<'_>, out: &mut [u8]) -> Ran {
        let Some(entry) = message.destination.and_then(|to| self.by_id.get(to.component())) else {
            let answer = codec::encode_error(message, &NOBODY, out).filter(|_| message.wants_answer());
            let dispatched = Dispatched { answer: answer.unwrap_or(0), refused: Some(NOBODY) };
            return Ran { outcome: Ok(dispatched), denied: Vec::new() };
        };
        self.pulse.begin(entry.number);
        // Nothing is heard of in the loop while a handler runs.
        let ran = entry.run(gate, message, &|| false, out);
        self.pulse.end();
        ran
    }

    /// The job that runs the handler of `component` for the message in `frame`, if its sender may; `None` when there is
    /// no such handler.
    pub(crate) fn job(&self, component: &str, gate: OwnedGate, frame: Box<[u8]>) -> Option<Job> {
        let entry = self.by_id.get(component)?.clone();
        Some(Job { entry, gate, frame, progress: Arc::default() })
    }
}

impl Entry {
    /// A number that no other handler has while this one is there.
    fn key(&self) -> usize {
        Arc::as_ptr(&self.handler).addr()
    }

    fn run(
        &self,
        gate: &Gate<'_>,
        message: &Message<'_>,
        cancelled: &dyn Fn() -> bool,
        out: &mut [u8],
    ) -> Ran {
        let further = Further::new(gate, message);
        // A handler that panicked is as good or as bad as before; its state is its own affair.
        let mut handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        let run = catch_unwind(AssertUnwindSafe(|| {
            gate.ask_for(message, message.destination.map_or(Access::Permission, |to| handler.access(to)))?;
            let caller = gate.caller(&further);
            let mut target = Target { handler: &mut **handler, caller: &caller, cancelled };
            Ok(dispatch(&mut target, caller, message, &mut *out))
        }));
        let outcome = run.unwrap_or_else(|_| {
            let answer = codec::encode_error(message, &PANICKED, out).filter(|_| message.wants_answer());
            Ok(Dispatched { answer: answer.unwrap_or(0), refused: Some(PANICKED) })
        });
        Ran { outcome, denied: further.into_denied() }
    }
}

impl From<&RowHead<'_>> for Row {
    fn from(head: &RowHead<'_>) -> Self {
        Self {
            request_schema: head.schema.request.bytes.into(),
            response_schema: head.schema.response.bytes.into(),
            ..Self::from(&head.describe())
        }
    }
}

/// What came of a run.
pub(crate) struct Ran {
    /// What the handler did, unless the sender of the message may not and it did not run.
    pub(crate) outcome: Result<Dispatched, Denied>,
    /// What else the handler asked whether the sender may, and was told no.
    pub(crate) denied: Vec<Denied>,
}

/// One [`MessageHandler`] as the [`Handlers`] that [`dispatch`] asks. Whether the caller may was asked at the gate, which
/// knows more than the caller's grant.
struct Target<'a> {
    handler: &'a mut (dyn MessageHandler + Send),
    caller: &'a Caller<'a>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Handlers for Target<'_> {
    type Key = ();

    fn find(&self, _address: Address<'_>, message_type: MessageType) -> Result<((), Access<'_>), IpcError> {
        if !self.handler.supported_message_types().contains(&message_type) {
            return Err(IpcError::Message("this handler does not take messages of this type"));
        }
        Ok(((), Access::Open))
    }

    fn call(&mut self, (): (), message: &Message<'_>, reply: &mut Reply<'_>) -> Result<(), IpcError> {
        self.handler.handle_for(self.caller, message, reply, self.cancelled)
    }
}

/// Runs handlers that may block.
pub(crate) struct Pool {
    jobs: Arc<Turns<Task>>,
    done: Receiver<Done>,
    /// Bytes of the messages that wait or run, by the peer whose they are, also after it has gone.
    waiting: HashMap<PeerKey, usize>,
    /// The jobs that wait or run, by their numbers.
    running: HashMap<u64, (PeerKey, Arc<Progress>)>,
    next: u64,
}

/// One run of a handler on the pool.
pub(crate) struct Job {
    entry: Entry,
    gate: OwnedGate,
    frame: Box<[u8]>,
    progress: Arc<Progress>,
}

/// How far a job is.
#[derive(Default)]
struct Progress {
    /// Nobody waits for its answer any more.
    cancelled: AtomicBool,
    /// When a thread has begun with it.
    began: OnceLock<Instant>,
}

/// The jobs of a pool.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) running: u64,
    pub(crate) waiting: u64,
    /// Those that run for nobody, and long.
    pub(crate) stuck: u64,
}

/// A job on its way.
struct Task {
    key: CallKey,
    number: u64,
    job: Job,
}

/// A run that is over.
pub(crate) struct Done {
    pub(crate) key: CallKey,
    /// What [`Pool::start`] called it.
    pub(crate) number: u64,
    /// The answer's frame; empty when nobody waits for one.
    pub(crate) answer: Box<[u8]>,
    /// Its sender may not, and the handler did not run.
    pub(crate) refused: Option<Denied>,
    /// What it failed with.
    pub(crate) failed: Option<ErrorKind>,
    /// The address that it served, and how long the message's payload was.
    pub(crate) served: Option<(AddressBuf, usize)>,
    /// As [`Ran::denied`].
    pub(crate) denied: Vec<Denied>,
    cost: usize,
}

/// Too much waits for the pool.
pub(crate) struct PoolFull {
    pub(crate) waiting: usize,
}

impl Pool {
    pub(crate) fn new(threads: usize, max_frame: usize, waker: &Waker) -> std::io::Result<Self> {
        let jobs = Arc::new(Turns::<Task>::default());
        let (finished, done) = channel();
        for number in 0..threads.max(1) {
            let (jobs, finished, waker) = (Arc::clone(&jobs), finished.clone(), waker.clone());
            thread::Builder::new().name(format!("visorbus-pool-{number}")).spawn(move || {
                let mut out = vec![0; max_frame];
                while let Some((handler, Task { key, number, job })) = jobs.take() {
                    let ran = job.run(&mut out);
                    jobs.done(handler);
                    let Ran { outcome, denied } =
                        ran.unwrap_or(Ran { outcome: Ok(NOTHING), denied: Vec::new() });
                    let (dispatched, refused) = match outcome {
                        Ok(dispatched) => (dispatched, None),
                        Err(refused) => (NOTHING, Some(refused)),
                    };
                    let is_served = refused.is_none() && dispatched.refused != Some(NOBODY);
                    let served = job.served().filter(|_| is_served);
                    let failed = dispatched.refused.map(|error| error.kind());
                    let (answer, cost) = (out[..dispatched.answer].into(), job.cost());
                    let done = Done { key, number, answer, refused, failed, served, denied, cost };
                    if finished.send(done).is_err() {
                        return;
                    }
                    waker.wake();
                }
            })?;
        }
        Ok(Self { jobs, done, waiting: HashMap::default(), running: HashMap::default(), next: 0 })
    }

    /// The number of the job that is started next.
    pub(crate) const fn next_number(&self) -> u64 {
        self.next
    }

    /// Runs `job` for the message `key` as soon as a thread is free, unless `limit` bytes of that peer's messages wait,
    /// or many times that of all.
    ///
    /// # Errors
    /// [`PoolFull`]: nothing was started.
    pub(crate) fn start(&mut self, key: CallKey, job: Job, limit: usize) -> Result<(), PoolFull> {
        let total: usize = self.waiting.values().sum();
        let own = self.waiting.entry(key.0).or_default();
        let waiting = if *own + job.cost() > limit { *own } else { total };
        if *own + job.cost() > limit || total + job.cost() > limit.saturating_mul(MANY) {
            return Err(PoolFull { waiting });
        }
        *own += job.cost();
        self.running.insert(self.next, (key.0, Arc::clone(&job.progress)));
        let task = Task { key, number: self.next, job };
        self.next += 1;
        self.jobs.push(task.job.entry.key(), task);
        Ok(())
    }

    /// Has a job know that nobody waits for it any more; one that has not begun does not.
    pub(crate) fn cancel(&mut self, number: u64) {
        if let Some((_, progress)) = self.running.get(&number) {
            progress.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// As [`Pool::cancel`] for all that a peer has sent, whether it waits for answers or not.
    pub(crate) fn cancel_all(&mut self, of: PeerKey) {
        for (peer, progress) in self.running.values() {
            if *peer == of {
                progress.cancelled.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The jobs that wait or run, and that somebody has a use for.
    pub(crate) fn in_use(&self) -> usize {
        self.running.values().filter(|(_, progress)| !progress.cancelled.load(Ordering::Relaxed)).count()
    }

    /// How much it has to do, where somebody waits for the answers of the jobs in `awaited`.
    pub(crate) fn load(&self, awaited: &HashSet<u64>) -> Load {
        let mut load = Load::default();
        for (number, (_, progress)) in &self.running {
            let Some(began) = progress.began.get() else {
                load.waiting += 1;
                continue;
            };
            load.running += 1;
            load.stuck += u64::from(began.elapsed() >= STUCK && !awaited.contains(number));
        }
        load
    }

    pub(crate) fn take_done(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        self.running.remove(&done.number);
        if let Some(waiting) = self.waiting.get_mut(&done.key.0) {
            *waiting -= done.cost;
            if *waiting == 0 {
                self.waiting.remove(&done.key.0);
            }
        }
        Some(done)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

impl Job {
    /// Runs the handler; `None` when that is no use any more.
    fn run(&self, out: &mut [u8]) -> Option<Ran> {
        let cancelled = || self.progress.cancelled.load(Ordering::Relaxed);
        if cancelled() {
            return None;
        }
        let _ = self.progress.began.set(Instant::now());
        let message = codec::decode(&self.frame).ok()?;
        Some(self.entry.run(&self.gate.borrow(), &message, &cancelled, out))
    }

    /// The address of its message, and how long the payload is.
    fn served(&self) -> Option<(AddressBuf, usize)> {
        let message = codec::decode(&self.frame).ok()?;
        Some((message.destination?.into(), message.payload.as_bytes().len()))
    }

    const fn cost(&self) -> usize {
        self.frame.len() + size_of::<Task>()
    }
}

/// So many peers may each have as much waiting as one may.
const MANY: usize = 8;
/// What runs for so long though nobody waits for it is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// Of a run that was no use any more.
const NOTHING: Dispatched = Dispatched { answer: 0, refused: None };
const PANICKED: IpcError = IpcError::Internal("the handler panicked; the hub goes on, its log says where");
