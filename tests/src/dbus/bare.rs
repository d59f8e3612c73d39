//! The bare limits: a service of a loop over libdbus, with nothing between a message and its answer.

use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use dbus::Message;
use dbus::channel::Channel;
use dbus::message::MessageType;
use tempfile::TempDir;

use crate::contest::{Against, Contender, RoundTrip};
use crate::dbus::caller::{EchoMethod, Form, ask, ask_bus, connect};
use crate::dbus::signals::{MESSAGE_LEN, Receivers, signals_trip};
use crate::part::{self, Part};

/// Plays one of the parts here, if it is one.
pub(crate) fn play(part: &str, arguments: &[String]) -> Option<io::Result<()>> {
    match (part, arguments) {
        (ECHO_PART, [bus, service]) => Some(echo(bus, service)),
        (SIGNALS_PART, [bus, service, socket, to]) => {
            Some(be_signaller(bus, service, socket, to == BROADCAST))
        }
        _ => None,
    }
}

/// A method of the bare service.
#[derive(Debug)]
pub struct BareMethod<'b> {
    program: PathBuf,
    bus: &'b str,
}

impl<'b> BareMethod<'b> {
    /// Its name in the table.
    pub const NAME: &'static str = "bare service";

    /// Starts its service on `bus` from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, bus: &'b str) -> Self {
        Self { program: program.into(), bus }
    }

    /// The service itself.
    pub(crate) fn serve(&self) -> io::Result<(Part, EchoMethod)> {
        let service = SERVICE.to_owned();
        let part = Part::start(&self.program, ECHO_PART, [self.bus, &service])?;
        let (path, interface) = (PATH.to_owned(), INTERFACE.to_owned());
        Ok((part, EchoMethod { service, path, interface, member: "Echo", form: Form::Typed }))
    }
}

impl Contender for BareMethod<'_> {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn start(&self, size: usize) -> io::Result<RoundTrip> {
        let (part, method) = self.serve()?;
        method.round_trip(self.bus, size, part)
    }
}

/// Signals of the bare service: of everything that comes on a socket, one to each subscriber or one to all of them.
#[derive(Debug)]
pub struct BareSignals<'b> {
    program: PathBuf,
    bus: &'b str,
    is_broadcast: bool,
}

impl<'b> BareSignals<'b> {
    /// The name of [`BareSignals::new`] in the table.
    pub const NAME: &'static str = "bare, to each";

    /// A signal to each subscriber; starts its service on `bus` from `program`, whose `main` calls [`super::play_part`].
    pub fn new(program: impl Into<PathBuf>, bus: &'b str) -> Self {
        Self { program: program.into(), bus, is_broadcast: false }
    }

    /// One signal, which the bus gives to all subscribers.
    pub fn broadcast(program: impl Into<PathBuf>, bus: &'b str) -> Self {
        Self { is_broadcast: true, ..Self::new(program, bus) }
    }
}

impl Contender for BareSignals<'_> {
    fn name(&self) -> &'static str {
        if self.is_broadcast { "bare, one to all" } else { Self::NAME }
    }

    fn against(&self) -> Option<Against> {
        self.is_broadcast.then_some(Against { limit: Self::NAME, at_most: None })
    }

    fn start(&self, batch: usize) -> io::Result<RoundTrip> {
        let directory = TempDir::with_prefix("bench-")?;
        let socket = directory.path().join("socket");
        let (service, to) = if self.is_broadcast { (BROADCASTER, BROADCAST) } else { (SIGNALLER, "each") };
        let arguments = [self.bus.as_ref(), service.as_ref(), socket.as_os_str(), to.as_ref()];
        let part = Part::start(&self.program, SIGNALS_PART, arguments)?;
        let receivers = Receivers::connect(self.bus, INTERFACE, SIGNAL, |channel| {
            if self.is_broadcast {
                let rule = format!("type='signal',interface='{INTERFACE}',sender='{service}'");
                return ask(channel, ask_bus("AddMatch").append1(rule)).map(drop);
            }
            let subscribe = Message::new_method_call(service, PATH, INTERFACE, "Subscribe");
            ask(channel, subscribe.map_err(io::Error::other)?).map(drop)
        })?;
        let mut publisher = UnixStream::connect(socket)?;
        let publish = move |bytes: &[u8]| io::Write::write_all(&mut publisher, bytes);
        signals_trip(publish, receivers, batch, (part, directory))
    }
}

/// Answers calls with what they bring.
fn echo(bus: &str, service: &str) -> io::Result<()> {
    let channel = own(bus, service)?;
    part::ready("");
    loop {
        while let Some(message) = channel.pop_message() {
            if message.msg_type() == MessageType::MethodCall {
                let bytes: &[u8] = message.read1().map_err(io::Error::other)?;
                send(&channel, message.method_return().append1(bytes))?;
            }
        }
        // As every measurement ends.
        if channel.read_write(None).is_err() {
            return Ok(());
        }
    }
}

/// Takes down who subscribes until a publisher comes; then makes signals of what that sends.
fn be_signaller(bus: &str, service: &str, socket: &str, is_broadcast: bool) -> io::Result<()> {
    let channel = own(bus, service)?;
    let listener = UnixListener::bind(socket)?;
    part::ready("");
    let mut to = Vec::new();
    while to.len() < if is_broadcast { 0 } else { super::SUBSCRIBERS } {
        while let Some(message) = channel.pop_message() {
            if message.msg_type() == MessageType::MethodCall {
                to.extend(message.sender().map(|sender| sender.into_static()));
                send(&channel, message.method_return())?;
            }
        }
        channel.read_write(Some(std::time::Duration::from_millis(100))).map_err(|()| gone())?;
    }
    let to: Vec<_> = if is_broadcast { vec![None] } else { to.into_iter().map(Some).collect() };
    let (mut publisher, _) = listener.accept()?;
    let mut buffer = [0; MESSAGE_LEN];
    while publisher.read_exact(&mut buffer).is_ok() {
        for destination in &to {
            let signal = Message::new_signal(PATH, INTERFACE, SIGNAL).map_err(io::Error::other)?;
            let mut signal = signal.append1(&buffer[..]);
            signal.set_destination(destination.clone());
            send(&channel, signal)?;
        }
        while channel.has_messages_to_send() {
            channel.read_write(None).map_err(|()| gone())?;
        }
    }
    Ok(())
}

fn own(bus: &str, service: &str) -> io::Result<Channel> {
    let channel = connect(bus)?;
    // D-Bus specification, "org.freedesktop.DBus.RequestName": do not queue.
    ask(&channel, ask_bus("RequestName").append2(service, 4u32))?;
    Ok(channel)
}

fn send(channel: &Channel, message: Message) -> io::Result<()> {
    channel.send(message).map(drop).map_err(|()| gone())
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the bus is gone")
}

const SERVICE: &str = "org.visorbus.bench.Bare";
const SIGNALLER: &str = "org.visorbus.bench.BareToEach";
const BROADCASTER: &str = "org.visorbus.bench.BareToAll";
const PATH: &str = "/org/visorbus/bench";
const INTERFACE: &str = "org.visorbus.bench";
const SIGNAL: &str = "Tick";
const BROADCAST: &str = "all";
const ECHO_PART: &str = "--part=dbus-bare";
const SIGNALS_PART: &str = "--part=dbus-bare-signals";
