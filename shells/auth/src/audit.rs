//! What is told of who came, who was refused and what was taken back. Knows no bus and no file: an event is a value.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::{AuthMethod, Channel, Transport, unix_seconds};

/// Something that whoever answers for the hub wants to know of. Never a secret: no credential and no token is in it.
///
/// What is not known is empty. Texts are cut at [`AuditEvent::MAX_TEXT`] bytes and hold no control characters, so that
/// nobody can write a line of their own into a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct AuditEvent {
    /// When, in Unix seconds.
    pub time: u64,
    /// The word of an [`AuditKind`].
    pub what: String,
    /// Whom it is about: the subject, or the name that somebody claimed.
    pub subject: String,
    /// The word of an [`AuthMethod`].
    pub method: String,
    /// The word of a [`Transport`].
    pub transport: String,
    /// Where the other end is.
    pub address: String,
    /// The operation that was asked for.
    pub operation: String,
    /// The address or pattern that was asked for.
    pub resource: String,
    /// Why.
    pub reason: String,
}

impl AuditEvent {
    /// Bytes of the longest text in an event.
    pub const MAX_TEXT: usize = 160;

    /// An event of this kind, now, about nobody yet.
    pub fn new(kind: AuditKind) -> Self {
        Self {
            time: unix_seconds(),
            what: kind.as_str().to_owned(),
            subject: String::new(),
            method: String::new(),
            transport: String::new(),
            address: String::new(),
            operation: String::new(),
            resource: String::new(),
            reason: String::new(),
        }
    }

    /// About this subject, or whoever calls itself so.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.subject = clean(subject);
        self
    }

    /// Who proved themselves in this way, or tried to.
    #[must_use]
    pub fn method(mut self, method: AuthMethod) -> Self {
        self.method = method.as_str().to_owned();
        self
    }

    /// Over this channel.
    #[must_use]
    pub fn channel(self, channel: &Channel<'_>) -> Self {
        self.at(channel.transport, channel.address)
    }

    /// Over this transport, from this address.
    #[must_use]
    pub fn at(mut self, transport: Transport, address: &str) -> Self {
        self.transport = transport.as_str().to_owned();
        self.address = clean(address);
        self
    }

    /// Who asked to do this to that.
    #[must_use]
    pub fn asked(mut self, operation: &str, resource: &str) -> Self {
        (self.operation, self.resource) = (clean(operation), clean(resource));
        self
    }

    /// For this reason. The text must hold nothing that the other side sent and that might be a secret.
    #[must_use]
    pub fn reason(mut self, reason: impl std::fmt::Display) -> Self {
        self.reason = clean(&reason.to_string());
        self
    }

    /// Writes it into the log, with the target `visorbus::audit`, a line to read and a field for each of its parts. What was
    /// refused or cut off is a warning, all else information.
    pub fn emit(&self) {
        let Self { what, subject, method, transport, address, operation, resource, reason, .. } = self;
        if AuditKind::parse(what).is_some_and(AuditKind::is_trouble) {
            tracing::warn!(target: "visorbus::audit", what, subject, method, transport, address, operation, resource, reason, "{self}");
        } else {
            tracing::info!(target: "visorbus::audit", what, subject, method, transport, address, operation, resource, reason, "{self}");
        }
    }
}

/// One line for people: `denied: anna (unix, uid 1000), request imu/rate: no rule allows it`.
impl std::fmt::Display for AuditEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what.replace('_', " "))?;
        if !self.subject.is_empty() {
            write!(f, ": {}", self.subject)?;
        }
        let how = [&self.transport, &self.address, &self.method];
        let how: Vec<&str> = how.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        if !how.is_empty() {
            write!(f, " ({})", how.join(", "))?;
        }
        if !self.operation.is_empty() {
            write!(f, ", {} {}", self.operation, self.resource)?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditKind {
    /// Somebody proved who they are.
    Authenticated,
    /// Somebody could not prove who they are.
    Refused,
    /// Somebody known asked for what they may not do.
    Denied,
    /// A token was renewed.
    Refreshed,
    /// A token, all of a subject's or all of a key's were taken back.
    Revoked,
    /// A token that had been renewed was used again, so its whole family was taken back.
    Reused,
    /// A live session lost what it was allowed.
    CutOff,
    /// The policy was read again.
    PolicyReloaded,
    /// Accounts and keys were read again.
    AccountsReloaded,
    /// What lies on disk could not be read; what was before holds.
    ReloadFailed,
    /// A secured link is up: both ends have proven that they hold its key.
    LinkUp,
    /// A secured link is down.
    LinkDown,
    /// A link or peer is believed without proof, as configured.
    Trusted,
}

impl AuditKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Refreshed => "refreshed",
            Self::Revoked => "revoked",
            Self::Reused => "reused",
            Self::CutOff => "cut_off",
            Self::PolicyReloaded => "policy_reloaded",
            Self::AccountsReloaded => "accounts_reloaded",
            Self::ReloadFailed => "reload_failed",
            Self::LinkUp => "link_up",
            Self::LinkDown => "link_down",
            Self::Trusted => "trusted",
        }
    }

    /// The kind that `word` stands for.
    pub fn parse(word: &str) -> Option<Self> {
        ALL.iter().copied().find(|kind| kind.as_str() == word)
    }

    /// Whether somebody should look at it.
    const fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Refused | Self::Denied | Self::Reused | Self::CutOff | Self::ReloadFailed | Self::Trusted
        )
    }
}

impl std::fmt::Display for AuditKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line of at most [`AuditEvent::MAX_TEXT`] bytes.
fn clean(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + character.len_utf8() > AuditEvent::MAX_TEXT {
            break;
        }
        out.push(character);
    }
    out
}

const ALL: [AuditKind; 13] = [
    AuditKind::Authenticated,
    AuditKind::Refused,
    AuditKind::Denied,
    AuditKind::Refreshed,
    AuditKind::Revoked,
    AuditKind::Reused,
    AuditKind::CutOff,
    AuditKind::PolicyReloaded,
    AuditKind::AccountsReloaded,
    AuditKind::ReloadFailed,
    AuditKind::LinkUp,
    AuditKind::LinkDown,
    AuditKind::Trusted,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_a_line_of_their_own_into_the_log() {
        let event =
            AuditEvent::new(AuditKind::Refused).subject("eve\nauthenticated root").reason("x".repeat(999));
        assert_eq!(event.subject, "eve authenticated root");
        assert_eq!(event.reason.len(), AuditEvent::MAX_TEXT);
        assert_eq!(
            AuditEvent::new(AuditKind::Denied).reason("ä".repeat(200)).reason.len(),
            AuditEvent::MAX_TEXT
        );
    }

    #[test]
    fn a_line_for_people_says_what_is_known_and_nothing_else() {
        let known = AuditEvent::new(AuditKind::Denied)
            .subject("anna")
            .at(Transport::Unix, "uid 1000")
            .asked("request", "imu/rate")
            .reason("no rule allows it");
        assert_eq!(known.to_string(), "denied: anna (unix, uid 1000), request imu/rate: no rule allows it");
        assert_eq!(AuditEvent::new(AuditKind::PolicyReloaded).to_string(), "policy reloaded");
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in ALL {
            assert_eq!(AuditKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(AuditKind::parse("Refused"), None);
    }
}
