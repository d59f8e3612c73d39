//! A leaf with a table on a line that loses frames, against the real hub.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postcard_schema::Schema;
use postcard_schema::schema::owned::OwnedNamedType;
use serde::{Deserialize, Serialize};

use visorbus_core::auth::{Access, Key};
use visorbus_core::bus::{self, SlowConsumer};
use visorbus_core::dispatch::{Answers, Row};
use visorbus_core::error::ErrorKind;
use visorbus_core::frame::length::{Split, prefix, split};
use visorbus_core::message::typed::{Endpoint, Topic};
use visorbus_core::message::{Address, MessagePayload};
use visorbus_core::peer::{DeviceKey, Keys, NoKeys, Node};
use visorbus_core::session::{Role, SessionConfig};
use visorbus_core::{Instant, IpcError, Link, Peer};
use visorbus_hub::info::{SchemaInfo, ServiceChange, ServiceInfo};
use visorbus_hub::{HubLink, Limits, LinkOptions, Origin, OwnedPayload, ReceiveBuffer};
use visorbus_tests::raw_peer::{RawPeer, expect_error};
use visorbus_unix::FramedStream;

use crate::harness::{Client, ROOT, TestHub, request};

#[test]
fn what_a_leaf_serves_is_listed_with_its_scopes_and_its_schemas_decode() {
    let hub = hub();
    let mut caller = hub.connect("caller", &["*"]);
    let _leaf = Leaf::start(&hub, device_key);
    await_leaf(&mut caller);
    let services: Vec<ServiceInfo> =
        caller.request(bus::SERVICES, MessagePayload::Empty).unwrap().payload.parse().unwrap();
    let imu = services.iter().find(|service| service.component == "imu").unwrap();
    assert_eq!((imu.peer.as_str(), imu.transport.as_str()), ("imu", "serial /dev/test"));
    let rows: Vec<[&str; 3]> =
        imu.addresses.iter().map(|row| [&*row.address, &*row.kind, &*row.access]).collect();
    assert_eq!(
        rows,
        [
            ["imu/info", "endpoint", "permission"],
            ["imu/set-rate", "endpoint", "scope imu.control"],
            ["imu/sample", "publishes", "permission"],
        ]
    );
    let rate = schema_of(&mut caller, "imu/set-rate");
    assert_eq!(read(&rate.request), u16::SCHEMA.into());
    let sample = schema_of(&mut caller, "imu/sample");
    assert_eq!(read(&sample.request), Reading::SCHEMA.into());
}

#[test]
fn the_types_of_an_address_are_told_to_whoever_may_use_it_and_to_nobody_else() {
    let hub = hub();
    let mut caller = hub.connect("caller", &["*"]);
    let _leaf = Leaf::start(&hub, device_key);
    await_leaf(&mut caller);
    let mut tuner = hub.connect("tuner", &["imu.control"]);
    assert_eq!(read(&schema_of(&mut tuner, "imu/set-rate").request), u16::SCHEMA.into());
    expect_error(tuner.ask_text(bus::SCHEMA, "imu/sample"), ErrorKind::Authorization, "'request'");
    expect_error(tuner.ask_text(bus::SCHEMA, "IMU"), ErrorKind::Authorization, "'request'");
    let mut watcher = hub.connect("watcher", &["subscribe:imu/*"]);
    assert_eq!(read(&schema_of(&mut watcher, "imu/sample").request), Reading::SCHEMA.into());
}

#[test]
fn a_call_reaches_the_leaf_and_one_without_the_scope_is_refused_in_the_hub() {
    let hub = hub();
    let mut innocent = hub.bystander();
    let mut caller = hub.connect("caller", &["*"]);
    let leaf = Leaf::start(&hub, device_key);
    await_leaf(&mut caller);
    assert_eq!(set_rate(&mut caller, 200), Ok(200));
    assert_eq!(leaf.calls(), 1);
    let mut poor = hub.connect("poor", &["request:imu/*", "subscribe:**"]);
    expect_error(set_rate(&mut poor, 1), ErrorKind::Authorization, "'imu.control'");
    assert!(poor.request("imu/info", MessagePayload::Empty).is_ok());
    let mut poorer = hub.connect("poorer", &["imu.control"]);
    let outcome = poorer.request("imu/info", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authorization, "no permission");
    assert_eq!(leaf.calls(), 2, "what was refused did not run");
    innocent.is_served_alone(&hub);
}

#[test]
fn what_a_leaf_publishes_reaches_its_subscribers() {
    let hub = hub();
    let mut watcher = hub.connect("watcher", &["subscribe:imu/*", "subscribe:bus/**"]);
    watcher.subscribe("imu/*", SlowConsumer::Latest).unwrap();
    let leaf = Leaf::start(&hub, device_key);
    leaf.control.publish.store(true, Ordering::SeqCst);
    let sample = watcher.read_topic("imu/sample");
    assert_eq!(sample.payload.parse::<Reading>().unwrap().gyro, [1, -2, 3]);
}

#[test]
fn a_leaf_that_restarts_fails_its_pending_calls_at_once_and_is_back() {
    let hub = hub();
    let mut caller = hub.connect("caller", &["*"]);
    let leaf = Leaf::start(&hub, device_key);
    await_leaf(&mut caller);
    caller.subscribe(bus::SERVICES_CHANGED, SlowConsumer::Disconnect).unwrap();
    for boot in 2..6 {
        leaf.control.frozen.store(true, Ordering::SeqCst);
        let ids: Vec<u64> = (0..3)
            .map(|_| {
                let id = caller.take_id();
                let mut call = request(id, "imu/info");
                call.flags.timeout_ms = Some(600_000);
                caller.send(&call);
                id
            })
            .collect();
        caller.read_so_far();
        leaf.control.boot_id.store(boot, Ordering::SeqCst);
        leaf.control.frozen.store(false, Ordering::SeqCst);
        for id in ids {
            expect_error(caller.answer_to(id), ErrorKind::Connection, "imu is gone (it started again)");
        }
        assert_eq!(change(&mut caller), ("imu".into(), false));
        assert_eq!(change(&mut caller), ("imu".into(), true));
        assert_eq!(set_rate(&mut caller, 100 + boot as u16), Ok(100 + boot as u16));
        assert_eq!(hub.peer("imu").sessions, boot);
    }
}

#[test]
fn a_leaf_that_falls_silent_is_gone_and_back_when_it_is_heard_again() {
    let hub = hub();
    let mut caller = hub.connect("caller", &["*"]);
    let leaf = Leaf::start(&hub, device_key);
    await_leaf(&mut caller);
    caller.subscribe(bus::SERVICES_CHANGED, SlowConsumer::Disconnect).unwrap();
    leaf.control.frozen.store(true, Ordering::SeqCst);
    let id = caller.take_id();
    let mut call = request(id, "imu/info");
    call.flags.timeout_ms = Some(600_000);
    caller.send(&call);
    expect_error(caller.answer_to(id), ErrorKind::Connection, "silent for three heartbeats");
    assert_eq!(change(&mut caller), ("imu".into(), false));
    leaf.control.frozen.store(false, Ordering::SeqCst);
    assert_eq!(change(&mut caller), ("imu".into(), true));
    assert_eq!(set_rate(&mut caller, 7), Ok(7));
}

#[test]
fn a_leaf_with_another_key_or_anothers_name_is_not_let_in_and_sees_no_token() {
    let hub = hub();
    let mut innocent = hub.bystander();
    let leaf = Leaf::start(&hub, || DeviceKey::new(1, Key::new([8; 32]).derive("imu")));
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "imu?" && peer.refused > 0));
    assert_eq!(leaf.control.proven_hubs.load(Ordering::SeqCst), 0);
    let mut caller = hub.connect("caller", &["*"]);
    expect_error(
        caller.request("imu/info", MessagePayload::Empty),
        ErrorKind::Message,
        "nobody serves 'imu'",
    );
    innocent.is_served_alone(&hub);
    drop(leaf);
    // The name waits for its rightful owner.
    let _leaf = Leaf::start(&hub, device_key);
    await_leaf(&mut caller);
}

#[test]
fn a_leaf_without_keys_is_believed_the_one_name_of_its_line_and_no_other() {
    let hub = hub();
    let mut caller = hub.connect("caller", &["*"]);
    let _leaf = Leaf::start_on(&hub, || NoKeys, Some("imu"));
    await_leaf(&mut caller);
    assert!(hub.peer("imu").authenticated);
    // It checks nobody either: what needs a permission it refuses itself.
    let outcome = caller.request("imu/info", MessagePayload::Empty);
    expect_error(outcome, ErrorKind::Authentication, "not authenticated");
    let _other = Leaf::start_on(&hub, || NoKeys, Some("lamp"));
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "imu?"));
    assert!(hub.peer("imu").authenticated);
}

#[test]
fn a_line_whose_other_end_is_gone_is_forgotten() {
    let hub = hub();
    let mut caller = hub.connect("caller", &["*"]);
    let leaf = Leaf::start(&hub, device_key);
    await_leaf(&mut caller);
    drop(leaf);
    hub.wait_until(|peers| peers.len() == 1);
    expect_error(
        caller.request("imu/info", MessagePayload::Empty),
        ErrorKind::Message,
        "nobody serves 'imu'",
    );
}

/// Heartbeats are short, so that the tests of silence are.
fn hub() -> TestHub {
    TestHub::with_limits(Limits { line_heartbeat_ms: 200, ..Limits::default() })
}

fn device_key() -> DeviceKey {
    DeviceKey::new(1, Key::new(ROOT).derive("imu"))
}

/// Waits until the hub has listed the leaf.
fn await_leaf(watcher: &mut RawPeer) {
    watcher.subscribe(bus::SERVICES_CHANGED, SlowConsumer::Disconnect).unwrap();
    let services = watcher.request(bus::SERVICES, MessagePayload::Empty).unwrap();
    let services: Vec<ServiceInfo> = services.payload.parse().unwrap();
    let known = services.iter().any(|service| service.component == "imu" && service.addresses.len() == 3);
    if !known {
        while change(watcher) != ("imu".into(), true) {}
    }
    watcher.ask_text(bus::UNSUBSCRIBE, bus::SERVICES_CHANGED).unwrap();
    watcher.read_so_far();
}

fn change(watcher: &mut RawPeer) -> (String, bool) {
    loop {
        let change: ServiceChange = watcher.read_topic(bus::SERVICES_CHANGED).payload.parse().unwrap();
        if change.component == "imu" {
            return (change.component, change.up);
        }
    }
}

fn set_rate(caller: &mut RawPeer, rate: u16) -> Result<u16, visorbus_hub::Error> {
    let payload = OwnedPayload::postcard(&rate)?;
    caller.request("imu/set-rate", payload.borrow())?.payload.parse()
}

/// The schemas of an address; the hub asks for them once the leaf is listed.
fn schema_of(caller: &mut RawPeer, address: &str) -> SchemaInfo {
    for _ in 0..10_000 {
        let info: SchemaInfo = caller.ask_text(bus::SCHEMA, address).unwrap().payload.parse().unwrap();
        if !info.request.is_empty() && !info.response.is_empty() {
            return info;
        }
        thread::yield_now();
    }
    panic!("the hub never learns the schemas of {address}");
}

fn read(bytes: &[u8]) -> OwnedNamedType {
    postcard::from_bytes(bytes).unwrap()
}

/// A leaf that is served on a thread of its own until it is dropped.
struct Leaf {
    control: Arc<Control>,
    line: UnixStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Control {
    /// It does nothing, as in a debugger.
    frozen: AtomicBool,
    publish: AtomicBool,
    has_keys: bool,
    /// Raised: it restarts, and what was in its memory is lost.
    boot_id: AtomicU64,
    calls: AtomicUsize,
    proven_hubs: AtomicUsize,
}

impl Leaf {
    fn start<K: Keys + 'static>(hub: &TestHub, keys: fn() -> K) -> Self {
        Self::start_on(hub, keys, None)
    }

    fn start_on<K: Keys + 'static>(hub: &TestHub, keys: fn() -> K, unauthenticated: Option<&str>) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        let options = LinkOptions {
            lossy: true,
            lane: false,
            max_frame: 256,
            unauthenticated: unauthenticated.map(str::to_owned),
            ..LinkOptions::default()
        };
        hub.handle.attach(Box::new(Line { inner: FramedStream::new(far).unwrap(), options })).unwrap();
        let control = Arc::new(Control {
            has_keys: unauthenticated.is_none(),
            boot_id: AtomicU64::new(1),
            ..Control::default()
        });
        let (line, shared) = (near.try_clone().unwrap(), Arc::clone(&control));
        let thread = thread::spawn(move || serve(&near, keys, &shared));
        Self { control, line, thread: Some(thread) }
    }

    fn calls(&self) -> usize {
        self.control.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.control.frozen.store(false, Ordering::SeqCst);
        let _ = self.line.shutdown(std::net::Shutdown::Both);
        let ended = self.thread.take().expect("it runs").join();
        assert!(thread::panicking() || ended.is_ok());
    }
}

fn serve<K: Keys>(line: &UnixStream, keys: fn() -> K, control: &Arc<Control>) {
    let start = std::time::Instant::now();
    let now = || Instant::from_micros(start.elapsed().as_micros() as u64 + 1);
    let mut boot_id = control.boot_id.load(Ordering::SeqCst);
    let mut node = Imu(Arc::clone(control));
    let mut peer = Peer::<_, _, 256>::new(config(boot_id, control.has_keys), SocketLink::new(line), keys());
    loop {
        if control.frozen.load(Ordering::SeqCst) {
            thread::yield_now();
            continue;
        }
        let wanted = control.boot_id.load(Ordering::SeqCst);
        if wanted != boot_id {
            boot_id = wanted;
            if peer.link_mut().clear().is_err() {
                return;
            }
            peer = Peer::new(config(boot_id, control.has_keys), SocketLink::new(line), keys());
        }
        match peer.poll(&mut node, now()) {
            Ok(Some(_)) => {}
            Ok(None) => {
                if peer.session().grant().is_some() {
                    control.proven_hubs.store(1, Ordering::SeqCst);
                }
                if control.publish.load(Ordering::SeqCst) {
                    let _ = peer.publish::<Imu, Sample>(&Reading { at_us: 1, gyro: [1, -2, 3] });
                }
                if peer.link_mut().wait(Duration::from_millis(2)).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn config(boot_id: u64, requires_authentication: bool) -> SessionConfig {
    SessionConfig {
        role: Role::Connecting,
        name: "imu".try_into().unwrap(),
        boot_id,
        max_frame: 256,
        heartbeat_ms: 200,
        rows: Imu::ROWS.len() as u16,
        requires_authentication,
        lossy: true,
    }
}

/// A socket under a leaf: whole frames behind their length.
struct SocketLink {
    stream: UnixStream,
    bytes: Vec<u8>,
    frame: Vec<u8>,
}

impl SocketLink {
    fn new(line: &UnixStream) -> Self {
        let stream = line.try_clone().expect("a descriptor is free");
        Self { stream, bytes: Vec::new(), frame: Vec::new() }
    }

    /// Waits until something arrives, at most for `time`.
    fn wait(&mut self, time: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(time))?;
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.bytes.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As after a reset: what had arrived is gone.
    fn clear(&mut self) -> io::Result<()> {
        while {
            self.bytes.clear();
            self.wait(Duration::from_millis(1))?;
            !self.bytes.is_empty()
        } {}
        Ok(())
    }
}

impl Link for SocketLink {
    type Error = io::Error;

    fn room(&mut self) -> usize {
        256
    }

    fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        let Ok(Split::Frame { frame, consumed }) = split(&self.bytes, usize::MAX) else { return Ok(None) };
        self.frame = frame.to_vec();
        self.bytes.drain(..consumed);
        Ok(Some(&self.frame))
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<bool> {
        self.stream.write_all(&[&prefix(frame.len())[..], frame].concat()).map(|()| true)
    }

    fn flush(&mut self, _now: Instant) -> io::Result<bool> {
        Ok(true)
    }

    fn max_frame(&self) -> usize {
        256
    }
}

/// A socket that says of itself that it loses frames.
pub(crate) struct Line {
    pub(crate) inner: FramedStream,
    pub(crate) options: LinkOptions,
}

impl HubLink for Line {
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inner.fd()
    }
    fn receive(&mut self, into: &mut ReceiveBuffer) -> io::Result<()> {
        self.inner.receive(into)
    }
    fn keep(&mut self, rest: &[u8]) {
        self.inner.keep(rest);
    }
    fn has_room(&mut self, head: u8, len: usize) -> bool {
        self.inner.has_room(head, len)
    }
    fn send(&mut self, head: &[u8], payload: &[u8], at_once: bool) -> io::Result<()> {
        self.inner.send(head, payload, at_once)
    }
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        self.inner.flush(now)
    }
    fn origin(&self) -> Origin {
        Origin::Serial { path: "/dev/test".to_owned() }
    }
    fn options(&self) -> LinkOptions {
        self.options.clone()
    }
}

struct Imu(Arc<Control>);

impl Node for Imu {
    const ROWS: &'static [Row<Self>] =
        &[Row::endpoint::<GetInfo>(), Row::endpoint::<SetRate>(), Row::publishes::<Sample>()];
}

impl Answers<GetInfo> for Imu {
    fn answer(&mut self, (): ()) -> Result<u32, IpcError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Ok(42)
    }
}

impl Answers<SetRate> for Imu {
    fn answer(&mut self, rate: u16) -> Result<u16, IpcError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Ok(rate)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
struct Reading {
    at_us: u64,
    gyro: [i16; 3],
}

struct GetInfo;
impl Endpoint for GetInfo {
    type Request = ();
    type Response = u32;
    const ADDRESS: Address<'static> = Address::literal("imu/info");
    const ACCESS: Access<'static> = Access::Permission;
}

struct SetRate;
impl Endpoint for SetRate {
    type Request = u16;
    type Response = u16;
    const ADDRESS: Address<'static> = Address::literal("imu/set-rate");
    const ACCESS: Access<'static> = Access::Scope("imu.control");
}

struct Sample;
impl Topic for Sample {
    type Message = Reading;
    const ADDRESS: Address<'static> = Address::literal("imu/sample");
    const ACCESS: Access<'static> = Access::Permission;
}
