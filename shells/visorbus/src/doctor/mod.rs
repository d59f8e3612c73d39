//! `visorbus doctor`: what on this machine is in the hub's way, and how to mend it. It looks, and changes nothing.

mod files;
mod finding;
mod machine;
mod subject;
mod units;
mod ways;

use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;

use visorbus::{Settings, places, settings};
use visorbus_hub::Result;
use visorbus_services::config::{ConfigManager, Origin, Overrides};

use self::finding::{Finding, State};
use self::subject::Subject;
use crate::args;
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
    let is_served = ways::socket(&settings, &subject, &mut all);
    files::keys(&settings, &subject, &mut all);
    files::state(&settings, &subject, &mut all);
    ways::bus(&settings, &mut all);
    ways::port(&settings, is_served, &mut all);
    files::tls(&settings, &mut all);
    machine::devices(&settings, &subject, &mut all);
    machine::descriptors(&settings, &mut all);
    machine::clock(&mut all);
    units::units(args.system, &mut all);
    all
}

/// What the hub is told to be.
fn configured(args: &args::Doctor, subject: &Subject, all: &mut Vec<Finding>) -> Settings {
    let file = args.config.clone().unwrap_or_else(|| match args.system {
        true => SYSTEM_CONFIG.into(),
        false => places::config_file(),
    });
    files::config_file(&file, subject, all);
    let overrides = if args.system { Overrides::none() } else { Overrides::from_environment() };
    let read = ConfigManager::open(settings::schema(), &file, overrides)
        .and_then(|config| Settings::read(&config).map(|settings| (settings, config)));
    let (mut settings, config) = match read {
        Ok((settings, config)) => (settings, Some(config)),
        Err(error) => {
            all.push(Finding::fail(
                CONFIG,
                error.to_string(),
                "correct it; `visorbus config check` looks again",
            ));
            (Settings::default(), None)
        }
    };
    let is_default = |category, key| {
        config.as_ref().and_then(|c| c.get(category, key).ok()).is_none_or(|e| e.origin == Origin::Default)
    };
    if args.system {
        // As the unit says.
        (settings.dbus.enabled, settings.dbus.bus) = (true, visorbus_dbus::BusAddress::System);
        if is_default("unix_socket", "path") {
            settings.unix_socket.path = SYSTEM_SOCKET.into();
        }
        if is_default("auth", "key_file") {
            settings.auth = visorbus::settings::AuthSettings::beside(SYSTEM_KEYS.into());
        }
    }
    if let Some(socket) = &args.place.socket {
        settings.unix_socket.path.clone_from(socket);
    }
    if let Some(keys) = &args.place.key_file {
        settings.auth = visorbus::settings::AuthSettings::beside(keys.clone());
    }
    settings
}

const CONFIG: &str = "config";
const SYSTEM_CONFIG: &str = "/etc/visorbus/visorbus.toml";
const SYSTEM_SOCKET: &str = "/run/visorbus/bus.sock";
const SYSTEM_KEYS: &str = "/var/lib/visorbus/root.key";
