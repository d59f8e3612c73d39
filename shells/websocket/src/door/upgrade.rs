//! The server's half of the WebSocket handshake (RFC 6455 section 4.2), stricter than the standard where it lets pass what
//! no client sends.

use data_encoding::BASE64;
use tungstenite::handshake::derive_accept_key;

use crate::door::refusal::Refusal;
use crate::door::request::Request;
use crate::protocol::Subprotocol;

/// A handshake that is as it must be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    accept: String,
    /// What both ends speak from here on.
    pub(crate) protocol: Subprotocol,
}

impl Upgrade {
    /// Whether `request` wants a WebSocket, well or badly, and no page.
    pub(crate) fn is_wanted(request: &Request<'_>) -> bool {
        request.lists("Upgrade", "websocket") || request.has_any("Sec-WebSocket-")
    }

    /// Checks a request that wants a WebSocket.
    pub(crate) fn check(request: &Request<'_>) -> Result<Self, Refusal> {
        if request.is_head {
            return Err(Refusal::Method);
        }
        if !request.value("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return Err(Refusal::Upgrade("Upgrade must be 'websocket'"));
        }
        if !request.lists("Connection", "upgrade") {
            return Err(Refusal::Upgrade("Connection must have 'Upgrade' in it"));
        }
        if request.value("Sec-WebSocket-Version") != Some("13") {
            return Err(Refusal::WebSocketVersion);
        }
        let key = request.value("Sec-WebSocket-Key").filter(|key| is_key(key));
        let key = key.ok_or(Refusal::Upgrade("Sec-WebSocket-Key must be 16 bytes in base64"))?;
        // The client's order is its preference; what is not ours is for others.
        let protocol = request.list("Sec-WebSocket-Protocol").find_map(Subprotocol::from_name);
        let protocol = protocol.ok_or(Refusal::Subprotocol)?;
        Ok(Self { accept: derive_accept_key(key.as_bytes()), protocol })
    }

    /// The answer, up to its empty line. It names no extension: none is offered, compression least of all.
    pub(crate) fn answer(&self) -> Vec<u8> {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            self.accept, self.protocol
        )
        .into_bytes()
    }
}

fn is_key(key: &str) -> bool {
    key.len() == 24 && BASE64.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "visorbus.v1.json"),
    ];

    /// The good request with one header said otherwise; without it where `value` is empty.
    fn with(name: &str, value: &str) -> Result<Upgrade, Refusal> {
        let mut head = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
        for (good, usual) in GOOD {
            let value = if good == name { value } else { usual };
            if !value.is_empty() {
                head += &format!("{good}: {value}\r\n");
            }
        }
        if !GOOD.iter().any(|(good, _)| *good == name) {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let request = Request::parse(head.as_bytes()).unwrap();
        assert!(Upgrade::is_wanted(&request));
        Upgrade::check(&request)
    }

    #[test]
    fn the_answer_is_that_of_the_standard() {
        let answer = String::from_utf8(with("X", "y").unwrap().answer()).unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Protocol: visorbus.v1.json\r\n"), "{answer}");
    }

    #[test]
    fn no_compression_is_agreed_on() {
        let answer =
            with("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits").unwrap().answer();
        assert!(!String::from_utf8(answer).unwrap().to_lowercase().contains("extension"));
    }

    #[test]
    fn names_of_protocols_and_tokens_have_no_case() {
        for (name, value) in [
            ("Upgrade", "WebSocket"),
            ("Connection", "keep-alive, UPGRADE"),
            ("Connection", "upgrade,keep-alive"),
        ] {
            assert!(with(name, value).is_ok(), "{name}: {value}");
        }
    }

    #[test]
    fn a_wrong_handshake_is_refused() {
        for (name, value) in [
            ("Upgrade", ""),
            ("Upgrade", "h2c"),
            ("Upgrade", "websocket, h2c"),
            ("Connection", ""),
            ("Connection", "keep-alive"),
            ("Connection", "upgraded"),
            ("Sec-WebSocket-Key", ""),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR=="),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ-=="),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZWU="),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            ("Sec-WebSocket-Key", "short"),
        ] {
            let refused = with(name, value);
            assert!(matches!(refused, Err(Refusal::Upgrade(_))), "{name}: {value}: {refused:?}");
        }
    }

    #[test]
    fn another_version_is_refused_with_ours() {
        for version in ["", "8", "0", "14", "13, 8", "013", "+13"] {
            let refused = with("Sec-WebSocket-Version", version).unwrap_err();
            assert_eq!(refused, Refusal::WebSocketVersion, "{version}");
            assert!(
                refused.status().starts_with("426 ")
                    && refused.headers().contains("Sec-WebSocket-Version: 13\r\n")
            );
        }
    }

    #[test]
    fn the_first_protocol_that_is_spoken_is_taken() {
        for (offered, taken) in [
            ("visorbus.v1.postcard", Subprotocol::Postcard),
            ("visorbus.v1.json, visorbus.v1.postcard", Subprotocol::Json),
            ("visorbus.v2.json ,,visorbus.v1.postcard,visorbus.v1.json", Subprotocol::Postcard),
        ] {
            assert_eq!(with("Sec-WebSocket-Protocol", offered).unwrap().protocol, taken, "{offered}");
        }
        for offered in
            ["", "mqtt", "VISORBUS.V1.JSON", "visorbus.v1.json2", "visorbus.v1.json visorbus.v1.postcard"]
        {
            let refused = with("Sec-WebSocket-Protocol", offered).unwrap_err();
            assert_eq!(refused, Refusal::Subprotocol, "{offered}");
            assert!(
                refused.text().contains("visorbus.v1.postcard and visorbus.v1.json"),
                "{}",
                refused.text()
            );
        }
    }

    #[test]
    fn protocols_may_be_offered_one_by_one() {
        let mut head = "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: mqtt\r\n".to_owned();
        for (name, value) in GOOD {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let upgrade = Upgrade::check(&Request::parse(head.as_bytes()).unwrap()).unwrap();
        assert_eq!(upgrade.protocol, Subprotocol::Json);
    }

    #[test]
    fn a_page_is_no_upgrade() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade: h2c\r\n\r\n";
        assert!(!Upgrade::is_wanted(&Request::parse(head).unwrap()));
        let head = b"HEAD / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(Upgrade::check(&Request::parse(head).unwrap()), Err(Refusal::Method));
    }
}
