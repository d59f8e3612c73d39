//! Links that say by themselves when they are ready, because no descriptor does: who of them is, and the hub's waking for
//! it. It knows numbers and no links.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use crate::poller::{Ready, Waker};

/// How a link that has no descriptor tells its hub that it is ready: see [`HubLink::attached`](crate::HubLink::attached).
///
/// It may be used on any thread, on the hub's own too while the hub is inside the link, another one or a listener: it only
/// makes a note, and never calls back. Notes of the same kind that the hub has not come to yet are one. The one of a link
/// that is gone does nothing.
#[derive(Clone)]
pub struct LinkSignal {
    all: Arc<Signals>,
    own: Arc<Own>,
}

impl LinkSignal {
    /// There is something for [`HubLink::receive`](crate::HubLink::receive) to take, the end of the connection among it.
    /// The hub asks once for it: a link that leaves something inside says so again.
    pub fn input(&self) {
        self.note(INPUT);
    }

    /// There is room again, after [`HubLink::flush`](crate::HubLink::flush) has said that something is left.
    pub fn output(&self) {
        self.note(OUTPUT);
    }

    fn note(&self, what: u8) {
        if self.own.flags.fetch_or(what, Ordering::AcqRel) == 0 {
            self.all.push(&self.own);
        }
    }
}

/// The links that are ready, in the order in which they have said so.
pub(crate) struct Signals {
    ready: Mutex<Vec<Arc<Own>>>,
    waker: Waker,
    /// The hub's own thread, once it runs: it looks here before it sleeps.
    thread: Arc<OnceLock<ThreadId>>,
}

/// What one link has said since it was served last.
struct Own {
    number: u64,
    flags: AtomicU8,
}

impl Signals {
    pub(crate) fn new(waker: Waker, thread: Arc<OnceLock<ThreadId>>) -> Arc<Self> {
        Arc::new(Self { ready: Mutex::default(), waker, thread })
    }

    /// The signal of the link `number`.
    pub(crate) fn signal(self: &Arc<Self>, number: u64) -> LinkSignal {
        LinkSignal { all: Arc::clone(self), own: Arc::new(Own { number, flags: AtomicU8::new(0) }) }
    }

    /// Whether any link is ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes those that are ready, each once; what is said from now on is for the next time.
    pub(crate) fn take(&self, into: &mut Vec<Ready>) {
        into.clear();
        into.extend(self.lock().drain(..).map(|own| {
            let flags = own.flags.swap(0, Ordering::AcqRel);
            Ready { number: own.number, input: flags & INPUT != 0, output: flags & OUTPUT != 0 }
        }));
    }

    fn push(&self, own: &Arc<Own>) {
        let mut ready = self.lock();
        // Whoever was the first since the hub has looked has woken it.
        let is_first = ready.is_empty();
        ready.push(Arc::clone(own));
        drop(ready);
        if is_first && self.thread.get() != Some(&thread::current().id()) {
            self.waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Own>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LinkSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkSignal({:#x})", self.own.number)
    }
}

const INPUT: u8 = 1;
const OUTPUT: u8 = 2;
