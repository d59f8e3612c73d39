//! `visorbus config`: the file written, checked, shown and changed, with a hub and without.

use std::fs;
use std::os::unix::fs::chown;

use nix::sys::signal::Signal;

use crate::place::{Done, Place, Process};

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

#[test]
fn a_variable_that_nobody_reads_is_said_in_one_line_and_fails_nothing() {
    let place = Place::new();
    place.configure("");
    let run = |args: &[&str], variables: &[&str]| {
        let mut command = place.command(args);
        command.envs(variables.iter().map(|name| (name, "info")));
        Process::start(&mut command).finish()
    };
    let misspelt = ["VISORBUS_LOG_LEVL", "VISORBUS_SOMETHING_OF_MINE"];
    let line = "visorbus: nobody reads what the environment has as VISORBUS_LOG_LEVL (did you mean VISORBUS_LOG_LEVEL?), \
                VISORBUS_SOMETHING_OF_MINE";
    let check = run(&["config", "check"], &misspelt);
    assert_eq!((check.code, check.err.as_str()), (Some(0), line), "{check:?}");
    assert!(check.out.starts_with("nothing is wrong"), "{check:?}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&["config", "check", "--json"], &misspelt).out).unwrap();
    assert!(json["warnings"][0].as_str().unwrap().contains("VISORBUS_LOG_LEVEL?"), "{json}");
    let show = run(&["config", "show", "--effective"], &misspelt);
    assert!(show.code == Some(0) && show.err.ends_with(line), "{show:?}");
    let doctor = run(&["doctor", "--json"], &misspelt);
    let found: Vec<serde_json::Value> = serde_json::from_str(&doctor.out).unwrap();
    let of = |found: &serde_json::Value| found["text"].as_str().unwrap().contains("VISORBUS_LOG_LEVL");
    assert_eq!(found.iter().find(|found| of(found)).unwrap()["state"], "warn", "{doctor:?}");
    // What somebody reads, options of commands too, is no news.
    for variables in
        [&["VISORBUS_LOG_LEVEL"] as &[&str], &["VISORBUS_POLICY", "VISORBUS_CA", "VISORBUS_LINK_KEY"]]
    {
        let check = run(&["config", "check"], variables);
        assert_eq!((check.code, check.err.as_str()), (Some(0), ""), "{variables:?}");
    }

    let mut serve = place.command(&["serve"]);
    serve.env("VISORBUS_WEBSOCKET_BIND_ADRESS", "127.0.0.1:0").env("VISORBUS_TOKEN", "vb1.none");
    let mut hub = Process::start(&mut serve);
    let said = hub.wait_for_error("nobody reads");
    assert!(
        said.contains("WARN") && said.contains("did you mean VISORBUS_WEBSOCKET_BIND_ADDRESS?"),
        "{said}"
    );
    hub.wait_for_error("visorbus serves on");
    hub.signal(Signal::SIGTERM);
    assert!(!hub.finish().err.contains("nobody reads"), "once");
}

#[test]
fn a_file_of_another_user_is_refused_by_all_who_would_do_what_it_says() {
    let place = Place::new();
    place.configure("[log]\nlevel = \"info\"\n");
    if chown(place.config_file(), Some(4242), None).is_err() {
        // Only root can make a file another's.
        return;
    }
    let mend = format!("chown 0 {}", place.config_file().display());
    for args in [
        &["serve"] as &[&str],
        &["config", "check"],
        &["config", "show"],
        &["config", "set", "log.level", "warn"],
    ] {
        let done = place.run(args);
        assert!(done.code == Some(6) && done.err.contains("belongs to user 4242"), "{args:?}: {done:?}");
        assert!(done.err.trim_end().ends_with(&mend), "{done:?}");
    }
    let doctor = place.run(&["doctor"]);
    assert!(doctor.code == Some(1) && doctor.out.contains("belongs to user 4242"), "{doctor:?}");
    assert!(!place.socket().exists() && fs::read_to_string(place.config_file()).unwrap().contains("info"));
}
