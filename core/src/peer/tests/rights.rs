//! Who may call what: scopes, grants, tokens in a message, and keys; what was tampered with gets nowhere.

use super::*;

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
fn a_token_in_the_message_counts_instead_of_the_grant_of_the_session() {
    let mut board = Board::open();
    let (good, none) = (hub_token(&["imu.control"]), hub_token(&[]));
    board.peer.session.set_clock(board.now, UNIX_S * 1_000_000);
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
    let by_small = |token: &[u8]| small.check(token, &Context::new("imu", Some(UNIX_S))).is_ok();
    let by_full = |token: &[u8]| full.check(token, &Context::new("imu", Some(UNIX_S))).is_ok();
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
    assert!(small.check(&whole, &Context::new("fan", Some(UNIX_S))).is_err(), "for another");
    assert!(small.check(&whole, &Context::new("imu", None)).is_err(), "without the time");
    assert!(small.check(&whole, &Context::new("imu", Some(u64::MAX))).is_err(), "expired");
    const { assert!(!CheckKey::PROVES) };
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
    let grant = hub.check(token, &Context::new(BUS, Some(UNIX_S)).with_boot_id(1)).unwrap();
    assert_eq!((grant.subject(), grant.issuer()), ("imu", "imu"));
    assert!(!board.peer.session().is_ready());
    let id = message.id;
    let accepted = frame_of(&Message::request(id, Address::literal("x")).answer(MessageType::Response));
    board.link().incoming.push_back(accepted);
    assert_eq!(board.peer.poll(&mut board.node, board.now), Ok(Some(Event::Ready)));
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
