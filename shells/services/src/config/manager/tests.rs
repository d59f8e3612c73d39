use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Category, Key, Origin, init_text};
use super::*;

fn port(text: &str) -> Result<(), String> {
    text.parse::<u16>().map(drop).map_err(|_| "expected a port".to_owned())
}

fn together(values: &ConfigValues) -> Result<(), ConfigError> {
    if values.bool("display", "hdr") && values.float("display", "brightness") > 0.9 {
        return Err(ConfigError::conflict(
            "display",
            "brightness",
            "it is at most 0.9 while 'display.hdr' is true",
        ));
    }
    Ok(())
}

fn schema() -> ConfigSchema {
    let display = Category::new("display", "What the eyes see.")
        .key(Key::float("brightness", 0.0..=1.0, 0.5, "How bright it is."))
        .key(Key::bool("hdr", false, "Whether it has a high range."))
        .key(Key::choice("mode", ["fast", "calm"], "calm", "How it is drawn.").at_restart());
    let net = Category::new("net", "Where it listens.")
        .key(Key::text("port", "80", "Which port.").check(port))
        .key(Key::texts("hosts", ["localhost"], "Which hosts."))
        .key(Key::integer("peers", 1..=64, 8, "How many may come."))
        .key(Key::text("password", "", "What they must say.").secret())
        .key(Key::text("key_file", "", "Where the keys are.").only_in_file());
    ConfigSchema::new([display, net]).across(together)
}

struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new(text: &str) -> Self {
        let fixture = Self { directory: TempDir::new().unwrap() };
        fs::write(fixture.path(), text).unwrap();
        fixture
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("visorbus.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn open(&self) -> ConfigManager {
        ConfigManager::open(schema(), self.path(), Overrides::none()).unwrap()
    }

    fn wrong(&self) -> String {
        let error = ConfigManager::open(schema(), self.path(), Overrides::none()).unwrap_err();
        error.to_string().replace(&*self.path().to_string_lossy(), "F")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn each_source_holds_above_the_one_before_and_says_that_it_does() {
    let fixture = Fixture::new("[net]\nport = \"81\"\npeers = 3\nhosts = [\"a\", \"b\"]\n");
    let overrides = Overrides::none()
        .environment([("VISORBUS_NET_PORT", "82"), ("VISORBUS_NET_PEERS", " 4 "), ("NET_HOSTS", "x")])
        .argument("net.peers=5")
        .unwrap();
    let config = ConfigManager::open(schema(), fixture.path(), overrides).unwrap();
    let of = |category: &str, key: &str| {
        let entry = config.get(category, key).unwrap();
        (entry.value, entry.origin)
    };
    let variable = "VISORBUS_NET_PORT".to_owned();
    assert_eq!(of("display", "mode"), (Value::Text("calm".to_owned()), Origin::Default));
    let hosts = Value::Texts(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(of("net", "hosts"), (hosts, Origin::File { line: 4 }));
    assert_eq!(of("net", "port"), (Value::Text("82".to_owned()), Origin::Environment { variable }));
    assert_eq!(of("net", "peers"), (Value::Integer(5), Origin::CommandLine));

    // It is kept, and does not hold, and nobody is told that it does.
    let watch = config.watch("**").unwrap();
    assert!(!config.set("net", "peers", Value::Integer(6), "somebody").unwrap());
    assert_eq!(of("net", "peers"), (Value::Integer(5), Origin::CommandLine));
    assert!(fixture.text().contains("peers = 6"));
    assert_eq!(watch.try_recv(), None);
}

#[test]
fn what_is_wrong_is_said_with_line_column_expectation_and_nearest_name() {
    for (text, error) in [
        (
            "[display]\nbrightnes = 1.0\n",
            "F:2:1: there is no key 'display.brightnes': did you mean 'brightness'?",
        ),
        ("[dysplay]\n", "F:1:2: there is no category 'dysplay': did you mean 'display'?"),
        ("[zzz]\n", "F:1:2: there is no category 'zzz'"),
        (
            "[display]\nbrightness = \"x\"\n",
            "F:2:14: 'display.brightness' is a number from 0 to 1, not \"x\"",
        ),
        ("[display]\nbrightness = 1.5\n", "F:2:14: 'display.brightness' is a number from 0 to 1, not 1.5"),
        ("[display]\nbrightness = nan\n", "F:2:14: 'display.brightness' is a number from 0 to 1, not null"),
        ("[display]\nmode = \"slow\"\n", "F:2:8: 'display.mode' is one of \"fast\", \"calm\", not \"slow\""),
        ("[net]\n  peers = 65\n", "F:2:11: 'net.peers' is a whole number from 1 to 64, not 65"),
        ("[net]\npeers = 2.0\n", "F:2:9: 'net.peers' is a whole number from 1 to 64, not 2.0"),
        ("[net]\nport = \"x\"\n", "F:2:8: 'net.port' cannot be \"x\": expected a port"),
        ("[net]\nhosts = [1]\n", "F:2:9: 'net.hosts' is a list of texts, not []"),
        ("[net]\nhosts = \"a\"\n", "F:2:9: 'net.hosts' is a list of texts, not \"a\""),
        ("[net.port]\n", "F:1:1: 'net.port' is a text, not {}"),
        ("[[net]]\n", "F:1:3: 'net' is a category: its keys stand below a line [net]"),
        ("net = 1\n", "F:1:1: 'net' is a category: its keys stand below a line [net]"),
        ("[net]\nport = \"80\n", "F:2:11: this is no TOML: invalid basic string, expected `\"`"),
        ("[net]\nport =", "F:2:7: this is no TOML: string values must be quoted, expected literal string"),
        ("[net]\nport = \"a\"\nport = \"b\"\n", "F:3:1: this is no TOML: duplicate key"),
        ("[net]\r\nport = \"ä\"\r\npärs = 1", "F:3:2: this is no TOML: "),
        (
            "[display]\nhdr = true\nbrightness = 1\n",
            "F:3:1: 'display.brightness': it is at most 0.9 while 'display.hdr' is true",
        ),
    ] {
        let said = Fixture::new(text).wrong();
        assert!(said.starts_with(error), "{text:?}\n said {said}\n not  {error}");
    }
    let several = Fixture::new("[net]\npeers = 0\nprot = 1\n[displays]\n").wrong();
    assert_eq!(several.lines().count(), 3, "{several}");
}

#[test]
fn a_secret_is_in_no_entry_no_change_and_no_error() {
    let fixture = Fixture::new("[net]\npassword = \"geheim\"\n");
    let config = fixture.open();
    assert_eq!(config.text("net", "password"), "geheim");
    let watch = config.watch("**").unwrap();
    assert!(config.set("net", "password", Value::Text("auch geheim".to_owned()), "x").unwrap());
    let told = format!("{:?} {:?} {config:?}", config.list(None).unwrap(), watch.try_recv().unwrap());
    assert!(!told.contains("geheim"), "{told}");
    let error = config.set("net", "password", Value::Text("geheim\n".to_owned()), "x").unwrap_err();
    assert!(!error.to_string().contains("geheim"), "{error}");
    fs::write(fixture.path(), "[net]\npassword = [\"geheim\"]\n").unwrap();
    assert!(!fixture.wrong().contains("geheim"));
    let overrides = Overrides::none().environment([("VISORBUS_NET_PASSWORD", "geheim\n")]);
    assert!(!format!("{overrides:?}").contains("geheim"));
    fs::write(fixture.path(), "").unwrap();
    let error = ConfigManager::open(schema(), fixture.path(), overrides).unwrap_err();
    assert!(!error.to_string().contains("geheim") && error.to_string().contains("VISORBUS_NET_PASSWORD"));
}

#[test]
fn what_is_set_is_in_the_file_and_all_else_there_stays_as_it_was_written() {
    let text = "# mine\r\n\r\n[net] # where\r\n  # the port\r\n  port   =  '81'  # was 80\r\n#peers = 8\r\n\r\n# eyes\r\n[display]\r\nhdr=false";
    let fixture = Fixture::new(text);
    let config = fixture.open();
    config.set("net", "port", Value::Text("82".to_owned()), "x").unwrap();
    config.set("net", "peers", Value::Integer(9), "x").unwrap();
    config.set("display", "brightness", Value::Integer(1), "x").unwrap();
    let after = "# mine\r\n\r\n[net] # where\r\n  # the port\r\n  port   =  \"82\"  # was 80\r\n#peers = 8\r\npeers = 9\r\n\r\n# eyes\r\n[display]\r\nhdr=false\r\nbrightness = 1.0\r\n";
    assert_eq!(fixture.text(), after);
    assert_eq!(config.get("net", "peers").unwrap().origin, Origin::File { line: 7 });
    for (category, key) in [("net", "port"), ("net", "peers"), ("display", "brightness")] {
        assert!(config.reset(category, key, "x").unwrap());
    }
    let after = "# mine\r\n\r\n[net] # where\r\n  # the port\r\n# was 80\r\n#peers = 8\r\n\r\n# eyes\r\n[display]\r\nhdr=false\r\n";
    assert_eq!(fixture.text(), after);
    assert_eq!(config.text("net", "port"), "80");
}

#[test]
fn a_key_is_changed_however_its_category_is_written() {
    for (before, after) in [
        ("", "[net]\npeers = 9\n"),
        ("# only words", "# only words\n\n[net]\npeers = 9\n"),
        ("net = { peers = 1, port = \"1\" } # all", "net = { peers = 9, port = \"1\" } # all\n"),
        ("net = { port = \"1\" } # all\n", "net = { port = \"1\" , peers = 9 } # all\n"),
        ("net.port = \"1\" # one\n", "net.port = \"1\" # one\nnet.peers = 9\n"),
        ("net.peers = 1 # one\n", "net.peers = 9 # one\n"),
        ("\"net\".'peers' = 1\n", "\"net\".'peers' = 9\n"),
        (
            "[net]\nhosts = [\n  \"[net]\", # a\n  \"#peers = 1\",\n]\n",
            "[net]\nhosts = [\n  \"[net]\", # a\n  \"#peers = 1\",\n]\npeers = 9\n",
        ),
        ("[net]\nhosts = [\"\"\"\n#peers = 1\n\"\"\"]\n", ""),
        ("[ net ]", "[ net ]\npeers = 9\n"),
        ("[display]\n\n[net]\n\n\n", "[display]\n\n[net]\npeers = 9\n\n\n"),
        ("\u{feff}[net]\npeers = 1\n", "\u{feff}[net]\npeers = 9\n"),
    ] {
        let fixture = Fixture::new(before);
        let Ok(config) = ConfigManager::open(schema(), fixture.path(), Overrides::none()) else {
            assert!(after.is_empty(), "{before}: {}", fixture.wrong());
            continue;
        };
        let was: Vec<_> = config.list(None).unwrap().into_iter().map(|entry| entry.value).collect();
        config.set("net", "peers", Value::Integer(9), "x").unwrap();
        assert_eq!(fixture.text().trim_end(), after.trim_end(), "{before:?}");
        let again: Vec<_> = fixture.open().list(None).unwrap().into_iter().map(|entry| entry.value).collect();
        let others = |values: &[Value]| [&values[..5], &values[6..]].concat();
        assert_eq!((others(&was), &Value::Integer(9)), (others(&again), &again[5]), "{before:?}");
        config.reset("net", "peers", "x").unwrap();
        assert_eq!(fixture.open().integer("net", "peers"), 8, "{before:?}");
    }
}

#[test]
fn nothing_is_written_or_told_when_nothing_changes() {
    let fixture = Fixture::new("[net]\npeers = 0x9\n");
    let config = fixture.open();
    let watch = config.watch("**").unwrap();
    fs::set_permissions(fixture.directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let written = fs::metadata(fixture.path()).unwrap().modified().unwrap();
    assert!(!config.set("net", "peers", Value::Integer(9), "x").unwrap());
    assert!(!config.reset("net", "port", "x").unwrap());
    assert_eq!(config.reload().unwrap(), []);
    fs::set_permissions(fixture.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::metadata(fixture.path()).unwrap().modified().unwrap(), written);
    assert_eq!(watch.try_recv(), None);
}

#[test]
fn several_keys_are_changed_together_or_not_at_all() {
    let fixture = Fixture::new("[display]\nbrightness = 0.95\n");
    let config = fixture.open();
    let watch = config.watch("display/*").unwrap();
    let error = config.set("display", "hdr", Value::Bool(true), "x").unwrap_err();
    assert!(error.to_string().ends_with("it is at most 0.9 while 'display.hdr' is true"), "{error}");
    let wrong = config
        .change(
            &[
                ("display", "hdr", Some(Value::Bool(true))),
                ("net", "prot", None),
                ("net", "peers", Some(Value::Empty)),
            ],
            "x",
        )
        .unwrap_err();
    assert_eq!(wrong.each().len(), 2, "{wrong}");
    assert_eq!(fixture.text(), "[display]\nbrightness = 0.95\n");
    assert_eq!((watch.try_recv(), config.bool("display", "hdr")), (None, false));

    let both = [("display", "hdr", Some(Value::Bool(true))), ("display", "brightness", None)];
    assert_eq!(config.change(&both, "x").unwrap().len(), 2);
    assert_eq!(fixture.text(), "[display]\nhdr = true\n");
    assert_eq!(watch.try_recv().unwrap().key, "brightness");
    assert_eq!(watch.try_recv().unwrap().key, "hdr");
}

#[test]
fn what_an_editor_has_changed_meanwhile_stays_and_is_told_of() {
    let fixture = Fixture::new("[net]\npeers = 2\n");
    let config = fixture.open();
    let watch = config.watch("**").unwrap();
    fs::write(fixture.path(), "# by hand\n[net]\nport = \"99\"\n").unwrap();
    assert!(config.set("display", "hdr", Value::Bool(true), "me").unwrap());
    assert_eq!(fixture.text(), "# by hand\n[net]\nport = \"99\"\n\n[display]\nhdr = true\n");
    let told: Vec<_> =
        std::iter::from_fn(|| watch.try_recv()).map(|change| (change.key, change.by)).collect();
    let expected = [("hdr", "me"), ("port", "file"), ("peers", "file")];
    assert_eq!(told, expected.map(|(key, by)| (key.to_owned(), by.to_owned())));

    // What somebody has half written is not written over.
    fs::write(fixture.path(), "[net]\nport = ").unwrap();
    let error = config.set("net", "peers", Value::Integer(5), "me").unwrap_err();
    assert!(error.to_string().contains(":2:"), "{error}");
    assert!(config.reload().is_err());
    assert_eq!((fixture.text().as_str(), config.text("net", "port").as_str()), ("[net]\nport = ", "99"));
}

#[test]
fn a_file_that_is_gone_is_not_taken_for_an_empty_one() {
    let fixture = Fixture::new("[net]\npeers = 2\nport = \"99\"\n");
    let config = fixture.open();
    let watch = config.watch("**").unwrap();
    let gone = "cannot read F: it was there and is gone: put it back; with an empty one all defaults hold";
    let is_refused = || {
        let set = config.set("display", "hdr", Value::Bool(true), "me").map(drop);
        for refused in [config.reload().map(drop), set, config.reset("net", "peers", "me").map(drop)] {
            let said = refused.unwrap_err().to_string();
            assert_eq!(said.replace(fixture.path().to_str().unwrap(), "F"), gone);
        }
        assert_eq!((config.integer("net", "peers"), config.text("net", "port").as_str()), (2, "99"));
        assert_eq!(watch.try_recv(), None);
    };
    fs::remove_file(fixture.path()).unwrap();
    is_refused();
    assert!(!fixture.path().exists());
    // Nor is its directory made anew.
    let away = fixture.directory.path().with_extension("away");
    fs::rename(fixture.directory.path(), &away).unwrap();
    is_refused();
    assert!(!fixture.directory.path().exists());
    fs::rename(&away, fixture.directory.path()).unwrap();

    fs::write(fixture.path(), "").unwrap();
    assert_eq!(config.reload().unwrap().len(), 2);
    assert_eq!(config.text("net", "port"), "80");
    // One that is made by what is set was there too.
    let first = fixture.directory.path().join("first.toml");
    let config = ConfigManager::open(config.schema(), &first, Overrides::none()).unwrap();
    assert!(config.reload().unwrap().is_empty());
    config.set("net", "peers", Value::Integer(3), "me").unwrap();
    fs::remove_file(&first).unwrap();
    assert!(config.reload().is_err());
    assert_eq!(config.integer("net", "peers"), 3);
}

#[test]
fn a_link_stays_a_link_and_the_file_behind_it_keeps_its_mode() {
    let fixture = Fixture::new("");
    let real = fixture.directory.path().join("real");
    fs::create_dir(&real).unwrap();
    let target = real.join("of-the-machine.toml");
    fs::write(&target, "[net]\n").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(fixture.path()).unwrap();
    symlink("real/of-the-machine.toml", fixture.path()).unwrap();
    let config = fixture.open();
    config.set("net", "peers", Value::Integer(3), "x").unwrap();
    assert!(fs::symlink_metadata(fixture.path()).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "[net]\npeers = 3\n");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fixture.names(), ["real", "visorbus.toml"]);

    // Where it leads to nothing yet, that is made.
    fs::remove_file(&target).unwrap();
    fixture.open().set("net", "peers", Value::Integer(4), "x").unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "[net]\npeers = 4\n");
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_no_file_of_ours_is_refused_and_not_waited_for() {
    let fixture = Fixture::new("");
    let said = |make: &dyn Fn(&Path)| {
        let _ = fs::remove_file(fixture.path());
        make(&fixture.path());
        fixture.wrong()
    };
    let long = |path: &Path| fs::write(path, "# long\n".repeat(200_000)).unwrap();
    assert_eq!(said(&long), "cannot read F: it has more than 1048576 bytes, the limit");
    assert_eq!(
        said(&|path| fs::write(path, "[net]\nport = \"\u{0}\"").unwrap()).split(": ").next(),
        Some("F:2:9")
    );
    assert_eq!(
        said(&|path| fs::write(path, b"[net]\n\xff").unwrap()),
        "F:2:1: this is not UTF-8: write the file as UTF-8 text"
    );
    let deep = format!("[net]\nhosts = {}", "[".repeat(100_000));
    assert!(said(&|path| fs::write(path, &deep).unwrap()).starts_with("F:2:"));
    let tables = format!("[net{}]\n", ".a".repeat(100_000));
    assert!(said(&|path| fs::write(path, &tables).unwrap()).starts_with("F:1:"));
    let fifo = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    };
    assert_eq!(said(&fifo), "cannot read F: it is a device, pipe or socket, not a file");
    assert_eq!(
        said(&|path| symlink(path, path).unwrap()),
        "cannot read F: Too many levels of symbolic links (os error 40)"
    );
    assert_eq!(said(&|path| fs::create_dir(path).unwrap()), "cannot read F: it is a directory, not a file");
    assert_eq!(fixture.names(), ["visorbus.toml"]);
}

#[test]
fn a_configuration_that_is_not_there_is_all_defaults_and_is_made_when_something_is_set() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a/b/visorbus.toml");
    let config = ConfigManager::open(schema(), &path, Overrides::none()).unwrap();
    assert!(!directory.path().join("a").exists());
    assert!(config.set("net", "peers", Value::Integer(7), "x").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "[net]\npeers = 7\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_file_to_begin_with_says_everything_and_changes_nothing() {
    let text = init_text(&schema());
    let fixture = Fixture::new(&text);
    let values = |config: &ConfigManager| -> Vec<Value> {
        config.list(None).unwrap().into_iter().map(|entry| entry.value).collect()
    };
    let defaults = values(&ConfigManager::in_memory(schema()));
    let config = fixture.open();
    assert_eq!(values(&config), defaults);
    config.set("display", "mode", Value::Text("fast".to_owned()), "x").unwrap();
    assert!(fixture.text().contains("#mode = \"calm\"\nmode = \"fast\"\n"), "{}", fixture.text());

    // Each line that shows a default is right without its '#'.
    let open = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    fs::write(fixture.path(), open.collect::<Vec<_>>().join("\n")).unwrap();
    let config = fixture.open();
    assert_eq!(values(&config), defaults);
    let is_in_file = |entry: ConfigEntry| matches!(entry.origin, Origin::File { .. });
    assert!(config.list(None).unwrap().into_iter().all(is_in_file));
}

#[test]
fn a_listener_may_change_something_itself_and_all_is_told_in_order() {
    let config = ConfigManager::in_memory(schema());
    let watch = config.watch("**").unwrap();
    let clone = config.clone();
    let listener = config.on_change(move |change| {
        if change.key == "peers" {
            clone.set("display", "hdr", Value::Bool(change.value == Value::Integer(2)), "listener").unwrap();
        }
    });
    config.set("net", "peers", Value::Integer(2), "x").unwrap();
    config.set("net", "peers", Value::Integer(3), "x").unwrap();
    drop(listener);
    config.set("net", "peers", Value::Integer(2), "x").unwrap();
    let told: Vec<_> = std::iter::from_fn(|| watch.try_recv()).map(|change| change.value).collect();
    let expected =
        [Value::Integer(2), Value::Bool(true), Value::Integer(3), Value::Bool(false), Value::Integer(2)];
    assert_eq!(told, expected);
}

#[test]
fn a_listener_that_panics_keeps_nobody_from_hearing_of_a_change() {
    let config = ConfigManager::in_memory(schema());
    let _listening = config.on_change(|_| panic!("a listener's own fault"));
    let watch = config.watch("net/peers").unwrap();
    assert!(config.set("net", "peers", Value::Integer(2), "x").unwrap(), "whoever sets it is not to blame");
    config.set("net", "peers", Value::Integer(3), "x").unwrap();
    assert_eq!(watch.try_recv().unwrap().value, Value::Integer(2));
    assert_eq!(watch.try_recv().unwrap().old, Value::Integer(2));
}

#[test]
fn a_listener_changes_reads_again_and_listens_within_a_callback_with_a_file_and_with_other_threads() {
    let fixture = Fixture::new("");
    let config = fixture.open();
    let watch = config.watch("**").unwrap();
    let (done, ends) = std::sync::mpsc::channel();
    let clone = config.clone();
    let listening = config.on_change(move |change| {
        let Value::Integer(left) = change.value else { return };
        if left > 1 {
            // Written to the file, and read from it, by this thread and by one that it waits for.
            clone.set("net", "peers", Value::Integer(left - 1), "listener").unwrap();
            let other = clone.clone();
            std::thread::spawn(move || {
                other.set("display", "hdr", Value::Bool(left % 2 == 0), "other").unwrap()
            })
            .join()
            .unwrap();
            clone.reload().unwrap();
            drop(clone.on_change(|_| {}));
            assert!(clone.set("net", "peers", Value::Integer(65), "listener").is_err(), "refused as ever");
        }
        let _ = done.send(left);
    });
    let at = config.clone();
    std::thread::spawn(move || at.set("net", "peers", Value::Integer(5), "x").unwrap());
    for left in [5, 4, 3, 2, 1] {
        assert_eq!(ends.recv_timeout(Duration::from_secs(30)), Ok(left), "nothing waits for itself");
    }
    let mut peers = Vec::new();
    while peers.len() < 5 {
        let change = watch.recv_timeout(Duration::from_secs(30)).unwrap();
        peers.extend((change.key == "peers").then_some(change.value));
    }
    assert_eq!(peers, [5, 4, 3, 2, 1].map(Value::Integer));
    drop(listening);
    assert_eq!((config.integer("net", "peers"), fixture.open().integer("net", "peers")), (1, 1));
}

#[test]
fn a_watch_that_nobody_reads_keeps_the_newest() {
    let config = ConfigManager::in_memory(schema());
    let watch = config.watch("*/peers").unwrap();
    for round in 0..1000 {
        config.set("net", "peers", Value::Integer(round % 64 + 1), "x").unwrap();
    }
    let told: Vec<_> = std::iter::from_fn(|| watch.try_recv()).collect();
    assert_eq!((told.len(), &told[255].value), (256, &Value::Integer(999 % 64 + 1)));
    assert!(config.watch("net.peers//").is_err());
}

#[test]
fn further_categories_are_declared_in_files_that_the_configuration_names() {
    let settings = Category::new("settings", "Of others.")
        .key(Key::texts("declarations", [], "Which files.").only_in_file());
    let schema = || ConfigSchema::new([settings.clone()]).declared_in("settings", "declarations");
    let fixture = Fixture::new("[settings]\ndeclarations = [\"room.toml\"]\n[room]\nwidth = 3\n");
    let open = |overrides: Overrides| ConfigManager::open(schema(), fixture.path(), overrides);
    let declared = fixture.directory.path().join("room.toml");
    let error = open(Overrides::none()).unwrap_err().to_string();
    assert!(error.ends_with("it is not there, and 'settings.declarations' names it"), "{error}");
    let declare = |text: &str| fs::write(&declared, text).unwrap();
    let key = "[room.width]\nkind = \"float\"\ndefault = 2\nmin = 1\ndescription = \"How wide.\"\nunit = \"m\"\napplies = \"at_restart\"\n";
    declare(key);
    let config = open(Overrides::none().environment([("VISORBUS_ROOM_WIDTH", "4")])).unwrap();
    assert_eq!(config.float("room", "width"), 4.0);
    assert_eq!(config.get("room", "width").unwrap().unit, "m");

    for (wrong, said) in [
        ("[room]\nwidth = 1", "room.toml:2:1: 'room.width' declares no key: expected [room.width]"),
        (
            &key.replace("kind", "kinds"),
            "room.toml:1:7: 'room.width': a key has no 'kinds': did you mean 'kind'?",
        ),
        (&key.replace("float", "flaot"), "room.toml:2:1: 'room.width': there is no kind 'flaot'"),
        (&key.replace("= 2", "= \"a\""), "room.toml:3:1: 'room.width': the default is a text"),
        (&key.replace("min = 1", "min = 3"), "room.toml:1:7: 'room.width': expected a number from 3"),
        (&key.replace("[room.width]", "[Room.width]"), "room.toml:1:1: 'Room' cannot be a category's name"),
        (
            &key.replace("[room.width]", "[settings.width]"),
            "room.toml:1:1: there are two categories called 'settings'",
        ),
        ("[room", "room.toml:1:6: this is no TOML"),
    ] {
        declare(wrong);
        let error = open(Overrides::none()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}\nnot {said}");
    }
}

/// A configuration that names `room.toml` for further categories, with that as it is to begin with.
fn with_room(text: &str, room: &str) -> (Fixture, ConfigManager) {
    let settings = Category::new("settings", "Of others.")
        .key(Key::texts("declarations", [], "Which files.").only_in_file());
    let fixture = Fixture::new(text);
    fs::write(fixture.directory.path().join("room.toml"), room).unwrap();
    let schema = ConfigSchema::new([settings]).declared_in("settings", "declarations");
    let overrides = Overrides::none().environment([("VISORBUS_ROOM_DOORS", "3")]);
    let config = ConfigManager::open(schema, fixture.path(), overrides).unwrap();
    (fixture, config)
}

const WIDTH: &str = "[room.width]\nkind = \"float\"\ndefault = 2\ndescription = \"How wide.\"\n";
const DOORS: &str = "[room.doors]\nkind = \"integer\"\ndefault = 1\ndescription = \"How many.\"\n";
const NAMED: &str = "[settings]\ndeclarations = [\"room.toml\"]\n";

#[test]
fn what_a_file_declares_when_it_is_read_again_is_there_with_its_values_at_once() {
    let (fixture, config) = with_room("", &[WIDTH, DOORS].concat());
    let watch = config.watch("**").unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (hears, at) = (Arc::clone(&heard), config.clone());
    let _listening = config.on_event(move |event| {
        // Whatever is told of is there by then, for whoever is told too.
        let width = at.get("room", "width").map(|entry| entry.value).ok();
        hears.lock().unwrap().push((matches!(event, ConfigEvent::Declared(_)), width));
    });
    fs::write(fixture.path(), format!("{NAMED}[room]\nwidth = 5\n")).unwrap();
    let keys: Vec<String> = config.reload().unwrap().into_iter().map(|change| change.key).collect();
    assert_eq!(keys, ["declarations", "width", "doors"]);
    let told: Vec<_> =
        std::iter::from_fn(|| watch.try_recv()).skip(1).map(|one| (one.old, one.value)).collect();
    let float = Value::Float;
    assert_eq!(told, [(float(2.0), float(5.0)), (Value::Integer(1), Value::Integer(3))]);
    let five = Some(float(5.0));
    let expected = [(true, five.clone()), (false, five.clone()), (false, five.clone()), (false, five)];
    assert_eq!(*heard.lock().unwrap(), expected, "first that they are there, then their values");
    assert!(config.set("room", "width", float(6.0), "x").unwrap());

    // The file of the declarations alone is other: a key has gone, and the value of the other is kept.
    heard.lock().unwrap().clear();
    fs::write(fixture.directory.path().join("room.toml"), WIDTH).unwrap();
    assert_eq!(config.reload(), Ok(Vec::new()));
    assert_eq!((heard.lock().unwrap().len(), config.float("room", "width")), (1, 6.0));
    assert!(config.get("room", "doors").is_err());
    assert_eq!(config.reload(), Ok(Vec::new()));
    assert_eq!(heard.lock().unwrap().len(), 1, "nothing is told of what is as before");

    // What somebody has declared in the file meanwhile is known to a change too.
    fs::write(fixture.directory.path().join("room.toml"), [WIDTH, DOORS].concat()).unwrap();
    fs::write(fixture.path(), format!("{NAMED}[room]\ndoors = 7\n")).unwrap();
    assert!(config.set("room", "width", float(8.0), "x").unwrap());
    assert_eq!(
        (config.float("room", "width"), config.integer("room", "doors")),
        (8.0, 3),
        "the environment's"
    );
}

#[test]
fn declarations_that_are_wrong_when_they_are_read_again_change_nothing_and_are_told_with_their_place() {
    let (fixture, config) = with_room(NAMED, WIDTH);
    let room = fixture.directory.path().join("room.toml");
    let watch = config.watch("**").unwrap();
    for (text, declared, said) in [
        ("[room]\nwidth = 3\n", WIDTH, "visorbus.toml:1:2: there is no category 'room'"),
        (&[NAMED, "[room]\nheight = 3\n"].concat(), WIDTH, "there is no key 'room.height'"),
        (NAMED, "[room.width]\n", "room.toml:1:7: 'room.width': "),
        (&[NAMED, "[room]\nwidth = true\n"].concat(), WIDTH, "'room.width' is a number"),
    ] {
        fs::write(fixture.path(), text).unwrap();
        fs::write(&room, declared).unwrap();
        let error = config.reload().unwrap_err().to_string();
        assert!(error.contains(said), "{error}\nnot {said}");
        assert_eq!(config.float("room", "width"), 2.0);
    }
    fs::remove_file(&room).unwrap();
    fs::write(fixture.path(), NAMED).unwrap();
    let error = config.reload().unwrap_err().to_string();
    assert!(error.ends_with("it is not there, and 'settings.declarations' names it"), "{error}");
    assert_eq!((config.float("room", "width"), watch.try_recv()), (2.0, None));
}

#[test]
fn a_value_of_a_key_that_was_a_secret_is_not_told_when_it_is_declared_as_none() {
    let secret = WIDTH.replace("kind", "secret = true\nkind");
    let (fixture, config) = with_room(&[NAMED, "[room]\nwidth = 42\n"].concat(), &secret);
    fs::write(fixture.directory.path().join("room.toml"), WIDTH).unwrap();
    fs::write(fixture.path(), [NAMED, "[room]\nwidth = 7\n"].concat()).unwrap();
    let changes = config.reload().unwrap();
    assert_eq!((&changes[0].old, &changes[0].value), (&Value::Empty, &Value::Empty));
}

#[test]
fn a_variable_that_no_key_has_is_told_and_one_of_a_declared_key_is_not() {
    let overrides = Overrides::none().environment([
        ("VISORBUS_NET_PEERS", "4"),
        ("VISORBUS_NET_PERS", "4"),
        ("VISORBUS_DISPLAY_BRIGTHNESS", "0.1"),
        ("VISORBUS_OWN_NAME", "x"),
        ("VISORBUS_SOMETHING_ELSE", ""),
        ("NET_PERS", "4"),
    ]);
    let fixture = Fixture::new("");
    let config = ConfigManager::open(schema(), fixture.path(), overrides).unwrap();
    let told: Vec<String> =
        config.unknown_variables(["VISORBUS_OWN_NAME"]).iter().map(ToString::to_string).collect();
    let expected = [
        "VISORBUS_DISPLAY_BRIGTHNESS (did you mean VISORBUS_DISPLAY_BRIGHTNESS?)",
        "VISORBUS_NET_PERS (did you mean VISORBUS_NET_PEERS?)",
        "VISORBUS_SOMETHING_ELSE",
    ];
    assert_eq!(told, expected);
    let (_fixture, config) = with_room("", DOORS);
    assert_eq!(config.unknown_variables([]).len(), 1, "nothing is declared");
    let (_fixture, config) = with_room(NAMED, DOORS);
    assert_eq!(config.unknown_variables([]), []);
}

#[test]
fn names_that_are_none_are_refused_where_they_are_declared() {
    let names = ["", "A", "a.b", "a/b", "1a", "_a", "a b", "ä", &"a".repeat(25)];
    for name in names {
        let schema = || ConfigSchema::new([Category::new(name, "")]);
        assert!(std::panic::catch_unwind(schema).is_err(), "{name}");
        let schema = || ConfigSchema::new([Category::new("a", "").key(Key::bool(name, true, ""))]);
        assert!(std::panic::catch_unwind(schema).is_err(), "{name}");
    }
    let twice = || {
        let one = Category::new("a", "").key(Key::bool("b_c", true, ""));
        ConfigSchema::new([one, Category::new("a_b", "").key(Key::bool("c", true, ""))])
    };
    assert!(std::panic::catch_unwind(twice).is_err(), "one variable would be two keys'");
    let longest = "a".repeat(24);
    let address = format!("config/changed/{longest}/{longest}");
    assert!(visorbus_core::message::Address::new(&address).is_ok());
}

#[test]
fn a_file_full_of_mistakes_is_refused_in_no_time_with_the_first_of_them() {
    let keys: String = (0..80_000).map(|number| format!("k{number}=1\n")).collect();
    let tables: String = (0..80_000).map(|number| format!("[t{number}]\n")).collect();
    for text in [format!("[net]\n{keys}"), tables] {
        let begun = std::time::Instant::now();
        let error = Fixture::new(&text).wrong();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(error.lines().count(), 65);
        assert!(error.ends_with("no more than 64 mistakes are told of: mend those above first"), "{error}");
    }
}

#[test]
fn a_wrong_name_neither_steers_a_terminal_nor_fills_it() {
    let long = "k".repeat(100_000);
    let text = format!("[net]\n\"p\\u001b[31m\\nF:9:9: all is well\" = 1\n{long} = 1\n");
    let error = Fixture::new(&text).wrong();
    assert!(error.lines().count() == 2 && error.len() < 400, "{error}");
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn a_file_that_everybody_may_write_is_refused_with_the_command_that_mends_it() {
    let fixture = Fixture::new("[net]\npeers = 3\n");
    let config = fixture.open();
    let mode = |mode| fs::set_permissions(fixture.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    assert_eq!(
        fixture.wrong(),
        "cannot read F: everybody may write it, and with it say what happens: chmod o-w F"
    );
    assert!(config.reload().is_err() && config.set("net", "peers", Value::Integer(4), "x").is_err());
    assert_eq!(config.integer("net", "peers"), 3);
    mode(0o664);
    config.set("net", "peers", Value::Integer(4), "x").unwrap();
}
