//! Who somebody is, and what they may do: accounts, keys and tokens, the policy, and the record of both.
//!
//! | | says | lies in |
//! |---|---|---|
//! | [`KeyFile`] | the root keys of one hub: whoever can read it is the hub's owner | root.key |
//! | [`Store`] | users, API keys, certificates, keys of links, what was taken back | accounts.json |
//! | [`Policy`] | scopes of subjects, Unix users and certificates, rules with constraints | policy.toml |
//! | [`Accounts`] | [`AuthenticationProvider`] over all three | |
//! | [`AuditEvent`] | who came, who was refused, what was taken back | the log, `bus/audit` |
//!
//! The hub knows the two traits [`AuthenticationProvider`] and [`AuthorizationProvider`] and nothing else of this crate's
//! insides; [`TokenProvider`] and [`TokenScopes`] are the smallest of each. A [`TokenText`] is a token in the form in
//! which people copy it.
//!
//! ```
//! use std::sync::Arc;
//! use visorbus_auth::{Accounts, AuthenticationProvider, Channel, Credentials, KeyFile, Policy, Secret, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let place = directory.path();
//! let store = Arc::new(Store::open_or_create(place.join("accounts.json"))?);
//! let policy = Arc::new(Policy::parse("[[rule]]\nscope = 'panel'\nallow = ['subscribe:imu/**']\nmax_rate = 50\n")?);
//! let accounts = Accounts::new(store, KeyFile::open_or_create(place.join("root.key"))?, policy);
//!
//! let password = Secret::new("correct horse battery staple");
//! accounts.store().add_user("alice", &password, &["panel".to_owned()])?;
//! let shown = Credentials::UsernamePassword { username: "alice".to_owned(), password };
//! let token = accounts.authenticate(&shown, &Channel::default())?;
//! assert!(token.value.as_str().starts_with("vb1."));
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod accounts;
mod audit;
mod credentials;
mod hex;
mod key_file;
pub mod policy;
mod provider;
mod store;
mod token;

pub use accounts::Accounts;
pub use audit::{AuditEvent, AuditKind};
pub use credentials::{AuthMethod, AuthToken, Channel, Credentials, Secret, Transport};
pub use key_file::{KeyFile, KeyFileError};
pub use policy::{CertificateId, Explanation, MappingInfo, Policy, PolicyError, RuleInfo};
pub use provider::{
    Asked, AuthenticationProvider, AuthorizationProvider, Denial, Permission, RevokeAll, TokenProvider,
    TokenScopes,
};
pub use store::private::FileError;
pub use store::{ApiKeyInfo, CertificateInfo, LinkKeyInfo, Store, StoreError, UserInfo};
pub use token::{TokenRequest, TokenText, TokenTextError};

/// The error of everything on std: one of the eight kinds, with a text that says what, where and what to do.
pub type Error = visorbus_core::IpcError<String>;

/// The result of everything on std.
pub type Result<T> = std::result::Result<T, Error>;

/// Seconds since 1970; 0 on a machine whose clock is before that.
pub(crate) fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
