//! The store attacked: by others on the machine, by damage, and by being killed.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use visorbus_core::auth::Key;
use visorbus_core::secure::{LinkKey, Suite};

use super::*;
use crate::{CertificateId, Secret};

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("accounts.json");
    (directory, path)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A store with one of everything.
fn furnish(store: &Store) -> Secret {
    store.add_user("alice", &Secret::new("correct horse"), &["panel".to_owned()]).unwrap();
    let key = store.add_api_key("ci", &["log".to_owned()], Some(9_000_000_000)).unwrap();
    store.add_certificate(CertificateId::Uri("visorbus:x".to_owned()), "phone", &[]).unwrap();
    store.add_certificate(CertificateId::Spki([7; 32]), "tablet", &[]).unwrap();
    store.disable("mallory").unwrap();
    store.add_link_key(&LinkKey::new(3, Suite::Sealed, "imu", Key::new([9; 32])).unwrap()).unwrap();
    revoke_key(store, 77);
    key
}

fn revoke_key(store: &Store, now: u64) {
    let change = |records: &mut Records| {
        records.revoke_key(1, now);
        Ok(())
    };
    store.update(change).unwrap();
}

#[test]
fn everything_is_there_after_a_restart() {
    let (_directory, path) = place();
    furnish(&Store::open_or_create(path.parent().unwrap().join("deeper/accounts.json")).unwrap());
    let store = Store::open(path.parent().unwrap().join("deeper/accounts.json")).unwrap();
    assert_eq!(store.users()[0].scopes, ["panel"]);
    assert_eq!(
        (store.api_keys()[0].subject.as_str(), store.api_keys()[0].expires),
        ("ci", Some(9_000_000_000))
    );
    assert_eq!(store.certificates().len(), 2);
    assert_eq!(store.disabled(), ["mallory"]);
    let keys = store.link_keys_of("imu").unwrap();
    assert_eq!((keys.len(), keys[0].id(), keys[0].suite()), (1, 3, Suite::Sealed));
    assert_eq!(store.link_key_list()[0].suite, "sealed");
    assert!(store.link_keys_of("imu2").unwrap().is_empty());
    assert_eq!(store.with_records(|records| records.least_epoch(1)), 2, "after the one of mallory");
    assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o7777, 0o600);
    let directory = fs::metadata(store.path().parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o7777, 0o700);
}

#[test]
fn what_is_added_can_be_removed_and_twice_is_refused() {
    let store = Store::in_memory();
    furnish(&store);
    let alice = || store.add_user("alice", &Secret::new("x"), &[]);
    assert!(alice().unwrap_err().to_string().contains("there is a user"));
    store.set_password("alice", &Secret::new("another")).unwrap();
    store.set_scopes("alice", &["admin".to_owned()]).unwrap();
    store.remove_user("alice").unwrap();
    assert!(store.remove_user("alice").is_err() && store.set_password("alice", &Secret::new("x")).is_err());
    let prefix = store.api_keys()[0].prefix.clone();
    store.set_api_key_disabled(&prefix, true).unwrap();
    store.remove_api_key(&prefix).unwrap();
    assert!(store.remove_api_key(&prefix).is_err());
    let uri = CertificateId::Uri("visorbus:x".to_owned());
    assert!(store.add_certificate(uri.clone(), "other", &[]).is_err());
    store.remove_certificate(&uri).unwrap();
    let key = LinkKey::new(3, Suite::Tag64, "imu", Key::new([1; 32])).unwrap();
    assert!(store.add_link_key(&key).is_err(), "the id is taken");
    store.add_link_key(&LinkKey::new(4, Suite::Tag64, "imu", Key::new([1; 32])).unwrap()).unwrap();
    assert_eq!(store.link_keys_of("imu").unwrap().iter().map(LinkKey::id).collect::<Vec<_>>(), [4, 3]);
    store.remove_link_key("imu", 3).unwrap();
    assert!(store.remove_link_key("imu", 3).is_err());
    store.enable("mallory").unwrap();
    assert!(store.enable("mallory").is_err());
}

#[test]
fn what_is_no_name_or_scope_gets_no_account() {
    let store = Store::in_memory();
    let password = Secret::new("x");
    for name in ["", "bus", "Alice", "a b", "a/b", "../a", "\u{430}lice", &"a".repeat(33)] {
        assert!(store.add_user(name, &password, &[]).is_err() && store.disable(name).is_err(), "{name}");
        assert!(store.add_api_key(name, &[], None).is_err(), "{name}");
        assert!(store.add_certificate(CertificateId::Sha256([0; 32]), name, &[]).is_err(), "{name}");
    }
    for scope in ["", "Panel", "request:a//b", "*:", "a,b"] {
        assert!(store.add_user("a", &password, &[scope.to_owned()]).is_err(), "{scope}");
    }
    let many: Vec<String> = (0..20).map(|n| format!("scope-{n}")).collect();
    assert!(store.add_user("a", &password, &many).unwrap_err().to_string().contains("give fewer"));
    assert!(store.users().is_empty() && store.api_keys().is_empty());
}

#[test]
fn a_file_that_others_may_have_touched_is_refused() {
    let (directory, path) = place();
    furnish(&Store::open_or_create(&path).unwrap());
    for bits in [0o640, 0o604, 0o660, 0o606] {
        mode(&path, bits);
        assert!(matches!(Store::open(&path), Err(StoreError::File(FileError::Exposed { .. }))), "{bits:o}");
        assert!(Store::open_or_create(&path).is_err());
    }
    mode(&path, 0o600);
    for bits in [0o770, 0o707, 0o777, 0o1777] {
        mode(directory.path(), bits);
        assert!(matches!(Store::open(&path), Err(StoreError::File(FileError::Writable { .. }))), "{bits:o}");
        assert!(Store::open_or_create(&path).is_err());
    }
    mode(directory.path(), 0o700);
    Store::open(&path).unwrap();
}

#[test]
fn a_store_that_runs_notices_that_others_may_touch_its_file() {
    let (_directory, path) = place();
    let store = Store::open_or_create(&path).unwrap();
    mode(&path, 0o644);
    assert!(store.disable("a").unwrap_err().to_string().contains("chmod 600"));
    assert!(store.disabled().is_empty(), "what is not on disk does not hold");
}

#[test]
fn a_symbolic_link_is_followed_nowhere() {
    let (directory, path) = place();
    Store::open_or_create(&path).unwrap();
    let link = directory.path().join("link.json");
    symlink(&path, &link).unwrap();
    assert!(matches!(Store::open(&link), Err(StoreError::File(FileError::Link { .. }))));
    assert!(Store::open_or_create(&link).is_err());
    // Nor where a write goes through: to the new file or to the lock.
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, directory.path().join("accounts.json.new")).unwrap();
    let store = Store::open(&path).unwrap();
    store.disable("a").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::remove_file(directory.path().join("accounts.json.lock")).unwrap();
    symlink(&victim, directory.path().join("accounts.json.lock")).unwrap();
    assert!(store.disable("b").is_err());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_damaged_file_lets_nobody_in_and_is_left_as_it_is() {
    let (_directory, path) = place();
    let store = Store::open_or_create(&path).unwrap();
    furnish(&store);
    let good = fs::read(&path).unwrap();
    let mut bad: Vec<Vec<u8>> = vec![vec![], b"{}".to_vec(), b"null".to_vec(), vec![0; 100], vec![0xFF; 100]];
    bad.extend((1..good.len() - 1).step_by(37).map(|len| good[..len].to_vec()));
    bad.extend((0..good.len() - 1).step_by(11).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    }));
    for bytes in bad {
        fs::write(&path, &bytes).unwrap();
        for opened in [Store::open(&path), Store::open_or_create(&path)] {
            let error = opened.unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Newer { .. }), "{error}");
        }
        assert!(store.disable("b").is_err() && store.reload().is_err());
        assert_eq!(store.users().len(), 1, "what was read before holds");
        assert!(fs::read(&path).unwrap() == bytes);
    }
    fs::remove_file(&path).unwrap();
    assert!(store.disable("b").is_err() && store.reload().is_err(), "no empty one takes its place");
    assert!(matches!(Store::open(&path), Err(StoreError::Missing { .. })));
}

#[test]
fn a_file_of_a_newer_program_is_not_touched() {
    let (_directory, path) = place();
    Store::open_or_create(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(&path, &text).unwrap();
    let error = Store::open_or_create(&path).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("update"), "{error}");
}

#[test]
fn two_processes_and_many_threads_lose_none_of_each_others_changes() {
    let (_directory, path) = place();
    let first = Store::open_or_create(&path).unwrap();
    let second = Store::open(&path).unwrap();
    std::thread::scope(|scope| {
        for (number, store) in [&first, &second, &first, &second].into_iter().enumerate() {
            scope.spawn(move || {
                for n in 0..25 {
                    store.disable(&format!("s{number}.{n}")).unwrap();
                }
            });
        }
    });
    assert_eq!(Store::open(&path).unwrap().disabled().len(), 100);
    for store in [&first, &second] {
        store.reload().unwrap();
        assert_eq!(store.disabled().len(), 100);
        assert!(!store.is_changed() && !store.reload().unwrap());
    }
    first.disable("last").unwrap();
    assert!(second.is_changed() && second.reload().unwrap());
    assert!(second.disabled().contains(&"last".to_owned()));
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let (_directory, path) = place();
    let store = Store::open_or_create(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let failed: Result<()> = store.update(|records| {
        records.revoke_all(5);
        Err(Error::Message("no".to_owned()))
    });
    assert!(failed.is_err());
    assert_eq!(store.with_records(|records| records.least_epoch(0)), 0);
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// What the test below has another process of this program do, and kills.
fn write_without_end(path: OsString) -> ! {
    let store = Store::open(path).unwrap();
    loop {
        revoke_key(&store, 1);
        println!("wrote {}", store.with_records(|records| records.least_epoch(1)));
    }
}

#[test]
fn whoever_is_killed_while_writing_leaves_the_last_acknowledged_write() {
    if let Some(path) = std::env::var_os("VISORBUS_TEST_STORE") {
        write_without_end(path);
    }
    let test = "store::tests::whoever_is_killed_while_writing_leaves_the_last_acknowledged_write";
    let (_directory, path) = place();
    furnish(&Store::open_or_create(&path).unwrap());
    let mut random = [0; 100];
    getrandom::fill(&mut random).unwrap();
    let mut acknowledged = 0;
    for chance in random.chunks_exact(2) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("VISORBUS_TEST_STORE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wrote = lines.filter_map(|line| line.ok()?.split_once("wrote ")?.1.parse::<u32>().ok());
        acknowledged = wrote.nth(usize::from(chance[0] % 8)).unwrap_or(acknowledged);
        // Somewhere in one of the next writes.
        std::thread::sleep(Duration::from_micros(u64::from(chance[1]) * 20));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = wrote.last().unwrap_or(acknowledged);
        let store = Store::open(&path).unwrap();
        let found = store.with_records(|records| records.least_epoch(1));
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} after {acknowledged}");
        assert_eq!((store.users().len(), store.link_keys().unwrap().len()), (1, 1));
    }
    assert!(acknowledged > 50);
    Store::open(&path).unwrap().disable("after").unwrap();
}
