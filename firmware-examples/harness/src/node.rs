//! A node on this machine: its board, and what stands for its reset button.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use visorbus_core::Instant;
use visorbus_device::Board;

use crate::Wire;

/// Runs a node until the other end of its line hangs up; it starts anew whenever `resets` counts on. `run` is given its
/// line, its boot id and its board, and comes back when the line is gone.
pub fn run_with_resets(stream: &UnixStream, resets: &Arc<AtomicU32>, mut run: impl FnMut(Wire, u64, Host)) {
    for boot in 0.. {
        let counter = resets.clone();
        let cut = move || counter.load(Ordering::SeqCst) > boot;
        let line = Wire::with_cut(stream.try_clone().unwrap(), cut);
        run(line, 1 + u64::from(boot), Host(std::time::Instant::now()));
        if resets.load(Ordering::SeqCst) == boot {
            return;
        }
    }
}

/// This machine as a board that started when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Host(std::time::Instant);

impl Host {
    /// Waits a little, at most until `due`; what time it is then.
    pub fn wait(&self, due: Option<Instant>) -> Instant {
        let now = Instant::from_micros(self.now_us());
        std::thread::sleep(due.map_or(WAIT, |due| due.duration_since(now).min(WAIT)));
        Instant::from_micros(self.now_us())
    }
}

impl Board for Host {
    const NAME: &'static str = "this machine";

    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// How late the host's loop may see what has arrived.
const WAIT: Duration = Duration::from_micros(500);
