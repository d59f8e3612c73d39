//! What people and programs do to a hub that runs: its options, its figures, its page, its end, and the tables that it is shown in.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::termios::Winsize;
use serde_json::Value;
use visorbus_services::config::{ConfigChange, ConfigEntry, ConfigOutcome};

use crate::place::{Done, Place, Process};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A token for somebody else who may do this alone.
fn token(place: &Place, scopes: &[&str]) -> String {
    let scopes = scopes.iter().flat_map(|scope| ["--scope", scope]);
    let args = ["auth", "token", "mint", "--subject", "guest"].into_iter().chain(scopes);
    place.succeed(&args.collect::<Vec<_>>())
}

/// `config watch`, which hears everything from now on.
fn watch(place: &Place, args: &[&str]) -> Process {
    let mut watch = place.start(&[&["config", "watch"], args].concat());
    watch.wait_for_error("watching");
    watch
}

#[test]
fn options_are_read_and_changed_through_the_hub_and_whoever_watches_sees_it() {
    let place = Place::new();
    place.configure("# mine\n[log]\n#level = \"warn\"\n");
    let _hub = place.serve(&["--set", "monitoring.interval_ms=500"]);
    let (mut people, mut programs) = (watch(&place, &["log.level"]), watch(&place, &["log", "--json"]));
    assert_eq!(place.succeed(&["config", "set", "log.level", "error"]), "log.level is changed");
    let line = people.line();
    assert!(line.starts_with("log.level = \"error\"  (by cli."), "{line}");
    let change: ConfigChange = serde_json::from_str(&programs.line()).unwrap();
    assert_eq!((change.key.as_str(), change.old), ("level", visorbus_hub::Value::Text("warn".to_owned())));
    let file = || fs::read_to_string(place.config_file()).unwrap();
    assert_eq!(file(), "# mine\n[log]\n#level = \"warn\"\nlevel = \"error\"\n");
    assert_eq!(place.succeed(&["config", "get", "log.level"]), "error");
    let entry: ConfigEntry =
        serde_json::from_str(&place.succeed(&["config", "get", "log.level", "--json"])).unwrap();
    assert_eq!(entry.origin.to_string(), "line 4 of the file");
    let outcome: ConfigOutcome =
        serde_json::from_str(&place.succeed(&["config", "set", "log.level", "error", "--json"])).unwrap();
    assert!(!outcome.changed);
    let above = place.succeed(&["config", "set", "monitoring.interval_ms", "2000"]);
    assert!(above.ends_with("it is kept, and the command line holds above it"), "{above}");
    assert_eq!(place.succeed(&["config", "get", "monitoring.interval_ms"]), "500");
    let shown = place.succeed(&["config", "show"]);
    assert!(shown.lines().any(|line| line.starts_with("log.level ") && line.ends_with("line 4 of the file")));
    let shown: Vec<ConfigEntry> =
        serde_json::from_str(&place.succeed(&["config", "show", "--json"])).unwrap();
    let listed: Vec<ConfigEntry> =
        serde_json::from_str(&place.succeed(&["config", "list", "--json"])).unwrap();
    assert!(shown.len() < 10 && listed.len() > 40, "{} of {}", shown.len(), listed.len());
    place.succeed(&["config", "reset", "log.level"]);
    assert_eq!(people.line().split("  ").next(), Some("log.level = \"warn\""), "nothing was told in between");
    assert!(!file().contains("\nlevel"), "{}", file());
}

#[test]
fn the_hub_and_the_file_alone_are_checked_alike() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let other = place.path().join("other.toml").display().to_string();
    for args in [
        &["set", "log.level", "loud"] as &[&str],
        &["set", "log.levle", "info"],
        &["set", "logs.level", "info"],
        &["set", "monitoring.interval_ms", "1"],
        &["set", "monitoring.interval_ms", "soon"],
        &["set", "monitoring.thresholds", "[\"no threshold\"]"],
        &["set", "websocket.enabled", "maybe"],
        &["get", "level"],
        &["get", "log.levle"],
        &["reset", "log.levle"],
        &["list", "logs"],
    ] {
        let by_hub = place.run(&[&["config"], args].concat());
        let by_file = place.run(&[&["config"], args, &["--config", &other]].concat());
        by_hub.expect_failure(1, "visorbus: message error: ", &[]);
        assert_eq!((by_hub.code, by_hub.err), (by_file.code, by_file.err), "{args:?}");
    }
    assert!(!place.config_file().exists() && !fs::exists(&other).unwrap(), "nothing was written");
}

#[test]
fn what_is_changed_in_the_file_alone_is_refused_with_the_way_to_do_it() {
    let place = Place::new();
    place.configure("");
    let _hub = place.serve(&[]);
    let refused = place.run(&["config", "set", "limits.max_peers", "9"]);
    let file = place.config_file().display().to_string();
    refused.expect_failure(
        4,
        "visorbus: authorization error",
        &[&format!("--config {file}"), "visorbus reload"],
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    place.succeed(&["config", "set", "limits.max_peers", "9", "--config", &file]);
    assert!(place.succeed(&["reload"]).contains("from the next start on: limits.max_peers"));
    assert!(place.succeed(&["status"]).contains("from the next start on: limits.max_peers"));
}

#[test]
fn a_token_changes_what_it_names_and_nothing_else() {
    let place = Place::new();
    place.configure("# mine\n");
    let _hub = place.serve(&[]);
    let mut watch = watch(&place, &[]);
    let guest =
        token(&place, &["request:config/get/**", "request:config/list", "request:config/set/monitoring/*"]);
    let run = |args: &[&str]| place.run(&[&["config"], args, &["--token", &guest]].concat());
    for refused in [
        &["set", "log.level", "debug"] as &[&str],
        &["reset", "log.level"],
        &["set", "hardware.enabled", "false"],
        &["watch"],
    ] {
        run(refused).expect_failure(4, "visorbus: authorization error", &[]);
    }
    for refused in ["status", "reload", "shutdown", "hardware", "monitor"] {
        let done = place.run(&[refused, "--token", &guest]);
        done.expect_failure(4, "visorbus: authorization error", &[]);
    }
    assert_eq!(fs::read_to_string(place.config_file()).unwrap(), "# mine\n");
    assert_eq!(run(&["get", "log.level"]).out, "warn");
    assert_eq!(run(&["set", "monitoring.interval_ms", "2000"]).out, "monitoring.interval_ms is changed");
    let line = watch.line();
    assert!(
        line.starts_with("monitoring.interval_ms = 2000  (by guest."),
        "the first change is this: {line}"
    );
}

#[test]
fn the_file_is_said_where_no_hub_runs_and_a_wrong_one_has_its_exit_code() {
    let place = Place::new();
    let file = place.config_file().display().to_string();
    let shown = place.run(&["config", "show"]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.err.contains(&format!("no hub runs: this is {file}")), "{shown:?}");
    assert!(shown.out.contains("nothing is set"), "{shown:?}");
    place.configure("[log]\nlevle = \"info\"\nlevel = 3\n");
    for args in [
        &["config", "check"] as &[&str],
        &["config", "get", "log.level"],
        &["config", "set", "log.level", "info"],
        &["config", "list"],
        &["serve"],
    ] {
        let done = place.run(args);
        assert_eq!(done.code, Some(6), "{args:?}: {done:?}");
        let wrong = format!("visorbus: {file}:2:1: there is no key 'log.levle': did you mean 'level'?");
        assert!(done.err.lines().any(|line| line == wrong), "{args:?}: {done:?}");
        assert!(done.err.lines().any(|line| line.contains(":3:")), "each of them: {done:?}");
    }
}

#[test]
fn status_says_where_there_is_no_configuration() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let file = place.config_file().display().to_string();
    let none = format!("no configuration: {file} is not there, so the defaults hold");
    assert!(place.succeed(&["status"]).contains(&none));
    assert_eq!(json(&place.succeed(&["status", "--json"]))["config_file_exists"], false);
    place.succeed(&["config", "set", "log.level", "error"]);
    assert!(place.succeed(&["status"]).contains(&format!("configuration in {file}")));
}

#[test]
fn programs_are_told_of_reloads_and_of_the_end_in_json() {
    let place = Place::new();
    let mut hub = place.serve(&[]);
    place.configure("[hardware]\nenabled = false\n");
    assert_eq!(json(&place.succeed(&["reload", "--json"]))["applied"][0], "hardware.enabled");
    place.configure("[hardware]\nenabeld = false\n");
    let broken = place.run(&["reload", "--json"]);
    assert_eq!(broken.code, Some(6));
    let refused = &json(&broken.out)["refused"][0];
    assert_eq!(refused["what"], "configuration");
    let why = refused["why"].as_str().unwrap();
    assert!(why.contains("visorbus.toml:2:1:") && why.contains("did you mean 'enabled'?"), "{why}");
    assert!(json(&broken.err)["error"]["text"].as_str().unwrap().contains(why));
    let status = json(&place.succeed(&["status", "--json"]));
    assert_eq!(status["refused"][0]["what"], "configuration");
    let ended = json(&place.succeed(&["shutdown", "--json"]));
    assert_eq!(ended, serde_json::json!({ "pid": hub.pid().as_raw(), "ended": true }));
    assert!(hub.has_ended() && !place.socket().exists());
    assert_eq!(hub.finish().code, Some(0));
}

#[test]
fn the_figures_are_a_page_for_whoever_has_a_token_for_them() {
    let place = Place::new();
    place.configure("[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n");
    let _hub = place.serve(&[]);
    let status = json(&place.succeed(&["status", "--json"]));
    let parts = status["parts"].as_array().unwrap();
    let url = parts.iter().find(|part| part["name"] == "websocket").unwrap()["place"].as_str().unwrap();
    let address = url.trim_start_matches("ws://").trim_end_matches('/');
    let page = |token: Option<&str>| {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n{token}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(page(None).starts_with("HTTP/1.1 401"));
    let other = token(&place, &["request:monitoring/health"]);
    assert!(page(Some(&other)).starts_with("HTTP/1.1 403"));
    let scraper = token(&place, &["request:monitoring/prometheus"]);
    let answer = page(Some(&scraper));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("# TYPE visorbus_"), "{answer}");
    place.succeed(&["config", "set", "monitoring.enabled", "false"]);
    let gone = |done: Done| done.code == Some(1) && done.err.contains("monitoring.enabled");
    while !gone(place.run(&["monitor"])) {}
    assert!(page(Some(&scraper)).starts_with("HTTP/1.1 404"));
}

#[test]
fn tables_are_no_wider_than_the_terminal_and_names_in_them_are_whole() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    // The first figures are of a moment at which the board had published nothing.
    while !place.succeed(&["top", "--once"]).contains("imu/sample") {}
    for (line, name) in [
        ("config list", "hardware.scan_interval_ms"),
        ("config show --effective", "websocket.allow_plaintext_network"),
        ("services", "monitoring/remove-threshold"),
        ("peers", "serial"),
        ("status", "unix_socket"),
        ("hardware", "board/imu"),
        ("hardware show board/imu", "wire-version"),
        ("monitor metrics 'process.*'", "process.resident_memory_bytes"),
        ("monitor thresholds", "THRESHOLD"),
        ("top --once", "imu/sample"),
    ] {
        for columns in [60, 80, 200] {
            let size = Winsize { ws_col: columns, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };
            let typed = format!("NO_COLOR=1 visorbus {line} > /dev/tty");
            let (process, mut terminal) = place.at_terminal_of(&typed, size);
            let (mut bytes, mut shown) = ([0; 4096], Vec::new());
            while let Ok(len @ 1..) = terminal.read(&mut bytes) {
                shown.extend_from_slice(&bytes[..len]);
            }
            let shown = String::from_utf8(shown).unwrap();
            assert_eq!(process.finish().code, Some(0), "{line}: {shown}");
            assert!(shown.contains(name), "{line} at {columns}: {shown}");
            // Where the configuration is stands above the table, and is as long as it is.
            let table = shown.lines().filter(|line| !line.contains("configuration"));
            let widest = table.map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= columns.into(), "{line} at {columns} is {widest} wide: {shown}");
        }
    }
}
