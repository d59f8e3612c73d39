//! `visorbus config`: the file written, checked, shown and changed, with a hub and without.

use std::fs;

use crate::place::{Done, Place};

fn run(place: &Place, args: &[&str]) -> Done {
    place.run(&[&["config"], args].concat())
}

#[track_caller]
fn succeed(place: &Place, args: &[&str]) -> String {
    let done = run(place, args);
    assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
    done.out
}

#[test]
fn the_file_to_begin_with_is_right_and_is_written_once() {
    let place = Place::new();
    let file = place.config_file();
    assert!(!file.exists());
    assert_eq!(succeed(&place, &["init"]).trim(), file.display().to_string());
    let text = fs::read_to_string(&file).unwrap();
    assert!(succeed(&place, &["init", "--print"]).trim_end() == text.trim_end(), "it prints what it writes");
    assert!(text.contains("\n[unix_socket]\n") && text.contains("\n#level = "), "{text}");
    assert!(succeed(&place, &["check"]).starts_with("nothing is wrong with "));
    fs::write(&file, "# mine\n").unwrap();
    let again = run(&place, &["init"]);
    assert!(again.code == Some(1) && again.err.contains("is there already"), "{again:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
}

#[test]
fn what_is_wrong_is_said_line_by_line() {
    let place = Place::new();
    place.configure("[log]\nlevle = \"info\"\n\n[websockets]\n");
    let done = run(&place, &["check"]);
    assert!(done.code.is_some_and(|code| code != 0), "{done:?}");
    let lines: Vec<&str> = done.err.lines().collect();
    assert!(lines[0].ends_with(":2:1: there is no key 'log.levle': did you mean 'level'?"), "{done:?}");
    assert!(
        lines[1].ends_with(":4:2: there is no category 'websockets': did you mean 'websocket'?"),
        "{done:?}"
    );
    let json: serde_json::Value = serde_json::from_str(&run(&place, &["check", "--json"]).out).unwrap();
    assert_eq!(json["errors"].as_array().unwrap().len(), 2);
}

#[test]
fn without_a_hub_the_file_is_read_and_changed_with_the_same_checks() {
    let place = Place::new();
    let file = place.config_file();
    place.configure("# mine\n[log]\n#level = \"warn\"\n");
    let done = run(&place, &["set", "log.level", "debug"]);
    assert_eq!(done.out.trim(), "log.level is changed");
    assert!(done.err.contains("no hub runs: this is "), "{done:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n[log]\n#level = \"warn\"\nlevel = \"debug\"\n");
    assert_eq!(succeed(&place, &["get", "log.level"]), "debug");
    let shown = succeed(&place, &["show"]);
    assert!(shown.lines().count() == 2 && shown.contains("line 4 of the file"), "{shown}");
    let all: serde_json::Value =
        serde_json::from_str(&succeed(&place, &["show", "--effective", "--json"])).unwrap();
    assert!(all.as_array().unwrap().len() > 20);
    assert!(succeed(&place, &["list", "log"]).contains("log.level"));
    for (args, said) in [
        (&["set", "log.level", "loud"] as &[&str], "is one of"),
        (&["set", "log.levle", "info"], "did you mean 'level'?"),
        (&["get", "level"], "expected category.key"),
        (&["list", "logs"], "did you mean 'log'?"),
    ] {
        let done = run(&place, args);
        assert!(done.code == Some(1) && done.err.contains(said), "{args:?}: {done:?}");
    }
    succeed(&place, &["reset", "log.level"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n[log]\n#level = \"warn\"\n");

    // Another file, whatever runs.
    let other = place.path().join("other.toml").display().to_string();
    assert_eq!(run(&place, &["set", "log.level", "info", "--config", &other]).err, "");
    assert_eq!(fs::read_to_string(&other).unwrap(), "[log]\nlevel = \"info\"\n");
}
