//! `visorbus doctor`: what on this machine is in the hub's way, and how to mend it. It looks, and changes nothing.

mod files;
mod finding;
mod machine;
mod subject;
mod tls;
mod units;
mod ways;

use std::io::{IsTerminal as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use visorbus::settings::AuthSettings;
use visorbus::{Settings, places, settings};
use visorbus_dbus::BusAddress;
use visorbus_hub::{Result, Value};
use visorbus_services::config::{ConfigError, ConfigManager, Origin, Overrides};

use self::finding::{Finding, State};
use self::subject::Subject;
use crate::args;
use crate::environment;
use crate::output::{self, print};

/// Looks at everything, and says what it found.
pub(crate) fn run(args: &args::Doctor, json: bool) -> Result<ExitCode> {
    let findings = examine(args);
    if json {
        let objects: Vec<_> = findings.iter().map(Finding::to_json).collect();
        print(&serde_json::json!(objects).to_string())?;
    } else {
        let terminal = stdout().is_terminal();
        for finding in &findings {
            print(&finding.show(terminal))?;
        }
    }
    let is_bad = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(ExitCode::from(if is_bad { output::FAILED } else { 0 }))
}

fn examine(args: &args::Doctor) -> Vec<Finding> {
    let subject = Subject::of(args.system);
    let mut all = Vec::new();
    let subject = subject.unwrap_or_else(|finding| {
        all.push(finding);
        Subject::own()
    });
    // Without a configuration that can be read, the rest is looked at as the defaults have it.
    let settings = configured(args, &subject, &mut all);
    let is_served = ways::socket(&settings, &subject, args.system, &mut all);
    files::keys(&settings, &subject, &mut all);
    files::state(&settings, &subject, &mut all);
    ways::bus(&settings, &mut all);
    ways::port(&settings, is_served, &mut all);
    tls::certificates(&settings, &args.place.tls_directory(), &subject, &mut all);
    machine::devices(&settings, &subject, &mut all);
    machine::descriptors(&settings, units::descriptors(args.system), &mut all);
    machine::clock(&mut all);
    units::units(args.system, &mut all);
    all
}

/// What the hub is told to be; where that cannot be read, what it is when it is told nothing.
fn configured(args: &args::Doctor, subject: &Subject, all: &mut Vec<Finding>) -> Settings {
    let named = args.config.clone().or_else(|| places::named_config_file().filter(|_| !args.system));
    let usual = || if args.system { SYSTEM_CONFIG.into() } else { places::config_file() };
    let file = named.clone().unwrap_or_else(usual);
    files::config_file(&file, named.is_some(), subject, all);
    read(&file, args, all).unwrap_or_else(|error| {
        all.push(Finding::fail(CONFIG, error.to_string(), "correct it; `visorbus config check` looks again"));
        unconfigured(args)
    })
}

/// As `visorbus serve` reads it, with the same options; that of the machine as its unit has it read.
fn read(
    file: &Path,
    args: &args::Doctor,
    all: &mut Vec<Finding>,
) -> std::result::Result<Settings, ConfigError> {
    let given = if args.system { Overrides::none() } else { Overrides::from_environment() };
    let mut given = named_places(args).into_iter().fold(given, |given, (category, key, path)| {
        given.value(category, key, Value::Text(path.display().to_string()))
    });
    if args.system {
        given = given.value("dbus", "enabled", Value::Bool(true));
        given = given.value("dbus", "bus", Value::Text("system".to_owned()));
        // What the file leaves to the directories that the unit names.
        let as_written = ConfigManager::open(settings::schema(), file, given.clone())?;
        for (category, key, path) in SYSTEM_PLACES {
            if as_written.get(category, key)?.origin == Origin::Default {
                given = given.value(category, key, Value::Text(path.to_owned()));
            }
        }
    }
    let config = ConfigManager::open(settings::schema(), file, given)?;
    let unknown = environment::unknown(&config);
    all.extend(unknown.map(|line| Finding::warn(CONFIG, line, "correct the name, or take it away")));
    Settings::read(&config)
}

/// What the options say of places.
fn named_places(args: &args::Doctor) -> Vec<(&'static str, &'static str, &Path)> {
    let place = &args.place;
    let socket = place.socket.as_deref().map(|socket| ("unix_socket", "path", socket));
    let keys = place.key_file.as_deref().map(|keys| ("auth", "key_file", keys));
    socket.into_iter().chain(keys).collect()
}

/// The hub with its defaults.
fn unconfigured(args: &args::Doctor) -> Settings {
    let mut settings = Settings::default();
    let system =
        SYSTEM_PLACES.iter().filter(|_| args.system).map(|(of, key, path)| (*of, *key, Path::new(path)));
    // The options' come last, and hold.
    for (_, key, path) in system.chain(named_places(args)) {
        match key {
            "path" => settings.unix_socket.path = path.to_owned(),
            _ => settings.auth = AuthSettings::beside(path.to_owned()),
        }
    }
    if args.system {
        (settings.dbus.enabled, settings.dbus.bus) = (true, BusAddress::System);
    }
    settings
}

const CONFIG: &str = "config";
const SYSTEM_CONFIG: &str = "/etc/visorbus/visorbus.toml";
/// Where the unit's directories have what no option names.
const SYSTEM_PLACES: [(&str, &str, &str); 2] =
    [("unix_socket", "path", "/run/visorbus/bus.sock"), ("auth", "key_file", "/var/lib/visorbus/root.key")];
