//! `visorbus doctor`: what it finds, what it says to do, and that it does nothing itself.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::place::Place;

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
    assert!(said(&findings, "hub", "warn").1.contains("visorbus serve"));
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
