//! The bus goes and comes back while everybody uses it: calls and subscriptions come back, the neighbours at the Unix
//! socket notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_core::message::MessagePayload;
use visorbus_tests::dbus_daemon::DbusDaemon;
use visorbus_tests::patience::{Ending, wait_until};

use crate::program::Program;
use crate::world::{ROOT, Setup, World};

#[test]
fn a_bus_that_is_killed_under_load_again_and_again_is_joined_again() {
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        let allow = "\"request:imu/**\", \"subscribe:imu/**\", \"request:vault/*\", \"imu.control\"";
        let mut setup = Setup { bus, allow, ..Setup::default() };
        setup.config.retry_ms = 20;
        let mut world = World::of(setup).with_sensor();
        let (over, calls, slowest) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let mut neighbour = world.neighbour("neighbour", &["request:vault/*"]);
        thread::scope(|scope| {
            let _ending = Ending(&over);
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    neighbour.request("vault/open", MessagePayload::String("x")).unwrap();
                    slowest.fetch_max(begun.elapsed().as_micros() as usize, Ordering::SeqCst);
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            });
            for round in 1..=4 {
                // Three that call without end until the bus is gone, and one that hears.
                let answered = Arc::new(<[AtomicUsize; 3]>::default());
                let load: Vec<_> = (0..3)
                    .map(|number| {
                        let (program, answered) = (world.program(), Arc::clone(&answered));
                        scope.spawn(move || call_until_gone(&program, &answered[number]))
                    })
                    .collect();
                let hears = world.program();
                let imu = format!("{ROOT}/components/imu");
                let subscribed =
                    hears.call_at(&imu, "org.visorbus.Component1", "Subscribe", &["imu/sample".into()]);
                assert_eq!(subscribed, Ok(Vec::new()));
                (0..3).for_each(|_| drop(hears.signal("Sample")));
                wait_until("it is under load", || {
                    answered.iter().all(|answered| answered.load(Ordering::SeqCst) > 0)
                });
                let before = calls.load(Ordering::SeqCst);
                world.bus.kill();
                load.into_iter().for_each(|load| load.join().unwrap());
                wait_until("the end of the bus is noticed", || world.door.state().unique_name.is_none());
                let stats = world.statistics();
                assert_eq!((stats.senders, stats.sessions, stats.waiting, stats.output_bytes), (0, 0, 0, 0));
                wait_until("the neighbour goes on meanwhile", || calls.load(Ordering::SeqCst) > before + 100);
                world.bus.restart();
                world.wait_until_named();
                assert_eq!(world.statistics().connects, round + 1);
                let again = world.program();
                assert_eq!(again.call_address("vault/open", "again").as_deref(), Ok("again"));
            }
        });
        let slowest = Duration::from_micros(slowest.load(Ordering::SeqCst) as u64);
        eprintln!("{} calls of the neighbour, {slowest:?} at most", calls.load(Ordering::SeqCst));
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        assert_eq!(world.statistics().faults, 0);
        world.wait_for_peers(|peers| peers.iter().filter(|peer| peer.name.starts_with("panel")).count() <= 1);
    }
}

/// Calls until the bus is gone, and counts what is answered.
fn call_until_gone(program: &Program, answered: &AtomicUsize) {
    while let Ok(serial) = program.channel.send(crate::program::call_of("vault/open", "x")) {
        if program.next(|message| message.get_reply_serial() == Some(serial)).is_none() {
            return;
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
}
