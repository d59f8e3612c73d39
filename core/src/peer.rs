//! A leaf's end of its link: [`Session`] + [`Link`] + the node's table, turned by [`Peer::poll`].

use core::marker::PhantomData;

use serde::Serialize;

use crate::auth::{
    Access, Claims, Context, Grant, Key, Operation, OwnKey, Revocations, TokenError, authorize,
};
use crate::bus::{self, Describe, Revoke, RowPart};
use crate::codec;
use crate::dispatch::{Caller, Dispatched, NOBODY, Proven, Row, Table, dispatch};
use crate::error::IpcError;
use crate::link::Link;
use crate::message::typed::{Endpoint, Topic};
use crate::message::{Address, Message, MessagePayload, PayloadKind};
use crate::needs::Needs;
use crate::route::{Route, route};
use crate::seal::{Header, Sealer};
use crate::secure::LinkProof;
use crate::sentence;
use crate::session::{CloseReason, Expired, NO_KEYS, PROOF_LIFETIME_S, Session, SessionConfig, Verdict};
use crate::time::{Instant, earlier, whole_seconds};

/// One leaf on one link. `OUT` is the longest frame that it sends, in bytes.
#[derive(Debug)]
pub struct Peer<L, K, const OUT: usize> {
    session: Session,
    link: L,
    keys: K,
    out: [u8; OUT],
    /// When it was last polled.
    now: Instant,
    /// Rows of the node's table that the other end is known to know, from the first.
    told: u16,
    counters: PeerCounters,
}

impl<L: Link, K: Keys, const OUT: usize> Peer<L, K, OUT> {
    /// A peer that says hello at its first [`Peer::poll`].
    pub fn new(config: SessionConfig, link: L, keys: K) -> Self {
        let mut session = Session::new(config);
        if link.has_lane() {
            session.offer_lane();
        }
        Self {
            session,
            link,
            keys,
            out: [0; OUT],
            now: Instant::default(),
            told: 0,
            counters: PeerCounters::default(),
        }
    }

    /// One turn: takes what has arrived, answers it from `rows`, sends what the session has to say. Never waits. Call
    /// it again at once while it returns `Some`.
    ///
    /// # Errors
    /// The link is gone.
    pub fn poll<N: Node>(&mut self, node: &mut N, now: Instant) -> Result<Option<Event>, L::Error> {
        self.now = now;
        self.link.flush(now)?;
        // Room for the answer before the question: what cannot be answered now stays in the link.
        while self.has_room() {
            let longest = self.longest();
            let is_proven = K::TRUSTS_LINK && self.link.proof().is_some_and(LinkProof::is_hub);
            let Some(frame) = self.link.receive()? else { break };
            let turn = Turn {
                session: &mut self.session,
                keys: &mut self.keys,
                is_proven,
                out: self.out.get_mut(..longest).unwrap_or_default(),
                told: &mut self.told,
                counters: &mut self.counters,
            };
            let (answer, event) = turn.handle_frame(frame, node, now);
            self.reset_link(event);
            self.send(answer)?;
            if event.is_some() {
                return Ok(event);
            }
        }
        let event = self.poll_session(now)?;
        self.reset_link(event);
        // What was taken is acknowledged before the owner of the loop sleeps.
        self.link.flush(now)?;
        Ok(event)
    }

    /// When [`Peer::poll`] next has something to do by itself; `None`: not before something arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.session.poll_timeout(), self.link.poll_timeout())
    }

    /// Publishes a typed notification of the node `N`; `false` when the session is not ready or the link has no room for
    /// it, which is the moment to drop it or to try again later. Once the other end has asked for the row of the node's
    /// table that the topic stands in, the address goes as that row's number.
    ///
    /// # Errors
    /// The link is gone.
    pub fn publish<N: Node, T: Topic>(&mut self, message: &T::Message) -> Result<bool, L::Error> {
        self.publish_stamped::<N, T>(message, None)
    }

    /// As [`Peer::publish`], and says when what the message tells of was so: a moment that is past, on the clock that
    /// the peer is polled by. A hub that knows that clock hands it on as a moment of its own.
    ///
    /// # Errors
    /// The link is gone.
    pub fn publish_at<N: Node, T: Topic>(
        &mut self,
        message: &T::Message,
        made: Instant,
    ) -> Result<bool, L::Error> {
        self.publish_stamped::<N, T>(message, Some(made.as_micros()))
    }

    /// Sends a notification whose payload nobody but who shares the sealer's key can read, under an id of its own; `false`
    /// as for [`Peer::publish`], and when it does not fit a frame. The sealer is one from this end's name to the component
    /// in `destination`. Sealed requests a leaf does not take: it has no room to open them into.
    ///
    /// # Errors
    /// The link is gone.
    pub fn notify_sealed(
        &mut self,
        destination: Address<'_>,
        payload: MessagePayload<'_>,
        sealer: &mut Sealer,
    ) -> Result<bool, L::Error> {
        if !self.session.is_ready() || !(self.link.has_lane() || self.has_room()) {
            return Ok(false);
        }
        let mut notification = Message::notification(self.session.take_id(), destination);
        notification.flags.encrypted = true;
        let longest = self.longest();
        let out = self.out.get_mut(..longest).unwrap_or_default();
        // As the hub tells it: the name that this session has proven.
        let header = Address::new(self.session.name()).ok().and_then(|name| Header::of(&notification, name));
        let head = codec::begin(&notification, PayloadKind::Binary, out).finish().unwrap_or(out.len());
        let sealed = header
            .zip(out.get_mut(head..))
            .and_then(|(header, out)| sealer.seal(&header, payload.kind(), payload.as_bytes(), out).ok());
        self.send(sealed.map_or(0, |sealed| head + sealed))
    }

    /// Sends a typed request; its answer goes to [`Node::handle_reply`] under the id returned, or
    /// [`Event::RequestTimedOut`] comes; with [`Event::Closed`] all that wait are forgotten. `None` when the session is
    /// not ready, the link has no room, the request does not fit a frame or too many wait.
    ///
    /// # Errors
    /// The link is gone.
    pub fn request<E: Endpoint>(
        &mut self,
        request: &E::Request,
        timeout_ms: u32,
        now: Instant,
    ) -> Result<Option<u64>, L::Error> {
        if !self.session.is_ready() || !self.has_room() {
            return Ok(None);
        }
        let Ok(id) = self.session.begin_request(now.plus_millis(timeout_ms)) else { return Ok(None) };
        let mut message = Message::request(id, E::ADDRESS);
        message.flags.timeout_ms = Some(timeout_ms);
        let len = encode_typed(&message, request, self.out());
        let sent = self.send(len)?;
        if !sent {
            self.session.cancel_request(id);
        }
        Ok(sent.then_some(id))
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The link is gone.
    pub fn close(&mut self, reason: &str, now: Instant) -> Result<(), L::Error> {
        let len = self.session.close(reason, now, &mut self.out);
        let sent = self.send(len);
        self.link.reset(None);
        sent.map(|_| ())
    }

    /// The session, to look at.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The link, for its counters.
    pub const fn link(&self) -> &L {
        &self.link
    }

    /// The link, to replace or reopen it; call [`Peer::reset`] after that.
    pub const fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// Forgets the other end, as after a replug.
    pub fn reset(&mut self, now: Instant) {
        self.session.reset(now);
        self.link.reset(None);
    }

    /// What was refused and dropped.
    pub const fn counters(&self) -> &PeerCounters {
        &self.counters
    }

    fn publish_stamped<N: Node, T: Topic>(
        &mut self,
        message: &T::Message,
        timestamp: Option<u64>,
    ) -> Result<bool, L::Error> {
        if !self.session.is_ready() || !(self.link.has_lane() || self.has_room()) {
            return Ok(false);
        }
        let row = const { row_of::<N>(T::ADDRESS) }.filter(|row| *row < self.told);
        let mut notification = Message::notification(0, T::ADDRESS);
        notification.timestamp = timestamp;
        notification.flags.priority = T::PRIORITY;
        let mut writer = codec::begin_to(&notification, row, PayloadKind::Binary, self.out());
        writer.value(message);
        let len = writer.finish().unwrap_or(0);
        self.send(len)
    }

    fn poll_session(&mut self, now: Instant) -> Result<Option<Event>, L::Error> {
        match self.session.handle_timeout(now) {
            Some(Expired::Session) => return Ok(Some(Event::Closed)),
            Some(Expired::Request { id }) => return Ok(Some(Event::RequestTimedOut { id })),
            None => {}
        }
        if !self.has_room() {
            return Ok(None);
        }
        let longest = self.longest();
        let out = self.out.get_mut(..longest).unwrap_or_default();
        let mut len = self.session.poll_transmit(now, out);
        if K::PROVES && len == 0 && self.session.wants_token(now) {
            len = self.keys.prove(&mut self.session, now, out);
        }
        self.send(len)?;
        Ok(None)
    }

    /// Whether the link takes the longest frame that this end makes.
    fn has_room(&mut self) -> bool {
        self.link.room() >= OUT.min(self.link.max_frame())
    }

    /// Bytes of the longest frame that this end makes, its link carries and the other end takes.
    fn longest(&self) -> usize {
        let remote = self.session.remote().map_or(usize::MAX, |remote| remote.max_frame as usize);
        OUT.min(self.link.max_frame()).min(remote)
    }

    fn out(&mut self) -> &mut [u8] {
        let longest = self.longest();
        self.out.get_mut(..longest).unwrap_or_default()
    }

    /// Tells the link that a session has begun or ended.
    fn reset_link(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Opened) => {
                if self.link.proof().is_some_and(LinkProof::is_hub) {
                    self.session.trust_hello(self.now);
                }
                self.link.reset(self.session.epoch());
            }
            Some(Event::Closed) => self.link.reset(None),
            _ => {}
        }
    }

    fn send(&mut self, len: usize) -> Result<bool, L::Error> {
        let sent = match self.out.get(..len) {
            Some(frame) if len != 0 => self.link.send(frame)?,
            _ => false,
        };
        if sent {
            // Now: the owner of the loop may sleep before the next turn.
            self.link.flush(self.now)?;
        }
        Ok(sent)
    }
}

/// The application on a leaf: its table of handlers, and what it does with answers to its own requests.
pub trait Node: Sized + 'static {
    /// The addresses that the node serves and announces.
    const ROWS: &'static [Row<Self>];

    /// Whether the node answers `bus/describe`. `false` saves flash: such a node announces 0 rows in
    /// [`SessionConfig::rows`], needs no rows of what it publishes, its addresses go as text always, and the hub serves
    /// them by permission alone.
    /// What a row asks of its callers the node itself checks all the same.
    const DESCRIBES: bool = true;

    /// Whether the node looks at texts in answers to its own requests: payloads of a text kind, and what an Error says
    /// beside its kind. `false` saves flash (the node then knows no UTF-8), and such texts come to
    /// [`Node::handle_reply`] as empty ones.
    const READS_TEXT: bool = true;

    /// Takes the answer to a request that the node sent with [`Peer::request`].
    fn handle_reply(&mut self, id: u64, outcome: Result<MessagePayload<'_>, IpcError<&str>>) {
        let _ = (id, outcome);
    }
}

/// The keys of a leaf: how it checks who calls, and how it proves itself. [`DeviceKey`] does both;
/// [`NoKeys`] neither, and links no cryptography.
pub trait Keys {
    /// Whether [`Keys::check`] ever accepts a token. Where it never does, a leaf links no code for what a token allows.
    const BELIEVES: bool = true;

    /// Whether [`Keys::prove`] ever writes a request. Where it never does, a leaf links no code for the answer.
    const PROVES: bool = true;

    /// Whether the key of the link is enough: where it has proven the hub to be at its other end, everything that comes
    /// is the hub's, and is served, whatever a row asks for. The hub asks its own callers. Elsewhere nothing is served.
    const TRUSTS_LINK: bool = false;

    /// Checks a token that the other end sent, as [`KeyRing::check`](crate::auth::KeyRing::check) does.
    ///
    /// # Errors
    /// [`TokenError`] says why not; the other end is told less.
    fn check(&self, token: &[u8], context: &Context<'_>) -> Result<Grant, TokenError>;

    /// Takes no token that `revoke` means, from now on and until the node starts again. The hub has said so.
    fn revoke(&mut self, revoke: &Revoke<'_>);

    /// Writes the request that proves this end, by [`Session::authenticate`]; 0 when there is nothing to prove with.
    fn prove(&self, session: &mut Session, now: Instant, out: &mut [u8]) -> usize;
}

/// No keys: nobody is believed, nothing is proven. Only rows with [`Access::Open`] serve.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeys;

impl Keys for NoKeys {
    const BELIEVES: bool = false;
    const PROVES: bool = false;

    fn check(&self, _token: &[u8], _context: &Context<'_>) -> Result<Grant, TokenError> {
        Err(TokenError::UnknownKey)
    }

    fn revoke(&mut self, _revoke: &Revoke<'_>) {}

    fn prove(&self, _session: &mut Session, _now: Instant, _out: &mut [u8]) -> usize {
        0
    }
}

/// No keys but that of the link, a secure one: the hub may do everything, and nothing is proven beside that. Links no
/// code for tokens. Such a leaf needs no authentication of the hub ([`SessionConfig::requires_authentication`]).
#[derive(Debug, Clone, Copy, Default)]
pub struct HubByLink;

impl Keys for HubByLink {
    const BELIEVES: bool = false;
    const PROVES: bool = false;
    const TRUSTS_LINK: bool = true;

    fn check(&self, _token: &[u8], _context: &Context<'_>) -> Result<Grant, TokenError> {
        Err(TokenError::UnknownKey)
    }

    fn revoke(&mut self, _revoke: &Revoke<'_>) {}

    fn prove(&self, _session: &mut Session, _now: Instant, _out: &mut [u8]) -> usize {
        0
    }
}

/// The key that a device shares with the hub: checks what the hub sends, mints what proves the device. It knows of
/// [`MAX_REVOKED`](crate::limits::MAX_REVOKED) subjects whose tokens were taken back; told of more, it takes back
/// everybody's up to the newest of those moments.
#[derive(Debug)]
pub struct DeviceKey {
    key: OwnKey,
    revoked: Revocations,
}

impl DeviceKey {
    /// The device's own key, derived by the hub's owner from the root key `id` and the device's name.
    pub fn new(id: u8, key: Key) -> Self {
        Self { key: OwnKey::new(id, key), revoked: Revocations::new() }
    }
}

impl Keys for DeviceKey {
    fn check(&self, token: &[u8], context: &Context<'_>) -> Result<Grant, TokenError> {
        self.key.check(token, context, |claims| self.revoked.cover(claims))
    }

    fn revoke(&mut self, revoke: &Revoke<'_>) {
        self.revoked.add(revoke);
    }

    fn prove(&self, session: &mut Session, now: Instant, out: &mut [u8]) -> usize {
        let Some(issued_at) = session.unix_micros(now).map(whole_seconds) else { return 0 };
        let mut token = [0; MAX_PROOF];
        // For the hub that has said this boot id, and as long as that one runs.
        let Some(remote) = session.remote() else { return 0 };
        let (name, serial) = (session.name(), remote.boot_id);
        let expiry = issued_at + PROOF_LIFETIME_S;
        let Some(len) = self.key.mint(name, serial, issued_at, expiry, &mut token) else { return 0 };
        session.authenticate(token.get(..len).unwrap_or_default(), now, out)
    }
}

/// A device's key for a leaf with little flash: it checks the tokens that the hub makes, and does nothing else. It
/// proves nothing, so its link must be trusted by name; a token that its holder has narrowed is refused; and when
/// somebody's tokens are taken back, everybody's earlier ones are void.
#[derive(Debug)]
pub struct CheckKey {
    key: OwnKey,
    /// Tokens that were issued before this are void.
    issued_before: u64,
}

impl CheckKey {
    /// The device's own key, as for [`DeviceKey::new`].
    pub fn new(id: u8, key: Key) -> Self {
        Self { key: OwnKey::new(id, key), issued_before: 0 }
    }
}

impl Keys for CheckKey {
    const PROVES: bool = false;

    fn check(&self, token: &[u8], context: &Context<'_>) -> Result<Grant, TokenError> {
        let is_revoked =
            |claims: &Claims<'_>| claims.issued_at < self.issued_before && claims.subject != bus::NAME;
        self.key.check_whole(token, context, is_revoked)
    }

    fn revoke(&mut self, revoke: &Revoke<'_>) {
        self.issued_before = self.issued_before.max(revoke.issued_before);
    }

    fn prove(&self, _session: &mut Session, _now: Instant, _out: &mut [u8]) -> usize {
        0
    }
}

/// What a turn of [`Peer::poll`] brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// Both ends have said hello.
    Opened,
    /// The other end serves this one now.
    Ready,
    /// The other end does not take this one's token; it is tried again later.
    Refused,
    /// The session is over: silence, goodbye, a restart of the other end. Hello is said again by itself.
    Closed,
    /// A request of the node was not answered in time.
    RequestTimedOut {
        /// Its id.
        id: u64,
    },
}

/// What a leaf refused and dropped. Counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PeerCounters {
    /// Frames that are no message.
    pub undecodable: u32,
    /// Messages that were refused or dropped.
    pub refused: u32,
}

impl PeerCounters {
    const fn count_refused(&mut self) {
        self.refused = self.refused.wrapping_add(1);
    }
}

/// What the parts of a leaf say of their needs.
struct LeafNeeds<N, K>(PhantomData<(N, K)>);

impl<N: Node, K: Keys> Needs for LeafNeeds<N, K> {
    const TEXT: bool = N::READS_TEXT;
    const CHECK: bool = K::BELIEVES;
    const PROOF: bool = K::PROVES;

    fn address_of(row: u16) -> Option<Address<'static>> {
        if !N::DESCRIBES {
            return None;
        }
        // A row that is not there is refused like any address that nobody serves, so that who asked is told.
        Some(N::ROWS.get(usize::from(row)).map_or(NO_SUCH_ROW, |row| row.info.address))
    }
}

/// The parts of a peer that are free while a frame is borrowed from its link.
struct Turn<'p, K> {
    session: &'p mut Session,
    keys: &'p mut K,
    /// What comes is the hub's, as the link's key says, and that is what counts here.
    is_proven: bool,
    out: &'p mut [u8],
    told: &'p mut u16,
    counters: &'p mut PeerCounters,
}

impl<K: Keys> Turn<'_, K> {
    /// The bytes of the answer in `out`, and what happened.
    fn handle_frame<N: Node>(self, frame: &[u8], node: &mut N, now: Instant) -> (usize, Option<Event>) {
        let message = match codec::decode_for::<LeafNeeds<N, K>>(frame) {
            Ok(message) => message,
            Err(error) => {
                self.counters.undecodable = self.counters.undecodable.wrapping_add(1);
                return (refuse_frame(frame, error, self.out), None);
            }
        };
        match self.session.handle_as_connecting::<LeafNeeds<N, K>>(&message, now, self.out) {
            Verdict::Deliver => (self.deliver(&message, node, now), None),
            Verdict::Answer(len) => (len, None),
            Verdict::Refused { answer } => {
                self.counters.count_refused();
                (answer, None)
            }
            Verdict::Opened { answer } => {
                *self.told = 0;
                (answer, Some(Event::Opened))
            }
            Verdict::Restarted { answer } => (answer, Some(Event::Closed)),
            Verdict::Closed(CloseReason::Goodbye | CloseReason::Refused(_)) => (0, Some(Event::Closed)),
            Verdict::Authenticated => (0, Some(Event::Ready)),
            Verdict::NotAuthenticated(_) => (0, Some(Event::Refused)),
            Verdict::Authenticate { token } => {
                let len = match check(self.keys, self.session, token, now) {
                    Ok(grant) => self.session.authenticated(&message, grant, now, self.out),
                    Err(error) => refuse(&message, refusal::<K>(error), self.out).answer,
                };
                (if message.wants_answer() { len } else { 0 }, None)
            }
            Verdict::Reply { id, outcome } => {
                node.handle_reply(id, outcome);
                (0, None)
            }
            // An end that says hello itself is never told of an echo, and nobody logs in there.
            Verdict::Drop(_) | Verdict::Echoed { .. } | Verdict::Credentials => {
                self.counters.count_refused();
                (0, None)
            }
        }
    }

    fn deliver<N: Node>(mut self, message: &Message<'_>, node: &mut N, now: Instant) -> usize {
        if message.is_reply() {
            self.counters.count_refused();
            return 0;
        }
        let own = self.session.name();
        // Where no grant is believed in, no time is asked for.
        let unix_now = if K::BELIEVES { trusted_seconds(self.session, now) } else { None };
        let dispatched = match route::<()>(message.destination, |component| component == own, |_| None) {
            Route::Bus if K::BELIEVES && message.destination == Some(REVOKE) => {
                self.revoke(message, unix_now)
            }
            Route::Bus if N::DESCRIBES => describe::<N>(message, self.told, self.out),
            // No token counts beside the link's key: a message that has one asks for something else.
            Route::Local if K::TRUSTS_LINK && (!self.is_proven || message.auth_token.is_some()) => {
                refuse(message, NO_KEYS, self.out)
            }
            Route::Local if K::TRUSTS_LINK => {
                let caller = Caller::new(None, None);
                dispatch(&mut Proven(Table { rows: N::ROWS, node }), caller, message, self.out)
            }
            Route::Local => {
                // A token of the message's own counts instead of the session's grant, never beside it.
                let checked = message.auth_token.map(|token| check(self.keys, self.session, token, now));
                let grant = match &checked {
                    None => Ok(self.session.grant().filter(|_| K::BELIEVES)),
                    Some(outcome) => outcome.as_ref().map(Some).map_err(|error| refusal::<K>(*error)),
                };
                match grant {
                    Ok(grant) => {
                        let caller = Caller::new(grant, unix_now);
                        dispatch(&mut Table { rows: N::ROWS, node }, caller, message, self.out)
                    }
                    Err(error) => refuse(message, error, self.out),
                }
            }
            Route::Bus | Route::Peer(()) | Route::Unroutable => refuse(message, NOBODY, self.out),
        };
        if dispatched.refused.is_some() {
            self.counters.count_refused();
        }
        if message.wants_answer() { dispatched.answer } else { 0 }
    }

    /// Takes tokens back when the hub says so, and nobody else: a grant of the hub's own, by its proof.
    fn revoke(&mut self, message: &Message<'_>, unix_now: Option<u64>) -> Dispatched {
        let hub = self.session.grant().filter(|grant| grant.subject() == bus::NAME);
        if let Err(refusal) = authorize(hub, Operation::Administer, REVOKE, Access::Permission, unix_now) {
            return refuse(message, IpcError::new(refusal.kind(), refusal.reason()), self.out);
        }
        let Some(revoke) = Revoke::read(message.payload.as_bytes()) else {
            return refuse(message, IpcError::Serialization(sentence::WRONG_TYPE), self.out);
        };
        // The session's grant, the hub's own, is none that can be taken back.
        self.keys.revoke(&revoke);
        let answer = message.answer(crate::message::MessageType::Response);
        Dispatched { answer: codec::encode(&answer, self.out).unwrap_or(0), refused: None }
    }
}

/// Answers `bus/describe` from the node's table, and everything else on a leaf's own `bus` with a refusal. Who asks for
/// a row knows those before it, and who asks for its schema knows it too: `told` says how many.
fn describe<N: Node>(message: &Message<'_>, told: &mut u16, out: &mut [u8]) -> Dispatched {
    let head = message.answer(crate::message::MessageType::Response);
    let row = match Describe::read(message.payload.as_bytes()) {
        Some(ask) if message.destination.is_some_and(|to| to.as_str() == bus::DESCRIBE) => {
            let row = N::ROWS.get(usize::from(ask.row));
            if row.is_some() {
                *told = match ask.part {
                    RowPart::Info => ask.row,
                    _ => (*told).max(ask.row.saturating_add(1)),
                };
            }
            row.map(|row| (row, ask.part))
        }
        _ => None,
    };
    let len = match row {
        Some((row, RowPart::Info)) => {
            let mut writer = codec::begin(&head, PayloadKind::Binary, out);
            row.info.describe().write(&mut writer);
            writer.finish().unwrap_or(0)
        }
        Some((row, RowPart::Request)) => encode_bytes(&head, row.info.schema.request.bytes, out),
        Some((row, RowPart::Response)) => encode_bytes(&head, row.info.schema.response.bytes, out),
        None => 0,
    };
    if len == 0 { refuse(message, NOT_DESCRIBED, out) } else { Dispatched { answer: len, refused: None } }
}

/// The row of the node's table at `address`, found while compiling; `None` for a node that tells of none.
const fn row_of<N: Node>(address: Address<'static>) -> Option<u16> {
    let mut row = 0;
    while N::DESCRIBES && row < N::ROWS.len() {
        if N::ROWS[row].info.address.is(address) {
            return if row < codec::ALIASES as usize { Some(row as u16) } else { None };
        }
        row += 1;
    }
    None
}

fn refuse(message: &Message<'_>, error: IpcError, out: &mut [u8]) -> Dispatched {
    Dispatched { answer: codec::encode_error(message, &error, out).unwrap_or(0), refused: Some(error) }
}

/// The header of `head`, then `value` as postcard; 0 when it does not fit.
fn encode_typed<T: Serialize + ?Sized>(head: &Message<'_>, value: &T, out: &mut [u8]) -> usize {
    let mut writer = codec::begin(head, PayloadKind::Binary, out);
    writer.value(value);
    writer.finish().unwrap_or(0)
}

/// `bytes` as they are; 0 when they do not fit.
fn encode_bytes(head: &Message<'_>, bytes: &[u8], out: &mut [u8]) -> usize {
    let mut writer = codec::begin(head, PayloadKind::Binary, out);
    writer.bytes(bytes);
    writer.finish().unwrap_or(0)
}

/// The Error that answers a frame that is no message, to the other end of the link. An undecodable frame that is
/// itself a reply is not answered, so that two confused ends do not answer each other for ever.
pub fn refuse_frame(frame: &[u8], error: codec::DecodeError, out: &mut [u8]) -> usize {
    if !frame.first().is_some_and(|head| matches!(head & 7, 0 | 2)) {
        return 0;
    }
    let unreadable = Message::request(codec::peek_id(frame), const { Address::literal(bus::NAME) });
    codec::encode_error(&unreadable, &IpcError::Protocol(error.reason()), out).unwrap_or(0)
}

/// What the other end is told of a token that is not good.
const fn refusal<K: Keys>(error: TokenError) -> IpcError {
    if K::BELIEVES { IpcError::Authentication(error.for_peer()) } else { NO_KEYS }
}

/// Checks a token with all that this end knows.
#[inline]
fn check<K: Keys>(keys: &K, session: &Session, token: &[u8], now: Instant) -> Result<Grant, TokenError> {
    if !K::BELIEVES {
        return Err(TokenError::UnknownKey);
    }
    let context = Context::new(session.name(), trusted_seconds(session, now));
    keys.check(token, &context.with_boot_id(session.boot_id()))
}

fn trusted_seconds(session: &Session, now: Instant) -> Option<u64> {
    session.trusted_micros(now).map(whole_seconds)
}

/// Longest token that a device mints for itself: three names, four numbers, no scopes, and the tag.
const MAX_PROOF: usize = 2 + 3 * (1 + crate::limits::MAX_NAME) + 3 * 10 + 5 + 1 + 16;
/// What an alias of no row stands for: no component but `bus` has an address there, and `bus` has not.
const NO_SUCH_ROW: Address<'static> = Address::literal(bus::NO_SUCH_ROW);
const REVOKE: Address<'static> = Address::literal(bus::REVOKE);
const NOT_DESCRIBED: IpcError = IpcError::Message(sentence::NOT_DESCRIBED);

#[cfg(test)]
mod tests;
