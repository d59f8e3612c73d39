//! File descriptors where none is expected, and indices of descriptors that are not there: a known way to make a library
//! panic that reads `h`.

use std::os::fd::AsFd as _;

use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::floods::is_alone;
use crate::messages::a_file;
use crate::raw::{NO_REPLY, Raw, RawBus, pad, put_signature, put_text};
use crate::settings::NAME;
use crate::world::{ROOT, SERVICE, Setup, World};

#[test]
fn a_descriptor_that_nobody_asked_for_is_refused_and_closed() {
    if !is_alone("fds::a_descriptor_that_nobody_asked_for_is_refused_and_closed") {
        return;
    }
    for_every_bus(|world| {
        let mut mallory = RawBus::connect(&world.bus.socket());
        let file = a_file();
        let before = open_files();
        for _ in 0..50 {
            for call in calls() {
                let serial = mallory.send_with(&call.with_descriptors(1), file.as_fd());
                let (name, text) = mallory.answer(serial).expect("the bus stays").unwrap_err();
                assert!(name.ends_with("InvalidArgs") && text.contains("descriptor"), "{name} {text}");
            }
        }
        // Beside arguments that are as they should be, and where nobody waits for an answer.
        for call in [
            Raw::of("org.freedesktop.DBus.Peer", "Ping", "", Vec::new()),
            Raw::of(NAME, "Guarded", "s", text("x")),
        ] {
            let serial = mallory.send_with(&call.clone().with_descriptors(1), file.as_fd());
            let (name, _) = mallory.answer(serial).expect("the bus stays").unwrap_err();
            assert!(name.ends_with("InvalidArgs"), "{name}");
            mallory.send_with(&Raw { flags: NO_REPLY, ..call.with_descriptors(1) }, file.as_fd());
        }
        world.is_unharmed();
        assert!(open_files() <= before + 4, "{} descriptors more than before", open_files() - before);
        assert_eq!(world.statistics().faults, 0, "nothing has broken over it");
        assert!(world.statistics().refused >= 50 * calls().len() as u64, "{:?}", world.statistics());
    });
}

#[test]
fn an_index_of_a_descriptor_without_one_breaks_nothing() {
    for_every_bus(|world| {
        for call in calls() {
            // A bus may hang up for it, or pass it on.
            let mut mallory = RawBus::connect(&world.bus.socket());
            let serial = mallory.send(&call);
            if let Some(answer) = mallory.answer(serial) {
                let (name, text) = answer.unwrap_err();
                let known = ["InvalidArgs", "InvalidSignature", "UnknownInterface"];
                assert!(known.iter().any(|known| name.ends_with(known)), "{name} {text}");
            }
            let mut mallory = RawBus::connect(&world.bus.socket());
            mallory.send(&Raw { flags: NO_REPLY, ..call });
            world.serves_neighbours();
        }
        world.is_unharmed();
        assert_eq!(world.statistics().faults, 0, "nothing has broken over it");
        assert_eq!(world.statistics().connects, 1);
    });
}

/// Not even to what takes anything at all, in signals, and in what looks like an answer.
#[test]
fn an_index_of_a_descriptor_is_refused_in_every_kind_of_message() {
    for_every_bus(|world| {
        let us = world.unique_name();
        for kind in [crate::raw::RETURN, crate::raw::ERROR, crate::raw::SIGNAL] {
            let mut mallory = RawBus::connect(&world.bus.socket());
            let mut message = Raw::new(kind).at(ROOT).to(&us).signed("h");
            message = message.field(2, 's', "org.freedesktop.DBus").field(3, 's', "NameOwnerChanged");
            if kind != crate::raw::SIGNAL {
                message = message.answers((1 << 16) + 1);
            }
            if kind == crate::raw::ERROR {
                message = message.field(4, 's', "org.example.Error");
            }
            message.body = 0u32.to_le_bytes().to_vec();
            mallory.send(&message);
            let file = a_file();
            mallory.write(&[]);
            let mut mallory = RawBus::connect(&world.bus.socket());
            mallory.send_with(&message.with_descriptors(1), file.as_fd());
            world.is_unharmed();
        }
        assert_eq!((world.statistics().faults, world.statistics().connects), (0, 1));
    });
}

fn for_every_bus(attack: impl Fn(&World)) {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let allow = "\"*\"";
        let world = World::of(Setup { bus, allow, ..Setup::default() });
        attack(&world);
    }
}

/// Calls with `h` in them, at the top, in a variant, in an array that is empty, and deep in a dictionary.
fn calls() -> Vec<Raw> {
    let index = 0u32.to_le_bytes().to_vec();
    let in_variant = |before: &[&str], signature: &str, value: &[u8]| {
        let mut body = Vec::new();
        before.iter().for_each(|text| put_text(&mut body, text));
        put_signature(&mut body, signature);
        pad(&mut body, 4);
        body.extend(value);
        body
    };
    let options = {
        let mut body = in_variant(&["vault/open"], "s", &[]);
        put_text(&mut body, "x");
        let mut entries = Vec::new();
        put_text(&mut entries, "timeout_ms");
        put_signature(&mut entries, "h");
        pad(&mut entries, 4);
        entries.extend(&index);
        pad(&mut body, 4);
        body.extend((entries.len() as u32).to_le_bytes());
        pad(&mut body, 8);
        body.extend(entries);
        body
    };
    let payload = |signature: &str, value: &[u8]| {
        let mut body = in_variant(&["vault/open"], signature, value);
        pad(&mut body, 4);
        body.extend(0u32.to_le_bytes());
        pad(&mut body, 8);
        body
    };
    vec![
        Raw::of("org.freedesktop.DBus.Properties", "Set", "ssv", in_variant(&[NAME, "Volume"], "h", &index)),
        Raw::of(
            "org.freedesktop.DBus.Properties",
            "Set",
            "ssv",
            in_variant(&[SERVICE, "Version"], "h", &index),
        ),
        Raw::of(SERVICE, "Call", "sva{sv}", payload("h", &index)),
        Raw::of(SERVICE, "Call", "sva{sv}", payload("ah", &[4, 0, 0, 0, 0, 0, 0, 0])),
        Raw::of(SERVICE, "Call", "sva{sv}", payload("ah", &0u32.to_le_bytes())),
        Raw::of(SERVICE, "Call", "sva{sv}", options),
        Raw::of(SERVICE, "Authenticate", "h", index.clone()),
        Raw::of(NAME, "Any", "v", in_variant(&[], "h", &index)),
        Raw::of(NAME, "Guarded", "h", index.clone()),
        Raw::of("org.freedesktop.DBus.Peer", "Ping", "h", index.clone()),
        Raw::of("org.example.Nothing", "Nothing", "h", index),
    ]
}

fn text(text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, text);
    body
}

/// How many descriptors this process has.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
