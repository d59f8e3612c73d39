//! Who is told of changes, and in which order: one change after the other, also where a listener changes something itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
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
        let (waiting, pattern) = (Arc::<Waiting>::default(), pattern.to_owned());
        let to = Arc::clone(&waiting);
        let listener = self.add(move |change| {
            if is_selected(&pattern, change) {
                to.push(change.clone());
            }
        });
        Ok(ConfigWatch { waiting, _listener: listener })
    }

    /// Puts changes behind those that wait.
    pub(crate) fn push(&self, changes: &[ConfigChange]) {
        self.state().waiting.extend(changes.iter().cloned());
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
    waiting: Arc<Waiting>,
    _listener: ConfigListener,
}

impl ConfigWatch {
    /// The next change; `None` when none has come within `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<ConfigChange> {
        let changes = self.waiting.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let came = self.waiting.came.wait_timeout_while(changes, timeout, |changes| changes.is_empty());
        came.unwrap_or_else(PoisonError::into_inner).0.pop_front()
    }

    /// A change that has come already.
    pub fn try_recv(&self) -> Option<ConfigChange> {
        self.recv_timeout(Duration::ZERO)
    }
}

/// What somebody who watches has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    changes: Mutex<VecDeque<ConfigChange>>,
    came: Condvar,
}

impl Waiting {
    fn push(&self, change: ConfigChange) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() == MAX_WAITING {
            changes.pop_front();
        }
        changes.push_back(change);
        self.came.notify_one();
    }
}

/// Says that nobody tells any more, also when a listener panics.
struct Over<'l>(&'l Listeners);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state().delivering = false;
    }
}

fn is_selected(pattern: &str, change: &ConfigChange) -> bool {
    let address = format!("{}/{}", change.category, change.key);
    let (Ok(pattern), Ok(address)) = (Pattern::new(pattern), Address::new(&address)) else { return false };
    pattern.matches(address)
}

/// Changes that a watch keeps.
const MAX_WAITING: usize = 256;
