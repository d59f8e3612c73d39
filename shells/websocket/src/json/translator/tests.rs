mod texts;

use serde_json::Value;
use visorbus_core::{IpcError, MessageFlags, MessagePriority};

use super::*;
use crate::protocol::{WebSocketMessage, WebSocketMessageType};
use texts::{BAD_MESSAGES, bad_others, good_texts};

fn translator() -> Translator {
    Translator::new(Arc::new(WebSocketProtocol::default()))
}

/// The one frame of a text.
fn frame_of(text: &str) -> std::result::Result<Vec<u8>, Refusal> {
    let mut frames = ReceiveBuffer::default();
    let outcome = translator().incoming(text, &mut frames);
    if let Err(refusal) = outcome {
        assert!(frames.as_slice().is_empty(), "a text that is refused leaves nothing: {text}");
        return Err(refusal);
    }
    match length::split(frames.as_slice(), 1 << 24) {
        Ok(length::Split::Frame { frame, consumed }) if consumed == frames.as_slice().len() => {
            Ok(frame.to_vec())
        }
        other => panic!("{text}: {other:?}"),
    }
}

fn text_of(message: &Message<'_>) -> String {
    let mut frame = vec![0; 512 + message.payload.as_bytes().len()];
    let len = codec::encode(message, &mut frame).unwrap();
    translator().outgoing(&frame[..len]).unwrap()
}

fn ipc(payload: &str) -> String {
    format!(r#"{{"message_type":"IPC","payload":{payload}}}"#)
}

fn auth(payload: &str) -> String {
    format!(r#"{{"message_type":"Auth","payload":{payload}}}"#)
}

/// Path and text of the fault in the reply, and the close code.
fn refusal_of(text: &str) -> (Value, Option<u16>) {
    let refusal = frame_of(text).expect_err(text);
    let reply: Value = serde_json::from_str(&refusal.reply.expect("a reply")).unwrap();
    assert_eq!(reply["message_type"], "Error");
    (reply["payload"].clone(), refusal.close)
}

/// A message with everything, as text.
const FULL: &str = concat!(
    r#"{"message_type":"IPC","payload":{"id":"300","message_type":"Request","source":"panel.1","#,
    r#""destination":"imu/set-rate","payload":{"Json":{"rate": 1e999, "a": [0.10, -0]}},"timestamp":1000000,"#,
    r#""uncertainty_us":700,"auth_token":"vb1.BwcH","flags":{"requires_response":false,"priority":"Critical","timeout_ms":500}}}"#,
);

#[test]
fn every_part_of_a_message_comes_into_the_frame_and_back_as_it_was() {
    let frame = frame_of(FULL).unwrap();
    let message = codec::decode(&frame).unwrap();
    let expected = Message {
        id: 300,
        message_type: MessageType::Request,
        source: Some(Address::literal("panel.1")),
        destination: Some(Address::literal("imu/set-rate")),
        payload: MessagePayload::Json(r#"{"rate": 1e999, "a": [0.10, -0]}"#),
        timestamp: Some(1_000_000),
        uncertainty_us: Some(700),
        auth_token: Some(&[7; 3]),
        flags: MessageFlags {
            requires_response: false,
            encrypted: false,
            compressed: false,
            priority: MessagePriority::Critical,
            timeout_ms: Some(500),
        },
    };
    assert_eq!(message, expected);
    assert_eq!(translator().outgoing(&frame).unwrap(), FULL);
}

#[test]
fn payloads_of_all_kinds_pass_and_keep_their_bytes() {
    let cases = [
        (r#""Empty""#, MessagePayload::Empty),
        (r#"{"String":"a\"b\u0000\ud83d\ude00"}"#, MessagePayload::String("a\"b\0😀")),
        (r#"{"Binary":"AAH/"}"#, MessagePayload::Binary(&[0, 1, 255])),
        (r#"{"Binary":""}"#, MessagePayload::Binary(&[])),
        (r#"{"Json":null}"#, MessagePayload::Json("null")),
        (r#"{"Json": [1, 2] }"#, MessagePayload::Json("[1, 2]")),
        (r#"{"Toml":"a = 1\n"}"#, MessagePayload::Toml("a = 1\n")),
    ];
    for (text, payload) in cases {
        let text =
            ipc(&format!(r#"{{"payload":{text},"destination":"imu/a","id":"1","message_type":"Request"}}"#));
        let frame = frame_of(&text).unwrap();
        assert_eq!(codec::decode(&frame).unwrap().payload, payload, "{text}");
        let again = frame_of(&translator().outgoing(&frame).unwrap()).unwrap();
        assert_eq!(again, frame, "{text}");
    }
}

#[test]
fn sealed_and_compressed_payloads_pass_as_they_are() {
    for flag in ["encrypted", "compressed"] {
        let text = ipc(&format!(
            r#"{{"id":"1","message_type":"Request","destination":"vault/put","payload":{{"Binary":"/wA="}},"flags":{{"{flag}":true}}}}"#
        ));
        assert_eq!(translator().outgoing(&frame_of(&text).unwrap()).unwrap(), text);
        let error = format!(
            r#"{{"message_type":"Error","payload":{{"id":"1","destination":"panel","payload":{{"Binary":"/wA="}},"flags":{{"{flag}":true}}}}}}"#
        );
        assert_eq!(translator().outgoing(&frame_of(&error).unwrap()).unwrap(), error);
    }
}

#[test]
fn a_notification_without_id_and_source_is_bare() {
    let frame = frame_of(&ipc(r#"{"message_type":"Notification","destination":"panel/x"}"#)).unwrap();
    assert!(codec::decode(&frame).unwrap().is_bare());
}

#[test]
fn errors_are_envelopes_of_their_own_in_both_directions() {
    let text = r#"{"message_type":"Error","payload":{"id":"9","destination":"cli.1","kind":"Authorization","text":"not \"yours\""}}"#;
    let frame = frame_of(text).unwrap();
    let message = codec::decode(&frame).unwrap();
    assert_eq!(message.message_type, MessageType::Error);
    assert_eq!(IpcError::from_payload(message.payload.as_bytes()), IpcError::Authorization("not \"yours\""));
    assert_eq!(translator().outgoing(&frame).unwrap(), text);
}

#[test]
fn the_hub_is_asked_in_json_also_without_a_payload_or_with_a_text() {
    let frame =
        frame_of(&ipc(r#"{"id":"1","message_type":"Request","destination":"bus/services"}"#)).unwrap();
    assert_eq!(codec::decode(&frame).unwrap().payload, MessagePayload::Json("null"));
    let schema = ipc(
        r#"{"id":"1","message_type":"Request","destination":"bus/schema","payload":{"String":"imu\/info"}}"#,
    );
    assert_eq!(
        codec::decode(&frame_of(&schema).unwrap()).unwrap().payload,
        MessagePayload::Json(r#""imu\/info""#)
    );
}

#[test]
fn hello_becomes_an_identity_and_the_answer_tells_of_the_protocol() {
    let frame = frame_of(&auth(
        r#"{"Hello":{"name":"panel","boot_id":"18446744073709551615","max_message_size":4096}}"#,
    ));
    let frame = frame.unwrap();
    let hello = codec::decode(&frame).unwrap();
    let identity: Identity<'_> = hello.payload.parse().unwrap();
    assert_eq!((hello.destination.unwrap().as_str(), identity.name), (bus::HELLO, "panel"));
    assert_eq!((identity.boot_id, identity.max_frame, identity.heartbeat_ms), (u64::MAX, 4096, 0));

    let answered = Identity { name: "bus", boot_id: 1 << 60, capabilities: 5, unix_us: 17, ..identity };
    let mut bytes = [0; 64];
    let payload = MessagePayload::Binary(postcard::to_slice(&answered, &mut bytes).unwrap());
    let answer =
        Message { source: hello.destination, ..hello.answer(MessageType::Response).with_payload(payload) };
    let text = text_of(&answer);
    let expected = concat!(
        r#"{"message_type":"Auth","payload":{"Hello":{"name":"bus","boot_id":"1152921504606846976","#,
        r#""requires_authentication":true,"unix_us":17,"protocol":{"version":"1","supported_message_types":["Request","Response","#,
        r#""Notification","Error","Heartbeat"],"supported_auth_methods":["Token","UsernamePassword","ApiKey"],"#,
        r#""max_message_size":1048576,"heartbeat_interval_ms":15000}}}}"#,
    );
    assert_eq!(text, expected);
}

#[test]
fn every_way_to_prove_oneself_becomes_what_the_hub_takes_and_its_answer_an_auth_message() {
    let cases = [
        (
            r#"{"UsernamePassword":{"password":"p\"w","username":"alice"}}"#,
            r#"{"username_password":{"username":"alice","password":"p\"w"}}"#,
        ),
        (r#"{"ApiKey":"vbk1.x"}"#, r#"{"api_key":"vbk1.x"}"#),
        (r#""Certificate""#, r#""certificate""#),
    ];
    for (credentials, json) in cases {
        let frame = frame_of(&auth(&format!(r#"{{"Authenticate":{credentials}}}"#))).unwrap();
        let request = codec::decode(&frame).unwrap();
        assert_eq!(request.destination.unwrap().as_str(), bus::AUTHENTICATE);
        assert_eq!(request.payload, MessagePayload::Json(json));
        let token = r#"{"value":"vb1.AA","expiration":1,"scope":["*"],"issuer":"bus"}"#;
        let answer = request.answer(MessageType::Response).with_payload(MessagePayload::Json(token));
        assert_eq!(text_of(&answer), auth(&format!(r#"{{"Authenticated":{{"token":{token}}}}}"#)));
    }
    let frame = frame_of(&auth(r#"{"Authenticate":{"Token":"vb1.AQID"}}"#)).unwrap();
    let request = codec::decode(&frame).unwrap();
    assert_eq!(request.payload, MessagePayload::Binary(&[0, 3, 1, 2, 3]));
    assert_eq!(text_of(&request.answer(MessageType::Response)), auth(r#"{"Authenticated":{"token":null}}"#));
}

#[test]
fn the_longest_token_passes() {
    let mut text = [0; visorbus_core::auth::MAX_TOKEN_TEXT];
    let text = visorbus_core::auth::encode_text(&[9; MAX_TOKEN], &mut text).unwrap();
    let frame = frame_of(&auth(&format!(r#"{{"Authenticate":{{"Token":"{text}"}}}}"#))).unwrap();
    let credentials: bus::Credentials<'_> = codec::decode(&frame).unwrap().payload.parse().unwrap();
    assert!(matches!(credentials, bus::Credentials::Token(token) if token == [9; MAX_TOKEN]));
    let message =
        format!(r#"{{"id":"1","message_type":"Request","destination":"imu/a","auth_token":"{text}"}}"#);
    assert_eq!(
        codec::decode(&frame_of(&ipc(&message)).unwrap()).unwrap().auth_token.unwrap(),
        [9; MAX_TOKEN]
    );
}

#[test]
fn tokens_are_renewed_and_taken_back() {
    let frame = frame_of(&auth(r#"{"Refresh":"vb1.AA"}"#)).unwrap();
    let request = codec::decode(&frame).unwrap();
    assert_eq!(
        (request.destination.unwrap().as_str(), request.payload),
        (bus::REFRESH, MessagePayload::Json("\"vb1.AA\""))
    );
    let answer =
        request.answer(MessageType::Response).with_payload(MessagePayload::Json(r#"{"value":"vb1.AB"}"#));
    assert_eq!(text_of(&answer), auth(r#"{"Refreshed":{"token":{"value":"vb1.AB"}}}"#));

    let frame = frame_of(&auth(r#"{"Revoke":"vb1.AA"}"#)).unwrap();
    let request = codec::decode(&frame).unwrap();
    assert_eq!(request.destination.unwrap().as_str(), bus::REVOKE);
    assert_eq!(request.payload, MessagePayload::Json(r#"{"token":"vb1.AA"}"#));
    assert_eq!(text_of(&request.answer(MessageType::Response)), auth(r#""Revoked""#));
}

#[test]
fn a_refusal_of_what_an_auth_message_asked_names_what_was_asked_and_no_id() {
    let frame = frame_of(&auth(r#"{"Authenticate":{"Token":"vb1.AQID"}}"#)).unwrap();
    let request = codec::decode(&frame).unwrap();
    let mut error = [0; 128];
    let len = codec::encode_error(&request, &IpcError::Authentication("no"), &mut error).unwrap();
    let expected = r#"{"message_type":"Error","payload":{"source":"bus/authenticate","kind":"Authentication","text":"no"}}"#;
    assert_eq!(translator().outgoing(&error[..len]).unwrap(), expected);
}

#[test]
fn a_heartbeat_wants_an_answer_and_gets_one_of_its_id() {
    let text = r#"{"message_type":"Heartbeat","payload":{"id":"5"}}"#;
    let frame = frame_of(text).unwrap();
    let beat = codec::decode(&frame).unwrap();
    assert!(beat.wants_answer());
    let mut echo = Message::heartbeat(beat.id);
    echo.timestamp = Some(6);
    assert_eq!(text_of(&echo), r#"{"message_type":"Heartbeat","payload":{"id":"5","timestamp":6}}"#);
    assert!(frame_of(r#"{"message_type":"Heartbeat","payload":{}}"#).is_ok());
}

#[test]
fn what_only_claims_to_be_json_cannot_leave_its_envelope() {
    for strange in [
        r#"1},"flags":{"encrypted":true"#,
        "",
        "{",
        "\u{feff}1",
        r#"{"a":1,"a":2}"#,
        "NaN",
        &"[".repeat(5000),
    ] {
        let mut message = Message::notification(3, Address::literal("imu/x"));
        message.payload = MessagePayload::Json(strange);
        let text = text_of(&message);
        let envelope: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope["payload"]["payload"]["InvalidJson"], strange);
        assert!(envelope["payload"].get("flags").is_none());
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_the_id_and_the_connection_goes_on() {
    for (payload, start, id) in BAD_MESSAGES {
        let (error, close) = refusal_of(&ipc(payload));
        assert!(error["text"].as_str().unwrap().starts_with(start), "{payload}: {error}");
        assert_eq!((error["kind"].as_str(), close), (Some("Protocol"), None), "{payload}");
        assert_eq!(error.get("id").and_then(Value::as_str), *id, "{payload}");
        // In whatever order the envelope is written.
        let turned = format!(r#"{{"payload":{payload},"message_type":"IPC"}}"#);
        assert!(refusal_of(&turned).0["text"].as_str().unwrap().starts_with(start), "{turned}");
    }
}

#[test]
fn what_is_wrong_with_hellos_credentials_and_errors_is_said_and_no_secret_with_it() {
    for (text, start) in bad_others() {
        let (error, close) = refusal_of(&text);
        assert!(error["text"].as_str().unwrap().starts_with(start), "{text}: {error}");
        assert_eq!(close, None, "{text}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_not_json_and_what_is_no_envelope_ends_the_connection() {
    let whole = r#"{"message_type":"Heartbeat","payload":{}}"#;
    let twice = format!("{whole}{whole}");
    let not_json = [
        "",
        " ",
        "hello",
        "{",
        r#"{"message_type":"Heartbeat","payload":{}"#,
        &twice,
        "\u{feff}{}",
        "{'a':1}",
        "NaN",
        "[1,]",
        r#"{"message_type":"IPC","payload":{"foo":1}} x"#,
        r#"{"message_type":"IPC","payload":{"id":NaN}}"#,
    ];
    for text in not_json {
        let (error, close) = refusal_of(text);
        assert_eq!(close, Some(1007), "{text}: {error}");
        assert!(error["text"].as_str().unwrap().starts_with("this is not JSON"), "{error}");
    }
    for text in [
        "1",
        "null",
        "[]",
        "\"x\"",
        "{}",
        r#"{"payload":{}}"#,
        r#"{"message_type":"Hello","payload":{}}"#,
        r#"{"message_type":1,"payload":{}}"#,
    ] {
        let (error, close) = refusal_of(text);
        assert_eq!(close, Some(1008), "{text}: {error}");
    }
}

#[test]
fn a_bomb_is_refused_at_its_surface() {
    let nested = |depth: usize| {
        let json = "[".repeat(depth) + &"]".repeat(depth);
        ipc(&format!(
            r#"{{"id":"7","message_type":"Request","destination":"a/b","payload":{{"Json":{json}}}}}"#
        ))
    };
    assert!(frame_of(&nested(61)).is_ok());
    let (error, close) = refusal_of(&nested(62));
    assert!(error["text"].as_str().unwrap().contains("more than 64 brackets"), "{error}");
    assert_eq!((error["id"].as_str(), close), (Some("7"), None));
    assert_eq!(refusal_of(&"[".repeat(1 << 20)).1, None);
    assert!(refusal_of(&"[".repeat(1 << 20)).0["text"].as_str().unwrap().len() < 4096);
    let digits = "9".repeat(400);
    let number =
        format!(r#"{{"id":"7","message_type":"Request","destination":"a/b","payload":{{"Json":{digits}}}}}"#);
    assert_eq!(
        codec::decode(&frame_of(&ipc(&number)).unwrap()).unwrap().payload,
        MessagePayload::Json(&digits)
    );
    let timestamp =
        format!(r#"{{"id":"7","message_type":"Request","destination":"a/b","timestamp":{digits}}}"#);
    assert!(frame_of(&ipc(&timestamp)).is_err());
    let key = format!(r#"{{"{}":1}}"#, "k".repeat(1 << 20));
    assert!(refusal_of(&ipc(&key)).0["text"].as_str().unwrap().len() < 400);
}

#[test]
fn no_change_to_a_good_text_panics_and_what_is_accepted_means_the_same_both_ways() {
    let (good, schema) = (good_texts(), Schema::new());
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for round in 0..40_000 {
        let mut text = good[round % good.len()].clone().into_bytes();
        for _ in 0..=random.below(3) {
            mutate(&mut text, &good, &mut random);
        }
        let Ok(text) = String::from_utf8(text) else { continue };
        let Ok(frame) = frame_of(&text) else { continue };
        accepted += 1;
        schema.check(&text);
        let message = codec::decode(&frame).expect("a frame of wire version 1");
        if text.contains("\"Auth\"") || (message.is_reply() && message.id > MAX_ID) {
            continue;
        }
        let back = translator().outgoing(&frame).unwrap();
        serde_json::from_str::<WebSocketMessage<'_>>(&back).unwrap();
        schema.check(&back);
        assert_eq!(frame_of(&back).as_ref(), Ok(&frame), "{text}\n{back}");
    }
    assert!(accepted > 500, "{accepted}");
}

#[test]
fn no_frame_of_any_bytes_panics_or_becomes_a_broken_text() {
    let mut random = Xorshift(77);
    let whole = frame_of(FULL).unwrap();
    for round in 0..20_000 {
        let mut frame = if round % 2 == 0 { whole.clone() } else { vec![0; 1 + random.below(40)] };
        for _ in 0..=random.below(4) {
            let at = random.below(frame.len());
            frame[at] = random.next() as u8;
        }
        let Ok(text) = translator().outgoing(&frame) else { continue };
        let envelope: WebSocketMessage<'_> = serde_json::from_str(&text).expect(&text);
        assert!(
            envelope.message_type != WebSocketMessageType::Auth || codec::decode(&frame).unwrap().is_reply()
        );
    }
}

#[test]
fn the_schemas_take_what_the_translator_takes_and_writes() {
    let schema = Schema::new();
    for text in good_texts() {
        frame_of(&text).expect(&text);
        schema.check(&text);
    }
    let token = r#"{"value":"vb1.AA","expiration":null,"scope":["request:imu/*"],"issuer":"bus"}"#;
    let identity = Identity {
        min_version: 1,
        max_version: 1,
        name: "bus",
        boot_id: u64::MAX,
        max_frame: 1 << 20,
        heartbeat_ms: 30_000,
        capabilities: 5,
        rows: 0,
        unix_us: 1_795_355_995_227_131,
    };
    let mut bytes = [0; 64];
    let identity = postcard::to_slice(&identity, &mut bytes).unwrap();
    let answers = [
        (Asked::Hello, MessagePayload::Binary(identity)),
        (Asked::Authenticate, MessagePayload::Empty),
        (Asked::Authenticate, MessagePayload::Json(token)),
        (Asked::Refresh, MessagePayload::Json(token)),
        (Asked::Revoke, MessagePayload::Empty),
    ];
    for (asked, payload) in answers {
        let request = Message::request(asked.id(3), asked.address());
        let text = text_of(&request.answer(MessageType::Response).with_payload(payload));
        assert!(text.contains(r#""message_type":"Auth""#), "{text}");
        schema.check(&text);
    }
    let mut error = [0; 64];
    let request = Message::request(Asked::Hello.id(3), Asked::Hello.address());
    let len = codec::encode_error(&request, &IpcError::Message("no"), &mut error).unwrap();
    schema.check(&translator().outgoing(&error[..len]).unwrap());
    let mut message = Message::notification(3, Address::literal("imu/x"));
    message.payload = MessagePayload::Json("broken");
    schema.check(&text_of(&message));
    for text in ["", "1", r#"{"message_type":"IPC","payload":{"id":"7"}}"#] {
        schema.check(&frame_of(text).unwrap_err().reply.unwrap());
    }
}

#[test]
fn the_examples_of_the_documentation_are_messages() {
    let schema = Schema::new();
    let page = include_str!("../../../../../docs/websocket.md");
    let mut examples = 0;
    for block in page.split("```json\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for message in serde_json::Deserializer::from_str(block).into_iter::<Value>() {
            schema.check(&message.unwrap().to_string());
            examples += 1;
        }
    }
    assert!(examples >= 17, "{examples}");
}

#[test]
fn the_schemas_refuse_what_the_translator_refuses_as_far_as_schemas_can_tell() {
    // Keys that come twice, halves of pairs, bounds of numbers in strings, forms of numbers, and who says what are not for schemas.
    const BLIND: [&str; 9] = [
        "there are Hello, Authenticate, Refresh, Revoke",
        "InvalidJson",
        "twice",
        "half of a",
        "whole number from 0 to 18446744073709551615",
        "ids of one's own",
        r#"up to \"18446744073709551615"#,
        "not base64",
        "one control character",
    ];
    let schema = Schema::new();
    let messages = BAD_MESSAGES.iter().map(|(payload, ..)| ipc(payload));
    let mut told = 0;
    for text in messages.chain(bad_others().into_iter().map(|(text, _)| text)) {
        let why = frame_of(&text).unwrap_err().reply.unwrap();
        if BLIND.iter().any(|blind| why.contains(blind)) {
            continue;
        }
        assert!(!schema.takes(&text), "{text}: {why}");
        told += 1;
    }
    assert!(told > 35, "{told}");
}

/// One change: a byte, a cut, something left out, said twice, or taken from another text.
fn mutate(text: &mut Vec<u8>, good: &[String], random: &mut Xorshift) {
    if text.is_empty() {
        return;
    }
    let at = random.below(text.len());
    let to = (at + random.below(24)).min(text.len());
    match random.below(7) {
        0 => text[at] = BYTES[random.below(BYTES.len())],
        1 => text.truncate(at),
        2 => _ = text.drain(at..to),
        3 => {
            let part = text[at..to].to_vec();
            text.splice(at..at, part);
        }
        4 => {
            let other = good[random.below(good.len())].as_bytes();
            let from = random.below(other.len());
            let part = other[from..(from + random.below(40)).min(other.len())].to_vec();
            text.splice(at..to, part);
        }
        5 => {
            const WORDS: [&str; 12] = [
                "null",
                "\\ud800",
                "1e999",
                "-0",
                "NaN",
                "\"id\":\"1\",",
                "{}",
                "\\u0000",
                "é",
                "\"Json\":[{\"a\":1}]",
                "18446744073709551615",
                "true",
            ];
            let word = WORDS[random.below(WORDS.len())].bytes();
            text.splice(at..at, word);
        }
        _ => {
            // What stays good: another digit, or white space where it may be.
            match text[at] {
                b'0'..=b'9' => text[at] = b'1' + random.below(9) as u8,
                b',' | b':' => text.insert(at, b' '),
                _ => {}
            }
        }
    }
}

const BYTES: &[u8] = b"\"\\{}[]:,.-0123456789eEuntf \n\x01aZ";

struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The schema of all text messages.
struct Schema(boon::Schemas, boon::SchemaIndex);

impl Schema {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        for (name, text) in crate::json::SCHEMAS {
            let url = format!("https://visorbus.invalid/v1/{name}.schema.json");
            let document: Value = serde_json::from_str(text).unwrap();
            assert_eq!(document["$id"], url);
            compiler.add_resource(&url, document).unwrap();
        }
        let index =
            compiler.compile("https://visorbus.invalid/v1/envelope.schema.json", &mut schemas).unwrap();
        Self(schemas, index)
    }

    fn takes(&self, text: &str) -> bool {
        self.0.validate(&serde_json::from_str(text).expect(text), self.1).is_ok()
    }

    fn check(&self, text: &str) {
        // Numbers that serde's own value does not hold are in a payload that may be anything.
        let Ok(value) = serde_json::from_str(text) else { return };
        if let Err(error) = self.0.validate(&value, self.1) {
            panic!("{text}: {error}");
        }
    }
}
