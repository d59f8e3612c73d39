//! What other threads are told of who comes and goes, each through a bounded queue of its own that the hub never waits for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Tells who comes to a hub and goes, as [`HubHandle::watch`](crate::HubHandle::watch) makes it. Dropping it ends that.
///
/// It tells of what happens from then on: ask [`HubHandle::peers`](crate::HubHandle::peers) for what is there, after this
/// was made, so that nothing is missed between the two.
#[derive(Debug)]
pub struct HubWatch {
    shared: Arc<Shared>,
}

impl HubWatch {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { waiting: VecDeque::new(), missed: 0, is_woken: false, has_ended: false };
        let (state, told) = (Mutex::new(state), Condvar::new());
        Self { shared: Arc::new(Shared { capacity: capacity.max(1), state, told }) }
    }

    pub(crate) fn watcher(&self) -> Watcher {
        Watcher(Arc::downgrade(&self.shared))
    }

    /// The next event, which is waited for at most so long. `None` when there was none, and at once when nothing is left
    /// and the hub [has ended](HubWatch::has_ended), or somebody [wakes](HubWatch::wake) who waits.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<HubEvent> {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.shared.lock();
        loop {
            if let Some(event) = state.take() {
                return Some(event);
            }
            let left = until.map_or(FOREVER, |until| until.saturating_duration_since(Instant::now()));
            if std::mem::take(&mut state.is_woken) || state.has_ended || left.is_zero() {
                return None;
            }
            state = self.shared.told.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has whoever waits for an event, or else the next who does, return without one once nothing is left.
    pub fn wake(&self) {
        self.shared.lock().is_woken = true;
        self.shared.told.notify_all();
    }

    /// Has whoever waits for an event return at once, and tells of nothing more, as if the hub had ended: for a thread that is
    /// to end before it does.
    pub fn end(&self) {
        let mut state = self.shared.lock();
        state.waiting.clear();
        state.missed = 0;
        drop(state);
        self.shared.end();
    }

    /// Whether the hub has ended: nothing comes after what waits.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().has_ended
    }
}

/// Somebody came to a hub, or went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubEvent {
    /// A component can be reached, and what it offers is known; also told when one offers something for the first time.
    ComponentUp {
        /// The component.
        component: String,
        /// The peer that serves it; empty: the hub itself.
        peer: String,
    },
    /// A component that was told of is gone.
    ComponentDown {
        /// The component.
        component: String,
        /// The peer that served it; empty: the hub itself.
        peer: String,
    },
    /// A peer has proven its name.
    PeerUp {
        /// Its name.
        name: String,
        /// How it is connected, as in [`PeerInfo::transport`](crate::info::PeerInfo::transport).
        transport: String,
    },
    /// A peer is gone, or its session has begun anew.
    PeerDown {
        /// Its name.
        name: String,
        /// How it was connected.
        transport: String,
        /// Why, for people to read.
        why: String,
    },
    /// So many events before the next one are lost, because they were not taken in time: look again at all there is.
    Missed {
        /// How many.
        count: u64,
    },
}

/// The hub's end of all watches. They are told that the hub has ended when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub(crate) fn insert(&mut self, watcher: Watcher) {
        self.0.retain(|watcher| watcher.0.strong_count() > 0);
        self.0.push(watcher);
    }

    /// Tells all; what is told is only made where somebody watches.
    pub(crate) fn tell(&mut self, event: impl FnOnce() -> HubEvent) {
        if self.0.is_empty() {
            return;
        }
        let event = event();
        self.0.retain(|watcher| watcher.0.upgrade().map(|shared| shared.tell(event.clone())).is_some());
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.0.iter().filter_map(|watcher| watcher.0.upgrade()).for_each(|shared| shared.end());
    }
}

/// The hub's end of one watch.
#[derive(Debug)]
pub(crate) struct Watcher(Weak<Shared>);

#[derive(Debug)]
struct Shared {
    /// Events that wait at most.
    capacity: usize,
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<HubEvent>,
    /// Events that were dropped before those that wait.
    missed: u64,
    is_woken: bool,
    has_ended: bool,
}

impl Shared {
    /// The oldest event goes where there is no room.
    fn tell(&self, event: HubEvent) {
        let mut state = self.lock();
        if state.has_ended {
            return;
        }
        if state.waiting.len() >= self.capacity {
            state.waiting.pop_front();
            state.missed += 1;
        }
        state.waiting.push_back(event);
        drop(state);
        self.told.notify_all();
    }

    fn end(&self) {
        self.lock().has_ended = true;
        self.told.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<HubEvent> {
        match std::mem::take(&mut self.missed) {
            0 => self.waiting.pop_front(),
            count => Some(HubEvent::Missed { count }),
        }
    }
}

/// Where the end of a wait cannot be said in the clock.
const FOREVER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn up(name: u32) -> HubEvent {
        HubEvent::PeerUp { name: name.to_string(), transport: "unix".to_owned() }
    }

    #[test]
    fn a_watch_that_nobody_reads_keeps_the_newest_and_says_how_many_are_lost() {
        let watch = HubWatch::new(3);
        let mut watchers = Watchers::default();
        watchers.insert(watch.watcher());
        (0..1_000).for_each(|name| watchers.tell(|| up(name)));
        assert_eq!(watch.shared.lock().waiting.len(), 3);
        let seen: Vec<HubEvent> = std::iter::from_fn(|| watch.recv_timeout(Duration::ZERO)).collect();
        assert_eq!(seen, [HubEvent::Missed { count: 997 }, up(997), up(998), up(999)]);
        watchers.tell(|| up(7));
        assert_eq!(watch.recv_timeout(Duration::ZERO), Some(up(7)), "nothing was lost since");
    }

    #[test]
    fn a_watch_that_was_dropped_is_forgotten_and_without_one_nothing_is_made() {
        let mut watchers = Watchers::default();
        for _ in 0..1_000 {
            watchers.insert(HubWatch::new(1).watcher());
        }
        assert_eq!(watchers.0.len(), 1);
        watchers.tell(|| up(1));
        assert!(watchers.0.is_empty());
        watchers.tell(|| unreachable!("nobody watches"));
    }

    #[test]
    fn a_watch_that_was_ended_wakes_who_waits_and_tells_of_nothing_more() {
        let watch = HubWatch::new(2);
        let mut watchers = Watchers::default();
        watchers.insert(watch.watcher());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| watch.recv_timeout(Duration::MAX));
            watch.end();
            assert_eq!(waiting.join().unwrap(), None);
        });
        watchers.tell(|| up(1));
        assert_eq!(watch.recv_timeout(Duration::ZERO), None);
    }

    #[test]
    fn one_that_is_woken_returns_once_without_an_event_and_loses_none() {
        let watch = HubWatch::new(2);
        let mut watchers = Watchers::default();
        watchers.insert(watch.watcher());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| watch.recv_timeout(Duration::MAX));
            watch.wake();
            assert_eq!(waiting.join().unwrap(), None);
        });
        watchers.tell(|| up(1));
        watch.wake();
        assert_eq!(watch.recv_timeout(Duration::MAX), Some(up(1)));
        assert_eq!(watch.recv_timeout(Duration::MAX), None);
        assert!(!watch.has_ended());
    }

    #[test]
    fn whoever_waits_is_told_at_once_that_the_hub_has_ended() {
        let watch = HubWatch::new(1);
        let mut watchers = Watchers::default();
        watchers.insert(watch.watcher());
        watchers.tell(|| up(1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let first = watch.recv_timeout(Duration::MAX);
                (first, watch.recv_timeout(Duration::MAX))
            });
            drop(watchers);
            assert_eq!(waiting.join().unwrap(), (Some(up(1)), None), "what waits is told before");
        });
        assert!(watch.has_ended());
    }
}
