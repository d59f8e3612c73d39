//! What can be said of the certificates of this machine's own authority.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Place;
use super::auth::parse_lifetime;

#[derive(Debug, Subcommand)]
pub(crate) enum Tls {
    /// Make a certificate authority of your own and the hub's first certificate
    #[command(after_help = INIT_EXAMPLES)]
    Init(TlsInit),
    /// Make a new certificate for the hub, by the same authority and for the same names; a hub takes it at SIGHUP
    Renew(TlsInit),
    /// Make a certificate by which a client proves who it is
    #[command(after_help = CLIENT_EXAMPLES)]
    Client(TlsClient),
    /// List the certificates, whom they are for and until when they are good
    Show(TlsPlace),
}

/// Where the certificates are.
#[derive(Debug, Clone, Args)]
pub(crate) struct TlsPlace {
    /// The directory of the certificates [default: tls beside the hub's keys]
    #[arg(long, env = "VISORBUS_TLS_DIR", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct TlsInit {
    /// A name or IP address by which clients reach the hub, beside localhost and this machine's name; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,

    /// For how long the hub's certificate is good
    #[arg(long, value_name = "TIME", default_value = "397d", value_parser = parse_lifetime)]
    pub(crate) lifetime: Duration,

    #[command(flatten)]
    pub(crate) tls: TlsPlace,
}

#[derive(Debug, Args)]
pub(crate) struct TlsClient {
    /// Whom the hub is to take its owner for
    pub(crate) name: String,

    /// For how long the certificate is good
    #[arg(long, value_name = "TIME", default_value = "397d", value_parser = parse_lifetime)]
    pub(crate) lifetime: Duration,

    #[command(flatten)]
    pub(crate) tls: TlsPlace,
}

const INIT_EXAMPLES: &str = "\
Examples:
  visorbus tls init
  visorbus tls init --name headset.local --name 192.168.1.20
  visorbus serve --websocket 127.0.0.1:7443 --tls

Clients need the authority's certificate, ca.crt; its key, ca.key, stays here.";

const CLIENT_EXAMPLES: &str = "\
Examples:
  visorbus tls client panel
  visorbus auth certificate add uri:visorbus:panel --subject panel --scope 'subscribe:imu/**'
  visorbus serve --websocket 127.0.0.1:7443 --tls --tls-client-ca";
