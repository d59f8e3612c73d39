//! The configuration's file under attack by processes: writers that are killed, writers that race, a disk that is full.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use visorbus_hub::Value;
use visorbus_services::config::{Category, ConfigManager, ConfigSchema, Key, Overrides, write_new};

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_the_old_file_or_the_new_one() {
    if let Some((path, _)) = part() {
        write_until_killed(&path);
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("visorbus.toml");
    let comment = "# what somebody has noted\n".repeat(200);
    fs::write(&path, &comment).unwrap();
    let mut last = 0;
    for round in 0..40u32 {
        let mut child =
            start("a_writer_that_is_killed_at_any_moment_leaves_the_old_file_or_the_new_one", &path, "");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wrote = lines.find(|line| line.as_ref().unwrap().contains("wrote ")).unwrap().unwrap();
        // Somewhere in the next write or two, elsewhere each time.
        let moment = Instant::now() + Duration::from_micros(u64::from(round * 7919 % 4000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let told: i64 = wrote.split(' ').next_back().unwrap().parse().unwrap();
        let config = open(&path);
        let (left, right) = (config.integer("left", "n0"), config.integer("right", "n0"));
        assert_eq!(left, right, "half of a change is there");
        assert_eq!(config.text("left", "words").len() as i64, left % 4000);
        assert!(left >= told && left > last, "what was said to be kept is: {left}, {told}, {last}");
        assert!(fs::read_to_string(&path).unwrap().starts_with(&comment));
        last = left;
    }
    // What the killed have left behind is one file, and in nobody's way.
    assert!(open(&path).set("right", "n1", Value::Integer(1), "me").unwrap());
    let entries = fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".visorbus.toml.lock", "visorbus.toml"]);
}

#[test]
fn what_root_makes_in_the_directory_of_another_is_that_other_s() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("visorbus.toml");
    if std::os::unix::fs::chown(directory.path(), Some(4242), Some(4243)).is_err() {
        return;
    }
    assert!(open(&path).set("left", "n0", Value::Integer(1), "me").unwrap());
    let first = directory.path().join("first.toml");
    write_new(&first, "# a comment\n").unwrap();
    for name in ["visorbus.toml", "first.toml"] {
        let made = fs::metadata(directory.path().join(name)).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (4242, 4243, 0o640), "{name}");
        let lock = fs::metadata(directory.path().join(format!(".{name}.lock"))).unwrap();
        assert_eq!((lock.uid(), lock.gid()), (4242, 4243), "{name}");
    }
    let there = write_new(&first, "").unwrap_err();
    assert_eq!(there.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&first).unwrap(), "# a comment\n");
}

#[test]
fn a_file_of_somebody_else_says_nothing_of_what_happens() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("visorbus.toml");
    fs::write(&path, "[left]\nn0 = 7\n").unwrap();
    let config = open(&path);
    let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None);
    if give(&path, 4242).is_err() {
        // Whoever is not root has no file of somebody else's but root's, which counts.
        let of_root = ConfigManager::open(schema(), "/etc/hostname", Overrides::none()).unwrap_err();
        assert!(!of_root.to_string().contains("belongs to"), "{of_root}");
        return;
    }
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for named in [&path, &link] {
        let refused = ConfigManager::open(schema(), named, Overrides::none()).unwrap_err().to_string();
        let mend = format!("chown 0 {}", named.display());
        assert!(refused.contains("belongs to user 4242") && refused.ends_with(&mend), "{refused}");
    }
    // One that runs does not take it over either, and writes nothing into it.
    assert!(config.reload().unwrap_err().to_string().contains("belongs to user 4242"));
    assert!(config.set("left", "n0", Value::Integer(1), "me").is_err());
    assert_eq!(
        (config.integer("left", "n0"), fs::read_to_string(&path).unwrap()),
        (7, "[left]\nn0 = 7\n".to_owned())
    );

    // What is root's own, and the file of a program in that program's own directory, which root writes so itself.
    give(&path, 0).unwrap();
    assert_eq!((open(&path).integer("left", "n0"), open(&link).integer("left", "n0")), (7, 7));
    give(&path, 4242).unwrap();
    give(directory.path(), 4242).unwrap();
    assert_eq!(open(&path).integer("left", "n0"), 7);
    // A link into that directory from elsewhere does not make it root's wish.
    let elsewhere = TempDir::new().unwrap();
    let link = elsewhere.path().join("visorbus.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(ConfigManager::open(schema(), &link, Overrides::none()).is_err());
    give(directory.path(), 4243).unwrap();
    assert!(ConfigManager::open(schema(), &path, Overrides::none()).is_err());
}

#[test]
fn a_lock_that_is_no_file_of_its_own_is_neither_waited_for_nor_given_away() {
    let directory = TempDir::new().unwrap();
    let (path, lock) = (directory.path().join("visorbus.toml"), directory.path().join(".visorbus.toml.lock"));
    let attempt = || open(&path).set("left", "n0", Value::Integer(1), "me").unwrap_err().to_string();
    rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(!attempt().is_empty());
    fs::remove_file(&lock).unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o400)).unwrap();
    fs::hard_link(&secret, &lock).unwrap();
    assert!(attempt().contains("is no lock's file"));
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o400);
    assert!(!path.exists());
}

#[test]
fn two_writers_at_once_lose_nothing_of_each_other() {
    if let Some((path, category)) = part() {
        return write_keys(&path, &category);
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("visorbus.toml");
    let writers =
        ["left", "right"].map(|name| start("two_writers_at_once_lose_nothing_of_each_other", &path, name));
    for writer in writers {
        let done = writer.wait_with_output().unwrap();
        assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("done"));
    }
    let config = open(&path);
    for name in ["left", "right"] {
        for number in 0..KEYS {
            assert_eq!(config.integer(name, &format!("n{number}")), 5, "{name} {number}");
        }
    }
}

#[test]
fn threads_that_change_one_configuration_lose_nothing_of_each_other() {
    let directory = TempDir::new().unwrap();
    let config = open(&directory.path().join("visorbus.toml"));
    std::thread::scope(|scope| {
        for name in ["left", "right"] {
            let config = config.clone();
            scope.spawn(move || {
                for number in 0..KEYS {
                    assert!(config.set(name, &format!("n{number}"), Value::Integer(1), name).unwrap());
                }
            });
        }
    });
    let again = open(&directory.path().join("visorbus.toml"));
    let count = |config: &ConfigManager| {
        config.list(None).unwrap().iter().filter(|entry| entry.value == Value::Integer(1)).count()
    };
    assert_eq!((count(&config), count(&again)), (2 * KEYS, 2 * KEYS));
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was_and_says_so() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not shown here: a small tmpfs cannot be mounted, which takes root");
        return;
    };
    let path = disk.0.path().join("visorbus.toml");
    let config = open(&path);
    config.set("left", "n0", Value::Integer(1), "me").unwrap();
    let before = fs::read_to_string(&path).unwrap();
    let watch = config.watch("**").unwrap();
    let ballast = disk.0.path().join("ballast");
    let full = fs::write(&ballast, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    let words = || Value::Text("x".repeat(4000));
    let error = config.set("left", "words", words(), "me").unwrap_err().to_string();
    assert!(error.contains("No space left on device") && error.contains("nothing was changed"), "{error}");
    assert_eq!((fs::read_to_string(&path).unwrap(), config.text("left", "words")), (before, String::new()));
    assert_eq!(watch.try_recv(), None);
    assert!(!disk.0.path().join(".visorbus.toml.new").exists());

    fs::remove_file(ballast).unwrap();
    assert!(config.set("left", "words", words(), "me").unwrap());
    assert_eq!(open(&path).text("left", "words").len(), 4000);
}

#[test]
fn a_file_that_may_not_grow_is_left_as_it_was_and_that_is_said() {
    if let Some((path, category)) = part() {
        return write_too_much(&path, &category);
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("visorbus.toml");
    // A limit that everybody may set himself, and that fails as a quota does; a signal of it ends nobody here.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 2 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap());
    let own = "a_file_that_may_not_grow_is_left_as_it_was_and_that_is_said";
    let done = as_part(&mut limited, own, &path, "left").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("done left"), "{said}");
}

/// What another process of this program does, which may write files of 1 KiB, or 2.
fn write_too_much(path: &Path, category: &str) {
    let config = open(path);
    config.set(category, "n0", Value::Integer(1), "part").unwrap();
    let before = fs::read_to_string(path).unwrap();
    let watch = config.watch("**").unwrap();
    let words = Value::Text("x".repeat(4000));
    let error = config.set(category, "words", words, "part").unwrap_err().to_string();
    assert!(error.contains("File too large") && error.contains("nothing was changed, make room"), "{error}");
    assert_eq!((fs::read_to_string(path).unwrap(), config.text(category, "words")), (before, String::new()));
    assert_eq!(watch.try_recv(), None);
    assert!(!path.with_file_name(".visorbus.toml.new").exists());
    assert!(config.set(category, "n0", Value::Integer(2), "part").unwrap());
    assert_eq!(open(path).integer(category, "n0"), 2);
    println!("done {category}");
}

/// What another process of this program does: counts up in two keys at once, without end.
fn write_until_killed(path: &Path) -> ! {
    let config = open(path);
    let mut round = config.integer("left", "n0");
    loop {
        round += 1;
        let words = Value::Text("x".repeat(round as usize % 4000));
        let keys = [
            ("left", "n0", Some(Value::Integer(round))),
            ("left", "words", Some(words)),
            ("right", "n0", Some(Value::Integer(round))),
        ];
        config.change(&keys, "part").unwrap();
        println!("wrote {round}");
    }
}

/// What another process of this program does: sets each key of a category to each number in turn.
fn write_keys(path: &Path, category: &str) {
    let config = open(path);
    for round in 1..=5 {
        for number in 0..KEYS {
            config.set(category, &format!("n{number}"), Value::Integer(round), "part").unwrap();
        }
    }
    println!("done {category}");
}

/// Two categories, one for each writer, with some text so that the file is of another length each time.
fn schema() -> ConfigSchema {
    ConfigSchema::new(["left", "right"].map(|name| {
        let category = Category::new(name, "One writer's.").key(Key::text("words", "", "Some text."));
        (0..KEYS).fold(category, |category, number| {
            category.key(Key::integer(format!("n{number}"), 0..=i64::MAX, 0, "A number."))
        })
    }))
}

fn open(path: &Path) -> ConfigManager {
    ConfigManager::open(schema(), path, Overrides::none()).unwrap_or_else(|error| panic!("{error}"))
}

/// Another process of this program, which runs `test` again and plays its [`part`].
fn start(test: &str, path: &Path, writer: &str) -> Child {
    as_part(&mut Command::new(std::env::current_exe().unwrap()), test, path, writer).spawn().unwrap()
}

fn as_part<'c>(command: &'c mut Command, test: &str, path: &Path, writer: &str) -> &'c mut Command {
    command.args(["--exact", test, "--nocapture"]);
    command.env("CONFIG_FILE", path).env("CONFIG_WRITER", writer);
    command.stdout(Stdio::piped()).stderr(Stdio::null())
}

/// What a process that [`start`] has started is to write to, and as whom.
fn part() -> Option<(PathBuf, String)> {
    Some((std::env::var_os("CONFIG_FILE")?.into(), std::env::var("CONFIG_WRITER").ok()?))
}

/// A file system of 64 KiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "small"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

const KEYS: usize = 12;
