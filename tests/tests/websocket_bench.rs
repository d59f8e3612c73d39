//! The program that measures WebSockets, run small.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_websocket-bench")).args(arguments).output().unwrap()
}

fn table(arguments: &[&str]) -> String {
    let output = bench(&[arguments, &["--cpu", "any"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn round_trips_of_every_contender_are_in_the_table() {
    let text = table(&["--only", "round-trip", "--sizes", "64,65536", "--rounds", "1", "--trips", "2"]);
    for scheme in ["ws", "wss"] {
        for name in ["bare #, one hop", "hub #, to its handler", "bare #, two hops", "hub #, to a service"] {
            let name = name.replace('#', scheme);
            assert_eq!(
                text.lines().filter(|line| line.contains(&format!("  {name}  "))).count(),
                2,
                "{text}"
            );
        }
    }
}

#[test]
fn every_subscriber_of_the_fan_out_has_everything() {
    let text = table(&["--only", "fan-out", "--batches", "1,30", "--rounds", "1", "--trips", "3"]);
    assert_eq!(text.lines().filter(|line| line.contains("  hub ws")).count(), 4, "{text}");
}

#[test]
fn idle_connections_are_counted_and_held() {
    let arguments =
        ["--only", "memory,idle", "--connections", "300", "--idle", "30", "--seconds", "1", "--check"];
    let text = table(&arguments);
    assert_eq!(text.lines().filter(|line| line.contains(", at most ")).count(), 6, "{text}");
}

#[test]
fn a_wrong_option_is_refused_with_where_to_look() {
    for arguments in [&["--speed"][..], &["--rounds", "0"], &["--only", "speed"], &["--idle", "x"]] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"), "{arguments:?}");
    }
}
