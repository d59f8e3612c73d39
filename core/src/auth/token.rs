//! A token's bytes: taking them apart without a key, and narrowing them without one. Decides nothing.

use super::check::TokenError;
use super::claims::{Caveat, Claims, Scopes};
use super::context::Channel;
use super::key::Tag;
use crate::limits::{MAX_CAVEATS, MAX_TOKEN};
use crate::wire::{Reader, Writer};

/// Version 1: HMAC-SHA256 cut to 16 bytes over claims in postcard's layout. The byte is the whole suite.
pub const TOKEN_VERSION: u8 = 1;

/// Bytes of the tag that ends a token.
pub const TAG_LEN: usize = super::key::TAG_LEN;

/// A token that was taken apart and whose tag nobody has looked at: anyone could have written it.
///
/// For showing a token to a person, and for finding the one to send by its audience. Never decide by it:
/// [`KeyRing::check`](super::KeyRing::check) is for that.
#[derive(Clone, Copy)]
pub struct UnverifiedToken<'a> {
    pub(super) key_id: u8,
    pub(super) claims: Claims<'a>,
    /// Version, key id and claims.
    head: &'a [u8],
    /// All caveats, each well-formed.
    caveats: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> UnverifiedToken<'a> {
    /// Takes `token` apart: every byte has its place and every value its one encoding.
    ///
    /// # Errors
    /// `Malformed`, `TooLong`, `UnknownVersion`, `UnknownCaveat` or `TooManyCaveats`; no other.
    pub fn read(token: &'a [u8]) -> Result<Self, TokenError> {
        let token = Self::read_head(token)?;
        check_caveats(Reader::new(token.caveats))?;
        Ok(token)
    }

    /// Takes all but the caveats apart.
    #[inline]
    fn read_head(token: &'a [u8]) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (body, tag) = token.split_last_chunk().ok_or(TokenError::Malformed)?;
        let start = Reader::new(body);
        let mut reader = start;
        if reader.u8().ok_or(TokenError::Malformed)? != TOKEN_VERSION {
            return Err(TokenError::UnknownVersion);
        }
        let key_id = reader.u8().ok_or(TokenError::Malformed)?;
        let claims = Claims::read(&mut reader).ok_or(TokenError::Malformed)?;
        Ok(Self { key_id, claims, head: reader.since(start), caveats: reader.rest(), tag })
    }

    /// As [`UnverifiedToken::read`] for a checker that knows no caveats: it refuses a token that has any.
    ///
    /// # Errors
    /// As [`UnverifiedToken::read`].
    #[inline]
    pub(super) fn read_whole(token: &'a [u8]) -> Result<Self, TokenError> {
        let token = Self::read_head(token)?;
        if token.caveats.is_empty() { Ok(token) } else { Err(TokenError::UnknownCaveat) }
    }

    /// The id of the key that it says it was made with.
    pub const fn key_id(&self) -> u8 {
        self.key_id
    }

    /// What it says, before its caveats.
    pub const fn claims(&self) -> Claims<'a> {
        self.claims
    }

    /// The caveats that it says it was narrowed by, in the order they were added.
    pub const fn caveats(&self) -> Caveats<'a> {
        Caveats(Reader::new(self.caveats))
    }

    /// Expiry and scopes after all caveats; `None` when a caveat would widen them.
    pub fn narrowed(&self) -> Option<(u64, Scopes<'a>)> {
        let start = (self.claims.expiry, self.claims.scopes);
        self.caveats().try_fold(start, narrow)
    }

    /// Whether its tag is that of its head: what a token without caveats has.
    #[inline]
    pub(super) fn is_tagged_whole_by(&self, tag_head: impl FnOnce(&[u8]) -> Tag) -> bool {
        tag_head(self.head).is(self.tag)
    }

    /// Whether its tag is the one at the end of the chain that starts with what `tag_head` makes of its head, and what its
    /// caveats leave of expiry and scopes over `channel`: `Widened` or `OtherChannel` when one does not hold. In one pass,
    /// since reading a caveat is the dearest part of it that is no hash.
    #[inline]
    pub(super) fn follow(
        &self,
        tag_head: impl FnOnce(&[u8]) -> Tag,
        channel: &Channel<'_>,
    ) -> (bool, Result<(u64, Scopes<'a>), TokenError>) {
        let mut tag = tag_head(self.head);
        let mut left = Ok((self.claims.expiry, self.claims.scopes));
        let mut caveats = self.caveats();
        while let Some((bytes, caveat)) = caveats.next_with_bytes() {
            tag = tag.next(bytes);
            left = left.and_then(|so_far| {
                let belongs = match caveat {
                    Caveat::Uid(uid) => channel.uid == Some(uid),
                    Caveat::Certificate(hash) => channel.certificate == Some(hash),
                    Caveat::Expiry(_) | Caveat::Scopes(_) => true,
                };
                let left = narrow(so_far, caveat).ok_or(TokenError::Widened)?;
                if belongs { Ok(left) } else { Err(TokenError::OtherChannel) }
            });
        }
        (tag.is(self.tag), left)
    }
}

impl core::fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UnverifiedToken")
            .field("key_id", &self.key_id)
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

/// The caveats of [`UnverifiedToken::caveats`].
#[derive(Clone)]
pub struct Caveats<'a>(Reader<'a>);

impl<'a> Caveats<'a> {
    fn next_with_bytes(&mut self) -> Option<(&'a [u8], Caveat<'a>)> {
        let start = self.0;
        let kind = self.0.u8()?;
        let caveat = Caveat::read(kind, &mut self.0)??;
        Some((self.0.since(start), caveat))
    }
}

impl<'a> Iterator for Caveats<'a> {
    type Item = Caveat<'a>;

    fn next(&mut self) -> Option<Caveat<'a>> {
        Some(self.next_with_bytes()?.1)
    }
}

/// Appends `caveat` to `token`, without any key; answers how many bytes of `out` the narrower token takes.
///
/// The tag of `token` is not checked (its holder cannot); what comes out is worth something only if `token` was.
///
/// # Errors
/// [`AttenuateError`] says why not; `out` then holds nothing of use.
pub fn attenuate(token: &[u8], caveat: &Caveat<'_>, out: &mut [u8]) -> Result<usize, AttenuateError> {
    let parsed = UnverifiedToken::read(token)?;
    if parsed.caveats().count() >= MAX_CAVEATS {
        return Err(AttenuateError::TooManyCaveats);
    }
    if let Caveat::Scopes(scopes) = caveat
        && !scopes.are_well_formed()
    {
        return Err(AttenuateError::BadScope);
    }
    parsed.narrowed().and_then(|so_far| narrow(so_far, *caveat)).ok_or(AttenuateError::Widens)?;
    write_narrower(&parsed, caveat, out).ok_or(AttenuateError::TooLong)
}

/// Why a token could not be narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttenuateError {
    /// It is not a token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It has four caveats already.
    #[error("the token carries as many caveats as fit; narrow the token that it was made from instead")]
    TooManyCaveats,
    /// A scope of the caveat is not one.
    #[error("a scope is a name of [a-z0-9._-], 'operation:pattern', or '*', in at most 48 bytes")]
    BadScope,
    /// The caveat expires later, or lists a scope that the token does not allow.
    #[error("a caveat can only narrow: an expiry no later, and only scopes that the token allows already")]
    Widens,
    /// The narrower token would pass the longest that there may be, or the buffer.
    #[error("the narrower token would be too long; list fewer scopes")]
    TooLong,
}

/// What is left of (expiry, scopes) under one more caveat; `None` when it would be more than before.
fn narrow<'a>((expiry, scopes): (u64, Scopes<'a>), caveat: Caveat<'a>) -> Option<(u64, Scopes<'a>)> {
    match caveat {
        Caveat::Expiry(at) => (at <= expiry).then_some((at, scopes)),
        Caveat::Scopes(fewer) => scopes.cover(fewer).then_some((expiry, fewer)),
        Caveat::Uid(_) | Caveat::Certificate(_) => Some((expiry, scopes)),
    }
}

fn write_narrower(token: &UnverifiedToken<'_>, caveat: &Caveat<'_>, out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::with_limit(out, MAX_TOKEN);
    writer.bytes(token.head);
    writer.bytes(token.caveats);
    let before = writer.written().len();
    caveat.write(&mut writer);
    let tag = Tag::new(*token.tag).next(writer.written().get(before..)?);
    writer.bytes(tag.as_bytes());
    writer.finish()
}

/// All of what follows the claims must be caveats, of kinds that are known, and not too many.
fn check_caveats(mut reader: Reader<'_>) -> Result<(), TokenError> {
    let mut count = 0;
    while let Some(kind) = reader.u8() {
        match Caveat::read(kind, &mut reader) {
            None => return Err(TokenError::UnknownCaveat),
            Some(None) => return Err(TokenError::Malformed),
            Some(Some(_)) => count += 1,
        }
    }
    if count > MAX_CAVEATS { Err(TokenError::TooManyCaveats) } else { Ok(()) }
}
