//! Who is told of changes, and in which order: one change after the other, also where a listener changes something itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use visorbus_core::message::{Address, Pattern};

use super::entry::ConfigChange;
use super::error::ConfigError;

/// The listeners of one configuration.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<State>);

#[derive(Default)]
struct State {
    listeners: BTreeMap<u64, Listener>,
    next: u64,
    waiting: VecDeque<ConfigChange>,
    /// Some thread is telling them.
    delivering: bool,
}

type Listener = Arc<dyn Fn(&ConfigChange) + Send + Sync>;

impl Listeners {
    pub(crate) fn add(
        self: &Arc<Self>,
        listener: impl Fn(&ConfigChange) + Send + Sync + 'static,
    ) -> ConfigListener {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.listeners.insert(number, Arc::new(listener));
        ConfigListener { number, of: Arc::downgrade(self) }
    }

    pub(crate) fn watch(self: &Arc<Self>, pattern: &str) -> Result<ConfigWatch, ConfigError> {
        let what =
            |error| format!("'{}' selects no keys: {error}", pattern.chars().take(64).collect::<String>());
        Pattern::new(pattern).map_err(|error| ConfigError::Malformed { what: what(error) })?;
        let (sender, changes) = sync_channel(MAX_WAITING);
        let pattern = pattern.to_owned();
        let listener = self.add(move |change| tell(&sender, &pattern, change));
        Ok(ConfigWatch { changes, _listener: listener })
    }

    /// Puts changes behind those that wait.
    pub(crate) fn push(&self, changes: Vec<ConfigChange>) {
        self.state().waiting.extend(changes);
    }

    /// Tells of all that waits, unless somebody does so already.
    pub(crate) fn deliver(&self) {
        loop {
            let mut state = self.state();
            if state.delivering {
                return;
            }
            let Some(change) = state.waiting.pop_front() else { return };
            state.delivering = true;
            let listeners: Vec<Listener> = state.listeners.values().cloned().collect();
            drop(state);
            // Also when a listener panics, the next change is told.
            let _over = Over(self);
            listeners.iter().for_each(|listener| listener(&change));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it is there, its function is called. To be kept.
#[must_use = "nothing is heard of any more once it is dropped"]
pub struct ConfigListener {
    number: u64,
    of: Weak<Listeners>,
}

impl Drop for ConfigListener {
    fn drop(&mut self) {
        if let Some(listeners) = self.of.upgrade() {
            let listener = listeners.state().listeners.remove(&self.number);
            // What it holds may end something that listens too.
            drop(listener);
        }
    }
}

impl std::fmt::Debug for ConfigListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfigListener")
    }
}

/// Changes as they come.
#[derive(Debug)]
pub struct ConfigWatch {
    changes: Receiver<ConfigChange>,
    _listener: ConfigListener,
}

impl ConfigWatch {
    /// The next change; `None` when none has come within `timeout`, or there is nobody left to change anything.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<ConfigChange> {
        match self.changes.recv_timeout(timeout) {
            Ok(change) => Some(change),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// A change that has come already.
    pub fn try_recv(&self) -> Option<ConfigChange> {
        self.changes.try_recv().ok()
    }
}

/// Says that nobody tells any more, also when a listener panics.
struct Over<'l>(&'l Listeners);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state().delivering = false;
    }
}

fn tell(to: &SyncSender<ConfigChange>, pattern: &str, change: &ConfigChange) {
    let address = format!("{}/{}", change.category, change.key);
    let (Ok(pattern), Ok(address)) = (Pattern::new(pattern), Address::new(&address)) else { return };
    if pattern.matches(address) {
        match to.try_send(change.clone()) {
            // Whoever does not take what it watches misses some of it.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Changes that a watch keeps.
const MAX_WAITING: usize = 256;
