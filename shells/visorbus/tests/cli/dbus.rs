//! The hub on a private bus: what `serve` says of it, what `visorbus dbus` shows and what other programs get.

use std::fs;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::place::{PATIENCE, Place, Process};

/// A hub with a name on `bus`, where this user is taken for `desktop` and may ask the board.
fn serve(place: &Place, bus: &DbusDaemon, args: &[&str]) -> Process {
    let uid = rustix::process::geteuid().as_raw();
    place.write_policy(&format!(
        "[[unix]]\nuid = {uid}\nsubject = \"desktop\"\nscopes = [\"request:imu/*\", \"request:bus/*\"]\n"
    ));
    let mut hub = place.start(&[&["-v", "serve", "--dbus", bus.address()], args].concat());
    hub.wait_for_error("this service is org.visorbus.Bus1");
    hub
}

fn show(place: &Place, bus: &DbusDaemon) -> Value {
    let shown = place.succeed(&["dbus", "--bus", bus.address(), "--json"]);
    serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}"))
}

#[test]
fn a_hub_on_a_bus_is_shown_with_its_name_and_its_members() {
    let (place, bus) = (Place::new(), DbusDaemon::start());
    let hub = serve(&place, &bus, &[]);
    let shown = show(&place, &bus);
    assert_eq!(shown["name"], "org.visorbus.Bus1");
    assert_eq!(shown["pid"].as_i64(), Some(i64::from(hub.pid().as_raw())), "{shown}");
    let members = shown["members"].as_array().unwrap();
    let call = members.iter().find(|member| member["name"] == "Call");
    assert_eq!(call.unwrap()["types"], "(s address, v payload, a{sv} options) -> (v answer)", "{shown}");
    let table = place.succeed(&["dbus", "--bus", bus.address()]);
    assert!(table.contains("held by :1.") && table.contains("Subscribe"), "{table}");
}

#[test]
fn busctl_calls_a_board_with_the_names_that_visorbus_shows() {
    let (place, bus) = (Place::for_boards(), DbusDaemon::start());
    let (_board, line) = place.board();
    let _hub = serve(&place, &bus, &["--serial", &line]);
    place.wait_for_board();
    // The hub asks the board for its types, and shows a member when it knows them.
    let until = Instant::now() + PATIENCE;
    let info = loop {
        let shown = show(&place, &bus);
        let members = shown["members"].as_array().unwrap();
        match members.iter().find(|member| member["name"] == "Info") {
            Some(info) => break info.clone(),
            None => assert!(Instant::now() < until, "{shown}"),
        }
    };
    let word = |name: &str| info[name].as_str().unwrap().to_owned();
    let mut busctl = Command::new("busctl");
    busctl.arg(format!("--address={}", bus.address()));
    busctl.args(["call", "org.visorbus.Bus1", &word("object"), &word("interface"), &word("name")]);
    let answer = busctl.output().expect("busctl, of the package systemd");
    let answer = String::from_utf8(answer.stdout).unwrap();
    assert!(answer.starts_with("sstquut \"0.1.0\" \"host-pty\""), "{answer}");
}

#[test]
fn without_a_bus_one_line_says_so_and_the_hub_serves() {
    let place = Place::new();
    let nowhere = format!("unix:path={}", place.path().join("no-bus").display());
    let mut hub = place.start(&["serve", "--dbus", &nowhere]);
    hub.wait_for_error("WARN");
    place.succeed(&["services"]);
    hub.signal(Signal::SIGTERM);
    let done = hub.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!done.err.contains("WARN"), "it is said once: {done:?}");
}

#[test]
fn a_bus_without_a_hub_and_a_bus_that_is_none_are_said_to_be() {
    let (place, bus) = (Place::new(), DbusDaemon::start());
    let done = place.run(&["dbus", "--bus", bus.address()]);
    done.expect_failure(
        3,
        "visorbus: connection error: nobody is called 'org.visorbus.Bus1'",
        &["serve --dbus"],
    );
    let done = place.run(&["dbus", "--bus", "nonsense"]);
    done.expect_failure(2, "error: invalid value 'nonsense'", &["session", "system"]);
}

#[test]
fn the_files_of_a_distribution_are_printed_and_written() {
    let place = Place::new();
    let printed = place.succeed(&["dbus", "files"]);
    assert!(printed.contains("==> /usr/share/dbus-1/system.d/org.visorbus.Bus1.conf <=="), "{printed}");
    let into = place.path().join("usr");
    let written = place.succeed(&["dbus", "files", "--into", into.to_str().unwrap(), "--user", "hub"]);
    assert!(written.lines().count() >= 3, "{written}");
    for path in written.lines() {
        assert!(!fs::read_to_string(path).unwrap().is_empty(), "{path}");
    }
    let policy = fs::read_to_string(into.join("share/dbus-1/system.d/org.visorbus.Bus1.conf")).unwrap();
    assert!(policy.contains("<policy user=\"hub\">"), "{policy}");
}

#[test]
fn every_command_of_the_page_says_what_the_page_says() {
    let (place, bus) = (Place::for_boards(), DbusDaemon::start());
    let (_board, line) = place.board();
    let _hub = serve(&place, &bus, &["--serial", &line]);
    let page = include_str!("../../../../docs/dbus.md");
    let uid = rustix::process::geteuid().to_string();
    let (_, policy) = page.split_once("```toml\n").unwrap();
    let (policy, _) = policy.split_once("```").unwrap();
    place.write_policy(&policy.replace("1000", &uid));
    place.succeed(&["auth", "policy", "reload"]);
    place.wait_for_board();
    let is_command = |line: &&str| line.starts_with("$ ");
    let consoles = page.split("```console\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let mut ran = 0;
    for console in consoles {
        let mut lines = console.lines().peekable();
        while let Some(command) = lines.next() {
            let command = command.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {command}"));
            let mut told = String::new();
            while let Some(line) = lines.next_if(|line| !is_command(line)) {
                told.push_str(line);
                told.push('\n');
            }
            let mut shell = place.shell(command);
            shell.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
            let done = shell.output().unwrap();
            let (said, error) =
                (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            assert!(done.status.success() && error.is_empty(), "{command}: {said}{error}");
            assert!(told.is_empty() || said == told, "{command} says {said}, and the page {told}");
            ran += 1;
        }
    }
    assert!(ran >= 8, "{ran} commands");
}
