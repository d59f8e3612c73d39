//! What a hub with everything on it is set to: every option with its type, and what must be so between them. It opens no
//! file; that the hub's own certificate is there is all that it looks for.

mod limits;
mod read;
mod schema;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Group;
use visorbus_dbus::{BusAddress, DBusConfig};
use visorbus_hub::Limits;
use visorbus_mcu::{SerialSpec, SpiSpec};
use visorbus_services::config::ConfigError;
use visorbus_services::hardware::HardwareConfig;
use visorbus_services::monitoring::{MonitoringConfig, Threshold};

use crate::places;

pub use schema::{schema, schema_with};

/// All settings, each of its type. The default of each is what a configuration without a word of it means.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Settings {
    /// The hub's socket for programs of this machine.
    pub unix_socket: UnixSocketSettings,
    /// The hub's name on a D-Bus.
    pub dbus: DBusSettings,
    /// The hub's port for WebSockets, and where a client of this program's finds one.
    pub websocket: WebSocketSettings,
    /// The lines to boards.
    pub links: LinkSettings,
    /// What one peer may cost the hub.
    pub limits: Limits,
    /// Where keys, accounts and policy are.
    pub auth: AuthSettings,
    /// What is written down of what happens.
    pub log: LogSettings,
    /// The inventory of boards and devices.
    pub hardware: HardwareSettings,
    /// What is measured.
    pub monitoring: MonitoringSettings,
}

impl Settings {
    /// Checks what no setting by itself can be checked for.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`] for the first setting that does not go with the others, with what to do about it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.websocket.validate()?;
        self.websocket.validate_certificate(&self.auth)?;
        self.links.validate()?;
        limits::validate(&self.limits)
    }
}

/// The hub's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixSocketSettings {
    /// Whether there is one. Default true.
    pub enabled: bool,
    /// Where it is. Default [`places::socket`].
    pub path: PathBuf,
    /// The number of the group whose members may connect too. Default none.
    pub group: Option<u32>,
}

impl Default for UnixSocketSettings {
    fn default() -> Self {
        Self { enabled: true, path: places::socket(), group: None }
    }
}

/// The hub's name on a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DBusSettings {
    /// Whether it asks for one. Default false.
    pub enabled: bool,
    /// Which bus. Default the session's.
    pub bus: BusAddress,
    /// The name. Default `org.visorbus.Bus1`.
    pub service_name: String,
    /// The hub's object. Default `/org/visorbus/Bus1`.
    pub object_path: String,
}

impl Default for DBusSettings {
    fn default() -> Self {
        let DBusConfig { bus, service_name, object_path, .. } = DBusConfig::default();
        Self { enabled: false, bus, service_name, object_path }
    }
}

/// The hub's port for WebSockets, and where a client of this program's finds a hub by one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSocketSettings {
    /// Whether there is one. Default false.
    pub enabled: bool,
    /// Address and port. Default `127.0.0.1:7400`.
    pub bind_address: String,
    /// Whether the dashboard is served on it. Default false.
    pub dashboard: bool,
    /// Whether it speaks TLS. Default false.
    pub tls_enabled: bool,
    /// The certificate. Default `hub.crt` of [`places::tls_directory`].
    pub tls_cert_path: Option<PathBuf>,
    /// The certificate's key. Default `hub.key` of the same directory.
    pub tls_key_path: Option<PathBuf>,
    /// The authorities that vouch for clients; without them no client is asked for a certificate. Default none.
    pub tls_client_ca_path: Option<PathBuf>,
    /// Names that browsers reach the hub by, beside the address. Default none.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may connect, beside the hub's own. Default none.
    pub allowed_origins: Vec<String>,
    /// Whether it may be reached from other machines without TLS. Default false.
    pub allow_plaintext_network: bool,
    /// The hub that clients made by [`IpcManager::create_websocket_client`](crate::IpcManager::create_websocket_client)
    /// connect to. Default: the port of this one.
    pub server_url: Option<String>,
    /// The authorities that may vouch for that hub. Default: those of the system.
    pub tls_ca_cert_path: Option<PathBuf>,
}

impl WebSocketSettings {
    /// Whether whoever is served would find no difference: nothing is otherwise but what clients of this program's own use.
    pub(crate) fn serves_like(&self, other: &Self) -> bool {
        let own = other.clone();
        *self
            == Self {
                server_url: self.server_url.clone(),
                tls_ca_cert_path: self.tls_ca_cert_path.clone(),
                ..own
            }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, text: &str| Err(ConfigError::conflict("websocket", key, text));
        match (&self.tls_cert_path, &self.tls_key_path) {
            (Some(_), None) => {
                return refuse("tls_key_path", "a certificate needs its key: name it, or leave both out");
            }
            (None, Some(_)) => {
                return refuse("tls_cert_path", "a key needs its certificate: name it, or leave both out");
            }
            _ => {}
        }
        if self.enabled && self.tls_client_ca_path.is_some() && !self.tls_enabled {
            return refuse("tls_client_ca_path", "clients show certificates over TLS alone: set tls_enabled");
        }
        if self.enabled && !self.tls_enabled && !self.allow_plaintext_network && !self.is_local() {
            let text = "others can reach it, who could read and change everything without TLS: set tls_enabled \
                        (`visorbus tls init` makes a certificate), listen on 127.0.0.1, or set allow_plaintext_network if \
                        this network is yours alone";
            return refuse("bind_address", text);
        }
        Ok(())
    }

    /// Whether nobody but this machine reaches the address, as far as can be told without a question to the network: a name
    /// is looked up when the port is opened, and then measured by the same rule.
    fn is_local(&self) -> bool {
        self.bind_address
            .parse::<SocketAddr>()
            .map_or(true, |address| address.ip().to_canonical().is_loopback())
    }

    /// Sees that the hub's own certificate is there where it is to be shown. One that may not be looked for is for the start
    /// to find.
    fn validate_certificate(&self, auth: &AuthSettings) -> Result<(), ConfigError> {
        if !self.enabled || !self.tls_enabled || self.tls_cert_path.is_some() {
            return Ok(());
        }
        let own = places::tls_directory(&auth.key_file);
        let is_missing = |name: &str| matches!(own.join(name).try_exists(), Ok(false));
        if is_missing(places::CERTIFICATE) || is_missing(places::CERTIFICATE_KEY) {
            let text = format!(
                "there is no certificate in {}: `visorbus tls init` makes one, or name yours by tls_cert_path and \
                 tls_key_path (--tls-cert and --tls-key)",
                own.display()
            );
            return Err(ConfigError::conflict("websocket", "tls_enabled", text));
        }
        Ok(())
    }
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            bind_address: "127.0.0.1:7400".to_owned(),
            dashboard: false,
            tls_enabled: false,
            tls_cert_path: None,
            tls_key_path: None,
            tls_client_ca_path: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            allow_plaintext_network: false,
            server_url: None,
            tls_ca_cert_path: None,
        }
    }
}

/// The lines to boards. Default none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkSettings {
    /// Serial lines.
    pub serial: Vec<SerialSpec>,
    /// SPI buses.
    pub spi: Vec<SpiSpec>,
}

impl LinkSettings {
    /// One device has one link.
    fn validate(&self) -> Result<(), ConfigError> {
        let serial = self.serial.iter().map(|spec| ("serial", &spec.path));
        let devices: Vec<_> = serial.chain(self.spi.iter().map(|spec| ("spi", &spec.path))).collect();
        for (at, (key, path)) in devices.iter().enumerate() {
            if devices[..at].iter().any(|(_, before)| before == path) {
                let text = format!("'{}' is there twice: one device is one link", path.display());
                return Err(ConfigError::conflict("links", key, text));
            }
        }
        Ok(())
    }
}

/// Where keys, accounts and policy are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthSettings {
    /// The hub's keys, made at the first start. Default [`places::key_file`].
    pub key_file: PathBuf,
    /// Its accounts. Default `accounts.json` beside the keys.
    pub accounts_file: PathBuf,
    /// Its policy. `None`, the default, for `policy.toml` beside the keys, if it is there; one that is named has to be.
    pub policy_file: Option<PathBuf>,
}

impl AuthSettings {
    /// Keys in `key_file`, with all else beside them.
    pub fn beside(key_file: PathBuf) -> Self {
        let accounts_file = key_file.with_file_name(places::ACCOUNTS);
        Self { key_file, accounts_file, policy_file: None }
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self::beside(places::key_file())
    }
}

/// What is written down of what happens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogSettings {
    /// How much. Default warnings.
    pub level: LogLevel,
    /// In which form. Default as it suits the place.
    pub format: LogFormat,
    /// Where. Default standard error.
    pub output: LogOutput,
}

impl LogSettings {
    /// Lines for people on standard error, whatever that is.
    pub const fn text(level: LogLevel) -> Self {
        Self { level, format: LogFormat::Text, output: LogOutput::Stderr }
    }
}

/// How much is written to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// And what somebody should look at.
    #[default]
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// To the journal where standard error goes there (`JOURNAL_STREAM`), else text.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
    /// Entries of systemd's journal with their fields.
    Journald,
}

/// Where the log goes, unless it is the journal's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogOutput {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file, which is made with mode 0600, and opened again at each reload.
    File(PathBuf),
}

/// The inventory of boards and of the machine's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HardwareSettings {
    /// Whether there is one. Default true.
    pub enabled: bool,
    /// As [`HardwareConfig::sysfs_root`].
    pub sysfs_root: PathBuf,
    /// As [`HardwareConfig::scan_interval`].
    pub scan_interval: Duration,
    /// As [`HardwareConfig::kernel_events`].
    pub kernel_events: bool,
    /// As [`HardwareConfig::max_devices`].
    pub max_devices: usize,
    /// As [`HardwareConfig::command_timeout`].
    pub command_timeout: Duration,
}

impl Default for HardwareSettings {
    fn default() -> Self {
        let HardwareConfig { sysfs_root, scan_interval, kernel_events, max_devices, command_timeout, .. } =
            HardwareConfig::default();
        Self { enabled: true, sysfs_root, scan_interval, kernel_events, max_devices, command_timeout }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MonitoringSettings {
    /// Whether anything is. Default true.
    pub enabled: bool,
    /// As [`MonitoringConfig::interval`].
    pub interval: Duration,
    /// As [`MonitoringConfig::publish`]; zero for none.
    pub publish: Duration,
    /// As [`MonitoringConfig::history`].
    pub history: Duration,
    /// As [`MonitoringConfig::history_bytes`].
    pub history_bytes: usize,
    /// As [`MonitoringConfig::max_series`].
    pub max_series: usize,
    /// As [`MonitoringConfig::thresholds`].
    pub thresholds: Vec<Threshold>,
    /// As [`MonitoringConfig::proc_root`].
    pub proc_root: PathBuf,
    /// Who may have the figures as a page of the hub's port.
    pub prometheus: Scraping,
}

/// Who may have the figures at `/metrics` of the hub's port, in Prometheus' text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scraping {
    /// Nobody.
    Off,
    /// Whoever shows a token that may request `monitoring/prometheus`.
    #[default]
    Token,
    /// And whoever is on this machine.
    Local,
}

impl Default for MonitoringSettings {
    fn default() -> Self {
        let MonitoringConfig {
            interval,
            publish,
            history,
            history_bytes,
            max_series,
            thresholds,
            proc_root,
            ..
        } = MonitoringConfig::default();
        let publish = publish.unwrap_or_default();
        let prometheus = Scraping::default();
        Self {
            enabled: true,
            interval,
            publish,
            history,
            history_bytes,
            max_series,
            thresholds,
            proc_root,
            prometheus,
        }
    }
}

/// The number of a group of this machine, by its name or its number.
///
/// # Errors
/// Why there is none, for people.
pub fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let found = Group::from_name(text).map_err(|e| format!("cannot look up the group: {e}"))?;
    found.map(|group| group.gid.as_raw()).ok_or_else(|| format!("there is no group '{text}' on this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Settings), key: &str) {
        let mut settings = Settings::default();
        change(&mut settings);
        let error = settings.validate().unwrap_err().to_string();
        assert!(error.starts_with(&format!("'{key}'")), "{error}");
    }

    #[test]
    fn settings_that_nobody_has_changed_go_together() {
        Settings::default().validate().unwrap();
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_by_the_name_of_what_is_missing() {
        refused(|all| all.websocket.tls_cert_path = Some("hub.crt".into()), "websocket.tls_key_path");
        refused(|all| all.websocket.tls_key_path = Some("hub.key".into()), "websocket.tls_cert_path");
    }

    #[test]
    fn who_demands_certificates_of_clients_without_tls_is_told() {
        refused(
            |all| {
                all.websocket.enabled = true;
                all.websocket.tls_client_ca_path = Some("ca.pem".into());
            },
            "websocket.tls_client_ca_path",
        );
    }

    #[test]
    fn a_port_that_others_reach_without_tls_is_refused_unless_that_is_asked_for() {
        let open = |address: &str| WebSocketSettings {
            enabled: true,
            bind_address: address.to_owned(),
            ..WebSocketSettings::default()
        };
        for address in ["0.0.0.0:7400", "192.0.2.1:0", "[::]:7400", "[::ffff:192.0.2.1]:7400"] {
            refused(|all| all.websocket = open(address), "websocket.bind_address");
            let asked = WebSocketSettings { allow_plaintext_network: true, ..open(address) };
            asked.validate().unwrap();
            WebSocketSettings { enabled: false, ..open(address) }.validate().unwrap();
        }
        for address in
            ["127.0.0.1:7400", "127.0.0.2:0", "[::1]:7400", "[::ffff:127.0.0.1]:0", "localhost:7400"]
        {
            open(address).validate().unwrap();
        }
    }

    #[test]
    fn a_certificate_of_the_hubs_own_has_to_be_there_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let own = |all: &mut Settings| {
            all.auth = AuthSettings::beside(directory.path().join("root.key"));
            all.websocket.enabled = true;
            all.websocket.tls_enabled = true;
            all.websocket.bind_address = "0.0.0.0:7400".to_owned();
        };
        refused(own, "websocket.tls_enabled");
        let tls = places::tls_directory(&directory.path().join("root.key"));
        std::fs::create_dir(&tls).unwrap();
        std::fs::write(tls.join(places::CERTIFICATE), "").unwrap();
        refused(own, "websocket.tls_enabled");
        std::fs::write(tls.join(places::CERTIFICATE_KEY), "").unwrap();
        let mut settings = Settings::default();
        own(&mut settings);
        settings.validate().unwrap();
    }

    #[test]
    fn a_device_that_is_there_twice_is_refused() {
        let spec = |text: &str| text.parse::<SerialSpec>().unwrap();
        refused(
            |all| all.links.serial = vec![spec("/dev/ttyACM0@9600"), spec("/dev/ttyACM0@115200")],
            "links.serial",
        );
    }

    #[test]
    fn a_group_is_known_by_name_and_by_number() {
        assert_eq!(group("0"), Ok(0));
        assert_eq!(group("root"), Ok(0));
        assert!(group("no-such-group").unwrap_err().contains("there is no group"));
    }
}
