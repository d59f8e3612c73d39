//! `visorbus demo`: what it says, and that it leaves nothing behind.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::place::{Done, Place};

/// Demands that no file and no process is left of what ran in `place`.
#[track_caller]
fn expect_nothing_left(place: &Place) {
    let files: Vec<_> = fs::read_dir(place.tmp()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.is_empty(), "{files:?}");
    let ours = format!("TMPDIR={}", place.tmp().display());
    for process in fs::read_dir("/proc").unwrap() {
        let process = process.unwrap().path();
        // One that has ended meanwhile, and one of somebody else, cannot be read.
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let is_ours = environment.split(|byte| *byte == 0).any(|variable| variable == ours.as_bytes());
        assert!(!is_ours, "{} still runs", fs::read_to_string(process.join("cmdline")).unwrap_or_default());
    }
}

#[track_caller]
fn expect_summary(done: &Done, board: &str) {
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(summary["board"], board);
    for path in ["/calls", "/calls_over_websocket", "/calls_over_dbus", "/stream/delay"] {
        let times = summary.pointer(path).unwrap();
        let of =
            |name: &str| times[name].as_u64().unwrap_or_else(|| panic!("no {name} in {path}: {summary}"));
        assert!(of("count") > 0 && of("p50_us") <= of("p99_us") && of("p99_us") <= of("max_us"), "{summary}");
    }
    assert!(summary["dashboard"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{summary}");
    assert_eq!(summary["stream"]["asked_hz"], 200);
    assert!(summary["stream"]["measured_hz"].as_f64().unwrap() > 0.0, "{summary}");
    assert!(summary["stream"]["missed"].is_u64(), "{summary}");
    assert!(summary["refused"].as_str().unwrap().contains("'imu.control'"), "{summary}");
    let setting = &summary["setting"];
    let (service, desktop) = (&setting["service_heard_us"], &setting["desktop_heard_us"]);
    assert!(service.as_u64().unwrap() > 0 && desktop.as_u64().unwrap() > 0, "{summary}");
    let nod = &summary["nod"];
    assert!(nod["answered_us"].as_u64().unwrap() > 0 && nod["inputs"].as_u64().unwrap() >= 10, "{summary}");
    let crash = &summary["crash"];
    assert!(crash["caller_saw"].as_str().unwrap().starts_with("connection error: imu is gone"), "{summary}");
    assert!(crash["after_us"].is_u64() && crash["back_in_service_us"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn the_demonstration_sums_up_in_json_and_leaves_nothing_behind() {
    let place = Place::new();
    expect_summary(&place.run(&["demo", "--board", "pty", "--stream", "500ms", "--json"]), "pty");
    expect_nothing_left(&place);
}

#[test]
fn the_demonstration_runs_on_the_emulated_board() {
    let place = Place::new();
    let demo = place.start(&["demo", "--board", "qemu", "--stream", "1s", "--json"]);
    // It builds the firmware first, where nobody has.
    expect_summary(&demo.finish_within(Duration::from_secs(600)), "qemu");
    expect_nothing_left(&place);
}

#[test]
fn the_demonstration_fits_on_a_screen() {
    let place = Place::new();
    let text = place.succeed(&["demo", "--board", "pty", "--stream", "200ms"]);
    assert!(text.lines().count() <= 36, "{text}");
    // What is to be copied is as long as it is.
    let mut prose = text.lines().filter(|line| !line.contains("vb1.") && !line.contains("busctl "));
    assert!(prose.all(|line| line.chars().count() <= 120), "{text}");
    assert!(text.contains("connection error: imu is gone") && text.contains("'imu.control'"), "{text}");
    assert!(text.contains("  controller  the controller-board node"), "{text}");
    assert!(text.contains("display.brightness") && text.contains("Summary"), "{text}");
}

#[test]
fn the_demonstration_stays_for_its_dashboard_and_desktop_programs_until_it_is_ended() {
    let place = Place::new();
    let mut demo = place.start(&["demo", "--board", "pty", "--stream", "200ms", "--stay"]);
    let dashboard = loop {
        let line = demo.line();
        if line.contains("goes on, with the token above") {
            break line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        }
    };
    let answer = crate::websocket::get(&dashboard, "/");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("<!doctype html>"), "{answer}");
    let line = loop {
        let line = demo.line();
        if line.contains("busctl ") {
            break line.trim().to_owned();
        }
    };
    let pasted = place.shell(&line).output().unwrap();
    let answer = String::from_utf8(pasted.stdout).unwrap();
    assert!(answer.starts_with("sstquut \"0.1.0\" \"host-pty\""), "{line}: {answer}");
    demo.signal(Signal::SIGINT);
    let done = demo.finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    expect_nothing_left(&place);
}

#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    let place = Place::new();
    for (line, signal) in
        [("A call", Signal::SIGINT), ("A nod", Signal::SIGTERM), ("A crash", Signal::SIGINT)]
    {
        let mut demo = place.start(&["demo", "--board", "pty", "--stream", "300ms"]);
        while !demo.line().contains(line) {}
        demo.signal(signal);
        let done = demo.finish();
        assert_eq!((done.code, done.err.as_str()), (Some(130), ""), "{line}: {done:?}");
        expect_nothing_left(&place);
    }
}

#[test]
fn the_secure_demonstration_refuses_what_it_must_and_leaves_nothing_behind() {
    let place = Place::new();
    let done = place.run(&["demo", "--secure", "--json"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    let summary: Value = serde_json::from_str(&done.out).unwrap();
    let text = |path: &str| {
        let value = summary.pointer(path).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no {path}: {summary}")).to_owned()
    };
    assert!(summary["impostor_refused"].as_u64().unwrap() >= 3, "{summary}");
    assert!(text("/wrong_password").starts_with("authentication error:"), "{summary}");
    assert!(text("/refused").contains("'imu.control'"), "{summary}");
    assert!(text("/sealed/without_key").contains("was not sent sealed"), "{summary}");
    assert!(text("/revoked/told").contains("the token was revoked"), "{summary}");
    let told: Vec<&str> = summary["audit"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for event in ["link_up", "authenticated", "refused", "denied", "revoked", "cut_off"] {
        assert!(told.contains(&event), "no {event}: {told:?}");
    }
    expect_nothing_left(&place);
}
