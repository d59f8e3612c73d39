//! Tokens that were changed, cut, or written by other tools: every byte has one meaning or none.

use super::*;

#[test]
fn every_flipped_bit_refuses() {
    for token in [token(), narrowed(&token(), Caveat::Expiry(NOW + 5)).unwrap()] {
        for bit in 0..token.len() * 8 {
            let mut changed = token.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&changed).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn every_cut_and_every_extension_refuses() {
    let token = narrowed(&token(), Caveat::Expiry(NOW + 5)).unwrap();
    for len in 0..token.len() {
        assert!(check(&token[..len]).is_err(), "first {len}");
        assert!(check(&token[token.len() - len..]).is_err(), "last {len}");
    }
    for byte in 0..=255 {
        let end = [&token[..], &[byte]].concat();
        let before_tag = [&token[..token.len() - TAG_LEN], &[byte], &token[token.len() - TAG_LEN..]].concat();
        assert!(check(&end).is_err() && check(&before_tag).is_err(), "{byte}");
    }
    assert_eq!(refused(&[0; MAX_TOKEN + 1]), TokenError::TooLong);
    assert_eq!(refused(&[]), TokenError::Malformed);
}

#[test]
fn random_bytes_neither_pass_nor_panic() {
    let (ring, hub) = (board("imu"), hub());
    let good = token();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..100_000 {
        let mut bytes: Vec<u8> = (0..random() % 280).map(|_| random() as u8).collect();
        if round % 2 == 0 {
            // A good token up to some point, so that the deeper parts are reached too.
            let keep = (random() as usize % good.len()).min(bytes.len());
            bytes[..keep].copy_from_slice(&good[..keep]);
        }
        let _ = UnverifiedToken::read(&bytes);
        let _ = narrowed(&bytes, Caveat::Expiry(random()));
        assert!(ring.check(&bytes, &Context::new("imu", Some(NOW))).is_err());
        assert!(hub.check(&bytes, &Context::new("bus", Some(NOW))).is_err());
    }
}

#[test]
fn whatever_is_read_is_written_again_as_the_same_bytes() {
    for start in 0..head().len() {
        for byte in 0..=255 {
            let mut head = head();
            head[start] = byte;
            let token = sealed(&head, &[]);
            let Ok(read) = UnverifiedToken::read(&token) else { continue };
            let mut again = written(|w| {
                w.bytes(&[TOKEN_VERSION, read.key_id()]);
                read.claims().write(w)
            });
            for caveat in read.caveats() {
                again.extend(written(|w| caveat.write(w)));
            }
            assert_eq!(again, head);
        }
    }
}

#[test]
fn what_is_not_in_the_one_encoding_refuses_under_a_right_tag() {
    let head = head();
    let serial = 2 + 4 + 6 + 4;
    let epoch = serial + 9 + 5 + 5;
    let splice = |at: usize, len: usize, with: &[u8]| [&head[..at], with, &head[at + len..]].concat();
    assert!(check(&sealed(&head, &[])).is_ok());
    for (what, bytes) in [
        ("serial number with a needless byte", splice(serial, 9, &[0x81, 0x80, 0x00])),
        ("zero in two bytes", splice(serial, 9, &[0x80, 0x00])),
        ("serial number past 64 bits", splice(serial, 9, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2])),
        ("serial number of eleven bytes", splice(serial, 9, &[255; 11])),
        ("epoch past 32 bits", splice(epoch, 2, &[0x80, 0x80, 0x80, 0x80, 0x10])),
        ("length with a needless byte", splice(2, 1, &[0x83, 0x00])),
        ("count with a needless byte", splice(epoch + 2, 1, &[0x82, 0x00])),
        ("name that is not UTF-8", splice(3, 3, &[b'b', 0xff, b's'])),
        ("name in capitals", splice(3, 3, b"BUS")),
        ("name of two segments", splice(3, 3, b"b/s")),
        ("empty name", splice(2, 4, &[0])),
        ("scope that is none", splice(epoch + 4, 11, b"imu control")),
        ("fewer scopes than counted", splice(epoch + 2, 1, &[3])),
        ("more scopes than counted", splice(epoch + 2, 1, &[1])),
    ] {
        let error = refused(&sealed(&bytes, &[]));
        assert!(matches!(error, TokenError::Malformed | TokenError::UnknownCaveat), "{what}: {error:?}");
    }
    let mut largest = head.clone();
    largest.splice(serial..serial + 9, [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    assert_eq!(check(&sealed(&largest, &[])).unwrap().serial(), u64::MAX);
}

#[test]
fn another_version_refuses_and_is_not_a_suite_to_choose() {
    for version in [0, 2, 255] {
        let mut head = head();
        head[0] = version;
        assert_eq!(refused(&sealed(&head, &[])), TokenError::UnknownVersion);
    }
}
