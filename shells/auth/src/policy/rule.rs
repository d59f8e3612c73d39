//! One rule of a policy: who, what, and under which constraints. Knows no file and no table of rates.

use visorbus_core::auth::{Operation, Permission, Scope};
use visorbus_core::message::PatternBuf;

use crate::{Denial, Transport};

/// What the holders of one scope may do, and under which constraints.
#[derive(Debug)]
pub(super) struct Rule {
    /// `FILE:LINE` of where it stands.
    pub(super) place: String,
    /// The scope whose holders it is for.
    pub(super) scope: Box<str>,
    pub(super) allow: Box<[OwnedScope]>,
    pub(super) limits: Limits,
    /// Tells its rates from those of other rules. A hash of what the rule says: reading the same rule again gives nobody
    /// a fresh rate.
    pub(super) key: u64,
}

impl Rule {
    /// Whether it is about what is `wanted`, whatever its constraints.
    pub(super) fn covers(&self, wanted: Wanted<'_>) -> bool {
        self.allow.iter().any(|allowed| allowed.covers(wanted))
    }
}

/// The constraints of a rule, but for its rate; what is not set does not constrain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Limits {
    /// Messages a second of one subject.
    pub(super) max_rate: Option<u32>,
    /// Bytes of a payload.
    pub(super) max_payload: Option<usize>,
    /// Only over these.
    pub(super) transports: Option<Box<[Transport]>>,
    /// Only from one minute of the day (UTC) to before another; over midnight when the second is the smaller one.
    pub(super) window: Option<(u16, u16)>,
}

impl Limits {
    /// The first constraint that stands in the way of a message, in the order from coarse to fine.
    pub(super) fn check(
        &self,
        transport: Transport,
        payload_len: usize,
        unix_now: u64,
    ) -> Result<(), Denial<'static>> {
        // A transport that cannot tell what it is, is none of those that a rule can name.
        if self.transports.as_ref().is_some_and(|allowed| !allowed.contains(&transport)) {
            return Err(Denial::OtherTransport);
        }
        if self.window.is_some_and(|(from, until)| !is_within(from, until, unix_now)) {
            return Err(Denial::OtherTime);
        }
        match self.max_payload {
            Some(max) if payload_len > max => Err(Denial::TooLong { max }),
            _ => Ok(()),
        }
    }
}

/// What is asked for, with its first eight bytes beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    scope: Scope<'a>,
    head: u64,
}

impl<'a> From<Scope<'a>> for Wanted<'a> {
    fn from(scope: Scope<'a>) -> Self {
        let head = match scope {
            Scope::Permission(permission) => head(permission.pattern.as_str()),
            _ => 0,
        };
        Self { scope, head }
    }
}

/// A scope that owns its text and need not be checked again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OwnedScope {
    Everything,
    Name(Box<str>),
    Permission(OwnedPermission),
}

/// An operation, or any, on what a pattern selects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OwnedPermission {
    operation: Option<Operation>,
    pattern: PatternBuf,
    /// The first bytes of its segments before one with a star, and which of the eight these are: most of what is asked
    /// differs there already.
    head: u64,
    mask: u64,
}

impl OwnedPermission {
    fn new(permission: Permission<'_>) -> Self {
        let text = permission.pattern.as_str();
        let literal = text.find('*').map_or(text.len(), |star| star.saturating_sub(1)).min(8);
        let mask = u64::MAX.checked_shr(64 - 8 * literal as u32).unwrap_or(0);
        let head = head(text) & mask;
        Self { operation: permission.operation, pattern: permission.pattern.into(), head, mask }
    }

    fn covers(&self, wanted: Permission<'_>, wanted_head: u64) -> bool {
        let own = Permission { operation: self.operation, pattern: self.pattern.as_pattern() };
        wanted_head & self.mask == self.head && own.covers(wanted)
    }
}

impl OwnedScope {
    /// Reads `*`, a name, or `operation:pattern` with a pattern of any length.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(permission) = Permission::parse(text) {
            return Some(Self::Permission(OwnedPermission::new(permission)));
        }
        match Scope::parse(text)? {
            Scope::Everything => Some(Self::Everything),
            Scope::Name(name) => Some(Self::Name(name.into())),
            Scope::Permission(_) => None,
        }
    }

    /// Whether this covers what is `wanted`, as core says.
    pub(super) fn covers(&self, wanted: Wanted<'_>) -> bool {
        match (self, wanted.scope) {
            (Self::Everything, _) => true,
            (Self::Name(own), Scope::Name(name)) => **own == *name,
            (Self::Permission(own), Scope::Permission(permission)) => own.covers(permission, wanted.head),
            _ => false,
        }
    }
}

impl std::fmt::Display for OwnedScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Permission(OwnedPermission { operation, pattern, .. }) => {
                write!(f, "{}:{}", operation.map_or("*", Operation::as_str), pattern.as_pattern())
            }
        }
    }
}

/// The first eight bytes of a text; zeros after a shorter one, which no address has in it.
fn head(text: &str) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    u64::from_le_bytes(bytes)
}

/// Whether a moment is in a window of the day.
fn is_within(from: u16, until: u16, unix_now: u64) -> bool {
    let minute = (unix_now % 86_400 / 60) as u16;
    if from < until { (from..until).contains(&minute) } else { minute >= from || minute < until }
}

/// Minutes since midnight of `HH:MM`.
pub(super) fn parse_minute(text: &str) -> Option<u16> {
    let [h1, h2, b':', m1, m2] = *text.as_bytes() else { return None };
    let two = |tens: u8, ones: u8| {
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| u16::from(tens - b'0') * 10 + u16::from(ones - b'0'))
    };
    let (hour, minute) = (two(h1, h2)?, two(m1, m2)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_first_changes_no_answer() {
        let patterns = [
            "**",
            "*",
            "*/b",
            "a",
            "a/*",
            "a/**",
            "a/b",
            "a/b/*",
            "a/*/c",
            "ab/**",
            "ab",
            "a.b/*",
            "a/b/c",
            "abcdefgh/*",
            "abcdefgh/i",
            "abcdefg/*",
            "abcdefghi/**",
        ];
        for (own, wanted) in patterns.iter().flat_map(|own| patterns.iter().map(move |wanted| (own, wanted)))
        {
            let (own, wanted) = (format!("request:{own}"), format!("request:{wanted}"));
            let wanted = Scope::parse(&wanted).unwrap();
            let as_core = Scope::parse(&own).unwrap().covers(wanted);
            assert_eq!(OwnedScope::parse(&own).unwrap().covers(wanted.into()), as_core, "{own} {wanted:?}");
        }
    }

    #[test]
    fn a_window_may_cross_midnight_and_ends_before_its_last_minute() {
        let at = |text: &str| u64::from(parse_minute(text).unwrap()) * 60 + 20_000 * 86_400;
        let window = |from: &str, until: &str, now: u64| {
            is_within(parse_minute(from).unwrap(), parse_minute(until).unwrap(), now)
        };
        assert!(window("08:00", "20:00", at("08:00")));
        assert!(window("08:00", "20:00", at("20:00") - 1));
        assert!(!window("08:00", "20:00", at("20:00")));
        assert!(!window("08:00", "20:00", at("08:00") - 1));
        assert!(window("22:00", "06:00", at("23:59")) && window("22:00", "06:00", at("00:00")));
        assert!(!window("22:00", "06:00", at("06:00")) && !window("22:00", "06:00", at("12:00")));
        assert!(window("22:00", "00:00", at("23:59")) && !window("22:00", "00:00", at("00:00")));
    }

    #[test]
    fn a_time_of_day_is_written_in_one_way() {
        for text in ["24:00", "8:00", "08:60", "08:0", "0800", "08:00:00", " 8:00", "+8:00", "٠٨:٠٠", ""]
        {
            assert_eq!(parse_minute(text), None, "{text}");
        }
        assert_eq!(parse_minute("23:59"), Some(1439));
    }
}
