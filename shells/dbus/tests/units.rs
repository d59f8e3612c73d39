//! The units, as systemd's own tools see them. Where systemd is not installed, these say so and do nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use visorbus_dbus::{DBusConfig, files};

/// Writes all units for a command that is there, and gives the directory that `of` (`system` or `user`) has.
fn units(into: &Path, of: &str) -> std::path::PathBuf {
    let command = std::env::current_exe().unwrap();
    for file in files::all(&DBusConfig::default(), "root", "root", command.to_str().unwrap()).unwrap() {
        let path = into.join(file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.text).unwrap();
    }
    into.join("lib/systemd").join(of)
}

/// What a program of systemd's says; `None` where it is not installed.
fn systemd(program: &str, arguments: &[&str], files: &[&Path]) -> Option<Output> {
    match Command::new(program).args(arguments).args(files).env("XDG_RUNTIME_DIR", "/run").output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("left out: there is no {program}");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// It has nothing at all to say against them.
fn assert_clean(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// `systemd-analyze security` finds no more than this in a unit, in tenths.
fn assert_exposed_by_at_most(of: &str, tenths: u32) {
    let directory = tempfile::tempdir().unwrap();
    let service = units(directory.path(), of).join("visorbus.service");
    let threshold = format!("--threshold={tenths}");
    let Some(output) = systemd("systemd-analyze", &["security", "--offline=true", &threshold], &[&service])
    else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let directory = tempfile::tempdir().unwrap();
    for (of, flag) in [("system", "--system"), ("user", "--user")] {
        let units = units(directory.path(), of);
        let (service, socket) = (units.join("visorbus.service"), units.join("visorbus.socket"));
        let verify = ["verify", "--man=no", flag];
        let Some(output) = systemd("systemd-analyze", &verify, &[&service, &socket]) else { return };
        assert_clean(&output);
    }
}

#[test]
fn the_systems_unit_is_exposed_by_less_than_two_of_ten() {
    assert_exposed_by_at_most("system", 20);
}

/// More than half of what is counted there are capabilities, which the process of a user's has none of, and which a session's
/// systemd has no right to take away for good.
#[test]
fn the_sessions_unit_has_all_that_needs_no_privileges() {
    assert_exposed_by_at_most("user", 62);
    let text = files::session_unit(&DBusConfig::default(), "/usr/bin/visorbus").unwrap();
    let has = |setting: &str| text.lines().any(|line| line.split('=').next() == Some(setting));
    for without_privileges in [
        "NoNewPrivileges",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "ProtectHostname",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "SystemCallArchitectures",
        "SystemCallFilter",
        "UMask",
    ] {
        assert!(has(without_privileges), "{without_privileges}: {text}");
    }
    // With these it would not start, or not know who calls.
    for with_privileges in ["CapabilityBoundingSet", "PrivateDevices", "PrivateUsers", "ProtectClock", "User"]
    {
        assert!(!has(with_privileges), "{with_privileges}: {text}");
    }
}

#[test]
fn the_files_in_the_repository_are_those_that_are_written() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let written = files::all(&DBusConfig::default(), "visorbus", "visorbus", "/usr/bin/visorbus").unwrap();
    assert!(!written.is_empty());
    for file in &written {
        let there = fs::read_to_string(data.join(&file.path)).unwrap_or_default();
        assert_eq!(there, file.text, "data/{}: write it with `visorbus dbus files --into`", file.path);
    }
}

#[test]
fn user_group_and_directories_are_made_as_the_tools_of_systemd_read_them() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    let at = format!("--root={}", root.path().display());
    let write = |name: &str, text: String| {
        let path = root.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let users = write("sysusers.conf", files::sysusers("visorbus", "headset").unwrap());
    let Some(output) = systemd("systemd-sysusers", &[&at], &[&users]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let uid = passwd.lines().find(|line| line.starts_with("visorbus:")).expect("its user").split(':').nth(2);
    // A client takes a hub for the system's by that.
    assert!(uid.unwrap().parse::<u32>().unwrap() < 1000, "{passwd}");
    assert!(passwd.contains(":/var/lib/visorbus:"), "{passwd}");
    let groups = fs::read_to_string(root.path().join("etc/group")).unwrap();
    let has = |group: &str| groups.lines().any(|line| line.starts_with(group) && line.ends_with(":visorbus"));
    assert!(has("dialout:") && has("headset:"), "{groups}");
    let directories = write("tmpfiles.conf", files::tmpfiles("root", "root").unwrap());
    let Some(output) = systemd("systemd-tmpfiles", &["--create", &at], &[&directories]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for directory in ["run/visorbus", "etc/visorbus", "var/lib/visorbus"] {
        assert!(root.path().join(directory).is_dir(), "{directory}");
    }
}

#[test]
fn nothing_that_is_handed_in_becomes_another_setting() {
    let config = DBusConfig::default();
    for bad in ["", "a\nUser=root", "a\0"] {
        assert!(files::system_unit(&config, "/usr/bin/visorbus", bad).is_err());
        assert!(files::system_unit(&config, bad, "visorbus").is_err());
        assert!(files::session_unit(&config, bad).is_err());
        assert!(files::system_socket(bad, "g").is_err() && files::system_socket("u", bad).is_err());
        assert!(files::sysusers(bad, "g").is_err() && files::tmpfiles("u", bad).is_err());
    }
    for bad in ["a b", "a\"b", "%h"] {
        assert!(files::sysusers(bad, "g").is_err() && files::tmpfiles("u", bad).is_err(), "{bad}");
    }
}
