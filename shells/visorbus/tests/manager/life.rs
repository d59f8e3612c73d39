//! Start and end: all of it or nothing, and nothing left.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use visorbus::IpcManager;
use visorbus_core::ErrorKind;
use visorbus_hub::{OwnedMessage, OwnedPayload};

use crate::world::{Held, OwnWorld, PATIENCE, World, call};

#[test]
fn all_that_the_configuration_asks_for_is_served_by_one_hub() {
    let world = World::new();
    let manager = world.running("[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n");
    let over_socket = world.client(&manager, "panel");
    let over_port = manager.create_websocket_client("page").unwrap();
    over_port.connect().unwrap();
    over_port.authenticate(&world.token("page", &["*"])).unwrap();
    assert_eq!(manager.unix_socket_server().unwrap().active_connections().unwrap(), ["panel"]);
    assert_eq!(manager.websocket_server().unwrap().active_connections().unwrap(), ["page"]);
    let (tell, told) = std::sync::mpsc::channel();
    for client in [&over_socket, &*over_port] {
        let (tell, name) = (tell.clone(), client.client_id().to_owned());
        client.on_message(move |_| drop(tell.send(name.clone()))).unwrap();
    }
    manager
        .broadcast_message(OwnedMessage::notification("bus/note", OwnedPayload::String("all".to_owned())))
        .unwrap();
    let mut heard = [told.recv_timeout(PATIENCE).unwrap(), told.recv_timeout(PATIENCE).unwrap()];
    heard.sort();
    assert_eq!(heard, ["page", "panel"]);
    let status = manager.status();
    assert_eq!(status.part("unix_socket").unwrap().place, world.socket().display().to_string());
    assert_eq!(status.part("dbus").unwrap().state, "off");
    assert_eq!(status.pid, std::process::id());
}

#[test]
fn it_is_initialized_once_and_ended_once_however_often_that_is_asked_for() {
    let world = World::new();
    let mut manager = world.manager("");
    assert!(manager.handle().is_err() && manager.unix_socket_server().is_none());
    manager.shutdown().unwrap();
    manager.initialize().unwrap();
    let client = world.client(&manager, "panel");
    manager.initialize().unwrap();
    call(&client, "manager/status").unwrap();
    manager.shutdown().unwrap();
    manager.shutdown().unwrap();
    assert!(!manager.is_initialized() && world.left().is_empty(), "{:?}", world.left());
    assert_eq!(manager.handle().unwrap_err().kind(), ErrorKind::Connection);
    manager.initialize().unwrap();
    call(&world.client(&manager, "panel"), "manager/status").unwrap();
}

#[test]
fn what_was_started_and_ended_leaves_no_file_no_thread_and_no_descriptor() {
    let world = OwnWorld::new();
    let round = || {
        let mut manager = world.manager(
            "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\ndashboard = true\n[dbus]\nenabled = true\n\
             bus = \"unix:path=/nowhere/bus\"\n[links]\nserial = [\"/nowhere/tty\"]\n",
        );
        manager.initialize().unwrap();
        manager.shutdown().unwrap();
    };
    // What a process keeps from the first time on is not what is counted.
    let empty = Held::now();
    round();
    let before = Held::settled(&empty);
    for _ in 0..3 {
        round();
    }
    before.expect_no_more();
    assert!(world.left().is_empty(), "{:?}", world.left());
}

#[test]
fn a_start_that_fails_at_its_last_part_leaves_nothing_of_those_before() {
    let world = OwnWorld::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let text = format!("[websocket]\nenabled = true\nbind_address = \"{port}\"\n");
    let mut manager = world.manager(&text);
    let empty = Held::now();
    manager.initialize().unwrap_err();
    let before = Held::settled(&empty);
    for _ in 0..3 {
        let error = manager.initialize().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection);
        let said = error.text();
        assert!(said.contains("websocket") && said.contains(&port.to_string()), "{said}");
        assert!(world.left().is_empty(), "{:?}", world.left());
    }
    before.expect_no_more();
    drop(taken);
    manager.initialize().unwrap();
    assert!(UnixStream::connect(world.path("run/bus.sock")).is_ok());
}

#[test]
fn a_socket_that_is_anothers_is_refused_and_the_other_goes_on() {
    let world = World::new();
    let first = world.running("");
    let mut second = world.manager("");
    let error = second.initialize().unwrap_err();
    assert!(error.text().contains("another hub serves") && error.text().contains("unix_socket"), "{error}");
    call(&world.client(&first, "panel"), "manager/status").unwrap();
}

#[test]
fn a_file_in_the_place_of_the_socket_stays_as_it_is() {
    let world = World::new();
    fs::create_dir(world.path("run")).unwrap();
    fs::write(world.socket(), "letters").unwrap();
    let mut manager = world.manager("");
    assert!(manager.initialize().unwrap_err().text().contains("remove it or choose another path"));
    assert_eq!(fs::read_to_string(world.socket()).unwrap(), "letters");
    assert_eq!(world.left(), ["bus.sock"], "and no lock beside it");
}

#[test]
fn certificates_that_are_missing_or_open_to_others_are_refused_before_anybody_is_served() {
    let world = World::new();
    let (certificate, key) = (world.path("hub.crt"), world.path("hub.key"));
    let text = format!(
        "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\ntls_enabled = true\ntls_cert_path = \"{}\"\n\
         tls_key_path = \"{}\"\n",
        certificate.display(),
        key.display()
    );
    let mut manager = world.manager(&text);
    let missing = manager.initialize().unwrap_err();
    assert!(missing.text().contains("hub.crt") && missing.text().contains("websocket"), "{missing}");
    fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let open = manager.initialize().unwrap_err();
    assert!(open.text().contains("hub.key") && open.text().contains("600"), "{open}");
    assert!(world.left().is_empty(), "{:?}", world.left());
}

#[test]
fn a_bus_and_a_board_that_are_not_there_are_waited_for_and_named() {
    let world = World::new();
    let manager = world.running(
        "[dbus]\nenabled = true\nbus = \"unix:path=/nowhere/bus\"\n[links]\nserial = [\"/nowhere/tty@9600\"]\n",
    );
    call(&world.client(&manager, "panel"), "manager/status").unwrap();
    let status = manager.status();
    let bus = status.part("dbus").unwrap();
    assert_eq!(bus.state, "waiting");
    assert!(bus.place.contains("org.visorbus.Bus1"), "{bus:?}");
    let line = status.part("links").unwrap();
    assert_eq!((line.place.as_str(), line.state.as_str()), ("serial /nowhere/tty@9600", "gone"));
    assert!(line.trouble.contains("no serial device at /nowhere/tty"), "{line:?}");
}

#[test]
fn one_that_is_dropped_has_ended() {
    let world = World::new();
    let client = {
        let manager: IpcManager = world.running("");
        world.client(&manager, "panel")
    };
    assert!(world.left().is_empty(), "{:?}", world.left());
    assert!(call(&client, "manager/status").is_err());
}

#[test]
fn a_program_with_providers_of_its_own_has_no_files() {
    use std::sync::Arc;
    use visorbus_auth::{TokenProvider, TokenScopes};
    use visorbus_core::auth::{Key, KeyRing, Slot};
    let world = World::new();
    let mut keys = KeyRing::new();
    keys.add(Slot::root(1, Key::new([7; 32]))).unwrap();
    let auth = Arc::new(TokenProvider::new(keys, 1));
    let mut manager = IpcManager::with_providers(world.config(""), auth, Arc::new(TokenScopes)).unwrap();
    manager.initialize().unwrap();
    assert!(!world.path("state").exists());
    assert_eq!(manager.status().key_file, "");
    let stranger = manager.create_unix_socket_client("panel").unwrap();
    stranger.connect().unwrap();
    assert!(call(&stranger, "manager/status").is_err(), "nobody without a token");
}
