//! Keys on disk, and tokens made from them.
//!
//! [`KeyFile`] is the root key of one hub: whoever can read the file is the hub's owner. [`TokenText`] is a token in
//! the form in which people copy it.
//!
//! ```
//! use visorbus_auth::{KeyFile, TokenRequest};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("root.key");
//! let keys = KeyFile::open_or_create(&path)?;
//! let token = keys.mint(&TokenRequest::new("viewer", &["subscribe:imu/**"]))?;
//! assert!(token.as_str().starts_with("vb1."));
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
pub use policy::{CertificateId, Explanation, Policy, PolicyError};
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
