//! What can be said of the policy.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use visorbus_auth::Transport;
use visorbus_core::auth::Operation;

use super::{Client, Place, parse_pattern};

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Say whether a policy file is good; if not, at which line it is wrong
    #[command(after_help = CHECK_EXAMPLES)]
    Check(PolicyCheck),
    /// Show the rules, and whom users and certificates are taken for
    Show(PolicyShow),
    /// Have the running hub read its policy again
    Reload(PolicyReload),
}

/// Where the hub's socket, keys and policy are.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyPlace {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The policy [default: policy.toml beside the root keys; nothing where there is none]
    #[arg(long, env = "VISORBUS_POLICY", value_name = "PATH")]
    pub(crate) policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyCheck {
    /// The file [default: the hub's]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) place: PolicyPlace,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyShow {
    #[command(flatten)]
    pub(crate) place: PolicyPlace,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyReload {
    #[command(flatten)]
    pub(crate) client: Client,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Who asks
    pub(crate) subject: String,

    /// What is to be done: request, notify, subscribe, register or administer
    #[arg(value_parser = parse_operation)]
    pub(crate) operation: Operation,

    /// To which address; for subscribe a pattern
    #[arg(value_parser = parse_pattern)]
    pub(crate) resource: String,

    /// What the token says that is shown; may be repeated; without one, what the account of that name may do
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,

    /// What the address asks for: 'open', 'permission', or the name of a scope [default: as the running hub knows it]
    #[arg(long, value_name = "WHAT")]
    pub(crate) needs: Option<String>,

    /// Over which transport: unix, serial, spi, websocket or dbus
    #[arg(long, value_name = "NAME", default_value = "unix", value_parser = parse_transport)]
    pub(crate) transport: Transport,

    /// Bytes of the payload
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) payload: usize,

    /// At which time: HH:MM of today in UTC, or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) at: Option<Moment>,

    #[command(flatten)]
    pub(crate) place: PolicyPlace,
}

/// A moment to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Seconds since 1970.
    Unix(u64),
    /// A minute of today.
    Minute(u64),
}

fn parse_operation(text: &str) -> Result<Operation, String> {
    let known = [
        Operation::Request,
        Operation::Notify,
        Operation::Subscribe,
        Operation::Register,
        Operation::Administer,
    ];
    let found = known.into_iter().find(|operation| operation.as_str() == text);
    found.ok_or_else(|| "say request, notify, subscribe, register or administer".to_owned())
}

fn parse_transport(text: &str) -> Result<Transport, String> {
    let known = [Transport::Unix, Transport::Serial, Transport::Spi, Transport::WebSocket, Transport::DBus];
    let found = known.into_iter().find(|transport| transport.as_str() == text);
    found.ok_or_else(|| "say unix, serial, spi, websocket or dbus".to_owned())
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    let wrong = || format!("'{text}' is no time: say HH:MM in UTC, or seconds since 1970");
    let Some((hours, minutes)) = text.split_once(':') else {
        return text.parse().map(Moment::Unix).map_err(|_| wrong());
    };
    let is_two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number =
        |text: &str, limit: u64| text.parse::<u64>().ok().filter(|n| is_two_digits(text) && *n < limit);
    let (hours, minutes) = number(hours, 24).zip(number(minutes, 60)).ok_or_else(wrong)?;
    Ok(Moment::Minute(hours * 60 + minutes))
}

const CHECK_EXAMPLES: &str = "\
Examples:
  visorbus auth policy check
  visorbus auth policy show
  visorbus auth policy reload";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  visorbus auth explain panel request imu/info --scope 'request:imu/*'
  visorbus auth explain panel subscribe 'imu/**' --scope panel --transport unix --at 21:30

Exit codes: 0 it is allowed, 4 it is refused.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_of_day_or_unix_seconds() {
        assert_eq!(parse_moment("08:30"), Ok(Moment::Minute(510)));
        assert_eq!(parse_moment("1790000000"), Ok(Moment::Unix(1_790_000_000)));
        for wrong in ["", "24:00", "8:30", "08:60", "08:3", "-5", "noon", "+8:30"] {
            assert!(parse_moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn operations_and_transports_are_known_by_their_words() {
        assert_eq!(parse_operation("subscribe"), Ok(Operation::Subscribe));
        assert_eq!(parse_transport("spi"), Ok(Transport::Spi));
        for wrong in ["", "*", "unknown", "Request"] {
            assert!(parse_operation(wrong).is_err() && parse_transport(wrong).is_err(), "{wrong}");
        }
    }
}
