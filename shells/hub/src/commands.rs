//! What other threads ask of the hub through its [`HubHandle`](crate::HubHandle).

use std::sync::mpsc::SendError;

use visorbus_core::Instant;
use visorbus_core::auth::{BUS, Operation};
use visorbus_core::message::address::is_name;
use visorbus_core::message::{Address, MessageType, Pattern};

use crate::accounts::Asker;
use crate::gate::Gate;
use crate::handle::{Audience, Command, Needed, Outcome, audience};
use crate::handlers::BoxedHandler;
use crate::hub::{BUS_ADDRESS, Hub};
use crate::listeners::{ListenerId, Via, drop_elsewhere};
use crate::owned::{Error, OwnedMessage, Result};
use crate::peer::Peer;
use crate::peers::PeerKey;

impl Hub {
    /// Does all that is asked by now.
    pub(crate) fn handle_commands(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            self.handle_command(command, now);
        }
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        // Whoever asked may have gone; then nobody reads the outcome.
        match command {
            Command::Listen(id, listener, done) => drop(done.send(self.listen(id, listener))),
            Command::Unlisten(id, why, done) => {
                if let Err(SendError(listener)) = done.send(self.unlisten(id, &why, now)) {
                    drop_elsewhere(listener);
                }
            }
            Command::Attach(id, link, done) => drop(done.send(self.attach(link, Via::Link(id), now))),
            Command::Detach(id, why, done) => {
                if let Err(SendError(link)) = done.send(self.detach(id, &why, now)) {
                    drop_elsewhere(link);
                }
            }
            Command::Register(handler, done) => self.register_handler(handler, &done),
            Command::Replace(handler, done) => self.replace_handler(handler, &done),
            Command::Unregister(id, done) => self.unregister_handler(&id, &done),
            Command::Send(via, peer, message, done) => drop(done.send(self.send_own(via, &peer, &message))),
            Command::Publish(message, needed, done) => {
                drop(done.send(self.publish_of_handler(&message, needed.as_ref(), now)));
            }
            Command::Broadcast(audience, message, done) => {
                drop(done.send(self.broadcast(&audience, &message)));
            }
            Command::Request(message, timeout_ms, done) => {
                self.begin_question(&message, timeout_ms, done, now)
            }
            Command::Watch(watcher, done) => {
                self.watchers.insert(watcher);
                drop(done.send(Ok(())));
            }
            Command::Names(via, done) => drop(done.send(Ok(self.names_of(via)))),
            Command::Peers(done) => drop(done.send(Ok(self.peer_infos()))),
            Command::Links(done) => drop(done.send(Ok(self.link_states()))),
            Command::Services(done) => drop(done.send(Ok(self.services()))),
            Command::Authorize(bearer, done) => drop(done.send(self.authorize_bearer(&bearer, now))),
            Command::Statistics(done) => drop(done.send(Ok(Box::new(self.statistics())))),
            Command::Errand(errand, purpose, done) => {
                // Who asks waits for the outcome, which is an error at once where nothing can be begun.
                let asker = Asker::Program(done.clone());
                if let Err(error) = self.begin_errand(asker, purpose, errand) {
                    drop(done.send(Err(error)));
                }
            }
            Command::Shutdown(deadline, done) => self.begin_ending(deadline, done, now),
            Command::Stop => self.stopping = true,
        }
    }

    fn register_handler(&mut self, handler: BoxedHandler, done: &Outcome<()>) {
        let id = handler.id().to_owned();
        let outcome = self.add_handler(&id, handler);
        let registered = outcome.is_ok();
        if registered {
            self.handle.types_changed();
        }
        // The program knows of it before the peers do.
        drop(done.send(outcome));
        if registered {
            self.announce(&id, "", true);
        }
    }

    fn replace_handler(&mut self, handler: BoxedHandler, done: &Outcome<()>) {
        let id = handler.id().to_owned();
        if self.registry.replace(handler).is_err() {
            return drop(done.send(Err(no_handler(&id))));
        }
        self.handle.types_changed();
        drop(done.send(Ok(())));
        self.announce(&id, "", true);
    }

    fn unregister_handler(&mut self, id: &str, done: &Outcome<()>) {
        if !self.registry.remove(id) {
            return drop(done.send(Err(no_handler(id))));
        }
        self.handle.types_changed();
        drop(done.send(Ok(())));
        self.announce(id, "", false);
    }

    fn add_handler(&mut self, id: &str, handler: BoxedHandler) -> Result<()> {
        if !is_name(id) || id == BUS {
            return Err(Error::Message(format!("'{id}' cannot be a component's name")));
        }
        if self.names.contains_key(id) {
            return Err(Error::Message(format!("the name '{id}' is taken by a peer")));
        }
        self.registry
            .insert(handler)
            .map_err(|id| Error::Message(format!("a handler called '{id}' is there already")))
    }

    /// Publishes what a handler of the hub's tells.
    fn publish_of_handler(
        &mut self,
        message: &OwnedMessage,
        needed: Option<&Needed>,
        now: Instant,
    ) -> Result<()> {
        let wrong = |text: &str| Err(Error::Message(text.to_owned()));
        if message.message_type != MessageType::Notification {
            return wrong("a hub publishes notifications; requests are a client's");
        }
        let mut message = message.borrow()?;
        let Some(topic) = message.destination.filter(|topic| self.registry.contains(topic.component()))
        else {
            return wrong("the topic is not one of a handler of the hub's: register the handler first");
        };
        if message.flags.encrypted || message.flags.compressed {
            return wrong("a hub publishes payloads as they are: neither encrypted nor compressed");
        }
        message.id = self.take_id();
        message.source = Address::new(topic.component()).ok();
        self.publish(None, &message, needed, false, now)
    }

    fn send_own(&mut self, via: Option<ListenerId>, peer: &str, message: &OwnedMessage) -> Result<()> {
        if message.message_type != MessageType::Notification {
            return Err(Error::Message("a hub sends notifications; requests are a client's".to_owned()));
        }
        let is_of_it = |key: &PeerKey| {
            via.is_none_or(|via| self.peers.get(*key).is_some_and(|peer| peer.via == Via::Listener(via)))
        };
        let key = self.names.get(peer).copied().filter(is_of_it);
        let key = key.ok_or_else(|| Error::Message(format!("no peer is called '{peer}'")))?;
        let id = self.take_id();
        let mut message = message.borrow()?;
        message.id = id;
        message.source = message.source.or(Some(BUS_ADDRESS));
        if message.flags.encrypted {
            return Err(Error::Message("a hub has no key to encrypt a payload with".to_owned()));
        }
        message.flags.compressed = false;
        let held = match message.destination {
            Some(topic) => self.own_payload_for(&message, key, topic)?,
            None => None,
        };
        if let Some(payload) = &held {
            message.payload = payload.borrow();
        }
        let len = visorbus_core::encode(&message, &mut self.out)
            .map_err(|_| Error::Message("the message does not fit into a frame of the hub".to_owned()))?;
        let priority = message.flags.priority;
        let sent = self.peers.send(key, &self.out[..len], &[], priority, false);
        sent.map_err(|unsent| self.unsent_error(key, len, unsent))
    }

    /// Sends a notification to whom it is for; the first that could not have it is the error.
    fn broadcast(&mut self, Audience { via, scope }: &Audience, message: &OwnedMessage) -> Result<()> {
        let has_scope = |hub: &Self, name: &String| {
            let key = hub.names.get(name).copied();
            scope.as_ref().is_none_or(|scope| key.is_some_and(|key| hub.has_scope(key, scope, message)))
        };
        let names = self.names_of(*via).into_iter().filter(|name| has_scope(self, name));
        let names: Vec<String> = names.collect();
        let sent: Vec<Result<()>> = names.iter().map(|name| self.send_own(None, name, message)).collect();
        sent.into_iter().collect()
    }

    /// The authenticated peers, or those who came by a listener, sorted.
    fn names_of(&self, via: Option<ListenerId>) -> Vec<String> {
        let is_of_it = |peer: &Peer| via.is_none_or(|via| peer.via == Via::Listener(via));
        let of_it = self.peers.iter().filter(|(_, peer)| !peer.name.is_empty() && is_of_it(peer));
        let mut names: Vec<String> = of_it.map(|(_, peer)| peer.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Whether a peer has the scope by its token and the policy: a name is asked for as the topic would ask for it.
    fn has_scope(&self, key: PeerKey, scope: &str, message: &OwnedMessage) -> bool {
        let Some((permission, access)) = audience(scope) else { return false };
        let topic = Pattern::new(&message.destination).ok();
        let Some((operation, pattern)) = permission.or(topic.map(|topic| (Operation::Subscribe, topic)))
        else {
            return false;
        };
        let gate = Gate::new(&*self.config.policy, &self.peers, key, None, self.unix_s(self.now()));
        gate.would(operation, pattern, access).is_ok()
    }
}

fn no_handler(id: &str) -> Error {
    Error::Message(format!("no handler is called '{id}'"))
}
