//! `visorbus auth`: the lives of users, API keys, certificates and tokens, and that what ends ends at once.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::place::{Done, Place, Process};

const PASSWORD: &str = "correct horse battery staple";

fn add_user(place: &Place, name: &str, scopes: &[&str]) {
    let mut args = vec!["auth", "user", "add", name, "--password-stdin"];
    args.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let done = place.run_reading(&args, &format!("{PASSWORD}\n"));
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
}

fn log_in(place: &Place, name: &str, password: &str) -> Done {
    place.run_reading(&["auth", "login", "--user", name, "--password-stdin"], password)
}

fn token_of(place: &Place, name: &str) -> String {
    let done = log_in(place, name, PASSWORD);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.out.starts_with("vb1."), "{done:?}");
    done.out
}

/// A subscription that is live: it has had a message.
fn watch(place: &Place, args: &[&str], stdin: &str) -> Process {
    let mut command = place.command(&[&["subscribe", "room/**"], args].concat());
    let mut watch = Process::start_reading(&mut command, stdin);
    // Until the subscription is there, nobody hears anything.
    loop {
        place.succeed(&["publish", "room/light", "1"]);
        if watch.try_line().is_some() {
            return watch;
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_user_is_added_logs_in_is_shut_out_let_in_and_removed() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    add_user(&place, "anna", &["subscribe:room/**"]);
    let list = json(&place.succeed(&["auth", "user", "list", "--json"]));
    assert_eq!(
        list["users"],
        json!([{ "name": "anna", "scopes": ["subscribe:room/**"], "disabled": false }])
    );

    log_in(&place, "anna", "wrong").expect_failure(
        4,
        "visorbus: authentication error: the name or the secret",
        &[],
    );
    log_in(&place, "nobody", PASSWORD).expect_failure(
        4,
        "visorbus: authentication error: the name or the secret",
        &[],
    );

    let token = token_of(&place, "anna");
    let live = watch(&place, &["--token", &token], "");
    let direct = watch(&place, &["--user", "anna", "--password-stdin"], PASSWORD);
    let said = place.succeed(&["auth", "user", "disable", "anna"]);
    assert!(said.contains("'anna' is shut out; the hub knows: 2 sessions ended"), "{said}");
    for watch in [live, direct] {
        let done = watch.finish();
        assert_eq!(done.code, Some(4), "{done:?}");
        assert!(done.err.contains("authentication error"), "{done:?}");
    }
    log_in(&place, "anna", PASSWORD).expect_failure(
        4,
        "visorbus: authentication error: the name or the secret",
        &[],
    );

    place.succeed(&["auth", "user", "enable", "anna"]);
    let again = token_of(&place, "anna");
    let old = place.run(&["subscribe", "room/**", "--token", &token]);
    old.expect_failure(4, "visorbus: authentication error:", &[]);
    drop(watch(&place, &["--token", &again], ""));

    place.succeed(&["auth", "user", "remove", "anna"]);
    log_in(&place, "anna", PASSWORD).expect_failure(4, "visorbus: authentication error:", &[]);
    let gone = place.run(&["subscribe", "room/**", "--token", &again]);
    gone.expect_failure(4, "visorbus: authentication error:", &[]);
    place.run(&["auth", "user", "remove", "anna"]).expect_failure(
        1,
        "visorbus: message error: there is no user",
        &[],
    );
}

#[test]
fn another_password_or_other_scopes_make_the_old_tokens_void() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    add_user(&place, "anna", &["subscribe:room/**"]);
    let before = watch(&place, &["--token", &token_of(&place, "anna")], "");
    let said = place.run_reading(&["auth", "user", "password", "anna", "--password-stdin"], "another one");
    assert!(said.out.contains("1 session ended"), "{said:?}");
    assert_eq!(before.finish().code, Some(4));
    log_in(&place, "anna", PASSWORD).expect_failure(4, "visorbus: authentication error:", &[]);
    let token = log_in(&place, "anna", "another one\n").out;

    let said = place.succeed(&["auth", "user", "scopes", "anna", "subscribe:door/**"]);
    assert!(said.contains("these scopes: subscribe:door/**"), "{said}");
    place.run(&["subscribe", "room/**", "--token", &token]).expect_failure(
        4,
        "visorbus: authentication",
        &[],
    );
    let other = log_in(&place, "anna", "another one").out;
    place.run(&["subscribe", "room/**", "--token", &other]).expect_failure(
        4,
        "visorbus: authorization",
        &["room/**"],
    );
}

#[test]
fn what_cannot_be_an_account_is_refused_with_what_to_do() {
    let place = Place::new();
    add_user(&place, "anna", &[]);
    for (args, stdin, code, said) in [
        (&["user", "add", "anna", "--password-stdin"] as &[&str], PASSWORD, 1, "there is a user 'anna'"),
        (&["user", "add", "Anna", "--password-stdin"], PASSWORD, 1, "a name is at most 32"),
        (&["user", "add", "bus", "--password-stdin"], PASSWORD, 1, "not 'bus'"),
        (&["user", "add", "otto", "--password-stdin"], "", 1, "standard input holds no password"),
        (&["user", "add", "otto", "--password-stdin", "--scope", "eat:x"], PASSWORD, 1, "is no scope"),
        (&["user", "password", "otto", "--password-stdin"], PASSWORD, 1, "there is no user 'otto'"),
        (&["user", "enable", "anna"], "", 1, "there is no disabled subject 'anna'"),
        (&["key", "remove", "abcdef"], "", 1, "there is no API key 'abcdef'"),
        (
            &["certificate", "add", "nothing.pem", "--subject", "panel"],
            "",
            2,
            "as a PEM file it cannot be read",
        ),
        (&["login"], "", 2, "say how to log in"),
    ] {
        let done = place.run_reading(&[&["auth"], args].concat(), stdin);
        assert_eq!(done.code, Some(code), "{args:?}: {done:?}");
        assert!(done.err.contains(said) && done.out.is_empty(), "{args:?}: {done:?}");
    }
    let list = json(&place.succeed(&["auth", "user", "list", "--json"]));
    assert_eq!(list["users"].as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn without_a_terminal_a_password_is_not_asked_for() {
    let place = Place::new();
    let mut command = std::process::Command::new("setsid");
    command.args(["--wait", env!("CARGO_BIN_EXE_visorbus"), "auth", "user", "add", "anna"]);
    command.env("VISORBUS_KEY_FILE", place.key_file()).env("VISORBUS_SOCKET", place.socket());
    let done = Process::start(&mut command).finish();
    done.expect_failure(1, "visorbus: message error: there is no terminal", &["--password-stdin"]);
}

#[test]
fn an_api_key_lives_as_long_as_it_is_let() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let added = place.run(&["auth", "key", "add", "recorder", "--scope", "subscribe:room/**"]);
    assert!(added.code == Some(0) && added.out.starts_with("vbk1."), "{added:?}");
    assert!(!added.err.contains(&added.out), "it is shown once: {added:?}");
    let (key, prefix) = (added.out.as_str(), added.out.split('.').nth(1).unwrap());
    let log_in = |key: &str| {
        place.run_reading(&["auth", "login", "--user", "recorder", "--api-key-stdin", "--json"], key)
    };
    let answer = json(&log_in(key).out);
    assert_eq!((&answer["subject"], &answer["scopes"]), (&json!("recorder"), &json!(["subscribe:room/**"])));
    let last = if key.ends_with('0') { "1" } else { "0" };
    let wrong = log_in(&format!("{}{last}", &key[..key.len() - 1]));
    assert_eq!(wrong.code, Some(4), "{wrong:?}");
    let list = place.succeed(&["auth", "key", "list"]);
    assert!(list.contains(prefix) && !list.contains(&key[prefix.len() + 6..]), "{list}");

    let watch = watch(&place, &["--user", "recorder", "--api-key-stdin"], key);
    let said = place.succeed(&["auth", "key", "disable", prefix]);
    assert!(said.contains("is stopped; the hub knows: 1 session ended"), "{said}");
    assert_eq!(watch.finish().code, Some(4));
    assert_eq!(log_in(key).code, Some(4));
    place.succeed(&["auth", "key", "enable", prefix]);
    assert_eq!(log_in(key).code, Some(0));
    place.succeed(&["auth", "key", "remove", prefix]);
    assert_eq!(log_in(key).code, Some(4));
}

#[test]
fn a_certificate_is_known_by_its_hash() {
    let place = Place::new();
    let id = format!("sha256:{}", "ab".repeat(32));
    place.succeed(&["auth", "certificate", "add", &id, "--subject", "panel", "--scope", "panel"]);
    let list = json(&place.succeed(&["auth", "certificate", "list", "--json"]));
    assert_eq!(list, json!([{ "certificate": id, "subject": "panel", "scopes": ["panel"] }]));
    let twice = place.run(&["auth", "certificate", "add", &id, "--subject", "other"]);
    twice.expect_failure(1, "visorbus: message error: this certificate is known", &[]);
    place.succeed(&["auth", "certificate", "remove", &id]);
    assert_eq!(json(&place.succeed(&["auth", "certificate", "list", "--json"])), json!([]));
    // A private key in the place of a certificate is not shown.
    let pem = place.path().join("own.pem");
    fs::write(&pem, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n").unwrap();
    let done = place.run(&["auth", "certificate", "add", pem.to_str().unwrap(), "--subject", "panel"]);
    assert!(done.code == Some(2) && done.err.contains("of no certificate"), "{done:?}");
    assert!(!done.err.contains("c2VjcmV0"), "{done:?}");
}

#[test]
fn a_refreshed_token_is_void_and_so_is_its_family_when_it_is_used_again() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    add_user(&place, "anna", &["subscribe:room/**", "request:bus/*"]);
    let old = token_of(&place, "anna");
    let refreshed = place.run_reading(&["auth", "token", "refresh", "-"], &old);
    assert_eq!(refreshed.code, Some(0), "{refreshed:?}");
    let fresh = refreshed.out.as_str();
    assert_ne!(fresh, old);
    place.succeed(&["services", "--token", fresh]);
    place.run(&["services", "--token", &old]).expect_failure(4, "visorbus: authentication error:", &[]);
    // Somebody has a copy of it: nobody can tell who is who.
    place.run(&["services", "--token", fresh]).expect_failure(4, "visorbus: authentication error:", &[]);
}

#[test]
fn what_is_taken_back_ends_at_once_and_without_a_hub_too() {
    let place = Place::new();
    let hub = place.serve(&[]);
    add_user(&place, "anna", &["subscribe:room/**"]);
    let (one, other) = (token_of(&place, "anna"), token_of(&place, "anna"));
    let (first, second) = (watch(&place, &["--token", &one], ""), watch(&place, &["--token", &other], ""));
    let said = place.run_reading(&["auth", "token", "revoke", "-"], &one);
    assert!(said.out.contains("the token is void") && said.out.contains("1 session ended"), "{said:?}");
    assert_eq!(first.finish().code, Some(4));
    let said = json(&place.succeed(&["auth", "token", "revoke", "--subject", "anna", "--json"]));
    assert_eq!(
        said["hub"],
        json!({ "reached": true, "ended": { "sessions": 1, "subscriptions": 0, "components": 0 } })
    );
    assert_eq!(second.finish().code, Some(4));

    let third = token_of(&place, "anna");
    hub.signal(Signal::SIGTERM);
    hub.finish();
    let said = place.succeed(&["auth", "token", "revoke", "--key-id", "0"]);
    assert!(said.contains("no hub runs that would have to know"), "{said}");
    let unknown = place.run(&["auth", "token", "revoke", "--key-id", "9"]);
    unknown.expect_failure(1, "visorbus: message error: there is no key 9", &[]);
    let _hub = place.serve(&[]);
    place.run(&["subscribe", "room/**", "--token", &third]).expect_failure(
        4,
        "visorbus: authentication",
        &[],
    );
    // The owner's own tokens are made anew.
    place.succeed(&["services"]);
}

#[test]
fn a_command_that_is_killed_in_the_middle_leaves_the_accounts_whole() {
    let place = Place::new();
    add_user(&place, "anna", &[]);
    let new = place.store_file().with_extension("json.new");
    let file = || fs::metadata(place.store_file()).unwrap().ino();
    for round in 0..40 {
        let name = format!("user-{round}");
        let args = ["auth", "certificate", "add", &format!("uri:test:{round}"), "--subject", &name];
        let before = file();
        let mut process = place.start(&args);
        // Before it does anything, while it writes, when it has written, and when it is over.
        let is_there = || match round % 4 {
            0 => true,
            1 => new.exists(),
            2 => file() != before,
            _ => false,
        };
        while !is_there() && !process.has_ended() {
            std::thread::yield_now();
        }
        if !process.has_ended() {
            process.signal(Signal::SIGKILL);
        }
        process.finish();
        let list = json(&place.succeed(&["auth", "user", "list", "--json"]));
        assert_eq!(list["users"][0]["name"], "anna", "{round}");
    }
    add_user(&place, "otto", &[]);
    let left: Vec<_> =
        fs::read_dir(place.path().join("state")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");
}

#[test]
fn accounts_that_others_could_read_or_that_are_damaged_let_nobody_in() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    add_user(&place, "anna", &[]);
    fs::set_permissions(place.store_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let serve = place.run(&["serve"]);
    serve.expect_failure(1, "visorbus: authentication error:", &["accounts.json has mode 0644", "chmod 600"]);
    fs::set_permissions(place.store_file(), fs::Permissions::from_mode(0o600)).unwrap();
    let mut text = fs::read_to_string(place.store_file()).unwrap();
    text = text.replacen("anna", "otto", 1);
    fs::write(place.store_file(), text).unwrap();
    for args in [&["serve"] as &[&str], &["auth", "user", "list"]] {
        let done = place.run(args);
        assert_ne!(done.code, Some(0), "{args:?}");
        assert!(done.err.contains("are damaged") && !done.err.contains("otto"), "{done:?}");
    }
}

#[test]
fn the_audit_is_a_topic_and_tells_no_secret() {
    let place = Place::new();
    let mut hub = place.serve(&[]);
    add_user(&place, "anna", &["subscribe:room/**"]);
    let mut audit = place.start(&["subscribe", "bus/audit"]);
    // Until somebody is refused after the subscription is there.
    let refused = loop {
        log_in(&place, "anna", "wrong secret");
        if let Some(line) = audit.try_line() {
            break json(&line);
        }
    };
    assert_eq!(refused["topic"], "bus/audit");
    let event = &refused["payload"];
    assert_eq!(
        (&event["what"], &event["method"], &event["transport"]),
        (&json!("refused"), &json!("password"), &json!("unix"))
    );
    let said = hub.wait_for_error("refused");
    assert!(!said.contains("wrong secret") && !refused.to_string().contains("wrong secret"), "{said}");
}
