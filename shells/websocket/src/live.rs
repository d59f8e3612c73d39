//! Pages that are made at the moment somebody asks for them, figures for a monitoring system for example.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::HashMap;
use crate::pages::is_path;

/// What makes which page. Cloning it is cheap.
///
/// A page is made for whoever may reach the port: the closure decides who that is to be, by the
/// [bearer token](PageRequest::bearer) or by the [address](PageRequest::peer). Host and origin were checked before, as for all
/// that is served on the port.
///
/// Each page has a thread of its own, from the first request for it on, and is made for one request after the other, so
/// that a closure may wait for something, the hub for example: one that takes long holds up nobody but those who ask for
/// the same page. Of these 16 wait; who comes then, or waits longer than [`DoorLimits::answer`](crate::DoorLimits::answer),
/// is told to try again (503). A closure that panics is answered for with 500 and asked again next time.
///
/// ```
/// use visorbus_websocket::{LivePages, PageAnswer};
///
/// let pages = LivePages::new().with("/health", |request| match request.peer.ip().is_loopback() {
///     true => PageAnswer::ok("text/plain; charset=utf-8", "all is well\n"),
///     false => PageAnswer::forbidden("this is told on this machine alone"),
/// });
/// assert_eq!(pages.len(), 1);
/// ```
#[derive(Clone, Default)]
pub struct LivePages(Arc<HashMap<String, Make>>);

/// Makes a page.
pub(crate) type Make = Arc<dyn Fn(&PageRequest<'_>) -> PageAnswer + Send + Sync>;

impl LivePages {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// These, and what `make` makes at `path`, which begins with `/` and has no query; what was there is replaced. Where
    /// there is one of [`Pages`](crate::Pages) at the same path, it is this one that is served.
    ///
    /// # Panics
    /// When `path` is no such path.
    #[must_use]
    pub fn with(
        mut self,
        path: &str,
        make: impl Fn(&PageRequest<'_>) -> PageAnswer + Send + Sync + 'static,
    ) -> Self {
        assert!(is_path(path), "'{path}' is no path");
        Arc::make_mut(&mut self.0).insert(path.to_owned(), Arc::new(make));
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What makes the one at `path`.
    pub(crate) fn at(&self, path: &str) -> Option<&Make> {
        self.0.get(path)
    }
}

impl std::fmt::Debug for LivePages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Who asks for a page, and how.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct PageRequest<'r> {
    /// The path, as it was given to [`LivePages::with`].
    pub path: &'r str,
    /// What follows the `?`, as it came; empty for nothing. There is no token in it: such a request is refused before.
    pub query: &'r str,
    /// The token in `Authorization: Bearer TOKEN` (RFC 6750 section 2.1), unchecked; `None` where there is no such header,
    /// one of another scheme, or one whose token has characters that no token has.
    pub bearer: Option<&'r str>,
    /// Who asks. Behind a proxy, that is the proxy.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub is_tls: bool,
}

impl std::fmt::Debug for PageRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, query, bearer, peer, is_tls } = self;
        let mut fields = f.debug_struct("PageRequest");
        fields.field("path", path).field("query", query).field("bearer", &bearer.map(|_| "…"));
        fields.field("peer", peer).field("is_tls", is_tls).finish()
    }
}

/// What is answered to whoever asks for a page. It is sent with `Cache-Control: no-store`, and the connection ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAnswer {
    pub(crate) status: &'static str,
    pub(crate) content_type: String,
    /// A header that the status asks for, as a whole line; else empty.
    pub(crate) header: &'static str,
    pub(crate) body: Vec<u8>,
}

impl PageAnswer {
    /// The page, at most 4 MiB; for a HEAD its head alone is sent (200).
    ///
    /// # Panics
    /// When `content_type` is no header's value, or the body longer; in the closure of a page that is a 500 for whoever
    /// asked.
    pub fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        assert!(crate::pages::is_plain(content_type), "{content_type:?} is no content type");
        assert!(body.len() <= MAX_BODY, "a page of {} bytes: {MAX_BODY} at most", body.len());
        Self { status: "200 OK", content_type: content_type.to_owned(), header: "", body }
    }

    /// A token is missing or no good: which one is wanted and how one gets it (401, RFC 6750 section 3).
    pub fn unauthorized(text: &str) -> Self {
        Self {
            header: "WWW-Authenticate: Bearer realm=\"visorbus\"\r\n",
            ..Self::text("401 Unauthorized", text)
        }
    }

    /// Whoever asks may not, whatever the token (403).
    pub fn forbidden(text: &str) -> Self {
        Self::text("403 Forbidden", text)
    }

    /// There is nothing there, for this query or for now (404).
    pub fn not_found(text: &str) -> Self {
        Self::text("404 Not Found", text)
    }

    /// It cannot be made now: try again in some seconds (503).
    pub fn unavailable(text: &str) -> Self {
        Self { header: "Retry-After: 5\r\n", ..Self::text("503 Service Unavailable", text) }
    }

    /// Something went wrong that is no fault of whoever asked (500).
    pub fn failed(text: &str) -> Self {
        Self::text("500 Internal Server Error", text)
    }

    fn text(status: &'static str, text: &str) -> Self {
        let content_type = "text/plain; charset=utf-8".to_owned();
        Self { status, content_type, header: "", body: format!("{text}\n").into_bytes() }
    }
}

/// Bytes of a page.
const MAX_BODY: usize = 4 << 20;
