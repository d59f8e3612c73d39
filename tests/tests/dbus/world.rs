//! A hub on a private bus and on a Unix socket, with a handler that counts and one that takes its time, somebody on the
//! socket who minds their own business, and programs on the bus.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dbus::arg::{PropMap, RefArg, Variant};
use dbus::channel::Channel;
use dbus::{Message, MessageType};
use visorbus_auth::{Accounts, AuthToken, KeyFile, Policy, Store, TokenRequest};
use visorbus_core::IpcError;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::message::MessagePayload;
use visorbus_dbus::{BusAddress, DBusConfig, DBusDoor, DBusListener, DBusState};
use visorbus_hub::info::PeerInfo;
use visorbus_hub::{Hub, HubConfig, HubHandle, Limits, OwnedPayload, Result};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::ask_until;
use visorbus_tests::raw_peer::RawPeer;

/// The hub and all who are not attacked. It ends with the test.
pub(crate) struct World {
    pub(crate) handle: HubHandle,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) door: DBusDoor,
    thread: Option<JoinHandle<Result<()>>>,
    runs: Arc<AtomicUsize>,
    /// Held shut, the handler `slow` does not return.
    pub(crate) gate: Arc<Gate>,
    bystander: RefCell<(RawPeer, usize)>,
}

impl World {
    /// A hub whose policy takes this user for `panel`, which may call both handlers.
    pub(crate) fn start(bus: &DbusDaemon) -> Self {
        Self::with(config(bus), &panel_policy())
    }

    /// A hub whose policy knows nobody.
    pub(crate) fn of_strangers(bus: &DbusDaemon) -> Self {
        Self::with(config(bus), "")
    }

    pub(crate) fn with(config: DBusConfig, policy: &str) -> Self {
        let policy = Arc::new(Policy::parse(policy).unwrap());
        let keys = KeyFile::in_memory(1, [7; 32]);
        let accounts = Arc::new(Accounts::new(Arc::new(Store::in_memory()), keys, Arc::clone(&policy)));
        let limits = Limits { request_ms: 60_000, ..Limits::default() };
        let hub_config = HubConfig::with_providers(Arc::clone(&accounts) as _, policy);
        let hub = Hub::new(HubConfig { limits, ..hub_config }).unwrap();
        let handle = hub.handle();
        let thread = Some(thread::spawn(move || hub.run()));
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Gate::default()));
        for (id, gate) in [("vault", None), ("slow", Some(Arc::clone(&gate)))] {
            handle.register_handler(Box::new(Counting { id, runs: Arc::clone(&runs), gate })).unwrap();
        }
        let mut bystander = RawPeer::attach(&handle);
        bystander.hello("bystander").unwrap();
        let token =
            accounts.mint(&TokenRequest::new("bystander", &["request:vault/*", "notify:news/**"])).unwrap();
        bystander.authenticate(&token.value.to_bytes().unwrap()).unwrap();
        let (listener, door) = DBusListener::new(config, &handle).unwrap();
        handle.listen(Box::new(listener)).unwrap();
        Self { handle, accounts, door, thread, runs, gate, bystander: RefCell::new((bystander, 0)) }
    }

    /// Waits until the service has its name.
    pub(crate) fn named(self) -> Self {
        self.state_where(|state| state.owns_name);
        self
    }

    /// Waits until its state is `so`.
    #[track_caller]
    pub(crate) fn state_where(&self, so: impl Fn(&DBusState) -> bool) -> DBusState {
        ask_until(|| self.door.state(), so)
    }

    /// Peers of the hub whose names begin with this, and a dot.
    pub(crate) fn peers_of(&self, subject: &str) -> Vec<PeerInfo> {
        let of = |peer: &PeerInfo| peer.name.starts_with(&format!("{subject}."));
        self.handle.peers().unwrap().into_iter().filter(of).collect()
    }

    pub(crate) fn token(&self, subject: &str, scopes: &[&str]) -> AuthToken {
        self.accounts.mint(&TokenRequest::new(subject, scopes)).unwrap()
    }

    /// How often a handler ran.
    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Demands that somebody who minds their own business is served, and that nobody else reached a handler so far but for
    /// so many calls.
    #[track_caller]
    pub(crate) fn is_unharmed_after(&self, allowed: usize) {
        let (peer, calls) = &mut *self.bystander.borrow_mut();
        let answer = peer.request("vault/open", MessagePayload::String("still there?"));
        assert_eq!(answer.map(|answer| answer.payload), Ok(OwnedPayload::String("still there?".into())));
        *calls += 1 + allowed;
        assert_eq!(self.runs(), *calls, "somebody else reached a handler, or did not");
    }

    /// Has somebody on the socket publish.
    pub(crate) fn publish(&self, topic: &str, text: &str) {
        self.bystander.borrow_mut().0.notify(topic, MessagePayload::String(text));
    }

    /// How long somebody on the socket waits for an answer.
    pub(crate) fn round_trip(&self) -> Duration {
        let (peer, calls) = &mut *self.bystander.borrow_mut();
        let begun = Instant::now();
        assert!(peer.request("vault/open", MessagePayload::Empty).is_ok());
        *calls += 1;
        begun.elapsed()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.gate.open();
        self.handle.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().expect("the hub does not panic").expect("the hub ends well");
        }
    }
}

/// What holds the handler `slow` up while it is shut.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether it is shut, and how many wait.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    /// Waits until so many wait at it.
    pub(crate) fn has_waiting(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let waited =
            self.changed.wait_timeout_while(state, PATIENCE, |(_, waiting)| *waiting < count).unwrap();
        assert!(!waited.1.timed_out(), "{} wait", waited.0.1);
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |(is_shut, _)| *is_shut).unwrap();
        state.1 -= 1;
    }
}

struct Counting {
    id: &'static str,
    runs: Arc<AtomicUsize>,
    gate: Option<Arc<Gate>>,
}

impl MessageHandler for Counting {
    fn id(&self) -> &str {
        self.id
    }

    fn may_block(&self) -> bool {
        self.gate.is_some()
    }

    fn handle_message(
        &mut self,
        message: &visorbus_core::Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        self.runs.fetch_add(1, Ordering::SeqCst);
        match message.message_type {
            visorbus_core::MessageType::Request => reply.payload(message.payload),
            _ => Ok(()),
        }
    }
}

/// A program on the bus.
pub(crate) struct Program {
    pub(crate) channel: Channel,
}

impl Program {
    pub(crate) fn new(bus: &DbusDaemon) -> Self {
        Self { channel: bus.connect() }
    }

    /// Asks an address of the hub for what it makes of a text.
    pub(crate) fn call(&self, address: &str, text: &str) -> std::result::Result<String, dbus::Error> {
        let answer = self.ask(call_of(address, text))?;
        let value: Variant<Box<dyn RefArg>> = answer.read1().unwrap();
        Ok(value.0.as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn authenticate(&self, token: &str) -> std::result::Result<(), dbus::Error> {
        self.ask(bridge("Authenticate", (token,))).map(|_| ())
    }

    pub(crate) fn subscribe(&self, pattern: &str) -> std::result::Result<(), dbus::Error> {
        self.ask(bridge("Subscribe", (pattern, PropMap::new()))).map(|_| ())
    }

    pub(crate) fn ask(&self, call: Message) -> std::result::Result<Message, dbus::Error> {
        self.channel.send_with_reply_and_block(call, PATIENCE)
    }

    /// Sends without waiting.
    pub(crate) fn send(&self, call: Message) -> u32 {
        self.channel.send(call).unwrap()
    }

    /// Waits for a message that is `wanted`, and drops all others.
    #[track_caller]
    pub(crate) fn read_where(&self, wanted: impl Fn(&Message) -> bool) -> Message {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let message = self.channel.blocking_pop_message(Duration::from_millis(100)).unwrap();
            if let Some(message) = message.filter(|message| wanted(message)) {
                return message;
            }
        }
        panic!("no such message came");
    }

    /// Waits for a signal of the service's.
    #[track_caller]
    pub(crate) fn signal(&self, member: &str) -> Message {
        self.read_where(|message| {
            message.msg_type() == MessageType::Signal && message.member().as_deref() == Some(member)
        })
    }
}

pub(crate) fn call_of(address: &str, text: &str) -> Message {
    bridge("Call", (address, Variant(text), PropMap::new()))
}

pub(crate) fn bridge(member: &str, arguments: impl dbus::arg::AppendAll) -> Message {
    Message::call_with_args(NAME, "/org/visorbus/Bus1", "org.visorbus.Bus1", member, arguments)
}

/// A policy that takes this user for `panel`.
pub(crate) fn panel_policy() -> String {
    let uid = nix::unistd::getuid();
    let scopes = r#"["request:vault/*", "request:slow/*", "subscribe:news/**"]"#;
    format!("[[unix]]\nuid = {uid}\nsubject = \"panel\"\nscopes = {scopes}\n")
}

pub(crate) fn config(bus: &DbusDaemon) -> DBusConfig {
    let mut config = DBusConfig::default();
    config.bus = BusAddress::Address(bus.address().to_owned());
    config.retry_ms = 20;
    config
}

/// The name of the error that a call was answered with.
#[track_caller]
pub(crate) fn error_of<T: Debug>(outcome: std::result::Result<T, dbus::Error>) -> (String, String) {
    let error = outcome.unwrap_err();
    (error.name().unwrap_or_default().to_owned(), error.message().unwrap_or_default().to_owned())
}

pub(crate) const NAME: &str = "org.visorbus.Bus1";
