//! The decision that stands before every message, beside one lookup in a hash map.
//!
//! `cargo bench -p visorbus-tests --bench authorize` prints times and what was allocated: nothing.

use std::collections::HashMap;

use divan::{AllocProfiler, Bencher, black_box};
use visorbus_auth::{Asked, AuthorizationProvider, KeyFile, Policy, TokenScopes, Transport};
use visorbus_core::auth::{Access, BUS, Claims, Context, Grant, Operation, Scopes};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::Pattern;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const NOW: u64 = 1_800_000_000;

/// Thirty rules of ten scopes, as a headset might have; what is asked for stands in the last rule of its scope.
fn policy(constraints: &str) -> Policy {
    let mut text = String::from("[subjects.panel]\nscopes = [\"scope9\", \"sensor\"]\n");
    for n in 0..30 {
        let (scope, constraints) = (n % 10, if n >= 20 { constraints } else { "" });
        text += &format!(
            "[[rule]]\nscope = \"scope{scope}\"\nallow = [\"request:part{n}/*\", \"subscribe:part{n}/**\"]\n{constraints}\n"
        );
    }
    Policy::parse(&text).expect("it is a policy")
}

fn grant(scopes: &[&str]) -> Grant {
    let keys = KeyFile::in_memory(1, [7; 32]);
    let claims = Claims {
        issuer: BUS,
        subject: "panel",
        audience: BUS,
        serial: 1,
        issued_at: NOW,
        expiry: NOW + 3600,
        epoch: 0,
        scopes: Scopes::new(scopes),
    };
    let mut token = [0; MAX_TOKEN];
    let len = keys.ring().mint(1, &claims, &mut token).expect("it is a token");
    keys.ring().check(&token[..len], &Context::new(BUS, Some(NOW))).expect("it is good")
}

fn asked<'a>(grant: &'a Grant, resource: &'a str) -> Asked<'a> {
    Asked {
        grant: Some(grant),
        operation: Operation::Request,
        resource: Pattern::new(resource).expect("it is a pattern"),
        access: Access::Permission,
        transport: Transport::Unix,
        payload_len: 48,
        unix_now: NOW,
        counts: true,
    }
}

fn bench(bencher: Bencher, policy: &impl AuthorizationProvider, scopes: &[&str], resource: &str) {
    let grant = grant(scopes);
    let asked = asked(&grant, resource);
    bencher.bench_local(|| policy.is_authorized(black_box(&asked)).is_ok());
}

/// The limit: one lookup with the standard hasher, of a key that is there.
#[divan::bench]
fn hash_map_lookup(bencher: Bencher) {
    let map: HashMap<String, u32> = (0..100).map(|n| (format!("part{n}/info"), n)).collect();
    bencher.bench_local(|| map.get(black_box("part29/info")).copied());
}

/// No policy: what core decides by the token alone.
#[divan::bench]
fn token_alone(bencher: Bencher) {
    bench(bencher, &TokenScopes, &["request:part29/*"], "part29/info");
}

#[divan::bench]
fn by_the_tokens_permission(bencher: Bencher) {
    bench(bencher, &policy(""), &["request:part29/*"], "part29/info");
}

#[divan::bench]
fn by_a_rule(bencher: Bencher) {
    bench(bencher, &policy(""), &["scope9"], "part29/info");
}

#[divan::bench]
fn by_a_rule_of_the_subject(bencher: Bencher) {
    bench(bencher, &policy(""), &["scope1", "scope2", "scope3"], "part29/info");
}

#[divan::bench]
fn by_a_rule_with_every_constraint(bencher: Bencher) {
    let constraints = "max_rate = 1000000\nmax_payload = 4096\ntransports = [\"unix\"]\nfrom = \"00:00\"\nuntil = \"23:59\"";
    bench(bencher, &policy(constraints), &["scope9"], "part29/info");
}

#[divan::bench]
fn refused(bencher: Bencher) {
    bench(bencher, &policy(""), &["scope1", "scope2", "scope3"], "elsewhere/info");
}
