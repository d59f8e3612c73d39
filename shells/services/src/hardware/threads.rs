//! The threads of a manager, which may hang in what they look at: whoever ends them waits a while, and then no longer.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Threads that were started together.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    handles: Mutex<Vec<JoinHandle<()>>>,
    running: Arc<Running>,
}

impl Threads {
    /// Has one more do `work`.
    ///
    /// # Errors
    /// What the system says when it starts no thread.
    pub(crate) fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let turn = Running::begin(&self.running);
        let run = move || {
            let _turn = turn;
            work();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        lock(&self.handles).push(thread);
        Ok(())
    }

    /// Waits until all have ended, at most so long. The names of those that have not; they are waited for no more, and end
    /// when they come back.
    pub(crate) fn join(&self, at_most: Duration) -> Vec<String> {
        let count = lock(&self.running.count);
        let waited = self.running.ended.wait_timeout_while(count, at_most, |count| *count > 0);
        let left = *waited.unwrap_or_else(PoisonError::into_inner).0;
        let mut hanging = Vec::new();
        for thread in std::mem::take(&mut *lock(&self.handles)) {
            if left == 0 || thread.is_finished() {
                // A thread that panicked has ended as well.
                let _ = thread.join();
            } else {
                hanging.extend(thread.thread().name().map(str::to_owned));
            }
        }
        hanging
    }
}

/// How many have not ended.
#[derive(Debug, Default)]
struct Running {
    count: Mutex<usize>,
    ended: Condvar,
}

impl Running {
    fn begin(running: &Arc<Self>) -> Turn {
        *lock(&running.count) += 1;
        Turn(Arc::clone(running))
    }
}

/// One that runs, until it is dropped.
struct Turn(Arc<Running>);

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0.count) -= 1;
        self.0.ended.notify_all();
    }
}

/// What is behind a lock is whole between any two lines that could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn those_that_end_are_waited_for_also_when_they_panic() {
        let threads = Threads::default();
        let (end, ended) = channel::<()>();
        threads.start("quick", || {}).unwrap();
        threads.start("panicking", || panic!("a fault of the thread's")).unwrap();
        threads
            .start("told", move || {
                let _ = ended.recv();
            })
            .unwrap();
        drop(end);
        assert!(threads.join(PATIENCE).is_empty());
        assert!(threads.join(Duration::ZERO).is_empty(), "there are none any more");
    }

    #[test]
    fn one_that_hangs_is_named_and_left_to_itself() {
        let threads = Threads::default();
        let (come_back, hang) = channel::<()>();
        let (tell, told) = channel();
        threads.start("quick", || {}).unwrap();
        let work = move || {
            let _ = hang.recv();
            tell.send(()).unwrap();
        };
        threads.start("hanging", work).unwrap();
        let mut hanging = threads.join(Duration::from_millis(1));
        hanging.retain(|name| name != "quick");
        assert_eq!(hanging, ["hanging"]);
        drop(come_back);
        told.recv_timeout(PATIENCE).unwrap();
    }
}
