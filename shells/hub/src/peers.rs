//! The peers of a hub: one slot for each connection, with its session, its queue, its subscriptions and its counters.

use slotmap::SlotMap;
use visorbus_core::auth::{Access, Grant};
use visorbus_core::bus::{RowKind, SlowConsumer};
use visorbus_core::message::Pattern;
use visorbus_core::{Instant, MessagePriority, Session};

use crate::config::Limits;
use crate::link::{HubLink, LinkOptions, Origin};
use crate::queue::{Queue, Queued};

slotmap::new_key_type! {
    /// Names a peer's slot; never names another peer later.
    pub(crate) struct PeerKey;
}

/// All peers, and what is to be done for some of them at the end of a turn.
#[derive(Default)]
pub(crate) struct Peers {
    slots: SlotMap<PeerKey, Peer>,
    /// Peers to which something was sent that is not written yet.
    dirty: Vec<PeerKey>,
    /// Peers whose link failed, or that have to go, and why.
    broken: Vec<(PeerKey, String)>,
    queue_bytes: usize,
    hub_max_frame: u32,
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The peer is gone, or goes at the end of this turn.
    Gone,
    /// So many bytes wait for it already.
    Full { waiting: usize },
    /// It takes frames of at most this many bytes.
    TooLong { max: usize },
}

impl Peers {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { queue_bytes: limits.queue_bytes, hub_max_frame: limits.max_frame, ..Self::default() }
    }

    pub(crate) fn insert(&mut self, peer: Peer) -> PeerKey {
        self.slots.insert(peer)
    }

    pub(crate) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.slots.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.slots.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        self.slots.remove(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.slots.iter()
    }

    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.slots.keys().collect()
    }

    /// Marks a peer to be closed at the end of this turn.
    pub(crate) fn doom(&mut self, key: PeerKey, why: impl Into<String>) {
        self.broken.push((key, why.into()));
    }

    pub(crate) fn take_broken(&mut self) -> Option<(PeerKey, String)> {
        self.broken.pop()
    }

    pub(crate) fn take_dirty(&mut self) -> Option<PeerKey> {
        let key = self.dirty.pop()?;
        if let Some(peer) = self.slots.get_mut(key) {
            peer.dirty = false;
        }
        Some(key)
    }

    /// Sends a frame, in two parts, that must not be lost: at once where nothing waits, else after what waits.
    pub(crate) fn send(
        &mut self,
        key: PeerKey,
        head: &[u8],
        payload: &[u8],
        priority: MessagePriority,
        at_once: bool,
    ) -> Result<(), Unsent> {
        let limit = self.queue_bytes;
        if self.try_send(key, head, payload, at_once)? {
            return Ok(());
        }
        let Some(peer) = self.slots.get_mut(key) else { return Err(Unsent::Gone) };
        match peer.queue.push(join(head, payload), priority, limit) {
            Queued::Waits { .. } => Ok(()),
            Queued::Full => Err(Unsent::Full { waiting: peer.queue.bytes() }),
        }
    }

    /// Sends a notification under the policy of the peer's subscription `number`.
    pub(crate) fn send_topic(
        &mut self,
        key: PeerKey,
        number: u32,
        topic: &str,
        parts: (&[u8], &[u8]),
        priority: MessagePriority,
        at_once: bool,
    ) {
        let limit = self.queue_bytes;
        let sent = self.try_send(key, parts.0, parts.1, at_once);
        let Some(peer) = self.slots.get_mut(key) else { return };
        let Some(subscription) = peer.subscriptions.iter_mut().find(|own| own.number == number) else {
            return;
        };
        let dropped = match sent {
            Ok(true) => return,
            Err(Unsent::Gone) => return,
            Err(_) => 1,
            Ok(false) => {
                let frame = join(parts.0, parts.1);
                match peer.queue.push_topic(frame, priority, limit, number, topic, subscription.policy) {
                    Queued::Waits { dropped } => dropped,
                    Queued::Full if subscription.policy == SlowConsumer::Disconnect => {
                        let why = format!(
                            "it does not read: {} bytes wait and its subscription '{}' asks to be disconnected then",
                            peer.queue.bytes(),
                            subscription.pattern
                        );
                        return self.doom(key, why);
                    }
                    Queued::Full => 1,
                }
            }
        };
        subscription.missed = subscription.missed.saturating_add(dropped);
        peer.counters.missed += u64::from(dropped);
    }

    /// Writes what waits for a peer as far as it goes; says whether anything is left.
    pub(crate) fn flush(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.slots.get_mut(key) else { return false };
        match peer.flush() {
            Ok(left) => left,
            Err(error) => {
                self.doom(key, closed_text(&error));
                false
            }
        }
    }

    /// `false` when it has to wait.
    fn try_send(&mut self, key: PeerKey, head: &[u8], payload: &[u8], at_once: bool) -> Result<bool, Unsent> {
        let len = head.len() + payload.len();
        let Some(peer) = self.slots.get_mut(key) else { return Err(Unsent::Gone) };
        let max = peer.max_frame(self.hub_max_frame);
        if len > max {
            return Err(Unsent::TooLong { max });
        }
        if peer.watched.is_none() {
            return Err(Unsent::Gone);
        }
        if !peer.dirty {
            peer.dirty = true;
            self.dirty.push(key);
        }
        if !peer.queue.is_empty() || !peer.link.has_room(len) {
            return Ok(false);
        }
        peer.counters.frames_out += 1;
        peer.counters.bytes_out += len as u64;
        if let Err(error) = peer.link.send(head, payload, at_once) {
            self.doom(key, closed_text(&error));
            return Err(Unsent::Gone);
        }
        Ok(true)
    }
}

/// Why a link ended, for people.
pub(crate) fn closed_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the other end closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

fn join(head: &[u8], payload: &[u8]) -> Box<[u8]> {
    [head, payload].concat().into()
}

/// One connection.
pub(crate) struct Peer {
    pub(crate) link: Box<dyn HubLink>,
    pub(crate) options: LinkOptions,
    pub(crate) origin: Origin,
    pub(crate) session: Session,
    /// The name that the session has proven; empty before that.
    pub(crate) name: String,
    /// Components that it serves beside its name.
    pub(crate) components: Vec<String>,
    pub(crate) rows: Rows,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) queue: Queue,
    /// What epoll watches its descriptor for; `None` while there is none.
    pub(crate) watched: Option<Watched>,
    /// Something was sent without `at_once` and waits for the end of the turn.
    pub(crate) dirty: bool,
    /// When the link is tried again, while it is gone.
    pub(crate) reopen_at: Option<Instant>,
    /// Until when it must have authenticated.
    pub(crate) handshake_by: Instant,
    /// The time for which a timer is set.
    pub(crate) timer: Option<Instant>,
    pub(crate) pending_calls: usize,
    pub(crate) next_subscription: u32,
    pub(crate) counters: Counters,
}

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) output: bool,
}

/// What a peer's table offers, as far as it has told.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// What is told already, in the order of the table.
    pub(crate) known: Vec<Row>,
    /// What is being asked for.
    pub(crate) asking: Option<Asking>,
    /// Every row is known; its schemas may still be on their way.
    pub(crate) complete: bool,
}

/// One row of a peer's table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: RowKind,
    pub(crate) address: String,
    pub(crate) access: OwnedAccess,
    pub(crate) request_hash: u64,
    pub(crate) response_hash: u64,
    pub(crate) request_schema: Vec<u8>,
    pub(crate) response_schema: Vec<u8>,
}

/// An [`Access`] that owns its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnedAccess {
    Permission,
    Scope(String),
    Open,
}

impl OwnedAccess {
    pub(crate) fn borrow(&self) -> Access<'_> {
        match self {
            Self::Permission => Access::Permission,
            Self::Scope(scope) => Access::Scope(scope),
            Self::Open => Access::Open,
        }
    }
}

impl From<Access<'_>> for OwnedAccess {
    fn from(access: Access<'_>) -> Self {
        match access {
            Access::Permission => Self::Permission,
            Access::Scope(scope) => Self::Scope(scope.to_owned()),
            Access::Open => Self::Open,
        }
    }
}

/// The question about its table that a peer has to answer next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asking {
    pub(crate) id: u64,
    pub(crate) row: u16,
    pub(crate) part: visorbus_core::bus::RowPart,
}

/// One subscription of a peer.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) number: u32,
    pub(crate) pattern: String,
    pub(crate) policy: SlowConsumer,
    /// Notifications dropped since the subscriber was told last.
    pub(crate) missed: u32,
}

impl Subscription {
    pub(crate) fn matches(&self, topic: visorbus_core::message::Address<'_>) -> bool {
        Pattern::new(&self.pattern).is_ok_and(|pattern| pattern.matches(topic))
    }
}

/// What a peer has cost and what it was refused.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counters {
    pub(crate) frames_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Frames that are no message.
    pub(crate) undecodable: u64,
    /// Messages refused or dropped for what they were.
    pub(crate) refused: u64,
    /// Notifications that it did not get because it did not read.
    pub(crate) missed: u64,
    /// Answers that came too late or to nothing.
    pub(crate) late: u64,
    /// Times its session began.
    pub(crate) sessions: u64,
}

impl Peer {
    /// Whether the session has proven that it is `component`.
    pub(crate) fn owns(&self, component: &str) -> bool {
        !self.name.is_empty()
            && (self.name == component || self.components.iter().any(|own| own == component))
    }

    /// The longest frame that may go to it: its own limit, its link's, the hub's.
    pub(crate) fn max_frame(&self, hub: u32) -> usize {
        let own = self.session.remote().map_or(hub, |remote| remote.max_frame);
        let link = if self.options.max_frame == 0 { hub } else { self.options.max_frame };
        own.min(link).min(hub) as usize
    }

    /// Moves what waits into the link and onwards; says whether anything is left.
    pub(crate) fn flush(&mut self) -> std::io::Result<bool> {
        loop {
            while let Some(frame) = self.queue.front() {
                if !self.link.has_room(frame.len()) {
                    break;
                }
                self.counters.frames_out += 1;
                self.counters.bytes_out += frame.len() as u64;
                self.link.send(frame, &[], false)?;
                self.queue.pop();
            }
            let flushed = self.link.flush()?;
            let more = self.queue.front().map(<[u8]>::len);
            match more {
                Some(len) if flushed && self.link.has_room(len) => {}
                _ => return Ok(!flushed || more.is_some()),
            }
        }
    }

    /// The grant, while it has not expired.
    pub(crate) fn live_grant(&self, unix_s: u64) -> Option<&Grant> {
        self.session.grant().filter(|grant| !grant.is_expired(unix_s))
    }

    /// For texts: the proven name, else the claimed one with a question mark, else where it is.
    pub(crate) fn label(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        match self.session.remote() {
            Some(remote) => format!("{}?", remote.name),
            None => self.origin.to_string(),
        }
    }
}
