//! Tokens as people ask for them and copy them.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postcard_schema::Schema;
use postcard_schema::schema::NamedType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use visorbus_core::auth::{
    BUS, Claims, MAX_TOKEN_TEXT, MintError, Scopes, TextError, TokenError, UnverifiedToken, decode_text,
    encode_text,
};
use visorbus_core::limits::MAX_TOKEN;
use zeroize::Zeroizing;

use crate::{Error, KeyFile};

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Whom it speaks for.
    pub subject: String,
    /// Who accepts it; `bus`, the hub, unless said otherwise.
    pub audience: String,
    /// What it allows: names, `operation:pattern`, or `*`.
    pub scopes: Vec<String>,
    /// For how long it holds. Default one hour.
    pub lifetime: Duration,
}

impl TokenRequest {
    /// A token for the hub that holds for one hour.
    pub fn new(subject: &str, scopes: &[&str]) -> Self {
        Self {
            subject: subject.to_owned(),
            audience: BUS.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            lifetime: Duration::from_secs(3600),
        }
    }
}

impl KeyFile {
    /// Makes a token with the current key.
    ///
    /// # Errors
    /// The request is refused as [`MintError`] says.
    pub fn mint(&self, request: &TokenRequest) -> Result<TokenText, MintError> {
        let scopes: Vec<&str> = request.scopes.iter().map(String::as_str).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims {
            issuer: BUS,
            subject: &request.subject,
            audience: &request.audience,
            // Without random numbers the time tells two tokens apart.
            serial: crate::accounts::new_serial().unwrap_or(now.as_micros() as u64 & !0xFFFF),
            issued_at: now.as_secs(),
            expiry: now.as_secs().saturating_add(request.lifetime.as_secs()),
            epoch: 0,
            scopes: Scopes::new(&scopes),
        };
        let mut token = Zeroizing::new([0; MAX_TOKEN]);
        let len = self.ring().mint(self.current_id(), &claims, &mut *token)?;
        TokenText::encode(&token[..len]).map_err(|_| MintError::TooLong)
    }
}

/// A token as text, `vb1.…`. It is a secret: it is wiped when dropped, and its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText(Zeroizing<String>);

impl TokenText {
    /// The text of a token's bytes.
    ///
    /// # Errors
    /// [`TextError`] when they are more than a token has.
    pub fn encode(token: &[u8]) -> Result<Self, TextError> {
        let mut text = Zeroizing::new([0; MAX_TOKEN_TEXT]);
        Ok(Self(Zeroizing::new(encode_text(token, &mut *text)?.to_owned())))
    }

    /// Checks that `text` is a token's text; the token itself is checked by whom it is for.
    ///
    /// # Errors
    /// [`TokenTextError`] when it is no such text, or no token is in it.
    pub fn parse(text: &str) -> Result<Self, TokenTextError> {
        let token = Self(Zeroizing::new(text.trim().to_owned()));
        UnverifiedToken::read(&token.to_bytes()?).map_err(TokenTextError::Token)?;
        Ok(token)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The token's bytes.
    ///
    /// # Errors
    /// [`TextError`] when the text is not a token's.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, TextError> {
        let mut bytes = Zeroizing::new([0; MAX_TOKEN]);
        Ok(Zeroizing::new(decode_text(&self.0, &mut *bytes)?.to_vec()))
    }
}

impl FromStr for TokenText {
    type Err = Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        Self::parse(text).map_err(|e| Error::Authentication(e.to_string()))
    }
}

impl Serialize for TokenText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TokenText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl Schema for TokenText {
    const SCHEMA: &'static NamedType = String::SCHEMA;
}

impl std::fmt::Debug for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenText(not shown)")
    }
}

/// Why a text is not a token's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenTextError {
    /// The text is not of the form.
    #[error("{0}")]
    Text(#[from] TextError),
    /// What is in it is no token.
    #[error("{0}")]
    Token(TokenError),
}

#[cfg(test)]
mod tests {
    use visorbus_core::auth::Context;

    use super::*;

    #[test]
    fn a_minted_token_is_accepted_by_the_ring_of_the_same_file() {
        let keys = KeyFile::in_memory(5, [9; 32]);
        let token = keys.mint(&TokenRequest::new("viewer", &["subscribe:imu/**"])).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let grant = keys.ring().check(&token.to_bytes().unwrap(), &Context::new(BUS, Some(now))).unwrap();
        assert_eq!((grant.subject(), grant.key_id()), ("viewer", 5));
        assert_eq!(TokenText::parse(token.as_str()).unwrap(), token);
    }

    #[test]
    fn no_debug_print_shows_a_secret() {
        let keys = KeyFile::in_memory(5, [0xab; 32]);
        let token = keys.mint(&TokenRequest::new("viewer", &["*"])).unwrap();
        assert!(!format!("{token:?}").contains(&token.as_str()[4..]));
        assert!(!format!("{keys:?}").contains("171"));
        assert!(!format!("{keys:?}").to_lowercase().contains("abab"));
    }

    #[test]
    fn what_is_no_token_text_is_refused() {
        for text in ["", "vb1.", "vb2.AAAA", "vb1.!!!!", "hello", "vb1.AAAA"] {
            assert!(TokenText::parse(text).is_err(), "{text}");
        }
    }
}
