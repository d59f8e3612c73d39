//! One scenario for the node, wherever it runs: on this machine behind a socket, and in the emulated microcontroller.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use visorbus_core::ErrorKind;
use visorbus_core::message::typed::TypeSchema;
use visorbus_core::serve::serve;
use visorbus_firmware_harness::{Emulator, Host, Hub, build_firmware, run_with_resets};
use visorbus_imu::messages::{GetInfo, Info, NAME, Report, Sample, Samples, SelfTest, SetRate};
use visorbus_imu::{ImuBoard as _, ImuNode, device_key, leaf, motion};

#[test]
fn the_node_on_this_machine() {
    let (near, far) = UnixStream::pair().unwrap();
    let resets = Arc::new(AtomicU32::new(0));
    let node = std::thread::spawn({
        let resets = resets.clone();
        move || {
            run_with_resets(&far, &resets, |line, boot_id, host| {
                let mut peer = leaf(line, boot_id, device_key());
                let _gone = serve(&mut peer, &mut ImuNode::new(host, boot_id), |due| host.wait(due));
            });
        }
    });
    let mut hub = Hub::new(near, NAME, &["request:imu/*"]);
    scenario(&mut hub, Host::NAME, || {
        resets.fetch_add(1, Ordering::SeqCst);
    });
    drop(hub);
    node.join().unwrap();
}

#[test]
fn the_firmware_in_the_emulator() {
    run_firmware("imu-sensor");
}

#[test]
fn the_firmware_under_embassy() {
    run_firmware("imu-sensor-embassy");
}

#[test]
fn the_firmware_under_rtic() {
    run_firmware("imu-sensor-rtic");
}

fn run_firmware(package: &str) {
    let mut emulator = Emulator::start("mps2-an386", &build_firmware(package, "thumbv7em-none-eabihf"));
    let mut hub = Hub::new(emulator.connect("uart.sock"), NAME, &["request:imu/*"]);
    let mut monitor = emulator.connect("monitor.sock");
    scenario(&mut hub, "mps2-an386", || monitor.write_all(b"system_reset\n").unwrap());
    let log = emulator.stop();
    assert!(!log.is_empty(), "the firmware logs over semihosting");
}

/// Everything that the node does, and its reset at the end.
fn scenario(hub: &mut Hub, board: &str, reset: impl FnOnce()) {
    hub.run_until("hello and both proofs", |hub| hub.hellos == 1 && hub.proofs == 1 && hub.taken == 1);
    let boot_id = hub.boot_id();

    assert_eq!(hub.describe(), table());

    let info = hub.call::<GetInfo>(&()).unwrap();
    assert_eq!((info.board.as_str(), info.boot_id, info.rate_hz), (board, boot_id, 100));
    assert_eq!(info.firmware, env!("CARGO_PKG_VERSION"));

    let refused = hub.call::<SetRate>(&200).unwrap_err();
    assert_eq!(refused.0, ErrorKind::Authorization);
    assert!(refused.1.contains("'imu.control'"), "{}", refused.1);
    expect_samples(hub, 100);

    hub.authenticate(&["request:imu/*", "imu.control"]);
    for wrong in [0, 1001, u16::MAX] {
        let refused = hub.call::<SetRate>(&wrong).unwrap_err();
        assert_eq!(refused, (ErrorKind::Message, "the rate goes from 1 to 1000 Hz".to_owned()));
    }
    assert_eq!(hub.call::<SetRate>(&250).unwrap(), 250);
    expect_samples(hub, 250);

    let report = hub.call::<SelfTest>(&()).unwrap();
    assert!(report.passed, "{report:?}");

    let later = hub.call::<GetInfo>(&()).unwrap();
    assert_eq!(later.rate_hz, 250);
    assert!(later.uptime_us > info.uptime_us && later.samples_sent > info.samples_sent);
    assert_eq!(later.samples_dropped, 0, "the line is fast enough");

    reset();
    hub.run_until("hello again", |hub| hub.hellos == 2 && hub.proofs == 2 && hub.taken == 3);
    assert_ne!(hub.boot_id(), boot_id);
    assert_eq!(hub.call::<GetInfo>(&()).unwrap().rate_hz, 100, "it has started anew");
    expect_samples(hub, 100);
}

/// Waits for a fifth of a second of samples, none missing, and holds them against the motion.
fn expect_samples(hub: &mut Hub, rate_hz: u16) {
    // One of the old rate may be on its way.
    hub.clear();
    hub.run_until("a sample", |hub| hub.published::<Samples>().len() >= 2);
    hub.clear();
    let count = usize::from(rate_hz) / 5;
    hub.run_until("samples", |hub| hub.published::<Samples>().len() > count);
    let samples = hub.published::<Samples>();
    for pair in samples.windows(2) {
        assert_eq!(pair[1].timestamp_us - pair[0].timestamp_us, 1_000_000 / u64::from(rate_hz));
    }
    for Sample { timestamp_us, accel, gyro } in samples {
        assert_eq!((accel, gyro), motion::sample_at(timestamp_us), "the same bits as on this machine");
    }
}

/// What the node tells of itself.
fn table() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    fn row(address: &str, request: TypeSchema, response: TypeSchema) -> (String, Vec<u8>, Vec<u8>) {
        (address.to_owned(), request.bytes.to_vec(), response.bytes.to_vec())
    }
    vec![
        row("imu/info", TypeSchema::of::<()>(), TypeSchema::of::<Info>()),
        row("imu/set-rate", TypeSchema::of::<u16>(), TypeSchema::of::<u16>()),
        row("imu/self-test", TypeSchema::of::<()>(), TypeSchema::of::<Report>()),
        row("imu/sample", TypeSchema::of::<Sample>(), TypeSchema::of::<()>()),
    ]
}
