//! Who may have the hub's program do what, floods of orders, and orders that cross each other.

use std::sync::Barrier;
use std::sync::mpsc::channel;
use std::thread;

use visorbus_core::ErrorKind;

use crate::world::{Held, OwnWorld, PATIENCE, World, call, eventually};

#[test]
fn the_manager_is_asked_by_permission_alone() {
    let world = World::new();
    let manager = world.running("");
    for (scopes, may) in [
        (&[] as &[&str], [false, false, false]),
        (&["request:manager/status"], [true, false, false]),
        (&["subscribe:manager/**", "notify:manager/**"], [false, false, false]),
        (&["request:manager/*"], [true, true, true]),
    ] {
        let client = manager.create_unix_socket_client("panel").unwrap();
        client.connect().unwrap();
        client.authenticate(&world.token("panel", scopes)).unwrap();
        for (address, may) in ["manager/status", "manager/reload", "manager/shutdown"].into_iter().zip(may) {
            let refused = call(&client, address).err().map(|error| error.kind());
            assert_eq!(refused == Some(ErrorKind::Authorization), !may, "{scopes:?} {address}: {refused:?}");
        }
        client.disconnect();
    }
    assert!(manager.is_initialized());
}

#[test]
fn a_flood_of_reloads_is_done_one_after_the_other_and_the_hub_answers_meanwhile() {
    let world = World::new();
    let mut manager = world.running("");
    let clients: Vec<_> = (0..4).map(|number| world.client(&manager, &format!("panel-{number}"))).collect();
    let watcher = world.client(&manager, "watcher");
    let control = manager.control();
    let served = thread::spawn(move || manager.serve(|_| {}));
    eventually(|| control.reload().is_ok(), || "nobody serves".to_owned());
    let floods: Vec<_> = clients
        .into_iter()
        .map(|client| {
            thread::spawn(move || (0..10).filter(|_| call(&client, "manager/reload").is_ok()).count())
        })
        .collect();
    for _ in 0..20 {
        call(&watcher, "manager/status").unwrap();
    }
    let done: usize = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    assert_eq!(done, 40);
    control.shutdown();
    served.join().unwrap().unwrap();
    assert!(world.left().is_empty());
}

/// What crosses an end: which of both is begun first, and whether something is to be exchanged.
#[derive(Debug, Clone, Copy)]
struct Crossing {
    reload_first: bool,
    moves: bool,
    asked: bool,
}

#[test]
fn a_reload_that_crosses_the_end_is_done_or_refused_at_once_and_nothing_is_left() {
    let world = OwnWorld::new();
    let mut manager = world.manager("");
    let control = manager.control();
    let crossings: Vec<Crossing> = [true, false]
        .into_iter()
        .flat_map(|reload_first| [true, false].map(|moves| (reload_first, moves)))
        .flat_map(|(reload_first, moves)| [true, false].map(|asked| Crossing { reload_first, moves, asked }))
        .collect();
    let mut round = |Crossing { reload_first, moves, asked }: Crossing| {
        world.write("");
        manager.initialize().unwrap();
        // What is to be taken over at the reload takes its time, and has something begin and end.
        world.write(if moves { "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n" } else { "" });
        let begin = Barrier::new(3);
        thread::scope(|scope| {
            let (ended, end) = channel();
            let manager = &mut manager;
            scope.spawn(move || {
                let served = manager.serve(|_| {});
                ended.send((served, manager.is_initialized())).unwrap();
            });
            // Not before it takes orders.
            eventually(|| control.request_reload().is_ok(), || "nobody serves".to_owned());
            let reload = scope.spawn(|| {
                begin.wait();
                if !reload_first {
                    thread::yield_now();
                }
                match asked {
                    true => control.reload().map(drop),
                    false => control.request_reload(),
                }
            });
            scope.spawn(|| {
                begin.wait();
                if reload_first {
                    thread::yield_now();
                }
                control.shutdown();
            });
            begin.wait();
            let outcome = reload.join().unwrap().map_err(|error| error.kind());
            assert!(matches!(outcome, Ok(()) | Err(ErrorKind::Connection)), "{outcome:?}");
            let (served, is_there) = end.recv_timeout(PATIENCE).expect("it does not end");
            served.unwrap();
            assert!(!is_there);
        });
        assert!(world.left().is_empty(), "{:?}", world.left());
        assert_eq!(control.reload().unwrap_err().kind(), ErrorKind::Connection);
    };
    // What a process keeps from the first time on is not what is counted.
    crossings.iter().for_each(|crossing| round(*crossing));
    let before = Held::now();
    for _ in 0..12 {
        crossings.iter().for_each(|crossing| round(*crossing));
    }
    before.expect_no_more();
}

#[test]
fn whoever_asks_over_the_bus_for_a_reload_while_another_ends_it_is_answered_or_cut_off() {
    let world = World::new();
    let mut manager = world.running("");
    for round in 0..30 {
        manager.initialize().unwrap();
        let (reloads, ends) = (world.client(&manager, "reloads"), world.client(&manager, "ends"));
        let control = manager.control();
        let begin = Barrier::new(2);
        thread::scope(|scope| {
            let served = scope.spawn(|| manager.serve(|_| {}));
            eventually(|| control.reload().is_ok(), || "nobody serves".to_owned());
            let begin = &begin;
            let order = |client, address, second: bool| {
                move || {
                    begin.wait();
                    if second {
                        thread::yield_now();
                    }
                    call(client, address).map(drop).map_err(|error| error.kind())
                }
            };
            let reload = scope.spawn(order(&reloads, "manager/reload", round % 2 == 0));
            let end = scope.spawn(order(&ends, "manager/shutdown", round % 2 == 1));
            assert_eq!(end.join().unwrap(), Ok(()), "{round}");
            let reload = reload.join().unwrap();
            assert!(matches!(reload, Ok(()) | Err(ErrorKind::Connection)), "{round}: {reload:?}");
            served.join().unwrap().unwrap();
        });
        assert!(world.left().is_empty(), "{round}: {:?}", world.left());
    }
}
