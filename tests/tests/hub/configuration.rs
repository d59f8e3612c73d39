//! The configuration over a hub: in every form, key by key for whoever may, and told to those who listen.

use visorbus_core::bus::SlowConsumer;
use visorbus_core::error::ErrorKind;
use visorbus_core::message::MessagePayload;
use visorbus_hub::info::ServiceInfo;
use visorbus_hub::{OwnedMessage, OwnedPayload, Value};
use visorbus_services::config::{
    Category, CategoryInfo, ConfigChange, ConfigEntry, ConfigKey, ConfigManager, ConfigMessageHandler,
    ConfigOutcome, ConfigSchema, ConfigSet, Key, Origin as From, Overrides,
};
use visorbus_services::monitoring::{
    HealthStatus, MonitoringConfig, MonitoringEvent, MonitoringManager, MonitoringMessageHandler,
};
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_peer::{RawPeer, expect_error};

use crate::harness::{Client, TestHub, text};
use crate::translate::json_peer;

fn schema() -> ConfigSchema {
    let display = Category::new("display", "What the eyes see.")
        .key(Key::float("brightness", 0.0..=1.0, 0.5, "How bright it is."))
        .key(Key::bool("hdr", false, "Whether it has a high range.").at_restart());
    let net = Category::new("net", "Where it listens.")
        .key(Key::texts("hosts", ["localhost"], "Which hosts."))
        .key(Key::text("password", "", "What they must say.").secret())
        .key(Key::text("key_file", "", "Where the keys are.").only_in_file());
    ConfigSchema::new([display, net])
}

/// A hub with a configuration in a file.
struct House {
    directory: tempfile::TempDir,
    config: ConfigManager,
    hub: TestHub,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("visorbus.toml");
        let config = ConfigManager::open(schema(), path, Overrides::none()).unwrap();
        let hub = TestHub::start();
        let handler = ConfigMessageHandler::new(config.clone(), hub.handle.clone());
        hub.handle.register_handler(Box::new(handler)).unwrap();
        Self { directory, config, hub }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("visorbus.toml")).unwrap_or_default()
    }
}

fn ask<T: serde::de::DeserializeOwned>(peer: &mut RawPeer, address: &str, payload: &OwnedPayload) -> T {
    let answer = peer.request(address, payload.borrow()).unwrap();
    answer.payload.parse().unwrap_or_else(|error| panic!("{error}: {:?}", answer.payload))
}

fn postcard<T: serde::Serialize>(value: &T) -> OwnedPayload {
    OwnedPayload::postcard(value).unwrap()
}

fn key(category: &str, key: &str) -> ConfigKey {
    ConfigKey { category: category.to_owned(), key: key.to_owned() }
}

fn brightness(value: f64) -> ConfigSet {
    let ConfigKey { category, key } = key("display", "brightness");
    ConfigSet { category, key, value: Value::Float(value) }
}

#[test]
fn a_key_is_read_and_changed_in_each_form_and_the_answer_has_the_same() {
    let house = House::new();
    let mut peer = house.hub.connect("peer", &["request:config/**"]);
    let set: ConfigOutcome = ask(&mut peer, "config/set", &postcard(&brightness(0.25)));
    assert_eq!(set, ConfigOutcome { changed: true, note: String::new() });
    let entry: ConfigEntry = ask(&mut peer, "config/get", &postcard(&key("display", "brightness")));
    assert_eq!((entry.value, entry.origin), (Value::Float(0.25), From::File { line: 2 }));

    let mut say =
        |address: &str, payload: MessagePayload<'_>| peer.request(address, payload).unwrap().payload;
    let json = r#"{"category":"display","key":"brightness","value":1}"#;
    let OwnedPayload::Json(answer) = say("config/set", MessagePayload::Json(json)) else { panic!() };
    assert_eq!(answer, r#"{"changed":true,"note":""}"#);
    let toml = "category = 'display'\nkey = 'brightness'\nvalue = 0.75";
    let OwnedPayload::Toml(answer) = say("config/set", MessagePayload::Toml(toml)) else { panic!() };
    assert_eq!(answer, "changed = true\nnote = \"\"\n");
    let text = "display.hdr = true";
    let answer = say("config/set", MessagePayload::String(text));
    let later = "changed: it has its effect when the hub starts again";
    assert_eq!(answer, OwnedPayload::String(later.to_owned()));
    assert_eq!(house.text(), "[display]\nbrightness = 0.75\nhdr = true\n");

    // With the key in the address too.
    let list = OwnedPayload::String("net.hosts = [\"a\", \"b\"]".to_owned());
    say("config/set/net/hosts", MessagePayload::String("a, b"));
    assert_eq!(say("config/get/net/hosts", MessagePayload::String("")), list);
    say("config/set/net/hosts", MessagePayload::Json("[]"));
    say("config/set/net/hosts", MessagePayload::Toml("value = ['c']"));
    say("config/set/display/hdr", postcard(&Value::Bool(false)).borrow());
    assert_eq!(house.config.texts("net", "hosts"), ["c"]);
    say("config/reset/net/hosts", MessagePayload::Empty);
    say("config/reset", MessagePayload::String("display/brightness"));
    assert_eq!(house.text(), "[display]\nhdr = false\n\n[net]\n");
}

#[test]
fn many_keys_are_listed_described_exported_and_imported() {
    let house = House::new();
    let mut peer = house.hub.connect("peer", &["request:config/**"]);
    let entries: Vec<ConfigEntry> = ask(&mut peer, "config/list", &OwnedPayload::Empty);
    assert_eq!(entries.len(), 5);
    let some: Vec<ConfigEntry> = ask(&mut peer, "config/list", &OwnedPayload::Json("\"net\"".to_owned()));
    assert_eq!(some.len(), 3);
    let told = text(&peer.request("config/list", MessagePayload::String("display")).unwrap()).to_owned();
    assert_eq!(told, "display.brightness = 0.5\ndisplay.hdr = false");
    let described: Vec<CategoryInfo> = ask(&mut peer, "config/describe", &OwnedPayload::Empty);
    assert_eq!(described[0].keys[0].expected, "a number from 0 to 1");

    let document = peer.request("config/export", MessagePayload::Json("null")).unwrap().payload;
    let json = r#"{"display":{"brightness":0.5,"hdr":false},"net":{"hosts":["localhost"],"key_file":""}}"#;
    assert_eq!(document, OwnedPayload::Json(json.to_owned()));
    let outcome: ConfigOutcome = ask(&mut peer, "config/import", &document);
    assert_eq!((outcome.changed, house.text()), (false, String::new()));
    let more = json.replace("0.5", "0.9").replace("localhost", "elsewhere");
    let outcome: ConfigOutcome = ask(&mut peer, "config/import", &OwnedPayload::Json(more.clone()));
    assert_eq!(outcome, ConfigOutcome { changed: true, note: "2 of 4 keys".to_owned() });
    let toml = peer.request("config/export", MessagePayload::Toml("")).unwrap().payload;
    assert!(
        matches!(&toml, OwnedPayload::Toml(text) if text.starts_with("[display]\nbrightness = 0.9\n")),
        "{toml:?}"
    );

    // All of it or nothing.
    let before = house.text();
    for wrong in ["0.9", "0.8"] {
        let wrong = more.replace("0.9", wrong).replace("[\"elsewhere\"]", "7");
        let refused = peer.request("config/import", MessagePayload::Json(&wrong));
        expect_error(refused, ErrorKind::Message, "'net.hosts' is a list of texts, not 7");
    }
    let file = more.replace("\"key_file\":\"\"", "\"key_file\":\"/stolen\"").replace("0.9", "0.1");
    let refused = peer.request("config/import", MessagePayload::Json(&file));
    expect_error(refused, ErrorKind::Authorization, "changed in the file alone");
    assert_eq!(house.text(), before);
}

#[test]
fn a_permission_names_keys_wherever_the_key_stands() {
    let house = House::new();
    let mut innocent = house.hub.bystander();
    let scopes =
        ["request:config/*", "request:config/get/display/*", "request:config/set/display/brightness"];
    let mut peer = house.hub.connect("peer", &scopes);
    let entries: Vec<ConfigEntry> = ask(&mut peer, "config/list", &OwnedPayload::Empty);
    assert_eq!(entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["brightness", "hdr"]);
    let described: Vec<CategoryInfo> = ask(&mut peer, "config/describe", &OwnedPayload::Empty);
    assert_eq!(described.len(), 1);
    let exported = peer.request("config/export", MessagePayload::Json("null")).unwrap();
    assert_eq!(
        exported.payload,
        OwnedPayload::Json(r#"{"display":{"brightness":0.5,"hdr":false}}"#.to_owned())
    );

    let _: ConfigOutcome = ask(&mut peer, "config/set", &postcard(&brightness(0.9)));
    let before = house.text();
    for (address, payload) in [
        ("config/set", MessagePayload::String("display.hdr = true")),
        ("config/set/display/hdr", MessagePayload::String("true")),
        ("config/reset", MessagePayload::String("display.hdr")),
        ("config/reset/display/brightness", MessagePayload::Empty),
        ("config/get", MessagePayload::String("net.hosts")),
        ("config/get", MessagePayload::String("net.no_such_key")),
        ("config/get/net/hosts", MessagePayload::Empty),
        ("config/import", MessagePayload::Toml("[display]\nbrightness = 0.1\nhdr = true")),
        ("config/import", MessagePayload::Toml("[net]\nhosts = [\"localhost\"]")),
    ] {
        expect_error(peer.request(address, payload), ErrorKind::Authorization, "no permission");
    }
    let mut stranger = house.hub.connect("stranger", &["request:config/get/display/hdr"]);
    expect_error(
        stranger.request("config/list", MessagePayload::Empty),
        ErrorKind::Authorization,
        "no permission",
    );
    let entry: ConfigEntry = ask(&mut stranger, "config/get/display/hdr", &OwnedPayload::Empty);
    assert_eq!(entry.value, Value::Bool(false));
    let mut nobody = house.hub.greeted("nobody");
    let refused = nobody.request("config/get/display/hdr", MessagePayload::Empty);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Authentication);
    assert_eq!(house.text(), before);
    innocent.is_served_alone(&house.hub);
}

#[test]
fn a_change_is_told_to_those_who_listen_and_nothing_is_told_when_nothing_changes() {
    let house = House::new();
    let mut peer = house.hub.connect("peer", &["request:config/**"]);
    let mut listener = house.hub.connect("listener", &["subscribe:config/changed/display/*"]);
    listener.subscribe("config/changed/display/*", SlowConsumer::Disconnect).unwrap();
    let refused = listener.subscribe("config/changed/**", SlowConsumer::Disconnect);
    expect_error(refused, ErrorKind::Authorization, "no permission");
    let mut panel = json_peer(&house.hub, "panel", &["subscribe:config/changed/**", "request:config/**"]);
    panel.subscribe("config/changed/**", SlowConsumer::Disconnect).unwrap();

    for value in [0.5, 0.6, 0.6] {
        let _: ConfigOutcome = ask(&mut peer, "config/set", &postcard(&brightness(value)));
    }
    let _: ConfigOutcome =
        ask(&mut peer, "config/set/net/password", &postcard(&Value::Text("geheim".to_owned())));
    let _: ConfigOutcome =
        ask(&mut panel, "config/reset/display/brightness", &OwnedPayload::Json("null".to_owned()));

    let told = |message: OwnedMessage| message.payload.parse::<ConfigChange>().unwrap();
    let first = told(listener.read_topic("config/changed/display/brightness"));
    assert_eq!((first.old, first.value, &*first.by), (Value::Float(0.5), Value::Float(0.6), "peer"));
    let second = told(listener.read_topic("config/changed/display/brightness"));
    assert_eq!((second.value, &*second.by), (Value::Float(0.5), "panel"));

    let in_json = panel.read_topic("config/changed/display/brightness").payload;
    let OwnedPayload::Json(text) = &in_json else { panic!("{in_json:?}") };
    assert!(text.contains(r#""value":0.6,"old":0.5"#), "{text}");
    let secret = panel.read_topic("config/changed/net/password").payload;
    assert!(
        matches!(&secret, OwnedPayload::Json(text) if text.contains(r#""value":null,"old":null"#)),
        "{secret:?}"
    );
    assert!(house.text().contains("geheim"));
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let house = House::new();
    let mut peer = house.hub.connect("peer", &["request:config/**"]);
    for (address, payload, kind, said) in [
        ("config/get", "display.brightnes", ErrorKind::Message, "did you mean 'brightness'?"),
        ("config/get", "display", ErrorKind::Serialization, "expected category.key"),
        ("config/get", "Display.x y", ErrorKind::Message, "cannot be the names"),
        ("config/set", "display.brightness = 2", ErrorKind::Message, "a number from 0 to 1, not 2.0"),
        ("config/set", "display.brightness", ErrorKind::Serialization, "expected category.key = value"),
        ("config/set", "net.key_file = /x", ErrorKind::Authorization, "changed in the file alone"),
        ("config/set/net/key_file", "/x", ErrorKind::Authorization, "changed in the file alone"),
        ("config/reset", "net.key_file", ErrorKind::Authorization, "changed in the file alone"),
        ("config/list", "displays", ErrorKind::Message, "did you mean 'display'?"),
        ("config/import", "[display", ErrorKind::Message, "this is no TOML"),
        ("config/import", "display = 1", ErrorKind::Message, "'display' is no category with keys"),
        ("config/no/such/thing", "", ErrorKind::Message, ""),
        ("config/nothing", "", ErrorKind::Message, ""),
    ] {
        expect_error(peer.request(address, MessagePayload::String(payload)), kind, said);
    }
    assert_eq!(house.text(), "");

    // What stands in the file for others is told to nobody.
    std::fs::write(house.directory.path().join("visorbus.toml"), "[net]\npasswort = \"geheim\"\n").unwrap();
    let refused = peer.request("config/set", MessagePayload::String("display.hdr = true"));
    expect_error(refused, ErrorKind::Internal, "line 2 of the configuration is wrong");
    assert_eq!(house.text(), "[net]\npasswort = \"geheim\"\n");
}

#[test]
fn what_is_declared_while_it_runs_is_told_and_published_to_whoever_has_json_alone_too() {
    let directory = tempfile::tempdir().unwrap();
    let (path, room) = (directory.path().join("visorbus.toml"), directory.path().join("room.toml"));
    let settings = Category::new("settings", "Of others.").key(Key::texts("files", [], "Which files."));
    let schema = ConfigSchema::new([settings]).declared_in("settings", "files");
    let config = ConfigManager::open(schema, &path, Overrides::none()).unwrap();
    let hub = TestHub::start();
    let handler = ConfigMessageHandler::new(config.clone(), hub.handle.clone());
    hub.handle.register_handler(Box::new(handler)).unwrap();
    let scopes = ["subscribe:config/changed/**", "request:**"];
    let (mut panel, mut peer) = (json_peer(&hub, "panel", &scopes), hub.connect("peer", &scopes));
    for one in [&mut panel, &mut peer] {
        one.subscribe("config/changed/**", SlowConsumer::Disconnect).unwrap();
    }
    std::fs::write(&room, "[room.width]\nkind = \"integer\"\ndefault = 2\ndescription = \"How wide.\"\n")
        .unwrap();
    std::fs::write(&path, "[settings]\nfiles = [\"room.toml\"]\n[room]\nwidth = 3\n").unwrap();
    config.reload().unwrap();
    for _ in 0..2 {
        // Each change once, whether the handler that is replaced runs or not.
        for one in [&mut panel, &mut peer] {
            let width = one.read_topic("config/changed/room/width");
            let change: ConfigChange = width.payload.parse().unwrap();
            assert_eq!(change.key, "width");
            let others = one.read_so_far();
            assert!(others.iter().all(|other| other.destination.ends_with("settings/files")), "{others:?}");
        }
        let set =
            ConfigSet { value: Value::Integer(4), category: "room".to_owned(), key: "width".to_owned() };
        let _: ConfigOutcome = ask(&mut peer, "config/set", &postcard(&set));
    }
    let services: Vec<ServiceInfo> = ask(&mut peer, "bus/services", &OwnedPayload::Empty);
    let rows =
        services.iter().find(|service| service.component == "config").map(|service| &service.addresses);
    assert!(rows.unwrap().iter().any(|row| row.address == "config/changed/room/width"), "{rows:?}");

    // What is declared no more is gone; a change that finds out runs in the handler that is replaced by it.
    std::fs::write(&path, "").unwrap();
    let set = ConfigSet {
        value: Value::Texts(Vec::new()),
        category: "settings".to_owned(),
        key: "files".to_owned(),
    };
    let _: ConfigOutcome = ask(&mut peer, "config/set", &postcard(&set));
    let gone = peer.request("config/get/room/width", MessagePayload::Empty);
    expect_error(gone, ErrorKind::Message, "there is no category 'room'");
}

#[test]
fn json_that_is_made_by_the_schema_reads_as_that_which_the_handler_writes() {
    let house = House::new();
    let monitoring = MonitoringConfig {
        thresholds: vec!["process.threads >= 0: critical".parse().unwrap()],
        ..MonitoringConfig::default()
    };
    let manager = MonitoringManager::new(monitoring, house.hub.handle.clone(), Vec::new()).unwrap();
    let (raises, raised) = std::sync::mpsc::channel();
    let _listening = manager.on_event(move |event| {
        if let MonitoringEvent::HealthChanged(health) = event {
            let _ = raises.send(health.status);
        }
    });
    house.hub.handle.register_handler(Box::new(MonitoringMessageHandler::new(manager))).unwrap();
    assert_eq!(raised.recv_timeout(PATIENCE), Ok(HealthStatus::Failing));
    let mut panel = json_peer(&house.hub, "panel", &["*"]);
    let mut json = |address: &str, payload| match panel.request(address, payload).unwrap().payload {
        OwnedPayload::Json(text) => serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    for (address, said) in [
        ("monitoring/health", "\"status\":\"failing\""),
        ("monitoring/alerts", "\"severity\":\"critical\""),
        ("monitoring/thresholds", "\"state\":\"raised\""),
        ("config/list", "\"applies\":\"at_restart\""),
        ("config/describe", "\"applies\":\"at_once\""),
    ] {
        // Nothing is answered in postcard, which the hub turns; `null` in JSON by the handler itself.
        let (turned, written) =
            (json(address, MessagePayload::Empty), json(address, MessagePayload::Json("null")));
        assert!(turned.to_string().contains(said), "{address}: {turned}");
        let words = |value: &serde_json::Value| {
            let text = value.to_string();
            ["status", "severity", "state", "applies", "default"].map(|word| {
                text.split(&format!("\"{word}\":"))
                    .skip(1)
                    .map(|rest| rest.split([',', '}']).next().unwrap().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(words(&turned), words(&written), "{address}");
    }
}

#[test]
fn the_addresses_and_their_types_are_told() {
    let house = House::new();
    let mut peer = house.hub.connect("peer", &["*"]);
    let services: Vec<ServiceInfo> = ask(&mut peer, "bus/services", &OwnedPayload::Empty);
    let config = services.iter().find(|service| service.component == "config").unwrap();
    let topics = config.addresses.iter().filter(|row| row.kind == "publishes");
    assert_eq!((config.addresses.len(), topics.count()), (12, 5));

    // Whoever has JSON alone is understood by what is told.
    let mut panel = json_peer(&house.hub, "panel", &["request:config/**"]);
    let answer =
        panel.request("config/set/display/brightness", MessagePayload::Json("0.125")).unwrap().payload;
    assert_eq!(answer, OwnedPayload::Json(r#"{"changed":true,"note":""}"#.to_owned()));
    let get = r#"{"category":"display","key":"brightness"}"#;
    let answer = panel.request("config/get", MessagePayload::Json(get)).unwrap().payload;
    assert!(
        matches!(&answer, OwnedPayload::Json(text) if text.contains(r#""value":0.125,"default":0.5"#)),
        "{answer:?}"
    );
}
