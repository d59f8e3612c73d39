//! The peers of a hub: one slot for each connection, with its session, its queue, its subscriptions and its counters.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use slotmap::SlotMap;
use visorbus_auth::Channel;
use visorbus_core::auth::{Access, Grant};
use visorbus_core::bus::{RowKind, SlowConsumer};
use visorbus_core::clock::ClockSync;
use visorbus_core::message::{Address, AddressBuf, Pattern};
use visorbus_core::time::earlier;
use visorbus_core::{ErrorKind, Instant, MessagePriority, Session};

use crate::HashMap;
use crate::admission::suffixed;
use crate::budget::Budget;
use crate::config::Limits;
use crate::expect::Uses;
use crate::link::{Goodbye, HubLink, LinkOptions, Origin, Proven};
use crate::listeners::Via;
use crate::queue::{Queue, Queued, Timed};
use crate::schema::Described;
use crate::tally::{Failed, Flow, Times};

slotmap::new_key_type! {
    /// Names a peer's slot; never names another peer later.
    pub(crate) struct PeerKey;
}

/// All peers, and what is to be done for some of them at the end of a turn.
#[derive(Default)]
pub(crate) struct Peers {
    slots: SlotMap<PeerKey, Peer>,
    /// How many are of each user of this machine.
    of_user: HashMap<u32, usize>,
    /// Peers to which something was sent that is not written yet.
    dirty: Vec<PeerKey>,
    /// Peers that are to be parted from at the end of this turn.
    ending: Vec<(PeerKey, End)>,
    /// What those who left had counted.
    gone: Counters,
    /// What was refused, by the code of its error's kind.
    pub(crate) refusals: Failed,
    /// Notifications that were given to subscribers, or wait for them, and that subscribers missed.
    pub(crate) given: Given,
    queue_bytes: usize,
    hub_max_frame: u32,
    /// When this turn of the loop began.
    pub(crate) now: Instant,
}

/// How a peer is parted from, and why.
#[derive(Debug)]
pub(crate) enum End {
    /// Its link is over: nothing reaches it any more.
    LinkOver(String),
    /// The hub does not go on with it: it is told why.
    Dismissed(Goodbye, String),
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
        if let Some(uid) = peer.origin.counted_as() {
            *self.of_user.entry(uid).or_default() += 1;
        }
        self.slots.insert(peer)
    }

    pub(crate) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.slots.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.slots.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        let peer = self.slots.remove(key)?;
        self.gone.add(&peer.counters);
        let uid = peer.origin.counted_as();
        if let Some(Entry::Occupied(mut count)) = uid.map(|uid| self.of_user.entry(uid)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(peer)
    }

    /// What all have counted, those who left among them.
    pub(crate) fn counted(&self) -> Counters {
        let mut all = self.gone.clone();
        self.slots.values().for_each(|peer| all.add(&peer.counters));
        all
    }

    /// Counts a message of a peer's that was refused.
    pub(crate) fn refuse(&mut self, key: PeerKey, kind: ErrorKind) {
        self.refusals[usize::from(kind.code())] += 1;
        if let Some(peer) = self.slots.get_mut(key) {
            peer.counters.refused += 1;
        }
    }

    /// Counts what was refused to somebody who is no peer.
    pub(crate) fn refuse_nobody(&mut self, kind: ErrorKind) {
        self.refusals[usize::from(kind.code())] += 1;
    }

    /// How many connections a user of this machine has.
    pub(crate) fn of_user(&self, uid: u32) -> usize {
        self.of_user.get(&uid).copied().unwrap_or_default()
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

    /// Parts from a peer at the end of this turn; until then nothing more is taken from it or sent to it.
    pub(crate) fn dismiss(&mut self, key: PeerKey, why: impl Into<String>) {
        self.dismiss_as(key, Goodbye::Refused, why);
    }

    /// As [`Peers::dismiss`], where the transport is told of another reason than that the peer may not stay.
    pub(crate) fn dismiss_as(&mut self, key: PeerKey, kind: Goodbye, why: impl Into<String>) {
        if self.leave(key) {
            self.ending.push((key, End::Dismissed(kind, why.into())));
        }
    }

    /// As [`Peers::dismiss`], of a peer whose link is over.
    pub(crate) fn lose(&mut self, key: PeerKey, error: &std::io::Error) {
        if self.leave(key) {
            self.ending.push((key, End::LinkOver(closed_text(error))));
        }
    }

    pub(crate) fn take_ending(&mut self) -> Option<(PeerKey, End)> {
        self.ending.pop()
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
        self.send_frame(key, &Frame { head, payload, priority, at_once, call: None })
    }

    /// As [`Peers::send`], of a frame that may be a request with its deadline.
    pub(crate) fn send_frame(&mut self, key: PeerKey, frame: &Frame<'_>) -> Result<(), Unsent> {
        let Frame { head, payload, priority, at_once, call } = *frame;
        let limit = self.queue_bytes;
        if self.try_send(key, head, payload, at_once)? {
            return Ok(());
        }
        let fits = |peer: &Peer| peer.queue.fits(head.len() + payload.len(), limit);
        if !self.slots.get(key).is_some_and(fits) {
            // It counts as not reading only when its link has just said so.
            self.flush(key);
            if self.try_send(key, head, payload, at_once)? {
                return Ok(());
            }
        }
        let Some(peer) = self.slots.get_mut(key) else { return Err(Unsent::Gone) };
        match peer.queue.push(join(head, payload), priority, call, limit, self.now) {
            Queued::Waits { .. } => Ok(()),
            Queued::Full { .. } => Err(Unsent::Full { waiting: peer.queue.bytes() }),
        }
    }

    /// Sends a notification under the policy of the peer's subscription `number`, while that is still allowed.
    pub(crate) fn publish(&mut self, key: PeerKey, number: u32, notice: &Notice<'_>) {
        let limit = self.queue_bytes;
        let own = |subscription: &&mut Subscription| subscription.number == number;
        let subscriptions = self.slots.get_mut(key).map(|peer| &mut peer.subscriptions);
        let subscription = subscriptions.and_then(|all| all.iter_mut().find(own));
        if subscription.is_none_or(|subscription| subscription.until <= notice.unix_s) {
            return;
        }
        let sent = self.try_send(key, notice.head, notice.payload, notice.at_once);
        let Some(peer) = self.slots.get_mut(key) else { return };
        let Some(subscription) = peer.subscriptions.iter_mut().find(own) else { return };
        let dropped = match sent {
            Ok(true) => {
                self.given.deliveries += 1;
                return;
            }
            Err(Unsent::Gone) => return,
            Err(_) => 1,
            Ok(false) => {
                let frame = join(notice.head, notice.payload);
                let topic = (number, notice.topic);
                match peer.queue.push_topic(
                    frame,
                    notice.priority,
                    limit,
                    topic,
                    subscription.policy,
                    self.now,
                ) {
                    Queued::Waits { dropped } => {
                        self.given.deliveries += 1;
                        dropped
                    }
                    Queued::Full { .. } if subscription.policy == SlowConsumer::Disconnect => {
                        let why = format!(
                            "it does not read: {} bytes wait and its subscription '{}' asks to be disconnected then",
                            peer.queue.bytes(),
                            subscription.pattern
                        );
                        return self.dismiss(key, why);
                    }
                    Queued::Full { dropped } => dropped + 1,
                }
            }
        };
        subscription.missed = subscription.missed.saturating_add(dropped);
        peer.counters.missed += u64::from(dropped);
        self.given.missed += u64::from(dropped);
    }

    /// Counts a notification that a peer's subscription `number` cannot have, to tell it of.
    pub(crate) fn miss(&mut self, key: PeerKey, number: u32) {
        let Some(peer) = self.slots.get_mut(key) else { return };
        let Some(subscription) = peer.subscription_mut(number) else { return };
        subscription.missed = subscription.missed.saturating_add(1);
        peer.counters.missed += 1;
        self.given.missed += 1;
        self.touch(key);
    }

    /// Whether a notification of at least `len` bytes could still reach a peer through its subscription `number`, or has to
    /// end it: not where the peer does not read, as much waits for it as may, and nothing of that can go for it.
    pub(crate) fn could_take(&self, key: PeerKey, number: u32, len: usize) -> bool {
        let Some(peer) = self.slots.get(key) else { return false };
        let Some(subscription) = peer.subscriptions.iter().find(|one| one.number == number) else {
            return false;
        };
        let is_full = peer.stuck && !peer.queue.fits(len, self.queue_bytes);
        !is_full || subscription.policy == SlowConsumer::Disconnect || peer.queue.waiting_of(number) > 0
    }

    /// The longest frame that may go to a peer.
    pub(crate) fn max_frame(&self, key: PeerKey) -> usize {
        self.slots.get(key).map_or(0, |peer| peer.max_frame(self.hub_max_frame))
    }

    /// Writes what waits for a peer as far as it goes.
    pub(crate) fn flush(&mut self, key: PeerKey) -> Flushed {
        let now = self.now;
        let Some(peer) = self.slots.get_mut(key) else { return Flushed::default() };
        peer.flush(now).unwrap_or_else(|error| {
            self.lose(key, &error);
            Flushed::default()
        })
    }

    /// Has a peer's link flushed at the end of this turn: it may have something of its own to say.
    pub(crate) fn touch(&mut self, key: PeerKey) {
        if let Some(peer) = self.slots.get_mut(key).filter(|peer| !peer.dirty) {
            peer.dirty = true;
            self.dirty.push(key);
        }
    }

    /// `false` when it has to wait.
    fn try_send(&mut self, key: PeerKey, head: &[u8], payload: &[u8], at_once: bool) -> Result<bool, Unsent> {
        let len = head.len() + payload.len();
        let Some(mut peer) = self.slots.get_mut(key) else { return Err(Unsent::Gone) };
        let max = peer.max_frame(self.hub_max_frame);
        if len > max {
            return Err(Unsent::TooLong { max });
        }
        if peer.watched.is_none() || peer.presence != Presence::Here {
            return Err(Unsent::Gone);
        }
        if !peer.has_room(head, len) {
            let is_stuck = peer.stuck;
            self.touch(key);
            // The link may only not have been asked to write since this turn began.
            if is_stuck {
                return Ok(false);
            }
            self.flush(key);
            peer = match self.slots.get_mut(key) {
                Some(peer) if peer.presence == Presence::Here => peer,
                _ => return Err(Unsent::Gone),
            };
            if !peer.has_room(head, len) {
                return Ok(false);
            }
        }
        peer.counters.gives(head, len);
        let sent = peer.link.send(head, payload, at_once);
        let is_done = peer.link.is_idle() && !peer.misses_any();
        if !is_done && !peer.dirty {
            peer.dirty = true;
            self.dirty.push(key);
        }
        sent.map(|()| true).map_err(|error| {
            self.lose(key, &error);
            Unsent::Gone
        })
    }

    /// `false` when it is leaving, or gone, already.
    pub(crate) fn leave(&mut self, key: PeerKey) -> bool {
        let here = self.slots.get_mut(key).filter(|peer| peer.presence == Presence::Here);
        here.map(|peer| peer.presence = Presence::Leaving).is_some()
    }
}

/// A frame that must not be lost.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'m> {
    pub(crate) head: &'m [u8],
    pub(crate) payload: &'m [u8],
    pub(crate) priority: MessagePriority,
    pub(crate) at_once: bool,
    /// Of a request that somebody waits for.
    pub(crate) call: Option<Timed>,
}

/// A notification on its way to its subscribers.
pub(crate) struct Notice<'m> {
    pub(crate) topic: &'m str,
    pub(crate) head: &'m [u8],
    pub(crate) payload: &'m [u8],
    pub(crate) priority: MessagePriority,
    pub(crate) at_once: bool,
    /// The time, for what is allowed until then.
    pub(crate) unix_s: u64,
}

/// Why a link ended, for people.
fn closed_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the other end closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

fn first(frame: &[u8]) -> u8 {
    frame.first().copied().unwrap_or(0)
}

fn join(head: &[u8], payload: &[u8]) -> Box<[u8]> {
    [head, payload].concat().into()
}

/// One connection.
pub(crate) struct Peer {
    pub(crate) link: Box<dyn HubLink>,
    pub(crate) options: LinkOptions,
    pub(crate) origin: Origin,
    /// By whom somebody is slowed down who guesses: the user, the line, or the network address.
    pub(crate) guesser: String,
    pub(crate) via: Via,
    pub(crate) connected_at: Instant,
    /// Whom the link's key had proven when the session began, on a link that has one.
    pub(crate) proven: Option<Proven>,
    pub(crate) session: Session,
    /// What is known of its clock, where it has its own.
    pub(crate) clock: Option<Box<ClockSync>>,
    /// When it was last asked what its clock shows.
    pub(crate) probed_at: Instant,
    /// How long the last exchange that counted took.
    pub(crate) round_trip_us: Option<u32>,
    /// The name that the session has proven; empty before that.
    pub(crate) name: String,
    /// The same as an address, once there is one.
    pub(crate) address: Option<AddressBuf>,
    /// Components that it serves beside its name.
    pub(crate) components: Vec<Component>,
    pub(crate) rows: Rows,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) queue: Queue,
    pub(crate) presence: Presence,
    /// What the transport is to say behind all that waits.
    pub(crate) goodbye: Option<Box<(Goodbye, String)>>,
    /// What epoll watches its descriptor for; `None` while there is none.
    pub(crate) watched: Option<Watched>,
    /// The link has taken all that it takes for now.
    pub(crate) stuck: bool,
    /// Something was sent without `at_once` and waits for the end of the turn.
    pub(crate) dirty: bool,
    /// Not before this is it told again of what it misses, unless it has caught up.
    pub(crate) tell_missed_at: Instant,
    /// When the link is tried again, while it is gone.
    pub(crate) reopen_at: Option<Instant>,
    /// Until when it must have authenticated.
    pub(crate) handshake_by: Instant,
    /// The time for which a timer is set.
    pub(crate) timer: Option<Instant>,
    pub(crate) pending_calls: usize,
    pub(crate) next_subscription: u32,
    /// What is done for it on another thread, by its number: it may have one such thing done at a time.
    pub(crate) errand: Option<u64>,
    /// Notifications that it left to the hub to number, so far.
    pub(crate) numbered: u64,
    /// What may be turned into its other form for it.
    pub(crate) translating: Budget,
    pub(crate) counters: Counters,
}

/// Whether a peer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It does.
    Here,
    /// It goes at the end of this turn.
    Leaving,
    /// It has gone for everybody else; only what tells it why is still on its way, and no longer than this.
    Lingering { until: Instant },
}

/// What came of writing what waits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flushed {
    /// Something went from the queue into the link.
    pub(crate) moved: bool,
    /// Something still waits, in the queue or in the link.
    pub(crate) left: bool,
    /// The link would write more if its descriptor took it.
    pub(crate) blocked: bool,
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
    /// The addresses of the rows that it described, by their numbers: what aliases stand for until the session ends,
    /// whatever else becomes known or is taken back. Shared with the frame that is being handled.
    pub(crate) aliases: Arc<Vec<AddressBuf>>,
    /// What is being asked for.
    pub(crate) asking: Option<Asking>,
    /// Every row is known; its schemas may still be on their way.
    pub(crate) complete: bool,
    /// Bytes that it has told so far.
    pub(crate) bytes: usize,
    /// What it was built with for addresses that it uses.
    pub(crate) uses: Uses,
}

impl Rows {
    /// Charges `bytes` more of a description; `false` when that is more than is kept of one peer's.
    pub(crate) fn make_room(&mut self, bytes: usize) -> bool {
        let cost = bytes + size_of::<Row>();
        let fits = self.bytes + cost <= MAX_TABLE_BYTES;
        self.bytes += if fits { cost } else { 0 };
        fits
    }

    /// Keeps a row that the peer told of by itself, in the place of one of the same kind and address; `false` when that
    /// is more than is kept.
    pub(crate) fn keep(&mut self, row: Row) -> bool {
        if !row.kind.is_offered() {
            let fits = self.uses.contains(&row.address) || self.make_room(row.address.len());
            if fits {
                self.uses.insert(row.kind, &row.address, row.types());
            }
            return fits;
        }
        let before =
            self.known.iter().position(|known| known.kind == row.kind && known.address == row.address);
        self.bytes = self.bytes.saturating_sub(before.map_or(0, |at| self.known[at].cost()));
        if !self.make_room(row.cost() - size_of::<Row>()) {
            self.bytes += before.map_or(0, |at| self.known[at].cost());
            return false;
        }
        match before {
            Some(at) => self.known[at] = row,
            None => self.known.push(row),
        }
        true
    }

    /// Forgets what was told of a component's addresses.
    pub(crate) fn forget_component(&mut self, component: &str) {
        let bytes = &mut self.bytes;
        self.known.retain(|row| {
            let stays = row.component() != component;
            *bytes = bytes.saturating_sub(if stays { 0 } else { row.cost() });
            stays
        });
    }

    pub(crate) fn find(&self, kind: RowKind, address: &str) -> Option<&Row> {
        self.known.iter().find(|row| row.kind == kind && row.address == address)
    }
}

/// The hub numbers from here on, where no peer that counts from 1 gets; a number in JavaScript holds it.
const FIRST_NUMBER: u64 = 1 << 52;

/// What is kept of one peer's table, in bytes: a thousand rows with short schemas.
const MAX_TABLE_BYTES: usize = 512 << 10;

/// One row of a peer's table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) kind: RowKind,
    pub(crate) address: String,
    pub(crate) access: OwnedAccess,
    pub(crate) request_hash: u64,
    pub(crate) response_hash: u64,
    pub(crate) request_schema: Described,
    pub(crate) response_schema: Described,
}

impl Row {
    /// The component that it belongs to.
    pub(crate) fn component(&self) -> &str {
        self.address.split('/').next().unwrap_or_default()
    }

    /// Whether it tells the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let key = |row: &Self| (row.kind, row.request_hash, row.response_hash);
        let schemas = |row: &Self| [row.request_schema.bytes(), row.response_schema.bytes()].concat();
        key(self) == key(other)
            && self.address == other.address
            && self.access == other.access
            && self.request_schema.len() == other.request_schema.len()
            && schemas(self) == schemas(other)
    }

    /// Bytes that it costs to keep it, where its owner told of it by itself.
    const fn cost(&self) -> usize {
        size_of::<Self>() + self.address.len() + self.request_schema.len() + self.response_schema.len()
    }
}

/// An [`Access`] that owns its scope.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, postcard_schema::Schema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OwnedAccess {
    #[default]
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

/// A component that a peer serves beside its name.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: String,
    /// By which it was registered.
    pub(crate) grant: Box<Grant>,
}

/// One subscription of a peer.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) number: u32,
    pub(crate) pattern: String,
    pub(crate) policy: SlowConsumer,
    /// By which it was made, or renewed.
    pub(crate) grant: Box<Grant>,
    /// Until when it is allowed, in Unix seconds: as long as that grant.
    pub(crate) until: u64,
    /// Notifications dropped since the subscriber was told last.
    pub(crate) missed: u32,
    /// Hash of the type of what was published last, where that is not what the subscriber expects; else 0.
    pub(crate) refused_type: u64,
}

impl Subscription {
    pub(crate) fn matches(&self, topic: visorbus_core::message::Address<'_>) -> bool {
        Pattern::new(&self.pattern).is_ok_and(|pattern| pattern.matches(topic))
    }
}

const OVERHEARD_LINE: &str = "this line has no key, so that whoever is at the wire reads along: no password and no API key is \
                              taken over it; give the line a key (`visorbus key provision NAME`), or show a token";
const OVERHEARD_NETWORK: &str = "this connection has no TLS, so that whoever is on the network reads along: no password and no \
                                 API key is taken over it; connect by wss, or show a token";

/// What a peer has cost and what it was refused.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counters {
    pub(crate) taken: Flow,
    pub(crate) given: Flow,
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
    /// How long frames have waited for it, where any had to.
    pub(crate) waited: Option<Box<Times>>,
}

impl Counters {
    /// Counts a frame of `len` bytes, which begins with `head`, that is given to the link.
    fn gives(&mut self, head: &[u8], len: usize) {
        self.given.count(first(head) & 7);
        self.given.bytes += len as u64;
    }

    fn add(&mut self, more: &Self) {
        self.taken.add(&more.taken);
        self.given.add(&more.given);
        self.undecodable += more.undecodable;
        self.refused += more.refused;
        self.missed += more.missed;
        self.late += more.late;
        self.sessions += more.sessions;
        if let Some(waited) = &more.waited {
            self.waited.get_or_insert_default().add(waited);
        }
    }
}

/// What came of notifications, by subscribers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) deliveries: u64,
    pub(crate) missed: u64,
}

impl Peer {
    pub(crate) fn subscription_mut(&mut self, number: u32) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.number == number)
    }

    /// Whether it is to be told that notifications were dropped.
    fn misses_any(&self) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.missed > 0)
    }

    /// Whether the session has proven that it is `component`.
    pub(crate) fn owns(&self, component: &str) -> bool {
        !self.name.is_empty()
            && (self.name == component || self.components.iter().any(|own| own.name == component))
    }

    /// Whether it speaks over a wire that nothing protects, and what is to be done about that.
    pub(crate) fn overheard(&self) -> Option<&'static str> {
        match self.origin {
            Origin::WebSocket { tls: false, address } if !address.ip().to_canonical().is_loopback() => {
                Some(OVERHEARD_NETWORK)
            }
            Origin::Serial { .. } | Origin::Spi { .. } if !self.options.keyed => Some(OVERHEARD_LINE),
            _ if self.options.lossy && !self.options.keyed => Some(OVERHEARD_LINE),
            _ => None,
        }
    }

    /// What its transport tells of it, and what the hub has told it.
    pub(crate) fn channel(&self) -> Channel<'_> {
        Channel {
            transport: self.origin.transport(),
            uid: self.origin.uid(),
            gid: self.origin.gid(),
            certificate: self.link.certificate(),
            certificate_verified: self.link.certificate_verified(),
            address: &self.guesser,
            boot_id: Some(self.session.boot_id()),
        }
    }

    /// What it has said that it can, and what its link is, as [`PeerInfo`](crate::info::PeerInfo) names it.
    pub(crate) fn capabilities(&self) -> Vec<&'static str> {
        let remote = self.session.remote();
        let words = [
            (remote.is_some_and(|remote| remote.requires_authentication), "requires-authentication"),
            (remote.is_some_and(|remote| remote.has_lane), "lane"),
            (self.session.compresses(), "compression"),
            (self.options.keyed, "keyed"),
            (self.options.json, "json"),
        ];
        words.into_iter().filter_map(|(is_so, word)| is_so.then_some(word)).collect()
    }

    /// The longest frame that may go to it: its own limit, its link's, the hub's.
    pub(crate) fn max_frame(&self, hub: u32) -> usize {
        let own = self.session.remote().map_or(hub, |remote| remote.max_frame);
        let link = if self.options.max_frame == 0 { hub } else { self.options.max_frame };
        own.min(link).min(hub) as usize
    }

    /// When it next needs the time.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.presence {
            Presence::Leaving => None,
            Presence::Lingering { until } => Some(until),
            Presence::Here => {
                let unproven = self.name.is_empty() && !self.options.lossy;
                let handshake = unproven.then_some(self.handshake_by);
                let session = if self.watched.is_some() { self.session.poll_timeout() } else { None };
                let due =
                    earlier(earlier(session, handshake), earlier(self.link.poll_timeout(), self.reopen_at));
                match &self.clock {
                    Some(clock) if self.is_probed() => earlier(due, Some(clock.poll_timeout())),
                    _ => due,
                }
            }
        }
    }

    /// Lets a frame wait behind all others, whatever the limits say: nothing comes after it.
    pub(crate) fn say_last(&mut self, frame: &[u8], now: Instant) {
        if !frame.is_empty() {
            self.queue.push(frame.into(), MessagePriority::Low, None, usize::MAX, now);
        }
    }

    /// Whether a frame of `len` bytes can go into the link right now, nothing waiting before it.
    fn has_room(&mut self, head: &[u8], len: usize) -> bool {
        self.queue.is_empty() && self.link.has_room(first(head), len)
    }

    /// Moves what waits into the link and onwards.
    pub(crate) fn flush(&mut self, now: Instant) -> std::io::Result<Flushed> {
        let mut moved = false;
        loop {
            while let Some(frame) = self.queue.front(now) {
                if !self.link.has_room(first(frame), frame.len()) {
                    break;
                }
                self.counters.gives(frame, frame.len());
                self.link.send(frame, &[], false)?;
                if let Some(since) = self.queue.pop() {
                    self.counters.waited.get_or_insert_default().note(since, now);
                }
                moved = true;
            }
            let flushed = self.link.flush(now)?;
            match self.queue.front(now) {
                Some(next) if flushed && self.link.has_room(first(next), next.len()) => {}
                None if self.goodbye.is_some() => {
                    let goodbye = self.goodbye.take();
                    goodbye.inspect(|goodbye| self.link.close(goodbye.0, &goodbye.1));
                }
                next => {
                    self.stuck = !flushed || next.is_some();
                    return Ok(Flushed { moved, left: self.stuck, blocked: !flushed });
                }
            }
        }
    }

    /// The alias by which it knows `address`: only on a line, where bytes count.
    pub(crate) fn alias_of(&self, address: Option<Address<'_>>) -> Option<u16> {
        let address = address.filter(|_| self.options.lossy)?;
        let row = self.rows.aliases.iter().position(|told| told.as_address() == address)?;
        u16::try_from(row).ok()
    }

    /// The id of a notification that came without.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbered += 1;
        FIRST_NUMBER + self.numbered
    }

    /// The name in its hello.
    pub(crate) fn said_name(&self) -> Option<String> {
        self.session.remote().map(|remote| remote.name.to_string())
    }

    /// The name that its session goes by now that it has a grant: the one in its hello, or that of the grant's subject
    /// where the hub gives the name.
    pub(crate) fn session_name(&self) -> Option<String> {
        match &self.options.suffix {
            Some(suffix) => self.session.grant().map(|grant| suffixed(grant.subject(), suffix)),
            None => self.said_name(),
        }
    }

    /// For texts: the proven name, else the claimed one with a question mark, else where it is.
    pub(crate) fn label(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        match self.session.remote() {
            Some(remote) if self.options.suffix.is_none() => format!("{}?", remote.name),
            _ => self.origin.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_peer_costs_less_than_two_kib() {
        let heap = 2 * size_of::<Row>() + size_of::<(Instant, PeerKey)>() + size_of::<(String, PeerKey)>();
        let cost = size_of::<Peer>() + heap;
        assert!(cost < 2048, "{cost} bytes");
    }
}
