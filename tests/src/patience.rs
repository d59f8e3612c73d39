//! How long a test waits for what must come, and how it waits for what no event tells of.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_hub::HubHandle;
use visorbus_hub::info::PeerInfo;

/// How long anything may take that is to happen: so long that only what never comes takes longer, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often something is tried that a machine which does much else at the moment may spoil.
pub const CHANCES: usize = 10;

/// Waits until something is so.
///
/// # Panics
/// With `what`, when it is not so within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    ask_until(|| is_so().then_some(()).ok_or(what), Result::is_ok).ok();
}

/// Asks until the answer is `so`; that answer.
///
/// # Panics
/// With the last answer, when it is not so within [`PATIENCE`].
#[track_caller]
pub fn ask_until<T: Debug>(mut ask: impl FnMut() -> T, so: impl Fn(&T) -> bool) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if so(&answer) {
            return answer;
        }
        assert!(Instant::now() < until, "it does not come about: {answer:?}");
        thread::park_timeout(PAUSE);
    }
}

/// Says that it is over when it is dropped, so that whoever goes on until then ends with a test that fails too.
#[derive(Debug)]
pub struct Ending<'a>(pub &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks a hub who is there until `so` holds.
///
/// # Panics
/// As [`ask_until`], and when the hub does not run.
#[track_caller]
pub fn wait_for_peers(hub: &HubHandle, so: impl Fn(&[PeerInfo]) -> bool) {
    ask_until(|| hub.peers().expect("the hub runs"), |peers| so(peers));
}

/// Between two questions: whoever is to bring it about gets the processor.
const PAUSE: Duration = Duration::from_millis(1);
