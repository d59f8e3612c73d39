//! What somebody shows to be let in, what comes of it, and over which channel it was shown.

use std::result::Result as StdResult;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use visorbus_core::auth::{self, BUS, Context, Grant, KeyRing, TokenError, UnverifiedToken};
use zeroize::Zeroizing;

use crate::{Error, Result, TokenText};

/// How somebody proves who they are.
///
/// Certificate and peer credentials are never taken from a message: the channel tells them, and what a client puts here
/// is not sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A token that was made before.
    Token(TokenText),
    /// A name and the password that goes with it.
    UsernamePassword {
        /// The user's name, at most 32 bytes of `[a-z0-9._-]`.
        username: String,
        /// The password, at most 256 bytes of UTF-8.
        password: Secret,
    },
    /// A key for a program, `vbk1.…`.
    ApiKey(Secret),
    /// The DER of the certificate that the other end of the channel has proven to own.
    Certificate(Vec<u8>),
    /// The user and main group that the kernel, or the desktop's bus, told of the other end of a connection.
    Peer {
        /// User id.
        uid: u32,
        /// Main group id; `None` where it is not known, as mostly on the desktop's bus, and then what the policy says of
        /// groups gives nothing.
        gid: Option<u32>,
    },
}

impl Credentials {
    /// The word for this way of proving oneself in logs and policies.
    pub const fn method(&self) -> AuthMethod {
        match self {
            Self::Token(_) => AuthMethod::Token,
            Self::UsernamePassword { .. } => AuthMethod::Password,
            Self::ApiKey(_) => AuthMethod::ApiKey,
            Self::Certificate(_) => AuthMethod::Certificate,
            Self::Peer { .. } => AuthMethod::Peer,
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, not shown)", self.method())
    }
}

/// A way of proving oneself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuthMethod {
    /// A token.
    Token,
    /// User name and password.
    Password,
    /// An API key.
    ApiKey,
    /// A certificate of the channel.
    Certificate,
    /// What the kernel tells of the other end.
    Peer,
    /// The key of a serial or SPI link.
    LinkKey,
    /// None: a link that its configuration has trusted by name.
    Trusted,
}

impl AuthMethod {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
            Self::Peer => "peer",
            Self::LinkKey => "link_key",
            Self::Trusted => "trusted",
        }
    }
}

impl std::fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is wiped when dropped and never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// A token, and beside it what it says, for showing.
///
/// Only the verified body of [`AuthToken::value`] decides anything; where the fields beside it say something else, the
/// token is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct AuthToken {
    /// The token itself.
    pub value: TokenText,
    /// When it expires, in Unix seconds.
    pub expiration: Option<u64>,
    /// What it allows.
    pub scope: Vec<String>,
    /// Who made it.
    pub issuer: String,
}

impl AuthToken {
    /// `value` with what it says of itself, caveats included.
    ///
    /// # Errors
    /// `Authentication` when there is no token in it.
    pub fn new(value: TokenText) -> Result<Self> {
        let unreadable = |e: String| Error::Authentication(format!("this is no token: {e}"));
        let bytes = value.to_bytes().map_err(|e| unreadable(e.to_string()))?;
        let token = UnverifiedToken::read(&bytes).map_err(|e| unreadable(e.to_string()))?;
        let (expiry, scopes) =
            token.narrowed().ok_or_else(|| unreadable("a caveat allows more than the token".to_owned()))?;
        let (scope, issuer) = (scopes.iter().map(str::to_owned).collect(), token.claims().issuer.to_owned());
        Ok(Self { expiration: Some(expiry), scope, issuer, value })
    }

    /// Checks that the fields for showing say what the token says.
    ///
    /// # Errors
    /// `Authentication` when they do not, or there is no token in it.
    pub fn check_shown(&self) -> Result<()> {
        if *self == Self::new(self.value.clone())? {
            return Ok(());
        }
        Err(Error::Authentication(
            "the fields beside the token do not say what the token says: use the token as it was issued"
                .to_owned(),
        ))
    }
}

/// The channel over which somebody is heard, as far as its transport can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Channel<'a> {
    /// The transport.
    pub transport: Transport,
    /// User id at the other end, as the kernel or the bus told.
    pub uid: Option<u32>,
    /// Main group id at the other end; on the desktop's bus mostly `None`, because that tells of groups without saying
    /// which is the main one.
    pub gid: Option<u32>,
    /// The DER of the certificate that the other end has proven to own.
    pub certificate: Option<&'a [u8]>,
    /// Whether a CA that the transport trusts vouches for the certificate, so that the names in it can be believed. Else
    /// the other end may have made it itself, and only its hash or its key's tells whose it is.
    pub certificate_verified: bool,
    /// Where the other end is, for slowing down who guesses: an IP address, or `uid 1000`.
    pub address: &'a str,
    /// The boot id that the hub has said to the other end: a board that proves itself by a token of its own making must
    /// have made it for this start of the hub. `None` takes no such token.
    pub boot_id: Option<u64>,
}

impl Channel<'_> {
    /// Checks a token that came over this channel for the hub: [`KeyRing::check`] with all that is known of the channel.
    ///
    /// # Errors
    /// As [`KeyRing::check`].
    pub fn check_token(&self, keys: &KeyRing, token: &[u8], unix_now: u64) -> StdResult<Grant, TokenError> {
        let certificate = self.certificate.map(|der| <[u8; 32]>::from(Sha256::digest(der)));
        let channel = auth::Channel { uid: self.uid, certificate: certificate.as_ref() };
        let context = Context { boot_id: self.boot_id, channel, ..Context::new(BUS, Some(unix_now)) };
        keys.check(token, &context)
    }
}

/// What carries a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Transport {
    /// A Unix socket.
    Unix,
    /// A serial line.
    Serial,
    /// An SPI bus.
    Spi,
    /// A WebSocket, with or without TLS.
    WebSocket,
    /// The desktop's bus.
    DBus,
    /// The transport cannot tell; what asks for another one refuses.
    #[default]
    Unknown,
}

impl Transport {
    /// The word for it in policies and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Serial => "serial",
            Self::Spi => "spi",
            Self::WebSocket => "websocket",
            Self::DBus => "dbus",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
