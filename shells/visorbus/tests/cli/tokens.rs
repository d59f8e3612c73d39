//! `visorbus auth token`, and what a token does for the other commands.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use visorbus_auth::{KeyFile, Store, TokenText};
use visorbus_core::auth::{BUS, Caveat, Claims, Scopes, attenuate, encode_text};
use visorbus_imu::DEVELOPMENT_ROOT_KEY;

use crate::place::{Place, Process};

/// A place whose hub has run once: there are a key and accounts.
fn place_with_key() -> Place {
    let place = Place::new();
    KeyFile::open_or_create(place.key_file()).unwrap();
    Store::open_or_create(place.store_file()).unwrap();
    place
}

fn mint(place: &Place, args: &[&str]) -> String {
    place.succeed(&[&["auth", "token", "mint"], args].concat())
}

fn check(place: &Place, token: &str) -> Value {
    serde_json::from_str(&place.succeed(&["auth", "token", "check", "--json", token])).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of the place's key that was good until just now.
fn expired(place: &Place) -> String {
    let keys = KeyFile::open(place.key_file()).unwrap();
    let claims = Claims {
        issuer: BUS,
        subject: "late",
        audience: BUS,
        serial: 1,
        issued_at: now() - 100,
        expiry: now() - 10,
        epoch: 0,
        scopes: Scopes::new(&["*"]),
    };
    let (mut token, mut text) = ([0; 256], [0; 512]);
    let len = keys.ring().mint(keys.current_id(), &claims, &mut token).unwrap();
    encode_text(&token[..len], &mut text).unwrap().to_owned()
}

#[test]
fn a_minted_token_says_what_it_was_asked_to() {
    let place = place_with_key();
    let args = [
        "--subject",
        "viewer",
        "--scope",
        "subscribe:imu/**",
        "--scope",
        "request:bus/**",
        "--lifetime",
        "30d",
    ];
    let token = mint(&place, &args);
    assert!(token.starts_with("vb1."), "{token}");
    let seen = check(&place, &token);
    assert_eq!(
        (&seen["good"], &seen["subject"], &seen["audience"]),
        (&json!(true), &json!("viewer"), &json!("bus"))
    );
    assert_eq!(seen["scopes"], json!(["subscribe:imu/**", "request:bus/**"]));
    let left = seen["expiry"].as_u64().unwrap() - now();
    assert!((30 * 86_400 - 60..=30 * 86_400).contains(&left), "{left}");

    let text = place.succeed(&["auth", "token", "check", &token]);
    for line in ["subject   viewer", "scopes    subscribe:imu/** request:bus/**", "good for  bus"] {
        assert!(text.lines().any(|said| said == line), "{text}");
    }
    let as_json: Value =
        serde_json::from_str(&mint(&place, &["--json", "--subject", "x", "--scope", "*"])).unwrap();
    assert_eq!(check(&place, as_json["token"].as_str().unwrap())["subject"], "x");
}

#[test]
fn a_token_is_read_from_standard_input() {
    let place = place_with_key();
    let token = mint(&place, &["--subject", "viewer", "--scope", "*"]);
    fs::write(place.path().join("token"), format!("{token}\n")).unwrap();
    let mut command = place.command(&["auth", "token", "check", "-"]);
    let file = fs::File::open(place.path().join("token")).unwrap();
    let done = command.stdin(file).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("subject   viewer"));
}

#[test]
fn the_lifetime_is_an_hour_unless_said_and_counts_from_now() {
    let place = place_with_key();
    for (args, seconds) in
        [(&[] as &[&str], 3_600), (&["--lifetime", "90s"], 90), (&["--lifetime", "2h"], 7_200)]
    {
        let token = mint(&place, &[&["--subject", "a", "--scope", "*"], args].concat());
        let seen = check(&place, &token);
        assert_eq!(seen["expiry"].as_u64().unwrap() - seen["issued_at"].as_u64().unwrap(), seconds);
    }
}

#[test]
fn a_token_that_is_not_good_is_shown_and_refused() {
    let place = place_with_key();
    let late = place.run(&["auth", "token", "check", &expired(&place)]);
    assert_eq!((late.code, late.out.as_str()), (Some(4), ""));
    for part in ["subject   late", "(expired)", "visorbus: authentication error: the token is not good:"] {
        assert!(late.err.contains(part), "{}", late.err);
    }
    let for_imu = mint(&place, &["--subject", "hub", "--audience", "imu", "--scope", "request:imu/*"]);
    let wrong = place.run(&["auth", "token", "check", &for_imu]);
    assert_eq!(wrong.code, Some(4));
    assert!(wrong.err.contains("it is for 'imu', not for 'bus'"), "{}", wrong.err);
    assert_eq!(place.run(&["auth", "token", "check", "--audience", "imu", &for_imu]).code, Some(0));
    let other = place.run(&["auth", "token", "check", "--audience", "radio", &for_imu]);
    assert!(other.err.contains("it is for 'imu', not for 'radio'"), "{}", other.err);
    let foreign = mint(&place_with_key(), &["--subject", "a", "--scope", "*"]);
    let foreign = place.run(&["auth", "token", "check", &foreign]);
    assert_eq!(foreign.code, Some(4));
    assert!(foreign.err.contains("made with another key"), "{}", foreign.err);
}

#[test]
fn a_token_that_was_revoked_is_told_so_and_lost_accounts_revoke_all() {
    let place = place_with_key();
    let tokens = [0; 3].map(|_| mint(&place, &["--subject", "a", "--scope", "*"]));
    let revoked = |token: &str| {
        let done = place.run(&["auth", "token", "check", token]);
        (done.code == Some(4) && done.err.contains("it was revoked")).then_some(()).ok_or(done.code)
    };
    place.succeed(&["auth", "token", "revoke", &tokens[0]]);
    assert_eq!([&tokens[0], &tokens[1]].map(|token| revoked(token)), [Ok(()), Err(Some(0))]);
    let for_imu = ["--subject", "b", "--audience", "imu", "--scope", "request:imu/*"];
    let for_imu = mint(&place, &for_imu);
    place.succeed(&["auth", "token", "revoke", "--subject", "b"]);
    let done = place.run(&["auth", "token", "check", "--audience", "imu", &for_imu]);
    assert!(done.code == Some(4) && done.err.contains("it was revoked"), "{}", done.err);
    fs::remove_file(place.store_file()).unwrap();
    let done = place.run(&["auth", "token", "mint", "--subject", "a", "--scope", "*"]);
    assert!(done.err.contains("no token made before counts"), "{}", done.err);
    assert_eq!(tokens.each_ref().map(|token| revoked(token)), [Ok(()); 3]);
    assert_eq!(revoked(done.out.trim()), Err(Some(0)));
}

#[test]
fn a_token_that_is_bound_to_a_user_or_a_certificate_says_so() {
    let place = place_with_key();
    let token = TokenText::parse(&mint(&place, &["--subject", "a", "--scope", "*"])).unwrap();
    for (caveat, text) in [
        (Caveat::Uid(1234), "only from processes of user 1234"),
        (Caveat::Certificate(&[0xab; 32]), "certificate of SHA-256 abab"),
    ] {
        let mut bound = [0; 512];
        let len = attenuate(&token.to_bytes().unwrap(), &caveat, &mut bound).unwrap();
        let bound = TokenText::encode(&bound[..len]).unwrap();
        let shown = place.succeed(&["auth", "token", "check", bound.as_str()]);
        assert!(shown.contains(text) && shown.contains("good for  bus"), "{shown}");
    }
}

#[test]
fn what_is_no_token_is_told_so() {
    let place = place_with_key();
    let token = mint(&place, &["--subject", "a", "--scope", "*"]);
    let cut_off = &token[..token.len() - 5];
    for (text, said) in [
        ("garbage", "a token begins with 'vb1.'"),
        ("", "a token begins with 'vb1.'"),
        ("vb1.AAAA", "not a whole token"),
        ("vb1.!!!!", "text is damaged"),
        (cut_off, "not good"),
    ] {
        let done = place.run(&["auth", "token", "check", text]);
        assert_ne!(done.code, Some(0), "{text}");
        assert!(
            done.err.contains("visorbus: ") && (text == cut_off || done.err.contains(said)),
            "{text}: {done:?}"
        );
        assert!(!done.out.contains("good for"), "{text}: {done:?}");
    }
}

#[test]
fn a_token_that_cannot_be_made_is_refused() {
    let place = place_with_key();
    for (args, said) in [
        (&["--subject", "a", "--scope", "eat:imu/*"] as &[&str], "a scope is a name"),
        (&["--subject", "a", "--scope", "request:**/x"], "a scope is a name"),
        (&["--subject", "a", "--scope", "two words"], "a scope is a name"),
        (&["--subject", "Bad Name", "--scope", "*"], "names"),
    ] {
        let done = place.run(&[&["auth", "token", "mint"], args].concat());
        done.expect_failure(1, "visorbus: message error:", &[said]);
        assert_eq!(done.out, "");
    }
    let empty = place.run(&["auth", "token", "mint", "--subject", "a"]);
    assert_eq!(empty.code, Some(0));
    assert!(empty.err.contains("says nothing of what that one may do: give it a --scope"), "{}", empty.err);
}

#[test]
fn without_keys_there_is_no_token() {
    let place = Place::new();
    for args in [&["auth", "token", "mint", "--subject", "a"] as &[&str], &["key", "device", "imu"]] {
        let done = place.run(args);
        assert_eq!(done.code, Some(4), "{done:?}");
        assert!(done.err.contains("`visorbus serve` makes one, or name it with --key-file"), "{done:?}");
    }
}

#[test]
fn the_key_of_a_board_is_derived_from_the_hubs() {
    let place = Place::for_boards();
    let key = visorbus_core::auth::Key::new(DEVELOPMENT_ROOT_KEY).derive("imu");
    let hex: String = key.expose_secret().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(place.succeed(&["key", "device", "imu"]), hex);
    let as_json: Value = serde_json::from_str(&place.succeed(&["key", "device", "imu", "--json"])).unwrap();
    assert_eq!(as_json, json!({ "name": "imu", "key_id": 0, "key": hex }));
    let done = place.run(&["key", "device", "IMU"]);
    done.expect_failure(1, "visorbus: message error: 'IMU' is not a name", &[]);
}

#[test]
fn a_token_allows_what_it_says_and_nothing_else() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let viewer =
        mint(&place, &["--subject", "viewer", "--scope", "subscribe:imu/**", "--scope", "request:bus/**"]);
    for as_variable in [false, true] {
        let run = |args: &[&str]| {
            let mut command = place.command(args);
            match as_variable {
                true => command.env("VISORBUS_TOKEN", &viewer),
                false => command.args(["--token", &viewer]),
            };
            Process::start(&mut command).finish()
        };
        assert_eq!(run(&["services"]).code, Some(0));
        assert_eq!(run(&["subscribe", "imu/*", "--count", "1"]).code, Some(0));
        run(&["subscribe", "room/**"]).expect_failure(4, "visorbus: authorization error:", &["room/**"]);
        run(&["publish", "room/light", "1"]).expect_failure(
            4,
            "visorbus: authorization error: room/light",
            &["'notify'"],
        );
        run(&["call", "imu/info"]).expect_failure(
            4,
            "visorbus: authorization error: imu/info",
            &["'request'"],
        );
        run(&["call", "imu/set-rate", "50"]).expect_failure(
            4,
            "visorbus: authorization error:",
            &["'imu.control'"],
        );
    }
    let tuner = mint(&place, &["--subject", "tuner", "--scope", "imu.control"]);
    assert_eq!(place.succeed(&["call", "imu/set-rate", "50", "--token", &tuner]), "50");
}

#[test]
fn a_token_for_one_address_alone_is_enough_to_call_it() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let tuner = mint(&place, &["--subject", "tuner", "--scope", "imu.control"]);
    assert_eq!(place.succeed(&["call", "imu/set-rate", "50", "--token", &tuner]), "50");
}

#[test]
fn a_token_that_the_hub_does_not_take_ends_the_command() {
    let place = place_with_key();
    let _hub = place.serve(&[]);
    let for_imu = mint(&place, &["--subject", "hub", "--audience", "imu", "--scope", "*"]);
    for (token, said) in [
        (expired(&place).as_str(), "token expired"),
        (&for_imu, "token is for another component"),
        ("garbage", "a token begins with 'vb1.'"),
        (&mint(&place_with_key(), &["--subject", "a", "--scope", "*"]), "token not accepted"),
    ] {
        let done = place.run(&["services", "--token", token]);
        done.expect_failure(4, "visorbus: authentication error:", &[said]);
    }
    // A variable that is set to nothing is not a token.
    let done = Process::start(place.command(&["services"]).env("VISORBUS_TOKEN", "")).finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
}

#[test]
fn a_key_file_of_another_hub_is_named_in_the_refusal() {
    let place = place_with_key();
    let _hub = place.serve(&[]);
    let other = place.path().join("other.key");
    KeyFile::open_or_create(&other).unwrap();
    let done = place.run(&["services", "--key-file", other.to_str().unwrap()]);
    let parts = ["has other keys than", other.to_str().unwrap(), "--key-file", "--token"];
    done.expect_failure(4, "visorbus: authentication error:", &parts);
}

#[test]
fn a_subscription_ends_with_the_token_that_it_was_given() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let brief = mint(&place, &["--subject", "brief", "--scope", "*", "--lifetime", "4s"]);
    let done = place.run(&["subscribe", "imu/**", "--token", &brief]);
    assert_eq!(done.code, Some(4), "{}", done.err);
    assert!(done.err.ends_with("the token has expired: get a new one"), "{}", done.err);
    assert!(done.out.lines().count() > 10, "until then it worked");
}
