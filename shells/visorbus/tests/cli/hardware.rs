//! `visorbus hardware` with a board that is a process of its own.

use std::time::Instant;

use visorbus_services::hardware::Device;

use crate::place::{Done, PATIENCE, Place, Process};

#[test]
fn the_led_of_a_controller_is_switched_by_whoever_may() {
    let (place, _hub, mut board) = controller();
    assert!(is_led(&show(&place).unwrap(), "false"));
    for (order, said) in [("true", "led on"), ("false", "led off"), ("true", "led on")] {
        assert_eq!(command(&place, &["led", order]).out, order);
        assert_eq!(board.wait_for_error("led"), said);
        wait_for(&place, |board| is_led(board, order));
    }

    let mint = |scopes: &[&str]| {
        let scopes = scopes.iter().flat_map(|scope| ["--scope", scope]);
        let args = ["auth", "token", "mint", "--subject", "viewer"].into_iter().chain(scopes);
        place.succeed(&args.collect::<Vec<_>>())
    };
    // Neither the permission for the address without the scope, nor an order that is none.
    let viewer = mint(&["request:hardware/*", "request:controller/*"]);
    for order in ["false", "50"] {
        let refused = command(&place, &["led", order, "--token", &viewer]);
        refused.expect_failure(4, "visorbus: authorization error", &["controller/led", "this needs a scope"]);
    }
    for order in ["50", "-1", "2", "\"off\""] {
        let wrong = command(&place, &["led", "--", order]);
        let said = "visorbus: serialization error: 'controller/led' takes bool";
        wrong.expect_failure(1, said, &["where true or false is needed"]);
    }
    let info = place.succeed(&["hardware", "command", "board/controller", "info"]);
    assert!(info.contains("\"led\":true"), "nothing of that switched it: {info}");
    let owner = mint(&["request:hardware/*", "controller.control"]);
    assert_eq!(command(&place, &["led", "false", "--token", &owner]).out, "false");
    assert_eq!(board.wait_for_error("led"), "led off", "the first order since");
}

#[test]
fn a_board_that_is_not_there_yet_is_waited_for() {
    let place = Place::for_boards();
    let line = place.path().join("imu.tty");
    let _hub = place.serve(&["--serial", line.to_str().unwrap()]);
    let never = place.run(&["hardware", "wait", "board/imu", "--timeout", "100ms"]);
    never.expect_failure(5, "visorbus: timeout", &["'board/imu' is not there", "visorbus hardware"]);
    let mut waiting = place.start(&["hardware", "wait", "board/imu", "--timeout", "60s"]);
    let (_board, device) = place.board();
    std::os::unix::fs::symlink(device, line).unwrap();
    assert_eq!(waiting.line(), "board/imu is ready");
    assert_eq!(waiting.finish().code, Some(0));
    let there = place.succeed(&["hardware", "wait", "board/imu", "--json", "--timeout", "0s"]);
    assert!(there.contains(r#""id":"board/imu""#) && there.contains(r#""state":"ready""#), "{there}");
}

#[test]
fn a_board_is_listed_shown_told_what_to_do_and_watched() {
    let place = Place::for_boards();
    let (_hub, board) = place.serve_board();
    let imu = || place.run(&["hardware", "show", "board/imu", "--json"]);
    while !imu().out.contains("imu/self-test") || !imu().out.contains("\"rate\"") {}
    let all = place.succeed(&["hardware"]);
    assert!(all.starts_with("DEVICE ") && all.lines().any(|line| line.starts_with("board/imu ")), "{all}");
    let boards = place.succeed(&["hardware", "list", "board", "--json"]);
    let boards: serde_json::Value = serde_json::from_str(&boards).unwrap();
    assert_eq!((boards.as_array().unwrap().len(), &boards[0]["id"]), (1, &"board/imu".into()));
    assert!(place.succeed(&["hardware", "list", "bord"]).ends_with("(no devices of the kind bord)"));
    let shown = place.succeed(&["hardware", "show", "board/imu"]);
    assert!(shown.starts_with("board/imu: imu, ready\n"), "{shown}");
    let row = shown.lines().find(|line| line.starts_with("set-rate ")).unwrap();
    assert!(row.ends_with("imu/set-rate   scope imu.control"), "{row}");
    let missing = place.run(&["hardware", "show", "board/nobody"]);
    missing.expect_failure(1, "visorbus: message error", &["no device 'board/nobody'", "hardware/list"]);

    let mut people = place.start(&["hardware", "watch"]);
    let mut programs = place.start(&["hardware", "watch", "--json", "--count", "1"]);
    people.wait_for_error("watching");
    programs.wait_for_error("watching");
    let order = |args: &[&str]| place.run(&[&["hardware", "command", "board/imu"], args].concat());
    assert_eq!(order(&["set-rate", "50"]).out, "50");
    while !people.line().contains("rate = 50 Hz") {}
    let event: serde_json::Value = serde_json::from_str(&programs.line()).unwrap();
    assert_eq!((&event["event"], &event["what"]["device"]["id"]), (&"changed".into(), &"board/imu".into()));
    assert_eq!(programs.finish().code, Some(0));
    order(&["set-rat", "1"]).expect_failure(
        1,
        "visorbus: message error",
        &["it has info, set-rate, self-test"],
    );
    order(&["set-rate", "\"fast\""]).expect_failure(1, "visorbus: serialization error", &["takes u16"]);
    let guest = place.succeed(&["auth", "token", "mint", "--subject", "guest", "--scope", "request:**"]);
    let refused = order(&["set-rate", "10", "--token", &guest]);
    refused.expect_failure(4, "visorbus: authorization error", &["imu/set-rate"]);
    assert!(order(&["info"]).out.contains("\"rate_hz\":50"), "{}", order(&["info"]).out);
    drop(board);
    while !people.line().starts_with("removed board/imu: ") {}
    assert!(place.succeed(&["hardware", "list", "board"]).ends_with("(no devices of the kind board)"));
}

/// A hub with the controller in service, all of whose commands it knows.
fn controller() -> (Place, Process, Process) {
    let place = Place::for_boards();
    let (board, line) = place.board_named("controller");
    let hub = place.serve(&["--serial", &line]);
    wait_for(&place, |board| board.command("led").is_some() && board.property("led").is_some());
    let commands: Vec<String> =
        show(&place).unwrap().commands.into_iter().map(|command| command.name).collect();
    assert_eq!(commands, ["info", "battery", "haptic", "led"]);
    (place, hub, board)
}

fn show(place: &Place) -> Option<Device> {
    let shown = place.run(&["hardware", "show", "board/controller", "--json"]);
    (shown.code == Some(0)).then(|| serde_json::from_str(&shown.out).unwrap())
}

/// Asks until the hub tells of the controller what it should.
fn wait_for(place: &Place, what: impl Fn(&Device) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !show(place).is_some_and(|board| what(&board)) {
        assert!(Instant::now() < deadline, "waited in vain: {:?}", show(place));
    }
}

/// Whether this is what is told of the lamp.
fn is_led(board: &Device, value: &str) -> bool {
    board.property("led").unwrap().value.to_string() == value
}

fn command(place: &Place, args: &[&str]) -> Done {
    place.run(&[&["hardware", "command", "board/controller"], args].concat())
}
