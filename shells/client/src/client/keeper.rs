//! The thread that keeps a connection alive whose end nobody tells of: it looks now and then, and does nothing else.
//!
//! It is not the client's own thread, which may run somebody's code for long, and which reads for everybody while it does
//! not: a client that only calls reads its answers on the callers' threads, with this one beside.

use std::thread;
use std::time::Duration;

use super::shared::Shared;
use crate::clock;

/// Looks at the connection each `pause` until the client is dropped.
pub(super) fn run(shared: &Shared, pause: Duration) {
    while keep(shared) {
        thread::park_timeout(pause);
    }
}

/// Reads what has come, which the wire answers where it is asked something, and asks the hub in turn; `false` when the
/// client is dropped. A hub that is silent is judged after what has come was read.
fn keep(shared: &Shared) -> bool {
    let mut state = shared.look();
    let now = clock::now();
    let Some(up) = state.up() else { return !state.stopping };
    if let Err(silent) = up.dialog.check_alive(now) {
        state.lose(silent);
        shared.tell_changed();
    } else if up.wire.queued() == 0 && up.send_due(now).is_err() {
        // Reading finds the end of the connection.
        up.wire.shutdown();
    }
    !state.stopping
}
