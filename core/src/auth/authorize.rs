//! The one decision: may whoever holds this grant do that to this. Knows neither transports nor sessions.

use super::grant::Grant;
use super::permission::{BOOT_SCOPE, Operation, Permission, Scope};
use crate::error::ErrorKind;
use crate::message::address::{Address, Pattern};
use crate::sentence;

/// Decides whether `operation` on `resource` is allowed to a session with `grant` at `now` (Unix seconds).
///
/// Everything that is not allowed is refused: no grant, no clock, an expired grant, a scope or permission that is
/// not there. Only [`Access::Open`] asks for none of these. A session's grant stops working by itself when its token
/// expires, because the time is looked at here and not once at authentication. Without
/// a clock only a grant with the scope [`BOOT_SCOPE`] works.
///
/// # Errors
/// The first rule that refuses, in the order of [`Refusal`].
pub fn authorize<'a>(
    grant: Option<&Grant>,
    operation: Operation,
    resource: Address<'_>,
    access: Access<'a>,
    now: Option<u64>,
) -> Result<(), Refusal<'a>> {
    authorize_pattern(grant, operation, resource.into(), access, now)
}

/// As [`authorize`], for all addresses that `resource` selects: what a subscription asks for.
///
/// # Errors
/// As [`authorize`].
#[inline]
pub fn authorize_pattern<'a>(
    grant: Option<&Grant>,
    operation: Operation,
    resource: Pattern<'_>,
    access: Access<'a>,
    now: Option<u64>,
) -> Result<(), Refusal<'a>> {
    if access == Access::Open {
        return Ok(());
    }
    let grant = grant.ok_or(Refusal::NoGrant)?;
    match now {
        None if !grant.allows(Scope::Name(BOOT_SCOPE)) => return Err(Refusal::NoClock),
        Some(now) if grant.is_expired(now) => return Err(Refusal::Expired),
        _ => {}
    }
    let (wanted, refusal) = match access {
        Access::Scope(name) => (Scope::Name(name), Refusal::MissingScope(name)),
        _ => {
            let wanted = Permission { operation: Some(operation), pattern: resource };
            (Scope::Permission(wanted), Refusal::MissingPermission(operation))
        }
    };
    if grant.allows(wanted) { Ok(()) } else { Err(refusal) }
}

/// What an endpoint, a topic or a row of a table asks of those who use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "snake_case")]
pub enum Access<'a> {
    /// A permission for the operation on the address. What is not said otherwise asks for this.
    #[default]
    Permission,
    /// A scope of this name.
    Scope(&'a str),
    /// Nothing, not even a grant: only for what makes one a peer (`bus/hello`, `bus/authenticate`).
    Open,
}

/// Which rule refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal<'a> {
    /// The session has not authenticated.
    #[error("this session has not authenticated; send a token to bus/authenticate first")]
    NoGrant,
    /// Whether the grant has expired cannot be told.
    #[error("this side has no time yet, so no grant can be relied on; wait for the hub's time and try again")]
    NoClock,
    /// The token behind the session has expired.
    #[error("the token of this session has expired; refresh it, or authenticate again")]
    Expired,
    /// The endpoint asks for a scope that the token does not have.
    #[error("this needs the scope '{0}', which the token does not have; get a token with it")]
    MissingScope(&'a str),
    /// No permission of the token allows the operation on that address.
    #[error("no permission of the token allows '{0}' on this address; get a token with one that does")]
    MissingPermission(Operation),
}

impl Refusal<'_> {
    /// The rule as a sentence in parts that stand one after the other, for where there is no formatting; without the
    /// feature `std` as its number.
    pub const fn parts(&self) -> [&str; 3] {
        match self {
            // The one text with a part that no table can know.
            Self::MissingScope(scope) if cfg!(feature = "std") => {
                ["this needs the scope '", scope, "', which the token does not have"]
            }
            Self::MissingScope(scope) => ["this needs the scope '", scope, "'"],
            Self::MissingPermission(Operation::Request) => [sentence::MAY_NOT_REQUEST, "", ""],
            Self::MissingPermission(Operation::Notify) => [sentence::MAY_NOT_NOTIFY, "", ""],
            Self::MissingPermission(operation) if cfg!(feature = "std") => {
                ["no permission of the token allows '", operation.as_str(), "' on this address"]
            }
            other => [other.reason(), "", ""],
        }
    }

    /// What the caller is told it is: `Authentication` where a new token would help, `Authorization` where it needs
    /// another one.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoGrant | Self::NoClock | Self::Expired => ErrorKind::Authentication,
            Self::MissingScope(_) | Self::MissingPermission(_) => ErrorKind::Authorization,
        }
    }

    /// The rule in a few words, for where there is no formatting.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoGrant => sentence::NOT_AUTHENTICATED,
            Self::NoClock => sentence::NO_TIME,
            Self::Expired => sentence::GRANT_EXPIRED,
            Self::MissingScope(_) => "missing scope",
            Self::MissingPermission(_) => "missing permission",
        }
    }
}
