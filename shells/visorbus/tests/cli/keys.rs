//! `visorbus key`: keys of links for boards, and the hub's own as one follows the other.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::place::{Place, Process};

fn list(place: &Place) -> Value {
    serde_json::from_str(&place.succeed(&["key", "list", "--json"])).unwrap()
}

fn provision(place: &Place, args: &[&str]) -> String {
    let done = place.run(&[&["key", "provision"], args].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.starts_with("vbl1.") && done.out.lines().count() == 1, "{done:?}");
    assert!(!done.err.contains(&done.out) && done.err.contains("shown this once"), "{done:?}");
    done.out
}

#[test]
fn a_board_has_several_link_keys_while_one_follows_the_other() {
    let place = Place::for_boards();
    let first = provision(&place, &["imu"]);
    let second = provision(&place, &["imu", "--suite", "sealed"]);
    let third = provision(&place, &["imu", "--id", "200"]);
    assert!(first != second && second != third);
    let keys = list(&place);
    let facts: Vec<_> =
        keys["link"].as_array().unwrap().iter().map(|key| (&key["id"], &key["suite"])).collect();
    assert_eq!(
        facts,
        [(&json!(0), &json!("tag64")), (&json!(1), &json!("sealed")), (&json!(200), &json!("tag64"))]
    );
    let text = place.succeed(&["key", "list"]) + &keys.to_string();
    for secret in [&first, &second, &third] {
        assert!(!text.contains(&secret[12..]), "{text}");
    }
    let taken = place.run(&["key", "provision", "imu", "--id", "1"]);
    taken.expect_failure(1, "visorbus: message error: 'imu' has a link key 1", &["another id"]);
    place.run(&["key", "provision", "IMU"]).expect_failure(1, "visorbus: message error: a name is", &[]);
    place.succeed(&["key", "remove", "imu", "0"]);
    place.run(&["key", "remove", "imu", "0"]).expect_failure(
        1,
        "visorbus: message error: there is no link key",
        &[],
    );
    assert_eq!(list(&place)["link"].as_array().unwrap().len(), 2);
}

#[test]
fn a_key_for_machines_is_one_object() {
    let place = Place::for_boards();
    let object: Value = serde_json::from_str(&place.succeed(&["key", "provision", "imu", "--json"])).unwrap();
    assert_eq!(
        (&object["name"], &object["id"], &object["suite"]),
        (&json!("imu"), &json!(0), &json!("tag64"))
    );
    assert!(object["link_key"].as_str().unwrap().starts_with("vbl1."));
    assert_eq!(object["hub"], json!({ "reached": false }));
}

#[test]
fn a_board_is_in_service_by_its_key_and_out_of_it_when_the_key_is_removed() {
    let place = Place::for_boards();
    let (_hub, _board) = place.serve_board();
    assert!(place.succeed(&["call", "imu/info"]).contains("firmware"));
    let mut watch = place.start(&["services", "--watch", "--json"]);
    // What is there comes first.
    assert!(watch.line().contains("imu/"), "it watches");
    place.succeed(&["key", "remove", "imu", "0"]);
    loop {
        let line = watch.line();
        if line.contains(r#""component":"imu""#) && line.contains(r#""up":false"#) {
            break;
        }
    }
    let gone = place.run(&["call", "imu/info", "--timeout", "2s"]);
    assert_ne!(gone.code, Some(0), "{gone:?}");
}

#[test]
fn a_board_with_a_key_of_another_hub_is_a_stranger() {
    let place = Place::for_boards();
    let foreign = provision(&Place::for_boards(), &["imu"]);
    provision(&place, &["imu"]);
    let mut board = Process::start(place.command(&["demo-node"]).env("VISORBUS_LINK_KEY", foreign));
    let line = board.line();
    let _hub = place.serve(&["--serial", &line]);
    // A board that may come in is there within milliseconds; this one gets a whole second.
    let call = place.run(&["call", "imu/info", "--timeout", "1s"]);
    assert_eq!(call.code, Some(1), "{call:?}");
    assert!(call.err.contains("nobody serves 'imu'"), "{call:?}");
}

#[test]
fn a_new_root_key_makes_the_tokens_and_the_old_one_checks_until_it_is_retired() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let mint = || place.succeed(&["auth", "token", "mint", "--subject", "panel", "--scope", "*"]);
    let old = mint();
    let device = place.succeed(&["key", "device", "imu"]);
    let said = place.succeed(&["key", "rotate", "--keep", "7d"]);
    assert!(said.contains("the root key 1 makes all tokens") && said.contains("7 d"), "{said}");
    assert_ne!(place.succeed(&["key", "device", "imu"]), device);
    let root = list(&place)["root"].clone();
    assert_eq!(
        (&root[0]["id"], &root[0]["current"], &root[0]["not_after"]),
        (&json!(1), &json!(true), &Value::Null)
    );
    assert!(root[1]["id"] == 0 && root[1]["not_after"].is_u64(), "{root}");
    let fresh = mint();
    for token in [&old, &fresh] {
        place.succeed(&["services", "--token", token]);
    }
    place.run(&["key", "retire", "1"]).expect_failure(1, "visorbus: message error:", &[]);
    let live = place.start(&["services", "--watch", "--token", &old]);
    place.succeed(&["services"]);
    place.succeed(&["key", "retire", "0"]);
    assert_eq!(live.finish().code, Some(4));
    place.run(&["services", "--token", &old]).expect_failure(4, "visorbus: authentication error:", &[]);
    place.succeed(&["services", "--token", &fresh]);
}

#[test]
fn a_hub_that_does_not_answer_does_not_undo_what_is_written_down() {
    let place = Place::new();
    let hub = place.serve(&[]);
    hub.signal(Signal::SIGSTOP);
    let done = place.run(&["key", "provision", "imu"]);
    hub.signal(Signal::SIGCONT);
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("the change is written down, but the hub at"), "{done:?}");
    assert!(done.out.starts_with("vbl1."), "it is shown all the same: {done:?}");
    assert_eq!(list(&place)["link"][0]["name"], "imu");
}
