//! The one check of a token, and every reason it gives for refusing. The only place where a `Grant` is made.

use super::claims::{Claims, Scopes};
use super::context::{Channel, Context};
use super::grant::Grant;
use super::permission::{BOOT_SCOPE, Scope};
use super::ring::{KeyRing, OwnKey, SlotKind};
use super::token::UnverifiedToken;
use crate::sentence;

impl KeyRing {
    /// Checks `token` and makes the [`Grant`] that it is worth. There is no other way to get one.
    ///
    /// In order: shape, key id, tag, and only then what the token says: audience, issuer, caveats, channel, whom a
    /// proof is for, time, the key's own end, epoch. Takes at most 6 HMACs (one to derive, one for the head, one a
    /// caveat) over at most one token's bytes, whatever they are.
    ///
    /// Without the time every token refuses but two: a device takes one with the scope [`BOOT_SCOPE`], and the proof of
    /// the hub, which it judges by its boot id alone because it is what brings the time. Such a proof lasts from the
    /// later of its own moment and the device's.
    ///
    /// # Errors
    /// The first [`TokenError`] in that order.
    pub fn check(&self, token: &[u8], context: &Context<'_>) -> Result<Grant, TokenError> {
        let token = UnverifiedToken::read(token)?;
        let slot = self.slot(token.key_id).ok_or(TokenError::UnknownKey)?;
        let rules = Rules { kind: slot.kind(), not_after: slot.not_after, least_epoch: slot.least_epoch };
        let (tagged, left) = token.follow(|head| slot.tag_head(&token.claims, head), &context.channel);
        check_with(&token, tagged, left, &rules, context, |_| false)
    }
}

impl OwnKey {
    /// [`KeyRing::check`] for a ring of this one device's key, without the code that root keys need.
    /// Of a channel it knows nothing: whatever is bound to one refuses.
    pub(crate) fn check(
        &self,
        token: &[u8],
        context: &Context<'_>,
        is_revoked: impl FnOnce(&Claims<'_>) -> bool,
    ) -> Result<Grant, TokenError> {
        let token = UnverifiedToken::read(token)?;
        if token.key_id != self.id {
            return Err(TokenError::UnknownKey);
        }
        let (tagged, left) = token.follow(|head| self.key.tag(head), &Channel::default());
        check_with(&token, tagged, left, &OWN_RULES, context, is_revoked)
    }

    /// As [`OwnKey::check`], without the code for caveats: a token that has any is refused.
    pub(crate) fn check_whole(
        &self,
        token: &[u8],
        context: &Context<'_>,
        is_revoked: impl FnOnce(&Claims<'_>) -> bool,
    ) -> Result<Grant, TokenError> {
        let token = UnverifiedToken::read_whole(token)?;
        if token.key_id != self.id {
            return Err(TokenError::UnknownKey);
        }
        let tagged = token.is_tagged_whole_by(|head| self.key.tag(head));
        let claims = &token.claims;
        check_with(&token, tagged, Ok((claims.expiry, claims.scopes)), &OWN_RULES, context, is_revoked)
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
/// `narrowed` is what its caveats leave of expiry and scopes.
#[inline]
fn check_with(
    token: &UnverifiedToken<'_>,
    tagged: bool,
    narrowed: Result<(u64, Scopes<'_>), TokenError>,
    rules: &Rules,
    context: &Context<'_>,
    is_revoked: impl FnOnce(&Claims<'_>) -> bool,
) -> Result<Grant, TokenError> {
    let claims = &token.claims;
    if !tagged {
        return Err(TokenError::BadTag);
    }
    if claims.audience != context.audience {
        return Err(TokenError::WrongAudience);
    }
    if !rules.kind.accepts_issuer(claims) {
        return Err(TokenError::WrongIssuer);
    }
    let (expiry, scopes) = narrowed?;
    let is_proof = claims.issuer == claims.subject;
    if is_proof && context.boot_id != Some(claims.serial) {
        return Err(TokenError::OtherBoot);
    }
    let (now, expiry) = match rules.kind {
        SlotKind::Device if is_proof => {
            let now = claims.issued_at.max(context.now.unwrap_or(0));
            (Some(now), now.saturating_add(expiry.saturating_sub(claims.issued_at)))
        }
        _ => (context.now, expiry),
    };
    check_time(claims, expiry, scopes, rules, now)?;
    if claims.epoch < rules.least_epoch {
        return Err(TokenError::EpochPassed);
    }
    if is_revoked(claims) {
        return Err(TokenError::Revoked);
    }
    Grant::new(token.key_id, claims, expiry, scopes)
}

/// Whether the token and its key count at `now`.
#[inline]
fn check_time(
    claims: &Claims<'_>,
    expiry: u64,
    scopes: Scopes<'_>,
    rules: &Rules,
    now: Option<u64>,
) -> Result<(), TokenError> {
    let Some(now) = now else {
        // Whether its key has ended cannot be told either.
        let passes = rules.kind == SlotKind::Device && rules.not_after == u64::MAX;
        let passes = passes && scopes.allow(Scope::Name(BOOT_SCOPE));
        return if passes { Ok(()) } else { Err(TokenError::NoClock) };
    };
    if now >= expiry {
        return Err(TokenError::Expired);
    }
    if claims.issued_at > now.saturating_add(CLOCK_LEEWAY) {
        return Err(TokenError::NotYetValid);
    }
    if now > rules.not_after {
        return Err(TokenError::KeyRetired);
    }
    Ok(())
}

const OTHER_CHANNEL: &str = "token is bound to another user or certificate; use it from where it belongs";

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
    /// A caveat binds it to another channel than the one that it came over, or to one of which the checker cannot tell.
    #[error(
        "the token is bound to another user or certificate than came with it; use it from where it belongs"
    )]
    OtherChannel,
    /// A proof, made for another start of this end, or for another end.
    #[error("the proof was made for another start of this side; say hello again and prove yourself anew")]
    OtherBoot,
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
    /// It was taken back.
    #[error("the token was taken back; get a new one")]
    Revoked,
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
            // Of no number: a leaf, which has no flash for sentences, cannot know it for one that belongs elsewhere.
            Self::OtherChannel if cfg!(feature = "std") => OTHER_CHANNEL,
            _ => sentence::TOKEN_REFUSED,
        }
    }
}
