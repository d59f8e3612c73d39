//! The token that a client proves itself with, kept in memory that is wiped.

use std::str::FromStr;

use visorbus_core::auth::decode_text;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_hub::{Error, Result};
use zeroize::Zeroizing;

/// What a client proves itself with: a token's bytes, or its text `vb1.…`. Never shown, and wiped when dropped.
///
/// ```
/// use visorbus_unix::Token;
///
/// let error = "not a token".parse::<Token>().unwrap_err();
/// assert!(error.to_string().contains("begins with 'vb1.'"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// A token's bytes; whether they are one is for the hub to say.
    ///
    /// # Errors
    /// `Authentication` when there are none, or more than a token can have.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() || bytes.len() > MAX_TOKEN {
            let len = bytes.len();
            return Err(Error::Authentication(format!("a token has 1 to {MAX_TOKEN} bytes, this one {len}")));
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut out = Zeroizing::new([0; MAX_TOKEN]);
        let bytes = decode_text(text.trim(), &mut *out).map_err(|e| Error::Authentication(e.to_string()))?;
        Self::new(bytes)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(not shown)")
    }
}
