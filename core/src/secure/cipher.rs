//! The two suites: what a data frame's tag is, and whether its payload can be read. Knows no frames and no handshake.

use core::fmt;

use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;
use visorbus_aead::ChaCha20Poly1305;
use zeroize::Zeroizing;

/// What protects the frames of a link. Fixed by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Suite {
    /// A tag of 8 bytes by SipHash-2-4: nobody can change, repeat or make up a frame, anybody on the line can read it.
    Tag64,
    /// ChaCha20-Poly1305 (RFC 8439), with a tag of 16 bytes: nobody can read it either.
    Sealed,
}

impl Suite {
    /// Its number on the wire and in a key's text.
    pub const fn code(self) -> u8 {
        match self {
            Self::Tag64 => 1,
            Self::Sealed => 2,
        }
    }

    /// The suite of a number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Tag64),
            2 => Some(Self::Sealed),
            _ => None,
        }
    }

    /// Its name: `tag64` or `sealed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tag64 => "tag64",
            Self::Sealed => "sealed",
        }
    }

    /// The suite of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tag64, Self::Sealed].into_iter().find(|suite| suite.as_str() == name)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One direction of a channel: makes and checks the tags of its frames. [`Tag64`], [`Sealed`], or [`AnySuite`] where
/// keys of both are in use; a board with one suite links only that.
///
/// `number` is a frame's kind and its full counter in one; never twice the same under one key.
pub trait Cipher: Sized {
    /// Bytes of the longest tag.
    const MAX_TAG: usize;

    /// With the key of one direction; `None` when `suite` is not one of this type's.
    fn new(suite: Suite, key: &[u8; 32]) -> Option<Self>;

    /// Bytes of a tag.
    fn tag_len(&self) -> usize;

    /// Protects the payload and writes its tag, of [`Cipher::tag_len`] bytes.
    fn seal(&self, number: u64, payload: &mut [u8], tag: &mut [u8]);

    /// Opens the payload in place; `false` when the tag is not its own, and then the payload stays as it came.
    fn open(&self, number: u64, payload: &mut [u8], tag: &[u8]) -> bool;
}

/// [`Suite::Tag64`].
pub struct Tag64(Zeroizing<[u8; 16]>);

impl Tag64 {
    /// SipHash-2-4 of the number, little endian, and the payload; compared and sent little endian.
    fn tag(&self, number: u64, payload: &[u8]) -> [u8; 8] {
        use core::hash::Hasher;
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&number.to_le_bytes());
        hasher.write(payload);
        hasher.finish().to_le_bytes()
    }
}

impl Cipher for Tag64 {
    const MAX_TAG: usize = 8;

    fn new(suite: Suite, key: &[u8; 32]) -> Option<Self> {
        let (key, _) = key.split_first_chunk()?;
        (suite == Suite::Tag64).then(|| Self(Zeroizing::new(*key)))
    }

    fn tag_len(&self) -> usize {
        Self::MAX_TAG
    }

    fn seal(&self, number: u64, payload: &mut [u8], tag: &mut [u8]) {
        for (to, from) in tag.iter_mut().zip(self.tag(number, payload)) {
            *to = from;
        }
    }

    fn open(&self, number: u64, payload: &mut [u8], tag: &[u8]) -> bool {
        self.tag(number, payload).ct_eq(tag).into()
    }
}

/// [`Suite::Sealed`].
pub struct Sealed(ChaCha20Poly1305);

impl Cipher for Sealed {
    const MAX_TAG: usize = 16;

    fn new(suite: Suite, key: &[u8; 32]) -> Option<Self> {
        (suite == Suite::Sealed).then(|| Self(ChaCha20Poly1305::new(key)))
    }

    fn tag_len(&self) -> usize {
        Self::MAX_TAG
    }

    fn seal(&self, number: u64, payload: &mut [u8], tag: &mut [u8]) {
        let made = self.0.seal(&nonce(number), payload);
        for (to, from) in tag.iter_mut().zip(made) {
            *to = from;
        }
    }

    fn open(&self, number: u64, payload: &mut [u8], tag: &[u8]) -> bool {
        tag.try_into().is_ok_and(|tag| self.0.open(&nonce(number), payload, tag))
    }
}

/// Either suite, as the key says: for an end with keys of both.
pub enum AnySuite {
    /// [`Suite::Tag64`].
    Tag64(Tag64),
    /// [`Suite::Sealed`].
    Sealed(Sealed),
}

impl Cipher for AnySuite {
    const MAX_TAG: usize = Sealed::MAX_TAG;

    fn new(suite: Suite, key: &[u8; 32]) -> Option<Self> {
        match suite {
            Suite::Tag64 => Tag64::new(suite, key).map(Self::Tag64),
            Suite::Sealed => Sealed::new(suite, key).map(Self::Sealed),
        }
    }

    fn tag_len(&self) -> usize {
        match self {
            Self::Tag64(cipher) => cipher.tag_len(),
            Self::Sealed(cipher) => cipher.tag_len(),
        }
    }

    fn seal(&self, number: u64, payload: &mut [u8], tag: &mut [u8]) {
        match self {
            Self::Tag64(cipher) => cipher.seal(number, payload, tag),
            Self::Sealed(cipher) => cipher.seal(number, payload, tag),
        }
    }

    fn open(&self, number: u64, payload: &mut [u8], tag: &[u8]) -> bool {
        match self {
            Self::Tag64(cipher) => cipher.open(number, payload, tag),
            Self::Sealed(cipher) => cipher.open(number, payload, tag),
        }
    }
}

/// The nonce of RFC 8439 section 2.3: four bytes of nothing, for the key is of one direction of one channel, and the
/// number, little endian.
fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().skip(4).zip(number.to_le_bytes()) {
        *to = from;
    }
    nonce
}
