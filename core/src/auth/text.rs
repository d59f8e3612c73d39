//! A token as text, for files, headers and people: `vb1.` and base64url (RFC 4648 section 5) without padding.

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::limits::MAX_TOKEN;

/// What every token's text begins with, so that people and secret scanners know one when they see it.
pub const TEXT_PREFIX: &str = "vb1.";

/// Bytes of the longest token's text.
pub const MAX_TOKEN_TEXT: usize = TEXT_PREFIX.len() + (MAX_TOKEN * 4).div_ceil(3);

/// Writes the text of `token` into `out` and answers it.
///
/// # Errors
/// `TooLong` when `token` is longer than a token can be, or its text than `out`.
pub fn encode_text<'a>(token: &[u8], out: &'a mut [u8]) -> Result<&'a str, TextError> {
    if token.len() > MAX_TOKEN {
        return Err(TextError::TooLong);
    }
    let (prefix, rest) = out.split_at_mut_checked(TEXT_PREFIX.len()).ok_or(TextError::TooLong)?;
    prefix.copy_from_slice(TEXT_PREFIX.as_bytes());
    let encoded = Base64UrlUnpadded::encode(token, rest).map_err(|_| TextError::TooLong)?.len();
    let text = out.get(..TEXT_PREFIX.len() + encoded).ok_or(TextError::TooLong)?;
    core::str::from_utf8(text).map_err(|_| TextError::NotBase64)
}

/// Writes the bytes behind `text` into `out` and answers them; whether they are a token is not looked at.
///
/// There is one text for each token: padding, white space, other alphabets and stray bits in the last character
/// are refused.
///
/// # Errors
/// [`TextError`] says what is wrong with the text.
pub fn decode_text<'a>(text: &str, out: &'a mut [u8]) -> Result<&'a [u8], TextError> {
    let encoded = text.strip_prefix(TEXT_PREFIX).ok_or(TextError::NoPrefix)?;
    if text.len() > MAX_TOKEN_TEXT || encoded.len() / 4 * 3 > out.len() {
        return Err(TextError::TooLong);
    }
    Base64UrlUnpadded::decode(encoded, out).map_err(|_| TextError::NotBase64)
}

/// Why a text is not a token's, or a token did not become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// It does not begin with `vb1.`.
    #[error("a token begins with 'vb1.'; this is something else, or was not copied from its start")]
    NoPrefix,
    /// What follows is not base64url without padding.
    #[error("the token's text is damaged; copy all of it, without spaces or line breaks")]
    NotBase64,
    /// Longer than any token, or than the buffer.
    #[error("this is longer than a token can be; it is something else, or two tokens in one")]
    TooLong,
}
