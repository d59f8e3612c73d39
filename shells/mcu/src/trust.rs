//! Whom a line is for, and by what they are known: what the last option of a serial or SPI link says.

use std::fmt;

use visorbus_core::message::address::is_name;

/// By what the board at the other end of a line is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Trust {
    /// By the key of its link: every frame is tagged or sealed, and the key says the board's name. What holds unless the
    /// configuration says otherwise.
    #[default]
    LinkKey,
    /// By its token, on a line without a key (`unkeyed=NAME`): whoever reaches the wire can read and change what goes
    /// over it.
    Token {
        /// The one board that may be there.
        name: String,
    },
    /// By nothing (`unauthenticated=NAME`): whatever is wired there and says this name is believed.
    Nothing {
        /// The one name that is believed.
        name: String,
    },
}

impl Trust {
    /// Reads `unkeyed=NAME` or `unauthenticated=NAME`; `None` for another option.
    pub(crate) fn parse(option: &str) -> Option<Result<Self, BadName>> {
        let (word, name) = option.split_once('=')?;
        let of = match word {
            UNKEYED => |name| Self::Token { name },
            UNAUTHENTICATED => |name| Self::Nothing { name },
            _ => return None,
        };
        Some(if is_name(name) { Ok(of(name.to_owned())) } else { Err(BadName(name.to_owned())) })
    }

    /// The name that is believed without any proof.
    pub(crate) fn unauthenticated(&self) -> Option<String> {
        match self {
            Self::Nothing { name } => Some(name.clone()),
            _ => None,
        }
    }

    /// The one name that a token may prove there.
    pub(crate) fn only(&self) -> Option<String> {
        match self {
            Self::Token { name } => Some(name.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Trust {
    /// As an option behind what stands before it: `,unkeyed=NAME`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkKey => Ok(()),
            Self::Token { name } => write!(f, ",{UNKEYED}={name}"),
            Self::Nothing { name } => write!(f, ",{UNAUTHENTICATED}={name}"),
        }
    }
}

/// What stands where a board's name should.
pub(crate) struct BadName(pub(crate) String);

const UNKEYED: &str = "unkeyed";
const UNAUTHENTICATED: &str = "unauthenticated";
