//! `visorbus auth policy` and `explain`: rules are checked, shown, read again, and every decision names what made it.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::place::{Place, Process};

const POLICY: &str = r#"
[subjects.panel]
scopes = ["panel"]

[[rule]]
scope = "panel"
allow = ["subscribe:room/**", "request:imu/*"]
transports = ["unix"]
max_payload = 100

[[rule]]
scope = "panel"
allow = ["notify:room/*"]
from = "08:00"
until = "20:00"
"#;

fn panel_token(place: &Place) -> String {
    let minted = place.run(&["auth", "token", "mint", "--subject", "panel"]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.out
}

/// A subscription of the panel that has had a message.
fn watch(place: &Place, token: &str) -> Process {
    let mut watch = place.start(&["subscribe", "room/**", "--token", token]);
    loop {
        place.succeed(&["publish", "room/light", "1"]);
        if watch.try_line().is_some() {
            return watch;
        }
    }
}

fn is_allowed(place: &Place, token: &str) -> bool {
    let mut watch = place.start(&["subscribe", "room/**", "--token", token]);
    loop {
        place.succeed(&["publish", "room/light", "1"]);
        if watch.try_line().is_some() {
            return true;
        }
        if watch.has_ended() {
            assert_eq!(watch.finish().code, Some(4));
            return false;
        }
    }
}

#[test]
fn a_policy_is_checked_with_the_line_that_is_wrong() {
    let place = Place::new();
    let file = place.policy_file();
    // Where nobody has written one, a hub has no rules either.
    let none = format!("there is no {}: no rules, and tokens may do what they say", file.display());
    assert_eq!(place.succeed(&["auth", "policy", "check"]), none);
    place.run(&["auth", "policy", "check", "--policy", "/nowhere/policy.toml"]).expect_failure(
        1,
        "visorbus:",
        &["cannot read"],
    );
    place.write_policy(POLICY);
    assert!(place.succeed(&["auth", "policy", "check"]).ends_with("policy.toml is good: 2 rules"));
    let other = place.path().join("other.toml");
    let check = |text: &str| {
        fs::write(&other, text).unwrap();
        place.run(&["auth", "policy", "check", other.to_str().unwrap()])
    };
    for (text, place_of, said) in [
        ("[[rule]]\nscope = \"a\"\nallow = [\"eat:x\"]\n", "other.toml:3:10", "cannot be allowed"),
        ("[[rule]]\nscope = \"a\"\nallow = [\"request:x\"]\nmax_rat = 5\n", "other.toml:4", "unknown field"),
        ("[[rule\n", "other.toml:1", ""),
    ] {
        check(text).expect_failure(1, "visorbus: message error:", &[place_of, said]);
    }
    let missing = place.run(&["auth", "policy", "check", "/nowhere/policy.toml"]);
    missing.expect_failure(1, "visorbus: message error: cannot read /nowhere/policy.toml", &[]);
    let good: Value = serde_json::from_str(&place.succeed(&["auth", "policy", "check", "--json"])).unwrap();
    assert_eq!(good, json!({ "good": true, "file": file, "rules": 2 }));
}

#[test]
fn a_policy_is_shown_as_it_decides() {
    let place = Place::new();
    place.write_policy(POLICY);
    let shown = place.succeed(&["auth", "policy", "show"]);
    for part in
        ["subscribe:room/** request:imu/*", "max_payload=100 transports=unix", "from=08:00 until=20:00", ":5"]
    {
        assert!(shown.contains(part), "'{part}' is not in {shown}");
    }
    let shown: Value = serde_json::from_str(&place.succeed(&["auth", "policy", "show", "--json"])).unwrap();
    assert_eq!(shown["subjects"], json!({ "panel": ["panel"] }));
    assert_eq!(shown["rules"][0]["allow"], json!(["subscribe:room/**", "request:imu/*"]));
}

#[test]
fn an_explanation_names_what_decided_and_its_exit_code_says_it_too() {
    let place = Place::new();
    place.write_policy(POLICY);
    let explain = |args: &[&str]| {
        let done = place.run(&[&["auth", "explain"], args].concat());
        assert_eq!(done.err, "", "{args:?}");
        (done.code, done.out)
    };
    for (args, code, parts) in [
        (
            &["panel", "request", "imu/info"] as &[&str],
            0,
            &["allowed by the rule for 'panel'", "policy.toml:5"] as &[&str],
        ),
        (&["panel", "subscribe", "room/**"], 0, &["policy.toml:5"]),
        (&["panel", "subscribe", "**"], 4, &["refused", "'subscribe'"]),
        (&["panel", "request", "imu/info", "--payload", "101"], 4, &["up to 100 bytes", "policy.toml:5"]),
        (&["panel", "request", "imu/info", "--transport", "websocket"], 4, &["transport", "policy.toml:5"]),
        (&["panel", "notify", "room/light", "--at", "07:59"], 4, &["time of day", "policy.toml:11"]),
        (&["panel", "notify", "room/light", "--at", "08:00"], 0, &["policy.toml:11"]),
        (&["panel", "request", "imu/set-rate", "--needs", "imu.control"], 4, &["'imu.control'"]),
        (&["viewer", "request", "imu/info"], 4, &["refused", "'request'"]),
        (
            &["viewer", "request", "imu/info", "--scope", "a", "--scope", "request:imu/*"],
            0,
            &["token's scope 'request:imu/*'"],
        ),
        (&["viewer", "request", "imu/info", "--needs", "open"], 0, &["open to everybody"]),
    ] {
        let (found, out) = explain(args);
        assert_eq!(found, Some(code), "{args:?}: {out}");
        for part in parts {
            assert!(out.contains(part), "{args:?}: '{part}' is not in {out}");
        }
    }
    place.succeed(&["auth", "user", "disable", "panel"]);
    let (code, out) = explain(&["panel", "request", "imu/info", "--json"]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &out["allowed"]), (Some(4), &json!(false)));
    place.run(&["auth", "explain", "panel", "eat", "imu/info"]).expect_failure(
        2,
        "error: invalid value",
        &["request"],
    );
}

#[test]
fn an_account_is_explained_by_its_own_scopes() {
    let place = Place::new();
    let args = ["auth", "user", "add", "anna", "--scope", "request:imu/*", "--password-stdin"];
    assert_eq!(place.run_reading(&args, "secret").code, Some(0));
    let said = place.succeed(&["auth", "explain", "anna", "request", "imu/info"]);
    assert!(said.contains("'request:imu/*'"), "{said}");
}

#[test]
fn what_an_address_asks_for_is_known_from_the_running_hub() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let done =
        place.run(&["auth", "explain", "viewer", "request", "imu/set-rate", "--scope", "request:imu/*"]);
    assert!(done.code == Some(4) && done.out.contains("'imu.control'"), "{done:?}");
    place.succeed(&["auth", "explain", "viewer", "request", "imu/set-rate", "--scope", "imu.control"]);
}

#[test]
fn rules_come_and_go_with_sighup_and_by_command() {
    let place = Place::new();
    let mut hub = place.serve(&[]);
    let token = panel_token(&place);
    assert!(!is_allowed(&place, &token), "there is no rule yet");
    place.write_policy(POLICY);
    assert!(!is_allowed(&place, &token), "nobody has read it yet");
    hub.signal(Signal::SIGHUP);
    let said = hub.wait_for_error("are read again");
    assert!(said.contains("2 rules in") && said.contains("0 sessions ended"), "{said}");
    let live = watch(&place, &token);

    place.write_policy("[[rule]]\nscope = \"other\"\nallow = [\"request:x\"]\n");
    let said = place.succeed(&["auth", "policy", "reload"]);
    assert!(
        said.contains("the hub has read its policy: 0 sessions ended, 1 subscription taken back"),
        "{said}"
    );
    assert!(!is_allowed(&place, &token));
    drop(live);

    place.write_policy(POLICY);
    place.succeed(&["auth", "policy", "reload"]);
    assert!(is_allowed(&place, &token));
    fs::remove_file(place.policy_file()).unwrap();
    hub.signal(Signal::SIGHUP);
    assert!(hub.wait_for_error("are read again").contains("no rules in"));
    assert!(!is_allowed(&place, &token));
}

#[test]
fn a_policy_with_an_error_leaves_the_old_one_and_says_where_it_is() {
    let place = Place::new();
    place.write_policy(POLICY);
    let mut hub = place.serve(&[]);
    let token = panel_token(&place);
    let live = watch(&place, &token);
    place.write_policy("[[rule]]\nscope = \"panel\"\nallow = []\n");
    hub.signal(Signal::SIGHUP);
    let said = hub.wait_for_error("stays as it was");
    assert!(said.contains("policy.toml:3"), "{said}");
    let by_command = place.run(&["auth", "policy", "reload"]);
    by_command.expect_failure(1, "visorbus: message error:", &["policy.toml:3"]);
    assert!(is_allowed(&place, &token));
    assert!(!{ live }.has_ended());
    // Nor does it start a hub.
    drop(hub);
    place.run(&["serve"]).expect_failure(1, "visorbus: message error:", &["policy.toml:3"]);
    fs::remove_file(place.policy_file()).unwrap();
    let named = place.policy_file();
    let missing = place.run(&["serve", "--policy", named.to_str().unwrap()]);
    missing.expect_failure(1, "visorbus: message error: cannot read", &["policy.toml"]);
}

#[test]
fn accounts_that_are_damaged_while_the_hub_runs_leave_the_old_ones() {
    let place = Place::new();
    let mut hub = place.serve(&[]);
    let args = ["auth", "user", "add", "anna", "--scope", "subscribe:room/**", "--password-stdin"];
    assert_eq!(place.run_reading(&args, "secret").code, Some(0));
    let whole = fs::read(place.store_file()).unwrap();
    fs::write(place.store_file(), &whole[..whole.len() / 2]).unwrap();
    hub.signal(Signal::SIGHUP);
    let said = hub.wait_for_error("stays as it was");
    assert!(said.contains("accounts.json") && said.contains("damaged"), "{said}");
    let login = place.run_reading(&["auth", "login", "--user", "anna", "--password-stdin"], "secret");
    assert_eq!(login.code, Some(0), "{login:?}");
}

#[test]
fn a_member_of_the_sockets_group_logs_in_as_whom_the_policy_says() {
    if !nix::unistd::geteuid().is_root() || !has_program("setpriv") {
        eprintln!("SKIPPED: only root can start a process of another user, with setpriv");
        return;
    }
    let (uid, gid) = (61_234, 61_235);
    let place = Place::new();
    place
        .write_policy(&format!("[[unix]]\ngid = {gid}\nsubject = \"panel\"\nscopes = [\"panel\"]\n{POLICY}"));
    let _hub = place.serve(&["--socket-group", &gid.to_string()]);
    let as_other = |gid: u32, args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
        command.arg(env!("CARGO_BIN_EXE_visorbus")).args(args);
        command.env("VISORBUS_SOCKET", place.socket()).env("VISORBUS_KEY_FILE", place.key_file());
        Process::start(&mut command).finish()
    };
    // The directories up to the socket are this test's own: the group has to get through them.
    open_way(place.path());
    if as_other(gid, &["--version"]).code != Some(0) {
        eprintln!("SKIPPED: another user cannot run the command that was built here");
        return;
    }
    let login = as_other(gid, &["auth", "login", "--peer", "--user", "panel"]);
    assert!(login.code == Some(0) && login.out.starts_with("vb1."), "{login:?}");
    // The wrong name is told the right one.
    let wrong = as_other(gid, &["auth", "login", "--peer", "--user", "other"]);
    assert!(wrong.code == Some(4) && wrong.err.contains("use the name 'panel'"), "{wrong:?}");
    // What came of it is bound to that user: as root it is worth nothing.
    let elsewhere = place.run(&["subscribe", "room/**", "--token", &login.out]);
    assert_eq!(elsewhere.code, Some(4), "{elsewhere:?}");
    // Who is not in the group does not even reach the socket.
    let stranger = as_other(uid, &["auth", "login", "--peer", "--user", "panel"]);
    assert_eq!((stranger.code, stranger.out.as_str()), (Some(3), ""), "{stranger:?}");
    // The keys of the hub are not theirs.
    let owner = as_other(gid, &["services"]);
    assert_eq!(owner.code, Some(4), "{owner:?}");
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).exists())
}

/// Lets others through a directory, not see into it.
fn open_way(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).unwrap();
}
