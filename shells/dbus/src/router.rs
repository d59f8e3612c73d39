//! Which object and member a call is for, and what it means: from D-Bus to messages of the hub and back. It sends nothing
//! and waits for nothing; what is to be done it says as a [`Step`].

use dbus::Message;
use dbus::channel::default_reply;

use crate::step::{Caller, Request, Step};

/// The objects of one service.
#[derive(Debug)]
pub(crate) struct Router {
    /// The object that stands for the hub.
    root: String,
}

impl Router {
    /// The objects below `root`.
    pub(crate) fn new(root: &str) -> Self {
        Self { root: root.to_owned() }
    }

    /// What a call means.
    pub(crate) fn call(&mut self, call: &Message, caller: &Caller) -> Step {
        tracing::trace!("{} calls {:?} below {}", caller.unique_name, call.member(), self.root);
        default_reply(call).map_or(Step::Done, |reply| Step::Send(vec![reply]))
    }

    /// What a notification that came in a caller's session means for it.
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
