//! Tokens that prove nothing: over every transport the same answer, the same silence of the handlers.

use visorbus_auth::AuditKind;
use visorbus_core::auth::{Caveat, Claims, Key, KeyRing, Scopes, Slot, attenuate};
use visorbus_core::bus;
use visorbus_core::error::ErrorKind;
use visorbus_core::limits::MAX_TOKEN;
use visorbus_core::message::MessagePayload;
use visorbus_tests::raw_peer::expect_error;

use crate::transports::{Transport, over_every_transport};
use crate::world::{BOOT_ID, KEY_ID, ROOT, Says, World, claims, hello, mint, ring, unix_s};

over_every_transport! {
    without_a_token_nothing_is_done
    an_empty_token_is_refused
    a_token_cut_off_after_any_byte_is_refused
    a_token_with_any_bit_flipped_is_refused
    a_token_that_expired_a_second_ago_is_refused
    a_token_of_the_future_is_refused
    a_token_of_another_key_is_refused
    a_token_for_another_component_is_refused
    the_right_token_on_anothers_name_is_refused
    a_forged_token_in_a_message_is_refused_and_goes_to_nobody
    a_proof_for_another_start_of_the_hub_is_refused
    a_device_claims_nothing_for_itself_and_nothing_of_others
    a_token_bound_to_a_user_or_certificate_is_refused_elsewhere
    a_caveat_that_is_taken_off_or_widens_is_refused
}

fn without_a_token_nothing_is_done<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    world.is_nobody::<T>(&mut mallory);
    for address in
        [bus::SERVICES, bus::PEERS, bus::REFRESH, bus::PERMISSIONS, bus::AUTH_RELOAD, bus::POLICY_RELOAD]
    {
        // What a board may know of itself, the one with a link key may know.
        if !(T::IS_KEYED && address == bus::PERMISSIONS) {
            assert!(mallory.request(address, MessagePayload::Empty).is_err(), "{address}");
        }
    }
    // Whoever may use nothing is shown nothing, and without a session not even that.
    match mallory.request(bus::INTERFACES, MessagePayload::Empty) {
        Ok(answer) => assert_eq!((T::IS_KEYED, answer.payload.parse()), (true, Ok(Vec::<()>::new()))),
        Err(error) => assert!(!T::IS_KEYED && error.kind() == ErrorKind::Authentication, "{error}"),
    }
    world.is_unharmed();
}

fn an_empty_token_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    expect_error(mallory.authenticate(&[]), ErrorKind::Authentication, "token");
    // Neither a token nor anything else.
    for payload in [&[][..], &[0], &[0, 0, 0], &[0, 200], &[99], &[0xff; 40]] {
        let outcome = mallory.request(bus::AUTHENTICATE, MessagePayload::Binary(payload));
        assert!(outcome.is_err(), "{payload:?}");
    }
    for text in ["", "null", "\"\"", "{}", r#"{"token": ""}"#, r#"{"token": null}"#, r#"{"token": "vb1."}"#] {
        let outcome = mallory.request(bus::AUTHENTICATE, MessagePayload::Json(text));
        assert!(outcome.is_err(), "{text}");
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "token");
    world.is_nobody::<T>(&mut mallory);
}

fn a_token_cut_off_after_any_byte_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    let token = world.token("mallory", &["*"]);
    for len in 0..token.len() {
        expect_error(mallory.authenticate(&token[..len]), ErrorKind::Authentication, "token");
    }
    for more in [&[0][..], &[0xff], &token] {
        let longer = [&token, more].concat();
        expect_error(mallory.authenticate(&longer), ErrorKind::Authentication, "token");
    }
    assert_eq!(world.refused(), token.len() as u64 + 3);
    world.is_nobody::<T>(&mut mallory);
    mallory.authenticate(&token).unwrap();
    assert!(mallory.request("vault/open", MessagePayload::Empty).is_ok(), "the whole one is good");
}

fn a_token_with_any_bit_flipped_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    let token = world.token("mallory", &["*"]);
    for bit in 0..token.len() * 8 {
        let mut forged = token.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        expect_error(mallory.authenticate(&forged), ErrorKind::Authentication, "token");
    }
    assert_eq!(world.refused(), token.len() as u64 * 8);
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "like this in a second");
    world.is_nobody::<T>(&mut mallory);
    mallory.authenticate(&token).unwrap();
}

fn a_token_that_expired_a_second_ago_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    let now = unix_s();
    let own = claims("mallory");
    for expiry in [now, now - 1, now - 3600, 1] {
        let token = mint(&ring(), KEY_ID, &Claims { issued_at: expiry - 1, expiry, ..own });
        expect_error(mallory.authenticate(&token), ErrorKind::Authentication, "token expired");
    }
    // Narrowed to a time that is over.
    let narrowed = caveat(&mint(&ring(), KEY_ID, &own), &Caveat::Expiry(now - 1));
    expect_error(mallory.authenticate(&narrowed), ErrorKind::Authentication, "token expired");
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "token expired");
    world.is_nobody::<T>(&mut mallory);
}

fn a_token_of_the_future_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    let now = unix_s();
    // A clock may be wrong by a minute.
    for issued_at in [now + 70, now + 3600, u64::MAX - 1] {
        let future = Claims { issued_at, expiry: u64::MAX, ..claims("mallory") };
        let token = mint(&ring(), KEY_ID, &future);
        expect_error(mallory.authenticate(&token), ErrorKind::Authentication, "token not accepted");
    }
    // One that never ends is remembered longer than what is taken back.
    let endless = mint(&ring(), KEY_ID, &Claims { expiry: u64::MAX, ..claims("mallory") });
    expect_error(mallory.authenticate(&endless), ErrorKind::Authentication, "lasts longer than any may");
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "not accepted");
    world.is_nobody::<T>(&mut mallory);
}

fn a_token_of_another_key_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    let ring_of = |id, key| {
        let mut ring = KeyRing::new();
        ring.add(Slot::root(id, Key::new(key))).unwrap();
        ring
    };
    // The right key under another id, another key under the right id, another hub's.
    let others = [
        (KEY_ID ^ 1, ROOT),
        (KEY_ID ^ 0x80, ROOT),
        (!KEY_ID, ROOT),
        (KEY_ID, [0; 32]),
        (KEY_ID, [7; 32]),
        (9, [7; 32]),
    ];
    for (id, key) in others {
        let token = mint(&ring_of(id, key), id, &claims("mallory"));
        expect_error(mallory.authenticate(&token), ErrorKind::Authentication, "token not accepted");
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "not accepted");
    world.is_nobody::<T>(&mut mallory);
}

fn a_token_for_another_component_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    for audience in ["imu", "vault", "bu", "buss", "mallory"] {
        let token = mint(&ring(), KEY_ID, &Claims { audience, ..claims("mallory") });
        let outcome = mallory.authenticate(&token);
        expect_error(outcome, ErrorKind::Authentication, "token is for another component");
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "for another component");
    world.is_nobody::<T>(&mut mallory);
}

fn the_right_token_on_anothers_name_is_refused<T: Transport>() {
    let world = World::start();
    let stolen_name = "victim";
    if T::IS_KEYED {
        // The key says the name, before any token could.
        let mut thief = T::attach(&world, "mallory");
        let outcome = hello::<T>(&mut thief, stolen_name, 1);
        expect_error(
            outcome,
            ErrorKind::Authentication,
            "the key of this link proves 'mallory', not 'victim'",
        );
        hello::<T>(&mut thief, "mallory", 2).unwrap();
        let outcome = thief.authenticate(&world.token(stolen_name, &["*"]));
        expect_error(outcome, ErrorKind::Authentication, "'victim' does not prove the name 'mallory'");
        world.is_nobody::<T>(&mut thief);
        return;
    }
    // The names of others, those that only begin like the subject, and the hub's own.
    for name in ["victim", "malloryx", "mal", "mallory-2"] {
        let mut thief = world.greeted::<T>(name);
        let outcome = thief.authenticate(&world.token("mallory", &["*"]));
        let text = format!("'mallory' does not prove the name '{name}'");
        expect_error(outcome, ErrorKind::Authentication, &text);
        world.is_audited::<T>(AuditKind::Refused, &format!("{name}?"), &text);
        world.is_nobody::<T>(&mut thief);
    }
    // A line is for one board, whatever others can prove.
    if !T::HANGS_UP {
        let mut thief = T::attach(&world, "imu");
        hello::<T>(&mut thief, stolen_name, 1).unwrap();
        let outcome = thief.authenticate(&world.token(stolen_name, &["*"]));
        expect_error(outcome, ErrorKind::Authentication, "this line is for 'imu'");
        world.is_nobody::<T>(&mut thief);
    }
    world.admitted::<T>(stolen_name, &[]);
}

fn a_forged_token_in_a_message_is_refused_and_goes_to_nobody<T: Transport>() {
    let world = World::start();
    let mut owner = world.admitted::<crate::transports::Unix>("owner", &[]);
    let mut mallory = world.admitted::<T>("mallory", &["request:owner/*"]);
    let rich = world.token("rich", &["*"]);
    for bit in 0..rich.len() * 8 {
        let mut forged = rich.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        expect_error(mallory.request_with(&forged, "vault/open"), ErrorKind::Authentication, "token");
    }
    for bad in [&[][..], &[1, 2, 3], &rich[..rich.len() - 1]] {
        expect_error(mallory.request_with(bad, "vault/open"), ErrorKind::Authentication, "token");
        // Nor is it shown to the peer that the message goes to, who may be the one that knows what to do with it.
        expect_error(mallory.request_with(bad, "owner/x"), ErrorKind::Authentication, "token");
    }
    let for_imu = mint(&ring(), KEY_ID, &Claims { audience: "imu", ..claims("rich") });
    expect_error(mallory.request_with(&for_imu, "owner/x"), ErrorKind::Authentication, "token is for 'imu'");
    assert!(owner.read_so_far().is_empty());
    world.is_audited::<T>(AuditKind::Refused, "mallory", "token");
    world.is_unharmed();
}

fn a_proof_for_another_start_of_the_hub_is_refused<T: Transport>() {
    let world = World::start();
    let mut imu = world.greeted::<T>("imu");
    let proof = |serial| {
        let own = Claims { issuer: "imu", serial, scopes: Scopes::new(&[]), ..claims("imu") };
        mint(&ring(), KEY_ID, &own)
    };
    for boot_id in [0, 1, BOOT_ID - 1, BOOT_ID + 1, BOOT_ID.swap_bytes(), u64::MAX] {
        let outcome = imu.authenticate(&proof(boot_id));
        expect_error(outcome, ErrorKind::Authentication, "token not accepted");
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("imu"), "not accepted");
    world.is_nobody::<T>(&mut imu);
    imu.authenticate(&proof(BOOT_ID)).unwrap();
}

fn a_device_claims_nothing_for_itself_and_nothing_of_others<T: Transport>() {
    let world = World::start();
    let mut imu = world.greeted::<T>("imu");
    // What somebody mints who has read the key out of a board: the ring refuses to mint most of it, so the key is
    // taken for a root key of the same id.
    let mut dumped = KeyRing::new();
    dumped.add(Slot::root(KEY_ID, Key::new(ROOT).derive("imu"))).unwrap();
    let own = Claims { serial: BOOT_ID, ..claims("imu") };
    let devices = Claims { issuer: "imu", scopes: Scopes::new(&[]), ..own };
    for forged in [own, devices, Claims { subject: "victim", ..own }] {
        let token = mint(&dumped, KEY_ID, &forged);
        expect_error(imu.authenticate(&token), ErrorKind::Authentication, "token not accepted");
    }
    world.is_nobody::<T>(&mut imu);
}

fn a_token_bound_to_a_user_or_certificate_is_refused_elsewhere<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    let token = world.token("mallory", &["*"]);
    let own = rustix::process::geteuid().as_raw();
    let mut elsewhere = vec![Caveat::Uid(own + 1), Caveat::Uid(u32::MAX), Caveat::Certificate(&[0; 32])];
    // Where nobody can tell which user that would be.
    if !T::KNOWS_USER {
        elsewhere.push(Caveat::Uid(own));
    }
    for binding in &elsewhere {
        let outcome = mallory.authenticate(&caveat(&token, binding));
        expect_error(outcome, ErrorKind::Authentication, "bound to another user or certificate");
        let outcome = mallory.request_with(&caveat(&token, binding), "vault/open");
        let text = if T::IS_KEYED { "bound to another user" } else { "" };
        expect_error(outcome, ErrorKind::Authentication, text);
    }
    world.is_audited::<T>(AuditKind::Refused, &shown::<T>("mallory"), "bound to another");
    world.is_nobody::<T>(&mut mallory);
    if T::KNOWS_USER {
        mallory.authenticate(&caveat(&token, &Caveat::Uid(own))).unwrap();
    }
}

fn a_caveat_that_is_taken_off_or_widens_is_refused<T: Transport>() {
    let world = World::start();
    let mut mallory = world.greeted::<T>("mallory");
    let whole = world.token("mallory", &["request:vault/*", "subscribe:**"]);
    let narrow = caveat(&whole, &Caveat::Scopes(Scopes::new(&["subscribe:imu/*"])));
    let tag = narrow[narrow.len() - 16..].to_vec();
    // Off it goes: the claims of the whole one, the tag of the narrow one; and the other way round.
    let stripped = [&whole[..whole.len() - 16], &tag].concat();
    let moved = [&narrow[..narrow.len() - 16], &whole[whole.len() - 16..]].concat();
    // Twice the same, without the key.
    let doubled = [&narrow[..narrow.len() - 16], &narrow[whole.len() - 16..]].concat();
    for forged in [stripped, moved, doubled] {
        expect_error(mallory.authenticate(&forged), ErrorKind::Authentication, "token");
    }
    world.is_nobody::<T>(&mut mallory);
    mallory.authenticate(&narrow).unwrap();
    let outcome = mallory.request("vault/open", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authorization, "no permission of the token allows 'request'");
    world.is_unharmed();
}

/// How the audit names somebody who has not proven anything: on a line with a key, that was proven before.
fn shown<T: Transport>(name: &str) -> String {
    if T::IS_KEYED { name.to_owned() } else { format!("{name}?") }
}

fn caveat(token: &[u8], caveat: &Caveat<'_>) -> Vec<u8> {
    let mut narrower = [0; MAX_TOKEN];
    let len = attenuate(token, caveat, &mut narrower).unwrap();
    narrower[..len].to_vec()
}
