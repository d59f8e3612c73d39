//! A manager that serves, while its configuration, its files and its clients change.

use std::fs;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use visorbus::{IpcManager, ManagerControl, ManagerEvent, ManagerStatus, Reloaded};
use visorbus_client::Client;
use visorbus_core::ErrorKind;
use visorbus_hub::{Result, Value};

use crate::world::{PATIENCE, World, call, eventually};

/// A manager that serves on a thread of its own, and what it has told.
struct Serving {
    control: ManagerControl,
    told: Receiver<Reloaded>,
    thread: Option<JoinHandle<(IpcManager, Result<()>)>>,
}

impl Serving {
    fn start(mut manager: IpcManager) -> Self {
        let control = manager.control();
        let (tell, told) = channel();
        let serve = move || {
            let served = manager.serve(|event| {
                if let ManagerEvent::Changed(changed) = event {
                    let _ = tell.send(changed.clone());
                }
            });
            (manager, served)
        };
        let thread = Some(thread::spawn(serve));
        let serving = Self { control, told, thread };
        eventually(|| serving.control.reload().is_ok(), || "nobody serves".to_owned());
        serving
    }

    fn changed(&self) -> Reloaded {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    fn end(mut self) -> (IpcManager, Result<()>) {
        self.control.shutdown();
        self.thread.take().unwrap().join().unwrap()
    }
}

/// A client of the port that may do everything.
fn on_port(world: &World, manager: &IpcManager) -> Client {
    let client = manager.create_websocket_client("page").unwrap();
    client.connect().unwrap();
    client.authenticate(&world.token("page", &["*"])).unwrap();
    Client::clone(&client)
}

fn status(client: &Client) -> ManagerStatus {
    call(client, "manager/status").unwrap().payload.parse().unwrap()
}

fn reload(client: &Client) -> Result<Reloaded> {
    call(client, "manager/reload")?.payload.parse()
}

#[test]
fn a_reload_says_what_holds_now_what_waits_and_what_is_refused() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    world.write("[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n[limits]\nmax_peers = 7\n");
    let reloaded = reload(&client).unwrap();
    assert_eq!(reloaded.applied, ["websocket.enabled", "websocket.bind_address"]);
    assert_eq!(reloaded.at_restart, ["limits.max_peers"]);
    assert_eq!(reloaded.refused, []);
    let is = status(&client);
    assert!(is.part("websocket").unwrap().place.starts_with("ws://127.0.0.1:"), "{is:?}");
    assert_eq!(is.at_restart, ["limits.max_peers"]);
    // Nothing more has changed, and what waits still waits.
    let again = reload(&client).unwrap();
    assert_eq!((again.applied.len(), again.at_restart), (0, vec!["limits.max_peers".to_owned()]));
    serving.end().1.unwrap();
}

#[test]
fn a_configuration_that_is_broken_changes_nothing_and_the_rest_is_read_again() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    for wrong in
        ["[websocket]\nenabld = true\n", "[dbus]\nenabled = 7\n", "[limits]\nqueue_bytes = 4096\n", "= ="]
    {
        world.write(wrong);
        let reloaded = reload(&client).unwrap();
        assert_eq!(reloaded.applied.len() + reloaded.at_restart.len(), 0, "{wrong}: {reloaded:?}");
        assert_eq!(reloaded.refused[0].what, "configuration");
        assert!(reloaded.refused[0].why.contains("visorbus.toml"), "{wrong}: {reloaded:?}");
        assert!(status(&client).refused.len() == 1);
    }
    world.write("");
    assert_eq!(reload(&client).unwrap().refused, []);
    assert_eq!(status(&client).refused, []);
    serving.end().1.unwrap();
}

#[test]
fn a_socket_and_a_port_move_while_peers_are_there_and_those_of_the_other_notice_nothing() {
    let world = World::new();
    let manager = world.running("[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n");
    let on_socket = world.client(&manager, "panel");
    let on_port = manager.create_websocket_client("page").unwrap();
    on_port.connect().unwrap();
    on_port.authenticate(&world.token("page", &["*"])).unwrap();
    let before = status(&on_port);
    let serving = Serving::start(manager);
    let moved = world.path("run/moved.sock");
    world.write(&format!(
        "[unix_socket]\npath = \"{}\"\n[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n",
        moved.display()
    ));
    let reloaded = reload(&on_port).unwrap();
    assert_eq!((reloaded.applied, reloaded.refused), (vec!["unix_socket.path".to_owned()], Vec::new()));
    assert!(moved.exists());
    eventually(|| !world.socket().exists(), || "the old socket stays".to_owned());
    let after = status(&on_port);
    assert_eq!(after.part("websocket"), before.part("websocket"), "the port is the same");
    eventually(
        || call(&on_socket, "manager/status").is_err(),
        || "its socket is gone, this client is not".to_owned(),
    );
    let elsewhere = visorbus_unix::UnixSocketClient::new(&moved, "other").unwrap();
    elsewhere.connect().unwrap();
    elsewhere.authenticate(&world.token("other", &["*"])).unwrap();
    // And the port, while somebody is on the socket.
    world.write(&format!("[unix_socket]\npath = \"{}\"\n", moved.display()));
    let reloaded = reload(&elsewhere).unwrap();
    assert!(reloaded.applied.contains(&"websocket.enabled".to_owned()), "{reloaded:?}");
    assert_eq!(status(&elsewhere).part("websocket").unwrap().state, "off");
    serving.end().1.unwrap();
    assert!(world.left().is_empty(), "{:?}", world.left());
}

#[test]
fn whoever_has_his_own_way_in_moved_is_answered_first() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    world.write(&format!("[unix_socket]\npath = \"{}\"\n", world.path("run/moved.sock").display()));
    assert_eq!(reload(&client).unwrap().applied, ["unix_socket.path"]);
    eventually(|| !world.socket().exists(), || "the old socket stays".to_owned());
    serving.end().1.unwrap();
}

#[test]
fn whoever_has_his_own_way_in_replaced_at_its_place_is_answered_first() {
    let world = World::new();
    let text = "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n";
    let manager = world.running(text);
    let on_port = on_port(&world, &manager);
    let serving = Serving::start(manager);
    world.write(&format!("{text}dashboard = true\n"));
    assert_eq!(reload(&on_port).unwrap().applied, ["websocket.dashboard"]);
    eventually(|| call(&on_port, "manager/status").is_err(), || "the old port stays".to_owned());
    serving.end().1.unwrap();
}

#[test]
fn certificates_that_are_not_there_cost_nobody_the_connection_however_much_else_is_set() {
    let world = World::new();
    let text = "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n";
    let manager = world.running(text);
    let (on_port, config) = (on_port(&world, &manager), manager.config().clone());
    let serving = Serving::start(manager);
    let before = status(&on_port);
    let tls =
        "tls_enabled = true\ntls_cert_path = \"/nowhere/hub.crt\"\ntls_key_path = \"/nowhere/hub.key\"\n";
    world.write(&format!("{text}{tls}"));
    let refused = reload(&on_port).unwrap().refused;
    assert!(refused.len() == 1 && refused[0].why.contains("/nowhere/hub.crt"), "{refused:?}");
    for interval in [2_000, 3_000] {
        config.set("monitoring", "interval_ms", Value::Integer(interval), "test").unwrap();
        let changed = serving.changed();
        assert_eq!(
            (changed.applied, changed.refused),
            (vec!["monitoring.interval_ms".to_owned()], Vec::new())
        );
        let after = status(&on_port);
        assert_eq!(after.part("websocket"), before.part("websocket"), "the port is the same");
        assert_eq!(after.refused, refused, "and what was refused is still so");
    }
    assert_eq!(reload(&on_port).unwrap().refused, refused, "it is tried again when that is asked for");
    world.write(text);
    assert_eq!(reload(&on_port).unwrap().refused, []);
    assert_eq!(status(&on_port).refused, []);
    serving.end().1.unwrap();
}

#[test]
fn what_waits_for_the_next_start_is_told_once() {
    let world = World::new();
    let manager = world.running("");
    let config = manager.config().clone();
    let serving = Serving::start(manager);
    config.set("limits", "max_peers", Value::Integer(7), "test").unwrap();
    assert_eq!(serving.changed().at_restart, ["limits.max_peers"]);
    config.set("monitoring", "interval_ms", Value::Integer(2_000), "test").unwrap();
    assert_eq!(serving.changed().at_restart, [] as [&str; 0]);
    assert_eq!(serving.control.status().at_restart, ["limits.max_peers"]);
    serving.end().1.unwrap();
}

#[test]
fn a_single_key_waits_for_the_next_start_while_others_of_its_category_hold_at_once() {
    let world = World::new();
    let declared = "[panel.mode]\nkind = \"text\"\ndefault = \"day\"\ndescription = \"Taken up at the start.\"\n\
                    applies = \"at_restart\"\n[panel.level]\nkind = \"integer\"\nmin = 0\nmax = 9\ndefault = 1\n\
                    description = \"Taken up at once.\"\n";
    fs::write(world.path("panel.toml"), declared).unwrap();
    let text = "[settings]\ndeclarations = [\"panel.toml\"]\n";
    let manager = world.running(text);
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    world.write(&format!(
        "{text}[monitoring]\ninterval_ms = 2000\nproc_root = \"/nowhere\"\n[panel]\nmode = \"night\"\nlevel = 2\n"
    ));
    let waiting = ["monitoring.proc_root", "panel.mode"];
    let reloaded = reload(&client).unwrap();
    assert_eq!(reloaded.applied, ["monitoring.interval_ms", "panel.level"]);
    assert_eq!(reloaded.at_restart, waiting);
    assert_eq!(reload(&client).unwrap().at_restart, waiting, "they still wait");
    assert_eq!(status(&client).at_restart, waiting);
    world.write(text);
    assert_eq!(reload(&client).unwrap().at_restart, [] as [&str; 0], "what is as it was waits for nothing");
    serving.end().1.unwrap();
}

#[test]
fn what_only_clients_of_the_programs_own_use_ends_no_connection() {
    let world = World::new();
    let text = "[websocket]\nenabled = true\nbind_address = \"127.0.0.1:0\"\n";
    let manager = world.running(text);
    let page = on_port(&world, &manager);
    let serving = Serving::start(manager);
    let before = status(&page);
    world
        .write(&format!("{text}server_url = \"ws://127.0.0.1:1\"\ntls_ca_cert_path = \"/nowhere/ca.crt\"\n"));
    let reloaded = reload(&page).unwrap();
    assert_eq!(reloaded.applied, ["websocket.server_url", "websocket.tls_ca_cert_path"]);
    assert_eq!(status(&page).part("websocket"), before.part("websocket"), "asked by the same connection");
    let (manager, ended) = serving.end();
    ended.unwrap();
    assert_eq!(manager.settings().websocket.server_url.as_deref(), Some("ws://127.0.0.1:1"));
}

#[test]
fn what_is_asked_before_anybody_serves_is_done_then() {
    let world = World::new();
    let mut manager = world.running("");
    let (control, client) = (manager.control(), world.client(&manager, "panel"));
    control.request_reload().unwrap();
    control.request_reload().unwrap();
    world.write("[log]\nlevel = \"off\"\n[limits]\nmax_peers = 7\n");
    // Over the bus too: the socket is there before its program serves.
    let (asks, asked) = channel();
    let asking = thread::spawn(move || {
        asks.send(()).unwrap();
        reload(&client)
    });
    asked.recv().unwrap();
    let mut events = Vec::new();
    manager
        .serve(|event| {
            let waits = |reloaded: &Reloaded| reloaded.at_restart.clone();
            match event {
                ManagerEvent::Serving => events.push(("serving", Vec::new())),
                ManagerEvent::Reloaded(reloaded) => {
                    events.push(("reloaded", waits(reloaded)));
                    if events.len() == 3 {
                        control.shutdown();
                    }
                }
                _ => {}
            }
        })
        .unwrap();
    assert_eq!(asking.join().unwrap().unwrap().at_restart, ["limits.max_peers"]);
    let waits = vec!["limits.max_peers".to_owned()];
    assert_eq!(events, [("serving", Vec::new()), ("reloaded", waits.clone()), ("reloaded", waits)]);
    assert_eq!(control.request_reload().unwrap_err().kind(), ErrorKind::Connection, "it has ended");
}

#[test]
fn an_end_that_was_asked_for_once_more_does_not_end_a_manager_that_is_started_again() {
    let world = World::new();
    let (mut manager, ended) = Serving::start(world.running("")).end();
    ended.unwrap();
    manager.control().shutdown();
    manager.initialize().unwrap();
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    assert_eq!(reload(&client).unwrap(), Reloaded::default());
    serving.end().1.unwrap();
}

#[test]
fn settings_that_are_declared_while_it_serves_are_there_at_once_and_followed() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    let key = "kind = \"integer\"\ndefault = 1\ndescription = \"A number.\"\n";
    fs::write(
        world.path("room.toml"),
        format!("[room.width]\n{key}[room.doors]\n{key}applies = \"at_restart\"\n"),
    )
    .unwrap();
    let named = "[settings]\ndeclarations = [\"room.toml\"]\n";
    world.write(&format!("{named}[room]\nwidth = 3\n"));
    let reloaded = reload(&client).unwrap();
    assert_eq!(reloaded.refused, []);
    assert_eq!(reloaded.applied, ["settings.declarations", "room.width"]);
    let got: visorbus_services::config::ConfigEntry =
        call(&client, "config/get/room/width").unwrap().payload.parse().unwrap();
    assert_eq!(got.value, Value::Integer(3));
    // From then on as any other, and also when one is added.
    world.write(&format!("{named}[room]\nwidth = 3\ndoors = 2\n"));
    assert_eq!(reload(&client).unwrap().at_restart, ["room.doors"]);
    fs::write(
        world.path("room.toml"),
        format!("[room.walls]\n{key}[room.doors]\n{key}applies = \"at_restart\"\n"),
    )
    .unwrap();
    let refused = reload(&client).unwrap().refused;
    assert!(refused[0].why.contains("there is no key 'room.width'"), "{refused:?}");
    world.write(&format!("{named}[room]\nwalls = 4\ndoors = 2\n"));
    let reloaded = reload(&client).unwrap();
    assert_eq!(
        (reloaded.applied, reloaded.at_restart),
        (vec!["room.walls".to_owned()], vec!["room.doors".to_owned()])
    );
    // And no more.
    world.write("");
    assert_eq!(reload(&client).unwrap().applied, ["settings.declarations"]);
    assert!(call(&client, "config/get/room/walls").is_err());
    assert_eq!(status(&client).at_restart, [] as [&str; 0]);
    serving.end().1.unwrap();
}

#[test]
fn a_place_that_cannot_be_had_leaves_the_old_one() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    fs::write(world.path("file"), "").unwrap();
    world.write(&format!("[unix_socket]\npath = \"{}\"\n", world.path("file").display()));
    let reloaded = reload(&client).unwrap();
    assert_eq!(reloaded.refused[0].what, "unix_socket");
    assert_eq!(status(&client).part("unix_socket").unwrap().place, world.socket().display().to_string());
    // Of the same place with other options the old one goes first, and comes back.
    world.write(&format!("[unix_socket]\npath = \"{}\"\ngroup = \"4294967294\"\n", world.socket().display()));
    let _ = reload(&client);
    eventually(|| world.socket().exists(), || "the old socket is gone".to_owned());
    serving.end().1.unwrap();
}

#[test]
fn a_setting_that_is_changed_while_it_serves_is_followed_by_itself() {
    let world = World::new();
    let manager = world.running("");
    let config = manager.config().clone();
    let serving = Serving::start(manager);
    config.set("websocket", "bind_address", Value::Text("127.0.0.1:0".to_owned()), "test").unwrap();
    assert_eq!(serving.changed().applied, ["websocket.bind_address"]);
    config.set("websocket", "enabled", Value::Bool(true), "test").unwrap();
    assert_eq!(serving.changed().applied, ["websocket.enabled"]);
    assert_eq!(serving.control.status().part("websocket").unwrap().state, "on");
    config.reset("websocket", "enabled", "test").unwrap();
    assert_eq!(serving.changed().applied, ["websocket.enabled"]);
    assert_eq!(serving.control.status().part("websocket").unwrap().state, "off");
    serving.end().1.unwrap();
}

#[test]
fn parts_are_switched_off_and_on_while_it_serves() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    for (state, text) in [("off", "[hardware]\nenabled = false\n[monitoring]\nenabled = false\n"), ("on", "")]
    {
        world.write(text);
        let reloaded = reload(&client).unwrap();
        assert_eq!(reloaded.applied, ["hardware.enabled", "monitoring.enabled"]);
        let is = status(&client);
        for part in ["hardware", "monitoring"] {
            assert_eq!(is.part(part).unwrap().state, state);
        }
        assert_eq!(call(&client, "hardware/list").is_ok(), state == "on");
    }
    serving.end().1.unwrap();
}

#[test]
fn a_line_that_is_named_no_more_is_let_go_and_others_stay() {
    let world = World::new();
    let manager = world.running("[links]\nserial = [\"/nowhere/a\", \"/nowhere/b\"]\n");
    let client = world.client(&manager, "panel");
    let serving = Serving::start(manager);
    world.write("[links]\nserial = [\"/nowhere/b\", \"/nowhere/c\"]\n");
    assert_eq!(reload(&client).unwrap().applied, ["links.serial"]);
    let lines: Vec<String> = status(&client)
        .parts
        .into_iter()
        .filter(|part| part.name == "links")
        .map(|part| part.place)
        .collect();
    assert_eq!(lines, ["serial /nowhere/b@115200", "serial /nowhere/c@115200"]);
    serving.end().1.unwrap();
}

#[test]
fn the_one_who_has_it_ended_over_the_bus_is_answered() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    let mut serving = Serving::start(manager);
    call(&client, "manager/shutdown").unwrap();
    let (mut manager, served) = serving.thread.take().unwrap().join().unwrap();
    served.unwrap();
    assert!(world.left().is_empty() && !manager.is_initialized());
    manager.shutdown().unwrap();
}

#[test]
fn orders_are_refused_where_nobody_serves() {
    let world = World::new();
    let manager = world.running("");
    let client = world.client(&manager, "panel");
    assert!(call(&client, "manager/status").is_ok());
    for order in ["manager/reload", "manager/shutdown"] {
        assert_eq!(call(&client, order).unwrap_err().kind(), ErrorKind::Connection);
    }
    assert_eq!(manager.control().reload().unwrap_err().kind(), ErrorKind::Connection);
    assert!(call(&client, "manager/status").is_ok());
}
