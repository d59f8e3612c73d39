//! Sockets that systemd has opened (sd_listen_fds(3)) for a way in that is switched off: nobody is served there, that is
//! said, and they stay where they are.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Instant;

use crate::house::{ask, text};
use crate::place::{PATIENCE, Place, Process};

/// A place, and the socket that another process has opened in it.
fn opened() -> (Place, UnixListener) {
    let place = Place::new();
    fs::create_dir(place.path().join("run")).unwrap();
    let socket = UnixListener::bind(place.socket()).unwrap();
    (place, socket)
}

/// Starts a hub with the configuration `text` that `socket` is handed over to, called `name`.
fn hand_over(place: &Place, socket: impl Into<OwnedFd>, name: &str, text: &str) -> Process {
    configure(place, text);
    let mut command = place.shell(&format!(
        "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}; exec visorbus serve --config hub.toml 3<&0 </dev/null"
    ));
    Process::start_with(&mut command, Stdio::from(socket.into()))
}

fn configure(place: &Place, text: &str) {
    fs::write(place.path().join("hub.toml"), text).unwrap();
}

#[test]
fn one_that_is_switched_off_from_the_start_is_named_and_stays() {
    let (place, socket) = opened();
    let inode = fs::metadata(place.socket()).unwrap().ino();
    let refused = hand_over(&place, socket.try_clone().unwrap(), "unix", "[unix_socket]\nenabled = false\n");
    let done = refused.finish();
    done.expect_failure(6, "visorbus: ", &["'unix'", "switched off", "disable the socket's unit"]);
    assert_eq!(fs::metadata(place.socket()).unwrap().ino(), inode);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = hand_over(&place, port.try_clone().unwrap(), "websocket", "").finish();
    refused.expect_failure(6, "visorbus: ", &["'websocket'", "switched off"]);
    assert!(!place.key_file().exists(), "nothing was begun");
}

#[test]
fn one_that_is_switched_off_while_it_is_served_stays_and_is_served_again() {
    let (place, socket) = opened();
    let inode = fs::metadata(place.socket()).unwrap().ino();
    let port = "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n";
    let mut hub = hand_over(&place, socket.try_clone().unwrap(), "unix", port);
    let said = hub.wait_for_error("visorbus serves on");
    let url = said.split([' ', ',']).find(|word| word.starts_with("ws://")).unwrap().to_owned();
    let token = place.succeed(&["auth", "token", "mint", "--subject", "desk", "--scope", "*"]);
    place.succeed(&["status"]);
    let by_port = |args: &[&str]| place.succeed(&[args, &["--url", &url, "--token", &token]].concat());

    configure(&place, &format!("{port}[unix_socket]\nenabled = false\n"));
    by_port(&["reload"]);
    hub.wait_for_error("the socket that was handed over for 'unix_socket' is not served");
    assert!(by_port(&["status", "--json"]).contains(r#""name":"unix_socket","state":"off""#));
    assert_eq!(fs::metadata(place.socket()).unwrap().ino(), inode, "it is not the hub's to remove");
    // Once the old one is gone, whoever connects is left to the one who has opened it.
    socket.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waits = UnixStream::connect(place.socket()).unwrap();
        by_port(&["status"]);
        match socket.accept() {
            Ok(_) => break drop(waits),
            Err(error) => assert!(Instant::now() < deadline, "somebody of the hub still accepts: {error}"),
        }
    }

    configure(&place, port);
    by_port(&["reload"]);
    place.succeed(&["status"]);
    assert_eq!(fs::metadata(place.socket()).unwrap().ino(), inode);
    by_port(&["shutdown"]);
    assert_eq!(hub.finish().code, Some(0));
    assert_eq!(fs::metadata(place.socket()).unwrap().ino(), inode);
}

#[test]
fn the_one_who_has_opened_a_socket_finds_it_as_it_was_after_every_reload() {
    let (place, socket) = opened();
    let mut hub = hand_over(&place, socket.try_clone().unwrap(), "unix", "");
    hub.wait_for_error("visorbus serves on");
    let client = visorbus_unix::UnixSocketClient::new(place.socket(), "panel").unwrap();
    client.connect().unwrap();
    let token = place.succeed(&["auth", "token", "mint", "--subject", "panel", "--scope", "*"]);
    client.authenticate(&visorbus_unix::Credentials::Token(token.parse().unwrap())).unwrap();
    for round in 0..5 {
        configure(&place, &format!("[unix_socket]\npath = \"/nowhere/{round}\"\n"));
        place.succeed(&["reload"]);
    }
    ask(&client, "config/get", text("log.level")).unwrap();
    drop(hub);
    assert!(place.socket().exists());
}
