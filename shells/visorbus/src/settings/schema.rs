//! What may be configured, with the words for it: what `visorbus config init` writes and the reference of the options shows.

use std::ops::RangeInclusive;
use std::time::Duration;

use visorbus_dbus::{BusAddress, DBusConfig};
use visorbus_hub::{Limits, Value};
use visorbus_mcu::{SerialSpec, SpiSpec};
use visorbus_services::config::{Category, ConfigSchema, Key};
use visorbus_services::hardware::HardwareConfig;
use visorbus_services::monitoring::{MonitoringConfig, Threshold};

use super::Settings;

/// All options, in the order of the file.
pub fn schema() -> ConfigSchema {
    schema_with([])
}

/// All options, and behind them those of a program of its own.
///
/// # Panics
/// As [`ConfigSchema::new`].
pub fn schema_with(own: impl IntoIterator<Item = Category>) -> ConfigSchema {
    let hub = [
        unix_socket(),
        dbus(),
        websocket(),
        links(),
        limits(),
        auth(),
        log(),
        hardware(),
        monitoring(),
        settings(),
    ];
    ConfigSchema::new(hub.into_iter().chain(own))
        .declared_in("settings", "declarations")
        .across(|values| Settings::of(values).map(drop))
}

fn unix_socket() -> Category {
    Category::new("unix_socket", "The hub's socket for programs of this machine.")
        .key(Key::bool("enabled", true, "Whether there is one."))
        .key(
            Key::text("path", "", "Where it is. Empty: visorbus/bus.sock in the runtime directory.")
                .example(text("/run/visorbus/bus.sock"))
                .only_in_file(),
        )
        .key(
            Key::text(
                "group",
                "",
                "A group, by name or number, whose members may connect too; what they may do is the policy's. Empty: nobody \
                 but the hub's own user.",
            )
            .example(text("visorbus"))
            .only_in_file(),
        )
}

fn dbus() -> Category {
    let DBusConfig { service_name, object_path, .. } = DBusConfig::default();
    Category::new("dbus", "The hub's name on a D-Bus, for desktop programs.")
        .key(Key::bool("enabled", false, "Whether it has one. A bus that is not there is waited for."))
        .key(
            Key::text(
                "bus",
                "session",
                "Which bus: session, system, or an address such as unix:path=/run/user/1000/bus.",
            )
            .check(|text| text.parse::<BusAddress>().map(drop))
            .example(text("system"))
            .only_in_file(),
        )
        .key(
            Key::text("service_name", service_name, "The name that it asks for.")
                .check(is_service_name)
                .only_in_file(),
        )
        .key(
            Key::text("object_path", object_path, "Its object; those of its components are below it.")
                .check(is_object_path)
                .only_in_file(),
        )
}

fn websocket() -> Category {
    Category::new("websocket", "The hub's port for WebSockets, and where this program's own clients find one.")
        .key(Key::bool("enabled", false, "Whether there is one."))
        .key(
            Key::text(
                "bind_address",
                "127.0.0.1:7400",
                "Address and port; port 0 for one that is free. Without TLS only addresses of this machine alone.",
            )
            .check(is_address)
            .example(text("0.0.0.0:7400"))
            .only_in_file(),
        )
        .key(Key::bool("dashboard", false, "Whether a page for browsers is served on it."))
        .key(Key::bool("tls_enabled", false, "Whether it speaks TLS.").only_in_file())
        .key(
            file("tls_cert_path", "The certificate, a PEM file. Empty: the one that `visorbus tls init` made.")
                .example(text("/etc/visorbus/hub.crt")),
        )
        .key(
            file("tls_key_path", "The certificate's key, a PEM file that nobody else can read. Empty: the same.")
                .example(text("/etc/visorbus/hub.key")),
        )
        .key(
            file(
                "tls_client_ca_path",
                "The authorities, a PEM file, one of which has to vouch for every client (mutual TLS). Empty: clients show \
                 no certificate.",
            )
            .example(text("/etc/visorbus/ca.crt")),
        )
        .key(
            Key::texts(
                "allowed_hosts",
                [],
                "Names by which browsers reach the hub, beside its address and this machine's names for itself.",
            )
            .example(texts(&["headset.local"]))
            .only_in_file(),
        )
        .key(
            Key::texts("allowed_origins", [], "Origins whose pages may connect, beside the hub's own pages.")
                .example(texts(&["https://panel.example"]))
                .only_in_file(),
        )
        .key(
            Key::bool(
                "allow_plaintext_network",
                false,
                "Whether others may reach it without TLS: whoever is on the way then reads and changes everything, tokens \
                 and passwords too.",
            )
            .only_in_file(),
        )
        .key(
            file("server_url", "The hub that this program's own clients connect to. Empty: this one.")
                .check(is_url)
                .example(text("wss://headset.local:7400")),
        )
        .key(
            file("tls_ca_cert_path", "The authorities, a PEM file, that may vouch for it. Empty: the system's.")
                .example(text("/etc/visorbus/ca.crt")),
        )
}

fn links() -> Category {
    Category::new("links", "The lines to boards. A board that is not there is waited for.")
        .key(
            Key::texts(
                "serial",
                [],
                "Serial lines, each as PATH or PATH@BAUD, then, for a board without a link key, unkeyed=NAME or \
                 unauthenticated=NAME.",
            )
            .check(|text| text.parse::<SerialSpec>().map(drop).map_err(|e| e.to_string()))
            .example(texts(&["/dev/ttyACM0@921600"]))
            .only_in_file(),
        )
        .key(
            Key::texts(
                "spi",
                [],
                "SPI buses, each as PATH@HZ,ready=CHIP:LINE, then mode=0..3, turnaround=MICROSECONDS, unkeyed=NAME, \
                 unauthenticated=NAME as wanted.",
            )
            .check(|text| text.parse::<SpiSpec>().map(drop).map_err(|e| e.to_string()))
            .example(texts(&["/dev/spidev0.0@8000000,ready=/dev/gpiochip0:17"]))
            .only_in_file(),
        )
}

/// What [`Limits`] has, by its names.
fn limits() -> Category {
    let limits = Limits::default();
    let limit = |name: &str, range: RangeInclusive<i64>, default: i64, unit: &str, description: &str| {
        Key::integer(name, range, default, description).unit(unit).at_restart().only_in_file()
    };
    const MS: RangeInclusive<i64> = 10..=86_400_000;
    Category::new("limits", "What one peer may cost the hub. Whoever passes a limit is told which.")
        .key(limit("max_frame", 4_096..=1 << 28, limits.max_frame.into(), "bytes", "Longest frame."))
        .key(limit(
            "max_peers",
            1..=1 << 20,
            size(limits.max_peers),
            "",
            "Connections at once; for a further one, the oldest from the network that has not authenticated goes.",
        ))
        .key(limit(
            "peers_per_user",
            1..=1 << 20,
            size(limits.peers_per_user),
            "",
            "Connections at once of one user of this machine.",
        ))
        .key(limit(
            "queue_bytes",
            4_096..=1 << 32,
            size(limits.queue_bytes),
            "bytes",
            "What may wait for one peer that does not read.",
        ))
        .key(limit(
            "pending_calls",
            1..=1 << 20,
            size(limits.pending_calls),
            "",
            "Requests of one peer that wait for their answers.",
        ))
        .key(limit("subscriptions", 0..=1 << 20, size(limits.subscriptions), "", "Subscriptions of one peer."))
        .key(limit(
            "components",
            0..=1 << 16,
            size(limits.components),
            "",
            "Components of one peer beside its own name.",
        ))
        .key(limit(
            "handshake_ms",
            MS,
            limits.handshake_ms.into(),
            "ms",
            "From connect to the end of authentication.",
        ))
        .key(limit(
            "expired_s",
            0..=86_400,
            limits.expired_s.into(),
            "s",
            "For how long a session whose token has expired may go on without a new one.",
        ))
        .key(limit("request_ms", MS, limits.request_ms.into(), "ms", "For a request that names no time."))
        .key(limit(
            "max_request_ms",
            MS,
            limits.max_request_ms.into(),
            "ms",
            "Longest time that a request may name.",
        ))
        .key(limit(
            "socket_heartbeat_ms",
            MS,
            limits.socket_heartbeat_ms.into(),
            "ms",
            "Between heartbeats on sockets.",
        ))
        .key(limit(
            "line_heartbeat_ms",
            MS,
            limits.line_heartbeat_ms.into(),
            "ms",
            "Between heartbeats on lines, which do not tell when the other end is gone.",
        ))
        .key(limit(
            "pool_threads",
            1..=256,
            size(limits.pool_threads),
            "",
            "Threads for handlers that may block.",
        ))
        .key(limit(
            "translated_bytes",
            4_096..=1 << 31,
            limits.translated_bytes.into(),
            "bytes/s",
            "What is turned into JSON or back for one peer; an eighth of it may come at once.",
        ))
}

fn auth() -> Category {
    let place = |name: &str, description: &str, example: &str| {
        file(name, description).example(text(example)).at_restart()
    };
    Category::new("auth", "Where the hub's keys, accounts and policy are.")
        .key(place(
            "key_file",
            "Its keys, made at the first start. Empty: visorbus/root.key in the state directory.",
            "/var/lib/visorbus/root.key",
        ))
        .key(place(
            "accounts_file",
            "Its accounts, made at the first start. Empty: accounts.json beside the keys.",
            "/var/lib/visorbus/accounts.json",
        ))
        .key(place(
            "policy_file",
            "Who may do what; has to be there. Empty: policy.toml beside the keys, if it is there.",
            "/etc/visorbus/policy.toml",
        ))
}

fn log() -> Category {
    Category::new("log", "What is written down of what happens.")
        .key(Key::choice(
            "level",
            ["off", "error", "warn", "info", "debug", "trace"],
            "warn",
            "How much: nothing, what failed, what somebody should look at, what happens, why, everything.",
        ))
        .key(Key::choice(
            "format",
            ["auto", "text", "json", "journald"],
            "auto",
            "In which form; auto is the journal's under systemd, else text.",
        ))
        .key(
            Key::text(
                "output",
                "stderr",
                "Where to, unless to the journal: stderr, stdout, or the path of a file, opened again at each reload.",
            )
            .check(is_output)
            .example(text("/var/lib/visorbus/visorbus.log"))
            .only_in_file(),
        )
}

fn hardware() -> Category {
    let HardwareConfig { sysfs_root, scan_interval, max_devices, command_timeout, .. } =
        HardwareConfig::default();
    Category::new("hardware", "The inventory of boards and of this machine's devices.")
        .key(Key::bool("enabled", true, "Whether there is one."))
        .key(
            Key::integer(
                "scan_interval_ms",
                100..=86_400_000,
                millis(scan_interval),
                "From one look at this machine's devices to the next, if the kernel tells of nothing before.",
            )
            .unit("ms"),
        )
        .key(Key::bool(
            "kernel_events",
            true,
            "Whether the kernel is asked to tell of devices that come and go.",
        ))
        .key(Key::integer(
            "max_devices",
            1..=1 << 16,
            size(max_devices),
            "How many of this machine's devices are kept.",
        ))
        .key(
            Key::integer(
                "command_timeout_ms",
                10..=60_000,
                millis(command_timeout),
                "How long a board has to answer a command.",
            )
            .unit("ms"),
        )
        .key(
            Key::text("sysfs_root", sysfs_root.to_string_lossy(), "Where the kernel's sysfs is.")
                .only_in_file(),
        )
}

fn monitoring() -> Category {
    let config = MonitoringConfig::default();
    let thresholds: Vec<String> = config.thresholds.iter().map(ToString::to_string).collect();
    Category::new("monitoring", "What is measured, and when somebody is warned.")
        .key(Key::bool("enabled", true, "Whether anything is."))
        .key(
            Key::integer(
                "interval_ms",
                100..=3_600_000,
                millis(config.interval),
                "From one measurement to the next.",
            )
            .unit("ms"),
        )
        .key(
            Key::integer(
                "publish_ms",
                0..=3_600_000,
                millis(config.publish.unwrap_or_default()),
                "From one measurement that is published on monitoring/sample to the next; 0: none is.",
            )
            .unit("ms"),
        )
        .key(
            Key::integer(
                "history_s",
                0..=7 * 86_400,
                millis(config.history) / 1_000,
                "How far back the history goes, in memory.",
            )
            .unit("s"),
        )
        .key(
            Key::integer(
                "history_bytes",
                0..=1 << 30,
                size(config.history_bytes),
                "What the history has at most; where it would need more, it goes back less far.",
            )
            .unit("bytes"),
        )
        .key(Key::integer("max_series", 1..=1 << 20, size(config.max_series), "How many figures are kept."))
        .key(
            Key::texts(
                "thresholds",
                thresholds.iter().map(String::as_str),
                "When somebody is warned: METRIC > LIMIT, then, as wanted, for TIME, clear < LIMIT for TIME, and after a \
                 colon info, warning or critical.",
            )
            .check(|text| text.parse::<Threshold>().map(drop).map_err(|e| e.to_string())),
        )
        .key(
            Key::choice(
                "prometheus",
                ["off", "token", "local"],
                "token",
                "Who may have the figures at /metrics of the WebSockets' port: nobody, whoever shows a token that may request \
                 monitoring/prometheus, or everybody on this machine too.",
            )
            .only_in_file(),
        )
        .key(
            Key::text("proc_root", config.proc_root.to_string_lossy(), "Where the kernel's procfs is.")
                .at_restart()
                .only_in_file(),
        )
}

fn settings() -> Category {
    Category::new("settings", "Settings of your own, kept beside those of the hub.").key(
        Key::texts(
            "declarations",
            [],
            "Files that declare further categories and their keys; relative paths are beside this file.",
        )
        .example(texts(&["display.toml"]))
        .only_in_file(),
    )
}

/// A place that nobody changes over a bus. Empty is the one that goes without saying.
fn file(name: &str, description: &str) -> Key {
    Key::text(name, "", description).only_in_file()
}

fn size(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn texts(texts: &[&str]) -> Value {
    Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// A well-known name of the D-Bus specification, "Bus names".
fn is_service_name(name: &str) -> Result<(), String> {
    let is_element = |element: &str| {
        element.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == '-')
            && element.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if name.len() <= 255 && name.contains('.') && name.split('.').all(is_element) {
        return Ok(());
    }
    Err("expected a bus name such as org.visorbus.Bus1".to_owned())
}

/// An object path of the D-Bus specification, "Valid Object Paths".
fn is_object_path(path: &str) -> Result<(), String> {
    let is_element = |element: &str| {
        !element.is_empty() && element.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let elements = path.strip_prefix('/').filter(|rest| rest.split('/').all(is_element));
    if path == "/" || elements.is_some() {
        return Ok(());
    }
    Err("expected an object path such as /org/visorbus/Bus1".to_owned())
}

/// Address and port, of which the address may be a name.
fn is_address(text: &str) -> Result<(), String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(()),
        _ => Err("expected ADDRESS:PORT, such as 127.0.0.1:7400".to_owned()),
    }
}

fn is_url(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with("ws://") || text.starts_with("wss://") {
        return Ok(());
    }
    Err("expected a URL such as wss://headset.local:7400".to_owned())
}

fn is_output(text: &str) -> Result<(), String> {
    if ["stderr", "stdout"].contains(&text) || text.starts_with('/') {
        return Ok(());
    }
    Err("expected stderr, stdout or the absolute path of a file".to_owned())
}
