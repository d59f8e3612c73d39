//! `Introspectable`, `Properties` and `Peer`.

use dbus::arg::messageitem::MessageItem;
use visorbus_core::bus;
use visorbus_hub::OwnedPayload;
use visorbus_hub::info::InterfaceInfo;

use super::fixed::{self, BUS, BUS_PROPERTIES, COMPONENT, COMPONENT_PROPERTIES};
use crate::fault::{Fault, PROPERTY_READ_ONLY, UNKNOWN_INTERFACE, UNKNOWN_PROPERTY};
use crate::names::{element, interface};
use crate::router::{Asked, Object, Router, ask, items};
use crate::step::{Caller, Step};
use crate::xml::Xml;

impl Router {
    /// `Introspect`: of a component what the caller may use; of the root what is in the program, which is no secret.
    pub(crate) fn introspect(&mut self, asked: Asked) -> Result<Step, Fault> {
        let mut xml = Xml::new();
        asked.object.interfaces().iter().for_each(|fixed| fixed.describe(&mut xml));
        let Asked { caller, reply, object, .. } = asked;
        match object {
            Object::Root => {
                self.registered.values().for_each(|described| described.describe(&mut xml));
                xml.node("components");
                Ok(reply.send(&[items::text(xml.finish())]))
            }
            Object::Above(next) => {
                xml.node(&next);
                Ok(reply.send(&[items::text(xml.finish())]))
            }
            Object::Component(name) => {
                let of = (&caller, &reply);
                let reply = reply.clone();
                self.with_component(of, &name, true, move |_, component| {
                    component.describe(&mut xml);
                    Ok(reply.send(&[items::text(xml.finish())]))
                })
            }
            Object::Components => ask(bus::INTERFACES, OwnedPayload::Empty, true, move |_, outcome| {
                let infos = outcome.and_then(|payload| payload.parse::<Vec<InterfaceInfo>>());
                reply.finish(infos.map_err(Fault::from).map(|infos| {
                    infos.iter().for_each(|info| xml.node(&element(&info.component)));
                    vec![items::text(xml.finish())]
                }))
            }),
        }
    }

    /// `Get`.
    pub(crate) fn property(&mut self, asked: Asked) -> Result<Step, Fault> {
        let (interface, name) = (asked.text(0).to_owned(), asked.text(1).to_owned());
        let of = |wanted: &str| interface.is_empty() || interface == wanted;
        let reply = asked.reply.clone();
        let position = |properties: &[fixed::Property]| properties.iter().position(|one| one.name == name);
        match asked.object.clone() {
            Object::Root => {
                if of(BUS)
                    && let Some(number) = position(BUS_PROPERTIES)
                {
                    return self.own_properties(&asked.caller, move |values| {
                        reply.send(
                            &values
                                .into_iter()
                                .nth(number)
                                .map(items::variant)
                                .into_iter()
                                .collect::<Vec<_>>(),
                        )
                    });
                }
                let mut registered = self.registered.values().filter(|described| of(&described.name));
                match registered.find(|described| described.property(&name).is_some()).cloned() {
                    Some(described) => self.registered_property(&described, &name, asked),
                    None => Err(self.unknown_property(&asked.object, &interface, &name)),
                }
            }
            Object::Component(component) if of(COMPONENT) && position(COMPONENT_PROPERTIES).is_some() => {
                let number = position(COMPONENT_PROPERTIES);
                self.with_component((&asked.caller, &asked.reply), &component, true, move |_, component| {
                    let value = number.and_then(|number| component.properties().into_iter().nth(number));
                    Ok(reply.send(&value.map(items::variant).into_iter().collect::<Vec<_>>()))
                })
            }
            object => Err(self.unknown_property(&object, &interface, &name)),
        }
    }

    /// `GetAll`.
    pub(crate) fn properties(&mut self, asked: Asked) -> Result<Step, Fault> {
        let interface = asked.text(0).to_owned();
        let of = |wanted: &str| interface.is_empty() || interface == wanted;
        let reply = asked.reply.clone();
        match &asked.object {
            Object::Root if of(BUS) => self.own_properties(&asked.caller, move |values| {
                let names = BUS_PROPERTIES.iter().map(|property| property.name);
                reply.send(&[items::details(names.zip(values))])
            }),
            Object::Component(component) if of(COMPONENT) => {
                let component = component.clone();
                self.with_component((&asked.caller, &asked.reply), &component, true, move |_, component| {
                    let names = COMPONENT_PROPERTIES.iter().map(|property| property.name);
                    Ok(reply.send(&[items::details(names.zip(component.properties()))]))
                })
            }
            Object::Root if self.registered.contains_key(&interface) => {
                self.registered_properties(&interface, asked)
            }
            object => match self.has_interface(object, &interface) {
                true => Ok(reply.send(&[items::details([("", MessageItem::Byte(0)); 0])])),
                false => Err(unknown_interface(&interface)),
            },
        }
    }

    /// `Set`: only registered interfaces have properties that can be written.
    pub(crate) fn set_property(&mut self, asked: Asked) -> Result<Step, Fault> {
        let (interface, name) = (asked.text(0), asked.text(1));
        let of = |wanted: &str| interface.is_empty() || interface == wanted;
        let fixed = match &asked.object {
            Object::Root if of(BUS) => BUS_PROPERTIES,
            Object::Component(_) if of(COMPONENT) => COMPONENT_PROPERTIES,
            _ => &[],
        };
        if fixed.iter().any(|property| property.name == name) {
            return Err(Fault::new(PROPERTY_READ_ONLY, format!("the property '{name}' can only be read")));
        }
        let is_root = asked.object == Object::Root;
        let mut registered = self.registered.values().filter(|described| is_root && of(&described.name));
        match registered.find(|described| described.property(name).is_some()).cloned() {
            Some(described) => {
                let name = name.to_owned();
                self.set_registered_property(&described, &name, asked)
            }
            None => Err(self.unknown_property(&asked.object, interface, name)),
        }
    }

    /// `GetMachineId`.
    pub(crate) fn machine_id(&self, asked: &Asked) -> Result<Step, Fault> {
        match &self.machine_id {
            Some(id) => Ok(asked.reply.send(&[items::text(id)])),
            None => Err(Fault::new(crate::fault::INTERNAL, "this machine has no id that can be read")),
        }
    }

    /// The values of the bridge's properties. Who the caller is is known once it has a session; a caller that gets none, or
    /// whose session is over by then, is nobody.
    fn own_properties(
        &mut self,
        caller: &Caller,
        then: impl FnOnce([MessageItem; 3]) -> Step + Send + 'static,
    ) -> Result<Step, Fault> {
        let caller = caller.clone();
        ask(bus::PERMISSIONS, OwnedPayload::Empty, false, move |router, outcome| {
            let known = router.find(&caller).filter(|_| outcome.is_ok());
            let subject = known.map_or("", |known| known.subject.as_str());
            then([VERSION, &router.service_name, subject].map(items::text))
        })
    }

    fn has_interface(&self, object: &Object, name: &str) -> bool {
        let own = match object {
            Object::Component(component) => interface(component) == name,
            Object::Root => self.registered.contains_key(name),
            _ => false,
        };
        own || object.interfaces().iter().any(|fixed| fixed.name == name)
    }

    fn unknown_property(&self, object: &Object, interface: &str, name: &str) -> Fault {
        if !interface.is_empty() && !self.has_interface(object, interface) {
            return unknown_interface(interface);
        }
        Fault::new(UNKNOWN_PROPERTY, format!("there is no property '{name}' in '{interface}'"))
    }
}

fn unknown_interface(name: &str) -> Fault {
    Fault::new(UNKNOWN_INTERFACE, format!("the object has no interface '{name}'"))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
