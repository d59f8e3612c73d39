//! Many programs at once, and one after the other: what is kept of them is bounded, and gone when they are.

use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use visorbus_hub::Limits;
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::patience::wait_until;

use crate::floods::{is_alone, resident};
use crate::program::{Program, variant};
use crate::raw::{Raw, RawBus, pad, put_signature, put_text};
use crate::settings::NAME;
use crate::world::{ROOT, SERVICE, Setup, World};

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
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        assert_eq!((world.statistics().faults, world.statistics().connects), (0, 1));
        assert_eq!(world.program().call_address("vault/open", "x").as_deref(), Ok("x"));
    }
}

/// All at once: more than the service keeps, and more than the hub has places for one user.
#[test]
fn a_user_that_fills_all_its_places_keeps_no_other_user_out() {
    let setup = Setup { policy: OTHER_USER.to_owned(), ..Setup::default() };
    open_to_other_users(&setup.bus);
    let world = World::of(setup);
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
        assert_eq!(as_other_user(&world, "me too"), "v s \"me too\"");
    } else {
        eprintln!("left out: only root can be another user too");
    }
    // When they leave there is room at once.
    programs.clear();
    let until = Instant::now() + PATIENCE;
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
            let serial = program.begin(NAME, "Wait", &[]);
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

#[test]
fn a_user_whose_programs_are_all_busy_keeps_no_other_user_out() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("left out: only root can be another user too");
    }
    let mut setup = Setup {
        allow: "\"request:vault/*\", \"request:org.example.settings1/**\"",
        policy: OTHER_USER.to_owned(),
        ..Setup::default()
    };
    open_to_other_users(&setup.bus);
    setup.config.max_senders = 16;
    let world = World::of(setup);
    // Each has one call that is slow, or none was ever answered of it.
    let busy: Vec<_> = (0..32)
        .map(|_| {
            let program = world.program();
            program.begin(NAME, "Wait", &[]);
            program
        })
        .collect();
    let is_refused = |program: &Program| {
        program.so_far().iter().any(|message| message.msg_type() == dbus::MessageType::Error)
    };
    assert_eq!(busy.iter().filter(|program| !is_refused(program)).count(), 4, "a quarter");
    assert_eq!(as_other_user(&world, "me too"), "v s \"me too\"");
    world.serves_neighbours();
    (0..4).for_each(|_| world.settings.release.send(()).unwrap());
}

#[test]
fn who_is_unknown_and_asks_much_at_once_leaves_room_for_others_who_are() {
    // There is a place for one program of this user: the others are nobody.
    let limits = Limits { peers_per_user: 3, ..Limits::default() };
    let allow = "\"request:org.example.settings1/**\"";
    let world = World::of(Setup { allow, limits, ..Setup::default() });
    let known = world.program();
    let waiting = known.begin(NAME, "Wait", &[]);
    known.so_far();
    let (greedy, modest) = (world.program(), world.program());
    let any = |program: &Program| program.begin(NAME, "Any", &[variant("x")]);
    // The interface is busy, so that all of them wait.
    let asked: Vec<u32> = (0..20).map(|_| any(&greedy)).collect();
    let begun = any(&modest);
    let refused = asked[8..].iter().map(|serial| greedy.answer(*serial).expect_err("that is too much"));
    for (name, text) in refused {
        assert!(name == "org.visorbus.Error.Message" && text.contains("8 calls of yours"), "{name}: {text}");
    }
    world.settings.release.send(()).unwrap();
    known.answer(waiting).unwrap();
    modest.answer(begun).unwrap();
    asked[..8].iter().for_each(|serial| drop(greedy.answer(*serial).unwrap()));
    // It is not held against it later.
    let again = any(&greedy);
    greedy.answer(again).unwrap();
    world.serves_neighbours();
}

#[test]
fn who_shows_tokens_where_there_is_no_place_is_not_asked_about_again_and_fills_no_log() {
    let limits = Limits { peers_per_user: 4, ..Limits::default() };
    let world = World::of(Setup { limits, ..Setup::default() });
    // One place is the neighbours'.
    let neighbours = world.handle.peers().unwrap().len();
    let programs: Vec<_> = (neighbours..4)
        .map(|_| {
            let program = world.program();
            program.call_address("vault/open", "x").unwrap();
            program
        })
        .collect();
    let late = world.program();
    let token = world.token("keeper", &["*"]);
    let begun = Instant::now();
    for _ in 0..1000 {
        let (_, text) = late.authenticate(&token).expect_err("there is no place");
        assert!(text.contains("the limit of one user"), "{text}");
    }
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let told = world.all_audited().matches("not let in").count();
    assert!((1..=2 * seconds + 1).contains(&told), "told {told} times in {seconds} s");
    drop(programs);
    let until = Instant::now() + PATIENCE;
    while let Err(refusal) = late.authenticate(&token) {
        assert!(Instant::now() < until, "{refusal:?}");
    }
}

/// What the user `nobody` says after it has called the vault.
fn as_other_user(world: &World, text: &str) -> String {
    let mut command = world.bus.command("busctl");
    command.uid(65534).gid(65534).args(["--user", "--no-pager", "call", SERVICE, ROOT, SERVICE, "Call"]);
    let ran = command.args(["sva{sv}", "vault/open", "s", text, "0"]).output().unwrap();
    String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).trim().to_owned()
}

/// Other users come to the bus too, which is in a directory of this one's own.
fn open_to_other_users(bus: &DbusDaemon) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(bus.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The user `nobody` may use the vault.
const OTHER_USER: &str = "[[unix]]\nuid = 65534\nsubject = \"guest\"\nscopes = [\"guest\"]\n\
                          [[rule]]\nscope = \"guest\"\nallow = [\"request:vault/*\"]\n";

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
