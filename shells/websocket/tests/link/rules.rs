//! What a server says to those who break the rules of RFC 6455, and what becomes of their connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use visorbus_hub::{OwnedMessage, OwnedPayload};

use crate::home::Home;

/// A client that writes what it likes.
struct Raw(TcpStream);

impl Raw {
    fn new(home: &Home) -> Self {
        Self::speaking(home, "visorbus.v1.postcard")
    }

    fn speaking(home: &Home, protocol: &str) -> Self {
        let address = home.server.local_addr().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: localhost:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n",
            address.port()
        )
        .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        Self(stream)
    }

    fn send(&mut self, bytes: &[u8]) -> &mut Self {
        // It may have hung up already.
        let _ = self.0.write_all(bytes);
        self
    }

    /// A frame under a mask of zeros.
    fn frame(&mut self, first: u8, payload: &[u8]) -> &mut Self {
        let len = u8::try_from(payload.len()).unwrap();
        assert!(len < 126);
        self.send(&[&[first, 0x80 | len, 0, 0, 0, 0], payload].concat())
    }

    /// The first byte and the payload of the next frame.
    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.0.read_exact(&mut len).unwrap();
                usize::from(u16::from_be_bytes(len))
            }
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }

    /// The code of the close frame, which comes behind nothing but messages, and after it the end.
    fn closed(&mut self) -> u16 {
        loop {
            match self.next() {
                (0x88, payload) => {
                    let mut rest = Vec::new();
                    match self.0.read_to_end(&mut rest) {
                        Ok(_) => assert_eq!(rest, b"", "nothing comes after the close"),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                    }
                    return payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                }
                (0x81 | 0x82 | 0x89 | 0x8a, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Ends this end's side, so that the server need not wait for it.
    fn closes(mut self) -> u16 {
        // The server may have hung up already.
        let _ = self.0.shutdown(std::net::Shutdown::Write);
        self.closed()
    }
}

#[test]
fn frames_that_break_a_rule_end_the_connection_with_the_code_that_says_so() {
    let home = Home::plain();
    let cases: &[(&str, &[u8], u16)] = &[
        ("unmasked", &[0x82, 1, 7], 1002),
        ("reserved bit 1", &[0xc2, 0x81, 0, 0, 0, 0, 7], 1002),
        ("reserved bit 2", &[0xa2, 0x81, 0, 0, 0, 0, 7], 1002),
        ("reserved bit 3", &[0x92, 0x81, 0, 0, 0, 0, 7], 1002),
        ("opcode 3", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("opcode 11", &[0x8b, 0x80, 0, 0, 0, 0], 1002),
        ("a fragmented ping", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        ("a long ping", &[0x89, 0xfe, 0, 126, 0, 0, 0, 0], 1002),
        ("nothing to continue", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("unfinished", &[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0], 1002),
        ("a length in a long form", &[0x82, 0xfe, 0, 1, 0, 0, 0, 0, 7], 1002),
        ("a length beyond all", &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("text", &[0x81, 0x81, 0, 0, 0, 0, b'x'], 1003),
        ("too long", &[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0], 1009),
        ("half a code", &[0x88, 0x81, 0, 0, 0, 0, 3], 1002),
        ("close code 1005", &[0x88, 0x82, 0, 0, 0, 0, 3, 0xed], 1002),
        ("close code 999", &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe7], 1002),
        ("a reason that is no UTF-8", &[0x88, 0x83, 0, 0, 0, 0, 3, 0xe8, 0xff], 1007),
        ("an empty message", &[0x82, 0x80, 0, 0, 0, 0], 1002),
    ];
    for (name, bytes, code) in cases {
        let mut raw = Raw::new(&home);
        raw.send(bytes);
        assert_eq!(raw.closes(), *code, "{name}");
    }
    let cases: &[(&str, &[u8], u16)] = &[
        ("binary", &[0x82, 0x81, 0, 0, 0, 0, b'x'], 1003),
        ("no UTF-8", &[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("no UTF-8 in a fragment", &[0x01, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("cut off within a character", &[0x01, 0x81, 0, 0, 0, 0, 0xc3, 0x80, 0x80, 0, 0, 0, 0], 1007),
    ];
    for (name, bytes, code) in cases {
        let mut raw = Raw::speaking(&home, "visorbus.v1.json");
        raw.send(bytes);
        assert_eq!(raw.closes(), *code, "{name}");
    }
    assert_eq!(home.echoed(), 0);
}

#[test]
fn who_goes_on_sending_after_a_mistake_still_reads_why() {
    let home = Home::plain();
    let mut raw = Raw::new(&home);
    raw.send(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0]);
    for _ in 0..64 {
        raw.send(&[7; 65_536]);
    }
    assert_eq!(raw.closes(), 1009);
}

#[test]
fn fragments_without_content_come_to_an_end() {
    let home = Home::plain();
    let mut raw = Raw::new(&home);
    raw.frame(0x02, &[]);
    for _ in 0..300 {
        raw.frame(0x00, &[]);
    }
    assert_eq!(raw.closes(), 1008);
}

#[test]
fn a_ping_is_answered_between_the_fragments_of_a_message() {
    let home = Home::plain();
    let mut raw = Raw::new(&home);
    raw.frame(0x02, &[1]).frame(0x89, b"there?").frame(0x00, &[]).frame(0x89, b"").frame(0x8a, b"unasked");
    assert_eq!(raw.next(), (0x8a, b"there?".to_vec()));
    assert_eq!(raw.next(), (0x8a, Vec::new()));
    raw.frame(0x88, &[3, 0xe9]);
    assert_eq!(raw.closed(), 1001);
}

#[test]
fn bytes_that_come_one_at_a_time_are_put_together() {
    let home = Home::plain();
    let mut raw = Raw::new(&home);
    raw.0.set_nodelay(true).unwrap();
    for byte in [0x89, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3] {
        raw.send(&[byte]);
    }
    assert_eq!(raw.next(), (0x8a, b"abc".to_vec()));
}

#[test]
fn a_close_is_answered_with_its_own_code() {
    let home = Home::plain();
    for code in [1000_u16, 1001, 1008, 1011, 3000, 4999] {
        let mut raw = Raw::new(&home);
        raw.frame(0x88, &code.to_be_bytes());
        assert_eq!(raw.closed(), code);
    }
    let mut raw = Raw::new(&home);
    raw.frame(0x88, &[]);
    assert_eq!(raw.closed(), 0);
}

#[test]
fn who_does_not_prove_itself_in_time_is_told_by_a_close() {
    let home = Home::with(|hub| hub.limits.handshake_ms = 50, |_, _| {});
    // It does not answer the close, and is hung up on all the same.
    assert_eq!(Raw::new(&home).closed(), 1008);
}

#[test]
fn who_finds_no_room_is_told_to_try_later() {
    let home = Home::with(|hub| hub.limits.max_peers = 1, |_, _| {});
    let first = home.client("first");
    first.connect().unwrap();
    first.authenticate(&home.token("first")).unwrap();
    assert_eq!(Raw::new(&home).closed(), 1013);
    let request = OwnedMessage::request("echo/a", OwnedPayload::Empty);
    first.send_request(&request, Some(Duration::from_secs(10))).unwrap();
}

#[test]
fn where_there_is_no_room_the_oldest_who_has_not_authenticated_is_told_to_try_later() {
    let home = Home::with(|hub| hub.limits.max_peers = 1, |_, _| {});
    let mut first = Raw::new(&home);
    first.frame(0x89, b"");
    first.next();
    let mut second = Raw::new(&home);
    second.frame(0x89, b"here");
    assert_eq!(second.next(), (0x8a, b"here".to_vec()));
    assert_eq!(first.closed(), 1013);
}

#[test]
fn a_hub_that_stops_says_that_it_goes_away() {
    let mut home = Home::plain();
    let mut raw = Raw::new(&home);
    raw.frame(0x89, b"");
    raw.next();
    home.server.stop().unwrap();
    assert_eq!(raw.closed(), 1001);
}
