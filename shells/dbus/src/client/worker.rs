//! The thread that has a client's connection: it makes one, serves it until it is lost, and makes the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use visorbus_hub::{Error, Result};

use super::DBusClientState;
use super::line::{End, Line};
use super::shared::Shared;

/// Sees to it that there is a connection, and waits for it.
pub(super) fn connect(shared: &Arc<Shared>) -> Result<()> {
    let (ready, waiting) = mpsc::sync_channel(1);
    {
        let mut state = shared.lock();
        if state.is_ready {
            return Ok(());
        }
        if state.phase == DBusClientState::Idle {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let wake = Arc::new(EventFd::from_flags(flags).map_err(|error| cannot_start(&error))?);
            state.run += 1;
            let worker = Worker { shared: Arc::clone(shared), run: state.run, wake: Arc::clone(&wake) };
            let thread = thread::Builder::new().name("dbus client".to_owned());
            thread.spawn(move || worker.run()).map_err(|error| cannot_start(&error))?;
            state.threads += 1;
            state.wake = Some(wake);
            state.phase = DBusClientState::Connecting;
        }
        state.waiters.push(ready);
    }
    shared.await_ready(&waiting)
}

struct Worker {
    shared: Arc<Shared>,
    run: u64,
    wake: Arc<EventFd>,
}

impl Worker {
    fn run(self) {
        let mut pause = Pause::new(self.shared.config().retry_ms);
        let mut was_ever_ready = false;
        loop {
            let end =
                catch_unwind(AssertUnwindSafe(|| self.connection(was_ever_ready))).unwrap_or_else(|_| End {
                    why: Error::Internal("the connection to the bus has failed inside".to_owned()),
                    was_ready: false,
                });
            if end.was_ready {
                pause = Pause::new(self.shared.config().retry_ms);
            }
            was_ever_ready |= end.was_ready;
            if !self.shared.down(self.run, &end.why, was_ever_ready)
                || !self.shared.pause(self.run, pause.next())
            {
                break;
            }
        }
        self.shared.thread_ended();
    }

    /// Makes a connection and serves it until it ends.
    fn connection(&self, was_ever_ready: bool) -> End {
        match Line::open(&self.shared, self.run, &self.wake, was_ever_ready) {
            Ok(mut line) => line.serve(),
            Err(why) => End { why, was_ready: false },
        }
    }
}

/// How long to wait before the next try.
struct Pause(Duration);

impl Pause {
    fn new(retry_ms: u32) -> Self {
        Self(Duration::from_millis(u64::from(retry_ms.max(1))).min(LONGEST))
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

fn cannot_start(error: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("the client's thread cannot be started: {error}"))
}

const LONGEST: Duration = Duration::from_secs(30);
