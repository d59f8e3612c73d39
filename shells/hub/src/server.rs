//! A server of one transport: a hub on a thread of its own, or one that runs already, with a listener.

use std::thread::{self, JoinHandle};

use crate::config::HubConfig;
use crate::handle::HubHandle;
use crate::handlers::BoxedHandler;
use crate::hub::Hub;
use crate::link::Listener;
use crate::listeners::ListenerId;
use crate::owned::{Error, OwnedMessage, Result};

/// A listener that serves between [`HubServer::start`] and [`HubServer::stop`], with [`HubServer::new`] in a hub on a thread
/// of its own, with [`HubServer::over`] in one that runs already; a server of one transport is this with a listener.
pub struct HubServer {
    handle: HubHandle,
    state: State,
}

enum State {
    /// What is registered before the start waits here: the hub answers nobody until it runs.
    Ready(Box<Hub>, Vec<BoxedHandler>),
    Running(JoinHandle<Result<()>>),
    /// Over a hub that runs, which does not listen there yet.
    Waiting,
    /// The hub listens there.
    Listening(ListenerId),
    Stopped,
}

impl HubServer {
    /// A server with a hub of its own that does not serve yet.
    ///
    /// # Errors
    /// What [`Hub::new`] says.
    pub fn new(config: HubConfig) -> Result<Self> {
        let hub = Hub::new(config)?;
        Ok(Self { handle: hub.handle(), state: State::Ready(Box::new(hub), Vec::new()) })
    }

    /// A server on a hub that runs already, beside its other listeners, that does not serve yet. Its clients are those who
    /// come by its listener: they are listed, and have what is sent to all. Handlers are the hub's: they are registered at
    /// once, serve everybody, and stay when this server stops.
    pub const fn over(handle: HubHandle) -> Self {
        Self { handle, state: State::Waiting }
    }

    /// Serves from now on whoever comes to the listener that `bind` makes. In a hub of its own further ones may listen
    /// later ([`HubHandle::listen`]).
    ///
    /// # Errors
    /// `Message` when it was started before, and then `bind` is not called; what `bind` says, after which it may be tried
    /// again; `Connection` when the hub that runs already has ended.
    pub fn start(&mut self, bind: impl FnOnce() -> Result<Box<dyn Listener>>) -> Result<()> {
        if !matches!(self.state, State::Ready(..) | State::Waiting) {
            return Err(Error::Message("this server was started before: make a new one".to_owned()));
        }
        let listener = bind()?;
        let State::Ready(hub, handlers) = std::mem::replace(&mut self.state, State::Waiting) else {
            self.state = State::Listening(self.handle.listen(listener)?);
            return Ok(());
        };
        self.state = State::Stopped;
        let started = thread::Builder::new().name("visorbus-hub".to_owned()).spawn(move || hub.run());
        let started = started.map_err(|e| Error::Internal(format!("cannot start the hub's thread: {e}")))?;
        self.state = State::Running(started);
        handlers.into_iter().try_for_each(|handler| self.handle.register_handler(handler))?;
        self.handle.listen(listener).map(drop)
    }

    /// Says goodbye to every client and drops the listener; of a hub of its own, waits for its end. Of a hub that ran
    /// before nobody else notices. Nothing to do where it does not run.
    ///
    /// # Errors
    /// Why the hub had ended before, where it is its own.
    pub fn stop(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Running(running) => {
                self.handle.stop();
                running
                    .join()
                    .unwrap_or_else(|_| Err(Error::Internal("the hub's thread has panicked".to_owned())))
            }
            State::Listening(listener) => {
                // Whoever has taken the listener away, or ended the hub, before has done what is wanted.
                let _ = self.handle.unlisten(listener, "the server stops");
                Ok(())
            }
            State::Ready(..) | State::Waiting | State::Stopped => Ok(()),
        }
    }

    /// Serves the component `handler.id()` in the hub.
    ///
    /// # Errors
    /// `Message` when the id is no component's name or is taken; `Connection` when the hub has ended.
    pub fn register_handler(&mut self, handler: BoxedHandler) -> Result<()> {
        match &mut self.state {
            State::Ready(_, handlers) if handlers.iter().any(|known| known.id() == handler.id()) => {
                Err(Error::Message(format!("a handler called '{}' is there already", handler.id())))
            }
            State::Ready(_, handlers) => {
                handlers.push(handler);
                Ok(())
            }
            _ => self.handle.register_handler(handler),
        }
    }

    /// Stops serving the component `id`.
    ///
    /// # Errors
    /// `Message` when no handler has this id; `Connection` when the hub has ended.
    pub fn unregister_handler(&mut self, id: &str) -> Result<()> {
        match &mut self.state {
            State::Ready(_, handlers) => {
                let found = handlers.iter().position(|known| known.id() == id);
                let found = found.ok_or_else(|| Error::Message(format!("no handler is called '{id}'")))?;
                drop(handlers.swap_remove(found));
                Ok(())
            }
            _ => self.handle.unregister_handler(id),
        }
    }

    /// The names of the authenticated clients, sorted; none while it does not serve yet.
    ///
    /// # Errors
    /// `Connection` when the server has stopped.
    pub fn active_connections(&self) -> Result<Vec<String>> {
        match self.state {
            State::Ready(..) | State::Waiting => Ok(Vec::new()),
            _ => self.handle.connections_of(self.listener()?),
        }
    }

    /// Sends a notification to the client called `client_id`.
    ///
    /// # Errors
    /// `Message` when there is no such client or the message is no notification; `Connection` when the server does not
    /// run.
    pub fn send_message(&self, client_id: &str, message: OwnedMessage) -> Result<()> {
        self.handle.send_to(self.listener()?, client_id, message)
    }

    /// Sends a notification to every authenticated client.
    ///
    /// # Errors
    /// `Message` when the message is no notification, or for the first client that could not have it; `Connection` when
    /// the server does not run.
    pub fn broadcast_message(&self, message: OwnedMessage) -> Result<()> {
        self.handle.broadcast(self.listener()?, None, message)
    }

    /// Sends a notification to every client that has `scope`, as [`HubHandle::broadcast_to_scope`] says.
    ///
    /// # Errors
    /// `Message` when the message is no notification or `scope` is none, or for the first client that could not have it;
    /// `Connection` when the server does not run.
    pub fn broadcast_to_scope(&self, scope: &str, message: OwnedMessage) -> Result<()> {
        self.handle.broadcast(self.listener()?, Some(scope), message)
    }

    /// The hub: for what a server does not know of, such as taking tokens back and reading accounts and policy again.
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// By which listener its clients come; `None`: all of the hub's are its clients.
    fn listener(&self) -> Result<Option<ListenerId>> {
        match self.state {
            State::Running(_) => Ok(None),
            State::Listening(listener) => Ok(Some(listener)),
            State::Ready(..) | State::Waiting => {
                Err(Error::Connection("this server does not serve yet: call start() first".to_owned()))
            }
            State::Stopped => Err(Error::Connection("this server has stopped".to_owned())),
        }
    }
}

impl std::fmt::Debug for HubServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Ready(..) | State::Waiting => "ready",
            State::Running(_) | State::Listening(_) => "running",
            State::Stopped => "stopped",
        };
        f.debug_struct("HubServer").field("state", &state).finish_non_exhaustive()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        // Nobody could be told why it had ended before.
        let _ = self.stop();
    }
}
