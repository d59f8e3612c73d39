//! `visorbus services` and `visorbus peers`: who is there, who comes and goes, whose clock is how far off.

use visorbus_hub::info::{PeerInfo, ServiceChange, ServiceInfo};

use crate::place::Place;

#[test]
fn a_hub_without_peers_lists_its_own_services_alone() {
    let place = Place::new();
    let _hub = place.serve(&[]);
    let text = place.succeed(&["services"]);
    assert!(text.starts_with("ADDRESS "), "{text}");
    assert!(text.lines().skip(1).all(|line| line.contains("(hub)")), "{text}");
    for args in [["services", "--json"], ["--json", "services"]] {
        let listed: Vec<ServiceInfo> = serde_json::from_str(&place.succeed(&args)).unwrap();
        let names: Vec<&str> = listed.iter().map(|service| service.component.as_str()).collect();
        assert_eq!(names, ["config", "hardware", "manager", "monitoring"]);
    }
}

#[test]
fn a_board_is_listed_with_what_it_offers_and_what_that_needs() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let text = place.succeed(&["services"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for (address, kind, needs) in [
        ("imu/info", "endpoint", "permission"),
        ("imu/set-rate", "endpoint", "scope imu.control"),
        ("imu/self-test", "endpoint", "permission"),
        ("imu/sample", "publishes", "permission"),
    ] {
        let row =
            rows.iter().find(|row| row[0] == address).unwrap_or_else(|| panic!("no {address}:\n{text}"));
        let said = row.join(" ");
        assert!(said.starts_with(&format!("{address} {kind} {needs} imu serial /dev/pts/")), "{said}");
    }
    let services: Vec<ServiceInfo> = serde_json::from_str(&place.succeed(&["services", "--json"])).unwrap();
    let imu = services.iter().find(|service| service.component == "imu").unwrap();
    assert_eq!((imu.peer.as_str(), imu.addresses.len()), ("imu", 4));
    let info = &imu.addresses.iter().find(|address| address.address == "imu/info").unwrap();
    let types = format!("0x{} -> 0x{}", info.request_hash, info.response_hash);
    assert!(
        text.lines().any(|line| line.starts_with("imu/info") && line.ends_with(&types)),
        "{types}:\n{text}"
    );
}

#[test]
fn the_clock_of_a_board_is_shown_with_its_drift_and_a_bound() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    let clock = loop {
        let peers: Vec<PeerInfo> = serde_json::from_str(&place.succeed(&["peers", "--json"])).unwrap();
        let board = peers.into_iter().find(|peer| peer.name == "imu");
        match board.and_then(|board| board.clock) {
            Some(clock) if clock.bound_us.is_some_and(|bound| bound < 100_000) => break clock,
            _ => {}
        }
    };
    let now_us = visorbus_hub::unix_micros() as i64;
    let started_s = (now_us - clock.offset_us.unwrap()) / 1_000_000;
    assert!((0..600).contains(&started_s), "the board has run for {started_s} s: {clock:?}");
    let text = place.succeed(&["peers"]);
    let (peers, clocks) = text.split_once("\n\n").unwrap();
    assert!(peers.starts_with("PEER ") && peers.lines().any(|line| line.starts_with("imu ")), "{text}");
    let rows: Vec<Vec<&str>> = clocks.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["CLOCK-OF", "ZERO-S", "DRIFT-PPM", "BOUND-US", "ECHOES", "LATE"]);
    let row = rows.iter().find(|row| row[0] == "imu").unwrap();
    let zero_us = (row[1].parse::<f64>().unwrap() * 1e6) as i64;
    assert!((zero_us - clock.offset_us.unwrap()).abs() < 200_000, "{text}");
    assert!(row[2].starts_with(['+', '-']) && row[3].parse::<u32>().is_ok(), "{text}");
    assert!(row[4].parse::<u64>().unwrap() >= clock.exchanges, "{text}");
}

#[test]
fn a_watcher_sees_a_component_come_and_go() {
    let place = Place::for_boards();
    let (board, line) = place.board();
    let _hub = place.serve(&["--serial", &line]);
    place.wait_for_board();
    let mut text = place.start(&["services", "--watch"]);
    let mut json = place.start(&["services", "--watch", "--json"]);
    while !text.line().starts_with("imu/sample") {}
    let listed: Vec<ServiceInfo> = serde_json::from_str(&json.line()).unwrap();
    assert!(listed.iter().any(|service| service.component == "imu"));
    drop(board);
    while text.line() != "down imu by imu" {}
    loop {
        let change: ServiceChange = serde_json::from_str(&json.line()).unwrap();
        if change.component == "imu" {
            assert_eq!(change, ServiceChange { component: "imu".into(), peer: "imu".into(), up: false });
            break;
        }
    }
    // A publisher is there as long as it takes.
    place.succeed(&["publish", "room/light", "1"]);
    while !text.line().starts_with("up   cli.") {}
    while !text.line().starts_with("down cli.") {}
}
