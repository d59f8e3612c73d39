//! From the values of a configuration to settings with their types.

use std::path::PathBuf;
use std::time::Duration;

use visorbus_hub::Limits;
use visorbus_services::config::{ConfigError, ConfigManager, ConfigValues};
use visorbus_services::monitoring::MOST_THRESHOLDS;

use super::{
    AuthSettings, DBusSettings, HardwareSettings, LinkSettings, LogFormat, LogLevel, LogOutput, LogSettings,
    MonitoringSettings, Scraping, Settings, UnixSocketSettings, WebSocketSettings, group,
};
use crate::places;

impl Settings {
    /// What `config`, whose schema has the categories of [`schema`](super::schema()), says at this moment.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`] for the first value that does not go with the others, or with this machine.
    ///
    /// # Panics
    /// When the schema has not all those categories.
    pub fn read(config: &ConfigManager) -> Result<Self, ConfigError> {
        Self::of(&config.values())
    }

    /// As [`Settings::read`], of the values of one moment.
    ///
    /// # Errors
    /// As [`Settings::read`].
    ///
    /// # Panics
    /// As [`Settings::read`].
    pub fn of(values: &ConfigValues) -> Result<Self, ConfigError> {
        let settings = Self {
            unix_socket: unix_socket(values)?,
            dbus: dbus(values)?,
            websocket: websocket(values),
            links: links(values)?,
            limits: limits(values)?,
            auth: auth(values),
            log: log(values),
            hardware: hardware(values)?,
            monitoring: monitoring(values)?,
        };
        settings.validate()?;
        Ok(settings)
    }
}

fn unix_socket(values: &ConfigValues) -> Result<UnixSocketSettings, ConfigError> {
    let name = values.text("unix_socket", "group");
    let gid = (!name.is_empty()).then(|| group(&name)).transpose();
    Ok(UnixSocketSettings {
        enabled: values.bool("unix_socket", "enabled"),
        path: path(values, "unix_socket", "path").unwrap_or_else(places::socket),
        group: gid.map_err(|why| ConfigError::conflict("unix_socket", "group", why))?,
    })
}

fn dbus(values: &ConfigValues) -> Result<DBusSettings, ConfigError> {
    Ok(DBusSettings {
        enabled: values.bool("dbus", "enabled"),
        bus: parsed(values.text("dbus", "bus"), "dbus", "bus")?,
        service_name: values.text("dbus", "service_name"),
        object_path: values.text("dbus", "object_path"),
    })
}

fn websocket(values: &ConfigValues) -> WebSocketSettings {
    let path = |key| path(values, "websocket", key);
    WebSocketSettings {
        enabled: values.bool("websocket", "enabled"),
        bind_address: values.text("websocket", "bind_address"),
        dashboard: values.bool("websocket", "dashboard"),
        tls_enabled: values.bool("websocket", "tls_enabled"),
        tls_cert_path: path("tls_cert_path"),
        tls_key_path: path("tls_key_path"),
        tls_client_ca_path: path("tls_client_ca_path"),
        allowed_hosts: values.texts("websocket", "allowed_hosts"),
        allowed_origins: values.texts("websocket", "allowed_origins"),
        allow_plaintext_network: values.bool("websocket", "allow_plaintext_network"),
        server_url: Some(values.text("websocket", "server_url")).filter(|url| !url.is_empty()),
        tls_ca_cert_path: path("tls_ca_cert_path"),
    }
}

fn links(values: &ConfigValues) -> Result<LinkSettings, ConfigError> {
    let specs = |key| values.texts("links", key).into_iter();
    Ok(LinkSettings {
        serial: specs("serial").map(|text| parsed(text, "links", "serial")).collect::<Result<_, _>>()?,
        spi: specs("spi").map(|text| parsed(text, "links", "spi")).collect::<Result<_, _>>()?,
    })
}

fn limits(values: &ConfigValues) -> Result<Limits, ConfigError> {
    fn limit<T: TryFrom<i64>>(values: &ConfigValues, key: &str) -> Result<T, ConfigError> {
        number(values, "limits", key)
    }
    Ok(Limits {
        max_frame: limit(values, "max_frame")?,
        max_peers: limit(values, "max_peers")?,
        peers_per_user: limit(values, "peers_per_user")?,
        queue_bytes: limit(values, "queue_bytes")?,
        pending_calls: limit(values, "pending_calls")?,
        subscriptions: limit(values, "subscriptions")?,
        components: limit(values, "components")?,
        handshake_ms: limit(values, "handshake_ms")?,
        expired_s: limit(values, "expired_s")?,
        request_ms: limit(values, "request_ms")?,
        max_request_ms: limit(values, "max_request_ms")?,
        socket_heartbeat_ms: limit(values, "socket_heartbeat_ms")?,
        line_heartbeat_ms: limit(values, "line_heartbeat_ms")?,
        pool_threads: limit(values, "pool_threads")?,
        translated_bytes: limit(values, "translated_bytes")?,
    })
}

fn auth(values: &ConfigValues) -> AuthSettings {
    let mut auth = AuthSettings::beside(path(values, "auth", "key_file").unwrap_or_else(places::key_file));
    if let Some(accounts) = path(values, "auth", "accounts_file") {
        auth.accounts_file = accounts;
    }
    auth.policy_file = path(values, "auth", "policy_file");
    auth
}

fn log(values: &ConfigValues) -> LogSettings {
    let level = match values.text("log", "level").as_str() {
        "off" => LogLevel::Off,
        "error" => LogLevel::Error,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Warn,
    };
    let format = match values.text("log", "format").as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        "journald" => LogFormat::Journald,
        _ => LogFormat::Auto,
    };
    let output = match values.text("log", "output") {
        text if text == "stderr" => LogOutput::Stderr,
        text if text == "stdout" => LogOutput::Stdout,
        file => LogOutput::File(file.into()),
    };
    LogSettings { level, format, output }
}

fn hardware(values: &ConfigValues) -> Result<HardwareSettings, ConfigError> {
    Ok(HardwareSettings {
        enabled: values.bool("hardware", "enabled"),
        sysfs_root: values.text("hardware", "sysfs_root").into(),
        scan_interval: Duration::from_millis(number(values, "hardware", "scan_interval_ms")?),
        kernel_events: values.bool("hardware", "kernel_events"),
        max_devices: number(values, "hardware", "max_devices")?,
        command_timeout: Duration::from_millis(number(values, "hardware", "command_timeout_ms")?),
    })
}

fn monitoring(values: &ConfigValues) -> Result<MonitoringSettings, ConfigError> {
    let thresholds = values.texts("monitoring", "thresholds");
    if thresholds.len() > MOST_THRESHOLDS {
        let what = format!("{} thresholds are more than {MOST_THRESHOLDS}, the limit", thresholds.len());
        return Err(ConfigError::conflict("monitoring", "thresholds", what));
    }
    Ok(MonitoringSettings {
        enabled: values.bool("monitoring", "enabled"),
        interval: Duration::from_millis(number(values, "monitoring", "interval_ms")?),
        publish: Duration::from_millis(number(values, "monitoring", "publish_ms")?),
        history: Duration::from_secs(number(values, "monitoring", "history_s")?),
        history_bytes: number(values, "monitoring", "history_bytes")?,
        max_series: number(values, "monitoring", "max_series")?,
        thresholds: thresholds
            .into_iter()
            .map(|text| parsed(text, "monitoring", "thresholds"))
            .collect::<Result<_, _>>()?,
        proc_root: values.text("monitoring", "proc_root").into(),
        prometheus: match values.text("monitoring", "prometheus").as_str() {
            "off" => Scraping::Off,
            "local" => Scraping::Local,
            _ => Scraping::Token,
        },
    })
}

/// A whole number that this machine can have.
fn number<T: TryFrom<i64>>(values: &ConfigValues, category: &str, key: &str) -> Result<T, ConfigError> {
    let too_large = |_| ConfigError::conflict(category, key, "this machine has no number so large");
    values.integer(category, key).try_into().map_err(too_large)
}

/// A path, where one is given.
fn path(values: &ConfigValues, category: &str, key: &str) -> Option<PathBuf> {
    Some(values.text(category, key)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What the key's own check has let through already.
fn parsed<T: std::str::FromStr<Err: ToString>>(
    text: String,
    category: &str,
    key: &str,
) -> Result<T, ConfigError> {
    text.parse().map_err(|e: T::Err| ConfigError::conflict(category, key, e.to_string()))
}
