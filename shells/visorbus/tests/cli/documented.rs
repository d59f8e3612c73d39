//! Every command that `--help` and README show works as it is written there.

use std::fs;
use std::path::Path;

use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::place::{Place, Process};

/// The commands of a text: what follows `visorbus`, without the remark behind it.
fn commands(text: &str, prefix: &str) -> Vec<String> {
    let commands = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let commands = commands
        .filter(|line| line.starts_with("visorbus ") || line.starts_with("VISORBUS_TOKEN=$(visorbus "));
    commands.map(|line| line.split("  ").next().unwrap_or(line).trim_end().to_owned()).collect()
}

fn help(place: &Place, args: &[&str]) -> String {
    place.succeed(&[args, &["--help"]].concat())
}

/// Runs commands in their order; those that go on until Ctrl-C up to their first sign of life. Boards are in the place
/// of the devices that are named.
fn run_all(place: &Place, commands: &[String]) {
    let (_board, line) = place.board();
    let (_other, bare_line) = place.board_without_key();
    let with_device = |command: &str| -> String {
        let device = |word: &str| match word.strip_prefix("/dev/tty") {
            None if word == "/usr" => place.path().join("usr").display().to_string(),
            Some(rest) => {
                let line = if word.contains("unauthenticated=") { &bare_line } else { &line };
                format!("{line}{}", rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() && c != '@'))
            }
            None => word.to_owned(),
        };
        command.split(' ').map(device).collect::<Vec<_>>().join(" ")
    };
    let bus = DbusDaemon::start();
    let shell = |typed: &str| {
        let mut shell = place.shell(typed);
        shell.env("HOME", place.path());
        for variable in ["DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"] {
            shell.env(variable, bus.address());
        }
        shell
    };
    let mut hub: Option<Process> = None;
    let mut port = String::new();
    for command in commands {
        let typed =
            at_a_free_port(&with_device(command)).replace("localhost:7400", &format!("localhost:{port}"));
        if command.starts_with("visorbus monitor") {
            // What is measured over a time is there a moment after the hub.
            let cpu = ["monitor", "metrics", "machine.cpu_percent"];
            while place.succeed(&cpu).contains("nothing is measured") {}
        }
        if command.starts_with("visorbus serve") {
            // One hub at a time.
            let left = bus.owner("org.visorbus.Bus1");
            drop(hub.take());
            let mut next = Process::start(&mut shell(&typed));
            let said = next.wait_for_error("visorbus serves on");
            let address = said.split([' ', ',']).find(|word| word.starts_with("ws"));
            port = address.and_then(|url| url.rsplit(':').next()).unwrap_or_default().to_owned();
            if command.contains("--serial") {
                place.wait_for_board();
            }
            if command.contains("--dbus") {
                while bus.owner("org.visorbus.Bus1").is_none_or(|owner| Some(owner) == left) {
                    std::thread::yield_now();
                }
            }
            hub = Some(next);
        } else if command == "visorbus hardware watch" {
            let mut watch = Process::start(&mut shell(&typed));
            watch.wait_for_error("watching");
            place.succeed(&["hardware", "command", "board/imu", "set-rate", "80"]);
            while !watch.line().contains("rate = 80 Hz") {}
        } else if command.starts_with("visorbus subscribe") {
            let line = Process::start(&mut shell(&typed)).line();
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{command}: {line}");
        } else {
            let done = match asks_for_password(command) {
                true => place.type_passwords(&typed, "open sesame"),
                false => Process::start(&mut shell(&typed)).finish(),
            };
            assert_eq!(done.code, Some(0), "{command}: {done:?}");
            // Beside a secret on standard output, what to do with it is said on standard error.
            let tells_more = ["key provision", "auth key add", "tls "];
            let makes_secret = tells_more.iter().any(|part| command.contains(part));
            assert!(makes_secret || done.err.is_empty(), "{command}: {done:?}");
            if command == "visorbus config init" && hub.is_none() {
                // What a machine that is busy with tests is like is not asked.
                assert_eq!(place.run(&["config", "set", "monitoring.thresholds", "[]"]).code, Some(0));
            }
        }
    }
}

/// The same command where several of its kind may run on one machine.
fn at_a_free_port(command: &str) -> String {
    let address = |word: &str| match word.rsplit_once(':') {
        Some((ip, _)) if ip.parse::<std::net::IpAddr>().is_ok() => format!("{ip}:0"),
        _ => word.to_owned(),
    };
    let typed = command.split(' ').map(address).collect::<Vec<_>>().join(" ");
    let needs_address = typed.contains("--dashboard") && !typed.contains("--websocket");
    if needs_address { typed + " --websocket 127.0.0.1:0" } else { typed }
}

fn asks_for_password(command: &str) -> bool {
    let asks = command.contains("user add") || command.contains("--user ");
    asks && !command.contains("-stdin") && !command.contains("--peer")
}

#[test]
fn every_command_of_readme_works_as_written() {
    let place = Place::for_boards();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let commands = commands(&readme, "$ ");
    assert!(commands.len() >= 15, "{commands:?}");
    let policy = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    place.write_policy(policy);
    run_all(&place, &commands);
}

#[test]
fn every_command_of_the_help_works_as_written() {
    let place = Place::for_boards();
    let uid = nix::unistd::geteuid();
    place.write_policy(&format!(
        "[[unix]]\nuid = {uid}\nsubject = \"panel\"\n[[rule]]\nscope = \"panel\"\nallow = [\"subscribe:imu/**\"]\n"
    ));
    let mut all = vec!["visorbus serve --serial /dev/ttyACM0".to_owned()];
    // What a machine that is busy with tests is like is not asked.
    place.configure("[monitoring]\nthresholds = []\n");
    // Where shells look for what completes their words.
    for directory in [".local/share/bash-completion/completions", ".config/fish/completions"] {
        fs::create_dir_all(place.path().join(directory)).unwrap();
    }
    for args in [
        &[] as &[&str],
        &["call"],
        &["hardware"],
        &["monitor"],
        &["top"],
        &["status"],
        &["reload"],
        &["doctor"],
        &["completions"],
        &["man"],
        &["auth", "user"],
        &["auth", "login"],
        &["auth", "key"],
        &["auth", "policy", "check"],
        &["auth", "explain"],
        &["auth", "token", "mint"],
        &["auth", "token", "revoke"],
        &["key", "provision"],
        &["tls", "init"],
        &["tls", "client"],
        &["serve"],
        &["dbus"],
        &["config"],
        // Nearly last: the board is flashed with a key of the root key before.
        &["key", "rotate"],
        &["shutdown"],
    ] {
        if args == ["auth", "login"] {
            all.push("visorbus auth user add anna --scope 'subscribe:imu/**'".to_owned());
        }
        let found = commands(&help(&place, args), "  ");
        let one_is_enough = args == ["man"] || args == ["top"];
        assert!(found.len() >= 2 || one_is_enough && found.len() == 1, "{args:?}: {found:?}");
        // The demonstration has tests of its own.
        let mut found = found;
        found.retain(|command| command != "visorbus demo");
        // An authority is made once.
        if args == ["tls", "init"] {
            found.remove(0);
        }
        // What is written at first is not there; and a hub that was told to end runs no more.
        if args == ["config"] {
            found.insert(0, "rm config/visorbus/visorbus.toml".to_owned());
        }
        if args == ["shutdown"] {
            found.insert(1, "visorbus serve --serial /dev/ttyACM0".to_owned());
        }
        all.extend(found);
    }
    run_all(&place, &all);
}

#[test]
fn every_command_has_a_help_that_says_what_it_does() {
    let place = Place::new();
    let overview = help(&place, &[]);
    for args in [
        &["serve"] as &[&str],
        &["call"],
        &["publish"],
        &["subscribe"],
        &["services"],
        &["auth"],
        &["auth", "token"],
        &["key"],
        &["auth", "token", "mint"],
        &["auth", "token", "check"],
        &["auth", "token", "refresh"],
        &["auth", "token", "revoke"],
        &["auth", "user"],
        &["auth", "user", "add"],
        &["auth", "user", "password"],
        &["auth", "user", "scopes"],
        &["auth", "user", "disable"],
        &["auth", "key"],
        &["auth", "key", "add"],
        &["auth", "certificate"],
        &["auth", "certificate", "add"],
        &["auth", "login"],
        &["auth", "policy"],
        &["auth", "policy", "check"],
        &["auth", "policy", "show"],
        &["auth", "policy", "reload"],
        &["auth", "explain"],
        &["key", "provision"],
        &["key", "list"],
        &["key", "remove"],
        &["key", "rotate"],
        &["key", "retire"],
        &["key", "device"],
        &["tls"],
        &["tls", "init"],
        &["tls", "renew"],
        &["tls", "client"],
        &["tls", "show"],
        &["dbus"],
        &["dbus", "show"],
        &["dbus", "files"],
        &["demo"],
        &["demo-node"],
        &["status"],
        &["reload"],
        &["shutdown"],
        &["config"],
        &["config", "init"],
        &["config", "check"],
        &["config", "show"],
        &["config", "get"],
        &["config", "set"],
        &["config", "reset"],
        &["config", "list"],
        &["config", "watch"],
        &["peers"],
        &["monitor"],
        &["monitor", "metrics"],
        &["monitor", "history"],
        &["monitor", "thresholds"],
        &["monitor", "health"],
        &["top"],
        &["hardware"],
        &["hardware", "list"],
        &["hardware", "show"],
        &["hardware", "command"],
        &["hardware", "watch"],
        &["hardware", "wait"],
        &["doctor"],
        &["completions"],
        &["man"],
    ] {
        assert!(
            args.len() > 1 || overview.contains(&format!("\n  {}", args[0])),
            "{args:?} is not in {overview}"
        );
        let text = help(&place, args);
        assert!(text.contains("Usage: visorbus"), "{args:?}: {text}");
        assert_eq!(place.run(&[args, &["-h"]].concat()).code, Some(0));
    }
    assert!(overview.contains("Exit codes: 0 done"), "{overview}");
    assert!(place.succeed(&["--version"]).starts_with("visorbus "));
}
