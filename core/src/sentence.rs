//! What this crate itself says in Errors: each sentence once, with the number by which a leaf says it.
//!
//! On builds without the feature `std` a constant of this file is not its sentence but its number, as a text of that
//! one character: a leaf has no flash for sentences. [`IpcError::from_payload`](crate::IpcError::from_payload) of a
//! build with `std` reads the sentence back, so that people always see that. The table only grows: a number keeps its
//! meaning for ever, its sentence may become clearer. `docs/wire-format.md` has the same list.

/// Declares the constants and the table.
macro_rules! sentences {
    ($($number:literal $name:ident $sentence:literal)*) => {
        $(pub(crate) const $name: &str = if cfg!(feature = "std") { $sentence } else { character(&[$number]) };)*

        /// The numbers, counting up from 1, and what they stand for.
        pub const SENTENCES: &[(u8, &str)] = &[$(($number, $sentence)),*];
    };
}

sentences! {
    1 NOBODY "nobody serves this address"
    2 NOT_SERVABLE "this is neither a request nor a notification"
    3 SEALED "this end cannot open an encrypted or compressed payload"
    4 ANSWER_TOO_LONG "the answer is too long for a frame"
    5 SAYS_HELLO_ITSELF "this end says hello itself"
    6 ONLY_TOKENS "this end takes only a token as credentials"
    7 BAD_CREDENTIALS "the credentials are cut off, or something follows them"
    8 HELLO_FIRST "say hello first: a request to bus/hello"
    9 NO_IDENTITY "the answer to hello is not an identity of wire version 1"
    10 AUTHENTICATE_FIRST "authenticate first: send a token to bus/authenticate"
    11 ONLY_POSTCARD "this address takes postcard, not text"
    12 WRONG_TYPE "the payload is not of this address's type"
    13 CUT_OFF "the frame is cut off, or a number in it is over-long"
    14 UNKNOWN_TYPE "the frame has a message type that wire version 1 does not have"
    15 UNKNOWN_PARTS "the frame has a payload kind or a part that wire version 1 does not have"
    16 BAD_ADDRESS "an address in the frame is not one: segments of [a-z0-9._-] joined by '/', at most 64 bytes"
    17 UNKNOWN_ALIAS "an address in the frame is an alias that was not announced"
    18 BAD_PAYLOAD "the payload does not fit its kind: a text that is not UTF-8, or bytes where there are none"
    19 NO_KEYS "this node has no keys, so it can check no token"
    20 NOT_DESCRIBED "there is no such row, or its description is too long for a frame"
    21 TOKEN_EXPIRED "token expired; refresh it or get a new one"
    22 NO_TIME "no time known yet; try again later"
    23 OTHER_AUDIENCE "token is for another component; use one whose audience is this component"
    24 TOKEN_REFUSED "token not accepted; get a new one"
    25 NOT_AUTHENTICATED "this session has not authenticated: send a token to bus/authenticate first"
    26 GRANT_EXPIRED "the token of this session has expired; refresh it, or authenticate again"
    27 MAY_NOT_REQUEST "no permission of the token allows 'request' on this address"
    28 MAY_NOT_NOTIFY "no permission of the token allows 'notify' on this address"
    29 NOT_UTF8 "the text of the error is not UTF-8"
}

/// What the text of an Error says: the sentence where the text is a number, else the text itself.
#[cfg(feature = "std")]
pub(crate) fn in_full(text: &str) -> &str {
    let [number] = text.as_bytes() else { return text };
    SENTENCES.iter().find(|(known, _)| known == number).map_or(text, |(_, sentence)| sentence)
}

/// The text as it came: a leaf shows it to nobody.
#[cfg(not(feature = "std"))]
pub(crate) const fn in_full(text: &str) -> &str {
    text
}

const fn character(number: &'static [u8; 1]) -> &'static str {
    assert!(number[0] > 0 && number[0] < b' ', "the number of a sentence is a control character");
    match core::str::from_utf8(number) {
        Ok(text) => text,
        Err(_) => "",
    }
}
