//! The hub's program by its configuration: what it serves, how it follows, how it ends; and a program of one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::place::{Place, Process};

/// A place with a configuration, and the hub that serves it.
fn serve(place: &Place, text: &str) -> Process {
    place.serve(&["--config", &write(place, text)])
}

fn write(place: &Place, text: &str) -> String {
    let file = place.path().join("visorbus.toml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn status(place: &Place) -> Value {
    serde_json::from_str(&place.succeed(&["status", "--json"])).unwrap()
}

fn state(place: &Place, part: &str) -> String {
    let status = status(place);
    let parts = status["parts"].as_array().unwrap();
    let part = parts.iter().find(|one| one["name"] == part).unwrap();
    part["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_hub_that_is_not_there_yet_is_waited_for_and_asked_once() {
    let place = Place::new();
    let never = place.run(&["status", "--wait", "100ms"]);
    never.expect_failure(3, "visorbus: connection error", &["`visorbus serve` starts one"]);
    let waiting = place.start(&["status", "--wait", "60s"]);
    let _hub = place.serve(&[]);
    let done = waiting.finish();
    assert!(done.code == Some(0) && done.out.starts_with("visorbus "), "{done:?}");
}

#[test]
fn a_hub_serves_what_its_file_says_and_the_command_line_holds_above_it() {
    let place = Place::new();
    let text =
        "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n[unix_socket]\npath = \"/nowhere\"\n";
    let _hub = serve(&place, text);
    assert_eq!((state(&place, "websocket"), state(&place, "unix_socket")), ("on".into(), "on".into()));
    let shown = place.succeed(&["status"]);
    assert!(shown.contains(place.socket().to_str().unwrap()) && shown.contains("visorbus.toml"), "{shown}");
}

#[test]
fn commands_look_for_the_hub_where_the_configuration_has_it() {
    let place = Place::new();
    let (socket, keys) = (place.path().join("run/other.sock"), place.path().join("keys/other.key"));
    let text = format!("[unix_socket]\npath = {socket:?}\n[auth]\nkey_file = {keys:?}\n");
    let file = write(&place, &text);
    let configured = |args: &[&str]| {
        let mut command = place.command(args);
        command.env_remove("VISORBUS_SOCKET").env_remove("VISORBUS_KEY_FILE").env("VISORBUS_CONFIG", &file);
        command
    };
    let mut hub = Process::start(&mut configured(&["serve"]));
    hub.wait_for_error("visorbus serves on");
    let status = Process::start(&mut configured(&["status"])).finish();
    assert!(status.code == Some(0) && status.out.contains(socket.to_str().unwrap()), "{status:?}");
    assert!(keys.exists() && keys.with_file_name("accounts.json").exists());
}

#[test]
fn variables_and_set_hold_above_the_file() {
    let place = Place::new();
    let file = write(&place, "[hardware]\nenabled = true\n[monitoring]\nenabled = true\n");
    let mut command = place.command(&["serve", "--config", &file, "--set", "monitoring.enabled=false"]);
    let mut hub = Process::start(command.env("VISORBUS_HARDWARE_ENABLED", "false"));
    hub.wait_for_error("visorbus serves on");
    assert_eq!((state(&place, "hardware"), state(&place, "monitoring")), ("off".into(), "off".into()));
}

#[test]
fn a_configuration_that_is_wrong_has_an_exit_code_of_its_own_and_names_its_place() {
    let place = Place::new();
    for (text, parts) in [
        ("[websocket]\nenabld = true\n", ["visorbus.toml:2:", "enabled"]),
        ("[log]\nlevel = \"loud\"\n", ["visorbus.toml:2:", "debug"]),
        ("[limits]\nqueue_bytes = 5000\n", ["visorbus.toml:2:", "max_frame"]),
    ] {
        let file = write(&place, text);
        let done = place.run(&["serve", "--config", &file]);
        done.expect_failure(6, "visorbus: ", &parts);
    }
    let missing = place.run(&["serve", "--config", "/nowhere/visorbus.toml"]);
    missing.expect_failure(6, "visorbus: ", &["/nowhere/visorbus.toml", "config init"]);
    place.run(&["serve", "--set", "log.levle=info"]).expect_failure(
        6,
        "visorbus: ",
        &["did you mean 'level'"],
    );
    assert!(!place.socket().exists() && !place.key_file().exists(), "nothing was begun");
}

#[test]
fn a_reload_is_told_to_whoever_asks_and_a_broken_file_keeps_what_was() {
    let place = Place::new();
    let mut hub = serve(&place, "");
    write(&place, "[hardware]\nenabled = false\n[limits]\nmax_peers = 9\n");
    let told = place.succeed(&["reload"]);
    assert!(told.contains("hardware.enabled") && told.contains("next start on: limits.max_peers"), "{told}");
    hub.wait_for_error("hardware.enabled");
    assert_eq!(state(&place, "hardware"), "off");
    write(&place, "[hardware\n");
    let failed = place.run(&["reload"]);
    assert_eq!(failed.code, Some(6));
    assert!(failed.err.contains("visorbus.toml:1:"), "{failed:?}");
    assert_eq!(state(&place, "hardware"), "off");
    hub.signal(Signal::SIGHUP);
    hub.wait_for_error("the configuration stays as it was");
    assert_eq!(state(&place, "hardware"), "off");
}

#[test]
fn a_storm_of_hangups_is_survived_and_the_last_word_counts() {
    let place = Place::new();
    let hub = serve(&place, "");
    for round in 0..200 {
        write(&place, if round % 2 == 0 { "[hardware]\nenabled = false\n" } else { "" });
        hub.signal(Signal::SIGHUP);
    }
    write(&place, "[hardware]\nenabled = false\n");
    place.succeed(&["reload"]);
    assert_eq!(state(&place, "hardware"), "off");
    hub.signal(Signal::SIGTERM);
    assert_eq!(hub.finish().code, Some(0));
    assert!(!place.socket().exists());
}

#[test]
fn a_hub_that_is_told_to_end_is_gone_when_the_command_returns_and_leaves_nothing() {
    let place = Place::new();
    let mut hub = serve(&place, "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n");
    let told = place.succeed(&["shutdown"]);
    assert!(told.contains("has ended"), "{told}");
    assert!(hub.has_ended());
    assert_eq!(hub.finish().code, Some(0));
    assert!(fs::read_dir(place.path().join("run")).unwrap().next().is_none());
    place.run(&["shutdown"]).expect_failure(3, "visorbus: connection error", &[]);
}

#[test]
fn the_log_is_json_a_line_in_a_file_of_its_own_and_its_level_changes_while_it_runs() {
    let place = Place::new();
    let log = place.path().join("hub.log");
    let text = |level: &str| {
        format!("[log]\nformat = \"json\"\nlevel = \"{level}\"\noutput = \"{}\"\n", log.display())
    };
    let _hub = serve(&place, &text("info"));
    let read = || fs::read_to_string(&log).unwrap();
    let first: Value = serde_json::from_str(read().lines().next().unwrap()).unwrap();
    assert_eq!(first["level"], "INFO");
    assert!(first["message"].as_str().unwrap().contains("listening on unix"), "{first}");
    write(&place, &text("off"));
    place.succeed(&["reload"]);
    let before = read();
    place.succeed(&["status"]);
    assert_eq!(read(), before, "nothing more is written");
    fs::rename(&log, place.path().join("hub.log.1")).unwrap();
    write(&place, &text("info"));
    place.succeed(&["reload"]);
    place.succeed(&["status"]);
    assert!(read().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert!(read().contains("is here"), "a file that was moved away is let go");
}

#[test]
fn a_program_of_ones_own_has_a_handler_and_settings_beside_those_of_the_hub() {
    let place = Place::new();
    let text = format!(
        "[unix_socket]\npath = \"{}\"\n[auth]\nkey_file = \"{}\"\n[lantern]\nmax_brightness = 60\n",
        place.socket().display(),
        place.key_file().display()
    );
    let file = write(&place, &text);
    let mut lantern = Process::start(Command::new(lantern()).args(["--config", &file]));
    assert_eq!(lantern.line(), place.socket().display().to_string());
    assert_eq!(place.succeed(&["call", "lantern/light", "90"]), "60");
    let done = place.run(&["call", "lantern/light", "101"]);
    assert!(done.err.contains("100 percent"), "{done:?}");
    place.succeed(&["call", "config/set", r#"{"category":"lantern","key":"max_brightness","value":70}"#]);
    assert_eq!(lantern.line(), "changed: lantern.max_brightness");
    assert_eq!(place.succeed(&["call", "lantern/light", "90"]), "70");
    assert!(fs::read_to_string(&file).unwrap().contains("max_brightness = 70"));
    place.succeed(&["shutdown"]);
    assert_eq!((lantern.line(), lantern.finish().code), ("ended".to_owned(), Some(0)));
}

/// The example, which is built with the tests unless they are asked for one by one.
fn lantern() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_visorbus")).with_file_name("examples").join("lantern");
    if !program.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "visorbus", "--example", "lantern"])
            .status();
        assert!(built.unwrap().success());
    }
    program
}
