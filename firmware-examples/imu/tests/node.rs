//! One scenario for the node, wherever it runs: on this machine behind a socket, and in the emulated microcontroller.

mod line;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use line::{Hub, Wire};
use visorbus_core::message::typed::TypeSchema;
use visorbus_core::serve::serve;
use visorbus_core::{ErrorKind, Instant};
use visorbus_imu::messages::{GetInfo, Info, Report, Sample, SelfTest, SetRate};
use visorbus_imu::{ImuBoard, ImuNode, device_key, leaf, motion};

#[test]
fn the_node_on_this_machine() {
    let (near, far) = UnixStream::pair().unwrap();
    let resets = Arc::new(AtomicU32::new(0));
    let node = std::thread::spawn({
        let resets = resets.clone();
        move || run_node_with_resets(&far, &resets)
    });
    let mut hub = Hub::new(near);
    scenario(&mut hub, Host::NAME, || {
        resets.fetch_add(1, Ordering::SeqCst);
    });
    drop(hub);
    node.join().unwrap();
}

#[test]
fn the_firmware_in_the_emulator() {
    let mut emulator = Emulator::start(&build_firmware());
    let mut hub = Hub::new(emulator.connect("uart.sock"));
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
    hub.samples.clear();
    hub.run_until("a sample", |hub| hub.samples.len() >= 2);
    hub.samples.clear();
    let count = usize::from(rate_hz) / 5;
    hub.run_until("samples", |hub| hub.samples.len() > count);
    for pair in hub.samples.windows(2) {
        assert_eq!(pair[1].timestamp_us - pair[0].timestamp_us, 1_000_000 / u64::from(rate_hz));
    }
    for Sample { timestamp_us, accel, gyro } in &hub.samples {
        assert_eq!((*accel, *gyro), motion::sample_at(*timestamp_us), "the same bits as on this machine");
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

struct Host(std::time::Instant);

impl ImuBoard for Host {
    const NAME: &'static str = "this machine";

    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// Runs the node until the other end hangs up. It starts anew whenever `resets` counts on.
fn run_node_with_resets(stream: &UnixStream, resets: &Arc<AtomicU32>) {
    for boot in 0.. {
        let (started, counter) = (std::time::Instant::now(), resets.clone());
        let cut = move || counter.load(Ordering::SeqCst) > boot;
        let mut peer =
            leaf(Wire::with_cut(stream.try_clone().unwrap(), cut), 1 + u64::from(boot), device_key());
        let _gone = serve(&mut peer, &mut ImuNode::new(Host(started), 1 + u64::from(boot)), |due| {
            let now = Instant::from_micros(started.elapsed().as_micros() as u64);
            let wait = due.map_or(WAIT, |due| due.duration_since(now).min(WAIT));
            std::thread::sleep(wait);
            Instant::from_micros(started.elapsed().as_micros() as u64)
        });
        if resets.load(Ordering::SeqCst) == boot {
            return;
        }
    }
}

/// How late the host's loop may see what has arrived.
const WAIT: Duration = Duration::from_micros(500);

fn build_firmware() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--package", "imu-sensor"])
        .current_dir(workspace)
        .status()
        .unwrap();
    assert!(built.success(), "the firmware builds; see above");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    target.join(TARGET).join("release/imu-sensor")
}

/// QEMU with the firmware in it; killed when dropped.
struct Emulator {
    child: Child,
    folder: tempfile::TempDir,
}

impl Emulator {
    fn start(image: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("qemu-system-arm")
            .current_dir(&folder)
            .args(["-machine", "mps2-an386", "-display", "none"])
            .args(["-serial", "unix:uart.sock,server=on,wait=off"])
            .args(["-monitor", "unix:monitor.sock,server=on,wait=off"])
            .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
            .arg(image)
            .stdin(Stdio::null())
            // A file: a pipe that nobody reads would block the firmware.
            .stdout(std::fs::File::create(folder.path().join("log.defmt")).unwrap())
            .spawn()
            .expect("qemu-system-arm is installed");
        Self { child, folder }
    }

    /// Connects to one of its sockets, as soon as it is there.
    fn connect(&self, socket: &str) -> UnixStream {
        for _ in 0..500 {
            if let Ok(stream) = UnixStream::connect(self.folder.path().join(socket)) {
                return stream;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the emulator opens no {socket}");
    }

    /// Ends it; the bytes of its log.
    fn stop(&mut self) -> Vec<u8> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut log = Vec::new();
        std::fs::File::open(self.folder.path().join("log.defmt")).unwrap().read_to_end(&mut log).unwrap();
        log
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}

const TARGET: &str = "thumbv7em-none-eabihf";
