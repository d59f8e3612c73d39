//! A program on the bus: libdbus and nothing else.

use std::time::{Duration, Instant};
use visorbus_tests::patience::PATIENCE;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use dbus::channel::Channel;
use dbus::message::MessageType;

use crate::world::{PATH, SERVICE};

pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

pub(crate) struct Program {
    channel: Channel,
}

/// The name of a D-Bus error, and its text.
pub(crate) type Refusal = (String, String);

impl Program {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    pub(crate) fn call(
        &self,
        interface: &str,
        member: &str,
        args: &[MessageItem],
    ) -> Result<Vec<MessageItem>, Refusal> {
        let mut call = Message::new_method_call(SERVICE, PATH, interface, member).unwrap();
        call.append_items(args);
        self.ask(call)
    }

    /// As [`Program::call`] without arguments, of another service.
    pub(crate) fn call_of(
        &self,
        service: &str,
        path: &str,
        interface: &str,
        member: &str,
    ) -> Result<Vec<MessageItem>, Refusal> {
        self.ask(Message::new_method_call(service, path, interface, member).unwrap())
    }

    fn ask(&self, call: Message) -> Result<Vec<MessageItem>, Refusal> {
        match self.channel.send_with_reply_and_block(call, PATIENCE) {
            Ok(answer) => Ok(answer.get_items()),
            Err(e) => {
                Err((e.name().unwrap_or_default().to_owned(), e.message().unwrap_or_default().to_owned()))
            }
        }
    }

    /// Calls and does not wait; gives the call's serial number.
    pub(crate) fn begin(&self, interface: &str, member: &str, args: &[MessageItem]) -> u32 {
        let mut call = Message::new_method_call(SERVICE, PATH, interface, member).unwrap();
        call.append_items(args);
        self.channel.send(call).unwrap()
    }

    /// Calls and says that no reply is wanted.
    pub(crate) fn begin_without_reply(&self, interface: &str, member: &str, args: &[MessageItem]) -> u32 {
        let mut call = Message::new_method_call(SERVICE, PATH, interface, member).unwrap();
        call.append_items(args);
        call.set_no_reply(true);
        self.channel.send(call).unwrap()
    }

    pub(crate) fn get(&self, interface: &str, property: &str) -> Result<MessageItem, Refusal> {
        let value = self.call(PROPERTIES, "Get", &[interface.into(), property.into()])?;
        match value.as_slice() {
            [MessageItem::Variant(value)] => Ok((**value).clone()),
            other => panic!("{other:?} is no variant"),
        }
    }

    pub(crate) fn set(&self, interface: &str, property: &str, value: MessageItem) -> Result<(), Refusal> {
        let value = MessageItem::Variant(Box::new(value));
        self.call(PROPERTIES, "Set", &[interface.into(), property.into(), value]).map(drop)
    }

    /// The names of the properties that `GetAll` gives.
    pub(crate) fn all(&self, interface: &str) -> Result<Vec<String>, Refusal> {
        let all = self.call(PROPERTIES, "GetAll", &[interface.into()])?;
        let [MessageItem::Dict(all)] = all.as_slice() else { panic!("{all:?} is no dictionary") };
        let mut names: Vec<String> = all
            .iter()
            .map(|(name, _)| match name {
                MessageItem::Str(name) => name.clone(),
                other => panic!("{other:?} is no name"),
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Asks the bus for the signals of an interface.
    pub(crate) fn listen(&self, interface: &str) {
        let rule = format!("type='signal',interface='{interface}'");
        let bus = "org.freedesktop.DBus";
        let ask = Message::call_with_args(bus, "/org/freedesktop/DBus", bus, "AddMatch", (rule,));
        self.channel.send_with_reply_and_block(ask, PATIENCE).unwrap();
    }

    /// The next signal of this name, whether it came to all or to this program alone, with its arguments.
    #[track_caller]
    pub(crate) fn signal(&self, member: &str) -> (Message, Vec<MessageItem>) {
        let is_it = |message: &Message| {
            message.msg_type() == MessageType::Signal && message.member().is_some_and(|m| &*m == member)
        };
        let message = self.next(is_it).unwrap_or_else(|| panic!("no signal '{member}' came"));
        let args = message.get_items();
        (message, args)
    }

    /// The answer to a call that was begun.
    #[track_caller]
    pub(crate) fn answer(&self, serial: u32) -> Result<Vec<MessageItem>, Refusal> {
        let mut answer = self.next(|message| message.get_reply_serial() == Some(serial)).expect("an answer");
        match answer.as_result() {
            Ok(answer) => Ok(answer.get_items()),
            Err(e) => {
                Err((e.name().unwrap_or_default().to_owned(), e.message().unwrap_or_default().to_owned()))
            }
        }
    }

    /// The signals of the service that have come so far: what was sent before the service answered this was.
    pub(crate) fn signals_so_far(&self) -> Vec<String> {
        let ping = self.begin("org.freedesktop.DBus.Peer", "Ping", &[]);
        let mut signals = Vec::new();
        self.next(|message| {
            if message.msg_type() == MessageType::Signal && message.path().is_some_and(|path| &*path == PATH)
            {
                signals.push(message.member().map(|member| member.to_string()).unwrap_or_default());
            }
            message.get_reply_serial() == Some(ping)
        });
        signals
    }

    /// The serial numbers of the calls whose replies have come so far and were not waited for.
    pub(crate) fn replies_so_far(&self) -> Vec<u32> {
        let ping = self.begin("org.freedesktop.DBus.Peer", "Ping", &[]);
        let mut replies = Vec::new();
        self.next(|message| {
            replies.extend(message.get_reply_serial().filter(|serial| *serial != ping));
            message.get_reply_serial() == Some(ping)
        });
        replies
    }

    fn next(&self, mut is_it: impl FnMut(&Message) -> bool) -> Option<Message> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            while let Some(message) = self.channel.pop_message() {
                if is_it(&message) {
                    return Some(message);
                }
            }
            self.channel.read_write(Some(Duration::from_millis(100))).expect("the bus is there");
        }
        None
    }
}

/// Demands that a call was refused with this error, whose text has this in it.
#[track_caller]
pub(crate) fn expect_refusal<T: std::fmt::Debug>(outcome: Result<T, Refusal>, error: &str, text: &str) {
    let (name, told) = outcome.expect_err("it is refused");
    assert!(name.ends_with(error) && told.contains(text), "{name}: {told}");
}
