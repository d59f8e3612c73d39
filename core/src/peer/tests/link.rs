//! What a link does to a peer: no room, short frames, bytes that are no message, and a line that is gone.

use super::*;

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
fn a_link_that_is_gone_is_an_error_and_the_replug_starts_anew() {
    let mut board = Board::open();
    board.link().gone = true;
    assert_eq!(board.peer.poll(&mut board.node, board.now), Err(Gone));
    board.link().gone = false;
    board.peer.reset(board.now);
    board.open_session(256);
    assert!(board.peer.session().is_ready());
}
