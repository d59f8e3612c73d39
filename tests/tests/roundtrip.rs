//! The round-trip program and its bare contenders, run small.

use std::process::{Command, Output};

use visorbus_tests::bare::{OneHop, TwoHops};
use visorbus_tests::contest::Contender;

const PROGRAM: &str = env!("CARGO_BIN_EXE_roundtrip");

/// Returns once every process that shares the program's output has ended.
fn roundtrip(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

#[test]
fn bare_contenders_answer_at_every_size() {
    for contender in [&OneHop::new(PROGRAM) as &dyn Contender, &TwoHops::new(PROGRAM)] {
        for size in [0, 64, 1024, 65536, 200_000] {
            let mut trip = contender.start(size).unwrap();
            (0..3).for_each(|_| trip().unwrap());
        }
    }
}

#[test]
fn the_table_has_a_line_for_every_contender_and_size() {
    let output = roundtrip(&["--sizes", "64,1024", "--rounds", "2", "--trips", "3", "--cpu", "any"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for size in ["64", "1024"] {
        for name in [OneHop::NAME, TwoHops::NAME] {
            let is_line = |line: &&str| line.trim_start().starts_with(&format!("{size}  {name}"));
            assert_eq!(text.lines().filter(is_line).count(), 1, "{text}");
        }
    }
}

#[test]
fn a_core_that_is_not_there_degrades_with_a_note() {
    let output = roundtrip(&["--sizes", "64", "--rounds", "1", "--trips", "1", "--cpu", "1023"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("Not on one core ("), "{text}");
}

#[test]
fn a_wrong_option_is_refused_with_where_to_look() {
    for arguments in [&["--speed"][..], &["--rounds", "0"], &["--trips"], &["--sizes", "64,x"]] {
        let output = roundtrip(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"), "{arguments:?}");
    }
}
