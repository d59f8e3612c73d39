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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::{Poller, WOKEN};

    /// A ready list whose hub runs on this thread.
    fn signals(poller: &Poller) -> Arc<Signals> {
        let thread = OnceLock::new();
        thread.set(thread::current().id()).unwrap();
        Signals::new(poller.waker(), Arc::new(thread))
    }

    fn taken(signals: &Signals) -> Vec<(u64, bool, bool)> {
        let mut ready = Vec::new();
        signals.take(&mut ready);
        ready.iter().map(|ready| (ready.number, ready.input, ready.output)).collect()
    }

    fn is_woken(poller: &mut Poller) -> bool {
        let mut events = Vec::new();
        poller.wait(&mut events, true).unwrap();
        events.iter().any(|ready| ready.number == WOKEN)
    }

    #[test]
    fn what_is_said_again_before_it_is_served_is_one_note_and_each_has_its_turn() {
        let poller = Poller::new().unwrap();
        let signals = signals(&poller);
        let (one, two) = (signals.signal(1), signals.signal(2));
        for _ in 0..1_000 {
            one.input();
            two.output();
            one.clone().input();
        }
        two.input();
        assert_eq!(taken(&signals), [(1, true, false), (2, true, true)]);
        assert!(signals.is_empty() && taken(&signals).is_empty());
        one.output();
        assert_eq!(taken(&signals), [(1, false, true)]);
    }

    #[test]
    fn the_hubs_own_thread_does_not_wake_it_and_another_does_once() {
        let mut poller = Poller::new().unwrap();
        let signals = signals(&poller);
        let link = signals.signal(1);
        link.input();
        assert!(!is_woken(&mut poller) && !signals.is_empty());
        taken(&signals);
        let elsewhere = thread::spawn(move || (0..10).for_each(|_| link.input()));
        elsewhere.join().unwrap();
        assert!(is_woken(&mut poller));
        assert!(!is_woken(&mut poller));
        assert_eq!(taken(&signals), [(1, true, false)]);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let mut poller = Poller::new().unwrap();
        let signals = signals(&poller);
        let counts: Arc<[std::sync::atomic::AtomicU32; 4]> = Arc::default();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (signal, counts) = (signals.signal(number as u64), Arc::clone(&counts));
                thread::spawn(move || {
                    for _ in 0..10_000 {
                        counts[number].fetch_add(1, Ordering::SeqCst);
                        signal.input();
                    }
                })
            })
            .collect();
        let mut seen = [0; 4];
        while seen != [10_000; 4] {
            // As the hub does: it sleeps only while nothing is there, and then it is woken.
            poller.wait(&mut Vec::new(), !signals.is_empty()).unwrap();
            for (number, ..) in taken(&signals) {
                seen[number as usize] = counts[number as usize].load(Ordering::SeqCst);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
