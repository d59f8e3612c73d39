//! Tokens and proofs in time, in another start of the other end, and where there is no time.

use super::*;

#[test]
fn a_token_is_good_up_to_the_second_before_its_expiry() {
    let at = |now| board("imu").check(&token(), &Context::new("imu", now)).map(|_| ());
    let expiry = claims().expiry;
    assert_eq!(at(Some(expiry - 1)), Ok(()));
    assert_eq!(at(Some(expiry)), Err(TokenError::Expired));
    assert_eq!(at(Some(u64::MAX)), Err(TokenError::Expired));
}

#[test]
fn a_token_from_the_future_refuses_beyond_a_minute_of_leeway() {
    let at = |now| board("imu").check(&token(), &Context::new("imu", now)).map(|_| ());
    let issued = claims().issued_at;
    assert_eq!(at(Some(issued - CLOCK_LEEWAY)), Ok(()));
    assert_eq!(at(Some(issued - CLOCK_LEEWAY - 1)), Err(TokenError::NotYetValid));
    assert_eq!(at(Some(0)), Err(TokenError::NotYetValid));
}

#[test]
fn without_a_clock_every_token_refuses() {
    assert_eq!(board("imu").check(&token(), &Context::new("imu", None)).unwrap_err(), TokenError::NoClock);
    let forever = mint(&hub(), &Claims { expiry: u64::MAX, ..claims() }).unwrap();
    assert_eq!(board("imu").check(&forever, &Context::new("imu", None)).unwrap_err(), TokenError::NoClock);
}

/// The hub's word for itself to the board `imu`, which started with the boot id 7.
fn hub_proof() -> Claims<'static> {
    Claims { subject: "bus", serial: 7, scopes: Scopes::new(&["*"]), ..claims() }
}

#[test]
fn a_proof_is_worth_nothing_to_another_start_of_the_end_that_it_is_for() {
    let own = Claims { issuer: "imu", subject: "imu", audience: "bus", scopes: Scopes::new(&[]), ..claims() };
    let of_board = mint(&board("imu"), &Claims { serial: 7, ..own }).unwrap();
    let of_hub = mint(&hub(), &hub_proof()).unwrap();
    for (ring, token, audience) in [(hub(), of_board, "bus"), (board("imu"), of_hub, "imu")] {
        let context = Context::new(audience, Some(NOW));
        assert!(ring.check(&token, &context.with_boot_id(7)).is_ok());
        for boot_id in [6, 8, 0, u64::MAX] {
            assert_eq!(
                ring.check(&token, &context.with_boot_id(boot_id)).unwrap_err(),
                TokenError::OtherBoot
            );
        }
        assert_eq!(ring.check(&token, &context).unwrap_err(), TokenError::OtherBoot);
    }
}

#[test]
fn what_the_hub_says_of_others_needs_no_boot_id() {
    let context = Context::new("imu", Some(NOW));
    assert!(board("imu").check(&token(), &context.with_boot_id(1)).is_ok());
}

#[test]
fn the_proof_of_the_hub_brings_the_time_and_so_is_not_judged_by_it() {
    let proof = mint(&hub(), &hub_proof()).unwrap();
    let at = |now| board("imu").check(&proof, &Context::new("imu", now).with_boot_id(7)).unwrap();
    let (issued_at, expiry) = (claims().issued_at, claims().expiry);
    assert_eq!((at(None).issued_at(), at(None).expires()), (issued_at, expiry));
    assert_eq!(at(Some(0)).expires(), expiry);
    let ahead = expiry + 1_000;
    assert_eq!(at(Some(ahead)).expires(), ahead + 3_600, "a hub whose clock was set back is still the hub");
    assert_eq!(at(Some(u64::MAX - 1)).expires(), u64::MAX);
    let nothing_left = narrowed(&proof, Caveat::Expiry(issued_at)).unwrap();
    let context = Context::new("imu", None).with_boot_id(7);
    assert_eq!(board("imu").check(&nothing_left, &context).unwrap_err(), TokenError::Expired);
}

#[test]
fn a_device_that_proves_itself_is_judged_by_the_hubs_clock() {
    let own = Claims { issuer: "imu", subject: "imu", audience: "bus", scopes: Scopes::new(&[]), ..claims() };
    let proof = mint(&board("imu"), &own).unwrap();
    let at = |now| hub().check(&proof, &Context::new("bus", now).with_boot_id(own.serial)).map(|_| ());
    assert_eq!(at(Some(own.expiry - 1)), Ok(()));
    assert_eq!(at(Some(own.expiry)), Err(TokenError::Expired));
    assert_eq!(at(Some(own.issued_at - CLOCK_LEEWAY - 1)), Err(TokenError::NotYetValid));
    assert_eq!(at(None), Err(TokenError::NoClock));
}

#[test]
fn without_a_clock_only_a_token_with_the_boot_scope_passes_and_only_on_a_device() {
    let with = |audience, scopes| mint(&hub(), &Claims { audience, scopes, ..claims() }).unwrap();
    let boot = with("imu", Scopes::new(&["boot", "request:imu/*"]));
    let grant = board("imu").check(&boot, &Context::new("imu", None)).unwrap();
    let info = Address::literal("imu/info");
    let may = |grant: &Grant, now| authorize(Some(grant), Operation::Request, info, Access::Permission, now);
    assert_eq!(may(&grant, None), Ok(()));
    assert_eq!(may(&grant, Some(grant.expires())), Err(Refusal::Expired), "once there is a clock it counts");
    let context = Context::new("imu", Some(claims().expiry));
    assert_eq!(board("imu").check(&boot, &context).unwrap_err(), TokenError::Expired);
    for scopes in [&["*"][..], &["boot.x", "*:**"], &["request:boot"], &[]] {
        let token = with("imu", Scopes::new(scopes));
        let outcome = board("imu").check(&token, &Context::new("imu", None));
        assert_eq!(outcome.unwrap_err(), TokenError::NoClock, "{scopes:?}");
        let grant = check(&token).unwrap();
        assert_eq!(may(&grant, None), Err(Refusal::NoClock), "{scopes:?}");
    }
    let at_hub = with("bus", Scopes::new(&["boot"]));
    assert_eq!(hub().check(&at_hub, &Context::new("bus", None)).unwrap_err(), TokenError::NoClock);
    let mut ending = KeyRing::new();
    ending.add(Slot::device(3, root().derive("imu")).with_not_after(NOW)).unwrap();
    assert_eq!(ending.check(&boot, &Context::new("imu", None)).unwrap_err(), TokenError::NoClock);
}

#[test]
fn a_holder_cannot_add_the_boot_scope_to_a_token_that_allows_everything() {
    let everything = mint(&hub(), &Claims { scopes: Scopes::new(&["*"]), ..claims() }).unwrap();
    let caveat = Caveat::Scopes(Scopes::new(&["boot"]));
    assert_eq!(narrowed(&everything, caveat), Err(AttenuateError::Widens));
    let scopes = Scopes::new(&["*"]);
    let head = written(|w| {
        w.bytes(&[TOKEN_VERSION, 3]);
        Claims { scopes, ..claims() }.write(w)
    });
    let forged = sealed(&head, &[&written(|w| caveat.write(w))]);
    assert_eq!(board("imu").check(&forged, &Context::new("imu", None)).unwrap_err(), TokenError::Widened);
}
