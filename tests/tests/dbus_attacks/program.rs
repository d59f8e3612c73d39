//! A program on the bus: libdbus and nothing of Visorbus.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use visorbus_tests::patience::PATIENCE;

use dbus::Message;
use dbus::arg::Variant;
use dbus::arg::messageitem::{MessageItem, MessageItemDict};
use dbus::channel::Channel;
use dbus::message::MessageType;
use dbus::strings::Signature;

use crate::world::{ROOT, SERVICE};

/// A connection with a name of its own.
pub(crate) struct Program {
    pub(crate) channel: Channel,
    /// What came and was not asked for yet.
    aside: RefCell<VecDeque<Message>>,
}

/// The name of a D-Bus error, and its text.
pub(crate) type Refusal = (String, String);

impl Program {
    pub(crate) const fn new(channel: Channel) -> Self {
        Self { channel, aside: RefCell::new(VecDeque::new()) }
    }

    pub(crate) fn unique_name(&self) -> &str {
        self.channel.unique_name().unwrap()
    }

    /// Calls a member of the root.
    pub(crate) fn call(
        &self,
        interface: &str,
        member: &str,
        args: &[MessageItem],
    ) -> Result<Vec<MessageItem>, Refusal> {
        self.call_at(ROOT, interface, member, args)
    }

    /// Calls a member of an object of the service.
    pub(crate) fn call_at(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        args: &[MessageItem],
    ) -> Result<Vec<MessageItem>, Refusal> {
        let mut call = Message::new_method_call(SERVICE, path, interface, member).unwrap();
        call.append_items(args);
        let serial = self.send(call);
        self.answer(serial)
    }

    /// Calls a member of the root and does not wait.
    pub(crate) fn begin(&self, interface: &str, member: &str, args: &[MessageItem]) -> u32 {
        let mut call = Message::new_method_call(SERVICE, ROOT, interface, member).unwrap();
        call.append_items(args);
        self.send(call)
    }

    /// Sends what it is given; its serial number.
    pub(crate) fn send(&self, message: Message) -> u32 {
        self.channel.send(message).unwrap()
    }

    pub(crate) fn authenticate(&self, token: &str) -> Result<Vec<MessageItem>, Refusal> {
        self.call(SERVICE, "Authenticate", &[token.into()])
    }

    /// Calls an address of the hub with a text; the text that it answers.
    pub(crate) fn call_address(&self, address: &str, text: &str) -> Result<String, Refusal> {
        let args = [address.into(), variant(text), options()];
        let answer = self.call(SERVICE, "Call", &args)?;
        match answer.as_slice() {
            [MessageItem::Variant(answer)] => match &**answer {
                MessageItem::Str(text) => Ok(text.clone()),
                other => panic!("{other:?} is no text"),
            },
            other => panic!("{other:?} is no variant"),
        }
    }

    pub(crate) fn subscribe(&self, pattern: &str) -> Result<(), Refusal> {
        self.call(SERVICE, "Subscribe", &[pattern.into(), options()]).map(drop)
    }

    /// Asks the bus itself for something that takes a text.
    pub(crate) fn ask_bus(&self, member: &str, text: &str) -> Result<Vec<MessageItem>, Refusal> {
        let bus = "org.freedesktop.DBus";
        let serial = self.send(Message::call_with_args(bus, "/org/freedesktop/DBus", bus, member, (text,)));
        self.answer(serial)
    }

    /// Owns a name on the bus.
    pub(crate) fn own(&self, name: &str) {
        let bus = "org.freedesktop.DBus";
        let ask = Message::call_with_args(bus, "/org/freedesktop/DBus", bus, "RequestName", (name, 0u32));
        let serial = self.send(ask);
        assert_eq!(self.answer(serial), Ok(vec![1u32.into()]));
    }

    /// The answer to a call.
    #[track_caller]
    pub(crate) fn answer(&self, serial: u32) -> Result<Vec<MessageItem>, Refusal> {
        let mut answer =
            self.next(|message| message.get_reply_serial() == Some(serial)).expect("an answer in time");
        match answer.as_result() {
            Ok(answer) => Ok(answer.get_items()),
            Err(e) => {
                Err((e.name().unwrap_or_default().to_owned(), e.message().unwrap_or_default().to_owned()))
            }
        }
    }

    /// The next signal of this name, with its arguments.
    #[track_caller]
    pub(crate) fn signal(&self, member: &str) -> Vec<MessageItem> {
        let message = self.next(|message| is_signal(message, member));
        message.unwrap_or_else(|| panic!("no signal '{member}' came")).get_items()
    }

    /// Whatever has come so far: all that the service sent before it answered this.
    pub(crate) fn so_far(&self) -> Vec<Message> {
        let ping = self.begin("org.freedesktop.DBus.Peer", "Ping", &[]);
        self.next(|message| message.get_reply_serial() == Some(ping)).expect("an answer in time");
        self.aside.borrow_mut().drain(..).collect()
    }

    /// The next message that `is_it` picks; the others are kept.
    pub(crate) fn next(&self, is_it: impl Fn(&Message) -> bool) -> Option<Message> {
        let kept = self.aside.borrow().iter().position(&is_it);
        if let Some(at) = kept {
            return self.aside.borrow_mut().remove(at);
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            while let Some(message) = self.channel.pop_message() {
                if is_it(&message) {
                    return Some(message);
                }
                self.aside.borrow_mut().push_back(message);
            }
            self.channel.read_write(Some(Duration::from_millis(100))).ok()?;
        }
        None
    }
}

/// Whether a message is a signal of this name.
pub(crate) fn is_signal(message: &Message, member: &str) -> bool {
    message.msg_type() == MessageType::Signal && message.member().is_some_and(|name| &*name == member)
}

/// A text in a variant.
pub(crate) fn variant(text: &str) -> MessageItem {
    MessageItem::Variant(Box::new(text.into()))
}

/// No options.
pub(crate) fn options() -> MessageItem {
    MessageItem::Dict(MessageItemDict::new(Vec::new(), Signature::from("s"), Signature::from("v")).unwrap())
}

/// A call of `Call`, to an address with a text.
pub(crate) fn call_of(address: &str, text: &str) -> Message {
    let call = Message::new_method_call(SERVICE, ROOT, SERVICE, "Call").unwrap();
    let no_options: std::collections::HashMap<&str, Variant<&str>> = std::collections::HashMap::new();
    call.append3(address, Variant(text), no_options)
}

/// Demands that a call was refused with this error, whose text has this in it.
#[track_caller]
pub(crate) fn expect_refusal<T: std::fmt::Debug>(outcome: Result<T, Refusal>, error: &str, text: &str) {
    let (name, told) = outcome.expect_err("it is refused");
    assert!(name.ends_with(error) && told.contains(text), "{name}: {told}");
}
