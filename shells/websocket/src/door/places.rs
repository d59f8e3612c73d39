//! Which hosts the server goes by, and which pages may connect (RFC 6454, RFC 6455 section 10.2).
//!
//! A page on any site can have its visitor's browser connect here. What the browser says about it cannot be forged by the
//! page: `Origin` names the site, and `Host` the name that the browser looked up. A site that has its own name resolve to
//! this machine (DNS rebinding) is of one origin with itself, so the origin alone says nothing before the host is known to
//! be ours. An address as a host is nobody's name and cannot be rebound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::door::refusal::Refusal;
use crate::door::request::Request;

/// Hosts and origins that an operator has allowed beside our own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    hosts: Vec<Authority>,
    origins: Vec<Site>,
}

impl Places {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// What is wrong with which of them, and how it is written.
    pub(crate) fn new(hosts: &[String], origins: &[String]) -> Result<Self, String> {
        let host = |text: &String| {
            Authority::parse(text).ok_or_else(|| {
                format!("'{text}' is no host: write it as headset.local or headset.local:8443")
            })
        };
        let origin = |text: &String| {
            Site::parse(text).ok_or_else(|| {
                format!(
                    "'{text}' is no origin: write it as https://panel.example or https://panel.example:8443"
                )
            })
        };
        Ok(Self {
            hosts: hosts.iter().map(host).collect::<Result<_, _>>()?,
            origins: origins.iter().map(origin).collect::<Result<_, _>>()?,
        })
    }

    /// Sees that a request that came in on `local`, over TLS or not, asks for us, and comes from no page but one that may.
    pub(crate) fn check(
        &self,
        request: &Request<'_>,
        local: SocketAddr,
        is_tls: bool,
    ) -> Result<(), Refusal> {
        let text = request.value("Host").ok_or(Refusal::HostMissing)?;
        let host = Authority::parse(text).ok_or(Refusal::HostMissing)?;
        if !self.is_ours(&host, local) {
            return Err(Refusal::Host(text.to_owned()));
        }
        match request.value("Origin") {
            // No browser.
            None => Ok(()),
            Some(origin) if self.may_connect(origin, &host, is_tls) => Ok(()),
            Some(origin) => Err(Refusal::Origin(origin.to_owned())),
        }
    }

    fn is_ours(&self, host: &Authority, local: SocketAddr) -> bool {
        let own = match &host.name {
            Name::Address(address) => *address == local.ip().to_canonical() || LOOPBACK.contains(address),
            Name::Dns(name) => name == "localhost",
        };
        own && host.port.is_none_or(|port| port == local.port())
            || self.hosts.iter().any(|allowed| allowed.allows(host))
    }

    fn may_connect(&self, origin: &str, host: &Authority, is_tls: bool) -> bool {
        let Some(site) = Site::parse(origin) else { return false };
        let scheme = if is_tls { "https" } else { "http" };
        let own = Site { scheme: scheme.to_owned(), authority: host.clone() };
        site.is(&own) || self.origins.iter().any(|allowed| site.is(allowed))
    }
}

/// A host and perhaps its port (RFC 3986 section 3.2), without user information.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    name: Name,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (Name::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical()), port)
            }
            None => {
                let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                (Name::parse(name)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { name, port })
    }

    /// Allowed without a port means with any.
    fn allows(&self, host: &Self) -> bool {
        self.name == host.name && (self.port.is_none() || self.port == host.port)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Address(IpAddr),
    /// In small letters.
    Dns(String),
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = !text.is_empty() && text.len() <= 253 && text.bytes().all(is_part);
        is_name.then(|| Self::Dns(text.to_ascii_lowercase()))
    }
}

/// Where a page comes from: scheme, host and port (RFC 6454 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Site {
    scheme: String,
    authority: Authority,
}

impl Site {
    /// `null`, which sandboxed pages and files have in common, is none.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_part) {
            return None;
        }
        Some(Self { scheme: scheme.to_ascii_lowercase(), authority: Authority::parse(authority)? })
    }

    fn is(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.authority.name == other.authority.name
            && self.port() == other.port()
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(match self.scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        })
    }
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for `host` from `origin` at 10.0.0.5:8080 without TLS, or at port 443 with it.
    fn ask(places: &Places, host: &str, origin: Option<&str>, is_tls: bool) -> Result<(), Refusal> {
        let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n");
        let local = if is_tls { "10.0.0.5:443" } else { "10.0.0.5:8080" };
        places.check(&Request::parse(head.as_bytes()).unwrap(), local.parse().unwrap(), is_tls)
    }

    fn places(hosts: &[&str], origins: &[&str]) -> Places {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Places::new(&owned(hosts), &owned(origins)).unwrap()
    }

    #[test]
    fn its_own_addresses_are_hosts_with_their_port_or_without() {
        for host in [
            "10.0.0.5",
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:10.0.0.5]",
        ] {
            for port in ["", ":8080"] {
                assert_eq!(
                    ask(&places(&[], &[]), &format!("{host}{port}"), None, false),
                    Ok(()),
                    "{host}{port}"
                );
            }
            let refused = ask(&places(&[], &[]), &format!("{host}:8081"), None, false);
            assert!(matches!(refused, Err(Refusal::Host(_))), "{host}");
        }
    }

    #[test]
    fn a_foreign_name_is_refused_though_its_page_is_of_one_origin_with_it() {
        for host in [
            "evil.example:8080",
            "evil.example",
            "10.0.0.6",
            "localhost.evil.example",
            "127.0.0.2",
            "2130706433",
        ] {
            let refused = ask(&places(&[], &[]), host, Some(&format!("http://{host}")), false);
            assert_eq!(refused, Err(Refusal::Host(host.to_owned())));
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in [
            "",
            "a b",
            "user@localhost",
            "localhost:",
            "localhost:80a",
            "localhost:99999",
            "[::1",
            "[::1]80",
            "[x]",
            "localhost,evil",
            "localhost/",
            "localhost:+80",
            "::1",
        ] {
            let refused = ask(&places(&[], &[]), host, None, false);
            assert_eq!(refused, Err(Refusal::HostMissing), "{host}");
        }
        let head = Request::parse(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let refused = Places::default().check(&head, "127.0.0.1:1".parse().unwrap(), false);
        assert_eq!(refused, Err(Refusal::HostMissing));
    }

    #[test]
    fn an_allowed_host_is_one_with_its_port_if_it_names_one() {
        let places = places(&["Headset.local", "panel:8443", "192.168.1.7"], &[]);
        for host in ["headset.local", "headset.local:1", "PANEL:8443", "192.168.1.7:9"] {
            assert_eq!(ask(&places, host, None, false), Ok(()), "{host}");
        }
        for host in ["panel", "panel:8080", "headset.local.", "xheadset.local"] {
            assert!(ask(&places, host, None, false).is_err(), "{host}");
        }
    }

    #[test]
    fn a_page_of_the_same_origin_may_connect() {
        let none = places(&[], &[]);
        assert_eq!(ask(&none, "10.0.0.5:8080", Some("http://10.0.0.5:8080"), false), Ok(()));
        assert_eq!(ask(&none, "LOCALHOST:8080", Some("HTTP://localhost:8080"), false), Ok(()));
        assert_eq!(ask(&none, "localhost", Some("https://localhost"), true), Ok(()));
        assert_eq!(ask(&none, "localhost", Some("https://localhost:443"), true), Ok(()));
        assert_eq!(ask(&none, "localhost:443", Some("https://localhost"), true), Ok(()));
    }

    #[test]
    fn other_pages_may_not() {
        for (host, origin, is_tls) in [
            ("localhost:8080", "http://evil.example", false),
            ("localhost:8080", "http://localhost", false),
            ("localhost:8080", "http://localhost:3000", false),
            ("localhost:8080", "https://localhost:8080", false),
            ("localhost:8080", "http://127.0.0.1:8080", false),
            ("localhost:8080", "http://localhost:8080.evil.example", false),
            ("localhost:8080", "http://localhost:8080@evil.example", false),
            ("localhost:8080", "http://localhost:8080/", false),
            ("localhost:8080", "http://localhost:8080 http://evil.example", false),
            ("localhost:8080", "null", false),
            ("localhost:8080", "", false),
            ("localhost:8080", "file://", false),
            ("localhost:8080", "localhost:8080", false),
            ("localhost:8080", "*", false),
            ("localhost", "http://localhost", true),
            ("localhost", "https://localhost:8443", true),
        ] {
            let refused = ask(&places(&[], &[]), host, Some(origin), is_tls);
            assert_eq!(refused, Err(Refusal::Origin(origin.to_owned())), "{host} from {origin}");
        }
    }

    #[test]
    fn an_allowed_page_may_connect_and_no_other() {
        let places =
            places(&[], &["https://Panel.example", "http://localhost:3000", "chrome-extension://abc"]);
        for origin in [
            "https://panel.example",
            "https://panel.example:443",
            "http://LOCALHOST:3000",
            "chrome-extension://abc",
        ] {
            assert_eq!(ask(&places, "localhost:8080", Some(origin), false), Ok(()), "{origin}");
        }
        for origin in [
            "http://panel.example",
            "https://panel.example:8443",
            "https://x.panel.example",
            "https://localhost:3000",
        ] {
            assert!(ask(&places, "localhost:8080", Some(origin), false).is_err(), "{origin}");
        }
        assert!(matches!(
            ask(&places, "evil.example", Some("https://panel.example"), false),
            Err(Refusal::Host(_))
        ));
    }

    #[test]
    fn what_an_operator_wrote_wrong_is_said() {
        let wrong = |hosts: &[&str], origins: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
            Places::new(&owned(hosts), &owned(origins)).unwrap_err()
        };
        assert!(wrong(&["http://a"], &[]).contains("'http://a' is no host"));
        assert!(wrong(&["*"], &[]).contains("'*'"));
        assert!(wrong(&[], &["panel.example"]).contains("no origin"));
        assert!(wrong(&[], &["null"]).contains("no origin"));
        assert!(wrong(&[], &["*"]).contains("no origin"));
        assert!(wrong(&[], &["https://a/"]).contains("no origin"));
    }
}
