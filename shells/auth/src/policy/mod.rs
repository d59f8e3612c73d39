//! A policy file: which scopes a subject has, whom a Unix user or a certificate is taken for, and what the holders of a
//! scope may do, how often, how much at once, over what and when.
//!
//! ```toml
//! [subjects.imu]                  # scopes that a subject has, beside those of its tokens
//! scopes = ["sensor"]
//!
//! [[unix]]                        # who a process is, by its user or (if no entry names that) by its group
//! uid = 1000
//! subject = "panel"
//! scopes = ["panel"]
//!
//! [[certificate]]                 # by the hash of the certificate (sha256) or of its key (spki), or by a URI in it (uri)
//! uri = "visorbus:panel"
//! subject = "panel"
//! scopes = ["panel"]
//!
//! [[rule]]
//! scope = "panel"                 # for whoever has this scope
//! allow = ["request:imu/*", "subscribe:imu/**"]
//! max_rate = 50                   # messages a second of one subject over all its sessions; as many at once
//! max_payload = 4096              # bytes
//! transports = ["unix"]           # of unix, serial, spi, websocket, dbus
//! from = "08:00"                  # UTC; may cross midnight
//! until = "20:00"
//! ```
//!
//! What no rule allows is refused: there are no rules that forbid, so their order opens nothing. `allow` may also name a
//! scope, for addresses that ask for that scope; a permission does not open these.
//!
//! A token's own scopes come first and are bound by no rule: where a subject is to be constrained, give it the name of a
//! scope that the policy has rules for, and not a permission.

mod explain;
mod file;
mod rate;
mod rule;
mod summary;
mod tables;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use visorbus_core::auth::Grant;

pub use explain::Explanation;
pub use summary::{MappingInfo, RuleInfo};
pub(crate) use tables::Mapping;

use crate::store::private;
use crate::{Asked, AuthorizationProvider, Denial, Error, Permission, Result};
use rate::Rates;
use rule::{OwnedScope, Rule};
use tables::Tables;

/// A policy, usually of a file. See [the module](self) for its form.
///
/// A decision takes no allocation and waits for nothing but another decision of the same moment.
pub struct Policy {
    path: PathBuf,
    /// Whether there are no rules where there is no file.
    may_be_missing: bool,
    tables: RwLock<Arc<Tables>>,
    rates: Mutex<Rates>,
    started: Instant,
}

impl Policy {
    /// A policy without a rule: tokens may do what they say, and nobody anything else.
    pub fn empty() -> Self {
        Self::with(PathBuf::new(), Tables::default())
    }

    /// Reads the policy at `path`, which belongs to this user or to root and which nobody else may write.
    ///
    /// # Errors
    /// [`PolicyError`] says what is wrong, at which line and column, and what to do.
    pub fn open(path: impl AsRef<Path>) -> std::result::Result<Self, PolicyError> {
        let path = path.as_ref();
        Ok(Self::with(path.to_owned(), read(path)?))
    }

    /// As [`Policy::open`]; where there is no file, there are no rules until there is one and it is read again.
    ///
    /// # Errors
    /// As [`Policy::open`] where there is a file.
    pub fn open_if_there(path: impl AsRef<Path>) -> std::result::Result<Self, PolicyError> {
        let path = path.as_ref();
        Ok(Self { may_be_missing: true, ..Self::with(path.to_owned(), read_if_there(path)?) })
    }

    /// The policy that `text` is; [`AuthorizationProvider::reload`] leaves it as it is.
    ///
    /// # Errors
    /// As [`Policy::open`].
    pub fn parse(text: &str) -> std::result::Result<Self, PolicyError> {
        Ok(Self::with(PathBuf::new(), file::parse("policy", text)?))
    }

    /// Where it was read; empty when in no file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whom a user of this group is taken for.
    pub(crate) fn unix(&self, uid: u32, gid: Option<u32>) -> Option<Mapping> {
        self.tables().unix(uid, gid).cloned()
    }

    /// Whom the owner of a certificate is taken for.
    pub(crate) fn certificate(&self, id: &CertificateId) -> Option<Mapping> {
        self.tables().certificate(id).cloned()
    }

    /// The scopes that it gives a subject, as texts.
    pub(crate) fn scopes_of(&self, subject: &str) -> Vec<String> {
        self.tables().scopes_of(subject).iter().map(OwnedScope::to_string).collect()
    }

    fn with(path: PathBuf, tables: Tables) -> Self {
        let rates = if tables.has_rates() { Rates::new() } else { Rates::default() };
        let (tables, rates) = (RwLock::new(Arc::new(tables)), Mutex::new(rates));
        Self { path, may_be_missing: false, tables, rates, started: Instant::now() }
    }

    fn tables(&self) -> Arc<Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a message of `subject` against the rate of `rule`.
    fn take(&self, subject: &str, rule: &Rule, max_rate: u32) -> std::result::Result<(), u32> {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(subject, rule.key, max_rate, now)
    }
}

impl AuthorizationProvider for Policy {
    fn is_authorized<'a>(&self, asked: &Asked<'a>) -> std::result::Result<(), Denial<'a>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let subject = asked.grant.map_or("", Grant::subject);
        let decision = tables.decide(asked, |rule, max_rate| self.take(subject, rule, max_rate));
        decision.map(|_| ()).map_err(|(denial, _)| denial)
    }

    fn permissions(&self, grant: &Grant) -> Vec<Permission> {
        let tables = self.tables();
        let mut permissions: Vec<_> = grant.scopes().map(Permission::of_scope).collect();
        let of_subject = tables.scopes_of(grant.subject());
        permissions.extend(of_subject.iter().map(|scope| Permission::of_scope(&scope.to_string())));
        for rule in tables.rules_of(grant) {
            permissions.extend(rule.allow.iter().map(|allowed| Permission {
                constraints: Some(rule.constraints()),
                ..Permission::of_scope(&allowed.to_string())
            }));
        }
        permissions
    }

    fn next_change(&self, unix_now: u64) -> Option<u64> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).next_change(unix_now)
    }

    fn reload(&self) -> Result<()> {
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        let read = if self.may_be_missing { read_if_there } else { read };
        let tables = read(&self.path).map_err(|e| Error::Message(e.to_string()))?;
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        // What was counted stays: reading a policy again gives nobody a fresh rate.
        if tables.has_rates() && !rates.is_allocated() {
            *rates = Rates::new();
        }
        drop(rates);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
        Ok(())
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Rule {
    /// Its constraints by name, and where it stands.
    fn constraints(&self) -> std::collections::BTreeMap<String, String> {
        let limits = &self.limits;
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let transports = limits.transports.as_ref().map(|list| {
            let words: Vec<_> = list.iter().map(|transport| transport.as_str()).collect();
            words.join(" ")
        });
        [
            ("rule", Some(self.place.clone())),
            ("max_rate", limits.max_rate.map(|rate| rate.to_string())),
            ("max_payload", limits.max_payload.map(|max| max.to_string())),
            ("transports", transports),
            ("from", limits.window.map(|(from, _)| time(from))),
            ("until", limits.window.map(|(_, until)| time(until))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

/// By what a certificate is known. Never by its common name, which is text that anyone can ask a CA for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CertificateId {
    /// SHA-256 of the whole certificate: this one alone.
    Sha256(#[serde(with = "crate::hex::serde_32")] [u8; 32]),
    /// SHA-256 of its SubjectPublicKeyInfo (RFC 7469, section 2.4): every certificate of the same key.
    Spki(#[serde(with = "crate::hex::serde_32")] [u8; 32]),
    /// A URI among its subject's alternative names: whatever a trusted CA has issued for it. Compared byte by byte.
    Uri(String),
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file cannot be read, or others may change it.
    #[error("{0}")]
    File(#[from] private::FileError),
    /// Something in it is wrong.
    #[error("{place}: {problem}")]
    Wrong {
        /// `FILE:LINE:COLUMN`.
        place: String,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

fn read_if_there(path: &Path) -> std::result::Result<Tables, PolicyError> {
    match read(path) {
        Err(PolicyError::File(private::FileError::Io { source, .. }))
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(Tables::default())
        }
        other => other,
    }
}

fn read(path: &Path) -> std::result::Result<Tables, PolicyError> {
    let bytes = private::read_trusted(path)?;
    let name = path.display().to_string();
    let text = std::str::from_utf8(&bytes).map_err(|_| PolicyError::Wrong {
        place: name.clone(),
        problem: "this is no text in UTF-8: write the policy anew".to_owned(),
    })?;
    file::parse(&name, text)
}
