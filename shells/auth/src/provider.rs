//! The two interfaces behind which accounts and policies live, and the smallest of each: a ring of keys, and tokens alone.

use std::sync::{PoisonError, RwLock};

use visorbus_core::IpcError;
use visorbus_core::auth::{Access, Claims, Grant, KeyRing, MintError, Operation, Refusal, authorize_pattern};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::Pattern;
use zeroize::Zeroizing;

use crate::{AuthToken, Channel, Credentials, Error, Result, Transport};

/// Says who somebody is, and makes, checks, renews and takes back their tokens.
///
/// # For the implementer
/// [`AuthenticationProvider::authenticate`], [`AuthenticationProvider::refresh_token`] and
/// [`AuthenticationProvider::revoke_token`] may block: the hub calls them on its pool, one at a time for each session.
/// The others are called from the hub's loop and must not wait. Whatever is said of accounts, a [`Grant`] comes of a
/// [`KeyRing`]'s check alone.
pub trait AuthenticationProvider: Send + Sync {
    /// Checks credentials and makes a token for their holder; of a token, says what it says. May block.
    ///
    /// # Errors
    /// `Authentication`, with the same text for everything that could be guessed; `Message` when it is asked too often.
    fn authenticate(&self, credentials: &Credentials, channel: &Channel<'_>) -> Result<AuthToken>;

    /// Checks a token's bytes for the hub: tag, audience, time, channel, revocations. This is the hub's one check.
    ///
    /// # Errors
    /// `Authentication`: what its holder is told.
    fn validate_token(&self, token: &[u8], channel: &Channel<'_>, unix_now: u64) -> Result<Grant>;

    /// Makes a token with a new serial number and the same or fewer scopes, and revokes the old one. Durable before it
    /// answers. May block.
    ///
    /// # Errors
    /// `Authentication` when the token is not good any more, is another subject's, or is too old to be renewed.
    fn refresh_token(&self, token: &AuthToken, channel: &Channel<'_>) -> Result<AuthToken>;

    /// Takes a token back, and all that were made from it. Durable before it answers. May block.
    ///
    /// # Errors
    /// `Authentication` when it is no token of this hub's; `Internal` when it cannot be written down.
    fn revoke_token(&self, token: &AuthToken) -> Result<()>;

    /// Takes back all tokens of somebody, or all of a key up to an epoch. Durable before it answers. May block.
    ///
    /// # Errors
    /// `Message` when there is nobody, or no key, of that name; `Internal` when it cannot be written down.
    fn revoke_all(&self, of: &RevokeAll) -> Result<()> {
        let _ = of;
        Err(Error::Message("this hub keeps no accounts: take back tokens one by one".to_owned()))
    }

    /// Whether a grant still counts: its token was not taken back since, nor its subject, nor its key.
    fn is_live(&self, grant: &Grant, unix_now: u64) -> bool;

    /// Makes a token in the hub's own name: for a board that wants proof of the hub, or for a link that is trusted.
    ///
    /// # Errors
    /// [`MintError`] says which claim is in the way.
    fn mint_own(&self, claims: &Claims<'_>) -> std::result::Result<Zeroizing<Vec<u8>>, MintError>;

    /// What boards have to know of tokens that were taken back: subject, and the Unix second up to which its tokens are
    /// void. An empty subject is everybody.
    fn revocations(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// Whether what lies on disk is not what was read last, so that [`AuthenticationProvider::reload`] has something to
    /// do. Asked by the hub's loop up to once a second: at most one look at a directory entry.
    fn poll_changes(&self) -> bool {
        false
    }

    /// Reads again what lies on disk. May block.
    ///
    /// # Errors
    /// What is wrong with it; then nothing has changed.
    fn reload(&self) -> Result<()> {
        Ok(())
    }
}

/// Says what whoever was authenticated may do.
///
/// # For the implementer
/// All methods are called from the hub's loop for every message, and must not wait or allocate. Deny by default.
pub trait AuthorizationProvider: Send + Sync {
    /// The one decision of the hub.
    ///
    /// # Errors
    /// The [`Denial`] that decided.
    fn is_authorized<'a>(&self, asked: &Asked<'a>) -> std::result::Result<(), Denial<'a>>;

    /// What a grant allows, its own scopes and the policy's rules together, for showing.
    fn permissions(&self, grant: &Grant) -> Vec<Permission>;

    /// When, in Unix seconds, something that is allowed ends, or begins, by itself: the edge of a time window. The hub
    /// asks again about all that lasts, subscriptions and names, at that moment.
    fn next_change(&self, unix_now: u64) -> Option<u64> {
        let _ = unix_now;
        None
    }

    /// Reads the policy again.
    ///
    /// # Errors
    /// What is wrong with it, and where; then the old one stays.
    fn reload(&self) -> Result<()> {
        Ok(())
    }
}

/// Whose tokens are taken back, all at once.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RevokeAll {
    /// All that were made for this subject until now.
    Subject(String),
    /// All that were made with this key in its epoch and before; from now on it makes tokens of the next one.
    KeyEpoch(u8),
}

/// What is to be decided: may the holder of `grant` do `operation` to all that `resource` selects.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whose session it is; `None` before authentication.
    pub grant: Option<&'a Grant>,
    /// What is to be done.
    pub operation: Operation,
    /// To which address, or for a subscription to all addresses of which pattern.
    pub resource: Pattern<'a>,
    /// What the address asks for.
    pub access: Access<'a>,
    /// Over which transport it is asked.
    pub transport: Transport,
    /// Bytes of the message's payload.
    pub payload_len: usize,
    /// The time in Unix seconds.
    pub unix_now: u64,
    /// Whether it is done now, and so counts for a limit on how often; else it is only asked whether it may be, and what
    /// limits how often, or how long, refuses nothing.
    pub counts: bool,
}

/// Why the answer is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial<'a> {
    /// No grant, no time, no scope: what every end of the bus says alike.
    Refused(Refusal<'a>),
    /// A rule of the policy would allow it but for its limit on how often; try again in so many milliseconds.
    TooOften {
        /// Messages a second that the rule allows.
        max_rate: u32,
        /// Milliseconds until the next is allowed.
        retry_ms: u32,
    },
    /// A rule would allow it but for the length of the payload.
    TooLong {
        /// Bytes that the rule allows.
        max: usize,
    },
    /// A rule would allow it over another transport.
    OtherTransport,
    /// A rule would allow it at another time of day.
    OtherTime,
}

impl std::fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => {
                let parts = refusal.parts();
                write!(f, "{}{}{}", parts[0], parts[1], parts[2])
            }
            Self::TooOften { max_rate, retry_ms } => {
                write!(f, "the policy allows this {max_rate} times a second: try again in {retry_ms} ms")
            }
            Self::TooLong { max } => write!(f, "the policy allows this with payloads of up to {max} bytes"),
            Self::OtherTransport => f.write_str("the policy does not allow this over this transport"),
            Self::OtherTime => f.write_str("the policy does not allow this at this time of day"),
        }
    }
}

impl Denial<'_> {
    /// Its error for the sender of the message, about `resource`.
    pub fn to_error(self, resource: &str) -> Error {
        let text = format!("{resource}: {self}");
        match self {
            Self::Refused(refusal) => Error::new(refusal.kind(), text),
            _ => Error::Authorization(text),
        }
    }

    /// Its error for where no text can be made: neither what was asked for nor the rule's figures stand in it.
    pub fn to_ipc_error(self) -> IpcError {
        match self {
            Self::Refused(refusal) => IpcError::new(refusal.kind(), reason(refusal)),
            Self::TooOften { .. } => {
                IpcError::Authorization("the policy does not allow this so often: try again later")
            }
            Self::TooLong { .. } => {
                IpcError::Authorization("the policy allows this with shorter payloads only")
            }
            Self::OtherTransport => {
                IpcError::Authorization("the policy does not allow this over this transport")
            }
            Self::OtherTime => IpcError::Authorization("the policy does not allow this at this time of day"),
        }
    }
}

/// What a refusal says, as far as it can be said without a name.
const fn reason(refusal: Refusal<'_>) -> &'static str {
    match refusal {
        Refusal::MissingScope(_) => "this needs a scope which the token does not have",
        Refusal::MissingPermission(Operation::Request) => {
            "no permission of the token allows 'request' on this"
        }
        Refusal::MissingPermission(Operation::Notify) => "no permission of the token allows 'notify' on this",
        Refusal::MissingPermission(Operation::Subscribe) => {
            "no permission of the token allows 'subscribe' on this"
        }
        Refusal::MissingPermission(Operation::Register) => {
            "no permission of the token allows 'register' on this"
        }
        Refusal::MissingPermission(Operation::Administer) => {
            "no permission of the token allows 'administer' on this"
        }
        other => other.reason(),
    }
}

/// One thing that is allowed, for showing: an operation on the resources of a pattern, under constraints.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, postcard_schema::Schema)]
pub struct Permission {
    /// `request`, `notify`, `subscribe`, `register`, `administer`, `*`, or `scope` for the name of a scope.
    pub operation: String,
    /// The pattern, or the scope's name.
    pub resource: String,
    /// Constraints by name: `max_rate`, `max_payload`, `transports`, `from`, `until`, and `rule` for where it stands.
    pub constraints: Option<std::collections::BTreeMap<String, String>>,
}

/// Tokens of one ring and nothing else: no accounts, nothing on disk; what is revoked is forgotten at the end.
#[derive(Debug)]
pub struct TokenProvider {
    keys: KeyRing,
    key_id: u8,
    revoked: RwLock<Revoked>,
}

/// What was taken back.
#[derive(Debug, Default)]
struct Revoked {
    /// Tokens by subject and serial number, and until when that matters.
    tokens: Vec<(String, u64, u64)>,
    /// Subjects, and the second up to which their tokens are void.
    subjects: Vec<(String, u64)>,
}

impl TokenProvider {
    /// A provider that checks with `keys` and mints with the one called `key_id`.
    pub const fn new(keys: KeyRing, key_id: u8) -> Self {
        Self { keys, key_id, revoked: RwLock::new(Revoked { tokens: Vec::new(), subjects: Vec::new() }) }
    }

    fn check(&self, token: &[u8], channel: &Channel<'_>, unix_now: u64) -> Result<Grant> {
        channel.check_token(&self.keys, token, unix_now).map_err(|error| {
            tracing::info!("a token was refused: {error}");
            Error::Authentication(error.for_peer().to_owned())
        })
    }
}

impl AuthenticationProvider for TokenProvider {
    fn authenticate(&self, credentials: &Credentials, _channel: &Channel<'_>) -> Result<AuthToken> {
        match credentials {
            Credentials::Token(token) => AuthToken::new(token.clone()),
            _ => Err(Error::Authentication("this hub knows tokens only: show one".to_owned())),
        }
    }

    fn validate_token(&self, token: &[u8], channel: &Channel<'_>, unix_now: u64) -> Result<Grant> {
        let grant = self.check(token, channel, unix_now)?;
        if self.is_live(&grant, unix_now) {
            return Ok(grant);
        }
        Err(Error::Authentication("the token was revoked: get a new one".to_owned()))
    }

    fn refresh_token(&self, _token: &AuthToken, _channel: &Channel<'_>) -> Result<AuthToken> {
        Err(Error::Authentication(
            "this hub keeps no accounts: ask who made the token for a new one".to_owned(),
        ))
    }

    fn revoke_token(&self, token: &AuthToken) -> Result<()> {
        token.check_shown()?;
        let bytes = token.value.to_bytes().map_err(|e| Error::Authentication(e.to_string()))?;
        let now = crate::unix_seconds();
        let grant = self.check(&bytes, &Channel::default(), now)?;
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.tokens.retain(|(.., until)| *until > now);
        revoked.tokens.push((grant.subject().to_owned(), grant.serial(), grant.expires()));
        Ok(())
    }

    fn revoke_all(&self, of: &RevokeAll) -> Result<()> {
        let RevokeAll::Subject(subject) = of else {
            return Err(Error::Message("this hub keeps no epochs: start it with another key".to_owned()));
        };
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.subjects.retain(|(known, _)| known != subject);
        revoked.subjects.push((subject.clone(), crate::unix_seconds()));
        Ok(())
    }

    fn is_live(&self, grant: &Grant, _unix_now: u64) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        let void =
            |(subject, until): &(String, u64)| *subject == grant.subject() && grant.issued_at() <= *until;
        let is_it = |(subject, serial, _): &(String, u64, u64)| {
            *serial == grant.serial() && *subject == grant.subject()
        };
        !revoked.tokens.iter().any(is_it) && !revoked.subjects.iter().any(void)
    }

    fn revocations(&self) -> Vec<(String, u64)> {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).subjects.clone()
    }

    fn mint_own(&self, claims: &Claims<'_>) -> std::result::Result<Zeroizing<Vec<u8>>, MintError> {
        let mut token = Zeroizing::new([0; MAX_TOKEN]);
        let len = self.keys.mint(self.key_id, claims, &mut *token)?;
        Ok(Zeroizing::new(token[..len].to_vec()))
    }
}

/// What tokens say themselves, and no policy beside it: scopes in them are permissions or names that rows ask for.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenScopes;

impl AuthorizationProvider for TokenScopes {
    fn is_authorized<'a>(&self, asked: &Asked<'a>) -> std::result::Result<(), Denial<'a>> {
        authorize_pattern(asked.grant, asked.operation, asked.resource, asked.access, Some(asked.unix_now))
            .map_err(Denial::Refused)
    }

    fn permissions(&self, grant: &Grant) -> Vec<Permission> {
        grant.scopes().map(Permission::of_scope).collect()
    }
}

impl Permission {
    /// What a scope of a token says.
    pub fn of_scope(scope: &str) -> Self {
        let (operation, resource) = match scope.split_once(':') {
            Some(parts) => parts,
            None if scope == "*" => ("*", "**"),
            None => ("scope", scope),
        };
        Self { operation: operation.to_owned(), resource: resource.to_owned(), constraints: None }
    }
}
