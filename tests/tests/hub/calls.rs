//! Requests from peer to peer: their answers, their ends, their limits.

use std::collections::HashSet;
use std::time::Instant;

use visorbus_core::bus::{Cancel, Identity};
use visorbus_core::error::ErrorKind;
use visorbus_core::message::{Address, Message, MessagePayload, MessageType};
use visorbus_hub::{Limits, OwnedMessage, OwnedPayload};
use visorbus_tests::raw_peer::{expect_error, identity};

use crate::harness::{Client, TestHub, request, text, wire};

#[test]
fn a_request_reaches_its_component_and_the_answer_its_caller() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["request:server/*"]);
    let id = caller.send_request("server/add", MessagePayload::Json("[1,2]"));
    let call = server.read_call();
    assert_eq!((call.source.as_str(), call.destination.as_str()), ("caller", "server/add"));
    assert_eq!(call.payload.borrow(), MessagePayload::Json("[1,2]"));
    server.answer(&call, "3");
    let answer = caller.answer_to(id).unwrap();
    assert_eq!(
        (answer.source.as_str(), answer.destination.as_str(), text(&answer)),
        ("server", "caller", "3")
    );
}

#[test]
fn the_same_id_of_two_callers_are_two_requests() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut callers: Vec<_> = ["one", "two"].map(|name| hub.connect(name, &["*"])).into();
    for caller in &mut callers {
        caller.send(&request(77, "server/x"));
    }
    for _ in 0..2 {
        let call = server.read_call();
        server.answer(&call, &call.source);
    }
    for (caller, name) in callers.iter_mut().zip(["one", "two"]) {
        assert_eq!(text(&caller.answer_to(77).unwrap()), name);
    }
}

#[test]
fn a_request_to_nobody_is_told_so() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.connect("lost", &["*"]);
    for address in ["nobody", "nobody/x", "ech/o", "echo2/ping"] {
        let outcome = peer.request(address, MessagePayload::Empty);
        expect_error(outcome, ErrorKind::Message, "nobody serves");
    }
    let unknown = peer.request("bus/nothing", MessagePayload::Empty);
    expect_error(unknown, ErrorKind::Message, "the hub has no 'bus/nothing'");
    assert_eq!(hub.peer("lost").refused, 5);
    innocent.is_served_alone(&hub);
}

#[test]
fn a_peer_whose_table_is_not_known_yet_is_not_called() {
    let hub = TestHub::start();
    let mut leaf = hub.attach();
    leaf.hello_as(&Identity { rows: 1, ..identity("leaf") }).unwrap();
    leaf.authenticate(&hub.token("leaf", &[])).unwrap();
    let asked = leaf.read_call();
    assert_eq!(asked.destination, "bus/describe");
    let mut caller = hub.connect("caller", &["*"]);
    let early = caller.request("leaf/x", MessagePayload::Empty);
    expect_error(early, ErrorKind::Connection, "only just connected");
    assert!(leaf.read_so_far().is_empty());
}

#[test]
fn an_id_that_still_waits_is_refused_and_the_first_request_is_answered_all_the_same() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    caller.send(&request(50, "server/x"));
    caller.send(&request(50, "server/y"));
    expect_error(caller.answer_to(50), ErrorKind::Protocol, "the id 50 is in use");
    let call = server.read_call();
    assert_eq!(call.destination, "server/x");
    server.answer(&call, "x");
    assert_eq!(text(&caller.answer_to(50).unwrap()), "x");
    assert!(server.read_so_far().is_empty());
    caller.send(&request(50, "server/z"));
    let call = server.read_call();
    server.answer(&call, "z");
    assert_eq!(text(&caller.answer_to(50).unwrap()), "z", "an id is free once it was answered");
}

#[test]
fn only_the_peer_that_was_asked_can_answer_and_only_once_and_in_time() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut stranger = hub.connect("stranger", &["*"]);
    let mut caller = hub.connect("caller", &["*"]);
    caller.send(&request(50, "server/x"));
    let call = server.read_call();
    stranger.answer(&call, "forged");
    assert!(stranger.read_so_far().is_empty());
    assert_eq!(hub.peer("stranger").late, 1);
    assert!(caller.read_so_far().is_empty());
    server.answer(&call, "true");
    server.answer(&call, "twice");
    assert!(server.read_so_far().is_empty());
    assert_eq!(hub.peer("server").late, 1);
    assert_eq!(text(&caller.answer_to(50).unwrap()), "true");
    assert!(caller.read_so_far().is_empty());

    let mut hasty = request(51, "server/x");
    hasty.flags.timeout_ms = Some(30);
    caller.send(&hasty);
    let call = server.read_call();
    expect_error(caller.answer_to(51), ErrorKind::Timeout, "'server/x' did not answer in time");
    assert_cancelled(&server.read_so_far(), &[(51, "caller")]);
    server.answer(&call, "late");
    assert!(server.read_so_far().is_empty() && caller.read_so_far().is_empty());
    assert_eq!(hub.peer("server").late, 2);
}

#[test]
fn an_error_by_number_reaches_the_caller_as_a_sentence_and_a_forgotten_session_as_a_restart() {
    let hub = TestHub::start();
    let mut leaf = hub.connect("leaf", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    let mut answered = |payload: &[u8]| {
        caller.send_request("leaf/x", MessagePayload::Empty);
        let call = leaf.read_call();
        let head = call.borrow().unwrap().answer(MessageType::Error);
        leaf.send(&head.with_payload(MessagePayload::Binary(payload)));
        caller.read().payload.borrow().as_bytes().to_vec()
    };
    assert_eq!(answered(&[4, 1]), b"\x04nobody serves this address");
    assert_eq!(answered(&[7, 8]), b"\x03'leaf' has restarted: 'leaf/x' was not answered");
    assert_eq!(answered(b"\x04its own text"), b"\x04its own text");
    assert_eq!(answered(&[4, 31]), [4, 31], "a number that nobody knows");
}

#[test]
fn an_answer_is_the_callers_also_under_an_id_of_the_hubs_own_questions() {
    let hub = TestHub::start();
    let mut leaf = hub.attach();
    leaf.hello_as(&Identity { rows: 1, ..identity("leaf") }).unwrap();
    leaf.authenticate(&hub.token("leaf", &[])).unwrap();
    let question = leaf.read_call();
    // The row, then the hub asks for its schemas while the leaf can be called already.
    let info = visorbus_core::bus::RowInfo {
        kind: visorbus_core::bus::RowKind::Endpoint,
        address: "leaf/x",
        access: visorbus_core::auth::Access::Permission,
        request_hash: 1,
        response_hash: 2,
    };
    let row = visorbus_hub::OwnedPayload::postcard(&info).unwrap();
    let head = question.borrow().unwrap().answer(MessageType::Response);
    leaf.send(&head.with_payload(row.borrow()));
    let question = leaf.read_call();
    assert_eq!(question.destination, "bus/describe");
    let mut caller = hub.connect("caller", &["*"]);
    for id in [question.id, 0] {
        caller.send(&request(id, "leaf/x"));
        let call = leaf.read_call();
        assert_eq!(call.id, id);
        leaf.answer(&call, "mine");
        assert_eq!(text(&caller.answer_to(id).unwrap()), "mine");
    }
}

#[test]
fn when_the_callee_dies_its_callers_are_told_at_once() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut callers: Vec<_> = (0..5).map(|n| hub.connect(&format!("caller{n}"), &["*"])).collect();
    for caller in &mut callers {
        for id in [50, 51] {
            let mut patient = request(id, "server/x");
            patient.flags.timeout_ms = Some(600_000);
            caller.send(&patient);
            server.read_call();
        }
    }
    drop(server);
    for caller in &mut callers {
        for id in [50, 51] {
            expect_error(caller.answer_to(id), ErrorKind::Connection, "server is gone");
        }
        expect_error(caller.request("server/x", MessagePayload::Empty), ErrorKind::Message, "nobody serves");
    }
}

#[test]
fn when_the_caller_dies_the_answer_goes_nowhere_and_nothing_is_left() {
    let hub = TestHub::start();
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    caller.send(&request(50, "server/x"));
    let call = server.read_call();
    drop(caller);
    hub.wait_until(|peers| peers.len() == 1);
    let mut caller = hub.connect("caller", &["*"]);
    server.answer(&call, "for the dead");
    assert_cancelled(&server.read_so_far(), &[(50, "caller")]);
    assert!(caller.read_so_far().is_empty(), "its namesake did not ask");
    assert_eq!(hub.peer("server").late, 1);
}

#[test]
fn the_time_that_a_request_names_is_the_longest_that_it_waits_and_travels_with_it() {
    let limits = Limits { request_ms: 80, max_request_ms: 120, ..Limits::default() };
    let hub = TestHub::with_limits(limits);
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    for (asked, granted) in [(Some(40), 40), (None, 80), (Some(3_600_000), 120), (Some(u32::MAX), 120)] {
        let id = caller.take_id();
        let mut call = request(id, "server/x");
        call.flags.timeout_ms = asked;
        let begin = Instant::now();
        caller.send(&call);
        assert!(server.read_call().flags.timeout_ms.unwrap() <= granted);
        expect_error(caller.answer_to(id), ErrorKind::Timeout, "did not answer in time");
        assert!(begin.elapsed().as_millis() >= u128::from(granted));
    }
    let mut none = request(99, "server/x");
    none.flags.timeout_ms = Some(0);
    caller.send(&none);
    expect_error(caller.answer_to(99), ErrorKind::Timeout, "did not answer in time");
}

#[test]
fn a_message_longer_than_its_destination_takes_is_refused_with_both_numbers() {
    let hub = TestHub::start();
    let mut small = hub.attach();
    small.hello_as(&Identity { max_frame: 256, ..identity("small") }).unwrap();
    small.authenticate(&hub.token("small", &["*"])).unwrap();
    let mut caller = hub.connect("caller", &["*"]);
    let text = "x".repeat(300);
    let long = MessagePayload::String(&text);
    expect_error(caller.request("small/x", long), ErrorKind::Message, "'small' takes at most 256");
    caller.notify("small/x", long);
    assert!(caller.read_so_far().is_empty() && small.read_so_far().is_empty());
    assert_eq!(hub.peer("caller").refused, 2);
    let id = small.send_request("caller/x", MessagePayload::Empty);
    let call = caller.read_call();
    caller.answer(&call, &text);
    expect_error(small.answer_to(id), ErrorKind::Message, "frames of at most 256");
    assert!(small.request("echo/ping", MessagePayload::Empty).is_ok(), "its session goes on");
}

#[test]
fn an_answer_of_the_hubs_own_that_is_too_long_for_the_asker_is_an_error_and_not_its_end() {
    let hub = TestHub::start();
    let _others: Vec<_> = (0..20).map(|n| hub.connect(&format!("another-peer-{n}"), &[])).collect();
    let mut small = hub.attach();
    small.hello_as(&Identity { max_frame: 128, ..identity("small") }).unwrap();
    small.authenticate(&hub.token("small", &["*"])).unwrap();
    let peers = small.request(visorbus_core::bus::PEERS, MessagePayload::Empty);
    expect_error(peers, ErrorKind::Message, "frames of at most 128");
    assert!(small.request("echo/ping", MessagePayload::Empty).is_ok());
}

#[test]
fn a_peer_that_takes_no_frame_at_all_is_let_go() {
    let hub = TestHub::start();
    let mut innocent = hub.bystander();
    let mut peer = hub.attach();
    let hello = visorbus_hub::OwnedPayload::postcard(&Identity { max_frame: 0, ..identity("null") }).unwrap();
    peer.send_request(visorbus_core::bus::HELLO, hello.borrow());
    peer.read_to_end();
    innocent.is_served_alone(&hub);
}

#[test]
fn more_requests_than_the_limit_are_refused_until_some_are_answered() {
    let hub = TestHub::with_limits(Limits { pending_calls: 10, ..Limits::default() });
    let mut innocent = hub.bystander();
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    for id in 100..120 {
        caller.send(&request(id, "server/x"));
    }
    for id in 110..120 {
        expect_error(caller.answer_to(id), ErrorKind::Message, "10 requests of this session wait");
    }
    let calls: Vec<_> = (0..10).map(|_| server.read_call()).collect();
    assert!(server.read_so_far().is_empty());
    innocent.is_served_alone(&hub);
    for call in &calls {
        server.answer(call, "ok");
    }
    for id in 100..110 {
        assert!(caller.answer_to(id).is_ok());
    }
    caller.send(&request(130, "server/x"));
    let call = server.read_call();
    server.answer(&call, "ok");
    assert!(caller.answer_to(130).is_ok());
}

#[test]
fn a_request_that_wants_no_answer_is_brought_and_not_waited_for() {
    let hub = TestHub::with_limits(Limits { pending_calls: 1, ..Limits::default() });
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    for id in 50..60 {
        let mut call = request(id, "server/x");
        call.flags.requires_response = false;
        caller.send(&call);
        assert_eq!(server.read_call().id, id);
    }
    caller.send(&Message { flags: visorbus_core::MessageFlags::NONE, ..request(61, "nobody/x") });
    assert!(caller.read_so_far().is_empty());
}

/// The callee takes nothing: its queue fills, its callers are told, and nobody else waits.
#[test]
fn requests_to_a_peer_that_never_reads_end_in_errors_that_say_so() {
    let queue_bytes = 256 << 10;
    let hub = TestHub::with_limits(Limits { queue_bytes, ..Limits::default() });
    let mut innocent = hub.bystander();
    let mut deaf = hub.connect("deaf", &["*"]);
    let mut caller = hub.connect("caller", &["*"]);
    let text = "x".repeat(8_000);
    for id in 1_000..1_200 {
        let mut call = request(id, "deaf/x").with_payload(MessagePayload::String(&text));
        // None is over before the last is sent, however busy the machine is.
        call.flags.timeout_ms = Some(600_000);
        caller.send(&call);
    }
    let refusals = caller.read_so_far();
    for refusal in &refusals {
        expect_error(refusal.error().map_or(Ok(()), Err), ErrorKind::Message, "'deaf' does not keep up");
    }
    let refused = refusals.len();
    assert!(refused > 50, "{refused}");
    assert!(hub.peer("deaf").queued_bytes <= queue_bytes as u64);
    innocent.is_served_alone(&hub);
    for id in (1_000..1_200).filter(|id| refusals.iter().all(|refusal| refusal.id != *id)) {
        let cancel = OwnedPayload::postcard(&Cancel { id, source: "" }).unwrap();
        caller.notify("bus/cancel", cancel.borrow());
    }
    assert!(caller.read_so_far().is_empty());
    let queued = hub.peer("deaf").queued_bytes;
    assert!(queued < 8_000, "{queued}: what waited in the hub is not sent, nobody waits for it");
    // What had left it before that arrives when it reads again, in order and once, and then that it is in vain.
    let arrived = deaf.read_so_far();
    let requests = arrived.iter().filter(|message| message.message_type == MessageType::Request);
    let ids: Vec<u64> = requests.map(|call| call.id).collect();
    assert!(ids.is_sorted() && ids.len() == ids.iter().collect::<HashSet<_>>().len());
    assert!(ids.len() < 200 - refused, "{} and {refused}", ids.len());
    let cancelled = cancelled(&arrived[ids.len()..]);
    assert!(!cancelled.is_empty() && cancelled.is_sorted());
    assert!(cancelled.iter().all(|(id, source)| ids.contains(id) && source == "caller"), "{cancelled:?}");
    assert!(deaf.request("echo/ping", MessagePayload::Empty).is_ok());
}

#[test]
fn a_peer_that_never_reads_its_answers_is_let_go_before_they_fill_the_memory() {
    let queue_bytes = 256 << 10;
    let hub = TestHub::with_limits(Limits { queue_bytes, ..Limits::default() });
    let mut innocent = hub.bystander();
    let mut deaf = hub.connect("deaf", &["*"]);
    let text = "x".repeat(4_000);
    let calls: Vec<u8> = (100..200)
        .flat_map(|id| wire(&request(id, "echo/ping").with_payload(MessagePayload::String(&text))))
        .collect();
    let mut most = 0;
    while deaf.try_write_bytes(&calls) {
        let peers = hub.handle.peers().unwrap();
        let queued = peers.iter().find(|peer| peer.name == "deaf").map_or(0, |peer| peer.queued_bytes);
        most = most.max(queued);
        innocent.is_served();
    }
    assert!(most <= queue_bytes as u64, "{most}");
    hub.wait_until(|peers| peers.len() == 1);
    innocent.is_served();
    // Every answer up to the last is there, in order: none was left out silently.
    let messages = deaf.read_to_end();
    let answers = messages.iter().filter(|message| message.message_type == MessageType::Response);
    assert!(answers.zip((100..200).cycle()).all(|(answer, id)| answer.id == id));
}

#[test]
fn a_burst_of_questions_with_long_answers_is_no_offence() {
    let hub = TestHub::with_limits(Limits { queue_bytes: 64 << 10, ..Limits::default() });
    let _others: Vec<_> =
        (0..40).map(|n| hub.connect(&format!("another-peer-with-a-name-{n}"), &[])).collect();
    let mut peer = hub.connect("curious", &["*"]);
    let questions: Vec<u8> = (0..50).flat_map(|n| wire(&request(1_000 + n, "bus/peers"))).collect();
    peer.write_bytes(&questions);
    for id in 1_000..1_050 {
        assert!(peer.answer_to(id).is_ok());
    }
}

#[test]
fn a_peer_that_reads_again_in_time_is_told_why_it_has_to_go() {
    let queue_bytes = 64 << 10;
    let hub = TestHub::with_limits(Limits { queue_bytes, ..Limits::default() });
    let mut deaf = hub.connect("deaf", &["*"]);
    let text = "x".repeat(4_000);
    let call = wire(&request(100, "echo/ping").with_payload(MessagePayload::String(&text)));
    crate::harness::flood(&hub, &mut deaf, "deaf", &call.repeat(1_000));
    let messages = deaf.read_to_end();
    let goodbye = messages.last().expect("a goodbye");
    assert_eq!(goodbye.destination, visorbus_core::bus::GOODBYE);
    assert!(crate::harness::text(goodbye).contains("it does not read its answers"), "{goodbye:?}");
}

#[test]
fn a_request_that_its_caller_takes_back_is_over_for_everybody() {
    let hub = TestHub::with_limits(Limits { pending_calls: 1, ..Limits::default() });
    let mut server = hub.connect("server", &[]);
    let mut caller = hub.connect("caller", &["*"]);
    let mut stranger = hub.connect("stranger", &["*"]);
    caller.send(&request(50, "server/x"));
    let call = server.read_call();
    let cancel = OwnedPayload::postcard(&Cancel { id: 50, source: "" }).unwrap();
    stranger.notify("bus/cancel", cancel.borrow());
    assert!(stranger.read_so_far().is_empty() && server.read_so_far().is_empty(), "it is not his");
    caller.notify("bus/cancel", cancel.borrow());
    // Its place is free, its id too, and its answer goes nowhere.
    caller.send(&request(50, "server/x"));
    let again = server.read_call();
    assert_cancelled(&server.read_so_far(), &[(50, "caller")]);
    server.answer(&again, "second");
    assert_eq!(text(&caller.answer_to(50).unwrap()), "second");
    server.answer(&call, "first");
    assert!(server.read_so_far().is_empty() && caller.read_so_far().is_empty());
    let mut wanted = Message::notification(60, Address::literal("bus/cancel"));
    wanted.flags.requires_response = true;
    caller.send(&wanted.with_payload(cancel.borrow()));
    assert!(caller.answer_to(60).is_ok(), "one that is over already is no offence");
    let nonsense = wanted.with_payload(MessagePayload::Binary(&[0xff]));
    caller.send(&Message { id: 61, ..nonsense });
    assert_eq!(caller.answer_to(61).unwrap_err().kind(), ErrorKind::Serialization);
}

#[test]
fn a_request_that_waited_in_the_hub_says_how_much_time_is_left() {
    let hub = TestHub::start();
    let mut deaf = hub.connect("deaf", &["*"]);
    let mut caller = hub.connect("caller", &["*"]);
    let text = "x".repeat(64_000);
    for id in 1_000..1_020 {
        let mut call = request(id, "deaf/x").with_payload(MessagePayload::String(&text));
        call.flags.timeout_ms = Some(600_000);
        caller.send(&call);
    }
    hub.wait_until(|peers| peers.iter().any(|peer| peer.name == "deaf" && peer.queued_bytes > 0));
    let mut last = request(1_020, "deaf/x");
    last.flags.timeout_ms = Some(600_000);
    caller.send(&last);
    // Time passes for the hub: another request's whole deadline.
    let mut hasty = request(1_021, "deaf/x");
    hasty.flags.timeout_ms = Some(30);
    caller.send(&hasty);
    expect_error(caller.answer_to(1_021), ErrorKind::Timeout, "did not answer in time");
    let left: Vec<(u64, u32)> =
        (0..21).map(|_| deaf.read_call()).map(|call| (call.id, call.flags.timeout_ms.unwrap())).collect();
    assert!(left.iter().map(|(id, _)| *id).eq(1_000..1_021), "{left:?}");
    assert!(left[20].1 <= 600_000 - 30, "{left:?}");
    assert_eq!(left[0].1, 600_000, "the first left at once");
    assert!(deaf.read_so_far().is_empty(), "the hasty one was never sent, so it needs no taking back");
}

/// These are the requests that were given up, and nothing else.
#[track_caller]
fn assert_cancelled(messages: &[OwnedMessage], calls: &[(u64, &str)]) {
    let cancelled = cancelled(messages);
    assert!(cancelled.iter().map(|(id, source)| (*id, &**source)).eq(calls.iter().copied()), "{cancelled:?}");
}

/// The requests that these messages, and there must be no others, say were given up.
#[track_caller]
fn cancelled(messages: &[OwnedMessage]) -> Vec<(u64, String)> {
    messages
        .iter()
        .map(|message| {
            assert_eq!(
                (message.message_type, &*message.destination),
                (MessageType::Notification, "bus/cancel")
            );
            let cancel: Cancel<'_> = message.payload.borrow().parse().unwrap();
            (cancel.id, cancel.source.to_owned())
        })
        .collect()
}
