//! What can be said of WebSockets: how the hub serves them, and how a client reaches a hub by one.

use std::path::PathBuf;

use clap::Args;

/// How the hub serves WebSockets.
#[derive(Debug, Args)]
pub(crate) struct WebSocket {
    /// Serve WebSockets at this address too, for example 127.0.0.1:7400; port 0 for one that is free. Without TLS only
    /// at addresses of this machine alone
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) websocket: Option<String>,

    /// Serve the dashboard, a page for browsers, on the same port [default address: 127.0.0.1:7400]
    #[arg(long)]
    pub(crate) dashboard: bool,

    /// Encrypt with TLS, with the certificate that `visorbus tls init` made
    #[arg(long)]
    pub(crate) tls: bool,

    /// Encrypt with TLS, with the certificate in this PEM file, its chain behind it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of --tls-cert, a PEM file that nobody else can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Let in only clients whose certificate is vouched for by these authorities (mutual TLS), a PEM file
    /// [default with --tls: the authority that `visorbus tls init` made]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub(crate) tls_client_ca: Option<Option<PathBuf>>,

    /// Let pages of this origin connect, for example `https://panel.example`; may be repeated. Pages of other sites are
    /// refused
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,

    /// A name by which browsers reach this hub, for example headset.local; may be repeated. The address itself and this
    /// machine's names for itself always are
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Serve without TLS at addresses that others reach: whoever is on the way reads and changes everything, tokens and
    /// passwords too
    #[arg(long)]
    pub(crate) allow_plaintext_network: bool,
}

/// A hub that is reached by a WebSocket instead of its Unix socket.
#[derive(Debug, Clone, Args)]
pub(crate) struct Reach {
    /// Use the hub at this URL instead of a socket's, for example wss://headset.local:7400
    #[arg(long, env = "VISORBUS_URL", value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The authorities that may vouch for that hub, a PEM file [default: the one that `visorbus tls init` made here, else
    /// those of the system]
    #[arg(long, env = "VISORBUS_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The certificate by which this client proves itself, a PEM file
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    pub(crate) cert: Option<PathBuf>,

    /// The key of --cert, a PEM file that nobody else can read
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) cert_key: Option<PathBuf>,

    /// Believe whoever answers at the URL: anybody on the way reads and changes everything. For experiments
    #[arg(long)]
    pub(crate) danger_skip_verification: bool,

    /// Show tokens and passwords to a hub on another machine without TLS, where whoever is on the way reads them
    #[arg(long)]
    pub(crate) allow_plaintext_network: bool,
}
