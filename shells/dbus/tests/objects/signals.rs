//! Signals: who gets them, and who does not.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use dbus::arg::messageitem::{MessageItem, MessageItemDict};
use dbus::strings::Signature;

use crate::world::{IMU, PANEL, ROOT, SERVICE, World, publish};

const COMPONENT: &str = "org.visorbus.Component1";

fn no_options() -> MessageItem {
    let (key, value) = (Signature::new("s").unwrap(), Signature::new("v").unwrap());
    MessageItem::Dict(MessageItemDict::new(Vec::new(), key, value).unwrap())
}

#[test]
fn a_topic_comes_as_a_typed_signal_to_its_subscriber_and_to_nobody_else() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    let (subscriber, other) = (world.program(), world.program());
    other.listen();
    subscriber.call(IMU, COMPONENT, "Subscribe", &["imu/samples".into()]).unwrap();
    publish(&mut imu, 7);
    let (path, args) = subscriber.signal("Samples");
    assert_eq!(path, IMU);
    let values = MessageItem::new_array(vec![1i16.into(), (-2i16).into(), 3i16.into()]).unwrap();
    assert_eq!(args, [7u64.into(), values]);
    assert_eq!(other.signals_so_far(), Vec::<String>::new());

    subscriber.call(IMU, COMPONENT, "Unsubscribe", &["imu/samples".into()]).unwrap();
    publish(&mut imu, 8);
    imu.read_so_far();
    assert_eq!(subscriber.signals_so_far(), Vec::<String>::new());
}

#[test]
fn the_bridges_notifications_are_in_order_and_typed_from_the_first_one_on() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    let subscriber = world.program();
    subscriber.call(ROOT, SERVICE, "Subscribe", &["imu/*".into(), no_options()]).unwrap();
    for at in 0..50 {
        publish(&mut imu, at);
    }
    for at in 0..50u64 {
        let (path, args) = subscriber.signal("Notification");
        assert_eq!(path, ROOT);
        assert_eq!(args[..2], ["imu/samples".into(), "imu".into()]);
        let MessageItem::Variant(value) = &args[2] else { panic!("{args:?}") };
        let MessageItem::Struct(fields) = &**value else { panic!("{args:?}") };
        assert_eq!(fields[0], at.into());
    }
}

#[test]
fn who_may_not_subscribe_hears_nothing() {
    let world = World::with_panel("\"request:imu/*\"");
    let mut imu = world.imu();
    let program = world.program();
    let denied = Err("org.freedesktop.DBus.Error.AccessDenied".to_owned());
    assert_eq!(program.call(ROOT, SERVICE, "Subscribe", &["imu/*".into(), no_options()]), denied);
    assert!(program.call(IMU, COMPONENT, "Subscribe", &["imu/samples".into()]).is_err());
    publish(&mut imu, 1);
    imu.read_so_far();
    assert_eq!(program.signals_so_far(), Vec::<String>::new());
}

#[test]
fn another_token_keeps_the_subscriptions_that_it_allows() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    let program = world.program();
    program.call(ROOT, SERVICE, "Subscribe", &["imu/*".into(), no_options()]).unwrap();
    let prove = |scopes: &[&str]| {
        let token = world.token("app", scopes);
        program.call(ROOT, SERVICE, "Authenticate", &[token.as_str().into()]).unwrap();
    };
    prove(&["subscribe:imu/*", "request:imu/*"]);
    publish(&mut imu, 1);
    program.signal("Notification");
    prove(&["request:imu/*"]);
    let (_, args) = program.signal("SubscriptionEnded");
    assert_eq!(args[0], "imu/*".into());
    publish(&mut imu, 2);
    imu.read_so_far();
    assert_eq!(program.signals_so_far(), Vec::<String>::new());
}

#[test]
fn objects_appear_and_disappear_for_who_has_asked_for_them() {
    let world = World::with_panel(PANEL);
    let (watcher, other) = (world.program(), world.program());
    other.listen();
    let manager = "org.freedesktop.DBus.ObjectManager";
    watcher.call(ROOT, manager, "GetManagedObjects", &[]).unwrap();
    let imu = world.imu();
    let path = MessageItem::ObjectPath(IMU.to_owned().into());
    assert_eq!(watcher.signal("InterfacesAdded").1[0], path);
    drop(imu);
    let (_, args) = watcher.signal("InterfacesRemoved");
    assert_eq!(args[0], path);
    assert_eq!(args[1].signature().to_string(), "as");
    assert_eq!(other.signals_so_far(), Vec::<String>::new());
}

#[test]
fn busctl_monitor_sees_what_is_sent_to_one_alone() {
    let world = World::with_panel(PANEL);
    let mut imu = world.imu();
    let mut command = world.bus.command("busctl");
    command
        .args(["--user", "--json=short", "monitor", SERVICE])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut monitor = command.spawn().expect("busctl is installed");
    let mut told = BufReader::new(monitor.stderr.take().unwrap()).lines();
    assert!(told.next().unwrap().unwrap().contains("Monitoring"));
    let program = world.program();
    program.call(IMU, COMPONENT, "Subscribe", &["imu/samples".into()]).unwrap();
    publish(&mut imu, 7);
    program.signal("Samples");
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines().map(Result::unwrap);
    let seen = lines.find(|line| line.contains("\"Samples\"")).expect("it is seen");
    assert!(seen.contains("org.visorbus.components.Imu"), "{seen}");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}
