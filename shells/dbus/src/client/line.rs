//! A client's connection, driven by the client's thread: what is sent when, whose answer comes, who owns the service's name,
//! and whether that has seen the token. It never waits but for its socket and for orders.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use dbus::arg::messageitem::MessageItem;
use dbus::channel::Channel;
use dbus::strings::BusName;
use dbus::{Message, MessageType};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollOp, EpollTimeout};
use nix::sys::eventfd::EventFd;
use visorbus_hub::{Error, Result};

use super::refusal;
use super::shared::{Call, Order, Shared, Show, To, rule_call, tell};
use super::{DBusChange, guarded};
use crate::bus::connect_to;
use crate::types;

/// One connection to a bus, from its making to its end.
pub(super) struct Line<'a> {
    shared: &'a Shared,
    run: u64,
    wake: &'a EventFd,
    channel: Channel,
    unique_name: String,
    epoll: Epoll,
    socket: RawFd,
    /// What the socket is watched for: input, output.
    watched: (bool, bool),
    /// The connection that owns the service's name.
    owner: Option<String>,
    /// The service has been looked for, and has seen the token.
    is_ready: bool,
    /// The bus is starting the service.
    is_starting: bool,
    /// What waits for its answer, by the serial of its call.
    pending: HashMap<u32, Pending>,
    to_bus: VecDeque<Call>,
    to_service: VecDeque<Call>,
    /// The token that the service is looking at.
    proof: Option<Proof>,
    proofs: VecDeque<Show>,
    /// There was a connection before that calls went out on.
    is_again: bool,
    /// Why the service refused the token when it was shown by itself.
    refused: Option<Error>,
}

/// How a connection has ended.
pub(super) struct End {
    pub(super) why: Error,
    /// Calls went out on it.
    pub(super) was_ready: bool,
}

impl<'a> Line<'a> {
    /// Connects; this waits for the bus.
    pub(super) fn open(shared: &'a Shared, run: u64, wake: &'a EventFd, is_again: bool) -> Result<Self> {
        let bus = &shared.config().bus;
        let channel =
            connect_to(bus).map_err(|why| Error::Connection(format!("{bus} cannot be reached: {why}")))?;
        let unique_name = channel.unique_name().unwrap_or_default().to_owned();
        let (epoll, socket) = watch(&channel, wake).map_err(|errno| {
            Error::Internal(format!("the connection to the bus cannot be watched: {errno}"))
        })?;
        shared.up(run, &unique_name);
        Ok(Self {
            shared,
            run,
            wake,
            channel,
            unique_name,
            epoll,
            socket,
            watched: (false, false),
            owner: None,
            is_ready: false,
            is_starting: false,
            pending: HashMap::default(),
            to_bus: VecDeque::new(),
            to_service: VecDeque::new(),
            proof: None,
            proofs: VecDeque::new(),
            is_again,
            refused: None,
        })
    }

    /// Serves the connection until it ends. If it is the first, a refused token ends it too.
    pub(super) fn serve(&mut self) -> End {
        self.greet();
        let why = loop {
            // Before the orders are looked at: what is ordered after that wakes again. Nothing to read is no error.
            let _ = self.wake.read();
            let Some(orders) = self.shared.take_orders(self.run) else {
                break Error::Connection("the client has disconnected".to_owned());
            };
            orders.into_iter().for_each(|order| self.order(order));
            self.send_waiting();
            let is_drained = self.receive();
            self.expire(Instant::now());
            self.send_waiting();
            if let Some(why) = self.refused.take().filter(|_| !self.is_ready) {
                break why;
            }
            if is_drained && !self.channel.is_connected() {
                break Error::Connection(format!("{} has ended the connection", self.shared.config().bus));
            }
            if let Err(errno) = self.wait(is_drained) {
                break Error::Internal(format!("the connection to the bus cannot be watched: {errno}"));
            }
        };
        self.fail(&why);
        End { why, was_ready: self.is_ready }
    }

    /// Asks the bus to tell of the service and of signals, and who the service is.
    fn greet(&mut self) {
        let service = self.shared.service();
        let rule = format!(
            "type='signal',sender='{BUS}',path='{BUS_PATH}',interface='{BUS}',member='NameOwnerChanged',arg0='{service}'"
        );
        let rules = std::iter::once(rule).chain(self.shared.rules());
        for rule in rules.collect::<Vec<_>>() {
            self.send(rule_call("AddMatch", &rule), Pending::Rule);
        }
        self.ask_owner();
    }

    fn ask_owner(&mut self) {
        let name: &str = self.shared.service();
        self.send(Message::call_with_args(BUS, BUS_PATH, BUS, "GetNameOwner", (name,)), Pending::Owner);
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Call(call) if call.to == To::Bus => self.to_bus.push_back(call),
            Order::Call(call) => self.to_service.push_back(call),
            Order::Forget(id) => self.forget(id),
            Order::Show(show) if self.owner.is_none() && self.is_ready => {
                self.keep(&show);
                show.answer(Ok(()));
            }
            Order::Show(show) => self.proofs.push_back(show),
        }
    }

    /// Nobody waits for this call any more.
    fn forget(&mut self, id: u64) {
        self.to_bus.retain(|call| call.id != id);
        self.to_service.retain(|call| call.id != id);
        self.pending.retain(|_, pending| !matches!(pending, Pending::Call { id: other, .. } if *other == id));
    }

    /// Sends what may go out now. What the socket does not take waits here, not in libdbus, whose queue has no bound.
    fn send_waiting(&mut self) {
        while !self.channel.has_messages_to_send() {
            if let Some(call) = self.to_bus.pop_front() {
                self.send_call(call, None);
            } else if let Some(show) = self.next_proof() {
                self.prove(show);
            } else if !self.is_ready || self.proof.is_some() || self.to_service.is_empty() {
                return;
            } else if let Some(owner) = self.owner.clone() {
                if let Some(call) = self.to_service.pop_front() {
                    self.send_call(call, Some(owner));
                }
            } else if self.is_starting {
                return;
            } else {
                self.start_service();
            }
        }
    }

    /// Has the bus start the service; it does nothing where the service runs.
    fn start_service(&mut self) {
        self.is_starting = true;
        let name: &str = self.shared.service();
        self.send(
            Message::call_with_args(BUS, BUS_PATH, BUS, "StartServiceByName", (name, 0_u32)),
            Pending::Start,
        );
    }

    /// Sends a program's call, to the connection that owns the service's name, or to the bus.
    fn send_call(&mut self, call: Call, owner: Option<String>) {
        let Call { id, mut message, answer, .. } = call;
        if let Some(owner) = owner.as_deref().and_then(|owner| BusName::new(owner).ok()) {
            message.set_destination(Some(owner));
        }
        let sent = self.channel.send(message);
        let Some(answer) = answer else { return };
        match sent {
            Ok(serial) => {
                self.pending.insert(serial, Pending::Call { id, owner, answer });
            }
            Err(()) => tell(&answer, Err(Error::Internal("libdbus has no memory for a call".to_owned()))),
        }
    }

    fn send(&mut self, message: Message, pending: Pending) {
        if let Ok(serial) = self.channel.send(message) {
            self.pending.insert(serial, pending);
        }
    }

    fn next_proof(&mut self) -> Option<Show> {
        if self.proof.is_some() || self.owner.is_none() { None } else { self.proofs.pop_front() }
    }

    /// Shows the service a token; calls wait until it has answered.
    fn prove(&mut self, show: Show) {
        let Some(owner) = self.owner.clone() else { return };
        let call = Message::call_with_args(
            owner,
            self.shared.root().clone(),
            BRIDGE,
            "Authenticate",
            (show.token.as_str(),),
        );
        match self.channel.send(call) {
            Ok(serial) => {
                self.pending.insert(serial, Pending::Proof);
                self.proof = Some(Proof {
                    serial,
                    show,
                    until: Instant::now() + self.shared.config().timeout.min(LONGEST_LOOK),
                });
            }
            Err(()) => show.answer(Err(Error::Internal("libdbus has no memory for a call".to_owned()))),
        }
    }

    /// Takes what has arrived, a bounded number of messages; says whether that was all.
    fn receive(&mut self) -> bool {
        // What it says, `is_connected` says too.
        let _ = self.channel.read_write(Some(Duration::ZERO));
        for _ in 0..BUDGET {
            let Some(message) = self.channel.pop_message() else { return true };
            self.hear(message);
        }
        false
    }

    fn hear(&mut self, message: Message) {
        match message.msg_type() {
            MessageType::MethodReturn | MessageType::Error => self.hear_answer(message),
            MessageType::Signal => self.hear_signal(message),
            MessageType::MethodCall => self.refuse(&message),
        }
    }

    /// An answer: it counts only from whom was asked, or from the bus in its place.
    fn hear_answer(&mut self, mut message: Message) {
        let Some(serial) = message.get_reply_serial() else { return };
        let sender = message.sender();
        let is_from = |who: &str| sender.as_deref() == Some(who);
        let expected = match self.pending.get(&serial) {
            Some(Pending::Call { owner: Some(owner), .. }) => is_from(owner) || is_from(BUS),
            Some(Pending::Proof) => self.owner.as_deref().is_some_and(is_from) || is_from(BUS),
            Some(_) => is_from(BUS),
            None => false,
        };
        drop(sender);
        let taken = expected.then(|| self.pending.remove(&serial)).flatten();
        let Some(pending) = taken else { return };
        let result = match message.msg_type() {
            MessageType::Error => Err(guarded(|| refusal::of(&mut message)).unwrap_or_else(|error| error)),
            _ => Ok(message),
        };
        match pending {
            Pending::Call { answer, .. } => tell(&answer, result),
            Pending::Rule => {
                if let Err(error) = result {
                    tracing::warn!("the bus does not tell a client of signals: {error}");
                    self.shared.tell(DBusChange::HandlerRefused(error));
                }
            }
            Pending::Owner => self.hear_owner(result),
            Pending::Start => self.hear_started(result),
            Pending::Proof => self.hear_proof(serial, result.map(|_| ())),
        }
    }

    fn hear_owner(&mut self, result: Result<Message>) {
        let owner = result.and_then(|message| match texts(&message).as_deref() {
            Some([owner]) => Ok(owner.clone()),
            _ => Err(Error::Protocol("the bus has not said who owns a name".to_owned())),
        });
        let was_starting = std::mem::take(&mut self.is_starting);
        match owner {
            Ok(owner) => self.set_owner(Some(owner)),
            Err(error) if was_starting => self.fail_calls(&error),
            // Nobody does.
            Err(_) => {}
        }
        self.settle(Ok(()));
    }

    fn hear_started(&mut self, result: Result<Message>) {
        match result {
            Ok(_) if self.owner.is_none() => self.ask_owner(),
            Ok(_) => self.is_starting = false,
            Err(error) => {
                self.is_starting = false;
                self.fail_calls(&error);
            }
        }
    }

    fn hear_proof(&mut self, serial: u32, result: Result<()>) {
        let Some(proof) = self.proof.take_if(|proof| proof.serial == serial) else { return };
        match (&result, &proof.show.answer) {
            (Ok(()), _) => {
                self.keep(&proof.show);
                self.shared.set_service(self.run, self.owner.as_deref(), true);
                self.shared.tell(DBusChange::Authenticated);
            }
            (Err(error), None) if self.is_ready => {
                tracing::warn!("{} refuses the token: {error}", self.shared.service());
                self.shared.tell(DBusChange::AuthenticationRefused(error.clone()));
            }
            (Err(error), None) => self.refused = Some(error.clone()),
            (Err(_), Some(_)) => {}
        }
        proof.show.answer(result.clone());
        self.settle(result);
    }

    /// A token that was given is shown again whenever that is needed.
    fn keep(&self, show: &Show) {
        if show.answer.is_some() {
            let before = self.shared.lock().token.replace(show.token.clone());
            drop(before);
        }
    }

    /// Calls go out from now on, unless a token is still looked at, or was refused on the first connection.
    fn settle(&mut self, outcome: Result<()>) {
        let waits = self.proof.is_some() || !self.proofs.is_empty();
        if self.is_ready || waits || (self.refused.is_some() && !self.is_again) {
            return;
        }
        self.is_ready = true;
        self.shared.ready(self.run, &self.unique_name, &outcome);
        if let Some(error) = self.refused.take() {
            self.shared.tell(DBusChange::AuthenticationRefused(error));
        }
    }

    /// The service's name is owned by another connection, or by none.
    fn set_owner(&mut self, owner: Option<String>) {
        if owner == self.owner {
            return;
        }
        self.owner.clone_from(&owner);
        self.shared.set_service(self.run, owner.as_deref(), false);
        let gone = Error::Connection(format!("{} has ended before it has answered", self.shared.service()));
        if let Some(proof) = self.proof.take() {
            self.pending.remove(&proof.serial);
            proof.show.answer(Err(gone));
        }
        match owner {
            Some(owner) => {
                self.shared.tell(DBusChange::ServiceAppeared { owner });
                let token = self.shared.lock().token.clone();
                self.proofs.extend(token.map(|token| Show { token, answer: None }));
            }
            None => {
                self.shared.tell(DBusChange::ServiceGone);
                self.settle(Ok(()));
            }
        }
    }

    fn hear_signal(&mut self, message: Message) {
        let sender = message.sender();
        if sender.as_deref() == Some(BUS) && message.member().as_deref() == Some("NameOwnerChanged") {
            if let Some([name, _, owner]) = texts(&message).as_deref()
                && *name == **self.shared.service()
            {
                self.set_owner((!owner.is_empty()).then(|| owner.clone()));
                if self.owner.is_some() {
                    self.is_starting = false;
                }
            }
        } else if sender.is_some() && sender.as_deref() == self.owner.as_deref() {
            drop(sender);
            self.hear_session(&message);
            self.shared.heard(message);
        }
    }

    /// The service may say that it does not know this client any more.
    fn hear_session(&self, signal: &Message) {
        let is_end = signal.member().as_deref() == Some("SessionEnded")
            && signal.interface().as_deref() == Some(BRIDGE)
            && signal.destination().as_deref() == Some(self.unique_name.as_str());
        if is_end && let Some([reason]) = texts(signal).as_deref() {
            self.shared.set_service(self.run, self.owner.as_deref(), false);
            self.shared.tell(DBusChange::SessionEnded(reason.clone()));
        }
    }

    /// Nothing can be called here but the peer's `Ping`. Answers are dropped while the bus does not take what there is. The
    /// machine's id is not given: where there is none, libdbus ends the process.
    fn refuse(&self, call: &Message) {
        if call.get_no_reply() || self.channel.has_messages_to_send() {
            return;
        }
        let is_ping = call.interface().as_deref() == Some("org.freedesktop.DBus.Peer")
            && call.member().as_deref() == Some("Ping");
        let reply = if is_ping {
            call.method_return()
        } else {
            call.error(
                &"org.freedesktop.DBus.Error.UnknownMethod".into(),
                c"this program is a client: nothing can be called here",
            )
        };
        // Fails only without memory.
        let _ = self.channel.send(reply);
    }

    /// A service that does not look at a token keeps nobody waiting.
    fn expire(&mut self, now: Instant) {
        if let Some(serial) = self.proof.as_ref().filter(|proof| proof.until <= now).map(|proof| proof.serial)
        {
            self.pending.remove(&serial);
            let timeout = self.shared.config().timeout;
            let text = format!("{} did not answer to Authenticate within {timeout:?}", self.shared.service());
            self.hear_proof(serial, Err(Error::Timeout(text)));
        }
    }

    /// Fails what waits for the service to be there.
    fn fail_calls(&mut self, why: &Error) {
        self.to_service.drain(..).for_each(|call| call.answer(Err(why.clone())));
    }

    /// Fails all that waits.
    fn fail(&mut self, why: &Error) {
        self.fail_calls(why);
        self.to_bus.drain(..).for_each(|call| call.answer(Err(why.clone())));
        self.proofs
            .drain(..)
            .chain(self.proof.take().map(|proof| proof.show))
            .for_each(|show| show.answer(Err(why.clone())));
        for (_, pending) in self.pending.drain() {
            if let Pending::Call { answer, .. } = pending {
                tell(&answer, Err(why.clone()));
            }
        }
    }

    /// Waits for the socket, for orders, or until a time is over.
    fn wait(&mut self, is_drained: bool) -> nix::Result<()> {
        self.watch_socket()?;
        let timeout = match &self.proof {
            _ if !is_drained => EpollTimeout::ZERO,
            Some(proof) => {
                let left = proof.until.saturating_duration_since(Instant::now());
                EpollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(EpollTimeout::MAX)
            }
            None => EpollTimeout::NONE,
        };
        match self.epoll.wait(&mut [EpollEvent::empty(); 2], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Watches the socket for what libdbus wants of it now.
    fn watch_socket(&mut self) -> nix::Result<()> {
        let wishes = self.channel.watch();
        let wanted = (wishes.read, wishes.write);
        if wanted != self.watched {
            control(&self.epoll, EpollOp::EpollCtlMod, self.socket, wanted)?;
            self.watched = wanted;
        }
        Ok(())
    }
}

/// What waits for its answer.
enum Pending {
    /// The call of a program; `owner` is the connection that it went to, `None` for the bus.
    Call { id: u64, owner: Option<String>, answer: SyncSender<Result<Message>> },
    /// The bus is to tell of signals.
    Rule,
    /// The bus is to say who owns the service's name.
    Owner,
    /// The bus is to start the service.
    Start,
    /// The service looks at [`Line::proof`].
    Proof,
}

/// A token that the service looks at.
struct Proof {
    serial: u32,
    show: Show,
    until: Instant,
}

/// What wakes the thread: the bus, and orders.
fn watch(channel: &Channel, wake: &EventFd) -> nix::Result<(Epoll, RawFd)> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(wake, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
    let socket = channel.watch().fd;
    control(&epoll, EpollOp::EpollCtlAdd, socket, (false, false))?;
    Ok((epoll, socket))
}

/// Watches a socket of libdbus, which owns it and lends no handle of it; it is closed with the channel, after the epoll.
#[allow(
    deprecated,
    reason = "the only way without unsafe code to watch a descriptor that somebody else owns"
)]
fn control(epoll: &Epoll, operation: EpollOp, socket: RawFd, (read, write): (bool, bool)) -> nix::Result<()> {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, read);
    flags.set(EpollFlags::EPOLLOUT, write);
    let mut event = EpollEvent::new(flags, 0);
    nix::sys::epoll::epoll_ctl(epoll.0.as_raw_fd(), operation, socket, Some(&mut event))
}

/// The arguments of a message of the bus, where all of them are texts.
fn texts(message: &Message) -> Option<Vec<String>> {
    let arguments = guarded(|| types::read_items(message)).ok()?.ok()?;
    let text = |argument| match argument {
        MessageItem::Str(text) => Some(text),
        _ => None,
    };
    arguments.into_iter().map(text).collect()
}

/// What a program calls is its own affair; the serials are ours.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// The bus's own name and interface, and its object.
pub(super) const BUS: &str = "org.freedesktop.DBus";
pub(super) const BUS_PATH: &str = "/org/freedesktop/DBus";
/// The interface that takes tokens.
const BRIDGE: &str = "org.visorbus.Bus1";
/// A service may look at a token for so long at most.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);
/// Messages in a row.
const BUDGET: usize = 64;
