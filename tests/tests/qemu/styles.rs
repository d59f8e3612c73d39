//! The sensor in its other run styles: a task under Embassy, turns in an interrupt under RTIC. The node is the same.

use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_imu::messages::{SelfTest, SetRate};
use visorbus_imu::motion::sample_at;

use crate::board::{Board, Firmware, SENSOR_EMBASSY, SENSOR_RTIC};
use crate::line::{TestHub, samples, samples_without_gaps};

#[test]
fn the_sensor_under_embassy_serves_and_survives_a_reset() {
    scenario(&SENSOR_EMBASSY);
}

#[test]
fn the_sensor_under_rtic_serves_and_survives_a_reset() {
    scenario(&SENSOR_RTIC);
}

fn scenario(firmware: &Firmware) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let mut board = Board::start(firmware, &hub.line("imu-line"));
    hub.attach("imu-line", ",unkeyed=imu");
    operator.wait("imu", true);
    let info = operator.info();
    assert_eq!((info.board.as_str(), info.rate_hz), ("mps2-an386", 100));
    let viewer = hub.client("viewer", &["request:imu/*"]);
    assert_eq!(viewer.call::<SetRate>(&50, None).unwrap_err().kind(), ErrorKind::Authorization);
    assert_eq!(operator.call::<SetRate>(&200), 200);

    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    // Those of the old rate may be on their way.
    samples(&stream, 3);
    let seen = samples_without_gaps(&stream, 200, 200);
    for sample in &seen {
        assert_eq!((sample.accel, sample.gyro), sample_at(sample.timestamp_us), "the bits of this machine");
    }
    assert!(operator.call::<SelfTest>(&()).passed);

    // Noise costs nothing but itself.
    board.relay.inject(b"\x30noise\0\0\x02".repeat(50));
    assert_eq!(operator.info().boot_id, info.boot_id);
    board.monitor("system_reset");
    operator.wait("imu", false);
    operator.wait("imu", true);
    let after = operator.info();
    assert_ne!(after.boot_id, info.boot_id);
    assert_eq!((after.rate_hz, hub.peer("imu").unwrap().sessions), (100, 2));
}
