//! Components as objects: their methods, their descriptions, and their coming and going.

use visorbus_hub::info::ServiceChange;

use super::*;

fn set_rate(bench: &mut Bench, args: &[MessageItem]) -> super::Reply {
    bench.call(IMU, IMU_INTERFACE, "SetRate", args)
}

#[test]
fn an_endpoint_is_a_method_with_typed_arguments() {
    let mut bench = Bench::with_imu();
    bench.answer("imu/set-rate", Ok(OwnedPayload::Binary(vec![50])));
    let args = [MessageItem::UInt32(100), text("Y")];
    assert_eq!(set_rate(&mut bench, &args).values(), [MessageItem::UInt32(50)]);
    assert_eq!(bench.asked[1], ("imu/set-rate".to_owned(), OwnedPayload::Binary(vec![100, 1]), true));
    assert_eq!(bench.asked(), [bus::INTERFACES, "imu/set-rate"]);
    set_rate(&mut bench, &args);
    assert_eq!(bench.asked(), ["imu/set-rate"], "what was shown is kept");
    bench.change_types();
    set_rate(&mut bench, &args);
    assert_eq!(bench.asked(), [bus::INTERFACES, "imu/set-rate"]);
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_sent() {
    let mut bench = Bench::with_imu();
    let (name, said) = set_rate(&mut bench, &[text("fast")]).error();
    assert_eq!(name, fault::INVALID_ARGS);
    assert_eq!(said, "SetRate takes 'us' (u hz, s axis), not 's'");
    let (name, said) = set_rate(&mut bench, &[MessageItem::UInt32(1), text("Q")]).error();
    assert_eq!(name, fault::INVALID_ARGS);
    assert!(said.contains("X, Y"), "{said}");
    assert_eq!(bench.asked(), [bus::INTERFACES]);
}

#[test]
fn what_another_caller_was_shown_is_not_there_for_one_who_may_not() {
    let mut bench = Bench::with_imu();
    bench.answer("imu/set-rate", Ok(OwnedPayload::Binary(vec![50])));
    set_rate(&mut bench, &[MessageItem::UInt32(100), text("Y")]);
    let stranger = Caller { unique_name: ":1.8".to_owned(), ..caller() };
    bench.offer(Vec::new());
    bench.asked();
    for args in [vec![MessageItem::UInt32(100), text("Y")], vec![text("wrong")]] {
        let replies = bench.call_of(&stranger, IMU, IMU_INTERFACE, "SetRate", &args);
        assert_eq!((replies[0].to.as_str(), replies[0].name.as_str()), (":1.8", fault::UNKNOWN_OBJECT));
    }
    let unknown = bench.call_of(
        &stranger,
        "/org/visorbus/Bus1/components/nobody",
        "org.visorbus.components.Nobody",
        "X",
        &[],
    );
    assert_eq!(unknown[0].name, fault::UNKNOWN_OBJECT, "it cannot be told from one that is not there");
    assert_eq!(bench.asked(), [bus::INTERFACES, bus::INTERFACES, bus::INTERFACES]);
}

#[test]
fn another_proof_of_who_one_is_shows_the_components_anew() {
    let mut bench = Bench::with_imu();
    bench.answer("imu/reset", Ok(OwnedPayload::Empty));
    bench.call(IMU, IMU_INTERFACE, "Reset", &[]).values();
    bench.router.opened(&caller(), "guest");
    bench.offer(Vec::new());
    assert_eq!(bench.call(IMU, IMU_INTERFACE, "Reset", &[]).error().0, fault::UNKNOWN_OBJECT);
}

#[test]
fn a_component_that_is_not_there_is_no_object_and_what_is_no_name_is_not_asked_for() {
    let mut bench = Bench::with_imu();
    let describe =
        |bench: &mut Bench, path: &str| bench.call(path, fixed::INTROSPECTABLE, "Introspect", &[]).error().0;
    bench.answer(bus::INTERFACES, Err(InterfaceInfo::unknown("imu")));
    assert_eq!(describe(&mut bench, IMU), fault::UNKNOWN_OBJECT);
    assert_eq!(bench.call(IMU, IMU_INTERFACE, "Reset", &[]).error().0, fault::UNKNOWN_OBJECT);
    bench.answer(bus::INTERFACES, Err(Error::Message("ask again later".to_owned())));
    assert_eq!(describe(&mut bench, IMU), fault::MESSAGE);
    bench.asked();
    for element in ["_", "IMU", "imu_2freset", "imu_00"] {
        let path = format!("{ROOT}/components/{element}");
        assert_eq!(describe(&mut bench, &path), fault::UNKNOWN_OBJECT, "{path}");
        assert_eq!(bench.asked(), [""; 0], "{path}");
    }
}

#[test]
fn objects_that_could_not_be_told_of_are_missed() {
    let mut bench = Bench::with_imu();
    let manage = |bench: &mut Bench| {
        bench.call(ROOT, fixed::OBJECT_MANAGER, "GetManagedObjects", &[]).values();
        bench.asked()
    };
    bench.answer(bus::SUBSCRIBE, denied());
    for _ in 0..2 {
        assert_eq!(manage(&mut bench), [bus::INTERFACES, bus::SUBSCRIBE], "asked for with each call");
    }
    bench.answer(bus::SUBSCRIBE, Ok(OwnedPayload::Empty));
    assert_eq!(manage(&mut bench), [bus::INTERFACES, bus::SUBSCRIBE]);
    assert_eq!(manage(&mut bench), [bus::INTERFACES]);
    let change = ServiceChange { component: "fan".to_owned(), peer: String::new(), up: true };
    let change = OwnedPayload::postcard(&change).unwrap();
    bench.answer(bus::INTERFACES, Err(InterfaceInfo::unknown("fan")));
    assert_eq!(bench.notify(bus::SERVICES_CHANGED, &change), []);
    bench.answer(bus::INTERFACES, Err(Error::Message("ask again later".to_owned())));
    let signals = bench.notify(bus::SERVICES_CHANGED, &change);
    assert_eq!(signals[0].name, "org.visorbus.Bus1.Missed");
    assert_eq!(signals[0].items[0], text(bus::SERVICES_CHANGED));

    bench.offer(vec![imu()]);
    bench.asked();
    bench.router.opened(&caller(), "guest");
    assert_eq!(manage(&mut bench), [bus::INTERFACES, bus::SUBSCRIBE], "it is somebody else now");
}

#[test]
fn a_method_that_came_later_is_found() {
    let mut bench = Bench::with_imu();
    assert_eq!(bench.call(IMU, IMU_INTERFACE, "Calibrate", &[]).error().0, fault::UNKNOWN_METHOD);
    let mut more = imu();
    more.addresses.push(row("imu/calibrate", "endpoint", schema(<()>::SCHEMA), schema(<()>::SCHEMA)));
    bench.offer(vec![more]);
    bench.answer("imu/calibrate", Ok(OwnedPayload::Binary(Vec::new())));
    assert_eq!(bench.call(IMU, IMU_INTERFACE, "Calibrate", &[]).values(), []);
}

#[test]
fn what_has_no_type_takes_a_variant() {
    let mut bench = Bench::with_imu();
    bench.answer("imu/raw", Ok(OwnedPayload::Binary(vec![9])));
    let answer = bench.call(IMU, IMU_INTERFACE, "Raw", &[items::variant(items::bytes(&[7]))]).value();
    assert_eq!(answer, items::bytes(&[9]));
    assert_eq!(bench.asked[1].1, OwnedPayload::Binary(vec![7]));
}

#[test]
fn an_answer_that_is_not_of_its_type_is_an_error_and_no_panic() {
    let mut bench = Bench::with_imu();
    for payload in [vec![], vec![1, 2, 3], vec![255; 9]] {
        bench.answer("imu/set-rate", Ok(OwnedPayload::Binary(payload)));
        let args = [MessageItem::UInt32(100), text("Y")];
        assert_eq!(set_rate(&mut bench, &args).error().0, fault::SERIALIZATION);
    }
    bench.answer("imu/set-rate", Ok(OwnedPayload::String("no".to_owned())));
    assert_eq!(set_rate(&mut bench, &[MessageItem::UInt32(100), text("Y")]).error().0, fault::SERIALIZATION);
}

#[test]
fn a_description_shows_what_the_caller_may_use_and_nothing_else() {
    let mut bench = Bench::with_imu();
    let mut component = imu();
    component
        .addresses
        .push(InterfaceAddress { usable: false, ..row("imu/secret", "endpoint", vec![], vec![]) });
    bench.offer(vec![component]);
    let xml = bench.call(IMU, fixed::INTROSPECTABLE, "Introspect", &[]).text();
    for expected in [
        "<interface name=\"org.visorbus.components.Imu\">",
        "<method name=\"SetRate\">",
        "<arg name=\"hz\" type=\"u\" direction=\"in\"/>",
        "<arg name=\"axis\" type=\"s\" direction=\"in\"/>",
        "<arg name=\"hz\" type=\"u\" direction=\"out\"/>",
        "<signal name=\"Samples\">",
        "<arg name=\"values\" type=\"an\"/>",
        "<annotation name=\"org.freedesktop.DBus.Method.NoReply\" value=\"true\"/>",
        "<annotation name=\"org.visorbus.Address\" value=\"imu/set-rate\"/>",
    ] {
        assert!(xml.contains(expected), "{expected} in {xml}");
    }
    assert!(!xml.contains("Secret") && !xml.contains("secret"), "{xml}");
    bench.offer(Vec::new());
    assert_eq!(bench.call(IMU, fixed::INTROSPECTABLE, "Introspect", &[]).error().0, fault::UNKNOWN_OBJECT);
}

#[test]
fn a_component_has_its_properties() {
    let mut bench = Bench::with_imu();
    let get = |name: &str| [text(fixed::COMPONENT), text(name)];
    assert_eq!(bench.call(IMU, fixed::PROPERTIES, "Get", &get("Name")).value(), text("imu"));
    assert_eq!(bench.call(IMU, fixed::PROPERTIES, "Get", &get("Peer")).value(), text("board"));
    let addresses = bench.call(IMU, fixed::PROPERTIES, "Get", &get("Addresses")).value();
    assert_eq!(&*addresses.signature(), "a(sss)");
    let all = bench.call(IMU, fixed::PROPERTIES, "GetAll", &[text("")]).values();
    let MessageItem::Dict(all) = &all[0] else { panic!("{all:?}") };
    assert_eq!(all.len(), 4);
    let set = [text(fixed::COMPONENT), text("Name"), items::variant(text("x"))];
    assert_eq!(bench.call(IMU, fixed::PROPERTIES, "Set", &set).error().0, fault::PROPERTY_READ_ONLY);
    let none = bench.call(IMU, fixed::PROPERTIES, "GetAll", &[text(IMU_INTERFACE)]).values();
    assert_eq!(none, [options([])]);
}

#[test]
fn objects_come_and_go_for_who_has_asked_for_them_alone() {
    let mut bench = Bench::with_imu();
    let change = |component: &str, up| {
        let (component, peer) = (component.to_owned(), String::new());
        OwnedPayload::postcard(&ServiceChange { component, peer, up }).unwrap()
    };
    assert_eq!(bench.notify(bus::SERVICES_CHANGED, &change("imu", false)), [], "not asked for yet");

    let objects = bench.call(ROOT, fixed::OBJECT_MANAGER, "GetManagedObjects", &[]).values();
    assert_eq!(crate::types::signature_of(&objects).unwrap(), "a{oa{sa{sv}}}");
    let MessageItem::Dict(all) = &objects[0] else { panic!("{objects:?}") };
    assert_eq!(all.len(), 1);
    assert_eq!(bench.asked(), [bus::INTERFACES, bus::SUBSCRIBE]);

    let removed = bench.notify(bus::SERVICES_CHANGED, &change("imu", false));
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].name, "org.freedesktop.DBus.ObjectManager.InterfacesRemoved");
    assert_eq!((removed[0].to.as_str(), removed[0].path.as_str()), (":1.7", ROOT));
    assert_eq!(bench.notify(bus::SERVICES_CHANGED, &change("imu", false)), [], "it is gone already");
    assert_eq!(bench.notify(bus::SERVICES_CHANGED, &change("ghost", false)), [], "it was never shown");

    let added = bench.notify(bus::SERVICES_CHANGED, &change("imu", true));
    assert_eq!(added[0].name, "org.freedesktop.DBus.ObjectManager.InterfacesAdded");
    assert_eq!(crate::types::signature_of(&added[0].items).unwrap(), "oa{sa{sv}}");
    assert_eq!(bench.notify(bus::SERVICES_CHANGED, &change("imu", true)), [], "it is there already");

    bench.offer(Vec::new());
    assert_eq!(bench.notify(bus::SERVICES_CHANGED, &change("secret", true)), [], "it is not for this caller");
    bench.router.forget(&caller());
    assert_eq!(bench.notify(bus::SERVICES_CHANGED, &change("imu", false)), []);
}

#[test]
fn who_may_not_hear_of_changes_has_the_objects_all_the_same() {
    let mut bench = Bench::with_imu();
    bench.answer(bus::SUBSCRIBE, denied());
    let objects = bench.call(ROOT, fixed::OBJECT_MANAGER, "GetManagedObjects", &[]).values();
    let MessageItem::Dict(all) = &objects[0] else { panic!("{objects:?}") };
    assert_eq!(all.len(), 1);
}

#[test]
fn no_component_is_an_empty_dictionary_of_the_right_type() {
    let mut bench = Bench::new();
    bench.offer(Vec::new());
    let objects = bench.call(ROOT, fixed::OBJECT_MANAGER, "GetManagedObjects", &[]).values();
    assert_eq!(crate::types::signature_of(&objects).unwrap(), "a{oa{sa{sv}}}");
}
