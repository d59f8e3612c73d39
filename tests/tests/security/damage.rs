//! Files that are damaged, exposed, swapped or gone, and a disk that is full: nothing is opened by that, a hub that runs
//! keeps what it had, and whoever has to mend it is told what, where and how.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use visorbus_auth::{Accounts, AuditKind, AuthenticationProvider, KeyFile, Policy, RevokeAll, Secret, Store};
use visorbus_core::bus;
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_tests::raw_peer::expect_error;

use crate::transports::{Transport, Unix, over_every_transport};
use crate::world::{KEY_ID, ROOT, World};

over_every_transport! {
    a_policy_with_an_error_leaves_the_old_one_in_force
}

fn a_policy_with_an_error_leaves_the_old_one_in_force<T: Transport>() {
    let house = House::new();
    let world = house.open();
    let mut admin = world.admitted::<Unix>("admin", &["administer:bus/**"]);
    let mut mallory = world.admitted::<T>("mallory", &["guest"]);
    assert!(mallory.request("vault/open", MessagePayload::Empty).is_ok());
    let more = "[[rule]]\nscope = \"guest\"\nallow = [\"*\"]\n";
    for (bad, at) in [
        (format!("{more}alow = [\"*\"]\n"), ":4:"),
        (format!("{more}[[rule]]\nscope = \"guest\"\nallow = [\"request:config/../**\"]\n"), ":6:"),
        (format!("{more}[[rule]]\nscope = \"Guest\"\nallow = [\"*\"]\n"), ":5:"),
        (format!("{more}\0"), ":4:"),
        (format!("{more}[[rule]\n"), ":4:"),
    ] {
        fs::write(house.policy(), bad).unwrap();
        for address in [bus::POLICY_RELOAD, bus::POLICY_RELOAD] {
            let error = admin.request(address, MessagePayload::Empty).unwrap_err();
            let place = format!("{}{at}", house.policy().display());
            assert!(error.text().contains(&place), "{place}: {error}");
        }
        assert!(mallory.request("vault/open", MessagePayload::Empty).is_ok(), "what it allowed it allows");
        let outcome = mallory.request("config/a", MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Authorization, "no permission");
    }
    // Nor is one read that somebody else could have written, or that is gone.
    fs::write(house.policy(), more).unwrap();
    fs::set_permissions(house.policy(), Permissions::from_mode(0o666)).unwrap();
    expect_error(admin.request(bus::POLICY_RELOAD, MessagePayload::Empty), ErrorKind::Message, "chmod go-w");
    fs::remove_file(house.policy()).unwrap();
    expect_error(admin.request(bus::POLICY_RELOAD, MessagePayload::Empty), ErrorKind::Message, "cannot read");
    let outcome = mallory.request("config/a", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authorization, "no permission");
    world.audited(|event| {
        event.what == AuditKind::ReloadFailed.as_str() && event.reason.contains("policy.toml")
    });
    world.is_unharmed_after(6);
}

#[test]
fn a_store_cut_off_anywhere_is_refused_and_left_as_it_is() {
    let house = House::new();
    drop(house.open());
    let whole = fs::read(house.store()).unwrap();
    for len in (0..whole.len() - 1).filter(|len| len % 7 == 0 || len + 9 > whole.len()) {
        house.put(&whole[..len]);
        house.is_refused(&whole[..len]);
    }
    // All but the end of its line is all of it.
    house.put(&whole);
    let known = said(&Store::open(house.store()).unwrap());
    house.put(&whole[..whole.len() - 1]);
    assert_eq!(said(&Store::open(house.store()).unwrap()), known);
    // What is only spaces, or something else.
    for other in [&b"\n"[..], b"{}", b"[]", b"null", &[0; 64], &[0xff; 64], b"{\"version\":1}"] {
        house.put(other);
        house.is_refused(other);
    }
    house.put(&whole);
    assert!(Store::open(house.store()).is_ok());
}

#[test]
fn a_store_with_a_bit_flipped_anywhere_is_refused_or_says_the_same() {
    let house = House::new();
    drop(house.open());
    let whole = fs::read(house.store()).unwrap();
    let known = said(&Store::open(house.store()).unwrap());
    let (mut refused, step) = (0, (whole.len() * 8 / 200) | 1);
    for bit in (0..whole.len() * 8).step_by(step) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        house.put(&flipped);
        match Store::open(house.store()) {
            Err(_) => {
                refused += 1;
                house.is_refused(&flipped);
            }
            // A letter of the checksum in the other case is the same checksum.
            Ok(store) => {
                assert_eq!(said(&store), known, "bit {bit}");
                assert!(flipped[bit / 8].eq_ignore_ascii_case(&whole[bit / 8]), "bit {bit}");
            }
        }
    }
    assert!(refused > 190, "{refused}");
}

#[test]
fn a_running_hub_keeps_what_it_knows_when_its_files_are_damaged() {
    let house = House::new();
    let world = house.open();
    let void = world.token("void", &["request:vault/*"]);
    world.accounts.revoke_all(&RevokeAll::Subject("void".into())).unwrap();
    let good = world.token("good", &["request:vault/*"]);
    let whole = fs::read(house.store()).unwrap();
    for damage in [&whole[..whole.len() / 2], b"", b"{}", &[whole.as_slice(), b"x"].concat()] {
        house.put(damage);
        let error = world.handle.reload().unwrap_err();
        assert!(error.text().contains("accounts.json") && error.text().contains("damaged"), "{error}");
        // What was taken back stays so, and who had an account has one.
        let mut visitor = world.greeted::<Unix>("void");
        expect_error(visitor.authenticate(&void), ErrorKind::Authentication, "taken back");
        drop(visitor);
        let mut visitor = world.greeted::<Unix>("good");
        visitor.authenticate(&good).unwrap();
        drop(visitor);
        world.wait_until(|peers| peers.iter().all(|peer| !peer.name.starts_with("good")));
        // What cannot be written down is not said to be done.
        let error = world.accounts.revoke_all(&RevokeAll::Subject("good".into())).unwrap_err();
        assert!(error.kind() == ErrorKind::Internal && error.text().contains("damaged"), "{error}");
        assert_eq!(fs::read(house.store()).unwrap(), damage, "left as it is for whoever mends it");
    }
    world.audited(|event| {
        event.what == AuditKind::ReloadFailed.as_str() && event.reason.contains("accounts.json")
    });
    house.put(&whole);
    world.handle.reload().unwrap();
    world.accounts.revoke_all(&RevokeAll::Subject("good".into())).unwrap();
    world.is_unharmed();
}

#[test]
fn files_that_others_may_touch_or_that_are_links_are_refused() {
    for name in ["accounts.json", "root.key"] {
        let house = House::new();
        let world = house.open();
        let path = house.directory.path().join(name);
        let is_refused = |text: &str| {
            let error = open(&house, name).err().unwrap_or_else(|| panic!("{name} was opened: {text}"));
            assert!(
                error.contains(text) && error.contains(&*house.directory.path().to_string_lossy()),
                "{error}"
            );
            // The hub that runs goes on with what it had.
            if name == "root.key" {
                assert!(world.handle.reload().unwrap_err().text().contains(text));
            }
            world.is_unharmed();
        };
        for mode in [0o640, 0o604, 0o660, 0o606, 0o777] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            is_refused("chmod 600");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(house.directory.path(), Permissions::from_mode(0o777)).unwrap();
        is_refused("others may change it");
        fs::set_permissions(house.directory.path(), Permissions::from_mode(0o700)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(12345), None).unwrap();
            is_refused("belongs to user 12345");
            chown(&path, Some(0), None).unwrap();
        } else {
            eprintln!("not root: files of another user are not tried");
        }
        let moved = house.directory.path().join("elsewhere");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        is_refused("is a symbolic link");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        is_refused("is a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        is_refused("");
        fs::remove_dir(&path).unwrap();
        fs::rename(&moved, &path).unwrap();
        assert!(open(&house, name).is_ok());
    }
}

#[test]
fn a_key_file_that_is_gone_while_the_store_is_there_stops_nothing_and_opens_nothing() {
    let house = House::new();
    let world = house.open();
    let token = world.token("alice", &["request:vault/*"]);
    fs::remove_file(house.keys()).unwrap();
    let error = world.handle.reload().unwrap_err();
    assert!(error.text().contains("there is no key file") && error.text().contains("root.key"), "{error}");
    world.greeted::<Unix>("alice").authenticate(&token).unwrap();
    assert!(open(&house, "root.key").unwrap_err().contains("there is no key file"));
    for bad in ["", "# nothing\n", "0 00\n", "0 zz\n", "999 00\n"] {
        house.write(&house.keys(), bad.as_bytes());
        assert!(open(&house, "root.key").is_err(), "{bad}");
        assert!(world.handle.reload().is_err());
        assert_eq!(fs::read(house.keys()).unwrap(), bad.as_bytes(), "left as it is");
    }
    world.is_unharmed();
}

#[test]
fn a_full_disk_keeps_the_old_accounts_and_says_so() {
    // A small file system that nobody but this thread sees.
    let tried = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        let house = House::new();
        let small = house.directory.path().join("small");
        fs::create_dir(&small).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let mounted = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(None::<&str>, "/", None::<&str>, private, None::<&str>))
            .and_then(|()| {
                mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=0700"))
            });
        mounted?;
        let store = Store::open_or_create(small.join("accounts.json")).unwrap();
        store.add_user("alice", &Secret::new("open sesame"), &[]).unwrap();
        let mut keys = 0;
        let error = loop {
            match store.add_api_key("alice", &["request:vault/*".to_owned()], None) {
                Ok(_) => keys += 1,
                Err(error) => break error,
            }
            assert!(keys < 1000, "64 KiB are never full");
        };
        assert!(error.kind() == ErrorKind::Internal && error.text().contains("accounts.json"), "{error}");
        assert!(error.text().contains("No space left"), "{error}");
        assert_eq!((store.users().len(), store.api_keys().len()), (1, keys), "as it was");
        let again = Store::open(small.join("accounts.json")).unwrap();
        assert_eq!((again.users().len(), again.api_keys().len()), (1, keys), "and on disk too");
        // Nor is anything said to be taken back, when not even that has room.
        drop(fs::remove_file(small.join("accounts.json.new")));
        drop(fs::write(small.join("filler"), [0; 64 << 10]));
        assert!(again.disable("alice").is_err());
        assert!(again.disabled().is_empty());
        Ok::<(), nix::errno::Errno>(())
    });
    if let Err(error) = tried.join().unwrap() {
        eprintln!("NOT TRIED: a full disk, for want of the right to mount one: {error}");
    }
}

/// The files of a hub.
struct House {
    directory: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let house = Self { directory: tempfile::tempdir().unwrap() };
        let hex: String = ROOT.iter().map(|byte| format!("{byte:02x}")).collect();
        house.write(&house.keys(), format!("{KEY_ID} {hex}\n").as_bytes());
        house.write(&house.policy(), b"[[rule]]\nscope = \"guest\"\nallow = [\"request:vault/*\"]\n");
        house
    }

    /// A hub with these files.
    fn open(&self) -> World {
        let store = Store::open_or_create(self.store()).unwrap();
        if store.users().is_empty() {
            store.add_user("alice", &Secret::new("open sesame"), &["guest".to_owned()]).unwrap();
            store.add_api_key("alice", &[], None).unwrap();
        }
        let policy = Arc::new(Policy::open(self.policy()).unwrap());
        let keys = KeyFile::open(self.keys()).unwrap();
        World::with(Arc::new(Accounts::new(Arc::new(store), keys, Arc::clone(&policy))), policy)
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("accounts.json")
    }

    fn keys(&self) -> PathBuf {
        self.directory.path().join("root.key")
    }

    fn policy(&self) -> PathBuf {
        self.directory.path().join("policy.toml")
    }

    /// Puts this in the place of the store.
    fn put(&self, bytes: &[u8]) {
        self.write(&self.store(), bytes);
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    /// Demands that what lies there now is no store, by whichever way it is opened, and is left for whoever mends it.
    #[track_caller]
    fn is_refused(&self, bytes: &[u8]) {
        for outcome in [Store::open(self.store()), Store::open_or_create(self.store())] {
            let error = outcome.expect_err("it was opened").to_string();
            assert!(error.contains("accounts.json"), "{error}");
            assert!(error.contains("put back a copy") || error.contains("update it"), "{error}");
        }
        assert_eq!(fs::read(self.store()).unwrap(), bytes, "left as it is");
    }
}

/// What a start of the hub makes of one of its files.
fn open(house: &House, name: &str) -> Result<(), String> {
    match name {
        "root.key" => KeyFile::open(house.keys()).map(drop).map_err(|e| e.to_string()),
        _ => Store::open(house.store()).map(drop).map_err(|e| e.to_string()),
    }
}

/// All that a store says of what is in it.
fn said(store: &Store) -> String {
    format!("{:?} {:?} {:?} {:?}", store.users(), store.api_keys(), store.certificates(), store.disabled())
}
