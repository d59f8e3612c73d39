//! The one check of a token, and every reason it gives for refusing. The only place where a `Grant` is made.

use super::claims::Scopes;
use super::grant::Grant;
use super::ring::{KeyRing, OwnKey, SlotKind};
use super::token::UnverifiedToken;
use crate::sentence;

impl KeyRing {
    /// Checks `token` and makes the [`Grant`] that it is worth. There is no other way to get one.
    ///
    /// `audience` is the checker's own name (`bus` for the hub), `now` the time in Unix seconds, `None` where it is
    /// not known. In order: shape, key id, tag, and only then what the token says: audience, issuer, caveats, time,
    /// the key's own end, epoch. Takes at most 7 HMACs (two to
    /// derive, one for the head, one a caveat) over at most one token's bytes, whatever they are.
    ///
    /// # Errors
    /// The first [`TokenError`] in that order. Without a clock every token refuses.
    pub fn check(&self, token: &[u8], audience: &str, now: Option<u64>) -> Result<Grant, TokenError> {
        let token = UnverifiedToken::read(token)?;
        let slot = self.slot(token.key_id).ok_or(TokenError::UnknownKey)?;
        let rules = Rules { kind: slot.kind, not_after: slot.not_after, least_epoch: slot.least_epoch };
        let tagged = token.is_tagged_by(|head| slot.tag_head(&token.claims, head));
        check_with(&token, tagged, token.narrowed(), &rules, audience, now)
    }
}

impl OwnKey {
    /// [`KeyRing::check`] for a ring of this one device's key, without the code that root keys need.
    pub(crate) fn check(&self, token: &[u8], audience: &str, now: Option<u64>) -> Result<Grant, TokenError> {
        let token = UnverifiedToken::read(token)?;
        if token.key_id != self.id {
            return Err(TokenError::UnknownKey);
        }
        let tagged = token.is_tagged_by(|head| self.key.tag(head));
        check_with(&token, tagged, token.narrowed(), &OWN_RULES, audience, now)
    }

    /// As [`OwnKey::check`], without the code for caveats: a token that has any is refused.
    pub(crate) fn check_whole(
        &self,
        token: &[u8],
        audience: &str,
        now: Option<u64>,
    ) -> Result<Grant, TokenError> {
        let token = UnverifiedToken::read_whole(token)?;
        if token.key_id != self.id {
            return Err(TokenError::UnknownKey);
        }
        let tagged = token.is_tagged_whole_by(|head| self.key.tag(head));
        let claims = &token.claims;
        check_with(&token, tagged, Some((claims.expiry, claims.scopes)), &OWN_RULES, audience, now)
    }
}

/// A device's own key has no end and no epochs.
const OWN_RULES: Rules = Rules { kind: SlotKind::Device, not_after: u64::MAX, least_epoch: 0 };

/// What a key's tokens are held to. A caller who knows it beforehand links only what it takes.
struct Rules {
    kind: SlotKind,
    not_after: u64,
    least_epoch: u32,
}

/// What is left to check once the token's key is found: whether it made the tag, and then what the token says.
/// `narrowed` is what its caveats leave of expiry and scopes, `None` where they widen them.
#[inline]
fn check_with(
    token: &UnverifiedToken<'_>,
    tagged: bool,
    narrowed: Option<(u64, Scopes<'_>)>,
    rules: &Rules,
    audience: &str,
    now: Option<u64>,
) -> Result<Grant, TokenError> {
    let claims = &token.claims;
    if !tagged {
        return Err(TokenError::BadTag);
    }
    if claims.audience != audience {
        return Err(TokenError::WrongAudience);
    }
    if !rules.kind.accepts_issuer(claims) {
        return Err(TokenError::WrongIssuer);
    }
    let (expiry, scopes) = narrowed.ok_or(TokenError::Widened)?;
    let now = now.ok_or(TokenError::NoClock)?;
    if now >= expiry {
        return Err(TokenError::Expired);
    }
    if claims.issued_at > now.saturating_add(CLOCK_LEEWAY) {
        return Err(TokenError::NotYetValid);
    }
    if now > rules.not_after {
        return Err(TokenError::KeyRetired);
    }
    if claims.epoch < rules.least_epoch {
        return Err(TokenError::EpochPassed);
    }
    Grant::new(token.key_id, claims, expiry, scopes).ok_or(TokenError::TooManyScopes)
}

/// Seconds that an issuer's clock may be ahead of the checker's.
pub const CLOCK_LEEWAY: u64 = 60;

/// Why a token was refused, for whoever runs the checker. The other side gets [`TokenError::for_peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TokenError {
    /// Cut off, padded, or a value is not in its one encoding.
    #[error("this is not a whole token; copy all of it, or get a new one")]
    Malformed,
    /// Longer than any token.
    #[error("this is longer than a token can be; it is something else, or two tokens in one")]
    TooLong,
    /// Its first byte is not a version that this checker knows.
    #[error("the token is of a version that is not known here; update this side, or mint with an older tool")]
    UnknownVersion,
    /// It carries a condition that this checker does not know.
    #[error("the token carries a condition that is not known here; update this side, or narrow it otherwise")]
    UnknownCaveat,
    /// More caveats than a token may carry.
    #[error("the token carries too many caveats; narrow the token that it was made from in fewer steps")]
    TooManyCaveats,
    /// The ring holds no key of its id.
    #[error("the token was made with a key that is not known here; mint it with a current key")]
    UnknownKey,
    /// It was not made with the key it names, or was changed since.
    #[error("the token was changed, or was made with another key; get a new one from the hub that runs now")]
    BadTag,
    /// It is for someone else.
    #[error("the token is for another component; use one whose audience is this component")]
    WrongAudience,
    /// Its issuer may not issue this.
    #[error("the issuer of the token may not issue it: a device speaks for itself alone, without scopes")]
    WrongIssuer,
    /// A caveat would give more than the token had.
    #[error("a caveat of the token allows more than the token itself; a caveat can only narrow")]
    Widened,
    /// The checker does not know what time it is.
    #[error("this side has no time yet, so no token can be accepted; wait for the hub's time and try again")]
    NoClock,
    /// Its time is over.
    #[error("the token has expired; refresh it or get a new one")]
    Expired,
    /// It was issued in the future.
    #[error("the token was issued in the future; set the clocks of both sides")]
    NotYetValid,
    /// The key's last moment is past.
    #[error("the key of the token is retired; get a token that was made with the current key")]
    KeyRetired,
    /// The key demands a later epoch: all tokens of its own were revoked.
    #[error("all tokens of this epoch were revoked; get a new one")]
    EpochPassed,
    /// More scopes than a grant keeps.
    #[error("the token has more scopes than one session can hold; get one with fewer")]
    TooManyScopes,
}

impl TokenError {
    /// What the other side is told: enough for an honest holder to know what to do, nothing for one who tries keys.
    pub const fn for_peer(self) -> &'static str {
        match self {
            Self::Expired => sentence::TOKEN_EXPIRED,
            Self::NoClock => sentence::NO_TIME,
            Self::WrongAudience => sentence::OTHER_AUDIENCE,
            _ => sentence::TOKEN_REFUSED,
        }
    }
}
