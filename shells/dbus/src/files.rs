//! What a distribution installs beside the service: who may do what on the system bus, how a bus and systemd start the
//! service, and what its interfaces are; units, user and directories for systemd among it. The files in this crate's folder `data` are these, for the default configuration.

mod units;

use dbus::strings::BusName;
use visorbus_hub::{Error, Result};

use crate::config::DBusConfig;
use crate::objects::fixed::{BUS, COMPONENT, Fixed, OF_COMPONENT, ROOT};
use crate::xml::{self, Xml};

pub use units::{session_socket, session_unit, system_socket, system_unit, sysusers, tmpfiles};

/// A file to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it belongs, below a prefix such as `/usr`.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// All files for a service that runs as `user` on the system bus, for the members of `group`, and is started by `command`.
///
/// # Errors
/// As [`policy`].
pub fn all(config: &DBusConfig, user: &str, group: &str, command: &str) -> Result<Vec<File>> {
    let name = &config.service_name;
    let file = |path: String, text: String| File { path: format!("share/{path}"), text };
    let mut files = vec![
        file(format!("dbus-1/system.d/{name}.conf"), policy(config, user, group)?),
        file(format!("dbus-1/services/{name}.service"), session_activation(config, command)?),
        file(format!("dbus-1/system-services/{name}.service"), system_activation(config, command, user)?),
    ];
    files.extend(units::all(config, user, group, command)?);
    files.extend(
        interfaces().into_iter().map(|(name, text)| file(format!("dbus-1/interfaces/{name}.xml"), text)),
    );
    Ok(files)
}

/// The interfaces of a service's own: the name of each, and its introspection data (D-Bus specification, "Introspection
/// Data Format") with descriptions as `org.gtk.GDBus.DocString`.
pub fn interfaces() -> Vec<(String, String)> {
    let all = ROOT.iter().chain(OF_COMPONENT);
    let own = all.filter(|fixed| [BUS, COMPONENT].contains(&fixed.name));
    let describe = |fixed: &&Fixed| {
        let mut xml = Xml::new();
        fixed.describe(&mut xml);
        (fixed.name.to_owned(), xml.finish())
    };
    own.map(describe).collect()
}

/// The bus policy for the system bus, in the format of dbus-daemon(1): `user` alone may own the service's name; it, root
/// and the members of `group` may call the service; nobody else may do either. What a caller may do then is up to the hub.
///
/// # Errors
/// `Message` when the service's name is none, or one of the others is empty, everybody (`*`) or has a control character in it.
pub fn policy(config: &DBusConfig, user: &str, group: &str) -> Result<String> {
    let (name, user, group) = (service_name(config)?, account(user)?, account(group)?);
    let call = |verb: &str| format!("    <{verb} send_destination=\"{name}\" send_type=\"method_call\"/>\n");
    let own = |verb: &str| format!("    <{verb} own=\"{name}\"/>\n");
    let (allow, deny) = (call("allow"), call("deny"));
    Ok(format!(
        "{POLICY_HEAD}<busconfig>
  <!-- Whoever is not named below may neither be the service nor call it. -->
  <policy context=\"default\">
{}{deny}  </policy>
  <!-- Who may call it. What they may do then is decided by the accounts and the policy of the service. -->
  <policy group=\"{group}\">
{allow}  </policy>
  <policy user=\"root\">
{allow}  </policy>
  <!-- Who it runs as. -->
  <policy user=\"{user}\">
{}{allow}  </policy>
</busconfig>
",
        own("deny"),
        own("allow"),
    ))
}

/// What has a session bus start the service when somebody calls it (D-Bus specification, "Message Bus Starting Services"):
/// by systemd where that runs, as its unit `visorbus.service`, else by `command`, which may have arguments.
///
/// # Errors
/// `Message` when `command` has a control character in it.
pub fn session_activation(config: &DBusConfig, command: &str) -> Result<String> {
    activation(config, &[("Exec", &format!("{command} serve --dbus session"))])
}

/// As [`session_activation`], for the system bus, where the service runs as `user`.
///
/// # Errors
/// `Message` when one of these has a control character in it.
pub fn system_activation(config: &DBusConfig, command: &str, user: &str) -> Result<String> {
    activation(config, &[("Exec", &format!("{command} serve --dbus system")), ("User", user)])
}

fn activation(config: &DBusConfig, entries: &[(&str, &str)]) -> Result<String> {
    let mut text = format!("[D-BUS Service]\nName={}\n", service_name(config)?);
    for (key, value) in entries {
        text.push_str(&format!("{key}={}\n", line(value)?));
    }
    text.push_str(&format!("SystemdService={UNIT}\n"));
    Ok(text)
}

/// The service's name: a star, say, would be a rule for all services.
fn service_name(config: &DBusConfig) -> Result<&str> {
    let name = config.service_name.as_str();
    match BusName::new(name) {
        Ok(_) if !name.starts_with(':') => Ok(name),
        _ => Err(Error::Message(format!("'{name}' cannot be the name of a service on a bus"))),
    }
}

/// A user's or a group's name as an attribute of an element has it.
fn account(name: &str) -> Result<String> {
    if name == "*" {
        return Err(Error::Message("'*' would be everybody: name a user and a group".to_owned()));
    }
    let mut escaped = String::new();
    xml::escape(line(name)?, &mut escaped);
    Ok(escaped)
}

/// A value that stays on its line.
fn line(value: &str) -> Result<&str> {
    if value.is_empty() || value.chars().any(char::is_control) {
        let text = format!("{value:?} cannot stand in a file: give a text on one line");
        return Err(Error::Message(text));
    }
    Ok(value)
}

const UNIT: &str = "visorbus.service";
const POLICY_HEAD: &str = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What stands in the folder `data`: for the default configuration and a user and group of its own.
    #[test]
    fn the_files_in_the_repository_are_what_the_code_makes() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        for file in all(&DBusConfig::default(), "visorbus", "visorbus", "/usr/bin/visorbus").unwrap() {
            let path = data.join(&file.path);
            if std::env::var_os("VISORBUS_WRITE_FILES").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &file.text).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                found,
                file.text,
                "{}: run this test with VISORBUS_WRITE_FILES=1 and look at the difference",
                path.display()
            );
        }
    }

    #[test]
    fn nothing_that_is_handed_in_becomes_a_rule_or_a_line() {
        let config = DBusConfig::default();
        let policy = policy(&config, "x\"/><allow own=\"*", "g").unwrap();
        assert!(policy.contains("<policy user=\"x&quot;/&gt;&lt;allow own=&quot;*\">"), "{policy}");
        let everything = DBusConfig { service_name: "*".to_owned(), ..DBusConfig::default() };
        assert!(super::policy(&everything, "u", "g").is_err() && super::policy(&config, "*", "g").is_err());
        for bad in ["", "a\nUser=root", "a\0"] {
            assert!(super::policy(&config, bad, "g").is_err());
            assert!(super::policy(&config, "u", bad).is_err());
            assert!(system_activation(&config, "/usr/bin/visorbus", bad).is_err());
        }
        assert!(session_activation(&config, "a\nUser=root").is_err());
    }
}
