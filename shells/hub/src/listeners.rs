//! What comes and goes while the hub runs: listeners with the peers that came by them, and single links.

use std::thread;

use visorbus_core::Instant;

use crate::hub::Hub;
use crate::link::{Goodbye, HubLink, Listener};
use crate::owned::{Error, Result};
use crate::peer::Presence;
use crate::peers::{End, PeerKey};
use crate::poller::{Poller, WOKEN};

/// Names a listener of a hub, as [`HubHandle::listen`](crate::HubHandle::listen) gives it; never names another one later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub(crate) u64);

/// Names a link of a hub, as [`HubHandle::attach`](crate::HubHandle::attach) gives it, also while its device is gone; never
/// names another one later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(crate) u64);

/// How a link of a hub stands, as [`HubHandle::links`](crate::HubHandle::links) tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// Whoever is at its other end has proven to be this peer.
    Up(String),
    /// It is there, and nobody has proven himself at its other end; why, for people.
    Waiting(String),
    /// Its device is not there, or cannot be had, and is tried again and again; why, for people.
    Gone(String),
}

/// How a peer's link came to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Listener(ListenerId),
    Link(LinkId),
}

/// The listeners of a hub, each in a slot that its number in the poller tells.
#[derive(Default)]
pub(crate) struct Listeners {
    slots: Vec<Option<Accepting>>,
}

/// A listener and when it goes on after a pause.
struct Accepting {
    id: ListenerId,
    listener: Box<dyn Listener>,
    paused_until: Option<Instant>,
}

impl Listeners {
    /// Whether the poller means a listener by `number`, and no peer.
    pub(crate) const fn is_one(number: u64) -> bool {
        number >= FIRST_LISTENER
    }

    /// When the first of those that pause goes on.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.slots.iter().flatten().filter_map(|accepting| accepting.paused_until).min()
    }

    /// Has those go on whose pause is over.
    pub(crate) fn handle_deadlines(&mut self, poller: &Poller, now: Instant) {
        for (slot, accepting) in self.slots.iter_mut().enumerate() {
            let Some(accepting) = accepting else { continue };
            if accepting.paused_until.is_some_and(|until| until <= now)
                && poller.watch(accepting.listener.fd(), number_of(slot), true, false).is_ok()
            {
                accepting.paused_until = None;
            }
        }
    }

    /// Gives the listener back where it cannot be waited on.
    fn insert(
        &mut self,
        id: ListenerId,
        listener: Box<dyn Listener>,
        poller: &Poller,
    ) -> std::result::Result<(), (Box<dyn Listener>, Error)> {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free >= MAX_LISTENERS {
            let text = format!("the hub has {MAX_LISTENERS} listeners, the limit");
            return Err((listener, Error::Message(text)));
        }
        if let Err(error) = poller.add(listener.fd(), number_of(free)) {
            let text = format!("cannot wait for connections on {}: {error}", listener.describe());
            return Err((listener, Error::Connection(text)));
        }
        let accepting = Some(Accepting { id, listener, paused_until: None });
        match self.slots.get_mut(free) {
            Some(slot) => *slot = accepting,
            None => self.slots.push(accepting),
        }
        Ok(())
    }

    /// Takes those away whose links go on without them.
    pub(crate) fn take_independent(&mut self, poller: &Poller) -> Vec<Box<dyn Listener>> {
        let independent =
            |slot: &mut Option<Accepting>| slot.take_if(|accepting| !accepting.listener.carries_links());
        let taken: Vec<Accepting> = self.slots.iter_mut().filter_map(independent).collect();
        taken.iter().for_each(|accepting| poller.remove(accepting.listener.fd()));
        taken.into_iter().map(|accepting| accepting.listener).collect()
    }

    fn remove(&mut self, id: ListenerId, poller: &Poller) -> Option<Box<dyn Listener>> {
        let is_it = |slot: &&mut Option<Accepting>| slot.as_ref().is_some_and(|known| known.id == id);
        let listener = self.slots.iter_mut().find(is_it)?.take()?.listener;
        poller.remove(listener.fd());
        Some(listener)
    }
}

impl Hub {
    pub(crate) fn listen(&mut self, id: ListenerId, listener: Box<dyn Listener>) -> Result<()> {
        if self.ending.is_some() {
            drop_elsewhere(listener);
            return Err(stops());
        }
        let place = listener.describe();
        self.listeners.insert(id, listener, &self.poller).map_err(|(listener, error)| {
            drop_elsewhere(listener);
            error
        })?;
        tracing::info!("listening on {place}");
        Ok(())
    }

    /// Listens no more, and parts from those who came by this listener. It is given back, because it may wait for other
    /// threads while it is dropped, and they for the hub.
    pub(crate) fn unlisten(&mut self, id: ListenerId, why: &str, now: Instant) -> Result<Box<dyn Listener>> {
        let listener = self.listeners.remove(id, &self.poller).ok_or_else(|| {
            Error::Message("there is no such listener any more: it was taken away before".to_owned())
        })?;
        tracing::info!("not listening on {} any more: {why}", listener.describe());
        let of_it = self.peers.iter().filter(|(_, peer)| peer.via == Via::Listener(id));
        for key in of_it.map(|(key, _)| key).collect::<Vec<_>>() {
            self.part_now(key, why, now);
        }
        Ok(listener)
    }

    /// Takes a link away, its device too. What is given back is dropped elsewhere: closing a line may wait for it.
    pub(crate) fn detach(&mut self, id: LinkId, why: &str, now: Instant) -> Result<Option<Box<dyn HubLink>>> {
        let gone = || Error::Message("there is no such link any more: its connection is over".to_owned());
        let (key, peer) = self.peers.iter().find(|(_, peer)| peer.via == Via::Link(id)).ok_or_else(gone)?;
        let is_line = peer.options.lossy;
        if matches!(peer.presence, Presence::Lingering { .. }) {
            return Err(gone());
        }
        self.part_now(key, why, now);
        if !is_line {
            return Ok(None);
        }
        // It would wait for its device, or for the other end to say hello again.
        let Some(peer) = self.peers.get_mut(key) else { return Ok(None) };
        if let (Some(_), Some(fd)) = (peer.watched.take(), peer.link.fd()) {
            self.poller.remove(fd);
        }
        peer.link.close(Goodbye::Stopping, why);
        // As far as it goes at once.
        let _ = peer.link.flush(now);
        self.clear_timer(key);
        Ok(self.peers.remove(key).map(|peer| peer.link))
    }

    /// How each link stands that came alone, by their ids.
    pub(crate) fn link_states(&self) -> Vec<(LinkId, LinkState)> {
        let links = self.peers.iter().filter_map(|(_, peer)| match peer.via {
            Via::Link(id) => Some((id, peer.link_state())),
            Via::Listener(_) => None,
        });
        let mut links: Vec<_> = links.collect();
        links.sort_by_key(|(id, _)| *id);
        links
    }

    pub(crate) fn accept(&mut self, number: u64, now: Instant) {
        let slot = (FIRST_LISTENER_DOWN - number) as usize;
        // A bounded number at a time, so that a storm of connections leaves time for those that are there.
        for _ in 0..16 {
            let Some(Some(accepting)) = self.listeners.slots.get_mut(slot) else { return };
            let id = accepting.id;
            match accepting.listener.accept() {
                Ok(None) => return,
                Ok(Some(link)) => {
                    let origin = link.origin();
                    if let Err(error) = self.attach(link, Via::Listener(id), now) {
                        self.audit_not_let_in(&origin, &error);
                    }
                }
                Err(error) => {
                    tracing::warn!("{}: {error}; not accepting for 100 ms", accepting.listener.describe());
                    let paused = self.poller.watch(accepting.listener.fd(), number, false, false);
                    accepting.paused_until = paused.is_ok().then(|| now.plus_millis(100));
                    return;
                }
            }
        }
    }

    /// Parts from a peer here and now, not at the end of the turn.
    fn part_now(&mut self, key: PeerKey, why: &str, now: Instant) {
        if self.peers.leave(key) {
            self.part_from(key, &End::Dismissed(Goodbye::Stopping, why.to_owned()), now);
        }
    }
}

/// What is told to whoever comes, or asks, when the hub ends.
pub(crate) fn stops() -> Error {
    Error::Connection("the hub stops: try again when it is back".to_owned())
}

/// Drops what may wait while it is dropped on a thread of its own; on this one where there is none to be had.
pub(crate) fn drop_elsewhere<T: Send + 'static>(dropped: T) {
    // What could not be given to a thread was dropped here.
    let _ = thread::Builder::new().name("visorbus-closing".to_owned()).spawn(move || drop(dropped));
}

const fn number_of(slot: usize) -> u64 {
    FIRST_LISTENER_DOWN - slot as u64
}

/// Listeners are numbered downwards from here, beyond every peer's number.
const FIRST_LISTENER_DOWN: u64 = WOKEN - 2;
const FIRST_LISTENER: u64 = WOKEN - 1024;
const MAX_LISTENERS: usize = (FIRST_LISTENER_DOWN - FIRST_LISTENER) as usize;
