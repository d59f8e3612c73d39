//! How others reach the manager, which is one thread's: signals, the component `manager`, the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use visorbus_hub::{Error, Result};

use super::reload::Reloaded;
use super::status::{ManagerStatus, SharedStatus};

/// Asks a manager for what only its own thread can do, from any thread. Cloning it is cheap; it keeps nothing running.
#[derive(Clone)]
pub struct ManagerControl {
    requests: Sender<Request>,
    shared: Arc<Shared>,
    status: SharedStatus,
}

impl ManagerControl {
    /// Has everything that can be read again read again, and waits until it is done.
    ///
    /// # Errors
    /// `Connection` when nobody [serves](super::IpcManager::serve) the manager, or it ends meanwhile; `Timeout` when it takes
    /// longer than 30 s.
    pub fn reload(&self) -> Result<Reloaded> {
        if !self.shared.serves.load(Ordering::SeqCst) {
            return Err(unserved());
        }
        let (answer, outcome) = sync_channel(1);
        self.requests.send(Request::Reload(answer)).map_err(|_| unserved())?;
        if !self.is_served() {
            // It has ended since; who takes up its work then may do this too, but nobody waits for that.
            return Err(unserved());
        }
        outcome.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Timeout("the manager is still at it".to_owned()),
            RecvTimeoutError::Disconnected => unserved(),
        })
    }

    /// As [`ManagerControl::reload`], but does not wait for it. However many ask before it begins, it is done once.
    ///
    /// # Errors
    /// `Connection` when nobody [serves](super::IpcManager::serve) the manager.
    pub fn request_reload(&self) -> Result<()> {
        if !self.is_served() {
            return Err(unserved());
        }
        if !self.shared.has_reload.swap(true, Ordering::SeqCst) {
            self.requests.send(Request::ReloadUnasked).map_err(|_| unserved())?;
        }
        Ok(())
    }

    /// Has the manager end once it has nothing else to do; does not wait for that.
    pub fn shutdown(&self) {
        // One that is gone has ended.
        let _ = self.requests.send(Request::Shutdown);
    }

    /// How the parts are, as [`IpcManager::status`](super::IpcManager::status) says.
    pub fn status(&self) -> ManagerStatus {
        self.status.status()
    }

    /// Whether the manager's thread takes what is asked here.
    pub(super) fn is_served(&self) -> bool {
        self.shared.serves.load(Ordering::SeqCst)
    }

    /// A setting has changed. However many have, the manager looks once.
    pub(super) fn changed(&self) {
        if !self.shared.has_changes.swap(true, Ordering::SeqCst) {
            let _ = self.requests.send(Request::Apply);
        }
    }

    /// The hub of that number has ended.
    pub(super) fn ended(&self, hub: u64) {
        let _ = self.requests.send(Request::Ended(hub));
    }
}

impl std::fmt::Debug for ManagerControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ManagerControl")
    }
}

/// The manager's own end.
pub(super) struct Requests {
    receiver: Receiver<Request>,
    shared: Arc<Shared>,
}

impl Requests {
    /// Both ends.
    pub(super) fn new(status: SharedStatus) -> (ManagerControl, Self) {
        let (requests, receiver) = channel();
        let shared = Arc::<Shared>::default();
        (ManagerControl { requests, shared: Arc::clone(&shared), status }, Self { receiver, shared })
    }

    /// From now on somebody takes what is asked.
    pub(super) fn open(&self) {
        self.shared.serves.store(true, Ordering::SeqCst);
    }

    /// From now on nobody does; whoever waits is told so.
    pub(super) fn close(&self) {
        self.shared.serves.store(false, Ordering::SeqCst);
        while self.receiver.try_recv().is_ok() {}
        self.shared.has_changes.store(false, Ordering::SeqCst);
        self.shared.has_reload.store(false, Ordering::SeqCst);
    }

    /// The next one; waits for it. `None` when there can be no more.
    pub(super) fn next(&self) -> Option<Request> {
        let request = self.receiver.recv().ok()?;
        match request {
            Request::Apply => self.shared.has_changes.store(false, Ordering::SeqCst),
            Request::ReloadUnasked => self.shared.has_reload.store(false, Ordering::SeqCst),
            _ => {}
        }
        Some(request)
    }
}

/// What the manager is asked for.
pub(super) enum Request {
    /// To take over settings that have changed.
    Apply,
    Reload(SyncSender<Reloaded>),
    /// The same, and nobody waits for what comes of it.
    ReloadUnasked,
    Shutdown,
    /// To look at why the hub of this number has ended.
    Ended(u64),
}

#[derive(Default)]
struct Shared {
    serves: AtomicBool,
    /// That is said already.
    has_changes: AtomicBool,
    /// That a reload is wanted is said already.
    has_reload: AtomicBool,
}

fn unserved() -> Error {
    Error::Connection("the program that has this hub takes no orders now: it starts, or ends".to_owned())
}

/// How long a reload may take.
const PATIENCE: Duration = Duration::from_secs(30);
