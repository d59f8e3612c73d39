//! The demonstration's board: a child process with a serial line, emulated or not, that can be stopped and replaced.

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

use crate::args;

/// How a board is started.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// The firmware in an emulator.
    Qemu { image: PathBuf },
    /// The firmware's node as a process of this machine; why not the emulator.
    Pty { why: String },
}

/// A board that runs. It ends with its owner.
#[derive(Debug)]
pub(crate) struct Board {
    child: Child,
    running: Running,
}

/// The child process that runs, if one does, for whoever has to end it in a hurry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<Option<Pid>>>);

impl Running {
    /// Kills the child that runs, with what it has started; no other can be started after that.
    pub(crate) fn kill(&self) {
        let pid = self.lock();
        if let Some(pid) = *pid {
            // It may have ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        std::mem::forget(pid);
    }

    /// Starts a child in a process group of its own: a Ctrl-C of the terminal is for this process to deal with.
    fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        let mut noted = self.lock();
        let child = command.process_group(0).spawn()?;
        *noted = pid_of(&child);
        Ok(child)
    }

    /// To be called before the child is waited for: after that its id may be another's.
    fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    /// Decides what can run here; building the firmware if that is all that is missing.
    pub(crate) fn choose(wanted: args::Board, running: &Running, say: &mut dyn FnMut(&str)) -> Result<Self> {
        if wanted == args::Board::Pty {
            return Ok(Self::Pty { why: "as asked for".to_owned() });
        }
        match find_image(running, say) {
            Ok(image) => Ok(Self::Qemu { image }),
            Err(why) if wanted == args::Board::Qemu => Err(Error::Message(why)),
            Err(why) => Ok(Self::Pty { why }),
        }
    }

    /// What runs, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Qemu { .. } => {
                "the imu-sensor firmware on an emulated Cortex-M4 (QEMU, mps2-an386)".to_owned()
            }
            Self::Pty { why } => format!("the imu-sensor node as a process on a pseudo-terminal ({why})"),
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
    pub(crate) fn start(&self, line: &Path, running: &Running) -> Result<Board> {
        let mut command = self.command()?;
        let spawned = running.spawn(&mut command);
        let mut child = spawned.map_err(|e| Error::Internal(format!("cannot start the board: {e}")))?;
        let paths = child.stdout.take().map(watch_for_path);
        let board = Board { child, running: running.clone() };
        let path = paths.and_then(|paths| paths.recv_timeout(START).ok());
        let path =
            path.ok_or_else(|| Error::Internal("the board did not name its serial line".to_owned()))?;
        let temporary = line.with_extension("new");
        symlink(&path, &temporary)
            .and_then(|()| fs::rename(&temporary, line))
            .map_err(|e| Error::Internal(format!("cannot name the board's line {}: {e}", line.display())))?;
        Ok(board)
    }

    fn command(&self) -> Result<Command> {
        let mut command = match self {
            Self::Qemu { image } => {
                let mut command = Command::new(QEMU);
                command.args([
                    "-machine",
                    "mps2-an386",
                    "-display",
                    "none",
                    "-monitor",
                    "none",
                    "-serial",
                    "pty",
                ]);
                command.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(image);
                command
            }
            Self::Pty { .. } => {
                let program = std::env::current_exe().map_err(|e| Error::Internal(e.to_string()))?;
                let mut command = Command::new(program);
                command.arg("demo-node");
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }
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
        self.running.forget();
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

/// The firmware's image, built if need be; or why the emulator cannot be used.
fn find_image(running: &Running, say: &mut dyn FnMut(&str)) -> std::result::Result<PathBuf, String> {
    let there =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there(QEMU) {
        return Err(format!("no {QEMU} here: install it, for example with `apt install qemu-system-arm`"));
    }
    let source = find_source().ok_or("the firmware's source is not here: run this in the repository")?;
    if !has_target() {
        return Err(format!("no target {TARGET} here: `rustup target add {TARGET}`"));
    }
    say("Building the firmware");
    let mut build = Command::new("cargo");
    // In its own folder, where cargo finds the settings of this build.
    build.args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "-p", "imu-sensor"]);
    build.current_dir(&source).env_remove("CARGO_TARGET_DIR").env_remove("VISORBUS_DEVICE_KEY");
    build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut cargo = running.spawn(&mut build).map_err(|e| format!("cargo cannot be run: {e}"))?;
    let mut text = Vec::new();
    if let Some(mut stderr) = cargo.stderr.take() {
        // What could not be read is not shown.
        let _ = stderr.read_to_end(&mut text);
    }
    running.forget();
    let built = cargo.wait().map_err(|e| format!("cargo was lost: {e}"))?;
    if !built.success() {
        let text = String::from_utf8_lossy(&text);
        let last =
            text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word why").to_owned();
        return Err(format!("the firmware does not build: {last}"));
    }
    let image = source.join("target").join(TARGET).join("release").join("imu-sensor");
    if image.is_file() { Ok(image) } else { Err(format!("no firmware at {}", image.display())) }
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

fn has_target() -> bool {
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_dir())
}

const QEMU: &str = "qemu-system-arm";
const TARGET: &str = "thumbv7em-none-eabihf";
const START: Duration = Duration::from_secs(10);
