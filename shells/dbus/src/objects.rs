//! What each object does: its interfaces, by subject.

mod bridge;
pub(crate) mod component;
pub(crate) mod fixed;
mod manager;
mod notified;
mod registered;
mod standard;
pub(crate) mod subscriptions;

use crate::fault::{Fault, UNKNOWN_METHOD};
use crate::router::{Asked, Object, Router};
use crate::step::Step;

impl Router {
    /// A method of an interface that is always there.
    pub(crate) fn call_fixed(&mut self, interface: &str, method: &str, asked: Asked) -> Result<Step, Fault> {
        let component = match &asked.object {
            Object::Component(component) => component.clone(),
            _ => String::new(),
        };
        match (interface, method) {
            (fixed::PEER, "Ping") => Ok(asked.reply.send(&[])),
            (fixed::PEER, _) => self.machine_id(&asked),
            (fixed::INTROSPECTABLE, _) => self.introspect(asked),
            (fixed::PROPERTIES, "Get") => self.property(asked),
            (fixed::PROPERTIES, "Set") => self.set_property(asked),
            (fixed::PROPERTIES, _) => self.properties(asked),
            (fixed::OBJECT_MANAGER, _) => self.managed_objects(asked),
            (fixed::COMPONENT, "Subscribe") => self.subscribe_at(&component, asked),
            (fixed::COMPONENT, _) => self.unsubscribe_at(&component, &asked),
            (fixed::BUS, "Call") => self.call_address(asked),
            (fixed::BUS, "Notify") => self.notify_address(asked),
            (fixed::BUS, "Subscribe") => self.subscribe(asked),
            (fixed::BUS, "Unsubscribe") => self.unsubscribe(&asked),
            (fixed::BUS, "ListServices") => self.list_services(asked),
            (fixed::BUS, "Describe") => self.describe(asked),
            (fixed::BUS, "Permissions") => self.permissions(asked),
            _ => Err(Fault::new(UNKNOWN_METHOD, format!("'{interface}' has no method '{method}'"))),
        }
    }
}
