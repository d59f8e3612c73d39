//! What other threads use a hub through.

use std::sync::mpsc::{Sender, SyncSender, sync_channel};

use crate::handlers::BoxedHandler;
use crate::info::PeerInfo;
use crate::link::{HubLink, Listener};
use crate::owned::{Error, OwnedMessage, Result};
use crate::poller::Waker;

/// Talks to a running hub from any thread. Cloning it is cheap; it keeps no hub running.
///
/// Methods that wait for the hub's answer must not be called from one of its inline handlers: the hub would wait for
/// itself. A handler that needs them says that it [may block](visorbus_core::dispatch::MessageHandler::may_block).
#[derive(Clone)]
pub struct HubHandle {
    commands: Sender<Command>,
    waker: Waker,
}

/// Where the hub puts the outcome of a command.
pub(crate) type Outcome<T> = SyncSender<Result<T>>;

pub(crate) enum Command {
    Listen(Box<dyn Listener>, Outcome<()>),
    Attach(Box<dyn HubLink>, Outcome<()>),
    Register(BoxedHandler, Outcome<()>),
    Unregister(String, Outcome<()>),
    Send(String, OwnedMessage, Outcome<()>),
    Broadcast(OwnedMessage, Outcome<()>),
    Peers(Outcome<Vec<PeerInfo>>),
    Stop,
}

impl HubHandle {
    pub(crate) const fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(crate) const fn new(commands: Sender<Command>, waker: Waker) -> Self {
        Self { commands, waker }
    }

    /// Accepts connections from `listener` from now on.
    ///
    /// # Errors
    /// `Connection` when the hub has ended or cannot wait on the listener.
    pub fn listen(&self, listener: Box<dyn Listener>) -> Result<()> {
        self.ask(|outcome| Command::Listen(listener, outcome))
    }

    /// Serves the other end of `link` from now on.
    ///
    /// # Errors
    /// `Connection` when the hub has ended.
    pub fn attach(&self, link: Box<dyn HubLink>) -> Result<()> {
        self.ask(|outcome| Command::Attach(link, outcome))
    }

    /// Serves the component `handler.id()` in the hub.
    ///
    /// # Errors
    /// `Message` when the id is no component name or is taken; `Connection` when the hub has ended.
    pub fn register_handler(&self, handler: BoxedHandler) -> Result<()> {
        self.ask(|outcome| Command::Register(handler, outcome))
    }

    /// Stops serving the component `id` in the hub.
    ///
    /// # Errors
    /// `Message` when no handler has this id; `Connection` when the hub has ended.
    pub fn unregister_handler(&self, id: &str) -> Result<()> {
        self.ask(|outcome| Command::Unregister(id.to_owned(), outcome))
    }

    /// Sends a notification to the peer called `peer`.
    ///
    /// # Errors
    /// `Message` when there is no such peer, when the message is no notification or does not fit; `Connection` when
    /// the hub has ended.
    pub fn send_message(&self, peer: &str, message: OwnedMessage) -> Result<()> {
        self.ask(|outcome| Command::Send(peer.to_owned(), message, outcome))
    }

    /// Sends a notification to every authenticated peer.
    ///
    /// # Errors
    /// `Message` when the message is no notification; `Connection` when the hub has ended.
    pub fn broadcast_message(&self, message: OwnedMessage) -> Result<()> {
        self.ask(|outcome| Command::Broadcast(message, outcome))
    }

    /// The names of the authenticated peers, sorted.
    ///
    /// # Errors
    /// `Connection` when the hub has ended.
    pub fn active_connections(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            self.peers()?.into_iter().filter(|peer| peer.authenticated).map(|peer| peer.name).collect();
        names.sort();
        Ok(names)
    }

    /// All connections with their counters.
    ///
    /// # Errors
    /// `Connection` when the hub has ended.
    pub fn peers(&self) -> Result<Vec<PeerInfo>> {
        self.ask(Command::Peers)
    }

    /// Has the hub say goodbye and end.
    pub fn stop(&self) {
        // A hub that has ended already has stopped.
        let _ = self.commands.send(Command::Stop);
        self.waker.wake();
    }

    fn ask<T>(&self, command: impl FnOnce(Outcome<T>) -> Command) -> Result<T> {
        let ended = || Error::Connection("the hub has ended".to_owned());
        let (outcome, answer) = sync_channel(1);
        self.commands.send(command(outcome)).map_err(|_| ended())?;
        self.waker.wake();
        answer.recv().map_err(|_| ended())?
    }
}

impl std::fmt::Debug for HubHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HubHandle")
    }
}
