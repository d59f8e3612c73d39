//! What can be said of tokens, and of whoever shows one.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Certificate, Explain, Place, Policy, PolicyPlace, ProgramKey, Reach, User, parse_time};

#[derive(Debug, Subcommand)]
pub(crate) enum Auth {
    /// People, who log in with a password
    #[command(subcommand, after_help = super::accounts::USER_EXAMPLES)]
    User(User),
    /// API keys, with which programs log in
    #[command(subcommand, after_help = super::accounts::API_KEY_EXAMPLES)]
    Key(ProgramKey),
    /// Certificates, whose owners log in with them over TLS
    #[command(subcommand)]
    Certificate(Certificate),
    /// Tokens: what everybody shows to the hub in the end
    #[command(subcommand)]
    Token(Token),
    /// Log in at the running hub and print a token, for VISORBUS_TOKEN
    #[command(after_help = LOGIN_EXAMPLES)]
    Login(LogIn),
    /// The rules of who may do what
    #[command(subcommand)]
    Policy(Policy),
    /// Say whether somebody may do something, and which rule decides
    #[command(after_help = super::policy::EXPLAIN_EXAMPLES)]
    Explain(Explain),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token with the hub's key
    #[command(after_help = MINT_EXAMPLES)]
    Mint(Mint),
    /// Say what a token allows, and whether it is good
    Check(Check),
    /// Make a new token in the place of one, which is void from then on
    Refresh(Refresh),
    /// Take tokens back, and end the sessions that were opened with them
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Mint {
    /// Whom it speaks for; its holder may call itself so, or so with a dot and more behind it
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: String,

    /// Who accepts it
    #[arg(long, value_name = "NAME", default_value = "bus")]
    pub(crate) audience: String,

    /// What it allows: a name that an address or a rule of the policy asks for, OPERATION:PATTERN, or * for everything;
    /// may be repeated; without one, what the account of that name may do
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,

    /// For how long it holds, in whole seconds
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_lifetime)]
    pub(crate) lifetime: Duration,

    #[command(flatten)]
    pub(crate) place: PolicyPlace,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The token; - reads it from standard input, where nobody else can see it
    pub(crate) token: String,

    /// Who is to accept it
    #[arg(long, value_name = "NAME", default_value = "bus")]
    pub(crate) audience: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    /// The token; - reads it from standard input, where nobody else can see it [default: VISORBUS_TOKEN]
    #[arg(env = "VISORBUS_TOKEN", hide_env = true)]
    pub(crate) token: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["token", "subject", "key_id"]))]
pub(crate) struct Revoke {
    /// This token, and all that were made from it by refreshing; - reads it from standard input
    pub(crate) token: Option<String>,

    /// All tokens of this subject until now
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,

    /// All tokens that were made with this root key until now; `visorbus key list` shows the ids
    #[arg(long, value_name = "N")]
    pub(crate) key_id: Option<u8>,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct LogIn {
    #[command(flatten)]
    pub(crate) login: Login,

    #[command(flatten)]
    pub(crate) reach: Reach,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// How somebody without a token proves who they are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Login {
    /// Log in as this user; the password is asked for
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Read the password from the first line of standard input
    #[arg(long, requires = "user", conflicts_with_all = ["api_key_stdin", "peer"])]
    pub(crate) password_stdin: bool,

    /// Log in with the API key in the first line of standard input; --user says whose it is
    #[arg(long, requires = "user", conflicts_with = "peer")]
    pub(crate) api_key_stdin: bool,

    /// Log in as whom the policy takes this Unix user for; --user says whom, where that is another name
    #[arg(long)]
    pub(crate) peer: bool,

    /// Log in as whom the hub takes the owner of --cert for; --user says whom
    #[arg(long, requires_all = ["user", "cert"], conflicts_with_all = ["password_stdin", "api_key_stdin", "peer"])]
    pub(crate) certificate: bool,
}

impl Login {
    /// Whether any way of logging in was asked for.
    pub(crate) const fn is_given(&self) -> bool {
        self.user.is_some() || self.peer
    }
}

/// A token counts in seconds.
pub(super) fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.as_secs() == 0 {
        return Err("a token holds for whole seconds: use at least 1s".to_owned());
    }
    Ok(time)
}

const MINT_EXAMPLES: &str = "\
Examples:
  visorbus auth token mint --subject viewer --scope 'subscribe:imu/**' --scope 'request:bus/**'
  visorbus auth token mint --subject tuner --scope imu.control --lifetime 30d";

const REVOKE_EXAMPLES: &str = "\
Examples:
  visorbus auth token revoke --subject viewer
  visorbus auth token revoke --key-id 0

What is taken back is written down first; a running hub then ends the sessions at once.";

const LOGIN_EXAMPLES: &str = "\
Examples:
  visorbus auth login --user anna
  VISORBUS_TOKEN=$(visorbus auth login --user anna) visorbus subscribe 'imu/**' --count 3
  visorbus auth login --peer --user panel";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_a_second_at_least() {
        assert_eq!(parse_lifetime("1s"), Ok(Duration::from_secs(1)));
        assert!(parse_lifetime("999ms").is_err());
    }
}
