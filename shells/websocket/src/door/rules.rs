//! What is done with a request: the one place where it is decided. Bytes and addresses in, an answer out; no socket.

use std::net::SocketAddr;

use crate::door::answer::Answer;
use crate::door::places::Places;
use crate::door::refusal::Refusal;
use crate::door::request::Request;
use crate::door::upgrade::Upgrade;
use crate::live::LivePages;
use crate::pages::Pages;

/// What an operator has allowed, and what is served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) places: Places,
    pub(crate) pages: Pages,
    pub(crate) live: LivePages,
}

impl Rules {
    /// Decides on a whole head that came in on `local`, over TLS or not.
    pub(crate) fn decide(&self, head: &[u8], local: SocketAddr, is_tls: bool) -> Verdict {
        let request = match Request::parse(head) {
            Ok(request) => request,
            Err(refusal) => {
                return Verdict::Refuse(Answer::refuse(&refusal, head.starts_with(b"HEAD ")), refusal);
            }
        };
        match self.serve(&request, local, is_tls) {
            Ok(verdict) => verdict,
            Err(refusal) => Verdict::Refuse(Answer::refuse(&refusal, request.is_head), refusal),
        }
    }

    fn serve(&self, request: &Request<'_>, local: SocketAddr, is_tls: bool) -> Result<Verdict, Refusal> {
        self.places.check(request, local, is_tls)?;
        if Upgrade::is_wanted(request) {
            return if request.path == PATH {
                Upgrade::check(request).map(Verdict::Upgrade)
            } else {
                Err(Refusal::NotFound)
            };
        }
        if self.live.at(request.path).is_some() {
            return Ok(Verdict::Live { path: request.path.to_owned(), is_head: request.is_head });
        }
        match self.pages.at(request.path) {
            Some(page) => {
                let host = request.value("Host").unwrap_or_default();
                let is_known = page.is_known(request.value("If-None-Match"));
                Ok(Verdict::Page(Answer::page(page, host, request.is_head, is_known)))
            }
            None if request.path == PATH => Err(Refusal::NotWebSocket),
            None => Err(Refusal::NotFound),
        }
    }
}

/// What is done with a request.
pub(crate) enum Verdict {
    /// It becomes a WebSocket.
    Upgrade(Upgrade),
    /// It gets a page.
    Page(Answer),
    /// It gets the live page at this path, once that is made.
    Live { path: String, is_head: bool },
    /// It gets this answer, which says why.
    Refuse(Answer, Refusal),
}

/// Where WebSockets are.
const PATH: &str = "/";

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(rules: &Rules, line: &str, headers: &[&str]) -> Result<String, Refusal> {
        let mut head = format!("{line} HTTP/1.1\r\n");
        for header in headers {
            head += &format!("{header}\r\n");
        }
        head += "\r\n";
        match rules.decide(head.as_bytes(), "127.0.0.1:80".parse().unwrap(), false) {
            Verdict::Upgrade(upgrade) => Ok(upgrade.protocol.to_string()),
            Verdict::Page(answer) => Ok(String::from_utf8_lossy(answer.rest()).into_owned()),
            Verdict::Live { path, is_head } => Ok(format!("live {path} {is_head}")),
            Verdict::Refuse(_, refusal) => Err(refusal),
        }
    }

    const HOST: &str = "Host: localhost";
    const UPGRADE: [&str; 6] = [
        HOST,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: visorbus.v1.postcard",
    ];

    fn pages() -> Rules {
        let pages =
            Pages::new().with("/", "text/html", &b"root"[..]).with("/app.js", "text/javascript", &b"app"[..]);
        let live = LivePages::new().with("/app.js", |_| unreachable!("it is not made here"));
        Rules { pages, live, places: Places::default() }
    }

    #[test]
    fn one_path_serves_a_page_and_websockets() {
        assert_eq!(decide(&pages(), "GET /", &UPGRADE).unwrap(), "visorbus.v1.postcard");
        assert!(decide(&pages(), "GET /", &[HOST]).unwrap().starts_with("HTTP/1.1 200 "));
        assert!(decide(&pages(), "HEAD /", &[HOST]).unwrap().starts_with("HTTP/1.1 200 "));
        assert_eq!(decide(&pages(), "HEAD /app.js?x", &[HOST]).unwrap(), "live /app.js true");
        assert_eq!(decide(&pages(), "GET /app.js", &UPGRADE), Err(Refusal::NotFound));
        assert_eq!(decide(&pages(), "GET /../etc/passwd", &[HOST]), Err(Refusal::NotFound));
        assert!(decide(&pages(), "GET /?cache=1", &[HOST]).is_ok());
    }

    #[test]
    fn without_pages_a_person_is_told_what_this_is() {
        let rules = Rules::default();
        assert_eq!(decide(&rules, "GET /", &[HOST]), Err(Refusal::NotWebSocket));
        assert_eq!(decide(&rules, "GET /favicon.ico", &[HOST]), Err(Refusal::NotFound));
        assert!(
            Refusal::NotWebSocket.status().starts_with("426 ")
                && Refusal::NotWebSocket.text().contains("ws://")
        );
    }

    #[test]
    fn host_and_origin_come_before_everything_that_is_served() {
        let mut evil = UPGRADE.to_vec();
        evil.push("Origin: http://evil.example");
        assert!(matches!(decide(&pages(), "GET /", &evil), Err(Refusal::Origin(_))));
        assert!(matches!(decide(&pages(), "GET /", &[HOST, "Origin: null"]), Err(Refusal::Origin(_))));
        let rebound = ["Host: evil.example", "Origin: http://evil.example"];
        assert!(matches!(decide(&pages(), "GET /app.js", &rebound), Err(Refusal::Host(_))));
        assert!(matches!(decide(&pages(), "GET /nothing", &rebound), Err(Refusal::Host(_))));
        assert_eq!(decide(&pages(), "GET /", &[]), Err(Refusal::HostMissing));
    }

    #[test]
    fn a_secret_in_the_url_is_refused_before_a_websocket_opens() {
        assert_eq!(decide(&pages(), "GET /?access_token=vb1.x", &UPGRADE), Err(Refusal::TokenInUrl));
    }
}
