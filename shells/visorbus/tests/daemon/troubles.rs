//! What goes wrong around a hub that serves: disks that are full, devices and buses that go in the middle.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use visorbus_hub::OwnedPayload;
use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::house::{House, ask, text};
use crate::place::{PATIENCE, Place, Process};

#[test]
fn a_disk_that_is_full_keeps_the_old_file_and_whoever_asked_is_told() {
    let place = Place::new();
    let script = "mkdir -p $D && mount -t tmpfs -o size=64k none $D && \
        printf '[log]\\nlevel = \"error\"\\n' > $D/visorbus.toml && head -c 1000000 /dev/zero > $D/fill; \
        exec \"$B\" serve --config $D/visorbus.toml";
    let mut command = place.command(&[]);
    let environment: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]);
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("D", place.path().join("small")).env("B", env!("CARGO_BIN_EXE_visorbus"));
    if !may_mount() {
        return eprintln!("left out: this machine lets nobody mount in a namespace of his own");
    }
    let mut hub = Process::start(&mut command);
    hub.wait_for_error("visorbus serves on");
    let file = format!("/proc/{}/root{}", hub.pid(), place.path().join("small/visorbus.toml").display());
    let before = fs::read_to_string(&file).unwrap();
    let done = place.run(&["call", "config/set", r#"{"category":"log","key":"level","value":"info"}"#]);
    assert!(done.code != Some(0) && done.err.contains("make room"), "{done:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let shown = place.succeed(&["call", "config/get", r#"{"category":"log","key":"level"}"#]);
    assert!(shown.contains("\"error\""), "{shown}");
    fs::remove_file(file.replace("visorbus.toml", "fill")).unwrap();
    place.succeed(&["call", "config/set", r#"{"category":"log","key":"level","value":"info"}"#]);
    assert!(fs::read_to_string(&file).unwrap().contains("info"));
}

#[test]
fn a_file_that_may_not_grow_stays_as_it_was_and_the_hub_goes_on() {
    let place = Place::new();
    let config = place.path().join("visorbus.toml");
    fs::write(
        place.path().join("notes.toml"),
        "[notes.text]\nkind = \"text\"\ndefault = \"\"\ndescription = \"Notes.\"\n",
    )
    .unwrap();
    fs::write(&config, "[settings]\ndeclarations = [\"notes.toml\"]\n").unwrap();
    // A limit that everybody may set himself, and that fails as a quota does; a signal of it ends nobody here.
    let line = "trap '' XFSZ; ulimit -f 4 && exec visorbus serve --config visorbus.toml";
    let mut hub = Process::start(&mut place.shell(line));
    hub.wait_for_error("visorbus serves on");
    let before = fs::read_to_string(&config).unwrap();
    let set = |text: &str| format!(r#"{{"category":"notes","key":"text","value":"{text}"}}"#);
    let long = set(&"x".repeat(4096));
    let done = place.run(&["call", "config/set", &long]);
    assert!(done.code != Some(0) && done.err.contains("make room"), "{done:?}");
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
    let shown = place.succeed(&["call", "config/get/notes/text"]);
    assert!(shown.contains(r#""value":"""#), "{shown}");
    place.succeed(&["call", "config/set", &set("short")]);
    assert!(fs::read_to_string(&config).unwrap().contains("short"));
}

#[test]
fn devices_that_vanish_while_they_are_read_cost_nobody_an_answer() {
    let place = Place::new();
    let sys = place.path().join("sys");
    let zone = |number: usize| sys.join(format!("class/thermal/thermal_zone{number}"));
    fs::create_dir_all(sys.join("class/thermal")).unwrap();
    fs::write(place.path().join("display.toml"), "").unwrap();
    let text = format!(
        "[hardware]\nsysfs_root = \"{}\"\nscan_interval_ms = 100\nkernel_events = false\n",
        sys.display()
    );
    fs::write(place.path().join("visorbus.toml"), text).unwrap();
    let house = House::on(place);
    let client = house.client("panel", &["request:hardware/**"]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..8).cycle() {
                let zone = zone(number);
                let _ = fs::create_dir(&zone);
                let _ = fs::write(zone.join("temp"), "42000\n");
                let _ = std::os::unix::fs::symlink("type", zone.join("type"));
                let _ = fs::create_dir(zone.join("mode"));
                let _ = fs::remove_dir_all(&zone);
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let answers: Vec<_> =
            (0..100).map(|_| ask(&client, "hardware/list", OwnedPayload::Json("null".to_owned()))).collect();
        over.store(true, Ordering::Relaxed);
        assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
    });
    fs::create_dir(zone(9)).unwrap();
    fs::write(zone(9).join("temp"), "43000\n").unwrap();
    fs::write(zone(9).join("type"), "skin\n").unwrap();
    let begun = Instant::now();
    loop {
        let listed = ask(&client, "hardware/list", OwnedPayload::Json("null".to_owned())).unwrap();
        let listed = format!("{:?}", listed.payload);
        if listed.contains("thermal_zone9") && !listed.contains("thermal_zone0") {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{listed}");
        thread::yield_now();
    }
}

#[test]
fn a_bus_that_dies_and_returns_has_the_interfaces_again_and_costs_the_others_nothing() {
    let mut bus = DbusDaemon::start();
    let uid = rustix::process::geteuid().as_raw();
    let place = Place::new();
    place.write_policy(&format!(
        "[[unix]]\nuid = {uid}\nsubject = \"desktop\"\nscopes = [\"request:org.visorbus.config1/*\", \"request:config/*/display/*\"]\n"
    ));
    fs::write(place.path().join("display.toml"), "").unwrap();
    fs::write(
        place.path().join("visorbus.toml"),
        format!("[dbus]\nenabled = true\nbus = \"{}\"\n", bus.address()),
    )
    .unwrap();
    let house = House::on(place);
    let client = house.client("panel", &["request:config/**"]);
    for _ in 0..3 {
        let begun = Instant::now();
        // Who may some keys alone is refused the others, in the words of the bus.
        loop {
            let mut busctl = Command::new("busctl");
            busctl.arg(format!("--address={}", bus.address()));
            busctl.args([
                "call",
                "org.visorbus.Bus1",
                "/org/visorbus/Bus1",
                "org.visorbus.Config1",
                "SetValue",
                "ssv",
            ]);
            let said =
                busctl.args(["log", "level", "s", "trace"]).output().expect("busctl, of the package systemd");
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            if said.contains("may not") || said.contains("Access denied") || said.contains("permission") {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{said}");
            thread::yield_now();
        }
        bus.kill();
        ask(&client, "config/get", text("log.level")).unwrap();
        bus.restart();
    }
    let got = ask(&client, "config/get", text("log.level")).unwrap();
    assert!(format!("{:?}", got.payload).contains("warn"), "{got:?}");
}

/// Whether this user may mount, in a namespace of his own.
fn may_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/mnt"]);
    command.output().is_ok_and(|done| done.status.success())
}
