//! `org.visorbus.Config1` on a real bus: values read and changed, by whom, and who is told.

use visorbus_dbus::{ConfigInterface, MessageItem};
use visorbus_hub::Value;
use visorbus_services::Listening;
use visorbus_services::config::{Category, ConfigManager, ConfigSchema, Key, Overrides};

use crate::program::{PROPERTIES, Program, expect_refusal};
use crate::world::World;

const CONFIG: &str = "org.visorbus.Config1";

fn schema() -> ConfigSchema {
    let display = Category::new("display", "What the eyes see.")
        .key(Key::float("brightness", 0.0..=1.0, 0.5, "How bright it is.").unit("part"))
        .key(Key::bool("hdr", false, "Whether it has a high range."))
        .key(Key::integer("rate", 60..=120, 90, "How often it is drawn.").at_restart());
    let net = Category::new("net", "Where it listens.")
        .key(Key::texts("hosts", ["localhost"], "Which hosts."))
        .key(Key::text("password", "", "What they must say.").secret())
        .key(Key::text("key_file", "", "Where the keys are.").only_in_file());
    ConfigSchema::new([display, net])
}

struct House {
    world: World,
    config: ConfigManager,
    directory: tempfile::TempDir,
    _told: Listening,
}

impl House {
    /// Whoever runs the test may do this.
    fn new(allow: &str) -> Self {
        let world = World::with_panel(allow);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("visorbus.toml");
        let config = ConfigManager::open(schema(), path, Overrides::none()).unwrap();
        let told = ConfigInterface::register(&config, &world.service.door().unwrap()).unwrap();
        Self { world, config, directory, _told: told }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("visorbus.toml")).unwrap_or_default()
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> [MessageItem; N] {
    texts.map(|text| MessageItem::Str(text.to_owned()))
}

fn variant(value: impl Into<MessageItem>) -> MessageItem {
    MessageItem::Variant(Box::new(value.into()))
}

fn set(program: &Program, key: [&str; 2], value: impl Into<MessageItem>) -> Result<bool, (String, String)> {
    let [category, key] = texts(key);
    let answer = program.call(CONFIG, "SetValue", &[category, key, variant(value)])?;
    Ok(answer == [MessageItem::Bool(true)])
}

/// The bytes that a variant has in it.
fn carried(item: &MessageItem) -> Vec<u8> {
    let MessageItem::Variant(inner) = item else { panic!("{item:?} is no variant") };
    let MessageItem::Array(bytes) = &**inner else { panic!("{inner:?} are no bytes") };
    bytes.iter().map(|byte| if let MessageItem::Byte(byte) = byte { *byte } else { 0 }).collect()
}

const ALL: &str =
    "\"request:org.visorbus.config1/**\", \"subscribe:org.visorbus.config1/**\", \"request:config/**\"";

#[test]
fn a_value_is_read_changed_and_told_of_on_the_bus() {
    let house = House::new(ALL);
    let (panel, other) = (house.world.program(), house.world.program());
    other.listen(CONFIG);
    let get = |key: [&str; 2]| panel.call(CONFIG, "GetValue", &texts(key)).unwrap();
    assert_eq!(other.call(CONFIG, "GetValue", &texts(["display", "hdr"])), Ok(vec![variant(false)]));
    assert_eq!(get(["display", "brightness"]), [variant(0.5)]);
    assert_eq!(get(["display", "rate"]), [variant(90i64)]);
    assert_eq!(get(["net", "password"]), [variant("")]);

    assert_eq!(set(&panel, ["display", "brightness"], 0.5), Ok(false));
    assert_eq!(set(&panel, ["display", "brightness"], 0.25), Ok(true));
    assert_eq!(set(&panel, ["display", "rate"], 72u16), Ok(true));
    assert_eq!(set(&panel, ["net", "password"], "geheim"), Ok(true));
    assert_eq!(house.text(), "[display]\nbrightness = 0.25\nrate = 72\n\n[net]\npassword = \"geheim\"\n");
    let told = |key: &str, value: MessageItem| {
        let [category, key] = texts([if key == "password" { "net" } else { "display" }, key]);
        assert_eq!(other.signal("ConfigChanged").1, [category, key, value]);
    };
    told("brightness", variant(0.25));
    told("rate", variant(72i64));
    told("password", variant(""));
    assert_eq!(panel.call(CONFIG, "Reset", &texts(["display", "rate"])), Ok(vec![true.into()]));
    told("rate", variant(90i64));

    let hosts = MessageItem::new_array(texts(["a", "b"]).into()).unwrap();
    assert_eq!(set(&panel, ["net", "hosts"], hosts.clone()), Ok(true));
    assert_eq!(
        (get(["net", "hosts"]), house.config.texts("net", "hosts")),
        (vec![variant(hosts)], vec!["a".to_owned(), "b".to_owned()])
    );
    let listed = panel.call(CONFIG, "ListKeys", &texts(["display"])).unwrap();
    assert!(matches!(&listed[..], [MessageItem::Array(keys)] if keys.len() == 3), "{listed:?}");
    let described = panel.call(CONFIG, "Describe", &texts(["display", "rate"])).unwrap();
    let said = format!("{described:?}");
    assert!(said.contains("a whole number from 60 to 120") && said.contains("at_restart"), "{said}");
    assert_eq!(
        panel.get(CONFIG, "Categories"),
        Ok(MessageItem::new_array(texts(["display", "net"]).into()).unwrap())
    );
}

#[test]
fn what_is_no_value_of_a_key_changes_nothing_and_is_told_to_nobody() {
    let house = House::new(ALL);
    let panel = house.world.program();
    panel.listen(CONFIG);
    for (key, value, said) in [
        (["display", "brightness"], variant(1.5), "a number from 0 to 1, not 1.5"),
        (["display", "brightness"], variant("much"), "a number from 0 to 1"),
        (["display", "brightnes"], variant(0.1), "did you mean 'brightness'?"),
        (["display", "rate"], variant(u64::MAX), "a truth, a number"),
        (["net", "hosts"], MessageItem::new_array(vec![1u32.into()]).unwrap(), "a list of texts"),
        (["../net", "hosts"], variant("x"), "cannot be the names"),
    ] {
        let [category, key] = texts(key);
        let refused = panel.call(CONFIG, "SetValue", &[category, key, variant(value)]);
        expect_refusal(refused, "", said);
    }
    expect_refusal(set(&panel, ["net", "key_file"], "/x"), "AccessDenied", "changed in the file alone");
    expect_refusal(panel.call(CONFIG, "SetValue", &texts(["display", "hdr"])), "InvalidArgs", "");
    expect_refusal(panel.set(CONFIG, "Categories", 1u32.into()), "", "");
    assert_eq!(house.text(), "");
    assert_eq!(panel.signals_so_far(), Vec::<String>::new());
    house.world.is_unharmed();
}

#[test]
fn a_change_is_heard_by_those_alone_who_may_get_the_key_however_they_listen() {
    let house = House::new(ALL);
    let bus = ["request:org.visorbus.config1/**", "subscribe:org.visorbus.config1/**"];
    let with = |more: &[&'static str]| [&bus[..], more].concat();
    let owner = house.world.authenticated("owner", &with(&["request:config/get/**"]));
    let guest = house.world.authenticated("guest", &with(&["request:config/get/display/*"]));
    // It may set all, and be told on the topics; it may get nothing.
    let writer =
        house.world.authenticated("writer", &with(&["request:config/set/**", "subscribe:config/changed/**"]));
    let all = [&owner, &guest, &writer];
    for program in all {
        program.listen(CONFIG);
        program.listen("org.visorbus.Bus1");
        // That is use of the interface. The bridge's subscription selects the same topic.
        program.get(CONFIG, "Categories").unwrap();
        let options = MessageItem::new_dict(vec![("keep".into(), variant(100u32))]).unwrap();
        let pattern = "org.visorbus.config1/**".into();
        program.call("org.visorbus.Bus1", "Subscribe", &[pattern, options]).unwrap();
    }
    let listener = house.world.program();
    listener.listen(CONFIG);

    house.config.set("net", "hosts", Value::Texts(vec!["secret.example".to_owned()]), "file").unwrap();
    house.config.set("net", "password", Value::Text("geheim".to_owned()), "file").unwrap();
    assert_eq!(set(&writer, ["display", "hdr"], true), Ok(true));
    assert_eq!(owner.signal("ConfigChanged").1[1], "hosts".into());
    assert_eq!(
        owner.signal("ConfigChanged").1,
        [texts(["net", "password"]).to_vec(), vec![variant("")]].concat()
    );
    let changed = [texts(["display", "hdr"]).to_vec(), vec![variant(true)]].concat();
    assert_eq!(owner.signal("ConfigChanged").1, changed);
    let (_, bridged) = guest.signal("Notification");
    let bytes: Vec<u8> = carried(&bridged[2]);
    let has = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
    assert!(has("hdr") && !has("hosts"), "the first that it was told: {bridged:?}");
    let (signal, args) = guest.signal("ConfigChanged");
    assert_eq!((args, signal.destination().is_some()), (changed, true));
    for nobody in [&guest, &writer, &listener] {
        assert_eq!(nobody.signals_so_far(), Vec::<String>::new());
    }
    house.world.is_unharmed();
}

#[test]
fn categories_that_are_declared_while_it_runs_are_told_of_and_used_at_once() {
    let world = World::with_panel(ALL);
    let directory = tempfile::tempdir().unwrap();
    let (path, room) = (directory.path().join("visorbus.toml"), directory.path().join("room.toml"));
    let settings = Category::new("settings", "Of others.").key(Key::texts("files", [], "Which files."));
    let schema = ConfigSchema::new([settings]).declared_in("settings", "files");
    let config = ConfigManager::open(schema, &path, Overrides::none()).unwrap();
    let _told = ConfigInterface::register(&config, &world.service.door().unwrap()).unwrap();
    let (panel, listener) = (world.program(), world.program());
    panel.get(CONFIG, "Categories").unwrap();
    listener.listen(PROPERTIES);
    std::fs::write(&room, "[room.width]\nkind = \"integer\"\ndefault = 2\ndescription = \"How wide.\"\n")
        .unwrap();
    std::fs::write(&path, "[settings]\nfiles = [\"room.toml\"]\n[room]\nwidth = 3\n").unwrap();
    config.reload().unwrap();
    let (_, changed) = panel.signal("PropertiesChanged");
    let names =
        |names: &[&str]| MessageItem::new_array(names.iter().map(|name| (*name).into()).collect()).unwrap();
    assert_eq!((&changed[0], &changed[2]), (&CONFIG.into(), &names(&["Categories"])));
    assert_eq!(panel.signal("ConfigChanged").1[1], "files".into());
    assert_eq!(panel.signal("ConfigChanged").1[1..], ["width".into(), variant(3i64)]);
    assert_eq!(panel.get(CONFIG, "Categories"), Ok(names(&["settings", "room"])));
    assert_eq!(set(&panel, ["room", "width"], 4i64), Ok(true));
    assert_eq!(listener.signals_so_far(), Vec::<String>::new(), "it has not used the interface");
}

#[test]
fn a_permission_on_the_bus_names_keys_too() {
    let allow = "\"request:org.visorbus.config1/*\", \"request:config/get/display/*\", \"request:config/set/display/hdr\"";
    let house = House::new(allow);
    let panel = house.world.program();
    panel.listen(CONFIG);
    assert_eq!(set(&panel, ["display", "hdr"], true), Ok(true));
    let before = house.text();
    for (method, args) in [
        ("GetValue", texts(["net", "hosts"]).to_vec()),
        ("GetValue", texts(["net", "nothing"]).to_vec()),
        ("Describe", texts(["net", "hosts"]).to_vec()),
        ("Reset", texts(["display", "brightness"]).to_vec()),
        ("SetValue", [texts(["display", "brightness"]).to_vec(), vec![variant(0.1)]].concat()),
    ] {
        expect_refusal(panel.call(CONFIG, method, &args), "AccessDenied", "no permission");
    }
    let listed = panel.call(CONFIG, "ListKeys", &texts([""])).unwrap();
    assert!(matches!(&listed[..], [MessageItem::Array(keys)] if keys.len() == 3), "{listed:?}");
    assert_eq!(panel.signals_so_far(), Vec::<String>::new(), "it may not subscribe");
    let stranger = World::with_strangers();
    let _told = ConfigInterface::register(&house.config, &stranger.service.door().unwrap()).unwrap();
    expect_refusal(stranger.program().call(CONFIG, "GetValue", &texts(["display", "hdr"])), "AuthFailed", "");
    expect_refusal(stranger.program().get(CONFIG, "Categories"), "AuthFailed", "");
    assert_eq!(house.text(), before);
}
