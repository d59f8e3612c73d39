//! The hardware of a hub: boards on real pseudo-terminals, and the machine's devices in a prepared tree.

#[allow(dead_code, reason = "other test programs use the rest of it")]
mod line;
#[allow(dead_code, reason = "other test programs use the rest of it")]
#[path = "line/node.rs"]
mod node;

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use dbus::Message;
use dbus::arg::{PropMap, Variant};
use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_dbus::{BusAddress, DBusConfig, DBusListener, HardwareInterface};
use visorbus_hub::{OwnedMessage, OwnedPayload, Value};
use visorbus_imu::device_key;
use visorbus_services::Listening;
use visorbus_services::hardware::messages::{
    ChangedDevice, CommandDevice, CommandRequest, GetDevice, ListDevices, RemovedDevice,
};
use visorbus_services::hardware::{
    Device, DeviceChange, HardwareConfig, HardwareManager, HardwareMessageHandler,
};
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::pty::Pty;
use visorbus_unix::{Delivery, Subscription};

use line::{AT_ONCE, TestHub};
use node::Node;

/// A hub whose hardware is looked after, without devices of a machine.
struct World {
    hub: TestHub,
    manager: HardwareManager,
    changes: Receiver<DeviceChange>,
    _listening: Listening,
    sysfs: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::looking_every(Duration::from_millis(100))
    }

    /// One that looks at everything this often, and otherwise relies on what it is told.
    fn looking_every(scan_interval: Duration) -> Self {
        let (hub, sysfs) = (TestHub::start(), tempfile::tempdir().unwrap());
        let config = HardwareConfig {
            sysfs_root: sysfs.path().to_owned(),
            kernel_events: false,
            scan_interval,
            command_timeout: PATIENCE,
            ..HardwareConfig::default()
        };
        let manager = HardwareManager::new(config, hub.handle.clone()).unwrap();
        let (told, changes) = channel();
        let listening = manager.on_change(move |change| drop(told.send(change.clone())));
        let handler = HardwareMessageHandler::new(manager.clone());
        hub.handle.register_handler(Box::new(handler)).unwrap();
        Self { hub, manager, changes, _listening: listening, sysfs }
    }

    fn plug(&self, boot_id: u64) -> (Pty, Node) {
        let pty = Pty::open().unwrap();
        pty.plug(&self.hub.line("imu-line")).unwrap();
        let node = Node::sensor(&pty, boot_id, device_key());
        (pty, node)
    }

    /// The sensor on its line, with its commands and what it tells of itself.
    fn sensor(&self) -> (Pty, Node) {
        let plugged = self.plug(7);
        self.hub.attach("imu-line", ",unkeyed=imu");
        self.wait(|change| {
            change.device().property("firmware").is_some() && change.device().command("set-rate").is_some()
        });
        plugged
    }

    fn wait(&self, is_it: impl Fn(&DeviceChange) -> bool) -> DeviceChange {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let change = self.changes.recv_timeout(left).expect("waited in vain");
            if is_it(&change) {
                return change;
            }
        }
    }

    /// There is a battery of this status from one moment to the next, as with the kernel.
    fn battery(&self, status: &str) {
        let class = self.sysfs.path().join("class/power_supply");
        let (folder, prepared) = (class.join("BAT0"), self.sysfs.path().join("prepared"));
        fs::create_dir(&prepared).unwrap();
        fs::write(prepared.join("type"), "Battery").unwrap();
        fs::write(prepared.join("status"), status).unwrap();
        match folder.exists() {
            true => {
                fs::rename(prepared.join("status"), folder.join("status")).unwrap();
                fs::remove_dir_all(prepared).unwrap();
            }
            false => {
                fs::create_dir_all(class).unwrap();
                fs::rename(prepared, folder).unwrap();
            }
        }
    }
}

fn command(device: &str, command: &str, argument: Value) -> CommandRequest {
    CommandRequest { device: device.to_owned(), command: command.to_owned(), argument }
}

fn next<T: serde::de::DeserializeOwned>(subscription: &Subscription) -> T {
    match subscription.recv(Some(PATIENCE)) {
        Ok(Some(Delivery::Message(message))) => message.payload.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn value<'d>(device: &'d Device, name: &str) -> &'d Value {
    &device.property(name).unwrap_or_else(|| panic!("no {name} in {device:?}")).value
}

#[test]
fn a_board_is_listed_with_what_the_hub_knows_and_what_it_tells_of_itself() {
    let world = World::new();
    let (_pty, _node) = world.sensor();
    let viewer = world.hub.client("viewer", &["request:hardware/list", "request:hardware/device"]);
    let listed = viewer.call::<ListDevices>(&None, None).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id.as_str(), listed[0].state.as_str()), ("board/imu", "ready"));
    assert!(viewer.call::<ListDevices>(&Some("input".to_owned()), None).unwrap().is_empty());
    let board = viewer.call::<GetDevice>(&"board/imu".to_owned(), None).unwrap();
    assert_eq!(value(&board, "transport"), &Value::Text("serial".to_owned()));
    assert_eq!(value(&board, "boot-id"), &Value::Text("0000000000000007".to_owned()));
    assert_eq!(value(&board, "firmware"), &Value::Text(env!("CARGO_PKG_VERSION").to_owned()));
    assert_eq!(
        (value(&board, "rate"), board.property("rate").unwrap().unit.as_str()),
        (&Value::Integer(100), "Hz")
    );
    let commands: Vec<&str> = board.commands.iter().map(|command| command.name.as_str()).collect();
    assert_eq!(commands, ["info", "set-rate", "self-test"]);
    assert_eq!(board.command("set-rate").unwrap().access, "scope imu.control");
    for form in [OwnedPayload::Empty, OwnedPayload::String("board".to_owned())] {
        let answer = viewer.send_request(OwnedMessage::request("hardware/list", form.clone()), None).unwrap();
        assert!(!matches!(answer.payload, OwnedPayload::Empty), "{form:?}");
    }
}

#[test]
fn a_command_reaches_its_board_and_what_it_changed_is_told() {
    let world = World::new();
    let (_pty, _node) = world.sensor();
    let operator = world.hub.client("operator", &["request:**", "subscribe:hardware/*", "imu.control"]);
    let changed = operator.subscribe("hardware/changed", SlowConsumer::default()).unwrap();
    let set_rate = command("board/imu", "set-rate", Value::Integer(250));
    assert_eq!(operator.call::<CommandDevice>(&set_rate, None).unwrap(), Value::Integer(250));
    let has_it = |change: &ChangedDevice| change.changed.iter().any(|name| name == "rate");
    let told = std::iter::repeat_with(|| next::<ChangedDevice>(&changed)).find(has_it).unwrap();
    assert_eq!(value(&told.device, "rate"), &Value::Integer(250));
    let report =
        operator.call::<CommandDevice>(&command("board/imu", "self-test", Value::Empty), None).unwrap();
    let Value::Json(report) = report else { panic!("{report:?}") };
    assert!(report.contains("\"passed\":true"), "{report}");
    // What the board refuses, it refuses for who asked.
    let wrong = command("board/imu", "set-rate", Value::Integer(0));
    let refusal = operator.call::<CommandDevice>(&wrong, None).unwrap_err();
    assert_eq!(
        (refusal.kind(), refusal.text().as_str()),
        (ErrorKind::Message, "the rate goes from 1 to 1000 Hz")
    );
    let wrong = command("board/imu", "set-rate", Value::Text("fast".to_owned()));
    assert_eq!(operator.call::<CommandDevice>(&wrong, None).unwrap_err().kind(), ErrorKind::Serialization);
    for (text, rate) in [("board/imu set-rate 300", "300"), ("board/imu set-rate 200", "200")] {
        let request = OwnedMessage::request("hardware/command", OwnedPayload::String(text.to_owned()));
        let answer = operator.send_request(request, None).unwrap();
        assert_eq!(answer.payload, OwnedPayload::String(rate.to_owned()));
    }
}

#[test]
fn whoever_may_give_commands_but_not_this_one_is_refused_and_the_board_is_not_reached() {
    let world = World::new();
    let (_pty, _node) = world.sensor();
    let rate = || {
        let board = world.hub.client("reader", &["request:imu/info"]);
        let info = board.call::<visorbus_imu::messages::GetInfo>(&(), None).unwrap();
        (info.rate_hz, world.hub.peer("imu").unwrap().refused)
    };
    let set_rate = command("board/imu", "set-rate", Value::Integer(900));
    // Neither the permission without the scope, nor the scope of another, nor no permission for the handler.
    for scopes in [
        &["request:hardware/command"][..],
        &["request:hardware/*", "request:imu/*"],
        &["request:hardware/*", "request:imu/set-rate", "controller.control"],
        &["imu.control", "request:imu/*"],
    ] {
        let caller = world.hub.client("caller", scopes);
        let refusal = caller.call::<CommandDevice>(&set_rate, None).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Authorization, "{scopes:?}: {refusal}");
        assert_eq!(rate(), (100, 0), "{scopes:?}: no handler of the board ran");
    }
    let caller = world.hub.client("caller", &["request:hardware/command", "imu.control"]);
    assert_eq!(caller.call::<CommandDevice>(&set_rate, None).unwrap(), Value::Integer(900));
}

#[test]
fn an_id_or_a_command_that_is_none_reaches_nobody() {
    let world = World::new();
    let (_pty, _node) = world.sensor();
    fs::write(world.sysfs.path().join("type"), "outside").unwrap();
    world.battery("Full");
    world.wait(|change| change.device().id == "power_supply/BAT0");
    let operator = world.hub.client("operator", &["request:**", "imu.control"]);
    for id in [
        "",
        "/",
        "..",
        "board",
        "board/",
        "board/imu/",
        "board/imu/..",
        "board/../board/imu",
        "imu",
        "hardware",
        "power_supply/..",
        "power_supply/../power_supply/BAT0",
        "power_supply/BAT0/type",
        "/etc/passwd",
        "board/\0",
        "board/imu\n",
        "board/\u{1b}[2J",
        "BOARD/imu",
        "board/bus",
    ] {
        let unknown = operator.call::<GetDevice>(&id.to_owned(), None).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Message, "{id:?}");
        assert!(!unknown.text().chars().any(char::is_control), "{id:?}: {unknown}");
        let unknown =
            operator.call::<CommandDevice>(&command(id, "set-rate", Value::Integer(9)), None).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Message, "{id:?}");
    }
    for name in
        ["", "../imu/set-rate", "imu/set-rate", "set-rate/", "SET-RATE", "sample", "set rate", "\u{7}"]
    {
        let unknown = operator.call::<CommandDevice>(&command("board/imu", name, Value::Integer(9)), None);
        let unknown = unknown.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Message, "{name:?}");
        assert!(unknown.text().contains("it has info, set-rate, self-test"), "{unknown}");
    }
    let none =
        operator.call::<CommandDevice>(&command("power_supply/BAT0", "off", Value::Empty), None).unwrap_err();
    assert!(none.text().ends_with("it has none"), "{none}");
    let id = "x".repeat(1 << 16);
    assert_eq!(operator.call::<GetDevice>(&id, None).unwrap_err().kind(), ErrorKind::Message);
}

#[test]
fn a_board_that_is_unplugged_in_the_middle_of_a_command_fails_it_at_once() {
    let world = World::new();
    let (pty, node) = world.sensor();
    let operator = world.hub.client("operator", &["request:**", "subscribe:hardware/*", "imu.control"]);
    let removed = operator.subscribe("hardware/removed", SlowConsumer::default()).unwrap();
    // From here on the board hears nothing, but the line is there.
    node.hears.store(false, Ordering::Relaxed);
    let before = world.hub.peer("imu").unwrap().frames_out;
    let caller = world.hub.client("caller", &["request:hardware/command", "imu.control"]);
    let set_rate = command("board/imu", "set-rate", Value::Integer(9));
    let waiting = thread::spawn(move || {
        let failed = caller.call::<CommandDevice>(&set_rate, Some(PATIENCE)).unwrap_err();
        (failed, Instant::now())
    });
    world.hub.wait_for_peer("imu", |imu| imu.frames_out > before);
    let pulled = Instant::now();
    drop((node, pty));
    let (failed, at) = waiting.join().unwrap();
    assert_eq!(failed.kind(), ErrorKind::Connection, "{failed}");
    assert!(at.duration_since(pulled) < AT_ONCE, "{:?}", at.duration_since(pulled));
    let gone: RemovedDevice = next(&removed);
    assert_eq!((gone.id.as_str(), gone.kind.as_str()), ("board/imu", "board"));
    assert!(!gone.why.is_empty());
    assert!(world.manager.device("board/imu").is_none());
}

#[test]
fn what_comes_and_goes_is_told_once_and_in_order() {
    let world = World::new();
    let viewer = world.hub.client("viewer", &["subscribe:hardware/*", "request:hardware/list"]);
    let all = viewer.subscribe("hardware/*", SlowConsumer::default()).unwrap();
    let topic = || match all.recv(Some(PATIENCE)) {
        Ok(Some(Delivery::Message(message))) => message.destination,
        other => panic!("{other:?}"),
    };
    world.battery("Charging");
    assert_eq!(topic(), "hardware/added");
    world.battery("Full");
    assert_eq!(topic(), "hardware/changed");
    world.battery("Full");
    fs::rename(world.sysfs.path().join("class"), world.sysfs.path().join("gone")).unwrap();
    assert_eq!(topic(), "hardware/removed", "what did not change was not told");
    let deaf = world.hub.client("deaf", &["request:hardware/list"]);
    assert!(deaf.subscribe("hardware/added", SlowConsumer::default()).is_err());
    drop(deaf);

    let expect = |up: bool| {
        let change = world.wait(|change| {
            change.device().kind == "board" && !matches!(change, DeviceChange::Changed { .. })
        });
        assert_eq!(matches!(change, DeviceChange::Added(_)), up, "{change:?}");
    };
    let (pty, node) = world.plug(1);
    world.hub.attach("imu-line", ",unkeyed=imu");
    expect(true);
    drop((pty, node));
    expect(false);
    let (_pty, node) = world.plug(2);
    expect(true);
    // A board that starts again is another.
    drop(node);
    let _node = Node::sensor(&_pty, 3, device_key());
    expect(false);
    expect(true);
}

#[test]
fn a_board_is_told_of_by_the_hub_s_own_notice_and_not_by_the_next_look() {
    let world = World::looking_every(Duration::from_secs(3600));
    let watch = world.hub.handle.watch(64).unwrap();
    let mut times = Vec::new();
    world.hub.attach("imu-line", ",unkeyed=imu");
    for boot_id in 1..=10 {
        let (pty, node) = world.plug(boot_id);
        world.wait(|change| matches!(change, DeviceChange::Added(_)));
        drop((pty, node));
        let down = |event| matches!(event, visorbus_hub::HubEvent::PeerDown { .. });
        while !down(watch.recv_timeout(PATIENCE).unwrap()) {}
        let noticed = Instant::now();
        world.wait(|change| matches!(change, DeviceChange::Removed { .. }));
        times.push(noticed.elapsed());
    }
    times.sort();
    println!("from the hub's notice to the listener: median {:?}, worst {:?}", times[5], times[9]);
}

#[test]
fn boards_that_do_not_answer_hold_up_nobody_s_coming_and_going() {
    let world = World::new();
    let (_pty, node) = world.sensor();
    // It is asked again and again now, and does not answer.
    node.hears.store(false, Ordering::Relaxed);
    let began = Instant::now();
    world.battery("Full");
    world.wait(|change| change.device().id == "power_supply/BAT0");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let viewer = world.hub.client("viewer", &["request:hardware/*"]);
    assert!(!viewer.call::<ListDevices>(&None, Some(AT_ONCE)).unwrap().is_empty());
}

#[test]
fn it_is_configured_otherwise_and_nobody_is_told_that_a_device_went_or_came() {
    let world = World::new();
    let (_pty, _node) = world.sensor();
    world.battery("Full");
    world.wait(|change| change.device().id == "power_supply/BAT0");
    let viewer = world.hub.client("viewer", &["subscribe:hardware/*"]);
    let told = viewer.subscribe("hardware/*", SlowConsumer::default()).unwrap();
    let first = world.manager.config();
    let seldom = Duration::from_secs(3600);
    for config in [
        HardwareConfig { scan_interval: seldom, ..first.clone() },
        HardwareConfig { scan_interval: seldom, kernel_events: true, max_devices: 7, ..first.clone() },
        HardwareConfig { command_timeout: Duration::from_millis(500), ..first.clone() },
        HardwareConfig { scan_interval: seldom, ..first.clone() },
        first,
    ] {
        world.manager.reconfigure(config.clone());
        assert_eq!(world.manager.config(), config);
    }
    // It looks often again, at once.
    world.battery("Charging");
    let is_gone_or_new = |change: &DeviceChange| !matches!(change, DeviceChange::Changed { .. });
    world.wait(|change| {
        assert!(!is_gone_or_new(change), "{change:?}");
        change.device().state == "charging"
    });
    let of = |message: &OwnedMessage| message.destination.clone();
    let last = std::iter::repeat_with(|| match told.recv(Some(PATIENCE)) {
        Ok(Some(Delivery::Message(message))) => message,
        other => panic!("{other:?}"),
    })
    .inspect(|message| assert_eq!(of(message), "hardware/changed"))
    .find(|message| message.payload.parse::<ChangedDevice>().unwrap().device.state == "charging");
    assert!(last.is_some());
    assert!(world.manager.device("board/imu").is_some());

    // Where there is no room any more, something is gone indeed.
    world.manager.reconfigure(HardwareConfig { max_devices: 0, ..world.manager.config() });
    world.wait(|change| matches!(change, DeviceChange::Removed { device, .. } if device.name == "BAT0"));
}

#[test]
fn a_device_that_hangs_holds_up_neither_the_end_nor_who_waits_for_it() {
    let world = World::new();
    let (come_back, hang) = channel::<()>();
    let (tell, hangs) = channel();
    let hang = std::sync::Mutex::new(hang);
    // As a device does that never answers what is read of it.
    let _listening = world.manager.on_change(move |_| {
        let _ = tell.send(());
        let _ = hang.lock().unwrap().recv();
    });
    world.battery("Full");
    hangs.recv_timeout(PATIENCE).unwrap();
    let (manager, (ended, is_over)) = (world.manager.clone(), channel());
    thread::spawn(move || {
        manager.stop();
        let _ = ended.send(());
    });
    is_over.recv_timeout(PATIENCE).expect("it is not waited for");
    drop(come_back);
}

#[test]
fn it_ends_with_its_hub_and_when_it_is_told_to() {
    let world = World::new();
    let (_pty, _node) = world.sensor();
    let began = Instant::now();
    world.manager.stop();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(world.manager.device("board/imu").is_none());
    let operator = world.hub.client("operator", &["request:**", "imu.control"]);
    let gone = operator.call::<CommandDevice>(&command("board/imu", "info", Value::Empty), None).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Message);

    let other = World::new();
    let (_pty, _node) = other.sensor();
    let World { hub, changes, .. } = other;
    drop(hub);
    let removed = std::iter::repeat_with(|| changes.recv_timeout(PATIENCE).unwrap())
        .find(|change| matches!(change, DeviceChange::Removed { .. }));
    assert!(matches!(removed, Some(DeviceChange::Removed { why, .. }) if why == "the hub has ended"));
}

#[test]
fn a_program_on_the_bus_sees_devices_come_change_and_go_and_commands_them_by_its_own_rights() {
    let world = World::new();
    let bus = DbusDaemon::start();
    let mut config = DBusConfig::default();
    config.bus = BusAddress::Address(bus.address().to_owned());
    let (listener, door) = DBusListener::new(config, &world.hub.handle).unwrap();
    world.hub.handle.listen(Box::new(listener)).unwrap();
    let listening = HardwareInterface::register(&world.manager, &door).unwrap();
    while !door.state().owns_name {
        thread::yield_now();
    }
    let (pty, node) = world.sensor();
    world.battery("Charging");
    world.wait(|change| change.device().id == "power_supply/BAT0");

    let panel = Program::new(
        &world,
        &bus,
        &["request:org.visorbus.hardware1/**", "subscribe:org.visorbus.hardware1/**"],
    );
    let listed = panel.call("ListDevices", ("board",)).unwrap();
    let listed: Vec<(String, String, String, String)> = listed.read1().unwrap();
    assert_eq!(
        listed,
        [("board/imu", "board", "imu", "ready")].map(|(a, b, c, d)| (a.into(), b.into(), c.into(), d.into()))
    );
    let shown = panel.call("GetDevice", ("power_supply/BAT0",)).unwrap();
    let (kind, _name, state, properties): (String, String, String, PropMap) = shown.read4().unwrap();
    assert_eq!((kind.as_str(), state.as_str()), ("power_supply", "charging"));
    assert_eq!(properties["type"].0.as_str(), Some("Battery"));
    let unknown = panel.call("GetDevice", ("board/../imu",)).unwrap_err();
    assert!(unknown.message().unwrap().contains("there is no device"), "{unknown}");

    // It may use the interface, but not the address that the command goes to: the board is not reached.
    let set_rate = |rate: u32| ("board/imu", "set-rate", Variant(rate));
    let refused = panel.call("Command", set_rate(700)).unwrap_err();
    assert_eq!(refused.name(), Some("org.freedesktop.DBus.Error.AccessDenied"), "{refused}");
    let operator = Program::new(&world, &bus, &["request:org.visorbus.hardware1/**", "imu.control"]);
    let answer: Variant<i64> = operator.call("Command", set_rate(200)).unwrap().read1().unwrap();
    assert_eq!(answer.0, 200, "and before it was not 700");
    let wrong = operator.call("Command", ("board/imu", "set-rate", Variant("fast"))).unwrap_err();
    assert!(!wrong.message().unwrap().is_empty());
    let stranger = Program::new(&world, &bus, &["imu.control"]);
    assert!(stranger.call("ListDevices", ("",)).is_err() && stranger.call("Command", set_rate(1)).is_err());

    let ids: (Variant<Vec<String>>,) = panel.property("Devices").read1().map(|ids| (ids,)).unwrap();
    assert_eq!(ids.0.0, ["board/imu", "power_supply/BAT0"]);
    world.battery("Full");
    let changed = panel.signal("DeviceChanged");
    let (id, state): (String, String) = changed.read2().unwrap();
    assert!(id == "power_supply/BAT0" && state == "full" || id == "board/imu", "{id} {state}");
    drop((node, pty));
    let (id, why): (String, String) = panel.signal("DeviceRemoved").read2().unwrap();
    assert!(id == "board/imu" && !why.is_empty());
    panel.signal("PropertiesChanged");
    drop(listening);
}

/// A program on the bus that has shown a token.
struct Program(dbus::channel::Channel);

impl Program {
    fn new(world: &World, bus: &DbusDaemon, scopes: &[&str]) -> Self {
        let program = Self(bus.connect());
        let token = world.hub.token("panel", scopes);
        let call = Message::call_with_args(BUS, OBJECT, BUS, "Authenticate", (token.as_str(),));
        program.ask(call).unwrap();
        program
    }

    fn call(&self, member: &str, arguments: impl dbus::arg::AppendAll) -> Result<Message, dbus::Error> {
        self.ask(Message::call_with_args(BUS, OBJECT, "org.visorbus.Hardware1", member, arguments))
    }

    fn property(&self, name: &str) -> Message {
        let of = ("org.visorbus.Hardware1", name);
        self.ask(Message::call_with_args(BUS, OBJECT, "org.freedesktop.DBus.Properties", "Get", of)).unwrap()
    }

    fn ask(&self, call: Message) -> Result<Message, dbus::Error> {
        self.0.send_with_reply_and_block(call, PATIENCE)
    }

    /// Waits for a signal of the interface's, and drops all else.
    fn signal(&self, member: &str) -> Message {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let message = self.0.blocking_pop_message(Duration::from_millis(100)).unwrap();
            if let Some(message) = message.filter(|message| message.member().as_deref() == Some(member)) {
                return message;
            }
        }
        panic!("no signal {member} came");
    }
}

const BUS: &str = "org.visorbus.Bus1";
const OBJECT: &str = "/org/visorbus/Bus1";
