//! What must hold unattended: no CPU for nothing, nothing left of those who are gone.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use visorbus_core::bus::SlowConsumer;
use visorbus_core::message::MessagePayload;
use visorbus_hub::{HubLink, Limits, Listener};
use visorbus_tests::faulty_link::Random;
use visorbus_tests::raw_peer::RawPeer;
use visorbus_unix::FramedStream;

use crate::harness::{Client, TestHub, flood, request, wire};

#[test]
fn an_idle_hub_takes_no_processor_time() {
    let hub = TestHub::with_limits(Limits { handshake_ms: 1_500, ..Limits::default() });
    let mut peer = hub.connect("idle", &["*"]);
    peer.subscribe("**", SlowConsumer::default()).unwrap();
    let mut half = hub.connect("half", &["*"]);
    half.write_bytes(&[200, 0, 0, 0, 1, 2, 3]);
    let mut dawdler = hub.greeted("dawdler");
    dawdler.read_to_end();
    let _deaf = deaf_peer(&hub);
    peer.read_so_far();
    let before = cpu_ns(&hub);
    assert!(peer.is_quiet_for(Duration::from_millis(300)));
    let used = Duration::from_nanos(cpu_ns(&hub) - before);
    assert!(used < Duration::from_millis(5), "{used:?} in 300 ms");
}

#[test]
fn a_hub_that_takes_leave_of_one_that_does_not_read_does_not_spin() {
    let hub = TestHub::with_limits(Limits { queue_bytes: 64 << 10, ..Limits::default() });
    let mut peer = hub.connect("idle", &["*"]);
    let mut deaf = hub.connect("deaf", &["*"]);
    let text = "x".repeat(8_000);
    let call = wire(&request(9, "echo/ping").with_payload(MessagePayload::String(&text)));
    flood(&hub, &mut deaf, "deaf", &call.repeat(1_000));
    let before = cpu_ns(&hub);
    assert!(peer.is_quiet_for(Duration::from_millis(300)));
    let used = Duration::from_nanos(cpu_ns(&hub) - before);
    assert!(used < Duration::from_millis(5), "{used:?} in 300 ms");
    // The far end goes: no reason to wait any longer.
    drop(deaf);
    hub.wait_until(|peers| peers.len() == 1);
}

#[test]
fn two_hundred_peers_that_come_and_vanish_under_load_leave_nothing_behind() {
    let hub = TestHub::with_limits(Limits { queue_bytes: 256 << 10, ..Limits::default() });
    let mut innocent = hub.bystander();
    let mut server = hub.connect("server", &["*"]);
    let scopes = ["*"];
    let mut random = Random::new(3);
    let mut crowd: Vec<RawPeer> = Vec::new();
    let mut sockets = Vec::new();
    for n in 0..200 {
        let mut peer = RawPeer::attach_by(&hub.handle, |link| {
            sockets.push(socket_name(&link));
            Box::new(link)
        });
        if random.below(10) > 0 {
            let name = format!("p{n}");
            peer.hello(&name).unwrap();
            peer.authenticate(&hub.token(&name, &scopes)).unwrap();
        }
        let _ = peer.try_write_bytes(&misdeed(&mut random, n));
        crowd.push(peer);
        if crowd.len() > 20 {
            // In the middle of whatever it was doing.
            let gone = random.below(crowd.len() as u64) as usize;
            drop(crowd.swap_remove(gone));
        }
        if n % 10 == 0 {
            innocent.is_served();
            for call in server.read_so_far() {
                if random.below(2) == 0 && call.flags.requires_response {
                    server.answer(&call, "served");
                }
            }
        }
    }
    drop(crowd);
    hub.wait_until(|peers| peers.len() == 2);
    innocent.is_served();
    assert_eq!(hub.handle.active_connections().unwrap(), ["bystander", "server"]);
    let services = server.request(visorbus_core::bus::SERVICES, MessagePayload::Empty).unwrap();
    let services: Vec<visorbus_hub::info::ServiceInfo> = services.payload.parse().unwrap();
    assert_eq!(services.len(), 3, "{services:?}");
    assert_closed(&sockets);
    let used = cpu_ns(&hub);
    server.read_so_far();
    assert!(server.is_quiet_for(Duration::from_millis(200)));
    assert!(cpu_ns(&hub) - used < 5_000_000, "no timer is left that spins");
    for n in 0..200 {
        hub.connect(&format!("p{n}"), &scopes);
    }
}

#[test]
fn a_storm_of_connections_through_a_listener_leaves_nothing_behind() {
    let hub = TestHub::with_limits(Limits { max_peers: 50, ..Limits::default() });
    let mut innocent = hub.bystander();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.sock");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let sockets = Arc::default();
    hub.handle.listen(Box::new(Accepting { listener, sockets: Arc::clone(&sockets) })).unwrap();
    for _ in 0..20 {
        let storm: Vec<UnixStream> = (0..100).filter_map(|_| UnixStream::connect(&path).ok()).collect();
        innocent.is_served_alone(&hub);
        drop(storm);
    }
    hub.wait_until(|peers| peers.len() == 1);
    innocent.is_served_alone(&hub);
    let sockets = sockets.lock().unwrap();
    assert!(sockets.len() > 500, "{}", sockets.len());
    assert_closed(&sockets);
}

#[test]
fn a_listener_that_fails_is_paused_and_does_not_spin() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.sock");
    let listener = UnixListener::bind(&path).unwrap();
    hub.handle.listen(Box::new(Failing(listener))).unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let before = cpu_ns(&hub);
    assert!(innocent.peer.is_quiet_for(Duration::from_millis(350)));
    let used = Duration::from_nanos(cpu_ns(&hub) - before);
    assert!(used < Duration::from_millis(5), "{used:?} in 350 ms");
    innocent.is_served_alone(&hub);
}

/// Something that a peer may be doing when it vanishes.
fn misdeed(random: &mut Random, n: u32) -> Vec<u8> {
    let text = "x".repeat(random.below(2_000) as usize);
    let mut bytes = Vec::new();
    for id in 1_000..1_000 + random.below(60) {
        let address = ["server/x", "echo/ping", "nobody/x", "bus/services"][random.below(4) as usize];
        bytes.extend(wire(&request(id, address).with_payload(MessagePayload::String(&text))));
    }
    let component = format!("c{n}");
    let register =
        visorbus_hub::OwnedPayload::postcard(&visorbus_core::bus::Register { component: &component })
            .unwrap();
    bytes.extend(wire(&request(2_000, "bus/register").with_payload(register.borrow())));
    let subscribe = visorbus_hub::OwnedPayload::postcard(&visorbus_core::bus::Subscribe {
        pattern: "**",
        policy: [SlowConsumer::Latest, SlowConsumer::Disconnect, SlowConsumer::DropOldest(3)]
            [random.below(3) as usize],
    });
    bytes.extend(wire(&request(2_001, "bus/subscribe").with_payload(subscribe.unwrap().borrow())));
    bytes.truncate(bytes.len() - random.below(20) as usize);
    if random.below(5) == 0 {
        bytes.extend([0; 8]);
    }
    bytes
}

/// A subscriber with a full queue.
fn deaf_peer(hub: &TestHub) -> RawPeer {
    let mut deaf = hub.connect("deaf", &["*"]);
    deaf.subscribe("loud/*", SlowConsumer::DropOldest(10)).unwrap();
    let mut loud = hub.connect("loud", &[]);
    let text = "x".repeat(8_000);
    for _ in 0..200 {
        loud.notify("loud/x", MessagePayload::String(&text));
    }
    loud.read_so_far();
    assert!(hub.peer("deaf").queued_bytes > 0);
    drop(loud);
    hub.wait_until(|peers| peers.iter().all(|peer| peer.name != "loud"));
    deaf
}

/// What the hub's thread has used, as the kernel counts it.
pub(crate) fn cpu_ns(hub: &TestHub) -> u64 {
    let path = format!("/proc/self/task/{}/schedstat", hub.thread_id);
    let text = fs::read_to_string(path).expect("the hub's thread runs");
    text.split(' ').next().and_then(|used| used.parse().ok()).expect("schedstat(proc) begins with it")
}

/// What the kernel calls a socket, in this process and for as long as it is open.
fn socket_name(socket: &impl AsFd) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd()));
    link.expect("it is open").display().to_string()
}

fn assert_closed(sockets: &[String]) {
    let open = fs::read_dir("/proc/self/fd").expect("/proc is there").flatten();
    for link in open.filter_map(|entry| fs::read_link(entry.path()).ok()) {
        assert!(!sockets.contains(&link.display().to_string()), "{} is still open", link.display());
    }
}

struct Accepting {
    listener: UnixListener,
    sockets: Arc<Mutex<Vec<String>>>,
}

impl Listener for Accepting {
    fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn accept(&mut self) -> std::io::Result<Option<Box<dyn HubLink>>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                self.sockets.lock().unwrap().push(socket_name(&stream));
                Ok(Some(Box::new(FramedStream::new(stream)?)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn describe(&self) -> String {
        "a test's socket".to_owned()
    }
}

/// As at the limit of descriptors: a connection waits and cannot be taken.
struct Failing(UnixListener);

impl Listener for Failing {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn accept(&mut self) -> std::io::Result<Option<Box<dyn HubLink>>> {
        Err(std::io::Error::from_raw_os_error(24))
    }

    fn describe(&self) -> String {
        "a test's socket".to_owned()
    }
}
