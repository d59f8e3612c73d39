//! One end of a session: handshake, proof of who the ends are, heartbeat, own requests and their deadlines, the end.
//!
//! A state machine without I/O and without a clock: messages go into [`Session::handle`], time into
//! [`Session::handle_timeout`], frames to send come from [`Session::poll_transmit`]. It knows no link, no route and
//! no handler, and it verifies no token: whoever owns it does that and hands over the [`Grant`].
//!
//! ```text
//! connecting end                    accepting end
//! bus/hello        -- Identity -->
//!                  <-- Identity --  open
//! bus/authenticate --- token ---->  (when the accepting end requires it)
//!                  <--- (empty) --
//!                  <--- token ----  bus/authenticate (when the connecting end requires it)
//! heartbeat        -------------->
//!                  <--------------  heartbeat, or an Error when this end is not known or no longer proven
//! ```

use core::num::NonZeroU64;

use crate::auth::Grant;
use crate::bus::{self, Identity};
use crate::codec;
use crate::error::IpcError;
use crate::limits::{MAX_NAME, MAX_PENDING};
use crate::message::{Address, Message, MessagePayload, MessageType, PayloadKind};
use crate::needs::{Everything, Needs};
use crate::sentence;
use crate::time::Instant;
use crate::wire::Reader;

pub use remote::Remote;
pub use verdict::{CloseReason, DropReason, Expired, Verdict};

use remote::identity_in;
use verdict::{encode_or_nothing, refuse};

mod accepting;
mod remote;
mod verdict;

#[cfg(test)]
mod tests;

/// A component's name, owned.
pub type Name = heapless::String<MAX_NAME>;

/// What an end says of itself; validated by nobody but the other end.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Which end of the handshake this is.
    pub role: Role,
    /// This end's name.
    pub name: Name,
    /// Differs at each start of this end.
    pub boot_id: u64,
    /// Longest frame that this end takes, in bytes.
    pub max_frame: u32,
    /// Milliseconds between heartbeats; 0 for none. The longer of the two ends' wishes holds.
    pub heartbeat_ms: u32,
    /// Rows that this end's table has.
    pub rows: u16,
    /// Whether the other end must authenticate before it is served. An end that checks tokens and has no clock of its own
    /// says so in any case: the time comes with the proof of the hub, see [`Session::trusted_micros`].
    pub requires_authentication: bool,
    /// Whether the link can lose frames (serial, SPI). Then a hello in a live session is the other end's reset and
    /// hellos are resent; on a socket a second hello is refused.
    pub lossy: bool,
}

/// Which end of the handshake this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Says hello and sends heartbeats: a leaf, a client.
    Connecting,
    /// Answers them: a hub.
    Accepting,
}

/// One end of a session. See the module's text.
///
/// The same type serves a microcontroller's main loop, the hub and its clients; it has a fixed size and allocates
/// nothing.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    /// When this end next says hello or sends a heartbeat.
    due: Instant,
    /// While the session is open.
    remote: Option<Remote>,
    /// The id of the hello that opened the session.
    hello_id: u64,
    /// The other end has used the session: it will not say that hello again unless it has restarted.
    used: bool,
    /// This end's link can acknowledge and send again.
    has_lane: bool,
    /// This end expands compressed payloads, and so does the other. No leaf does, and none has room for this.
    #[cfg(feature = "std")]
    compresses: (bool, bool),
    grant: Option<Grant>,
    /// The request that proves this end, while it waits for its answer.
    proof: Option<NonZeroU64>,
    /// When this end next proves itself, if it must.
    proof_due: Instant,
    accepted: bool,
    pending: [Option<Pending>; MAX_PENDING],
    next_id: u64,
    heard: Instant,
    /// Milliseconds between heartbeats; 0 for none, and while the session is closed.
    beat_ms: u32,
    beat: Option<NonZeroU64>,
    /// The other end's heartbeat that this end's next one answers.
    probe: Option<NonZeroU64>,
    ask_identity: bool,
    /// Microseconds since 1970 at the zero of this end's clock, by whoever said it.
    epoch: Option<u64>,
    /// The same, by who is known to be the hub, or by the owner.
    trusted: Option<u64>,
    own_clock: bool,
}

impl Session {
    /// A session that has not said or heard anything yet.
    pub fn new(config: SessionConfig) -> Self {
        let ask_identity = config.lossy && config.role == Role::Accepting;
        let due = if config.role == Role::Connecting { Instant::default() } else { NEVER };
        Self {
            config,
            state: State::Closed,
            due,
            remote: None,
            hello_id: 0,
            used: false,
            has_lane: false,
            #[cfg(feature = "std")]
            compresses: (false, false),
            grant: None,
            proof: None,
            proof_due: Instant::default(),
            accepted: false,
            pending: [None; MAX_PENDING],
            next_id: 1,
            heard: Instant::default(),
            beat_ms: 0,
            beat: None,
            probe: None,
            ask_identity,
            epoch: None,
            trusted: None,
            own_clock: false,
        }
    }

    /// Says that `unix_us` microseconds had passed since 1970 at `at`, by a clock that can be relied on. Without it the
    /// other end says what time it is: its hello for stamps, its proof for [`Session::trusted_micros`].
    pub const fn set_clock(&mut self, at: Instant, unix_us: u64) {
        self.epoch = Some(unix_us.wrapping_sub(at.as_micros()));
        self.trusted = self.epoch;
        self.own_clock = true;
    }

    /// Relies on the time in the other end's hello as on that in a proof: for an owner whose link has proven who is at
    /// its other end, as [`Link::proof`](crate::Link::proof) tells, right after [`Verdict::Opened`].
    pub fn trust_hello(&mut self, now: Instant) {
        if let Some(unix_us) = self.unix_micros(now) {
            self.trust_time(unix_us, now);
        }
    }

    /// Says that this end's link can acknowledge and send again, as [`Link::has_lane`](crate::Link::has_lane) tells.
    pub const fn offer_lane(&mut self) {
        self.has_lane = true;
    }

    /// Says that this end expands compressed payloads.
    #[cfg(feature = "std")]
    pub const fn offer_compression(&mut self) {
        self.compresses.0 = true;
    }

    /// Whether both ends of the open session expand compressed payloads.
    #[cfg(feature = "std")]
    pub const fn compresses(&self) -> bool {
        self.remote.is_some() && self.compresses.0 && self.compresses.1
    }

    /// For [`Link::reset`](crate::Link::reset): what tells this session from others at both of its ends, while it is
    /// open and the links of both ends can acknowledge and send again.
    pub fn epoch(&self) -> Option<u16> {
        let remote = self.remote.as_ref().filter(|remote| self.has_lane && remote.has_lane)?;
        let (own, other) = (self.config.boot_id, remote.boot_id);
        let (connecting, accepting) = match self.config.role {
            Role::Connecting => (own, other),
            Role::Accepting => (other, own),
        };
        let mixed = connecting ^ accepting.rotate_left(5) ^ self.hello_id.rotate_left(3);
        let folded = mixed ^ mixed >> 32;
        Some((folded ^ folded >> 16 ^ folded >> 11) as u16)
    }

    /// Takes one message that came from the other end; what it means for the owner is in the [`Verdict`]. An answer,
    /// where there is one, is written to `out`.
    pub fn handle<'f>(&mut self, message: &Message<'f>, now: Instant, out: &mut [u8]) -> Verdict<'f> {
        if self.config.role == Role::Accepting {
            if accepting::is_hello(message) {
                self.heard = now;
                return self.handle_hello(message, now, out);
            }
            // Only who it is it may still have been asked before it knew of the session.
            self.used |= self.is_open() && !(message.is_reply() && message.id == ASK_IDENTITY);
            if self.is_open() && accepting::is_login(message) {
                self.heard = now;
                return Verdict::Credentials;
            }
            if message.message_type == MessageType::Heartbeat && self.is_open() {
                self.heard = now;
                return self.handle_beat(message, now, out);
            }
        }
        self.handle_as_connecting::<Everything>(message, now, out)
    }

    /// As [`Session::handle`] for an end that says hello itself: what a leaf needs, and no more flash.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn handle_as_connecting<'f, N: Needs>(
        &mut self,
        message: &Message<'f>,
        now: Instant,
        out: &mut [u8],
    ) -> Verdict<'f> {
        self.heard = now;
        if message.is_reply() {
            return self.handle_reply::<N>(message, now);
        }
        if message.message_type == MessageType::Heartbeat {
            return self.handle_probe(message, now, out);
        }
        match message.destination.map_or("", Address::as_str) {
            bus::HELLO => return refuse(message, IpcError::Protocol(sentence::SAYS_HELLO_ITSELF), out),
            bus::IDENTITY => return self.handle_identity(message, now, out),
            _ => {}
        }
        if !self.is_open() {
            return self.refuse_before_hello(message, out);
        }
        match message.destination.map_or("", Address::as_str) {
            bus::AUTHENTICATE if N::CHECK => self.handle_authenticate(message, out),
            bus::AUTHENTICATE => refuse(message, NO_KEYS, out),
            bus::GOODBYE => {
                self.reset(now.plus_millis(REFUSED_RETRY_MS));
                Verdict::Closed(CloseReason::Goodbye)
            }
            _ if self.lacks_grant() => refuse(message, UNPROVEN, out),
            _ => Verdict::Deliver,
        }
    }

    /// Ends an authentication that [`Verdict::Authenticate`] asked the owner to check; writes the answer to `out` and
    /// says how many bytes it has. The proof of the hub also says what time it is, see [`Session::trusted_micros`].
    pub fn finish_authentication(
        &mut self,
        request: &Message<'_>,
        outcome: Result<Grant, IpcError<&str>>,
        now: Instant,
        out: &mut [u8],
    ) -> usize {
        match outcome {
            Ok(grant) => {
                let len = self.authenticated(request, grant, now, out);
                if request.wants_answer() { len } else { 0 }
            }
            Err(_) if !request.wants_answer() => 0,
            Err(error) => codec::encode_error(request, &error, out).unwrap_or(0),
        }
    }

    /// Takes a grant that the other end's token is worth; writes the answer.
    #[inline]
    pub(crate) fn authenticated(
        &mut self,
        request: &Message<'_>,
        grant: Grant,
        now: Instant,
        out: &mut [u8],
    ) -> usize {
        let (is_hubs, issued_at) = (grant.subject() == bus::NAME, grant.issued_at());
        self.grant = Some(grant);
        if is_hubs {
            self.learn_time(issued_at.wrapping_mul(1_000_000), now);
            self.trust_hello(now);
        }
        encode_or_nothing(&request.answer(MessageType::Response), out)
    }

    /// Gives the other end a grant for something else than a token: because of other [`Verdict::Credentials`], because its
    /// link has proven it, or because its owner trusts the link by configuration.
    pub fn accept(&mut self, grant: Grant) {
        self.grant = Some(grant);
    }

    /// Takes the time; says the first thing that it brought to an end. Call it until it says nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Expired> {
        if self.silence_due() <= now {
            self.reset(now);
            return Some(Expired::Session);
        }
        loop {
            let id = self.pending.iter().flatten().find(|pending| pending.deadline <= now)?.id;
            self.end_request(id.get());
            if self.proof != Some(id) {
                return Some(Expired::Request { id: id.get() });
            }
            self.proof = None;
            self.proof_due = now;
            if self.epoch().is_some() {
                // Nothing gets lost there: that the answer does not come shows that the two lanes are out of step.
                self.reset(now);
                return Some(Expired::Session);
            }
        }
    }

    /// Writes the next frame that the session itself has to send, hello or heartbeat, and says how many bytes it has;
    /// 0 when there is none.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> usize {
        if core::mem::take(&mut self.ask_identity) {
            return self.encode_identity(const { Address::literal(bus::IDENTITY) }, ASK_IDENTITY, now, out);
        }
        if self.due > now {
            return 0;
        }
        let id = match self.state {
            State::Open => {
                self.due = self.beat_due(now);
                let mut beat = Message::heartbeat(0);
                beat.timestamp = Some(now.as_micros());
                if let Some(id) = self.probe.take() {
                    // Whoever asks is there and knows this end: nothing else is to be learnt from an answer.
                    beat.id = id.get();
                } else {
                    beat.id = self.take_id();
                    beat.flags.requires_response = true;
                    self.beat = NonZeroU64::new(beat.id);
                }
                return encode_or_nothing(&beat, out);
            }
            State::Closed => self.take_id(),
            // A hello that is sent again keeps its id: the answer to the first may be on its way.
            State::Greeting { id } => id,
        };
        self.state = State::Greeting { id };
        self.due = if self.config.lossy { now.plus_millis(HELLO_RETRY_MS) } else { NEVER };
        self.encode_identity(const { Address::literal(bus::HELLO) }, id, now, out)
    }

    /// When [`Session::poll_transmit`], [`Session::handle_timeout`] or [`Session::wants_token`] next has something to
    /// do; `None`: not before the next message. A time that is past means at once. An owner that asks all three at
    /// that moment is never late and never asks in vain.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut due = if self.ask_identity { Instant::default() } else { self.due };
        if self.must_prove() {
            due = due.min(self.proof_due);
        }
        due = due.min(self.silence_due());
        for pending in self.pending.iter().flatten() {
            due = due.min(pending.deadline);
        }
        (due != NEVER).then_some(due)
    }

    /// When a heartbeat has to be sent next, or to have come: as much of [`Session::poll_timeout`] as does not ask for a
    /// token.
    pub fn heartbeat_due(&self) -> Option<Instant> {
        let due = self.due.min(self.silence_due());
        (due != NEVER).then_some(due)
    }

    /// Writes the `bus/authenticate` request that proves this end by `token`; the outcome comes as
    /// [`Verdict::Authenticated`] or [`Verdict::NotAuthenticated`]. Returns the bytes of the frame, 0 when it does not
    /// fit or too many requests are pending.
    pub fn authenticate(&mut self, token: &[u8], now: Instant, out: &mut [u8]) -> usize {
        let Ok(id) = self.begin_request(now.plus_millis(AUTHENTICATE_MS)) else { return 0 };
        self.proof = NonZeroU64::new(id);
        self.proof_due = NEVER;
        let request = Message::request(id, const { Address::literal(bus::AUTHENTICATE) });
        let mut writer = codec::begin(&request, PayloadKind::Binary, out);
        writer.u8(CREDENTIALS_TOKEN);
        writer.run(token);
        writer.finish().unwrap_or(0)
    }

    /// Reserves the id of a request that this end sends to the other and expects answered before `deadline`. The
    /// answer comes as [`Verdict::Reply`], its absence as [`Expired::Request`].
    ///
    /// # Errors
    /// [`TooManyPending`] when [`MAX_PENDING`] requests wait already.
    pub fn begin_request(&mut self, deadline: Instant) -> Result<u64, TooManyPending> {
        let id = self.take_id();
        let free = self.pending.iter_mut().find(|slot| slot.is_none()).ok_or(TooManyPending)?;
        *free = NonZeroU64::new(id).map(|id| Pending { id, deadline });
        Ok(id)
    }

    /// Gives up a request of [`Session::begin_request`]: its answer is ignored, its deadline says nothing.
    pub fn cancel_request(&mut self, id: u64) {
        self.end_request(id);
    }

    /// The id for the next message of this end that nobody answers.
    pub const fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Ends the session in order: writes the goodbye and says how many bytes it has. Requests that wait are forgotten.
    /// A connecting end that is polled after that says hello again.
    pub fn close(&mut self, reason: &str, now: Instant, out: &mut [u8]) -> usize {
        let id = self.take_id();
        let open = self.is_open();
        self.reset(now);
        let goodbye = Message::notification(id, const { Address::literal(bus::GOODBYE) });
        if open { encode_or_nothing(&goodbye.with_payload(MessagePayload::String(reason)), out) } else { 0 }
    }

    /// Forgets the other end, as when the link was unplugged; a connecting end says hello again at once.
    pub fn reset(&mut self, now: Instant) {
        self.state = State::Closed;
        self.due = if self.config.role == Role::Connecting { now } else { NEVER };
        self.remote = None;
        self.grant = None;
        self.proof = None;
        self.proof_due = now;
        self.accepted = false;
        self.beat_ms = 0;
        self.beat = None;
        self.probe = None;
        self.pending = [None; MAX_PENDING];
    }

    /// Takes the other end's grant away: from now on it must authenticate again.
    pub fn revoke(&mut self) {
        self.grant = None;
    }

    /// Whether both ends have said hello.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the session is open and the other end serves this one.
    pub fn is_ready(&self) -> bool {
        self.is_open() && (self.accepted || !self.must_prove())
    }

    /// Whether the other end waits for this one's token, or for a new one before the last expires. An owner that has
    /// none to give to [`Session::authenticate`] is asked again a second later.
    pub fn wants_token(&mut self, now: Instant) -> bool {
        let wants = self.must_prove() && self.proof_due <= now;
        if wants {
            self.proof_due = now.plus_millis(REFUSED_RETRY_MS);
        }
        wants
    }

    /// What the other end has proven, if anything.
    pub const fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// What the other end said of itself, while the session is open.
    pub const fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// This end's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// This end's boot id.
    pub const fn boot_id(&self) -> u64 {
        self.config.boot_id
    }

    /// Microseconds since 1970, once the owner or the other end has said what time it is: for stamps and for what this
    /// end says of itself. Nothing is decided by it, for anybody can say hello.
    pub fn unix_micros(&self, now: Instant) -> Option<u64> {
        self.epoch.map(|epoch| epoch.wrapping_add(now.as_micros()))
    }

    /// Microseconds since 1970 by what can be relied on: the owner's clock, or the last proof of the hub and what this
    /// end has counted since. `None` before either; unless the owner sets it, it never steps back, over any number of
    /// sessions. Tokens and grants are judged by it.
    pub fn trusted_micros(&self, now: Instant) -> Option<u64> {
        self.trusted.map(|epoch| epoch.wrapping_add(now.as_micros()))
    }

    /// When the other end was last heard.
    pub const fn last_heard(&self) -> Instant {
        self.heard
    }

    fn handle_identity<'f>(&mut self, message: &Message<'f>, now: Instant, out: &mut [u8]) -> Verdict<'f> {
        let answer = self.encode_own_identity(&message.answer(MessageType::Response), now, out);
        // Only a hub that knows of no session asks who is there: it has restarted, or its end of the line was out.
        if self.config.lossy && self.config.role == Role::Connecting && self.is_open() {
            self.reset(now);
            return Verdict::Restarted { answer };
        }
        if self.config.lossy && matches!(self.state, State::Greeting { .. }) {
            // Whoever asks has only just begun to listen; unless the answer is on its way, the last hello was lost.
            self.due = self.due.min(now.plus_millis(ASKED_RETRY_MS));
        }
        Verdict::Answer(answer)
    }

    fn handle_authenticate<'f>(&mut self, message: &Message<'f>, out: &mut [u8]) -> Verdict<'f> {
        let mut reader = Reader::new(message.payload.as_bytes());
        if reader.u8() != Some(CREDENTIALS_TOKEN) {
            return refuse(message, IpcError::Authentication(sentence::ONLY_TOKENS), out);
        }
        match reader.run() {
            Some(token) if reader.rest().is_empty() => Verdict::Authenticate { token },
            _ => refuse(message, IpcError::Serialization(sentence::BAD_CREDENTIALS), out),
        }
    }

    /// Takes a heartbeat at the connecting end: the echo of its own, or the accepting end asks what this clock shows.
    // In line for flash, as is what it is like: a leaf has one caller of each.
    #[inline]
    fn handle_probe<'f>(&mut self, message: &Message<'f>, now: Instant, out: &mut [u8]) -> Verdict<'f> {
        if !self.is_open() {
            return self.refuse_before_hello(message, out);
        }
        if message.wants_answer() {
            if self.lacks_grant() {
                return refuse(message, UNPROVEN, out);
            }
            self.probe = NonZeroU64::new(message.id);
            // Later: what the clock shows now may have been read before the frame was there.
            self.due = Instant::from_micros(now.as_micros() + 1);
        }
        Verdict::Answer(0)
    }

    fn handle_reply<'f, N: Needs>(&mut self, message: &Message<'f>, now: Instant) -> Verdict<'f> {
        let payload = message.payload;
        let outcome = match message.message_type {
            MessageType::Error => Err(IpcError::from_payload_for::<N>(payload.as_bytes())),
            _ => Ok(payload),
        };
        if matches!(self.state, State::Greeting { id } if id == message.id) {
            self.hello_id = message.id;
            return self.handle_welcome(outcome, now);
        }
        let id = NonZeroU64::new(message.id);
        // 0 is the answer to this end's question who is there.
        if id.is_none() && outcome.is_ok() {
            return Verdict::Answer(0);
        }
        if let Err(error) = outcome
            && id.is_some()
            && self.beat == id
        {
            return self.handle_refused_heartbeat::<N>(error, now);
        }
        if !self.end_request(message.id) {
            return if self.is_open() { Verdict::Deliver } else { Verdict::Drop(DropReason::BeforeHello) };
        }
        if !N::PROOF || self.proof != id {
            return Verdict::Reply { id: message.id, outcome };
        }
        self.accepted = outcome.is_ok();
        self.proof = None;
        self.proof_due = now.plus_millis(if self.accepted { RENEW_MS } else { REFUSED_RETRY_MS });
        match outcome {
            Ok(_) => Verdict::Authenticated,
            Err(error) => Verdict::NotAuthenticated(error),
        }
    }

    /// Takes the answer to this end's hello.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn handle_welcome<'f>(
        &mut self,
        outcome: Result<MessagePayload<'f>, IpcError<&'f str>>,
        now: Instant,
    ) -> Verdict<'f> {
        let error = match outcome.map(|payload| identity_in(&payload)) {
            Ok(Some(identity)) if identity.max_version == bus::WIRE_VERSION => {
                if let Some(remote) = Remote::new(&identity) {
                    self.open(remote);
                    self.note_capabilities(identity.capabilities);
                    self.due = self.beat_due(now);
                    if identity.unix_us != 0 {
                        self.learn_time(identity.unix_us, now);
                    }
                    return Verdict::Opened { answer: 0 };
                }
                NO_IDENTITY
            }
            Ok(_) => NO_IDENTITY,
            Err(error) => error,
        };
        self.reset(now.plus_millis(REFUSED_RETRY_MS));
        Verdict::Closed(CloseReason::Refused(error))
    }

    /// Takes the other end's word for what time it is.
    fn learn_time(&mut self, unix_us: u64, now: Instant) {
        if !self.own_clock {
            self.epoch = Some(unix_us.wrapping_sub(now.as_micros()));
        }
    }

    /// Never backwards: what has expired stays so.
    fn trust_time(&mut self, unix_us: u64, now: Instant) {
        let unix_us = unix_us.max(self.trusted_micros(now).unwrap_or(0));
        self.trusted = Some(unix_us.wrapping_sub(now.as_micros()));
    }

    fn open(&mut self, remote: Remote) {
        // The longer of the two ends' wishes; none when one of them wants none.
        self.beat_ms = match (remote.heartbeat_ms, self.config.heartbeat_ms) {
            (0, _) | (_, 0) => 0,
            (theirs, ours) => theirs.max(ours),
        };
        self.remote = Some(remote);
        self.state = State::Open;
    }

    /// What the other end said that it can do, as far as a [`Remote`] does not say it.
    const fn note_capabilities(&mut self, capabilities: u32) {
        #[cfg(feature = "std")]
        {
            self.compresses.1 = capabilities & bus::COMPRESSES != 0;
        }
        #[cfg(not(feature = "std"))]
        let _ = capabilities;
    }

    /// The other end hears this one but has lost what this one takes for granted: all of the session, as when only it
    /// fell silent, or the proof, as when it was revoked.
    fn handle_refused_heartbeat<'f, N: Needs>(
        &mut self,
        error: IpcError<&'f str>,
        now: Instant,
    ) -> Verdict<'f> {
        self.beat = None;
        match error {
            IpcError::Protocol(_) => {
                self.reset(now);
                Verdict::Restarted { answer: 0 }
            }
            // While the answer to a token is on its way the refusal is older than that token.
            IpcError::Authentication(_) if !N::PROOF || self.proof.is_none() => {
                if let Some(remote) = &mut self.remote {
                    remote.requires_authentication = true;
                }
                let was_accepted = core::mem::take(&mut self.accepted);
                if !N::PROOF || !was_accepted {
                    return Verdict::Answer(0);
                }
                self.proof_due = now;
                Verdict::NotAuthenticated(error)
            }
            _ => Verdict::Answer(0),
        }
    }

    fn refuse_before_hello<'f>(&mut self, message: &Message<'f>, out: &mut [u8]) -> Verdict<'f> {
        self.ask_identity = self.config.lossy && self.config.role == Role::Accepting;
        if !message.wants_answer() {
            return Verdict::Drop(DropReason::BeforeHello);
        }
        refuse(message, IpcError::Protocol(sentence::HELLO_FIRST), out)
    }

    /// Forgets a request that waits; `false` when there is none of that id.
    fn end_request(&mut self, id: u64) -> bool {
        let waits = |slot: &&mut Option<Pending>| slot.is_some_and(|pending| pending.id.get() == id);
        self.pending.iter_mut().find(waits).is_some_and(|slot| slot.take().is_some())
    }

    const fn lacks_grant(&self) -> bool {
        self.config.requires_authentication && self.grant.is_none()
    }

    /// When this end's next heartbeat is due if the last was at `now`.
    #[inline]
    fn beat_due(&self, now: Instant) -> Instant {
        if self.beat_ms == 0 { NEVER } else { now.plus_millis(self.beat_ms) }
    }

    /// When the other end counts as gone unless it is heard before.
    fn silence_due(&self) -> Instant {
        match self.beat_ms {
            0 => NEVER,
            beat_ms => self.heard.plus_millis(beat_ms.saturating_mul(SILENT_BEATS)),
        }
    }

    fn must_prove(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.requires_authentication)
    }

    fn encode_identity(&self, address: Address<'static>, id: u64, now: Instant, out: &mut [u8]) -> usize {
        self.encode_own_identity(&Message::request(id, address), now, out)
    }

    /// Capability bits that only ends with `std` have.
    #[cfg(feature = "std")]
    const fn offered_capabilities(&self) -> u32 {
        bit(self.compresses.0, bus::COMPRESSES)
    }

    #[cfg(not(feature = "std"))]
    const fn offered_capabilities(&self) -> u32 {
        0
    }

    fn encode_own_identity(&self, head: &Message<'_>, now: Instant, out: &mut [u8]) -> usize {
        let config = &self.config;
        let identity = Identity {
            min_version: bus::WIRE_VERSION,
            max_version: bus::WIRE_VERSION,
            name: &config.name,
            boot_id: config.boot_id,
            max_frame: config.max_frame,
            heartbeat_ms: config.heartbeat_ms,
            capabilities: bit(config.requires_authentication, bus::REQUIRES_AUTHENTICATION)
                | bit(self.has_lane, bus::HAS_LANE)
                | self.offered_capabilities(),
            rows: config.rows,
            unix_us: self.unix_micros(now).unwrap_or(0),
        };
        let mut writer = codec::begin(head, PayloadKind::Binary, out);
        identity.write(&mut writer);
        writer.finish().unwrap_or(0)
    }
}

/// Whether `error` is what an end says that knows of no session: it has restarted since the message was sent to it.
#[cfg(feature = "std")]
pub fn is_forgotten(error: &IpcError<&str>) -> bool {
    *error == IpcError::Protocol(sentence::HELLO_FIRST)
}

/// [`MAX_PENDING`] requests wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests of this session wait for their answers")]
pub struct TooManyPending;

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Greeting { id: u64 },
    Open,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    id: NonZeroU64,
    deadline: Instant,
}

const fn bit(set: bool, bit: u32) -> u32 {
    if set { bit } else { 0 }
}

/// Between two hellos on a lossy link.
const HELLO_RETRY_MS: u32 = 250;
/// Between the question who is there and the next hello.
const ASKED_RETRY_MS: u32 = 30;
/// After a refusal of a hello or of a token, and after a goodbye.
const REFUSED_RETRY_MS: u32 = 1_000;
/// The id of this end's question who is there. What counts is that it is asked: a connecting end draws its conclusion.
const ASK_IDENTITY: u64 = 0;
/// Later than any clock gets.
const NEVER: Instant = Instant::from_micros(u64::MAX);
/// For the answer to a token.
const AUTHENTICATE_MS: u32 = 2_000;
/// From one proof to the next; a token for this lives twice as long, see [`PROOF_LIFETIME_S`].
const RENEW_MS: u32 = 30 * 60 * 1_000;
/// Seconds for which an end that proves itself by a token of its own making lets that token live.
pub const PROOF_LIFETIME_S: u64 = 60 * 60;
/// Heartbeats that may fail to come before the other end counts as gone.
const SILENT_BEATS: u32 = 3;
const NO_IDENTITY: IpcError = IpcError::Protocol(sentence::NO_IDENTITY);
pub(crate) const NO_KEYS: IpcError = IpcError::Authentication(sentence::NO_KEYS);
const UNPROVEN: IpcError = IpcError::Authentication(sentence::AUTHENTICATE_FIRST);
/// The discriminant of [`bus::Credentials::Token`].
const CREDENTIALS_TOKEN: u8 = 0;
