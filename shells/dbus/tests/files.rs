//! The bus policy, as a real dbus-daemon obeys it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use dbus::Message;
use dbus::channel::Channel;
use visorbus_dbus::{DBusConfig, files};
use visorbus_tests::dbus_daemon::{BusOptions, DbusDaemon};

const NAME: &str = "org.visorbus.Bus1";
/// What busctl makes of `org.freedesktop.DBus.Error.AccessDenied`.
const NOT_ALLOWED: &str = "Access denied";

/// A bus that lets everybody do everything, with the service's policy in a file beside it, as a distribution installs it.
fn bus(policy: &str) -> (DbusDaemon, tempfile::TempDir) {
    let beside = tempfile::tempdir().unwrap();
    let path = beside.path().join("org.visorbus.Bus1.conf");
    fs::write(&path, policy).unwrap();
    let rules = format!("<include>{}</include>", path.display());
    let bus = DbusDaemon::with(&BusOptions { rules, ..BusOptions::default() });
    fs::set_permissions(bus.home(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(bus.socket(), Permissions::from_mode(0o777)).unwrap();
    (bus, beside)
}

/// What busctl says when `user` runs it; without a user, whoever runs the test.
fn busctl(bus: &DbusDaemon, user: Option<&str>, arguments: &[&str]) -> Output {
    let address = format!("--address={}", bus.address());
    let mut command = user.map_or_else(
        || bus.command("busctl"),
        |user| {
            let mut command = bus.command("setpriv");
            command.args([&format!("--reuid={user}"), &format!("--regid={}", group_of(user))]);
            command.args(["--init-groups", "busctl"]);
            command
        },
    );
    command.arg(address).args(arguments).output().expect("busctl, of systemd, and setpriv, of util-linux")
}

fn group_of(user: &str) -> String {
    let output = Command::new("id").args(["-gn", user]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn own(bus: &DbusDaemon, user: Option<&str>) -> String {
    let daemon = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"];
    said(&busctl(bus, user, &[&["call"], &daemon[..], &["RequestName", "su", NAME, "4"]].concat()))
}

/// Other users of any Unix; nobody where whoever runs the test cannot become them.
fn others(users: &'static [&'static str]) -> &'static [Option<&'static str>] {
    if nix::unistd::Uid::effective().is_root() {
        return users.iter().map(|user| Some(*user)).collect::<Vec<_>>().leak();
    }
    eprintln!("{users:?} are left out: only root can run programs as others");
    &[]
}

/// Something that has the service's name, and answers whatever reaches it.
struct Service {
    channel: Channel,
}

impl Service {
    fn new(bus: &DbusDaemon) -> Self {
        let channel = bus.connect();
        let daemon = "org.freedesktop.DBus";
        let ask =
            Message::call_with_args(daemon, "/org/freedesktop/DBus", daemon, "RequestName", (NAME, 4u32));
        let answer = channel.send_with_reply_and_block(ask, Duration::from_secs(60)).unwrap();
        assert_eq!(answer.get1(), Some(1u32));
        Self { channel }
    }

    /// What busctl says when `user` calls the service.
    fn call(&self, bus: &DbusDaemon, user: Option<&str>, destination: &str) -> String {
        std::thread::scope(|scope| {
            let arguments = ["call", destination, "/", "org.example.Any", "Thing"];
            let caller = scope.spawn(move || said(&busctl(bus, user, &arguments)));
            while !caller.is_finished() {
                self.channel.read_write(Some(Duration::from_millis(20))).unwrap();
                while let Some(message) = self.channel.pop_message() {
                    if message.member().is_some_and(|member| &*member == "Thing") {
                        self.channel.send(message.return_with_args(("here",))).unwrap();
                    }
                }
            }
            caller.join().unwrap()
        })
    }
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    format!("{out}{err}").trim().to_owned()
}

#[test]
fn nobody_but_the_service_s_user_owns_the_name() {
    let (bus, _files) = bus(&files::policy(&DBusConfig::default(), "daemon", "man").unwrap());
    for stranger in [&[None], others(&["nobody", "man"])].concat() {
        let refused = own(&bus, stranger);
        assert!(refused.contains(NOT_ALLOWED), "{stranger:?}: {refused}");
    }
    assert_eq!(bus.owner(NAME), None);
    for user in others(&["daemon"]) {
        assert_eq!(own(&bus, *user), "u 1");
    }
}

#[test]
fn nobody_but_those_of_the_group_call_the_service_by_whatever_name() {
    let us = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name;
    let (bus, _files) = bus(&files::policy(&DBusConfig::default(), &us, "man").unwrap());
    let service = Service::new(&bus);
    let unique = service.channel.unique_name().unwrap();
    for destination in [NAME, unique] {
        for caller in [&[None], others(&["man"])].concat() {
            assert_eq!(service.call(&bus, caller, destination), "s \"here\"");
        }
        for stranger in others(&["nobody"]) {
            let refused = service.call(&bus, *stranger, destination);
            assert!(refused.contains(NOT_ALLOWED), "{stranger:?}: {refused}");
        }
    }
}

#[test]
fn the_policy_in_the_repository_is_one_that_a_bus_takes() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/share/dbus-1/system.d/org.visorbus.Bus1.conf");
    let (bus, _files) = bus(&fs::read_to_string(path).unwrap());
    assert!(own(&bus, None).contains(NOT_ALLOWED), "who tests is not the user 'visorbus'");
    assert_eq!(bus.owner(NAME), None);
}

#[test]
fn a_bus_starts_the_service_by_its_activation_file_when_somebody_calls_it() {
    let beside = tempfile::tempdir().unwrap();
    let (command, told) = (beside.path().join("visorbus"), beside.path().join("told"));
    let script = format!("#!/bin/sh\necho \"$@\" \"$DBUS_STARTER_BUS_TYPE\" > {}\nexit 1\n", told.display());
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, Permissions::from_mode(0o755)).unwrap();
    let file = files::session_activation(&DBusConfig::default(), command.to_str().unwrap()).unwrap();
    fs::write(beside.path().join(format!("{NAME}.service")), file).unwrap();
    let rules = format!("<servicedir>{}</servicedir>", beside.path().display());
    let bus = DbusDaemon::with(&BusOptions { rules, ..BusOptions::default() });

    let failed = said(&busctl(&bus, None, &["call", NAME, "/", "org.freedesktop.DBus.Peer", "Ping"]));
    assert!(failed.contains("exited with status 1"), "{failed}");
    assert_eq!(fs::read_to_string(told).unwrap(), "serve --dbus session session\n");
}

#[test]
fn systemd_takes_the_units() {
    let config = DBusConfig::default();
    let units = [
        ("--user", files::session_unit(&config, "/bin/true").unwrap()),
        ("--system", files::system_unit(&config, "/bin/true", "root").unwrap()),
    ];
    for (of, text) in units {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("visorbus.service");
        std::fs::write(&path, &text).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args([of, "--man=no", "verify"]).arg(&path).env("XDG_RUNTIME_DIR", home.path());
        let done = verify.output().expect("systemd-analyze, of the package systemd");
        // It may have something to say of other units of this machine.
        let ours: Vec<_> =
            said(&done).lines().filter(|line| line.contains("visorbus")).map(str::to_owned).collect();
        assert!(done.status.success() && ours.is_empty(), "{text}{ours:?} {}", said(&done));
    }
}
