//! The program that measures D-Bus, run small.

use std::process::{Command, Output};

use visorbus_tests::contest::Contender;
use visorbus_tests::dbus::{BareMethod, BareSignals};
use visorbus_tests::dbus_daemon::DbusDaemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_dbus-bench");

fn bench(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn table(arguments: &[&str]) -> String {
    let output = bench(&[arguments, &["--cpu", "any"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_bare_service_answers_and_signals_at_every_size() {
    let bus = DbusDaemon::start();
    let method = BareMethod::new(PROGRAM, bus.address());
    let each = BareSignals::new(PROGRAM, bus.address());
    let all = BareSignals::broadcast(PROGRAM, bus.address());
    for (contender, sizes) in [(&method as &dyn Contender, [0, 200_000]), (&each, [1, 100]), (&all, [1, 100])]
    {
        for size in sizes {
            let mut trip = contender.start(size).unwrap();
            (0..3).for_each(|_| trip().unwrap());
        }
    }
}

#[test]
fn calls_of_every_contender_are_in_the_table() {
    let text = table(&["--only", "call", "--sizes", "64,65536", "--rounds", "1", "--trips", "2"]);
    for name in ["bare service", "hub, component's method", "hub, Bus1.Call"] {
        assert_eq!(text.lines().filter(|line| line.contains(&format!("  {name} "))).count(), 2, "{text}");
    }
}

#[test]
fn every_subscriber_has_every_signal() {
    let text = table(&["--only", "signals", "--batches", "1,30", "--rounds", "1", "--trips", "3"]);
    for name in ["bare, to each", "bare, one to all", "hub, component's signal", "hub, Bus1.Notification"] {
        assert_eq!(text.lines().filter(|line| line.contains(&format!("  {name} "))).count(), 2, "{text}");
    }
}

#[test]
fn a_peer_is_answered_while_others_flood_the_bus() {
    let text = table(&["--only", "flood", "--rounds", "1", "--turn", "100"]);
    for state in ["quiet ", "flood at the hub ", "deaf flood at the hub "] {
        assert_eq!(text.lines().filter(|line| line.starts_with(state)).count(), 1, "{text}");
    }
}

#[test]
fn a_wrong_option_is_refused_with_where_to_look() {
    for arguments in [&["--speed"][..], &["--rounds", "0"], &["--only", "speed"], &["--turn", "x"]] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"), "{arguments:?}");
    }
}
