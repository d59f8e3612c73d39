//! A secret key, what is derived from it, and the tags made with it. Knows bytes only, nothing of tokens.

use sha2::{Digest, Sha256};
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
        self.expand(SALT, holder.as_bytes())
    }

    /// HKDF-SHA256 (RFC 5869) with this as input keying material, one block of output. The salt has at most 64 bytes and
    /// sets one use apart from all others.
    pub(crate) fn expand(&self, salt: &[u8], info: &[u8]) -> Self {
        let extracted = hmac_sha256(salt, &self.0, &[]);
        let expanded = hmac_sha256(&*extracted, info, &[1]);
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

/// HMAC-SHA256 (RFC 2104) of `first ‖ second`. The key has at most a block's 64 bytes: it is a [`Key`], a tag or the salt.
// On the hash itself: a leaf need not link a second crate for what two plain hashes are.
#[inline(never)]
pub(crate) fn hmac_sha256(key: &[u8], first: &[u8], second: &[u8]) -> Zeroizing<[u8; 32]> {
    debug_assert!(key.len() <= BLOCK_LEN, "a longer key would have to be hashed first");
    let mut block = Zeroizing::new([INNER_PAD; BLOCK_LEN]);
    for (padded, byte) in block.iter_mut().zip(key) {
        *padded ^= byte;
    }
    let inner = sha256(&[&*block, first, second]);
    for padded in block.iter_mut() {
        *padded ^= INNER_PAD ^ OUTER_PAD;
    }
    sha256(&[&*block, &*inner])
}

/// SHA-256 of all parts together. Kept out of line: one copy in flash serves every use.
#[inline(never)]
fn sha256(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut out = Zeroizing::new([0; 32]);
    for part in parts {
        hash.update(part);
    }
    hash.finalize_into((&mut *out).into());
    out
}

/// Bytes of a block of SHA-256, and the bytes that set HMAC's two hashes apart.
const BLOCK_LEN: usize = 64;
const INNER_PAD: u8 = 0x36;
const OUTER_PAD: u8 = 0x5C;

/// Bytes of a tag.
pub(super) const TAG_LEN: usize = 16;

/// Sets keys of this version apart from all else that may be derived from the same root.
const SALT: &[u8] = b"visorbus v1 device key";
