//! The socket's file: who may have it, who replaces it, who removes it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use tempfile::TempDir;
use visorbus_hub::{Error, Listener};
use visorbus_unix::UnixSocketListener;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_socket_is_0600_in_a_directory_that_is_made_0700() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("run/visorbus/hub.sock");
    let mut listener = UnixSocketListener::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&home.path().join("run")), 0o700);
    assert!(listener.accept().unwrap().is_none());
    let _caller = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
}

#[test]
fn a_socket_for_a_group_is_0660_in_a_directory_0750_and_belongs_to_it() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("run/hub.sock");
    // One that every user may give a file to: of his own groups, the last.
    let gid = nix::unistd::getgroups().unwrap().last().map_or(nix::unistd::getegid(), |gid| *gid);
    let mut listener = UnixSocketListener::bind_for_group(&path, gid.as_raw()).unwrap();
    for (file, wanted) in [(path.as_path(), 0o660), (path.parent().unwrap(), 0o750)] {
        assert_eq!(mode(file), wanted, "{}", file.display());
        assert_eq!(fs::metadata(file).unwrap().gid(), gid.as_raw());
    }
    let _caller = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
    // A directory that was there keeps its mode.
    let second = home.path().join("hub.sock");
    let before = mode(home.path());
    let _second = UnixSocketListener::bind_for_group(&second, gid.as_raw()).unwrap();
    assert_eq!((mode(&second), mode(home.path())), (0o660, before));
}

#[test]
fn its_files_go_with_the_listener() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    drop(UnixSocketListener::bind(&path).unwrap());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_stale_socket_is_replaced() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _listener = UnixSocketListener::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_live_socket_is_left_alone_with_or_without_our_lock() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    for live in [
        Box::new(UnixListener::bind(&path).unwrap()) as Box<dyn Send>,
        Box::new({
            fs::remove_file(&path).unwrap();
            UnixSocketListener::bind(&path).unwrap()
        }),
    ] {
        let error = UnixSocketListener::bind(&path).unwrap_err();
        assert!(matches!(error, Error::Connection(_)), "{error}");
        assert!(error.to_string().contains("another hub serves"), "{error}");
        assert!(error.to_string().contains("hub.sock"), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(live);
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    fs::write(&path, "precious").unwrap();
    assert!(UnixSocketListener::bind(&path).unwrap_err().to_string().contains("not a socket"));
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    let link = home.path().join("link.sock");
    symlink(home.path().join("elsewhere"), &link).unwrap();
    assert!(UnixSocketListener::bind(&link).unwrap_err().to_string().contains("symbolic link"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

    let locked = home.path().join("locked.sock");
    symlink(home.path().join("target"), home.path().join("locked.sock.lock")).unwrap();
    assert!(UnixSocketListener::bind(&locked).is_err());
    assert!(!home.path().join("target").exists(), "a lock is never made through a link");
}

#[test]
fn a_directory_that_others_can_write_is_refused_unless_sticky() {
    let home = TempDir::new().unwrap();
    for (mode, fine) in [(0o777, false), (0o770, false), (0o1777, true), (0o755, true)] {
        let directory = home.path().join(format!("{mode:o}"));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let bound = UnixSocketListener::bind(directory.join("hub.sock"));
        assert_eq!(bound.is_ok(), fine, "{mode:o}");
        if let Err(error) = bound {
            assert!(matches!(error, Error::Authorization(_)), "{error}");
        }
    }
}

#[test]
fn a_path_that_cannot_be_a_sockets_is_refused_by_reason() {
    let home = TempDir::new().unwrap();
    for (path, reason) in [
        (home.path().join("x".repeat(108)), "the kernel takes 107"),
        ("\0abstract".into(), "abstract"),
        ("".into(), "empty"),
    ] {
        let error = UnixSocketListener::bind(&path).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let longest = home.path().join("y".repeat(107 - home.path().as_os_str().len() - 1));
    UnixSocketListener::bind(&longest).unwrap();
}

#[test]
fn a_socket_that_another_put_in_the_place_is_not_removed() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("hub.sock");
    let ours = UnixSocketListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}

#[test]
fn of_many_that_start_at_the_same_moment_one_wins() {
    let home = TempDir::new().unwrap();
    for round in 0..20 {
        let path = home.path().join(format!("{round}.sock"));
        // A stale one is there every other time.
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
        let (start, tried) = (Barrier::new(8), Barrier::new(8));
        let winners = thread::scope(|scope| {
            let bind = || {
                start.wait();
                let bound = UnixSocketListener::bind(&path);
                tried.wait();
                bound.is_ok()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum::<usize>()
        });
        assert_eq!(winners, 1);
    }
}
