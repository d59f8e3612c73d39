//! What comes before there is a WebSocket: requests that lie, requests that never end, secrets where they do not belong.

use std::time::{Duration, Instant};

use visorbus_tests::certificates::Certificates;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_websocket::{RawWebSocket, Upgrade};
use visorbus_websocket::{Reason, Subprotocol, WebSocketConfig};

use crate::world::World;

#[test]
fn a_request_that_is_not_as_it_must_be_is_answered_counted_and_never_reaches_the_hub() {
    let world = World::start();
    let good = || Upgrade::new(world.address(), Subprotocol::Json.as_str());
    let long = "a".repeat(9000);
    let many = (0..70).fold(good(), |head, number| head.also(&format!("X-{number}"), "y"));
    let attacks = [
        (good().with("Origin", "https://evil.example"), 403, Reason::Origin),
        (good().with("Origin", "null"), 403, Reason::Origin),
        (good().with("Origin", "http://localhost:1"), 403, Reason::Origin),
        (good().with("Origin", &format!("https://{}", world.address())), 403, Reason::Origin),
        (good().with("Host", "evil.example"), 403, Reason::Host),
        (good().with("Host", "evil.example").with("Origin", "http://evil.example"), 403, Reason::Host),
        (good().with("Host", "user@localhost"), 400, Reason::Host),
        (good().without("Host"), 400, Reason::Host),
        (good().also("Host", &world.address().to_string()), 400, Reason::Malformed),
        (good().also("host", "evil.example"), 400, Reason::Malformed),
        (good().also("Origin", "http://a").also("Origin", "http://b"), 400, Reason::Malformed),
        (good().also("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), 400, Reason::Malformed),
        (good().also("Sec-WebSocket-Version", "13"), 400, Reason::Malformed),
        (good().also("Content-Length", "4"), 400, Reason::Malformed),
        (good().also("Transfer-Encoding", "chunked"), 400, Reason::Malformed),
        (good().with_line("GET http://evil.example/ HTTP/1.1"), 400, Reason::Malformed),
        (good().with_line("GET / HTTP/1.0"), 505, Reason::Malformed),
        (good().with_line("POST / HTTP/1.1"), 405, Reason::Method),
        (good().with_line("CONNECT evil.example:443 HTTP/1.1"), 405, Reason::Method),
        (good().with_line("GET /../../etc/passwd HTTP/1.1"), 404, Reason::NotFound),
        (good().with_line("GET /?token=vb1.abc HTTP/1.1"), 400, Reason::TokenInUrl),
        (good().with_line("GET /?x=1&access%5Ftoken=vb1.abc HTTP/1.1"), 400, Reason::TokenInUrl),
        (good().with("Sec-WebSocket-Version", "8"), 426, Reason::Upgrade),
        (good().with("Sec-WebSocket-Key", "short"), 400, Reason::Upgrade),
        (good().without("Upgrade"), 400, Reason::Upgrade),
        (good().with("Sec-WebSocket-Protocol", "visorbus.v0.json"), 400, Reason::Subprotocol),
        (good().without("Sec-WebSocket-Protocol"), 400, Reason::Subprotocol),
        (good().also("X-Long", &long), 431, Reason::HeadTooLong),
        (good().with_line(&format!("GET /{long} HTTP/1.1")), 431, Reason::HeadTooLong),
        (many, 431, Reason::HeadTooLong),
    ];
    for (request, status, reason) in attacks {
        let before = world.turned_away(reason);
        let mut attacker = RawWebSocket::connect(world.address());
        let answer = attacker.ask(&request.to_bytes());
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
        assert!(answer.body.len() > 10 && !answer.body.contains("vb1."), "{answer:?}");
        assert_eq!(attacker.read_to_end(), b"", "nothing follows the answer to {request:?}");
        assert_eq!(world.turned_away(reason), before + 1, "{request:?}");
    }
    assert_eq!((world.stats().upgraded, world.handle.peers().unwrap().len()), (0, 1));
    world.is_unharmed();
}

#[test]
fn bytes_that_two_readers_would_understand_differently_are_refused() {
    let world = World::start();
    let good = String::from_utf8(Upgrade::new(world.address(), "visorbus.v1.json").to_bytes()).unwrap();
    let attacks = [
        good.replace("\r\n", "\n"),
        good.replacen("\r\n", "\n", 1),
        good.replace("Upgrade: ", "Upgrade : "),
        good.replace("Upgrade: websocket", "X: y\r\n Upgrade: websocket"),
        good.replace("Host: ", "Host:\0"),
        good.replace("Host: ", "H\u{f6}st: x\r\nHost: "),
    ];
    for request in attacks {
        let answer = RawWebSocket::connect(world.address()).ask(request.as_bytes());
        assert_eq!(answer.status, 400, "{request:?}");
    }
    assert_eq!((world.stats().upgraded, world.turned_away(Reason::Malformed)), (0, 6));
    world.is_unharmed();
}

/// Frames behind the request could be a second request to whoever reads them otherwise.
#[test]
fn nothing_may_follow_the_request_before_it_is_answered() {
    let world = World::start();
    let upgrade = Upgrade::new(world.address(), "visorbus.v1.json").to_bytes();
    let smuggled = [&upgrade[..], &upgrade].concat();
    let answer = RawWebSocket::connect(world.address()).ask(&smuggled);
    assert_eq!((answer.status, world.stats().upgraded), (400, 0));
    world.is_unharmed();
}

#[test]
fn compression_that_is_offered_is_not_agreed_on() {
    let world = World::start();
    let offers = "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame";
    let upgrade = Upgrade::new(world.address(), "visorbus.v1.json").also("Sec-WebSocket-Extensions", offers);
    // It asserts that the answer has no extension.
    RawWebSocket::connect(world.address()).upgrade(&upgrade);
}

/// A byte now and then keeps no place at the door, be it of a head, of TLS, or of a head within TLS.
#[test]
fn who_goes_on_saying_little_is_not_waited_for() {
    let certificates = Certificates::in_files();
    let (plain, secure) =
        (World::with(impatient(WebSocketConfig::default())), World::with(impatient(certificates.port())));
    let head = Upgrade::new(plain.address(), "visorbus.v1.json").to_bytes();
    let started = Instant::now();
    let answer = trickle(&mut RawWebSocket::connect(plain.address()), &head, started);
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());

    let started = Instant::now();
    let answer = trickle(&mut RawWebSocket::connect(secure.address()), &client_hello(), started);
    assert_eq!(answer, b"", "nothing can be said that would be understood");

    let started = Instant::now();
    let answer = trickle(&mut certificates.connect(secure.address()), &head, started);
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());

    for (world, late) in [(&plain, 1), (&secure, 2)] {
        assert_eq!((world.turned_away(Reason::Late), world.stats().upgraded), (late, 0));
        world.wait_for_door(|stats| stats.pending == 0);
        world.is_unharmed();
    }
}

#[test]
fn http_without_tls_on_a_port_with_tls_is_told_and_anything_else_is_dropped() {
    let world = World::with(Certificates::in_files().port());
    let mut attacker = RawWebSocket::connect(world.address());
    let answer = attacker.ask(&Upgrade::new(world.address(), "visorbus.v1.json").to_bytes());
    assert!(answer.status == 400 && answer.body.contains("wss://"), "{answer:?}");
    // An SSL 2 hello, another protocol's banner, nothing that means anything.
    for bytes in
        [&b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"[..], b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"]
    {
        let mut attacker = RawWebSocket::connect(world.address());
        attacker.try_write(bytes);
        assert_eq!(attacker.read_to_end(), b"", "{}", bytes.escape_ascii());
    }
    assert_eq!((world.turned_away(Reason::Tls), world.stats().upgraded), (4, 0));
    world.is_unharmed();
}

/// Says a byte every few milliseconds and never the last one, until the server has had enough; what it answered.
fn trickle(attacker: &mut RawWebSocket, bytes: &[u8], started: Instant) -> Vec<u8> {
    for byte in &bytes[..bytes.len() - 1] {
        if !attacker.try_write(&[*byte]) || !attacker.is_quiet_for(Duration::from_millis(10)) {
            break;
        }
    }
    assert!(started.elapsed() < PATIENCE, "it is waited for");
    assert!(started.elapsed() >= HANDSHAKE, "it had no time at all");
    attacker.read_to_end()
}

fn impatient(mut config: WebSocketConfig) -> WebSocketConfig {
    config.door.handshake = HANDSHAKE;
    config
}

/// The beginning of TLS 1.2 and later: a record of a handshake that is to have 512 bytes.
fn client_hello() -> Vec<u8> {
    [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 501]].concat()
}

const HANDSHAKE: Duration = Duration::from_millis(800);
