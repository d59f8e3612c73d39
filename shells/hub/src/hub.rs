//! The hub and its loop: what can wake it, what it does in a turn, and when it has to wake by itself.
//!
//! One thread. A frame is decoded once, borrowed from where it was read; forwarding writes a new header and the old
//! payload. Nothing is written to one peer from another's read but through that peer's own bounded queue.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use slotmap::{Key as _, KeyData};
use visorbus_core::Instant;
use visorbus_core::auth::BUS;
use visorbus_core::message::{Address, Message};

use crate::HashMap;
use crate::accounts::{Asker, Purpose};
use crate::asking::Questions;
use crate::audit::Floods;
use crate::calls::Calls;
use crate::config::{HubConfig, unix_micros};
use crate::ending::Ending;
use crate::errands::{Errand, Errands};
use crate::handle::{Command, HubHandle};
use crate::handlers::{Pool, Registry};
use crate::link::ReceiveBuffer;
use crate::listeners::Listeners;
use crate::owned::{Error, Result};
use crate::peer::{Presence, Watched};
use crate::peers::{PeerKey, Peers};
use crate::poller::{Poller, Ready, WOKEN};
use crate::signals::Signals;
use crate::subscriptions::Matches;
use crate::tally::Tally;
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
    pub(crate) signals: Arc<Signals>,
    /// Those that are being served.
    signalled: Vec<Ready>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) listeners: Listeners,
    /// When a peer's session, handshake or link next needs the time.
    pub(crate) timers: BTreeSet<(Instant, PeerKey)>,
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
        let (signals, pulse) = (handle.signals(), handle.pulse());
        let out = vec![0; config.limits.max_frame as usize];
        Ok(Self {
            peers: Peers::new(&config.limits),
            names: HashMap::default(),
            registry: Registry::new(pulse),
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
                WOKEN => {
                    self.handle_commands(now);
                    self.take_runs(now);
                    self.take_jobs(now);
                }
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
    pub(crate) fn flush(&mut self, key: PeerKey, now: Instant) {
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
