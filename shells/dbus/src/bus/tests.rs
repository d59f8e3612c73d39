//! One turn after the other, on a bus of the test's own, and with a time that the test says.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use visorbus_hub::{Hub, HubConfig};
use visorbus_tests::dbus_daemon::{BusOptions, DbusDaemon};

use super::*;
use crate::config::BusAddress;

#[test]
fn a_thread_that_breaks_over_connecting_is_a_bus_that_is_not_there() {
    let waker = Arc::new(EventFd::new().unwrap());
    let (mut bus, _hub) = of("unix:path=/nowhere");
    bus.line = Line::Dialling(dial::run(|| panic!("a test breaks it"), Arc::clone(&waker)));
    // It waits until it is woken.
    waker.read().unwrap();
    bus.take_line(Instant::now());
    assert!(matches!(bus.line, Line::Down { .. }));
    assert!(bus.state().trouble.unwrap().contains("broke"));
}

#[test]
fn calls_from_before_their_sender_was_known_are_taken_a_few_at_a_time_and_in_their_order() {
    let daemon = DbusDaemon::start();
    let (mut bus, _hub) = joined(&daemon);
    let caller = daemon.connect();
    let name = bus.state().unique_name.unwrap();
    let serials: Vec<u32> = (0..200).map(|_| caller.send(ping(&name)).unwrap()).collect();
    caller.flush();
    let (mut most, mut at_once) = (0, 0);
    let mut before = 0;
    turn_until(&mut bus, |bus| {
        let waiting = bus.statistics().waiting;
        (most, at_once) = (most.max(waiting), at_once.max(before.max(waiting) - waiting));
        before = waiting;
        bus.counts.calls == 200 && waiting == 0 && bus.connection().unwrap().waiting_since().is_none()
    });
    assert!(most > 20, "they came before the bus had answered: {most}");
    assert!(at_once <= 2, "{at_once} in one turn");
    let answers =
        std::iter::repeat_with(|| caller.blocking_pop_message(Duration::from_secs(10)).unwrap().unwrap());
    let answered: Vec<u32> = answers
        .filter_map(|answer| answer.get_reply_serial())
        .skip_while(|serial| *serial < serials[0])
        .take(200)
        .collect();
    assert_eq!(answered, serials);
}

#[test]
fn a_bus_that_takes_nothing_is_told_of_while_that_lasts() {
    let daemon = DbusDaemon::start();
    let (mut bus, _hub) = joined(&daemon);
    let id = Pid::from_raw(daemon.id().unwrap().try_into().unwrap());
    kill(id, Signal::SIGSTOP).unwrap();
    bus.send((0..100).map(|_| long_signal(None)).collect()).unwrap();
    let now = Instant::now();
    bus.take_time(now);
    assert_eq!(bus.state().trouble, None);
    assert!(bus.deadline().unwrap() <= now + STALLED_AFTER);
    bus.take_time(now + STALLED_AFTER);
    assert!(bus.state().trouble.unwrap().contains("taken nothing"));
    kill(id, Signal::SIGCONT).unwrap();
    turn_until(&mut bus, |bus| bus.state().trouble.is_none());
    turn_until(&mut bus, |bus| bus.statistics().output_bytes == 0);
}

#[test]
fn a_bus_that_keeps_too_much_that_nobody_reads_is_told_of_until_it_is_gone() {
    let limits = vec![("max_incoming_bytes", 200_000), ("max_outgoing_bytes", 100_000_000)];
    let daemon = DbusDaemon::with(&BusOptions { limits, ..BusOptions::default() });
    let (mut bus, _hub) = joined(&daemon);
    let lazy = daemon.connect();
    bus.send((0..100).map(|_| long_signal(lazy.unique_name())).collect()).unwrap();
    let mut still = 0;
    let mut before = 0;
    turn_until(&mut bus, |bus| {
        let waits = bus.statistics().output_bytes;
        still = if waits == before { still + 1 } else { 0 };
        before = waits;
        still > 1000
    });
    assert!(before > 0, "the bus takes no more of this connection");
    bus.take_time(Instant::now() + STALLED_AFTER);
    assert!(bus.state().trouble.unwrap().contains("do not read"));
    drop(lazy);
    turn_until(&mut bus, |bus| bus.statistics().output_bytes == 0);
    turn_until(&mut bus, |bus| bus.state().trouble.is_none());
}

#[test]
fn a_bus_that_does_not_tell_who_leaves_is_tried_less_and_less_often() {
    let rules = "<policy context=\"default\"><deny send_destination=\"org.freedesktop.DBus\" \
        send_interface=\"org.freedesktop.DBus\" send_member=\"AddMatch\"/></policy>";
    let daemon = DbusDaemon::with(&BusOptions { rules: rules.to_owned(), ..BusOptions::default() });
    let (mut bus, _hub) = of(daemon.address());
    for wait in [500, 1000, 2000, 4000] {
        assert_eq!(bus.retry.coming(), Duration::from_millis(wait));
        bus.line = Line::Down { again: Instant::now() };
        dial_it(&mut bus);
        turn_until(&mut bus, |bus| matches!(bus.line, Line::Down { .. }));
        assert!(bus.state().trouble.unwrap().contains("who leaves it"));
    }
}

#[test]
fn what_waits_is_counted_until_it_is_taken_and_half_of_the_limit_is_room_again() {
    let daemon = DbusDaemon::start();
    let (mut bus, _hub) = joined(&daemon);
    let most = bus.config.output_bytes;
    bus.send((0..200).map(|_| long_signal(None)).collect()).unwrap();
    assert!(!bus.has_room() && bus.statistics().output_bytes > most, "{:?}", bus.statistics());
    let mut was_full = true;
    turn_until(&mut bus, |bus| {
        let waits = bus.statistics().output_bytes;
        assert_eq!(bus.has_room(), waits < if was_full { most / 2 } else { most }, "{waits}");
        was_full = !bus.has_room();
        waits == 0
    });
    bus.send(vec![long_signal(None)]).unwrap();
}

/// A service of the bus at this address, and the hub that it is of, which does not run.
fn of(address: &str) -> (Bus, Hub) {
    let hub = Hub::new(HubConfig::new(visorbus_core::auth::KeyRing::new(), 1)).unwrap();
    let config = DBusConfig { bus: BusAddress::Address(address.to_owned()), ..DBusConfig::default() };
    let waker = Arc::new(EventFd::new().unwrap());
    (Bus::new(config, &hub.handle(), waker, 0), hub)
}

/// One that has its name.
fn joined(daemon: &DbusDaemon) -> (Bus, Hub) {
    let (mut bus, hub) = of(daemon.address());
    join(&mut bus);
    (bus, hub)
}

fn join(bus: &mut Bus) {
    dial_it(bus);
    turn_until(bus, |bus| bus.name.is_owned());
}

/// Until it is connected.
fn dial_it(bus: &mut Bus) {
    bus.take_time(Instant::now());
    bus.waker.read().unwrap();
    bus.take_line(Instant::now());
    assert!(matches!(bus.line, Line::Up(_)), "{:?}", bus.trouble);
}

/// Takes turns as the hub does, without sleeping.
#[track_caller]
fn turn_until(bus: &mut Bus, mut so: impl FnMut(&mut Bus) -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !so(bus) {
        assert!(Instant::now() < until, "{:?} {:?}", bus.state(), bus.statistics());
        bus.take_time(Instant::now());
        bus.take_input(true, Instant::now());
        std::thread::yield_now();
    }
}

fn ping(destination: &str) -> Message {
    Message::call_with_args(destination, "/", "org.freedesktop.DBus.Peer", "Ping", ())
}

/// 32 KiB, for somebody or for nobody.
fn long_signal(to: Option<&str>) -> Message {
    let path = dbus::Path::new("/").unwrap();
    let (interface, member) = ("org.example.Long".into(), "Signal".into());
    let mut signal = Message::signal(&path, &interface, &member).append1("x".repeat(32 << 10));
    signal.set_destination(to.map(|name| name.to_owned().into()));
    signal
}
