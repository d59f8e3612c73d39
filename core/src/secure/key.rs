//! The key that two ends of a line share, and its text for provisioning. Knows no frames.

use base64ct::{Base64UrlUnpadded, Encoding};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::Suite;
use crate::auth::{BUS, Key};
use crate::limits::MAX_NAME;
use crate::message::address::is_name;
use crate::session::Name;
use crate::wire::Writer;

/// A key of one link: both of its ends have the same. It is bound to one peer's name and one suite.
///
/// Several keys of one name, with different ids, are valid at once while one replaces another.
#[derive(Debug)]
pub struct LinkKey {
    id: u8,
    suite: Suite,
    name: Name,
    secret: Key,
}

impl LinkKey {
    /// The key `id` of the link to the peer `name`; `None` when that is not a component's name, or the hub's own.
    pub fn new(id: u8, suite: Suite, name: &str, secret: Key) -> Option<Self> {
        if !is_name(name) || name == BUS {
            return None;
        }
        Some(Self { id, suite, name: Name::try_from(name).ok()?, secret })
    }

    /// Reads what [`LinkKey::encode`] wrote: the one text of a key, without white space around it.
    ///
    /// # Errors
    /// [`LinkKeyError`] says what is wrong with the text; never what is in it.
    pub fn parse(text: &str) -> Result<Self, LinkKeyError> {
        let encoded = text.strip_prefix(LINK_KEY_PREFIX).ok_or(LinkKeyError::NoPrefix)?;
        let mut bytes = Zeroizing::new([0; MAX_KEY]);
        let bytes = Base64UrlUnpadded::decode(encoded, &mut *bytes).map_err(|_| LinkKeyError::Damaged)?;
        let (&[suite, id], rest) = bytes.split_first_chunk().ok_or(LinkKeyError::Damaged)?;
        let (name, secret) = rest.split_last_chunk::<32>().ok_or(LinkKeyError::Damaged)?;
        let suite = Suite::from_code(suite).ok_or(LinkKeyError::UnknownSuite)?;
        let name = core::str::from_utf8(name).map_err(|_| LinkKeyError::Damaged)?;
        Self::new(id, suite, name, Key::new(*secret)).ok_or(LinkKeyError::BadName)
    }

    /// Writes the key as text, `vbl1.` and base64url without padding of suite, id, name and secret, into `out`, of
    /// [`MAX_LINK_KEY_TEXT`] bytes or more. It is as secret as the key: both ends are provisioned with it.
    ///
    /// # Panics
    /// Never: `out` has room for the longest text.
    pub fn encode<'a>(&self, out: &'a mut [u8; MAX_LINK_KEY_TEXT]) -> &'a str {
        let mut bytes = Zeroizing::new([0; MAX_KEY]);
        let mut writer = Writer::new(&mut *bytes);
        writer.bytes(&[self.suite.code(), self.id]);
        writer.bytes(self.name.as_bytes());
        writer.bytes(self.secret.expose_secret());
        let len = writer.finish().unwrap_or(0);
        let (prefix, rest) = out.split_at_mut(LINK_KEY_PREFIX.len());
        prefix.copy_from_slice(LINK_KEY_PREFIX.as_bytes());
        let len = Base64UrlUnpadded::encode(bytes.get(..len).unwrap_or_default(), rest).map_or(0, str::len);
        core::str::from_utf8(out.get(..LINK_KEY_PREFIX.len() + len).unwrap_or_default()).unwrap_or_default()
    }

    /// Its id: tells the keys of one name apart.
    pub const fn id(&self) -> u8 {
        self.id
    }

    /// The suite that it fixes.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The name of the peer that it proves, at the connecting end of the link.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `other` is this key in everything, the secret too: under one name and id there may be another after a
    /// while. Takes a time that does not depend on where the secrets differ.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let alike = (self.id, self.suite, self.name()) == (other.id, other.suite, other.name());
        let secrets = self.secret.expose_secret().as_slice().ct_eq(other.secret.expose_secret().as_slice());
        alike & bool::from(secrets)
    }

    /// The same key again, for whoever has to know later which it was; wiped when dropped, as every key is.
    pub(super) fn copy(&self) -> Self {
        let secret = Key::new(*self.secret.expose_secret());
        Self { id: self.id, suite: self.suite, name: self.name.clone(), secret }
    }

    pub(super) const fn secret(&self) -> &Key {
        &self.secret
    }
}

/// Why a text is not a link key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkKeyError {
    /// It does not begin with `vbl1.`.
    #[error("a link key begins with 'vbl1.'; this is something else, or was not copied from its start")]
    NoPrefix,
    /// What follows is not base64url without padding, or not as long as a key.
    #[error("the link key's text is damaged; copy all of it, without spaces or line breaks")]
    Damaged,
    /// It is of a suite that this version does not know.
    #[error("the link key is of a suite that this version does not know; suites are tag64 and sealed")]
    UnknownSuite,
    /// The name in it cannot be a peer's.
    #[error("the name in the link key is not a peer's: 1 to 32 of [a-z0-9._-], and not 'bus'")]
    BadName,
}

/// What every link key's text begins with, so that people and secret scanners know one when they see it.
pub const LINK_KEY_PREFIX: &str = "vbl1.";
/// Bytes of the longest link key's text.
pub const MAX_LINK_KEY_TEXT: usize = LINK_KEY_PREFIX.len() + (MAX_KEY * 4).div_ceil(3);
/// Suite, id, name and secret.
const MAX_KEY: usize = 2 + MAX_NAME + 32;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_shown() {
        let key = LinkKey::new(3, Suite::Sealed, "imu", Key::new([7; 32])).unwrap();
        let mut text = [0; MAX_LINK_KEY_TEXT];
        let text = key.encode(&mut text);
        assert!(text.starts_with("vbl1.AgNpbXUHBwcH"), "{text}");
        let read = LinkKey::parse(text).unwrap();
        assert_eq!((read.id(), read.suite(), read.name()), (3, Suite::Sealed, "imu"));
        assert_eq!(read.secret().expose_secret(), &[7; 32]);
        assert!(!std::format!("{key:?}").contains('7'));
        let longest = "n".repeat(MAX_NAME);
        let key = LinkKey::new(255, Suite::Tag64, &longest, Key::new([0xFF; 32])).unwrap();
        let mut text = [0; MAX_LINK_KEY_TEXT];
        assert_eq!(LinkKey::parse(key.encode(&mut text)).unwrap().name(), longest);
    }

    #[test]
    fn a_key_is_the_same_only_with_the_same_id_suite_name_and_secret() {
        let key = |id, suite, name, secret| LinkKey::new(id, suite, name, Key::new(secret)).unwrap();
        let own = key(3, Suite::Sealed, "imu", [7; 32]);
        assert!(own.is_same(&key(3, Suite::Sealed, "imu", [7; 32])));
        let mut last = [7; 32];
        last[31] ^= 1;
        assert!(!own.is_same(&key(3, Suite::Sealed, "imu", last)));
        assert!(!own.is_same(&key(4, Suite::Sealed, "imu", [7; 32])));
        assert!(!own.is_same(&key(3, Suite::Tag64, "imu", [7; 32])));
        assert!(!own.is_same(&key(3, Suite::Sealed, "imu2", [7; 32])));
    }

    #[test]
    fn what_is_not_a_key_is_refused_with_the_reason() {
        let key = LinkKey::new(3, Suite::Sealed, "imu", Key::new([7; 32])).unwrap();
        let mut text = [0; MAX_LINK_KEY_TEXT];
        let text = key.encode(&mut text);
        let refused = |text: &str| LinkKey::parse(text).unwrap_err();
        assert_eq!(refused(&text.replace("vbl1.", "vb1.")), LinkKeyError::NoPrefix);
        for damaged in ["", "A", "AgNpbXU", &"A".repeat(200), "AgNpbXUH BwcH", "====", "\u{fc}\u{fc}"] {
            assert_eq!(refused(&std::format!("vbl1.{damaged}")), LinkKeyError::Damaged, "{damaged}");
        }
        assert_eq!(refused(&text.replace("AgNp", "AwNp")), LinkKeyError::UnknownSuite);
        for name in ["", "bus", "Imu", "imu/a", &"n".repeat(MAX_NAME + 1)] {
            assert!(LinkKey::new(0, Suite::Tag64, name, Key::new([7; 32])).is_none(), "{name}");
        }
        assert_eq!(
            refused(&text[..text.len() - 4]),
            LinkKeyError::BadName,
            "three bytes of the name are gone"
        );
    }
}
