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

mod caveats;
mod issuers;
mod keys;
mod scopes;
mod tampering;
mod text;
mod time;

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
