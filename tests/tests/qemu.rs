//! The real firmware on the emulated board, the hub at the other end of its UART, clients on the hub's socket.

mod line;

use std::io::{PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_imu::messages::{SelfTest, SetRate};
use visorbus_imu::motion::sample_at;
use visorbus_tests::faulty_link::Random;

use line::{AT_ONCE, Operator, PATIENCE, Pty, TestHub, expect_no_gaps, samples};

#[test]
fn the_board_is_called_and_refuses_who_may_not() {
    let (hub, operator, _board) = board();
    let info = operator.info();
    assert_eq!((info.board.as_str(), info.rate_hz), ("mps2-an386", 100));
    let viewer = hub.client("viewer", &["request:imu/*"]);
    let refusal = viewer.call::<SetRate>(&50, None).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Authorization);
    assert!(refusal.text().starts_with("imu/set-rate: this needs the scope 'imu.control'"), "{refusal}");
    assert_eq!(operator.info().rate_hz, 100);
    assert_eq!(operator.call::<SetRate>(&50), 50);
    assert_eq!(operator.info().rate_hz, 50);
    let wrong = operator.client.call::<SetRate>(&1_001, None).unwrap_err();
    assert_eq!(
        (wrong.kind(), wrong.text().as_str()),
        (ErrorKind::Message, "the rate goes from 1 to 1000 Hz")
    );
    let report = operator.call::<SelfTest>(&());
    assert!(report.passed, "{report:?}");
    let imu = hub.peer("imu").unwrap();
    assert_eq!((imu.sessions, imu.undecodable, imu.refused), (1, 0, 0), "{imu:?}");
    assert!(imu.faults.iter().all(|fault| fault.count == 0), "{imu:?}");
}

#[test]
fn the_board_streams_at_its_rate_without_gaps() {
    let (_hub, operator, _board) = board();
    assert_eq!(operator.call::<SetRate>(&200), 200);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    // Those of the old rate may be on their way.
    samples(&stream, 3);
    let started = Instant::now();
    let samples = samples(&stream, 600);
    let rate_hz = samples.len() as f64 / started.elapsed().as_secs_f64();
    assert!((190.0..=210.0).contains(&rate_hz), "{rate_hz} Hz");
    expect_no_gaps(&samples, 200);
    for sample in &samples {
        assert_eq!((sample.accel, sample.gyro), sample_at(sample.timestamp_us), "the bits of this machine");
    }
    assert_eq!(operator.info().samples_dropped, 0);
}

#[test]
fn a_reset_fails_what_waits_and_the_board_is_back_under_a_new_boot_id() {
    let (hub, operator, mut board) = board();
    let before = operator.info().boot_id;
    // What is on the line at the reset is lost, as in a real UART.
    board.relay.set_deaf(true);
    let call = hub.pending_call(&hub.client("caller", &["*"]));
    let reset = Instant::now();
    board.monitor("system_reset");
    board.relay.set_deaf(false);
    call.expect_gone(reset, "it started again");
    operator.wait("imu", false);
    operator.wait("imu", true);
    assert!(reset.elapsed() < 2 * AT_ONCE, "{:?}", reset.elapsed());
    let after = operator.info();
    assert_ne!(after.boot_id, before);
    assert_eq!(after.rate_hz, 100);
    assert_eq!(hub.peer("imu").unwrap().sessions, 2);
}

#[test]
fn a_board_that_loses_power_in_a_call_is_told_of_at_once_and_comes_back() {
    let (hub, operator, board) = board();
    let before = operator.info().boot_id;
    board.signal(Signal::STOP);
    let call = hub.pending_call(&hub.client("caller", &["*"]));
    let killed = Instant::now();
    board.signal(Signal::KILL);
    call.expect_gone(killed, "imu-line is gone");
    operator.wait("imu", false);
    drop(board);
    let _board = Board::start(&hub.line("imu-line"));
    operator.wait("imu", true);
    assert_ne!(operator.info().boot_id, before);
}

#[test]
fn a_board_that_hangs_is_noticed_by_its_silence_and_taken_back_when_it_goes_on() {
    let (hub, operator, board) = board();
    let before = operator.info();
    board.signal(Signal::STOP);
    let call = hub.pending_call(&hub.client("caller", &["*"]));
    let stopped = Instant::now();
    operator.wait("imu", false);
    let (error, after) = call.error(stopped);
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.text().starts_with("imu is gone (it was silent for three heartbeats)"), "{error}");
    // Heartbeats are a second apart, and the last one was up to a second ago.
    assert!((Duration::from_millis(1_900)..Duration::from_millis(3_500)).contains(&after), "{after:?}");
    board.signal(Signal::CONT);
    operator.wait("imu", true);
    let after = operator.info();
    assert_eq!(after.boot_id, before.boot_id, "it was not reset");
    assert!(after.uptime_us > before.uptime_us);
}

#[test]
fn a_thousand_frames_of_garbage_do_not_stop_the_board() {
    let (hub, operator, mut board) = board();
    let before = operator.info();
    let mut random = Random::new(21);
    for round in 0..100 {
        for _ in 0..10 {
            // Short ones, and now and then one that is longer than the board's buffer.
            let longest = if random.per_mille(30) { 600 } else { 60 };
            let mut frame: Vec<u8> = (0..random.below(longest)).map(|_| random.below(256) as u8).collect();
            frame.push(0);
            board.relay.inject(frame);
        }
        if round % 10 == 9 {
            let info = operator.info();
            assert_eq!(info.boot_id, before.boot_id, "it was not reset");
        }
    }
    assert!(operator.call::<SelfTest>(&()).passed);
    let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
    expect_no_gaps(&samples(&stream, 50), 100);
    assert_eq!(hub.peer("imu").unwrap().sessions, 1);
}

/// A hub with the board in service.
fn board() -> (TestHub, Operator, Board) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let board = Board::start(&hub.line("imu-line"));
    hub.attach("imu-line", "");
    operator.wait("imu", true);
    (hub, operator, board)
}

/// The emulator with the firmware in it, its UART behind a line for the hub; dropping it cuts the power.
struct Board {
    emulator: Child,
    relay: Relay,
    directory: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Board {
    fn start(line: &Path) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let image = FIRMWARE.as_ref().unwrap_or_else(|error| panic!("{error}"));
        let directory = tempfile::tempdir().unwrap();
        let (uart, hub) = (Pty::open(), Pty::open());
        let emulator = Command::new(QEMU)
            .current_dir(&directory)
            .args(["-machine", "mps2-an386", "-display", "none"])
            .args(["-monitor", "unix:monitor.sock,server=on,wait=off"])
            .arg("-chardev")
            .arg(format!("serial,id=uart,path={}", uart.path().display()))
            // The board takes its boot id from the host's clock; its log goes nowhere.
            .args(["-semihosting-config", "enable=on,target=native"])
            .args(["-serial", "chardev:uart", "-kernel"])
            .arg(image)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{QEMU} does not start: {error}"));
        hub.plug(line);
        Self { emulator, relay: Relay::start(uart, hub), directory, _turn: turn }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.emulator), signal).unwrap();
    }

    /// Gives the emulator a command, and waits until it has done it.
    fn monitor(&self, command: &str) {
        let mut monitor = UnixStream::connect(self.directory.path().join("monitor.sock")).unwrap();
        monitor.set_read_timeout(Some(PATIENCE)).unwrap();
        read_to_prompt(&mut monitor);
        writeln!(monitor, "{command}").unwrap();
        read_to_prompt(&mut monitor);
    }
}

fn read_to_prompt(monitor: &mut UnixStream) {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"(qemu) ") {
        monitor.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// Carries bytes between the board's UART and the hub's line, on a thread of its own. It ends with either of them.
struct Relay {
    orders: Sender<Order>,
    wake: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// What a relay can be told.
enum Order {
    /// Write this to the board.
    Inject(Vec<u8>),
    /// Lose what comes for the board, or no longer; and say that it is so.
    Deaf(bool, Sender<()>),
}

impl Relay {
    fn start(uart: Pty, hub: Pty) -> Self {
        let (mut woken, wake) = std::io::pipe().unwrap();
        let (orders, taken) = channel();
        let thread = thread::spawn(move || {
            // Whole, with the ends that nobody reads.
            let (mut uart, hub) = (uart, hub);
            let mut deaf = false;
            let mut bytes = [0; 4_096];
            loop {
                let mut fds = [
                    PollFd::new(&uart.master, PollFlags::IN),
                    PollFd::new(&hub.master, PollFlags::IN),
                    PollFd::new(&woken, PollFlags::IN),
                ];
                poll(&mut fds, None).unwrap();
                let [from_board, from_hub, told] = fds.map(|fd| !fd.revents().is_empty());
                if from_board {
                    let Some(count) = read(&uart.master, &mut bytes) else { return };
                    if count > 0 {
                        // The emulator has it open by now: when that closes it, it is gone.
                        uart.leave_far_end();
                        write_all(&hub.master, &bytes[..count]);
                    }
                }
                if from_hub {
                    let Some(count) = read(&hub.master, &mut bytes) else { return };
                    if !deaf {
                        write_all(&uart.master, &bytes[..count]);
                    }
                }
                if told {
                    if !matches!(woken.read(&mut bytes[..1]), Ok(1)) {
                        return;
                    }
                    match taken.recv().unwrap() {
                        Order::Inject(bytes) => write_all(&uart.master, &bytes),
                        Order::Deaf(now, done) => {
                            deaf = now;
                            done.send(()).unwrap();
                        }
                    }
                }
            }
        });
        Self { orders, wake: Some(wake), thread: Some(thread) }
    }

    fn inject(&mut self, bytes: Vec<u8>) {
        self.order(Order::Inject(bytes));
    }

    fn set_deaf(&mut self, deaf: bool) {
        let (done, is_done) = channel();
        self.order(Order::Deaf(deaf, done));
        is_done.recv_timeout(PATIENCE).unwrap();
    }

    fn order(&mut self, order: Order) {
        self.orders.send(order).unwrap();
        self.wake.as_mut().unwrap().write_all(&[0]).unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.wake.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// What has arrived; `None` when the other end is gone. There may be nothing: whoever opens a line flushes it.
fn read(line: impl AsFd, bytes: &mut [u8]) -> Option<usize> {
    match rustix::io::read(line, bytes) {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(rustix::io::Errno::AGAIN) => Some(0),
        Err(_) => None,
    }
}

/// Writes as fast as the other end reads; gives up on one that is gone, or that has stopped reading.
fn write_all(line: impl AsFd, mut bytes: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while !bytes.is_empty() && Instant::now() < deadline {
        match rustix::io::write(&line, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [PollFd::new(&line, PollFlags::OUT)];
                let time = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                poll(&mut fds, Some(&time)).unwrap();
                if fds[0].revents().contains(PollFlags::HUP) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// The firmware's image, built when it is first asked for; or what to do where that cannot be.
static FIRMWARE: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    if Command::new(QEMU).arg("--version").output().is_err() {
        return Err(format!("{QEMU} is not installed: apt-get install {QEMU}"));
    }
    let libraries = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let libraries = libraries.map_err(|error| format!("rustc does not start: {error}"))?;
    if !Path::new(String::from_utf8_lossy(&libraries.stdout).trim()).is_dir() {
        return Err(format!("Rust has no {TARGET}: rustup target add {TARGET}"));
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-examples");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "-p", "imu-sensor"])
        .current_dir(&workspace)
        // The image is where users look for it, and has the key that everyone knows.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("VISORBUS_DEVICE_KEY")
        .status();
    match built {
        Ok(status) if status.success() => {
            Ok(workspace.join("target").join(TARGET).join("release/imu-sensor"))
        }
        Ok(status) => Err(format!("the firmware does not build, see above: {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
});

/// Emulators are run one at a time: each takes a whole core when its board is busy.
static TURN: Mutex<()> = Mutex::new(());

const QEMU: &str = "qemu-system-arm";
const TARGET: &str = "thumbv7em-none-eabihf";
