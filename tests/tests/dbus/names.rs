//! The service and its bus: its name, and a bus that is not there, goes and comes.

use std::time::Duration;

use visorbus_dbus::{BusAddress, DBusConfig};
use visorbus_tests::dbus_daemon::{BusOptions, DbusDaemon};
use visorbus_tests::patience::ask_until;

use crate::world::{NAME, Program, World, config, error_of};

#[test]
fn a_name_that_somebody_else_has_is_taken_as_soon_as_it_is_free() {
    let bus = DbusDaemon::start();
    let owner = Program::new(&bus);
    let request = |flags: u32| {
        let call = dbus::Message::call_with_args(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "RequestName",
            (NAME, flags),
        );
        owner.ask(call).unwrap().read1::<u32>().unwrap()
    };
    assert_eq!(request(0), 1);
    let mut config = config(&bus);
    // Not by trying again, but by being told.
    config.retry_ms = 60_000;
    let world = World::with(config, "");
    let state = world.state_where(|state| state.trouble.is_some());
    assert!(state.trouble.as_ref().unwrap().contains("another program has the name"), "{state:?}");
    assert!(!state.owns_name && state.unique_name.is_some());
    world.is_unharmed_after(0);
    drop(owner);
    let state = world.state_where(|state| state.owns_name);
    assert_eq!((state.trouble, bus.owner(NAME)), (None, state.unique_name));
    world.is_unharmed_after(0);
}

#[test]
fn a_name_that_the_policy_of_the_bus_keeps_is_asked_for_again() {
    let rules = format!("<policy context=\"default\"><deny own=\"{NAME}\"/></policy>");
    let bus = DbusDaemon::with(&BusOptions { rules, ..BusOptions::default() });
    let world = World::start(&bus);
    let state = world.state_where(|state| state.trouble.is_some());
    assert!(state.trouble.unwrap().contains("policy"));
    // It is reached by the name that the bus gave it.
    let program = Program::new(&bus);
    let mut call = crate::world::call_of("vault/open", "sesame");
    call.set_destination(Some(state.unique_name.unwrap().into()));
    assert!(program.ask(call).is_ok());
    world.is_unharmed_after(1);
}

#[test]
fn callers_of_whom_the_bus_does_not_tell_are_refused_and_told_so() {
    let rules = "<policy context=\"default\"><deny send_destination=\"org.freedesktop.DBus\" \
        send_interface=\"org.freedesktop.DBus\" send_member=\"GetConnectionCredentials\"/></policy>";
    let bus = DbusDaemon::with(&BusOptions { rules: rules.to_owned(), ..BusOptions::default() });
    let world = World::start(&bus).named();
    let program = Program::new(&bus);
    for _ in 0..3 {
        let (name, text) = error_of(program.call("vault/open", "sesame"));
        assert!(name.ends_with("AuthFailed") && text.contains("does not tell who calls"), "{name}: {text}");
    }
    let state = world.state_where(|state| state.trouble.is_some());
    assert!(state.owns_name && state.trouble.as_ref().unwrap().contains("who calls"), "{state:?}");
    let statistics = world.door.statistics();
    assert_eq!((statistics.senders, statistics.waiting, statistics.refused), (0, 0, 3), "{statistics:?}");
    world.is_unharmed_after(0);
}

#[test]
fn no_bus_at_the_start_holds_up_nobody_and_is_found_when_it_comes() {
    let mut bus = DbusDaemon::start();
    bus.kill();
    let world = World::start(&bus);
    let state = world.state_where(|state| state.trouble.is_some());
    assert_eq!((state.unique_name, state.owns_name), (None, false));
    world.is_unharmed_after(0);
    bus.restart();
    world.state_where(|state| state.owns_name);
    assert_eq!(Program::new(&bus).call("vault/open", "sesame").unwrap(), "sesame");
    world.is_unharmed_after(1);
}

#[test]
fn a_bus_that_is_none_is_told_of() {
    for address in ["nonsense:", "unix:path=/nowhere/at/all", "unixexec:path=/bin/false"] {
        let mut config = DBusConfig::default();
        config.bus = BusAddress::Address(address.to_owned());
        let world = World::with(config, "");
        let state = world.state_where(|state| state.trouble.is_some());
        println!("{:?}", state.trouble);
        world.is_unharmed_after(0);
    }
}

#[test]
fn a_bus_that_is_killed_and_started_again_under_load_is_joined_again() {
    let mut bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    for round in 1..=3 {
        let programs: Vec<Program> = (0..4).map(|_| Program::new(&bus)).collect();
        world.gate.shut();
        for program in &programs {
            for _ in 0..50 {
                program.send(crate::world::call_of("vault/open", "sesame"));
            }
            program.send(crate::world::call_of("slow/open", "sesame"));
        }
        ask_until(|| world.runs(), |runs| *runs > 0);
        bus.kill();
        let state = world.state_where(|state| state.unique_name.is_none());
        assert!(!state.owns_name, "{state:?}");
        ask_until(|| world.peers_of("panel").len(), |count| *count == 0);
        assert!(world.round_trip() < Duration::from_secs(5));
        world.gate.open();
        bus.restart();
        world.state_where(|state| state.owns_name);
        let statistics = world.door.statistics();
        assert_eq!((statistics.connects, statistics.senders, statistics.faults), (round + 1, 0, 0));
        assert_eq!(Program::new(&bus).call("vault/open", "sesame").unwrap(), "sesame");
        ask_until(|| world.peers_of("panel").len(), |count| *count == 0);
    }
}

#[test]
fn what_cannot_be_a_name_a_path_or_a_limit_is_refused_at_once() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus);
    type Change = fn(&mut DBusConfig);
    let changes: [(Change, &str); 6] = [
        (|config| config.service_name = "org.example\0.Bus1".to_owned(), "name of a service"),
        (|config| config.object_path = "/org\0/example".to_owned(), "path of an object"),
        (|config| config.service_name = ":1.7".to_owned(), "name of a service"),
        (|config| config.service_name = "nodots".to_owned(), "name of a service"),
        (|config| config.object_path = "no/slash".to_owned(), "path of an object"),
        (|config| config.max_senders = 0, "limit"),
    ];
    for (change, said) in changes {
        let mut config = config(&bus);
        change(&mut config);
        let error = visorbus_dbus::DBusListener::new(config, &world.handle).unwrap_err();
        assert!(error.text().contains(said), "{error}");
    }
    let program = Program::new(&bus);
    drop(world);
    let (name, _) = error_of(program.call("vault/open", "sesame"));
    assert!(name.contains("ServiceUnknown") || name.contains("NameHasNoOwner"), "{name}");
}
