//! Much at once: memory is bounded, the neighbours at the socket are served meanwhile, and afterwards everybody is.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::{Ending, wait_until};

use crate::raw::{Raw, RawBus, pad, put_signature, put_text};
use crate::settings::NAME;
use crate::world::{SERVICE, Setup, World};

#[test]
fn a_hundred_thousand_calls_whose_answers_nobody_reads_harm_nobody() {
    if !is_alone("floods::a_hundred_thousand_calls_whose_answers_nobody_reads_harm_nobody") {
        return;
    }
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let world = World::of(Setup { bus, ..Setup::default() });
        world.is_unharmed();
        let quiet = latency(&world);
        let before = resident();
        let mut mallory = RawBus::connect(&world.bus.socket());
        mallory.stop_waiting();
        let ping = Raw::of("org.freedesktop.DBus.Peer", "Ping", "", Vec::new());
        let allowed = Raw::of(SERVICE, "Call", "sva{sv}", body_of("vault/open", "x"));
        let denied = Raw::of(SERVICE, "Call", "sva{sv}", body_of("config/open", "x"));
        let wrong = Raw::of(SERVICE, "Introspect", "s", {
            let mut text = Vec::new();
            put_text(&mut text, "x");
            text
        });
        let (mut sent, mut most, mut slowest) = (0, 0, Duration::ZERO);
        let runs = world.runs();
        let until = Instant::now() + LONGEST_FLOOD;
        let mut neighbours = 0;
        while sent < CALLS && Instant::now() < until {
            let call = [&ping, &allowed, &denied, &wrong][sent % 4];
            // A bus that throws the flooder out, or takes no more of it, is as good.
            if !mallory.try_send(call) {
                break;
            }
            sent += 1;
            if sent.is_multiple_of(2000) {
                slowest = slowest.max(world.serves_neighbours());
                neighbours += 1;
                most = most.max(resident());
            }
        }
        for _ in 0..20 {
            slowest = slowest.max(world.serves_neighbours());
            neighbours += 1;
            most = most.max(resident());
        }
        let stats = world.statistics();
        eprintln!(
            "{sent} calls on {:?}, {} KiB more at most, neighbours {slowest:?} at most and {quiet:?} before; {stats:?}",
            world.bus.program(),
            most.saturating_sub(before) >> 10
        );
        assert!(most.saturating_sub(before) < 64 << 20, "{} bytes more", most - before);
        assert!(stats.output_bytes <= 8 << 20, "{stats:?}");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        drop(mallory);
        // That it has left is the last that comes of it.
        wait_until("nobody is left who has called", || world.statistics().senders == 0);
        assert_eq!(world.statistics().faults, 0);
        // Only what was allowed has run, and at most as often as it was asked for.
        let ran = world.runs() - runs - neighbours;
        assert!(ran <= sent / 4 + 1, "{ran} of {sent}");
        world.is_unharmed_after(ran);
    }
}

#[test]
fn long_calls_without_end_are_bounded_in_memory() {
    if !is_alone("floods::long_calls_without_end_are_bounded_in_memory") {
        return;
    }
    let world = World::of(Setup {
        allow: "\"request:vault/*\", \"request:org.example.settings1/**\"",
        ..Setup::default()
    });
    world.is_unharmed();
    let before = resident();
    let mut mallory = RawBus::connect(&world.bus.socket());
    mallory.stop_waiting();
    let mut body = Vec::new();
    put_text(&mut body, "vault/open");
    put_signature(&mut body, "ay");
    pad(&mut body, 4);
    body.extend((900u32 << 10).to_le_bytes());
    body.resize(body.len() + (900 << 10), 7);
    body.extend(0u32.to_le_bytes());
    pad(&mut body, 8);
    let long = Raw::of(SERVICE, "Call", "sva{sv}", body);
    // Many small values, which need more room than they have on the wire.
    let mut many = Vec::new();
    put_signature(&mut many, "aq");
    pad(&mut many, 4);
    many.extend(120_000u32.to_le_bytes());
    many.resize(many.len() + 120_000, 7);
    let many = Raw::of(NAME, "Any", "v", many);
    // What waits for a method that takes its time.
    let mut text = Vec::new();
    put_text(&mut text, &"x".repeat(900 << 10));
    let waits = Raw::of(NAME, "Wait", "", Vec::new());
    let guarded = Raw::of(NAME, "Guarded", "s", text);
    mallory.try_send(&waits);
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for number in 0..400 {
        if !mallory.try_send([&long, &many, &guarded][number % 3]) {
            break;
        }
        slowest = slowest.max(world.serves_neighbours());
        most = most.max(resident());
    }
    eprintln!(
        "{} KiB more at most, {slowest:?}, {:?}",
        most.saturating_sub(before) >> 10,
        world.statistics()
    );
    assert!(most.saturating_sub(before) < 256 << 20, "{} bytes more", most - before);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    world.settings.release.send(()).unwrap();
    drop(mallory);
    wait_until("nobody is left who has called", || world.statistics().waiting == 0);
    world.serves_neighbours();
    assert_eq!(world.statistics().faults, 0);
}

/// Of the longest calls that are taken, one after the other.
#[test]
fn long_calls_hold_up_nobody_for_long() {
    let world = World::start();
    let mut array = Vec::new();
    put_text(&mut array, "vault/open");
    put_signature(&mut array, "ay");
    pad(&mut array, 4);
    array.extend((200u32 << 10).to_le_bytes());
    array.resize(array.len() + (200 << 10), 7);
    array.extend(0u32.to_le_bytes());
    pad(&mut array, 8);
    let mut many = Vec::new();
    put_signature(&mut many, "aq");
    pad(&mut many, 4);
    many.extend(120_000u32.to_le_bytes());
    many.resize(many.len() + 120_000, 7);
    let text = body_of("vault/open", &"x".repeat(900 << 10));
    for (what, call) in [
        ("bytes", Raw::of(SERVICE, "Call", "sva{sv}", array)),
        ("a text", Raw::of(SERVICE, "Call", "sva{sv}", text)),
        ("many values", Raw::of(NAME, "Any", "v", many)),
    ] {
        let over = AtomicBool::new(false);
        let slowest = std::thread::scope(|scope| {
            let (over, call) = (&over, &call);
            let mut mallory = RawBus::connect(&world.bus.socket());
            let calls = scope.spawn(move || {
                let _ending = Ending(over);
                let begun = Instant::now();
                let mut answers = (0..20).map(|_| {
                    let serial = mallory.send(call);
                    mallory.answer(serial).expect("the bus stays").map(drop)
                });
                let outcome: Result<(), _> = answers.by_ref().collect();
                (outcome, begun.elapsed() / 20)
            });
            let mut all = Vec::new();
            while !over.load(Ordering::SeqCst) {
                all.push(world.serves_neighbours());
            }
            all.sort();
            let (outcome, each) = calls.join().unwrap();
            assert_eq!(outcome, Ok(()), "{what}");
            let (most, half) = (all[all.len() - 1], all[all.len() / 2]);
            eprintln!("{what}: {each:?} a call, neighbours {most:?} at most, half of them {half:?}");
            most
        });
        assert!(slowest < Duration::from_secs(5), "{what}: {slowest:?}");
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_bounded_and_others_hear_everything() {
    if !is_alone("floods::a_subscriber_that_does_not_read_is_bounded_and_others_hear_everything") {
        return;
    }
    use visorbus_core::message::{Address, Message as HubMessage, MessagePayload};
    // The bus itself keeps little for whoever does not read, so that it is the service that has to.
    let world = World::allowing("\"subscribe:vault/**\", \"request:vault/*\"");
    let lazy = world.program();
    lazy.subscribe("vault/**").unwrap();
    let eager = world.program();
    eager.subscribe("vault/**").unwrap();
    let before = resident();
    let text = "x".repeat(64 << 10);
    for number in 0..2000u32 {
        let text = format!("{number} {text}");
        let news = HubMessage::notification(0, Address::literal("vault/news"));
        let news = news.with_payload(MessagePayload::String(&text));
        // It waits until the hub has it, and so does the flood.
        world.handle.publish(visorbus_hub::OwnedMessage::from(&news)).unwrap();
        if number.is_multiple_of(50) {
            let _ = eager.so_far();
            world.serves_neighbours();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes more");
    drop(lazy);
    world.serves_neighbours();
    assert_eq!(world.statistics().faults, 0);
}

#[test]
fn a_sender_that_vanishes_in_the_middle_of_a_call_is_forgotten_at_once() {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let allow = "\"request:vault/*\", \"request:org.example.settings1/**\", \"subscribe:vault/**\"";
        let world = World::of(Setup { bus, allow, ..Setup::default() });
        world.serves_neighbours();
        for round in 0..30 {
            let mut mallory = RawBus::connect(&world.bus.socket());
            let mut pattern = Vec::new();
            put_text(&mut pattern, "vault/**");
            pad(&mut pattern, 4);
            pattern.extend(0u32.to_le_bytes());
            pad(&mut pattern, 8);
            mallory.send(&Raw::of(SERVICE, "Subscribe", "sa{sv}", pattern));
            if round % 3 == 0 {
                mallory.send(&Raw::of(NAME, "Wait", "", Vec::new()));
            }
            for _ in 0..round {
                mallory.send(&Raw::of(SERVICE, "Call", "sva{sv}", body_of("vault/open", "x")));
            }
            // Half of a message, and it is gone.
            let half =
                Raw::of(SERVICE, "Call", "sva{sv}", body_of("vault/open", &"y".repeat(5000))).bytes(999);
            mallory.write(&half[..half.len() / 2]);
            drop(mallory);
            world.settings.release.send(()).unwrap();
            world.serves_neighbours();
        }
        wait_until("somebody who left is still known", || {
            let stats = world.statistics();
            (stats.senders, stats.sessions, stats.waiting) == (0, 0, 0)
        });
        world.wait_for_peers(|peers| peers.iter().all(|peer| !peer.name.starts_with("panel")));
        assert_eq!((world.statistics().faults, world.statistics().connects), (0, 1));
        let program = world.program();
        assert_eq!(program.call_address("vault/open", "after that").as_deref(), Ok("after that"));
    }
}

/// More than one program may have waiting is refused, to it alone.
#[test]
fn who_has_too_much_waiting_is_told_and_nobody_else_waits() {
    let world = World::allowing("\"request:vault/*\", \"request:org.example.settings1/**\"");
    let program = world.program();
    let waiting: Vec<u32> = (0..300).map(|_| program.begin(NAME, "Wait", &[])).collect();
    let mut limited = 0;
    for serial in &waiting[256..] {
        let (name, text) = program.answer(*serial).unwrap_err();
        assert!(name.ends_with("LimitsExceeded"), "{name} {text}");
        limited += 1;
    }
    assert_eq!(limited, 44);
    assert!(
        world.statistics().refused >= 44 && world.statistics().waiting == 256,
        "{:?}",
        world.statistics()
    );
    let other = world.program();
    assert_eq!(other.call_address("vault/open", "me").as_deref(), Ok("me"));
    world.serves_neighbours();
    (0..256).for_each(|_| world.settings.release.send(()).unwrap());
    for serial in &waiting[..256] {
        // Some were waited for longer than a call may take.
        let _ = program.answer(*serial);
    }
    assert_eq!(program.call_address("vault/open", "again").as_deref(), Ok("again"));
}

/// The longest of some round trips of a neighbour.
fn latency(world: &World) -> Duration {
    (0..50).map(|_| world.serves_neighbours()).max().unwrap_or_default()
}

fn body_of(address: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, address);
    put_signature(&mut body, "s");
    put_text(&mut body, text);
    pad(&mut body, 4);
    body.extend(0u32.to_le_bytes());
    pad(&mut body, 8);
    body
}

/// Whether this is the process of the test of this name alone, whose memory is nobody else's; where it is not, that
/// process has run and held.
#[track_caller]
pub(crate) fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let ran = Command::new(program).args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains("1 passed"), "{out}{err}");
    eprintln!("{err}");
    false
}

/// Bytes of memory that this process has.
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}

const ALONE: &str = "VISORBUS_TEST_ALONE";
const CALLS: usize = 100_000;
/// What a slow machine does not send by then is not sent.
const LONGEST_FLOOD: Duration = Duration::from_secs(40);
