//! Signals that end the process, taken by a thread instead of a handler.

use std::thread;

use nix::sys::signal::{SigSet, Signal, raise};
use visorbus_hub::{Error, Result};

use crate::progress;

/// Keeps Ctrl-C, SIGTERM and SIGHUP from ending the process, so that a thread can wait for them; to be called before the
/// first thread starts, for threads inherit it.
pub(crate) fn block() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().map_err(|e| Error::Internal(format!("signals cannot be blocked: {e}")))?;
    Ok(signals)
}

/// Has a signal that ends this process find the terminal's line as it was before something was shown there. To be called
/// before the first thread starts.
pub(crate) fn clear_line() -> Result<()> {
    let signals = block()?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            progress::clear();
            // Nobody handles it: it ends the process as it would have without this.
            let _ = signals.thread_unblock().and_then(|()| raise(signal));
        }
    });
    Ok(())
}
