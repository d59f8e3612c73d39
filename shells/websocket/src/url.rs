//! Where a hub is: `ws://` and `wss://` URLs (RFC 6455, section 3). Nothing secret can stand in one.

use std::fmt;

use rustls::pki_types::ServerName;

use visorbus_hub::{Error, Result};

/// The URL of a hub's WebSocket, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    /// A name or an address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With its slash.
    pub(crate) path: String,
}

impl Url {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// `Message` says what is wrong with it. What it says may be logged: of a URL with a user, a password or a query it
    /// shows nothing.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => (true, rest),
            _ => return wrong("begins with ws:// or wss://"),
        };
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, "/"), |at| rest.split_at(at));
        if authority.contains('@') {
            return wrong("has no user and no password: show credentials once connected");
        }
        if path.contains(['?', '#']) {
            return wrong(
                "has no query: a token does not belong into a URL, which is logged and kept everywhere",
            );
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("has a path of visible ASCII");
        }
        let (host, port) = split_port(authority)?;
        if ServerName::try_from(host).is_err() {
            return wrong("has the name or the address of a machine");
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|found: &u16| *found != 0 && !port.starts_with('+')),
            None => Some(if tls { 443 } else { 80 }),
        };
        let Some(port) = port else { return wrong("has a port from 1 to 65535") };
        Ok(Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// What `Host` says of it (RFC 9110, section 7.2): the port where it is not the usual one.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether it is this very machine, as far as the text says.
    pub(crate) fn is_loopback(&self) -> bool {
        let is_loopback = |address: std::net::IpAddr| address.is_loopback();
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(is_loopback)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A host, without the brackets of IPv6, and what stands as its port.
fn split_port(authority: &str) -> Result<(&str, Option<&str>)> {
    let split = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(host, _)| host.contains(':')),
        None => Some(authority.find(':').map_or((authority, ""), |at| authority.split_at(at))),
    };
    match split {
        Some((host, "")) => Ok((host, None)),
        Some((host, port)) if port.starts_with(':') => Ok((host, Some(&port[1..]))),
        _ => wrong("has an IPv6 address in brackets, and a port behind a colon"),
    }
}

fn wrong<T>(what: &str) -> Result<T> {
    Err(Error::Message(format!("the URL of a hub {what}, as in wss://headset.local:7443/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart_and_together_again() {
        for (text, whole) in [
            ("ws://localhost", "ws://localhost/"),
            ("WSS://Headset.local:7443", "wss://Headset.local:7443/"),
            ("wss://[::1]:443/bus", "wss://[::1]/bus"),
            ("ws://127.0.0.1:80/", "ws://127.0.0.1/"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), whole);
        }
        assert_eq!(Url::parse("wss://[fe80::1]:7/").unwrap().authority(), "[fe80::1]:7");
        assert!(Url::parse("ws://[::1]/").unwrap().is_loopback());
        assert!(!Url::parse("ws://127.0.0.1.example.org/").unwrap().is_loopback());
    }

    #[test]
    fn a_url_with_anything_secret_is_refused_and_not_repeated() {
        for text in
            ["ws://me:secret@host/", "wss://host/?token=secret", "wss://host/#secret", "ws://host?secret"]
        {
            let error = Url::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_hub_is_refused() {
        for text in [
            "http://host",
            "host:80",
            "ws://",
            "ws://:80",
            "ws://host:",
            "ws://host:0",
            "ws://host:65536",
            "ws://host:+1",
            "ws://::1/",
            "ws://[::1/",
            "ws://[host]/",
            "ws://ho st/",
            "ws://host/a b",
            "ws://host/\r\nX: y",
            "ws://a:1:2/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
