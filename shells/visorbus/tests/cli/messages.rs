//! `visorbus call`, `publish` and `subscribe`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use visorbus_tests::patience::CHANCES;

use crate::place::{Place, Process};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_board_answers_in_json() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let info = parse(&place.succeed(&["call", "imu/info"]));
    assert_eq!((&info["board"], &info["rate_hz"]), (&json!("host-pty"), &json!(100)));
    assert_eq!(place.succeed(&["call", "imu/set-rate", "50"]), "50");
    assert_eq!(parse(&place.succeed(&["call", "imu/info", "--json"]))["rate_hz"], 50);
    assert_eq!(parse(&place.succeed(&["call", "imu/self-test"]))["passed"], true);
    let peers = parse(&place.succeed(&["call", "bus/peers"]));
    assert!(peers.as_array().unwrap().iter().any(|peer| peer["name"] == "imu"), "{peers}");
    assert!(parse(&place.succeed(&["call", "bus/services"])).is_array());
}

#[test]
fn what_does_not_fit_a_typed_address_is_refused_with_its_type() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    for (request, said) in
        [("\"fast\"", "not \"fast\""), ("70000", "not 70000"), ("-1", "not -1"), ("{}", "not {}")]
    {
        let done = place.run(&["call", "imu/set-rate", request]);
        done.expect_failure(1, "visorbus: serialization error: 'imu/set-rate' takes u16", &[said]);
    }
    let nothing = place.run(&["call", "imu/set-rate"]);
    nothing.expect_failure(1, "visorbus: serialization error: 'imu/set-rate' takes u16", &[]);
    let out_of_range = place.run(&["call", "imu/set-rate", "5000"]);
    out_of_range.expect_failure(1, "visorbus: message error: the rate goes from 1 to 1000 Hz", &[]);
}

#[test]
fn a_call_to_nobody_fails_and_says_where_to_look() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let nobody = place.run(&["call", "nobody/x"]);
    nobody.expect_failure(1, "visorbus: message error: nobody serves 'nobody'", &["bus/services"]);
    place.run(&["call", "bus/nothing"]).expect_failure(1, "visorbus: message error:", &["'bus/nothing'"]);
    let json = place.run(&["call", "nobody/x", "--json"]);
    assert_eq!((json.code, json.out.as_str()), (Some(1), ""));
    let error = parse(&json.err);
    assert_eq!(error["error"]["kind"], "message");
    assert!(error["error"]["text"].as_str().unwrap().starts_with("nobody serves 'nobody'"), "{error}");
}

#[test]
fn what_is_written_wrongly_is_wrong_usage_before_anybody_is_asked() {
    let place = Place::new();
    for (args, text) in [
        (&["call", "IMU/info"] as &[&str], "for example imu/info"),
        (&["call", ""], "must not be empty"),
        (&["call", "imu//info"], "no empty segment"),
        (&["call", "imu/info", "{on"], "no JSON"),
        (&["call", "imu/info", "text"], "a text needs its quotes: '\"text\"'"),
        (&["call", "imu/info", "--timeout", "5"], "for example 5s"),
        (&["call", "imu/info", "--bogus"], "unexpected argument '--bogus'"),
        (&["call"], "<ADDRESS>"),
        (&["publish", "room light"], "for example imu/info"),
        (&["publish", "room/light", "on"], "no JSON"),
        (&["subscribe", "a/**/b"], "for example 'imu/**'"),
        (&["subscribe", "imu/**", "--count", "many"], "invalid value 'many'"),
        (&["auth", "token", "mint"], "--subject"),
        (&["auth", "token", "mint", "--subject", "a", "--lifetime", "10ms"], "at least 1s"),
        (&["demo", "--board", "paper"], "possible values: auto, qemu, pty"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&[], "Usage: visorbus"),
    ] {
        let done = place.run(args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}: {done:?}");
        assert!(done.err.contains(text), "{args:?}: {done:?}");
    }
}

#[test]
fn without_a_hub_every_command_says_how_to_start_one() {
    let place = Place::new();
    for args in [
        &["call", "imu/info"] as &[&str],
        &["services"],
        &["services", "--watch"],
        &["publish", "room/light", "1"],
        &["subscribe", "**"],
    ] {
        let done = place.run(args);
        let socket = place.socket();
        let parts = [socket.to_str().unwrap(), "`visorbus serve` starts one"];
        done.expect_failure(3, "visorbus: connection error: cannot connect to", &parts);
    }
}

#[test]
fn a_call_that_nobody_answers_in_time_ends_in_time() {
    let place = Place::for_boards();
    let (_hub, board) = place.serve_board();
    // After that the hub knows the types.
    place.succeed(&["call", "imu/info"]);
    board.signal(Signal::SIGSTOP);
    let started = Instant::now();
    let done = place.run(&["call", "imu/info", "--timeout", "100ms"]);
    // The hub says so, or the command itself, whichever is first.
    done.expect_failure(5, "visorbus: timeout error: 'imu/info' ", &["not answer"]);
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_call_whose_board_dies_ends_at_once_and_says_so() {
    let place = Place::for_boards();
    let (_hub, board) = place.serve_board();
    place.succeed(&["call", "imu/info"]);
    board.signal(Signal::SIGSTOP);
    let call = place.start(&["call", "imu/info", "--timeout", "10m"]);
    // Whether the call is on its way or not yet: it ends.
    board.signal(Signal::SIGKILL);
    let done = call.finish();
    match done.code {
        Some(3) => done.expect_failure(
            3,
            "visorbus: connection error: imu is gone",
            &["'imu/info' was not answered"],
        ),
        _ => done.expect_failure(1, "visorbus: message error: nobody serves 'imu'", &[]),
    }
}

#[test]
fn what_is_published_reaches_who_subscribed_as_a_json_line() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let mut subscriber = place.start(&["subscribe", "room/**", "--count", "2"]);
    let mut lines = Vec::new();
    // Nothing tells when the subscription is there: publish until it is.
    let started = Instant::now();
    while lines.len() < 2 {
        assert!(started.elapsed() < crate::place::PATIENCE);
        assert_eq!(place.succeed(&["publish", "room/light", r#"{"on": true}"#]), "");
        lines.extend(subscriber.try_line());
    }
    for line in &lines {
        let message = parse(line);
        assert_eq!((&message["topic"], &message["payload"]), (&json!("room/light"), &json!({"on": true})));
        assert!(message["source"].as_str().unwrap().starts_with("cli."), "{line}");
        assert!(message["id"].as_str().unwrap().parse::<u64>().is_ok(), "{line}");
    }
    let done = subscriber.finish();
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "", ""));
    assert_eq!(place.succeed(&["publish", "room/light", "--json"]), r#"{"published":true}"#);
    let refused = place.run(&["publish", "bus/services", "null"]);
    refused.expect_failure(1, "visorbus: message error: the hub takes requests", &[]);
}

#[test]
fn the_samples_of_a_board_are_json_lines() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let is_complete = |samples: &Vec<Value>| {
        let taken = |sample: &Value| sample["payload"]["timestamp_us"].as_u64().unwrap();
        samples.windows(2).all(|pair| taken(&pair[1]) - taken(&pair[0]) == 10_000)
    };
    // A board that is not given its time leaves some out, and those after them get another chance. The hub soon knows its
    // clock, and says when a sample was taken by its own.
    let samples = (0..CHANCES).map(|_| place.succeed(&["subscribe", "imu/**", "--count", "50"]));
    let mut samples = samples.map(|text| text.lines().map(parse).collect::<Vec<Value>>());
    let samples = samples
        .find(|samples| is_complete(samples) && samples.last().unwrap()["uncertainty_us"].is_u64())
        .expect("they come at their rate");
    assert_eq!(samples.len(), 50);
    for sample in &samples {
        assert_eq!((&sample["topic"], &sample["source"]), (&json!("imu/sample"), &json!("imu")));
        assert_eq!(sample["payload"]["accel"].as_array().unwrap().len(), 3);
    }
    let last = samples.last().unwrap();
    let (made, uncertainty) = (last["timestamp"].as_u64().unwrap(), last["uncertainty_us"].as_u64().unwrap());
    assert!(visorbus_hub::unix_micros().abs_diff(made) < 60_000_000, "{last}");
    assert!(uncertainty < 500_000, "{last}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_subscription_quietly() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let mut command = place.command(&["subscribe", "imu/**"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    // It notices with the next sample.
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
    assert_eq!(parse(&line)["topic"], "imu/sample");

    let done = Process::start(&mut place.shell("visorbus subscribe 'imu/**' | head -n 1")).finish();
    assert_eq!((done.code, done.err.as_str(), done.out.lines().count()), (Some(0), "", 1));
}

#[test]
fn a_subscription_outlives_the_hub_and_says_so() {
    let place = Place::for_boards();
    let (board, line) = place.board();
    let hub = place.serve(&["--serial", &line]);
    let mut subscriber = place.start(&["subscribe", "imu/**"]);
    subscriber.line();
    hub.signal(Signal::SIGTERM);
    assert_eq!(hub.finish().code, Some(0));
    let said = subscriber.wait_for_error("waiting for the hub");
    assert!(said.starts_with("visorbus: connection error:"), "{said}");
    while subscriber.try_line().is_some() {}
    let _hub = place.serve(&["--serial", &line]);
    subscriber.wait_for_error("visorbus: the hub is back");
    assert_eq!(parse(&subscriber.line())["topic"], "imu/sample");
    drop(board);
}
