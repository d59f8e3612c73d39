//! The policy as it is written: TOML, checked through and turned into tables. Knows no file system.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use toml::Spanned;
use visorbus_core::auth::{BUS, Scope};
use visorbus_core::message::address::is_name;

use super::rule::{Limits, OwnedScope, Rule, parse_minute};
use super::tables::{Mapping, Tables, UnixId};
use super::{CertificateId, PolicyError};
use crate::Transport;

/// Reads a policy; `name` is the file's, for messages.
pub(super) fn parse(name: &str, text: &str) -> Result<Tables, PolicyError> {
    let source = Source { name, text };
    let document: Document = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.error(at, error.message().trim().replace('\n', "; "))
    })?;
    let mut tables = Tables::default();
    for (subject, entry) in &document.subjects {
        source.check_subject(subject)?;
        tables.add_subject(subject.get_ref(), source.scopes(&entry.scopes)?);
    }
    for entry in &document.unix {
        let (id, mapping) = source.unix(entry)?;
        if !tables.add_unix(id, mapping) {
            return Err(source.error(entry.span().start, format!("there is an entry for {id} already")));
        }
    }
    for entry in &document.certificate {
        let (id, mapping) = source.certificate(entry)?;
        if !tables.add_certificate(id, mapping) {
            let text = "there is an entry for this certificate already";
            return Err(source.error(entry.span().start, text));
        }
    }
    for entry in &document.rule {
        let rule = source.rule(entry)?;
        if !tables.add_rule(rule) {
            return Err(source.error(entry.span().start, "a policy has at most 1024 rules: join some"));
        }
    }
    Ok(tables.finish())
}

/// The text and its name, to say where something is wrong.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, at: usize, problem: impl Into<String>) -> PolicyError {
        let before = self.text.get(..at).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        PolicyError::Wrong {
            place: format!("{}:{}:{column}", self.name, line(before)),
            problem: problem.into(),
        }
    }

    fn check_subject(&self, subject: &Spanned<String>) -> Result<(), PolicyError> {
        if is_name(subject.get_ref()) && subject.get_ref() != BUS {
            return Ok(());
        }
        let problem = format!(
            "'{}' is no subject: at most 32 of a-z, 0-9, '.', '_', '-', and not 'bus', which is the hub",
            subject.get_ref()
        );
        Err(self.error(subject.span().start, problem))
    }

    fn scopes(&self, scopes: &[Spanned<String>]) -> Result<Vec<String>, PolicyError> {
        let check = |scope: &Spanned<String>| {
            if Scope::parse(scope.get_ref()).is_some() {
                return Ok(scope.get_ref().clone());
            }
            let problem = format!(
                "'{}' is no scope: a name of a-z, 0-9, '.', '_', '-', or 'operation:pattern' such as \
                 'subscribe:imu/**', or '*'; at most 48 bytes",
                scope.get_ref()
            );
            Err(self.error(scope.span().start, problem))
        };
        scopes.iter().map(check).collect()
    }

    fn unix(&self, entry: &Spanned<RawUnix>) -> Result<(UnixId, Mapping), PolicyError> {
        let raw = entry.get_ref();
        let id = match (raw.uid, raw.gid) {
            (Some(uid), None) => UnixId::Uid(uid),
            (None, Some(gid)) => UnixId::Gid(gid),
            _ => return Err(self.error(entry.span().start, "say either uid or gid, and not both")),
        };
        self.check_subject(&raw.subject)?;
        Ok((id, Mapping { subject: raw.subject.get_ref().clone(), scopes: self.scopes(&raw.scopes)? }))
    }

    fn certificate(&self, entry: &Spanned<RawCertificate>) -> Result<(CertificateId, Mapping), PolicyError> {
        let raw = entry.get_ref();
        let hash = |text: &Spanned<String>| {
            let problem =
                "a SHA-256 is 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` shows it";
            crate::hex::parse_fingerprint(text.get_ref())
                .ok_or_else(|| self.error(text.span().start, problem))
        };
        let id = match (&raw.sha256, &raw.spki, &raw.uri) {
            (Some(text), None, None) => CertificateId::Sha256(hash(text)?),
            (None, Some(text), None) => CertificateId::Spki(hash(text)?),
            (None, None, Some(uri)) => {
                let text = uri.get_ref();
                if !super::summary::is_uri(text) {
                    let problem = "a URI is 'scheme:…' in visible ASCII, whole: there are no wildcards";
                    return Err(self.error(uri.span().start, problem));
                }
                CertificateId::Uri(text.clone())
            }
            _ => return Err(self.error(entry.span().start, "say one of sha256, spki and uri")),
        };
        self.check_subject(&raw.subject)?;
        Ok((id, Mapping { subject: raw.subject.get_ref().clone(), scopes: self.scopes(&raw.scopes)? }))
    }

    fn rule(&self, entry: &Spanned<RawRule>) -> Result<Rule, PolicyError> {
        let raw = entry.get_ref();
        let scope = raw.scope.get_ref();
        if !matches!(Scope::parse(scope), Some(Scope::Name(_))) {
            let problem = format!("'{scope}' is no name of a scope: use a-z, 0-9, '.', '_', '-', at most 48");
            return Err(self.error(raw.scope.span().start, problem));
        }
        let allow =
            raw.allow.get_ref().iter().map(|text| self.allowed(text)).collect::<Result<Box<[_]>, _>>()?;
        if allow.is_empty() {
            let problem = "a rule that allows nothing does nothing: name something, or delete the rule";
            return Err(self.error(raw.allow.span().start, problem));
        }
        let limits = self.limits(entry)?;
        let mut hasher = DefaultHasher::new();
        (scope, &allow, &limits).hash(&mut hasher);
        let place =
            format!("{}:{}", self.name, line(self.text.get(..entry.span().start).unwrap_or_default()));
        Ok(Rule { place, scope: scope.as_str().into(), allow, limits, key: hasher.finish() })
    }

    fn allowed(&self, text: &Spanned<String>) -> Result<OwnedScope, PolicyError> {
        OwnedScope::parse(text.get_ref()).ok_or_else(|| {
            let problem = format!(
                "'{}' cannot be allowed: say 'operation:pattern' such as 'request:imu/*' (request, notify, \
                 subscribe, register, administer or *), the name of a scope, or '*'; a pattern has segments of \
                 a-z, 0-9, '.', '_', '-', or '*' for one, or a last '**' for the rest",
                text.get_ref()
            );
            self.error(text.span().start, problem)
        })
    }

    fn limits(&self, entry: &Spanned<RawRule>) -> Result<Limits, PolicyError> {
        let raw = entry.get_ref();
        if let Some(rate) = raw.max_rate.as_ref().filter(|rate| !(1..=MAX_RATE).contains(rate.get_ref())) {
            return Err(self.error(rate.span().start, "max_rate is from 1 to 1000000 messages a second"));
        }
        if let Some(transports) = &raw.transports {
            let known = !transports.get_ref().contains(&Transport::Unknown);
            if transports.get_ref().is_empty() || !known {
                let problem =
                    "transports are some of unix, serial, spi, websocket, dbus; leave it out for all";
                return Err(self.error(transports.span().start, problem));
            }
        }
        let minute = |text: &Spanned<String>| {
            let problem = "a time of day is 'HH:MM' in UTC, from 00:00 to 23:59";
            parse_minute(text.get_ref()).ok_or_else(|| self.error(text.span().start, problem))
        };
        let window = match (&raw.from, &raw.until) {
            (Some(from), Some(until)) => Some((minute(from)?, minute(until)?)),
            (None, None) => None,
            _ => return Err(self.error(entry.span().start, "'from' and 'until' go together: say both")),
        };
        if window.is_some_and(|(from, until)| from == until) {
            let problem = "'from' and 'until' are the same: leave both out for the whole day";
            return Err(self.error(entry.span().start, problem));
        }
        Ok(Limits {
            max_rate: raw.max_rate.as_ref().map(|rate| *rate.get_ref()),
            max_payload: raw.max_payload,
            transports: raw.transports.as_ref().map(|list| list.get_ref().clone().into()),
            window,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    subjects: BTreeMap<Spanned<String>, RawSubject>,
    #[serde(default)]
    unix: Vec<Spanned<RawUnix>>,
    #[serde(default)]
    certificate: Vec<Spanned<RawCertificate>>,
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubject {
    scopes: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUnix {
    uid: Option<u32>,
    gid: Option<u32>,
    subject: Spanned<String>,
    #[serde(default)]
    scopes: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    sha256: Option<Spanned<String>>,
    spki: Option<Spanned<String>>,
    uri: Option<Spanned<String>>,
    subject: Spanned<String>,
    #[serde(default)]
    scopes: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    scope: Spanned<String>,
    allow: Spanned<Vec<Spanned<String>>>,
    max_rate: Option<Spanned<u32>>,
    max_payload: Option<usize>,
    transports: Option<Spanned<Vec<Transport>>>,
    from: Option<Spanned<String>>,
    until: Option<Spanned<String>>,
}

/// The line on which what follows `before` stands.
fn line(before: &str) -> usize {
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}

const MAX_RATE: u32 = 1_000_000;
