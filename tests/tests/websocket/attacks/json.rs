//! Texts that are made to be expensive, or to mean two things.

use std::time::{Duration, Instant};

use visorbus_core::message::MessagePayload;
use visorbus_tests::raw_websocket::Frame;
use visorbus_websocket::Subprotocol;

use super::alone::{is_alone, resident};
use super::frames::leaves;
use crate::world::World;

#[test]
fn a_bomb_in_json_is_refused_by_name_cheaply_and_nobody_runs() {
    let world = World::start();
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let keys: String = (0..60_000).map(|number| format!("\"{number}\":0,")).collect();
    let digits = "9".repeat(900_000);
    let bombs = [
        // What no reader may follow down.
        (format!("{{\"Json\":{}}}", deep("[", "]")), "64"),
        (format!("{{\"Json\":{}}}", deep("{\"a\":", "}")), "64"),
        // Two readers would not agree on what is meant.
        (r#"{"Json":{"a":1,"a":2}}"#.to_owned(), "twice"),
        (r#"{"Json":{"a":1,"\u0061":2}}"#.to_owned(), "twice"),
        (r#"{"String":"harmless"},"payload":{"String":"harm"}"#.to_owned(), "twice"),
        (r#"{"String":"a"},"destination":"echo/y""#.to_owned(), "twice"),
        // Twice at the end of a very long list of keys.
        (format!("{{\"Json\":{{{keys}\"7\":1}}}}"), "twice"),
        // Numbers that are none, or fit nowhere, in fields of the envelope.
        (format!(r#"{{"String":"a"}},"timestamp":{digits}"#), "timestamp"),
        (r#"{"String":"a"},"timestamp":1e400"#.to_owned(), "timestamp"),
        (r#"{"String":"a"},"timestamp":-1"#.to_owned(), "timestamp"),
        (r#"{"String":"a"},"flags":{"timeout_ms":4294967296}"#.to_owned(), "timeout_ms"),
        // What may be meant by nobody.
        (r#"{"String":"\ud800"}"#.to_owned(), "surrogate"),
        (r#"{"String":"a"},"administrator":true"#.to_owned(), "administrator"),
        (r#"{"String":"a"},"source":"../echo""#.to_owned(), "source"),
        (r#"{"String":"a"},"source":"ECHO/x""#.to_owned(), "source"),
        (r#"{"Binary":"not base64"}"#.to_owned(), "base64"),
    ];
    let mut attacker = world.admitted(Subprotocol::Json, "mallory", &["request:echo/*"]);
    for (payload, word) in &bombs {
        let text = format!(
            r#"{{"message_type":"IPC","payload":{{"id":"7","message_type":"Request","destination":"echo/x","payload":{payload}}}}}"#
        );
        let started = Instant::now();
        attacker.socket.send(&Frame::text(text));
        let told = attacker.socket.read_frame().expect("the connection goes on");
        let told = String::from_utf8(told.payload).unwrap();
        assert!(told.starts_with(r#"{"message_type":"Error""#) && told.contains(word), "{word}: {told}");
        assert!(told.len() < 1000, "what was sent is not sent back");
        assert!(started.elapsed() < Duration::from_secs(20), "{word}: {:?}", started.elapsed());
        world.is_unharmed();
    }
    // Its session is as it was.
    let answer = attacker.request("echo/x", MessagePayload::String("a"));
    assert!(answer.is_ok(), "{answer:?}");
    world.is_unharmed_after(1);
    leaves(attacker);
}

#[test]
fn what_is_no_json_or_no_envelope_ends_the_connection_and_says_why() {
    let world = World::start();
    let attacks = [
        ("", 1007),
        ("hello", 1007),
        ("{", 1007),
        ("{}{}", 1007),
        ("\u{feff}{}", 1007),
        (r#"{"message_type":"IPC","payload":NaN}"#, 1007),
        ("{}", 1008),
        ("[]", 1008),
        (r#""IPC""#, 1008),
        (r#"{"message_type":"ipc","payload":{}}"#, 1008),
        (r#"{"message_type":"Control","payload":{}}"#, 1008),
    ];
    for (text, code) in attacks {
        let mut attacker = world.admitted(Subprotocol::Json, "mallory", &["request:echo/*"]);
        attacker.socket.send(&Frame::text(text));
        let told = attacker.socket.read_frame().expect("why");
        assert!(told.payload.starts_with(br#"{"message_type":"Error""#), "{told:?}");
        let (_, request) = attacker.request_frame("echo/x", MessagePayload::Empty);
        attacker.socket.try_send(&request);
        assert_eq!(attacker.socket.read_ending().code, Some(code), "{text}");
    }
    world.wait_until(|peers| peers.len() == 1);
    world.is_unharmed();
}

/// Numbers of any length may stand in a payload of nobody's type: they are carried, not read, and cost what they are long.
#[test]
fn huge_numbers_and_many_values_are_carried_and_not_read() {
    if !is_alone("attacks::json::huge_numbers_and_many_values_are_carried_and_not_read") {
        return;
    }
    let world = World::start();
    let mut peer = world.admitted(Subprotocol::Json, "panel", &["request:echo/*"]);
    let before = resident();
    for json in [
        format!("[{}]", "9".repeat(500_000)),
        "1e999999999".to_owned(),
        format!("[{}0]", "0,".repeat(400_000)),
    ] {
        let text = format!(
            r#"{{"message_type":"IPC","payload":{{"id":"7","message_type":"Request","destination":"echo/x","payload":{{"Json":{json}}}}}}}"#
        );
        peer.socket.send(&Frame::text(text));
        let answer = String::from_utf8(peer.socket.read_frame().unwrap().payload).unwrap();
        assert!(
            answer.contains(r#""message_type":"Response""#) && answer.contains(&json),
            "{} bytes",
            answer.len()
        );
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    world.is_unharmed_after(3);
}
