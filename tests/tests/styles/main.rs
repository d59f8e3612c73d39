//! One node in every run style: a blocking loop, turns by themselves, and futures over asynchronous UARTs and buses. The
//! same scenario gives the same messages, whatever the hardware does in between.

mod line;
mod serial;
mod spi;
mod task;

use visorbus_core::auth::Key;
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_core::peer::{DeviceKey, Peer};
use visorbus_core::{Instant, Link, Message};
use visorbus_imu::messages::{GetInfo, Info, RATES_HZ, Report, Sample, Samples, SelfTest, SetRate};
use visorbus_imu::motion::sample_at;
use visorbus_imu::{ImuBoard, MAX_FRAME, session_config};
use visorbus_tests::clock::FakeClock;
use visorbus_tests::pair::{Acceptor, Delivered, Outcome, Setup};

/// A leaf that runs in whatever style, and what moves between it and the hub's link.
pub(crate) trait Leaf<L> {
    /// Runs until it has nothing to do at this moment; whether anything happened.
    fn run(&mut self, hub: &mut L) -> bool;

    /// When it next has something to do.
    fn due(&self) -> Option<Instant>;
}

/// A leaf and the hub on one clock.
pub(crate) struct Stage<F, L> {
    pub(crate) clock: FakeClock,
    pub(crate) hub: Acceptor<L>,
    pub(crate) leaf: F,
}

impl<F: Leaf<L>, L: Link> Stage<F, L> {
    pub(crate) fn new(clock: FakeClock, link: L, leaf: F) -> Self {
        Self { hub: Acceptor::new(SETUP, link, clock.now()), clock, leaf }
    }

    /// Lets time pass until `done`, for at most ten seconds; whether it came to that.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Acceptor<L>) -> bool) -> bool {
        let end = self.clock.now().plus_millis(10_000);
        loop {
            self.settle();
            let now = self.clock.now();
            if done(&self.hub) || now >= end {
                return now < end;
            }
            let due =
                [self.leaf.due(), self.hub.session.poll_timeout(), self.hub.link.poll_timeout(), Some(end)];
            let next = due.into_iter().flatten().min().unwrap_or(end);
            self.clock.advance_to(next.max(Instant::from_micros(now.as_micros() + 10)));
        }
    }

    pub(crate) fn run_ms(&mut self, millis: u32) {
        let end = self.clock.now().plus_millis(millis);
        let clock = self.clock.clone();
        assert!(self.run_until(|_| clock.now() >= end));
    }

    /// Turns both ends until nothing moves at this moment.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let now = self.clock.now();
            self.hub.turn(now);
            let _ = self.hub.link.flush(now);
            if !self.leaf.run(&mut self.hub.link) {
                return;
            }
        }
        panic!("the two ends never come to rest");
    }

    pub(crate) fn wait_for_service(&mut self) {
        assert!(self.run_until(|hub| hub.session.grant().is_some() && hub.session.is_ready()), "no session");
        self.run_ms(20);
    }

    pub(crate) fn call<E: Endpoint>(&mut self, request: &E::Request) -> Outcome {
        let mut payload = [0; 64];
        let payload = postcard::to_slice(request, &mut payload).unwrap();
        let request = Message::request(0, E::ADDRESS).with_payload(MessagePayload::Binary(payload));
        let id = self.hub.request(&request, 5_000, self.clock.now()).expect("the hub's end has room");
        assert!(self.run_until(|hub| hub.outcomes.contains_key(&id)));
        self.hub.outcomes.remove(&id).unwrap()
    }

    pub(crate) fn call_ok<E: Endpoint>(&mut self, request: &E::Request) -> E::Response {
        postcard::from_bytes(&self.call::<E>(request).unwrap()).unwrap()
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        let samples =
            self.hub.delivered.iter().filter(|message| message.destination == Samples::ADDRESS.as_str());
        samples.map(|message| postcard::from_bytes(&message.payload).unwrap()).collect()
    }
}

/// What a hub sees of a leaf.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    delivered: Vec<Delivered>,
    info: Info,
    refused: Outcome,
    report: Report,
}

impl Seen {
    /// Drops the first sample of the one that saw it when the other did not.
    fn begin_with(&mut self, other: &mut Self) {
        if self.delivered.get(1) == other.delivered.first() {
            self.delivered.remove(0);
        } else if other.delivered.get(1) == self.delivered.first() {
            other.delivered.remove(0);
        }
    }

    /// Without what a few microseconds' difference may change: the time of an answer, the last sample before it.
    fn but_for_microseconds(mut self) -> Self {
        self.delivered.truncate(1_000);
        (self.info.uptime_us, self.info.samples_sent) = (0, 0);
        self
    }
}

/// Everything that the node does.
pub(crate) fn scenario<F: Leaf<L>, L: Link>(stage: &mut Stage<F, L>) -> Seen {
    stage.wait_for_service();
    assert_eq!(stage.call_ok::<SetRate>(&250), 250);
    stage.hub.delivered.clear();
    stage.run_ms(1_000);
    let samples = stage.samples();
    assert!((248..=253).contains(&samples.len()), "{} samples in a second", samples.len());
    for pair in samples.windows(2) {
        assert_eq!(pair[1].timestamp_us - pair[0].timestamp_us, 4_000);
    }
    for sample in samples {
        assert_eq!((sample.accel, sample.gyro), sample_at(sample.timestamp_us));
    }
    let refused = stage.call::<SetRate>(&(RATES_HZ.end() + 1));
    assert_eq!(refused.as_ref().unwrap_err().0, ErrorKind::Message);
    let report = stage.call_ok::<SelfTest>(&());
    assert!(report.passed, "{report:?}");
    let info = stage.call_ok::<GetInfo>(&());
    assert_eq!((info.rate_hz, info.samples_dropped), (250, 0));
    // Heartbeats and their absence: nothing ends by itself.
    stage.run_ms(5_000);
    assert_eq!(stage.hub.opened, 1);
    Seen { delivered: stage.hub.delivered.clone(), info, refused, report }
}

/// The node's end on `link`.
pub(crate) fn peer<L: Link>(link: L) -> Peer<L, DeviceKey, MAX_FRAME> {
    let key = Key::new(SETUP.root).derive(visorbus_imu::NAME);
    Peer::new(session_config(7, true), link, DeviceKey::new(1, key))
}

/// The test as a board.
pub(crate) struct Bench(pub(crate) FakeClock);

impl ImuBoard for Bench {
    const NAME: &'static str = "bench";

    fn now_us(&self) -> u64 {
        self.0.now().as_micros()
    }
}

/// A clock that does not start at its zero.
pub(crate) fn clock() -> FakeClock {
    let clock = FakeClock::new();
    clock.advance_ms(5_000);
    clock
}

const SETUP: Setup = Setup {
    hub_requires: true,
    leaf_requires: true,
    lossy: true,
    heartbeat_ms: 1_000,
    capacity: 16,
    seed: 1,
    hub_boot_id: 1_000,
    root: [9; 32],
    hub_scopes: &["request:imu/*", "imu.control"],
};
