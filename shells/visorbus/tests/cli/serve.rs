//! `visorbus serve`: its files, its end, its neighbours.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::place::{Place, Process};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Whoever is listed is the hub's own.
#[track_caller]
fn assert_nobody_but_the_hub(place: &Place) {
    let listed: Vec<serde_json::Value> =
        serde_json::from_str(&place.succeed(&["services", "--json"])).unwrap();
    assert!(listed.iter().all(|service| service["peer"] == ""), "{listed:?}");
}

#[test]
fn a_first_start_says_where_it_is_and_keeps_its_files_private() {
    let place = Place::new();
    let mut hub = place.start(&["serve"]);
    let said = hub.wait_for_error("visorbus serves on");
    assert!(said.contains(place.socket().to_str().unwrap()), "{said}");
    assert!(said.contains(place.key_file().to_str().unwrap()), "{said}");
    assert_eq!((mode(&place.socket()), mode(&place.key_file())), (0o600, 0o600));
    assert_eq!((mode(&place.path().join("run")), mode(&place.path().join("state"))), (0o700, 0o700));
    let key = fs::read(place.key_file()).unwrap();
    drop(hub);
    let _again = place.serve(&[]);
    assert_eq!(fs::read(place.key_file()).unwrap(), key, "a key that is there stays");
}

#[test]
fn a_second_hub_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let second = place.run(&["serve"]);
    second.expect_failure(
        1,
        "visorbus: connection error: another hub serves",
        &["stop it, or choose another path"],
    );
    place.succeed(&["services"]);
    let elsewhere = place.path().join("run/other.sock");
    let _other = place.serve(&["--socket", elsewhere.to_str().unwrap()]);
    place.succeed(&["services", "--socket", elsewhere.to_str().unwrap()]);
}

#[test]
fn a_signal_ends_it_and_its_socket_goes_with_it() {
    let place = Place::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let hub = place.serve(&[]);
        let mut subscriber = place.start(&["subscribe", "never/**"]);
        hub.signal(signal);
        let done = hub.finish();
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "", ""), "{signal}");
        let left: Vec<_> = fs::read_dir(place.path().join("run")).unwrap().collect();
        assert!(left.is_empty(), "{signal}: {left:?}");
        assert!(subscriber.try_line().is_none());
    }
}

#[test]
fn a_hub_ends_with_its_terminal_but_not_by_a_hangup_without_one() {
    let place = Place::new();
    let (mut hub, terminal) = place.at_terminal("visorbus serve");
    hub.wait_for_error("visorbus serves on");
    hub.signal(Signal::SIGHUP);
    hub.wait_for_error("are read again");
    place.succeed(&["services"]);
    drop(terminal);
    let done = hub.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!place.socket().exists());
}

#[test]
fn a_killed_hub_does_not_keep_the_next_one_from_starting() {
    let place = Place::new();
    let hub = place.serve(&[]);
    hub.signal(Signal::SIGKILL);
    assert_eq!(hub.finish().code, None);
    assert!(place.socket().exists());
    let left_alone = place.run(&["services"]);
    left_alone.expect_failure(
        3,
        "visorbus: connection error:",
        &["Connection refused", "`visorbus serve` starts one"],
    );
    let _next = place.serve(&[]);
    place.succeed(&["services"]);
}

#[test]
fn without_a_word_it_is_in_the_runtime_and_the_state_directory() {
    let place = Place::new();
    let (runtime, state) = (place.path().join("xdg-run"), place.path().join("xdg-state"));
    let defaults = |args: &[&str]| {
        let mut command = place.command(args);
        command.env_remove("VISORBUS_SOCKET").env_remove("VISORBUS_KEY_FILE");
        command.env("XDG_RUNTIME_DIR", &runtime).env("XDG_STATE_HOME", &state).env("HOME", place.path());
        command
    };
    let mut hub = Process::start(&mut defaults(&["serve"]));
    hub.wait_for_error("visorbus serves on");
    assert!(runtime.join("visorbus/bus.sock").exists() && state.join("visorbus/root.key").exists());
    assert_eq!(Process::start(&mut defaults(&["services"])).finish().code, Some(0));
    drop(hub);

    // What is no absolute path counts as not given.
    let at_home = |args| {
        let mut command = defaults(args);
        command.env("XDG_STATE_HOME", "relative/state");
        command
    };
    let mut hub = Process::start(&mut at_home(&["serve"]));
    hub.wait_for_error("visorbus serves on");
    assert!(place.path().join(".local/state/visorbus/root.key").exists());
    assert_eq!(Process::start(&mut at_home(&["services"])).finish().code, Some(0));
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
    let place = Place::new();
    let hub = place.serve(&[]);
    fs::set_permissions(place.key_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let mending = format!("chmod 600 {}", place.key_file().display());
    let client = place.run(&["services"]);
    client.expect_failure(4, "visorbus: authentication error: the key file", &["mode 0644", &mending]);
    assert!(!client.err.contains("makes one"), "there is one: {}", client.err);
    drop(hub);
    let serve = place.run(&["serve"]);
    serve.expect_failure(1, "visorbus: authentication error: the key file", &["mode 0644", &mending]);
    let words: Vec<&str> = mending.split(' ').collect();
    assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success());
    let _hub = place.serve(&[]);
    place.succeed(&["services"]);
}

#[test]
fn a_board_that_is_not_there_is_waited_for_and_said_once() {
    let place = Place::new();
    let missing = place.path().join("ttyNothing");
    let mut hub = place.start(&["serve", "--serial", missing.to_str().unwrap()]);
    let said = hub.wait_for_error("ttyNothing");
    assert!(said.contains("trying again until it is there"), "{said}");
    assert_nobody_but_the_hub(&place);
    hub.signal(Signal::SIGTERM);
    let done = hub.finish();
    assert!(!done.err.contains("ttyNothing"), "said again: {}", done.err);
}

#[test]
fn an_spi_target_that_is_not_there_is_named_and_waited_for() {
    let place = Place::new();
    let missing = place.path().join("spidevNothing");
    let spec = format!("{}@8000000,ready=/dev/gpiochip0:17", missing.display());
    let mut hub = place.start(&["serve", "--spi", &spec]);
    let said = hub.wait_for_error("no SPI device at");
    assert!(said.contains("spidevNothing") && said.contains("trying again until it is there"), "{said}");
    assert_nobody_but_the_hub(&place);
    hub.signal(Signal::SIGTERM);
    let done = hub.finish();
    assert!(!done.err.contains("spidevNothing"), "said again: {}", done.err);
}

#[test]
fn an_spi_link_that_is_none_is_wrong_usage() {
    let place = Place::new();
    for (spec, text) in [
        ("/dev/spidev0.0", "ready=CHIP:LINE"),
        ("/dev/spidev0.0@0,ready=/dev/gpiochip0:17", "no speed"),
        ("/dev/spidev0.0,ready=/dev/gpiochip0:17,speed=5", "known are ready=CHIP:LINE"),
    ] {
        place.run(&["serve", "--spi", spec]).expect_failure(2, "error: invalid value", &[text]);
    }
}

#[test]
fn a_serial_line_that_is_none_is_wrong_usage() {
    let place = Place::new();
    for (spec, text) in [
        ("/dev/ttyS0@fast,unauthenticated", "unauthenticated=NAME"),
        ("/dev/ttyS0@0", "is not a speed"),
        ("@115200", "PATH[@BAUD]"),
    ] {
        place.run(&["serve", "--serial", spec]).expect_failure(2, "error: invalid value", &[text]);
    }
}

#[test]
fn a_path_that_cannot_be_a_socket_is_refused() {
    let place = Place::new();
    let long = place.path().join("x".repeat(120));
    let done = place.run(&["serve", "--socket", long.to_str().unwrap()]);
    done.expect_failure(1, "visorbus: message error: the socket path", &["choose a shorter one"]);
    fs::create_dir(place.path().join("run")).unwrap();
    fs::write(place.socket(), "a file").unwrap();
    let done = place.run(&["serve"]);
    done.expect_failure(1, "visorbus: connection error:", &["remove it or choose another path"]);
}
