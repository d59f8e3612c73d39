//! Files that the port of the WebSockets serves to browsers, a dashboard's for example: a table in memory, no directory.

use std::borrow::Cow;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use crate::HashMap;

/// What is served at which path. Cloning it is cheap.
///
/// Pages are served as they are to everybody who may reach the port, so there must be no secret in them. They may use
/// scripts, styles, images and connections of their own origin, and nothing else: no inline script or style, no other host,
/// no frame.
///
/// ```
/// use visorbus_websocket::Pages;
///
/// let pages = Pages::new()
///     .with("/", "text/html; charset=utf-8", "<!doctype html><script src='/app.js'></script>".as_bytes())
///     .with("/app.js", "text/javascript; charset=utf-8", "console.log('hello')".as_bytes());
/// assert_eq!(pages.len(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Pages(Arc<HashMap<String, Arc<Page>>>);

impl Pages {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and `bytes` at `path`, which begins with `/` and has no query; what was there is replaced.
    ///
    /// # Panics
    /// When `path` is no such path, or `content_type` is no header's value.
    #[must_use]
    pub fn with(mut self, path: &str, content_type: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        assert!(is_path(path), "'{path}' is no path");
        assert!(is_plain(content_type), "{content_type:?} is no content type");
        let bytes = bytes.into();
        let hash = foldhash::quality::FixedState::with_seed(0).hash_one(&bytes);
        let page = Page { content_type: content_type.to_owned(), etag: format!("\"{hash:016x}\""), bytes };
        Arc::make_mut(&mut self.0).insert(path.to_owned(), Arc::new(page));
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

    /// What is at `path`.
    pub(crate) fn at(&self, path: &str) -> Option<&Arc<Page>> {
        self.0.get(path)
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether something can be served at `path`.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['?', '#', ' ']) && is_plain(path)
}

/// Whether a header may have this value.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..0x7f).contains(&byte))
}

/// One file.
pub(crate) struct Page {
    pub(crate) content_type: String,
    /// Changes with the bytes; quoted, as it stands in headers.
    pub(crate) etag: String,
    pub(crate) bytes: Cow<'static, [u8]>,
}

impl Page {
    /// Whether a browser that sent this `If-None-Match` has it already (RFC 9110 section 13.1.2).
    pub(crate) fn is_known(&self, if_none_match: Option<&str>) -> bool {
        let same = |tag: &str| {
            let tag = tag.trim_matches([' ', '\t']);
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag
        };
        if_none_match.is_some_and(|tags| tags.split(',').any(same))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_changes_with_the_bytes() {
        let pages = Pages::new().with("/a", "text/plain", &b"1"[..]).with("/b", "text/plain", &b"2"[..]);
        let again = Pages::new().with("/a", "text/plain", b"1".to_vec());
        let tag = |pages: &Pages, path| pages.at(path).unwrap().etag.clone();
        assert_eq!(tag(&pages, "/a"), tag(&again, "/a"));
        assert_ne!(tag(&pages, "/a"), tag(&pages, "/b"));
        assert!(pages.at("/").is_none() && pages.at("/a/").is_none() && pages.at("/A").is_none());
    }

    #[test]
    fn a_browser_that_has_it_is_not_sent_it_again() {
        let pages = Pages::new().with("/a", "text/plain", &b"1"[..]);
        let page = pages.at("/a").unwrap();
        for tags in [page.etag.clone(), format!("\"x\", W/{}", page.etag), "*".to_owned()] {
            assert!(page.is_known(Some(&tags)), "{tags}");
        }
        assert!(!page.is_known(Some("\"x\"")) && !page.is_known(Some("")) && !page.is_known(None));
    }

    #[test]
    #[should_panic(expected = "no content type")]
    fn a_content_type_cannot_bring_a_header_in() {
        let _ = Pages::new().with("/a", "text/plain\r\nSet-Cookie: a=b", &b"1"[..]);
    }
}
