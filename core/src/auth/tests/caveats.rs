//! What a holder adds to a token: it narrows, and binds to a channel, and cannot be undone.

use super::*;

#[test]
fn a_token_that_is_bound_to_a_channel_passes_over_that_channel_alone() {
    let for_bus = mint(&hub(), &Claims { audience: "bus", ..claims() }).unwrap();
    let (hash, other) = ([7; 32], [8; 32]);
    let of_uid = narrowed(&for_bus, Caveat::Uid(1000)).unwrap();
    let of_both = narrowed(&of_uid, Caveat::Certificate(&hash)).unwrap();
    let check = |token: &[u8], uid, certificate| {
        let channel = Channel { uid, certificate };
        hub().check(token, &Context::new("bus", Some(NOW)).with_channel(channel)).map(|_| ())
    };
    assert_eq!(check(&of_uid, Some(1000), None), Ok(()));
    assert_eq!(check(&of_both, Some(1000), Some(&hash)), Ok(()));
    for (token, uid, certificate) in [
        (&of_uid, Some(1001), None),
        (&of_uid, Some(0), None),
        (&of_uid, None, None),
        (&of_uid, None, Some(&hash)),
        (&of_both, Some(1000), None),
        (&of_both, Some(1000), Some(&other)),
        (&of_both, None, Some(&hash)),
    ] {
        assert_eq!(check(token, uid, certificate), Err(TokenError::OtherChannel), "{uid:?} {certificate:?}");
    }
    let of_two = narrowed(&of_uid, Caveat::Uid(1001)).unwrap();
    assert!([1000, 1001].iter().all(|uid| check(&of_two, Some(*uid), None).is_err()), "nobody is two");
}

#[test]
fn caveats_of_channels_are_their_kind_and_value() {
    assert_eq!(written(|w| Caveat::Uid(300).write(w)), [3, 0xac, 2]);
    assert_eq!(written(|w| Caveat::Certificate(&[9; 32]).write(w)), [&[4][..], &[9; 32]].concat());
    let token =
        narrowed(&narrowed(&token(), Caveat::Uid(300)).unwrap(), Caveat::Certificate(&[9; 32])).unwrap();
    let read = UnverifiedToken::read(&token).unwrap();
    assert_eq!(read.caveats().collect::<Vec<_>>(), [Caveat::Uid(300), Caveat::Certificate(&[9; 32])]);
}

#[test]
fn caveats_narrow_expiry_and_scopes() {
    let sooner = narrowed(&token(), Caveat::Expiry(NOW + 1)).unwrap();
    assert_eq!(check(&sooner).unwrap().expires(), NOW + 1);
    assert_eq!(
        board("imu").check(&sooner, &Context::new("imu", Some(NOW + 1))).unwrap_err(),
        TokenError::Expired,
        "the caveat decides, not the claim"
    );
    let fewer = narrowed(&sooner, Caveat::Scopes(Scopes::new(&["request:imu/info"]))).unwrap();
    let grant = check(&fewer).unwrap();
    assert_eq!(grant.scopes().collect::<Vec<_>>(), ["request:imu/info"]);
    assert!(!grant.permits(Operation::Request, Address::literal("imu/reset")));
    let none = narrowed(&fewer, Caveat::Scopes(Scopes::new(&[]))).unwrap();
    assert_eq!(check(&none).unwrap().scopes().count(), 0);
}

#[test]
fn a_caveat_cannot_be_removed_or_reordered_or_repeated() {
    let whole = token();
    let first = written(|w| Caveat::Expiry(NOW + 9).write(w));
    let second = written(|w| Caveat::Scopes(Scopes::new(&["imu.control"])).write(w));
    let once = narrowed(&whole, Caveat::Expiry(NOW + 9)).unwrap();
    let twice = narrowed(&once, Caveat::Scopes(Scopes::new(&["imu.control"]))).unwrap();
    assert!(check(&once).is_ok() && check(&twice).is_ok());
    let (head, tag) = (head(), &twice[twice.len() - TAG_LEN..]);
    for forged in [
        [&head[..], tag].concat(),
        [&head[..], &first, tag].concat(),
        [&head[..], &second, tag].concat(),
        [&head[..], &second, &first, tag].concat(),
        [&head[..], &first, &second, &second, tag].concat(),
        [&head[..], &once[once.len() - TAG_LEN..]].concat(),
    ] {
        assert_eq!(refused(&forged), TokenError::BadTag);
    }
}

#[test]
fn a_caveat_that_would_widen_is_neither_written_nor_accepted() {
    let narrow = narrowed(&token(), Caveat::Scopes(Scopes::new(&["request:imu/info"]))).unwrap();
    for scopes in [
        &["*"][..],
        &["imu.control"],
        &["request:imu/*"],
        &["request:imu/**"],
        &["*:imu/info"],
        &["notify:imu/info"],
        &["request:imu/info", "imu.control"],
    ] {
        let caveat = Caveat::Scopes(Scopes::new(scopes));
        assert_eq!(narrowed(&narrow, caveat), Err(AttenuateError::Widens), "{scopes:?}");
        let bytes = written(|w| caveat.write(w));
        let before = written(|w| Caveat::Scopes(Scopes::new(&["request:imu/info"])).write(w));
        assert_eq!(refused(&sealed(&head(), &[&before, &bytes])), TokenError::Widened, "{scopes:?}");
    }
    let later = Caveat::Expiry(claims().expiry + 1);
    assert_eq!(narrowed(&token(), later), Err(AttenuateError::Widens));
    assert_eq!(refused(&sealed(&head(), &[&written(|w| later.write(w))])), TokenError::Widened);
    assert!(narrowed(&token(), Caveat::Expiry(claims().expiry)).is_ok());
}

#[test]
fn an_unknown_or_damaged_caveat_refuses_under_a_right_tag() {
    assert_eq!(refused(&sealed(&head(), &[&[5, 0]])), TokenError::UnknownCaveat);
    assert_eq!(refused(&sealed(&head(), &[&[0]])), TokenError::UnknownCaveat);
    for caveat in [
        &[1][..],
        &[1, 0x80],
        &[1, 0x80, 0],
        &[2],
        &[2, 1],
        &[2, 1, 0],
        &[2, 1, 3, b'a'],
        &[3],
        &[3, 0x80, 0],
        &[4; 32],
    ] {
        assert_eq!(refused(&sealed(&head(), &[caveat])), TokenError::Malformed, "{caveat:?}");
    }
}

#[test]
fn a_token_carries_four_caveats_and_no_fifth() {
    let mut token = token();
    let caveat = Caveat::Expiry(NOW + 9);
    for _ in 0..MAX_CAVEATS {
        token = narrowed(&token, caveat).unwrap();
    }
    assert!(check(&token).is_ok());
    assert_eq!(narrowed(&token, caveat), Err(AttenuateError::TooManyCaveats));
    let bytes = written(|w| caveat.write(w));
    assert_eq!(refused(&sealed(&head(), &[&bytes[..]; MAX_CAVEATS + 1])), TokenError::TooManyCaveats);
}

#[test]
fn narrowing_tells_the_holder_what_is_wrong() {
    let caveat = Caveat::Scopes(Scopes::new(&["imu control"]));
    assert_eq!(narrowed(&token(), caveat), Err(AttenuateError::BadScope));
    assert_eq!(
        narrowed(GOLDEN_TEXT.as_bytes(), caveat),
        Err(AttenuateError::Token(TokenError::UnknownVersion))
    );
    let mut out = [0; MAX_TOKEN];
    let as_before = &mut out[..token().len()];
    assert_eq!(attenuate(&token(), &Caveat::Expiry(NOW), as_before), Err(AttenuateError::TooLong));
}
