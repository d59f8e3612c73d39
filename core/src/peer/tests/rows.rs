//! Addresses as the numbers of rows: when they are used, and what is not there.

use super::*;

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
