//! Interfaces that panic, never return or go while they are used, and registrations that cannot be.

use std::thread;
use std::time::Duration;

use visorbus_core::auth::{Key, KeyRing, Slot};
use visorbus_core::dispatch::Caller;
use visorbus_dbus::{
    DBusInterface, DBusMethod, DBusProperty, DBusPropertyAccess, DBusService, DBusSignal, MessageItem,
};
use visorbus_hub::{HubConfig, Result};
use visorbus_tests::patience::wait_until;

use crate::program::expect_refusal;
use crate::thermostat::NAME;
use crate::world::{PATH, SERVICE, World};

#[test]
fn a_panic_is_answered_and_ends_nothing() {
    let world = World::with_strangers();
    let program = world.program();
    for _ in 0..3 {
        expect_refusal(program.call(NAME, "Panics", &[]), "Internal", "panicked");
    }
    assert!(program.call(NAME, "Add", &[1i32.into(), 1i32.into()]).is_ok());
    world.is_unharmed();
}

#[test]
fn a_method_that_never_returns_costs_its_callers_their_time_and_nobody_else_theirs() {
    let time = Duration::from_secs(3);
    let mut world = World::with_hasty_panel("\"request:org.example.thermostat1/**\"", time);
    let (other, _release) =
        crate::thermostat::Thermostat::called("org.example.Other1", &crate::thermostat::Room::default());
    world.service.register_interface(other).unwrap();
    let (impatient, innocent) = (world.program(), world.program());
    let calls: Vec<u32> = (0..6).map(|_| impatient.begin(NAME, "Stuck", &[])).collect();
    for call in &calls {
        for _ in 0..4 {
            let sum = innocent.call("org.example.Other1", "Add", &[1i32.into(), 2i32.into()]);
            assert_eq!(sum, Ok(vec![3i32.into()]));
        }
        expect_refusal(impatient.answer(*call), "Timeout", "");
    }
    assert_eq!(impatient.call("org.freedesktop.DBus.Peer", "Ping", &[]), Ok(vec![]));
}

#[test]
fn what_runs_when_its_interface_goes_is_answered() {
    let mut world = World::with_panel("\"request:org.example.thermostat1/**\"");
    let program = world.program();
    let call = program.begin(NAME, "Stuck", &[]);
    wait_until("the method runs", || world.runs() == 1);
    world.service.unregister_interface(NAME).unwrap();
    expect_refusal(world.program().call(NAME, "Who", &[]), "UnknownInterface", NAME);
    world.release.send(()).unwrap();
    assert_eq!(program.answer(call), Ok(vec!["late".into()]));
}

#[test]
fn who_leaves_in_the_middle_of_a_call_harms_nobody() {
    let world = World::with_panel("\"request:org.example.thermostat1/**\"");
    let program = world.program();
    program.begin(NAME, "Stuck", &[]);
    wait_until("the method runs", || world.runs() == 1);
    drop(program);
    wait_until("its session ends", || world.service.active_connections().unwrap().is_empty());
    world.release.send(()).unwrap();
    world.is_unharmed();
}

#[test]
fn a_service_without_a_bus_stops_all_the_same() {
    let mut service = DBusService::new(SERVICE, PATH, config()).unwrap();
    let nowhere = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}", nowhere.path().join("no-bus").display());
    service.set_bus(visorbus_dbus::BusAddress::Address(address)).unwrap();
    assert!(service.emit_signal(NAME, "Tick", &[]).is_err());
    service.start().unwrap();
    assert!(service.start().is_err() && service.set_bus(visorbus_dbus::BusAddress::System).is_err());
    wait_until("it says why there is no bus", || {
        service.state().is_some_and(|state| !state.owns_name && state.trouble.is_some())
    });
    service.stop().unwrap();
    service.stop().unwrap();
}

#[test]
fn what_cannot_be_registered_is_refused_with_the_reason() {
    let mut service = DBusService::new(SERVICE, PATH, config()).unwrap();
    let method = |name: &str, takes: &str, gives: &str| DBusMethod {
        name: name.to_owned(),
        input_signature: takes.to_owned(),
        output_signature: gives.to_owned(),
        description: String::new(),
        requires_auth: true,
    };
    let property = |name: &str, signature: &str| DBusProperty {
        name: name.to_owned(),
        signature: signature.to_owned(),
        description: String::new(),
        access: DBusPropertyAccess::ReadWrite,
        requires_auth_read: true,
        requires_auth_write: true,
    };
    let fine =
        Plain { name: "org.example.Fine1", methods: vec![method("Do", "a{sv}", "ay")], properties: vec![] };
    for (name, text) in [
        ("nodots", "name"),
        ("org.example.1st", "name"),
        ("org.example.Über1", "name"),
        ("org.example.", "name"),
        ("org.freedesktop.DBus.Properties", "D-Bus"),
        ("org.visorbus.Bus1", "Visorbus"),
        ("org.visorbus.Component1", "Visorbus"),
        ("org.visorbus.components.Imu", "Visorbus"),
        ("org.example.AVeryLongInterfaceName1", "32 bytes"),
    ] {
        let refused = service.register_interface(Box::new(Plain { name, ..fine.clone() })).unwrap_err();
        assert!(refused.text().contains(name) && refused.text().contains(text), "{refused}");
    }
    let long = "AMethodWhoseNameIsFarTooLongForAnAddressOfTheHubItself";
    for (methods, properties, text) in [
        (vec![method("do-it", "", "")], vec![], "do-it"),
        (vec![method("Do", "a", "")], vec![], "'a'"),
        (vec![method("Do", "", "h")], vec![], "'h'"),
        (vec![method("Do", "a{vs}", "")], vec![], "'a{vs}'"),
        (vec![method("Do", "", ""), method("Do", "s", "")], vec![], "org.example.fine1/do"),
        (vec![method("GetIt", "", ""), method("GETIt", "", "")], vec![], "org.example.fine1/get-it"),
        (vec![method(long, "", "")], vec![], "a-method-whose"),
        (vec![], vec![property("Two", "ss")], "'ss'"),
        (vec![], vec![property("None", "")], "None"),
        (vec![], vec![property("One", "s"), property("One", "s")], "prop/one"),
    ] {
        let refused = service.register_interface(Box::new(Plain { methods, properties, ..fine.clone() }));
        let refused = refused.unwrap_err();
        assert!(refused.text().contains("org.example.Fine1") || refused.text().contains("org.example.fine1"));
        assert!(refused.text().contains(text), "{refused}");
    }
    service.register_interface(Box::new(fine.clone())).unwrap();
    assert!(service.register_interface(Box::new(fine.clone())).is_err(), "it is there already");
    service.unregister_interface("org.example.Fine1").unwrap();
    service.register_interface(Box::new(fine)).unwrap();
}

#[test]
fn many_programs_use_an_interface_at_once() {
    let world = World::with_panel("\"request:org.example.thermostat1/**\"");
    thread::scope(|scope| {
        for number in 0..8i32 {
            let program = world.program();
            scope.spawn(move || {
                for step in 0..50i32 {
                    let sum = program.call(NAME, "Add", &[number.into(), step.into()]);
                    assert_eq!(sum, Ok(vec![(number + step).into()]));
                }
            });
        }
    });
    assert_eq!(world.runs(), 400);
}

/// An interface that is never used.
#[derive(Clone)]
struct Plain {
    name: &'static str,
    methods: Vec<DBusMethod>,
    properties: Vec<DBusProperty>,
}

impl DBusInterface for Plain {
    fn name(&self) -> &str {
        self.name
    }

    fn methods(&self) -> Vec<DBusMethod> {
        self.methods.clone()
    }

    fn signals(&self) -> Vec<DBusSignal> {
        Vec::new()
    }

    fn properties(&self) -> Vec<DBusProperty> {
        self.properties.clone()
    }

    fn handle_method_call(
        &self,
        _method_name: &str,
        _args: &[MessageItem],
        _caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>> {
        Ok(Vec::new())
    }

    fn get_property(&self, _property_name: &str, _caller: &Caller<'_>) -> Result<MessageItem> {
        Ok(0u8.into())
    }

    fn set_property(&self, _property_name: &str, _value: MessageItem, _caller: &Caller<'_>) -> Result<()> {
        Ok(())
    }
}

fn config() -> HubConfig {
    let mut keys = KeyRing::new();
    keys.add(Slot::root(1, Key::new([7; 32]))).unwrap();
    HubConfig::new(keys, 1)
}
