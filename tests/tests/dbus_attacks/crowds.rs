//! Many programs at once, and one after the other: what is kept of them is bounded, and gone when they are.

use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::floods::{is_alone, resident};
use crate::raw::{Raw, RawBus, pad, put_signature, put_text};
use crate::world::{ROOT, SERVICE, Setup, World, wait_until};

#[test]
fn two_thousand_programs_that_come_and_go_leave_nothing() {
    if !is_alone("crowds::two_thousand_programs_that_come_and_go_leave_nothing") {
        return;
    }
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let world = World::of(Setup { bus, ..Setup::default() });
        let call = call_of("vault/open");
        let come_and_go = |number: usize| {
            let mut program = RawBus::connect(&world.bus.socket());
            let serial = program.send(&call);
            // Every other one does not wait.
            if number.is_multiple_of(2) {
                assert!(program.answer(serial).unwrap().is_ok());
            }
        };
        (0..100).for_each(come_and_go);
        let (before, mut slowest) = (resident(), Duration::ZERO);
        for number in 0..2000 {
            come_and_go(number);
            if number.is_multiple_of(100) {
                slowest = slowest.max(world.serves_neighbours());
            }
        }
        wait_until("somebody who left is still known", || {
            let stats = world.statistics();
            (stats.senders, stats.sessions, stats.waiting) == (0, 0, 0)
        });
        world.wait_for_peers(|peers| peers.len() <= 2);
        let grown = resident().saturating_sub(before);
        eprintln!(
            "{} KiB more after 2000 on {:?}, neighbours {slowest:?} at most",
            grown >> 10,
            world.bus.program()
        );
        assert!(grown < 8 << 20, "{grown} bytes more");
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        assert_eq!((world.statistics().faults, world.statistics().connects), (0, 1));
        assert_eq!(world.program().call_address("vault/open", "x").as_deref(), Ok("x"));
    }
}

/// All at once: more than the service keeps, and more than the hub has places for one user.
#[test]
fn a_user_that_fills_all_its_places_keeps_no_other_user_out() {
    let others = Setup::default();
    // Other users come to the bus too, which is in a directory of this one's own.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(others.bus.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let policy = "[[unix]]\nuid = 65534\nsubject = \"guest\"\nscopes = [\"guest\"]\n\
                  [[rule]]\nscope = \"guest\"\nallow = [\"request:vault/*\"]\n";
    let world = World::of(Setup { policy: policy.to_owned(), ..others });
    world.serves_neighbours();
    let call = call_of("vault/open");
    let (mut programs, mut refused, mut served) = (Vec::new(), 0, 0);
    for _ in 0..300 {
        let mut program = RawBus::connect(&world.bus.socket());
        let serial = program.send(&call);
        match program.answer(serial).expect("the bus stays") {
            Ok(_) => served += 1,
            Err((name, text)) => {
                assert!(!name.is_empty() && !text.is_empty());
                refused += 1;
            }
        }
        programs.push(program);
    }
    assert!(refused > 0 && served > 100, "{served} served, {refused} refused");
    world.serves_neighbours();
    if rustix::process::getuid().is_root() {
        let mut command = world.bus.command("busctl");
        command.uid(65534).gid(65534).args(["--user", "--no-pager", "call", SERVICE, ROOT, SERVICE, "Call"]);
        let ran = command.args(["sva{sv}", "vault/open", "s", "me too", "0"]).output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        assert!(
            String::from_utf8_lossy(&said).contains("v s \"me too\""),
            "{}",
            String::from_utf8_lossy(&said)
        );
    } else {
        eprintln!("left out: only root can be another user too");
    }
    // When they leave there is room at once.
    programs.clear();
    let until = Instant::now() + Duration::from_secs(20);
    while world.program().call_address("vault/open", "x").is_err() {
        assert!(Instant::now() < until, "there is no room: {:?}", world.statistics());
    }
}

#[test]
fn more_programs_than_are_kept_are_told_so_and_those_there_go_on() {
    let mut setup =
        Setup { allow: "\"request:vault/*\", \"request:org.example.settings1/**\"", ..Setup::default() };
    setup.config.max_senders = 8;
    let world = World::of(setup);
    let first = world.program();
    first.call_address("vault/open", "first").unwrap();
    let busy: Vec<_> = (0..20)
        .map(|_| {
            let program = world.program();
            let serial = program.begin(crate::settings::NAME, "Wait", &[]);
            (program, serial)
        })
        .collect();
    let (mut told, mut waiting) = (0, 0);
    for (program, _) in &busy {
        let seen = program.so_far();
        let is_refusal = |message: &dbus::Message| message.msg_type() == dbus::MessageType::Error;
        match seen.iter().any(is_refusal) {
            true => told += 1,
            false => waiting += 1,
        }
    }
    assert!(told >= 12 && waiting <= 8, "{told} told, {waiting} waiting");
    assert!(world.statistics().senders <= 8, "{:?}", world.statistics());
    assert_eq!(first.call_address("vault/open", "still").as_deref(), Ok("still"));
    world.serves_neighbours();
    (0..20).for_each(|_| world.settings.release.send(()).unwrap());
}

fn call_of(address: &str) -> Raw {
    let mut body = Vec::new();
    put_text(&mut body, address);
    put_signature(&mut body, "s");
    put_text(&mut body, "x");
    pad(&mut body, 4);
    body.extend(0u32.to_le_bytes());
    pad(&mut body, 8);
    Raw::of(SERVICE, "Call", "sva{sv}", body)
}
