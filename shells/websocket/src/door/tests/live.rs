//! Live pages: who asks is told apart, and whatever a page does, the door goes on.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::{DoorLimits, LivePages, PageAnswer};

fn serving(live: LivePages) -> WebSocketListener {
    open(WebSocketConfig { live, ..config() })
}

fn get(listener: &WebSocketListener, path: &str, headers: &str) -> String {
    ask(listener, &request_for(listener, path, headers))
}

fn request_for(listener: &WebSocketListener, path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", listener.local_addr())
}

/// A page that says what it was asked.
fn echo() -> LivePages {
    LivePages::new().with("/echo", |request| {
        let (bearer, path, query) = (request.bearer.unwrap_or("nobody"), request.path, request.query);
        PageAnswer::ok(
            "text/plain",
            format!("{path} {query} {bearer} {} {}", request.peer.ip(), request.is_tls),
        )
    })
}

/// A page that waits until it is let go on, and how.
fn gated() -> (LivePages, std::sync::mpsc::SyncSender<()>) {
    let (release, gate) = sync_channel::<()>(100);
    let gate: Mutex<Receiver<()>> = Mutex::new(gate);
    let pages = echo().with("/slow", move |_| {
        let _ = gate.lock().unwrap().recv_timeout(Duration::from_secs(20));
        PageAnswer::ok("text/plain", "at last")
    });
    (pages, release)
}

#[test]
fn a_page_is_made_for_who_asks_and_kept_by_nobody() {
    let listener = serving(echo());
    let answer = get(&listener, "/echo?a=1", "Authorization: Bearer vb1.AQID\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n/echo a=1 vb1.AQID 127.0.1.1 false"), "{answer}");
    for header in ["Cache-Control: no-store", "X-Content-Type-Options: nosniff", "Connection: close"] {
        assert!(answer.contains(&format!("\r\n{header}\r\n")), "{header}: {answer}");
    }
    assert!(!answer.contains("ETag"));
    let head = ask(&listener, &request_for(&listener, "/echo", "").replacen("GET", "HEAD", 1));
    assert!(head.contains("Content-Length: ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(get(&listener, "/echo", "").contains("nobody"));
    assert!(get(&listener, "/echo/", "").starts_with("HTTP/1.1 404 "));
    assert_eq!(listener.door().stats().pages, 3);
}

#[test]
fn what_a_page_answers_is_what_is_sent() {
    let live = LivePages::new()
        .with("/401", |_| PageAnswer::unauthorized("bring a token"))
        .with("/403", |_| PageAnswer::forbidden("not you"))
        .with("/404", |_| PageAnswer::not_found("not now"))
        .with("/500", |_| PageAnswer::failed("no figures"))
        .with("/503", |_| PageAnswer::unavailable("later"));
    let listener = serving(live);
    for (status, text) in [
        ("401", "bring a token"),
        ("403", "not you"),
        ("404", "not now"),
        ("500", "no figures"),
        ("503", "later"),
    ] {
        let answer = get(&listener, &format!("/{status}"), "");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                && answer.ends_with(&format!("\r\n\r\n{text}\n"))
        );
        assert_eq!(answer.contains("\r\nWWW-Authenticate: Bearer "), status == "401", "{answer}");
        assert_eq!(answer.contains("\r\nRetry-After: "), status == "503", "{answer}");
    }
}

#[test]
fn headers_that_are_doubled_too_long_or_no_token_make_nobody_of_whoever_sent_them() {
    let listener = serving(echo());
    let doubled = get(&listener, "/echo", "Authorization: Bearer a\r\nauthorization: Bearer b\r\n");
    assert!(doubled.starts_with("HTTP/1.1 400 ") && doubled.contains("more than once"), "{doubled}");
    let long = get(&listener, "/echo", &format!("Authorization: Bearer {}\r\n", "a".repeat(9_000)));
    assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
    let longest = "a".repeat(7_000);
    assert!(get(&listener, "/echo", &format!("Authorization: Bearer {longest}\r\n")).contains(&longest));
    for value in ["Basic YTpi", "Bearer", "Bearer a b", "Bearer \"a\"", "Bearer a, Bearer b", "a"] {
        let answer = get(&listener, "/echo", &format!("Authorization: {value}\r\n"));
        assert!(answer.contains(" nobody "), "{value}: {answer}");
    }
    let in_url = get(&listener, "/echo?token=vb1.AQID", "");
    assert!(in_url.starts_with("HTTP/1.1 400 ") && !in_url.contains("vb1"), "{in_url}");
}

#[test]
fn a_page_is_made_for_no_foreign_host_and_no_foreign_site() {
    let listener = serving(LivePages::new().with("/echo", |_| panic!("it is not asked")));
    let foreign = ask(&listener, "GET /echo HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    let site = get(&listener, "/echo", "Origin: http://evil.example\r\n");
    assert!(site.starts_with("HTTP/1.1 403 "), "{site}");
}

#[test]
fn a_page_that_panics_or_answers_what_cannot_be_sent_is_asked_again() {
    let live = echo()
        .with("/panics", |request| match request.query {
            "well" => PageAnswer::ok("text/plain", "all is well"),
            _ => panic!("as the test wants it"),
        })
        .with("/header", |_| PageAnswer::ok("text/plain\r\nSet-Cookie: a=b", ""))
        .with("/huge", |_| PageAnswer::ok("text/plain", vec![b'x'; (4 << 20) + 1]));
    let mut listener = serving(live);
    for path in ["/panics", "/header", "/huge", "/panics"] {
        let answer = get(&listener, path, "");
        assert!(answer.starts_with("HTTP/1.1 500 ") && !answer.contains("Set-Cookie"), "{answer}");
    }
    assert!(get(&listener, "/panics?well", "").ends_with("all is well"));
    assert!(get(&listener, "/echo", "").contains("nobody"));
    open_socket(&mut listener, 2);
}

#[test]
fn a_page_that_waits_holds_up_nobody_but_those_who_want_the_same() {
    let (pages, release) = gated();
    let mut listener = serving(pages);
    let mut asking = |last| {
        let mut stream = come_from(last, &listener);
        stream.write_all(request_for(&listener, "/slow", "").as_bytes()).unwrap();
        stream
    };
    // One is being made, 16 wait, and two are too many, or three where the first is not being made yet.
    let waiting: Vec<TcpStream> = (10..29).map(&mut asking).collect();
    wait_for(&listener, |stats| stats.refused(Reason::Busy) >= 2);
    assert!(get(&listener, "/echo", "").contains("nobody"), "another page");
    let _socket = open_socket(&mut listener, 2);
    for _ in 0..20 {
        release.send(()).unwrap();
    }
    let answers: Vec<String> = waiting.into_iter().map(rest).collect();
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.ends_with("at last"));
    assert!((16..=17).contains(&made.len()), "{answers:?}");
    assert!(refused.iter().all(|answer| answer.starts_with("HTTP/1.1 503 ")), "{answers:?}");
}

#[test]
fn who_waits_too_long_is_told_so_and_what_is_made_then_is_for_nobody() {
    let (pages, release) = gated();
    let door = DoorLimits { answer: Duration::from_millis(200), ..DoorLimits::default() };
    let listener = open(WebSocketConfig { live: pages, door, ..config() });
    let late = get(&listener, "/slow", "");
    assert!(late.starts_with("HTTP/1.1 503 ") && late.contains("\r\nRetry-After: "), "{late}");
    // One who goes away while its page is made costs nothing more.
    let mut gone = come(&listener);
    gone.write_all(request_for(&listener, "/slow", "").as_bytes()).unwrap();
    drop(gone);
    release.send(()).unwrap();
    release.send(()).unwrap();
    wait_for(&listener, |stats| stats.pending == 0);
    release.send(()).unwrap();
    assert!(get(&listener, "/slow", "").ends_with("at last"));
}

#[test]
fn the_port_closes_while_a_page_is_never_made() {
    let (pages, _release) = gated();
    let listener = serving(pages);
    let mut stream = come(&listener);
    stream.write_all(request_for(&listener, "/slow", "").as_bytes()).unwrap();
    wait_for(&listener, |stats| stats.pending == 1);
    let start = Instant::now();
    drop(listener);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(rest(stream), "");
}

#[test]
fn over_tls_a_page_knows_that_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, _) = certify(directory.path());
    let client = trusting(&certificate);
    let listener = open(WebSocketConfig { tls: Some(certificate), live: echo(), ..config() });
    let mut stream = tls(come(&listener), client);
    let request = request_for(&listener, "/echo", "Authorization: Bearer x\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    assert!(rest(stream).ends_with("x 127.0.1.1 true"));
}
