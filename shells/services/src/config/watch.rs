//! Changes that somebody takes when he likes, in a queue of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use visorbus_core::message::{Address, Pattern};

use super::entry::{ConfigChange, ConfigEvent};
use super::error::ConfigError;
use crate::listeners::{Listeners, Listening};

/// Changes as they come.
#[derive(Debug)]
pub struct ConfigWatch {
    waiting: Arc<Waiting>,
    _listening: Listening,
}

impl ConfigWatch {
    /// Those of the keys that `pattern` selects.
    ///
    /// # Errors
    /// `Malformed` when it is no pattern.
    pub(crate) fn new(listeners: &Arc<Listeners<ConfigEvent>>, pattern: &str) -> Result<Self, ConfigError> {
        let what =
            |error| format!("'{}' selects no keys: {error}", pattern.chars().take(64).collect::<String>());
        Pattern::new(pattern).map_err(|error| ConfigError::Malformed { what: what(error) })?;
        let (waiting, pattern) = (Arc::<Waiting>::default(), pattern.to_owned());
        let to = Arc::clone(&waiting);
        let listening = listeners.add(move |event| {
            if let ConfigEvent::Changed(change) = event
                && is_selected(&pattern, change)
            {
                to.push(change.clone());
            }
        });
        Ok(Self { waiting, _listening: listening })
    }

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

fn is_selected(pattern: &str, change: &ConfigChange) -> bool {
    let address = format!("{}/{}", change.category, change.key);
    let (Ok(pattern), Ok(address)) = (Pattern::new(pattern), Address::new(&address)) else { return false };
    pattern.matches(address)
}

/// Changes that a watch keeps.
const MAX_WAITING: usize = 256;
