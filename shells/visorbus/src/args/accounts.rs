//! What can be said of those who log in: people, programs, owners of certificates.

use std::time::Duration;

use clap::{Args, Subcommand};
use visorbus_auth::CertificateId;

use super::Place;
use super::auth::parse_lifetime;

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user; the password is asked for twice
    Add(UserAdd),
    /// Give a user another password; the tokens so far are void
    Password(UserPassword),
    /// Give a user other scopes; the tokens so far are void
    Scopes(UserScopes),
    /// Shut a user (or a board, or a program) out, whatever is shown, and end all sessions
    Disable(Named),
    /// Let a user in again; the tokens from before stay void
    Enable(Named),
    /// Remove a user; the tokens so far are void
    Remove(Named),
    /// List all users
    List(Listed),
}

#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// The name, which is the subject of the tokens too
    pub(crate) name: String,

    /// What the user's tokens say: the name of a scope, OPERATION:PATTERN, or *; may be repeated
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,

    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct UserPassword {
    /// The user
    pub(crate) name: String,

    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct UserScopes {
    /// The user
    pub(crate) name: String,

    /// All scopes that the user has from now on; none for no scopes
    #[arg(value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The name
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Listed {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProgramKey {
    /// Make an API key and print it, this once
    Add(ProgramKeyAdd),
    /// List all API keys, without their secrets
    List(Listed),
    /// Stop a key; the tokens of its subject are void
    Disable(Prefixed),
    /// Let a key work again
    Enable(Prefixed),
    /// Remove a key; the tokens of its subject are void
    Remove(Prefixed),
}

#[derive(Debug, Args)]
pub(crate) struct ProgramKeyAdd {
    /// As whom the program acts
    pub(crate) subject: String,

    /// What its tokens say: the name of a scope, OPERATION:PATTERN, or *; may be repeated
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,

    /// For how long it holds; without it, until it is removed
    #[arg(long, value_name = "TIME", value_parser = parse_lifetime)]
    pub(crate) lifetime: Option<Duration>,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Prefixed {
    /// What stands between the dots of the key, as the list shows it
    pub(crate) prefix: String,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Certificate {
    /// Take the owner of a certificate for somebody
    Add(CertificateAdd),
    /// List all certificates that are known
    List(Listed),
    /// Forget a certificate; the tokens of its subject are void
    Remove(CertificateRemove),
}

#[derive(Debug, Args)]
pub(crate) struct CertificateAdd {
    /// A PEM file, sha256:HEX of a certificate, spki:HEX of a public key, or uri:URI for what a trusted CA vouches for
    #[arg(value_name = "FILE|ID", value_parser = parse_certificate)]
    pub(crate) certificate: CertificateId,

    /// Whom its owner is taken for
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: String,

    /// What the owner's tokens say: the name of a scope, OPERATION:PATTERN, or *; may be repeated
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct CertificateRemove {
    /// As it was added, or as the list shows it
    #[arg(value_name = "FILE|ID", value_parser = parse_certificate)]
    pub(crate) certificate: CertificateId,

    #[command(flatten)]
    pub(crate) place: Place,
}

fn parse_certificate(text: &str) -> Result<CertificateId, String> {
    if let Some(id) = CertificateId::parse(text) {
        return Ok(id);
    }
    let pem = std::fs::read_to_string(text).map_err(|e| {
        format!("'{text}' is neither sha256:, spki: (64 hexadecimal digits) nor uri:, and as a PEM file it cannot be read: {e}")
    })?;
    CertificateId::of_pem(&pem).map_err(|e| format!("{text}: {}", e.text()))
}

pub(super) const USER_EXAMPLES: &str = "\
Examples:
  visorbus auth user add anna --scope 'subscribe:imu/**' --scope 'request:imu/info'
  visorbus auth user scopes anna 'subscribe:imu/**'
  visorbus auth user disable anna
  visorbus auth user enable anna
  visorbus auth user list
  visorbus auth user remove anna";

pub(super) const API_KEY_EXAMPLES: &str = "\
Examples:
  visorbus auth key add recorder --scope 'subscribe:**' --lifetime 90d > recorder.key
  visorbus auth login --user recorder --api-key-stdin < recorder.key
  visorbus auth key list";
