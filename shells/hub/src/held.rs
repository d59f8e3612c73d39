//! Notices that a handler which runs inline holds up the hub's loop, on a thread of its own: the loop itself cannot. It says
//! which one, once, and knows nothing else of the hub.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What inline handlers tell of themselves: two stores for each run, which the loop alone writes.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Rises when a handler begins and when it ends: odd while one runs.
    runs: AtomicU64,
    /// The number of the handler that runs, or ran last.
    running: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    names: BTreeMap<u64, String>,
    next: u64,
    held_up_by: Option<String>,
}

impl Pulse {
    /// A number for the inline handler of `component`.
    pub(crate) fn add(&self, component: &str) -> u64 {
        let mut known = self.known();
        known.next += 1;
        let number = known.next;
        known.names.insert(number, component.to_owned());
        number
    }

    /// The handler of this number is there no more.
    pub(crate) fn remove(&self, number: u64) {
        self.known().names.remove(&number);
    }

    /// A handler begins.
    pub(crate) fn begin(&self, number: u64) {
        self.running.store(number, Ordering::Relaxed);
        self.runs.store(self.runs.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// It has ended.
    pub(crate) fn end(&self) {
        self.runs.store(self.runs.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// The component whose handler has not returned for [`HELD`].
    pub(crate) fn held_up_by(&self) -> Option<String> {
        self.known().held_up_by.clone()
    }

    /// Which run it is, and whose, while one is under way.
    fn run(&self) -> Option<(u64, u64)> {
        let run = self.runs.load(Ordering::Acquire);
        (run % 2 == 1).then(|| (run, self.running.load(Ordering::Relaxed)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in here panics half-way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after a [`Pulse`] until it is dropped.
pub(crate) struct Lookout {
    _goes_on: Sender<()>,
}

impl Lookout {
    /// Begins to.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub(crate) fn start(pulse: &Arc<Pulse>) -> std::io::Result<Self> {
        let (goes_on, over) = channel();
        let pulse = Arc::clone(pulse);
        thread::Builder::new().name("visorbus-lookout".to_owned()).spawn(move || look(&pulse, &over))?;
        Ok(Self { _goes_on: goes_on })
    }
}

fn look(pulse: &Pulse, over: &Receiver<()>) {
    let mut seen: Option<(u64, Instant)> = None;
    while over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let Some((run, handler)) = pulse.run() else {
            seen = None;
            continue;
        };
        match seen {
            Some((before, since)) if before == run && since.elapsed() >= HELD => {
                tell(pulse, run, handler, since);
                seen = None;
            }
            Some((before, _)) if before == run => {}
            _ => seen = Some((run, Instant::now())),
        }
    }
}

/// Says that a run does not end, and, once it has, that it did.
fn tell(pulse: &Pulse, run: u64, handler: u64, since: Instant) {
    let name = pulse.known().names.get(&handler).cloned().unwrap_or_default();
    tracing::error!(
        "the handler '{name}' holds up the hub: it runs inline, has not returned for {} s, and nobody is served meanwhile; \
         one that says that it may block holds up nobody",
        HELD.as_secs()
    );
    pulse.known().held_up_by = Some(name.clone());
    // Its name is what others see of this process: `ps -T`, and whoever asks why the hub does not answer.
    let (ended, end) = channel::<()>();
    let sign = thread::Builder::new().name(format!("{HELD_UP_BY}{name}")).spawn(move || end.recv());
    // Not until the hub is dropped: that waits for this handler.
    while pulse.run().is_some_and(|(now, _)| now == run) {
        thread::sleep(TICK);
    }
    drop(ended);
    pulse.known().held_up_by = None;
    tracing::warn!(
        "the hub goes on: the handler '{name}' has returned after {:.1} s",
        since.elapsed().as_secs_f32()
    );
    // It has nothing more to do than to end.
    let _ = sign.map(thread::JoinHandle::join);
}

/// What the name of a thread begins with that is there while a handler holds up the hub; the component's follows, as far as
/// the system keeps it (15 bytes in all).
pub const HELD_UP_BY: &str = "held:";
/// What a handler that runs inline may take before it is said.
const HELD: Duration = Duration::from_secs(2);
/// Between two looks.
const TICK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_from_the_next_one_and_from_none() {
        let pulse = Pulse::default();
        let (lamp, bell) = (pulse.add("lamp"), pulse.add("bell"));
        assert_eq!(pulse.run(), None);
        pulse.begin(lamp);
        let first = pulse.run().unwrap();
        assert_eq!(first.1, lamp);
        pulse.end();
        assert_eq!(pulse.run(), None);
        pulse.begin(bell);
        let second = pulse.run().unwrap();
        assert!(second.1 == bell && second.0 != first.0);
        pulse.remove(lamp);
        assert_ne!(pulse.add("lamp"), lamp, "a number is never another's");
    }
}
