//! What a board was told of tokens that were taken back. Knows times and subjects, nothing of how it came to know.

use super::BUS;
use super::claims::Claims;
use crate::bus::Revoke;
use crate::limits::MAX_REVOKED;

/// Up to [`MAX_REVOKED`] subjects whose earlier tokens are void, and one moment before which everybody's are. When there
/// are more subjects, that moment moves up to the newest: more is void than was asked for, never less.
#[derive(Debug)]
pub(crate) struct Revocations {
    /// A subject, folded, and the Unix second before which its tokens are void. Two subjects that fold to the same share
    /// what is said of either.
    subjects: [(u32, u64); MAX_REVOKED],
    everybody: u64,
}

impl Revocations {
    pub(crate) const fn new() -> Self {
        Self { subjects: [(0, 0); MAX_REVOKED], everybody: 0 }
    }

    pub(crate) fn add(&mut self, revoke: &Revoke<'_>) {
        let (who, everybody) = (fold(revoke.subject), self.everybody);
        let mut places = self.subjects.iter_mut();
        // Its own, or one that says no more than what holds for everybody.
        let place = places.find(|(known, before)| *known == who || *before <= everybody);
        let before = match place {
            Some((known, before)) if !revoke.subject.is_empty() => {
                *known = who;
                before
            }
            _ => &mut self.everybody,
        };
        *before = revoke.issued_before.max(*before);
    }

    /// Whether a token that says this was taken back. The hub's own proof never is: it is for this start of the board.
    pub(crate) fn cover(&self, claims: &Claims<'_>) -> bool {
        if claims.subject == BUS {
            return false;
        }
        let (who, issued_at) = (fold(claims.subject), claims.issued_at);
        let named = |(known, before): &(u32, u64)| *known == who && issued_at < *before;
        issued_at < self.everybody || self.subjects.iter().any(named)
    }
}

/// FNV-1a (draft-eastlake-fnv), 32 bits.
fn fold(subject: &str) -> u32 {
    subject.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
