//! What the hub's program says where the journal of systemd reads it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::place::Place;

/// What a hub whose configuration is wrong says on a standard error that is, or is not, the journal's.
fn said_of_a_wrong_configuration(is_journals: bool) -> String {
    let place = Place::new();
    place.configure("[log]\nlevel = \"loud\"\nform = 1\n");
    let path = place.path().join("stderr");
    let file = File::create(&path).unwrap();
    let found = file.metadata().unwrap();
    let inode = if is_journals { found.ino() } else { found.ino() + 1 };
    let mut command = place.command(&["serve"]);
    command.env("JOURNAL_STREAM", format!("{}:{inode}", found.dev())).stderr(file);
    assert_eq!(command.status().unwrap().code(), Some(6));
    fs::read_to_string(path).unwrap()
}

#[test]
fn what_fails_is_an_error_in_the_journal_line_by_line() {
    let said = said_of_a_wrong_configuration(true);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.lines().all(|line| line.starts_with("<3>visorbus: ")), "{said}");
}

#[test]
fn nobody_but_the_journal_is_told_how_much_it_matters() {
    let said = said_of_a_wrong_configuration(false);
    assert!(said.lines().count() == 2 && said.lines().all(|line| line.starts_with("visorbus: ")), "{said}");
}
