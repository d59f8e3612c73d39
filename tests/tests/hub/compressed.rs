//! Compressed payloads through the hub: passed on to those who expand them, expanded for all others, and no harm to
//! anybody by those that are none.

use visorbus_core::bus::{COMPRESSES, Identity, SlowConsumer};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::compress::{compress, expand};
use visorbus_hub::{Limits, OwnedMessage, OwnedPayload};
use visorbus_tests::raw_peer::{RawPeer, expect_error, identity};

use crate::harness::{Client, TestHub, request};

fn json() -> String {
    format!("[{}]", vec!["{\"hz\":200}"; 1000].join(","))
}

/// A peer that says that it expands what is compressed.
fn expanding(hub: &TestHub, name: &str) -> RawPeer {
    let mut peer = hub.attach();
    peer.hello_as(&Identity { capabilities: COMPRESSES, ..identity(name) }).expect("a hello is answered");
    peer.authenticate(&hub.token(name, &["*"])).expect("the token is good");
    peer
}

fn flagged<'m>(message: Message<'m>, payload: &'m [u8]) -> Message<'m> {
    let mut message = message.with_payload(MessagePayload::Binary(payload));
    message.flags.compressed = true;
    message
}

fn announced(len: u32, block: &[u8]) -> Vec<u8> {
    [OwnedPayload::postcard(&(2u8, len)).unwrap().borrow().as_bytes(), block].concat()
}

/// Payloads that say that they are compressed, and why they are refused.
fn bad_ones() -> Vec<(Vec<u8>, &'static str)> {
    let short = compress(MessagePayload::Json(&json())).unwrap();
    let block = &short[3..];
    vec![
        (announced(u32::MAX, &[0xff; 5000]), "4294967295 bytes, at most"),
        (announced(1 << 19, &[0xff; 500]), "which 500 bytes of LZ4 cannot"),
        (announced(json().len() as u32 - 1, block), "damaged"),
        (announced(json().len() as u32 + 1, block), "damaged"),
        (short[..short.len() - 3].to_vec(), "damaged"),
        (announced(64, &[0x1f, b'a', 9, 0, 40, 0x10, b'b']), "damaged"),
        (vec![], "damaged"),
    ]
}

#[test]
fn the_hub_says_that_it_expands() {
    let hub = TestHub::start();
    let answer = hub.attach().hello("peer").unwrap();
    let OwnedPayload::Binary(bytes) = answer.payload else { panic!("{answer:?}") };
    let said: Identity<'_> = MessagePayload::Binary(&bytes).parse().unwrap();
    assert_eq!(said.capabilities & COMPRESSES, COMPRESSES);
}

#[test]
fn it_passes_as_it_is_between_those_who_expand() {
    let hub = TestHub::start();
    let (mut asker, mut server) = (expanding(&hub, "asker"), expanding(&hub, "server"));
    let short = compress(MessagePayload::Json(&json())).unwrap();
    asker.send(&flagged(request(70, "server/put"), &short));
    let call = server.read_call();
    assert!(call.flags.compressed);
    assert_eq!(call.payload, OwnedPayload::Binary(short.clone()));
    let call = call.borrow().unwrap();
    server.send(&flagged(call.answer(MessageType::Response), &short));
    let answer = asker.answer_to(70).unwrap();
    assert_eq!((answer.flags.compressed, answer.payload), (true, OwnedPayload::Binary(short)));
}

#[test]
fn it_is_expanded_for_those_who_do_not() {
    let hub = TestHub::start();
    let (mut asker, mut server) = (hub.connect("asker", &["*"]), hub.connect("server", &["*"]));
    let short = compress(MessagePayload::Json(&json())).unwrap();
    let is_plain = |message: &OwnedMessage| {
        assert!(!message.flags.compressed);
        assert_eq!(message.payload, OwnedPayload::Json(json()));
    };
    asker.send(&flagged(request(70, "server/put"), &short));
    let call = server.read_call();
    is_plain(&call);
    server.send(&flagged(call.borrow().unwrap().answer(MessageType::Response), &short));
    is_plain(&asker.answer_to(70).unwrap());
    asker.send(&flagged(Message::notification(71, Address::literal("server/hint")), &short));
    is_plain(&server.read_topic("server/hint"));
}

#[test]
fn a_handler_of_the_hubs_sees_it_expanded() {
    let hub = TestHub::start();
    let mut asker = hub.connect("asker", &["*"]);
    let short = compress(MessagePayload::Json(&json())).unwrap();
    asker.send(&flagged(request(70, "echo/x"), &short));
    assert_eq!(asker.answer_to(70).unwrap().payload, OwnedPayload::Json(json()));
}

#[test]
fn of_the_subscribers_each_gets_what_it_can_read() {
    let hub = TestHub::start();
    let (mut new, mut old) = (expanding(&hub, "new"), hub.connect("old", &["*"]));
    new.subscribe("news/*", SlowConsumer::default()).unwrap();
    old.subscribe("news/*", SlowConsumer::default()).unwrap();
    let mut publisher = hub.connect("publisher", &["*"]);
    let short = compress(MessagePayload::Json(&json())).unwrap();
    publisher.send(&flagged(Message::notification(5, Address::literal("news/x")), &short));
    assert_eq!(old.read_topic("news/x").payload, OwnedPayload::Json(json()));
    let passed = new.read_topic("news/x");
    assert!(passed.flags.compressed);
    assert_eq!(expand(passed.payload.borrow(), 1 << 20).unwrap(), OwnedPayload::Json(json()));
}

#[test]
fn what_cannot_be_expanded_is_refused_and_nobody_else_notices() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut old = hub.connect("old", &["*"]);
    old.subscribe("news/*", SlowConsumer::default()).unwrap();
    let mut sender = expanding(&hub, "sender");
    for (number, (bytes, why)) in bad_ones().iter().enumerate() {
        let id = 70 + 10 * number as u64;
        for (id, to) in [(id, "echo/x"), (id + 1, "old/put"), (id + 2, "bus/subscribe")] {
            sender.send(&flagged(request(id, to), bytes));
            expect_error(sender.answer_to(id), ErrorKind::Message, why);
        }
        let mut told = flagged(Message::notification(id + 3, Address::literal("news/x")), bytes);
        told.flags.requires_response = true;
        sender.send(&told);
        expect_error(sender.answer_to(id + 3), ErrorKind::Message, why);
    }
    sender.notify("old/done", MessagePayload::Empty);
    let missed = bad_ones().len() as u64;
    assert_eq!(hub.peer("old").missed, missed);
    assert_eq!(old.read_where(|message| message.destination != "bus/missed").destination, "old/done");
    innocent.is_served_alone(&hub);
}

#[test]
fn a_bad_answer_fails_its_call_and_nobody_else() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (mut asker, mut server) = (hub.connect("asker", &["*"]), expanding(&hub, "server"));
    for (number, (bytes, why)) in bad_ones().iter().enumerate() {
        let id = 70 + number as u64;
        asker.send(&request(id, "server/x"));
        let call = server.read_call();
        server.send(&flagged(call.borrow().unwrap().answer(MessageType::Response), bytes));
        expect_error(asker.answer_to(id), ErrorKind::Message, why);
    }
    innocent.is_served_alone(&hub);
}

#[test]
fn nothing_is_expanded_beyond_what_the_hub_or_the_peer_takes() {
    let hub = TestHub::with_limits(Limits { max_frame: 64 << 10, ..Limits::default() });
    let mut small = hub.attach();
    small.hello_as(&Identity { max_frame: 1_000, ..identity("small") }).unwrap();
    small.authenticate(&hub.token("small", &["*"])).unwrap();
    let mut sender = expanding(&hub, "sender");
    let bytes = vec![7; 65 << 10];
    let short = compress(MessagePayload::Binary(&bytes)).unwrap();
    sender.send(&flagged(request(70, "echo/x"), &short));
    expect_error(sender.answer_to(70), ErrorKind::Message, "66560 bytes, at most 65536");
    assert_eq!(hub.echoed(), 0);
    let short = compress(MessagePayload::Binary(&bytes[..2_000])).unwrap();
    sender.send(&flagged(request(71, "small/x"), &short));
    expect_error(sender.answer_to(71), ErrorKind::Message, "2000 bytes, at most 1000");
}

#[test]
fn what_is_encrypted_the_hub_neither_opens_nor_expands() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let (mut sender, mut server) = (expanding(&hub, "sender"), hub.connect("server", &["*"]));
    let mut sealed = request(70, "echo/x").with_payload(MessagePayload::Binary(b"who knows"));
    sealed.flags.encrypted = true;
    sender.send(&sealed);
    expect_error(sender.answer_to(70), ErrorKind::Message, "cannot open an encrypted payload");
    let mut both = flagged(request(71, "server/x"), b"who knows");
    both.flags.encrypted = true;
    sender.send(&both);
    expect_error(sender.answer_to(71), ErrorKind::Message, "the hub cannot expand what is encrypted");
    let sealed = Message { id: 72, destination: Some(Address::literal("server/x")), ..sealed };
    sender.send(&sealed);
    let call = server.read_call();
    assert_eq!((call.id, call.flags.encrypted), (72, true));
    assert_eq!(call.payload, OwnedPayload::Binary(b"who knows".to_vec()));
    // Its answer is not touched either, whatever it looks like.
    let mut answer = call.borrow().unwrap().answer(MessageType::Error);
    answer.payload = MessagePayload::Binary(&[7, 8]);
    answer.flags.encrypted = true;
    server.send(&answer);
    let answer = sender.read_where(|message| message.id == 72);
    assert_eq!(answer.payload, OwnedPayload::Binary(vec![7, 8]));
    innocent.is_served_alone(&hub);
}
