//! Who may say what of whom, and what is never minted.

use super::*;

#[test]
fn a_token_for_another_is_refused_by_everyone_else() {
    assert_eq!(
        board("imu").check(&token(), &Context::new("imu2", Some(NOW))).unwrap_err(),
        TokenError::WrongAudience
    );
    assert_eq!(
        hub().check(&token(), &Context::new("bus", Some(NOW))).unwrap_err(),
        TokenError::WrongAudience
    );
    assert_eq!(
        board("fan").check(&token(), &Context::new("fan", Some(NOW))).unwrap_err(),
        TokenError::BadTag
    );
}

#[test]
fn a_device_mints_only_what_it_says_of_itself_to_the_hub() {
    let own = Claims { issuer: "imu", subject: "imu", audience: "bus", scopes: Scopes::new(&[]), ..claims() };
    assert!(mint(&board("imu"), &own).is_ok());
    for other in [
        Claims { subject: "alice", ..own },
        Claims { scopes: Scopes::new(&["*"]), ..own },
        Claims { audience: "fan", ..own },
        Claims { issuer: "bus", ..own },
        Claims { issuer: "bus", audience: "imu", ..own },
        Claims { issuer: "bus", subject: "bus", ..own },
    ] {
        assert_eq!(mint(&board("imu"), &other), Err(MintError::NotOurs), "{other:?}");
    }
}

#[test]
fn a_dumped_device_key_forges_nothing_of_or_for_another() {
    let stolen = root().derive("imu");
    let forge = |claims: Claims<'_>| {
        let head = written(|w| {
            w.bytes(&[TOKEN_VERSION, 3]);
            claims.write(w)
        });
        let tag = stolen.tag(&head);
        [&head[..], tag.as_bytes()].concat()
    };
    let context = Context::new("bus", Some(NOW)).with_boot_id(claims().serial);
    let hub_refuses = |claims| hub().check(&forge(claims), &context).unwrap_err();
    let own = Claims { issuer: "imu", subject: "imu", audience: "bus", scopes: Scopes::new(&[]), ..claims() };
    assert!(hub().check(&forge(own), &context).is_ok());
    assert_eq!(hub_refuses(Claims { subject: "alice", ..own }), TokenError::WrongIssuer);
    assert_eq!(hub_refuses(Claims { scopes: Scopes::new(&["*"]), ..own }), TokenError::WrongIssuer);
    assert_eq!(hub_refuses(Claims { subject: "bus", ..own }), TokenError::WrongIssuer);
    assert_eq!(hub_refuses(Claims { issuer: "bus", ..own }), TokenError::BadTag);
    assert_eq!(hub_refuses(Claims { issuer: "fan", subject: "fan", ..own }), TokenError::BadTag);
    assert_eq!(hub_refuses(Claims { issuer: "bus", audience: "imu", ..own }), TokenError::WrongAudience);
    let fan = forge(Claims { issuer: "imu", audience: "fan", ..own });
    assert_eq!(board("fan").check(&fan, &Context::new("fan", Some(NOW))).unwrap_err(), TokenError::BadTag);
}

#[test]
fn a_device_accepts_only_the_hub_as_issuer_and_never_speaks_as_the_hub() {
    let from = |issuer, audience| {
        let head = written(|w| {
            w.bytes(&[TOKEN_VERSION, 3]);
            Claims { issuer, audience, subject: "imu", ..claims() }.write(w)
        });
        board("imu").check(&sealed(&head, &[]), &Context::new(audience, Some(NOW)))
    };
    assert!(from("bus", "imu").is_ok());
    assert_eq!(from("imu", "imu").unwrap_err(), TokenError::WrongIssuer);
    assert_eq!(from("imu", "bus").unwrap_err(), TokenError::WrongIssuer);
    assert_eq!(from("bus", "bus").unwrap_err(), TokenError::WrongIssuer);
}

#[test]
fn what_the_check_would_refuse_is_not_minted() {
    let long = ["request:config/a-rather-long-topic-name-in-here"; 3];
    let over = &["a"; MAX_GRANT_SCOPES / 2 + 1][..];
    let at_most = &["a"; MAX_GRANT_SCOPES / 2][..];
    for (claims, error) in [
        (Claims { subject: "", ..claims() }, MintError::BadName),
        (Claims { subject: "Alice", ..claims() }, MintError::BadName),
        (Claims { audience: "imu/x", ..claims() }, MintError::BadName),
        (Claims { issuer: "imu", audience: "fan", subject: "imu", ..claims() }, MintError::NotOurs),
        (Claims { expiry: claims().issued_at, ..claims() }, MintError::BadExpiry),
        (Claims { scopes: Scopes::new(&["imu control"]), ..claims() }, MintError::BadScope),
        (Claims { scopes: Scopes::new(&long), ..claims() }, MintError::TooLong),
        (Claims { scopes: Scopes::new(over), ..claims() }, MintError::TooLong),
    ] {
        assert_eq!(mint(&hub(), &claims), Err(error), "{claims:?}");
    }
    assert!(check(&mint(&hub(), &Claims { scopes: Scopes::new(at_most), ..claims() }).unwrap()).is_ok());
    assert_eq!(hub().mint(3, &claims(), &mut [0; 40]), Err(MintError::TooLong));
    let mut ring = KeyRing::new();
    ring.add(Slot::root(3, root()).with_least_epoch(301)).unwrap();
    assert_eq!(mint(&ring, &claims()), Err(MintError::KeyRetired));
}

#[test]
fn more_scopes_than_a_grant_keeps_refuse_unless_caveats_leave_fewer() {
    let many = ["a"; MAX_GRANT_SCOPES / 2 + 1];
    let head = written(|w| {
        w.bytes(&[TOKEN_VERSION, 3]);
        Claims { scopes: Scopes::new(&many), ..claims() }.write(w)
    });
    let token = sealed(&head, &[]);
    assert_eq!(refused(&token), TokenError::TooManyScopes);
    assert!(check(&narrowed(&token, Caveat::Scopes(Scopes::new(&["a"]))).unwrap()).is_ok());
}
