//! Frames that break the rules, by strangers and by whoever has logged in: both are told by a close, and gone.

use std::time::{Duration, Instant};

use visorbus_core::message::MessagePayload;
use visorbus_tests::patience::PATIENCE;
use visorbus_tests::raw_websocket::{Ending, Frame, Length, RawWebSocket, Upgrade};
use visorbus_tests::websocket_peer::WebSocketPeer;
use visorbus_websocket::{Subprotocol, WebSocketConfig};

use super::alone::{is_alone, resident};
use crate::world::World;

#[test]
fn a_frame_that_breaks_a_rule_ends_the_connection_by_name_whoever_sends_it() {
    let world = World::start();
    for protocol in Subprotocol::ALL {
        let opcode = if protocol == Subprotocol::Json { Frame::TEXT } else { Frame::BINARY };
        let other = Frame::new(Frame::TEXT + Frame::BINARY - opcode, "{}");
        let data = |len: usize| Frame::new(opcode, vec![b'*'; len]);
        let attacks = [
            (vec![data(9).unmasked()], 1002, "mask"),
            (vec![data(9).with_reserved(4)], 1002, "reserved"),
            (vec![data(9).with_reserved(1)], 1002, "reserved"),
            (vec![Frame::ping(vec![0; 126])], 1002, "control"),
            (vec![Frame::ping("").with_length(Length::Claimed(1 << 40))], 1002, "control"),
            (vec![Frame::ping("a").with_more()], 1002, "fragmented"),
            (vec![Frame::new(3, "")], 1002, "opcode"),
            (vec![Frame::continuation("a")], 1002, "continue"),
            (vec![data(9).with_more(), data(9)], 1002, "finished"),
            (vec![data(9).with_length(Length::In16)], 1002, "shortest"),
            (vec![data(200).with_length(Length::In64)], 1002, "shortest"),
            (vec![other], 1003, "messages only"),
            (vec![data(0).with_length(Length::Claimed((1 << 20) + 1))], 1009, "at most"),
            (vec![data(1 << 20).with_more(), Frame::continuation("a")], 1009, "at most"),
        ];
        for (frames, code, word) in &attacks {
            for logged_in in [false, true] {
                let mut attacker = if logged_in {
                    world.admitted(protocol, "mallory", &["request:echo/*"])
                } else {
                    world.open(protocol)
                };
                let _ = frames.iter().all(|frame| attacker.socket.try_send(frame));
                // What would be done if the frame before it were passed over.
                let (_, request) = attacker.request_frame("echo/x", MessagePayload::Empty);
                attacker.socket.try_send(&request);
                let ending = attacker.socket.read_ending();
                assert_eq!(ending.code, Some(*code), "{protocol}: {frames:?}: {ending:?}");
                assert!(ending.reason.contains(word), "{ending:?}");
            }
        }
        world.wait_until(|peers| peers.len() == 1);
        world.is_unharmed();
    }
}

#[test]
fn a_text_that_is_not_utf_8_ends_the_connection_though_it_would_be_json() {
    let world = World::start();
    let mut attacker = world.admitted(Subprotocol::Json, "mallory", &["request:echo/*"]);
    let (_, request) = attacker.request_frame("echo/x", MessagePayload::String("caf?"));
    let mut bytes = request.payload;
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xe9;
    attacker.socket.send(&Frame::text(bytes));
    assert_eq!(attacker.socket.read_ending().code, Some(1007));
    world.is_unharmed();
}

/// With an extension agreed on, RSV1 would mean a compressed message, and a few of its bytes could mean gigabytes.
#[test]
fn a_compressed_bomb_is_refused_at_its_first_byte() {
    let world = World::start();
    let mut attacker = RawWebSocket::connect(world.address());
    let upgrade = Upgrade::new(world.address(), "visorbus.v1.json");
    attacker.upgrade(&upgrade.also("Sec-WebSocket-Extensions", "permessage-deflate"));
    // Deflate's way to say the same byte for ever, and no end of the frame in sight.
    let bomb = Frame::text([b"\xec\xc1\x01\x01\x00\x00".as_slice(), &[0; 900]].concat()).with_reserved(4);
    attacker.write(&bomb.with_length(Length::Claimed(1 << 20)).to_bytes()[..64]);
    let Ending { code, reason } = attacker.read_ending();
    assert!(code == Some(1002) && reason.contains("reserved"), "{code:?} {reason}");
    world.is_unharmed();
}

#[test]
fn a_message_without_an_end_is_ended() {
    let world = World::start();
    for protocol in Subprotocol::ALL {
        let opcode = if protocol == Subprotocol::Json { Frame::TEXT } else { Frame::BINARY };
        // Fragments of nothing, and fragments of little.
        for content in ["", "*"] {
            let mut attacker = world.open(protocol);
            attacker.socket.send(&Frame::new(opcode, content).with_more());
            let fragments = Frame::continuation(content).with_more().to_bytes().repeat(1000);
            // A ping in between counts for nothing, and who goes on sending is gone all the same.
            let started = Instant::now();
            while world.handle.peers().unwrap().len() > 1 {
                let _ = attacker.socket.try_write(&fragments) && attacker.socket.try_send(&Frame::ping(""));
                assert!(started.elapsed() < PATIENCE, "{protocol}: it goes on for ever");
            }
        }
        world.is_unharmed();
    }
}

#[test]
fn the_reason_why_fragments_were_refused_is_read_by_who_stops_there() {
    let world = World::start();
    let mut attacker = world.open(Subprotocol::Postcard);
    attacker.socket.send(&Frame::binary("").with_more());
    attacker.socket.write(&Frame::continuation("").with_more().to_bytes().repeat(5000));
    let ending = attacker.socket.read_ending();
    assert!(ending.code == Some(1008) && ending.reason.contains("fragments"), "{ending:?}");
}

/// However slowly a frame comes, and whatever comes with it, its message has its time and no more.
#[test]
fn a_message_that_comes_too_slowly_is_not_waited_for() {
    let mut config = WebSocketConfig::default();
    config.link.message_time = Duration::from_millis(300);
    let world = World::with(config);
    for protocol in Subprotocol::ALL {
        let mut head = world.open(protocol);
        let mut payload = world.admitted(protocol, "mallory", &["request:echo/*"]);
        let mut pinged = world.open(protocol);
        let opcode = if protocol == Subprotocol::Json { Frame::TEXT } else { Frame::BINARY };
        head.socket.write(&Frame::new(opcode, "").to_bytes()[..1]);
        pinged.socket.send(&Frame::new(opcode, "a").with_more());
        let (_, request) = payload.request_frame("echo/x", MessagePayload::String("slow"));
        let request = request.to_bytes();
        for byte in &request[..request.len() - 1] {
            let goes_on = payload.socket.try_write(&[*byte]) && pinged.socket.try_send(&Frame::ping(""));
            if !goes_on || !payload.socket.is_quiet_for(Duration::from_millis(20)) {
                break;
            }
        }
        for attacker in [&mut head, &mut payload, &mut pinged] {
            let ending = attacker.socket.read_ending();
            assert!(ending.code == Some(1008) && ending.reason.contains("too long"), "{ending:?}");
        }
        world.is_unharmed();
    }
}

#[test]
fn a_flood_of_pings_whose_answers_are_not_read_neither_fills_memory_nor_slows_others() {
    if !is_alone(
        "attacks::frames::a_flood_of_pings_whose_answers_are_not_read_neither_fills_memory_nor_slows_others",
    ) {
        return;
    }
    let world = World::start();
    for protocol in Subprotocol::ALL {
        let mut attacker = world.open(protocol);
        let pings = Frame::ping(vec![7; 125]).to_bytes().repeat(500);
        let before = resident();
        let mut sent = 0;
        while sent < 16 << 20 {
            match attacker.socket.write_what_fits(&pings[sent % pings.len()..]) {
                0 => world.is_unharmed(),
                count => sent += count,
            }
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more than before");
        world.is_unharmed();
        drop(attacker);
    }
}

/// Closes as it should, and what is not the attacker's goes on.
pub(super) fn leaves(mut peer: WebSocketPeer) {
    peer.socket.send(&Frame::close(1000, ""));
    assert_eq!(peer.socket.read_ending().code, Some(1000));
}
