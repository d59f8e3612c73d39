//! `visorbus doctor`: what it finds, what it says to do, and that it does nothing itself.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::place::{Place, Process};

/// What is found, and the exit code.
fn examine(place: &Place, args: &[&str]) -> (Vec<Value>, i32) {
    let done = place.run(&[&["doctor", "--json"], args].concat());
    (
        serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}{}", done.out, done.err)),
        done.code.unwrap(),
    )
}

/// What is said of a check in this state: text, and what to do.
fn said(findings: &[Value], check: &str, state: &str) -> (String, String) {
    let found = findings.iter().find(|f| f["check"] == check && f["state"] == state);
    let found = found.unwrap_or_else(|| panic!("no {state} {check}: {findings:#?}"));
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("text"), text("mend"))
}

/// All files of a place: how they are, and when they were changed.
fn files(below: &Path, into: &mut BTreeMap<PathBuf, (u32, i64, i64)>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        into.insert(path.clone(), (found.mode(), found.mtime(), found.mtime_nsec()));
        if found.is_dir() {
            files(&path, into);
        }
    }
}

#[test]
fn a_hub_that_is_well_is_found_so_and_nothing_is_changed() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let snapshot = || {
        let mut all = BTreeMap::new();
        files(place.path(), &mut all);
        all
    };
    let before = snapshot();
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 0, "{findings:#?}");
    assert!(said(&findings, "hub", "ok").0.contains("answers"));
    assert!(said(&findings, "keys", "ok").0.contains("alone"));
    assert_eq!(snapshot(), before);
    // And where there is nothing yet, there is nothing afterwards.
    let empty = Place::new();
    let mut before = BTreeMap::new();
    files(empty.path(), &mut before);
    let (findings, code) = examine(&empty, &[]);
    assert_eq!(code, 0, "{findings:#?}");
    let start = said(&findings, "hub", "warn").1;
    assert!(start.contains("visorbus serve") && start.contains("systemctl --user enable --now"), "{start}");
    let mut after = BTreeMap::new();
    files(empty.path(), &mut after);
    assert_eq!(after, before);
}

#[test]
fn what_is_wrong_is_found_with_what_to_do_and_fails() {
    let place = Place::new();
    drop(place.serve(&[]));
    fs::set_permissions(place.key_file(), Permissions::from_mode(0o644)).unwrap();
    fs::write(place.policy_file(), "[[rule\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let config = place.path().join("wrong.toml");
    fs::write(
        &config,
        format!(
            "[websocket]\nenabled = true\nbind_address = \"{port}\"\n[links]\nserial = [\"/dev/visorbus-none\", \"/etc/passwd@9600\"]\n"
        ),
    )
    .unwrap();
    let (findings, code) = examine(&place, &["--config", config.to_str().unwrap()]);
    assert_eq!(code, 1);
    let (text, mend) = said(&findings, "keys", "fail");
    assert!(text.contains("mode 644") && mend.contains("chmod 0600"), "{text} {mend}");
    said(&findings, "policy", "fail");
    assert!(said(&findings, "port", "fail").0.contains(&port.to_string()));
    assert!(said(&findings, "serial", "warn").0.contains("/dev/visorbus-none"));
    assert!(said(&findings, "serial", "fail").0.contains("no device"));

    fs::set_permissions(&config, Permissions::from_mode(0o666)).unwrap();
    let (findings, code) = examine(&place, &["--config", config.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(said(&findings, "config", "fail").1.contains("chmod o-w"), "{findings:#?}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_quoted_and_the_rest_is_looked_at() {
    let place = Place::new();
    let config = place.path().join("wrong.toml");
    fs::write(&config, "[websocket]\nenable = true\n").unwrap();
    let (findings, code) = examine(&place, &["--config", config.to_str().unwrap()]);
    assert_eq!(code, 1);
    let (text, _) = said(&findings, "config", "fail");
    assert!(text.contains("enable") && text.contains("wrong.toml"), "{text}");
    said(&findings, "clock", "ok");
}

#[test]
fn a_file_in_the_place_of_the_socket_fails() {
    let place = Place::new();
    fs::create_dir_all(place.socket().parent().unwrap()).unwrap();
    fs::write(place.socket(), "").unwrap();
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 1);
    assert!(said(&findings, "socket", "fail").0.contains("no socket"));
    assert!(place.socket().exists());
}

/// Runs the command that a mend quotes.
fn mend(place: &Place, mend: &str) {
    let command = mend.split('`').nth(1).unwrap_or_else(|| panic!("no command: {mend}"));
    let done = Process::start(&mut place.shell(command)).finish();
    assert_eq!(done.code, Some(0), "{command}: {done:?}");
}

/// A certificate that is good no more, with its key.
fn write_expired(certificate: &Path, key: &Path) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    fs::write(certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(key, pair.serialize_pem()).unwrap();
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn certificates_of_the_hubs_own_are_looked_at_and_what_is_said_mends_them() {
    let place = Place::new();
    let tls = |more: &str| {
        place.configure(&format!(
            "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\ntls_enabled = true\n{more}"
        ));
    };
    tls("");
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 1);
    mend(&place, &said(&findings, "config", "fail").0);
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 0, "{findings:#?}");
    let own = place.path().join("state/tls");
    assert!(said(&findings, "tls", "ok").0.contains(own.join("hub.crt").to_str().unwrap()));

    fs::write(own.join("hub.crt"), "no certificate").unwrap();
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 1);
    mend(&place, &said(&findings, "tls", "fail").1);
    assert_eq!(examine(&place, &[]).1, 0);

    write_expired(&own.join("hub.crt"), &own.join("hub.key"));
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 1);
    let (text, command) = said(&findings, "tls", "fail");
    assert!(text.contains("is over"), "{text}");
    mend(&place, &command);
    assert_eq!(examine(&place, &[]).1, 0);

    assert_eq!(place.run(&["tls", "renew", "--lifetime", "3d"]).code, Some(0));
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 0);
    mend(&place, &said(&findings, "tls", "warn").1);

    // What somebody else made somebody else renews.
    let (certificate, key) = (place.path().join("theirs.crt"), place.path().join("theirs.key"));
    write_expired(&certificate, &key);
    tls(&format!("tls_cert_path = {certificate:?}\ntls_key_path = {key:?}\n"));
    let (findings, code) = examine(&place, &[]);
    assert_eq!(code, 1);
    let (_, mend) = said(&findings, "tls", "fail");
    assert!(mend.contains("theirs.crt") && !mend.contains("visorbus tls"), "{mend}");
}

#[test]
fn what_the_configuration_names_is_looked_at_also_when_the_keys_are_elsewhere() {
    let place = Place::new();
    let named = |file: &str| place.path().join(file).to_str().unwrap().to_owned();
    let (accounts, policy) = (named("other/accounts.json"), named("other/policy.toml"));
    fs::create_dir(place.path().join("other")).unwrap();
    fs::write(&accounts, "{}").unwrap();
    fs::set_permissions(&accounts, Permissions::from_mode(0o644)).unwrap();
    fs::write(&policy, "[[rule\n").unwrap();
    let config = named("named.toml");
    fs::write(&config, format!("[auth]\naccounts_file = {accounts:?}\npolicy_file = {policy:?}\n")).unwrap();
    let own = ["--config", &config];
    for args in [&own[..], &["--config", &config, "--key-file", &named("keys/root.key")]] {
        let (findings, code) = examine(&place, args);
        assert_eq!(code, 1);
        assert!(said(&findings, "accounts", "fail").0.contains(&accounts), "{findings:#?}");
        assert!(said(&findings, "policy", "fail").0.contains(&policy), "{findings:#?}");
    }
    let findings = examine_system(&place, &own);
    assert!(said(&findings, "accounts", "fail").0.contains(&accounts), "{findings:#?}");
    assert!(said(&findings, "policy", "fail").0.contains(&policy), "{findings:#?}");
    // And what it does not name is where the unit has it.
    fs::write(&config, "").unwrap();
    let findings = examine_system(&place, &own);
    let texts: Vec<_> = findings.iter().map(|finding| finding["text"].as_str().unwrap()).collect();
    for path in ["/var/lib/visorbus/root.key", "/var/lib/visorbus/accounts.json"] {
        assert!(texts.iter().any(|text| text.contains(path)), "{path}: {texts:#?}");
    }
}

/// What is found of the machine's hub, by somebody who may open few files; systemd says that its unit may open more.
fn examine_system(place: &Place, args: &[&str]) -> Vec<Value> {
    let bin = place.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let systemctl = bin.join("systemctl");
    fs::write(
        &systemctl,
        "#!/bin/sh\n[ \"$2\" != show ] || printf 'LoadState=loaded\\nLimitNOFILESoft=4096\\n'\n",
    )
    .unwrap();
    fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
    let mut command = place.shell("ulimit -n 200 && exec visorbus doctor --system --json \"$@\"");
    command.arg("sh").args(args).env_remove("VISORBUS_SOCKET").env_remove("VISORBUS_KEY_FILE");
    let path = command.get_envs().find_map(|(name, value)| (name == "PATH").then_some(value?)).unwrap();
    let path = format!("{}:{}", bin.display(), path.to_str().unwrap());
    let done = Process::start(command.env("PATH", path)).finish();
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

#[test]
fn how_many_files_the_machines_hub_may_open_is_what_its_unit_says() {
    let place = Place::new();
    let (own, _) = examine(&place, &[]);
    assert!(own.iter().any(|finding| finding["check"] == "files"), "{own:#?}");
    let findings = examine_system(&place, &[]);
    assert!(said(&findings, "files", "ok").0.contains("4096"), "{findings:#?}");
}

#[test]
fn a_configuration_that_is_named_and_not_there_fails() {
    let place = Place::new();
    let missing = place.path().join("missing.toml");
    let (findings, code) = examine(&place, &["--config", missing.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(said(&findings, "config", "fail").1.contains("config init"));
}
