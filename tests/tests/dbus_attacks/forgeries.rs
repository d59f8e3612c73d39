//! Who is who: everything in a message that its sender can write itself is worth nothing.

use std::time::Duration;

use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::wait_until;

use crate::program::expect_refusal;
use crate::raw::{ERROR, RETURN, Raw, RawBus, SIGNAL, pad, put_signature, put_text};
use crate::world::{ROOT, SERVICE, Setup, World};

/// So that also what a bus usually keeps from us arrives: answers that nobody has asked for.
const LENIENT: &str = "<policy context=\"mandatory\"><allow send_destination=\"*\" send_requested_reply=\"false\"/>\
    <allow receive_requested_reply=\"false\"/></policy>";
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

#[test]
fn that_somebody_has_left_is_believed_from_the_bus_alone() {
    for_every_bus(|world| {
        let victim = world.program();
        victim.subscribe("vault/**").unwrap();
        let wall = world.statistics();
        let mut mallory = RawBus::connect(&world.bus.socket());
        for (path, interface, member, sender) in [
            (BUS_PATH, BUS, "NameOwnerChanged", None),
            (BUS_PATH, BUS, "NameOwnerChanged", Some(BUS)),
            (BUS_PATH, BUS, "NameOwnerChanged", Some(victim.unique_name())),
            (ROOT, BUS, "NameOwnerChanged", None),
        ] {
            let mut signal = Raw::new(SIGNAL).at(path).field(2, 's', interface).field(3, 's', member);
            signal = signal.to(&world.unique_name()).signed("sss");
            if let Some(sender) = sender {
                signal = signal.from(sender);
            }
            [victim.unique_name(), victim.unique_name(), ""]
                .iter()
                .for_each(|text| put_text(&mut signal.body, text));
            mallory.send(&signal);
        }
        // The service's own name, taken away by somebody.
        let mut lost = Raw::new(SIGNAL).at(BUS_PATH).field(2, 's', BUS).field(3, 's', "NameLost");
        lost = lost.to(&world.unique_name()).signed("s");
        put_text(&mut lost.body, SERVICE);
        mallory.send(&lost);
        answered(&mut mallory);
        let now = world.statistics();
        assert_eq!((now.sessions, now.connects), (wall.sessions, 1), "{now:?}");
        assert!(world.door.state().owns_name, "{:?}", world.door.state());
        let unsubscribed = victim.call(SERVICE, "Unsubscribe", &["vault/**".into()]);
        assert!(unsubscribed.is_ok(), "its subscription is still there: {unsubscribed:?}");
        world.is_unharmed();
    });
}

/// The service asks the bus who somebody is; somebody else answers with the number that the question will have.
#[test]
fn an_answer_to_the_service_s_own_questions_is_believed_from_the_bus_alone() {
    let rules = Setup::on_a_bus_with(LENIENT);
    // Whoever runs the test may do nothing; root, whom the forger would like to be, may do everything.
    let uid = rustix::process::getuid().as_raw();
    let boss = uid + 17;
    let policy = format!(
        "[[unix]]\nuid = {boss}\nsubject = \"boss\"\nscopes = [\"boss\"]\n[[rule]]\nscope = \"boss\"\nallow = [\"*\"]\n"
    );
    let world = World::of(Setup { policy, allow: "\"request:nothing/*\"", ..rules });
    let us = world.unique_name();
    let mut forger = RawBus::connect(&world.bus.socket());
    // This bus does pass on what nobody has asked for.
    let witness = world.program();
    forger.send(&Raw::new(RETURN).to(witness.unique_name()).answers(4711));
    assert_eq!(witness.answer(4711), Ok(Vec::new()));
    let credentials = {
        let mut entry = Vec::new();
        put_text(&mut entry, "UnixUserID");
        put_signature(&mut entry, "u");
        pad(&mut entry, 4);
        entry.extend(boss.to_le_bytes());
        let mut body = (entry.len() as u32).to_le_bytes().to_vec();
        pad(&mut body, 8);
        body.extend(entry);
        body
    };
    for round in 0..20 {
        // All numbers that the next questions can have.
        for serial in (1..50).chain((1 << 16)..(1 << 16) + 300) {
            let mut forged = Raw::new(RETURN).to(&us).answers(serial).signed("a{sv}");
            forged.body.clone_from(&credentials);
            forger.send(&forged);
            if round == 0 {
                let mut refusal = Raw::new(ERROR).to(&us).answers(serial).signed("s");
                refusal = refusal.field(4, 's', "org.freedesktop.DBus.Error.NameHasNoOwner").from(BUS);
                put_text(&mut refusal.body, "gone");
                forger.send(&refusal);
            }
        }
        let mallory = world.program();
        expect_refusal(mallory.call_address("vault/open", "let me in"), "AccessDenied", "");
        assert_eq!(
            mallory.call(BUS_PROPERTIES, "Get", &[SERVICE.into(), "Subject".into()]).unwrap(),
            [boxed("panel")]
        );
    }
    answered(&mut forger);
    world.serves_neighbours();
    assert_eq!(world.runs(), 1, "the neighbour's call alone");
    assert!(world.door.state().owns_name);
    let stats = world.statistics();
    assert_eq!((stats.faults, stats.connects), (0, 1), "{stats:?}");
}

#[test]
fn a_sender_and_a_destination_that_somebody_writes_are_not_believed() {
    for_every_bus(|world| {
        let victim = world.authenticated("keeper", &["request:config/*"]);
        victim.call_address("config/open", "mine").unwrap();
        let mut mallory = RawBus::connect(&world.bus.socket());
        for sender in [victim.unique_name(), BUS, SERVICE, world.unique_name().as_str()] {
            for destination in [SERVICE, world.unique_name().as_str()] {
                let mut call =
                    Raw::call(ROOT, SERVICE, "Call").to(destination).from(sender).signed("sva{sv}");
                call.body = call_body("config/open");
                let serial = mallory.send(&call);
                // A bus puts the true sender in its place, or hangs up.
                let Some(answer) = mallory.answer(serial) else {
                    mallory = RawBus::connect(&world.bus.socket());
                    continue;
                };
                let (name, text) = answer.unwrap_err();
                assert!(name.ends_with("AccessDenied"), "{name} {text}");
            }
        }
        // A destination that is not the service's, to the service.
        let mut call = Raw::call(ROOT, SERVICE, "Call").to(victim.unique_name()).signed("sva{sv}");
        call.body = call_body("config/open");
        mallory.send(&call);
        world.is_unharmed_after(1);
    });
}

#[test]
fn a_well_known_name_makes_nobody_somebody() {
    for_every_bus(|world| {
        let keeper = world.authenticated("keeper", &["request:config/*"]);
        keeper.own("org.visorbus.Keeper");
        keeper.call_address("config/open", "mine").unwrap();
        drop(keeper);
        wait_until("it is gone", || world.bus.owner("org.visorbus.Keeper").is_none());
        // The same name, and what looks like names of ours.
        let mallory = world.program();
        for name in [
            "org.visorbus.Keeper",
            "org.visorbus.keeper",
            "keeper.hub",
            "org.visorbus.Bus1.Admin",
            "org.visorbus.components.Config",
        ] {
            mallory.own(name);
            expect_refusal(mallory.call_address("config/open", "mine too"), "AccessDenied", "");
        }
        world.is_unharmed_after(1);
    });
}

#[test]
fn signals_to_the_service_do_nothing() {
    for_every_bus(|world| {
        let us = world.unique_name();
        let before = world.statistics();
        let mut mallory = RawBus::connect(&world.bus.socket());
        for (interface, member) in [
            (SERVICE, "Call"),
            (SERVICE, "Notification"),
            (SERVICE, "SessionEnded"),
            ("org.freedesktop.DBus.Properties", "PropertiesChanged"),
            ("org.freedesktop.DBus.Properties", "Set"),
            (crate::settings::NAME, "Any"),
            (crate::settings::NAME, "Private"),
            (BUS, "NameAcquired"),
        ] {
            for destination in [Some(us.as_str()), Some(SERVICE), None] {
                let mut signal = Raw::new(SIGNAL).at(ROOT).field(2, 's', interface).field(3, 's', member);
                signal = signal.signed("sva{sv}");
                signal.body = call_body("vault/open");
                mallory.send(&if let Some(to) = destination { signal.to(to) } else { signal });
            }
        }
        answered(&mut mallory);
        let after = world.statistics();
        assert_eq!((after.faults, after.calls), (before.faults, before.calls + 1), "{after:?}");
        assert!(mallory.is_quiet_for(Duration::from_millis(50)));
        world.is_unharmed();
    });
}

fn for_every_bus(attack: impl Fn(&World)) {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let allow = "\"request:vault/*\", \"subscribe:vault/**\"";
        attack(&World::of(Setup { bus, allow, ..Setup::default() }));
    }
}

/// Waits until the service has taken all that was sent before.
fn answered(peer: &mut RawBus) {
    let serial = peer.send(&Raw::of("org.freedesktop.DBus.Peer", "Ping", "", Vec::new()));
    assert!(peer.answer(serial).expect("the bus stays").is_ok());
}

/// The arguments of `Call` with a text.
fn call_body(address: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, address);
    put_signature(&mut body, "s");
    put_text(&mut body, "x");
    pad(&mut body, 4);
    body.extend(0u32.to_le_bytes());
    pad(&mut body, 8);
    body
}

fn boxed(text: &str) -> dbus::arg::messageitem::MessageItem {
    crate::program::variant(text)
}

const BUS_PROPERTIES: &str = "org.freedesktop.DBus.Properties";
