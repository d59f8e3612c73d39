//! Listeners and links that go while the hub runs, and who is told of who comes and goes.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use visorbus_core::IpcError;
use visorbus_core::bus::{self, Identity, SlowConsumer};
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Message, MessagePayload};
use visorbus_hub::{
    Error, HubEvent, HubHandle, HubServer, LinkId, LinkOptions, ListenerId, Origin, OwnedMessage,
    OwnedPayload,
};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};
use visorbus_unix::UnixSocketListener;

use crate::desk::Disguised;
use crate::harness::{Client, TestHub, text};

#[test]
fn a_listener_that_goes_takes_its_peers_along_and_nobody_else() {
    let (hub, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let mut innocent = hub.bystander();
    let (path, other) = (folder.path().join("hub.sock"), folder.path().join("other.sock"));
    let (listener, _) = (listen(&hub, &path), listen(&hub, &other));
    let mut server = connect(&hub, &path, "server");
    let mut stays = connect(&hub, &other, "stays");
    let mut caller = hub.connect("caller", &["*"]);
    let waits = caller.send_request("server/slow", MessagePayload::Empty);
    server.read_call();
    hub.handle.unlisten(listener, "the socket moves").unwrap();
    assert!(!path.exists() && !path.with_extension("sock.lock").exists(), "its files are gone");
    expect_error(caller.answer_to(waits), ErrorKind::Connection, "'server/slow' was not answered");
    let last = server.read_to_end();
    assert!(last.iter().any(says("the socket moves")), "{last:?}");
    expect_error(caller.request("server/x", MessagePayload::Empty), ErrorKind::Message, "nobody serves");
    assert_eq!(text(&stays.ask_text("echo/ping", "still").unwrap()), "still");
    hub.wait_until(|peers| peers.len() == 3);
    assert!(UnixStream::connect(&path).is_err());
    innocent.is_served();
    let again = listen(&hub, &path);
    assert_ne!(again, listener);
    connect(&hub, &path, "server").ask_text("echo/ping", "back").unwrap();
    expect_error(hub.handle.unlisten(listener, "twice"), ErrorKind::Message, "no such listener any more");
    assert!(path.exists(), "the other one is not meant");
}

#[test]
fn what_a_peer_has_asked_is_given_up_when_its_listener_goes() {
    let (hub, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let path = folder.path().join("hub.sock");
    let listener = listen(&hub, &path);
    let mut server = hub.connect("server", &[]);
    let mut caller = connect(&hub, &path, "caller");
    caller.send_request("server/slow", MessagePayload::Empty);
    let call = server.read_call();
    hub.handle.unlisten(listener, "it is switched off").unwrap();
    server.read_topic(bus::CANCEL);
    server.answer(&call, "too late");
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "server" && peer.late == 1));
}

#[test]
fn whoever_connects_in_the_moment_that_a_listener_goes_harms_nobody() {
    let (hub, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let mut innocent = hub.bystander();
    let path = folder.path().join("hub.sock");
    for _ in 0..50 {
        let listener = listen(&hub, &path);
        let storm: Vec<UnixStream> = (0..20).filter_map(|_| UnixStream::connect(&path).ok()).collect();
        hub.handle.unlisten(listener, "it is switched off").unwrap();
        innocent.is_served_alone(&hub);
        drop(storm);
    }
    hub.wait_until(|peers| peers.len() == 1);
}

#[test]
fn a_board_that_is_detached_is_gone_with_all_that_was_asked_of_it() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut caller = hub.connect("caller", &["*"]);
    let (link, mut board) = attach_board(&hub);
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "imu"));
    let calls: Vec<u64> = (0..20).map(|_| caller.send_request("imu/info", MessagePayload::Empty)).collect();
    let call = board.read_where(|message| message.destination == "imu/info");
    caller.request("echo/ping", MessagePayload::Empty).unwrap();
    hub.handle.detach(link, "it is unplugged").unwrap();
    for call in calls {
        expect_error(caller.answer_to(call), ErrorKind::Connection, "it is unplugged");
    }
    // The goodbye, and the end: nobody has the device any more.
    let last = board.read_to_end();
    assert!(last.iter().any(says("it is unplugged")), "{last:?}");
    assert!(hub.handle.peers().unwrap().iter().all(|peer| peer.name != "imu"));
    expect_error(hub.handle.detach(link, "twice"), ErrorKind::Message, "no such link any more");
    let (again, mut board) = attach_board(&hub);
    assert_ne!(again, link);
    let waits = caller.send_request("imu/info", MessagePayload::Empty);
    let next = board.read_where(|message| message.destination == "imu/info");
    assert_ne!(next.id, call.id);
    board.answer(&next, "here again");
    assert_eq!(text(&caller.answer_to(waits).unwrap()), "here again");
    innocent.is_served();
}

#[test]
fn a_board_that_has_not_said_anything_is_detached_too() {
    let hub = TestHub::start();
    let (link, mut peer) = attach(&hub, line());
    hub.handle.detach(link, "wrong device").unwrap();
    peer.read_to_end();
    assert!(hub.handle.peers().unwrap().is_empty());
}

#[test]
fn a_single_socket_is_detached_with_a_goodbye_also_when_it_does_not_read() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (link, mut peer) = attach(&hub, LinkOptions::default());
    peer.hello("sleepy").unwrap();
    peer.authenticate(&hub.token("sleepy", &["*"])).unwrap();
    peer.subscribe("flood/x", SlowConsumer::DropOldest(64)).unwrap();
    let mut flood = hub.connect("flood", &["*"]);
    for _ in 0..64 {
        flood.notify("flood/x", MessagePayload::String(&"x".repeat(60_000)));
    }
    flood.request("echo/done", MessagePayload::Empty).unwrap();
    hub.handle.detach(link, "it is switched off").unwrap();
    innocent.is_served();
    assert!(hub.handle.active_connections().unwrap().iter().all(|name| name != "sleepy"));
    let last = peer.read_to_end();
    assert!(last.iter().any(says("it is switched off")), "it reads at last, and knows");
}

#[test]
fn an_inline_handler_has_listeners_and_links_come_and_go_without_waiting_for_itself() {
    let (hub, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let mut innocent = hub.bystander();
    let path = folder.path().join("hub.sock");
    let switch = Switch { hub: hub.handle.clone(), path: path.clone(), on: None };
    hub.handle.register_handler(Box::new(switch)).unwrap();
    let mut admin = hub.connect("admin", &["*"]);
    for _ in 0..20 {
        admin.request("switch/on", MessagePayload::Empty).unwrap();
        innocent.is_served();
        connect(&hub, &path, "guest").ask_text("echo/ping", "x").unwrap();
        admin.request("switch/off", MessagePayload::Empty).unwrap();
        hub.wait_until(|peers| peers.iter().all(|peer| peer.name != "guest"));
        wait_for_end_of(&path);
    }
}

#[test]
fn a_server_over_a_running_hub_has_its_own_clients_and_goes_alone() {
    let (hub, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let mut innocent = hub.bystander();
    let path = folder.path().join("hub.sock");
    let mut server = HubServer::over(hub.handle.clone());
    assert_eq!(server.active_connections(), Ok(Vec::new()));
    let hello = || OwnedMessage::notification("news/x", OwnedPayload::String("hello".to_owned()));
    expect_error(server.broadcast_message(hello()), ErrorKind::Connection, "call start() first");
    let failed = server.start(|| Err(Error::Connection("the port is taken".to_owned())));
    expect_error(failed, ErrorKind::Connection, "the port is taken");
    server.start(|| Ok(Box::new(UnixSocketListener::bind(&path)?))).unwrap();
    expect_error(server.start(|| unreachable!()), ErrorKind::Message, "was started before");
    let mut guest = connect(&hub, &path, "guest");
    assert_eq!(server.active_connections(), Ok(vec!["guest".to_owned()]), "the bystander is not its client");
    server.broadcast_message(hello()).unwrap();
    server.broadcast_to_scope("subscribe:news/x", hello()).unwrap();
    server.send_message("guest", hello()).unwrap();
    expect_error(server.send_message("bystander", hello()), ErrorKind::Message, "no peer is called");
    (0..3).for_each(|_| drop(guest.read_topic("news/x")));
    server.stop().unwrap();
    assert!(!path.exists());
    guest.read_to_end();
    expect_error(server.active_connections(), ErrorKind::Connection, "has stopped");
    expect_error(server.send_message("guest", hello()), ErrorKind::Connection, "has stopped");
    server.stop().unwrap();
    assert!(innocent.peer.is_quiet_for(Duration::from_millis(20)), "nothing was for it");
    innocent.is_served_alone(&hub);
}

#[test]
fn a_server_over_a_hub_that_has_ended_says_so_and_stops_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.sock");
    let mut hub = TestHub::start();
    let mut servers = [(); 2].map(|()| HubServer::over(hub.handle.clone()));
    servers[0].start(|| Ok(Box::new(UnixSocketListener::bind(&path)?))).unwrap();
    hub.stop().unwrap();
    assert!(!path.exists());
    servers[0].stop().unwrap();
    let late = servers[1].start(|| Ok(Box::new(UnixSocketListener::bind(&path)?)));
    expect_error(late, ErrorKind::Connection, "the hub has ended");
    assert!(!path.exists(), "the listener that nobody wanted is gone");
    drop(servers);
}

#[test]
fn a_watch_tells_who_came_and_went_and_why_and_that_the_hub_has_ended() {
    let mut hub = TestHub::start();
    let watch = hub.handle.watch(64).unwrap();
    let mut peer = hub.connect("imu", &["*"]);
    peer.register("camera").unwrap();
    peer.unregister("camera").unwrap();
    drop(peer);
    let next = || watch.recv_timeout(PATIENCE).expect("it is told");
    let component = |name: &str| (name.to_owned(), "imu".to_owned());
    let (up, down) = (
        |(component, peer)| HubEvent::ComponentUp { component, peer },
        |(component, peer)| HubEvent::ComponentDown { component, peer },
    );
    let unix = || "unix".to_owned();
    assert_eq!(next(), HubEvent::PeerUp { name: "imu".to_owned(), transport: unix() });
    assert_eq!(
        [next(), next(), next()],
        [up(component("imu")), up(component("camera")), down(component("camera"))]
    );
    let HubEvent::PeerDown { name, transport, why } = next() else { panic!("it went") };
    assert_eq!((name, transport, why.contains("closed the connection")), ("imu".to_owned(), unix(), true));
    assert_eq!(next(), down(component("imu")));
    hub.handle.unregister_handler("echo").unwrap();
    assert_eq!(next(), down(("echo".to_owned(), String::new())));
    assert_eq!(watch.recv_timeout(Duration::from_millis(5)), None);
    assert!(!watch.has_ended());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| watch.recv_timeout(Duration::MAX));
        hub.stop().unwrap();
        assert_eq!(waiting.join().unwrap(), None);
    });
    assert!(watch.has_ended());
    expect_error(hub.handle.watch(1), ErrorKind::Connection, "the hub has ended");
}

#[test]
fn a_watch_that_nobody_reads_holds_up_nobody_and_says_what_it_lost() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (unread, read) = (hub.handle.watch(4).unwrap(), hub.handle.watch(100_000).unwrap());
    let mut peer = hub.connect("busy", &["*"]);
    for _ in 0..1_000 {
        peer.register("camera").unwrap();
        peer.unregister("camera").unwrap();
    }
    let told = std::iter::from_fn(|| read.recv_timeout(Duration::ZERO)).count();
    assert_eq!(told, 2_002, "one that is read loses nothing");
    assert_eq!(unread.recv_timeout(Duration::ZERO), Some(HubEvent::Missed { count: 1_998 }));
    assert_eq!(std::iter::from_fn(|| unread.recv_timeout(Duration::ZERO)).count(), 4);
    innocent.is_served_alone(&hub);
}

#[test]
fn what_is_told_of_a_peer_is_what_its_hello_and_its_link_say() {
    let hub = TestHub::start();
    let (_link, mut silent) = attach(&hub, line());
    let told = hub.handle.peers().unwrap().remove(0);
    assert_eq!((told.boot_id, told.wire_version, told.round_trip_us), (None, None, None));
    assert_eq!((told.transport.as_str(), told.capabilities.len()), ("serial", 0));
    let now = visorbus_hub::unix_micros();
    assert!(
        told.connected_at_us <= now && told.connected_at_us > now - 60_000_000,
        "{}",
        told.connected_at_us
    );
    silent.hello("imu").unwrap();
    let told = hub.peer("imu?");
    assert_eq!((told.boot_id.map(|id| id.len()), told.wire_version), (Some(16), Some(1)));
    let capabilities = bus::REQUIRES_AUTHENTICATION | bus::HAS_LANE | bus::COMPRESSES | 1 << 30;
    let identity = Identity { boot_id: 0xf00, capabilities, ..identity("camera") };
    let (_link, mut camera) = attach(&hub, LinkOptions { json: true, ..line() });
    camera.hello_as(&identity).unwrap();
    let told = hub.peer("camera?");
    assert_eq!(told.boot_id.as_deref(), Some("0000000000000f00"));
    assert_eq!(told.capabilities, ["requires-authentication", "lane", "compression", "json"]);
    // The same in JSON, for those who have no postcard.
    let mut admin = hub.connect("admin", &["*"]);
    let answer = admin.request(bus::PEERS, MessagePayload::Json("null")).unwrap();
    let peers: serde_json::Value = answer.payload.parse().unwrap();
    let camera = peers.as_array().unwrap().iter().find(|peer| peer["name"] == "camera?").unwrap();
    assert_eq!((&camera["boot_id"], &camera["wire_version"]), (&"0000000000000f00".into(), &1.into()));
    assert_eq!(
        (&camera["transport"], &camera["round_trip_us"]),
        (&"serial".into(), &serde_json::Value::Null)
    );
    assert_eq!(camera["capabilities"][3], "json");
}

fn listen(hub: &TestHub, path: &Path) -> ListenerId {
    hub.handle.listen(Box::new(UnixSocketListener::bind(path).unwrap())).unwrap()
}

/// A peer that has come by the socket at `path`.
fn connect(hub: &TestHub, path: &Path, name: &str) -> RawPeer {
    let mut peer = RawPeer::over(UnixStream::connect(path).unwrap());
    peer.hello(name).unwrap();
    peer.authenticate(&hub.token(name, &["*"])).unwrap();
    peer
}

fn line() -> LinkOptions {
    LinkOptions { lossy: true, max_frame: 1_024, ..LinkOptions::default() }
}

fn attach(hub: &TestHub, options: LinkOptions) -> (LinkId, RawPeer) {
    let (peer, inner) = RawPeer::pair();
    let origin = match options.lossy {
        true => Origin::Serial { path: "/dev/test".to_owned() },
        false => Origin::Unknown,
    };
    let link = Disguised { inner, origin, options, key: Arc::new(Mutex::new(None)) };
    (hub.handle.attach(Box::new(link)).unwrap(), peer)
}

fn attach_board(hub: &TestHub) -> (LinkId, RawPeer) {
    let (link, mut board) = attach(hub, line());
    board.hello("imu").unwrap();
    board.authenticate(&hub.token("imu", &["*"])).unwrap();
    (link, board)
}

/// Whether a message carries this text, in whatever it is.
fn says(wanted: &str) -> impl Fn(&OwnedMessage) -> bool {
    move |message| {
        let payload = message.payload.borrow();
        String::from_utf8_lossy(payload.as_bytes()).contains(wanted)
    }
}

/// What an inline handler had closed is closed on another thread.
fn wait_for_end_of(path: &Path) {
    let end = std::time::Instant::now() + PATIENCE;
    while path.exists() {
        assert!(std::time::Instant::now() < end, "it stays");
        std::thread::yield_now();
    }
}

/// Switches a socket of its hub on and off, on the hub's own thread.
struct Switch {
    hub: HubHandle,
    path: std::path::PathBuf,
    on: Option<ListenerId>,
}

impl MessageHandler for Switch {
    fn id(&self) -> &str {
        "switch"
    }

    fn handle_message(&mut self, message: &Message<'_>, _: &mut Reply<'_>) -> Result<(), IpcError> {
        let failed = |error: Error| IpcError::new(error.kind(), "it does not switch");
        if message.destination.is_some_and(|to| to.as_str() == "switch/on") {
            let listener = UnixSocketListener::bind(&self.path).map_err(failed)?;
            self.on = Some(self.hub.listen(Box::new(listener)).map_err(failed)?);
        } else if let Some(listener) = self.on.take() {
            self.hub.unlisten(listener, "it is switched off").map_err(failed)?;
        }
        Ok(())
    }
}
