//! `visorbus serve`: a hub with everything that its configuration asks for, until a signal or somebody on the bus ends it.

use std::fs::File;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use visorbus::systemd::{Inherited, Notifier};
use visorbus::{
    IpcManager, Log, ManagerControl, ManagerEvent, ManagerStatus, Reloaded, Settings, Severity, places, say,
    settings,
};
use visorbus_hub::{Result, Value};
use visorbus_services::config::{ConfigError, ConfigManager, ConfigSchema, Overrides};

use crate::config::report;
use crate::reload::count;
use crate::tls::authority;
use crate::{args, environment, interrupt, output};

/// Runs the hub. What is wrong with the configuration has an exit code of its own: starting again does not mend it.
pub(crate) fn run(args: &args::Serve, verbose: u8, json: bool) -> Result<ExitCode> {
    // First of all, before the first thread.
    let mut sockets = Inherited::take()?;
    let signals = interrupt::block()?;
    let (config, settings) = match args.configuration(verbose) {
        Ok(read) => read,
        Err(error) => return Ok(report(&error, json)),
    };
    args.websocket.check_unused(&settings)?;
    let unix = if settings.unix_socket.enabled { sockets.unix() } else { None };
    let websocket = if settings.websocket.enabled { sockets.websocket() } else { None };
    if let Err(error) = sockets.refuse_unused() {
        output::report(&error, json);
        return Ok(ExitCode::from(output::CONFIGURATION));
    }
    let log = Log::start(&settings.log)?;
    if let Some(unknown) = environment::unknown(&config) {
        tracing::warn!("{unknown}");
    }
    if !settings.unix_socket.enabled && !settings.websocket.enabled && !settings.dbus.enabled {
        tracing::warn!("no way in is switched on: nobody but boards can reach this hub");
    }
    let mut manager = IpcManager::new(config)?;
    manager.set_log(log);
    manager.set_inherited(unix, websocket);
    manager.initialize()?;
    let systemd = Notifier::from_environment();
    let _watchdog = systemd.watchdog(&manager.handle()?)?;
    let dashboard = dashboard(&manager);
    let control = manager.control();
    follow_signals(signals, control.clone());
    let own = settings::schema();
    manager.serve(|event| match event {
        ManagerEvent::Serving => greet(&control.status(), dashboard.as_deref(), &systemd),
        ManagerEvent::Changed(changed) => tell_changed(changed, &own, &control.status(), &systemd),
        event => tell(event, &control.status(), &systemd),
    })?;
    Ok(ExitCode::SUCCESS)
}

impl args::Serve {
    /// The configuration with what the command line says, and what it comes to.
    fn configuration(&self, verbose: u8) -> std::result::Result<(ConfigManager, Settings), ConfigError> {
        let named = self.config.clone().or_else(places::named_config_file);
        let file = named.clone().unwrap_or_else(places::config_file);
        if named.is_some() && file.try_exists().is_ok_and(|is_there| !is_there) {
            let why = "it is not there: `visorbus config init` writes one".to_owned();
            return Err(ConfigError::Unusable { doing: "read", path: file, why });
        }
        let config = ConfigManager::open(settings::schema(), file, self.overrides(verbose)?)?;
        let settings = Settings::read(&config)?;
        Ok((config, settings))
    }

    /// What the options say; those of a name of their own before `--set`.
    fn overrides(&self, verbose: u8) -> std::result::Result<Overrides, ConfigError> {
        let mut overrides = Overrides::from_environment();
        for (category, key, value) in self.given(verbose) {
            overrides = overrides.value(category, key, value);
        }
        self.set.iter().try_fold(overrides, |overrides, argument| overrides.argument(argument))
    }

    fn given(&self, verbose: u8) -> Vec<(&'static str, &'static str, Value)> {
        let mut given = Vec::new();
        let text = |text: String| Value::Text(text);
        let path = |path: &std::path::Path| Value::Text(path.display().to_string());
        let place = &self.place.place;
        let paths = [("unix_socket", "path", &place.socket), ("auth", "key_file", &place.key_file)];
        let paths = paths.into_iter().chain([
            ("auth", "policy_file", &self.place.policy),
            ("websocket", "tls_cert_path", &self.websocket.tls_cert),
            ("websocket", "tls_key_path", &self.websocket.tls_key),
        ]);
        given.extend(
            paths.filter_map(|(category, key, given)| Some((category, key, path(given.as_deref()?)))),
        );
        if let Some(group) = self.socket_group {
            given.push(("unix_socket", "group", text(group.to_string())));
        }
        let specs = |texts: Vec<String>| Value::Texts(texts);
        if !self.serial.is_empty() {
            given.push(("links", "serial", specs(self.serial.iter().map(ToString::to_string).collect())));
        }
        if !self.spi.is_empty() {
            given.push(("links", "spi", specs(self.spi.iter().map(ToString::to_string).collect())));
        }
        let websocket = &self.websocket;
        if let Some(address) = &websocket.websocket {
            given.push(("websocket", "bind_address", text(address.clone())));
        }
        let wanted = [
            ("websocket", "enabled", websocket.websocket.is_some() || websocket.dashboard),
            ("websocket", "dashboard", websocket.dashboard),
            ("websocket", "tls_enabled", websocket.tls || websocket.tls_cert.is_some()),
            ("websocket", "allow_plaintext_network", websocket.allow_plaintext_network),
            ("dbus", "enabled", self.dbus.dbus.is_some()),
        ];
        let wanted = wanted.into_iter().filter(|(.., is)| *is);
        given.extend(wanted.map(|(category, key, _)| (category, key, Value::Bool(true))));
        if let Some(own) = &websocket.tls_client_ca {
            let file = own.clone().unwrap_or_else(|| authority(&place.tls_directory()));
            given.push(("websocket", "tls_client_ca_path", path(&file)));
        }
        let lists = [("allowed_hosts", &websocket.allow_host), ("allowed_origins", &websocket.allow_origin)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        given.extend(lists.map(|(key, list)| ("websocket", key, Value::Texts(list.clone()))));
        if let Some(bus) = &self.dbus.dbus {
            given.push(("dbus", "bus", text(bus.clone())));
        }
        if let Some(name) = &self.dbus.dbus_name {
            given.push(("dbus", "service_name", text(name.clone())));
        }
        if let Some(path) = &self.dbus.dbus_path {
            given.push(("dbus", "object_path", text(path.clone())));
        }
        match verbose {
            0 => {}
            1 => given.push(("log", "level", text("info".to_owned()))),
            _ => given.push(("log", "level", text("trace".to_owned()))),
        }
        given
    }
}

/// Has SIGHUP read everything again, the first other signal end the hub, the second end the process.
fn follow_signals(signals: SigSet, control: ManagerControl) {
    let had_terminal = has_terminal();
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            // A terminal that is closed says so by the same signal; its hub ends with it.
            let hung_up = had_terminal && !has_terminal();
            if signal == Signal::SIGHUP && !hung_up {
                // What came of it is told by the one who does it.
                if let Err(error) = control.request_reload() {
                    tracing::warn!("{}", error.text());
                }
                continue;
            }
            tracing::info!("{signal}: saying goodbye to all peers");
            control.shutdown();
            break;
        }
        if signals.wait().is_ok() {
            std::process::exit(output::INTERRUPTED.into());
        }
    });
}

/// Says that it serves, and where: from now on it takes signals and orders.
fn greet(status: &ManagerStatus, dashboard: Option<&str>, systemd: &Notifier) {
    let said = show_start(status);
    systemd.ready(&said);
    let hint = if stderr().is_terminal() { "; Ctrl-C ends it" } else { "" };
    eprintln!("visorbus {said}{hint}");
    if let Some(url) = dashboard {
        eprintln!(
            "visorbus: the dashboard is at {url}; `visorbus auth token mint` makes a token to log in with"
        );
    }
}

/// Where the dashboard is, if it is served.
fn dashboard(manager: &IpcManager) -> Option<String> {
    let url = manager.websocket_server()?.url()?;
    let wanted = manager.settings().websocket.dashboard;
    wanted.then(|| format!("http{}/", url.trim_start_matches("ws").trim_end_matches('/')))
}

/// Says what happens, for people and for systemd.
fn tell(event: ManagerEvent<'_>, status: &ManagerStatus, systemd: &Notifier) {
    match event {
        ManagerEvent::Reloading => systemd.reloading(),
        ManagerEvent::Reloaded(reloaded) => {
            tell_files(reloaded, status);
            tell_settings(reloaded);
            systemd.ready(&show_reload(reloaded, status));
        }
        ManagerEvent::Stopping => systemd.stopping(),
        _ => {}
    }
}

/// Writes down what somebody has changed; whoever it was has been told already. Settings that are not the hub's own are for
/// those whom they concern.
fn tell_changed(changed: &Reloaded, own: &ConfigSchema, status: &ManagerStatus, systemd: &Notifier) {
    let is_own = |name: &str| own.categories().iter().any(|category| category.name() == name);
    let is_own = |key: &&String| key.split_once('.').is_some_and(|(category, _)| is_own(category));
    let applied: Vec<&str> = changed.applied.iter().filter(is_own).map(String::as_str).collect();
    if !applied.is_empty() {
        tracing::info!("from now on otherwise: {}", applied.join(", "));
        systemd.status(&show_start(status));
    }
    if !changed.at_restart.is_empty() {
        tracing::info!("from the next start on: {}", changed.at_restart.join(", "));
    }
    for refused in &changed.refused {
        tracing::warn!("the settings of '{}' stay as they were: {}", refused.what, refused.why);
    }
}

/// What came of the files beside the configuration's.
fn tell_files(reloaded: &Reloaded, status: &ManagerStatus) {
    let refused = |what: &str| reloaded.refused.iter().any(|refused| refused.what == what);
    if !refused("accounts") {
        let ended = count(&reloaded.ended);
        say(Severity::Notice, &format!("accounts and keys are read again, {}: {ended}", show_policy(status)));
    }
    let has_certificates = status.part("websocket").is_some_and(|part| part.place.starts_with("wss:"));
    if has_certificates && !refused("certificates") {
        say(Severity::Notice, "the certificates are read again, for new connections");
    }
}

/// What came of settings, and all that was refused.
fn tell_settings(reloaded: &Reloaded) {
    if !reloaded.applied.is_empty() {
        say(Severity::Notice, &format!("from now on otherwise: {}", reloaded.applied.join(", ")));
    }
    if !reloaded.at_restart.is_empty() {
        say(Severity::Notice, &format!("from the next start on: {}", reloaded.at_restart.join(", ")));
    }
    for refused in &reloaded.refused {
        let why = &refused.why;
        let text = match refused.what.as_str() {
            "accounts" => format!("what cannot be read again stays as it was: {why}"),
            "certificates" => format!("the certificates stay as they were: {why}"),
            "configuration" => format!("the configuration stays as it was: {why}"),
            category => format!("the settings of '{category}' stay as they were: {why}"),
        };
        say(Severity::Error, &text);
    }
}

/// As [`show_start`], with what a reload has not taken over.
fn show_reload(reloaded: &Reloaded, status: &ManagerStatus) -> String {
    let refused: Vec<&str> = reloaded.refused.iter().map(|refused| refused.what.as_str()).collect();
    if refused.is_empty() {
        return show_start(status);
    }
    format!("wrong, and as before: {}; {}", refused.join(", "), show_start(status))
}

/// Where the hub is to be found, and by whose word.
fn show_start(status: &ManagerStatus) -> String {
    let part =
        |name: &str| status.part(name).map(|part| part.place.as_str()).filter(|place| !place.is_empty());
    let mut ways: Vec<String> =
        [part("unix_socket"), part("websocket")].into_iter().flatten().map(str::to_owned).collect();
    ways.extend(part("dbus").map(|name| format!("as {name}")));
    let ways = if ways.is_empty() { "nothing".to_owned() } else { ways.join(" and ") };
    format!(
        "serves on {ways}, keys in {}, accounts in {}, {}",
        status.key_file,
        status.accounts_file,
        show_policy(status)
    )
}

/// Where the policy is and how much it says.
fn show_policy(status: &ManagerStatus) -> String {
    let file = &status.policy_file;
    match status.policy_rules {
        0 => format!("no rules in {file}"),
        1 => format!("1 rule in {file}"),
        rules => format!("{rules} rules in {file}"),
    }
}

/// Whether this process belongs to a terminal that is still there.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
