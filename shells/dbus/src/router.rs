//! Which object and member a call is for, and what it means: from D-Bus to messages of the hub and back. It sends nothing
//! and waits for nothing; what is to be done it says as a [`Step`].
//!
//! The way of a call: `object → interface (or all of them, where the call names none) → member → signature of the
//! arguments → the member's own function`, in [`crate::objects`].

mod address_types;
mod callers;
pub(crate) mod items;
pub(crate) mod options;
mod reply;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use dbus::arg::{ArgType, Iter};
use dbus::strings::BusName;
use visorbus_core::message::{Address, AddressBuf, MessageFlags, MessageType};
use visorbus_hub::{Error, OwnedPayload};

pub(crate) use self::address_types::{AddressTypes, Kind, TypeCache, arguments, value, values};
pub(crate) use self::callers::{Known, Subscribed, Topic};
use self::options::Options;
pub(crate) use self::reply::Reply;
use crate::described::Described;
use crate::fault::{Fault, UNKNOWN_INTERFACE, UNKNOWN_METHOD, UNKNOWN_OBJECT};
use crate::names::{component_at, interface};
use crate::objects::fixed::{self, Fixed, Method};
use crate::step::{Caller, Outcome, Request, Step};
use crate::types::{Piece, put, signature, skim};

/// Tells the present generation of the hub's types, as [`visorbus_hub::HubHandle`] does.
pub(crate) type Generation = Box<dyn Fn() -> u64 + Send>;

/// The objects of one service.
pub(crate) struct Router {
    /// The object that stands for the hub.
    pub(crate) root: String,
    /// The well-known name of the service.
    pub(crate) service_name: String,
    generation: Generation,
    /// The registered interfaces, by name.
    pub(crate) registered: BTreeMap<String, Arc<Described>>,
    /// What is kept of callers, by unique name.
    callers: HashMap<String, Known>,
    pub(crate) types: TypeCache,
    /// What the machine is called to D-Bus, where that could be read when the router was made.
    pub(crate) machine_id: Option<String>,
}

impl Router {
    /// The objects below `root`, which must be a path, of the service with this well-known name.
    pub(crate) fn new(root: &str, service_name: &str, generation: Generation) -> Self {
        Self {
            root: root.to_owned(),
            service_name: service_name.to_owned(),
            generation,
            registered: BTreeMap::new(),
            callers: HashMap::new(),
            types: TypeCache::default(),
            machine_id: machine_id(),
        }
    }

    /// Shows an interface on the root object: calls of it become requests to its [addresses](Described::component), with
    /// a payload of [`crate::carrier`].
    ///
    /// # Errors
    /// `Message` when there is one of that name already.
    pub(crate) fn register(&mut self, described: Arc<Described>) -> visorbus_hub::Result<()> {
        let name = described.name.clone();
        let is_taken =
            self.registered.contains_key(&name) || fixed::ROOT.iter().any(|fixed| fixed.name == name);
        if is_taken {
            return Err(Error::Message(format!("there is an interface '{name}' already")));
        }
        self.registered.insert(name, described);
        Ok(())
    }

    /// Shows an interface no more; whether it was shown.
    pub(crate) fn unregister(&mut self, name: &str) -> bool {
        self.registered.remove(name).is_some()
    }

    /// Forgets all registered interfaces, and gives them back.
    pub(crate) fn take_registered(&mut self) -> Vec<Arc<Described>> {
        std::mem::take(&mut self.registered).into_values().collect()
    }

    /// The registered interface of this name.
    pub(crate) fn described(&self, name: &str) -> Option<Arc<Described>> {
        self.registered.get(name).cloned()
    }

    /// A caller has a session now, as `subject`, in the place of the one it had. To be called before what waits for the
    /// session goes on.
    pub(crate) fn opened(&mut self, caller: &Caller, subject: &str) {
        self.known(caller).open(subject);
    }

    /// What a call means. Whatever it is, a panic in here is the caller's affair alone: the router is as it was, or has
    /// forgotten something of this caller.
    pub(crate) fn call(&mut self, call: Message, caller: &Caller) -> Step {
        let reply = Reply::to(&call);
        tracing::trace!("{} calls {:?} of {:?}", caller.unique_name, call.member(), call.path());
        let step = self.route(call, caller, &reply);
        reply.or_fail(step)
    }

    /// Whether a caller's session has subscribed to anything.
    pub(crate) fn has_subscriptions(&self, caller: &Caller) -> bool {
        self.find(caller).is_some_and(|known| !known.subscriptions().is_empty())
    }

    /// A caller's session is over and no other takes its place: it is told why, and what it had is forgotten.
    pub(crate) fn ended(&mut self, caller: &Caller, why: &str) -> Step {
        let Some(known) = self.callers.remove(&caller.unique_name) else { return Step::Done };
        if known.subject.is_empty() && known.subscriptions().is_empty() {
            return Step::Done;
        }
        send(self.signal_to(
            &caller.unique_name,
            &self.root,
            (fixed::BUS, "SessionEnded"),
            &[items::text(why)],
        ))
    }

    /// A caller has left the bus.
    pub(crate) fn forget(&mut self, caller: &Caller) {
        self.callers.remove(&caller.unique_name);
    }

    /// A caller's session is over, and with it who it was and what it was shown; its next call begins another.
    pub(crate) fn closed(&mut self, caller: &Caller) {
        self.forget(caller);
    }

    /// Of how many callers something is kept.
    pub(crate) fn callers(&self) -> usize {
        self.callers.len()
    }

    /// What is kept of a caller from now on; for what is to be kept alone.
    pub(crate) fn known(&mut self, caller: &Caller) -> &mut Known {
        self.callers.entry(caller.unique_name.clone()).or_default()
    }

    /// What is kept of a caller, if anything.
    pub(crate) fn find(&self, caller: &Caller) -> Option<&Known> {
        self.callers.get(&caller.unique_name)
    }

    /// The same, to be changed.
    pub(crate) fn find_mut(&mut self, caller: &Caller) -> Option<&mut Known> {
        self.callers.get_mut(&caller.unique_name)
    }

    /// The unique names of those who have used a registered interface that is not for everybody.
    pub(crate) fn users_of(&self, interface: &str) -> impl Iterator<Item = &str> {
        let users = self.callers.iter().filter(move |(_, known)| known.interfaces.contains_key(interface));
        users.map(|(name, _)| name.as_str())
    }

    /// The present generation of the hub's types; what is known of another is forgotten.
    pub(crate) fn generation(&mut self) -> u64 {
        let generation = (self.generation)();
        self.types.enter(generation);
        generation
    }

    /// A signal for one caller alone; `None` where the bus cannot carry it.
    pub(crate) fn signal_to(
        &self,
        caller: &str,
        path: &str,
        (interface, member): (&str, &str),
        args: &[MessageItem],
    ) -> Option<Message> {
        let mut signal = signal(path, interface, member, args).ok()?;
        signal.set_destination(Some(BusName::new(caller).ok()?));
        Some(signal)
    }

    /// The same, of what stands elsewhere.
    pub(crate) fn signal_with(
        &self,
        caller: &str,
        path: &str,
        (interface, member): (&str, &str),
        pieces: &[Piece<'_>],
    ) -> Option<Message> {
        let mut signal = Message::new_signal(path, interface, member).ok()?;
        put(&mut signal, pieces).ok()?;
        signal.set_destination(Some(BusName::new(caller).ok()?));
        Some(signal)
    }

    fn route(&mut self, call: Message, caller: &Caller, reply: &Reply) -> Result<Step, Fault> {
        skim(&call).map_err(|unfit| Fault::invalid_args(unfit.to_string()))?;
        let path = call.path().map(|path| path.to_string()).unwrap_or_default();
        let object = self.object(&path).ok_or_else(|| {
            Fault::new(
                UNKNOWN_OBJECT,
                format!("there is no object {path}; the one for the hub is {}", self.root),
            )
        })?;
        let interface = call.interface().map(|interface| interface.to_string());
        let member = call.member().map(|member| member.to_string()).unwrap_or_default();
        match self.find_member(&object, interface.as_deref(), &member)? {
            Member::Fixed(fixed::BUS, method) if method.name == "Authenticate" => {
                check_signature(&call, fixed::BUS, &member, &method.signature())?;
                self.authenticate(&call, caller, reply)
            }
            Member::Fixed(interface, method) => {
                check_signature(&call, interface, &member, &method.signature())?;
                let asked = Asked { caller: caller.clone(), reply: reply.clone(), object, call };
                self.call_fixed(interface, method.name, asked)
            }
            Member::Registered(described) => {
                self.call_registered(&described, &member, &call, (caller, reply))
            }
            Member::OfComponent(component) => {
                let asked = Asked { caller: caller.clone(), reply: reply.clone(), object, call };
                self.call_component(&component, &member, asked)
            }
        }
    }

    fn object(&self, path: &str) -> Option<Object> {
        let root = self.root.as_str();
        if path == root {
            return Some(Object::Root);
        }
        // What is no name is nobody's: the hub need not be asked.
        if let Some(component) = component_at(root, path).filter(|name| is_component(name)) {
            return Some(Object::Component(component));
        }
        if path.strip_prefix(root.trim_end_matches('/')) == Some("/components") {
            return Some(Object::Components);
        }
        let below = root.strip_prefix(path)?;
        let is_above = path == "/" || below.starts_with('/');
        let below = below.trim_start_matches('/');
        is_above.then(|| Object::Above(below.split('/').next().unwrap_or_default().to_owned()))
    }

    /// The member that a call names, in the interface that it names, or in the first that has it.
    fn find_member(&self, object: &Object, name: Option<&str>, member: &str) -> Result<Member, Fault> {
        let unknown = || {
            let of = name.map_or_else(|| "the object".to_owned(), |name| format!("'{name}'"));
            Fault::new(UNKNOWN_METHOD, format!("{of} has no method '{member}'"))
        };
        let fixed = || object.interfaces().iter();
        let registered = || self.registered.values().filter(|_| matches!(object, Object::Root));
        let component = match object {
            Object::Component(component) => Some(component.clone()),
            _ => None,
        };
        let Some(name) = name else {
            let found = fixed().find_map(|fixed| Some(Member::Fixed(fixed.name, fixed.method(member)?)));
            let found = found.or_else(|| {
                registered()
                    .find(|described| described.method(member).is_some())
                    .cloned()
                    .map(Member::Registered)
            });
            return found.or_else(|| component.map(Member::OfComponent)).ok_or_else(unknown);
        };
        if let Some(fixed) = fixed().find(|fixed| fixed.name == name) {
            return fixed.method(member).map(|method| Member::Fixed(fixed.name, method)).ok_or_else(unknown);
        }
        if let Some(described) = registered().find(|described| described.name == name) {
            let has = described.method(member).is_some();
            return has.then(|| Member::Registered(Arc::clone(described))).ok_or_else(unknown);
        }
        component
            .filter(|component| interface(component) == name)
            .map(Member::OfComponent)
            .ok_or_else(|| Fault::new(UNKNOWN_INTERFACE, format!("the object has no interface '{name}'")))
    }
}

/// An object on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    /// That of the hub.
    Root,
    /// The one above all components.
    Components,
    /// That of a component, which may not be there.
    Component(String),
    /// One on the way to the root, with the next element on it.
    Above(String),
}

impl Object {
    pub(crate) const fn interfaces(&self) -> &'static [&'static Fixed] {
        match self {
            Self::Root => fixed::ROOT,
            Self::Component(_) => fixed::OF_COMPONENT,
            Self::Components | Self::Above(_) => fixed::PLAIN,
        }
    }
}

/// A call, of a fixed method with the right signature. Its arguments are read where they stand.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) reply: Reply,
    pub(crate) object: Object,
    pub(crate) call: Message,
}

impl Asked {
    /// An argument that the signature says is a text.
    pub(crate) fn text(&self, number: usize) -> &str {
        self.argument(number).get().unwrap_or_default()
    }

    /// What is in an argument that the signature says is a variant.
    pub(crate) fn variant(&self, number: usize) -> Result<Iter<'_>, Fault> {
        let content = self.argument(number).recurse(ArgType::Variant);
        content.ok_or_else(|| Fault::invalid_args("a variant is missing"))
    }

    /// Options, of which the method knows these.
    pub(crate) fn options(&self, number: usize, known: &[&str]) -> Result<Options, Fault> {
        Options::read(&mut self.argument(number), known)
    }

    fn argument(&self, number: usize) -> Iter<'_> {
        let mut arguments = self.call.iter_init();
        for _ in 0..number {
            arguments.next();
        }
        arguments
    }
}

/// What a call is for.
enum Member {
    Fixed(&'static str, &'static Method),
    Registered(Arc<Described>),
    /// Of a component's own interface: which members that has only the hub can say.
    OfComponent(String),
}

/// Sends a message, if there is one.
pub(crate) fn send(message: impl IntoIterator<Item = Message>) -> Step {
    let messages: Vec<Message> = message.into_iter().collect();
    if messages.is_empty() { Step::Done } else { Step::Send(messages) }
}

/// A signal that goes to everybody.
pub(crate) fn signal(
    path: &str,
    interface: &str,
    member: &str,
    args: &[MessageItem],
) -> visorbus_hub::Result<Message> {
    let mut signal = Message::new_signal(path, interface, member).map_err(Error::Internal)?;
    crate::types::append(&mut signal, args)
        .map_err(|unfit| Error::Serialization(format!("D-Bus cannot carry these values: {unfit}")))?;
    Ok(signal)
}

/// A request of the hub, or of a component, by its address as a text.
pub(crate) fn ask(
    address: &str,
    payload: OwnedPayload,
    as_guest: bool,
    then: impl FnOnce(&mut Router, Outcome) -> Step + Send + 'static,
) -> Result<Step, Fault> {
    let destination = parse_address(address)?;
    let flags = MessageFlags { requires_response: true, ..MessageFlags::NONE };
    let message_type = MessageType::Request;
    let request = Request { message_type, destination, payload, flags, as_guest };
    Ok(Step::Ask(request, Box::new(then)))
}

/// # Errors
/// It is no address: `InvalidArgs`.
pub(crate) fn parse_address(text: &str) -> Result<AddressBuf, Fault> {
    let address = Address::new(text);
    address
        .map(AddressBuf::from)
        .map_err(|error| Fault::invalid_args(format!("'{text}' is no address: {error}")))
}

/// Whether a component can be called so.
fn is_component(name: &str) -> bool {
    Address::new(name).is_ok() && !name.contains('/')
}

/// 32 hexadecimal digits (D-Bus specification, "UUIDs").
fn machine_id() -> Option<String> {
    let read = |path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is_one = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(|path| read(path).filter(is_one))
}

fn check_signature(call: &Message, interface: &str, member: &str, expected: &str) -> Result<(), Fault> {
    let given = signature(call);
    if given == expected {
        return Ok(());
    }
    Err(Fault::invalid_args(format!("{interface}.{member} takes '{expected}', not '{given}'")))
}
