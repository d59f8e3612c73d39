//! A secret key, what is derived from it, and the tags made with it. Knows bytes only, nothing of tokens.

use sha2::block_api::compress256;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::{Zeroize, Zeroizing, zeroize_bytes};

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
        let extracted = Mac::new(&*hmac_sha256(salt, &self.0, None));
        Self(extracted.of(info, Some(1)).0)
    }

    /// What [`Key::derive`] has in common for all holders.
    pub(super) fn extract(&self) -> Mac {
        Mac::new(&*hmac_sha256(SALT, &self.0, None))
    }

    /// The key, ready to tag with.
    pub(super) fn to_mac(&self) -> Mac {
        Mac::new(&self.0)
    }

    /// The bytes themselves, for provisioning a device or a store. Whoever gets them can mint.
    pub const fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// The tag of `bytes` under this key.
    #[cfg(test)]
    pub(super) fn tag(&self, bytes: &[u8]) -> Tag {
        self.to_mac().tag(bytes)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        zeroize_bytes(&mut self.0);
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
pub(super) struct Tag([u8; TAG_LEN]);

impl Tag {
    pub(super) fn new(bytes: [u8; TAG_LEN]) -> Self {
        Self(bytes)
    }

    fn cut(full: &[u8; 32]) -> Self {
        Self(full.first_chunk().copied().unwrap_or_default())
    }

    /// The tag that follows this one in the chain when `caveat` is appended.
    pub(super) fn next(&self, caveat: &[u8]) -> Self {
        Mac::new(&self.0).tag(caveat)
    }

    /// Whether `tag` is this one, in a time that does not depend on where they differ.
    pub(super) fn is(&self, tag: &[u8; TAG_LEN]) -> bool {
        // Word by word: byte by byte takes four times as long.
        let words = self.0.as_chunks().0.iter().zip(tag.as_chunks().0);
        let same = words.map(|(own, other)| u32::from_ne_bytes(*own).ct_eq(&u32::from_ne_bytes(*other)));
        same.fold(Choice::from(1), |all, one| all & one).into()
    }

    pub(super) fn as_bytes(&self) -> &[u8; TAG_LEN] {
        &self.0
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        zeroize_bytes(&mut self.0);
    }
}

/// A key of HMAC-SHA256 (RFC 2104, section 4) as its two hashes stand once they have taken the key: a tag then takes
/// two blocks less, and the key itself is not needed. Whoever has this can tag, so it is wiped like a key.
pub(super) struct Mac {
    inner: State,
    outer: State,
}

impl Mac {
    /// The key has at most a block's 64 bytes: it is a [`Key`], a tag or a salt.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn new(key: &[u8]) -> Self {
        debug_assert!(key.len() <= BLOCK_LEN, "a longer key would have to be hashed first");
        let mut block = [INNER_PAD; BLOCK_LEN];
        for (padded, byte) in block.iter_mut().zip(key) {
            *padded ^= byte;
        }
        let inner = State::after(&block);
        for padded in block.iter_mut() {
            *padded ^= INNER_PAD ^ OUTER_PAD;
        }
        let outer = State::after(&block);
        zeroize_bytes(&mut block);
        Self { inner, outer }
    }

    /// The tag of `bytes`.
    pub(super) fn tag(&self, bytes: &[u8]) -> Tag {
        Tag::cut(&self.of(bytes, None).0)
    }

    /// The key of `holder`, of what [`Key::extract`] gives.
    pub(super) fn derive(&self, holder: &str) -> Self {
        Self::new(&self.of(holder.as_bytes(), Some(1)).0)
    }

    /// HMAC-SHA256 of `bytes` and of one more behind them, if there is one.
    fn of(&self, bytes: &[u8], last: Option<u8>) -> Hash {
        let inner = self.inner.finish(bytes, last);
        self.outer.finish(&inner.0, None)
    }
}

impl core::fmt::Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Mac(..)")
    }
}

/// HMAC-SHA256 (RFC 2104) of `bytes` and of one more behind them, if there is one. The key has at most 64 bytes.
pub(crate) fn hmac_sha256(key: &[u8], bytes: &[u8], last: Option<u8>) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Mac::new(key).of(bytes, last).0)
}

/// A whole hash: more than ever leaves. Wiped when dropped.
struct Hash([u8; 32]);

impl Drop for Hash {
    fn drop(&mut self) {
        zeroize_bytes(&mut self.0);
    }
}

/// SHA-256 (FIPS 180-4) that has taken one block. On the compression function itself: a leaf then links nothing that
/// keeps bytes until a block is full.
struct State([u32; 8]);

impl State {
    fn after(block: &[u8; BLOCK_LEN]) -> Self {
        let mut state = Self(INITIAL);
        compress256(&mut state.0, core::slice::from_ref(block));
        state
    }

    /// Takes `block`, and wipes it.
    fn take(&mut self, block: &mut [u8; BLOCK_LEN]) {
        compress256(&mut self.0, core::slice::from_ref(block));
        zeroize_bytes(block);
    }

    /// The hash of the block, `bytes` and `last` together. Kept out of line: one copy in flash serves every use.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn finish(&self, bytes: &[u8], last: Option<u8>) -> Hash {
        let mut state = Self(self.0);
        let (blocks, rest) = bytes.as_chunks();
        compress256(&mut state.0, blocks);
        // What is left of the message, a one bit, zeros, and the length of it all in bits, in one block or two.
        let mut block = [0; BLOCK_LEN];
        let mut len = rest.len();
        if let Some(place) = block.get_mut(..len) {
            place.copy_from_slice(rest);
        }
        for byte in last.into_iter().chain([0x80]) {
            if len == BLOCK_LEN {
                state.take(&mut block);
                len = 0;
            }
            if let Some(place) = block.get_mut(len) {
                *place = byte;
            }
            len += 1;
        }
        if len > BLOCK_LEN - 8 {
            state.take(&mut block);
        }
        let bits = (BLOCK_LEN + bytes.len() + usize::from(last.is_some())) as u64 * 8;
        if let Some(place) = block.last_chunk_mut() {
            *place = bits.to_be_bytes();
        }
        state.take(&mut block);
        let mut hash = Hash([0; 32]);
        for (place, word) in hash.0.as_chunks_mut().0.iter_mut().zip(&state.0) {
            *place = word.to_be_bytes();
        }
        hash
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The state that SHA-256 begins with (FIPS 180-4, section 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Bytes of a block of SHA-256, and the bytes that set HMAC's two hashes apart.
const BLOCK_LEN: usize = 64;
const INNER_PAD: u8 = 0x36;
const OUTER_PAD: u8 = 0x5C;

/// Bytes of a tag.
pub(super) const TAG_LEN: usize = 16;

/// Sets keys of this version apart from all else that may be derived from the same root.
const SALT: &[u8] = b"visorbus v1 device key";

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// RFC 2104 word for word, on the crate's own whole hash.
    fn plain_hmac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
        let padded =
            |pad: u8| -> [u8; 64] { core::array::from_fn(|at| key.get(at).copied().unwrap_or(0) ^ pad) };
        let mut inner = Sha256::new_with_prefix(padded(0x36));
        message.iter().for_each(|part| inner.update(part));
        Sha256::new_with_prefix(padded(0x5c)).chain_update(inner.finalize()).finalize().into()
    }

    #[test]
    fn it_is_hmac_sha256_for_every_length_of_key_and_message() {
        let bytes: [u8; 320] = core::array::from_fn(|at| (at * 7) as u8);
        for len in 0..=300 {
            let (key, message) = (&bytes[..len % 65], &bytes[19..19 + len]);
            assert_eq!(*hmac_sha256(key, message, None), plain_hmac(key, &[message]), "{len}");
            assert_eq!(
                *hmac_sha256(key, message, Some(9)),
                plain_hmac(key, &[message, &[9]]),
                "{len} and one"
            );
        }
    }

    #[test]
    fn it_answers_as_rfc_4231_says() {
        let key_4: [u8; 25] = core::array::from_fn(|at| at as u8 + 1);
        for (key, message, start) in [
            (&[0x0b; 20][..], &b"Hi There"[..], [0xb0, 0x34, 0x4c, 0x61]),
            (b"Jefe", b"what do ya want for nothing?", [0x5b, 0xdc, 0xc1, 0x46]),
            (&[0xaa; 20], &[0xdd; 50], [0x77, 0x3e, 0xa9, 0x1e]),
            (&key_4, &[0xcd; 50], [0x82, 0x55, 0x8a, 0x38]),
        ] {
            assert_eq!(hmac_sha256(key, message, None)[..4], start);
        }
    }
}
