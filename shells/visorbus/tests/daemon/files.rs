//! Configurations that are none, cannot be read, or are somebody else's; neighbours on one socket; ends without warning.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::house::{House, ask, text};
use crate::place::{PATIENCE, Place, Process};

#[test]
fn what_cannot_be_a_configuration_is_refused_at_once_and_nothing_is_begun() {
    let place = Place::new();
    let path = |name: &str| place.path().join(name);
    mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    symlink("loop", path("loop")).unwrap();
    symlink("nobody", path("dangling")).unwrap();
    fs::File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
    fs::write(path("half"), "[log]\nlevel = \"inf").unwrap();
    fs::write(path("deep"), format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000))).unwrap();
    fs::write(path("dotted"), format!("a{} = 1\n", ".a".repeat(100_000))).unwrap();
    let keys: String = (0..80_000).map(|number| format!("k{number}=1\n")).collect();
    fs::write(path("keys"), format!("[log]\n{keys}")).unwrap();
    fs::write(path("bytes"), b"[log]\n\xff\xfe").unwrap();
    fs::write(path("open"), "").unwrap();
    fs::set_permissions(path("open"), fs::Permissions::from_mode(0o666)).unwrap();
    for (name, said) in [
        ("pipe", "a device, pipe or socket"),
        ("/dev/zero", "a device, pipe or socket"),
        ("loop", "symbolic links"),
        ("dangling", "`visorbus config init` writes one"),
        ("tmp", "a directory"),
        ("huge", "the limit"),
        ("half", "half:2:"),
        ("deep", "this is no TOML"),
        ("dotted", "this is no TOML"),
        ("keys", "keys:2:1: there is no key 'log.k0'"),
        ("bytes", "bytes:2:1: this is not UTF-8"),
        ("open", "chmod o-w"),
    ] {
        let begun = Instant::now();
        let done = place.run(&["serve", "--config", path(name).to_str().unwrap()]);
        assert!(done.code == Some(6) && done.err.contains(said), "{name}: {:.300}", done.err);
        // What is looked at again for each line of it takes minutes.
        assert!(begun.elapsed() < PATIENCE, "{name}: {:?}", begun.elapsed());
    }
    assert!(!place.socket().exists() && !place.key_file().exists());
}

#[test]
fn a_configuration_that_this_user_may_not_read_is_not_taken_for_none() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("left out: root alone can be another user");
    }
    let place = Place::new();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = place.path().join("home/.config/visorbus");
    fs::create_dir_all(&home).unwrap();
    let file = home.join("visorbus.toml");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    // A copy, as the one that is tested may be where nobody else comes.
    let program = place.path().join("visorbus");
    fs::copy(env!("CARGO_BIN_EXE_visorbus"), &program).unwrap();
    for closed in [&file, &home] {
        let mut command = std::process::Command::new(&program);
        command.arg("serve").env_clear().env("HOME", place.path().join("home"));
        command.env("VISORBUS_SOCKET", place.socket()).env("VISORBUS_KEY_FILE", place.key_file());
        let done = Process::start(command.uid(65_534).gid(65_534)).finish();
        assert!(done.code == Some(6) && done.err.contains("Permission denied"), "{closed:?}: {done:?}");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn of_two_hubs_that_begin_at_once_on_one_socket_one_serves() {
    let place = Place::new();
    drop(place.serve(&[]));
    for round in 0..8 {
        let begin = || {
            thread::spawn({
                let mut command = place.command(&["serve"]);
                move || {
                    let mut hub = Process::start(&mut command);
                    let said = hub.wait_for_error("visorbus");
                    (hub, said)
                }
            })
        };
        let pair = [begin(), begin()].map(|hub| hub.join().unwrap());
        let (serving, refused): (Vec<_>, Vec<_>) =
            pair.into_iter().partition(|(_, said)| said.contains("visorbus serves on"));
        assert!(serving.len() == 1 && refused.len() == 1, "{round}: {} serve", serving.len());
        assert!(refused[0].1.contains("another hub serves"), "{round}: {}", refused[0].1);
        assert_eq!(refused.into_iter().next().unwrap().0.finish().code, Some(1));
        place.succeed(&["status"]);
    }
}

#[test]
fn whatever_a_kill_interrupts_the_next_start_finds_a_whole_file() {
    let mut house = House::new("[display]\nbrightness = 0\n[log]\nlevel = \"error\"\n");
    for round in 0..6 {
        let client = house.client("panel", &["request:config/**"]);
        let writer = thread::spawn(move || {
            let mut last = 0;
            for value in 0..100_000 {
                if ask(&client, "config/set/display/brightness", text(value.to_string())).is_err() {
                    break;
                }
                last = value;
            }
            last
        });
        // At another moment of a change each time: behind the first look at a file that has changed this often.
        let begun = Instant::now();
        for _ in 0..=round {
            let before = house.text();
            while house.text() == before {
                assert!(begun.elapsed() < PATIENCE, "nothing is written");
                thread::yield_now();
            }
        }
        house.hub.signal(Signal::SIGKILL);
        let answered = writer.join().unwrap();
        house = House::on(house.place);
        let client = house.client("reader", &["request:config/**"]);
        let got = ask(&client, "config/get", text("display.brightness")).unwrap();
        let visorbus_hub::OwnedPayload::String(line) = got.payload else { panic!("{got:?}") };
        let value: i32 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((answered..=answered + 1).contains(&value), "{value} after {answered} was answered");
    }
}
