//! What is behind a registered [`DBusInterface`]: a handler of the hub that asks it, and what it tells by itself.
//!
//! A request comes to one of the addresses of [`Described`], from the [router](crate::router) or from any other peer that
//! may send it there; the handler trusts neither. Its payload is one of [`crate::carrier`]: of a method the arguments, of
//! a property that is written the value alone, or in a call of `Properties.Set`; the answer's are what the method gives, or the value of the property that
//! is read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use dbus::arg::messageitem::MessageItem;
use visorbus_core::IpcError;
use visorbus_core::auth::{Access, Grant, Operation};
use visorbus_core::dispatch::{Caller, MessageHandler, Reply};
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::{BoxedHandler, Error, OwnedMessage, Result};

use crate::carrier;
use crate::described::Described;
use crate::interface::{DBusInterface, DBusSignal};
use crate::listener::DBusDoor;
use crate::router::Router;
use crate::step::GUEST;
use crate::types::check;

/// Where the door is, once there is one: what is registered before a service starts has nobody to tell yet.
pub(crate) type DoorSlot = Arc<OnceLock<DBusDoor>>;

/// What an interface has, and the handler that serves it, which tells of changes at `door`.
///
/// # Errors
/// `Message` for what [`Described::new`] refuses.
pub(crate) fn prepare(
    interface: Box<dyn DBusInterface>,
    door: DoorSlot,
) -> Result<(Arc<Described>, BoxedHandler)> {
    let described = Arc::new(Described::new(&*interface)?);
    let members = members(&described)?;
    let may_block = interface.may_block() || described.takes_containers();
    let untold = described.properties.iter().map(|_| AtomicBool::new(false)).collect();
    let handler =
        InterfaceHandler { interface, described: Arc::clone(&described), members, may_block, door, untold };
    Ok((described, Box::new(handler)))
}

impl DBusDoor {
    /// Shows an interface on the service's object from now on.
    ///
    /// # Errors
    /// `Message` when a name, a signature or an address of it is none, or it is there already: the text says which;
    /// `Connection` when the hub has ended.
    pub fn register_interface(&self, interface: Box<dyn DBusInterface>) -> Result<()> {
        let (described, handler) = prepare(interface, Arc::new(OnceLock::from(self.clone())))?;
        let component = described.component.clone();
        self.hub().register_handler(handler)?;
        // What is not shown is not to be there either.
        self.show(described).inspect_err(|_| drop(self.hub().unregister_handler(&component)))
    }

    /// Shows an interface no more. Calls that run already are answered.
    ///
    /// # Errors
    /// `Message` when no interface has this name; `Connection` when the hub has ended.
    pub fn unregister_interface(&self, name: &str) -> Result<()> {
        let described = self.described(name)?;
        self.with_router(|router| router.unregister(name));
        self.hub().unregister_handler(&described.component)
    }

    /// Tells of something: everybody on the bus who asks it for the signal, or, where the signal
    /// [requires authentication](crate::DBusSignal::requires_auth), those who have used the interface and may subscribe to
    /// the signal's address. While there is no bus, what everybody could hear is heard by nobody.
    ///
    /// # Errors
    /// `Message` when there is no such interface or signal, or the arguments are not of its signature; `Connection` when
    /// there is no bus now or the hub has ended.
    pub fn emit_signal(&self, interface: &str, signal: &str, args: &[MessageItem]) -> Result<()> {
        let described = self.described(interface)?;
        let known = checked(&described, signal, args)?;
        if !known.requires_auth {
            let message = self.with_router(|router| router.signal(interface, signal, args))?;
            return self.send(vec![message]);
        }
        let topic = described.signal_address(signal)?;
        self.hub().publish(OwnedMessage::notification(topic.as_str(), carrier::pack(args)?))
    }

    /// As [`DBusDoor::emit_signal`], to those alone who may at this moment do what is `needed` too, an operation on an address
    /// of the hub: where a signal tells of several things that not everybody may know, as a method that has one of them as
    /// an argument asks [`Caller::may`].
    ///
    /// # Errors
    /// As [`DBusDoor::emit_signal`]; `Message` too when the signal is for everybody, or the address is none.
    pub fn emit_signal_to_permitted(
        &self,
        interface: &str,
        signal: &str,
        args: &[MessageItem],
        (operation, address): (Operation, &str),
    ) -> Result<()> {
        let described = self.described(interface)?;
        let known = checked(&described, signal, args)?;
        if !known.requires_auth {
            return Err(Error::Message(format!(
                "the signal '{interface}.{signal}' is for everybody, so nobody can be left out"
            )));
        }
        let topic = described.signal_address(signal)?;
        let message = OwnedMessage::notification(topic.as_str(), carrier::pack(args)?);
        self.hub().publish_to_permitted(message, operation, address)
    }

    /// Tells that a property has changed by itself (`PropertiesChanged` of `org.freedesktop.DBus.Properties`): everybody
    /// with its new value, or, where reading it requires authentication, those who have used the interface, without. What
    /// is written over the bus is told of without this.
    ///
    /// # Errors
    /// As [`DBusDoor::emit_signal`]; `Message` too when the property cannot be read.
    pub fn property_changed(&self, interface: &str, property: &str, value: &MessageItem) -> Result<()> {
        let described = self.described(interface)?;
        let known = described.property(property).filter(|property| property.access.reads());
        let known = known.ok_or_else(|| {
            Error::Message(format!("the interface '{interface}' has no property '{property}' to be read"))
        })?;
        let what = format!("the property '{interface}.{property}'");
        fits(&what, &known.signature, std::slice::from_ref(value)).map_err(Error::Message)?;
        let messages = self.with_router(|router| router.property_changed(interface, property, value))?;
        if messages.is_empty() { Ok(()) } else { self.send(messages) }
    }

    /// Has the router know of an interface whose handler the hub has.
    pub(crate) fn show(&self, described: Arc<Described>) -> Result<()> {
        self.with_router(|router| router.register(described))
    }

    /// Has the router know of no interface any more; those that it knew of.
    pub(crate) fn take_interfaces(&self) -> Vec<Arc<Described>> {
        self.with_router(Router::take_registered)
    }

    fn described(&self, name: &str) -> Result<Arc<Described>> {
        let described = self.with_router(|router| router.described(name));
        described.ok_or_else(|| Error::Message(format!("no interface called '{name}' is registered")))
    }
}

/// A registered interface as the hub sees it.
struct InterfaceHandler {
    interface: Box<dyn DBusInterface>,
    described: Arc<Described>,
    /// What is at each of its addresses.
    members: BTreeMap<String, Member>,
    may_block: bool,
    door: DoorSlot,
    /// Of each property, whether the log has said that its changes cannot be told.
    untold: Vec<AtomicBool>,
}

/// What a request does, by the position of what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Call(usize),
    Read(usize),
    Write(usize),
}

impl InterfaceHandler {
    fn reply(
        &self,
        message: &Message<'_>,
        caller: &Caller<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        match self.answer(message, caller).and_then(|results| carrier::pack(&results)) {
            Ok(payload) => reply.payload(payload.borrow()),
            Err(error) => reply.error(&IpcError::new(error.kind(), error.text().as_str())),
        }
    }

    fn member(&self, address: Option<Address<'_>>) -> Option<Member> {
        self.members.get(address?.as_str()).copied()
    }

    fn answer(&self, message: &Message<'_>, caller: &Caller<'_>) -> Result<Vec<MessageItem>> {
        let Some(member) = self.member(message.destination) else {
            return Err(Error::Message(format!(
                "the interface '{}' has no such member",
                self.described.name
            )));
        };
        match member {
            Member::Call(number) => self.call(number, message, caller),
            Member::Read(number) => self.read(number, caller),
            Member::Write(number) => self.write(number, message, caller),
        }
    }

    fn call(&self, number: usize, message: &Message<'_>, caller: &Caller<'_>) -> Result<Vec<MessageItem>> {
        let method = &self.described.methods[number];
        let what = format!("the method '{}.{}'", self.described.name, method.name);
        let args = arguments(message)?;
        fits(&what, &method.input_signature, &args).map_err(Error::Serialization)?;
        let results = self.interface.handle_method_call(&method.name, &args, caller)?;
        fits(&what, &method.output_signature, &results).map_err(own_fault)?;
        Ok(results)
    }

    fn read(&self, number: usize, caller: &Caller<'_>) -> Result<Vec<MessageItem>> {
        let property = &self.described.properties[number];
        let value = [self.interface.get_property(&property.name, caller)?];
        let what = format!("the property '{}.{}'", self.described.name, property.name);
        fits(&what, &property.signature, &value).map_err(own_fault)?;
        Ok(value.into())
    }

    fn write(&self, number: usize, message: &Message<'_>, caller: &Caller<'_>) -> Result<Vec<MessageItem>> {
        let property = &self.described.properties[number];
        let what = format!("the property '{}.{}'", self.described.name, property.name);
        let value = written(arguments(message)?);
        fits(&what, &property.signature, &value).map_err(Error::Serialization)?;
        for value in value {
            self.interface.set_property(&property.name, value, caller)?;
        }
        if property.access.reads() {
            self.tell_change(number, caller);
        }
        Ok(Vec::new())
    }

    /// Tells of a property that was just written, as it is now. Whoever wrote it has no part in what goes wrong here.
    fn tell_change(&self, number: usize, caller: &Caller<'_>) {
        let known = &self.described.properties[number];
        let (interface, property) = (&self.described.name, &known.name);
        // What everybody is told is what anybody would read.
        let anybody = Caller::new(None, caller.unix_now);
        let reader = if known.requires_auth_read { caller } else { &anybody };
        let told = self.read(number, reader).and_then(|value| {
            let door = self.door.get().zip(value.first());
            door.map_or(Ok(()), |(door, value)| door.property_changed(interface, property, value))
        });
        // Once, not with every write.
        if let Err(error) = told
            && !self.untold[number].swap(true, Ordering::Relaxed)
        {
            tracing::warn!("nobody was told that '{interface}.{property}' has changed: {error}");
        }
    }
}

impl MessageHandler for InterfaceHandler {
    fn id(&self) -> &str {
        &self.described.component
    }

    fn supported_message_types(&self) -> &[MessageType] {
        &[MessageType::Request]
    }

    fn access(&self, address: Address<'_>) -> Access<'_> {
        let Described { methods, properties, .. } = &*self.described;
        let required = match self.member(Some(address)) {
            Some(Member::Call(number)) => methods[number].requires_auth,
            Some(Member::Read(number)) => properties[number].requires_auth_read,
            Some(Member::Write(number)) => properties[number].requires_auth_write,
            None => true,
        };
        if required { Access::Permission } else { Access::Open }
    }

    fn may_block(&self) -> bool {
        self.may_block
    }

    fn handle_message(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
    ) -> std::result::Result<(), IpcError> {
        self.reply(message, &Caller::new(None, None), reply)
    }

    fn handle_for(
        &mut self,
        caller: &Caller<'_>,
        message: &Message<'_>,
        reply: &mut Reply<'_>,
        _cancelled: &dyn Fn() -> bool,
    ) -> std::result::Result<(), IpcError> {
        // What needs no permission is reached with an expired grant too, which then says nothing any more.
        let is_valid = |grant: &&Grant| caller.unix_now.is_some_and(|now| !grant.is_expired(now));
        let mut known = *caller;
        known.grant = caller.grant.filter(|grant| is_valid(grant) && !is_guest(grant));
        self.reply(message, &known, reply)
    }
}

/// Whether a grant is that of the session of those who have none, and so says of nobody who they are.
fn is_guest(grant: &Grant) -> bool {
    grant.subject().strip_prefix(GUEST).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The values that a request carries; nothing is none.
fn arguments(message: &Message<'_>) -> Result<Vec<MessageItem>> {
    match message.payload {
        MessagePayload::Empty => Ok(Vec::new()),
        MessagePayload::Binary(bytes) => carrier::unpack(bytes),
        _ => Err(Error::Serialization(
            "an interface of the bus takes values as D-Bus marshals them, not texts".to_owned(),
        )),
    }
}

/// The value for a property: what stands alone, or in a whole call of `Properties.Set`.
fn written(mut values: Vec<MessageItem>) -> Vec<MessageItem> {
    match values.as_mut_slice() {
        [MessageItem::Str(_), MessageItem::Str(_), MessageItem::Variant(value)] => {
            vec![std::mem::replace(&mut **value, MessageItem::Byte(0))]
        }
        _ => values,
    }
}

/// The signal of an interface that has these arguments.
fn checked<'d>(described: &'d Described, signal: &str, args: &[MessageItem]) -> Result<&'d DBusSignal> {
    let interface = &described.name;
    let known = described
        .signal(signal)
        .ok_or_else(|| Error::Message(format!("the interface '{interface}' has no signal '{signal}'")))?;
    fits(&format!("the signal '{interface}.{signal}'"), &known.signature, args).map_err(Error::Message)?;
    Ok(known)
}

/// Whether values have a signature and can be sent; what is wrong where they have not.
fn fits(what: &str, signature: &str, values: &[MessageItem]) -> std::result::Result<(), String> {
    match check(values) {
        Ok(found) if found == signature => Ok(()),
        Ok(found) => Err(format!("{what} has the signature '{signature}', not '{found}'")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

/// What an interface has given that it should not have: it is for its author, and the caller is told the same.
fn own_fault(text: String) -> Error {
    tracing::error!("{text}; this is a fault of the interface's implementation");
    Error::Internal(text)
}

/// What is at each address of an interface.
fn members(described: &Described) -> Result<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    for (number, method) in described.methods.iter().enumerate() {
        members.insert(described.method_address(&method.name)?.as_str().to_owned(), Member::Call(number));
    }
    for (number, property) in described.properties.iter().enumerate() {
        if property.access.reads() {
            let address = described.read_address(&property.name)?;
            members.insert(address.as_str().to_owned(), Member::Read(number));
        }
        if property.access.writes() {
            let address = described.write_address(&property.name)?;
            members.insert(address.as_str().to_owned(), Member::Write(number));
        }
    }
    Ok(members)
}
