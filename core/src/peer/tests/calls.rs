//! What a node answers and hears, what it publishes, and what it asks for itself.

use super::*;

#[test]
fn a_typed_request_is_answered() {
    let mut board = Board::open();
    assert_eq!(board.ask("imu/double", &7u32), Ok(postcard_of(&14u32)));
    assert_eq!(board.node.calls, 1);
}

#[test]
fn a_request_to_nobody_is_refused() {
    let mut board = Board::open();
    for address in ["imu", "imu/double/more", "imu/nothing", "imu2/double", "double", "bus/services", "bus"] {
        assert_eq!(board.ask(address, &7u32).unwrap_err().0, ErrorKind::Message, "{address}");
    }
    assert_eq!((board.node.calls, board.peer.counters().refused), (0, 7));
}

#[test]
fn a_payload_that_does_not_fit_is_refused() {
    let mut board = Board::open();
    let request = Message::request(5, Address::literal("imu/double"));
    for payload in [
        MessagePayload::Empty,
        MessagePayload::Binary(&[]),
        MessagePayload::Binary(&[0x80]),
        MessagePayload::Binary(&[7, 0]),
        MessagePayload::Json("7"),
        MessagePayload::Toml("x = 7"),
        MessagePayload::String("\u{7}"),
    ] {
        let (kind, _) = board.outcome(&request.with_payload(payload)).unwrap_err();
        assert_eq!(kind, ErrorKind::Serialization, "{payload:?}");
    }
    assert_eq!(board.node.calls, 0);
}

#[test]
fn an_encrypted_or_compressed_payload_is_refused_not_guessed_at() {
    let mut board = Board::open();
    for (encrypted, compressed) in [(true, false), (false, true), (true, true)] {
        let mut request = Message::request(5, Address::literal("imu/double"));
        request.flags.encrypted = encrypted;
        request.flags.compressed = compressed;
        let payload = postcard_of(&7u32);
        let outcome = board.outcome(&request.with_payload(MessagePayload::Binary(&payload)));
        assert_eq!(outcome.unwrap_err().0, ErrorKind::Message);
    }
    assert_eq!(board.node.calls, 0);
}

#[test]
fn an_answer_that_fits_no_frame_becomes_an_error() {
    let mut board = Board::open();
    assert_eq!(board.ask("imu/dump", &()).unwrap_err().0, ErrorKind::Internal);
    assert_eq!(board.node.calls, 1);
    assert_eq!(board.ask("imu/double", &7u32), Ok(postcard_of(&14u32)));
}

#[test]
fn an_endpoint_takes_no_notification_and_a_topic_no_request() {
    let mut board = Board::open();
    let payload = postcard_of(&7u32);
    for address in ["imu/double", "imu/sample", "imu/nothing", "bus/services/changed", "bus/describe"] {
        let notification = Message::notification(5, Address::literal(address));
        assert_eq!(board.hear(&notification.with_payload(MessagePayload::Binary(&payload))), [[0; 0]; 0]);
    }
    for address in ["imu/light", "imu/sample"] {
        assert_eq!(board.ask(address, &7u32).unwrap_err().0, ErrorKind::Message, "{address}");
    }
    assert_eq!((board.node.calls, board.node.heard, board.peer.counters().refused), (0, 0, 7));
}

#[test]
fn a_heard_topic_is_heard_and_a_receipt_is_sent_where_one_is_wanted() {
    let mut board = Board::open();
    let payload = postcard_of(&true);
    let light = Message::notification(5, Address::literal("imu/light"));
    assert!(board.hear(&light.with_payload(MessagePayload::Binary(&payload))).is_empty());
    assert!(board.hear(&light.with_payload(MessagePayload::Binary(&[7]))).is_empty());
    let mut wanted = light.with_payload(MessagePayload::Binary(&payload));
    wanted.flags.requires_response = true;
    assert_eq!(board.outcome(&wanted), Ok(Vec::new()));
    assert_eq!((board.node.heard, board.peer.counters().refused), (2, 1));
}

#[test]
fn a_request_that_wants_no_answer_gets_none() {
    let mut board = Board::open();
    let payload = postcard_of(&7u32);
    for address in ["imu/double", "imu/dump", "imu/nothing", "imu/set-rate", "bus/describe", "other/x"] {
        let mut request = Message::request(5, Address::literal(address));
        request.flags.requires_response = false;
        assert!(board.hear(&request.with_payload(MessagePayload::Binary(&payload))).is_empty(), "{address}");
    }
    assert_eq!(board.node.calls, 1);
}

#[test]
fn before_hello_nothing_reaches_a_handler() {
    let mut board = Board::new(Vec::new());
    assert_eq!(board.ask("imu/double", &7u32).unwrap_err().0, ErrorKind::Protocol);
    let payload = postcard_of(&true);
    let light = Message::notification(5, Address::literal("imu/light"));
    assert!(board.hear(&light.with_payload(MessagePayload::Binary(&payload))).is_empty());
    assert_eq!((board.node.calls, board.node.heard, board.peer.counters().refused), (0, 0, 2));
}

#[test]
fn what_the_node_publishes_goes_out_once_the_session_is_ready() {
    let mut board = Board::new(Vec::new());
    assert_eq!(board.peer.publish::<Imu, Sample>(&[1, 2, 3]), Ok(false));
    board.open_session(256);
    assert_eq!(board.peer.publish::<Imu, Sample>(&[1, 2, 3]), Ok(true));
    let sent = board.link().sent.pop().unwrap();
    let message = decode(&sent).unwrap();
    assert_eq!(message.destination, Some(Address::literal("imu/sample")));
    assert_eq!(message.payload.parse::<[i16; 3]>(), Ok([1, 2, 3]));
    assert_eq!(message.flags.priority, MessagePriority::Normal);
}

#[test]
fn what_is_published_has_the_priority_of_its_topic() {
    struct Alarm;
    impl Topic for Alarm {
        type Message = bool;
        const ADDRESS: Address<'static> = Address::literal("imu/alarm");
        const ACCESS: Access<'static> = Access::Permission;
        const PRIORITY: MessagePriority = MessagePriority::High;
    }
    let mut board = Board::open();
    assert_eq!(board.peer.publish::<Imu, Alarm>(&true), Ok(true));
    let sent = board.link().sent.pop().unwrap();
    assert_eq!(decode(&sent).unwrap().flags.priority, MessagePriority::High);
}

#[test]
fn the_nodes_own_request_is_answered_refused_or_timed_out() {
    let mut board = Board::open();
    let first = board.peer.request::<Lookup>(&1, 100, board.now).unwrap().unwrap();
    let second = board.peer.request::<Lookup>(&2, 100, board.now).unwrap().unwrap();
    let third = board.peer.request::<Lookup>(&3, 100, board.now).unwrap().unwrap();
    assert_eq!(decode(board.link().sent.last().unwrap()).unwrap().flags.timeout_ms, Some(100));
    let payload = postcard_of(&11u32);
    let reply = |id| Message::request(id, Address::literal("x")).answer(MessageType::Response);
    board.hear(&reply(second).with_payload(MessagePayload::Binary(&payload)));
    let mut error = reply(first).with_payload(MessagePayload::Binary(b"\x04no such key"));
    error.message_type = MessageType::Error;
    board.hear(&error);
    let replies = [(second, Ok(11)), (first, Err((ErrorKind::Message, "no such key".to_string())))];
    assert_eq!(board.node.replies, replies);
    board.now = board.now.plus_millis(99);
    assert_eq!(board.peer.poll(&mut board.node, board.now), Ok(None));
    board.now = board.now.plus_millis(1);
    assert_eq!(board.peer.poll(&mut board.node, board.now), Ok(Some(Event::RequestTimedOut { id: third })));
    board.hear(&reply(third).with_payload(MessagePayload::Binary(&payload)));
    assert_eq!(board.node.replies.len(), 2, "too late");
}

/// It held a place of the few until its deadline, and then a time-out came under an id that nobody knew.
#[test]
fn a_request_that_fits_no_frame_leaves_nothing_behind() {
    let mut board = Board::open();
    for _ in 0..=MAX_PENDING {
        assert_eq!(board.peer.request::<Store>(&[[7; 32]; 5], 100, board.now), Ok(None));
    }
    board.now = board.now.plus_millis(200);
    assert_eq!(board.peer.poll(&mut board.node, board.now), Ok(None));
    assert!(board.peer.request::<Lookup>(&1, 100, board.now).unwrap().is_some());
}

#[test]
fn a_sealed_notification_opens_for_who_shares_the_key_and_fits_or_is_not_sent() {
    use crate::seal::{BootNonce, Header, Opener, PayloadKey, Sealer};
    let mut board = Board::open();
    let (key, to) = (PayloadKey::new([3; 32]), Address::literal("vault/code"));
    let mut sealer = Sealer::new(&key, "imu", "vault", BootNonce::new(7, [0; 8]));
    let mut opener = Opener::new(&key, "imu", "vault");
    for number in [0u8, 1] {
        let payload = [number; 5];
        assert_eq!(board.peer.notify_sealed(to, MessagePayload::Binary(&payload), &mut sealer), Ok(true));
        let sent = board.poll();
        let message = codec::decode(&sent[0]).unwrap();
        assert!(message.flags.encrypted && message.source.is_none() && message.id != 0);
        let header = Header::of(&message, Address::literal("imu")).unwrap();
        let mut out = [0; 64];
        let opened = opener.open(&header, message.payload.as_bytes(), &mut out);
        assert_eq!(opened, Ok((PayloadKind::Binary, &payload[..])));
    }
    let long = [0; 4096];
    assert_eq!(board.peer.notify_sealed(to, MessagePayload::Binary(&long), &mut sealer), Ok(false));
}
