//! Why somebody was turned away, and what is said to him.

use crate::protocol::Subprotocol;

/// Why a request, or a connection, was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What came is no HTTP.
    NotHttp,
    /// The request's form is wrong: how.
    Malformed(&'static str),
    HeadTooLong,
    HttpVersion,
    Method,
    Target,
    /// A body was announced.
    Body,
    /// This header is there more than once.
    Repeated(&'static str),
    TokenInUrl,
    HostMissing,
    /// This host is not one of ours.
    Host(String),
    /// A page from there may not connect.
    Origin(String),
    NotFound,
    /// A page was asked for where only WebSockets are served.
    NotWebSocket,
    /// The upgrade's form is wrong: how.
    Upgrade(&'static str),
    WebSocketVersion,
    Subprotocol,
    /// The other end went on before it was answered.
    TooEarly,
    /// HTTP without TLS where TLS is spoken.
    PlainOnTls,
    /// TLS did not come about.
    Handshake,
    /// It took too long.
    Late,
    /// This address has too many connections.
    Address,
    /// There are too many connections that have not said yet what they want.
    Busy,
    /// A live page was not made in time.
    Unmade,
    /// The process has no descriptors left.
    Descriptors,
}

impl Refusal {
    /// The status line's number and words (RFC 9110 section 15).
    pub(crate) const fn status(&self) -> &'static str {
        match self {
            Self::Host(_) | Self::Origin(_) => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
            Self::Late => "408 Request Timeout",
            Self::NotWebSocket | Self::WebSocketVersion => "426 Upgrade Required",
            Self::HeadTooLong => "431 Request Header Fields Too Large",
            Self::Busy | Self::Address | Self::Unmade | Self::Descriptors => "503 Service Unavailable",
            Self::HttpVersion => "505 HTTP Version Not Supported",
            _ => "400 Bad Request",
        }
    }

    /// What a header has to say beside the text, whole lines.
    pub(crate) const fn headers(&self) -> &'static str {
        match self {
            Self::Method => "Allow: GET, HEAD\r\n",
            Self::NotWebSocket => "Upgrade: websocket\r\n",
            Self::WebSocketVersion => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            Self::Busy | Self::Address | Self::Unmade | Self::Descriptors => "Retry-After: 5\r\n",
            _ => "",
        }
    }

    /// What is wrong and what to do, for people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::NotHttp => {
                "this is no HTTP: this port speaks HTTP/1.1 and WebSockets, without TLS".to_owned()
            }
            Self::Malformed(what) => format!("the request is malformed: {what}"),
            Self::HeadTooLong => {
                "the request's head is too long: 8192 bytes and 64 headers at most".to_owned()
            }
            Self::HttpVersion => "this port speaks HTTP/1.1 only".to_owned(),
            Self::Method => "only GET and HEAD are served here".to_owned(),
            Self::Target => "the request must name a plain path, such as /".to_owned(),
            Self::Body => {
                "a request must not have a body here: leave out Content-Length and Transfer-Encoding"
                    .to_owned()
            }
            Self::Repeated(name) => format!("the header {name} is there more than once"),
            Self::TokenInUrl => {
                "secrets must not be in a URL, which others get to see: leave it out here, and \
                                 authenticate with the first message after the connection is open"
                    .to_owned()
            }
            Self::HostMissing => "the header Host is missing, empty or no host".to_owned(),
            Self::Host(host) => format!(
                "this server does not go by the name '{}': use its address, or have its operator allow this host",
                shown(host)
            ),
            Self::Origin(origin) => format!(
                "pages from '{}' may not connect here: have the server's operator allow this origin",
                shown(origin)
            ),
            Self::NotFound => "there is nothing here".to_owned(),
            Self::NotWebSocket => "this is Visorbus, which speaks WebSockets here: connect with a client to \
                                   ws://… or wss://… in place of http://… or https://…"
                .to_owned(),
            Self::Upgrade(what) => format!("this is no proper WebSocket handshake: {what}"),
            Self::WebSocketVersion => {
                "only version 13 of the WebSocket protocol (RFC 6455) is spoken here".to_owned()
            }
            Self::Subprotocol => format!(
                "offer one of the subprotocols {} and {} in Sec-WebSocket-Protocol",
                Subprotocol::Postcard,
                Subprotocol::Json
            ),
            Self::TooEarly => "nothing may follow the request before it is answered".to_owned(),
            Self::PlainOnTls => "this port speaks TLS: use https:// or wss://".to_owned(),
            Self::Handshake => "TLS did not come about".to_owned(),
            Self::Late => "the request took too long".to_owned(),
            Self::Address => "your address has too many connections here: close some".to_owned(),
            Self::Unmade => {
                "this page could not be made in time, or too many ask for it: try again in some seconds"
                    .to_owned()
            }
            Self::Busy => "too many are at the door: try again in some seconds".to_owned(),
            Self::Descriptors => {
                "this server cannot open more connections: try again in some seconds".to_owned()
            }
        }
    }

    /// What it is counted as.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::NotHttp | Self::Malformed(_) | Self::Target | Self::Body | Self::Repeated(_) => {
                Reason::Malformed
            }
            Self::TooEarly | Self::HttpVersion => Reason::Malformed,
            Self::HeadTooLong => Reason::HeadTooLong,
            Self::Method => Reason::Method,
            Self::TokenInUrl => Reason::TokenInUrl,
            Self::HostMissing | Self::Host(_) => Reason::Host,
            Self::Origin(_) => Reason::Origin,
            Self::NotFound | Self::NotWebSocket => Reason::NotFound,
            Self::Upgrade(_) | Self::WebSocketVersion => Reason::Upgrade,
            Self::Subprotocol => Reason::Subprotocol,
            Self::PlainOnTls | Self::Handshake => Reason::Tls,
            Self::Late => Reason::Late,
            Self::Address => Reason::Address,
            Self::Busy | Self::Unmade => Reason::Busy,
            Self::Descriptors => Reason::Descriptors,
        }
    }
}

/// Why connections were turned away before the hub knew of them, as [`DoorStats`](crate::DoorStats) counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No HTTP/1.1, or a request whose form is wrong.
    Malformed,
    /// The head of the request was longer than 8 KiB, or had more than 64 headers.
    HeadTooLong,
    /// Neither GET nor HEAD.
    Method,
    /// There was a secret in the URL.
    TokenInUrl,
    /// The host that was asked for is not one of the server's.
    Host,
    /// A page from an origin that is not allowed.
    Origin,
    /// Nothing is served at that path.
    NotFound,
    /// The WebSocket handshake was not as RFC 6455 wants it.
    Upgrade,
    /// No subprotocol that is spoken here was offered.
    Subprotocol,
    /// No TLS on a port that wants it, or its handshake failed.
    Tls,
    /// It took too long to say what it wanted, or to take its answer.
    Late,
    /// Its address had too many connections.
    Address,
    /// Too many others were at the door, or a live page was not made in time.
    Busy,
    /// The process had no file descriptors left.
    Descriptors,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::HeadTooLong,
        Self::Method,
        Self::TokenInUrl,
        Self::Host,
        Self::Origin,
        Self::NotFound,
        Self::Upgrade,
        Self::Subprotocol,
        Self::Tls,
        Self::Late,
        Self::Address,
        Self::Busy,
        Self::Descriptors,
    ];

    /// As logs and figures call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeadTooLong => "head_too_long",
            Self::Method => "method",
            Self::TokenInUrl => "token_in_url",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::NotFound => "not_found",
            Self::Upgrade => "upgrade",
            Self::Subprotocol => "subprotocol",
            Self::Tls => "tls",
            Self::Late => "late",
            Self::Address => "address",
            Self::Busy => "busy",
            Self::Descriptors => "descriptors",
        }
    }
}

/// What a stranger wrote, short and without anything that a terminal or a browser would take for more than text.
fn shown(text: &str) -> String {
    text.chars()
        .take(100)
        .map(|c| if c.is_ascii_graphic() && !"<>&'\"".contains(c) { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_is_shown_as_text_only() {
        let text = Refusal::Host(format!("<script>\x1b[0m\u{202e}{}", "a".repeat(1000))).text();
        assert!(text.contains("'?script??[0m?aaa") && text.len() < 300, "{text}");
    }

    #[test]
    fn reasons_are_in_the_order_of_their_list() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }
}
