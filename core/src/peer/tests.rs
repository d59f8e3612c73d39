//! A leaf with a small table on a link that the test holds the other end of.

extern crate std;

use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::auth::{Access, BUS, Claims, Key, KeyRing, Refusal, Scopes, Slot};
use crate::bus::Identity;
use crate::codec::{decode, decode_with, encode, encode_header_to};
use crate::dispatch::{Answers, Hears};
use crate::error::ErrorKind;
use crate::limits::MAX_PENDING;
use crate::message::{MessagePriority, MessageType};
use crate::session::{Name, Role};

#[test]
fn a_typed_request_is_answered() {
    let mut board = Board::open();
    assert_eq!(board.ask("imu/double", &7u32), Ok(postcard_of(&14u32)));
    assert_eq!(board.node.calls, 1);
}

#[test]
fn a_call_without_the_scope_is_refused_before_its_payload_is_looked_at() {
    let mut board = Board::open();
    let garbage =
        Message::request(5, Address::literal("imu/set-rate")).with_payload(MessagePayload::Json("{"));
    assert_eq!(board.outcome(&garbage), Err((ErrorKind::Authentication, sentence::NOT_AUTHENTICATED.into())));
    board.authenticate(&[]);
    let needs = Refusal::MissingScope("imu.control").parts().concat();
    assert_eq!(board.outcome(&garbage), Err((ErrorKind::Authorization, needs)));
    assert_eq!((board.node.calls, board.peer.counters().refused), (0, 2));
    board.authenticate(&["imu.control"]);
    assert_eq!(board.ask("imu/set-rate", &100u16), Ok(postcard_of(&100u16)));
    assert_eq!(board.node.calls, 1);
}

#[test]
fn a_grant_ends_with_its_token() {
    let mut board = Board::open();
    board.authenticate(&["imu.control"]);
    board.now = board.now.plus_millis(3_600_000 - 1);
    assert!(board.ask("imu/set-rate", &100u16).is_ok());
    board.now = board.now.plus_millis(1);
    board.peer.poll(&mut board.node, board.now).unwrap();
    assert_eq!(
        board.ask("imu/set-rate", &100u16),
        Err((ErrorKind::Authentication, sentence::GRANT_EXPIRED.into()))
    );
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
fn a_token_in_the_message_counts_instead_of_the_grant_of_the_session() {
    let mut board = Board::open();
    let (good, none) = (hub_token(&["imu.control"]), hub_token(&[]));
    let payload = postcard_of(&100u16);
    let request =
        Message::request(5, Address::literal("imu/set-rate")).with_payload(MessagePayload::Binary(&payload));
    let with = |token| Message { auth_token: Some(token), ..request };
    assert!(board.outcome(&with(&good)).is_ok());
    assert_eq!(board.outcome(&request).unwrap_err().0, ErrorKind::Authentication, "once, not from then on");
    board.authenticate(&["imu.control"]);
    assert_eq!(board.outcome(&with(&none)).unwrap_err().0, ErrorKind::Authorization);
    assert_eq!(board.outcome(&with(&good[1..])).unwrap_err().0, ErrorKind::Authentication);
    assert!(board.outcome(&request).is_ok());
    assert_eq!(board.node.calls, 2);
}

#[test]
fn a_key_that_only_checks_takes_what_the_hub_made_and_nothing_narrowed_changed_or_cut() {
    let key = || Key::new([9; 32]).derive("imu");
    let (small, full) = (CheckKey::new(1, key()), DeviceKey::new(1, key()));
    let whole = hub_token(&["imu.control", "request:imu/*"]);
    let by_small = |token: &[u8]| small.check(token, "imu", Some(UNIX_S)).is_ok();
    let by_full = |token: &[u8]| full.check(token, "imu", Some(UNIX_S)).is_ok();
    assert!(by_small(&whole) && by_full(&whole));
    let mut narrowed = [0; crate::limits::MAX_TOKEN];
    let caveat = crate::auth::Caveat::Scopes(Scopes::new(&["imu.control"]));
    let len = crate::auth::attenuate(&whole, &caveat, &mut narrowed).unwrap();
    assert!(by_full(&narrowed[..len]) && !by_small(&narrowed[..len]));
    for at in 0..whole.len() {
        assert!(!by_small(&whole[..at]), "cut at {at}");
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(!by_small(&changed), "bit {bit} of byte {at}");
        }
    }
    assert!(small.check(&whole, "fan", Some(UNIX_S)).is_err(), "for another");
    assert!(small.check(&whole, "imu", None).is_err(), "without the time");
    assert!(small.check(&whole, "imu", Some(u64::MAX)).is_err(), "expired");
    const { assert!(!CheckKey::PROVES) };
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
fn a_frame_that_is_no_message_is_answered_under_its_id_unless_it_is_an_answer_itself() {
    let mut board = Board::open();
    let answers = board.hear_frame(&[0x20, 0x40, 77, 0, 0]);
    let message = decode(&answers[0]).unwrap();
    assert_eq!((message.id, message.message_type), (77, MessageType::Error));
    assert_eq!(IpcError::from_payload(message.payload.as_bytes()).kind(), ErrorKind::Protocol);
    for frame in [&[0x01, 0x40, 77, 0, 0][..], &[0x03, 0x40, 77, 0, 0], &[0x04, 0x40], &[0x07], &[]] {
        assert!(board.hear_frame(frame).is_empty(), "{frame:02x?}");
    }
    assert_eq!(board.peer.counters().undecodable, 6);
}

#[test]
fn without_room_for_the_answer_nothing_is_taken_and_nothing_is_lost() {
    let mut board = Board::open();
    let payload = postcard_of(&7u32);
    for id in 10..20 {
        let request = Message::request(id, Address::literal("imu/double"));
        board.link().incoming.push_back(frame_of(&request.with_payload(MessagePayload::Binary(&payload))));
    }
    board.link().room = OUT - 1;
    assert_eq!(board.poll(), [] as [Vec<u8>; 0]);
    assert_eq!((board.link().incoming.len(), board.node.calls), (10, 0));
    assert_eq!(board.peer.publish::<Imu, Sample>(&[1, 2, 3]), Ok(false));
    assert_eq!(board.peer.request::<Lookup>(&1, 100, board.now), Ok(None));
    board.link().room = OUT;
    board.link().frames_of_room = 3;
    assert_eq!(board.poll().len(), 3);
    assert_eq!(board.link().incoming.len(), 7);
    board.link().frames_of_room = usize::MAX;
    let ids: Vec<u64> = board.poll().iter().map(|frame| decode(frame).unwrap().id).collect();
    assert_eq!(ids, [13, 14, 15, 16, 17, 18, 19]);
    assert_eq!(board.node.calls, 10);
}

/// A link with shorter frames than the peer's buffer never had the room that was asked for.
#[test]
fn a_link_with_shorter_frames_than_the_buffer_still_serves() {
    let mut board = Board::new(Vec::new());
    board.link().max = 80;
    board.link().room = 80;
    board.open_session(256);
    assert!(board.peer.session().is_ready());
    assert_eq!(board.ask("imu/double", &7u32), Ok(postcard_of(&14u32)));
}

#[test]
fn no_frame_is_longer_than_the_other_end_takes() {
    let mut board = Board::new(Vec::new());
    board.open_session(20);
    let (_, text) = board.ask("imu/set-rate", &7u16).unwrap_err();
    assert!(text.is_empty() || sentence::NOT_AUTHENTICATED.starts_with(&text), "cut to fit: {text}");
    let answers = board.sent_lengths();
    assert!(answers.iter().all(|len| *len <= 20), "{answers:?}");
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

/// The other end asks for one row after the other, and for schemas when it has them all.
#[test]
fn a_topic_goes_as_the_number_of_its_row_once_the_other_end_is_known_to_know_that() {
    let mut board = Board::open();
    let text = [&[0x0a, 0x42, 10][..], b"imu/sample"].concat();
    assert_eq!(board.publish(), text, "nothing was asked");
    for row in 0..=3 {
        board.describe(row, RowPart::Info);
        assert_eq!(board.publish(), text, "row {row} may be on its way still");
    }
    board.describe(4, RowPart::Info);
    assert_eq!(board.publish(), [0x0a, 0x42, 0x83]);
    board.describe(0, RowPart::Info);
    assert_eq!(board.publish(), text, "it asks anew: it has lost what it knew");
    for row in 0..3 {
        board.describe(row, RowPart::Request);
        assert_eq!(board.publish(), text, "the schema of row {row} tells nothing of row 3");
    }
    board.describe(3, RowPart::Request);
    assert_eq!(board.publish(), [0x0a, 0x42, 0x83]);
    board.describe(0, RowPart::Response);
    assert_eq!(board.publish(), [0x0a, 0x42, 0x83], "what is known stays known");
    board.open_session(256);
    assert_eq!(board.publish(), text, "another session");
    for beyond in [5, 300, u16::MAX] {
        for part in [RowPart::Info, RowPart::Request, RowPart::Response] {
            board.describe(beyond, part);
            assert_eq!(board.publish(), text, "there is no row {beyond}");
        }
    }
}

#[test]
fn a_request_to_the_number_of_a_row_is_one_to_its_address() {
    let mut board = Board::open();
    assert_eq!(board.ask_row(0, &7u32), Ok(postcard_of(&14u32)));
    assert_eq!(board.ask_row(1, &7u16).unwrap_err().0, ErrorKind::Authentication, "it needs a scope as ever");
    board.authenticate(&["imu.control"]);
    assert_eq!(board.ask_row(1, &7u16), Ok(postcard_of(&7u16)));
    for row in [3, 4] {
        let nobody = (ErrorKind::Message, sentence::NOBODY.to_string());
        assert_eq!(board.ask_row(row, &7u32), Err(nobody), "row {row} takes no requests");
    }
    let light = Message::notification(5, Address::literal("imu/light"));
    let light = frame_to_row(&light.with_payload(MessagePayload::Binary(&[1])), 4);
    assert!(board.hear_frame(&light).is_empty());
    assert_eq!((board.node.calls, board.node.heard), (2, 1));
}

/// As when the board has come back with a shorter table, and who asks does not know yet.
#[test]
fn the_number_of_a_row_that_is_not_there_is_refused_to_who_asked() {
    let mut board = Board::open();
    for row in [5, 63, 64, 300, 16_383] {
        let no_row = (ErrorKind::Message, sentence::NOT_DESCRIBED.to_string());
        assert_eq!(board.ask_row(row, &7u32), Err(no_row), "row {row}");
    }
    let mut request = Message::request(77, Address::literal("imu/double"));
    request.source = Some(Address::literal("panel.1"));
    let answers = board.hear_frame(&frame_to_row(&request, 9));
    assert_eq!(
        decode(&answers[0]).unwrap().destination,
        request.source,
        "the one who asked, not the line's other end"
    );
    assert!(board.hear_frame(&[0x0a, 0x42, 0x89, 7]).is_empty());
    assert_eq!((board.node.calls, board.node.heard, board.peer.counters().refused), (0, 0, 7));
    assert_eq!(board.ask_row(0, &7u32), Ok(postcard_of(&14u32)));
}

#[test]
fn before_hello_the_number_of_a_row_is_nothing_but_a_message_too_early() {
    let mut board = Board::new(Vec::new());
    for row in [0, 1, 4, 5, 300] {
        assert_eq!(board.ask_row(row, &7u32), Err((ErrorKind::Protocol, sentence::HELLO_FIRST.to_string())));
    }
    assert_eq!(board.node.calls, 0);
}

#[test]
fn random_frames_with_numbers_of_rows_never_panic_and_reach_only_what_is_open() {
    let mut board = Board::open();
    let request = frame_to_row(&Message::request(5, Address::literal("imu/set-rate")), 1);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut answered = 0;
    for _ in 0..200_000 {
        let mut frame = request.clone();
        frame.extend((0..next() % 6).map(|_| next() as u8));
        for _ in 0..1 + next() % 3 {
            let at = next() as usize % frame.len();
            frame[at] = next() as u8;
        }
        // A goodbye or a hello would end the session; neither can come of one alias.
        for answer in board.hear_frame(&frame) {
            assert!(decode(&answer).is_ok());
            answered += 1;
        }
    }
    assert!(answered > 10_000 && board.node.calls > 10, "{answered}, {}: it shows little", board.node.calls);
    assert!(board.node.rates == 0, "what needs a scope was never run");
    assert_eq!(board.ask("imu/double", &7u32), Ok(postcard_of(&14u32)));
}

/// A node that tells of no rows has no aliases: it links no code for them.
#[test]
fn a_node_that_tells_of_no_rows_refuses_their_numbers_and_uses_none() {
    struct Silent;
    impl Node for Silent {
        const ROWS: &'static [Row<Self>] = &[Row::publishes::<Sample>()];
        const DESCRIBES: bool = false;
    }
    let mut board = Board::open();
    let request = frame_to_row(&Message::request(77, Address::literal("imu/double")), 0);
    board.link().incoming.push_back(request);
    board.peer.poll(&mut Silent, board.now).unwrap();
    let answer = board.link().sent.pop().unwrap();
    let message = decode(&answer).unwrap();
    assert_eq!((message.id, message.message_type), (77, MessageType::Error));
    let error = IpcError::from_payload(message.payload.as_bytes());
    assert_eq!(error, IpcError::Protocol(sentence::UNKNOWN_ALIAS));
    board.describe(0, RowPart::Request);
    assert_eq!(board.peer.publish::<Silent, Sample>(&[1, 2, 3]), Ok(true));
    assert!(decode(&board.link().sent.pop().unwrap()).is_ok());
}

#[test]
fn a_leaf_proves_itself_with_its_device_key() {
    let mut board = Board::new(Vec::new());
    let hub = root_ring();
    board.requires_authentication = true;
    board.open_session(256);
    let request = board.poll().pop().unwrap();
    let message = decode(&request).unwrap();
    assert_eq!(message.destination, Some(Address::literal(bus::AUTHENTICATE)));
    let credentials = message.payload.parse::<bus::Credentials<'_>>();
    let Ok(bus::Credentials::Token(token)) = credentials else { panic!("no token") };
    let grant = hub.check(token, BUS, Some(UNIX_S)).unwrap();
    assert_eq!((grant.subject(), grant.issuer()), ("imu", "imu"));
    assert!(!board.peer.session().is_ready());
    let id = message.id;
    let accepted = frame_of(&Message::request(id, Address::literal("x")).answer(MessageType::Response));
    board.link().incoming.push_back(accepted);
    assert_eq!(board.peer.poll(&mut board.node, board.now), Ok(Some(Event::Ready)));
    assert!(board.peer.session().is_ready());
}

#[test]
fn a_link_that_is_gone_is_an_error_and_the_replug_starts_anew() {
    let mut board = Board::open();
    board.link().gone = true;
    assert_eq!(board.peer.poll(&mut board.node, board.now), Err(Gone));
    board.link().gone = false;
    board.peer.reset(board.now);
    board.open_session(256);
    assert!(board.peer.session().is_ready());
}

#[test]
fn random_frames_never_panic_and_never_reach_a_handler() {
    let mut board = Board::open();
    let token = hub_token(&["imu.control"]);
    let payload = postcard_of(&100u16);
    let mut request = Message::request(5, Address::literal("imu/set-rate"));
    request.payload = MessagePayload::Binary(&payload);
    let plain = frame_of(&request);
    let with_token = frame_of(&Message { auth_token: Some(&token), ..request });
    let token_at = with_token.len() - token.len() - payload.len();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..200_000 {
        let mut frame: Vec<u8> = match round % 20 {
            0 => with_token.clone(),
            1..8 => plain.clone(),
            _ => (0..next() % 60).map(|_| next() as u8).collect(),
        };
        match round % 20 {
            0 => frame[token_at + next() as usize % token.len()] ^= 1 << (next() % 8),
            1..8 => {
                let at = next() as usize % frame.len();
                frame[at] = next() as u8;
            }
            _ => {}
        }
        for answer in board.hear_frame(&frame) {
            assert!(decode(&answer).is_ok());
        }
    }
    assert_eq!((board.node.calls, board.node.heard), (0, 0));
    board.open_session(256);
    assert_eq!(board.ask("imu/double", &7u32), Ok(postcard_of(&14u32)));
}

/// A peer, its node, and the other end of its link.
struct Board {
    peer: Peer<TestLink, DeviceKey, OUT>,
    node: Imu,
    now: Instant,
    requires_authentication: bool,
    next_id: u64,
}

impl Board {
    fn new(incoming: Vec<Vec<u8>>) -> Self {
        let config = SessionConfig {
            role: Role::Connecting,
            name: Name::try_from("imu").unwrap(),
            boot_id: 7,
            max_frame: OUT as u32,
            heartbeat_ms: 0,
            rows: Imu::ROWS.len() as u16,
            requires_authentication: false,
            lossy: true,
        };
        let link = TestLink { incoming: incoming.into(), ..TestLink::default() };
        let keys = DeviceKey::new(1, Key::new([9; 32]).derive("imu"));
        Self {
            peer: Peer::new(config, link, keys),
            node: Imu::default(),
            now: Instant::from_micros(0),
            requires_authentication: false,
            next_id: 100,
        }
    }

    fn open() -> Self {
        let mut board = Self::new(Vec::new());
        board.open_session(256);
        board
    }

    fn open_session(&mut self, max_frame: u32) {
        self.peer.reset(self.now);
        let hello = self.poll().pop().unwrap();
        let id = decode(&hello).unwrap().id;
        let identity = Identity {
            min_version: 1,
            max_version: 1,
            name: "bus",
            boot_id: 1,
            max_frame,
            heartbeat_ms: 0,
            capabilities: u32::from(self.requires_authentication),
            rows: 0,
            unix_us: UNIX_S * 1_000_000,
        };
        let payload = postcard_of(&identity);
        let answer = Message::request(id, Address::literal("x")).answer(MessageType::Response);
        let frame = frame_of(&answer.with_payload(MessagePayload::Binary(&payload)));
        self.link().incoming.push_back(frame);
        assert_eq!(self.peer.poll(&mut self.node, self.now), Ok(Some(Event::Opened)));
    }

    fn authenticate(&mut self, scopes: &[&str]) {
        let payload = postcard_of(&bus::Credentials::Token(&hub_token(scopes)));
        let request = Message::request(99, Address::literal(bus::AUTHENTICATE));
        self.outcome(&request.with_payload(MessagePayload::Binary(&payload))).unwrap();
    }

    fn ask<T: Serialize>(&mut self, address: &'static str, value: &T) -> Outcome {
        self.next_id += 1;
        let payload = postcard_of(value);
        let request = Message::request(self.next_id, Address::literal(address));
        self.outcome(&request.with_payload(MessagePayload::Binary(&payload)))
    }

    fn ask_row<T: Serialize>(&mut self, row: u16, value: &T) -> Outcome {
        self.next_id += 1;
        let payload = postcard_of(value);
        let request = Message::request(self.next_id, Address::literal("imu/row"));
        let frame = frame_to_row(&request.with_payload(MessagePayload::Binary(&payload)), row);
        let answers = self.hear_frame(&frame);
        outcome_in(&answers, self.next_id)
    }

    fn describe(&mut self, row: u16, part: RowPart) {
        // What comes of it is tested elsewhere.
        let _ = self.ask(bus::DESCRIBE, &Describe { row, part });
    }

    /// The header of what the node publishes.
    fn publish(&mut self) -> Vec<u8> {
        assert_eq!(self.peer.publish::<Imu, Sample>(&[1, 2, 3]), Ok(true));
        let mut sent = self.link().sent.pop().unwrap();
        let row = |row: u16| Imu::ROWS.get(usize::from(row)).map(|row| row.info.address);
        let message = decode_with(&sent, row).unwrap();
        assert_eq!(message.destination, Some(Sample::ADDRESS));
        assert!(message.is_bare());
        let header = sent.len() - message.payload.as_bytes().len();
        sent.truncate(header);
        sent
    }

    fn outcome(&mut self, request: &Message<'_>) -> Outcome {
        let answers = self.hear(request);
        outcome_in(&answers, request.id)
    }

    fn hear(&mut self, message: &Message<'_>) -> Vec<Vec<u8>> {
        self.hear_frame(&frame_of(message))
    }

    fn hear_frame(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.link().incoming.push_back(frame.to_vec());
        // What the session has to say of its own is not an answer.
        let mut answers = self.poll();
        answers.retain(|frame| decode(frame).unwrap().is_reply());
        answers
    }

    /// Polls until nothing happens; what went out.
    fn poll(&mut self) -> Vec<Vec<u8>> {
        while self.peer.poll(&mut self.node, self.now).unwrap().is_some() {}
        let sent = core::mem::take(&mut self.link().sent);
        self.link().lengths.extend(sent.iter().map(Vec::len));
        sent
    }

    fn sent_lengths(&mut self) -> Vec<usize> {
        // The hello went out before the other end had said what it takes.
        self.link().lengths.split_off(1)
    }

    fn link(&mut self) -> &mut TestLink {
        self.peer.link_mut()
    }
}

/// The one answer to the request `id`.
fn outcome_in(answers: &[Vec<u8>], id: u64) -> Outcome {
    assert_eq!(answers.len(), 1, "one answer to one request");
    let answer = decode(&answers[0]).unwrap();
    assert_eq!(answer.id, id);
    match answer.message_type {
        MessageType::Response => Ok(answer.payload.as_bytes().to_vec()),
        MessageType::Error => {
            let error = IpcError::from_payload(answer.payload.as_bytes());
            Err((error.kind(), error.text().to_string()))
        }
        other => panic!("{other:?} is no answer"),
    }
}

/// The frame of `message`, its destination as the alias of `row`.
fn frame_to_row(message: &Message<'_>, row: u16) -> Vec<u8> {
    let mut frame = [0; 256];
    let len = encode_header_to(message, Some(row), &mut frame).unwrap();
    [&frame[..len], message.payload.as_bytes()].concat()
}

type Outcome<T = Vec<u8>> = Result<T, (ErrorKind, String)>;

#[derive(Default)]
struct Imu {
    calls: u32,
    rates: u32,
    heard: u32,
    replies: Vec<(u64, Outcome<u32>)>,
}

impl Node for Imu {
    const ROWS: &'static [Row<Self>] = &[
        Row::endpoint::<Double>(),
        Row::endpoint::<SetRate>(),
        Row::endpoint::<Dump>(),
        Row::publishes::<Sample>(),
        Row::hears::<Light>(),
    ];

    fn handle_reply(&mut self, id: u64, outcome: Result<MessagePayload<'_>, IpcError<&str>>) {
        let outcome = outcome.map(|payload| payload.parse().unwrap());
        self.replies.push((id, outcome.map_err(|error| (error.kind(), error.text().to_string()))));
    }
}

impl Answers<Double> for Imu {
    fn answer(&mut self, number: u32) -> Result<u32, IpcError> {
        self.calls += 1;
        Ok(number * 2)
    }
}

impl Answers<SetRate> for Imu {
    fn answer(&mut self, rate: u16) -> Result<u16, IpcError> {
        self.calls += 1;
        self.rates += 1;
        Ok(rate)
    }
}

impl Answers<Dump> for Imu {
    fn answer(&mut self, (): ()) -> Result<[[u8; 32]; 5], IpcError> {
        self.calls += 1;
        Ok([[7; 32]; 5])
    }
}

impl Hears<Light> for Imu {
    fn hear(&mut self, _on: bool) -> Result<(), IpcError> {
        self.heard += 1;
        Ok(())
    }
}

macro_rules! endpoint {
    ($name:ident, $address:literal, $access:expr, $request:ty => $response:ty) => {
        struct $name;
        impl Endpoint for $name {
            type Request = $request;
            type Response = $response;
            const ADDRESS: Address<'static> = Address::literal($address);
            const ACCESS: Access<'static> = $access;
        }
    };
}

endpoint!(Double, "imu/double", Access::Open, u32 => u32);
endpoint!(SetRate, "imu/set-rate", Access::Scope("imu.control"), u16 => u16);
endpoint!(Dump, "imu/dump", Access::Open, () => [[u8; 32]; 5]);
endpoint!(Lookup, "registry/lookup", Access::Open, u32 => u32);
endpoint!(Store, "registry/store", Access::Open, [[u8; 32]; 5] => ());

struct Sample;
impl Topic for Sample {
    type Message = [i16; 3];
    const ADDRESS: Address<'static> = Address::literal("imu/sample");
    const ACCESS: Access<'static> = Access::Permission;
}

struct Light;
impl Topic for Light {
    type Message = bool;
    const ADDRESS: Address<'static> = Address::literal("imu/light");
    const ACCESS: Access<'static> = Access::Open;
}

/// A link whose other end is the test.
struct TestLink {
    incoming: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    sent: Vec<Vec<u8>>,
    lengths: Vec<usize>,
    room: usize,
    frames_of_room: usize,
    max: usize,
    gone: bool,
}

impl Default for TestLink {
    fn default() -> Self {
        Self {
            incoming: VecDeque::new(),
            current: Vec::new(),
            sent: Vec::new(),
            lengths: Vec::new(),
            room: OUT,
            frames_of_room: usize::MAX,
            max: OUT,
            gone: false,
        }
    }
}

impl Link for TestLink {
    type Error = Gone;

    fn room(&mut self) -> usize {
        if self.frames_of_room == 0 { 0 } else { self.room }
    }

    fn receive(&mut self) -> Result<Option<&[u8]>, Gone> {
        let Some(frame) = self.incoming.pop_front() else { return Ok(None) };
        self.current = frame;
        Ok(Some(&self.current))
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, Gone> {
        if frame.len() > self.room() {
            return Ok(false);
        }
        self.frames_of_room -= 1;
        self.sent.push(frame.to_vec());
        Ok(true)
    }

    fn flush(&mut self, _now: Instant) -> Result<bool, Gone> {
        if self.gone { Err(Gone) } else { Ok(true) }
    }

    fn max_frame(&self) -> usize {
        self.max
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Gone;

fn root_ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new([9; 32]))).unwrap();
    ring
}

/// A token of the hub for `imu`, for an hour.
fn hub_token(scopes: &[&str]) -> Vec<u8> {
    let claims = Claims {
        issuer: BUS,
        subject: "alice",
        audience: "imu",
        serial: 1,
        issued_at: UNIX_S,
        expiry: UNIX_S + 3_600,
        epoch: 0,
        scopes: Scopes::new(scopes),
    };
    let mut out = [0; crate::limits::MAX_TOKEN];
    let len = root_ring().mint(1, &claims, &mut out).unwrap();
    out[..len].to_vec()
}

fn postcard_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = [0; 256];
    postcard::to_slice(value, &mut out).unwrap().to_vec()
}

fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; 256];
    let len = encode(message, &mut out).unwrap();
    out[..len].to_vec()
}

const OUT: usize = 160;
const UNIX_S: u64 = 1_790_000_000;
