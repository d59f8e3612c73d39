//! The ways in: the socket, the bus, the port.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use visorbus::Settings;
use visorbus_dbus::{BusAddress, MessageItem};
use visorbus_hub::Error;
use visorbus_unix::UnixSocketClient;

use super::finding::Finding;
use super::subject::Subject;
use crate::args::DBusPlace;
use crate::dbus::connect;
use crate::unanswered::Unanswered;

/// Whether the socket can be made, and whether a hub serves there: that of the machine's service, or of the own session's.
pub(super) fn socket(settings: &Settings, subject: &Subject, system: bool, all: &mut Vec<Finding>) -> bool {
    let path = &settings.unix_socket.path;
    let shown = path.display();
    if !settings.unix_socket.enabled {
        all.push(Finding::ok(SOCKET, "switched off"));
        return false;
    }
    directory(path, subject, all);
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(_) => {
            all.push(Finding::warn(
                HUB,
                format!("no hub runs at {shown}"),
                if system {
                    "`systemctl enable --now visorbus.socket` has systemd start one"
                } else {
                    "`visorbus serve` starts one, `systemctl --user enable --now visorbus.socket` has systemd do so"
                },
            ));
            return false;
        }
    };
    if !found.file_type().is_socket() {
        all.push(Finding::fail(
            SOCKET,
            format!("{shown} is no socket"),
            format!("remove {shown}, or choose another unix_socket.path"),
        ));
        return false;
    }
    if found.mode() & 0o002 != 0 {
        all.push(Finding::fail(
            SOCKET,
            format!("everybody may connect to {shown} (mode {:o})", found.mode() & 0o777),
            "write SocketMode=0660 into the unit that makes it",
        ));
    }
    match UnixStream::connect(path) {
        Ok(_) if is_silent(path) => {
            let Unanswered { what, mend } = Unanswered::at(path);
            all.push(Finding::fail(HUB, what, mend));
            true
        }
        Ok(_) => {
            all.push(Finding::ok(
                HUB,
                format!(
                    "a hub answers at {shown} (where systemd waits there for it, this look has started it); \
                     another cannot start there"
                ),
            ));
            true
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let group = found.gid();
            all.push(Finding::fail(
                HUB,
                format!(
                    "you may not connect to {shown}, which is for user {} and group {group}",
                    found.uid()
                ),
                format!("join that group: usermod --append --groups {group} NAME, then log in again"),
            ));
            true
        }
        Err(error) => {
            all.push(Finding::warn(
                HUB,
                format!("no hub answers at {shown}: {error}"),
                "`visorbus serve` replaces what is left of the last",
            ));
            false
        }
    }
}

/// Whether a hub has its socket and does not say hello.
fn is_silent(path: &Path) -> bool {
    let client = UnixSocketClient::new(path, &format!("doctor.{}", std::process::id()));
    matches!(client.and_then(|client| client.connect()), Err(Error::Timeout(_)))
}

/// Whether nobody else could put a socket in the place of this one.
fn directory(path: &Path, subject: &Subject, all: &mut Vec<Finding>) {
    let Some((directory, found)) = Subject::nearest(path) else { return };
    let shown = directory.display();
    let is_sticky = found.mode() & 0o1000 != 0;
    if found.mode() & 0o022 != 0 && !is_sticky {
        all.push(Finding::fail(
            SOCKET,
            format!("others may write to {shown} and replace the socket"),
            format!("chmod go-w {shown}"),
        ));
    } else if !subject.may_use(&found) && fs::symlink_metadata(path).is_err() {
        all.push(Finding::fail(
            SOCKET,
            format!("{} may not make a socket in {shown}", subject.name),
            "choose another unix_socket.path, or let systemd make it: visorbus.socket",
        ));
    } else {
        all.push(Finding::ok(SOCKET, format!("{} is in {shown}", path.display())));
    }
}

/// Whether the bus is there, and lets the hub be what it is called.
pub(super) fn bus(settings: &Settings, all: &mut Vec<Finding>) {
    let bus = &settings.dbus;
    if !bus.enabled {
        return;
    }
    let place = DBusPlace {
        bus: bus.bus.clone(),
        dbus_name: bus.service_name.clone(),
        dbus_path: bus.object_path.clone(),
    };
    let daemon = match connect(&place, DAEMON, "/org/freedesktop/DBus") {
        Ok(daemon) => daemon,
        Err(error) => {
            let mend = "start the bus, or switch dbus.enabled off; the hub goes on trying";
            all.push(Finding::fail(BUS, error.text().to_owned(), mend));
            return;
        }
    };
    let name = &bus.service_name;
    all.push(match daemon.call_method(DAEMON, "GetNameOwner", &[name.as_str().into()]).as_deref() {
        Ok([MessageItem::Str(owner)]) => Finding::ok(BUS, format!("{name} on {} is {owner}", bus.bus)),
        _ => Finding::warn(
            BUS,
            format!("nobody is {name} on {}", bus.bus),
            "start the hub; if it runs, its log says why the bus refuses it",
        ),
    });
    if bus.bus == BusAddress::System {
        policy(name, all);
    }
}

/// Whether the system bus was told who may be called that.
fn policy(name: &str, all: &mut Vec<Finding>) {
    let file = format!("dbus-1/system.d/{name}.conf");
    let found = ["/etc", "/usr/share", "/usr/local/share"].map(|below| Path::new(below).join(&file));
    all.push(match found.iter().find(|path| path.exists()) {
        Some(path) => Finding::ok(BUS, format!("its policy is {}", path.display())),
        None => Finding::fail(
            BUS,
            format!("the system bus has no policy for {name}, so nobody may be called that"),
            "`visorbus dbus files --into /usr` installs it; the bus then reads it again with `systemctl reload dbus`",
        ),
    });
}

/// Whether the port is free, where the hub that runs does not have it.
pub(super) fn port(settings: &Settings, is_served: bool, all: &mut Vec<Finding>) {
    let websocket = &settings.websocket;
    if !websocket.enabled {
        return;
    }
    let address = &websocket.bind_address;
    let Ok(addresses) = address.to_socket_addrs().map(Vec::from_iter) else {
        all.push(Finding::fail(
            PORT,
            format!("'{address}' is no address of this machine"),
            "write websocket.bind_address as 127.0.0.1:7400",
        ));
        return;
    };
    all.push(match TcpListener::bind(&addresses[..]) {
        Ok(_) => Finding::ok(PORT, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_served => {
            Finding::ok(PORT, format!("{address} is in use, as it is where the hub that runs has it"))
        }
        Err(error) => Finding::fail(
            PORT,
            format!("{address} cannot be listened on: {error}"),
            "`ss -ltnp` names who has it: stop that, or choose another websocket.bind_address",
        ),
    });
}

const SOCKET: &str = "socket";
const HUB: &str = "hub";
const BUS: &str = "bus";
const PORT: &str = "port";
const DAEMON: &str = "org.freedesktop.DBus";
