//! A private bus with a small service on it that is written with the dbus crate alone, and a client of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dbus::Message;
use dbus::arg::{RefArg, Variant};
use dbus::channel::Channel;
use dbus::message::MessageType;
use visorbus_dbus::{BusAddress, DBusChange, DBusClient, DBusClientConfig};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::wait_until;

pub(crate) const NAME: &str = "org.example.Small1";
pub(crate) const PATH: &str = "/org/example/Small1";

/// The service, on a thread of its own; gone from the bus on drop.
pub(crate) struct Small {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The members that were called, in order.
    pub(crate) called: Receiver<String>,
    /// The tokens that were shown.
    pub(crate) shown: Arc<Mutex<Vec<String>>>,
}

impl Small {
    pub(crate) fn start(bus: &DbusDaemon) -> Self {
        Self::start_as(bus, NAME, true)
    }

    /// Owns `name`, and takes tokens where `accepts` says so.
    pub(crate) fn start_as(bus: &DbusDaemon, name: &str, accepts: bool) -> Self {
        let channel = bus.connect();
        // One that has just ended may still have the name in the eyes of the bus.
        wait_until("the name is free", || request_name(&channel, name) == PRIMARY_OWNER);
        let (stop, shown) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (calls, called) = mpsc::channel();
        let serve = Serve { channel, calls, shown: Arc::clone(&shown), accepts };
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                match serve.channel.blocking_pop_message(Duration::from_millis(5)) {
                    Ok(Some(message)) => serve.hear(&message),
                    Ok(None) => {}
                    Err(_) => return,
                }
            }
        });
        Self { stop, thread: Some(thread), called, shown }
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until a member was called.
    pub(crate) fn await_call(&self, member: &str) {
        while self.called.recv_timeout(PATIENCE).expect("a call") != member {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Serve {
    channel: Channel,
    calls: mpsc::Sender<String>,
    shown: Arc<Mutex<Vec<String>>>,
    accepts: bool,
}

impl Serve {
    fn hear(&self, message: &Message) {
        if message.msg_type() != MessageType::MethodCall {
            return;
        }
        let member = message.member().unwrap().to_string();
        // Nobody may listen any more.
        let _ = self.calls.send(member.clone());
        match member.as_str() {
            "Echo" => {
                let mut reply = message.method_return();
                reply.append_items(&message.get_items());
                self.send(reply);
            }
            "Silence" => {}
            "Fail" => {
                let (name, text): (&str, &str) = message.read2().unwrap();
                self.send(message.error(&name.into(), &std::ffi::CString::new(text).unwrap()));
            }
            "Get" => self.send(message.method_return().append1(Variant(7_u32))),
            "Set" => self.send(message.method_return()),
            "Authenticate" => {
                self.shown.lock().unwrap().push(message.read1::<String>().unwrap());
                let refusal = "org.freedesktop.DBus.Error.AuthFailed";
                self.send(match self.accepts {
                    true => message.method_return(),
                    false => message.error(&refusal.into(), c"the token is not for here"),
                });
            }
            // Signals: to all, to the caller alone, from below, from elsewhere.
            "Tell" => {
                let to = |path: &str, number: u32| {
                    Message::new_signal(path, NAME, "Told").unwrap().append1(number)
                };
                self.send(to(PATH, 1));
                let mut alone = to(PATH, 2);
                alone.set_destination(message.sender());
                self.send(alone);
                self.send(to(&format!("{PATH}/below"), 3));
                self.send(to("/elsewhere", 4));
                self.send(to(PATH, 5));
                self.send(message.method_return());
            }
            // An index of a file descriptor and no descriptor, alone and in a variant.
            "Descriptor" => self.send(without_descriptor(message.method_return().append1(0_u32))),
            "Hidden" => self.send(without_descriptor(message.method_return().append1(Variant(0_u32)))),
            "Deep" => {
                let innermost: Box<dyn RefArg> = Box::new(1_u32);
                let deep = (0..20).fold(innermost, |inner, _| Box::new(Variant(inner)));
                self.send(message.method_return().append1(Variant(deep)));
            }
            "TellDescriptor" => {
                let signal = Message::new_signal(PATH, NAME, "Told").unwrap();
                self.send(without_descriptor(signal.append1(Variant(0_u32))));
                self.send(message.method_return());
            }
            "Flood" => {
                for number in 0..message.read1::<u32>().unwrap() {
                    self.send(Message::new_signal(PATH, NAME, "Told").unwrap().append1(number));
                }
                self.send(message.method_return());
            }
            _ => self
                .send(message.error(&"org.freedesktop.DBus.Error.UnknownMethod".into(), c"no such method")),
        }
    }

    fn send(&self, message: Message) {
        // Fails only without memory.
        let _ = self.channel.send(message);
    }
}

/// Asks the bus for a name, without waiting for it in a queue.
fn request_name(channel: &Channel, name: &str) -> u32 {
    let call = Message::call_with_args(BUS, "/org/freedesktop/DBus", BUS, "RequestName", (name, 4_u32));
    channel.send_with_reply_and_block(call, PATIENCE).unwrap().read1().unwrap()
}

/// The message with every number in it called the index of a file descriptor, which it has none of.
fn without_descriptor(mut message: Message) -> Message {
    message.set_serial(1);
    let mut bytes = Vec::new();
    message.marshal(|all| std::io::Write::write_all(&mut bytes, all)).unwrap();
    let signatures = (0..bytes.len() - 2).filter(|at| bytes[*at..at + 3] == [1, b'u', 0]).collect::<Vec<_>>();
    // The serial of what is answered to looks the same, and comes first.
    for at in signatures.into_iter().skip(usize::from(message.get_reply_serial().is_some())) {
        bytes[at + 1] = b'h';
    }
    Message::demarshal(&bytes).unwrap().duplicate().unwrap()
}

/// A client of the service, connected.
pub(crate) fn client(bus: &DbusDaemon) -> DBusClient {
    let client = unconnected(bus);
    client.connect().unwrap();
    client
}

/// A client of the service that tries a lost bus again soon.
pub(crate) fn unconnected(bus: &DbusDaemon) -> DBusClient {
    let mut config = DBusClientConfig::on(BusAddress::Address(bus.address().to_owned()));
    config.retry_ms = 5;
    config.timeout = PATIENCE;
    DBusClient::with_config(NAME, PATH, config).unwrap()
}

/// The changes of a client from now on.
pub(crate) fn changes(client: &DBusClient) -> Receiver<DBusChange> {
    let (sender, receiver) = mpsc::channel();
    // Nobody may listen any more.
    client.on_change(move |change| drop(sender.send(change.clone()))).unwrap();
    receiver
}

/// Waits for a change.
pub(crate) fn await_change(changes: &Receiver<DBusChange>, is_it: impl Fn(&DBusChange) -> bool) {
    while !is_it(&changes.recv_timeout(PATIENCE).expect("a change")) {}
}

const BUS: &str = "org.freedesktop.DBus";
const PRIMARY_OWNER: u32 = 1;
