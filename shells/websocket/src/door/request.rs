//! The head of an HTTP request, read and checked for its form (RFC 9112), more strictly than the standard asks: where two
//! readers could understand two things, nobody is served. Knows no WebSocket, no socket, and not who may ask for what.

use crate::door::refusal::Refusal;

/// A request's head that is well formed and has no body behind it.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// It is HEAD, not GET.
    pub(crate) is_head: bool,
    /// From its first `/` on, without the query.
    pub(crate) path: &'a str,
    /// What follows the `?`.
    pub(crate) query: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Request<'a> {
    /// Reads `head`, which ends with its empty line.
    pub(crate) fn parse(head: &'a [u8]) -> Result<Self, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut read = httparse::Request::new(&mut fields);
        match read.parse(head) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            Ok(_) => return Err(Refusal::Malformed("its head does not end where it should")),
            Err(error) => return Err(fault(&error)),
        }
        if read.version != Some(1) {
            return Err(Refusal::HttpVersion);
        }
        let is_head = match read.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Err(Refusal::Method),
        };
        let target = read.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // Absolute and authority forms name a host beside the Host field (RFC 9112 section 3.2.2).
        if !path.starts_with('/') || target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
            return Err(Refusal::Target);
        }
        let headers = read.headers.iter().map(field).collect::<Result<_, _>>()?;
        let request = Self { is_head, path, query, headers };
        request.check_fields()?;
        Ok(request)
    }

    /// The value of a header that may be there once at most.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// The members of a header that is a list, however often it is there (RFC 9110 section 5.6.1).
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.values(name).flat_map(|value| value.split(',')).map(trim).filter(|member| !member.is_empty())
    }

    /// Whether a header that is a list has this member, in whatever case.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        self.list(name).any(|found| found.eq_ignore_ascii_case(member))
    }

    /// Whether any header begins with `prefix`, in whatever case.
    pub(crate) fn has_any(&self, prefix: &str) -> bool {
        self.headers
            .iter()
            .any(|(name, _)| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    fn check_fields(&self) -> Result<(), Refusal> {
        if let Some(name) = SINGLE.into_iter().find(|name| self.values(name).nth(1).is_some()) {
            return Err(Refusal::Repeated(name));
        }
        // Also "Content-Length: 0": a GET has nothing to say about a body (RFC 9110 section 9.3.1).
        if self.value("Content-Length").is_some() || self.value("Transfer-Encoding").is_some() {
            return Err(Refusal::Body);
        }
        if self.query.split(['&', ';']).any(is_secret) {
            return Err(Refusal::TokenInUrl);
        }
        Ok(())
    }
}

/// Where the head ends in what has come so far, the empty line counted in; `None` while it has not. `checked` is how much
/// of it has been looked at before, and is kept up to date, so that a head that comes byte by byte is looked at once.
///
/// Lines end with CR LF and nothing else does: a bare LF or CR is where readers differ (RFC 9112 section 2.2).
pub(crate) fn end_of_head(bytes: &[u8], checked: &mut usize) -> Result<Option<usize>, Refusal> {
    if bytes.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        return Err(Refusal::NotHttp);
    }
    for at in *checked..bytes.len().min(MAX_HEAD) {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        match (before, bytes[at]) {
            (Some(b'\r'), b'\n') if bytes[..=at].ends_with(b"\r\n\r\n") => return Ok(Some(at + 1)),
            (Some(b'\r'), b'\n') => {}
            (_, b'\n') => return Err(Refusal::Malformed("a line ends with LF alone; lines end with CR LF")),
            (Some(b'\r'), _) => return Err(Refusal::Malformed("a CR stands alone; lines end with CR LF")),
            (_, 0) => return Err(Refusal::Malformed("there is a NUL in it")),
            _ => {}
        }
        *checked = at + 1;
    }
    if bytes.len() >= MAX_HEAD { Err(Refusal::HeadTooLong) } else { Ok(None) }
}

fn field<'a>(field: &httparse::Header<'a>) -> Result<(&'a str, &'a str), Refusal> {
    let value = std::str::from_utf8(field.value).map_err(|_| Refusal::Malformed("a header is no UTF-8"))?;
    Ok((field.name, trim(value)))
}

fn fault(error: &httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLong,
        httparse::Error::Version => Refusal::HttpVersion,
        httparse::Error::HeaderName => {
            Refusal::Malformed("a header's name has a character that names cannot have")
        }
        httparse::Error::HeaderValue => Refusal::Malformed("a header's value has a control character"),
        _ => Refusal::Malformed("its first line is no 'GET /path HTTP/1.1'"),
    }
}

/// The optional white space around a value (RFC 9110 section 5.6.3).
fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// Whether a query's parameter has the name of a secret, or a token or an API key stands in it, whatever it is called.
fn is_secret(pair: &str) -> bool {
    let pair = plain(pair);
    let name = pair.split('=').next().unwrap_or_default();
    SECRETS.contains(&name)
        || pair.split('=').any(|part| TOKENS.iter().any(|start| part.trim_start().starts_with(start)))
}

/// A query's parameter with its percent escapes undone, in small letters.
fn plain(name: &str) -> String {
    let mut rest = name.as_bytes();
    let mut out = String::new();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = if byte.is_some() { &after[2..] } else { after };
        out.push(char::from(byte.unwrap_or(first)).to_ascii_lowercase());
    }
    out
}

/// Longest head, in bytes.
pub(crate) const MAX_HEAD: usize = 8 * 1024;

/// Most headers of a request; browsers send about twenty.
const MAX_FIELDS: usize = 64;

/// Headers of which a second one is refused.
const SINGLE: [&str; 9] = [
    "Host",
    "Origin",
    "Upgrade",
    "Content-Length",
    "Transfer-Encoding",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Authorization",
    "If-None-Match",
];

/// Parameters of a URL that would be secrets. URLs end up in histories and in the logs of proxies.
const SECRETS: [&str; 8] =
    ["token", "access_token", "auth_token", "auth", "password", "api_key", "apikey", "authorization"];

/// What tokens and API keys begin with.
const TOKENS: [&str; 2] = [visorbus_core::auth::TEXT_PREFIX, "vbk1."];

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(head: &str) -> Refusal {
        let mut checked = 0;
        match end_of_head(head.as_bytes(), &mut checked) {
            Err(refusal) => refusal,
            Ok(None) => panic!("{head:?} has no end"),
            Ok(Some(end)) => Request::parse(&head.as_bytes()[..end]).expect_err(head),
        }
    }

    fn end(head: &[u8]) -> Result<Option<usize>, Refusal> {
        end_of_head(head, &mut 0)
    }

    #[test]
    fn a_head_is_read() {
        let head = b"GET /a/b?x=1&y HTTP/1.1\r\nHost: a\r\nX-One: 1\t\r\nx-one:  2,,3 \r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.path, request.query, request.is_head), ("/a/b", "x=1&y", false));
        assert_eq!(request.value("HOST"), Some("a"));
        assert_eq!(request.list("X-ONE").collect::<Vec<_>>(), ["1", "2", "3"]);
        assert!(request.lists("x-One", "3") && !request.lists("x-One", "4"));
        assert!(request.has_any("x-") && !request.has_any("x-two") && !request.has_any("x-one-and-more"));
        assert_eq!(request.value("Origin"), None);
        assert!(Request::parse(b"HEAD / HTTP/1.1\r\n\r\n").unwrap().is_head);
    }

    #[test]
    fn the_end_is_found_however_the_head_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbehind";
        for cut in 0..head.len() {
            let mut checked = 0;
            let first = end_of_head(&head[..cut], &mut checked).unwrap();
            assert_eq!(first, (cut >= 27).then_some(27), "cut at {cut}");
            assert_eq!(end_of_head(head, &mut checked).unwrap(), Some(27), "cut at {cut}");
        }
        let (mut checked, mut looked_at) = (0, 0);
        for cut in 0..27 {
            end_of_head(&head[..cut], &mut checked).unwrap();
            looked_at = checked;
        }
        assert_eq!(looked_at, 26);
    }

    #[test]
    fn lines_end_with_cr_lf_and_nothing_else_does() {
        for head in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\x01b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n",
        ] {
            assert!(matches!(refusal(head), Refusal::Malformed(_)), "{head:?}");
        }
    }

    #[test]
    fn headers_that_readers_understand_differently_are_refused() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\tfolded\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
            "GET / HTTP/1.1\r\nH\u{f6}st: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\r\n\r\n",
        ] {
            assert!(matches!(refusal(head), Refusal::Malformed(_) | Refusal::HttpVersion), "{head:?}");
        }
        let head = b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n";
        assert!(matches!(Request::parse(head), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn what_is_no_http_is_refused_at_its_first_byte() {
        for first in [&b"\x16\x03\x01"[..], b"\r\nGET", b" GET", b"get", b"\0", b"\x80", b"SSH"] {
            let answer = end(first);
            assert_eq!(answer.is_err(), first != b"SSH", "{first:?}");
        }
        assert_eq!(end(b""), Ok(None));
    }

    #[test]
    fn other_versions_are_refused() {
        for version in ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3"] {
            let refused = refusal(&format!("GET / {version}\r\nHost: a\r\n\r\n"));
            assert_eq!(refused, Refusal::HttpVersion, "{version}");
        }
        assert_eq!(refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Refusal::HttpVersion);
        assert!(matches!(refusal("GET / http/1.1\r\n\r\n"), Refusal::HttpVersion | Refusal::Malformed(_)));
    }

    #[test]
    fn other_methods_are_refused() {
        for method in ["POST", "PUT", "DELETE", "TRACE", "CONNECT", "OPTIONS", "PATCH", "GETS", "GeT"] {
            assert_eq!(
                refusal(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")),
                Refusal::Method,
                "{method}"
            );
        }
    }

    #[test]
    fn a_target_is_a_path() {
        for target in ["http://a/", "ws://a/", "*", "a:80", "a", "/a#b", "/\u{e4}", "/a?b#c"] {
            let refused = refusal(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(matches!(refused, Refusal::Target | Refusal::Malformed(_)), "{target}: {refused:?}");
        }
    }

    #[test]
    fn a_body_is_refused() {
        for header in
            ["Content-Length: 5", "content-length: 0", "Transfer-Encoding: chunked", "TRANSFER-ENCODING: x"]
        {
            assert_eq!(
                refusal(&format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n")),
                Refusal::Body,
                "{header}"
            );
        }
    }

    #[test]
    fn doubled_headers_are_refused() {
        for name in SINGLE {
            let small = name.to_lowercase();
            let head = format!("GET / HTTP/1.1\r\n{name}: a\r\nX: y\r\n{small}: a\r\n\r\n");
            assert_eq!(refusal(&head), Refusal::Repeated(name));
        }
    }

    #[test]
    fn huge_heads_are_refused_before_they_end() {
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        head.extend(b"X: y\r\n".iter().cycle().take(MAX_HEAD));
        assert_eq!(end(&head[..MAX_HEAD - 1]), Ok(None));
        assert_eq!(end(&head[..MAX_HEAD]), Err(Refusal::HeadTooLong));
        assert_eq!(end(&head), Err(Refusal::HeadTooLong));
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(end(long.as_bytes()), Err(Refusal::HeadTooLong));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(refusal(&many), Refusal::HeadTooLong);
        let exact = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(MAX_HEAD - 23));
        assert_eq!((exact.len(), end(exact.as_bytes())), (MAX_HEAD, Ok(Some(MAX_HEAD))));
    }

    #[test]
    fn secrets_in_the_url_are_refused() {
        for query in [
            "token=a",
            "a=b&access_token=c",
            "TOKEN",
            "%74oken=1",
            "a;Api_Key=2",
            "password=",
            "a&%41uth=x",
            "t=vb1.AQID",
            "vb1.AQID",
            "key=vbk1.x",
            "a=b;k=%76b%31%2eAQ",
            "x=VB1.A",
            "t==vb1.A",
            "t=%20vb1.A",
            "t%3Dvb1.A",
        ] {
            let refused = refusal(&format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(refused, Refusal::TokenInUrl, "{query}");
        }
        for query in
            ["tokens=a", "a=token", "%", "%7", "%zz=token", "x=%74oken", "", "x=vb1", "x=vb2.AQ", "x=a.vb1.A"]
        {
            let head = format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(Request::parse(head.as_bytes()).is_ok(), "{query}");
        }
    }
}
