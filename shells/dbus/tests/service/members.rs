//! Methods, properties and signals of an interface of one's own.

use visorbus_dbus::MessageItem;
use visorbus_tests::patience::wait_until;

use crate::program::{PROPERTIES, Program, expect_refusal};
use crate::thermostat::{NAME, Room, Thermostat};
use crate::world::{PATH, World};

#[test]
fn a_method_takes_and_gives_what_its_signatures_say() {
    let world = World::with_strangers();
    let program = world.program();
    assert_eq!(program.call(NAME, "Add", &[40i32.into(), 2i32.into()]), Ok(vec![42i32.into()]));
    let details = vec![
        ("a".into(), MessageItem::Variant(Box::new(7u64.into()))),
        ("b".into(), MessageItem::Variant(Box::new(MessageItem::Variant(Box::new("deep".into()))))),
    ];
    let args = [
        "grüße".into(),
        MessageItem::new_dict(details).unwrap(),
        MessageItem::Struct(vec![1u8.into(), 0.5f64.into()]),
        MessageItem::new_array(vec![1u8.into(), 0u8.into()]).unwrap(),
    ];
    assert_eq!(program.call(NAME, "Echo", &args), Ok(args.to_vec()));
}

#[test]
fn arguments_of_another_signature_reach_no_method() {
    let world = World::with_panel("\"request:org.example.thermostat1/**\"");
    let program = world.program();
    for args in [
        vec![],
        vec![1i32.into()],
        vec![1i32.into(), 2u32.into()],
        vec![1i32.into(), 2i32.into(), 3i32.into()],
        vec![MessageItem::Variant(Box::new(1i32.into())), 2i32.into()],
    ] {
        expect_refusal(program.call(NAME, "Add", &args), "InvalidArgs", "'ii'");
    }
    expect_refusal(program.call(NAME, "Subtract", &[]), "UnknownMethod", "Subtract");
    expect_refusal(program.call("org.example.Other1", "Add", &[]), "UnknownInterface", "org.example.Other1");
    expect_refusal(program.set(NAME, "Target", "warm".into()), "InvalidArgs", "'d'");
    expect_refusal(
        program.set(NAME, "Target", MessageItem::Variant(Box::new(2f64.into()))),
        "InvalidArgs",
        "'d'",
    );
    assert_eq!(world.runs(), 0);
    world.is_unharmed();
}

#[test]
fn what_is_not_of_the_promised_signature_is_not_sent() {
    let world = World::with_strangers();
    let program = world.program();
    expect_refusal(program.call(NAME, "AnswersWrong", &[]), "Internal", "'u', not 's'");
    expect_refusal(program.call(NAME, "AnswersTooMuch", &[]), "Internal", "'u', not 'uu'");
    expect_refusal(program.get(NAME, "Broken"), "Internal", "'u', not 's'");
    let door = world.service.door().unwrap();
    assert!(door.emit_signal(NAME, "Tick", &["one".into()]).unwrap_err().text().contains("'u', not 's'"));
    assert!(door.emit_signal(NAME, "Tock", &[]).unwrap_err().text().contains("no signal 'Tock'"));
    assert!(door.property_changed(NAME, "Target", &"x".into()).unwrap_err().text().contains("'d', not 's'"));
    assert!(door.property_changed(NAME, "Pin", &1u32.into()).unwrap_err().text().contains("to be read"));
}

#[test]
fn an_error_s_kind_is_the_name_of_the_d_bus_error() {
    let world = World::with_panel("\"request:org.example.thermostat1/**\"");
    let fails = |program: &Program, why: &str| program.call(NAME, "Fails", &[why.into()]);
    let panel = world.program();
    expect_refusal(fails(&panel, "busy"), "org.freedesktop.DBus.Error.Timeout", "it is busy");
    expect_refusal(fails(&panel, "rule"), "org.freedesktop.DBus.Error.AccessDenied", "not after ten");
    expect_refusal(fails(&panel, "no such room"), "org.visorbus.Error.Message", "no such room");

    let world = World::with_strangers();
    let stranger = world.program();
    expect_refusal(fails(&stranger, "busy"), "org.freedesktop.DBus.Error.Timeout", "it is busy");
    // To authenticate is the first thing that somebody unknown can do about a refusal.
    expect_refusal(fails(&stranger, "rule"), "org.freedesktop.DBus.Error.AuthFailed", "not after ten");
}

#[test]
fn a_property_that_one_sets_is_told_to_others() {
    let world = World::with_panel("\"request:org.example.thermostat1/**\"");
    let (panel, watcher) = (world.program(), world.program());
    watcher.listen(PROPERTIES);
    panel.set(NAME, "Target", 21.5f64.into()).unwrap();
    let (signal, args) = watcher.signal("PropertiesChanged");
    assert_eq!(signal.path().as_deref(), Some(PATH));
    assert_eq!(changed(&args), (NAME.to_owned(), vec![("Target".to_owned(), 21.5)], vec![]));
    assert_eq!(panel.get(NAME, "Target"), Ok(21.5f64.into()));

    panel.set(NAME, "Target", 1f64.into()).unwrap();
    let (_, args) = watcher.signal("PropertiesChanged");
    assert_eq!(changed(&args).1, [("Target".to_owned(), 5.0)], "as it is, not as it was written");

    expect_refusal(panel.set(NAME, "Target", 99f64.into()), "Message", "30 degrees at most");
    panel.set(NAME, "Pin", 7u32.into()).unwrap();
    assert!(watcher.signals_so_far().is_empty(), "what failed, and what nobody may read, is told to nobody");

    world.service.property_changed(NAME, "Target", &19f64.into()).unwrap();
    let (_, args) = watcher.signal("PropertiesChanged");
    assert_eq!(changed(&args).1, [("Target".to_owned(), 19.0)], "it has changed by itself");
}

#[test]
fn a_property_that_not_everybody_may_read_is_told_of_without_its_value_and_not_to_everybody() {
    let world = World::with_strangers();
    let [owner, user, listener] = [0; 3].map(|_| world.authenticated("owner", &["*"]));
    for program in [&user, &listener] {
        program.listen(PROPERTIES);
    }
    assert_eq!(user.get(NAME, "Code"), Ok("1234".into()), "that is use of the interface");
    assert!(listener.call(NAME, "WhoIfAny", &[]).is_ok(), "and what everybody may do is not");
    owner.set(NAME, "Code", "5678".into()).unwrap();
    let (signal, args) = user.signal("PropertiesChanged");
    let none = vec![];
    assert_eq!(changed(&args), (NAME.to_owned(), none, vec!["Code".into()]));
    assert!(signal.sender().is_some());
    assert!(listener.signals_so_far().is_empty());
}

#[test]
fn who_wants_no_reply_gets_none_and_the_method_runs() {
    let world = World::with_strangers();
    let program = world.program();
    let call = program.begin_without_reply(NAME, "Add", &[1i32.into(), 2i32.into()]);
    let wrong = program.begin_without_reply(NAME, "Add", &[]);
    let panics = program.begin_without_reply(NAME, "Panics", &[]);
    wait_until("both methods run", || world.runs() == 2);
    assert!(program.call(NAME, "Add", &[1i32.into(), 2i32.into()]).is_ok());
    assert!(program.replies_so_far().iter().all(|reply| ![call, wrong, panics].contains(reply)));
}

#[test]
fn properties_are_read_one_by_one_and_all_at_once_as_far_as_the_caller_may() {
    let world = World::with_panel("\"request:org.example.thermostat1/prop/owner\"");
    let panel = world.program();
    assert_eq!(panel.get(NAME, "Owner"), Ok("panel".into()));
    expect_refusal(panel.get(NAME, "Code"), "AccessDenied", "org.example.thermostat1/prop/code");
    expect_refusal(panel.set(NAME, "Target", 20f64.into()), "AccessDenied", "prop/target/set");
    expect_refusal(panel.set(NAME, "Owner", "me".into()), "PropertyReadOnly", "Owner");
    expect_refusal(panel.get(NAME, "Pin"), "InvalidArgs", "only be written");
    expect_refusal(panel.get(NAME, "Colour"), "UnknownProperty", "Colour");
    assert_eq!(panel.all(NAME), Ok(vec!["Owner".to_owned(), "Target".to_owned()]));
    let owner = world.authenticated("owner", &["*"]);
    assert_eq!(owner.all(NAME), Ok(["Code", "Owner", "Target"].map(str::to_owned).to_vec()));
}

#[test]
fn a_signal_for_everybody_reaches_everybody_and_another_those_who_may() {
    let world = World::with_panel("\"request:org.example.thermostat1/who\"");
    let [user, listener] = [world.authenticated("owner", &["*"]), world.authenticated("other", &["*"])];
    let panel = world.program();
    for program in [&user, &listener, &panel] {
        program.listen(NAME);
    }
    // Using it is what makes one hear of it; the panel uses it too and may not subscribe.
    assert_eq!(user.call(NAME, "Who", &[]), Ok(vec!["owner".into()]));
    assert_eq!(panel.call(NAME, "Who", &[]), Ok(vec!["panel".into()]));
    world.service.emit_signal(NAME, "TargetReached", &[20f64.into(), "hall".into()]).unwrap();
    world.service.emit_signal(NAME, "Tick", &[1u32.into()]).unwrap();
    let (signal, args) = user.signal("TargetReached");
    assert_eq!(args, [20f64.into(), "hall".into()]);
    assert_eq!((signal.path().as_deref(), signal.interface().as_deref()), (Some(PATH), Some(NAME)));
    for program in [&listener, &panel] {
        let (_, args) = program.signal("Tick");
        assert_eq!(args, [1u32.into()]);
        assert!(program.signals_so_far().is_empty(), "only who has used it and may hear it does");
    }
}

#[test]
fn interfaces_come_and_go_while_the_service_runs() {
    let mut world = World::with_strangers();
    let program = world.program();
    let room = Room::default();
    let (second, _release) = Thermostat::called("org.example.Second1", &room);
    world.service.register_interface(second).unwrap();
    let (again, _release) = Thermostat::called("org.example.Second1", &room);
    assert!(world.service.register_interface(again).unwrap_err().text().contains("org.example.second1"));
    let introspect = || {
        let xml = program.call("org.freedesktop.DBus.Introspectable", "Introspect", &[]).unwrap();
        let [MessageItem::Str(xml)] = xml.as_slice() else { panic!("{xml:?}") };
        xml.clone()
    };
    let xml = introspect();
    assert!(xml.contains(NAME) && xml.contains("org.example.Second1"), "{xml}");
    assert!(
        xml.contains("What Echo does.") && xml.contains("sa{sv}(yd)ay") == xml.contains("no split"),
        "{xml}"
    );
    // A proxy that keeps values knows which signals come without one.
    let ours = element(&xml, NAME);
    let without = ours.matches("Property.EmitsChangedSignal\" value=\"invalidates\"").count();
    assert_eq!(without, ours.matches("RequiresAuth.Read\" value=\"true\"").count(), "{ours}");
    assert!(without > 0 && without < ours.matches("<property ").count(), "{ours}");
    assert!(program.call("org.example.Second1", "Add", &[1i32.into(), 1i32.into()]).is_ok());
    world.service.unregister_interface("org.example.Second1").unwrap();
    assert!(!introspect().contains("org.example.Second1"));
    expect_refusal(program.call("org.example.Second1", "Add", &[]), "UnknownInterface", "Second1");
    assert!(world.service.unregister_interface("org.example.Second1").is_err());
    wait_until("the interface is dropped", || std::sync::Arc::strong_count(&room.runs) == 1);
    world.is_unharmed();
}

#[test]
fn the_interface_in_the_repository_is_the_one_that_the_service_shows() {
    let world = World::with_strangers();
    let xml = world.program().call("org.freedesktop.DBus.Introspectable", "Introspect", &[]).unwrap();
    let [MessageItem::Str(shown)] = xml.as_slice() else { panic!("{xml:?}") };
    let name = "org.visorbus.Bus1";
    let interfaces = visorbus_dbus::files::interfaces();
    let (_, file) = interfaces.iter().find(|(of, _)| of == name).unwrap();
    assert_eq!(element(file, name), element(shown, name));
    assert_eq!(interfaces.len(), 2);
}

/// An interface in introspection data.
fn element<'a>(xml: &'a str, interface: &str) -> &'a str {
    let from = xml.find(&format!("<interface name=\"{interface}\">")).expect("the interface is there");
    let len = xml[from..].find("</interface>").expect("it ends");
    &xml[from..from + len]
}

/// The interface, what has a new value, and what has changed without.
fn changed(args: &[MessageItem]) -> (String, Vec<(String, f64)>, Vec<MessageItem>) {
    let [MessageItem::Str(interface), MessageItem::Dict(values), MessageItem::Array(without)] = args else {
        panic!("{args:?} are not the arguments of PropertiesChanged");
    };
    let values = values.iter().map(|(name, value)| match (name, value) {
        (MessageItem::Str(name), MessageItem::Variant(value)) => match **value {
            MessageItem::Double(value) => (name.clone(), value),
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    (interface.clone(), values.collect(), without.to_vec())
}
