//! Many at once, and those who stop in the middle: nobody else notices, and what they cost is bounded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::message::MessagePayload;
use visorbus_hub::{Limits, OwnedMessage, OwnedPayload};
use visorbus_tests::certificates::Certificates;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::RawPeer;
use visorbus_tests::raw_websocket::{Frame, RawWebSocket, Upgrade};
use visorbus_tests::websocket_peer::WebSocketPeer;
use visorbus_unix::UnixSocketListener;
use visorbus_websocket::{Subprotocol, WebSocketConfig, WebSocketProtocol};

use super::alone::{is_alone, processor_time, raise_descriptors, resident};
use crate::world::{World, token};

#[test]
fn ten_thousand_connections_that_never_speak_shut_nobody_out_and_slow_nobody_down() {
    if !is_alone(
        "attacks::crowds::ten_thousand_connections_that_never_speak_shut_nobody_out_and_slow_nobody_down",
    ) {
        return;
    }
    let count = raise_descriptors().saturating_sub(2000).min(10_000);
    for config in [WebSocketConfig::default(), Certificates::in_files().port()] {
        let is_tls = config.tls.is_some();
        let world = World::with(config);
        let directory = tempfile::tempdir().unwrap();
        let unix = directory.path().join("run/bus.sock");
        world.handle.listen(Box::new(UnixSocketListener::bind(&unix).unwrap())).unwrap();
        let before = resident();
        let (mut silent, mut calls) = (Vec::new(), Latencies::default());
        // As many as one machine, and as many as many; half of them say the beginning of something.
        for number in 0..count {
            let from = if number < count / 2 { Ipv4Addr::LOCALHOST } else { address(1 + number / 20) };
            silent.push(come_from(from, world.address()));
            if number % 100 == 0 {
                calls.time(|| world.is_unharmed());
            }
        }
        // Somebody from elsewhere, and somebody of this machine.
        if !is_tls {
            let stream = come_from(address(4000), world.address());
            let mut guest = guest(stream, &world, Subprotocol::Json);
            assert!(guest.request("echo/x", MessagePayload::Empty).is_ok());
            world.is_unharmed_after(1);
        }
        let mut local = RawPeer::over(std::os::unix::net::UnixStream::connect(&unix).unwrap());
        local.hello("local").unwrap();
        local.authenticate(&token("local", &["request:echo/*"])).unwrap();
        assert!(local.request("echo/x", MessagePayload::Empty).is_ok());
        world.is_unharmed_after(1);
        let (grown, stats) = (resident().saturating_sub(before), world.stats());
        assert!(stats.pending <= 512 && stats.upgraded <= 1, "{stats:?}");
        // Everybody is counted, and told apart by what became of them.
        world.wait_for_door(|stats| {
            let turned_away: u64 = stats.reasons().map(|(_, count)| count).sum();
            stats.accepted == stats.pending + stats.upgraded + turned_away
        });
        assert!(grown < 32 << 20, "{grown} bytes more than before for {count} connections");
        calls.are_good();
    }
}

#[test]
fn websockets_that_never_speak_take_the_places_of_nobody_who_does() {
    if !is_alone("attacks::crowds::websockets_that_never_speak_take_the_places_of_nobody_who_does") {
        return;
    }
    raise_descriptors();
    let world =
        World::with_limits(WebSocketConfig::default(), Limits { handshake_ms: 60_000, ..Limits::default() });
    let directory = tempfile::tempdir().unwrap();
    let unix = directory.path().join("run/bus.sock");
    world.handle.listen(Box::new(UnixSocketListener::bind(&unix).unwrap())).unwrap();
    let mut good = world.admitted(Subprotocol::Postcard, "panel", &["request:echo/*"]);
    let (mut silent, mut calls, mut waited) = (Vec::new(), Latencies::default(), 0);
    for number in 0..1500 {
        let upgrade = Upgrade::new(world.address(), Subprotocol::ALL[number % 2].as_str()).to_bytes();
        let come = || RawWebSocket::over(come_from(address(1 + number / 200), world.address()));
        let mut socket = come();
        // While the hub has not taken those before, one is told to come again.
        while socket.ask(&upgrade).status == 503 {
            assert!(good.request("echo/x", MessagePayload::Empty).is_ok());
            waited += 1;
            socket = come();
        }
        silent.push(socket);
    }
    for _ in 0..20 {
        calls.time(|| assert!(good.request("echo/x", MessagePayload::Empty).is_ok()));
    }
    let mut local = RawPeer::over(std::os::unix::net::UnixStream::connect(&unix).unwrap());
    local.hello("local").unwrap();
    local.authenticate(&token("local", &["request:echo/*"])).unwrap();
    assert!(local.request("echo/x", MessagePayload::Empty).is_ok());
    let mut guest = guest(come_from(address(4000), world.address()), &world, Subprotocol::Json);
    assert!(guest.request("echo/x", MessagePayload::Empty).is_ok());
    world.is_unharmed_after(22 + waited);
    calls.are_good();
}

/// Each says almost all of the longest message there is, and leaves it at that.
#[test]
fn strangers_who_do_not_finish_what_they_say_do_not_fill_the_memory() {
    if !is_alone("attacks::crowds::strangers_who_do_not_finish_what_they_say_do_not_fill_the_memory") {
        return;
    }
    let world = World::start();
    let before = resident();
    let mut strangers = Vec::new();
    for number in 0..200 {
        let protocol = Subprotocol::ALL[number % 2];
        let mut stranger = world.greeted(protocol, &format!("stranger{number}"));
        let opcode = if protocol == Subprotocol::Json { Frame::TEXT } else { Frame::BINARY };
        let fragments = Frame::fragments(opcode, &vec![b'*'; 1 << 20], 60_000);
        let _ = fragments[..fragments.len() - 1].iter().all(|fragment| stranger.socket.try_send(fragment));
        if number % 20 < 2 {
            assert_eq!(stranger.socket.read_ending().code, Some(1009), "{protocol}");
        }
        strangers.push(stranger);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    world.is_unharmed();
}

/// The other end is gone and nothing tells of it: no end of its connection comes, and no answer to anything.
#[test]
fn who_is_gone_without_a_word_is_noticed_and_who_answers_pings_stays() {
    let mut config = WebSocketConfig::default();
    config.link.protocol =
        Arc::new(WebSocketProtocol { heartbeat_interval_ms: 300, ..WebSocketProtocol::default() });
    let world = World::with(config);
    for protocol in Subprotocol::ALL {
        let gone = world.admitted(protocol, "gone", &[]);
        let gone_early = world.open(protocol);
        let mut alive = world.admitted(protocol, "alive", &["request:echo/*"]);
        let end = Instant::now() + PATIENCE;
        // It says nothing but pongs, for longer than the others were waited for.
        let mut pinged = 0;
        while pinged < 3 || world.handle.peers().unwrap().len() > 2 {
            let ping = alive.socket.read_frame().expect("it answers pings and stays");
            assert_eq!(ping.opcode, Frame::PING);
            alive.socket.send(&Frame::pong(ping.payload));
            pinged += 1;
            assert!(Instant::now() < end, "nobody notices: {:?}", world.handle.peers());
        }
        let names: Vec<String> = world.handle.peers().unwrap().into_iter().map(|peer| peer.name).collect();
        assert!(names.contains(&"alive".to_owned()), "{names:?}");
        assert!(alive.request("echo/x", MessagePayload::Empty).is_ok());
        world.is_unharmed_after(1);
        drop((gone, gone_early, alive));
        world.wait_until(|peers| peers.len() == 1);
    }
}

#[test]
fn a_reader_that_stops_costs_what_its_policy_says_and_slows_nobody_down() {
    if !is_alone("attacks::crowds::a_reader_that_stops_costs_what_its_policy_says_and_slows_nobody_down") {
        return;
    }
    let certificates = Certificates::in_files();
    for (mut config, is_tls) in [(WebSocketConfig::default(), false), (certificates.port(), true)] {
        // It is not for their silence that they go.
        config.link.protocol =
            Arc::new(WebSocketProtocol { heartbeat_interval_ms: 600_000, ..WebSocketProtocol::default() });
        let world = World::with_limits(config, Limits { queue_bytes: 1 << 20, ..Limits::default() });
        for protocol in Subprotocol::ALL {
            stop_reading(&world, protocol, || match is_tls {
                false => RawWebSocket::connect(world.address()),
                true => certificates.connect(world.address()),
            });
        }
    }
}

fn stop_reading(world: &World, protocol: Subprotocol, connect: impl Fn() -> RawWebSocket) {
    let mut feed = RawPeer::attach(&world.handle);
    feed.hello("feed").unwrap();
    feed.authenticate(&token("feed", &[])).unwrap();
    let subscribed = |name: &str, policy| {
        let mut socket = connect();
        socket.upgrade(&Upgrade::new(world.address(), protocol.as_str()).with("Host", "localhost"));
        let mut peer = WebSocketPeer::over(socket, protocol);
        peer.hello(name).unwrap();
        peer.authenticate(&token(name, &["subscribe:feed/**"])).unwrap();
        peer.subscribe("feed/**", policy).unwrap();
        peer
    };
    let mut latest = subscribed("latest", SlowConsumer::Latest);
    let mut oldest = subscribed("oldest", SlowConsumer::DropOldest(8));
    let mut cut_off = subscribed("cut-off", SlowConsumer::Disconnect);
    let mut reader = subscribed("reader", SlowConsumer::DropOldest(1024));
    let (before, mut deliveries) = (resident(), Latencies::default());
    let sample = |number: u64| [&number.to_le_bytes()[..], &[7; SAMPLE_LEN]].concat();
    let number_in = |message: &OwnedMessage| match &message.payload {
        OwnedPayload::Binary(bytes) => u64::from_le_bytes(*bytes.first_chunk().unwrap()),
        other => panic!("{other:?}"),
    };
    for number in 0..SAMPLES {
        deliveries.time(|| {
            feed.notify("feed/x", MessagePayload::Binary(&sample(number)));
            let heard = reader.read_where(|message| message.destination == "feed/x");
            assert_eq!(number_in(&heard), number, "a reader that reads misses nothing");
        });
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more than before, of {} published", SAMPLES * SAMPLE_LEN as u64);
    deliveries.are_good();
    world.is_unharmed();
    let missed = |name: &str| {
        let peers = world.handle.peers().unwrap();
        peers.iter().find(|peer| peer.name == name).map_or(0, |peer| peer.missed)
    };
    let counts = ["latest", "oldest", "reader"].map(missed);
    assert!(counts[0] > 0 && counts[1] > 0 && counts[2] == 0, "{counts:?}");
    assert!(!world.handle.active_connections().unwrap().contains(&"cut-off".to_owned()));
    // Who reads again has the newest, and is told what is missing.
    for peer in [&mut latest, &mut oldest] {
        let (mut heard, mut is_told) = (0, false);
        while heard < SAMPLES - 1 || !is_told {
            let message = peer.read_new();
            is_told |= message.destination == bus::MISSED;
            if message.destination == "feed/x" {
                heard = number_in(&message);
            }
        }
    }
    let ending = cut_off.socket.read_ending();
    assert!(matches!(ending.code, None | Some(1008 | 1013)), "{ending:?}");
    drop((latest, oldest, cut_off, reader, feed));
    world.wait_until(|peers| peers.len() == 1);
}

/// Each writes before it reads, more than all that is between them holds.
#[test]
fn both_ends_flood_each_other_over_tls_and_every_request_is_answered_once() {
    let certificates = Certificates::in_files();
    let world = World::with(certificates.port());
    for protocol in Subprotocol::ALL {
        let mut socket = certificates.connect(world.address());
        socket.upgrade(&Upgrade::new(world.address(), protocol.as_str()).with("Host", "localhost"));
        let mut peer = WebSocketPeer::over(socket, protocol);
        peer.hello("flood").unwrap();
        peer.authenticate(&token("flood", &["request:echo/*"])).unwrap();
        let before = world.runs();
        let (mut bytes, mut waiting) = (Vec::new(), Vec::new());
        for number in 0..FLOOD {
            let content = format!("{number:0>32768}");
            let (id, frame) = peer.request_frame("echo/x", MessagePayload::String(&content));
            bytes.extend_from_slice(&frame.to_bytes());
            waiting.push((id, content));
        }
        let mut answers = Vec::new();
        peer.socket.exchange(&bytes, |frame| {
            answers.push(frame);
            answers.len() < FLOOD
        });
        for (frame, (id, content)) in answers.iter().zip(waiting) {
            let answer = peer.message_in(frame);
            assert_eq!((answer.id, answer.payload), (id, OwnedPayload::String(content)));
        }
        assert_eq!(world.runs() - before, FLOOD);
        world.is_unharmed_after(FLOOD);
    }
}

/// A client that comes from elsewhere while the port is attacked.
fn guest(stream: TcpStream, world: &World, protocol: Subprotocol) -> WebSocketPeer {
    let mut socket = RawWebSocket::over(stream);
    socket.upgrade(&Upgrade::new(world.address(), protocol.as_str()));
    let mut peer = WebSocketPeer::over(socket, protocol);
    peer.hello("guest").unwrap();
    peer.authenticate(&token("guest", &["request:echo/*"])).unwrap();
    peer
}

/// Any of this machine's own addresses.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f01_0000 + number as u32)
}

/// A connection whose other end sees it come from there.
fn come_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let made = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    if from != Ipv4Addr::LOCALHOST {
        bind(&made, &SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
    }
    connect(&made, &to).unwrap();
    made.into()
}

/// How long things took, and how much of the processor's time this process took for them, in which the test is alone.
#[derive(Default)]
struct Latencies {
    waited: Vec<Duration>,
    worked: Vec<Duration>,
}

impl Latencies {
    fn time(&mut self, what: impl FnOnce()) {
        let (started, before) = (Instant::now(), processor_time());
        what();
        self.waited.push(started.elapsed());
        self.worked.push(processor_time() - before);
    }

    /// Far below what anybody would notice; on a machine that does much else, what is waited for it counts less.
    #[track_caller]
    fn are_good(self) {
        for (mut times, middle, most) in [(self.worked, 50, 2_000), (self.waited, 1_000, 20_000)] {
            times.sort_unstable();
            let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
            assert!(median < Duration::from_millis(middle), "{median:?} in the middle, {worst:?} at worst");
            assert!(worst < Duration::from_millis(most), "{worst:?} at worst");
        }
    }
}

const SAMPLE_LEN: usize = 16 * 1024;
/// As many as make up several times what may wait for one peer and what the system holds.
const SAMPLES: u64 = 600;
/// Requests of 32 KiB.
const FLOOD: usize = 256;
