//! What can be said of tokens, accounts, keys and the policy.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Place, parse_time};

#[derive(Debug, Subcommand)]
pub(crate) enum Auth {
    /// Make and look at tokens
    #[command(subcommand)]
    Token(Token),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token with the hub's key
    #[command(after_help = MINT_EXAMPLES)]
    Mint(Mint),
    /// Say what a token allows, and whether it is good
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Mint {
    /// Whom it speaks for; its holder may call itself so, or so with a dot and more behind it
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: String,

    /// Who accepts it
    #[arg(long, value_name = "NAME", default_value = "bus")]
    pub(crate) audience: String,

    /// What it allows: a name that an address asks for, OPERATION:PATTERN, or * for everything; may be repeated
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,

    /// For how long it holds, in whole seconds
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_lifetime)]
    pub(crate) lifetime: Duration,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The token; - reads it from standard input
    pub(crate) token: String,

    /// Who is to accept it
    #[arg(long, value_name = "NAME", default_value = "bus")]
    pub(crate) audience: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Print the key with which a board checks and makes tokens, in hexadecimal, to flash into it
    Device(DeviceKey),
}

#[derive(Debug, Args)]
pub(crate) struct DeviceKey {
    /// The board's name, for example imu
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// A token counts in seconds.
fn parse_lifetime(text: &str) -> Result<Duration, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_a_second_at_least() {
        assert_eq!(parse_lifetime("1s"), Ok(Duration::from_secs(1)));
        assert!(parse_lifetime("999ms").is_err());
    }
}
