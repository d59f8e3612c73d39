//! Which object, interface and member a call is for.

use visorbus_core::ErrorKind;

use super::*;

#[test]
fn what_is_not_there_has_the_error_that_says_so() {
    let mut bench = Bench::with_imu();
    let cases = [
        ("/other", BUS, "Call", fault::UNKNOWN_OBJECT),
        ("/org/visorbus/Bus1/component", BUS, "Call", fault::UNKNOWN_OBJECT),
        ("/org/visorbu", fixed::INTROSPECTABLE, "Introspect", fault::UNKNOWN_OBJECT),
        ("/org/visorbus/Bus1/components/imu/x", fixed::INTROSPECTABLE, "Introspect", fault::UNKNOWN_OBJECT),
        (ROOT, "org.visorbus.Bus2", "Call", fault::UNKNOWN_INTERFACE),
        (ROOT, BUS, "Cal", fault::UNKNOWN_METHOD),
        (ROOT, fixed::PEER, "Pong", fault::UNKNOWN_METHOD),
        (ROOT, IMU_INTERFACE, "SetRate", fault::UNKNOWN_INTERFACE),
        (IMU, BUS, "Call", fault::UNKNOWN_INTERFACE),
        (IMU, "org.visorbus.components.Camera", "SetRate", fault::UNKNOWN_INTERFACE),
        ("/org", fixed::PROPERTIES, "Get", fault::UNKNOWN_INTERFACE),
    ];
    for (path, interface, member, expected) in cases {
        let (name, _) = bench.call(path, interface, member, &[]).error();
        assert_eq!(name, expected, "{path} {interface}.{member}");
    }
    assert_eq!(bench.asked(), Vec::<String>::new(), "nothing of it reached the hub");
}

#[test]
fn arguments_of_another_signature_are_refused_before_the_hub_is_asked() {
    let mut bench = Bench::with_imu();
    for (member, args, expected) in [
        ("Call", vec![], "org.visorbus.Bus1.Call takes 'sva{sv}', not ''"),
        ("Subscribe", vec![text("imu/*")], "org.visorbus.Bus1.Subscribe takes 'sa{sv}', not 's'"),
        ("ListServices", vec![text("")], "org.visorbus.Bus1.ListServices takes '', not 's'"),
        ("Authenticate", vec![MessageItem::Byte(1)], "org.visorbus.Bus1.Authenticate takes 's', not 'y'"),
    ] {
        assert_eq!(
            bench.bridge(member, &args).error(),
            (fault::INVALID_ARGS.to_owned(), expected.to_owned())
        );
    }
    assert_eq!(bench.asked(), Vec::<String>::new());
}

#[test]
fn a_call_without_an_interface_finds_the_member_and_meets_the_same_checks() {
    let mut bench = Bench::with_imu();
    let replies = bench.send(&caller(), without_interface(ROOT, "ListServices"));
    assert_eq!(replies[0].clone().error().0, fault::MESSAGE, "the hub was asked, and knew nothing");
    assert_eq!(bench.asked(), [bus::SERVICES]);

    let wrong = bench.send(&caller(), without_interface(ROOT, "Subscribe"));
    assert_eq!(wrong[0].clone().error().0, fault::INVALID_ARGS);
    let unknown = bench.send(&caller(), without_interface(ROOT, "SetRate"));
    assert_eq!(unknown[0].clone().error().0, fault::UNKNOWN_METHOD);

    bench.answer("imu/reset", Ok(OwnedPayload::Empty));
    let own = bench.send(&caller(), without_interface(IMU, "Reset"));
    assert_eq!(own[0].clone().values(), []);
    assert_eq!(bench.asked(), [bus::INTERFACES, "imu/reset"]);

    bench.answer("imu/reset", denied());
    let refused = bench.send(&caller(), without_interface(IMU, "Reset"));
    assert_eq!(refused[0].clone().error().0, fault::ACCESS_DENIED);
}

#[test]
fn who_wants_no_reply_gets_none_whatever_becomes_of_the_call() {
    let mut bench = Bench::with_imu();
    for (interface, member) in [(fixed::PEER, "Ping"), (BUS, "ListServices"), (BUS, "Cal")] {
        let mut call = Message::new_method_call("org.visorbus.Bus1", ROOT, interface, member).unwrap();
        call.set_no_reply(true);
        assert_eq!(bench.send(&caller(), call), [], "{member}");
    }
    assert_eq!(bench.asked(), [bus::SERVICES]);
}

#[test]
fn every_object_pings_and_has_the_machines_id() {
    let mut bench = Bench::with_imu();
    for path in ["/", "/org/visorbus", ROOT, "/org/visorbus/Bus1/components", IMU] {
        assert_eq!(bench.call(path, fixed::PEER, "Ping", &[]).values(), []);
    }
    bench.router.machine_id = Some("0123456789abcdef0123456789abcdef".to_owned());
    assert_eq!(bench.call(ROOT, fixed::PEER, "GetMachineId", &[]).text(), "0123456789abcdef0123456789abcdef");
}

#[test]
fn the_tree_leads_from_the_top_to_every_component() {
    let mut bench = Bench::with_imu();
    for (path, child) in [
        ("/", "org"),
        ("/org", "visorbus"),
        ("/org/visorbus", "Bus1"),
        (ROOT, "components"),
        ("/org/visorbus/Bus1/components", "imu"),
    ] {
        let xml = bench.call(path, fixed::INTROSPECTABLE, "Introspect", &[]).text();
        assert!(xml.contains(&format!("<node name=\"{child}\"/>")), "{path}: {xml}");
    }
}

#[test]
fn an_error_of_the_hub_keeps_its_text_and_its_kind_is_the_name() {
    let kinds = [
        (ErrorKind::Authentication, fault::AUTH_FAILED),
        (ErrorKind::Authorization, fault::ACCESS_DENIED),
        (ErrorKind::Connection, fault::CONNECTION),
        (ErrorKind::Message, fault::MESSAGE),
        (ErrorKind::Timeout, fault::TIMEOUT),
        (ErrorKind::Serialization, fault::SERIALIZATION),
        (ErrorKind::Protocol, fault::PROTOCOL),
        (ErrorKind::Internal, fault::INTERNAL),
    ];
    for (kind, name) in kinds {
        let mut bench = Bench::new();
        bench.answer(bus::SERVICES, Err(Error::new(kind, "what, where\0and why".to_owned())));
        let expected = (name.to_owned(), "what, where\u{fffd}and why".to_owned());
        assert_eq!(bench.bridge("ListServices", &[]).error(), expected);
    }
}

#[test]
fn the_documentation_has_every_interface_member_and_error() {
    let page = include_str!("../../../../../docs/dbus.md");
    let documented =
        |name: &str| assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/dbus.md");
    for fixed in fixed::ROOT.iter().chain(fixed::OF_COMPONENT) {
        documented(fixed.name);
        if !fixed.name.starts_with("org.visorbus.") {
            continue;
        }
        for method in fixed.methods {
            documented(method.name);
        }
        fixed.signals.iter().for_each(|signal| documented(signal.name));
        fixed.properties.iter().for_each(|property| documented(property.name));
    }
    for error in [
        fault::ACCESS_DENIED,
        fault::AUTH_FAILED,
        fault::TIMEOUT,
        fault::INVALID_ARGS,
        fault::INVALID_SIGNATURE,
        fault::LIMITS_EXCEEDED,
        fault::UNKNOWN_OBJECT,
        fault::PROPERTY_READ_ONLY,
        fault::CONNECTION,
        fault::MESSAGE,
        fault::SERIALIZATION,
        fault::PROTOCOL,
        fault::INTERNAL,
    ] {
        documented(error);
    }
}

/// A call without the header field for the interface, which may be missing (D-Bus specification, "Message Types").
fn without_interface(path: &str, member: &str) -> Message {
    let mut bytes = vec![b'l', 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0];
    let mut fields = Vec::new();
    for (code, kind, value) in [(1, b'o', path), (3, b's', member)] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        fields.extend((value.len() as u32).to_le_bytes());
        fields.extend(value.as_bytes());
        fields.push(0);
    }
    bytes.extend((fields.len() as u32).to_le_bytes());
    bytes.extend(fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let message = Message::demarshal(&bytes).unwrap();
    assert!(message.interface().is_none());
    // One that was read is locked; its copy can be given a serial.
    message.duplicate().unwrap()
}
