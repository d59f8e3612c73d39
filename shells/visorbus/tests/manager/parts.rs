//! A part that is to be exchanged while it serves, and whose next one does not come to be: the one before goes on.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use visorbus::{IpcManager, settings};
use visorbus_auth::{KeyFile, TokenProvider, TokenRequest, TokenScopes};
use visorbus_core::IpcError;
use visorbus_core::dispatch::{MessageHandler, Reply};
use visorbus_core::message::Message;
use visorbus_hub::{OwnedMessage, OwnedPayload, Value};
use visorbus_services::config::ConfigManager;
use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::world::{Held, OwnWorld, PATIENCE, World, call, eventually};

/// As long as it is there this process gets no further descriptor.
struct NoDescriptors(Rlimit);

impl NoDescriptors {
    fn begin() -> Self {
        let before = getrlimit(Resource::Nofile);
        // What is open stays open.
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum }).unwrap();
        Self(before)
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}

/// A manager that needs no file, so that nothing but the part under test wants a descriptor.
fn without_files(world: &OwnWorld) -> (IpcManager, KeyFile) {
    let config = ConfigManager::in_memory(settings::schema());
    let text = |path: &str| Value::Text(world.path(path).display().to_string());
    config.set("unix_socket", "path", text("run/bus.sock"), "test").unwrap();
    config.set("hardware", "sysfs_root", text("sys"), "test").unwrap();
    config.set("hardware", "scan_interval_ms", Value::Integer(60_000), "test").unwrap();
    let keys = KeyFile::in_memory(1, [7; 32]);
    let auth = Arc::new(TokenProvider::new(keys.ring(), keys.current_id()));
    let manager = IpcManager::with_providers(config, auth, Arc::new(TokenScopes)).unwrap();
    (manager, keys)
}

#[test]
fn an_inventory_goes_on_while_descriptors_are_out_and_one_that_cannot_start_is_refused_and_leaves_nothing() {
    let world = OwnWorld::new();
    let (mut manager, keys) = without_files(&world);
    manager.initialize().unwrap();
    let client = manager.create_unix_socket_client("panel").unwrap();
    client.connect().unwrap();
    let token = keys.mint(&TokenRequest::new("panel", &["*"])).unwrap();
    client.authenticate(&visorbus_client::Credentials::Token(token)).unwrap();
    // What a first call and a first reload start stays.
    call(&client, "hardware/list").unwrap();
    manager.reload().unwrap();
    let before = Held::now();
    let set = |manager: &IpcManager, key, value| {
        manager.config().set("hardware", key, value, "test").unwrap();
    };
    let reload = |manager: &mut IpcManager| {
        let _none = NoDescriptors::begin();
        manager.reload().unwrap()
    };
    for max in [77, 78] {
        set(&manager, "max_devices", Value::Integer(max));
        reload(&mut manager);
        assert_eq!(manager.status().part("hardware").unwrap().state, "on");
        // It is alive, not only there: it notices what comes.
        let battery = world.path(&format!("sys/class/power_supply/BAT{max}"));
        std::fs::create_dir_all(&battery).unwrap();
        std::fs::write(battery.join("type"), "Battery").unwrap();
        let inventory = manager.hardware().unwrap();
        inventory.look();
        let id = format!("power_supply/BAT{max}");
        eventually(|| inventory.device(&id).is_some(), || format!("{id} is not noticed"));
        let list = OwnedMessage::request("hardware/list", OwnedPayload::Json("null".to_owned()));
        let listed = client.send_request(list, Some(PATIENCE)).unwrap().payload;
        assert!(matches!(&listed, OwnedPayload::Json(json) if json.contains(&id)), "{listed:?}");
    }
    before.expect_no_more();

    set(&manager, "enabled", Value::Bool(false));
    assert_eq!(manager.reload().unwrap().refused, []);
    let before = Held::now();
    set(&manager, "enabled", Value::Bool(true));
    for _ in 0..3 {
        let reloaded = reload(&mut manager);
        assert_eq!((reloaded.refused.len(), reloaded.applied.len()), (1, 0), "{reloaded:?}");
        let refused = &reloaded.refused[0];
        assert!(refused.what == "hardware" && refused.why.contains("Too many open files"), "{refused:?}");
        assert_eq!(manager.status().part("hardware").unwrap().state, "off");
        assert!(call(&client, "hardware/list").is_err());
    }
    before.expect_no_more();
    let reloaded = manager.reload().unwrap();
    assert_eq!((reloaded.refused.len(), reloaded.applied), (0, vec!["hardware.enabled".to_owned()]));
    call(&client, "hardware/list").unwrap();
    manager.shutdown().unwrap();
}

/// Somebody who has a name that an interface of the hub's needs.
struct InTheWay(&'static str);

impl MessageHandler for InTheWay {
    fn id(&self) -> &str {
        self.0
    }

    fn handle_message(&mut self, _: &Message<'_>, _: &mut Reply<'_>) -> Result<(), IpcError> {
        Ok(())
    }
}

#[test]
fn a_service_whose_interface_cannot_be_shown_is_not_there_either() {
    let world = World::new();
    let bus = DbusDaemon::start();
    let on_bus = format!("[dbus]\nenabled = true\nbus = \"{}\"\n", bus.address());
    let off = "[hardware]\nenabled = false\n[monitoring]\nenabled = false\n";
    let mut manager = world.running(&format!("{on_bus}{off}"));
    let client = world.client(&manager, "panel");
    for (part, component) in
        [("hardware", "org.visorbus.hardware1"), ("monitoring", "org.visorbus.monitoring1")]
    {
        manager.register_handler(Box::new(InTheWay(component))).unwrap();
        let other = ["hardware", "monitoring"].into_iter().find(|other| *other != part).unwrap();
        world.write(&format!("{on_bus}[{other}]\nenabled = false\n"));
        let reloaded = manager.reload().unwrap();
        assert_eq!(reloaded.refused.len(), 1, "{reloaded:?}");
        let refused = &reloaded.refused[0];
        assert!(refused.what == part && refused.why.contains(component), "{refused:?}");
        assert_eq!(manager.status().part(part).unwrap().state, "off");
        let list = format!("{part}/{}", if part == "hardware" { "list" } else { "health" });
        assert!(call(&client, &list).is_err(), "nobody answers for {part}");
        assert!(manager.hardware().is_none() && manager.monitoring().is_none());

        manager.unregister_handler(component).unwrap();
        let reloaded = manager.reload().unwrap();
        assert_eq!(reloaded.refused, [], "{part}");
        assert_eq!(manager.status().part(part).unwrap().state, "on");
        call(&client, &list).unwrap();
        world.write(&format!("{on_bus}{off}"));
        assert_eq!(manager.reload().unwrap().refused, []);
    }
}
