//! Where a test takes place: a directory of its own, with processes that end with it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use visorbus_imu::DEVELOPMENT_ROOT_KEY;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a socket, a key file, a configuration and a home of its own.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("visorbus-cli-").tempdir().unwrap();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        Self { directory }
    }

    /// One whose hub has the key that the board of the demonstration knows.
    pub(crate) fn for_boards() -> Self {
        let place = Self::new();
        let hex: String = DEVELOPMENT_ROOT_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = place.key_file();
        fs::DirBuilder::new().mode(0o700).create(file.parent().unwrap()).unwrap();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).unwrap();
        writeln!(file, "0 {hex}").unwrap();
        visorbus_auth::Store::open_or_create(place.store_file()).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn store_file(&self) -> PathBuf {
        self.path().join("state/accounts.json")
    }

    pub(crate) fn policy_file(&self) -> PathBuf {
        self.path().join("state/policy.toml")
    }

    /// The configuration of all that runs here, also for root; at first it is not there.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.path().join("config/visorbus/visorbus.toml")
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, text: &str) {
        fs::create_dir_all(self.config_file().parent().unwrap()).unwrap();
        fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("run/bus.sock")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.path().join("state/root.key")
    }

    /// The directory for temporary files of all that runs here.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.path().join("tmp")
    }

    /// The command with an environment that knows this place only.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visorbus"));
        command.args(args);
        self.enter(&mut command);
        command
    }

    /// A line as it is typed into a shell.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        // The process is the command itself, where it is only one.
        let exec = if line.starts_with("visorbus ") { "exec " } else { "" };
        command.arg("-c").arg(format!("{exec}{line}"));
        self.enter(&mut command);
        let programs = Path::new(env!("CARGO_BIN_EXE_visorbus")).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{programs}:{path}")).current_dir(self.path());
        command
    }

    /// Runs a line at a terminal of its own, at which `password` is typed whenever one is asked for.
    pub(crate) fn type_passwords(&self, line: &str, password: &str) -> Done {
        let (process, mut terminal) = self.at_terminal(line);
        let (mut bytes, mut shown) = ([0; 256], String::new());
        while let Ok(len @ 1..) = terminal.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
            if text.ends_with(": ") {
                writeln!(terminal, "{password}").unwrap();
            }
            shown.push_str(&text);
        }
        assert!(shown.contains("assword of "), "nobody asked: {shown:?}");
        assert!(!shown.contains(password), "what is typed is not shown: {shown:?}");
        process.finish()
    }

    /// Runs a line at a terminal of its own, and the end of it at which people sit: it ends with the last process there.
    pub(crate) fn at_terminal(&self, line: &str) -> (Process, fs::File) {
        self.at_terminal_of(line, Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 })
    }

    /// As [`Place::at_terminal`], of this size.
    pub(crate) fn at_terminal_of(&self, line: &str, size: Winsize) -> (Process, fs::File) {
        let (ours, theirs) = terminal();
        tcsetwinsize(&ours, size).unwrap();
        let mut command = Command::new("setsid");
        let shell = self.shell(line);
        command.args(["--ctty", "--wait"]).arg(shell.get_program()).args(shell.get_args());
        for (name, value) in shell.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(self.path());
        (Process::start_with(&mut command, Stdio::from(theirs)), fs::File::from(ours))
    }

    /// Writes the policy as an operator would: the new file whole, in the place of the old one.
    pub(crate) fn write_policy(&self, text: &str) {
        let file = self.policy_file();
        fs::DirBuilder::new().mode(0o700).recursive(true).create(file.parent().unwrap()).unwrap();
        let new = file.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
        out.write_all(text.as_bytes()).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn enter(&self, command: &mut Command) {
        // Any of them may be a setting.
        let own = std::env::vars_os().map(|(name, _)| name);
        for variable in own.filter(|name| name.to_string_lossy().starts_with("VISORBUS_")) {
            command.env_remove(variable);
        }
        for variable in ["DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "NO_COLOR"] {
            command.env_remove(variable);
        }
        // Whatever the tests are run at, the terminals in them can be drawn on.
        command.env("TERM", "xterm");
        command.env("VISORBUS_SOCKET", self.socket()).env("VISORBUS_KEY_FILE", self.key_file());
        command.env("XDG_CONFIG_HOME", self.path().join("config")).env("TMPDIR", self.tmp());
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.start(args).finish()
    }

    /// As [`Place::run`], of a command that has to succeed; what it printed.
    pub(crate) fn succeed(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}: {done:?}");
        done.out
    }

    /// As [`Place::run`], with `text` on standard input.
    pub(crate) fn run_reading(&self, args: &[&str], text: &str) -> Done {
        Process::start_reading(&mut self.command(args), text).finish()
    }

    pub(crate) fn start(&self, args: &[&str]) -> Process {
        Process::start(&mut self.command(args))
    }

    /// A hub that listens already.
    pub(crate) fn serve(&self, args: &[&str]) -> Process {
        let mut hub = self.start(&[&["serve"], args].concat());
        hub.wait_for_error("visorbus serves on");
        hub
    }

    /// The board of the demonstration with a key of its link that the hub of this place knows, and the path of its line.
    pub(crate) fn board(&self) -> (Process, String) {
        self.board_named("imu")
    }

    /// The same, of the board with this name.
    pub(crate) fn board_named(&self, name: &str) -> (Process, String) {
        let provisioned = self.run(&["key", "provision", name]);
        assert_eq!(provisioned.code, Some(0), "{provisioned:?}");
        let mut board =
            Process::start(self.command(&["demo-node", name]).env("VISORBUS_LINK_KEY", &provisioned.out));
        let line = board.line();
        (board, line)
    }

    /// The same board without a key of its link.
    pub(crate) fn board_without_key(&self) -> (Process, String) {
        let mut board = self.start(&["demo-node"]);
        let line = board.line();
        (board, line)
    }

    /// A hub with a board in service.
    pub(crate) fn serve_board(&self) -> (Process, Process) {
        let (board, line) = self.board();
        let hub = self.serve(&["--serial", &line]);
        self.wait_for_board();
        (hub, board)
    }

    /// Waits until the board is in service: it comes up, or is listed with the last of what it offers.
    pub(crate) fn wait_for_board(&self) {
        let mut watch = self.start(&["services", "--watch", "--json"]);
        loop {
            let line = watch.line();
            let came = line.contains(r#""component":"imu","#) && line.contains(r#""up":true"#);
            if came || line.contains(r#""address":"imu/sample""#) {
                return;
            }
        }
    }
}

/// A process that is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// One that reads `text` on standard input.
    pub(crate) fn start_reading(command: &mut Command, text: &str) -> Self {
        let (reader, mut writer) = std::io::pipe().unwrap();
        // Shorter than a pipe holds.
        writer.write_all(text.as_bytes()).unwrap();
        Self::start_with(command, Stdio::from(reader))
    }

    pub(crate) fn start_with(command: &mut Command, stdin: Stdio) -> Self {
        command.stdin(stdin);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        match self.out.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                panic!("no line came: {error}; it says {:?}", self.err.try_iter().collect::<Vec<_>>())
            }
        }
    }

    /// A line that it has printed already.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        self.out.try_recv().ok()
    }

    /// The next line on standard error that has `text` in it.
    pub(crate) fn wait_for_error(&mut self, text: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.err.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("'{text}' was not said: {error}; but {before:?}"),
            }
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Done {
        self.finish_within(PATIENCE)
    }

    /// The same, of one that may take so long.
    pub(crate) fn finish_within(mut self, time: Duration) -> Done {
        let deadline = Instant::now() + time;
        let rest = |lines: &Receiver<String>| {
            let mut text = Vec::new();
            loop {
                match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(line) => text.push(line),
                    Err(RecvTimeoutError::Disconnected) => return text.join("\n"),
                    Err(RecvTimeoutError::Timeout) => panic!("it does not end; it says {text:?}"),
                }
            }
        };
        let (out, err) = (rest(&self.out), rest(&self.err));
        let status = self.child.wait().unwrap();
        Done { code: status.code(), out, err }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of a process.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Demands that it failed with this code and one line of this beginning, with all these parts; returns the line.
    #[track_caller]
    pub(crate) fn expect_failure(&self, code: i32, beginning: &str, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.starts_with(beginning), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "'{part}' is not in {self:?}");
        }
        assert!(!beginning.starts_with("visorbus:") || self.err.lines().count() == 1, "{self:?}");
    }
}

/// Both ends of a new pseudo-terminal: the one that people sit at, and the one that programs have.
fn terminal() -> (OwnedFd, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    (ours, theirs.unwrap())
}

/// The lines of a stream, until it ends.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
