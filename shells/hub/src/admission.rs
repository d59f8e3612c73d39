//! How a connection becomes a peer: its hello, its proof, the name it goes by, and the hub's own proof to it.

use std::cmp::Reverse;

use visorbus_auth::{AuditKind, AuthMethod};
use visorbus_core::auth::{BUS, Claims, Grant, Scopes};
use visorbus_core::bus::{self, Identity, Revoke};
use visorbus_core::limits::{MAX_NAME, MAX_REVOKED};
use visorbus_core::message::address::is_name;
use visorbus_core::message::{Address, AddressBuf, Message, MessagePayload, MessagePriority};
use visorbus_core::session::PROOF_LIFETIME_S;
use visorbus_core::time::earlier;
use visorbus_core::{Instant, IpcError, encode};

use crate::hub::Hub;
use crate::link::LinkOptions;
use crate::owned::{Error, Result};
use crate::peer::Peer;
use crate::peers::PeerKey;
use crate::watch::HubEvent;

impl Hub {
    /// Both ends have said hello; only a link that is trusted by configuration needs no more than that.
    pub(crate) fn handle_opened(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.counters.sessions += 1;
        if let Some(clock) = &mut peer.clock {
            clock.reset();
        }
        let Some(remote) = peer.session.remote() else { return };
        let name = remote.name.clone();
        let by_key = peer.proven.as_ref().is_some_and(|proven| proven.name == *name);
        if !by_key && peer.options.unauthenticated.as_deref() != Some(&*name) {
            return;
        }
        match self.trust(key, &name, now) {
            Err(error) => {
                let method = if by_key { AuthMethod::LinkKey } else { AuthMethod::Trusted };
                self.audit_refused(key, Some(method), &error);
            }
            Ok(()) if by_key => self.audit_authenticated(key, AuthMethod::LinkKey),
            Ok(()) => {
                if let Some(peer) = self.peers.get(key) {
                    tracing::warn!("{}: '{name}' is believed without a token, as configured", peer.origin);
                }
                let event = self.event(AuditKind::Trusted, key).method(AuthMethod::Trusted);
                let event = event.reason("believed without a token, as configured");
                self.audit_of(key, AuditKind::Trusted, event);
            }
        }
    }

    /// Forgets a session when its link's key proves another end by now, or the same after a restart: before anything
    /// that comes from there is taken for the old one's.
    pub(crate) fn follow_link_key(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.options.keyed) else { return };
        let proven = peer.link.proven();
        if peer.proven == proven {
            return;
        }
        peer.proven.clone_from(&proven);
        let why = match proven {
            Some(_) => "the other end of its link has proven itself anew",
            None => "the key of its link is proven no longer",
        };
        if peer.session.is_open() {
            peer.session.reset(now);
            self.forget(key, why);
        }
        let (kind, name) = match &proven {
            Some(proven) => (AuditKind::LinkUp, Some(&proven.name)),
            None => (AuditKind::LinkDown, None),
        };
        let event = self.event(kind, key);
        let event = name.into_iter().fold(event, |event, name| event.subject(name));
        self.audit_of(key, kind, event);
    }

    pub(crate) fn handle_token(&mut self, key: PeerKey, request: &Message<'_>, token: &[u8], now: Instant) {
        let outcome = self.admit(key, token, now);
        if let Err(error) = &outcome {
            self.peers.refuse(key, error.kind());
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        let judged = match &outcome {
            Ok(grant) => Ok(grant.clone()),
            Err(error) => Err(IpcError::new(error.kind(), error.text().as_str())),
        };
        let len = peer.session.finish_authentication(request, judged, now, &mut self.out);
        self.send_out(key, len, true);
        match outcome {
            Ok(_) => {
                self.handle_admitted(key, now);
                self.audit_authenticated(key, AuthMethod::Token);
            }
            Err(error) => {
                self.audit_refused(key, Some(AuthMethod::Token), &error);
                // It may have shown that others of its family are copies.
                self.recheck_at = earlier(self.recheck_at, Some(now.plus_millis(RECHECK_MS)));
            }
        }
    }

    /// Proves the hub to a peer that asks for it, once that peer has proven itself: whoever merely calls itself a
    /// device must not get a token that the device would take.
    pub(crate) fn prove_hub(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        // Asked in any case: that is what puts off the session's next question.
        if peer.session.wants_token(now) && !peer.name.is_empty() {
            self.send_proof(key, now);
        }
    }

    /// Proves the hub anew to a peer that it has proven itself to.
    pub(crate) fn renew_proof(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get(key).filter(|peer| !peer.name.is_empty()) else { return };
        if peer.session.remote().is_some_and(|remote| remote.requires_authentication) {
            self.send_proof(key, now);
        }
    }

    /// Tells a peer that checks tokens which of them were taken back: after each proof, because a board that starts again
    /// knows of none.
    pub(crate) fn tell_revocations(&mut self, key: PeerKey) {
        for revocation in for_boards(self.config.auth.revocations()) {
            self.tell_revocation(key, &revocation);
        }
    }

    /// Tells a peer of tokens that were taken back: the subject's, up to that second.
    pub(crate) fn tell_revocation(&mut self, key: PeerKey, (subject, void_up_to): &(String, u64)) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let revoke = Revoke { subject, issued_before: void_up_to.saturating_add(1) };
        let Ok(payload) = postcard::to_stdvec(&revoke) else { return };
        let mut told = Message::notification(peer.session.take_id(), const { Address::literal(bus::REVOKE) });
        // Of those, none gets lost on a lane.
        told.flags.priority = MessagePriority::High;
        let told = told.with_payload(MessagePayload::Binary(&payload));
        let len = encode(&told, &mut self.out).unwrap_or(0);
        self.send_out(key, len, true);
    }

    fn trust(&mut self, key: PeerKey, name: &str, now: Instant) -> Result<()> {
        self.admit_name(key, name)?;
        let grant = self.own_grant(key, name, now)?;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.session.accept(grant);
        }
        self.handle_admitted(key, now);
        Ok(())
    }

    /// Checks a peer's token, and that it proves the name that the peer goes by.
    pub(crate) fn admit(&mut self, key: PeerKey, token: &[u8], now: Instant) -> Result<Grant> {
        let peer = self.peers.get(key);
        let channel = peer.map(Peer::channel).unwrap_or_default();
        let grant = self.config.auth.validate_token(token, &channel, self.unix_s(now))?;
        let suffix = peer.and_then(|peer| peer.options.suffix.as_deref());
        let name = match suffix {
            Some(suffix) => name_by_suffix(peer, grant.subject(), suffix)?,
            None => peer.and_then(Peer::said_name).unwrap_or_default(),
        };
        if !proves(grant.subject(), &name) {
            let subject = grant.subject();
            return Err(Error::Authentication(format!(
                "the token of '{subject}' does not prove the name '{name}': use the name '{subject}' or one that begins with '{subject}.'"
            )));
        }
        if let Some(only) = peer.and_then(|peer| peer.options.only.as_ref()).filter(|only| **only != name) {
            return Err(Error::Authentication(format!(
                "this line is for '{only}', as the hub is configured, and not for '{name}'"
            )));
        }
        self.admit_name(key, &name)?;
        Ok(grant)
    }

    fn admit_name(&self, key: PeerKey, name: &str) -> Result<()> {
        if name == BUS {
            return Err(Error::Connection("the name 'bus' is the hub's own: use another".to_owned()));
        }
        if self.registry.contains(name) || self.names.get(name).is_some_and(|owner| *owner != key) {
            return Err(Error::Connection(format!(
                "the name '{name}' is taken by a live session: end that one or use another name"
            )));
        }
        Ok(())
    }

    /// The session has a grant: a first one makes it a peer, a further one renews what it has.
    pub(crate) fn handle_admitted(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(name) = peer.session_name() else { return };
        if peer.name == name {
            return self.renew_lasting(key, now);
        }
        peer.name.clone_from(&name);
        peer.link.admit();
        peer.address = Address::new(&name).ok().map(AddressBuf::from);
        tracing::info!("{name} is here: {}", peer.origin);
        let transport = peer.origin.transport();
        self.watchers.tell(|| HubEvent::PeerUp { name: name.clone(), transport: transport.to_string() });
        self.names.insert(name, key);
        self.renew_proof(key, now);
        self.describe_rows(key, now);
    }

    fn send_proof(&mut self, key: PeerKey, now: Instant) {
        let unix_s = self.unix_s(now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(remote) = peer.session.remote() else { return };
        // For this start of the peer: what was proven to an earlier one, or to another board, is worth nothing to it.
        let claims = Claims {
            serial: remote.boot_id,
            ..hub_claims(BUS, &peer.name, now, unix_s, Scopes::new(&["*"]))
        };
        match self.config.auth.mint_own(&claims) {
            Ok(token) => {
                let len = peer.session.authenticate(&token, now, &mut self.out);
                self.send_out(key, len, true);
            }
            Err(error) => tracing::error!("the hub cannot mint a token for {}: {error}", peer.name),
        }
    }

    /// A grant for a peer whose link is trusted or has proven it: minted and checked like any other.
    fn own_grant(&self, key: PeerKey, name: &str, now: Instant) -> Result<Grant> {
        let unix_s = self.unix_s(now);
        let claims = Claims {
            expiry: unix_s + TRUSTED_LIFETIME_S,
            ..hub_claims(name, BUS, now, unix_s, Scopes::new(&[]))
        };
        let minted = self.config.auth.mint_own(&claims);
        let token = minted.map_err(|e| Error::Internal(format!("the hub cannot mint: {e}")))?;
        let channel = self.peers.get(key).map(Peer::channel).unwrap_or_default();
        let grant = self.config.auth.validate_token(&token, &channel, unix_s);
        grant.map_err(|e| Error::Internal(format!("the hub does not take its own token: {e}")))
    }
}

/// On a link with a key nothing is taken from an end that has not proven that it owns it, and no hello in another name.
pub(crate) fn check_link_key(peer: &Peer, message: &Message<'_>) -> Result<()> {
    if !peer.options.keyed {
        return Ok(());
    }
    let Some(proven) = &peer.proven else {
        return Err(Error::Authentication("nobody has proven the key of this link".to_owned()));
    };
    if message.destination.is_none_or(|to| to.as_str() != bus::HELLO) || message.is_reply() {
        return Ok(());
    }
    // One that cannot be read is refused by the session.
    let said = message.payload.parse::<Identity<'_>>().ok();
    match said.filter(|identity| identity.name != proven.name) {
        Some(Identity { name, .. }) => {
            Err(Error::Authentication(format!("the key of this link proves '{}', not '{name}'", proven.name)))
        }
        None => Ok(()),
    }
}

/// A suffix is one that makes no name of anybody else's, on a link whose ends have to prove whom it is added to.
pub(crate) fn check_suffix(options: &LinkOptions) -> Result<()> {
    let LinkOptions { suffix: Some(suffix), unauthenticated, only, keyed, .. } = options else {
        return Ok(());
    };
    if !is_name(suffix) || suffix.contains('.') {
        return Err(Error::Internal(format!(
            "'{suffix}' is no suffix of a name: it takes small letters, digits, _ and -"
        )));
    }
    if *keyed || unauthenticated.is_some() || only.is_some() {
        let text = "a link with a suffix has no name of its own: it is neither keyed nor believed by name";
        return Err(Error::Internal(text.to_owned()));
    }
    Ok(())
}

/// The name of an end that says none itself: of whoever it has proven to be, for as long as it is here.
fn name_by_suffix(peer: Option<&Peer>, subject: &str, suffix: &str) -> Result<String> {
    let name = suffixed(subject, suffix);
    let before = peer.map(|peer| peer.name.as_str()).filter(|before| !before.is_empty());
    if let Some(before) = before.filter(|before| **before != name) {
        return Err(Error::Authentication(format!(
            "this session is '{before}' and cannot become one of '{subject}': begin another"
        )));
    }
    if name.len() > MAX_NAME {
        return Err(Error::Authentication(format!(
            "'{subject}' would go by the name '{name}' here, which is longer than {MAX_NAME} bytes: use a subject with \
             a shorter name"
        )));
    }
    Ok(name)
}

/// The name that an end goes by on a link with a suffix.
pub(crate) fn suffixed(subject: &str, suffix: &str) -> String {
    format!("{subject}.{suffix}")
}

/// Whether a token for `subject` proves `name`: the same, or one that begins with it and a dot. The hub's own tokens
/// prove nothing to itself.
fn proves(subject: &str, name: &str) -> bool {
    subject != BUS && name.strip_prefix(subject).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Revocations as a board keeps them: the newest of so many subjects by name, all others as everybody's, up to the newest
/// of those. That comes first: what it covers makes room for a name.
pub(crate) fn for_boards(revocations: Vec<(String, u64)>) -> Vec<(String, u64)> {
    let (everybody, mut named): (Vec<_>, Vec<_>) =
        revocations.into_iter().partition(|(subject, _)| subject.is_empty());
    named.sort_by_key(|(_, void_up_to)| Reverse(*void_up_to));
    let rest = named.split_off(named.len().min(MAX_REVOKED));
    let everybody = everybody.into_iter().chain(rest).map(|(_, void_up_to)| void_up_to).max();
    named.retain(|(_, void_up_to)| everybody.is_none_or(|everybody| *void_up_to > everybody));
    everybody.map(|void_up_to| (String::new(), void_up_to)).into_iter().chain(named).collect()
}

fn hub_claims<'a>(
    subject: &'a str,
    audience: &'a str,
    now: Instant,
    unix_s: u64,
    scopes: Scopes<'a>,
) -> Claims<'a> {
    let (serial, expiry) = (now.as_micros(), unix_s + PROOF_LIFETIME_S);
    Claims { issuer: BUS, subject, audience, serial, issued_at: unix_s, expiry, epoch: 0, scopes }
}

/// From a token that was refused to the next look at all sessions.
const RECHECK_MS: u32 = 50;
/// Ten years: a trusted link is trusted until its configuration says otherwise.
const TRUSTED_LIFETIME_S: u64 = 10 * 365 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_told_the_newest_by_name_and_of_all_others_one_moment_first() {
        let own = |subject: &str, void_up_to| (subject.to_owned(), void_up_to);
        assert_eq!(for_boards(Vec::new()), []);
        let few = vec![own("a", 3), own("b", 7)];
        assert_eq!(for_boards(few), [own("b", 7), own("a", 3)]);
        let many: Vec<_> = (1..=1024).map(|at| own(&format!("s{at}"), at)).collect();
        let told =
            [own("", 1020), own("s1024", 1024), own("s1023", 1023), own("s1022", 1022), own("s1021", 1021)];
        assert_eq!(for_boards(many.clone()), told);
        let everybody = vec![own("a", 3), own("", 5), own("b", 7), own("c", 5)];
        assert_eq!(for_boards(everybody), [own("", 5), own("b", 7)]);
    }
}
