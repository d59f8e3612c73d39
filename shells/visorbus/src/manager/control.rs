//! How others reach the manager, which is one thread's: signals, the component `manager`, the configuration.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use visorbus_hub::{BoxedHandler, Error, Result};

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
    /// Has everything that can be read again read again, and waits until it is done. A manager that begins to be
    /// [served](super::IpcManager::serve) within a second is waited for.
    ///
    /// # Errors
    /// `Connection` when nobody serves the manager, or it ends meanwhile; `Timeout` when it takes longer than 30 s.
    pub fn reload(&self) -> Result<Reloaded> {
        self.ask(Request::Reload)
    }

    /// As [`ManagerControl::reload`], but does not wait for it: a manager that nobody serves yet does it first of all. However
    /// many ask before it begins, it is done once.
    ///
    /// # Errors
    /// `Connection` when the manager has ended.
    pub fn request_reload(&self) -> Result<()> {
        if *self.shared.stage() == Stage::Ended {
            return Err(unserved());
        }
        if !self.shared.has_reload.swap(true, Ordering::SeqCst) {
            self.requests.send(Request::ReloadUnasked).map_err(|_| unserved())?;
        }
        Ok(())
    }

    /// As [`IpcManager::register_handler`](super::IpcManager::register_handler), while the manager is served by its own
    /// thread; waits until it is done. Not for a handler that must not block.
    ///
    /// # Errors
    /// As there, and as [`ManagerControl::reload`].
    pub fn register_handler(&self, handler: BoxedHandler) -> Result<()> {
        self.ask(|answer| Request::Register(handler, answer))?
    }

    /// As [`IpcManager::unregister_handler`](super::IpcManager::unregister_handler), in the same way.
    ///
    /// # Errors
    /// As there, and as [`ManagerControl::reload`].
    pub fn unregister_handler(&self, id: &str) -> Result<()> {
        self.ask(|answer| Request::Unregister(id.to_owned(), answer))?
    }

    /// Asks the manager's thread for something and waits for what comes of it.
    fn ask<T>(&self, request: impl FnOnce(SyncSender<T>) -> Request) -> Result<T> {
        if !self.is_served() {
            return Err(unserved());
        }
        let (answer, outcome) = sync_channel(1);
        self.requests.send(request(answer)).map_err(|_| unserved())?;
        if *self.shared.stage() != Stage::Serves {
            // It has ended since; who takes up its work then may do this too, but nobody waits for that.
            return Err(unserved());
        }
        outcome.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Timeout("the manager is still at it".to_owned()),
            RecvTimeoutError::Disconnected => unserved(),
        })
    }

    /// Has the manager end once it has nothing else to do; does not wait for that.
    pub fn shutdown(&self) {
        // One that has ended does not end again when it is served again. It ends only after this.
        let stage = self.shared.stage();
        if *stage != Stage::Ended {
            // One that is gone has ended.
            let _ = self.requests.send(Request::Shutdown);
        }
    }

    /// How the parts are, as [`IpcManager::status`](super::IpcManager::status) says.
    pub fn status(&self) -> ManagerStatus {
        self.status.status()
    }

    /// Whether the manager's thread takes what is asked here, or does so in a moment, which is waited for: sockets are there
    /// before it has told its program that it serves.
    pub(super) fn is_served(&self) -> bool {
        let stage = self.shared.stage();
        let is_idle = |stage: &mut Stage| *stage == Stage::Idle;
        let waited = self.shared.changed.wait_timeout_while(stage, MOMENT, is_idle);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == Stage::Serves
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

    /// Somebody may take up what is asked, later.
    pub(super) fn expect(&self) {
        self.shared.enter(Stage::Idle);
    }

    /// From now on somebody takes what is asked.
    pub(super) fn open(&self) {
        self.shared.enter(Stage::Serves);
    }

    /// From now on nobody does; whoever waits is told so.
    pub(super) fn close(&self) {
        self.shared.enter(Stage::Ended);
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
    Register(BoxedHandler, SyncSender<Result<()>>),
    /// The handler of that id.
    Unregister(String, SyncSender<Result<()>>),
    Shutdown,
    /// To look at why the hub of this number has ended.
    Ended(u64),
}

#[derive(Default)]
struct Shared {
    stage: Mutex<Stage>,
    /// Somebody has entered another stage.
    changed: Condvar,
    /// That settings have changed is said already.
    has_changes: AtomicBool,
    /// That a reload is wanted is said already.
    has_reload: AtomicBool,
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, stage: Stage) {
        *self.stage() = stage;
        self.changed.notify_all();
    }
}

/// Whether somebody takes what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Not yet.
    #[default]
    Idle,
    Serves,
    /// Not any more.
    Ended,
}

fn unserved() -> Error {
    Error::Connection("the program that has this hub takes no orders now: it starts, or ends".to_owned())
}

/// How long a program takes from its sockets to serving its manager, at most.
const MOMENT: Duration = Duration::from_secs(1);
/// How long a reload may take.
const PATIENCE: Duration = Duration::from_secs(30);
