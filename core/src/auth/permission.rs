//! What a scope says: a name, everything, or an operation on a pattern of addresses. Text only.

use crate::limits::MAX_SCOPE;
use crate::message::address::{Address, Pattern};

/// What one does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Operation {
    /// Call an endpoint and get an answer.
    Request,
    /// Publish on a topic, or tell without an answer.
    Notify,
    /// Receive what is published.
    Subscribe,
    /// Serve an address under one's name.
    Register,
    /// Change how the hub or a component itself is run.
    Administer,
}

impl Operation {
    /// The word for it in scopes, policies and messages to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Notify => "notify",
            Self::Subscribe => "subscribe",
            Self::Register => "register",
            Self::Administer => "administer",
        }
    }

    /// The operation that `word` stands for, exactly as written.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Request, Self::Notify, Self::Subscribe, Self::Register, Self::Administer]
            .into_iter()
            .find(|operation| operation.as_str() == word)
    }
}

impl core::fmt::Display for Operation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operation, or any, on the addresses that a pattern selects: `request:imu/*`, `*:config/**`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permission<'a> {
    /// What may be done; `None` is `*`, any operation.
    pub operation: Option<Operation>,
    /// To which addresses.
    pub pattern: Pattern<'a>,
}

impl<'a> Permission<'a> {
    /// Reads `operation:pattern`; `None` when it is not one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let colon = text.bytes().position(|byte| byte == b':')?;
        let (word, pattern) = (text.get(..colon)?, text.get(colon + 1..)?);
        let operation = if word == "*" { None } else { Some(Operation::parse(word)?) };
        Some(Self { operation, pattern: Pattern::new(pattern).ok()? })
    }

    /// Whether this lets one do `operation` to `resource`.
    pub fn permits(self, operation: Operation, resource: Address<'_>) -> bool {
        self.covers(Permission { operation: Some(operation), pattern: resource.into() })
    }

    /// Whether everything that `other` permits is permitted by this.
    pub fn covers(self, other: Permission<'_>) -> bool {
        (self.operation.is_none() || self.operation == other.operation) && self.pattern.covers(other.pattern)
    }
}

/// One scope of a token, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope<'a> {
    /// `*`: every name but [`BOOT_SCOPE`], and every permission.
    Everything,
    /// A name such as `imu.control`, which endpoints ask for.
    Name(&'a str),
    /// `operation:pattern`.
    Permission(Permission<'a>),
}

impl<'a> Scope<'a> {
    /// Reads a scope of 1 to [`MAX_SCOPE`] bytes: `*`, a name of `[a-z0-9._-]`, or `operation:pattern`. `None` when
    /// it is none of these.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_SCOPE {
            return None;
        }
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some(permission) = Permission::parse(text) {
            return Some(Self::Permission(permission));
        }
        let named = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        named.then_some(Self::Name(text))
    }

    /// Whether everything that `other` allows is allowed by this.
    pub fn covers(self, other: Scope<'_>) -> bool {
        match (self, other) {
            (Self::Everything, Scope::Name(name)) => name != BOOT_SCOPE,
            (Self::Everything, _) => true,
            (Self::Name(own), Scope::Name(name)) => own == name,
            (Self::Permission(own), Scope::Permission(permission)) => own.covers(permission),
            _ => false,
        }
    }
}

/// A token with this scope passes on a board that does not know the time yet, whatever its times say; once the board
/// knows the time, they count for it as for any other. `*` does not cover it: it has to be given by name.
pub const BOOT_SCOPE: &str = "boot";
