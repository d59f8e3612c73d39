//! The check of a token beside the bare HMAC-SHA256 over the same bytes, and beside one that begins with the key each time.
//!
//! `cargo bench -p visorbus-tests --bench token`; all in one run, for ratios.

use divan::{Bencher, black_box};
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use visorbus_core::auth::{BUS, Claims, Context, Key, KeyRing, Scopes, Slot};
use visorbus_core::limits::MAX_TOKEN;

fn main() {
    divan::main();
}

const NOW: u64 = 1_800_000_000;
const ROOT: [u8; 32] = [0x5a; 32];
const TAG_LEN: usize = 16;

fn root_ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new(ROOT))).expect("there is room");
    ring
}

/// What the hub gives a client that may do two things at a board.
fn token(audience: &str) -> Vec<u8> {
    let scopes = Scopes::new(&["request:imu/*", "imu.control"]);
    let (issued_at, expiry) = (NOW - 10, NOW + 3_600);
    let claims = Claims {
        issuer: BUS,
        subject: "panel",
        audience,
        serial: 0x1122_3344_5566_7788,
        issued_at,
        expiry,
        epoch: 0,
        scopes,
    };
    let mut token = [0; MAX_TOKEN];
    let len = root_ring().mint(1, &claims, &mut token).expect("it is a token");
    token[..len].to_vec()
}

fn check(bencher: Bencher<'_, '_>, ring: &KeyRing, audience: &str) {
    let (token, context) = (token(audience), Context::new(audience, Some(NOW)));
    assert!(ring.check(&token, &context).is_ok());
    bencher.bench_local(|| ring.check(black_box(&token), black_box(&context)));
}

#[divan::bench]
fn hub_checks_a_clients(bencher: Bencher<'_, '_>) {
    check(bencher, &root_ring(), BUS);
}

/// The key of the board is derived first.
#[divan::bench]
fn hub_checks_a_boards(bencher: Bencher<'_, '_>) {
    check(bencher, &root_ring(), "imu");
}

#[divan::bench]
fn board_checks_its_own(bencher: Bencher<'_, '_>) {
    let mut ring = KeyRing::new();
    ring.add(Slot::device(1, Key::new(ROOT).derive("imu"))).expect("there is room");
    check(bencher, &ring, "imu");
}

#[divan::bench]
fn bare_hmac(bencher: Bencher<'_, '_>) {
    let token = token("imu");
    let body = &token[..token.len() - TAG_LEN];
    let padded =
        |pad: u8| -> [u8; 64] { core::array::from_fn(|at| ROOT.get(at).copied().unwrap_or(0) ^ pad) };
    let (inner, outer) = (padded(0x36), padded(0x5c));
    bencher.bench_local(|| {
        let hash = Sha256::new_with_prefix(inner).chain_update(black_box(body)).finalize();
        Sha256::new_with_prefix(outer).chain_update(hash).finalize()
    });
}

/// What no HMAC with a prepared key can be faster than: three blocks.
#[divan::bench]
fn three_blocks(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        let mut state = black_box([1_u32; 8]);
        compress256(&mut state, black_box(&[[7; 64]; 3]));
        state
    });
}
