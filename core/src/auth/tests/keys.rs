//! Keys by id, their ends and epochs, and what none of them tags.

use super::*;

#[test]
fn an_unknown_key_id_refuses_though_the_right_key_is_in_the_ring() {
    let mut ring = KeyRing::new();
    ring.add(Slot::device(4, root().derive("imu"))).unwrap();
    assert_eq!(ring.check(&token(), &Context::new("imu", Some(NOW))).unwrap_err(), TokenError::UnknownKey);
    assert_eq!(
        KeyRing::new().check(&token(), &Context::new("imu", Some(NOW))).unwrap_err(),
        TokenError::UnknownKey
    );
    assert_eq!(ring.mint(3, &claims(), &mut [0; 256]), Err(MintError::UnknownKey));
}

#[test]
fn the_root_key_itself_tags_nothing() {
    let head = head();
    let forged = [&head[..], root().tag(&head).as_bytes()].concat();
    assert_eq!(hub().check(&forged, &Context::new("imu", Some(NOW))).unwrap_err(), TokenError::BadTag);
}

#[test]
fn a_key_counts_up_to_its_last_moment() {
    let ring = |not_after| {
        let mut ring = KeyRing::new();
        ring.add(Slot::device(3, root().derive("imu")).with_not_after(not_after)).unwrap();
        ring
    };
    assert!(ring(NOW).check(&token(), &Context::new("imu", Some(NOW))).is_ok());
    assert_eq!(
        ring(NOW - 1).check(&token(), &Context::new("imu", Some(NOW))).unwrap_err(),
        TokenError::KeyRetired
    );
}

#[test]
fn raising_the_epoch_revokes_all_tokens_below_it_and_it_never_falls() {
    let mut ring = board("imu");
    assert!(ring.raise_epoch(3, 300) && ring.check(&token(), &Context::new("imu", Some(NOW))).is_ok());
    assert!(ring.raise_epoch(3, 301) && ring.raise_epoch(3, 5));
    assert_eq!(ring.check(&token(), &Context::new("imu", Some(NOW))).unwrap_err(), TokenError::EpochPassed);
    assert!(!ring.raise_epoch(9, 1));
}

#[test]
fn a_ring_takes_no_second_key_of_an_id_and_no_more_than_fit() {
    let mut ring = hub();
    assert_eq!(ring.add(Slot::root(3, Key::new([1; 32]))), Err(RingError::IdTaken));
    for id in 10..10 + MAX_KEYS as u8 - 1 {
        ring.add(Slot::root(id, Key::new([id; 32]))).unwrap();
    }
    assert_eq!(ring.add(Slot::root(99, Key::new([1; 32]))), Err(RingError::Full));
    assert!(ring.remove(3) && !ring.remove(3));
    assert_eq!(ring.check(&token(), &Context::new("imu", Some(NOW))).unwrap_err(), TokenError::UnknownKey);
}
