//! Tokens as text, and what no text shows.

use super::*;

#[test]
fn text_goes_there_and_back_and_is_strict() {
    let mut out = [0; MAX_TOKEN_TEXT];
    assert_eq!(encode_text(&token(), &mut out), Ok(GOLDEN_TEXT));
    let mut bytes = [0; MAX_TOKEN];
    assert_eq!(decode_text(GOLDEN_TEXT, &mut bytes), Ok(&token()[..]));
    assert_eq!(encode_text(&[255; MAX_TOKEN], &mut out).unwrap().len(), MAX_TOKEN_TEXT);
    assert_eq!(encode_text(&[0; MAX_TOKEN + 1], &mut [0; 999]), Err(TextError::TooLong));
    assert_eq!(encode_text(&token(), &mut [0; 50]), Err(TextError::TooLong));
    assert_eq!(encode_text(&token(), &mut [0; 3]), Err(TextError::TooLong));
    assert_eq!(decode_text(GOLDEN_TEXT, &mut [0; 20]), Err(TextError::TooLong));
    for len in [1, 2, 3, 4, 5, 254, 255, 256] {
        let token: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let text = encode_text(&token, &mut out).unwrap();
        assert_eq!(decode_text(text, &mut [0; MAX_TOKEN][..len]), Ok(&token[..]), "{len}");
    }
}

#[test]
fn a_token_has_one_text_only() {
    let mut bytes = [0; MAX_TOKEN];
    assert_eq!(decode_text("vb1.AQ", &mut bytes), Ok(&[1][..]));
    for (text, error) in [
        ("", TextError::NoPrefix),
        ("AQ", TextError::NoPrefix),
        ("VB1.AQ", TextError::NoPrefix),
        (" vb1.AQ", TextError::NoPrefix),
        ("vb1.AQ==", TextError::NotBase64),
        ("vb1.AR", TextError::NotBase64),
        ("vb1.AQ\n", TextError::NotBase64),
        ("vb1.A", TextError::NotBase64),
        ("vb1.A+", TextError::NotBase64),
        ("vb1.//8", TextError::NotBase64),
        ("vb1.ä", TextError::NotBase64),
    ] {
        assert_eq!(decode_text(text, &mut bytes), Err(error), "{text:?}");
    }
    let long = format!("vb1.{}", "A".repeat(MAX_TOKEN_TEXT));
    assert_eq!(decode_text(&long, &mut [0; 999]), Err(TextError::TooLong));
}

#[test]
fn no_debug_output_holds_a_key_or_a_tag() {
    let token = token();
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        root(),
        hub(),
        UnverifiedToken::read(&token).unwrap(),
        check(&token).unwrap()
    );
    assert!(shown.contains("Key(..)") && shown.contains("alice"));
    assert!(!shown.contains("0, 1, 2, 3") && !shown.contains("131, 19, 160"), "{shown}");
}

#[test]
fn the_peer_is_told_less_than_the_log() {
    for error in [TokenError::BadTag, TokenError::UnknownKey, TokenError::Malformed, TokenError::EpochPassed]
    {
        assert_eq!(error.for_peer(), sentence::TOKEN_REFUSED);
    }
    assert_eq!(TokenError::Expired.for_peer(), sentence::TOKEN_EXPIRED);
}

#[test]
fn varints_are_read_in_their_shortest_form_only() {
    for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let bytes = written(|w| w.varint(value));
        assert_eq!(Reader::new(&bytes).varint(), Some(value));
        let mut longer = bytes.clone();
        *longer.last_mut().unwrap() |= 0x80;
        longer.push(0);
        assert_eq!(Reader::new(&longer).varint(), None, "{value}");
    }
    assert_eq!(Reader::new(&[]).varint(), None);
    assert_eq!(Reader::new(&[0x80; 9]).varint(), None);
}
