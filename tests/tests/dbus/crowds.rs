//! Programs on the bus that ask for too much.

use std::time::{Duration, Instant};

use dbus::MessageType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::ask_until;

use crate::world::{Program, World, bridge, call_of, config, error_of, panel_policy};

#[test]
fn a_flood_of_calls_whose_replies_nobody_reads_harms_nobody() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let flooder = Program::new(&bus);
    let mut longest = Duration::ZERO;
    for number in 0..100_000 {
        flooder.send(call_of("vault/open", "sesame"));
        if number % 1000 == 0 {
            longest = longest.max(world.round_trip());
        }
    }
    let statistics = world.door.statistics();
    println!("{statistics:?}, longest {longest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    assert!(statistics.output_bytes <= config(&bus).output_bytes + (1 << 20), "{statistics:?}");
    let other = Program::new(&bus);
    assert_eq!(other.call("vault/open", "still there?").unwrap(), "still there?");
    drop(flooder);
    ask_until(|| world.door.statistics().senders, |senders| *senders <= 1);
}

#[test]
fn a_program_that_waits_for_too_much_is_refused_and_others_are_not() {
    let bus = DbusDaemon::start();
    let mut config = config(&bus);
    config.calls_per_sender = 8;
    let world = World::with(config, &panel_policy()).named();
    world.gate.shut();
    let (greedy, modest) = (Program::new(&bus), Program::new(&bus));
    for _ in 0..8 {
        greedy.send(call_of("slow/open", "sesame"));
    }
    let (name, text) = error_of(greedy.call("vault/open", "sesame"));
    assert_eq!(name, "org.freedesktop.DBus.Error.LimitsExceeded", "{text}");
    assert_eq!(modest.call("vault/open", "sesame").unwrap(), "sesame");
    assert_eq!(world.door.statistics().refused, 1);
    world.gate.open();
    ask_until(|| world.door.statistics().waiting, |waiting| *waiting == 0);
    assert_eq!(greedy.call("vault/open", "sesame").unwrap(), "sesame");
    world.is_unharmed_after(10);
}

#[test]
fn more_programs_than_are_kept_are_refused_only_while_all_of_them_are_busy() {
    let bus = DbusDaemon::start();
    let mut config = config(&bus);
    // A quarter of it for one user.
    config.max_senders = 16;
    let world = World::with(config, "").named();
    // They have no session, so that each goes for the next.
    let programs: Vec<Program> = (0..12).map(|_| Program::new(&bus)).collect();
    for program in &programs {
        let ping = || {
            dbus::Message::call_with_args(crate::world::NAME, "/", "org.freedesktop.DBus.Peer", "Ping", ())
        };
        program.ask(ping()).unwrap();
    }
    assert!(world.door.statistics().senders <= 4);
    for program in &programs[..4] {
        program.authenticate(world.token("alice", &["request:vault/*"]).value.as_str()).unwrap();
    }
    let (name, _) = error_of(programs[4].call("vault/open", "sesame"));
    assert_eq!(name, "org.freedesktop.DBus.Error.LimitsExceeded");
    drop(programs);
    ask_until(|| world.door.statistics().senders, |senders| *senders == 0);
    world.is_unharmed_after(0);
}

#[test]
fn who_wants_no_reply_gets_none() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let program = Program::new(&bus);
    for address in ["vault/open", "nobody/home", "not an address"] {
        let mut call = call_of(address, "sesame");
        call.set_no_reply(true);
        program.send(call);
    }
    let last = program.send(call_of("vault/open", "last"));
    let answer = program
        .read_where(|message| matches!(message.msg_type(), MessageType::MethodReturn | MessageType::Error));
    assert_eq!(answer.get_reply_serial(), Some(last));
    world.is_unharmed_after(2);
}

#[test]
fn file_descriptors_are_refused_wherever_they_are() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let program = Program::new(&bus);
    let file = std::fs::File::open("/dev/null").unwrap();
    let call = bridge("Call", ("vault/open", dbus::arg::Variant(file), dbus::arg::PropMap::new()));
    let (name, text) = error_of(program.ask(call));
    assert!(text.contains("file descriptors"), "{name}: {text}");
    assert_eq!(program.call("vault/open", "sesame").unwrap(), "sesame");
    assert_eq!(world.door.statistics().faults, 0);
    world.is_unharmed_after(1);
}

#[test]
fn a_subscriber_that_does_not_read_harms_nobody() {
    let bus = DbusDaemon::start();
    let world = World::start(&bus).named();
    let (sleeper, reader) = (Program::new(&bus), Program::new(&bus));
    sleeper.subscribe("news/**").unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    let text = "x".repeat(4096);
    let mut sent = 0;
    while Instant::now() < until && sent < 20_000 {
        world.publish("news/today", &text);
        sent += 1;
    }
    assert_eq!(reader.call("vault/open", "still there?").unwrap(), "still there?");
    let statistics = world.door.statistics();
    println!("{sent} sent, {statistics:?}");
    assert!(statistics.output_bytes <= config(&bus).output_bytes + (1 << 20), "{statistics:?}");
    world.is_unharmed_after(1);
}

#[test]
fn a_bus_that_stands_still_holds_up_nobody_else_and_gets_no_more_than_the_limit() {
    let bus = DbusDaemon::start();
    let mut config = config(&bus);
    config.output_bytes = 64 << 10;
    let world = World::with(config, &panel_policy()).named();
    let reader = Program::new(&bus);
    reader.subscribe("news/**").unwrap();
    let daemon = Pid::from_raw(bus.id().unwrap().try_into().unwrap());
    kill(daemon, Signal::SIGSTOP).unwrap();
    let text = "x".repeat(8 << 10);
    for number in 0..2000 {
        world.publish("news/today", &text);
        if number % 100 == 0 {
            assert!(world.round_trip() < Duration::from_secs(5));
        }
    }
    let statistics = world.door.statistics();
    assert!((64 << 10..256 << 10).contains(&statistics.output_bytes), "{statistics:?}");
    world.is_unharmed_after(0);
    kill(daemon, Signal::SIGCONT).unwrap();
    // What it missed it is told, and what comes from now on it gets.
    reader.signal("Missed");
    ask_until(|| world.door.statistics().output_bytes, |bytes| *bytes == 0);
    world.publish("news/last", "sunny");
    reader.read_where(|message| message.read1::<&str>() == Ok("news/last"));
    assert_eq!(reader.call("vault/open", "sesame").unwrap(), "sesame");
    world.is_unharmed_after(1);
}
