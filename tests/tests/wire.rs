//! Wire version 1, held to the bytes in `golden/wire-v1.txt`, which were made without this code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use visorbus_core::auth::{Access, Claims, Context, Key, KeyRing, Scopes, Slot};
use visorbus_core::bus::{
    Announce, Cancel, Credentials, Describe, Identity, Lasting, Mismatch, Missed, Register, Revoked, RowInfo,
    RowKind, RowPart, SlowConsumer, Subscribe,
};
use visorbus_core::codec::{DecodeError, decode, decode_with, encode, encode_error, encode_header_to};
use visorbus_core::error::ErrorKind;
use visorbus_core::frame::length::{self, LengthError, Split};
use visorbus_core::frame::serial::{self, SerialDecoder};
use visorbus_core::frame::spi::{self, Side, Status};
use visorbus_core::message::{
    Address, Message, MessageFlags, MessagePayload, MessagePriority, MessageType, PayloadKind,
};
use visorbus_core::seal::{BootNonce, Header, Opener, PayloadKey, Sealer, nonce_of};
use visorbus_core::sentence::SENTENCES;
use visorbus_core::session::{Name, Role, Session, SessionConfig, Verdict};
use visorbus_core::{Instant, IpcError};
use visorbus_hub::OwnedPayload;
use visorbus_hub::compress::expand;

#[test]
fn every_message_decodes_to_what_it_means_and_encodes_to_the_same_bytes() {
    let golden = golden();
    for (name, message) in messages() {
        let bytes = &golden[name].bytes;
        assert_eq!(decode(bytes), Ok(message), "{name}");
        assert_eq!(frame_of(&message), *bytes, "{name}");
    }
}

#[test]
fn every_alias_stands_for_the_address_of_its_row() {
    let golden = golden();
    for (name, row, message) in aliased() {
        let bytes = &golden[name].bytes;
        assert_eq!(decode_with(bytes, address_of), Ok(message), "{name}");
        assert!(matches!(decode(bytes), Err(DecodeError::UnknownAlias(_))), "{name}");
        let mut head = [0; 64];
        let len = encode_header_to(&message, row, &mut head).unwrap();
        // This end never writes an alias for a source.
        if message.source.is_none() {
            assert_eq!([&head[..len], message.payload.as_bytes()].concat(), *bytes, "{name}");
        }
    }
}

#[test]
fn every_payload_of_the_bus_is_the_postcard_of_its_type() {
    let golden = golden();
    for (name, bytes) in payloads() {
        assert_eq!(bytes, golden[name].bytes, "{name}");
    }
}

#[test]
fn the_eight_errors_are_a_code_and_a_text() {
    let golden = golden();
    for (name, kind) in errors() {
        let text = format!("no {}", kind.as_str());
        let error = IpcError::new(kind, text.as_str());
        let bytes = &golden[name.as_str()].bytes;
        assert_eq!(IpcError::from_payload(bytes), error, "{name}");
        let mut out = [0; 64];
        let len = encode_error(&Message::request(1, Address::literal("a")), &error, &mut out).unwrap();
        assert_eq!(decode(&out[..len]).unwrap().payload.as_bytes(), bytes, "{name}");
    }
}

/// The numbers are for ever. Whoever adds one adds its line here and in docs/wire-format.md.
#[test]
fn the_sentences_of_errors_keep_their_numbers() {
    let begin = [
        "nobody serves this address",
        "this is neither a request",
        "this end cannot open an",
        "the answer is too long",
        "this end says hello itself",
        "this end takes only a",
        "the credentials are cut off",
        "say hello first: a request",
        "the answer to hello is",
        "authenticate first: send a token",
        "this address takes postcard, not",
        "the payload is not of",
        "the frame is cut off",
        "the frame has a message",
        "the frame has a payload",
        "an address in the frame",
        "an address in the frame",
        "the payload does not fit",
        "this node has no keys",
        "there is no such row",
        "token expired; refresh it or",
        "no time known yet; try",
        "token is for another component",
        "token not accepted; get a",
        "this session has not authenticated",
        "the token of this session",
        "no permission of the token allows 'request' on this address",
        "no permission of the token allows 'notify' on this address",
        "the text of the error",
    ];
    assert_eq!(SENTENCES.len(), begin.len());
    let page = include_str!("../../docs/wire-format.md");
    for (at, ((number, sentence), begin)) in SENTENCES.iter().zip(begin).enumerate() {
        assert_eq!(usize::from(*number), at + 1);
        assert!(sentence.starts_with(begin), "{number}: {sentence}");
        assert!(
            page.contains(&format!("| {number} | {sentence} |")),
            "{number} is not in docs/wire-format.md"
        );
        assert_eq!(IpcError::from_payload(&[2, *number]), IpcError::Authorization(*sentence));
    }
    assert_eq!(IpcError::from_payload(b"\x02\x1f"), IpcError::Authorization("\x1f"));
    assert_eq!(IpcError::from_payload(b"\x02\x01!"), IpcError::Authorization("\x01!"));
}

#[test]
fn a_frame_goes_over_a_line_as_cobs_with_its_crc() {
    let golden = golden();
    for (name, line) in golden.iter().filter_map(|(name, line)| Some((name.strip_prefix("serial/")?, line))) {
        let frame = &golden[name].bytes;
        let mut out = vec![0; serial::max_encoded_len(frame.len())];
        let len = serial::encode(&[frame], &mut out).unwrap();
        assert_eq!(out[..len], line.bytes, "{name}");
        let mut decoder = SerialDecoder::<1024>::new();
        assert_eq!(decoder.push(&line.bytes), line.bytes.len());
        assert_eq!(decoder.frame(), Some(frame.as_slice()), "{name}");
    }
}

#[test]
fn a_frame_goes_over_an_spi_bus_behind_a_status() {
    let golden = golden();
    for (name, line) in golden.iter().filter_map(|(name, line)| Some((name.strip_prefix("spi/")?, line))) {
        let frame = &golden[name].bytes;
        let (from, said) = line.meaning.split_once(' ').unwrap();
        let from = if from == "controller" { Side::Controller } else { Side::Target };
        let (number, room) = said.split_once(", ").unwrap();
        let status =
            Status { room: room == "room", sequence: number.parse().unwrap(), len: frame.len() as u8 };
        assert_eq!(Status::decode(from, &line.bytes), Some(status), "{name}");
        assert_eq!(status.frame(&line.bytes).map(|(frame, _)| frame), Ok(frame.as_slice()), "{name}");
        let mut out = [0; spi::MAX_TRANSFER];
        let len = spi::encode_frame(status.sequence, frame, &mut out).unwrap();
        out[..spi::STATUS_LEN].copy_from_slice(&status.encode(from));
        assert_eq!(out[..len], line.bytes, "{name}");
    }
}

#[test]
fn a_frame_goes_over_a_socket_behind_its_length() {
    let golden = golden();
    for (name, line) in golden.iter().filter_map(|(name, line)| Some((name.strip_prefix("length/")?, line))) {
        let frame = &golden[name].bytes;
        assert_eq!([&length::prefix(frame.len())[..], frame].concat(), line.bytes, "{name}");
        let whole = Split::Frame { frame, consumed: line.bytes.len() };
        assert_eq!(length::split(&line.bytes, 65_536), Ok(whole), "{name}");
    }
}

#[test]
fn what_is_sealed_is_made_and_opened_as_it_stands() {
    let (panel, put) = (Address::literal("panel"), Address::literal("vault/put"));
    let key = PayloadKey::new(std::array::from_fn(|at| at as u8));
    let request = Message { source: Some(panel), ..Message::request(7, put) };
    let sealed = &golden()["sealed/request"].bytes;
    let header = Header::of(&request, panel).unwrap();
    let start = BootNonce::new(1_700_000_000_000_000, std::array::from_fn(|at| 0xa0 + at as u8));
    let mut out = [0; 64];
    let len =
        Sealer::new(&key, "panel", "vault", start).seal(&header, PayloadKind::String, b"4711", &mut out);
    assert_eq!(out[..len.unwrap()], *sealed);
    let opened = Opener::new(&key, "panel", "vault").open(&header, sealed, &mut out);
    assert_eq!(opened, Ok((PayloadKind::String, &b"4711"[..])));

    let answered = &golden()["sealed/response"].bytes;
    let answer = request.answer(MessageType::Response);
    let header = Header::of_answer(&answer, put, panel, nonce_of(sealed).unwrap());
    let start = BootNonce::new(1_700_000_000_000_001, std::array::from_fn(|at| 0xb0 + at as u8));
    let len =
        Sealer::new(&key, "vault", "panel", start).seal(&header, PayloadKind::Binary, &[1, 2], &mut out);
    assert_eq!(out[..len.unwrap()], *answered);
    let opened = Opener::new(&key, "vault", "panel").open(&header, answered, &mut out);
    assert_eq!(opened, Ok((PayloadKind::Binary, &[1, 2][..])));
}

#[test]
fn what_is_compressed_expands_to_what_it_says() {
    let expanded = expand(MessagePayload::Binary(&golden()["compressed/string"].bytes), 300);
    assert_eq!(expanded, Ok(OwnedPayload::String("a".repeat(300))));
}

#[test]
fn what_is_not_of_version_1_is_refused_by_its_reason() {
    for (name, line) in golden().iter().filter(|(name, _)| name.starts_with("refused/")) {
        let reason = match name.strip_prefix("refused/").and_then(|name| name.split('-').next()) {
            Some("serial") => serial_fault(&line.bytes),
            Some("length") => length_fault(&line.bytes),
            Some("spi") => spi_fault(&line.bytes),
            _ => format!("{:?}", decode(&line.bytes).expect_err(name)),
        };
        assert_eq!(reason, line.meaning, "{name}");
    }
    assert_eq!(decode(&[]), Err(DecodeError::CutOff));
}

/// What two sessions say to each other is what stands in the file, not only what could be said.
#[test]
fn sessions_say_what_the_file_says() {
    let golden = golden();
    let mut out = [0; 256];
    let (mut leaf, mut hub) = (leaf(), hub());
    let start = Instant::from_micros(0);
    hub.set_clock(start, UNIX_US);

    let len = hub.poll_transmit(start, &mut out);
    assert_eq!(out[..len], golden["identity"].bytes);
    let len = leaf.poll_transmit(start, &mut out);
    assert_eq!(out[..len], golden["hello"].bytes);
    let Verdict::Opened { answer } = hub.handle(&decode(&golden["hello"].bytes).unwrap(), start, &mut out)
    else {
        panic!("not opened")
    };
    assert_eq!(out[..answer], golden["hello-answer"].bytes);
    leaf.handle(&decode(&golden["hello-answer"].bytes).unwrap(), start, &mut out);
    assert!(leaf.is_open());
    let len = leaf.authenticate(TOKEN, start, &mut out);
    assert_eq!(out[..len], golden["authenticate"].bytes);
    let authenticate = decode(&golden["authenticate"].bytes).unwrap();
    let Verdict::Authenticate { token } = hub.handle(&authenticate, start, &mut out) else {
        panic!("not taken for a token")
    };
    assert_eq!(token, TOKEN);
    hub.accept(grant());

    let second = start.plus_millis(1_000);
    let len = leaf.poll_transmit(second, &mut out);
    assert_eq!(out[..len], golden["heartbeat"].bytes);
    hub.set_clock(second, UNIX_US);
    let Verdict::Answer(len) = hub.handle(&decode(&golden["heartbeat"].bytes).unwrap(), second, &mut out)
    else {
        panic!("no echo")
    };
    assert_eq!(out[..len], golden["heartbeat-echo"].bytes);
    while leaf.take_id() < 11 {}
    let len = leaf.close("shutting down", second, &mut out);
    assert_eq!(out[..len], golden["goodbye"].bytes);

    let foreign = postcard_of(&Identity { min_version: 2, max_version: 3, ..IMU });
    let hello = Message::request(1, Address::literal("bus/hello"));
    let hello = hello.with_payload(MessagePayload::Binary(&foreign));
    let Verdict::Refused { answer } = self::hub().handle(&hello, start, &mut out) else {
        panic!("not refused")
    };
    assert_eq!(out[..answer], golden["hello-refused"].bytes);
}

#[test]
fn every_line_of_the_file_is_checked_by_one_of_these_tests() {
    let mut checked: BTreeSet<String> = messages().into_iter().map(|(name, _)| name.to_string()).collect();
    checked.extend(aliased().into_iter().map(|(name, ..)| name.to_string()));
    checked.extend(errors().into_iter().map(|(name, _)| name));
    checked.extend(payloads().into_iter().map(|(name, _)| name.to_string()));
    let own = |name: &str| {
        ["serial/", "spi/", "length/", "refused/", "sealed/", "compressed/"]
            .iter()
            .any(|kind| name.starts_with(kind))
    };
    for name in golden().keys().filter(|name| !own(name)) {
        assert!(checked.remove(*name), "{name} stands in the file alone");
    }
    assert_eq!(checked, BTreeSet::new(), "not in the file");
}

/// Each message of the file, in its order.
fn messages() -> Vec<(&'static str, Message<'static>)> {
    let to = Address::literal;
    let request = |id, address| Message::request(id, to(address));
    let notification = |id, address| Message::notification(id, to(address));
    let response = |id| Message { destination: None, ..request(id, "x").answer(MessageType::Response) };
    let quiet = MessageFlags::NONE;
    let with = |message: Message<'static>, flags| Message { flags, ..message };
    let wanted = MessageFlags { requires_response: true, ..quiet };
    let log = |payload| notification(4, "log").with_payload(payload);
    let tap = |priority| with(notification(6, "imu/tap"), MessageFlags { priority, ..quiet });
    let put = |flags| with(request(7, "vault/put"), flags).with_payload(MessagePayload::Binary(&[1, 2]));
    let timeout = |ms| with(request(10, "imu/info"), MessageFlags { timeout_ms: Some(ms), ..wanted });
    let token = |token| Message { auth_token: Some(token), ..request(11, "imu/set-rate") };
    let everything = MessageFlags {
        requires_response: true,
        encrypted: true,
        compressed: true,
        priority: MessagePriority::Critical,
        timeout_ms: Some(500),
    };
    let error =
        |bytes| Message { message_type: MessageType::Error, ..response(1) }.with_payload(binary(bytes));
    vec![
        ("request", request(1, "imu/info")),
        ("request-unanswered", with(request(1, "imu/info"), quiet)),
        ("response", response(1)),
        ("response-to-a-source", Message { destination: Some(to("cli.1")), ..response(1) }),
        ("error", error(b"\x02missing scope")),
        ("notification", notification(2, "imu/sample").with_payload(binary(SAMPLE))),
        ("heartbeat", Message { timestamp: Some(1_000_000), ..with(Message::heartbeat(3), wanted) }),
        ("heartbeat-echo", Message { timestamp: Some(UNIX_US), ..Message::heartbeat(3) }),
        ("payload-string", log(MessagePayload::String("grün"))),
        ("payload-string-empty", log(MessagePayload::String(""))),
        ("payload-binary-empty", log(MessagePayload::Binary(&[]))),
        ("payload-json", request(5, "imu/set-rate").with_payload(MessagePayload::Json("{\"hz\":200}"))),
        ("payload-toml", request(5, "config/set").with_payload(MessagePayload::Toml("hz = 200\n"))),
        ("priority-low", tap(MessagePriority::Low)),
        ("priority-normal", tap(MessagePriority::Normal)),
        ("priority-high", tap(MessagePriority::High)),
        ("priority-critical", tap(MessagePriority::Critical)),
        (
            "priority-of-an-answer",
            with(response(6), MessageFlags { priority: MessagePriority::High, ..quiet }),
        ),
        ("flag-encrypted", put(MessageFlags { encrypted: true, ..wanted })),
        ("flag-compressed", put(MessageFlags { compressed: true, ..wanted })),
        ("address-none", Message { destination: None, ..notification(8, "x") }),
        ("address-source", Message { source: Some(to("imu")), ..notification(8, "imu/sample") }),
        (
            "address-longest",
            notification(8, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
        ),
        ("address-bytes", notification(8, "a.b_c-9/0/z")),
        ("bare", notification(0, "imu/sample").with_payload(binary(SAMPLE))),
        (
            "bare-timestamp",
            Message { timestamp: Some(9 * H + H / 2), ..notification(0, "imu/sample") }
                .with_payload(binary(SAMPLE)),
        ),
        (
            "bare-critical",
            with(notification(0, "imu/tap"), MessageFlags { priority: MessagePriority::Critical, ..quiet }),
        ),
        ("id-zero", response(0)),
        ("id-one-byte", response(127)),
        ("id-two-bytes", response(128)),
        ("id-three-bytes", response(16_384)),
        ("id-longest", response(u64::MAX)),
        ("timestamp-longest", Message { timestamp: Some(u64::MAX), ..notification(9, "imu/tap") }),
        (
            "timestamp-of-the-hub",
            Message { timestamp: Some(UNIX_US), uncertainty_us: Some(312), ..notification(9, "imu/tap") },
        ),
        (
            "uncertainty-longest",
            Message { timestamp: Some(1), uncertainty_us: Some(u32::MAX), ..notification(9, "imu/tap") },
        ),
        ("timeout", timeout(500)),
        ("timeout-longest", timeout(u32::MAX)),
        ("timeout-none-left", timeout(0)),
        ("token", token(&[0xab; 16]).with_payload(binary(&[0xc8, 0x01]))),
        ("token-longest", token(&[0xcd; 256])),
        (
            "every-part",
            Message {
                id: 300,
                message_type: MessageType::Request,
                source: Some(to("cli.1")),
                destination: Some(to("imu/set-rate")),
                payload: MessagePayload::Json("{}"),
                timestamp: Some(1_000_000),
                uncertainty_us: None,
                auth_token: Some(&[7; 20]),
                flags: everything,
            },
        ),
        ("hello", request(1, "bus/hello").with_payload(typed(&IMU))),
        (
            "hello-answer",
            Message { source: request(1, "bus/hello").destination, ..response(1) }.with_payload(typed(&HUB)),
        ),
        ("hello-refused", error(b"\x07no common wire version: this end speaks version 1")),
        ("identity", request(0, "bus/identity").with_payload(typed(&HUB))),
        ("authenticate", request(2, "bus/authenticate").with_payload(typed(&Credentials::Token(TOKEN)))),
        ("goodbye", notification(12, "bus/goodbye").with_payload(MessagePayload::String("shutting down"))),
        (
            "describe",
            request(13, "bus/describe").with_payload(typed(&Describe { row: 300, part: RowPart::Info })),
        ),
        (
            "subscribe",
            request(14, "bus/subscribe")
                .with_payload(typed(&Subscribe { pattern: "imu/**", policy: SlowConsumer::default() })),
        ),
        ("unsubscribe", request(15, "bus/unsubscribe").with_payload(MessagePayload::String("imu/**"))),
        ("register", request(16, "bus/register").with_payload(typed(&Register { component: "camera" }))),
        ("unregister", request(17, "bus/unregister").with_payload(MessagePayload::String("camera"))),
        (
            "missed",
            notification(18, "bus/missed").with_payload(typed(&Missed { pattern: "imu/**", count: 37 })),
        ),
    ]
}

/// Each message of the file with an alias in it, and the row that its destination is of, in its order.
fn aliased() -> Vec<(&'static str, Option<u16>, Message<'static>)> {
    let to = Address::literal;
    let bare = Message::notification(0, to("imu/sample")).with_payload(binary(SAMPLE));
    let one = Message::notification(8, to("imu/sample")).with_payload(binary(&[7]));
    let from = Message { source: Some(to("imu/sample")), ..one };
    let far = Message::request(1, to("imu/far"));
    let set_rate = Message::request(1, to("imu/set-rate")).with_payload(binary(&[0xc8, 0x01]));
    vec![
        ("alias/bare", Some(3), bare),
        ("alias/bare-timestamp", Some(3), Message { timestamp: Some(9 * H + H / 2), ..bare }),
        ("alias/destination", Some(1), set_rate),
        ("alias/source", None, from),
        ("alias/both", Some(3), from),
        ("alias/last-of-one-byte", Some(63), far),
        ("alias/first-of-two-bytes", Some(64), far),
        ("alias/last-of-two-bytes", Some(16_383), far),
    ]
}

/// The table that the file has for its aliases.
fn address_of(row: u16) -> Option<Address<'static>> {
    Some(Address::literal(match row {
        1 => "imu/set-rate",
        3 => "imu/sample",
        63 | 64 | 16_383 => "imu/far",
        _ => return None,
    }))
}

/// Each payload of the file, in its order.
fn payloads() -> Vec<(&'static str, &'static [u8])> {
    let describe = |part| Describe { row: 2, part };
    let subscribe = |pattern, policy| Subscribe { pattern, policy };
    let revoked = |what, name| Revoked { what, name, reason: "no" };
    let endpoint = RowInfo {
        kind: RowKind::Endpoint,
        address: "imu/set-rate",
        access: Access::Scope("imu.control"),
        request_hash: 0x0123_4567_89ab_cdef,
        response_hash: u64::MAX,
    };
    let publishes = RowInfo {
        kind: RowKind::Publishes,
        address: "imu/sample",
        access: Access::Permission,
        request_hash: 1,
        response_hash: 2,
    };
    let hears = RowInfo {
        kind: RowKind::Hears,
        address: "imu/light",
        access: Access::Open,
        request_hash: 128,
        response_hash: 0,
    };
    let announce =
        Announce { row: publishes, request_schema: b"\x03u16\x07", response_schema: b"\x02()\x13" };
    vec![
        ("Identity", there_and_back(IMU)),
        ("Identity/hub", there_and_back(HUB)),
        ("Credentials/token", there_and_back(Credentials::Token(TOKEN))),
        ("Credentials/username-password", there_and_back(PASSWORD)),
        ("Credentials/api-key", there_and_back(Credentials::ApiKey("vbk1.robot"))),
        ("Credentials/certificate", there_and_back(Credentials::Certificate)),
        ("Credentials/peer", there_and_back(Credentials::Peer)),
        ("Describe/info", there_and_back(describe(RowPart::Info))),
        ("Describe/request", there_and_back(describe(RowPart::Request))),
        ("Describe/response", there_and_back(describe(RowPart::Response))),
        ("RowInfo/endpoint", there_and_back(endpoint)),
        ("RowInfo/publishes", there_and_back(publishes)),
        ("RowInfo/hears", there_and_back(hears)),
        ("RowInfo/calls", there_and_back(RowInfo { kind: RowKind::Calls, ..endpoint })),
        ("RowInfo/sends", there_and_back(RowInfo { kind: RowKind::Sends, ..hears })),
        ("RowInfo/expects", there_and_back(RowInfo { kind: RowKind::Expects, ..publishes })),
        ("Subscribe/latest", there_and_back(subscribe("imu/*", SlowConsumer::Latest))),
        ("Subscribe/drop-oldest", there_and_back(subscribe("**", SlowConsumer::DropOldest(300)))),
        ("Subscribe/disconnect", there_and_back(subscribe("imu/sample", SlowConsumer::Disconnect))),
        ("Register", there_and_back(Register { component: "camera" })),
        ("Missed", there_and_back(Missed { pattern: "imu/*", count: 37 })),
        ("Announce", there_and_back(announce)),
        ("Cancel", there_and_back(Cancel { id: 300, source: "cli.1" })),
        ("Mismatch", there_and_back(Mismatch { address: "imu/light", text: "no" })),
        ("Revoked/subscription", there_and_back(revoked(Lasting::Subscription, "imu/*"))),
        ("Revoked/component", there_and_back(revoked(Lasting::Component, "camera"))),
    ]
}

/// The bytes of `value`, which reads back from them. They live as long as the test.
fn there_and_back<T: Serialize + Deserialize<'static> + PartialEq + Debug>(value: T) -> &'static [u8] {
    let bytes: &'static [u8] = postcard_of(&value).leak();
    assert_eq!(MessagePayload::Binary(bytes).parse::<T>(), Ok(value));
    bytes
}

fn errors() -> Vec<(String, ErrorKind)> {
    let kinds = (1..=8).filter_map(ErrorKind::from_code);
    kinds.map(|kind| (format!("Error/{}", kind.as_str()), kind)).collect()
}

fn serial_fault(bytes: &[u8]) -> String {
    let mut decoder = SerialDecoder::<1024>::new();
    decoder.push(bytes);
    assert_eq!(decoder.frame(), None);
    let faults = decoder.faults();
    let named = [("too_long", faults.too_long), ("cut_off", faults.cut_off), ("bad_crc", faults.bad_crc)];
    named.iter().filter(|(_, count)| *count == 1).map(|(name, _)| *name).collect()
}

fn spi_fault(bytes: &[u8]) -> String {
    match Status::decode(Side::Target, bytes) {
        Some(status) => format!("{:?}", status.frame(bytes).expect_err("a whole frame")),
        None => "no status".into(),
    }
}

fn length_fault(bytes: &[u8]) -> String {
    match length::split(bytes, 65_536) {
        Err(LengthError::FrameEmpty) => "FrameEmpty".into(),
        Err(LengthError::FrameTooLong { .. }) => "FrameTooLong".into(),
        other => format!("{other:?}"),
    }
}

/// The lines of the file by name.
type Golden = BTreeMap<&'static str, Line>;

/// One line of the file.
struct Line {
    bytes: Vec<u8>,
    meaning: &'static str,
}

fn golden() -> Golden {
    let mut golden = Golden::new();
    for line in include_str!("../golden/wire-v1.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split('|').map(str::trim);
        let (name, hex) = (fields.next().unwrap(), fields.next().unwrap());
        let line = Line { bytes: bytes_of(hex), meaning: fields.next().unwrap() };
        assert!(golden.insert(name, line).is_none(), "{name} stands twice");
    }
    golden
}

fn bytes_of(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2) && hex.is_ascii(), "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn frame_of(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; 1024];
    let len = encode(message, &mut out).unwrap();
    out[..len].to_vec()
}

fn postcard_of<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

/// A payload that lives as long as the test.
fn typed<T: Serialize>(value: &T) -> MessagePayload<'static> {
    binary(postcard_of(value).leak())
}

const fn binary(bytes: &'static [u8]) -> MessagePayload<'static> {
    MessagePayload::Binary(bytes)
}

fn leaf() -> Session {
    session(Role::Connecting, &IMU)
}

fn hub() -> Session {
    session(Role::Accepting, &HUB)
}

fn session(role: Role, identity: &Identity<'_>) -> Session {
    Session::new(SessionConfig {
        role,
        name: Name::try_from(identity.name).unwrap(),
        boot_id: identity.boot_id,
        max_frame: identity.max_frame,
        heartbeat_ms: identity.heartbeat_ms,
        rows: identity.rows,
        requires_authentication: true,
        lossy: true,
    })
}

/// Any grant: the token in the file is not one that could be checked.
fn grant() -> visorbus_core::auth::Grant {
    let mut ring = KeyRing::new();
    ring.add(Slot::root(1, Key::new([9; 32]))).unwrap();
    let (issuer, subject, audience) = ("bus", "imu", "bus");
    let scopes = Scopes::new(&[]);
    let claims = Claims { issuer, subject, audience, serial: 1, issued_at: 1, expiry: 9, epoch: 0, scopes };
    let mut token = [0; 256];
    let len = ring.mint(1, &claims, &mut token).unwrap();
    ring.check(&token[..len], &Context::new("bus", Some(5))).unwrap()
}

const IMU: Identity<'_> = Identity {
    min_version: 1,
    max_version: 1,
    name: "imu",
    boot_id: 7,
    max_frame: 256,
    heartbeat_ms: 1_000,
    capabilities: 1,
    rows: 4,
    unix_us: 0,
};
const HUB: Identity<'_> =
    Identity { name: "bus", boot_id: u64::MAX, max_frame: 65_536, rows: 0, unix_us: UNIX_US, ..IMU };
const PASSWORD: Credentials<'_> =
    Credentials::UsernamePassword { username: "alice", password: "open sesame" };
const UNIX_US: u64 = 1_790_000_000_000_000;
/// An hour, in microseconds.
const H: u64 = 3_600_000_000;
const TOKEN: &[u8] = b"\x01\x01token";
const SAMPLE: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];
