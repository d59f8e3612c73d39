//! busctl and gdbus, as a person at a terminal uses them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use visorbus_core::message::MessagePayload;
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;

use crate::settings::NAME;
use crate::world::{ROOT, SERVICE, Setup, World};

const IMU: &str = "/org/visorbus/Bus1/components/imu";
const IMU_INTERFACE: &str = "org.visorbus.components.Imu";

#[test]
fn busctl_sees_calls_reads_and_writes() {
    on_every_bus(|world| {
        let busctl = |args: &[&str]| run(world, "busctl", &["--user", "--no-pager"], args);
        let tree = busctl(&["tree", "--list", SERVICE]).unwrap();
        assert!(tree.contains(IMU), "{tree}");
        let members = busctl(&["introspect", SERVICE, IMU]).unwrap();
        for row in [
            [".SetRate", "method", "q", "q"],
            [".Info", "method", "-", "ssxquut"],
            [".Sample", "signal", "tadad", "-"],
            [".Name", "property", "s", "\"imu\""],
        ] {
            let is_it = |line: &str| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.len() >= 4 && words[..2] == row[..2] && (words[2..4] == row[2..] || words[0] == ".Info")
            };
            assert!(members.lines().any(is_it), "{row:?} is not in\n{members}");
        }
        let root = busctl(&["introspect", SERVICE, ROOT]).unwrap();
        assert!(root.contains(NAME) && root.contains("org.visorbus.Bus1"), "{root}");

        assert_eq!(
            busctl(&["call", SERVICE, IMU, IMU_INTERFACE, "SetRate", "q", "50"]).as_deref(),
            Ok("q 50\n")
        );
        let info = busctl(&["call", SERVICE, IMU, IMU_INTERFACE, "Info"]).unwrap();
        assert!(info.contains("7 50 "), "boot id and rate: {info}");
        let answer = busctl(&[
            "call",
            SERVICE,
            ROOT,
            SERVICE,
            "Call",
            "sva{sv}",
            "imu/set-rate",
            "q",
            "60",
            "1",
            "timeout_ms",
            "u",
            "5000",
        ]);
        assert_eq!(answer.as_deref(), Ok("v q 60\n"));
        let wrong = busctl(&["call", SERVICE, IMU, IMU_INTERFACE, "SetRate", "s", "fast"]).unwrap_err();
        assert!(wrong.contains("SetRate takes 'q'"), "{wrong}");
        let denied =
            busctl(&["call", SERVICE, ROOT, SERVICE, "Call", "sva{sv}", "config/open", "s", "x", "0"])
                .unwrap_err();
        assert!(denied.contains("Access denied"), "{denied}");

        assert_eq!(busctl(&["get-property", SERVICE, ROOT, NAME, "Volume"]).as_deref(), Ok("u 0\n"));
        busctl(&["set-property", SERVICE, ROOT, NAME, "Volume", "u", "11"]).unwrap();
        assert_eq!(busctl(&["get-property", SERVICE, ROOT, NAME, "Volume"]).as_deref(), Ok("u 11\n"));
        let wrong = busctl(&["set-property", SERVICE, ROOT, NAME, "Volume", "s", "loud"]).unwrap_err();
        assert!(wrong.contains("'u'"), "{wrong}");
        let wrong = busctl(&["set-property", SERVICE, ROOT, SERVICE, "Version", "s", "9"]).unwrap_err();
        assert!(wrong.contains("only be read"), "{wrong}");
        assert_eq!(
            busctl(&["get-property", SERVICE, ROOT, SERVICE, "Subject"]).as_deref(),
            Ok("s \"panel\"\n")
        );
        assert!(
            busctl(&["get-property", SERVICE, IMU, "org.visorbus.Component1", "Addresses"])
                .unwrap()
                .contains("imu/set-rate")
        );
    });
}

#[test]
fn busctl_monitors_what_is_said() {
    on_every_bus(|world| {
        let monitor =
            Lines::of(world.bus.command("busctl").args(["--user", "--no-pager", "monitor", SERVICE]));
        // It says so on its standard error when it listens; until then a call may go by unseen.
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let program = world.program();
            program.call_at(IMU, IMU_INTERFACE, "SetRate", &[70u16.into()]).unwrap();
            if monitor.so_far().iter().any(|line| line.contains("Member=SetRate")) {
                break;
            }
            assert!(std::time::Instant::now() < until, "{:?}", monitor.so_far());
        }
        monitor.wait_for("UINT16 70");
        world.serves_neighbours();
    });
}

#[test]
fn gdbus_sees_calls_and_hears() {
    on_every_bus(|world| {
        let gdbus = |args: &[&str]| {
            let (verb, rest) = args.split_first().unwrap();
            run(world, "gdbus", &[verb, "--session", "--dest", SERVICE], rest)
        };
        let members = gdbus(&["introspect", "--object-path", IMU]).unwrap();
        assert!(
            members.contains("SetRate(in  q ") && members.contains("interface org.visorbus.components.Imu"),
            "{members}"
        );
        assert!(members.contains("Sample("), "{members}");
        let tree = gdbus(&["introspect", "--recurse", "--object-path", "/"]).unwrap();
        assert!(tree.contains("node /org/visorbus/Bus1/components/imu"), "{tree}");
        let call = |args: &[&str]| {
            let all: Vec<&str> = ["call"].iter().chain(args).copied().collect();
            gdbus(&all)
        };
        let method = format!("{IMU_INTERFACE}.SetRate");
        assert_eq!(call(&["--object-path", IMU, "--method", &method, "80"]).as_deref(), Ok("(uint16 80,)\n"));
        // It looks up the signature, and turns the text into that.
        let answer = call(&[
            "--object-path",
            ROOT,
            "--method",
            "org.visorbus.Bus1.Call",
            "imu/set-rate",
            "<uint16 90>",
            "{}",
        ]);
        assert_eq!(answer.as_deref(), Ok("(<uint16 90>,)\n"));
        let denied = call(&[
            "--object-path",
            ROOT,
            "--method",
            "org.visorbus.Bus1.Call",
            "config/open",
            "<'x'>",
            "{}",
        ])
        .unwrap_err();
        assert!(denied.contains("org.freedesktop.DBus.Error.AccessDenied"), "{denied}");
        let objects = call(&[
            "--object-path",
            ROOT,
            "--method",
            "org.freedesktop.DBus.ObjectManager.GetManagedObjects",
        ]);
        assert!(objects.unwrap().contains(IMU));
    });
}

#[test]
fn gdbus_monitors_signals_that_go_to_everybody() {
    on_every_bus(|world| {
        let monitor = Lines::of(world.bus.command("gdbus").args(["monitor", "--session", "--dest", SERVICE]));
        monitor.wait_for("is owned by");
        let until = std::time::Instant::now() + PATIENCE;
        while !monitor.so_far().iter().any(|line| line.contains("Settings1.Public")) {
            world.door.emit_signal(NAME, "Public", &["to everybody".into()]).unwrap();
            thread::park_timeout(std::time::Duration::from_millis(10));
            assert!(std::time::Instant::now() < until, "{:?}", monitor.so_far());
        }
        // A sample of the sensor goes to those alone who have subscribed.
        let program = world.program();
        program.call_at(IMU, "org.visorbus.Component1", "Subscribe", &["imu/sample".into()]).unwrap();
        assert_eq!(program.signal("Sample").len(), 3);
        world.door.emit_signal(NAME, "Public", &["the last".into()]).unwrap();
        monitor.wait_for("the last");
        let heard = monitor.so_far().join("\n");
        assert!(!heard.contains("Sample"), "{heard}");
    });
}

fn on_every_bus(test: impl Fn(&World)) {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let allow =
            "\"request:imu/**\", \"subscribe:imu/**\", \"request:org.example.settings1/**\", \"imu.control\"";
        let world = World::of(Setup { bus, allow, ..Setup::default() }).with_sensor();
        test(&world);
        let mut neighbour = world.neighbour("neighbour", &["request:imu/**"]);
        assert!(neighbour.request("imu/info", MessagePayload::Empty).is_ok());
        world.serves_neighbours();
    }
}

/// What a program that ends well has written, else what it has said of the error.
fn run(world: &World, program: &str, before: &[&str], args: &[&str]) -> Result<String, String> {
    let mut command = world.bus.command(program);
    command.args(before).args(args).stdin(Stdio::null()).env("LC_ALL", "C");
    let ended =
        command.output().unwrap_or_else(|e| panic!("{program}: {e}; tests/run --only tools installs it"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if ended.status.success() { Ok(text(&ended.stdout)) } else { Err(text(&ended.stderr)) }
}

/// A program that runs, and what it writes. It ends with the test.
struct Lines {
    child: Child,
    lines: Receiver<String>,
    seen: std::cell::RefCell<Vec<String>>,
}

impl Lines {
    fn of(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).env("LC_ALL", "C");
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        Self { child, lines, seen: std::cell::RefCell::default() }
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let until = std::time::Instant::now() + PATIENCE;
        while !self.so_far().iter().any(|line| line.contains(text)) {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let line = self.lines.recv_timeout(left);
            self.seen.borrow_mut().push(line.unwrap_or_else(|_| panic!("no '{text}' in {:?}", self.seen)));
        }
    }

    fn so_far(&self) -> Vec<String> {
        self.seen.borrow_mut().extend(self.lines.try_iter());
        self.seen.borrow().clone()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
