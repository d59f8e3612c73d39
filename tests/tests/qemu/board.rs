//! The emulator with a firmware in it, its UART behind a line for the hub.

use std::io::{PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use visorbus_hub::info::PeerInfo;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::pty::Pty;

/// The emulator with the firmware in it, its UART behind a line for the hub; dropping it cuts the power.
pub(crate) struct Board {
    emulator: Child,
    pub(crate) relay: Relay,
    directory: tempfile::TempDir,
    turn: Rc<MutexGuard<'static, ()>>,
}

impl Board {
    /// Starts a board when no other test has one.
    pub(crate) fn start(firmware: &Firmware, line: &Path) -> Self {
        Self::start_in(Rc::new(TURN.lock().unwrap_or_else(PoisonError::into_inner)), firmware, line)
    }

    /// Starts another board of the same test.
    pub(crate) fn start_beside(&self, firmware: &Firmware, line: &Path) -> Self {
        Self::start_in(self.turn.clone(), firmware, line)
    }

    fn start_in(turn: Rc<MutexGuard<'static, ()>>, firmware: &Firmware, line: &Path) -> Self {
        let image = firmware.image.as_ref().unwrap_or_else(|error| panic!("{error}"));
        let directory = tempfile::tempdir().unwrap();
        let (uart, hub) = (Pty::open().unwrap(), Pty::open().unwrap());
        let emulator = Command::new(QEMU)
            .current_dir(&directory)
            .args(["-machine", firmware.machine, "-display", "none"])
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
        hub.plug(line).unwrap();
        Self { emulator, relay: Relay::start(uart, hub), directory, turn }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.emulator), signal).unwrap();
    }

    /// Gives the emulator a command, and waits until it has done it; what it says.
    pub(crate) fn monitor(&self, command: &str) -> String {
        let mut monitor = UnixStream::connect(self.directory.path().join("monitor.sock")).unwrap();
        monitor.set_read_timeout(Some(PATIENCE)).unwrap();
        read_to_prompt(&mut monitor);
        writeln!(monitor, "{command}").unwrap();
        read_to_prompt(&mut monitor)
    }
}

fn read_to_prompt(monitor: &mut UnixStream) -> String {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"(qemu) ") {
        monitor.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// Carries bytes between the board's UART and the hub's line, on a thread of its own. It ends with either of them.
pub(crate) struct Relay {
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

    pub(crate) fn inject(&mut self, bytes: Vec<u8>) {
        self.order(Order::Inject(bytes));
    }

    pub(crate) fn set_deaf(&mut self, deaf: bool) {
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

/// Demands that nothing was lost or garbled on a line. On a busy machine the emulator may be late to acknowledge, and
/// then something is sent again.
#[track_caller]
pub(crate) fn expect_sound_line(peer: &PeerInfo) {
    let mut faults = peer.faults.iter().filter(|fault| fault.name != "resent");
    assert!(faults.all(|fault| fault.count == 0), "{peer:?}");
}

/// A firmware, and the board that it is for.
pub(crate) struct Firmware {
    /// The emulator's name for the board.
    machine: &'static str,
    /// The image, built when it is first asked for; or what to do where that cannot be.
    image: LazyLock<Result<PathBuf, String>>,
}

/// The sensor on a Cortex-M4.
pub(crate) static SENSOR: Firmware =
    Firmware { machine: "mps2-an386", image: LazyLock::new(|| build("imu-sensor", "thumbv7em-none-eabihf")) };

/// The sensor on a Cortex-M4, on a line with a key.
pub(crate) static SENSOR_KEYED: Firmware = Firmware {
    machine: "mps2-an386",
    image: LazyLock::new(|| build_image("imu-sensor", "imu-sensor-keyed", "thumbv7em-none-eabihf")),
};

/// The sensor on a Cortex-M4, under Embassy.
pub(crate) static SENSOR_EMBASSY: Firmware = Firmware {
    machine: "mps2-an386",
    image: LazyLock::new(|| build("imu-sensor-embassy", "thumbv7em-none-eabihf")),
};

/// The sensor on a Cortex-M4, under RTIC.
pub(crate) static SENSOR_RTIC: Firmware = Firmware {
    machine: "mps2-an386",
    image: LazyLock::new(|| build("imu-sensor-rtic", "thumbv7em-none-eabihf")),
};

/// The controller on a Cortex-M3.
pub(crate) static CONTROLLER: Firmware = Firmware {
    machine: "mps2-an385",
    image: LazyLock::new(|| build("controller-board", "thumbv7m-none-eabi")),
};

fn build(package: &str, target: &str) -> Result<PathBuf, String> {
    build_image(package, package, target)
}

/// One of the images of a package.
fn build_image(package: &str, image: &str, target: &str) -> Result<PathBuf, String> {
    if Command::new(QEMU).arg("--version").output().is_err() {
        return Err(format!("{QEMU} is not installed: apt-get install {QEMU}"));
    }
    let libraries = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let libraries = libraries.map_err(|error| format!("rustc does not start: {error}"))?;
    if !Path::new(String::from_utf8_lossy(&libraries.stdout).trim()).is_dir() {
        return Err(format!("Rust has no {target}: rustup target add {target}"));
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-examples");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--release", "--locked", "--target", target, "-p", package])
        .current_dir(&workspace)
        // The image is where users look for it, and has the key that everyone knows.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("VISORBUS_DEVICE_KEY")
        .env_remove("VISORBUS_LINK_KEY")
        .status();
    match built {
        Ok(status) if status.success() => {
            Ok(workspace.join("target").join(target).join("release").join(image))
        }
        Ok(status) => Err(format!("the firmware does not build, see above: {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}

/// Tests run their emulators in turn: each takes a whole core when its board is busy.
static TURN: Mutex<()> = Mutex::new(());

const QEMU: &str = "qemu-system-arm";
