//! Sockets that somebody else has made: which are taken, and that their files stay.

use std::fs::{self, Permissions};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use tempfile::TempDir;
use visorbus_hub::{Error, Listener as _};
use visorbus_unix::UnixSocketListener;

#[test]
fn an_inherited_socket_is_served_and_its_file_stays() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("bus.sock");
    let made = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    // One who came before the hub did.
    let _early = UnixStream::connect(&path).unwrap();
    let mut listener = UnixSocketListener::from_inherited(made.try_clone().unwrap()).unwrap();
    assert_eq!(listener.path(), path);
    assert!(listener.accept().unwrap().is_some());
    assert!(listener.accept().unwrap().is_none(), "it waits for nobody");
    drop(listener);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "no lock, and the socket is there");
    // Whoever made it can hand it over again.
    let _late = UnixStream::connect(&path).unwrap();
    assert!(UnixSocketListener::from_inherited(made).unwrap().accept().unwrap().is_some());
}

#[test]
fn a_hub_started_by_hand_leaves_an_inherited_socket_alone() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("bus.sock");
    let made = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let mut listener = UnixSocketListener::from_inherited(made).unwrap();
    assert!(
        matches!(UnixSocketListener::bind(&path), Err(Error::Connection(text)) if text.contains("already"))
    );
    while listener.accept().unwrap().is_some() {}
    let _caller = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
}

#[test]
fn a_socket_that_everybody_may_connect_to_is_refused() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("bus.sock");
    let made = UnixListener::bind(&path).unwrap();
    // As systemd makes them where SocketMode= is not given.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let refused = UnixSocketListener::from_inherited(made);
    assert!(matches!(refused, Err(Error::Authorization(text)) if text.contains("SocketMode=0660")));
    assert!(path.exists());
}

#[test]
fn what_is_no_listening_socket_with_a_file_is_refused() {
    let home = TempDir::new().unwrap();
    let name = format!("visorbus-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let (end, _other) = UnixStream::pair().unwrap();
    let datagrams = UnixDatagram::bind(home.path().join("datagrams")).unwrap();
    for (socket, why) in [
        (UnixListener::bind_addr(&address).unwrap(), "no file"),
        (std::os::fd::OwnedFd::from(end).into(), "does not listen"),
        (std::os::fd::OwnedFd::from(datagrams).into(), "no stream"),
    ] {
        let refused = UnixSocketListener::from_inherited(socket);
        assert!(matches!(&refused, Err(Error::Message(text)) if text.contains(why)), "{refused:?}");
    }
    let gone = UnixListener::bind(home.path().join("gone")).unwrap();
    fs::remove_file(home.path().join("gone")).unwrap();
    assert!(matches!(UnixSocketListener::from_inherited(gone), Err(Error::Connection(_))));
}
