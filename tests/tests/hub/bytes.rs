//! Bytes that are no frames, frames that are no messages.

use visorbus_core::codec::{self, DecodeError};
use visorbus_core::error::ErrorKind;
use visorbus_core::frame::length::prefix;
use visorbus_core::message::{MessagePayload, MessageType};
use visorbus_hub::{Limits, OwnedMessage};
use visorbus_tests::faulty_link::Random;
use visorbus_tests::raw_peer::{RawPeer, frame_of};

use crate::harness::{TestHub, request, wire};

#[test]
fn random_bytes_end_their_connection_and_nothing_else() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut random = Random::new(1);
    for _ in 0..200 {
        let mut peer = hub.attach();
        let bytes: Vec<u8> = (0..random.below(4_096)).map(|_| random.below(256) as u8).collect();
        let _ = peer.try_write_bytes(&bytes);
        let _ = peer.stream().shutdown(std::net::Shutdown::Write);
        for message in peer.read_to_end() {
            assert_eq!(message.message_type, MessageType::Error);
        }
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn random_frames_are_each_answered_or_dropped_and_the_connection_goes_on() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut random = Random::new(2);
    let mut peer = hub.connect("noisy", &["*"]);
    let mut sent = 0;
    for _ in 0..2_000 {
        let mut frame: Vec<u8> = (0..1 + random.below(64)).map(|_| random.below(256) as u8).collect();
        // Not one that is dealt with for good reason: a reply, a heartbeat, a goodbye.
        frame[0] = frame[0] & !7 | 5;
        peer.write_frame(&frame);
        sent += 1;
        if sent % 100 == 0 {
            assert!(peer.read_so_far().is_empty(), "an unknown type may be a reply: it is not answered");
        }
    }
    assert_eq!(hub.peer("noisy").undecodable, 2_000);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_length_that_cannot_be_is_told_and_ends_the_connection() {
    let hub = TestHub::with_limits(Limits { max_frame: 4_096, ..Limits::default() });
    let mut innocent = hub.bystander();
    for (length, said) in [
        (0, "a frame of 0 bytes was announced"),
        (4_097, "a frame of 4097 bytes was announced, this link takes at most 4096"),
        (u32::MAX, "a frame of 4294967295 bytes was announced"),
    ] {
        for mut peer in [hub.attach(), hub.greeted("evil"), hub.connect("evil", &["*"])] {
            // What stands behind it in the same piece is not looked at.
            let call = wire(&request(7, "echo/ping"));
            peer.write_bytes(&[&length.to_le_bytes()[..], &call].concat());
            let messages = peer.read_to_end();
            let error = messages.iter().find_map(OwnedMessage::error).expect("it is told");
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.text().contains(said), "{error}");
            assert!(messages.iter().all(|message| message.id != 7), "{messages:?}");
        }
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn the_longest_frame_is_taken_and_its_answer_comes_in_one_piece() {
    let hub = TestHub::start();
    let mut peer = hub.connect("big", &["*"]);
    let text = "x".repeat((1 << 20) - 64);
    let answer = peer.request("echo/ping", MessagePayload::String(&text)).unwrap();
    assert_eq!(answer.payload.borrow().as_bytes().len(), text.len());
}

#[test]
fn frames_in_single_bytes_arrive_like_frames_in_one_piece() {
    let hub = TestHub::start();
    let mut peer = hub.connect("slow", &["*"]);
    for byte in [wire(&request(70, "echo/ping")), wire(&request(71, "echo/ping"))].concat() {
        peer.write_bytes(&[byte]);
    }
    assert!(peer.answer_to(70).is_ok());
    assert!(peer.answer_to(71).is_ok());
}

#[test]
fn a_frame_that_is_cut_off_by_the_end_does_nothing() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let call = wire(&request(7, "echo/ping"));
    for cut in 1..call.len() {
        let mut peer = hub.connect("cut", &["*"]);
        peer.write_bytes(&call[..cut]);
        let _ = peer.stream().shutdown(std::net::Shutdown::Write);
        assert!(peer.read_to_end().is_empty());
        hub.wait_until(|peers| peers.len() == 1);
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn a_frame_that_is_no_message_is_told_by_its_fault_and_id() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    for (frame, fault) in [
        (&[0x20, 0x00, 9][..], DecodeError::CutOff),
        (&[0x20, 0x05, 9, 0, 0], DecodeError::UnknownParts(0x05)),
        (&[0x20, 0x40, 9, 0, 0], DecodeError::UnknownParts(0x40)),
        (&[0x20, 0x80, 9, 0, 0], DecodeError::UnknownParts(0x80)),
        (&[0x20, 0x00, 9, 0x83, 0], DecodeError::UnknownAlias(3)),
        (&[0x20, 0x00, 9, 0, 0x83], DecodeError::UnknownAlias(3)),
        (&[0x20, 0x00, 9, 0, 0xc1, 0x02], DecodeError::UnknownAlias(0x102)),
        (&[0x20, 0x00, 9, 0, 4, b'E', b'c', b'h', b'o'], DecodeError::BadAddress),
        (&[0x20, 0x00, 9, 0, 5, b'e', b'/', b'.', b'.', b'/'], DecodeError::BadAddress),
        (&[0x20, 0x00, 9, 0, 2, 0xff, 0xfe], DecodeError::BadAddress),
        (&[0x20, 0x00, 9, 0, 3, b'a', 0, b'b'], DecodeError::BadAddress),
        (&[0x20, 0x00, 9, 0, 0, 1], DecodeError::BadPayload),
        (&[0x20, 0x01, 9, 0, 0, 0xff], DecodeError::BadPayload),
        (&[0x20, 0x20, 9, 0, 0, 0xff, 0xff, 0x03], DecodeError::CutOff),
        (&[0x22, 0x05, 9, 0, 0], DecodeError::UnknownParts(0x05)),
    ] {
        assert_eq!(codec::decode(frame), Err(fault));
        for mut peer in [hub.attach(), hub.connect("odd", &["*"])] {
            peer.write_frame(frame);
            let answer = peer.read();
            let error = answer.error().expect("an error");
            assert_eq!((answer.id, error.kind()), (9, ErrorKind::Protocol), "{frame:02x?}");
            assert_eq!(error.text(), fault.reason(), "{frame:02x?}");
            assert!(peer.read_so_far().is_empty(), "one answer, and the connection goes on");
        }
        hub.wait_until(|peers| peers.len() == 1);
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn an_undecodable_reply_or_unknown_type_is_counted_and_not_answered() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.connect("odd", &["*"]);
    for head in [1, 3, 5, 6, 7] {
        peer.write_frame(&[head, 0x40, 9, 0, 0]);
    }
    assert!(peer.read_so_far().is_empty());
    assert_eq!(hub.peer("odd").undecodable, 5);
    innocent.is_served_alone(&hub);
}

#[test]
fn an_address_longer_than_any_is_refused() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.connect("long", &["*"]);
    peer.write_frame(&[&[0x20, 0, 9, 0, 65][..], &[b'a'; 65]].concat());
    assert_eq!(peer.read().error().map(|error| error.kind()), Some(ErrorKind::Protocol));
    innocent.is_served_alone(&hub);
}

#[test]
fn half_a_frame_holds_up_nobody() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let halves: Vec<RawPeer> = (0..20)
        .map(|n| {
            let mut peer = hub.connect(&format!("half{n}"), &["*"]);
            peer.write_bytes(&prefix(1 << 20));
            peer.write_bytes(&vec![0; 300_000]);
            peer
        })
        .collect();
    innocent.is_served_alone(&hub);
    drop(halves);
    hub.wait_until(|peers| peers.len() == 1);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_message_of_a_type_that_nobody_sends_to_a_hub_is_dropped_and_counted() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.connect("odd", &["*"]);
    let answer = request(5, "echo/ping").answer(MessageType::Response);
    for destination in ["echo/ping", "bystander", "bus", "nobody", "odd"] {
        peer.write_frame(&frame_of(&visorbus_core::Message {
            destination: Some(visorbus_core::message::Address::new(destination).unwrap()),
            ..answer
        }));
    }
    assert!(peer.read_so_far().is_empty());
    assert_eq!(hub.peer("odd").late, 5);
    innocent.is_served_alone(&hub);
    assert!(innocent.peer.read_so_far().is_empty());
}
