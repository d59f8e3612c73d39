//! The demonstration's way in for desktop programs: a bus, the hub's name on it, and a line that anybody can paste.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use visorbus_dbus::{BusAddress, DBusClient, DBusClientConfig, DBusConfig, DBusDoor, MessageItem};
use visorbus_hub::{Error, Result};

use super::board::{Running, SENSOR};
use super::{CALLS, PATIENCE, Percentiles, Stage};

/// A bus, and the hub's name on it.
pub(super) struct Desktop {
    config: DBusConfig,
    /// The bus, where there was none to use.
    own: Option<OwnBus>,
}

/// A bus that the demonstration has started, and ends.
struct OwnBus {
    daemon: Child,
    running: Running,
}

impl Desktop {
    /// The session's bus, or one that is started for the hub; says why where neither can be.
    pub(super) fn find(stage: &Stage, running: &Running) -> Result<Self> {
        let mut config = DBusConfig::default();
        let mut own = None;
        if !has_session_bus() {
            let (started, address) = OwnBus::start(stage.directory.path(), running)?;
            config.bus = BusAddress::Address(address);
            own = Some(started);
        }
        Ok(Self { config, own })
    }

    /// The bus, as a configuration has it.
    pub(super) fn bus(&self) -> String {
        match &self.config.bus {
            BusAddress::Address(address) => address.clone(),
            _ => "session".to_owned(),
        }
    }

    /// The same once the hub has its name there; says why it has not.
    pub(super) fn served(self, door: Option<DBusDoor>) -> Result<Self> {
        let door = door.ok_or_else(|| Error::Internal("the hub serves no bus".to_owned()))?;
        wait_for_name(&door).map(|()| self)
    }

    /// Has `heard` called whenever a setting changes; reads one first, so that the hub knows who listens.
    pub(super) fn listen(
        &self,
        interface: &str,
        setting: [&str; 2],
        heard: impl Fn() + Send + Sync + 'static,
    ) -> Result<DBusClient> {
        let DBusConfig { bus, service_name, object_path, .. } = &self.config;
        let client = DBusClient::with_config(service_name, object_path, DBusClientConfig::on(bus.clone()))?;
        client.connect()?;
        client.register_signal_handler(interface, "ConfigChanged", move |_| heard())?;
        client.call_method(interface, "GetValue", &setting.map(MessageItem::from))?;
        Ok(client)
    }

    /// Which bus it is.
    pub(super) fn describe(&self) -> String {
        let Self { config, own, .. } = self;
        let whose = if own.is_some() { "a bus of its own" } else { "the session bus" };
        format!("{} on {whose}", config.service_name)
    }

    /// The command that calls the sensor from another terminal.
    pub(super) fn command(&self) -> String {
        let DBusConfig { bus, service_name, object_path, .. } = &self.config;
        let bus = match bus {
            BusAddress::Address(address) => format!("--address={address}"),
            _ => "--user".to_owned(),
        };
        format!(
            "busctl {bus} call {service_name} {object_path}/components/{} {INTERFACE} {METHOD}",
            SENSOR.name
        )
    }

    /// What the sensor answers a desktop program, and how long that takes.
    pub(super) fn call(&self) -> Result<(String, Percentiles)> {
        let DBusConfig { bus, service_name, object_path, .. } = &self.config;
        let sensor = format!("{object_path}/components/{}", SENSOR.name);
        let client = DBusClient::with_config(service_name, &sensor, DBusClientConfig::on(bus.clone()))?;
        client.connect()?;
        let answer = client.call_method(INTERFACE, METHOD, &[])?;
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let started = Instant::now();
            client.call_method(INTERFACE, METHOD, &[])?;
            times.push(started.elapsed());
        }
        client.disconnect();
        let [MessageItem::Str(firmware), ..] = &answer[..] else {
            return Err(Error::Internal(format!("the sensor answers over D-Bus: {answer:?}")));
        };
        Ok((format!("firmware {firmware}"), Percentiles::of(times)))
    }
}

impl OwnBus {
    /// A bus for this user alone, below `directory`.
    fn start(directory: &Path, running: &Running) -> Result<(Self, String)> {
        let config = directory.join("bus.conf");
        let address = format!("unix:path={}", directory.join("bus").display());
        let text = BUS_CONFIG.replace("ADDRESS", &address);
        fs::write(&config, text).map_err(|e| Error::Internal(format!("{}: {e}", config.display())))?;
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg("--print-address=1").arg(format!("--config-file={}", config.display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let daemon = running.spawn(&mut command).map_err(|e| {
            Error::Connection(format!("there is no session bus here, and dbus-daemon cannot be started: {e}"))
        })?;
        let mut own = Self { daemon, running: running.clone() };
        let mut told = String::new();
        let output = own.daemon.stdout.take();
        // It says its address once it can be connected to, and nothing where it has failed.
        let read = output.map(|output| BufReader::new(output).read_line(&mut told));
        match read {
            Some(Ok(1..)) => Ok((own, address)),
            _ => Err(Error::Connection(
                "dbus-daemon did not start: `dbus-daemon --session` says why".to_owned(),
            )),
        }
    }
}

impl Drop for OwnBus {
    fn drop(&mut self) {
        self.running.forget(&self.daemon);
        // It has ended, or ends now.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Whether this login session has a bus: one that only might be there would have to be waited for.
fn has_session_bus() -> bool {
    DBusClient::new("org.freedesktop.DBus", "/org/freedesktop/DBus").and_then(|bus| bus.connect()).is_ok()
}

/// Waits until the hub has its name.
fn wait_for_name(door: &DBusDoor) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = door.state();
        if state.owns_name {
            return Ok(());
        }
        match state.trouble {
            Some(why) => return Err(Error::Connection(why)),
            None if Instant::now() >= deadline => {
                return Err(Error::Timeout("the bus gave the hub no name in time".to_owned()));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

const INTERFACE: &str = "org.visorbus.components.Imu";
const METHOD: &str = "Info";
/// One user's bus; what may go over it is the hub's to say.
const BUS_CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;
