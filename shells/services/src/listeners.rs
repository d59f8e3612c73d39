//! Who is told of what happens: one thing after the other, also where a listener brings about the next one itself. The
//! configuration, the hardware and the monitoring tell by it.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The listeners of one manager, and what they are still to be told.
pub(crate) struct Listeners<T>(Mutex<State<T>>);

impl<T: Send + 'static> Listeners<T> {
    /// Has `listener` told of all that happens until the answer is dropped.
    pub(crate) fn add(self: &Arc<Self>, listener: impl Fn(&T) + Send + Sync + 'static) -> Listening {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.listeners.insert(number, Arc::new(listener));
        let of: Weak<dyn Forget> = Arc::<Self>::downgrade(self);
        Listening { number, of }
    }

    /// Puts what has happened behind what is still to be told. Where somebody holds that up, the oldest is lost.
    pub(crate) fn push(&self, events: impl IntoIterator<Item = T>) {
        let mut state = self.state();
        state.waiting.extend(events);
        let lost = state.waiting.len().saturating_sub(MOST_WAITING);
        state.waiting.drain(..lost);
        drop(state);
        if lost > 0 {
            tracing::error!(
                "a listener does not come back: {lost} things that have happened are told to nobody"
            );
        }
    }

    /// Tells of all that waits, in its order. One thread does at a time, for all that happens meanwhile: where another does
    /// already, this returns at once.
    pub(crate) fn deliver(&self) {
        if std::mem::replace(&mut self.state().is_telling, true) {
            return;
        }
        while let Some((event, listeners)) = self.next() {
            for listener in listeners {
                // The others are to be told too, and of the next one this one again.
                if catch_unwind(AssertUnwindSafe(|| listener(&event))).is_err() {
                    tracing::error!("a listener has panicked; the others are told all the same");
                }
            }
        }
    }

    /// As [`Listeners::push`] and [`Listeners::deliver`].
    pub(crate) fn tell(&self, event: T) {
        self.push([event]);
        self.deliver();
    }

    /// What is to be told next, and to whom; where there is nothing, nobody tells any more.
    fn next(&self) -> Option<(T, Vec<Arc<Listener<T>>>)> {
        let mut state = self.state();
        let event = state.waiting.pop_front();
        state.is_telling = event.is_some();
        Some((event?, state.listeners.values().cloned().collect()))
    }

    /// What is behind the lock is whole between any two lines that could panic.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Listeners<T> {
    fn default() -> Self {
        let (listeners, waiting) = (BTreeMap::new(), VecDeque::new());
        Self(Mutex::new(State { listeners, next: 0, waiting, is_telling: false }))
    }
}

impl<T: Send + 'static> Forget for Listeners<T> {
    fn forget(&self, number: u64) {
        let listener = self.state().listeners.remove(&number);
        // What it holds may end something that listens too.
        drop(listener);
    }
}

/// As long as it is kept, its listener is told of what happens; afterwards at most of what was on its way already.
#[must_use = "whoever drops it is told of nothing any more"]
pub struct Listening {
    number: u64,
    of: Weak<dyn Forget>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(listeners) = self.of.upgrade() {
            listeners.forget(self.number);
        }
    }
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listening")
    }
}

struct State<T> {
    listeners: BTreeMap<u64, Arc<Listener<T>>>,
    next: u64,
    waiting: VecDeque<T>,
    /// Some thread tells.
    is_telling: bool,
}

type Listener<T> = dyn Fn(&T) + Send + Sync;

/// Listeners of whatever.
trait Forget: Send + Sync {
    fn forget(&self, number: u64);
}

/// Many more than ever happen while a listener that comes back is told of one.
const MOST_WAITING: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Arc<Mutex<Vec<u32>>>;

    /// Listeners, what one of them was told, and what keeps it.
    fn heard() -> (Arc<Listeners<u32>>, Told, Listening) {
        let (listeners, told) = (Arc::<Listeners<u32>>::default(), Told::default());
        let teller = Arc::clone(&told);
        let listening = listeners.add(move |event| teller.lock().unwrap().push(*event));
        (listeners, told, listening)
    }

    #[test]
    fn what_a_listener_brings_about_is_told_after_what_it_was_told_and_to_all() {
        let (listeners, told, _listening) = heard();
        let of = Arc::downgrade(&listeners);
        let _more = listeners.add(move |event| {
            if *event < 10 {
                of.upgrade().unwrap().tell(event + 10);
            }
        });
        listeners.push([1, 2]);
        listeners.deliver();
        assert_eq!(*told.lock().unwrap(), [1, 2, 11, 12]);
    }

    #[test]
    fn one_that_is_dropped_is_told_of_nothing_and_what_it_held_is_let_go() {
        let (listeners, told, listening) = heard();
        listeners.tell(1);
        drop(listening);
        listeners.tell(2);
        assert_eq!((&*told.lock().unwrap(), Arc::strong_count(&told)), (&vec![1], 1));
        let last = listeners.add(|_| {});
        drop(listeners);
        drop(last);
    }

    #[test]
    fn one_that_panics_takes_nothing_with_it() {
        let listeners = Arc::<Listeners<u32>>::default();
        let _panicking = listeners.add(|_| panic!("a listener's own fault"));
        let told = Told::default();
        let teller = Arc::clone(&told);
        let _listening = listeners.add(move |event| teller.lock().unwrap().push(*event));
        listeners.tell(1);
        listeners.tell(2);
        assert_eq!(*told.lock().unwrap(), [1, 2]);
    }

    #[test]
    fn of_what_happens_while_one_does_not_come_back_the_newest_is_kept() {
        let (listeners, told, _listening) = heard();
        let of = Arc::downgrade(&listeners);
        let _slow = listeners.add(move |event| {
            if *event == 0 {
                let of = of.upgrade().unwrap();
                (1..=MOST_WAITING as u32 + 5).for_each(|event| of.tell(event));
            }
        });
        listeners.tell(0);
        let told = told.lock().unwrap();
        assert_eq!(
            (told.len(), told[1], told.last()),
            (MOST_WAITING + 1, 6, Some(&(MOST_WAITING as u32 + 5)))
        );
    }
}
