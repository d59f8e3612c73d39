//! `org.freedesktop.DBus.ObjectManager`: the components that there are for a caller, and from then on those that come and go.

use dbus::Message;
use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use dbus::strings::{Path, Signature};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_hub::OwnedPayload;
use visorbus_hub::info::{InterfaceInfo, ServiceChange};

use super::component::Component;
use super::fixed::{COMPONENT, COMPONENT_PROPERTIES, OBJECT_MANAGER};
use super::subscriptions::{request, then};
use crate::fault::{Fault, INTERNAL};
use crate::names::{interface, object_path};
use crate::router::{Asked, Router, ask, items, send};
use crate::step::{Caller, Step};

impl Router {
    /// `GetManagedObjects`.
    pub(crate) fn managed_objects(&mut self, asked: Asked) -> Result<Step, Fault> {
        let asked_at = self.generation();
        let Asked { caller, reply, .. } = asked;
        ask(bus::INTERFACES, OwnedPayload::Empty, true, move |router, outcome| {
            let infos = match outcome.and_then(|payload| payload.parse::<Vec<InterfaceInfo>>()) {
                Ok(infos) => infos,
                Err(error) => return reply.fail(&error.into()),
            };
            let components: Vec<Component> =
                infos.into_iter().map(|info| Component::new(info, &mut router.types, asked_at)).collect();
            let objects = router.objects(&components);
            let names = components.into_iter().map(|component| component.name).collect();
            let watches = router.known(&caller).objects.replace(names).is_some();
            let Ok(request) = request(bus::SERVICES_CHANGED, SlowConsumer::default()) else {
                return Step::Done;
            };
            if watches {
                return reply.finish(objects);
            }
            then(request, move |router, outcome| {
                // Who may not hear of changes has the objects all the same, and asks to hear of them with the next call.
                if outcome.is_err()
                    && let Some(known) = router.find_mut(&caller)
                {
                    known.objects = None;
                }
                reply.finish(objects)
            })
        })
    }

    /// Tells a caller of components that came or went, behind `messages`.
    pub(crate) fn components_changed(
        &mut self,
        caller: &Caller,
        changes: Vec<ServiceChange>,
        mut messages: Vec<Message>,
    ) -> Step {
        let mut changes = changes.into_iter();
        while let Some(change) = changes.next() {
            if !change.up {
                messages.extend(self.removed(caller, &change.component));
                continue;
            }
            let (caller, asked_at) = (caller.clone(), self.generation());
            let payload = OwnedPayload::String(change.component.clone());
            let asked = ask(bus::INTERFACES, payload, true, move |router, outcome| {
                let infos = match outcome.and_then(|payload| payload.parse::<Vec<InterfaceInfo>>()) {
                    Ok(infos) => infos,
                    Err(error) if error == InterfaceInfo::unknown(&change.component) => Vec::new(),
                    Err(_) => {
                        messages.extend(router.missed(&caller, bus::SERVICES_CHANGED, 1));
                        Vec::new()
                    }
                };
                for info in infos {
                    let component = Component::new(info, &mut router.types, asked_at);
                    messages.extend(router.added(&caller, &component));
                }
                router.components_changed(&caller, changes.collect(), messages)
            });
            return asked.unwrap_or(Step::Done);
        }
        send(messages)
    }

    fn objects(&self, components: &[Component]) -> Result<Vec<MessageItem>, Fault> {
        let entry = |component: &Component| Some((self.path_of(&component.name)?, interfaces(component)));
        let entries = components.iter().filter_map(entry).collect();
        let objects = MessageItemDict::new(entries, Signature::from("o"), Signature::from("a{sa{sv}}"));
        let objects = objects.map_err(|_| Fault::new(INTERNAL, "the objects have no common type"))?;
        Ok(vec![MessageItem::Dict(objects)])
    }

    fn added(&mut self, caller: &Caller, component: &Component) -> Option<Message> {
        let objects = self.find_mut(caller)?.objects.as_mut()?;
        if !objects.insert(component.name.clone()) {
            return None;
        }
        let args = [self.path_of(&component.name)?, interfaces(component)];
        self.signal_to(&caller.unique_name, &self.root, (OBJECT_MANAGER, "InterfacesAdded"), &args)
    }

    fn removed(&mut self, caller: &Caller, component: &str) -> Option<Message> {
        if !self.find_mut(caller)?.objects.as_mut()?.remove(component) {
            return None;
        }
        let names = [COMPONENT.to_owned(), interface(component)].map(MessageItem::Str);
        let names = MessageItemArray::new(names.into(), Signature::from("as")).ok()?;
        let args = [self.path_of(component)?, MessageItem::Array(names)];
        self.signal_to(&caller.unique_name, &self.root, (OBJECT_MANAGER, "InterfacesRemoved"), &args)
    }

    fn path_of(&self, component: &str) -> Option<MessageItem> {
        Path::new(object_path(&self.root, component)).ok().map(MessageItem::ObjectPath)
    }
}

/// The interfaces of a component with their properties.
fn interfaces(component: &Component) -> MessageItem {
    let names = COMPONENT_PROPERTIES.iter().map(|property| property.name);
    let properties = items::details(names.zip(component.properties()));
    let nothing = items::details([("", MessageItem::Byte(0)); 0]);
    let own = (interface(&component.name), nothing);
    items::dictionary("a{sv}", [(COMPONENT.to_owned(), properties), own].into_iter())
}
