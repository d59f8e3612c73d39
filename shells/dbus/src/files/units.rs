//! How systemd runs the service: units of the system and of a login session, and the user and directories that belong to
//! the first (systemd.exec(5), systemd.socket(5), sysusers.d(5), tmpfiles.d(5)).

use visorbus_hub::Result;

use super::{File, line, service_name};
use crate::config::DBusConfig;

/// All of these, for a service that runs as `user`, for the members of `group`, and is started by `command`.
pub(super) fn all(config: &DBusConfig, user: &str, group: &str, command: &str) -> Result<Vec<File>> {
    let file = |path: &str, text: String| File { path: format!("lib/{path}"), text };
    Ok(vec![
        file("systemd/user/visorbus.service", session_unit(config, command)?),
        file("systemd/user/visorbus.socket", session_socket()),
        file("systemd/system/visorbus.service", system_unit(config, command, user)?),
        file("systemd/system/visorbus.socket", system_socket(user, group)?),
        file("sysusers.d/visorbus.conf", sysusers(user, group)?),
        file("tmpfiles.d/visorbus.conf", tmpfiles(user, group)?),
    ])
}

/// The unit by which systemd runs the service in a login session, `visorbus.service`; what
/// [`session_activation`](super::session_activation) names. `command` may have arguments.
///
/// # Errors
/// `Message` when the service's name is none, or `command` has a control character in it.
pub fn session_unit(config: &DBusConfig, command: &str) -> Result<String> {
    let (name, command) = (service_name(config)?, line(command)?);
    Ok(format!(
        "[Unit]
Description={DESCRIPTION}
Documentation=man:visorbus(1)
Wants=visorbus.socket
After=visorbus.socket

[Service]
# The bus starts this unit, so it is on the bus, whatever ~/.config/visorbus/visorbus.toml says.
ExecStart={command} serve --dbus session
# Unlike a signal it waits until all is read, and fails where something is wrong.
ExecReload={command} reload
BusName={name}
{SERVICE}
UMask=0077

# What a session's own systemd can set without being root: what is done by filtering system calls. Left out: what takes
# capabilities away, which needs some (CapabilityBoundingSet=, ProtectClock=, PrivateDevices=…, the unit would not start);
# and what gives a process mounts of its own (ProtectSystem=, PrivateTmp=…), for which it would be put into a user namespace,
# where callers are not known by their user ids any more.
ProtectHostname=yes
{EVERYWHERE}
[Install]
WantedBy=default.target
Also=visorbus.socket
"
    ))
}

/// The socket of [`session_unit`], `visorbus.socket`: where clients of that user look for the service.
pub fn session_socket() -> String {
    socket("%t/visorbus/bus.sock", "SocketMode=0600\nDirectoryMode=0700\n")
}

/// As [`session_unit`], for the system bus, where the service runs as `user`; hardened as far as its work lets it be.
///
/// # Errors
/// As [`session_unit`]; `Message` when `user` has a control character in it.
pub fn system_unit(config: &DBusConfig, command: &str, user: &str) -> Result<String> {
    let (name, command, user) = (service_name(config)?, line(command)?, line(user)?);
    Ok(format!(
        "[Unit]
Description={DESCRIPTION}
Documentation=man:visorbus(1)
Wants=visorbus.socket
After=visorbus.socket network.target dbus.socket

[Service]
# The bus starts this unit, so it is on the bus, whatever /etc/visorbus/visorbus.toml says.
ExecStart={command} serve --dbus system
# Unlike a signal it waits until all is read, and fails where something is wrong.
ExecReload={command} reload
BusName={name}
{SERVICE}
# A user that stays, not DynamicUser=: the policy of the bus and the groups of the devices name it.
User={user}
# /etc/visorbus/visorbus.toml, which the daemon itself writes when a value is set; /run/visorbus; /var/lib/visorbus.
Environment=XDG_CONFIG_HOME=%E XDG_RUNTIME_DIR=%t XDG_STATE_HOME=%S
ReadWritePaths=-%E/visorbus
RuntimeDirectory=visorbus
RuntimeDirectoryMode=0750
# The socket in it is that of visorbus.socket, and stays when the daemon goes.
RuntimeDirectoryPreserve=yes
StateDirectory=visorbus
StateDirectoryMode=0700
UMask=0077

# Boards: serial lines, SPI buses and the lines by which boards say that they are ready. Which of them the user may open
# is up to their groups.
DevicePolicy=closed
DeviceAllow=char-ttyS rw
DeviceAllow=char-ttyAMA rw
DeviceAllow=char-ttyUSB rw
DeviceAllow=char-ttyACM rw
DeviceAllow=char-spi rw
DeviceAllow=char-gpiochip rw

# It has no rights of root's, and sees of the machine what it serves and measures. Left out on purpose: PrivateUsers=
# (callers are known by their user ids), ProcSubset=pid (the machine's load is in /proc), PrivateNetwork= (WebSockets).
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateMounts=yes
PrivateTmp=yes
RemoveIPC=yes
{EVERYWHERE}
[Install]
WantedBy=multi-user.target
Also=visorbus.socket
"
    ))
}

/// The socket of [`system_unit`], `visorbus.socket`: for `user` and the members of `group`.
///
/// # Errors
/// `Message` when one of them has a control character in it.
pub fn system_socket(user: &str, group: &str) -> Result<String> {
    let (user, group) = (line(user)?, line(group)?);
    Ok(socket(
        "%t/visorbus/bus.sock",
        &format!("SocketUser={user}\nSocketGroup={group}\nSocketMode=0660\nDirectoryMode=0755\n"),
    ))
}

/// The user and the group of [`system_unit`], for systemd-sysusers(8).
///
/// # Errors
/// `Message` when one of them has a control character or a space in it.
pub fn sysusers(user: &str, group: &str) -> Result<String> {
    let (user, group) = (word(user)?, word(group)?);
    let own = if user == group { String::new() } else { format!("g {group} -\nm {user} {group}\n") };
    Ok(format!(
        "# Who runs the hub. Members of the group {group} may connect to it.\n\
         u {user} - \"Visorbus\" /var/lib/visorbus\n\
         {own}\
         # Serial lines are this group's.\n\
         m {user} dialout\n"
    ))
}

/// The directories of [`system_unit`], for systemd-tmpfiles(8).
///
/// # Errors
/// As [`sysusers`].
pub fn tmpfiles(user: &str, group: &str) -> Result<String> {
    let (user, group) = (word(user)?, word(group)?);
    Ok(format!(
        "# The hub's socket, for the members of its group.\n\
         d /run/visorbus 0750 {user} {group} -\n\
         # What it is told to be; it writes there itself when a value is set.\n\
         d /etc/visorbus 0750 {user} {group} -\n\
         # Keys and accounts.\n\
         d /var/lib/visorbus 0700 {user} {group} -\n"
    ))
}

fn socket(path: &str, rights: &str) -> String {
    format!(
        "[Unit]
Description={DESCRIPTION}: its socket
Documentation=man:visorbus(1)

[Socket]
# The daemon tells its sockets apart by name. A port for WebSockets can be handed over too, by another unit with
# Service=visorbus.service and FileDescriptorName=websocket.
FileDescriptorName=unix
ListenStream={path}
{rights}RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"
    )
}

/// A value that is one word in a file of words.
fn word(value: &str) -> Result<&str> {
    match line(value)? {
        value if value.contains([' ', '"', '\'', '\\', '%']) => {
            let text =
                format!("{value:?} cannot be a user or a group: give a name without spaces and quotes");
            Err(visorbus_hub::Error::Message(text))
        }
        value => Ok(value),
    }
}

const DESCRIPTION: &str = "Visorbus, the message plane of a headset";
/// How the daemon is run, whoever it belongs to.
const SERVICE: &str = "Type=notify
# The hub's own loop answers it, so that a hub which hangs is killed and started again.
WatchdogSec=30
Restart=on-failure
RestartSec=1
# Starting again does not mend a configuration.
RestartPreventExitStatus=6
TimeoutStopSec=20
# A thousand connections, and files beside them.
LimitNOFILE=4096
";
/// What restricts the process itself.
const EVERYWHERE: &str = "NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
# Its clients and the bus, WebSockets, and what the kernel says of devices that come and go.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
";
