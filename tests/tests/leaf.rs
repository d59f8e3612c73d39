//! A leaf with its table against an accepting end: handshake, calls, descriptions, back-pressure, and a bad line.

use postcard_schema::Schema;
use postcard_schema::schema::owned::OwnedNamedType;
use serde::{Deserialize, Serialize};

use visorbus_core::auth::{Access, Key};
use visorbus_core::bus::{self, Describe, RowInfo, RowKind, RowPart};
use visorbus_core::dispatch::{Answers, Hears, Row};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_core::message::{Address, Message, MessagePayload};
use visorbus_core::peer::{DeviceKey, Event, Keys, NoKeys, Node};
use visorbus_core::serve::{Application, serve};
use visorbus_core::{Instant, IpcError, Link, Peer};
use visorbus_tests::faulty_link::{Faults, Random};
use visorbus_tests::memory_link::{MemoryLink, Unplugged};
use visorbus_tests::pair::{LEAF, Outcome, Pair, Setup};

#[test]
fn a_leaf_and_its_hub_prove_themselves_to_each_other_and_serve() {
    let mut pair = proven(Setup::default());
    assert_eq!(pair.events, [Event::Opened, Event::Ready]);
    assert_eq!(pair.hub.session.grant().unwrap().subject(), LEAF);
    assert_eq!(pair.leaf.session().grant().unwrap().subject(), "bus");
    assert_eq!(call::<SetRate>(&mut pair, &200), Ok(postcard_of(&200u16)));
    let info: Info = postcard::from_bytes(&call::<GetInfo>(&mut pair, &()).unwrap()).unwrap();
    assert_eq!(info, Info { model: "bmi270".into(), rate: 200 });
}

#[test]
fn a_hub_without_the_scope_is_refused_and_the_handler_does_not_run() {
    let mut pair = proven(Setup { hub_scopes: &["imu.read"], ..Setup::default() });
    let (kind, text) = call::<SetRate>(&mut pair, &200).unwrap_err();
    assert_eq!(kind, ErrorKind::Authorization);
    assert!(text.contains("'imu.control'"), "{text}");
    assert_eq!((pair.node.calls, pair.leaf.counters().refused), (0, 1));
    assert!(pair.is_ready());
}

#[test]
fn every_row_is_described_and_its_schema_is_that_of_its_type() {
    let mut pair = proven(Setup::default());
    let rows = pair.hub.session.remote().unwrap().rows;
    let expected: [(RowKind, &str, Access<'_>, OwnedNamedType, OwnedNamedType); 4] = [
        (RowKind::Endpoint, "imu/info", Access::Open, schema::<()>(), schema::<Info>()),
        (RowKind::Endpoint, "imu/set-rate", Access::Scope("imu.control"), schema::<u16>(), schema::<u16>()),
        (RowKind::Publishes, "imu/sample", Access::Permission, schema::<Reading>(), schema::<()>()),
        (RowKind::Hears, "imu/light", Access::Open, schema::<Light>(), schema::<()>()),
    ];
    assert_eq!(usize::from(rows), expected.len());
    for (row, (kind, address, access, request, response)) in expected.into_iter().enumerate() {
        let info = describe(&mut pair, row as u16, RowPart::Info).unwrap();
        let info: RowInfo<'_> = postcard::from_bytes(&info).unwrap();
        assert_eq!((info.kind, info.address, info.access), (kind, address, access));
        assert_ne!(info.request_hash, info.response_hash * u64::from(request != response), "{address}");
        for (part, expected) in [(RowPart::Request, request), (RowPart::Response, response)] {
            let bytes = describe(&mut pair, row as u16, part).unwrap();
            assert_eq!(postcard::from_bytes::<OwnedNamedType>(&bytes).unwrap(), expected, "{address}");
        }
    }
}

#[test]
fn a_row_that_is_not_there_is_not_described() {
    let mut pair = proven(Setup::default());
    for row in [4, 5, u16::MAX] {
        assert_eq!(describe(&mut pair, row, RowPart::Info).unwrap_err().0, ErrorKind::Message);
    }
    let nonsense = pair.call(bus::DESCRIBE, MessagePayload::Json("{}"));
    assert_eq!(nonsense.unwrap_err().0, ErrorKind::Message);
    assert_eq!(pair.leaf.counters().refused, 4);
}

#[test]
fn a_leaf_that_describes_nothing_announces_no_rows_and_serves_them() {
    struct Quiet;
    impl Node for Quiet {
        const ROWS: &'static [Row<Self>] = &[Row::endpoint::<SetRate>()];
        const DESCRIBES: bool = false;
    }
    impl Answers<SetRate> for Quiet {
        fn answer(&mut self, rate: u16) -> Result<u16, IpcError> {
            Ok(rate)
        }
    }
    let keys = DeviceKey::new(1, Key::new([9; 32]).derive(LEAF));
    let setup = Setup { hub_requires: true, leaf_requires: true, ..Setup::default() };
    let mut pair: Pair<Quiet, _, OUT> = Pair::new(setup, Quiet, keys);
    pair.pump();
    assert_eq!(pair.hub.session.remote().unwrap().rows, 0);
    let first = postcard_of(&Describe { row: 0, part: RowPart::Info });
    let refused = pair.call(bus::DESCRIBE, MessagePayload::Binary(&first));
    assert_eq!(refused.unwrap_err().0, ErrorKind::Message);
    let rate = postcard_of(&7u16);
    let payload = MessagePayload::Binary(&rate);
    assert_eq!(pair.call(SetRate::ADDRESS.as_str(), payload), Ok(rate.clone()));
}

#[test]
fn what_a_leaf_calls_is_told_with_its_hashes_and_served_to_nobody() {
    struct Caller;
    impl Node for Caller {
        const ROWS: &'static [Row<Self>] = &[Row::calls::<Lookup>(), Row::sends::<Lamp>()];
    }
    let keys = DeviceKey::new(1, Key::new([9; 32]).derive(LEAF));
    let setup = Setup { hub_requires: true, leaf_requires: true, ..Setup::default() };
    let mut pair: Pair<Caller, _, OUT> = Pair::new(setup, Caller, keys);
    pair.pump();
    let mut ask = |row, part| {
        let ask = postcard_of(&Describe { row, part });
        pair.call(bus::DESCRIBE, MessagePayload::Binary(&ask)).unwrap()
    };
    let told = ask(0, RowPart::Info);
    let told: RowInfo<'_> = postcard::from_bytes(&told).unwrap();
    assert_eq!((told.kind, told.address), (RowKind::Calls, "registry/lookup"));
    let (request, response) = (Lookup::SCHEMA.request.hash, Lookup::SCHEMA.response.hash);
    assert_eq!((told.request_hash, told.response_hash), (request, response));
    assert!(ask(0, RowPart::Request).is_empty(), "its owner describes it");
    let told = ask(1, RowPart::Info);
    let told: RowInfo<'_> = postcard::from_bytes(&told).unwrap();
    assert_eq!((told.kind, told.request_hash), (RowKind::Sends, Lamp::SCHEMA.request.hash));
    let blink = postcard_of(&Light::Blink { hz: 3 });
    let light = Message::notification(9, Lamp::ADDRESS).with_payload(MessagePayload::Binary(&blink));
    assert!(pair.hub.send(&light));
    pair.pump();
    assert_eq!(pair.leaf.counters().refused, 1, "a row that is only used serves nobody");
}

#[test]
fn what_is_published_arrives_once_the_session_is_ready() {
    let mut pair = new_pair(Setup { hub_requires: true, ..Setup::default() });
    let reading = Reading { at_us: 5, accel: [1, 2, 3] };
    assert_eq!(pair.leaf.publish::<Imu, Sample>(&reading), Ok(false));
    pair.pump();
    assert_eq!(pair.leaf.publish::<Imu, Sample>(&reading), Ok(true));
    pair.pump();
    assert_eq!(pair.hub.delivered.len(), 1);
    assert_eq!(pair.hub.delivered[0].destination, "imu/sample");
    assert_eq!(postcard::from_bytes::<Reading>(&pair.hub.delivered[0].payload).unwrap(), reading);
}

#[test]
fn what_is_heard_reaches_the_node() {
    let mut pair = proven(Setup::default());
    let payload = postcard_of(&Light::Blink { hz: 3 });
    let light = Message::notification(9, Lamp::ADDRESS).with_payload(MessagePayload::Binary(&payload));
    assert!(pair.hub.send(&light));
    pair.pump();
    assert_eq!(pair.node.lights, [Light::Blink { hz: 3 }]);
}

#[test]
fn a_leaf_whose_answers_nobody_reads_takes_no_more_and_loses_nothing() {
    let mut pair = proven(Setup { capacity: 3, heartbeat_ms: 0, ..Setup::default() });
    let request = Message::request(0, GetInfo::ADDRESS);
    let mut sent = 0;
    for _ in 0..100 {
        sent += u64::from(pair.hub.send(&Message { id: 1_000 + sent, ..request }));
        pair.leaf.poll(&mut pair.node, pair.clock.now()).unwrap();
    }
    assert_eq!((sent, pair.node.calls), (6, 3), "three answers wait, three requests too");
    pair.pump();
    assert_eq!(pair.node.calls, 6);
    let answered: Vec<u64> = pair.hub.delivered.iter().map(|reply| reply.id).collect();
    assert_eq!(answered, [1_000, 1_001, 1_002, 1_003, 1_004, 1_005]);
}

#[test]
fn the_nodes_own_request_is_answered_or_ends_with_the_session() {
    let mut pair = proven(Setup::default());
    let now = pair.clock.now();
    let id = pair.leaf.request::<Lookup>(&7, 500, now).unwrap().unwrap();
    pair.pump();
    let asked = pair.hub.delivered.pop().unwrap();
    assert_eq!((asked.id, asked.destination.as_str()), (id, "registry/lookup"));
    let payload = postcard_of(&70u32);
    let reply = Message::request(id, Lookup::ADDRESS).answer(visorbus_core::MessageType::Response);
    pair.hub.send(&reply.with_payload(MessagePayload::Binary(&payload)));
    pair.pump();
    assert_eq!(pair.node.replies, [(id, Ok(70))]);

    let unanswered = pair.leaf.request::<Lookup>(&8, 500, now).unwrap().unwrap();
    pair.run_ms(500);
    assert_eq!(pair.events.last(), Some(&Event::RequestTimedOut { id: unanswered }));

    let now = pair.clock.now();
    pair.leaf.request::<Lookup>(&9, 500, now).unwrap().unwrap();
    pair.restart_hub();
    pair.run_ms(1_000);
    assert_eq!(pair.events[3..], [Event::Closed, Event::Opened, Event::Ready]);
}

#[test]
fn a_hub_that_restarts_is_said_hello_to_at_once() {
    let mut pair = proven(Setup::default());
    for _ in 0..3 {
        let before = pair.clock.now();
        pair.restart_hub();
        pair.pump();
        assert!(pair.is_ready());
        assert_eq!(pair.clock.now(), before);
        assert!(call::<SetRate>(&mut pair, &100).is_ok());
    }
}

#[test]
fn a_dead_line_closes_the_session_and_a_mended_one_brings_it_back() {
    let mut pair = proven(Setup::default());
    pair.set_faults(Faults::DEAD);
    pair.run_ms(10_000);
    assert!(!pair.leaf.session().is_open() && !pair.hub.session.is_open());
    assert_eq!(pair.events.last(), Some(&Event::Closed));
    pair.set_faults(Faults::NONE);
    pair.run_ms(250);
    assert!(pair.is_ready());
}

#[test]
fn a_replugged_link_starts_anew() {
    let mut pair = proven(Setup::default());
    pair.leaf.link_mut().inner_mut().unplug();
    assert_eq!(pair.leaf.poll(&mut pair.node, pair.clock.now()), Err(Unplugged));
    pair.leaf.link_mut().inner_mut().plug();
    let now = pair.clock.now();
    pair.leaf.reset(now);
    pair.pump();
    assert!(pair.is_ready());
    assert_eq!(pair.hub.opened, 2);
}

#[test]
fn a_leaf_stays_ready_for_a_day() {
    let mut pair = proven(Setup::default());
    for _ in 0..24 * 4 {
        pair.run_ms(15 * 60_000);
        assert!(pair.is_ready());
        assert!(call::<SetRate>(&mut pair, &100).is_ok());
    }
    assert_eq!((pair.hub.opened, pair.leaf.counters().refused), (1, 0));
    assert!(pair.events[1..].iter().all(|event| *event == Event::Ready));
}

#[test]
fn a_leaf_without_keys_stays_connected_and_is_not_served() {
    let setup = Setup { hub_requires: true, ..Setup::default() };
    let mut pair: Pair<Imu, NoKeys, OUT> = Pair::new(setup, Imu::default(), NoKeys);
    pair.run_ms(60_000);
    assert!(pair.leaf.session().is_open() && !pair.is_ready());
    assert_eq!((pair.events.as_slice(), pair.hub.opened), (&[Event::Opened][..], 1));
    assert_eq!(call::<GetInfo>(&mut pair, &()).map(|_| ()), Ok(()), "an open row needs no proof");
    assert_eq!(call::<SetRate>(&mut pair, &1).unwrap_err().0, ErrorKind::Authentication);
}

#[test]
fn a_leaf_with_the_wrong_key_is_told_so_and_tries_again() {
    let setup = Setup { hub_requires: true, root: [8; 32], ..Setup::default() };
    let mut pair = new_pair(setup);
    pair.run_ms(5_500);
    assert_eq!(pair.events[..2], [Event::Opened, Event::Refused]);
    assert_eq!(pair.events.len(), 7, "once a second: {:?}", pair.events);
    assert!(pair.leaf.session().is_open() && pair.hub.session.grant().is_none());
}

#[test]
fn the_main_loop_serves_until_the_link_is_gone() {
    struct Counted(u32);
    impl Node for Counted {
        const ROWS: &'static [Row<Self>] = &[];
    }
    impl Application<MemoryLink, NoKeys, 128> for Counted {
        fn tick(
            &mut self,
            peer: &mut Peer<MemoryLink, NoKeys, 128>,
            event: Option<Event>,
            _now: Instant,
        ) -> Result<(), Unplugged> {
            assert_eq!(event, None);
            self.0 += 1;
            if self.0 == 10 {
                peer.link_mut().unplug();
            }
            Ok(())
        }
    }
    let (near, mut far) = MemoryLink::pair(16, 128);
    let config = visorbus_core::session::SessionConfig {
        role: visorbus_core::session::Role::Connecting,
        name: "counted".try_into().unwrap(),
        boot_id: 1,
        max_frame: 128,
        heartbeat_ms: 0,
        rows: 0,
        requires_authentication: false,
        lossy: false,
    };
    let mut node = Counted(0);
    assert_eq!(far.receive(), Ok(None));
    assert_eq!(
        serve(&mut Peer::new(config, near, NoKeys), &mut node, |_| Instant::default()),
        Err(Unplugged)
    );
    assert_eq!(node.0, 10);
}

/// An hour of a line that drops, doubles and reorders, with dead minutes and hub restarts in it. (That every call runs
/// once is the reliable lane's business; here a call may be lost and may run twice.)
#[test]
fn on_a_bad_line_the_session_always_comes_back() {
    for seed in 1..=6 {
        let mut pair = proven(Setup { seed, ..Setup::default() });
        let mut random = Random::new(seed + 100);
        let mut served = 0;
        for minute in 0..60 {
            let faults = Faults { drop: 50, duplicate: 30, reorder: 30, corrupt: 0 };
            pair.set_faults(if random.per_mille(100) { Faults::DEAD } else { faults });
            if random.per_mille(100) {
                pair.restart_hub();
            }
            busy_seconds(&mut pair, 50, &mut random);
            pair.set_faults(Faults::NONE);
            pair.run_ms(SETTLES_MS);
            assert!(pair.is_ready(), "seed {seed}, minute {minute}: {:?}", pair.hub.session);
            assert_eq!(
                call::<SetRate>(&mut pair, &100),
                Ok(postcard_of(&100u16)),
                "seed {seed}, minute {minute}"
            );
            served += 1;
            pair.hub.outcomes.clear();
            pair.hub.delivered.clear();
        }
        let counts = pair.leaf.link().counts();
        assert!(served == 60 && counts.dropped > 500 && counts.duplicated > 300 && counts.reordered > 300);
    }
}

/// A link never hands out a damaged frame; should one slip past its checksum all the same, nothing may break for good.
#[test]
fn damage_that_no_checksum_saw_neither_panics_nor_outlasts_the_next_restart() {
    for seed in 1..=6 {
        let mut pair = proven(Setup { seed, ..Setup::default() });
        let mut random = Random::new(seed + 200);
        pair.set_faults(Faults { drop: 20, duplicate: 20, reorder: 20, corrupt: 200 });
        busy_seconds(&mut pair, 3_600, &mut random);
        let counts = pair.leaf.link().counts();
        assert!(counts.corrupted > 5_000 && pair.hub.undecodable > 100);
        pair.set_faults(Faults::NONE);
        pair.restart_hub();
        let now = pair.clock.now();
        pair.leaf.reset(now);
        pair.run_ms(SETTLES_MS);
        assert!(pair.is_ready(), "seed {seed}: {:?}", pair.hub.session);
        assert!(call::<SetRate>(&mut pair, &100).is_ok());
    }
}

/// Samples ten times a second and calls twice, as a real leaf has them.
fn busy_seconds(pair: &mut Pair<Imu, DeviceKey, OUT>, seconds: u32, random: &mut Random) {
    for turn in 0..seconds * 10 {
        let reading = Reading { at_us: u64::from(turn), accel: [turn as i16, 0, 1_000] };
        let _ = pair.leaf.publish::<Imu, Sample>(&reading);
        if turn % 5 == 0 {
            let rate = postcard_of(&(random.below(1_000) as u16));
            let request = Message::request(0, SetRate::ADDRESS).with_payload(MessagePayload::Binary(&rate));
            let now = pair.clock.now();
            pair.hub.request(&request, 400, now);
            let _ = pair.leaf.request::<Lookup>(&turn, 300, now);
        }
        pair.run_ms(100);
    }
}

fn new_pair(setup: Setup) -> Pair<Imu, DeviceKey, OUT> {
    Pair::new(setup, Imu::default(), DeviceKey::new(1, Key::new([9; 32]).derive(LEAF)))
}

/// Both ends require a token of the other, and have had it.
fn proven(setup: Setup) -> Pair<Imu, DeviceKey, OUT> {
    let mut pair = new_pair(Setup { hub_requires: true, leaf_requires: true, ..setup });
    pair.pump();
    assert!(pair.is_ready());
    pair
}

fn call<E: Endpoint>(pair: &mut Pair<Imu, impl Keys, OUT>, request: &E::Request) -> Outcome {
    pair.call(E::ADDRESS.as_str(), MessagePayload::Binary(&postcard_of(request)))
}

fn describe(pair: &mut Pair<Imu, DeviceKey, OUT>, row: u16, part: RowPart) -> Outcome {
    pair.call(bus::DESCRIBE, MessagePayload::Binary(&postcard_of(&Describe { row, part })))
}

fn schema<T: Schema>() -> OwnedNamedType {
    T::SCHEMA.into()
}

fn postcard_of<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

#[derive(Default)]
struct Imu {
    calls: u32,
    rate: u16,
    lights: Vec<Light>,
    replies: Vec<(u64, Result<u32, ErrorKind>)>,
}

impl Node for Imu {
    const ROWS: &'static [Row<Self>] = &[
        Row::endpoint::<GetInfo>(),
        Row::endpoint::<SetRate>(),
        Row::publishes::<Sample>(),
        Row::hears::<Lamp>(),
    ];

    fn handle_reply(&mut self, id: u64, outcome: Result<MessagePayload<'_>, IpcError<&str>>) {
        let parsed = |payload: MessagePayload<'_>| payload.parse().map_err(|error| error.kind());
        self.replies.push((id, outcome.map_err(|error| error.kind()).and_then(parsed)));
    }
}

impl Answers<GetInfo> for Imu {
    fn answer(&mut self, (): ()) -> Result<Info, IpcError> {
        self.calls += 1;
        Ok(Info { model: "bmi270".into(), rate: self.rate })
    }
}

impl Answers<SetRate> for Imu {
    fn answer(&mut self, rate: u16) -> Result<u16, IpcError> {
        self.calls += 1;
        self.rate = rate;
        Ok(rate)
    }
}

impl Hears<Lamp> for Imu {
    fn hear(&mut self, light: Light) -> Result<(), IpcError> {
        self.lights.push(light);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
struct Info {
    model: String,
    rate: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
struct Reading {
    at_us: u64,
    accel: [i16; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
enum Light {
    Off,
    On,
    Blink { hz: u8 },
}

struct GetInfo;
impl Endpoint for GetInfo {
    type Request = ();
    type Response = Info;
    const ADDRESS: Address<'static> = Address::literal("imu/info");
    const ACCESS: Access<'static> = Access::Open;
}

struct SetRate;
impl Endpoint for SetRate {
    type Request = u16;
    type Response = u16;
    const ADDRESS: Address<'static> = Address::literal("imu/set-rate");
    const ACCESS: Access<'static> = Access::Scope("imu.control");
}

struct Lookup;
impl Endpoint for Lookup {
    type Request = u32;
    type Response = u32;
    const ADDRESS: Address<'static> = Address::literal("registry/lookup");
    const ACCESS: Access<'static> = Access::Open;
}

struct Sample;
impl Topic for Sample {
    type Message = Reading;
    const ADDRESS: Address<'static> = Address::literal("imu/sample");
    const ACCESS: Access<'static> = Access::Permission;
}

struct Lamp;
impl Topic for Lamp {
    type Message = Light;
    const ADDRESS: Address<'static> = Address::literal("imu/light");
    const ACCESS: Access<'static> = Access::Open;
}

const OUT: usize = 256;
/// Three silent heartbeats, a hello and a token, with room to spare.
const SETTLES_MS: u32 = 6_000;
