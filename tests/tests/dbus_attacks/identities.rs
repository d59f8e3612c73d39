//! Who proves nothing, or something wrong: no handler runs, the refusal is audited, and no secret is written down.

use dbus::arg::messageitem::MessageItem;
use visorbus_auth::TokenText;
use visorbus_core::auth::{Caveat, Claims, Key, KeyRing, Scopes, Slot, attenuate};
use visorbus_core::limits::MAX_TOKEN;
use visorbus_imu::{DEVELOPMENT_ROOT_KEY, KEY_ID};

use crate::program::{expect_refusal, variant};
use crate::sensor::all_logged;
use crate::settings::NAME;
use crate::world::{ROOT, SERVICE, Setup, World};

#[test]
fn whose_user_nobody_knows_reaches_nothing_and_shows_up_in_the_audit() {
    let world = World::of(Setup { allow: "\"request:nothing/*\"", ..Setup::default() });
    let mallory = world.program();
    expect_refusal(mallory.call_address("vault/open", "x"), "AccessDenied", "");
    expect_refusal(mallory.subscribe("vault/**"), "AccessDenied", "");
    expect_refusal(mallory.call(SERVICE, "ListServices", &[]), "AccessDenied", "");
    expect_refusal(mallory.call(NAME, "Guarded", &["x".into()]), "AccessDenied", "");
    expect_refusal(
        mallory.call_at(&format!("{ROOT}/components/vault"), "org.visorbus.components.Vault", "Open", &[]),
        "",
        "",
    );
    let properties = "org.freedesktop.DBus.Properties";
    expect_refusal(mallory.call(properties, "Get", &[NAME.into(), "Code".into()]), "AccessDenied", "");
    expect_refusal(
        mallory.call(
            properties,
            "Set",
            &[NAME.into(), "Volume".into(), MessageItem::Variant(Box::new(7u32.into()))],
        ),
        "AccessDenied",
        "",
    );
    let objects = mallory.call("org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &[]);
    assert!(!format!("{objects:?}").contains("vault"), "{objects:?}");
    let all = format!("{:?}", mallory.call(properties, "GetAll", &[NAME.into()]));
    assert!(all.contains("Volume") && !all.contains("Code"), "{all}");
    world.is_audited("denied", "org.example.settings1/guarded", "");
    world.is_unharmed();
}

#[test]
fn a_token_cut_off_or_changed_anywhere_is_refused_and_the_session_stays() {
    let world = World::start();
    let mallory = world.program();
    mallory.call_address("vault/open", "as panel").unwrap();
    let token = world.token("keeper", &["*"]);
    let bytes = TokenText::parse(&token).unwrap().to_bytes().unwrap().to_vec();
    let mut wrong: Vec<String> =
        ["", " ", "vb1", "vb1.", "vb2.AAAA", "null", "\u{1f600}", "Bearer x"].map(str::to_owned).into();
    wrong.extend((1..token.len()).step_by(3).map(|len| token[..len].to_owned()));
    wrong.extend((0..bytes.len() * 8).step_by(5).map(|bit| {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        text_of(&changed)
    }));
    wrong.extend([format!("{token}="), token.replace('.', ":"), token.repeat(50), "A".repeat(1 << 20)]);
    for text in &wrong {
        let (name, told) = mallory.authenticate(text).expect_err(text);
        assert!(name.ends_with("AuthFailed") || name.ends_with("AccessDenied"), "{name}: {told}");
        assert!(told.len() < 1200 && (text.len() < 12 || !told.contains(text.as_str())), "{told}");
    }
    // It is who it was.
    assert_eq!(mallory.call_address("vault/open", "as panel").as_deref(), Ok("as panel"));
    expect_refusal(mallory.call_address("config/open", "x"), "AccessDenied", "");
    world.is_audited("refused", "", "token");
    assert_eq!(world.statistics().faults, 0);
    world.is_unharmed_after(2);
    // And a good one counts in spite of it.
    mallory.authenticate(&token).unwrap();
    mallory.call_address("config/open", "as the keeper").unwrap();
    world.is_unharmed_after(1);
}

#[test]
fn a_token_of_another_user_hub_key_or_time_is_refused() {
    let world = World::start();
    let mallory = world.program();
    let own = rustix::process::geteuid().as_raw();
    let whole = TokenText::parse(&world.token("keeper", &["*"])).unwrap().to_bytes().unwrap().to_vec();
    for binding in [Caveat::Uid(own + 1), Caveat::Uid(u32::MAX), Caveat::Certificate(&[0; 32])] {
        expect_refusal(
            mallory.authenticate(&text_of(&narrowed(&whole, &binding))),
            "AuthFailed",
            "bound to another",
        );
    }
    let now = visorbus_hub::unix_micros() / 1_000_000;
    let good = Claims {
        issuer: "bus",
        subject: "keeper",
        audience: "bus",
        serial: 99 << 16,
        issued_at: now,
        expiry: now + 600,
        epoch: 0,
        scopes: Scopes::new(&["*"]),
    };
    let (ours, others) = (ring(DEVELOPMENT_ROOT_KEY), ring([9; 32]));
    for (ring, claims) in [
        (&others, good),
        (&ours, Claims { expiry: now - 1, issued_at: now - 60, ..good }),
        (&ours, Claims { issued_at: now + 500, ..good }),
        (&ours, Claims { audience: "imu", ..good }),
    ] {
        let mut token = [0; MAX_TOKEN];
        let len = ring.mint(KEY_ID, &claims, &mut token).unwrap();
        expect_refusal(mallory.authenticate(&text_of(&token[..len])), "AuthFailed", "");
    }
    world.is_audited("refused", "", "bound to another");
    expect_refusal(mallory.call_address("config/open", "x"), "AccessDenied", "");
    world.is_unharmed();
    mallory.authenticate(&text_of(&narrowed(&whole, &Caveat::Uid(own)))).unwrap();
    mallory.call_address("config/open", "x").unwrap();
    world.is_unharmed_after(1);
}

/// What one program has proven is worth nothing to another of the same user, nor to one with its name later.
#[test]
fn a_session_belongs_to_one_connection() {
    let world = World::start();
    let keeper = world.authenticated("keeper", &["request:config/*"]);
    keeper.call_address("config/open", "mine").unwrap();
    expect_refusal(world.program().call_address("config/open", "mine?"), "AccessDenied", "");
    drop(keeper);
    for _ in 0..5 {
        expect_refusal(world.program().call_address("config/open", "mine?"), "AccessDenied", "");
    }
    world.is_unharmed_after(1);
}

#[test]
fn no_token_is_in_any_log_error_event_or_debug_print() {
    let (mut seen, mut secrets) = (String::new(), Vec::new());
    let logged = all_logged(|| {
        let world = World::start();
        let program = world.program();
        let good = world.token("keeper", &["request:vault/*"]);
        let bound = {
            let bytes = TokenText::parse(&good).unwrap().to_bytes().unwrap().to_vec();
            text_of(&narrowed(&bytes, &Caveat::Uid(4_000_000)))
        };
        let mut broken = good.clone();
        broken.truncate(good.len() - 4);
        let mut say = |outcome: Result<_, (String, String)>| seen.push_str(&format!("{outcome:?}\n"));
        say(program.authenticate(&bound));
        say(program.authenticate(&broken));
        // Where it does not belong: in options, as an address, to a member that is not there.
        say(program.call(SERVICE, "Authenticat", &[good.as_str().into()]));
        say(program.call(SERVICE, "Authenticate", &[good.as_str().into(), good.as_str().into()]));
        say(program.call(SERVICE, "Call", &[variant(&good)]));
        say(program.authenticate(&good));
        say(program.call(SERVICE, "Permissions", &[]));
        let peers = world.handle.peers().unwrap();
        seen.push_str(&format!(
            "{:?}{:?}{:?}{:?}",
            world.statistics(),
            world.door,
            world.door.state(),
            peers
        ));
        secrets = vec![good, bound, broken];
        world.is_audited("authenticated", "", "");
        seen.push_str(&world.all_audited());
    });
    assert!(logged.contains("visorbus"), "the log was taken");
    seen.push_str(&logged);
    for secret in secrets {
        // Its first bytes are its claims, which are no secret; the tag at its end is.
        let tag = &secret[secret.len() - 16..];
        if let Some(at) = seen.find(tag) {
            let from = seen[..at].char_indices().rev().nth(200).map_or(0, |(from, _)| from);
            panic!("…{}…", &seen[from..at]);
        }
    }
}

fn ring(root: [u8; 32]) -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(KEY_ID, Key::new(root))).unwrap();
    ring
}

fn narrowed(token: &[u8], caveat: &Caveat<'_>) -> Vec<u8> {
    let mut narrower = [0; MAX_TOKEN];
    let len = attenuate(token, caveat, &mut narrower).unwrap();
    narrower[..len].to_vec()
}

fn text_of(token: &[u8]) -> String {
    TokenText::encode(token).unwrap().as_str().to_owned()
}
