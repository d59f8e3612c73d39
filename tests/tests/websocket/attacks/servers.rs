//! Servers that are none, or that attack whoever connects: a client neither believes them, nor waits for them, nor grows.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;
use visorbus_tests::raw_websocket::{Frame, Length};
use visorbus_unix::ClientConfig;
use visorbus_websocket::WebSocketClient;

use super::alone::{is_alone, resident};

#[test]
fn an_answer_that_is_no_handshake_is_not_taken_for_one() {
    type Change = fn(String) -> String;
    let changes: [(&str, Change); 10] = [
        ("another key's proof", |answer| answer.replace("Accept: ", "Accept: A")),
        ("no proof", |answer| answer.replace("Sec-WebSocket-Accept", "X-Accept")),
        ("an extension", |answer| {
            answer.replace("Upgrade: w", "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: w")
        }),
        ("another subprotocol", |answer| answer.replace("v1.postcard", "v1.json")),
        ("no subprotocol", |answer| answer.replace("Sec-WebSocket-Protocol", "X-Protocol")),
        ("another version", |answer| answer.replace("HTTP/1.1", "HTTP/1.0")),
        ("another upgrade", |answer| answer.replace("Upgrade: websocket", "Upgrade: h2c")),
        ("a status of success", |answer| {
            answer.replace("101 Switching Protocols", "200 OK\r\nContent-Length: 0")
        }),
        ("a redirection", |answer| {
            answer.replace(
                "101 Switching Protocols",
                "301 Moved\r\nContent-Length: 0\r\nLocation: ws://127.0.0.1:1/",
            )
        }),
        ("no HTTP", |_| "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
    ];
    for (what, change) in changes {
        let url = serve(move |stream, key| {
            let _ = stream.write_all(change(handshake(key)).as_bytes());
            // Who believed it would wait for a hello.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let started = Instant::now();
        let error = connect(&url).expect_err(what);
        assert!(started.elapsed() < TIMEOUT, "{what}: {error}");
    }
}

#[test]
fn a_refusal_of_unknown_length_is_told_at_once_and_a_proxys_own_words_do_no_harm() {
    let url = serve(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nServer: proxy\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = connect(&url).expect_err("there is no hub");
    assert!(error.to_string().contains("502 Bad Gateway"), "{error}");
    let (heard, is_heard) = std::sync::mpsc::channel();
    let url = serve(move |stream, key| {
        let answer = handshake(key).replace("Connection: Upgrade", "Connection: keep-alive, Upgrade");
        let _ = stream.write_all(answer.as_bytes());
        // It went on: the first frame of its hello.
        let _ = heard.send(stream.read(&mut [0; 2]).unwrap_or_default());
    });
    let _ = connect(&url);
    assert_eq!(is_heard.recv_timeout(TIMEOUT).unwrap(), 2);
}

#[test]
fn an_answer_without_an_end_is_not_read_for_ever() {
    if !is_alone("attacks::servers::an_answer_without_an_end_is_not_read_for_ever") {
        return;
    }
    let before = resident();
    let url = serve(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n");
        while stream.write_all(&b"X-Filler: yyyyyyyyyyyyyyyyyyyy\r\n".repeat(100)).is_ok() {}
    });
    let started = Instant::now();
    connect(&url).expect_err("there is no end of it");
    assert!(started.elapsed() < 3 * TIMEOUT, "{:?}", started.elapsed());
    assert!(resident().saturating_sub(before) < 8 << 20);
}

#[test]
fn frames_that_no_server_may_send_end_the_connection() {
    let attacks = [
        Frame::binary("masked"),
        Frame::binary("reserved").unmasked().with_reserved(4),
        Frame::text("text").unmasked(),
        Frame::binary("").unmasked().with_length(Length::Claimed(1 << 40)),
        Frame::ping(vec![0; 126]).unmasked(),
        Frame::continuation("nothing to continue").unmasked(),
    ];
    for attack in attacks {
        let bytes = attack.to_bytes();
        let url = serve(move |stream, key| {
            let answer = handshake(key);
            let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&bytes));
            // A server that means harm does not hang up.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let started = Instant::now();
        let error = connect(&url).expect_err("no hub said hello");
        assert!(started.elapsed() < TIMEOUT, "{attack:?} is noticed at once, not after a while: {error}");
    }
}

/// A server that reads a request and then does this, once; where it is.
fn serve(what: impl FnOnce(&mut TcpStream, &str) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        what(&mut stream, key);
    });
    url
}

/// As a hub answers to this key.
fn handshake(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: visorbus.v1.postcard\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// What a client says that tries.
fn connect(url: &str) -> Result<(), String> {
    let config = ClientConfig { timeout: TIMEOUT, reconnect: false };
    let client = WebSocketClient::with_config(url, "panel", config).unwrap();
    client.connect().map_err(|error| error.to_string())
}

const TIMEOUT: Duration = Duration::from_secs(5);
