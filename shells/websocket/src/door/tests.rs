//! The door with real sockets and real TLS, attacked from many addresses: 127.0.0.0/8 has enough of them.

mod live;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tungstenite::client::IntoClientRequest as _;

use visorbus_hub::{HubLink, Listener as _, Origin};

use super::*;
use crate::{Pages, TlsClientConfig, TlsConfig, WebSocketConfig, WebSocketListener};

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
}

fn open(config: WebSocketConfig) -> WebSocketListener {
    WebSocketListener::bind("127.0.0.1:0", config).unwrap()
}

/// A connection from an address of our choice.
fn come_from(last: u8, listener: &WebSocketListener) -> TcpStream {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let here = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, last), 0));
    bind(fd.as_raw_fd(), &here).unwrap();
    let SocketAddr::V4(there) = listener.local_addr() else { unreachable!() };
    connect(fd.as_raw_fd(), &SockaddrIn::from(there)).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn come(listener: &WebSocketListener) -> TcpStream {
    come_from(1, listener)
}

/// All that comes until the other end closes.
fn rest(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ask(listener: &WebSocketListener, request: &str) -> String {
    let mut stream = come(listener);
    stream.write_all(request.as_bytes()).unwrap();
    rest(stream)
}

fn upgrade(listener: &WebSocketListener, more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: visorbus.v1.json\r\n{more}\r\n",
        listener.local_addr()
    )
}

/// Reads an answer up to its empty line.
fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Opens a WebSocket as a good client does and takes the hub's end of it.
fn open_socket(listener: &mut WebSocketListener, last: u8) -> (TcpStream, Box<dyn HubLink>) {
    let mut stream = come_from(last, listener);
    stream.write_all(upgrade(listener, "").as_bytes()).unwrap();
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    (stream, taken(listener))
}

/// The next connection that the door hands on.
fn taken(listener: &mut WebSocketListener) -> Box<dyn HubLink> {
    loop {
        let mut ready = [PollFd::new(listener.fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(20_000_u16)).unwrap(), 1, "a connection is handed on");
        // Like any level-triggered source it may be ready in vain once, and not again.
        if let Some(link) = listener.accept().unwrap() {
            return link;
        }
    }
}

/// Waits until the door has counted something, which it does beside us.
fn wait_for(listener: &WebSocketListener, what: impl Fn(&DoorStats) -> bool) {
    let start = Instant::now();
    while !what(&listener.door().stats()) {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", listener.door().stats());
        std::thread::yield_now();
    }
}

/// A certificate for localhost that vouches for itself, in `directory`.
fn certify(directory: &Path) -> (TlsConfig, CertificateDer<'static>) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.join("hub.pem"), directory.join("hub.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&key).unwrap();
    file.write_all(made.signing_key.serialize_pem().as_bytes()).unwrap();
    (TlsConfig::new(cert, key), made.cert.der().clone())
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn tls(stream: TcpStream, config: Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

fn trusting(config: &TlsConfig) -> Arc<ClientConfig> {
    TlsClientConfig::with_ca(&config.cert_path).load().unwrap()
}

fn request(listener: &WebSocketListener, protocol: &str) -> tungstenite::handshake::client::Request {
    let port = listener.local_addr().port();
    let mut request = format!("ws://localhost:{port}/").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    request
}

#[test]
fn whoever_is_turned_away_reads_why_and_the_hub_hears_nothing() {
    let mut listener = open(config());
    let host = listener.local_addr();
    for (request, status, text, reason) in [
        (upgrade(&listener, "Origin: http://evil.example\r\n"), "403", "http://evil.example", Reason::Origin),
        (upgrade(&listener, "Origin: null\r\n"), "403", "'null'", Reason::Origin),
        (
            upgrade(&listener, "").replace(&host.to_string(), "evil.example"),
            "403",
            "evil.example",
            Reason::Host,
        ),
        (
            upgrade(&listener, "").replace("GET / ", "GET /?token=vb1.x "),
            "400",
            "first message",
            Reason::TokenInUrl,
        ),
        (upgrade(&listener, "").replace("GET", "POST"), "405", "GET and HEAD", Reason::Method),
        (
            upgrade(&listener, "").replace("v1.json", "v9.json"),
            "400",
            "visorbus.v1.postcard",
            Reason::Subprotocol,
        ),
        (upgrade(&listener, "").replace("Version: 13", "Version: 8"), "426", "version 13", Reason::Upgrade),
        (upgrade(&listener, "").replace("\r\n", "\n"), "400", "CR LF", Reason::Malformed),
        (upgrade(&listener, "") + "early", "400", "before it is answered", Reason::Malformed),
        (upgrade(&listener, &format!("X: {}\r\n", "y".repeat(9000))), "431", "8192", Reason::HeadTooLong),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "426", "ws://", Reason::NotFound),
        ("\u{1}\u{2}".to_owned(), "400", "no HTTP", Reason::Malformed),
    ] {
        let before = listener.door().stats().refused(reason);
        let answer = ask(&listener, &request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(text),
            "{request}: {answer}"
        );
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        assert_eq!(listener.door().stats().refused(reason), before + 1, "{request}");
    }
    assert!(listener.accept().unwrap().is_none());
    assert_eq!(listener.door().stats().upgraded, 0);
}

#[test]
fn the_answer_arrives_though_the_request_was_not_read_to_its_end() {
    let listener = open(config());
    for _ in 0..20 {
        let mut stream = come(&listener);
        stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        // The door may have closed already.
        let _ = stream.write_all(&[b'x'; 50_000]);
        let answer = rest(stream);
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.ends_with("served here\n"), "{answer}");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_opens_a_websocket() {
    let mut listener = open(config());
    let mut stream = come(&listener);
    stream.set_nodelay(true).unwrap();
    for byte in upgrade(&listener, "").into_bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(head(&mut stream).contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    let link = taken(&mut listener);
    assert_eq!(link.origin(), Origin::WebSocket { address: stream.local_addr().unwrap(), tls: false });
    assert!(listener.accept().unwrap().is_none());
    assert_eq!((listener.door().stats().upgraded, listener.door().stats().pending), (1, 0));
}

#[test]
fn a_head_that_never_ends_is_ended() {
    let mut config = config();
    config.door.handshake = Duration::from_millis(200);
    let listener = open(config);
    let mut stream = come(&listener);
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let (start, mut answer) = (Instant::now(), Vec::new());
    // A byte every few milliseconds, which never let the connection be idle.
    while answer.is_empty() && start.elapsed() < Duration::from_secs(20) {
        let _ = stream.write_all(b"X");
        let mut some = [0; 4096];
        if let Ok(count) = stream.read(&mut some) {
            answer.extend(&some[..count]);
        }
    }
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408 "), "{answer:?}");
    assert_eq!(listener.door().stats().refused(Reason::Late), 1);
}

#[test]
fn who_says_nothing_is_closed_in_time_with_tls_and_without() {
    let directory = tempfile::tempdir().unwrap();
    let mut with_tls = config();
    with_tls.tls = Some(certify(directory.path()).0);
    for mut config in [config(), with_tls] {
        config.door.handshake = Duration::from_millis(200);
        let listener = open(config);
        for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
            let mut stream = come(&listener);
            stream.write_all(begun).unwrap();
            rest(stream);
        }
        wait_for(&listener, |stats| stats.pending == 0);
        assert_eq!(listener.door().stats().upgraded, 0);
    }
}

#[test]
fn a_thousand_silent_ones_of_one_address_shut_nobody_else_out() {
    let mut listener = open(config());
    let silent: Vec<_> = (0..1000).map(|_| come_from(2, &listener)).collect();
    let (_stream, link) = open_socket(&mut listener, 1);
    assert!(link.fd().is_some());
    wait_for(&listener, |stats| stats.accepted == 1001);
    let stats = listener.door().stats();
    assert_eq!((stats.pending, stats.refused(Reason::Address)), (32, 968));
    drop(silent);
    wait_for(&listener, |stats| stats.pending == 0);
    open_socket(&mut listener, 2);
}

#[test]
fn a_thousand_silent_ones_of_many_addresses_shut_nobody_else_out() {
    let mut listener = open(config());
    let silent: Vec<_> =
        (0..1200_u32).map(|at| come_from(u8::try_from(10 + at % 40).unwrap(), &listener)).collect();
    for _ in 0..20 {
        open_socket(&mut listener, 1);
    }
    let stats = listener.door().stats();
    assert!(stats.pending <= 512 && stats.refused(Reason::Busy) > 0, "{stats:?}");
    drop(silent);
}

#[test]
fn silent_ones_of_ones_own_address_shut_nobody_out() {
    let mut listener = open(config());
    let mut silent: Vec<_> = (0..100).map(|_| come_from(1, &listener)).collect();
    for round in 0..50_usize {
        // They come again as they are closed, and some have begun to say something.
        silent.splice(..8, (0..8).map(|_| come_from(1, &listener)).collect::<Vec<_>>());
        let _ = silent[round].write_all(&b"GET / HTTP/1.1\r\n"[..round % 17]);
        open_socket(&mut listener, 1);
    }
    assert_eq!(listener.door().stats().upgraded, 50);
}

#[test]
fn silent_ones_of_ones_own_address_shut_nobody_out_of_tls() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    let certificate = certify(directory.path()).0;
    config.tls = Some(certificate.clone());
    let mut listener = open(config);
    let mut silent: Vec<_> = (0..100).map(|_| come_from(1, &listener)).collect();
    for _ in 0..10 {
        silent.splice(..8, (0..8).map(|_| come_from(1, &listener)).collect::<Vec<_>>());
        let stream = tls(come(&listener), trusting(&certificate));
        tungstenite::client(request(&listener, "visorbus.v1.json"), stream).unwrap();
        taken(&mut listener);
    }
}

#[test]
fn those_who_do_not_read_their_page_shut_nobody_of_their_address_out() {
    let mut config = config();
    config.pages = Pages::new().with("/large", "text/plain", vec![b'x'; 8_000_000]);
    let mut listener = open(config);
    let lazy: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = come(&listener);
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    wait_for(&listener, |stats| stats.accepted == 40 && stats.pages >= 32);
    // They have more time left than who has just come; who comes after him does not drive him out all the same.
    let mut good = come(&listener);
    let _more: Vec<_> = (0..20).map(|_| come(&listener)).collect();
    wait_for(&listener, |stats| stats.accepted == 61);
    good.write_all(upgrade(&listener, "").as_bytes()).unwrap();
    assert!(head(&mut good).starts_with("HTTP/1.1 101 "));
    taken(&mut listener);
    drop(lazy);
}

#[test]
fn an_address_has_so_many_connections_and_gets_them_back() {
    let mut config = config();
    config.door.connections_per_address = 2;
    let mut listener = open(config);
    let (mut first, mut second) = (open_socket(&mut listener, 1), open_socket(&mut listener, 1));
    first.1.admit();
    second.1.admit();
    for sent in ["", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let refused = ask(&listener, sent);
        assert!(
            refused.starts_with("HTTP/1.1 503 ") && refused.contains("too many connections"),
            "{refused}"
        );
    }
    open_socket(&mut listener, 2);
    drop(second);
    open_socket(&mut listener, 1);
    assert_eq!(listener.door().stats().refused(Reason::Address), 2);
}

#[test]
fn who_is_one_too_many_is_closed_over_tls_before_it_costs_a_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    let certificate = certify(directory.path()).0;
    config.tls = Some(certificate.clone());
    config.door.connections_per_address = 1;
    let mut listener = open(config);
    let stream = tls(come(&listener), trusting(&certificate));
    let _socket = tungstenite::client(request(&listener, "visorbus.v1.json"), stream).unwrap();
    let mut link = taken(&mut listener);
    link.admit();
    assert_eq!(rest(come(&listener)), "");
    assert_eq!((listener.door().stats().refused(Reason::Address), listener.door().stats().pending), (1, 0));
    link.receive(&mut visorbus_hub::ReceiveBuffer::default()).unwrap();
}

#[test]
fn websockets_of_strangers_go_for_others_of_their_address_and_the_admitted_stay() {
    let mut config = config();
    config.door.connections_per_address = 4;
    let mut listener = open(config);
    let mut admitted = open_socket(&mut listener, 1);
    admitted.1.admit();
    let mut strangers: Vec<_> = (0..3).map(|_| open_socket(&mut listener, 1)).collect();
    for _ in 0..3 {
        let newcomer = open_socket(&mut listener, 1);
        let (mut stream, mut link) = strangers.remove(0);
        let mut ready = [PollFd::new(link.fd().unwrap(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(20_000_u16)).unwrap(), 1, "it is to be looked at");
        let gone = link.receive(&mut visorbus_hub::ReceiveBuffer::default()).unwrap_err();
        assert!(gone.to_string().contains("has not authenticated"), "{gone}");
        drop(link);
        let mut last = Vec::new();
        stream.read_to_end(&mut last).unwrap();
        assert_eq!((last[0], &last[2..4]), (0x88, &1013_u16.to_be_bytes()[..]), "{last:?}");
        strangers.push(newcomer);
    }
    for (_, link) in &mut strangers {
        link.admit();
    }
    assert!(ask(&listener, "").starts_with("HTTP/1.1 503 "), "all four are somebody");
    for (_, link) in strangers.iter_mut().chain([&mut admitted]) {
        link.receive(&mut visorbus_hub::ReceiveBuffer::default()).unwrap();
    }
}

#[test]
fn what_the_hub_has_not_taken_ends_with_the_listener() {
    let listener = open(config());
    let door = listener.door();
    let mut stream = come(&listener);
    stream.write_all(upgrade(&listener, "").as_bytes()).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 101 "));
    wait_for(&listener, |stats| stats.upgraded == 1);
    drop(listener);
    let mut last = Vec::new();
    stream.read_to_end(&mut last).unwrap();
    assert_eq!((last[0], &last[2..4]), (0x88, &1001_u16.to_be_bytes()[..]), "{last:?}");
    drop(door);
}

#[test]
fn a_person_is_told_that_the_port_speaks_tls() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.tls = Some(certify(directory.path()).0);
    let listener = open(config);
    let answer = ask(&listener, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https:// or wss://"), "{answer}");
    assert_eq!(ask(&listener, "\u{1}\u{2}\u{3}"), "");
    assert_eq!(listener.door().stats().refused(Reason::Tls), 2);
}

#[test]
fn clients_open_both_subprotocols_with_tls_and_without() {
    let directory = tempfile::tempdir().unwrap();
    let mut plain = open(config());
    let mut secure = config();
    let certificate = certify(directory.path()).0;
    secure.tls = Some(certificate.clone());
    let mut secure = open(secure);
    for protocol in ["visorbus.v1.postcard", "visorbus.v1.json"] {
        let (_socket, answer) = tungstenite::client(request(&plain, protocol), come(&plain)).unwrap();
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], protocol);
        assert!(matches!(taken(&mut plain).origin(), Origin::WebSocket { tls: false, .. }));
        let stream = tls(come(&secure), trusting(&certificate));
        let (_socket, answer) = tungstenite::client(request(&secure, protocol), stream).unwrap();
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], protocol);
        assert!(matches!(taken(&mut secure).origin(), Origin::WebSocket { tls: true, .. }));
    }
}

#[test]
fn a_client_without_a_certificate_is_turned_away_where_one_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    let mut certificate = certify(directory.path()).0;
    certificate.ca_cert_path = Some(certificate.cert_path.clone());
    config.tls = Some(certificate.clone());
    let mut listener = open(config);
    let stream = tls(come(&listener), trusting(&certificate));
    assert!(tungstenite::client(request(&listener, "visorbus.v1.json"), stream).is_err());
    wait_for(&listener, |stats| stats.refused(Reason::Tls) == 1);
    assert!(listener.accept().unwrap().is_none());
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_the_old_ones_stay() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    let (certificate, first) = certify(directory.path());
    config.tls = Some(certificate.clone());
    let mut listener = open(config);
    let shown = |listener: &WebSocketListener| {
        let client = TlsClientConfig { danger_skip_verification: true, ..TlsClientConfig::default() };
        let stream = tls(come(listener), client.load().unwrap());
        let (socket, _) = tungstenite::client(request(listener, "visorbus.v1.json"), stream).unwrap();
        let shown = socket.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned();
        (shown, socket)
    };
    let (before, old) = shown(&listener);
    let link = taken(&mut listener);
    assert_eq!(before, first);
    std::fs::write(&certificate.cert_path, "no certificate").unwrap();
    assert!(listener.door().reload_tls().is_err());
    assert_eq!(shown(&listener).0, first);
    let (_, second) = certify(directory.path());
    listener.door().reload_tls().unwrap();
    assert_eq!(shown(&listener).0, second);
    assert!(link.fd().is_some());
    old.get_ref().sock.set_nonblocking(true).unwrap();
    let still = old.get_ref().sock.peek(&mut [0; 1]);
    assert!(
        still.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            || still.is_ok_and(|n| n > 0)
    );
}

#[test]
fn pages_are_served_once_to_a_browser_that_keeps_them() {
    let mut config = config();
    config.pages = Pages::new().with("/", "text/html; charset=utf-8", &b"<p>hello"[..]);
    let listener = open(config);
    let first = ask(&listener, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.ends_with("\r\n\r\n<p>hello"), "{first}");
    let tag = first.split("ETag: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let again = ask(&listener, &format!("GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {tag}\r\n\r\n"));
    assert!(again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"), "{again}");
    let head = ask(&listener, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.contains("Content-Length: 8\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let rebound = ask(&listener, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 403 ") && !rebound.contains("hello"), "{rebound}");
    assert_eq!(listener.door().stats().pages, 3);
}

#[test]
fn a_large_page_arrives_whole_over_tls_and_who_does_not_read_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    let certificate = certify(directory.path()).0;
    config.tls = Some(certificate.clone());
    config.door.answer = Duration::from_secs(2);
    let large: Vec<u8> = (0..8_000_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    config.pages = Pages::new().with("/large", "text/plain", large.clone());
    let listener = open(config);
    let request = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut lazy = tls(come_from(2, &listener), trusting(&certificate));
    lazy.write_all(request).unwrap();
    wait_for(&listener, |stats| stats.pages == 1);
    let mut eager = tls(come(&listener), trusting(&certificate));
    eager.write_all(request).unwrap();
    head(&mut eager);
    let mut body = Vec::new();
    eager.read_to_end(&mut body).unwrap();
    assert!(body == large, "{} of {} bytes", body.len(), large.len());
    wait_for(&listener, |stats| stats.refused(Reason::Late) == 1 && stats.pending == 0);
}

#[test]
fn a_port_can_be_used_again_at_once() {
    let mut listener = open(config());
    let address = listener.local_addr().to_string();
    for _ in 0..3 {
        let (mut stream, link) = open_socket(&mut listener, 1);
        let mut silent = come(&listener);
        drop(listener);
        assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
        // Ours closes first, as a server's does that stops, which is what keeps a port from being used again.
        drop(link);
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        listener = WebSocketListener::bind(&address, config()).unwrap();
    }
}

#[test]
fn without_tls_only_this_machine_is_listened_to_unless_said_otherwise() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "8.8.8.8:1"] {
        let refused = WebSocketListener::bind(address, config()).unwrap_err();
        assert!(
            matches!(&refused, visorbus_hub::Error::Authorization(text) if text.contains("allow_plaintext_network")),
            "{refused}"
        );
    }
    for address in ["127.0.0.1:0", "127.0.0.9:0", "localhost:0"] {
        WebSocketListener::bind(address, config()).unwrap();
    }
    let mut open = config();
    open.allow_plaintext_network = true;
    WebSocketListener::bind("0.0.0.0:0", open).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut secure = config();
    secure.tls = Some(certify(directory.path()).0);
    WebSocketListener::bind("0.0.0.0:0", secure).unwrap();
    for wrong in ["", "127.0.0.1", "nowhere.invalid:1", "127.0.0.1:99999"] {
        assert!(
            matches!(WebSocketListener::bind(wrong, config()), Err(visorbus_hub::Error::Message(_))),
            "{wrong}"
        );
    }
}

#[test]
fn a_hub_that_takes_nobody_is_not_handed_ever_more() {
    let mut listener = open(config());
    let mut held = Vec::new();
    for at in 0..256_u32 {
        let mut stream = come_from(u8::try_from(1 + at % 10).unwrap(), &listener);
        stream.write_all(upgrade(&listener, "").as_bytes()).unwrap();
        assert!(head(&mut stream).starts_with("HTTP/1.1 101 "));
        held.push(stream);
    }
    wait_for(&listener, |stats| stats.upgraded == 256 && stats.pending == 0);
    let refused = ask(&listener, &upgrade(&listener, ""));
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After: 5\r\n"), "{refused}");
    drop(taken(&mut listener));
    assert!(
        head(&mut {
            let mut stream = come(&listener);
            stream.write_all(upgrade(&listener, "").as_bytes()).unwrap();
            stream
        })
        .starts_with("HTTP/1.1 101 ")
    );
}

#[test]
fn the_address_of_a_connection_is_a_host_also_where_all_addresses_are_listened_to() {
    let mut config = config();
    config.allow_plaintext_network = true;
    let listener = WebSocketListener::bind("0.0.0.0:0", config).unwrap();
    let port = listener.local_addr().port();
    let ask = |host: &str| {
        let mut stream = TcpStream::connect(("127.0.0.7", port)).unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        rest(stream)
    };
    assert!(ask(&format!("127.0.0.7:{port}")).starts_with("HTTP/1.1 426 "));
    assert!(ask("127.0.0.8").starts_with("HTTP/1.1 403 "));
    assert!(ask("0.0.0.0").starts_with("HTTP/1.1 403 "));
}
