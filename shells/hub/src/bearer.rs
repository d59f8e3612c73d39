//! What somebody may who shows a token and has no session, such as who asks for a page: asked at the hub's own gate, and
//! told of and counted as everything that is refused.

use visorbus_auth::{AuditEvent, AuditKind, AuthMethod, Channel, TokenText};
use visorbus_core::Instant;
use visorbus_core::auth::{Access, Operation};
use visorbus_core::message::{Address, AddressBuf};

use crate::gate::{Denied, Gate};
use crate::hub::Hub;
use crate::link::Origin;
use crate::owned::{Error, Result};

/// A token, who shows it, and what for.
pub(crate) struct Bearer {
    pub(crate) origin: Origin,
    /// `None` for none, or for what is none.
    pub(crate) token: Option<TokenText>,
    pub(crate) operation: Operation,
    pub(crate) address: AddressBuf,
}

impl Hub {
    /// Whether it may be done now.
    pub(crate) fn authorize_bearer(&mut self, bearer: &Bearer, now: Instant) -> Result<()> {
        let outcome = self.ask_of_bearer(bearer, now);
        if let Err(error) = &outcome {
            self.peers.refuse_nobody(error.kind());
        }
        outcome
    }

    fn ask_of_bearer(&mut self, bearer: &Bearer, now: Instant) -> Result<()> {
        let Bearer { origin, token, operation, address } = bearer;
        let unix_s = self.unix_s(now);
        let (party, address) = (origin.party(), address.as_address());
        let channel = Channel {
            transport: origin.transport(),
            uid: origin.uid(),
            gid: origin.gid(),
            address: &party,
            ..Channel::default()
        };
        let grant = match bytes(token.as_ref(), *operation, address) {
            Ok(bytes) => self.config.auth.validate_token(&bytes, &channel, unix_s),
            Err(error) => Err(error),
        };
        let grant = grant.inspect_err(|error| self.audit_unproven(origin, error))?;
        let gate = Gate::of_bearer(&*self.config.policy, &grant, origin.transport(), unix_s);
        let asked = gate.ask(*operation, address.into(), Access::Permission, 0);
        let asked = asked.map_err(|denial| Denied::new(*operation, address.as_str(), denial));
        asked.map_err(|denied| {
            let event = AuditEvent::new(AuditKind::Denied).subject(grant.subject()).channel(&channel);
            self.deny_to(event, denied)
        })
    }

    /// Somebody has shown no token, or one that is no good.
    fn audit_unproven(&mut self, origin: &Origin, error: &Error) {
        let event = AuditEvent::new(AuditKind::Refused).at(origin.transport(), &origin.party());
        let event = event.subject(&origin.to_string()).method(AuthMethod::Token).reason(error.text());
        self.audit_refusal_of(&origin.party(), event);
    }
}

fn bytes(
    token: Option<&TokenText>,
    operation: Operation,
    address: Address<'_>,
) -> Result<impl std::ops::Deref<Target = Vec<u8>>> {
    token.and_then(|token| token.to_bytes().ok()).ok_or_else(|| {
        let needed = format!("{}:{address}", operation.as_str());
        Error::Authentication(format!("a token is needed that may {needed}"))
    })
}
