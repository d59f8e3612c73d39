//! Addresses as numbers of rows, on a line: a board that is driven by hand, against the real hub.

use visorbus_core::auth::Access;
use visorbus_core::bus::{self, Describe, Identity, RowInfo, RowKind, RowPart, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{MessagePayload, MessageType};
use visorbus_core::sentence::SENTENCES;
use visorbus_hub::{Error, LinkOptions, OwnedMessage, OwnedPayload};
use visorbus_tests::faulty_link::Random;
use visorbus_tests::raw_peer::{RawPeer, expect_error, frame_of, identity};

use crate::harness::{Client, TestHub, request};
use crate::leaf::Line;

#[test]
fn what_comes_on_the_number_of_a_row_is_published_on_its_address_under_ids_of_the_hub() {
    let hub = TestHub::start();
    let mut watcher = hub.connect("watcher", &["subscribe:imu/*"]);
    watcher.subscribe("imu/*", SlowConsumer::Disconnect).unwrap();
    let mut board = Board::described(&hub, &TABLE);
    let mut last = 0;
    for n in 0..300u16 {
        // Bare, in full without an id, and with an id of its own: the hub numbers what is not numbered.
        let frame = match n % 3 {
            0 => vec![0x0a, 0x42, 0x82, n as u8],
            1 => vec![0x0a, 0x02, 0, 0, 0x82, n as u8],
            _ => vec![0x0a, 0x02, 9, 0x82, 0x82, n as u8],
        };
        board.peer.write_frame(&frame);
        let sample = watcher.read_topic("imu/sample");
        assert_eq!(sample.payload, OwnedPayload::Binary(vec![n as u8]));
        assert_eq!(sample.source, if n % 3 == 2 { "imu/sample" } else { "imu" });
        if n % 3 == 2 {
            assert_eq!(sample.id, 9);
        } else {
            assert!(sample.id > last && sample.id > 1 << 52, "{}", sample.id);
            last = sample.id;
        }
    }
    // Nor after the board has started again.
    board.open(2, &TABLE);
    board.answer_all();
    board.peer.write_frame(&[0x0a, 0x42, 0x82, 7]);
    assert!(watcher.read_topic("imu/sample").id > last);
}

#[test]
fn the_number_of_a_row_counts_from_when_the_hub_knows_it_and_no_other_does() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut watcher = hub.connect("watcher", &["subscribe:**"]);
    watcher.subscribe("imu/*", SlowConsumer::Disconnect).unwrap();
    let mut board = Board::open_with(&hub, &TABLE);
    for row in 0..TABLE.len() as u16 {
        board.answer_until(|ask| ask == Describe { row, part: RowPart::Info });
        for number in 0..=TABLE.len() as u8 {
            let alias = 0x80 | number;
            // To nobody in particular at its own addresses: each is one that the hub can resolve, or none.
            board.peer.write_frame(&[0x2a, 0x00, 40 + number, 0, alias]);
            let outcome = board.peer.answer_to(u64::from(40 + number));
            if u16::from(number) < row {
                assert!(outcome.is_ok(), "row {number}, {row} told: {outcome:?}");
            } else {
                let unknown = SENTENCES[16].1;
                expect_error(outcome, ErrorKind::Protocol, unknown);
            }
        }
        // Unanswered until now, it is asked again.
    }
    let told = hub.peer("imu").undecodable;
    assert_eq!(told, (2..=TABLE.len() as u64 + 1).sum::<u64>());
    let got: Vec<String> = watcher.read_so_far().into_iter().map(|message| message.destination).collect();
    assert!(got.iter().all(|topic| TABLE.contains(&topic.as_str())), "{got:?}");
    assert_eq!(got.len(), (0..TABLE.len()).sum::<usize>());
    innocent.is_served_alone(&hub);
}

#[test]
fn requests_and_notifications_go_to_a_board_by_number_and_to_a_program_as_text() {
    let hub = TestHub::start();
    let mut caller = hub.connect("caller", &["*"]);
    let mut board = Board::described(&hub, &TABLE);
    board.peer.read_aliases(&["row/0", "row/1", "row/2", "row/3"]);
    for (address, row) in [("imu/info", "row/0"), ("imu/set-rate", "row/1"), ("imu/sample", "row/2")] {
        let id = caller.send_request(address, MessagePayload::Empty);
        let call = board.peer.read_where(|message| message.source == "caller");
        assert_eq!((call.destination.as_str(), call.source.as_str()), (row, "caller"));
        board.peer.answer(&call, "done");
        assert!(caller.answer_to(id).is_ok());
    }
    caller.notify("imu/light", MessagePayload::Empty);
    let heard = board.peer.read_where(|message| message.source == "caller");
    assert_eq!(heard.destination, "row/3");
    caller.send_request("imu/unheard-of", MessagePayload::Empty);
    let call = board.peer.read_where(|message| message.source == "caller");
    assert_eq!(call.destination, "imu/unheard-of", "it has no row");

    let mut program = Board::attach(&hub, "lamp", false);
    program.open(1, &["lamp/on"]);
    program.answer_all();
    caller.send_request("lamp/on", MessagePayload::Empty);
    program.peer.read_aliases(&["row/0"]);
    let call = program.peer.read_where(|message| message.source == "caller");
    assert_eq!(call.destination, "lamp/on");
}

#[test]
fn after_a_restart_with_a_shorter_table_a_number_means_the_new_row_or_none() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut watcher = hub.connect("watcher", &["subscribe:**"]);
    watcher.subscribe("imu/*", SlowConsumer::Disconnect).unwrap();
    let mut board = Board::described(&hub, &TABLE);
    board.open(2, &["imu/other"]);
    for alias in 0x80..0x84 {
        board.peer.write_frame(&[0x2a, 0x00, 50, 0, alias]);
        expect_error(board.peer.answer_to(50), ErrorKind::Protocol, "not announced");
    }
    board.answer_all();
    board.peer.write_frame(&[0x2a, 0x00, 51, 0, 0x82]);
    expect_error(board.peer.answer_to(51), ErrorKind::Protocol, "not announced");
    board.peer.write_frame(&[0x0a, 0x42, 0x80, 7]);
    assert_eq!(watcher.read_topic("imu/other").payload, OwnedPayload::Binary(vec![7]));
    assert!(watcher.read_so_far().is_empty(), "nothing under an address of before");
    innocent.is_served_alone(&hub);
}

/// A hub that has just started does not know the numbers that the board still uses: that alone must not keep it from
/// asking who is there.
#[test]
fn before_hello_a_number_is_a_message_too_early_and_has_the_hub_ask_who_is_there() {
    let hub = TestHub::start();
    let mut board = Board::attach(&hub, "imu", true);
    let asks = |message: &OwnedMessage| message.destination == bus::IDENTITY;
    board.peer.read_where(asks);
    for _ in 0..20 {
        board.peer.write_frame(&[0x0a, 0x42, 0x82, 7]);
        board.peer.read_where(asks);
    }
    board.peer.write_frame(&[0x28, 0x00, 33, 0, 0x82]);
    expect_error(board.peer.answer_to(33), ErrorKind::Protocol, "say hello first");
    let rest = board.peer.read_so_far();
    assert!(rest.iter().all(asks), "a sample is not answered with an error each: {rest:?}");
}

/// Who is asked for a schema takes it that all rows are known: the hub asks for none unless they are.
#[test]
fn a_hub_that_has_given_up_on_a_table_never_asks_for_more_of_it() {
    let hub = TestHub::start();
    let mut board = Board::attach(&hub, "imu", true);
    board.open(1, &["imu/info", "lamp/on", "imu/sample"]);
    board.answer_until(|ask| ask.row == 1);
    board.answer(Describe { row: 1, part: RowPart::Info });
    let token = hub.token("imu", &[]);
    for _ in 0..3 {
        board.peer.authenticate(&token).unwrap();
        let rest = board.peer.read_so_far();
        assert!(rest.iter().all(|message| message.destination != bus::DESCRIBE), "{rest:?}");
    }
    board.peer.write_frame(&[0x2a, 0x00, 50, 0, 0x80]);
    assert!(board.peer.answer_to(50).is_ok(), "what it had told counts");
    board.peer.write_frame(&[0x2a, 0x00, 51, 0, 0x81]);
    expect_error(board.peer.answer_to(51), ErrorKind::Protocol, "not announced");
}

#[test]
fn random_frames_with_numbers_of_rows_disturb_nobody() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut watcher = hub.connect("watcher", &["subscribe:**"]);
    watcher.subscribe("imu/**", SlowConsumer::DropOldest(1)).unwrap();
    let mut board = Board::described(&hub, &TABLE);
    let mut random = Random::new(7);
    for round in 0..20_000 {
        let bytes = |random: &mut Random, n| (0..random.below(n)).map(|_| random.below(256) as u8).collect();
        let tail: Vec<u8> = bytes(&mut random, 6);
        // Requests, notifications, answers; bare or not; one byte of alias or two, in either place.
        let head = [0x28, 0x08, 0x0a, 0x2a, 0x09, 0x0b][random.below(6) as usize];
        let parts = if random.below(3) == 0 { random.below(256) as u8 } else { 0x02 };
        let most = [6, 128][random.below(2) as usize];
        let alias = 0x80 | random.below(most) as u8;
        let frame = match random.below(3) {
            0 => [&[head, parts | 0x40, alias][..], &tail].concat(),
            1 => [&[head, parts & 0x3f, 127, 0, alias][..], &tail].concat(),
            _ => [&[head, parts & 0x3f, 127, alias, 0x80][..], &tail].concat(),
        };
        board.peer.write_frame(&frame);
        if round % 500 == 0 {
            board.peer.read_so_far();
            for message in watcher.read_so_far() {
                let source = message.source.split('/').next();
                assert!(source == Some("imu") || message.destination == bus::MISSED, "{message:?}");
            }
        }
    }
    let seen = hub.peer("imu");
    assert!(seen.undecodable > 1_000 && seen.refused + seen.late > 1_000, "{seen:?}");
    innocent.is_served_alone(&hub);
    board.peer.write_frame(&[0x2a, 0x00, 50, 0, 0x82]);
    assert!(board.peer.answer_to(50).is_ok());
}

/// A board that a test drives by hand, on a line that believes its name.
struct Board {
    peer: RawPeer,
    name: &'static str,
    rows: Vec<&'static str>,
}

impl Board {
    fn attach(hub: &TestHub, name: &'static str, lossy: bool) -> Self {
        let options = LinkOptions {
            lossy,
            max_frame: 256,
            unauthenticated: Some(name.to_owned()),
            ..LinkOptions::default()
        };
        let peer = RawPeer::attach_by(&hub.handle, |inner| Box::new(Line { inner, options }));
        Self { peer, name, rows: Vec::new() }
    }

    fn open_with(hub: &TestHub, rows: &[&'static str]) -> Self {
        let mut board = Self::attach(hub, "imu", true);
        board.open(1, rows);
        board
    }

    /// With a session in which the hub knows all rows.
    fn described(hub: &TestHub, rows: &[&'static str]) -> Self {
        let mut board = Self::open_with(hub, rows);
        board.answer_all();
        board
    }

    /// Says hello with these rows, as after start number `boot_id`.
    fn open(&mut self, boot_id: u64, rows: &[&'static str]) {
        self.rows = rows.to_vec();
        let rows = rows.len() as u16;
        let hello = Identity { boot_id, rows, max_frame: 256, ..identity(self.name) };
        self.peer.hello_as(&hello).expect("a hello is answered");
    }

    fn answer_all(&mut self) {
        let last = Describe { row: self.rows.len() as u16 - 1, part: RowPart::Response };
        self.answer_until(|ask| ask == last);
        self.answer(last);
    }

    /// Answers what the hub asks of the table, up to this question, which is kept.
    fn answer_until(&mut self, last: impl Fn(Describe) -> bool) {
        loop {
            let asked = self.peer.read_where(|message| message.destination == bus::DESCRIBE);
            let ask: Describe = asked.payload.parse().unwrap();
            if last(ask) {
                return;
            }
            self.answer_to(&asked, ask);
        }
    }

    /// Answers this question when it is asked again.
    fn answer(&mut self, ask: Describe) {
        loop {
            let asked = self.peer.read_where(|message| message.destination == bus::DESCRIBE);
            if asked.payload.parse() == Ok(ask) {
                return self.answer_to(&asked, ask);
            }
        }
    }

    fn answer_to(&mut self, asked: &OwnedMessage, ask: Describe) {
        let payload = match ask.part {
            RowPart::Info => self.info(ask.row).unwrap(),
            _ => OwnedPayload::Binary(vec![0]),
        };
        let answer = request(asked.id, "x").answer(MessageType::Response).with_payload(payload.borrow());
        self.peer.write_frame(&frame_of(&answer));
    }

    fn info(&self, row: u16) -> Result<OwnedPayload, Error> {
        let address = self.rows[usize::from(row)];
        let kind = match address {
            "imu/sample" | "imu/other" => RowKind::Publishes,
            "imu/light" => RowKind::Hears,
            _ => RowKind::Endpoint,
        };
        let (request_hash, response_hash) = (0, 0);
        OwnedPayload::postcard(&RowInfo {
            kind,
            address,
            access: Access::Permission,
            request_hash,
            response_hash,
        })
    }
}

const TABLE: [&str; 4] = ["imu/info", "imu/set-rate", "imu/sample", "imu/light"];
