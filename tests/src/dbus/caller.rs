//! A program on a bus that calls a method and waits for its answer: the same for every service.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use dbus::Message;
use dbus::arg::Variant;
use dbus::channel::Channel;
use dbus::strings::BusName;

use crate::contest::RoundTrip;
use crate::through_hub::binary;

/// A method that gives back the bytes that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EchoMethod {
    pub(crate) service: String,
    pub(crate) path: String,
    pub(crate) interface: String,
    pub(crate) member: &'static str,
    pub(crate) form: Form,
}

/// What its arguments are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// The bytes: `ay`.
    Typed,
    /// An address of the hub, the bytes in a variant, and no options: `sva{sv}`.
    Bridge(&'static str),
}

impl EchoMethod {
    /// A call of it.
    pub(crate) fn call(&self, bytes: &[u8]) -> io::Result<Message> {
        let (service, path) = (self.service.as_str(), self.path.as_str());
        let call = Message::new_method_call(service, path, self.interface.as_str(), self.member);
        let call = call.map_err(io::Error::other)?;
        Ok(match self.form {
            Form::Typed => call.append1(bytes),
            Form::Bridge(address) => {
                call.append3(address, Variant(bytes), HashMap::<&str, Variant<&str>>::new())
            }
        })
    }

    /// Whether `answer` is what was sent.
    pub(crate) fn is_answer(&self, answer: &Message, bytes: &[u8]) -> bool {
        match self.form {
            Form::Typed => answer.read1::<&[u8]>().is_ok_and(|got| got == bytes),
            Form::Bridge(_) => answer.get1::<Variant<&[u8]>>().is_some_and(|got| got.0 == bytes),
        }
    }

    /// Calls it with `size` bytes, over and over, on a connection of its own; keeps `parts` while that lives.
    pub(crate) fn round_trip<P: 'static>(self, bus: &str, size: usize, parts: P) -> io::Result<RoundTrip> {
        let channel = connect(bus)?;
        await_owner(&channel, &self.service)?;
        let bytes = binary(size);
        let once = move || {
            let _alive = &parts;
            let answer = ask(&channel, self.call(&bytes)?)?;
            Ok(self.is_answer(&answer, &bytes))
        };
        is_right(&once)?;
        Ok(Box::new(move || is_right(&once)))
    }
}

/// A connection to `bus` that has a name.
pub(crate) fn connect(bus: &str) -> io::Result<Channel> {
    let mut channel = Channel::open_private(bus).map_err(other)?;
    channel.register().map_err(other)?;
    Ok(channel)
}

/// Sends a call and waits for its answer.
pub(crate) fn ask(channel: &Channel, call: Message) -> io::Result<Message> {
    channel.send_with_reply_and_block(call, PATIENCE).map_err(other)
}

/// Waits until somebody has the name `service`.
pub(crate) fn await_owner(channel: &Channel, service: &str) -> io::Result<()> {
    let rule = format!("type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{service}'");
    ask(channel, ask_bus("AddMatch").append1(rule.as_str()))?;
    let end = Instant::now() + PATIENCE;
    // What changes after this question is told.
    while ask(channel, ask_bus("GetNameOwner").append1(service)).is_err() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nobody gets the name {service}")));
        }
        while channel.blocking_pop_message(left).map_err(other)?.is_some_and(|message| !is_change(&message)) {
        }
    }
    ask(channel, ask_bus("RemoveMatch").append1(rule.as_str())).map(drop)
}

/// A call of the bus itself.
pub(crate) fn ask_bus(member: &str) -> Message {
    Message::call_with_args(BUS, "/org/freedesktop/DBus", BUS, member, ())
}

/// A bus that disconnects, or an answer that is an error.
pub(crate) fn other(error: dbus::Error) -> io::Error {
    io::Error::other(format!(
        "{}: {}",
        error.name().unwrap_or("no bus"),
        error.message().unwrap_or("it says nothing")
    ))
}

fn is_right(once: &dyn Fn() -> io::Result<bool>) -> io::Result<()> {
    match once()? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not what was sent")),
    }
}

fn is_change(message: &Message) -> bool {
    message.sender() == BusName::new(BUS).ok() && message.member().is_some_and(|m| &*m == "NameOwnerChanged")
}

pub(crate) const BUS: &str = "org.freedesktop.DBus";
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
