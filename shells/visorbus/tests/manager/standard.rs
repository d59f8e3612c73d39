//! The standard services while they are configured otherwise: who is told of it, and what is left behind.

use std::fs;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use visorbus::IpcManager;
use visorbus_core::bus::SlowConsumer;
use visorbus_dbus::{DBusClient, MessageItem};
use visorbus_hub::Value;
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_unix::Delivery;

use crate::world::{Held, OwnWorld, PATIENCE, World, eventually};

/// Has the machine have a battery, all of it at once.
fn plug(world: &World, name: &str) {
    let (class, new) = (world.path("sys/class/power_supply"), world.path("new"));
    fs::create_dir_all(&class).unwrap();
    fs::create_dir(&new).unwrap();
    fs::write(new.join("type"), "Battery").unwrap();
    fs::rename(new, class.join(name)).unwrap();
}

/// A program on the bus that may do everything, and the signals of `Hardware1` that come to it: member and device.
fn program(world: &World, manager: &IpcManager) -> (DBusClient, Receiver<(String, MessageItem)>) {
    let is_on = || manager.status().part("dbus").unwrap().state == "on";
    eventually(is_on, || format!("{:?}", manager.status().part("dbus")));
    let program = manager.create_dbus_client().unwrap();
    program.set_auth_token(world.auth_token("program", &["*"])).unwrap();
    let (tell, told) = channel();
    let heard = program.register_signal_handler(HARDWARE, "", move |signal| {
        let device = DBusClient::signal_args(signal).unwrap().remove(0);
        let _ = tell.send((signal.member().unwrap().to_string(), device));
    });
    heard.unwrap();
    program.connect().unwrap();
    // Whoever has used it is told.
    program.call_method(HARDWARE, "ListDevices", &["".into()]).unwrap();
    (program, told)
}

#[test]
fn options_of_the_hardware_change_and_nobody_is_told_that_a_device_went_or_came() {
    let (world, bus) = (World::new(), DbusDaemon::start());
    plug(&world, "BAT0");
    let mut manager = world.running(&format!("[dbus]\nenabled = true\nbus = \"{}\"\n", bus.address()));
    let hardware = manager.hardware().unwrap().clone();
    eventually(|| hardware.device("power_supply/BAT0").is_some(), || "no battery".to_owned());
    let client = world.client(&manager, "panel");
    let on_socket = client.subscribe("hardware/*", SlowConsumer::default()).unwrap();
    let (program, on_bus) = program(&world, &manager);
    for (key, value) in [
        ("scan_interval_ms", Value::Integer(3_600_000)),
        ("kernel_events", Value::Bool(false)),
        ("max_devices", Value::Integer(7)),
        ("command_timeout_ms", Value::Integer(500)),
        ("scan_interval_ms", Value::Integer(100)),
    ] {
        manager.config().set("hardware", key, value, "test").unwrap();
        assert_eq!(manager.reload().unwrap().applied, [format!("hardware.{key}")]);
    }
    let config = hardware.config();
    assert_eq!((config.scan_interval, config.max_devices), (Duration::from_millis(100), 7), "it is the same");

    // What comes next is the first that anybody is told.
    plug(&world, "BAT1");
    let Ok(Some(Delivery::Message(told))) = on_socket.recv(Some(PATIENCE)) else {
        panic!("nothing was told")
    };
    assert_eq!(told.destination, "hardware/added");
    let (member, device) = on_bus.recv_timeout(PATIENCE).unwrap();
    assert_eq!((member.as_str(), device), ("DeviceAdded", "power_supply/BAT1".into()));
    assert!(hardware.device("power_supply/BAT1").is_some());

    // That nobody looks after it is not that it is gone; the interface is.
    for is_on in [false, true] {
        manager.config().set("hardware", "enabled", Value::Bool(is_on), "test").unwrap();
        assert_eq!(manager.reload().unwrap().refused, []);
        assert_eq!(program.call_method(HARDWARE, "ListDevices", &["".into()]).is_ok(), is_on);
    }
    plug(&world, "BAT2");
    let told = std::iter::repeat_with(|| on_bus.recv_timeout(PATIENCE).unwrap());
    let mut told = told.inspect(|(member, _)| assert_ne!(member, "DeviceRemoved"));
    assert!(told.any(|(_, device)| device == "power_supply/BAT2".into()));
}

#[test]
fn a_bus_that_is_switched_on_and_off_leaves_no_descriptor() {
    let world = OwnWorld::new();
    let mut manager =
        world.manager("[dbus]\nbus = \"unix:path=/nowhere/bus\"\n[monitoring]\nthresholds = []\n");
    manager.initialize().unwrap();
    let mut round = || {
        for is_on in [true, false] {
            manager.config().set("dbus", "enabled", Value::Bool(is_on), "test").unwrap();
            assert_eq!(manager.reload().unwrap().refused, []);
        }
    };
    // What a process keeps from the first time on is not what is counted.
    round();
    let before = Held::now();
    (0..8).for_each(|_| round());
    before.expect_no_more();
}

const HARDWARE: &str = "org.visorbus.Hardware1";
