//! The router alone: calls as the bus brings them, and a hub whose answers stand in a table.

mod bridge;
mod chance;
mod components;
mod members;
mod registered;
mod subscriptions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbus::arg::messageitem::MessageItem;
use dbus::{Message, MessageType};
use postcard_schema::Schema;
use postcard_schema::schema::NamedType;
use serde::{Deserialize, Serialize};
use visorbus_core::bus;
use visorbus_core::message::{Address, MessageFlags};
use visorbus_hub::info::{InterfaceAddress, InterfaceInfo, SchemaInfo};
use visorbus_hub::{Error, OwnedPayload};

use super::{Router, items};
use crate::fault;
use crate::objects::fixed::{self, BUS};
use crate::step::{Caller, Outcome, Step};
use crate::types::{append, read_items};

/// A router and a hub that answers from a table.
struct Bench {
    router: Router,
    generation: Arc<AtomicU64>,
    /// What each address answers, until it is changed.
    answers: BTreeMap<String, Outcome>,
    /// What was asked: address, payload and whether a guest may.
    asked: Vec<(String, OwnedPayload, bool)>,
    flags: MessageFlags,
    serial: u32,
}

impl Bench {
    fn new() -> Self {
        let generation = Arc::new(AtomicU64::new(1));
        let now = Arc::clone(&generation);
        let router = Router::new(ROOT, "org.visorbus.Bus1", Box::new(move || now.load(Ordering::Relaxed)));
        Self {
            router,
            generation,
            answers: BTreeMap::new(),
            asked: Vec::new(),
            flags: MessageFlags::NONE,
            serial: 0,
        }
    }

    /// One with the component `imu`, of which the caller may use everything.
    fn with_imu() -> Self {
        let mut bench = Self::new();
        bench.offer(vec![imu()]);
        bench.answer(bus::SUBSCRIBE, Ok(OwnedPayload::Empty));
        bench.answer(bus::UNSUBSCRIBE, Ok(OwnedPayload::Empty));
        bench
    }

    fn offer(&mut self, components: Vec<InterfaceInfo>) {
        self.answer(bus::INTERFACES, OwnedPayload::postcard(&components));
    }

    fn answer(&mut self, address: &str, outcome: Outcome) {
        self.answers.insert(address.to_owned(), outcome);
    }

    /// What the types of an address are.
    fn tell_types(&mut self, address: &str, request: &'static NamedType, response: &'static NamedType) {
        let info =
            SchemaInfo { address: address.to_owned(), request: schema(request), response: schema(response) };
        self.answer(bus::SCHEMA, OwnedPayload::postcard(&info));
    }

    fn change_types(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// What a call of `:1.7` is answered with.
    fn call(&mut self, path: &str, interface: &str, member: &str, args: &[MessageItem]) -> Reply {
        let mut replies = self.call_of(&caller(), path, interface, member, args);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    fn call_of(
        &mut self,
        caller: &Caller,
        path: &str,
        interface: &str,
        member: &str,
        args: &[MessageItem],
    ) -> Vec<Reply> {
        let mut call = Message::new_method_call("org.visorbus.Bus1", path, interface, member).unwrap();
        append(&mut call, args).unwrap();
        self.send(caller, call)
    }

    fn send(&mut self, caller: &Caller, mut call: Message) -> Vec<Reply> {
        self.serial += 1;
        call.set_serial(self.serial);
        call.set_sender(Some(caller.unique_name.as_str().into()));
        let step = self.router.call(call, caller);
        let replies = self.drive(caller, step);
        for reply in replies.iter().filter(|reply| reply.to_serial.is_some()) {
            assert_eq!(reply.to_serial, Some(self.serial));
        }
        replies
    }

    fn drive(&mut self, caller: &Caller, mut step: Step) -> Vec<Reply> {
        loop {
            step = match step {
                Step::Done => return Vec::new(),
                Step::Send(messages) => return messages.iter().map(Reply::of).collect(),
                Step::Ask(request, then) => {
                    let address = request.destination.as_str().to_owned();
                    let outcome = self.answers.get(&address).cloned();
                    self.flags = request.flags;
                    self.asked.push((address, request.payload, request.as_guest));
                    then(
                        &mut self.router,
                        outcome.unwrap_or_else(|| Err(Error::Message("nobody".to_owned()))),
                    )
                }
                Step::Authenticate(_, then) => {
                    let outcome = self.answers.get("authenticate").cloned().unwrap();
                    if outcome.is_ok() {
                        self.router.opened(caller, "ui");
                    }
                    then(&mut self.router, outcome)
                }
            };
        }
    }

    /// What a notification in the session of `:1.7` becomes.
    fn notify(&mut self, topic: &str, payload: &OwnedPayload) -> Vec<Reply> {
        let mut notification = visorbus_core::Message::notification(9, Address::new(topic).unwrap());
        notification.source = Some(Address::new("imu").unwrap());
        notification.payload = payload.borrow();
        notification.timestamp = Some(77);
        let step = self.router.notified(&caller(), &notification);
        self.drive(&caller(), step)
    }

    /// What comes of a new session of `:1.7`.
    fn restore(&mut self) -> Vec<Reply> {
        let step = self.router.restore(&caller());
        self.drive(&caller(), step)
    }

    /// The patterns of the hub's subscriptions of `:1.7`.
    fn subscriptions(&self) -> Vec<String> {
        let known = self.router.find(&caller());
        let all = known.map_or_else(Vec::new, |known| known.subscriptions());
        all.into_iter().map(|(pattern, _)| pattern).collect()
    }

    /// The addresses that were asked since the last time.
    fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked).into_iter().map(|(address, ..)| address).collect()
    }

    /// Calls a method of the bridge.
    fn bridge(&mut self, member: &str, args: &[MessageItem]) -> Reply {
        self.call(ROOT, BUS, member, args)
    }
}

/// A message that goes out, readable.
#[derive(Debug, Clone, PartialEq)]
struct Reply {
    kind: MessageType,
    to: String,
    to_serial: Option<u32>,
    path: String,
    /// The error's name, or interface and member of a signal.
    name: String,
    items: Vec<MessageItem>,
}

impl Reply {
    fn of(message: &Message) -> Self {
        let mut copy = message.duplicate().unwrap();
        let name = match message.msg_type() {
            MessageType::Error => copy.as_result().err().and_then(|e| e.name().map(str::to_owned)).unwrap(),
            MessageType::Signal => {
                format!("{}.{}", &*message.interface().unwrap(), &*message.member().unwrap())
            }
            _ => String::new(),
        };
        Self {
            kind: message.msg_type(),
            to: message.destination().map_or_else(String::new, |to| to.to_string()),
            to_serial: message.get_reply_serial(),
            path: message.path().map_or_else(String::new, |path| path.to_string()),
            name,
            items: read_items(message).unwrap(),
        }
    }

    /// What a reply that is no error carries.
    #[track_caller]
    fn values(self) -> Vec<MessageItem> {
        assert_eq!((self.kind, self.to.as_str()), (MessageType::MethodReturn, ":1.7"), "{self:?}");
        self.items
    }

    /// What the variant of a reply holds.
    #[track_caller]
    fn value(self) -> MessageItem {
        match self.values().remove(0) {
            MessageItem::Variant(value) => *value,
            other => panic!("{other:?}"),
        }
    }

    /// The name and text of an error.
    #[track_caller]
    fn error(self) -> (String, String) {
        assert_eq!((self.kind, self.to.as_str()), (MessageType::Error, ":1.7"), "{self:?}");
        (self.name, items::as_text(self.items.first()).unwrap_or_default().to_owned())
    }

    #[track_caller]
    fn text(self) -> String {
        items::as_text(Some(&self.values()[0])).unwrap().to_owned()
    }
}

#[derive(Debug, Serialize, Deserialize, Schema)]
enum Axis {
    X,
    Y,
}

#[derive(Debug, Serialize, Deserialize, Schema)]
struct Rate {
    hz: u32,
    axis: Axis,
}

#[derive(Debug, Serialize, Deserialize, Schema)]
struct Old {
    hz: u32,
}

#[derive(Debug, Serialize, Deserialize, Schema)]
struct Sample {
    at: u64,
    values: [i16; 3],
}

fn caller() -> Caller {
    Caller { unique_name: ":1.7".to_owned(), uid: Some(1000), pid: None }
}

fn schema(of: &'static NamedType) -> Vec<u8> {
    postcard::to_stdvec(of).unwrap()
}

fn imu() -> InterfaceInfo {
    InterfaceInfo {
        component: "imu".to_owned(),
        peer: "board".to_owned(),
        transport: "serial /dev/ttyACM0".to_owned(),
        addresses: vec![
            row("imu/set-rate", "endpoint", schema(Rate::SCHEMA), schema(Old::SCHEMA)),
            row("imu/samples", "publishes", schema(Sample::SCHEMA), Vec::new()),
            row("imu/reset", "hears", schema(<()>::SCHEMA), Vec::new()),
            row("imu/raw", "endpoint", Vec::new(), Vec::new()),
        ],
    }
}

fn row(address: &str, kind: &str, request: Vec<u8>, response: Vec<u8>) -> InterfaceAddress {
    InterfaceAddress {
        address: address.to_owned(),
        kind: kind.to_owned(),
        access: "permission".to_owned(),
        usable: true,
        request_hash: String::new(),
        response_hash: String::new(),
        request,
        response,
    }
}

fn text(text: &str) -> MessageItem {
    items::text(text)
}

fn no_options() -> MessageItem {
    options([])
}

fn options<const N: usize>(options: [(&str, MessageItem); N]) -> MessageItem {
    items::details(options)
}

fn denied() -> Outcome {
    Err(Error::Authorization("'ui' may not".to_owned()))
}

const ROOT: &str = "/org/visorbus/Bus1";
const IMU: &str = "/org/visorbus/Bus1/components/imu";
const IMU_INTERFACE: &str = "org.visorbus.components.Imu";
