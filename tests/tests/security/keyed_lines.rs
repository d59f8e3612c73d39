//! Lines with a key, attacked by whoever reaches the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use visorbus_core::auth::Key;
use visorbus_core::bus::SlowConsumer;
use visorbus_core::secure::{LinkKey, Suite};
use visorbus_hub::info::{Fault, PeerInfo};
use visorbus_imu::device_key;
use visorbus_imu::messages::{SelfTest, SetRate};
use visorbus_mcu::BoardKeys;
use visorbus_tests::pty::Pty;

use crate::line::{AT_ONCE, Operator, TestHub, samples};
use crate::middle::{Middle, Way};
use crate::node::{Node, log, wait_for_log};

#[test]
fn a_board_with_the_key_is_served_whichever_suite_the_key_fixes() {
    for suite in [Suite::Tag64, Suite::Sealed] {
        let (hub, operator, middle, _node) = sensor(suite);
        assert_eq!(operator.info().boot_id, 1);
        assert_eq!(operator.call::<SetRate>(&200), 200);
        let stream = operator.client.subscribe("imu/sample", SlowConsumer::default()).unwrap();
        samples(&stream, 50);
        let imu = hub.peer("imu").unwrap();
        assert!(imu.authenticated, "{imu:?}");
        let faults = |name: &str| count(&hub, name);
        assert_eq!(
            (faults("handshakes"), faults("bad_tag"), faults("replayed"), faults("unkeyed")),
            (1, 0, 0, 0)
        );
        // What the sensor says of itself goes over the line in the clear, or does not.
        let line = middle.take_noted(Way::ToHub);
        let texts = [&b"bus/hello"[..], b"imu/sample", b"a thread"];
        let shown = texts.iter().any(|text| line.windows(text.len()).any(|bytes| bytes == *text));
        assert_eq!(shown, suite == Suite::Tag64, "{suite}");
    }
}

#[test]
fn everything_that_was_said_is_said_again_and_nothing_happens() {
    let (hub, operator, middle, _node) = sensor(Suite::Tag64);
    assert_eq!(operator.call::<SetRate>(&300), 300);
    let (to_hub, to_board) = (middle.take_noted(Way::ToHub), middle.take_noted(Way::ToBoard));
    assert_eq!(operator.call::<SetRate>(&100), 100);
    for _ in 0..5 {
        middle.inject(Way::ToBoard, &[&[0], to_board.as_slice(), &[0]].concat());
        middle.inject(Way::ToHub, &[&[0], to_hub.as_slice(), &[0]].concat());
        assert_eq!(operator.info().rate_hz, 100, "the call for 300 Hz was not heard again");
    }
    hub.wait_for_peer("imu", |imu| {
        imu.faults.iter().any(|fault| fault.name == "replayed" && fault.count > 10)
    });
    let imu = hub.peer("imu").unwrap();
    assert_eq!(imu.sessions, 1, "the session goes on: {imu:?}");
}

#[test]
fn a_recording_of_an_earlier_session_opens_none() {
    let (hub, operator, middle, node) = sensor(Suite::Sealed);
    operator.info();
    let recorded = middle.take_noted(Way::ToHub);
    drop(node);
    operator.wait("imu", false);
    let refused = |peer: &PeerInfo| -> u64 {
        let count = |fault: &Fault| ["bad_tag", "replayed"].contains(&&*fault.name).then_some(fault.count);
        peer.faults.iter().filter_map(count).sum()
    };
    for _ in 0..5 {
        middle.inject(Way::ToHub, &recorded);
    }
    let nobody = hub.wait_for_peer(&label(&hub), |peer| refused(peer) > 10);
    assert_eq!((nobody.sessions, nobody.authenticated), (1, false), "{nobody:?}");
    // Nor does it disturb the next one.
    let _node = Node::sensor_with(&middle.near, 2, device_key(), key(Suite::Sealed));
    operator.wait("imu", true);
    for _ in 0..5 {
        middle.inject(Way::ToHub, &[&[0], recorded.as_slice(), &[0]].concat());
        assert_eq!(operator.info().boot_id, 2);
    }
    let before = refused(&nobody);
    let imu = hub.wait_for_peer("imu", |peer| refused(peer) > before + 10);
    assert_eq!(imu.sessions, 2, "{imu:?}");
}

#[test]
fn what_one_end_said_is_not_taken_for_the_others() {
    let (hub, operator, middle, _node) = sensor(Suite::Tag64);
    operator.info();
    let (to_hub, to_board) = (middle.take_noted(Way::ToHub), middle.take_noted(Way::ToBoard));
    middle.inject(Way::ToBoard, &[&[0], to_hub.as_slice(), &[0]].concat());
    middle.inject(Way::ToHub, &[&[0], to_board.as_slice(), &[0]].concat());
    hub.wait_for_peer("imu", |imu| imu.faults.iter().any(|fault| fault.name == "bad_tag" && fault.count > 0));
    assert_eq!(operator.info().boot_id, 1);
    assert_eq!(hub.peer("imu").unwrap().sessions, 1);
}

#[test]
fn a_board_with_another_key_is_not_heard_and_the_log_says_why() {
    log();
    for (name, secret, text) in
        [("imu", 8, "has another link key than this hub"), ("radio", 7, "has another link key than this hub")]
    {
        let (hub, _operator, pty) = plugged("imu-line");
        attach(&hub, "imu-line", Suite::Tag64);
        let key = LinkKey::new(1, Suite::Tag64, name, Key::new([secret; 32])).unwrap();
        let _node = Node::sensor_with(&pty, 1, device_key(), key);
        wait_for_log(&format!("{}: what is there {text}", hub.line("imu-line").display()));
        assert!(hub.handle.peers().unwrap().iter().all(|peer| peer.sessions == 0 || peer.name == "operator"));
    }
}

#[test]
fn a_board_without_a_key_is_not_heard_on_a_line_with_one_and_the_log_says_what_to_do() {
    log();
    let (hub, _operator, pty) = plugged("bare-line");
    attach(&hub, "bare-line", Suite::Tag64);
    let _node = Node::sensor(&pty, 1, device_key());
    wait_for_log(&format!("{}: what is there speaks without a link key", hub.line("bare-line").display()));
    assert!(hub.peer("imu").is_none());
}

#[test]
fn a_board_with_a_key_does_not_speak_on_a_line_without_one() {
    let (hub, operator, pty) = plugged("imu-line");
    hub.attach("imu-line", ",unkeyed=imu");
    let node = Node::sensor_with(&pty, 1, device_key(), key(Suite::Tag64));
    // The hub asks who is there, and says what it does not understand.
    hub.wait_for_peer(&label(&hub), |peer| peer.undecodable > 0);
    assert!(!node.saw(visorbus_core::peer::Event::Opened), "it trusts no hub that does not know its key");
    drop(operator);
}

#[test]
fn the_hub_restarts_and_the_board_makes_a_new_channel() {
    let (mut hub, operator, _middle, _node) = sensor(Suite::Tag64);
    operator.info();
    drop(operator);
    hub.restart(|| {});
    let operator = hub.operator();
    attach(&hub, "imu-line", Suite::Tag64);
    operator.wait("imu", true);
    assert_eq!(operator.info().boot_id, 1);
}

#[test]
fn a_key_that_is_taken_away_ends_its_boards_session_at_once() {
    let (hub, operator, pty) = plugged("imu-line");
    let node = Node::sensor_with(&pty, 1, device_key(), key(Suite::Tag64));
    let held = attach(&hub, "imu-line", Suite::Tag64);
    operator.wait("imu", true);
    // From here on nobody answers, but the session is there.
    drop(node);
    let call = hub.pending_call::<SelfTest>(&hub.client("caller", &["*"]));
    held.is_retired.store(true, Ordering::SeqCst);
    let retired = Instant::now();
    assert_eq!(hub.handle.reload().unwrap().sessions, 1);
    let (error, after) = call.error(retired);
    assert!(error.text().contains("the key of its link is proven no longer"), "{error}");
    assert!(after < AT_ONCE, "{after:?}");
    operator.wait("imu", false);
    // The board tries again, and is refused.
    let _node = Node::sensor_with(&pty, 2, device_key(), key(Suite::Tag64));
    hub.wait_for_peer(&label(&hub), |line| {
        line.faults.iter().any(|fault| fault.name == "bad_key" && fault.count > 0)
    });
    held.is_retired.store(false, Ordering::SeqCst);
    operator.wait("imu", true);
}

#[test]
fn a_key_that_another_takes_the_place_of_under_its_id_ends_its_boards_session_too() {
    let (hub, operator, pty) = plugged("imu-line");
    let _node = Node::sensor_with(&pty, 1, device_key(), key(Suite::Tag64));
    let held = attach(&hub, "imu-line", Suite::Tag64);
    operator.wait("imu", true);
    assert_eq!(hub.handle.reload().unwrap().sessions, 0, "it is the same key");
    held.is_another.store(true, Ordering::SeqCst);
    assert_eq!(hub.handle.reload().unwrap().sessions, 1);
    operator.wait("imu", false);
}

/// A hub, an operator, and the sensor on a line with a key, with somebody in the middle.
fn sensor(suite: Suite) -> (TestHub, Operator, Middle, Node) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let middle = Middle::new();
    middle.far.plug(&hub.line("imu-line")).unwrap();
    let node = Node::sensor_with(&middle.near, 1, device_key(), key(suite));
    attach(&hub, "imu-line", suite);
    operator.wait("imu", true);
    (hub, operator, middle, node)
}

fn plugged(line: &str) -> (TestHub, Operator, Pty) {
    let hub = TestHub::start();
    let operator = hub.operator();
    let pty = Pty::open().unwrap();
    pty.plug(&hub.line(line)).unwrap();
    (hub, operator, pty)
}

fn attach(hub: &TestHub, line: &str, suite: Suite) -> Arc<Held> {
    let held =
        Arc::new(Held { suite, is_retired: AtomicBool::new(false), is_another: AtomicBool::new(false) });
    hub.attach_with(line, "", Arc::clone(&held) as Arc<dyn BoardKeys>);
    held
}

/// What the hub calls a line on which nobody is.
fn label(hub: &TestHub) -> String {
    format!("serial {}", hub.line("imu-line").display())
}

fn count(hub: &TestHub, name: &str) -> u64 {
    let imu = hub.peer("imu").unwrap();
    imu.faults.iter().find(|fault| fault.name == name).unwrap_or_else(|| panic!("no {name}")).count
}

fn key(suite: Suite) -> LinkKey {
    LinkKey::new(1, suite, "imu", Key::new([7; 32])).unwrap()
}

/// The keys of a hub that knows the sensor alone, until that key is taken away.
struct Held {
    suite: Suite,
    is_retired: AtomicBool,
    /// It was replaced by one with the same name and id.
    is_another: AtomicBool,
}

impl BoardKeys for Held {
    fn link_key(&self, name: &str, id: u8) -> Option<LinkKey> {
        let secret = if self.is_another.load(Ordering::SeqCst) { 8 } else { 7 };
        let held = LinkKey::new(1, self.suite, "imu", Key::new([secret; 32]));
        let held = held.filter(|_| !self.is_retired.load(Ordering::SeqCst));
        held.filter(|key| key.name() == name && key.id() == id)
    }
}
