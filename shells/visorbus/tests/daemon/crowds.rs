//! Many who change, watch and move at once.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use visorbus_client::Delivery;
use visorbus_core::bus::SlowConsumer;
use visorbus_hub::OwnedPayload;

use crate::house::{House, ask, json, text};
use crate::place::PATIENCE;

#[test]
fn whoever_watches_ends_with_the_value_that_the_file_has_while_all_change_it_and_hangups_rain() {
    let house = House::new("[limits]\npeers_per_user = 512\nmax_peers = 512\n[display]\nbrightness = 0\n");
    let scopes = &["request:config/**", "subscribe:config/**"];
    let clients: Vec<_> = (0..100)
        .map(|number| match number % 2 {
            0 => house.client(&format!("unix-{number}"), scopes),
            _ => house.web_client(&format!("web-{number}"), scopes),
        })
        .collect();
    let watches: Vec<_> = clients
        .iter()
        .map(|client| client.subscribe("config/changed/display/brightness", SlowConsumer::Latest).unwrap())
        .collect();
    thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            scope.spawn(move || match number % 5 {
                0 => drop(ask(client, "config/reset/display/brightness", OwnedPayload::Empty).unwrap()),
                1 => {
                    let document =
                        format!(r#"{{"display":{{"brightness":{number}}},"sound":{{"volume":{number}}}}}"#);
                    drop(ask(client, "config/import", json(document)).unwrap());
                }
                _ => drop(ask(client, "config/set", text(format!("display.brightness = {number}"))).unwrap()),
            });
        }
        for _ in 0..50 {
            house.hub.signal(Signal::SIGHUP);
        }
    });
    ask(&clients[0], "config/set", text("display.brightness = 77777")).unwrap();
    for (number, watch) in watches.iter().enumerate() {
        loop {
            let told =
                watch.recv(Some(PATIENCE)).unwrap().unwrap_or_else(|| panic!("{number} hears nothing"));
            let Delivery::Message(told) = told else { continue };
            if is_last(&told.payload) {
                break;
            }
        }
        assert!(watch.try_recv().unwrap().is_none(), "{number} hears of something behind the last");
    }
    assert!(house.text().contains("brightness = 77777"), "{}", house.text());
}

/// Whether a change is the last one, in postcard: two names, then the variant and the number.
fn is_last(payload: &OwnedPayload) -> bool {
    let OwnedPayload::Binary(bytes) = payload else { return false };
    // 77777 as a zigzag varint.
    bytes.windows(3).any(|window| window == [0xa2, 0xbf, 0x09])
}

#[test]
fn parts_that_move_again_and_again_leave_no_descriptor_and_no_thread() {
    let house = House::new("");
    let client = house.client("operator", &["request:manager/*"]);
    let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", house.hub.pid())).unwrap().count();
    let turn = |number: usize| {
        let port = ["127.0.0.1:0", "127.0.0.2:0"][number % 2];
        let line = ["[links]\nserial = [\"/nowhere/tty\"]\n", ""][number % 2];
        let way = format!("[websocket]\nenabled = true\nbind_address = \"{port}\"\n{line}");
        fs::write(house.file(), way + "[settings]\ndeclarations = [\"display.toml\"]\n").unwrap();
        let told = ask(&client, "manager/reload", OwnedPayload::Empty);
        told.unwrap_or_else(|error| panic!("{number}: {error}"));
    };
    (0..4).for_each(turn);
    let before = (count("fd"), count("task"));
    (4..64).for_each(turn);
    let after = (count("fd"), count("task"));
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 2, "{before:?} became {after:?}");
}
