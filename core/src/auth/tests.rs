//! The token format pinned to bytes computed elsewhere, and every attack on it that we know by name.

extern crate std;

use std::format;
use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::limits::{MAX_CAVEATS, MAX_GRANT_SCOPES, MAX_KEYS, MAX_SCOPE, MAX_TOKEN};
use crate::message::address::Address;
use crate::sentence;
use crate::wire::{Reader, Writer};

const NOW: u64 = 1_790_000_100;

/// Computed with Python's hmac and hashlib from the layout in the module's documentation, root key 00 01 … 1f.
const GOLDEN: &str = "01030362757305616c69636503696d7588ef99abc5e88c911180f7c4d5069093c5d506ac02020b696d752e636f6e\
                      74726f6c0d726571756573743a696d752f2a238313a026b04af621c75a1ab5e2cee6";
const GOLDEN_TEXT: &str = "vb1.AQMDYnVzBWFsaWNlA2ltdYjvmavF6IyREYD3xNUGkJPF1QasAgILaW11LmNvbnRyb2wNcmVxdWVzdDppb\
                           XUvKiODE6AmsEr2IcdaGrXizuY";
/// The same, narrowed to expire at 1 790 001 800 and then to the scope `request:imu/info`.
const GOLDEN_NARROWED: &str = "01030362757305616c69636503696d7588ef99abc5e88c911180f7c4d5069093c5d506ac02020b696d752\
                               e636f6e74726f6c0d726571756573743a696d752f2a018885c5d506020110726571756573743a696d752f\
                               696e666fb02251e08c11750a85cb710203c896d8";

fn root() -> Key {
    Key::new(core::array::from_fn(|i| i as u8))
}

fn hub() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(3, root())).unwrap();
    ring
}

fn board(name: &str) -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::device(3, root().derive(name))).unwrap();
    ring
}

fn claims() -> Claims<'static> {
    Claims {
        issuer: "bus",
        subject: "alice",
        audience: "imu",
        serial: 0x1122_3344_5566_7788,
        issued_at: 1_790_000_000,
        expiry: 1_790_003_600,
        epoch: 300,
        scopes: Scopes::new(&["imu.control", "request:imu/*"]),
    }
}

fn mint(ring: &KeyRing, claims: &Claims<'_>) -> Result<Vec<u8>, MintError> {
    let mut out = [0; MAX_TOKEN];
    ring.mint(3, claims, &mut out).map(|len| out[..len].to_vec())
}

fn token() -> Vec<u8> {
    mint(&hub(), &claims()).unwrap()
}

fn narrowed(token: &[u8], caveat: Caveat<'_>) -> Result<Vec<u8>, AttenuateError> {
    let mut out = [0; MAX_TOKEN];
    attenuate(token, &caveat, &mut out).map(|len| out[..len].to_vec())
}

fn check(token: &[u8]) -> Result<Grant, TokenError> {
    board("imu").check(token, &Context::new("imu", Some(NOW)))
}

fn refused(token: &[u8]) -> TokenError {
    check(token).unwrap_err()
}

/// A token that the key's owner made with other tools than ours: `head` as it is, under a right tag.
fn sealed(head: &[u8], caveats: &[&[u8]]) -> Vec<u8> {
    let mut tag = root().derive("imu").tag(head);
    let mut token = head.to_vec();
    for caveat in caveats {
        tag = tag.next(caveat);
        token.extend_from_slice(caveat);
    }
    token.extend_from_slice(tag.as_bytes());
    token
}

fn head() -> Vec<u8> {
    let token = token();
    token[..token.len() - TAG_LEN].to_vec()
}

fn hex(bytes: &[u8]) -> std::string::String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = [0; MAX_TOKEN];
    let mut writer = Writer::with_limit(&mut out, MAX_TOKEN);
    write(&mut writer);
    writer.written().to_vec()
}

// Known answers.

#[test]
fn derived_keys_are_hkdf_as_computed_elsewhere() {
    for (holder, key) in [
        ("imu", "004660962229bd29f8661535b3d68c2383a5ad8362ca232eba736dc8c7b112d5"),
        ("bus", "07154799e44f561b3b6540d179501a619073f5d04261b8c0a832c8d5c912eb47"),
        ("", "291efebc704ed107fba7293eb60f01b3739ba14fb91914d7c63228e36a90e237"),
    ] {
        assert_eq!(hex(root().derive(holder).expose_secret()), key, "{holder:?}");
    }
}

#[test]
fn tags_are_hmac_sha256_cut_to_16_bytes() {
    // RFC 4231 test case 1: its key of 20 bytes 0b, padded by HMAC with zeros, is the same key at 32 bytes.
    let key = Key::new(core::array::from_fn(|i| if i < 20 { 0x0b } else { 0 }));
    assert_eq!(hex(key.tag(b"Hi There").as_bytes()), "b0344c61d8db38535ca8afceaf0bf12b");
}

#[test]
fn the_golden_token_is_minted_and_narrowed_byte_for_byte() {
    let token = token();
    assert_eq!(hex(&token), GOLDEN);
    let sooner = narrowed(&token, Caveat::Expiry(1_790_001_800)).unwrap();
    let fewer = narrowed(&sooner, Caveat::Scopes(Scopes::new(&["request:imu/info"]))).unwrap();
    assert_eq!(hex(&fewer), GOLDEN_NARROWED);
    assert!(check(&fewer).is_ok());
}

#[test]
fn the_claims_have_postcards_layout() {
    let c = claims();
    let list: &[&str] = &["imu.control", "request:imu/*"];
    let tuple = (c.issuer, c.subject, c.audience, c.serial, c.issued_at, c.expiry, c.epoch, list);
    let mut out = [0; MAX_TOKEN];
    assert_eq!(postcard::to_slice(&tuple, &mut out).unwrap(), &head()[2..]);
}

// What a good token gives.

#[test]
fn a_good_token_gives_what_it_says() {
    let grant = check(&token()).unwrap();
    assert_eq!((grant.subject(), grant.issuer(), grant.serial()), ("alice", "bus", 0x1122_3344_5566_7788));
    assert_eq!((grant.key_id(), grant.epoch(), grant.issued_at()), (3, 300, 1_790_000_000));
    assert_eq!(grant.expires(), 1_790_003_600);
    assert!(!grant.is_expired(1_790_003_599) && grant.is_expired(1_790_003_600));
    assert_eq!(grant.scopes().collect::<Vec<_>>(), ["imu.control", "request:imu/*"]);
}

#[test]
fn the_hub_accepts_its_own_tokens_and_a_devices_word_for_itself() {
    let own = mint(&hub(), &Claims { audience: "bus", ..claims() }).unwrap();
    assert_eq!(hub().check(&own, &Context::new("bus", Some(NOW))).unwrap().issuer(), "bus");
    let device =
        Claims { issuer: "imu", subject: "imu", audience: "bus", scopes: Scopes::new(&[]), ..claims() };
    let device = mint(&board("imu"), &device).unwrap();
    let to_this_boot = Context::new("bus", Some(NOW)).with_boot_id(claims().serial);
    assert_eq!(hub().check(&device, &to_this_boot).unwrap().issuer(), "imu");
}

#[test]
fn a_token_without_scopes_is_an_identity_and_allows_nothing() {
    let grant = check(&mint(&hub(), &Claims { scopes: Scopes::new(&[]), ..claims() }).unwrap()).unwrap();
    assert_eq!(grant.scopes().count(), 0);
    assert!(!grant.has_scope("imu.control"));
    assert!(!grant.permits(Operation::Request, Address::literal("imu/info")));
}

#[test]
fn a_token_taken_apart_shows_its_claims_and_caveats() {
    let token = narrowed(&token(), Caveat::Expiry(NOW + 1)).unwrap();
    let shown = UnverifiedToken::read(&token).unwrap();
    assert_eq!((shown.key_id(), shown.claims()), (3, claims()));
    assert_eq!(shown.caveats().collect::<Vec<_>>(), [Caveat::Expiry(NOW + 1)]);
}

// Tampering.

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

// Keys.

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

// Who may say what.

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

// Time.

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

// Proofs, and time where there is none.

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

// Channels.

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

// Caveats.

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

// Scopes and permissions.

#[test]
fn scopes_are_names_permissions_or_a_star() {
    for text in ["imu.control", "a", "request:imu/*", "*:**", "*", "administer:bus/**", "subscribe:*/sample"]
    {
        assert!(Scope::parse(text).is_some(), "{text}");
    }
    let longest = "a".repeat(MAX_SCOPE);
    assert!(Scope::parse(&longest).is_some());
    let too_long = "a".repeat(MAX_SCOPE + 1);
    for text in [
        "",
        "**",
        "imu/*",
        "Imu",
        "imu control",
        "імu",
        "request:",
        ":imu",
        "request",
        "REQUEST:imu/*",
        "request :imu",
        "call:imu/*",
        "request:imu/../bus",
        "request:imu//a",
        "request:imu/a*",
        "request:**/a",
        "request:imu:a",
        &too_long,
    ] {
        let name_only = text == "request";
        assert_eq!(Scope::parse(text).is_some(), name_only, "{text}");
    }
}

#[test]
fn a_permission_reaches_no_further_than_its_pattern() {
    let scopes = Scopes::new(&["request:config/*", "subscribe:imu/**"]);
    let grant = check(&mint(&hub(), &Claims { scopes, ..claims() }).unwrap()).unwrap();
    let permits = |operation, address| grant.permits(operation, Address::new(address).unwrap());
    assert!(permits(Operation::Request, "config/a"));
    assert!(!permits(Operation::Request, "config/a/b"));
    assert!(!permits(Operation::Request, "config"));
    assert!(!permits(Operation::Request, "config2/a"));
    assert!(!permits(Operation::Notify, "config/a"));
    assert!(!permits(Operation::Administer, "config/a"));
    assert!(permits(Operation::Subscribe, "imu/a/b"));
    assert!(!permits(Operation::Request, "imu/a"));
    assert!(!grant.has_scope("request") && !grant.has_scope("config"));
}

#[test]
fn a_star_alone_is_everything_and_all_permissions_are_no_scope() {
    let with = |scopes| check(&mint(&hub(), &Claims { scopes, ..claims() }).unwrap()).unwrap();
    let all = with(Scopes::new(&["*"]));
    assert!(all.has_scope("imu.control") && all.permits(Operation::Administer, Address::literal("bus/x")));
    let any = with(Scopes::new(&["*:**"]));
    assert!(!any.has_scope("imu.control") && any.permits(Operation::Administer, Address::literal("bus/x")));
}

#[test]
fn covering_is_never_more_than_what_the_wider_one_allows() {
    let covers = |a, b| Scope::parse(a).unwrap().covers(Scope::parse(b).unwrap());
    assert!(covers("*", "imu.control") && covers("*", "*") && covers("*", "request:imu/a"));
    assert!(covers("*:imu/**", "request:imu/*") && covers("request:imu/*", "request:imu/a"));
    assert!(!covers("*:**", "*") && !covers("*:**", "imu.control"));
    assert!(!covers("request:imu/*", "*:imu/a") && !covers("request:imu/*", "notify:imu/a"));
    assert!(!covers("request:config/*", "request:config/a/b") && !covers("a", "ab"));
}

#[test]
fn an_operation_reads_back_as_it_is_written() {
    for operation in [
        Operation::Request,
        Operation::Notify,
        Operation::Subscribe,
        Operation::Register,
        Operation::Administer,
    ] {
        assert_eq!(Operation::parse(operation.as_str()), Some(operation));
    }
    assert_eq!(Operation::parse("Request"), None);
}

// The decision.

#[test]
fn every_rule_refuses_by_its_name() {
    let grant = check(&token()).unwrap();
    let (info, other) = (Address::literal("imu/info"), Address::literal("fan/info"));
    let may = |grant, to, access, now| authorize(grant, Operation::Request, to, access, now);
    let now = Some(NOW);
    assert_eq!(may(None, info, Access::Open, None), Ok(()));
    assert_eq!(may(None, info, Access::Permission, now), Err(Refusal::NoGrant));
    assert_eq!(may(None, info, Access::Scope("imu.control"), now), Err(Refusal::NoGrant));
    assert_eq!(may(Some(&grant), info, Access::Permission, now), Ok(()));
    assert_eq!(may(Some(&grant), info, Access::Permission, None), Err(Refusal::NoClock));
    assert_eq!(may(Some(&grant), info, Access::Permission, Some(grant.expires())), Err(Refusal::Expired));
    assert_eq!(
        may(Some(&grant), other, Access::Permission, now),
        Err(Refusal::MissingPermission(Operation::Request))
    );
    assert_eq!(may(Some(&grant), other, Access::Scope("imu.control"), now), Ok(()));
    assert_eq!(may(Some(&grant), info, Access::Scope("imu"), now), Err(Refusal::MissingScope("imu")));
    assert_eq!(Access::default(), Access::Permission);
}

#[test]
fn a_refusal_says_what_to_do_and_has_a_short_form() {
    let refusal = Refusal::MissingScope("imu.control");
    assert!(refusal.to_string().contains("'imu.control'"));
    assert_eq!(refusal.reason(), "missing scope");
    assert!(Refusal::MissingPermission(Operation::Notify).to_string().contains("'notify'"));
}

// Text and secrecy.

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
