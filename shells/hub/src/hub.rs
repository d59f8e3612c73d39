//! The hub's loop: what can wake it, the way of a frame through it, sessions and their ends, deadlines.
//!
//! One thread. A frame is decoded once, borrowed from where it was read; forwarding writes a new header and the old
//! payload. Nothing is written to one peer from another's read but through that peer's own bounded queue.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, channel};

use slotmap::{Key as _, KeyData};
use visorbus_auth::AuthMethod;
use visorbus_core::auth::BUS;
use visorbus_core::bus;
use visorbus_core::codec::{self, DecodeError};
use visorbus_core::frame::length::{Split, split};
use visorbus_core::message::{Address, AddressBuf, Message};
use visorbus_core::peer::refuse_frame;
use visorbus_core::session::{CloseReason, DropReason, Expired, Name, Role, SessionConfig, Verdict};
use visorbus_core::{ErrorKind, Instant, Session};

use crate::HashMap;
use crate::accounts::{Asker, Purpose};
use crate::admission::{check_link_key, check_suffix};
use crate::asking::Questions;
use crate::audit::Floods;
use crate::budget::Budget;
use crate::calls::{Callee, Calls};
use crate::config::{HubConfig, Limits, unix_micros};
use crate::ending::Ending;
use crate::errands::{Errand, Errands};
use crate::handle::{Command, HubHandle};
use crate::handlers::{Pool, Registry};
use crate::link::{Goodbye, HubLink, Origin, ReceiveBuffer};
use crate::listeners::{Listeners, Via, drop_elsewhere, stops};
use crate::owned::{Error, Result};
use crate::peer::{Peer, Presence, Watched};
use crate::peers::{PeerKey, Peers};
use crate::poller::{Poller, Ready, WOKEN};
use crate::queue::Queue;
use crate::rows::Rows;
use crate::signals::Signals;
use crate::subscriptions::Matches;
use crate::tally::{Count, Counters, Tally};
use crate::watch::Watchers;

/// A hub: attach transports to it through its [`HubHandle`], then [`Hub::run`] it.
pub struct Hub {
    pub(crate) config: HubConfig,
    pub(crate) peers: Peers,
    pub(crate) names: HashMap<String, PeerKey>,
    pub(crate) registry: Registry,
    pub(crate) calls: Calls,
    pub(crate) questions: Questions,
    pub(crate) watchers: Watchers,
    pub(crate) matches: Matches,
    pub(crate) tally: Tally,
    /// Where the hub writes what it says itself, answers of its handlers among it.
    pub(crate) out: Vec<u8>,
    pub(crate) next_id: u64,
    pub(crate) pool: Option<Pool>,
    pub(crate) errands: Option<Errands>,
    /// Who waits for each errand, and what it is for.
    pub(crate) askers: HashMap<u64, (Asker, Purpose)>,
    /// When what lasts has to be asked about again, because a time window of the policy begins or ends.
    pub(crate) recheck_at: Option<Instant>,
    /// Before this sessions cannot bring that about by what they do with their own tokens.
    pub(crate) recheck_from: Instant,
    /// When accounts that have changed on disk are read again, unless somebody asks for that before.
    reload_at: Option<Instant>,
    pub(crate) floods: Floods,
    /// What boards know to be taken back.
    pub(crate) told_revocations: Vec<(String, u64)>,
    /// There was a secret in what was read just now.
    pub(crate) wipes_input: bool,
    pub(crate) handle: HubHandle,
    pub(crate) poller: Poller,
    /// The links without descriptors that are ready.
    signals: Arc<Signals>,
    /// Those that are being served.
    signalled: Vec<Ready>,
    commands: Receiver<Command>,
    pub(crate) listeners: Listeners,
    /// When a peer's session, handshake or link next needs the time.
    timers: BTreeSet<(Instant, PeerKey)>,
    pub(crate) receive: ReceiveBuffer,
    start: std::time::Instant,
    /// Microseconds from 1970 to `start`, by the wall clock as it was last read.
    pub(crate) start_unix_us: u64,
    /// When the wall clock is read again.
    read_clock_at: Instant,
    pub(crate) stopping: bool,
    pub(crate) ending: Option<Ending>,
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
        let signals = handle.signals();
        let out = vec![0; config.limits.max_frame as usize];
        Ok(Self {
            peers: Peers::new(&config.limits),
            names: HashMap::default(),
            registry: Registry::default(),
            calls: Calls::default(),
            questions: Questions::default(),
            watchers: Watchers::default(),
            matches: Matches::default(),
            tally: Tally::default(),
            out,
            next_id: 1,
            pool: None,
            errands: None,
            askers: HashMap::default(),
            recheck_at: None,
            recheck_from: Instant::default(),
            reload_at: None,
            floods: Floods::default(),
            told_revocations: Vec::new(),
            wipes_input: false,
            handle,
            poller,
            signals,
            signalled: Vec::new(),
            commands,
            listeners: Listeners::default(),
            timers: BTreeSet::new(),
            receive: ReceiveBuffer::default(),
            start: std::time::Instant::now(),
            start_unix_us: unix_micros(),
            read_clock_at: Instant::default(),
            stopping: false,
            ending: None,
            config,
        })
    }

    /// What other threads use the hub through.
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Runs until [`HubHandle::stop`] or [`HubHandle::shutdown`], and says goodbye to every peer.
    ///
    /// # Errors
    /// `Internal` when the system's event queue fails.
    pub fn run(mut self) -> Result<()> {
        let mut events = Vec::new();
        self.handle.enter();
        self.recheck(self.now());
        while !self.stopping {
            self.turn(&mut events).map_err(|e| Error::Internal(format!("the hub's loop failed: {e}")))?;
        }
        match self.ending {
            None => self.say_goodbye(),
            Some(_) => self.end(),
        }
        Ok(())
    }

    pub(crate) fn now(&self) -> Instant {
        since(self.start)
    }

    pub(crate) fn unix_s(&self, now: Instant) -> u64 {
        (self.start_unix_us + now.as_micros()) / 1_000_000
    }

    fn turn(&mut self, events: &mut Vec<Ready>) -> io::Result<()> {
        let (deadline, start) = (self.next_deadline(), self.start);
        self.poller.wake_at(deadline, || since(start))?;
        self.poller.wait(events, !self.signals.is_empty())?;
        let now = self.now();
        self.peers.now = now;
        if self.read_clock_at <= now {
            self.read_clock(now);
        }
        let single = events.len() == 1;
        for ready in &*events {
            match ready.number {
                WOKEN => self.handle_commands(now),
                number if Listeners::is_one(number) => self.accept(number, now),
                number => self.serve_peer(PeerKey::from(KeyData::from_ffi(number)), ready, single, now),
            }
        }
        self.serve_signalled(events.len() <= 1, now);
        self.handle_deadlines(now);
        self.end_turn(now);
        self.go_on_ending(now);
        Ok(())
    }

    /// Serves each link once that has said it is ready, in this turn too: what says so meanwhile waits for the next turn,
    /// behind all descriptors.
    fn serve_signalled(&mut self, alone: bool, now: Instant) {
        let mut signalled = std::mem::take(&mut self.signalled);
        self.signals.take(&mut signalled);
        let single = alone && signalled.len() == 1;
        for ready in &signalled {
            self.serve_peer(PeerKey::from(KeyData::from_ffi(ready.number)), ready, single, now);
        }
        self.signalled = signalled;
    }

    /// Follows the wall clock: a headset that starts without the time gets it later.
    fn read_clock(&mut self, now: Instant) {
        self.read_clock_at = now.plus_millis(READ_CLOCK_MS);
        let start_unix_us = unix_micros().saturating_sub(now.as_micros());
        if self.reload_at.is_none() && self.config.auth.poll_changes() {
            // Whoever has changed accounts usually asks for this, and is then told what that has ended.
            self.reload_at = Some(now.plus_millis(RELOAD_MS));
        }
        if start_unix_us.abs_diff(self.start_unix_us) < CLOCK_STEP_US {
            // A key may have retired, a token has expired, or the program has taken one back without the hub.
            self.cut_off_void(now);
            return;
        }
        tracing::info!("the machine's clock was set; tokens are judged by the new time");
        self.start_unix_us = start_unix_us;
        for key in self.peers.keys() {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.session.set_clock(now, start_unix_us + now.as_micros());
            }
            // What a board judges tokens by is what the hub proves to it.
            self.renew_proof(key, now);
        }
        self.recheck(now);
    }

    /// Has accounts read again that have changed on disk, unless they were meanwhile.
    fn reload_changed(&mut self, now: Instant) {
        self.reload_at = None;
        if !self.config.auth.poll_changes() {
            return;
        }
        let (auth, policy) = (true, false);
        let purpose = Purpose::Reload { auth, policy };
        if let Err(error) = self.begin_errand(Asker::Hub, purpose, Errand::Reload { auth, policy }) {
            tracing::warn!("accounts that have changed on disk are not read yet: {error}");
        }
        // What cannot be read is not tried, and told of, every second.
        self.reload_at = Some(now.plus_millis(RELOAD_AGAIN_MS));
    }

    /// When the loop next has something to do by itself.
    fn next_deadline(&self) -> Option<Instant> {
        let paused = self.listeners.next_deadline();
        let timer = self.timers.first().map(|(at, _)| *at);
        let ending = self.ending.as_ref().map(Ending::deadline);
        [ending, self.calls.next_deadline(), timer, paused, self.recheck_at, self.reload_at, self.floods.due]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_commands(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Listen(id, listener, done) => drop(done.send(self.listen(id, listener))),
                Command::Unlisten(id, why, done) => {
                    if let Err(SendError(listener)) = done.send(self.unlisten(id, &why, now)) {
                        drop_elsewhere(listener);
                    }
                }
                Command::Attach(id, link, done) => {
                    drop(done.send(self.attach(link, Via::Link(id), now)));
                }
                Command::Detach(id, why, done) => {
                    if let Err(SendError(link)) = done.send(self.detach(id, &why, now)) {
                        drop_elsewhere(link);
                    }
                }
                Command::Stop => self.stopping = true,
                Command::Shutdown(deadline, done) => self.begin_ending(deadline, done, now),
                other => self.handle_command(other, now),
            }
        }
        self.take_runs(now);
        while let Some(done) = self.pool.as_mut().and_then(Pool::take_done) {
            let call = self.end_call(done.key, Callee::Job(done.number));
            for denied in done.denied {
                self.deny(done.key.0, denied);
            }
            if let Some((address, len)) = &done.served {
                self.tally.addresses.note(address.as_address(), Count::message(*len));
            }
            let refused = done.refused.map(|refused| self.deny(done.key.0, refused));
            if let Some(kind) = refused.as_ref().map(Error::kind).or(done.failed) {
                self.peers.refuse(done.key.0, kind);
            }
            if let (Some(call), None) = (&call, &refused) {
                self.tally.handlers.note(call.began, now);
            }
            match (call, refused) {
                (Some(call), Some(error)) => self.fail_call(done.key, &call, &error),
                (Some(call), None) => self.answer_call(done.key, &call, &done.answer),
                (None, _) => {}
            }
        }
    }

    /// Makes a peer of whoever is at the other end of a link.
    pub(crate) fn attach(&mut self, mut link: Box<dyn HubLink>, via: Via, now: Instant) -> Result<()> {
        let options = link.options();
        let origin = link.origin();
        let may_come = check_suffix(&options).and_then(|()| self.make_room_for(&origin, now));
        let may_come = may_come.and(if self.ending.is_some() { Err(stops()) } else { Ok(()) });
        if let Err(error) = may_come {
            self.turn_away(&mut *link, &error);
            return Err(error);
        }
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
            requires_authentication: options.unauthenticated.is_none() && !options.keyed,
            lossy: line,
        };
        let mut session = Session::new(config);
        if options.lane {
            session.offer_lane();
        }
        session.offer_compression();
        session.set_clock(now, self.start_unix_us + now.as_micros());
        let handshake_by = now.plus_millis(limits.handshake_ms);
        let key = self.peers.insert(Peer {
            guesser: origin.party(),
            origin,
            via,
            connected_at: now,
            proven: None,
            link,
            options,
            session,
            clock: Peer::new_clock(line),
            probed_at: now,
            round_trip_us: None,
            name: String::new(),
            address: None,
            components: Vec::new(),
            rows: Rows::default(),
            subscriptions: Vec::new(),
            queue: Queue::default(),
            presence: Presence::Here,
            goodbye: None,
            watched: None,
            stuck: false,
            dirty: false,
            tell_missed_at: now,
            reopen_at: None,
            handshake_by,
            timer: None,
            pending_calls: 0,
            next_subscription: 0,
            errand: None,
            numbered: 0,
            translating: Budget::new(now, self.config.limits.translated_bytes),
            counters: Counters::default(),
        });
        let signal = self.signals.signal(key.data().as_ffi());
        if let Some(peer) = self.peers.get_mut(key) {
            peer.link.attached(signal);
        }
        if self.watch_link(key).is_none() {
            self.reopen(key, now);
        }
        self.poll_session(key, now);
        self.set_timer(key, now);
        if self.peers.get(key).is_some_and(|peer| peer.link.has_input()) {
            let ready = Ready { number: key.data().as_ffi(), input: true, output: false };
            self.serve_peer(key, &ready, false, now);
        }
        let gone = || Error::Connection("the connection cannot be waited on".to_owned());
        self.peers.get(key).map(|_| ()).ok_or_else(gone)
    }

    /// Whether one more connection may come from there; a stranger may have to go for it.
    fn make_room_for(&mut self, origin: &Origin, now: Instant) -> Result<()> {
        let Limits { max_peers, peers_per_user, .. } = self.config.limits;
        if self.peers.len() >= max_peers && !self.displace_stranger(now) {
            return Err(Error::Connection(format!(
                "{max_peers} connections are open, the limit: try again later"
            )));
        }
        let Some(counted) = origin.counted_as() else { return Ok(()) };
        if self.peers.of_user(counted) >= peers_per_user {
            let user = origin.uid().map_or_else(|| "no known user".to_owned(), |uid| format!("user {uid}"));
            return Err(Error::Connection(format!(
                "{peers_per_user} connections of {user} are open, the limit of one user: close some"
            )));
        }
        Ok(())
    }

    /// Says why on a link that gets no slot, as far as it goes at once.
    fn turn_away(&mut self, link: &mut dyn HubLink, error: &Error) {
        let error = visorbus_core::IpcError::new(error.kind(), error.text().as_str());
        let len = codec::encode_error(&Message::request(0, BUS_ADDRESS), &error, &mut self.out).unwrap_or(0);
        if link.has_room(self.out[0], len) {
            // Whoever has gone before that need not know.
            let _ = link.send(&self.out[..len], &[], true);
        }
        link.close(Goodbye::Full, error.text());
        let _ = link.flush(self.now());
    }

    /// Has epoll report the link's descriptor; `None` when it has none and should.
    pub(crate) fn watch_link(&mut self, key: PeerKey) -> Option<()> {
        let peer = self.peers.get_mut(key)?;
        if !peer.options.signalled {
            self.poller.add(peer.link.fd()?, key.data().as_ffi()).ok()?;
        }
        peer.watched = Some(Watched { output: false });
        Some(())
    }

    fn serve_peer(&mut self, key: PeerKey, ready: &Ready, single: bool, now: Instant) {
        let presence = self.peers.get(key).map(|peer| peer.presence);
        if let Some(Presence::Lingering { .. }) = presence {
            return self.serve_lingering(key, ready, now);
        }
        if ready.output {
            self.flush(key, now);
        }
        if !ready.input || presence.is_none() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.receive);
        buffer.clear();
        let received = self.peers.get_mut(key).map(|peer| peer.link.receive(&mut buffer));
        self.follow_link_key(key, now);
        let used = self.take_frames(key, buffer.as_slice(), single, now);
        if let (Some(peer), rest @ [_, ..]) = (self.peers.get_mut(key), &buffer.as_slice()[used..]) {
            peer.link.keep(rest);
        }
        if std::mem::take(&mut self.wipes_input) {
            buffer.wipe();
        }
        self.receive = buffer;
        if let Some(Err(error)) = received {
            self.peers.lose(key, &error);
        } else if self.peers.get(key).is_some_and(|peer| peer.options.lossy) {
            self.poll_session(key, now);
            self.peers.touch(key);
        } else if self.peers.get(key).is_some_and(|peer| !peer.link.is_idle()) {
            // It has an answer of its own to write, or begins to wait for the rest of something.
            self.peers.touch(key);
        }
        self.set_timer(key, now);
    }

    /// Handles the whole frames at the front of `bytes`; returns how many bytes they were.
    fn take_frames(&mut self, key: PeerKey, bytes: &[u8], single: bool, now: Instant) -> usize {
        let max = self.config.limits.max_frame as usize;
        let mut used = 0;
        // A peer that has to go is not listened to any longer.
        while self.peers.get(key).is_some_and(|peer| peer.presence == Presence::Here) {
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
                    self.peers.dismiss_as(key, Goodbye::Malformed, text);
                }
            }
        }
        bytes.len()
    }

    fn handle_frame(&mut self, key: PeerKey, frame: &[u8], at_once: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.counters.taken.bytes += frame.len() as u64;
        let aliases;
        let mut decoded = codec::decode(frame);
        if let Err(DecodeError::UnknownAlias(_)) = decoded {
            aliases = Arc::clone(&peer.rows.aliases);
            let is_early = peer.options.lossy && !peer.session.is_open();
            decoded = codec::decode_with(frame, |row| address_of(&aliases, row, is_early));
        }
        let message = match &mut decoded {
            Ok(message) => {
                peer.counters.taken.count(message.message_type as u8);
                message
            }
            Err(error) => {
                peer.counters.undecodable += 1;
                tracing::debug!("{}: a frame is no message: {error}", peer.label());
                let len = refuse_frame(frame, *error, &mut self.out);
                return self.send_out(key, len, at_once);
            }
        };
        if message.is_bare() {
            message.id = peer.number();
        }
        // What its sender says of the hub's clock does not count: only the hub knows that.
        message.uncertainty_us = None;
        if peer.clock.is_some() {
            self.map_timestamp(key, message);
        }
        let message = &*message;
        if is_for_another(message) {
            return self.forward_reply(&Incoming { from: key, message: *message, at_once, now });
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Err(error) = check_link_key(peer, message) {
            self.peers.refuse(key, error.kind());
            self.audit_refused(key, Some(AuthMethod::LinkKey), &error);
            return self.send_error(key, message, &error);
        }
        match peer.session.handle(message, now, &mut self.out) {
            Verdict::Deliver => self.deliver(&Incoming { from: key, message: *message, at_once, now }),
            Verdict::Answer(len) => self.send_out(key, len, at_once),
            Verdict::Refused { answer } => {
                self.peers.refuse(key, kind_of(&self.out[..answer]));
                let Some(peer) = self.peers.get_mut(key) else { return };
                if message.destination.is_some_and(|to| to.as_str() == bus::HELLO) {
                    // Whoever says hello knows of no session; it is told in plain frames.
                    peer.link.reset(None);
                }
                self.send_out(key, answer, at_once);
            }
            Verdict::Opened { answer } => {
                self.begin_anew(key, answer, at_once);
                self.handle_opened(key, now);
            }
            Verdict::Restarted { answer } => self.begin_anew(key, answer, at_once),
            Verdict::Authenticate { token } => self.handle_token(key, message, token, now),
            Verdict::Credentials => self.handle_credentials(key, message),
            Verdict::Authenticated => {
                self.tell_revocations(key);
                self.describe_rows(key, now);
            }
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
            Verdict::Echoed { id, stamp } => self.handle_echo(key, id, stamp),
            Verdict::Closed(CloseReason::Goodbye) if peer.options.lossy => {
                self.forget(key, "it said goodbye")
            }
            Verdict::Closed(_) => self.peers.dismiss_as(key, Goodbye::Normal, "it said goodbye"),
            Verdict::Drop(DropReason::Refused) => self.peers.refuse(key, ErrorKind::Authentication),
            Verdict::Drop(_) => self.peers.refuse(key, ErrorKind::Protocol),
        }
    }

    pub(crate) fn poll_session(&mut self, key: PeerKey, now: Instant) {
        self.prove_hub(key, now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let len = peer.session.poll_transmit(now, &mut self.out);
        self.send_out(key, len, true);
        self.poll_clock(key);
    }

    /// Ends what the session before has meant, and sends the answer to the hello. From then on nothing is lost on the way
    /// to and from a peer with which a session is open, where that can be.
    fn begin_anew(&mut self, key: PeerKey, answer: usize, at_once: bool) {
        // What the end of the earlier session brings about is written where the answer stands now.
        let answer = self.out[..answer].to_vec();
        self.forget(key, "it started again");
        if let Some(peer) = self.peers.get_mut(key) {
            peer.link.reset(peer.session.epoch());
        }
        self.out[..answer.len()].copy_from_slice(&answer);
        self.send_out(key, answer.len(), at_once);
    }

    fn handle_deadlines(&mut self, now: Instant) {
        while let Some((key, call)) = self.calls.take_expired(now) {
            self.tally.timeouts += 1;
            self.uncount_call(key.0);
            let text = format!("'{}' did not answer in time", call.destination.as_str());
            self.fail_call(key, &call, &Error::Timeout(text));
            self.cancel_call(key, &call);
        }
        if self.timers.first().is_some_and(|(at, _)| *at <= now) {
            self.handle_timers(now);
        }
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck(now);
        }
        if self.reload_at.is_some_and(|at| at <= now) {
            self.reload_changed(now);
        }
        if self.floods.due.is_some_and(|at| at <= now) {
            self.audit_floods(now);
        }
        self.listeners.handle_deadlines(&self.poller, now);
    }

    fn handle_timers(&mut self, now: Instant) {
        let due: Vec<PeerKey> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            self.clear_timer(key);
            self.handle_timer(key, now);
            // Whatever is still due after that is not due again before the next millisecond: the loop must not spin.
            self.set_timer(key, now.plus_millis(1));
        }
    }

    fn handle_timer(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        match peer.presence {
            Presence::Here => {}
            Presence::Leaving => return,
            Presence::Lingering { .. } => return self.close_lingering(key, now),
        }
        if peer.reopen_at.is_some_and(|at| at <= now) {
            return self.reopen(key, now);
        }
        if peer.name.is_empty() && !peer.options.lossy && peer.handshake_by <= now {
            let text = format!("no authentication within {} ms", self.config.limits.handshake_ms);
            self.send_error(key, &Message::request(0, BUS_ADDRESS), &Error::Authentication(text.clone()));
            return self.peers.dismiss(key, text);
        }
        while let Some(expired) = self.peers.get_mut(key).and_then(|peer| peer.session.handle_timeout(now)) {
            match expired {
                Expired::Session if self.peers.get(key).is_some_and(|peer| peer.options.lossy) => {
                    self.forget(key, "it was silent for three heartbeats");
                }
                Expired::Session => return self.peers.dismiss(key, "it was silent for three heartbeats"),
                Expired::Request { id } => self.describe_again(key, id, now),
            }
        }
        self.poll_session(key, now);
        let has_to_flush =
            |peer: &Peer| peer.options.lane || peer.link.poll_timeout().is_some_and(|at| at <= now);
        if self.peers.get(key).is_some_and(has_to_flush) {
            self.peers.touch(key);
        }
    }

    /// Has the peer looked at when it next needs the time, though not before `earliest`, unless that is done already.
    pub(crate) fn set_timer(&mut self, key: PeerKey, earliest: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(next) = peer.next_due().map(|next| next.max(earliest)) else { return };
        if peer.timer.is_none_or(|set| next < set) {
            if let Some(set) = peer.timer.replace(next) {
                self.timers.remove(&(set, key));
            }
            self.timers.insert((next, key));
        }
    }

    pub(crate) fn clear_timer(&mut self, key: PeerKey) {
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
    pub(crate) fn end_turn(&mut self, now: Instant) {
        loop {
            while let Some(key) = self.peers.take_dirty() {
                self.flush(key, now);
            }
            let Some((key, end)) = self.peers.take_ending() else { return };
            self.part_from(key, &end, now);
        }
    }

    /// Writes what waits for a peer as far as it goes, and tells it of what it missed once it has caught up, or now and
    /// then while it reads and does not.
    fn flush(&mut self, key: PeerKey, now: Instant) {
        let flushed = self.peers.flush(key);
        self.watch_output(key, flushed.blocked);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let keeps_time = peer.options.lane || peer.link.poll_timeout().is_some();
        if !flushed.left || (flushed.moved && peer.tell_missed_at <= now) {
            peer.tell_missed_at = now.plus_millis(TELL_MISSED_MS);
            self.tell_missed(key);
        }
        if keeps_time {
            // What was sent just now is looked after from now on.
            self.set_timer(key, now);
        }
    }

    /// Has epoll report room for output exactly while something waits for it.
    pub(crate) fn watch_output(&mut self, key: PeerKey, waits: bool) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.watched.is_some_and(|watched| watched.output != waits)
            && peer.presence == Presence::Here
            && let Some(fd) = peer.link.fd()
            && self.poller.watch(fd, key.data().as_ffi(), true, waits).is_ok()
        {
            peer.watched = Some(Watched { output: waits });
        }
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
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

/// The time on a clock that began with `start`; never its zero.
fn since(start: std::time::Instant) -> Instant {
    let micros = start.elapsed().as_micros();
    Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(1))
}

/// Whether a message answers what another peer, or the program, asked, and not the hub's own question: the ids of both may be the same.
fn is_for_another(message: &Message<'_>) -> bool {
    let is_for_another = |to: Address<'_>| to.component() != BUS || Questions::is_one(message.id);
    message.is_reply() && message.destination.is_some_and(is_for_another)
}

/// What a peer's alias stands for. Before hello, on a line, it may be one of a session that only the peer remembers: what
/// it sends is then read as far as it takes to ask who is there.
fn address_of(aliases: &[AddressBuf], row: u16, is_early: bool) -> Option<Address<'_>> {
    let told = aliases.get(usize::from(row)).map(AddressBuf::as_address);
    told.or(is_early.then_some(const { Address::literal(bus::NO_SUCH_ROW) }))
}

/// The kind of the Error in an answer.
fn kind_of(answer: &[u8]) -> ErrorKind {
    let kind = codec::decode(answer).ok().and_then(|error| error.payload.as_bytes().first().copied());
    kind.and_then(ErrorKind::from_code).unwrap_or(ErrorKind::Protocol)
}

pub(crate) const BUS_ADDRESS: Address<'static> = Address::literal(BUS);
/// Between two looks at the wall clock while there is something to do.
const READ_CLOCK_MS: u32 = 1_000;
/// From a look that finds accounts changed on disk until they are read.
const RELOAD_MS: u32 = 1_000;
/// From that until they are looked at again.
const RELOAD_AGAIN_MS: u32 = 10_000;
/// What the wall clock may be off before it is followed.
const CLOCK_STEP_US: u64 = 500_000;
/// Between two words on what it misses to a subscriber that does not keep up.
const TELL_MISSED_MS: u32 = 100;
