//! What the command line says of D-Bus, as the crate that does it takes it, and `visorbus dbus`.

use std::fs;
use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::json;
use visorbus_dbus::{BusAddress, DBusClient, DBusClientConfig, DBusConfig, MessageItem, files};
use visorbus_hub::{Error, Result};

use crate::args::{DBusAction, DBusCommand, DBusFiles, DBusPlace};
use crate::output::{print, table};

/// Does what was asked.
pub(crate) fn run(args: &DBusCommand, json: bool) -> Result<()> {
    match &args.action {
        None | Some(DBusAction::Show) => show(&args.place, json),
        Some(DBusAction::Files(wanted)) => print_files(wanted, &args.place, json),
    }
}

/// The bus, the hub's name on it, and the objects that the hub has there.
fn show(place: &DBusPlace, json: bool) -> Result<()> {
    let owner = Owner::find(place)?;
    let hub = connect(place, &place.dbus_name, &place.dbus_path)?;
    let mut rows = Vec::new();
    walk(&hub, &mut rows, 0)?;
    if json {
        let objects: Vec<_> = rows.iter().map(Member::to_json).collect();
        return print(
            &json!({
                "bus": place.bus.to_string(), "name": place.dbus_name, "unique_name": owner.unique_name,
                "pid": owner.pid, "uid": owner.uid, "members": objects,
            })
            .to_string(),
        );
    }
    let known = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    print(&format!("bus    {}", place.bus))?;
    print(&format!(
        "name   {}, held by {} (process {}, user {})",
        place.dbus_name,
        owner.unique_name,
        known(owner.pid),
        known(owner.uid)
    ))?;
    let rows: Vec<Vec<String>> = rows.iter().map(Member::cells).collect();
    print(&table(&["OBJECT", "INTERFACE", "KIND", "MEMBER", "TYPES"], &rows))
}

pub(crate) fn connect(place: &DBusPlace, name: &str, path: &str) -> Result<DBusClient> {
    let client = DBusClient::with_config(name, path, DBusClientConfig::on(place.bus.clone()))?;
    client.connect()?;
    Ok(client)
}

/// Adds what an object and those below it have.
fn walk(object: &DBusClient, rows: &mut Vec<Member>, depth: usize) -> Result<()> {
    let path = object.object_path();
    let answer = object.call_method("org.freedesktop.DBus.Introspectable", "Introspect", &[])?;
    let [MessageItem::Str(xml)] = &answer[..] else { return Err(unreadable(path)) };
    // It begins with the name of its document type, which says nothing more.
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(xml, options).map_err(|_| unreadable(path))?;
    for interface in document.root_element().children().filter(|node| node.has_tag_name("interface")) {
        let Some(name) = interface.attribute("name") else { continue };
        let members = interface.children().filter_map(|node| Member::read(path, name, node));
        // What every object of any service has tells nothing.
        rows.extend(members.filter(|_| !name.starts_with("org.freedesktop.DBus.")));
    }
    if depth < MAX_DEPTH {
        for child in document.root_element().children().filter(|node| node.has_tag_name("node")) {
            let name = child.attribute("name").unwrap_or_default();
            walk(&object.object(&format!("{path}/{name}"))?, rows, depth + 1)?;
        }
    }
    Ok(())
}

/// Who holds the hub's name.
struct Owner {
    unique_name: String,
    pid: Option<u32>,
    uid: Option<u32>,
}

impl Owner {
    fn find(place: &DBusPlace) -> Result<Self> {
        let bus = connect(place, BUS, "/org/freedesktop/DBus")?;
        let ask = |method: &str, of: &str| bus.call_method(BUS, method, &[of.into()]);
        let answer = ask("GetNameOwner", &place.dbus_name).map_err(|_| nobody(place))?;
        let [MessageItem::Str(unique_name)] = &answer[..] else { return Err(nobody(place)) };
        let number = |method: &str| match &ask(method, unique_name).ok()?[..] {
            [MessageItem::UInt32(number)] => Some(*number),
            _ => None,
        };
        let (pid, uid) = (number("GetConnectionUnixProcessID"), number("GetConnectionUnixUser"));
        Ok(Self { unique_name: unique_name.clone(), pid, uid })
    }
}

/// A member of an interface of an object.
struct Member {
    object: String,
    interface: String,
    kind: String,
    name: String,
    types: String,
}

impl Member {
    fn read(object: &str, interface: &str, node: Node<'_, '_>) -> Option<Self> {
        let kind = node.tag_name().name();
        let types = match kind {
            "method" => {
                format!("{} -> {}", arguments(node, |way| way != "out"), arguments(node, |way| way == "out"))
            }
            "signal" => arguments(node, |_| true),
            "property" => {
                let text = |name| node.attribute(name).unwrap_or_default();
                format!("{} {}", text("type"), text("access"))
            }
            _ => return None,
        };
        let name = node.attribute("name")?.to_owned();
        let (object, interface, kind) = (object.to_owned(), interface.to_owned(), kind.to_owned());
        Some(Self { object, interface, kind, name, types })
    }

    fn cells(&self) -> Vec<String> {
        [&self.object, &self.interface, &self.kind, &self.name, &self.types].map(Clone::clone).to_vec()
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "object": self.object, "interface": self.interface, "kind": self.kind, "name": self.name,
            "types": self.types,
        })
    }
}

/// Types and names of a member's arguments that go this way.
fn arguments(member: Node<'_, '_>, goes: impl Fn(&str) -> bool) -> String {
    let is_own = |node: &Node<'_, '_>| {
        node.has_tag_name("arg") && goes(node.attribute("direction").unwrap_or_default())
    };
    let show = |node: Node<'_, '_>| {
        let text = |name| node.attribute(name).unwrap_or_default();
        format!("{} {}", text("type"), text("name")).trim_end().to_owned()
    };
    let all: Vec<String> = member.children().filter(is_own).map(show).collect();
    format!("({})", all.join(", "))
}

fn print_files(wanted: &DBusFiles, place: &DBusPlace, json: bool) -> Result<()> {
    let mut config = DBusConfig::default();
    config.service_name.clone_from(&place.dbus_name);
    config.object_path.clone_from(&place.dbus_path);
    let all = files::all(&config, &wanted.user, &wanted.group, &wanted.command)?;
    if json {
        let objects: Vec<_> =
            all.iter().map(|file| json!({ "path": file.path, "text": file.text })).collect();
        return print(&json!(objects).to_string());
    }
    for file in &all {
        match &wanted.into {
            Some(directory) => print(&write(directory, &file.path, &file.text)?)?,
            None => print(&format!("==> /usr/{} <==\n{}", file.path, file.text))?,
        }
    }
    Ok(())
}

/// Writes a file below `directory`; says where.
fn write(directory: &Path, path: &str, text: &str) -> Result<String> {
    let path = directory.join(path);
    let failed = |e: std::io::Error| Error::Internal(format!("{} cannot be written: {e}", path.display()));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(&path, text).map_err(failed)?;
    Ok(path.display().to_string())
}

fn nobody(place: &DBusPlace) -> Error {
    let flag = match &place.bus {
        BusAddress::Session => "--dbus".to_owned(),
        BusAddress::System => "--dbus system".to_owned(),
        BusAddress::Address(address) => format!("--dbus {address}"),
        _ => "--dbus …".to_owned(),
    };
    Error::Connection(format!(
        "nobody is called '{}' on {}: `visorbus serve {flag}` gives a hub that name",
        place.dbus_name, place.bus
    ))
}

fn unreadable(path: &str) -> Error {
    Error::Protocol(format!("what {path} tells of itself cannot be read: is that a hub of Visorbus?"))
}

const BUS: &str = "org.freedesktop.DBus";
/// From the hub's own object to those of components.
const MAX_DEPTH: usize = 4;
