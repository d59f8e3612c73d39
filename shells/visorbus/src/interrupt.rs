//! Signals that end the process, taken by a thread instead of a handler.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal, raise};
use visorbus_hub::{Error, Result};

use crate::output::INTERRUPTED;
use crate::{progress, prompt};

/// Keeps Ctrl-C, SIGTERM and SIGHUP from ending the process, so that a thread can wait for them; to be called before the
/// first thread starts, for threads inherit it.
pub(crate) fn block() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().map_err(|e| Error::Internal(format!("signals cannot be blocked: {e}")))?;
    Ok(signals)
}

/// Has a signal that ends this process find the terminal as it was before something was shown or hidden there. To be called
/// before the first thread starts; whoever does so again changes nothing, for two threads that wait for one signal do not
/// know which of them gets it.
pub(crate) fn leave_tidy() -> Result<()> {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    let signals = block()?;
    if IS_WATCHED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let watch = move || {
        while let Ok(signal) = signals.wait() {
            end_by(signal, signals);
        }
    };
    let spawned = thread::Builder::new().name("visorbus-signals".to_owned()).spawn(watch);
    spawned.map(drop).map_err(|e| Error::Internal(format!("cannot watch for Ctrl-C: {e}")))
}

/// Has signals that would end this process call `end` in the place of that, once [`leave_tidy`] watches for them.
pub(crate) fn instead(end: impl Fn() + Send + 'static) {
    *own_end() = Some(Box::new(end));
}

fn end_by(signal: Signal, signals: SigSet) {
    if let Some(end) = &*own_end() {
        return end();
    }
    progress::clear();
    if prompt::show() {
        std::process::exit(INTERRUPTED.into());
    }
    // Nobody handles it: it ends the process as it would have without this. Whoever ignores it goes on.
    let _ = signals.thread_unblock().and_then(|()| raise(signal)).and_then(|()| signals.thread_block());
}

/// What a signal does in the place of ending the process.
fn own_end() -> MutexGuard<'static, Option<Box<dyn Fn() + Send>>> {
    static OWN_END: Mutex<Option<Box<dyn Fn() + Send>>> = Mutex::new(None);
    OWN_END.lock().unwrap_or_else(PoisonError::into_inner)
}
