//! The measurement of how a hub starts, run small.

use std::path::Path;
use std::time::Duration;

use visorbus_tests::startup::{self, Contender};

#[test]
fn a_hub_answers_after_its_start_every_time() {
    let hub = Contender::hub("a hub", Path::new(env!("CARGO_BIN_EXE_visorbus")), &[]);
    let start = hub.measure(2, Duration::ZERO).unwrap();
    assert!(start.answers.count == 2 && start.resident.all > start.resident.own, "{start:?}");
    assert!(startup::row(&hub, &start).starts_with("a hub "));
}

#[test]
fn what_ends_before_it_answers_is_named_with_what_it_said() {
    let hub = Contender::hub("a hub", Path::new(env!("CARGO_BIN_EXE_visorbus")), &["--no-such-option"]);
    let error = hub.measure(1, Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("a hub does not answer") && error.contains("--no-such-option"), "{error}");
}
