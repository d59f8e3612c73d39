//! systemd's side: whether the units are installed, enabled and running.

use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

use super::finding::Finding;

/// Looks at the units of the machine's service, or of the own session's.
pub(super) fn units(system: bool, all: &mut Vec<Finding>) {
    let (directory, scope) = if system { ("system", "--system") } else { ("user", "--user") };
    let installed = ["/etc", "/usr/lib", "/usr/local/lib", "/lib"]
        .iter()
        .any(|below| Path::new(below).join("systemd").join(directory).join(SOCKET).exists());
    if !installed {
        let text = format!("{SERVICE} and {SOCKET} are not installed for systemd's {directory} units");
        all.push(Finding::warn("units", text, "install the package, or `visorbus dbus files --into /usr`"));
        return;
    }
    if !Path::new("/run/systemd/system").is_dir() {
        all.push(Finding::warn(
            "units",
            "this machine was not booted by systemd",
            "start `visorbus serve` some other way",
        ));
        return;
    }
    for unit in [SOCKET, SERVICE] {
        let ask = |verb| answer(&[scope, verb, unit]);
        let (enabled, active) = (ask("is-enabled"), ask("is-active"));
        let text = format!("{unit} is {enabled}, {active}");
        let start = format!("systemctl {scope} enable --now {SOCKET}");
        all.push(match active.as_str() {
            "failed" => Finding::fail("units", text, format!("journalctl {scope} --unit {unit} says why")),
            "active" => Finding::ok("units", text),
            // It starts when somebody calls.
            _ if unit == SERVICE => Finding::ok("units", text),
            _ => Finding::warn("units", text, start),
        });
    }
}

/// How many files the hub may have open: what its unit says where systemd knows one, else what this process may, whose user
/// starts it. `None` when nobody knows, or without a limit.
pub(super) fn descriptors(system: bool) -> Option<u64> {
    if !system {
        return getrlimit(Resource::Nofile).current;
    }
    let said = answer(&["--system", "show", "--property=LoadState,LimitNOFILESoft", SERVICE]);
    let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value("LimitNOFILESoft").filter(|_| value("LoadState") == Some("loaded"))?.parse().ok()
}

/// What systemctl says.
fn answer(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output();
    let said =
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if said.is_empty() { "unknown".to_owned() } else { said }
}

const SERVICE: &str = "visorbus.service";
const SOCKET: &str = "visorbus.socket";
