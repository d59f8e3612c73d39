//! How the payloads of a command's messages go.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use visorbus_core::seal::{KEY_PREFIX, PayloadKey};
use visorbus_hub::{Error, Result};

/// Whether and with what payloads are sealed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sealing {
    /// Seal what goes to the component, and believe only what it has sealed, with the key that it shares: a file that only
    /// you may read, or vbp1.… itself, which others may see among the running processes
    #[arg(long, env = "VISORBUS_PAYLOAD_KEY", value_name = "FILE|vbp1.…", hide_env_values = true)]
    payload_key: Option<String>,
}

/// Whether payloads are compressed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Compression {
    /// Compress the payload, if it gets shorter; not together with a payload key, as the length tells of a secret
    #[arg(long, conflicts_with = "payload_key")]
    pub(crate) compressed: bool,
}

impl Sealing {
    /// The key that was given, if one was.
    pub(crate) fn key(&self) -> Result<Option<PayloadKey>> {
        let Some(given) = self.payload_key.as_deref().filter(|given| !given.is_empty()) else {
            return Ok(None);
        };
        let wrong = |place: &str, error| Error::Message(format!("{place}: {error}"));
        if given.starts_with(KEY_PREFIX) {
            return given.parse().map(Some).map_err(|e| wrong("--payload-key", e));
        }
        let text = read_secret(Path::new(given)).map_err(|e| Error::Message(format!("{given}: {e}")))?;
        text.trim().parse().map(Some).map_err(|e| wrong(given, e))
    }
}

/// The text of a file, which nobody else may be able to read.
fn read_secret(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(std::io::Error::other("others may read this key: chmod 600 the file, or make a new key"));
    }
    let mut text = String::new();
    file.by_ref().take(MAX_KEY_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// A key has 48 characters.
const MAX_KEY_FILE: u64 = 256;
