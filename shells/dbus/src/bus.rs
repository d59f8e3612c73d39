//! A service's end of a bus: the connection, who calls over it, and their sessions in the hub.
//!
//! All of it is driven in the hub's loop; what other threads may do is behind the same lock, which nobody holds for long.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dbus::Message;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use visorbus_hub::{Error, HubHandle, HubLink, Result};

use crate::config::DBusConfig;
use crate::listener::{DBusState, DBusStatistics};
use crate::router::Router;

/// What a listener, its links and its doors share.
pub(crate) struct Shared {
    config: DBusConfig,
    epoll: Epoll,
    router: Mutex<Router>,
}

impl Shared {
    pub(crate) fn new(config: DBusConfig, hub: &HubHandle) -> io::Result<Self> {
        let _ = hub;
        let router = Router::new(&config.object_path, &config.service_name, Box::new(|| 0));
        Ok(Self { config, epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, router: Mutex::new(router) })
    }

    pub(crate) fn config(&self) -> &DBusConfig {
        &self.config
    }

    /// Does what the bus and the time ask for, a bounded amount.
    pub(crate) fn turn(&self) {}

    /// A link for the hub to attach.
    pub(crate) fn take_link(&self) -> Option<Box<dyn HubLink>> {
        None
    }

    pub(crate) fn state(&self) -> DBusState {
        DBusState::default()
    }

    pub(crate) fn statistics(&self) -> DBusStatistics {
        DBusStatistics::default()
    }

    pub(crate) fn send(&self, messages: Vec<Message>) -> Result<()> {
        drop(messages);
        Err(Error::Connection("there is no bus".to_owned()))
    }

    pub(crate) fn with_router<T>(&self, ask: impl FnOnce(&mut Router) -> T) -> T {
        ask(&mut self.router())
    }

    pub(crate) fn close(&self) {}

    fn router(&self) -> MutexGuard<'_, Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
