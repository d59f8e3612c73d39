//! What shells complete, by the shells themselves, and the manual pages.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use visorbus_tests::patience::CHANCES;

use crate::place::Place;

/// The words that bash offers for the last of `words`.
fn bash_offers(place: &Place, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    // As readline calls the function: command, word, word before.
    let script = format!(
        "source <(visorbus completions bash); COMP_WORDS=({}); COMP_CWORD={last}; COMP_TYPE=9\n\
         _clap_complete_visorbus visorbus '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words[last],
        words[last - 1],
    );
    fs::write(place.path().join("complete.sh"), script).unwrap();
    let output = place.shell("bash --norc complete.sh").output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8(output.stdout).unwrap();
    words.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_without_a_hub() {
    let place = Place::new();
    assert_eq!(bash_offers(&place, &["visorbus", "subsc"]), ["subscribe"]);
    assert_eq!(bash_offers(&place, &["visorbus", "serve", "--dashb"]), ["--dashboard"]);
    assert_eq!(bash_offers(&place, &["visorbus", "demo"]), ["demo", "demo-node"]);
}

#[test]
fn bash_completes_addresses_and_topics_of_the_hub_that_runs() {
    let place = Place::for_boards();
    let _running = place.serve_board();
    place.wait_for_board();
    // A hub that a busy machine does not let answer at once is not waited for; who sits there asks again.
    let offers = |words: &[&str]| {
        let mut offered = (0..CHANCES).map(|_| bash_offers(&place, words));
        offered.find(|offered| !offered.is_empty()).unwrap_or_default()
    };
    assert_eq!(offers(&["visorbus", "call", "imu/s"]), ["imu/self-test", "imu/set-rate"]);
    assert_eq!(offers(&["visorbus", "subscribe", "imu/"]), ["imu/**", "imu/sample"]);
    assert_eq!(offers(&["visorbus", "config", "get", "log.f"]), ["log.format"]);
    // The flag in front says which hub is meant; there is none at that one.
    assert!(bash_offers(&place, &["visorbus", "call", "--socket", "/nowhere/bus.sock", "imu/s"]).is_empty());
}

#[test]
fn without_a_hub_that_answers_names_are_none_at_once_and_nothing_is_said() {
    let place = Place::new();
    assert!(bash_offers(&place, &["visorbus", "call", "imu/"]).is_empty());
    // One that accepts and never says a word.
    fs::create_dir_all(place.socket().parent().unwrap()).unwrap();
    let _mute = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
    let mut times = (0..CHANCES).map(|_| {
        let start = Instant::now();
        assert!(bash_offers(&place, &["visorbus", "call", "imu/"]).is_empty());
        start.elapsed()
    });
    // The shell itself, and a machine that does much else, take most of it: then it is tried again.
    assert!(times.any(|time| time < Duration::from_secs(3)));
}

#[test]
fn the_scripts_are_what_their_shells_can_read() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.succeed(&["completions", shell]);
        assert!(script.contains("VISORBUS_COMPLETE"), "{script}");
        let file = place.path().join(shell);
        fs::write(&file, &script).unwrap();
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(read) => assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr)),
            Err(_) => eprintln!("{shell} is not installed: its script is not read"),
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    let into = place.path().join("man/man1");
    let written = place.succeed(&["man", "--into", into.to_str().unwrap()]);
    let read =
        |page: &str| fs::read_to_string(into.join(page)).unwrap_or_else(|e| panic!("{page}: {e}\n{written}"));
    for page in [
        "visorbus.1",
        "visorbus-serve.1",
        "visorbus-auth-token-mint.1",
        "visorbus-doctor.1",
        "visorbus-demo-node.1",
    ] {
        let text = read(page);
        let name = page.trim_end_matches(".1").replace('-', "\\-");
        assert!(text.contains(".SH NAME\n") && text.contains(&name), "{text}");
    }
    assert!(read("visorbus-serve.1").contains("visorbus serve \\-\\-dbus"), "its examples are there");
    assert!(read("visorbus-auth-token-mint.1").ends_with(".BR visorbus\\-auth\\-token (1)\n"));
    let Ok(shown) =
        Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(into.join("visorbus.1")).output()
    else {
        return eprintln!("groff is not installed: the pages are not set");
    };
    assert!(shown.status.success() && shown.stderr.is_empty(), "{}", String::from_utf8_lossy(&shown.stderr));
}
