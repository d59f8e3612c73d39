//! Keys of programs as text: `vbk1.PREFIX.SECRET`. The prefix finds the key, the secret proves it.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::store::sha256;
use crate::{Error, Result, Secret, hex};

/// Makes a key: its prefix, its text, and the hash that is kept of its secret.
pub(crate) fn make() -> Result<(String, Secret, [u8; 32])> {
    let mut random = Zeroizing::new([0; PREFIX_BYTES + SECRET_BYTES]);
    getrandom::fill(&mut *random).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    let (prefix, secret) = random.split_at(PREFIX_BYTES);
    let prefix = hex::encode(prefix).to_string();
    let text = Zeroizing::new(format!("{START}{prefix}.{}", &*hex::encode(secret)));
    // 256 random bits cannot be guessed, so a plain hash keeps them; a slow one would only cost time.
    Ok((prefix, Secret::new(text.as_str()), sha256(secret)))
}

/// The prefix of a key, and the hash of its secret; `None` when it is no key.
pub(crate) fn parse(text: &str) -> Option<(&str, [u8; 32])> {
    let (prefix, secret) = text.strip_prefix(START)?.split_once('.')?;
    let well_formed = prefix.len() == 2 * PREFIX_BYTES && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    let secret = hex::parse_32(secret).filter(|_| well_formed)?;
    Some((prefix, sha256(&*secret)))
}

/// Whether two hashes are the same, in a time that does not depend on where they differ.
pub(crate) fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.ct_eq(other).into()
}

/// What a key begins with, so that people and secret scanners know one when they see it.
const START: &str = "vbk1.";
const PREFIX_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_prefix_and_proven_by_its_secret() {
        let (prefix, text, hash) = make().unwrap();
        assert_eq!(parse(text.expose()), Some((prefix.as_str(), hash)));
        assert!(text.expose().starts_with(&format!("vbk1.{prefix}.")));
        assert_ne!(make().unwrap().2, hash);
    }

    #[test]
    fn what_is_no_key_is_none() {
        let (_, text, hash) = make().unwrap();
        let text = text.expose();
        for wrong in [
            "",
            "vbk1.",
            "vbk1..",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.replace("vbk1", "vbk2"),
        ] {
            assert_eq!(parse(wrong), None);
        }
        let last = if text.ends_with('0') { "1" } else { "0" };
        let changed = format!("{}{last}", &text[..text.len() - 1]);
        assert!(!is_same(&parse(&changed).unwrap().1, &hash));
    }
}
