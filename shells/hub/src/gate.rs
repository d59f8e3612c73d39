//! The hub's one question: may whoever has sent this do that. All that the hub lets anybody do is asked here first.

use std::cell::RefCell;
use std::sync::Arc;

use visorbus_auth::{Asked, AuthorizationProvider, Denial, Transport};
use visorbus_core::IpcError;
use visorbus_core::auth::{Access, Grant, Operation};
use visorbus_core::dispatch::{Authority, Caller, Question};
use visorbus_core::message::{Message, MessageType, Pattern};

use crate::compress::announced_len;
use crate::hub::{BUS_ADDRESS, Hub, Incoming};
use crate::owned::{Error, Result};
use crate::peers::{PeerKey, Peers};

/// Who asks, and who decides.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'g> {
    policy: &'g dyn AuthorizationProvider,
    grant: Option<&'g Grant>,
    transport: Transport,
    unix_now: u64,
}

impl<'g> Gate<'g> {
    /// For what `from` does now: by the grant of the message's own token where it has one, else by its session's.
    pub(crate) fn new(
        policy: &'g dyn AuthorizationProvider,
        peers: &'g Peers,
        from: PeerKey,
        own: Option<&'g Grant>,
        unix_now: u64,
    ) -> Self {
        let peer = peers.get(from);
        let session = peer.and_then(|peer| peer.session.grant());
        let transport = peer.map(|peer| peer.origin.transport()).unwrap_or_default();
        Self { policy, grant: own.or(session), transport, unix_now }
    }

    /// For what the program does itself, which comes from no session.
    pub(crate) fn of_program(policy: &'g dyn AuthorizationProvider, unix_now: u64) -> Self {
        Self { policy, grant: None, transport: Transport::default(), unix_now }
    }

    /// For whoever has shown the token of this grant and has no session.
    pub(crate) fn of_bearer(
        policy: &'g dyn AuthorizationProvider,
        grant: &'g Grant,
        transport: Transport,
        unix_now: u64,
    ) -> Self {
        Self { policy, grant: Some(grant), transport, unix_now }
    }

    /// Whether a message with a payload of so many bytes may do this, now.
    pub(crate) fn ask<'a>(
        &self,
        operation: Operation,
        resource: Pattern<'a>,
        access: Access<'a>,
        payload_len: usize,
    ) -> std::result::Result<(), Denial<'a>>
    where
        'g: 'a,
    {
        self.policy.is_authorized(&self.asked(operation, resource, access, payload_len, true))
    }

    /// As [`Gate::ask`] for a message to the hub or to one of its handlers, which is then done.
    pub(crate) fn ask_for(
        &self,
        message: &Message<'_>,
        access: Access<'_>,
    ) -> std::result::Result<(), Denied> {
        let (operation, resource) = (operation_of(message), message.destination.unwrap_or(BUS_ADDRESS));
        let asked = self.ask(operation, resource.into(), access, payload_len(message));
        asked.map_err(|denial| Denied::new(operation, resource.as_str(), denial))
    }

    /// Whether such a thing may be done, when nothing is done yet, or goes on.
    pub(crate) fn would<'a>(
        &self,
        operation: Operation,
        resource: Pattern<'a>,
        access: Access<'a>,
    ) -> std::result::Result<(), Denial<'a>>
    where
        'g: 'a,
    {
        self.policy.is_authorized(&self.asked(operation, resource, access, 0, false))
    }

    /// The caller as the core's dispatch knows it, who asks what else it may through `further`.
    pub(crate) const fn caller<'a>(&self, further: &'a Further<'_>) -> Caller<'a>
    where
        'g: 'a,
    {
        Caller::new(self.grant, Some(self.unix_now)).with_authority(further)
    }

    const fn asked<'a>(
        &self,
        operation: Operation,
        resource: Pattern<'a>,
        access: Access<'a>,
        payload_len: usize,
        counts: bool,
    ) -> Asked<'a>
    where
        'g: 'a,
    {
        let Self { grant, transport, unix_now, .. } = *self;
        Asked { grant, operation, resource, access, transport, payload_len, unix_now, counts }
    }
}

/// A [`Gate`] that another thread can ask at.
pub(crate) struct OwnedGate {
    policy: Arc<dyn AuthorizationProvider>,
    grant: Option<Grant>,
    transport: Transport,
    unix_now: u64,
}

impl OwnedGate {
    /// Of a gate of the policy `policy`.
    pub(crate) fn new(policy: &Arc<dyn AuthorizationProvider>, gate: &Gate<'_>) -> Self {
        let Gate { grant, transport, unix_now, .. } = *gate;
        Self { policy: Arc::clone(policy), grant: grant.cloned(), transport, unix_now }
    }

    pub(crate) fn borrow(&self) -> Gate<'_> {
        let Self { policy, grant, transport, unix_now } = self;
        Gate { policy: &**policy, grant: grant.as_ref(), transport: *transport, unix_now: *unix_now }
    }
}

/// What the handler of one message asks about its caller beyond the message itself.
pub(crate) struct Further<'f> {
    gate: &'f Gate<'f>,
    payload_len: usize,
    /// What was refused, for the audit.
    denied: RefCell<Vec<Denied>>,
}

impl<'f> Further<'f> {
    /// For the handler of `message`, whose sender is at `gate`.
    pub(crate) fn new(gate: &'f Gate<'f>, message: &Message<'_>) -> Self {
        Self { gate, payload_len: payload_len(message), denied: RefCell::default() }
    }

    /// What was refused.
    pub(crate) fn into_denied(self) -> Vec<Denied> {
        self.denied.into_inner()
    }
}

impl Authority for Further<'_> {
    fn decide(&self, question: &Question<'_>) -> std::result::Result<(), IpcError> {
        let Question { operation, address, access, is_done } = *question;
        if !is_done {
            let could = self.gate.would(operation, address.into(), access);
            return could.map_err(Denial::to_ipc_error);
        }
        self.gate.ask(operation, address.into(), access, self.payload_len).map_err(|denial| {
            let mut denied = self.denied.borrow_mut();
            if denied.len() < MAX_TOLD {
                denied.push(Denied::new(operation, address.as_str(), denial));
            }
            denial.to_ipc_error()
        })
    }
}

/// What was refused, and with which words.
#[derive(Debug, Clone)]
pub(crate) struct Denied {
    pub(crate) operation: Operation,
    pub(crate) resource: String,
    pub(crate) error: Error,
}

impl Denied {
    pub(crate) fn new(operation: Operation, resource: &str, denial: Denial<'_>) -> Self {
        Self { operation, resource: resource.to_owned(), error: denial.to_error(resource) }
    }
}

impl Hub {
    /// The gate before everything that a message does.
    pub(crate) fn gate<'h>(&'h self, incoming: &Incoming<'_>, own: Option<&'h Grant>) -> Gate<'h> {
        Gate::new(&*self.config.policy, &self.peers, incoming.from, own, self.unix_s(incoming.now))
    }

    /// Whether this sender may do `operation` to the message's destination.
    pub(crate) fn authorize(
        &mut self,
        incoming: &Incoming<'_>,
        own: Option<&Grant>,
        operation: Operation,
        access: Access<'_>,
    ) -> Result<()> {
        let resource = incoming.message.destination.unwrap_or(BUS_ADDRESS);
        let len = payload_len(&incoming.message);
        let asked = self.gate(incoming, own).ask(operation, resource.into(), access, len);
        let asked = asked.map_err(|denial| Denied::new(operation, resource.as_str(), denial));
        asked.map_err(|denied| self.deny(incoming.from, denied))
    }
}

/// So many refusals of one run of a handler the audit hears of.
const MAX_TOLD: usize = 8;

/// How long a message's payload is for whoever reads it: of a compressed one, what it expands to.
fn payload_len(message: &Message<'_>) -> usize {
    let wire = message.payload.as_bytes().len();
    let expands = message.flags.compressed && !message.flags.encrypted;
    let announced = if expands { announced_len(message.payload) } else { None };
    announced.map_or(wire, |announced| announced.max(wire))
}

/// What a message does to the address that it goes to.
pub(crate) fn operation_of(message: &Message<'_>) -> Operation {
    match message.message_type {
        MessageType::Request => Operation::Request,
        _ => Operation::Notify,
    }
}
