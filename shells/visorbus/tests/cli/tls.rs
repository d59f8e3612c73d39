//! `visorbus tls`: an authority of one's own, and the certificates that it makes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::place::{Place, Process};

fn directory(place: &Place) -> PathBuf {
    place.path().join("state/tls")
}

fn shown(place: &Place, file: &str) -> Value {
    let list: Vec<Value> = serde_json::from_str(&done(place, &["tls", "show", "--json"])).unwrap();
    let file = directory(place).join(file);
    list.into_iter()
        .find(|shown| shown["file"] == json!(file))
        .unwrap_or_else(|| panic!("no {}", file.display()))
}

/// What a command prints that does not fail; what it tells beside that, it tells on standard error.
fn done(place: &Place, args: &[&str]) -> String {
    let done = place.run(args);
    assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
    done.out
}

#[test]
fn an_authority_is_made_once_and_its_keys_are_this_users_alone() {
    let place = Place::new();
    let missing =
        format!("visorbus: message error: there is no authority in {}", directory(&place).display());
    for early in [&["tls", "show"][..], &["tls", "renew"], &["tls", "client", "panel"]] {
        place.run(early).expect_failure(1, &missing, &["`visorbus tls init` makes one"]);
    }
    // What others may have of it is up to the umask, for the keys is not.
    let init = "umask 022; exec visorbus tls init --name headset.local";
    let ca = Process::start(&mut place.shell(init)).finish().out;
    assert_eq!(ca.trim(), directory(&place).join("ca.crt").display().to_string());
    for (file, mode) in [("ca.key", 0o600), ("hub.key", 0o600), ("ca.crt", 0o644), ("hub.crt", 0o644)] {
        assert_eq!(fs::metadata(directory(&place).join(file)).unwrap().mode() & 0o777, mode, "{file}");
    }
    assert_eq!(fs::metadata(directory(&place)).unwrap().mode() & 0o777, 0o700);
    let before = fs::read(directory(&place).join("ca.crt")).unwrap();
    place.run(&["tls", "init"]).expect_failure(
        1,
        "visorbus: message error: there is an authority",
        &["renew"],
    );
    assert_eq!(fs::read(directory(&place).join("ca.crt")).unwrap(), before);
}

#[test]
fn a_renewed_certificate_is_for_the_same_names_and_what_was_added() {
    let place = Place::new();
    done(&place, &["tls", "init", "--name", "headset.local", "--lifetime", "1d"]);
    let first = shown(&place, "hub.crt");
    let names = first["names"].as_array().unwrap();
    for name in ["localhost", "127.0.0.1", "::1", "headset.local"] {
        assert!(names.contains(&json!(name)), "{first}");
    }
    place.run(&["tls", "renew", "--name", "no name"]).expect_failure(
        1,
        "visorbus: message error: 'no name' is neither a host's name nor an IP address",
        &[],
    );
    place.run(&["tls", "renew", "--lifetime", "36500d"]).expect_failure(
        1,
        "visorbus: message error: a certificate cannot be good for so long",
        &["--lifetime"],
    );
    assert_eq!(shown(&place, "hub.crt"), first, "what was refused has changed nothing");
    done(&place, &["tls", "renew", "--name", "192.168.1.20"]);
    let second = shown(&place, "hub.crt");
    let names = second["names"].as_array().unwrap();
    assert!(names.contains(&json!("headset.local")) && names.contains(&json!("192.168.1.20")), "{second}");
    assert!(second["not_after"].as_u64() > first["not_after"].as_u64(), "{first} {second}");
}

#[test]
fn a_clients_certificate_says_whom_its_owner_is_taken_for() {
    let place = Place::new();
    done(&place, &["tls", "init"]);
    let made: Value = serde_json::from_str(&done(&place, &["tls", "client", "panel", "--json"])).unwrap();
    assert_eq!(made["uri"], json!("visorbus:panel"));
    assert_eq!(shown(&place, "panel.crt")["names"], json!(["visorbus:panel"]));
    assert_eq!(fs::metadata(made["key"].as_str().unwrap()).unwrap().mode() & 0o777, 0o600);
    for wrong in ["ca", "hub", "../panel", "Panel", ""] {
        place.run(&["tls", "client", wrong]).expect_failure(
            1,
            "visorbus: message error: '",
            &["cannot name a client"],
        );
    }
    let text = done(&place, &["tls", "show"]);
    assert!(text.contains("panel.crt") && !text.contains(".key"), "{text}");
}
