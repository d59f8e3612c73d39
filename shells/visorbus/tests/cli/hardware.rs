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
