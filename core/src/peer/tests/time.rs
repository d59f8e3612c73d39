//! What a leaf believes of the time, and of tokens that were taken back.

use super::*;
use crate::limits::MAX_REVOKED;
use crate::secure::{LinkKey, LinkProof, Suite};

#[test]
fn before_the_hub_has_proven_itself_nothing_passes_but_what_says_boot() {
    let mut board = Board::open();
    let no_time = Err((ErrorKind::Authentication, sentence::NO_TIME.to_string()));
    for scopes in [&["imu.control"][..], &["*"], &["imu.control", "boot.x"]] {
        assert_eq!(board.call_with(&hub_token(scopes)), no_time, "{scopes:?}");
        assert_eq!(board.show(&hub_token(scopes)), no_time, "{scopes:?}");
    }
    assert_eq!(board.node.calls, 0);
    let boot = hub_token(&["imu.control", "boot"]);
    assert!(board.call_with(&boot).is_ok());
    assert_eq!(board.show(&boot), Ok(Vec::new()));
    assert!(board.ask("imu/set-rate", &100u16).is_ok());
    assert_eq!(board.node.calls, 2);
    board.authenticate(&[]);
    assert!(board.call_with(&hub_token(&["imu.control"])).is_ok());
    board.now = board.now.plus_millis(3_600_000);
    assert_eq!(
        board.call_with(&boot).unwrap_err().1,
        sentence::TOKEN_EXPIRED,
        "the time counts once it is known"
    );
    assert_eq!(board.node.calls, 3);
}

#[test]
fn a_grant_of_before_the_time_was_known_ends_when_it_is_known_to_be_over() {
    let mut board = Board::open();
    board.show(&hub_token(&["imu.control", "boot"])).unwrap();
    assert!(board.ask("imu/set-rate", &100u16).is_ok());
    // A proof would take the place of the session's grant.
    board.peer.session.set_clock(board.now, (UNIX_S + 3_600) * 1_000_000);
    assert_eq!(board.ask("imu/set-rate", &100u16).unwrap_err().1, sentence::GRANT_EXPIRED);
    assert_eq!(board.node.calls, 1);
}

#[test]
fn a_hello_that_lies_about_the_time_brings_no_expired_token_back() {
    let mut board = Board::open();
    board.authenticate(&[]);
    let old = mint(&Claims { issued_at: UNIX_S - 7_200, expiry: UNIX_S - 3_600, ..claims(&["imu.control"]) });
    let of_late =
        mint(&Claims { issued_at: UNIX_S + 7_200, expiry: UNIX_S + 9_000, ..claims(&["imu.control"]) });
    for lie in [UNIX_S - 5_000, UNIX_S + 8_000, 1, u64::MAX / 1_000_000] {
        board.greet(256, lie);
        for token in [&old, &of_late] {
            assert_eq!(board.call_with(token).unwrap_err().0, ErrorKind::Authentication, "{lie}");
        }
        assert!(
            board.call_with(&hub_token(&["imu.control"])).is_ok(),
            "the time from before the lie still holds"
        );
    }
    assert_eq!(board.node.calls, 4);
}

#[test]
fn what_the_hub_proved_to_another_start_of_the_board_brings_neither_time_nor_grant() {
    let mut board = Board::open();
    for boot_id in [BOOT_ID - 1, BOOT_ID + 1, 0, u64::MAX] {
        let recorded = mint(&Claims { subject: BUS, serial: boot_id, ..claims(&["*"]) });
        assert_eq!(
            board.show(&recorded).unwrap_err(),
            (ErrorKind::Authentication, sentence::TOKEN_REFUSED.into())
        );
        assert_eq!(board.call_with(&recorded).unwrap_err().0, ErrorKind::Authentication);
    }
    assert_eq!(board.peer.session().trusted_micros(board.now), None);
    assert!(board.peer.session().grant().is_none());
    assert_eq!(board.node.calls, 0);
}

#[test]
fn the_beacon_moves_forward_with_the_clock_and_never_back() {
    let mut board = Board::open();
    let trusted_s = |board: &Board| board.peer.session().trusted_micros(board.now).unwrap() / 1_000_000;
    let prove_at = |board: &mut Board, issued_at| {
        let claims =
            Claims { subject: BUS, serial: BOOT_ID, issued_at, expiry: issued_at + 60, ..claims(&[]) };
        board.show(&mint(&claims)).unwrap();
    };
    prove_at(&mut board, UNIX_S);
    assert_eq!(trusted_s(&board), UNIX_S);
    board.now = board.now.plus_millis(10_000);
    assert_eq!(trusted_s(&board), UNIX_S + 10);
    prove_at(&mut board, UNIX_S - 86_400);
    assert_eq!(trusted_s(&board), UNIX_S + 10, "a hub whose clock was set back is believed all but that");
    prove_at(&mut board, UNIX_S + 86_400);
    assert_eq!(trusted_s(&board), UNIX_S + 86_400);
    board.peer.reset(board.now);
    assert_eq!(trusted_s(&board), UNIX_S + 86_400, "over sessions");
}

#[test]
fn over_a_link_that_has_proven_its_other_end_the_hello_brings_the_time() {
    let mut board = Board::new(Vec::new());
    let key = LinkKey::new(1, Suite::Tag64, "imu", Key::new([3; 32])).unwrap();
    board.link().proof = Some(LinkProof::new("bus", &key, 1));
    board.open_session(256);
    assert!(board.call_with(&hub_token(&["imu.control"])).is_ok());
    board.greet(256, UNIX_S - 7_200);
    assert_eq!(board.peer.session().trusted_micros(board.now), Some(UNIX_S * 1_000_000), "never back");
    assert_eq!(board.node.calls, 1);
}

#[test]
fn a_revoked_subject_is_cut_off_at_once_and_nobody_else() {
    let mut board = Board::open();
    board.authenticate(&["*"]);
    let of = |subject, issued_at| {
        mint(&Claims { subject, issued_at, expiry: UNIX_S + 3_600, ..claims(&["imu.control"]) })
    };
    let (alice, bob) = (of("alice", UNIX_S), of("bob", UNIX_S));
    assert!(board.call_with(&alice).is_ok() && board.call_with(&bob).is_ok());
    board.revoke("alice", UNIX_S + 1).unwrap();
    assert_eq!(
        board.call_with(&alice).unwrap_err(),
        (ErrorKind::Authentication, sentence::TOKEN_REFUSED.into())
    );
    assert_eq!(board.node.calls, 2, "no handler ran");
    assert!(board.call_with(&bob).is_ok());
    assert!(board.call_with(&of("alice", UNIX_S + 1)).is_ok(), "issued since");
    board.revoke("alice", 5).unwrap();
    assert!(board.call_with(&alice).is_err(), "an earlier moment takes nothing back of it");
    assert!(board.ask("imu/set-rate", &100u16).is_ok(), "the hub goes on");
}

#[test]
fn everybody_is_everybody_but_the_hub() {
    let mut board = Board::open();
    board.authenticate(&["*"]);
    board.revoke("", UNIX_S + 1).unwrap();
    assert!(board.call_with(&hub_token(&["imu.control"])).is_err());
    assert!(board.ask("imu/set-rate", &100u16).is_ok());
    board.authenticate(&["*"]);
    assert!(board.ask("imu/set-rate", &100u16).is_ok());
}

#[test]
fn more_revocations_than_fit_take_back_everybodys_tokens_up_to_the_newest() {
    let mut board = Board::open();
    board.authenticate(&["*"]);
    let of = |subject, issued_at| mint(&Claims { subject, issued_at, ..claims(&["imu.control"]) });
    let subjects = ["a", "b", "c", "d"];
    assert_eq!(subjects.len(), MAX_REVOKED);
    for (at, subject) in (1..).zip(subjects) {
        board.revoke(subject, UNIX_S + at).unwrap();
    }
    assert!(board.call_with(&of("innocent", UNIX_S)).is_ok());
    board.revoke("a", UNIX_S + 10).unwrap();
    assert!(board.call_with(&of("innocent", UNIX_S)).is_ok(), "one that is known needs no other place");
    board.revoke("e", UNIX_S + 3).unwrap();
    assert!(board.call_with(&of("innocent", UNIX_S + 2)).is_err());
    assert!(board.call_with(&of("innocent", UNIX_S + 3)).is_ok());
    for (subject, before) in [("a", 10), ("b", 3), ("c", 3), ("d", 4), ("e", 3)] {
        assert!(board.call_with(&of(subject, UNIX_S + before - 1)).is_err(), "{subject}");
        assert!(board.call_with(&of(subject, UNIX_S + before)).is_ok(), "{subject}");
    }
    // b and c have nothing of their own any more: there is room again.
    board.revoke("f", UNIX_S + 20).unwrap();
    board.revoke("g", UNIX_S + 20).unwrap();
    assert!(board.call_with(&of("innocent", UNIX_S + 3)).is_ok());
}

#[test]
fn only_the_hub_takes_tokens_back() {
    let mut board = Board::open();
    assert_eq!(board.revoke("", u64::MAX).unwrap_err().0, ErrorKind::Authentication);
    board.peer.session.set_clock(board.now, UNIX_S * 1_000_000);
    board.show(&hub_token(&["*"])).unwrap();
    assert_eq!(board.revoke("", u64::MAX).unwrap_err().0, ErrorKind::Authentication, "alice is not the hub");
    board.authenticate(&["imu.control"]);
    assert_eq!(board.revoke("", u64::MAX).unwrap_err().0, ErrorKind::Authorization);
    board.authenticate(&["*"]);
    let mut request = Message::request(5, Address::literal(bus::REVOKE));
    for payload in [&[][..], &[0], &[0, 0x80, 0], &[0, 1, 0], &[9, b'a', 1]] {
        request.payload = MessagePayload::Binary(payload);
        assert_eq!(board.outcome(&request).unwrap_err().0, ErrorKind::Serialization, "{payload:?}");
    }
    board.authenticate(&["imu.control"]);
    assert!(board.call_with(&hub_token(&["imu.control"])).is_ok(), "nothing was taken back");
}

#[test]
fn a_notification_takes_tokens_back_too_and_is_not_answered() {
    let mut board = Board::open();
    board.authenticate(&["*"]);
    let payload = postcard_of(&bus::Revoke { subject: "alice", issued_before: UNIX_S + 1 });
    let told = Message::notification(5, Address::literal(bus::REVOKE));
    assert!(board.hear(&told.with_payload(MessagePayload::Binary(&payload))).is_empty());
    assert!(board.call_with(&hub_token(&["imu.control"])).is_err());
}

#[test]
fn a_key_that_only_checks_knows_of_one_moment_for_everybody() {
    let mut key = CheckKey::new(1, Key::new([9; 32]).derive("imu"));
    let context = Context::new("imu", Some(UNIX_S)).with_boot_id(BOOT_ID);
    let token = hub_token(&["imu.control"]);
    key.revoke(&bus::Revoke { subject: "bob", issued_before: UNIX_S });
    assert!(key.check(&token, &context).is_ok());
    key.revoke(&bus::Revoke { subject: "bob", issued_before: UNIX_S + 1 });
    key.revoke(&bus::Revoke { subject: "bob", issued_before: 1 });
    assert!(key.check(&token, &context).is_err());
    let proof = mint(&Claims { subject: BUS, serial: BOOT_ID, ..claims(&[]) });
    assert!(key.check(&proof, &context).is_ok());
}

impl Board {
    fn revoke(&mut self, subject: &str, issued_before: u64) -> Outcome {
        self.ask(bus::REVOKE, &bus::Revoke { subject, issued_before })
    }
}
