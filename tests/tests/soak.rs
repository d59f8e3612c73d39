//! The soak program, for a short while.

use std::process::{Command, Output};

#[test]
fn the_lane_loses_nothing_at_any_rate_of_faults() {
    let table = passes(&["lane", "--messages", "3000", "--seed", "2"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip_while(|line| !line.starts_with("faults"))
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 22, "{table}");
    for row in rows {
        // Behind the name of the row and the length of a message.
        let at = row.iter().position(|word| ["32", "64"].contains(word)).unwrap();
        assert_eq!(row[at + 1..at + 5], ["0"; 4], "{table}");
        let kb_per_s: f64 = row[at + 5].parse().unwrap();
        // A tag makes frames longer, and so fewer of them whole.
        let least = if row[0] == "tag64," { 0.5 } else { 3.0 };
        assert!(kb_per_s > least, "{table}");
    }
}

#[test]
fn boards_reset_cables_pulled_and_hubs_killed_are_back_and_leave_nothing_behind() {
    let table = passes(&["restart", "--events", "24", "--seed", "3"]);
    for event in ["board reset", "cable cut", "device unplugged", "hub killed"] {
        assert!(table.contains(event), "{table}");
    }
    assert!(table.contains(" 0 did not end"), "{table}");
}

#[test]
fn what_the_program_does_not_know_it_says() {
    assert!(passes(&["--help"]).starts_with("Runs links and boards"));
    for (wrong, why) in [("--sed", "unknown table or option"), ("--seed", "--seed needs a value")] {
        let output = soak(&["lane", wrong]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
}

#[track_caller]
fn passes(arguments: &[&str]) -> String {
    let output = soak(arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn soak(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_soak")).args(arguments).output().unwrap()
}
