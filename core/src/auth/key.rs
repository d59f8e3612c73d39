//! A secret key, what is derived from it, and the tags made with it. Knows bytes only, nothing of tokens.

use hmac::digest::FixedOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// A 32-byte secret: a root key or one derived from it. Wiped when dropped, never shown by `Debug`.
///
/// Wiping covers this place in memory; moving a key can leave a copy behind, so put it where it stays early on.
pub struct Key([u8; 32]);

impl Key {
    /// Takes 32 bytes that were drawn from a good random source, or were derived from such.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of one holder: HKDF-SHA256 (RFC 5869) with this as input keying material, the salt
    /// `visorbus v1 device key` and the holder's name as info, one block of output.
    ///
    /// Deterministic: the hub recomputes a device's key whenever it needs it and stores none of them.
    #[must_use]
    pub fn derive(&self, holder: &str) -> Self {
        let extracted = hmac_sha256(SALT, &self.0, &[]);
        let expanded = hmac_sha256(&*extracted, holder.as_bytes(), &[1]);
        Self(*expanded)
    }

    /// The bytes themselves, for provisioning a device or a store. Whoever gets them can mint.
    pub const fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// The tag of `bytes` under this key.
    pub(super) fn tag(&self, bytes: &[u8]) -> Tag {
        Tag::of(&self.0, bytes)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// HMAC-SHA256 cut to its first 16 bytes (RFC 2104 section 5), and the key under which the next caveat is tagged.
///
/// Wiped when dropped: the tag of a token before it was narrowed is worth as much as that wider token.
pub(super) struct Tag(Zeroizing<[u8; TAG_LEN]>);

impl Tag {
    pub(super) fn new(bytes: [u8; TAG_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn of(key: &[u8], bytes: &[u8]) -> Self {
        let full = hmac_sha256(key, bytes, &[]);
        let mut tag = Self::new([0; TAG_LEN]);
        for (to, from) in tag.0.iter_mut().zip(full.iter()) {
            *to = *from;
        }
        tag
    }

    /// The tag that follows this one in the chain when `caveat` is appended.
    pub(super) fn next(&self, caveat: &[u8]) -> Self {
        Self::of(&*self.0, caveat)
    }

    /// Whether `tag` is this one, in a time that does not depend on where they differ.
    pub(super) fn is(&self, tag: &[u8; TAG_LEN]) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), tag.as_slice()).into()
    }

    pub(super) fn as_bytes(&self) -> &[u8; TAG_LEN] {
        &self.0
    }
}

/// HMAC-SHA256 of `first ‖ second`. Kept out of line: one copy in flash serves every use.
#[inline(never)]
fn hmac_sha256(key: &[u8], first: &[u8], second: &[u8]) -> Zeroizing<[u8; 32]> {
    // RFC 2104 takes a key of any length, so this holds whatever the key.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    let mut out = Zeroizing::new([0; 32]);
    mac.update(first);
    mac.update(second);
    mac.finalize_into((&mut *out).into());
    out
}

/// Bytes of a tag.
pub(super) const TAG_LEN: usize = 16;

/// Sets keys of this version apart from all else that may be derived from the same root.
const SALT: &[u8] = b"visorbus v1 device key";
