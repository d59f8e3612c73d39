//! Arguments that mean harm: each is answered with an error, no handler runs, and everybody else is served.

use std::os::fd::AsFd as _;

use dbus::Message;
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::wait_until;

use crate::program::{call_of, expect_refusal};
use crate::raw::{NO_REPLY, Raw, RawBus, pad, put_signature, put_text};
use crate::settings::NAME;
use crate::world::{ROOT, SERVICE, Setup, World};

#[test]
fn a_wrong_signature_reaches_no_handler() {
    let world = World::start();
    let program = world.program();
    let members = [
        (SERVICE, "Call", "svas"),
        (SERVICE, "Notify", "sva{sv}"),
        (SERVICE, "Authenticate", "s"),
        (SERVICE, "Subscribe", "sa{sv}"),
        (SERVICE, "ListServices", ""),
        (NAME, "Echo", "sa{sv}(yd)aayv"),
        (NAME, "Guarded", "s"),
        ("org.freedesktop.DBus.Properties", "Get", "ss"),
        ("org.freedesktop.DBus.Properties", "Set", "ssv"),
        ("org.freedesktop.DBus.Introspectable", "Introspect", ""),
        ("org.freedesktop.DBus.Peer", "Ping", ""),
        ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ""),
    ];
    for (interface, member, _) in members {
        let call = || Message::new_method_call(SERVICE, ROOT, interface, member).unwrap();
        for wrong in [
            call().append1(7u64),
            call().append2(true, "vault/open"),
            call().append3("vault/open", "x", "y"),
            call().append1(vec![("vault/open", 1u8)]),
            call().append1((1u8, 2u16, "x")),
        ] {
            let outcome = program.answer(program.send(wrong));
            expect_refusal(outcome, ".InvalidArgs", "");
        }
    }
    world.is_unharmed();
}

/// The bus takes 128 MiB (D-Bus specification, "Maximum message length"), one array of it 64 MiB.
#[test]
fn the_longest_array_there_is_is_refused_and_keeps_nobody() {
    let world = World::start();
    let mut mallory = RawBus::connect(&world.bus.socket());
    let body = |signature: &str, bytes: u32| {
        let mut body = Vec::new();
        put_text(&mut body, "vault/open");
        put_signature(&mut body, signature);
        pad(&mut body, 4);
        body.extend(bytes.to_le_bytes());
        if signature == "at" || signature == "a(y)" {
            pad(&mut body, 8);
        }
        body.resize(body.len() + bytes as usize, 0);
        pad(&mut body, 4);
        // No options.
        body.extend(0u32.to_le_bytes());
        pad(&mut body, 8);
        body
    };
    for (signature, len) in
        [("ay", 64 << 20), ("at", 64 << 20), ("ay", 17 << 20), ("ay", 2 << 20), ("an", 4 << 20)]
    {
        let call = Raw::of(SERVICE, "Call", "sva{sv}", body(signature, len));
        let serial = mallory.send(&call);
        let (name, text) = mallory.answer(serial).expect("the bus stays").unwrap_err();
        assert!(
            ["InvalidArgs", "InvalidSignature", "LimitsExceeded"].iter().any(|known| name.ends_with(known)),
            "{signature} {len}: {name} {text}"
        );
        world.serves_neighbours();
    }
    // To an interface of one's own, and without wanting an answer.
    let mut array = Vec::new();
    array.extend((64u32 << 20).to_le_bytes());
    array.resize(4 + (64 << 20), 0);
    let call = Raw::of(NAME, "Guarded", "ay", array.clone());
    let serial = mallory.send(&call);
    assert!(mallory.answer(serial).unwrap().is_err());
    mallory.send(&Raw { flags: NO_REPLY, ..Raw::of(NAME, "Guarded", "ay", array) });
    world.is_unharmed();
    assert!(world.statistics().refused >= 3, "{:?}", world.statistics());
}

#[test]
fn variants_and_structs_within_each_other_are_refused_beyond_their_limit() {
    let world = World::start();
    let mut mallory = RawBus::connect(&world.bus.socket());
    // The specification allows 64 containers in all: what is more the bus itself hangs up for.
    for depth in [9, 20, 33, 60] {
        let mut body = Vec::new();
        put_text(&mut body, "vault/open");
        for _ in 0..depth {
            put_signature(&mut body, "v");
        }
        put_signature(&mut body, "y");
        body.push(1);
        pad(&mut body, 4);
        body.extend(0u32.to_le_bytes());
        pad(&mut body, 8);
        let serial = mallory.send(&Raw::of(SERVICE, "Call", "sva{sv}", body));
        let (name, text) = mallory.answer(serial).expect("the bus stays").unwrap_err();
        assert!(name.ends_with("InvalidArgs") && text.contains("deep"), "{depth}: {name} {text}");
        let mut body = Vec::new();
        for _ in 0..depth {
            put_signature(&mut body, "v");
        }
        put_signature(&mut body, "y");
        body.push(1);
        for (interface, member) in [(NAME, "Any"), (NAME, "Guarded"), (SERVICE, "Call")] {
            let serial = mallory.send(&Raw::of(interface, member, "v", body.clone()));
            let (name, text) = mallory.answer(serial).expect("the bus stays").unwrap_err();
            assert!(name.ends_with("InvalidArgs"), "{depth}: {name} {text}");
        }
        let serial = mallory.send(&Raw::of("org.freedesktop.DBus.Properties", "Set", "ssv", {
            let mut set = Vec::new();
            put_text(&mut set, NAME);
            put_text(&mut set, "Volume");
            set.extend(&body);
            set
        }));
        let (name, text) = mallory.answer(serial).expect("the bus stays").unwrap_err();
        assert!(name.ends_with("InvalidArgs"), "{depth}: {name} {text}");
    }
    world.is_unharmed();
}

/// Beyond what the specification allows the bus hangs up, and the service never sees it.
#[test]
fn what_is_no_message_is_between_its_sender_and_the_bus() {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let world = World::of(Setup { bus, ..Setup::default() });
        let good = Raw::of("org.freedesktop.DBus.Peer", "Ping", "", Vec::new()).bytes(9);
        let bad = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let depth_65 = {
            let mut body = Vec::new();
            (0..66).for_each(|_| put_signature(&mut body, "v"));
            put_signature(&mut body, "y");
            body.push(1);
            Raw::of(NAME, "Any", "v", body).bytes(9)
        };
        let local = "org.freedesktop.DBus.Local";
        let as_the_library = Raw::new(crate::raw::SIGNAL)
            .at("/org/freedesktop/DBus/Local")
            .field(2, 's', local)
            .field(3, 's', "Disconnected")
            .to(&world.unique_name());
        for (what, bytes) in [
            ("an endianness", bad(0, b'x')),
            ("a kind", bad(1, 0)),
            ("a version", bad(3, 9)),
            ("a length", bad(7, 0xff)),
            ("too deep", depth_65),
            ("libdbus's own words", as_the_library.bytes(9)),
            ("half a message", good[..20].to_vec()),
            ("no serial number", Raw::of("org.freedesktop.DBus.Peer", "Ping", "", Vec::new()).bytes(0)),
            ("no D-Bus", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(9)),
        ] {
            let mut mallory = RawBus::connect(&world.bus.socket());
            mallory.write(&bytes);
            world.is_unharmed();
            assert_eq!(world.statistics().connects, 1, "{what} has ended the service's own connection");
        }
    }
}

#[test]
fn a_call_to_nothing_that_there_is_is_answered() {
    let world = World::start();
    let program = world.program();
    for (path, interface, member) in [
        ("/", SERVICE, "Call"),
        ("/nowhere", SERVICE, "Call"),
        (ROOT, "org.example.Nothing", "Call"),
        (ROOT, SERVICE, "Destroy"),
        ("/org/visorbus/Bus1/components/vault", SERVICE, "Call"),
        ("/org/visorbus/Bus1/components/_", "org.visorbus.components.Vault", "Open"),
        ("/org/visorbus/Bus1/components/_2e_2e_2fvault", "org.visorbus.components.Vault", "Open"),
        ("/org/visorbus/Bus1/components/va_75lt", "org.visorbus.components.Vault", "Open"),
        ("/org/visorbus/Bus1/components/vault/open", "org.visorbus.components.Vault", "Open"),
    ] {
        let outcome = program.call_at(path, interface, member, &["vault/open".into()]);
        let (name, text) = outcome.unwrap_err();
        assert!(
            name.contains("Unknown") || name.ends_with("Error.Message"),
            "{path} {interface}.{member}: {name} {text}"
        );
    }
    // The longest names there are, and such with what is no name in the hub.
    let long = format!("/{}", "a".repeat(5000));
    assert!(program.call_at(&long, SERVICE, "Call", &[]).is_err());
    for address in [
        "",
        "vault",
        "vault/",
        "/vault/open",
        "vault//open",
        "vault/../config/open",
        "vault/open\u{0}x",
        "va\u{301}lt/open",
        "*",
        "vault/*",
        "VAULT/OPEN",
        "vault/open ",
    ] {
        if address.contains('\0') {
            // No text of D-Bus has it, which the bus sees to.
            continue;
        }
        let (name, text) = program.call_address(address, "x").unwrap_err();
        assert!(!name.is_empty() && text.len() < 600, "'{address}': {name} {text}");
    }
    let (_, text) = program.call_address(&"a/".repeat(50_000), "x").unwrap_err();
    assert!(text.len() < 4096, "{} bytes of error", text.len());
    world.is_unharmed();
}

#[test]
fn a_call_that_wants_no_answer_gets_none_whatever_becomes_of_it() {
    let world = World::start();
    let program = world.program();
    let before = world.runs();
    let mut allowed = call_of("vault/open", "x");
    allowed.set_no_reply(true);
    program.send(allowed);
    let mut denied = call_of("config/open", "x");
    denied.set_no_reply(true);
    program.send(denied);
    for (interface, member) in [(SERVICE, "Nothing"), (NAME, "Echo"), ("org.example.None", "X")] {
        let mut wrong = Message::new_method_call(SERVICE, ROOT, interface, member).unwrap();
        wrong.set_no_reply(true);
        program.send(wrong.append1(5u8));
    }
    let mut token =
        Message::new_method_call(SERVICE, ROOT, SERVICE, "Authenticate").unwrap().append1("vb1.AAAA");
    token.set_no_reply(true);
    program.send(token);
    // What came was answered, or not, before this.
    // Whoever may not use an address is refused when its types are asked for.
    world.is_audited("denied", "config/open", "");
    wait_until("all of it is over", || world.statistics().waiting == 0);
    let answers: Vec<_> =
        program.so_far().into_iter().filter(|message| message.get_reply_serial().is_some()).collect();
    assert!(answers.is_empty(), "{answers:?}");
    assert_eq!(world.runs(), before + 1);
    world.is_unharmed_after(1);
}

#[test]
fn a_call_without_an_interface_is_checked_like_one_with() {
    let world = World::start();
    let mut mallory = RawBus::connect(&world.bus.socket());
    let bare = |path: &str, member: &str, signature: &str, body: Vec<u8>| Raw {
        body,
        ..Raw::new(crate::raw::CALL).at(path).field(3, 's', member).to(SERVICE).signed(signature)
    };
    let call = |address: &str| {
        let mut body = Vec::new();
        put_text(&mut body, address);
        put_signature(&mut body, "s");
        put_text(&mut body, "x");
        pad(&mut body, 4);
        body.extend(0u32.to_le_bytes());
        pad(&mut body, 8);
        body
    };
    let serial = mallory.send(&bare(ROOT, "Call", "sva{sv}", call("config/open")));
    let (name, _) = mallory.answer(serial).unwrap().unwrap_err();
    assert!(name.ends_with("AccessDenied"), "{name}");
    // Whoever may not use an address is refused when its types are asked for.
    world.is_audited("denied", "config/open", "");
    // Of an interface of one's own: what needs authentication needs it here too.
    let mut text = Vec::new();
    put_text(&mut text, "x");
    let serial = mallory.send(&bare(ROOT, "Guarded", "s", text));
    let (name, _) = mallory.answer(serial).unwrap().unwrap_err();
    assert!(name.ends_with("AccessDenied"), "{name}");
    let serial = mallory.send(&bare("/org/visorbus/Bus1/components/config", "Open", "", Vec::new()));
    assert!(mallory.answer(serial).unwrap().is_err());
    world.is_unharmed();
    // And what is allowed is done.
    let serial = mallory.send(&bare(ROOT, "Call", "sva{sv}", call("vault/open")));
    assert!(mallory.answer(serial).unwrap().is_ok());
    world.is_unharmed_after(1);
}

/// A file to pass.
pub(crate) fn a_file() -> std::fs::File {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(rustix::io::fcntl_getfd(file.as_fd()).is_ok());
    file
}
