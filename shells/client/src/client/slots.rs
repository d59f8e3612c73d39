//! The requests of a client that wait for their answers, and the threads that wait with them.

use std::thread::Thread;

use visorbus_hub::{Error, OwnedMessage, Result};

/// The requests that wait. There are as many as threads that wait, so they are looked through in order.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Option<Slot>>);

#[derive(Debug)]
struct Slot {
    id: u64,
    outcome: Option<Result<OwnedMessage>>,
    /// The thread, while it sleeps until somebody else reads its answer.
    sleeper: Option<Thread>,
}

impl Slots {
    /// A place for the answer to the request `id`; the id may be used again once the answer is there.
    pub(crate) fn open(&mut self, id: u64) -> usize {
        let slot = Some(Slot { id, outcome: None, sleeper: None });
        if let Some(free) = self.0.iter().position(Option::is_none) {
            self.0[free] = slot;
            return free;
        }
        self.0.push(slot);
        self.0.len() - 1
    }

    /// Puts the answer to the request `id` in its place and wakes who waits for it; `false` when nobody does.
    pub(crate) fn fulfil(&mut self, id: u64, outcome: impl FnOnce() -> Result<OwnedMessage>) -> bool {
        let waiting = |slot: &&mut Slot| slot.id == id && slot.outcome.is_none();
        let Some(slot) = self.0.iter_mut().flatten().find(waiting) else { return false };
        slot.outcome = Some(outcome());
        if let Some(sleeper) = slot.sleeper.take() {
            sleeper.unpark();
        }
        true
    }

    /// Ends all that wait with `error`.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        for slot in self.0.iter_mut().flatten().filter(|slot| slot.outcome.is_none()) {
            slot.outcome = Some(Err(error.clone()));
            if let Some(sleeper) = slot.sleeper.take() {
                sleeper.unpark();
            }
        }
    }

    /// Takes the answer if it is there, and gives the place back with it.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Result<OwnedMessage>> {
        let outcome = self.0.get_mut(slot)?.as_mut()?.outcome.take()?;
        self.close(slot);
        Some(outcome)
    }

    /// Whether the answer is there.
    pub(crate) fn is_done(&self, slot: usize) -> bool {
        matches!(self.0.get(slot), Some(Some(slot)) if slot.outcome.is_some())
    }

    /// Gives the place back; an answer that comes later is nobody's.
    pub(crate) fn close(&mut self, slot: usize) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = None;
        }
    }

    /// Notes that `thread` goes to sleep until its answer is there, or it is to read itself.
    pub(crate) fn sleep(&mut self, slot: usize, thread: Thread) {
        if let Some(Some(slot)) = self.0.get_mut(slot) {
            slot.sleeper = Some(thread);
        }
    }

    /// Wakes one of those that sleep, for it to read; `false` when none does.
    pub(crate) fn wake_one(&mut self) -> bool {
        let sleeper = self.0.iter_mut().flatten().find_map(|slot| slot.sleeper.take());
        sleeper.map(|sleeper| sleeper.unpark()).is_some()
    }
}
