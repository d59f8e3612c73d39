//! What a page has its reader type, and what it says comes of it: run in one bash, in a place of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;

use crate::root;

/// A command of a page, and the lines below it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) expected: Vec<String>,
}

impl Step {
    /// One of which nothing is expected but success.
    pub(crate) fn new(command: &str) -> Self {
        Self { command: command.to_owned(), expected: Vec::new() }
    }
}

/// The commands in the `console` blocks of a page: what stands behind `$ `, and on lines that begin with `> `.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let blocks = text.split("\n```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest));
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        let step = steps.last_mut();
        let more = if line == ">" { Some("") } else { line.strip_prefix("> ") };
        match (line.strip_prefix("$ "), more, step) {
            (Some(command), ..) => {
                steps.push(Step { command: command.to_owned(), expected: Vec::new() });
            }
            (None, Some(more), Some(step)) if step.expected.is_empty() => {
                step.command = format!("{}\n{more}", step.command);
            }
            (.., Some(step)) => step.expected.push(line.to_owned()),
            (.., None) => panic!("no command is before '{line}'"),
        }
    }
    steps
}

/// Where a reader sits: a home, a bus and an address that nobody else has, and the folder `docs` beside.
pub(crate) struct Desk {
    home: tempfile::TempDir,
    pub(crate) bus: DbusDaemon,
    /// An address of this machine's alone, in the place of 127.0.0.1; all its ports are free.
    pub(crate) address: Ipv4Addr,
    _claim: TcpListener,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("visorbus-docs-").tempdir().unwrap();
        for directory in ["run", "config", "work", "tmp"] {
            let path = home.path().join(directory);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        for folder in ["docs", "shells"] {
            symlink(root().join(folder), home.path().join("work").join(folder)).unwrap();
        }
        let (address, claim) = claim_address();
        Self { home, bus: DbusDaemon::start(), address, _claim: claim }
    }

    /// What starts a hub with a board, a setting of its own, every way in, and a user of the desktop who may do everything.
    pub(crate) fn hub_with_board() -> Vec<Step> {
        let steps = [
            "await() { timeout 60 tail --lines=+1 --follow=name --retry \"$1\" 2> /dev/null | grep --max-count=1 -e \"$2\"; }",
            "visorbus config init",
            "visorbus config set settings.declarations \"$PWD/docs/examples/display.toml\"",
            "visorbus key provision imu > imu.key",
            "VISORBUS_LINK_KEY=$(cat imu.key) visorbus demo-node imu > board.txt &",
            "line=$(await board.txt /dev/pts/)",
            "printf '[[unix]]\\nuid = %s\\nsubject = \"desktop\"\\nscopes = [\"*\"]\\n' $UID > ~/.local/state/visorbus/policy.toml",
            "visorbus serve --websocket 127.0.0.1:7400 --dbus --serial \"$line\" 2> hub.txt &",
            "await hub.txt 'visorbus serves on' || { cat hub.txt; false; }",
            "visorbus services --watch > watched.txt & watched=$!",
            "await watched.txt imu; kill $watched",
        ];
        steps.map(Step::new).to_vec()
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    /// Where the commands run.
    pub(crate) fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("run/visorbus/bus.sock")
    }

    /// A program with an environment that knows this place alone.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let ours = std::env::vars().map(|(name, _)| name);
        for name in ours.filter(|name| ["VISORBUS_", "XDG_", "DBUS_"].iter().any(|of| name.starts_with(of))) {
            command.env_remove(name);
        }
        let config = self.path().join("config");
        command
            .env("HOME", self.path())
            .env("TMPDIR", self.path().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("XDG_CONFIG_HOME", &config)
            // Root's is the machine's otherwise.
            .env("VISORBUS_CONFIG", config.join("visorbus/visorbus.toml"))
            .env("DBUS_SESSION_BUS_ADDRESS", self.bus.address())
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
            .env("PATH", format!("{}:{}", programs().display(), std::env::var("PATH").unwrap_or_default()))
            .env("LC_ALL", "C.UTF-8")
            // To the hub of this machine nobody goes by a proxy.
            .env("no_proxy", "*")
            .current_dir(self.work());
        command
    }

    /// Runs the steps in one bash, the address in the place of 127.0.0.1. Each has to succeed, and to print what stands below it;
    /// where nothing does and `is_strict` is not set, whatever it prints is right.
    pub(crate) fn run(&self, steps: &[Step], is_strict: bool) {
        let here = |text: &str| text.replace("127.0.0.1", &self.address.to_string());
        let mut script = String::from("exec 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n");
        for step in steps {
            script += &format!("printf '\\036'\n{}\nprintf '\\037%s' $?\n", here(&step.command));
        }
        let file = self.path().join("script.sh");
        fs::write(&file, script).unwrap();
        let mut bash = self.program("timeout");
        bash.args(["--kill-after=5", "900", "bash"]).arg(&file).stdin(Stdio::null());
        let out = bash.output().unwrap();
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let ran: Vec<&str> = out.split('\u{1e}').skip(1).collect();
        for (number, step) in steps.iter().enumerate() {
            let command = &step.command;
            let all = || format!("all of it:\n{}", out.replace('\u{1e}', "\n$ ").replace('\u{1f}', "\n-> "));
            let Some((said, status)) = ran.get(number).and_then(|ran| ran.split_once('\u{1f}')) else {
                panic!("it did not come to the end of: {command}\n{}", all());
            };
            let status = status.lines().next().unwrap_or_default();
            let said: Vec<&str> = said.lines().filter(|line| !is_of_jobs(line)).collect();
            assert_eq!(status, "0", "{command}\n{}\n{}", said.join("\n"), all());
            if step.expected.is_empty() && !is_strict {
                continue;
            }
            let expected: Vec<String> = step.expected.iter().map(|line| here(line)).collect();
            assert!(matches(&expected, &said), "{command}\nprints\n{}\n{}", said.join("\n"), all());
        }
    }

    /// The processes that were started from here and are still there, by their command lines. One that was told to end is
    /// given its time.
    pub(crate) fn left(&self) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let running = self.running();
            if running.is_empty() || Instant::now() > until {
                return running;
            }
            std::thread::yield_now();
        }
    }

    fn running(&self) -> Vec<String> {
        let mark = format!("HOME={}\0", self.path().display());
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.windows(mark.len()).any(|part| part == mark.as_bytes()) {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                left.push(String::from_utf8_lossy(&line).replace('\0', " "));
            }
        }
        left
    }
}

/// An address of the loopback network, all of which is this machine (RFC 6890), that is nobody's as long as the listener
/// beside it lives: everybody who wants one claims it by the same port, which is none of those that port 0 stands for.
fn claim_address() -> (Ipv4Addr, TcpListener) {
    let first = u32::from(Ipv4Addr::new(127, 64, 0, 1)) + (std::process::id() & 0xffff) * 16;
    let addresses = (first..first + 1024).map(Ipv4Addr::from);
    let mut claims =
        addresses.filter_map(|address| Some((address, TcpListener::bind((address, CLAIM)).ok()?)));
    claims.next().expect("an address of 127.0.0.0/8 whose port 7399 is free")
}

/// Where the programs are that are tested.
pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_visorbus")).parent().unwrap().to_owned()
}

/// What bash says of its own accord when a process in the background has ended.
fn is_of_jobs(line: &str) -> bool {
    line.contains("script.sh: line ") && (line.contains("Terminated") || line.contains("Killed"))
}

/// Whether these lines are as expected, where `…` is any part of a line, and alone on one any number of lines.
fn matches(expected: &[String], said: &[&str]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((any, rest)) if any == "…" => (0..=said.len()).any(|from| matches(rest, &said[from..])),
        Some((first, rest)) => {
            said.split_first().is_some_and(|(line, others)| is_like(first, line) && matches(rest, others))
        }
    }
}

fn is_like(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut left) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (number, part) in parts.iter().enumerate() {
        let is_last = number + 1 == parts.len();
        let found =
            if is_last && left.ends_with(part) { Some(left.len() - part.len()) } else { left.find(part) };
        let Some(at) = found else { return false };
        left = &left[at + part.len()..];
    }
    left.is_empty() || expected.ends_with('…')
}

/// The port by which an address is claimed.
const CLAIM: u16 = 7399;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_like_one_with_gaps_and_like_no_other() {
        assert!(is_like("a…c", "abc") && is_like("a…", "a") && is_like("…c…", "bcd") && is_like("a", "a"));
        assert!(!is_like("a…c", "abcd") && !is_like("a", "ab") && !is_like("…c", "b"));
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(matches(&lines("a … d"), &["a", "b", "c", "d"]) && matches(&lines("a …"), &["a"]));
        assert!(!matches(&lines("a"), &["a", "b"]) && !matches(&lines("… d"), &["a"]));
    }

    #[test]
    fn commands_are_read_with_what_goes_on_and_what_comes_of_them() {
        let found = steps("x\n```console\n$ a\nb\n$ c <<E\n> d\n> E\ne\n```\n```text\n$ no\n```\n");
        let shown: Vec<_> = found.iter().map(|s| (s.command.as_str(), s.expected.join(","))).collect();
        assert_eq!(shown, [("a", "b".to_owned()), ("c <<E\nd\nE", "e".to_owned())]);
    }
}
