//! Which object and member a call is for, and what it means: from D-Bus to messages of the hub and back. It sends nothing
//! and waits for nothing; what is to be done it says as a [`Step`].

mod reply;

use std::collections::BTreeMap;
use std::sync::Arc;

use dbus::Message;
use dbus::arg::messageitem::MessageItem;
use dbus::channel::default_reply;
use visorbus_hub::Result;

use crate::described::Described;
use crate::step::{Caller, Request, Step};

/// Tells the present generation of the hub's types, as [`visorbus_hub::HubHandle`] does.
pub(crate) type Generation = Box<dyn Fn() -> u64 + Send>;

/// The objects of one service.
pub(crate) struct Router {
    /// The object that stands for the hub.
    root: String,
    /// The well-known name of the service.
    service_name: String,
    generation: Generation,
    /// The registered interfaces, by name.
    registered: BTreeMap<String, Arc<Described>>,
}

impl Router {
    /// The objects below `root`, which must be a path, of the service with this well-known name.
    pub(crate) fn new(root: &str, service_name: &str, generation: Generation) -> Self {
        let (root, service_name) = (root.to_owned(), service_name.to_owned());
        Self { root, service_name, generation, registered: BTreeMap::new() }
    }

    /// Shows an interface on the root object: calls of it become requests to its [addresses](Described::component), with
    /// a payload of [`crate::carrier`].
    ///
    /// # Errors
    /// `Message` when there is one of that name already.
    pub(crate) fn register(&mut self, described: Arc<Described>) -> Result<()> {
        self.registered.insert(described.name.clone(), described);
        Ok(())
    }

    /// Shows an interface no more; whether it was shown.
    pub(crate) fn unregister(&mut self, name: &str) -> bool {
        self.registered.remove(name).is_some()
    }

    /// The registered interface of this name.
    pub(crate) fn described(&self, name: &str) -> Option<Arc<Described>> {
        self.registered.get(name).cloned()
    }

    /// A signal of a registered interface that goes to everybody, ready to be sent.
    ///
    /// # Errors
    /// `Message` when there is no such signal, it requires authentication (then it is to be published in the hub at
    /// [`Described::signal_address`], and comes back through [`Router::notified`]), or the arguments are not of its
    /// signature.
    pub(crate) fn signal(&self, interface: &str, signal: &str, args: &[MessageItem]) -> Result<Message> {
        let _ = (interface, signal, args, &self.service_name, (self.generation)());
        todo!()
    }

    /// The signals that tell of a property's change: with its value where anybody may read it, else only that it
    /// changed, and to those who have used the interface.
    ///
    /// # Errors
    /// `Message` when there is no such property, or the value is not of its signature.
    pub(crate) fn property_changed(
        &self,
        interface: &str,
        property: &str,
        value: &MessageItem,
    ) -> Result<Vec<Message>> {
        let _ = (interface, property, value);
        todo!()
    }

    /// A caller has a session now, as `subject`, in the place of the one it had.
    pub(crate) fn opened(&mut self, caller: &Caller, subject: &str) {
        let _ = (caller, subject);
    }

    /// What a call means.
    pub(crate) fn call(&mut self, call: &Message, caller: &Caller) -> Step {
        tracing::trace!("{} calls {:?} below {}", caller.unique_name, call.member(), self.root);
        default_reply(call).map_or(Step::Done, |reply| Step::Send(vec![reply]))
    }

    /// What a notification that came in a caller's session means for it. It may be that the hub has to be asked first.
    pub(crate) fn notified(&mut self, caller: &Caller, notification: &visorbus_core::Message<'_>) -> Step {
        let _ = (caller, notification);
        Step::Done
    }

    /// What a caller's session has subscribed to, to be asked again in a new one that takes its place by itself.
    pub(crate) fn subscriptions(&self, caller: &Caller) -> Vec<Request> {
        let _ = caller;
        Vec::new()
    }

    /// A caller's session is over and no other takes its place: it is told why, and what it had is forgotten.
    pub(crate) fn ended(&mut self, caller: &Caller, why: &str) -> Step {
        let _ = (caller, why);
        Step::Done
    }

    /// A caller has left the bus.
    pub(crate) fn forget(&mut self, caller: &Caller) {
        let _ = caller;
    }
}
