//! Boards whose clocks are not the hub's, on lines: their messages reach others with the hub's time.

use std::time::Instant;

use visorbus_core::bus::{self, Identity, SlowConsumer};
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::info::{ClockInfo, PeerInfo};
use visorbus_hub::{Limits, LinkOptions, OwnedMessage, unix_micros};
use visorbus_tests::raw_peer::RawPeer;

use crate::harness::{Client, TestHub};
use crate::leaf::Line;

#[test]
fn what_a_board_stamps_reaches_others_in_the_hubs_clock_with_an_uncertainty_that_holds() {
    let hub = hub();
    let mut watcher = hub.connect("watcher", &["subscribe:imu/*"]);
    watcher.subscribe("imu/*", SlowConsumer::DropOldest(1_000)).unwrap();
    let mut board = Board::attach(&hub, 7_000_000, 800.0);
    assert_eq!(hub.peer("imu").round_trip_us, None, "it has not answered yet");
    board.echo_probes(30);
    let round_trip_us = hub.peer("imu").round_trip_us;
    assert!(round_trip_us.is_some_and(|us| us < 20_000_000), "{round_trip_us:?}");
    let mut seen: Vec<(u64, OwnedMessage)> = Vec::new();
    for id in 0..10 {
        let (true_us, stamp) = board.publish(100 + id);
        let message = watcher.read_topic("imu/sample");
        assert_ne!(message.timestamp, Some(stamp));
        seen.push((true_us, message));
        board.echo_probes(1);
    }
    let (first_us, first) = &seen[0];
    let hub_now = unix_micros();
    for (true_us, message) in &seen {
        let (made, uncertainty) = (message.timestamp.unwrap(), u64::from(message.uncertainty_us.unwrap()));
        assert!(uncertainty < 60_000, "{message:?}");
        assert!(hub_now.abs_diff(made) < 20_000_000, "{made} is not now, {hub_now}");
        let passed = made - first.timestamp.unwrap();
        let allowed = uncertainty + u64::from(first.uncertainty_us.unwrap());
        assert!(
            passed.abs_diff(true_us - first_us) <= allowed,
            "{passed} of {}, {message:?}",
            true_us - first_us
        );
    }
    assert!(seen.is_sorted_by_key(|(_, message)| message.timestamp), "{seen:?}");
    let clock = board.clock(&hub);
    let began = hub_now as i64 - board.shows() as i64;
    let off = (clock.offset_us.unwrap() - began).abs();
    assert!(off < 100_000, "{clock:?}, {began} was expected");
    assert!(clock.exchanges >= 20 && clock.restarts == 0, "{clock:?}");
    assert!(clock.drift_ppb.unwrap() > 0, "{clock:?}");
}

#[test]
fn the_stamps_of_a_board_that_does_not_tell_its_clock_are_passed_on_as_they_are() {
    let hub = hub();
    let mut watcher = hub.connect("watcher", &["subscribe:imu/*"]);
    watcher.subscribe("imu/*", SlowConsumer::DropOldest(1_000)).unwrap();
    let mut board = Board::attach(&hub, 7_000_000, 0.0);
    let (_, stamp) = board.publish(1);
    let message = watcher.read_topic("imu/sample");
    assert_eq!((message.timestamp, message.uncertainty_us), (Some(stamp), None));
    let clock = board.clock(&hub);
    assert_eq!((clock.offset_us, clock.bound_us, clock.exchanges), (None, None, 0));
}

#[test]
fn nobody_but_the_hub_says_that_a_stamp_is_in_the_hubs_clock() {
    let hub = hub();
    let mut watcher = hub.connect("watcher", &["subscribe:**"]);
    watcher.subscribe("**", SlowConsumer::DropOldest(1_000)).unwrap();
    let mut liar = hub.connect("liar", &["*"]);
    let mut lie = Message::notification(9, Address::literal("liar/lie"));
    (lie.timestamp, lie.uncertainty_us) = (Some(unix_micros()), Some(1));
    liar.send(&lie);
    let told = watcher.read_topic("liar/lie");
    assert_eq!((told.timestamp, told.uncertainty_us), (lie.timestamp, None));
    let liar = hub.peer("liar");
    assert_eq!((liar.clock, liar.round_trip_us), (None, None), "a process has the hub's clock");
}

#[test]
fn an_echo_that_is_late_or_comes_twice_or_without_a_stamp_is_refused_and_counted() {
    let hub = hub();
    let mut board = Board::attach(&hub, 7_000_000, 0.0);
    board.echo_probes(3);
    let early = board.read_probe();
    let late = board.read_probe();
    // Given up by now; what comes for it moves nothing.
    board.echo(early, 1);
    board.echo(late, board.shows());
    board.echo(late, board.shows() + 10_000_000);
    let silent = board.read_probe();
    board.peer.send(&Message::heartbeat(silent));
    hub.wait_until(|peers| clock_of(peers).is_some_and(|clock| clock.refused >= 3));
    assert_eq!(board.clock(&hub).restarts, 0, "what was refused contradicts nothing");
}

#[test]
fn a_board_that_starts_again_is_asked_anew_and_its_old_clock_is_forgotten() {
    let hub = hub();
    let mut watcher = hub.connect("watcher", &["subscribe:imu/*"]);
    watcher.subscribe("imu/*", SlowConsumer::DropOldest(1_000)).unwrap();
    let mut board = Board::attach(&hub, 3_600_000_000, 0.0);
    board.echo_probes(3);
    board.restart(2);
    let (_, stamp) = board.publish(1);
    let message = watcher.read_topic("imu/sample");
    assert_eq!((message.timestamp, message.uncertainty_us), (Some(stamp), None), "nothing is known yet");
    board.echo_probes(3);
    board.publish(2);
    let message = watcher.read_topic("imu/sample");
    assert!(unix_micros().abs_diff(message.timestamp.unwrap()) < 20_000_000, "{message:?}");
    assert_eq!(board.clock(&hub).restarts, 0, "no contradiction: it is another clock");
}

/// Nobody falls silent in these tests.
fn hub() -> TestHub {
    TestHub::with_limits(Limits { line_heartbeat_ms: 60_000, ..Limits::default() })
}

fn clock_of(peers: &[PeerInfo]) -> Option<&ClockInfo> {
    peers.iter().find(|peer| peer.name == "imu")?.clock.as_ref()
}

/// A board whose every byte the test writes.
struct Board {
    peer: RawPeer,
    start: Instant,
    /// What its clock shows at `start`.
    zero_us: u64,
    drift_ppm: f64,
}

impl Board {
    fn attach(hub: &TestHub, zero_us: u64, drift_ppm: f64) -> Self {
        let options = LinkOptions {
            lossy: true,
            lane: false,
            max_frame: 256,
            unauthenticated: Some("imu".to_owned()),
            ..LinkOptions::default()
        };
        let peer = RawPeer::attach_by(&hub.handle, |inner| Box::new(Line { inner, options }));
        let mut board = Self { peer, start: Instant::now(), zero_us, drift_ppm };
        board.hello(1);
        board
    }

    fn hello(&mut self, boot_id: u64) {
        let identity = Identity {
            min_version: bus::WIRE_VERSION,
            max_version: bus::WIRE_VERSION,
            name: "imu",
            boot_id,
            max_frame: 256,
            heartbeat_ms: 60_000,
            capabilities: 0,
            rows: 0,
            unix_us: 0,
        };
        self.peer.hello_as(&identity).unwrap();
    }

    /// Its clock starts at zero, and it says hello again.
    fn restart(&mut self, boot_id: u64) {
        (self.start, self.zero_us) = (Instant::now(), 0);
        self.hello(boot_id);
    }

    fn passed_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn at(&self, passed_us: u64) -> u64 {
        self.zero_us + passed_us + (passed_us as f64 * self.drift_ppm * 1e-6) as u64
    }

    /// What its clock shows.
    fn shows(&self) -> u64 {
        self.at(self.passed_us())
    }

    fn read_probe(&mut self) -> u64 {
        let is_probe = |message: &OwnedMessage| {
            message.message_type == MessageType::Heartbeat && message.flags.requires_response
        };
        self.peer.read_where(is_probe).id
    }

    fn echo(&mut self, id: u64, stamp: u64) {
        self.peer.send(&Message { timestamp: Some(stamp), ..Message::heartbeat(id) });
    }

    fn echo_probes(&mut self, count: usize) {
        for _ in 0..count {
            let id = self.read_probe();
            self.echo(id, self.shows());
        }
    }

    /// Publishes a sample; when that was, by the true clock and by its own.
    fn publish(&mut self, id: u64) -> (u64, u64) {
        let true_us = self.passed_us();
        let mut sample = Message::notification(id, Address::literal("imu/sample"));
        sample.timestamp = Some(self.at(true_us));
        self.peer.send(&sample.with_payload(MessagePayload::Binary(&[1, 2, 3])));
        (true_us, self.at(true_us))
    }

    /// What the hub says of its clock.
    fn clock(&self, hub: &TestHub) -> ClockInfo {
        hub.peer("imu").clock.unwrap()
    }
}
