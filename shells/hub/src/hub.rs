//! The hub's loop: what can wake it, the way of a frame through it, sessions and their ends, deadlines.
//!
//! One thread. A frame is decoded once, borrowed from where it was read; forwarding writes a new header and the old
//! payload. Nothing is written to one peer from another's read but through that peer's own bounded queue.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use slotmap::{Key as _, KeyData};
use visorbus_core::auth::{BUS, Claims, Grant, Scopes};
use visorbus_core::codec::{self, MAX_HEADER};
use visorbus_core::frame::length::{Split, split};
use visorbus_core::limits::{MAX_NAME, MAX_TOKEN};
use visorbus_core::message::{Address, Message};
use visorbus_core::peer::refuse_frame;
use visorbus_core::session::{CloseReason, Expired, Name, PROOF_LIFETIME_S, Role, SessionConfig, Verdict};
use visorbus_core::{Instant, IpcError, MessagePriority, Session};

use crate::calls::{CallKey, Calls};
use crate::config::{HubConfig, unix_micros};
use crate::handle::{Command, HubHandle};
use crate::handlers::{Pool, Registry};
use crate::link::{HubLink, Listener, ReceiveBuffer, Reopen};
use crate::owned::{Error, Result};
use crate::peers::{Counters, Peer, PeerKey, Peers, Rows, Watched, closed_text};
use crate::poller::{Poller, Ready, WOKEN};
use crate::queue::Queue;
use crate::subscriptions::Matches;

/// A hub: attach transports to it through its [`HubHandle`], then [`Hub::run`] it.
pub struct Hub {
    pub(crate) config: HubConfig,
    pub(crate) peers: Peers,
    pub(crate) names: HashMap<String, PeerKey>,
    pub(crate) registry: Registry,
    pub(crate) calls: Calls,
    pub(crate) matches: Matches,
    /// Where the hub writes what it says itself, answers of its handlers among it.
    pub(crate) out: Vec<u8>,
    pub(crate) next_id: u64,
    pub(crate) pool: Option<Pool>,
    pub(crate) handle: HubHandle,
    poller: Poller,
    commands: Receiver<Command>,
    listeners: Vec<Accepting>,
    /// When a peer's session, handshake or link next needs the time.
    timers: BTreeSet<(Instant, PeerKey)>,
    receive: ReceiveBuffer,
    start: std::time::Instant,
    start_unix_us: u64,
    stopping: bool,
}

/// A listener and when it goes on after a pause.
struct Accepting {
    listener: Box<dyn Listener>,
    paused_until: Option<Instant>,
}

/// A message that passed its session, and who it came from.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'m> {
    pub(crate) from: PeerKey,
    pub(crate) message: Message<'m>,
    /// Nothing else is going on: what comes of it may be written at once.
    pub(crate) at_once: bool,
    pub(crate) now: Instant,
}

impl Hub {
    /// A hub without transports.
    ///
    /// # Errors
    /// `Internal` when the system gives no descriptors for its loop.
    pub fn new(config: HubConfig) -> Result<Self> {
        let poller =
            Poller::new().map_err(|e| Error::Internal(format!("the hub's loop cannot start: {e}")))?;
        let (sender, commands) = channel();
        let handle = HubHandle::new(sender, poller.waker());
        let out = vec![0; config.limits.max_frame as usize];
        Ok(Self {
            peers: Peers::new(&config.limits),
            names: HashMap::new(),
            registry: Registry::default(),
            calls: Calls::default(),
            matches: Matches::default(),
            out,
            next_id: 1,
            pool: None,
            handle,
            poller,
            commands,
            listeners: Vec::new(),
            timers: BTreeSet::new(),
            receive: ReceiveBuffer::default(),
            start: std::time::Instant::now(),
            start_unix_us: unix_micros(),
            stopping: false,
            config,
        })
    }

    /// What other threads use the hub through.
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Runs until [`HubHandle::stop`]; then says goodbye to every peer.
    ///
    /// # Errors
    /// `Internal` when the system's event queue fails.
    pub fn run(mut self) -> Result<()> {
        let mut events = Vec::new();
        while !self.stopping {
            self.turn(&mut events).map_err(|e| Error::Internal(format!("the hub's loop failed: {e}")))?;
        }
        self.say_goodbye();
        Ok(())
    }

    pub(crate) fn now(&self) -> Instant {
        let micros = self.start.elapsed().as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(1))
    }

    pub(crate) fn unix_s(&self, now: Instant) -> u64 {
        (self.start_unix_us + now.as_micros()) / 1_000_000
    }

    fn turn(&mut self, events: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = self.time_to_wait();
        self.poller.wait(events, timeout)?;
        let now = self.now();
        let single = events.len() == 1;
        for ready in &*events {
            match ready.number {
                WOKEN => self.handle_commands(now),
                number if number >= FIRST_LISTENER => self.accept((WOKEN - 1 - number) as usize, now),
                number => self.serve_peer(PeerKey::from(KeyData::from_ffi(number)), ready, single, now),
            }
        }
        self.handle_deadlines(now);
        self.end_turn(now);
        Ok(())
    }

    /// Until the next deadline; `None` when there is none.
    fn time_to_wait(&self) -> Option<Duration> {
        let paused = self.listeners.iter().filter_map(|accepting| accepting.paused_until).min();
        let timer = self.timers.first().map(|(at, _)| *at);
        let next = [self.calls.next_deadline(), timer, paused].into_iter().flatten().min()?;
        Some(next.duration_since(self.now()))
    }

    fn handle_commands(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Listen(listener, done) => drop(done.send(self.listen(listener))),
                Command::Attach(link, done) => drop(done.send(self.attach(link, now).map(|_| ()))),
                Command::Stop => self.stopping = true,
                other => self.handle_command(other, now),
            }
        }
        while let Some(done) = self.pool.as_ref().and_then(Pool::take_done) {
            if self.calls.take(done.key, None).is_some() {
                self.uncount_call(done.key.0);
                self.send_answer_frame(done.key.0, &done.answer);
            }
        }
    }

    fn listen(&mut self, listener: Box<dyn Listener>) -> Result<()> {
        let number = FIRST_LISTENER_DOWN - self.listeners.len() as u64;
        self.poller.add(listener.fd(), number).map_err(|e| {
            Error::Connection(format!("cannot wait for connections on {}: {e}", listener.describe()))
        })?;
        tracing::info!("listening on {}", listener.describe());
        self.listeners.push(Accepting { listener, paused_until: None });
        Ok(())
    }

    fn accept(&mut self, index: usize, now: Instant) {
        // A bounded number at a time, so that a storm of connections leaves time for those that are there.
        for _ in 0..16 {
            let Some(accepting) = self.listeners.get_mut(index) else { return };
            match accepting.listener.accept() {
                Ok(None) => return,
                Ok(Some(link)) if self.peers.len() >= self.config.limits.max_peers => {
                    let origin = link.origin();
                    tracing::warn!("{origin} refused: {} peers are connected, the limit", self.peers.len());
                }
                Ok(Some(link)) => {
                    if let Err(error) = self.attach(link, now) {
                        tracing::warn!("a new connection was lost: {error}");
                    }
                }
                Err(error) => {
                    let accepting = &mut self.listeners[index];
                    tracing::warn!("{}: {error}; not accepting for 100 ms", accepting.listener.describe());
                    let number = FIRST_LISTENER_DOWN - index as u64;
                    let paused = self.poller.watch(accepting.listener.fd(), number, false, false);
                    accepting.paused_until = paused.is_ok().then(|| now.plus_millis(100));
                    return;
                }
            }
        }
    }

    fn attach(&mut self, link: Box<dyn HubLink>, now: Instant) -> Result<PeerKey> {
        let options = link.options();
        let limits = &self.config.limits;
        let line = options.lossy;
        let config = SessionConfig {
            role: Role::Accepting,
            name: Name::try_from(BUS).unwrap_or_default(),
            boot_id: self.config.boot_id,
            max_frame: if options.max_frame == 0 {
                limits.max_frame
            } else {
                options.max_frame.min(limits.max_frame)
            },
            heartbeat_ms: if line { limits.line_heartbeat_ms } else { limits.socket_heartbeat_ms },
            rows: 0,
            requires_authentication: options.unauthenticated.is_none(),
            lossy: line,
        };
        let mut session = Session::new(config);
        session.set_clock(now, self.start_unix_us + now.as_micros());
        let handshake_by = now.plus_millis(limits.handshake_ms);
        let key = self.peers.insert(Peer {
            origin: link.origin(),
            link,
            options,
            session,
            name: String::new(),
            components: Vec::new(),
            rows: Rows::default(),
            subscriptions: Vec::new(),
            queue: Queue::default(),
            watched: None,
            dirty: false,
            reopen_at: None,
            handshake_by,
            timer: None,
            pending_calls: 0,
            next_subscription: 0,
            counters: Counters::default(),
        });
        if self.watch_link(key).is_none() {
            self.reopen(key, now);
        }
        self.poll_session(key, now);
        self.set_timer(key);
        Ok(key)
    }

    /// Has epoll report the link's descriptor; `None` when it has none.
    fn watch_link(&mut self, key: PeerKey) -> Option<()> {
        let peer = self.peers.get_mut(key)?;
        self.poller.add(peer.link.fd()?, key.data().as_ffi()).ok()?;
        peer.watched = Some(Watched { output: false });
        Some(())
    }

    fn serve_peer(&mut self, key: PeerKey, ready: &Ready, single: bool, now: Instant) {
        if ready.output {
            self.peers.flush(key);
            self.watch_output(key);
        }
        if !ready.input || self.peers.get(key).is_none() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.receive);
        buffer.clear();
        let received = self.peers.get_mut(key).map(|peer| peer.link.receive(&mut buffer));
        let used = self.take_frames(key, buffer.as_slice(), single, now);
        if let (Some(peer), rest @ [_, ..]) = (self.peers.get_mut(key), &buffer.as_slice()[used..]) {
            peer.link.keep(rest);
        }
        self.receive = buffer;
        if let Some(Err(error)) = received {
            self.peers.doom(key, closed_text(&error));
        } else if self.peers.get(key).is_some_and(|peer| peer.options.lossy) {
            self.poll_session(key, now);
        }
        self.set_timer(key);
    }

    /// Handles the whole frames at the front of `bytes`; returns how many bytes they were.
    fn take_frames(&mut self, key: PeerKey, bytes: &[u8], single: bool, now: Instant) -> usize {
        let max = self.config.limits.max_frame as usize;
        let mut used = 0;
        loop {
            match split(&bytes[used..], max) {
                Ok(Split::Frame { frame, consumed }) => {
                    used += consumed;
                    let at_once = single && used == bytes.len();
                    self.handle_frame(key, frame, at_once, now);
                }
                Ok(Split::Incomplete { .. }) => return used,
                Err(error) => {
                    let text = format!("{error}: the connection is closed");
                    self.send_error(key, &Message::request(0, BUS_ADDRESS), &Error::Protocol(text.clone()));
                    self.peers.doom(key, text);
                    return bytes.len();
                }
            }
        }
    }

    fn handle_frame(&mut self, key: PeerKey, frame: &[u8], at_once: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.counters.frames_in += 1;
        peer.counters.bytes_in += frame.len() as u64;
        let message = match codec::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                peer.counters.undecodable += 1;
                tracing::debug!("{}: a frame is no message: {error}", peer.label());
                let len = refuse_frame(frame, error, &mut self.out);
                return self.send_out(key, len, at_once);
            }
        };
        match peer.session.handle(&message, now, &mut self.out) {
            Verdict::Deliver => self.deliver(&Incoming { from: key, message, at_once, now }),
            Verdict::Answer(len) => self.send_out(key, len, at_once),
            Verdict::Refused { answer } => {
                peer.counters.refused += 1;
                self.send_out(key, answer, at_once);
            }
            Verdict::Opened { answer } => {
                self.forget(key, "it started again");
                self.send_out(key, answer, at_once);
                self.handle_opened(key, now);
            }
            Verdict::Restarted { answer } => self.send_out(key, answer, at_once),
            Verdict::Authenticate { token } => self.handle_token(key, &message, token, now),
            Verdict::Authenticated => self.describe_from(key, 0, now),
            Verdict::NotAuthenticated(error) => {
                let label = peer.label();
                tracing::warn!(
                    "{label} does not accept the hub: {error}; its key differs from the one derived here"
                );
            }
            Verdict::Reply { id, outcome } => {
                let outcome = outcome.map(|payload| payload.as_bytes());
                self.handle_description(key, id, outcome, now);
            }
            Verdict::Closed(CloseReason::Goodbye) if peer.options.lossy => {
                self.forget(key, "it said goodbye")
            }
            Verdict::Closed(_) => self.peers.doom(key, "it said goodbye"),
            Verdict::Drop(_) => peer.counters.refused += 1,
        }
    }

    fn handle_opened(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.counters.sessions += 1;
        let Some(remote) = peer.session.remote() else { return };
        let name = remote.name.clone();
        let trusted = peer.options.unauthenticated.as_deref() == Some(&*name);
        if trusted {
            tracing::warn!(
                "{}: '{name}' is believed without a token, as configured for this link",
                peer.origin
            );
            match self.own_grant(&name, now) {
                Ok(grant) => {
                    if let Some(peer) = self.peers.get_mut(key) {
                        peer.session.accept(grant);
                    }
                    if self.admit_name(key, &name).is_ok() {
                        self.handle_admitted(key, now);
                    }
                }
                Err(error) => tracing::error!("the hub cannot mint with its own key: {error}"),
            }
        }
        self.prove_hub(key, now);
    }

    /// Sends the peer a token of the hub's where it wants one.
    fn prove_hub(&mut self, key: PeerKey, now: Instant) {
        let unix_s = self.unix_s(now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.session.wants_token(now) {
            return;
        }
        let name = peer.session.remote().map(|remote| remote.name.clone()).unwrap_or_default();
        let mut token = [0; MAX_TOKEN];
        let claims = hub_claims(&name, now, unix_s, &["*"]);
        let len = match self.config.keys.mint(self.config.key_id, &claims, &mut token) {
            Ok(len) => len,
            Err(error) => return tracing::error!("the hub cannot mint a token for {name}: {error}"),
        };
        let len = peer.session.authenticate(&token[..len], now, &mut self.out);
        self.send_out(key, len, true);
    }

    fn handle_token(&mut self, key: PeerKey, request: &Message<'_>, token: &[u8], now: Instant) {
        let outcome = self.admit(key, token, now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let label = peer.label();
        let error = outcome.as_ref().err().cloned();
        let borrowed =
            outcome.as_ref().map(Grant::clone).map_err(|e| IpcError::new(e.kind(), e.text().as_str()));
        let len = peer.session.finish_authentication(request, borrowed, &mut self.out);
        self.send_out(key, len, true);
        match error {
            None => self.handle_admitted(key, now),
            Some(error) => {
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.counters.refused += 1;
                }
                tracing::warn!("{label} was not admitted: {error}");
            }
        }
    }

    /// Checks a peer's token, and that it proves the name that the peer goes by.
    fn admit(&mut self, key: PeerKey, token: &[u8], now: Instant) -> Result<Grant> {
        let unix_s = self.unix_s(now);
        let grant = self.config.keys.check(token, BUS, Some(unix_s)).map_err(|error| {
            tracing::info!("a token was refused: {error}");
            Error::Authentication(error.for_peer().to_owned())
        })?;
        let remote = self.peers.get(key).and_then(|peer| peer.session.remote());
        let name = remote.map(|remote| remote.name.to_string()).unwrap_or_default();
        if !proves(grant.subject(), &name) {
            let subject = grant.subject();
            return Err(Error::Authentication(format!(
                "the token of '{subject}' does not prove the name '{name}': use the name '{subject}' or one that begins with '{subject}.'"
            )));
        }
        self.admit_name(key, &name)?;
        Ok(grant)
    }

    fn admit_name(&mut self, key: PeerKey, name: &str) -> Result<()> {
        let taken = self.registry.contains(name) || self.names.get(name).is_some_and(|owner| *owner != key);
        if name == BUS || taken {
            return Err(Error::Connection(format!(
                "the name '{name}' is taken by a live session: end that one or use another name"
            )));
        }
        Ok(())
    }

    fn handle_admitted(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(remote) = peer.session.remote() else { return };
        let name = remote.name.to_string();
        if peer.name == name {
            return;
        }
        peer.name.clone_from(&name);
        tracing::info!("{name} is here: {}", peer.origin);
        self.names.insert(name, key);
        self.describe_from(key, 0, now);
    }

    fn poll_session(&mut self, key: PeerKey, now: Instant) {
        self.prove_hub(key, now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let len = peer.session.poll_transmit(now, &mut self.out);
        self.send_out(key, len, true);
    }

    /// Ends what a session has meant to others: calls, name, components, subscriptions. The link stays.
    pub(crate) fn forget(&mut self, key: PeerKey, why: &str) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let label = peer.label();
        let name = std::mem::take(&mut peer.name);
        let components = std::mem::take(&mut peer.components);
        let announced = std::mem::take(&mut peer.rows).complete;
        peer.subscriptions.clear();
        peer.queue.clear();
        peer.pending_calls = 0;
        self.matches.clear();
        for (call_key, call) in self.calls.take_peer(key) {
            self.uncount_call(call_key.0);
            let text = format!("{label} is gone ({why}): '{}' was not answered", call.destination);
            self.fail_call(call_key, &call, &Error::Connection(text));
        }
        if name.is_empty() {
            return;
        }
        tracing::info!("{name} is gone: {why}");
        self.names.retain(|_, owner| *owner != key);
        for component in components.iter().chain(announced.then_some(&name)) {
            self.announce(component, &name, false);
        }
    }

    /// The link of a peer is over: a socket's peer is removed, a line waits for its device to come back.
    fn lose_link(&mut self, key: PeerKey, why: &str, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        // What is said to a peer that has to go is written before the descriptor is closed, as far as it goes.
        let _ = peer.flush();
        if let (Some(_), Some(fd)) = (peer.watched.take(), peer.link.fd()) {
            self.poller.remove(fd);
        }
        if peer.name.is_empty() {
            tracing::debug!("{} is gone: {why}", peer.label());
        }
        self.forget(key, why);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.session.reset(now);
        }
        self.reopen(key, now);
    }

    fn reopen(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.reopen_at = None;
        match peer.link.reopen(now) {
            Reopen::At(at) => peer.reopen_at = Some(at),
            Reopen::Done if self.watch_link(key).is_some() => self.poll_session(key, now),
            Reopen::Done | Reopen::Never => {
                self.clear_timer(key);
                self.peers.remove(key);
                return;
            }
        }
        self.set_timer(key);
    }

    fn handle_deadlines(&mut self, now: Instant) {
        while let Some((key, call)) = self.calls.take_expired(now) {
            self.uncount_call(key.0);
            let text = format!("'{}' did not answer in time", call.destination);
            self.fail_call(key, &call, &Error::Timeout(text));
        }
        while let Some(&(_, key)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.clear_timer(key);
            self.handle_timer(key, now);
            self.set_timer(key);
        }
        for index in 0..self.listeners.len() {
            if self.listeners[index].paused_until.is_some_and(|until| until <= now) {
                let accepting = &mut self.listeners[index];
                let number = FIRST_LISTENER_DOWN - index as u64;
                if self.poller.watch(accepting.listener.fd(), number, true, false).is_ok() {
                    accepting.paused_until = None;
                }
            }
        }
    }

    fn handle_timer(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.reopen_at.is_some_and(|at| at <= now) {
            return self.reopen(key, now);
        }
        if peer.name.is_empty() && !peer.options.lossy && peer.handshake_by <= now {
            let text = format!("no authentication within {} ms", self.config.limits.handshake_ms);
            self.send_error(key, &Message::request(0, BUS_ADDRESS), &Error::Authentication(text.clone()));
            return self.peers.doom(key, text);
        }
        while let Some(expired) = self.peers.get_mut(key).and_then(|peer| peer.session.handle_timeout(now)) {
            match expired {
                Expired::Session if self.peers.get(key).is_some_and(|peer| peer.options.lossy) => {
                    self.forget(key, "it was silent for three heartbeats");
                }
                Expired::Session => return self.peers.doom(key, "it was silent for three heartbeats"),
                Expired::Request { id } => self.describe_again(key, id, now),
            }
        }
        self.poll_session(key, now);
    }

    /// Has the peer looked at when it next needs the time, unless that is done already.
    fn set_timer(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let unproven = peer.name.is_empty() && !peer.options.lossy;
        let handshake = unproven.then_some(peer.handshake_by);
        let session = peer.session.poll_timeout().filter(|_| peer.watched.is_some());
        let Some(next) = [session, handshake, peer.reopen_at].into_iter().flatten().min() else { return };
        if peer.timer.is_none_or(|set| next < set) {
            if let Some(set) = peer.timer.replace(next) {
                self.timers.remove(&(set, key));
            }
            self.timers.insert((next, key));
        }
    }

    fn clear_timer(&mut self, key: PeerKey) {
        match self.peers.get_mut(key) {
            Some(peer) => {
                if let Some(set) = peer.timer.take() {
                    self.timers.remove(&(set, key));
                }
            }
            None => self.timers.retain(|(_, other)| *other != key),
        }
    }

    /// Writes what the turn has queued, and takes leave of those that have to go.
    fn end_turn(&mut self, now: Instant) {
        loop {
            while let Some(key) = self.peers.take_dirty() {
                self.peers.flush(key);
                self.watch_output(key);
            }
            let Some((key, why)) = self.peers.take_broken() else { return };
            self.lose_link(key, &why, now);
        }
    }

    /// Has epoll report room for output exactly while something waits for it; tells of what was missed once it does
    /// not.
    fn watch_output(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let waits = peer.flush().unwrap_or(true);
        if let (Some(watched), Some(fd)) = (peer.watched, peer.link.fd())
            && watched.output != waits
            && self.poller.watch(fd, key.data().as_ffi(), true, waits).is_ok()
        {
            peer.watched = Some(Watched { output: waits });
        }
        if !waits {
            self.tell_missed(key);
        }
    }

    /// Sends the frame in [`Hub::out`] to a peer; nothing when `len` is 0.
    pub(crate) fn send_out(&mut self, key: PeerKey, len: usize, at_once: bool) {
        if len == 0 {
            return;
        }
        let priority = MessagePriority::from_code(self.out[0] >> 3);
        if self.peers.send(key, &self.out[..len], &[], priority, at_once).is_err() {
            self.peers.doom(key, "it does not read its answers");
        }
    }

    pub(crate) fn send_answer_frame(&mut self, key: PeerKey, frame: &[u8]) {
        if !frame.is_empty() && self.peers.send(key, frame, &[], MessagePriority::Normal, true).is_err() {
            self.peers.doom(key, "it does not read its answers");
        }
    }

    /// Answers a message with an error, if anybody waits for one.
    pub(crate) fn send_error(&mut self, key: PeerKey, message: &Message<'_>, error: &Error) {
        if !message.wants_answer() {
            return;
        }
        let error = IpcError::new(error.kind(), error.text().as_str());
        let len = codec::encode_error(message, &error, &mut self.out).unwrap_or(0);
        self.send_out(key, len, true);
    }

    /// Answers a forwarded request in its callee's place.
    fn fail_call(&mut self, (caller, id): CallKey, call: &crate::calls::Call, error: &Error) {
        let mut request = Message::request(id, BUS_ADDRESS);
        request.source = Address::new(&call.source).ok();
        request.flags.priority = call.priority;
        self.send_error(caller, &request, error);
    }

    pub(crate) fn uncount_call(&mut self, caller: PeerKey) {
        if let Some(peer) = self.peers.get_mut(caller) {
            peer.pending_calls = peer.pending_calls.saturating_sub(1);
        }
    }

    pub(crate) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// A grant for a peer whose link is trusted: minted and checked like any other.
    fn own_grant(&self, name: &str, now: Instant) -> Result<Grant> {
        let unix_s = self.unix_s(now);
        let claims = Claims {
            issuer: BUS,
            subject: name,
            audience: BUS,
            serial: now.as_micros(),
            issued_at: unix_s,
            expiry: unix_s + TRUSTED_LIFETIME_S,
            epoch: 0,
            scopes: Scopes::new(&[]),
        };
        let mut token = [0; MAX_TOKEN];
        let len = self
            .config
            .keys
            .mint(self.config.key_id, &claims, &mut token)
            .map_err(|e| Error::Internal(e.to_string()))?;
        let grant = self.config.keys.check(&token[..len], BUS, Some(unix_s));
        grant.map_err(|e| Error::Internal(e.to_string()))
    }

    fn say_goodbye(&mut self) {
        let now = self.now();
        for key in self.peers.keys() {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let len = peer.session.close("the hub stops", now, &mut self.out);
            self.send_out(key, len, true);
            self.peers.flush(key);
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

/// Whether a token for `subject` proves `name`: the same, or one that begins with it and a dot.
fn proves(subject: &str, name: &str) -> bool {
    name.strip_prefix(subject).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn hub_claims<'a>(audience: &'a str, now: Instant, unix_s: u64, scopes: &'a [&'a str]) -> Claims<'a> {
    debug_assert!(audience.len() <= MAX_NAME);
    Claims {
        issuer: BUS,
        subject: BUS,
        audience,
        serial: now.as_micros(),
        issued_at: unix_s,
        expiry: unix_s + PROOF_LIFETIME_S,
        epoch: 0,
        scopes: Scopes::new(scopes),
    }
}

/// The header of a message that passes the hub, in a buffer of its own; the payload follows from where it is.
pub(crate) struct Head {
    bytes: [u8; MAX_HEADER + MAX_TOKEN + 2],
    len: usize,
}

impl Head {
    /// `None` for what cannot be: the buffer fits every header.
    pub(crate) fn new(message: &Message<'_>) -> Option<Self> {
        let mut head = Self { bytes: [0; MAX_HEADER + MAX_TOKEN + 2], len: 0 };
        head.len = codec::encode_header(message, &mut head.bytes).ok()?;
        Some(head)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

pub(crate) const BUS_ADDRESS: Address<'static> = Address::literal(BUS);
/// Listeners are numbered downwards from here, beyond every peer's number.
const FIRST_LISTENER_DOWN: u64 = WOKEN - 1;
const FIRST_LISTENER: u64 = WOKEN - 1024;
/// Ten years: a trusted link is trusted until its configuration says otherwise.
const TRUSTED_LIFETIME_S: u64 = 10 * 365 * 24 * 3600;
