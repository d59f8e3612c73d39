//! Variables of the environment that look as if they were for Visorbus, and that nobody reads: most are misspelt.

use clap::CommandFactory as _;
use visorbus_services::config::ConfigManager;

use crate::args::Cli;

/// What is to be said of those beside `config`, in one line; `None` where there is none.
pub(crate) fn unknown(config: &ConfigManager) -> Option<String> {
    // Mostly there is nothing that the options would have to be gone through for.
    if config.unknown_variables(OTHERS.iter().copied()).is_empty() {
        return None;
    }
    let mut known = Vec::new();
    add_variables(&Cli::command(), &mut known);
    let unknown = config.unknown_variables(known.iter().map(String::as_str).chain(OTHERS.iter().copied()));
    let mut shown: Vec<String> = unknown.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
    if unknown.len() > MAX_SHOWN {
        shown.push(format!("and {} more", unknown.len() - MAX_SHOWN));
    }
    (!shown.is_empty()).then(|| format!("nobody reads what the environment has as {}", shown.join(", ")))
}

/// Those by which options of this command, and of those below it, are given.
fn add_variables(command: &clap::Command, known: &mut Vec<String>) {
    let variables = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    known.extend(variables.map(str::to_owned));
    command.get_subcommands().for_each(|below| add_variables(below, known));
}

/// Those of programs, firmware and clients of Visorbus that no option has.
const OTHERS: &[&str] = &[
    "VISORBUS_CONFIG",
    "VISORBUS_COMPLETE",
    "VISORBUS_LINK_KEY",
    "VISORBUS_DEVICE_KEY",
    "VISORBUS_API_KEY",
    "VISORBUS_TLS_URL",
];
/// How many are told by name.
const MAX_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use visorbus::settings;
    use visorbus_services::config::Overrides;

    use super::*;

    fn told(variables: &[&str]) -> Option<String> {
        let variables = variables.iter().map(|name| (*name, "true"));
        let overrides = Overrides::none().environment(variables);
        let path = tempfile::tempdir().unwrap().path().join("visorbus.toml");
        unknown(&ConfigManager::open(settings::schema(), path, overrides).unwrap())
    }

    #[test]
    fn a_variable_that_nobody_reads_is_told_with_the_one_that_was_meant() {
        let line =
            told(&["VISORBUS_LOG_LEVL", "VISORBUS_WEBSOCKET_BIND_ADRESS", "VISORBUS_SOKET", "VISORBUS_ZZZ"]);
        let said = "nobody reads what the environment has as VISORBUS_LOG_LEVL (did you mean VISORBUS_LOG_LEVEL?), \
                    VISORBUS_SOKET (did you mean VISORBUS_SOCKET?), VISORBUS_WEBSOCKET_BIND_ADRESS (did you mean \
                    VISORBUS_WEBSOCKET_BIND_ADDRESS?), VISORBUS_ZZZ";
        assert_eq!(line.as_deref(), Some(said));
    }

    #[test]
    fn variables_that_somebody_reads_and_those_of_others_are_no_news() {
        let read =
            ["VISORBUS_DBUS_ENABLED", "VISORBUS_CONFIG", "VISORBUS_SOCKET", "VISORBUS_TOKEN", "VISORBUS_CA"];
        assert_eq!(told(&read), None);
        assert_eq!(told(&["VISOR_LOG_LEVL", "PATH", "visorbus_log_levl"]), None);
    }

    #[test]
    fn many_of_them_are_one_line_and_none_steers_a_terminal() {
        let names: Vec<String> = (0..1000).map(|number| format!("VISORBUS_\u{1b}[2J\n{number:04}")).collect();
        let line = told(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert!(!line.contains(char::is_control) && line.ends_with("and 992 more"), "{line:?}");
    }
}
