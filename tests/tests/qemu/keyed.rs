//! The sensor on a Cortex-M4, on a line with a key: no token, every frame tagged.

use std::sync::Arc;

use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_core::secure::LinkKey;
use visorbus_imu::link_key;
use visorbus_imu::messages::{GetInfo, SetRate};
use visorbus_mcu::BoardKeys;

use crate::board::{Board, SENSOR_KEYED};
use crate::line::{Operator, TestHub, samples, samples_without_gaps};

#[test]
fn a_board_with_nothing_but_its_links_key_serves_and_its_callers_are_the_hubs_to_judge() {
    let (hub, operator, _board) = board();
    assert_eq!(operator.call::<SetRate>(&200), 200);
    let viewer = hub.client("viewer", &["request:imu/*"]);
    let refusal = viewer.call::<SetRate>(&50, None).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Authorization);
    assert_eq!(operator.info().rate_hz, 200);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    samples(&stream, 3);
    samples_without_gaps(&stream, 400, 200);
    let imu = hub.peer("imu").unwrap();
    assert!(imu.authenticated, "{imu:?}");
    assert_eq!((imu.sessions, imu.undecodable, imu.refused), (1, 0, 0), "{imu:?}");
    let handshakes = imu.faults.iter().find(|fault| fault.name == "handshakes").map(|fault| fault.count);
    assert_eq!(handshakes, Some(1), "{imu:?}");
}

#[test]
fn a_keyed_board_is_back_after_a_reset_and_after_a_restart_of_the_hub() {
    let (mut hub, operator, mut board) = board();
    let before = operator.info().boot_id;
    board.relay.set_deaf(true);
    board.monitor("system_reset");
    board.relay.set_deaf(false);
    operator.wait("imu", false);
    operator.wait("imu", true);
    assert_ne!(operator.info().boot_id, before);
    // Its name is free again for who comes after it.
    drop(operator);
    hub.restart(|| ());
    attach(&hub);
    hub.operator().wait("imu", true);
    assert!(hub.client("caller", &["*"]).call::<GetInfo>(&(), None).is_ok());
}

#[test]
fn garbage_on_a_line_with_a_key_changes_nothing() {
    let (hub, operator, mut board) = board();
    let before = operator.info().boot_id;
    for round in 0..50_u8 {
        board.relay.inject((0..200).map(|byte: u8| byte.wrapping_mul(31) ^ round).collect());
        if round % 10 == 0 {
            assert_eq!(operator.info().boot_id, before);
        }
    }
    assert_eq!(operator.info().boot_id, before);
    assert_eq!(hub.peer("imu").unwrap().sessions, 1);
}

fn board() -> (TestHub, Operator, Board) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let board = Board::start(&SENSOR_KEYED, &hub.line("imu-line"));
    attach(&hub);
    operator.wait("imu", true);
    (hub, operator, board)
}

fn attach(hub: &TestHub) {
    hub.attach_with("imu-line", "", Arc::new(Development) as Arc<dyn BoardKeys>);
}

/// A hub that knows the key that everyone knows.
struct Development;

impl BoardKeys for Development {
    fn link_key(&self, name: &str, id: u8) -> Option<LinkKey> {
        Some(link_key()).filter(|key| key.name() == name && key.id() == id)
    }
}
