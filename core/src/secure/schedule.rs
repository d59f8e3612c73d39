//! The keys of a channel, out of the shared secret and everything that both ends said.

use zeroize::Zeroizing;

use super::frame::{NONCE_LEN, PROOF_LEN, SECURE_VERSION};
use super::key::LinkKey;
use crate::auth::{BUS, hmac_sha256};
use crate::limits::MAX_NAME;
use crate::wire::Writer;

/// What one end said of itself in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) boot_id: u64,
}

/// The keys of one channel. Wiped when dropped.
pub(super) struct ChannelKeys {
    /// Of what the connecting end sends.
    pub(super) up: Zeroizing<[u8; 32]>,
    /// Of what the accepting end sends.
    pub(super) down: Zeroizing<[u8; 32]>,
    /// What the accepting end shows to have the same.
    pub(super) confirmation: [u8; PROOF_LEN],
}

impl ChannelKeys {
    /// HKDF-SHA256 (RFC 5869) with the salt `visorbus v1 link`, the secret, and as info all that was said; three blocks:
    /// a key each way, and the confirmation.
    pub(super) fn new(key: &LinkKey, connecting: Side, accepting: Side) -> Self {
        let extracted = extract(key);
        let mut info = [0; BLOCK + MAX_INFO];
        let len = write_info(key, connecting, accepting, info.get_mut(BLOCK..).unwrap_or_default());
        let mut block = |before: Option<&[u8; BLOCK]>, number: u8| {
            let mut start = BLOCK;
            if let (Some(before), Some(place)) = (before, info.first_chunk_mut::<BLOCK>()) {
                *place = *before;
                start = 0;
            }
            hmac_sha256(&*extracted, info.get(start..BLOCK + len).unwrap_or_default(), Some(number))
        };
        let up = block(None, 1);
        let down = block(Some(&up), 2);
        let last = block(Some(&down), 3);
        zeroize::Zeroize::zeroize(&mut info);
        Self { up, down, confirmation: cut(&last) }
    }
}

/// What shows that whoever wrote an INIT has the key: HMAC-SHA256 of all before it, under what HKDF extracts, cut to 16
/// bytes. No block of the expansion is as short as an INIT.
pub(super) fn prove_init(key: &LinkKey, init: &[u8]) -> [u8; PROOF_LEN] {
    cut(&hmac_sha256(&*extract(key), init, None))
}

fn extract(key: &LinkKey) -> Zeroizing<[u8; BLOCK]> {
    hmac_sha256(SALT, key.secret().expose_secret(), None)
}

/// Version, suite, key id, then both ends: nonce, boot id (little endian), length of the name, name. How many bytes.
fn write_info(key: &LinkKey, connecting: Side, accepting: Side, out: &mut [u8]) -> usize {
    let mut writer = Writer::new(out);
    writer.bytes(&[SECURE_VERSION, key.suite().code(), key.id()]);
    for (side, name) in [(connecting, key.name()), (accepting, BUS)] {
        writer.bytes(&side.nonce);
        writer.bytes(&side.boot_id.to_le_bytes());
        writer.bytes(&[name.len() as u8]);
        writer.bytes(name.as_bytes());
    }
    writer.finish().unwrap_or(0)
}

fn cut(block: &[u8; BLOCK]) -> [u8; PROOF_LEN] {
    let mut cut = [0; PROOF_LEN];
    for (to, from) in cut.iter_mut().zip(block) {
        *to = *from;
    }
    cut
}

/// Bytes that HMAC-SHA256 gives.
const BLOCK: usize = 32;
/// Bytes of the longest info.
const MAX_INFO: usize = 3 + 2 * (NONCE_LEN + 8 + 1) + MAX_NAME + BUS.len();
const SALT: &[u8] = b"visorbus v1 link";
