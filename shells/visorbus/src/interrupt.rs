//! Signals that end the process, taken by a thread instead of a handler.

use nix::sys::signal::{SigSet, Signal};
use visorbus_hub::{Error, Result};

/// Keeps Ctrl-C, SIGTERM and SIGHUP from ending the process, so that a thread can wait for them; to be called before the
/// first thread starts, for threads inherit it.
pub(crate) fn block() -> Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().map_err(|e| Error::Internal(format!("signals cannot be blocked: {e}")))?;
    Ok(signals)
}
