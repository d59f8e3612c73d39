//! What a checked token is worth to a session. Holds copies, so that it outlives the token's bytes.

use heapless::{String, Vec};

use super::BUS;
use super::check::TokenError;
use super::claims::{Claims, ScopeIter, Scopes};
use super::permission::{Operation, Permission, Scope};
use crate::limits::{MAX_GRANT_SCOPES, MAX_NAME};
use crate::message::address::{Address, Pattern};

/// Proof that a token was checked, and what it allows. Only [`KeyRing::check`](super::KeyRing::check) makes one.
///
/// It holds no secret and cannot be turned back into a token. It stays what it was when made: whoever keeps one asks
/// [`authorize`](super::authorize) each time, which looks at the time, and drops it when the token is revoked.
#[derive(Clone)]
pub struct Grant {
    subject: Name,
    /// The issuer is the subject itself; else it is the hub.
    self_issued: bool,
    key_id: u8,
    epoch: u32,
    serial: u64,
    issued_at: u64,
    expiry: u64,
    scopes: Vec<u8, MAX_GRANT_SCOPES, u8>,
}

impl Grant {
    /// Of claims and scopes that stand in a checked token.
    ///
    /// # Errors
    /// `TooManyScopes` when they are more than [`MAX_GRANT_SCOPES`] bytes.
    pub(super) fn new(
        key_id: u8,
        claims: &Claims<'_>,
        expiry: u64,
        scopes: Scopes<'_>,
    ) -> Result<Self, TokenError> {
        let mut grant = Self {
            subject: Name::new(),
            self_issued: claims.issuer != BUS,
            key_id,
            epoch: claims.epoch,
            serial: claims.serial,
            issued_at: claims.issued_at,
            expiry,
            scopes: Vec::new(),
        };
        // Every name that was read has room.
        let fits = grant.subject.push_str(claims.subject).is_ok()
            && scopes.as_packed().is_some_and(|bytes| grant.scopes.extend_from_slice(bytes).is_ok());
        if fits { Ok(grant) } else { Err(TokenError::TooManyScopes) }
    }

    /// Whom it speaks for.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Who made the token. Not `bus`: a device made it for itself, so its scopes are that device's own word, and
    /// the hub must not let it do more than its policy gives that device.
    pub fn issuer(&self) -> &str {
        if self.self_issued { &self.subject } else { BUS }
    }

    /// The id of the key that the token was made with.
    pub const fn key_id(&self) -> u8 {
        self.key_id
    }

    /// The token's epoch.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The token's serial number.
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// When the token was made, in Unix seconds.
    pub const fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// From when on it allows nothing, in Unix seconds.
    pub const fn expires(&self) -> u64 {
        self.expiry
    }

    /// Whether it allows nothing any more at `now`, in Unix seconds.
    pub const fn is_expired(&self, now: u64) -> bool {
        now >= self.expiry
    }

    /// Each of its scopes, in order.
    pub fn scopes(&self) -> ScopeIter<'_> {
        Scopes::packed(&self.scopes).iter()
    }

    /// Whether it has the scope of exactly this name, or `*`.
    pub fn has_scope(&self, name: &str) -> bool {
        self.allows(Scope::Name(name))
    }

    /// Whether one of its permissions, or `*`, allows `operation` on `resource`.
    pub fn permits(&self, operation: Operation, resource: Address<'_>) -> bool {
        self.permits_all(operation, resource.into())
    }

    /// Whether one of its permissions, or `*`, allows `operation` on every address that `pattern` selects.
    pub fn permits_all(&self, operation: Operation, pattern: Pattern<'_>) -> bool {
        self.allows(Scope::Permission(Permission { operation: Some(operation), pattern }))
    }

    /// Whether one of its scopes covers `wanted`.
    pub(super) fn allows(&self, wanted: Scope<'_>) -> bool {
        Scopes::packed(&self.scopes).allow(wanted)
    }
}

impl core::fmt::Debug for Grant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Grant")
            .field("subject", &self.subject())
            .field("issuer", &self.issuer())
            .field("serial", &self.serial)
            .field("expiry", &self.expiry)
            .field("scopes", &Scopes::packed(&self.scopes))
            .finish_non_exhaustive()
    }
}

type Name = String<MAX_NAME, u8>;
