//! What the command line says of WebSockets, as the crate that does them takes it.

use std::net::IpAddr;
use std::path::PathBuf;

use visorbus::Settings;
use visorbus_hub::{Error, Result};
use visorbus_websocket::{TlsClientConfig, WebSocketClient};

use crate::args::{Place, Reach, WebSocket};
use crate::tls::authority;

impl WebSocket {
    /// What is said of WebSockets where there are none is said in vain, which nobody should find out later.
    pub(crate) fn check_unused(&self, settings: &Settings) -> Result<()> {
        if settings.websocket.enabled {
            return if self.tls_client_ca.is_some() && !settings.websocket.tls_enabled {
                let text = "--tls-client-ca is for TLS: add --tls, or --tls-cert and --tls-key";
                Err(Error::Message(text.to_owned()))
            } else {
                Ok(())
            };
        }
        let given = [
            (self.tls || self.tls_cert.is_some() || self.tls_client_ca.is_some(), "--tls"),
            (!self.allow_origin.is_empty(), "--allow-origin"),
            (!self.allow_host.is_empty(), "--allow-host"),
            (self.allow_plaintext_network, "--allow-plaintext-network"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            Some((_, option)) => Err(Error::Message(format!(
                "{option} is for WebSockets: add --websocket ADDRESS:PORT or --dashboard"
            ))),
            None => Ok(()),
        }
    }
}

impl Reach {
    /// The client of the hub at `url`, not connected yet.
    pub(crate) fn client(&self, url: &str, place: &Place, name: &str) -> Result<WebSocketClient> {
        if !self.allow_plaintext_network {
            check_private(url)?;
        }
        let client = WebSocketClient::new(url, name)?;
        let mut tls = TlsClientConfig {
            cert_path: self.cert.clone(),
            key_path: self.cert_key.clone(),
            ca_cert_path: self.ca.clone(),
            danger_skip_verification: self.danger_skip_verification,
        };
        if url.starts_with("ws://") && tls == TlsClientConfig::default() {
            return Ok(client);
        }
        tls.ca_cert_path = tls.ca_cert_path.or_else(|| own_authority(place));
        client.set_tls_config(tls)?;
        Ok(client)
    }
}

/// The authority of this machine, where it has one.
fn own_authority(place: &Place) -> Option<PathBuf> {
    Some(authority(&place.tls_directory())).filter(|path| path.exists())
}

/// Refuses to show anything to a hub elsewhere that others could read.
fn check_private(url: &str) -> Result<()> {
    let Some(rest) = url.strip_prefix("ws://") else { return Ok(()) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return Ok(());
    }
    Err(Error::Authorization(format!(
        "'{host}' is another machine, and without TLS whoever is on the way reads tokens and passwords: use wss://, or \
         --allow-plaintext-network where nobody is"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_only_this_machine_is_trusted_with_a_token() {
        for own in [
            "ws://localhost:1",
            "ws://127.0.0.1:1/",
            "ws://127.8.0.1",
            "ws://[::1]:1/",
            "wss://headset.local",
        ] {
            assert!(check_private(own).is_ok(), "{own}");
        }
        for other in [
            "ws://headset.local:1",
            "ws://192.168.1.20",
            "ws://[fe80::1]:1",
            "ws://localhost.example",
            "ws://",
        ] {
            assert!(check_private(other).is_err(), "{other}");
        }
    }
}
