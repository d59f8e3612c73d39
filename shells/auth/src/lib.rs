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

mod key_file;
mod token;

pub use key_file::{KeyFile, KeyFileError};
pub use token::{TokenRequest, TokenText, TokenTextError};
