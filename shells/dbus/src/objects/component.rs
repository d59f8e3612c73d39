//! The object of a component: what it offers as methods and signals with types of their own, as far as the caller may use
//! it. Whether there is such a component, and what of it there is for the caller, only the hub can say.

use std::sync::Arc;

use dbus::arg::messageitem::MessageItem;
use visorbus_core::bus;
use visorbus_core::message::{Address, MessageFlags, MessageType};
use visorbus_hub::OwnedPayload;
use visorbus_hub::info::{InterfaceAddress, InterfaceInfo};

use super::fixed::{DOC, NO_REPLY};
use crate::fault::{Fault, UNKNOWN_METHOD, UNKNOWN_OBJECT};
use crate::names::{interface, members};
use crate::router::{
    AddressTypes, Asked, Kind, Reply, Router, TypeCache, arguments, ask, items, parse_address, values,
};
use crate::step::{Caller, Request, Step};
use crate::types::{Argument, signature};
use crate::xml::Xml;

/// A component as one caller sees it.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: String,
    peer: String,
    transport: String,
    /// Address, kind and access of what the caller may know of.
    addresses: Vec<[String; 3]>,
    members: Vec<Offered>,
}

impl Component {
    /// What the hub told a caller when `asked_at` was the generation.
    pub(crate) fn new(info: InterfaceInfo, types: &mut TypeCache, asked_at: u64) -> Self {
        let rows: Vec<&InterfaceAddress> = info.addresses.iter().filter(|row| row.usable).collect();
        let is_signal = |row: &&InterfaceAddress| row.kind == PUBLISHES;
        let (signals, methods): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_signal);
        // What is asked and heard at one address is asked: the answer tells what became of it.
        let is_asked_too = |row: &InterfaceAddress| {
            row.kind == HEARS
                && methods.iter().any(|other| other.kind == ENDPOINT && other.address == row.address)
        };
        let methods = methods.iter().copied().filter(|row| !is_asked_too(row)).collect();
        let mut members = Offered::all(methods, types, asked_at);
        members.extend(Offered::all(signals, types, asked_at));
        let shown = |row: InterfaceAddress| [row.address, row.kind, row.access];
        Self {
            name: info.component,
            peer: info.peer,
            transport: info.transport,
            addresses: info.addresses.into_iter().map(shown).collect(),
            members,
        }
    }

    /// The properties of `org.visorbus.Component1`, in the order of its table.
    pub(crate) fn properties(&self) -> [MessageItem; 4] {
        let address = |row: &[String; 3]| MessageItem::Struct(row.iter().map(items::text).collect());
        let addresses = self.addresses.iter().map(address).collect();
        [
            items::text(&self.name),
            items::text(&self.peer),
            items::text(&self.transport),
            items::array("(sss)", addresses),
        ]
    }

    /// Writes its own interface.
    pub(crate) fn describe(&self, xml: &mut Xml) {
        xml.interface(&interface(&self.name));
        for member in &self.members {
            let (takes, gives) = (member.takes(), member.gives());
            let (takes, gives) = (borrowed(&takes), borrowed(&gives));
            let doc = member.doc();
            let notes = [
                (DOC, doc.as_str()),
                (ADDRESS, &member.address),
                (ACCESS, &member.access),
                (NO_REPLY, if member.role == Role::Hears { "true" } else { "" }),
            ];
            match member.role {
                Role::Signal => xml.signal(&member.name, &takes, &notes),
                _ => xml.method(&member.name, &takes, &gives, &notes),
            }
        }
        xml.end_interface();
    }

    /// The signal that a topic comes as.
    pub(crate) fn signal_of(&self, topic: &str) -> Option<&str> {
        let is_it = |member: &&Offered| member.role == Role::Signal && member.address == topic;
        self.members.iter().find(is_it).map(|member| member.name.as_str())
    }

    /// The topics that it publishes, for people.
    pub(crate) fn topics(&self) -> String {
        let signals = self.members.iter().filter(|member| member.role == Role::Signal);
        let topics: Vec<&str> = signals.map(|member| member.address.as_str()).collect();
        topics.join(", ")
    }

    fn method(&self, name: &str) -> Option<&Offered> {
        self.members.iter().find(|member| member.role != Role::Signal && member.name == name)
    }
}

impl Router {
    /// Goes on with a component as the caller sees it; `fresh` asks the hub again.
    pub(crate) fn with_component(
        &mut self,
        (caller, reply): (&Caller, &Reply),
        name: &str,
        fresh: bool,
        then: impl FnOnce(&mut Self, Arc<Component>) -> Result<Step, Fault> + Send + 'static,
    ) -> Result<Step, Fault> {
        let asked_at = self.generation();
        if let Some(component) =
            self.find(caller).and_then(|known| known.component(name, asked_at)).filter(|_| !fresh)
        {
            return then(self, component);
        }
        let (caller, reply, name) = (caller.clone(), reply.clone(), name.to_owned());
        let payload = OwnedPayload::String(name.clone());
        ask(bus::INTERFACES, payload, true, move |router, outcome| {
            let step = match outcome.and_then(|payload| payload.parse::<Vec<InterfaceInfo>>()) {
                Ok(infos) => match infos.into_iter().find(|info| info.component == name) {
                    Some(info) => {
                        let component = router.shown(&caller, info, asked_at);
                        then(router, component)
                    }
                    None => Err(no_component(&name)),
                },
                Err(error) if error == InterfaceInfo::unknown(&name) => Err(no_component(&name)),
                Err(error) => Err(error.into()),
            };
            reply.or_fail(step)
        })
    }

    /// Keeps a component as the hub told a caller of it.
    pub(crate) fn shown(&mut self, caller: &Caller, info: InterfaceInfo, asked_at: u64) -> Arc<Component> {
        let component = Arc::new(Component::new(info, &mut self.types, asked_at));
        self.known(caller).keep(&component, asked_at);
        component
    }

    /// A method of a component's own interface.
    pub(crate) fn call_component(&mut self, name: &str, method: &str, asked: Asked) -> Result<Step, Fault> {
        let now = self.generation();
        let known = self.find(&asked.caller).and_then(|known| known.component(name, now));
        // What was not there may have come, or been allowed: what is there is asked for by the request itself.
        let fresh = known.is_none_or(|component| component.method(method).is_none());
        let (caller, reply, method) = (asked.caller.clone(), asked.reply.clone(), method.to_owned());
        self.with_component((&caller, &reply), name, fresh, move |_, component| {
            let Some(member) = component.method(&method) else {
                let text =
                    format!("'{}' has no method '{method}', or not for you", interface(&component.name));
                return Err(Fault::new(UNKNOWN_METHOD, text));
            };
            member.call(&asked)
        })
    }
}

/// A member of a component's own interface.
#[derive(Debug)]
struct Offered {
    name: String,
    address: String,
    access: String,
    role: Role,
    types: Arc<AddressTypes>,
}

impl Offered {
    /// The members for rows of which no two may have the same name.
    fn all(rows: Vec<&InterfaceAddress>, types: &mut TypeCache, asked_at: u64) -> Vec<Self> {
        let path =
            |row: &&InterfaceAddress| row.address.split_once('/').map_or("", |(_, path)| path).to_owned();
        let paths: Vec<String> = rows.iter().map(path).collect();
        let names = members(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let offered = |(row, name): (&InterfaceAddress, Option<String>)| {
            let schemas = (row.request.as_slice(), row.response.as_slice());
            Some(Self {
                name: name?,
                address: row.address.clone(),
                access: row.access.clone(),
                role: Role::of(&row.kind)?,
                types: match schemas {
                    ([], []) => Arc::default(),
                    schemas => types.keep(&row.address, schemas, asked_at),
                },
            })
        };
        rows.into_iter().zip(names).filter_map(offered).collect()
    }

    fn takes(&self) -> Vec<Argument> {
        arguments(self.types.request.as_ref(), "payload")
    }

    fn gives(&self) -> Vec<Argument> {
        match self.role {
            Role::Method => arguments(self.types.response.as_ref(), "answer"),
            Role::Hears | Role::Signal => Vec::new(),
        }
    }

    fn doc(&self) -> String {
        let shown =
            |kind: &Option<Kind>| kind.as_ref().map_or_else(String::new, |kind| kind.shape.to_string());
        let (request, response) = (shown(&self.types.request), shown(&self.types.response));
        match self.role {
            Role::Method => format!("{}: {request} -> {response}", self.address),
            Role::Hears | Role::Signal => format!("{}: {request}", self.address),
        }
    }

    fn call(&self, asked: &Asked) -> Result<Step, Fault> {
        let given = signature(&asked.call);
        let kind = self.types.request.as_ref();
        let payload = match kind.and_then(|kind| kind.typed.as_ref()) {
            Some(typed) if given == typed.signature() => {
                let bytes = typed.take(&mut asked.call.iter_init());
                let bytes =
                    bytes.map_err(|misfit| Fault::invalid_args(format!("{}: {misfit}", self.name)))?;
                OwnedPayload::Binary(bytes)
            }
            None if given == "v" => self.types.payload(&mut asked.variant(0)?, false)?,
            _ => return Err(self.wrong_signature(&given)),
        };
        let (message_type, wants_answer) = match self.role {
            Role::Hears => (MessageType::Notification, asked.reply.is_wanted()),
            _ => (MessageType::Request, true),
        };
        let flags = MessageFlags { requires_response: wants_answer, ..MessageFlags::NONE };
        let destination = parse_address(&self.address)?;
        let request = Request { message_type, destination, payload, flags, as_guest: true };
        let (reply, types, role) = (asked.reply.clone(), Arc::clone(&self.types), self.role);
        Ok(Step::Ask(
            request,
            Box::new(move |_, outcome| match (outcome, role) {
                (Err(error), _) => reply.fail(&error.into()),
                (Ok(answer), Role::Method) => reply.finish_with(values(types.response.as_ref(), &answer)),
                (Ok(_), _) => reply.send(&[]),
            }),
        ))
    }

    fn wrong_signature(&self, given: &str) -> Fault {
        let takes = self.takes();
        let all: String = takes.iter().map(|argument| argument.signature.as_str()).collect();
        let named: Vec<String> =
            takes.iter().map(|argument| format!("{} {}", argument.signature, argument.name)).collect();
        Fault::invalid_args(format!("{} takes '{all}' ({}), not '{given}'", self.name, named.join(", ")))
    }
}

/// What a member of a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Method,
    /// A method that is not answered.
    Hears,
    Signal,
}

impl Role {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            ENDPOINT => Some(Self::Method),
            HEARS => Some(Self::Hears),
            PUBLISHES => Some(Self::Signal),
            _ => None,
        }
    }
}

/// There is none, or none for this caller: which of the two is not said.
pub(crate) fn no_component(name: &str) -> Fault {
    let known = Address::new(name).is_ok();
    let shown = if known { name } else { "this" };
    let text = format!("there is no component '{shown}', or nothing of it that you may use");
    Fault::new(UNKNOWN_OBJECT, text)
}

fn borrowed(arguments: &[Argument]) -> Vec<(&str, &str)> {
    arguments.iter().map(|argument| (argument.name.as_str(), argument.signature.as_str())).collect()
}

/// The annotation with a member's address in the hub.
const ADDRESS: &str = "org.visorbus.Address";
/// The annotation with what a caller needs.
pub(crate) const ACCESS: &str = "org.visorbus.Access";
const ENDPOINT: &str = "endpoint";
const HEARS: &str = "hears";
const PUBLISHES: &str = "publishes";
