//! Who came in and how, who did not, what was refused, what was taken away: told to the log, and on `bus/audit` to those
//! who may hear it. What one party brings about in a flood is summed up, and nothing waits for anybody to hear it.

use visorbus_auth::{AuditEvent, AuditKind, AuthMethod};
use visorbus_core::Instant;
use visorbus_core::bus;
use visorbus_core::message::Address;

use crate::HashMap;
use crate::gate::Denied;
use crate::hub::Hub;
use crate::link::Origin;
use crate::owned::Error;
use crate::peers::PeerKey;

/// What was told of each party lately, so that none can flood the log.
#[derive(Debug, Default)]
pub(crate) struct Floods {
    by_party: HashMap<(AuditKind, String), Flood>,
    /// When the first of them is over.
    pub(crate) due: Option<Instant>,
}

/// What was told of one party since `began`, and the last of what was not.
#[derive(Debug)]
struct Flood {
    began: Instant,
    told: u32,
    untold: u32,
    last: Option<AuditEvent>,
}

impl Floods {
    /// The event, if it is to be told now; else it is counted.
    fn admit(&mut self, kind: AuditKind, party: &str, event: AuditEvent, now: Instant) -> Option<AuditEvent> {
        self.due.get_or_insert(now.plus_millis(FLOOD_MS));
        // Whoever makes up names must not fill the memory.
        let party = if self.by_party.len() < MAX_PARTIES { party } else { "" };
        let new = || Flood { began: now, told: 0, untold: 0, last: None };
        let flood = self.by_party.entry((kind, party.to_owned())).or_insert_with(new);
        if flood.told < MAX_TOLD {
            flood.told += 1;
            return Some(event);
        }
        flood.untold = flood.untold.saturating_add(1);
        flood.last = Some(event);
        None
    }

    /// What is to be told of the floods that are over.
    fn take_over(&mut self, now: Instant) -> Vec<AuditEvent> {
        let mut over = Vec::new();
        self.by_party.retain(|_, flood| {
            if now < flood.began.plus_millis(FLOOD_MS) {
                return true;
            }
            if let Some(last) = flood.last.take() {
                let reason = format!("{} like this in a second, the last: {}", flood.untold, last.reason);
                over.push(last.reason(reason));
            }
            false
        });
        self.due = self.by_party.values().map(|flood| flood.began.plus_millis(FLOOD_MS)).min();
        over
    }
}

impl Hub {
    /// Tells of something that happens rarely.
    pub(crate) fn audit(&mut self, event: &AuditEvent) {
        event.emit();
        self.publish_own(const { Address::literal(bus::AUDIT) }, event);
    }

    /// Tells of something that a party can bring about as often as it likes.
    fn audit_often(&mut self, kind: AuditKind, party: &str, event: AuditEvent) {
        let now = self.now();
        if let Some(event) = self.floods.admit(kind, party, event, now) {
            self.audit(&event);
        }
    }

    /// Tells of something that a peer, or whoever is at its line or of its user, can bring about so.
    pub(crate) fn audit_of(&mut self, key: PeerKey, kind: AuditKind, event: AuditEvent) {
        let party = self.party(key);
        self.audit_often(kind, &party, event);
    }

    /// Tells of floods that are over.
    pub(crate) fn audit_floods(&mut self, now: Instant) {
        for event in self.floods.take_over(now) {
            self.audit(&event);
        }
    }

    /// An event about a peer.
    pub(crate) fn event(&self, kind: AuditKind, key: PeerKey) -> AuditEvent {
        let event = AuditEvent::new(kind);
        match self.peers.get(key) {
            Some(peer) => event.subject(&peer.label()).channel(&peer.channel()),
            None => event,
        }
    }

    /// Somebody has proven who they are.
    pub(crate) fn audit_authenticated(&mut self, key: PeerKey, method: AuthMethod) {
        let event = self.event(AuditKind::Authenticated, key).method(method);
        self.audit_of(key, AuditKind::Authenticated, event);
    }

    /// Somebody has not.
    pub(crate) fn audit_refused(&mut self, key: PeerKey, method: Option<AuthMethod>, error: &Error) {
        self.tally.auth_refusals += 1;
        let event = self.event(AuditKind::Refused, key).reason(error.text());
        let event = match method {
            Some(method) => event.method(method),
            None => event,
        };
        self.audit_of(key, AuditKind::Refused, event);
    }

    /// As [`Hub::audit_refused`] of a party that has no connection.
    pub(crate) fn audit_refusal_of(&mut self, party: &str, event: AuditEvent) {
        self.tally.auth_refusals += 1;
        self.audit_often(AuditKind::Refused, party, event);
    }

    /// A connection got no place, which whoever makes many can bring about as often as they like.
    pub(crate) fn audit_not_let_in(&mut self, origin: &Origin, error: &Error) {
        let party = origin.party();
        let event = AuditEvent::new(AuditKind::Refused).at(origin.transport(), &party);
        let event = event.subject(&origin.to_string()).reason(format!("not let in: {}", error.text()));
        self.audit_often(AuditKind::Refused, &party, event);
    }

    /// Notes that somebody was refused something; what they are told.
    pub(crate) fn deny(&mut self, from: PeerKey, denied: Denied) -> Error {
        self.deny_to(self.event(AuditKind::Denied, from), denied)
    }

    /// As [`Hub::deny`] of whoever `event` is about.
    pub(crate) fn deny_to(&mut self, event: AuditEvent, denied: Denied) -> Error {
        let Denied { operation, resource, error } = denied;
        let event = event.asked(operation.as_str(), &resource).reason(error.text());
        // By its proven name, so that a new connection is nobody new.
        let party = event.subject.clone();
        self.audit_often(AuditKind::Denied, &party, event);
        error
    }

    /// By whom somebody is known who has not proven a name.
    fn party(&self, key: PeerKey) -> String {
        self.peers.get(key).map(|peer| peer.guesser.clone()).unwrap_or_default()
    }
}

/// What one party brings about in so many milliseconds is one flood, of which so many events are told as they are.
const FLOOD_MS: u32 = 1_000;
const MAX_TOLD: u32 = 8;
const MAX_PARTIES: usize = 1024;
