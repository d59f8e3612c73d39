//! Registered interfaces.

use super::*;
use crate::carrier;
use crate::described::Described;
use crate::interface::{DBusMethod, DBusProperty, DBusPropertyAccess, DBusSignal};

const CONFIG: &str = "org.visorbus.Config1";
const GET_VALUE: &str = "org.visorbus.config1/get-value";

fn described() -> Described {
    let method = |name: &str, takes: &str, gives: &str, requires_auth| DBusMethod {
        name: name.to_owned(),
        input_signature: takes.to_owned(),
        output_signature: gives.to_owned(),
        description: String::new(),
        requires_auth,
    };
    let signal = |name: &str, requires_auth| DBusSignal {
        name: name.to_owned(),
        signature: "s".to_owned(),
        description: String::new(),
        requires_auth,
    };
    let property = |name: &str, access, requires_auth_read| DBusProperty {
        name: name.to_owned(),
        signature: "u".to_owned(),
        description: "a number".to_owned(),
        access,
        requires_auth_read,
        requires_auth_write: true,
    };
    Described {
        name: CONFIG.to_owned(),
        component: CONFIG.to_ascii_lowercase(),
        methods: vec![method("GetValue", "s", "v", true), method("Any", "v", "", false)],
        signals: vec![signal("ConfigChanged", true), signal("Tick", false)],
        properties: vec![
            property("Version", DBusPropertyAccess::Read, false),
            property("Level", DBusPropertyAccess::ReadWrite, true),
            property("Trigger", DBusPropertyAccess::Write, true),
        ],
    }
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.router.register(Arc::new(described())).unwrap();
    bench.answer(bus::SUBSCRIBE, Ok(OwnedPayload::Empty));
    bench.answer(GET_VALUE, carrier::pack(&[items::variant(MessageItem::UInt32(7))]));
    bench.answer("org.visorbus.config1/prop/version", carrier::pack(&[MessageItem::UInt32(1)]));
    bench.answer("org.visorbus.config1/prop/level", carrier::pack(&[MessageItem::UInt32(2)]));
    bench.answer("org.visorbus.config1/prop/level/set", Ok(OwnedPayload::Empty));
    bench
}

#[test]
fn a_method_is_a_request_to_its_address_with_the_marshalled_arguments() {
    let mut bench = bench();
    let answer = bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).value();
    assert_eq!(answer, MessageItem::UInt32(7));
    let (address, payload, as_guest) = bench.asked[0].clone();
    assert_eq!((address.as_str(), as_guest), (GET_VALUE, false));
    let OwnedPayload::Binary(bytes) = payload else { panic!("bytes") };
    assert_eq!(carrier::unpack(&bytes).unwrap(), [text("rate")]);
    bench.answer("org.visorbus.config1/any", Ok(OwnedPayload::Empty));
    bench.call(ROOT, CONFIG, "Any", &[items::variant(text("x"))]).values();
    assert!(bench.asked.last().unwrap().2, "anybody may");
}

#[test]
fn arguments_and_answers_have_the_declared_signatures_or_are_errors() {
    let mut bench = bench();
    let (name, said) = bench.call(ROOT, CONFIG, "GetValue", &[MessageItem::UInt32(1)]).error();
    assert_eq!(
        (name.as_str(), said.as_str()),
        (fault::INVALID_ARGS, "org.visorbus.Config1.GetValue takes 's', not 'u'")
    );
    assert_eq!(bench.asked(), Vec::<String>::new());
    bench.answer(GET_VALUE, carrier::pack(&[MessageItem::UInt32(7)]));
    assert_eq!(bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).error().0, fault::SERIALIZATION);
    bench.answer(GET_VALUE, Ok(OwnedPayload::Binary(vec![1, 2, 3])));
    assert_eq!(bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).error().0, fault::SERIALIZATION);
    bench.answer(GET_VALUE, denied());
    assert_eq!(bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).error().0, fault::ACCESS_DENIED);
}

#[test]
fn properties_are_read_and_written_at_their_addresses() {
    let mut bench = bench();
    let version = bench.call(ROOT, fixed::PROPERTIES, "Get", &[text(CONFIG), text("Version")]).value();
    assert_eq!(version, MessageItem::UInt32(1));
    let all = bench.call(ROOT, fixed::PROPERTIES, "GetAll", &[text(CONFIG)]).values();
    let MessageItem::Dict(all) = &all[0] else { panic!("{all:?}") };
    assert_eq!(all.len(), 2, "the one that is only written is not there");
    let set = |name: &str, value| [text(CONFIG), text(name), items::variant(value)];
    bench.asked();
    bench.call(ROOT, fixed::PROPERTIES, "Set", &set("Level", MessageItem::UInt32(9))).values();
    assert_eq!(bench.asked(), ["org.visorbus.config1/prop/level/set"]);
    for (name, value, expected) in [
        ("Level", text("9"), fault::INVALID_ARGS),
        ("Version", MessageItem::UInt32(9), fault::PROPERTY_READ_ONLY),
        ("Nothing", MessageItem::UInt32(9), fault::UNKNOWN_PROPERTY),
    ] {
        assert_eq!(
            bench.call(ROOT, fixed::PROPERTIES, "Set", &set(name, value)).error().0,
            expected,
            "{name}"
        );
    }
    let get = [text(CONFIG), text("Trigger")];
    assert_eq!(bench.call(ROOT, fixed::PROPERTIES, "Get", &get).error().0, fault::INVALID_ARGS);
    assert_eq!(bench.asked(), Vec::<String>::new());
    bench.answer("org.visorbus.config1/prop/level", denied());
    let some = bench.call(ROOT, fixed::PROPERTIES, "GetAll", &[text(CONFIG)]).values();
    let MessageItem::Dict(some) = &some[0] else { panic!("{some:?}") };
    assert_eq!(some.len(), 1, "and what may not be read is left out");
}

#[test]
fn its_signals_reach_those_who_have_used_it_and_may_hear_them() {
    let mut bench = bench();
    let topic = "org.visorbus.config1/config-changed";
    let payload = carrier::pack(&[text("rate")]).unwrap();
    assert_eq!(bench.notify(topic, &payload), []);
    bench.asked();
    bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).values();
    assert_eq!(bench.asked(), [GET_VALUE, bus::SUBSCRIBE]);
    bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).values();
    assert_eq!(bench.asked(), [GET_VALUE], "once is enough");
    let signals = bench.notify(topic, &payload);
    assert_eq!(signals.len(), 1);
    assert_eq!(
        (signals[0].name.as_str(), signals[0].to.as_str()),
        ("org.visorbus.Config1.ConfigChanged", ":1.7")
    );
    assert_eq!(signals[0].items, [text("rate")]);
    let wrong = carrier::pack(&[MessageItem::UInt32(1)]).unwrap();
    assert_eq!(bench.notify(topic, &wrong), [], "of another signature");
}

#[test]
fn who_may_not_hear_its_signals_hears_none() {
    let mut bench = bench();
    bench.answer(bus::SUBSCRIBE, denied());
    bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).values();
    let payload = carrier::pack(&[text("rate")]).unwrap();
    assert_eq!(bench.notify("org.visorbus.config1/config-changed", &payload), []);
    assert_eq!(bench.subscriptions().len(), 0);
}

#[test]
fn a_signal_for_everybody_is_broadcast_and_others_are_not() {
    let bench = bench();
    let tick = bench.router.signal(CONFIG, "Tick", &[text("now")]).unwrap();
    assert!(tick.destination().is_none());
    for (name, args) in [("ConfigChanged", vec![text("x")]), ("Nothing", vec![]), ("Tick", vec![])] {
        assert!(bench.router.signal(CONFIG, name, &args).is_err(), "{name}");
    }
}

#[test]
fn a_changed_property_is_told_with_its_value_only_where_anybody_may_read_it() {
    let mut bench = bench();
    let value = MessageItem::UInt32(3);
    let open = bench.router.property_changed(CONFIG, "Version", &value).unwrap();
    assert!(open.len() == 1 && open[0].destination().is_none());
    let open = super::Reply::of(&open[0]);
    assert_eq!(open.name, "org.freedesktop.DBus.Properties.PropertiesChanged");
    assert_eq!(open.items, [text(CONFIG), options([("Version", value.clone())]), items::array("s", vec![])]);

    assert_eq!(bench.router.property_changed(CONFIG, "Level", &value).unwrap().len(), 0);
    bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).values();
    let told = bench.router.property_changed(CONFIG, "Level", &value).unwrap();
    let told = super::Reply::of(&told[0]);
    assert_eq!((told.to.as_str(), &told.items[1]), (":1.7", &options([])));
    assert_eq!(told.items[2], items::array("s", vec![text("Level")]));
    assert!(bench.router.property_changed(CONFIG, "Level", &text("3")).is_err());
}

#[test]
fn who_is_somebody_else_now_has_not_used_the_interface() {
    let mut bench = bench();
    bench.router.opened(&caller(), "admin");
    bench.call(ROOT, CONFIG, "GetValue", &[text("rate")]).values();
    bench.router.opened(&caller(), "admin");
    let level = MessageItem::UInt32(3);
    assert_eq!(bench.router.property_changed(CONFIG, "Level", &level).unwrap().len(), 1);
    assert_eq!(bench.subscriptions().len(), 1, "its next session hears the signals too");
    bench.router.opened(&caller(), "guest");
    assert_eq!(bench.router.property_changed(CONFIG, "Level", &level).unwrap().len(), 0);
    assert_eq!(bench.subscriptions().len(), 0);
}

#[test]
fn a_name_is_registered_once_and_unregistered_completely() {
    let mut bench = bench();
    assert!(bench.router.register(Arc::new(described())).is_err());
    let own = Described { name: BUS.to_owned(), ..described() };
    assert!(bench.router.register(Arc::new(own)).is_err());
    let xml = bench.call(ROOT, fixed::INTROSPECTABLE, "Introspect", &[]).text();
    assert!(xml.contains("<interface name=\"org.visorbus.Config1\">"), "{xml}");
    assert!(bench.router.unregister(CONFIG));
    assert!(!bench.router.unregister(CONFIG));
    assert_eq!(bench.call(ROOT, CONFIG, "GetValue", &[text("x")]).error().0, fault::UNKNOWN_INTERFACE);
    let xml = bench.call(ROOT, fixed::INTROSPECTABLE, "Introspect", &[]).text();
    assert!(!xml.contains("Config1"), "{xml}");
}
