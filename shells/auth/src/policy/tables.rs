//! A policy in the form in which it decides: tables that are looked up, never searched through.

use std::collections::HashMap;

use visorbus_core::auth::{Access, Grant, Permission, Refusal, Scope, authorize_pattern};

use super::CertificateId;
use super::rule::{OwnedScope, Rule, Wanted};
use crate::{Asked, Denial};

/// All that one policy says.
#[derive(Debug, Default)]
pub(super) struct Tables {
    subjects: HashMap<Box<str>, Subject, foldhash::fast::RandomState>,
    rules: Vec<Rule>,
    /// By scope, the rules for it in the order of the file.
    by_scope: HashMap<Box<str>, Vec<u16>, foldhash::fast::RandomState>,
    unix: HashMap<UnixId, Mapping>,
    certificates: HashMap<CertificateId, Mapping>,
}

/// What the policy gives one subject, beside what its tokens say.
#[derive(Debug, Default)]
struct Subject {
    scopes: Vec<OwnedScope>,
    /// The rules for these scopes.
    rules: Vec<u16>,
}

/// Who somebody is by a credential of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Whom they are taken for.
    pub(crate) subject: String,
    /// What their tokens say.
    pub(crate) scopes: Vec<String>,
}

/// A user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum UnixId {
    Uid(u32),
    Gid(u32),
}

/// What let something through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Allowed<'p> {
    /// It asks for nothing.
    Open,
    /// A scope of the token.
    Token,
    /// This scope, which the policy gives the subject.
    Subject(&'p OwnedScope),
    /// This rule.
    Rule(&'p Rule),
}

/// What stood in the way, and the rule that came nearest.
pub(super) type Denied<'a, 'p> = (Denial<'a>, Option<&'p Rule>);

impl Tables {
    pub(super) fn add_subject(&mut self, subject: &str, scopes: Vec<String>) {
        let scopes = scopes.iter().filter_map(|scope| OwnedScope::parse(scope)).collect();
        self.subjects.insert(subject.into(), Subject { scopes, rules: Vec::new() });
    }

    /// `false` when there is one already.
    pub(super) fn add_unix(&mut self, id: UnixId, mapping: Mapping) -> bool {
        self.unix.insert(id, mapping).is_none()
    }

    /// `false` when there is one already.
    pub(super) fn add_certificate(&mut self, id: CertificateId, mapping: Mapping) -> bool {
        self.certificates.insert(id, mapping).is_none()
    }

    /// `false` when there are too many.
    pub(super) fn add_rule(&mut self, rule: Rule) -> bool {
        if self.rules.len() >= MAX_RULES {
            return false;
        }
        self.by_scope.entry(rule.scope.clone()).or_default().push(self.rules.len() as u16);
        self.rules.push(rule);
        true
    }

    /// Gives each subject the rules of its scopes.
    #[must_use]
    pub(super) fn finish(mut self) -> Self {
        for subject in self.subjects.values_mut() {
            let names = subject.scopes.iter().filter_map(|scope| match scope {
                OwnedScope::Name(name) => self.by_scope.get(name),
                _ => None,
            });
            subject.rules = names.flatten().copied().collect();
        }
        self
    }

    /// The decision. `take` counts a message against a rule's rate, or says in how many milliseconds it may come.
    ///
    /// Order: open addresses; no grant, no time, expired; the token's scopes; the subject's scopes; then the rules for
    /// all of them. The first that allows decides; else the denial of the rule that came nearest.
    pub(super) fn decide<'a, 'p>(
        &'p self,
        asked: &Asked<'a>,
        mut take: impl FnMut(&Rule, u32) -> Result<(), u32>,
    ) -> Result<Allowed<'p>, Denied<'a, 'p>> {
        let Asked { operation, resource, access, .. } = *asked;
        if access == Access::Open {
            return Ok(Allowed::Open);
        }
        let refusal = match authorize_pattern(asked.grant, operation, resource, access, Some(asked.unix_now))
        {
            Ok(()) => return Ok(Allowed::Token),
            Err(refusal) => refusal,
        };
        let missing = matches!(refusal, Refusal::MissingScope(_) | Refusal::MissingPermission(_));
        let Some(grant) = asked.grant.filter(|_| missing) else {
            return Err((Denial::Refused(refusal), None));
        };
        let wanted = match access {
            Access::Scope(name) => Scope::Name(name),
            _ => Scope::Permission(Permission { operation: Some(operation), pattern: resource }),
        };
        let wanted = Wanted::from(wanted);
        let subject = self.subjects.get(grant.subject());
        let mut own = subject.iter().flat_map(|subject| &subject.scopes);
        if let Some(scope) = own.find(|scope| scope.covers(wanted)) {
            return Ok(Allowed::Subject(scope));
        }
        let mut nearest: Denied<'a, 'p> = (Denial::Refused(refusal), None);
        for rule in self.rules_of(grant).filter(|rule| rule.covers(wanted)) {
            let denial = match stands_in_the_way(rule, asked, &mut take) {
                None => return Ok(Allowed::Rule(rule)),
                Some(denial) => denial,
            };
            if nearness(denial) > nearness(nearest.0) {
                nearest = (denial, Some(rule));
            }
        }
        Err(nearest)
    }

    /// All rules, in the order of the file.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The subjects that it gives scopes to.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (&str, &[OwnedScope])> {
        self.subjects.iter().map(|(name, subject)| (&**name, &*subject.scopes))
    }

    /// By what somebody is known, and whom they are taken for.
    pub(super) fn mappings(&self) -> impl Iterator<Item = (String, &Mapping)> {
        let unix = self.unix.iter().map(|(id, mapping)| (id.to_string(), mapping));
        unix.chain(self.certificates.iter().map(|(id, mapping)| (id.to_string(), mapping)))
    }

    /// The rules for the scopes of a grant and then for those of its subject.
    pub(super) fn rules_of<'p, 'g>(
        &'p self,
        grant: &'g Grant,
    ) -> impl Iterator<Item = &'p Rule> + use<'p, 'g> {
        let of_token = grant.scopes().filter_map(|scope| self.by_scope.get(scope)).flatten();
        let of_subject = self.subjects.get(grant.subject()).into_iter().flat_map(|subject| &subject.rules);
        of_token.chain(of_subject).filter_map(|index| self.rules.get(usize::from(*index)))
    }

    /// The scopes that the policy gives a subject.
    pub(super) fn scopes_of(&self, subject: &str) -> &[OwnedScope] {
        self.subjects.get(subject).map_or(&[], |subject| &subject.scopes)
    }

    /// When the time window of a rule next begins or ends.
    pub(super) fn next_change(&self, unix_now: u64) -> Option<u64> {
        let day = unix_now - unix_now % DAY;
        let edges =
            self.rules.iter().filter_map(|rule| rule.limits.window).flat_map(|(from, until)| [from, until]);
        edges
            .map(|minute| day + u64::from(minute) * 60)
            .map(|edge| if edge > unix_now { edge } else { edge + DAY })
            .min()
    }

    /// Whether any rule has a rate.
    pub(super) fn has_rates(&self) -> bool {
        self.rules.iter().any(|rule| rule.limits.max_rate.is_some())
    }

    /// Whom a user of this main group, where that is known, is taken for: the entry for the user, else that for the group.
    pub(super) fn unix(&self, uid: u32, gid: Option<u32>) -> Option<&Mapping> {
        let of_group = || gid.and_then(|gid| self.unix.get(&UnixId::Gid(gid)));
        self.unix.get(&UnixId::Uid(uid)).or_else(of_group)
    }

    /// Whom the owner of a certificate is taken for.
    pub(super) fn certificate(&self, id: &CertificateId) -> Option<&Mapping> {
        self.certificates.get(id)
    }
}

impl std::fmt::Display for UnixId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Gid(gid) => write!(f, "gid {gid}"),
        }
    }
}

/// The first constraint of a rule that is not met, in the order from coarse to fine. Its rate is used up only by what is
/// done and meets all others.
fn stands_in_the_way(
    rule: &Rule,
    asked: &Asked<'_>,
    take: &mut impl FnMut(&Rule, u32) -> Result<(), u32>,
) -> Option<Denial<'static>> {
    let payload_len = if asked.counts { asked.payload_len } else { 0 };
    if let Err(denial) = rule.limits.check(asked.transport, payload_len, asked.unix_now) {
        return Some(denial);
    }
    let max_rate = rule.limits.max_rate.filter(|_| asked.counts)?;
    take(rule, max_rate).err().map(|retry_ms| Denial::TooOften { max_rate, retry_ms })
}

/// How near a denial came to allowing: the later the constraint, the nearer.
const fn nearness(denial: Denial<'_>) -> u8 {
    match denial {
        Denial::Refused(_) => 0,
        Denial::OtherTransport => 1,
        Denial::OtherTime => 2,
        Denial::TooLong { .. } => 3,
        Denial::TooOften { .. } => 4,
    }
}

/// Seconds.
const DAY: u64 = 86_400;
const MAX_RULES: usize = 1024;
