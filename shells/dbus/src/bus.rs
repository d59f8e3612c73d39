//! A service's end of a bus: the connection, who calls over it, and their sessions in the hub.
//!
//! The way of a call: `connection → sender → router → session → link → hub`, and of its answer the way back. All of it is
//! driven in the hub's loop; what other threads may do is behind the same lock, which nobody holds for long.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use dbus::channel::Channel;
use dbus::{Message, MessageType};
use nix::sys::eventfd::EventFd;
use slotmap::SlotMap;
use visorbus_hub::{Error, HubHandle, Result};

use crate::config::DBusConfig;
use crate::listener::{DBusState, DBusStatistics};
use crate::router::Router;

mod calls;
mod chain;
mod connection;
mod dial;
mod link;
mod name;
mod senders;
mod session;
mod sessions;
mod shared;

#[cfg(test)]
mod tests;

pub(crate) use shared::Shared;

pub(crate) use connection::length;
use connection::{BUS, Connection, Query};
pub(crate) use dial::connect_to;
use dial::dial;
use name::{Backoff, DO_NOT_QUEUE, Name, refusal};
use senders::{Credentials, SenderKey, Senders};
use session::{Session, SessionKey};

/// Fast, and seeded at random, so that nobody can choose names that collide.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// All that a service on a bus is.
struct Bus {
    config: DBusConfig,
    router: Router,
    line: Line,
    /// Why there is no connection, or none that is of use yet.
    trouble: Option<String>,
    /// What was told of that last: once, not whenever it is met again.
    told_trouble: Option<String>,
    /// Since when the bus tells of those who leave it, which is when a connection begins to be of use.
    since: Option<Instant>,
    /// That the bus takes nothing that is sent.
    stall: Option<String>,
    /// That the bus does not tell who calls.
    blind: Option<String>,
    retry: Backoff,
    name: Name,
    senders: Senders,
    sessions: SlotMap<SessionKey, Session>,
    /// Sessions that the hub has no link of yet.
    new: Vec<SessionKey>,
    /// The session of everybody who has none.
    guest: Option<SessionKey>,
    /// What this service is among those of this process: their senders may have the same unique names.
    number: u32,
    /// Messages that were read are not taken yet, or may not be.
    is_behind: bool,
    /// The first of them.
    ahead: Option<Message>,
    /// Senders that the bus has told of since they first called, and that have calls from before that.
    told: VecDeque<SenderKey>,
    /// Some session has something that waits for room.
    has_stuck: bool,
    /// Wakes the hub.
    waker: Arc<EventFd>,
    /// When a session next needs the time.
    session_due: Option<Instant>,
    counts: DBusStatistics,
}

/// How the service stands with its bus.
enum Line {
    /// To be dialled then.
    Down {
        again: Instant,
    },
    /// Somebody is dialling, and says here what came of it.
    Dialling(Receiver<std::result::Result<Channel, String>>),
    Up(Box<Connection>),
    /// The listener is gone.
    Closed,
}

impl Bus {
    fn new(config: DBusConfig, hub: &HubHandle, waker: Arc<EventFd>, number: u32) -> Self {
        let hub = hub.clone();
        let router =
            Router::new(&config.object_path, &config.service_name, Box::new(move || hub.types_generation()));
        let retry = Duration::from_millis(u64::from(config.retry_ms));
        Self {
            router,
            line: Line::Down { again: Instant::now() },
            trouble: None,
            told_trouble: None,
            since: None,
            stall: None,
            blind: None,
            retry: Backoff::new(retry),
            name: Name::new(&config.service_name, retry),
            senders: Senders::new(config.max_senders),
            sessions: SlotMap::with_key(),
            new: Vec::new(),
            guest: None,
            number,
            is_behind: false,
            ahead: None,
            told: VecDeque::new(),
            has_stuck: false,
            waker,
            session_due: None,
            counts: DBusStatistics::default(),
            config,
        }
    }

    /// Takes what has come, a bounded amount; `has_input`: the socket has something to read, or room.
    fn take_input(&mut self, has_input: bool, now: Instant) {
        let is_full = self.connection().is_some_and(|line| line.is_full());
        // What was read is taken first, unless nothing can be until something is written.
        let reads = has_input && (!self.is_behind || is_full);
        let start = Instant::now();
        if self.has_room() {
            self.safely(|bus| bus.take_early(now));
        }
        loop {
            if reads && !self.connection().is_none_or(Connection::read_and_write) {
                // What it has said last is still to be taken.
                self.drain(usize::MAX, now);
                return self.hang_up("the bus has ended the connection", now);
            }
            let taken;
            (taken, self.is_behind) = self.drain(AT_A_TIME, now);
            // Of a long message there is little at a time.
            let is_part = reads && taken == 0 && !self.is_behind && matches!(self.line, Line::Up(_));
            if !is_part || start.elapsed() >= READING {
                return;
            }
        }
    }

    /// Takes at most `most` messages that were read; how many it took, and whether there are more, or may be.
    fn drain(&mut self, most: usize, now: Instant) -> (usize, bool) {
        for taken in 0..most {
            if !self.has_room() {
                return (taken, true);
            }
            let Some(message) = self.next() else { return (taken, false) };
            self.safely(|bus| bus.take(message, now));
        }
        // Only so it is known.
        self.ahead = self.next();
        (most, self.ahead.is_some())
    }

    /// Does something that must not end the hub if it breaks.
    fn safely(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.counts.faults += 1;
            tracing::error!("something broke over what the bus has brought; it was not taken");
        }
    }

    /// The next message that was read.
    fn next(&mut self) -> Option<Message> {
        self.ahead.take().or_else(|| self.connection()?.next())
    }

    fn take(&mut self, message: Message, now: Instant) {
        match message.msg_type() {
            MessageType::MethodCall => self.take_call(message, now),
            MessageType::Signal => self.take_signal(&message, now),
            MessageType::MethodReturn | MessageType::Error if is_from_bus(&message) => {
                self.take_answer(message, now)
            }
            // Nobody else is asked for anything.
            MessageType::MethodReturn | MessageType::Error => {}
        }
    }

    /// Takes what the bus says of itself.
    fn take_signal(&mut self, signal: &Message, now: Instant) {
        let (interface, member) = (signal.interface(), signal.member());
        let interface = interface.as_deref().unwrap_or_default();
        if interface == LOCAL {
            // libdbus itself says so, and nobody else can.
            return self.hang_up("the bus has ended the connection", now);
        }
        if interface != BUS || !is_from_bus(signal) {
            return;
        }
        match member.as_deref().unwrap_or_default() {
            "NameOwnerChanged" => {
                if let Ok((name, _, "")) = signal.read3::<&str, &str, &str>() {
                    self.take_gone(name, now);
                }
            }
            "NameLost" => {
                if let Ok(name) = signal.read1::<&str>() {
                    self.name.lost(name, now);
                }
            }
            _ => {}
        }
    }

    fn take_gone(&mut self, name: &str, now: Instant) {
        if let Some(key) = self.senders.by_name(name) {
            self.forget_sender(key);
        }
        if self.name.is_wanted(Some(name), now) {
            self.ask_for_name();
        }
    }

    /// Takes what the bus answers.
    fn take_answer(&mut self, mut answer: Message, now: Instant) {
        let query = self.connection().and_then(|line| line.answered(&answer));
        match (query, refusal(&answer)) {
            (Some(Query::Name), _) => self.name.answered(&answer, now),
            (Some(Query::Credentials(sender)), None) => {
                self.take_credentials(sender, &Credentials::read(&answer))
            }
            (Some(Query::Credentials(sender)), Some(why)) => {
                match answer.as_result().err().as_ref().and_then(dbus::Error::name) {
                    // It has left before the bus was asked.
                    Some("org.freedesktop.DBus.Error.NameHasNoOwner") => self.forget_sender(sender),
                    _ => self.refuse_early(sender, &why),
                }
            }
            (Some(Query::Rule), None) => {
                self.trouble = None;
                self.since = Some(now);
            }
            // Whoever leaves could not be told from whoever stays.
            (Some(Query::Rule), Some(error)) => {
                self.hang_up(&format!("the bus does not tell who leaves it: {error}"), now)
            }
            (None, _) => {}
        }
    }

    /// Does what the time asks for.
    fn take_time(&mut self, now: Instant) {
        match &mut self.line {
            Line::Down { again } if *again <= now => {
                self.line = Line::Dialling(dial(&self.config.bus, Arc::clone(&self.waker)));
            }
            Line::Up(_) if self.name.is_wanted(None, now) => self.ask_for_name(),
            _ => {}
        }
        if self.session_due.is_some_and(|due| due <= now) {
            self.serve_sessions(now);
        }
        self.look_for_stall(now);
    }

    /// A bus that takes nothing for a while is told of. It is not left: a bus that has stopped reading a connection, because
    /// it has too much of it that nobody reads, does not notice the end of that connection either, and keeps its name.
    fn look_for_stall(&mut self, now: Instant) {
        let line = if let Line::Up(line) = &self.line { Some(line) } else { None };
        let lasts = |since| now.saturating_duration_since(since) >= STALLED_AFTER;
        let Some(line) = line.filter(|line| line.waiting_since().is_some_and(lasts)) else {
            self.stall = None;
            return;
        };
        if self.stall.is_none() {
            let stall = format!(
                "the bus has taken nothing for {} s: perhaps programs on it do not read the answers to their calls; end those, \
                 or raise the bus's limit max_incoming_bytes",
                STALLED_AFTER.as_secs()
            );
            tracing::warn!("{stall}; {} bytes wait for it", line.output());
            self.stall = Some(stall);
        }
    }

    /// Takes what came of dialling.
    fn take_line(&mut self, now: Instant) {
        let Line::Dialling(outcome) = &self.line else { return };
        match outcome.try_recv() {
            Ok(Ok(channel)) => self.begin(channel),
            Ok(Err(error)) => self.miss(&error, now),
            Err(TryRecvError::Disconnected) => self.miss("something broke over connecting to it", now),
            Err(TryRecvError::Empty) => {}
        }
    }

    /// When something has to be done by itself.
    fn deadline(&self) -> Option<Instant> {
        let line = match &self.line {
            Line::Down { again } => Some(*again),
            Line::Up(line) if self.stall.is_none() => line.waiting_since().map(|since| since + STALLED_AFTER),
            _ => None,
        };
        [line, self.name.deadline(), self.session_due].into_iter().flatten().min()
    }

    fn begin(&mut self, channel: Channel) {
        let mut line = Box::new(Connection::new(channel, self.config.output_bytes));
        tracing::info!("connected to {} as {}", self.config.bus, line.unique_name());
        self.counts.connects += 1;
        // Before anything else, so that nobody leaves unseen who has called.
        line.ask("AddMatch", (GONE,), Query::Rule);
        self.line = Line::Up(line);
        // What came while it was registered.
        self.is_behind = true;
        self.ask_for_name();
    }

    fn ask_for_name(&mut self) {
        let name = self.config.service_name.clone();
        if let Some(line) = self.connection() {
            line.ask("RequestName", (name, DO_NOT_QUEUE), Query::Name);
            self.name.asked();
        }
    }

    /// There is no bus any longer, nor anybody who was on it.
    fn hang_up(&mut self, why: &str, now: Instant) {
        if !matches!(self.line, Line::Up(_)) {
            return;
        }
        self.line = Line::Closed;
        for sender in self.senders.keys() {
            self.forget_sender(sender);
        }
        self.name.forget();
        self.is_behind = false;
        self.ahead = None;
        self.told.clear();
        (self.stall, self.blind) = (None, None);
        // A bus that ends every connection at once is tried less and less often.
        let lasted = self.since.take().map(|since| now.saturating_duration_since(since));
        if lasted.is_some_and(|lasted| lasted >= self.retry.coming()) {
            self.retry.reset();
        }
        if lasted.is_some_and(|lasted| lasted >= LASTING) {
            self.told_trouble = None;
        }
        self.miss(why, now);
    }

    fn miss(&mut self, why: &str, now: Instant) {
        if self.told_trouble.as_deref() != Some(why) {
            tracing::warn!(
                "there is no D-Bus here for now, {} is not there: {why}; it is tried again",
                self.config.bus
            );
        }
        self.trouble = Some(why.to_owned());
        self.told_trouble = self.trouble.clone();
        self.line = Line::Down { again: now + self.retry.next() };
    }

    /// Leaves the bus for good.
    fn close(&mut self) {
        for sender in self.senders.keys() {
            self.forget_sender(sender);
        }
        self.line = Line::Closed;
        self.name.forget();
        self.trouble = Some("the service has ended".to_owned());
        self.new.clear();
    }

    /// Sends what is no answer to anybody.
    fn send(&mut self, messages: Vec<Message>) -> Result<()> {
        let bus = self.config.bus.to_string();
        let Some(line) = self.connection() else {
            return Err(Error::Connection(format!("{bus} is not there: nobody hears this")));
        };
        if line.is_full() {
            return Err(Error::Connection(format!(
                "{bus} takes nothing: {} bytes wait for it",
                line.output()
            )));
        }
        for message in messages {
            line.send(message);
        }
        Ok(())
    }

    /// Whether the bus takes more.
    fn has_room(&self) -> bool {
        if let Line::Up(line) = &self.line { !line.is_full() } else { true }
    }

    /// Has the hub look again at sessions that had no room.
    fn unstick(&mut self) {
        if self.has_stuck && self.has_room() {
            self.has_stuck = false;
            self.sessions.values_mut().for_each(Session::unstick);
        }
    }

    /// Whether there is something to do at once.
    fn is_ready(&self) -> bool {
        !self.new.is_empty() || ((self.is_behind || !self.told.is_empty()) && self.has_room())
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.line {
            Line::Up(line) => Some(line),
            _ => None,
        }
    }

    fn state(&self) -> DBusState {
        let line = if let Line::Up(line) = &self.line { Some(line) } else { None };
        DBusState {
            bus: self.config.bus.to_string(),
            service_name: self.config.service_name.clone(),
            object_path: self.config.object_path.clone(),
            unique_name: line.map(|line| line.unique_name().to_owned()),
            owns_name: self.name.is_owned(),
            trouble: [&self.trouble, &self.stall, &self.blind]
                .into_iter()
                .find_map(Option::as_deref)
                .or(self.name.trouble())
                .map(str::to_owned),
        }
    }

    fn statistics(&self) -> DBusStatistics {
        DBusStatistics {
            senders: self.senders.iter().count(),
            sessions: self.senders.iter().filter(|sender| sender.session.is_some()).count(),
            waiting: self.senders.iter().map(|sender| sender.calls).sum(),
            output_bytes: if let Line::Up(line) = &self.line { line.output() } else { 0 },
            ..self.counts.clone()
        }
    }
}

/// Whether the bus itself has sent it: it alone can say so.
fn is_from_bus(message: &Message) -> bool {
    message.sender().is_some_and(|sender| &*sender == BUS)
}

/// What the bus tells of: every name that nobody has any longer. One rule for all, because a bus keeps few for each.
const GONE: &str = "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',\
                    interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''";
/// By which libdbus tells of its own connection.
const LOCAL: &str = "org.freedesktop.DBus.Local";
/// Messages that are taken in one turn of the hub's: other peers wait no longer than these take.
const AT_A_TIME: usize = 1;
/// For how long parts of a message are read in one turn.
const READING: Duration = Duration::from_micros(50);
/// When a connection that has lasted for so long ends, it is told of, whatever was told before.
const LASTING: Duration = Duration::from_secs(30);
/// A bus that takes nothing for so long is told of.
const STALLED_AFTER: Duration = Duration::from_secs(2);
