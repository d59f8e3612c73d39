//! What waits for the threads of the pool: one run at a time for each handler, and one handler after the other. What waits
//! for a handler that takes its time, or never returns, keeps no thread from the others.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::HashMap;

/// Work, by the handler that it is for.
pub(crate) struct Turns<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// What waits for each handler that something waits for or that runs.
    waiting: HashMap<usize, VecDeque<T>>,
    /// Handlers that something waits for and that do not run, in the order of their turns.
    ready: VecDeque<usize>,
    closed: bool,
}

impl<T> Turns<T> {
    /// Adds work for `handler`; any number that is its own while it has work.
    pub(crate) fn push(&self, handler: usize, work: T) {
        let mut state = self.state();
        match state.waiting.get_mut(&handler) {
            // It runs, or has its place in the row.
            Some(waiting) => waiting.push_back(work),
            None => {
                state.waiting.insert(handler, VecDeque::from([work]));
                state.ready.push_back(handler);
                self.changed.notify_one();
            }
        }
    }

    /// Work to be done by this thread, which says [`Turns::done`] after it; waits while there is none. `None` once all is
    /// over.
    pub(crate) fn take(&self) -> Option<(usize, T)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let next = state.ready.pop_front();
            let work =
                next.and_then(|handler| Some((handler, state.waiting.get_mut(&handler)?.pop_front()?)));
            if work.is_some() {
                return work;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A handler has done what [`Turns::take`] gave.
    pub(crate) fn done(&self, handler: usize) {
        let mut state = self.state();
        if state.waiting.get(&handler).is_some_and(VecDeque::is_empty) {
            state.waiting.remove(&handler);
        } else {
            state.ready.push_back(handler);
            self.changed.notify_one();
        }
    }

    /// Nothing more is done; what waits is dropped with this.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        // What is dropped may hold what holds this.
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        drop(dropped);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        let state = State { waiting: HashMap::default(), ready: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_handler_that_runs_keeps_no_thread_from_another() {
        let turns = Turns::default();
        turns.push(1, "a");
        turns.push(1, "b");
        turns.push(1, "c");
        turns.push(2, "d");
        assert_eq!(turns.take(), Some((1, "a")));
        assert_eq!(turns.take(), Some((2, "d")), "1 still runs");
        turns.done(1);
        turns.push(3, "e");
        assert_eq!(turns.take(), Some((1, "b")));
        turns.done(1);
        assert_eq!(turns.take(), Some((3, "e")), "its turn is before the next of 1");
        assert_eq!(turns.take(), Some((1, "c")));
        for handler in [1, 2, 3] {
            turns.done(handler);
        }
        assert!(turns.state().waiting.is_empty() && turns.state().ready.is_empty());
    }

    #[test]
    fn after_the_end_nothing_is_done_and_nobody_waits() {
        let turns = Turns::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.take());
            turns.close();
            assert_eq!(waiting.join().unwrap(), None);
        });
        turns.push(1, "a");
        turns.done(1);
        assert_eq!(turns.take(), None);
    }
}
