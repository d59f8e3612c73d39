//! What is written back to a request: bytes, how far they are written, and what the other end may do after them.

use std::sync::Arc;

use crate::door::refusal::Refusal;
use crate::live::PageAnswer;
use crate::pages::Page;

/// An answer on its way. The connection ends with it.
pub(crate) struct Answer {
    head: Vec<u8>,
    body: Body,
    written: usize,
}

impl Answer {
    /// Turns somebody away and says why; only the head for a HEAD.
    pub(crate) fn refuse(refusal: &Refusal, is_head: bool) -> Self {
        let text = refusal.text() + "\n";
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{}Cache-Control: no-store\r\n\
             {}{CLOSED}\r\n",
            refusal.status(),
            text.len(),
            refusal.headers(),
            policy("")
        );
        Self::new(head, if is_head { Body::None } else { Body::Text(text) })
    }

    /// Gives a page; only its head for a HEAD, or when the other end `is_known` to have it. `host` is what the request
    /// named us, and has been checked.
    pub(crate) fn page(page: &Arc<Page>, host: &str, is_head: bool, is_known: bool) -> Self {
        let (status, content) = if is_known {
            ("304 Not Modified", String::new())
        } else {
            let content =
                format!("Content-Type: {}\r\nContent-Length: {}\r\n", page.content_type, page.bytes.len());
            ("200 OK", content)
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{content}ETag: {}\r\nCache-Control: no-cache\r\n{}{CLOSED}\r\n",
            page.etag,
            policy(&format!(
                "; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://{host} wss://{host}"
            ))
        );
        Self::new(head, if is_head || is_known { Body::None } else { Body::Page(Arc::clone(page)) })
    }

    /// Gives a live page; only its head for a HEAD.
    pub(crate) fn live(page: PageAnswer, is_head: bool) -> Self {
        let PageAnswer { status, content_type, header, body } = page;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{header}\
             Cache-Control: no-store\r\n{}{CLOSED}\r\n",
            body.len(),
            policy("")
        );
        Self::new(head, if is_head { Body::None } else { Body::Bytes(body) })
    }

    fn new(head: String, body: Body) -> Self {
        Self { head: head.into_bytes(), body, written: 0 }
    }

    /// What is left to write, a part of it; empty at the end.
    pub(crate) fn rest(&self) -> &[u8] {
        if let Some(rest) = self.head.get(self.written..).filter(|rest| !rest.is_empty()) {
            return rest;
        }
        let body = match &self.body {
            Body::None => &[],
            Body::Text(text) => text.as_bytes(),
            Body::Bytes(bytes) => bytes,
            Body::Page(page) => &page.bytes[..],
        };
        &body[self.written - self.head.len()..]
    }

    /// So much more of it is written.
    pub(crate) const fn advance(&mut self, count: usize) {
        self.written += count;
    }
}

enum Body {
    None,
    Text(String),
    Bytes(Vec<u8>),
    Page(Arc<Page>),
}

/// The headers that keep what is served here from being used for anything else.
fn policy(sources: &str) -> String {
    format!(
        "Content-Security-Policy: default-src 'none'{sources}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"
    )
}

const CLOSED: &str = "Connection: close\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Pages;

    /// The whole answer, taken `step` bytes at a time.
    fn text(mut answer: Answer, step: usize) -> String {
        let mut text = Vec::new();
        loop {
            let rest = answer.rest();
            let count = rest.len().min(step);
            if count == 0 {
                return String::from_utf8(text).unwrap();
            }
            text.extend(&rest[..count]);
            answer.advance(count);
        }
    }

    #[test]
    fn a_refusal_says_why_and_that_the_connection_ends() {
        for step in [1, 7, 10_000] {
            let answer = text(Answer::refuse(&Refusal::Method, false), step);
            assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
            assert!(
                answer.contains("\r\nAllow: GET, HEAD\r\n") && answer.contains("\r\nConnection: close\r\n")
            );
            assert!(answer.contains("default-src 'none'; base-uri"), "{answer}");
            assert!(
                answer.contains("Content-Length: 34\r\n")
                    && answer.ends_with("\r\n\r\nonly GET and HEAD are served here\n")
            );
        }
        assert!(text(Answer::refuse(&Refusal::Method, true), 100).ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_page_comes_with_what_it_may_use() {
        let pages = Pages::new().with("/", "text/html", &b"<p>"[..]);
        let page = pages.at("/").unwrap();
        let answer = text(Answer::page(page, "localhost:80", false, false), 5);
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\nETag: \"")
        );
        assert!(answer.contains("; connect-src 'self' ws://localhost:80 wss://localhost:80;"), "{answer}");
        assert!(
            answer.contains("\r\nCache-Control: no-cache\r\n") && answer.ends_with("\r\n\r\n<p>"),
            "{answer}"
        );
        assert!(!answer.contains("unsafe"));
        let head = text(Answer::page(page, "a", true, false), 5);
        assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let known = text(Answer::page(page, "a", false, true), 5);
        assert!(
            known.starts_with("HTTP/1.1 304 ") && known.contains("ETag: ") && known.ends_with("\r\n\r\n"),
            "{known}"
        );
    }
}
