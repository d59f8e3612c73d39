//! The program that measures D-Bus, run small.

use std::process::{Command, Output};

use visorbus_tests::contest::Contender;
use visorbus_tests::dbus::{BareMethod, BareSignals};
use visorbus_tests::dbus_daemon::DbusDaemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_dbus-bench");

fn bench(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
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
fn a_wrong_option_is_refused_with_where_to_look() {
    for arguments in [&["--speed"][..], &["--rounds", "0"], &["--only", "speed"], &["--turn", "x"]] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"), "{arguments:?}");
    }
}
