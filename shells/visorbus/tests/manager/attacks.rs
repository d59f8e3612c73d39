//! Who may have the hub's program do what, and floods of orders.

use std::thread;

use visorbus_core::ErrorKind;

use crate::world::{World, call, eventually};

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
