//! Who hears of signals and changes, and the thread on which they do. It knows no bus.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dbus::strings::{Interface, Member, Path};
use dbus::{Message, MessageType};
use visorbus_hub::{Error, Result};

use super::DBusChange;
use crate::bus::length;

/// What waits for handlers, and the thread that calls them.
pub(super) struct Dispatch {
    queue: Mutex<Queue>,
    filled: Condvar,
    most: Most,
}

impl Dispatch {
    pub(super) fn new(signals: usize, bytes: usize) -> Self {
        let most = Most { signals: signals.max(1), bytes };
        Self { queue: Mutex::default(), filled: Condvar::new(), most }
    }

    /// Starts the thread if there is none.
    pub(super) fn start(self: &Arc<Self>) -> Result<()> {
        let mut queue = self.queue();
        if queue.has_thread {
            return Ok(());
        }
        let dispatch = Arc::clone(self);
        let thread = thread::Builder::new().name("dbus signals".to_owned());
        thread.spawn(move || dispatch.run()).map_err(|error| {
            Error::Internal(format!("the thread for signal handlers cannot be started: {error}"))
        })?;
        queue.has_thread = true;
        Ok(())
    }

    /// Has `handlers` hear of a signal.
    pub(super) fn signal(&self, signal: Message, handlers: Vec<Arc<Handler>>) {
        let bytes = length(&signal);
        let mut queue = self.queue();
        if queue.is_closed {
            return;
        }
        queue.signals += 1;
        queue.bytes += bytes;
        queue.events.push_back(Event::Signal { signal, bytes, handlers });
        let lost = queue.shed(&self.most);
        self.filled.notify_one();
        drop(queue);
        // Outside the lock: with a handler the last clone of a client may go, which closes this.
        drop(lost);
    }

    /// Has those who hear of changes hear of one.
    pub(super) fn change(&self, change: DBusChange) {
        let mut queue = self.queue();
        // Of a handler that never comes back nothing may pile up.
        if !queue.watchers.is_empty()
            && !queue.is_closed
            && queue.events.len() < self.most.signals + MAX_CHANGES
        {
            queue.events.push_back(Event::Change(change));
            self.filled.notify_one();
        }
    }

    /// These hear of changes from now on.
    pub(super) fn set_watchers(&self, watchers: Vec<Arc<Handler>>) {
        let before = std::mem::replace(&mut self.queue().watchers, watchers);
        drop(before);
    }

    /// Ends the thread, after the handler that runs.
    pub(super) fn close(&self) {
        let before = std::mem::replace(&mut *self.queue(), Queue { is_closed: true, ..Queue::default() });
        self.filled.notify_one();
        drop(before);
    }

    fn run(&self) {
        while let Some(turn) = self.next() {
            let tell = |change: &DBusChange| {
                turn.watchers.iter().for_each(|watcher| watcher.call(&Heard::Change(change)))
            };
            if turn.missed > 0 {
                tracing::warn!("signal handlers are too slow: {} signals were lost", turn.missed);
                tell(&DBusChange::SignalsMissed(turn.missed));
            }
            match &turn.event {
                Event::Signal { signal, handlers, .. } => {
                    handlers.iter().for_each(|handler| handler.call(&Heard::Signal(signal)));
                }
                Event::Change(change) => tell(change),
            }
        }
    }

    /// What is to be heard next; `None` when that is over.
    fn next(&self) -> Option<Turn> {
        let mut queue = self.queue();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(event) = queue.take() {
                let missed = std::mem::take(&mut queue.missed);
                return Some(Turn { event, missed, watchers: queue.watchers.clone() });
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who hears of signals, or of changes.
pub(super) struct Handler {
    /// Of which signals; `None`: of changes.
    pub(super) select: Option<Select>,
    hears: Hears,
    /// It was not taken back.
    is_live: AtomicBool,
}

impl Handler {
    pub(super) fn signals(select: Select, hear: Box<dyn Fn(&Message) + Send + Sync>) -> Self {
        Self { select: Some(select), hears: Hears::Signals(hear), is_live: AtomicBool::new(true) }
    }

    pub(super) fn changes(hear: Box<dyn Fn(&DBusChange) + Send + Sync>) -> Self {
        Self { select: None, hears: Hears::Changes(hear), is_live: AtomicBool::new(true) }
    }

    /// It is not called again.
    pub(super) fn retire(&self) {
        self.is_live.store(false, Ordering::Release);
    }

    fn call(&self, heard: &Heard<'_>) {
        if !self.is_live.load(Ordering::Acquire) {
            return;
        }
        let called = catch_unwind(AssertUnwindSafe(|| match (&self.hears, heard) {
            (Hears::Signals(hear), Heard::Signal(signal)) => hear(signal),
            (Hears::Changes(hear), Heard::Change(change)) => hear(change),
            _ => {}
        }));
        if called.is_err() {
            tracing::error!("a signal handler has panicked; the others go on");
        }
    }
}

/// Which signals.
#[derive(Debug, Clone)]
pub(super) struct Select {
    /// Of this object, and those below it.
    pub(super) path: Path<'static>,
    pub(super) interface: Interface<'static>,
    /// `None`: every signal of the interface.
    pub(super) member: Option<Member<'static>>,
}

impl Select {
    /// The rule for the bus (D-Bus specification, "Match Rules"). Nothing in a name needs a quote.
    pub(super) fn rule(&self, service: &str) -> String {
        let Self { path, interface, member } = self;
        let mut rule =
            format!("type='signal',sender='{service}',path_namespace='{path}',interface='{interface}'");
        if let Some(member) = member {
            rule.push_str(&format!(",member='{member}'"));
        }
        rule
    }

    pub(super) fn matches(&self, signal: &Message) -> bool {
        signal.msg_type() == MessageType::Signal
            && signal.interface().as_ref() == Some(&self.interface)
            && self.member.as_ref().is_none_or(|member| signal.member().as_ref() == Some(member))
            && signal.path().is_some_and(|path| is_within(&path, &self.path))
    }
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    /// How many of the events are signals, and how long they are.
    signals: usize,
    bytes: usize,
    /// Signals that were lost, and not yet told of.
    missed: u64,
    /// Who hears of changes.
    watchers: Vec<Arc<Handler>>,
    has_thread: bool,
    is_closed: bool,
}

impl Queue {
    fn take(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Signal { bytes, .. } = &event {
            self.signals -= 1;
            self.bytes -= bytes;
        }
        Some(event)
    }

    /// Takes away the oldest signals until what is left is no more than `most`.
    fn shed(&mut self, most: &Most) -> Vec<Event> {
        let mut lost = Vec::new();
        while self.signals > most.signals || (self.bytes > most.bytes && self.signals > 1) {
            let oldest = self.events.iter().position(|event| matches!(event, Event::Signal { .. }));
            let Some(event) = oldest.and_then(|oldest| self.events.remove(oldest)) else { break };
            if let Event::Signal { bytes, .. } = &event {
                self.bytes -= bytes;
            }
            self.signals -= 1;
            self.missed += 1;
            lost.push(event);
        }
        lost
    }
}

/// How much may wait.
struct Most {
    signals: usize,
    bytes: usize,
}

enum Event {
    Signal { signal: Message, bytes: usize, handlers: Vec<Arc<Handler>> },
    Change(DBusChange),
}

/// What the thread does next.
struct Turn {
    event: Event,
    /// Signals that were lost before it.
    missed: u64,
    watchers: Vec<Arc<Handler>>,
}

enum Hears {
    Signals(Box<dyn Fn(&Message) + Send + Sync>),
    Changes(Box<dyn Fn(&DBusChange) + Send + Sync>),
}

enum Heard<'a> {
    Signal(&'a Message),
    Change(&'a DBusChange),
}

/// Whether `path` is `above` or below it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above.strip_suffix('/').unwrap_or(above))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Changes that may wait, besides signals.
const MAX_CHANGES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_within_itself_and_those_above_it() {
        assert!(
            is_within("/a/b", "/a/b")
                && is_within("/a/b/c", "/a/b")
                && is_within("/a", "/")
                && is_within("/", "/")
        );
        assert!(!is_within("/a/bc", "/a/b") && !is_within("/a", "/a/b") && !is_within("/", "/a"));
    }

    #[test]
    fn of_too_many_signals_the_oldest_are_lost_and_changes_are_not() {
        let signal = |name: &str| {
            let signal = Message::new_signal("/", "org.example.Test", name).unwrap();
            Event::Signal { signal, bytes: 10, handlers: Vec::new() }
        };
        let change = Event::Change(DBusChange::ServiceGone);
        let mut queue = Queue { events: VecDeque::from([change]), ..Queue::default() };
        for name in ["A", "B", "C"] {
            queue.signals += 1;
            queue.bytes += 10;
            queue.events.push_back(signal(name));
            queue.shed(&Most { signals: 2, bytes: 1000 });
        }
        assert_eq!((queue.events.len(), queue.signals, queue.bytes, queue.missed), (3, 2, 20, 1));
        queue.shed(&Most { signals: 2, bytes: 5 });
        assert_eq!((queue.signals, queue.missed), (1, 2), "one is heard however long it is");
        assert!(matches!(queue.take(), Some(Event::Change(_))));
    }
}
