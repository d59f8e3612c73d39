//! Registered interfaces, as far as the bus sees them: a call becomes a request to the interface's address in the hub, in
//! the caller's session, and so the hub decides whether it may.

use std::sync::Arc;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use visorbus_hub::{Error, OwnedPayload};

use super::fixed::{DOC, EMITS_CHANGED, PROPERTIES};
use crate::carrier;
use crate::described::Described;
use crate::fault::{Fault, PROPERTY_READ_ONLY, SERIALIZATION, UNKNOWN_METHOD};
use crate::interface::DBusPropertyAccess;
use crate::router::{Asked, Reply, Router, ask, items, signal};
use crate::step::{Caller, Outcome, Step};
use crate::types::{check, signature, signature_of, split};
use crate::xml::{Argument, Xml};

impl Router {
    /// A signal of a registered interface that goes to everybody, ready to be sent.
    ///
    /// # Errors
    /// `Message` when there is no such signal, it requires authentication (then it is to be published in the hub at
    /// [`Described::signal_address`], and comes back through [`Router::notified`]), or the arguments are not of its
    /// signature.
    pub(crate) fn signal(
        &self,
        interface: &str,
        name: &str,
        args: &[MessageItem],
    ) -> visorbus_hub::Result<Message> {
        let known = self.registered.get(interface).and_then(|described| described.signal(name));
        let wrong = |what: &str| Error::Message(format!("the signal '{interface}.{name}' {what}"));
        let known = known.ok_or_else(|| wrong("is not there"))?;
        if known.requires_auth {
            return Err(wrong("is for those who have authenticated"));
        }
        if !check(args).is_ok_and(|given| given == known.signature) {
            return Err(wrong(&format!("has the signature '{}'", known.signature)));
        }
        signal(&self.root, interface, name, args)
    }

    /// The signals that tell of a property's change: with its value where anybody may read it, else only that it
    /// changed, and to those who have used the interface.
    ///
    /// # Errors
    /// `Message` when there is no such property, or the value is not of its signature.
    pub(crate) fn property_changed(
        &self,
        interface: &str,
        name: &str,
        value: &MessageItem,
    ) -> visorbus_hub::Result<Vec<Message>> {
        let known = self.registered.get(interface).and_then(|described| described.property(name));
        let wrong = |what: &str| Error::Message(format!("the property '{interface}.{name}' {what}"));
        let known = known.ok_or_else(|| wrong("is not there"))?;
        if !check(std::slice::from_ref(value)).is_ok_and(|given| given == known.signature) {
            return Err(wrong(&format!("has the signature '{}'", known.signature)));
        }
        let nothing = || items::details([("", MessageItem::Byte(0)); 0]);
        if !known.requires_auth_read {
            let changed = items::details([(name, value.clone())]);
            let args = [items::text(interface), changed, items::array("s", Vec::new())];
            return Ok(vec![signal(&self.root, PROPERTIES, "PropertiesChanged", &args)?]);
        }
        let args = [items::text(interface), nothing(), items::array("s", vec![items::text(name)])];
        let users = self.users_of(interface);
        let to = |caller: &str| self.signal_to(caller, &self.root, (PROPERTIES, "PropertiesChanged"), &args);
        Ok(users.filter_map(to).collect())
    }

    /// A method.
    pub(crate) fn call_registered(
        &mut self,
        described: &Arc<Described>,
        name: &str,
        call: &Message,
        (caller, reply): (&Caller, &Reply),
    ) -> Result<Step, Fault> {
        let interface = &described.name;
        let method = described
            .method(name)
            .ok_or_else(|| Fault::new(UNKNOWN_METHOD, format!("'{interface}' has no method '{name}'")))?;
        let given = signature(call);
        if given != method.input_signature {
            let text = format!("{interface}.{name} takes '{}', not '{given}'", method.input_signature);
            return Err(Fault::invalid_args(text));
        }
        let address = described.method_address(name)?;
        let (caller, reply) = (caller.clone(), reply.clone());
        let use_of = Use {
            described: Arc::clone(described),
            expected: method.output_signature.clone(),
            is_open: !method.requires_auth,
        };
        ask(address.as_str(), carrier::pack_message(call), use_of.is_open, move |router, outcome| {
            use_of.finish(router, &caller, outcome, move |answer| reply.finish(answer))
        })
    }

    /// `Get`.
    pub(crate) fn registered_property(
        &mut self,
        described: &Arc<Described>,
        name: &str,
        asked: Asked,
    ) -> Result<Step, Fault> {
        let Asked { caller, reply, .. } = asked;
        self.read(described, name, caller, move |_, value| {
            reply.finish(value.map(|value| vec![items::variant(value)]))
        })
    }

    /// `GetAll`: what the caller may not read is left out, and what cannot be read now.
    pub(crate) fn registered_properties(&mut self, interface: &str, asked: Asked) -> Result<Step, Fault> {
        let Some(described) = self.described(interface) else { return Ok(asked.reply.send(&[])) };
        let readable = described.properties.iter().filter(|property| property.access.reads());
        let left = readable.map(|property| property.name.clone()).collect();
        Ok(self.read_all(described, left, Vec::new(), asked))
    }

    /// `Set`.
    pub(crate) fn set_registered_property(
        &mut self,
        described: &Arc<Described>,
        name: &str,
        asked: Asked,
    ) -> Result<Step, Fault> {
        let Some(property) = described.property(name) else { return Ok(asked.reply.send(&[])) };
        if !property.access.writes() {
            return Err(Fault::new(PROPERTY_READ_ONLY, format!("the property '{name}' can only be read")));
        }
        let given = asked.variant(2)?.signature();
        if *given != *property.signature {
            let text = format!("the property '{name}' is '{}', not '{}'", property.signature, &*given);
            return Err(Fault::invalid_args(text));
        }
        let (address, payload) = (described.write_address(name)?, carrier::pack_message(&asked.call));
        let is_open = !property.requires_auth_write;
        let use_of = Use { described: Arc::clone(described), expected: String::new(), is_open };
        let Asked { caller, reply, .. } = asked;
        ask(address.as_str(), payload, is_open, move |router, outcome| {
            use_of.finish(router, &caller, outcome, move |answer| reply.finish(answer))
        })
    }

    fn read_all(
        &mut self,
        described: Arc<Described>,
        mut left: Vec<String>,
        mut values: Vec<(String, MessageItem)>,
        asked: Asked,
    ) -> Step {
        let Some(name) = left.pop() else {
            values.reverse();
            return asked.reply.send(&[items::details(values)]);
        };
        let (described, own) = (Arc::clone(&described), described);
        let (caller, reply) = (asked.caller.clone(), asked.reply.clone());
        let step = self.read(&own, &name.clone(), caller, move |router, value| {
            values.extend(value.ok().map(|value| (name, value)));
            router.read_all(described, left, values, asked)
        });
        reply.or_fail(step)
    }

    fn read(
        &mut self,
        described: &Arc<Described>,
        name: &str,
        caller: Caller,
        then: impl FnOnce(&mut Self, Result<MessageItem, Fault>) -> Step + Send + 'static,
    ) -> Result<Step, Fault> {
        let property = described.property(name).filter(|property| property.access.reads());
        let property = property
            .ok_or_else(|| Fault::invalid_args(format!("the property '{name}' can only be written")))?;
        let address = described.read_address(name)?;
        let is_open = !property.requires_auth_read;
        let use_of = Use { described: Arc::clone(described), expected: property.signature.clone(), is_open };
        ask(address.as_str(), OwnedPayload::Empty, is_open, move |router, outcome| {
            let value = use_of.values(outcome).map(|mut values| values.remove(0));
            if value.is_ok() && !use_of.is_open {
                let name = use_of.described.name.clone();
                return router.follow(caller, &name, Box::new(move |router| then(router, value)));
            }
            then(router, value)
        })
    }
}

impl Described {
    /// Writes it.
    pub(crate) fn describe(&self, xml: &mut Xml) {
        xml.interface(&self.name);
        for method in &self.methods {
            let notes = [(DOC, method.description.as_str()), (REQUIRES_AUTH, yes(method.requires_auth))];
            xml.method(
                &method.name,
                &unnamed(&method.input_signature),
                &unnamed(&method.output_signature),
                &notes,
            );
        }
        for signal in &self.signals {
            let notes = [(DOC, signal.description.as_str()), (REQUIRES_AUTH, yes(signal.requires_auth))];
            xml.signal(&signal.name, &unnamed(&signal.signature), &notes);
        }
        for property in &self.properties {
            let access = match property.access {
                DBusPropertyAccess::Read => "read",
                DBusPropertyAccess::Write => "write",
                DBusPropertyAccess::ReadWrite => "readwrite",
            };
            let notes = [
                (DOC, property.description.as_str()),
                (REQUIRES_AUTH_READ, yes(property.requires_auth_read)),
                (REQUIRES_AUTH_WRITE, yes(property.requires_auth_write)),
                // As the signals of its changes are, which anybody reads with its value where there is no such note.
                (EMITS_CHANGED, if property.requires_auth_read { "invalidates" } else { "" }),
            ];
            xml.property(&property.name, &property.signature, access, &notes);
        }
        xml.end_interface();
    }
}

/// A member of a registered interface that a caller uses.
struct Use {
    described: Arc<Described>,
    /// The signature of what it answers.
    expected: String,
    /// Whether anybody may use it.
    is_open: bool,
}

impl Use {
    /// Replies with what was answered. Whoever has used what not everybody may use is told of the interface's signals from
    /// then on.
    fn finish(
        &self,
        router: &mut Router,
        caller: &Caller,
        outcome: Outcome,
        reply: impl FnOnce(Result<Vec<MessageItem>, Fault>) -> Step + Send + 'static,
    ) -> Step {
        let answer = self.values(outcome);
        if answer.is_err() || self.is_open {
            return reply(answer);
        }
        router.follow(caller.clone(), &self.described.name, Box::new(move |_| reply(answer)))
    }

    /// What was answered, of the signature that was declared.
    fn values(&self, outcome: Outcome) -> Result<Vec<MessageItem>, Fault> {
        let values = carrier::unpack(outcome?.borrow().as_bytes())?;
        let given = signature_of(&values).unwrap_or_default();
        if given == self.expected {
            return Ok(values);
        }
        let text =
            format!("'{}' answered '{given}', not '{}' as it declares", self.described.name, self.expected);
        Err(Fault::new(SERIALIZATION, text))
    }
}

fn unnamed(signature: &str) -> Vec<Argument<'_>> {
    split(signature).unwrap_or_default().into_iter().map(|one| ("", one)).collect()
}

const fn yes(is: bool) -> &'static str {
    if is { "true" } else { "" }
}

/// The annotations of what not everybody may use.
const REQUIRES_AUTH: &str = "org.visorbus.RequiresAuth";
const REQUIRES_AUTH_READ: &str = "org.visorbus.RequiresAuth.Read";
const REQUIRES_AUTH_WRITE: &str = "org.visorbus.RequiresAuth.Write";
