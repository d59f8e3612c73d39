//! The demonstration's boards: child processes with a serial line each, emulated or not, that can be stopped and
//! replaced.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use visorbus_hub::{Error, Result};

use super::node::LINK_KEY;
use crate::args;

/// One of the boards: its firmware, and what that runs on.
#[derive(Debug)]
pub(crate) struct Model {
    /// Its name on the bus, and as an argument of `demo-node`.
    pub(crate) name: &'static str,
    firmware: &'static str,
    machine: &'static str,
    processor: &'static str,
    target: &'static str,
}

/// The head's motion sensor.
pub(crate) const SENSOR: Model = Model {
    name: visorbus_imu::NAME,
    firmware: "imu-sensor",
    machine: "mps2-an386",
    processor: "Cortex-M4",
    target: "thumbv7em-none-eabihf",
};

/// What the hand holds.
pub(crate) const CONTROLLER: Model = Model {
    name: visorbus_controller::NAME,
    firmware: "controller-board",
    machine: "mps2-an385",
    processor: "Cortex-M3",
    target: "thumbv7m-none-eabi",
};

/// How boards are started.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// The firmware in an emulator; where cargo puts the images.
    Qemu { images: PathBuf },
    /// The firmware's node as a process of this machine; why not the emulator.
    Pty { why: String },
}

/// A board that runs. It ends with its owner.
#[derive(Debug)]
pub(crate) struct Board {
    child: Child,
    running: Running,
}

/// The child processes that run, for whoever has to end them in a hurry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<Vec<Pid>>>);

impl Running {
    /// Kills the children that run, with what they have started; no other can be started after that.
    pub(crate) fn kill(&self) {
        let pids = self.lock();
        for pid in pids.iter() {
            // It may have ended by itself.
            let _ = kill_process_group(*pid, Signal::KILL);
        }
        std::mem::forget(pids);
    }

    /// Starts a child in a process group of its own: a Ctrl-C of the terminal is for this process to deal with.
    pub(super) fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        let mut noted = self.lock();
        let child = command.process_group(0).spawn()?;
        noted.extend(pid_of(&child));
        Ok(child)
    }

    /// To be called before the child is waited for: after that its id may be another's.
    pub(super) fn forget(&self, child: &Child) {
        let gone = pid_of(child);
        self.lock().retain(|pid| Some(*pid) != gone);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model {
    /// Its image, where cargo puts images.
    fn image(&self, images: &Path) -> PathBuf {
        images.join(self.target).join("release").join(self.firmware)
    }
}

impl Kind {
    /// Decides what can run here; building the firmware if that is all that is missing.
    pub(crate) fn choose(wanted: args::Board, running: &Running, say: &mut dyn FnMut(&str)) -> Result<Self> {
        if wanted == args::Board::Pty {
            return Ok(Self::Pty { why: "as asked for".to_owned() });
        }
        match build_images(running, say) {
            Ok(images) => Ok(Self::Qemu { images }),
            Err(why) if wanted == args::Board::Qemu => Err(Error::Message(why)),
            Err(why) => Ok(Self::Pty { why }),
        }
    }

    /// What runs, for people.
    pub(crate) fn describe(&self, model: &Model) -> String {
        let Model { firmware, machine, processor, .. } = model;
        match self {
            Self::Qemu { .. } => {
                format!("the {firmware} firmware on an emulated {processor} (QEMU, {machine})")
            }
            Self::Pty { .. } => format!("the {firmware} node as a process on a pseudo-terminal"),
        }
    }

    /// Why nothing is emulated; `None` when it is.
    pub(crate) fn why_not_emulated(&self) -> Option<&str> {
        match self {
            Self::Qemu { .. } => None,
            Self::Pty { why } => Some(why),
        }
    }

    /// A word for machines.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Qemu { .. } => "qemu",
            Self::Pty { .. } => "pty",
        }
    }

    /// Starts the board and lets `line` name its serial line.
    pub(crate) fn start(&self, model: &Model, line: &Path, running: &Running) -> Result<Board> {
        start(self.command(model)?, line, running)
    }

    /// As [`Kind::start`], with the key of the line, always as a process of this machine: an image has its key built in.
    pub(crate) fn start_keyed(
        model: &Model,
        line: &Path,
        running: &Running,
        link_key: &str,
    ) -> Result<Board> {
        let mut command = host_node(model)?;
        command.env(LINK_KEY, link_key);
        start(command, line, running)
    }

    fn command(&self, model: &Model) -> Result<Command> {
        let mut command = match self {
            Self::Qemu { images } => {
                let mut command = Command::new(QEMU);
                command.args(["-machine", model.machine, "-display", "none"]);
                command.args(["-monitor", "none", "-serial", "pty"]);
                command.args(["-semihosting-config", "enable=on,target=native"]);
                command.arg("-kernel").arg(model.image(images));
                command
            }
            Self::Pty { .. } => return host_node(model),
        };
        silence(&mut command);
        Ok(command)
    }
}

/// The board's node as a process of this machine.
fn host_node(model: &Model) -> Result<Command> {
    let program = std::env::current_exe().map_err(|e| Error::Internal(e.to_string()))?;
    let mut command = Command::new(program);
    command.args(["demo-node", model.name]);
    silence(&mut command);
    Ok(command)
}

fn silence(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
}

fn start(mut command: Command, line: &Path, running: &Running) -> Result<Board> {
    let spawned = running.spawn(&mut command);
    let mut child = spawned.map_err(|e| Error::Internal(format!("cannot start the board: {e}")))?;
    let paths = child.stdout.take().map(watch_for_path);
    let board = Board { child, running: running.clone() };
    let path = paths.and_then(|paths| paths.recv_timeout(START).ok());
    let path = path.ok_or_else(|| Error::Internal("the board did not name its serial line".to_owned()))?;
    let temporary = line.with_extension("new");
    symlink(&path, &temporary)
        .and_then(|()| fs::rename(&temporary, line))
        .map_err(|e| Error::Internal(format!("cannot name the board's line {}: {e}", line.display())))?;
    Ok(board)
}

impl Board {
    /// Freezes it: what is sent to it from now on is not answered.
    pub(crate) fn freeze(&self) -> Result<()> {
        let pid =
            pid_of(&self.child).ok_or_else(|| Error::Internal("the board has no process id".to_owned()))?;
        kill_process(pid, Signal::STOP).map_err(|e| Error::Internal(format!("cannot stop the board: {e}")))
    }

    /// Cuts its power.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        self.running.forget(&self.child);
        let _ = self.child.wait();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.end();
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The first path of a pseudo-terminal that comes out of a board. What follows is read and dropped, for a board whose
/// log nobody reads would come to a stand.
fn watch_for_path(output: impl Read + Send + 'static) -> Receiver<String> {
    let (found, paths) = channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line);
            if let Some(path) = text.split_whitespace().find(|word| word.starts_with("/dev/pts/")) {
                // Nobody waits for a second one.
                let _ = found.send(path.to_owned());
                break;
            }
            line.clear();
        }
        let mut rest = [0; 4096];
        while reader.read(&mut rest).is_ok_and(|count| count > 0) {}
    });
    paths
}

/// Where the images of all firmware are, built if need be; or why the emulator cannot be used.
fn build_images(running: &Running, say: &mut dyn FnMut(&str)) -> std::result::Result<PathBuf, String> {
    let there =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there(QEMU) {
        return Err(format!("no {QEMU} here: install it, for example with `apt install qemu-system-arm`"));
    }
    let source = find_source().ok_or("the firmware's source is not here: run this in the repository")?;
    let models = [&SENSOR, &CONTROLLER];
    if let Some(missing) = models.iter().map(|model| model.target).find(|target| !has_target(target)) {
        return Err(format!("no target {missing} here: `rustup target add {missing}`"));
    }
    say("Building the firmware");
    let images = source.join("target");
    for model in models {
        build_image(model, &source, running)?;
        let image = model.image(&images);
        if !image.is_file() {
            return Err(format!("no firmware at {}", image.display()));
        }
    }
    Ok(images)
}

fn build_image(model: &Model, source: &Path, running: &Running) -> std::result::Result<(), String> {
    let mut build = Command::new("cargo");
    // In its own folder, where cargo finds the settings of this build.
    build.args(["build", "--quiet", "--release", "--locked", "--target", model.target, "-p", model.firmware]);
    build.current_dir(source).env_remove("CARGO_TARGET_DIR").env_remove("VISORBUS_DEVICE_KEY");
    build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut cargo = running.spawn(&mut build).map_err(|e| format!("cargo cannot be run: {e}"))?;
    let mut text = Vec::new();
    if let Some(mut stderr) = cargo.stderr.take() {
        // What could not be read is not shown.
        let _ = stderr.read_to_end(&mut text);
    }
    running.forget(&cargo);
    let built = cargo.wait().map_err(|e| format!("cargo was lost: {e}"))?;
    if built.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word why");
    Err(format!("the {} firmware does not build: {last}", model.firmware))
}

/// The folder of the firmware, from here or from where this program was built, upwards.
fn find_source() -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .map(|folder| folder.join("firmware-examples"))
        .find(|folder| folder.join("imu-sensor/Cargo.toml").is_file())
}

fn has_target(target: &str) -> bool {
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    asked.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_dir())
}

const QEMU: &str = "qemu-system-arm";
const START: Duration = Duration::from_secs(10);
