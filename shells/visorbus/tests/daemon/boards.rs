//! Boards that do not answer: whom that holds up, and whom not.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use visorbus_core::ErrorKind;
use visorbus_hub::{OwnedMessage, OwnedPayload};
use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::house::{House, ask, json};
use crate::place::{PATIENCE, Place, Process};

/// Asks until it is so.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

/// Frames that the hub has sent to a board.
fn sent_to(place: &Place, board: &str) -> u64 {
    let peers: Vec<Value> = serde_json::from_str(&place.succeed(&["peers", "--json"])).unwrap();
    let board = peers.iter().find(|peer| peer["name"] == board).unwrap();
    board["frames_out"].as_u64().unwrap()
}

#[test]
fn commands_that_wait_for_a_silent_board_on_every_way_hold_up_no_other_service_no_other_board_and_no_end() {
    let (bus, place) = (DbusDaemon::start(), Place::for_boards());
    let uid = rustix::process::geteuid().as_raw();
    place.write_policy(&format!(
        "[[unix]]\nuid = {uid}\nsubject = \"desktop\"\nscopes = [\"request:**\", \"imu.control\"]\n"
    ));
    let [(imu, imu_line), (_controller, controller_line)] =
        ["imu", "controller"].map(|name| place.board_named(name));
    fs::write(
        place.path().join("visorbus.toml"),
        format!(
            "[dbus]\nenabled = true\nbus = \"{}\"\n[links]\nserial = [\"{imu_line}\", \"{controller_line}\"]\n\
             [limits]\nline_heartbeat_ms = 60000\n\
             [hardware]\nscan_interval_ms = 3600000\ncommand_timeout_ms = 60000\n",
            bus.address()
        ),
    )
    .unwrap();
    let house = House::on(place);
    let place = &house.place;
    let shown = |board: &str| place.run(&["hardware", "show", &format!("board/{board}"), "--json"]).out;
    wait_until("the boards have not told all", || {
        shown("imu").contains("imu/set-rate") && shown("controller").contains("controller/led")
    });
    let scopes = ["request:**", "imu.control", "controller.control"];
    let (commander, operator) = (house.client("commander", &scopes), house.client("operator", &scopes));

    imu.signal(Signal::SIGSTOP);
    let order = |device: &str, command: &str, argument: &str| {
        json(format!(r#"{{"device":"board/{device}","command":"{command}","argument":{argument}}}"#))
    };
    let set_rate = order("imu", "set-rate", "50");
    let first = thread::spawn(move || ask(&commander, "hardware/command", set_rate));
    let list = || OwnedMessage::request("hardware/list", OwnedPayload::Empty);
    let is_busy = || operator.send_request(list(), Some(Duration::from_millis(200))).is_err();
    wait_until("the first command does not wait", is_busy);
    let before = sent_to(place, "imu");
    let mut busctl = Command::new("busctl");
    busctl.arg(format!("--address={}", bus.address())).args(["--timeout=60", "call", "org.visorbus.Bus1"]);
    busctl.args(["/org/visorbus/Bus1", "org.visorbus.Hardware1", "Command", "ssv", "board/imu", "set-rate"]);
    let mut second = Process::start(busctl.args(["q", "60"]));
    wait_until("the second command is not sent", || sent_to(place, "imu") > before);

    for (address, payload) in [
        ("config/get", json(r#"{"category":"log","key":"level"}"#)),
        ("monitoring/health", OwnedPayload::Empty),
        ("manager/status", OwnedPayload::Empty),
    ] {
        ask(&operator, address, payload).unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    // The other board itself is asked past the inventory.
    assert_eq!(place.succeed(&["call", "controller/led", "true"]), "true");
    // One command of the inventory's is done at a time: a further one is told when its own time is over, and is not done
    // after that.
    let further = OwnedMessage::request("hardware/command", order("controller", "led", "false"));
    let late = operator.send_request(further, Some(Duration::from_millis(200))).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    assert!(place.succeed(&["call", "controller/info"]).contains("\"led\":true"));
    assert!(!first.is_finished() && !second.has_ended(), "nothing of this has waited for them");

    ask(&operator, "manager/shutdown", OwnedPayload::Empty).unwrap();
    let gone = first.join().unwrap().unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Connection, "{gone}");
    assert_ne!(second.finish().code, Some(0));
    let House { place, hub, .. } = house;
    let done = hub.finish();
    assert!(done.code.is_some() && !place.socket().exists(), "{done:?}");
    imu.signal(Signal::SIGCONT);
}
